//! Where the host's futures run: a small pool of threads, and the seam behind which any other
//! executor may stand.
//!
//! Invariants:
//!   * A future is polled by one thread at a time, and again after each wake, however many come.
//!   * A wake while the future runs is not lost: it goes back into the queue.
//!   * A future that panics is dropped; the thread goes on.
//!   * Nobody's code runs under a lock of a lane or of the sleepers; a lane's is taken alone or
//!     under theirs.
//!   * A thread sleeps only after it has found all lanes empty while it was counted as a sleeper:
//!     whoever puts a task into one after that sees the count.

use crate::actor::core::thread_share;
use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A future that the host hands to an executor.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor: the one thing that a host needs of its surroundings.
///
/// The host spawns one task for each object that becomes active, and none for a message.
pub trait Spawner: Send + Sync + 'static {
    /// Runs a task to its end, on any thread. An executor that is shutting down may drop it: the
    /// callers who wait for it then get an error.
    fn spawn(&self, task: Task);
}

/// Ready tasks that a thread takes at once: few enough to leave work for the other threads.
const BATCH: usize = 32;
/// Lanes of ready tasks.
const LANES: usize = 4;
/// How often a thread without work lets others run before it sleeps: on few cores, whoever makes
/// work makes more of it meanwhile, and one wake-up serves all.
const YIELDS: u32 = 8;

const IDLE: u8 = 0;
/// In the queue; together with `RUNNING`, woken while it runs.
const WOKEN: u8 = 1;
const RUNNING: u8 = 2;
const DONE: u8 = 4;

/// Threads that run futures: the host's own executor. Cloning is cheap; all clones are one pool.
///
/// When the last clone is dropped the threads end as soon as no task is left.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
}

struct Shared {
    lanes: Vec<Lane>,
    /// Threads that sleep, or are about to. Changed under the lock of `crew` only.
    sleeping: AtomicUsize,
    crew: Mutex<Crew>,
    bell: Condvar,
    threads: usize,
}

/// Ready tasks. There are several lanes, and whoever makes tasks ready keeps to one of them, so
/// that few threads share its memory.
#[derive(Default)]
#[repr(align(128))]
struct Lane(Mutex<VecDeque<Arc<Job>>>);

/// What those who sleep wait for.
#[derive(Default)]
struct Crew {
    /// Tasks that did not end yet.
    living: usize,
    is_closed: bool,
}

impl Crew {
    fn is_over(&self) -> bool {
        self.is_closed && self.living == 0
    }
}

struct Job {
    state: AtomicU8,
    task: Mutex<Option<Task>>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pool({} threads)", self.owner.shared.threads)
    }
}

impl Pool {
    /// A pool of so many threads. With none, tasks run when [`Pool::run_ready`] is called.
    /// Fails with `Io` where the system refuses a thread.
    pub fn start(threads: usize) -> Result<Self> {
        let lanes = if threads == 0 { 1 } else { LANES };
        let shared = Arc::new(Shared {
            lanes: std::iter::repeat_with(Lane::default).take(lanes).collect(),
            sleeping: AtomicUsize::new(0),
            crew: Mutex::default(),
            bell: Condvar::new(),
            threads,
        });
        let pool = Self { owner: Arc::new(Owner { shared: Arc::clone(&shared) }) };
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("dostore-host".to_owned());
            let started = builder.spawn(move || shared.work(number));
            started.map_err(|cause| Error::io("starting a thread", cause))?;
        }
        Ok(pool)
    }

    /// One thread for each processor, two at least: one may wait for a page.
    pub(super) fn start_default() -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self::start(processors.max(2))
    }

    /// Runs what is ready on the caller's thread until nothing is, and says how many times a task
    /// was polled. For a pool without threads, in an order that depends on nothing but the wakes.
    pub fn run_ready(&self) -> usize {
        let mut polled = 0;
        loop {
            let mut lanes = self.owner.shared.lanes.iter();
            let Some(job) = lanes.find_map(|lane| lane.0.lock().pop_front()) else { return polled };
            job.run();
            polled += 1;
        }
    }
}

impl Spawner for Pool {
    fn spawn(&self, task: Task) {
        let shared = &self.owner.shared;
        let job = Arc::new(Job {
            state: AtomicU8::new(WOKEN),
            task: Mutex::new(Some(task)),
            shared: Arc::clone(shared),
        });
        shared.crew.lock().living += 1;
        shared.put(job);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.crew.lock().is_closed = true;
        self.shared.bell.notify_all();
    }
}

impl Shared {
    /// A task is ready: wakes a thread, if one sleeps.
    fn put(&self, job: Arc<Job>) {
        self.lanes[thread_share(self.lanes.len())].0.lock().push_back(job);
        // Who was counted before it looked into the lane, and found nothing, is seen here.
        if self.sleeping.load(Ordering::Relaxed) > 0 {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        let crew = self.crew.lock();
        let sleeping = self.sleeping.load(Ordering::Relaxed);
        // Whoever rings takes the sleeper off the count, so that it is woken once.
        self.sleeping.store(sleeping.saturating_sub(1), Ordering::Relaxed);
        drop(crew);
        if sleeping > 0 {
            self.bell.notify_one();
        }
    }

    fn work(&self, number: usize) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut lane = number;
        while self.take(&mut lane, &mut batch) {
            touch(&batch);
            for job in batch.drain(..) {
                job.run();
            }
        }
    }

    /// Fills the batch, waiting for work; false when there will be none.
    fn take(&self, lane: &mut usize, batch: &mut Vec<Arc<Job>>) -> bool {
        let mut yields = 0;
        loop {
            if self.fill(lane, batch) {
                return true;
            }
            if yields < YIELDS {
                yields += 1;
                std::thread::yield_now();
                continue;
            }
            let mut crew = self.crew.lock();
            if crew.is_over() {
                return false;
            }
            let sleeping = self.sleeping.load(Ordering::Relaxed);
            self.sleeping.store(sleeping + 1, Ordering::Relaxed);
            if self.fill(lane, batch) {
                self.sleeping.store(sleeping, Ordering::Relaxed);
                return true;
            }
            self.bell.wait(&mut crew);
            yields = 0;
        }
    }

    /// Takes a share of what is ready in the next lane that has anything; false where none has.
    fn fill(&self, lane: &mut usize, batch: &mut Vec<Arc<Job>>) -> bool {
        for _ in &self.lanes {
            *lane = (*lane + 1) % self.lanes.len();
            let mut ready = self.lanes[*lane].0.lock();
            let share = ready.len().div_ceil(self.threads).min(BATCH);
            batch.extend(ready.drain(..share));
            if !batch.is_empty() {
                return true;
            }
        }
        false
    }

    fn note_end(&self) {
        let mut crew = self.crew.lock();
        crew.living -= 1;
        let is_over = crew.is_over();
        drop(crew);
        if is_over {
            self.bell.notify_all();
        }
    }
}

/// Looks at each of the tasks. They lie all over memory: looked at together, the processor fetches
/// many at a time, and waits for each one otherwise. The sum means nothing.
fn touch(batch: &[Arc<Job>]) {
    let states = batch.iter().map(|job| job.state.load(Ordering::Relaxed));
    std::hint::black_box(states.fold(0, u8::wrapping_add));
}

impl Job {
    fn run(self: Arc<Self>) {
        self.state.swap(RUNNING, Ordering::AcqRel);
        let waker = Waker::from(Arc::clone(&self));
        let mut slot = self.task.lock();
        let Some(task) = slot.as_mut() else { return };
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context)));
        if matches!(polled, Ok(Poll::Pending)) {
            drop(slot);
            let settled =
                self.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if settled.is_err() {
                self.state.store(WOKEN, Ordering::Release);
                self.enqueue();
            }
            return;
        }
        self.state.store(DONE, Ordering::Release);
        let task = slot.take();
        drop(slot);
        // What a task owns may panic when it goes; the thread must not go with it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        self.shared.note_end();
    }

    /// Counts one more holder of the task and not of the pool, whose count all threads share.
    fn enqueue(self: &Arc<Self>) {
        self.shared.put(Arc::clone(self));
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == IDLE {
            self.enqueue();
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Nobody can wake it any more: it never ends, but it does not live either.
        if let Some(task) = self.task.get_mut().take() {
            drop(task);
            self.shared.note_end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// Goes to the back of the queue so many times, waking itself while it runs.
    struct Again(usize);

    impl Future for Again {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(()) };
            self.0 = left;
            context.waker().wake_by_ref();
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[test]
    fn a_wake_while_a_task_runs_polls_it_once_more_and_only_once() {
        let pool = Pool::start(0).unwrap();
        pool.spawn(Box::pin(Again(5)));
        assert_eq!(pool.run_ready(), 6);
        assert_eq!(pool.run_ready(), 0);
    }

    #[test]
    fn a_task_that_panics_takes_no_thread_with_it() {
        let pool = Pool::start(1).unwrap();
        let (tell, told) = mpsc::channel();
        pool.spawn(Box::pin(async { panic!("on purpose") }));
        pool.spawn(Box::pin(async move { tell.send(()).unwrap() }));
        told.recv_timeout(PATIENCE).expect("the thread is gone");
    }

    #[test]
    fn many_tasks_over_threads_all_end_and_none_runs_twice_at_once() {
        let pool = Pool::start(4).unwrap();
        let (tell, told) = mpsc::channel();
        let polls = Arc::new(AtomicUsize::new(0));
        for number in 0..1_000 {
            let (tell, polls) = (tell.clone(), Arc::clone(&polls));
            pool.spawn(Box::pin(async move {
                for _ in 0..number % 7 {
                    Again(1).await;
                    polls.fetch_add(1, Ordering::Relaxed);
                }
                tell.send(number).unwrap();
            }));
        }
        drop(tell);
        let mut seen: Vec<i32> = Vec::new();
        while let Ok(number) = told.recv_timeout(PATIENCE) {
            seen.push(number);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
        assert_eq!(polls.load(Ordering::Relaxed), (0..1_000).map(|n| n % 7).sum::<usize>());
    }

    #[test]
    fn a_task_that_is_always_ready_keeps_no_other_from_running() {
        let pool = Pool::start(1).unwrap();
        let (tell, told) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        pool.spawn(Box::pin(async move {
            while !until.load(Ordering::Relaxed) {
                Again(1).await;
            }
        }));
        for _ in 0..2 * LANES {
            // Each by a thread of its own, and so in each of the lanes.
            let tell = tell.clone();
            let task = Box::pin(async move { tell.send(()).unwrap() });
            std::thread::scope(|scope| {
                scope.spawn(|| pool.spawn(task));
            });
            told.recv_timeout(PATIENCE).expect("the other task never ran");
        }
        is_over.store(true, Ordering::Relaxed);
    }

    #[test]
    fn threads_outlive_the_pool_until_the_last_task_ended() {
        let pool = Pool::start(2).unwrap();
        let (tell, told) = mpsc::channel();
        let (begin, begun) = mpsc::channel::<()>();
        pool.spawn(Box::pin(async move {
            Again(1).await;
            begun.recv().unwrap();
            Again(3).await;
            tell.send(()).unwrap();
        }));
        drop(pool);
        begin.send(()).unwrap();
        told.recv_timeout(PATIENCE).expect("the task was left behind");
    }
}

//! Where the host's futures run: a small pool of threads, and the seam behind which any other
//! executor may stand.
//!
//! Invariants:
//!   * A future is polled by one thread at a time, and again after each wake, however many come.
//!   * A wake while the future runs is not lost: it goes back into the queue.
//!   * A future that panics is dropped; the thread goes on.
//!   * The queue's lock is a leaf: nobody's code runs under it.

use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
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
    queue: Mutex<Queue>,
    bell: Condvar,
    threads: usize,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Arc<Job>>,
    sleeping: usize,
    /// Tasks that did not end yet.
    living: usize,
    is_closed: bool,
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
        let shared = Arc::new(Shared { queue: Mutex::default(), bell: Condvar::new(), threads });
        let pool = Self { owner: Arc::new(Owner { shared: Arc::clone(&shared) }) };
        for _ in 0..threads {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("dostore-host".to_owned());
            let started = builder.spawn(move || shared.work());
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
            let Some(job) = self.owner.shared.queue.lock().ready.pop_front() else { return polled };
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
        let mut queue = shared.queue.lock();
        queue.living += 1;
        queue.ready.push_back(job);
        shared.ring(queue);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.bell.notify_all();
    }
}

impl Shared {
    /// Wakes a thread, if one sleeps, for what was just put into the queue.
    fn ring(&self, mut queue: MutexGuard<'_, Queue>) {
        let is_needed = queue.sleeping > 0;
        // Whoever rings takes the sleeper off the count, so that it is woken once.
        queue.sleeping -= usize::from(is_needed);
        drop(queue);
        if is_needed {
            self.bell.notify_one();
        }
    }

    fn work(&self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.take(&mut batch) {
            touch(&batch);
            for job in batch.drain(..) {
                job.run();
            }
        }
    }

    /// Fills the batch, waiting for work; false when there will be none.
    fn take(&self, batch: &mut Vec<Arc<Job>>) -> bool {
        let mut yields = 0;
        let mut queue = self.queue.lock();
        loop {
            let share = queue.ready.len().div_ceil(self.threads).min(BATCH);
            if share > 0 {
                batch.extend(queue.ready.drain(..share));
                return true;
            }
            if queue.is_closed && queue.living == 0 {
                return false;
            }
            if yields < YIELDS {
                yields += 1;
                MutexGuard::unlocked(&mut queue, std::thread::yield_now);
                continue;
            }
            queue.sleeping += 1;
            self.bell.wait(&mut queue);
            yields = 0;
        }
    }

    fn note_end(&self) {
        let mut queue = self.queue.lock();
        queue.living -= 1;
        if queue.is_closed && queue.living == 0 {
            drop(queue);
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
        let mut queue = self.shared.queue.lock();
        queue.ready.push_back(Arc::clone(self));
        self.shared.ring(queue);
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
    use std::sync::atomic::AtomicUsize;
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

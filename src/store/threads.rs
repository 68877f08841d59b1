//! The threads of a store: one that writes the log, one that publishes pages, one that has files of
//! the log made ready and old ones removed, one that merges runs, one that merges history, two that
//! write the pieces of files that these make, a few that read, a few that listen to operators. None
//! of them belongs to an object.
//!
//! Invariants:
//!   * Threads only call the engine's steps; every decision of what is durable is the engine's.
//!   * A step that panics poisons the store: nothing is promised after it.

#[cfg(feature = "admin")]
use super::admin::Server;
#[cfg(feature = "admin")]
use super::{Shared, Store};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::group::GroupKind;
use crate::locks::thread::{Builder, JoinHandle, current};
use crate::locks::{Condvar, Mutex};
use crate::wal::pool::Fill;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Work for a reader.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Silence after which a mark proves the last group durable, when the last mark is old; and when
/// it is not.
const MARK_SOON: Duration = Duration::from_millis(100);
const MARK_EVERY: Duration = Duration::from_secs(5);
/// Requests of operators that are served at once; more wait.
#[cfg(feature = "admin")]
const ADMIN_THREADS: usize = 3;
/// Threads that write pieces: while the device makes one wait, the other goes on.
const WRITERS: usize = 2;
/// How often maintenance looks for work.
const MAINTENANCE_EVERY: Duration = Duration::from_millis(20);
/// How long it waits after a step that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a thread is started.
type Starter<'s> = dyn FnMut(Builder, Job) -> io::Result<JoinHandle<()>> + 's;

/// The running threads.
pub(super) struct Threads {
    stop: Arc<AtomicBool>,
    /// Of the threads that maintain.
    bells: Vec<Arc<Bell>>,
    jobs: Arc<Jobs>,
    has_readers: bool,
    #[cfg(feature = "admin")]
    server: Option<Arc<Server>>,
    handles: Vec<JoinHandle<()>>,
    /// Of the threads that write pieces for the others, and thus outlive them.
    writers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} threads", self.handles.len() + self.writers.len())
    }
}

/// Wakes a thread that waits for time to pass.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.bell.notify_all();
    }

    fn wait(&self, most: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.bell.pause(&mut rung, most);
        }
        *rung = false;
    }
}

/// Work that waits for a reader.
#[derive(Default)]
struct Jobs {
    queue: Mutex<(VecDeque<Job>, bool)>,
    bell: Condvar,
}

impl Jobs {
    /// The next job; none when the store stops.
    fn take(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.0.pop_front() {
                return Some(job);
            }
            if queue.1 {
                return None;
            }
            self.bell.wait(&mut queue);
        }
    }
}

impl Threads {
    pub fn start(engine: &Arc<Engine>) -> Result<Self> {
        Self::start_by(engine, &mut |builder, body| builder.spawn(body))
    }

    /// Starts all, or none: those that run already are stopped when one cannot be started, and let
    /// go of the engine.
    fn start_by(engine: &Arc<Engine>, starter: &mut Starter) -> Result<Self> {
        let mut threads = Self {
            stop: Arc::default(),
            bells: Vec::new(),
            jobs: Arc::default(),
            has_readers: engine.options.reader_threads > 0,
            #[cfg(feature = "admin")]
            server: None,
            handles: Vec::new(),
            writers: Vec::new(),
        };
        match threads.start_each(engine, starter) {
            Ok(()) => Ok(threads),
            Err(error) => {
                threads.stop(engine);
                Err(error)
            }
        }
    }

    fn start_each(&mut self, engine: &Arc<Engine>, starter: &mut Starter) -> Result<()> {
        for _ in 0..WRITERS {
            let pace = Arc::clone(&engine.pace);
            let writer = begin(starter, "dostore-write", move || pace.pieces().serve())?;
            self.writers.push(writer);
        }
        let (stop, owner) = (Arc::clone(&self.stop), Arc::clone(engine));
        self.spawn(starter, "dostore-log", move || write_log(&owner, &stop))?;
        let maintaining: [(_, &[Step]); 4] = [
            ("dostore-publish", &PUBLISHING),
            ("dostore-files", &TENDING),
            ("dostore-merge", &MERGING),
            ("dostore-history", &TIDYING),
        ];
        for (name, steps) in maintaining {
            let (stop, owner) = (Arc::clone(&self.stop), Arc::clone(engine));
            let bell = Arc::new(Bell::default());
            self.bells.push(Arc::clone(&bell));
            self.spawn(starter, name, move || maintain(&owner, steps, &stop, &bell))?;
        }
        for _ in 0..engine.options.reader_threads {
            let jobs = Arc::clone(&self.jobs);
            self.spawn(starter, "dostore-read", move || {
                while let Some(job) = jobs.take() {
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })?;
        }
        Ok(())
    }

    /// Starts the threads that listen to operators. They do not keep the store open: what they hold
    /// of it stops no thread when it goes.
    #[cfg(feature = "admin")]
    pub fn serve(&mut self, server: &Arc<Server>, shared: &Arc<Shared>) -> Result<()> {
        self.server = Some(Arc::clone(server));
        for _ in 0..ADMIN_THREADS {
            let (server, shared) = (Arc::clone(server), Arc::downgrade(shared));
            let store = move || shared.upgrade().map(|shared| Store::of(shared, false));
            let starter: &mut Starter = &mut |builder, body| builder.spawn(body);
            self.spawn(starter, "dostore-admin", move || server.serve(store))?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        starter: &mut Starter,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        self.handles.push(begin(starter, name, body)?);
        Ok(())
    }

    /// Hands a job to a reader; false when there are none.
    pub fn run(&self, job: Job) -> std::result::Result<(), Job> {
        let mut queue = self.jobs.queue.lock();
        if queue.1 || !self.has_readers {
            return Err(job);
        }
        queue.0.push_back(job);
        drop(queue);
        self.jobs.bell.notify_one();
        Ok(())
    }

    /// Stops all threads and waits for them, but not for a merge to be done, nor for groups to be
    /// held back or for a rate of background bytes.
    pub fn stop(mut self, engine: &Engine) {
        engine.give_up(true);
        let _lifted = engine.pace.lift();
        let _hurry = engine.wal.hurry();
        self.stop.store(true, Ordering::SeqCst);
        self.jobs.queue.lock().1 = true;
        self.jobs.bell.notify_all();
        self.bells.iter().for_each(|bell| bell.ring());
        #[cfg(feature = "admin")]
        if let Some(server) = &self.server {
            server.stop();
        }
        engine.wal.tell_writer();
        join(self.handles.drain(..));
        // Those above may have had pieces under way.
        engine.pace.pieces().stop();
        join(self.writers.drain(..));
        engine.give_up(false);
    }
}

fn begin(
    starter: &mut Starter,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>> {
    let started = starter(Builder::new().name(name.to_owned()), Box::new(body));
    started.map_err(|cause| Error::io("starting a thread", cause))
}

fn join(handles: impl Iterator<Item = JoinHandle<()>>) {
    for handle in handles {
        // A thread that dropped the last handle of the store cannot wait for itself.
        if handle.thread().id() != current().id() {
            let _ = handle.join();
        }
    }
}

/// Runs a step; a panic in it poisons the store.
fn guarded<R>(engine: &Engine, step: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| Err(engine.panicked()))
}

fn write_log(engine: &Engine, stop: &AtomicBool) {
    engine.wal.set_thread(true);
    write_log_until(engine, stop);
    engine.wal.set_thread(false);
    // What came in before the flag fell has nobody else to write it, and is in one group. What
    // comes in later is written by who waits for it: others may go on with that without end.
    let _ = guarded(engine, || engine.wal.write_group());
}

fn write_log_until(engine: &Engine, stop: &AtomicBool) {
    let mut marked_at = Duration::ZERO;
    let mut is_marked = true;
    while !stop.load(Ordering::SeqCst) {
        match guarded(engine, || engine.wal.write_group()) {
            Err(_) => return,
            Ok(true) => is_marked = false,
            Ok(false) => {
                let before = engine.wal.groups();
                let since_mark = engine.clock.uptime().saturating_sub(marked_at);
                let patience = if since_mark > MARK_EVERY { MARK_SOON } else { MARK_EVERY };
                let patience = if is_marked { MARK_EVERY } else { patience };
                engine.wal.sleep_until_work(patience, || stop.load(Ordering::SeqCst));
                let is_quiet = engine.wal.groups() == before && !engine.wal.has_work();
                is_marked &= engine.wal.groups() == before;
                if is_quiet && !is_marked && !stop.load(Ordering::SeqCst) {
                    if guarded(engine, || engine.wal.write_mark(GroupKind::Mark)).is_err() {
                        return;
                    }
                    marked_at = engine.clock.uptime();
                    is_marked = true;
                }
            }
        }
    }
}

fn maintain(engine: &Engine, steps: &[Step], stop: &AtomicBool, bell: &Bell) {
    let mut pauses = vec![Pause::default(); steps.len()];
    while !stop.load(Ordering::SeqCst) {
        if engine.wal.poison().is_some() {
            return;
        }
        let done = guarded(engine, || Ok(round(engine, steps, &mut pauses)));
        let done = done.inspect_err(|error| engine.note_failure(error));
        if !done.is_ok_and(|round| round.did_something) {
            bell.wait(MAINTENANCE_EVERY);
            for pause in &mut pauses {
                pause.left = pause.left.saturating_sub(1);
            }
        }
    }
}

/// How long a step that failed is let be: so many waits for more work, or until this uptime.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    left: u32,
    until: Duration,
}

impl Pause {
    fn begin(now: Duration) -> Self {
        let left = RETRY_AFTER.as_millis() / MAINTENANCE_EVERY.as_millis();
        Self { left: u32::try_from(left).unwrap_or(u32::MAX), until: now + RETRY_AFTER }
    }

    fn is_over(&self, now: Duration) -> bool {
        self.left == 0 || self.until <= now
    }
}

/// What a round of maintenance came to.
#[derive(Clone, Copy, Default)]
struct Round {
    did_something: bool,
    failed: bool,
}

type Step = fn(&Engine) -> Result<bool>;

/// What holds the publisher lock throughout: one thread takes turns.
const PUBLISHING: [Step; 3] = [
    |engine| if engine.wants_checkpoint() { engine.checkpoint() } else { Ok(false) },
    |engine| if engine.wants_expire() { engine.expire() } else { Ok(false) },
    Engine::clean_what_is_due,
];

/// What commits and the disk would wait for. Each is short and needs no publisher lock.
const TENDING: [Step; 2] = [
    |engine| {
        let is_wanted = engine.wants_prepared_file();
        if is_wanted {
            engine.wal.prepare_file(Fill::Written)?;
        }
        Ok(is_wanted)
    },
    |engine| {
        engine.table.evict_missed();
        engine.remove_retired().map(|removed| removed > 0)
    },
];

/// What takes a while, and needs the publisher lock for moments: runs that wait for their merge
/// take space.
const MERGING: [Step; 1] =
    [|engine| if engine.wants_merge_of_runs() { engine.merge_runs() } else { Ok(false) }];

/// What takes long, minutes where much history is retained, and needs the publisher lock for
/// moments.
const TIDYING: [Step; 3] = [
    |engine| if engine.wants_history_merge() { engine.merge_history() } else { Ok(false) },
    |engine| if engine.wants_erase() { engine.erase_what_is_due() } else { Ok(false) },
    |engine| if engine.wants_scrub() { engine.scrub_more() } else { Ok(false) },
];

/// One round of background work. No step keeps another from its turn: what fails is tried again
/// later.
fn round(engine: &Engine, steps: &[Step], pauses: &mut [Pause]) -> Round {
    let mut round = Round::default();
    for (step, pause) in steps.iter().zip(pauses) {
        let now = engine.clock.uptime();
        if !pause.is_over(now) {
            continue;
        }
        *pause = Pause::default();
        let done = step(engine);
        round.did_something |= matches!(done, Ok(true));
        if let Err(error) = done {
            engine.note_failure(&error);
            *pause = Pause::begin(now);
            round.failed = true;
        }
    }
    if round.failed {
        engine.counters.failed_rounds.fetch_add(1, Ordering::Relaxed);
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};
    use crate::options::Options;

    fn open(disk: &SimDisk) -> Result<Arc<Engine>> {
        Engine::open(Arc::new(disk.clone()), Options::default().wal_file_bytes(64 << 10))
    }

    #[test]
    fn a_thread_that_cannot_be_started_leaves_none_and_no_lock() {
        let disk = SimDisk::new(1);
        for most in 0..9 {
            let engine = open(&disk).unwrap();
            let mut started = 0;
            let starter: &mut Starter = &mut |builder, body| {
                if started == most {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                started += 1;
                builder.spawn(body)
            };
            Threads::start_by(&engine, starter).unwrap_err();
            assert_eq!((started, Arc::strong_count(&engine)), (most, 1));
            drop(engine);
            drop(open(&disk).unwrap());
        }
    }

    #[test]
    fn the_cause_of_the_last_failed_step_is_kept() {
        let disk = SimDisk::new(2);
        let engine = open(&disk).unwrap();
        assert!(engine.last_failure().is_none());
        disk.fail_call(1, Fault::Io);
        let steps: &[Step] = &[|engine| engine.wal.prepare_file(Fill::Written).map(|()| true)];
        assert!(round(&engine, steps, &mut [Pause::default()]).failed);
        assert_eq!(engine.last_failure().unwrap().code(), "io");
        assert_eq!(engine.stats().unwrap().failed_rounds, 1);
    }

    #[test]
    fn a_step_that_fails_is_let_be_for_a_while_and_the_others_go_on() {
        let disk = SimDisk::new(4);
        let engine = open(&disk).unwrap();
        let steps: &[Step] = &[|engine| Err(engine.panicked()), |_| Ok(true)];
        let mut pauses = [Pause::default(); 2];
        let mut told = Vec::new();
        for passes in [0, 0, 400, 400, 400] {
            engine.clock.sleep(Duration::from_millis(passes));
            let Round { did_something, failed } = round(&engine, steps, &mut pauses);
            told.push((did_something, failed));
        }
        assert_eq!(
            told.iter().map(|(_, failed)| *failed).collect::<Vec<_>>(),
            [true, false, false, false, true]
        );
        assert!(told.iter().all(|(did_something, _)| *did_something));
    }

    #[test]
    fn threads_that_are_waited_for_give_up_what_takes_long() {
        let engine = open(&SimDisk::new(3)).unwrap();
        let given_up = Arc::new(Mutex::new(Vec::new()));
        let starter: &mut Starter = &mut |builder, body| {
            let (engine, given_up) = (Arc::clone(&engine), Arc::clone(&given_up));
            builder.spawn(move || {
                body();
                given_up.lock().push(engine.check_wanted().is_err());
            })
        };
        Threads::start_by(&engine, starter).unwrap().stop(&engine);
        assert_eq!(*given_up.lock(), [true; 9]);
        engine.check_wanted().unwrap();
    }
}

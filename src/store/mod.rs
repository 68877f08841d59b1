//! The public face of the engine: a store, its namespaces, objects and turns.
//!
//! Reads and writes are ordinary calls; durability is a future. Owns the threads.
//!
//! Begin with [`Store`], then [`namespace`], [`object`], [`turn`] and [`commit`]. Beside these:
//! [`past`], [`history`] and [`restore`] for what was, [`alarms`] for what is to come, [`reader`]
//! for other processes, [`backup`] and [`transfer`] for copies.
//!
//! # Errors
//!
//! A call says which errors are its own. Beside those
//!
//! * calls on a store that was closed fail with `store.closed`, kind `Broken`;
//! * calls on a poisoned store fail with the kind `Poisoned`: a write or a sync of its log failed,
//!   and it must be dropped and opened again;
//! * whatever reads fails with the kind `Corrupt` where bytes that it needs are damaged, and with
//!   `Io` where the operating system refuses. What cannot be read is never told as absent.
//!
//! An error means that nothing was changed, unless the call says otherwise or the kind is
//! `Poisoned`: then only reopening tells. `docs/operating.md` explains each code.

pub mod activate;
mod addresses;
#[cfg(feature = "admin")]
pub mod admin;
pub mod alarms;
pub mod backup;
pub(crate) mod blocking;
pub mod changes;
pub mod commit;
pub(crate) mod draft;
pub mod history;
pub mod list;
pub mod namespace;
mod next_open;
pub mod object;
pub mod objects;
pub(crate) mod outstanding;
pub mod past;
pub mod reader;
pub mod reader_alarms;
pub mod reader_commits;
#[cfg(feature = "cli")]
mod reader_moments;
pub mod reader_objects;
mod reader_past;
pub mod restore;
pub mod restore_all;
mod restore_plan;
#[cfg(all(test, dostore_shuttle))]
mod schedules;
pub mod snapshot;
mod threads;
pub(crate) mod timer;
pub mod transfer;
pub mod turn;
pub mod untrusted;
pub mod value;

pub use crate::engine::recovery::RecoveryReport;
pub use crate::engine::scrub::{Damaged, Fate, ScrubReport};
pub use crate::engine::stats::Stats;
pub use crate::options::Options;

use crate::disk::Disk;
use crate::disk::real::RealDisk;
use crate::engine::Engine;
use crate::engine::recovery::missing;
use crate::error::{Error, Result};
use crate::format::group::GroupKind;
use crate::ids::Lsn;
use crate::locks::Mutex;
use crate::wal::pool::Fill;
use alarms::Alarms;
use alarms::scheduler::Scheduler;
use namespace::{Namespace, NamespaceOptions};
use outstanding::Outstanding;
use std::io;
use std::path::Path;
use std::sync::Arc;
use threads::{Job, Threads};
use timer::Timer;

/// A store, open for writing. Cloning is cheap; all clones are the same store.
///
/// Namespaces, objects and commits keep their store open; snapshots do not. When the last of them
/// is dropped the threads stop, once they have logged what was committed; only [`Store::close`]
/// says whether that worked, and spares the next open the replay of the log.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// use dostore::store::Store;
///
/// let store = Store::open(path)?;
/// let rooms = store.namespace("rooms")?;
/// let mut lobby = rooms.open_by_name("lobby")?;
///
/// let mut turn = lobby.turn();
/// turn.put("topic", "rust")?.put("visitors", "1")?;
/// turn.commit()?.wait()?; // Durable from here on.
///
/// assert_eq!(lobby.get("topic")?.as_deref(), Some(&b"rust"[..]));
/// drop(lobby);
/// store.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    held: Arc<Held>,
}

/// What all handles of a kind hold together. When the last of a user's goes, so do the threads,
/// and with them what an operator has asked for.
#[derive(Debug)]
struct Held {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    is_users: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_users {
            self.shared.stop();
        }
    }
}

#[derive(Debug)]
struct Shared {
    engine: Arc<Engine>,
    /// None in a store without threads, and after it was closed.
    threads: Mutex<Option<Threads>>,
    timer: Timer,
    scheduler: Scheduler,
    outstanding: Outstanding,
}

impl Options {
    /// Opens the store in a folder. Costs time in proportion to the log after the last checkpoint,
    /// and a few reads of each run; starts the threads.
    ///
    /// Fails with `store.locked` while it is open for writing, in another process or in this one;
    /// with `store.missing` where there is no store and [`Options::create`] is off; with an
    /// `option` code, kind `Invalid`, for a setting out of its range; with `Corrupt` where what a
    /// crash cannot explain is missing or damaged; with `Unsupported` for a store of another
    /// version; with `Full` where there is no room for a file of the log. Nothing was lost by that:
    /// the same call may be tried again.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        let opened = if self.create { RealDisk::create(path) } else { RealDisk::open(path) };
        let disk = opened.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound if !self.create => missing().caused_by(cause),
            _ => Error::io("opening the store's folder", cause),
        })?;
        self.open_on(disk)
    }

    /// Opens the store on a disk of one's own, as a simulated one.
    pub fn open_on(self, disk: impl Disk + 'static) -> Result<Store> {
        let is_threaded = self.is_threaded;
        let engine = Engine::open(Arc::new(disk), self)?;
        let threads = if is_threaded { Some(Threads::start(&engine)?) } else { None };
        let timer = Timer::new(Arc::clone(&engine.clock), is_threaded);
        let scheduler = Scheduler::new(&engine);
        let threads = Mutex::new(threads);
        let outstanding = Outstanding::default();
        let shared = Shared { engine, threads, timer, scheduler, outstanding };
        let store = Store::of(Arc::new(shared), true);
        #[cfg(feature = "admin")]
        store.serve()?;
        Ok(store)
    }
}

impl Store {
    /// Opens the store in a folder, with the defaults; makes both where there is none, but not the
    /// folder's parent. Fails as [`Options::open`] does.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Settings, to be finished by [`Options::open`].
    pub fn options() -> Options {
        Options::default()
    }

    fn of(shared: Arc<Shared>, is_users: bool) -> Self {
        Self { held: Arc::new(Held { engine: Arc::clone(&shared.engine), shared, is_users }) }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.held.engine
    }

    /// The namespace of this name; created, and durable when this returns, if there is none. Object
    /// ids in a new one are derived with its name, in one that is there with the key that it has.
    /// Fails with `limit.name` or `limit.namespaces`. Blocks for a sync where it creates one.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        self.namespace_with(name, NamespaceOptions::new())
    }

    /// The same; object ids in it are derived with `unique_key`. Fails with `namespace.key` where
    /// it is there already and derives them with another.
    pub fn namespace_with_key(&self, name: &str, unique_key: &str) -> Result<Namespace> {
        self.namespace_with(name, NamespaceOptions::new().unique_key(unique_key))
    }

    /// The same, with settings. How long history is kept counts if the namespace is created now;
    /// [`Namespace::set_retention`] changes it later.
    pub fn namespace_with(&self, name: &str, options: NamespaceOptions) -> Result<Namespace> {
        let NamespaceOptions { unique_key, retention } = options;
        let key = unique_key.as_deref().map(crate::object_id::NamespaceKey::new);
        let entry = self.engine().namespace(name, key.as_ref(), retention)?;
        Ok(Namespace::new(self.clone(), name, entry))
    }

    /// Every namespace, by name. Memory only.
    pub fn namespaces(&self) -> Vec<Namespace> {
        let all = self.engine().namespaces();
        all.into_iter().map(|(name, entry)| Namespace::new(self.clone(), &name, entry)).collect()
    }

    /// Everything up to here survives a crash. One atomic read: with many commits in flight it is
    /// cheaper to compare with than a future for each.
    pub fn durable(&self) -> Lsn {
        self.engine().wal.durable()
    }

    /// Blocks until everything up to `lsn` is durable. Fails with `commit.unknown` where no commit
    /// has that LSN yet, and with `commit.indeterminate` when a sync failed.
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        if lsn > self.engine().wal.last_lsn() {
            return Err(Error::invalid("commit.unknown", "no commit has this LSN yet"));
        }
        self.engine().wait_durable(lsn)
    }

    /// Why the last step of the store's threads failed; none if none has failed since the store was
    /// opened. Stays when the step, which is tried again, succeeds: [`Stats::failed_rounds`]
    /// counts. Costs a lock; steps that somebody calls by [`Store::steps`] tell their caller
    /// instead.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = dostore::store::Store::open(folder.path())?;
    /// if let Some(error) = store.last_failure() {
    ///     eprintln!("background work failed: {error:?}");
    /// }
    /// # Ok::<(), dostore::error::Error>(())
    /// ```
    pub fn last_failure(&self) -> Option<Error> {
        self.engine().last_failure()
    }

    /// Figures of this moment. Lists the store's folders, and waits for no other work.
    pub fn stats(&self) -> Result<Stats> {
        self.engine().stats()
    }

    /// Reads all files of pages, of the directory and of history from the medium, as far as the
    /// system lets go of what it remembers of them, to find damage before somebody needs what it
    /// hit. A damaged page of which history holds the content is rebuilt; what cannot be stays as
    /// it is, and reads that need it go on to fail. The report says which is which.
    ///
    /// Blocks for as long as reading the store takes, at the rate of
    /// [`Options::background_bytes_per_second`]. Commits, reads and other background work go on.
    /// Where the disk has no room, pages are left as they are. Fails with `Io` where the operating
    /// system refuses a read or the write of a page, and with `store.closed` when the store is
    /// closed meanwhile: what was rebuilt by then stays so.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = dostore::store::Store::open(folder.path())?;
    /// let report = store.scrub()?;
    /// assert!(report.damages.is_empty());
    /// # Ok::<(), dostore::error::Error>(())
    /// ```
    pub fn scrub(&self) -> Result<ScrubReport> {
        self.engine().scrub()
    }

    /// What the open found.
    pub fn report(&self) -> &RecoveryReport {
        self.engine().report()
    }

    /// The alarms that are due, of all objects: see [`alarms`].
    pub fn alarms(&self) -> Alarms {
        Alarms::new(self.clone())
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.held.shared.timer
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.held.shared.scheduler
    }

    pub(crate) fn outstanding(&self) -> &Outstanding {
        &self.held.shared.outstanding
    }

    /// Begins to listen to operators, if that was asked for.
    #[cfg(feature = "admin")]
    fn serve(&self) -> Result<()> {
        if !self.engine().options.is_admin {
            return Ok(());
        }
        let listening = self.engine().disk.listen();
        let listener = listening.map_err(|cause| Error::io("listening at admin.sock", cause))?;
        let server = Arc::new(admin::Server::new(listener, Arc::clone(&self.engine().clock)));
        let mut threads = self.held.shared.threads.lock();
        threads.as_mut().map_or(Ok(()), |threads| threads.serve(&server, &self.held.shared))
    }

    /// The steps that threads would take, for whoever opened the store without them.
    pub fn steps(&self) -> Steps<'_> {
        Steps { engine: self.engine(), timer: &self.held.shared.timer }
    }

    pub(crate) fn run_on_reader(&self, job: Job) -> bool {
        self.held.shared.threads.lock().as_ref().is_some_and(|threads| threads.run(job).is_ok())
    }

    /// Writes everything into pages, marks the log as closed and stops the threads. Blocks for one
    /// checkpoint, at no limited rate. What is left open fails from here on with `store.closed`;
    /// commits do so from the call on, however many others go on with them.
    ///
    /// Fails as a checkpoint may: with `Full`, `Io` or `Poisoned`. If it does, without the store
    /// being poisoned, commits are taken again, and another handle of the store may close it; the
    /// lock is let go of only by a close that succeeds, or with the last handle. Without a close no
    /// acknowledged commit is lost, but the next open replays the log.
    pub fn close(self) -> Result<()> {
        self.held.shared.stop_threads();
        let closed = self.engine().close();
        // Whoever waits for an alarm is told that none will come.
        self.engine().alarms.wake_all();
        closed
    }
}

impl Shared {
    fn stop(&self) {
        self.timer.stop();
        self.stop_threads();
    }

    fn stop_threads(&self) {
        // The lock is let go first: a thread that stops may look for another one.
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            threads.stop(&self.engine);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a store does in the background, one step at a time: for simulations and for tools.
///
/// A step may be called in a store with threads too; it waits for its turn then. One that fails has
/// changed nothing and may be called again, unless the store is poisoned.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'s> {
    engine: &'s Engine,
    timer: &'s Timer,
}

impl Steps<'_> {
    /// Writes and syncs the open group of the log. Says whether it had any commit.
    pub fn write_group(&self) -> Result<bool> {
        self.engine.wal.write_group()
    }

    /// Writes a mark that proves the last group durable to whoever reads the log later. Says
    /// whether one was written: not where no file has room for it.
    pub fn write_mark(&self) -> Result<bool> {
        self.engine.wal.write_mark(GroupKind::Mark)
    }

    /// Puts what was committed into pages. Says whether there was anything.
    pub fn checkpoint(&self) -> Result<bool> {
        self.engine.checkpoint()
    }

    /// Moves live pages out of mostly dead segments. Says whether any was worth it.
    pub fn clean(&self) -> Result<bool> {
        self.engine.clean()
    }

    /// Removes history that is older than its retention. Says whether there was any.
    pub fn expire(&self) -> Result<bool> {
        self.engine.expire()
    }

    /// Merges sorted runs. Says whether there were any to merge.
    pub fn merge(&self) -> Result<bool> {
        self.engine.merge()
    }

    /// Removes the bytes of purged objects from all files. Says whether a purge was completed: one
    /// whose files a snapshot still reads is completed by a later call. Fails with `purge.stuck`
    /// while damage keeps a file from being written anew; what that file does not hold is erased
    /// all the same.
    pub fn erase(&self) -> Result<bool> {
        self.engine.erase()
    }

    /// Makes one more log file ready.
    pub fn prepare_file(&self) -> Result<()> {
        self.engine.wal.prepare_file(Fill::Written)
    }

    /// Of files of pages and runs that are begun from now on, has pieces of so many bytes wait
    /// until there are others, or the next piece of the file comes or its end: each is written
    /// late, and what fails is told late, as threads may do it. With zero, each is written at once.
    pub fn hold_pieces(&self, bytes: usize) {
        self.engine.pace.pieces().hold(bytes);
    }

    /// Wakes futures that wait for a time which has come. Says how many.
    pub fn tick(&self) -> usize {
        self.timer.tick()
    }

    /// Removes files that no manifest names any more and whose time has come. Says how many.
    pub fn remove_retired(&self) -> Result<usize> {
        self.engine.remove_retired()
    }
}

//! All objects of a store: the commit path, recovery, and the steps that publish.
//!
//! Owns every part below it and alone knows in which order they must become durable. Read
//! [`commit`] (the hot path), [`recovery`] (open), [`publish`] (the one way the manifest changes),
//! then [`checkpoint`] with [`build`], [`clean`] and [`merge`].
//!
//! The steps own no threads; threads only call them, so a simulation drives the whole engine.
//!
//! The order of locks stands in `docs/architecture.md`. An object's lock alone may be held while a
//! full group is written, because the log's writer takes no object.
//!
//! Invariants:
//!   * Groups are durable before their commits are acknowledged; pages before the run that names
//!     them; the run before the manifest that names it; the manifest before what the old one named
//!     is removed.
//!   * At most one cut is open. It stays open until a checkpoint of it is published.

pub mod adopt;
pub mod alarms;
mod applying;
mod archive;
pub mod backup;
mod birth;
pub mod bookmarks;
pub mod build;
mod build_large;
pub mod catalog;
pub mod checkpoint;
mod classes;
pub mod clean;
pub mod commit;
mod content;
mod delta;
pub mod expire;
mod held;
pub mod history;
mod history_file;
mod history_merge;
mod lost_hints;
pub mod merge;
#[cfg(all(test, dostore_loom))]
mod models;
mod orphans;
mod patience;
pub mod publish;
mod purge;
mod rebuild;
pub mod recovery;
mod replay;
pub mod scrub;
mod splitter;
pub mod stats;
pub mod table;

use crate::disk::pace::Pace;
use crate::disk::{Clock, Disk, Lock};
use crate::error::{Error, Result};
use crate::format::header::FileContext;
use crate::format::manifest::TermSpan;
use crate::ids::{FileNumber, Lsn};
use crate::locks::{Mutex, Ranked, RwLock, rank};
use crate::object::ObjectState;
use crate::object::version::Version;
use crate::options::Options;
use crate::wal::group_commit::Wal;
use crate::wal::pool::FileNumbers;
use alarms::AlarmIndex;
use catalog::Catalog;
use expire::Expiry;
use patience::Patience;
use publish::Publisher;
use recovery::RecoveryReport;
use stats::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use table::Table;

/// What changes together with the order of commits: who is dirty since the last cut.
#[derive(Debug)]
pub struct DirtyList {
    /// The number of the cut that the next checkpoint will choose.
    pub cut: u64,
    /// Objects with commits before it and none on an earlier list.
    pub objects: Vec<Arc<ObjectState>>,
    /// Record bytes since the last cut.
    pub record_bytes: u64,
    /// The last purge that was logged.
    pub last_purge: Lsn,
}

/// A store, open for writing.
pub struct Engine {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) context: FileContext,
    pub(crate) numbers: Arc<FileNumbers>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) wal: Wal<DirtyList>,
    pub(crate) table: Table,
    /// When which alarm is due. A leaf lock, but for that of the installed version.
    pub(crate) alarms: AlarmIndex,
    pub(crate) catalog: Catalog,
    /// What is installed now. Held for the time of a clone; a leaf lock.
    version: RwLock<Arc<Version>>,
    /// Who may change the manifest. The first lock of the order.
    pub(crate) publisher: Ranked<Publisher, { rank::PUBLISHER }>,
    /// What publishing has left to be removed. A leaf lock.
    retired: publish::RetiredFiles,
    /// Committed bytes that no page holds yet, as the budget counts them.
    pub(crate) dirty_bytes: Arc<AtomicUsize>,
    pub(crate) dictionaries: clean::Dictionaries,
    /// What erasing purged objects has come to. A leaf lock.
    erasing: Mutex<purge::Erasing>,
    /// How far scrubbing in the background has come. A leaf lock.
    scrubbing: Mutex<scrub::Scrubbing>,
    /// What merging of history knows. A leaf lock.
    history_merging: Mutex<history_merge::Merging>,
    /// Runs that could not be merged, and until when they are let be. A leaf lock.
    unmerged: Mutex<Patience<FileNumber>>,
    /// Held, shared, while files are written anew that no manifest names yet, by a merge or for an
    /// adoption: what is in them may be of an object that was purged. Nobody waits for it.
    rewriting: RwLock<()>,
    pub(crate) counters: Counters,
    /// Set while somebody waits for the threads to end, and once the store is closed: what takes
    /// long is given up.
    is_ending: Arc<AtomicBool>,
    /// Why the last step failed that nobody called. A leaf lock.
    last_failure: Mutex<Option<Error>>,
    /// How much time has passed, for expiry. A leaf lock inside.
    expiry: Expiry,
    /// The terms and their commits, oldest first; the last is this one's own.
    pub(crate) terms: Vec<TermSpan>,
    /// What the open found.
    pub(crate) report: RecoveryReport,
    /// Holds other writers out until the store is closed, or dropped. A leaf lock.
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Engine of store {}", self.context.store)
    }
}

impl Engine {
    /// The published state installed now.
    pub fn version(&self) -> Arc<Version> {
        Arc::clone(&self.version.read())
    }

    /// Installs what a publish has made; `covers` is the cut whose checkpoint it is of.
    pub(crate) fn install(&self, version: Arc<Version>, covers: Option<u64>) {
        self.alarms.install(covers, || *self.version.write() = version);
    }

    /// From now on what takes long is given up, with `store.closed`, or is not any more.
    pub(crate) fn give_up(&self, is_ending: bool) {
        self.is_ending.store(is_ending, Ordering::Relaxed);
    }

    /// Fails when long steps are given up.
    pub(crate) fn check_wanted(&self) -> Result<()> {
        if self.is_ending.load(Ordering::Relaxed) { Err(Error::closed()) } else { Ok(()) }
    }

    /// Lets other writers in.
    pub(crate) fn unlock(&self) {
        self.give_up(true);
        drop(self.lock.lock().take());
    }

    /// What the open found.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }
}

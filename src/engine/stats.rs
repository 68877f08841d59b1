//! What a store has done since it was opened, and where its bytes are.
//!
//! Invariants:
//!   * Each file that is there stands in exactly one account.

use super::Engine;
use crate::disk::ReadDisk;
use crate::error::{Error, Result};
use crate::names::{FileName, Folder};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since open. Each only grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commits logged.
    pub commits: AtomicU64,
    /// Their record bytes.
    pub record_bytes: AtomicU64,
    /// Groups written and synced.
    pub groups: AtomicU64,
    /// Checkpoints published.
    pub checkpoints: AtomicU64,
    /// Segments cleaned.
    pub cleaned: AtomicU64,
    /// Merges published.
    pub merges: AtomicU64,
    /// Files of history that were let go of.
    pub expired_files: AtomicU64,
    /// Times that expiry was held because the clock had jumped.
    pub expiry_holds: AtomicU64,
    /// Rounds of maintenance in which a step failed.
    pub failed_rounds: AtomicU64,
    /// Bytes of history written by checkpoints and cleaning.
    pub history_bytes: AtomicU64,
    /// Bytes read by scrubs.
    pub scrubbed_bytes: AtomicU64,
    /// Scrubs that came to their end.
    pub scrubs: AtomicU64,
    /// Damages that scrubs have found.
    pub damages: AtomicU64,
    /// Pages that scrubs have written anew.
    pub rebuilt: AtomicU64,
}

/// Figures of a store at one moment. Bytes are lengths of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "admin", derive(serde::Serialize, serde::Deserialize))]
pub struct Stats {
    /// Commits since the store was opened.
    pub commits: u64,
    /// Record bytes of those commits.
    pub record_bytes: u64,
    /// Groups written since the store was opened; each cost one sync.
    pub groups: u64,
    /// Checkpoints since the store was opened.
    pub checkpoints: u64,
    /// Segments cleaned since the store was opened.
    pub segments_cleaned: u64,
    /// Merges of runs since the store was opened.
    pub merges: u64,
    /// Files of history that expired, since the store was opened.
    pub expired_files: u64,
    /// Times, since the store was opened, that expiry was held because the clock had jumped by more
    /// than a day: it goes on when clock and uptime have agreed for a day.
    pub expiry_holds: u64,
    /// Rounds of background work, since the store was opened, in which a step failed; each step is
    /// tried again. [`crate::store::Store::last_failure`] says why the last one did.
    pub failed_rounds: u64,
    /// Files of the log, since the store was opened, that were made because one was needed and
    /// none stood ready: the commit waited, and those into the file cost a device write more.
    pub late_files: u64,
    /// Bytes that scrubs have read since the store was opened.
    pub scrubbed_bytes: u64,
    /// Scrubs of the whole store that came to their end since it was opened.
    pub scrubs: u64,
    /// Damages that scrubs have found since the store was opened; each scrub counts what is left
    /// again.
    pub damages_found: u64,
    /// Key ranges of objects whose damaged pages scrubs have rebuilt since the store was opened.
    pub pages_rebuilt: u64,
    /// Objects in memory: open, or with changes that no page holds yet.
    pub objects_in_memory: u64,
    /// Alarms set since the last checkpoint, and those set for times that had passed: what alarms
    /// cost in memory. All others lie in runs.
    pub alarms_in_memory: u64,
    /// Committed bytes that no page holds yet.
    pub dirty_bytes: u64,
    /// Bytes of pages cached.
    pub cache_bytes: u64,
    /// Bytes of pages that are live.
    pub live_bytes: u64,
    /// Bytes of segments that are not: dead pages, headers, footers.
    pub reclaimable_bytes: u64,
    /// Bytes of sorted runs of the present: directory, names, alarms.
    pub run_bytes: u64,
    /// Bytes of history.
    pub history_bytes: u64,
    /// Bytes of the log: files that hold or held groups.
    pub log_bytes: u64,
    /// Bytes of log files that stand ready.
    pub pool_bytes: u64,
    /// Bytes of files that no manifest names any more and that wait to be removed.
    pub retired_bytes: u64,
    /// Bytes of the manifest, the lock and `admin.sock`.
    pub other_bytes: u64,
    /// Bytes of files that are not the store's.
    pub foreign_bytes: u64,
}

impl Stats {
    /// The sum of all bytes on disk: equals the sum of the file lengths on an idle store.
    pub fn disk_bytes(&self) -> u64 {
        self.live_bytes
            + self.reclaimable_bytes
            + self.run_bytes
            + self.history_bytes
            + self.log_bytes
            + self.pool_bytes
            + self.retired_bytes
            + self.other_bytes
            + self.foreign_bytes
    }
}

impl Engine {
    /// Remembers why a step failed that nobody called.
    pub fn note_failure(&self, error: &Error) {
        *self.last_failure.lock() = Some(error.clone());
    }

    /// Why the last step failed that nobody called.
    pub fn last_failure(&self) -> Option<Error> {
        self.last_failure.lock().clone()
    }

    /// Figures of this moment.
    pub fn stats(&self) -> Result<Stats> {
        let retired: BTreeSet<FileName> = self.retired_files().into_iter().collect();
        let ready: BTreeSet<_> = self.wal.pool().ready_numbers().into_iter().collect();
        let version = self.version();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = Stats {
            commits: count(&self.counters.commits),
            record_bytes: count(&self.counters.record_bytes),
            groups: self.wal.groups(),
            checkpoints: count(&self.counters.checkpoints),
            segments_cleaned: count(&self.counters.cleaned),
            merges: count(&self.counters.merges),
            expired_files: count(&self.counters.expired_files),
            expiry_holds: count(&self.counters.expiry_holds),
            failed_rounds: count(&self.counters.failed_rounds),
            late_files: self.wal.pool().late_files(),
            scrubbed_bytes: count(&self.counters.scrubbed_bytes),
            scrubs: count(&self.counters.scrubs),
            damages_found: count(&self.counters.damages),
            pages_rebuilt: count(&self.counters.rebuilt),
            objects_in_memory: self.table.count() as u64,
            alarms_in_memory: self.alarms.in_memory() as u64,
            dirty_bytes: self.dirty_bytes.load(Ordering::Relaxed) as u64,
            cache_bytes: version.cache.bytes() as u64,
            ..Stats::default()
        };
        let manifest = &version.manifest;
        let history: BTreeSet<_> = manifest.history.iter().map(|file| file.facts.number).collect();
        for (name, bytes) in files(&*self.disk)? {
            let Some(name) = name else {
                stats.foreign_bytes += bytes;
                continue;
            };
            let account = match name {
                _ if retired.contains(&name) => &mut stats.retired_bytes,
                FileName::Wal(number) if ready.contains(&number) => &mut stats.pool_bytes,
                FileName::Wal(_) => &mut stats.log_bytes,
                FileName::Segment(_) => &mut stats.reclaimable_bytes,
                FileName::Run(number) if history.contains(&number) => &mut stats.history_bytes,
                FileName::Run(_) => &mut stats.run_bytes,
                FileName::Lock
                | FileName::AdminSocket
                | FileName::Manifest
                | FileName::ManifestTemporary => &mut stats.other_bytes,
            };
            *account += bytes;
        }
        let live = total(manifest.segments.iter().map(|segment| segment.live_bytes));
        stats.live_bytes = live.min(stats.reclaimable_bytes);
        stats.reclaimable_bytes -= stats.live_bytes;
        Ok(stats)
    }
}

/// A sum of what a manifest says, which nothing has proven to be so.
pub(super) fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// Every file under a store's folder with its length; foreign ones without a name.
pub fn files(disk: &(impl ReadDisk + ?Sized)) -> Result<Vec<(Option<FileName>, u64)>> {
    let mut files = Vec::new();
    for folder in Folder::ALL {
        let listed = disk.list(folder).map_err(|cause| Error::io("listing a folder", cause))?;
        let is_folder = |leaf: &str| {
            folder == Folder::Root && Folder::ALL.iter().any(|inner| inner.path() == leaf)
        };
        let named = |leaf: &str| FileName::parse(folder, leaf);
        let own = listed.iter().filter(|listed| !is_folder(&listed.leaf));
        files.extend(own.map(|listed| (named(&listed.leaf), listed.bytes)));
    }
    Ok(files)
}

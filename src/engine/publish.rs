//! The one way the manifest changes.
//!
//! Files written, files synced, folders synced, the next manifest written and synced beside the
//! old one, renamed over it, folder synced: that is the moment of change. Then the new version is
//! installed in memory, and what only the old one named is retired.
//!
//! Invariants:
//!   * A failure before the rename changes nothing; from the rename on it poisons the store.
//!   * A retired file is removed only when its time has passed and no version that names it is
//!     held in this process. Nor is one with pages that a commit adopted while any version is held
//!     from before: what that holds may read them on top of it.
//!   * The next version can be opened before its manifest is written.

use super::Engine;
use crate::directory::Directory;
use crate::disk::SyncFailed;
use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::run::{RunFacts, RunUse};
use crate::ids::FileNumber;
use crate::locks::Mutex;
use crate::manifest::{self, WriteError};
use crate::names::{FileName, Folder};
use crate::object::history::HistoryRuns;
use crate::object::version::Version;
use crate::planted::{Mistake, planted};
use crate::run::Run;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::checkpoint::OpenCut;
use super::patience::Patience;
use super::stats::total;

/// Retired files may take so many times the dirty budget before the oldest are removed early.
const RETIRED_PER_BUDGET: u64 = 2;

/// What the publisher lock guards.
#[derive(Debug)]
pub struct Publisher {
    /// The present manifest.
    pub manifest: Manifest,
    /// A cut that no checkpoint has published yet.
    pub open_cut: Option<Arc<OpenCut>>,
    /// WAL files that hold or held groups, the present one excluded.
    pub log_files: BTreeSet<FileNumber>,
    /// Segments that cleaning could not empty: it leaves them alone for a time.
    pub pinned: Patience<FileNumber>,
}

/// What the checkpoint of a cut covers.
#[derive(Debug)]
pub struct Covers {
    /// The number of the cut.
    pub cut: u64,
    /// The files of all commits that adopted pages, with their bytes.
    pub adopted: Vec<(FileName, u64)>,
}

/// Files that wait for their time to be removed, the oldest first. A leaf lock of its own: whoever
/// looks, or removes them, waits for no publisher.
pub(super) type RetiredFiles = Mutex<VecDeque<Retired>>;

/// Files that the version after `last_namer` does not name, with their bytes. Stays in the queue
/// without any as long as that version is held, which may name files that later ones dropped.
#[derive(Debug)]
pub(super) struct Retired {
    last_namer: Weak<Version>,
    /// From here on files were made that `last_namer` does not name.
    next_file: FileNumber,
    files: Vec<(FileName, u64)>,
    at: Duration,
    /// The manifest that dropped them.
    generation: u64,
}

impl Retired {
    fn is_held(&self) -> bool {
        self.last_namer.strong_count() > 0
    }
}

/// Bytes and pages that came alive or died, by segment.
#[derive(Clone, Debug, Default)]
pub struct Liveness(BTreeMap<FileNumber, (i64, i64)>);

impl Liveness {
    /// A page came alive.
    pub fn add(&mut self, file: FileNumber, bytes: u32) {
        self.change(file, i64::from(bytes), 1);
    }

    /// A page died.
    pub fn remove(&mut self, file: FileNumber, bytes: u32) {
        self.change(file, -i64::from(bytes), -1);
    }

    fn change(&mut self, file: FileNumber, bytes: i64, pages: i64) {
        let entry = self.0.entry(file).or_default();
        entry.0 += bytes;
        entry.1 += pages;
    }

    /// Adds the changes to the manifest's account, and drops segments without a live page.
    ///
    /// Where more would die than is alive, the directory has named a page that was dead, and what
    /// else is alive nobody knows: the segment stays as it is, and verification tells of it.
    pub fn apply(&self, manifest: &mut Manifest) {
        for segment in &mut manifest.segments {
            let Some(&(bytes, pages)) = self.0.get(&segment.facts.number) else { continue };
            let bytes = segment.live_bytes.checked_add_signed(bytes);
            let pages = segment.live_pages.checked_add_signed(pages);
            if let (Some(bytes), Some(pages)) = (bytes, pages) {
                (segment.live_bytes, segment.live_pages) = (bytes, pages);
            }
        }
        manifest.segments.retain(|segment| segment.live_pages > 0);
    }
}

impl Publisher {
    /// The publisher of a store whose present manifest is this one.
    pub fn new(manifest: Manifest, log_files: BTreeSet<FileNumber>) -> Self {
        Self { manifest, open_cut: None, log_files, pinned: Patience::default() }
    }
}

impl Engine {
    /// Makes `next` the manifest and installs its version.
    pub(crate) fn publish(&self, publisher: &mut Publisher, next: Manifest) -> Result<()> {
        self.publish_cut(publisher, next, None)
    }

    /// The same; `covers` tells of the cut whose checkpoint it is of.
    fn publish_cut(
        &self,
        publisher: &mut Publisher,
        mut next: Manifest,
        covers: Option<&Covers>,
    ) -> Result<()> {
        self.check_alive()?;
        next.term = self.context.term;
        next.generation = publisher.manifest.generation.saturating_add(1);
        next.next_file = self.numbers.peek();
        next.closed = None;
        next.allowed = self.expiry.allowed();
        next.namespaces = self.listed_namespaces();
        for folder in [Folder::Segments, Folder::Runs] {
            if planted(Mistake::SkipFolderSync) {
                break;
            }
            self.sync_folder(folder)?;
        }
        let before = self.version();
        let version = Arc::new(self.next_version(&before, next.clone())?);
        match manifest::write(&*self.disk, &next) {
            Ok(()) => {}
            Err(WriteError::BeforeRename(error)) => return Err(error),
            Err(WriteError::AfterRename(error)) => {
                self.wal.set_poison(&error);
                return Err(error);
            }
        }
        let generation = next.generation;
        let dropped = self.dropped_files(publisher, &next).into_iter();
        let with_bytes = |name| (name, self.bytes_of(name, &publisher.manifest));
        let mut files: Vec<_> = dropped.map(with_bytes).collect();
        let named = named_files(&next);
        let adopted = covers.into_iter().flat_map(|covers| &covers.adopted);
        files.extend(adopted.filter(|(name, _)| !named.contains(name)));
        publisher.manifest = next;
        self.install(version, covers.map(|covers| covers.cut));
        let at = self.clock.uptime();
        let (last_namer, next_file) = (Arc::downgrade(&before), before.manifest.next_file);
        let retired = Retired { last_namer, next_file, files, at, generation };
        self.retired.lock().push_back(retired);
        Ok(())
    }

    /// The same, with files that only `next` names: they are removed again if it does not become
    /// the manifest.
    pub(crate) fn publish_new(
        &self,
        publisher: &mut Publisher,
        next: Manifest,
        created: &[FileName],
        covers: Option<&Covers>,
    ) -> Result<()> {
        let published = self.publish_cut(publisher, next, covers);
        if published.is_err() && self.wal.poison().is_some() {
            return published;
        }
        let named = named_files(&publisher.manifest);
        for name in created.iter().filter(|name| !named.contains(name)) {
            let _ = self.remove_file(*name);
        }
        published
    }

    fn next_version(&self, before: &Version, next: Manifest) -> Result<Version> {
        let facts = next.segments.iter().map(|segment| &segment.facts);
        facts.for_each(|facts| before.segments.add(facts));
        let known: BTreeMap<FileNumber, Arc<Run>> = before
            .directory
            .runs()
            .iter()
            .chain(&before.names)
            .chain(&before.alarms)
            .chain(&before.adopted.runs())
            .map(|run| (run.facts().number, Arc::clone(run)))
            .collect();
        let open = |facts: &RunFacts| match known.get(&facts.number) {
            Some(run) => Ok(Arc::clone(run)),
            None => Run::open(&*self.disk, self.context.store, facts),
        };
        let of_use = |usage: RunUse| -> Result<Vec<_>> {
            next.runs.iter().filter(|facts| facts.usage == usage).map(open).collect()
        };
        let disk = Arc::clone(before.history.disk());
        Ok(Version {
            directory: Directory::new(of_use(RunUse::Directory)?),
            names: of_use(RunUse::Names)?,
            alarms: of_use(RunUse::Alarms)?,
            history: HistoryRuns::new(disk, &next, Some(&before.history)),
            segments: Arc::clone(&before.segments),
            cache: Arc::clone(&before.cache),
            adopted: Arc::clone(&before.adopted),
            manifest: next,
        })
    }

    fn dropped_files(&self, publisher: &mut Publisher, next: &Manifest) -> Vec<FileName> {
        let named = named_files(next);
        let mut dropped: Vec<_> = named_files(&publisher.manifest)
            .into_iter()
            .filter(|name| !named.contains(name))
            .collect();
        publisher.log_files.extend(self.wal.take_left_files());
        let kept = publisher.log_files.split_off(&next.replay.file);
        let done = std::mem::replace(&mut publisher.log_files, kept);
        dropped.extend(done.into_iter().map(FileName::Wal));
        dropped
    }

    /// Bytes of a file that this manifest, or the log before it, names.
    fn bytes_of(&self, name: FileName, manifest: &Manifest) -> u64 {
        let runs = || manifest.runs.iter().chain(manifest.history.iter().map(|file| &file.facts));
        let segments = || manifest.segments.iter().map(|segment| &segment.facts);
        match name {
            FileName::Wal(_) => self.options.wal_file_bytes,
            FileName::Segment(number) => {
                segments().find(|facts| facts.number == number).map_or(0, |facts| facts.bytes)
            }
            FileName::Run(number) => {
                runs().find(|facts| facts.number == number).map_or(0, |facts| facts.bytes)
            }
            FileName::Lock
            | FileName::AdminSocket
            | FileName::Manifest
            | FileName::ManifestTemporary => 0,
        }
    }

    /// Removes retired files whose time has come, or that together take too much. Readers in other
    /// processes find the newest manifest then. Says how many.
    pub fn remove_retired(&self) -> Result<usize> {
        self.remove_retired_of(0)
    }

    /// The same, and whatever manifests up to this generation have dropped, however young. What
    /// cannot be removed keeps nothing else from going, and is tried again by the next call.
    pub(super) fn remove_retired_of(&self, generation: u64) -> Result<usize> {
        let mut gone = BTreeSet::new();
        let mut failed = None;
        for name in self.due_files(self.clock.uptime(), generation) {
            match self.remove_file(name) {
                Ok(()) => drop(gone.insert(name)),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        self.retired.lock().retain_mut(|retired| {
            retired.files.retain(|(name, _)| !gone.contains(name));
            !retired.files.is_empty() || retired.is_held()
        });
        failed.map_or(Ok(gone.len()), Err)
    }

    /// The retired files that may go now, the oldest first.
    fn due_files(&self, now: Duration, generation: u64) -> Vec<FileName> {
        let most = RETIRED_PER_BUDGET * self.options.dirty_bytes as u64;
        let version = self.version();
        let retired = self.retired.lock();
        let mut free = Vec::new();
        // No version from before the last one that is held can name a file that it cannot name.
        let mut held = None;
        for of in &*retired {
            let is_held = of.is_held() && !planted(Mistake::RemoveHeld);
            held = if is_held { Some(of.next_file) } else { held };
            let is_free = |name: FileName| {
                held.is_none_or(|held| is_younger(name, held) && !version.adopted.are_in(name))
            };
            free.extend(of.files.iter().filter(|(name, _)| is_free(*name)).map(|file| (of, file)));
        }
        let mut bytes = total(free.iter().map(|(_, (_, bytes))| *bytes));
        free.retain(|(of, (_, file_bytes))| {
            let is_old = now.saturating_sub(of.at) >= self.options.retire_after;
            let is_due = is_old || of.generation <= generation || bytes > most;
            bytes = bytes.saturating_sub(if is_due { *file_bytes } else { 0 });
            is_due
        });
        free.into_iter().map(|(_, (name, _))| *name).collect()
    }

    pub(crate) fn remove_file(&self, name: FileName) -> Result<()> {
        match name {
            FileName::Segment(number) => self.version().segments.remove(number),
            FileName::Run(number) => self.version().adopted.remove(number),
            _ => {}
        }
        match self.disk.remove(name) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {name}"), cause))
            }
            _ => Ok(()),
        }
    }

    /// Makes the names in a folder durable. One that is lost may be told of once only, and not to
    /// who made it: nothing is promised after that.
    pub(super) fn sync_folder(&self, folder: Folder) -> Result<()> {
        self.disk.sync_folder(folder).map_err(|SyncFailed(cause)| {
            let error = Error::io("syncing a folder", cause);
            self.wal.set_poison(&error);
            error
        })
    }

    /// The first manifest of which a dropped file still waits to be removed.
    pub(super) fn oldest_retired(&self) -> Option<u64> {
        let retired = self.retired.lock();
        retired.iter().find(|retired| !retired.files.is_empty()).map(|oldest| oldest.generation)
    }

    /// Removes a file that no manifest ever named: later, if it cannot be removed now.
    pub(super) fn discard(&self, publisher: &Publisher, name: FileName) {
        if self.remove_file(name).is_ok() {
            return;
        }
        let (at, generation) = (self.clock.uptime(), publisher.manifest.generation);
        let (last_namer, next_file, files) = (Weak::new(), FileNumber(0), vec![(name, 0)]);
        let retired = Retired { last_namer, next_file, files, at, generation };
        self.retired.lock().push_back(retired);
    }

    /// Bytes of files that wait for their time to be removed.
    pub(super) fn retired_bytes(&self) -> u64 {
        let retired = self.retired.lock();
        total(retired.iter().flat_map(|retired| &retired.files).map(|(_, bytes)| *bytes))
    }

    /// Files that wait for their time to be removed.
    pub fn retired_files(&self) -> Vec<FileName> {
        let retired = self.retired.lock();
        retired.iter().flat_map(|retired| &retired.files).map(|(name, _)| *name).collect()
    }
}

/// Whether a version with this next file number cannot name a file; one of the log is named by
/// none.
fn is_younger(name: FileName, next_file: FileNumber) -> bool {
    match name {
        FileName::Segment(own) | FileName::Run(own) => own >= next_file,
        FileName::Wal(_) => true,
        FileName::Lock
        | FileName::AdminSocket
        | FileName::Manifest
        | FileName::ManifestTemporary => false,
    }
}

/// Segments and runs that a manifest names.
pub fn named_files(manifest: &Manifest) -> BTreeSet<FileName> {
    let segments = manifest.segments.iter().map(|segment| FileName::Segment(segment.facts.number));
    let runs = manifest.runs.iter().map(|facts| FileName::Run(facts.number));
    let history = manifest.history.iter().map(|file| FileName::Run(file.facts.number));
    segments.chain(runs).chain(history).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::SegmentState;
    use crate::format::page::SegmentFacts;
    use crate::ids::Lsn;

    #[test]
    fn what_waits_for_its_removal_is_counted_with_all_its_files() {
        let disk = Arc::new(crate::disk::sim::SimDisk::new(1));
        let options = crate::options::Options::default().threads(false);
        let engine = Engine::open(disk, options).unwrap();
        let before = engine.retired_bytes();
        for bytes in [5, 7] {
            let name = FileName::Segment(FileNumber(900 + bytes));
            let (at, next_file) = (engine.clock.uptime(), FileNumber(0));
            let files = vec![(name, bytes), (name, 100)];
            let last_namer = Weak::new();
            let retired = Retired { last_namer, next_file, files, at, generation: 0 };
            engine.retired.lock().push_back(retired);
        }
        assert_eq!(engine.retired_bytes(), before + 212);
    }

    #[test]
    fn a_segment_of_which_more_would_die_than_is_alive_stays() {
        let facts = SegmentFacts { number: FileNumber(7), bytes: 0, page_bytes: 0, pages: 0 };
        let (live_bytes, live_pages, written_at, generation) = (300, 2, Lsn(1), 0);
        let segment = SegmentState { facts, live_bytes, live_pages, written_at, generation };
        let before = Manifest { segments: vec![segment], ..Manifest::default() };
        let mut given_up = Liveness::default();
        for left in [Some(1), None, Some(2)] {
            given_up.remove(FileNumber(7), 150);
            let mut next = before.clone();
            given_up.apply(&mut next);
            assert_eq!(next.segments.first().map(|segment| segment.live_pages), left);
        }
        let mut bytes = Liveness::default();
        bytes.remove(FileNumber(7), 301);
        let mut next = before.clone();
        bytes.apply(&mut next);
        assert_eq!(next, before);
    }
}

//! Purge: the past of an object goes out of reach with one commit, and its bytes leave the files
//! in a step.
//!
//! Erasing goes through every kind of file. Pages first take in what the log says of the purges;
//! then the log moves on to a new file, so that every byte from before them lies in files behind
//! it, and a second checkpoint lets go of those. Segments are rewritten that hold a page of the
//! object, or that are packed with a dictionary of its namespace, which may have been trained on
//! it. All runs of each use become one, and each file of history that may hold the object is
//! written anew. Then the files that were replaced are removed, without the usual delay.
//!
//! Damage stops nothing but what it hides: whatever can be rewritten is, and a purge is stuck only
//! where a file remains that may hold something of it.
//!
//! Invariants:
//!   * Between the commit and the manifest that lists it, a purge stands in a layer of its object.
//!   * A purge counts as erased only once no file that may hold older bytes is left, and the
//!     folders that lost them are synced.
//!   * Nothing here stops commits; checkpoints wait for one batch of segments at the most.

use super::Engine;
use super::held::{concerned, held_by};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::manifest::{Manifest, Purge};
use crate::ids::{Address, FileNumber, Lsn};
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder};
use crate::object::retention::readable_from;
use crate::object::write_set::WriteSet;
use crate::wal::group_commit::Grant;
use std::collections::{BTreeMap, BTreeSet};

use super::publish::Publisher;

/// What erasing has come to in this life of the store.
#[derive(Debug, Default)]
pub struct Erasing {
    /// Purges of which only files are left that manifests up to this generation have dropped.
    rewritten: BTreeMap<Purge, u64>,
    /// Purges that damage keeps from being erased, and where: the next open tries them again.
    stuck: BTreeMap<Purge, Error>,
}

/// Purges of which something is left in a file, and why.
pub(super) type Left = BTreeMap<Purge, Error>;

impl Engine {
    /// Ends an object's life and puts everything before out of reach. Open handles lose their
    /// right to it.
    pub fn purge(&self, address: Address) -> Result<Grant> {
        let changes = WriteSet::purge(&self.options.limits)?;
        self.commit_from_outside(address, changes)
    }

    /// The last commit that purged an object, if one did. Reads nothing from the disk.
    pub fn last_purge(&self, address: Address) -> Option<Lsn> {
        // Before the version: a checkpoint publishes it first, and then drops the layer.
        let object = self.table.get(&address);
        let layers = object.map(|object| object.inner.lock().layers.clone()).unwrap_or_default();
        let committed = layers.iter().filter_map(|layer| layer.purged).max();
        let version = self.version();
        committed.max(version.manifest.purge_of(address).map(|purge| purge.lsn))
    }

    /// Commits changes of an object that no handle of it asks for, and fences its open handle.
    pub fn commit_from_outside(&self, address: Address, changes: WriteSet) -> Result<Grant> {
        self.check_alive()?;
        let ended = self.with_object(address, |state, inner| {
            let grant = self.commit(state, inner, changes)?;
            inner.fence += 1;
            inner.is_open = false;
            Ok(grant)
        });
        self.tell();
        ended
    }

    /// Whether a handle is open on an object at this moment.
    pub fn has_handle(&self, address: Address) -> bool {
        self.table.get(&address).is_some_and(|object| object.inner.lock().is_open)
    }

    /// Whether a purge waits to be erased.
    pub fn wants_erase(&self) -> bool {
        let version = self.version();
        let mut purged = version.manifest.purged.iter();
        let erasing = self.erasing.lock();
        let is_open = purged.any(|purge| !purge.erased && !erasing.stuck.contains_key(purge));
        drop(erasing);
        is_open || self.has_purge_behind(version.manifest.cut)
    }

    /// Whether a purge is in the log alone, pages having been written up to this cut.
    fn has_purge_behind(&self, cut: Lsn) -> bool {
        self.wal.with_companion(|dirty| dirty.last_purge > cut)
    }

    /// Removes the bytes of purged objects from all files. Says whether a purge became erased:
    /// files that a snapshot still reads are removed by a later call. Fails with `purge.stuck`
    /// when damage keeps a purge from being erased, after all others were.
    ///
    /// Reads every segment once and rewrites those concerned, and all runs.
    pub fn erase(&self) -> Result<bool> {
        let mut failed = None;
        if self.wants_erase() {
            let purges = self.purges_to_rewrite()?;
            if !purges.is_empty() {
                failed = self.rewrite(&purges)?;
            }
        }
        let is_erased = self.note_erased()?;
        let is_stuck = || self.erasing.lock().stuck.values().next().cloned();
        match failed.or_else(|| if is_erased { None } else { is_stuck() }) {
            Some(error) => Err(error),
            None => Ok(is_erased),
        }
    }

    /// Has pages hold what the log says of purges, then moves the log out of the way. Says which
    /// purges are in the manifest now, with nothing of them in the log, and in other files still.
    fn purges_to_rewrite(&self) -> Result<Vec<Purge>> {
        let mut publisher = self.publisher.lock();
        let is_new = self.has_purge_behind(publisher.manifest.cut);
        if !is_new && self.unwritten(&publisher.manifest).is_empty() {
            return Ok(Vec::new());
        }
        self.checkpoint_everything(&mut publisher)?;
        // These are durable, and so is all that was committed before them: none of it can come
        // into the file that the log goes on in. Of a purge that comes later it can.
        let purges = self.unwritten(&publisher.manifest);
        let file = self.wal.leave_file()?;
        self.checkpoint_everything(&mut publisher)?;
        self.move_replay(&mut publisher)?;
        if publisher.manifest.replay.file < file {
            // A long commit under way holds the log's files.
            return Ok(Vec::new());
        }
        // Under the publisher lock, so that no segment is under way that uses an older one.
        let mut dictionaries = self.dictionaries.lock();
        for purge in &purges {
            dictionaries.remove(&purge.address.namespace);
        }
        Ok(purges)
    }

    /// Has pages hold every commit so far: those behind a cut that is open already, too.
    pub(super) fn checkpoint_everything(&self, publisher: &mut Publisher) -> Result<()> {
        if publisher.open_cut.is_some() {
            self.checkpoint_as(publisher)?;
        }
        self.checkpoint_as(publisher).map(drop)
    }

    /// Purges that no rewriting has dealt with.
    fn unwritten(&self, manifest: &Manifest) -> Vec<Purge> {
        let erasing = self.erasing.lock();
        let is_known = |purge: &Purge| {
            erasing.stuck.contains_key(purge) || erasing.rewritten.contains_key(purge)
        };
        let open = manifest.purged.iter().filter(|purge| !purge.erased && !is_known(purge));
        open.copied().collect()
    }

    /// Writes every file anew that may hold bytes of these objects, past what cannot be. Says why
    /// something is left of one of them, if so.
    fn rewrite(&self, purges: &[Purge]) -> Result<Option<Error>> {
        let mut left = self.rewrite_segments(purges)?;
        match self.merge_all() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                left.extend(purges.iter().map(|purge| (*purge, error.clone())));
            }
            merged => merged?,
        }
        self.erase_history(purges, &mut left)?;
        let generation = self.version().manifest.generation;
        let mut erasing = self.erasing.lock();
        let done = purges.iter().filter(|purge| !left.contains_key(purge));
        erasing.rewritten.extend(done.map(|purge| (*purge, generation)));
        let failed = left.values().next().cloned();
        // What failed for another reason is tried again.
        left.retain(|_, error| error.kind() == ErrorKind::Corrupt);
        erasing.stuck.extend(left);
        Ok(failed)
    }

    /// Moves what is live out of every segment that may hold bytes of these objects.
    fn rewrite_segments(&self, purges: &[Purge]) -> Result<Left> {
        let mut victims = concerned(&self.version(), purges, || self.check_wanted())?;
        let mut stay = BTreeMap::new();
        while !victims.is_empty() {
            self.check_wanted()?;
            let mut publisher = self.publisher.lock();
            let batch = self.take_batch(&publisher.manifest, &mut victims);
            if batch.is_empty() {
                continue;
            }
            let failed = match self.clean_victims(&mut publisher, &batch) {
                // Those of other batches may be readable.
                Err(error) if error.kind() == ErrorKind::Io => Some(error),
                unread => unread?,
            };
            let segments = publisher.manifest.segments.iter().map(|segment| segment.facts.number);
            let stuck = segments.filter(|number| batch.contains(number));
            stay.extend(stuck.map(|number| (number, failed.clone())));
        }
        let mut left = Left::new();
        for (number, failed) in stay {
            let (held, error) = match (held_by(&self.version(), number, purges), failed) {
                (Ok(held), Some(error)) => (held, error),
                (Ok(held), None) => (held, stuck(FileName::Segment(number))),
                (Err(error), _) => (purges.to_vec(), error),
            };
            left.extend(held.into_iter().map(|purge| (purge, error.clone())));
        }
        Ok(left)
    }

    /// Some of `left`, as many as one step of cleaning takes; what is gone already is left out.
    fn take_batch(&self, manifest: &Manifest, left: &mut Vec<FileNumber>) -> BTreeSet<FileNumber> {
        let mut budget = self.options.clean_bytes;
        let mut batch = BTreeSet::new();
        while let Some(number) = left.pop() {
            let mut segments = manifest.segments.iter();
            let Some(segment) = segments.find(|segment| segment.facts.number == number) else {
                continue;
            };
            if segment.live_bytes > budget && !batch.is_empty() {
                left.push(number);
                break;
            }
            budget = budget.saturating_sub(segment.live_bytes);
            batch.insert(number);
        }
        batch
    }

    /// Enters as erased what has no file left; removes the files that it can.
    fn note_erased(&self) -> Result<bool> {
        let newest = self.erasing.lock().rewritten.values().copied().max();
        let Some(newest) = newest else { return Ok(false) };
        self.remove_retired_of(newest)?;
        // Before the folders are synced: what is removed after that is not gone for sure.
        let waiting = self.oldest_retired();
        let is_gone = |generation: u64| waiting.is_none_or(|waiting| generation < waiting);
        let rewritten = self.erasing.lock().rewritten.clone();
        let gone = rewritten.into_iter().filter(|(_, generation)| is_gone(*generation));
        let gone: BTreeSet<Purge> = gone.map(|(purge, _)| purge).collect();
        if gone.is_empty() {
            return Ok(false);
        }
        for folder in Folder::ALL {
            self.sync_folder(folder)?;
        }
        let mut publisher = self.publisher.lock();
        let mut next = publisher.manifest.clone();
        enter_erased(&mut next, &gone);
        forget_purges(&mut next);
        let is_changed = next != publisher.manifest;
        if is_changed {
            self.publish(&mut publisher, next)?;
            mark(Mark::PurgeErased);
        }
        drop(publisher);
        self.erasing.lock().rewritten.retain(|purge, _| !gone.contains(purge));
        Ok(is_changed)
    }
}

/// A file that may hold bytes of purged objects and that stays.
#[cold]
pub(super) fn stuck(file: FileName) -> Error {
    let what = "a damaged file may hold bytes of a purged object and cannot be written anew";
    Error::corrupt("purge.stuck", what, Place::new(file, 0))
}

/// Enters purges into a manifest, each in the place of an earlier one of the same object.
pub(super) fn enter_purges(manifest: &mut Manifest, purges: &BTreeMap<Address, Lsn>) {
    if purges.is_empty() {
        return;
    }
    manifest.purged.retain(|old| !purges.contains_key(&old.address));
    let new = purges.iter().map(|(address, lsn)| (*address, *lsn));
    manifest.purged.extend(new.map(|(address, lsn)| Purge { address, lsn, erased: false }));
    // Two sorted lists, one behind the other, are joined in one pass.
    manifest.purged.sort_by_key(|purge| purge.address);
}

/// Enters that these are erased. One that a later purge of its object has replaced is not in the
/// manifest any more.
fn enter_erased(manifest: &mut Manifest, gone: &BTreeSet<Purge>) {
    for own in manifest.purged.iter_mut().filter(|own| gone.contains(own)) {
        own.erased = true;
    }
}

/// Forgets purges that are erased and that no readable moment is before: expiry says as much.
pub(super) fn forget_purges(manifest: &mut Manifest) {
    let is_asked = |purge: &Purge| {
        let from = readable_from(manifest, purge.address.namespace);
        !purge.erased || from.is_some_and(|from| from < purge.lsn)
    };
    let kept = manifest.purged.iter().filter(|purge| is_asked(purge)).copied().collect();
    manifest.purged = kept;
}

//! Purge: the past of an object goes out of reach with one commit, and its bytes leave the files
//! in a step.
//!
//! Erasing goes through every kind of file. The log moves on to a new file and a checkpoint lets go
//! of those before it. Segments are rewritten that hold a page of the object, or that are packed
//! with a dictionary of its namespace, which may have been trained on it. All runs of each use
//! become one, and each file of history that may hold the object is written anew. Then the files
//! that were replaced are removed, without the usual delay.
//!
//! Invariants:
//!   * Between the commit and the manifest that lists it, a purge stands in a layer of its object.
//!   * A purge counts as erased only once no file that may hold older bytes is left, and the
//!     folders that lost them are synced.
//!   * Nothing here stops commits; checkpoints wait for one batch of segments at the most.

use super::Engine;
use crate::disk::SyncFailed;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::manifest::{Manifest, Purge};
use crate::ids::{Address, FileNumber, Lsn, NamespaceNumber};
use crate::names::{FileName, Folder};
use crate::object::retention::readable_from;
use crate::object::version::Version;
use crate::object::write_set::WriteSet;
use crate::wal::group_commit::Grant;
use std::collections::BTreeSet;

/// What erasing has come to in this life of the store.
#[derive(Debug, Default)]
pub struct Erasing {
    /// Purges of which only files are left that manifests up to this generation have dropped.
    rewritten: Vec<(Purge, u64)>,
    /// Purges that damage keeps from being erased: the next open tries them again.
    stuck: Vec<Purge>,
}

impl Engine {
    /// Ends an object's life and puts everything before out of reach. Open handles lose their
    /// right to it.
    pub fn purge(&self, address: Address) -> Result<Grant> {
        let changes = WriteSet::purge(&self.options.limits)?;
        self.commit_from_outside(address, changes)
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

    /// Whether a purge waits to be erased.
    pub fn wants_erase(&self) -> bool {
        let version = self.version();
        let mut purged = version.manifest.purged.iter();
        let erasing = self.erasing.lock();
        let is_open = purged.any(|purge| !purge.erased && !erasing.stuck.contains(purge));
        drop(erasing);
        is_open || self.wal.with_companion(|dirty| dirty.has_purge)
    }

    /// Removes the bytes of purged objects from all files. Says whether a purge became erased:
    /// files that a snapshot still reads are removed by a later call.
    ///
    /// Reads every segment once and rewrites those concerned, and all runs.
    pub fn erase(&self) -> Result<bool> {
        if !self.wants_erase() {
            return Ok(false);
        }
        let purges = self.purges_to_rewrite()?;
        if !purges.is_empty() {
            let rewritten = self.rewrite_segments(&purges).and_then(|()| self.merge_all());
            let rewritten = rewritten.and_then(|()| self.erase_history(&purges));
            let generation = self.version().manifest.generation;
            let mut erasing = self.erasing.lock();
            match rewritten {
                Ok(()) => erasing.rewritten.extend(purges.iter().map(|purge| (*purge, generation))),
                Err(error) => {
                    if error.kind() == ErrorKind::Corrupt {
                        erasing.stuck.extend(purges);
                    }
                    return Err(error);
                }
            }
        }
        self.note_erased()
    }

    /// Moves the log out of the way, and says which purges are in the manifest now and in files
    /// still.
    fn purges_to_rewrite(&self) -> Result<Vec<Purge>> {
        let mut publisher = self.publisher.lock();
        let has_more = self.wal.with_companion(|dirty| dirty.has_purge);
        if !has_more && self.unwritten(&publisher.manifest).is_empty() {
            return Ok(Vec::new());
        }
        let file = self.wal.leave_file()?;
        self.checkpoint_as(&mut publisher)?;
        self.move_replay(&mut publisher)?;
        if publisher.manifest.replay.file < file {
            // A long commit under way holds the log's files, or an earlier cut was still open.
            return Ok(Vec::new());
        }
        let purges = self.unwritten(&publisher.manifest);
        // Under the publisher lock, so that no segment is under way that uses an older one.
        let mut dictionaries = self.dictionaries.lock();
        for purge in &purges {
            dictionaries.remove(&purge.address.namespace);
        }
        Ok(purges)
    }

    /// Purges that no rewriting has dealt with.
    fn unwritten(&self, manifest: &Manifest) -> Vec<Purge> {
        let erasing = self.erasing.lock();
        let is_known = |purge: &Purge| {
            let mut rewritten = erasing.rewritten.iter();
            erasing.stuck.contains(purge) || rewritten.any(|(known, _)| known == purge)
        };
        let open = manifest.purged.iter().filter(|purge| !purge.erased && !is_known(purge));
        open.copied().collect()
    }

    /// Moves what is live out of every segment that may hold bytes of these objects.
    fn rewrite_segments(&self, purges: &[Purge]) -> Result<()> {
        let victims = concerned(&self.version(), purges)?;
        let mut left: Vec<FileNumber> = victims.into_iter().collect();
        while !left.is_empty() {
            let mut publisher = self.publisher.lock();
            let batch = self.take_batch(&publisher.manifest, &mut left);
            if !batch.is_empty() {
                self.clean_victims(&mut publisher, &batch)?;
            }
            let segments = &publisher.manifest.segments;
            let stuck = segments.iter().find(|segment| batch.contains(&segment.facts.number));
            if let Some(segment) = stuck {
                let what = "a damaged segment holds bytes of a purged object and cannot be emptied";
                let place = Place::new(FileName::Segment(segment.facts.number), 0);
                return Err(Error::corrupt("purge.stuck", what, place));
            }
        }
        Ok(())
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
        let newest = self.erasing.lock().rewritten.iter().map(|(_, generation)| *generation).max();
        let Some(newest) = newest else { return Ok(false) };
        self.remove_retired_of(newest)?;
        for folder in Folder::ALL {
            let synced = self.disk.sync_folder(folder);
            synced.map_err(|SyncFailed(cause)| Error::io("syncing a folder", cause))?;
        }
        let mut publisher = self.publisher.lock();
        let mut next = publisher.manifest.clone();
        let mut erasing = self.erasing.lock();
        let is_gone = |(_, generation): &(Purge, u64)| !self.has_retired_of(*generation);
        // One that a later purge of its object has replaced is not in the manifest any more.
        for (gone, _) in erasing.rewritten.iter().filter(|item| is_gone(item)) {
            next.purged.iter_mut().filter(|own| *own == gone).for_each(|own| own.erased = true);
        }
        forget_purges(&mut next);
        let is_changed = next != publisher.manifest;
        if is_changed {
            self.publish(&mut publisher, next)?;
        }
        erasing.rewritten.retain(|item| !is_gone(item));
        Ok(is_changed)
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

/// Segments with a page of one of these objects, or with a page that a dictionary of its namespace
/// packs. The purged lives themselves are dead, so most of what is found is about to be rewritten
/// for its neighbours' sake.
fn concerned(version: &Version, purges: &[Purge]) -> Result<BTreeSet<FileNumber>> {
    let objects: BTreeSet<(Address, Lsn)> = purges.iter().map(|p| (p.address, p.lsn)).collect();
    let namespaces: BTreeSet<NamespaceNumber> =
        purges.iter().map(|purge| purge.address.namespace).collect();
    let mut found = BTreeSet::new();
    for segment in &version.manifest.segments {
        let number = segment.facts.number;
        for page in version.segments.scan(number)? {
            let page = page?;
            let address = page.meta.address;
            let mut own = objects.range((address, Lsn::ZERO)..=(address, Lsn(u64::MAX)));
            let is_old = own.any(|(_, lsn)| page.meta.exact_at < *lsn);
            let is_packed = page.dictionary != 0 && namespaces.contains(&address.namespace);
            if is_old || is_packed {
                found.insert(number);
                break;
            }
        }
    }
    Ok(found)
}

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
//! where a file remains that may hold something of it. What may pass is tried again, for these
//! files alone, and the longer after the more often it failed.
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
use crate::planted::{Mistake, planted};
use crate::wal::group_commit::Grant;
use std::collections::{BTreeMap, BTreeSet};

use super::patience::Patience;
use super::publish::Publisher;

/// What erasing has come to in this life of the store.
#[derive(Debug, Default)]
pub struct Erasing {
    /// Purges of which only files are left that manifests up to this generation have dropped.
    rewritten: BTreeMap<Purge, u64>,
    /// Purges of which something is left in files that could not be written anew.
    left: Left,
    /// Purges that could not be dealt with: threads let them be for a time.
    patience: Patience<Purge>,
}

/// Purges of which something is left, and what of each.
pub(super) type Left = BTreeMap<Purge, Rest>;

/// What keeps a purge from being erased: all else has been written anew.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    error: Error,
    /// Segments that hold something of it, or may.
    segments: BTreeSet<FileNumber>,
    in_runs: bool,
    in_history: bool,
}

impl Rest {
    fn new(error: Error) -> Self {
        Self { error, segments: BTreeSet::new(), in_runs: false, in_history: false }
    }

    /// Whether the next open is the next to try: what is damaged stays so.
    fn is_for_good(&self) -> bool {
        self.error.kind() == ErrorKind::Corrupt && !self.error.is_unreadable()
    }
}

/// What is noted to be left of a purge; the error that may pass counts.
fn rest_of(left: &mut Left, purge: Purge, error: Error) -> &mut Rest {
    let rest = left.entry(purge).or_insert_with(|| Rest::new(error.clone()));
    if rest.is_for_good() {
        rest.error = error;
    }
    rest
}

/// History keeps something of a purge.
pub(super) fn leave_in_history(left: &mut Left, purge: Purge, error: Error) {
    rest_of(left, purge, error).in_history = true;
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
            state.raise_fence(inner);
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

    /// Whether a purge waits to be erased, and is not let be for a time.
    pub fn wants_erase(&self) -> bool {
        let (version, now) = (self.version(), self.clock.uptime());
        let mut purged = version.manifest.purged.iter();
        let erasing = self.erasing.lock();
        let is_open = purged.any(|purge| {
            let is_stuck = erasing.left.get(purge).is_some_and(Rest::is_for_good);
            !purge.erased && !is_stuck && !erasing.patience.waits(purge, now)
        });
        drop(erasing);
        is_open || self.has_purge_behind(version.manifest.cut)
    }

    /// Whether a purge is in the log alone, pages having been written up to this cut.
    fn has_purge_behind(&self, cut: Lsn) -> bool {
        self.wal.with_companion(|dirty| dirty.last_purge > cut)
    }

    /// Removes the bytes of purged objects from all files. Says whether a purge became erased:
    /// files that a snapshot or a merge still reads are removed by a later call. Fails with
    /// `purge.stuck` when damage keeps a purge from being erased, after all others were.
    ///
    /// Reads every segment once and rewrites those concerned, and all runs. What cannot be done is
    /// tried again by the next call, and nothing else is.
    pub fn erase(&self) -> Result<bool> {
        self.erase_those(|_, _| true)
    }

    /// The same for a thread, which lets be for a time what has failed.
    pub fn erase_what_is_due(&self) -> Result<bool> {
        let now = self.clock.uptime();
        self.erase_those(|erasing, purge| !erasing.patience.waits(purge, now))
    }

    fn erase_those(&self, is_due: impl Fn(&Erasing, &Purge) -> bool) -> Result<bool> {
        let fresh = self.purges_to_rewrite(&is_due)?;
        let again = self.purges_to_try_again(is_due);
        let failed =
            if fresh.is_empty() && again.is_empty() { None } else { self.rewrite(&fresh, &again)? };
        let is_erased = self.note_erased()?;
        let is_stuck = || {
            let erasing = self.erasing.lock();
            erasing.left.values().next().map(|rest| rest.error.clone())
        };
        match failed.or_else(|| if is_erased { None } else { is_stuck() }) {
            Some(error) => Err(error),
            None => Ok(is_erased),
        }
    }

    /// Has pages hold what the log says of purges, then moves the log out of the way. Says which
    /// purges are in the manifest now, with nothing of them in the log, and in other files still.
    fn purges_to_rewrite(&self, is_due: impl Fn(&Erasing, &Purge) -> bool) -> Result<Vec<Purge>> {
        let mut publisher = self.publisher.lock();
        let is_new = self.has_purge_behind(publisher.manifest.cut);
        if !is_new && self.unwritten(&publisher.manifest, &is_due).is_empty() {
            return Ok(Vec::new());
        }
        self.checkpoint_everything(&mut publisher)?;
        // These are durable, and so is all that was committed before them: none of it can come
        // into the file that the log goes on in. Of a purge that comes later it can.
        let purges = self.unwritten(&publisher.manifest, is_due);
        if planted(Mistake::LeaveInLog) {
            return Ok(purges);
        }
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
    fn unwritten(
        &self,
        manifest: &Manifest,
        is_due: impl Fn(&Erasing, &Purge) -> bool,
    ) -> Vec<Purge> {
        let erasing = self.erasing.lock();
        let is_known = |purge: &Purge| {
            erasing.left.contains_key(purge) || erasing.rewritten.contains_key(purge)
        };
        let is_open = |purge: &&Purge| !purge.erased && !is_known(purge) && is_due(&erasing, purge);
        manifest.purged.iter().filter(is_open).copied().collect()
    }

    /// Purges of which something is left that may go now. Forgets those that later ones of their
    /// objects have replaced.
    fn purges_to_try_again(&self, is_due: impl Fn(&Erasing, &Purge) -> bool) -> Left {
        let version = self.version();
        let is_there = |purge: &Purge| version.manifest.purge_of(purge.address) == Some(purge);
        let mut erasing = self.erasing.lock();
        erasing.left.retain(|purge, _| is_there(purge));
        erasing.patience.keep_only(is_there);
        let may_go =
            |(purge, rest): &(&Purge, &Rest)| !rest.is_for_good() && is_due(&erasing, purge);
        let again = erasing.left.iter().filter(may_go);
        again.map(|(purge, rest)| (*purge, rest.clone())).collect()
    }

    /// Writes every file anew that may hold bytes of these objects, past what cannot be: of those
    /// that it is tried `again` for, what was left. Says why something is left of one of them, if
    /// so.
    fn rewrite(&self, fresh: &[Purge], again: &Left) -> Result<Option<Error>> {
        let tried: BTreeSet<Purge> = fresh.iter().chain(again.keys()).copied().collect();
        let rewritten = self.rewrite_all(fresh, again);
        let (generation, now) = (self.version().manifest.generation, self.clock.uptime());
        let mut erasing = self.erasing.lock();
        let left = match rewritten {
            Ok(left) => left,
            Err(error) => {
                if may_go_on(&error) {
                    for purge in tried {
                        erasing.patience.note_failed(purge, now);
                    }
                }
                return Err(error);
            }
        };
        let failed = left.values().next().map(|rest| rest.error.clone());
        for purge in tried {
            if left.contains_key(&purge) {
                erasing.patience.note_failed(purge, now);
            } else {
                erasing.left.remove(&purge);
                erasing.rewritten.insert(purge, generation);
            }
        }
        erasing.left.extend(left);
        let Erasing { patience, left, .. } = &mut *erasing;
        patience.keep_only(|purge| left.contains_key(purge));
        Ok(failed)
    }

    fn rewrite_all(&self, fresh: &[Purge], again: &Left) -> Result<Left> {
        let with = |is_wanted: fn(&Rest) -> bool| -> Vec<Purge> {
            let again = again.iter().filter(|(_, rest)| is_wanted(rest));
            fresh.iter().chain(again.map(|(purge, _)| purge)).copied().collect()
        };
        let mut left = Left::new();
        let check = || self.check_wanted();
        let mut victims: BTreeSet<FileNumber> =
            again.values().flat_map(|rest| rest.segments.iter().copied()).collect();
        if !fresh.is_empty() {
            victims.extend(concerned(&self.version(), fresh, check)?);
        }
        let in_segments = with(|rest| !rest.segments.is_empty());
        self.rewrite_segments(victims.into_iter().collect(), &in_segments, &mut left)?;
        let in_runs = with(|rest| rest.in_runs);
        if !in_runs.is_empty() {
            match self.merge_all() {
                Err(error) if may_go_on(&error) => {
                    let purges = in_runs.iter();
                    purges
                        .for_each(|purge| rest_of(&mut left, *purge, error.clone()).in_runs = true);
                }
                merged => merged?,
            }
        }
        self.erase_history(&with(|rest| rest.in_history), &mut left)?;
        Ok(left)
    }

    /// Moves what is live out of these segments, which may hold bytes of these objects.
    fn rewrite_segments(
        &self,
        mut victims: Vec<FileNumber>,
        purges: &[Purge],
        left: &mut Left,
    ) -> Result<()> {
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
                Err(error) if may_go_on(&error) => Some(error),
                unread => unread?,
            };
            let segments = publisher.manifest.segments.iter().map(|segment| segment.facts.number);
            let stuck = segments.filter(|number| batch.contains(number));
            stay.extend(stuck.map(|number| (number, failed.clone())));
        }
        for (number, failed) in stay {
            let (held, error) = match (held_by(&self.version(), number, purges), failed) {
                (Ok(held), Some(error)) => (held, error),
                (Ok(held), None) => (held, stuck(FileName::Segment(number))),
                (Err(error), _) => (purges.to_vec(), error),
            };
            for purge in held {
                rest_of(left, purge, error.clone()).segments.insert(number);
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
        let newest = self.erasing.lock().rewritten.values().copied().max();
        let Some(newest) = newest else { return Ok(false) };
        let nobody_writes = self.rewriting.try_write();
        if nobody_writes.is_none() && !planted(Mistake::EraseWhileWriting) {
            return Ok(false);
        }
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

/// Whether an error says nothing of other files.
pub(super) fn may_go_on(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::Full)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Damage, SimDisk};
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind, NamespaceNumber, ShortId};
    use crate::object::write_set::WriteSet;
    use crate::options::Options;
    use std::sync::Arc;
    use std::time::Duration;

    fn put(engine: &Engine, id: u8) -> Address {
        let address = Address { namespace: NamespaceNumber(1), id: ShortId([id; 16]) };
        let mut changes = WriteSet::new();
        let (key, value) = (&[KeyKind::User as u8, b'k'], &[id; 2_000]);
        let put = Operation::Put { key, codec: Codec::Raw, value };
        changes.push(&engine.options.limits, &put).unwrap();
        let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
        engine.with_object(address, commit).unwrap();
        address
    }

    #[test]
    fn a_purge_that_a_sector_keeps_waits_longer_each_time_and_does_nothing_twice() {
        let disk = SimDisk::new(1);
        let options = Options::default().threads(false);
        let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
        let (purged, other) = (put(&engine, 1), put(&engine, 2));
        engine.checkpoint().unwrap();
        let head = engine.version().head(other).unwrap().unwrap();
        let at = head.page.unwrap().base.unwrap().location;
        let (name, sector) = (FileName::Segment(at.file), at.offset / 512 + 1);
        disk.damage(name, Damage::Unreadable(sector)).unwrap();
        engine.purge(purged).unwrap();
        assert_eq!(engine.erase_what_is_due().unwrap_err().code(), "page.unreadable");
        let before = (disk.names(), engine.version().manifest.runs.clone());
        for wait in [1, 2, 4, 8] {
            assert!(!engine.wants_erase(), "it is let be");
            engine.clock.sleep(Duration::from_millis(wait * 1_000 - 100));
            assert!(!engine.wants_erase(), "for {wait} s");
            engine.clock.sleep(Duration::from_millis(100));
            assert!(engine.wants_erase());
            assert_eq!(engine.erase_what_is_due().unwrap_err().code(), "page.unreadable");
            let now = (disk.names(), engine.version().manifest.runs.clone());
            assert_eq!(now.1, before.1, "runs have been written anew");
            assert!(now.0.contains(&name));
        }
        disk.damage(name, Damage::Readable(sector)).unwrap();
        assert!(engine.erase().unwrap());
        assert!(!engine.wants_erase() && !disk.names().contains(&name));
    }
}

//! Checkpoint: what was committed before a cut goes from layers into pages, and nobody stops.
//!
//! 1. The cut is chosen in the critical section that orders commits.
//! 2. The log becomes durable up to it.
//! 3. Each object on the dirty list is locked once and its layers before the cut are taken; later
//!    commits open new layers.
//! 4. Pages and directory entries are written, in key order.
//! 5. All of it is published at once.
//! 6. Each object drops the layers that its pages now hold.
//!
//! Invariants:
//!   * The objects on the list, with their layers before the cut, are all that the cut adds to the
//!     pages: a commit puts its object on the list in the critical section that orders it.
//!   * A failure before the manifest's rename leaves the cut open: the same list is tried again.

use super::Engine;
use super::build::Builder;
use super::publish::{Covers, Publisher};
use crate::error::Result;
use crate::format::alarm::Hint;
use crate::format::manifest::Manifest;
use crate::ids::{Address, Lsn};
use crate::marks::{Mark, mark};
use crate::object::ObjectState;
use crate::object::overlay::Layer;
use crate::object::version::Version;
use crate::planted::{Mistake, planted};
use crate::wal::cut::Cut;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::OBJECT_OVERHEAD_BYTES;
use super::purge::enter_purges;

/// Objects whose changes are fetched from memory together.
const BATCH: usize = 16;

/// A cut that was chosen and not yet published.
#[derive(Debug)]
pub struct OpenCut {
    cut: Cut,
    /// Layers up to this number are before it.
    number: u64,
    objects: Vec<Arc<ObjectState>>,
    /// Record bytes since the cut before.
    record_bytes: u64,
    /// Hints that mean no alarm any more.
    stale: Vec<Hint>,
}

/// An object's changes up to a cut, as one layer.
#[derive(Clone, Debug)]
struct Frozen {
    object: Arc<ObjectState>,
    layer: Arc<Layer>,
    /// What the new head says of it: the builder may find the object empty.
    deleted: bool,
}

impl Engine {
    /// Writes what was committed up to now into pages and publishes them. Says whether there was
    /// anything to write.
    pub fn checkpoint(&self) -> Result<bool> {
        self.checkpoint_as(&mut self.publisher.lock())
    }

    /// The same, for whoever is the publisher. The cut is given up only when it is published: not
    /// by an error, and not by a panic either.
    pub(super) fn checkpoint_as(&self, publisher: &mut Publisher) -> Result<bool> {
        self.check_alive()?;
        let open = match &publisher.open_cut {
            Some(open) => {
                mark(Mark::CheckpointRetried);
                Arc::clone(open)
            }
            None => Arc::new(self.choose_cut()),
        };
        if open.objects.is_empty() {
            self.wal.count_covered(&open.cut);
            return Ok(false);
        }
        publisher.open_cut = Some(Arc::clone(&open));
        self.write_cut(publisher, &open)?;
        publisher.open_cut = None;
        self.wal.count_covered(&open.cut);
        Ok(true)
    }

    fn choose_cut(&self) -> OpenCut {
        // Before the cut: who found a hint stale had seen the commit that made it so, which is thus
        // before the cut too, and durable before the hint is taken back.
        let stale = self.alarms.stale();
        let (cut, (number, record_bytes, objects)) = self.wal.cut(|dirty| {
            let number = dirty.cut;
            dirty.cut += 1;
            let record_bytes = std::mem::take(&mut dirty.record_bytes);
            (number, record_bytes, std::mem::take(&mut dirty.objects))
        });
        OpenCut { cut, number, objects, record_bytes, stale }
    }

    fn write_cut(&self, publisher: &mut Publisher, open: &OpenCut) -> Result<()> {
        // Whoever is waited for here may be held back, with the locks that are wanted.
        let hurry = self.wal.hurry();
        if !planted(Mistake::CheckpointEarly) {
            self.wal.wait(open.cut.lsn)?;
        }
        let mut frozen = freeze(open);
        let version = self.version();
        let classes = self.class_plan(&publisher.manifest, open.cut.lsn);
        drop(hurry);
        let mut builder = Builder::new(self, &version, open.cut.lsn, 0);
        builder.archive.begin_classes(&classes.first);
        for batch in in_key_order(&frozen).chunks(BATCH) {
            touch(batch, &frozen);
            for (address, place) in batch {
                let changes = &mut frozen[*place as usize];
                builder.find_again(*address, &mut changes.layer)?;
                changes.deleted = builder.add(*address, &changes.layer)?;
            }
        }
        builder.take_back(&still_in_runs(&version, &open.stale));
        let mut next = publisher.manifest.clone();
        next.classes.extend(&classes.first);
        let covered = std::mem::take(&mut builder.covered);
        let created = builder.finish(&mut next, open.cut.time)?;
        next.cut = open.cut.lsn;
        next.cut_time = open.cut.time;
        next.replay = self.wal.replay_point(&open.cut);
        enter_purges(&mut next, &purges_of(&frozen));
        self.note_term(&mut next, open.cut.lsn);
        next.classes.extend(&classes.then);
        if !classes.then.is_empty() {
            mark(Mark::ClassChanged);
        }
        let wants_end = !classes.then.is_empty() || self.wants_epoch_end();
        let ends_epoch = self.turn_epoch(&mut next, open.record_bytes, wants_end);
        if planted(Mistake::DropLayersEarly) {
            self.drop_frozen(open.number, frozen.clone());
        }
        let covers = Covers { cut: open.number, adopted: covered };
        self.publish_new(publisher, next, &created, Some(&covers))?;
        self.note_classes(&classes, ends_epoch);
        self.alarms.forget_stale(&open.stale);
        self.drop_frozen(open.number, frozen);
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of log files with nothing in them that pages do not hold: replay will begin in the
    /// present one. Without it, each open of a store that is only read would leave a file behind.
    pub(super) fn move_replay(&self, publisher: &mut Publisher) -> Result<()> {
        let (cut, is_clean) = self.wal.cut(|dirty| dirty.objects.is_empty());
        let is_clean = is_clean && publisher.open_cut.is_none();
        let point = self.wal.replay_point(&cut);
        if !is_clean || point.file == publisher.manifest.replay.file {
            return Ok(());
        }
        let mut next = publisher.manifest.clone();
        next.replay = point;
        // A reader that meets nothing in the log stands here, and a session before may have shown
        // where it ended without a commit.
        next.cut = next.cut.max(cut.lsn);
        next.cut_time = next.cut_time.max(cut.time);
        self.publish(publisher, next)?;
        self.wal.count_covered(&cut);
        Ok(())
    }

    fn note_term(&self, next: &mut Manifest, last: Lsn) {
        if let Some(span) = next.terms.iter_mut().find(|span| span.term == self.context.term) {
            span.last = last;
        }
    }

    /// In the order of the dirty list: objects that came on it one after the other mostly lie so in
    /// memory, where giving them back one after the other costs a fraction of doing so by key.
    fn drop_frozen(&self, cut: u64, frozen: Vec<Frozen>) {
        let _hurry = self.wal.hurry();
        self.table.evict_missed();
        let mut freed = 0;
        for Frozen { object, layer, deleted } in frozen {
            // What has nothing is named anew.
            let mut bottom = layer.after.clone();
            bottom.named &= !deleted;
            bottom.deleted = deleted;
            drop(layer);
            let mut inner = object.inner.lock();
            let bytes = inner.drop_layers(cut, bottom);
            let is_idle = !inner.is_open && inner.layers.is_empty();
            drop(inner);
            freed += if bytes > 0 { bytes + OBJECT_OVERHEAD_BYTES } else { 0 };
            if is_idle {
                self.table.evict(&object);
            }
        }
        let less = |dirty: usize| Some(dirty.saturating_sub(freed));
        let _ = self.dirty_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Takes each object's layers before the cut. Locking an object waits for a commit that has its
/// LSN and is not applied yet.
fn freeze(open: &OpenCut) -> Vec<Frozen> {
    let mut frozen = Vec::with_capacity(open.objects.len());
    for object in &open.objects {
        let inner = object.inner.lock();
        let count = inner.layers.partition_point(|layer| layer.cut <= open.number);
        let layer = Layer::joined(inner.layers[..count].iter().cloned());
        drop(inner);
        let Some(layer) = layer else { continue };
        let deleted = layer.after.deleted;
        frozen.push(Frozen { object: Arc::clone(object), layer, deleted });
    }
    frozen
}

/// Of the hints that mean no alarm any more, those that must be taken back: a run has them. To name
/// another would write anew what was erased, its name included, and so would one from before a
/// purge that is being erased.
fn still_in_runs(version: &Version, stale: &[Hint]) -> Vec<Hint> {
    let is_purged = |hint: &Hint| {
        let purge = version.manifest.purge_of(hint.address);
        purge.is_some_and(|purge| hint.generation < purge.lsn)
    };
    let is_in_run = |hint: &Hint| {
        let key = hint.encode();
        // One that is lost to damage is handed out by no run.
        version.alarms.iter().any(|run| matches!(run.get(&key, |_| ()), Ok(Some(()))))
    };
    stale.iter().filter(|hint| !is_purged(hint) && is_in_run(hint)).cloned().collect()
}

/// The objects that were purged before the cut, and by which commit.
fn purges_of(frozen: &[Frozen]) -> BTreeMap<Address, Lsn> {
    let purge = |changes: &Frozen| Some((changes.object.address, changes.layer.purged?));
    frozen.iter().filter_map(purge).collect()
}

/// Where in the list each object is, by address.
fn in_key_order(frozen: &[Frozen]) -> Vec<(Address, u32)> {
    let place = |place| u32::try_from(place).unwrap_or(u32::MAX);
    let addresses = frozen.iter().map(|changes| changes.object.address);
    let mut order: Vec<_> = addresses.enumerate().map(|(at, of)| (of, place(at))).collect();
    order.sort_unstable();
    order
}

/// Looks at every part of the records in a batch. In key order they lie all over memory: looked at
/// together, the processor fetches many at a time, and waits for each one otherwise.
fn touch(batch: &[(Address, u32)], frozen: &[Frozen]) {
    let touched = batch.iter().map(|(_, place)| frozen[*place as usize].layer.touch());
    std::hint::black_box(touched.fold(0, u8::wrapping_add));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind};
    use crate::object::write_set::WriteSet;
    use crate::options::Options;

    #[test]
    fn a_checkpoint_that_fails_leaves_the_log_as_long_as_it_is() {
        let disk = SimDisk::new(1);
        let options = Options::default().threads(false);
        let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
        let mut changes = WriteSet::new();
        let key = &[KeyKind::User as u8, b'k'];
        let put = Operation::Put { key, codec: Codec::Raw, value: b"value" };
        changes.push(&engine.options.limits, &put).unwrap();
        let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
        let lsn = engine.with_object(Address::default(), commit).unwrap().lsn;
        engine.wait_durable(lsn).unwrap();
        let logged = engine.wal.bytes_since_cut();
        assert!(logged > 0);
        for call in [1, 4] {
            disk.fail_call(call, Fault::Io);
            assert!(engine.checkpoint().is_err());
            assert_eq!(engine.wal.bytes_since_cut(), logged);
        }
        let of_others = 1 << 20;
        engine.dirty_bytes.fetch_add(of_others, Ordering::Relaxed);
        assert!(engine.checkpoint().unwrap());
        assert_eq!(engine.wal.bytes_since_cut(), 0);
        assert_eq!(engine.dirty_bytes.load(Ordering::Relaxed), of_others);
    }
}

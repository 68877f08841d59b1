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
use super::publish::Publisher;
use crate::error::Result;
use crate::format::alarm::Hint;
use crate::ids::{Address, Lsn};
use crate::marks::{Mark, mark};
use crate::object::ObjectState;
use crate::object::overlay::{HeadState, Layer};
use crate::planted::{Mistake, planted};
use crate::wal::cut::Cut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::OBJECT_OVERHEAD_BYTES;

/// A cut that was chosen and not yet published.
#[derive(Debug)]
pub struct OpenCut {
    cut: Cut,
    /// Layers up to this number are before it.
    number: u64,
    objects: Vec<Arc<ObjectState>>,
    /// Hints that mean no alarm any more.
    stale: Vec<Hint>,
}

/// An object's changes up to a cut, as one layer.
#[derive(Debug)]
pub struct Frozen {
    /// Whose they are.
    pub address: Address,
    /// The same object in memory.
    pub object: Arc<ObjectState>,
    /// What they say together.
    pub layer: Arc<Layer>,
    /// What the head says after them; the builder may find the object empty.
    pub bottom: HeadState,
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
            return Ok(false);
        }
        publisher.open_cut = Some(Arc::clone(&open));
        self.write_cut(publisher, &open)?;
        publisher.open_cut = None;
        Ok(true)
    }

    fn choose_cut(&self) -> OpenCut {
        // Before the cut: who found a hint stale had seen the commit that made it so, which is thus
        // before the cut too, and durable before the hint is taken back.
        let stale = self.alarms.stale();
        let (cut, (number, objects)) = self.wal.cut(|dirty| {
            let number = dirty.cut;
            dirty.cut += 1;
            dirty.record_bytes = 0;
            dirty.has_purge = false;
            (number, std::mem::take(&mut dirty.objects))
        });
        OpenCut { cut, number, objects, stale }
    }

    fn write_cut(&self, publisher: &mut Publisher, open: &OpenCut) -> Result<()> {
        if !planted(Mistake::CheckpointEarly) {
            self.wal.wait_in_hurry(open.cut.lsn)?;
        }
        let mut frozen = freeze(open);
        let version = self.version();
        let mut builder = Builder::new(self, &version, open.cut.lsn, 0);
        for changes in &mut frozen {
            builder.add(changes)?;
        }
        builder.take_back(&open.stale);
        let mut next = publisher.manifest.clone();
        let created = builder.finish(&mut next)?;
        next.cut = open.cut.lsn;
        next.cut_time = open.cut.time;
        next.replay = self.wal.replay_point(&open.cut);
        for changes in &frozen {
            if let Some(lsn) = changes.layer.purged {
                next.note_purge(changes.address, lsn);
            }
        }
        self.note_term(&mut next, open.cut.lsn);
        if planted(Mistake::DropLayersEarly) {
            self.drop_frozen(open, &frozen);
        }
        self.publish_new(publisher, next, &created, Some(open.number))?;
        self.alarms.forget_stale(&open.stale);
        self.drop_frozen(open, &frozen);
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
        self.publish(publisher, next)
    }

    fn note_term(&self, next: &mut crate::format::manifest::Manifest, last: Lsn) {
        if let Some(span) = next.terms.iter_mut().find(|span| span.term == self.context.term) {
            span.last = last;
        }
    }

    fn drop_frozen(&self, open: &OpenCut, frozen: &[Frozen]) {
        for changes in frozen {
            let mut inner = changes.object.inner.lock();
            let bytes = inner.drop_layers(open.number, changes.bottom.clone());
            let is_idle = !inner.is_open && inner.layers.is_empty();
            drop(inner);
            if bytes > 0 {
                let freed = bytes + OBJECT_OVERHEAD_BYTES;
                let _ =
                    self.dirty_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |dirty| {
                        Some(dirty.saturating_sub(freed))
                    });
            }
            if is_idle {
                self.table.evict(&changes.object);
            }
        }
    }
}

/// Takes each object's layers before the cut. Locking an object waits for a commit that has its
/// LSN and is not applied yet.
fn freeze(open: &OpenCut) -> Vec<Frozen> {
    let mut frozen = Vec::with_capacity(open.objects.len());
    for object in &open.objects {
        let inner = object.inner.lock();
        let count = inner.layers.partition_point(|layer| layer.cut <= open.number);
        let merged = match &inner.layers[..count] {
            [] => continue,
            [layer] => Arc::clone(layer),
            [first, rest @ ..] => {
                let over = |below: Arc<Layer>, above: &Arc<Layer>| Arc::new(above.over(&below));
                rest.iter().fold(Arc::clone(first), over)
            }
        };
        drop(inner);
        let bottom = merged.after.clone();
        let (address, object) = (object.address, Arc::clone(object));
        frozen.push(Frozen { address, object, layer: merged, bottom });
    }
    // By a copy: the objects lie all over memory.
    frozen.sort_unstable_by_key(|changes| changes.address);
    frozen
}

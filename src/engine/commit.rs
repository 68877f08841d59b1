//! The commit path: a write set becomes a record of the log and a layer of its object.
//!
//! Invariants:
//!   * LSN, time, place in the log and membership in the dirty list are decided in one critical
//!     section; the record is encoded before it and applied after it, both under the object's lock.
//!   * An error means that nothing was logged.

use super::Engine;
use super::alarms::Before;
use super::publish::Publisher;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Address;
use crate::marks::{Mark, mark};
use crate::object::write_set::WriteSet;
use crate::object::{Inner, ObjectState, View};
use crate::planted::{Mistake, planted};
use crate::wal::group_commit::Grant;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What an object in memory costs beside its records, as the dirty budget counts it: its state,
/// one layer, its place in the table, and what the allocator adds.
pub const OBJECT_OVERHEAD_BYTES: usize = 512;

/// Lone commits take a block of the log each: a log of so many times the budget is long enough.
const LOG_PER_BUDGET: u64 = 4;

/// How long a group is held back when twice the budget is dirty.
const PRESSURE_AT_TWICE: Duration = Duration::from_millis(100);
/// Some groups go out in every second, whatever is dirty.
const PRESSURE_MAX: Duration = Duration::from_millis(400);

/// Smooth backpressure: the further memory is over its budget, the longer each group is held back,
/// so that commits slow down to what checkpoints can take and never stop.
pub(super) fn pressure(dirty: usize, budget: usize) -> Duration {
    // In thousandths of the budget: exact enough, and no floating point.
    let over = (dirty.saturating_sub(budget) as u64).saturating_mul(1000) / budget as u64;
    let nanos = u64::try_from(PRESSURE_AT_TWICE.as_nanos()).unwrap_or(u64::MAX);
    let delay = nanos.saturating_mul(over).saturating_mul(over) / 1_000_000;
    let delay = Duration::from_nanos(delay).min(PRESSURE_MAX);
    if delay > Duration::from_micros(50) { delay } else { Duration::ZERO }
}

impl Engine {
    /// Logs and applies a write set. `inner` is what the object's lock guards, held by the caller.
    pub fn commit(
        &self,
        object: &Arc<ObjectState>,
        inner: &mut Inner,
        changes: WriteSet,
    ) -> Result<Grant> {
        let (touches_alarms, is_purge) = (changes.touches_alarms(), changes.is_purge());
        let mut record = changes.into_record(object.address);
        let bytes = record.len();
        let mut cut = 0;
        let mut is_first = false;
        let dirty_cut = inner.dirty_cut;
        let logged = self.wal.append(&mut record, |dirty, grant| {
            cut = dirty.cut;
            is_first = dirty_cut != cut;
            dirty.record_bytes += bytes as u64;
            if is_purge {
                dirty.last_purge = grant.lsn;
            }
            if is_first && !planted(Mistake::MissDirty) {
                dirty.objects.push(Arc::clone(object));
            }
        });
        let grant = logged.inspect_err(|error| {
            if error.kind() == ErrorKind::Full {
                mark(Mark::Full);
            }
        })?;
        inner.dirty_cut = cut;
        if touches_alarms {
            let before = Before::of(object.address, inner, &record);
            let record: Arc<[u8]> = Arc::from(record);
            inner.apply(Arc::clone(&record), grant.lsn, grant.time, cut);
            self.alarms.note(cut, object.address, &before, inner, &record);
        } else {
            inner.apply(Arc::from(record), grant.lsn, grant.time, cut);
        }
        let more = bytes + if is_first { OBJECT_OVERHEAD_BYTES } else { 0 };
        self.dirty_bytes.fetch_add(more, Ordering::Relaxed);
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.record_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(grant)
    }

    /// Runs `change` on the object, brought into memory if it is not there, under its lock. It
    /// stays there only where it is open then, or has commits that no page holds.
    ///
    /// An object is registered in the table before its head is looked up: from then on only this
    /// registration can change what the head says, so the look-up cannot be outdated.
    pub fn with_object<R>(
        &self,
        address: Address,
        change: impl FnOnce(&Arc<ObjectState>, &mut Inner) -> Result<R>,
    ) -> Result<R> {
        loop {
            let object = self.table.get_or_insert(address);
            let mut inner = object.inner.lock();
            if inner.is_evicted {
                continue;
            }
            if !inner.is_loaded {
                let version = self.version();
                let head = version.head(address).inspect_err(|_| {
                    // Nobody may take the object for one without content.
                    inner.is_evicted = true;
                });
                match head {
                    Ok(head) => inner.load_to_read(head, &version),
                    Err(error) => {
                        drop(inner);
                        self.table.remove(&object);
                        return Err(error);
                    }
                }
            }
            let changed = change(&object, &mut inner);
            if !inner.is_open && inner.layers.is_empty() {
                // It came into memory for this alone, and has nothing that pages do not have.
                inner.is_evicted = true;
                drop(inner);
                self.table.remove(&object);
            }
            return changed;
        }
    }

    /// The same with the lock of another object, `beside`, which is not changed. Whoever locks two
    /// does it here, in the order of their addresses, so that nobody waits for the other for ever.
    pub fn with_two<R>(
        &self,
        address: Address,
        beside: Address,
        change: impl FnOnce(&Arc<ObjectState>, &mut Inner, &Inner) -> Result<R>,
    ) -> Result<R> {
        if beside < address {
            return self.with_object(beside, |_, beside| {
                self.with_object(address, |object, inner| change(object, inner, beside))
            });
        }
        self.with_object(address, |object, inner| {
            self.with_object(beside, |_, beside| change(object, inner, beside))
        })
    }

    /// The object as it is now, without bringing it into memory.
    pub fn view(&self, address: Address) -> Result<View> {
        if let Some(object) = self.table.get(&address) {
            let inner = object.inner.lock();
            // One that is only registered, or has just left, has nothing that pages do not have.
            if inner.is_loaded && !inner.is_evicted {
                return Ok(View::of_inner(address, &inner, || self.version()));
            }
        }
        // Not in the table: whatever was committed is in pages that this version names, for an
        // object leaves the table only after the version with its pages is installed.
        View::of_version(address, self.version())
    }

    /// Wakes everybody to whom commits have something to say. To be called behind each commit,
    /// failed or not, while no lock is held: wakers may do anything.
    pub fn tell(&self) {
        self.alarms.tell();
        self.wal.wake_owed();
    }

    /// Waits until everything up to `lsn` is durable, unless it is already.
    pub fn wait_durable(&self, lsn: crate::ids::Lsn) -> Result<()> {
        self.wal.wait(lsn)
    }

    /// Poisons the store because a thread of it panicked: nothing is promised after that.
    pub fn panicked(&self) -> Error {
        let error = Error::new(ErrorKind::Poisoned, "store.panicked", "a store thread panicked");
        self.wal.set_poison(&error);
        error
    }

    /// Fails when the store is poisoned.
    pub fn check_alive(&self) -> Result<()> {
        self.wal.poison().map_or(Ok(()), |error| Err(Error::clone(error)))
    }
}

impl Engine {
    /// Whether enough is dirty for a checkpoint, or the log has grown long.
    pub fn wants_checkpoint(&self) -> bool {
        let dirty = self.dirty_bytes.load(Ordering::Relaxed);
        let budget = self.options.dirty_bytes;
        dirty > budget || self.wal.bytes_since_cut() > LOG_PER_BUDGET * budget as u64
    }

    /// Whether the pool should have one more file.
    pub fn wants_prepared_file(&self) -> bool {
        // A process that logs little does not pay for zeros that it will not use.
        let logged = self.counters.record_bytes.load(Ordering::Relaxed);
        let is_busy = logged > self.options.wal_file_bytes / 32;
        is_busy && self.wal.pool().ready_count() < self.options.pool_files
    }

    /// Everything into pages, then a mark that nothing follows; files of the log that stood ready
    /// go. Later commits fail, and so do those that come in meanwhile: the log would not end as
    /// long as other handles go on. If this fails, commits are taken again.
    ///
    /// Nobody else publishes from the checkpoint to the end: another writer may be let in then.
    pub fn close(&self) -> Result<()> {
        // Before the lock: who holds it may be waiting for its bytes.
        let _lifted = self.pace.lift();
        let mut publisher = self.publisher.lock();
        let _hurry = self.wal.hurry();
        self.wal.refuse(Some(Error::closed()));
        let ended = self.end_log(&mut publisher);
        match &ended {
            Ok(()) => self.unlock(),
            Err(_) => self.wal.refuse(None),
        }
        ended
    }

    fn end_log(&self, publisher: &mut Publisher) -> Result<()> {
        self.check_alive()?;
        self.wal.wait(self.wal.last_lsn())?;
        self.checkpoint_everything(publisher)?;
        self.move_replay(publisher)?;
        self.wal.finish(&Error::closed())?;
        self.wal.pool().remove_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Operation;

    #[test]
    fn an_object_that_no_commit_reached_does_not_stay_in_memory() {
        let disk = Arc::new(crate::disk::sim::SimDisk::new(1));
        let options = crate::options::Options::default().threads(false);
        let engine = Engine::open(disk, options).unwrap();
        let before = engine.table.count();
        for id in 0..9 {
            let address = Address { id: crate::ids::ShortId([id; 16]), ..Address::default() };
            let failed = engine.with_object(address, |_, _| Err::<(), _>(Error::closed()));
            assert_eq!(failed.unwrap_err().code(), "store.closed");
            assert!(engine.with_object(address, |_, _| Ok(())).is_ok());
        }
        assert_eq!(engine.table.count(), before);
    }

    #[test]
    fn who_locks_two_objects_waits_for_nobody_who_locks_them_the_other_way_round() {
        let disk = Arc::new(crate::disk::sim::SimDisk::new(2));
        let options = crate::options::Options::default().threads(false);
        let engine = Engine::open(disk, options).unwrap();
        let address = |id| Address { id: crate::ids::ShortId([id; 16]), ..Address::default() };
        let (one, other) = (address(1), address(2));
        let lock_both = |first, second| {
            for _ in 0..2_000 {
                engine.with_two(first, second, |_, _, _| Ok(())).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| lock_both(one, other));
            lock_both(other, one);
        });
        assert_eq!(engine.table.count(), 0);
    }

    #[test]
    fn the_log_leaves_a_file_that_was_not_written_ahead_for_one_that_was_and_stays_there() {
        let disk = Arc::new(crate::disk::sim::SimDisk::new(4));
        let options = crate::options::Options::default().threads(false);
        let engine = Engine::open(disk, options).unwrap();
        let file_of_next = || {
            engine.wal.prepare_file(crate::wal::pool::Fill::Written).unwrap();
            let mut changes = WriteSet::new();
            let key = &[crate::ids::KeyKind::User as u8];
            let put = Operation::Put { key, codec: crate::ids::Codec::Raw, value: b"value" };
            changes.push(&engine.options.limits, &put).unwrap();
            let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
            let grant = engine.with_object(Address::default(), commit).unwrap();
            engine.wait_durable(grant.lsn).unwrap();
            engine.wal.end().point.file
        };
        let begun_in = engine.wal.end().point.file;
        let files = [file_of_next(), file_of_next(), file_of_next()];
        assert_ne!(files[0], begun_in);
        assert_eq!(files, [files[0]; 3]);
    }

    #[test]
    fn small_groups_take_zeros_along_into_a_file_that_is_only_allocated() {
        let disk = Arc::new(crate::disk::sim::SimDisk::new(3));
        let options = crate::options::Options::default().threads(false).wal_file_bytes(1 << 20);
        let engine = Engine::open(Arc::clone(&disk) as Arc<_>, options).unwrap();
        let end = engine.wal.end().point;
        let name = crate::names::FileName::Wal(end.file);
        // What was not written yet shows where anything is written.
        let block = 4096;
        let begin = usize::try_from(end.offset).unwrap();
        let first_zero = |value: &[u8], groups: usize| {
            let mut bytes = disk.file_bytes(name).unwrap();
            let behind = begin + groups * block;
            bytes[behind..].fill(0xAA);
            disk.replace_file_bytes(name, bytes);
            let mut changes = WriteSet::new();
            let key = &[crate::ids::KeyKind::User as u8];
            let put = Operation::Put { key, codec: crate::ids::Codec::Raw, value };
            changes.push(&engine.options.limits, &put).unwrap();
            let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
            let grant = engine.with_object(Address::default(), commit).unwrap();
            engine.wait_durable(grant.lsn).unwrap();
            let end = usize::try_from(engine.wal.end().point.offset).unwrap();
            let rest = disk.file_bytes(name).unwrap().split_off(end);
            rest.iter().take_while(|byte| **byte == 0).count()
        };
        assert_eq!(first_zero(b"small", 0), 256 << 10);
        // The next 64 need none.
        for groups in 1..=64 {
            assert_eq!(first_zero(b"small", groups), 0, "group {groups}");
        }
        assert_eq!(first_zero(&vec![1; 3 << 13], 65), 0, "a large one pays for itself");
        assert_eq!(first_zero(b"small", 65 + 7), 256 << 10);
    }

    #[test]
    fn pressure_begins_at_the_budget_and_grows_without_a_step() {
        assert_eq!(pressure(100, 100), Duration::ZERO);
        assert_eq!(pressure(2_000, 1_000), PRESSURE_AT_TWICE);
        let at = |dirty| pressure(dirty, 1_000);
        assert!(at(1_100) > Duration::ZERO && at(1_100) < at(1_500) && at(1_500) < at(3_000));
        assert_eq!(at(usize::MAX), PRESSURE_MAX);
    }
}

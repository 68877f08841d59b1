//! The commits behind the cut, brought into memory: read in their order, then applied in parts.
//!
//! Applying mostly waits for memory. So commits are kept until all are read, and those of objects
//! that lie together are applied together, by as many threads as there are processors for.
//!
//! Invariants:
//!   * Commits of one object are applied in their order, by one thread.
//!   * What comes of it does not depend on how many threads there are.

use super::DirtyList;
use super::alarms::{AlarmIndex, Before};
use super::catalog::Roll;
use super::commit::OBJECT_OVERHEAD_BYTES;
use super::patience::Pauses;
use super::table::Table;
use crate::disk::crew::together;
use crate::disk::{Clock, Disk};
use crate::error::{ErrorKind, Result};
use crate::format::manifest::{Manifest, TermSpan};
use crate::format::record::{
    RECORD_HEADER_BYTES, RecordHeader, RecordKind, RecordView, adoption, is_purge,
};
use crate::ids::{Address, Lsn, Timestamp};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::ObjectState;
use crate::object::version::Version;
use crate::wal::reader::{Medium, Replayed, check_operations, replay};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The cut number of replayed commits; the first checkpoint covers them.
const FIRST_CUT: u64 = 1;

/// Objects of one part fit a processor's cache together, and their heads lie side by side.
const PARTS: usize = 256;

/// Commits that are worth a thread.
const WORTH_HELP: usize = 4096;

/// Records that are fetched from memory together.
const TOUCHED_AT_ONCE: usize = 32;

/// Reading so many bytes in a row takes about as long as reading one block at random.
const BYTES_PER_LOOKUP: u64 = 64 << 10;

/// A commit that was read and is to be applied.
struct Commit {
    record: Arc<[u8]>,
    address: Address,
    lsn: Lsn,
    time: Timestamp,
}

/// What the log's tail has brought into memory.
pub(super) struct Memory {
    pub(super) replayed: Replayed,
    pub(super) table: Table,
    pub(super) alarms: AlarmIndex,
    pub(super) dirty: DirtyList,
    pub(super) dirty_bytes: usize,
    /// Files of pages that commits behind the cut have adopted.
    pub(super) adopted: BTreeSet<FileName>,
    pub(super) roll: Roll,
}

/// The tail of the log, read and not applied yet.
pub(super) struct Tail {
    replayed: Replayed,
    /// The terms and their commits, also where the manifest does not know when a term ended.
    pub(super) terms: Vec<TermSpan>,
    kept: Kept,
    roll: Roll,
}

/// Commits that were read.
struct Kept {
    scratch: Vec<u8>,
    /// By the first byte of the object's id.
    parts: Vec<Vec<Commit>>,
    /// Those that adopt pages.
    adopting: Vec<Arc<[u8]>>,
}

impl Tail {
    /// Reads the tail of the log behind a manifest; `terms` are all that are known. No other file
    /// is read.
    pub(super) fn read(
        disk: &dyn Disk,
        manifest: &Manifest,
        mut terms: Vec<TermSpan>,
    ) -> Result<Self> {
        let medium = Medium(disk);
        let (store, from, cut) = (manifest.store, manifest.replay, manifest.cut);
        let parts = std::iter::repeat_with(Vec::new).take(PARTS).collect();
        let mut kept = Kept { scratch: Vec::new(), parts, adopting: Vec::new() };
        let mut roll = Roll::of(manifest);
        let mut at = 0;
        let mut replayed = replay(&medium, store, from, cut, cut, &mut |record, position| {
            note_term(&mut terms, &mut at, record.header.lsn);
            // It only took its LSN.
            if record.header.kind == RecordKind::AdoptBegin {
                return Ok(());
            }
            check_operations(&record, position)?;
            roll.follow(&record)?;
            kept.keep(&record);
            Ok(())
        })?;
        for end in [&mut replayed.end, &mut replayed.join] {
            end.lsn = end.lsn.max(cut);
            end.time = end.time.max(manifest.cut_time);
        }
        Ok(Self { replayed, terms, kept, roll })
    }

    /// Brings the commits into memory, over what `version` has, with the help of so many threads.
    pub(super) fn apply(
        self,
        disk: &dyn Disk,
        version: &Version,
        helpers: usize,
    ) -> Result<Memory> {
        let Self { replayed, kept, roll, .. } = self;
        let mut adopted = BTreeSet::new();
        for record in &kept.adopting {
            let Ok(header) = RecordHeader::decode(record) else { continue };
            let Some(adoption) = adoption(&record[RECORD_HEADER_BYTES..]) else { continue };
            mark(Mark::AdoptionReplayed);
            version.adopt(disk, &header, &adoption)?;
            adopted.extend(adoption.files().map(|(name, _)| name));
        }
        let commits: usize = kept.parts.iter().map(Vec::len).sum();
        let applying = Applying::new(version, disk.clock(), kept.parts);
        together(helpers.min(commits / WORTH_HELP), || applying.serve());
        let Applying { table, alarms, done, .. } = applying;
        let mut done = done.into_inner();
        done.sort_unstable_by_key(|(number, _)| *number);
        let (objects, last_purge) = (Vec::new(), Lsn::ZERO);
        let mut dirty = DirtyList { cut: FIRST_CUT, objects, record_bytes: 0, last_purge };
        let mut dirty_bytes = 0;
        for (_, part) in done {
            let mut part = part?;
            dirty.objects.append(&mut part.objects);
            dirty.record_bytes += part.record_bytes;
            dirty.last_purge = dirty.last_purge.max(part.last_purge);
            dirty_bytes += part.dirty_bytes;
        }
        Ok(Memory { replayed, table, alarms, dirty, dirty_bytes, adopted, roll })
    }
}

impl Kept {
    /// Keeps a commit for later. Commits of one object stay in their order.
    fn keep(&mut self, view: &RecordView<'_>) {
        let RecordHeader { address, lsn, time, .. } = view.header;
        let record = &mut self.scratch;
        record.clear();
        let length = u32::try_from(view.payload.len()).unwrap_or(u32::MAX);
        record.extend_from_slice(&RecordHeader { length, ..view.header }.encode());
        record.extend_from_slice(view.payload);
        let record = Arc::from(record.as_slice());
        if adoption(view.payload).is_some() {
            self.adopting.push(Arc::clone(&record));
        }
        self.parts[usize::from(address.id.0[0])].push(Commit { record, address, lsn, time });
    }
}

/// Notes that the term which `lsn` is of had it; `at` is the term of the one before.
fn note_term(terms: &mut [TermSpan], at: &mut usize, lsn: Lsn) {
    while terms.get(*at + 1).is_some_and(|next| next.first <= lsn) {
        *at += 1;
    }
    if let Some(span) = terms.get_mut(*at).filter(|span| span.first <= lsn) {
        span.last = span.last.max(lsn);
    }
}

/// What has come of a part.
#[derive(Default)]
struct Part {
    objects: Vec<Arc<ObjectState>>,
    dirty_bytes: usize,
    record_bytes: u64,
    last_purge: Lsn,
}

type Parts = std::iter::Enumerate<std::vec::IntoIter<Vec<Commit>>>;

/// What all share who apply commits.
struct Applying<'a> {
    version: &'a Version,
    clock: Arc<dyn Clock>,
    pauses: Pauses,
    table: Table,
    alarms: AlarmIndex,
    directory_bytes: u64,
    /// Heads looked up so far.
    lookups: AtomicU64,
    /// What nobody has taken yet. A leaf lock.
    left: Mutex<Parts>,
    /// What has come of parts, by their numbers. A leaf lock.
    done: Mutex<Vec<(usize, Result<Part>)>>,
}

impl<'a> Applying<'a> {
    fn new(version: &'a Version, clock: Arc<dyn Clock>, parts: Vec<Vec<Commit>>) -> Self {
        let runs = version.directory.runs();
        Self {
            version,
            clock,
            pauses: Pauses::default(),
            table: Table::default(),
            alarms: AlarmIndex::default(),
            directory_bytes: runs.iter().map(|run| run.facts().bytes).sum(),
            lookups: AtomicU64::new(0),
            left: Mutex::new(parts.into_iter().enumerate()),
            done: Mutex::default(),
        }
    }

    /// Applies parts until none is left; what a thread is for.
    fn serve(&self) {
        while let Some((number, commits)) = self.take() {
            let part = self.apply_part(commits);
            if part.is_err() {
                // Nobody will need the others.
                self.left.lock().by_ref().for_each(drop);
            }
            self.done.lock().push((number, part));
        }
    }

    fn take(&self) -> Option<(usize, Vec<Commit>)> {
        self.left.lock().next()
    }

    fn apply_part(&self, commits: Vec<Commit>) -> Result<Part> {
        let mut part = Part::default();
        let mut rest = commits.into_iter();
        while !rest.as_slice().is_empty() {
            touch(&rest.as_slice()[..rest.len().min(TOUCHED_AT_ONCE)]);
            let mut batch = rest.by_ref().take(TOUCHED_AT_ONCE);
            batch.try_for_each(|commit| self.apply(commit, &mut part))?;
        }
        Ok(part)
    }

    fn apply(&self, commit: Commit, part: &mut Part) -> Result<()> {
        let Commit { record, address, lsn, time } = commit;
        let object: Arc<ObjectState> = self.table.get_or_insert(address);
        let mut inner = object.inner.lock();
        if !inner.is_loaded {
            self.note_lookup();
            let head = self.pauses.insist(&*self.clock, || self.version.head(address));
            match head {
                // Its commits are kept; what was below them is not known, and reads will say so.
                Err(error) if error.kind() == ErrorKind::Corrupt => inner.load_lost(),
                head => inner.load(head?.as_ref()),
            }
        }
        part.dirty_bytes += record.len();
        part.record_bytes += record.len() as u64;
        if is_purge(&record) {
            part.last_purge = part.last_purge.max(lsn);
        }
        let before = Before::replay(&inner);
        inner.apply(Arc::clone(&record), lsn, time, FIRST_CUT);
        self.alarms.note_replayed(FIRST_CUT, address, &before, &inner, &record);
        if inner.dirty_cut != FIRST_CUT {
            inner.dirty_cut = FIRST_CUT;
            part.dirty_bytes += OBJECT_OVERHEAD_BYTES;
            part.objects.push(Arc::clone(&object));
        }
        Ok(())
    }

    /// A tail that touches many objects is quicker behind one pass over the directory: asks for
    /// that once.
    fn note_lookup(&self) {
        let before = self.lookups.fetch_add(1, Ordering::Relaxed);
        let is_many =
            |lookups: u64| lookups.saturating_mul(BYTES_PER_LOOKUP) > self.directory_bytes;
        if is_many(before + 1) && !is_many(before) {
            self.version.directory.runs().iter().for_each(|run| run.will_need());
        }
    }
}

/// Reads a byte of each cache line. Waiting for many lines at once takes as long as for one, and
/// applying records one by one would wait for each.
fn touch(commits: &[Commit]) {
    let lines = commits.iter().flat_map(|commit| commit.record.iter().step_by(64));
    std::hint::black_box(lines.fold(0_u8, |sum, byte| sum ^ byte));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ReadDisk;
    use crate::disk::sim::SimDisk;
    use crate::engine::Engine;
    use crate::engine::recovery::load_version;
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind, NamespaceNumber, ShortId};
    use crate::manifest;
    use crate::object::Inner;
    use crate::object::write_set::WriteSet;
    use crate::options::Options;

    /// A machine whose process was killed with so many commits behind a checkpoint.
    fn killed_behind(commits: usize) -> SimDisk {
        let disk = SimDisk::new(1);
        let options = Options::default().threads(false);
        let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
        for number in 0..commits + 200 {
            let byte = |number: usize| u8::try_from(number % 256).unwrap();
            let id = ShortId([byte(number * 7); 16]);
            let address = Address { namespace: NamespaceNumber(1), id };
            let mut changes = WriteSet::new();
            let key = &[KeyKind::User as u8, byte(number % 5)];
            let put = Operation::Put { key, codec: Codec::Raw, value: &number.to_le_bytes() };
            changes.push(&engine.options.limits, &put).unwrap();
            let commit = |object: &Arc<_>, inner: &mut Inner| engine.commit(object, inner, changes);
            engine.with_object(address, commit).unwrap();
            if number == 200 {
                assert!(engine.checkpoint().unwrap());
            }
        }
        engine.wal.write_group().unwrap();
        disk.kill()
    }

    #[test]
    fn what_is_replayed_does_not_depend_on_who_helps() {
        let disk = killed_behind(2 * WORTH_HELP);
        let manifest = manifest::read_to_write(&disk).unwrap().unwrap();
        let reading: Arc<dyn ReadDisk> = Arc::new(disk.clone());
        let replayed = [0, 2].map(|helpers| {
            let version = load_version(&reading, &manifest, 0).unwrap();
            let tail = Tail::read(&disk, &manifest, manifest.terms.clone()).unwrap();
            let memory = tail.apply(&disk, &version, helpers).unwrap();
            let objects = memory.dirty.objects.iter();
            let states = objects.map(|object| {
                let inner = object.inner.lock();
                let records = inner.layers.iter().flat_map(|layer| layer.records().to_vec());
                let records: Vec<_> = records.collect();
                (object.address, inner.bottom.clone(), inner.state().clone(), records)
            });
            let states: Vec<_> = states.collect();
            let Memory { replayed, dirty, dirty_bytes, .. } = memory;
            (replayed, states, (dirty_bytes, dirty.record_bytes))
        });
        let [(alone, states, _), _] = &replayed;
        assert!(alone.records > WORTH_HELP as u64 && states.len() == 256);
        assert!(replayed[0] == replayed[1]);
    }
}

//! The commits behind the cut, brought into memory: read in their order, and applied meanwhile.
//!
//! Invariants:
//!   * Nothing of a tail is handed out whose end was not decided, or of which a commit could not be
//!     applied.
//!   * Where no other thread may help, everything is done in one order.

use super::DirtyList;
use super::alarms::AlarmIndex;
use super::applying::{Applied, Applying, Bundle, Commit, FIRST_CUT};
use super::catalog::Roll;
use super::table::Table;
use crate::disk::Disk;
use crate::disk::crew::{beside, together};
use crate::error::Result;
use crate::format::manifest::{Manifest, TermSpan};
use crate::format::record::{RECORD_HEADER_BYTES, RecordHeader, RecordKind, RecordView, adoption};
use crate::ids::Lsn;
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::version::Version;
use crate::wal::reader::{Medium, Replayed, check_operations, replay};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the log's tail has brought into memory.
pub(super) struct Memory {
    pub(super) replayed: Replayed,
    /// The terms and their commits, also where the manifest does not know when a term ended.
    pub(super) terms: Vec<TermSpan>,
    pub(super) table: Table,
    pub(super) alarms: AlarmIndex,
    pub(super) dirty: DirtyList,
    pub(super) dirty_bytes: usize,
    /// Files of pages that commits behind the cut have adopted.
    pub(super) adopted: BTreeSet<FileName>,
    pub(super) roll: Roll,
}

/// Has `open` open a manifest's files, and brings the tail of the log behind it into memory;
/// `terms` are all that are known. With helpers both are done at the same time, and what of the
/// log was read is applied while the rest is. `behind` is done as soon as the log is read.
pub(super) fn bring_in(
    disk: &dyn Disk,
    (manifest, terms): (&Manifest, Vec<TermSpan>),
    helpers: usize,
    open: impl FnOnce() -> Result<Version> + Send,
    behind: impl FnOnce() -> Result<()>,
) -> Result<(Version, Memory)> {
    let applying = Applying::new(disk.clock());
    let open = || {
        let version = open()?;
        if helpers > 0 {
            together(helpers - 1, || applying.serve(&version));
        }
        Ok(version)
    };
    let read = || {
        let _reading = applying.reading();
        let tail = Tail::read(disk, manifest, terms, &applying)?;
        behind()?;
        Ok(tail)
    };
    let (version, tail): (Result<Version>, Result<Tail>) = beside(helpers, open, read);
    let (version, tail) = (version?, tail?);
    let memory = tail.finish(disk, &version, applying, helpers)?;
    Ok((version, memory))
}

/// The tail of the log, read and handed over, but not all of it applied yet.
struct Tail {
    replayed: Replayed,
    terms: Vec<TermSpan>,
    /// Commits that adopt pages.
    adopting: Vec<Arc<[u8]>>,
    roll: Roll,
}

impl Tail {
    /// Reads the tail of the log behind a manifest, and hands its commits over. No other file is
    /// read.
    fn read(
        disk: &dyn Disk,
        manifest: &Manifest,
        mut terms: Vec<TermSpan>,
        applying: &Applying,
    ) -> Result<Self> {
        let medium = Medium(disk);
        let (store, from, cut) = (manifest.store, manifest.replay, manifest.cut);
        let (mut scratch, mut bundle) = (Vec::new(), Bundle::default());
        let (mut roll, mut adopting) = (Roll::of(manifest), Vec::new());
        let mut at = 0;
        let mut replayed = replay(&medium, store, from, cut, cut, &mut |view, position| {
            note_term(&mut terms, &mut at, view.header.lsn);
            // It only took its LSN.
            if view.header.kind == RecordKind::AdoptBegin {
                return Ok(());
            }
            check_operations(&view, position)?;
            roll.follow(&view)?;
            let record = copy(&view, &mut scratch);
            if adoption(view.payload).is_some() {
                adopting.push(Arc::clone(&record));
            }
            bundle.push(Commit::new(&view.header.address, record), applying);
            Ok(())
        })?;
        bundle.hand_over(applying);
        for end in [&mut replayed.end, &mut replayed.join] {
            end.lsn = end.lsn.max(cut);
            end.time = end.time.max(manifest.cut_time);
        }
        Ok(Self { replayed, terms, adopting, roll })
    }

    /// Brings into memory what is not there yet, over what `version` has, with the help of so many
    /// threads.
    fn finish(
        self,
        disk: &dyn Disk,
        version: &Version,
        applying: Applying,
        helpers: usize,
    ) -> Result<Memory> {
        let Self { replayed, terms, adopting, roll } = self;
        let mut adopted = BTreeSet::new();
        for record in &adopting {
            let Ok(header) = RecordHeader::decode(record) else { continue };
            let Some(adoption) = adoption(&record[RECORD_HEADER_BYTES..]) else { continue };
            mark(Mark::AdoptionReplayed);
            version.adopt(disk, &header, &adoption)?;
            adopted.extend(adoption.files().map(|(name, _)| name));
        }
        applying.finish(version, helpers);
        let (table, alarms, shares) = applying.into_applied();
        let (objects, last_purge) = (Vec::new(), Lsn::ZERO);
        let mut dirty = DirtyList { cut: FIRST_CUT, objects, record_bytes: 0, last_purge };
        let mut dirty_bytes = 0;
        for share in shares {
            let mut share: Applied = share?;
            dirty.objects.append(&mut share.objects);
            dirty.record_bytes += share.record_bytes;
            dirty.last_purge = dirty.last_purge.max(share.last_purge);
            dirty_bytes += share.dirty_bytes;
        }
        Ok(Memory { replayed, terms, table, alarms, dirty, dirty_bytes, adopted, roll })
    }
}

/// A commit as one record, also where it was logged in parts.
fn copy(view: &RecordView<'_>, scratch: &mut Vec<u8>) -> Arc<[u8]> {
    scratch.clear();
    let length = u32::try_from(view.payload.len()).unwrap_or(u32::MAX);
    scratch.extend_from_slice(&RecordHeader { length, ..view.header }.encode());
    scratch.extend_from_slice(view.payload);
    Arc::from(scratch.as_slice())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ReadDisk;
    use crate::disk::sim::SimDisk;
    use crate::engine::Engine;
    use crate::engine::applying::HANDED_AT_ONCE;
    use crate::engine::recovery::load_version;
    use crate::format::record::Operation;
    use crate::ids::{Address, Codec, KeyKind, NamespaceNumber, ShortId};
    use crate::manifest;
    use crate::object::Inner;
    use crate::object::write_set::WriteSet;
    use crate::options::Options;
    use std::thread;

    /// A machine whose process was killed with so many commits behind a checkpoint, and what its
    /// manifest says.
    fn killed_behind(commits: usize) -> (Arc<SimDisk>, Manifest) {
        let disk = SimDisk::new(1);
        let options = Options::default().threads(false);
        let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
        for number in 0..commits + 200 {
            let byte = |number: usize| u8::try_from(number % 256).unwrap();
            // Of two objects each, the ids begin alike.
            let mut id = ShortId([byte(number / 2 * 7); 16]);
            id.0[15] = byte(number % 2);
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
        let disk = disk.kill();
        let manifest = manifest::read_to_write(&disk).unwrap().unwrap();
        (Arc::new(disk), manifest)
    }

    fn open(disk: &Arc<SimDisk>, manifest: &Manifest) -> Version {
        let reading: Arc<dyn ReadDisk> = Arc::clone(disk) as Arc<dyn ReadDisk>;
        load_version(&reading, manifest, 0).unwrap()
    }

    #[test]
    fn what_is_replayed_does_not_depend_on_who_helps() {
        let (disk, manifest) = killed_behind(3 * HANDED_AT_ONCE);
        let replayed = [0, 1, 3].map(|helpers| {
            let (open, terms) = (|| Ok(open(&disk, &manifest)), manifest.terms.clone());
            let replayed = bring_in(&*disk, (&manifest, terms), helpers, open, || Ok(()));
            let (_, Memory { replayed, dirty, dirty_bytes, .. }) = replayed.unwrap();
            let objects = dirty.objects.iter();
            let states = objects.map(|object| {
                let inner = object.inner.lock();
                let records = inner.layers.iter().flat_map(|layer| layer.records().to_vec());
                let records: Vec<_> = records.collect();
                (object.address, inner.bottom.clone(), inner.state().clone(), records)
            });
            let mut states: Vec<_> = states.collect();
            states.sort_by_key(|(address, ..)| *address);
            (replayed, states, (dirty_bytes, dirty.record_bytes))
        });
        let (alone, states, _) = &replayed[0];
        assert!(alone.records > 2 * HANDED_AT_ONCE as u64 && states.len() == 512);
        assert!(replayed.iter().all(|other| *other == replayed[0]));
        let in_order = |records: &[Arc<[u8]>]| {
            records.is_sorted_by_key(|record| RecordHeader::decode(record).unwrap().lsn)
        };
        assert!(states.iter().all(|(.., records)| records.len() > 90 && in_order(records)));
    }

    #[test]
    fn commits_are_applied_while_the_rest_is_still_read() {
        let (disk, manifest) = killed_behind(HANDED_AT_ONCE);
        let version = open(&disk, &manifest);
        let applying = Applying::new(disk.clock());
        let read = || {
            let _reading = applying.reading();
            let tail = Tail::read(&*disk, &manifest, manifest.terms.clone(), &applying).unwrap();
            // Nobody knows yet that nothing comes behind these.
            for _ in 0..100_000_000 {
                if applying.done() as u64 == tail.replayed.records {
                    return true;
                }
                thread::yield_now();
            }
            false
        };
        let ((), is_applied) = beside(1, || applying.serve(&version), read);
        assert!(is_applied);
    }
}

//! Pages go bad, and a scrub follows: what history has of them is rebuilt, and the rest fails as
//! before.
//!
//! Whether an object must be whole afterwards follows from what a healthy copy of the machine says
//! of its pages, and from how far back the history of its namespace goes.
//!
//! Invariants:
//!   * Where all history is there, every object is whole after a scrub, its past included.
//!   * Anywhere else a read is right or an error, and the scrub has said which.
//!   * A scrub that is cut off by a crash leaves a store that another one can put right.

use super::simulate_checks::Fault;
use super::simulate_damage::{Patient, manifest_of};
use super::simulate_past::compare_all;
use super::simulate_plan::Weather;
use super::simulate_world::{Outcome, World, namespace_name};
use dostore::directory::Directory;
use dostore::disk::sim::{Damage, SimDisk};
use dostore::format::entry::{Head, PageEntry};
use dostore::format::run::RunUse;
use dostore::ids::{Address, FileNumber, Lsn, NamespaceNumber};
use dostore::inspect::Scope;
use dostore::inspect::verify::verify;
use dostore::names::FileName;
use dostore::object::retention::readable_from;
use dostore::run::Run;
use dostore::store::{Damaged, Fate, ScrubReport, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const SECTOR_BYTES: u64 = 512;
const HEADER_BLOCK_BYTES: u64 = 4_096;
/// Copies of the machine that are damaged in one seed.
const ROUNDS: u64 = 3;
/// Sectors of one segment that go bad at once.
const SECTORS_MAX: u64 = 4;
/// Calls to the machine of a scrub of a small store.
const CALLS: u64 = 120;

/// Objects by what they are called in a store.
type Addresses = BTreeMap<Address, usize>;

/// Whom damage has hit, and of each whether its pages are its own: not adopted.
type Hit = BTreeMap<usize, bool>;

impl World {
    fn addresses(&self) -> Addresses {
        let number = |index: usize| NamespaceNumber(u32::try_from(index).expect("few") + 1);
        let address = |namespace, id| Address { namespace: number(namespace), id };
        let objects = self.objects.iter();
        objects.map(|it| (address(it.namespace, it.id.short()), it.index)).collect()
    }

    /// Damages pages of copies of the machine, and has them scrubbed.
    pub fn damage_and_scrub(&mut self, healthy: &SimDisk) -> Outcome {
        for _ in 0..ROUNDS {
            self.scrub_once(healthy)?;
        }
        Ok(())
    }

    fn scrub_once(&mut self, healthy: &SimDisk) -> Outcome {
        let mut patient = self.patient(healthy, "a scrub");
        let has_deltas = self.chance.percent(50);
        if has_deltas {
            self.write_deltas(&mut patient)?;
        }
        let segments = manifest_of(&patient.disk).segments;
        if segments.is_empty() {
            return Ok(());
        }
        let facts = self.chance.pick(&segments).facts;
        let all = HEADER_BLOCK_BYTES..HEADER_BLOCK_BYTES + facts.page_bytes;
        let entries = self.entries(&patient.disk);
        let deltas = entries.iter().flat_map(|(_, _, entry)| &entry.deltas);
        let delta = deltas.map(|delta| delta.location).next_back();
        let (file, range) = match delta.filter(|_| has_deltas) {
            Some(delta) => (delta.file, delta.offset..delta.offset + u64::from(delta.bytes)),
            None => (facts.number, all),
        };
        let name = FileName::Segment(file);
        let before = patient.disk.fork();
        let sectors = self.harm(&mut patient, name, range);
        self.note(format_args!("{}", patient.told));
        self.counts.damages += 1;
        let hit = self.hit(&before, file, &sectors);
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        let before = patient.read(self, &store)?;
        if !before.iter().all(|index| hit.contains_key(index)) {
            return patient.wrong(format_args!("{before:?} are hurt, and {hit:?} were hit"));
        }
        let changes = self.chance.below(3);
        if changes > 0 {
            patient.write(self, &store, &BTreeSet::new())?;
        }
        if changes > 1 {
            patient.maintain(&store)?;
        }
        let store =
            if self.chance.percent(30) { self.cut_off(&mut patient, store)? } else { store };
        let manifest = manifest_of(&patient.disk);
        let has_all = |index: &usize| {
            let namespace = u32::try_from(self.objects[*index].namespace).expect("few") + 1;
            readable_from(&manifest, NamespaceNumber(namespace)) == Some(Lsn::ZERO)
        };
        // In a storm, pages may be lost on their way into history.
        let is_fair = self.plan.weather != Weather::Stormy;
        let whole = |(index, is_own): (&usize, &bool)| {
            (is_fair && *is_own && has_all(index)).then_some(*index)
        };
        let whole: BTreeSet<usize> = hit.iter().filter_map(whole).collect();
        let report = match store.scrub() {
            Ok(report) => report,
            Err(error) => return patient.wrong(format_args!("a scrub says {error:?}")),
        };
        self.note(format_args!("{whole:?} must be whole: {:?}", report.damages));
        let hurt = patient.read(self, &store)?;
        if let Some(index) = hurt.intersection(&whole).next() {
            let damages = &report.damages;
            return patient.wrong(format_args!("object {index} is not rebuilt: {damages:?}"));
        }
        self.check_told(&patient, &report, &hurt)?;
        if changes == 0 && !has_deltas {
            for index in hit.keys() {
                self.compare_past(&patient, &store, *index, whole.contains(index))?;
            }
        }
        if let Err(error) = store.close() {
            return patient.wrong(format_args!("closing says {error:?}"));
        }
        Self::check_verified(&patient, &report)
    }

    /// Changes every object a little, so that most have a delta in the newest segment.
    fn write_deltas(&self, patient: &mut Patient) -> Outcome {
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        patient.write(self, &store, &BTreeSet::new())?;
        let closed = store.steps().checkpoint().and_then(|_| store.close());
        closed.or_else(|error| patient.wrong(format_args!("a checkpoint says {error:?}")))
    }

    /// Some sectors of a segment's pages go bad.
    fn harm(&mut self, patient: &mut Patient, name: FileName, range: Range<u64>) -> BTreeSet<u64> {
        let (first, end) = (range.start / SECTOR_BYTES, range.end.div_ceil(SECTOR_BYTES));
        let mut hit = BTreeSet::new();
        for _ in 0..self.chance.between(1, SECTORS_MAX) {
            let sector = first + self.chance.below((end - first).max(1));
            let bit = sector * SECTOR_BYTES * 8 + self.chance.below(SECTOR_BYTES * 8);
            let damage = match self.chance.below(4) {
                0 => Damage::ZeroSector(sector),
                1 => Damage::Garbage(sector),
                2 => Damage::Unreadable(sector),
                _ => Damage::FlipBit(bit),
            };
            patient.told = format!("{}, {damage:?} of {name}", patient.told);
            // The last sector of the file may be shorter.
            if patient.disk.damage(name, damage).is_ok() {
                hit.insert(sector);
            }
        }
        hit
    }

    /// The objects of a healthy disk, with their heads, and each entry of theirs.
    fn entries(&self, healthy: &SimDisk) -> Vec<(usize, Head, PageEntry)> {
        let manifest = manifest_of(healthy);
        let runs = manifest.runs.iter().filter(|facts| facts.usage == RunUse::Directory);
        let open = |facts| Run::open(healthy, manifest.store, facts).expect("a healthy disk");
        let directory = Directory::new(runs.map(open).collect());
        let mut entries = Vec::new();
        for (address, index) in self.addresses() {
            let head = directory.head(address).expect("a healthy disk");
            let Some(head) = head.filter(|head| !head.deleted) else { continue };
            let pages = directory.pages(address, head.life).map(|page| page.expect("healthy").1);
            let all = head.page.clone().into_iter().chain(pages);
            entries.extend(all.map(|entry| (index, head.clone(), entry)));
        }
        entries
    }

    /// The objects with a page on one of these sectors.
    fn hit(&self, healthy: &SimDisk, file: FileNumber, sectors: &BTreeSet<u64>) -> Hit {
        let is_hit = |entry: &PageEntry| {
            entry.parts().map(|part| part.location).filter(|page| page.file == file).any(|page| {
                let last = (page.offset + u64::from(page.bytes) - 1) / SECTOR_BYTES;
                sectors.range(page.offset / SECTOR_BYTES..=last).next().is_some()
            })
        };
        let entries = self.entries(healthy).into_iter();
        let hit = entries.filter(|(_, _, entry)| is_hit(entry));
        hit.map(|(index, head, _)| (index, head.adopted.is_none())).collect()
    }

    /// Begins a scrub that a power cut ends, and opens the store again.
    fn cut_off(&mut self, patient: &mut Patient, store: Store) -> Outcome<Store> {
        patient.disk.crash_after(self.chance.below(CALLS));
        let report = store.scrub();
        patient.told = format!("{}, cut off {}", patient.told, report.is_err());
        drop(store);
        patient.disk = patient.disk.power_cut();
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        patient.read(self, &store)?;
        Ok(store)
    }

    /// Who is hurt was told, and who was told to be whole is not hurt.
    fn check_told(
        &self,
        patient: &Patient,
        report: &ScrubReport,
        hurt: &BTreeSet<usize>,
    ) -> Outcome {
        let addresses = self.addresses();
        let is_left = |damaged: &&Damaged| matches!(damaged.fate, Fate::Left(_));
        let left: Vec<_> = report.damages.iter().filter(is_left).collect();
        let is_told = |index| {
            left.iter().any(|it| it.address.and_then(|it| addresses.get(&it)) == Some(index))
        };
        if !hurt.iter().all(is_told) || report.has_losses() == left.is_empty() {
            return patient.wrong(format_args!("{hurt:?} are hurt, told is {:?}", report.damages));
        }
        Ok(())
    }

    /// What an object was before is what it was.
    fn compare_past(
        &mut self,
        patient: &Patient,
        store: &Store,
        index: usize,
        is_whole: bool,
    ) -> Outcome {
        let object = &self.objects[index];
        let namespace = match store.namespace(&namespace_name(object.namespace)) {
            Ok(namespace) => namespace,
            Err(error) => return patient.wrong(format_args!("a namespace says {error:?}")),
        };
        match compare_all((object, &namespace), &mut self.chance) {
            Ok((keys, _)) => self.counts.past += keys,
            Err((at, Fault::Wrong(wrong))) => {
                return patient.wrong(format_args!("object {index} as of {at}: {wrong}"));
            }
            Err((at, Fault::Refused(error))) if is_whole => {
                return patient.wrong(format_args!("object {index} as of {at}: {error:?}"));
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Verification finds nothing of the present damaged but what was told to be left: pages too
    /// that no read needs since all that they hold was deleted.
    fn check_verified(patient: &Patient, report: &ScrubReport) -> Outcome {
        let left = report.damages.iter().filter(|it| matches!(it.fate, Fate::Left(_)));
        let left: BTreeSet<Address> = left.filter_map(|it| it.address).collect();
        let faults = verify(patient.disk.clone()).faults;
        let mut live = faults.iter().filter(|fault| fault.scope == Scope::Live);
        match live.find(|fault| fault.object.is_none_or(|object| !left.contains(&object))) {
            None => Ok(()),
            Some(fault) => patient.wrong(format_args!("{left:?} are left, and {fault:?}")),
        }
    }
}

//! A sector that the medium does not give: no byte comes, so that no checksum fails.
//!
//! Invariants:
//!   * Only objects with a page on the sector are hurt, and verification names each of them.
//!   * Checkpoints, cleaning and merges go on, and the objects that are hurt take commits.
//!   * When the medium gives the sector back, nothing that the objects are now is lost.
//!   * Unless more was written beside a page than is kept: then its key range is given up, alone.

use super::model::{Content, Shape};
use super::simulate_damage::{Patient, manifest_of};
use super::simulate_world::{Outcome, World, namespace_name};
use dostore::disk::sim::{Damage, SimDisk};
use dostore::error::{ErrorKind, Result};
use dostore::inspect::verify::verify;
use dostore::names::FileName;
use dostore::store::Store;
use std::collections::BTreeSet;

const SECTOR_BYTES: u64 = 512;
const HEADER_BLOCK_BYTES: u64 = 4_096;
/// So many objects are written to again and again in no time.
const FEW_OBJECTS: usize = 10;
/// Changes beside a page that cannot be read are given up beyond so many times the dirty budget,
/// which a simulation can afford where the budget is small.
const GIVEN_UP_PER_BUDGET: usize = 8;
const AFFORDED_BUDGET: usize = 64 << 10;
const VALUE_BYTES: usize = 4_000;

impl World {
    /// Loses a sector of the pages of a segment, goes on for a while, and gets it back.
    pub fn lose_sector(&mut self, healthy: &SimDisk) -> Outcome {
        let segments = manifest_of(healthy).segments;
        if segments.is_empty() {
            return Ok(());
        }
        let facts = self.chance.pick(&segments).facts;
        let name = FileName::Segment(facts.number);
        let sectors = facts.page_bytes.div_ceil(SECTOR_BYTES).max(1);
        let sector = HEADER_BLOCK_BYTES / SECTOR_BYTES + self.chance.below(sectors);
        let mut patient = self.patient(healthy, &format!("loss of sector {sector} of {name}"));
        self.note(format_args!("{}", patient.told));
        self.counts.damages += 1;
        patient.disk.damage(name, Damage::Unreadable(sector)).expect("the sector is in the file");
        let named = self.named_by_verification(&patient);
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        let hurt = patient.read(self, &store)?;
        if !hurt.is_subset(&named) {
            let what = format!("{hurt:?} are hurt, and {named:?} have a page on the sector");
            return patient.wrong(what);
        }
        let mut emptied = hurt.clone();
        // Often enough that changes beside a page are joined.
        let most = if self.objects.len() < FEW_OBJECTS && !hurt.is_empty() { 12 } else { 2 };
        for _ in 0..self.chance.between(1, most) {
            patient.write(self, &store, &emptied)?;
            patient.maintain(&store)?;
            emptied.clear();
        }
        // A page of which all keys were deleted by a range since is not asked for, until a
        // checkpoint has put that range beside it.
        let later = patient.read(self, &store)?;
        if !later.is_subset(&named) {
            let what = format!("{later:?} are hurt later, first {hurt:?}, named {named:?}");
            return patient.wrong(what);
        }
        if let Err(error) = store.close() {
            return patient.wrong(format_args!("closing says {error:?}"));
        }
        if self.plan.dirty_bytes <= AFFORDED_BUDGET
            && let Some(index) = later.first()
        {
            self.write_too_much(patient.fork(), *index, (name, sector))?;
        }
        let is_there = patient.disk.names().contains(&name);
        if is_there {
            patient.disk.damage(name, Damage::Readable(sector)).expect("it was in the file");
        }
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        patient.maintain(&store)?;
        let mut hurt = patient.read(self, &store)?;
        // One large value that the log still had may be more than is kept beside a page.
        hurt.retain(|index| content_bytes(&patient, *index) <= self.kept_beside());
        if !hurt.is_empty() {
            return patient.wrong(format_args!("{hurt:?} are lost, though all can be read again"));
        }
        Ok(())
    }

    /// Bytes of changes that are kept beside a page that cannot be read, whatever it has itself.
    fn kept_beside(&self) -> usize {
        GIVEN_UP_PER_BUDGET * self.plan.dirty_bytes
    }

    /// Writes more beside the pages of one object that cannot be read than is kept there.
    fn write_too_much(
        &self,
        mut patient: Patient,
        index: usize,
        (name, sector): (FileName, u64),
    ) -> Outcome {
        patient.told = format!("{}, and too much for object {index}", patient.told);
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        // Deltas are joined once there are eight: twice at the most before all that is too much.
        let values = self.kept_beside() / 4 / VALUE_BYTES + 1;
        let rounds = (0..12).try_for_each(|round| {
            self.write_beside(&mut patient, &store, index, (round, values))?;
            store.steps().checkpoint().map(drop)
        });
        if let Err(error) = rounds {
            return patient.wrong(format_args!("writing much says {error:?}"));
        }
        let given_up = patient.read(self, &store)?;
        drop(store);
        patient.disk = patient.disk.kill();
        if patient.disk.names().contains(&name) {
            patient.disk.damage(name, Damage::Readable(sector)).expect("it was in the file");
        }
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        patient.maintain(&store)?;
        let hurt = patient.read(self, &store)?;
        if hurt.iter().any(|hurt| *hurt != index || !given_up.contains(hurt)) {
            return patient.wrong(format_args!("{hurt:?} are lost"));
        }
        // It begins anew like any other.
        let namespace = store.namespace(&namespace_name(self.objects[index].namespace));
        let deleted = namespace.and_then(|namespace| namespace.delete(self.objects[index].id));
        if let Err(error) = deleted {
            return patient.wrong(format_args!("deleting says {error:?}"));
        }
        patient.maps[index].clear();
        patient.write(self, &store, &BTreeSet::new())?;
        patient.maintain(&store)?;
        let hurt = patient.read(self, &store)?;
        if !hurt.is_empty() {
            return patient.wrong(format_args!("{hurt:?} are lost, though all were written anew"));
        }
        Ok(())
    }

    /// Writes so many values behind a key of an object that cannot be read.
    fn write_beside(
        &self,
        patient: &mut Patient,
        store: &Store,
        index: usize,
        (round, values): (usize, usize),
    ) -> Result<()> {
        let object = &self.objects[index];
        let mut handle = store.namespace(&namespace_name(object.namespace))?.open(object.id)?;
        let map = &mut patient.maps[index];
        let is_lost =
            |key: &&Vec<u8>| handle.get(key).is_err_and(|error| error.kind() == ErrorKind::Corrupt);
        // All of it may have been deleted since.
        let beside = map.keys().find(is_lost).cloned().unwrap_or_default();
        for value in 0..values {
            let mut key = beside.clone();
            key.extend_from_slice(format!("~{round:02}{value:03}").as_bytes());
            let shape = Shape::Noise;
            let content = Content { owner: None, version: 1 << 41, bytes: VALUE_BYTES, shape };
            handle.put(&key, content.render(index, &key))?.wait()?;
            map.insert(key, content);
        }
        Ok(())
    }

    /// The objects that verification names: those with a page on the sector that is lost.
    fn named_by_verification(&self, patient: &Patient) -> BTreeSet<usize> {
        let report = verify(patient.disk.clone());
        let named: BTreeSet<_> =
            report.faults.iter().filter_map(|fault| Some(fault.object?.id)).collect();
        let is_named = |object: &&super::model::ObjectModel| named.contains(&object.id.short());
        self.objects.iter().filter(is_named).map(|object| object.index).collect()
    }
}

fn content_bytes(patient: &Patient, index: usize) -> usize {
    patient.maps[index].iter().map(|(key, content)| key.len() + content.bytes).sum()
}

//! A sector that the medium does not give: no byte comes, so that no checksum fails.
//!
//! Invariants:
//!   * Only objects with a page on the sector are hurt, and verification names each of them.
//!   * Checkpoints, cleaning and merges go on, and the objects that are hurt take commits.
//!   * When the medium gives the sector back, nothing that the objects are now is lost.

use super::simulate_damage::{Patient, manifest_of};
use super::simulate_world::{Outcome, World};
use dostore::disk::sim::{Damage, SimDisk};
use dostore::inspect::verify::verify;
use dostore::names::FileName;
use std::collections::BTreeSet;

const SECTOR_BYTES: u64 = 512;
const HEADER_BLOCK_BYTES: u64 = 4_096;
/// So many objects are written to again and again in no time.
const FEW_OBJECTS: usize = 10;

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
        let is_there = patient.disk.names().contains(&name);
        if is_there {
            patient.disk.damage(name, Damage::Readable(sector)).expect("it was in the file");
        }
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        patient.maintain(&store)?;
        let hurt = patient.read(self, &store)?;
        if !hurt.is_empty() {
            return patient.wrong(format_args!("{hurt:?} are lost, though all can be read again"));
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

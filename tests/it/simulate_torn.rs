//! Power cuts that tear sectors, which the log does not count on: a sector is in part new, in part
//! old, or rubbish.
//!
//! Invariants:
//!   * The store refuses, or it is right: what was acknowledged is there, and of what was not each
//!     commit is there whole or not at all.

use super::model::{Content, Map, Shape};
use super::simulate_checks::{Fault, check_all};
use super::simulate_damage::Patient;
use super::simulate_world::{Outcome, World, namespace_name};
use dostore::disk::sim::{Crash, KeepLength, KeepNames, KeepSectors, SimDisk};
use dostore::error::{Error, ErrorKind};
use dostore::store::Store;
use dostore::store::commit::Commit;

/// Calls within which the power fails.
const CALLS: u64 = 150;
const COMMITS: u64 = 20;
const SIZES: &[usize] = &[0, 20, 400, 3_000, 9_000];

/// A commit that was on its way: its object, and what the object is with it.
struct Pending {
    index: usize,
    with: Map,
}

impl World {
    /// Goes on for a while on a copy of the machine, loses power, and looks at what is left.
    pub fn tear(&mut self, healthy: &SimDisk) -> Outcome {
        let mut patient = self.patient(healthy, "torn sectors");
        let Some(store) = patient.open()? else { return patient.wrong("the store does not open") };
        let calls = self.chance.below(CALLS);
        patient.disk.crash_after(calls);
        let pending = self.write_until_off(&mut patient, &store)?;
        drop(store);
        let names = self.chance.pick(&[KeepNames::Nothing, KeepNames::Everything]);
        let crash = Crash { sectors: KeepSectors::Torn, length: KeepLength::Any, names };
        patient.disk = patient.disk.power_cut_keeping(crash);
        self.note(format_args!("torn sectors behind {calls} calls"));
        self.counts.damages += 1;
        match patient.open()? {
            None => Ok(()),
            Some(store) => self.check_torn(&patient, pending.as_ref(), &store),
        }
    }

    /// Commits, each waited for, and checkpoints, until the power fails or enough was done. The
    /// commit that was not acknowledged, if there is one.
    fn write_until_off(
        &mut self,
        patient: &mut Patient,
        store: &Store,
    ) -> Outcome<Option<Pending>> {
        for number in 0..COMMITS {
            let index = self.chance.index(self.objects.len());
            let (key, bytes) = (self.key_of(index), self.chance.pick(SIZES));
            let content = Content { owner: None, version: number, bytes, shape: Shape::Noise };
            let mut with = patient.maps[index].clone();
            with.insert(key.clone(), content);
            match self.put_torn(store, index, (&key, content)) {
                Ok(()) => patient.maps[index] = with,
                Err(_) if patient.disk.is_off() => return Ok(Some(Pending { index, with })),
                Err(error) => return patient.wrong(format_args!("a commit says {error:?}")),
            }
            if self.chance.percent(20)
                && let Err(error) = store.steps().checkpoint()
                && !patient.disk.is_off()
            {
                return patient.wrong(format_args!("a checkpoint says {error:?}"));
            }
        }
        Ok(None)
    }

    fn key_of(&mut self, index: usize) -> Vec<u8> {
        let object = &self.plan.objects[index];
        let number = self.chance.below(object.keys);
        object.style.key(number)
    }

    fn put_torn(&self, store: &Store, index: usize, of: (&[u8], Content)) -> Result<(), Error> {
        let (key, content) = of;
        let object = &self.objects[index];
        let namespace = store.namespace(&namespace_name(object.namespace))?;
        let mut handle = namespace.open(object.id)?;
        handle.put(key, content.render(index, key)).and_then(Commit::wait)?;
        Ok(())
    }

    fn check_torn(&self, patient: &Patient, pending: Option<&Pending>, store: &Store) -> Outcome {
        for object in &self.objects {
            let index = object.index;
            let read = |map: &Map| {
                let namespace = store.namespace(&namespace_name(object.namespace));
                let handle = namespace.and_then(|namespace| namespace.open(object.id));
                check_all(&handle.map_err(Fault::Refused)?, (index, map))
            };
            let found = match (read(&patient.maps[index]), pending) {
                (Err(Fault::Wrong(_)), Some(pending)) if pending.index == index => {
                    read(&pending.with)
                }
                (found, _) => found,
            };
            match found {
                Ok(()) => {}
                Err(Fault::Refused(error)) if error.kind() == ErrorKind::Corrupt => {}
                Err(Fault::Refused(error)) => return patient.wrong(format_args!("{error:?}")),
                Err(Fault::Wrong(wrong)) => return patient.wrong(wrong),
            }
        }
        Ok(())
    }
}

//! Objects as of every commit, in the middle of everything else.
//!
//! Invariants:
//!   * Every commit of the object is a moment that is compared, unless the object is so large that
//!     only some are.

use super::chance::Chance;
use super::simulate_checks::{Fault, check_all, check_get};
use super::simulate_world::{Outcome, Stop, World};
use dostore::ids::Lsn;

/// Keys compared in one go; of what has more moments than that, some are compared.
const KEYS_MAX: usize = 30_000;

impl World {
    /// Compares one object as of each of its commits with the model.
    pub fn check_past_of(&mut self, index: usize) -> Outcome {
        if !self.plan.has_history {
            return Ok(());
        }
        let running = self.running.as_ref().expect("the store is open");
        let object = &self.objects[index];
        let namespace = &running.namespaces[object.namespace];
        let keys = object.commits() * (object.now().len() + 4);
        let every = keys.div_ceil(KEYS_MAX).max(1);
        let chance = &mut self.chance;
        let mut compared = 0;
        let read = object.moments(|number, (lsn, until), map| {
            if !number.is_multiple_of(every) && chance.percent(95) {
                return Ok(());
            }
            // Up to the next commit it stays what it was.
            let at = if chance.percent(20) { until } else { lsn };
            let view =
                namespace.snapshot_as_of(object.id, at).map_err(|error| (at, error.into()))?;
            check_all(&view, (index, map)).map_err(|fault| (at, fault))?;
            for key in some_keys(chance, map) {
                check_get(&view, (index, map), &key).map_err(|fault| (at, fault))?;
            }
            let is_forgotten = map.is_empty() && view.last_lsn() == Lsn::ZERO;
            if view.last_lsn() != lsn && !is_forgotten {
                let what = format!("object {index} says that it is at {}", view.last_lsn());
                return Err((at, Fault::Wrong(what)));
            }
            compared += map.len() as u64 + 1;
            Ok(())
        });
        self.counts.past += compared;
        match read {
            Ok(()) => Ok(()),
            Err((at, Fault::Wrong(what))) => {
                Err(Stop::Violation(format!("object {index} as of {at}: {what}")))
            }
            Err((at, Fault::Refused(error))) => {
                self.judge(&format!("reading object {index} as of {at}"), &error)
            }
        }
    }

    /// The same for an object drawn at random.
    pub fn check_past(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        self.check_past_of(index)
    }
}

/// A key or two that are there.
fn some_keys(chance: &mut Chance, map: &super::model::Map) -> Vec<Vec<u8>> {
    if map.is_empty() || chance.percent(70) {
        return Vec::new();
    }
    let at = chance.index(map.len());
    map.keys().skip(at).take(1).cloned().collect()
}

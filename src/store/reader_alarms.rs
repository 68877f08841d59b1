//! The alarms of a store as a reader shows them, by the time when they are due. Hints in a damaged
//! part of a run are found again in the objects.
//!
//! Invariants:
//!   * Each alarm that is set is told once: as its object has it, whatever hints say.
//!   * Memory is that of the alarms that no checkpoint has yet.

use super::alarms::calls::{Named, all_alarms, find_alarm};
use super::reader::{Moment, Reader, ReaderNamespace};
use crate::alarm::Alarm;
use crate::directory::{HintStep, Hints, Lost};
use crate::error::{Error, ErrorKind, Result};
use crate::format::alarm::{Hint, behind_due};
use crate::ids::{Address, NamespaceNumber, ObjectId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Hints that are read at once.
const BATCH: usize = 256;

/// An alarm that is set.
#[derive(Clone, Debug)]
pub struct SetAlarm {
    /// The namespace of its object.
    pub namespace: ReaderNamespace,
    /// Its object.
    pub object: ObjectId,
    /// Its name; none for the plain one.
    pub name: Option<String>,
    /// When it is due, and what became of its attempts.
    pub alarm: Alarm,
}

/// Alarms by the time when they are due. Lazy. An error stands in the place of alarms that are lost
/// to damage, and the others follow; any other error ends it.
#[derive(Debug)]
pub struct ReaderAlarms {
    moment: Arc<Moment>,
    spaces: BTreeMap<NamespaceNumber, ReaderNamespace>,
    /// Hints of what was set behind the checkpoint.
    recent: BTreeSet<Hint>,
    /// Hints of runs, read and not told.
    ready: VecDeque<Hint>,
    /// Where to go on in the runs; none where nothing is left.
    next: Option<Vec<u8>>,
    /// Damaged parts of runs whose hints are in `recent`.
    found_again: Vec<Lost>,
    /// Damage that hides whether objects have alarms.
    faults: VecDeque<Error>,
}

impl Reader {
    /// The alarms that are set, of all objects, the next one to be due first. Costs one look at
    /// each alarm that is asked for, and at each object with commits behind the checkpoint.
    ///
    /// ```
    /// # fn main() -> dostore::error::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # dostore::store::Store::open(dir.path())?.close()?;
    /// let reader = dostore::store::reader::Reader::open(dir.path())?;
    /// for alarm in reader.alarms()?.take(10) {
    ///     let alarm = alarm?;
    ///     println!("{} {} at {}", alarm.namespace.name(), alarm.object, alarm.alarm.due);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn alarms(&self) -> Result<ReaderAlarms> {
        let moment = self.moment();
        let (mut recent, mut faults) = (BTreeSet::new(), VecDeque::new());
        for (address, tail) in &moment.objects {
            let says = tail.inner.layers.iter().any(|layer| layer.names_alarms);
            // One of which it is not known is asked.
            if !says && tail.inner.state().alarm() == Some(None) {
                continue;
            }
            match moment.view(*address).and_then(all_alarms) {
                Ok(alarms) => recent.extend(hints_of(*address, &alarms)),
                Err(error) => note(error, &mut faults)?,
            }
        }
        let (spaces, moment) = (self.spaces(), Arc::clone(moment));
        let (ready, next) = (VecDeque::new(), Some(Vec::new()));
        let found_again = Vec::new();
        Ok(ReaderAlarms { moment, spaces, recent, ready, next, found_again, faults })
    }
}

/// The hints of the alarms of an object.
fn hints_of(address: Address, alarms: &[Named]) -> Vec<Hint> {
    alarms.iter().map(|(name, it)| Hint::of(it, address, name.as_deref())).collect()
}

/// Keeps damage to be told in its turn; any other error stays one.
fn note(error: Error, faults: &mut VecDeque<Error>) -> Result<()> {
    if error.kind() != ErrorKind::Corrupt {
        return Err(error);
    }
    faults.push_back(error);
    Ok(())
}

impl ReaderAlarms {
    fn refill(&mut self) -> Result<()> {
        let Some(from) = self.next.take_if(|_| self.ready.is_empty()) else { return Ok(()) };
        let moment = Arc::clone(&self.moment);
        let mut hints = Hints::new(&moment.version.alarms, &from);
        let behind = behind_due(Timestamp(u64::MAX));
        while self.ready.len() < BATCH {
            match hints.next_below(&behind)? {
                Some(HintStep::Hint(hint)) => self.ready.push_back(hint),
                Some(HintStep::Lost(lost)) => {
                    if !self.found_again.contains(&lost) {
                        self.find_again(&lost)?;
                        self.found_again.push(lost);
                    }
                }
                None => return Ok(()),
            }
        }
        self.next = self.ready.back().map(|last| [&last.encode()[..], &[0]].concat());
        Ok(())
    }

    /// Finds what was lost in the objects themselves, all of which are asked.
    fn find_again(&mut self, lost: &Lost) -> Result<()> {
        let range = &lost.first..=&lost.last;
        for space in self.spaces.values() {
            for object in space.objects() {
                let address = object.and_then(|object| space.address(object.id));
                let alarms = address.and_then(|address| {
                    Ok(hints_of(address, &all_alarms(self.moment.view(address)?)?))
                });
                match alarms {
                    Ok(hints) => {
                        let is_lost = |hint: &Hint| range.contains(&&hint.encode());
                        self.recent.extend(hints.into_iter().filter(is_lost));
                    }
                    Err(error) => note(error, &mut self.faults)?,
                }
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<SetAlarm>> {
        loop {
            self.refill()?;
            if let Some(error) = self.faults.pop_front() {
                return Err(error);
            }
            let hint = match (self.ready.front(), self.recent.first()) {
                (None, None) => return Ok(None),
                (Some(one), Some(other)) if one == other => {
                    self.recent.pop_first();
                    self.ready.pop_front()
                }
                (Some(one), Some(other)) if other < one => self.recent.pop_first(),
                (None, Some(_)) => self.recent.pop_first(),
                (Some(_), _) => self.ready.pop_front(),
            };
            let Some(Hint { address, ref name, .. }) = hint else { return Ok(None) };
            let Some(space) = self.spaces.get(&address.namespace) else { continue };
            let found = find_alarm(&self.moment.view(address)?, name.as_deref())?;
            let Some(alarm) = found.filter(|it| hint.as_ref().is_some_and(|hint| hint.means(it)))
            else {
                continue;
            };
            let (namespace, object) = (space.clone(), space.id_from_short(address.id));
            let name = name.as_deref().map(str::to_owned);
            return Ok(Some(SetAlarm { namespace, object, name, alarm }));
        }
    }
}

impl Iterator for ReaderAlarms {
    type Item = Result<SetAlarm>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.as_ref().is_err_and(|error| error.kind() != ErrorKind::Corrupt) {
            self.next = None;
            self.ready.clear();
            self.recent.clear();
        }
        step.transpose()
    }
}

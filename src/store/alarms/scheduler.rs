//! Which alarm fires next: hints come from the engine, the objects say whether they are right.
//!
//! Invariants:
//!   * A hint that was handed out is examined, or waits here until it can be.
//!   * Nothing fires before it is due by the clock, nor before its setting is durable.
//!   * Of one alarm of one object, one firing is in the host's hands at a time.
//!   * What is refused is forgotten only where a run has it.

use crate::alarm::Alarm;
use crate::engine::Engine;
use crate::engine::catalog::NamespaceEntry;
use crate::error::{ErrorKind, Result};
use crate::format::alarm::Hint;
use crate::ids::{Address, Lsn, NamespaceNumber, Timestamp};
use crate::locks::Mutex;
use crate::marks::{Mark, mark};
use crate::object::overlay::Found;
use crate::planted::{Mistake, planted};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::calls::{alarm_of, find_alarm};

/// Hints taken from the engine in one go.
const BATCH: usize = 1024;
/// How long what was given back without a word waits.
const GIVEN_BACK: Duration = Duration::from_secs(2);
/// How long a hint waits whose object could not be read because it is damaged.
const DAMAGED: Duration = Duration::from_mins(1);

/// One alarm of one object.
pub(super) type Whose = (Address, Option<Box<str>>);

/// An alarm that fires.
#[derive(Debug)]
pub(super) struct Firing {
    pub hint: Hint,
    pub alarm: Alarm,
    pub at: Timestamp,
}

/// Decides what fires. Owns no thread and no timer.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// When the store was opened.
    pub(super) opened_at: Timestamp,
    /// Held by whoever looks for the next alarm. Before the object's lock.
    work: Mutex<Work>,
    /// A leaf lock.
    flights: Mutex<Flights>,
    /// Whether a host takes all alarms.
    is_taken: AtomicBool,
}

#[derive(Debug, Default)]
struct Work {
    /// Handed out and not examined; whether each came from a run.
    ready: VecDeque<(Hint, bool)>,
    /// Due, but set by a commit that may not be durable yet: what was seen, and as of when.
    undurable: BTreeMap<Lsn, Vec<(Hint, Alarm)>>,
    namespaces: HashMap<NamespaceNumber, (Arc<str>, NamespaceEntry)>,
}

#[derive(Debug, Default)]
struct Flights {
    /// In the host's hands; with what was found due for the same alarm meanwhile.
    flying: HashMap<Whose, Option<Hint>>,
    /// Namespaces whose alarms nobody takes for now.
    refused: BTreeSet<NamespaceNumber>,
    /// To be examined again, by uptime.
    back: BTreeMap<(Duration, u64), Hint>,
    next_number: u64,
}

impl Flights {
    fn give_back(&mut self, at: Duration, hint: Hint) {
        self.back.insert((at, self.next_number), hint);
        self.next_number += 1;
    }

    fn take_back(&mut self, now: Duration) -> Option<Hint> {
        let (at, _) = *self.back.first_key_value()?.0;
        if at > now { None } else { self.back.pop_first().map(|(_, hint)| hint) }
    }
}

pub(super) fn now(engine: &Engine) -> Timestamp {
    Timestamp(engine.clock.wall_micros())
}

impl Scheduler {
    pub fn new(engine: &Engine) -> Self {
        Self {
            opened_at: now(engine),
            work: Mutex::default(),
            flights: Mutex::default(),
            is_taken: AtomicBool::new(false),
        }
    }

    /// Whether the caller is the one host from here on.
    pub(crate) fn take(&self) -> bool {
        !self.is_taken.swap(true, Ordering::AcqRel)
    }

    /// There is no host any more.
    pub(crate) fn give_back(&self) {
        self.is_taken.store(false, Ordering::Release);
    }

    /// The next alarm that is due now, if any.
    pub(super) fn try_next(&self, engine: &Engine) -> Result<Option<Firing>> {
        engine.check_alive()?;
        let mut work = self.work.lock();
        while let Some((hint, from_run, seen)) = self.candidate(engine, &mut work)? {
            if self.flights.lock().refused.contains(&hint.address.namespace) {
                // A run that has it will have it when it is wanted.
                if !from_run {
                    engine.alarms.set_aside(hint);
                }
                continue;
            }
            match self.examine(engine, &mut work, &hint, seen) {
                Ok(Examined::Fires(firing)) => return Ok(Some(firing)),
                Ok(Examined::Waits) => {}
                Ok(Examined::Stale) => {
                    mark(Mark::HintStale);
                    if from_run {
                        engine.alarms.note_stale(hint);
                    }
                }
                Err(error) => {
                    let is_damaged = error.kind() == ErrorKind::Corrupt;
                    let wait = if is_damaged { DAMAGED } else { GIVEN_BACK };
                    let at = engine.clock.uptime() + wait;
                    self.flights.lock().give_back(at, hint);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// A hint to be examined, whether it came from a run, and what was seen of its alarm before.
    fn candidate(
        &self,
        engine: &Engine,
        work: &mut Work,
    ) -> Result<Option<(Hint, bool, Option<Alarm>)>> {
        if let Some(hint) = self.flights.lock().take_back(engine.clock.uptime()) {
            return Ok(Some((hint, false, None)));
        }
        let durable = engine.wal.durable();
        while let Some(mut first) = work.undurable.first_entry().filter(|at| *at.key() <= durable) {
            match first.get_mut().pop() {
                Some((hint, seen)) => return Ok(Some((hint, false, Some(seen)))),
                None => drop(first.remove()),
            }
        }
        while work.ready.is_empty() {
            let now = now(engine);
            let passed = engine.alarms.take_passed(now, BATCH);
            work.ready.extend(passed.into_iter().map(|hint| (hint, false)));
            if !work.ready.is_empty() {
                break;
            }
            let due = engine.take_due_alarms(now, BATCH)?;
            work.ready.extend(due.hints);
            if !due.has_more {
                break;
            }
        }
        Ok(work.ready.pop_front().map(|(hint, from_run)| (hint, from_run, None)))
    }

    fn examine(
        &self,
        engine: &Engine,
        work: &mut Work,
        hint: &Hint,
        seen: Option<Alarm>,
    ) -> Result<Examined> {
        let found = look(engine, hint)?;
        let Some((alarm, lsn)) = found.filter(|(alarm, _)| hint.means(alarm)) else {
            return Ok(Examined::Stale);
        };
        let at = now(engine);
        if alarm.due > at {
            engine.alarms.put_back(hint.clone());
            return Ok(Examined::Waits);
        }
        let is_durable = engine.wal.durable() >= lsn || planted(Mistake::FireEarly);
        if seen != Some(alarm) && !is_durable {
            work.undurable.entry(lsn).or_default().push((hint.clone(), alarm));
            return Ok(Examined::Waits);
        }
        let mut flights = self.flights.lock();
        if let Some(waiting) = flights.flying.get_mut(&(hint.address, hint.name.clone())) {
            *waiting = Some(hint.clone());
            return Ok(Examined::Waits);
        }
        flights.flying.insert((hint.address, hint.name.clone()), None);
        Ok(Examined::Fires(Firing { hint: hint.clone(), alarm, at }))
    }

    /// The host has no more to do with a firing. If it left the alarm as it was, it fires again.
    pub(super) fn land(&self, engine: &Engine, hint: Hint, alarm: &Alarm) {
        let is_done = is_changed(engine, &hint, alarm);
        let uptime = engine.clock.uptime();
        let mut flights = self.flights.lock();
        let waiting = flights.flying.remove(&(hint.address, hint.name.clone())).flatten();
        if flights.refused.contains(&hint.address.namespace) {
            drop(flights);
            waiting.into_iter().chain([hint]).for_each(|hint| engine.alarms.set_aside(hint));
            return;
        }
        let has_waiting = waiting.is_some();
        if let Some(waiting) = waiting {
            flights.give_back(uptime, waiting);
        }
        if !is_done {
            flights.give_back(uptime + GIVEN_BACK, hint);
        }
        drop(flights);
        if has_waiting || !is_done {
            engine.alarms.wake_all();
        }
    }

    /// From here on nobody takes alarms of this namespace: they stay in the store, and nothing of
    /// them in memory once a checkpoint has written them.
    pub(crate) fn refuse(&self, namespace: NamespaceNumber) {
        self.flights.lock().refused.insert(namespace);
    }

    /// Alarms of this namespace, or of all, are taken again: what is due is looked for anew.
    pub(crate) fn accept(&self, engine: &Engine, namespace: Option<NamespaceNumber>) {
        let work = self.work.lock();
        let mut flights = self.flights.lock();
        let is_changed = match namespace {
            Some(namespace) => flights.refused.remove(&namespace),
            None => !std::mem::take(&mut flights.refused).is_empty(),
        };
        drop(flights);
        if is_changed {
            engine.alarms.begin_again();
        }
        drop(work);
        if is_changed {
            engine.alarms.wake_all();
        }
    }

    /// The commit that must be durable before something can fire that is due already.
    pub(super) fn awaited(&self) -> Option<Lsn> {
        let work = self.work.lock();
        work.undurable.iter().find(|(_, hints)| !hints.is_empty()).map(|(lsn, _)| *lsn)
    }

    /// When what was given back is to be examined again, by uptime.
    pub(super) fn next_back(&self) -> Option<Duration> {
        self.flights.lock().back.first_key_value().map(|((at, _), _)| *at)
    }

    /// When something may fire next; it may turn out that nothing does.
    pub(super) fn next_due(&self, engine: &Engine) -> Result<Option<Timestamp>> {
        let now = now(engine);
        let work = self.work.lock();
        let is_undurable = work.undurable.values().any(|hints| !hints.is_empty());
        let is_ready = !work.ready.is_empty() || is_undurable;
        drop(work);
        if is_ready {
            return Ok(Some(now));
        }
        let back = self.next_back().into_iter().chain(engine.alarms.next_look()).min();
        let back = back.map(|at| {
            let left = at.saturating_sub(engine.clock.uptime()).as_micros();
            Timestamp(now.0.saturating_add(u64::try_from(left).unwrap_or(u64::MAX)))
        });
        Ok(engine.next_due()?.into_iter().chain(back).min())
    }

    /// The name and the entry of a namespace.
    pub(super) fn namespace(
        &self,
        engine: &Engine,
        number: NamespaceNumber,
    ) -> Option<(Arc<str>, NamespaceEntry)> {
        let mut work = self.work.lock();
        if !work.namespaces.contains_key(&number) {
            for (name, entry) in engine.namespaces() {
                work.namespaces.insert(entry.number, (name.into(), entry));
            }
        }
        work.namespaces.get(&number).cloned()
    }
}

enum Examined {
    Fires(Firing),
    /// It is to be looked at again, and is noted where that will be.
    Waits,
    /// No alarm is meant by it.
    Stale,
}

/// The alarm of the object and name of a hint, and the object's last commit.
fn look(engine: &Engine, hint: &Hint) -> Result<Option<(Alarm, Lsn)>> {
    let view = engine.view(hint.address)?;
    let alarm = find_alarm(&view, hint.name.as_deref())?;
    Ok(alarm.map(|alarm| (alarm, view.state.last_lsn)))
}

/// Whether an alarm is surely not any more what it was when it fired: a look at memory only.
fn is_changed(engine: &Engine, hint: &Hint, fired: &Alarm) -> bool {
    let Some(object) = engine.table.get(&hint.address) else { return false };
    let Some(inner) = object.inner.try_lock() else { return false };
    if !inner.is_loaded || inner.is_evicted {
        return false;
    }
    let Some(name) = hint.name.as_deref() else {
        return inner.state().alarm().is_some_and(|alarm| alarm != Some(*fired));
    };
    let key = crate::format::alarm::alarm_key(name);
    match inner.layers.iter().rev().find_map(|layer| layer.find(&key)) {
        Some(Found::Deleted) => true,
        Some(Found::Value(_, value)) => alarm_of(&value).is_ok_and(|alarm| alarm != *fired),
        None => false,
    }
}

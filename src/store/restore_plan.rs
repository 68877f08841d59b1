//! What a restoration changes: a list of changes, or pages to adopt and the few that go with them.
//!
//! Invariants:
//!   * Both make the object the same.
//!   * What is adopted holds what the object keeps of its own, as of one view; what has changed of
//!     it since is among the changes.

use super::alarms::calls::{Named, all_alarms, times};
use super::list::full_bounds_of;
use super::restore::{Request, RestoreOptions};
use crate::alarm::Alarm;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::alarm::{alarm_key, entry_of};
use crate::format::own_keys::{NAME_KEY, RESTORE_KEY};
use crate::format::record::Operation;
use crate::ids::{Codec, KeyKind, Lsn};
use crate::limits::Limits;
use crate::object::View;
use crate::object::difference::{Pair, Pairs};
use crate::object::overlay::Found;
use crate::object::range::{Entry, KeyBounds, RangeIter};
use crate::object::write_set::WriteSet;
use crate::planted::{Mistake, planted};
use std::ops::Bound;

/// The code of the error that changes are more than one commit may be.
pub(super) const TOO_LARGE: &str = "restore.large";
/// Keys in a row that go from which on they go as a range.
const RANGE_KEYS_MIN: usize = 3;

/// Entries that belong to an object's past: the store's own and the user's; pages of SQL.
fn data_bounds() -> [KeyBounds; 2] {
    let kinds = |first: KeyKind, behind: u8| {
        (Bound::Included(vec![first as u8]), Bound::Excluded(vec![behind]))
    };
    [kinds(KeyKind::Meta, KeyKind::Alarm as u8), kinds(KeyKind::Sql, KeyKind::Sql as u8 + 1)]
}

/// Entries that do not: alarms and attachments.
fn kept_bounds() -> KeyBounds {
    (Bound::Included(vec![KeyKind::Alarm as u8]), Bound::Excluded(vec![KeyKind::Sql as u8]))
}

/// Whether a view has any entry of its own past. A restoration that waits is none.
fn has_data(view: &View) -> Result<bool> {
    for bounds in data_bounds() {
        for entry in RangeIter::new(view.clone(), None, bounds) {
            if *entry?.key != *RESTORE_KEY {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether restoring `now` to `then` would change anything.
pub(super) fn differs(now: &View, then: &View, options: RestoreOptions) -> Result<bool> {
    for bounds in data_bounds() {
        for pair in Pairs::new(now.clone(), then.clone(), bounds) {
            let pair = pair?;
            let key = pair.before.as_ref().or(pair.after.as_ref()).map(|entry| &*entry.key);
            let has_name = key == Some(NAME_KEY) && pair.before.is_some();
            let keeps_name = has_name && (has_data(then)? || keeps_any(now, options)?);
            let is_kept = key == Some(RESTORE_KEY) || keeps_name;
            if !pair.is_same() && !is_kept {
                return Ok(true);
            }
        }
    }
    let set = |view: &View| all_alarms(view.clone()).map(times);
    Ok(options.alarms && set(now)? != set(then)?)
}

/// Entries that stay whatever the object becomes.
fn bounds_that_stay(options: RestoreOptions) -> impl Iterator<Item = KeyBounds> {
    let alarms = (!options.alarms).then(|| full_bounds_of(KeyKind::Alarm));
    std::iter::once(full_bounds_of(KeyKind::Socket)).chain(alarms)
}

/// Whether anything stays of `now`, whatever it becomes.
fn keeps_any(now: &View, options: RestoreOptions) -> Result<bool> {
    if !options.alarms && now.alarm()?.is_some() {
        return Ok(true);
    }
    for bounds in bounds_that_stay(options) {
        if let Some(entry) = RangeIter::new(now.clone(), None, bounds).next() {
            return entry.map(|_| true);
        }
    }
    Ok(false)
}

/// Whether a view has nothing but a name.
fn is_vacant(view: &View) -> Result<bool> {
    if view.alarm()?.is_some() {
        return Ok(false);
    }
    let everything = (Bound::Unbounded, Bound::Unbounded);
    for entry in RangeIter::new(view.clone(), None, everything) {
        if *entry?.key != *NAME_KEY {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The alarm of a name, among all of an object, which are in the order of their names.
fn alarm_called<'a>(alarms: &'a [Named], name: Option<&String>) -> Option<&'a Alarm> {
    let at = alarms.binary_search_by(|(other, _)| other.as_ref().cmp(&name));
    at.ok().map(|at| &alarms[at].1)
}

/// Too much for one commit: says by how much is known, and that nothing was changed.
#[cold]
fn too_large(cause: Error) -> Error {
    let what = format!("the difference does not fit into one commit: {cause}");
    Error::new(ErrorKind::Invalid, TOO_LARGE, what).caused_by(cause)
}

/// The changes in the making. Limits are those of the format and not the store's: what once was in
/// the object may be there again.
struct Plan {
    changes: WriteSet,
    limits: Limits,
    /// Keys in a row that go.
    gone: Vec<Vec<u8>>,
    /// How many more of them there are behind the first ones; the last of them all.
    more: usize,
    last: Vec<u8>,
}

impl Plan {
    fn new(operations_max: usize) -> Self {
        let limits = Limits { commit_operations: operations_max, ..Limits::default() };
        Self { changes: WriteSet::new(), limits, gone: Vec::new(), more: 0, last: Vec::new() }
    }

    fn push(&mut self, operation: &Operation<'_>) -> Result<()> {
        self.changes.push(&self.limits, operation).map_err(too_large)
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        self.push(&Operation::Put { key: &entry.key, codec: entry.codec, value: &entry.value })
    }

    /// A key goes: with its neighbours, once it is known how many there are.
    fn remove(&mut self, key: &[u8]) -> Result<()> {
        if key.first() == Some(&(KeyKind::Meta as u8)) {
            return self.push(&Operation::Delete { key });
        }
        if self.gone.len() < RANGE_KEYS_MIN {
            self.gone.push(key.to_vec());
        } else {
            self.more += 1;
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// The keys in a row end: those of them that are few go one by one.
    fn end_row(&mut self) -> Result<()> {
        let gone = std::mem::take(&mut self.gone);
        self.more = 0;
        if gone.len() < RANGE_KEYS_MIN {
            return gone.iter().try_for_each(|key| self.push(&Operation::Delete { key }));
        }
        let mut end = std::mem::take(&mut self.last);
        end.push(0);
        self.push(&Operation::DeleteRange { start: &gone[0], end: &end })
    }

    fn pair(&mut self, pair: &Pair) -> Result<()> {
        match (&pair.before, &pair.after) {
            (Some(before), None) => return self.remove(&before.key),
            (_, Some(after)) => {
                self.end_row()?;
                if !pair.is_same() {
                    self.put(after)?;
                }
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl Request<'_> {
    /// That no purge has put the state wanted out of reach since it was looked up.
    pub fn check_purge(&self, purged: Option<Lsn>) -> Result<()> {
        if purged.is_none_or(|purged| purged <= self.restoration.at) {
            return Ok(());
        }
        let what = "the object was purged meanwhile";
        Err(Error::new(ErrorKind::NotRetained, "history.purged", what))
    }

    fn check_vacant(&self, now: &View) -> Result<()> {
        if !self.is_fork || planted(Mistake::ForkOver) || is_vacant(now)? {
            return Ok(());
        }
        let what = "the object that is to become a fork has content; delete it first";
        Err(Error::invalid("fork.occupied", what))
    }

    /// What makes `now` the state wanted.
    pub fn changes(&self, engine: &Engine, now: &View) -> Result<WriteSet> {
        self.check_vacant(now)?;
        let mut plan = Plan::new(engine.options.adopt_operations);
        plan.push(&Operation::Restored(self.restoration))?;
        if has_data(self.then)? {
            self.difference(&mut plan, now)?;
        } else if has_data(now)? {
            self.wipe(&mut plan, now)?;
        }
        if self.options.alarms {
            self.alarms(engine, &mut plan, now)?;
        }
        if self.restoration.is_at_open {
            plan.push(&Operation::Delete { key: RESTORE_KEY })?;
        }
        self.name(&mut plan, now)?;
        Ok(plan.changes)
    }

    /// The whole state wanted, in the order of keys, but for the store's own words that `adopting`
    /// says: what was then, and of `now` what stays.
    pub fn entries(&self, now: &View) -> impl Iterator<Item = Result<Entry>> + use<> {
        let is_content = |entry: &Result<Entry>| {
            let key = entry.as_ref().map(|entry| &*entry.key);
            key.map_or(true, |key| key != NAME_KEY && key != RESTORE_KEY)
        };
        let then = self.then.clone();
        let of_then = move |bounds| RangeIter::new(then.clone(), None, bounds).filter(is_content);
        let stays = RangeIter::new(now.clone(), None, kept_bounds());
        let [first, last] = data_bounds();
        of_then(first).chain(stays).chain(of_then(last))
    }

    /// What makes `now` the state wanted by adopting pages: those of `entries` when the object was
    /// as in `seen`.
    pub fn adopting(
        &self,
        engine: &Engine,
        adopt: &Operation<'_>,
        seen: &View,
        now: &View,
    ) -> Result<WriteSet> {
        self.check_vacant(now)?;
        let mut plan = Plan::new(usize::MAX);
        plan.push(adopt)?;
        plan.push(&Operation::Restored(self.restoration))?;
        if now.state.last_lsn != seen.state.last_lsn {
            for pair in Pairs::new(seen.clone(), now.clone(), kept_bounds()) {
                match pair? {
                    pair if pair.is_same() => {}
                    Pair { after: Some(after), .. } => plan.put(&after)?,
                    Pair { before: Some(Entry { key, .. }), .. } => {
                        plan.push(&Operation::Delete { key: &key })?;
                    }
                    Pair { before: None, after: None } => {}
                }
            }
        }
        let waits = if self.restoration.is_at_open { None } else { now.find(RESTORE_KEY)? };
        let keeps_name = has_data(self.then)? || keeps_any(now, self.options)?;
        let mut name = if keeps_name { now.find(NAME_KEY)? } else { None };
        if !self.is_fork && !matches!(name, Some(Found::Value(..))) {
            name = self.then.find(NAME_KEY)?;
        }
        for (key, found) in [(RESTORE_KEY, waits), (NAME_KEY, name)] {
            if let Some(Found::Value(codec, value)) = found {
                plan.push(&Operation::Put { key, codec, value: &value })?;
            }
        }
        if self.options.alarms {
            self.alarms(engine, &mut plan, now)?;
        }
        self.name(&mut plan, now)?;
        Ok(plan.changes)
    }

    /// The name that the object gets if it has none.
    fn name(&self, plan: &mut Plan, now: &View) -> Result<()> {
        let Some(name) = self.name.filter(|_| !now.state.named) else { return Ok(()) };
        let value = name.as_bytes();
        plan.push(&Operation::Put { key: NAME_KEY, codec: Codec::Raw, value })
    }

    fn difference(&self, plan: &mut Plan, now: &View) -> Result<()> {
        for bounds in data_bounds() {
            for pair in Pairs::new(now.clone(), self.then.clone(), bounds) {
                let pair = pair?;
                let key = pair.before.as_ref().or(pair.after.as_ref()).map(|entry| &*entry.key);
                // A name stays; one that is missing comes back, but not to a fork.
                let is_name = key == Some(NAME_KEY);
                let is_kept = is_name && (self.is_fork || pair.before.is_some());
                if !is_kept && key != Some(RESTORE_KEY) {
                    plan.pair(&pair)?;
                }
            }
            plan.end_row()?;
        }
        Ok(())
    }

    /// The object had nothing then: it goes at a cost that does not depend on how much it has.
    fn wipe(&self, plan: &mut Plan, now: &View) -> Result<()> {
        let keep_alarms = !self.options.alarms;
        plan.push(&Operation::DeleteAll { keep_alarms })?;
        for bounds in bounds_that_stay(self.options) {
            for entry in RangeIter::new(now.clone(), None, bounds) {
                plan.put(&entry?)?;
            }
        }
        let has_more = keeps_any(now, self.options)?;
        // An object of which something stays keeps its name.
        for key in [RESTORE_KEY].into_iter().chain(has_more.then_some(NAME_KEY)) {
            if let Some(Found::Value(codec, value)) = now.find(key)? {
                plan.push(&Operation::Put { key, codec, value: &value })?;
            }
        }
        Ok(())
    }

    fn alarms(&self, engine: &Engine, plan: &mut Plan, now: &View) -> Result<()> {
        let last = now.state.last_lsn;
        // No setting of an alarm of this object ever had this generation.
        let generation = if last == Lsn::ZERO { engine.wal.last_lsn() } else { last };
        // What was wiped has none.
        let is_wiped = plan.changes.is_wiped();
        let now = if is_wiped { Vec::new() } else { all_alarms(now.clone())? };
        let then = all_alarms(self.then.clone())?;
        for (name, alarm) in &then {
            if alarm_called(&now, name.as_ref()).is_some_and(|present| present.time == alarm.time) {
                continue;
            }
            let alarm = Alarm::new(alarm.time, generation);
            match name {
                None => plan.push(&Operation::SetAlarm(alarm))?,
                Some(name) => {
                    let (key, value) = (&alarm_key(name), &entry_of(&alarm));
                    plan.push(&Operation::Put { key, codec: Codec::Raw, value })?;
                }
            }
        }
        for (name, _) in now.iter().filter(|(name, _)| alarm_called(&then, name.as_ref()).is_none())
        {
            match name {
                None => plan.push(&Operation::ClearAlarm)?,
                Some(name) => plan.push(&Operation::Delete { key: &alarm_key(name) })?,
            }
        }
        Ok(())
    }
}

//! Alarm calls of a draft, and reads of alarms from a view: what a turn, an object and a snapshot
//! have in common.
//!
//! The plain alarm stands in the object's head; a named one is an entry of its own kind.
//!
//! Invariants:
//!   * Each setting gets a generation that no other setting of its object ever had.
//!   * A failed call leaves the draft as it was.

use super::Fired;
use crate::alarm::{Alarm, Failure, RetryPolicy, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::alarm::{
    ALARM_KEYS, FAILURE_KEYS, LastFailure, alarm_key, decode_entry, entry_of, failed_in_key,
    failure_key, name_in_key,
};
use crate::format::record::Operation;
use crate::ids::{Codec, Timestamp};
use crate::limits::{FAILURE_TEXT_BYTES_MAX, check_name};
use crate::object::View;
use crate::object::overlay::Found;
use crate::object::range::{KeyBounds, RangeIter};
use crate::object::write_set::AlarmWord;
use crate::planted::{Mistake, planted};
use crate::store::draft::Draft;
use crate::store::object::Object;
use std::ops::Bound;

/// An alarm's name, none for the plain one, and its state.
pub(crate) type Named = (Option<String>, Alarm);

/// The bounds of the named alarms among an object's entries.
fn alarm_bounds() -> KeyBounds {
    let [first, behind] = ALARM_KEYS;
    (Bound::Included(first.to_vec()), Bound::Excluded(behind.to_vec()))
}

#[cold]
fn damaged(fault: Malformed) -> Error {
    Error::new(ErrorKind::Corrupt, "alarm.entry", fault.0)
}

/// The alarm that the value of an entry says.
pub(crate) fn alarm_of(value: &[u8]) -> Result<Alarm> {
    decode_entry(value).map_err(damaged)
}

/// The alarm of a view with this name.
pub(crate) fn find_alarm(view: &View, name: Option<&str>) -> Result<Option<Alarm>> {
    let Some(name) = name else { return view.alarm() };
    match view.find(&alarm_key(name))? {
        Some(Found::Value(_, value)) => alarm_of(&value).map(Some),
        Some(Found::Deleted) | None => Ok(None),
    }
}

/// What a view has of the last failure of an alarm.
pub(crate) fn find_failure(view: &View, name: Option<&str>) -> Result<Option<LastFailure>> {
    match view.find(&failure_key(name))? {
        Some(Found::Value(_, value)) => LastFailure::decode(&value).map(Some).map_err(damaged),
        Some(Found::Deleted) | None => Ok(None),
    }
}

/// Every last failure that a view has, with the name of its alarm.
pub(crate) fn all_failures(view: View) -> Result<Vec<(Option<String>, LastFailure)>> {
    let [first, behind] = FAILURE_KEYS;
    let bounds = (Bound::Included(first.to_vec()), Bound::Excluded(behind.to_vec()));
    let mut found = Vec::new();
    for entry in RangeIter::new(view, None, bounds) {
        let entry = entry?;
        let name = failed_in_key(&entry.key).ok_or(Malformed("a failure of no alarm"));
        let failure = LastFailure::decode(&entry.value).map_err(damaged)?;
        found.push((name.map_err(damaged)?.map(str::to_owned), failure));
    }
    Ok(found)
}

/// The alarms of a view: the plain one first, then named ones by name.
pub(crate) fn all_alarms(view: View) -> Result<Vec<Named>> {
    let plain = view.alarm()?;
    collect(plain, RangeIter::new(view, None, alarm_bounds()))
}

fn collect(plain: Option<Alarm>, entries: RangeIter) -> Result<Vec<Named>> {
    let mut found: Vec<Named> = plain.into_iter().map(|alarm| (None, alarm)).collect();
    for entry in entries {
        let entry = entry?;
        let name = name_in_key(&entry.key).ok_or(Malformed("an alarm's name is not UTF-8"));
        found.push((Some(name.map_err(damaged)?.to_owned()), alarm_of(&entry.value)?));
    }
    Ok(found)
}

/// The times of alarms, as callers get them.
pub(crate) fn times(alarms: Vec<Named>) -> Vec<(Option<String>, Timestamp)> {
    alarms.into_iter().map(|(name, alarm)| (name, alarm.time)).collect()
}

/// What became of an alarm whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It will be tried again.
    Retry {
        /// Not before this.
        at: Timestamp,
    },
    /// It was cleared; what failed is kept as its last failure.
    Abandoned,
    /// It was set again, or cleared, since the attempt began: the failure changes nothing.
    Superseded,
}

/// What decides over a retry, beside the alarm: the moment and some randomness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    pub now: Timestamp,
    pub random: u64,
}

impl Draft {
    /// The alarm of this name, none for the plain one, as the draft sees it.
    pub fn alarm(&self, object: &Object, name: Option<&str>) -> Result<Option<Alarm>> {
        match (name, self.changes.alarm()) {
            (None, AlarmWord::Set(alarm)) => Ok(Some(alarm)),
            (None, AlarmWord::Cleared) => Ok(None),
            (None, AlarmWord::Unsaid) => object.plain_alarm(),
            (Some(name), _) => {
                let value = self.full_entry(object, &alarm_key(name))?;
                value.map(|value| alarm_of(&value)).transpose()
            }
        }
    }

    /// Every alarm as the draft sees it: the plain one first, then named ones by name.
    pub fn alarms(&self, object: &Object) -> Result<Vec<Named>> {
        let plain = self.alarm(object, None)?;
        collect(plain, self.iter_between(object, alarm_bounds())?)
    }

    /// Sets an alarm, also to the time that it has already: that is a new setting.
    pub fn set_alarm(&mut self, object: &Object, name: Option<&str>, at: Timestamp) -> Result<()> {
        let alarm = Alarm::new(at, object.next_generation()?);
        self.put_alarm(object, name, &alarm)
    }

    fn put_alarm(&mut self, object: &Object, name: Option<&str>, alarm: &Alarm) -> Result<()> {
        let Some(name) = name else { return self.push(object, &Operation::SetAlarm(*alarm)) };
        check_name(name)?;
        self.put_full(object, &alarm_key(name), &entry_of(alarm))
    }

    /// Forgets the last failure of an alarm. Says whether there was one.
    pub fn clear_failure(&mut self, object: &Object, name: Option<&str>) -> Result<bool> {
        name.map_or(Ok(()), check_name)?;
        let key = failure_key(name);
        let is_there = self.full_entry(object, &key)?.is_some();
        if is_there {
            self.push(object, &Operation::Delete { key: &key })?;
        }
        Ok(is_there)
    }

    fn put_full(&mut self, object: &Object, key: &[u8], value: &[u8]) -> Result<()> {
        self.push(object, &Operation::Put { key, codec: Codec::Raw, value })
    }

    /// Clears an alarm, there or not.
    pub fn clear_alarm(&mut self, object: &Object, name: Option<&str>) -> Result<()> {
        let Some(name) = name else { return self.push(object, &Operation::ClearAlarm) };
        check_name(name)?;
        self.push(object, &Operation::Delete { key: &alarm_key(name) })
    }

    /// Deletes everything but alarms.
    pub fn delete_all_keeping_alarms(&mut self, object: &Object) -> Result<()> {
        let alarms = self.alarms(object)?;
        let mark = self.mark(object)?;
        let before = self.savepoint();
        let put_again = || -> Result<()> {
            self.push(object, &Operation::DeleteAll { keep_alarms: true })?;
            // The plain one is kept by the operation.
            let named = alarms.iter().filter_map(|(name, alarm)| Some((name.as_deref()?, alarm)));
            named.into_iter().try_for_each(|(name, alarm)| {
                self.put_full(object, &alarm_key(name), &entry_of(alarm))
            })?;
            self.keep_mark(object, mark)
        };
        let done = put_again();
        if done.is_err() {
            self.roll_back(before);
        }
        done
    }

    /// Clears the alarm if it is in the state in which it fired. Says whether it was.
    pub fn complete_alarm(&mut self, object: &Object, fired: &Fired) -> Result<bool> {
        let is_same = self.is_as_fired(object, fired)?;
        if is_same {
            self.clear_alarm(object, fired.alarm_name())?;
        }
        Ok(is_same)
    }

    /// Whether an alarm is in the state in which it fired.
    pub fn is_as_fired(&self, object: &Object, fired: &Fired) -> Result<bool> {
        object.check_fired(fired)?;
        let alarm = self.alarm(object, fired.alarm_name())?;
        if planted(Mistake::IgnoreGeneration) {
            return Ok(alarm.is_some_and(|alarm| alarm.time == fired.scheduled()));
        }
        Ok(alarm.as_ref() == Some(fired.state()))
    }

    /// Moves the alarm to its next attempt, or gives it up, if it is in the state in which it
    /// fired. `failure` comes with what the attempt said.
    pub fn fail_alarm(
        &mut self,
        object: &Object,
        fired: &Fired,
        failure: Failure,
        text: &str,
    ) -> Result<Outcome> {
        if !self.is_as_fired(object, fired)? {
            return Ok(Outcome::Superseded);
        }
        let chance = object.chance()?;
        let (name, fired) = (fired.alarm_name(), fired.state());
        match RetryPolicy::default().after(fired, failure, chance.now, chance.random) {
            Verdict::Retry(next) => {
                self.put_alarm(object, name, &next)?;
                Ok(Outcome::Retry { at: next.due })
            }
            Verdict::Abandon => {
                let text = cut_to(text, FAILURE_TEXT_BYTES_MAX).to_owned();
                let attempts = fired.attempt().saturating_add(1);
                let (scheduled, at) = (fired.time, chance.now);
                let mut value = Vec::new();
                LastFailure { scheduled, at, attempts, text }.encode(&mut value);
                let before = self.savepoint();
                self.clear_alarm(object, name)?;
                let kept = self.put_full(object, &failure_key(name), &value);
                kept.inspect_err(|_| self.roll_back(before))?;
                Ok(Outcome::Abandoned)
            }
        }
    }
}

/// The longest beginning of `text` that is whole characters and at most so long.
fn cut_to(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut_to("abc", 9), "abc");
        assert_eq!(cut_to("abc", 2), "ab");
        assert_eq!(cut_to("a\u{e4}b", 2), "a");
    }
}

//! The alarms of an actor: set, read and reported in the turns of its object.
//!
//! Invariants:
//!   * An alarm that is being handled reads as none, unless it was set again since: then it is
//!     another setting, with another generation, and shows.

use super::core::Core;
use super::storage::Storage;
use crate::alarm::{Alarm, Failure};
use crate::error::Result;
use crate::ids::{Timestamp, micros};
use crate::store::alarms::{Fired, LastFailure, Outcome};
use crate::store::draft::Draft;
use crate::store::object::Object;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// When an alarm is to fire: a [`Timestamp`], a [`SystemTime`], or a [`Duration`] from now. A time
/// that is past is due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmTime {
    /// At this time.
    At(Timestamp),
    /// So long after the call.
    After(Duration),
}

impl From<Timestamp> for AlarmTime {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

impl From<SystemTime> for AlarmTime {
    fn from(at: SystemTime) -> Self {
        Self::At(at.into())
    }
}

impl From<Duration> for AlarmTime {
    fn from(after: Duration) -> Self {
        Self::After(after)
    }
}

impl AlarmTime {
    fn resolve(self, object: &Object) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::After(after) => {
                let now = object.store().engine().clock.wall_micros();
                Timestamp(now.saturating_add(micros(after)))
            }
        }
    }
}

/// While this is held, the alarm that fired reads as none. See [`Storage::alarm_scope`].
#[derive(Debug)]
#[must_use = "the alarm reads as none only while this is held"]
pub struct AlarmScope {
    core: Arc<Core>,
    number: u64,
}

impl Drop for AlarmScope {
    fn drop(&mut self) {
        self.core.handled.lock().retain(|handled| handled.number != self.number);
    }
}

/// An alarm that is being handled.
#[derive(Debug)]
pub(super) struct Handled {
    number: u64,
    name: Option<String>,
    alarm: Alarm,
}

impl Storage {
    /// The time that the plain alarm is set for; none while it is being handled.
    pub fn alarm(&self) -> Result<Option<Timestamp>> {
        self.find_alarm(None)
    }

    /// The time that the alarm with this name is set for; none while it is being handled.
    pub fn named_alarm(&self, name: &str) -> Result<Option<Timestamp>> {
        self.find_alarm(Some(name))
    }

    fn find_alarm(&self, name: Option<&str>) -> Result<Option<Timestamp>> {
        let find = |draft: &Draft, object: &Object| draft.alarm(object, name);
        let alarm = self.read(find, |object| find(&Draft::new(), object))?;
        let alarm = alarm.filter(|alarm| !self.is_handled(name, alarm));
        Ok(alarm.map(|alarm| alarm.time))
    }

    /// Every alarm with its time: the plain one first, then named ones by name. Without those that
    /// are being handled.
    pub fn alarms(&self) -> Result<Vec<(Option<String>, Timestamp)>> {
        let find = |draft: &Draft, object: &Object| draft.alarms(object);
        let alarms = self.read(find, |object| find(&Draft::new(), object))?;
        let waiting = alarms.into_iter().filter(|(name, alarm)| {
            let name = name.as_deref();
            !self.is_handled(name, alarm)
        });
        Ok(waiting.map(|(name, alarm)| (name, alarm.time)).collect())
    }

    fn is_handled(&self, name: Option<&str>, alarm: &Alarm) -> bool {
        let handled = self.core().handled.lock();
        handled.iter().any(|handled| handled.name.as_deref() == name && handled.alarm == *alarm)
    }

    /// Sets the plain alarm, or moves it. To set it again is a new setting, also at the same time.
    pub fn set_alarm(&self, time: impl Into<AlarmTime>) -> Result<()> {
        self.put_alarm(true, None, time.into())
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn set_alarm_unconfirmed(&self, time: impl Into<AlarmTime>) -> Result<()> {
        self.put_alarm(false, None, time.into())
    }

    /// Sets the alarm with this name, or moves it. Fails with `Invalid` for a name that is too
    /// long.
    pub fn set_named_alarm(&self, name: &str, time: impl Into<AlarmTime>) -> Result<()> {
        self.put_alarm(true, Some(name), time.into())
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn set_named_alarm_unconfirmed(
        &self,
        name: &str,
        time: impl Into<AlarmTime>,
    ) -> Result<()> {
        self.put_alarm(false, Some(name), time.into())
    }

    fn put_alarm(&self, is_confirmed: bool, name: Option<&str>, time: AlarmTime) -> Result<()> {
        self.change(is_confirmed, |draft, object| {
            draft.set_alarm(object, name, time.resolve(object))
        })
    }

    /// Clears the plain alarm, there or not.
    pub fn clear_alarm(&self) -> Result<()> {
        self.change(true, |draft, object| draft.clear_alarm(object, None))
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn clear_alarm_unconfirmed(&self) -> Result<()> {
        self.change(false, |draft, object| draft.clear_alarm(object, None))
    }

    /// Clears the alarm with this name, there or not.
    pub fn clear_named_alarm(&self, name: &str) -> Result<()> {
        self.change(true, |draft, object| draft.clear_alarm(object, Some(name)))
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn clear_named_alarm_unconfirmed(&self, name: &str) -> Result<()> {
        self.change(false, |draft, object| draft.clear_alarm(object, Some(name)))
    }

    /// Deletes everything in the object but its alarms.
    pub fn delete_all_keeping_alarms(&self) -> Result<()> {
        self.change(true, Draft::delete_all_keeping_alarms)
    }

    /// What an alarm failed of when it was last given up, as far as that is sealed.
    pub fn last_failure(&self, name: Option<&str>) -> Result<Option<LastFailure>> {
        self.core().book.check()?;
        self.core().object.last_failure(name)
    }

    /// Forgets what an alarm failed of when it was last given up. Says whether there was anything.
    ///
    /// Until then, or until everything is deleted, an object keeps it for each name: whoever gives
    /// every job a name of its own clears what was looked at.
    pub fn clear_last_failure(&self, name: Option<&str>) -> Result<bool> {
        self.change(true, |draft, object| draft.clear_failure(object, name))
    }

    /// To be held while an alarm is being handled: it reads as none meanwhile, unless it is set
    /// again.
    pub fn alarm_scope(&self, fired: &Fired) -> AlarmScope {
        let core = Arc::clone(self.core());
        let number = core.next_handled();
        let name = fired.alarm_name().map(str::to_owned);
        core.handled.lock().push(Handled { number, name, alarm: *fired.state() });
        AlarmScope { core, number }
    }

    /// Clears an alarm that was handled, in the same commit as what the open turn has written; not
    /// if it was set again since. Says whether it was cleared.
    pub fn complete_alarm(&self, fired: &Fired) -> Result<bool> {
        self.change(true, |draft, object| draft.complete_alarm(object, fired))
    }

    /// Moves an alarm whose handling failed to its next attempt, or gives it up after the last.
    /// `text` says why, for [`Storage::last_failure`].
    pub fn fail_alarm(&self, fired: &Fired, failure: Failure, text: &str) -> Result<Outcome> {
        self.change(true, |draft, object| draft.fail_alarm(object, fired, failure, text))
    }
}

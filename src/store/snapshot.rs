//! An object at one moment.
//!
//! Invariants:
//!   * What it shows does not change.
//!   * One that may leave the process shows nothing that a crash could take back.

use super::alarms::LastFailure;
use super::alarms::calls::{all_alarms, all_failures, find_alarm, find_failure, times};
use super::list::{Entries, ListOptions, range_bounds};
use super::objects::{is_empty, name_of};
use super::transfer::check_view;
use super::value::{FullKey, Value};
use crate::alarm::Alarm;
use crate::engine::Engine;
use crate::error::Result;
use crate::ids::{Lsn, Timestamp};
use crate::object::View;
use crate::object::overlay::Found;
use crate::object::range::RangeIter;
use crate::planted::{Mistake, planted};
use std::ops::RangeBounds;

/// An object as it was when the snapshot was taken. Later commits do not show. Holding one keeps
/// the files that it reads from being removed until the store is closed: from then on a read fails
/// with `store.closed` where the next writer has removed what it needs. So hold one for as long as
/// it is read and no longer: `Stats::retired_bytes` counts what waits for it.
///
/// Taken by [`Namespace::snapshot`](super::namespace::Namespace::snapshot),
/// [`Object::snapshot`](super::object::Object::snapshot), as of a bookmark by `at` of both, and by
/// a [reader](super::reader). Cloning is cheap. Reads cost what those of an
/// [`Object`](super::object::Object) cost; of the past, the files of history besides.
#[derive(Clone, Debug)]
pub struct Snapshot {
    view: View,
}

impl Snapshot {
    pub(crate) fn new(view: View) -> Self {
        Self { view }
    }

    /// A snapshot that may leave the process: what it shows is durable.
    pub(crate) fn durable(engine: &Engine, view: View) -> Result<Self> {
        engine.check_alive()?;
        check_view(&view)?;
        if !planted(Mistake::ShowEarly) {
            engine.wait_durable(view.state.last_lsn)?;
        }
        Ok(Self { view })
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The last commit of the object that it shows; [`Lsn::ZERO`] where none is known.
    pub fn last_lsn(&self) -> Lsn {
        self.view.state.last_lsn
    }

    /// The time of that commit.
    pub fn last_time(&self) -> Timestamp {
        self.view.state.last_time
    }

    /// The name that is kept with the object, if a commit was ever made under one.
    pub fn name(&self) -> Result<Option<String>> {
        name_of(&self.view)
    }

    /// Whether the object holds nothing: it was never there, was deleted, or has a name alone.
    pub fn is_empty(&self) -> Result<bool> {
        is_empty(&self.view)
    }

    /// The value of a key; none where it was not there.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(match self.view.find(&FullKey::user(key.as_ref()))? {
            Some(Found::Value(codec, value)) => Some(Value::new(codec, value)),
            Some(Found::Deleted) | None => None,
        })
    }

    /// When the plain alarm was set for, if there is one. Fails where damage keeps that from being
    /// known.
    pub fn alarm(&self) -> Result<Option<Timestamp>> {
        Ok(self.view.alarm()?.map(|alarm| alarm.time))
    }

    /// When the alarm of this name was set for, if there is one.
    pub fn named_alarm(&self, name: &str) -> Result<Option<Timestamp>> {
        Ok(find_alarm(&self.view, Some(name))?.map(|alarm| alarm.time))
    }

    /// Every alarm and when it was set for: the plain one first, which has no name, then by name.
    pub fn alarms(&self) -> Result<Vec<(Option<String>, Timestamp)>> {
        all_alarms(self.view.clone()).map(times)
    }

    /// What is kept of the alarm, none for the plain one, when it was last abandoned.
    pub fn last_failure(&self, name: Option<&str>) -> Result<Option<LastFailure>> {
        find_failure(&self.view, name)
    }

    /// Every alarm with what became of its attempts: the plain one first, then by name.
    pub fn alarm_states(&self) -> Result<Vec<(Option<String>, Alarm)>> {
        all_alarms(self.view.clone())
    }

    /// What is kept of each alarm, none for the plain one, that was ever abandoned.
    pub fn last_failures(&self) -> Result<Vec<(Option<String>, LastFailure)>> {
        all_failures(self.view.clone())
    }

    /// Keys and values. Fails with `list.limit` or `list.start` for options that contradict each
    /// other.
    pub fn list(&self, options: ListOptions) -> Result<Entries> {
        let bounds = options.bounds()?;
        Ok(options.entries(RangeIter::new(self.view.clone(), None, bounds)))
    }

    /// Keys and values in a range of keys.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Entries {
        ListOptions::new().entries(RangeIter::new(self.view.clone(), None, range_bounds(&range)))
    }
}

//! A turn in the making, apart from its object: every operation of a turn, in one place.
//!
//! Whoever owns a draft hands it the object for limits and for reads. [`super::turn::Turn`] does
//! so with a borrowed object, and the layer of actors with a shared one.
//!
//! Invariants:
//!   * A failed operation leaves the draft as it was.
//!   * A draft belongs to one object: it is only ever given that one.

use super::list::{Entries, ListOptions, full_bounds_of, range_bounds};
use super::object::Object;
use super::value::{FullKey, Value};
use crate::error::Result;
use crate::format::own_keys::RESTORE_KEY;
use crate::format::record::Operation;
use crate::ids::{Codec, KeyKind};
use crate::limits::Limits;
use crate::object::overlay::Found;
use crate::object::range::{KeyBounds, RangeIter};
use crate::object::write_set::{Savepoint, WriteSet};
use std::ops::{Bound, RangeBounds};

/// Changes of one object that are not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(super) changes: WriteSet,
}

impl Draft {
    pub fn new() -> Self {
        Self::default()
    }

    /// What is to be logged.
    pub fn into_changes(self) -> WriteSet {
        self.changes
    }

    /// Operations so far.
    pub fn count(&self) -> usize {
        self.changes.count()
    }

    /// The value of a user's key.
    pub fn get(&self, object: &Object, key: &[u8]) -> Result<Option<Value>> {
        self.entry(object, &FullKey::user(key))
    }

    /// The value of an entry of any kind.
    pub fn entry(&self, object: &Object, full: &FullKey) -> Result<Option<Value>> {
        self.full_entry(object, full)
    }

    pub(super) fn full_entry(&self, object: &Object, full: &[u8]) -> Result<Option<Value>> {
        match self.changes.find(full) {
            Some(Found::Value(codec, value)) => Ok(Some(Value::new(codec, value))),
            Some(Found::Deleted) => Ok(None),
            None => object.entry(full),
        }
    }

    pub fn put(&mut self, object: &Object, key: &[u8], codec: Codec, value: &[u8]) -> Result<()> {
        self.put_entry(object, KeyKind::User, key, (codec, value))
    }

    /// Sets an entry of any kind; limits count its key without the kind.
    pub fn put_entry(
        &mut self,
        object: &Object,
        kind: KeyKind,
        key: &[u8],
        (codec, value): (Codec, &[u8]),
    ) -> Result<()> {
        object.limits().check_pair(key, value)?;
        self.push(object, &Operation::Put { key: &FullKey::of(kind, key), codec, value })
    }

    pub fn delete(&mut self, object: &Object, key: &[u8]) -> Result<()> {
        self.delete_entry(object, KeyKind::User, key)
    }

    /// Deletes an entry of any kind.
    pub fn delete_entry(&mut self, object: &Object, kind: KeyKind, key: &[u8]) -> Result<()> {
        Limits::check_old_key(key)?;
        self.push(object, &Operation::Delete { key: &FullKey::of(kind, key) })
    }

    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        object: &Object,
        range: &impl RangeBounds<K>,
    ) -> Result<()> {
        for bound in [range.start_bound(), range.end_bound()] {
            if let Bound::Included(key) | Bound::Excluded(key) = bound {
                Limits::check_old_key(key.as_ref())?;
            }
        }
        let (from, to) = range_bounds(range);
        let start = first_key(from);
        let end = behind_last_key(to);
        if start >= end {
            return Ok(());
        }
        self.push(object, &Operation::DeleteRange { start: &start, end: &end })
    }

    pub fn delete_all(&mut self, object: &Object) -> Result<()> {
        let before = self.savepoint();
        let mark = self.mark(object)?;
        self.push(object, &Operation::DeleteAll { keep_alarms: false })?;
        self.keep_mark(object, mark).inspect_err(|_| self.roll_back(before))
    }

    /// What waits for the next open outlasts the deletion of everything.
    pub(super) fn keep_mark(&mut self, object: &Object, mark: Option<Value>) -> Result<()> {
        let Some(value) = mark else { return Ok(()) };
        self.push(object, &Operation::Put { key: RESTORE_KEY, codec: Codec::Raw, value: &value })
    }

    /// What waits for the next open, as the draft sees it. Reads nothing where nothing does.
    pub(super) fn mark(&self, object: &Object) -> Result<Option<Value>> {
        match self.changes.find(RESTORE_KEY) {
            None if !object.wants_restore()? => Ok(None),
            _ => self.full_entry(object, RESTORE_KEY),
        }
    }

    pub(super) fn push(&mut self, object: &Object, operation: &Operation<'_>) -> Result<()> {
        self.changes.push(object.limits(), operation)
    }

    pub fn list(&self, object: &Object, options: ListOptions) -> Result<Entries> {
        let bounds = options.bounds()?;
        Ok(options.entries(self.iter_between(object, bounds)?))
    }

    pub fn range<K: AsRef<[u8]>>(
        &self,
        object: &Object,
        range: &impl RangeBounds<K>,
    ) -> Result<Entries> {
        Ok(ListOptions::new().entries(self.iter_between(object, range_bounds(range))?))
    }

    /// Every entry of one kind, in key order.
    pub fn entries_of(&self, object: &Object, kind: KeyKind) -> Result<Entries> {
        Ok(ListOptions::new().entries(self.iter_between(object, full_bounds_of(kind))?))
    }

    pub(super) fn iter_between(&self, object: &Object, bounds: KeyBounds) -> Result<RangeIter> {
        let changes = (self.changes.sorted(), self.changes.is_wiped());
        Ok(RangeIter::new(object.view()?, Some(changes), bounds))
    }

    /// The present moment, to come back to.
    pub fn savepoint(&self) -> Savepoint {
        self.changes.savepoint()
    }

    /// Undoes what came after the savepoint.
    pub fn roll_back(&mut self, to: Savepoint) {
        self.changes.roll_back(to);
    }
}

/// The first full key inside a lower bound.
fn first_key(from: Bound<Vec<u8>>) -> Vec<u8> {
    match from {
        Bound::Included(key) => key,
        Bound::Excluded(mut key) => {
            key.push(0);
            key
        }
        Bound::Unbounded => vec![KeyKind::User as u8],
    }
}

/// The first full key behind an upper bound.
fn behind_last_key(to: Bound<Vec<u8>>) -> Vec<u8> {
    match to {
        Bound::Included(key) => first_key(Bound::Excluded(key)),
        Bound::Excluded(key) => key,
        Bound::Unbounded => vec![KeyKind::User as u8 + 1],
    }
}

//! A turn: changes of one object that commit together or not at all.

use super::commit::{Commit, Position};
use super::list::{Entries, ListOptions, range_bounds};
use super::object::Object;
use super::value::{FullKey, Value};
use crate::error::Result;
use crate::format::record::Operation;
use crate::ids::{Codec, KeyKind};
use crate::object::overlay::Found;
use crate::object::range::{KeyBounds, RangeIter};
use crate::object::write_set::{self, WriteSet};
use std::ops::{Bound, Deref, DerefMut, RangeBounds};

/// Changes that are not committed yet. Reads through it see them. Dropping it forgets them.
#[derive(Debug)]
#[must_use = "a turn that is dropped changes nothing"]
pub struct Turn<'o> {
    object: &'o mut Object,
    changes: WriteSet,
}

impl<'o> Turn<'o> {
    pub(crate) fn new(object: &'o mut Object) -> Self {
        Self { object, changes: WriteSet::new() }
    }

    /// The value of a key as this turn sees it. Fails with `Corrupt` where its page is damaged.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let full = FullKey::user(key.as_ref());
        match self.changes.find(&full) {
            Some(Found::Value(codec, value)) => Ok(Some(Value::new(codec, value))),
            Some(Found::Deleted) => Ok(None),
            None => self.object.get(key),
        }
    }

    /// Sets a key. Fails with `Invalid` beyond a limit; the turn is as it was then.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<&mut Self> {
        self.put_as(key, Codec::Raw, value)
    }

    /// Sets a key and says how tools may read the value.
    pub fn put_as(
        &mut self,
        key: impl AsRef<[u8]>,
        codec: Codec,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Self> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.object.limits().check_pair(key, value)?;
        self.push(&Operation::Put { key: &FullKey::user(key), codec, value })
    }

    /// Deletes a key, there or not.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<&mut Self> {
        self.object.limits().check_key(key.as_ref())?;
        self.push(&Operation::Delete { key: &FullKey::user(key.as_ref()) })
    }

    /// Deletes every key in a range, without looking at them.
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        range: impl RangeBounds<K>,
    ) -> Result<&mut Self> {
        for bound in [range.start_bound(), range.end_bound()] {
            if let Bound::Included(key) | Bound::Excluded(key) = bound {
                self.object.limits().check_key(key.as_ref())?;
            }
        }
        let (from, to) = range_bounds(&range);
        let start = first_key(from);
        let end = behind_last_key(to);
        if start >= end {
            return Ok(self);
        }
        self.push(&Operation::DeleteRange { start: &start, end: &end })
    }

    /// Deletes everything in the object, alarms included, at a cost that does not depend on how
    /// much there is.
    pub fn delete_all(&mut self) -> Result<&mut Self> {
        self.push(&Operation::DeleteAll { keep_alarms: false })
    }

    fn push(&mut self, operation: &Operation<'_>) -> Result<&mut Self> {
        self.changes.push(self.object.limits(), operation)?;
        Ok(self)
    }

    /// Keys and values as this turn sees them now; later changes do not show.
    pub fn list(&self, options: ListOptions) -> Result<Entries> {
        let bounds = options.bounds()?;
        Ok(options.entries(self.entries(bounds)?))
    }

    /// Keys and values in a range of keys, as this turn sees them now.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Entries> {
        let iter = self.entries(range_bounds(&range))?;
        Ok(ListOptions::new().entries(iter))
    }

    fn entries(&self, bounds: KeyBounds) -> Result<RangeIter> {
        let view = self.object.view()?;
        Ok(RangeIter::new(view, Some((self.changes.sorted(), self.changes.is_wiped())), bounds))
    }

    /// A part of the turn that can be undone by itself.
    pub fn savepoint(&mut self) -> Savepoint<'_, 'o> {
        let begin = self.changes.savepoint();
        Savepoint { turn: self, begin, is_kept: false }
    }

    /// Logs the turn. From here on the object's own reads see it, and it will be durable when the
    /// returned commit says so; the next turn may begin at once. On an error nothing was logged.
    ///
    /// A turn without changes commits as what was committed before it.
    pub fn commit(self) -> Result<Commit> {
        let Self { object, changes } = self;
        object.commit(changes)
    }

    /// The same, waiting until the turn is durable.
    pub fn commit_durable(self) -> Result<Position> {
        self.commit()?.wait()
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

/// A part of a turn. Undone when it is dropped, unless it was released.
#[derive(Debug)]
#[must_use = "a savepoint that is dropped undoes what was done in it"]
pub struct Savepoint<'t, 'o> {
    turn: &'t mut Turn<'o>,
    begin: write_set::Savepoint,
    is_kept: bool,
}

impl Savepoint<'_, '_> {
    /// Keeps what was done since the savepoint.
    pub fn release(mut self) {
        self.is_kept = true;
    }
}

impl<'o> Deref for Savepoint<'_, 'o> {
    type Target = Turn<'o>;

    fn deref(&self) -> &Turn<'o> {
        self.turn
    }
}

impl<'o> DerefMut for Savepoint<'_, 'o> {
    fn deref_mut(&mut self) -> &mut Turn<'o> {
        self.turn
    }
}

impl Drop for Savepoint<'_, '_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.turn.changes.roll_back(self.begin);
        }
    }
}

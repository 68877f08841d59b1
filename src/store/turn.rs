//! A turn: changes of one object that commit together or not at all.
//!
//! Invariants:
//!   * A savepoint undoes something of the turn that it was made in, or nothing: who holds it may
//!     have put another turn in that one's place.

use super::alarms::calls::times;
use super::alarms::{Failure, Fired, Outcome};
use super::commit::{Commit, Position};
use super::draft::Draft;
use super::list::{Entries, ListOptions};
use super::object::Object;
use super::value::Value;
use crate::error::Result;
use crate::ids::{Codec, Timestamp};
use crate::object::write_set;
use std::ops::{Deref, DerefMut, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells savepoints apart, over all turns.
static SAVEPOINTS: AtomicU64 = AtomicU64::new(0);

/// Changes that are not committed yet. Reads through it see them. Dropping it forgets them.
///
/// A call that fails leaves the turn as it was before the call. Beyond a limit of the store
/// ([`Limits`](crate::limits::Limits)) it fails with the kind `Invalid`: `limit.key`,
/// `limit.value`, `limit.pair` for one entry, `limit.commit` and `limit.operations` for all of the
/// turn.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = dostore::store::Store::open(dir.path())?;
/// # let mut lobby = store.namespace("rooms")?.open_by_name("lobby")?;
/// let mut turn = lobby.turn();
/// turn.put("topic", "rust")?;
/// let mut part = turn.savepoint();
/// part.put("topic", "oops")?;
/// drop(part); // Undone; `part.release()` keeps it.
/// assert_eq!(turn.get("topic")?.as_deref(), Some(&b"rust"[..]));
/// turn.commit()?.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a turn that is dropped changes nothing"]
pub struct Turn<'o> {
    object: &'o mut Object,
    draft: Draft,
    /// The savepoints that were not undone or released, the outermost first.
    open: Vec<(u64, write_set::Savepoint)>,
}

impl<'o> Turn<'o> {
    pub(crate) fn new(object: &'o mut Object) -> Self {
        Self { object, draft: Draft::new(), open: Vec::new() }
    }

    /// The value of a key as this turn sees it. Costs what [`Object::get`] costs.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.draft.get(self.object, key.as_ref())
    }

    /// Sets a key. Key and value are copied; neither is kept borrowed.
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
        self.draft.put(self.object, key.as_ref(), codec, value.as_ref())?;
        Ok(self)
    }

    /// Deletes a key, there or not.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<&mut Self> {
        self.draft.delete(self.object, key.as_ref())?;
        Ok(self)
    }

    /// Deletes every key in a range, without looking at them: one operation, however many there
    /// are.
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        range: impl RangeBounds<K>,
    ) -> Result<&mut Self> {
        self.draft.delete_range(self.object, &range)?;
        Ok(self)
    }

    /// Deletes everything in the object, alarms included, at a cost that does not depend on how
    /// much there is. What the turn sets after it stays.
    pub fn delete_all(&mut self) -> Result<&mut Self> {
        self.draft.delete_all(self.object)?;
        Ok(self)
    }

    /// The same, but alarms stay as they are.
    pub fn delete_all_keeping_alarms(&mut self) -> Result<&mut Self> {
        self.draft.delete_all_keeping_alarms(self.object)?;
        Ok(self)
    }

    /// When the plain alarm is set for, as this turn sees it.
    pub fn alarm(&self) -> Result<Option<Timestamp>> {
        Ok(self.draft.alarm(self.object, None)?.map(|alarm| alarm.time))
    }

    /// Sets the plain alarm, in the place of the one that there may be. A time that has passed is
    /// due at once. Setting it to the time that it has is a new alarm: it fires once more.
    pub fn set_alarm(&mut self, at: impl Into<Timestamp>) -> Result<&mut Self> {
        self.draft.set_alarm(self.object, None, at.into())?;
        Ok(self)
    }

    /// Clears the plain alarm, there or not.
    pub fn clear_alarm(&mut self) -> Result<&mut Self> {
        self.draft.clear_alarm(self.object, None)?;
        Ok(self)
    }

    /// When the alarm of this name is set for, as this turn sees it.
    pub fn named_alarm(&self, name: &str) -> Result<Option<Timestamp>> {
        Ok(self.draft.alarm(self.object, Some(name))?.map(|alarm| alarm.time))
    }

    /// Sets the alarm of this name; it stands beside the plain one and beside all others. Fails
    /// with `limit.name` for a name of more than 1,024 bytes.
    pub fn set_named_alarm(&mut self, name: &str, at: impl Into<Timestamp>) -> Result<&mut Self> {
        self.draft.set_alarm(self.object, Some(name), at.into())?;
        Ok(self)
    }

    /// Clears the alarm of this name, there or not.
    pub fn clear_named_alarm(&mut self, name: &str) -> Result<&mut Self> {
        self.draft.clear_alarm(self.object, Some(name))?;
        Ok(self)
    }

    /// Says that an alarm which fired was handled: clears it, unless it was set again or cleared
    /// since. Says whether it was this one still. Belongs in the last turn of the handling, so that
    /// the alarm is gone exactly when what it did is durable.
    pub fn complete_alarm(&mut self, fired: &Fired) -> Result<bool> {
        self.draft.complete_alarm(self.object, fired)
    }

    /// Says that handling an alarm which fired failed, and how, in words that are kept up to 512
    /// bytes if it is given up: see [`RetryPolicy`](crate::alarm::RetryPolicy). Counters and the
    /// next time are committed with the turn.
    pub fn fail_alarm(&mut self, fired: &Fired, failure: Failure, text: &str) -> Result<Outcome> {
        self.draft.fail_alarm(self.object, fired, failure, text)
    }

    /// Every alarm as this turn sees it and when it is set for: the plain one first, which has no
    /// name, then by name.
    pub fn alarms(&self) -> Result<Vec<(Option<String>, Timestamp)>> {
        self.draft.alarms(self.object).map(times)
    }

    /// Keys and values as this turn sees them now; later changes do not show.
    pub fn list(&self, options: ListOptions) -> Result<Entries> {
        self.draft.list(self.object, options)
    }

    /// Keys and values in a range of keys, as this turn sees them now.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Entries> {
        self.draft.range(self.object, &range)
    }

    /// A part of the turn that can be undone by itself. Where another turn takes the place of this
    /// one meanwhile, nothing is undone.
    pub fn savepoint(&mut self) -> Savepoint<'_, 'o> {
        let number = SAVEPOINTS.fetch_add(1, Ordering::Relaxed);
        self.open.push((number, self.draft.savepoint()));
        Savepoint { turn: self, number, is_kept: false }
    }

    /// Ends a savepoint and all that were made in it.
    fn end_savepoint(&mut self, number: u64, is_kept: bool) {
        let Some(at) = self.open.iter().rposition(|(other, _)| *other == number) else { return };
        let (_, begin) = self.open[at];
        self.open.truncate(at);
        if !is_kept {
            self.draft.roll_back(begin);
        }
    }

    /// Logs the turn. From here on the object's own reads see it, and it will be durable when the
    /// returned commit says so; the next turn may begin at once. On an error nothing was logged.
    /// Fails with `Full` or `Io` where no file of the log can be made, and with `handle.fenced`.
    ///
    /// Does not wait for the turn's own sync. Blocks for the disk where 4 MiB of commits wait
    /// already, or where no file of the log stands ready. A full disk is told here, not by waiting.
    ///
    /// A turn without changes commits as what was committed before it.
    pub fn commit(self) -> Result<Commit> {
        let Self { object, draft, .. } = self;
        object.commit(draft)
    }

    /// The same, blocking until the turn is durable. An error of the wait, `commit.indeterminate`,
    /// leaves open whether the turn is there.
    pub fn commit_durable(self) -> Result<Position> {
        self.commit()?.wait()
    }
}

/// A part of a turn. Undone when it is dropped, unless it was released.
#[derive(Debug)]
#[must_use = "a savepoint that is dropped undoes what was done in it"]
pub struct Savepoint<'t, 'o> {
    turn: &'t mut Turn<'o>,
    number: u64,
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
        self.turn.end_savepoint(self.number, self.is_kept);
    }
}

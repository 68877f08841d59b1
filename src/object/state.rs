//! What an object's head says, as it follows from commits, and what of it is not known.
//!
//! An object is taken into memory also where its head cannot be read, for the commits behind the
//! last checkpoint are there. What they say is known; what only the head says is not, until it can
//! be read or a commit says it. Who asks for it has the head read again, and an error otherwise.
//!
//! Invariants:
//!   * What is not known is never answered with a default.
//!   * Commits say the same over every head: what is known of them over none stays.

use super::overlay::{Layer, operations};
use super::version::Version;
use super::{Inner, View};
use crate::alarm::Alarm;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Head;
use crate::format::own_keys::{IMPORT_KEY, NAME_KEY, RESTORE_KEY};
use crate::format::record::{Operation, RecordHeader};
use crate::ids::{Address, Life, Lsn, Timestamp};
use crate::planted::{Mistake, planted};
use std::sync::Arc;

/// That of an object of which nobody knows in which life it was: no page is of it.
const LOST_LIFE: Life = Life(0);

/// The alarm that a head has.
fn remembered(alarm: Alarm) -> Alarm {
    if planted(Mistake::ForgetAttempts) {
        return Alarm { counted: 0, uncounted: 0, ..alarm };
    }
    alarm
}

/// What an object's head says, as far as it follows from commits alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each follows from commits by itself")]
pub struct HeadState {
    /// The present life; none before the first commit.
    pub life: Option<Life>,
    /// The last commit.
    pub last_lsn: Lsn,
    /// Its time.
    pub last_time: Timestamp,
    /// The commit that adopted pages for the present life, if one did.
    pub adopted: Option<Lsn>,
    /// The plain alarm.
    pub(super) alarm: Option<Alarm>,
    /// Whether the object's name is among its entries; where that is not known it is said again.
    pub named: bool,
    /// Whether an import of the object has begun and not ended: nobody may read it.
    pub(super) unfinished: bool,
    /// Whether a restoration at the next open is among its entries.
    pub(super) restores: bool,
    /// Whether nothing was put since the life began, as after a delete.
    pub deleted: bool,
    /// Whether the alarm is not known.
    pub(super) alarm_lost: bool,
    /// Whether it is not known if an import has begun and if a restoration waits.
    pub(super) marks_lost: bool,
}

impl HeadState {
    /// That of an object whose head cannot be read: what is written then is of a life that no page
    /// is of.
    pub fn lost() -> Self {
        Self { life: Some(LOST_LIFE), alarm_lost: true, marks_lost: true, ..Self::default() }
    }

    /// What a head says; of an object without one, where it is none.
    pub fn of(head: Option<&Head>) -> Self {
        head.map_or_else(Self::default, |head| Self {
            life: Some(head.life),
            last_lsn: head.last_lsn,
            last_time: head.last_time,
            adopted: head.adopted,
            alarm: head.alarm.map(remembered),
            // What has nothing is named anew.
            named: head.named && !head.deleted,
            unfinished: head.unfinished,
            restores: head.restores,
            deleted: head.deleted,
            alarm_lost: head.alarm_lost,
            marks_lost: head.marks_lost,
        })
    }

    /// The head that says this, of this life and without pages.
    pub fn to_head(&self, life: Life) -> Head {
        Head {
            life,
            last_lsn: self.last_lsn,
            last_time: self.last_time,
            adopted: self.adopted,
            alarm: self.alarm,
            named: self.named,
            unfinished: self.unfinished,
            restores: self.restores,
            alarm_lost: self.alarm_lost,
            marks_lost: self.marks_lost,
            ..Head::default()
        }
    }

    /// Whether anything is not known.
    pub fn is_lost(&self) -> bool {
        self.alarm_lost || self.marks_lost
    }

    /// The plain alarm that is known; there may be another where nothing is known of it.
    pub fn known_alarm(&self) -> Option<Alarm> {
        self.alarm
    }

    /// The plain alarm, if it is known whether there is one.
    pub fn alarm(&self) -> Option<Option<Alarm>> {
        (!self.alarm_lost).then_some(self.alarm)
    }

    /// Whether an import of the object has begun and not ended, if that is known.
    pub fn unfinished(&self) -> Option<bool> {
        (self.unfinished || !self.marks_lost).then_some(self.unfinished)
    }

    /// Whether a restoration waits for the next open, if that is known.
    pub fn restores(&self) -> Option<bool> {
        (self.restores || !self.marks_lost).then_some(self.restores)
    }

    /// What follows from an operation of the commit at `lsn`.
    pub(super) fn apply(&mut self, operation: &Operation<'_>, lsn: Lsn) {
        match *operation {
            Operation::DeleteAll { keep_alarms } => {
                self.begin_life(Life(lsn.0));
                self.deleted = true;
                if !keep_alarms {
                    self.set_alarm(None);
                }
            }
            Operation::Adopt(adoption) => {
                self.begin_life(adoption.life);
                self.adopted = Some(lsn);
            }
            Operation::SetAlarm(alarm) => {
                self.set_alarm(Some(alarm));
                self.begin(lsn);
            }
            Operation::ClearAlarm => self.set_alarm(None),
            Operation::Put { key, .. } => {
                self.named |= key == NAME_KEY;
                self.unfinished |= key == IMPORT_KEY;
                self.restores |= key == RESTORE_KEY;
                self.begin(lsn);
            }
            Operation::Delete { key } if key == NAME_KEY => self.named = false,
            Operation::Delete { key } if key == IMPORT_KEY => self.unfinished = false,
            Operation::Delete { key } if key == RESTORE_KEY => self.restores = false,
            Operation::Delete { .. } | Operation::DeleteRange { .. } | Operation::Restored(_) => {}
        }
    }

    /// What follows from a commit record.
    pub fn apply_record(&mut self, record: &[u8], lsn: Lsn, time: Timestamp) {
        self.last_lsn = lsn;
        self.last_time = time;
        operations(record).for_each(|operation| self.apply(&operation, lsn));
    }

    /// What was before is no more, but for the alarm. What pages hold of the store's own words
    /// about the object is said again behind them.
    fn begin_life(&mut self, life: Life) {
        let Self { last_lsn, last_time, alarm, alarm_lost, .. } = *self;
        let life = Some(life);
        *self = Self { life, last_lsn, last_time, alarm, alarm_lost, ..Self::default() };
    }

    /// Something is stored: an object that had no life has one from here on.
    fn begin(&mut self, lsn: Lsn) {
        self.life.get_or_insert(Life(lsn.0));
        self.deleted = false;
    }

    fn set_alarm(&mut self, alarm: Option<Alarm>) {
        self.alarm = alarm;
        self.alarm_lost = false;
    }

    /// What follows from a layer's commits.
    fn with_layer(mut self, layer: &Layer) -> Self {
        for record in layer.records() {
            let Ok(header) = RecordHeader::decode(record) else { continue };
            self.apply_record(record, header.lsn, header.time);
        }
        self
    }
}

impl Layer {
    /// The same commits above something else.
    #[must_use]
    pub fn over_state(&self, below: HeadState) -> Self {
        let mut layer = self.clone();
        layer.after = below.with_layer(self);
        layer
    }
}

/// Lays layers, the oldest first, over what is said below them.
pub(super) fn lay_over(layers: &mut [Arc<Layer>], mut below: HeadState) {
    for layer in layers {
        *layer = Arc::new(layer.over_state(below));
        below = layer.after.clone();
    }
}

/// What `what` finds in the state of an object; has the head read again where that is not known.
fn ask<T>(
    (address, state, layers): (Address, &HeadState, &[Arc<Layer>]),
    version: &dyn Fn() -> Arc<Version>,
    what: fn(&HeadState) -> Option<T>,
) -> Result<T> {
    if let Some(known) = what(state) {
        return Ok(known);
    }
    let head = version().head(address)?;
    let below = HeadState::of(head.as_ref());
    let state = layers.iter().fold(below, |below, layer| below.with_layer(layer));
    what(&state).ok_or_else(|| lost(address))
}

#[cold]
fn lost(address: Address) -> Error {
    let what = format!(
        "the head of object {address:?} was lost to damage, and what it said of alarms, imports \
         and restorations; delete the object to use it again"
    );
    Error::new(ErrorKind::Corrupt, "object.lost", what)
}

impl Inner {
    /// Something that the object's head says, as [`View::alarm`] and the like do.
    pub fn ask<T>(
        &self,
        address: Address,
        version: impl Fn() -> Arc<Version>,
        what: fn(&HeadState) -> Option<T>,
    ) -> Result<T> {
        ask((address, self.state(), &self.layers), &version, what)
    }
}

impl View {
    fn ask<T>(&self, what: fn(&HeadState) -> Option<T>) -> Result<T> {
        let version = || Arc::clone(&self.version);
        ask((self.address, &self.state, &self.layers), &version, what)
    }

    /// The plain alarm. Fails where the head could not be read when the object was taken into
    /// memory, no commit since has said it, and the head cannot be read now; with `object.lost`
    /// where it was given up.
    pub fn alarm(&self) -> Result<Option<Alarm>> {
        self.ask(HeadState::alarm)
    }

    /// Whether an import of the object has begun and not ended. Fails as [`View::alarm`] does.
    pub fn is_unfinished(&self) -> Result<bool> {
        self.ask(HeadState::unfinished)
    }

    /// Whether a restoration waits for the next open. Fails as [`View::alarm`] does.
    pub fn restores(&self) -> Result<bool> {
        self.ask(HeadState::restores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Codec;

    const AT: Timestamp = Timestamp(7);

    fn alarm(time: u64) -> Alarm {
        Alarm::new(Timestamp(time), Lsn(1))
    }

    /// What is known of an object whose head said this or could not be read, after operations.
    fn after(head: Option<&HeadState>, operations: &[Operation<'_>]) -> HeadState {
        let mut state = head.cloned().unwrap_or_else(HeadState::lost);
        state.last_time = AT;
        for operation in operations {
            state.apply(operation, Lsn(9));
        }
        state
    }

    #[test]
    fn what_no_commit_has_said_is_not_known_and_all_else_is() {
        let put = |key| Operation::Put { key, codec: Codec::Raw, value: b"" };
        let delete = |key| Operation::Delete { key };
        let set = Operation::SetAlarm(alarm(5));
        let gone = |keep_alarms| Operation::DeleteAll { keep_alarms };
        let cases: [(&[Operation<'_>], bool, bool); 9] = [
            (&[put(b"\x04key")], false, false),
            (&[set], true, false),
            (&[Operation::ClearAlarm], true, false),
            (&[gone(true), put(b"\x04key")], false, true),
            (&[gone(false)], true, true),
            (&[gone(true), set], true, true),
            (&[put(IMPORT_KEY)], false, false),
            (&[delete(IMPORT_KEY)], false, false),
            (&[delete(RESTORE_KEY)], false, false),
        ];
        for (operations, knows_alarm, knows_marks) in cases {
            let lost = after(None, operations);
            assert_eq!(lost.alarm().is_some(), knows_alarm, "{operations:?}");
            assert_eq!(lost.is_lost(), !knows_alarm || !knows_marks);
            // Whatever the head said, what is known without it is so.
            for (has_alarm, is_set) in [(false, false), (true, true)] {
                let head = HeadState {
                    life: Some(Life(3)),
                    alarm: has_alarm.then(|| alarm(4)),
                    unfinished: is_set,
                    restores: is_set,
                    ..HeadState::default()
                };
                let all = after(Some(&head), operations);
                assert!(lost.alarm().is_none_or(|known| all.alarm() == Some(known)));
                assert!(lost.unfinished().is_none_or(|known| all.unfinished() == Some(known)));
                assert!(lost.restores().is_none_or(|known| all.restores() == Some(known)));
            }
            let mut head = lost.to_head(Life(0));
            head.deleted = lost.deleted;
            let again = HeadState::of(Some(&head));
            assert_eq!((again.alarm(), again.unfinished()), (lost.alarm(), lost.unfinished()));
            assert_eq!(again.restores(), lost.restores());
        }
    }
}

//! What a turn has changed and not committed: the commit record in the making.
//!
//! Invariants:
//!   * The buffer is at every moment a commit record whose LSN, time and length are still to be
//!     stamped; committing encodes nothing again.
//!   * Nothing enters it that exceeds a limit.
//!   * Rolling back to a savepoint leaves the buffer as it was at the savepoint.

use super::overlay::{Found, Sorted, Word, last_word, names_alarm};
use crate::alarm::Alarm;
use crate::disk::bytes::SharedBytes;
use crate::error::Result;
use crate::format::record::{
    Operation, Operations, RECORD_HEADER_BYTES, RecordHeader, RecordKind, malformed_operation,
};
use crate::ids::{Address, Lsn, Timestamp};
use crate::limits::Limits;
use std::fmt;
use std::sync::Arc;

/// Operations from which on reads of the write set use a sorted map.
const UNSORTED_OPERATIONS_MAX: usize = 16;
/// Enough for the usual turn, so that its buffer is allocated once.
const FIRST_BYTES: usize = 320;

/// A turn's changes.
pub struct WriteSet {
    kind: RecordKind,
    buffer: Vec<u8>,
    operations: usize,
    notes: Notes,
    /// What reads use from [`UNSORTED_OPERATIONS_MAX`] operations on.
    sorted: Option<Arc<Sorted>>,
}

impl fmt::Debug for WriteSet {
    /// Says how much it is; never what it holds.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WriteSet({} operations, {} bytes)", self.operations, self.buffer.len())
    }
}

/// What a turn says of the plain alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlarmWord {
    /// Nothing.
    #[default]
    Unsaid,
    /// There is none.
    Cleared,
    /// It is set.
    Set(Alarm),
}

/// What is asked of a turn more often than its operations are walked.
#[derive(Clone, Copy, Debug, Default)]
struct Notes {
    /// Everything below is deleted.
    wiped: bool,
    alarm: AlarmWord,
    /// It may change some alarm.
    touches_alarms: bool,
}

impl Notes {
    fn add(&mut self, operation: &Operation<'_>) {
        self.wiped |= matches!(operation, Operation::DeleteAll { .. });
        match operation {
            Operation::SetAlarm(alarm) => self.alarm = AlarmWord::Set(*alarm),
            Operation::ClearAlarm | Operation::DeleteAll { keep_alarms: false } => {
                self.alarm = AlarmWord::Cleared;
            }
            Operation::DeleteAll { keep_alarms: true } => {}
            other if names_alarm(other) => {}
            _ => return,
        }
        self.touches_alarms = true;
    }
}

/// A moment inside a turn.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    bytes: usize,
    operations: usize,
}

impl Default for WriteSet {
    fn default() -> Self {
        Self::new()
    }
}

impl WriteSet {
    /// Nothing changed yet.
    pub fn new() -> Self {
        let mut buffer = Vec::with_capacity(FIRST_BYTES);
        buffer.resize(RECORD_HEADER_BYTES, 0);
        let kind = RecordKind::Commit;
        Self { kind, buffer, operations: 0, notes: Notes::default(), sorted: None }
    }

    /// The end of the object's life and of everything that was ever in it.
    pub fn purge(limits: &Limits) -> Result<Self> {
        let mut changes = Self { kind: RecordKind::Purge, ..Self::new() };
        changes.push(limits, &Operation::DeleteAll { keep_alarms: false })?;
        Ok(changes)
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Bytes of the record in the making.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Operations so far.
    pub fn count(&self) -> usize {
        self.operations
    }

    /// Whether everything below is deleted.
    pub fn is_wiped(&self) -> bool {
        self.notes.wiped
    }

    /// Whether it purges the object.
    pub fn is_purge(&self) -> bool {
        self.kind == RecordKind::Purge
    }

    /// What the turn says of the plain alarm.
    pub fn alarm(&self) -> AlarmWord {
        self.notes.alarm
    }

    /// Whether committing may change any alarm.
    pub fn touches_alarms(&self) -> bool {
        self.notes.touches_alarms
    }

    /// Adds the object's name, which no limit of the caller's counts.
    pub fn push_name(&mut self, put: &Operation<'_>) {
        put.encode(&mut self.buffer);
        self.operations += 1;
        self.sorted = None;
    }

    /// Adds an operation whose keys and values are within the limits already.
    pub fn push(&mut self, limits: &Limits, operation: &Operation<'_>) -> Result<()> {
        let before = self.buffer.len();
        operation.encode(&mut self.buffer);
        let checked = limits.check_commit(self.buffer.len(), self.operations + 1);
        if checked.is_err() {
            self.buffer.truncate(before);
            return checked;
        }
        self.operations += 1;
        self.notes.add(operation);
        match &mut self.sorted {
            Some(sorted) => {
                Arc::make_mut(sorted).apply_operation(operation, |part| SharedBytes::from(part));
            }
            None if self.operations > UNSORTED_OPERATIONS_MAX => self.sorted = Some(self.sort()),
            None => {}
        }
        Ok(())
    }

    fn encoded(&self) -> impl Iterator<Item = Operation<'_>> {
        let payload = self.buffer.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        Operations::new(payload).map_while(std::result::Result::ok)
    }

    fn sort(&self) -> Arc<Sorted> {
        let mut sorted = Sorted::default();
        for operation in self.encoded() {
            sorted.apply_operation(&operation, |part| SharedBytes::from(part));
        }
        Arc::new(sorted)
    }

    /// What the turn says of a key; none where it says nothing.
    pub fn find(&self, key: &[u8]) -> Option<Found> {
        if self.operations == 0 {
            return None;
        }
        let found = match &self.sorted {
            Some(sorted) => sorted.find(key),
            None => last_word(self.encoded(), key).map(|word| match word {
                Word::Value(codec, value) => Found::Value(codec, SharedBytes::from(value)),
                Word::Deleted => Found::Deleted,
            }),
        };
        found.or_else(|| self.notes.wiped.then_some(Found::Deleted))
    }

    /// The changes in key order.
    pub fn sorted(&self) -> Arc<Sorted> {
        self.sorted.clone().unwrap_or_else(|| self.sort())
    }

    /// The present moment.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { bytes: self.buffer.len(), operations: self.operations }
    }

    /// Undoes what came after the savepoint, which must be one of this write set.
    pub fn roll_back(&mut self, to: Savepoint) {
        self.buffer.truncate(to.bytes);
        self.operations = to.operations;
        let mut notes = Notes::default();
        self.encoded().for_each(|operation| notes.add(&operation));
        self.notes = notes;
        let is_sorted = self.operations > UNSORTED_OPERATIONS_MAX;
        self.sorted = is_sorted.then(|| self.sort());
    }

    /// The commit record; LSN and time are still to be stamped.
    pub fn into_record(mut self, address: Address) -> Vec<u8> {
        debug_assert_eq!(malformed_operation(&self.buffer[RECORD_HEADER_BYTES..]), None);
        let length = u32::try_from(self.buffer.len() - RECORD_HEADER_BYTES).unwrap_or(u32::MAX);
        let header =
            RecordHeader { length, kind: self.kind, lsn: Lsn::ZERO, time: Timestamp(0), address };
        self.buffer[..RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
        self.buffer
    }
}

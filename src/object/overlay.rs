//! What was committed to an object since its pages: a layer of it, small or sorted.
//!
//! A small layer is its commit records, one allocation each, searched from the newest on;
//! from 16 operations or 4 KiB on it has a sorted map too, whose keys and values point into the
//! records.
//!
//! Invariants:
//!   * A layer's own keys win over its deleted ranges: a range removes the keys that it covers when
//!     it is applied, and later keys are inserted beside it.
//!   * A wiped layer hides everything below it. Where it has adopted pages, these are below it.
//!   * Records in a layer were encoded by this process or verified by recovery.
//!   * A layer keeps its records, oldest first, for history: also when they are sorted or merged.

use super::changes::Changes;
use super::state::HeadState;
use crate::disk::bytes::SharedBytes;
use crate::format::adoption::Adoption;
use crate::format::page::Page;
use crate::format::record::{
    Operation, Operations, RECORD_HEADER_BYTES, RecordHeader, adoption, is_purge,
};
use crate::ids::{Codec, KeyKind, Life, Lsn, Timestamp};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Operations from which on a layer is sorted.
const SMALL_OPERATIONS_MAX: usize = 16;
/// Record bytes from which on a layer is sorted.
const SMALL_BYTES_MAX: usize = 4 * 1024;
/// What a processor fetches from memory at once.
const CACHE_LINE_BYTES: usize = 64;

/// What one source says of a key that it knows.
#[derive(Clone, Debug)]
pub enum Found {
    /// It has this value.
    Value(Codec, SharedBytes),
    /// It was deleted.
    Deleted,
}

/// One layer of an object's overlay.
#[derive(Clone)]
pub struct Layer {
    /// The cut before which its commits lie.
    pub cut: u64,
    /// What the head says after the layer's last commit.
    pub after: HeadState,
    /// Whether a life ended in it: nothing below counts.
    pub wiped: bool,
    /// The life of the pages that took the place of what was below.
    pub adopted: Option<Life>,
    /// Whether any of its commits adopts.
    has_adoptions: bool,
    /// The last purge in it: the past before it is out of reach.
    pub purged: Option<Lsn>,
    /// Record bytes, as the dirty budget counts them.
    pub bytes: usize,
    /// Whether it says anything of named alarms, other than that all are gone.
    pub names_alarms: bool,
    operations: usize,
    records: Vec<Arc<[u8]>>,
    /// The same in key order, where there is much of it.
    sorted: Option<Arc<Sorted>>,
}

impl fmt::Debug for Layer {
    /// Says how much it is; never what it holds.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cut, operations, bytes, .. } = self;
        write!(out, "Layer({operations} operations, {bytes} bytes, cut {cut})")
    }
}

impl Layer {
    /// An empty layer above one after which the head says `before`.
    pub fn new(cut: u64, before: HeadState) -> Self {
        Self {
            cut,
            after: before,
            wiped: false,
            adopted: None,
            has_adoptions: false,
            purged: None,
            bytes: 0,
            names_alarms: false,
            operations: 0,
            records: Vec::new(),
            sorted: None,
        }
    }

    /// Applies a commit record: header and operations.
    pub fn apply(&mut self, record: Arc<[u8]>, lsn: Lsn, time: Timestamp) {
        self.after.last_lsn = lsn;
        self.after.last_time = time;
        self.bytes += record.len();
        if is_purge(&record) {
            self.purged = Some(lsn);
        }
        for operation in operations(&record) {
            self.operations += 1;
            self.after.apply(&operation, lsn);
            match operation {
                Operation::DeleteAll { .. } => (self.wiped, self.adopted) = (true, None),
                Operation::Adopt(adoption) => {
                    (self.wiped, self.adopted) = (true, Some(adoption.life));
                    self.has_adoptions = true;
                }
                _ => {}
            }
            self.names_alarms |= names_alarm(&operation);
        }
        let is_few = self.operations < SMALL_OPERATIONS_MAX && self.bytes < SMALL_BYTES_MAX;
        // A list of records says of a key what the last of them does, or nothing.
        let is_small = is_few && !self.has_adoptions;
        if let Some(sorted) = &mut self.sorted {
            Arc::make_mut(sorted).apply(&record);
        }
        self.records.push(record);
        if self.sorted.is_none() && !is_small {
            self.sorted = Some(Arc::new(Sorted::of(&self.records)));
        }
    }

    /// Its commit records, the oldest first.
    pub fn records(&self) -> &[Arc<[u8]>] {
        &self.records
    }

    /// What the layer says of a key; none where it says nothing and the layers below decide.
    pub fn find(&self, key: &[u8]) -> Option<Found> {
        let found = match &self.sorted {
            Some(sorted) => sorted.find(key),
            // The newest that says anything of it decides.
            None => self.records.iter().rev().find_map(|record| find_in_record(record, key)),
        };
        let is_bottom = self.wiped && self.adopted.is_none();
        found.or_else(|| is_bottom.then_some(Found::Deleted))
    }

    /// The pages that its commits adopt, with the commits, the oldest first.
    pub fn adoptions(&self) -> impl Iterator<Item = (RecordHeader, Adoption<'_>)> {
        let records = if self.has_adoptions { &self.records[..] } else { &[] };
        records.iter().filter_map(|record| {
            let adoption = adoption(record.get(RECORD_HEADER_BYTES..)?)?;
            Some((RecordHeader::decode(record).ok()?, adoption))
        })
    }

    /// The layer in key order.
    pub fn sorted(&self) -> Arc<Sorted> {
        match &self.sorted {
            Some(sorted) => Arc::clone(sorted),
            None => Arc::new(Sorted::of(&self.records)),
        }
    }

    /// The layer in key order, borrowed.
    pub fn changes(&self) -> Changes<'_> {
        match &self.sorted {
            Some(sorted) => Changes::of_sorted(sorted),
            None => {
                Changes::of_operations(self.records.iter().flat_map(|record| operations(record)))
            }
        }
    }

    /// Looks at every cache line of a small layer's records, so that they are near when they are
    /// needed; the sum means nothing.
    pub fn touch(&self) -> u8 {
        if self.sorted.is_some() {
            return 0;
        }
        let lines = self.records.iter().flat_map(|record| record.iter().step_by(CACHE_LINE_BYTES));
        lines.fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    /// One layer that says what these say together, the oldest first. The newest are joined first:
    /// what lies lowest, and is the largest as a rule, is copied once.
    pub fn joined(layers: impl DoubleEndedIterator<Item = Arc<Self>>) -> Option<Arc<Self>> {
        layers.rev().reduce(|above, below| Arc::new(above.over(&below)))
    }

    /// One layer that says what `below` and this one say together.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let mut merged = if self.wiped { Sorted::default() } else { (*below.sorted()).clone() };
        merged.absorb(&self.sorted());
        Self {
            cut: self.cut,
            after: self.after.clone(),
            wiped: self.wiped || below.wiped,
            adopted: if self.wiped { self.adopted } else { below.adopted },
            has_adoptions: self.has_adoptions || below.has_adoptions,
            purged: self.purged.or(below.purged),
            bytes: self.bytes + below.bytes,
            names_alarms: self.names_alarms || below.names_alarms,
            operations: self.operations + below.operations,
            records: below.records.iter().chain(&self.records).cloned().collect(),
            sorted: Some(Arc::new(merged)),
        }
    }
}

/// Whether an operation is about one named alarm, or what is kept of one.
pub fn names_alarm(operation: &Operation<'_>) -> bool {
    let (Operation::Put { key, .. } | Operation::Delete { key }) = operation else { return false };
    key.first() == Some(&(KeyKind::Alarm as u8))
}

/// The operations of a record that this process encoded, or of which recovery has found all to be
/// well-formed.
pub(super) fn operations(record: &[u8]) -> impl Iterator<Item = Operation<'_>> {
    Operations::new(record.get(RECORD_HEADER_BYTES..).unwrap_or_default()).map_while(Result::ok)
}

fn find_in_record(record: &Arc<[u8]>, key: &[u8]) -> Option<Found> {
    match last_word(operations(record), key)? {
        Word::Deleted => Some(Found::Deleted),
        Word::Value(codec, value) => Some(Found::Value(codec, part_of(record, value))),
    }
}

/// What a list of operations says last of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// It has this value.
    Value(Codec, &'a [u8]),
    /// It was deleted.
    Deleted,
}

/// What `operations`, oldest first, say of a key in the end.
pub fn last_word<'a>(
    operations: impl Iterator<Item = Operation<'a>>,
    key: &[u8],
) -> Option<Word<'a>> {
    let mut last = None;
    for operation in operations {
        match operation {
            Operation::Put { key: other, codec, value } if other == key => {
                last = Some(Word::Value(codec, value));
            }
            Operation::Delete { key: other } if other == key => last = Some(Word::Deleted),
            Operation::DeleteRange { start, end } if start <= key && key < end => {
                last = Some(Word::Deleted);
            }
            // Alarms that are to be kept are put again by the same commit.
            Operation::DeleteAll { .. } => last = Some(Word::Deleted),
            // What the pages hold is not known here.
            Operation::Adopt(_) => last = None,
            _ => {}
        }
    }
    last
}

/// The slice of the record that `part` borrows from it.
fn part_of(record: &Arc<[u8]>, part: &[u8]) -> SharedBytes {
    let start = part.as_ptr() as usize - record.as_ptr() as usize;
    let whole = SharedBytes::from(Arc::clone(record));
    whole.into_slice(start..start + part.len()).expect("a part of a record lies inside it")
}

/// A full key that borrows as bytes, for ordered maps.
#[derive(Clone, Debug)]
pub struct KeyBytes(pub SharedBytes);

impl Borrow<[u8]> for KeyBytes {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Eq for KeyBytes {}

impl PartialOrd for KeyBytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyBytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self.0).cmp(&*other.0)
    }
}

/// Changes in key order, and the ranges deleted below them.
#[derive(Clone, Debug, Default)]
pub struct Sorted {
    map: BTreeMap<KeyBytes, Found>,
    /// Ends by starts. Invariant: ranges neither overlap nor touch.
    ranges: BTreeMap<KeyBytes, SharedBytes>,
}

impl Sorted {
    fn of(records: &[Arc<[u8]>]) -> Self {
        let mut sorted = Self::default();
        for record in records {
            sorted.apply(record);
        }
        sorted
    }

    fn apply(&mut self, record: &Arc<[u8]>) {
        for operation in operations(record) {
            self.apply_operation(&operation, |part| part_of(record, part));
        }
    }

    /// Applies one operation; `share` makes its borrowed bytes last.
    pub fn apply_operation(
        &mut self,
        operation: &Operation<'_>,
        share: impl Fn(&[u8]) -> SharedBytes,
    ) {
        match *operation {
            Operation::Put { key, codec, value } => {
                self.map.insert(KeyBytes(share(key)), Found::Value(codec, share(value)));
            }
            Operation::Delete { key } => {
                self.map.insert(KeyBytes(share(key)), Found::Deleted);
            }
            Operation::DeleteRange { start, end } => self.delete_range(share(start), share(end)),
            Operation::DeleteAll { .. } | Operation::Adopt(_) => {
                self.map.clear();
                self.ranges.clear();
            }
            Operation::SetAlarm(_) | Operation::ClearAlarm | Operation::Restored(_) => {}
        }
    }

    fn delete_range(&mut self, start: SharedBytes, end: SharedBytes) {
        if *start >= *end {
            return;
        }
        let bounds = (Bound::Included(&*start), Bound::Excluded(&*end));
        let covered: Vec<_> =
            self.map.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
        for key in covered {
            self.map.remove(&key);
        }
        self.join_range(start, end);
    }

    /// Enters a deleted range, joined with those that it overlaps or touches.
    fn join_range(&mut self, mut start: SharedBytes, mut end: SharedBytes) {
        while let Some((other, other_end)) = self.last_range_from(&end)
            && **other_end >= *start
        {
            let (other, other_end) = (other.clone(), other_end.clone());
            if *other.0 < *start {
                start = other.0.clone();
            }
            if *other_end > *end {
                end = other_end;
            }
            self.ranges.remove(&other);
        }
        self.ranges.insert(KeyBytes(start), end);
    }

    /// The last range that begins at or before `key`.
    fn last_range_from(&self, key: &[u8]) -> Option<(&KeyBytes, &SharedBytes)> {
        self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()
    }

    /// Applies everything that `newer` says.
    pub fn absorb(&mut self, newer: &Self) {
        for (start, end) in &newer.ranges {
            self.delete_range(start.0.clone(), end.clone());
        }
        for (key, found) in &newer.map {
            self.map.insert(key.clone(), found.clone());
        }
    }

    /// Applies everything that newer changes say; their bytes are copied.
    pub fn absorb_changes(&mut self, newer: &Changes<'_>) {
        for (start, end) in newer.ranges() {
            self.delete_range(SharedBytes::from(*start), SharedBytes::from(*end));
        }
        for (key, word) in newer.entries() {
            let found = match word {
                Word::Value(codec, value) => Found::Value(*codec, SharedBytes::from(*value)),
                Word::Deleted => Found::Deleted,
            };
            self.map.insert(KeyBytes(SharedBytes::from(*key)), found);
        }
    }

    /// Applies everything that a newer delta page says.
    pub fn absorb_page(&mut self, newer: &Page) {
        for (start, end) in newer.ranges() {
            self.delete_range(SharedBytes::from(start), SharedBytes::from(end));
        }
        for index in 0..newer.count() {
            let key = KeyBytes(SharedBytes::from(newer.item(index).0));
            let found = match newer.value(index) {
                Some((codec, value)) => Found::Value(codec, value),
                None => Found::Deleted,
            };
            self.map.insert(key, found);
        }
    }

    /// Forgets the last keys, so that about `most` bytes are left of what is said. Says how many
    /// are, and from which key on nothing is said any more: `end`, if nothing was forgotten.
    pub fn keep_first(&mut self, most: usize, end: Option<Vec<u8>>) -> (usize, Option<Vec<u8>>) {
        let mut bytes = 0;
        let mut first_gone = None;
        for (key, found) in &self.map {
            if bytes > most {
                first_gone = Some(key.clone());
                break;
            }
            bytes += key.0.len();
            if let Found::Value(_, value) = found {
                bytes += value.len();
            }
        }
        let Some(gone) = first_gone else { return (bytes, end) };
        drop(self.map.split_off(&gone));
        drop(self.ranges.split_off(&gone));
        if let Some((_, last)) = self.ranges.iter_mut().next_back()
            && **last > *gone.0
        {
            *last = gone.0.clone();
        }
        (bytes, Some(gone.0.to_vec()))
    }

    /// What these changes say of a key.
    pub fn find(&self, key: &[u8]) -> Option<Found> {
        let found = self.map.get(key).cloned();
        found.or_else(|| self.covers(key).then_some(Found::Deleted))
    }

    /// Whether a deleted range holds the key.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.range_over(key).is_some()
    }

    /// The deleted range that holds the key: where it begins, and where it ends, not included.
    pub fn range_over(&self, key: &[u8]) -> Option<(&[u8], &[u8])> {
        let (start, end) = self.last_range_from(key)?;
        (*key < **end).then_some((&*start.0, &**end))
    }

    /// The first change inside the bounds.
    pub fn first(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Option<(&KeyBytes, &Found)> {
        is_span(from, to).then(|| self.map.range::<[u8], _>((from, to)).next())?
    }

    /// The last change inside the bounds.
    pub fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Option<(&KeyBytes, &Found)> {
        is_span(from, to).then(|| self.map.range::<[u8], _>((from, to)).next_back())?
    }

    /// Every change, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Found)> {
        self.map.iter().map(|(key, found)| (&*key.0, found))
    }

    /// The deleted ranges, in key order.
    pub fn ranges(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.ranges.iter().map(|(start, end)| (&*start.0, &**end))
    }

    /// Whether nothing is said of any key.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty() && self.ranges.is_empty()
    }
}

/// Whether bounds can hold a key; a map's `range` panics on those that cannot.
pub fn is_span(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(from), Bound::Included(to)) => from <= to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from < to,
    }
}

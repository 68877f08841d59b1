//! What was committed to one object, in key order, for whoever writes it into pages.
//!
//! A list that borrows from the records: a checkpoint makes one for each object, most have a few
//! entries, and no map is built and no byte copied or counted for them.
//!
//! Invariants:
//!   * Keys ascend strictly. Ranges ascend and neither overlap nor touch.
//!   * An entry wins over a range that covers its key: it came later.

use super::overlay::{Found, Sorted, Word, is_span};
use crate::format::record::Operation;
use std::ops::Bound;

/// A key and what was said of it last.
pub type ChangedKey<'a> = (&'a [u8], Word<'a>);

/// Changes in key order, and the ranges deleted below them.
#[derive(Clone, Debug, Default)]
pub struct Changes<'a> {
    entries: Vec<ChangedKey<'a>>,
    ranges: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Changes<'a> {
    /// What operations say together, the oldest first. For few of them: a deleted range costs a
    /// look at all that came before it.
    pub fn of_operations(operations: impl Iterator<Item = Operation<'a>>) -> Self {
        let mut changes = Self::default();
        for operation in operations {
            changes.apply(&operation);
        }
        changes.settle();
        changes
    }

    fn apply(&mut self, operation: &Operation<'a>) {
        match *operation {
            Operation::Put { key, codec, value } => {
                self.entries.push((key, Word::Value(codec, value)));
            }
            Operation::Delete { key } => self.entries.push((key, Word::Deleted)),
            Operation::DeleteRange { start, end } => {
                if start < end {
                    self.entries.retain(|(key, _)| *key < start || end <= *key);
                    self.ranges.push((start, end));
                }
            }
            Operation::DeleteAll { .. } | Operation::Adopt(_) => {
                self.entries.clear();
                self.ranges.clear();
            }
            Operation::SetAlarm(_) | Operation::ClearAlarm | Operation::Restored(_) => {}
        }
    }

    /// From the order in which it was said to the order of keys.
    fn settle(&mut self) {
        // Stable: of several words on a key, the newest stays the last of them.
        self.entries.sort_by_key(|(key, _)| *key);
        self.entries.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                *kept = *later;
            }
            is_same
        });
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|later, kept| {
            let touches = later.0 <= kept.1;
            if touches {
                kept.1 = kept.1.max(later.1);
            }
            touches
        });
    }

    /// The same as a sorted layer says.
    pub fn of_sorted(sorted: &'a Sorted) -> Self {
        let entry = |(key, found): (&'a [u8], &'a Found)| match found {
            Found::Value(codec, value) => (key, Word::Value(*codec, value)),
            Found::Deleted => (key, Word::Deleted),
        };
        Self { entries: sorted.iter().map(entry).collect(), ranges: sorted.ranges().collect() }
    }

    /// What these changes say of a key itself, ranges left aside.
    pub fn find(&self, key: &[u8]) -> Option<Word<'a>> {
        let found = self.entries.binary_search_by_key(&key, |(key, _)| key);
        found.ok().map(|at| self.entries[at].1)
    }

    /// The changes inside the bounds.
    pub fn between(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> &[ChangedKey<'a>] {
        if !is_span(from, to) {
            return &[];
        }
        let first = match from {
            Bound::Unbounded => 0,
            Bound::Included(from) => self.entries.partition_point(|(key, _)| *key < from),
            Bound::Excluded(from) => self.entries.partition_point(|(key, _)| *key <= from),
        };
        let end = match to {
            Bound::Unbounded => self.entries.len(),
            Bound::Included(to) => self.entries.partition_point(|(key, _)| *key <= to),
            Bound::Excluded(to) => self.entries.partition_point(|(key, _)| *key < to),
        };
        &self.entries[first..end]
    }

    /// Whether a deleted range holds the key.
    pub fn covers(&self, key: &[u8]) -> bool {
        let behind = self.ranges.partition_point(|(start, _)| *start <= key);
        behind.checked_sub(1).is_some_and(|last| key < self.ranges[last].1)
    }

    /// The deleted ranges that have a part inside the bounds, in key order.
    pub fn ranges_between(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> &[(&'a [u8], &'a [u8])] {
        let first = match from {
            Bound::Unbounded => 0,
            Bound::Included(from) | Bound::Excluded(from) => {
                self.ranges.partition_point(|(_, end)| *end <= from)
            }
        };
        let end = match to {
            Bound::Unbounded => self.ranges.len(),
            Bound::Included(to) => self.ranges.partition_point(|(start, _)| *start <= to),
            Bound::Excluded(to) => self.ranges.partition_point(|(start, _)| *start < to),
        };
        &self.ranges[first..end.max(first)]
    }

    /// Bytes of the changes inside the bounds, about as a page stores them.
    pub fn bytes_between(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> usize {
        let of_entry = |(key, word): &ChangedKey<'_>| match word {
            Word::Value(_, value) => key.len() + value.len() + 4,
            Word::Deleted => key.len() + 4,
        };
        let of_range = |(start, end): &(&[u8], &[u8])| start.len() + end.len() + 4;
        let entries = self.between(from, to).iter().map(of_entry);
        entries.chain(self.ranges_between(from, to).iter().map(of_range)).sum()
    }

    /// Every change, in key order.
    pub fn entries(&self) -> &[ChangedKey<'a>] {
        &self.entries
    }

    /// The deleted ranges, in key order.
    pub fn ranges(&self) -> &[(&'a [u8], &'a [u8])] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::bytes::SharedBytes;
    use crate::ids::Codec;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_says_what_the_sorted_map_of_the_same_operations_says(
            said in vec((0u8..8, vec(0u8..3, 1..4), vec(0u8..3, 1..4)), 0..16),
        ) {
            let operations: Vec<_> = said.iter().map(|(kind, key, other)| match kind {
                0..=3 => Operation::Put { key, codec: Codec::Raw, value: other },
                4 | 5 => Operation::Delete { key },
                6 => Operation::DeleteRange { start: key, end: other },
                _ => Operation::DeleteAll { keep_alarms: true },
            }).collect();
            let mut sorted = Sorted::default();
            for operation in &operations {
                sorted.apply_operation(operation, |part| SharedBytes::from(part));
            }
            let list = Changes::of_operations(operations.iter().copied());
            let same = Changes::of_sorted(&sorted);
            prop_assert_eq!(list.entries(), same.entries());
            prop_assert_eq!(list.ranges(), same.ranges());
            for (_, key, other) in &said {
                prop_assert_eq!(list.covers(key), sorted.covers(key));
                let (from, to) = (Bound::Included(&key[..]), Bound::Excluded(&other[..]));
                let inside = |at: &[u8]| key.as_slice() <= at && at < other.as_slice();
                let expected: Vec<_> = list.entries().iter().filter(|(at, _)| inside(at)).collect();
                prop_assert_eq!(list.between(from, to).iter().collect::<Vec<_>>(), expected);
                if key < other {
                    let meets = |(start, end): &&(&[u8], &[u8])| {
                        *start < &other[..] && &key[..] < *end
                    };
                    let expected: Vec<_> = list.ranges().iter().filter(meets).collect();
                    let found: Vec<_> = list.ranges_between(from, to).iter().collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}

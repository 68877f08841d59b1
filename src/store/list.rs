//! Listing keys: options as in Durable Objects, bounds as in Rust.
//!
//! Invariants:
//!   * Options that contradict each other are refused before anything is read.
//!   * A list shows the moment at which it was made.

use super::value::Value;
use crate::error::{Error, Result};
use crate::ids::{Codec, KeyKind};
use crate::object::range::{End, KeyBounds, RangeIter};
use std::fmt;
use std::ops::{Bound, RangeBounds};

/// Which keys to list, and how. An empty span is no error: it lists nothing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ListOptions {
    start: Option<Vec<u8>>,
    start_after: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
    limit: Option<usize>,
    reverse: bool,
    keys_only: bool,
}

impl ListOptions {
    /// Every key, ascending.
    pub fn new() -> Self {
        Self::default()
    }

    /// From this key on, itself included.
    pub fn start(mut self, key: impl AsRef<[u8]>) -> Self {
        self.start = Some(key.as_ref().to_vec());
        self
    }

    /// Behind this key. Not together with `start`.
    pub fn start_after(mut self, key: impl AsRef<[u8]>) -> Self {
        self.start_after = Some(key.as_ref().to_vec());
        self
    }

    /// Before this key.
    pub fn end(mut self, key: impl AsRef<[u8]>) -> Self {
        self.end = Some(key.as_ref().to_vec());
        self
    }

    /// Only keys that begin so.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.prefix = Some(prefix.as_ref().to_vec());
        self
    }

    /// At most so many; at least one.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The last key first. Start and end keep their meaning; the limit counts from the end.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Values come empty.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    pub(crate) fn bounds(&self) -> Result<KeyBounds> {
        if self.start.is_some() && self.start_after.is_some() {
            let what = "a list has a start or a start_after, not both";
            return Err(Error::invalid("list.start", what));
        }
        if self.limit == Some(0) {
            return Err(Error::invalid("list.limit", "a list's limit must be at least one"));
        }
        let prefix = self.prefix.clone().unwrap_or_default();
        let mut from = match (&self.start, &self.start_after) {
            (Some(start), _) => Bound::Included(start.clone()),
            (_, Some(after)) => Bound::Excluded(after.clone()),
            _ => Bound::Unbounded,
        };
        let begins_before = match &from {
            Bound::Included(key) | Bound::Excluded(key) => *key < prefix,
            Bound::Unbounded => true,
        };
        if begins_before {
            from = Bound::Included(prefix.clone());
        }
        let behind = behind_prefix(&prefix);
        let to = match (self.end.clone(), behind) {
            (Some(end), Some(behind)) => Some(end.min(behind)),
            (end, behind) => end.or(behind),
        };
        Ok(full_bounds(from, to.map_or(Bound::Unbounded, Bound::Excluded)))
    }

    pub(crate) fn entries(self, iter: RangeIter) -> Entries {
        let left = self.limit.unwrap_or(usize::MAX);
        Entries { iter, left, reverse: self.reverse, keys_only: self.keys_only }
    }
}

/// The first key behind all that begin with `prefix`; none where there is no such key.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

/// Bounds of the user's keys as bounds of full keys.
pub(crate) fn full_bounds<K: AsRef<[u8]>>(from: Bound<K>, to: Bound<K>) -> KeyBounds {
    let full = |key: K| [&[KeyKind::User as u8], key.as_ref()].concat();
    let from = match from.map(full) {
        Bound::Unbounded => Bound::Included(vec![KeyKind::User as u8]),
        bound => bound,
    };
    let to = match to.map(full) {
        Bound::Unbounded => Bound::Excluded(vec![KeyKind::User as u8 + 1]),
        bound => bound,
    };
    (from, to)
}

/// The bounds of all entries of one kind.
pub(crate) fn full_bounds_of(kind: KeyKind) -> KeyBounds {
    (Bound::Included(vec![kind as u8]), Bound::Excluded(vec![kind as u8 + 1]))
}

/// The bounds of a Rust range of keys.
pub(crate) fn range_bounds<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> KeyBounds {
    full_bounds(range.start_bound(), range.end_bound())
}

/// Keys and values in order, from both ends. A snapshot as of its creation; lazy: pages of a large
/// object are read as they are reached. Ends after the first error.
#[derive(Debug)]
pub struct Entries {
    iter: RangeIter,
    left: usize,
    reverse: bool,
    keys_only: bool,
}

/// An entry that is lent.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// How tools may read the value.
    pub codec: Codec,
    /// The value.
    pub value: &'a [u8],
}

impl fmt::Debug for EntryRef<'_> {
    /// Says how long it is; never what it holds.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "EntryRef({} and {} bytes)", self.key.len(), self.value.len())
    }
}

impl Entries {
    /// What `next` gives, lent until something else is asked for. Errors and ends as `next` does,
    /// with which it may be mixed.
    ///
    /// A [`Value`] counts as a holder of the memory that it lies in; this counts none and copies
    /// nothing. For walks over many entries that keep few of them.
    ///
    /// ```
    /// # fn main() -> dostore::error::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let store = dostore::store::Store::open(folder.path().join("store"))?;
    /// use dostore::store::list::ListOptions;
    ///
    /// let mut cart = store.namespace("carts")?.open_by_name("ada")?;
    /// cart.put("apples", "12")?;
    /// cart.put("pears", "3")?.wait()?;
    ///
    /// let (mut entries, mut bytes) = (cart.list(ListOptions::new())?, 0);
    /// while let Some(entry) = entries.next_ref()? {
    ///     bytes += entry.key.len() + entry.value.len();
    /// }
    /// assert_eq!(bytes, 14);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn next_ref(&mut self) -> Result<Option<EntryRef<'_>>> {
        let Self { iter, left, reverse, keys_only } = self;
        if *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        let next = iter.next_ref(if *reverse { End::Back } else { End::Front });
        if !matches!(next, Ok(Some(_))) {
            *left = 0;
        }
        Ok(next?.map(|entry| {
            let value = if *keys_only { &[] } else { entry.value };
            EntryRef { key: entry.key.get(1..).unwrap_or_default(), codec: entry.codec, value }
        }))
    }

    fn take(&mut self, from_back: bool) -> Option<Result<(Value, Value)>> {
        self.left = self.left.checked_sub(1)?;
        let from_back = from_back != self.reverse;
        let next = if from_back { self.iter.next_back() } else { self.iter.next() };
        if !matches!(next, Some(Ok(_))) {
            self.left = 0;
        }
        Some(next?.map(|entry| {
            let key = Value::of_key(entry.key);
            let value = Value::new(entry.codec, entry.value);
            (key, if self.keys_only { Value::empty() } else { value })
        }))
    }
}

impl Iterator for Entries {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(false)
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_ones_has_nothing_behind_it() {
        assert_eq!(behind_prefix(b"a"), Some(b"b".to_vec()));
        assert_eq!(behind_prefix(b"a\xFF\xFF"), Some(b"b".to_vec()));
        assert_eq!(behind_prefix(b"\xFF\xFF"), None);
        assert_eq!(behind_prefix(b""), None);
    }

    #[test]
    fn contradictory_options_are_refused() {
        let code = |options: ListOptions| options.bounds().unwrap_err().code();
        assert_eq!(code(ListOptions::new().start("a").start_after("a")), "list.start");
        assert_eq!(code(ListOptions::new().limit(0)), "list.limit");
    }
}

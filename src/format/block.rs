//! A block of a run: entries in the order of their keys, to be searched in place.
//!
//! A block is a multiple of 4,096 bytes and begins on such a boundary, so that one entry that is
//! not in memory costs one read. Inside it an entry leaves out what its key shares with the one
//! before; every few entries a restart has its key whole, so that a search may begin there. Hints
//! at the end of the block, two bytes of each restart's key, lead to the right one.
//!
//! Invariants:
//!   * Keys ascend strictly.
//!   * A walk over any bytes ends: each step moves on by at least three of them.

use super::{Cursor, Malformed, checksum, put_varint};
use crate::limits::BLOCK_BYTES_MAX;
use std::borrow::Cow;
use std::ops::Range;

/// Where blocks begin, and what they are multiples of.
pub const BLOCK_ALIGNMENT: usize = 4096;

/// Bytes of a key and its value together that surely fit a block.
pub const ENTRY_BYTES_MAX: usize = BLOCK_BYTES_MAX - 64;

/// Behind the restarts: where hints begin in keys, bytes of entries, number of restarts, checksum.
const TRAILER_BYTES: usize = 10;

/// Where a restart is, and its hint.
const RESTART_BYTES: usize = 4;

const RESTART_INTERVAL: usize = 4;

/// Most keys are not longer: room for one, taken at once.
const KEY_BYTES_MOSTLY: usize = 64;

const _: () = assert!(BLOCK_BYTES_MAX - TRAILER_BYTES <= u16::MAX as usize);
const _: () = assert!(BLOCK_BYTES_MAX.is_multiple_of(BLOCK_ALIGNMENT));

/// Builds one block after the other.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    entries: Vec<u8>,
    restarts: Vec<u16>,
    count: usize,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// Bytes that every block may fill.
    least: usize,
}

impl BlockBuilder {
    /// Builds blocks that take entries up to this many bytes each, where one entry alone does not
    /// take more: for large entries, so that few bytes are lost at the ends of blocks.
    #[must_use]
    pub fn of_bytes(least: usize) -> Self {
        assert!(
            least.is_multiple_of(BLOCK_ALIGNMENT) && least <= BLOCK_BYTES_MAX,
            "a block's size"
        );
        Self { least, ..Self::default() }
    }

    /// Appends an entry whose key is above the last one's. False, and nothing changes, when the
    /// block would grow beyond what it fills already: it is full.
    ///
    /// Key and value, which comes in parts, must be within [`ENTRY_BYTES_MAX`] together.
    pub fn add(&mut self, key: &[u8], value: &[&[u8]]) -> bool {
        let value_bytes = value.iter().map(|part| part.len()).sum::<usize>();
        assert!(key.len() + value_bytes <= ENTRY_BYTES_MAX, "an entry fits a block");
        let room = self.bytes().next_multiple_of(BLOCK_ALIGNMENT).max(self.least);
        let (start, restarts) = (self.entries.len(), self.restarts.len());
        let restart = self.count.is_multiple_of(RESTART_INTERVAL);
        let shared = if restart { 0 } else { shared_prefix(&self.last_key, key) };
        if restart && let Ok(offset) = u16::try_from(start) {
            self.restarts.push(offset);
        }
        put_varint(&mut self.entries, shared as u64);
        put_varint(&mut self.entries, (key.len() - shared) as u64);
        put_varint(&mut self.entries, value_bytes as u64);
        // Before it is copied: what does not fit may be as long as all that is there.
        if self.count > 0 && self.bytes() + key.len() - shared + value_bytes > room {
            self.entries.truncate(start);
            self.restarts.truncate(restarts);
            return false;
        }
        self.entries.extend_from_slice(&key[shared..]);
        for part in value {
            self.entries.extend_from_slice(part);
        }
        if self.count == 0 {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.count += 1;
        true
    }

    /// Whether the block has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first key of the block.
    #[must_use]
    pub fn first_key(&self) -> &[u8] {
        &self.first_key
    }

    /// The last key of the block.
    #[must_use]
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Appends the block's bytes to `out`; an empty block begins. The seed says where the bytes
    /// will stand.
    pub fn finish(&mut self, seed: u64, out: &mut Vec<u8>) {
        assert!(self.count > 0, "a block holds an entry");
        let bytes = self.bytes().next_multiple_of(BLOCK_ALIGNMENT);
        assert!(bytes <= BLOCK_BYTES_MAX, "a block stays within its limit");
        let (begin, end, count) = (out.len(), self.entries.len(), self.restarts.len());
        out.extend_from_slice(&self.entries);
        out.resize(begin + bytes - TRAILER_BYTES - RESTART_BYTES * count, 0);
        for restart in &self.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
        let skip = shared_prefix(&self.first_key, &self.last_key);
        for restart in self.restarts.drain(..) {
            let key = entry(&self.entries, usize::from(restart));
            let hint = key.map(|entry| hint(entry.suffix, skip));
            out.extend_from_slice(&hint.unwrap_or_default().to_le_bytes());
        }
        for number in [skip, end, count] {
            let number = u16::try_from(number);
            assert!(number.is_ok(), "a number in a block is below the bytes of the largest");
            out.extend_from_slice(&number.unwrap_or_default().to_le_bytes());
        }
        let sum = checksum(seed, &out[begin..]);
        out.extend_from_slice(&sum.to_le_bytes());
        self.entries.clear();
        self.count = 0;
    }

    fn bytes(&self) -> usize {
        self.entries.len() + RESTART_BYTES * self.restarts.len() + TRAILER_BYTES
    }
}

/// Whether a block's checksum is that of its bytes, at the place that the seed says.
#[must_use]
pub fn block_is_whole(bytes: &[u8], seed: u64) -> bool {
    match bytes.split_last_chunk::<4>() {
        Some((covered, sum)) => checksum(seed, covered) == u32::from_le_bytes(*sum),
        None => false,
    }
}

/// A block, to be searched in place. Its checksum is not looked at here.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where the entries end.
    end: usize,
    /// Where the restarts begin.
    restarts_at: usize,
    /// How many they are; at least one.
    restarts: usize,
    /// Where hints begin in keys: all keys of the block are alike before.
    skip: usize,
}

struct Entry<'a> {
    shared: usize,
    suffix: &'a [u8],
    value: &'a [u8],
    next: usize,
}

impl<'a> Block<'a> {
    /// Finds the parts of a block.
    pub fn parse(bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, Malformed> {
        let bytes = bytes.into();
        let (rest, trailer) =
            bytes.split_last_chunk::<TRAILER_BYTES>().ok_or(Malformed("cut short"))?;
        let number = |at| usize::from(u16::from_le_bytes([trailer[at], trailer[at + 1]]));
        let (skip, end, restarts) = (number(0), number(2), number(4));
        let restarts_at = rest.len().checked_sub(RESTART_BYTES * restarts);
        let restarts_at = restarts_at.ok_or(Malformed("more restarts than bytes"))?;
        if restarts == 0 || end == 0 || end > restarts_at {
            return Err(Malformed("a block without entries"));
        }
        Ok(Self { bytes, end, restarts_at, restarts, skip })
    }

    /// The value of `key`.
    pub fn find(&self, key: &[u8]) -> Result<Option<&[u8]>, Malformed> {
        let wanted = hint(key, self.skip);
        let low = partition(0..self.restarts, |restart| Ok(self.hint(restart)? < wanted))?;
        let high = partition(low..self.restarts, |restart| Ok(self.hint(restart)? == wanted))?;
        // A key that is not like those of the block leads anywhere, and is not found there.
        let Some(group) = self.restart_below(key, low..high)? else { return Ok(None) };
        let mut offset = self.restart(group)?;
        let end = if group + 1 < self.restarts { self.restart(group + 1)? } else { self.end };
        // What the entry before shares with `key`; it is less than `key`, so an entry that shares
        // more than this with it is less for the same reason.
        let mut matched = 0;
        while offset < end {
            let entry = self.entry(offset)?;
            if entry.shared <= matched {
                let rest = &key[entry.shared..];
                let more = shared_prefix(entry.suffix, rest);
                match (entry.suffix.get(more), rest.get(more)) {
                    (None, None) => return Ok(Some(entry.value)),
                    (Some(byte), wanted) if wanted.is_none_or(|wanted| byte > wanted) => {
                        return Ok(None);
                    }
                    _ => matched = entry.shared + more,
                }
            }
            offset = entry.next;
        }
        Ok(None)
    }

    /// The last restart whose key is at most `key`, as those before `among` are and those behind
    /// are not.
    fn restart_below(&self, key: &[u8], among: Range<usize>) -> Result<Option<usize>, Malformed> {
        let below = |number| Ok(self.entry(self.restart(number)?)?.suffix <= key);
        partition(among, below).map(|above| above.checked_sub(1))
    }

    fn restart(&self, number: usize) -> Result<usize, Malformed> {
        self.number(self.restarts_at + 2 * number).map(usize::from)
    }

    fn hint(&self, number: usize) -> Result<u16, Malformed> {
        self.number(self.restarts_at + 2 * (self.restarts + number))
    }

    fn number(&self, at: usize) -> Result<u16, Malformed> {
        match self.bytes.get(at..).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => Ok(u16::from_le_bytes(*bytes)),
            None => Err(Malformed("a restart outside its block")),
        }
    }

    fn entry(&self, offset: usize) -> Result<Entry<'_>, Malformed> {
        entry(&self.bytes[..self.end], offset)
    }
}

/// The entry at `offset` of a block's entries.
fn entry(entries: &[u8], offset: usize) -> Result<Entry<'_>, Malformed> {
    let bytes = entries.get(offset..).ok_or(Malformed("an entry outside"))?;
    let mut cursor = Cursor::new(bytes);
    let (shared, suffix, value) = match bytes {
        [a, b, c, ..] if (a | b | c) & 0x80 == 0 => {
            cursor.take(3)?;
            (usize::from(*a), usize::from(*b), usize::from(*c))
        }
        _ => {
            let mut length = || cursor.varint_u32().map(|length| length as usize);
            (length()?, length()?, length()?)
        }
    };
    let (suffix, value) = (cursor.take(suffix)?, cursor.take(value)?);
    Ok(Entry { shared, suffix, value, next: entries.len() - cursor.rest().len() })
}

/// Two bytes of a key, in which keys of a block differ; zeros for those that are not there.
fn hint(key: &[u8], skip: usize) -> u16 {
    match key.get(skip..).unwrap_or_default() {
        [first, second, ..] => u16::from_be_bytes([*first, *second]),
        [first] => u16::from_be_bytes([*first, 0]),
        [] => 0,
    }
}

/// The first number of the range for which `holds` is false; it holds for all before.
fn partition(
    range: Range<usize>,
    holds: impl Fn(usize) -> Result<bool, Malformed>,
) -> Result<usize, Malformed> {
    let Range { start: mut low, end: mut high } = range;
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn shared_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// A place in a block, at an entry, from which to go on in either direction.
#[derive(Clone, Debug)]
pub struct BlockCursor<'a> {
    block: Block<'a>,
    /// Where the entry begins and ends.
    entry: Range<usize>,
    value: Range<usize>,
    key: Vec<u8>,
}

impl<'a> BlockCursor<'a> {
    /// A cursor that is at no entry yet.
    #[must_use]
    pub fn new(block: Block<'a>) -> Self {
        Self { block, entry: 0..0, value: 0..0, key: Vec::with_capacity(KEY_BYTES_MOSTLY) }
    }

    /// The key of the entry.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of the entry.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.block.bytes[self.value.clone()]
    }

    /// Goes to the first entry.
    pub fn first(&mut self) -> Result<(), Malformed> {
        self.restart(0)
    }

    /// Goes to the last entry.
    pub fn last(&mut self) -> Result<(), Malformed> {
        self.restart(self.block.restarts - 1)?;
        while self.next()? {}
        Ok(())
    }

    /// Goes to the next entry; false at the last.
    #[expect(clippy::should_implement_trait, reason = "it lends, and fails")]
    pub fn next(&mut self) -> Result<bool, Malformed> {
        if self.entry.end >= self.block.end {
            return Ok(false);
        }
        // Whoever walks on must come to an end, whatever the bytes say.
        let entry = self.block.entry(self.entry.end)?;
        if self.key.get(entry.shared..).is_some_and(|rest| entry.suffix <= rest) {
            return Err(Malformed("keys of a block out of order"));
        }
        self.read(self.entry.end)?;
        Ok(true)
    }

    /// Goes to the entry before; false at the first.
    pub fn previous(&mut self) -> Result<bool, Malformed> {
        let target = self.entry.start;
        let restarts = 0..self.block.restarts;
        let above = partition(restarts, |number| Ok(self.block.restart(number)? < target))?;
        let Some(group) = above.checked_sub(1) else { return Ok(false) };
        self.restart(group)?;
        while self.entry.end < target && self.next()? {}
        Ok(true)
    }

    /// Goes to the first entry whose key is at least `key`; false when there is none.
    pub fn ceiling(&mut self, key: &[u8]) -> Result<bool, Malformed> {
        let restarts = 0..self.block.restarts;
        self.restart(self.block.restart_below(key, restarts)?.unwrap_or(0))?;
        while self.key.as_slice() < key {
            if !self.next()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes to the last entry whose key is at most `key`; when there is none, false, and to the
    /// first one.
    pub fn floor(&mut self, key: &[u8]) -> Result<bool, Malformed> {
        let below = self.block.restart_below(key, 0..self.block.restarts)?;
        self.restart(below.unwrap_or(0))?;
        while below.is_some() && self.next_is_within(key)? {
            self.next()?;
        }
        Ok(below.is_some())
    }

    /// Whether there is a next entry, and its key is at most `key`.
    fn next_is_within(&self, key: &[u8]) -> Result<bool, Malformed> {
        if self.entry.end >= self.block.end {
            return Ok(false);
        }
        let entry = self.block.entry(self.entry.end)?;
        let shared = self.key.get(..entry.shared).unwrap_or(&self.key);
        let (head, rest) = key.split_at(shared.len().min(key.len()));
        Ok(shared.cmp(head).then_with(|| entry.suffix.cmp(rest)).is_le())
    }

    /// Goes to the last entry whose key `holds`; it holds for the first one, and for all before one
    /// for which it does.
    pub fn last_of(&mut self, holds: impl Fn(&[u8]) -> bool) -> Result<(), Malformed> {
        let restarts = 0..self.block.restarts;
        let holds_at = |number| Ok(holds(self.block.entry(self.block.restart(number)?)?.suffix));
        let behind = partition(restarts, holds_at)?;
        self.restart(behind.saturating_sub(1))?;
        while self.next()? {
            if !holds(&self.key) {
                return self.previous().map(drop);
            }
        }
        Ok(())
    }

    fn restart(&mut self, group: usize) -> Result<(), Malformed> {
        self.key.clear();
        self.read(self.block.restart(group)?)
    }

    fn read(&mut self, offset: usize) -> Result<(), Malformed> {
        let entry = self.block.entry(offset)?;
        if entry.shared > self.key.len() {
            return Err(Malformed("an entry that shares more than there is"));
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(entry.suffix);
        self.value = entry.next - entry.value.len()..entry.next;
        self.entry = offset..entry.next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn block(entries: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        for (key, value) in entries {
            assert!(builder.add(key, &[value]));
        }
        finished(&mut builder, 7)
    }

    fn finished(builder: &mut BlockBuilder, seed: u64) -> Vec<u8> {
        let mut out = b"before".to_vec();
        builder.finish(seed, &mut out);
        out.split_off(6)
    }

    #[test]
    fn a_walk_ends_where_keys_do_not_ascend() {
        for second in [&b"a"[..], b"b", b"c"] {
            let mut builder = BlockBuilder::default();
            assert!(builder.add(b"b", &[b"1"]) && builder.add(second, &[b"2"]));
            let bytes = finished(&mut builder, 7);
            let mut cursor = BlockCursor::new(Block::parse(&bytes).unwrap());
            cursor.first().unwrap();
            assert_eq!(cursor.next().is_ok(), second == b"c");
        }
    }

    proptest! {
        #[test]
        fn a_block_answers_as_a_sorted_map_does(
            entries in btree_map(vec(0u8..3, 0..6), vec(any::<u8>(), 0..20), 1..60),
            probes in vec(vec(0u8..3, 0..6), 20),
        ) {
            let bytes = block(&entries);
            prop_assert!(block_is_whole(&bytes, 7) && !block_is_whole(&bytes, 8));
            let block = Block::parse(&bytes).unwrap();
            let mut cursor = BlockCursor::new(block.clone());
            for probe in probes.iter().chain(entries.keys()) {
                prop_assert_eq!(block.find(probe).unwrap(), entries.get(probe).map(Vec::as_slice));
                let below = entries.range(..=probe.clone()).next_back();
                prop_assert_eq!(cursor.floor(probe).unwrap(), below.is_some());
                if let Some((key, value)) = below {
                    prop_assert_eq!((cursor.key(), cursor.value()), (&key[..], &value[..]));
                    let before = entries.range(..key.clone()).next_back();
                    prop_assert_eq!(cursor.previous().unwrap(), before.is_some());
                    prop_assert!(before.is_none_or(|(before, _)| cursor.key() == before));
                }
                let above = entries.range(probe.clone()..).next();
                prop_assert_eq!(cursor.ceiling(probe).unwrap(), above.is_some());
                prop_assert!(above.is_none_or(|(above, _)| cursor.key() == above));
            }
            cursor.last().unwrap();
            prop_assert_eq!(Some(cursor.key()), entries.keys().next_back().map(Vec::as_slice));
        }

        #[test]
        fn no_bytes_make_a_block_panic_or_run_for_ever(
            mut bytes in vec(0u8..6, 0..200), probe in vec(0u8..6, 0..6),
        ) {
            bytes.extend_from_slice(&[0, 0, 4, 0, 0, 0, 1, 0, 1, 0, 60, 0, 2, 0, 0, 0, 0, 0]);
            let Ok(block) = Block::parse(&bytes) else { return Ok(()) };
            let _ = block.find(&probe);
            let mut cursor = BlockCursor::new(block);
            let _ = (cursor.floor(&probe), cursor.ceiling(&probe), cursor.previous());
            let mut steps = 0;
            if cursor.first().is_ok() {
                while cursor.next() == Ok(true) {
                    steps += 1;
                }
            }
            prop_assert!(steps <= bytes.len());
        }
    }

    #[test]
    fn a_full_block_says_so_and_the_largest_entry_fits_one() {
        let mut builder = BlockBuilder::default();
        assert!(builder.add(b"", &[&vec![1; ENTRY_BYTES_MAX]]));
        assert!(!builder.add(b"a", &[&[2; 100]]));
        assert_eq!(finished(&mut builder, 1).len(), BLOCK_BYTES_MAX);
        let added = (0u8..=255).take_while(|byte| builder.add(&[*byte], &[&[0; 60], &[1; 35]]));
        assert_eq!(added.count(), 40);
        assert_eq!(finished(&mut builder, 1).len(), BLOCK_ALIGNMENT);
    }
}

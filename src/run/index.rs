//! Finds the block of a run that may hold a key.
//!
//! For each block: a hint, where it begins, its first and its last key. A hint is the eight bytes
//! of the first key behind what all keys of the run begin with. Ids are uniform, so a hint's place
//! is guessed first and searched for around the guess.
//!
//! Invariants:
//!   * Keys, and so hints, ascend; blocks lie one behind the other. Checked once, at open.
//!   * No bytes make a question panic, even if they change after that check.

use crate::disk::bytes::SharedBytes;
use crate::error::Error;
use crate::format::block::BLOCK_ALIGNMENT;
use crate::format::{Cursor, Malformed};
use crate::limits::BLOCK_BYTES_MAX;
use std::cmp::Ordering;
use std::ops::Range;

const COUNT_BYTES: usize = 8;
const HINT_BYTES: usize = 8;
/// Windows of hints below this are searched by halving alone.
const GUESS_FROM: usize = 32;

/// Gathers the index of a run being written.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    /// Where each block begins, in units of [`BLOCK_ALIGNMENT`].
    places: Vec<u32>,
    /// Where the first and the last key of each block end.
    ends: Vec<u32>,
    keys: Vec<u8>,
}

impl IndexBuilder {
    /// Adds the block that begins at `offset`.
    pub(crate) fn push(&mut self, offset: u64, first: &[u8], last: &[u8]) -> Result<(), Error> {
        self.places.push(place(offset)?);
        for key in [first, last] {
            self.keys.extend_from_slice(key);
            self.ends.push(u32::try_from(self.keys.len()).map_err(|_| too_large())?);
        }
        Ok(())
    }

    /// The index of blocks that were found one by one, of which damaged stretches may be of any
    /// length.
    pub(crate) fn assemble(self, end: u64) -> Result<Index, Error> {
        let bytes = SharedBytes::from(self.finish(end)?);
        let found = Index::read(bytes, &(BLOCK_ALIGNMENT as u64..end), u64::MAX);
        found.map_err(|fault| Error::invalid("run.entry", fault.0))
    }

    /// The index's bytes. Blocks end at `end`.
    pub(crate) fn finish(mut self, end: u64) -> Result<Vec<u8>, Error> {
        let blocks = self.places.len();
        self.places.push(place(end)?);
        let mut out = Vec::with_capacity(self.keys.len() + COUNT_BYTES + blocks * 20 + 4);
        out.extend_from_slice(&(blocks as u64).to_le_bytes());
        let keys = Keys { ends: &self.ends, keys: &self.keys };
        let shared = if blocks == 0 { 0 } else { keys.shared(blocks) };
        for block in 0..blocks {
            out.extend_from_slice(&hint(&keys.get(2 * block)[shared..]).to_le_bytes());
        }
        for number in self.places.iter().chain(&self.ends) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.keys);
        Ok(out)
    }
}

struct Keys<'a> {
    ends: &'a [u32],
    keys: &'a [u8],
}

impl Keys<'_> {
    fn get(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.keys[start..self.ends[number] as usize]
    }

    fn shared(&self, blocks: usize) -> usize {
        shared_prefix(self.get(0), self.get(2 * blocks - 1)).len()
    }
}

fn place(offset: u64) -> Result<u32, Error> {
    assert!(offset.is_multiple_of(BLOCK_ALIGNMENT as u64), "blocks are aligned");
    u32::try_from(offset / BLOCK_ALIGNMENT as u64).map_err(|_| too_large())
}

/// What a run is not written for that would be larger than its index can say.
pub const TOO_LARGE: &str = "run.large";

fn too_large() -> Error {
    Error::invalid(TOO_LARGE, "a run would be larger than its index can say")
}

fn shared_prefix<'a>(one: &'a [u8], other: &[u8]) -> &'a [u8] {
    let length = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    &one[..length]
}

/// The first eight bytes as a number; zeros stand in for those that are not there.
fn hint(key: &[u8]) -> u64 {
    if let Some(bytes) = key.first_chunk::<HINT_BYTES>() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; HINT_BYTES];
    bytes[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(bytes)
}

/// The index of a run.
#[derive(Debug)]
pub(crate) struct Index {
    bytes: SharedBytes,
    blocks: usize,
    /// What all keys of the run begin with.
    shared: Vec<u8>,
    places_at: usize,
    ends_at: usize,
    keys_at: usize,
}

/// The index's bytes, borrowed once for a question.
#[derive(Clone, Copy)]
struct View<'a> {
    index: &'a Index,
    bytes: &'a [u8],
}

impl Index {
    /// Checks an index whose blocks are `blocks_at`.
    pub(crate) fn new(bytes: SharedBytes, blocks_at: &Range<u64>) -> Result<Self, Malformed> {
        Self::read(bytes, blocks_at, BLOCK_BYTES_MAX as u64)
    }

    fn read(bytes: SharedBytes, blocks_at: &Range<u64>, most: u64) -> Result<Self, Malformed> {
        let count = Cursor::new(&bytes).u64()?;
        let room = bytes.len() / (HINT_BYTES + 12);
        let blocks = usize::try_from(count).ok().filter(|blocks| *blocks <= room);
        let blocks = blocks.ok_or(Malformed("an index of more blocks than bytes"))?;
        let places_at = COUNT_BYTES + blocks * HINT_BYTES;
        let ends_at = places_at + (blocks + 1) * 4;
        let keys_at = ends_at + 2 * blocks * 4;
        if keys_at > bytes.len() {
            return Err(Malformed("cut short"));
        }
        let mut index = Self { bytes, blocks, shared: Vec::new(), places_at, ends_at, keys_at };
        if let Some(last) = blocks.checked_sub(1) {
            index.shared = shared_prefix(index.first_key(0), index.last_key(last)).to_vec();
        }
        index.check(blocks_at, most)?;
        Ok(index)
    }

    fn check(&self, blocks_at: &Range<u64>, most: u64) -> Result<(), Malformed> {
        let view = self.view();
        let mut end = blocks_at.start;
        let mut keys_end = 0;
        let mut before: Option<&[u8]> = None;
        for block in 0..self.blocks {
            let place = self.block_range(block);
            let bytes = place.end.saturating_sub(place.start);
            if place.start != end || bytes == 0 || bytes > most {
                return Err(Malformed("blocks not one behind the other"));
            }
            end = place.end;
            for number in [2 * block, 2 * block + 1] {
                let key_end = view.number(self.ends_at, number);
                if key_end < keys_end || key_end as usize > view.bytes.len() - self.keys_at {
                    return Err(Malformed("keys of an index outside of it"));
                }
                keys_end = key_end;
            }
            let (first, last) = (view.key(2 * block), view.key(2 * block + 1));
            if first > last || before.is_some_and(|before| before >= first) {
                return Err(Malformed("keys of an index out of order"));
            }
            let behind = first.strip_prefix(self.shared.as_slice());
            if behind.is_none_or(|behind| hint(behind) != view.hint(block)) {
                return Err(Malformed("a hint that is not its key's"));
            }
            before = Some(last);
        }
        if end != blocks_at.end || view.bytes.len() - self.keys_at != keys_end as usize {
            return Err(Malformed("an index that is not of these blocks"));
        }
        Ok(())
    }

    /// How many blocks the run has.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Where a block is in the file.
    pub(crate) fn block_range(&self, block: usize) -> Range<u64> {
        let view = self.view();
        let place =
            |number| u64::from(view.number(self.places_at, number)) * BLOCK_ALIGNMENT as u64;
        place(block)..place(block + 1)
    }

    /// The first key of a block.
    pub(crate) fn first_key(&self, block: usize) -> &[u8] {
        self.view().key(2 * block)
    }

    /// The last key of a block.
    pub(crate) fn last_key(&self, block: usize) -> &[u8] {
        self.view().key(2 * block + 1)
    }

    /// The last block whose first key is at most `key`.
    pub(crate) fn block_for(&self, key: &[u8]) -> Option<usize> {
        let (head, behind) = key.split_at(key.len().min(self.shared.len()));
        match head.cmp(&self.shared) {
            Ordering::Less => return None,
            Ordering::Greater => return self.blocks.checked_sub(1),
            Ordering::Equal => {}
        }
        let view = self.view();
        let wanted = hint(behind);
        let from = view.hints_below(wanted);
        let mut above = from;
        if from < self.blocks && view.hint(from) == wanted {
            let to = partition(from..self.blocks, |block| view.hint(block) == wanted);
            above = partition(from..to, |block| view.key(2 * block) <= key);
        }
        above.checked_sub(1)
    }

    /// The last of some blocks whose first key `holds`; it holds for those of all before.
    pub(crate) fn last_of(
        &self,
        blocks: Range<usize>,
        holds: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let start = blocks.start;
        let behind = partition(blocks, |block| holds(self.first_key(block)));
        behind.checked_sub(1).filter(|last| *last >= start)
    }

    fn view(&self) -> View<'_> {
        View { index: self, bytes: &self.bytes }
    }
}

/// The first number of the range for which `holds` is false; it holds for all before.
fn partition(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let Range { start: mut low, end: mut high } = range;
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

impl<'a> View<'a> {
    fn hint(self, block: usize) -> u64 {
        let at = COUNT_BYTES + block * HINT_BYTES;
        let bytes = self.bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
    }

    fn number(self, array_at: usize, number: usize) -> u32 {
        let bytes = self.bytes.get(array_at + number * 4..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn key(self, number: usize) -> &'a [u8] {
        let Index { ends_at, keys_at, .. } = *self.index;
        let start = if number == 0 { 0 } else { self.number(ends_at, number - 1) as usize };
        let end = self.number(ends_at, number) as usize;
        self.bytes.get(keys_at + start..keys_at + end).unwrap_or_default()
    }

    /// How many hints are below `wanted`.
    fn hints_below(self, wanted: u64) -> usize {
        // Invariant: hints before `low` are below, those from `high` on are not.
        let (mut low, mut high) = (0, self.index.blocks);
        for _ in 0..3 {
            let span = high - low;
            if span < GUESS_FROM {
                break;
            }
            let (least, most) = (self.hint(low), self.hint(high - 1));
            if wanted <= least {
                return low;
            }
            if wanted > most {
                return high;
            }
            let guess = low + guess(wanted - least, most - least, span);
            let reach = span.isqrt();
            let (left, right) =
                (low.max(guess.saturating_sub(reach)), (guess + reach).min(high - 1));
            if self.hint(left) >= wanted {
                high = left;
                continue;
            }
            low = left + 1;
            if self.hint(right) < wanted { low = low.max(right + 1) } else { high = right }
        }
        partition(low..high, |block| self.hint(block) < wanted)
    }
}

/// `part / whole` of `span`, where `part <= whole`.
fn guess(part: u64, whole: u64, span: usize) -> usize {
    let shift = 32u32.saturating_sub(whole.leading_zeros());
    let guess = (part >> shift) * span as u64 / ((whole >> shift) + 1);
    usize::try_from(guess).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    fn index(keys: &[Vec<u8>]) -> Index {
        let mut builder = IndexBuilder::default();
        for (at, key) in keys.iter().enumerate() {
            builder.push(4096 * (1 + at as u64), key, key).unwrap();
        }
        let end = 4096 * (1 + keys.len() as u64);
        let bytes = builder.finish(end).unwrap();
        Index::new(SharedBytes::from(bytes), &(4096..end)).unwrap()
    }

    fn check(keys: &[Vec<u8>], probes: &[Vec<u8>]) {
        let index = index(keys);
        for probe in probes.iter().chain(keys) {
            let expected = keys.partition_point(|key| key <= probe).checked_sub(1);
            assert_eq!(index.block_for(probe), expected, "{probe:?}");
        }
    }

    proptest! {
        #[test]
        fn a_search_finds_the_last_block_that_begins_at_or_below(
            keys in btree_set(vec(0u8..3, 0..12), 0..120),
            probes in vec(vec(0u8..4, 0..12), 20),
        ) {
            check(&keys.into_iter().collect::<Vec<_>>(), &probes);
        }

        #[test]
        fn uniform_and_skewed_hints_are_found(
            keys in btree_set(any::<(u64, bool)>(), 500),
            probes in vec(any::<u64>(), 50),
        ) {
            let spread = |(number, skewed): (u64, bool)| {
                let number = if skewed { number >> (number % 60) } else { number };
                number.to_be_bytes().to_vec()
            };
            let keys: std::collections::BTreeSet<_> = keys.into_iter().map(spread).collect();
            let probes: Vec<_> = probes.into_iter().map(|probe| spread((probe, true))).collect();
            check(&keys.into_iter().collect::<Vec<_>>(), &probes);
        }

        #[test]
        fn no_bytes_make_an_index_panic(bytes in vec(0u8..3, 0..120), probe in vec(0u8..3, 0..9)) {
            if let Ok(index) = Index::new(SharedBytes::from(bytes), &(4096..8192)) {
                prop_assert!(index.block_for(&probe).is_none_or(|block| block < index.blocks()));
            }
        }
    }
}

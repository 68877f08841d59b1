//! Entries to a page's body.
//!
//! Invariants:
//!   * What is built decodes: a wrong order of keys or a length beyond its limit is a mistake of
//!     the caller and is asserted here, before it can reach a file.

use super::stored::{PageHeader, length_u32};
use super::{
    BodyForm, FULL_KEY_BYTES_MAX, PageKind, PageMeta, RANGE_KEY_BYTES_MAX, TAG_DELETED,
    WIDE_BODY_BYTES,
};
use crate::format::{put_bytes, put_varint};
use crate::ids::{Codec, KeyKind};
use crate::limits::{PAGE_BYTES_MAX, VALUE_BYTES_MAX};
use std::ops::Range;

/// Enough for a tiny object, so that its page is allocated once.
const FIRST_ENTRIES: usize = 16;
const FIRST_BYTES: usize = 1024;

/// Collects entries into a page.
#[derive(Debug)]
pub struct PageBuilder {
    meta: PageMeta,
    offsets: Vec<u32>,
    entries: Vec<u8>,
    last_key: Range<usize>,
    /// How the last key begins, as a number that orders as it does.
    last_start: u64,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    range_bytes: usize,
    content_bytes: u64,
}

/// A page that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPage {
    /// What it is about.
    pub meta: PageMeta,
    /// Offsets, entries, ranges.
    pub body: Vec<u8>,
    /// Entries, deleted keys included.
    pub count: u32,
    /// Bytes of keys and values of the user.
    pub content_bytes: u64,
    has_ranges: bool,
}

impl PageBuilder {
    /// A page without entries.
    #[must_use]
    pub fn new(meta: PageMeta) -> Self {
        Self {
            meta,
            offsets: Vec::with_capacity(FIRST_ENTRIES),
            entries: Vec::with_capacity(FIRST_BYTES),
            last_key: 0..0,
            last_start: 0,
            ranges: Vec::new(),
            range_bytes: 0,
            content_bytes: 0,
        }
    }

    /// Adds an entry. Full keys must ascend and begin at the fence.
    pub fn push(&mut self, key: &[u8], codec: Codec, value: &[u8]) {
        assert!(value.len() <= VALUE_BYTES_MAX, "a value beyond its limit");
        if key.first() == Some(&(KeyKind::User as u8)) {
            self.content_bytes += (key.len() - 1 + value.len()) as u64;
        }
        self.entry(key, codec as u8, value);
    }

    /// Adds a deleted key, to a delta.
    pub fn push_deleted(&mut self, key: &[u8]) {
        assert_eq!(self.meta.kind, PageKind::Delta, "only deltas hold deleted keys");
        self.entry(key, TAG_DELETED, &[]);
    }

    /// Adds a deleted range to a delta: every key from `start` on, `end` not included, is deleted
    /// in the pages below. The delta's own entries are not affected.
    pub fn push_range(&mut self, start: &[u8], end: &[u8]) {
        assert_eq!(self.meta.kind, PageKind::Delta, "only deltas hold deleted ranges");
        assert!(start < end, "an empty range");
        assert!(start.len().max(end.len()) <= RANGE_KEY_BYTES_MAX, "a key beyond its limit");
        self.range_bytes += start.len() + end.len() + 4;
        self.ranges.push((start.to_vec(), end.to_vec()));
    }

    /// Bytes that the body will have, or slightly fewer once its ranges are joined.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        let rest = self.entries.len() + self.range_bytes;
        let narrow = rest + self.offsets.len() * 2;
        if narrow < WIDE_BODY_BYTES { narrow } else { rest + self.offsets.len() * 4 }
    }

    /// Entries so far, deleted keys included.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.offsets.len()).unwrap_or(u32::MAX)
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.ranges.is_empty()
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> BuiltPage {
        let mut tail = Vec::new();
        let ranges = joined(self.ranges);
        if !ranges.is_empty() {
            put_varint(&mut tail, ranges.len() as u64);
            for (start, end) in &ranges {
                put_bytes(&mut tail, start);
                put_bytes(&mut tail, end);
            }
        }
        let rest = self.entries.len() + tail.len();
        let wide = rest + self.offsets.len() * 2 >= WIDE_BODY_BYTES;
        let width = if wide { 4 } else { 2 };
        let table_bytes = self.offsets.len() * width;
        assert!(table_bytes + rest <= PAGE_BYTES_MAX, "a page beyond its limit");
        // The table goes before the entries, which make room where they are.
        let entry_bytes = self.entries.len();
        let mut body = self.entries;
        body.resize(table_bytes + entry_bytes, 0);
        body.copy_within(..entry_bytes, table_bytes);
        for (place, offset) in body.chunks_exact_mut(width).zip(&self.offsets) {
            let bytes = (table_bytes as u64 + u64::from(*offset)).to_le_bytes();
            place.copy_from_slice(&bytes[..width]);
        }
        body.extend_from_slice(&tail);
        assert_eq!(body.len() >= WIDE_BODY_BYTES, wide, "offsets of the wrong width");
        BuiltPage {
            count: u32::try_from(self.offsets.len()).unwrap_or(u32::MAX),
            meta: self.meta,
            body,
            content_bytes: self.content_bytes,
            has_ranges: !ranges.is_empty(),
        }
    }

    fn entry(&mut self, key: &[u8], tag: u8, value: &[u8]) {
        let kind = key.first().copied().and_then(KeyKind::from_byte);
        assert!(kind.is_some(), "a key without a kind");
        assert!(key.len() <= FULL_KEY_BYTES_MAX, "a key beyond its limit");
        let start = start_of(key);
        if self.offsets.is_empty() {
            assert!(key >= self.meta.fence.as_slice(), "a key below the fence");
        } else {
            // The start settles it mostly. To read back bytes that were just written would wait
            // until all that was written before them has left the processor.
            let ascends = start > self.last_start || &self.entries[self.last_key.clone()] < key;
            assert!(ascends, "keys must ascend");
        }
        self.last_start = start;
        let Ok(offset) = u32::try_from(self.entries.len()) else {
            panic!("a page beyond its limit")
        };
        self.offsets.push(offset);
        put_varint(&mut self.entries, key.len() as u64);
        put_varint(&mut self.entries, value.len() as u64);
        self.entries.push(tag);
        let key_at = self.entries.len();
        self.entries.extend_from_slice(key);
        self.last_key = key_at..self.entries.len();
        self.entries.extend_from_slice(value);
    }
}

/// The first eight bytes of a key as a number; zeros stand in for those that are not there. Of two
/// keys, the one with the greater start is the greater.
fn start_of(key: &[u8]) -> u64 {
    let bytes = key.iter().map(|byte| u64::from(*byte)).chain(std::iter::repeat(0));
    bytes.take(8).fold(0, |start, byte| start << 8 | byte)
}

/// The same deleted keys as ranges that ascend and do not touch.
fn joined(mut ranges: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    ranges.sort_unstable();
    let mut joined: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if start <= last.1 => {
                if end > last.1 {
                    last.1 = end;
                }
            }
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// The body of a page as it goes into a file.
#[derive(Clone, Copy, Debug)]
pub enum Packed<'a> {
    /// The body as it was built.
    Raw,
    /// A compressed body, shorter than the one built.
    Zstd {
        /// The dictionary used; zero for none.
        dictionary: u32,
        /// The frame.
        frame: &'a [u8],
    },
}

impl BuiltPage {
    /// A base of a body that a page had before. Its content is not counted again: zero.
    pub(super) fn whole(meta: PageMeta, count: u32, body: &[u8]) -> Self {
        Self { meta, body: body.to_vec(), count, content_bytes: 0, has_ranges: false }
    }

    /// Appends the stored page to `out`, which ends where the page is to begin. `seed` is that of
    /// the page's place. Returns the checksum.
    pub fn store(&self, packed: Packed<'_>, seed: u64, out: &mut Vec<u8>) -> u32 {
        let (form, dictionary, stored) = match packed {
            Packed::Raw => (BodyForm::Raw, 0, self.body.as_slice()),
            Packed::Zstd { dictionary, frame } => (BodyForm::Zstd, dictionary, frame),
        };
        let header = self.header(form, dictionary, stored.len());
        header.store(&self.meta.fence, stored, seed, out)
    }

    pub(super) fn header(&self, form: BodyForm, dictionary: u32, stored: usize) -> PageHeader {
        PageHeader {
            kind: self.meta.kind,
            form,
            has_ranges: self.has_ranges,
            address: self.meta.address,
            dictionary,
            life: self.meta.life,
            exact_at: self.meta.exact_at,
            until: self.meta.until,
            raw_bytes: length_u32(self.body.len()),
            stored_bytes: length_u32(stored),
            count: self.count,
            fence_bytes: length_u32(self.meta.fence.len()),
        }
    }
}

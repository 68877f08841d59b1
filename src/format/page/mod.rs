//! Pages: sorted entries of one object, searched in place.
//!
//! See "Pages" in `docs/format.md`. A stored page (`stored`) is a header, the fence, the body (as
//! it is, or compressed), zeros up to a multiple of eight bytes, and a checksum at the very end. A
//! body (`builder`) is a table of offsets, the entries in key order, and, in deltas, the deleted
//! ranges.
//!
//! Invariants:
//!   * The bytes of a [`Page`] were walked once, entry by entry, before anybody sees it: accesses
//!     find what they look for inside the body and cannot fail.
//!   * Keys ascend, none is below the fence, and each begins with the byte of a known kind.
//!   * Only deltas hold deleted keys and deleted ranges. Ranges ascend and do not touch.

mod builder;
mod stored;

pub use builder::{BuiltPage, Packed, PageBuilder};
pub use stored::{
    BodyForm, PAGE_ALIGNMENT, PAGE_CHECKSUM_BYTES, PAGE_HEADER_BYTES, PageHeader,
    decode_dictionary, store_dictionary, verified,
};

use super::{Cursor, Malformed};
use crate::disk::bytes::SharedBytes;
use crate::ids::{Address, Codec, FileNumber, KeyKind, Life, Lsn};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::sync::Arc;

const TAG_DELETED: u8 = 0xFF;
const FULL_KEY_BYTES_MAX: usize = KEY_BYTES_MAX + 1;
/// The end of a range may be the key after the longest one.
const RANGE_KEY_BYTES_MAX: usize = FULL_KEY_BYTES_MAX + 1;
/// Bytes of a key that are compared as a number.
const PREFIX_BYTES: usize = 8;
/// A body of this many bytes or more has offsets of four bytes instead of two.
const WIDE_BODY_BYTES: usize = 64 * 1024;

/// What a stored page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    /// Everything between its fence and the next one.
    Page = 1,
    /// What changed since the pages below it.
    Delta = 2,
    /// A dictionary that other pages of the same file are compressed with.
    Dictionary = 3,
}

/// What a file of pages holds, as the manifest keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The file.
    pub number: FileNumber,
    /// Bytes in the file.
    pub bytes: u64,
    /// Bytes of its pages, dictionaries not counted.
    pub page_bytes: u64,
    /// Its pages, dictionaries not counted.
    pub pages: u64,
}

/// What a page is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageMeta {
    /// What it is.
    pub kind: PageKind,
    /// The object.
    pub address: Address,
    /// The object's life.
    pub life: Life,
    /// The page shows the object as it was after this commit.
    pub exact_at: Lsn,
    /// A delta: the `until` of what it was laid over. Zero for a base.
    pub until: Lsn,
    /// The least full key that belongs to the page; empty for an object's first.
    pub fence: Vec<u8>,
}

/// What a page says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageItem<'a> {
    /// The key has this value.
    Value {
        /// How tools are to read the value.
        codec: Codec,
        /// Its bytes.
        value: &'a [u8],
    },
    /// The key is deleted, whatever the pages below say. Only in deltas.
    Deleted,
}

/// A page in memory. Cloning it does not copy its bytes.
#[derive(Clone, Debug)]
pub struct Page {
    header: PageHeader,
    /// The fence, then the body.
    bytes: SharedBytes,
    /// Where in the body the ranges begin; its end without any.
    ranges_at: usize,
}

impl Page {
    /// Reads a whole stored page whose checksum was found right. A compressed body is handed to
    /// `expand` with the memory that it must fill.
    pub fn decode<E: From<Malformed>>(
        stored: &SharedBytes,
        expand: impl FnOnce(&PageHeader, &[u8], &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (header, bytes) = unpack(stored, expand)?;
        Ok(Self::checked(header, bytes)?)
    }

    /// The same of a page that was decoded before, whose entries are not walked again. If they were
    /// not walked, or are others now, some may not be found; nothing else happens.
    pub fn decode_again<E: From<Malformed>>(
        stored: &SharedBytes,
        expand: impl FnOnce(&PageHeader, &[u8], &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (header, bytes) = unpack(stored, expand)?;
        if header.has_ranges {
            return Ok(Self::checked(header, bytes)?);
        }
        let (_, body) = split_fence(&header, &bytes)?;
        entries_at(&header, body)?;
        let ranges_at = body.len();
        Ok(Self { header, bytes, ranges_at })
    }

    fn checked(header: PageHeader, bytes: SharedBytes) -> Result<Self, Malformed> {
        let (fence, body) = split_fence(&header, &bytes)?;
        let ranges_at = walk_entries(&header, fence, body)?;
        if header.has_ranges {
            walk_ranges(&body[ranges_at..])?;
        } else if ranges_at != body.len() {
            return Err(Malformed("bytes after the last entry"));
        }
        Ok(Self { header, bytes, ranges_at })
    }

    /// What the page is about.
    #[must_use]
    pub fn meta(&self) -> PageMeta {
        self.header.meta(self.fence())
    }

    /// Appends the page as one exact at `exact_at`, its body raw, whatever the form of the one that
    /// it was read from. `seed` is that of its place.
    pub fn store_raw(&self, exact_at: Lsn, seed: u64, out: &mut Vec<u8>) {
        let (form, stored_bytes) = (BodyForm::Raw, self.header.raw_bytes);
        let header = PageHeader { form, dictionary: 0, stored_bytes, exact_at, ..self.header };
        header.store(self.fence(), self.body(), seed, out);
    }

    /// The header that the page was stored with.
    #[must_use]
    pub fn header(&self) -> &PageHeader {
        &self.header
    }

    /// Whether the page says what changed since the pages below it.
    #[inline]
    #[must_use]
    pub fn is_delta(&self) -> bool {
        self.header.kind == PageKind::Delta
    }

    /// The least full key that belongs to the page.
    #[must_use]
    pub fn fence(&self) -> &[u8] {
        &self.bytes[..self.header.fence_bytes as usize]
    }

    /// Bytes that the page takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// Bytes of heap memory that the page holds; none where it lies in a map.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.heap_bytes()
    }

    /// Entries, deleted keys included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.header.count as usize
    }

    /// Bytes of keys and values of the user.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        let of = |(key, item): (&[u8], PageItem<'_>)| match item {
            PageItem::Value { value, .. } if key.first() == Some(&(KeyKind::User as u8)) => {
                (key.len() - 1 + value.len()) as u64
            }
            _ => 0,
        };
        self.items().map(of).sum()
    }

    /// What the page's entries say about a full key.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<PageItem<'_>> {
        let (_, entry) = self.search(key).ok()?;
        Some(entry.item())
    }

    /// What the page's entries say about a full key: a value, sharing the page's memory, or, as the
    /// inner none, that it is deleted.
    #[must_use]
    pub fn find_value(&self, key: &[u8]) -> Option<Option<(Codec, SharedBytes)>> {
        let (_, entry) = self.search(key).ok()?;
        Some(self.shared(&entry))
    }

    /// The first entry whose key is not below `key`; the count when there is none.
    #[must_use]
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        self.search(key).map_or_else(|index| index, |(index, _)| index)
    }

    /// The first entry from `from` on whose key is not below `key`; the count when there is none.
    /// The nearer it is, the less is looked at (J. L. Bentley, A. C. Yao, "An almost optimal
    /// algorithm for unbounded searching", 1976).
    #[must_use]
    pub fn lower_bound_from(&self, from: usize, key: &[u8]) -> usize {
        let (body, count) = (self.body(), self.count());
        let is_below = |index| entry(body, index).key < key;
        let (mut low, mut span) = (from, 1);
        while low + span <= count && is_below(low + span - 1) {
            low += span;
            span *= 2;
        }
        let mut high = count.min(low + span - 1).max(low);
        while low < high {
            let middle = usize::midpoint(low, high);
            if is_below(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The entry with this key, or where it would be.
    fn search(&self, key: &[u8]) -> Result<(usize, Entry<'_>), usize> {
        let body = self.body();
        if body.len() < WIDE_BODY_BYTES {
            let offsets = body.as_chunks().0;
            search(body, &offsets[..self.count()], |at| u16::from_le_bytes(*at).into(), key)
        } else {
            let offsets = body.as_chunks().0;
            search(body, &offsets[..self.count()], |at| u32::from_le_bytes(*at) as usize, key)
        }
    }

    /// The key of an entry and what the page says about it.
    #[must_use]
    pub fn item(&self, index: usize) -> (&[u8], PageItem<'_>) {
        assert!(index < self.count(), "an entry beyond the last");
        let entry = entry(self.body(), index);
        (entry.key, entry.item())
    }

    /// Every entry, in order.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = (&[u8], PageItem<'_>)> {
        let body = self.body();
        (0..self.count()).map(move |index| {
            let entry = entry(body, index);
            (entry.key, entry.item())
        })
    }

    /// The value of an entry, sharing the page's memory; none for a deleted key.
    #[must_use]
    pub fn value(&self, index: usize) -> Option<(Codec, SharedBytes)> {
        assert!(index < self.count(), "an entry beyond the last");
        self.shared(&entry(self.body(), index))
    }

    /// An entry, sharing the page's memory: its key, and its value; none for a deleted key.
    #[must_use]
    pub fn shared_entry(&self, index: usize) -> (SharedBytes, Option<(Codec, SharedBytes)>) {
        assert!(index < self.count(), "an entry beyond the last");
        let entry = entry(self.body(), index);
        let behind = self.header.fence_bytes as usize + entry.value_at;
        // Only where the body changed under its page is it not there.
        let key = self.bytes.slice(behind.saturating_sub(entry.key.len())..behind);
        (key.unwrap_or_else(|| SharedBytes::from(entry.key)), self.shared(&entry))
    }

    fn shared(&self, entry: &Entry<'_>) -> Option<(Codec, SharedBytes)> {
        let codec = Codec::from_byte(entry.tag)?;
        let start = self.header.fence_bytes as usize + entry.value_at;
        Some((codec, self.bytes.slice(start..start + entry.value.len())?))
    }

    /// Whether a deleted range of this page holds `key`.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.header.has_ranges
            && self.ranges().take_while(|(start, _)| *start <= key).any(|(_, end)| key < end)
    }

    /// The deleted ranges, ascending, as full keys: start, and end not included.
    pub fn ranges(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut cursor = Cursor::new(&self.body()[self.ranges_at..]);
        // The walk at decoding saw every one of them.
        let count = if cursor.is_empty() { 0 } else { cursor.varint().unwrap_or(0) };
        (0..count).map_while(move |_| {
            let start = cursor.bytes(RANGE_KEY_BYTES_MAX).ok()?;
            Some((start, cursor.bytes(RANGE_KEY_BYTES_MAX).ok()?))
        })
    }

    /// The body, as a dictionary is trained on it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.header.fence_bytes as usize..]
    }
}

impl Page {
    /// The same entries as a page that is to be stored anew, a base exact at another commit.
    #[must_use]
    pub fn copy_exact_at(&self, exact_at: Lsn) -> BuiltPage {
        assert_eq!(self.header.kind, PageKind::Page, "only a base stands for itself");
        BuiltPage::whole(PageMeta { exact_at, ..self.meta() }, self.header.count, self.body())
    }
}

/// A page straight from its builder, never stored.
impl From<BuiltPage> for Page {
    fn from(built: BuiltPage) -> Self {
        let header = built.header(BodyForm::Raw, 0, built.body.len());
        let ranges_at = match walk_entries(&header, &built.meta.fence, &built.body) {
            Ok(ranges_at) => ranges_at,
            Err(fault) => unreachable!("a page was built wrong: {fault}"),
        };
        let mut bytes = built.meta.fence;
        bytes.extend_from_slice(&built.body);
        Self { header, bytes: SharedBytes::from(bytes), ranges_at }
    }
}

/// One entry, found in a body.
#[derive(Clone, Copy)]
struct Entry<'a> {
    key: &'a [u8],
    tag: u8,
    value: &'a [u8],
    value_at: usize,
}

/// What is shown where a body changed under its page, which no sealed file does.
const NO_ENTRY: Entry<'static> = Entry { key: &[], tag: TAG_DELETED, value: &[], value_at: 0 };

impl<'a> Entry<'a> {
    fn item(self) -> PageItem<'a> {
        match Codec::from_byte(self.tag) {
            Some(codec) => PageItem::Value { codec, value: self.value },
            None => PageItem::Deleted,
        }
    }

    /// The entry that begins at byte `at` of a body.
    #[inline]
    fn read(body: &'a [u8], at: usize) -> Option<Self> {
        let rest = body.get(at..)?;
        let (head, key_bytes, value_bytes, tag) = match *rest {
            [key, value, tag, ..] if (key | value) < 0x80 => {
                (3, usize::from(key), usize::from(value), tag)
            }
            _ => long_head(rest)?,
        };
        let (key, values) = rest.get(head..)?.split_at_checked(key_bytes)?;
        let value = values.get(..value_bytes)?;
        Some(Self { key, tag, value, value_at: at + head + key_bytes })
    }
}

/// The entry with this key, or where it would be. `place` reads an offset.
#[inline]
fn search<'a, O>(
    body: &'a [u8],
    offsets: &[O],
    place: impl Fn(&O) -> usize,
    key: &[u8],
) -> Result<(usize, Entry<'a>), usize> {
    let wanted = prefix(key);
    let (mut low, mut high) = (0, offsets.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let at = place(&offsets[middle]);
        // Most keys differ in their first bytes.
        let mut order = prefix_at(body, at).cmp(&wanted);
        if order.is_eq() {
            let found = Entry::read(body, at).unwrap_or(NO_ENTRY);
            order = if found.key.len().max(key.len()) <= PREFIX_BYTES {
                found.key.len().cmp(&key.len())
            } else {
                found.key.cmp(key)
            };
            if order.is_eq() {
                return Ok((middle, found));
            }
        }
        if order.is_lt() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Err(low)
}

/// The first eight bytes of a key as a number: where two differ, they order as the keys do. Where
/// two are the same, keys that are not longer order by their length.
#[inline]
fn prefix(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    // No copy into place: bytes that were just stored in pieces are slow to load as one.
    let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) else {
        return key.iter().rev().fold(0, |rest, byte| (u64::from(*byte) << 56) | (rest >> 8));
    };
    let (first, last) = (u32::from_be_bytes(*first), u32::from_be_bytes(*last));
    let rest = (u64::from(last) << (64 - 8 * key.len())) & u64::from(u32::MAX);
    (u64::from(first) << 32) | rest
}

/// What is left of eight bytes of which only the first so many belong to a key.
const KEPT: [u64; PREFIX_BYTES + 1] = {
    let mut kept = [u64::MAX; PREFIX_BYTES + 1];
    let mut bytes = 0;
    while bytes < PREFIX_BYTES {
        kept[bytes] = !(u64::MAX >> (8 * bytes));
        bytes += 1;
    }
    kept
};

/// The prefix of the key of the entry at byte `at`; as of an empty one where there is no entry.
#[inline]
fn prefix_at(body: &[u8], at: usize) -> u64 {
    if let Some([key_bytes, value_bytes, _, first @ ..]) = body.get(at..)
        && (key_bytes | value_bytes) < 0x80
        && let Some(first) = first.first_chunk()
    {
        return u64::from_be_bytes(*first) & KEPT[usize::from(*key_bytes).min(PREFIX_BYTES)];
    }
    prefix_of_entry(body, at)
}

#[cold]
fn prefix_of_entry(body: &[u8], at: usize) -> u64 {
    prefix(Entry::read(body, at).unwrap_or(NO_ENTRY).key)
}

#[cold]
fn long_head(rest: &[u8]) -> Option<(usize, usize, usize, u8)> {
    let mut cursor = Cursor::new(rest);
    let key_bytes = usize::try_from(cursor.varint().ok()?).ok()?;
    let value_bytes = usize::try_from(cursor.varint().ok()?).ok()?;
    let tag = cursor.u8().ok()?;
    Some((rest.len() - cursor.rest().len(), key_bytes, value_bytes, tag))
}

#[inline]
fn offset(body: &[u8], index: usize) -> Option<usize> {
    if body.len() < WIDE_BODY_BYTES {
        let bytes = body.get(index * 2..)?.first_chunk()?;
        Some(usize::from(u16::from_le_bytes(*bytes)))
    } else {
        let bytes = body.get(index * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    }
}

#[inline]
fn entry(body: &[u8], index: usize) -> Entry<'_> {
    offset(body, index).and_then(|at| Entry::read(body, at)).unwrap_or(NO_ENTRY)
}

/// The header of a stored page, and its fence and body as built.
fn unpack<E: From<Malformed>>(
    stored: &SharedBytes,
    expand: impl FnOnce(&PageHeader, &[u8], &mut [u8]) -> Result<(), E>,
) -> Result<(PageHeader, SharedBytes), E> {
    let header = PageHeader::decode(stored)?;
    if header.kind == PageKind::Dictionary {
        return Err(Malformed("a dictionary where a page should be").into());
    }
    let (fence, body) = header.parts(stored)?;
    let bytes = match header.form {
        BodyForm::Raw => stored.slice(fence.start..body.end).ok_or(Malformed("cut short"))?,
        BodyForm::Zstd => {
            let length = fence.len() + header.raw_bytes as usize;
            let mut memory: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
            let fresh = Arc::get_mut(&mut memory).ok_or(Malformed("cut short"))?;
            let (fence_part, body_part) = fresh.split_at_mut(fence.len());
            fence_part.copy_from_slice(&stored[fence]);
            expand(&header, &stored[body], body_part)?;
            SharedBytes::from(memory)
        }
    };
    Ok((header, bytes))
}

fn split_fence<'a>(
    header: &PageHeader,
    bytes: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    bytes.split_at_checked(header.fence_bytes as usize).ok_or(Malformed("cut short"))
}

/// Where in a body the entries begin, behind their offsets.
fn entries_at(header: &PageHeader, body: &[u8]) -> Result<usize, Malformed> {
    let count = header.count as usize;
    let is_wide = body.len() >= WIDE_BODY_BYTES;
    let at = count * if is_wide { 4 } else { 2 };
    if at > body.len() {
        return Err(Malformed("more entries than bytes"));
    }
    if is_wide && body.len() - count * 2 < WIDE_BODY_BYTES {
        return Err(Malformed("offsets wider than needed"));
    }
    Ok(at)
}

/// Looks at every entry once; returns where the last one ends.
fn walk_entries(header: &PageHeader, fence: &[u8], body: &[u8]) -> Result<usize, Malformed> {
    let mut at = entries_at(header, body)?;
    let mut last: Option<&[u8]> = None;
    for index in 0..header.count as usize {
        if offset(body, index) != Some(at) {
            return Err(Malformed("entry elsewhere than its offset says"));
        }
        let entry = Entry::read(body, at).ok_or(Malformed("entry cut short"))?;
        let ascends = last.map_or(entry.key >= fence, |last| last < entry.key);
        if !ascends {
            return Err(Malformed("keys out of order"));
        }
        let kind = entry.key.first().copied().and_then(KeyKind::from_byte);
        if kind.is_none() {
            return Err(Malformed("key of an unknown kind"));
        }
        if entry.key.len() > FULL_KEY_BYTES_MAX || entry.value.len() > VALUE_BYTES_MAX {
            return Err(Malformed("entry beyond its limits"));
        }
        let deleted = entry.tag == TAG_DELETED && entry.value.is_empty();
        if Codec::from_byte(entry.tag).is_none() && !(deleted && header.kind == PageKind::Delta) {
            return Err(Malformed("entry with an unknown codec"));
        }
        last = Some(entry.key);
        at = entry.value_at + entry.value.len();
    }
    Ok(at)
}

fn walk_ranges(bytes: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.varint()?;
    if count == 0 {
        return Err(Malformed("an empty list of ranges"));
    }
    let mut last: Option<&[u8]> = None;
    for _ in 0..count {
        let start = cursor.bytes(RANGE_KEY_BYTES_MAX)?;
        let end = cursor.bytes(RANGE_KEY_BYTES_MAX)?;
        if start >= end || last.is_some_and(|last| start <= last) {
            return Err(Malformed("ranges out of order"));
        }
        last = Some(end);
    }
    cursor.finish()
}

#[cfg(test)]
mod tests;

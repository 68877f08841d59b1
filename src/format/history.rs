//! History: what an object was and which commits made it so, in items that lie in bundles.
//!
//! An [`ItemKey`] orders items by object, then states before commits, then by LSN; a state or a
//! commit too long for one item goes on in further chunks. A bundle is many items in a row,
//! compressed together: one entry of a run of history, whose [`BundleKey`] is that of its first
//! item. Inside it a key leaves out what it has in common with the one before.
//!
//! Invariants:
//!   * Items of a bundle ascend strictly, and so do the items of a file.
//!   * What decodes encodes back to the same bytes.

use super::alarm::{decode_alarm, encode_alarm};
use super::block::ENTRY_BYTES_MAX;
use super::{Cursor, Malformed, put_bytes, put_varint};
use crate::alarm::Alarm;
use crate::ids::{Life, Lsn, Timestamp};
use crate::limits::{KEY_BYTES_MAX, LOGGED_COMMIT_BYTES_MAX, PAGE_BYTES_MAX};

pub use super::item::{
    BUNDLE_KEY_BYTES, BundleKey, Group, ITEM_HEAD_BYTES_MAX, ITEM_KEY_BYTES, ItemKey,
};

/// Bytes of items from which on a bundle is closed, and the most that a first item may have. With
/// what a block adds it fills four pages of memory and no fifth.
pub const BUNDLE_BYTES: usize = 16 * 1024 - 72;
/// Bytes of a value that one item holds; what is longer goes on in the next chunk.
pub const CHUNK_BYTES: usize = 10 * 1024;

/// Bytes of items that a bundle can have at all.
const BUNDLE_BYTES_MAX: usize = ENTRY_BYTES_MAX - BUNDLE_KEY_BYTES - 8;
/// Bytes of a value that stands by itself in a bundle.
const ITEM_BYTES_MAX: usize = BUNDLE_BYTES_MAX - ITEM_HEAD_BYTES_MAX;
const FULL_KEY_BYTES_MAX: usize = KEY_BYTES_MAX + 2;

const _: () =
    assert!(CHUNK_BYTES + ITEM_HEAD_BYTES_MAX + 2 * FULL_KEY_BYTES_MAX + 64 < BUNDLE_BYTES);
const _: () = assert!(BUNDLE_BYTES < BUNDLE_BYTES_MAX);

/// What the first chunk of a state says. Until an LSN, the `until` of each, what it says was the
/// newest word; what changed it was committed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// The page of a key range.
    Page {
        /// Until when.
        until: Lsn,
        /// Where the key range ends; none for behind the last key.
        end: Option<&'a [u8]>,
        /// Bytes of the stored page, over all chunks.
        bytes: u32,
        /// The stored page, its body raw, its checksum seeded by zero; or what of it stands here.
        frame: &'a [u8],
    },
    /// A change that lies over the page of the same life and key range, or over another delta.
    Delta {
        /// Until when.
        until: Lsn,
        /// As for a page.
        end: Option<&'a [u8]>,
        /// As for a page.
        bytes: u32,
        /// As for a page.
        frame: &'a [u8],
    },
    /// The object had no content.
    Absent {
        /// Until when.
        until: Lsn,
    },
    /// The page of a key range could not be read when it was to be kept.
    Lost {
        /// Until when.
        until: Lsn,
        /// The life of the page.
        life: Life,
        /// Where the key range begins.
        fence: &'a [u8],
        /// Where it ends; none for behind the last key.
        end: Option<&'a [u8]>,
    },
    /// What the head said. It is exact at the object's last commit.
    Head {
        /// Until when.
        until: Lsn,
        /// The time of that commit.
        time: Timestamp,
        /// The plain alarm, if there was one.
        alarm: Option<Alarm>,
        /// Whether that commit adopted pages: nothing that was before it is below what came after.
        adopted: bool,
    },
}

const PAGE: u8 = 1;
const DELTA: u8 = 2;
const ABSENT: u8 = 3;
const LOST: u8 = 4;
const HEAD: u8 = 5;
const ADOPTED_HEAD: u8 = 6;

impl<'a> State<'a> {
    /// Until when it was the newest word.
    #[must_use]
    pub fn until(&self) -> Lsn {
        match *self {
            Self::Page { until, .. }
            | Self::Delta { until, .. }
            | Self::Absent { until }
            | Self::Lost { until, .. }
            | Self::Head { until, .. } => until,
        }
    }

    /// Appends the value of the first chunk.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (tag, until) = match *self {
            Self::Page { until, .. } => (PAGE, until),
            Self::Delta { until, .. } => (DELTA, until),
            Self::Absent { until } => (ABSENT, until),
            Self::Lost { until, .. } => (LOST, until),
            Self::Head { until, adopted: false, .. } => (HEAD, until),
            Self::Head { until, adopted: true, .. } => (ADOPTED_HEAD, until),
        };
        out.push(tag);
        put_varint(out, until.0);
        match *self {
            Self::Page { end, bytes, frame, .. } | Self::Delta { end, bytes, frame, .. } => {
                put_end(out, end);
                put_varint(out, u64::from(bytes));
                out.extend_from_slice(frame);
            }
            Self::Absent { .. } => {}
            Self::Lost { life, fence, end, .. } => {
                put_varint(out, life.0);
                put_bytes(out, fence);
                put_end(out, end);
            }
            Self::Head { time, alarm, .. } => {
                put_varint(out, time.0);
                out.push(u8::from(alarm.is_some()));
                if let Some(alarm) = alarm {
                    encode_alarm(&alarm, Lsn::ZERO, out);
                }
            }
        }
    }

    /// Reads the value of a first chunk.
    pub fn decode(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let tag = cursor.u8()?;
        let until = Lsn(cursor.varint()?);
        if tag == PAGE || tag == DELTA {
            let (end, bytes) = (take_end(&mut cursor)?, cursor.varint_u32()?);
            if bytes as usize > PAGE_BYTES_MAX {
                return Err(Malformed("a state longer than any page"));
            }
            let frame = cursor.rest();
            if frame.len() > bytes as usize {
                return Err(Malformed("a state longer than it says"));
            }
            return Ok(if tag == PAGE {
                Self::Page { until, end, bytes, frame }
            } else {
                Self::Delta { until, end, bytes, frame }
            });
        }
        let state = match tag {
            ABSENT => Self::Absent { until },
            LOST => {
                let life = Life(cursor.varint()?);
                let fence = cursor.bytes(FULL_KEY_BYTES_MAX)?;
                Self::Lost { until, life, fence, end: take_end(&mut cursor)? }
            }
            HEAD | ADOPTED_HEAD => {
                let time = Timestamp(cursor.varint()?);
                let alarm = match cursor.u8()? {
                    0 => None,
                    1 => Some(decode_alarm(Lsn::ZERO, &mut cursor)?),
                    _ => return Err(Malformed("neither true nor false")),
                };
                Self::Head { until, time, alarm, adopted: tag == ADOPTED_HEAD }
            }
            _ => return Err(Malformed("a state of an unknown kind")),
        };
        cursor.finish()?;
        Ok(state)
    }
}

fn put_end(out: &mut Vec<u8>, end: Option<&[u8]>) {
    match end {
        None => out.push(0),
        Some(end) => {
            out.push(1);
            put_bytes(out, end);
        }
    }
}

fn take_end<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    match cursor.u8()? {
        0 => Ok(None),
        1 => cursor.bytes(FULL_KEY_BYTES_MAX).map(Some),
        _ => Err(Malformed("neither true nor false")),
    }
}

/// What the first chunk of a commit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitStart<'a> {
    /// When it was.
    pub time: Timestamp,
    /// Bytes of its operations, over all chunks.
    pub bytes: u32,
    /// Its operations as logged, or what of them stands here.
    pub payload: &'a [u8],
}

impl<'a> CommitStart<'a> {
    /// Appends the value of the first chunk.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        out.extend_from_slice(self.payload);
    }

    /// Appends what stands in front of the payload.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        put_varint(out, self.time.0);
        put_varint(out, u64::from(self.bytes));
    }

    /// Reads the value of a first chunk.
    pub fn decode(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let (time, bytes) = (Timestamp(cursor.varint()?), cursor.varint_u32()?);
        if bytes as usize > LOGGED_COMMIT_BYTES_MAX {
            return Err(Malformed("a commit longer than any"));
        }
        let payload = cursor.rest();
        if payload.len() > bytes as usize {
            return Err(Malformed("a commit longer than it says"));
        }
        Ok(Self { time, bytes, payload })
    }
}

/// The time at the beginning of a commit's first chunk.
fn time_in(value: &[u8]) -> Option<Timestamp> {
    Cursor::new(value).varint().ok().map(Timestamp)
}

/// Items in a row that are not a bundle yet.
#[derive(Debug, Default)]
pub struct BundleBuilder {
    items: Vec<u8>,
    first: Option<BundleKey>,
    last: Option<ItemKey>,
    /// When the last commit was of which there is an item.
    time: Timestamp,
}

impl BundleBuilder {
    /// Adds an item whose key is above that of the one before, and whose value comes in parts, of
    /// which the first has what stands in front of a payload; false, and nothing is added, where
    /// the bundle is full. An empty one takes any item.
    pub fn push(&mut self, key: &ItemKey, value: &[&[u8]]) -> bool {
        assert!(self.last.is_none_or(|last| last < *key), "items ascend");
        let start = self.items.len();
        // The first item of a bundle stands for itself.
        let before = self.last.filter(|_| self.first.is_some());
        key.put(before.as_ref(), &mut self.items);
        let bytes = value.iter().map(|part| part.len()).sum::<usize>();
        put_varint(&mut self.items, bytes as u64);
        // What other writers made of one item may be longer than any of this one.
        if self.items.len() + bytes > BUNDLE_BYTES && self.first.is_some() {
            self.items.truncate(start);
            return false;
        }
        for part in value {
            self.items.extend_from_slice(part);
        }
        let time = match (key.group, key.chunk) {
            (Group::States, _) => Timestamp(0),
            // What cannot be right is carried on as it is, and told where it is read.
            (Group::Commits, 0) => value.first().and_then(|head| time_in(head)).unwrap_or_default(),
            (Group::Commits, _) => self.time,
        };
        self.first.get_or_insert(BundleKey { first: *key, time });
        (self.last, self.time) = (Some(*key), time);
        true
    }

    /// The key of its entry; none of an empty bundle.
    #[must_use]
    pub fn first(&self) -> Option<BundleKey> {
        self.first
    }

    /// The items' bytes.
    #[must_use]
    pub fn items(&self) -> &[u8] {
        &self.items
    }

    /// Begins the next bundle.
    pub fn clear(&mut self) {
        self.items.clear();
        self.first = None;
    }
}

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// What the value of a bundle's entry begins with, for so many bytes of items; behind it stand
/// these, or what they were compressed to.
#[must_use]
pub fn bundle_head(items_bytes: usize, is_compressed: bool) -> Vec<u8> {
    let mut head = vec![if is_compressed { ZSTD } else { RAW }];
    put_varint(&mut head, items_bytes as u64);
    head
}

/// The items of a bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    bytes: Vec<u8>,
    /// The key of each item, and where its value begins and ends.
    items: Vec<(ItemKey, u32, u32)>,
}

impl Bundle {
    /// Reads the value of a bundle's entry. Compressed items are handed to `expand` with the
    /// memory that they must fill.
    pub fn decode(
        value: &[u8],
        expand: impl FnOnce(&[u8], &mut [u8]) -> Result<(), Malformed>,
    ) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let form = cursor.u8()?;
        let raw = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        if raw > BUNDLE_BYTES_MAX {
            return Err(Malformed("a bundle beyond its limit"));
        }
        let bytes = match form {
            RAW => cursor.rest().to_vec(),
            ZSTD => {
                let mut bytes = vec![0; raw];
                expand(cursor.rest(), &mut bytes)?;
                bytes
            }
            _ => return Err(Malformed("a bundle in an unknown form")),
        };
        if bytes.len() != raw || raw == 0 {
            return Err(Malformed("a bundle of another length than it says"));
        }
        let items = walk(&bytes)?;
        Ok(Self { bytes, items })
    }

    /// How many items there are; never none.
    #[must_use]
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// An item, by its place; none behind the last.
    #[must_use]
    pub fn item(&self, index: usize) -> Option<(ItemKey, &[u8])> {
        let (key, start, end) = self.items.get(index)?;
        Some((*key, &self.bytes[*start as usize..*end as usize]))
    }

    /// The place of the first item at or above `key`.
    #[must_use]
    pub fn lower_bound(&self, key: &ItemKey) -> usize {
        self.items.partition_point(|(at, ..)| at < key)
    }
}

fn walk(bytes: &[u8]) -> Result<Vec<(ItemKey, u32, u32)>, Malformed> {
    let place = |rest: usize| u32::try_from(bytes.len() - rest).unwrap_or(u32::MAX);
    let mut items: Vec<(ItemKey, u32, u32)> = Vec::new();
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_empty() {
        let key = ItemKey::take(items.last().map(|(before, ..)| before), &mut cursor)?;
        if items.last().is_some_and(|(before, ..)| *before >= key) {
            return Err(Malformed("items that do not ascend"));
        }
        let value = cursor.bytes(ITEM_BYTES_MAX)?.len();
        let end = place(cursor.rest().len());
        items.push((key, end - u32::try_from(value).unwrap_or(0), end));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::item::tests::key;
    use crate::ids::Address;
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    fn no_frame(_: &[u8], _: &mut [u8]) -> Result<(), Malformed> {
        Err(Malformed("not compressed"))
    }

    fn raw_entry(builder: &BundleBuilder) -> Vec<u8> {
        let items = builder.items();
        [&bundle_head(items.len(), false), items].concat()
    }

    proptest! {
        #[test]
        fn states_and_commits_read_back(
            (tag, until, life, bytes) in (0u8..7, any::<u64>(), any::<u64>(), 0u32..99),
            fence in vec(any::<u8>(), 0..9), end in option::of(vec(any::<u8>(), 0..9)),
            frame in vec(any::<u8>(), 0..40), time in any::<u64>(),
        ) {
            let (until, end) = (Lsn(until), end.as_deref());
            let bytes = bytes + 40;
            let alarm = Alarm { time: Timestamp(time), ..Alarm::default() };
            let state = match tag {
                0 => State::Page { until, end, bytes, frame: &frame },
                1 => State::Delta { until, end, bytes, frame: &frame },
                2 => State::Absent { until },
                3 => State::Lost { until, life: Life(life), fence: &fence, end },
                4..6 => {
                    State::Head { until, time: Timestamp(life), alarm: None, adopted: tag == 5 }
                }
                _ => {
                    let (alarm, adopted) = (Some(alarm), life % 2 == 0);
                    State::Head { until, time: Timestamp(life), alarm, adopted }
                }
            };
            let mut out = Vec::new();
            state.encode(&mut out);
            prop_assert_eq!(State::decode(&out), Ok(state));
            let commit = CommitStart { time: Timestamp(time), bytes, payload: &frame };
            out.clear();
            commit.encode(&mut out);
            prop_assert_eq!(CommitStart::decode(&out), Ok(commit));
        }

        #[test]
        fn a_bundle_has_its_items_and_any_damage_to_them_is_refused_or_ascends(
            items in btree_map(key(), vec(any::<u8>(), 0..300), 1..40),
            at in any::<prop::sample::Index>(), bit in 0u32..8,
        ) {
            let mut builder = BundleBuilder::default();
            for (key, value) in &items {
                prop_assert!(builder.push(key, &[value]));
            }
            let first = items.first_key_value().map(|(key, value)| {
                let is_start = key.group == Group::Commits && key.chunk == 0;
                let time = if is_start { time_in(value).unwrap_or_default() } else { Timestamp(0) };
                BundleKey { first: *key, time }
            });
            prop_assert_eq!(builder.first(), first);
            let mut entry = raw_entry(&builder);
            let bundle = Bundle::decode(&entry, no_frame).unwrap();
            prop_assert_eq!(bundle.count(), items.len());
            for (index, (key, value)) in items.iter().enumerate() {
                prop_assert_eq!(bundle.item(index), Some((*key, value.as_slice())));
                prop_assert_eq!(bundle.lower_bound(key), index);
            }
            prop_assert!(Bundle::decode(&entry[..at.index(entry.len())], no_frame).is_err());
            let place = at.index(entry.len());
            entry[place] ^= 1 << bit;
            if let Ok(bundle) = Bundle::decode(&entry, no_frame) {
                let mut again = BundleBuilder::default();
                for index in 0..bundle.count() {
                    let (key, value) = bundle.item(index).unwrap();
                    prop_assert!(again.push(&key, &[value]));
                }
                prop_assert_eq!(again.items(), &bundle.bytes[..]);
            }
        }
    }

    #[test]
    fn a_full_bundle_takes_nothing_more_and_fits_an_entry() {
        let mut builder = BundleBuilder::default();
        let key =
            |chunk| ItemKey { chunk, ..ItemKey::first(Address::default(), Group::States, Lsn(1)) };
        let chunk = vec![7; CHUNK_BYTES + FULL_KEY_BYTES_MAX + 32];
        assert!(builder.push(&key(0), &[&chunk]));
        assert!(!builder.push(&key(1), &[&chunk]));
        let entry = raw_entry(&builder);
        assert!(entry.len() + BUNDLE_KEY_BYTES <= ENTRY_BYTES_MAX);
        builder.clear();
        assert!(builder.push(&key(1), &[&chunk]));
    }

    #[test]
    fn each_bundle_that_goes_on_with_a_commit_says_its_time() {
        let mut builder = BundleBuilder::default();
        let commit = ItemKey::first(Address::default(), Group::Commits, Lsn(4));
        let mut head = Vec::new();
        CommitStart { time: Timestamp(77), bytes: 30_000, payload: b"" }.encode_head(&mut head);
        let part = vec![7; CHUNK_BYTES];
        assert!(builder.push(&commit, &[&head, &part]));
        for chunk in 1..4 {
            let key = ItemKey { chunk, ..commit };
            assert!(!builder.push(&key, &[&part]));
            builder.clear();
            assert!(builder.push(&key, &[&part]));
            assert_eq!(builder.first(), Some(BundleKey { first: key, time: Timestamp(77) }));
        }
        let state = ItemKey::first(Address::default(), Group::States, Lsn(4));
        let mut builder = BundleBuilder::default();
        assert!(builder.push(&state, &[&head]));
        assert_eq!(builder.first(), Some(BundleKey { first: state, time: Timestamp(0) }));
    }

    #[test]
    fn an_item_longer_than_a_bundle_of_this_build_is_one_by_itself() {
        let key =
            |chunk| ItemKey { chunk, ..ItemKey::first(Address::default(), Group::States, Lsn(1)) };
        let mut builder = BundleBuilder::default();
        let long = vec![7; 24 << 10];
        assert!(builder.push(&key(0), &[&long]) && !builder.push(&key(1), &[b"next"]));
        let entry = raw_entry(&builder);
        let bundle = Bundle::decode(&entry, no_frame).unwrap();
        assert_eq!(bundle.item(0), Some((key(0), long.as_slice())));
    }

    #[test]
    fn no_state_or_commit_says_that_it_is_longer_than_any_can_be() {
        for (bytes, is_right) in [(PAGE_BYTES_MAX, true), (PAGE_BYTES_MAX + 1, false)] {
            let bytes = u32::try_from(bytes).unwrap();
            let state = State::Page { until: Lsn(1), end: None, bytes, frame: b"" };
            let mut out = Vec::new();
            state.encode(&mut out);
            assert_eq!(State::decode(&out).is_ok(), is_right);
        }
        for (bytes, is_right) in
            [(LOGGED_COMMIT_BYTES_MAX, true), (LOGGED_COMMIT_BYTES_MAX + 1, false)]
        {
            let bytes = u32::try_from(bytes).unwrap();
            let mut out = Vec::new();
            CommitStart { time: Timestamp(1), bytes, payload: b"" }.encode(&mut out);
            assert_eq!(CommitStart::decode(&out).is_ok(), is_right);
        }
    }
}

//! Entries of directory runs: where an object's pages are, and what is known without reading them.
//!
//! Keys are an address, then what the entry is about: the object's head, or one of its pages by
//! life and fence. An object of one page has no page entries; its head holds the page.
//!
//! Invariants:
//!   * Keys order by address; an object's head comes before its pages; pages of a life order by
//!     fence, so that the page that may hold a key is the greatest fence not above it.
//!   * A decoded entry encodes back to the same bytes.

use super::alarm::{decode_alarm, encode_alarm};
use super::{Cursor, Malformed, put_varint};
use crate::alarm::Alarm;
use crate::ids::{Address, FileNumber, Life, Lsn, Timestamp};

/// Bytes of a head's key.
pub const HEAD_KEY_BYTES: usize = Address::BYTES + 1;

/// The value of a page entry that says: the page that an older run names is gone.
pub const PAGE_TOMBSTONE: &[u8] = &[TAG_TOMBSTONE];

const TAG_TOMBSTONE: u8 = 0;
const TAG_ENTRY: u8 = 1;

const ABOUT_HEAD: u8 = 0;
const ABOUT_PAGE: u8 = 1;

/// Where a page is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageLocation {
    /// The segment.
    pub file: FileNumber,
    /// The page's first byte in it.
    pub offset: u64,
    /// Bytes as stored, header and checksum included.
    pub bytes: u32,
    /// The page's checksum; repeats the one in the page.
    pub crc: u32,
}

/// A page as written: a whole one, or a delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PagePart {
    /// Where it is.
    pub location: PageLocation,
    /// The commit whose effects it holds; of the object, none after it is in this part.
    pub exact_at: Lsn,
    /// For a delta, what its base holds; zero for a base.
    pub until: Lsn,
    /// Entries in it.
    pub count: u32,
    /// Bytes of keys and values of the user.
    pub content_bytes: u64,
    /// The dictionary that it was compressed with; zero for none.
    pub dictionary: u32,
}

/// A page: a base and what was written since without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageEntry {
    /// The whole page. None when it was lost to damage.
    pub base: Option<PagePart>,
    /// What came after, the oldest first. At most 255.
    pub deltas: Vec<PagePart>,
    /// Bytes that the log holds of this page since it was last archived.
    pub logged_since_archived: u64,
    /// Something of this page is damaged: it may be read only with care, and not be folded.
    pub damaged: bool,
}

/// What is known about an object without reading its pages.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the entry, set by itself")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The object holds nothing.
    pub deleted: bool,
    /// The object has a name.
    pub named: bool,
    /// An import of the object has begun and not ended.
    pub unfinished: bool,
    /// The object is to be restored when it is opened next: an entry of it says to what.
    pub restores: bool,
    /// `count` and `content_bytes` may be off, because a delta was written without its base.
    pub approximate: bool,
    /// Whether the object has a plain alarm is not known: the head before this one was lost.
    pub alarm_lost: bool,
    /// Nor are `unfinished` and `restores` where they are not set.
    pub marks_lost: bool,
    /// The object's life; pages of another are dead.
    pub life: Life,
    /// The object's last commit.
    pub last_lsn: Lsn,
    /// Its time.
    pub last_time: Timestamp,
    /// Entries in the object.
    pub count: u64,
    /// Bytes of keys and values of the user.
    pub content_bytes: u64,
    /// The commit from which on pages count that are exact at the life itself: it adopted them.
    pub adopted: Option<Lsn>,
    /// The plain alarm.
    pub alarm: Option<Alarm>,
    /// The page of an object that has just one.
    pub page: Option<PageEntry>,
}

/// The key of an object's head.
#[must_use]
pub fn head_key(address: Address) -> [u8; HEAD_KEY_BYTES] {
    let mut key = [ABOUT_HEAD; HEAD_KEY_BYTES];
    key[..Address::BYTES].copy_from_slice(&address.to_bytes());
    key
}

/// Above the keys of all entries about an object, and below those about the next.
#[must_use]
pub fn behind_keys(address: Address) -> [u8; HEAD_KEY_BYTES] {
    let mut key = head_key(address);
    key[Address::BYTES] = ABOUT_PAGE + 1;
    key
}

/// The key of a page's entry. The fence is the least key that the page may hold; empty for the
/// first page.
#[must_use]
pub fn page_key(address: Address, life: Life, fence: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(HEAD_KEY_BYTES + 8 + fence.len());
    key.extend_from_slice(&address.to_bytes());
    key.push(ABOUT_PAGE);
    key.extend_from_slice(&life.0.to_be_bytes());
    key.extend_from_slice(fence);
    key
}

/// A key of a directory run, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryKey<'a> {
    /// The head of an object.
    Head(Address),
    /// The page of an object that begins at this fence, in this life.
    Page(Address, Life, &'a [u8]),
}

impl<'a> DirectoryKey<'a> {
    /// Takes a key apart.
    pub fn parse(key: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(key);
        let address = cursor.take(Address::BYTES)?;
        let address = Address::from_bytes(address).ok_or(Malformed("cut short"))?;
        match cursor.u8()? {
            ABOUT_HEAD => {
                cursor.finish()?;
                Ok(Self::Head(address))
            }
            ABOUT_PAGE => {
                let life = Life(u64::from_be_bytes(cursor.array()?));
                Ok(Self::Page(address, life, cursor.rest()))
            }
            _ => Err(Malformed("an entry about neither an object nor a page")),
        }
    }

    /// The object that the entry is about.
    #[must_use]
    pub fn address(&self) -> Address {
        match self {
            Self::Head(address) | Self::Page(address, ..) => *address,
        }
    }
}

impl PagePart {
    /// LSNs are written as distances from one that is known to the reader and usually close.
    fn encode(&self, near: Lsn, out: &mut Vec<u8>) {
        put_varint(out, self.location.file.0);
        put_varint(out, self.location.offset);
        put_varint(out, u64::from(self.location.bytes));
        out.extend_from_slice(&self.location.crc.to_le_bytes());
        put_varint(out, near.0.wrapping_sub(self.exact_at.0));
        put_varint(out, self.until.0);
        put_varint(out, u64::from(self.count));
        put_varint(out, self.content_bytes);
        put_varint(out, u64::from(self.dictionary));
    }

    fn decode(near: Lsn, cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let location = PageLocation {
            file: FileNumber(cursor.varint()?),
            offset: cursor.varint()?,
            bytes: cursor.varint_u32()?,
            crc: cursor.u32()?,
        };
        Ok(Self {
            location,
            exact_at: Lsn(near.0.wrapping_sub(cursor.varint()?)),
            until: Lsn(cursor.varint()?),
            count: cursor.varint_u32()?,
            content_bytes: cursor.varint()?,
            dictionary: cursor.varint_u32()?,
        })
    }
}

const PAGE_HAS_BASE: u8 = 1;
const PAGE_DAMAGED: u8 = 1 << 1;
const PAGE_FLAGS: u8 = PAGE_HAS_BASE | PAGE_DAMAGED;

impl PageEntry {
    /// Appends the value of a page's entry, as it stands in a run.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAG_ENTRY);
        self.encode_fields(Lsn::ZERO, out);
    }

    /// Reads the value of a page's entry; a tombstone is refused.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        Self::decode_value(value)?.ok_or(Malformed("a tombstone where a page should be"))
    }

    /// Reads the value of a page's entry; none for a tombstone.
    pub fn decode_value(value: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut cursor = Cursor::new(value);
        let entry = match cursor.u8()? {
            TAG_TOMBSTONE => None,
            TAG_ENTRY => Some(Self::decode_fields(Lsn::ZERO, &mut cursor)?),
            _ => return Err(Malformed("a page entry of an unknown kind")),
        };
        cursor.finish()?;
        Ok(entry)
    }

    /// Every part, the base first.
    pub fn parts(&self) -> impl Iterator<Item = &PagePart> {
        self.base.iter().chain(&self.deltas)
    }

    fn encode_fields(&self, near: Lsn, out: &mut Vec<u8>) {
        let flag = |set, flag| if set { flag } else { 0 };
        out.push(flag(self.base.is_some(), PAGE_HAS_BASE) | flag(self.damaged, PAGE_DAMAGED));
        let deltas = u8::try_from(self.deltas.len());
        assert!(deltas.is_ok(), "a page never has more than 255 deltas");
        out.push(deltas.unwrap_or(u8::MAX));
        put_varint(out, self.logged_since_archived);
        for part in self.parts() {
            part.encode(near, out);
        }
    }

    fn decode_fields(near: Lsn, cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let flags = cursor.u8()?;
        if flags & !PAGE_FLAGS != 0 {
            return Err(Malformed("a page entry with unknown flags"));
        }
        let count = cursor.u8()?;
        let logged_since_archived = cursor.varint()?;
        let has_base = flags & PAGE_HAS_BASE != 0;
        let base = if has_base { Some(PagePart::decode(near, cursor)?) } else { None };
        let deltas = (0..count).map(|_| PagePart::decode(near, cursor));
        let deltas = deltas.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { base, deltas, logged_since_archived, damaged: flags & PAGE_DAMAGED != 0 })
    }
}

const HEAD_DELETED: u64 = 1;
const HEAD_NAMED: u64 = 1 << 1;
const HEAD_APPROXIMATE: u64 = 1 << 2;
const HEAD_ALARM: u64 = 1 << 3;
const HEAD_PAGE: u64 = 1 << 4;
const HEAD_UNFINISHED: u64 = 1 << 5;
const HEAD_RESTORES: u64 = 1 << 6;
const HEAD_ADOPTED: u64 = 1 << 7;
const HEAD_ALARM_LOST: u64 = 1 << 8;
const HEAD_MARKS_LOST: u64 = 1 << 9;
/// The first bit that means nothing.
const HEAD_FLAGS_END: u64 = 1 << 10;

/// From which LSN on a page counts that is exact at `exact_at`, as its header says: pages of a life
/// that adopted them at `adopted` were written before that commit.
#[must_use]
pub fn counts_from(exact_at: Lsn, life: Life, adopted: Option<Lsn>) -> Lsn {
    adopted.filter(|_| exact_at.0 == life.0).unwrap_or(exact_at)
}

impl Head {
    /// Whether the object has a plain alarm, or may have one.
    #[must_use]
    pub fn may_have_alarm(&self) -> bool {
        self.alarm.is_some() || self.alarm_lost
    }

    /// Appends the value of a head, as it stands in a run.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags = [
            (self.deleted, HEAD_DELETED),
            (self.named, HEAD_NAMED),
            (self.restores, HEAD_RESTORES),
            (self.approximate, HEAD_APPROXIMATE),
            (self.alarm.is_some(), HEAD_ALARM),
            (self.page.is_some(), HEAD_PAGE),
            (self.unfinished, HEAD_UNFINISHED),
            (self.adopted.is_some(), HEAD_ADOPTED),
            (self.alarm_lost, HEAD_ALARM_LOST),
            (self.marks_lost, HEAD_MARKS_LOST),
        ];
        put_varint(out, flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
        put_varint(out, self.life.0);
        put_varint(out, self.last_lsn.0.wrapping_sub(self.life.0));
        put_varint(out, self.last_time.0);
        put_varint(out, self.count);
        put_varint(out, self.content_bytes);
        if let Some(adopted) = self.adopted {
            put_varint(out, adopted.0.wrapping_sub(self.life.0));
        }
        if let Some(alarm) = &self.alarm {
            encode_alarm(alarm, self.last_lsn, out);
        }
        if let Some(page) = &self.page {
            page.encode_fields(self.last_lsn, out);
        }
    }

    /// The life that a head is of, and whether it says that the object holds nothing; the rest of
    /// its value is not looked at.
    pub fn peek(value: &[u8]) -> Result<(Life, bool), Malformed> {
        let mut cursor = Cursor::new(value);
        let flags = cursor.varint()?;
        Ok((Life(cursor.varint()?), flags & HEAD_DELETED != 0))
    }

    /// Reads the value of a head.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let flags = cursor.varint()?;
        if flags >= HEAD_FLAGS_END {
            return Err(Malformed("a head with unknown flags"));
        }
        let life = Life(cursor.varint()?);
        let last_lsn = Lsn(cursor.varint()?.wrapping_add(life.0));
        let mut head = Self {
            deleted: flags & HEAD_DELETED != 0,
            named: flags & HEAD_NAMED != 0,
            unfinished: flags & HEAD_UNFINISHED != 0,
            restores: flags & HEAD_RESTORES != 0,
            approximate: flags & HEAD_APPROXIMATE != 0,
            alarm_lost: flags & HEAD_ALARM_LOST != 0,
            marks_lost: flags & HEAD_MARKS_LOST != 0,
            life,
            last_lsn,
            last_time: Timestamp(cursor.varint()?),
            count: cursor.varint()?,
            content_bytes: cursor.varint()?,
            adopted: None,
            alarm: None,
            page: None,
        };
        if flags & HEAD_ADOPTED != 0 {
            head.adopted = Some(Lsn(cursor.varint()?.wrapping_add(life.0)));
        }
        if flags & HEAD_ALARM != 0 {
            head.alarm = Some(decode_alarm(last_lsn, &mut cursor)?);
        }
        if flags & HEAD_PAGE != 0 {
            head.page = Some(PageEntry::decode_fields(last_lsn, &mut cursor)?);
        }
        cursor.finish()?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NamespaceNumber, ShortId};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn part() -> impl Strategy<Value = PagePart> {
        (any::<(u64, u64, u32, u32)>(), any::<(u64, u64, u32, u64, u32)>()).prop_map(|(at, of)| {
            PagePart {
                location: PageLocation {
                    file: FileNumber(at.0),
                    offset: at.1,
                    bytes: at.2,
                    crc: at.3,
                },
                exact_at: Lsn(of.0),
                until: Lsn(of.1),
                count: of.2,
                content_bytes: of.3,
                dictionary: of.4,
            }
        })
    }

    fn page() -> impl Strategy<Value = PageEntry> {
        let parts = (proptest::option::of(part()), vec(part(), 0..4));
        (parts, any::<(u64, bool)>()).prop_map(|((base, deltas), of)| PageEntry {
            base,
            deltas,
            logged_since_archived: of.0,
            damaged: of.1,
        })
    }

    fn head() -> impl Strategy<Value = Head> {
        let alarm = proptest::option::of(any::<(u64, u64, u64, u32, u32, u32)>());
        let numbers = any::<(u64, u64, u64, u64, u64)>();
        let flags = any::<(bool, bool, bool, bool, bool, bool, bool)>();
        (flags, numbers, alarm, proptest::option::of(page())).prop_map(|(is, of, alarm, page)| {
            Head {
                deleted: is.0,
                named: is.1,
                unfinished: is.3,
                restores: is.4,
                approximate: is.2,
                alarm_lost: is.5,
                marks_lost: is.6,
                life: Life(of.0),
                last_lsn: Lsn(of.1),
                last_time: Timestamp(of.2),
                count: of.3,
                content_bytes: of.4,
                adopted: (of.3 % 2 == 0).then_some(Lsn(of.4)),
                alarm: alarm.map(|of| Alarm {
                    time: Timestamp(of.0),
                    due: Timestamp(of.1),
                    generation: Lsn(of.2),
                    counted: of.3,
                    uncounted: of.4,
                    backoff: of.5,
                }),
                page,
            }
        })
    }

    proptest! {
        #[test]
        fn entries_survive_encoding_and_no_prefix_of_one_passes(head in head(), page in page()) {
            let mut bytes = Vec::new();
            head.encode(&mut bytes);
            prop_assert_eq!(Head::peek(&bytes), Ok((head.life, head.deleted)));
            prop_assert_eq!(Head::decode(&bytes), Ok(head));
            prop_assert!(Head::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.clear();
            page.encode(&mut bytes);
            prop_assert_eq!(PageEntry::decode(&bytes), Ok(page));
            prop_assert!(PageEntry::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_decode_to_what_encodes_back_or_fail(bytes in vec(any::<u8>(), 0..80)) {
            let mut again = Vec::new();
            if let Ok(head) = Head::decode(&bytes) {
                head.encode(&mut again);
                prop_assert_eq!(&again, &bytes);
            }
            again.clear();
            if let Ok(Some(page)) = PageEntry::decode_value(&bytes) {
                page.encode(&mut again);
                prop_assert_eq!(&again, &bytes);
            }
        }
    }

    #[test]
    fn an_object_of_one_page_has_an_entry_of_at_most_fifty_bytes() {
        let location =
            PageLocation { file: FileNumber(70_000), offset: 200 << 20, bytes: 900, crc: u32::MAX };
        let lsn = Lsn(0x0C00_0000 + 9_000_000);
        let base = PagePart {
            location,
            exact_at: lsn,
            count: 8,
            content_bytes: 800,
            ..Default::default()
        };
        let page =
            PageEntry { base: Some(base), logged_since_archived: 3_000, ..Default::default() };
        let head = Head {
            life: Life(0x0100_0000),
            last_lsn: lsn,
            last_time: Timestamp(1_800_000_000_000_000),
            count: 8,
            content_bytes: 800,
            page: Some(page),
            ..Default::default()
        };
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        assert!(bytes.len() <= 50, "{} bytes", bytes.len());
    }

    #[test]
    fn keys_parse_back_and_order_head_first_then_pages_by_fence() {
        let address = Address { namespace: NamespaceNumber(3), id: ShortId([9; 16]) };
        let keys = [
            head_key(address).to_vec(),
            page_key(address, Life(1), b""),
            page_key(address, Life(1), b"\x01k"),
            page_key(address, Life(256), b""),
        ];
        assert!(keys.is_sorted());
        assert_eq!(DirectoryKey::parse(&keys[0]), Ok(DirectoryKey::Head(address)));
        let page = DirectoryKey::Page(address, Life(1), b"\x01k");
        assert_eq!(DirectoryKey::parse(&keys[2]), Ok(page));
        assert!(DirectoryKey::parse(&keys[1][..28]).is_err());
        assert!(DirectoryKey::parse(&[&keys[0][..], b"x"].concat()).is_err());
        assert_eq!(PageEntry::decode_value(PAGE_TOMBSTONE), Ok(None));
    }
}

//! Pages as they stand in a file: header, fence, body, padding, checksum.
//!
//! Invariants:
//!   * A decoded header is consistent in itself and within the limits, so lengths computed from it
//!     neither overflow nor exceed [`PAGE_BYTES_MAX`].

use super::{FULL_KEY_BYTES_MAX, PageKind, PageMeta};
use crate::format::{Cursor, Malformed, checksum};
use crate::ids::{Address, Life, Lsn, NamespaceNumber, ShortId};
use crate::limits::{DICTIONARY_BYTES_MAX, PAGE_BYTES_MAX};
use std::ops::Range;

/// Bytes of the header of a stored page, before its fence.
pub const PAGE_HEADER_BYTES: usize = 72;
/// Bytes of the checksum that ends a stored page.
pub const PAGE_CHECKSUM_BYTES: usize = 4;
/// Stored pages begin and end on multiples of this.
pub const PAGE_ALIGNMENT: usize = 8;

const MAGIC: [u8; 4] = *b"pag\x1A";
const FLAG_RANGES: u8 = 1;

/// How the body of a stored page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BodyForm {
    /// As it is.
    Raw = 0,
    /// One frame of Zstandard, without its magic number.
    Zstd = 1,
}

/// Appends a stored dictionary to `out`; otherwise as `BuiltPage::store`.
pub fn store_dictionary(id: u32, bytes: &[u8], seed: u64, out: &mut Vec<u8>) -> u32 {
    assert!(id != 0 && bytes.len() <= DICTIONARY_BYTES_MAX, "not a dictionary");
    let header = PageHeader {
        kind: PageKind::Dictionary,
        form: BodyForm::Raw,
        has_ranges: false,
        address: Address::default(),
        dictionary: id,
        life: Life(0),
        exact_at: Lsn::ZERO,
        until: Lsn::ZERO,
        raw_bytes: length_u32(bytes.len()),
        stored_bytes: length_u32(bytes.len()),
        count: 0,
        fence_bytes: 0,
    };
    header.store(&[], bytes, seed, out)
}

pub(super) fn length_u32(length: usize) -> u32 {
    assert!(length <= PAGE_BYTES_MAX, "a page beyond its limit");
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The header of a stored page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// What the page is.
    pub kind: PageKind,
    /// How its body is written.
    pub form: BodyForm,
    /// Whether its body ends with deleted ranges.
    pub has_ranges: bool,
    /// The object.
    pub address: Address,
    /// The dictionary that the body is compressed with, or that the page is; zero for none.
    pub dictionary: u32,
    /// The object's life.
    pub life: Life,
    /// See [`PageMeta::exact_at`].
    pub exact_at: Lsn,
    /// See [`PageMeta::until`].
    pub until: Lsn,
    /// Bytes of the body as built.
    pub raw_bytes: u32,
    /// Bytes of the body as stored.
    pub stored_bytes: u32,
    /// Entries.
    pub count: u32,
    /// Bytes of the fence.
    pub fence_bytes: u32,
}

impl PageHeader {
    /// Reads the header that begins `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let mut cursor = Cursor::new(cursor.take(PAGE_HEADER_BYTES)?);
        if cursor.array()? != MAGIC {
            return Err(Malformed("not a page"));
        }
        let [kind, form, flags, reserved] = cursor.array()?;
        let kind = match kind {
            1 => PageKind::Page,
            2 => PageKind::Delta,
            3 => PageKind::Dictionary,
            _ => return Err(Malformed("page of an unknown kind")),
        };
        let form = match form {
            0 => BodyForm::Raw,
            1 => BodyForm::Zstd,
            _ => return Err(Malformed("page in an unknown form")),
        };
        if flags & !FLAG_RANGES != 0 || reserved != 0 {
            return Err(Malformed("page with unknown flags"));
        }
        let namespace = NamespaceNumber(cursor.u32()?);
        let id = ShortId(cursor.array()?);
        let header = Self {
            kind,
            form,
            has_ranges: flags & FLAG_RANGES != 0,
            address: Address { namespace, id },
            dictionary: cursor.u32()?,
            life: Life(cursor.u64()?),
            exact_at: Lsn(cursor.u64()?),
            until: Lsn(cursor.u64()?),
            raw_bytes: cursor.u32()?,
            stored_bytes: cursor.u32()?,
            count: cursor.u32()?,
            fence_bytes: cursor.u32()?,
        };
        header.check()?;
        Ok(header)
    }

    /// Bytes of the whole stored page.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        let used = PAGE_HEADER_BYTES + self.fence_bytes as usize + self.stored_bytes as usize;
        (used + PAGE_CHECKSUM_BYTES).next_multiple_of(PAGE_ALIGNMENT)
    }

    /// What the page is about, given its fence.
    #[must_use]
    pub fn meta(&self, fence: &[u8]) -> PageMeta {
        PageMeta {
            kind: self.kind,
            address: self.address,
            life: self.life,
            exact_at: self.exact_at,
            until: self.until,
            fence: fence.to_vec(),
        }
    }

    pub(super) fn check(&self) -> Result<(), Malformed> {
        if self.fence_bytes as usize > FULL_KEY_BYTES_MAX
            || self.raw_bytes as usize > PAGE_BYTES_MAX
            || self.stored_bytes as usize > PAGE_BYTES_MAX
            || self.page_bytes() > PAGE_BYTES_MAX
        {
            return Err(Malformed("page beyond its limits"));
        }
        let form_fits = match self.form {
            BodyForm::Raw => {
                let is_dictionary = self.kind == PageKind::Dictionary;
                self.stored_bytes == self.raw_bytes && (self.dictionary != 0) == is_dictionary
            }
            BodyForm::Zstd => self.stored_bytes < self.raw_bytes,
        };
        let kind_fits = match self.kind {
            PageKind::Page => !self.has_ranges,
            PageKind::Delta => true,
            PageKind::Dictionary => {
                self.form == BodyForm::Raw
                    && !self.has_ranges
                    && self.raw_bytes as usize <= DICTIONARY_BYTES_MAX
                    && (self.count, self.fence_bytes) == (0, 0)
            }
        };
        if form_fits && kind_fits {
            Ok(())
        } else {
            Err(Malformed("page header contradicts itself"))
        }
    }

    /// The fence of a whole stored page.
    pub fn fence<'a>(&self, stored: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let (fence, _) = self.parts(stored)?;
        Ok(&stored[fence])
    }

    /// The fence of a stored page, of which no more than the beginning need be there.
    pub fn fence_in<'a>(&self, start: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let fence = PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + self.fence_bytes as usize;
        start.get(fence).ok_or(Malformed("cut short"))
    }

    /// Where in a whole stored page its fence and its stored body are.
    pub(super) fn parts(&self, stored: &[u8]) -> Result<(Range<usize>, Range<usize>), Malformed> {
        if stored.len() != self.page_bytes() {
            return Err(Malformed("page of another length than its header says"));
        }
        let fence_end = PAGE_HEADER_BYTES + self.fence_bytes as usize;
        let body_end = fence_end + self.stored_bytes as usize;
        let padding = &stored[body_end..stored.len() - PAGE_CHECKSUM_BYTES];
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Malformed("page padded with something"));
        }
        Ok((PAGE_HEADER_BYTES..fence_end, fence_end..body_end))
    }

    pub(super) fn store(&self, fence: &[u8], stored: &[u8], seed: u64, out: &mut Vec<u8>) -> u32 {
        assert_eq!(self.check(), Ok(()), "a header that no reader would accept");
        let start = out.len();
        let page_bytes = self.page_bytes();
        out.reserve(page_bytes);
        out.extend_from_slice(&MAGIC);
        let flags = if self.has_ranges { FLAG_RANGES } else { 0 };
        out.extend_from_slice(&[self.kind as u8, self.form as u8, flags, 0]);
        out.extend_from_slice(&self.address.namespace.0.to_le_bytes());
        out.extend_from_slice(&self.address.id.0);
        out.extend_from_slice(&self.dictionary.to_le_bytes());
        for number in [self.life.0, self.exact_at.0, self.until.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.raw_bytes, self.stored_bytes, self.count, self.fence_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(out.len() - start, PAGE_HEADER_BYTES);
        out.extend_from_slice(fence);
        out.extend_from_slice(stored);
        out.resize(start + page_bytes - PAGE_CHECKSUM_BYTES, 0);
        let sum = checksum(seed, &out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
        sum
    }
}

/// Whether `stored`, a whole stored page, is what was written at the place with this seed; then
/// the checksum.
#[must_use]
pub fn verified(stored: &[u8], seed: u64) -> Option<u32> {
    let (covered, sum) = stored.split_last_chunk::<PAGE_CHECKSUM_BYTES>()?;
    let sum = u32::from_le_bytes(*sum);
    (checksum(seed, covered) == sum).then_some(sum)
}

/// The body of a stored dictionary, and its id.
pub fn decode_dictionary(stored: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let header = PageHeader::decode(stored)?;
    if header.kind != PageKind::Dictionary {
        return Err(Malformed("not a dictionary"));
    }
    let (_, body) = header.parts(stored)?;
    Ok((header.dictionary, &stored[body]))
}

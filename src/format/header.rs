//! What every file of a store begins with: whose it is, what it is, and which versions may read it.
//!
//! See "Headers" in `docs/format.md`.
//!
//! Invariants:
//!   * What decodes encodes back to the same bytes, but for the bits of features that may be
//!     ignored.

use super::{Cursor, FORMAT_VERSION, Malformed, checksum};
use crate::ids::{FileNumber, StoreId, Term};

/// Bytes of the common header.
pub const HEADER_BYTES: usize = 80;

/// Where the second copy of a header stands in files that keep one: one bad sector does not orphan
/// the file.
pub const SECOND_COPY_OFFSET: usize = 2048;

/// Bytes set aside for the headers of a file.
pub const HEADER_BLOCK_BYTES: u64 = 4096;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    /// A file of the log.
    Wal = 1,
    /// Pages.
    Segment = 2,
    /// A sorted run.
    Run = 3,
    /// The manifest.
    Manifest = 4,
}

/// The common header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the file is.
    pub kind: FileKind,
    /// The store that it belongs to.
    pub store: StoreId,
    /// Its number; equals the name's. Zero for the manifest.
    pub number: FileNumber,
    /// The term that wrote it.
    pub term: Term,
    /// Drawn at random for this file; seeds its checksums.
    pub salt: u64,
    /// A bit for each feature that a reader may ignore and a writer must know.
    pub writer_features: u32,
}

/// What the headers of all the files that an open store writes have in common.
#[derive(Clone, Copy, Debug)]
pub struct FileContext {
    /// The store.
    pub store: StoreId,
    /// The term that writes.
    pub term: Term,
}

impl FileContext {
    /// The header of a new file.
    #[must_use]
    pub fn header(&self, kind: FileKind, number: FileNumber, salt: u64) -> Header {
        let Self { store, term } = *self;
        Header { kind, store, number, term, salt, writer_features: 0 }
    }
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// The bytes are not a header of this format, or are damaged.
    Malformed(&'static str),
    /// A version or feature that this one does not know.
    Unsupported {
        /// The format version found.
        version: u32,
        /// Features found that a reader must know.
        features: u32,
    },
}

impl From<Malformed> for HeaderFault {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault.0)
    }
}

const MAGIC: [u8; 8] = *b"dostore\x1A";

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        // Feature masks: may be ignored; may be ignored by readers; must be known.
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.writer_features.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.term.0.to_le_bytes());
        out.extend_from_slice(&self.store.0);
        out.extend_from_slice(&self.number.0.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&[0; 12]);
        let sum = checksum(0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads a header of the wanted kind.
    pub fn decode(bytes: &[u8], wanted: FileKind) -> Result<Self, HeaderFault> {
        let mut cursor = Cursor::new(bytes);
        let covered = cursor.take(HEADER_BYTES - 4)?;
        if cursor.u32()? != checksum(0, covered) {
            return Err(HeaderFault::Malformed("header checksum differs"));
        }
        let mut cursor = Cursor::new(covered);
        if cursor.array()? != MAGIC {
            return Err(HeaderFault::Malformed("not a file of a store"));
        }
        let version = cursor.u32()?;
        let [kind, unused @ ..] = cursor.array::<4>()?;
        let _ignorable = cursor.u32()?;
        let writer_features = cursor.u32()?;
        let features = cursor.u32()?;
        if version != FORMAT_VERSION || features != 0 {
            return Err(HeaderFault::Unsupported { version, features });
        }
        if kind != wanted as u8 {
            return Err(HeaderFault::Malformed("a file of another kind"));
        }
        let term = Term(cursor.u32()?);
        let store = StoreId(cursor.array()?);
        let number = FileNumber(cursor.u64()?);
        let salt = cursor.u64()?;
        if unused != [0; 3] || cursor.array()? != [0; 12] {
            return Err(HeaderFault::Malformed("unused bytes of a header are not zero"));
        }
        Ok(Self { kind: wanted, store, number, term, salt, writer_features })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let context = FileContext { store: StoreId([7; 16]), term: Term(3) };
        context.header(FileKind::Segment, FileNumber(9), 0x1234_5678_9ABC_DEF0)
    }

    #[test]
    fn a_right_checksum_over_a_changed_byte_shows_in_the_value_or_is_refused() {
        let bytes = header().encode();
        for at in 0..HEADER_BYTES - 4 {
            let mut changed = bytes;
            changed[at] ^= 1;
            let sum = checksum(0, &changed[..HEADER_BYTES - 4]);
            changed[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
            match Header::decode(&changed, FileKind::Segment) {
                Ok(other) if (16..20).contains(&at) => assert_eq!(other, header()),
                Ok(other) => assert_eq!(other.encode(), changed, "byte {at}"),
                Err(fault) => {
                    let is_unsupported = matches!(fault, HeaderFault::Unsupported { .. });
                    let is_expected = (8..12).contains(&at) || (24..28).contains(&at);
                    assert_eq!(is_unsupported, is_expected, "byte {at}: {fault:?}");
                }
            }
        }
        let known = Header { writer_features: 0x8000_0001, ..header() };
        assert_eq!(Header::decode(&known.encode(), FileKind::Segment), Ok(known));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = header();
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes, FileKind::Segment), Ok(header));
        assert!(Header::decode(&bytes, FileKind::Run).is_err());
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged, FileKind::Segment).is_err(), "bit {bit}");
        }
    }
}

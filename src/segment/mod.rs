//! Segments: files of pages, written once from the first byte to the last and never changed.
//!
//! Read `writer` first, then `reader` (one open segment), `set` (all of a store, and where
//! a page is read) and `scan` (every page of one). Small pages are compressed with what
//! [`dictionary`] learns.
//!
//! See "Segments" in `docs/format.md`. A segment is a block of headers, pages, the dictionaries
//! that the pages use (twice, as the header), and a footer.
//!
//! Invariants:
//!   * Whoever reads a page has the checksum that the directory keeps of it, and gets those bytes
//!     or an error; a page of another object or another life is an error too.
//!   * A file is found right once per opening, before any page of it is read: store, number and
//!     length.
//!   * A compressed body becomes exactly as long as its header says, or is an error.

pub mod dictionary;
mod reader;
mod scan;
mod set;
mod walked;
mod writer;

pub use dictionary::Dictionary;
pub use reader::facts_of;
pub use scan::{Scan, ScannedPage};
pub use set::{OPEN_SEGMENTS_MAX, SegmentSet};
pub use writer::{Compression, SegmentWriter};

use crate::error::{Error, ErrorKind, Place};
use crate::format::header::{HEADER_BLOCK_BYTES, HeaderFault};
use crate::format::{Cursor, Malformed, checksum, place_seed};
use crate::ids::FileNumber;
use crate::names::FileName;

/// Where the first page begins.
const PAGES_AT: u64 = HEADER_BLOCK_BYTES;
/// Bytes of the footer.
const FOOTER_BYTES: u64 = 40;
const FOOTER_MAGIC: [u8; 8] = *b"segend\x1A\n";

/// The end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footer {
    /// Where the dictionaries begin, behind the last page.
    pages_end: u64,
    pages: u64,
    dictionaries: u32,
}

impl Footer {
    /// The footer's bytes, for where it stands in a file.
    fn encode(&self, salt: u64, number: FileNumber, offset: u64) -> Vec<u8> {
        let mut out = FOOTER_MAGIC.to_vec();
        out.extend_from_slice(&self.pages_end.to_le_bytes());
        out.extend_from_slice(&self.pages.to_le_bytes());
        out.extend_from_slice(&self.dictionaries.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        let sum = checksum(place_seed(salt, number.0, offset), &out);
        out.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(out.len() as u64, FOOTER_BYTES);
        out
    }

    fn decode(bytes: &[u8], salt: u64, number: FileNumber, at: u64) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let covered = cursor.take(bytes.len().saturating_sub(4))?;
        if cursor.u32()? != checksum(place_seed(salt, number.0, at), covered) {
            return Err(Malformed("footer checksum differs"));
        }
        let mut cursor = Cursor::new(covered);
        if cursor.array()? != FOOTER_MAGIC {
            return Err(Malformed("not a footer"));
        }
        let footer =
            Self { pages_end: cursor.u64()?, pages: cursor.u64()?, dictionaries: cursor.u32()? };
        if cursor.array()? != [0; 8] || footer.pages_end < PAGES_AT || footer.pages_end > at {
            return Err(Malformed("footer contradicts its file"));
        }
        cursor.finish()?;
        Ok(footer)
    }
}

#[cold]
fn corrupt(code: &'static str, what: impl Into<String>, number: FileNumber, offset: u64) -> Error {
    Error::corrupt(code, what, Place::new(FileName::Segment(number), offset))
}

#[cold]
fn header_error(fault: HeaderFault, number: FileNumber) -> Error {
    match fault {
        HeaderFault::Malformed(what) => corrupt("segment.header", what, number, 0),
        HeaderFault::Unsupported { version, features } => {
            let what = format!("segment of format {version} with features {features:#x}");
            let place = Place::new(FileName::Segment(number), 0);
            Error::new(ErrorKind::Unsupported, "format.version", what).at(place)
        }
    }
}

#[cfg(test)]
mod tests;

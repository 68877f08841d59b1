//! Sorted runs: blocks of entries, what finds them, and the footer that ties them together.
//!
//! A run is a header block, [blocks](super::block) of entries, an index, a filter, a list of holes
//! and a footer.
//!
//! Invariants:
//!   * Keys of a run ascend strictly, over all its blocks.
//!   * Holes are disjoint and ascend.

use super::{Cursor, Malformed, checksum, put_bytes, put_varint};
use crate::ids::FileNumber;
use crate::limits::BLOCK_BYTES_MAX;

/// Bytes of a footer.
pub const FOOTER_BYTES: usize = 128;

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RunUse {
    /// Where the pages of objects are.
    Directory = 1,
    /// Names of objects.
    Names = 2,
    /// Alarms by time.
    Alarms = 3,
    /// What objects were.
    History = 4,
}

impl RunUse {
    /// The use with this byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Directory,
            2 => Self::Names,
            3 => Self::Alarms,
            4 => Self::History,
            _ => return None,
        })
    }
}

/// What the manifest keeps of a run: enough to refuse any other file in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// The file.
    pub number: FileNumber,
    /// What it is for.
    pub usage: RunUse,
    /// Bytes in the file.
    pub bytes: u64,
    /// Entries in it.
    pub entries: u64,
    /// The checksum of its footer, which covers those of everything else.
    pub checksum: u32,
}

/// A part of a run that is read whole and has a checksum of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its first byte in the file.
    pub offset: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Its checksum.
    pub crc: u32,
}

/// The last bytes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// What the run is for.
    pub usage: RunUse,
    /// Entries in it.
    pub entries: u64,
    /// Distinct addresses that the filter holds.
    pub addresses: u64,
    /// Finds the block of a key. Begins where the blocks end.
    pub index: Section,
    /// Says which addresses the run does not hold.
    pub filter: Section,
    /// Ranges of keys that were lost to damage.
    pub holes: Section,
}

impl Footer {
    /// The footer's bytes and their checksum.
    #[must_use]
    pub fn encode(&self, seed: u64) -> ([u8; FOOTER_BYTES], u32) {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&[self.usage as u8, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.addresses.to_le_bytes());
        for section in [&self.index, &self.filter, &self.holes] {
            out.extend_from_slice(&section.offset.to_le_bytes());
            out.extend_from_slice(&section.bytes.to_le_bytes());
            out.extend_from_slice(&section.crc.to_le_bytes());
        }
        out.resize(FOOTER_BYTES - 4, 0);
        let sum = checksum(seed, &out);
        let mut bytes = [0; FOOTER_BYTES];
        bytes[..FOOTER_BYTES - 4].copy_from_slice(&out);
        bytes[FOOTER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        (bytes, sum)
    }

    /// Reads a footer; its checksum comes with it.
    pub fn decode(bytes: &[u8], seed: u64) -> Result<(Self, u32), Malformed> {
        let mut cursor = Cursor::new(bytes);
        let covered = cursor.take(FOOTER_BYTES - 4)?;
        let sum = cursor.u32()?;
        cursor.finish()?;
        if sum != checksum(seed, covered) {
            return Err(Malformed("footer checksum differs"));
        }
        let mut cursor = Cursor::new(covered);
        let [usage, zeros @ ..] = cursor.array::<8>()?;
        let usage = RunUse::from_byte(usage).ok_or(Malformed("a run for an unknown use"))?;
        let (entries, addresses) = (cursor.u64()?, cursor.u64()?);
        let mut section = || -> Result<Section, Malformed> {
            Ok(Section { offset: cursor.u64()?, bytes: cursor.u64()?, crc: cursor.u32()? })
        };
        let (index, filter, holes) = (section()?, section()?, section()?);
        if zeros.iter().chain(cursor.rest()).any(|byte| *byte != 0) {
            return Err(Malformed("a footer with more than is known"));
        }
        Ok((Self { usage, entries, addresses, index, filter, holes }, sum))
    }
}

/// A range of keys that was lost to damage, both ends in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hole {
    /// The first key lost.
    pub first: Vec<u8>,
    /// The last key lost.
    pub last: Vec<u8>,
}

impl Hole {
    /// Whether `key` is in the range.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.first.as_slice() <= key && key <= self.last.as_slice()
    }
}

/// Appends a list of holes, which must be disjoint and ascend.
pub fn encode_holes(holes: &[Hole], out: &mut Vec<u8>) {
    put_varint(out, holes.len() as u64);
    for hole in holes {
        put_bytes(out, &hole.first);
        put_bytes(out, &hole.last);
    }
}

/// Reads a list of holes.
pub fn decode_holes(bytes: &[u8]) -> Result<Vec<Hole>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let mut holes: Vec<Hole> = Vec::new();
    for _ in 0..cursor.varint()? {
        let first = cursor.bytes(BLOCK_BYTES_MAX)?.to_vec();
        let last = cursor.bytes(BLOCK_BYTES_MAX)?.to_vec();
        if first > last || holes.last().is_some_and(|before| before.last >= first) {
            return Err(Malformed("holes out of order"));
        }
        holes.push(Hole { first, last });
    }
    cursor.finish()?;
    Ok(holes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footers_and_holes_survive_encoding_and_damage_is_noticed() {
        let section = Section { offset: 4096, bytes: 5, crc: 6 };
        let usage = RunUse::Names;
        let footer = Footer {
            usage,
            entries: 1,
            addresses: 2,
            index: section,
            filter: section,
            holes: section,
        };
        let (bytes, sum) = footer.encode(9);
        assert_eq!(Footer::decode(&bytes, 9), Ok((footer, sum)));
        assert!(Footer::decode(&bytes, 8).is_err());
        let hole = |first: u8, last: u8| Hole { first: vec![first], last: vec![last] };
        let mut out = Vec::new();
        encode_holes(&[hole(1, 3), hole(4, 4)], &mut out);
        assert_eq!(decode_holes(&out), Ok(vec![hole(1, 3), hole(4, 4)]));
        out.clear();
        encode_holes(&[hole(1, 3), hole(3, 4)], &mut out);
        assert!(decode_holes(&out).is_err());
    }
}

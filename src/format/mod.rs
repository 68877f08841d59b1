//! Bytes to values and back. No input and output happens here, and no input makes it panic.
//!
//! `docs/format.md` is normative; the constants here are its numbers. Read [`header`] first (what
//! every file begins with), then the log ([`record`], [`group`]), pages ([`page`]), runs ([`run`],
//! [`block`], [`entry`], [`alarm`], [`history`]) and the [`manifest`]. [`export`] is apart from
//! them: streams between stores.
//!
//! Invariants:
//!   * Numbers are little-endian, except inside keys, which order as bytes do.
//!   * A length is checked against the bytes that are there before anything is allocated for it.
//!   * A decoder returns [`Malformed`] or a value that encodes back to the same bytes.

pub mod adoption;
pub mod alarm;
pub mod block;
pub mod entry;
pub mod export;
pub mod group;
pub mod header;
pub mod history;
pub mod item;
pub mod manifest;
pub mod namespace;
pub mod object_name;
pub mod own_keys;
pub mod page;
pub mod record;
pub mod run;

use std::fmt;

/// The format that is written: version 1, which is frozen. What changes it has another number.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes that are not what any version of this format writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// CRC-32 of `bytes`, begun from a seed that says where they belong, so that the same bytes at
/// another place do not pass.
#[must_use]
pub fn checksum(seed: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// The seed for bytes at `offset` of the file with this salt and number.
#[must_use]
pub fn place_seed(salt: u64, number: u64, offset: u64) -> u64 {
    salt ^ number.rotate_left(40) ^ offset
}

/// Appends a number in 7-bit groups, the lowest first (LEB128).
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits are meant")]
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is below 0x80")]
    out.push(number as u8);
}

/// Appends a length as a varint, then the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// From here on a number is none that a store can come to by counting.
pub const COUNTED_END: u64 = 1 << 63;

/// Reads values off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

const LONGER_THAN_NEEDED: Malformed = Malformed("number in a longer form than needed");
const BEYOND_64_BITS: Malformed = Malformed("number beyond 64 bits");

impl<'a> Cursor<'a> {
    /// Begins at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed("cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes that say an LSN, a number of a file, a length or a place: what a store counts
    /// to, so that one more, and the sum of two, are numbers still.
    pub fn counted(&mut self) -> Result<u64, Malformed> {
        let number = self.u64()?;
        if number >= COUNTED_END {
            return Err(Malformed("a number that no store counts to"));
        }
        Ok(number)
    }

    /// A number that [`put_varint`] wrote; longer forms of the same number are refused.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        if let [byte, rest @ ..] = self.rest
            && *byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    /// A number of several bytes; of up to eight all at once, where there are eight.
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let Some((word, _)) = self.rest.split_first_chunk() else { return self.varint_by_bytes() };
        let word = u64::from_le_bytes(*word);
        // The first byte without the bit that says that more follow.
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.varint_by_bytes();
        }
        let bytes = ends.trailing_zeros() / 8 + 1;
        let own = word & (ends ^ (ends - 1));
        if own >> (8 * (bytes - 1)) == 0 {
            return Err(LONGER_THAN_NEEDED);
        }
        self.rest = &self.rest[bytes as usize..];
        // Seven bits of each byte, moved together in pairs.
        let sevens = (own & 0x007F_007F_007F_007F) | (own & 0x7F00_7F00_7F00_7F00) >> 1;
        let fourteens = (sevens & 0x0000_3FFF_0000_3FFF) | (sevens & 0x3FFF_0000_3FFF_0000) >> 2;
        Ok((fourteens & 0x0FFF_FFFF) | (fourteens & 0x0FFF_FFFF_0000_0000) >> 4)
    }

    fn varint_by_bytes(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(BEYOND_64_BITS);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(LONGER_THAN_NEEDED);
                }
                return Ok(number);
            }
        }
        Err(BEYOND_64_BITS)
    }

    /// A number that must fit 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("number beyond 32 bits"))
    }

    /// Bytes that [`put_bytes`] wrote, at most `most` of them.
    pub fn bytes(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        let length = self.varint()?;
        if length > most as u64 {
            return Err(Malformed("length beyond its limit"));
        }
        self.take(usize::try_from(length).map_err(|_| Malformed("length beyond its limit"))?)
    }

    /// Fails unless everything has been read.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes after the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_one_form_each() {
        // The least and the greatest number of each length.
        let edges = (0..10).flat_map(|sevens| [1u64 << (7 * sevens), (1 << (7 * sevens)) - 1]);
        for number in edges.chain([0x0123_4567_89AB_CDEF, u64::from(u32::MAX), u64::MAX]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert!(Cursor::new(&bytes[..bytes.len() - 1]).varint().is_err());
            // Whatever stands behind it.
            for rest in [&[][..], &[0xFF; 9], &[0; 9]] {
                let bytes = [&bytes, rest].concat();
                let mut cursor = Cursor::new(&bytes);
                assert_eq!(cursor.varint(), Ok(number));
                assert_eq!(cursor.rest(), rest);
            }
        }
        for longer in [&[0x80, 0x00][..], &[0xFF, 0x80, 0x00, 1, 1, 1, 1, 1, 1]] {
            assert!(Cursor::new(longer).varint().is_err());
        }
        assert!(Cursor::new(&[0xFF; 11]).varint().is_err());
        assert!(
            Cursor::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2])
                .varint()
                .is_err()
        );
    }

    #[test]
    fn bytes_are_bounded_before_they_are_taken() {
        let mut out = Vec::new();
        put_bytes(&mut out, b"abc");
        assert_eq!(Cursor::new(&out).bytes(3), Ok(&b"abc"[..]));
        assert!(Cursor::new(&out).bytes(2).is_err());
        assert!(Cursor::new(&out[..3]).bytes(3).is_err());
    }
}

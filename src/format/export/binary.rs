//! The compact form: blocks of items, each block compressed and checked.
//!
//! Invariants:
//!   * No item reaches over the end of its block.
//!   * A block's checksum says which block of the stream it is.

use super::{EXPORT_VERSION, Item, check, is_carried};
use crate::format::alarm::{LastFailure, decode_alarm, encode_alarm};
use crate::format::{Cursor, Malformed, checksum, put_bytes, put_varint};
use crate::ids::{Codec, KeyKind, Lsn};
use crate::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use std::borrow::Cow;

/// What the stream begins with, in front of the version.
pub const MAGIC: [u8; 12] = *b"dosto-exp\x1A\r\n";
/// Bytes before the first block.
pub const FRONT_BYTES: usize = 16;
/// Bytes in front of a block.
pub const BLOCK_HEADER_BYTES: usize = 16;
/// Bytes of a block's items: one of the largest size fits.
pub const BLOCK_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + 64;

const NAMESPACE: u8 = 1;
const OBJECT: u8 = 2;
const USER_VERSION: u8 = 3;
const ENTRY: u8 = 4;
const ALARM: u8 = 5;
const FAILURE: u8 = 6;
const END_OBJECT: u8 = 7;
const END: u8 = 8;

/// The stream's first bytes.
#[must_use]
pub fn front() -> [u8; FRONT_BYTES] {
    let mut front = [0; FRONT_BYTES];
    front[..12].copy_from_slice(&MAGIC);
    front[12..].copy_from_slice(&EXPORT_VERSION.to_le_bytes());
    front
}

/// Reads the stream's first bytes: the version.
pub fn decode_front(front: &[u8]) -> Result<u32, Malformed> {
    let mut cursor = Cursor::new(front);
    if cursor.array()? != MAGIC {
        return Err(Malformed("not an export"));
    }
    cursor.u32()
}

/// What stands in front of a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bytes of the items.
    pub raw_bytes: u32,
    /// Bytes that stand in the stream.
    pub stored_bytes: u32,
    /// Whether these are a frame of Zstandard, and not the items themselves.
    pub is_compressed: bool,
}

impl BlockHeader {
    /// The header in front of `stored`, which is block number `number` of the stream.
    #[must_use]
    pub fn encode(&self, number: u64, stored: &[u8]) -> [u8; BLOCK_HEADER_BYTES] {
        let mut out = [0; BLOCK_HEADER_BYTES];
        out[..4].copy_from_slice(&self.raw_bytes.to_le_bytes());
        out[4..8].copy_from_slice(&self.stored_bytes.to_le_bytes());
        out[8] = u8::from(self.is_compressed);
        let sum = block_checksum(number, &out[..12], stored);
        out[12..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a header. Nothing is allocated on its word before this has looked at it.
    pub fn decode(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let (raw_bytes, stored_bytes) = (cursor.u32()?, cursor.u32()?);
        let is_compressed = match cursor.array::<4>()? {
            [0, 0, 0, 0] => false,
            [1, 0, 0, 0] => true,
            _ => return Err(Malformed("a block of an unknown form")),
        };
        let is_right = raw_bytes as usize <= BLOCK_BYTES_MAX
            && raw_bytes > 0
            && if is_compressed { stored_bytes < raw_bytes } else { stored_bytes == raw_bytes };
        if !is_right {
            return Err(Malformed("a block of a size that there is not"));
        }
        Ok(Self { raw_bytes, stored_bytes, is_compressed })
    }

    /// Whether `stored` are the bytes that this header was written in front of, as block `number`.
    #[must_use]
    pub fn fits(header: &[u8; BLOCK_HEADER_BYTES], number: u64, stored: &[u8]) -> bool {
        let sum = block_checksum(number, &header[..12], stored);
        header[12..] == sum.to_le_bytes()
    }
}

fn block_checksum(number: u64, front: &[u8], stored: &[u8]) -> u32 {
    let seed = u64::from(checksum(number, front)) << 32 | number & 0xFFFF_FFFF;
    checksum(seed, stored)
}

/// Appends an item.
pub fn encode(item: &Item<'_>, out: &mut Vec<u8>) {
    match item {
        Item::Namespace(name) => {
            out.push(NAMESPACE);
            put_bytes(out, name.as_bytes());
        }
        Item::Object { id, name } => {
            out.push(OBJECT);
            out.extend_from_slice(id);
            put_name(out, name.as_deref());
        }
        Item::UserVersion(version) => {
            out.push(USER_VERSION);
            put_varint(out, *version);
        }
        Item::Entry { kind, key, codec, value } => {
            out.extend_from_slice(&[ENTRY, *kind as u8, *codec as u8]);
            put_bytes(out, key);
            put_bytes(out, value);
        }
        Item::Alarm { name, alarm } => {
            out.push(ALARM);
            put_name(out, name.as_deref());
            encode_alarm(alarm, Lsn::ZERO, out);
        }
        Item::Failure { name, failure } => {
            out.push(FAILURE);
            put_name(out, name.as_deref());
            let mut value = Vec::new();
            failure.encode(&mut value);
            put_bytes(out, &value);
        }
        Item::EndObject { items } => {
            out.push(END_OBJECT);
            put_varint(out, items.unwrap_or(0));
        }
        Item::End { objects } => {
            out.push(END);
            put_varint(out, objects.unwrap_or(0));
        }
    }
}

fn put_name(out: &mut Vec<u8>, name: Option<&str>) {
    match name {
        None => out.push(0),
        Some(name) => {
            out.push(1);
            put_bytes(out, name.as_bytes());
        }
    }
}

/// Walks the items of a block; ends after the first malformed one.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    cursor: Cursor<'a>,
    is_over: bool,
}

impl<'a> Items<'a> {
    /// Begins at the block's first item.
    pub fn new(raw: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(raw), is_over: false }
    }

    /// Bytes that are still to be read.
    pub fn rest(&self) -> usize {
        self.cursor.rest().len()
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over || self.cursor.is_empty() {
            return None;
        }
        let next = item(&mut self.cursor).and_then(|item| check(&item).map(|()| item));
        self.is_over = next.is_err();
        Some(next)
    }
}

fn item<'a>(cursor: &mut Cursor<'a>) -> Result<Item<'a>, Malformed> {
    Ok(match cursor.u8()? {
        NAMESPACE => Item::Namespace(text(cursor)?),
        OBJECT => Item::Object { id: cursor.array()?, name: name(cursor)? },
        USER_VERSION => Item::UserVersion(cursor.varint()?),
        ENTRY => {
            let kind = KeyKind::from_byte(cursor.u8()?).filter(|kind| is_carried(*kind));
            let kind = kind.ok_or(Malformed("an entry of a kind that exports do not have"))?;
            let codec = Codec::from_byte(cursor.u8()?).ok_or(Malformed("an unknown codec"))?;
            let key = Cow::Borrowed(cursor.bytes(KEY_BYTES_MAX)?);
            Item::Entry { kind, key, codec, value: Cow::Borrowed(cursor.bytes(VALUE_BYTES_MAX)?) }
        }
        ALARM => {
            let name = name(cursor)?;
            let alarm = decode_alarm(Lsn::ZERO, cursor)?;
            if alarm.generation != Lsn::ZERO {
                return Err(Malformed("an alarm with a generation"));
            }
            Item::Alarm { name, alarm }
        }
        FAILURE => {
            let name = name(cursor)?;
            let failure = LastFailure::decode(cursor.bytes(BLOCK_BYTES_MAX)?)?;
            Item::Failure { name, failure }
        }
        END_OBJECT => Item::EndObject { items: Some(cursor.varint()?) },
        END => Item::End { objects: Some(cursor.varint()?) },
        _ => return Err(Malformed("an unknown item")),
    })
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, Malformed> {
    let text = std::str::from_utf8(cursor.bytes(NAME_BYTES_MAX)?);
    text.map(Cow::Borrowed).map_err(|_| Malformed("a name is not UTF-8"))
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, Malformed> {
    match cursor.u8()? {
        0 => Ok(None),
        1 => text(cursor).map(Some),
        _ => Err(Malformed("neither a name nor none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_with_a_bit_flipped_or_at_another_place_does_not_fit() {
        let stored = b"stored bytes of a block";
        let length = u32::try_from(stored.len()).unwrap();
        let header = BlockHeader { raw_bytes: length, stored_bytes: length, is_compressed: false };
        let bytes = header.encode(7, stored);
        assert_eq!(BlockHeader::decode(&bytes), Ok(header));
        assert!(BlockHeader::fits(&bytes, 7, stored));
        assert!(!BlockHeader::fits(&bytes, 8, stored));
        for bit in 0..8 * BLOCK_HEADER_BYTES {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!BlockHeader::fits(&damaged, 7, stored), "bit {bit}");
        }
        for bit in 0..8 * stored.len() {
            let mut damaged = *stored;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!BlockHeader::fits(&bytes, 7, &damaged), "bit {bit}");
        }
    }

    #[test]
    fn sizes_that_no_block_has_are_refused_before_anything_is_read() {
        let most = u32::try_from(BLOCK_BYTES_MAX).unwrap();
        for (raw_bytes, stored_bytes, is_compressed, is_right) in [
            (most, most, false, true),
            (most + 1, most + 1, false, false),
            (most, most - 1, true, true),
            (most, most, true, false),
            (u32::MAX, 5, true, false),
            (10, 11, false, false),
            (10, 9, false, false),
            (0, 0, false, false),
        ] {
            let header = BlockHeader { raw_bytes, stored_bytes, is_compressed };
            let decoded = BlockHeader::decode(&header.encode(0, b""));
            let wanted = is_right.then_some(header);
            assert_eq!(decoded.ok(), wanted, "{raw_bytes} {stored_bytes} {is_compressed}");
        }
    }
}

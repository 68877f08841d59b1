//! Records, the log's unit of meaning: one commit of one object each, or a part of a long one.
//!
//! A record says by itself whose it is, so nothing else is needed to read it. A commit longer than
//! a record may be is a chain: part records, then a final one, whose bytes joined are the payload.
//!
//! Invariants:
//!   * All but [`RecordKind::Part`] carry an LSN, which is stamped last.
//!   * A chain is named by the group that holds its first part and a counter: no two share a name.
//!   * What decodes encodes back to the same bytes: unused fields must be zero.

use super::adoption::Adoption;
use super::alarm::{decode_alarm, encode_alarm};
use super::{Cursor, Malformed, put_bytes};
use crate::alarm::Alarm;
use crate::ids::{Address, Codec, KeyKind, Lsn, NamespaceNumber, ShortId, Timestamp};
use crate::limits::{KEY_BYTES_MAX, LOGGED_COMMIT_BYTES_MAX, VALUE_BYTES_MAX};

/// Bytes in front of a record's payload.
pub const RECORD_HEADER_BYTES: usize = 44;

/// Bytes of a key with its kind in front; the end of a range may be one byte behind such a key.
const FULL_KEY_BYTES_MAX: usize = KEY_BYTES_MAX + 2;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A commit: its payload is [`Operations`].
    Commit = 1,
    /// A part of a commit, with more to come: a [`PartPayload`].
    Part = 2,
    /// The last part of a commit: a [`FinalPayload`].
    Final = 3,
    /// Gives its LSN to a life that pages are about to be written for. Changes nothing and has no
    /// payload: it is no commit of its object.
    AdoptBegin = 4,
    /// A commit that ends the life of its object and makes the object's past unreachable: its
    /// payload is [`Operations`] like that of any other.
    Purge = 6,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Commit,
            2 => Self::Part,
            3 => Self::Final,
            4 => Self::AdoptBegin,
            6 => Self::Purge,
            _ => return None,
        })
    }
}

/// What stands in front of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the payload.
    pub length: u32,
    /// What the record is.
    pub kind: RecordKind,
    /// The commit's LSN; zero in parts.
    pub lsn: Lsn,
    /// The commit's time; zero in parts.
    pub time: Timestamp,
    /// The object.
    pub address: Address,
}

const KIND_OFFSET: usize = 4;
const LSN_OFFSET: usize = 8;
const TIME_OFFSET: usize = 16;

impl RecordHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        out[..4].copy_from_slice(&self.length.to_le_bytes());
        out[KIND_OFFSET] = self.kind as u8;
        out[LSN_OFFSET..TIME_OFFSET].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[TIME_OFFSET..24].copy_from_slice(&self.time.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.address.namespace.0.to_le_bytes());
        out[28..].copy_from_slice(&self.address.id.0);
        out
    }

    /// Reads the header at the front of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let length = cursor.u32()?;
        let kind = RecordKind::from_byte(cursor.u8()?).ok_or(Malformed("unknown record kind"))?;
        if cursor.array::<3>()? != [0; 3] {
            return Err(Malformed("unused bytes of a record are not zero"));
        }
        let lsn = Lsn(cursor.u64()?);
        let time = Timestamp(cursor.u64()?);
        let namespace = NamespaceNumber(cursor.u32()?);
        let id = ShortId(cursor.array()?);
        Ok(Self { length, kind, lsn, time, address: Address { namespace, id } })
    }
}

/// Writes the LSN and the time into an encoded record.
pub fn stamp(record: &mut [u8], lsn: Lsn, time: Timestamp) {
    debug_assert!(record.len() >= RECORD_HEADER_BYTES);
    if let Some(fields) = record.get_mut(LSN_OFFSET..TIME_OFFSET + 8) {
        fields[..8].copy_from_slice(&lsn.0.to_le_bytes());
        fields[8..].copy_from_slice(&time.0.to_le_bytes());
    }
}

/// Whether an encoded record is of kind [`RecordKind::Purge`].
pub fn is_purge(record: &[u8]) -> bool {
    record.get(KIND_OFFSET) == Some(&(RecordKind::Purge as u8))
}

/// A record where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Whose it is and when.
    pub header: RecordHeader,
    /// What it says.
    pub payload: &'a [u8],
}

/// Walks the records of a group's body; ends after the first malformed one.
pub fn records(body: &[u8]) -> impl Iterator<Item = Result<RecordView<'_>, Malformed>> {
    let mut cursor = Cursor::new(body);
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over || cursor.is_empty() {
            return None;
        }
        let next = record(&mut cursor);
        is_over = next.is_err();
        Some(next)
    })
}

fn record<'a>(cursor: &mut Cursor<'a>) -> Result<RecordView<'a>, Malformed> {
    let header = RecordHeader::decode(cursor.take(RECORD_HEADER_BYTES)?)?;
    let payload = cursor.take(header.length as usize)?;
    Ok(RecordView { header, payload })
}

/// One change that a commit makes. Keys are full keys: the kind's byte, then the user's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A key gets a value.
    Put {
        /// The full key.
        key: &'a [u8],
        /// How tools may read the value.
        codec: Codec,
        /// The value.
        value: &'a [u8],
    },
    /// A key loses its value.
    Delete {
        /// The full key.
        key: &'a [u8],
    },
    /// All keys from `start` up to, not including, `end` lose their values.
    DeleteRange {
        /// The first full key.
        start: &'a [u8],
        /// The full key behind the last.
        end: &'a [u8],
    },
    /// Everything goes; a new life begins.
    DeleteAll {
        /// Whether alarms stay.
        keep_alarms: bool,
    },
    /// Sets the plain alarm to this state. Named ones are entries of their own kind.
    SetAlarm(Alarm),
    /// Clears the plain alarm.
    ClearAlarm,
    /// Changes nothing: says that the commit makes the object what one was before.
    Restored(Restoration),
    /// Everything goes but the plain alarm, and pages that were written before take its place. The
    /// first operation of its commit.
    Adopt(Adoption<'a>),
}

/// What a commit that restores or forks says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restoration {
    /// Whose past it is: the object's own, or that of the one that was forked.
    pub from: Address,
    /// As of when.
    pub at: Lsn,
    /// Whether it was applied as the object was opened, and so ended the session before it.
    pub is_at_open: bool,
}

impl Restoration {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_at_open));
        out.extend_from_slice(&self.from.namespace.0.to_le_bytes());
        out.extend_from_slice(&self.from.id.0);
        out.extend_from_slice(&self.at.0.to_le_bytes());
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let is_at_open = boolean(cursor)?;
        let namespace = NamespaceNumber(cursor.u32()?);
        let from = Address { namespace, id: ShortId(cursor.array()?) };
        Ok(Self { from, at: Lsn(cursor.u64()?), is_at_open })
    }
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("neither true nor false")),
    }
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;
const DELETE_ALL: u8 = 4;
const SET_ALARM: u8 = 5;
const CLEAR_ALARM: u8 = 6;
const RESTORED: u8 = 7;
const ADOPT: u8 = 8;

impl<'a> Operation<'a> {
    /// Appends the operation's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Put { key, codec, value } => {
                out.push(PUT);
                put_bytes(out, key);
                out.push(codec as u8);
                put_bytes(out, value);
            }
            Self::Delete { key } => {
                out.push(DELETE);
                put_bytes(out, key);
            }
            Self::DeleteRange { start, end } => {
                out.push(DELETE_RANGE);
                put_bytes(out, start);
                put_bytes(out, end);
            }
            Self::DeleteAll { keep_alarms } => {
                out.extend_from_slice(&[DELETE_ALL, u8::from(keep_alarms)]);
            }
            Self::SetAlarm(alarm) => {
                out.push(SET_ALARM);
                encode_alarm(&alarm, Lsn::ZERO, out);
            }
            Self::ClearAlarm => out.push(CLEAR_ALARM),
            Self::Restored(restoration) => {
                out.push(RESTORED);
                restoration.encode(out);
            }
            Self::Adopt(adoption) => {
                out.push(ADOPT);
                adoption.encode(out);
            }
        }
    }

    fn decode(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        Ok(match cursor.u8()? {
            PUT => {
                let key = full_key(cursor)?;
                let codec = Codec::from_byte(cursor.u8()?).ok_or(Malformed("unknown codec"))?;
                Self::Put { key, codec, value: cursor.bytes(VALUE_BYTES_MAX)? }
            }
            DELETE => Self::Delete { key: full_key(cursor)? },
            DELETE_RANGE => Self::DeleteRange {
                start: cursor.bytes(FULL_KEY_BYTES_MAX)?,
                end: cursor.bytes(FULL_KEY_BYTES_MAX)?,
            },
            DELETE_ALL => Self::DeleteAll { keep_alarms: boolean(cursor)? },
            SET_ALARM => Self::SetAlarm(decode_alarm(Lsn::ZERO, cursor)?),
            CLEAR_ALARM => Self::ClearAlarm,
            RESTORED => Self::Restored(Restoration::decode(cursor)?),
            ADOPT => Self::Adopt(Adoption::decode(cursor)?),
            _ => return Err(Malformed("unknown operation")),
        })
    }
}

/// What a commit adopts, if it does: `payload` is that of the commit.
pub fn adoption(payload: &[u8]) -> Option<Adoption<'_>> {
    if payload.first() != Some(&ADOPT) {
        return None;
    }
    match Operations::new(payload).next() {
        Some(Ok(Operation::Adopt(adoption))) => Some(adoption),
        _ => None,
    }
}

/// The first operation of a commit that no version writes, if there is any: `payload` is that of
/// the commit. Whoever walks over operations afterwards loses none.
pub fn malformed_operation(payload: &[u8]) -> Option<Malformed> {
    Operations::new(payload).find_map(Result::err)
}

/// What a commit says beside adopting pages.
pub fn without_adoption(payload: &[u8]) -> &[u8] {
    let mut operations = Operations::new(payload);
    if adoption(payload).is_none() || operations.next().is_none() {
        return payload;
    }
    payload.get(operations.offset()..).unwrap_or_default()
}

fn full_key<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Malformed> {
    let key = cursor.bytes(FULL_KEY_BYTES_MAX)?;
    let kind = key.first().copied().and_then(KeyKind::from_byte);
    // A page refuses such a key, so that none may come that far.
    if kind.is_none() { Err(Malformed("a key of an unknown kind")) } else { Ok(key) }
}

/// Walks the operations of a commit's payload; ends after the first malformed one.
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    cursor: Cursor<'a>,
    bytes: usize,
    is_over: bool,
}

impl<'a> Operations<'a> {
    /// Begins at the first operation.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(payload), bytes: payload.len(), is_over: false }
    }

    /// Where in the payload the next operation begins.
    pub fn offset(&self) -> usize {
        self.bytes - self.cursor.rest().len()
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over || self.cursor.is_empty() {
            return None;
        }
        let next = Operation::decode(&mut self.cursor);
        self.is_over = next.is_err();
        Some(next)
    }
}

/// A part of a commit, with more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPayload<'a> {
    /// The number of the group that holds the chain's first part.
    pub first_group: u64,
    /// Tells apart the chains that begin in one group.
    pub chain: u32,
    /// How many parts came before this one.
    pub index: u32,
    /// The part's share of the commit's payload.
    pub bytes: &'a [u8],
}

impl<'a> PartPayload<'a> {
    /// Bytes in front of [`PartPayload::bytes`].
    pub const FIELD_BYTES: usize = 16;

    /// Appends the payload's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first_group.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }

    /// Reads a whole payload.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let first_group = cursor.u64()?;
        let chain = cursor.u32()?;
        let index = cursor.u32()?;
        Ok(Self { first_group, chain, index, bytes: cursor.rest() })
    }
}

/// The last part of a commit. Only with it did the commit happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalPayload<'a> {
    /// The number of the group that holds the chain's first part.
    pub first_group: u64,
    /// Tells apart the chains that begin in one group.
    pub chain: u32,
    /// How many part records came before this one.
    pub parts: u32,
    /// Bytes of the commit's payload, this share included.
    pub total_bytes: u64,
    /// The checksum, seeded with zero, of the commit's payload.
    pub total_crc: u32,
    /// The last share of the commit's payload.
    pub bytes: &'a [u8],
}

impl<'a> FinalPayload<'a> {
    /// Appends the payload's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first_group.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        out.extend_from_slice(&self.parts.to_le_bytes());
        out.extend_from_slice(&self.total_bytes.to_le_bytes());
        out.extend_from_slice(&self.total_crc.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }

    /// Reads a whole payload.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let first_group = cursor.u64()?;
        let chain = cursor.u32()?;
        let parts = cursor.u32()?;
        let total_bytes = cursor.u64()?;
        if total_bytes > LOGGED_COMMIT_BYTES_MAX as u64 {
            return Err(Malformed("a commit beyond its limit"));
        }
        let total_crc = cursor.u32()?;
        Ok(Self { first_group, chain, parts, total_bytes, total_crc, bytes: cursor.rest() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(kind: RecordKind, length: u32) -> RecordHeader {
        let address = Address { namespace: NamespaceNumber(7), id: ShortId([9; 16]) };
        RecordHeader { length, kind, lsn: Lsn(5), time: Timestamp(6), address }
    }

    #[test]
    fn a_stamped_record_reads_back_and_unused_bytes_must_be_zero() {
        let mut bytes = header(RecordKind::Commit, 3).encode().to_vec();
        bytes.extend_from_slice(b"abc");
        stamp(&mut bytes, Lsn(u64::MAX), Timestamp(1 << 50));
        let found: Vec<_> = records(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].header.lsn, found[0].header.time),
            (Lsn(u64::MAX), Timestamp(1 << 50))
        );
        assert_eq!(found[0].payload, b"abc");
        for (at, byte) in [(5, 1), (6, 1), (7, 1), (4, 0), (4, 5), (4, 7), (0, 4)] {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            assert!(records(&damaged).next().unwrap().is_err(), "byte {at} = {byte}");
        }
    }

    #[test]
    fn iteration_ends_after_the_first_malformed_record() {
        let mut bytes = header(RecordKind::Commit, 0).encode().to_vec();
        bytes.extend_from_slice(&[0xFF; 100]);
        let found: Vec<_> = records(&bytes).map(|record| record.is_ok()).collect();
        assert_eq!(found, [true, false]);
    }

    #[test]
    fn a_total_beyond_the_limit_is_refused_before_anything_is_joined() {
        let mut payload = FinalPayload {
            first_group: 1,
            chain: 2,
            parts: 3,
            total_bytes: LOGGED_COMMIT_BYTES_MAX as u64,
            total_crc: 4,
            bytes: b"end",
        };
        for (total_bytes, is_accepted) in
            [(LOGGED_COMMIT_BYTES_MAX, true), (LOGGED_COMMIT_BYTES_MAX + 1, false)]
        {
            payload.total_bytes = total_bytes as u64;
            let mut bytes = Vec::new();
            payload.encode(&mut bytes);
            assert_eq!(FinalPayload::decode(&bytes) == Ok(payload), is_accepted);
        }
    }

    #[test]
    fn a_key_of_a_kind_that_there_is_not_is_refused() {
        for (kind, is_right) in
            [(&[KeyKind::Sql as u8, 0xFF][..], true), (&[5], false), (&[], false)]
        {
            for operation in [
                Operation::Put { key: kind, codec: Codec::Raw, value: b"value" },
                Operation::Delete { key: kind },
            ] {
                let mut bytes = Vec::new();
                operation.encode(&mut bytes);
                assert_eq!(malformed_operation(&bytes).is_none(), is_right, "{operation:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn operations_that_decode_encode_back(bytes in proptest::collection::vec(0u8..9, 0..64)) {
            let mut operations = Operations::new(&bytes);
            let mut again = Vec::new();
            loop {
                let before = operations.offset();
                match operations.next() {
                    Some(Ok(operation)) => operation.encode(&mut again),
                    Some(Err(_)) => { prop_assert!(operations.next().is_none()); break }
                    None => { prop_assert_eq!(before, bytes.len()); break }
                }
                prop_assert_eq!(&again[..], &bytes[..operations.offset()]);
            }
        }

        #[test]
        fn operations_read_back(kinds in proptest::collection::vec((0u8..7, any::<u64>()), 0..20)) {
            let long = [KeyKind::User as u8; FULL_KEY_BYTES_MAX];
            let operations: Vec<_> = kinds.iter().map(|(kind, number)| match kind {
                0 => Operation::Put { key: &long, codec: Codec::Json, value: &long[..1] },
                1 => Operation::Delete { key: &long[..1] },
                2 => Operation::DeleteRange { start: &long[..0], end: &long },
                3 => Operation::DeleteAll { keep_alarms: number % 2 == 0 },
                4 => Operation::SetAlarm(Alarm::new(Timestamp(*number), Lsn(5))),
                5 => Operation::Restored(Restoration {
                    from: Address { namespace: NamespaceNumber(7), id: ShortId([9; 16]) },
                    at: Lsn(*number),
                    is_at_open: number % 2 == 0,
                }),
                _ => Operation::ClearAlarm,
            }).collect();
            let mut bytes = Vec::new();
            for operation in &operations {
                operation.encode(&mut bytes);
            }
            let found = Operations::new(&bytes).collect::<Result<Vec<_>, _>>();
            prop_assert_eq!(found, Ok(operations));
        }
    }
}

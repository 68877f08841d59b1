//! The frames of the log: a file's header block, then groups, the unit of one write and one sync.
//!
//! Two-level framing: a group's header has its own checksum, so its lengths are trusted before the
//! body is looked at, and what is missing of a body can be told from what is damaged. Every
//! checksum is seeded with the place it stands at: bytes of another file, another offset or an
//! earlier store do not pass.
//!
//! Invariants:
//!   * Groups begin on [`GROUP_ALIGNMENT`]; a header never crosses a sector. What was synced is
//!     never rewritten, not even as part of a sector.
//!   * No sector that a body reaches into is all zeros: a sector that reads as zeros was not
//!     written. Bodies for which that does not hold by themselves are masked.
//!   * Nothing that is all zeros is a valid header.
//!   * A header's checksum covers the body's checksum, so the chain of header checksums covers
//!     everything.

use super::header::{
    FileKind, HEADER_BLOCK_BYTES, HEADER_BYTES, Header, HeaderFault, SECOND_COPY_OFFSET,
};
use super::{Cursor, Malformed, checksum, place_seed};
use crate::ids::{FileNumber, LogEnd, LogPoint, Lsn, Timestamp};
use crate::limits::{GROUP_ALIGNMENT, SECTOR_BYTES};
use crate::marks::{Mark, mark};

/// Bytes in front of a group's body.
pub const GROUP_HEADER_BYTES: usize = 96;

/// Bytes of a group's body; beyond it a header is refused, so that it cannot ask for any memory.
pub const BODY_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// What a file of the log begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalHeader {
    /// The common header.
    pub header: Header,
    /// Exactly where the log ended when this file began; whatever follows there is dead. The file
    /// number is zero in the first file of a store.
    pub predecessor: LogEnd,
    /// The least LSN that a commit in this file may have.
    pub first_lsn: Lsn,
    /// The length that the file was prepared to. It was durable before this header was written, so
    /// a file that is shorter has lost bytes.
    pub bytes: u64,
}

/// Bytes of a copy of it.
pub const WAL_HEADER_BYTES: usize = HEADER_BYTES + 64;
const _: () = assert!(WAL_HEADER_BYTES <= SECTOR_BYTES);
const BLOCK_BYTES: usize = 4096;
const _: () = assert!(BLOCK_BYTES as u64 == HEADER_BLOCK_BYTES);

impl WalHeader {
    /// The file's first block: two copies of the header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(BLOCK_BYTES);
        copy.extend_from_slice(&self.header.encode());
        put_point(&mut copy, &self.predecessor.point);
        copy.extend_from_slice(&self.predecessor.lsn.0.to_le_bytes());
        copy.extend_from_slice(&self.predecessor.time.0.to_le_bytes());
        copy.extend_from_slice(&self.first_lsn.0.to_le_bytes());
        copy.extend_from_slice(&self.bytes.to_le_bytes());
        let sum = checksum(seed_of(&self.header), &copy);
        copy.extend_from_slice(&sum.to_le_bytes());
        let mut block = vec![0; BLOCK_BYTES];
        block[..WAL_HEADER_BYTES].copy_from_slice(&copy);
        block[SECOND_COPY_OFFSET..SECOND_COPY_OFFSET + WAL_HEADER_BYTES].copy_from_slice(&copy);
        block
    }

    /// Reads the first block of a file: the first copy, or the second where the first is damaged.
    pub fn decode(block: &[u8]) -> Result<Self, HeaderFault> {
        let first = Self::decode_copy(block);
        if matches!(first, Err(HeaderFault::Malformed(_))) {
            let second = Self::decode_copy(block.get(SECOND_COPY_OFFSET..).unwrap_or_default());
            if !matches!(second, Err(HeaderFault::Malformed(_))) {
                return second;
            }
        }
        first
    }

    fn decode_copy(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let header = Header::decode(bytes, FileKind::Wal)?;
        let mut cursor = Cursor::new(bytes);
        let covered = cursor.take(WAL_HEADER_BYTES - 4)?;
        if cursor.u32()? != checksum(seed_of(&header), covered) {
            return Err(HeaderFault::Malformed("log header checksum differs"));
        }
        let mut cursor = Cursor::new(&covered[HEADER_BYTES..]);
        let point = take_point(&mut cursor)?;
        let lsn = Lsn(cursor.counted()?);
        let time = Timestamp(cursor.u64()?);
        let first_lsn = Lsn(cursor.counted()?);
        let bytes = cursor.u64()?;
        cursor.finish()?;
        Ok(Self { header, predecessor: LogEnd { point, lsn, time }, first_lsn, bytes })
    }
}

fn seed_of(header: &Header) -> u64 {
    place_seed(header.salt, header.number.0, 0)
}

fn put_point(out: &mut Vec<u8>, point: &LogPoint) {
    out.extend_from_slice(&point.file.0.to_le_bytes());
    out.extend_from_slice(&point.offset.to_le_bytes());
    out.extend_from_slice(&point.group.to_le_bytes());
    out.extend_from_slice(&point.chain.to_le_bytes());
}

fn take_point(cursor: &mut Cursor<'_>) -> Result<LogPoint, Malformed> {
    let file = FileNumber(cursor.counted()?);
    let offset = cursor.counted()?;
    let group = cursor.counted()?;
    Ok(LogPoint { file, offset, group, chain: cursor.u32()? })
}

/// What a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GroupKind {
    /// Records.
    Data = 1,
    /// Nothing, written when the log is idle: proves that the group before it is durable.
    Mark = 2,
    /// Nothing, written when the store is closed: nothing follows.
    Close = 3,
}

/// What stands in front of a group's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// What the group is. Only data has a body.
    pub kind: GroupKind,
    /// One more than the group before it.
    pub number: u64,
    /// The first LSN in it; the last one before it if no commit ends in it.
    pub first_lsn: Lsn,
    /// The last LSN in it or before it.
    pub last_lsn: Lsn,
    /// The time of that commit.
    pub time: Timestamp,
    /// Records in the body.
    pub records: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// The checksum of the body as written, masked where it is.
    pub body_crc: u32,
    /// What the body was combined with by exclusive or, repeated; zero for nothing.
    pub mask: u64,
    /// The header checksum of the group before it.
    pub previous: u32,
    /// The highest group known durable when this one was built.
    pub durable: u64,
}

const MAGIC: u32 = u32::from_le_bytes(*b"dsg\x1A");
const UNUSED_BYTES: usize = 20;

impl GroupHeader {
    /// The header's bytes. `seed` is the [`place_seed`] of the group's place.
    #[must_use]
    pub fn encode(&self, seed: u64) -> [u8; GROUP_HEADER_BYTES] {
        let mut out = Vec::with_capacity(GROUP_HEADER_BYTES);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first_lsn.0.to_le_bytes());
        out.extend_from_slice(&self.last_lsn.0.to_le_bytes());
        out.extend_from_slice(&self.time.0.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.mask.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(&[0; UNUSED_BYTES]);
        let sum = checksum(seed, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        let mut bytes = [0; GROUP_HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads the header at the front of `bytes`, and its checksum, which the next group repeats.
    pub fn decode(bytes: &[u8], seed: u64) -> Result<(Self, u32), Malformed> {
        let mut cursor = Cursor::new(bytes);
        let covered = cursor.take(GROUP_HEADER_BYTES - 4)?;
        let sum = cursor.u32()?;
        let mut cursor = Cursor::new(covered);
        if cursor.u32()? != MAGIC {
            return Err(Malformed("not a group"));
        }
        if sum != checksum(seed, covered) {
            return Err(Malformed("group header checksum differs"));
        }
        let kind = match cursor.array()? {
            [1, 0, 0, 0] => GroupKind::Data,
            [2, 0, 0, 0] => GroupKind::Mark,
            [3, 0, 0, 0] => GroupKind::Close,
            _ => return Err(Malformed("unknown group kind")),
        };
        let header = Self {
            kind,
            number: cursor.counted()?,
            first_lsn: Lsn(cursor.counted()?),
            last_lsn: Lsn(cursor.counted()?),
            time: Timestamp(cursor.u64()?),
            records: cursor.u32()?,
            body_bytes: cursor.u32()?,
            body_crc: cursor.u32()?,
            previous: cursor.u32()?,
            mask: cursor.u64()?,
            durable: cursor.counted()?,
        };
        if cursor.array()? != [0; UNUSED_BYTES] {
            return Err(Malformed("unused bytes of a group are not zero"));
        }
        header.check()?;
        Ok((header, sum))
    }

    fn check(&self) -> Result<(), Malformed> {
        if self.body_bytes > BODY_BYTES_MAX {
            return Err(Malformed("a group beyond its limit"));
        }
        if self.kind != GroupKind::Data && (self.body_bytes > 0 || self.records > 0) {
            return Err(Malformed("a mark with records"));
        }
        Ok(())
    }

    /// Bytes of the whole group: header, body and padding.
    #[must_use]
    pub fn group_bytes(&self) -> u64 {
        (GROUP_HEADER_BYTES as u64 + u64::from(self.body_bytes)).next_multiple_of(GROUP_ALIGNMENT)
    }
}

/// Bytes of a group's first sector that are not zero, at most, for it never to have been written:
/// any header has several times as many, so these are bits that flipped in unused space.
const STRAY_BYTES_MAX: usize = 3;

/// Whether this first sector may be what is left of a group.
#[must_use]
pub fn may_be_group(sector: &[u8]) -> bool {
    sector.iter().filter(|byte| **byte != 0).nth(STRAY_BYTES_MAX).is_some()
}

/// Makes a group of `group`, which is [`GROUP_HEADER_BYTES`] spare bytes and the body: masks the
/// body where it must be, writes the header in front of it and pads with zeros. The body's fields
/// of `header` are filled in here. Returns the header's checksum.
pub fn seal(group: &mut Vec<u8>, mut header: GroupHeader, seed: u64) -> u32 {
    assert!(group.len() >= GROUP_HEADER_BYTES, "a group without room for its header");
    assert!(
        group.len() - GROUP_HEADER_BYTES <= BODY_BYTES_MAX as usize,
        "a group beyond its limit"
    );
    let body = &mut group[GROUP_HEADER_BYTES..];
    header.mask = 0;
    if has_missing_sector(body) {
        mark(Mark::BodyMasked);
        header.mask = mask_body(body, seed);
    }
    header.body_bytes = u32::try_from(body.len()).unwrap_or(BODY_BYTES_MAX);
    header.body_crc = checksum(seed, body);
    debug_assert!(header.check().is_ok());
    let encoded = header.encode(seed);
    group[..GROUP_HEADER_BYTES].copy_from_slice(&encoded);
    group.resize(group.len().next_multiple_of(BLOCK_BYTES), 0);
    let [.., a, b, c, d] = encoded;
    u32::from_le_bytes([a, b, c, d])
}

const _: () = assert!(BLOCK_BYTES as u64 == GROUP_ALIGNMENT);

/// Whether a sector that the body reaches into, other than the header's, has only zeros of it: of
/// a body as written, that such a sector never reached the medium.
#[must_use]
pub fn has_missing_sector(body: &[u8]) -> bool {
    let rest = body.get(SECTOR_BYTES - GROUP_HEADER_BYTES..).unwrap_or_default();
    rest.chunks(SECTOR_BYTES).any(|sector| sector.iter().all(|byte| *byte == 0))
}

/// Masks the body so that none of its sectors is all zeros, and returns the mask.
fn mask_body(body: &mut [u8], seed: u64) -> u64 {
    let mut state = seed;
    loop {
        let mask = mix(&mut state);
        if mask == 0 {
            continue;
        }
        unmask(body, mask);
        if !has_missing_sector(body) {
            return mask;
        }
        unmask(body, mask);
    }
}

/// A full-period generator (`SplitMix64`): the tries do not run in a circle.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Combines the body with the mask; twice is nothing.
pub fn unmask(body: &mut [u8], mask: u64) {
    unmask_part(body, mask, 0);
}

/// Combines a part of a body, from its byte `offset` on, with the body's mask.
pub fn unmask_part(part: &mut [u8], mask: u64, offset: u64) {
    if mask == 0 {
        return;
    }
    let mask = mask.rotate_right(8 * (offset % 8) as u32).to_le_bytes();
    let (words, rest) = part.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ u64::from_le_bytes(mask)).to_le_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::header::FileContext;
    use crate::ids::{StoreId, Term};
    use proptest::prelude::*;

    fn wal_header() -> WalHeader {
        let point = LogPoint { file: FileNumber(8), offset: 8192, group: 77, chain: 0xABCD };
        let predecessor = LogEnd { point, lsn: Lsn(5), time: Timestamp(6) };
        let context = FileContext { store: StoreId([3; 16]), term: Term(2) };
        let header = context.header(FileKind::Wal, FileNumber(9), 0x55AA);
        WalHeader { header, predecessor, first_lsn: Lsn(0x0100_0000), bytes: 1 << 26 }
    }

    fn group_header(kind: GroupKind) -> GroupHeader {
        GroupHeader {
            kind,
            number: 78,
            first_lsn: Lsn(6),
            last_lsn: Lsn(9),
            time: Timestamp(10),
            records: u32::from(kind == GroupKind::Data) * 4,
            body_bytes: 0,
            body_crc: 0,
            mask: 0,
            previous: 0xABCD,
            durable: 77,
        }
    }

    #[test]
    fn one_damaged_sector_does_not_orphan_a_file_and_two_are_noticed() {
        let header = wal_header();
        let block = header.encode();
        assert_eq!(WalHeader::decode(&block), Ok(header));
        for bit in 0..WAL_HEADER_BYTES * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(WalHeader::decode(&damaged), Ok(header), "bit {bit}");
            damaged[SECOND_COPY_OFFSET + bit / 8] ^= 1 << (bit % 8);
            assert!(WalHeader::decode(&damaged).is_err(), "bit {bit}");
        }
        assert!(WalHeader::decode(&block[..100]).is_err());
        assert!(WalHeader::decode(&vec![0; BLOCK_BYTES]).is_err());
    }

    #[test]
    fn a_group_header_is_valid_at_its_place_only_and_every_bit_of_it_matters() {
        let header = group_header(GroupKind::Mark);
        let bytes = header.encode(42);
        assert_eq!(GroupHeader::decode(&bytes, 42).unwrap().0, header);
        assert!(GroupHeader::decode(&bytes, 43).is_err());
        assert!(GroupHeader::decode(&[0; GROUP_HEADER_BYTES], 0).is_err());
        for bit in 0..GROUP_HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::decode(&damaged, 42).is_err(), "bit {bit}");
        }
        let with_body = GroupHeader { body_bytes: 1, ..header };
        assert!(GroupHeader::decode(&with_body.encode(42), 42).is_err());
        let beyond =
            GroupHeader { body_bytes: BODY_BYTES_MAX + 1, ..group_header(GroupKind::Data) };
        assert!(GroupHeader::decode(&beyond.encode(42), 42).is_err());
    }

    proptest! {
        #[test]
        fn a_sealed_body_has_no_zero_sector_and_reads_back(
            lengths in proptest::collection::vec((any::<bool>(), 1usize..900), 0..12),
            seed in any::<u64>(),
        ) {
            let body: Vec<u8> = lengths.iter()
                .flat_map(|(is_zero, length)| vec![if *is_zero { 0 } else { 0xA7 }; *length])
                .collect();
            let mut group = vec![0; GROUP_HEADER_BYTES];
            group.extend_from_slice(&body);
            let chain = seal(&mut group, group_header(GroupKind::Data), seed);
            let (header, sum) = GroupHeader::decode(&group, seed).unwrap();
            prop_assert_eq!((sum, header.body_bytes as usize), (chain, body.len()));
            prop_assert_eq!(header.group_bytes(), group.len() as u64);
            let (written, padding) = group[GROUP_HEADER_BYTES..].split_at_mut(body.len());
            prop_assert_eq!(checksum(seed, written), header.body_crc);
            prop_assert!(!has_missing_sector(written));
            prop_assert!(padding.iter().all(|byte| *byte == 0));
            let middle = body.len() / 3;
            unmask_part(&mut written[middle..], header.mask, middle as u64);
            prop_assert_eq!(&written[middle..], &body[middle..]);
            unmask(&mut written[..middle], header.mask);
            prop_assert_eq!(&written[..], &body[..]);
        }
    }
}

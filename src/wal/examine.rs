//! Looks at one file of the log by itself, past damage: which groups stand in it, and what else.
//!
//! Invariants:
//!   * A group is told only with its header verified at its place; its body's checksum is told
//!     beside it.
//!   * Memory is one window and one group.

use super::files::{Live, Window, is_zero};
use super::flipped::flipped_bit;
use super::survey::holds_first_group;
use crate::disk::ReadDisk;
use crate::error::Result;
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader, unmask};
use crate::format::record::records;
use crate::format::{checksum, place_seed};
use crate::ids::{Address, FileNumber};
use crate::limits::GROUP_ALIGNMENT;
use crate::names::FileName;
use std::collections::BTreeSet;
use std::ops::Range;

/// Something in a file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A group that is right.
    Group {
        /// Its header and its body.
        range: Range<u64>,
        /// Its header.
        header: GroupHeader,
        /// The header's checksum, which the next group repeats.
        chain: u32,
    },
    /// A group whose header is right and whose body is not.
    Body {
        /// Its header and its body.
        range: Range<u64>,
        /// Its header.
        header: GroupHeader,
        /// Whose commits stand in it, as far as that can be read.
        objects: BTreeSet<Address>,
    },
    /// Blocks in which something stands and no right header.
    Gap {
        /// The blocks.
        range: Range<u64>,
        /// Whose commits stand there, as far as that can be read.
        objects: BTreeSet<Address>,
    },
    /// Bytes between a group's body and the next block that are not zero.
    Padding(Range<u64>),
}

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// In the order of the file.
    pub sights: Vec<Sight>,
    /// Of a file without a salt: blocks that are not zero, as bytes from the first to the last
    /// that is not.
    pub stray: Vec<Range<u64>>,
    /// The end of the last block behind the header that is not all zeros.
    pub used_to: Option<u64>,
    /// Whether what stands at the first group's place may be one, so that the file was used.
    pub holds_first_group: bool,
}

/// Looks at a file from some byte on. Without a salt no group can be told from garbage.
pub fn examine(
    disk: &dyn ReadDisk,
    name: FileName,
    how: Option<(Option<u64>, u64)>,
) -> Result<Examined> {
    let number = name.number().unwrap_or(FileNumber(0));
    let (salt, from) = how.unwrap_or((None, GROUP_ALIGNMENT));
    let mut window = Window::open(&Live(disk), number)?;
    let found =
        Examined { holds_first_group: holds_first_group(&mut window)?, ..Examined::default() };
    let mut walk = Walk { window, number, salt, at: from, gap: None, found };
    while walk.step()? {}
    walk.end_gap();
    Ok(walk.found)
}

/// The body of a group that was found, as its writer made it.
pub fn body_of(
    disk: &dyn ReadDisk,
    name: FileName,
    at: u64,
    header: &GroupHeader,
) -> Result<Vec<u8>> {
    let mut window = Window::open(&Live(disk), name.number().unwrap_or(FileNumber(0)))?;
    let from = at + GROUP_HEADER_BYTES as u64;
    let body = window.get(from, header.body_bytes as usize)?;
    let mut body = body.map(<[u8]>::to_vec).unwrap_or_default();
    unmask(&mut body, header.mask);
    Ok(body)
}

struct Walk {
    window: Window,
    number: FileNumber,
    salt: Option<u64>,
    at: u64,
    gap: Option<(u64, BTreeSet<Address>)>,
    found: Examined,
}

impl Walk {
    /// Goes over one group or block; false at the end of the file.
    fn step(&mut self) -> Result<bool> {
        let at = self.at;
        let block = self.window.rest(at).min(GROUP_ALIGNMENT);
        if block == 0 {
            return Ok(false);
        }
        let bytes = self.window.get(at, usize::try_from(block).unwrap_or(0))?.unwrap_or_default();
        if is_zero(bytes) {
            self.end_gap();
            self.at += block;
            return Ok(true);
        }
        let bytes = bytes.to_vec();
        self.found.used_to = Some(at + block);
        let Some(salt) = self.salt else {
            self.stray(&bytes);
            return Ok(true);
        };
        let seed = place_seed(salt, self.number.0, at);
        match GroupHeader::decode(&bytes, seed) {
            Ok((header, chain)) => {
                self.end_gap();
                self.group(header, chain, seed)?;
            }
            Err(_) => self.damaged(bytes, seed)?,
        }
        Ok(true)
    }

    fn stray(&mut self, bytes: &[u8]) {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0) as u64;
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
        self.found.stray.push(self.at + first..self.at + last + 1);
        self.at += bytes.len() as u64;
    }

    fn group(&mut self, header: GroupHeader, chain: u32, seed: u64) -> Result<()> {
        let end = self.at + header.group_bytes();
        let range = self.at..body_end(self.at, &header);
        let body = self.body(&header)?;
        let is_right = body.as_ref().is_some_and(|body| checksum(seed, body) == header.body_crc);
        let padding = self.padding(&header)?;
        let sight = if is_right {
            Sight::Group { range, header, chain }
        } else {
            let objects = match body {
                Some(body) => objects_in(body, &header, seed),
                None => self.objects_to_the_end(&header)?,
            };
            Sight::Body { range, header, objects }
        };
        self.found.sights.push(sight);
        self.found.sights.extend(padding.map(Sight::Padding));
        self.found.used_to = Some(end);
        self.at = end;
        Ok(())
    }

    fn body(&mut self, header: &GroupHeader) -> Result<Option<Vec<u8>>> {
        let at = self.at + GROUP_HEADER_BYTES as u64;
        Ok(self.window.get(at, header.body_bytes as usize)?.map(<[u8]>::to_vec))
    }

    /// Whose records a body has as far as the file reaches, which ends inside it.
    fn objects_to_the_end(&mut self, header: &GroupHeader) -> Result<BTreeSet<Address>> {
        let from = self.at + GROUP_HEADER_BYTES as u64;
        let length = usize::try_from(self.window.rest(from)).unwrap_or(0);
        let mut body = self.window.get(from, length)?.unwrap_or_default().to_vec();
        unmask(&mut body, header.mask);
        Ok(owners(&body))
    }

    /// Bytes behind the body that are not zero.
    fn padding(&mut self, header: &GroupHeader) -> Result<Option<Range<u64>>> {
        let from = body_end(self.at, header);
        let bytes = self.window.rest(from).min(self.at + header.group_bytes() - from);
        let length = usize::try_from(bytes).unwrap_or(0);
        let padding = self.window.get(from, length)?.unwrap_or_default();
        let Some(first) = padding.iter().position(|byte| *byte != 0) else { return Ok(None) };
        let last = padding.iter().rposition(|byte| *byte != 0).unwrap_or(first);
        Ok(Some(from + first as u64..from + last as u64 + 1))
    }

    /// A block that begins with no right header. If one bit of it is flipped, the header says how
    /// far the group reaches and whose commits it has.
    fn damaged(&mut self, mut bytes: Vec<u8>, seed: u64) -> Result<()> {
        let at = self.at;
        self.gap.get_or_insert_with(|| (at, BTreeSet::new()));
        self.at += bytes.len() as u64;
        let Some(front) = bytes.get_mut(..GROUP_HEADER_BYTES) else { return Ok(()) };
        let Some(bit) = flipped_bit(seed, front) else { return Ok(()) };
        front[bit / 8] ^= 1 << (bit % 8);
        let Ok((header, _)) = GroupHeader::decode(front, seed) else { return Ok(()) };
        self.at = at;
        if let Some(body) = self.body(&header)?
            && let Some((_, objects)) = &mut self.gap
        {
            objects.extend(objects_in(body, &header, seed));
        }
        self.at = body_end(at, &header);
        self.end_gap();
        self.at = at + header.group_bytes();
        self.found.used_to = Some(self.at);
        Ok(())
    }

    fn end_gap(&mut self) {
        if let Some((start, objects)) = self.gap.take() {
            self.found.sights.push(Sight::Gap { range: start..self.at, objects });
        }
    }
}

/// Where the body of the group at `at` ends; zeros follow up to the next block.
fn body_end(at: u64, header: &GroupHeader) -> u64 {
    at + GROUP_HEADER_BYTES as u64 + u64::from(header.body_bytes)
}

/// Whose records a damaged body has: all, if one flipped bit explains the damage; else those up to
/// the first that is malformed, of which the last may be wrong.
fn objects_in(mut body: Vec<u8>, header: &GroupHeader, seed: u64) -> BTreeSet<Address> {
    body.extend_from_slice(&header.body_crc.to_le_bytes());
    if let Some(bit) = flipped_bit(seed, &body) {
        body[bit / 8] ^= 1 << (bit % 8);
    }
    body.truncate(header.body_bytes as usize);
    unmask(&mut body, header.mask);
    owners(&body)
}

/// Whose the records of a body are, up to the first that is malformed.
fn owners(body: &[u8]) -> BTreeSet<Address> {
    records(body).map_while(|record| Some(record.ok()?.header.address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::test_log::Writer;

    fn walked(log: &Writer) -> Vec<Sight> {
        let number = FileNumber(1);
        let window = Window::open(&log.files, number).unwrap();
        let salt = Some(Writer::salt(number));
        let found = Examined::default();
        let mut walk = Walk { window, number, salt, at: GROUP_ALIGNMENT, gap: None, found };
        while walk.step().unwrap() {}
        walk.end_gap();
        walk.found.sights
    }

    #[test]
    fn a_flipped_bit_of_a_header_hides_its_group_and_none_behind_it() {
        let mut log = Writer::new();
        for bytes in [100, 9_000, 100] {
            log.commit_group(bytes);
        }
        let whole = walked(&log);
        assert!(whole.iter().all(|sight| matches!(sight, Sight::Group { .. })), "{whole:?}");
        let hidden = &log.groups[1];
        let start = hidden.start.offset;
        let end = start + hidden.bytes as u64;
        for bit in [0, 77, 8 * GROUP_HEADER_BYTES - 1] {
            let mut damaged = log.files.clone();
            let file = damaged.0.get_mut(&FileNumber(1)).unwrap();
            file[usize::try_from(start).unwrap() + bit / 8] ^= 1 << (bit % 8);
            let sights = walked(&Writer { files: damaged, ..Writer::default() });
            assert_eq!(sights.len(), 3, "bit {bit}");
            assert_eq!((&sights[0], &sights[2]), (&whole[0], &whole[2]));
            let Sight::Gap { range, objects } = &sights[1] else { panic!("{:?}", sights[1]) };
            assert_eq!(*range, start..end);
            assert_eq!(objects.len(), 1, "whose commit it was");
        }
    }
}

//! A file that is read once, from its beginning to its end, in pieces past the system's cache: in
//! place of a map, for whoever walks over a file that is removed then.
//!
//! Invariants:
//!   * Memory is one piece and what was asked for.
//!   * A sector that the medium does not give back hides what is asked for with it, and no more.

use super::piece::PIECE_BYTES;
use super::unmapped::{length_within, read_whole};
use super::{Map, ReadFile};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What stands in for a map: each look gives a copy.
#[derive(Debug)]
pub struct Streamed {
    file: Arc<dyn ReadFile>,
    bytes: u64,
    /// Guards one piece of the file; held while the next one is read.
    piece: Mutex<Piece>,
}

#[derive(Debug, Default)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn part(&self, range: &Range<u64>) -> Option<&[u8]> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        self.bytes.get(start..end)
    }
}

impl Streamed {
    /// The first `bytes` bytes of a sealed file, for the one who reads by this handle.
    pub fn new(file: Arc<dyn ReadFile>, bytes: u64) -> Self {
        file.bypass_cache();
        Self { file, bytes, piece: Mutex::default() }
    }
}

impl Map for Streamed {
    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let length = length_within(&range, self.bytes)?;
        let mut piece = self.piece.lock();
        if let Some(part) = piece.part(&range) {
            return Ok(Cow::Owned(part.to_vec()));
        }
        let left = usize::try_from(self.bytes - range.start).unwrap_or(usize::MAX);
        if length <= PIECE_BYTES.min(left) {
            piece.bytes.resize(PIECE_BYTES.min(left), 0);
            piece.start = range.start;
            if read_whole(&*self.file, &mut piece.bytes, range.start).is_ok() {
                return Ok(Cow::Owned(piece.bytes[..length].to_vec()));
            }
            piece.bytes.clear();
        }
        let mut bytes = vec![0; length];
        read_whole(&*self.file, &mut bytes, range.start)?;
        Ok(Cow::Owned(bytes))
    }

    fn memory(&self) -> Option<&[u8]> {
        None
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Damage, SimDisk};
    use crate::disk::{Disk, ReadDisk, is_unreadable, write_all_at};
    use crate::ids::FileNumber;
    use crate::names::FileName;

    const RUN: FileName = FileName::Run(FileNumber(3));
    const BYTES: usize = 2 * PIECE_BYTES + 5000;

    fn disk() -> (SimDisk, Vec<u8>) {
        let disk = SimDisk::new(1);
        disk.make_folders().unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(BYTES).collect();
        let file = disk.create(RUN).unwrap();
        write_all_at(&*file, &bytes, 0).unwrap();
        file.sync().unwrap();
        (disk, bytes)
    }

    #[test]
    fn a_walk_reads_each_piece_once_and_a_look_anywhere_is_right() {
        let (disk, bytes) = disk();
        let map = Streamed::new(disk.open(RUN).unwrap(), BYTES as u64);
        let look = |range: Range<usize>| {
            let slice = map.slice(range.start as u64..range.end as u64).unwrap();
            assert_eq!(*slice, bytes[range]);
        };
        let before = disk.calls();
        (0..BYTES / 4096).for_each(|block| look(block * 4096..(block + 1) * 4096));
        assert_eq!(disk.calls() - before, 3);
        for range in [0..BYTES, BYTES - 1..BYTES, 5..5, BYTES..BYTES, 7..PIECE_BYTES + 8, 0..1] {
            look(range);
        }
        #[expect(clippy::reversed_empty_ranges, reason = "what a forged file may say")]
        for range in [0..BYTES as u64 + 1, 5..4, u64::MAX - 1..u64::MAX] {
            assert!(map.slice(range).is_err());
        }
    }

    #[test]
    fn a_sector_that_cannot_be_read_hides_only_what_is_asked_for_with_it() {
        let (disk, bytes) = disk();
        disk.damage(RUN, Damage::Unreadable(9)).unwrap();
        let map = Streamed::new(disk.open(RUN).unwrap(), BYTES as u64);
        assert_eq!(*map.slice(0..4096).unwrap(), bytes[..4096]);
        assert!(is_unreadable(&map.slice(4096..8192).unwrap_err()));
        assert_eq!(*map.slice(8192..9000).unwrap(), bytes[8192..9000]);
        assert_eq!(*map.slice(0..4096).unwrap(), bytes[..4096]);
    }

    #[test]
    fn a_file_that_was_cut_short_is_unreadable_behind_its_end() {
        let (disk, bytes) = disk();
        let map = Streamed::new(disk.open(RUN).unwrap(), BYTES as u64);
        disk.replace_file_bytes(RUN, bytes[..9000].to_vec());
        assert!(is_unreadable(&map.slice(8192..12288).unwrap_err()));
        assert_eq!(*map.slice(8192..9000).unwrap(), bytes[8192..9000]);
    }
}

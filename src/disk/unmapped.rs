//! A disk of which nothing is mapped: for files that others may change while they are read.
//!
//! A map shows what the file is at each look, so what was checked once may be another thing at the
//! next, and a file that was cut short ends the process. Here every look is a call that can fail,
//! and gives a copy.
//!
//! Invariants:
//!   * Bytes that were handed out do not change, and those of two calls may differ: whoever checks
//!     what is in shared memory only once must check these each time.
//!   * No memory is taken for more than the file has.

use super::{Clock, Listed, Map, ReadDisk, ReadFile, read_exact_at};
use crate::names::{FileName, Folder};
use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A disk, without maps.
#[derive(Debug)]
pub struct Unmapped<D>(D);

impl<D: ReadDisk> Unmapped<D> {
    /// The same disk.
    pub fn new(disk: D) -> Self {
        Self(disk)
    }
}

impl<D: ReadDisk> ReadDisk for Unmapped<D> {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(UnmappedFile(self.0.open(name)?)))
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<Listed>> {
        self.0.list(folder)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock()
    }

    fn lock_holder(&self) -> io::Result<Option<String>> {
        self.0.lock_holder()
    }
}

#[derive(Debug)]
struct UnmappedFile(Arc<dyn ReadFile>);

impl ReadFile for UnmappedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>> {
        if self.bytes()? < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Arc::new(Calls { file: Arc::clone(&self.0), bytes }))
    }
}

/// What stands in for a map.
#[derive(Debug)]
struct Calls {
    file: Arc<dyn ReadFile>,
    bytes: u64,
}

impl Map for Calls {
    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let mut bytes = vec![0; length_within(&range, self.bytes)?];
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

/// How long a range is; `InvalidInput` where it is none of the first `bytes` bytes.
pub(super) fn length_within(range: &Range<u64>, bytes: u64) -> io::Result<usize> {
    let length = range.end.checked_sub(range.start).filter(|_| range.end <= bytes);
    let length = length.and_then(|length| usize::try_from(length).ok());
    length.ok_or(io::ErrorKind::InvalidInput.into())
}

/// Reads exactly `buffer`; what was cut short since is as a sector that the medium does not give,
/// for a map would end the process there.
pub(super) fn read_whole(file: &dyn ReadFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    read_exact_at(file, buffer, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => rustix::io::Errno::IO.into(),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use crate::disk::{Disk, is_unreadable, write_all_at};
    use crate::ids::FileNumber;

    const RUN: FileName = FileName::Run(FileNumber(3));

    #[test]
    fn each_look_is_at_the_file_as_it_is_then() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::create(folder.path().join("store")).unwrap();
        disk.make_folders().unwrap();
        let file = disk.create(RUN).unwrap();
        write_all_at(&*file, &[7; 9_000], 0).unwrap();
        let disk = Unmapped::new(disk);
        let open = disk.open(RUN).unwrap();
        assert!(open.map(9_001).is_err());
        let map = open.map(9_000).unwrap();
        assert!(map.memory().is_none());
        let before = map.slice(8_990..9_000).unwrap();
        write_all_at(&*file, &[8], 8_999).unwrap();
        assert_eq!((&*before, map.slice(8_999..9_000).unwrap()[0]), (&[7; 10][..], 8));
        #[expect(clippy::reversed_empty_ranges, reason = "what a forged file may say")]
        for range in [8_999..9_001, 5..4, u64::MAX - 1..u64::MAX] {
            assert!(map.slice(range).is_err());
        }
        let path = folder.path().join("store/run").join(RUN.leaf());
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(8_000).unwrap();
        assert!(is_unreadable(&map.slice(7_999..8_001).unwrap_err()));
        assert_eq!(map.slice(0..8_000).unwrap()[7_999], 7);
    }
}

//! A mapped file that fails with an error where a plain map would end the process.
//!
//! When the device cannot read a sector under a map, or the file was cut short behind it, whoever
//! looks at the bytes gets a signal and not an error. So each part is brought into memory by a call
//! that can fail before its bytes are handed out for the first time.
//!
//! Invariants:
//!   * No byte is handed out by `slice` that was not in memory once. What went bad after that, and
//!     was dropped from memory in between, still ends the process: docs/guarantees.md says so.

use super::Map;
use rustix::io::Errno;
use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is brought in at once: a page of memory, or a part of one where those are larger.
const PART_BYTES: usize = 4096;
/// For how much is asked ahead at once. The kernel leaves out without a word what is beyond its own
/// read-ahead, which is no less than this unless somebody has set it so.
const AHEAD_BYTES: usize = 128 << 10;

/// A mapped file, and which parts of it were found readable.
#[derive(Debug)]
pub(super) struct MappedFile {
    map: memmap2::Mmap,
    /// A bit for each part. A hint: a bit that is lost costs a call.
    readable: Box<[AtomicU64]>,
}

impl MappedFile {
    pub fn new(map: memmap2::Mmap) -> Self {
        let words = map.len().div_ceil(PART_BYTES).div_ceil(64);
        Self { map, readable: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Brings in what of a range was not in memory yet.
    fn ensure_readable(&self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let parts = range.start / PART_BYTES..=(range.end - 1) / PART_BYTES;
        let word = |part: usize| (&self.readable[part / 64], 1_u64 << (part % 64));
        let is_new = |part: &usize| {
            let (word, bit) = word(*part);
            word.load(Ordering::Relaxed) & bit == 0
        };
        let Some(first) = parts.clone().find(is_new) else { return Ok(()) };
        let last = parts.clone().rev().find(is_new).unwrap_or(first);
        let (start, end) = (first * PART_BYTES, ((last + 1) * PART_BYTES).min(self.map.len()));
        if first < last {
            // What is brought in without having been asked for comes part by part.
            self.ask_for(start..end);
        }
        bring_in(&self.map, start, end - start)?;
        for part in first..=last {
            let (word, bit) = word(part);
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks for a range in few large reads, without waiting for them.
    fn ask_for(&self, range: Range<usize>) {
        for start in range.clone().step_by(AHEAD_BYTES) {
            let length = AHEAD_BYTES.min(range.end - start);
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, start, length);
        }
    }
}

#[cfg(target_os = "linux")]
fn bring_in(map: &memmap2::Mmap, start: usize, bytes: usize) -> io::Result<()> {
    map.advise_range(memmap2::Advice::PopulateRead, start, bytes).or_else(|error| {
        match Errno::from_io_error(&error) {
            // A kernel before 5.14 does not know how.
            Some(Errno::INVAL) => Ok(()),
            // Where a look would raise the signal.
            Some(Errno::FAULT | Errno::HWPOISON) => Err(Errno::IO.into()),
            _ => Err(error),
        }
    })
}

/// Others have no such call.
#[cfg(not(target_os = "linux"))]
fn bring_in(_: &memmap2::Mmap, _: usize, _: usize) -> io::Result<()> {
    Ok(())
}

impl Map for MappedFile {
    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let start = usize::try_from(range.start).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = usize::try_from(range.end).map_err(|_| io::ErrorKind::InvalidInput)?;
        let bytes = self.map.get(start..end).ok_or(io::ErrorKind::InvalidInput)?;
        self.ensure_readable(start..end)?;
        Ok(Cow::Borrowed(bytes))
    }

    fn memory(&self) -> Option<&[u8]> {
        Some(&self.map)
    }

    fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    fn will_need(&self, range: Range<u64>) {
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(self.map.len());
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(self.map.len());
        self.ask_for(start..end);
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::real::RealDisk;
    use crate::disk::{Disk, ReadDisk, write_all_at};
    use crate::ids::FileNumber;
    use crate::names::{FileName, Folder};
    use std::fs::OpenOptions;

    const RUN: FileName = FileName::Run(FileNumber(3));

    #[test]
    fn what_cannot_be_read_under_a_map_is_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let disk = RealDisk::create(&root).unwrap();
        disk.make_folders().unwrap();
        let file = disk.create(RUN).unwrap();
        write_all_at(&*file, &vec![7; 20_000], 0).unwrap();
        disk.sync_folder(Folder::Runs).unwrap();
        let map = disk.open(RUN).unwrap().map(20_000).unwrap();
        assert_eq!(&*map.slice(3_000..5_000).unwrap(), [7; 2_000]);
        assert!(map.slice(19_999..20_001).is_err(), "beyond the end");
        assert!(map.slice(20_000..20_000).unwrap().is_empty());

        // What the kernel does with a page behind the end, it does with one it cannot read.
        let path = root.join("run").join(RUN.leaf());
        OpenOptions::new().write(true).open(path).unwrap().set_len(8_192).unwrap();
        assert_eq!(&*map.slice(0..8_192).unwrap(), [7; 8_192]);
        for range in [8_192..8_193, 8_000..12_289, 19_999..20_000, 0..20_000] {
            let error = map.slice(range.clone()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5), "{range:?} {error}");
        }
    }
}

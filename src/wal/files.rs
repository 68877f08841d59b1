//! The files of the log as a reader sees them: which there are, and their bytes in bounded memory.
//!
//! Invariants:
//!   * Recovery reads what is on the medium ([`Medium`]), never what a page cache remembers of a
//!     sync that failed.
//!   * A `Window` holds one stretch of a file: a mebibyte, or one group if that is longer.

use crate::disk::{Disk, MediumError, ReadDisk, ReadFile, SyncFailed, read_exact_at};
use crate::error::{Error, Result};
use crate::format::group::GROUP_HEADER_BYTES;
use crate::ids::FileNumber;
use crate::names::{FileName, Folder};
use crate::planted::{Mistake, planted};
use std::io;
use std::sync::Arc;

/// The files of a log.
pub trait LogFiles {
    /// The numbers of the files there are, in no order.
    fn numbers(&self) -> Result<Vec<FileNumber>>;

    /// Opens one of them.
    fn open(&self, number: FileNumber) -> Result<Arc<dyn ReadFile>>;
}

/// The files as they are on the medium: for recovery.
#[derive(Clone, Copy, Debug)]
pub struct Medium<'a>(pub &'a dyn Disk);

impl LogFiles for Medium<'_> {
    fn numbers(&self) -> Result<Vec<FileNumber>> {
        Live(self.0).numbers()
    }

    fn open(&self, number: FileNumber) -> Result<Arc<dyn ReadFile>> {
        if planted(Mistake::TrustPageCache) {
            return Live(self.0).open(number);
        }
        let name = FileName::Wal(number);
        self.0.open_medium(name).map_err(|error| match error {
            MediumError::Open(cause) => Error::io(format!("opening {name}"), cause),
            MediumError::Sync(SyncFailed(cause)) => {
                Error::io(format!("syncing {name} before it is read"), cause)
            }
        })
    }
}

/// The files as every process of this machine sees them: for a reader beside a writer.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a>(pub &'a dyn ReadDisk);

impl LogFiles for Live<'_> {
    fn numbers(&self) -> Result<Vec<FileNumber>> {
        let listed = match self.0.list(Folder::Wal) {
            Ok(listed) => listed,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(cause) => return Err(Error::io("listing the log", cause)),
        };
        let names = listed.iter().filter_map(|file| FileName::parse(Folder::Wal, &file.leaf));
        Ok(names.filter_map(FileName::number).collect())
    }

    fn open(&self, number: FileNumber) -> Result<Arc<dyn ReadFile>> {
        let name = FileName::Wal(number);
        self.0.open(name).map_err(|cause| Error::io(format!("opening {name}"), cause))
    }
}

/// Bytes that a [`Window`] reads at once where it goes on reading.
pub(super) const WINDOW_BYTES: usize = 1024 * 1024;
/// What it reads of a file at first: a header, and what stands behind it.
const FIRST_BYTES: usize = 8 * 1024;
/// How far ahead of what it reads the device is asked for more, so that nobody waits for it.
const AHEAD_BYTES: u64 = 8 * WINDOW_BYTES as u64;

/// A file of the log, read through one buffer.
pub(super) struct Window {
    file: Arc<dyn ReadFile>,
    name: FileName,
    bytes: u64,
    /// Where the bytes that are held begin.
    start: u64,
    /// How many of the buffer's bytes are held.
    count: usize,
    buffer: Vec<u8>,
    /// What the device was asked for ends here.
    asked_to: u64,
}

impl Window {
    pub(super) fn open(files: &dyn LogFiles, number: FileNumber) -> Result<Self> {
        let file = files.open(number)?;
        let name = FileName::Wal(number);
        let (start, count, asked_to) = (0, 0, 0);
        let mut window = Self { file, name, bytes: 0, start, count, buffer: Vec::new(), asked_to };
        window.bytes = window.bytes_now()?;
        Ok(window)
    }

    /// The length of the file at this moment.
    pub(super) fn bytes_now(&self) -> Result<u64> {
        self.file.bytes().map_err(|cause| reading(self.name, cause))
    }

    pub(super) fn file(&self) -> &Arc<dyn ReadFile> {
        &self.file
    }

    /// Bytes from `offset` to the end of the file.
    pub(super) fn rest(&self, offset: u64) -> u64 {
        self.bytes.saturating_sub(offset)
    }

    /// The bytes at `offset`; none if the file does not reach that far.
    pub(super) fn get(&mut self, offset: u64, length: usize) -> Result<Option<&[u8]>> {
        let rest = self.rest(offset);
        if rest < length as u64 {
            return Ok(None);
        }
        if self.held(offset, length).is_none() {
            let least = if self.buffer.is_empty() { FIRST_BYTES } else { WINDOW_BYTES };
            let wanted = (length.max(least) as u64).min(rest);
            self.fill(offset, usize::try_from(wanted).unwrap_or(length))?;
        }
        Ok(self.held(offset, length))
    }

    /// Holds so many bytes from `offset` on. What of them is held already is not read again.
    fn fill(&mut self, offset: u64, wanted: usize) -> Result<()> {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = skip.filter(|skip| self.count > 0 && *skip <= self.count);
        self.buffer.copy_within(skip.unwrap_or(self.count)..self.count, 0);
        (self.start, self.count) = (offset, skip.map_or(0, |skip| self.count - skip));
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let (have, end) = (self.count, offset + wanted as u64);
        read(&*self.file, self.name, &mut self.buffer[have..wanted], offset + have as u64)?;
        self.count = wanted;
        if skip.is_some() {
            self.ask_ahead(end);
        }
        Ok(())
    }

    /// Asks the device for what comes behind `end`.
    fn ask_ahead(&mut self, end: u64) {
        let (from, to) = (self.asked_to.max(end), end.saturating_add(AHEAD_BYTES).min(self.bytes));
        if from < to {
            self.file.will_read(from..to);
            self.asked_to = to;
        }
    }

    /// Reads anew whatever is asked for next.
    pub(super) fn forget(&mut self) {
        self.count = 0;
    }

    fn held(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let begin = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.buffer[..self.count].get(begin..begin.checked_add(length)?)
    }

    /// What stands where a group's header may, without giving up what the window holds.
    pub(super) fn peek(&self, offset: u64) -> Result<Option<[u8; GROUP_HEADER_BYTES]>> {
        let mut header = [0; GROUP_HEADER_BYTES];
        if self.rest(offset) < GROUP_HEADER_BYTES as u64 {
            return Ok(None);
        }
        match self.held(offset, GROUP_HEADER_BYTES) {
            Some(held) => header.copy_from_slice(held),
            None => read(&*self.file, self.name, &mut header, offset)?,
        }
        Ok(Some(header))
    }
}

/// Reads exactly `buffer` from a file of the log.
pub(super) fn read(
    file: &dyn ReadFile,
    name: FileName,
    buffer: &mut [u8],
    offset: u64,
) -> Result<()> {
    read_exact_at(file, buffer, offset).map_err(|cause| reading(name, cause))
}

fn reading(name: FileName, cause: io::Error) -> Error {
    Error::io(format!("reading {name}"), cause)
}

/// Whether all bytes are zero. Reads them all: quicker than looking for the first that is not.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |seen, byte| seen | byte) == 0
}

//! WAL files prepared ahead: new files full of zeros, synced and named, before a commit needs one.
//!
//! A sync into blocks that were written before costs a device write less than one into appended or
//! merely allocated blocks, and a full disk shows here instead of in the middle of a commit.
//!
//! Invariants:
//!   * A ready file is durable, name included, and reads as zeros from end to end. After a failed
//!     sync of the folder none becomes ready any more.
//!   * A file's header is durable before a group is written into it, and says how long the file is.
//!   * A file serves once: it is never renamed, truncated, rewritten or used again.
//!   * Files are taken in the order of their numbers. One that is being filled while another is
//!     needed at once is overtaken, and given up.

use crate::disk::pace::Pace;
use crate::disk::piece::PIECE_BYTES;
use crate::disk::{Clock, Disk, File, SyncFailed, write_all_at};
use crate::error::{Error, Result};
use crate::format::group::WalHeader;
use crate::format::header::{FileContext, FileKind, HEADER_BLOCK_BYTES};
use crate::ids::{FileNumber, LogEnd, Lsn};
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder};
use crate::planted::{Mistake, planted};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why a file was not made.
#[derive(Debug)]
pub enum MakeError {
    /// It may be tried again.
    Failed(Error),
    /// The folder's sync failed: names may be lost, and not those of this file alone.
    NamesLost(Error),
}

impl From<Error> for MakeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl MakeError {
    /// Why, for whoever gives up in either case.
    pub fn into_error(self) -> Error {
        let (Self::Failed(error) | Self::NamesLost(error)) = self;
        error
    }
}

/// Gives out file numbers, each once.
#[derive(Debug)]
pub struct FileNumbers(AtomicU64);

impl FileNumbers {
    /// The first number given out is `next`.
    pub fn from(next: FileNumber) -> Self {
        Self(AtomicU64::new(next.0.max(1)))
    }

    /// A number that no file has had.
    pub fn take(&self) -> FileNumber {
        FileNumber(self.0.fetch_add(1, Ordering::Relaxed))
    }

    /// The number that would be given out next.
    pub fn peek(&self) -> FileNumber {
        FileNumber(self.0.load(Ordering::Relaxed))
    }
}

/// A WAL file that groups are written into.
#[derive(Debug)]
pub struct LogFile {
    /// Its number.
    pub number: FileNumber,
    /// Its salt, which seeds its checksums.
    pub salt: u64,
    /// Its length.
    pub bytes: u64,
    /// How it was filled.
    pub fill: Fill,
    /// The file itself.
    pub file: Arc<dyn File>,
}

impl LogFile {
    /// Its name.
    pub fn name(&self) -> FileName {
        FileName::Wal(self.number)
    }
}

/// How a file is filled with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// By real writes: syncs into it are cheaper later.
    Written,
    /// By allocation alone: quick, for when one is needed now.
    Allocated,
}

/// The files that stand ready.
#[derive(Debug)]
pub struct Pool {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    pace: Arc<Pace>,
    context: FileContext,
    numbers: Arc<FileNumbers>,
    file_bytes: u64,
    /// Guards the queue alone; a leaf lock.
    ready: Mutex<Ready>,
    /// Held while a file is filled ahead, so that two threads do not fill one each.
    filling: Mutex<()>,
    /// Held while a file is made that is needed now. Whoever waits for it needs one too; it never
    /// waits for one that is being filled, but for the sync of the folder at its end: whether that
    /// fails says whether this one's name is lost.
    hurrying: Mutex<()>,
    /// Files made because one was needed and none stood ready.
    late: AtomicU64,
    /// Set while nobody wants files filled ahead.
    is_ending: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Ready {
    /// Ascending by number.
    files: VecDeque<Arc<LogFile>>,
    /// The highest number that was ever in the queue.
    highest: FileNumber,
}

impl Ready {
    /// Adds a file, but not behind one with a higher number: numbers grow along the log.
    fn add(&mut self, file: LogFile) -> bool {
        let is_next = file.number > self.highest;
        if is_next {
            self.highest = file.number;
            self.files.push_back(Arc::new(file));
        }
        is_next
    }
}

impl Pool {
    /// An empty pool of files of `file_bytes` each. None is filled ahead while `is_ending`.
    pub fn new(
        (disk, pace): (Arc<dyn Disk>, Arc<Pace>),
        context: FileContext,
        numbers: Arc<FileNumbers>,
        file_bytes: u64,
        is_ending: Arc<AtomicBool>,
    ) -> Self {
        let clock = disk.clock();
        Self {
            disk,
            clock,
            pace,
            context,
            numbers,
            file_bytes,
            ready: Mutex::default(),
            filling: Mutex::new(()),
            hurrying: Mutex::new(()),
            late: AtomicU64::new(0),
            is_ending,
        }
    }

    /// The clock of the pool's disk.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Bytes that one file has for groups.
    pub fn group_room(&self) -> u64 {
        self.file_bytes - HEADER_BLOCK_BYTES
    }

    /// Whether a file stands ready.
    pub fn is_ready(&self) -> bool {
        !self.ready.lock().files.is_empty()
    }

    /// How many files stand ready.
    pub fn ready_count(&self) -> usize {
        self.ready.lock().files.len()
    }

    /// The numbers of the files that stand ready.
    pub fn ready_numbers(&self) -> Vec<FileNumber> {
        self.ready.lock().files.iter().map(|file| file.number).collect()
    }

    /// Whether the next file is full of written zeros.
    pub fn next_is_written(&self) -> bool {
        self.ready.lock().files.front().is_some_and(|file| file.fill == Fill::Written)
    }

    /// Takes the oldest ready file.
    pub fn take(&self) -> Option<Arc<LogFile>> {
        self.ready.lock().files.pop_front()
    }

    /// Makes a file ready if none is, as fast as can be.
    pub fn make_ready_now(&self) -> Result<(), MakeError> {
        let _hurrying = self.hurrying.lock();
        if self.is_ready() {
            return Ok(());
        }
        mark(Mark::PoolEmpty);
        self.late.fetch_add(1, Ordering::Relaxed);
        self.make(Fill::Allocated)
    }

    /// Removes the files that stand ready: behind the end of the log, where they would only take
    /// space until the next open removes them, and behind an open that has failed, for one that
    /// always fails must not pile them up.
    pub fn remove_ready(&self) {
        let files = std::mem::take(&mut self.ready.lock().files);
        for file in files {
            // What stays behind is removed by the next open.
            let _ = self.disk.remove(file.name());
        }
    }

    /// Files made because one was needed and none stood ready.
    pub fn late_files(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Makes one more file ready, unless another one overtakes it or nobody wants it any more.
    pub fn prepare(&self, fill: Fill) -> Result<(), MakeError> {
        let _filling = self.filling.lock();
        self.make(fill)
    }

    fn make(&self, fill: Fill) -> Result<(), MakeError> {
        let mut salt = [0; 8];
        self.disk.random(&mut salt).map_err(|cause| Error::io("drawing a salt", cause))?;
        let salt = u64::from_le_bytes(salt);
        let number = self.numbers.take();
        let name = FileName::Wal(number);
        // Nothing names the file yet; if it stays behind, the next open removes it.
        let give_up = || drop(self.disk.remove(name));
        let file = self.fill(number, fill).inspect_err(|_| give_up())?;
        let file = file.map(|file| LogFile { number, salt, bytes: self.file_bytes, fill, file });
        let is_ready = file.is_some_and(|file| self.ready.lock().add(file));
        if !is_ready {
            mark(Mark::FileOvertaken);
            give_up();
        }
        Ok(())
    }

    /// Makes the file and its name durable; none when another one overtakes it, or when it is not
    /// wanted any more.
    fn fill(&self, number: FileNumber, fill: Fill) -> Result<Option<Arc<dyn File>>, MakeError> {
        let name = FileName::Wal(number);
        let failed = |cause| Error::io(format!("preparing {name}"), cause);
        let file = self.disk.create(name).map_err(failed)?;
        file.allocate(self.file_bytes).map_err(failed)?;
        // Nobody reads the log while it grows but recovery, and that asks the medium.
        file.bypass_cache();
        if fill == Fill::Written {
            let zeros = vec![0; PIECE_BYTES];
            let mut offset = 0;
            while offset < self.file_bytes {
                let is_overtaken = self.ready.lock().highest > number;
                if is_overtaken || self.is_ending.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let piece = (self.file_bytes - offset).min(PIECE_BYTES as u64);
                self.pace.spend(piece);
                let bytes = &zeros[..usize::try_from(piece).unwrap_or(PIECE_BYTES)];
                write_all_at(&*file, bytes, offset).map_err(failed)?;
                file.start_writeback(offset..offset + piece).map_err(failed)?;
                offset += piece;
            }
        }
        file.sync().map_err(|SyncFailed(cause)| failed(cause))?;
        if !planted(Mistake::SkipFolderSync) {
            let synced = self.disk.sync_folder(Folder::Wal);
            synced.map_err(|SyncFailed(cause)| MakeError::NamesLost(failed(cause)))?;
        }
        Ok(Some(file))
    }

    /// Takes a ready file into use: its header says exactly where its predecessor ends.
    pub fn write_header(&self, file: &LogFile, predecessor: LogEnd, first_lsn: Lsn) -> Result<()> {
        let header = self.context.header(FileKind::Wal, file.number, file.salt);
        let bytes = WalHeader { header, predecessor, first_lsn, bytes: file.bytes }.encode();
        let failed = |cause| Error::io(format!("writing the header of {}", file.name()), cause);
        write_all_at(&*file.file, &bytes, 0).map_err(failed)?;
        file.file.sync().map_err(|SyncFailed(cause)| failed(cause))
    }

    /// The first file of a term, its header durable, ready for groups.
    pub fn start(&self, end: LogEnd, first_lsn: Lsn) -> Result<Arc<LogFile>> {
        self.make_ready_now().map_err(MakeError::into_error)?;
        let none = || Error::io("taking a WAL file into use", std::io::ErrorKind::NotFound.into());
        let file = self.take().ok_or_else(none)?;
        // Nothing is in it: an open that always fails here must not pile up files.
        let headed = self.write_header(&file, end, first_lsn);
        headed.inspect_err(|_| drop(self.disk.remove(file.name())))?;
        Ok(file)
    }
}

//! The seam to the machine: files, folders, maps, time and randomness.
//!
//! Everything above reaches the machine through these traits and through nothing else, so the same
//! engine runs on the operating system ([`real`]) and on a simulated disk ([`sim`]).
//!
//! What is assumed of the media: a sector of 512 bytes is written whole or not at all; a rename is
//! atomic; what was synced stays. Nothing is assumed of the order in which unsynced sectors and
//! names reach the medium, nor of the page cache after a failed sync.
//!
//! Invariants:
//!   * A name is durable only after its folder is synced; a file's bytes only after the file is.
//!   * A [`SyncFailed`] does not become an `io::Error` by `?`: nobody retries a sync by accident.
//!   * Whoever holds only a [`ReadDisk`] cannot change a byte.

pub mod bytes;
pub mod crew;
mod direct;
pub mod fail_stop;
pub mod fresh;
mod mapped;
pub mod pace;
pub mod piece;
pub mod real;
pub mod sim;
#[cfg(feature = "admin")]
pub mod socket;
pub mod streamed;
pub mod unmapped;

use crate::names::{FileName, Folder};
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A sync that failed: what it should have made durable may be lost, and a retry would lie.
#[derive(Debug)]
pub struct SyncFailed(pub io::Error);

impl fmt::Display for SyncFailed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sync failed: {}", self.0)
    }
}

impl std::error::Error for SyncFailed {}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name as found; foreign names are listed too.
    pub leaf: String,
    /// Bytes in the file; zero for what is not a regular file.
    pub bytes: u64,
}

/// A store's folder, for reading.
pub trait ReadDisk: Send + Sync + fmt::Debug {
    /// Opens a file for reading. Refuses what is not a regular file, symbolic links included.
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>>;

    /// The names in a folder, in no order. A folder that does not exist is `NotFound`.
    fn list(&self, folder: Folder) -> io::Result<Vec<Listed>>;

    /// The clock of this disk's machine.
    fn clock(&self) -> Arc<dyn Clock>;

    /// What the lock file says of its holder, if another holds the lock now.
    fn lock_holder(&self) -> io::Result<Option<String>>;
}

/// A store's folder, for writing.
pub trait Disk: ReadDisk + Any {
    /// Takes the store's lock, which is given back when the value is dropped. `Ok(Err(holder))`
    /// when another has it, with what the holder wrote about itself.
    fn lock(&self) -> io::Result<Result<Box<dyn Lock>, String>>;

    /// Makes the store's folders where they are missing.
    fn make_folders(&self) -> io::Result<()>;

    /// Creates a file that must not exist, open for reading and writing.
    fn create(&self, name: FileName) -> io::Result<Arc<dyn File>>;

    /// Opens a file to read what is on the medium, not what the page cache remembers: after a
    /// failed sync the two differ, even for another process.
    fn open_medium(&self, name: FileName) -> Result<Arc<dyn ReadFile>, MediumError>;

    /// Renames a file over another, atomically.
    fn rename(&self, from: FileName, to: FileName) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: FileName) -> io::Result<()>;

    /// Makes the names in a folder durable. A failure may be told once only, whoever made the names
    /// that were lost.
    fn sync_folder(&self, folder: Folder) -> Result<(), SyncFailed>;

    /// Bytes that may still be written, and bytes in all.
    fn space(&self) -> io::Result<Space>;

    /// Fills `bytes` with randomness.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// Gives a sealed file the same name on `to` as well, without copying it. `Unsupported` where
    /// the two disks are not folders of one file system.
    fn link(&self, _name: FileName, _to: &dyn Disk) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether a path of the operating system leads to this folder or into it. What does not exist
    /// yet is where its parent is.
    fn holds(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }

    /// Listens in the folder for operators. Only for whoever holds the lock. `Unsupported` where
    /// the machine tells of no user who is at the other end.
    #[cfg(feature = "admin")]
    fn listen(&self) -> io::Result<socket::Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Why [`Disk::open_medium`] failed.
#[derive(Debug)]
pub enum MediumError {
    /// The file could not be opened.
    Open(io::Error),
    /// What the page cache held could not be made durable first.
    Sync(SyncFailed),
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Those and all that are in use; without what the system keeps back from this process.
    pub total: u64,
}

impl Space {
    /// Of a file system of so many blocks, of which some are free, and some of those for this
    /// process. The rest of the free ones nobody uses, and this process cannot have them.
    fn of_blocks([blocks, free, available]: [u64; 3], block_bytes: u64) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
        let used = blocks.saturating_sub(free);
        Self { free: bytes(available), total: bytes(used.saturating_add(available)) }
    }
}

/// Holding one means being the only writer.
pub trait Lock: Send + Sync + fmt::Debug {}

/// An open file, for reading.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// Bytes in the file now.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads at `offset`. May be short; zero at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Maps the first `bytes` bytes. Only for files that are sealed, synced and never written
    /// again.
    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>>;

    /// Says that what is read and written by this handle from now on is not needed again soon, so
    /// that the system need not keep it in memory. A hint.
    fn bypass_cache(&self) {}

    /// Asks the system to forget what it remembers of a range, so that the next read asks the
    /// medium. Only for files that are sealed and synced. A hint: what is mapped and in use stays.
    fn forget(&self, _range: Range<u64>) {}

    /// Says that a range will be read soon: what reads it then may not have to wait. A hint.
    fn will_read(&self, _range: Range<u64>) {}
}

/// An open file, for writing.
pub trait File: ReadFile {
    /// Writes at `offset`. May be short. Readers and maps of this machine see it at once.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the file `bytes` long with blocks allocated; new bytes read as zeros. Later writes
    /// inside it do not run out of space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Gives back the blocks of a range that is all zeros and is never written again; it reads as
    /// zeros ever after. A hint: what a file system cannot give back it keeps.
    fn release_zeros(&self, _range: Range<u64>) {}

    /// Asks for write-back of a range to begin. A hint; promises nothing.
    fn start_writeback(&self, range: Range<u64>) -> io::Result<()>;

    /// Makes the file's bytes and length durable, but not its name.
    fn sync(&self) -> Result<(), SyncFailed>;
}

/// The bytes of a sealed file.
pub trait Map: Send + Sync + fmt::Debug {
    /// The bytes of `range`; `InvalidInput` beyond the end. Borrowed where the memory is shared.
    /// Fails where the medium cannot read them; bytes that were handed out once stay readable as
    /// long as the system keeps them in memory.
    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;

    /// All the bytes, where the memory is shared with the operating system; none in a simulation.
    /// Only what `slice` has handed out may be looked at.
    fn memory(&self) -> Option<&[u8]>;

    /// Bytes mapped.
    fn bytes(&self) -> u64;

    /// Asks for a range to be brought into memory in few large reads. A hint.
    fn will_need(&self, _range: Range<u64>) {}
}

/// Time, as one machine tells it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Microseconds since 1970, UTC. May jump either way.
    fn wall_micros(&self) -> u64;

    /// Time since some fixed moment. Never goes back.
    fn uptime(&self) -> Duration;

    /// Lets `duration` pass.
    fn sleep(&self, duration: Duration);
}

/// How often in a row a call may be interrupted: a signal comes now and then, and what comes each
/// time would keep its caller for ever.
const INTERRUPTIONS_MAX: u32 = 100;

/// Calls again what a signal interrupts.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    for _ in 0..INTERRUPTIONS_MAX {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            called => return called,
        }
    }
    Err(io::Error::other(format!("interrupted {INTERRUPTIONS_MAX} times in a row")))
}

/// Reads exactly `buffer`, through short reads; `UnexpectedEof` past the end.
pub fn read_exact_at(
    file: &dyn ReadFile,
    mut buffer: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match uninterrupted(|| file.read_at(buffer, offset))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}

/// Whether the medium itself did not give bytes back. A call that failed for want of something
/// else, as descriptors or memory, says nothing of the bytes.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Asks the medium once more for what it did not give: a bus or a link may have had a bad moment.
pub fn ask_twice<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    ask().or_else(|error| if is_unreadable(&error) { ask() } else { Err(error) })
}

/// Writes all of `bytes`, through short writes.
pub fn write_all_at(file: &dyn File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match uninterrupted(|| file.write_at(bytes, offset))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::sim::{Faults, SimDisk};
    use super::{Disk, FileName, Space, read_exact_at, write_all_at};
    use crate::ids::FileNumber;

    #[test]
    fn a_call_that_is_always_interrupted_fails_and_says_so() {
        let disk = SimDisk::new(1);
        disk.make_folders().unwrap();
        let file = disk.create(FileName::Wal(FileNumber(1))).unwrap();
        let mut bytes = [7; 9];
        write_all_at(&*file, &bytes, 0).unwrap();
        disk.set_faults(Faults { interrupted: 0.9, ..Faults::none() });
        write_all_at(&*file, &bytes, 0).unwrap();
        disk.set_faults(Faults { interrupted: 1.0, ..Faults::none() });
        for failed in [write_all_at(&*file, &[7], 0), read_exact_at(&*file, &mut bytes, 0)] {
            assert!(failed.unwrap_err().to_string().contains("interrupted"));
        }
    }

    #[test]
    fn what_the_system_keeps_back_is_neither_in_use_nor_there() {
        let Space { free, total } = Space::of_blocks([100, 60, 10], 4096);
        assert_eq!((free, total), (10 * 4096, 50 * 4096));
    }
}

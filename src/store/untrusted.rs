//! Reading a store that somebody unknown has written, or may be changing.
//!
//! Invariants:
//!   * Nothing of such a store is shown before all of it was verified.
//!   * Memory is taken for no more bytes than the bounds allow, and nothing is mapped.

use crate::disk::unmapped::Unmapped;
use crate::disk::{Listed, ReadDisk};
use crate::error::{Error, Result};
use crate::inspect::{Depth, is_there, verify_shared};
use crate::names::{FileName, Folder};
use std::io;
use std::sync::Arc;

/// How far a reader believes the files of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// They are what a store wrote, but for accidents. What is damaged fails where it is read.
    #[default]
    Trusted,
    /// Anybody may have written them, or may be changing them. They are verified whole first, and
    /// any fault refuses the store; then each read checks again what it reads, and maps nothing.
    Untrusted(Bounds),
}

/// How much a store may be, of which nobody knows who wrote it.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// # dostore::store::Store::open(&path)?.close()?;
/// use dostore::store::reader::Reader;
/// use dostore::store::untrusted::{Bounds, OpenMode};
///
/// let bounds = Bounds::new().store_bytes(10 << 30);
/// let reader = Reader::open_with(&path, OpenMode::Untrusted(bounds))?;
/// # assert_eq!(reader.namespaces().len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Bounds {
    store_bytes: u64,
    memory_bytes: u64,
}

impl Bounds {
    /// 64 GiB of files, of which 1 GiB may have to be in memory.
    pub fn new() -> Self {
        Self { store_bytes: 64 << 30, memory_bytes: 1 << 30 }
    }

    /// Bytes that all files of the store may have together: they are read whole before it is
    /// shown, so this bounds the time that opening it takes.
    pub fn store_bytes(mut self, bytes: u64) -> Self {
        self.store_bytes = bytes;
        self
    }

    /// Bytes that the files of the log and the sorted runs may have together: a reader has of them
    /// in memory what an honest store has little of, and a forged one as much as there is.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Fails where the files of a store are more than that.
    fn check(self, disk: &dyn ReadDisk) -> Result<()> {
        let (mut all, mut held) = (0_u64, 0_u64);
        for folder in Folder::ALL {
            for Listed { leaf, bytes } in listed(disk, folder)? {
                let Some(name) = FileName::parse(folder, &leaf) else { continue };
                all = all.saturating_add(bytes);
                if matches!(name, FileName::Wal(_) | FileName::Run(_) | FileName::Manifest) {
                    held = held.saturating_add(bytes);
                }
            }
        }
        for (what, has, most) in
            [("files", all, self.store_bytes), ("log, runs and manifest", held, self.memory_bytes)]
        {
            if has > most {
                let what = format!("{what} have {has} bytes, {most} are allowed");
                return Err(Error::invalid("untrusted.large", what));
            }
        }
        Ok(())
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new()
    }
}

fn listed(disk: &dyn ReadDisk, folder: Folder) -> Result<Vec<Listed>> {
    match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|cause| Error::io(format!("listing {folder:?}"), cause)),
    }
}

impl OpenMode {
    /// The disk, as it is read in this mode.
    pub(super) fn guard(self, disk: impl ReadDisk + 'static) -> Arc<dyn ReadDisk> {
        match self {
            Self::Trusted => Arc::new(disk),
            Self::Untrusted(_) => Arc::new(Unmapped::new(disk)),
        }
    }

    /// Fails where the mode forbids to read the store at all.
    pub(super) fn check(self, disk: &Arc<dyn ReadDisk>) -> Result<()> {
        let Self::Untrusted(bounds) = self else { return Ok(()) };
        bounds.check(&**disk)?;
        if !is_there(&**disk)? {
            // That there is no store is for the open itself to say.
            return Ok(());
        }
        let report = verify_shared(disk, Depth::Everything);
        let Some(first) = report.faults.first() else { return Ok(()) };
        let what = format!("verification says {}; the first: {}", report.conclusion(), first.what);
        Err(Error::corrupt("untrusted.damaged", what, first.place.clone()))
    }
}

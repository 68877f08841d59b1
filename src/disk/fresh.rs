//! A disk of which each byte is asked of the medium, as far as the system allows: for whoever looks
//! for damage.
//!
//! What the system remembers of a file hides what the medium has become. So it is asked to forget
//! each range before that is read; only what is mapped and in use stays, and hides damage for as
//! long as it does.
//!
//! Invariants:
//!   * A read gives what any read gives: to forget is a hint and changes no byte.

use super::{Clock, Listed, Map, ReadDisk, ReadFile};
use crate::names::{FileName, Folder};
use std::io;
use std::sync::Arc;

/// What a system remembers and forgets as one.
const PAGE_BYTES: u64 = 4096;

/// A disk, read past what is remembered of it. Its maps are not: see [`super::unmapped`].
#[derive(Debug)]
pub struct Fresh(Arc<dyn ReadDisk>);

impl Fresh {
    /// The same disk.
    pub fn new(disk: Arc<dyn ReadDisk>) -> Self {
        Self(disk)
    }
}

impl ReadDisk for Fresh {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(FreshFile(self.0.open(name)?)))
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
struct FreshFile(Arc<dyn ReadFile>);

impl ReadFile for FreshFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset.saturating_add(buffer.len() as u64);
        if offset < end {
            let start = offset / PAGE_BYTES * PAGE_BYTES;
            self.0.forget(start..end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(end));
        }
        self.0.read_at(buffer, offset)
    }

    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>> {
        self.0.map(bytes)
    }
}

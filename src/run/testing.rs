//! A disk in memory, with just what runs ask of one.
//!
//! Invariants:
//!   * A file that is mapped is a copy of what was written until then.

use crate::disk::pace::Pace;
use crate::disk::{
    Clock, Disk, File, Listed, Lock, Map, MediumError, ReadDisk, ReadFile, Space, SyncFailed,
};
use crate::error::Result;
use crate::format::header::FileContext;
use crate::format::run::{RunFacts, RunUse};
use crate::ids::{FileNumber, StoreId, Term};
use crate::names::{FileName, Folder};
use crate::run::{Run, RunWriter};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const STORE: StoreId = StoreId([5; 16]);

#[derive(Debug)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<FileName, Arc<MemoryFile>>>,
    shared: bool,
    next: AtomicU64,
}

#[derive(Debug)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    shared: bool,
}

#[derive(Debug)]
pub(crate) struct MemoryMap {
    bytes: Vec<u8>,
    shared: bool,
}

#[derive(Debug)]
struct NoClock;

impl MemoryDisk {
    /// A disk whose maps are memory (`shared`) or copies.
    pub(crate) fn new(shared: bool) -> Self {
        Self { files: Mutex::default(), shared, next: AtomicU64::new(1) }
    }

    pub(crate) fn writer(&self, usage: RunUse) -> RunWriter {
        let number = FileNumber(self.next.fetch_add(1, Ordering::Relaxed));
        let context = FileContext { store: STORE, term: Term(1) };
        let pace = Arc::new(Pace::new(Arc::new(NoClock)));
        RunWriter::create(self, pace, context, number, usage).unwrap()
    }

    pub(crate) fn open_run(&self, facts: &RunFacts) -> Result<Arc<Run>> {
        Run::open(self, STORE, facts)
    }

    /// Flips bits of one byte of a file.
    pub(crate) fn flip(&self, name: FileName, offset: usize, bits: u8) {
        self.files.lock()[&name].bytes.lock()[offset] ^= bits;
    }

    pub(crate) fn change(&self, name: FileName, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.files.lock()[&name].bytes.lock());
    }

    pub(crate) fn truncate(&self, name: FileName, bytes: usize) {
        self.files.lock()[&name].bytes.lock().truncate(bytes);
    }
}

impl ReadDisk for MemoryDisk {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        let file = self.files.lock().get(&name).cloned();
        file.map(|file| file as _).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: Folder) -> io::Result<Vec<Listed>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(NoClock)
    }

    fn lock_holder(&self) -> io::Result<Option<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<std::result::Result<Box<dyn Lock>, String>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn make_folders(&self) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, name: FileName) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemoryFile { bytes: Mutex::default(), shared: self.shared });
        self.files.lock().insert(name, Arc::clone(&file));
        Ok(file)
    }

    fn open_medium(&self, name: FileName) -> std::result::Result<Arc<dyn ReadFile>, MediumError> {
        self.open(name).map_err(MediumError::Open)
    }

    fn rename(&self, _: FileName, _: FileName) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: FileName) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_folder(&self, _: Folder) -> std::result::Result<(), SyncFailed> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(0xA7);
        Ok(())
    }
}

impl ReadFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>> {
        let bytes = self.bytes.lock()[..usize::try_from(bytes).unwrap()].to_vec();
        Ok(Arc::new(MemoryMap { bytes, shared: self.shared }))
    }
}

impl File for MemoryFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut file = self.bytes.lock();
        assert_eq!(offset, file.len() as u64, "a run is written from its beginning to its end");
        file.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn start_writeback(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> std::result::Result<(), SyncFailed> {
        Ok(())
    }
}

impl Map for MemoryMap {
    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let bytes = self.bytes.get(range).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(if self.shared { Cow::Borrowed(bytes) } else { Cow::Owned(bytes.to_vec()) })
    }

    fn memory(&self) -> Option<&[u8]> {
        self.shared.then_some(&self.bytes)
    }

    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Clock for NoClock {
    fn wall_micros(&self) -> u64 {
        0
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) {}
}

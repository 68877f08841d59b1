//! A simulated disk that lets something else happen in the middle of a step: what two threads would
//! do at once, in an order that is chosen.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::sim::SimDisk;
use dostore::disk::{Clock, Disk, File, Listed, Lock, MediumError, ReadDisk, ReadFile};
use dostore::disk::{Space, SyncFailed};
use dostore::names::{FileName, Folder};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A call before which something else can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A run is created.
    CreateRun,
    /// A file of pages is created.
    CreateSegment,
    /// A file of the log is created: the first step of making it ready.
    CreateLog,
    /// The names of the store's folder are synced, with no manifest on its way.
    SyncRoot,
    /// A manifest is written.
    CreateManifest,
    /// A file of pages is opened.
    OpenSegment,
}

type Hook = Box<dyn FnOnce(Option<FileName>) + Send>;

/// A disk that does something else first when a chosen call comes.
#[derive(Clone)]
pub struct Interposed {
    pub disk: SimDisk,
    next: Arc<Mutex<Option<(Point, Hook)>>>,
    /// The clock, if it is another one than the disk's.
    clock: Option<Arc<dyn Clock>>,
    /// Whether a file was renamed since the last sync of the store's folder.
    is_renamed: Arc<AtomicBool>,
}

impl Interposed {
    pub fn new(disk: SimDisk) -> Self {
        Self { disk, next: Arc::default(), clock: None, is_renamed: Arc::default() }
    }

    /// The same disk with another clock.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Runs `hook` before the next call of this kind, once.
    pub fn before_next(&self, point: Point, hook: impl FnOnce(Option<FileName>) + Send + 'static) {
        *self.next.lock().unwrap() = Some((point, Box::new(hook)));
    }

    fn reach(&self, point: Point, name: Option<FileName>) {
        let hook = self.next.lock().unwrap().take_if(|(next, _)| *next == point);
        if let Some((_, hook)) = hook {
            hook(name);
        }
    }
}

impl fmt::Debug for Interposed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(out)
    }
}

impl ReadDisk for Interposed {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        if matches!(name, FileName::Segment(_)) {
            self.reach(Point::OpenSegment, Some(name));
        }
        self.disk.open(name)
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<Listed>> {
        self.disk.list(folder)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(|| self.disk.clock())
    }

    fn lock_holder(&self) -> io::Result<Option<String>> {
        self.disk.lock_holder()
    }
}

impl Disk for Interposed {
    fn lock(&self) -> io::Result<Result<Box<dyn Lock>, String>> {
        self.disk.lock()
    }

    fn make_folders(&self) -> io::Result<()> {
        self.disk.make_folders()
    }

    fn create(&self, name: FileName) -> io::Result<Arc<dyn File>> {
        if matches!(name, FileName::Run(_)) {
            self.reach(Point::CreateRun, Some(name));
        }
        if matches!(name, FileName::Segment(_)) {
            self.reach(Point::CreateSegment, Some(name));
        }
        if name == FileName::ManifestTemporary {
            self.reach(Point::CreateManifest, Some(name));
        }
        if matches!(name, FileName::Wal(_)) {
            self.reach(Point::CreateLog, Some(name));
        }
        self.disk.create(name)
    }

    fn open_medium(&self, name: FileName) -> Result<Arc<dyn ReadFile>, MediumError> {
        self.disk.open_medium(name)
    }

    fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        self.is_renamed.store(true, Ordering::Relaxed);
        self.disk.rename(from, to)
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_folder(&self, folder: Folder) -> Result<(), SyncFailed> {
        if folder == Folder::Root && !self.is_renamed.swap(false, Ordering::Relaxed) {
            self.reach(Point::SyncRoot, None);
        }
        self.disk.sync_folder(folder)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.random(bytes)
    }
}

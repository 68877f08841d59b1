//! A disk as one life of a store uses it: its folders fail once and for all, and without the
//! store's lock it touches no name.
//!
//! A folder keeps the names of what all threads make in it, and the system tells of a name that it
//! could not write once only: to whoever syncs the folder next, and not to who made the file. A
//! sync behind that succeeds without the name. So after the first failure nothing may be built on
//! any name of the folder, and here none of its syncs succeeds any more.
//!
//! Invariants:
//!   * Whatever a disk can do, this one does by it, the calls included that a disk may leave out.
//!   * No sync of a folder succeeds after one of it that failed.
//!   * Once the lock is given back no file is created, renamed or removed: another writer may be in
//!     the folder, whose files have the numbers that this one would take next. Nor is a file that
//!     is not there taken for a loss.

use super::{Clock, Disk, File, Listed, Lock, MediumError, ReadDisk, ReadFile, Space, SyncFailed};
use crate::error::LockGivenBack;
use crate::names::{FileName, Folder};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A disk, as one life of a store uses it.
#[derive(Debug)]
pub struct FailStop {
    disk: Arc<dyn Disk>,
    /// By folder: whether a sync of it has failed. Held for a sync.
    has_failed: [Mutex<bool>; Folder::ALL.len()],
    /// Whether the lock was given back. Read while a name changes.
    is_released: Arc<RwLock<bool>>,
}

/// The store's lock. Given back once no name is being changed, and none can be any more.
#[derive(Debug)]
struct Held {
    lock: Option<Box<dyn Lock>>,
    is_released: Arc<RwLock<bool>>,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        *self.is_released.write() = true;
        drop(self.lock.take());
    }
}

impl FailStop {
    /// The same disk, none of whose folders has failed so far.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, has_failed: Default::default(), is_released: Arc::default() }
    }

    /// Held while a name changes.
    fn hold_names(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let is_released = self.is_released.read();
        if *is_released {
            return Err(io::Error::other(LockGivenBack));
        }
        Ok(is_released)
    }
}

impl ReadDisk for FailStop {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        self.disk.open(name).map_err(|error| match error.kind() {
            // Perhaps the next writer has removed it, which knows of nobody here.
            io::ErrorKind::NotFound if *self.is_released.read() => io::Error::other(LockGivenBack),
            _ => error,
        })
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<Listed>> {
        self.disk.list(folder)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.disk.clock()
    }

    fn lock_holder(&self) -> io::Result<Option<String>> {
        self.disk.lock_holder()
    }
}

impl Disk for FailStop {
    fn lock(&self) -> io::Result<Result<Box<dyn Lock>, String>> {
        let taken = self.disk.lock()?;
        Ok(taken.map(|lock| {
            let held = Held { lock: Some(lock), is_released: Arc::clone(&self.is_released) };
            Box::new(held) as Box<dyn Lock>
        }))
    }

    fn make_folders(&self) -> io::Result<()> {
        self.disk.make_folders()
    }

    fn create(&self, name: FileName) -> io::Result<Arc<dyn File>> {
        let _names = self.hold_names()?;
        self.disk.create(name)
    }

    fn open_medium(&self, name: FileName) -> Result<Arc<dyn ReadFile>, MediumError> {
        self.disk.open_medium(name)
    }

    fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        let _names = self.hold_names()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        let _names = self.hold_names()?;
        self.disk.remove(name)
    }

    fn sync_folder(&self, folder: Folder) -> Result<(), SyncFailed> {
        let mut has_failed = self.has_failed[folder as usize].lock();
        if *has_failed {
            let what = "an earlier sync of the folder failed, and names may be lost";
            return Err(SyncFailed(io::Error::other(what)));
        }
        let synced = self.disk.sync_folder(folder);
        *has_failed = synced.is_err();
        synced
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.random(bytes)
    }

    fn link(&self, name: FileName, to: &dyn Disk) -> io::Result<()> {
        self.disk.link(name, to)
    }

    fn holds(&self, path: &Path) -> io::Result<bool> {
        self.disk.holds(path)
    }

    #[cfg(feature = "admin")]
    fn listen(&self) -> io::Result<super::socket::Listener> {
        self.disk.listen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};
    use crate::error::{Error, ErrorKind};
    use crate::ids::FileNumber;

    #[test]
    fn without_the_lock_no_name_is_touched() {
        let sim = SimDisk::new(1);
        sim.make_folders().unwrap();
        let disk = FailStop::new(Arc::new(sim.clone()));
        let name = |number| FileName::Wal(FileNumber(number));
        let lock = disk.lock().unwrap().unwrap();
        disk.create(name(1)).unwrap();
        drop(lock);
        let _other = sim.lock().unwrap().unwrap();
        sim.create(name(2)).unwrap();
        disk.create(name(3)).unwrap_err();
        disk.rename(name(1), name(3)).unwrap_err();
        disk.remove(name(2)).unwrap_err();
        sim.remove(name(1)).unwrap();
        let gone = Error::io("reading", disk.open(name(1)).unwrap_err());
        assert_eq!((gone.kind(), gone.code()), (ErrorKind::Broken, "store.closed"));
        assert!(disk.open(name(2)).is_ok());
        assert_eq!(sim.names(), [FileName::Lock, name(2)]);
    }

    #[test]
    fn a_folder_whose_sync_failed_is_never_synced_again() {
        let sim = SimDisk::new(1);
        sim.make_folders().unwrap();
        let disk = FailStop::new(Arc::new(sim.clone()));
        disk.sync_folder(Folder::Runs).unwrap();
        sim.fail_call(1, Fault::Io);
        disk.sync_folder(Folder::Runs).unwrap_err();
        let calls = sim.calls();
        disk.sync_folder(Folder::Runs).unwrap_err();
        assert_eq!(sim.calls(), calls);
        disk.sync_folder(Folder::Wal).unwrap();
    }
}

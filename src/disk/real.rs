//! The operating system's disk and clock.
//!
//! Invariants:
//!   * The store's folder is opened once; every file is reached from that descriptor by an
//!     engine-made name, never through a symbolic link, and only regular files are opened.
//!   * A new file is readable and writable by its owner only.
//!   * `LOCK` is never removed, so two holders cannot hold two files of that name.

use super::mapped::MappedFile;
use super::{
    Clock, Disk, File, Listed, Lock, Map, MediumError, ReadDisk, ReadFile, Space, SyncFailed,
    direct,
};
use crate::names::{FileName, Folder};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Advice, AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::any::Any;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a lock that another holds is asked for: a killed process may linger for a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
const LOCK_STEP: Duration = Duration::from_millis(10);
/// What is read of the holder's words about itself.
const HOLDER_BYTES: usize = 128;
static ZEROS: [u8; 65536] = [0; 65536];

/// A path that a user gave may lead through symbolic links.
const ROOT_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FOLDER_FLAGS: OFlags = ROOT_FLAGS.union(OFlags::NOFOLLOW);
/// Not blocking, so that a pipe under a file's name is refused instead of waited for.
const FILE_FLAGS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A store's folder on the operating system's disk, for reading only.
#[derive(Debug)]
pub struct RealReadDisk {
    root: OwnedFd,
    /// `wal`, `seg` and `run`, opened at first use.
    folders: [OnceLock<OwnedFd>; 3],
    clock: Arc<RealClock>,
}

impl RealReadDisk {
    /// Opens an existing folder. The path itself may lead through symbolic links.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let root = fs::open(path.as_ref(), ROOT_FLAGS, Mode::empty())?;
        let folders = [const { OnceLock::new() }; 3];
        Ok(Self { root, folders, clock: Arc::new(RealClock::new()) })
    }

    fn folder(&self, folder: Folder) -> io::Result<BorrowedFd<'_>> {
        let slot = match folder {
            Folder::Root => return Ok(self.root.as_fd()),
            Folder::Wal => &self.folders[0],
            Folder::Segments => &self.folders[1],
            Folder::Runs => &self.folders[2],
        };
        if let Some(open) = slot.get() {
            return Ok(open.as_fd());
        }
        let open = fs::openat(&self.root, folder.path(), FOLDER_FLAGS, Mode::empty())?;
        Ok(slot.get_or_init(|| open).as_fd())
    }

    fn open_with(&self, name: FileName, flags: OFlags) -> io::Result<OwnedFd> {
        let folder = self.folder(name.folder())?;
        let descriptor =
            retry_on_intr(|| fs::openat(folder, name.leaf(), FILE_FLAGS | flags, FILE_MODE))?;
        let mode = fs::fstat(&descriptor)?.st_mode;
        if !FileType::from_raw_mode(mode).is_file() {
            let what = format!("{name} is not a regular file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(descriptor)
    }
}

impl ReadDisk for RealReadDisk {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        let descriptor = self.open_with(name, OFlags::RDONLY)?;
        // A read fetches what it asks for: neighbours on the medium are other objects.
        advise(&descriptor, 0..0, Advice::Random);
        Ok(Arc::new(RealFile::new(descriptor)))
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<Listed>> {
        let folder = self.folder(folder)?;
        let mut found = Vec::new();
        for entry in fs::Dir::read_from(folder)? {
            let entry = entry?;
            let leaf = entry.file_name();
            if leaf == c"." || leaf == c".." {
                continue;
            }
            let bytes = match fs::statat(folder, leaf, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) if FileType::from_raw_mode(status.st_mode).is_file() => {
                    status.st_size.cast_unsigned()
                }
                Ok(_) => 0,
                // Removed since it was listed.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            found.push(Listed { leaf: leaf.to_string_lossy().into_owned(), bytes });
        }
        Ok(found)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::<RealClock>::clone(&self.clock)
    }

    fn lock_holder(&self) -> io::Result<Option<String>> {
        let descriptor = match self.open_with(FileName::Lock, OFlags::RDONLY) {
            Ok(descriptor) => descriptor,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match retry_on_intr(|| fs::flock(&descriptor, FlockOperation::NonBlockingLockShared)) {
            // A writer that comes at this very moment asks again within its patience.
            Ok(()) => {
                fs::flock(&descriptor, FlockOperation::Unlock)?;
                Ok(None)
            }
            Err(Errno::WOULDBLOCK) => Ok(Some(holder(&descriptor))),
            Err(error) => Err(error.into()),
        }
    }
}

/// A store's folder on the operating system's disk.
#[derive(Debug)]
pub struct RealDisk {
    disk: RealReadDisk,
}

impl RealDisk {
    /// Opens an existing folder.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { disk: RealReadDisk::open(path)? })
    }

    /// Opens a folder, which is made if it is missing; its parent must exist. The folder's own name
    /// is durable after that.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let is_new = match fs::mkdir(path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let parent = fs::open(parent(path), ROOT_FLAGS, Mode::empty());
        match parent.and_then(fs::fsync) {
            Ok(()) => {}
            // The name is the concern of who made it where the parent is not ours to read.
            Err(Errno::ACCESS) if !is_new => {}
            Err(error) => {
                // The next to come would take a name that may be lost for somebody else's.
                if is_new {
                    let _ = fs::rmdir(path);
                }
                return Err(error.into());
            }
        }
        Self::open(path)
    }

    /// Whether the name `LOCK` still leads to the file that was locked.
    fn is_lock(&self, descriptor: &OwnedFd) -> io::Result<bool> {
        let locked = fs::fstat(descriptor)?;
        match fs::statat(&self.disk.root, FileName::Lock.leaf(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn introduce(&self, descriptor: &OwnedFd) -> io::Result<()> {
        let process = rustix::process::getpid().as_raw_nonzero();
        let seconds = self.disk.clock.wall_micros() / 1_000_000;
        let words = format!("process {process}, since second {seconds} of Unix time\n");
        // With another name it may be anybody's, linked here by who made the folder.
        if fs::fstat(descriptor)?.st_nlink == 1 {
            fs::ftruncate(descriptor, 0)?;
            retry_on_intr(|| rustix::io::pwrite(descriptor, words.as_bytes(), 0))?;
        }
        Ok(())
    }
}

/// What the holder wrote about itself, for a message only.
fn holder(descriptor: &OwnedFd) -> String {
    let mut words = [0; HOLDER_BYTES];
    let read = rustix::io::pread(descriptor, &mut words, 0).unwrap_or(0);
    let words = String::from_utf8_lossy(&words[..read]);
    words.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').collect()
}

impl ReadDisk for RealDisk {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        self.disk.open(name)
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

impl Disk for RealDisk {
    fn lock(&self) -> io::Result<Result<Box<dyn Lock>, String>> {
        let give_up = self.disk.clock.uptime() + LOCK_PATIENCE;
        loop {
            let descriptor = self.disk.open_with(FileName::Lock, OFlags::RDWR | OFlags::CREATE)?;
            match fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if self.is_lock(&descriptor)? => {
                    self.introduce(&descriptor)?;
                    return Ok(Ok(Box::new(RealLock { descriptor })));
                }
                Ok(()) | Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if self.disk.clock.uptime() >= give_up {
                return Ok(Err(holder(&descriptor)));
            }
            self.disk.clock.sleep(LOCK_STEP);
        }
    }

    fn make_folders(&self) -> io::Result<()> {
        for folder in &Folder::ALL[1..] {
            match fs::mkdirat(&self.disk.root, folder.path(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            self.disk.folder(*folder)?;
        }
        Ok(())
    }

    fn create(&self, name: FileName) -> io::Result<Arc<dyn File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let descriptor = self.disk.open_with(name, flags)?;
        Ok(Arc::new(RealFile::new(descriptor)))
    }

    fn open_medium(&self, name: FileName) -> Result<Arc<dyn ReadFile>, MediumError> {
        let descriptor = self.disk.open_with(name, OFlags::RDONLY).map_err(MediumError::Open)?;
        // Only clean pages can be dropped.
        let synced = fs::fdatasync(&descriptor);
        synced.map_err(|error| MediumError::Sync(SyncFailed(error.into())))?;
        advise(&descriptor, 0..0, Advice::DontNeed);
        advise(&descriptor, 0..0, Advice::Sequential);
        Ok(Arc::new(RealFile::new(descriptor)))
    }

    fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        let (old, new) = (self.disk.folder(from.folder())?, self.disk.folder(to.folder())?);
        Ok(fs::renameat(old, from.leaf(), new, to.leaf())?)
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        let folder = self.disk.folder(name.folder())?;
        Ok(fs::unlinkat(folder, name.leaf(), AtFlags::empty())?)
    }

    fn sync_folder(&self, folder: Folder) -> Result<(), SyncFailed> {
        let folder = self.disk.folder(folder).map_err(SyncFailed)?;
        fs::fsync(folder).map_err(|error| SyncFailed(error.into()))
    }

    fn space(&self) -> io::Result<Space> {
        let status = fs::fstatvfs(&self.disk.root)?;
        Ok(Space::of_blocks([status.f_blocks, status.f_bfree, status.f_bavail], status.f_frsize))
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += retry_on_intr(|| rustix::rand::getrandom(&mut bytes[filled..], flags))?;
        }
        Ok(())
    }

    fn link(&self, name: FileName, to: &dyn Disk) -> io::Result<()> {
        let to: &dyn Any = to;
        let Some(to) = to.downcast_ref::<Self>() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let (from, to) = (self.disk.folder(name.folder())?, to.disk.folder(name.folder())?);
        // Without a flag a symbolic link under the name is not followed.
        Ok(fs::linkat(from, name.leaf(), to, name.leaf(), AtFlags::empty())?)
    }

    fn holds(&self, path: &Path) -> io::Result<bool> {
        let identity = |folder: &OwnedFd| -> io::Result<_> {
            let status = fs::fstat(folder)?;
            Ok((status.st_dev, status.st_ino))
        };
        let mut folder = match fs::open(path, ROOT_FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => fs::open(parent(path), ROOT_FLAGS, Mode::empty())?,
            opened => opened?,
        };
        let own = identity(&self.disk.root)?;
        loop {
            let here = identity(&folder)?;
            if here == own {
                return Ok(true);
            }
            let above = fs::openat(&folder, "..", ROOT_FLAGS, Mode::empty())?;
            if identity(&above)? == here {
                return Ok(false);
            }
            folder = above;
        }
    }

    #[cfg(feature = "admin")]
    fn listen(&self) -> io::Result<super::socket::Listener> {
        super::socket::Listener::bind(self.disk.root.as_fd())
    }
}

/// The folder that a path's last name stands in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Held until dropped; also against another open of the same process.
#[derive(Debug)]
struct RealLock {
    descriptor: OwnedFd,
}

impl Lock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        // A forked child may share the descriptor, and closing ours would leave the lock with it.
        let _ = fs::flock(&self.descriptor, FlockOperation::Unlock);
    }
}

#[derive(Debug)]
struct RealFile {
    descriptor: OwnedFd,
    /// Whether reads and writes go past the system's cache.
    is_direct: AtomicBool,
}

impl RealFile {
    fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, is_direct: AtomicBool::new(false) }
    }

    fn is_direct(&self) -> bool {
        self.is_direct.load(Ordering::Relaxed)
    }

    /// From now on past the cache, or through it again.
    #[cfg(target_os = "linux")]
    fn set_direct(&self, is_direct: bool) -> io::Result<()> {
        let mut flags = fs::fcntl_getfl(&self.descriptor)?;
        flags.set(OFlags::DIRECT, is_direct);
        fs::fcntl_setfl(&self.descriptor, flags)?;
        self.is_direct.store(is_direct, Ordering::Relaxed);
        Ok(())
    }

    /// Others have no such flag.
    #[cfg(not(target_os = "linux"))]
    fn set_direct(&self, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tries a call past the cache, where this file goes there; none where that cannot be, and from
    /// then on it goes through the cache.
    fn directly(
        &self,
        call: impl FnOnce() -> Option<Result<usize, Errno>>,
    ) -> io::Result<Option<usize>> {
        if !self.is_direct() {
            return Ok(None);
        }
        match call() {
            // Bytes that are not aligned, or a device that asks for more than is known of any.
            None | Some(Err(Errno::INVAL)) => self.set_direct(false).map(|()| None),
            Some(done) => Ok(Some(done?)),
        }
    }
}

/// Advice changes no result, so its failure changes none either. An empty range: the whole file.
fn advise(descriptor: &OwnedFd, range: Range<u64>, advice: Advice) {
    let bytes = NonZeroU64::new(range.end - range.start);
    let _ = fs::fadvise(descriptor, range.start, bytes, advice);
}

impl ReadFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(fs::fstat(&self.descriptor)?.st_size.cast_unsigned())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = |part: &mut [u8], at| rustix::io::pread(&self.descriptor, part, at);
        match self.directly(|| Some(direct::read_at(buffer, offset, read)))? {
            Some(read) => Ok(read),
            None => Ok(read(buffer, offset)?),
        }
    }

    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>> {
        let have = self.bytes()?;
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        if have < bytes {
            let what = format!("a file of {have} bytes cannot be mapped for {bytes}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let mut options = memmap2::MmapOptions::new();
        options.len(length);
        #[expect(unsafe_code, reason = "mapping is the one thing that no safe call offers")]
        // SAFETY: the file is regular and at least `length` bytes long, checked above. The contract
        // of `ReadFile::map` is that it is sealed: this process never writes or truncates it
        // again, and the store's lock keeps other writers out. Only someone who edits the file
        // behind the store's back could change the bytes, which no process can rule out.
        let map = unsafe { options.map(&self.descriptor) }?;
        // Advice only: without it the kernel reads neighbours that nobody asked for.
        let _ = map.advise(memmap2::Advice::Random);
        Ok(Arc::new(MappedFile::new(map)))
    }

    fn bypass_cache(&self) {
        // Where a file system has nothing but its cache, that is where the bytes go.
        let _ = self.set_direct(true);
    }

    fn forget(&self, range: Range<u64>) {
        advise(&self.descriptor, range, Advice::DontNeed);
    }

    fn will_read(&self, range: Range<u64>) {
        if !range.is_empty() {
            advise(&self.descriptor, range, Advice::WillNeed);
        }
    }
}

impl File for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let write = |part: &[u8]| rustix::io::pwrite(&self.descriptor, part, offset);
        match self.directly(|| direct::write_at(bytes, offset, write))? {
            Some(written) => Ok(written),
            None => Ok(write(bytes)?),
        }
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut have = self.bytes()?;
        if have >= bytes {
            return Ok(());
        }
        let flags = fs::FallocateFlags::empty();
        match retry_on_intr(|| fs::fallocate(&self.descriptor, flags, 0, bytes)) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        while have < bytes {
            let piece =
                usize::try_from(bytes - have).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            have += retry_on_intr(|| rustix::io::pwrite(&self.descriptor, &ZEROS[..piece], have))?
                as u64;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn release_zeros(&self, range: Range<u64>) {
        let flags = fs::FallocateFlags::PUNCH_HOLE | fs::FallocateFlags::KEEP_SIZE;
        let bytes = range.end.saturating_sub(range.start);
        let _ = retry_on_intr(|| fs::fallocate(&self.descriptor, flags, range.start, bytes));
    }

    fn start_writeback(&self, range: Range<u64>) -> io::Result<()> {
        if !range.is_empty() && !self.is_direct() {
            // Dirty pages are handed to the device without waiting; what is clean already is
            // dropped, which bytes written in the background can bear.
            advise(&self.descriptor, range, Advice::DontNeed);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), SyncFailed> {
        fs::fdatasync(&self.descriptor).map_err(|error| SyncFailed(error.into()))
    }
}

/// The operating system's clock.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose uptime begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others ask")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others ask")]
    fn wall_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that others ask")]
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

#[cfg(test)]
#[path = "real_tests.rs"]
mod tests;

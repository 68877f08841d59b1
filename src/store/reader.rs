//! Reading a store that another process has open: without a lock, without a thread, without a
//! byte written.
//!
//! A [`Reader`] holds one moment: the files that a manifest names, and of the log behind them what
//! something written later proves durable. [`Reader::refresh`] moves on to the present one.
//!
//! Invariants:
//!   * It holds a [`ReadDisk`] only, so it cannot change anything.
//!   * Nothing is shown that a crash of the writer could take back.
//!   * A moment does not change while it is held, and positions never go back.

use super::snapshot::Snapshot;
use super::transfer::check_view;
use super::untrusted::OpenMode;
use crate::disk::real::RealReadDisk;
use crate::disk::{Clock, Listed, ReadDisk, ReadFile};
use crate::engine::catalog::{NamespaceEntry, Roll};
use crate::engine::recovery::{load_version, missing};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::format::record::{RECORD_HEADER_BYTES, RecordHeader, RecordKind, RecordView, adoption};
use crate::ids::{
    Address, LogPoint, LogPosition, Lsn, NamespaceNumber, ObjectId, ShortId, Timestamp,
};
use crate::manifest;
use crate::names::{FileName, Folder};
use crate::object::version::Version;
use crate::object::{Inner, View};
use crate::planted::{Mistake, planted};
use crate::wal::reader::{Live, check_operations, replay_proven};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How often a load begins again when the writer removes what it reads.
const ATTEMPTS: usize = 8;
/// Bytes of pages kept in memory beside what the operating system caches.
const CACHE_BYTES: usize = 64 << 20;
/// The cut number of all that is replayed: no checkpoint ever comes.
const CUT: u64 = 1;

/// A store, open for reading only, also while another process writes to it. Needs no right to write
/// to its folder.
///
/// It shows one moment, until [`Reader::refresh`]. Memory is that of the commits which no page
/// holds yet: the writer's budget for them. The writer does not know of it and may remove a file
/// that it has not read yet: a read that needs that file fails with `Io`, and [`Reader::read`] does
/// it again. Files that it has open take their place on the disk until it, and all that it has
/// handed out, is dropped.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// use dostore::store::Store;
/// use dostore::store::reader::Reader;
///
/// let store = Store::open(&path)?;
/// let mut lobby = store.namespace("rooms")?.open_by_name("lobby")?;
/// lobby.put("topic", "rust")?.wait()?;
/// drop(lobby);
/// store.close()?;
///
/// let mut reader = Reader::open(&path)?;
/// let rooms = reader.namespace("rooms")?;
/// let lobby = rooms.snapshot(rooms.id_from_name("lobby"))?;
/// assert_eq!(lobby.get("topic")?.as_deref(), Some(&b"rust"[..]));
/// println!("as of commit {}", reader.position());
/// reader.refresh()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn ReadDisk>,
    mode: OpenMode,
    moment: Arc<Moment>,
}

/// All that a reader shows.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) disk: Arc<dyn ReadDisk>,
    pub(super) version: Arc<Version>,
    /// Objects with commits behind the version's cut.
    pub(super) objects: BTreeMap<Address, Arc<Tail>>,
    namespaces: Arc<Roll>,
    pub(super) position: Lsn,
    time: Timestamp,
    /// Where to go on reading the log.
    resume: LogPoint,
    /// Commits that were followed by one of a later term.
    pub(super) ends: Vec<Lsn>,
}

/// What was committed to one object behind the cut.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) inner: Inner,
    /// Why what the commits say cannot be shown: pages that one of them adopted are lost.
    fault: Option<Error>,
}

impl Clone for Tail {
    fn clone(&self) -> Self {
        let Inner { bottom, is_loaded, layers, .. } = &self.inner;
        let (bottom, is_loaded, layers) = (bottom.clone(), *is_loaded, layers.clone());
        let inner = Inner { bottom, is_loaded, layers, ..Inner::default() };
        Self { inner, fault: self.fault.clone() }
    }
}

impl Reader {
    /// Opens the store in a folder. Costs what an open for writing costs: the log after the last
    /// checkpoint is read. Fails with `store.missing` where there is no store, with `Unsupported`
    /// for one of another version, and with `Corrupt` where the manifest, the log or the frame of a
    /// run is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, OpenMode::Trusted)
    }

    /// The same for a store that need not be believed, as `mode` says. A store that is not is read
    /// whole, here and at each refresh. Fails with `untrusted.large` or `untrusted.damaged` where
    /// the mode refuses it.
    pub fn open_with(path: impl AsRef<Path>, mode: OpenMode) -> Result<Self> {
        let disk = RealReadDisk::open(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => Error::io("opening the store's folder", cause),
        })?;
        Self::open_on_with(disk, mode)
    }

    /// Opens the store on a disk of one's own, as a simulated one.
    pub fn open_on(disk: impl ReadDisk + 'static) -> Result<Self> {
        Self::open_on_with(disk, OpenMode::Trusted)
    }

    /// The same for a store that need not be believed.
    pub fn open_on_with(disk: impl ReadDisk + 'static, mode: OpenMode) -> Result<Self> {
        let disk = mode.guard(Watched { disk });
        mode.check(&disk)?;
        let moment = Arc::new(Moment::load(&disk)?);
        Ok(Self { disk, mode, moment })
    }

    /// The last commit that is shown.
    pub fn position(&self) -> Lsn {
        self.moment.position
    }

    /// The time of that commit.
    pub fn time(&self) -> Timestamp {
        self.moment.time
    }

    /// Moves to what is durable now; says how far that is. What was handed out stays as it is.
    /// Costs reading what was logged since; behind a checkpoint of the writer, what an open costs.
    ///
    /// Fails with `reader.replaced`, kind `Broken`, where another store or an earlier state of this
    /// one is in the folder. After an error it shows what it showed before.
    pub fn refresh(&mut self) -> Result<Lsn> {
        let newest = manifest::read(&*self.disk)?.ok_or_else(missing)?;
        if newest.store != self.moment.version.manifest.store {
            return Err(replaced());
        }
        let is_same = newest.generation == self.moment.version.manifest.generation;
        if !is_same || self.mode != OpenMode::Trusted {
            return self.reload();
        }
        // A failure in between must not leave half of a walk behind.
        let mut next = Moment::clone(&self.moment);
        match next.follow(&self.disk) {
            Ok(()) => self.moment = Arc::new(next),
            // A file of the log that a session left blank may be one that the next does without:
            // what the log is now, a walk from its beginning tells.
            Err(error) if is_given_up(&error) || error.kind() == ErrorKind::Corrupt => {
                return self.reload();
            }
            Err(error) => return Err(error),
        }
        Ok(self.position())
    }

    fn reload(&mut self) -> Result<Lsn> {
        self.mode.check(&self.disk)?;
        let next = Moment::load(&self.disk)?;
        let is_other = next.version.manifest.store != self.moment.version.manifest.store;
        if is_other || next.position < self.moment.position {
            return Err(replaced());
        }
        self.moment = Arc::new(next);
        Ok(self.position())
    }

    /// Reads with `read`. If the writer has removed a file that it needs, moves to what is durable
    /// now and reads again, once: `read` must take namespaces and snapshots from its argument.
    pub fn read<T>(&mut self, mut read: impl FnMut(&Self) -> Result<T>) -> Result<T> {
        match read(self) {
            Err(error) if is_given_up(&error) => {
                self.reload()?;
                read(self)
            }
            done => done,
        }
    }

    pub(super) fn moment(&self) -> &Arc<Moment> {
        &self.moment
    }

    /// Every namespace by its number.
    pub(super) fn spaces(&self) -> BTreeMap<NamespaceNumber, ReaderNamespace> {
        let all = self.namespaces().into_iter();
        all.map(|space| (space.entry.number, space)).collect()
    }

    /// Every namespace of this moment, by name.
    pub fn namespaces(&self) -> Vec<ReaderNamespace> {
        let all = self.moment.namespaces.by_name().iter();
        all.map(|(name, entry)| ReaderNamespace::new(&self.moment, name, entry)).collect()
    }

    /// The namespace of this name. Fails with `namespace.missing` if there is none.
    pub fn namespace(&self, name: &str) -> Result<ReaderNamespace> {
        let found = self.moment.namespaces.by_name().get(name);
        let found = found.map(|entry| ReaderNamespace::new(&self.moment, name, entry));
        found.ok_or_else(|| {
            let what = format!("there is no namespace {name:?}");
            Error::new(ErrorKind::NotFound, "namespace.missing", what)
        })
    }
}

#[cold]
fn replaced() -> Error {
    let what = "another store, or an earlier state of it, is here now; open the reader again";
    Error::new(ErrorKind::Broken, "reader.replaced", what)
}

/// Whether a file is gone because the newest manifest does not need it any more.
pub(crate) fn is_given_up(error: &Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_gone = |cause: &io::Error| cause.kind() == io::ErrorKind::StaleNetworkFileHandle;
    cause.is_some_and(is_gone) && !planted(Mistake::ReadRemoved)
}

impl Moment {
    fn load(disk: &Arc<dyn ReadDisk>) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::load_once(disk) {
                Err(error) if is_given_up(&error) && attempt < ATTEMPTS => attempt += 1,
                done => return done,
            }
        }
    }

    fn load_once(disk: &Arc<dyn ReadDisk>) -> Result<Self> {
        let manifest = manifest::read(&**disk)?.ok_or_else(missing)?;
        let version = Arc::new(load_version(disk, &manifest, CACHE_BYTES)?);
        let mut moment = Self {
            disk: Arc::clone(disk),
            version,
            objects: BTreeMap::new(),
            namespaces: Arc::new(Roll::of(&manifest)),
            position: manifest.cut,
            time: manifest.cut_time,
            resume: manifest.replay,
            ends: Vec::new(),
        };
        moment.follow(disk)?;
        Ok(moment)
    }

    /// Reads the log from where the last walk ended.
    fn follow(&mut self, disk: &Arc<dyn ReadDisk>) -> Result<()> {
        let Manifest { store, cut, .. } = self.version.manifest;
        let (from, after) = (self.resume, self.position);
        let files = Live(&**disk);
        let mut last = after;
        let mut sink = |record: RecordView<'_>, position| {
            // A term leaves out the LSNs that the one before it may have lost.
            if record.header.lsn != last.next() {
                self.ends.push(last);
            }
            last = record.header.lsn;
            // The begin of a life only took its LSN.
            if record.header.kind == RecordKind::AdoptBegin {
                return Ok(());
            }
            if Roll::is_changed_by(&record) {
                Arc::make_mut(&mut self.namespaces).follow(&record)?;
            }
            self.apply(&record, position)
        };
        let replayed = replay_proven(&files, store, from, after, cut, &mut sink)?;
        if replayed.end.lsn > last {
            self.ends.push(last);
        }
        self.position = after.max(replayed.end.lsn);
        self.time = self.time.max(replayed.end.time);
        self.resume = replayed.resume;
        Ok(())
    }

    /// Lays a commit over its object. Damage in one object concerns no other.
    fn apply(&mut self, view: &RecordView<'_>, position: LogPosition) -> Result<()> {
        let RecordHeader { address, lsn, time, .. } = view.header;
        let tail = Arc::make_mut(self.objects.entry(address).or_default());
        if !tail.inner.is_loaded && tail.fault.is_none() {
            match self.version.head(address) {
                Ok(head) => tail.inner.load(head.as_ref()),
                // As where the store is opened: what commits say of it is shown, and no more.
                Err(error) if error.kind() == ErrorKind::Corrupt => tail.inner.load_lost(),
                Err(error) => return Err(error),
            }
        }
        if tail.fault.is_none() {
            tail.fault = check_operations(view, position).err();
        }
        if tail.fault.is_none()
            && let Some(adoption) = adoption(view.payload)
        {
            let adopted = self.version.adopt(&*self.disk, &view.header, &adoption);
            match adopted.or_else(|error| Err(missing_now(&self.disk, &self.version, error)?)) {
                Err(error) if error.kind() == ErrorKind::Corrupt => tail.fault = Some(error),
                adopted => adopted?,
            }
        }
        if tail.fault.is_none() {
            let mut record = Vec::with_capacity(RECORD_HEADER_BYTES + view.payload.len());
            let length = u32::try_from(view.payload.len()).unwrap_or(u32::MAX);
            record.extend_from_slice(&RecordHeader { length, ..view.header }.encode());
            record.extend_from_slice(view.payload);
            tail.inner.apply(Arc::from(record), lsn, time, CUT);
        }
        Ok(())
    }

    pub(super) fn view(&self, address: Address) -> Result<View> {
        let version = || Arc::clone(&self.version);
        match self.objects.get(&address).map(|tail| &**tail) {
            None => View::of_version(address, version()),
            Some(Tail { fault: Some(fault), .. }) => Err(fault.clone()),
            Some(Tail { inner, .. }) => Ok(View::of_inner(address, inner, version)),
        }
    }
}

/// The error of pages that a commit has adopted. While the manifest is the one that was read, none
/// of their files can have been given up: one that is not there is lost.
fn missing_now(disk: &Arc<dyn ReadDisk>, version: &Version, error: Error) -> Result<Error> {
    if !is_given_up(&error) {
        return Ok(error);
    }
    let newest = manifest::read(&**disk)?.ok_or_else(missing)?;
    if newest.generation != version.manifest.generation {
        return Ok(error);
    }
    let what = "the pages that an object has adopted are not there";
    Ok(Error::new(ErrorKind::Corrupt, "adopt.lost", what).caused_by(error))
}

/// A namespace at one moment, which stays that of the reader when it was handed out. Cloning is
/// cheap.
#[derive(Clone, Debug)]
pub struct ReaderNamespace {
    pub(super) moment: Arc<Moment>,
    name: Arc<str>,
    pub(super) entry: NamespaceEntry,
}

impl ReaderNamespace {
    fn new(moment: &Arc<Moment>, name: &str, entry: &NamespaceEntry) -> Self {
        Self { moment: Arc::clone(moment), name: name.into(), entry: entry.clone() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last commit of the store that is shown here.
    pub fn position(&self) -> Lsn {
        self.moment.position
    }

    /// The id of the object with this name: always the same one.
    pub fn id_from_name(&self, name: &str) -> ObjectId {
        self.entry.key.named(name)
    }

    /// The id that 64 hex digits say. Fails with `id.malformed`, or with `id.foreign` for an id of
    /// another namespace.
    pub fn id_from_hex(&self, hex: &str) -> Result<ObjectId> {
        self.entry.key.parse(hex)
    }

    /// The id whose identifying half this is: of an object that is there or not.
    pub fn id_from_short(&self, half: ShortId) -> ObjectId {
        self.entry.key.from_short(half)
    }

    pub(super) fn address(&self, id: ObjectId) -> Result<Address> {
        let short = id.short();
        if self.entry.key.from_short(short) != id {
            return Err(Error::invalid("id.foreign", "the id is of another namespace"));
        }
        Ok(Address { namespace: self.entry.number, id: short })
    }

    /// An object at this moment, there or not. Reading from it may fail with an error that can be
    /// tried again with a fresh one: see [`Reader::read`].
    pub fn snapshot(&self, id: ObjectId) -> Result<Snapshot> {
        let view = self.moment.view(self.address(id)?)?;
        check_view(&view)?;
        Ok(Snapshot::new(view))
    }
}

/// A disk on which a writer may be at work: a file that is not there is told apart by whether the
/// newest manifest needs it.
#[derive(Debug)]
struct Watched<D> {
    disk: D,
}

impl<D: ReadDisk> Watched<D> {
    fn is_needed(&self, name: FileName) -> bool {
        let Ok(Some(newest)) = manifest::read(&self.disk) else { return true };
        let mut runs = newest.runs.iter().chain(newest.history.iter().map(|file| &file.facts));
        match name {
            FileName::Segment(number) => {
                newest.segments.iter().any(|state| state.facts.number == number)
            }
            FileName::Run(number) => runs.any(|facts| facts.number == number),
            // Any other may be a prepared one that the next writer removed.
            FileName::Wal(number) => number == newest.replay.file,
            FileName::Lock
            | FileName::AdminSocket
            | FileName::Manifest
            | FileName::ManifestTemporary => true,
        }
    }
}

impl<D: ReadDisk> ReadDisk for Watched<D> {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        self.disk.open(name).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound if !self.is_needed(name) => {
                io::ErrorKind::StaleNetworkFileHandle.into()
            }
            _ => cause,
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

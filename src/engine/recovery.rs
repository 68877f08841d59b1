//! Open: the manifest, then the tail of the log, then a new term.
//!
//! Costs time in proportion to the tail of the log, not to the number of objects: no page is read,
//! and of the directory only the heads of objects that the tail mentions.
//!
//! Invariants:
//!   * What is trusted was read from the medium in this pass, not from a page cache that may
//!     remember writes whose sync failed.
//!   * Nothing of an earlier term is written to. The new term's first file says exactly where the
//!     log before it ends, and is durable before anything is served.

use super::Engine;
use super::birth::{begin_log, first_manifest};
use super::bookmarks::{first_behind, forget_idle, note_terms, right_before};
use super::catalog::Catalog;
use super::clean::Dictionaries;
use super::commit::pressure;
use super::expire::Expiry;
use super::orphans::remove_orphans;
use super::publish::Publisher;
use super::replay::{Memory, bring_in};
use super::stats::{Counters, files};
use crate::directory::Directory;
use crate::disk::crew;
use crate::disk::fail_stop::FailStop;
use crate::disk::pace::Pace;
use crate::disk::{Disk, Lock, ReadDisk, SyncFailed, read_exact_at};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::group::WalHeader;
use crate::format::header::{FileContext, HEADER_BLOCK_BYTES};
use crate::format::manifest::{Manifest, TermSpan};
use crate::format::run::RunUse;
use crate::ids::{FileNumber, Lsn, Term};
use crate::locks::{Mutex, Ranked, RwLock};
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder, NUMBERS_MAX};
use crate::object::cache::PageCache;
use crate::object::history::HistoryRuns;
use crate::object::version::Version;
use crate::options::Options;
use crate::planted::{Mistake, planted};
use crate::run::Run;
use crate::segment::SegmentSet;
use crate::wal::group_commit::Wal;
use crate::wal::pool::{FileNumbers, MakeError, Pool};
use crate::wal::reader::Replayed;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What an open found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Whether the store was made by this open.
    pub created: bool,
    /// Whether the last writer had closed it.
    pub was_closed: bool,
    /// Commits replayed from the tail of the log.
    pub records_replayed: u64,
    /// Bytes of a group that a crash had cut, if any; none of it was ever acknowledged.
    pub discarded_bytes: u64,
    /// Files that nothing named, removed.
    pub files_removed: u64,
}

impl RecoveryReport {
    fn note(&mut self, replayed: &Replayed) {
        self.records_replayed = replayed.records;
        self.was_closed = replayed.closed;
        let cut_off = replayed.discarded.as_ref();
        self.discarded_bytes = cut_off.map_or(0, |range| range.end - range.start);
    }
}

impl Engine {
    /// Opens a store for writing.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Arc<Self>> {
        options.check()?;
        let disk: Arc<dyn Disk> = Arc::new(FailStop::new(disk));
        disk.make_folders().map_err(|cause| Error::io("making the store's folders", cause))?;
        let lock = take_lock(&*disk)?;
        let mut report = RecoveryReport::default();
        // Whatever name is read below is durable first.
        sync_folders(&*disk)?;
        let mut manifest = first_manifest(&*disk, &options, &mut report)?;
        let log = survey(&*disk, &manifest)?;
        let term = Term(manifest.term.0.max(log.last_term.0).saturating_add(1));
        let context = FileContext { store: manifest.store, term };
        let numbers = Arc::new(FileNumbers::from(log.next_file));
        let pace = Arc::new(Pace::new(disk.clock()));
        pace.set_rate(options.background_bytes_per_second);
        let (pool, is_ending) = new_pool((&disk, &pace), context, &numbers, options.wal_file_bytes);
        let (mut version, memory) = read(&disk, &options, &mut manifest, &log.firsts, &pool)
            .inspect_err(|_| pool.remove_ready())?;
        let Memory { replayed, table, alarms, dirty, dirty_bytes, adopted, roll, .. } = memory;
        report.note(&replayed);
        let first_lsn = first_lsn(&replayed, &manifest.terms);
        manifest.next_file = numbers.peek();
        let start = || pool.start(replayed.join, first_lsn);
        let file = make_room(&*disk, &mut manifest, (&log.used, &adopted), (&mut report, start))?;
        manifest.terms.push(TermSpan { term, first: first_lsn, last: right_before(first_lsn) });
        forget_idle(&mut manifest.terms);
        manifest.next_file = numbers.peek();
        if manifest.replay.file == FileNumber(0) {
            begin_log(&*disk, &mut manifest, file.number, replayed.join.point)?;
        }
        let mut log_files = without_dead(log.used, &replayed);
        let files_behind = log_files.range(manifest.replay.file..).count() as u64;
        log_files.insert(file.number);
        report.files_removed += remove_orphans(&*disk, &mut manifest, (&log_files, &adopted))?;
        // Whoever asks the version for the manifest is told of this term too.
        version.manifest = manifest.clone();
        let dirty_bytes = Arc::new(AtomicUsize::new(dirty_bytes));
        let (counted, budget) = (Arc::clone(&dirty_bytes), options.dirty_bytes);
        pace.follow(Arc::clone(&dirty_bytes), budget);
        let pressure = Box::new(move || pressure(counted.load(Ordering::Relaxed), budget));
        let wal = Wal::new(pool, file, replayed.join, first_lsn, dirty, pressure);
        // Lives that end early leave a file each, however little they logged.
        wal.count_behind_cut(files_behind * options.wal_file_bytes);
        let engine = Arc::new(Self {
            clock: disk.clock(),
            options,
            context,
            numbers,
            pace,
            wal,
            table,
            alarms,
            catalog: Catalog::default(),
            terms: manifest.terms.clone(),
            expiry: Expiry::of(&manifest),
            version: RwLock::new(Arc::new(version)),
            publisher: Ranked::new(Publisher::new(manifest, log_files)),
            retired: Mutex::default(),
            dirty_bytes,
            dictionaries: Dictionaries::default(),
            erasing: Mutex::default(),
            scrubbing: Mutex::default(),
            history_merging: Mutex::default(),
            unmerged: Mutex::default(),
            rewriting: RwLock::default(),
            counters: Counters::default(),
            is_ending,
            last_failure: Mutex::default(),
            report,
            disk,
            lock: Mutex::new(Some(lock)),
        });
        engine.load_catalog(roll);
        Ok(engine)
    }
}

/// Reads the store's files, and the tail of the log into memory; meanwhile has a file of the log
/// made for this term. Where threads may be used all of it is done at the same time: what an open
/// waits for is the device and memory by turns.
fn read(
    disk: &Arc<dyn Disk>,
    options: &Options,
    manifest: &mut Manifest,
    firsts: &BTreeMap<Term, Lsn>,
    pool: &Pool,
) -> Result<(Version, Memory)> {
    let helpers = if options.is_threaded { crew::helpers() } else { 0 };
    let mut terms = manifest.terms.clone();
    note_terms(&mut terms, firsts);
    let make_ready = || match pool.make_ready_now().map_err(MakeError::into_error) {
        // There may be something to remove first.
        Err(error) if error.kind() != ErrorKind::Full => Err(error),
        _ => Ok(()),
    };
    let open = || open_version(disk, manifest, options);
    let (version, mut memory) = bring_in(&**disk, (manifest, terms), helpers, open, make_ready)?;
    manifest.terms = std::mem::take(&mut memory.terms);
    Ok((version, memory))
}

/// Starts, and where there is no room first removes what this open is to remove in any case: that
/// may be what fills the disk.
fn make_room<T>(
    disk: &dyn Disk,
    manifest: &mut Manifest,
    kept: (&BTreeSet<FileNumber>, &BTreeSet<FileName>),
    (report, start): (&mut RecoveryReport, impl Fn() -> Result<T>),
) -> Result<T> {
    match start() {
        Err(error) if error.kind() == ErrorKind::Full => {
            report.files_removed = remove_orphans(disk, manifest, kept)?;
            sync_folders(disk)?;
            start()
        }
        started => started,
    }
}

/// The pool, and what tells it that no file is to be filled ahead.
fn new_pool(
    (disk, pace): (&Arc<dyn Disk>, &Arc<Pace>),
    context: FileContext,
    numbers: &Arc<FileNumbers>,
    file_bytes: u64,
) -> (Arc<Pool>, Arc<AtomicBool>) {
    let (numbers, is_ending) = (Arc::clone(numbers), Arc::default());
    let on = (Arc::clone(disk), Arc::clone(pace));
    let pool = Pool::new(on, context, numbers, file_bytes, Arc::clone(&is_ending));
    (Arc::new(pool), is_ending)
}

/// Behind every LSN that any term may have given away, its own first one included.
fn first_lsn(replayed: &Replayed, terms: &[TermSpan]) -> Lsn {
    if planted(Mistake::ReuseLsn) {
        return replayed.end.lsn.next();
    }
    first_behind(terms, replayed.highest.max(replayed.end.lsn))
}

/// The files that the log has used, but for those that the new term's file has made needless.
fn without_dead(mut used: BTreeSet<FileNumber>, replayed: &Replayed) -> BTreeSet<FileNumber> {
    if !replayed.dead.is_empty() {
        mark(Mark::BlankFileReplaced);
        used.retain(|number| !replayed.dead.contains(number));
    }
    used
}

/// For an open where there is no store, and none is to be made.
#[cold]
pub fn missing() -> Error {
    Error::new(ErrorKind::NotFound, "store.missing", "there is no store here")
}

fn take_lock(disk: &dyn Disk) -> Result<Box<dyn Lock>> {
    let locked = disk.lock().map_err(|cause| Error::io("locking the store", cause))?;
    locked.map_err(|holder| {
        let what = format!("the store is open for writing by {holder}");
        Error::new(ErrorKind::Locked, "store.locked", what)
    })
}

fn sync_folders(disk: &dyn Disk) -> Result<()> {
    for folder in Folder::ALL {
        let synced = disk.sync_folder(folder);
        synced.map_err(|SyncFailed(cause)| Error::io("syncing a folder", cause))?;
    }
    Ok(())
}

/// What the names and headers of the log's files say, before any group is read.
struct Survey {
    /// Files taken into use by some term.
    used: BTreeSet<FileNumber>,
    last_term: Term,
    next_file: FileNumber,
    /// Of each term with files of the log, the least LSN that a commit of it may have.
    firsts: BTreeMap<Term, Lsn>,
}

fn survey(disk: &dyn Disk, manifest: &Manifest) -> Result<Survey> {
    let mut survey = Survey {
        used: BTreeSet::new(),
        last_term: manifest.term,
        next_file: manifest.next_file,
        firsts: BTreeMap::new(),
    };
    for (name, _) in files(disk)? {
        let Some((name, number)) = name.and_then(|name| Some((name, name.number()?))) else {
            continue;
        };
        if number.0 >= NUMBERS_MAX {
            let what = "a file with a number that no store comes to";
            return Err(Error::corrupt("file.number", what, Place::new(name, 0)));
        }
        survey.next_file = survey.next_file.max(FileNumber(number.0 + 1));
        if !matches!(name, FileName::Wal(_)) {
            continue;
        }
        match read_wal_header(disk, name)? {
            LogHeader::Unused => {}
            // Replay says whether the log needs it; nothing is removed on a guess.
            LogHeader::Unreadable => drop(survey.used.insert(number)),
            LogHeader::Used(header) => {
                survey.used.insert(number);
                if header.header.store == manifest.store {
                    let term = header.header.term;
                    survey.last_term = survey.last_term.max(term);
                    let first = survey.firsts.entry(term).or_insert(header.first_lsn);
                    *first = (*first).min(header.first_lsn);
                }
            }
        }
    }
    Ok(survey)
}

/// What the first block of a log file says.
pub(super) enum LogHeader {
    /// The file was prepared and never taken into use.
    Unused,
    Used(Box<WalHeader>),
    Unreadable,
}

pub(super) fn read_wal_header(disk: &dyn ReadDisk, name: FileName) -> Result<LogHeader> {
    let failed = |cause| Error::io(format!("reading {name}"), cause);
    let file = disk.open(name).map_err(failed)?;
    let bytes = usize::try_from(HEADER_BLOCK_BYTES).unwrap_or(0);
    let mut block = vec![0; bytes];
    match read_exact_at(&*file, &mut block, 0) {
        Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(cause) => return Err(failed(cause)),
        Ok(()) => {}
    }
    if block.iter().all(|byte| *byte == 0) {
        return Ok(LogHeader::Unused);
    }
    let decoded = WalHeader::decode(&block).map(Box::new);
    Ok(decoded.map_or(LogHeader::Unreadable, LogHeader::Used))
}

fn open_version(disk: &Arc<dyn Disk>, manifest: &Manifest, options: &Options) -> Result<Version> {
    let reading: Arc<dyn ReadDisk> = Arc::clone(disk) as Arc<dyn ReadDisk>;
    load_version(&reading, manifest, options.cache_bytes)
}

/// Opens what a manifest names.
pub fn load_version(
    disk: &Arc<dyn ReadDisk>,
    manifest: &Manifest,
    cache_bytes: usize,
) -> Result<Version> {
    let segments = Arc::new(SegmentSet::new(Arc::clone(disk), manifest.store));
    manifest.segments.iter().for_each(|segment| segments.add(&segment.facts));
    if manifest.runs.len() > 1 {
        manifest.runs.iter().for_each(|facts| Run::prefetch(&**disk, facts));
    }
    let of_use = |usage: RunUse| -> Result<Vec<_>> {
        let wanted = manifest.runs.iter().filter(|facts| facts.usage == usage);
        wanted.map(|facts| Run::open(&**disk, manifest.store, facts)).collect()
    };
    Ok(Version {
        directory: Directory::new(of_use(RunUse::Directory)?),
        names: of_use(RunUse::Names)?,
        alarms: of_use(RunUse::Alarms)?,
        history: HistoryRuns::new(Arc::clone(disk), manifest, None),
        segments,
        cache: Arc::new(PageCache::new(cache_bytes)),
        adopted: Arc::default(),
        manifest: manifest.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};
    use crate::format::record::Operation;
    use crate::ids::{Address, Codec, NamespaceNumber, ShortId};
    use crate::object::ObjectState;
    use crate::object::write_set::WriteSet;
    use crate::wal::pool::Fill;

    const FILE_BYTES: u64 = 64 << 10;

    fn logs(disk: &SimDisk) -> usize {
        disk.names().iter().filter(|name| name.folder() == Folder::Wal).count()
    }

    fn options() -> Options {
        let options = Options::default().wal_file_bytes(FILE_BYTES);
        options.dirty_bytes(usize::try_from(FILE_BYTES).unwrap())
    }

    fn open(disk: &SimDisk) -> Result<Arc<Engine>> {
        Engine::open(Arc::new(disk.clone()), options())
    }

    fn commit(engine: &Engine, number: u8) {
        let address = Address { namespace: NamespaceNumber(7), id: ShortId([1; 16]) };
        let mut changes = WriteSet::new();
        let put = Operation::Put { key: &[1, number], codec: Codec::Raw, value: b"value" };
        changes.push(&options().limits, &put).unwrap();
        let commit =
            |object: &Arc<ObjectState>, inner: &mut _| engine.commit(object, inner, changes);
        let grant = engine.with_object(address, commit).unwrap();
        engine.wait_durable(grant.lsn).unwrap();
    }

    #[test]
    fn lives_that_end_at_once_leave_one_file_of_the_log() {
        let mut disk = SimDisk::new(1);
        for life in 0..40 {
            drop(open(&disk).unwrap());
            disk = if life % 2 == 0 { disk.power_cut() } else { disk.kill() };
            assert!(logs(&disk) <= 3, "{:?}", disk.names());
        }
        commit(&open(&disk).unwrap(), 1);
        let disk = disk.kill();
        assert_eq!(open(&disk).unwrap().report().records_replayed, 1);
    }

    #[test]
    fn an_open_that_fails_again_and_again_piles_up_no_files() {
        let base = SimDisk::new(2);
        commit(&open(&base).unwrap(), 1);
        let mut failed = 0;
        for call in 1..80 {
            let mut disk = base.fork();
            for _ in 0..10 {
                disk.fail_call(call, Fault::Io);
                failed += usize::from(open(&disk).is_err());
                disk = disk.kill();
                assert!(logs(&disk) <= 4, "call {call}: {:?}", disk.names());
            }
            assert_eq!(open(&disk).unwrap().report().records_replayed, 1);
            assert!(logs(&disk) <= 3);
        }
        assert!(failed > 300);
    }

    /// A store whose process was killed with two files of the log ready.
    fn with_ready_files(seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        let engine = open(&disk).unwrap();
        commit(&engine, 1);
        assert!(engine.checkpoint().unwrap());
        commit(&engine, 2);
        for _ in 0..2 {
            engine.wal.prepare_file(Fill::Written).unwrap();
        }
        disk.kill()
    }

    #[test]
    fn an_open_on_a_full_disk_makes_room_of_what_nobody_needs() {
        let disk = with_ready_files(4);
        assert_eq!(logs(&disk), 3);
        disk.set_free_bytes(0);
        let engine = open(&disk).unwrap();
        let RecoveryReport { records_replayed, files_removed, .. } = *engine.report();
        assert_eq!((records_replayed, files_removed, logs(&disk)), (1, 2, 2));
        commit(&engine, 3);
    }

    #[test]
    fn so_it_does_of_half_a_merge_once_a_manifest_has_room() {
        let disk = with_ready_files(5);
        let half = FileName::Run(FileNumber(90));
        disk.create(half).unwrap().allocate(2 * FILE_BYTES).unwrap();
        disk.sync_folder(Folder::Runs).unwrap();
        // As if the files that stood ready were used: then what is left is the half.
        for name in disk.names().iter().filter(|name| name.folder() == Folder::Wal).skip(1) {
            disk.remove(*name).unwrap();
        }
        for free in [0, 2 * 4096] {
            disk.set_free_bytes(free);
            let opened = open(&disk);
            assert_eq!(opened.is_ok(), free > 0, "{opened:?}");
            assert_eq!(disk.names().contains(&half), free == 0);
        }
    }

    #[test]
    fn lives_that_log_little_ask_for_a_checkpoint_when_their_files_are_many() {
        let mut disk = SimDisk::new(3);
        let mut lives = 0;
        loop {
            let engine = open(&disk).unwrap();
            commit(&engine, lives);
            if engine.wants_checkpoint() {
                break;
            }
            lives += 1;
            disk = disk.kill();
        }
        assert_eq!((lives, logs(&disk)), (4, 5));
    }
}

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

use super::alarms::{AlarmIndex, Before};
use super::birth::{begin_log, first_manifest};
use super::bookmarks::{first_behind, forget_idle, note_terms, right_before};
use super::catalog::{Catalog, Roll};
use super::clean::Dictionaries;
use super::expire::Expiry;
use super::orphans::remove_orphans;
use super::patience::Pauses;
use super::publish::Publisher;
use super::stats::{Counters, files};
use super::table::Table;
use super::{DirtyList, Engine};
use crate::directory::Directory;
use crate::disk::fail_stop::FailStop;
use crate::disk::pace::Pace;
use crate::disk::{Clock, Disk, Lock, ReadDisk, SyncFailed, read_exact_at};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::group::WalHeader;
use crate::format::header::{FileContext, HEADER_BLOCK_BYTES};
use crate::format::manifest::{Manifest, TermSpan};
use crate::format::record::{RecordHeader, RecordKind, RecordView, adoption, is_purge};
use crate::format::run::RunUse;
use crate::ids::{Address, FileNumber, Lsn, Term, Timestamp};
use crate::locks::Ranked;
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder, NUMBERS_MAX};
use crate::object::ObjectState;
use crate::object::cache::PageCache;
use crate::object::history::HistoryRuns;
use crate::object::version::Version;
use crate::options::Options;
use crate::planted::{Mistake, planted};
use crate::run::Run;
use crate::segment::SegmentSet;
use crate::wal::group_commit::Wal;
use crate::wal::pool::{FileNumbers, Pool};
use crate::wal::reader::{Medium, Replayed, check_operations, replay};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::commit::{OBJECT_OVERHEAD_BYTES, pressure};

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

/// The state that replay builds up.
struct Tail<'a> {
    version: &'a Version,
    table: Table,
    dirty: DirtyList,
    dirty_bytes: usize,
    /// Heads looked up so far.
    lookups: u64,
    /// Bytes of the directory's runs, until they were asked for as a whole.
    directory_bytes: u64,
    scratch: Vec<u8>,
    alarms: AlarmIndex,
    /// What was read, by the first byte of the object's id. Objects of one part fit a processor's
    /// cache together, and their heads lie side by side.
    parts: Vec<Vec<Commit>>,
    /// Files of pages that commits behind the cut have adopted.
    adopted: BTreeSet<FileName>,
    roll: Roll,
    clock: Arc<dyn Clock>,
    pauses: Pauses,
}

/// A commit that was read and is to be applied.
struct Commit {
    record: Arc<[u8]>,
    address: Address,
    lsn: Lsn,
    time: Timestamp,
}

const PARTS: usize = 256;

/// Records that are fetched from memory together.
const TOUCHED_AT_ONCE: usize = 32;

/// Reads a byte of each cache line. Waiting for many lines at once takes as long as for one, and
/// applying records one by one would wait for each.
fn touch(commits: &[Commit]) {
    let lines = commits.iter().flat_map(|commit| commit.record.iter().step_by(64));
    std::hint::black_box(lines.fold(0_u8, |sum, byte| sum ^ byte));
}

/// Reading so many bytes in a row takes about as long as reading one block at random.
const BYTES_PER_LOOKUP: u64 = 64 << 10;

/// The cut number of replayed commits; the first checkpoint covers them.
const FIRST_CUT: u64 = 1;

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
        let mut version = open_version(&disk, &manifest, &options)?;
        note_terms(&mut manifest.terms, &log.firsts);
        let mut tail = Tail::new(&version, Roll::of(&manifest), disk.clock());
        let replayed = tail.replay(&*disk, &mut manifest)?;
        report.note(&replayed);
        let term = Term(manifest.term.0.max(log.last_term.0) + 1);
        let context = FileContext { store: manifest.store, term };
        let numbers = Arc::new(FileNumbers::from(log.next_file));
        let first_lsn = first_lsn(&replayed, &manifest.terms);
        let pace = Arc::new(Pace::new(disk.clock()));
        pace.set_rate(options.background_bytes_per_second);
        let (pool, is_ending) = new_pool((&disk, &pace), context, &numbers, options.wal_file_bytes);
        let file = pool.start(replayed.join, first_lsn)?;
        manifest.terms.push(TermSpan { term, first: first_lsn, last: right_before(first_lsn) });
        forget_idle(&mut manifest.terms);
        manifest.next_file = numbers.peek();
        if manifest.replay.file == FileNumber(0) {
            begin_log(&*disk, &mut manifest, file.number, replayed.join.point)?;
        }
        let mut log_files = without_dead(log.used, &replayed);
        let files_behind = log_files.range(manifest.replay.file..).count() as u64;
        log_files.insert(file.number);
        report.files_removed = remove_orphans(&*disk, &mut manifest, (&log_files, &tail.adopted))?;
        let Tail { table, dirty, dirty_bytes, alarms, roll, .. } = tail;
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

impl<'a> Tail<'a> {
    fn new(version: &'a Version, roll: Roll, clock: Arc<dyn Clock>) -> Self {
        let (objects, last_purge) = (Vec::new(), Lsn::ZERO);
        let dirty = DirtyList { cut: FIRST_CUT, objects, record_bytes: 0, last_purge };
        let runs = version.directory.runs();
        let directory_bytes = runs.iter().map(|run| run.facts().bytes).sum();
        let (table, scratch) = (Table::default(), Vec::new());
        let parts = std::iter::repeat_with(Vec::new).take(PARTS).collect();
        Self {
            version,
            table,
            dirty,
            dirty_bytes: 0,
            lookups: 0,
            directory_bytes,
            scratch,
            alarms: AlarmIndex::default(),
            parts,
            adopted: BTreeSet::new(),
            roll,
            clock,
            pauses: Pauses::default(),
        }
    }

    /// Also notes where terms ended of which the manifest knows no end.
    fn replay(&mut self, disk: &dyn Disk, manifest: &mut Manifest) -> Result<Replayed> {
        let medium = Medium(disk);
        let (store, from, cut) = (manifest.store, manifest.replay, manifest.cut);
        let terms = &mut manifest.terms;
        let mut at = 0;
        let mut replayed = replay(&medium, store, from, cut, cut, &mut |record, position| {
            let lsn = record.header.lsn;
            while terms.get(at + 1).is_some_and(|next| next.first <= lsn) {
                at += 1;
            }
            if let Some(span) = terms.get_mut(at).filter(|span| span.first <= lsn) {
                span.last = span.last.max(lsn);
            }
            // It only took its LSN.
            if record.header.kind == RecordKind::AdoptBegin {
                return Ok(());
            }
            check_operations(&record, position)?;
            if let Some(adoption) = adoption(record.payload) {
                mark(Mark::AdoptionReplayed);
                self.version.adopt(disk, &record.header, &adoption)?;
                self.adopted.extend(adoption.files().map(|(name, _)| name));
            }
            self.roll.follow(&record)?;
            self.keep(&record);
            Ok(())
        })?;
        for part in std::mem::take(&mut self.parts) {
            let mut rest = part.into_iter();
            while !rest.as_slice().is_empty() {
                touch(&rest.as_slice()[..rest.len().min(TOUCHED_AT_ONCE)]);
                rest.by_ref().take(TOUCHED_AT_ONCE).try_for_each(|commit| self.apply(commit))?;
            }
        }
        for end in [&mut replayed.end, &mut replayed.join] {
            end.lsn = end.lsn.max(cut);
            end.time = end.time.max(manifest.cut_time);
        }
        Ok(replayed)
    }

    /// Keeps a commit for later. Commits of one object stay in their order.
    fn keep(&mut self, view: &RecordView<'_>) {
        let RecordHeader { address, lsn, time, .. } = view.header;
        let record = &mut self.scratch;
        record.clear();
        let length = u32::try_from(view.payload.len()).unwrap_or(u32::MAX);
        record.extend_from_slice(&RecordHeader { length, ..view.header }.encode());
        record.extend_from_slice(view.payload);
        let record = Arc::from(record.as_slice());
        self.parts[usize::from(address.id.0[0])].push(Commit { record, address, lsn, time });
    }

    fn apply(&mut self, commit: Commit) -> Result<()> {
        let Commit { record, address, lsn, time } = commit;
        let object: Arc<ObjectState> = self.table.get_or_insert(address);
        let mut inner = object.inner.lock();
        if !inner.is_loaded {
            self.lookups += 1;
            // A tail that touches many objects is quicker behind one pass over the directory.
            if self.lookups.saturating_mul(BYTES_PER_LOOKUP) > self.directory_bytes {
                self.version.directory.runs().iter().for_each(|run| run.will_need());
                self.directory_bytes = u64::MAX;
            }
            let head = self.pauses.insist(&*self.clock, || self.version.head(address));
            match head {
                // Its commits are kept; what was below them is not known, and reads will say so.
                Err(error) if error.kind() == ErrorKind::Corrupt => inner.load_lost(),
                head => inner.load(head?.as_ref()),
            }
        }
        self.dirty_bytes += record.len();
        self.dirty.record_bytes += record.len() as u64;
        if is_purge(&record) {
            self.dirty.last_purge = self.dirty.last_purge.max(lsn);
        }
        let before = Before::replay(&inner);
        inner.apply(Arc::clone(&record), lsn, time, FIRST_CUT);
        self.alarms.note_replayed(FIRST_CUT, address, &before, &inner, &record);
        if inner.dirty_cut != FIRST_CUT {
            inner.dirty_cut = FIRST_CUT;
            self.dirty_bytes += OBJECT_OVERHEAD_BYTES;
            self.dirty.objects.push(Arc::clone(&object));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};
    use crate::format::record::Operation;
    use crate::ids::{Codec, NamespaceNumber, ShortId};
    use crate::object::write_set::WriteSet;

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

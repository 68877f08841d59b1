//! Commits of the log's tail on their way into memory: handed over while the log is still being
//! read, and applied by all processors that are there.
//!
//! Applying mostly waits for memory. So commits are kept in shares of objects that lie together,
//! and whoever applies takes all of a share that has come since it was last taken, object by
//! object: the further applying is behind, the more there is for each object, and the cheaper is
//! each commit.
//!
//! Invariants:
//!   * Commits of one object are applied in their order, by one thread at a time.
//!   * What comes of it depends neither on how many threads there are nor on how much each of them
//!     takes at once; only the order of the dirty list does, which means nothing.
//!   * Nobody sees any of it before the log's end is decided: who reads the log has it alone.

use super::alarms::{AlarmIndex, Before};
use super::commit::OBJECT_OVERHEAD_BYTES;
use super::patience::Pauses;
use super::table::Table;
use crate::disk::Clock;
use crate::disk::crew::together;
use crate::error::{ErrorKind, Result};
use crate::format::record::{RecordHeader, is_purge};
use crate::ids::{Address, Lsn};
use crate::object::version::Version;
use crate::object::{Inner, ObjectState};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The cut number of replayed commits; the first checkpoint covers them.
pub(super) const FIRST_CUT: u64 = 1;

/// Objects of one share fit a processor's cache together, and their heads lie side by side.
const SHARES: usize = 256;

/// Commits that are handed over together.
pub(super) const HANDED_AT_ONCE: usize = 16 << 10;

/// Commits that are worth a thread.
const WORTH_HELP: usize = 4096;

/// Records that are fetched from memory together.
const TOUCHED_AT_ONCE: usize = 32;

/// Reading so many bytes in a row takes about as long as reading one block at random.
const BYTES_PER_LOOKUP: u64 = 64 << 10;

/// A commit that was read and is to be applied.
pub(super) struct Commit {
    /// What its object's id begins with.
    place: u64,
    record: Arc<[u8]>,
}

impl Commit {
    pub(super) fn new(address: &Address, record: Arc<[u8]>) -> Self {
        let upper = u128::from_be_bytes(address.id.0) >> u64::BITS;
        Self { place: u64::try_from(upper).unwrap_or_default(), record }
    }

    fn share(&self) -> usize {
        usize::try_from(self.place >> (u64::BITS - SHARES.ilog2())).unwrap_or_default()
    }

    fn header(&self) -> RecordHeader {
        let header = RecordHeader::decode(&self.record);
        header.expect("a record's header is as it was encoded when the record was read")
    }
}

/// Commits that are to be handed over together.
pub(super) struct Bundle {
    shares: Vec<Vec<Commit>>,
    count: usize,
}

impl Default for Bundle {
    fn default() -> Self {
        let shares = std::iter::repeat_with(Vec::new).take(SHARES).collect();
        Self { shares, count: 0 }
    }
}

impl Bundle {
    /// Adds a commit behind all others; hands them over where they are many.
    pub(super) fn push(&mut self, commit: Commit, applying: &Applying) {
        self.shares[commit.share()].push(commit);
        self.count += 1;
        if self.count == HANDED_AT_ONCE {
            self.hand_over(applying);
        }
    }

    /// Hands over what there is.
    pub(super) fn hand_over(&mut self, applying: &Applying) {
        for (own, share) in self.shares.iter_mut().zip(&applying.shares) {
            share.waiting.lock().append(own);
        }
        let mut flow = applying.flow.lock();
        flow.handed_over += std::mem::take(&mut self.count);
        drop(flow);
        applying.has_more.notify_all();
    }
}

/// What has come of commits.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) objects: Vec<Arc<ObjectState>>,
    pub(super) dirty_bytes: usize,
    pub(super) record_bytes: u64,
    pub(super) last_purge: Lsn,
}

/// Objects that lie together.
struct Share {
    /// Commits that nobody has taken yet. A leaf lock.
    waiting: Mutex<Vec<Commit>>,
    /// What has come of those before; held by who applies. Before the locks of objects.
    applied: Mutex<Result<Applied>>,
}

/// How far reading has come.
#[derive(Default)]
struct Flow {
    handed_over: usize,
    is_over: bool,
}

/// What all share who apply commits.
pub(super) struct Applying {
    clock: Arc<dyn Clock>,
    pauses: Pauses,
    pub(super) table: Table,
    pub(super) alarms: AlarmIndex,
    shares: Vec<Share>,
    /// A leaf lock.
    flow: Mutex<Flow>,
    has_more: Condvar,
    /// Whether something could not be applied: nobody will need the rest.
    has_failed: AtomicBool,
    /// Commits applied so far.
    done: AtomicUsize,
    /// Heads looked up so far.
    lookups: AtomicU64,
}

/// While it is there, commits may still come.
pub(super) struct Reading<'a>(&'a Applying);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.flow.lock().is_over = true;
        self.0.has_more.notify_all();
    }
}

impl Applying {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let share =
            || Share { waiting: Mutex::default(), applied: Mutex::new(Ok(Applied::default())) };
        Self {
            clock,
            pauses: Pauses::default(),
            table: Table::default(),
            alarms: AlarmIndex::default(),
            shares: std::iter::repeat_with(share).take(SHARES).collect(),
            flow: Mutex::default(),
            has_more: Condvar::new(),
            has_failed: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            lookups: AtomicU64::new(0),
        }
    }

    /// To be held by who reads the log until nothing comes any more.
    pub(super) fn reading(&self) -> Reading<'_> {
        Reading(self)
    }

    /// Commits applied so far.
    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Applies commits as they come, until no more will come; what a thread is for while another
    /// reads. There may be some left then.
    pub(super) fn serve(&self, version: &Version) {
        let worker = Worker::new(self, version);
        let mut taken = 0;
        while let Some(handed_over) = self.wait_for_more(taken) {
            taken = handed_over;
            for share in &self.shares {
                // Where another is at it already, it is not waited for.
                let Some(mut applied) = share.applied.try_lock() else { continue };
                worker.apply_waiting(share, &mut applied);
                if self.is_over() {
                    break;
                }
            }
        }
    }

    /// Waits until more was handed over than `taken`; says how much. None once it is over.
    fn wait_for_more(&self, taken: usize) -> Option<usize> {
        let mut flow = self.flow.lock();
        while flow.handed_over == taken && !flow.is_over {
            self.has_more.wait(&mut flow);
        }
        (!flow.is_over).then_some(flow.handed_over)
    }

    fn is_over(&self) -> bool {
        self.flow.lock().is_over
    }

    /// Applies all that is left, with the help of so many threads.
    pub(super) fn finish(&self, version: &Version, helpers: usize) {
        let worker = Worker::new(self, version);
        let left = self.flow.lock().handed_over - self.done();
        let next = AtomicUsize::new(0);
        together(helpers.min(left / WORTH_HELP), || {
            while let Some(share) = self.shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                worker.apply_waiting(share, &mut share.applied.lock());
            }
        });
    }

    /// What has come of it all, share by share; nothing may be left.
    pub(super) fn into_applied(self) -> (Table, AlarmIndex, impl Iterator<Item = Result<Applied>>) {
        let Self { table, alarms, shares, .. } = self;
        (table, alarms, shares.into_iter().map(|share| share.applied.into_inner()))
    }
}

/// One who applies.
struct Worker<'a> {
    applying: &'a Applying,
    version: &'a Version,
    directory_bytes: u64,
}

impl<'a> Worker<'a> {
    fn new(applying: &'a Applying, version: &'a Version) -> Self {
        let runs = version.directory.runs().iter();
        Self { applying, version, directory_bytes: runs.map(|run| run.facts().bytes).sum() }
    }

    /// Applies what waits of a share.
    fn apply_waiting(&self, share: &Share, applied: &mut Result<Applied>) {
        let commits = std::mem::take(&mut *share.waiting.lock());
        let count = commits.len();
        if self.applying.has_failed.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(so_far) = applied
            && let Err(error) = self.apply_all(commits, so_far)
        {
            *applied = Err(error);
            self.applying.has_failed.store(true, Ordering::Relaxed);
        }
        self.applying.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Applies commits, those of one object together.
    fn apply_all(&self, mut commits: Vec<Commit>, applied: &mut Applied) -> Result<()> {
        // Stable: commits of one object stay in their order.
        commits.sort_by_key(|commit| commit.place);
        let mut rest = commits.into_iter();
        // So many of them were fetched already.
        let mut touched: usize = 0;
        while !rest.as_slice().is_empty() {
            if touched == 0 {
                touched = rest.len().min(TOUCHED_AT_ONCE);
                touch(&rest.as_slice()[..touched]);
            }
            let count = of_one_object(rest.as_slice());
            self.apply_object(rest.by_ref().take(count), applied)?;
            touched = touched.saturating_sub(count);
        }
        Ok(())
    }

    /// Applies commits of one object.
    fn apply_object(
        &self,
        commits: impl Iterator<Item = Commit>,
        applied: &mut Applied,
    ) -> Result<()> {
        let mut commits = commits.map(|commit| (commit.header(), commit.record)).peekable();
        let Some((RecordHeader { address, .. }, _)) = commits.peek() else { return Ok(()) };
        let address = *address;
        let object = self.applying.table.get_or_insert(address);
        let mut inner = object.inner.lock();
        if !inner.is_loaded {
            self.load(address, &mut inner)?;
        }
        for (RecordHeader { lsn, time, .. }, record) in commits {
            applied.dirty_bytes += record.len();
            applied.record_bytes += record.len() as u64;
            if is_purge(&record) {
                applied.last_purge = applied.last_purge.max(lsn);
            }
            let before = Before::replay(&inner);
            inner.apply(record, lsn, time, FIRST_CUT);
            self.applying.alarms.note_replayed(FIRST_CUT, address, &before, &inner);
        }
        if inner.dirty_cut != FIRST_CUT {
            inner.dirty_cut = FIRST_CUT;
            applied.dirty_bytes += OBJECT_OVERHEAD_BYTES;
            drop(inner);
            applied.objects.push(object);
        }
        Ok(())
    }

    /// Brings what an object's head says into memory.
    fn load(&self, address: Address, inner: &mut Inner) -> Result<()> {
        self.note_lookup();
        let Applying { pauses, clock, .. } = self.applying;
        match pauses.insist(&**clock, || self.version.head(address)) {
            // Its commits are kept; what was below them is not known, and reads will say so.
            Err(error) if error.kind() == ErrorKind::Corrupt => inner.load_lost(),
            head => inner.load(head?.as_ref()),
        }
        Ok(())
    }

    /// A tail that touches many objects is quicker behind one pass over the directory: asks for
    /// that once.
    fn note_lookup(&self) {
        let before = self.applying.lookups.fetch_add(1, Ordering::Relaxed);
        let is_many =
            |lookups: u64| lookups.saturating_mul(BYTES_PER_LOOKUP) > self.directory_bytes;
        if is_many(before + 1) && !is_many(before) {
            self.version.directory.runs().iter().for_each(|run| run.will_need());
        }
    }
}

/// How many of the first of these commits are of one object.
fn of_one_object(commits: &[Commit]) -> usize {
    let Some(first) = commits.first() else { return 0 };
    let address = first.header().address;
    let is_same = |other: &&Commit| other.place == first.place && other.header().address == address;
    1 + commits[1..].iter().take_while(is_same).count()
}

/// Reads a byte of each cache line. Waiting for many lines at once takes as long as for one, and
/// applying records one by one would wait for each.
fn touch(commits: &[Commit]) {
    let lines = commits.iter().flat_map(|commit| commit.record.iter().step_by(64));
    std::hint::black_box(lines.fold(0_u8, |sum, byte| sum ^ byte));
}

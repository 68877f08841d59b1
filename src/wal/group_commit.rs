//! One sync for many commits: records gather in an open group while the group before it is being
//! written and synced; then that group is written, with no timer in between.
//!
//! Whoever waits for a commit and finds nobody writing becomes the leader and writes the group
//! itself, so that a lone commit costs one write and one sync and no change of threads. Durability
//! is a watermark: one number, published once per group (`DeWitt` et al. 1984 for the grouping;
//! the log of FASTER for the watermark).
//!
//! Invariants:
//!   * Group N+1 is not written before group N is durable, so only the last group can be torn.
//!   * An LSN is published as durable only after the sync that covers it has returned.
//!   * After the first failed write or sync nothing is ever published again: the log is poisoned.
//!   * The open group always fits the current file or one that is ready: a full disk is noticed
//!     when a file is prepared, never in the middle of a commit.
//!   * Lock order: `writer`, then `open`, then `waiters`. Nobody waits for an object meanwhile.

use super::pool::{Fill, LogFile, MakeError, Pool};
use super::waiting::Waiters;
use crate::disk::{Clock, SyncFailed, write_all_at};
use crate::error::{Error, Result};
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader, GroupKind, seal};
use crate::format::header::HEADER_BLOCK_BYTES;
use crate::format::place_seed;
use crate::format::record;
use crate::ids::{FileNumber, LogEnd, LogPoint, Lsn, Timestamp};
use crate::limits::{GROUP_ALIGNMENT, RECORD_BYTES_MAX};
use crate::locks::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::locks::{Condvar, Guard, Ranked, rank};
use crate::marks::{Mark, mark};
use crate::planted::{Mistake, planted};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

/// Bytes of a group beyond which it takes no more records.
pub(super) const GROUP_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Zeros that are written along with a small group into a file that is only allocated.
const ZEROS_AHEAD_BYTES: u64 = 256 * 1024;
/// Beyond this, what a group waits for is its own bytes.
const SMALL_GROUP_BYTES: u64 = 16 * 1024;

/// How long a group is held back before anybody in a hurry is looked for again.
const HELD_BACK_STEP: Duration = Duration::from_millis(5);
/// Less than this is not worth holding a group back for.
const HELD_BACK_MIN: Duration = Duration::from_micros(50);

/// What a commit was given: its place in the order, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The commit's LSN.
    pub lsn: Lsn,
    /// Its time: the clock's, but never before the commit before it.
    pub time: Timestamp,
}

/// The log of a store, open for writing. `C` is what else must change in the same critical
/// section that orders commits.
pub struct Wal<C> {
    clock: Arc<dyn Clock>,
    pool: Arc<Pool>,
    /// Held while a group is written and synced; whoever holds it is the leader.
    pub(super) writer: Ranked<Writer, { rank::WRITER }>,
    /// Orders commits. Held for tens of nanoseconds; the last lock of the lock order.
    pub(super) open: Ranked<Open<C>, { rank::OPEN }>,
    /// Who waits for durability. A leaf lock, of blocking and asynchronous waiters alike.
    pub(super) waiters: Ranked<Waiters, { rank::WAITERS }>,
    pub(super) group_done: Condvar,
    /// Wakes the log writer's thread; of `waiters` too.
    pub(super) work: Condvar,
    durable: AtomicU64,
    poison: OnceLock<Error>,
    groups: AtomicU64,
    /// Set while the log writer's thread sleeps and wants to be told of work.
    pub(super) writer_sleeps: AtomicBool,
    /// Whether a thread of its own writes the log; without one, who waits writes.
    pub(super) has_thread: AtomicBool,
    /// How long the next group is to be held back: smooth backpressure.
    pressure: Box<dyn Fn() -> Duration + Send + Sync>,
    /// How many are there on whose account no group may be held back.
    pub(super) in_hurry: AtomicU64,
    /// Whether a group is done whose waiters only threads were told of.
    pub(super) owes_wakers: AtomicBool,
}

pub(super) struct Writer {
    spare: Vec<u8>,
    /// The header checksum of the last group written.
    chain: u32,
    /// The last group known durable.
    durable_group: u64,
    last: LogEnd,
    /// How far zeros were written ahead of the groups of the present file.
    zeroed: u64,
}

pub(super) struct Open<C> {
    pub(super) next_lsn: Lsn,
    pub(super) last_time: Timestamp,
    buffer: Vec<u8>,
    /// Commits in the open group; parts count as records only.
    commits: u64,
    pub(super) records: u32,
    /// The number of the open group.
    pub(super) group: u64,
    pub(super) file: Arc<LogFile>,
    /// Where the open group goes, if it fits the file.
    pub(super) offset: u64,
    /// The checksum chain behind the last group written.
    pub(super) chain: u32,
    /// Chains of parts without their final yet, and the groups in which they began.
    pub(super) chains: BTreeMap<u32, u64>,
    next_chain: u32,
    /// Where recent groups began, oldest first; kept from the last cut on.
    pub(super) starts: VecDeque<LogPoint>,
    /// Bytes of groups since the last cut.
    pub(super) bytes_since_cut: u64,
    /// Files that groups were written into before the present one, not yet told to anybody.
    left: Vec<FileNumber>,
    /// The next group goes into a file of its own, whatever room the present one has.
    is_leaving: bool,
    /// What commits are refused with, if they are.
    refusal: Option<Error>,
    pub(super) companion: C,
}

/// A group on its way to the disk.
struct Taken {
    header: GroupHeader,
    /// The least LSN that a commit from here on may have.
    least_lsn: Lsn,
    bytes: Vec<u8>,
    file: Arc<LogFile>,
    offset: u64,
    fresh: bool,
}

impl<C> Wal<C> {
    /// A log that goes on behind `end` in `file`, whose header is durable already.
    pub fn new(
        pool: Arc<Pool>,
        file: Arc<LogFile>,
        end: LogEnd,
        first_lsn: Lsn,
        companion: C,
        pressure: Box<dyn Fn() -> Duration + Send + Sync>,
    ) -> Self {
        let point = LogPoint { file: file.number, offset: HEADER_BLOCK_BYTES, ..end.point };
        Self {
            clock: pool.clock(),
            pool,
            writer: Ranked::new(Writer {
                spare: empty_group(),
                chain: point.chain,
                durable_group: point.group.saturating_sub(1),
                last: LogEnd { point, ..end },
                zeroed: 0,
            }),
            open: Ranked::new(Open {
                next_lsn: first_lsn,
                last_time: end.time,
                buffer: empty_group(),
                commits: 0,
                records: 0,
                group: point.group,
                file,
                offset: point.offset,
                chain: point.chain,
                chains: BTreeMap::new(),
                next_chain: 0,
                starts: VecDeque::new(),
                bytes_since_cut: 0,
                left: Vec::new(),
                is_leaving: false,
                refusal: None,
                companion,
            }),
            waiters: Ranked::default(),
            group_done: Condvar::new(),
            work: Condvar::new(),
            durable: AtomicU64::new(first_lsn.0.saturating_sub(1)),
            poison: OnceLock::new(),
            groups: AtomicU64::new(0),
            writer_sleeps: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            pressure,
            in_hurry: AtomicU64::new(0),
            owes_wakers: AtomicBool::new(false),
        }
    }

    /// Everything up to here survives a crash.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Why the log takes nothing more, if it is poisoned.
    pub fn poison(&self) -> Option<&Error> {
        self.poison.get()
    }

    /// Nothing is promised from now on. The first cause stays.
    pub fn set_poison(&self, cause: &Error) {
        self.note_poison(cause);
        self.wake_waiters();
    }

    fn note_poison(&self, cause: &Error) {
        if self.poison.set(Error::indeterminate(cause)).is_ok() {
            mark(Mark::Poisoned);
        }
    }

    /// Makes one more file ready ahead of need.
    pub fn prepare_file(&self, fill: Fill) -> Result<()> {
        let made = self.poisoning(self.pool.prepare(fill));
        if made.is_err() {
            self.wake_waiters();
        }
        made
    }

    /// Makes a file ready that is needed now. The caller may hold its object: wakers are owed.
    fn make_ready_now(&self) -> Result<()> {
        let made = self.poisoning(self.pool.make_ready_now());
        if made.is_err() {
            self.tell_threads();
        }
        made
    }

    /// Names that a file of the log lost with its own may be of files that others have made.
    fn poisoning(&self, made: Result<(), MakeError>) -> Result<()> {
        made.map_err(|error| match error {
            MakeError::Failed(error) => error,
            MakeError::NamesLost(cause) => {
                self.note_poison(&cause);
                self.poison().cloned().unwrap_or(cause)
            }
        })
    }

    /// Whether a commit waits to be written.
    pub fn has_work(&self) -> bool {
        self.open.lock().records > 0
    }

    pub(super) fn check_poison(&self) -> Result<()> {
        self.poison().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Logs an encoded commit record. `in_order` runs in the critical section that orders commits.
    ///
    /// On an error nothing was logged. The commit is durable when [`Wal::durable`] reaches its LSN.
    pub fn append(&self, record: &mut [u8], in_order: impl FnOnce(&mut C, Grant)) -> Result<Grant> {
        let now = Timestamp(self.clock.wall_micros());
        if record.len() > self.record_bytes_max() {
            return self.append_chain(record, now, in_order);
        }
        let mut open = self.open_with_room(record.len(), GROUP_BYTES_MAX)?;
        let grant = open.grant(now);
        record::stamp(record, grant.lsn, grant.time);
        open.push(record);
        in_order(&mut open.companion, grant);
        Ok(grant)
    }

    /// A record longer than this is logged in parts: small files take small parts.
    pub(super) fn record_bytes_max(&self) -> usize {
        let room = usize::try_from(self.pool.group_room() / 2).unwrap_or(usize::MAX);
        RECORD_BYTES_MAX.min(room)
    }

    /// The open group, with room for a record of so many bytes in a group of at most so many;
    /// writes groups and makes files until there is.
    pub(super) fn open_with_room(
        &self,
        bytes: usize,
        most: u64,
    ) -> Result<Guard<'_, Open<C>, { rank::OPEN }>> {
        loop {
            let open = self.open.lock();
            self.check_poison()?;
            open.refusal.clone().map_or(Ok(()), Err)?;
            let group = group_bytes(open.buffer.len() + bytes);
            let fits_file = open.offset + group <= open.file.bytes;
            let fits_next = group <= self.pool.group_room() && self.pool.is_ready();
            let is_small = group <= most.min(self.pool.group_room());
            if is_small && (fits_file || fits_next) {
                return Ok(open);
            }
            let full = (open.records > 0).then_some(open.group);
            drop(open);
            if let Some(full) = full {
                self.write_full(full)?;
            }
            if !fits_file && !fits_next {
                self.make_ready_now()?;
            }
        }
    }

    /// Writes and syncs the open group, if it has any record. Says whether it had.
    pub fn write_group(&self) -> Result<bool> {
        self.lead(|writer| {
            self.hold_back();
            self.write_next(writer, None)
        })
    }

    /// The same for a group that is full, unless somebody has written it meanwhile. The caller
    /// holds its object: wakers are owed.
    fn write_full(&self, group: u64) -> Result<()> {
        let mut writer = self.writer.lock();
        let done = self.check_poison().and_then(|()| {
            if self.open.lock().group == group {
                self.hold_back();
                self.write_next(&mut writer, None)?;
            }
            Ok(())
        });
        drop(writer);
        self.tell_threads();
        done
    }

    /// Waits for as long as backpressure asks, or until somebody is in a hurry.
    fn hold_back(&self) {
        let began = self.clock.uptime();
        let delay = (self.pressure)();
        loop {
            let left = delay.saturating_sub(self.clock.uptime().saturating_sub(began));
            // No clock is exact to the end: a remainder that it cannot sleep would never pass.
            if left < HELD_BACK_MIN || self.in_hurry.load(Ordering::Relaxed) > 0 {
                return;
            }
            self.clock.sleep(left.min(HELD_BACK_STEP));
        }
    }

    /// Writes a group without records that proves the last group durable to whoever reads the log
    /// later. Skipped where no file has room for it. Says whether one was written.
    pub fn write_mark(&self, kind: GroupKind) -> Result<bool> {
        self.lead(|writer| self.write_next(writer, Some(kind)))
    }

    /// Leaves the present file: the next group, a mark if there is no other, begins a new one,
    /// whose number is returned. Nothing is written any more into any file before it.
    pub fn leave_file(&self) -> Result<FileNumber> {
        let _hurry = self.hurry();
        loop {
            let has_left = self.lead(|writer| {
                if !self.pool.is_ready() {
                    return Ok(None);
                }
                self.open.lock().is_leaving = true;
                let has_left = self.write_next(writer, None)?
                    || self.write_next(writer, Some(GroupKind::Mark))?;
                Ok(has_left.then_some(writer.last.point.file))
            })?;
            if let Some(number) = has_left {
                return Ok(number);
            }
            self.make_ready_now()?;
        }
    }

    /// From now on commits are refused with this error, and what was logged before is written; or
    /// they are taken again.
    pub fn refuse(&self, error: Option<Error>) {
        self.open.lock().refusal = error;
    }

    /// Ends the log with a mark that nothing follows; `error` says so to all that comes later.
    /// Commits must be refused already, and those before that be durable. The zeros behind the mark
    /// take no space any more.
    pub fn finish(&self, error: &Error) -> Result<()> {
        self.lead(|writer| {
            // Parts of a commit that was refused before its end.
            self.write_next(writer, None)?;
            self.write_next(writer, Some(GroupKind::Close))?;
            let _ = self.poison.set(error.clone());
            let open = self.open.lock();
            open.file.file.release_zeros(open.offset..open.file.bytes);
            Ok(())
        })
    }

    /// Runs `work` as the leader, and then tells everyone who may have waited for the leader.
    fn lead<R>(&self, work: impl FnOnce(&mut Writer) -> Result<R>) -> Result<R> {
        let mut writer = self.writer.lock();
        let done = self.check_poison().and_then(|()| work(&mut writer));
        drop(writer);
        self.wake_waiters();
        done
    }

    fn write_next(&self, writer: &mut Writer, mark: Option<GroupKind>) -> Result<bool> {
        let Some(taken) = self.take_group(writer, mark) else {
            return Ok(false);
        };
        self.write_taken(writer, taken)?;
        Ok(true)
    }

    fn take_group(&self, writer: &mut Writer, mark: Option<GroupKind>) -> Option<Taken> {
        let mut open = self.open.lock();
        if (open.records == 0) == mark.is_none() {
            return None;
        }
        let bytes = group_bytes(open.buffer.len());
        // An allocated file served because none was written ahead; before the end it has done so.
        let is_makeshift = open.file.fill == Fill::Allocated
            && mark != Some(GroupKind::Close)
            && self.pool.next_is_written();
        let is_leaving = std::mem::take(&mut open.is_leaving);
        let fresh = is_makeshift || is_leaving || open.offset + bytes > open.file.bytes;
        if fresh {
            let next = self.pool.take()?;
            let left = std::mem::replace(&mut open.file, next);
            open.left.push(left.number);
            open.offset = HEADER_BLOCK_BYTES;
        }
        let point = LogPoint {
            file: open.file.number,
            offset: open.offset,
            group: open.group,
            chain: writer.chain,
        };
        open.starts.push_back(point);
        let last_lsn = Lsn(open.next_lsn.0 - 1);
        let header = GroupHeader {
            kind: mark.unwrap_or(GroupKind::Data),
            number: open.group,
            first_lsn: Lsn(last_lsn.0 + 1 - open.commits.max(1)),
            last_lsn,
            time: open.last_time,
            records: open.records,
            body_bytes: 0,
            body_crc: 0,
            mask: 0,
            previous: writer.chain,
            durable: writer.durable_group,
        };
        let buffer = std::mem::take(&mut writer.spare);
        let bytes_taken = std::mem::replace(&mut open.buffer, buffer);
        let taken = Taken {
            header,
            least_lsn: Lsn(last_lsn.0 + 1 - open.commits),
            bytes: bytes_taken,
            file: Arc::clone(&open.file),
            offset: point.offset,
            fresh,
        };
        open.offset += bytes;
        open.bytes_since_cut += bytes;
        open.group += 1;
        open.records = 0;
        open.commits = 0;
        Some(taken)
    }

    fn write_taken(&self, writer: &mut Writer, mut taken: Taken) -> Result<()> {
        let seed = place_seed(taken.file.salt, taken.file.number.0, taken.offset);
        let last_lsn = taken.header.last_lsn;
        let number = taken.header.number;
        let time = taken.header.time;
        let chain = seal(&mut taken.bytes, taken.header, seed);
        if planted(Mistake::AcknowledgeEarly) {
            self.durable.store(last_lsn.0, Ordering::Release);
        }
        let offset = taken.offset + taken.bytes.len() as u64;
        add_zeros(writer, &mut taken);
        let written = self.write_bytes(writer, &taken);
        if let Err(error) = written {
            // Whoever leads tells of it, when it has let go of the writer.
            self.note_poison(&error);
            self.check_poison()?;
        }
        writer.chain = chain;
        writer.durable_group = number;
        let point = LogPoint { file: taken.file.number, offset, group: number + 1, chain };
        writer.last = LogEnd { point, lsn: last_lsn, time };
        writer.spare = reset(taken.bytes);
        self.open.lock().chain = chain;
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.durable.store(last_lsn.0, Ordering::Release);
        Ok(())
    }

    fn write_bytes(&self, writer: &Writer, taken: &Taken) -> Result<()> {
        if taken.fresh {
            self.pool.write_header(&taken.file, writer.last, taken.least_lsn)?;
        }
        let file = &*taken.file.file;
        let failed =
            |what: &str, cause| Error::io(format!("{what} of {}", taken.file.name()), cause);
        write_all_at(file, &taken.bytes, taken.offset)
            .map_err(|cause| failed("writing a group", cause))?;
        let synced = file.sync();
        let synced =
            if planted(Mistake::RetrySync) { synced.or_else(|_| file.sync()) } else { synced };
        synced.map_err(|SyncFailed(cause)| failed("syncing a group", cause))
    }

    /// Files that the log has left since this was last asked.
    pub fn take_left_files(&self) -> Vec<FileNumber> {
        std::mem::take(&mut self.open.lock().left)
    }

    /// Where the log ends: behind the last durable group. Waits for a group being written.
    pub fn end(&self) -> LogEnd {
        let end = self.writer.lock().last;
        self.wake_waiters();
        end
    }

    /// Groups written and synced since the log was opened.
    pub fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// The last LSN that was given away.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.open.lock().next_lsn.0 - 1)
    }

    /// Runs `read` in the critical section that orders commits.
    pub fn with_companion<R>(&self, read: impl FnOnce(&mut C) -> R) -> R {
        read(&mut self.open.lock().companion)
    }

    /// The WAL file that takes the next group, and every file that stands ready.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl<C> Open<C> {
    pub(super) fn grant(&mut self, now: Timestamp) -> Grant {
        let lsn = self.next_lsn;
        self.next_lsn = lsn.next();
        self.last_time = self.last_time.max(now);
        self.commits += 1;
        Grant { lsn, time: self.last_time }
    }

    pub(super) fn push(&mut self, record: &[u8]) {
        self.buffer.extend_from_slice(record);
        self.records += 1;
    }

    pub(super) fn begin_chain(&mut self) -> (u32, u64) {
        let number = self.next_chain;
        self.next_chain = number.wrapping_add(1);
        self.chains.insert(number, self.group);
        (number, self.group)
    }
}

/// A sync into blocks that are only allocated waits for more than those bytes, as into a new file.
/// So a small group takes zeros along for those behind it, which then find written blocks.
fn add_zeros(writer: &mut Writer, taken: &mut Taken) {
    if taken.fresh {
        writer.zeroed = 0;
    }
    let bytes = taken.bytes.len() as u64;
    let end = taken.offset + bytes;
    if taken.file.fill == Fill::Written || bytes > SMALL_GROUP_BYTES || end <= writer.zeroed {
        return;
    }
    writer.zeroed = taken.file.bytes.min(end + ZEROS_AHEAD_BYTES);
    let zeros = usize::try_from(writer.zeroed.saturating_sub(end)).unwrap_or_default();
    taken.bytes.resize(taken.bytes.len() + zeros, 0);
}

fn group_bytes(unaligned: usize) -> u64 {
    (unaligned as u64).next_multiple_of(GROUP_ALIGNMENT)
}

fn empty_group() -> Vec<u8> {
    vec![0; GROUP_HEADER_BYTES]
}

fn reset(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.clear();
    bytes.shrink_to(2 * 1024 * 1024);
    bytes.resize(GROUP_HEADER_BYTES, 0);
    bytes
}

//! The one limiter of background bytes: zeroing, pages, runs and merges all spend from it, so that
//! commits keep their latency.
//!
//! Background work may not fall behind: the rate that was set holds while nothing is dirty, and
//! grows with what is, to [`RATE_AT_BUDGET`] times as much where the whole budget is dirty and on
//! beyond it.
//!
//! Invariants:
//!   * Spending never blocks for longer than the spent bytes take at the rate in force.
//!   * A rate of zero means no limit.

use super::{Clock, File, SyncFailed, write_all_at};
use crate::planted::{Mistake, planted};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How much is written between two hints to write back.
pub const PIECE_BYTES: usize = 1024 * 1024;

/// How many times the rate that was set is in force where the whole budget is dirty.
pub const RATE_AT_BUDGET: u64 = 4;

/// Bytes per second that all background work shares.
pub struct Pace {
    clock: Arc<dyn Clock>,
    bytes_per_second: AtomicU64,
    /// What is dirty, and the budget for it.
    dirty: OnceLock<(Arc<AtomicUsize>, usize)>,
    /// When the bytes spent so far will have been paid for. Guards arithmetic only; a leaf lock.
    paid_until: Mutex<Duration>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pace({} B/s)", self.bytes_per_second.load(Ordering::Relaxed))
    }
}

impl Pace {
    /// No limit until [`Pace::set_rate`] is called.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            bytes_per_second: AtomicU64::new(0),
            dirty: OnceLock::new(),
            paid_until: Mutex::new(Duration::ZERO),
        }
    }

    /// From now on, this many bytes a second; zero for no limit.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// From now on the rate follows `dirty` bytes of a `budget`. Only the first call counts.
    pub fn follow(&self, dirty: Arc<AtomicUsize>, budget: usize) {
        let _ = self.dirty.set((dirty, budget.max(1)));
    }

    /// The rate in force now; zero for no limit.
    fn rate(&self) -> u64 {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        let Some((dirty, budget)) = self.dirty.get() else { return rate };
        let dirty = dirty.load(Ordering::Relaxed) as u128;
        let more = u128::from(rate) * u128::from(RATE_AT_BUDGET - 1) * dirty / *budget as u128;
        rate.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }

    /// Waits until `bytes` more may be written.
    pub fn spend(&self, bytes: u64) {
        let rate = self.rate();
        if rate == 0 {
            return;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = self.clock.uptime();
        let wait = {
            let mut paid_until = self.paid_until.lock();
            let start = (*paid_until).max(now);
            *paid_until = start + cost;
            start.saturating_sub(now)
        };
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }
}

/// A file being written from its beginning to its end in pieces, each paid for and handed to
/// write-back early, so that the sync at the end finds little to do.
#[derive(Debug)]
pub struct PacedFile {
    file: Arc<dyn File>,
    pace: Arc<Pace>,
    pending: Vec<u8>,
    written: u64,
}

impl PacedFile {
    /// Begins to write `file`, which must be empty.
    pub fn new(file: Arc<dyn File>, pace: Arc<Pace>) -> Self {
        Self { file, pace, pending: Vec::new(), written: 0 }
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Appends bytes; they reach the file in pieces.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append_with(|pending| pending.extend_from_slice(bytes))
    }

    /// Appends what `write` puts behind the bytes that it is given, without a copy of it.
    pub fn append_with<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> io::Result<R> {
        let before = self.pending.len();
        let written = write(&mut self.pending);
        assert!(self.pending.len() >= before, "what is appended takes nothing away");
        if self.pending.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.pending.len() as u64;
        self.pace.spend(bytes);
        write_all_at(&*self.file, &self.pending, self.written)?;
        self.file.start_writeback(self.written..self.written + bytes)?;
        self.written += bytes;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is left and syncs the file. The name is the caller's to sync.
    pub fn finish(mut self) -> Result<(Arc<dyn File>, u64), FinishError> {
        self.flush().map_err(FinishError::Write)?;
        if !planted(Mistake::ManifestEarly) {
            self.file.sync().map_err(FinishError::Sync)?;
        }
        Ok((self.file, self.written))
    }
}

/// Why [`PacedFile::finish`] failed.
#[derive(Debug)]
pub enum FinishError {
    /// The last bytes could not be written.
    Write(io::Error),
    /// The file could not be synced.
    Sync(SyncFailed),
}

impl FinishError {
    /// The operating system's words.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Write(error) | Self::Sync(SyncFailed(error)) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ReadDisk;
    use crate::disk::sim::SimDisk;

    #[test]
    fn background_work_speeds_up_with_what_is_dirty() {
        let clock = SimDisk::new(1).clock();
        let pace = Pace::new(Arc::clone(&clock));
        let dirty = Arc::new(AtomicUsize::new(0));
        pace.follow(Arc::clone(&dirty), 1_000);
        let seconds = |bytes: usize| {
            dirty.store(bytes, Ordering::Relaxed);
            clock.sleep(Duration::from_hours(1));
            let before = clock.uptime();
            (0..13).for_each(|_| pace.spend(1_000));
            clock.uptime().saturating_sub(before).as_secs()
        };
        assert_eq!(seconds(1_000_000), 0, "no rate, no limit");
        pace.set_rate(1_000);
        assert_eq!(seconds(0), 12, "the first is free");
        assert_eq!(seconds(1_000), 12 / RATE_AT_BUDGET);
        assert_eq!([seconds(333), seconds(1_666)], [6, 2]);
        assert_eq!(seconds(usize::MAX), 0);
    }
}

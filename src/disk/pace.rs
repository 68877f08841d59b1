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

use super::Clock;
use super::piece::Pieces;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
    /// What spends most of it.
    pieces: Pieces,
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
            pieces: Pieces::default(),
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

    /// Where pieces of files go that are paid for here.
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
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

//! The one limiter of background bytes: zeroing, pages, runs and merges all spend from it, so that
//! commits keep their latency. It leads to the threads that write what most of them make.
//!
//! Background work may not fall behind: the rate that was set holds while nothing is dirty, and
//! grows with what is, to [`RATE_AT_BUDGET`] times as much where the whole budget is dirty and on
//! beyond it.
//!
//! Invariants:
//!   * Spending never blocks for longer than the spent bytes take at the rate in force.
//!   * A rate of zero means no limit.
//!   * Nobody waits here, for longer than a step of sleep, while the rate is lifted.

use super::Clock;
use super::piece::Pieces;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Who waits looks so often whether the rate was lifted.
const STEP: Duration = Duration::from_millis(20);

/// How many times the rate that was set is in force where the whole budget is dirty.
pub const RATE_AT_BUDGET: u64 = 4;

/// Bytes per second that all background work shares.
pub struct Pace {
    clock: Arc<dyn Clock>,
    bytes_per_second: AtomicU64,
    /// What is dirty, and the budget for it.
    dirty: OnceLock<(Arc<AtomicUsize>, usize)>,
    /// Those who want no limit for now.
    lifted: AtomicUsize,
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
            lifted: AtomicUsize::new(0),
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

    /// There is no limit for as long as this is held: somebody waits for background work to end.
    pub fn lift(&self) -> Lifted<'_> {
        self.lifted.fetch_add(1, Ordering::Relaxed);
        Lifted(self)
    }

    fn is_lifted(&self) -> bool {
        self.lifted.load(Ordering::Relaxed) > 0
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
        if rate == 0 || self.is_lifted() {
            return;
        }
        // In microseconds: a clock need not know less.
        let micros = u128::from(bytes) * 1_000_000 / u128::from(rate);
        let cost = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let now = self.clock.uptime();
        let start = {
            let mut paid_until = self.paid_until.lock();
            let start = (*paid_until).max(now);
            *paid_until = start.saturating_add(cost);
            start
        };
        self.wait_until(start);
    }

    fn wait_until(&self, then: Duration) {
        while !self.is_lifted() {
            let left = then.saturating_sub(self.clock.uptime());
            if left.is_zero() {
                return;
            }
            self.clock.sleep(left.min(STEP));
        }
    }
}

/// While it is held nothing is limited.
#[derive(Debug)]
#[must_use = "the limit is back when this is dropped"]
pub struct Lifted<'p>(&'p Pace);

impl Drop for Lifted<'_> {
    fn drop(&mut self) {
        self.0.lifted.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ReadDisk;
    use crate::disk::sim::SimDisk;
    use std::sync::Weak;

    /// A clock on which somebody loses patience after a second.
    #[derive(Debug)]
    struct Impatient {
        of: Arc<dyn Clock>,
        pace: OnceLock<Weak<Pace>>,
        slept: AtomicUsize,
    }

    impl Clock for Impatient {
        fn wall_micros(&self) -> u64 {
            self.of.wall_micros()
        }

        fn uptime(&self) -> Duration {
            self.of.uptime()
        }

        fn sleep(&self, duration: Duration) {
            self.of.sleep(duration);
            let so_far = self.slept.fetch_add(1, Ordering::Relaxed);
            if so_far == 50
                && let Some(pace) = self.pace.get().and_then(Weak::upgrade)
            {
                std::mem::forget(pace.lift());
            }
        }
    }

    #[test]
    fn who_waits_for_days_goes_on_at_once_when_the_rate_is_lifted() {
        let of = SimDisk::new(1).clock();
        let slept = AtomicUsize::new(0);
        let clock = Arc::new(Impatient { of, pace: OnceLock::new(), slept });
        let pace = Arc::new(Pace::new(Arc::clone(&clock) as Arc<dyn Clock>));
        pace.set_rate(1);
        let before = clock.uptime();
        assert!(clock.pace.set(Arc::downgrade(&pace)).is_ok());
        (0..9).for_each(|_| pace.spend(1 << 30));
        assert_eq!(clock.uptime().saturating_sub(before).as_millis(), 51 * 20);
    }

    #[test]
    fn the_limit_is_back_when_nobody_lifts_it_any_more() {
        let clock = SimDisk::new(1).clock();
        let pace = Pace::new(Arc::clone(&clock));
        pace.set_rate(1_000);
        let seconds = || {
            let before = clock.uptime();
            (0..5).for_each(|_| pace.spend(1_000));
            clock.uptime().saturating_sub(before).as_secs()
        };
        let (one, other) = (pace.lift(), pace.lift());
        assert_eq!(seconds(), 0);
        drop(one);
        assert_eq!(seconds(), 0);
        drop(other);
        assert_eq!(seconds(), 4);
    }

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

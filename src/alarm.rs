//! What an alarm is, and what a failed attempt makes of it: a pure state machine.
//!
//! Time goes in, a decision comes out. Nothing here sleeps, reads a clock or draws randomness, so
//! that what retries do is proven by tests alone.
//!
//! Invariants:
//!   * Time and generation name one setting of an alarm; with the counters, one attempt at it.
//!   * An attempt is due later than the one before it.
//!   * Failures that do not count never end an alarm; those that count end it after the last retry.

use crate::ids::{Lsn, Timestamp, micros};
use std::time::Duration;

/// One setting of an alarm, and what became of its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Alarm {
    /// When it was asked for.
    pub time: Timestamp,
    /// When the next attempt is due: `time`, until one failed.
    pub due: Timestamp,
    /// The store's last commit, of this object if it had one, when the alarm was set.
    pub generation: Lsn,
    /// Failed attempts that count towards giving up.
    pub counted: u32,
    /// Failed attempts that do not.
    pub uncounted: u32,
    /// How often the delay has doubled.
    pub backoff: u32,
}

impl Alarm {
    /// An alarm that was just set.
    #[must_use]
    pub fn new(time: Timestamp, generation: Lsn) -> Self {
        Self { time, due: time, generation, ..Self::default() }
    }

    /// Attempts that failed so far.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.counted.saturating_add(self.uncounted)
    }
}

/// Whose fault a failed attempt was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The handler's: it counts, and after the last retry the alarm is abandoned.
    Counted,
    /// What the handler stands on: it is tried again as often as it takes.
    Uncounted,
}

/// What becomes of an alarm whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is due again, as this state says.
    Retry(Alarm),
    /// It is given up.
    Abandon,
}

/// How failed attempts are tried again. A store always follows the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The delay after the first failure; it doubles with each.
    pub first_delay: Duration,
    /// How often it doubles at most.
    pub doublings_max: u32,
    /// How much longer a delay may be, in percent, so that what failed together is not tried again
    /// together.
    pub jitter_percent: u32,
    /// Retries that count.
    pub counted_max: u32,
}

impl Default for RetryPolicy {
    /// 2 s, doubling up to 1,024 s, up to a quarter longer; six retries that count.
    fn default() -> Self {
        Self {
            first_delay: Duration::from_secs(2),
            doublings_max: 9,
            jitter_percent: 25,
            counted_max: 6,
        }
    }
}

impl RetryPolicy {
    /// The delay before the next attempt, when it has doubled `backoff` times; `random` is any
    /// number, and decides how much longer it is.
    #[must_use]
    pub fn delay(&self, backoff: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(backoff.min(self.doublings_max)).unwrap_or(u32::MAX);
        let delay = self.first_delay.saturating_mul(factor);
        let most = (micros(delay) / 100).saturating_mul(u64::from(self.jitter_percent));
        let jitter = if most == u64::MAX { random } else { random % (most + 1) };
        delay.saturating_add(Duration::from_micros(jitter))
    }

    /// What becomes of `alarm` after its attempt failed at `now`. Delays begin anew with the first
    /// failure that counts.
    #[must_use]
    pub fn after(&self, alarm: &Alarm, failure: Failure, now: Timestamp, random: u64) -> Verdict {
        let mut next = *alarm;
        match failure {
            Failure::Counted if alarm.counted >= self.counted_max => return Verdict::Abandon,
            Failure::Counted => {
                if alarm.counted == 0 {
                    next.backoff = 0;
                }
                next.counted += 1;
            }
            Failure::Uncounted => next.uncounted = next.uncounted.saturating_add(1),
        }
        let delay = micros(self.delay(next.backoff, random)).max(1);
        next.due = Timestamp(now.max(alarm.due).0.saturating_add(delay));
        next.backoff = next.backoff.saturating_add(1).min(self.doublings_max);
        Verdict::Retry(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn delays_double_up_to_a_limit_and_are_at_most_a_quarter_longer() {
        let policy = RetryPolicy::default();
        for (backoff, seconds) in [(0, 2), (1, 4), (2, 8), (8, 512), (9, 1024), (40, 1024)] {
            let delay = |random| policy.delay(backoff, random);
            assert_eq!(delay(0), Duration::from_secs(seconds));
            let most = Duration::from_millis(seconds * 1250);
            assert_eq!(delay(seconds * SECOND / 4), most);
            assert_eq!(delay(seconds * SECOND / 4 + 1), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn an_alarm_is_tried_once_and_then_six_times_more() {
        let policy = RetryPolicy::default();
        let mut alarm = Alarm::new(Timestamp(10), Lsn(3));
        let mut now = alarm.due;
        let mut delays = Vec::new();
        while let Verdict::Retry(next) = policy.after(&alarm, Failure::Counted, now, 0) {
            delays.push((next.due.0 - now.0) / SECOND);
            (alarm, now) = (next, next.due);
        }
        assert_eq!(delays, [2, 4, 8, 16, 32, 64]);
        assert_eq!((alarm.counted, alarm.attempt(), alarm.time), (6, 6, Timestamp(10)));
    }

    #[test]
    fn the_first_failure_that_counts_begins_the_delays_anew() {
        let policy = RetryPolicy::default();
        let mut alarm = Alarm::new(Timestamp(10), Lsn(3));
        let mut fail = |failure| {
            let Verdict::Retry(next) = policy.after(&alarm, failure, alarm.due, 0) else {
                panic!("not abandoned");
            };
            let delay = next.due.0 - alarm.due.0;
            alarm = next;
            delay / SECOND
        };
        let kinds = [Failure::Uncounted, Failure::Uncounted, Failure::Counted, Failure::Uncounted];
        assert_eq!(kinds.map(&mut fail), [2, 4, 2, 4]);
        assert_eq!(fail(Failure::Counted), 8);
    }

    proptest! {
        #[test]
        fn attempts_move_on_and_only_counted_failures_end_them(
            steps in proptest::collection::vec((any::<bool>(), any::<u32>(), any::<u64>()), 0..60),
            time in 0..u64::from(u32::MAX),
        ) {
            let policy = RetryPolicy::default();
            let mut alarm = Alarm::new(Timestamp(time), Lsn(1));
            let mut counted = 0;
            for (counts, now, random) in steps {
                let failure = if counts { Failure::Counted } else { Failure::Uncounted };
                match policy.after(&alarm, failure, Timestamp(u64::from(now)), random) {
                    Verdict::Abandon => {
                        prop_assert!(counts);
                        prop_assert_eq!(counted, policy.counted_max);
                        break;
                    }
                    Verdict::Retry(next) => {
                        counted += u32::from(counts);
                        let base = alarm.due.0.max(u64::from(now));
                        let delay = next.due.0 - base;
                        prop_assert!((2 * SECOND..=1280 * SECOND).contains(&delay));
                        prop_assert_eq!((next.time, next.generation), (alarm.time, Lsn(1)));
                        prop_assert_eq!(next.counted, counted);
                        prop_assert_eq!(next.attempt(), alarm.attempt() + 1);
                        alarm = next;
                    }
                }
            }
        }
    }
}

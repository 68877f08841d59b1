//! What failed is let be for a time: a second at first, twice as long each time, an hour at most.
//! What the medium does not give is asked for again, after pauses, by who would else do without it.
//!
//! Invariants:
//!   * What did not fail is not known here, and what succeeded is forgotten.

use crate::disk::Clock;
use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often one publish waits for what the medium does not give, and how long.
const PAUSES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(1);

/// What failed, and until when each of it is let be.
#[derive(Debug)]
pub struct Patience<K>(BTreeMap<K, Wait>);

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Duration,
    lasts: Duration,
}

impl<K> Default for Patience<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Patience<K> {
    /// It has failed, at this uptime; once more, if it has before.
    pub(super) fn note_failed(&mut self, what: K, now: Duration) {
        let fresh = Wait { until: Duration::ZERO, lasts: FIRST / 2 };
        let wait = self.0.entry(what).or_insert(fresh);
        wait.lasts = (wait.lasts * 2).min(LONGEST);
        wait.until = now + wait.lasts;
    }

    /// Whether it is to be let be.
    pub(super) fn waits(&self, what: &K, now: Duration) -> bool {
        self.0.get(what).is_some_and(|wait| now < wait.until)
    }

    /// What was let be for long enough.
    pub(super) fn over(&self, now: Duration) -> impl Iterator<Item = &K> {
        self.0.iter().filter(move |(_, wait)| wait.until <= now).map(|(what, _)| what)
    }

    /// When the first of it will have been.
    pub(super) fn next_over(&self) -> Option<Duration> {
        self.0.values().map(|wait| wait.until).min()
    }

    /// Forgets all else.
    pub(super) fn keep_only(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.0.retain(|what, _| is_kept(what));
    }
}

/// How often what the medium does not give is still asked for again. Clones have the same pauses.
#[derive(Clone, Debug)]
pub struct Pauses(Arc<AtomicU32>);

impl Default for Pauses {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(PAUSES)))
    }
}

impl Pauses {
    /// Asks, and asks again after pauses for as long as the medium does not give the answer and
    /// there are pauses left.
    pub(super) fn insist<T>(
        &self,
        clock: &dyn Clock,
        mut ask: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        loop {
            match ask() {
                Err(error) if error.is_unreadable() && self.take() => clock.sleep(PAUSE),
                answer => return answer,
            }
        }
    }

    /// Takes a pause, if there is one left.
    fn take(&self) -> bool {
        let fewer = |left: u32| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }

    /// Whether any pause was made.
    pub(super) fn were_needed(&self) -> bool {
        self.0.load(Ordering::Relaxed) < PAUSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ReadDisk;
    use crate::disk::sim::SimDisk;
    use crate::error::{Error, ErrorKind};
    use rustix::io::Errno;
    use std::io;

    #[test]
    fn who_asks_inside_who_asks_makes_no_pauses_of_its_own() {
        let clock = SimDisk::new(1).clock();
        let (pauses, before) = (Pauses::default(), clock.uptime());
        let ask = || -> Result<()> {
            let error = Error::new(ErrorKind::Corrupt, "run.unreadable", "it is not given");
            Err(error.caused_by(io::Error::from(Errno::IO)))
        };
        let inner = pauses.clone();
        pauses.insist(&*clock, || inner.insist(&*clock, ask)).unwrap_err();
        assert_eq!(clock.uptime().saturating_sub(before), PAUSE * PAUSES);
        assert!(pauses.were_needed() && !Pauses::default().were_needed());
    }

    #[test]
    fn waits_double_up_to_an_hour_and_begin_anew_after_a_success() {
        let mut patience = Patience::default();
        let mut now = Duration::ZERO;
        let mut waited = Vec::new();
        for _ in 0..14 {
            patience.note_failed('a', now);
            let before = now;
            while patience.waits(&'a', now) {
                now += Duration::from_secs(1);
            }
            waited.push((now.saturating_sub(before)).as_secs());
        }
        assert_eq!(waited[..4], [1, 2, 4, 8]);
        assert_eq!(waited[11..], [2048, 3600, 3600]);
        assert!(!patience.waits(&'b', now));
        patience.keep_only(|_| false);
        patience.note_failed('a', now);
        assert!(!patience.waits(&'a', now + FIRST));
    }
}

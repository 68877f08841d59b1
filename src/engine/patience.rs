//! What failed is let be for a time: a second at first, twice as long each time, an hour at most.
//! What the medium does not give is asked for again, after pauses, by who would else do without it.
//!
//! Invariants:
//!   * What did not fail is not known here, and what succeeded is forgotten.

use crate::directory::{Directory, FencedPage};
use crate::disk::Clock;
use crate::error::{Error, Place, Result};
use crate::ids::{Address, Life};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a question is asked again that the medium does not answer, and how long is waited.
const PAUSES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Places that one publish waits for in vain at most: the next are not waited for.
const VAIN_MAX: usize = 4;

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

/// What one publish has waited for. Clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Pauses(Arc<Mutex<Waits>>);

#[derive(Debug, Default)]
struct Waits {
    were_needed: bool,
    /// Where the medium gave nothing after all pauses.
    in_vain: Vec<Option<Place>>,
}

impl Pauses {
    /// Asks, and asks again after pauses where the medium does not give the answer: three times,
    /// unless the place is one that was waited for in vain.
    pub(super) fn insist<T>(
        &self,
        clock: &dyn Clock,
        mut ask: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        for _ in 0..PAUSES {
            match ask() {
                Err(error) if error.is_unreadable() && self.may_wait(&error) => clock.sleep(PAUSE),
                answer => return answer,
            }
        }
        ask().inspect_err(|error| self.note_vain(error))
    }

    /// The pages of a life as [`Directory::pages`] gives them. Each that the medium does not give
    /// is asked for again; those before it are not.
    pub(super) fn pages<'a>(
        &'a self,
        clock: &'a dyn Clock,
        directory: &'a Directory,
        (address, life): (Address, Life),
    ) -> impl Iterator<Item = Result<FencedPage>> + 'a {
        let mut last: Option<Vec<u8>> = None;
        let mut walk = directory.pages(address, life);
        std::iter::from_fn(move || {
            let mut is_again = false;
            let next = self.insist(clock, || {
                if std::mem::replace(&mut is_again, true) {
                    walk = match &last {
                        Some(fence) => directory.pages_behind(address, life, fence),
                        None => directory.pages(address, life),
                    };
                }
                walk.next().transpose()
            });
            if let Ok(Some((fence, _))) = &next {
                last = Some(fence.clone());
            }
            next.transpose()
        })
    }

    fn may_wait(&self, error: &Error) -> bool {
        let mut waits = self.0.lock();
        let may_wait = waits.in_vain.len() < VAIN_MAX && !waits.is_vain(error);
        waits.were_needed |= may_wait;
        may_wait
    }

    fn note_vain(&self, error: &Error) {
        let mut waits = self.0.lock();
        if error.is_unreadable() && !waits.is_vain(error) {
            waits.in_vain.push(error.place().cloned());
        }
    }

    /// Whether any pause was made.
    pub(super) fn were_needed(&self) -> bool {
        self.0.lock().were_needed
    }
}

impl Waits {
    fn is_vain(&self, error: &Error) -> bool {
        self.in_vain.iter().any(|place| place.as_ref() == error.place())
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
    fn each_place_is_waited_for_once_and_few_are_in_vain() {
        let clock = SimDisk::new(1).clock();
        let (pauses, started) = (Pauses::default(), clock.uptime());
        let waited = || clock.uptime().saturating_sub(started).as_secs();
        let at = |offset: u64| {
            let place = Place::new("run/1", offset);
            let error = Error::corrupt("run.unreadable", "it is not given", place);
            error.caused_by(io::Error::from(Errno::IO))
        };
        let comes_back = |offset: u64| {
            let mut asked = 0;
            pauses.insist(&*clock, || {
                asked += 1;
                if asked > 3 { Ok(asked) } else { Err(at(offset)) }
            })
        };
        (0..20).for_each(|offset| assert_eq!(comes_back(offset).unwrap(), 4));
        assert_eq!(waited(), 60);
        for place in 1..=4 {
            for _ in 0..2 {
                pauses.insist::<()>(&*clock, || Err(at(100 + place))).unwrap_err();
                assert_eq!(waited(), 60 + 3 * place);
            }
        }
        comes_back(7).unwrap_err();
        assert_eq!(waited(), 72);
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

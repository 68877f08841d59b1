//! Latencies of commits, second by second, recorded by many threads or tasks at once.
//!
//! Invariants:
//!   * A commit is recorded once, in the second in which its caller learnt that it is durable.
//!   * Memory does not grow with what is in flight, only with the seconds.

use crate::measure::Histogram;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Parts with a lock each, so that threads seldom meet.
const PARTS: usize = 16;

/// Commits of one second.
#[derive(Clone, Debug)]
pub struct Second {
    pub commits: u64,
    pub latency: Histogram,
}

impl Second {
    fn new() -> Self {
        Self { commits: 0, latency: Histogram::new() }
    }

    pub fn record(&mut self, latency: Duration) {
        self.commits += 1;
        self.latency.record(latency);
    }

    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.latency.add(&other.latency);
    }
}

/// Where commits are recorded.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    parts: Vec<Mutex<Vec<Second>>>,
}

impl Recorder {
    pub fn new() -> Self {
        Self { began: Instant::now(), parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }

    /// Records commits that began at the same moment and are durable now.
    pub fn record(&self, stream: usize, began: Instant, commits: usize) {
        let now = Instant::now();
        self.at(stream, now, |second| {
            (0..commits).for_each(|_| second.record(now.saturating_duration_since(began)));
        });
    }

    /// The second that `now` lies in, for what a thread or task records there.
    pub fn at(&self, stream: usize, now: Instant, record: impl FnOnce(&mut Second)) {
        let number = now.saturating_duration_since(self.began).as_secs() as usize;
        let part = &self.parts[stream % PARTS];
        let mut seconds = part.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.len() <= number {
            seconds.resize_with(number + 1, Second::new);
        }
        record(&mut seconds[number]);
    }

    /// All seconds so far, of all threads and tasks.
    pub fn seconds(&self) -> Vec<Second> {
        let mut all: Vec<Second> = Vec::new();
        for part in &self.parts {
            let seconds = part.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() < seconds.len() {
                all.resize_with(seconds.len(), Second::new);
            }
            all.iter_mut().zip(seconds.iter()).for_each(|(sum, second)| sum.add(second));
        }
        all
    }

    /// Everything as one.
    pub fn whole(&self) -> Second {
        let mut whole = Second::new();
        self.seconds().iter().for_each(|second| whole.add(second));
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_counts_in_the_second_in_which_it_became_durable() {
        let recorder = Recorder::new();
        let later = recorder.began + Duration::from_millis(2_500);
        recorder.at(3, recorder.began, |second| second.record(Duration::from_micros(100)));
        recorder.at(4, later, |second| second.record(Duration::from_micros(900)));
        let counts: Vec<u64> = recorder.seconds().iter().map(|second| second.commits).collect();
        assert_eq!(counts, [1, 0, 1]);
        let whole = recorder.whole();
        assert_eq!(whole.commits, 2);
        assert!(whole.latency.micros(0.0) < 110.0);
        assert!(whole.latency.micros(0.9) > 800.0);
    }
}

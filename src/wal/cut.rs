//! Cuts: moments in the log up to which a checkpoint works, and where replay begins behind them.
//!
//! Invariants:
//!   * A cut is chosen in the critical section that orders commits, so each commit is on one side.
//!   * Replay from a cut's point meets every part of every commit behind the cut.

use super::group_commit::Wal;
use crate::ids::{LogPoint, Lsn, Timestamp};

/// A moment in the log: everything up to `lsn` is before it.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The last commit before the cut.
    pub lsn: Lsn,
    /// The time of that commit.
    pub time: Timestamp,
    /// No commit behind the cut, and no part of one, is in a group before this one.
    group: u64,
    /// Bytes of groups before it that were counted.
    bytes: u64,
}

impl<C> Wal<C> {
    /// Chooses a cut: `change` runs in the critical section that orders commits.
    pub fn cut<R>(&self, change: impl FnOnce(&mut C) -> R) -> (Cut, R) {
        let mut open = self.open.lock();
        let oldest_chain = open.chains.values().copied().min().unwrap_or(u64::MAX);
        let group = open.group.min(oldest_chain);
        while open.starts.front().is_some_and(|start| start.group < group) {
            open.starts.pop_front();
        }
        let (lsn, bytes) = (Lsn(open.next_lsn.0 - 1), open.bytes_since_cut);
        let cut = Cut { lsn, time: open.last_time, group, bytes };
        let changed = change(&mut open.companion);
        (cut, changed)
    }

    /// Where replay begins for a cut that is durable. Waits for a group being written: the chain
    /// behind it is not known before.
    pub fn replay_point(&self, cut: &Cut) -> LogPoint {
        let _hurry = self.hurry();
        let writer = self.writer.lock();
        let point = self.point_of(cut);
        drop(writer);
        self.wake_waiters();
        point
    }

    fn point_of(&self, cut: &Cut) -> LogPoint {
        let open = self.open.lock();
        let started = open.starts.iter().find(|start| start.group == cut.group);
        started.copied().unwrap_or(LogPoint {
            file: open.file.number,
            offset: open.offset,
            group: open.group,
            chain: open.chain,
        })
    }

    /// Bytes of older groups that no cut covers: what an open has read.
    pub fn count_behind_cut(&self, bytes: u64) {
        self.open.lock().bytes_since_cut += bytes;
    }

    /// Counts the bytes before a cut no more: it was published, or there was nothing to publish.
    pub fn count_covered(&self, cut: &Cut) {
        let mut open = self.open.lock();
        open.bytes_since_cut = open.bytes_since_cut.saturating_sub(cut.bytes);
    }

    /// Bytes of groups since the last cut that was published: what an open would read.
    pub fn bytes_since_cut(&self) -> u64 {
        self.open.lock().bytes_since_cut
    }
}

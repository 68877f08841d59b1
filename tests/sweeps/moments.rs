//! The moments of a run: what a power cut may meet, and what must be there after it.
//!
//! Invariants:
//!   * Steps run once. A moment is a copy of the machine as of before a call that changes
//!     something; calls that change nothing between two of them leave the same behind.
//!   * What the store had acknowledged before the call must be there, even if it did so in the
//!     middle of a step.

use crate::world::World;
use dostore::disk::sim::SimDisk;
use dostore::error::Result;
use dostore::store::commit::Commit;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

/// A machine before a call, and which commits it may be at once the power failed during that call.
pub struct Moment {
    pub disk: SimDisk,
    pub range: Range<usize>,
}

/// Notes behind which call it was woken.
struct Alarm {
    disk: SimDisk,
    woken: OnceLock<u64>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.woken.get_or_init(|| self.disk.calls());
    }
}

/// Commits that are waited for, each with its state.
#[derive(Default)]
pub struct Waiting(Vec<(usize, Commit, Arc<Alarm>)>);

impl Waiting {
    fn begin(&mut self, index: usize, mut commit: Commit, disk: &SimDisk) {
        let alarm = Arc::new(Alarm { disk: disk.clone(), woken: OnceLock::new() });
        let waker = Waker::from(Arc::clone(&alarm));
        if Pin::new(&mut commit).poll(&mut Context::from_waker(&waker)).is_pending() {
            self.0.push((index, commit, alarm));
        }
    }

    /// Those that were acknowledged meanwhile: the calls before that, and the state.
    fn acknowledged(&mut self) -> Vec<(u64, usize)> {
        let mut acknowledged = Vec::new();
        self.0.retain_mut(|(index, commit, alarm)| {
            let Some(woken) = alarm.woken.get() else { return true };
            let waker = Waker::from(Arc::clone(alarm));
            match Pin::new(commit).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(_)) => acknowledged.push((*woken, *index)),
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return true,
            }
            false
        });
        acknowledged
    }
}

impl World {
    /// Does something to the store. Gives the moments that it passed.
    pub fn watched(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<Vec<Moment>> {
        self.disk.keep_moments();
        let before = self.floor;
        act(self)?;
        let passed = self.disk.take_moments();
        let acknowledged = self.waiting.acknowledged();
        if let Some(commit) = self.last.take() {
            self.waiting.begin(self.states.len() - 1, commit, &self.disk);
        }
        let durable = self.store().durable();
        let durable = self.states.iter().rposition(|(lsn, _)| *lsn <= durable);
        self.floor = self.floor.max(durable.unwrap_or(0));
        let moment = |(calls, disk)| {
            let told = acknowledged.iter().filter(|(woken, _)| *woken <= calls);
            let floor = told.map(|(_, index)| *index).max().unwrap_or(0).max(before);
            Moment { disk, range: floor..self.states.len() }
        };
        Ok(passed.into_iter().map(moment).collect())
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment { disk: self.disk.fork(), range: self.range() }
    }
}

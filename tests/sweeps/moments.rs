//! The moments of a run: what a power cut may meet, and what must be there after it.
//!
//! Invariants:
//!   * Steps run once. A moment is a copy of the machine as of before a call that changes
//!     something; calls that change nothing between two of them leave the same behind.
//!   * What the store called durable before the call must be there, even if it did so in the
//!     middle of a step: no commit is acknowledged that is not.

use crate::world::World;
use dostore::disk::sim::{Moment as Kept, SimDisk};
use dostore::error::Result;
use dostore::ids::Lsn;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

/// A machine before a call, and which commits it may be at once the power failed during that call.
pub struct Moment {
    pub disk: SimDisk,
    pub range: Range<usize>,
}

impl World {
    /// Does something to the store, and asks then whether the last commit is durable, if
    /// `is_asked`: who asks writes the log. Gives the moments that both passed.
    pub fn watched(
        &mut self,
        is_asked: bool,
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Vec<Moment>> {
        let shown = Arc::clone(&self.shown);
        let durable = move || shown.lock().unwrap().as_ref().map_or(0, |store| store.durable().0);
        self.disk.keep_moments_asking(durable);
        let before = self.floor;
        act(self)?;
        if let Some(mut commit) = self.last.take().filter(|_| is_asked) {
            let answer = Pin::new(&mut commit).poll(&mut Context::from_waker(Waker::noop()));
            assert!(answer.is_ready(), "in a store without threads, who asks writes the log");
        }
        let passed = self.disk.take_moments();
        self.floor = self.floor.max(self.state_at(self.store().durable()));
        let moment = |Kept { disk, told, .. }| {
            let floor = before.max(self.state_at(Lsn(told)));
            Moment { disk, range: floor..self.states.len() }
        };
        Ok(passed.into_iter().map(moment).collect())
    }

    /// The state that all commits up to this one have made.
    fn state_at(&self, lsn: Lsn) -> usize {
        self.states.iter().rposition(|(made, _)| *made <= lsn).unwrap_or(0)
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment { disk: self.disk.fork(), range: self.range() }
    }
}

//! Commits of dostore that are in flight: nobody waits for each by itself, a look at the store's
//! watermark settles many.
//!
//! Invariants:
//!   * No more are in flight than the limit.

use crate::Result;
use crate::recorder::Recorder;
use dostore::ids::Lsn;
use dostore::store::Store;
use std::collections::VecDeque;
use std::time::Instant;

/// Commits in flight, the oldest first.
pub struct Window<'a> {
    store: &'a Store,
    recorder: &'a Recorder,
    pub stream: usize,
    pub limit: usize,
    waiting: VecDeque<(Lsn, Instant)>,
}

impl<'a> Window<'a> {
    pub fn new(store: &'a Store, recorder: &'a Recorder, stream: usize, limit: usize) -> Self {
        Self { store, recorder, stream, limit, waiting: VecDeque::new() }
    }

    /// Adds a commit; when the window is full, waits until the oldest is durable.
    pub fn push(&mut self, lsn: Lsn, began: Instant) -> Result<()> {
        self.waiting.push_back((lsn, began));
        if self.waiting.len() >= self.limit {
            self.settle();
        } else if self.waiting.len().is_multiple_of(16) {
            // A look at the watermark now and then keeps latencies exact at little cost.
            self.settle();
            return Ok(());
        }
        match self.waiting.front() {
            Some((oldest, _)) if self.waiting.len() >= self.limit => {
                self.store.wait_durable(*oldest)?;
                self.settle();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Records what became durable.
    fn settle(&mut self) {
        let durable = self.store.durable();
        if self.waiting.front().is_none_or(|(lsn, _)| *lsn > durable) {
            return;
        }
        let now = Instant::now();
        let waiting = &mut self.waiting;
        self.recorder.at(self.stream, now, |second| {
            while let Some((_, began)) = waiting.pop_front_if(|(lsn, _)| *lsn <= durable) {
                second.record(now.saturating_duration_since(began));
            }
        });
    }

    /// Waits for all.
    pub fn drain(&mut self) -> Result<()> {
        if let Some((newest, _)) = self.waiting.back() {
            self.store.wait_durable(*newest)?;
        }
        self.settle();
        Ok(())
    }
}

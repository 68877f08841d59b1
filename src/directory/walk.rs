//! Several runs walked as one: at equal keys the newest wins.
//!
//! Invariants:
//!   * A hole is met before any entry inside it.
//!   * What a hole of a newer run covers is never handed out from an older one: it may have been
//!     replaced.

use crate::error::{Error, Result};
use crate::run::cursor::ItemRef;
use crate::run::{Run, RunIter};
use std::cell::Cell;

/// What a walk meets.
pub(super) enum Step {
    /// The newest entry for its key; [`Walk::entry`] shows it.
    Entry {
        /// Which of the runs has it, counted from the newest.
        lane: usize,
        /// Whether it lies in a hole, and so is all that answers for its key.
        shields: bool,
    },
    /// Entries between these keys, both included, were lost; what a question about them gets.
    Hole { lane: usize, first: Vec<u8>, last: Vec<u8>, hidden: Error },
}

#[derive(Debug)]
pub(super) struct Walk<'a> {
    /// The newest first.
    lanes: Vec<Lane<'a>>,
}

#[derive(Debug)]
struct Lane<'a> {
    items: RunIter<'a>,
    /// The last key that is covered by a hole met so far.
    lost_to: Option<Vec<u8>>,
    /// The item has been dealt with.
    used: Cell<bool>,
}

impl Lane<'_> {
    /// Whether a key that the walk has come to is in a hole.
    fn lost(&self, key: &[u8]) -> bool {
        self.lost_to.as_deref().is_some_and(|last| key <= last)
    }

    /// Whether a key that the walk has come to is in a hole of which the run cannot say that it
    /// held no such key.
    fn may_replace(&self, key: &[u8]) -> bool {
        self.lost(key) && self.items.run().may_hold_start_of(key)
    }
}

impl<'a> Walk<'a> {
    /// From `key` on, over runs of which the newest come first.
    pub(super) fn new(runs: impl Iterator<Item = &'a Run>, key: &[u8]) -> Self {
        let lane = |run: &'a Run| Lane {
            items: run.iter_from(key),
            lost_to: None,
            used: Cell::new(false),
        };
        Self { lanes: runs.map(lane).collect() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Step>> {
        loop {
            for lane in &mut self.lanes {
                lane.items.begin()?;
                if lane.used.replace(false) {
                    lane.items.advance()?;
                }
            }
            let Some((number, item)) = self.least() else { return Ok(None) };
            match item {
                ItemRef::Hole { first, last } => {
                    let (first, last) = (first.to_vec(), last.to_vec());
                    let lane = &mut self.lanes[number];
                    if !lane.lost(&last) {
                        lane.lost_to = Some(last.clone());
                    }
                    lane.used.set(true);
                    let hidden = lane.items.hidden();
                    return Ok(Some(Step::Hole { lane: number, first, last, hidden }));
                }
                ItemRef::Entry { key, .. } => {
                    self.use_up(key);
                    if self.lanes[..number].iter().any(|newer| newer.may_replace(key)) {
                        continue;
                    }
                    let shields = self.lanes.iter().any(|lane| lane.lost(key));
                    return Ok(Some(Step::Entry { lane: number, shields }));
                }
            }
        }
    }

    /// The first of all items; at equal keys holes come first, then newer entries.
    fn least(&self) -> Option<(usize, ItemRef<'_>)> {
        let items = self.lanes.iter().enumerate();
        let items = items.filter_map(|(number, lane)| Some((number, lane.items.current()?)));
        items.min_by(|(_, one), (_, other)| one.order().cmp(&other.order()))
    }

    fn use_up(&self, wanted: &[u8]) {
        for lane in &self.lanes {
            let entry = matches!(
                lane.items.current(),
                Some(ItemRef::Entry { key, .. }) if key == wanted
            );
            lane.used.set(entry);
        }
    }

    /// The entry of a lane that the last step named.
    pub(super) fn entry(&self, lane: usize) -> (&[u8], &[u8]) {
        match self.lanes[lane].items.current() {
            Some(ItemRef::Entry { key, value }) => (key, value),
            _ => (&[], &[]),
        }
    }

    /// The run of a lane.
    pub(super) fn run(&self, lane: usize) -> &'a Run {
        self.lanes[lane].items.run()
    }

    /// Passes entries below `key`, but no holes.
    pub(super) fn skip_to(&mut self, key: &[u8]) -> Result<()> {
        for lane in &mut self.lanes {
            if lane.items.skip_to(key)? {
                lane.used.set(false);
            }
        }
        Ok(())
    }
}

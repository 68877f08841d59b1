//! Hints of alarms, over several runs walked as one.
//!
//! Invariants:
//!   * A hint that a newer run takes back is not handed out.
//!   * A range in which hints were lost is said, and the walk goes on behind it.

use super::walk::{Step, Walk};
use crate::error::{Error, Result};
use crate::format::alarm::{Hint, hint_is_set};
use crate::names::FileName;
use crate::run::Run;
use std::sync::Arc;

/// What a walk over hints meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintStep {
    /// A hint.
    Hint(Hint),
    /// Hints were lost to damage.
    Lost(Lost),
}

/// Hints of one run between two keys, both included, that were lost to damage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lost {
    /// The run.
    pub run: FileName,
    /// The first key.
    pub first: Vec<u8>,
    /// The last key.
    pub last: Vec<u8>,
}

/// Hints in their order.
#[derive(Debug)]
pub struct Hints<'a> {
    walk: Walk<'a>,
}

impl<'a> Hints<'a> {
    /// From `key` on, over alarm runs of which the newest come first.
    pub fn new(runs: &'a [Arc<Run>], key: &[u8]) -> Self {
        Self { walk: Walk::new(runs.iter().map(|run| &**run), key) }
    }

    /// The next step whose key is below `behind`; none when there is none.
    pub fn next_below(&mut self, behind: &[u8]) -> Result<Option<HintStep>> {
        while let Some(step) = self.walk.next()? {
            match step {
                Step::Hole { lane, first, last, .. } if *first < *behind => {
                    let run = self.walk.run(lane).name();
                    return Ok(Some(HintStep::Lost(Lost { run, first, last })));
                }
                Step::Hole { .. } => return Ok(None),
                Step::Entry { lane, .. } => {
                    let (key, value) = self.walk.entry(lane);
                    if key >= behind {
                        return Ok(None);
                    }
                    let bad = |fault| -> Error { self.walk.run(lane).bad_entry(fault) };
                    if hint_is_set(value).map_err(bad)? {
                        return Ok(Some(HintStep::Hint(Hint::decode(key).map_err(bad)?)));
                    }
                }
            }
        }
        Ok(None)
    }
}

//! What a seed draws: settings at their smallest, and one step after another.
//!
//! Invariants:
//!   * A step that is drawn is one that may succeed: what must be refused is asked elsewhere.

use crate::chance::Chance;
use crate::steps::Step;
use crate::world::{OBJECTS, Past, World, options};
use dostore::error::Result;
use dostore::retention::Retention;
use dostore::store::Options;
use std::time::Duration;

pub fn drawn_options(chance: &mut Chance) -> Options {
    let seconds = |seconds, bytes| Retention::Keep { age: Duration::from_secs(seconds), bytes };
    let retention = [
        Retention::days(30),
        Retention::days(30),
        seconds(100, None),
        seconds(1_000, Some(4_000)),
        Retention::Off,
    ];
    let epoch = chance.pick(&[1, 60]);
    let options = options().epoch(
        Duration::from_secs(epoch),
        chance.pick(&[1, 1 << 10, 8 << 10]),
        Duration::from_secs(chance.pick(&[60, 3_600])),
    );
    options
        .wal_file_bytes(chance.pick(&[64 << 10, 96 << 10]))
        .pool_files(chance.index(3))
        .page_bytes(chance.pick(&[512, 512, 1_024, 24 << 10]))
        .segment_bytes(chance.pick(&[16 << 10, 64 << 10]))
        .clean_bytes(chance.pick(&[1, 8 << 10, 64 << 20]))
        .cache_bytes(chance.pick(&[0, 4 << 10, 1 << 20]))
        .dirty_bytes(chance.pick(&[1 << 10, 1 << 20]))
        .retire_after(Duration::from_secs(chance.pick(&[0, 0, 60])))
        .history_state_bytes(chance.pick(&[128, 1 << 10, 64 << 10]))
        .adopt_operations(chance.pick(&[0, 4, 65_536]))
        .retention(chance.pick(&retention))
}

/// A step, or one that needs a moment of the past.
#[derive(Clone, Debug)]
pub enum Act {
    Step(Step),
    Restore(Past),
    Fork(Past, usize),
}

impl Act {
    pub fn on(&self, world: &mut World) -> Result<()> {
        match self {
            Self::Step(step) => world.act(*step),
            Self::Restore(past) => world.restore(past),
            Self::Fork(past, to) => world.fork_to(past, *to),
        }
    }
}

/// None where what was drawn has nothing to work on.
pub fn drawn_step(chance: &mut Chance, world: &World) -> Option<Act> {
    let object = chance.index(OBJECTS);
    let step = match chance.weighted(&[18, 4, 6, 2, 4, 4, 2, 2, 2, 3, 2, 6, 2, 30, 14]) {
        0 => Step::Put(object),
        1 => Step::PutLarge(object),
        2 => Step::PutMany(object),
        3 => Step::Savepoint(object),
        4 => Step::DeleteKey(object),
        5 => Step::DeleteRange(object),
        6 => Step::DeleteAll(object),
        7 => Step::Remove(object),
        8 => Step::Purge(object),
        9 => Step::Alarm(object),
        10 => Step::ClearAlarm(object),
        11 => return some_past(chance, world, object).map(Act::Restore),
        12 => {
            let to = (0..OBJECTS).find(|to| !world.state().contains_key(to))?;
            return some_past(chance, world, object).map(|past| Act::Fork(past, to));
        }
        13 => chance.pick(&[
            Step::Checkpoint,
            Step::Checkpoint,
            Step::Checkpoint,
            Step::Clean,
            Step::Merge,
            Step::Merge,
            Step::Expire,
            Step::Erase,
            Step::Prepare,
            Step::Retired,
            Step::Scrub,
            Step::Namespace,
            Step::Reopen,
        ]),
        _ => {
            chance.pick(&[Step::Wait, Step::Wait, Step::Group, Step::Group, Step::Mark, Step::Time])
        }
    };
    Some(Act::Step(step))
}

/// A moment of an object that no purge has put out of reach.
fn some_past(chance: &mut Chance, world: &World, object: usize) -> Option<Past> {
    let pasts: Vec<_> = world.readable(object).collect();
    (!pasts.is_empty()).then(|| chance.pick(&pasts).clone())
}

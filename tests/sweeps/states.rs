//! Every state that a power cut can leave behind very short sequences of steps: every moment, and
//! of what is not durable then every subset.
//!
//! Invariants:
//!   * States that are the same bytes under the same expectations are examined once.

use crate::ledger::{self, Row};
use crate::moments::Moment;
use crate::steps::{SHORT, Step, sequence};
use crate::world::{World, base};
use crate::{number, on_all_cores};
use dostore::disk::sim::{Crash, KeepLength, KeepNames, KeepSectors};
use dostore::error::Result as Done;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of so many sequences one is tried, if nothing else is said.
const STRIDE: usize = 211;
/// Sectors and names together of which every subset is tried; of more, so many subsets.
const BITS_MAX: usize = 12;
const SAMPLES: u64 = 64;

/// What was examined.
#[derive(Debug, Default)]
struct Seen {
    states: AtomicU64,
    /// Moments with more at risk than all subsets of which are tried.
    sampled: AtomicU64,
    moments: AtomicU64,
}

/// The subsets of so many sectors and names: all, or some that follow from a number.
fn subsets(sectors: usize, names: usize) -> Box<dyn Iterator<Item = (u64, u64)>> {
    let bits = sectors + names;
    let split = move |bits: u64| {
        let low = if sectors >= 64 { u64::MAX } else { (1 << sectors) - 1 };
        (bits & low, bits.checked_shr(sectors as u32).unwrap_or(0))
    };
    if bits <= BITS_MAX {
        return Box::new((0..1_u64 << bits).map(split));
    }
    let scattered = |number: u64| (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    Box::new((0..SAMPLES).map(move |number| {
        let chosen = scattered(number);
        match number {
            0 => (0, 0),
            1 => (u64::MAX, u64::MAX),
            _ => (chosen, scattered(chosen)),
        }
    }))
}

/// All that can be left of a machine that loses power at a moment.
fn cut(
    world: &World,
    moment: &Moment,
    seen: &Seen,
    known: &mut HashSet<(u64, Range<usize>)>,
) -> Result<(), String> {
    let (sectors, names) = moment.disk.at_risk();
    seen.moments.fetch_add(1, Ordering::Relaxed);
    seen.sampled.fetch_add(u64::from(sectors + names > BITS_MAX), Ordering::Relaxed);
    for (these, those) in subsets(sectors, names) {
        for length in [KeepLength::Old, KeepLength::New] {
            let crash = Crash {
                sectors: KeepSectors::These(these),
                length,
                names: KeepNames::These(those),
            };
            let disk = moment.disk.fork().power_cut_keeping(crash);
            if !known.insert((disk.content_hash(), moment.range.clone())) {
                continue;
            }
            seen.states.fetch_add(1, Ordering::Relaxed);
            world
                .check_left(&disk, moment.range.clone())
                .map_err(|what| format!("{crash:?}: {what}"))?;
        }
    }
    Ok(())
}

fn examine(steps: &[Step], seen: &Seen) -> Result<(), String> {
    let mut known = HashSet::new();
    let mut world = base();
    let mut pass = |world: &mut World, act: &dyn Fn(&mut World) -> Done<()>| {
        let moments = world.watched(true, act).map_err(|error| format!("{error:?}"))?;
        let all = moments.iter().try_for_each(|moment| cut(world, moment, seen, &mut known));
        all.and_then(|()| cut(world, &world.now(), seen, &mut known))
    };
    pass(&mut world, &World::open)?;
    for step in steps {
        pass(&mut world, &|world| world.act(*step))
            .map_err(|what| format!("in {step:?}, {what}"))?;
    }
    Ok(())
}

#[test]
fn every_state_that_a_power_cut_leaves_behind_a_short_sequence_is_one_of_its_commits() {
    let (from, stride) = (number("DOSTORE_STATES_FROM", 4), number("DOSTORE_STATES", STRIDE));
    let count = (1..=3).map(|length| SHORT.len().pow(length)).sum();
    let seen = Seen::default();
    let run = |number: usize| {
        let steps = sequence(number).unwrap();
        examine(&steps, &seen).map_err(|what| format!("{steps:?}, {what}"))
    };
    let wrong = on_all_cores((from, stride, count), run);
    println!("every {stride} of {count} sequences: {seen:?}");
    let states = seen.states.into_inner();
    ledger::add(&Row {
        kind: "states",
        seeds: format!("every {stride} from {from}"),
        crashes: states,
        executions: states,
        failures: wrong.len() as u64,
        ..Row::default()
    });
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(9)].join("\n")
    );
}

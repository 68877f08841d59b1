//! Short scenarios in which each call to the disk fails in each way, or is the last one; every
//! state that a power cut can leave behind very short ones; and many states that it can leave
//! behind long random ones.
//!
//! `DOSTORE_SWEEP=n` takes every n-th case from `DOSTORE_SWEEP_FROM` on, 1 all of them, and
//! `DOSTORE_STATES=n`, `DOSTORE_STATES_FROM` every n-th short sequence. `DOSTORE_STATES_SEEDS=n`
//! runs that many random ones, from `DOSTORE_FIRST_SEED` on.
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "numbers here are small")]

#[path = "../it/chance.rs"]
#[expect(dead_code, reason = "another test uses the rest")]
mod chance;
mod crashes;
#[path = "../ledger/mod.rs"]
mod ledger;
mod moments;
mod plan;
mod states;
mod steps;
mod sweep;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs cases `from`, `from + stride` and so on before `end` on every core. Says what went wrong,
/// the lowest case first.
fn on_all_cores(
    (from, stride, end): (usize, usize, usize),
    run: impl Fn(usize) -> Result<(), String> + Sync,
) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let case = from + stride * next.fetch_add(1, Ordering::Relaxed);
                    if case >= end {
                        break;
                    }
                    if let Err(what) = run(case) {
                        wrong.lock().unwrap().push((case, what));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    wrong.into_iter().map(|(case, what)| format!("case {case}: {what}")).collect()
}

//! Runs a check under the model checker.
//!
//! Invariants:
//!   * A check does the same each time that it runs, but for the order in which its threads come to
//!     locks and atomics: the checker tries another one each time until there is none.

use loom::thread::{Builder, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one order may come to in locks and atomics: a store that is opened comes to some thousand.
const BRANCHES_MAX: usize = 100_000;

/// In words. The checker's own are for a few calls.
const STACK_WORDS: usize = 128 << 10;

/// Every order of the check's threads in which one is interrupted, where it need not wait, at most
/// so many times. Most faults of this kind need two.
pub fn model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = BRANCHES_MAX;
    let orders = Arc::new(AtomicU64::new(0));
    let (count, check) = (Arc::clone(&orders), Arc::new(check));
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let check = Arc::clone(&check);
        spawn(move || check()).join().expect("it did not panic");
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

/// A thread of a check, with room for whatever the engine does.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().stack_size(STACK_WORDS).spawn(body).expect("a thread of a model")
}

//! Several processors at one piece of work, for as long as a call lasts.
//!
//! Invariants:
//!   * Who calls does the work too: it is done where no thread can be had.
//!   * No thread outlives the call.

use parking_lot::Mutex;
use std::panic::resume_unwind;
use std::thread::{Builder, available_parallelism, scope};

/// Others that may help who calls, at most: what they share out is bound by memory soon.
const HELPERS_MAX: usize = 3;

/// How many others this machine has processors for.
#[must_use]
pub fn helpers() -> usize {
    // A checker knows of no thread that it has not started.
    if cfg!(all(test, dostore_shuttle)) {
        return 0;
    }
    available_parallelism().map_or(0, |processors| (processors.get() - 1).min(HELPERS_MAX))
}

fn helper() -> Builder {
    Builder::new().name("dostore-open".to_owned())
}

/// Does both, at the same time where another may help: `first` there and `second` here. Else one
/// after the other. A panic in either goes on here.
pub fn beside<A: Send, B>(
    helpers: usize,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> (A, B) {
    if helpers == 0 {
        return (first(), second());
    }
    let first = Mutex::new(Some(first));
    let work = || {
        let first = first.lock().take();
        first.map(|first| first())
    };
    scope(|scope| {
        let thread = helper().spawn_scoped(scope, work);
        let second = second();
        let done = thread.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        (done.unwrap_or_else(|_| work()).expect("it was done by nobody else"), second)
    })
}

/// Does `work` in this thread, and in up to so many others at the same time; waits for all. What
/// there is to do is `work`'s to share out. A panic in one of them goes on here.
pub fn together(helpers: usize, work: impl Fn() + Sync) {
    scope(|scope| {
        for _ in 0..helpers {
            // Without it the others have more to do.
            if helper().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn what_is_shared_out_is_done_once_and_by_all() {
        let (next, workers) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
        let done = Mutex::new(Vec::new());
        for helpers in [0, 2] {
            next.store(0, Ordering::Relaxed);
            together(helpers, || {
                let names = |seen: &BTreeSet<_>| seen.len();
                workers.lock().insert(format!("{:?}", thread::current().id()));
                // All of them have come before any goes on.
                while names(&workers.lock()) < helpers + 1 {
                    thread::yield_now();
                }
                while let number @ 0..100 = next.fetch_add(1, Ordering::Relaxed) {
                    done.lock().push(number);
                }
            });
        }
        let mut done = done.into_inner();
        done.sort_unstable();
        assert_eq!(done, (0..100).flat_map(|number| [number; 2]).collect::<Vec<_>>());
    }

    #[test]
    fn two_things_are_done_at_once_or_one_after_the_other() {
        let (tell, told) = mpsc::channel();
        let wait = move || told.recv().unwrap();
        assert_eq!(beside(1, wait, || tell.send(7).is_ok()), (7, true));
        let order = Mutex::new(Vec::new());
        let note = |what| order.lock().push(what);
        beside(0, || note("first"), || note("second"));
        assert_eq!(*order.lock(), ["first", "second"]);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_a_helper_goes_on_in_who_called() {
        let caller = thread::current().id();
        together(1, || assert_eq!(thread::current().id(), caller));
    }
}

//! What this thread holds of the locks that have an order, in builds with debug assertions.
//!
//! Invariants:
//!   * Counts are of this thread alone: a guard is dropped by the thread that got it.

#[cfg(any(not(debug_assertions), dostore_loom, dostore_shuttle))]
pub use uncounted::{Held, check, check_free_from};

#[cfg(all(debug_assertions, not(any(dostore_loom, dostore_shuttle))))]
pub use counted::{Held, check, check_free_from};

// Where nothing is counted; a checker runs its threads as one.
#[cfg(any(not(debug_assertions), dostore_loom, dostore_shuttle))]
mod uncounted {
    /// Nothing.
    pub struct Held<const RANK: usize>;

    impl<const RANK: usize> Held<RANK> {
        pub fn new() -> Self {
            Self
        }
    }

    pub fn check(_: usize) {}

    pub fn check_free_from(_: usize) {}
}

#[cfg(all(debug_assertions, not(any(dostore_loom, dostore_shuttle))))]
mod counted {
    use crate::locks::rank;
    use std::cell::Cell;

    const NAMES: [&str; rank::COUNT] =
        ["publisher", "catalog", "object", "shard", "writer", "open", "waiters"];

    thread_local! {
        /// How many locks of each rank this thread holds.
        static HELD: Cell<[u8; rank::COUNT]> = const { Cell::new([0; rank::COUNT]) };
    }

    /// Counts for as long as it is there.
    pub struct Held<const RANK: usize>;

    impl<const RANK: usize> Held<RANK> {
        pub fn new() -> Self {
            change(RANK, 1);
            Self
        }
    }

    impl<const RANK: usize> Drop for Held<RANK> {
        fn drop(&mut self) {
            change(RANK, -1);
        }
    }

    fn change(rank: usize, by: i8) {
        let mut held = HELD.get();
        held[rank] = held[rank].strict_add_signed(by);
        HELD.set(held);
    }

    /// Whether a lock of this rank may be waited for.
    pub fn check(rank: usize) {
        // Of objects several may be held; their own order is that of addresses.
        let first = if rank == rank::OBJECT { rank + 1 } else { rank };
        refuse(first, &format_args!("waits for the lock `{}`", NAMES[rank]));
    }

    pub fn check_free_from(rank: usize) {
        refuse(rank, &"waits or calls out");
    }

    fn refuse(first: usize, what: &dyn std::fmt::Display) {
        let held = HELD.get();
        let behind = (first..rank::COUNT).find(|rank| held[*rank] > 0);
        if let Some(behind) = behind {
            panic!("against the order of locks: {what} while it holds `{}`", NAMES[behind]);
        }
    }
}

//! The locks that have an order: who holds one never waits for one before it. And those leaf locks
//! that a model has a part for.
//!
//! What each of them guards, docs/architecture.md says. In a build with `--cfg dostore_loom` they
//! are those of a model checker, which tries every order in which threads may come to them; with
//! `--cfg dostore_shuttle` those of one that draws orders at random.
//!
//! Invariants:
//!   * In a build with debug assertions, a thread that would wait for a lock against the order
//!     panics instead, whether anybody holds it at that moment or not.
//!   * In any other build a lock is one of `parking_lot`, of the same size, and nothing is counted.

pub mod atomic;
#[cfg(all(test, dostore_loom))]
pub mod model;
mod order;
mod primitive;
pub mod thread;

pub use primitive::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// The places in the order.
pub mod rank {
    /// Who changes the manifest.
    pub const PUBLISHER: usize = 0;
    /// The namespaces.
    pub const CATALOG: usize = 1;
    /// One object. Several at once go by their addresses.
    pub const OBJECT: usize = 2;
    /// Which objects are in memory.
    pub const SHARD: usize = 3;
    /// Who writes a group.
    pub const WRITER: usize = 4;
    /// The order of commits.
    pub const OPEN: usize = 5;
    /// Who waits for durability.
    pub const WAITERS: usize = 6;

    #[cfg(all(debug_assertions, not(any(dostore_loom, dostore_shuttle))))]
    pub(super) const COUNT: usize = 7;
}

/// A lock with a place in the order.
pub struct Ranked<T, const RANK: usize>(Mutex<T>);

/// Holding it.
#[must_use = "dropped at once, it locks nothing"]
pub struct Guard<'l, T, const RANK: usize> {
    // Let go before it counts as such.
    guard: MutexGuard<'l, T>,
    _held: order::Held<RANK>,
}

impl<T, const RANK: usize> Ranked<T, RANK> {
    /// A lock that nobody holds.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T, RANK> {
        order::check(RANK);
        let guard = self.0.lock();
        Guard { guard, _held: order::Held::new() }
    }

    /// The lock, if nobody has it. Waits for nothing, so the order does not concern it.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T, RANK>> {
        let guard = self.0.try_lock()?;
        Some(Guard { guard, _held: order::Held::new() })
    }

    /// Whether anybody has it now.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

impl<T: Default, const RANK: usize> Default for Ranked<T, RANK> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug, const RANK: usize> fmt::Debug for Ranked<T, RANK> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl<T, const RANK: usize> Guard<'_, T, RANK> {
    /// Lets the lock go until the bell rings.
    pub fn wait(&mut self, bell: &Condvar) {
        bell.wait(&mut self.guard);
    }

    /// The same, for so long at most.
    pub fn wait_for(&mut self, bell: &Condvar, most: Duration) {
        bell.wait_for(&mut self.guard, most);
    }
}

impl<T, const RANK: usize> Deref for Guard<'_, T, RANK> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const RANK: usize> DerefMut for Guard<'_, T, RANK> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Panics, with debug assertions, if this thread holds a lock at this place of the order or behind:
/// for what must wait for nobody, and call nobody, under such a lock.
#[inline]
pub fn check_free_from(rank: usize) {
    order::check_free_from(rank);
}

#[cfg(all(test, debug_assertions, not(any(dostore_loom, dostore_shuttle))))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[track_caller]
    fn refused(call: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("it is against the order");
        panic.downcast_ref::<String>().expect("a message").clone()
    }

    #[test]
    fn a_lock_before_one_that_is_held_is_not_waited_for() {
        let object = Ranked::<_, { rank::OBJECT }>::new(1);
        let other = Ranked::<_, { rank::OBJECT }>::new(2);
        let shard = Ranked::<_, { rank::SHARD }>::new(3);
        let open = Ranked::<_, { rank::OPEN }>::new(4);
        let told = {
            let (_object, _other) = (object.lock(), other.lock());
            let _shard = shard.lock();
            let _open = open.lock();
            refused(|| drop(shard.lock()))
        };
        assert!(told.contains("waits for the lock `shard` while it holds `shard`"), "{told}");
        let held = shard.lock();
        assert!(refused(|| drop(object.lock())).contains("`object` while it holds `shard`"));
        drop(held);
        let held = open.lock();
        let told = refused(|| drop(object.lock()));
        assert!(told.contains("`object` while it holds `open`"), "{told}");
        assert!(refused(|| drop(open.lock())).contains("`open` while it holds `open`"));
        assert!(object.try_lock().is_some() && open.try_lock().is_none());
        drop(held);
        assert_eq!(*object.lock() + *shard.lock(), 4);
    }

    #[test]
    fn who_waits_or_calls_out_holds_nothing_from_there_on() {
        let publisher = Ranked::<_, { rank::PUBLISHER }>::new(());
        let waiters = Ranked::<_, { rank::WAITERS }>::new(());
        let _publisher = publisher.lock();
        check_free_from(rank::OBJECT);
        let held = waiters.try_lock();
        assert!(refused(|| check_free_from(rank::OBJECT)).contains("while it holds `waiters`"));
        drop(held);
        check_free_from(rank::OBJECT);
    }

    #[test]
    fn what_a_thread_holds_concerns_no_other() {
        let open = Ranked::<_, { rank::OPEN }>::new(());
        let object = Ranked::<_, { rank::OBJECT }>::new(());
        let _open = open.lock();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(object.lock())).join().expect("it holds nothing");
        });
    }
}

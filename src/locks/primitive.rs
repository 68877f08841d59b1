//! The locks underneath: those of `parking_lot`, or of a checker.
//!
//! A model checker tries every order in which a few threads can come to them, in a build with
//! `--cfg dostore_loom`; one with `--cfg dostore_shuttle` draws orders at random, for many threads.
//!
//! Invariants:
//!   * All are called alike.
//!   * In a model no wait ends by time: whoever is not woken shows as a deadlock. Where orders are
//!     drawn, a thread that looks for work from time to time may look at any moment.
//!   * A lock that is not of this module is never held, in a build with a checker, while one of it
//!     is waited for: the checker would not know why nothing goes on.

#[cfg(not(all(test, any(dostore_loom, dostore_shuttle))))]
pub use ordinary::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

#[cfg(all(test, any(dostore_loom, dostore_shuttle)))]
pub use checked::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

#[cfg(not(all(test, any(dostore_loom, dostore_shuttle))))]
mod ordinary {
    pub use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
    use std::time::Duration;

    /// Waits for somebody who rings.
    #[derive(Debug, Default)]
    pub struct Condvar(parking_lot::Condvar);

    impl Condvar {
        /// One that nobody waits for.
        pub fn new() -> Self {
            Self::default()
        }

        /// Lets the lock go until somebody rings.
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            self.0.wait(guard);
        }

        /// The same, for so long at most.
        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, most: Duration) {
            let _ = self.0.wait_for(guard, most);
        }

        /// The same, by who looks for work that nobody rings for.
        pub fn pause<T>(&self, guard: &mut MutexGuard<'_, T>, most: Duration) {
            self.wait_for(guard, most);
        }

        /// Wakes one.
        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        /// Wakes all.
        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

#[cfg(all(test, any(dostore_loom, dostore_shuttle)))]
mod checked {
    #[cfg(dostore_loom)]
    use loom::sync as checker;
    #[cfg(dostore_shuttle)]
    use shuttle::sync as checker;
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    // The model checker remembers of a lock who came to it last, and would take a reader's own two
    // looks for all there is to know: what it has of readers is a lock for one at a time.
    #[cfg(dostore_loom)]
    pub use checker::MutexGuard as RwLockReadGuard;
    #[cfg(dostore_shuttle)]
    pub use checker::RwLockReadGuard;
    #[cfg(dostore_loom)]
    use checker::{Mutex as Shared, MutexGuard as RwLockWriteGuard};
    #[cfg(dostore_shuttle)]
    use checker::{RwLock as Shared, RwLockWriteGuard};

    pub struct Mutex<T>(checker::Mutex<T>);

    /// Empty while it waits.
    pub struct MutexGuard<'l, T> {
        of: &'l Mutex<T>,
        guard: Option<checker::MutexGuard<'l, T>>,
    }

    pub struct RwLock<T>(Shared<T>);

    const THERE: &str = "only a wait takes it, and gives it back";
    const NO_PANIC: &str = "no thread panics with a lock";

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(checker::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { of: self, guard: Some(self.0.lock().expect(NO_PANIC)) }
        }

        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard { of: self, guard: Some(guard) })
        }

        pub fn is_locked(&self) -> bool {
            self.try_lock().is_none()
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> fmt::Debug for Mutex<T> {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("Mutex of a checker")
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.guard.as_ref().expect(THERE)
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.guard.as_mut().expect(THERE)
        }
    }

    impl<T> RwLock<T> {
        pub fn new(value: T) -> Self {
            Self(Shared::new(value))
        }
    }

    #[cfg(dostore_loom)]
    impl<T> RwLock<T> {
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.lock().expect(NO_PANIC)
        }

        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.read()
        }

        pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
            self.try_read()
        }
    }

    #[cfg(dostore_shuttle)]
    impl<T> RwLock<T> {
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect(NO_PANIC)
        }

        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect(NO_PANIC)
        }

        pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
            self.0.try_read().ok()
        }

        pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
            self.0.try_write().ok()
        }
    }

    impl<T: Default> Default for RwLock<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> fmt::Debug for RwLock<T> {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("RwLock of a checker")
        }
    }

    #[derive(Debug)]
    pub struct Condvar(checker::Condvar);

    impl Default for Condvar {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Condvar {
        pub fn new() -> Self {
            Self(checker::Condvar::new())
        }

        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.guard.take().expect(THERE);
            guard.guard = Some(self.0.wait(inner).expect(NO_PANIC));
        }

        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _most: Duration) {
            self.wait(guard);
        }

        /// Nobody can say how much time passes between two steps of a thread: this may be over at
        /// once.
        pub fn pause<T>(&self, guard: &mut MutexGuard<'_, T>, _most: Duration) {
            guard.guard = None;
            checker_yield();
            guard.guard = Some(guard.of.0.lock().expect(NO_PANIC));
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    fn checker_yield() {
        #[cfg(dostore_loom)]
        loom::thread::yield_now();
        #[cfg(dostore_shuttle)]
        shuttle::thread::yield_now();
    }
}

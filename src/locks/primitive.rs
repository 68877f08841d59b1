//! The locks underneath: those of `parking_lot`, or of a model checker.
//!
//! Invariants:
//!   * Both are called alike.
//!   * In a model no wait ends by time: whoever is not woken shows as a deadlock.
//!   * In a model no lock that is not of this module is held while one of it is waited for: the
//!     checker would not know why nothing goes on.

#[cfg(not(all(test, dostore_loom)))]
pub use ordinary::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

#[cfg(all(test, dostore_loom))]
pub use modelled::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

#[cfg(not(all(test, dostore_loom)))]
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

#[cfg(all(test, dostore_loom))]
mod modelled {
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    // The model checker remembers of a lock who came to it last, and would take a reader's own two
    // looks for all there is to know: what it has of readers is a lock for one at a time.
    pub use loom::sync::MutexGuard as RwLockReadGuard;
    use loom::sync::{Mutex as Shared, MutexGuard as RwLockWriteGuard};

    pub struct Mutex<T>(loom::sync::Mutex<T>);

    /// Empty while it waits.
    pub struct MutexGuard<'l, T>(Option<loom::sync::MutexGuard<'l, T>>);

    pub struct RwLock<T>(Shared<T>);

    const THERE: &str = "only a wait takes it, and gives it back";
    const NO_PANIC: &str = "no thread panics with a lock";

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect(NO_PANIC)))
        }

        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
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
            out.write_str("Mutex of a model")
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect(THERE)
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect(THERE)
        }
    }

    impl<T> RwLock<T> {
        pub fn new(value: T) -> Self {
            Self(Shared::new(value))
        }

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

    impl<T: Default> Default for RwLock<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> fmt::Debug for RwLock<T> {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("RwLock of a model")
        }
    }

    #[derive(Debug)]
    pub struct Condvar(loom::sync::Condvar);

    impl Default for Condvar {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Condvar {
        pub fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect(THERE);
            guard.0 = Some(self.0.wait(inner).expect(NO_PANIC));
        }

        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _most: Duration) {
            self.wait(guard);
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

//! The locks underneath: those of `parking_lot`, or of a model checker.
//!
//! Invariants:
//!   * Both are called alike.
//!   * In a model no wait ends by time: whoever is not woken shows as a deadlock.

#[cfg(not(all(test, dostore_loom)))]
pub use ordinary::{Condvar, Mutex, MutexGuard};

#[cfg(all(test, dostore_loom))]
pub use modelled::{Condvar, Mutex, MutexGuard};

#[cfg(not(all(test, dostore_loom)))]
mod ordinary {
    pub use parking_lot::{Mutex, MutexGuard};
    use std::time::Duration;

    /// Waits for somebody who rings.
    #[derive(Debug, Default)]
    pub struct Condvar(parking_lot::Condvar);

    impl Condvar {
        /// One that nobody waits for.
        pub fn new() -> Self {
            Self::default()
        }

        pub(in crate::locks) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            self.0.wait(guard);
        }

        pub(in crate::locks) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, most: Duration) {
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
    use loom::sync::{Condvar as Bell, Mutex as Inner, MutexGuard as InnerGuard};
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    pub struct Mutex<T>(Inner<T>);

    /// Empty while it waits.
    pub struct MutexGuard<'l, T>(Option<InnerGuard<'l, T>>);

    const THERE: &str = "only a wait takes it, and gives it back";

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(Inner::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("no thread panics with a lock")))
        }

        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }

        pub fn is_locked(&self) -> bool {
            self.try_lock().is_none()
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

    #[derive(Debug)]
    pub struct Condvar(Bell);

    impl Condvar {
        pub fn new() -> Self {
            Self(Bell::new())
        }

        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect(THERE);
            guard.0 = Some(self.0.wait(inner).expect("no thread panics with a lock"));
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

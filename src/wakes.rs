//! Whom to wake, once no lock is held.
//!
//! Invariants:
//!   * A waker that panics takes no wake-up from the others, and does nothing to whoever calls it:
//!     a thread of the store, or a caller who has nothing to do with it.

use crate::locks::{check_free_from, rank};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakers that were taken from where they waited.
#[derive(Debug, Default)]
#[must_use = "who is not woken waits for ever"]
pub struct Wakes(Vec<Waker>);

impl Wakes {
    /// Wakes them all, in their order.
    pub fn wake(self) {
        for waker in self.0 {
            wake(Some(waker));
        }
    }

    /// One more, if there is one.
    pub fn push(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }

    /// Those of `more` as well.
    pub fn extend(&mut self, more: Self) {
        if self.0.is_empty() {
            *self = more;
        } else {
            self.0.extend(more.0);
        }
    }

    /// How many there are to wake.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nobody to wake.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Waker>> for Wakes {
    fn from(wakers: Vec<Waker>) -> Self {
        Self(wakers)
    }
}

impl FromIterator<Waker> for Wakes {
    fn from_iter<I: IntoIterator<Item = Waker>>(wakers: I) -> Self {
        Self(wakers.into_iter().collect())
    }
}

/// Wakes one, if there is one.
pub fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        check_free_from(rank::OBJECT);
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Panics(AtomicUsize);

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("the executor is gone");
        }
    }

    #[test]
    fn one_that_panics_keeps_no_other_from_being_woken() {
        let panics = Arc::<Panics>::default();
        let mut wakes: Wakes = [Waker::from(Arc::clone(&panics))].into_iter().collect();
        wakes.push(Some(Waker::from(Arc::clone(&panics))));
        wakes.extend(vec![Waker::from(Arc::clone(&panics))].into());
        wakes.wake();
        assert_eq!(panics.0.load(Ordering::SeqCst), 3);
    }
}

//! Alarms that came due: from the store to the objects that set them.
//!
//! Invariants:
//!   * At most so many alarms are with objects at once as the host was told; the others wait in the
//!     store, which keeps no task for them.
//!   * A delivery that is dropped gives its alarm back to the store: none is lost by a failed
//!     activation or a host that closes.

use crate::error::Result;
use crate::ids::ObjectId;
use crate::store::alarms::Fired;
use crate::store::namespace::Namespace;
use crate::wakes::wake;
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};

/// How many more alarms may be with objects.
#[derive(Debug)]
pub(super) struct Permits {
    state: Mutex<(usize, Option<Waker>)>,
}

impl Permits {
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((count, None)) })
    }

    /// Waits for a permit. For one task at a time.
    pub fn take(self: &Arc<Self>) -> impl Future<Output = Permit> + use<'_> {
        poll_fn(|context| match self.try_take(context.waker().clone()) {
            Some(permit) => Poll::Ready(permit),
            None => Poll::Pending,
        })
    }

    fn try_take(self: &Arc<Self>, waker: Waker) -> Option<Permit> {
        let mut state = self.state.lock();
        if let Some(left) = state.0.checked_sub(1) {
            state.0 = left;
            drop(state);
            return Some(Permit(Arc::clone(self)));
        }
        let before = state.1.replace(waker);
        drop(state);
        drop(before);
        None
    }
}

/// One alarm's permit, returned when it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.0 += 1;
        let waker = state.1.take();
        drop(state);
        wake(waker);
    }
}

/// An alarm on its way to its object, or in its hands.
#[derive(Debug)]
pub(super) struct Delivery {
    pub fired: Fired,
    pub namespace: Namespace,
    pub id: ObjectId,
    _permit: Permit,
}

impl Delivery {
    /// Looks up whose alarm it is. Fails with `Corrupt` where that cannot be told; the alarm goes
    /// back then.
    pub fn new(fired: Fired, permit: Permit) -> Result<Self> {
        let namespace = fired.namespace()?;
        let id = fired.object_id()?;
        Ok(Self { fired, namespace, id, _permit: permit })
    }
}

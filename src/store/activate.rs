//! Opening an object off the caller's thread.
//!
//! Invariants:
//!   * An object that nobody waits for any more is given back, or not opened.
//!   * No waker is made, called or dropped under the lock.

use super::namespace::Namespace;
use super::object::Object;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::locks::Mutex;
use crate::wakes::wake;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The future of an open object whose page is in memory.
///
/// Nothing happens before it is polled first. Dropping it before it resolves gives the object back
/// as soon as it is open.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Activate {
    namespace: Namespace,
    which: Which,
    shared: Option<Arc<Mutex<Shared>>>,
}

/// The object that is to be opened.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Id(ObjectId),
    Name(Box<str>),
}

#[derive(Debug, Default)]
struct Shared {
    done: Option<Result<Object>>,
    waker: Option<Waker>,
}

impl Activate {
    pub(crate) fn new(namespace: Namespace, which: Which) -> Self {
        Self { namespace, which, shared: None }
    }

    /// The same, on this thread.
    pub fn wait(self) -> Result<Object> {
        load(&self.namespace, &self.which)
    }
}

/// Opens the object and brings its page into memory.
fn load(namespace: &Namespace, which: &Which) -> Result<Object> {
    let object = match which {
        Which::Id(id) => namespace.open(*id)?,
        Which::Name(name) => namespace.open_by_name(name)?,
    };
    object.get([])?;
    Ok(object)
}

impl Future for Activate {
    type Output = Result<Object>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(shared) = &self.shared {
            // No waker is made or dropped under the lock.
            let waker = context.waker().clone();
            let mut shared = shared.lock();
            if let Some(done) = shared.done.take() {
                drop(shared);
                return Poll::Ready(done);
            }
            let before = shared.waker.replace(waker);
            drop(shared);
            drop(before);
            return Poll::Pending;
        }
        let shared =
            Arc::new(Mutex::new(Shared { done: None, waker: Some(context.waker().clone()) }));
        let result = Arc::downgrade(&shared);
        let (namespace, which) = (self.namespace.clone(), self.which.clone());
        let is_taken = self.namespace.store.run_on_reader(Box::new(move || {
            // Nobody waits any more: opening would only keep others out.
            let Some(shared) = result.upgrade() else { return };
            let loaded = catch_unwind(AssertUnwindSafe(|| load(&namespace, &which)));
            let done = loaded.unwrap_or_else(|_| Err(namespace.store.engine().panicked()));
            let waker = {
                let mut shared = shared.lock();
                shared.done = Some(done);
                shared.waker.take()
            };
            drop(shared);
            wake(waker);
        }));
        if !is_taken {
            return Poll::Ready(load(&self.namespace, &self.which));
        }
        self.shared = Some(shared);
        Poll::Pending
    }
}

//! Opening an object off the caller's thread.

use super::namespace::Namespace;
use super::object::Object;
use crate::error::Result;
use crate::ids::ObjectId;
use parking_lot::Mutex;
use std::future::Future;
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
    id: ObjectId,
    shared: Option<Arc<Mutex<Shared>>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: Option<Result<Object>>,
    waker: Option<Waker>,
}

impl Activate {
    pub(crate) fn new(namespace: Namespace, id: ObjectId) -> Self {
        Self { namespace, id, shared: None }
    }

    /// The same, on this thread.
    pub fn wait(self) -> Result<Object> {
        load(&self.namespace, self.id)
    }
}

/// Opens the object and brings its page into memory.
fn load(namespace: &Namespace, id: ObjectId) -> Result<Object> {
    let object = namespace.open(id)?;
    object.get([])?;
    Ok(object)
}

impl Future for Activate {
    type Output = Result<Object>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(shared) = &self.shared {
            let mut shared = shared.lock();
            if let Some(done) = shared.done.take() {
                return Poll::Ready(done);
            }
            shared.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let shared =
            Arc::new(Mutex::new(Shared { done: None, waker: Some(context.waker().clone()) }));
        let (namespace, id, result) = (self.namespace.clone(), self.id, Arc::downgrade(&shared));
        let is_taken = self.namespace.store.run_on_reader(Box::new(move || {
            // Nobody waits any more: opening would only keep others out.
            let Some(shared) = result.upgrade() else { return };
            let done = load(&namespace, id);
            let waker = {
                let mut shared = shared.lock();
                shared.done = Some(done);
                shared.waker.take()
            };
            drop(shared);
            if let Some(waker) = waker {
                waker.wake();
            }
        }));
        if !is_taken {
            return Poll::Ready(load(&self.namespace, self.id));
        }
        self.shared = Some(shared);
        Poll::Pending
    }
}

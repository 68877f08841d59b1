//! The output gate: what leaves an object waits until what it follows from is safe.
//!
//! Invariants:
//!   * A gate that opened says that every confirmed turn sealed before it was taken is safe.
//!   * A later write never delays a gate that was taken before it.
//!   * A gate that covers a turn which failed never opens, and none that was taken later does.

use super::ledger::{Book, Cover};
use crate::error::Result;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A moment of an object: as a future, or by [`Gate::wait`], it tells when everything that may be
/// known of that moment is safe. Cloning is cheap; take one for each message that leaves.
///
/// It fails with `Broken` where a commit that it covers will never be safe, or where the object
/// was broken when it was taken. Dropping it changes nothing. It does not keep the object open.
#[derive(Clone)]
#[must_use = "a gate holds back nothing unless it is waited for"]
pub struct Gate {
    book: Arc<Book>,
    cover: Cover,
}

impl Gate {
    pub(super) fn new(book: &Arc<Book>, cover: Cover) -> Self {
        Self { book: Arc::clone(book), cover }
    }

    /// Whether it is open now.
    pub fn is_open(&self) -> bool {
        matches!(self.state(), Some(Ok(())))
    }

    /// What it would say now; none while it waits.
    pub fn state(&self) -> Option<Result<()>> {
        self.book.state(self.cover)
    }

    /// Blocks until it opens or never will. Not inside the turn that it covers: that turn would
    /// never end.
    pub fn wait(&self) -> Result<()> {
        self.book.wait(self.cover)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Gate({:?})", self.cover)
    }
}

impl Future for Gate {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.book.poll(self.cover, context.waker())
    }
}

pin_project! {
    /// A value behind a [`Gate`]: it comes out when the gate opens, and is lost when it does not.
    #[derive(Debug)]
    #[must_use = "the value comes out only when this is waited for"]
    pub struct Gated<T> {
        gate: Gate,
        value: Option<T>,
    }
}

impl<T> Gated<T> {
    pub(super) fn new(gate: Gate, value: T) -> Self {
        Self { gate, value: Some(value) }
    }

    /// Blocks until the gate opens or never will. See [`Gate::wait`].
    pub fn wait(self) -> Result<T> {
        self.gate.wait()?;
        Ok(self.value.expect("not waited for again when it is over"))
    }
}

impl<T> Future for Gated<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        match Pin::new(this.gate).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                Poll::Ready(Ok(this.value.take().expect("not polled again when it is over")))
            }
        }
    }
}

//! When a commit counts as safe: the seam behind the output gate.
//!
//! On one machine a commit is safe when the log was synced up to it ([`Local`]). Where commits go
//! to other machines as well, it is safe when enough of them have it, and that is for another
//! implementation to say.

use crate::error::Result;
use crate::store::Store;
use crate::store::blocking::block_on;
use crate::store::commit::Position;
use std::fmt::Debug;
use std::task::{Poll, Waker};

/// Says when commits are safe.
///
/// Its methods are called while locks of the object are held: none may call into the object or
/// its storage, none but [`Durability::wait`] and [`Durability::poll`] may block or call wakers,
/// and no waker may be called under a lock that one takes. One that panics breaks the object.
pub trait Durability: Send + Sync + Debug {
    /// A turn of an object was logged, in the order of its turns. It is not durable yet.
    fn begin(&self, position: Position) {
        let _ = position;
    }

    /// Whether the commit is safe now. Once it is, it stays so.
    ///
    /// Of commits that it was not told of by [`Durability::begin`], because they were made by an
    /// earlier process or outside a turn, as by a restoration, only the last of an object is asked:
    /// its answer must hold for those before it too.
    fn is_confirmed(&self, position: Position) -> bool;

    /// Why the commit will never be safe, if that is so.
    fn failure(&self, position: Position) -> Option<crate::error::Error>;

    /// The same as a future is polled: none while it is open, and then `waker` is woken when that
    /// changes.
    fn poll(&self, position: Position, waker: &Waker) -> Option<Result<()>>;

    /// Whether a commit that is safe proves every commit of the store before it safe. It saves
    /// looking at each.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Blocks until the commit is safe or never will be.
    fn wait(&self, position: Position) -> Result<()> {
        block_on(|context| self.poll(position, context.waker()).map_or(Poll::Pending, Poll::Ready))
    }
}

/// A commit is safe when this store's own log is synced up to it.
#[derive(Clone, Debug)]
pub struct Local {
    store: Store,
}

impl Local {
    /// The durability of this store's disk.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }
}

impl Durability for Local {
    fn is_confirmed(&self, position: Position) -> bool {
        self.store.durable() >= position.lsn
    }

    fn failure(&self, position: Position) -> Option<crate::error::Error> {
        let failed = self.store.engine().check_alive().err()?;
        (!self.is_confirmed(position)).then_some(failed)
    }

    fn poll(&self, position: Position, waker: &Waker) -> Option<Result<()>> {
        self.store.engine().wal.poll(position.lsn, waker)
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn wait(&self, position: Position) -> Result<()> {
        self.store.wait_durable(position.lsn)
    }
}

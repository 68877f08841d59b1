//! Bookmarks of an actor: the moment at the end of the open turn.
//!
//! Invariants:
//!   * A bookmark that was asked for inside a turn covers that whole turn and nothing later.
//!   * It does not keep the object open.

use super::core::Core;
use super::ledger::{Book, Cover, Place};
use super::storage::Storage;
use crate::bookmark::Bookmark;
use crate::error::Result;
use crate::ids::{Address, Lsn};
use crate::store::Store;
use crate::store::blocking::block_on;
use crate::store::snapshot::Snapshot;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

/// The bookmark of a moment that may still be ahead: the end of the turn in which it was asked for.
///
/// It resolves when that turn is sealed, durable or not: at once where none was open. Fails with
/// what broke the object, if the turn is never sealed. Awaited inside a transaction it waits for
/// the transaction's end, which then does not come. Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct CurrentBookmark {
    state: State,
}

#[derive(Debug)]
enum State {
    Known(Result<Bookmark>),
    Open(Open),
}

#[derive(Debug)]
struct Open {
    book: Arc<Book>,
    store: Store,
    address: Address,
    place: Place,
    cover: Cover,
    /// For a turn that ends without a commit.
    before: Bookmark,
}

impl Open {
    fn look(&self) -> Option<Result<Bookmark>> {
        let place = self.place.get()?;
        let of = |lsn: Lsn| self.store.engine().bookmark(self.address, lsn);
        let bookmark = |place: Option<_>| place.map_or(self.before, of);
        Some(place.clone().map(|place| bookmark(place.map(|position| position.lsn))))
    }

    fn poll(&self, waker: &Waker) -> Option<Result<Bookmark>> {
        loop {
            let known = self.look();
            if known.is_some() {
                return known;
            }
            if self.book.bind(self.cover, waker.clone()) {
                return None;
            }
        }
    }
}

impl CurrentBookmark {
    fn new(core: &Core) -> Self {
        let state = match core.object.current_bookmark() {
            // Another thread's turn is not this caller's: it sees what is sealed.
            Ok(before) if core.is_inside() && core.has_write() => {
                let (place, cover) = core.book.ask_place();
                let (store, address) = (core.object.store().clone(), core.object.address());
                let book = Arc::clone(&core.book);
                State::Open(Open { book, store, address, place, cover, before })
            }
            known => State::Known(known),
        };
        Self { state }
    }

    /// Blocks until it is known. Not inside the turn that it covers: that turn would never end.
    pub fn wait(self) -> Result<Bookmark> {
        match self.state {
            State::Known(known) => known,
            State::Open(open) => {
                block_on(|context| open.poll(context.waker()).map_or(Poll::Pending, Poll::Ready))
            }
        }
    }
}

impl Future for CurrentBookmark {
    type Output = Result<Bookmark>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.state {
            State::Known(known) => Poll::Ready(known.clone()),
            State::Open(open) => open.poll(context.waker()).map_or(Poll::Pending, Poll::Ready),
        }
    }
}

/// The past as an actor sees it. What is read may not be durable yet: what follows from it goes
/// through a gate that is taken later.
impl Storage {
    /// The object as it was at a bookmark. Fails as [`Object::at`] does.
    ///
    /// [`Object::at`]: crate::store::object::Object::at
    pub fn at(&self, bookmark: &Bookmark) -> Result<Snapshot> {
        let core = self.core();
        core.book.check()?;
        core.object.at_unconfirmed(bookmark)
    }

    /// The object as of a time: of all its commits up to then.
    pub fn bookmark_at(&self, time: SystemTime) -> Result<Bookmark> {
        let core = self.core();
        core.book.check()?;
        core.object.bookmark_at(time)
    }

    /// Makes the object, when it is opened next, what it was at a bookmark: see
    /// [`Object::restore_on_next_open`]. A write like any other, and so a part of the open turn.
    /// An actor that wants it at once aborts when a gate that is taken behind it has opened.
    ///
    /// [`Object::restore_on_next_open`]: crate::store::object::Object::restore_on_next_open
    pub fn restore_on_next_open(&self, bookmark: &Bookmark) -> Result<Bookmark> {
        self.change(true, |draft, object| draft.restore_on_next_open(object, bookmark))
    }

    /// The object as of the end of the open turn, or as it is sealed now, to come back to.
    pub fn current_bookmark(&self) -> CurrentBookmark {
        let core = self.core();
        match core.book.check() {
            Ok(()) => CurrentBookmark::new(core),
            Err(error) => CurrentBookmark { state: State::Known(Err(error)) },
        }
    }
}

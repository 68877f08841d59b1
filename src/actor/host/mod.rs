//! A small, complete actor host: objects that come into memory with their first message, handle
//! one at a time, answer when it is durable, and leave when they are idle.
//!
//! Invariants:
//!   * At most one instance of an object is there at a time, however many send to it.
//!   * Nobody sees a reply before every confirmed turn that it stands on is safe.
//!   * Nothing here names an executor: futures, wakers and one [`Spawner`] are all it needs.
//!
//! # Examples
//!
//! A working system:
//!
//! ```
//! use dostore::actor::host::{Actor, Context, Host};
//! use dostore::error::{Error, Result};
//! use dostore::store::Store;
//! use dostore::store::list::ListOptions;
//!
//! /// Keeps lines, and answers which one this is.
//! struct Journal;
//!
//! impl Actor for Journal {
//!     type Message = String;
//!     type Reply = usize;
//!     type Error = Error;
//!
//!     async fn handle(&mut self, context: &Context<Self>, line: String) -> Result<usize> {
//!         let lines = context.storage().list(ListOptions::new())?.count();
//!         context.storage().put(format!("line {lines:08}"), line)?;
//!         Ok(lines)
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("data");
//! let store = Store::open(path)?;
//! let host = Host::start(&store)?;
//! let journals = host.class("journals", async |_| Ok(Journal))?;
//! let first = journals.send("ship's log", "left the harbour".to_owned());
//! let second = journals.send("ship's log", "fog".to_owned());
//! assert_eq!(first.wait()?, 0); // Or `.await`, on any executor.
//! assert_eq!(second.wait()?, 1); // Durable from here on.
//! host.close().wait();
//! # store.close()
//! # }
//! ```
//!
//! # What the host does
//!
//! * **Mailboxes.** Each object has one. [`Recipient::send`] puts a message into it, in the order
//!   of the calls, and returns the future of the [`Reply`]. A full one keeps senders waiting.
//! * **Activation.** The first message opens the object on a thread of the store and makes an
//!   instance by the class's function. Idle objects leave again ([`HostBuilder::idle_after`]):
//!   what they had in memory is gone, what they had stored is not.
//! * **Turns.** Events of an object run one at a time, each poll as one turn: writes between two
//!   awaits commit together. An event that the class wants beside the others is an
//!   [`Event::Beside`].
//! * **Gates.** A reply stands behind the output gate: the caller waits until the confirmed turns
//!   of the object are safe, but not for writes that end in `_unconfirmed`. What leaves some
//!   other way waits for
//!   [`Storage::gate`](crate::actor::Storage::gate), a message to another object included: it is
//!   sent at once, and a crash may keep what it led to and take what it came from.
//! * **Alarms.** An alarm that came due activates its object and is handled like a message. It is
//!   done when its handler returns; a handler that fails is tried again, and after too many
//!   failures the class is told ([`Actor::abandoned`]).
//! * **Resets.** A panic, an abort or a commit that failed breaks the object. Everybody who waits
//!   for it gets an error that says so, and the next message activates it from what was sealed.
//! * **Closing.** [`Host::close`] takes nothing more and waits until all that was taken is durable.

mod alarms;
mod class;
mod lifecycle;
mod pool;
mod reply;
mod resident;
mod seat;
#[cfg(feature = "tokio")]
mod tokio;

pub use class::{Class, Recipient};
pub use lifecycle::{Closing, Host, HostBuilder};
pub use pool::{Pool, Spawner, Task};
pub use reply::{Accepted, Reply};
#[cfg(feature = "tokio")]
pub use tokio::Tokio;

use super::storage::Storage;
use crate::error::{Error, ErrorKind};
use crate::ids::ObjectId;
use crate::store::alarms::Fired;
use seat::Seat;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A kind of object: what it does with messages and alarms.
///
/// An instance is what an object holds in memory while it is active. Whatever must outlive that is
/// in its [`Storage`]. Handlers must not block their thread for long; where they wait, they await.
pub trait Actor: Sized + Send + 'static {
    /// What is sent to it.
    type Message: Send + 'static;
    /// What it answers.
    type Reply: Send + 'static;
    /// How its handlers fail; the host adds failures of its own.
    type Error: From<Error> + fmt::Display + Send + 'static;

    /// Handles a message. No other event of the object runs before it ends, except those of
    /// [`Event::Beside`]. An error goes to the caller and undoes nothing: what was written stays.
    fn handle(
        &mut self,
        context: &Context<Self>,
        message: Self::Message,
    ) -> impl Future<Output = Result<Self::Reply, Self::Error>> + Send;

    /// Handles an alarm that came due; it reads as not set meanwhile, and may be set again. It is
    /// done in the same commit as the last turn of this. After an error or a panic it comes again,
    /// later and later; so a handler may run more than once for one alarm. Where it ends the whole
    /// process nothing is counted, and the alarm comes again at once when the store is opened.
    ///
    /// By default it fails with `actor.alarm`, which counts: an alarm of a class without a handler
    /// is abandoned in the end, and never silently taken as done.
    fn alarm(
        &mut self,
        context: &Context<Self>,
        fired: &Fired,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (context, fired);
        async {
            let what = "the class of the object has no handler for alarms";
            Err(Error::invalid("actor.alarm", what).into())
        }
    }

    /// Told that an alarm failed too often and is not tried again; `why` is its last failure, which
    /// the store keeps too. Does nothing by default.
    ///
    /// Told at most once: the commit that gives the alarm up comes first, and a crash right behind
    /// it takes the call along. What the store keeps is not lost.
    fn abandoned(
        &mut self,
        context: &Context<Self>,
        fired: &Fired,
        why: &str,
    ) -> impl Future<Output = ()> + Send {
        let _ = (context, fired, why);
        async {}
    }

    /// Chooses how a message is handled: alone, by [`Actor::handle`], as all are by default; or
    /// beside others, as a future that does not borrow the instance. Writes nothing itself.
    fn interleaved(&mut self, context: &Context<Self>, message: Self::Message) -> Event<Self> {
        let _ = context;
        Event::Alone(message)
    }

    /// Whether an alarm that failed so comes nearer to being abandoned. By default all errors count
    /// but those of this crate that say that the store, not the handler, is in trouble. Asked of
    /// what the handler fails with, and of what the start of its object fails with.
    fn is_counted(error: &Self::Error) -> bool {
        let own: Option<&Error> = (error as &dyn Any).downcast_ref();
        own.is_none_or(|error| {
            let is_of_store = matches!(
                error.kind(),
                ErrorKind::Broken
                    | ErrorKind::Corrupt
                    | ErrorKind::NotRetained
                    | ErrorKind::Poisoned
                    | ErrorKind::Unsupported
            );
            !error.is_retryable() && !is_of_store
        })
    }
}

/// An event of an object that runs beside its others, between their awaits. Each of its polls is a
/// turn like any other.
pub type Beside<A> =
    Pin<Box<dyn Future<Output = Result<<A as Actor>::Reply, <A as Actor>::Error>> + Send>>;

/// How a message is handled.
pub enum Event<A: Actor> {
    /// By [`Actor::handle`], while no other message is.
    Alone(A::Message),
    /// By this future, while others are handled too.
    Beside(Beside<A>),
}

impl<A: Actor> fmt::Debug for Event<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Alone(_) => "Alone",
            Self::Beside(_) => "Beside",
        })
    }
}

/// What an active object has of the host. Cloning is cheap. Its storage works for as long as the
/// object is active; after that each call fails with kind `Broken`.
pub struct Context<A: Actor> {
    storage: Storage,
    seat: Arc<Seat<A>>,
}

impl<A: Actor> Clone for Context<A> {
    fn clone(&self) -> Self {
        Self { storage: self.storage.clone(), seat: Arc::clone(&self.seat) }
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Context({})", self.seat.id)
    }
}

impl<A: Actor> Context<A> {
    /// The object's storage.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.seat.id
    }

    /// The object's name, where somebody sent to it by name or the store keeps one with it.
    pub fn name(&self) -> Option<&str> {
        self.seat.name.get().map(|name| &**name)
    }

    /// The object itself, to send to. A handler that awaits a reply of its own object never ends.
    pub fn recipient(&self) -> Recipient<A> {
        Recipient(Arc::clone(&self.seat))
    }
}

//! What comes back for a message: a value that nobody sees before what it stands on is durable.
//!
//! Invariants:
//!   * A reply is settled once: by the handler, by a reset, or by whoever dropped the message.
//!   * A value is handed out only when what it stands on is safe; where that has failed, an error
//!     takes its place, and the object hears of it.
//!   * A caller that is not waiting is not woken; one that waits is woken once, by what hides it.
//!   * The slot's lock is taken alone, or under the mailbox's; no waker is made, called or dropped
//!     under either.
//!   * A reply does not hold its object's place in the host: of ten thousand places none is in the
//!     cache of whoever lets go of a reply.

use super::Actor;
use super::class::Post;
use super::seat::Seat;
use crate::actor::durability::Durability;
use crate::actor::gate::Gate;
use crate::actor::ledger::{Cover, gate_broken};
use crate::actor::storage::Storage;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::ObjectId;
use crate::store::blocking::block_on;
use crate::store::commit::Position;
use crate::wakes::wake;
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What a handler returned.
pub(super) type Outcome<A> = std::result::Result<<A as Actor>::Reply, <A as Actor>::Error>;

/// What an outcome waits for before it is shown.
pub(super) enum Hidden {
    /// Nothing.
    Not,
    /// A commit of this object that proves all that it stands on safe. A gate would say the same;
    /// but whoever drops that counts down in the memory of its object, which is far away by then.
    Commit(Position, ObjectId),
    /// A gate of this object.
    Gate(Gate, ObjectId),
}

impl Hidden {
    /// By what is covered of the object of this storage.
    fn by(cover: Cover, storage: &Storage) -> Self {
        match cover {
            Cover::Nothing => Self::Not,
            Cover::Commit(position) => Self::Commit(position, storage.id()),
            turns @ Cover::Turns { .. } => Self::Gate(storage.gate_of(turns), storage.id()),
        }
    }

    /// Whose outcome it hides.
    fn object(&self) -> Option<ObjectId> {
        match self {
            Self::Not => None,
            Self::Commit(_, id) | Self::Gate(_, id) => Some(*id),
        }
    }

    /// Whether it is safe; if that is not known yet, `waker` is woken when it may be.
    fn poll(&mut self, durability: &dyn Durability, waker: &Waker) -> Option<Result<()>> {
        match self {
            Self::Not => Some(Ok(())),
            Self::Commit(position, _) if durability.is_confirmed(*position) => Some(Ok(())),
            Self::Commit(position, _) => {
                let polled = durability.poll(*position, waker)?;
                Some(polled.map_err(|cause| gate_broken(&cause)))
            }
            Self::Gate(gate, _) => match Pin::new(gate).poll(&mut Context::from_waker(waker)) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            },
        }
    }

    /// Blocks until it is safe or never will be.
    fn wait(&self, durability: &dyn Durability) -> Result<()> {
        match self {
            Self::Not => Ok(()),
            Self::Commit(position, _) if durability.is_confirmed(*position) => Ok(()),
            Self::Commit(position, _) => {
                durability.wait(*position).map_err(|cause| gate_broken(&cause))
            }
            Self::Gate(gate, _) => gate.wait(),
        }
    }
}

/// Where a handler leaves its outcome and a caller finds it.
pub(super) struct Slot<A: Actor> {
    state: Mutex<State<A>>,
}

enum State<A: Actor> {
    /// Not settled: the message, until its handler has it, and who waits, for the outcome or to be
    /// taken into the mailbox.
    Open(Option<A::Message>, Option<Waker>),
    /// The outcome, and what hides it.
    Settled(Outcome<A>, Hidden),
    Taken,
}

/// Drops what is the user's: where it panics, others still get their answers.
fn drop_alone<T>(value: Option<T>) {
    if value.is_some() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
}

impl<A: Actor> Slot<A> {
    /// `is_hidden` looks whether it is, and keeps a waker if so.
    fn settle(
        &self,
        outcome: Outcome<A>,
        mut hidden: Hidden,
        is_hidden: impl FnOnce(&mut Hidden, &Waker) -> bool,
    ) {
        let mut state = self.state.lock();
        let State::Open(message, waker) = &mut *state else { return };
        // Dropped when no lock is held: it is the user's.
        let unread = message.take();
        let Some(waker) = waker.take() else {
            *state = State::Settled(outcome, hidden);
            drop(state);
            drop_alone(unread);
            return;
        };
        drop(state);
        drop_alone(unread);
        // The caller is woken when there is something to see, not now to find it hidden.
        let is_hidden = is_hidden(&mut hidden, &waker);
        let before = std::mem::replace(&mut *self.state.lock(), State::Settled(outcome, hidden));
        if !is_hidden {
            wake(Some(waker));
        }
        // Whoever asked meanwhile did not find the outcome.
        if let State::Open(_, Some(waker)) = before {
            wake(Some(waker));
        }
    }

    fn fail(&self, error: Error) {
        self.settle(Err(A::Error::from(error)), Hidden::Not, |_, _| false);
    }

    /// Keeps a waker until it is settled, or taken into the mailbox; none when it is settled.
    fn keep(&self, waker: &Waker) -> Option<()> {
        // Made before the lock is taken, and what it replaces is dropped after.
        let mut waker = waker.clone();
        let mut state = self.state.lock();
        let State::Open(_, kept) = &mut *state else { return None };
        match kept {
            Some(kept) => std::mem::swap(kept, &mut waker),
            None => *kept = Some(waker),
        }
        Some(())
    }

    /// Whoever waits to be taken into the mailbox, or for the outcome.
    pub fn take_waker(&self) -> Option<Waker> {
        match &mut *self.state.lock() {
            State::Open(_, waker) => waker.take(),
            State::Settled(..) | State::Taken => None,
        }
    }
}

/// A message and the handler's end of its reply. Dropped unsettled, the caller gets an error.
///
/// The message lies beside the place of its reply: one allocation holds both, and what goes through
/// mailboxes is a pointer.
pub(super) struct Answer<A: Actor>(Option<Arc<Slot<A>>>);

impl<A: Actor> Answer<A> {
    /// The message, for its handler.
    pub fn take_message(&self) -> A::Message {
        let slot = self.0.as_ref().expect("not settled");
        let State::Open(message, _) = &mut *slot.state.lock() else {
            panic!("a message was settled before it was handled");
        };
        message.take().expect("handled once")
    }

    /// Answers with an outcome of the object of this storage, behind all that it had done when the
    /// last turn of the handler ended: `cover`, or if that turn has logged nothing, until now.
    pub fn settle(mut self, outcome: Outcome<A>, cover: Option<Cover>, storage: &Storage) {
        if let Some(slot) = self.0.take() {
            let durability = storage.durability();
            let hidden = Hidden::by(cover.unwrap_or_else(|| storage.cover()), storage);
            slot.settle(outcome, hidden, |hidden, waker| hidden.poll(durability, waker).is_none());
            // Where the caller has gone, it has the outcome.
            drop_alone(Some(slot));
        }
    }

    pub fn fail(mut self, error: &Error) {
        if let Some(slot) = self.0.take() {
            slot.fail(error.clone());
            drop_alone(Some(slot));
        }
    }

    /// Whoever waits to hear that the message is in the mailbox.
    pub fn take_waker(&self) -> Option<Waker> {
        self.0.as_ref()?.take_waker()
    }
}

impl<A: Actor> Drop for Answer<A> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let what = "the message was dropped before its handler ended";
            let error = Error::new(ErrorKind::Broken, "actor.dropped", what);
            slot.fail(error);
        }
    }
}

/// The future of a reply.
///
/// Resolves to what the handler returned once everything that it stands on survives any crash; to
/// an error of kind `Broken` where the object was reset meanwhile, and then it is not known whether
/// the message took effect. Dropping it takes nothing back once the message is in the mailbox
/// ([`Reply::accepted`]); before, the message is dropped with it.
///
/// # Errors
///
/// Those that the handler returns, and the host's own as [`Actor::Error`], all of kind `Broken`:
///
/// * `host.closed`, `actor.start`: the message was not handled; of a start that failed, the source
///   says why.
/// * `actor.panicked`, `actor.reset`, `actor.dropped`, `gate.broken`: whether the message took
///   effect is not known.
#[must_use = "a message that found its mailbox full is dropped with its reply"]
pub struct Reply<A: Actor> {
    slot: Arc<Slot<A>>,
    /// Of the class that it was sent to; none where it could not be.
    post: Option<Arc<Post<A>>>,
    /// Its place, if it found the mailbox full and waits outside.
    outside: Option<Box<Outside<A>>>,
}

/// A message that waits outside its mailbox: where, and its ticket.
struct Outside<A: Actor>(Arc<Seat<A>>, u64);

impl<A: Actor> fmt::Debug for Reply<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Reply")
    }
}

// The outcome is never pinned.
impl<A: Actor> Unpin for Reply<A> {}

/// A message, and both ends of its reply.
pub(super) fn pair<A: Actor>(post: &Arc<Post<A>>, message: A::Message) -> (Answer<A>, Reply<A>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Open(Some(message), None)) });
    let post = Some(Arc::clone(post));
    (Answer(Some(Arc::clone(&slot))), Reply { slot, post, outside: None })
}

impl<A: Actor> Reply<A> {
    /// A reply that is an error already.
    pub(super) fn failed(error: Error) -> Self {
        let state = State::Settled(Err(A::Error::from(error)), Hidden::Not);
        Self { slot: Arc::new(Slot { state: Mutex::new(state) }), post: None, outside: None }
    }

    /// The message found the mailbox full, and waits behind it.
    pub(super) fn set_waiting(&mut self, seat: &Arc<Seat<A>>, ticket: u64) {
        self.outside = Some(Box::new(Outside(Arc::clone(seat), ticket)));
    }

    /// Resolves when the mailbox has taken the message: at once, unless it was full. From then on
    /// the message is handled whether or not anybody waits for the reply.
    ///
    /// This is the backpressure for whoever does not wait for replies.
    pub fn accepted(&mut self) -> Accepted<'_, A> {
        Accepted { reply: self }
    }

    /// Blocks until the reply is there. On an idle store the caller writes the log itself.
    pub fn wait(mut self) -> Outcome<A> {
        let settled = self.take_settled();
        let (outcome, hidden) =
            settled.unwrap_or_else(|| block_on(|context| self.poll_settled(context)));
        let Some(post) = &self.post else { return outcome };
        let safe = hidden.wait(post.durability());
        shown(post, outcome, &hidden, safe)
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<(Outcome<A>, Hidden)> {
        if let Some(settled) = self.take_settled() {
            return Poll::Ready(settled);
        }
        if self.slot.keep(context.waker()).is_some() {
            return Poll::Pending;
        }
        self.take_settled().map_or(Poll::Pending, Poll::Ready)
    }

    fn take_settled(&mut self) -> Option<(Outcome<A>, Hidden)> {
        let mut state = self.slot.state.lock();
        if matches!(*state, State::Open(..)) {
            return None;
        }
        let State::Settled(outcome, hidden) = std::mem::replace(&mut *state, State::Taken) else {
            panic!("a reply was polled after it was ready");
        };
        drop(state);
        self.outside = None;
        Some((outcome, hidden))
    }

    /// What was taken is to be taken again: it is not safe yet.
    fn put_back(&self, outcome: Outcome<A>, hidden: Hidden) {
        *self.slot.state.lock() = State::Settled(outcome, hidden);
    }
}

/// What a caller is shown when what it stood on is `safe`, or never will be.
fn shown<A: Actor>(
    post: &Post<A>,
    outcome: Outcome<A>,
    hidden: &Hidden,
    safe: Result<()>,
) -> Outcome<A> {
    match safe {
        Ok(()) => outcome,
        Err(error) => {
            if let Some(id) = hidden.object() {
                post.tell_failed(id);
            }
            Err(A::Error::from(error))
        }
    }
}

impl<A: Actor> Future for Reply<A> {
    type Output = Outcome<A>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<A>> {
        let Poll::Ready((outcome, mut hidden)) = self.poll_settled(context) else {
            return Poll::Pending;
        };
        let Some(post) = &self.post else { return Poll::Ready(outcome) };
        let Some(safe) = hidden.poll(post.durability(), context.waker()) else {
            self.put_back(outcome, hidden);
            return Poll::Pending;
        };
        Poll::Ready(shown(post, outcome, &hidden, safe))
    }
}

impl<A: Actor> Drop for Reply<A> {
    fn drop(&mut self) {
        if let Some(outside) = &self.outside {
            let Outside(seat, ticket) = &**outside;
            seat.withdraw(*ticket);
        }
    }
}

/// The future of a message's acceptance. See [`Reply::accepted`].
#[must_use = "a future does nothing until it is polled"]
pub struct Accepted<'r, A: Actor> {
    reply: &'r mut Reply<A>,
}

impl<A: Actor> fmt::Debug for Accepted<'_, A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Accepted")
    }
}

impl<A: Actor> Accepted<'_, A> {
    /// Blocks until the mailbox has taken the message.
    pub fn wait(mut self) {
        block_on(|context| Pin::new(&mut self).poll(context));
    }
}

impl<A: Actor> Future for Accepted<'_, A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(outside) = &self.reply.outside else { return Poll::Ready(()) };
        let Outside(seat, ticket) = &**outside;
        // Kept before it is looked: whoever lets the message in after that wakes it.
        self.reply.slot.keep(context.waker());
        if seat.waits_outside(*ticket) {
            return Poll::Pending;
        }
        self.reply.outside = None;
        drop(self.reply.slot.take_waker());
        Poll::Ready(())
    }
}

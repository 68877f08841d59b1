//! What comes back for a message: a value that nobody sees before what it stands on is durable.
//!
//! Invariants:
//!   * A reply is settled once: by the handler, by a reset, or by whoever dropped the message.
//!   * A value is handed out only after its gate opened; a gate that broke replaces it by an error.
//!   * A caller that is not waiting is not woken; one that waits is woken once, by the gate itself.
//!   * The slot's lock is taken alone, or under the mailbox's; no waker is made, called or dropped
//!     under either.

use super::Actor;
use super::seat::Seat;
use crate::actor::gate::Gate;
use crate::error::{Error, ErrorKind};
use crate::store::blocking::block_on;
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

/// Where a handler leaves its outcome and a caller finds it.
pub(super) struct Slot<A: Actor> {
    state: Mutex<State<A>>,
}

enum State<A: Actor> {
    /// Not settled: the message, until its handler has it, and who waits, for the outcome or to be
    /// taken into the mailbox.
    Open(Option<A::Message>, Option<Waker>),
    /// The outcome, and the gate that hides it.
    Settled(Outcome<A>, Option<Gate>),
    Taken,
}

/// Drops what is the user's: where it panics, others still get their answers.
fn drop_alone<T>(value: Option<T>) {
    if value.is_some() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
}

impl<A: Actor> Slot<A> {
    fn settle(&self, outcome: Outcome<A>, mut gate: Option<Gate>) {
        let mut state = self.state.lock();
        let State::Open(message, waker) = &mut *state else { return };
        // Dropped when no lock is held: it is the user's.
        let unread = message.take();
        let Some(waker) = waker.take() else {
            *state = State::Settled(outcome, gate);
            drop(state);
            drop_alone(unread);
            return;
        };
        drop(state);
        drop_alone(unread);
        // The caller is woken when the gate opens, not now to find it shut.
        let is_hidden = gate
            .as_mut()
            .is_some_and(|gate| Pin::new(gate).poll(&mut Context::from_waker(&waker)).is_pending());
        let before = std::mem::replace(&mut *self.state.lock(), State::Settled(outcome, gate));
        if !is_hidden {
            wake(Some(waker));
        }
        // Whoever asked meanwhile did not find the outcome.
        if let State::Open(_, Some(waker)) = before {
            wake(Some(waker));
        }
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

    pub fn settle(mut self, outcome: Outcome<A>, gate: Option<Gate>) {
        if let Some(slot) = self.0.take() {
            slot.settle(outcome, gate);
            // Where the caller has gone, it has the outcome.
            drop_alone(Some(slot));
        }
    }

    pub fn fail(self, error: &Error) {
        self.settle(Err(A::Error::from(error.clone())), None);
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
            slot.settle(Err(A::Error::from(error)), None);
        }
    }
}

/// The future of a reply.
///
/// Resolves to what the handler returned once everything that it stands on survives any crash; to
/// an error of kind `Broken` where the object was reset meanwhile, and then it is not known whether
/// the message took effect. Dropping it takes nothing back once the message is in the mailbox
/// ([`Reply::accepted`]); before, the message is dropped with it.
#[must_use = "a message that found its mailbox full is dropped with its reply"]
pub struct Reply<A: Actor> {
    slot: Arc<Slot<A>>,
    /// Where the message is, if it found the mailbox full, and its ticket there.
    outside: Option<(Arc<Seat<A>>, u64)>,
    /// Settled, but behind a gate.
    hidden: Option<(Outcome<A>, Gate)>,
}

impl<A: Actor> fmt::Debug for Reply<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Reply")
    }
}

// The outcome is never pinned.
impl<A: Actor> Unpin for Reply<A> {}

/// A message, and both ends of its reply.
pub(super) fn pair<A: Actor>(message: A::Message) -> (Answer<A>, Reply<A>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Open(Some(message), None)) });
    (Answer(Some(Arc::clone(&slot))), Reply { slot, outside: None, hidden: None })
}

impl<A: Actor> Reply<A> {
    /// A reply that is an error already.
    pub(super) fn failed(error: Error) -> Self {
        let state = State::Settled(Err(A::Error::from(error)), None);
        Self { slot: Arc::new(Slot { state: Mutex::new(state) }), outside: None, hidden: None }
    }

    /// The message found the mailbox full, and waits behind it.
    pub(super) fn set_waiting(&mut self, seat: &Arc<Seat<A>>, ticket: u64) {
        self.outside = Some((Arc::clone(seat), ticket));
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
        let (outcome, gate) =
            settled.unwrap_or_else(|| block_on(|context| self.poll_settled(context)));
        match gate.map(|gate| gate.wait()) {
            Some(Err(error)) => Err(A::Error::from(error)),
            Some(Ok(())) | None => outcome,
        }
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<(Outcome<A>, Option<Gate>)> {
        if let Some(settled) = self.take_settled() {
            return Poll::Ready(settled);
        }
        if self.slot.keep(context.waker()).is_some() {
            return Poll::Pending;
        }
        self.take_settled().map_or(Poll::Pending, Poll::Ready)
    }

    fn take_settled(&mut self) -> Option<(Outcome<A>, Option<Gate>)> {
        let mut state = self.slot.state.lock();
        if matches!(*state, State::Open(..)) {
            return None;
        }
        let State::Settled(outcome, gate) = std::mem::replace(&mut *state, State::Taken) else {
            panic!("a reply was polled after it was ready");
        };
        drop(state);
        // The last one that points at the seat takes along what is the user's.
        self.outside = None;
        Some((outcome, gate))
    }
}

impl<A: Actor> Future for Reply<A> {
    type Output = Outcome<A>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<A>> {
        let (outcome, mut gate) = match self.hidden.take() {
            Some(hidden) => hidden,
            None => match self.poll_settled(context) {
                Poll::Ready((outcome, Some(gate))) => (outcome, gate),
                Poll::Ready((outcome, None)) => return Poll::Ready(outcome),
                Poll::Pending => return Poll::Pending,
            },
        };
        match Pin::new(&mut gate).poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(outcome),
            Poll::Ready(Err(error)) => Poll::Ready(Err(A::Error::from(error))),
            Poll::Pending => {
                self.hidden = Some((outcome, gate));
                Poll::Pending
            }
        }
    }
}

impl<A: Actor> Drop for Reply<A> {
    fn drop(&mut self) {
        if let Some((seat, ticket)) = self.outside.take() {
            seat.withdraw(ticket);
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
        let Some((seat, ticket)) = &self.reply.outside else { return Poll::Ready(()) };
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

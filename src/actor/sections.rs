//! Critical sections: while one runs, no other event of its object is polled.
//!
//! Invariants:
//!   * A section that began ends in one of three ways: it is over, it is dropped, or the object is
//!     broken. In each, its level of the gate ends.
//!   * A section ends after those inside it.
//!   * What a transaction wrote is logged by its end, in one commit, or undone.

use super::core::{Core, Turn};
use super::doors::{Doors, Hand, Terms};
use super::turns::{Handle, ask};
use crate::error::{Error, ErrorKind, Result};
use crate::store::timer;
use pin_project_lite::pin_project;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

/// What a section does beside holding the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: what it wrote stays, and its failure breaks the object.
    Plain,
    /// What it wrote is one commit, or is undone.
    Transaction,
}

/// A section as the gate knows it.
#[derive(Debug)]
struct Control {
    handle: Handle<Arc<Core>>,
    kind: Kind,
    /// Whether it has begun and not ended.
    is_running: bool,
    /// Its number among the open transactions.
    number: Option<usize>,
    /// Wakes when it has run for too long.
    limit: Option<timer::Entry>,
}

/// Breaks an object whose section has run for too long.
struct Limit(Weak<Core>);

impl Wake for Limit {
    fn wake(self: Arc<Self>) {
        let Some(core) = self.0.upgrade() else { return };
        // What breaks an object waits for its reads, which the thread of all timers must not.
        // A durability may panic, which is no reason for either thread to end.
        let check = |core: &Core| {
            let _ = catch_unwind(AssertUnwindSafe(|| core.check_limit()));
        };
        let own = Arc::clone(&core);
        if !core.object.store().run_on_reader(Box::new(move || check(&own))) {
            check(&core);
        }
    }
}

impl Control {
    fn start<'c>(&mut self, core: &'c Core, waker: &Waker) -> Result<Option<Turn<'c>>> {
        let is_transaction = self.kind == Kind::Transaction;
        let deadline = core.now().checked_add(core.section_limit);
        let terms = Terms { deadline, is_transaction };
        let event = &mut self.handle.event;
        let turn = ask(core, event, waker, |doors, event, is_inside, hand| {
            doors.start(event, terms, is_inside, hand)
        })?;
        self.is_running = turn.is_some();
        if let Some(deadline) = deadline
            && self.is_running
        {
            let limit = Waker::from(Arc::new(Limit(Arc::downgrade(&self.handle.core))));
            // Where no thread can be started, whoever asks for the turn next notices the time.
            self.limit = core.object.store().timer().wake_at(deadline, &limit).ok();
        }
        Ok(turn)
    }

    /// Notes what waits while the section is not being polled.
    fn note_task(&self, waker: &Waker) {
        let mut hand = Hand { new: Some(waker.clone()), ..Hand::default() };
        self.handle.core.doors.lock().note_task(&self.handle.event, &mut hand);
    }

    /// Ends the level of the gate; false while another section runs inside this one.
    fn finish(&mut self, waker: &Waker) -> bool {
        let core = &self.handle.core;
        let mut hand = Hand { new: Some(waker.clone()), ..Hand::default() };
        let mut doors = core.doors.lock();
        let is_over = doors.finish(&self.handle.event, &mut hand);
        core.set_holder(&doors);
        drop(doors);
        if is_over {
            self.is_running = false;
            self.limit = None;
        }
        is_over
    }

    /// Ends a section that will not be polled again.
    fn abandon(&mut self) -> Result<()> {
        let core = &self.handle.core;
        let stuck = |cause: Error| {
            // Broken already, or the turn cannot be waited for: the section never ends well.
            let what = "a critical section was dropped while it ran, and could not be ended";
            let error = Error::new(ErrorKind::Broken, "section.dropped", what);
            core.break_with(&error.caused_by(cause))
        };
        let turn =
            if core.is_inside() { None } else { Some(core.take_turn(false).map_err(stuck)?) };
        let mut doors = core.doors.lock();
        let Some(level) = doors.level_of_section(&self.handle.event) else {
            // Cut already by a section around it, which has undone its writes as well.
            drop(doors);
            return turn.map_or(Ok(()), Turn::end_call);
        };
        let is_harmless = doors.are_transactions(level);
        let wakes = doors.cut_to(level);
        doors.owe(wakes);
        core.set_holder(&doors);
        drop(doors);
        if is_harmless {
            self.number.map(|number| core.roll_back_transaction(number));
        } else {
            let what =
                "a critical section was dropped while it ran, so what it began is unfinished";
            core.break_with(&Error::new(ErrorKind::Broken, "section.dropped", what));
        }
        turn.map_or(Ok(()), Turn::end_call)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.is_running {
            // An error says that the object is broken, and nothing is left to end.
            let _ = self.abandon();
        }
    }
}

pin_project! {
    /// A critical section as a future.
    #[must_use = "a future does nothing unless it is polled"]
    pub(super) struct Section<B, F, T> {
        // First, so that it ends before what it guards is dropped.
        control: Control,
        begin: Option<B>,
        #[pin]
        future: Option<F>,
        // What came out, while a section inside this one still runs.
        output: Option<T>,
    }
}

impl<B, F, T> Section<B, F, T> {
    pub fn new(core: &Arc<Core>, kind: Kind, begin: B) -> Self {
        let handle = Handle::new(Arc::clone(core));
        let control = Control { handle, kind, is_running: false, number: None, limit: None };
        Self { control, begin: Some(begin), future: None, output: None }
    }
}

impl<B, F, R, E> Future for Section<B, F, Result<R, E>>
where
    B: FnOnce() -> F,
    F: Future<Output = Result<R, E>>,
    E: From<Error>,
{
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let waker = context.waker();
        let core = Arc::clone(&this.control.handle.core);
        let asked = if this.begin.is_some() {
            this.control.start(&core, waker)
        } else {
            ask(&core, &mut this.control.handle.event, waker, Doors::resume)
        };
        let turn = match asked {
            Ok(Some(turn)) => turn,
            Ok(None) => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        if let Some(begin) = this.begin.take() {
            if this.control.kind == Kind::Transaction {
                match core.begin_transaction() {
                    Ok(number) => this.control.number = Some(number),
                    Err(error) => {
                        this.control.finish(waker);
                        let _ = turn.end();
                        return Poll::Ready(Err(error.into()));
                    }
                }
            }
            this.future.set(Some(begin()));
        }
        if let Some(future) = this.future.as_mut().as_pin_mut()
            && let Poll::Ready(output) = future.poll(context)
        {
            this.future.set(None);
            *this.output = Some(output);
        }
        let is_over = this.output.is_some() && this.control.finish(waker);
        if !is_over {
            this.control.note_task(waker);
            return match turn.end() {
                Ok(_) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            };
        }
        let output = this.output.take().expect("there was one just now");
        Poll::Ready(conclude(&core, this.control.number.take(), turn, output))
    }
}

/// Ends a section whose level of the gate is gone.
fn conclude<R, E: From<Error>>(
    core: &Core,
    transaction: Option<usize>,
    turn: Turn<'_>,
    output: Result<R, E>,
) -> Result<R, E> {
    match (output, transaction) {
        (Ok(value), None) => turn.end().map(|_| value).map_err(E::from),
        (Ok(value), Some(number)) => {
            let committed = core.commit_transaction(number);
            let ended = turn.end();
            committed.and(ended).map(|_| value).map_err(E::from)
        }
        (Err(error), Some(number)) => {
            core.roll_back_transaction(number);
            let _ = turn.end();
            Err(error)
        }
        (Err(error), None) => {
            // What it wrote before stays; what comes after is refused.
            let _ = core.seal_or_break();
            let what = "a critical section of the object failed";
            core.break_with(&Error::new(ErrorKind::Broken, "section.failed", what));
            let _ = turn.end();
            Err(error)
        }
    }
}

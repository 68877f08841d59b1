//! Turns: one poll of a future, or one callback, is what becomes durable together.
//!
//! Invariants:
//!   * A future is polled only while its thread has the object's turn, and never two at once.
//!   * Whoever finds the turn taken leaves its waker and returns; no thread is blocked.

use super::core::{Core, Part, Turn};
use super::doors::{Doors, Entry, Event, Hand, UNNAMED};
use super::ledger::Cover;
use crate::error::{Error, ErrorKind, Result};
use pin_project_lite::pin_project;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// An event and its object, shared or borrowed: what asks for the turn.
#[derive(Debug)]
pub(super) struct Handle<C: Deref<Target = Core>> {
    pub core: C,
    pub event: Event,
}

impl<C: Deref<Target = Core>> Handle<C> {
    /// A new event; it belongs to the section whose code runs now on this thread.
    pub fn new(core: C) -> Self {
        let place = if core.is_inside() { core.doors.lock().current_place() } else { None };
        let event = Event { id: UNNAMED, place, ticket: None };
        Self { core, event }
    }
}

/// An event asks for the turn; none where it has to wait and `waker` will be told.
pub(super) fn ask<'c>(
    core: &'c Core,
    event: &mut Event,
    waker: &Waker,
    ask: impl Fn(&mut Doors, &mut Event, bool, &mut Hand) -> Entry,
) -> Result<Option<Turn<'c>>> {
    let is_inside = core.is_inside();
    let mut hand = Hand::default();
    loop {
        let mut doors = core.doors.lock();
        core.book.check()?;
        if doors.depth() > 0 && core.is_overdue(&doors) {
            drop(doors);
            return Err(core.break_overdue());
        }
        let has_waker = hand.new.is_some();
        let part = match ask(&mut doors, event, is_inside, &mut hand) {
            Entry::Outer => Part::Outer,
            Entry::Inner(level) => Part::Event(level),
            Entry::Waits if has_waker => return Ok(None),
            Entry::Waits => {
                drop(doors);
                hand.new = Some(waker.clone());
                continue;
            }
            refused => return Err(refusal(&refused)),
        };
        core.set_holder(&doors);
        drop(doors);
        return Ok(Some(Turn::new(core, part)));
    }
}

fn refusal(entry: &Entry) -> Error {
    match entry {
        Entry::Deadlock => {
            let what = "inside a critical section something is awaited that must wait for its end";
            Error::invalid("gate.deadlock", what)
        }
        Entry::TooDeep => Error::invalid("gate.depth", "critical sections are nested too deeply"),
        _ => {
            let what = "the section was ended from outside, with the one around it";
            Error::new(ErrorKind::Aborted, "section.ended", what)
        }
    }
}

impl<C: Deref<Target = Core>> Drop for Handle<C> {
    fn drop(&mut self) {
        if self.event.ticket.is_none() {
            return;
        }
        let (wakes, own) = self.core.doors.lock().forget(&mut self.event);
        drop(own);
        wakes.wake();
    }
}

pin_project! {
    /// A future whose every poll is one turn of an object; of whoever borrows that, or shares it.
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is polled"]
    pub(super) struct Turns<C: Deref<Target = Core>, F> {
        handle: Handle<C>,
        #[pin]
        future: Option<F>,
    }
}

impl<C: Deref<Target = Core>, F> Turns<C, F> {
    pub fn new(core: C, future: F) -> Self {
        Self { handle: Handle::new(core), future: Some(future) }
    }
}

impl<C: Deref<Target = Core>, F: Future> Future for Turns<C, F> {
    /// What came out, and what a gate covers that is taken as the last turn ends; none where that
    /// turn has logged nothing. An error says that the object is broken, or that the future could
    /// not be run.
    type Output = Result<(F::Output, Option<Cover>)>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let future = this.future.as_mut().as_pin_mut().expect("not polled again when it is over");
        let Handle { core, event } = this.handle;
        let turn = match ask(core, event, context.waker(), Doors::enter) {
            Ok(Some(turn)) => turn,
            Ok(None) => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let polled = future.poll(context);
        let ended = turn.end();
        match (polled, ended) {
            (Poll::Pending, Ok(_)) => Poll::Pending,
            (Poll::Ready(value), Ok(cover)) => {
                this.future.set(None);
                Poll::Ready(Ok((value, cover)))
            }
            (_, Err(error)) => {
                this.future.set(None);
                Poll::Ready(Err(error))
            }
        }
    }
}

pin_project! {
    /// A future whose every poll is one turn of an object. See [`Storage::run`].
    ///
    /// Dropping it keeps the turns that are sealed; there is no open one between two polls.
    ///
    /// [`Storage::run`]: super::storage::Storage::run
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is polled"]
    pub struct Run<F> {
        #[pin]
        turns: Turns<Arc<Core>, F>,
    }
}

impl<F> Run<F> {
    pub(super) fn new(core: &Arc<Core>, future: F) -> Self {
        Self { turns: Turns::new(Arc::clone(core), future) }
    }
}

impl<F: Future> Future for Run<F> {
    /// An error says that the object is broken, or that the future could not be run.
    type Output = Result<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().turns.poll(context).map_ok(|(value, _)| value)
    }
}

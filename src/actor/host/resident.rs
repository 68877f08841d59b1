//! The life of an active object: activation, its events one after the other, reset, leaving.
//!
//! Invariants:
//!   * The object is given back before the seat is vacated, so the next resident can open it.
//!   * Each event is polled through `Storage::run`, so each poll is one turn and no turn mixes two.
//!   * An alarm is completed in the last turn of its handler; one whose handler panicked is counted
//!     by the next activation, before anything else.
//!   * After a reset nobody who waited is left without an error that says so.

use super::alarms::Delivery;
use super::lifecycle::{Living, Shared};
use super::reply::{self, Answer};
use super::seat::{Behind, Next, Seat};
use super::{Actor, Context, Event};
use crate::actor::ledger::Cover;
use crate::actor::storage::Storage;
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{Mistake, planted};
use crate::store::alarms::{Failure, Outcome};
use crate::store::object::Object;
use pin_project_lite::pin_project;
use std::any::Any;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

/// Events after which a resident lets others run, if it has not waited for anything.
const EVENTS_AT_ONCE: u32 = 64;

/// The right to be the resident of a seat. Dropped in the middle of its work, as by an executor
/// that shuts down, whoever waits gets an error.
pub(super) struct Residence<A: Actor> {
    seat: Arc<Seat<A>>,
    is_over: bool,
    _living: Living,
}

impl<A: Actor> Residence<A> {
    pub fn new(seat: Arc<Seat<A>>) -> Self {
        let living = Living::new(&seat.roster.shared);
        Self { seat, is_over: false, _living: living }
    }
}

impl<A: Actor> Drop for Residence<A> {
    fn drop(&mut self) {
        let what = "the executor dropped the object's task";
        while !self.is_over {
            self.seat.fail_all(&Error::new(ErrorKind::Broken, "actor.dropped", what));
            self.is_over = self.seat.vacate();
        }
    }
}

/// What came of a handler: a panic, a broken object, or its outcome and what that stands on, if
/// its last turn has logged anything.
type Handled<A> = std::result::Result<Result<(reply::Outcome<A>, Option<Cover>)>, String>;

/// The same, who is to be answered, and what is behind the message now.
type Answered<A> = (Handled<A>, Answer<A>, Behind);

/// A future that lies where its owner does not.
type Elsewhere<F> = Pin<Box<F>>;

/// Alarms whose failure no commit holds yet, and why they failed.
type Unrecorded = Vec<(Box<Delivery>, String)>;

/// Stays for as long as there is something to do, through resets and new activations.
pub(super) async fn reside<A: Actor>(mut residence: Residence<A>) {
    let mut unrecorded = Unrecorded::new();
    while !residence.is_over {
        let stayed = caught(stay(&residence.seat, &mut unrecorded)).await;
        // What panics here is the user's, and no handler: an error's text, an instance that goes.
        if let Err(error) = stayed.unwrap_or_else(|panic| Err(panicked(&panic))) {
            residence.seat.fail_all(&error);
        }
        residence.is_over = unrecorded.is_empty() && residence.seat.vacate();
    }
}

/// Gives the object back when it is dropped, whoever still has a clone of its storage. What it has
/// sealed is the host's to wait for from then on.
struct Opened<'s>(Storage, &'s Shared);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        let sealed = self.0.sealed();
        self.0.close();
        self.1.wait_for(sealed);
    }
}

/// One activation, from durable state until the object leaves or breaks. An error is for everybody
/// who waits.
async fn stay<A: Actor>(seat: &Arc<Seat<A>>, unrecorded: &mut Unrecorded) -> Result<()> {
    let failed = std::mem::take(unrecorded);
    let is_recording = !failed.is_empty();
    // What is rare has its future elsewhere.
    let object = Box::pin(open(seat)).await?;
    let shared = &*seat.roster.shared;
    let opened = Opened(Storage::with_options(object, shared.settings.storage.clone()), shared);
    let storage = &opened.0;
    let mut abandoned = Vec::new();
    for (delivery, why) in failed {
        if let Outcome::Abandoned = Box::pin(record(storage, &delivery, &why)).await? {
            abandoned.push((delivery, why));
        }
    }
    if is_recording && abandoned.is_empty() && !seat.has_work() {
        return Ok(());
    }
    seat.roster.note_stay(seat);
    let context = Context { storage: storage.clone(), seat: Arc::clone(seat) };
    let starting = storage.run(lazy(|| (seat.roster.start)(context.clone())));
    let actor = match Box::pin(caught(starting)).await {
        Ok(Ok(Ok(actor))) => actor,
        Ok(Ok(Err(error))) => {
            let counts = A::is_counted(&error).then_some(unrecorded);
            return Err(not_started(seat, &text_of_error(&error), Some(&error), counts));
        }
        Ok(Err(broken)) => return Err(reset(&broken)),
        Err(panic) => return Err(not_started::<A>(seat, &panic, None, Some(unrecorded))),
    };
    let mut resident = Resident { seat, context: &context, actor };
    for (delivery, why) in abandoned {
        Box::pin(resident.tell_abandoned(&delivery, &why)).await?;
    }
    resident.work(unrecorded).await?;
    drop(resident);
    if seat.roster.is_closing() {
        storage.sync().await?;
    }
    Ok(())
}

async fn open<A: Actor>(seat: &Seat<A>) -> Result<Object> {
    let namespace = &seat.roster.namespace;
    if let Some(name) = seat.name.get() {
        return namespace.activate_by_name(name).await;
    }
    let object = namespace.activate(seat.id).await?;
    // Without its name it works as well.
    if let Ok(Some(name)) = object.stored_name() {
        let _ = seat.name.set(name.into());
    }
    Ok(object)
}

/// How an alarm counts that failed so, and what it says.
fn failure_of<A: Actor>(error: &A::Error) -> (Failure, String) {
    let failure = if A::is_counted(error) { Failure::Counted } else { Failure::Uncounted };
    (failure, text_of_error(error))
}

/// Completes an alarm in the open turn, or lets it fail there.
fn settle(
    storage: &Storage,
    delivery: &Delivery,
    failed: Option<&(Failure, String)>,
) -> Result<Option<Outcome>> {
    match failed {
        None => storage.complete_alarm(&delivery.fired).map(|_| None),
        Some((failure, why)) => storage.fail_alarm(&delivery.fired, *failure, why).map(Some),
    }
}

/// Commits that an alarm failed.
async fn record(storage: &Storage, delivery: &Delivery, why: &str) -> Result<Outcome> {
    storage.run(async { storage.fail_alarm(&delivery.fired, Failure::Counted, why) }).await?
}

/// The error for everybody who waits for an object that cannot start. Where that is its own fault,
/// its alarms have failed too, and are put into `counts`.
fn not_started<A: Actor>(
    seat: &Seat<A>,
    why: &str,
    cause: Option<&A::Error>,
    counts: Option<&mut Unrecorded>,
) -> Error {
    let what = format!("the object could not start: {why}");
    if let Some(unrecorded) = counts {
        unrecorded.extend(seat.take_alarms().into_iter().map(|alarm| (alarm, what.clone())));
    }
    let error = Error::new(ErrorKind::Broken, "actor.start", what);
    match cause.and_then(|cause| (cause as &dyn Any).downcast_ref::<Error>()) {
        Some(cause) => error.caused_by(cause.clone()),
        None => error,
    }
}

/// What an error of the user's says. Its text is the user's code.
fn text_of_error(error: &impl Display) -> String {
    let text = catch_unwind(AssertUnwindSafe(|| error.to_string()));
    text.unwrap_or_else(|_| "an error whose text cannot be told".to_owned())
}

/// The error for everybody who waited for an object when it broke.
fn reset(cause: &Error) -> Error {
    let what = format!("the object was reset while the call waited: {cause}");
    Error::new(ErrorKind::Broken, "actor.reset", what).caused_by(cause.clone())
}

/// Whether an object broke for want of the store, and by no fault of its handler.
fn is_of_store(broken: &Error) -> bool {
    matches!(broken.code(), "object.commit" | "gate.broken" | "object.closed")
        || broken.kind() != ErrorKind::Broken
}

fn panicked(panic: &str) -> Error {
    let what = format!("the object was reset while the call waited: a handler panicked: {panic}");
    Error::new(ErrorKind::Broken, "actor.panicked", what)
}

/// An active object.
struct Resident<'s, A: Actor> {
    seat: &'s Arc<Seat<A>>,
    context: &'s Context<A>,
    actor: A,
}

impl<A: Actor> Resident<'_, A> {
    /// Handles events until the object is to leave. An error when it broke and others waited.
    async fn work(&mut self, unrecorded: &mut Unrecorded) -> Result<()> {
        let context = self.context;
        let storage = &context.storage;
        let mut events = 0;
        let mut behind = Behind::Nothing;
        loop {
            let next = self.seat.next(storage, behind).await;
            behind = Behind::Nothing;
            match next {
                Next::Message(answer, then) => {
                    behind = then;
                    if let Some(handling) = self.begin(answer, behind)? {
                        let (handled, answer);
                        (handled, answer, behind) = handling.await;
                        end(context, handled, answer)?;
                    }
                }
                Next::Alarm(delivery) => Box::pin(self.ring(delivery, unrecorded)).await?,
                Next::Over { was_idle: true } | Next::Leave => return Ok(()),
                Next::Over { was_idle: false } => {
                    // Taken away from outside it is not broken: those who wait meet the next stay.
                    return storage.broken().map_or(Ok(()), |cause| Err(reset(&cause)));
                }
            }
            events += 1;
            // With its waker in the mailbox it will wait now, and nowhere else before.
            if events % EVENTS_AT_ONCE == 0 && behind != Behind::Waker {
                give_way().await;
            }
        }
    }

    /// Begins to handle a message: gives the future of that, with nothing or more `behind` it. None
    /// where it is handled beside the others.
    ///
    /// No future: whatever one takes is copied into it, and an active object is to be small. So
    /// what a handler needs lies elsewhere while it runs, in memory that this thread has just used
    /// for another object.
    fn begin(
        &mut self,
        answer: Answer<A>,
        behind: Behind,
    ) -> Result<Option<Elsewhere<impl Future<Output = Answered<A>> + Send + use<'_, A>>>> {
        let message = answer.take_message();
        let (seat, context, actor) = (self.seat, self.context, &mut self.actor);
        let chosen = catch_unwind(AssertUnwindSafe(|| actor.interleaved(context, message)));
        match chosen {
            Ok(Event::Alone(message)) => {
                let handling = context.storage.turns(lazy(|| actor.handle(context, message)));
                let (answer, future) = (Some(answer), caught(handling));
                Ok(Some(Box::pin(Handling { seat, behind, answer, future })))
            }
            Ok(Event::Beside(event)) => {
                run_beside(context, event, answer);
                Ok(None)
            }
            Err(panic) => end(context, Err(text_of(&*panic)), answer).map(|()| None),
        }
    }

    /// Has the object handle an alarm.
    async fn ring(&mut self, delivery: Box<Delivery>, unrecorded: &mut Unrecorded) -> Result<()> {
        let (context, actor) = (self.context, &mut self.actor);
        let (storage, fired) = (&context.storage, &delivery.fired);
        let handling = storage.run(async {
            let scope = storage.alarm_scope(fired);
            let handled = actor.alarm(context, fired).await;
            drop(scope);
            let failed = handled.err().as_ref().map(failure_of::<A>);
            if planted(Mistake::DoneApart) {
                give_way().await;
            }
            // In the same poll as the handler's end, so in its last turn.
            (settle(storage, &delivery, failed.as_ref()), failed)
        });
        match caught(handling).await {
            Ok(Ok((settled, failed))) => {
                let settled = match settled {
                    // The handler's last turn has no room for it.
                    Err(error) if error.kind() == ErrorKind::Invalid => {
                        let again = async { settle(storage, &delivery, failed.as_ref()) };
                        storage.run(again).await.map_err(|broken| reset(&broken))?
                    }
                    settled => settled,
                };
                match (settled, failed) {
                    (Ok(Some(Outcome::Abandoned)), Some((_, why))) => {
                        self.tell_abandoned(&delivery, &why).await
                    }
                    // Where the storage refused to say so, the alarm goes back to the store.
                    _ => Ok(()),
                }
            }
            Ok(Err(broken)) => {
                if !is_of_store(&broken) {
                    unrecorded.push((delivery, broken.to_string()));
                }
                Err(reset(&broken))
            }
            Err(panic) => {
                storage.abort(&panic);
                unrecorded.push((delivery, panic.clone()));
                Err(panicked(&panic))
            }
        }
    }

    /// Tells the object that an alarm is not tried again.
    async fn tell_abandoned(&mut self, delivery: &Delivery, why: &str) -> Result<()> {
        let (context, actor) = (self.context, &mut self.actor);
        let telling = context.storage.run(lazy(|| actor.abandoned(context, &delivery.fired, why)));
        match caught(telling).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(broken)) => Err(reset(&broken)),
            Err(panic) => {
                context.storage.abort(&panic);
                Err(panicked(&panic))
            }
        }
    }
}

/// Answers. An error when the object broke.
fn end<A: Actor>(context: &Context<A>, handled: Handled<A>, answer: Answer<A>) -> Result<()> {
    let storage = &context.storage;
    let error = match handled {
        Ok(Ok((outcome, cover))) => {
            answer.settle(outcome, cover, storage);
            return Ok(());
        }
        Ok(Err(broken)) => reset(&broken),
        Err(panic) => {
            storage.abort(&panic);
            panicked(&panic)
        }
    };
    answer.fail(&error);
    Err(error)
}

/// Runs an event beside the others, and answers for it.
fn run_beside<A: Actor>(context: &Context<A>, event: super::Beside<A>, answer: Answer<A>) {
    let storage = context.storage.clone();
    context.seat.run_beside(async move {
        match caught(storage.turns(event)).await {
            Ok(Ok((outcome, cover))) => answer.settle(outcome, cover, &storage),
            Ok(Err(broken)) => answer.fail(&reset(&broken)),
            Err(panic) => {
                answer.fail(&panicked(&panic));
                storage.abort(&panic);
            }
        }
    });
}

pin_project! {
    /// The handling of a message. If it takes more than a poll, the resident is busy meanwhile: a
    /// waker that it has left in the mailbox is taken out.
    struct Handling<'s, A: Actor, F> {
        seat: &'s Seat<A>,
        behind: Behind,
        answer: Option<Answer<A>>,
        #[pin]
        future: F,
    }
}

impl<A: Actor, F: Future<Output = Handled<A>>> Future for Handling<'_, A, F> {
    type Output = Answered<A>;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(handled) = this.future.poll(context) else {
            if std::mem::replace(this.behind, Behind::Nothing) == Behind::Waker {
                this.seat.note_busy();
            }
            return Poll::Pending;
        };
        let answer = this.answer.take().expect("not polled again when it is over");
        Poll::Ready((handled, answer, *this.behind))
    }
}

pin_project! {
    /// A future that is made when it is polled first: where what makes it does something already,
    /// that belongs to its first turn.
    #[project = LazyState]
    enum Lazy<B, F> {
        Waits { begin: Option<B> },
        Runs { #[pin] future: F },
    }
}

/// The future that `begin` will make.
fn lazy<B: FnOnce() -> F, F: Future>(begin: B) -> Lazy<B, F> {
    Lazy::Waits { begin: Some(begin) }
}

impl<B: FnOnce() -> F, F: Future> Future for Lazy<B, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<F::Output> {
        loop {
            let begin = match self.as_mut().project() {
                LazyState::Runs { future } => return future.poll(context),
                LazyState::Waits { begin } => begin.take().expect("made once"),
            };
            self.set(Lazy::Runs { future: begin() });
        }
    }
}

/// Polls a future; a panic in it is its result.
pub(super) fn caught<F: Future>(future: F) -> Caught<F> {
    Caught { future }
}

pin_project! {
    /// The future of [`caught`].
    pub(super) struct Caught<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = std::result::Result<F::Output, String>;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(text_of(&*panic))),
        }
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
        .to_owned()
}

/// Goes to the back of the executor's queue once.
async fn give_way() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

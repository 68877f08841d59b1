//! The life of an active object: activation, its events one after the other, reset, leaving.
//!
//! Invariants:
//!   * The object is given back before the seat is vacated, so the next resident can open it.
//!   * Each event is polled through `Storage::run`, so each poll is one turn and no turn mixes two.
//!   * An alarm is completed in the last turn of its handler; one whose handler panicked is counted
//!     by the next activation, before anything else.
//!   * After a reset nobody who waited is left without an error that says so.

use super::alarms::Delivery;
use super::lifecycle::Living;
use super::reply::{self, Answer};
use super::seat::{Next, Seat};
use super::{Actor, Context, Event};
use crate::actor::storage::Storage;
use crate::error::{Error, ErrorKind, Result};
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

/// What came of a handler: a panic, a broken object, or its outcome.
type Handled<A> = std::result::Result<Result<reply::Outcome<A>>, String>;

/// Alarms whose failure no commit holds yet, and why they failed.
type Unrecorded = Vec<(Box<Delivery>, String)>;

/// Stays for as long as there is something to do, through resets and new activations.
pub(super) async fn reside<A: Actor>(mut residence: Residence<A>) {
    let mut unrecorded = Unrecorded::new();
    while !residence.is_over {
        if let Err(error) = stay(&residence.seat, &mut unrecorded).await {
            residence.seat.fail_all(&error);
        }
        residence.is_over = unrecorded.is_empty() && residence.seat.vacate();
    }
}

/// Gives the object back when it is dropped, whoever still has a clone of its storage.
struct Opened(Storage);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One activation, from durable state until the object leaves or breaks. An error is for everybody
/// who waits.
async fn stay<A: Actor>(seat: &Arc<Seat<A>>, unrecorded: &mut Unrecorded) -> Result<()> {
    let failed = std::mem::take(unrecorded);
    let is_recording = !failed.is_empty();
    // What is rare has its future elsewhere.
    let object = Box::pin(open(seat)).await?;
    let opened = Opened(Storage::with_options(object, seat.roster.shared.settings.storage.clone()));
    let storage = &opened.0;
    let mut abandoned = Vec::new();
    for (delivery, why) in failed {
        if let Outcome::Abandoned = record(storage, &delivery, &why).await? {
            abandoned.push((delivery, why));
        }
    }
    if is_recording && abandoned.is_empty() && !seat.has_work() {
        return Ok(());
    }
    seat.roster.note_stay(seat);
    let context = Context { storage: storage.clone(), seat: Arc::clone(seat) };
    let actor = match caught(storage.run((seat.roster.start)(context.clone()))).await {
        Ok(Ok(Ok(actor))) => actor,
        Ok(Ok(Err(error))) => return Err(not_started(seat, &error, unrecorded)),
        Ok(Err(broken)) => return Err(reset(&broken)),
        Err(panic) => return Err(not_started(seat, &panic, unrecorded)),
    };
    let mut resident = Resident { seat, context: &context, actor };
    for (delivery, why) in abandoned {
        resident.tell_abandoned(&delivery, &why).await?;
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

/// Commits that an alarm failed.
async fn record(storage: &Storage, delivery: &Delivery, why: &str) -> Result<Outcome> {
    storage.run(async { storage.fail_alarm(&delivery.fired, Failure::Counted, why) }).await?
}

/// The error for everybody who waits for an object that cannot start. Its alarms have failed too.
fn not_started<A: Actor>(
    seat: &Seat<A>,
    cause: &impl Display,
    unrecorded: &mut Unrecorded,
) -> Error {
    let what = format!("the object could not start: {cause}");
    unrecorded.extend(seat.take_alarms().into_iter().map(|alarm| (alarm, what.clone())));
    Error::new(ErrorKind::Broken, "actor.start", what)
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
        let mut may_wait = true;
        loop {
            let next = self.seat.next(|| storage.is_over(), may_wait).await;
            may_wait = true;
            match next {
                Next::Message { answer, is_last } => {
                    may_wait = is_last;
                    if let Some((handling, answer)) = self.begin(answer)? {
                        let handled = handling.await;
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
            if events % EVENTS_AT_ONCE == 0 {
                give_way().await;
            }
        }
    }

    /// Begins to handle a message: gives the future of that, and who is to be answered. None where
    /// it is handled beside the others.
    ///
    /// No future: whatever one takes is copied into it, and an active object is to be small.
    fn begin(
        &mut self,
        answer: Answer<A>,
    ) -> Result<Option<(impl Future<Output = Handled<A>> + Send + use<'_, A>, Answer<A>)>> {
        let message = answer.take_message();
        let (context, actor) = (self.context, &mut self.actor);
        let chosen = catch_unwind(AssertUnwindSafe(|| actor.interleaved(context, message)));
        match chosen {
            Ok(Event::Alone(message)) => {
                let handling = context.storage.run(self.actor.handle(context, message));
                Ok(Some((caught(handling), answer)))
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
            // In the same poll as the handler's end, so in its last turn.
            match handled {
                Ok(()) => storage.complete_alarm(fired).map(|_| None),
                Err(error) => {
                    let is_counted = A::is_counted(&error);
                    let failure = if is_counted { Failure::Counted } else { Failure::Uncounted };
                    let why = error.to_string();
                    storage.fail_alarm(fired, failure, &why).map(|outcome| Some((outcome, why)))
                }
            }
        });
        match caught(handling).await {
            Ok(Ok(Ok(Some((Outcome::Abandoned, why))))) => {
                self.tell_abandoned(&delivery, &why).await
            }
            // Where the storage refused to say so, the alarm goes back to the store.
            Ok(Ok(_)) => Ok(()),
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
        let telling = context.storage.run(actor.abandoned(context, &delivery.fired, why));
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
        Ok(Ok(outcome)) => {
            answer.settle(outcome, Some(storage.gate()));
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
        match caught(storage.run(event)).await {
            Ok(Ok(outcome)) => answer.settle(outcome, Some(storage.gate())),
            Ok(Err(broken)) => answer.fail(&reset(&broken)),
            Err(panic) => {
                answer.fail(&panicked(&panic));
                storage.abort(&panic);
            }
        }
    });
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

//! What the code of a simulated actor does: random calls, each told to the model.
//!
//! Invariants:
//!   * Code of one event runs only while the model says that it may.
//!   * A broken object answers nothing but that it is broken.

use super::actors_model::{COUNT, Model, Recorder};
use super::actors_world::{Message, Shared};
use super::model::Change;
use super::simulate_checks::{Fault, Readable, Span, check_all, check_some};
use dostore::actor::Storage;
use dostore::error::{Error, ErrorKind, Result};
use dostore::store::list::{Entries, ListOptions};
use dostore::store::value::Value;
use std::cell::{Cell, RefMut};
use std::future::Future;
use std::ops::Bound;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// Calls and sections inside each other.
const DEPTH_MAX: usize = 4;

/// Why the code of an actor ends before its end.
#[derive(Debug)]
pub enum Ended {
    /// The store refused something; it was judged already.
    Store(Error),
    /// It was meant to fail.
    Planned,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

pub type Told<T = ()> = std::result::Result<T, Ended>;

/// What a planned panic carries.
pub struct PlannedPanic;

/// A section as something that events belong to.
#[derive(Debug)]
pub struct Place {
    number: u64,
    parent: Option<Rc<Place>>,
}

impl Readable for Storage {
    fn value(&self, key: &[u8]) -> Result<Option<Value>> {
        self.get(key)
    }

    fn entries(&self, options: ListOptions) -> Result<Entries> {
        self.list(options)
    }

    fn span(&self, span: &Span) -> Result<Entries> {
        self.range::<Vec<u8>>(span.clone())
    }
}

/// The code of one actor, as one event of it sees itself.
#[derive(Clone)]
pub struct Actor {
    pub shared: Rc<Shared>,
    pub storage: Storage,
    pub recorder: Arc<Recorder>,
    pub index: usize,
    pub activation: u64,
    /// The section to which this code belongs.
    pub place: Option<Rc<Place>>,
}

/// Tells the model when a section is dropped before its end.
struct Guard {
    actor: Actor,
    number: u64,
    is_over: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_over {
            // Inner ones are told before those around them: the driver puts them in order.
            let Actor { shared, index, activation, .. } = &self.actor;
            shared.dropped.borrow_mut().push((*index, *activation, self.number));
        }
    }
}

impl Actor {
    pub fn model(&self) -> RefMut<'_, Model> {
        self.shared.models[self.index].borrow_mut()
    }

    pub fn is_current(&self) -> bool {
        let model = self.model();
        model.activation == self.activation && !model.is_broken
    }

    fn percent(&self, percent: u64) -> bool {
        self.shared.chance.borrow_mut().percent(percent)
    }

    fn below(&self, end: u64) -> u64 {
        self.shared.chance.borrow_mut().below(end)
    }

    /// Says what follows from an error, which must have a cause.
    pub fn judge(&self, what: &str, error: Error) -> Ended {
        if self.is_current() {
            self.shared.judge(what, &error);
            if error.kind() == ErrorKind::Broken {
                let logged = self.recorder.take();
                let mut model = self.model();
                // What was logged before the failure was seen may be there or not.
                if model.is_in_transaction() && !logged.is_empty() {
                    model.commit_transaction(&logged);
                } else if !logged.is_empty() {
                    model.seal(&logged);
                }
                model.break_object();
                self.shared.count("broken by the disk");
            }
        } else {
            let kind = error.kind();
            let is_right = kind == ErrorKind::Broken || self.shared.may_fail();
            assert!(is_right, "actor {}: {what} of a broken object: {error:?}", self.index);
        }
        Ended::Store(error)
    }

    /// This code may run now, for nobody keeps it out.
    fn check_place(&self) {
        if !self.is_current() {
            return;
        }
        let model = self.model();
        let mut place = self.place.as_ref();
        while place.is_some_and(|place| !model.runs(place.number)) {
            place = place.and_then(|place| place.parent.as_ref());
        }
        let own = place.map(|place| place.number);
        let index = self.index;
        assert_eq!(own, model.innermost(), "actor {index}: runs beside a critical section");
    }

    /// A call whose outcome is judged.
    fn call<T>(&self, what: &str, done: Result<T>) -> Told<T> {
        match done {
            Ok(value) if self.is_current() => Ok(value),
            Ok(_) => panic!("actor {}: {what} of a broken object succeeds", self.index),
            Err(error) => Err(self.judge(what, error)),
        }
    }

    fn write<T>(&self, change: &Change, is_confirmed: bool, done: Result<T>) -> Told<T> {
        let value = self.call(&format!("{change:?}"), done)?;
        self.model().apply(change, is_confirmed);
        Ok(value)
    }

    fn key(&self) -> Vec<u8> {
        self.shared.key()
    }

    /// Reads, compared with the model.
    pub fn read(&self) -> Told {
        let map = self.model().now().clone();
        let mut chance = self.shared.chance.borrow().clone();
        let shared = Rc::clone(&self.shared);
        let read = if chance.percent(10) {
            check_all(&self.storage, (self.index, &map))
        } else {
            let key = |chance: &mut super::chance::Chance| super::actors_world::key(chance);
            check_some(&self.storage, (self.index, &map), &mut chance, &key)
        };
        *shared.chance.borrow_mut() = chance;
        match read {
            Ok(()) => self.call("reading", Ok(())),
            Err(Fault::Refused(error)) => Err(self.judge("reading", error)),
            Err(Fault::Wrong(wrong)) if self.is_current() => panic!("{wrong}"),
            Err(Fault::Wrong(_)) => panic!("a broken object answers"),
        }
    }

    pub fn put(&self) -> Told {
        let (key, bytes) = (self.key(), self.shared.bytes());
        let content = self.model().new_content(bytes);
        let value = content.render(self.index, &key);
        let is_confirmed = self.percent(60);
        let done = if is_confirmed {
            self.storage.put(&key, &value)
        } else {
            self.storage.put_unconfirmed(&key, &value)
        };
        self.write(&Change::Put(key, content), is_confirmed, done)
    }

    /// One more, where a message may tell how many there are.
    fn put_count(&self) -> Told {
        let mut content = self.model().new_content(16);
        content.version = self.model().count() + 1;
        let value = content.render(self.index, COUNT);
        let done = self.storage.put(COUNT, value);
        self.write(&Change::Put(COUNT.to_vec(), content), true, done)
    }

    fn put_many(&self) -> Told {
        let mut entries = Vec::new();
        let mut changes = Vec::new();
        for _ in 0..self.below(5) {
            let (key, bytes) = (self.key(), self.shared.bytes());
            let content = self.model().new_content(bytes);
            entries.push((key.clone(), content.render(self.index, &key)));
            changes.push(Change::Put(key, content));
        }
        let done = self.storage.put_many(entries);
        self.call("putting several", done)?;
        for change in changes {
            self.model().apply(&change, true);
        }
        Ok(())
    }

    fn delete(&self) -> Told {
        let key = self.key();
        let was_there = self.model().now().contains_key(&key);
        let is_confirmed = self.percent(60);
        let done = if is_confirmed {
            self.storage.delete(&key)
        } else {
            self.storage.delete_unconfirmed(&key)
        };
        let deleted = self.call("deleting", done)?;
        assert_eq!(deleted, was_there, "actor {}: deleting {key:?}", self.index);
        if deleted {
            self.model().apply(&Change::Delete(key), is_confirmed);
        }
        Ok(())
    }

    fn delete_range(&self) -> Told {
        let (one, other) = (self.key(), self.key());
        let (from, to) = if one < other { (one, other) } else { (other, one) };
        if from == to {
            return Ok(());
        }
        let span = (Bound::Included(from), Bound::Excluded(to));
        let is_confirmed = self.percent(60);
        let done = if is_confirmed {
            self.storage.delete_range::<Vec<u8>>(span.clone())
        } else {
            self.storage.delete_range_unconfirmed::<Vec<u8>>(span.clone())
        };
        self.write(&Change::DeleteRange(span.0, span.1), is_confirmed, done)
    }

    /// Everything but the count.
    fn delete_all(&self) -> Told {
        let count = self.model().count();
        let done = self.storage.delete_all();
        self.write(&Change::DeleteAll, true, done)?;
        let mut content = self.model().new_content(16);
        content.version = count + 1;
        let done = self.storage.put(COUNT, content.render(self.index, COUNT));
        self.write(&Change::Put(COUNT.to_vec(), content), true, done)
    }

    /// Something leaves the actor, and tells what it knows.
    pub fn send(&self, is_inside: bool) -> Told<Rc<Message>> {
        let known = self.storage.get(COUNT);
        let known = self.call("reading what to send", known)?;
        let count = known.map_or(0, |value| {
            u64::from_le_bytes(value[..8].try_into().expect("a count is longer"))
        });
        let everything = self.percent(30);
        let gate = if everything { self.storage.sync() } else { self.storage.gate() };
        let mut model = self.model();
        let wanted = if everything { model.last().lsn } else { model.last_confirmed() };
        let fate = if is_inside { model.fate_for_gate(everything) } else { None };
        let at_most = model.last().lsn;
        let index = self.index;
        let count = (!is_inside || !model.is_in_transaction()).then_some(count);
        drop(model);
        let is_told = Cell::new(false);
        let message = Message { gate, index, wanted, at_most, fate, count, everything, is_told };
        let message = Rc::new(message);
        self.shared.sent.borrow_mut().push(Rc::clone(&message));
        Ok(message)
    }

    /// After this nothing works.
    pub fn abort(&self) -> Ended {
        assert!(self.recorder.take().is_empty(), "logged before the turn ended");
        let is_close = self.percent(20);
        if is_close {
            self.storage.close();
        } else {
            self.storage.abort("planned");
        }
        if self.is_current() {
            self.model().break_object();
            self.shared.count("aborts");
        }
        self.check_broken();
        Ended::Planned
    }

    /// Every call of a broken object says so.
    pub fn check_broken(&self) {
        let key = self.key();
        let said = match self.below(6) {
            0 => self.storage.get(&key).map(drop),
            1 => self.storage.put(&key, "late"),
            2 => self.storage.delete(&key).map(drop),
            3 => self.storage.list(ListOptions::new()).map(drop),
            4 => self.storage.enter(|| panic!("a broken object runs code")),
            _ => self.storage.gate().state().expect("it is known"),
        };
        let kind = said.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Broken), "actor {} is broken", self.index);
        assert!(self.storage.broken().is_some());
    }

    fn panic(&self) -> ! {
        assert!(self.recorder.take().is_empty(), "logged before the turn ended");
        if self.is_current() {
            self.model().break_object();
        }
        self.shared.count("panics");
        resume_unwind(Box::new(PlannedPanic))
    }

    /// One call that does not wait.
    pub fn act_now(&self, depth: usize) -> Told {
        self.check_place();
        match self.below(1000) {
            0..=249 => self.read(),
            250..=449 => self.put(),
            450..=599 => self.put_count(),
            600..=639 => self.put_many(),
            640..=719 => self.delete(),
            720..=749 => self.delete_range(),
            750..=759 => self.delete_all(),
            760..=879 => self.send(true).map(drop),
            880..=929 if depth < DEPTH_MAX => self.transaction(depth),
            930..=979 if depth < DEPTH_MAX => self.enter(depth),
            980..=983 => Err(self.abort()),
            984..=987 => self.panic(),
            988..=991 => Err(Ended::Planned),
            _ => Ok(()),
        }
    }

    /// A few calls that do not wait.
    fn act_some(&self, depth: usize) -> Told {
        for _ in 0..self.below(4) {
            self.act_now(depth + 1)?;
        }
        Ok(())
    }

    pub fn enter(&self, depth: usize) -> Told {
        let done = self.storage.enter(|| self.act_some(depth));
        match done {
            Ok(done) => done,
            Err(error) => Err(self.judge("a callback", error)),
        }
    }

    pub fn transaction(&self, depth: usize) -> Told {
        let has_begun = Cell::new(false);
        let done = self.storage.transaction(|_| {
            has_begun.set(true);
            self.model().begin_transaction(None, &self.recorder.take());
            self.act_some(depth)?;
            if self.percent(35) { Err(Ended::Planned) } else { Ok(()) }
        });
        self.shared.count("transactions");
        self.after_transaction(has_begun.get(), done)
    }

    /// What a transaction that is over means to the model. What was planned is no error.
    fn after_transaction(&self, has_begun: bool, done: Told) -> Told {
        if !has_begun || !self.is_current() {
            return match done {
                Err(Ended::Store(error)) => Err(self.judge("a transaction", error)),
                Err(Ended::Planned) => Err(Ended::Planned),
                Ok(()) => panic!("actor {}: a transaction without a beginning", self.index),
            };
        }
        match done {
            Ok(()) => {
                self.model().commit_transaction(&self.recorder.take());
                Ok(())
            }
            Err(ended) => {
                self.shared.count("rolled back");
                if let Ended::Store(error) = ended {
                    let judged = self.judge("a transaction", error);
                    if self.is_current() {
                        self.model().roll_back();
                    }
                    return Err(judged);
                }
                assert!(self.recorder.take().is_empty(), "rolled back, and logged");
                self.model().roll_back();
                Ok(())
            }
        }
    }
}

/// The code of an actor between waits.
type Acting = Pin<Box<dyn Future<Output = Told>>>;

impl Actor {
    /// Calls, some of which wait.
    pub fn act(self, depth: usize) -> Acting {
        Box::pin(async move {
            for _ in 0..self.below(8) {
                self.check_place();
                match self.below(100) {
                    0..=69 => self.act_now(depth)?,
                    70..=73 => std::future::ready(()).await,
                    74..=84 => pause().await,
                    85..=87 => self.wait().await?,
                    88..=90 if depth < DEPTH_MAX => self.run_inside(depth).await?,
                    91..=93 if depth < DEPTH_MAX => self.section(depth, true).await?,
                    94..=95 if depth < DEPTH_MAX => self.section(depth, false).await?,
                    96 if depth < DEPTH_MAX => self.stand_still().await?,
                    97..=98 => self.spawn(),
                    _ => {}
                }
            }
            Ok(())
        })
    }

    async fn run_inside(&self, depth: usize) -> Told {
        let done = self.storage.run(self.clone().act(depth + 1)).await;
        match done {
            Ok(done) => done,
            Err(error) => Err(self.judge("an event inside", error)),
        }
    }

    /// An event of its own, which belongs where this code does.
    fn spawn(&self) {
        let event = Box::pin(event(self.clone(), self.storage.run(self.clone().act(1))));
        self.shared.spawned.borrow_mut().push((self.index, event));
    }

    /// Waits until something that was sent has left.
    async fn wait(&self) -> Told {
        if !self.is_current() || self.model().is_in_transaction() {
            // The turn ends with the transaction, and not before.
            return Ok(());
        }
        let message = self.send(true)?;
        let opened = message.gate.clone().await;
        self.shared.arrived(&message, opened);
        Ok(())
    }

    pub async fn section(&self, depth: usize, is_transaction: bool) -> Told {
        let number = self.shared.next_number();
        let parent = self.place.clone();
        let place = Some(Rc::new(Place { number, parent }));
        let inner = Self { place, ..self.clone() };
        let has_begun = Rc::new(Cell::new(false));
        let begun = Rc::clone(&has_begun);
        let mut guard = Guard { actor: self.clone(), number, is_over: false };
        let body = move || {
            begun.set(true);
            let logged = if is_transaction { inner.recorder.take() } else { Vec::new() };
            let mut model = inner.model();
            model.begin_section(number, is_transaction);
            if is_transaction {
                model.begin_transaction(Some(number), &logged);
            }
            drop(model);
            inner.body(depth, is_transaction)
        };
        let done = if is_transaction {
            self.storage.transaction_async(|_| body()).await
        } else {
            self.storage.block_concurrency_while(body).await
        };
        guard.is_over = true;
        self.shared.count(if is_transaction { "async transactions" } else { "sections" });
        self.after_section(number, (has_begun.get(), is_transaction), done)
    }

    async fn body(self, depth: usize, is_transaction: bool) -> Told {
        self.clone().act(depth + 1).await?;
        let failing = if is_transaction { 30 } else { 4 };
        if self.percent(failing) { Err(Ended::Planned) } else { Ok(()) }
    }

    fn after_section(
        &self,
        number: u64,
        (has_begun, is_transaction): (bool, bool),
        done: Told,
    ) -> Told {
        if !self.is_current() {
            assert!(done.is_err(), "actor {}: a section of a broken object ends well", self.index);
            return self.after_transaction(false, done);
        }
        if !has_begun || !self.model().runs(number) {
            // Refused, or ended with one around it.
            return match done {
                Err(Ended::Store(error)) if error.code() == "section.ended" => {
                    assert!(has_begun);
                    Err(Ended::Planned)
                }
                other => self.after_transaction(false, other),
            };
        }
        if is_transaction {
            self.model().end_section(number);
            return self.after_transaction(true, done);
        }
        let Err(ended) = done else {
            self.model().end_section(number);
            return Ok(());
        };
        // What it wrote before stays; what comes after is refused.
        let logged = self.recorder.take();
        let mut model = self.model();
        if !model.is_in_transaction() && (!logged.is_empty() || !self.shared.may_fail()) {
            model.seal(&logged);
        }
        model.break_object();
        drop(model);
        self.shared.count("sections failed");
        self.check_broken();
        Err(ended)
    }

    /// A section waits for an event that has to wait for it.
    async fn stand_still(&self) -> Told {
        let outside = self.storage.run(std::future::ready(()));
        let told = Rc::new(Cell::new(None));
        let tells = Rc::clone(&told);
        let done: Told = self
            .storage
            .block_concurrency_while(|| async move {
                tells.set(Some(outside.await.map_err(|error| error.code())));
                Ok(())
            })
            .await;
        match done {
            Err(Ended::Store(error)) => return Err(self.judge("a section", error)),
            Err(Ended::Planned) => panic!("nothing is planned there"),
            Ok(()) => assert_eq!(told.get(), Some(Err("gate.deadlock"))),
        }
        self.shared.count("standstills");
        self.call("a section", Ok(()))
    }
}

/// An event as the driver polls it: what the storage says in the end is judged.
pub async fn event(actor: Actor, run: impl Future<Output = Result<Told>>) {
    if let Err(error) = run.await {
        let _ = actor.judge("an event", error);
    }
}

/// Waits for one poll.
async fn pause() {
    let mut is_second = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

//! The place of one object in the host: its mailbox, and whether it is active.
//!
//! Invariants:
//!   * At most one resident is there for a seat, and a seat at most once for an object: between
//!     them they give one instance for each object.
//!   * The resident leaves only under the mailbox's lock and only when the mailbox is empty, after
//!     it gave the object back; so no message is left with nobody to handle it.
//!   * A message waits outside only while the mailbox is full. It belongs to its sender, and goes
//!     when that one loses patience.
//!   * No waker is called or dropped under the lock: the last one of a task takes the task along.

use super::Actor;
use super::alarms::Delivery;
use super::class::Roster;
use super::lifecycle::Living;
use super::reply::{Answer, Reply, pair};
use super::resident::{self, Residence};
use crate::actor::queue::Queue;
use crate::actor::storage::Storage;
use crate::error::Error;
use crate::ids::ObjectId;
use crate::wakes::wake;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

/// One object's place. In the order in which each message touches it, as is the mailbox.
#[repr(C)]
pub(super) struct Seat<A: Actor> {
    pub roster: Arc<Roster<A>>,
    /// Events that run beside the messages.
    beside: AtomicUsize,
    mailbox: Mutex<Mailbox<A>>,
    pub id: ObjectId,
    pub name: OnceLock<Box<str>>,
}

#[repr(C)]
struct Mailbox<A: Actor> {
    /// Said only where nothing waits, or one message: then nobody looks behind the first.
    is_plain: bool,
    /// The resident is to leave when there is nothing to do.
    is_leaving: bool,
    /// A commit that a reply stood on has failed: the resident is to look for that.
    has_failed: bool,
    /// On the list of those who may fall idle.
    is_listed: bool,
    resident: Presence,
    /// The host's tick when the resident was last busy.
    used: u64,
    messages: Queue<Answer<A>>,
    /// What found it full, by ticket: in the order in which it came.
    outside: BTreeMap<u64, Answer<A>>,
    next_ticket: u64,
    alarms: VecDeque<Box<Delivery>>,
}

/// Whether there is a resident, and what it does.
enum Presence {
    Absent,
    Busy,
    /// It waits for what is next, or will at the end of the poll that it is in.
    Waiting(Waker),
}

/// What a resident does next.
pub(super) enum Next<A: Actor> {
    /// A message, and whether more stood behind it.
    Message(Answer<A>, Behind),
    Alarm(Box<Delivery>),
    /// The object broke, or was taken away; `was_idle` when it did so while nothing was to do.
    Over {
        was_idle: bool,
    },
    Leave,
}

/// What stood behind a message that the resident has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// More, perhaps.
    More,
    /// Nothing.
    Nothing,
    /// Nothing, and the resident's waker is in the mailbox: who sends more calls it, though the
    /// resident is not waiting yet.
    Waker,
}

impl<A: Actor> Seat<A> {
    pub fn new(roster: Arc<Roster<A>>, id: ObjectId) -> Self {
        Self {
            roster,
            id,
            name: OnceLock::new(),
            mailbox: Mutex::new(Mailbox {
                messages: Queue::default(),
                outside: BTreeMap::new(),
                next_ticket: 0,
                alarms: VecDeque::new(),
                resident: Presence::Absent,
                used: 0,
                is_plain: true,
                is_leaving: false,
                has_failed: false,
                is_listed: false,
            }),
            beside: AtomicUsize::new(0),
        }
    }

    /// Puts a message into the mailbox, or behind it where it is full and `may_wait`; none, and the
    /// message is gone, where it may not.
    ///
    /// Whether the host is open is asked under the mailbox's lock, and a resident that is sent for
    /// is counted under it: a host that closes takes each of these locks after it said so, and then
    /// has counted everybody whom its end must wait for.
    pub fn send(self: &Arc<Self>, message: A::Message, may_wait: bool) -> Option<Reply<A>> {
        let (answer, mut reply) = pair(self.roster.post(), message);
        let mut mailbox = self.mailbox.lock();
        if let Err(error) = self.roster.check_open() {
            drop(mailbox);
            answer.fail(&error);
            return Some(reply);
        }
        if mailbox.is_plain && mailbox.messages.is_empty() {
            mailbox.messages.push_back(answer);
        } else if mailbox.messages.len() < self.roster.mailbox_limit() {
            mailbox.is_plain = false;
            mailbox.messages.push_back(answer);
        } else if may_wait {
            reply.set_waiting(self, mailbox.put_outside(answer));
        } else {
            // What is the user's goes when no lock is held.
            drop(mailbox);
            return None;
        }
        let call = mailbox.resident.rouse(self);
        drop(mailbox);
        self.place(call);
        Some(reply)
    }

    /// Whether a resident is there, or being sent for.
    pub fn is_active(&self) -> bool {
        !matches!(self.mailbox.lock().resident, Presence::Absent)
    }

    /// Gives the object an alarm to handle.
    pub fn deliver(self: &Arc<Self>, delivery: Box<Delivery>) {
        let mut mailbox = self.mailbox.lock();
        mailbox.is_plain = false;
        mailbox.alarms.push_back(delivery);
        let call = mailbox.resident.rouse(self);
        drop(mailbox);
        self.place(call);
    }

    fn place(&self, call: Call<A>) {
        match call {
            Call::Nobody => {}
            Call::Waiting(waker) => wake(Some(waker)),
            Call::New(residence) => self.roster.spawn(Box::pin(resident::reside(residence))),
        }
    }

    /// What the resident of this storage is to do next. After the last thing there was `behind` it.
    pub async fn next(&self, storage: &Storage, behind: Behind) -> Next<A> {
        let mut looks = 0_u32;
        std::future::poll_fn(|context| {
            let was_idle = looks > 0;
            looks += 1;
            if was_idle {
                std::hint::black_box(self.touch() ^ storage.touch());
            } else if behind == Behind::Waker {
                // Whatever came meanwhile has called it, and this is polled again.
                return Poll::Pending;
            }
            // No waker is made under the lock: either before it, or in a second look.
            let mut waker =
                (was_idle || behind == Behind::Nothing).then(|| context.waker().clone());
            loop {
                let has_waker = waker.is_some();
                match self.look(&mut waker, storage, was_idle) {
                    Some(next) => return Poll::Ready(next),
                    None if has_waker => return Poll::Pending,
                    None => waker = Some(context.waker().clone()),
                }
            }
        })
        .await
    }

    /// Looks at what a message goes through here, so that it is near; what it says means nothing.
    fn touch(&self) -> usize {
        usize::from(self.mailbox.is_locked())
    }

    /// One look at the mailbox. Where there is nothing, or one message and nothing behind it, it
    /// keeps the waker, if there is one.
    fn look(
        &self,
        waker: &mut Option<Waker>,
        storage: &Storage,
        was_idle: bool,
    ) -> Option<Next<A>> {
        // Before the mailbox's lock: it may look at the object, which may be held for a while.
        if storage.is_over() {
            return Some(Next::Over { was_idle });
        }
        let mut mailbox = self.mailbox.lock();
        if std::mem::take(&mut mailbox.has_failed) {
            drop(mailbox);
            // Asked, the object notices.
            if storage.broken().is_some() {
                return Some(Next::Over { was_idle });
            }
            mailbox = self.mailbox.lock();
        }
        if !mailbox.is_plain
            && let Some(delivery) = mailbox.alarms.pop_front()
        {
            mailbox.note_use(self.roster.tick());
            return Some(Next::Alarm(delivery));
        }
        let beside = self.beside.load(Ordering::Acquire);
        if beside < self.roster.beside_limit()
            && let Some((answer, admitted)) = mailbox.take()
        {
            mailbox.note_use(self.roster.tick());
            let behind = if !mailbox.is_plain || !mailbox.messages.is_empty() {
                Behind::More
            } else if !self.roster.is_closing()
                && let Some(new) = waker.take()
            {
                *waker = mailbox.resident.wait(new);
                Behind::Waker
            } else {
                Behind::Nothing
            };
            drop(mailbox);
            wake(admitted);
            return Some(Next::Message(answer, behind));
        }
        // Events beside the messages need the object too.
        if beside == 0 && (mailbox.is_leaving || self.roster.is_closing()) {
            return Some(Next::Leave);
        }
        if let Some(new) = waker.take() {
            let before = mailbox.resident.wait(new);
            drop(mailbox);
            drop(before);
        }
        None
    }

    /// The resident, which had left its waker in the mailbox, is busy for longer than a poll.
    pub fn note_busy(&self) {
        let waker = self.mailbox.lock().resident.take_waker();
        drop(waker);
    }

    /// The resident leaves, having given the object back. False where there is more to do: then it
    /// stays.
    pub fn vacate(&self) -> bool {
        let mut mailbox = self.mailbox.lock();
        mailbox.is_leaving = false;
        if !mailbox.messages.is_empty() || !mailbox.alarms.is_empty() {
            return false;
        }
        let before = std::mem::replace(&mut mailbox.resident, Presence::Absent);
        drop(mailbox);
        drop(before);
        true
    }

    /// Whether a message or an alarm waits.
    pub fn has_work(&self) -> bool {
        let mailbox = self.mailbox.lock();
        !mailbox.messages.is_empty() || !mailbox.alarms.is_empty()
    }

    /// The alarms that wait, to be dealt with without the object.
    pub fn take_alarms(&self) -> VecDeque<Box<Delivery>> {
        std::mem::take(&mut self.mailbox.lock().alarms)
    }

    /// Everybody who waits gets this error; alarms go back to the store.
    pub fn fail_all(&self, error: &Error) {
        let (messages, outside, alarms) = {
            let mut mailbox = self.mailbox.lock();
            let mailbox = &mut *mailbox;
            (
                std::mem::take(&mut mailbox.messages),
                std::mem::take(&mut mailbox.outside),
                std::mem::take(&mut mailbox.alarms),
            )
        };
        drop(alarms);
        for answer in messages.into_iter().chain(outside.into_values()) {
            answer.fail(error);
        }
    }

    /// Whether the seat is to be put on the list of those who may fall idle: once in each stay.
    pub fn begin_stay(&self) -> bool {
        let mut mailbox = self.mailbox.lock();
        mailbox.used = self.roster.tick();
        !std::mem::replace(&mut mailbox.is_listed, true)
    }

    /// Asks the resident to leave if it has had nothing to do from `tick` on. None once it is
    /// gone; else from which tick on it is to be looked at again.
    pub fn ask_to_leave(&self, tick: u64) -> Option<u64> {
        let mut mailbox = self.mailbox.lock();
        let is_beside = self.beside.load(Ordering::Acquire) > 0;
        if is_beside || matches!(mailbox.resident, Presence::Busy) {
            mailbox.used = self.roster.tick();
        }
        if matches!(mailbox.resident, Presence::Absent) {
            mailbox.is_listed = false;
            return None;
        }
        if mailbox.used >= tick {
            return Some(mailbox.used);
        }
        drop(mailbox);
        self.send_away();
        // Something may come before the resident hears of it: it stays listed until it is gone.
        Some(self.roster.tick())
    }

    /// Asks the resident to leave as soon as it has nothing to do.
    pub fn send_away(&self) {
        let mut mailbox = self.mailbox.lock();
        mailbox.is_leaving = true;
        let waker = mailbox.resident.take_waker();
        drop(mailbox);
        wake(waker);
    }

    /// A commit that a reply stood on will never be safe: the object is to be reset.
    pub fn tell_failed(&self) {
        let mut mailbox = self.mailbox.lock();
        mailbox.has_failed = true;
        let waker = mailbox.resident.take_waker();
        drop(mailbox);
        wake(waker);
    }

    /// Whether the message with this ticket still waits outside the mailbox.
    pub fn waits_outside(&self, ticket: u64) -> bool {
        self.mailbox.lock().outside.contains_key(&ticket)
    }

    /// Takes a message back, if it still waits outside the mailbox.
    pub fn withdraw(&self, ticket: u64) {
        let mut mailbox = self.mailbox.lock();
        let answer = mailbox.outside.remove(&ticket);
        drop(mailbox);
        drop(answer);
    }

    /// An event that runs beside the messages: a task of its own, counted.
    pub fn run_beside(self: &Arc<Self>, event: impl Future<Output = ()> + Send + 'static) {
        self.beside.fetch_add(1, Ordering::AcqRel);
        let counted = Beside(Arc::clone(self), Living::new(&self.roster.shared));
        let event: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            event.await;
            drop(counted);
        });
        self.roster.spawn(event);
    }
}

/// Counts an event that runs beside the messages.
struct Beside<A: Actor>(
    Arc<Seat<A>>,
    #[expect(dead_code, reason = "counts while it lives")] Living,
);

impl<A: Actor> Drop for Beside<A> {
    fn drop(&mut self) {
        let (seat, roster) = (&self.0, &self.0.roster);
        let before = seat.beside.fetch_sub(1, Ordering::AcqRel);
        if before == 1 && roster.is_closing() {
            seat.send_away();
        } else if before == roster.beside_limit() {
            // A message may wait for there to be one less.
            let waker = seat.mailbox.lock().resident.take_waker();
            wake(waker);
        }
    }
}

impl<A: Actor> Mailbox<A> {
    /// The resident has something to do.
    fn note_use(&mut self, tick: u64) {
        self.used = tick;
        self.is_leaving = false;
    }

    /// The first message, and who waits to hear that another one has come in for it.
    fn take(&mut self) -> Option<(Answer<A>, Option<Waker>)> {
        if self.is_plain {
            return self.messages.take_only().map(|answer| (answer, None));
        }
        let answer = self.messages.pop_front();
        let admitted = answer.as_ref().and_then(|_| self.admit());
        self.is_plain =
            self.messages.len() <= 1 && self.outside.is_empty() && self.alarms.is_empty();
        answer.map(|answer| (answer, admitted))
    }

    /// Has a message wait; gives its ticket.
    fn put_outside(&mut self, answer: Answer<A>) -> u64 {
        self.is_plain = false;
        self.next_ticket += 1;
        self.outside.insert(self.next_ticket, answer);
        self.next_ticket
    }

    /// Lets the first of those in that wait outside, now that there is room. Gives who waits to
    /// hear of that.
    fn admit(&mut self) -> Option<Waker> {
        let (_, answer) = self.outside.pop_first()?;
        let waker = answer.take_waker();
        self.messages.push_back(answer);
        waker
    }
}

impl Presence {
    /// The waker of a resident that waits, which is busy from now on.
    fn take_waker(&mut self) -> Option<Waker> {
        match std::mem::replace(self, Self::Busy) {
            Self::Waiting(waker) => Some(waker),
            other => {
                *self = other;
                None
            }
        }
    }

    /// From now on it waits. Gives the waker that stood there, to be dropped outside the lock.
    fn wait(&mut self, waker: Waker) -> Option<Waker> {
        match std::mem::replace(self, Self::Waiting(waker)) {
            Self::Waiting(before) => Some(before),
            Self::Absent | Self::Busy => None,
        }
    }

    /// From now on it is busy, or being sent for. Says who must be told, when the lock is free.
    fn rouse<A: Actor>(&mut self, seat: &Arc<Seat<A>>) -> Call<A> {
        match std::mem::replace(self, Self::Busy) {
            Self::Busy => Call::Nobody,
            Self::Waiting(waker) => Call::Waiting(waker),
            Self::Absent => Call::New(Residence::new(Arc::clone(seat))),
        }
    }
}

/// Who must be told that there is something to do.
enum Call<A: Actor> {
    Nobody,
    Waiting(Waker),
    New(Residence<A>),
}

impl<A: Actor> Drop for Seat<A> {
    fn drop(&mut self) {
        self.roster.forget(self.id);
    }
}

//! The input gate of an object: whose turn it is, and who waits in which order.
//!
//! There is a level for the object itself and one more for each critical section that runs, the
//! innermost last. Only what belongs to the innermost level is polled. An event belongs to the
//! level in which it was begun; when that section ends, the event moves to the level below.
//!
//! A section is polled inside the event that contains it, so its carriers, the events that are
//! being polled around it, must be let in too: without them it would never go on.
//!
//! Nothing here is called back: whoever must be woken is returned, and woken without the lock.
//!
//! Invariants:
//!   * At most one event is being polled; what is polled inside it belongs to the same turn.
//!   * Waiters come in the order of their tickets, sections before events.
//!   * A level ends only when it is the innermost one; what waits in it moves down with its place.
//!   * Nothing recurses: neither over levels nor over waiters.

use crate::wakes::Wakes;
use stack::Stack;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Sections that may run inside each other.
pub(super) const DEPTH_MAX: usize = 64;

/// Names an event of one object: a future given to `run`, or a section.
pub(super) type EventId = u64;

/// The event of a thread that has the turn without a future.
pub(super) const THREAD: EventId = 0;
/// An event that has not asked yet.
pub(super) const UNNAMED: EventId = 1;

/// A critical section, as something that events belong to.
#[derive(Debug)]
pub(super) struct Place {
    parent: Option<Arc<Place>>,
}

/// An event as the gate knows it.
#[derive(Debug)]
pub(super) struct Event {
    pub id: EventId,
    /// The section in which it was begun; none for the object itself.
    pub place: Option<Arc<Place>>,
    /// Its place in a queue, while it waits.
    pub ticket: Option<u64>,
}

/// What an event is told when it asks to be polled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It has the turn.
    Outer,
    /// It joins the turn that is open on this thread; the level to return to.
    Inner(usize),
    /// Not now: it is in the queue.
    Waits,
    /// It would wait for the section in which it is polled.
    Deadlock,
    /// The sections are too deep.
    TooDeep,
    /// The section has ended without it.
    Gone,
}

/// What a section is, from its beginning on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// When it has run for too long, in uptime.
    pub deadline: Option<Duration>,
    /// Whether what it wrote can be undone, so that dropping it does no harm.
    pub is_transaction: bool,
}

/// Wakers on their way in and out of the gate: no waker is made or dropped under its lock.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// To be kept where the event has to wait. Without it the event is only told that it would.
    pub new: Option<Waker>,
    /// No longer kept.
    pub old: Option<Waker>,
    /// Nor this one, which a section had for itself.
    pub task: Option<Waker>,
}

#[derive(Debug)]
struct Waiter {
    /// Taken when it is woken, put back when it asks again in vain.
    waker: Option<Waker>,
    /// The events that contain it, and that must be polled for it to ask again.
    carriers: Vec<EventId>,
}

type Queue = BTreeMap<u64, Waiter>;

/// In the order in which each turn touches it.
#[derive(Debug, Default)]
#[repr(C)]
struct Level {
    /// The section's own event, and those around it.
    carriers: Vec<EventId>,
    sections: Queue,
    events: Queue,
    /// The section's waker, when it is over but for sections inside it.
    closing: Option<Waker>,
    /// None for the object itself.
    place: Option<Arc<Place>>,
    /// The section's waker while it waits for something else than the gate.
    task: Option<Waker>,
    /// When the section has run for too long, in uptime.
    deadline: Option<Duration>,
    is_transaction: bool,
}

impl Level {
    fn first(&mut self) -> Option<(u64, &mut Waiter)> {
        let queue = if self.sections.is_empty() { &mut self.events } else { &mut self.sections };
        queue.iter_mut().next().map(|(ticket, waiter)| (*ticket, waiter))
    }

    fn take_over(&mut self, gone: Self) {
        append(&mut self.sections, gone.sections);
        append(&mut self.events, gone.events);
    }
}

/// Adds the shorter queue to the longer one: moving down costs nothing where nobody waits.
fn append(queue: &mut Queue, mut more: Queue) {
    if more.len() > queue.len() {
        std::mem::swap(queue, &mut more);
    }
    queue.extend(more);
}

/// The gate.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Doors {
    /// Said only where nobody waits, no section runs and no wake-up is owed: then a turn begins and
    /// ends without a look at what lies behind the next event.
    is_plain: bool,
    /// The event that has the turn, and those polled inside it. Empty between turns.
    polling: Stack<EventId>,
    /// The level of the code that runs now, while there is a turn.
    current: usize,
    next_event: EventId,
    levels: Stack<Level>,
    next_ticket: u64,
    /// Who is to be woken when the turn has been given back, beside who waits for it.
    owed: Wakes,
}

impl Doors {
    pub fn new() -> Self {
        let mut levels = Stack::default();
        levels.push(Level::default());
        let (polling, owed) = (Stack::default(), Wakes::default());
        let next_event = UNNAMED + 1;
        Self { is_plain: true, polling, current: 0, next_event, levels, next_ticket: 0, owed }
    }

    pub fn is_held(&self) -> bool {
        !self.polling.is_empty()
    }

    /// How many sections run.
    pub fn depth(&self) -> usize {
        if self.is_plain { 0 } else { self.levels.len() - 1 }
    }

    /// The level of the code that runs now.
    pub fn current(&self) -> usize {
        self.current.min(self.depth())
    }

    /// The section of the code that runs now.
    pub fn current_place(&self) -> Option<Arc<Place>> {
        self.levels[self.current()].place.clone()
    }

    /// The level of a place: its own while it runs, else that of the nearest place around it.
    fn level_of(&self, place: Option<&Arc<Place>>) -> usize {
        let mut place = place;
        while let Some(found) = place {
            if let Some(level) = self.running(found) {
                return level;
            }
            place = found.parent.as_ref();
        }
        0
    }

    /// The level of a section that runs.
    fn running(&self, place: &Arc<Place>) -> Option<usize> {
        let is_it = |level: &Level| level.place.as_ref().is_some_and(|at| Arc::ptr_eq(at, place));
        self.levels.top_where(is_it)
    }

    /// Gives an event its name when it asks first.
    fn name(&mut self, event: &mut Event) {
        if event.id == UNNAMED {
            event.id = self.next_event;
            self.next_event += 1;
        }
    }

    /// Takes the turn for a thread that may wait for one, whoever stands in the queue: it waits
    /// for no section. Only while nobody is being polled.
    pub fn take(&mut self, id: EventId) {
        assert!(self.polling.is_empty(), "two turns of one object at once");
        self.polling.push(id);
        self.current = 0;
    }

    /// An event asks to be polled, from inside the open turn or not.
    pub fn enter(&mut self, event: &mut Event, is_inside: bool, hand: &mut Hand) -> Entry {
        self.name(event);
        if self.is_plain && !self.is_held() && event.ticket.is_none() {
            self.polling.push(event.id);
            self.current = 0;
            return Entry::Outer;
        }
        let top = self.depth();
        let own = self.level_of(event.place.as_ref());
        let carries = self.levels[top].carriers.contains(&event.id);
        if is_inside {
            if own == top || carries {
                return self.join(event, own, hand);
            }
            if self.current() > own {
                return Entry::Deadlock;
            }
            return self.wait(event, own, (false, true), hand);
        }
        if !self.is_held() && (carries || own == top && self.is_next(event)) {
            return self.begin(event, own, hand);
        }
        let level = self.carried(event.id).unwrap_or(own);
        self.wait(event, level, (false, false), hand)
    }

    /// A section asks to begin inside the level that it belongs to.
    pub fn start(
        &mut self,
        event: &mut Event,
        terms: Terms,
        is_inside: bool,
        hand: &mut Hand,
    ) -> Entry {
        self.name(event);
        let top = self.depth();
        let around = self.level_of(event.place.as_ref());
        let first = self.levels[around].sections.keys().next();
        let is_first = first.is_none_or(|first| Some(*first) == event.ticket);
        let may_start = around == top && is_first;
        if may_start && top == DEPTH_MAX {
            return Entry::TooDeep;
        }
        let is_now = may_start && (is_inside || !self.is_held());
        if !is_now {
            if is_inside && around < top && self.current() > around {
                return Entry::Deadlock;
            }
            return self.wait(event, around, (true, is_inside), hand);
        }
        let parent = self.levels[around].place.clone();
        let place = Arc::new(Place { parent });
        // Out of the queue of the old place.
        hand.old = self.unqueue(event);
        event.place = Some(Arc::clone(&place));
        self.is_plain = false;
        let Terms { deadline, is_transaction } = terms;
        let place = Some(place);
        self.levels.push(Level { place, deadline, is_transaction, ..Level::default() });
        let entry = if is_inside {
            self.join(event, top + 1, hand)
        } else {
            self.begin(event, top + 1, hand)
        };
        self.levels[top + 1].carriers = self.carriers();
        entry
    }

    /// A section that runs asks to be polled again.
    pub fn resume(&mut self, event: &mut Event, is_inside: bool, hand: &mut Hand) -> Entry {
        let Some(level) = event.place.as_ref().and_then(|place| self.running(place)) else {
            return Entry::Gone;
        };
        let top = self.depth();
        let may_go_on = level == top || self.levels[top].carriers.contains(&event.id);
        if !may_go_on || !is_inside && self.is_held() {
            if is_inside && self.current() > level {
                return Entry::Deadlock;
            }
            return self.wait(event, level, (false, is_inside), hand);
        }
        let entry =
            if is_inside { self.join(event, level, hand) } else { self.begin(event, level, hand) };
        self.levels[level].carriers = self.carriers();
        entry
    }

    /// The events that are being polled around what runs now.
    fn carriers(&self) -> Vec<EventId> {
        self.polling.iter().copied().collect()
    }

    /// The innermost level whose section this event contains.
    fn carried(&self, id: EventId) -> Option<usize> {
        self.levels.top_where(|level| level.carriers.contains(&id))
    }

    /// Whether nobody stands before the event at the innermost level, but what it contains.
    fn is_next(&mut self, event: &Event) -> bool {
        let top = self.depth();
        match self.levels[top].first() {
            None => true,
            Some((ticket, waiter)) => {
                Some(ticket) == event.ticket || waiter.carriers.contains(&event.id)
            }
        }
    }

    fn begin(&mut self, event: &mut Event, level: usize, hand: &mut Hand) -> Entry {
        hand.old = self.unqueue(event).or(hand.old.take());
        self.polling.push(event.id);
        self.current = level;
        Entry::Outer
    }

    fn join(&mut self, event: &mut Event, level: usize, hand: &mut Hand) -> Entry {
        hand.old = self.unqueue(event).or(hand.old.take());
        self.polling.push(event.id);
        Entry::Inner(std::mem::replace(&mut self.current, level))
    }

    fn wait(
        &mut self,
        event: &mut Event,
        level: usize,
        (is_section, is_inside): (bool, bool),
        hand: &mut Hand,
    ) -> Entry {
        if hand.new.is_none() {
            return Entry::Waits;
        }
        self.is_plain = false;
        let ticket = event.ticket.unwrap_or_else(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        event.ticket = Some(ticket);
        let carriers = if is_inside { self.carriers() } else { Vec::new() };
        let waiting = self.levels.iter_mut().find_map(|level| {
            level.sections.get_mut(&ticket).or_else(|| level.events.get_mut(&ticket))
        });
        if let Some(waiter) = waiting {
            waiter.carriers = carriers;
            hand.old = std::mem::replace(&mut waiter.waker, hand.new.take());
            return Entry::Waits;
        }
        let at = &mut self.levels[level];
        let queue = if is_section { &mut at.sections } else { &mut at.events };
        queue.insert(ticket, Waiter { waker: hand.new.take(), carriers });
        Entry::Waits
    }

    /// Takes an event out of its queue, and gives its waker back.
    fn unqueue(&mut self, event: &mut Event) -> Option<Waker> {
        let ticket = event.ticket.take()?;
        let mut levels = self.levels.iter_mut().rev();
        let waiter = levels.find_map(|level| {
            level.sections.remove(&ticket).or_else(|| level.events.remove(&ticket))
        });
        waiter?.waker
    }

    /// An event that waits will not ask again. Its waker comes back to be dropped elsewhere.
    pub fn forget(&mut self, event: &mut Event) -> (Wakes, Option<Waker>) {
        let own = self.unqueue(event);
        (self.next(), own)
    }

    /// What was polled inside the turn has returned.
    pub fn leave_inner(&mut self, level: usize) {
        self.polling.pop();
        self.current = level;
    }

    /// Whom to wake when the turn has been given back: what wakers do is no part of it.
    pub fn owe(&mut self, wakes: Wakes) {
        self.is_plain &= wakes.is_empty();
        self.owed.extend(wakes);
    }

    /// The turn is over.
    pub fn leave(&mut self) -> Wakes {
        self.polling.clear();
        self.current = 0;
        if self.is_plain {
            return Wakes::default();
        }
        let mut wakes = std::mem::take(&mut self.owed);
        wakes.extend(self.next());
        let root = &self.levels[0];
        let is_waited = !root.sections.is_empty() || !root.events.is_empty();
        self.is_plain = self.depth() == 0 && !is_waited;
        wakes
    }

    /// Whoever is next, if there is no turn and it was not told yet.
    fn next(&mut self) -> Wakes {
        let mut wakes = Wakes::default();
        if self.is_held() {
            return wakes;
        }
        let top = self.levels.last_mut().expect("the object's own level never ends");
        wakes.push(top.closing.take());
        if let Some((_, first)) = top.first() {
            wakes.push(first.waker.take());
        }
        wakes
    }

    /// A section has done its work. False, with its waker kept, while another runs inside it.
    pub fn finish(&mut self, event: &Event, hand: &mut Hand) -> bool {
        let Some(level) = event.place.as_ref().and_then(|place| self.running(place)) else {
            return true;
        };
        let own = &mut self.levels[level];
        (hand.old, hand.task) = (own.closing.take(), own.task.take());
        if level < self.depth() {
            self.levels[level].closing = hand.new.take();
            return false;
        }
        // It is the innermost level, and its own waker is taken: nobody is to be woken.
        let _ = self.cut_to(level);
        true
    }

    /// A section that runs waits for something else: keeps its waker, for when it is cut off.
    pub fn note_task(&mut self, event: &Event, hand: &mut Hand) {
        if let Some(level) = event.place.as_ref().and_then(|place| self.running(place)) {
            hand.old = std::mem::replace(&mut self.levels[level].task, hand.new.take());
        }
    }

    /// The level of a section that runs and will not be polled again, if it runs.
    pub fn level_of_section(&self, event: &Event) -> Option<usize> {
        event.place.as_ref().and_then(|place| self.running(place))
    }

    /// Whether a section has run for too long.
    pub fn is_overdue(&self, now: Duration) -> bool {
        self.levels.iter().any(|level| level.deadline.is_some_and(|deadline| now >= deadline))
    }

    /// Whether all sections from this level on are transactions.
    pub fn are_transactions(&self, level: usize) -> bool {
        self.levels.iter().skip(level).all(|level| level.is_transaction)
    }

    /// Ends the level of this number and all inside it. What waits there moves down; sections that
    /// were over but for those inside them are to be woken.
    pub fn cut_to(&mut self, level: usize) -> Wakes {
        let mut wakes = Wakes::default();
        while self.levels.len() > level.max(1)
            && let Some(mut gone) = self.levels.pop()
            && let Some(below) = self.levels.last_mut()
        {
            wakes.push(gone.closing.take());
            wakes.push(gone.task.take());
            below.take_over(gone);
        }
        wakes
    }

    /// The turn, if there is one, is over, and the object is broken: everybody who waits is to be
    /// woken, and will find it so.
    pub fn leave_broken(&mut self) -> Wakes {
        let mut wakes = self.leave();
        wakes.extend(self.cut_to(1));
        let root = std::mem::take(&mut self.levels[0]);
        let waiters = root.sections.into_values().chain(root.events.into_values());
        wakes.extend(waiters.filter_map(|waiter| waiter.waker).collect());
        wakes
    }
}

mod stack;
#[cfg(test)]
mod tests;

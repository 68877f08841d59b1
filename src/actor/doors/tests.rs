//! Who is let in, and when: the gate without objects and futures.

use super::*;

struct Gate {
    doors: Doors,
    next: EventId,
}

impl Gate {
    fn new() -> Self {
        Self { doors: Doors::new(), next: 1 }
    }

    /// An event begun by the code that runs now.
    fn event(&mut self) -> Event {
        self.next += 1;
        let place = self.doors.is_held().then(|| self.doors.current_place()).flatten();
        Event { id: self.next, place, ticket: None }
    }

    fn hand() -> Hand {
        Hand { new: Some(Waker::noop().clone()), ..Hand::default() }
    }

    fn enter(&mut self, event: &mut Event) -> Entry {
        let is_inside = self.doors.is_held();
        self.doors.enter(event, is_inside, &mut Self::hand())
    }

    fn start(&mut self, event: &mut Event) -> Entry {
        let terms = Terms { deadline: None, is_transaction: false };
        let is_inside = self.doors.is_held();
        self.doors.start(event, terms, is_inside, &mut Self::hand())
    }

    fn resume(&mut self, event: &mut Event) -> Entry {
        let is_inside = self.doors.is_held();
        self.doors.resume(event, is_inside, &mut Self::hand())
    }

    fn leave(&mut self) -> usize {
        self.doors.leave().len()
    }

    fn finish(&mut self, event: &Event) -> bool {
        self.doors.finish(event, &mut Self::hand())
    }
}

#[test]
fn waiters_come_in_order_and_each_is_told_once() {
    let mut gate = Gate::new();
    let [mut holder, mut first, mut second] = [gate.event(), gate.event(), gate.event()];
    assert_eq!(gate.enter(&mut holder), Entry::Outer);
    for event in [&mut first, &mut second] {
        let waits = gate.doors.enter(event, false, &mut Gate::hand());
        assert_eq!(waits, Entry::Waits);
    }
    assert_eq!(gate.leave(), 1);
    assert_eq!(gate.enter(&mut second), Entry::Waits, "the first was told, and comes first");
    assert_eq!(gate.enter(&mut holder), Entry::Waits);
    assert_eq!(gate.enter(&mut first), Entry::Outer);
    assert_eq!(gate.leave(), 1);
    assert_eq!(gate.enter(&mut second), Entry::Outer);
    assert_eq!(gate.leave(), 1);
    assert_eq!(gate.enter(&mut holder), Entry::Outer);
    assert_eq!(gate.leave(), 0);
}

#[test]
fn a_waiter_that_goes_away_lets_the_next_one_in() {
    let mut gate = Gate::new();
    let [mut holder, mut first, mut second] = [gate.event(), gate.event(), gate.event()];
    assert_eq!(gate.enter(&mut holder), Entry::Outer);
    for event in [&mut first, &mut second] {
        assert_eq!(gate.doors.enter(event, false, &mut Gate::hand()), Entry::Waits);
    }
    assert_eq!(gate.leave(), 1);
    let (wakes, _) = gate.doors.forget(&mut first);
    assert_eq!(wakes.len(), 1);
    assert_eq!(gate.enter(&mut second), Entry::Outer);
}

#[test]
fn without_a_waker_nobody_enters_the_queue() {
    let mut gate = Gate::new();
    let [mut holder, mut other] = [gate.event(), gate.event()];
    assert_eq!(gate.enter(&mut holder), Entry::Outer);
    let told = gate.doors.enter(&mut other, false, &mut Hand::default());
    assert_eq!((told, other.ticket), (Entry::Waits, None));
    assert_eq!(gate.leave(), 0);
}

#[test]
fn what_contains_a_section_is_let_in_and_others_are_not() {
    let mut gate = Gate::new();
    let [mut carrier, mut other] = [gate.event(), gate.event()];
    assert_eq!(gate.enter(&mut carrier), Entry::Outer);
    let mut section = gate.event();
    assert_eq!(gate.start(&mut section), Entry::Inner(0));
    let mut inside = gate.event();
    assert!(inside.place.is_some());
    gate.doors.leave_inner(0);
    assert_eq!(gate.leave(), 0);
    assert_eq!(gate.enter(&mut other), Entry::Waits);
    assert_eq!(gate.enter(&mut inside), Entry::Outer);
    gate.leave();
    assert_eq!(gate.enter(&mut carrier), Entry::Outer);
    assert_eq!(gate.resume(&mut section), Entry::Inner(0));
    assert_eq!(gate.enter(&mut other), Entry::Deadlock);
    assert!(gate.finish(&section));
    gate.doors.leave_inner(0);
    assert_eq!(gate.leave(), 1);
    assert_eq!(gate.enter(&mut other), Entry::Outer);
    gate.leave();
    assert_eq!(gate.enter(&mut inside), Entry::Outer, "its section is over: it moved down");
}

#[test]
fn sections_go_before_events_and_those_inside_before_those_outside() {
    let mut gate = Gate::new();
    let mut first = gate.event();
    assert_eq!(gate.start(&mut first), Entry::Outer);
    let [mut inner_event, mut inner] = [gate.event(), gate.event()];
    gate.leave();
    let [mut event, mut second] = [gate.event(), gate.event()];
    assert_eq!(gate.enter(&mut event), Entry::Waits);
    assert_eq!(gate.start(&mut second), Entry::Waits);
    assert_eq!(gate.start(&mut inner), Entry::Outer);
    gate.leave();
    assert_eq!(gate.enter(&mut inner_event), Entry::Waits);
    assert_eq!(gate.resume(&mut first), Entry::Waits, "a section runs inside it");
    assert_eq!(gate.resume(&mut inner), Entry::Outer);
    assert!(gate.finish(&inner));
    gate.leave();
    assert_eq!(gate.enter(&mut inner_event), Entry::Outer);
    gate.leave();
    assert_eq!(gate.enter(&mut event), Entry::Waits);
    assert_eq!(gate.resume(&mut first), Entry::Outer);
    assert!(gate.finish(&first));
    gate.leave();
    assert_eq!(gate.enter(&mut event), Entry::Waits);
    assert_eq!(gate.start(&mut second), Entry::Outer);
    assert!(gate.finish(&second));
    gate.leave();
    assert_eq!(gate.enter(&mut event), Entry::Outer);
}

#[test]
fn a_section_ends_after_those_inside_it() {
    let mut gate = Gate::new();
    let mut outer = gate.event();
    assert_eq!(gate.start(&mut outer), Entry::Outer);
    let mut inner = gate.event();
    gate.leave();
    assert_eq!(gate.start(&mut inner), Entry::Outer);
    assert!(!gate.finish(&outer));
    assert!(gate.finish(&inner));
    assert_eq!(gate.leave(), 1, "the outer one is told");
    assert_eq!(gate.resume(&mut outer), Entry::Outer);
    assert!(gate.finish(&outer));
    assert_eq!(gate.doors.depth(), 0);
    gate.leave();
    assert_eq!(gate.resume(&mut outer), Entry::Gone);
}

#[test]
fn a_million_waiters_move_down_and_leave_without_recursion() {
    const WAITERS: usize = 1_000_000;
    let mut gate = Gate::new();
    let mut section = gate.event();
    assert_eq!(gate.start(&mut section), Entry::Outer);
    let mut waiters: Vec<_> = (0..WAITERS).map(|_| gate.event()).collect();
    for waiter in &mut waiters {
        assert_eq!(gate.doors.enter(waiter, false, &mut Gate::hand()), Entry::Waits);
    }
    assert!(gate.finish(&section));
    assert_eq!(gate.leave(), 1);
    assert_eq!(gate.enter(&mut waiters[1]), Entry::Waits);
    assert_eq!(gate.enter(&mut waiters[0]), Entry::Outer);
    assert_eq!(gate.leave(), 1);
    assert_eq!(gate.doors.leave_broken().len(), WAITERS - 2);
}

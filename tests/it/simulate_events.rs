//! What chance lets happen in a seed, one event at a time: a seed can run with some of its events.
//!
//! Invariants:
//!   * What an event draws depends on the seed and on itself alone: leaving others out does not
//!     change it.

use super::chance::Chance;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The number of a life's end, of a crash anywhere in it, and of its first attempt to open.
pub const END: u64 = 1_000;
pub const CUT: u64 = 1_001;
const OPEN: u64 = 2_000;
const LENGTH: u64 = u64::MAX;

/// What may go wrong around an attempt to open.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    /// Calls fail.
    Faults,
    /// The power does.
    Cut,
    /// Calls fail once it is open.
    Weather,
}

/// One thing that may happen: its life, and its number there. Actions come first, from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    life: u64,
    number: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.life, self.number)
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse().map_err(|_| format!("not an event: {text}"));
        let (life, rest) = text.split_once('.').ok_or(format!("not an event: {text}"))?;
        Ok(Self { life: number(life)?, number: number(rest)? })
    }
}

/// The number of what may go wrong in this attempt to open.
pub fn opening(attempt: u64, what: Opening) -> u64 {
    OPEN + attempt * 3 + what as u64
}

/// A seed's events: which may happen, and which did.
#[derive(Clone, Debug)]
pub struct Events {
    seed: u64,
    life: u64,
    /// The only ones that may happen; without them all may.
    only: Option<BTreeSet<Event>>,
    happened: Vec<Event>,
}

impl Events {
    pub fn new(seed: u64, only: Option<BTreeSet<Event>>) -> Self {
        Self { seed, life: 0, only, happened: Vec::new() }
    }

    /// The next life begins: its events are counted anew. How long it may become is chance, but no
    /// event.
    pub fn begin_life(&mut self, life: u64) -> Chance {
        self.life = life;
        self.chance(LENGTH)
    }

    fn chance(&self, number: u64) -> Chance {
        Chance::new(self.seed ^ self.life.rotate_left(40) ^ number.rotate_left(20))
    }

    /// The seed of all that the event with this number draws, if it may happen.
    pub fn begin(&mut self, number: u64) -> Option<u64> {
        let event = Event { life: self.life, number };
        if self.only.as_ref().is_some_and(|only| !only.contains(&event)) {
            return None;
        }
        self.happened.push(event);
        Some(self.chance(number).next())
    }

    /// Those that happened, in their order.
    pub fn happened(&self) -> &[Event] {
        &self.happened
    }
}

/// The events as `DOSTORE_ONLY` takes them.
pub fn list(events: &[Event]) -> String {
    events.iter().map(Event::to_string).collect::<Vec<_>>().join(",")
}

/// The events that `DOSTORE_ONLY` names.
pub fn from_list(text: &str) -> BTreeSet<Event> {
    let events = text.split(',').filter(|part| !part.is_empty()).map(str::parse);
    events.collect::<Result<_, _>>().unwrap_or_else(|what: String| panic!("DOSTORE_ONLY: {what}"))
}

#[test]
fn a_list_of_events_is_read_as_it_is_written() {
    let mut events = Events::new(7, None);
    for life in 0..3 {
        let _ = events.begin_life(life);
        for number in [0, 12, END, opening(2, Opening::Weather)] {
            assert!(events.begin(number).is_some());
        }
    }
    let happened: BTreeSet<Event> = events.happened().iter().copied().collect();
    assert_eq!(happened.len(), 12);
    assert_eq!(from_list(&list(events.happened())), happened);
    assert!(from_list("").is_empty());
}

#[test]
fn an_event_draws_the_same_whatever_is_left_out() {
    let drawn = |only: Option<&str>| {
        let mut events = Events::new(7, only.map(from_list));
        let _ = events.begin_life(1);
        (0..4).map(|number| events.begin(number)).collect::<Vec<_>>()
    };
    let all = drawn(None);
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "each draws for itself");
    assert_eq!(drawn(Some("1.1,1.3,0.2")), [None, all[1], None, all[3]]);
}

//! What one actor's storage must say: its sealed turns in order, and the turn that is open.
//!
//! Invariants:
//!   * Whether and when a turn is sealed is told by the durability that the storage asks; the model
//!     says whether that was right.
//!   * `now` is the last sealed turn with the open one on top.

use super::model::{Change, Content, Map, keys_in};
use dostore::actor::{Durability, Local};
use dostore::error::{Error, Result};
use dostore::ids::Lsn;
use dostore::store::Store;
use dostore::store::commit::Position;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::Waker;

/// The store's own durability, which also notes each turn that is sealed.
#[derive(Debug)]
pub struct Recorder {
    local: Local,
    is_ordered: bool,
    sealed: Mutex<Vec<Lsn>>,
}

impl Recorder {
    pub fn new(store: &Store, is_ordered: bool) -> Self {
        Self { local: Local::new(store), is_ordered, sealed: Mutex::default() }
    }

    /// What was sealed since it was asked last.
    pub fn take(&self) -> Vec<Lsn> {
        std::mem::take(&mut *self.sealed.lock().expect("nobody panics here"))
    }
}

impl Durability for Recorder {
    fn begin(&self, position: Position) {
        self.sealed.lock().expect("nobody panics here").push(position.lsn);
    }

    fn is_confirmed(&self, position: Position) -> bool {
        self.local.is_confirmed(position)
    }

    fn failure(&self, position: Position) -> Option<Error> {
        self.local.failure(position)
    }

    fn poll(&self, position: Position, waker: &Waker) -> Option<Result<()>> {
        self.local.poll(position, waker)
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    fn wait(&self, position: Position) -> Result<()> {
        self.local.wait(position)
    }
}

/// What became of a turn that was open when a gate was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    /// It was logged. A gate waits for it only where it was confirmed by then.
    Sealed {
        lsn: Lsn,
        is_confirmed: bool,
    },
    /// It ended, and there was nothing to log.
    Nothing,
    /// Its object broke.
    Dropped,
}

pub type FateOf = Rc<Cell<Fate>>;

/// A turn that was logged, and the whole state that it made.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub lsn: Lsn,
    pub state: Map,
    pub is_confirmed: bool,
}

/// An open transaction: what it goes back to.
#[derive(Debug)]
struct Save {
    state: Map,
    is_confirmed: bool,
    /// The section that it is, if it is one.
    section: Option<u64>,
}

/// A critical section that runs.
#[derive(Clone, Copy, Debug)]
struct Section {
    number: u64,
    is_transaction: bool,
}

#[derive(Debug)]
pub struct Model {
    pub index: usize,
    turns: VecDeque<Sealed>,
    now: Map,
    /// Whether any write was made in the open turn.
    has_draft: bool,
    is_confirmed: bool,
    fate: Option<FateOf>,
    saves: Vec<Save>,
    sections: Vec<Section>,
    pub is_broken: bool,
    /// How often the object was opened: what was begun before that knows a storage of before.
    pub activation: u64,
    /// An open gate waited for this turn.
    pub floor: Lsn,
    /// A message that left told of so many.
    pub count_floor: u64,
    next_version: u64,
}

/// The key that counts, and is only ever written confirmed.
pub const COUNT: &[u8] = b"count";

impl Model {
    pub fn new(index: usize) -> Self {
        let empty = Sealed { lsn: Lsn::ZERO, state: Map::new(), is_confirmed: true };
        Self {
            index,
            turns: VecDeque::from([empty]),
            now: Map::new(),
            has_draft: false,
            is_confirmed: false,
            fate: None,
            saves: Vec::new(),
            sections: Vec::new(),
            is_broken: true,
            activation: 0,
            floor: Lsn::ZERO,
            count_floor: 0,
            next_version: 0,
        }
    }

    /// What code inside the turn sees.
    pub fn now(&self) -> &Map {
        &self.now
    }

    pub fn last(&self) -> &Sealed {
        self.turns.back().expect("there is always one")
    }

    pub fn last_confirmed(&self) -> Lsn {
        let confirmed = self.turns.iter().rev().find(|turn| turn.is_confirmed);
        confirmed.map_or(Lsn::ZERO, |turn| turn.lsn)
    }

    pub fn new_version(&mut self) -> u64 {
        self.next_version += 1;
        self.next_version
    }

    pub fn count(&self) -> u64 {
        self.now.get(COUNT).map_or(0, |content| content.version)
    }

    pub fn is_in_transaction(&self) -> bool {
        !self.saves.is_empty()
    }

    pub fn is_in_section(&self) -> bool {
        !self.sections.is_empty()
    }

    pub fn runs(&self, section: u64) -> bool {
        self.sections.iter().any(|running| running.number == section)
    }

    /// The innermost section that runs.
    pub fn innermost(&self) -> Option<u64> {
        self.sections.last().map(|section| section.number)
    }

    /// The storage took this write.
    pub fn apply(&mut self, change: &Change, is_confirmed: bool) {
        self.has_draft = true;
        self.is_confirmed |= is_confirmed;
        match change {
            Change::Put(key, content) => drop(self.now.insert(key.clone(), *content)),
            Change::Delete(key) => drop(self.now.remove(key)),
            Change::DeleteRange(from, to) => {
                for key in keys_in(&self.now, from, to) {
                    self.now.remove(&key);
                }
            }
            Change::DeleteAll => self.now.clear(),
            Change::Become(map) => self.now.clone_from(map),
        }
    }

    /// The content of a new value.
    pub fn new_content(&mut self, bytes: usize) -> Content {
        let shape = super::model::Shape::Noise;
        Content { owner: None, version: self.new_version(), bytes, shape }
    }

    /// What becomes of the open turn, where a gate that is taken now waits for it.
    pub fn fate_for_gate(&mut self, everything: bool) -> Option<FateOf> {
        let is_covered = if everything { self.has_draft } else { self.is_confirmed };
        is_covered
            .then(|| Rc::clone(self.fate.get_or_insert_with(|| Rc::new(Cell::new(Fate::Open)))))
    }

    fn end_turn(&mut self, fate: Fate) {
        if let Some(open) = self.fate.take() {
            open.set(fate);
        }
        self.has_draft = false;
        self.is_confirmed = false;
    }

    /// A turn ends here, and this was logged since the last one did.
    pub fn seal(&mut self, logged: &[Lsn]) {
        let index = self.index;
        assert!(!self.is_in_transaction(), "the model seals inside a transaction");
        match *logged {
            [] => {
                let is_same = self.now == self.last().state;
                assert!(is_same, "actor {index}: a turn that wrote was not logged");
                self.end_turn(Fate::Nothing);
            }
            [lsn] => {
                assert!(self.has_draft, "actor {index}: {lsn} was logged, but nothing written");
                assert!(lsn > self.last().lsn, "actor {index}: {lsn} is out of order");
                let (state, is_confirmed) = (self.now.clone(), self.is_confirmed);
                self.turns.push_back(Sealed { lsn, state, is_confirmed });
                self.end_turn(Fate::Sealed { lsn, is_confirmed });
            }
            _ => panic!("actor {index}: one turn was logged as several: {logged:?}"),
        }
    }

    /// The end of a poll, or of a call that may have been a turn.
    pub fn end_poll(&mut self, logged: &[Lsn]) {
        let index = self.index;
        if self.is_broken || self.is_in_transaction() {
            assert!(logged.is_empty(), "actor {index}: {logged:?} should not have been logged");
        } else {
            self.seal(logged);
        }
    }

    /// A transaction begins: what was written loosely before is a turn of its own.
    pub fn begin_transaction(&mut self, section: Option<u64>, logged: &[Lsn]) {
        if self.is_in_transaction() {
            assert!(logged.is_empty(), "an inner transaction logs what is around it");
        } else {
            self.seal(logged);
        }
        let (state, is_confirmed) = (self.now.clone(), self.is_confirmed);
        self.saves.push(Save { state, is_confirmed, section });
    }

    pub fn commit_transaction(&mut self, logged: &[Lsn]) {
        self.saves.pop().expect("one is open");
        if self.is_in_transaction() {
            assert!(logged.is_empty(), "an inner transaction is logged by itself");
        } else {
            self.seal(logged);
        }
    }

    pub fn roll_back(&mut self) {
        let save = self.saves.pop().expect("one is open");
        self.now = save.state;
        self.is_confirmed = save.is_confirmed;
        if self.saves.is_empty() {
            self.end_turn(Fate::Nothing);
        }
    }

    pub fn begin_section(&mut self, number: u64, is_transaction: bool) {
        self.sections.push(Section { number, is_transaction });
    }

    /// The innermost section is over.
    pub fn end_section(&mut self, number: u64) {
        let ended = self.sections.pop().map(|section| section.number);
        assert_eq!(ended, Some(number), "actor {}: sections end in order", self.index);
    }

    /// A section is dropped while it runs. Says whether that breaks the object.
    pub fn drop_section(&mut self, number: u64) -> bool {
        let Some(place) = self.sections.iter().position(|section| section.number == number) else {
            return false;
        };
        if self.sections[place..].iter().any(|section| !section.is_transaction) {
            self.break_object();
            return true;
        }
        self.sections.truncate(place);
        while self.saves.iter().any(|save| save.section == Some(number)) {
            self.roll_back();
        }
        false
    }

    /// The open turn is gone, and nothing more is taken.
    pub fn break_object(&mut self) {
        self.is_broken = true;
        self.saves.clear();
        self.sections.clear();
        self.now = self.last().state.clone();
        self.end_turn(Fate::Dropped);
    }

    /// The object was opened again, by the same store or a later one.
    pub fn activate(&mut self) {
        self.activation += 1;
        self.is_broken = false;
    }

    /// Forgets turns that no crash can take.
    pub fn settle(&mut self, durable: Lsn) {
        while self.turns.get(1).is_some_and(|next| next.lsn <= durable) {
            self.turns.pop_front();
        }
    }

    /// A crash has taken every turn behind here.
    pub fn truncate(&mut self, last: Lsn) {
        self.break_object();
        while self.turns.len() > 1 && self.last().lsn > last {
            self.turns.pop_back();
        }
        self.now = self.last().state.clone();
        let (index, floor) = (self.index, self.floor);
        assert!(self.last().lsn >= floor, "actor {index}: turn {floor} left a gate, and is lost");
    }

    /// Whether a turn that may be the last one there left nothing.
    pub fn may_be_forgotten(&self) -> bool {
        self.turns.iter().any(|turn| turn.lsn >= self.floor && turn.state.is_empty())
    }

    /// The state after this turn, if there was one.
    pub fn state_at(&self, lsn: Lsn) -> Option<&Map> {
        self.turns.iter().find(|turn| turn.lsn == lsn).map(|turn| &turn.state)
    }
}

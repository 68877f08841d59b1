//! What the actors of one seed share: the machine, the store, the models, and what they sent.
//!
//! Invariants:
//!   * What left through an open gate is on the medium, and stays.
//!   * Every error has a cause.

use super::actors_handler::Actor;
use super::actors_model::{COUNT, Fate, FateOf, Model};
use super::chance::Chance;
use super::simulate_checks::{Fault, check_all};
use dostore::actor::Gate;
use dostore::disk::sim::{Faults, SimDisk};
use dostore::error::{Error, ErrorKind, Result};
use dostore::ids::Lsn;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::snapshot::Snapshot;
use dostore::store::{Options, Store};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

pub type Event = Pin<Box<dyn Future<Output = ()>>>;

/// What a campaign counts, and must reach.
pub const REACHED: &[&str] = &[
    "aborts",
    "activations",
    "async transactions",
    "broken by the disk",
    "cancellations",
    "commits refused",
    "crashes",
    "crashes in recovery",
    "gates broken",
    "gates opened",
    "machines cut behind a gate",
    "panics",
    "poisoned",
    "rolled back",
    "sections",
    "sections dropped",
    "sections failed",
    "sections too long",
    "standstills",
    "transactions",
    "turns",
];

pub type Counts = BTreeMap<&'static str, u64>;

/// Something that left an actor, when its gate is open.
pub struct Message {
    pub gate: Gate,
    pub index: usize,
    /// The last sealed turn that the gate must wait for.
    pub wanted: Lsn,
    /// The last sealed turn that it may wait for.
    pub at_most: Lsn,
    /// The open turn, where the gate waits for that too.
    pub fate: Option<FateOf>,
    /// What it tells, unless that may still be rolled back.
    pub count: Option<u64>,
    /// Whether the gate waits for turns that are not confirmed as well.
    pub everything: bool,
    pub is_told: Cell<bool>,
}

impl Message {
    fn fate(&self) -> Option<Fate> {
        self.fate.as_ref().map(|fate| fate.get())
    }

    /// The turn that must be there when it has left.
    fn proven(&self) -> Lsn {
        match self.fate() {
            Some(Fate::Sealed { lsn, is_confirmed }) if is_confirmed || self.everything => {
                lsn.max(self.wanted)
            }
            _ => self.wanted,
        }
    }

    /// Whether the gate must be open once this is durable.
    pub fn must_be_open(&self, durable: Lsn) -> bool {
        let is_over = !matches!(self.fate(), Some(Fate::Open | Fate::Dropped));
        let open = match self.fate() {
            Some(Fate::Sealed { lsn, .. }) => lsn,
            _ => Lsn::ZERO,
        };
        is_over && open.max(self.at_most) <= durable
    }
}

/// The running store.
pub struct Running {
    pub store: Store,
    pub rooms: Namespace,
}

pub struct Shared {
    pub disk: RefCell<SimDisk>,
    pub running: RefCell<Option<Running>>,
    pub chance: RefCell<Chance>,
    pub models: Vec<RefCell<Model>>,
    pub counts: RefCell<Counts>,
    pub spawned: RefCell<Vec<(usize, Event)>>,
    pub sent: RefCell<Vec<Rc<Message>>>,
    /// Sections that ended too early: of which actor and activation, and their numbers.
    pub dropped: RefCell<Vec<(usize, u64, u64)>>,
    /// Whether calls to the disk could have failed since the store was opened.
    pub had_faults: Cell<bool>,
    numbers: Cell<u64>,
    is_verbose: bool,
    journal: RefCell<VecDeque<String>>,
}

const JOURNAL_LINES: usize = 60;
/// Bytes free where nothing is said about space.
const SPACE: u64 = 1 << 40;
/// So far away that it never happens.
const NEVER: u64 = 1 << 40;

/// A key of an actor: few, so that they are written over and over.
pub fn key(chance: &mut Chance) -> Vec<u8> {
    format!("k{:02}", chance.below(12)).into_bytes()
}

pub fn name(index: usize) -> String {
    format!("actor {index}")
}

pub fn options() -> Options {
    Store::options()
        .threads(false)
        .wal_file_bytes(256 << 10)
        .segment_bytes(64 << 10)
        .page_bytes(512)
        .retire_after(Duration::ZERO)
}

impl Shared {
    pub fn new(seed: u64, actors: usize, is_verbose: bool) -> Rc<Self> {
        Rc::new(Self {
            disk: RefCell::new(SimDisk::new(seed)),
            running: RefCell::default(),
            chance: RefCell::new(Chance::new(seed)),
            models: (0..actors).map(|index| RefCell::new(Model::new(index))).collect(),
            counts: RefCell::default(),
            spawned: RefCell::default(),
            sent: RefCell::default(),
            dropped: RefCell::default(),
            had_faults: Cell::new(false),
            numbers: Cell::new(0),
            is_verbose,
            journal: RefCell::default(),
        })
    }

    pub fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        let line = format!("[call {}] {what}", self.disk.borrow().calls());
        if self.is_verbose {
            eprintln!("{line}");
        }
        let mut journal = self.journal.borrow_mut();
        if journal.len() == JOURNAL_LINES {
            journal.pop_front();
        }
        journal.push_back(line);
    }

    /// What happened lately.
    pub fn story(&self) -> String {
        self.journal.borrow().iter().fold(String::new(), |story, line| story + line + "\n")
    }

    pub fn next_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    pub fn percent(&self, percent: u64) -> bool {
        self.chance.borrow_mut().percent(percent)
    }

    pub fn below(&self, end: u64) -> u64 {
        self.chance.borrow_mut().below(end)
    }

    pub fn key(&self) -> Vec<u8> {
        key(&mut self.chance.borrow_mut())
    }

    /// How long a value is: mostly short, now and then several pages.
    pub fn bytes(&self) -> usize {
        let most = self.chance.borrow_mut().pick(&[20, 20, 100, 2_000]);
        usize::try_from(16 + self.below(most)).expect("it is small")
    }

    pub fn is_off(&self) -> bool {
        self.disk.borrow().is_off()
    }

    /// Whether the store may say that something failed.
    pub fn may_fail(&self) -> bool {
        self.had_faults.get() || self.is_off()
    }

    pub fn store(&self) -> Store {
        self.running.borrow().as_ref().expect("the store is open").store.clone()
    }

    pub fn durable(&self) -> Lsn {
        self.running.borrow().as_ref().map_or(Lsn::ZERO, |running| running.store.durable())
    }

    /// An error must have a cause.
    pub fn judge(&self, what: &str, error: &Error) {
        self.note(format_args!("{what} fails: {error:?}"));
        let kind = error.kind();
        let is_of_disk = matches!(
            kind,
            ErrorKind::Broken | ErrorKind::Io | ErrorKind::Full | ErrorKind::Poisoned
        ) || error.code().ends_with(".unreadable");
        assert!(is_of_disk && self.may_fail(), "{what} fails without a cause: {error:?}");
        if kind == ErrorKind::Full {
            self.count("commits refused");
        }
    }

    /// From now on calls fail now and then, or not.
    pub fn set_faults(&self, on: bool) {
        let mut faults = Faults::none();
        let mut space = SPACE;
        if on {
            match self.below(3) {
                0 => faults.sync = 0.05,
                1 => faults.write = 0.02,
                _ => space = self.below(300_000),
            }
            self.had_faults.set(true);
        }
        let disk = self.disk.borrow();
        disk.set_faults(faults);
        disk.set_free_bytes(space);
    }

    /// The gate of a message has opened, or never will.
    pub fn arrived(&self, message: &Message, said: Result<()>) {
        if message.is_told.replace(true) {
            return;
        }
        let (index, fate) = (message.index, message.fate());
        if let Err(error) = said {
            assert_eq!(error.kind(), ErrorKind::Broken, "actor {index}: a gate says {error:?}");
            let has_cause = fate == Some(Fate::Dropped) || self.may_fail();
            let told = (message.everything, fate);
            assert!(has_cause, "actor {index}: a gate breaks without a cause, {told:?}: {error:?}");
            self.count("gates broken");
            return;
        }
        self.count("gates opened");
        let is_over = !matches!(fate, Some(Fate::Open | Fate::Dropped));
        assert!(is_over, "actor {index}: a gate opens, and its turn is {fate:?}");
        let proven = message.proven();
        let durable = self.durable();
        assert!(proven <= durable, "actor {index}: a gate opens before {proven} is durable");
        let mut model = self.models[index].borrow_mut();
        model.floor = model.floor.max(proven);
        model.count_floor = model.count_floor.max(message.count.unwrap_or_default());
        drop(model);
        if !self.may_fail() && self.below(1_000) < 3 {
            self.cut_a_copy(index);
        }
    }

    /// What left is on the medium, whatever the page cache holds: a copy of the machine loses its
    /// power now.
    fn cut_a_copy(&self, index: usize) {
        self.count("machines cut behind a gate");
        let copy = self.disk.borrow().fork();
        copy.crash_after(NEVER);
        let copy = copy.power_cut();
        let store = options().open_on(copy).expect("nothing disturbs it");
        let rooms = store.namespace("rooms").expect("it was made");
        let view = rooms.snapshot(rooms.id_from_name(&name(index))).expect("undamaged");
        self.check_view(index, &view).expect("undamaged");
    }

    /// The object is as one of its turns left it, and what left is in it.
    fn check_view(&self, index: usize, view: &Snapshot) -> Result<()> {
        let model = self.models[index].borrow();
        let (found, floor) = (view.last_lsn(), model.floor);
        if found == Lsn::ZERO && model.may_be_forgotten() {
            // An object without content may be forgotten with its last commit.
            let keys = view.list(ListOptions::new())?.count();
            assert_eq!(keys, 0, "actor {index} has keys and no commit");
            return Ok(());
        }
        assert!(found >= floor, "actor {index}: turn {floor} left a gate; what is there: {found}");
        let state = model.state_at(found);
        let state = state.unwrap_or_else(|| panic!("actor {index}: no turn ended at {found}"));
        match check_all(view, (index, state)) {
            Ok(()) => {}
            Err(Fault::Refused(error)) => return Err(error),
            Err(Fault::Wrong(wrong)) => panic!("at {found}: {wrong}"),
        }
        let count = view.get(COUNT)?.map_or(0, |value| {
            u64::from_le_bytes(value[..8].try_into().expect("a count is longer"))
        });
        let told = model.count_floor;
        assert!(count >= told, "actor {index}: {told} was told outside, and {count} is there");
        Ok(())
    }

    /// After an opening: each actor is at the last of its turns before one moment of the store.
    fn check_recovered(&self, floor: Lsn, rooms: &Namespace) -> Result<()> {
        let ids = (0..self.models.len()).map(|index| rooms.id_from_name(&name(index)));
        let views = ids.map(|id| rooms.snapshot(id)).collect::<Result<Vec<_>>>()?;
        let shown = views.iter().map(Snapshot::last_lsn).max().unwrap_or_default();
        let issued = self.models.iter().map(|model| model.borrow().last().lsn).max();
        let last = floor.min(issued.unwrap_or_default()).max(shown);
        self.note(format_args!("recovered up to {last}; durable was {floor}"));
        for (index, view) in views.iter().enumerate() {
            self.models[index].borrow_mut().truncate(last);
            let right = self.models[index].borrow().last().lsn;
            let found = view.last_lsn();
            let is_empty = self.models[index].borrow().last().state.is_empty();
            if is_empty && found == Lsn::ZERO {
                // An object without content may be forgotten with its last commit.
                continue;
            }
            assert_eq!(found, right, "actor {index} after opening at {last}");
            self.check_view(index, view)?;
        }
        Ok(())
    }

    /// Opens the store, however often the power fails meanwhile, and compares all actors.
    pub fn open(&self, floor: Lsn) {
        for attempt in 0.. {
            assert!(attempt < 20, "the store does not open");
            let late = self.disk.borrow().late_errors();
            self.set_faults(false);
            self.had_faults.set(false);
            if attempt < 3 && self.percent(25) {
                let calls = self.below(80);
                self.disk.borrow().crash_after(calls);
            }
            match self.open_once(floor) {
                Ok(()) if !self.is_off() => return,
                Err(error) if !self.is_off() => {
                    let is_late = self.disk.borrow().late_errors() > late;
                    assert!(is_late, "opening fails without a cause: {error:?}");
                }
                _ => self.count("crashes in recovery"),
            }
            self.running.replace(None);
            let next = self.disk.borrow().power_cut();
            self.disk.replace(next);
        }
    }

    fn open_once(&self, floor: Lsn) -> Result<()> {
        let disk = self.disk.borrow().clone();
        let store = options().open_on(disk.clone())?;
        let rooms = store.namespace("rooms")?;
        self.check_recovered(floor, &rooms)?;
        disk.crash_after(NEVER);
        self.running.replace(Some(Running { store, rooms }));
        Ok(())
    }

    /// An actor's own code, from outside its events.
    #[expect(clippy::unused_self, reason = "reads as the other checks")]
    pub fn check_actor(&self, actor: &Actor) {
        let state = actor.model().last().state.clone();
        match check_all(&actor.storage, (actor.index, &state)) {
            Ok(()) => {}
            Err(Fault::Wrong(wrong)) => panic!("from outside: {wrong}"),
            Err(Fault::Refused(error)) => {
                let _ = actor.judge("reading from outside", error);
            }
        }
    }
}

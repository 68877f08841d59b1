//! Many actors on a simulated machine, driven by a random poller, against a model of each.
//!
//! `DOSTORE_SEED=n` replays one seed and tells what it does; `DOSTORE_SEEDS=n` runs that many, from
//! `DOSTORE_FIRST_SEED` on; `DOSTORE_ACTORS=n` is how many actors a seed has.
//!
//! Invariants:
//!   * A future is polled again only when it asked for that: a lost wake-up fails the seed.
//!   * A seed does the same each time: nothing in it depends on time, threads or other seeds.

use super::actors_handler::{Actor, PlannedPanic, event};
use super::actors_model::Recorder;
use super::actors_world::{Counts, Event, Message, REACHED, Shared, name};
use super::ledger::{self, Row};
use super::simulate::from_environment;
use dostore::actor::{Gate, Storage, StorageOptions};
use dostore::error::ErrorKind;
use dostore::ids::Lsn;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const SEEDS: u64 = 24;
const ACTORS: u64 = 200;
/// From so many seeds on, all that is counted must be reached.
const CAMPAIGN: u64 = 200;
/// One seed in so many runs twice.
const TWICE_EVERY: u64 = 50;
/// Actors that have events at one time: few, so that events meet.
const HOT: u64 = 6;

/// Something that is polled when it asks for it.
enum Task {
    Event { actor: Actor, event: Event },
    Message { message: Rc<Message>, gate: Gate },
}

type Ready = Arc<Mutex<Vec<u64>>>;

struct Call {
    task: u64,
    ready: Ready,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.ready.lock().expect("nobody panics here").push(self.task);
    }
}

struct World {
    shared: Rc<Shared>,
    slots: Vec<Option<Actor>>,
    tasks: BTreeMap<u64, Task>,
    ready: Ready,
    /// Actors of before, which are broken.
    gone: Vec<Actor>,
    first_hot: u64,
    durable: Lsn,
}

/// Whether the store goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    GoesOn,
    IsOver,
}

impl World {
    fn new(seed: u64, actors: u64, is_verbose: bool) -> Self {
        let actors = usize::try_from(actors).expect("there is memory for them");
        Self {
            shared: Shared::new(seed, actors, is_verbose),
            slots: vec![None; actors],
            tasks: BTreeMap::new(),
            ready: Ready::default(),
            gone: Vec::new(),
            first_hot: 0,
            durable: Lsn::ZERO,
        }
    }

    fn add(&mut self, task: Task) {
        let number = self.shared.next_number();
        self.tasks.insert(number, task);
        self.ready.lock().expect("nobody panics here").push(number);
    }

    /// One of the actors that have events now.
    fn some_index(&mut self) -> usize {
        let actors = self.slots.len() as u64;
        if self.shared.percent(2) {
            self.first_hot = self.shared.below(actors);
        }
        let index = (self.first_hot + self.shared.below(HOT)) % actors;
        usize::try_from(index).expect("an index")
    }

    /// An open actor; opens it where it is not, or is broken.
    fn actor(&mut self, index: usize) -> Option<Actor> {
        if let Some(actor) = &self.slots[index] {
            if actor.is_current() {
                return Some(actor.clone());
            }
            actor.check_broken();
            self.gone.extend(self.slots[index].take());
        }
        let shared = Rc::clone(&self.shared);
        let rooms = shared.running.borrow().as_ref().expect("open").rooms.clone();
        let object = match rooms.open_by_name(&name(index)) {
            Ok(object) => object,
            Err(error) => {
                shared.judge("opening an object", &error);
                return None;
            }
        };
        let recorder = Arc::new(Recorder::new(&shared.store(), shared.percent(70)));
        let options = StorageOptions { durability: Some(recorder.clone()), ..Default::default() };
        let storage = Storage::with_options(object, options);
        if let Some(error) = storage.broken() {
            shared.judge("opening a storage", &error);
            return None;
        }
        shared.count("activations");
        shared.models[index].borrow_mut().activate();
        let activation = shared.models[index].borrow().activation;
        let place = None;
        let actor = Actor { shared, storage, recorder, index, activation, place };
        actor.shared.check_actor(&actor);
        self.slots[index] = Some(actor.clone());
        Some(actor)
    }

    /// What comes behind every piece of an actor's code.
    fn after(&mut self, actor: &Actor) {
        let mut dropped = self.shared.dropped.take();
        dropped.retain(|(index, activation, _)| {
            let model = self.shared.models[*index].borrow();
            model.activation == *activation && !model.is_broken
        });
        // Numbers grow inwards.
        dropped.sort_unstable();
        for (index, _, number) in dropped {
            let mut model = self.shared.models[index].borrow_mut();
            if !model.runs(number) {
                continue;
            }
            let broke = model.drop_section(number);
            self.shared.count(if broke { "sections dropped" } else { "rolled back" });
        }
        let mut model = actor.model();
        if model.activation == actor.activation {
            let logged = actor.recorder.take();
            let before = model.last().lsn;
            model.end_poll(&logged);
            if model.last().lsn > before {
                self.shared.count("turns");
            }
            let last = model.last().lsn;
            model.settle(self.shared.durable().min(last));
        }
        drop(model);
        for (index, event) in self.shared.spawned.take() {
            assert_eq!(index, actor.index);
            self.add(Task::Event { actor: actor.clone(), event });
        }
        for message in self.shared.sent.take() {
            let gate = message.gate.clone();
            self.add(Task::Message { message, gate });
        }
    }

    /// Runs code of an actor, which may panic as planned.
    fn guarded<R>(&mut self, actor: &Actor, code: impl FnOnce() -> R) -> Option<R> {
        let ran = catch_unwind(AssertUnwindSafe(code));
        match ran {
            Ok(value) => {
                self.after(actor);
                Some(value)
            }
            Err(panic) if panic.is::<PlannedPanic>() => {
                actor.check_broken();
                self.after(actor);
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    fn poll_some(&mut self) -> bool {
        let mut ready = self.ready.lock().expect("nobody panics here");
        if ready.is_empty() {
            return false;
        }
        let place = self.shared.below(ready.len() as u64);
        let number = ready.swap_remove(usize::try_from(place).expect("an index"));
        drop(ready);
        let Some(task) = self.tasks.remove(&number) else { return true };
        let waker = Waker::from(Arc::new(Call { task: number, ready: Arc::clone(&self.ready) }));
        let context = &mut Context::from_waker(&waker);
        match task {
            Task::Event { actor, mut event } => {
                let polled = self.guarded(&actor, || event.as_mut().poll(context));
                if polled.is_some_and(|polled| polled.is_pending()) {
                    self.tasks.insert(number, Task::Event { actor, event });
                } else {
                    self.cancel(&actor, event);
                }
            }
            Task::Message { message, mut gate } => match Pin::new(&mut gate).poll(context) {
                Poll::Ready(said) => self.shared.arrived(&message, said),
                Poll::Pending => {
                    let durable = self.shared.durable();
                    let is_late = message.must_be_open(durable) && !self.shared.may_fail();
                    assert!(!is_late, "actor {}: a gate stays closed", message.index);
                    self.tasks.insert(number, Task::Message { message, gate });
                }
            },
        }
        true
    }

    fn cancel(&mut self, actor: &Actor, event: Event) {
        drop(event);
        self.after(actor);
    }

    fn cancel_some(&mut self) {
        let events = self.tasks.iter().filter(|(_, task)| matches!(task, Task::Event { .. }));
        let events: Vec<u64> = events.map(|(number, _)| *number).collect();
        if events.is_empty() {
            return;
        }
        let number = self.shared.chance.borrow_mut().pick(&events);
        let Some(Task::Event { actor, event }) = self.tasks.remove(&number) else { return };
        self.shared.count("cancellations");
        self.cancel(&actor, event);
    }

    fn spawn(&mut self) {
        let index = self.some_index();
        let Some(actor) = self.actor(index) else { return };
        let code = actor.clone();
        let new: Event = match self.shared.below(10) {
            0 => Box::pin(async move { drop(code.section(1, true).await) }),
            1 => Box::pin(async move { drop(code.section(1, false).await) }),
            _ => Box::pin(event(actor.clone(), actor.storage.run(code.act(0)))),
        };
        self.add(Task::Event { actor, event: new });
    }

    /// A call that is no part of an event.
    fn call(&mut self) {
        let index = self.some_index();
        let Some(actor) = self.actor(index) else { return };
        let (in_section, in_transaction) = {
            let model = actor.model();
            (model.is_in_section(), model.is_in_transaction())
        };
        let code = actor.clone();
        match self.shared.below(9) {
            0..=2 => self.shared.check_actor(&actor),
            3..=4 if in_transaction => {
                let said = actor.storage.put("late", "1").map_err(|error| error.code());
                assert_eq!(said, Err("storage.transaction"), "a write beside a transaction");
            }
            3..=4 => drop(self.guarded(&actor, || code.put())),
            5..=6 if in_section => {
                let said = actor.storage.enter(|| panic!("code runs beside a section"));
                let said: Result<(), _> = said.map_err(|error| error.code());
                assert_eq!(said, Err("gate.closed"));
            }
            5 => drop(self.guarded(&actor, || code.enter(0))),
            6 => drop(self.guarded(&actor, || code.transaction(0))),
            7 => drop(self.guarded(&actor, || code.send(false))),
            _ if self.shared.percent(10) => drop(self.guarded(&actor, || code.abort())),
            _ => {}
        }
        if let Some(actor) = self.gone.last() {
            actor.check_broken();
        }
    }

    /// Lets go of an actor that has nothing to do.
    fn evict(&mut self) {
        let index = self.some_index();
        let is_of = |task: &Task| matches!(task, Task::Event { actor, .. } if actor.index == index);
        if self.tasks.values().any(is_of) || self.slots[index].is_none() {
            return;
        }
        self.slots[index] = None;
        self.gone.retain(|actor| actor.index != index);
        let mut model = self.shared.models[index].borrow_mut();
        if !model.is_broken {
            model.break_object();
        }
    }

    /// All sections have run for too long.
    fn pass_time(&mut self) {
        self.shared.disk.borrow().advance(Duration::from_secs(31));
        self.shared.store().steps().tick();
        for index in 0..self.slots.len() {
            let mut model = self.shared.models[index].borrow_mut();
            if model.is_in_section() && !model.is_broken {
                model.break_object();
                self.shared.count("sections too long");
            }
        }
    }

    fn step(&mut self) -> Life {
        let store = self.shared.store();
        let steps = store.steps();
        let done = match self.shared.below(100) {
            0..=69 => steps.write_group(),
            70..=79 => steps.checkpoint(),
            80..=85 => steps.write_mark(),
            86..=90 => steps.clean(),
            91..=95 => steps.merge(),
            96..=97 => steps.prepare_file().map(|()| true),
            _ => steps.remove_retired().map(|_| true),
        };
        let Err(error) = done else { return Life::GoesOn };
        self.shared.judge("a step", &error);
        let is_poisoned = error.kind() == ErrorKind::Poisoned;
        if is_poisoned {
            self.shared.count("poisoned");
        }
        if is_poisoned || self.shared.is_off() { Life::IsOver } else { Life::GoesOn }
    }

    fn act(&mut self) -> Life {
        match self.shared.below(1_000) {
            0..=139 => self.spawn(),
            140..=809 => drop(self.poll_some()),
            810..=824 => self.cancel_some(),
            825..=899 => self.call(),
            900..=919 => self.evict(),
            920 => self.pass_time(),
            921..=922 => {
                let number = self.tasks.keys().next().copied();
                self.wait(number);
            }
            923..=960 => return self.step(),
            _ => {}
        }
        if self.shared.is_off() { Life::IsOver } else { Life::GoesOn }
    }

    /// Blocks until a message has left.
    fn wait(&mut self, number: Option<u64>) {
        let Some(Task::Message { message, gate }) = number.and_then(|at| self.tasks.get(&at))
        else {
            return;
        };
        let is_open =
            message.fate.as_ref().is_some_and(|fate| fate.get() == super::actors_model::Fate::Open);
        if !is_open {
            self.shared.arrived(message, gate.wait());
        }
    }

    /// Lets everything come to its end.
    fn settle(&mut self) -> Life {
        for _ in 0..1_000 {
            while self.poll_some() {}
            let wrote = match self.shared.store().steps().write_group() {
                Ok(wrote) => wrote,
                Err(error) => {
                    self.shared.judge("a group", &error);
                    return Life::IsOver;
                }
            };
            let is_over = self.ready.lock().expect("nobody panics here").is_empty();
            if is_over && !wrote {
                break;
            }
        }
        if self.shared.may_fail() {
            return Life::GoesOn;
        }
        if let Some(task) = self.tasks.values().next() {
            match task {
                Task::Event { actor, .. } => panic!("actor {}: never woken", actor.index),
                Task::Message { message, .. } => {
                    panic!("actor {}: a gate never opens: {:?}", message.index, message.gate)
                }
            }
        }
        Life::GoesOn
    }

    /// One life of the store, until something ends it.
    fn live(&mut self) {
        // Many actors need a longer life each to meet.
        let scale = (self.slots.len() as u64 / ACTORS).max(1);
        if self.shared.percent(50) {
            let calls = self.shared.below(400 * scale);
            self.shared.disk.borrow().crash_after(calls);
        }
        let bad_from =
            if self.shared.percent(50) { self.shared.below(2_000 * scale) } else { u64::MAX };
        let length = (500 + self.shared.below(2_000)) * scale + self.slots.len() as u64;
        for step in 0..length {
            if step == bad_from {
                self.shared.set_faults(true);
            }
            if self.act() == Life::IsOver {
                return;
            }
        }
        if self.shared.percent(60) {
            self.settle();
        }
    }

    /// The machine, or the process alone, ends; then the store is opened again.
    fn crash(&mut self) {
        let shared = Rc::clone(&self.shared);
        // Whoever looks now sees what has left.
        for task in self.tasks.values() {
            if let Task::Message { message, gate } = task
                && let Some(said) = gate.state()
            {
                shared.arrived(message, said);
            }
        }
        self.durable = self.durable.max(shared.durable());
        shared.count("crashes");
        let is_tidy = shared.percent(50);
        if is_tidy {
            self.let_go();
        }
        let disk = shared.disk.borrow().clone();
        let cut = shared.percent(70);
        shared.note(format_args!("{}", if cut { "power cut" } else { "kill" }));
        shared.disk.replace(if cut { disk.power_cut() } else { disk.kill() });
        shared.had_faults.set(true);
        self.let_go();
        shared.running.replace(None);
        for model in &shared.models {
            model.borrow_mut().break_object();
        }
        shared.open(self.durable);
    }

    fn let_go(&mut self) {
        self.tasks.clear();
        self.gone.clear();
        self.slots.fill(None);
        self.shared.dropped.take();
        self.shared.sent.take();
        self.shared.spawned.take();
        self.ready.lock().expect("nobody panics here").clear();
    }

    fn run(&mut self) {
        self.shared.open(Lsn::ZERO);
        for life in 0..6 {
            self.shared.note(format_args!("life {life}"));
            self.live();
            self.crash();
        }
        // Nothing disturbs it any more.
        for _ in 0..500 {
            assert!(self.act() == Life::GoesOn, "it ends");
        }
        assert!(self.settle() == Life::GoesOn, "it ends");
    }
}

/// Runs one seed: what it reached and its trace, or what is wrong.
fn run_seed(seed: u64, actors: u64, is_verbose: bool) -> Result<(Counts, u64), String> {
    let mut world = World::new(seed, actors, is_verbose);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let Err(panic) = ran else {
        let trace = world.shared.disk.borrow().trace();
        return Ok((world.shared.counts.take(), trace));
    };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let story = world.shared.story();
    // Its parts are in the middle of something.
    std::mem::forget(world);
    Err(format!("seed {seed}: {}\n{story}", text.unwrap_or_default()))
}

/// Runs seeds on every core until all are done or one is wrong.
fn campaign(first: u64, seeds: u64, actors: u64) -> Result<Counts, String> {
    let next = AtomicU64::new(first);
    let total = Mutex::new((Counts::new(), BTreeMap::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = total.lock().is_ok_and(|total| !total.1.is_empty());
                    if seed >= first + seeds || is_over {
                        break;
                    }
                    let ran = run_seed(seed, actors, false).and_then(|ran| {
                        let again = seed.is_multiple_of(TWICE_EVERY);
                        if again && run_seed(seed, actors, false)?.1 != ran.1 {
                            return Err(format!("seed {seed} runs differently the second time"));
                        }
                        Ok(ran.0)
                    });
                    let mut total = total.lock().expect("no thread panics");
                    match ran {
                        Ok(counts) => {
                            for (what, count) in counts {
                                *total.0.entry(what).or_default() += count;
                            }
                        }
                        Err(wrong) => drop(total.1.insert(seed, wrong)),
                    }
                }
            });
        }
    });
    let (counts, wrong) = total.into_inner().expect("no thread panics");
    // The lowest seed is told: it is the same one each time.
    wrong.into_values().next().map_or(Ok(counts), Err)
}

#[test]
fn actors_contradict_nothing_that_left_a_gate() {
    let actors = from_environment("DOSTORE_ACTORS").unwrap_or(ACTORS);
    let only = from_environment("DOSTORE_SEED");
    let seeds = from_environment("DOSTORE_SEEDS").unwrap_or(SEEDS);
    let first = from_environment("DOSTORE_FIRST_SEED").unwrap_or(0);
    let ran = match only {
        Some(seed) => run_seed(seed, actors, true).map(|ran| ran.0),
        None => campaign(first, seeds, actors),
    };
    let counts = ran.unwrap_or_else(|wrong| panic!("\n{wrong}"));
    println!("{seeds} seeds of {actors} actors");
    ledger::add(&Row {
        kind: "actors",
        seeds: only.map_or(format!("{seeds} from {first}"), |seed| format!("1 from {seed}")),
        crashes: counts.get("crashes").copied().unwrap_or(0),
        executions: if only.is_some() { 1 } else { seeds },
        ..Row::default()
    });
    for (what, count) in &counts {
        println!("  {count} {what}");
    }
    if only.is_none() && seeds >= CAMPAIGN {
        let missed: Vec<_> = REACHED.iter().filter(|what| !counts.contains_key(*what)).collect();
        assert!(missed.is_empty(), "never reached: {missed:?}");
    }
}

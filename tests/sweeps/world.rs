//! A small store, what was done to it, and what it may be after whatever happened.
//!
//! Invariants:
//!   * A commit that succeeded is the next state; one that failed is none, unless the store was
//!     poisoned meanwhile: then it may be.
//!   * What was waited for stays.

use crate::steps::Step;
use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind, Result};
use dostore::ids::Timestamp;
use dostore::inspect::verify;
use dostore::store::commit::Commit;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::restore::RestoreOptions;
use dostore::store::turn::Turn;
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

/// What an object holds.
type Held = (BTreeMap<Vec<u8>, Vec<u8>>, Option<Timestamp>);
/// What a store holds, by object.
type State = BTreeMap<usize, Held>;

const OBJECTS: usize = 4;
const TIME: u64 = 4_000_000_000_000_000;

pub fn options() -> Options {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(0);
    let options = options.epoch(Duration::from_secs(1), 1 << 10, Duration::from_hours(1));
    options.segment_bytes(16 << 10).page_bytes(512).retire_after(Duration::ZERO)
}

fn name(object: usize) -> String {
    format!("object {object}")
}

pub struct World {
    pub disk: SimDisk,
    store: Option<Store>,
    /// By commit, the first what there was at the beginning.
    states: Vec<State>,
    /// Of which commit on everything is known to be durable.
    floor: usize,
    /// The first moment of an object that is kept, and what it held.
    first: BTreeMap<usize, (Bookmark, Held)>,
    commits: u64,
}

/// The machine on which every scenario begins.
pub fn base() -> World {
    static BASE: OnceLock<World> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let mut world = World {
            disk: SimDisk::new(1),
            store: None,
            states: vec![State::new()],
            floor: 0,
            first: BTreeMap::new(),
            commits: 0,
        };
        world.open().unwrap();
        let steps = [Step::Put(0), Step::PutMany(1), Step::Alarm(2), Step::Checkpoint];
        let more = [Step::Put(0), Step::Put(1), Step::DeleteKey(1), Step::Checkpoint];
        let tail = [Step::Put(2), Step::Put(0), Step::Wait];
        for step in steps.into_iter().chain(more).chain(tail) {
            world.act(step).unwrap();
            world.disk.advance(Duration::from_secs(2));
        }
        world.store = None;
        world.disk = world.disk.kill();
        world
    });
    base.fork()
}

impl World {
    /// The same on a machine of its own, with the store not open.
    pub fn fork(&self) -> Self {
        let (states, first) = (self.states.clone(), self.first.clone());
        let (floor, commits, disk) = (self.floor, self.commits, self.disk.fork());
        Self { disk, store: None, states, floor, first, commits }
    }

    /// What decides whether a disk is right: how much must be there, and how much may.
    pub fn range(&self) -> (usize, usize) {
        (self.floor, self.states.len())
    }

    pub fn open(&mut self) -> Result<()> {
        self.store = Some(options().open_on(self.disk.clone())?);
        self.rooms().map(drop)
    }

    pub fn drop_store(&mut self) {
        self.store = None;
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn rooms(&self) -> Result<Namespace> {
        self.store().namespace("rooms")
    }

    fn state(&self) -> State {
        self.states.last().cloned().unwrap_or_default()
    }

    /// Notes a commit, and what it made of an object.
    fn note(&mut self, object: usize, held: Held, done: Result<Commit>) -> Result<Option<Commit>> {
        let is_possible = match &done {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::Poisoned,
        };
        if is_possible {
            let mut state = self.state();
            state.insert(object, held);
            self.states.push(state);
        }
        done.map(Some)
    }

    /// A turn that changes an object.
    fn change(
        &mut self,
        object: usize,
        change: impl FnOnce(&mut Turn<'_>, &mut Held) -> Result<()>,
    ) -> Result<Option<Commit>> {
        let mut handle = self.rooms()?.open_by_name(&name(object))?;
        let mut held = self.state().remove(&object).unwrap_or_default();
        let mut turn = handle.turn();
        change(&mut turn, &mut held)?;
        let done = turn.commit();
        let bookmark = done.as_ref().ok().map(Commit::bookmark);
        drop(handle);
        if let Some(bookmark) = bookmark {
            self.first.entry(object).or_insert((bookmark, held.clone()));
        }
        self.note(object, held, done)
    }

    fn put(&mut self, object: usize, keys: u64, bytes: usize) -> Result<Option<Commit>> {
        self.commits += 1;
        let value = format!("{} of {object} ", self.commits).repeat(1 + bytes / 8).into_bytes();
        let first = self.commits % 3;
        self.change(object, |turn, held| {
            for key in first..first + keys {
                let key = format!("key {key:03}").into_bytes();
                turn.put(&key, &value)?;
                held.0.insert(key, value.clone());
            }
            Ok(())
        })
    }

    /// A step. What it committed is noted.
    pub fn act(&mut self, step: Step) -> Result<()> {
        let ran = match step {
            Step::Put(object) => self.put(object, 1, 8),
            Step::PutLarge(object) => self.put(object, 1, 6_000),
            Step::PutMany(object) => self.put(object, 40, 60),
            Step::Savepoint(_)
            | Step::DeleteKey(_)
            | Step::DeleteAll(_)
            | Step::Alarm(_)
            | Step::ClearAlarm(_) => self.change_one(step),
            Step::Remove(_) | Step::Purge(_) | Step::Restore(_) | Step::Fork(..) => {
                self.replace(step)
            }
            _ => return self.tend(step),
        };
        ran.map(drop)
    }

    fn change_one(&mut self, step: Step) -> Result<Option<Commit>> {
        match step {
            Step::Savepoint(object) => self.change(object, |turn, held| {
                turn.put("kept", "yes")?;
                held.0.insert(b"kept".to_vec(), b"yes".to_vec());
                // Dropped, it is rolled back.
                turn.savepoint().put("given up", "no").map(drop)
            }),
            Step::DeleteKey(object) => self.change(object, |turn, held| {
                let key = held.0.keys().next().cloned().unwrap_or_default();
                turn.delete(&key)?;
                held.0.remove(&key);
                Ok(())
            }),
            Step::DeleteAll(object) => self.change(object, |turn, held| {
                turn.delete_all()?;
                *held = Held::default();
                Ok(())
            }),
            Step::Alarm(object) => self.change(object, |turn, held| {
                turn.set_alarm(Timestamp(TIME))?;
                held.1 = Some(Timestamp(TIME));
                Ok(())
            }),
            Step::ClearAlarm(object) => self.change(object, |turn, held| {
                turn.clear_alarm()?;
                held.1 = None;
                Ok(())
            }),
            _ => Ok(None),
        }
    }

    fn replace(&mut self, step: Step) -> Result<Option<Commit>> {
        let rooms = self.rooms()?;
        let id = |object: usize| rooms.id_from_name(&name(object));
        match step {
            Step::Remove(object) => {
                let done = rooms.delete(id(object));
                self.note(object, Held::default(), done)
            }
            Step::Purge(object) => {
                let done = rooms.purge(id(object));
                self.note(object, Held::default(), done)
            }
            Step::Restore(object) => {
                let (bookmark, then) = self.first[&object].clone();
                let done = rooms.restore(id(object), &bookmark).map(|restored| restored.commit);
                // Alarms stay as they are.
                let alarm = self.state().remove(&object).unwrap_or_default().1;
                self.note(object, (then.0, alarm), done)
            }
            Step::Fork(object, to) => {
                let (bookmark, then) = self.first[&object].clone();
                let options = RestoreOptions::new();
                let done = rooms.fork_by_name(id(object), &bookmark, &rooms, &name(to), options);
                self.note(to, (then.0, None), done)
            }
            _ => Ok(None),
        }
    }

    fn tend(&mut self, step: Step) -> Result<()> {
        let issued = self.states.len() - 1;
        let steps = self.store().steps();
        match step {
            Step::Wait => {
                while steps.write_group()? {}
                self.floor = issued;
            }
            Step::Group => drop(steps.write_group()?),
            Step::Mark => drop(steps.write_mark()?),
            Step::Checkpoint => drop(steps.checkpoint()?),
            Step::Clean => drop(steps.clean()?),
            Step::Merge => drop(steps.merge()?),
            Step::Expire => drop(steps.expire()?),
            Step::Erase => drop(steps.erase()?),
            Step::Prepare => steps.prepare_file()?,
            Step::Retired => drop(steps.remove_retired()?),
            Step::Namespace => drop(self.store().namespace("more")?),
            Step::Reopen => {
                let store = self.store.take().expect("the store is open");
                store.close()?;
                self.floor = issued;
                self.open()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// All steps, until one fails for good. Whether the machine still has its store.
    pub fn run(&mut self, steps: &[Step]) -> std::result::Result<(), String> {
        if let Err(error) = self.open() {
            return allowed("opening", &error);
        }
        for step in steps {
            let Err(error) = self.act(*step) else { continue };
            allowed(&format!("{step:?}"), &error)?;
            if error.kind() == ErrorKind::Poisoned || self.disk.is_off() || self.store.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// What the store holds now.
    fn found(&self) -> Result<State> {
        let rooms = self.rooms()?;
        let mut state = State::new();
        for object in 0..OBJECTS {
            let snapshot = rooms.snapshot(rooms.id_from_name(&name(object)))?;
            let mut keys = BTreeMap::new();
            for entry in snapshot.list(ListOptions::new())? {
                let (key, value) = entry?;
                keys.insert(key.to_vec(), value.to_vec());
            }
            let held = (keys, snapshot.alarm()?);
            if held != Held::default() {
                state.insert(object, held);
            }
        }
        Ok(state)
    }

    /// Opens the store undisturbed: it is as of one of its commits, not before any that was waited
    /// for, and goes on.
    pub fn check(&mut self) -> std::result::Result<(), String> {
        let told = |what: &str, error: &Error| format!("{what}: {error:?}");
        self.open().map_err(|error| told("the store does not open", &error))?;
        let found = self.found().map_err(|error| told("a read", &error))?;
        let held = |state: &State| {
            let held = |(_, held): &(&usize, &Held)| **held != Held::default();
            state.iter().filter(held).map(|(at, held)| (*at, held.clone())).collect::<State>()
        };
        let at = (self.floor..self.states.len()).rfind(|at| held(&self.states[*at]) == found);
        let Some(at) = at else {
            let (floor, last) = (self.floor, self.states.len() - 1);
            return Err(format!("the store is at none of the commits {floor} to {last}"));
        };
        self.states.truncate(at + 1);
        self.floor = at;
        let report = verify(self.disk.fork());
        if !report.is_clean() {
            return Err(format!("verify says {report}"));
        }
        self.put(0, 1, 8).map_err(|error| told("a put", &error))?;
        self.tend(Step::Wait).map_err(|error| told("a wait", &error))?;
        self.drop_store();
        Ok(())
    }
}

/// Whether an error is one that a failing disk explains.
pub fn allowed(what: &str, error: &Error) -> std::result::Result<(), String> {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Full | ErrorKind::Poisoned => Ok(()),
        // The medium gave nothing back.
        ErrorKind::Corrupt if error.code().ends_with(".unreadable") => Ok(()),
        _ => Err(format!("{what}: {error:?}")),
    }
}

//! A small store, what was done to it, and what it may be after whatever happened.
//!
//! Invariants:
//!   * A commit that succeeded is the next state; one that failed is none, unless the store was
//!     poisoned meanwhile: then it may be.
//!   * What was waited for stays, and so does what the store itself called durable.

use crate::steps::Step;
use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind, Result};
use dostore::ids::{Lsn, Timestamp};
use dostore::inspect::verify;
use dostore::store::commit::Commit;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::restore::RestoreOptions;
use dostore::store::snapshot::Snapshot;
use dostore::store::turn::Turn;
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What went wrong is told in words.
pub type Told<T> = std::result::Result<T, String>;
pub type Keys = BTreeMap<Vec<u8>, Vec<u8>>;
/// What an object holds.
pub type Held = (Keys, Option<Timestamp>);
/// What a store holds, by object; only of those that hold something.
pub type State = BTreeMap<usize, Arc<Held>>;

pub const OBJECTS: usize = 4;
const TIME: u64 = 4_000_000_000_000_000;

pub fn options() -> Options {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(0);
    let options = options.epoch(Duration::from_secs(1), 1 << 10, Duration::from_hours(1));
    options.segment_bytes(16 << 10).page_bytes(512).retire_after(Duration::ZERO)
}

pub fn name(object: usize) -> String {
    format!("object {object}")
}

/// A commit of an object, as a moment to come back to.
#[derive(Clone, Debug)]
pub struct Past {
    pub object: usize,
    pub bookmark: Bookmark,
    /// Of the state that it made.
    pub index: usize,
    /// Nothing before it can be read.
    pub is_purge: bool,
}

pub struct World {
    pub disk: SimDisk,
    pub options: Options,
    store: Option<Store>,
    /// The same store, while it is open, for whoever asks in the middle of a step.
    pub shown: Arc<Mutex<Option<Store>>>,
    /// By commit, the first what there was at the beginning; each with its LSN.
    pub states: Vec<(Lsn, State)>,
    /// Of which commit on everything is known to be durable.
    pub floor: usize,
    pub pasts: Vec<Past>,
    commits: u64,
    /// The last commit that was noted, for whoever wants to know when it is durable.
    pub last: Option<Commit>,
}

/// The machine on which every scenario begins.
pub fn base() -> World {
    static BASE: OnceLock<World> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let mut world = World::on(SimDisk::new(1), options());
        world.open().unwrap();
        let steps = [Step::Put(0), Step::PutMany(1), Step::Alarm(2), Step::Checkpoint];
        let more = [Step::Put(0), Step::Put(1), Step::DeleteKey(1), Step::Checkpoint];
        let tail = [Step::Put(2), Step::Put(0), Step::Wait];
        for step in steps.into_iter().chain(more).chain(tail) {
            world.act(step).unwrap();
            world.disk.advance(Duration::from_secs(2));
        }
        world.drop_store();
        world.disk = world.disk.kill();
        world
    });
    base.fork()
}

impl World {
    /// One in which nothing was done yet.
    pub fn on(disk: SimDisk, options: Options) -> Self {
        let states = vec![(Lsn::ZERO, State::new())];
        let pasts = Vec::new();
        let (floor, commits, store, last) = (0, 0, None, None);
        let shown = Arc::default();
        Self { disk, options, store, shown, states, floor, pasts, commits, last }
    }

    /// The same on a machine of its own, with the store not open.
    pub fn fork(&self) -> Self {
        let (states, pasts) = (self.states.clone(), self.pasts.clone());
        let (disk, options) = (self.disk.fork(), self.options.clone());
        let (floor, commits) = (self.floor, self.commits);
        Self { states, floor, pasts, commits, ..Self::on(disk, options) }
    }

    /// What decides whether a disk is right: how much must be there, and how much may.
    pub fn range(&self) -> Range<usize> {
        self.floor..self.states.len()
    }

    pub fn open(&mut self) -> Result<()> {
        let store = self.options.clone().open_on(self.disk.clone())?;
        *self.shown.lock().unwrap() = Some(store.clone());
        self.store = Some(store);
        self.rooms().map(drop)
    }

    pub fn drop_store(&mut self) {
        self.let_go();
        self.store = None;
    }

    /// Who waits for a commit keeps the store open, and so does who asks it.
    fn let_go(&mut self) {
        *self.shown.lock().unwrap() = None;
        self.last = None;
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn rooms(&self) -> Result<Namespace> {
        self.store().namespace("rooms")
    }

    pub fn state(&self) -> State {
        self.states.last().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    pub fn held(&self, object: usize) -> Held {
        self.state().remove(&object).map(Arc::unwrap_or_clone).unwrap_or_default()
    }

    /// Notes a commit, and what it made of an object.
    fn note(&mut self, object: usize, held: Held, done: Result<Commit>) -> Result<()> {
        let last = self.states.last().map_or(Lsn::ZERO, |(lsn, _)| *lsn);
        let bookmark = done.as_ref().ok().map(Commit::bookmark);
        let lsn = match (&done, &bookmark) {
            // One that changed nothing is as of a commit that is known.
            (_, Some(bookmark)) if bookmark.lsn() <= last => return Ok(()),
            (_, Some(bookmark)) => bookmark.lsn(),
            (Err(error), _) if error.kind() == ErrorKind::Poisoned => Lsn(last.0 + 1),
            _ => return done.map(drop),
        };
        let mut state = self.state();
        if held == Held::default() {
            state.remove(&object);
        } else {
            state.insert(object, Arc::new(held));
        }
        let index = self.states.len();
        self.states.push((lsn, state));
        self.last = Some(done?);
        let past = bookmark.map(|bookmark| Past { object, bookmark, index, is_purge: false });
        self.pasts.extend(past);
        Ok(())
    }

    /// The moments of an object that can be read, the oldest first.
    pub fn readable(&self, object: usize) -> impl Iterator<Item = &Past> {
        let purge = self.pasts.iter().rposition(|past| past.object == object && past.is_purge);
        let from = purge.unwrap_or(0);
        self.pasts[from..].iter().filter(move |past| past.object == object)
    }

    /// A moment of an object, and what it held then.
    pub fn then(&self, past: &Past) -> Held {
        self.states[past.index].1.get(&past.object).map(|held| (**held).clone()).unwrap_or_default()
    }

    /// Why a moment must be refused, if it must, once the store is as of commit `at`; `from` is
    /// the first moment that the namespace says it can read.
    pub fn refusal(&self, past: &Past, at: usize, from: Option<Lsn>) -> Option<&'static str> {
        let known = self.pasts.iter().filter(|it| it.object == past.object && it.index <= at);
        let last = known.clone().next_back().map_or(Lsn::ZERO, |last| last.bookmark.lsn());
        let purged = known.rev().find(|it| it.is_purge).map_or(Lsn::ZERO, |it| it.bookmark.lsn());
        match (past.bookmark.lsn(), from) {
            (lsn, _) if lsn >= last => None,
            (_, None) => Some("history.off"),
            (lsn, Some(from)) if lsn < from => Some("history.expired"),
            (lsn, Some(_)) if lsn < purged => Some("history.purged"),
            _ => None,
        }
    }

    /// Values from now on differ from those of another world.
    pub fn begin_counting_at(&mut self, first: u64) {
        self.commits = first;
    }

    /// A turn that changes an object.
    fn change(
        &mut self,
        object: usize,
        change: impl FnOnce(&mut Turn<'_>, &mut Held) -> Result<()>,
    ) -> Result<()> {
        let mut handle = self.rooms()?.open_by_name(&name(object))?;
        let mut held = self.held(object);
        let mut turn = handle.turn();
        change(&mut turn, &mut held)?;
        let done = turn.commit();
        drop(handle);
        self.note(object, held, done)
    }

    pub fn put(&mut self, object: usize, keys: u64, bytes: usize) -> Result<()> {
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
        match step {
            Step::Put(object) => self.put(object, 1, 8),
            Step::PutLarge(object) => self.put(object, 1, 6_000),
            Step::PutMany(object) => self.put(object, 40, 60),
            Step::Savepoint(_)
            | Step::DeleteKey(_)
            | Step::DeleteRange(_)
            | Step::DeleteAll(_)
            | Step::Alarm(_)
            | Step::ClearAlarm(_) => self.change_one(step),
            Step::Remove(_) | Step::Purge(_) => self.end_one(step),
            Step::Restore(object) | Step::Fork(object, _) => {
                let Some(past) = self.readable(object).next().cloned() else { return Ok(()) };
                match step {
                    Step::Fork(_, to) => self.fork_to(&past, to),
                    _ => self.restore(&past),
                }
            }
            _ => self.tend(step),
        }
    }

    fn change_one(&mut self, step: Step) -> Result<()> {
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
            Step::DeleteRange(object) => self.change(object, |turn, held| {
                let (start, end) = (b"key 001".to_vec(), b"key 020".to_vec());
                turn.delete_range(start.clone()..end.clone())?;
                held.0.retain(|key, _| *key < start || *key >= end);
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
            _ => Ok(()),
        }
    }

    fn end_one(&mut self, step: Step) -> Result<()> {
        let rooms = self.rooms()?;
        let id = |object: usize| rooms.id_from_name(&name(object));
        match step {
            Step::Remove(object) => {
                let done = rooms.delete(id(object));
                self.note(object, Held::default(), done)
            }
            Step::Purge(object) => {
                let before = self.pasts.len();
                let done = rooms.purge(id(object));
                let noted = self.note(object, Held::default(), done);
                for past in &mut self.pasts[before..] {
                    past.is_purge = true;
                }
                noted
            }
            _ => Ok(()),
        }
    }

    /// An object becomes what it was.
    pub fn restore(&mut self, past: &Past) -> Result<()> {
        let (rooms, object) = (self.rooms()?, past.object);
        let id = rooms.id_from_name(&name(object));
        let done = rooms.restore(id, &past.bookmark).map(|restored| restored.commit);
        // Alarms stay as they are.
        let held = (self.then(past).0, self.held(object).1);
        self.note(object, held, done)
    }

    /// Another object becomes what this one was.
    pub fn fork_to(&mut self, past: &Past, to: usize) -> Result<()> {
        let rooms = self.rooms()?;
        let (id, options) = (rooms.id_from_name(&name(past.object)), RestoreOptions::new());
        let done = rooms.fork_by_name(id, &past.bookmark, &rooms, &name(to), options);
        self.note(to, (self.then(past).0, None), done)
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
            Step::Scrub => drop(self.store().scrub()?),
            Step::Namespace => drop(self.store().namespace("more")?),
            Step::Time => self.disk.advance(Duration::from_secs(40)),
            Step::Reopen => {
                self.let_go();
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
    pub fn run(&mut self, steps: &[Step]) -> Told<()> {
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

    /// Opens the store undisturbed: it is as of one of its commits, not before any that was waited
    /// for, and goes on.
    pub fn check(&mut self) -> Told<()> {
        let told = |what: &str, error: &Error| format!("{what}: {error:?}");
        self.open().map_err(|error| told("the store does not open", &error))?;
        let (_, at) = self.place_of(self.store(), self.range())?;
        self.go_back_to(at);
        check_whole(&self.disk)?;
        self.put(0, 1, 8).map_err(|error| told("a put", &error))?;
        self.tend(Step::Wait).map_err(|error| told("a wait", &error))?;
        self.drop_store();
        Ok(())
    }

    /// At which of these commits a store is: the first and the last that made it what it is.
    pub fn place_of(&self, store: &Store, mut range: Range<usize>) -> Told<(usize, usize)> {
        let found = found(store).map_err(|error| format!("a read: {error:?}"))?;
        let told = format!("the store is at none of the commits {range:?}");
        let is_it = |at: &usize| self.states[*at].1 == found;
        let last = range.clone().rfind(is_it).ok_or(told)?;
        Ok((range.find(is_it).unwrap_or(last), last))
    }

    /// Whether what is left of a machine is one of these commits, whole, and goes on.
    pub fn check_left(&self, disk: &SimDisk, range: Range<usize>) -> Told<()> {
        let store = self.open_left(disk)?;
        self.place_of(&store, range)?;
        check_whole(disk)?;
        go_on(&store)
    }

    pub fn open_left(&self, disk: &SimDisk) -> Told<Store> {
        let opened = self.options.clone().open_on(disk.clone());
        opened.map_err(|error| format!("the store does not open: {error:?}"))
    }

    /// What was committed behind this one is gone, and it stays.
    pub fn go_back_to(&mut self, at: usize) {
        self.states.truncate(at + 1);
        self.pasts.retain(|past| past.index <= at);
        self.floor = at;
    }
}

pub fn check_whole(disk: &SimDisk) -> Told<()> {
    let report = verify(disk.fork());
    if report.is_clean() { Ok(()) } else { Err(format!("verify says {report}")) }
}

/// One more commit, waited for.
pub fn go_on(store: &Store) -> Told<()> {
    let rooms = store.namespace("rooms");
    let put = rooms.and_then(|rooms| rooms.open_by_name(&name(0))?.put("after", "it"));
    let waited = put.and_then(Commit::wait);
    waited.map(drop).map_err(|error| format!("a put: {error:?}"))
}

/// What an object holds in a snapshot.
pub fn keys_of(snapshot: &Snapshot) -> Result<Keys> {
    let entries = snapshot.list(ListOptions::new())?;
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

/// What a store holds now.
fn found(store: &Store) -> Result<State> {
    let rooms = store.namespace("rooms")?;
    let mut state = State::new();
    for object in 0..OBJECTS {
        let snapshot = rooms.snapshot(rooms.id_from_name(&name(object)))?;
        let held = (keys_of(&snapshot)?, snapshot.alarm()?);
        if held != Held::default() {
            state.insert(object, Arc::new(held));
        }
    }
    Ok(state)
}

/// Whether an error is one that a failing disk explains.
pub fn allowed(what: &str, error: &Error) -> Told<()> {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Full | ErrorKind::Poisoned => Ok(()),
        // The medium gave nothing back.
        ErrorKind::Corrupt if error.code().ends_with(".unreadable") => Ok(()),
        _ => Err(format!("{what}: {error:?}")),
    }
}

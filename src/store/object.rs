//! The one handle on an object that may change it.
//!
//! Invariants:
//!   * One handle at a time has the right to an object: the one whose fence is the object's.
//!   * Its reads see all that was committed through it, durable or not.

use super::Store;
use super::alarms::calls::{Chance, alarm_of, all_alarms, find_failure, times};
use super::alarms::{Fired, LastFailure};
use super::commit::{Commit, Position};
use super::draft::Draft;
use super::list::{Entries, ListOptions, range_bounds};
use super::objects::name_of;
use super::snapshot::Snapshot;
use super::transfer::check_finished;
use super::turn::Turn;
use super::value::{FullKey, Value};
use crate::alarm::Alarm;
use crate::bookmark::Bookmark;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::alarm::alarm_key;
use crate::format::own_keys::NAME_KEY;
use crate::format::record::Operation;
use crate::ids::{Address, Codec, Lsn, ObjectId, Timestamp};
use crate::limits::Limits;
use crate::object::overlay::Found;
use crate::object::range::RangeIter;
use crate::object::state::HeadState;
use crate::object::write_set::WriteSet;
use crate::object::{Inner, InnerGuard, ObjectState, View};
use std::ops::RangeBounds;
use std::sync::Arc;

/// An open object. There is one at a time; it may move between threads.
///
/// Its reads see everything committed through it, durable or not: whoever lets what it read leave
/// the process must wait first ([`Object::sync`]). Dropping it lets the object go; what was
/// committed stays, and becomes durable as if it were held.
///
/// Once the object was deleted, purged, restored or changed from outside this handle, calls on what
/// it is now fail with `handle.fenced`, kind `Broken`: open it again. A read of a page that is in
/// memory makes no system call; the first one of an object costs a read of that page from its file.
///
/// See [`Store`] for an example.
#[derive(Debug)]
#[repr(C)]
pub struct Object {
    /// Keeps the store's threads running for as long as commits may come.
    store: Store,
    state: Arc<ObjectState>,
    fence: u64,
    id: ObjectId,
    name: Option<String>,
}

impl Object {
    pub(crate) fn open(
        store: Store,
        address: Address,
        id: ObjectId,
        name: Option<&str>,
    ) -> Result<Self> {
        let mut object = Self::open_if(store, address, id, name, |engine, inner| {
            let version = || engine.version();
            check_finished(inner.ask(address, version, HeadState::unfinished)?)
        })?;
        object.restore_if_wanted()?;
        Ok(object)
    }

    /// The same, also where an import was not completed. A restoration that waits for the next open
    /// goes on waiting: the import may yet leave the object as it is.
    pub(crate) fn open_to_import(
        store: Store,
        address: Address,
        id: ObjectId,
        name: Option<&str>,
    ) -> Result<Self> {
        Self::open_if(store, address, id, name, |_, _| Ok(()))
    }

    /// Opens an object if `check` lets it pass.
    fn open_if(
        store: Store,
        address: Address,
        id: ObjectId,
        name: Option<&str>,
        check: impl FnOnce(&Engine, &Inner) -> Result<()>,
    ) -> Result<Self> {
        let engine = store.engine();
        engine.check_alive()?;
        let (state, fence) = engine.with_object(address, |state, inner| {
            if inner.is_open {
                let what = "the object is open already; one handle at a time may change it";
                return Err(Error::new(ErrorKind::Busy, "object.open", what));
            }
            check(engine, inner)?;
            inner.is_open = true;
            Ok((Arc::clone(state), state.raise_fence(inner)))
        })?;
        let name = name.map(str::to_owned);
        Ok(Self { store, state, fence, id, name })
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The name it was opened by, if it was.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name that is kept with the object, whoever opened it and how: none where no commit was
    /// ever made under a name, or the object was purged since. May read a block of a run.
    pub fn stored_name(&self) -> Result<Option<String>> {
        name_of(&self.view()?)
    }

    fn engine(&self) -> &Engine {
        self.store.engine()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.engine().options.limits
    }

    /// Whether this handle may change the object that is in memory now.
    pub(super) fn check_right(&self, object: &Arc<ObjectState>) -> Result<()> {
        if Arc::ptr_eq(object, &self.state) && object.fence() == self.fence {
            return Ok(());
        }
        let what = "the object was deleted or restored from outside this handle; open it again";
        Err(Error::new(ErrorKind::Broken, "handle.fenced", what))
    }

    /// Whether the object was deleted, changed or restored from outside this handle.
    pub(crate) fn is_fenced(&self) -> bool {
        // What takes the right may yet come to nothing, for as long as it has the lock.
        self.state.fence() != self.fence && {
            let _inner = self.state.inner.lock();
            self.state.fence() != self.fence
        }
    }

    pub(super) fn wants_restore(&self) -> Result<bool> {
        self.ask(HeadState::restores)
    }

    /// The object's lock, as long as this handle has a right to it.
    fn inner(&self) -> Result<InnerGuard<'_>> {
        self.engine().check_alive()?;
        let inner = self.state.inner.lock();
        self.check_right(&self.state)?;
        Ok(inner)
    }

    /// The value of a key; none where it is not there. Memory only, once the page that may have it
    /// is loaded. The value is a slice of that page, and keeps it in memory.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.entry(&FullKey::user(key.as_ref()))
    }

    /// The value of an entry of any kind.
    pub(crate) fn entry(&self, full: &[u8]) -> Result<Option<Value>> {
        let mut inner = self.inner()?;
        let found = inner.find(self.state.address, full, || self.engine().version())?;
        Ok(match found {
            Some(Found::Value(codec, value)) => Some(Value::new(codec, value)),
            Some(Found::Deleted) | None => None,
        })
    }

    /// When the plain alarm was set for, if there is one.
    pub fn alarm(&self) -> Result<Option<Timestamp>> {
        Ok(self.plain_alarm()?.map(|alarm| alarm.time))
    }

    /// When the alarm of this name was set for, if there is one.
    pub fn named_alarm(&self, name: &str) -> Result<Option<Timestamp>> {
        let value = self.entry(&alarm_key(name))?;
        value.map(|value| alarm_of(&value).map(|alarm| alarm.time)).transpose()
    }

    /// Every alarm and when it was set for: the plain one first, which has no name, then by name.
    pub fn alarms(&self) -> Result<Vec<(Option<String>, Timestamp)>> {
        all_alarms(self.view()?).map(times)
    }

    /// What is kept of the alarm, none for the plain one, when it was last abandoned.
    pub fn last_failure(&self, name: Option<&str>) -> Result<Option<LastFailure>> {
        find_failure(&self.view()?, name)
    }

    pub(crate) fn plain_alarm(&self) -> Result<Option<Alarm>> {
        self.ask(HeadState::alarm)
    }

    /// Something that the object's head says.
    fn ask<T>(&self, what: fn(&HeadState) -> Option<T>) -> Result<T> {
        self.inner()?.ask(self.state.address, || self.engine().version(), what)
    }

    /// What a decision over a retry needs from the machine.
    pub(crate) fn chance(&self) -> Result<Chance> {
        let mut random = [0; 8];
        let drawn = self.engine().disk.random(&mut random);
        drawn.map_err(|cause| Error::io("drawing a delay", cause))?;
        let now = Timestamp(self.engine().clock.wall_micros());
        Ok(Chance { now, random: u64::from_le_bytes(random) })
    }

    /// That an alarm which fired is of this object.
    pub(crate) fn check_fired(&self, fired: &Fired) -> Result<()> {
        if fired.address() == self.state.address {
            return Ok(());
        }
        Err(Error::invalid("alarm.object", "the alarm that fired is of another object"))
    }

    /// A generation that no setting of an alarm of this object ever had: the last commit, for a
    /// setting before it had an earlier one. An object that was deleted may have forgotten its
    /// last commit, but not so the store.
    pub(crate) fn next_generation(&self) -> Result<Lsn> {
        let last = self.inner()?.state().last_lsn;
        Ok(if last == Lsn::ZERO { self.engine().wal.last_lsn() } else { last })
    }

    /// Keys and values as of now; what is committed later does not show. Fails with `list.limit` or
    /// `list.start` for options that contradict each other.
    pub fn list(&self, options: ListOptions) -> Result<Entries> {
        let bounds = options.bounds()?;
        Ok(options.entries(RangeIter::new(self.view()?, None, bounds)))
    }

    /// Keys and values in a range of keys, as of now.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Entries> {
        let iter = RangeIter::new(self.view()?, None, range_bounds(&range));
        Ok(ListOptions::new().entries(iter))
    }

    pub(crate) fn view(&self) -> Result<View> {
        let inner = self.inner()?;
        Ok(View::of_inner(self.state.address, &inner, || self.engine().version()))
    }

    /// The object as of now, fixed, once it is durable: blocks until then. Copies nothing.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::durable(self.engine(), self.view()?)
    }

    /// The object as of now, fixed, durable or not: a crash may take back what it shows.
    pub fn snapshot_unconfirmed(&self) -> Result<Snapshot> {
        Ok(Snapshot::new(self.view()?))
    }

    /// Begins a turn, which borrows the object until it is committed or dropped.
    pub fn turn(&mut self) -> Turn<'_> {
        Turn::new(self)
    }

    /// Sets one key, as a turn of its own. Fails as [`Turn::put`] and [`Turn::commit`] do.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Commit> {
        let mut turn = self.turn();
        turn.put(key, value)?;
        turn.commit()
    }

    /// Deletes one key, there or not, as a turn of its own.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<Commit> {
        let mut turn = self.turn();
        turn.delete(key)?;
        turn.commit()
    }

    /// What resolves when everything committed to the object so far is durable. Commits nothing.
    pub fn sync(&self) -> Result<Commit> {
        let inner = self.inner()?;
        let position = last_position(&inner);
        let moment = self.engine().present(position.lsn);
        drop(inner);
        Ok(Commit::of_moment(self.store.clone(), self.state.address, position, moment))
    }

    /// Logs a draft of this object.
    pub(crate) fn commit(&mut self, draft: Draft) -> Result<Commit> {
        let changes = draft.into_changes();
        if changes.is_empty() {
            return self.sync();
        }
        let logged = self.log(changes);
        self.engine().tell();
        Ok(Commit::new(self.store.clone(), self.state.address, logged?))
    }

    /// Logs changes of this object, of which there are some, without a future of their durability.
    /// Whoever calls it has the engine tell of it ([`Engine::tell`]), when no lock is held.
    pub(crate) fn log(&self, changes: WriteSet) -> Result<Position> {
        let mut inner = self.inner()?;
        let changes = self.with_name(&inner, changes);
        let grant = self.engine().commit(&self.state, &mut inner, changes)?;
        Ok(Position { lsn: grant.lsn, time: grant.time })
    }

    /// The last commit, durable or not.
    pub(crate) fn last_position(&self) -> Result<Position> {
        Ok(last_position(&*self.inner()?))
    }

    /// The object as of now, to come back to: everything committed through this handle, durable or
    /// not. It stays valid for as long as history is kept, and is lost only with a commit that a
    /// crash takes. Costs no read.
    pub fn current_bookmark(&self) -> Result<Bookmark> {
        let inner = self.inner()?;
        let moment = self.engine().present(inner.state().last_lsn);
        Ok(self.engine().bookmark(self.state.address, moment))
    }

    /// Looks at the memory that a read begins with, so that it is near; what it says means nothing.
    pub(crate) fn touch(&self) -> usize {
        self.state.touch()
    }

    pub(crate) fn address(&self) -> Address {
        self.state.address
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// An object opened by name keeps its name beside its keys from its first commit on.
    fn with_name(&self, inner: &Inner, mut changes: WriteSet) -> WriteSet {
        let Some(name) = &self.name else { return changes };
        if inner.state().named && !changes.is_wiped() {
            return changes;
        }
        let value = name.as_bytes();
        let put = Operation::Put { key: NAME_KEY, codec: Codec::Raw, value };
        changes.push_name(&put);
        changes
    }
}

fn last_position(inner: &Inner) -> Position {
    let state = inner.state();
    Position { lsn: state.last_lsn, time: state.last_time }
}

impl Object {
    /// Gives the object up: another handle may be opened, and this one's calls fail from here on.
    pub(crate) fn let_go(&self) {
        let mut inner = self.state.inner.lock();
        if self.state.fence() != self.fence {
            return;
        }
        inner.is_open = false;
        self.state.raise_fence(&mut inner);
        let is_idle = inner.layers.is_empty();
        drop(inner);
        if is_idle {
            self.engine().table.evict(&self.state);
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.let_go();
    }
}

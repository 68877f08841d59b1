//! The way back: an object becomes what it, or another one, was.
//!
//! What differs between the object now and the state wanted is one commit: atomic, durable like any
//! other, in the history, and so undone the same way. It is worked out beside the object and taken
//! only if the object is still the one that was looked at.
//!
//! Invariants:
//!   * The commit makes the object exactly the state wanted, but for alarms that were not asked
//!     for, attachments, and a name that the object has.
//!   * What is restored from outside an open handle fences the handle.

use super::alarms::calls::{all_alarms, times};
use super::commit::Commit;
use super::list::full_bounds_of;
use super::namespace::Namespace;
use super::object::Object;
use super::past::{Moment, moment};
use super::transfer::check_view;
use crate::alarm::Alarm;
use crate::bookmark::Bookmark;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::alarm::{alarm_key, entry_of};
use crate::format::record::{Operation, Restoration};
use crate::ids::{Address, Codec, KeyKind, Lsn, ObjectId};
use crate::limits::{Limits, check_name};
use crate::object::difference::{Pair, Pairs};
use crate::object::overlay::{Found, NAME_KEY, RESTORE_KEY};
use crate::object::range::{Entry, KeyBounds, RangeIter};
use crate::object::write_set::WriteSet;
use crate::object::{Inner, ObjectState, View};
use crate::wal::group_commit::Grant;
use std::ops::Bound;
use std::sync::Arc;

/// How often the difference is worked out beside the object before the object is held for it.
const TRIES: usize = 2;
/// Keys in a row that go from which on they go as a range.
const RANGE_KEYS_MIN: usize = 3;

/// What of an object's past comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RestoreOptions {
    alarms: bool,
}

impl RestoreOptions {
    /// Keys and values, and the user's version.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether alarms come back too. Those that were not set then are cleared; one that was set
    /// for a time that has passed fires at once. Off by default: alarms stay as they are.
    pub fn alarms(mut self, alarms: bool) -> Self {
        self.alarms = alarms;
        self
    }
}

/// An object that was restored.
#[derive(Debug)]
#[must_use = "the restoration is not durable before its commit is waited for"]
pub struct Restored {
    /// The commit that restored it.
    pub commit: Commit,
    /// The moment before that commit: restoring to it undoes the restoration.
    pub undo: Bookmark,
}

/// What is to be made of an object.
#[derive(Debug)]
pub(super) struct Request<'v> {
    pub address: Address,
    /// The state wanted, of this object or of another.
    pub then: &'v View,
    pub options: RestoreOptions,
    pub restoration: Restoration,
    /// The name that it gets if it has none.
    pub name: Option<&'v str>,
    /// Whether it must be empty before.
    pub is_fork: bool,
}

/// What takes a restoration, under the object's lock: says whether it may be.
type Accept<'a> = &'a dyn Fn(&Arc<ObjectState>, &mut Inner) -> Result<()>;

/// Logs the request as one commit.
pub(super) fn apply(engine: &Engine, request: &Request<'_>, accept: Accept<'_>) -> Result<Grant> {
    let granted = try_to_apply(engine, request, accept);
    engine.tell();
    granted
}

fn try_to_apply(engine: &Engine, request: &Request<'_>, accept: Accept<'_>) -> Result<Grant> {
    for _ in 0..TRIES {
        let now = engine.view(request.address)?;
        let seen = now.state.last_lsn;
        let changes = request.changes(engine, &now)?;
        let granted = engine.with_object(request.address, |object, inner| {
            if inner.state().last_lsn != seen {
                return Ok(None);
            }
            commit(engine, request, (object, inner), changes, accept).map(Some)
        })?;
        if let Some(grant) = granted {
            return Ok(grant);
        }
    }
    engine.with_object(request.address, |object, inner| {
        let now = View::of_inner(request.address, inner, || engine.version());
        let changes = request.changes(engine, &now)?;
        commit(engine, request, (object, inner), changes, accept)
    })
}

/// Commits under the object's lock, if it may be. A failure leaves open handles their right.
fn commit(
    engine: &Engine,
    request: &Request<'_>,
    (object, inner): (&Arc<ObjectState>, &mut Inner),
    changes: WriteSet,
    accept: Accept<'_>,
) -> Result<Grant> {
    if !request.is_fork {
        let now = View::of_inner(request.address, inner, || engine.version());
        request.check_purge(now.last_purge(), Lsn::MAX)?;
    }
    let rights = (inner.fence, inner.is_open);
    accept(object, inner)?;
    let granted = engine.commit(object, inner, changes);
    if granted.is_err() {
        (inner.fence, inner.is_open) = rights;
    }
    granted
}

/// Entries that belong to an object's past: the store's own and the user's; pages of SQL.
fn data_bounds() -> [KeyBounds; 2] {
    let kinds = |first: KeyKind, behind: u8| {
        (Bound::Included(vec![first as u8]), Bound::Excluded(vec![behind]))
    };
    [kinds(KeyKind::Meta, KeyKind::Alarm as u8), kinds(KeyKind::Sql, KeyKind::Sql as u8 + 1)]
}

/// Whether a view has any entry of its own past. A restoration that waits is none.
fn has_data(view: &View) -> Result<bool> {
    for bounds in data_bounds() {
        for entry in RangeIter::new(view.clone(), None, bounds) {
            if *entry?.key != *RESTORE_KEY {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether restoring `now` to `then` would change anything.
pub(super) fn differs(now: &View, then: &View, options: RestoreOptions) -> Result<bool> {
    for bounds in data_bounds() {
        for pair in Pairs::new(now.clone(), then.clone(), bounds) {
            let pair = pair?;
            let key = pair.before.as_ref().or(pair.after.as_ref()).map(|entry| &*entry.key);
            let has_name = key == Some(NAME_KEY) && pair.before.is_some();
            let is_kept = key == Some(RESTORE_KEY) || has_name && has_data(then)?;
            if !pair.is_same() && !is_kept {
                return Ok(true);
            }
        }
    }
    let set = |view: &View| all_alarms(view.clone()).map(times);
    Ok(options.alarms && set(now)? != set(then)?)
}

/// Whether a view has nothing but a name.
fn is_vacant(view: &View) -> Result<bool> {
    if view.state.alarm.is_some() {
        return Ok(false);
    }
    let everything = (Bound::Unbounded, Bound::Unbounded);
    for entry in RangeIter::new(view.clone(), None, everything) {
        if *entry?.key != *NAME_KEY {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Too much for one commit: says by how much is known, and that nothing was changed.
#[cold]
fn too_large(cause: Error) -> Error {
    let what = format!("the difference does not fit into one commit: {cause}");
    Error::new(ErrorKind::Invalid, "restore.large", what).caused_by(cause)
}

/// The changes in the making. Limits are those of the format and not the store's: what once was in
/// the object may be there again.
struct Plan {
    changes: WriteSet,
    limits: Limits,
    /// Keys in a row that go.
    gone: Vec<Vec<u8>>,
    /// How many more of them there are behind the first ones; the last of them all.
    more: usize,
    last: Vec<u8>,
}

impl Plan {
    fn new() -> Self {
        let limits = Limits::default();
        Self { changes: WriteSet::new(), limits, gone: Vec::new(), more: 0, last: Vec::new() }
    }

    fn push(&mut self, operation: &Operation<'_>) -> Result<()> {
        self.changes.push(&self.limits, operation).map_err(too_large)
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        self.push(&Operation::Put { key: &entry.key, codec: entry.codec, value: &entry.value })
    }

    /// A key goes: with its neighbours, once it is known how many there are.
    fn remove(&mut self, key: &[u8]) -> Result<()> {
        if key.first() == Some(&(KeyKind::Meta as u8)) {
            return self.push(&Operation::Delete { key });
        }
        if self.gone.len() < RANGE_KEYS_MIN {
            self.gone.push(key.to_vec());
        } else {
            self.more += 1;
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// The keys in a row end: those of them that are few go one by one.
    fn end_row(&mut self) -> Result<()> {
        let gone = std::mem::take(&mut self.gone);
        self.more = 0;
        if gone.len() < RANGE_KEYS_MIN {
            return gone.iter().try_for_each(|key| self.push(&Operation::Delete { key }));
        }
        let mut end = std::mem::take(&mut self.last);
        end.push(0);
        self.push(&Operation::DeleteRange { start: &gone[0], end: &end })
    }

    fn pair(&mut self, pair: &Pair) -> Result<()> {
        match (&pair.before, &pair.after) {
            (Some(before), None) => return self.remove(&before.key),
            (_, Some(after)) => {
                self.end_row()?;
                if !pair.is_same() {
                    self.put(after)?;
                }
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl Request<'_> {
    /// That no purge, before `until`, has put the state wanted out of reach since it was looked up.
    fn check_purge(&self, purged: Option<Lsn>, until: Lsn) -> Result<()> {
        if purged.is_none_or(|purged| purged <= self.restoration.at || purged >= until) {
            return Ok(());
        }
        let what = "the object was purged meanwhile";
        Err(Error::new(ErrorKind::NotRetained, "history.purged", what))
    }

    /// What makes `now` the state wanted.
    fn changes(&self, engine: &Engine, now: &View) -> Result<WriteSet> {
        if self.is_fork && !is_vacant(now)? {
            let what = "the object that is to become a fork has content; delete it first";
            return Err(Error::invalid("fork.occupied", what));
        }
        let mut plan = Plan::new();
        plan.push(&Operation::Restored(self.restoration))?;
        if has_data(self.then)? {
            self.difference(&mut plan, now)?;
        } else if has_data(now)? {
            self.wipe(&mut plan, now)?;
        }
        if self.options.alarms {
            self.alarms(engine, &mut plan, now)?;
        }
        if self.restoration.is_at_open {
            plan.push(&Operation::Delete { key: RESTORE_KEY })?;
        }
        if let Some(name) = self.name.filter(|_| !now.state.named) {
            let value = name.as_bytes();
            plan.push(&Operation::Put { key: NAME_KEY, codec: Codec::Raw, value })?;
        }
        Ok(plan.changes)
    }

    fn difference(&self, plan: &mut Plan, now: &View) -> Result<()> {
        for bounds in data_bounds() {
            for pair in Pairs::new(now.clone(), self.then.clone(), bounds) {
                let pair = pair?;
                let key = pair.before.as_ref().or(pair.after.as_ref()).map(|entry| &*entry.key);
                // A name stays; one that is missing comes back, but not to a fork.
                let is_name = key == Some(NAME_KEY);
                let is_kept = is_name && (self.is_fork || pair.before.is_some());
                if !is_kept && key != Some(RESTORE_KEY) {
                    plan.pair(&pair)?;
                }
            }
            plan.end_row()?;
        }
        Ok(())
    }

    /// The object had nothing then: it goes at a cost that does not depend on how much it has.
    fn wipe(&self, plan: &mut Plan, now: &View) -> Result<()> {
        let keep_alarms = !self.options.alarms;
        plan.push(&Operation::DeleteAll { keep_alarms })?;
        let alarms = full_bounds_of(KeyKind::Alarm);
        let kept = [full_bounds_of(KeyKind::Socket)].into_iter();
        let mut has_more = keep_alarms && now.state.alarm.is_some();
        for bounds in kept.chain(keep_alarms.then_some(alarms)) {
            for entry in RangeIter::new(now.clone(), None, bounds) {
                plan.put(&entry?)?;
                has_more = true;
            }
        }
        // An object of which something stays keeps its name.
        for key in [RESTORE_KEY].into_iter().chain(has_more.then_some(NAME_KEY)) {
            if let Some(Found::Value(codec, value)) = now.find(key)? {
                plan.push(&Operation::Put { key, codec, value: &value })?;
            }
        }
        Ok(())
    }

    fn alarms(&self, engine: &Engine, plan: &mut Plan, now: &View) -> Result<()> {
        let last = now.state.last_lsn;
        // No setting of an alarm of this object ever had this generation.
        let generation = if last == Lsn::ZERO { engine.wal.last_lsn() } else { last };
        // What was wiped has none.
        let is_wiped = plan.changes.is_wiped();
        let now = if is_wiped { Vec::new() } else { all_alarms(now.clone())? };
        let then = all_alarms(self.then.clone())?;
        for (name, alarm) in &then {
            let same = now.iter().find(|(other, _)| other == name);
            if same.is_some_and(|(_, present)| present.time == alarm.time) {
                continue;
            }
            let alarm = Alarm::new(alarm.time, generation);
            match name {
                None => plan.push(&Operation::SetAlarm(alarm))?,
                Some(name) => {
                    let (key, value) = (&alarm_key(name), &entry_of(&alarm));
                    plan.push(&Operation::Put { key, codec: Codec::Raw, value })?;
                }
            }
        }
        for (name, _) in now.iter().filter(|(name, _)| then.iter().all(|(kept, _)| kept != name)) {
            match name {
                None => plan.push(&Operation::ClearAlarm)?,
                Some(name) => plan.push(&Operation::Delete { key: &alarm_key(name) })?,
            }
        }
        Ok(())
    }
}

/// The view and the LSN of the state that a bookmark of an object names.
fn state_of(engine: &Engine, address: Address, bookmark: &Bookmark) -> Result<(View, Lsn)> {
    engine.check_alive()?;
    let (view, lsn) = match moment(engine, address, bookmark)? {
        Moment::At(lsn) => (engine.view_at(address, lsn)?, lsn),
        Moment::Present => {
            let view = engine.view(address)?;
            let last = view.state.last_lsn;
            (view, last)
        }
    };
    check_view(&view)?;
    Ok((view, lsn))
}

/// Handles lose their right to an object that was restored from outside them.
fn fence(inner: &mut Inner) {
    inner.fence += 1;
    inner.is_open = false;
}

impl Object {
    /// Makes the object what it was at a bookmark, as one commit: keys, values and the user's
    /// version. Alarms, attachments and the object's name stay as they are.
    ///
    /// This handle sees it at once. Fails with `restore.large` where the difference is more than
    /// one commit may be, and with the errors of [`Object::at`]; nothing is changed then. Reads
    /// both states.
    pub fn restore(&mut self, bookmark: &Bookmark) -> Result<Restored> {
        self.restore_with(bookmark, RestoreOptions::new())
    }

    /// The same, choosing what comes back.
    pub fn restore_with(
        &mut self,
        bookmark: &Bookmark,
        options: RestoreOptions,
    ) -> Result<Restored> {
        self.restore_as(bookmark, options, false)
    }

    pub(super) fn restore_as(
        &mut self,
        bookmark: &Bookmark,
        options: RestoreOptions,
        is_at_open: bool,
    ) -> Result<Restored> {
        let address = self.address();
        let engine = self.store().engine();
        let (then, at) = state_of(engine, address, bookmark)?;
        let restoration = Restoration { from: address, at, is_at_open };
        let (name, is_fork) = (self.name(), false);
        let request = Request { address, then: &then, options, restoration, name, is_fork };
        let grant = apply(engine, &request, &|object, inner| self.check_right(object, inner))?;
        let undo = engine.bookmark(address, Lsn(grant.lsn.0 - 1));
        Ok(Restored { commit: Commit::of_grant(self.store().clone(), address, &grant), undo })
    }
}

impl Namespace {
    /// Makes an object what it was at a bookmark, without opening it: also one that was deleted. A
    /// handle that is open loses its right to the object: its next call fails with
    /// `handle.fenced`. Otherwise as [`Object::restore`].
    pub fn restore(&self, id: ObjectId, bookmark: &Bookmark) -> Result<Restored> {
        self.restore_with(id, bookmark, RestoreOptions::new())
    }

    /// The same, choosing what comes back.
    pub fn restore_with(
        &self,
        id: ObjectId,
        bookmark: &Bookmark,
        options: RestoreOptions,
    ) -> Result<Restored> {
        let address = self.address(id)?;
        let engine = self.store.engine();
        let (then, at) = state_of(engine, address, bookmark)?;
        self.restore_to(address, &then, at, options)
    }

    pub(super) fn restore_to(
        &self,
        address: Address,
        then: &View,
        at: Lsn,
        options: RestoreOptions,
    ) -> Result<Restored> {
        let engine = self.store.engine();
        let restoration = Restoration { from: address, at, is_at_open: false };
        let request = Request { address, then, options, restoration, name: None, is_fork: false };
        let grant = apply(engine, &request, &|_, inner| {
            fence(inner);
            Ok(())
        })?;
        let undo = engine.bookmark(address, Lsn(grant.lsn.0 - 1));
        Ok(Restored { commit: Commit::of_grant(self.store.clone(), address, &grant), undo })
    }

    /// Makes the object `to_id` of the namespace `to` what an object of this one was at a bookmark.
    /// It must be empty: fails with `fork.occupied` where it has anything but a name, and with
    /// `object.open` while a handle is open on it. The name is not copied; fails with
    /// `restore.large` as [`Object::restore`] does.
    pub fn fork(
        &self,
        id: ObjectId,
        bookmark: &Bookmark,
        to: &Self,
        to_id: ObjectId,
        options: RestoreOptions,
    ) -> Result<Commit> {
        self.fork_as(id, bookmark, to, (to_id, None), options)
    }

    /// The same into the object with this name, which it gets.
    pub fn fork_by_name(
        &self,
        id: ObjectId,
        bookmark: &Bookmark,
        to: &Self,
        name: &str,
        options: RestoreOptions,
    ) -> Result<Commit> {
        check_name(name)?;
        self.fork_as(id, bookmark, to, (to.id_from_name(name), Some(name)), options)
    }

    fn fork_as(
        &self,
        id: ObjectId,
        bookmark: &Bookmark,
        to: &Self,
        (to_id, name): (ObjectId, Option<&str>),
        options: RestoreOptions,
    ) -> Result<Commit> {
        let (source, address) = (self.address(id)?, to.address(to_id)?);
        let engine = self.store.engine();
        if !Arc::ptr_eq(engine, to.store.engine()) {
            let what = "an object cannot be forked into another store";
            return Err(Error::invalid("fork.store", what));
        }
        let (then, at) = state_of(engine, source, bookmark)?;
        let restoration = Restoration { from: source, at, is_at_open: false };
        let request = Request { address, then: &then, options, restoration, name, is_fork: true };
        let grant = apply(engine, &request, &|_, inner| {
            if inner.is_open {
                let what = "a handle is open on the object that is to become a fork";
                return Err(Error::new(ErrorKind::Busy, "object.open", what));
            }
            Ok(())
        })?;
        // Two objects are never locked at once, so a purge of the source may have come between.
        let purged = engine.view(source)?.last_purge();
        if let Err(error) = request.check_purge(purged, grant.lsn) {
            engine.purge(address)?;
            return Err(error);
        }
        Ok(Commit::of_grant(self.store.clone(), address, &grant))
    }
}

//! The way back: an object becomes what it, or another one, was.
//!
//! What differs between the object now and the state wanted is one commit: atomic, durable like any
//! other, in the history, and so undone the same way. It is worked out beside the object and taken
//! only if the object is still the one that was looked at. Where it is more than a commit may be,
//! the state wanted is written into pages first, and the commit makes them the object's.
//!
//! Invariants:
//!   * The commit makes the object exactly the state wanted, but for alarms that were not asked
//!     for, attachments, and a name that the object has.
//!   * What is restored from outside an open handle fences the handle.

use super::commit::Commit;
use super::namespace::Namespace;
use super::object::Object;
use super::past::{Moment, moment};
use super::restore_plan::TOO_LARGE;
use super::transfer::check_view;
use crate::bookmark::Bookmark;
use crate::engine::Engine;
use crate::engine::adopt::Prepared;
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::Restoration;
use crate::ids::{Address, Lsn, ObjectId};
use crate::limits::check_name;
use crate::marks::{Mark, mark};
use crate::object::write_set::WriteSet;
use crate::object::{Inner, ObjectState, View};
use crate::planted::{Mistake, planted};
use crate::wal::group_commit::Grant;
use std::sync::Arc;

/// How often the difference is worked out beside the object before the object is held for it.
const TRIES: usize = 2;

/// What of an object's past comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RestoreOptions {
    pub(super) alarms: bool,
}

impl RestoreOptions {
    /// Keys and values, and the user's version.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether alarms come back too. Those that were not set then are cleared; one that was set
    /// for a time that has passed fires at once. Off by default: alarms stay as they are.
    ///
    /// All alarms of the object are then held in memory, and those that differ must fit one commit:
    /// beyond 32 MiB of them the call fails with `restore.large`, and nothing is changed.
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

/// How a request becomes a commit.
struct Way<'a> {
    /// The changes that make a view the state wanted.
    changes: &'a dyn Fn(&View) -> Result<WriteSet>,
    /// The pages that they adopt, if they do.
    prepared: Option<&'a Prepared<'a>>,
}

/// Logs the request as one commit.
pub(super) fn apply(engine: &Engine, request: &Request<'_>, accept: Accept<'_>) -> Result<Grant> {
    let changes = |now: &View| request.changes(engine, now);
    let small = Way { changes: &changes, prepared: None };
    let granted = match try_to_apply(engine, request, accept, &small) {
        Err(error) if error.code() == TOO_LARGE => adopt(engine, request, accept),
        granted => granted,
    };
    engine.tell();
    granted
}

/// The same where the changes are more than a commit may be: all of the state wanted is written
/// beside the object, however long that takes, and what the object keeps of its own with it. Only
/// what changes of that meanwhile must fit the commit.
fn adopt(engine: &Engine, request: &Request<'_>, accept: Accept<'_>) -> Result<Grant> {
    let seen = engine.view(request.address)?;
    // Before anything is written; again, and then in earnest, with the commit.
    engine.with_object(request.address, |object, inner| {
        let rights = Rights::of(object, inner);
        let accepted = accept(object, inner);
        rights.give_back(object, inner);
        accepted
    })?;
    let prepared = engine.prepare(request.address, request.entries(&seen))?;
    let changes = |now: &View| request.adopting(engine, &prepared.operation(), &seen, now);
    let way = Way { changes: &changes, prepared: Some(&prepared) };
    try_to_apply(engine, request, accept, &way)
}

fn try_to_apply(
    engine: &Engine,
    request: &Request<'_>,
    accept: Accept<'_>,
    way: &Way<'_>,
) -> Result<Grant> {
    for _ in 0..TRIES {
        let now = engine.view(request.address)?;
        let seen = now.state.last_lsn;
        let stale = planted(Mistake::RestoreStale).then(|| Lsn(seen.0.saturating_sub(1)));
        let stale = stale.and_then(|at| engine.view_at(request.address, at).ok());
        let changes = (way.changes)(stale.as_ref().unwrap_or(&now))?;
        let granted = locked(engine, request, |object, inner| {
            if inner.state().last_lsn != seen {
                return Ok(None);
            }
            commit(engine, request, (object, inner), (changes, way.prepared), accept).map(Some)
        })?;
        if let Some(grant) = granted {
            return Ok(grant);
        }
    }
    locked(engine, request, |object, inner| {
        let now = View::of_inner(request.address, inner, || engine.version());
        let changes = (way.changes)(&now)?;
        commit(engine, request, (object, inner), (changes, way.prepared), accept)
    })
}

/// Runs `change` under the object's lock, if no purge has put the state wanted out of reach. None
/// of the object that it is of can come between: a fork holds that one's lock too.
fn locked<R>(
    engine: &Engine,
    request: &Request<'_>,
    change: impl FnOnce(&Arc<ObjectState>, &mut Inner) -> Result<R>,
) -> Result<R> {
    let (address, source) = (request.address, request.restoration.from);
    let check = |inner: &Inner| {
        let now = View::of_inner(source, inner, || engine.version());
        request.check_purge(now.last_purge())
    };
    if source == address {
        return engine.with_object(address, |object, inner| {
            check(inner)?;
            change(object, inner)
        });
    }
    engine.with_two(address, source, |object, inner, source| {
        check(source)?;
        change(object, inner)
    })
}

/// Commits under the object's lock, if it may be. A failure leaves open handles their right.
fn commit(
    engine: &Engine,
    request: &Request<'_>,
    (object, inner): (&Arc<ObjectState>, &mut Inner),
    (changes, prepared): (WriteSet, Option<&Prepared<'_>>),
    accept: Accept<'_>,
) -> Result<Grant> {
    let rights = Rights::of(object, inner);
    accept(object, inner)?;
    let granted = engine.commit(object, inner, changes);
    match (&granted, prepared) {
        (Err(_), _) => rights.give_back(object, inner),
        (Ok(grant), Some(prepared)) => {
            prepared.adopted(grant.lsn);
            mark(if request.is_fork { Mark::AdoptedByFork } else { Mark::Adopted });
        }
        (Ok(_), None) => {}
    }
    if granted.is_ok() {
        mark(request.mark());
    }
    granted
}

impl Request<'_> {
    fn mark(&self) -> Mark {
        match (self.is_fork, self.restoration.is_at_open) {
            (true, _) => Mark::Forked,
            (false, true) => Mark::RestoredAtOpen,
            (false, false) => Mark::Restored,
        }
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

/// The moment that undoes a restoration.
fn right_before(restoration: Lsn) -> Lsn {
    if planted(Mistake::UndoTooLate) { restoration } else { Lsn(restoration.0 - 1) }
}

/// Handles lose their right to an object that was restored from outside them.
fn fence(object: &ObjectState, inner: &mut Inner) {
    object.raise_fence(inner);
    inner.is_open = false;
}

/// Who had the right to an object.
struct Rights {
    fence: u64,
    is_open: bool,
}

impl Rights {
    fn of(object: &ObjectState, inner: &Inner) -> Self {
        Self { fence: object.fence(), is_open: inner.is_open }
    }

    fn give_back(self, object: &ObjectState, inner: &mut Inner) {
        object.lower_fence(self.fence, inner);
        inner.is_open = self.is_open;
    }
}

impl Object {
    /// Makes the object what it was at a bookmark, as one commit: keys, values and the user's
    /// version. Alarms, attachments and the object's name stay as they are.
    ///
    /// This handle sees it at once. Fails with the errors of [`Object::at`]; nothing is changed
    /// then. Reads both states; where they differ in more than one commit may change, it also
    /// writes all of the state wanted, and syncs it. Memory depends on neither.
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
        let grant = apply(engine, &request, &|object, _| self.check_right(object))?;
        let undo = engine.bookmark(address, right_before(grant.lsn));
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
        let grant = apply(engine, &request, &|object, inner| {
            fence(object, inner);
            Ok(())
        })?;
        let undo = engine.bookmark(address, right_before(grant.lsn));
        Ok(Restored { commit: Commit::of_grant(self.store.clone(), address, &grant), undo })
    }

    /// Makes the object `to_id` of the namespace `to` what an object of this one was at a bookmark.
    /// It must be empty: fails with `fork.occupied` where it has anything but a name, and with
    /// `object.open` while a handle is open on it. The name is not copied. Costs as
    /// [`Object::restore`] does.
    ///
    /// Fails with `history.purged` where the source is purged before the fork is committed. A purge
    /// that comes later leaves the fork as it is.
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
        Ok(Commit::of_grant(self.store.clone(), address, &grant))
    }
}

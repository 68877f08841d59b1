//! The past of an object: views as of a bookmark, and what changed between two moments.
//!
//! Invariants:
//!   * All of it obeys the rule of snapshots: nothing is shown that is not durable.

use super::history::History;
use super::list::full_bounds_of;
use super::namespace::Namespace;
use super::object::Object;
use super::snapshot::Snapshot;
use super::transfer::check_view;
use super::value::Value;
use crate::bookmark::Bookmark;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::record::{Operation, Restoration};
use crate::ids::{Address, KeyKind, Lsn, ObjectId};
use crate::object::View;
use crate::object::commits::PastCommit;
use crate::object::difference::{Pair, Pairs};
use crate::object::retention;
use std::ops::RangeBounds;
use std::time::SystemTime;

/// What a bookmark of an object comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// What was committed up to here.
    At(Lsn),
    /// The end of a session that goes on still.
    Present,
}

/// The moment that a bookmark of an object names.
pub(super) fn moment(engine: &Engine, address: Address, bookmark: &Bookmark) -> Result<Moment> {
    let lsn = engine.moment(address, bookmark)?;
    if !bookmark.is_session_end() {
        return Ok(Moment::At(lsn));
    }
    session_end(&engine.view(address)?, lsn)
}

/// The end of the session that went on behind `lsn`.
pub(super) fn session_end(view: &View, lsn: Lsn) -> Result<Moment> {
    let is_end = |commit: &PastCommit<'_>| restoration(commit).is_some_and(|it| it.is_at_open);
    let end = view.first_commit((lsn, Lsn::MAX), is_end)?;
    Ok(end.map_or(Moment::Present, |lsn| Moment::At(Lsn(lsn.0 - 1))))
}

/// What a commit says of itself, if it restored the object.
pub(super) fn restoration(commit: &PastCommit<'_>) -> Option<Restoration> {
    commit.operations().map_while(std::result::Result::ok).find_map(|operation| match operation {
        Operation::Restored(restoration) => Some(restoration),
        _ => None,
    })
}

/// The object as of a bookmark.
pub(super) fn view_at(engine: &Engine, address: Address, bookmark: &Bookmark) -> Result<View> {
    engine.check_alive()?;
    let view = match moment(engine, address, bookmark)? {
        Moment::At(lsn) => engine.view_at(address, lsn)?,
        Moment::Present => engine.view(address)?,
    };
    check_view(&view)?;
    Ok(view)
}

fn at(engine: &Engine, address: Address, bookmark: &Bookmark) -> Result<Snapshot> {
    Snapshot::durable(engine, view_at(engine, address, bookmark)?)
}

/// The moment of an object at a time of the clock: right before its first commit behind it.
///
/// Fails with `history.expired` where history does not reach back to that time.
fn bookmark_at(engine: &Engine, address: Address, time: SystemTime) -> Result<Bookmark> {
    engine.check_alive()?;
    // Before the object: see `Namespace::current_bookmark`.
    let durable = engine.wal.durable();
    let view = engine.view(address)?;
    let present = view.state.last_lsn.max(durable);
    let moment = retention::moment_at(&view, time.into())?;
    Ok(engine.bookmark(address, moment.unwrap_or(present)))
}

/// A key that two moments have differently.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The key.
    pub key: Value,
    /// What it was at the first moment.
    pub before: Option<Value>,
    /// What it was at the second moment.
    pub after: Option<Value>,
}

/// The keys that two moments of an object have differently, in order. Lazy: pages are read as they
/// are reached. Ends after the first error.
#[derive(Debug)]
pub struct Changes {
    pairs: Pairs,
}

impl Changes {
    pub(super) fn new(pairs: Pairs) -> Self {
        Self { pairs }
    }
}

impl Iterator for Changes {
    type Item = Result<Changed>;

    fn next(&mut self) -> Option<Self::Item> {
        let is_change = |pair: &Result<Pair>| pair.as_ref().map_or(true, |pair| !pair.is_same());
        let pair = self.pairs.find(is_change)?;
        Some(pair.map(|Pair { before, after }| {
            let key =
                before.as_ref().or(after.as_ref()).map(|entry| Value::of_key(entry.key.clone()));
            let value = |entry: crate::object::range::Entry| Value::new(entry.codec, entry.value);
            let key = key.unwrap_or_else(Value::empty);
            Changed { key, before: before.map(value), after: after.map(value) }
        }))
    }
}

fn diff(engine: &Engine, address: Address, moments: [&Bookmark; 2]) -> Result<Changes> {
    let [before, after] = moments.map(|bookmark| view_at(engine, address, bookmark));
    let (before, after) = (before?, after?);
    engine.wait_durable(before.state.last_lsn.max(after.state.last_lsn))?;
    Ok(Changes::new(Pairs::new(before, after, full_bounds_of(KeyKind::User))))
}

impl Object {
    /// The object as it was at a bookmark, with everything that a snapshot can read. Blocks until
    /// what it shows is durable.
    ///
    /// Fails with `bookmark.foreign` for a bookmark of another object, `bookmark.lost` for a moment
    /// that a crash took back, and `history.expired`, which says from when on there is history, or
    /// `history.off`; with `history.purged` for one before a purge. What the object is now can be
    /// read at any age.
    pub fn at(&self, bookmark: &Bookmark) -> Result<Snapshot> {
        at(self.store().engine(), self.address(), bookmark)
    }

    pub(crate) fn at_unconfirmed(&self, bookmark: &Bookmark) -> Result<Snapshot> {
        Ok(Snapshot::new(view_at(self.store().engine(), self.address(), bookmark)?))
    }

    /// The object as of a time: of all its commits up to then. Later times than the last commit
    /// give the present moment. Fails with `history.expired` where history does not reach back.
    pub fn bookmark_at(&self, time: SystemTime) -> Result<Bookmark> {
        bookmark_at(self.store().engine(), self.address(), time)
    }

    /// The object's commits between two bookmarks, or all that history has with `..`; behind a
    /// purge, where there was one. Blocks until they are durable. They are read from either end as
    /// the iterator is asked, a few at a time.
    ///
    /// Fails as [`Object::at`] does where history does not have all of them.
    pub fn history(&self, range: impl RangeBounds<Bookmark>) -> Result<History> {
        History::new(self.store().engine(), self.address(), &range)
    }

    /// The keys that two moments of the object have differently, in order. Blocks until both are
    /// durable; fails as [`Object::at`] does. Lazy: pages are read as the iterator reaches them.
    pub fn diff(&self, before: &Bookmark, after: &Bookmark) -> Result<Changes> {
        diff(self.store().engine(), self.address(), [before, after])
    }
}

impl Namespace {
    /// An object as it was at a bookmark, without opening it, and also when it has been deleted
    /// since. Fails as [`Object::at`] does.
    pub fn at(&self, id: ObjectId, bookmark: &Bookmark) -> Result<Snapshot> {
        at(self.store.engine(), self.address(id)?, bookmark)
    }

    /// The moment of an object at a time: see [`Object::bookmark_at`].
    pub fn bookmark_at(&self, id: ObjectId, time: SystemTime) -> Result<Bookmark> {
        bookmark_at(self.store.engine(), self.address(id)?, time)
    }

    /// The commits of an object: see [`Object::history`].
    pub fn history(&self, id: ObjectId, range: impl RangeBounds<Bookmark>) -> Result<History> {
        History::new(self.store.engine(), self.address(id)?, &range)
    }

    /// The keys that two moments of an object have differently: see [`Object::diff`].
    pub fn diff(&self, id: ObjectId, before: &Bookmark, after: &Bookmark) -> Result<Changes> {
        diff(self.store.engine(), self.address(id)?, [before, after])
    }
}

/// That a bookmark can be restored to; changes nothing.
pub(super) fn check(engine: &Engine, address: Address, bookmark: &Bookmark) -> Result<Moment> {
    let moment = moment(engine, address, bookmark)?;
    if let Moment::At(lsn) = moment {
        let view = engine.view(address)?;
        // Strictly: the wish is a commit, after which the moment is not the present one any more.
        retention::check(&view.version.manifest, address.namespace, lsn)?;
        check_view(&view.as_of(lsn)?)?;
    }
    Ok(moment)
}

#[cold]
pub(super) fn malformed_mark() -> Error {
    let what = "what the object is to be restored to at its next open is malformed";
    Error::new(crate::error::ErrorKind::Corrupt, "restore.mark", what)
}

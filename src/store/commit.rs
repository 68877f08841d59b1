//! A commit that is logged, and the future of its durability.
//!
//! Invariants:
//!   * It resolves when the log is synced up to it, and not before.
//!   * Dropping it takes nothing back.

use super::Store;
use crate::bookmark::Bookmark;
use crate::error::Result;
use crate::ids::{Address, Lsn, Timestamp};
use crate::wal::group_commit::Grant;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Where a commit stands in the one order of commits of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its time: the clock's, but never before the commit before it.
    pub time: Timestamp,
}

/// A commit that is ordered and applied, but not yet known durable.
///
/// As a future, or by [`Commit::wait`], it resolves to the commit's position once it survives any
/// crash; or fails with `commit.indeterminate` when a sync failed, and then only reopening tells
/// whether the commit is there. Dropping it takes nothing back: the commit becomes durable soon all
/// the same; in a store without threads, when somebody waits for it or a later one, calls
/// [`Steps::write_group`](crate::store::Steps::write_group), or closes the store.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = dostore::store::Store::open(dir.path())?;
/// let people = store.namespace("people")?;
/// let mut commits = Vec::new();
/// for name in ["ann", "bob", "eve"] {
///     commits.push(people.open_by_name(name)?.put("seen", "today")?);
/// }
/// for commit in commits {
///     commit.wait()?; // Or `.await`; one sync may serve all three.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a commit is not durable before it is waited for"]
pub struct Commit {
    /// Keeps the store's threads running until the commit is durable or dropped.
    store: Store,
    address: Address,
    position: Position,
    /// What of the store's commits it shows; beyond its own where it made none.
    moment: Lsn,
    is_told: bool,
}

impl Commit {
    pub(crate) fn new(store: Store, address: Address, position: Position) -> Self {
        Self::of_moment(store, address, position, position.lsn)
    }

    pub(crate) fn of_grant(store: Store, address: Address, grant: &Grant) -> Self {
        Self::new(store, address, Position { lsn: grant.lsn, time: grant.time })
    }

    /// What was committed before, as of a moment of the store.
    pub(crate) fn of_moment(
        store: Store,
        address: Address,
        position: Position,
        moment: Lsn,
    ) -> Self {
        Self { store, address, position, moment, is_told: false }
    }

    /// The object as of right after the commit, to come back to. Durable or not: a crash may still
    /// take the commit, and then its bookmark is refused with `bookmark.lost`.
    pub fn bookmark(&self) -> Bookmark {
        self.store.engine().bookmark(self.address, self.moment)
    }

    /// The commit's position, durable or not.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether it is durable now.
    pub fn is_durable(&self) -> bool {
        self.store.engine().wal.durable() >= self.position.lsn
    }

    /// Blocks until the commit is durable. On an idle store the caller writes and syncs the log
    /// itself: one write, one sync, no change of threads.
    pub fn wait(mut self) -> Result<Position> {
        self.is_told = true;
        self.store.engine().wait_durable(self.position.lsn)?;
        Ok(self.position)
    }

    /// Does not wait for it. It is durable once [`Store::durable`] reaches its LSN.
    pub fn detach(self) -> Position {
        self.position
    }
}

impl Future for Commit {
    type Output = Result<Position>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.is_told = true;
        match self.store.engine().wal.poll(self.position.lsn, context.waker()) {
            Some(done) => Poll::Ready(done.map(|()| self.position)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        if !self.is_told && !self.is_durable() {
            self.store.engine().wal.tell_writer();
        }
    }
}

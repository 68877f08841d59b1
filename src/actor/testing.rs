//! A durability for tests: nothing is safe before the test says so.
//!
//! Invariants:
//!   * A commit is open until it is confirmed or failed, and then stays so.
//!   * Wakers are called while no lock is held.

use super::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Lsn;
use crate::locks::Mutex;
use crate::store::commit::Position;
use crate::wakes::Wakes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

#[derive(Debug, Default)]
struct State {
    /// Commits in the order in which they were logged, with what came of them.
    commits: BTreeMap<Lsn, (Position, Option<Result<()>>)>,
    wakers: Vec<(Lsn, Waker)>,
}

/// Confirms or fails each commit when told to, in any order. Cloning is cheap; all clones are the
/// same. What was logged before the object was opened counts as safe.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = dostore::store::Store::open(dir.path())?;
/// # let lobby = store.namespace("rooms")?.open_by_name("lobby")?;
/// use dostore::actor::testing::ManualDurability;
/// use dostore::actor::{Storage, StorageOptions};
/// use std::sync::Arc;
///
/// let by_hand = ManualDurability::new();
/// let options = StorageOptions {
///     durability: Some(Arc::new(by_hand.clone())),
///     ..StorageOptions::default()
/// };
/// let storage = Storage::with_options(lobby, options);
/// storage.put("topic", "rust")?;
/// let gate = storage.gate();
/// assert!(!gate.is_open());
/// by_hand.confirm_all();
/// assert!(gate.is_open());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualDurability {
    state: Arc<Mutex<State>>,
}

impl ManualDurability {
    /// Nothing was logged yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The commits that are neither confirmed nor failed, in the order of their turns.
    pub fn pending(&self) -> Vec<Position> {
        let state = self.state.lock();
        let is_open = |(position, end): &(Position, Option<_>)| end.is_none().then_some(*position);
        state.commits.values().filter_map(is_open).collect()
    }

    /// Says that a commit is safe.
    pub fn confirm(&self, position: Position) {
        self.settle(position, &Ok(()));
    }

    /// Says that every commit is safe that was logged so far and is still open.
    pub fn confirm_all(&self) {
        self.pending().into_iter().for_each(|position| self.confirm(position));
    }

    /// Says that a commit will never be safe.
    pub fn fail(&self, position: Position) {
        let what = "the test lets the commit fail";
        self.settle(position, &Err(Error::new(ErrorKind::Io, "testing.failed", what)));
    }

    fn settle(&self, position: Position, end: &Result<()>) {
        let mut state = self.state.lock();
        let entry = state.commits.entry(position.lsn).or_insert((position, None));
        entry.1.get_or_insert_with(|| end.clone());
        let wakers = std::mem::take(&mut state.wakers);
        let (told, kept) = wakers.into_iter().partition(|(lsn, _)| *lsn == position.lsn);
        state.wakers = kept;
        drop(state);
        let told: Vec<(Lsn, Waker)> = told;
        told.into_iter().map(|(_, waker)| waker).collect::<Wakes>().wake();
    }

    fn end(&self, position: Position) -> Option<Result<()>> {
        self.state.lock().commits.get(&position.lsn).map_or(Some(Ok(())), |(_, end)| end.clone())
    }
}

impl Durability for ManualDurability {
    fn begin(&self, position: Position) {
        self.state.lock().commits.entry(position.lsn).or_insert((position, None));
    }

    fn is_confirmed(&self, position: Position) -> bool {
        matches!(self.end(position), Some(Ok(())))
    }

    fn failure(&self, position: Position) -> Option<Error> {
        self.end(position)?.err()
    }

    fn poll(&self, position: Position, waker: &Waker) -> Option<Result<()>> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        match state.commits.get(&position.lsn) {
            None => Some(Ok(())),
            Some((_, Some(end))) => Some(end.clone()),
            Some((_, None)) => {
                state.wakers.push((position.lsn, waker));
                None
            }
        }
    }
}

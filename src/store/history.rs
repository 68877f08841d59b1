//! The commits of an object as its users are told of them, from both ends.
//!
//! Invariants:
//!   * What is held is a handful of entries, however many commits there are.
//!   * Both ends together tell each commit once; after an error there is nothing more.

use super::past::{Moment, moment, restoration};
use crate::bookmark::Bookmark;
use crate::engine::Engine;
use crate::engine::bookmarks::bookmark_in;
use crate::error::{Error, Result};
use crate::format::manifest::TermSpan;
use crate::format::record::{Operation, Restoration};
use crate::ids::{Address, KeyKind, Lsn, StoreId, Timestamp};
use crate::object::View;
use crate::object::commits::PastCommit;
use crate::object::retention;
use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow, RangeBounds};

/// Entries that are read at once.
const BATCH: usize = 64;

/// What was restored, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredFrom {
    /// The moment that came back: of the object itself, or of the one that it is a fork of.
    pub bookmark: Bookmark,
    /// Whether the object is a fork of another.
    pub is_fork: bool,
    /// Whether it was applied as the object was opened.
    pub is_at_open: bool,
}

/// A commit in the history of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The object right after it.
    pub bookmark: Bookmark,
    /// When it was made.
    pub time: Timestamp,
    /// Changes in it, of any kind.
    pub operations: u64,
    /// Keys that it set.
    pub puts: u64,
    /// Keys and ranges of keys that it deleted; everything counts as one.
    pub deletes: u64,
    /// Bytes of its record in the log.
    pub bytes: u64,
    /// What it restored, if it is a restoration.
    pub restored: Option<RestoredFrom>,
}

/// The commits of an object, the oldest first, or from behind the newest. Lazy: files are read as
/// it is asked, and it holds what a snapshot holds. Ends after the first error.
#[derive(Debug)]
pub struct History {
    view: View,
    namer: Namer,
    /// What is to be read yet: commits behind the first, up to the second.
    left: (Lsn, Lsn),
    /// Read from the front, the oldest first.
    front: VecDeque<HistoryEntry>,
    /// Read from the back, the newest first.
    back: VecDeque<HistoryEntry>,
}

/// Makes bookmarks of LSNs.
#[derive(Debug)]
pub(super) struct Namer {
    pub store: StoreId,
    pub terms: Vec<TermSpan>,
}

impl Namer {
    pub fn bookmark(&self, address: Address, lsn: Lsn) -> Bookmark {
        bookmark_in(self.store, &self.terms, address, lsn)
    }

    /// What a restoration of the object at `address` says of itself.
    pub fn restored(&self, address: Address, restoration: Restoration) -> RestoredFrom {
        let Restoration { from, at, is_at_open } = restoration;
        RestoredFrom { bookmark: self.bookmark(from, at), is_fork: from != address, is_at_open }
    }

    /// A commit of the object at `address`, as its users are told of it.
    pub fn entry(&self, address: Address, commit: &PastCommit<'_>) -> HistoryEntry {
        let (mut operations, mut puts, mut deletes) = (0, 0, 0);
        let is_user = |key: &[u8]| key.first() == Some(&(KeyKind::User as u8));
        for operation in commit.operations().map_while(std::result::Result::ok) {
            operations += u64::from(!matches!(operation, Operation::Restored(_)));
            match operation {
                Operation::Put { key, .. } => puts += u64::from(is_user(key)),
                Operation::Delete { key } => deletes += u64::from(is_user(key)),
                Operation::DeleteRange { start, .. } => deletes += u64::from(is_user(start)),
                Operation::DeleteAll { .. } => deletes += 1,
                Operation::Adopt(adoption) => puts = adoption.count.saturating_add(puts),
                Operation::SetAlarm(_) | Operation::ClearAlarm | Operation::Restored(_) => {}
            }
        }
        let restored = restoration(commit).map(|it| self.restored(address, it));
        let bookmark = self.bookmark(address, commit.lsn);
        let bytes = commit.bytes() as u64;
        HistoryEntry { bookmark, time: commit.time, operations, puts, deletes, bytes, restored }
    }
}

impl History {
    /// The commits of an object inside a range of bookmarks. An open lower end is where history
    /// begins. Blocks until they are durable.
    pub(super) fn new(
        engine: &Engine,
        address: Address,
        range: &impl RangeBounds<Bookmark>,
    ) -> Result<Self> {
        engine.check_alive()?;
        let view = engine.view(address)?;
        let moment = |bookmark: &Bookmark| match moment(engine, address, bookmark)? {
            Moment::At(lsn) => Ok::<_, Error>(lsn),
            Moment::Present => Ok(view.state.last_lsn),
        };
        let after = match range.start_bound() {
            Bound::Unbounded => retention::history_start(&view),
            Bound::Included(bookmark) => Lsn(moment(bookmark)?.0.saturating_sub(1)),
            Bound::Excluded(bookmark) => moment(bookmark)?,
        };
        let last = match range.end_bound() {
            Bound::Unbounded => view.state.last_lsn,
            Bound::Included(bookmark) => moment(bookmark)?.min(view.state.last_lsn),
            Bound::Excluded(bookmark) => {
                Lsn(moment(bookmark)?.0.saturating_sub(1)).min(view.state.last_lsn)
            }
        };
        let namer = Namer { store: engine.context.store, terms: engine.terms.clone() };
        let history = Self::of_view(view, namer, (after, last))?;
        engine.wait_durable(if last > after { last } else { Lsn::ZERO })?;
        Ok(history)
    }

    /// The commits that a view shows behind the first LSN, up to the second.
    pub(super) fn of_view(view: View, namer: Namer, left: (Lsn, Lsn)) -> Result<Self> {
        // What cannot be told is refused at once.
        view.check_commits(left.0)?;
        let (front, back) = (VecDeque::new(), VecDeque::new());
        Ok(Self { view, namer, left, front, back })
    }

    /// Reads some more from one end, if there is more.
    fn read(&mut self, is_back: bool) -> Result<()> {
        let (after, last) = self.left;
        if after >= last {
            return Ok(());
        }
        let Self { view, namer, front, back, .. } = self;
        let entries = if is_back { back } else { front };
        let take = |commit: PastCommit<'_>| {
            entries.push_back(namer.entry(view.address, &commit));
            let is_enough = entries.len() >= BATCH;
            Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        // Nothing more is read behind an error.
        self.left = (last, last);
        if is_back {
            view.each_commit_back((after, last), take)?;
        } else {
            view.each_commit((after, last), take)?;
        }
        let entries = if is_back { &self.back } else { &self.front };
        if entries.len() >= BATCH
            && let Some(end) = entries.back()
        {
            let end = end.bookmark.lsn();
            self.left = if is_back { (after, Lsn(end.0 - 1)) } else { (end, last) };
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.front.clear();
        self.back.clear();
    }
}

impl Iterator for History {
    type Item = Result<HistoryEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.front.is_empty()
            && let Err(error) = self.read(false)
        {
            self.clear();
            return Some(Err(error));
        }
        self.front.pop_front().or_else(|| self.back.pop_back()).map(Ok)
    }
}

impl DoubleEndedIterator for History {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.back.is_empty()
            && let Err(error) = self.read(true)
        {
            self.clear();
            return Some(Err(error));
        }
        self.back.pop_front().or_else(|| self.front.pop_back()).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::store::Store;
    use crate::store::object::Object;

    /// An object with so many commits, some in files of history, a long one among them, the last
    /// ones in no page yet; and their bookmarks.
    fn object(store: &Store, commits: u64) -> (Object, Vec<Bookmark>) {
        let rooms = store.namespace("rooms").unwrap();
        let mut room = rooms.open_by_name("room").unwrap();
        let mut bookmarks = Vec::new();
        for number in 0..commits {
            let bytes = if number % 100 == 50 { 70_000 } else { 3 };
            let commit = room.put("key", vec![7; bytes]).unwrap();
            bookmarks.push(commit.bookmark());
            commit.detach();
            if number % 130 == 129 && number + 20 < commits {
                store.steps().checkpoint().unwrap();
            }
        }
        (room, bookmarks)
    }

    #[test]
    fn however_many_commits_there_are_a_handful_is_held() {
        let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
        let (room, bookmarks) = object(&store, 600);
        for takes_back in [|_: usize| false, |_| true, |at| at % 2 == 0, |at| at % 150 < 70] {
            let mut history = room.history(..).unwrap();
            let mut left: VecDeque<_> = bookmarks.iter().copied().collect();
            for at in 0..bookmarks.len() {
                let (told, known) = if takes_back(at) {
                    (history.next_back(), left.pop_back())
                } else {
                    (history.next(), left.pop_front())
                };
                assert_eq!(told.unwrap().unwrap().bookmark, known.unwrap());
                assert!(history.front.len() < BATCH && history.back.len() < BATCH);
            }
            assert!(history.next().is_none() && history.next_back().is_none());
        }
    }

    #[test]
    fn a_look_at_few_commits_reads_few() {
        let store = Store::options().threads(false).open_on(SimDisk::new(2)).unwrap();
        let (room, bookmarks) = object(&store, 600);
        let view = store.engine().view(room.address()).unwrap();
        let mut seen = Vec::new();
        let mut take = |commit: PastCommit<'_>| {
            seen.push(commit.lsn);
            Ok(if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        view.each_commit((bookmarks[200].lsn(), Lsn::MAX), &mut take).unwrap();
        assert_eq!(seen, [201, 202, 203].map(|at: usize| bookmarks[at].lsn()));
        seen.clear();
        let mut take = |commit: PastCommit<'_>| {
            seen.push(commit.lsn);
            Ok(if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        view.each_commit_back((Lsn::ZERO, bookmarks[351].lsn()), &mut take).unwrap();
        assert_eq!(seen, [351, 350, 349].map(|at: usize| bookmarks[at].lsn()));
        let mut asked = 0;
        let found = view.first_commit((Lsn::ZERO, Lsn::MAX), |commit| {
            asked += 1;
            commit.lsn >= bookmarks[10].lsn()
        });
        assert_eq!((found.unwrap(), asked), (Some(bookmarks[10].lsn()), 11));
    }
}

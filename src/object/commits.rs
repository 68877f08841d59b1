//! The commits of an object, as far as layers and history hold them, one after the other.
//!
//! Invariants:
//!   * What is told is every commit of a span, in order, or an error.
//!   * One commit and one bundle are in memory at a time, however many there are.

use super::View;
use super::history::{HistoryRun, Walked, walk_commits, walk_commits_down};
use super::retention;
use crate::error::{Error, ErrorKind, Result};
use crate::format::history::{CommitStart, Group, ItemKey};
use crate::format::record::{Operations, RECORD_HEADER_BYTES, RecordHeader};
use crate::ids::{Lsn, Timestamp};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A commit of an object.
#[derive(Clone, Copy, Debug)]
pub struct PastCommit<'a> {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its time.
    pub time: Timestamp,
    payload: &'a [u8],
}

impl<'a> PastCommit<'a> {
    fn of_item(lsn: Lsn, commit: CommitStart<'a>) -> Self {
        Self { lsn, time: commit.time, payload: commit.payload }
    }

    fn of_record(record: &'a [u8]) -> Option<Self> {
        let RecordHeader { lsn, time, .. } = RecordHeader::decode(record).ok()?;
        Some(Self { lsn, time, payload: record.get(RECORD_HEADER_BYTES..).unwrap_or_default() })
    }

    /// What it changed, in order.
    pub fn operations(&self) -> Operations<'a> {
        Operations::new(self.payload)
    }

    /// Bytes of its record in the log.
    pub fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload.len()
    }
}

impl View {
    /// Hands out the object's commits behind the first LSN up to the second that the view shows,
    /// the oldest first, until `each` has enough.
    ///
    /// Fails with `history.expired`, `history.off` or `history.purged` where they are not all
    /// there, and with the errors of `each`.
    pub fn each_commit(
        &self,
        (after, last): (Lsn, Lsn),
        mut each: impl FnMut(PastCommit<'_>) -> Walked,
    ) -> Result<()> {
        self.check_commits(after)?;
        let (from, to) = self.item_keys(after, last);
        for file in self.commit_files(after, last)? {
            let run = self.version.history.open(file)?;
            let mut is_enough = false;
            walk_commits(&run, (&from, &to), |lsn, commit| {
                let told = each(PastCommit::of_item(lsn, commit))?;
                is_enough = told.is_break();
                Ok(told)
            })?;
            if is_enough {
                return Ok(());
            }
        }
        for commit in self.recent_commits(after, last) {
            if each(commit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The same, the newest first.
    pub fn each_commit_back(
        &self,
        (after, last): (Lsn, Lsn),
        mut each: impl FnMut(PastCommit<'_>) -> Walked,
    ) -> Result<()> {
        self.check_commits(after)?;
        for commit in self.recent_commits(after, last).rev() {
            if each(commit)?.is_break() {
                return Ok(());
            }
        }
        self.filed_commits_back((after, last), each)
    }

    /// Hands out those of a span that are kept, the newest first, until `each` has enough. Says
    /// behind which LSN not one is missing, as far as it was not stopped.
    ///
    /// What the log has is kept, whatever history lets go of, but for what was purged.
    pub fn each_kept_commit_back(
        &self,
        (after, last): (Lsn, Lsn),
        mut each: impl FnMut(PastCommit<'_>) -> Walked,
    ) -> Result<Lsn> {
        let in_log = after.max(retention::behind_purge(self));
        for commit in self.recent_commits(in_log, last).rev() {
            if each(commit)?.is_break() {
                return Ok(after);
            }
        }
        self.filed_commits_back((after.max(retention::history_start(self)), last), each)?;
        Ok(after.max(self.unkept_to()?))
    }

    /// Up to which commit some may be missing, because history has let go of them.
    pub fn unkept_to(&self) -> Result<Lsn> {
        // What the log has is there, but for what was purged.
        let in_pages = self.version.head(self.address)?.map_or(Lsn::ZERO, |head| head.last_lsn);
        Ok(retention::history_start(self).min(in_pages.max(retention::behind_purge(self))))
    }

    /// The commits of a span that files of history hold, the newest first.
    fn filed_commits_back(
        &self,
        (after, last): (Lsn, Lsn),
        mut each: impl FnMut(PastCommit<'_>) -> Walked,
    ) -> Result<()> {
        let (from, to) = self.item_keys(after, last);
        for file in self.commit_files(after, last)?.into_iter().rev() {
            let run = self.version.history.open(file)?;
            let mut is_enough = false;
            walk_commits_down(&run, (&from, &to), |lsn, commit| {
                let told = each(PastCommit::of_item(lsn, commit))?;
                is_enough = told.is_break();
                Ok(told)
            })?;
            if is_enough {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Fails where the commits behind an LSN are not all there.
    pub fn check_commits(&self, after: Lsn) -> Result<()> {
        retention::check_view(self, after)?;
        // The purge itself is told of.
        if self.last_purge().is_some_and(|purged| after.next() < purged) {
            let what = format!("the object's commits behind {after} were purged");
            return Err(Error::new(ErrorKind::NotRetained, "history.purged", what));
        }
        Ok(())
    }

    fn item_keys(&self, after: Lsn, last: Lsn) -> (ItemKey, ItemKey) {
        let last = last.min(self.version.manifest.cut);
        let from = ItemKey::first(self.address, Group::Commits, after.next());
        (from, ItemKey::last(self.address, Group::Commits, last))
    }

    /// The files that may hold commits of a span, the oldest first.
    pub(super) fn commit_files(&self, after: Lsn, last: Lsn) -> Result<Vec<&Arc<HistoryRun>>> {
        let manifest = &self.version.manifest;
        let in_pages = self.version.head(self.address)?.map_or(Lsn::ZERO, |head| head.last_lsn);
        let has_any = |file: &&Arc<HistoryRun>| {
            let file = &file.file;
            after < in_pages && file.start < file.end && file.end > after && file.start < last
        };
        Ok(self.version.history.of(manifest, self.address.namespace).filter(has_any).collect())
    }

    /// Those of a span that no page holds yet.
    pub fn recent_commits(
        &self,
        after: Lsn,
        last: Lsn,
    ) -> impl DoubleEndedIterator<Item = PastCommit<'_>> {
        let records = self.recent_records(after, last).flatten();
        records.filter_map(|record| PastCommit::of_record(record))
    }

    /// The same as they were logged, layer by layer. What is not wanted is not walked over.
    pub(super) fn recent_records(
        &self,
        after: Lsn,
        last: Lsn,
    ) -> impl DoubleEndedIterator<Item = &[Arc<[u8]>]> {
        let covered = self.version.manifest.cut.max(after);
        let up_to = |records: &[Arc<[u8]>], lsn| {
            let is_in = |it: RecordHeader| it.lsn <= lsn;
            records.partition_point(|record| RecordHeader::decode(record).is_ok_and(is_in))
        };
        self.layers.iter().map(move |layer| {
            let records = layer.records();
            records.get(up_to(records, covered)..up_to(records, last)).unwrap_or_default()
        })
    }

    /// The first commit of a span for which `holds` is true: its LSN.
    pub fn first_commit(
        &self,
        span: (Lsn, Lsn),
        mut holds: impl FnMut(&PastCommit<'_>) -> bool,
    ) -> Result<Option<Lsn>> {
        let mut found = None;
        self.each_commit(span, |commit| {
            if holds(&commit) {
                found = Some(commit.lsn);
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}

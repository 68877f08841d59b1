//! Which commit of an object is the first behind a time, without a walk over those before it.
//!
//! Times ascend with LSNs. So the span of a file is narrowed down to the commit: where the time
//! would be if commits came evenly, and in the middle, by turns.
//!
//! Invariants:
//!   * What is found is what a walk over all commits would find.
//!   * The bundles that are asked grow with the logarithm of what a file has of the object.

use super::View;
use super::history::{bundle_at, place, walk_up};
use crate::error::Result;
use crate::format::Malformed;
use crate::format::history::{CommitStart, Group, ItemKey};
use crate::format::record::RecordHeader;
use crate::ids::{Address, Lsn, Timestamp};
use crate::run::{Run, RunCursor};
use std::ops::ControlFlow;
use std::sync::Arc;

impl View {
    /// The first commit behind an LSN that is behind `time` as well: its LSN. Fails as
    /// [`View::each_commit`] does.
    pub fn first_behind(&self, after: Lsn, time: Timestamp) -> Result<Option<Lsn>> {
        self.check_commits(after)?;
        let cut = self.version.manifest.cut;
        for file in self.commit_files(after, Lsn::MAX)? {
            let run = self.version.history.open(file)?;
            let file = &file.file;
            let search = Search {
                run: &run,
                address: self.address,
                time,
                low: (after.max(file.start).next(), file.start_time),
                high: (file.end.min(cut).next(), file.end_time),
                is_found: false,
            };
            if let Some(found) = search.run()? {
                return Ok(Some(found));
            }
        }
        let is_before = |record: &Arc<[u8]>| {
            RecordHeader::decode(record).is_ok_and(|header| header.time <= time)
        };
        let mut recent = self.recent_records(after, Lsn::MAX);
        let record = recent.find_map(|all| all.get(all.partition_point(is_before)));
        Ok(record.and_then(|record| RecordHeader::decode(record).ok()).map(|header| header.lsn))
    }
}

/// The search for the first commit of an object behind a time, in one file.
#[derive(Debug)]
struct Search<'a> {
    run: &'a Run,
    address: Address,
    time: Timestamp,
    /// Commits below this LSN are not behind the time; a time that is not above theirs.
    low: (Lsn, Timestamp),
    /// Where the span that is left ends, not included; a time that is not below those inside.
    high: (Lsn, Timestamp),
    /// Whether the span ends at a commit that is behind the time.
    is_found: bool,
}

/// A commit inside the span that is left.
#[derive(Debug)]
struct Left {
    lsn: Lsn,
    time: Timestamp,
    /// Whether the bundle shows that there is none before it.
    is_first: bool,
}

impl Search<'_> {
    fn run(mut self) -> Result<Option<Lsn>> {
        if !self.run.may_hold(&self.address) {
            return Ok(None);
        }
        let span = (self.key(self.low.0), self.key(self.high.0));
        let mut is_guess = true;
        while self.low.0 < self.high.0 {
            // Before the first cut of a store there is no time to guess by.
            let is_known = self.low.1 > Timestamp(0);
            let probe = if is_guess && is_known { self.guess() } else { self.middle() };
            is_guess = !is_guess;
            if let Some(found) = self.look(&span, probe)? {
                return Ok(Some(found));
            }
        }
        Ok(self.is_found.then_some(self.high.0))
    }

    /// The key in front of all that is of a commit.
    fn key(&self, lsn: Lsn) -> ItemKey {
        ItemKey::first(self.address, Group::Commits, lsn)
    }

    fn middle(&self) -> Lsn {
        Lsn(self.low.0.0.midpoint(self.high.0.0))
    }

    fn guess(&self) -> Lsn {
        let ((low, from), (high, to)) = (self.low, self.high);
        let passed = self.time.0.saturating_sub(from.0);
        let all = to.0.saturating_sub(from.0).max(1);
        let more = u128::from(high.0 - low.0) * u128::from(passed) / u128::from(all);
        Lsn(low.0.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)).min(high.0 - 1))
    }

    /// Looks into the bundle where the commit `probe` would be, or into the next one where that has
    /// nothing of what is left. Says which commit is sought, or leaves less.
    fn look(&mut self, span: &(ItemKey, ItemKey), probe: Lsn) -> Result<Option<Lsn>> {
        let mut cursor = self.run.cursor();
        let last = ItemKey::last(self.address, Group::Commits, probe);
        let is_inside = place(self.run, &mut cursor, &last, &span.0, &span.1)?;
        let mut left = if is_inside { self.left_in(&cursor, &span.1)? } else { Vec::new() };
        // Whether nothing of what is left stands before it.
        let is_next = left.is_empty();
        if is_next {
            if is_inside {
                cursor.next()?;
            } else {
                cursor.seek_ceiling(&span.0.encode())?;
            }
            left = self.left_in(&cursor, &span.1)?;
        }
        let behind = left.partition_point(|commit| commit.time <= self.time);
        match (left.get(behind), behind.checked_sub(1).map(|at| &left[at])) {
            (Some(commit), before) if before.is_some() || is_next || commit.is_first => {
                return Ok(Some(commit.lsn));
            }
            (Some(commit), _) => {
                self.high = (commit.lsn, commit.time);
                self.is_found = true;
            }
            (None, Some(before)) => self.low = (before.lsn.max(probe).next(), before.time),
            (None, None) => self.low.0 = self.high.0,
        }
        Ok(None)
    }

    /// The commits in the bundle at a cursor that are left; where it has nothing but a middle of
    /// one, that one.
    fn left_in(&self, cursor: &RunCursor<'_>, to: &ItemKey) -> Result<Vec<Left>> {
        let Some(bundle) = bundle_at(self.run, cursor, to)? else { return Ok(Vec::new()) };
        let [start, end] = [self.low.0, self.high.0].map(|lsn| bundle.lower_bound(&self.key(lsn)));
        let mut left = Vec::with_capacity(end - start);
        for (key, value) in (start..end).filter_map(|index| bundle.item(index)) {
            if key.chunk == 0 {
                let is_first = start > 0 && left.is_empty();
                left.push(Left { lsn: key.lsn, time: self.time_in(value)?, is_first });
            }
        }
        if let (true, Some((ItemKey { lsn, .. }, _))) = (left.is_empty(), bundle.item(start))
            && start < end
        {
            left.push(Left { lsn, time: self.time_of(lsn)?, is_first: false });
        }
        Ok(left)
    }

    /// The time of a commit that goes on in a bundle.
    fn time_of(&self, lsn: Lsn) -> Result<Timestamp> {
        let key = self.key(lsn);
        let mut time = Err(self.run.bad_entry(Malformed("a chunk without its first")));
        walk_up(self.run, (&key, &key), |_, value| {
            time = self.time_in(value);
            Ok(ControlFlow::Break(()))
        })?;
        time
    }

    /// The time that the first chunk of a commit says.
    fn time_in(&self, value: &[u8]) -> Result<Timestamp> {
        let commit = CommitStart::decode(value);
        commit.map(|commit| commit.time).map_err(|fault| self.run.bad_entry(fault))
    }
}

//! Which commit of an object is the first behind a time, without a walk over those before it.
//!
//! Times ascend with LSNs, and the key of each bundle says the time of its first commit. So the
//! index of a file leads to the bundle in which the time falls.
//!
//! Invariants:
//!   * What is found is what a walk over all commits would find.
//!   * Of each file one bundle is read at most, however many commits of the object it has.

use super::View;
use super::history::{bundle_at, check_holes};
use crate::error::Result;
use crate::format::Malformed;
use crate::format::history::{BundleKey, CommitStart, Group, ItemKey};
use crate::format::record::RecordHeader;
use crate::ids::{Lsn, Timestamp};
use crate::run::Run;
use crate::run::cursor::Position;
use std::sync::Arc;

impl View {
    /// The first commit behind an LSN that is behind `time` as well: its LSN. Fails as
    /// [`View::each_commit`] does.
    pub fn first_behind(&self, after: Lsn, time: Timestamp) -> Result<Option<Lsn>> {
        self.check_commits(after)?;
        let from = ItemKey::first(self.address, Group::Commits, after.next());
        let to = ItemKey::last(self.address, Group::Commits, self.version.manifest.cut);
        for file in self.commit_files(after, Lsn::MAX)? {
            let run = self.version.history.open(file)?;
            if let Some(found) = first_in(&run, (&from, &to), time)? {
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

/// The first of the commits with keys from `from` to `to`, both included, that is behind `time`.
fn first_in(run: &Run, (from, to): (&ItemKey, &ItemKey), time: Timestamp) -> Result<Option<Lsn>> {
    if !run.may_hold(&from.address) {
        return Ok(None);
    }
    check_holes(run, from, to)?;
    let (lowest, highest) = (from.encode(), BundleKey::last(to));
    let begins_before =
        |key: &[u8]| BundleKey::decode(key).is_ok_and(|key| key.first <= *from || key.time <= time);
    let mut cursor = run.cursor();
    cursor.seek_last((&lowest, &highest), begins_before)?;
    match bundle_at(run, &cursor, to)? {
        None => cursor.seek_ceiling(&lowest)?,
        Some(bundle) => {
            for index in bundle.lower_bound(from)..bundle.count() {
                let Some((key, value)) = bundle.item(index).filter(|(key, _)| key <= to) else {
                    return Ok(None);
                };
                // What goes on here began in the same bundle, or no later than the time.
                if key.chunk == 0 && time_in(run, value)? > time {
                    return Ok(Some(key.lsn));
                }
            }
            cursor.next()?;
        }
    }
    // The next one begins behind the time: its key says enough, whether it can be read or not.
    let next = match cursor.position() {
        Position::Entry(next, _) | Position::Damaged(next, _) if next <= &highest[..] => next,
        _ => return Ok(None),
    };
    match BundleKey::decode(next).map_err(|fault| run.bad_entry(fault))?.first {
        ItemKey { chunk: 0, lsn, .. } => Ok(Some(lsn)),
        _ => Err(run.bad_entry(Malformed("a chunk without its first"))),
    }
}

/// The time that the first chunk of a commit says.
fn time_in(run: &Run, value: &[u8]) -> Result<Timestamp> {
    let commit = CommitStart::decode(value);
    commit.map(|commit| commit.time).map_err(|fault| run.bad_entry(fault))
}

//! The commits of all objects of a store, as a reader shows them, in their one order.
//!
//! Invariants:
//!   * Each commit is told once, and they ascend.

use super::history::HistoryEntry;
use super::reader::{Moment, Reader, ReaderNamespace};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Address, Lsn, ObjectId, ShortId, Timestamp};
use crate::object::commits::PastCommit;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// A commit of some object.
#[derive(Clone, Debug)]
pub struct StoreCommit {
    /// The namespace of its object.
    pub namespace: ReaderNamespace,
    /// Its object.
    pub object: ObjectId,
    /// The commit.
    pub entry: HistoryEntry,
}

/// Which commits are looked for.
pub(crate) struct Sought<'a> {
    /// Behind this commit.
    pub after: Lsn,
    /// Up to this one.
    pub last: Lsn,
    /// Up to this time.
    pub until: Timestamp,
    /// The last so many of them.
    pub most: usize,
    /// Of these objects only.
    pub wants: &'a dyn Fn(&ReaderNamespace, ShortId) -> bool,
}

/// Commits that were looked for and found.
#[derive(Debug)]
pub(crate) struct FoundCommits {
    /// The oldest first.
    pub commits: Vec<StoreCommit>,
    /// Behind this one not one is missing of those that were looked for; up to it, history has let
    /// go of some.
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command tells it"))]
    pub whole_behind: Lsn,
}

impl StoreCommit {
    /// Its LSN.
    pub fn lsn(&self) -> Lsn {
        self.entry.bookmark.lsn()
    }
}

impl Reader {
    /// The last commit that pages hold: [`Reader::commits_behind`] is cheap from here on.
    pub fn checkpoint(&self) -> Lsn {
        self.moment().version.manifest.cut
    }

    /// The commits of the store behind an LSN, the oldest first; the last `most` of them if there
    /// are more. What history has let go of is not among them, nor what was purged; commits behind
    /// the [checkpoint](Reader::checkpoint) are all there.
    ///
    /// Costs in proportion to the commits, and one look at each object where `after` is before the
    /// checkpoint.
    pub fn commits_behind(&self, after: Lsn, most: usize) -> Result<Vec<StoreCommit>> {
        let (last, until) = (self.position(), Timestamp(u64::MAX));
        let sought = Sought { after, last, until, most, wants: &|_, _| true };
        Ok(self.commits_of(&sought, &mut Err)?.commits)
    }

    /// The commits that are looked for, past damage, of which `lost` is told.
    ///
    /// Holds as many as are wanted; of each object no more is read than may be among them.
    pub(crate) fn commits_of(
        &self,
        sought: &Sought<'_>,
        lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<FoundCommits> {
        let Sought { after, until, most, .. } = *sought;
        let moment = self.moment();
        let span = (after, sought.last.min(moment.position));
        let namer = moment.namer()?;
        let spaces = self.spaces();
        let mut kept: BTreeMap<Lsn, (Address, HistoryEntry)> = BTreeMap::new();
        let mut whole_behind = after;
        for address in changed_behind(moment, after, lost)? {
            let Some(space) = spaces.get(&address.namespace) else { continue };
            if !(sought.wants)(space, address.id) {
                continue;
            }
            let Some(view) = past_damage(moment.view(address), lost)? else { continue };
            let keep = |commit: PastCommit<'_>| {
                if commit.time > until {
                    return Ok(ControlFlow::Continue(()));
                }
                let first = kept.first_key_value();
                if kept.len() >= most && first.is_none_or(|(first, _)| *first > commit.lsn) {
                    return Ok(ControlFlow::Break(()));
                }
                kept.insert(commit.lsn, (address, namer.entry(address, &commit)));
                if kept.len() > most {
                    kept.pop_first();
                }
                Ok(ControlFlow::Continue(()))
            };
            if let Some(whole) = past_damage(view.each_kept_commit_back(span, keep), lost)? {
                whole_behind = whole_behind.max(whole);
            }
        }
        let commits = kept.into_values().filter_map(|(address, entry)| {
            let namespace = spaces.get(&address.namespace)?.clone();
            let object = namespace.id_from_short(address.id);
            Some(StoreCommit { namespace, object, entry })
        });
        Ok(FoundCommits { commits: commits.collect(), whole_behind })
    }
}

/// What was read; none where it is damaged, of which `lost` is told.
fn past_damage<T>(read: Result<T>, lost: &mut dyn FnMut(Error) -> Result<()>) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => lost(error).map(|()| None),
        read => read.map(Some),
    }
}

/// The objects with commits behind an LSN.
fn changed_behind(
    moment: &Moment,
    after: Lsn,
    lost: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<BTreeSet<Address>> {
    let recent = moment.objects.iter();
    let recent = recent.filter(|(_, tail)| tail.inner.state().last_lsn > after);
    let mut found: BTreeSet<Address> = recent.map(|(address, _)| *address).collect();
    if after < moment.version.manifest.cut {
        for head in moment.version.directory.heads(Address::default()) {
            let Some((address, head)) = past_damage(head, lost)? else { continue };
            if head.last_lsn > after {
                found.insert(address);
            }
        }
    }
    Ok(found)
}

//! The commits of all objects of a store, as a reader shows them, in their one order.
//!
//! Invariants:
//!   * Each commit is told once, and they ascend.

use super::history::HistoryEntry;
use super::reader::{Moment, Reader, ReaderNamespace};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Address, Lsn, ObjectId};
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

impl Reader {
    /// The last commit that pages hold: [`Reader::commits_behind`] is cheap from here on.
    pub fn checkpoint(&self) -> Lsn {
        self.moment().version.manifest.cut
    }

    /// The commits of the store behind an LSN, the oldest first; the last `most` of them if there
    /// are more. Of what a checkpoint has put into pages, objects without history show nothing.
    ///
    /// Costs in proportion to the commits, and one look at each object where `after` is before the
    /// [checkpoint](Reader::checkpoint).
    pub fn commits_behind(&self, after: Lsn, most: usize) -> Result<Vec<StoreCommit>> {
        self.commits_around(after, most, &mut Err)
    }

    /// The same past damage, of which `lost` is told.
    pub(crate) fn commits_around(
        &self,
        after: Lsn,
        most: usize,
        lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<Vec<StoreCommit>> {
        let moment = self.moment();
        let namer = moment.namer()?;
        let spaces = self.spaces();
        let mut kept: BTreeMap<Lsn, (Address, HistoryEntry)> = BTreeMap::new();
        for address in changed_behind(moment, after, lost)? {
            if !spaces.contains_key(&address.namespace) {
                continue;
            }
            let Some(view) = past_damage(moment.view(address), lost)? else { continue };
            let mut keep = |commit: PastCommit<'_>| {
                let is_late = kept.first_key_value().is_none_or(|(first, _)| *first < commit.lsn);
                if kept.len() < most || is_late {
                    kept.insert(commit.lsn, (address, namer.entry(address, &commit)));
                }
                if kept.len() > most {
                    kept.pop_first();
                }
            };
            let told = view.each_commit((after, moment.position), |commit| {
                keep(commit);
                Ok(ControlFlow::Continue(()))
            });
            match told {
                Err(error) if error.kind() == ErrorKind::NotRetained => {
                    view.recent_commits(after, moment.position).for_each(keep);
                }
                told => drop(past_damage(told, lost)?),
            }
        }
        let told = kept.into_values().filter_map(|(address, entry)| {
            let namespace = spaces.get(&address.namespace)?.clone();
            let object = namespace.id_from_short(address.id);
            Some(StoreCommit { namespace, object, entry })
        });
        Ok(told.collect())
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

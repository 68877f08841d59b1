//! Merging: several sorted runs become one, so that a look-up asks few.
//!
//! Runs are tiered: the newest are taken together as long as the next one is not much larger than
//! what was taken, so each entry is rewritten about as often as the store's size doubles.
//!
//! Invariants:
//!   * Inputs are neighbours in the order of runs, and the output takes exactly their place.
//!   * Written without the publisher lock; thrown away if any input is gone when it is done, and
//!     given up where somebody waits for it to end.

use super::Engine;
use super::history::forgets;
use super::publish::Publisher;
use crate::directory;
use crate::error::Result;
use crate::format::entry::Head;
use crate::format::run::{RunFacts, RunUse};
use crate::ids::{Address, FileNumber};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::version::Version;
use crate::run::{Run, RunWriter};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Runs that are worth merging at the least.
const INPUTS_MIN: usize = 4;
/// Runs of one use beyond which merging takes all of them.
const RUNS_MAX: usize = 12;

impl Engine {
    /// Whether any use has runs to merge.
    pub fn wants_merge(&self) -> bool {
        let version = self.version();
        let has_runs = runs_by_use(&version).iter().any(|(_, runs)| choose(runs).is_some());
        has_runs || self.wants_history_merge()
    }

    /// Merges runs of one use, or files of history. Says whether there were any to merge.
    pub fn merge(&self) -> Result<bool> {
        self.check_alive()?;
        let version = self.version();
        for (usage, runs) in runs_by_use(&version) {
            if let Some(count) = choose(runs) {
                self.merge_newest(&version, usage, &runs[..count])?;
                return Ok(true);
            }
        }
        self.merge_history()
    }

    /// Merges all runs of each use into one, as often as it takes.
    pub(super) fn merge_all(&self) -> Result<()> {
        for place in 0..3 {
            loop {
                let version = self.version();
                let (usage, runs) = runs_by_use(&version)[place];
                if runs.is_empty() || self.merge_newest(&version, usage, runs)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Says whether the output took the place of the inputs.
    fn merge_newest(&self, version: &Version, usage: RunUse, inputs: &[Arc<Run>]) -> Result<bool> {
        let number = self.numbers.take();
        let name = FileName::Run(number);
        let written = self.write_merged(version, usage, inputs, number);
        let merged = written.inspect_err(|_| drop(self.disk.remove(name)))?;
        let mut publisher = self.publisher.lock();
        let inputs: Vec<FileNumber> = inputs.iter().map(|run| run.facts().number).collect();
        let is_installed = self.install_merged(&mut publisher, &inputs, &merged)?;
        if is_installed {
            mark(Mark::RunsMerged);
            self.counters.merges.fetch_add(1, Ordering::Relaxed);
        } else {
            mark(Mark::MergeDiscarded);
            self.discard(&publisher, name);
        }
        Ok(is_installed)
    }

    fn write_merged(
        &self,
        version: &Version,
        usage: RunUse,
        inputs: &[Arc<Run>],
        number: FileNumber,
    ) -> Result<Merged> {
        let pace = Arc::clone(&self.pace);
        let mut out = RunWriter::create(&*self.disk, pace, self.context, number, usage)?;
        out.give_up_when(Arc::clone(&self.is_ending));
        let all = runs_by_use(version).into_iter().find(|(of, _)| *of == usage);
        let is_bottom = all.is_some_and(|(_, runs)| runs.len() == inputs.len());
        let purged = |address| version.manifest.purge_of(address).map(|purge| purge.lsn);
        let stats = match usage {
            RunUse::Directory => {
                let forgets = |address: Address, head: &Head| {
                    forgets(&version.manifest, address.namespace, head.last_lsn)
                };
                directory::merge(inputs, is_bottom, forgets, &mut out)?
            }
            RunUse::Alarms => directory::merge_hints(inputs, is_bottom, purged, &mut out)?,
            _ => {
                let forgotten = forgotten(version);
                directory::merge_names(inputs, is_bottom, purged, forgotten, &mut out)?
            }
        };
        let facts = out.finish()?;
        // A run of holes alone still says what was lost.
        Ok(Merged { says_nothing: facts.entries == 0 && stats.holes == 0, facts })
    }

    fn install_merged(
        &self,
        publisher: &mut Publisher,
        inputs: &[FileNumber],
        merged: &Merged,
    ) -> Result<bool> {
        let facts = &merged.facts;
        let mut next = publisher.manifest.clone();
        let of_use: Vec<FileNumber> =
            next.runs.iter().filter(|run| run.usage == facts.usage).map(|run| run.number).collect();
        if !of_use.windows(inputs.len()).any(|window| window == inputs) {
            return Ok(false);
        }
        let place = next.runs.iter().position(|run| Some(&run.number) == inputs.first());
        next.runs.retain(|run| !inputs.contains(&run.number));
        if !merged.says_nothing {
            next.runs.insert(place.unwrap_or(0), *facts);
        }
        self.publish_new(publisher, next, &[FileName::Run(facts.number)], None)?;
        Ok(true)
    }
}

/// The runs of each use of the present, the newest first.
fn runs_by_use(version: &Version) -> [(RunUse, &[Arc<Run>]); 3] {
    [
        (RunUse::Directory, version.directory.runs()),
        (RunUse::Names, &version.names),
        (RunUse::Alarms, &version.alarms),
    ]
}

/// Says of one address after the other, in their order, whether the directory has let it go. None
/// has gone for sure behind a place where entries of the directory are lost.
fn forgotten(version: &Version) -> impl FnMut(Address) -> bool {
    let mut heads = version.directory.heads(Address::default()).peekable();
    move |address| {
        while heads.next_if(|head| head.as_ref().is_ok_and(|(known, _)| *known < address)).is_some()
        {
        }
        match heads.peek() {
            Some(Ok((known, _))) => *known != address,
            Some(Err(_)) => false,
            None => true,
        }
    }
}

/// What a merge has written.
struct Merged {
    facts: RunFacts,
    says_nothing: bool,
}

/// How many of the newest runs to merge.
fn choose(runs: &[Arc<Run>]) -> Option<usize> {
    if runs.len() > RUNS_MAX {
        return Some(runs.len());
    }
    let mut taken = 0;
    let mut bytes = 0;
    for run in runs {
        if taken > 0 && run.facts().bytes > 2 * bytes {
            break;
        }
        bytes += run.facts().bytes;
        taken += 1;
    }
    (taken >= INPUTS_MIN).then_some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::engine::backup::Told;
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind, NamespaceNumber, ShortId};
    use crate::object::Inner;
    use crate::object::range::Entry;
    use crate::object::write_set::WriteSet;
    use crate::options::Options;
    use crate::wal::pool::Fill;

    #[test]
    fn what_is_given_up_leaves_no_file_and_can_be_begun_again() {
        let disk = SimDisk::new(1);
        let options = Options::default().threads(false);
        let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
        let address = Address { namespace: NamespaceNumber(1), id: ShortId([1; 16]) };
        // More files than an open epoch of history is to have.
        for value in 0..9_u8 {
            let mut changes = WriteSet::new();
            let (key, value) = (&[KeyKind::User as u8, b'k'], &[value; 100]);
            let put = Operation::Put { key, codec: Codec::Raw, value };
            changes.push(&engine.options.limits, &put).unwrap();
            let commit = |object: &Arc<_>, inner: &mut Inner| engine.commit(object, inner, changes);
            engine.with_object(address, commit).unwrap();
            assert!(engine.checkpoint().unwrap());
        }
        let there = disk.names();
        engine.give_up(true);
        assert_eq!(engine.merge().unwrap_err().code(), "store.closed");
        assert_eq!(engine.merge_history().unwrap_err().code(), "store.closed");
        // Nor does anybody wait for a file to be filled, for pages to be prepared, for a copy.
        engine.wal.prepare_file(Fill::Written).unwrap();
        let entry = |key: u8| {
            let (key, value) = (vec![KeyKind::User as u8, key].into(), vec![key].into());
            Ok(Entry { key, codec: Codec::Raw, value })
        };
        let prepared = engine.prepare(address, (0..9).map(entry));
        assert_eq!(prepared.map(drop).unwrap_err().code(), "store.closed");
        let target: Arc<dyn Disk> = Arc::new(SimDisk::new(2));
        let told = Told { expect: &|_| {}, pass: &|_| {} };
        assert_eq!(engine.backup(&target, false, &told).unwrap_err().code(), "store.closed");
        assert_eq!(disk.names(), there);
        engine.purge(address).unwrap();
        assert_eq!(engine.erase().unwrap_err().code(), "store.closed");
        engine.give_up(false);
        assert!(engine.wants_merge() && engine.merge().unwrap() && engine.wants_erase());
        assert!(engine.erase().unwrap());
    }
}

//! Merging: several sorted runs become one, so that a look-up asks few.
//!
//! Runs are tiered: the newest are taken together as long as the next one is not much larger than
//! what was taken, so each entry is rewritten about as often as the store's size doubles.
//!
//! Invariants:
//!   * Inputs are neighbours in the order of runs, and the output takes exactly their place.
//!   * Written without the publisher lock; thrown away if any input is gone when it is done, and
//!     given up where somebody waits for it to end.
//!   * A merge takes long and holds no version: one that is held keeps every file of its time.
//!   * One that fails for a reason that stays is let be, longer each time, and keeps no other from
//!     its turn. None takes the room that commits and a checkpoint need.
//!   * A name goes only when neither the directory, nor memory, nor what was published meanwhile
//!     has its object.

use super::Engine;
use super::history::forgets;
use super::publish::Publisher;
use super::stats::total;
use crate::directory::{self, Directory};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Head;
use crate::format::manifest::Manifest;
use crate::format::run::{RunFacts, RunUse};
use crate::ids::{Address, FileNumber};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::version::Version;
use crate::options::Options;
use crate::run::{Run, RunWriter, TOO_LARGE};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Runs that are worth merging at the least.
const INPUTS_MIN: usize = 4;
/// Runs of one use beyond which merging takes all of them.
const RUNS_MAX: usize = 12;
/// Files of the log that a merge leaves room for.
const LOG_FILES_FREE: u64 = 2;

impl Engine {
    /// Whether any use has runs to merge.
    pub fn wants_merge_of_runs(&self) -> bool {
        self.choose_runs(&self.version()).is_some()
    }

    /// Merges runs of one use, or else files of history. Says whether there were any to merge.
    pub fn merge(&self) -> Result<bool> {
        Ok(self.merge_runs()? || self.merge_history()?)
    }

    /// Merges runs of one use. Says whether there were any to merge. A run that cannot be merged
    /// for now is let be, and newer ones are merged without it.
    pub fn merge_runs(&self) -> Result<bool> {
        self.check_alive()?;
        loop {
            // Moved into the merge, which lets go of it: a version keeps every file of its time.
            let version = self.version();
            let Some((usage, count)) = self.choose_runs(&version) else { return Ok(false) };
            let inputs = newest_of(&version, usage, count);
            match self.within_room(&inputs, || self.merge_newest(version, usage, count)) {
                Err(error) if self.note_unmerged(&inputs, &error) => mark(Mark::RunLetBe),
                merged => return merged.map(|_| true),
            }
        }
    }

    /// Writes what these files hold anew, if there is room for it. Where there is none they are let
    /// be for a while: a merge may be left out, and would fill the disk each time.
    pub(super) fn within_room<T>(
        &self,
        inputs: &[RunFacts],
        write: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let room = self.check_room(total(inputs.iter().map(|facts| facts.bytes)));
        let written = room.and_then(|()| write());
        if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full) {
            self.let_be(inputs.iter().map(|facts| facts.number));
        }
        written
    }

    /// Fails with `Full` where so many bytes would take the room that commits need until the next
    /// checkpoint, and that one.
    fn check_room(&self, bytes: u64) -> Result<()> {
        let free = match self.disk.space() {
            Ok(space) => space.free,
            Err(cause) if cause.kind() == std::io::ErrorKind::Unsupported => return Ok(()),
            Err(cause) => return Err(Error::io("asking for free space", cause)),
        };
        let Options { wal_file_bytes, dirty_bytes, .. } = self.options;
        let needed = LOG_FILES_FREE * wal_file_bytes + dirty_bytes as u64;
        if free.saturating_sub(needed) >= bytes {
            return Ok(());
        }
        let what = format!("{free} bytes are free, and {bytes} more than {needed} are needed");
        Err(Error::new(ErrorKind::Full, "disk.full", what))
    }

    /// The first use of which runs are worth merging, and how many of the newest; none that are as
    /// old as one that is let be.
    fn choose_runs(&self, version: &Version) -> Option<(RunUse, usize)> {
        let (now, unmerged) = (self.clock.uptime(), self.unmerged.lock());
        runs_by_use(version).into_iter().find_map(|(usage, runs)| {
            let is_let_be = |run: &Arc<Run>| unmerged.waits(&run.facts().number, now);
            let end = runs.iter().position(is_let_be).unwrap_or(runs.len());
            Some((usage, choose(&runs[..end])?))
        })
    }

    /// Has the run be for a while on account of which a merge failed: the one that is damaged or
    /// that the medium did not give; the oldest, where together they are more than a run can be, or
    /// it is not known which. Says whether the reason is one that stays.
    fn note_unmerged(&self, inputs: &[RunFacts], error: &Error) -> bool {
        let is_full = error.kind() == ErrorKind::Full;
        if error.kind() == ErrorKind::Corrupt || error.code() == TOO_LARGE {
            let mut numbers = inputs.iter().map(|facts| facts.number);
            let named = numbers.find(|number| error.is_of(FileName::Run(*number)));
            self.let_be(named.or(inputs.last().map(|facts| facts.number)));
        } else if !is_full {
            return false;
        }
        if !error.is_unreadable() {
            self.note_failure(error);
        }
        true
    }

    /// Has runs or files of history be for a while, longer each time.
    fn let_be(&self, numbers: impl IntoIterator<Item = FileNumber>) {
        let (version, mut unmerged) = (self.version(), self.unmerged.lock());
        let now = self.clock.uptime();
        numbers.into_iter().for_each(|number| unmerged.note_failed(number, now));
        let Manifest { runs, history, .. } = &version.manifest;
        let files = runs.iter().chain(history.iter().map(|file| &file.facts));
        let there: BTreeSet<_> = files.map(|facts| facts.number).collect();
        unmerged.keep_only(|number| there.contains(number));
    }

    /// Whether any of these runs or files of history is let be.
    pub(super) fn are_let_be<'f>(&self, mut facts: impl Iterator<Item = &'f RunFacts>) -> bool {
        let (now, unmerged) = (self.clock.uptime(), self.unmerged.lock());
        facts.any(|facts| unmerged.waits(&facts.number, now))
    }

    /// Whether an object of which the directory had nothing when a merge began may have something
    /// by now. What was committed behind the cut of the checkpoint that found it empty took it for
    /// named, and does not say its name again.
    fn may_be_there(&self, address: Address) -> bool {
        // Memory first: what has left it is in the version that comes after.
        self.table.get(&address).is_some() || !matches!(self.version().head(address), Ok(None))
    }

    /// Merges all runs of each use into one, as often as it takes.
    pub(super) fn merge_all(&self) -> Result<()> {
        for place in 0..USES {
            loop {
                let version = self.version();
                let (usage, runs) = runs_by_use(&version)[place];
                let count = runs.len();
                if count == 0 || self.merge_newest(version, usage, count)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Merges so many of the newest runs of a use. Says whether the output took their place.
    fn merge_newest(&self, version: Arc<Version>, usage: RunUse, count: usize) -> Result<bool> {
        let _rewriting = self.rewriting.read();
        let inputs = Inputs::of(&version, usage, count);
        drop(version);
        let number = self.numbers.take();
        let name = FileName::Run(number);
        let written = self.write_merged(&inputs, number);
        let merged = written.inspect_err(|_| drop(self.disk.remove(name)))?;
        let mut publisher = self.publisher.lock();
        let inputs: Vec<FileNumber> = inputs.runs.iter().map(|run| run.facts().number).collect();
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

    fn write_merged(&self, inputs: &Inputs, number: FileNumber) -> Result<Merged> {
        let pace = Arc::clone(&self.pace);
        let Inputs { usage, runs, is_bottom, manifest, heads } = inputs;
        let mut out = RunWriter::create(&*self.disk, pace, self.context, number, *usage)?;
        out.give_up_when(Arc::clone(&self.is_ending));
        let purged = |address| manifest.purge_of(address).map(|purge| purge.lsn);
        let stats = match usage {
            RunUse::Directory => {
                let forgets = |address: Address, head: &Head| {
                    forgets(manifest, address.namespace, head.last_lsn)
                };
                directory::merge(runs, *is_bottom, forgets, &mut out)?
            }
            RunUse::Alarms => directory::merge_hints(runs, *is_bottom, purged, &mut out)?,
            _ => {
                let mut forgotten = forgotten(heads);
                let is_gone = |address| forgotten(address) && !self.may_be_there(address);
                directory::merge_names(runs, *is_bottom, purged, is_gone, &mut out)?
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

/// So many of the newest runs of a use, the newest first.
fn newest_of(version: &Version, usage: RunUse, count: usize) -> Vec<RunFacts> {
    let by_use = runs_by_use(version);
    let runs = by_use.iter().find(|(of, _)| *of == usage).map_or(&[][..], |(_, runs)| runs);
    runs.iter().take(count).map(|run| *run.facts()).collect()
}

/// What a merge reads.
struct Inputs {
    usage: RunUse,
    runs: Vec<Arc<Run>>,
    /// Whether there are no older runs of this use.
    is_bottom: bool,
    /// As of when the merge began.
    manifest: Manifest,
    heads: Directory,
}

impl Inputs {
    fn of(version: &Version, usage: RunUse, count: usize) -> Self {
        let by_use = runs_by_use(version);
        let runs = by_use.iter().find(|(of, _)| *of == usage).map_or(&[][..], |(_, runs)| runs);
        let (runs, is_bottom) = (runs[..count].to_vec(), runs.len() == count);
        let heads = Directory::new(version.directory.runs().to_vec());
        Self { usage, runs, is_bottom, manifest: version.manifest.clone(), heads }
    }
}

/// How many uses the present has.
const USES: usize = 3;

/// The runs of each use of the present, the newest first.
fn runs_by_use(version: &Version) -> [(RunUse, &[Arc<Run>]); USES] {
    [
        (RunUse::Directory, version.directory.runs()),
        (RunUse::Names, &version.names),
        (RunUse::Alarms, &version.alarms),
    ]
}

/// Says of one address after the other, in their order, whether the directory has let it go. None
/// has gone for sure behind a place where entries of the directory are lost.
fn forgotten(directory: &Directory) -> impl FnMut(Address) -> bool {
    let mut heads = directory.heads(Address::default()).peekable();
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
    use crate::disk::sim::{Faults, SimDisk};
    use crate::engine::backup::Told;
    use crate::engine::history_merge::OPEN_MAX;
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind, NamespaceNumber, ShortId};
    use crate::object::Inner;
    use crate::object::range::Entry;
    use crate::object::write_set::WriteSet;
    use crate::wal::pool::Fill;

    /// A store with so many runs of the directory, of one object.
    fn with_runs(disk: &SimDisk, count: usize) -> Arc<Engine> {
        let options = Options::default().threads(false);
        let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
        let address = Address { namespace: NamespaceNumber(1), id: ShortId([1; 16]) };
        for value in 0..count {
            let mut changes = WriteSet::new();
            let (key, value) = (&[KeyKind::User as u8, b'k'], &value.to_le_bytes());
            let put = Operation::Put { key, codec: Codec::Raw, value };
            changes.push(&engine.options.limits, &put).unwrap();
            let commit = |object: &Arc<_>, inner: &mut Inner| engine.commit(object, inner, changes);
            engine.with_object(address, commit).unwrap();
            assert!(engine.checkpoint().unwrap());
        }
        engine
    }

    #[test]
    fn runs_that_would_be_too_large_as_one_are_merged_without_the_oldest_for_a_while() {
        let disk = SimDisk::new(3);
        let engine = with_runs(&disk, 6);
        let version = engine.version();
        let chosen = engine.choose_runs(&version).unwrap();
        assert_eq!(chosen, (RunUse::Directory, 6));
        let inputs = newest_of(&version, RunUse::Directory, 6);
        let too_large = Error::invalid(TOO_LARGE, "more than its index can say");
        assert!(engine.note_unmerged(&inputs, &too_large));
        assert_eq!(engine.choose_runs(&version), Some((RunUse::Directory, 5)));
        assert!(engine.merge().unwrap());
        let runs = engine.version().directory.runs().len();
        assert_eq!(runs, 2, "the oldest, and one of the others");
        disk.advance(std::time::Duration::from_hours(1));
        assert_eq!(engine.choose_runs(&version), Some((RunUse::Directory, 6)));
        assert!(!engine.note_unmerged(&inputs, &Error::closed()));
    }

    /// How many files a minute of trying to merge begins, a try each second.
    fn begun_in_a_minute(disk: &SimDisk, engine: &Engine) -> u64 {
        let before = engine.numbers.peek();
        for _ in 0..60 {
            disk.advance(std::time::Duration::from_secs(1));
            let _ = engine.merge_runs();
            let _ = engine.merge_history();
        }
        engine.numbers.peek().0 - before.0
    }

    #[test]
    fn a_merge_begins_where_there_is_room_for_it_and_for_commits() {
        let disk = SimDisk::new(5);
        let engine = with_runs(&disk, OPEN_MAX + 1);
        let Options { wal_file_bytes, dirty_bytes, .. } = engine.options;
        let needed = LOG_FILES_FREE * wal_file_bytes + dirty_bytes as u64;
        disk.set_free_bytes(needed);
        assert_eq!(begun_in_a_minute(&disk, &engine), 0);
        assert!(engine.wants_history_merge());
        // As soon as it was let be for long enough.
        disk.set_free_bytes(needed + (1 << 20));
        disk.advance(std::time::Duration::from_hours(1));
        assert!(engine.merge_runs().unwrap() && engine.merge_history().unwrap());
    }

    #[test]
    fn a_merge_that_fills_the_disk_begins_again_after_pauses_that_double() {
        let disk = SimDisk::new(6);
        let engine = with_runs(&disk, OPEN_MAX + 1);
        disk.set_faults(Faults { no_space: 1.0, ..Faults::none() });
        let begun = begun_in_a_minute(&disk, &engine);
        assert_eq!(begun, 2 * 6, "runs and history, after 1, 2, 4, 8, 16 and 32 seconds");
        assert_eq!(engine.last_failure().unwrap().kind(), ErrorKind::Full);
    }

    #[test]
    fn what_is_given_up_leaves_no_file_and_can_be_begun_again() {
        let disk = SimDisk::new(1);
        // More files than an open epoch of history is to have.
        let engine = with_runs(&disk, OPEN_MAX + 1);
        let address = Address { namespace: NamespaceNumber(1), id: ShortId([1; 16]) };
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
        assert!(engine.wants_merge_of_runs() && engine.merge().unwrap() && engine.wants_erase());
        assert!(engine.erase().unwrap());
    }
}

//! Verification of sorted runs: each block, the order of keys, counts, filters, every entry.

use crate::disk::ReadDisk;
use crate::error::{Error, Place};
use crate::format::Malformed;
use crate::format::alarm::{Hint, hint_is_set};
use crate::format::entry::{DirectoryKey, Head, PageEntry};
use crate::format::manifest::{HistoryFile, Manifest};
use crate::format::object_name::ObjectName;
use crate::format::run::{RunFacts, RunUse};
use crate::ids::{Address, Lsn};
use crate::inspect::history;
use crate::inspect::report::{Fault, Report, Scope, Watch, message};
use crate::names::FileName;
use crate::run::examine::{Examined, Harm, Wound, examine, lost};
use crate::run::{Run, RunItem};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

/// Entries of a run that are lost now.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The run.
    pub file: FileName,
    /// What the run is for.
    pub usage: RunUse,
    /// The bytes in which they stood.
    pub range: Range<u64>,
    /// The first key.
    pub first: Vec<u8>,
    /// The last key.
    pub last: Vec<u8>,
}

/// The runs as far as they can be read, newest first. One that cannot be read at all is there as
/// one that has lost everything: what lies below it is not taken for what is.
#[derive(Debug, Default)]
pub struct Runs {
    /// Of the directory.
    pub directory: Vec<Arc<Run>>,
    /// Of names.
    pub names: Vec<Arc<Run>>,
    /// Of alarms.
    pub alarms: Vec<Arc<Run>>,
    /// Of history.
    pub history: Vec<Arc<Run>>,
    /// What is lost of them.
    pub lost: Vec<Lost>,
    /// Whether all of the alarm runs opened.
    pub is_index_whole: bool,
    /// The last purges of objects that the manifest knows.
    pub purged: BTreeMap<Address, Lsn>,
}

impl Runs {
    /// Opens and checks the runs that a manifest names.
    pub fn check(
        disk: &dyn ReadDisk,
        manifest: &Manifest,
        (report, watch): (&mut Report, &dyn Watch),
    ) -> Self {
        let mut runs = Self { is_index_whole: true, ..Self::default() };
        runs.purged = manifest.purged.iter().map(|purge| (purge.address, purge.lsn)).collect();
        let history = manifest.history.iter().map(|file| (&file.facts, Some(file)));
        let present = manifest.runs.iter().map(|facts| (facts, None));
        for (facts, file) in present.chain(history) {
            if watch.is_over() {
                break;
            }
            let examined = examine(disk, manifest.store, facts.number, Some(facts));
            let run = match examined {
                Ok(Examined { run, wounds, .. }) => {
                    let is_whole = runs.take_wounds(facts, wounds, report);
                    runs.check_run(&run, (facts, file), is_whole, report);
                    run
                }
                Err(error) => {
                    runs.is_index_whole &= facts.usage != RunUse::Alarms;
                    runs.lose_all(facts, &error, report);
                    lost(facts)
                }
            };
            watch.pass(facts.bytes);
            match facts.usage {
                RunUse::Directory => runs.directory.push(run),
                RunUse::Names => runs.names.push(run),
                RunUse::Alarms => runs.alarms.push(run),
                RunUse::History => runs.history.push(run),
            }
        }
        runs
    }

    /// Whether an alarm would be found when it is due; true as well where that is not known.
    pub fn has_hint(&self, hint: &Hint) -> bool {
        let key = hint.encode();
        for run in &self.alarms {
            match run.get(&key, hint_is_set) {
                Ok(None) => {}
                Ok(Some(Ok(is_set))) => return is_set,
                // The run's own check has told of the damage.
                Ok(Some(Err(_))) | Err(_) => return true,
            }
        }
        !self.is_index_whole
    }

    /// Where the entries of an object stood that are lost, as far as an error tells.
    pub fn lost_of(&self, place: &Place, address: Address) -> Option<&Lost> {
        let start = address.to_bytes();
        let here = || self.lost.iter().filter(|lost| lost.file.to_string() == place.file);
        let touches = |lost: &&Lost| {
            let begins = lost.first[..] <= start[..] || lost.first.starts_with(&start);
            begins && lost.last[..] >= start[..]
        };
        let holds = |lost: &&Lost| lost.range.contains(&place.offset);
        here().find(holds).or_else(|| here().find(touches))
    }

    /// Tells what is damaged of a frame; says whether all entries are there.
    fn take_wounds(&mut self, facts: &RunFacts, wounds: Vec<Wound>, report: &mut Report) -> bool {
        let file = FileName::Run(facts.number);
        let mut is_whole = true;
        for Wound { range, what, harm, keys } in wounds {
            let scope = if harm == Harm::None { Scope::Spare } else { opening_scope(facts.usage) };
            is_whole &= harm != Harm::Entries;
            let mut what = what.to_owned();
            if harm == Harm::Opening {
                what.push_str("; the store does not open");
            }
            report.fault(Fault::at(file, range.clone(), what).in_scope(scope));
            if let Some((first, last)) = keys {
                self.lost.push(Lost { file, usage: facts.usage, range, first, last });
            }
        }
        is_whole
    }

    fn lose_all(&mut self, facts: &RunFacts, error: &Error, report: &mut Report) {
        let (file, range) = (FileName::Run(facts.number), 0..facts.bytes);
        let fault = Fault::at(file, range.clone(), message(error));
        report.fault(fault.in_scope(opening_scope(facts.usage)));
        self.lost.push(Lost {
            file,
            usage: facts.usage,
            range,
            first: Vec::new(),
            last: vec![0xFF; 64],
        });
    }

    fn check_run(
        &mut self,
        run: &Run,
        (facts, file): (&RunFacts, Option<&HistoryFile>),
        mut is_whole: bool,
        report: &mut Report,
    ) {
        let name = FileName::Run(facts.number);
        is_whole &= run.holes().is_empty();
        let known: BTreeSet<_> =
            self.lost.iter().map(|lost| (lost.file, lost.range.start)).collect();
        let checked = run.verify(|error, range, first, last| {
            is_whole = false;
            if known.contains(&(name, range.start)) {
                return;
            }
            let what = format!("{}; it held {} to {}", message(&error), shown(first), shown(last));
            report.fault(Fault::at(name, range.clone(), what).in_scope(block_scope(facts.usage)));
            let (first, last) = (first.to_vec(), behind_block(run, last, facts.usage));
            self.lost.push(Lost { file: name, usage: facts.usage, range, first, last });
        });
        if let Err(error) = checked {
            is_whole = false;
            report.failed(&error, name, None);
        }
        self.tell_holes(run, report);
        let told = report.fault_count();
        let found = match file {
            Some(file) => history::check(run, file, report),
            None => check_entries(run, report),
        };
        let Some(found) = found else { return };
        // What is wrong of an entry was told: what stands behind it there was not counted.
        is_whole &= report.fault_count() == told;
        let said = (facts.entries, run.addresses());
        if is_whole && said.1 > 0 && found != said {
            let (entries, addresses) = found;
            let what = format!(
                "has {entries} entries of {addresses} objects instead of {} of {}",
                said.0, said.1
            );
            report.wrong(name, what);
        }
        report.counts.entries += found.0;
    }

    /// Tells of what was lost before the run was written, which no damage found now explains.
    fn tell_holes(&self, run: &Run, report: &mut Report) {
        let name = run.name();
        for hole in run.holes() {
            let is_now = |lost: &Lost| lost.file == name && lost.first == hole.first;
            if !self.lost.iter().any(is_now) {
                let (first, last) = (shown(&hole.first), shown(&hole.last));
                let what = format!("what older runs held for {first} to {last} was lost before");
                let scope = block_scope(run.facts().usage);
                report.fault(Fault::at(name, 0..0, what).in_scope(scope));
            }
        }
    }
}

/// Whose state a run that does not open keeps from being read.
fn opening_scope(usage: RunUse) -> Scope {
    if usage == RunUse::History { Scope::History } else { Scope::Live }
}

/// What a lost block of a run takes away. Hints of alarms are found again from the objects.
fn block_scope(usage: RunUse) -> Scope {
    match usage {
        RunUse::Directory | RunUse::Names => Scope::Live,
        RunUse::History => Scope::History,
        RunUse::Alarms => Scope::Spare,
    }
}

/// The last key that a lost block may have been about: a bundle of history goes on behind its own
/// key, up to the next bundle's.
fn behind_block(run: &Run, last: &[u8], usage: RunUse) -> Vec<u8> {
    if usage != RunUse::History {
        return last.to_vec();
    }
    let above = [last, &[0]].concat();
    let next = run.ceiling(&above).ok().flatten();
    next.map_or_else(|| vec![0xFF; 64], |(key, _)| key)
}

/// Entries and distinct addresses; none if the walk could not go to the end.
fn check_entries(run: &Run, report: &mut Report) -> Option<(u64, u64)> {
    let name = run.name();
    let (mut entries, mut addresses) = (0, 0);
    let mut before: Option<Vec<u8>> = None;
    for item in run {
        let (key, value) = match item {
            Ok(RunItem::Entry { key, value }) => (key, value),
            // Told by the check of blocks, and by the list of holes.
            Ok(RunItem::Hole { .. }) => continue,
            Err(error) => {
                report.failed(&error, name, None);
                return None;
            }
        };
        entries += 1;
        if before.as_deref().is_some_and(|before| before >= key.as_slice()) {
            report.wrong(name, format!("keys out of order at {}", shown(&key)));
        }
        let start = |key: &[u8]| key[..key.len().min(Address::BYTES)].to_vec();
        let is_new = before.as_deref().is_none_or(|before| start(before) != start(&key));
        addresses += u64::from(is_new);
        let address = Address::from_bytes(&key);
        if is_new && address.is_some_and(|address| !run.may_hold(&address)) {
            report.wrong(name, format!("the filter denies {}", shown(&key)));
        }
        if let Err(fault) = check_entry(run.facts().usage, &key, &value) {
            let what = format!("entry {}: {fault}", shown(&key));
            report.fault(Fault::at(name, 0..0, what).of(address));
        }
        before = Some(key);
    }
    Some((entries, addresses))
}

fn check_entry(usage: RunUse, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
    match usage {
        RunUse::Directory => match DirectoryKey::parse(key)? {
            DirectoryKey::Head(_) => Head::decode(value).map(drop),
            DirectoryKey::Page(..) => PageEntry::decode_value(value).map(drop),
        },
        RunUse::Names => {
            ObjectName::decode(value)?;
            let is_address = key.len() == Address::BYTES;
            is_address.then_some(()).ok_or(Malformed("the name of no object"))
        }
        RunUse::Alarms => {
            Hint::decode(key)?;
            hint_is_set(value).map(drop)
        }
        RunUse::History => Ok(()),
    }
}

/// The beginning of a key, in hexadecimal digits.
fn shown(key: &[u8]) -> String {
    const SHOWN_MAX: usize = 48;
    let mut digits = String::with_capacity(2 * SHOWN_MAX + 3);
    for byte in key.iter().take(SHOWN_MAX) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits.push_str(if key.len() > SHOWN_MAX { "..." } else { "" });
    digits
}

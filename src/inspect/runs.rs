//! Verification of sorted runs: each block, the order of keys, counts, filters, every entry.

use crate::disk::ReadDisk;
use crate::error::Place;
use crate::format::Malformed;
use crate::format::alarm::{Hint, hint_is_set};
use crate::format::entry::{DirectoryKey, Head, PageEntry};
use crate::format::manifest::{HistoryFile, Manifest};
use crate::format::run::{RunFacts, RunUse};
use crate::ids::Address;
use crate::inspect::history;
use crate::inspect::report::{Fault, Report};
use crate::limits::NAME_BYTES_MAX;
use crate::names::FileName;
use crate::run::{Run, RunItem};
use std::fmt::Write;
use std::sync::Arc;

/// The runs that opened, newest first.
#[derive(Debug, Default)]
pub struct Runs {
    /// Of the directory.
    pub directory: Vec<Arc<Run>>,
    /// Of names.
    pub names: Vec<Arc<Run>>,
    /// Of alarms.
    pub alarms: Vec<Arc<Run>>,
    /// Whether all of the alarm runs opened.
    pub is_index_whole: bool,
    /// Whether all of the directory opened: where a newer run is missing, an older one lies.
    pub is_directory_whole: bool,
}

impl Runs {
    /// Opens and checks the runs that a manifest names.
    pub fn check(disk: &dyn ReadDisk, manifest: &Manifest, report: &mut Report) -> Self {
        let mut runs = Self { is_directory_whole: true, is_index_whole: true, ..Self::default() };
        let history = manifest.history.iter().map(|file| (&file.facts, Some(file)));
        let present = manifest.runs.iter().map(|facts| (facts, None));
        for (facts, file) in present.chain(history) {
            match Run::open(disk, manifest.store, facts) {
                Ok(run) => {
                    check_run(&run, (facts, file), report);
                    match facts.usage {
                        RunUse::Directory => runs.directory.push(run),
                        RunUse::Names => runs.names.push(run),
                        RunUse::Alarms => runs.alarms.push(run),
                        RunUse::History => {}
                    }
                }
                Err(error) => {
                    report.failed(&error, FileName::Run(facts.number), None);
                    runs.is_directory_whole &= facts.usage != RunUse::Directory;
                    runs.is_index_whole &= facts.usage != RunUse::Alarms;
                }
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
}

fn check_run(run: &Run, (facts, file): (&RunFacts, Option<&HistoryFile>), report: &mut Report) {
    let name = FileName::Run(facts.number);
    let mut is_whole = run.holes().is_empty();
    let checked = run.verify(|error, first, last| {
        is_whole = false;
        let place = error.place().cloned().unwrap_or_else(|| Place::new(name, 0));
        let (first, last) = (shown(first), shown(last));
        let what = format!("{error}; what it held for {first} to {last} is lost");
        report.fault(Fault { place, object: None, what, is_live: true });
    });
    if let Err(error) = checked {
        is_whole = false;
        report.failed(&error, name, None);
    }
    for hole in run.holes() {
        let (first, last) = (shown(&hole.first), shown(&hole.last));
        report.wrong(name, format!("what older runs held for {first} to {last} was lost before"));
    }
    let found = match file {
        Some(file) => history::check(run, file, report),
        None => check_entries(run, report),
    };
    let Some(found) = found else { return };
    let said = (facts.entries, run.addresses());
    if is_whole && found != said {
        let (entries, addresses) = found;
        let what = format!(
            "has {entries} entries of {addresses} objects instead of {} of {}",
            said.0, said.1
        );
        report.wrong(name, what);
    }
    report.counts.entries += found.0;
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
            let (place, what) = (Place::new(name, 0), format!("entry {}: {fault}", shown(&key)));
            report.fault(Fault { place, object: address, what, is_live: true });
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
            let is_text = std::str::from_utf8(value).is_ok() && value.len() <= NAME_BYTES_MAX;
            if key.len() == Address::BYTES && is_text {
                return Ok(());
            }
            Err(Malformed("not the name of an object"))
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

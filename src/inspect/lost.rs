//! Whom lost entries concern, and how objects are called.
//!
//! A damaged block names nobody. But each of its objects is known from elsewhere: from the runs of
//! names, other runs of the directory, hints of alarms, or its own pages.
//!
//! Invariants:
//!   * At most [`KNOWN_MAX`] objects are gathered; a note says when there were more.

use crate::format::alarm::Hint;
use crate::format::entry::head_key;
use crate::format::manifest::Manifest;
use crate::format::object_name::ObjectName;
use crate::format::run::RunUse;
use crate::ids::{Address, NamespaceNumber};
use crate::inspect::catalog::{CATALOG, Namespace};
use crate::inspect::report::{Fault, Report, Scope};
use crate::inspect::runs::{Lost, Runs};
use crate::run::{Run, RunItem};
use crate::segment::SegmentSet;
use std::collections::{BTreeMap, BTreeSet};

/// Objects that are gathered at most.
pub const KNOWN_MAX: usize = 100_000;

/// Gathers addresses in some ranges.
struct Known {
    ranges: Vec<(Address, Address)>,
    found: BTreeSet<Address>,
    is_cut: bool,
}

impl Known {
    fn new<'a>(lost: impl Iterator<Item = &'a Lost>) -> Self {
        let range = |lost: &Lost| (address_of(&lost.first), address_of(&lost.last));
        Self { ranges: lost.map(range).collect(), found: BTreeSet::new(), is_cut: false }
    }

    fn add(&mut self, address: Address) {
        if !self.ranges.iter().any(|(first, last)| (first..=last).contains(&&address)) {
            return;
        }
        if self.found.len() < KNOWN_MAX {
            self.found.insert(address);
        } else {
            self.is_cut = true;
        }
    }

    /// The addresses that begin keys of a run.
    fn add_keys(&mut self, run: &Run) {
        for (first, last) in self.ranges.clone() {
            for item in run.iter_from(&head_key(first)[..Address::BYTES]) {
                let Ok(RunItem::Entry { key, .. }) = item else { continue };
                let Some(address) = Address::from_bytes(&key) else { continue };
                if address > last {
                    break;
                }
                self.add(address);
            }
        }
    }

    fn end(self, report: &mut Report) -> BTreeSet<Address> {
        if self.is_cut {
            report.note("more objects may be concerned than were gathered");
        }
        self.found
    }
}

/// The address that a key begins with; zeros stand for missing bytes.
fn address_of(key: &[u8]) -> Address {
    let mut bytes = [0; Address::BYTES];
    let length = key.len().min(bytes.len());
    bytes[..length].copy_from_slice(&key[..length]);
    Address::from_bytes(&bytes).unwrap_or_default()
}

/// Objects of which entries of the directory may be lost.
pub fn of_directory(
    runs: &Runs,
    (manifest, segments): (&Manifest, &SegmentSet),
    report: &mut Report,
) -> BTreeSet<Address> {
    let mut known = Known::new(runs.lost.iter().filter(|it| it.usage == RunUse::Directory));
    if known.ranges.is_empty() {
        return known.found;
    }
    runs.directory.iter().chain(&runs.names).for_each(|run| known.add_keys(run));
    for run in &runs.alarms {
        for item in &**run {
            let Ok(RunItem::Entry { key, .. }) = item else { continue };
            if let Ok(hint) = Hint::decode(&key) {
                known.add(hint.address);
            }
        }
    }
    for state in &manifest.segments {
        let Ok(pages) = segments.scan(state.facts.number) else { continue };
        pages.filter_map(Result::ok).for_each(|page| known.add(page.meta.address));
    }
    known.end(report)
}

/// Tells whose past was lost with blocks of history, as far as the filters deny no object. Of files
/// that are lost whole [`gone`](super::gone) tells.
pub fn tell_history(runs: &Runs, report: &mut Report) {
    for lost in runs.lost.iter().filter(|lost| lost.usage == RunUse::History) {
        let Some(run) = runs.history.iter().find(|run| run.name() == lost.file) else { continue };
        if lost.first.is_empty() {
            continue;
        }
        let mut known = Known::new(std::iter::once(lost));
        runs.directory.iter().chain(&runs.names).for_each(|run| known.add_keys(run));
        for address in known.end(report).into_iter().filter(|address| run.may_hold(address)) {
            let fault = Fault::at(lost.file, lost.range.clone(), "a part of its past is lost");
            report.fault(fault.of(address).in_scope(Scope::History));
        }
    }
}

/// Looks up how the objects that faults name are called.
pub fn name_objects(
    namespaces: &BTreeMap<NamespaceNumber, Namespace>,
    runs: &Runs,
    report: &mut Report,
) {
    let addresses: BTreeSet<_> = report.faults.iter().filter_map(|fault| fault.object).collect();
    for address in addresses {
        let name = if address == CATALOG {
            "the list of namespaces".to_owned()
        } else {
            let Some(namespace) = namespaces.get(&address.namespace) else { continue };
            let name = name_of(runs, address);
            let name = name.unwrap_or_else(|| format!("~{}", address.id));
            format!("{}/{name}", namespace.name)
        };
        report.names.insert(address, name);
    }
}

/// The name of an object, from the newest run that has it; none where a purge has taken it.
pub fn name_of(runs: &Runs, address: Address) -> Option<String> {
    let purge = runs.purged.get(&address);
    let read = |value: &[u8]| {
        let own = ObjectName::decode(value).ok();
        let own = own.filter(|own| !purge.is_some_and(|purge| own.is_taken_by(*purge)));
        own.map(|own| own.name.to_owned())
    };
    let mut names = runs.names.iter().filter(|run| run.may_hold(&address));
    names.find_map(|run| run.get(&address.to_bytes(), read).ok().flatten()).flatten()
}

//! What is known of files of history that are lost whole: the span that each covered, by the
//! manifest, and objects that are known to have had commits in it.
//!
//! An object is known by its last commit, as its head says it, and by earlier last ones, as other
//! files of history have kept its heads. What an object committed in a span and again before its
//! next head was kept, nothing tells.
//!
//! Invariants:
//!   * Whoever is named had a commit in the file, if the rest of the store is right.
//!   * At most [`KNOWN_MAX`] objects are gathered.

use crate::directory::Directory;
use crate::format::Malformed;
use crate::format::history::{Bundle, Group, ItemKey, State};
use crate::format::manifest::{HistoryFile, Manifest};
use crate::ids::{Address, Lsn, NamespaceNumber};
use crate::inspect::lost::KNOWN_MAX;
use crate::inspect::report::{Fault, GoneHistory, Report, Scope};
use crate::inspect::runs::Runs;
use crate::names::FileName;
use crate::run::{Run, RunItem};
use crate::segment::dictionary;
use std::collections::BTreeSet;

/// The retention class of namespaces that never had another.
const DEFAULT_CLASS: u32 = 1;

/// A file that is lost whole.
struct Gone<'a> {
    file: &'a HistoryFile,
    /// Files of which one may have the commits of an object instead.
    others: Vec<&'a Run>,
    /// Objects with a commit in it.
    named: BTreeSet<Address>,
    /// Objects that committed behind its beginning, and may have had some in it.
    perhaps: u64,
}

/// Tells what is known of each file of history of which nothing can be read.
pub fn tell(runs: &Runs, manifest: &Manifest, report: &mut Report) {
    let is_gone =
        |name: FileName| runs.lost.iter().any(|lost| lost.file == name && lost.first.is_empty());
    let name = |file: &HistoryFile| FileName::Run(file.facts.number);
    let (files, left): (Vec<_>, Vec<_>) =
        manifest.history.iter().partition(|file| is_gone(name(file)));
    if files.is_empty() {
        return;
    }
    let run_of = |file: &HistoryFile| runs.history.iter().find(|run| run.name() == name(file));
    let gone = files.iter().copied().map(|file: &HistoryFile| {
        let is_beside = |other: &&&HistoryFile| {
            other.class == file.class && other.start < file.end && file.start < other.end
        };
        let others =
            left.iter().filter(is_beside).filter_map(|other| run_of(other)).map(|it| &**it);
        Gone { file, others: others.collect(), named: BTreeSet::new(), perhaps: 0 }
    });
    let mut gone: Vec<_> = gone.collect();
    for file in &left {
        let Some(run) = run_of(file) else { continue };
        kept_heads(run, |address, lsn| {
            for gone in &mut gone {
                gone.note(manifest, address, lsn);
            }
        });
    }
    let directory = Directory::new(runs.directory.clone());
    for head in directory.heads(Address::default()) {
        let Ok((address, head)) = head else { continue };
        for gone in &mut gone {
            gone.note(manifest, address, head.last_lsn);
            gone.perhaps += u64::from(head.last_lsn > gone.file.start);
        }
    }
    for gone in gone {
        gone.tell(report);
    }
}

impl Gone<'_> {
    /// Notes an object that had a commit, if it was in the file.
    fn note(&mut self, manifest: &Manifest, address: Address, lsn: Lsn) {
        let file = self.file;
        let is_in = file.start < lsn
            && lsn <= file.end
            && class_at(manifest, address.namespace, lsn) == file.class
            && !self.others.iter().any(|other| other.may_hold(&address));
        if is_in && self.named.len() < KNOWN_MAX {
            self.named.insert(address);
        }
    }

    fn tell(self, report: &mut Report) {
        let name = FileName::Run(self.file.facts.number);
        let named = self.named.len() as u64;
        let perhaps = self.perhaps.saturating_sub(named);
        report.gone.push(GoneHistory { file: *self.file, named, perhaps });
        for address in self.named {
            let range = 0..self.file.facts.bytes;
            let fault = Fault::at(name, range, "commits of it that were kept here are lost");
            report.fault(fault.of(address).in_scope(Scope::History));
        }
    }
}

/// The retention class that a namespace had at a commit.
fn class_at(manifest: &Manifest, namespace: NamespaceNumber, at: Lsn) -> u32 {
    let mut changes = manifest.classes.iter().rev();
    let own = changes.find(|change| change.namespace == namespace && change.from < at);
    own.map_or(DEFAULT_CLASS, |change| change.class)
}

/// Hands out the heads that a file has kept: whose, and the last commit that each knew.
fn kept_heads(run: &Run, mut each: impl FnMut(Address, Lsn)) {
    for item in run {
        let Ok(RunItem::Entry { value, .. }) = item else { continue };
        let expand = |frame: &[u8], raw: &mut [u8]| dictionary::expand(None, frame, raw);
        let bundle: Result<Bundle, Malformed> = Bundle::decode(&value, expand);
        let Ok(bundle) = bundle else { continue };
        for at in 0..bundle.count() {
            let Some((ItemKey { address, group, lsn, chunk, .. }, state)) = bundle.item(at) else {
                break;
            };
            let is_first = group == Group::States && chunk == 0;
            if is_first && matches!(State::decode(state), Ok(State::Head { .. })) {
                each(address, lsn);
            }
        }
    }
}

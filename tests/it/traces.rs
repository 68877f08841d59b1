//! Where bytes are on a machine: in any byte of any file, as the machine sees it and as the medium
//! has it, and in every page, dictionary, entry, item of history and group of the log once decoded.
//!
//! Invariants:
//!   * Nothing that a store could ever read again is left out, whether a manifest names it or not.

use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::format::header::{FileKind, HEADER_BLOCK_BYTES, Header};
use dostore::format::run::RunUse;
use dostore::ids::FileNumber;
use dostore::manifest;
use dostore::names::FileName;
use dostore::object::history::bundle_of;
use dostore::run::examine::examine;
use dostore::run::{Run, RunItem};
use dostore::segment::{SegmentSet, facts_of};
use dostore::wal;
use dostore::wal::examine::{Sight, body_of};
use std::collections::BTreeSet;
use std::sync::Arc;

const HEALTHY: &str = "a healthy disk";

/// Where `has` finds something. Nothing that the manifest names may be damaged; a file that nobody
/// names may have lost bytes to a write-back that failed.
pub fn traces(disk: &SimDisk, has: &dyn Fn(&[u8]) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in disk.names() {
        let kinds = [("seen", disk.file_bytes(name)), ("stored", disk.medium_bytes(name))];
        for (kind, bytes) in kinds {
            if bytes.is_some_and(|bytes| has(&bytes)) {
                found.insert(format!("{name} as {kind}"));
            }
        }
    }
    let reading: Arc<dyn ReadDisk> = Arc::new(disk.clone());
    let manifest = manifest::read(disk).expect(HEALTHY).expect("a store is there");
    let segments = SegmentSet::new(Arc::clone(&reading), manifest.store);
    let runs = manifest.runs.iter().chain(manifest.history.iter().map(|file| &file.facts));
    let named = manifest.segments.iter().map(|state| FileName::Segment(state.facts.number));
    let named: BTreeSet<_> = named.chain(runs.map(|facts| FileName::Run(facts.number))).collect();
    let there: BTreeSet<_> = disk.names().into_iter().collect();
    assert!(named.is_subset(&there), "{HEALTHY}");
    for name in there {
        let is_named = named.contains(&name);
        match name {
            FileName::Segment(number) => {
                // One that was not written to its end has nothing that is packed with another.
                let Ok(facts) = facts_of(disk, manifest.store, number) else { continue };
                segments.add(&facts);
                find_in_segment(&segments, (number, is_named), has, &mut found);
            }
            FileName::Run(number) => {
                let Ok(examined) = examine(disk, manifest.store, number, None) else { continue };
                find_in_run((&examined.run, is_named), has, &mut found);
            }
            FileName::Wal(_) => find_in_log(disk, name, has, &mut found),
            _ => {}
        }
    }
    found
}

/// The body of a group that would have a sector of zeros is masked.
fn find_in_log(
    disk: &SimDisk,
    name: FileName,
    has: &dyn Fn(&[u8]) -> bool,
    found: &mut BTreeSet<String>,
) {
    let bytes = disk.file_bytes(name).expect(HEALTHY);
    let Ok(header) = Header::decode(&bytes, FileKind::Wal) else { return };
    let how = Some((Some(header.salt), HEADER_BLOCK_BYTES));
    for sight in wal::examine::examine(disk, name, how).expect(HEALTHY).sights {
        let Sight::Group { range, header, .. } = sight else { continue };
        if has(&body_of(disk, name, range.start, &header).expect(HEALTHY)) {
            found.insert(format!("a group of {name}"));
        }
    }
}

/// What could be read; none for what is damaged in a file that nobody names.
fn sound<T>(read: Result<T, Error>, is_named: bool) -> Option<T> {
    assert!(read.is_ok() || !is_named, "{HEALTHY}: {:?}", read.err());
    read.ok()
}

fn find_in_run(
    (run, is_named): (&Run, bool),
    has: &dyn Fn(&[u8]) -> bool,
    found: &mut BTreeSet<String>,
) {
    let usage = run.facts().usage;
    for item in run {
        let Some(RunItem::Entry { key, value }) = sound(item, is_named) else { continue };
        if has(&key) || has(&value) {
            found.insert(format!("an entry of {} as {usage:?}", run.name()));
        }
        if usage == RunUse::History {
            let bundle = bundle_of(run, &value).expect(HEALTHY);
            let mut items = (0..bundle.count()).filter_map(|index| bundle.item(index));
            if items.any(|(_, value)| has(value)) {
                found.insert(format!("an item of {}", run.name()));
            }
        }
    }
}

fn find_in_segment(
    segments: &SegmentSet,
    (number, is_named): (FileNumber, bool),
    has: &dyn Fn(&[u8]) -> bool,
    found: &mut BTreeSet<String>,
) {
    for page in segments.scan(number).expect(HEALTHY) {
        let Some(page) = sound(page, is_named) else { continue };
        let body = segments.page(&page.location).expect(HEALTHY);
        if has(body.body()) || has(&page.meta.fence) {
            found.insert(format!("a page of {}", FileName::Segment(number)));
        }
        let id = page.dictionary;
        if id == 0 {
            continue;
        }
        let dictionary = sound(segments.dictionary(number, id), is_named);
        if dictionary.is_some_and(|dictionary| has(dictionary.bytes())) {
            found.insert(format!("a dictionary of {}", FileName::Segment(number)));
        }
    }
}

//! Where bytes are on a machine: in any byte of any file, as the machine sees it and as the medium
//! has it, and in every page, dictionary, entry and item of history once decoded.
//!
//! Invariants:
//!   * Nothing that a store could ever read again is left out.

use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::format::manifest::Manifest;
use dostore::format::run::RunUse;
use dostore::manifest;
use dostore::names::FileName;
use dostore::object::history::bundle_of;
use dostore::run::{Run, RunItem};
use dostore::segment::SegmentSet;
use std::collections::BTreeSet;
use std::sync::Arc;

const HEALTHY: &str = "a healthy disk";

/// Where `has` finds something. Nothing on the disk may be damaged.
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
    find_in_segments(&reading, &manifest, has, &mut found);
    for facts in manifest.runs.iter().chain(manifest.history.iter().map(|file| &file.facts)) {
        let run = Run::open(&*reading, manifest.store, facts).expect(HEALTHY);
        for item in run.iter() {
            let RunItem::Entry { key, value } = item.expect(HEALTHY) else { panic!("a hole") };
            if has(&key) || has(&value) {
                found.insert(format!("an entry of {} as {:?}", run.name(), facts.usage));
            }
            if facts.usage == RunUse::History {
                let bundle = bundle_of(&run, &value).expect(HEALTHY);
                let mut items = (0..bundle.count()).filter_map(|index| bundle.item(index));
                if items.any(|(_, value)| has(value)) {
                    found.insert(format!("an item of {}", run.name()));
                }
            }
        }
    }
    found
}

fn find_in_segments(
    disk: &Arc<dyn ReadDisk>,
    manifest: &Manifest,
    has: &dyn Fn(&[u8]) -> bool,
    found: &mut BTreeSet<String>,
) {
    let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
    for segment in &manifest.segments {
        segments.add(&segment.facts);
        let number = segment.facts.number;
        for page in segments.scan(number).expect(HEALTHY) {
            let page = page.expect(HEALTHY);
            let body = segments.page(&page.location).expect(HEALTHY);
            if has(body.body()) || has(&page.meta.fence) {
                found.insert(format!("a page of {}", FileName::Segment(number)));
            }
            let id = page.dictionary;
            if id != 0 && has(segments.dictionary(number, id).expect(HEALTHY).bytes()) {
                found.insert(format!("a dictionary of {}", FileName::Segment(number)));
            }
        }
    }
}

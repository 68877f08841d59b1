//! A store without its manifest: every file is looked at by itself, and what is damaged of it told.

use crate::layout::Layout;
use crate::{KINDS, flips, world};
use dostore::disk::Disk;
use dostore::disk::sim::SimDisk;
use dostore::inspect::{Report, Verdict, verify};
use dostore::names::FileName;
use std::collections::BTreeSet;
use world::Chance;

fn files(report: &Report) -> BTreeSet<String> {
    report.faults.iter().map(|fault| fault.place.file.clone()).collect()
}

fn without_manifest() -> SimDisk {
    let disk = world::store(1);
    disk.remove(FileName::Manifest).unwrap();
    disk
}

#[test]
fn a_lost_manifest_is_the_only_fault_where_nothing_else_is_wrong() {
    let disk = without_manifest();
    let report = verify(disk.clone());
    assert_eq!(files(&report), BTreeSet::from(["MANIFEST".to_owned()]), "{report}");
    assert_eq!((report.fault_count(), report.verdict()), (1, Verdict::Damaged), "{report}");
    assert!(report.counts.entries > 0 && report.counts.scanned_pages > 0, "{report}");
    assert!(report.counts.groups > 0 && report.store.is_some(), "{report}");
    let damaged = world::store(1);
    damaged.flip_bit(FileName::Manifest, 99).unwrap();
    let report = verify(damaged);
    assert_eq!(report.fault_count(), 1, "{report}");
    assert!(report.counts.scanned_pages > 0, "{report}");
}

#[test]
fn a_lost_manifest_hides_no_other_damage() {
    let layout = Layout::of(&world::store(1));
    let disk = without_manifest();
    let mut chance = Chance(23);
    for kind in KINDS.into_iter().filter(|kind| *kind != "manifest") {
        let files = layout.files(kind);
        for _ in 0..flips().div_ceil(4) {
            let file = files[usize::try_from(chance.below(files.len() as u64)).unwrap()];
            let byte = chance.below(disk.file_bytes(file).unwrap().len() as u64);
            let unit = layout.unit(file, byte);
            if unit.scope.is_none() {
                continue;
            }
            let damaged = disk.fork();
            damaged.flip_bit(file, byte * 8 + chance.below(8)).unwrap();
            let report = verify(damaged);
            let told = report.faults.iter().find(|fault| fault.place.file == file.to_string());
            let holds = told.is_some_and(|fault| {
                let end = fault.place.offset + fault.bytes.max(1);
                fault.place.offset <= byte.max(unit.told.start) && byte.min(unit.told.start) < end
            });
            assert!(holds, "byte {byte} of {unit:?}: {report}");
        }
    }
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_told() {
    let layout = Layout::of(&world::store(1));
    for kind in ["segment", "directory", "history"] {
        let disk = without_manifest();
        let file = layout.files(kind)[0];
        let mut bytes = disk.file_bytes(file).unwrap();
        bytes[..4096].fill(0xA5);
        disk.replace_file_bytes(file, bytes);
        let report = verify(disk);
        assert!(files(&report).contains(&file.to_string()), "{report}");
    }
}

//! A store without its manifest: every file is looked at by itself, and what is damaged of it told.

use crate::layout::{Layout, Unit};
use crate::salvage::salvage;
use crate::{KINDS, flips, world};
use dostore::disk::Disk;
use dostore::disk::sim::SimDisk;
use dostore::ids::Address;
use dostore::inspect::{Fault, Report, Scope, Verdict, verify};
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
            check_objects(&report, unit, byte);
        }
    }
}

/// Of a page and of an entry it is told whose it was, though no manifest says which count.
#[track_caller]
fn check_objects(report: &Report, unit: &Unit, byte: u64) {
    let told = report.objects(Scope::Live);
    match unit.kind {
        "segment" => assert_eq!(told, unit.objects, "byte {byte} of {unit:?}: {report}"),
        // An older run may still say where a page is that the lost entry has replaced.
        "directory" => {
            let may: BTreeSet<_> = unit.objects.union(&unit.perhaps).copied().collect();
            assert!(told.is_subset(&may), "byte {byte} of {unit:?}: {report}");
        }
        "history" => {
            let past = report.objects(Scope::History);
            assert!(past.is_superset(&unit.objects), "byte {byte} of {unit:?}: {report}");
        }
        _ => {}
    }
}

#[test]
fn without_the_manifest_too_it_is_told_whose_each_page_was() {
    let disk = without_manifest();
    let layout = Layout::of(&world::store(1));
    let live = |unit: &&Unit| unit.kind == "segment" && !unit.objects.is_empty();
    let mut seen = 0;
    for unit in layout.units.iter().filter(live).step_by(9) {
        let damaged = disk.fork();
        damaged.flip_bit(unit.file, (unit.range.start + 9) * 8).unwrap();
        let report = verify(damaged.clone());
        check_objects(&report, unit, unit.range.start);
        let own = |fault: &&Fault| fault.object.is_some();
        let fault = report.faults.iter().find(own).unwrap();
        let place = (fault.place.offset, fault.place.offset + fault.bytes);
        assert_eq!(place, (unit.range.start, unit.range.end), "{unit:?}: {report}");
        let has_name = |address: &Address| report.names.contains_key(address);
        assert!(fault.keys.is_some() && unit.objects.iter().all(has_name), "{unit:?}: {report}");
        // Nothing but it is lost, for all others can be had though all are doubtful.
        let (salvaged, _) = salvage(&damaged, true);
        let lost: BTreeSet<_> = salvaged.lost.kept.iter().map(|loss| loss.object).collect();
        let lost: BTreeSet<_> = lost.into_iter().filter(|it| it.namespace.0 > 0).collect();
        let of_users = unit.objects.iter().filter(|it| it.namespace.0 > 0);
        assert_eq!(lost, of_users.copied().collect(), "{unit:?}: {salvaged}");
        seen += 1;
    }
    assert!(seen > 10, "{seen} pages");
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

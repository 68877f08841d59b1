//! Stores whose manifest is lost: what the files themselves say is no more than they prove.

use crate::salvage::salvage;
use crate::world;
use dostore::disk::Disk;
use dostore::disk::sim::{Damage, SimDisk};
use dostore::ids::FileNumber;
use dostore::inspect::verify;
use dostore::names::FileName;
use dostore::store::backup::BackupOptions;

#[test]
fn the_log_of_a_store_that_began_as_a_backup_is_not_taken_for_all_of_it() {
    let store = world::open(&world::store(6));
    let target = SimDisk::new(7);
    store.backup_on(target.clone(), BackupOptions::new()).unwrap();
    let copy = world::open(&target);
    let rooms = copy.namespace("rooms").unwrap();
    rooms.open_by_name("new").unwrap().put("k", "v").unwrap().wait().unwrap();
    let target = target.kill();
    drop((rooms, copy, store));
    let expected = world::content(&target);
    assert!(expected.len() > 50);
    target.remove(FileName::Manifest).unwrap();
    let (salvaged, found) = salvage(&target, false);
    assert!(!salvaged.is_whole() && salvaged.doubtful.count() > 50, "{salvaged}");
    assert!(found.len() < expected.len(), "{salvaged}");
    let (salvaged, found) = salvage(&target, true);
    assert!(found.len() > 50, "{salvaged}");
}

#[test]
fn a_manifest_on_an_unreadable_sector_is_salvaged_as_if_it_were_missing() {
    let disk = world::store(4);
    let missing = disk.fork();
    missing.remove(FileName::Manifest).unwrap();
    disk.damage(FileName::Manifest, Damage::Unreadable(0)).unwrap();
    let (expected, found) = (salvage(&missing, true).1, salvage(&disk, true).1);
    assert!(found == expected && found.len() > 50, "{} objects", found.len());
}

#[test]
fn names_with_numbers_that_no_store_counts_to_are_foreign() {
    let base = world::store(5);
    let expected = world::content(&base);
    for number in [u64::MAX, u64::MAX - 1, 1 << 63].map(FileNumber) {
        for name in [FileName::Wal(number), FileName::Segment(number), FileName::Run(number)] {
            let disk = base.fork();
            drop(disk.create(name).unwrap());
            assert!(world::content(&disk) == expected, "{name}");
            assert!(salvage(&disk, false).0.is_whole(), "{name}");
            let report = verify(disk);
            assert!(report.faults.is_empty(), "{report}");
        }
    }
}

//! The first open of a store, cut off; and who may open a store at all.

use dostore::disk::Disk;
use dostore::disk::sim::{
    Crash, Damage, Fault, Faults, KeepLength, KeepNames, KeepSectors, SimDisk,
};
use dostore::error::{ErrorKind, Result};
use dostore::format::header::{FileKind, Header};
use dostore::ids::FileNumber;
use dostore::manifest;
use dostore::names::{FileName, Folder};
use dostore::store::Store;
use dostore::store::reader::Reader;

fn open(disk: &SimDisk) -> Result<Store> {
    Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(0).open_on(disk.clone())
}

/// A machine on which a folder's sync that fails loses what it should have written for good.
fn forgetful(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.set_faults(Faults { sync_folder_loses: 1.0, ..Faults::none() });
    disk
}

#[test]
fn a_first_open_that_fails_and_a_second_that_a_power_cut_ends_leave_no_folder_that_none_opens() {
    let mut failed = 0;
    for (seed, call) in (0..5).flat_map(|seed| (1..24).map(move |call| (seed, call))) {
        for calls in 10..30 {
            // Which names a failed sync loses is drawn.
            let disk = forgetful(seed);
            disk.fail_call(call, Fault::NoSpace);
            failed += u32::from(open(&disk).is_err());
            let disk = disk.kill();
            disk.crash_after(calls);
            drop(open(&disk));
            let (sectors, length) = (KeepSectors::Nothing, KeepLength::Old);
            let disk = disk.power_cut_keeping(Crash { sectors, length, names: KeepNames::Nothing });
            let opened = open(&disk).map(drop);
            assert!(opened.is_ok(), "{opened:?}: call {call} failed, then {calls} calls");
        }
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn what_is_made_behind_a_first_open_that_failed_is_there_after_two_power_cuts() {
    let cut = |disk: &SimDisk| {
        let (sectors, length) = (KeepSectors::Nothing, KeepLength::Old);
        disk.power_cut_keeping(Crash { sectors, length, names: KeepNames::Nothing })
    };
    let mut failed = 0;
    for (seed, call) in (0..5).flat_map(|seed| (1..48).map(move |call| (seed, call))) {
        let disk = forgetful(seed);
        disk.fail_call(call, Fault::Io);
        failed += u32::from(open(&disk).is_err());
        let disk = disk.kill();
        // One that failed below the store's own folders needs another folder: not this one.
        let Ok(store) = open(&disk) else { continue };
        store.namespace("rooms").unwrap();
        drop(store);
        // Each open begins a file of the log, and the one before it must stay.
        let disk = cut(&disk);
        drop(open(&disk).unwrap().namespace("halls").unwrap());
        let names: Vec<_> = open(&cut(&disk)).unwrap().namespaces();
        let names: Vec<_> = names.iter().map(|namespace| namespace.name().to_owned()).collect();
        assert_eq!(names, ["halls", "rooms"], "call {call}, seed {seed}");
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn a_store_that_lost_its_manifest_is_no_empty_folder_even_if_it_has_only_its_log() {
    let disk = SimDisk::new(1);
    open(&disk).unwrap().namespace("rooms").unwrap();
    for is_closed in [false, true] {
        let disk = disk.fork();
        if is_closed {
            open(&disk).unwrap().close().unwrap();
        }
        disk.remove(FileName::Manifest).unwrap();
        assert_eq!(open(&disk).unwrap_err().code(), "manifest.missing");
    }
}

#[test]
fn a_folder_with_a_begun_backup_that_cannot_be_read_now_becomes_no_store() {
    let disk = SimDisk::new(1);
    open(&disk).unwrap().namespace("rooms").unwrap();
    let folder = SimDisk::new(2);
    folder.make_folders().unwrap();
    let begun = folder.create(FileName::ManifestTemporary).unwrap();
    begun.write_at(&disk.file_bytes(FileName::Manifest).unwrap(), 0).unwrap();
    folder.damage(FileName::ManifestTemporary, Damage::Unreadable(0)).unwrap();
    assert_eq!(open(&folder).unwrap_err().kind(), ErrorKind::Io);
    folder.damage(FileName::ManifestTemporary, Damage::Readable(0)).unwrap();
    assert_eq!(open(&folder).unwrap_err().code(), "backup.incomplete");
}

#[test]
fn who_does_not_know_a_feature_for_writers_reads_the_store_and_does_not_open_it_to_write() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    room.put("key", "value").unwrap().wait().unwrap();
    let id = room.id();
    drop((room, rooms));
    store.close().unwrap();
    let mut next = manifest::read(&disk).unwrap().unwrap();
    next.writer_features = 4;
    next.generation += 1;
    manifest::write(&disk, &next).unwrap();
    let bytes = disk.file_bytes(FileName::Manifest).unwrap();
    assert_eq!(Header::decode(&bytes, FileKind::Manifest).unwrap().writer_features, 4);

    let refused = open(&disk).unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Unsupported, "format.unsupported"));
    assert_eq!(disk.file_bytes(FileName::Manifest).unwrap(), bytes);
    let reader = Reader::open_on(disk.kill()).unwrap();
    let room = reader.namespace("rooms").unwrap().snapshot(id).unwrap();
    assert_eq!(&*room.get("key").unwrap().unwrap(), b"value");
}

#[test]
fn a_file_with_a_number_that_no_store_comes_to_moves_no_counter() {
    let disk = SimDisk::new(1);
    drop(open(&disk).unwrap());
    let disk = disk.kill();
    let before = manifest::read(&disk).unwrap().unwrap().next_file;
    let far = FileName::Segment(FileNumber(1 << 47));
    disk.create(far).unwrap();
    disk.sync_folder(Folder::Segments).unwrap();
    let refused = open(&disk).unwrap_err();
    assert_eq!(
        (refused.code(), &*refused.place().unwrap().file),
        ("file.number", &*far.to_string())
    );
    assert_eq!(manifest::read(&disk).unwrap().unwrap().next_file, before);
    disk.remove(far).unwrap();
    open(&disk.kill()).unwrap();
}

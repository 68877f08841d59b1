//! Backups while something else happens: in the middle of their checkpoint, or of their copies.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::sim::SimDisk;
use dostore::retention::Retention;
use dostore::store::Store;
use dostore::store::backup::BackupOptions;

fn open(disk: &Interposed) -> Store {
    Store::options().threads(false).wal_file_bytes(64 << 10).open_on(disk.clone()).unwrap()
}

fn with_a_room(disk: &Interposed) -> Store {
    let store = open(disk);
    let mut room = store.namespace("rooms").unwrap().open_by_name("room").unwrap();
    room.put("key", "value").unwrap().wait().unwrap();
    store
}

#[test]
fn a_backup_has_no_namespace_and_no_setting_from_behind_its_commit() {
    let (disk, target) = (Interposed::new(SimDisk::new(1)), SimDisk::new(2));
    let store = with_a_room(&disk);
    let other = store.clone();
    disk.before_next(Point::CreateRun, move |_| {
        other.namespace("later").unwrap();
        other.namespace("rooms").unwrap().set_retention(Some(Retention::Off)).unwrap();
    });
    let made = store.backup_on(target.clone(), BackupOptions::new()).unwrap();
    assert!(made.position.lsn < store.durable(), "something came in behind it");
    let names = |store: &Store| -> Vec<String> {
        store.namespaces().iter().map(|namespace| namespace.name().to_owned()).collect()
    };
    assert_eq!(names(&store), ["later", "rooms"]);
    let backup = open(&Interposed::new(target));
    assert_eq!(names(&backup), ["rooms"]);
    let retention = |store: &Store| store.namespace("rooms").unwrap().retention();
    assert_eq!((retention(&store), retention(&backup)), (Some(Retention::Off), None));
}

#[test]
fn a_close_waits_for_no_backup() {
    let (disk, target) = (Interposed::new(SimDisk::new(3)), SimDisk::new(4));
    let store = with_a_room(&disk);
    let other = store.clone();
    disk.before_next(Point::OpenSegment, move |_| other.close().unwrap());
    let failed = store.backup_on(target.clone(), BackupOptions::new().link(false)).unwrap_err();
    assert_eq!(failed.code(), "store.closed");
    assert_eq!(open(&Interposed::new(disk.disk.clone())).report().records_replayed, 0);
}

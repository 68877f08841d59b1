//! A store that is closed while other handles commit.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::real::RealReadDisk;
use dostore::disk::sim::{Fault, SimDisk};
use dostore::error::Error;
use dostore::inspect::verify::verify;
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::object::Object;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

fn open(disk: &Interposed) -> Store {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10);
    options.open_on(disk.clone()).unwrap()
}

/// Commits in the middle of each checkpoint from now on, up to a number of times.
fn commit_beside(disk: &Interposed, mut room: Object, told: &Told, times: u8) {
    let (next, told) = (disk.clone(), Arc::clone(told));
    disk.before_next(Point::CreateRun, move |_| {
        told.lock().unwrap().push(room.put("key", [times]).map(drop));
        if times > 0 {
            commit_beside(&next, room, &told, times - 1);
        }
    });
}

type Told = Arc<Mutex<Vec<Result<(), Error>>>>;

#[test]
fn a_close_ends_however_often_others_commit() {
    let disk = Interposed::new(SimDisk::new(1));
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    // Not durable yet, and taken all the same.
    drop(room.put("key", [100]).unwrap());
    let told = Told::default();
    commit_beside(&disk, room, &told, 20);
    store.close().unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(!told.is_empty(), "nobody committed meanwhile");
    assert!(
        told.iter().all(|told| told.as_ref().is_err_and(|error| error.code() == "store.closed"))
    );
    drop(rooms);
    let disk = Interposed::new(disk.disk.power_cut());
    let store = open(&disk);
    assert_eq!((store.report().was_closed, store.report().records_replayed), (true, 0));
    let rooms = store.namespace("rooms").unwrap();
    let room = rooms.open_by_name("room").unwrap();
    assert_eq!(room.get("key").unwrap().as_deref(), Some(&[100][..]));
}

#[test]
fn a_store_whose_close_failed_takes_commits_and_can_be_closed_again() {
    let disk = Interposed::new(SimDisk::new(2));
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    room.put("key", [1]).unwrap().wait().unwrap();
    disk.disk.fail_call(1, Fault::Io);
    assert_eq!(store.clone().close().unwrap_err().code(), "io");
    room.put("key", [2]).unwrap().wait().unwrap();
    // Those behind the cut of the checkpoint that failed, too.
    store.close().unwrap();
    drop((room, rooms));
    let store = open(&Interposed::new(disk.disk.power_cut()));
    assert_eq!(store.report().records_replayed, 0);
    let room = store.namespace("rooms").unwrap().open_by_name("room").unwrap();
    assert_eq!(room.get("key").unwrap().as_deref(), Some(&[2][..]));
}

#[test]
fn a_closed_store_keeps_no_file_of_the_log_that_only_stood_ready() {
    let disk = SimDisk::new(3);
    let store = open(&Interposed::new(disk.clone()));
    let logs = || disk.names().into_iter().filter(|name| matches!(name, FileName::Wal(_)));
    let used: Vec<_> = logs().collect();
    let rooms = store.namespace("rooms").unwrap();
    rooms.open_by_name("room").unwrap().put("key", [1]).unwrap().wait().unwrap();
    (0..3).for_each(|_| store.steps().prepare_file().unwrap());
    assert_eq!(logs().count(), used.len() + 3);
    drop(rooms);
    store.close().unwrap();
    assert_eq!(logs().collect::<Vec<_>>(), used);
    let store = open(&Interposed::new(disk.power_cut()));
    assert!(store.report().was_closed);
    let room = store.namespace("rooms").unwrap().open_by_name("room").unwrap();
    assert_eq!(room.get("key").unwrap().as_deref(), Some(&[1][..]));
}

#[test]
fn what_the_log_of_a_closed_store_does_not_use_takes_no_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let blocks = || {
        let files = std::fs::read_dir(path.join("wal")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum::<u64>()
    };
    let open = || Store::options().threads(false).wal_file_bytes(4 << 20).open(&path).unwrap();
    let store = open();
    let rooms = store.namespace("rooms").unwrap();
    rooms.open_by_name("room").unwrap().put("key", [1]).unwrap().wait().unwrap();
    assert!(blocks() >= 4 << 20);
    drop(rooms);
    store.close().unwrap();
    assert!(blocks() < 256 << 10, "{}", blocks());
    assert_eq!(verify(RealReadDisk::open(&path).unwrap()).faults, []);
    let room = open().namespace("rooms").unwrap().open_by_name("room").unwrap();
    assert_eq!(room.get("key").unwrap().as_deref(), Some(&[1][..]));
}

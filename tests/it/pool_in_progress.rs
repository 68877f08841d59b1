//! Files of the log that are made ready in the middle of something else, which thus takes longer
//! than it does.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::sim::SimDisk;
use dostore::inspect::verify::verify;
use dostore::store::Store;
use dostore::store::object::Object;
use std::sync::mpsc;
use std::time::Duration;

/// Far more than all of it takes.
const PATIENCE: Duration = Duration::from_mins(1);
const FILE_BYTES: u64 = 64 << 10;

fn open(disk: &Interposed) -> Store {
    let options = Store::options().threads(false).wal_file_bytes(FILE_BYTES);
    options.open_on(disk.clone()).unwrap()
}

#[test]
fn a_commit_waits_for_no_file_that_is_being_filled() {
    let disk = Interposed::new(SimDisk::new(1));
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    let (tell, told) = mpsc::channel();
    let before = store.stats().unwrap().late_files;
    let inner = store.clone();
    disk.before_next(Point::CreateLog, move |_| {
        // More than one file holds, so that the log leaves each that it takes.
        for number in 0..20_u8 {
            room.put([number], [number; 5_000]).unwrap().wait().unwrap();
        }
        tell.send(inner.stats().unwrap().late_files).unwrap();
    });
    // Not scoped: a commit that waits for ever must not keep the test from failing.
    let (preparing, (tell_done, done)) = (store.clone(), mpsc::channel());
    let prepare = move || tell_done.send(preparing.steps().prepare_file().is_ok()).unwrap();
    std::thread::Builder::new().spawn(prepare).unwrap();
    let late = told.recv_timeout(PATIENCE).expect("a commit waits for the file being filled");
    assert!(done.recv_timeout(PATIENCE).unwrap());
    assert!(late > before);
    // The log has passed the prepared file's number: it can serve no more, and is gone.
    let stats = store.stats().unwrap();
    let files = disk.disk.names().into_iter().filter_map(|name| disk.disk.file_bytes(name));
    assert_eq!(stats.disk_bytes(), files.map(|bytes| bytes.len() as u64).sum::<u64>());
    assert_eq!(stats.pool_bytes, 0);
    let mut other = rooms.open_by_name("other").unwrap();
    for number in 0..20_u8 {
        store.steps().prepare_file().unwrap();
        other.put([number], [number; 5_000]).unwrap().wait().unwrap();
    }
    drop((other, rooms, store));
    let disk = Interposed::new(disk.disk.power_cut());
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    for name in ["room", "other"] {
        let view = rooms.snapshot(rooms.id_from_name(name)).unwrap();
        for number in 0..20_u8 {
            assert_eq!(view.get([number]).unwrap().as_deref(), Some(&[number; 5_000][..]));
        }
    }
    assert_eq!(verify(disk.disk.clone()).faults, []);
}

#[test]
fn a_file_is_made_ready_while_runs_are_merged() {
    let disk = Interposed::new(SimDisk::new(2));
    let store = open(&disk);
    let mut room = store.namespace("rooms").unwrap().open_by_name("room").unwrap();
    for number in 0..5_u8 {
        room.put("key", [number]).unwrap().wait().unwrap();
        assert!(store.steps().checkpoint().unwrap());
    }
    drop(room);
    store.close().unwrap();
    let (lend, lent) = mpsc::channel();
    let (tell_done, done) = mpsc::channel();
    let again = disk.clone();
    disk.before_next(Point::CreateRun, move |_| {
        // The merge goes on when a file was begun, which its thread thus cannot do.
        let (tell, told) = mpsc::channel();
        again.before_next(Point::CreateLog, move |_| tell.send(()).unwrap());
        let mut room: Object = lent.recv_timeout(PATIENCE).unwrap();
        room.put("key", vec![1; 10_000]).unwrap().wait().unwrap();
        tell_done.send(told.recv_timeout(PATIENCE).is_ok()).unwrap();
    });
    let store = Store::options().wal_file_bytes(FILE_BYTES).open_on(disk.clone()).unwrap();
    let room = store.namespace("rooms").unwrap().open_by_name("room").unwrap();
    lend.send(room).unwrap();
    let is_ready = done.recv_timeout(2 * PATIENCE).expect("nothing was merged");
    assert!(is_ready, "no file is made ready as long as a merge takes");
    store.close().unwrap();
}

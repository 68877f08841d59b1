//! A commit that needs a file of the log while one is being filled with zeros.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::sim::SimDisk;
use dostore::inspect::verify::verify;
use dostore::store::Store;
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

//! A sync of a folder fails, loses names for good, and the next one succeeds without them.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::Disk;
use dostore::disk::sim::{Crash, Fault, Faults, KeepLength, KeepNames, KeepSectors, SimDisk};
use dostore::error::ErrorKind;
use dostore::retention::Retention;
use dostore::store::{Options, Store};
use std::sync::mpsc;
use std::time::Duration;

/// Far more than all of it takes.
const PATIENCE: Duration = Duration::from_mins(1);
const NOTHING: Crash =
    Crash { sectors: KeepSectors::Nothing, length: KeepLength::Old, names: KeepNames::Nothing };

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10).retention(Retention::Off)
}

fn open(disk: impl Disk) -> Store {
    options().open_on(disk).unwrap()
}

fn put(store: &Store, name: &str, value: &str) {
    let rooms = store.namespace("rooms").unwrap();
    rooms.open_by_name(name).unwrap().put("key", value).unwrap().wait().unwrap();
}

fn check(store: &Store, name: &str, value: &str) {
    let rooms = store.namespace("rooms").unwrap();
    let view = rooms.snapshot(rooms.id_from_name(name)).unwrap();
    assert_eq!(view.get("key").unwrap().as_deref(), Some(value.as_bytes()));
}

/// From now on a failed sync of a folder loses what it did not make durable.
fn lose_names(disk: &SimDisk) {
    disk.set_faults(Faults { sync_folder_loses: 1.0, ..Faults::none() });
}

#[test]
fn whoever_hears_of_lost_names_tells_who_made_them() {
    let disk = Interposed::new(SimDisk::new(1));
    let store = open(disk.clone());
    put(&store, "purged", "before");
    put(&store, "kept", "before");
    store.steps().checkpoint().unwrap();
    let rooms = store.namespace("rooms").unwrap();
    rooms.purge(rooms.id_from_name("purged")).unwrap().wait().unwrap();
    let ((tell, told), (go, gone)) = (mpsc::channel(), mpsc::channel());
    let (tell_done, done) = mpsc::channel();
    let (inner, beside) = (store.clone(), disk.clone());
    disk.before_next(Point::SyncRoot, move |_| {
        // A checkpoint has made its segment, and is about to make its run.
        put(&inner, "kept", "after");
        beside.before_next(Point::CreateRun, move |_| {
            tell.send(()).unwrap();
            gone.recv_timeout(PATIENCE).unwrap();
        });
        let thread = std::thread::Builder::new();
        thread.spawn(move || tell_done.send(inner.steps().checkpoint()).unwrap()).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        lose_names(&beside.disk);
        // The root, the log, and then the segments.
        beside.disk.fail_call(3, Fault::Io);
    });
    let erased = store.steps().erase();
    go.send(()).unwrap();
    let checkpointed = done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(erased.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(checkpointed.unwrap_err().kind(), ErrorKind::Poisoned);
    drop((rooms, store));
    let store = open(disk.disk.power_cut_keeping(NOTHING));
    check(&store, "kept", "after");
}

#[test]
fn a_file_of_the_log_that_may_have_lost_names_poisons_the_store() {
    let base = SimDisk::new(2);
    put(&open(base.clone()), "room", "before");
    let mut kinds = Vec::new();
    for call in 1.. {
        let disk = base.fork();
        lose_names(&disk);
        let store = open(disk.clone());
        disk.fail_call(call, Fault::Io);
        let Err(error) = store.steps().prepare_file() else { break };
        kinds.push(error.kind());
        let rooms = store.namespace("rooms").unwrap();
        let room = rooms.open_by_name("room");
        let later = room.and_then(|mut room| room.put("key", "after").map(drop));
        assert_eq!(later.is_err(), error.kind() == ErrorKind::Poisoned, "call {call}");
    }
    let (last, others) = kinds.split_last().unwrap();
    assert_eq!(*last, ErrorKind::Poisoned);
    assert!(others.len() > 3 && others.iter().all(|kind| *kind == ErrorKind::Io), "{kinds:?}");
}

#[test]
fn nothing_goes_that_a_manifest_names_which_a_crash_may_bring_back() {
    let base = SimDisk::new(3);
    let store = open(base.clone());
    put(&store, "room", "first");
    store.steps().checkpoint().unwrap();
    put(&store, "room", "second");
    drop(store);
    let calls = {
        let disk = base.fork();
        let store = open(disk.clone());
        let before = disk.calls();
        store.steps().checkpoint().unwrap();
        disk.calls() - before
    };
    let mut poisoned = 0;
    for call in 1..=calls {
        let disk = base.fork();
        lose_names(&disk);
        let store = open(disk.clone());
        disk.fail_call(call, Fault::Io);
        let _ = store.steps().checkpoint();
        poisoned += u32::from(store.steps().checkpoint().is_err());
        drop(store);
        // The next process sees the names that were lost.
        let disk = disk.kill();
        check(&open(disk.clone()), "room", "second");
        let disk = disk.power_cut_keeping(NOTHING);
        check(&open(disk), "room", "second");
    }
    assert!(poisoned >= 3, "{poisoned}");
}

/// What is committed behind the cut of the checkpoint that finds an object empty takes the object
/// for named. The head goes with the next merge, and the name must stay.
#[test]
fn the_name_of_an_object_that_was_empty_for_one_checkpoint_stays() {
    let disk = SimDisk::new(6);
    let store = open(disk.clone());
    put(&store, "room", "before");
    // More runs than stay beside each other: all will be merged.
    for round in 0..16 {
        put(&store, &format!("room {round}"), "value");
        store.steps().checkpoint().unwrap();
    }
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    room.delete("key").unwrap().wait().unwrap();
    disk.fail_call(1, Fault::ReadOnly);
    store.steps().checkpoint().unwrap_err();
    room.put("key", "after").unwrap().wait().unwrap();
    assert!(store.steps().checkpoint().unwrap());
    while store.steps().merge().unwrap() {}
    drop(room);
    let names: Vec<_> = rooms.objects().map(|found| found.unwrap().name).collect();
    assert_eq!(names.len(), 17);
    assert!(names.contains(&Some("room".to_owned())), "{names:?}");
}

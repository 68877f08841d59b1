//! A merge whose inputs are merged away while it is being written.
//!
//! Merges are written without a lock, so another one may come first. Here it does so in the middle
//! of a call to the disk: no second thread, and the same each time.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::sim::SimDisk;
use dostore::inspect::verify::verify;
use dostore::marks::{Mark, unreached};
use dostore::names::FileName;
use dostore::store::Store;
use std::sync::{Arc, Mutex};

fn open(disk: &Interposed) -> Store {
    Store::options().threads(false).open_on(disk.clone()).unwrap()
}

fn check(store: &Store, rounds: u8) {
    let rooms = store.namespace("rooms").unwrap();
    for room in 0..rounds {
        let view = rooms.snapshot(rooms.id_from_name(&format!("room {room}"))).unwrap();
        assert_eq!(view.get("round").unwrap().as_deref(), Some(&[room][..]), "room {room}");
        let last = view.get("all").unwrap();
        assert_eq!(last.as_deref(), Some(&[rounds - 1][..]), "room {room}");
    }
}

#[test]
fn a_merge_whose_inputs_are_merged_away_is_thrown_away_and_nothing_is_lost() {
    const ROUNDS: u8 = 8;
    let disk = Interposed::new(SimDisk::new(1));
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    for round in 0..ROUNDS {
        for room in 0..=round {
            let mut room = rooms.open_by_name(&format!("room {room}")).unwrap();
            let mut turn = room.turn();
            if room_is_new(&turn) {
                turn.put("round", [round]).unwrap();
            }
            turn.put("all", [round]).unwrap();
            drop(turn.commit().unwrap());
        }
        assert!(store.steps().checkpoint().unwrap());
    }
    let other = store.clone();
    let discarded = Arc::new(Mutex::new(None));
    let told = Arc::clone(&discarded);
    disk.before_next(Point::CreateRun, move |name| {
        *told.lock().unwrap() = name;
        assert!(other.steps().merge().unwrap(), "the other one is first");
    });
    assert!(store.steps().merge().unwrap());
    let discarded = discarded.lock().unwrap().take().expect("a merge has begun");
    assert!(!unreached().contains(&Mark::MergeDiscarded));
    assert!(!disk.disk.names().contains(&discarded), "{discarded} is still there");
    let stats = store.stats().unwrap();
    assert_eq!(stats.merges, 1);
    let all: u64 = disk.disk.names().iter().map(|name| bytes(&disk.disk, *name)).sum();
    assert_eq!(stats.disk_bytes(), all);
    check(&store, ROUNDS);
    drop(store);
    let disk = Interposed::new(disk.disk.power_cut());
    let store = open(&disk);
    check(&store, ROUNDS);
    assert_eq!(verify(disk.disk.clone()).faults, []);
}

fn room_is_new(turn: &dostore::store::turn::Turn<'_>) -> bool {
    turn.get("round").unwrap().is_none()
}

fn bytes(disk: &SimDisk, name: FileName) -> u64 {
    disk.file_bytes(name).map_or(0, |bytes| bytes.len() as u64)
}

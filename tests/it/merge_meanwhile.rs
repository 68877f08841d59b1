//! What happens while a merge is being written: it takes long, and nothing waits for it but what
//! must.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::sim::SimDisk;
use dostore::inspect::verify::verify;
use dostore::names::FileName;
use dostore::store::Store;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const ROOMS: u8 = 13;

/// A store with as many runs, and files of history, as merges want.
fn store_on(disk: &Interposed) -> Store {
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for room in 0..ROOMS {
        for other in 0..=room {
            let mut room = rooms.open_by_name(&other.to_string()).unwrap();
            drop(room.put("all", vec![other; 500]).unwrap());
        }
        assert!(store.steps().checkpoint().unwrap());
    }
    store
}

fn segments(disk: &SimDisk) -> Vec<FileName> {
    let is_segment = |name: &FileName| matches!(name, FileName::Segment(_));
    disk.names().into_iter().filter(is_segment).collect()
}

/// Runs `meanwhile` in the middle of the merge behind so many others.
fn merge_with(others: usize, meanwhile: impl FnOnce(&Store, &SimDisk) + Send + 'static) -> Store {
    let disk = Interposed::new(SimDisk::new(1));
    let store = store_on(&disk);
    for _ in 0..others {
        assert!(store.steps().merge().unwrap());
    }
    let (other, machine) = (store.clone(), disk.disk.clone());
    let has_run = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&has_run);
    disk.before_next(Point::CreateRun, move |_| {
        told.store(true, Ordering::Relaxed);
        meanwhile(&other, &machine);
    });
    // One whose inputs were rewritten meanwhile is thrown away.
    store.steps().merge().unwrap();
    assert!(has_run.load(Ordering::Relaxed));
    assert_eq!(verify(disk.disk.clone()).faults, []);
    store
}

/// Merges of the directory, of names and of history, in this order.
const MERGES: usize = 3;

#[test]
fn files_that_are_given_up_while_a_merge_is_written_do_not_wait_for_its_end() {
    for others in 0..MERGES {
        merge_with(others, |store, disk| {
            let rooms = store.namespace("rooms").unwrap();
            // What was given up before the merge goes first, and counts for nothing.
            disk.advance(Duration::from_hours(1));
            store.steps().remove_retired().unwrap();
            let before = segments(disk);
            for room in 0..ROOMS {
                drop(rooms.delete(rooms.id_from_name(&room.to_string())).unwrap());
            }
            assert!(store.steps().checkpoint().unwrap());
            disk.advance(Duration::from_hours(1));
            store.steps().remove_retired().unwrap();
            let left: Vec<_> =
                segments(disk).into_iter().filter(|name| before.contains(name)).collect();
            assert!(left.len() < before.len(), "{left:?}");
        });
    }
}

#[test]
fn a_purge_is_not_said_to_be_erased_while_a_merge_may_write_what_was_purged() {
    for others in 0..MERGES {
        let store = merge_with(others, |store, disk| {
            let rooms = store.namespace("rooms").unwrap();
            drop(rooms.purge(rooms.id_from_name("3")).unwrap());
            disk.advance(Duration::from_hours(1));
            assert!(!store.steps().erase().unwrap());
        });
        assert!(store.steps().erase().unwrap(), "after the merge behind {others} others");
    }
}

/// Only a test that fails waits for so long.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn runs_do_not_wait_for_a_merge_of_history_nor_history_for_one_of_runs() {
    let name = || thread::current().name().map(str::to_owned);
    let disk = Interposed::new(SimDisk::new(1));
    store_on(&disk).close().unwrap();
    let ((tell, told), beside) = (mpsc::channel(), disk.clone());
    disk.before_next(Point::CreateRun, move |_| {
        let (come, came) = mpsc::channel();
        beside.before_next(Point::CreateRun, move |_| come.send(name()).unwrap());
        // The first merge ends when the other has begun.
        tell.send((name(), came.recv_timeout(PATIENCE))).unwrap();
    });
    let store = Store::options().open_on(disk).unwrap();
    let (one, other) = told.recv_timeout(2 * PATIENCE).expect("a merge begins");
    let mut both = [one, other.expect("the other begins meanwhile")].map(Option::unwrap);
    both.sort_unstable();
    assert_eq!(both, ["dostore-history", "dostore-merge"]);
    store.close().unwrap();
}

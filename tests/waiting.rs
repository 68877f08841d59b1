//! Whoever waits for a commit is woken, also where no thread of the store writes groups.

use dostore::disk::sim::SimDisk;
use dostore::store::Store;
use std::sync::mpsc;
use std::time::Duration;

/// Far more than all of it takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn waiters_of_many_threads_lead_each_other_and_none_is_left_behind() {
    const THREADS: u8 = 8;
    let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let (tell, told) = mpsc::channel();
    // Not scoped: a thread that is never woken must not keep the test from failing.
    for number in 0..THREADS {
        let (rooms, tell) = (rooms.clone(), tell.clone());
        let write = move || {
            let mut room = rooms.open_by_name(&format!("room {number}")).unwrap();
            for turn in 0..20_000u32 {
                room.put("k", turn.to_le_bytes()).unwrap().wait().unwrap();
            }
            tell.send(number).unwrap();
        };
        std::thread::Builder::new().spawn(write).unwrap();
    }
    for _ in 0..THREADS {
        told.recv_timeout(PATIENCE).expect("a waiter is left behind");
    }
}

#[test]
fn a_wait_for_a_commit_that_nobody_has_made_is_refused() {
    let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
    let mut room = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
    let made = room.put("k", "v").unwrap().detach();
    store.wait_durable(made.lsn).unwrap();
    let refused = store.wait_durable(made.lsn.next()).unwrap_err();
    assert_eq!(refused.code(), "commit.unknown");
}

//! What it takes to empty a large object.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::sim::SimDisk;
use dostore::store::Store;

const PAGE_BYTES: usize = 512;
const KEYS_PER_PAGE: u32 = 32;

/// Calls to the disk of a checkpoint behind which nothing is left of so many pages.
fn calls_to_empty(pages: u32) -> u64 {
    let disk = SimDisk::new(1);
    let options = Store::options().threads(false).page_bytes(PAGE_BYTES);
    let store = options.open_on(disk.clone()).unwrap();
    let mut lobby = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
    let keys = || (0..pages * KEYS_PER_PAGE).map(|key| format!("{key:08}"));
    let mut turn = lobby.turn();
    for key in keys() {
        turn.put(key, [1; 4]).unwrap();
    }
    turn.commit().unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    let mut turn = lobby.turn();
    // One by one: a range would stand beside the pages.
    for key in keys() {
        turn.delete(key).unwrap();
    }
    turn.commit().unwrap().wait().unwrap();
    let before = disk.calls();
    store.steps().checkpoint().unwrap();
    let calls = disk.calls() - before;
    assert!(lobby.range::<&str>(..).unwrap().next().is_none());
    calls
}

#[test]
fn an_object_of_twice_the_pages_takes_about_twice_the_work_to_empty() {
    let (few, many) = (calls_to_empty(700), calls_to_empty(1400));
    assert!(few > 1400, "pages were read: {few}");
    assert!(2 * many < 5 * few, "{few} calls, then {many}");
}

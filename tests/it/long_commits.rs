//! Commits that are logged in parts, beside others.

use dostore::disk::sim::SimDisk;
use dostore::limits::{COMMIT_OPERATIONS_MAX, VALUE_BYTES_MAX};
use dostore::store::Store;
use dostore::store::list::ListOptions;

#[test]
fn a_long_commit_leaves_room_for_others_in_its_group() {
    let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut long = rooms.open_by_name("long").unwrap();
    let mut short = rooms.open_by_name("short").unwrap();
    drop(short.sync().unwrap());
    // A group has 4 MiB at most: with this in it there would be room for one short commit.
    drop(long.put("key", vec![1; 3_900_000]).unwrap());
    let groups = store.stats().unwrap().groups;
    for key in 0..30_u8 {
        drop(short.put([key], vec![key; 60_000]).unwrap());
    }
    assert_eq!(store.stats().unwrap().groups, groups, "a short commit has waited for the disk");
    short.sync().unwrap().wait().unwrap();
    let kept = long.snapshot().unwrap().get("key").unwrap().unwrap();
    assert_eq!(kept.as_ref(), vec![1; 3_900_000]);
}

#[test]
fn the_largest_commits_survive_a_power_cut_and_what_is_more_is_refused() {
    let open = |disk: &SimDisk| {
        let options = Store::options().threads(false).wal_file_bytes(1 << 20);
        options.open_on(disk.clone()).unwrap()
    };
    let disk = SimDisk::new(2);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let mut long = rooms.open_by_name("long").unwrap();
    let mut many = rooms.open_by_name("many").unwrap();
    let mut turn = long.turn();
    turn.put("a", vec![1; VALUE_BYTES_MAX]).unwrap();
    assert_eq!(turn.put("b", vec![2; VALUE_BYTES_MAX + 1]).unwrap_err().code(), "limit.value");
    let mut rest = VALUE_BYTES_MAX;
    while let Err(error) = turn.put("b", vec![2; rest]) {
        assert_eq!(error.code(), "limit.commit");
        rest -= 1;
    }
    assert!(VALUE_BYTES_MAX - rest < 100, "two values fill it: {rest}");
    drop(turn.commit().unwrap());
    let mut turn = many.turn();
    for number in (0_u32..).take(COMMIT_OPERATIONS_MAX) {
        turn.put(number.to_be_bytes(), "").unwrap();
    }
    assert_eq!(turn.put("more", "").unwrap_err().code(), "limit.operations");
    turn.commit().unwrap().wait().unwrap();
    let disk = disk.power_cut();
    drop((long, many, rooms, store));
    for _ in 0..2 {
        let store = open(&disk);
        let rooms = store.namespace("rooms").unwrap();
        let long = rooms.open_by_name("long").unwrap();
        assert!(*long.get("a").unwrap().unwrap() == *vec![1; VALUE_BYTES_MAX]);
        assert!(*long.get("b").unwrap().unwrap() == *vec![2; rest]);
        let many = rooms.open_by_name("many").unwrap();
        let entries = many.list(ListOptions::new()).unwrap();
        assert_eq!(entries.map(Result::unwrap).count(), COMMIT_OPERATIONS_MAX);
        drop((long, many, rooms));
        store.close().unwrap();
    }
}

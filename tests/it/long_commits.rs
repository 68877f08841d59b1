//! Commits that are logged in parts, beside others.

use dostore::disk::sim::SimDisk;
use dostore::store::Store;

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

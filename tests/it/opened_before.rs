//! An object that is opened, and read only when its page lies somewhere else.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::chance::Chance;
use dostore::disk::sim::SimDisk;
use dostore::names::{FileName, Folder};
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use std::collections::BTreeSet;
use std::time::Duration;

const OBJECTS: usize = 40;

/// Bytes that are not compressed, so that their pages are not kept in memory.
fn noise(number: usize, value: u8) -> Vec<u8> {
    let mut chance = Chance::new(number as u64 * 256 + u64::from(value));
    (0..125).flat_map(|_| chance.next().to_le_bytes()).collect()
}

fn write(rooms: &Namespace, numbers: std::ops::Range<usize>, value: u8) {
    for number in numbers {
        let mut object = rooms.open_by_name(&number.to_string()).unwrap();
        object.put("k", noise(number, value)).unwrap().wait().unwrap();
    }
}

fn segments(disk: &SimDisk) -> BTreeSet<FileName> {
    disk.names().into_iter().filter(|name| name.folder() == Folder::Segments).collect()
}

#[test]
fn what_was_found_at_the_open_is_not_asked_for_where_the_page_was_before() {
    let disk = SimDisk::new(1);
    // No page stays in memory: what is asked for is read from where it is said to be.
    let options = Store::options().threads(false).wal_file_bytes(64 << 10);
    let options = options.segment_bytes(16 << 10).retire_after(Duration::ZERO).cache_bytes(1);
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    write(&rooms, 0..OBJECTS, 1);
    store.steps().checkpoint().unwrap();
    let before = segments(&disk);
    // Every fourth object is opened; the others are written anew, so that segments are cleaned.
    let open = |number: usize| rooms.open_by_name(&number.to_string()).unwrap();
    let opened: Vec<_> = (0..OBJECTS).step_by(4).map(open).collect();
    for number in (0..OBJECTS).filter(|number| !number.is_multiple_of(4)) {
        write(&rooms, number..number + 1, 2);
    }
    store.steps().checkpoint().unwrap();
    while store.steps().clean().unwrap() {}
    store.steps().remove_retired().unwrap();
    assert!(segments(&disk).is_disjoint(&before), "every page was moved");
    for (number, object) in opened.iter().enumerate() {
        if number % 2 == 0 {
            assert!(object.get("k").unwrap().unwrap() == noise(4 * number, 1)[..]);
        }
        // With its page in memory, and without.
        for _ in 0..2 {
            let list = object.list(ListOptions::new()).unwrap();
            let values: Vec<_> = list.map(|entry| entry.unwrap().1).collect();
            assert!(values.len() == 1 && values[0] == noise(4 * number, 1)[..]);
        }
    }
}

//! Objects whose pages hold nothing that counts, and pages that cannot be read.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::chance::Chance;
use dostore::disk::sim::SimDisk;
use dostore::ids::NamespaceNumber;
use dostore::inspect::verify::verify;
use dostore::manifest;
use dostore::names::FileName;
use dostore::segment::SegmentSet;
use dostore::store::namespace::Namespace;
use dostore::store::{Options, Store};
use std::sync::Arc;

const LARGE: usize = 20 << 10;

fn options() -> Options {
    Store::options().threads(false).segment_bytes(64 << 10)
}

fn open(disk: &SimDisk) -> (Store, Namespace) {
    let store = options().open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

fn put(rooms: &Namespace, name: &str, key: &str, value: &[u8]) {
    rooms.open_by_name(name).unwrap().put(key, value).unwrap().wait().unwrap();
}

fn delete(rooms: &Namespace, name: &str, key: &str) {
    let mut room = rooms.open_by_name(name).unwrap();
    let mut turn = room.turn();
    turn.delete(key).unwrap();
    turn.commit().unwrap().wait().unwrap();
}

/// Bytes that nothing compresses.
fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let mut chance = Chance::new(seed as u64);
    (0..bytes).flat_map(|_| chance.next().to_le_bytes()).take(bytes).collect()
}

/// What is in a delta is not counted. Here one is all that an object of two pages has, and then a
/// commit changes no key.
#[test]
fn a_commit_that_changes_no_key_leaves_what_deltas_hold() {
    let disk = SimDisk::new(1);
    let (store, rooms) = open(&disk);
    put(&rooms, "one", "m", &noise(99, LARGE));
    store.steps().checkpoint().unwrap();
    // The delta that empties the second page lies with what dies soon, and so it is cleaned.
    delete(&rooms, "one", "m");
    let others: Vec<String> = (0..40).map(|number| format!("other {number}")).collect();
    others.iter().enumerate().for_each(|(seed, name)| put(&rooms, name, "k", &noise(seed, 1024)));
    store.steps().checkpoint().unwrap();
    for name in &others {
        rooms.delete(rooms.id_from_name(name)).unwrap().wait().unwrap();
    }
    store.steps().checkpoint().unwrap();
    assert!(store.steps().clean().unwrap());
    put(&rooms, "one", "a", b"here");
    store.steps().checkpoint().unwrap();

    let mut one = rooms.open_by_name("one").unwrap();
    let mut turn = one.turn();
    turn.clear_alarm().unwrap();
    turn.commit().unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    assert_eq!(one.get("a").unwrap().as_deref(), Some(&b"here"[..]));
    assert_eq!(rooms.objects().count(), 1);
    drop((one, rooms, store));
    let disk = disk.power_cut();
    assert!(verify(disk.clone()).is_clean());
    let (_store, rooms) = open(&disk);
    let one = rooms.open_by_name("one").unwrap();
    assert_eq!(one.get("a").unwrap().as_deref(), Some(&b"here"[..]));
}

/// Flips a bit in every page, but for the list of namespaces.
fn spoil(disk: &SimDisk) {
    let manifest = manifest::read(disk).unwrap().unwrap();
    let segments = SegmentSet::new(Arc::new(disk.clone()), manifest.store);
    for segment in &manifest.segments {
        segments.add(&segment.facts);
        for page in segments.scan(segment.facts.number).unwrap() {
            let page = page.unwrap();
            if page.meta.address.namespace == NamespaceNumber(0) {
                continue;
            }
            let location = page.location;
            let name = FileName::Segment(segment.facts.number);
            disk.flip_bit(name, 8 * (location.offset + u64::from(location.bytes) / 2)).unwrap();
        }
    }
}

/// Beside a page that cannot be read every change is a delta, whatever its size.
#[test]
fn what_is_written_beside_a_damaged_page_fits_into_pages() {
    let disk = SimDisk::new(2);
    let (store, rooms) = open(&disk);
    put(&rooms, "one", "b", &[1; 100]);
    store.close().unwrap();
    drop(rooms);
    spoil(&disk);
    let (store, rooms) = open(&disk);
    let mut one = rooms.open_by_name("one").unwrap();
    let mut turn = one.turn();
    for number in 0..100 {
        turn.put(format!("c{number:03}"), vec![number; 1024]).unwrap();
    }
    // Ranges of long keys come before all keys, and are as many bytes.
    for number in 0..600 {
        let long = |last| format!("{number:03}{}{last}", "r".repeat(2000));
        turn.delete_range(long('a')..long('b')).unwrap();
    }
    turn.put("z", vec![9; 16 << 20]).unwrap();
    turn.commit().unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    for key in ["b", "c099", "z"] {
        assert_eq!(one.get(key).unwrap_err().code(), "page.checksum", "{key}");
    }
    put(&rooms, "two", "b", b"here");
    one.put("d", "more").unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    assert!(rooms.open_by_name("two").unwrap().get("b").unwrap().is_some());
}

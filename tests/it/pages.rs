//! Objects whose pages hold nothing that counts, and pages that cannot be read.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::chance::Chance;
use dostore::disk::sim::SimDisk;
use dostore::ids::NamespaceNumber;
use dostore::inspect::verify::verify;
use dostore::manifest;
use dostore::names::FileName;
use dostore::segment::SegmentSet;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::value::Value;
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

/// Keys of the greatest length that share nothing take as much room as their values; each page has
/// one of them as its border.
#[test]
fn borders_of_pages_take_little_room_in_the_directory_however_long_keys_are() {
    let disk = SimDisk::new(7);
    let (store, rooms) = open(&disk);
    let mut room = rooms.open_by_name("one").unwrap();
    for keys in 0..20_usize {
        let mut turn = room.turn();
        for key in 0..20 {
            turn.put(noise(20 * keys + key, 2_000), "value").unwrap();
        }
        turn.commit_durable().unwrap();
    }
    store.steps().checkpoint().unwrap();
    let found = manifest::read(&disk).unwrap().unwrap();
    let pages: u64 = found.segments.iter().map(|segment| segment.facts.pages).sum();
    let bytes: u64 = found.runs.iter().map(|run| run.bytes).sum();
    assert!(pages > 20, "{pages}");
    assert!(bytes < 20_000, "{bytes} bytes for {pages} pages");
    let report = verify(disk.clone());
    assert!(report.is_clean(), "{report}");
    drop((room, rooms));
    store.close().unwrap();
    let (_store, rooms) = open(&disk);
    let room = rooms.open_by_name("one").unwrap();
    for key in 0..400 {
        assert_eq!(&*room.get(noise(key, 2_000)).unwrap().unwrap(), b"value");
    }
    assert_eq!(room.list(ListOptions::new()).unwrap().count(), 400);
}

/// What one range has deleted is passed at once, in either direction, and what was put into it
/// since is not.
#[test]
fn a_listing_reads_no_pages_of_what_one_range_has_deleted() {
    let disk = SimDisk::new(8);
    let (store, rooms) = open(&disk);
    let mut room = rooms.open_by_name("one").unwrap();
    let mut turn = room.turn();
    for key in 0..4_000_u32 {
        turn.put(key.to_be_bytes(), noise(key as usize, 200)).unwrap();
    }
    turn.commit_durable().unwrap();
    store.steps().checkpoint().unwrap();
    drop((room, rooms));
    store.close().unwrap();
    let (_store, rooms) = open(&disk);
    let mut room = rooms.open_by_name("one").unwrap();
    let mut turn = room.turn();
    turn.delete_range(10_u32.to_be_bytes()..3_990_u32.to_be_bytes()).unwrap();
    turn.commit_durable().unwrap();
    let mut turn = room.turn();
    turn.put(2_000_u32.to_be_bytes(), "in the middle").unwrap();
    turn.commit_durable().unwrap();
    let expected: Vec<u32> = (0..10).chain([2_000]).chain(3_990..4_000).collect();
    let key = |entry: dostore::error::Result<(Value, Value)>| {
        u32::from_be_bytes((*entry.unwrap().0).try_into().unwrap())
    };
    for is_reverse in [false, true] {
        let before = disk.calls();
        let all = ListOptions::new();
        let options = if is_reverse { all.reverse() } else { all };
        let mut found: Vec<u32> = room.list(options).unwrap().map(key).collect();
        if is_reverse {
            found.reverse();
        }
        assert_eq!(found, expected);
        assert!(disk.calls() - before < 60, "{} calls", disk.calls() - before);
    }
    let ends = room.list(ListOptions::new()).unwrap();
    let mut ends = ends.map(key);
    let mut met = Vec::new();
    while let Some(front) = ends.next() {
        met.push(front);
        met.extend(ends.next_back());
    }
    met.sort_unstable();
    assert_eq!(met, expected);
}

/// The next writer knows nothing of snapshots of this process.
#[test]
fn a_snapshot_behind_a_close_calls_no_good_store_damaged() {
    let disk = SimDisk::new(9);
    let (store, rooms) = open(&disk);
    put(&rooms, "one", "key", &noise(1, LARGE));
    store.steps().checkpoint().unwrap();
    let id = rooms.id_from_name("one");
    let snapshot = rooms.snapshot(id).unwrap();
    drop(rooms);
    store.close().unwrap();
    let next = options().retention(dostore::retention::Retention::Off);
    let store = next.retire_after(std::time::Duration::ZERO).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    rooms.delete(id).unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    while store.steps().clean().unwrap() {}
    disk.advance(std::time::Duration::from_hours(1));
    while store.steps().remove_retired().unwrap() > 0 {}
    let gone = snapshot.get("key").unwrap_err();
    assert_eq!(gone.code(), "store.closed", "{gone:?}");
    assert_eq!(gone.kind(), dostore::error::ErrorKind::Broken);
}

//! Pages that cannot be read: what is committed beside them, and what is kept of them.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::healing::healing;
use dostore::disk::sim::{Damage, SimDisk};
use dostore::error::{Error, ErrorKind};
use dostore::inspect::verify::verify;
use dostore::names::{FileName, Folder};
use dostore::retention::Retention;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::{Options, Store};
use std::collections::BTreeSet;
use std::time::Duration;

const SECTOR_BYTES: usize = 512;

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10)
}

fn open(disk: &SimDisk) -> (Store, Namespace) {
    let store = options().open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

fn put(object: &mut Object, key: &str, value: &str) {
    object.put(key, value).unwrap().wait().unwrap();
}

/// The segments that have a value, and where in each it begins.
fn segments_with(disk: &SimDisk, value: &str) -> Vec<(FileName, usize)> {
    let is_segment = |name: &FileName| name.folder() == Folder::Segments;
    let place = |name: FileName| {
        let bytes = disk.file_bytes(name)?;
        let found = bytes.windows(value.len()).position(|window| window == value.as_bytes());
        found.map(|at| (name, at))
    };
    disk.names().into_iter().filter(is_segment).filter_map(place).collect()
}

/// Writes the value into pages, and says which sector is its own.
fn checkpointed(store: &Store, disk: &SimDisk, value: &str) -> (FileName, u64) {
    assert!(store.steps().checkpoint().unwrap());
    let (name, at) = segments_with(disk, value)[0];
    (name, (at / SECTOR_BYTES) as u64 + 1)
}

fn value(tag: &str) -> String {
    tag.repeat(1_200 / tag.len())
}

#[test]
fn a_sector_that_is_not_given_stops_no_checkpoint_and_what_is_committed_meanwhile_is_kept() {
    let disk = SimDisk::new(1);
    let (store, rooms) = open(&disk);
    let mut hit = rooms.open_by_name("hit").unwrap();
    let mut other = rooms.open_by_name("other").unwrap();
    put(&mut hit, "base", &value("hit"));
    put(&mut other, "base", &value("other"));
    let (name, sector) = checkpointed(&store, &disk, &value("hit"));
    disk.damage(name, Damage::Unreadable(sector)).unwrap();
    drop((hit, other, rooms));
    store.close().unwrap();
    let (store, rooms) = open(&disk);
    let mut hit = rooms.open_by_name("hit").unwrap();
    for round in 0..20 {
        put(&mut hit, &format!("key {round}"), &format!("value {round}"));
        assert!(store.steps().checkpoint().unwrap(), "round {round}");
        store.steps().clean().unwrap();
        store.steps().merge().unwrap();
        let refused = hit.get("base").unwrap_err();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Corrupt, "page.unreadable"));
    }
    let other = rooms.open_by_name("other").unwrap();
    assert_eq!(&*other.get("base").unwrap().unwrap(), value("other").as_bytes());
    disk.damage(name, Damage::Readable(sector)).unwrap();
    for _ in 0..2 {
        assert_eq!(&*hit.get("base").unwrap().unwrap(), value("hit").as_bytes());
        for round in 0..20 {
            let stored = hit.get(format!("key {round}")).unwrap().unwrap();
            assert_eq!(&*stored, format!("value {round}").as_bytes());
        }
        put(&mut hit, "last", &value("last"));
        store.steps().checkpoint().unwrap();
    }
}

#[test]
fn a_change_that_is_damaged_is_never_passed_over() {
    for damage in [Damage::ZeroSector, Damage::Unreadable] {
        let disk = SimDisk::new(2);
        let (store, rooms) = open(&disk);
        let mut room = rooms.open_by_name("room").unwrap();
        put(&mut room, "large", &value("large").repeat(4));
        put(&mut room, "key", "old");
        assert!(store.steps().checkpoint().unwrap());
        put(&mut room, "key", &value("new"));
        let (name, sector) = checkpointed(&store, &disk, &value("new"));
        disk.damage(name, damage(sector)).unwrap();
        drop((room, rooms));
        store.close().unwrap();
        let (store, rooms) = open(&disk);
        let mut room = rooms.open_by_name("room").unwrap();
        for round in 0..20 {
            put(&mut room, "other", &format!("{round}"));
            store.steps().checkpoint().unwrap();
            assert_eq!(room.get("key").unwrap_err().kind(), ErrorKind::Corrupt, "round {round}");
        }
    }
}

/// What an object was before it was deleted, when its page came back after so many waits.
fn past_of_deleted(heals_after: u32) -> Result<Option<Vec<u8>>, Error> {
    let disk = SimDisk::new(3);
    let kept = Retention::Keep { age: Duration::from_hours(24), bytes: None };
    // The page alone has it: the commit that it holds is of an earlier epoch.
    let options = || options().retention(kept).epoch(Duration::ZERO, 0, Duration::from_hours(24));
    let store = options().open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    put(&mut room, "key", &value("kept"));
    let lost = checkpointed(&store, &disk, &value("kept"));
    put(&mut room, "small", "change beside it");
    assert!(store.steps().checkpoint().unwrap());
    let (id, then) = (room.id(), room.current_bookmark().unwrap());
    drop((room, rooms));
    store.close().unwrap();
    disk.damage(lost.0, Damage::Unreadable(lost.1)).unwrap();
    let store = options().open_on(healing(&disk, lost, heals_after)).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    rooms.delete(id).unwrap().wait().unwrap();
    assert!(store.steps().checkpoint().unwrap(), "history waits for no page for ever");
    let past = rooms.at(id, &then)?;
    past.get("key").map(|found| found.map(|value| value[..40].to_vec()))
}

#[test]
fn what_goes_into_history_is_asked_for_again_before_it_is_lost() {
    assert_eq!(past_of_deleted(2).unwrap().unwrap(), &value("kept").as_bytes()[..40]);
    assert_eq!(past_of_deleted(u32::MAX).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn names_of_objects_that_are_forgotten_go_from_the_runs() {
    let disk = SimDisk::new(4);
    let store = options().retention(Retention::Off).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let (gone, stays) = ("the forgotten room", "the room that stays");
    let mut first = rooms.open_by_name(gone).unwrap();
    put(&mut first, "key", "value");
    let id = first.id();
    for round in 0..6 {
        let mut other = rooms.open_by_name(&format!("{stays} {round}")).unwrap();
        put(&mut other, "key", "value");
        if round == 1 {
            rooms.delete(id).unwrap().wait().unwrap();
        }
        assert!(store.steps().checkpoint().unwrap());
    }
    while store.steps().merge().unwrap() {}
    drop((first, rooms));
    store.close().unwrap();
    let (store, _rooms) = open(&disk);
    while store.steps().remove_retired().unwrap() > 0 {}
    let has = |name: &str| -> BTreeSet<FileName> {
        let names = disk.names().into_iter().filter(|name| name.folder() == Folder::Runs);
        let holds = |file: &FileName| {
            let bytes = disk.file_bytes(*file).unwrap_or_default();
            bytes.windows(name.len()).any(|window| window == name.as_bytes())
        };
        names.filter(holds).collect()
    };
    assert_eq!(has("forgotten"), BTreeSet::new());
    assert!(!has("that stays").is_empty());
}

#[test]
fn verification_calls_no_object_by_a_name_that_a_purge_has_taken() {
    let disk = SimDisk::new(5);
    let (store, rooms) = open(&disk);
    let mut room = rooms.open_by_name("secret").unwrap();
    put(&mut room, "key", &value("one"));
    let id = room.id();
    drop(room);
    assert!(store.steps().checkpoint().unwrap());
    rooms.purge(id).unwrap().wait().unwrap();
    let mut room = rooms.open(id).unwrap();
    put(&mut room, "key", &value("two"));
    let (name, sector) = checkpointed(&store, &disk, &value("two"));
    drop((room, rooms));
    store.close().unwrap();
    disk.damage(name, Damage::Unreadable(sector)).unwrap();
    let called = |report: dostore::inspect::Report| report.names.into_values().collect::<Vec<_>>();
    assert_eq!(called(verify(disk)), [format!("rooms/~{}", id.short())]);
}

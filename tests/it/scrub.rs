//! Damage that a scrub finds: what history has of it is rebuilt, the rest is told and stays.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::sim::{Damage, SimDisk};
use dostore::error::ErrorKind;
use dostore::ids::ShortId;
use dostore::inspect::Scope;
use dostore::inspect::verify::verify;
use dostore::names::{FileName, Folder};
use dostore::retention::Retention;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::{Fate, Options, ScrubReport, Store};
use std::time::Duration;

const SECTOR_BYTES: u64 = 512;

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10)
}

fn open(disk: &SimDisk, options: Options) -> (Store, Namespace) {
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

fn put(object: &mut Object, key: &str, value: &str) {
    object.put(key, value).unwrap().wait().unwrap();
}

fn value(tag: &str) -> String {
    tag.repeat(1_200 / tag.len())
}

/// The first place of a value in the files of a folder: the file, and a sector of its own.
fn place(disk: &SimDisk, folder: Folder, value: &str) -> (FileName, u64) {
    let in_file = |name: FileName| {
        let bytes = disk.file_bytes(name)?;
        let at = bytes.windows(value.len()).position(|window| window == value.as_bytes())?;
        Some((name, at as u64 / SECTOR_BYTES + 1))
    };
    let mut names: Vec<_> =
        disk.names().into_iter().filter(|name| name.folder() == folder).collect();
    names.sort();
    names.into_iter().find_map(in_file).unwrap()
}

/// The ways in which a sector goes bad.
fn damages(sector: u64) -> [Damage; 4] {
    let bit = (sector * SECTOR_BYTES + 77) * 8 + 3;
    [
        Damage::FlipBit(bit),
        Damage::ZeroSector(sector),
        Damage::Garbage(sector),
        Damage::Unreadable(sector),
    ]
}

/// What a report says of each damage, shortly.
fn fates(report: &ScrubReport) -> Vec<(Option<ShortId>, String)> {
    let fate = |fate: &Fate| match fate {
        Fate::Rebuilt => "rebuilt".to_owned(),
        Fate::Left(why) => why.code().to_owned(),
        Fate::Told => "told".to_owned(),
        Fate::Spare => "spare".to_owned(),
        other => panic!("{other:?}"),
    };
    let told = report.damages.iter();
    told.map(|damaged| (damaged.address.map(|it| it.id), fate(&damaged.fate))).collect()
}

fn refused(object: &Object, key: &str) -> bool {
    object.get(key).is_err_and(|error| error.kind() == ErrorKind::Corrupt)
}

fn holds(object: &Object, key: &str, wanted: &str) -> bool {
    object.get(key).unwrap().is_some_and(|found| &*found == wanted.as_bytes())
}

/// That nothing of the present is damaged any more.
fn assert_sound(disk: &SimDisk) {
    let faults = verify(disk.clone()).faults;
    let left: Vec<_> = faults.iter().filter(|fault| fault.scope != Scope::Spare).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn g29_a_damaged_page_is_an_error_until_a_scrub_rebuilds_it_from_history() {
    for kind in 0..4 {
        let disk = SimDisk::new(1);
        let (store, rooms) = open(&disk, options());
        let mut hit = rooms.open_by_name("hit").unwrap();
        let mut other = rooms.open_by_name("other").unwrap();
        put(&mut hit, "first", &value("first"));
        put(&mut hit, "base", &value("hit"));
        put(&mut other, "base", &value("other"));
        assert!(store.steps().checkpoint().unwrap());
        assert!(fates(&store.scrub().unwrap()).is_empty());
        let (name, sector) = place(&disk, Folder::Segments, &value("hit"));
        disk.damage(name, damages(sector)[kind]).unwrap();
        let own = hit.id().short();
        drop((hit, other, rooms));
        store.close().unwrap();
        let (store, rooms) = open(&disk, options());
        let mut hit = rooms.open_by_name("hit").unwrap();
        for _ in 0..3 {
            assert!(refused(&hit, "base"), "no read repairs anything");
        }
        put(&mut hit, "later", "not in any page");
        let report = store.scrub().unwrap();
        assert_eq!(fates(&report), [(Some(own), "rebuilt".to_owned())]);
        assert!(!report.has_losses());
        let stats = store.stats().unwrap();
        assert_eq!((stats.scrubs, stats.damages_found, stats.pages_rebuilt), (1, 1, 1));
        assert_eq!(stats.scrubbed_bytes, report.bytes);
        let read = |hit: &Object| {
            assert!(holds(hit, "base", &value("hit")) && holds(hit, "first", &value("first")));
            assert!(holds(hit, "later", "not in any page"));
        };
        read(&hit);
        let cut = disk.fork().power_cut();
        let (_store, again) = open(&cut, options());
        read(&again.open_by_name("hit").unwrap());
        assert!(holds(&again.open_by_name("other").unwrap(), "base", &value("other")));
        let left = store.scrub().unwrap();
        assert!(!left.has_losses() && fates(&left).len() == 1, "where it was it is dead");
        drop((hit, rooms));
        store.close().unwrap();
        assert_sound(&disk);
    }
}

#[test]
fn each_part_of_an_entry_is_rebuilt_from_the_epoch_that_it_is_of() {
    // Each checkpoint has an epoch of its own: no state of the object is in the later ones.
    let options = || options().epoch(Duration::ZERO, 0, Duration::from_micros(1));
    for tag in ["base", "one", "two"] {
        let disk = SimDisk::new(2);
        let (store, rooms) = open(&disk, options());
        let mut room = rooms.open_by_name("room").unwrap();
        put(&mut room, "base", &value("base").repeat(12));
        assert!(store.steps().checkpoint().unwrap());
        for change in ["one", "two"] {
            put(&mut room, change, &value(change));
            room.delete("base").unwrap().wait().unwrap();
            put(&mut room, "base", &value(change));
            disk.advance(Duration::from_hours(1));
            assert!(store.steps().checkpoint().unwrap());
        }
        let (name, sector) = place(&disk, Folder::Segments, &value(tag));
        disk.damage(name, Damage::ZeroSector(sector)).unwrap();
        let own = room.id().short();
        drop((room, rooms));
        store.close().unwrap();
        let (store, rooms) = open(&disk, options());
        let mut room = rooms.open_by_name("room").unwrap();
        // Beside what is damaged more is written.
        put(&mut room, "three", &value("three"));
        assert!(store.steps().checkpoint().unwrap());
        let found = fates(&store.scrub().unwrap());
        assert_eq!(found, [(Some(own), "rebuilt".to_owned())], "{tag}");
        for key in ["one", "two", "three"] {
            assert!(holds(&room, key, &value(key)), "{tag} {key}");
        }
        assert!(holds(&room, "base", &value("two")));
        drop((room, rooms));
        store.close().unwrap();
        assert_sound(&disk);
    }
}

#[test]
fn a_page_in_the_middle_of_a_large_object_is_rebuilt_alone() {
    let disk = SimDisk::new(3);
    let options = || options().page_bytes(4 << 10);
    let (store, rooms) = open(&disk, options());
    let mut room = rooms.open_by_name("room").unwrap();
    for key in 0..60 {
        put(&mut room, &format!("key {key:02}"), &value(&format!("value{key:02}.")));
    }
    assert!(store.steps().checkpoint().unwrap());
    put(&mut room, "key 30", &value("thirty"));
    assert!(store.steps().checkpoint().unwrap());
    let (name, sector) = place(&disk, Folder::Segments, &value("value31."));
    disk.damage(name, Damage::Garbage(sector)).unwrap();
    let own = room.id().short();
    drop((room, rooms));
    store.close().unwrap();
    let (store, rooms) = open(&disk, options());
    let room = rooms.open_by_name("room").unwrap();
    assert!(refused(&room, "key 31") && holds(&room, "key 10", &value("value10.")));
    let before = store.stats().unwrap().live_bytes;
    assert_eq!(fates(&store.scrub().unwrap()), [(Some(own), "rebuilt".to_owned())]);
    assert_eq!(store.stats().unwrap().live_bytes, before, "a page in the place of a page");
    for key in 0..60 {
        let wanted = if key == 30 { "thirty".to_owned() } else { format!("value{key:02}.") };
        assert!(holds(&room, &format!("key {key:02}"), &value(&wanted)), "{key}");
    }
    drop((room, rooms));
    store.close().unwrap();
    assert_sound(&disk);
}

#[test]
fn what_history_does_not_hold_stays_an_error() {
    let disk = SimDisk::new(4);
    let options = || options().retention(Retention::Off);
    let (store, rooms) = open(&disk, options());
    let mut room = rooms.open_by_name("room").unwrap();
    put(&mut room, "base", &value("hit"));
    assert!(store.steps().checkpoint().unwrap());
    let (name, sector) = place(&disk, Folder::Segments, &value("hit"));
    let own = room.id().short();
    drop((room, rooms));
    store.close().unwrap();
    disk.damage(name, Damage::Unreadable(sector)).unwrap();
    let (store, rooms) = open(&disk, options());
    let room = rooms.open_by_name("room").unwrap();
    for _ in 0..2 {
        let report = store.scrub().unwrap();
        assert_eq!(fates(&report), [(Some(own), "history.off".to_owned())]);
        assert!(report.has_losses() && refused(&room, "base"));
    }
    let stats = store.stats().unwrap();
    assert_eq!((stats.damages_found, stats.pages_rebuilt), (2, 0));
    disk.damage(name, Damage::Readable(sector)).unwrap();
    assert!(fates(&store.scrub().unwrap()).is_empty(), "nothing was given up for it");
    assert!(holds(&room, "base", &value("hit")));
}

#[test]
fn damage_of_runs_is_told_and_that_of_dead_pages_is_told_apart() {
    let disk = SimDisk::new(5);
    let (store, rooms) = open(&disk, options());
    let mut gone = rooms.open_by_name("gone").unwrap();
    let mut stays = rooms.open_by_name("stays").unwrap();
    put(&mut gone, "base", &value("dead"));
    put(&mut stays, "base", &value("live"));
    assert!(store.steps().checkpoint().unwrap());
    let (name, sector) = place(&disk, Folder::Segments, &value("dead"));
    let id = gone.id();
    drop(gone);
    rooms.delete(id).unwrap().wait().unwrap();
    assert!(store.steps().checkpoint().unwrap());
    disk.damage(name, Damage::ZeroSector(sector)).unwrap();
    assert_eq!(fates(&store.scrub().unwrap()), [(None, "spare".to_owned())]);
    let history = dostore::manifest::read(&disk).unwrap().unwrap().history[0].facts.number;
    disk.damage(FileName::Run(history), Damage::FlipBit(4_096 * 8 + 77)).unwrap();
    let report = store.scrub().unwrap();
    let mut told = fates(&report);
    told.sort();
    assert_eq!(told, [(None, "spare".to_owned()), (None, "told".to_owned())]);
    assert!(report.has_losses() && holds(&stays, "base", &value("live")));
}

#[test]
fn a_scrub_goes_by_the_rate_that_was_set_for_it() {
    let disk = SimDisk::new(6);
    let (store, rooms) = open(&disk, options().background_bytes_per_second(64 << 10));
    let mut room = rooms.open_by_name("room").unwrap();
    for key in 0..400 {
        put(&mut room, &format!("{key}"), &value(&format!("{key:04}")));
    }
    assert!(store.steps().checkpoint().unwrap());
    let before = dostore::disk::ReadDisk::clock(&disk).uptime();
    let bytes = store.scrub().unwrap().bytes;
    let passed = dostore::disk::ReadDisk::clock(&disk).uptime().saturating_sub(before);
    // What was spent first is free.
    assert!(bytes > 400 * 1_200 && passed.as_secs() >= 4, "{passed:?}");
}

//! Sectors of runs that the medium does not give: who is hurt, what goes on, and what is there
//! again when they come back.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::healing::healing;
use dostore::disk::ReadDisk;
use dostore::disk::sim::{Damage, Faults, SimDisk};
use dostore::error::{Error, ErrorKind};
use dostore::format::run::{RunFacts, RunUse};
use dostore::ids::Address;
use dostore::ids::ObjectId;
use dostore::inspect::verify;
use dostore::manifest;
use dostore::names::FileName;
use dostore::run::Run;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::transfer::SalvageOptions;
use dostore::store::{Options, Store};
use std::collections::BTreeSet;
use std::time::Duration;

const SECTOR_BYTES: u64 = 512;
/// More than one block holds.
const ROOMS: u32 = 200;

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(0)
}

fn open(disk: &SimDisk) -> (Store, Namespace) {
    let store = options().open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

fn put(rooms: &Namespace, room: u32, key: &str, value: &str) -> Result<ObjectId, Error> {
    let mut room = rooms.open_by_name(&format!("room {room}"))?;
    room.put(key, value)?.wait()?;
    Ok(room.id())
}

/// A store of many rooms in one run of the directory, closed.
fn rooms_on(seed: u64) -> (SimDisk, Vec<ObjectId>) {
    let disk = SimDisk::new(seed);
    let (store, rooms) = open(&disk);
    let ids = (0..ROOMS).map(|room| put(&rooms, room, "key", "value").unwrap()).collect();
    drop(rooms);
    store.close().unwrap();
    (disk, ids)
}

fn directory_runs(disk: &SimDisk) -> Vec<RunFacts> {
    let mut runs = manifest::read(disk).unwrap().unwrap().runs;
    runs.retain(|run| run.usage == RunUse::Directory);
    runs
}

/// The sectors of a block of the oldest run of the directory, and which of the rooms have their
/// heads in it.
fn block_with(disk: &SimDisk, block: usize, ids: &[ObjectId]) -> (FileName, u64, BTreeSet<u32>) {
    let store = manifest::read(disk).unwrap().unwrap().store;
    let run = Run::open(disk, store, directory_runs(disk).last().unwrap()).unwrap();
    assert!(run.blocks() > 2, "the run is too small for this test");
    let (range, first, last) = run.block_at(block);
    let is_in = |id: &ObjectId| {
        let half = id.short().0;
        (&first[4..20]..=&last[4..20]).contains(&&half[..])
    };
    let hurt = (0..).zip(ids).filter(|(_, id)| is_in(id)).map(|(room, _)| room).collect();
    (run.name(), range.start / SECTOR_BYTES, hurt)
}

fn read(rooms: &Namespace, room: u32) -> Result<String, Error> {
    let room = rooms.open_by_name(&format!("room {room}"))?;
    let value = room.get("key")?.expect("it was put");
    Ok(String::from_utf8_lossy(&value).into_owned())
}

/// Who cannot be read, and why.
fn unreadable(rooms: &Namespace) -> BTreeSet<u32> {
    let is_hurt = |room: &u32| match read(rooms, *room) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "run.unreadable"));
            assert!(!error.is_retryable() && error.place().is_some());
            true
        }
    };
    (0..ROOMS).filter(is_hurt).collect()
}

#[test]
fn a_lost_sector_of_the_directory_hurts_its_objects_and_stops_neither_checkpoint_nor_merge() {
    let (disk, ids) = rooms_on(1);
    let (name, sector, hurt) = block_with(&disk, 1, &ids);
    assert!(!hurt.is_empty() && hurt.len() < 100);
    disk.damage(name, Damage::Unreadable(sector)).unwrap();
    let (store, rooms) = open(&disk);
    assert_eq!(unreadable(&rooms), hurt);
    let others: Vec<u32> = (0..ROOMS).filter(|room| !hurt.contains(room)).collect();
    for room in &others[..30] {
        put(&rooms, *room, "key", "new").unwrap();
        assert!(store.steps().checkpoint().unwrap(), "room {room}");
        store.steps().merge().unwrap();
    }
    let runs = directory_runs(&disk);
    assert!(runs.len() < 15, "newer runs are merged without it: {}", runs.len());
    assert!(runs.iter().any(|run| FileName::Run(run.number) == name), "it was written off");
    assert_eq!(unreadable(&rooms), hurt);
    drop(rooms);
    store.close().unwrap();

    disk.damage(name, Damage::Readable(sector)).unwrap();
    disk.advance(Duration::from_hours(2));
    let (store, rooms) = open(&disk);
    while store.steps().merge().unwrap() {}
    let value = |room: u32| if others[..30].contains(&room) { "new" } else { "value" };
    assert!((0..ROOMS).all(|room| read(&rooms, room).unwrap() == value(room)));
}

#[test]
fn verification_names_the_block_and_its_objects_and_salvage_takes_all_others() {
    let (disk, ids) = rooms_on(2);
    let (name, sector, hurt) = block_with(&disk, 1, &ids);
    disk.damage(name, Damage::Unreadable(sector + 1)).unwrap();
    let report = verify(disk.clone());
    let at = |offset: u64| sector * SECTOR_BYTES == offset;
    let named = |fault: &&dostore::inspect::Fault| {
        fault.place.file == name.to_string() && at(fault.place.offset)
    };
    assert!(report.faults.iter().any(|fault| named(&fault)), "{report}");
    check_salvage(&disk, &hurt);
}

/// Everything can be had but some rooms; of those, nothing wrong.
#[track_caller]
fn check_salvage(disk: &SimDisk, hurt: &BTreeSet<u32>) {
    let store = options().open_on(SimDisk::new(9)).unwrap();
    let told = store.salvage_on(disk.clone(), &SalvageOptions::new()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for room in (0..ROOMS).filter(|room| !hurt.contains(room)) {
        assert_eq!(read(&rooms, room).unwrap(), "value", "room {room}: {told}");
    }
    for room in hurt {
        let room = rooms.open_by_name(&format!("room {room}")).unwrap();
        assert!(room.get("key").unwrap().is_none_or(|value| *value == *b"value"), "{told}");
    }
}

#[test]
fn any_lost_sector_of_a_run_is_named_and_salvage_goes_on() {
    let (disk, ids) = rooms_on(3);
    let facts = *directory_runs(&disk).last().unwrap();
    let name = FileName::Run(facts.number);
    let (_, _, in_first) = block_with(&disk, 0, &ids);
    for sector in 0..facts.bytes.div_ceil(SECTOR_BYTES) {
        let disk = disk.fork();
        disk.damage(name, Damage::Unreadable(sector)).unwrap();
        let report = verify(disk.clone());
        let is_here = |fault: &dostore::inspect::Fault| {
            let end = fault.place.offset + fault.bytes;
            let lost = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            fault.place.file == name.to_string()
                && fault.place.offset < lost.end
                && lost.start < end
        };
        assert!(report.faults.iter().any(is_here), "sector {sector}: {report}");
        match options().open_on(disk.clone()) {
            Ok(store) => {
                let rooms = store.namespace("rooms").unwrap();
                assert!(unreadable(&rooms).len() <= 2 * in_first.len(), "sector {sector}");
            }
            Err(error) => {
                let told = (error.kind(), error.code());
                assert_eq!(told, (ErrorKind::Corrupt, "run.unreadable"), "sector {sector}");
                assert!(sector > 8, "either copy of the header will do");
            }
        }
        let store = options().open_on(SimDisk::new(9)).unwrap();
        // Before the footer stands what was lost before: without it all is doubtful.
        let is_last = sector == (facts.bytes - 1) / SECTOR_BYTES;
        let options = SalvageOptions::new().doubtful(is_last);
        let told = store.salvage_on(disk.kill(), &options).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let lost = (0..ROOMS).filter(|room| {
            let room = rooms.open_by_name(&format!("room {room}")).unwrap();
            room.get("key").unwrap().is_none_or(|value| *value != *b"value")
        });
        assert!(lost.count() <= 2 * in_first.len(), "sector {sector}: {told}");
    }
}

#[test]
fn a_change_waits_for_the_head_that_it_would_write_off() {
    for comes_back in [false, true] {
        let (disk, ids) = rooms_on(4);
        let (name, sector, hurt) = block_with(&disk, 1, &ids);
        let room = *hurt.first().unwrap();
        let heals_after = if comes_back { 2 } else { u32::MAX };
        let store = options().open_on(healing(&disk, (name, sector), heals_after)).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        put(&rooms, room, "other", "more").unwrap();
        disk.damage(name, Damage::Unreadable(sector)).unwrap();
        assert!(store.steps().checkpoint().unwrap());
        disk.damage(name, Damage::Readable(sector)).unwrap();
        if comes_back {
            assert_eq!(read(&rooms, room).unwrap(), "value");
            let room = rooms.open_by_name(&format!("room {room}")).unwrap();
            assert_eq!(&*room.get("other").unwrap().unwrap(), b"more");
        } else {
            assert_eq!(read(&rooms, room).unwrap_err().code(), "page.lost");
        }
    }
}

#[test]
fn what_could_not_be_read_at_open_is_joined_with_the_log_when_it_can_be() {
    let (disk, ids) = rooms_on(5);
    let (name, sector, hurt) = block_with(&disk, 1, &ids);
    let room = *hurt.first().unwrap();
    let (store, rooms) = open(&disk);
    put(&rooms, room, "other", "more").unwrap();
    drop((store, rooms));
    let disk = disk.kill();
    disk.damage(name, Damage::Unreadable(sector)).unwrap();
    let (store, rooms) = open(&disk);
    assert_eq!(read(&rooms, room).unwrap_err().code(), "run.unreadable");
    disk.damage(name, Damage::Readable(sector)).unwrap();
    let handle = rooms.open_by_name(&format!("room {room}")).unwrap();
    assert_eq!(&*handle.get("other").unwrap().unwrap(), b"more");
    assert_eq!(&*handle.get("key").unwrap().unwrap(), b"value");
    drop(handle);
    assert!(store.steps().checkpoint().unwrap());
    for _ in 0..2 {
        assert_eq!(read(&rooms, room).unwrap(), "value");
        let handle = rooms.open_by_name(&format!("room {room}")).unwrap();
        assert_eq!(&*handle.get("other").unwrap().unwrap(), b"more");
        drop(handle);
        put(&rooms, room, "third", "and more").unwrap();
        store.steps().checkpoint().unwrap();
    }
    let address =
        Address { namespace: dostore::ids::NamespaceNumber(1), id: ids[room as usize].short() };
    let report = verify(disk.clone());
    assert!(report.faults.iter().all(|fault| fault.object != Some(address)), "{report}");
}

/// A store with one object of many pages, closed.
fn large_on(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let (store, rooms) = open(&disk);
    let mut room = rooms.open_by_name("large").unwrap();
    for first in (0..6000).step_by(500) {
        let mut turn = room.turn();
        for key in first..first + 500 {
            turn.put(format!("key {key:05}"), vec![0xA5; 1000]).unwrap();
        }
        turn.commit().unwrap().wait().unwrap();
    }
    drop((room, rooms));
    store.close().unwrap();
    disk
}

/// A part of all reads fails, and some do so both times that they are asked for.
#[test]
fn a_change_of_many_pages_goes_on_where_the_medium_interrupts_it() {
    let cases = std::iter::once((7, 0.05)).chain((8..16).map(|seed| (seed, 0.3)));
    for (seed, fails) in cases {
        let is_deleted = seed > 7;
        let disk = large_on(seed);
        let (store, rooms) = open(&disk);
        let mut room = rooms.open_by_name("large").unwrap();
        let mut turn = room.turn();
        turn.delete_range("key 00001".."key 05999").unwrap();
        turn.commit().unwrap().wait().unwrap();
        if is_deleted {
            drop(room);
            rooms.delete(rooms.id_from_name("large")).unwrap().wait().unwrap();
            room = rooms.open_by_name("large").unwrap();
        }
        let before = disk.clock().uptime();
        disk.set_faults(Faults { map: fails, ..Faults::none() });
        // One that cannot read what it has just written is made again.
        assert!((0..9).any(|_| store.steps().checkpoint().unwrap_or(false)));
        disk.set_faults(Faults::none());
        assert!(disk.clock().uptime() > before, "nothing was waited for");
        let keys: Vec<_> =
            room.list(ListOptions::new()).unwrap().map(|entry| entry.unwrap().0.to_vec()).collect();
        let left: &[&str] = if is_deleted { &[] } else { &["key 00000", "key 05999"] };
        let left: Vec<_> = left.iter().map(|key| key.as_bytes().to_vec()).collect();
        assert_eq!(keys, left);
        drop((room, rooms));
        store.close().unwrap();
        let report = verify(disk.clone());
        assert!(report.faults.is_empty(), "{report}");
    }
}

/// What is given up while its entries are out of reach for a moment stays no live bytes for ever.
#[test]
fn a_deletion_waits_for_the_entries_of_the_pages_that_it_gives_up() {
    let disk = large_on(6);
    let store_id = manifest::read(&disk).unwrap().unwrap().store;
    let facts = directory_runs(&disk);
    let run = Run::open(&disk, store_id, facts.last().unwrap()).unwrap();
    assert!(run.blocks() > 2, "the entries are in {} blocks", run.blocks());
    let (name, sector) = (run.name(), run.block_at(1).0.start / SECTOR_BYTES);

    let store = options().open_on(healing(&disk, (name, sector), 2)).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    rooms.delete(rooms.id_from_name("large")).unwrap().wait().unwrap();
    disk.damage(name, Damage::Unreadable(sector)).unwrap();
    assert!(store.steps().checkpoint().unwrap());
    drop(rooms);
    store.close().unwrap();
    let report = verify(disk.clone());
    assert!(report.faults.is_empty(), "{report}");
}

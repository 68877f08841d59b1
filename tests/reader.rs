//! A reader in another process: what it shows, and that it changes nothing.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::Disk;
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::format::run::RunUse;
use dostore::ids::Lsn;
use dostore::names::FileName;
use dostore::retention::Retention;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::reader::{Reader, ReaderNamespace};
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::time::Duration;

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10).segment_bytes(16 << 10)
}

fn open(disk: &SimDisk) -> Store {
    options().open_on(disk.clone()).unwrap()
}

fn read(disk: &SimDisk) -> Reader {
    Reader::open_on(disk.clone()).unwrap()
}

fn put(namespace: &Namespace, name: &str, value: &str) -> Lsn {
    let mut object = namespace.open_by_name(name).unwrap();
    object.put("k", value).unwrap().wait().unwrap().lsn
}

fn value(namespace: &ReaderNamespace, name: &str) -> Option<String> {
    let snapshot = namespace.snapshot(namespace.id_from_name(name)).unwrap();
    let found = snapshot.get("k").unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn names(namespace: &ReaderNamespace) -> Vec<String> {
    let mut names: Vec<_> =
        namespace.objects().map(|object| object.unwrap().name.unwrap()).collect();
    names.sort();
    names
}

fn contents(disk: &SimDisk) -> BTreeMap<FileName, Vec<u8>> {
    disk.names().into_iter().map(|name| (name, disk.file_bytes(name).unwrap())).collect()
}

/// Gives up every file that no manifest names any more.
fn remove_retired(disk: &SimDisk, store: &Store) -> usize {
    disk.advance(Duration::from_hours(1));
    store.steps().remove_retired().unwrap()
}

#[test]
fn a_reader_shows_only_what_something_later_proves_durable() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let first = put(&rooms, "lobby", "one");
    let second = put(&rooms, "lobby", "two");
    let mut reader = read(&disk);
    // The last group is durable, but nothing in the files says so yet.
    assert_eq!(reader.position(), first);
    let shown = reader.namespace("rooms").unwrap();
    assert_eq!(value(&shown, "lobby").as_deref(), Some("one"));
    assert!(store.steps().write_mark().unwrap());
    assert_eq!(reader.refresh().unwrap(), second);
    assert_eq!(value(&shown, "lobby").as_deref(), Some("one"), "a moment does not change");
    assert_eq!(value(&reader.namespace("rooms").unwrap(), "lobby").as_deref(), Some("two"));
    assert_eq!(shown.position(), first);
}

#[test]
fn a_reader_is_carried_along_by_commits_checkpoints_cleaning_and_reopening() {
    let disk = SimDisk::new(2);
    let mut store = open(&disk);
    let mut model = BTreeMap::new();
    put(&store.namespace("rooms").unwrap(), "room 0", "0 0");
    store.steps().write_mark().unwrap();
    let mut reader = read(&disk);
    let mut position = reader.position();
    for round in 0..30u32 {
        let rooms = store.namespace("rooms").unwrap();
        for number in 0..10 {
            let (name, value) = (format!("room {}", number * 7 % 13), format!("{round} {number}"));
            put(&rooms, &name, &value);
            model.insert(name, value);
        }
        let gone = format!("room {}", round % 13);
        rooms.delete(rooms.id_from_name(&gone)).unwrap().wait().unwrap();
        model.remove(&gone);
        store.steps().write_mark().unwrap();
        match round % 5 {
            1 => drop(store.steps().checkpoint().unwrap()),
            2 => drop(store.steps().clean().unwrap()),
            3 => drop(store.steps().merge().unwrap()),
            4 if round % 2 == 0 => {
                store.close().unwrap();
                store = open(&disk);
            }
            _ => drop(remove_retired(&disk, &store)),
        }
        let next = reader.refresh().unwrap();
        assert!(next >= position, "from {position} back to {next}");
        position = next;
        let shown = reader.namespace("rooms").unwrap();
        assert_eq!(names(&shown), model.keys().cloned().collect::<Vec<_>>(), "round {round}");
        for (name, expected) in &model {
            assert_eq!(value(&shown, name).as_ref(), Some(expected), "round {round}");
        }
        assert_eq!(value(&shown, &gone), None);
    }
}

#[test]
fn a_reader_whose_files_were_removed_starts_again_from_the_newest_manifest() {
    let disk = SimDisk::new(3);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    for number in 0..40 {
        put(&rooms, &format!("room {number}"), &"x".repeat(900));
    }
    store.steps().checkpoint().unwrap();
    let mut reader = read(&disk);
    let old = reader.namespace("rooms").unwrap();
    for number in 0..40 {
        put(&rooms, &format!("room {number}"), &"y".repeat(900));
    }
    store.steps().checkpoint().unwrap();
    store.steps().clean().unwrap();
    assert!(remove_retired(&disk, &store) > 0);
    let snapshot = old.snapshot(old.id_from_name("room 7")).unwrap();
    let error = snapshot.get("k").unwrap_err();
    assert!(error.is_retryable(), "the file is gone, not damaged: {error:?}");
    let mut asked = 0;
    let read = reader.read(|reader| {
        asked += 1;
        let rooms = reader.namespace("rooms")?;
        rooms.snapshot(rooms.id_from_name("room 7"))?.get("k")
    });
    assert_eq!(read.unwrap().unwrap().to_vec(), "y".repeat(900).into_bytes());
    assert_eq!(asked, 2);
    assert!(reader.position() > old.position());
}

#[test]
fn a_file_that_the_newest_manifest_names_and_is_gone_is_damage() {
    let disk = SimDisk::new(4);
    let store = open(&disk);
    put(&store.namespace("rooms").unwrap(), "lobby", "one");
    store.steps().checkpoint().unwrap();
    let is_segment = |name: &FileName| matches!(name, FileName::Segment(_));
    let segment = disk.names().into_iter().find(is_segment).unwrap();
    let damaged = disk.fork();
    dostore::disk::Disk::remove(&damaged, segment).unwrap();
    // What needs no page of it is shown.
    let reader = Reader::open_on(damaged).unwrap();
    let rooms = reader.namespace("rooms").unwrap();
    let lobby = rooms.snapshot(rooms.id_from_name("lobby")).unwrap();
    let error = lobby.get("k").unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "segment.missing"));
    assert_eq!(error.place().unwrap().file, segment.to_string());
}

#[test]
fn a_reader_writes_nothing_and_takes_no_lock() {
    let disk = SimDisk::new(5);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    for number in 0..20 {
        put(&rooms, &format!("room {number}"), "here");
    }
    store.steps().checkpoint().unwrap();
    put(&rooms, "room 3", "there");
    let before = contents(&disk);
    let mut reader = read(&disk);
    reader.refresh().unwrap();
    assert_eq!(names(&reader.namespace("rooms").unwrap()).len(), 20);
    assert!(contents(&disk) == before, "a byte or a name changed");
    drop(rooms);
    store.close().unwrap();
    let store = open(&disk);
    assert!(reader.refresh().unwrap() > Lsn::ZERO);
    drop(store);
}

#[test]
fn a_long_commit_shows_whole_or_not_at_all() {
    let disk = SimDisk::new(6);
    let store = options().wal_file_bytes(4 << 20).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    put(&rooms, "lobby", "one");
    let mut reader = read(&disk);
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    let mut turn = lobby.turn();
    for key in 0..3 {
        turn.put(format!("part {key}"), vec![7; 1 << 20]).unwrap();
    }
    let commit = turn.commit().unwrap();
    let mut shown = Vec::new();
    while !commit.is_durable() {
        store.steps().write_group().unwrap();
        reader.refresh().unwrap();
        let rooms = reader.namespace("rooms").unwrap();
        let snapshot = rooms.snapshot(rooms.id_from_name("lobby")).unwrap();
        shown.push(snapshot.list(ListOptions::new().prefix("part")).unwrap().count());
    }
    store.steps().write_mark().unwrap();
    reader.refresh().unwrap();
    let rooms = reader.namespace("rooms").unwrap();
    let snapshot = rooms.snapshot(rooms.id_from_name("lobby")).unwrap();
    shown.push(snapshot.list(ListOptions::new().prefix("part")).unwrap().count());
    assert!(shown.iter().all(|count| *count == 0 || *count == 3), "{shown:?}");
    assert_eq!(shown.last(), Some(&3));
}

#[test]
fn a_reader_follows_a_writer_at_full_speed_and_what_it_sees_verifies() {
    const TURNS: u32 = 200;
    let folder = tempfile::tempdir().unwrap();
    let options = Store::options().wal_file_bytes(64 << 10).segment_bytes(16 << 10);
    let options = options.dirty_bytes(32 << 10).retire_after(Duration::ZERO);
    let store = options.open(folder.path()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    put(&rooms, "clock", "0");
    put(&rooms, "other", "0");
    let write = || {
        for turn in 1..=TURNS {
            let mut clock = rooms.open_by_name("clock").unwrap();
            let mut changes = clock.turn();
            changes.put("k", turn.to_string()).unwrap().put("ballast", vec![7; 900]).unwrap();
            changes.commit().unwrap().wait().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(write);
        let mut reader = Reader::open(folder.path()).unwrap();
        let mut before = 0;
        while !writer.is_finished() {
            reader.refresh().unwrap();
            let told = reader.read(|reader| {
                let rooms = reader.namespace("rooms")?;
                let clock = rooms.snapshot(rooms.id_from_name("clock"))?;
                Ok((clock.get("k")?, clock.get("ballast")?))
            });
            // A writer this fast may remove the same file twice in a row.
            let (told, ballast) = match told {
                Err(error) if error.is_retryable() => continue,
                told => told.unwrap(),
            };
            let told: u32 = String::from_utf8(told.unwrap().to_vec()).unwrap().parse().unwrap();
            assert!(told >= before, "from {before} back to {told}");
            assert_eq!(ballast.is_some(), told > 0, "half a commit");
            before = told;
        }
        writer.join().unwrap();
        let disk = dostore::disk::real::RealReadDisk::open(folder.path()).unwrap();
        let report = dostore::inspect::verify(disk);
        assert!(report.is_clean(), "{report}");
    });
    store.close().unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let told = value(&reader.namespace("rooms").unwrap(), "clock");
    assert_eq!(told, Some(TURNS.to_string()));
}

#[test]
fn there_is_nothing_to_read_where_there_is_no_store() {
    let disk = SimDisk::new(7);
    let error = Reader::open_on(disk.clone()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "store.missing"));
    let nowhere = "/nowhere/at/all";
    let opened = Store::options().create(false).open(nowhere);
    for error in [Reader::open(nowhere).unwrap_err(), opened.unwrap_err()] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "store.missing"));
    }
    drop(open(&disk));
    let reader = read(&disk);
    assert!(reader.namespaces().is_empty());
    assert_eq!(reader.namespace("rooms").unwrap_err().code(), "namespace.missing");
}

#[test]
fn sessions_without_a_commit_put_no_earlier_state_there() {
    let disk = SimDisk::new(21);
    let store = open(&disk);
    let id = store.namespace("rooms").unwrap().id_from_name("lobby");
    put(&store.namespace("rooms").unwrap(), "lobby", "one");
    store.close().unwrap();
    open(&disk).close().unwrap();
    let mut store = open(&disk);
    let mut reader = read(&disk);
    let mut moments = Vec::new();
    for _ in 0..4 {
        moments.push(store.namespace("rooms").unwrap().current_bookmark(id).unwrap());
        store.close().unwrap();
        let before = reader.position();
        assert!(reader.refresh().unwrap() >= before);
        store = open(&disk);
        assert!(reader.refresh().unwrap() >= before);
        let shown = reader.namespace("rooms").unwrap();
        for moment in &moments {
            assert!(shown.at(id, moment).is_ok(), "{moment}");
        }
    }
}

#[test]
fn a_file_that_a_killed_opening_left_blank_orphans_no_reader() {
    let disk = SimDisk::new(22);
    let store = open(&disk);
    put(&store.namespace("rooms").unwrap(), "lobby", "one");
    drop(store);
    let store = open(&disk);
    let mut reader = read(&disk);
    let is_log = |name: &FileName| matches!(name, FileName::Wal(_));
    let blank = disk.names().into_iter().rfind(is_log).unwrap();
    let bytes = disk.file_bytes(blank).unwrap();
    drop(store);
    let store = open(&disk);
    put(&store.namespace("rooms").unwrap(), "lobby", "two");
    store.steps().write_mark().unwrap();
    // As it lay there until the opening had removed it.
    assert!(!disk.names().contains(&blank));
    drop(disk.create(blank).unwrap());
    disk.replace_file_bytes(blank, bytes);
    reader.refresh().unwrap();
    assert_eq!(value(&reader.namespace("rooms").unwrap(), "lobby").as_deref(), Some("two"));
}

#[test]
fn durable_moments_are_kept_after_a_kill_and_a_restart_without_a_commit() {
    let disk = SimDisk::new(20);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let id = rooms.id_from_name("lobby");
    put(&rooms, "lobby", "one");
    store.steps().checkpoint().unwrap();
    let mut moments = Vec::new();
    for number in ["two", "three", "four"] {
        put(&rooms, "lobby", number);
        moments.push(rooms.current_bookmark(id).unwrap());
    }
    drop(rooms);
    let disk = disk.kill();
    drop(store);
    let mut store = open(&disk);
    let reader = read(&disk);
    let shown = reader.namespace("rooms").unwrap();
    moments.push(shown.current_bookmark(id).unwrap());
    // A moment that is held does not change while the writer comes and goes.
    for round in 0..4 {
        for moment in &moments {
            assert!(shown.at(id, moment).is_ok(), "round {round}: {moment}");
        }
        if round > 1 {
            put(&store.namespace("rooms").unwrap(), "lobby", "five");
            store.steps().checkpoint().unwrap();
        }
        drop(store);
        store = open(&disk);
    }
}

#[test]
fn a_session_without_a_commit_makes_nothing_durable_that_a_crash_took() {
    let disk = SimDisk::new(23);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let id = rooms.id_from_name("lobby");
    put(&rooms, "lobby", "one");
    let kept = rooms.current_bookmark(id).unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    let lost = lobby.put("k", "two").unwrap().bookmark();
    drop((lobby, rooms));
    let disk = disk.kill();
    drop(store);
    open(&disk).close().unwrap();
    let store = open(&disk);
    put(&store.namespace("rooms").unwrap(), "other", "three");
    store.steps().write_mark().unwrap();
    let reader = read(&disk);
    let shown = reader.namespace("rooms").unwrap();
    assert_eq!(value(&shown, "other").as_deref(), Some("three"));
    for is_there in [true, false] {
        assert!(shown.at(id, &kept).is_ok(), "{is_there}");
        assert_eq!(shown.at(id, &lost).unwrap_err().code(), "bookmark.lost", "{is_there}");
        // The file of the log that tells of the session goes.
        store.steps().checkpoint().unwrap();
        assert_eq!(remove_retired(&disk, &store) > 0, is_there);
    }
}

/// Damages every block of runs of this use.
fn damage_runs(disk: &SimDisk, usage: RunUse) {
    let manifest = dostore::manifest::read(disk).unwrap().unwrap();
    for facts in manifest.runs.iter().filter(|facts| facts.usage == usage) {
        disk.flip_bit(FileName::Run(facts.number), 4100 * 8).unwrap();
    }
}

#[test]
fn an_object_that_began_anew_behind_a_lost_block_of_the_directory_is_shown() {
    let disk = SimDisk::new(24);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    for name in ["lobby", "hall"] {
        put(&rooms, name, "before");
    }
    store.steps().checkpoint().unwrap();
    rooms.delete(rooms.id_from_name("lobby")).unwrap().wait().unwrap();
    put(&rooms, "lobby", "anew");
    let mut hall = rooms.open_by_name("hall").unwrap();
    hall.put("other", "behind").unwrap().wait().unwrap();
    drop((hall, rooms, store));
    let disk = disk.kill();
    damage_runs(&disk, RunUse::Directory);
    let store = open(&disk);
    let reader = read(&disk);
    let (rooms, shown) = (store.namespace("rooms").unwrap(), reader.namespace("rooms").unwrap());
    assert_eq!(value(&shown, "lobby").as_deref(), Some("anew"));
    assert_eq!(rooms.open_by_name("lobby").unwrap().get("k").unwrap().unwrap(), b"anew"[..]);
    // Whether the other is whole, only its head says.
    let hall = shown.snapshot(shown.id_from_name("hall"));
    assert_eq!(hall.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(rooms.open_by_name("hall").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_lost_file_that_one_object_has_adopted_concerns_no_other() {
    let disk = SimDisk::new(25);
    let store = options().adopt_operations(0).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    put(&rooms, "hall", "here");
    put(&rooms, "lobby", "before");
    let before = rooms.current_bookmark(rooms.id_from_name("lobby")).unwrap();
    put(&rooms, "lobby", "behind");
    let named: Vec<_> = disk.names();
    rooms.restore(rooms.id_from_name("lobby"), &before).unwrap().commit.wait().unwrap();
    store.steps().write_mark().unwrap();
    assert_eq!(value(&read(&disk).namespace("rooms").unwrap(), "lobby").unwrap(), "before");
    let is_adopted = |name: &FileName| matches!(name, FileName::Run(_)) && !named.contains(name);
    let adopted: Vec<_> = disk.names().into_iter().filter(is_adopted).collect();
    assert!(!adopted.is_empty());
    let lost = disk.fork();
    for name in adopted {
        lost.remove(name).unwrap();
    }
    let reader = read(&lost);
    let shown = reader.namespace("rooms").unwrap();
    assert_eq!(value(&shown, "hall").unwrap(), "here");
    let error = shown.snapshot(shown.id_from_name("lobby")).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "adopt.lost"));
}

#[test]
fn the_last_commits_are_shown_as_far_as_history_has_them() {
    let disk = SimDisk::new(20);
    let kept = Retention::Keep { age: Duration::from_hours(24), bytes: Some(8 << 10) };
    let epoch = (Duration::ZERO, 8 << 10, Duration::from_hours(1));
    let options = options().epoch(epoch.0, epoch.1, epoch.2).retention(kept);
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut put_all = Vec::new();
    while store.stats().unwrap().expired_files < 2 {
        assert!(put_all.len() < 2_000, "nothing expires");
        for _ in 0..10 {
            put_all.push(put(&rooms, "lobby", &"x".repeat(400)));
        }
        store.steps().checkpoint().unwrap();
        store.steps().expire().unwrap();
    }
    (0..5).for_each(|_| put_all.push(put(&rooms, "lobby", "last")));
    store.steps().checkpoint().unwrap();
    let reader = read(&disk);
    let shown = |after| -> Vec<Lsn> {
        let commits = reader.commits_behind(after, usize::MAX).unwrap();
        commits.iter().map(|commit| commit.entry.bookmark.lsn()).collect()
    };
    let all = shown(Lsn::ZERO);
    assert!(all.len() > 1 && all.len() < put_all.len(), "{} of {}", all.len(), put_all.len());
    assert!(put_all.ends_with(&all), "the newest of them");
    for after in put_all {
        let behind = all.iter().copied().filter(|lsn| *lsn > after);
        assert_eq!(shown(after), behind.collect::<Vec<_>>());
    }
}

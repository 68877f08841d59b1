//! Reads of the past: by bookmark, by time, commit by commit, and what differs.

use super::stage::{Stage, code, options};
use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::format::history::{BundleKey, Group};
use dostore::format::manifest::Manifest;
use dostore::ids::Lsn;
use dostore::names::FileName;
use dostore::run::Run;
use dostore::store::history::History;
use std::time::{Duration, UNIX_EPOCH};

/// A changed key, its value before and its value after.
type Told = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

fn wall(stage: &Stage) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_micros(stage.disk.clock().wall_micros())
}

#[test]
fn a_time_means_the_commits_up_to_it() {
    let stage = Stage::new(1);
    let mut lobby = stage.room("lobby");
    let before = wall(&stage);
    stage.disk.advance(Duration::from_secs(1));
    let mut moments = Vec::new();
    for number in 0..10_u8 {
        let commit = lobby.put("n", [number]).unwrap();
        let time = UNIX_EPOCH + Duration::from_micros(commit.position().time.0);
        commit.wait().unwrap();
        moments.push((number, time));
        stage.disk.advance(Duration::from_secs(1));
        // Others commit in between.
        stage.room("other").put("n", [number]).unwrap().wait().unwrap();
        stage.disk.advance(Duration::from_secs(1));
    }
    let read = |time| {
        let bookmark = lobby.bookmark_at(time).unwrap();
        assert_eq!(stage.rooms.bookmark_at(lobby.id(), time).unwrap(), bookmark);
        lobby.at(&bookmark).unwrap().get("n").unwrap().map(|value| value[0])
    };
    assert_eq!(read(before), None);
    assert_eq!(read(UNIX_EPOCH), None);
    for (number, time) in moments {
        assert_eq!(read(time), Some(number));
        assert_eq!(read(time + Duration::from_millis(1_999)), Some(number));
        let earlier = number.checked_sub(1);
        assert_eq!(read(time - Duration::from_micros(1)), earlier);
    }
    assert_eq!(read(wall(&stage) + Duration::from_secs(1 << 32)), Some(9));
    let present = lobby.bookmark_at(wall(&stage)).unwrap();
    assert_eq!(present, lobby.current_bookmark().unwrap());
}

/// Numbers below what is asked for, the same in each run.
fn chance() -> impl FnMut(u16) -> u16 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    move |most| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [.., one, other] = state.to_be_bytes();
        u16::from_be_bytes([one, other]) % most
    }
}

#[test]
fn a_time_is_found_among_commits_of_any_size_at_any_pace() {
    let disk = SimDisk::new(5);
    let store = options().wal_file_bytes(4 << 20).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let stage = Stage { disk, store, rooms };
    let mut chance = chance();
    for round in 0..7 {
        for _ in 0..60 {
            let name = ["lobby", "cellar", "attic"][usize::from(chance(3))];
            // Some are longer than an item of history, and some than a bundle.
            let bytes = match chance(20) {
                0 => 40_000,
                1 => 11_000,
                2..8 => 100 + chance(3_000),
                _ => chance(60),
            };
            let value: Vec<u8> = (0..bytes).map(|_| chance(256).to_le_bytes()[0]).collect();
            stage.room(name).put("key", value).unwrap().wait().unwrap();
            let micros = u64::from(chance(5_000));
            let pause = [0, 0, 1, micros, 20_000 * micros][usize::from(chance(5))];
            stage.disk.advance(Duration::from_micros(pause));
        }
        // The last ones are in no file, and two files stay apart.
        if round < 6 {
            stage.store.steps().checkpoint().unwrap();
        }
        while round < 5 && stage.store.steps().merge().unwrap() {}
    }
    for name in ["lobby", "cellar", "attic", "never"] {
        let id = stage.id(name);
        let history = stage.rooms.history(id, ..).unwrap();
        let commits: Vec<_> =
            history.map(|entry| entry.map(|it| (it.time.0, it.bookmark.lsn())).unwrap()).collect();
        for time in commits.iter().flat_map(|(time, _)| [time - 1, *time, time + 1]) {
            let first = commits.iter().find(|(of, _)| *of > time);
            let wanted = first.map_or(stage.store.durable().0, |(_, lsn)| lsn.0 - 1);
            let found =
                stage.rooms.bookmark_at(id, UNIX_EPOCH + Duration::from_micros(time)).unwrap();
            assert_eq!(found.lsn().0, wanted, "{name} at {time}");
        }
    }
}

/// Where a block of history stands, and which commit is the first in it, if it begins with one.
type CommitBlock = (u64, Option<Lsn>);

/// The blocks of a run of history.
fn blocks(run: &Run) -> Vec<CommitBlock> {
    let block = |number| {
        let (range, first, _) = run.block_at(number);
        let first = BundleKey::decode(first).unwrap().first;
        (range.start, (first.group == Group::Commits).then_some(first.lsn))
    };
    (0..run.blocks()).map(block).collect()
}

#[test]
fn one_block_is_read_to_find_a_time_however_many_commits_there_are() {
    let stage = Stage::on(SimDisk::new(6));
    let mut lobby = stage.room("lobby");
    let (mut moments, mut chance) = (Vec::new(), chance());
    for number in 0..400 {
        let value: Vec<u8> = (0..1_200).map(|_| chance(256).to_le_bytes()[0]).collect();
        let commit = lobby.put("key", value).unwrap();
        let time = UNIX_EPOCH + Duration::from_micros(commit.position().time.0);
        moments.push((time, commit.bookmark()));
        commit.wait().unwrap();
        // At any pace: nobody can guess where a time is.
        stage.disk.advance(Duration::from_secs(1 << (number / 40)));
        if number % 200 == 199 {
            stage.store.steps().checkpoint().unwrap();
        }
    }
    drop(lobby);
    let Stage { disk, store, rooms } = stage;
    drop((store, rooms));
    let mut disk = disk.kill();
    let manifest = Manifest::decode(&disk.file_bytes(FileName::Manifest).unwrap()).unwrap();
    let mut all = Vec::new();
    for file in &manifest.history {
        let run = Run::open(&disk, manifest.store, &file.facts).unwrap();
        let of_file = blocks(&run);
        for (at, (offset, first)) in of_file.iter().enumerate() {
            let next = of_file.get(at + 1).and_then(|(_, first)| *first);
            all.push((run.name(), *offset, *first, next));
        }
    }
    assert!(all.len() > 25, "{}", all.len());
    let flip = |disk: &SimDisk, (name, offset): (FileName, u64)| {
        disk.flip_bit(name, (offset + 100) * 8).unwrap();
    };
    for (name, offset, ..) in &all {
        flip(&disk, (*name, *offset));
    }
    let mut found = 0;
    for (name, offset, first, next) in all.iter().step_by(3) {
        let (Some(first), Some(next)) = (first, next) else { continue };
        flip(&disk, (*name, *offset));
        let stage = Stage::on(disk.kill());
        let id = stage.id("lobby");
        let is_inside = |at: &usize| (*first..*next).contains(&moments[*at].1.lsn());
        for at in (0..moments.len()).filter(is_inside) {
            let (time, bookmark) = moments[at];
            let told = stage.rooms.bookmark_at(id, time).unwrap();
            assert!(bookmark <= told && told < moments[at + 1].1, "{at}");
            found += 1;
        }
        disk = stage.disk.kill();
        flip(&disk, (*name, *offset));
    }
    assert!(found > 80, "{found}");
    let stage = Stage::on(disk);
    let walked = stage.rooms.history(stage.id("lobby"), ..).unwrap().find_map(Result::err);
    assert_eq!(walked.expect("a walk meets the damage").kind(), ErrorKind::Corrupt);
}

#[test]
fn the_history_tells_each_commit() {
    let stage = Stage::new(2);
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    turn.put("a", "1").unwrap().put("b", "1").unwrap();
    let first = turn.commit().unwrap();
    let mut turn = lobby.turn();
    turn.put("c", "1").unwrap().delete("a").unwrap().delete_range("x".."z").unwrap();
    turn.set_alarm(dostore::ids::Timestamp(1 << 60)).unwrap();
    let second = turn.commit().unwrap();
    let bookmarks = [first.bookmark(), second.bookmark()];
    let times = [first.position().time, second.position().time];
    first.wait().unwrap();
    second.wait().unwrap();
    stage.room("other").put("a", "1").unwrap().wait().unwrap();
    let restored = lobby.restore(&bookmarks[0]).unwrap();
    let third = restored.commit.bookmark();
    restored.commit.wait().unwrap();

    let told: Vec<_> = lobby.history(..).unwrap().map(Result::unwrap).collect();
    assert_eq!(told.len(), 3);
    assert_eq!(
        told.iter().map(|entry| entry.bookmark).collect::<Vec<_>>(),
        [bookmarks[0], bookmarks[1], third]
    );
    assert_eq!([told[0].time, told[1].time], times);
    // The name is an operation too, of the store's own.
    assert_eq!((told[0].operations, told[0].puts, told[0].deletes), (3, 2, 0));
    assert_eq!((told[1].operations, told[1].puts, told[1].deletes), (4, 1, 2));
    assert!(told[0].bytes > 44 && told[0].restored.is_none() && told[1].restored.is_none());
    let from = told[2].restored.unwrap();
    assert_eq!((from.bookmark, from.is_fork, from.is_at_open), (bookmarks[0], false, false));
    assert_eq!((told[2].puts, told[2].deletes), (1, 1));

    let [one, two] = bookmarks;
    let of = |told: History| -> Vec<_> { told.map(|entry| entry.unwrap().bookmark).collect() };
    assert_eq!(of(lobby.history(one..two).unwrap()), [one]);
    assert_eq!(of(lobby.history(one..=two).unwrap()), [one, two]);
    assert_eq!(of(lobby.history(two..).unwrap()), [two, third]);
    assert_eq!(of(lobby.history(..two).unwrap()), [one]);
    let behind = (std::ops::Bound::Excluded(one), std::ops::Bound::Unbounded);
    assert_eq!(of(stage.rooms.history(lobby.id(), behind).unwrap()), [two, third]);
    assert_eq!(of(lobby.history(third..one).unwrap()), []);
    let newest_first: Vec<_> =
        lobby.history(..).unwrap().rev().map(|entry| entry.unwrap().bookmark).collect();
    assert_eq!(newest_first, [third, two, one]);
}

#[test]
fn what_differs_is_told_key_by_key() {
    let stage = Stage::new(3);
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    for key in ["a", "b", "c", "same"] {
        turn.put(key, "1").unwrap();
    }
    let first = turn.commit().unwrap();
    let one = first.bookmark();
    first.wait().unwrap();
    let mut turn = lobby.turn();
    turn.delete("a").unwrap().put("b", "2").unwrap().put("d", "2").unwrap();
    turn.put("same", "1").unwrap();
    let second = turn.commit().unwrap();
    let two = second.bookmark();
    second.wait().unwrap();
    let told = |before, after| -> Vec<Told> {
        let changes = lobby.diff(before, after).unwrap().map(Result::unwrap);
        let bytes = |value: Option<dostore::store::value::Value>| value.map(|value| value.to_vec());
        changes
            .map(|change| (change.key.to_vec(), bytes(change.before), bytes(change.after)))
            .collect()
    };
    let change = |key: &str, before: Option<&str>, after: Option<&str>| {
        let bytes = |text: &str| text.as_bytes().to_vec();
        (bytes(key), before.map(bytes), after.map(bytes))
    };
    assert_eq!(
        told(&one, &two),
        [
            change("a", Some("1"), None),
            change("b", Some("1"), Some("2")),
            change("d", None, Some("2")),
        ]
    );
    assert_eq!(told(&two, &one).len(), 3);
    assert_eq!(told(&two, &two), []);
    let other = stage.room("other").current_bookmark().unwrap();
    assert_eq!(code(lobby.diff(&one, &other)), "bookmark.foreign");
}

#[test]
fn g3_nothing_of_the_past_is_shown_before_it_is_durable() {
    let stage = Stage::new(4);
    let mut lobby = stage.room("lobby");
    let one = lobby.put("a", "1").unwrap();
    let two = lobby.put("a", "2").unwrap();
    let bookmarks = [one.bookmark(), two.bookmark()];
    one.detach();
    two.detach();
    assert!(stage.store.durable() < bookmarks[0].lsn());
    // The view waits for what it shows, and the group takes both.
    assert_eq!(lobby.at(&bookmarks[0]).unwrap().get("a").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(stage.store.durable() >= bookmarks[0].lsn());
    let three = lobby.put("a", "3").unwrap();
    let last = three.bookmark();
    three.detach();
    lobby.history(..).unwrap();
    assert!(stage.store.durable() >= last.lsn());
    let four = lobby.put("a", "4").unwrap();
    let last = four.bookmark();
    four.detach();
    lobby.diff(&bookmarks[0], &last).unwrap();
    assert!(stage.store.durable() >= last.lsn());
    lobby.put("a", "5").unwrap().detach();
    let last = stage.rooms.current_bookmark(lobby.id()).unwrap();
    assert!(stage.store.durable() >= last.lsn());
}

#[test]
fn a_failed_sync_shows_nothing_of_the_past() {
    let stage = Stage::new(5);
    let mut lobby = stage.room("lobby");
    lobby.put("a", "1").unwrap().wait().unwrap();
    let bookmark = lobby.current_bookmark().unwrap();
    let commit = lobby.put("a", "2").unwrap();
    for call in 1..20 {
        stage.disk.fail_call(call, dostore::disk::sim::Fault::Io);
    }
    assert!(commit.wait().is_err());
    for refused in [
        lobby.at(&bookmark).err(),
        lobby.history(..).err(),
        lobby.diff(&bookmark, &bookmark).err(),
        lobby.restore(&bookmark).err(),
        stage.rooms.at(stage.id("lobby"), &bookmark).err(),
    ] {
        let kind = refused.expect("the store is poisoned").kind();
        assert_eq!(kind, dostore::error::ErrorKind::Poisoned);
    }
}

#[test]
fn moments_behind_a_purge_are_found_by_time_and_those_before_it_are_refused() {
    let stage = Stage::new(9);
    let id = stage.id("lobby");
    let step = || stage.disk.advance(Duration::from_secs(10));
    stage.room("lobby").put("n", [1]).unwrap().wait().unwrap();
    step();
    let before = wall(&stage);
    step();
    stage.rooms.purge(id).unwrap().wait().unwrap();
    step();
    let purged = wall(&stage);
    for is_in_pages in [false, true] {
        if is_in_pages {
            stage.store.steps().checkpoint().unwrap();
        }
        step();
        let mut lobby = stage.room("lobby");
        lobby.put("n", [2]).unwrap().wait().unwrap();
        step();
        let behind = wall(&stage);
        step();
        lobby.put("n", [3]).unwrap().wait().unwrap();
        assert_eq!(code(lobby.bookmark_at(before)), "history.purged");
        let empty = lobby.bookmark_at(purged).unwrap();
        assert_eq!(lobby.at(&empty).unwrap().get("n").unwrap(), None);
        let two = lobby.bookmark_at(behind).unwrap();
        assert_eq!(lobby.at(&two).unwrap().get("n").unwrap().as_deref(), Some(&[2][..]));
        let told: Vec<_> = lobby.history(..).unwrap().map(Result::unwrap).collect();
        assert!(told.len() >= 3 && told[0].deletes > 0, "the purge is the first that is told");
        assert!(lobby.history(empty..).is_ok());
    }
}

#[test]
fn a_moment_asks_no_file_from_before_a_state_that_serves_it() {
    let disk = SimDisk::new(7);
    let store = options().history_state_bytes(4).open_on(disk.clone()).unwrap();
    let mut lobby = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
    let mut moments = Vec::new();
    for round in 0..4_u8 {
        // More than a page of them, so that each checkpoint keeps a state.
        for part in 0..2_u8 {
            let commit = lobby.put("key", [round * 2 + part; 600]).unwrap();
            moments.push((round * 2 + part, commit.bookmark()));
            commit.wait().unwrap();
        }
        store.steps().checkpoint().unwrap();
    }
    drop((lobby, store));
    let disk = disk.kill();
    let manifest = Manifest::decode(&disk.file_bytes(FileName::Manifest).unwrap()).unwrap();
    let first = manifest.history.iter().min_by_key(|file| file.end).unwrap();
    // In its first block.
    disk.flip_bit(FileName::Run(first.facts.number), 4_200 * 8).unwrap();
    let stage = Stage::on(disk);
    let mut hurt = 0;
    for (value, bookmark) in moments {
        match stage.rooms.at(stage.id("lobby"), &bookmark) {
            Ok(view) => assert_eq!(view.get("key").unwrap().as_deref(), Some(&[value; 600][..])),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                assert!(value < 2, "moment {value} asks a file that it does not need");
                hurt += 1;
            }
        }
    }
    assert!(hurt > 0, "nobody asks the first file");
}

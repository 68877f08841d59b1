//! Restorations and forks of more than one commit may change: with the limit at nothing, all.

use super::stage::{Stage, code, options};
use dostore::actor::Storage;
use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::ids::Timestamp;
use dostore::inspect::verify::verify;
use dostore::store::list::ListOptions;
use dostore::store::object::Object;
use dostore::store::reader::Reader;
use dostore::store::restore::RestoreOptions;
use dostore::store::snapshot::Snapshot;
use std::collections::BTreeMap;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn all(snapshot: &Snapshot) -> Map {
    let entries = snapshot.list(ListOptions::new()).unwrap();
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

fn now(object: &Object) -> Map {
    all(&object.snapshot().unwrap())
}

fn stage(disk: &SimDisk) -> Stage {
    let options = options().page_bytes(512).segment_bytes(16 << 10).adopt_operations(0);
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    Stage { disk: disk.clone(), store, rooms }
}

fn fill(object: &mut Object, keys: std::ops::Range<u32>, value: &str) -> Bookmark {
    let mut turn = object.turn();
    for key in keys {
        turn.put(format!("{key:04}"), format!("{value} {key} {}", "-".repeat(40))).unwrap();
    }
    let commit = turn.commit().unwrap();
    let bookmark = commit.bookmark();
    commit.wait().unwrap();
    bookmark
}

/// A moment of `lobby` with many keys, and what it was; now it has few others.
fn changed(stage: &Stage) -> (Bookmark, Map) {
    let mut lobby = stage.room("lobby");
    let many = fill(&mut lobby, 0..200, "one");
    let then = now(&lobby);
    stage.store.steps().checkpoint().unwrap();
    let mut turn = lobby.turn();
    turn.delete_all().unwrap();
    turn.commit_durable().unwrap();
    fill(&mut lobby, 195..205, "two");
    (many, then)
}

#[track_caller]
fn check_files(stage: &Stage) {
    let report = verify(stage.disk.clone());
    assert!(report.is_clean(), "{:?}", report.faults);
    let bytes = |name| stage.disk.file_bytes(name).map_or(0, |bytes| bytes.len() as u64);
    let all: u64 = stage.disk.names().into_iter().map(bytes).sum();
    assert_eq!(stage.store.stats().unwrap().disk_bytes(), all);
}

#[test]
fn each_moment_around_an_adoption_is_what_it_was_before_and_after_its_checkpoint() {
    let disk = SimDisk::new(1);
    let stage = stage(&disk);
    let (many, then) = changed(&stage);
    let mut lobby = stage.room("lobby");
    let mut moments = vec![(many, then.clone()), (lobby.current_bookmark().unwrap(), now(&lobby))];
    let restored = lobby.restore(&many).unwrap();
    moments.push((restored.undo, now_of(&moments)));
    moments.push((restored.commit.bookmark(), then.clone()));
    assert_eq!(lobby.get("0007").unwrap().as_deref(), then.get(&b"0007"[..]).map(Vec::as_slice));
    assert_eq!(lobby.get("0204").unwrap(), None);
    // Further commits, a second adoption, the end of the life and a third, all in one interval.
    let mut note = |lobby: &Object| moments.push((lobby.current_bookmark().unwrap(), now(lobby)));
    fill(&mut lobby, 50..60, "three");
    lobby.delete("0100").unwrap().wait().unwrap();
    note(&lobby);
    lobby.restore(&restored.undo).unwrap().commit.wait().unwrap();
    note(&lobby);
    fill(&mut lobby, 201..203, "four");
    note(&lobby);
    let mut turn = lobby.turn();
    turn.delete_all().unwrap();
    turn.commit_durable().unwrap();
    note(&lobby);
    lobby.restore(&many).unwrap().commit.wait().unwrap();
    note(&lobby);
    fill(&mut lobby, 300..303, "five");
    note(&lobby);
    for round in 0..4 {
        for (bookmark, map) in &moments {
            assert_eq!(all(&lobby.at(bookmark).unwrap()), *map, "round {round}, {bookmark}");
        }
        check_files(&stage);
        stage.store.steps().checkpoint().unwrap();
        if round == 1 {
            fill(&mut lobby, 0..1, "six");
            let mut turn = lobby.turn();
            turn.delete_range("0150".."0199").unwrap();
            turn.commit_durable().unwrap();
        }
        stage.store.steps().clean().unwrap();
        stage.store.steps().merge().unwrap();
    }
    let last = now(&lobby);
    drop(lobby);
    let stage = self::stage(&disk.power_cut());
    let lobby = stage.room("lobby");
    assert_eq!(now(&lobby), last);
    for (bookmark, map) in &moments {
        assert_eq!(all(&lobby.at(bookmark).unwrap()), *map, "{bookmark}");
    }
}

fn now_of(moments: &[(Bookmark, Map)]) -> Map {
    moments.last().map(|(_, map)| map.clone()).unwrap()
}

#[test]
fn g21_an_adoption_cut_off_at_any_call_is_there_whole_or_not_at_all() {
    let base = SimDisk::new(2);
    let (many, then) = changed(&stage(&base));
    let base = base.power_cut();
    let before = now(&stage(&base.fork()).room("lobby"));
    let (mut done, mut undone) = (0, 0);
    for call in 1.. {
        let disk = base.fork();
        let after_open = stage(&disk);
        disk.crash_after(call);
        let mut lobby = after_open.room("lobby");
        let restored = lobby.restore(&many).and_then(|restored| restored.commit.wait());
        let covered = restored.as_ref().map(|_| after_open.store.steps().checkpoint());
        let is_over = matches!(covered, Ok(Ok(_)));
        drop(lobby);
        drop(after_open);
        // A kill keeps what the system has; a power cut what the medium has.
        let disk = if call % 2 == 0 { disk.power_cut() } else { disk.kill() };
        let stage = stage(&disk);
        let found = now(&stage.room("lobby"));
        assert!(found == then || found == before && restored.is_err(), "call {call}");
        if found == then {
            done += 1;
        } else {
            undone += 1;
        }
        check_files(&stage);
        let reader = Reader::open_on(disk.clone()).unwrap();
        let rooms = reader.namespace("rooms").unwrap();
        assert!(all(&rooms.snapshot(stage.id("lobby")).unwrap()) == found, "call {call}");
        // What was written for nothing is gone, and nothing stands in the way of the next.
        stage.store.steps().checkpoint().unwrap();
        let mut lobby = stage.room("lobby");
        assert!(now(&lobby) == found, "call {call}");
        let again = lobby.restore(&many).unwrap();
        lobby.restore(&again.undo).unwrap().commit.wait().unwrap();
        assert!(now(&lobby) == found, "call {call}");
        stage.store.steps().checkpoint().unwrap();
        check_files(&stage);
        if is_over {
            break;
        }
    }
    assert!(done > 5 && undone > 20, "{done} done, {undone} not");
}

#[test]
fn a_reader_beside_the_writer_follows_an_adoption_and_its_checkpoint() {
    let disk = SimDisk::new(3);
    let stage = stage(&disk);
    let (many, then) = changed(&stage);
    let mut reader = Reader::open_on(disk.clone()).unwrap();
    let read = |reader: &Reader| {
        let rooms = reader.namespace("rooms").unwrap();
        all(&rooms.snapshot(stage.id("lobby")).unwrap())
    };
    let mut lobby = stage.room("lobby");
    let before = now(&lobby);
    let restored = lobby.restore(&many).unwrap();
    let adopted = restored.commit.bookmark();
    restored.commit.wait().unwrap();
    stage.store.steps().write_mark().unwrap();
    reader.refresh().unwrap();
    assert_eq!(read(&reader), then);
    fill(&mut lobby, 0..2, "three");
    let last = now(&lobby);
    stage.store.steps().checkpoint().unwrap();
    // A moment that it holds stays readable for as long as its files do.
    assert_eq!(read(&reader), then);
    reader.refresh().unwrap();
    assert_eq!(read(&reader), last);
    let rooms = reader.namespace("rooms").unwrap();
    let at = |bookmark: &Bookmark| all(&rooms.at(stage.id("lobby"), bookmark).unwrap());
    assert_eq!(at(&adopted), then);
    assert_eq!(at(&restored.undo), before);
}

#[test]
fn what_is_no_data_stays_through_an_adoption() {
    let disk = SimDisk::new(4);
    let stage = stage(&disk);
    let (many, then) = changed(&stage);
    let storage = Storage::open(stage.room("lobby"));
    storage.set_user_version(7).unwrap();
    storage.put_attachment(b"socket", "kept").unwrap();
    storage.sync().wait().unwrap();
    drop(storage);
    let due = Timestamp(1);
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    turn.set_alarm(Timestamp(2)).unwrap().set_named_alarm("x", due).unwrap();
    turn.commit_durable().unwrap();
    lobby.restore(&many).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.alarms().unwrap(), [(None, Timestamp(2)), (Some("x".to_owned()), due)]);
    // The hints of its alarms are not lost with the layers that had them.
    stage.store.steps().checkpoint().unwrap();
    check_files(&stage);
    drop(lobby);
    let stage = self::stage(&disk.power_cut());
    let fired = stage.store.alarms().try_next().unwrap().expect("it is due");
    assert_eq!((fired.object_id().unwrap(), fired.alarm_name()), (stage.id("lobby"), Some("x")));
    let lobby = stage.room("lobby");
    assert_eq!(now(&lobby), then);
    assert_eq!(lobby.name(), Some("lobby"));
    let storage = Storage::open(lobby);
    assert_eq!(storage.user_version().unwrap(), 0);
    assert_eq!(storage.attachment(b"socket").unwrap().as_deref(), Some(&b"kept"[..]));
}

#[test]
fn alarms_come_back_with_an_adoption_if_asked() {
    let disk = SimDisk::new(5);
    let stage = stage(&disk);
    let at = |hour: u64| Timestamp(4_000_000_000_000_000 + hour * 3_600_000_000);
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    turn.put("a", "1").unwrap().set_alarm(at(1)).unwrap().set_named_alarm("x", at(2)).unwrap();
    turn.set_named_alarm("same", at(3)).unwrap();
    let commit = turn.commit().unwrap();
    let first = commit.bookmark();
    commit.wait().unwrap();
    let before = lobby.alarms().unwrap();
    let mut turn = lobby.turn();
    turn.put("a", "2").unwrap().clear_alarm().unwrap().clear_named_alarm("x").unwrap();
    turn.set_named_alarm("y", at(4)).unwrap();
    turn.commit_durable().unwrap();
    let later = lobby.alarms().unwrap();
    let alarms = RestoreOptions::new().alarms(true);
    let restored = lobby.restore_with(&first, alarms).unwrap();
    assert_eq!(lobby.alarms().unwrap(), before);
    stage.store.steps().checkpoint().unwrap();
    assert_eq!(lobby.alarms().unwrap(), before);
    check_files(&stage);
    lobby.restore_with(&restored.undo, alarms).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.alarms().unwrap(), later);
    // To before the object was: everything goes.
    let nothing = stage.rooms.bookmark_at(lobby.id(), std::time::UNIX_EPOCH).unwrap();
    lobby.restore_with(&nothing, alarms).unwrap().commit.wait().unwrap();
    assert_eq!((now(&lobby).len(), lobby.alarms().unwrap().len()), (0, 0));
    stage.store.steps().checkpoint().unwrap();
    assert_eq!((now(&lobby).len(), lobby.alarms().unwrap().len()), (0, 0));
    check_files(&stage);
}

#[test]
fn a_fork_of_any_size_is_a_copy() {
    let disk = SimDisk::new(6);
    let stage = stage(&disk);
    let (many, then) = changed(&stage);
    let plain = RestoreOptions::new();
    let fork = || stage.rooms.fork_by_name(stage.id("lobby"), &many, &stage.rooms, "copy", plain);
    fork().unwrap().wait().unwrap();
    assert_eq!(code(fork()), "fork.occupied");
    let infos: Vec<_> = stage.rooms.objects().map(|info| info.unwrap()).collect();
    let copy = infos.iter().find(|info| info.name.as_deref() == Some("copy")).unwrap();
    assert_eq!((copy.id, copy.keys), (stage.id("copy"), 200));
    stage.rooms.purge(stage.id("lobby")).unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    while stage.store.steps().erase().unwrap() {}
    let stage = self::stage(&disk.power_cut());
    let copy = stage.room("copy");
    assert_eq!(now(&copy), then);
    let entry = copy.history(..).unwrap().next().unwrap().unwrap();
    assert!(entry.restored.unwrap().is_fork);
    check_files(&stage);
}

#[test]
fn an_adoption_that_is_refused_leaves_no_file() {
    let disk = SimDisk::new(7);
    let stage = stage(&disk);
    let (many, _) = changed(&stage);
    let plain = RestoreOptions::new();
    let fork = |name| stage.rooms.fork_by_name(stage.id("lobby"), &many, &stage.rooms, name, plain);
    let held = stage.room("held");
    let names = disk.names();
    assert_eq!(code(fork("held")), "object.open");
    assert_eq!(code(fork("lobby")), "fork.occupied");
    let mut fenced = stage.room("other");
    let there = fill(&mut fenced, 0..3, "one");
    stage.rooms.delete(fenced.id()).unwrap().wait().unwrap();
    assert_eq!(code(fenced.restore(&there)), "handle.fenced");
    assert_eq!(disk.names(), names);
    drop(held);
}

#[test]
fn a_purge_ends_what_was_adopted_before_any_manifest_named_it() {
    let disk = SimDisk::new(8);
    let stage = stage(&disk);
    let (many, _) = changed(&stage);
    let mut lobby = stage.room("lobby");
    let restored = lobby.restore(&many).unwrap();
    let adopted = restored.commit.bookmark();
    stage.rooms.purge(lobby.id()).unwrap().wait().unwrap();
    drop(lobby);
    stage.store.steps().checkpoint().unwrap();
    while stage.store.steps().erase().unwrap() {}
    assert_eq!(code(stage.rooms.at(stage.id("lobby"), &adopted)), "history.purged");
    check_files(&stage);
    let stage = self::stage(&disk.power_cut());
    assert_eq!(now(&stage.room("lobby")), Map::new());
}

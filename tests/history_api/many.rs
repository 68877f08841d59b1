//! Many objects at once, and another process that looks on.

use super::stage::{Stage, code};
use dostore::bookmark::Bookmark;
use dostore::disk::ReadDisk;
use dostore::store::object::Object;
use dostore::store::reader::Reader;
use dostore::store::restore::RestoreOptions;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn wall(stage: &Stage) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(stage.disk.clock().wall_micros())
}

fn put(object: &mut Object, value: &str) -> Bookmark {
    let commit = object.put("a", value).unwrap();
    let bookmark = commit.bookmark();
    commit.wait().unwrap();
    bookmark
}

fn value(stage: &Stage, name: &str) -> Option<Vec<u8>> {
    let snapshot = stage.rooms.snapshot(stage.id(name)).unwrap();
    snapshot.get("a").unwrap().map(|value| value.to_vec())
}

/// Ten rooms with a value; then a mass deletion and some other changes.
fn changed(seed: u64) -> (Stage, SystemTime) {
    let stage = Stage::new(seed);
    for number in 0..10 {
        put(&mut stage.room(&format!("room {number}")), "kept");
    }
    stage.disk.advance(Duration::from_secs(1));
    let time = wall(&stage);
    stage.disk.advance(Duration::from_secs(1));
    for number in 0..5 {
        let id = stage.id(&format!("room {number}"));
        stage.rooms.delete(id).unwrap().wait().unwrap();
    }
    put(&mut stage.room("room 5"), "changed");
    put(&mut stage.room("room 6"), "kept");
    put(&mut stage.room("new"), "new");
    (stage, time)
}

#[test]
fn a_mass_deletion_is_undone_by_restoring_the_namespace() {
    let (stage, time) = changed(1);
    let elsewhere = stage.store.namespace("elsewhere").unwrap();
    put(&mut elsewhere.open_by_name("x").unwrap(), "elsewhere");
    let mut all = stage.rooms.restore_all(time, RestoreOptions::new());
    let mut restored = 0;
    for object in &mut all {
        object.unwrap().restored.unwrap().commit.wait().unwrap();
        restored += 1;
    }
    // The deleted ones, the changed one and the new one; not the one that was set to what it was.
    assert_eq!(restored, 7);
    let progress = all.progress();
    assert_eq!((progress.looked_at, progress.restored, progress.failed), (11, 7, 0));
    for number in 0..10 {
        assert_eq!(value(&stage, &format!("room {number}")).as_deref(), Some(&b"kept"[..]));
    }
    assert_eq!(value(&stage, "new"), None);
    assert_eq!(stage.rooms.objects().count(), 10);
    assert!(stage.rooms.objects().all(|info| info.unwrap().name.is_some()));
    // A second run finds nothing to do.
    assert_eq!(stage.rooms.restore_all(time, RestoreOptions::new()).count(), 0);
    assert_eq!(elsewhere.objects().count(), 1);
}

#[test]
fn a_restoration_of_many_goes_on_where_it_ended() {
    let (stage, time) = changed(2);
    let options = RestoreOptions::new();
    let mut all = stage.rooms.restore_all(time, options);
    for _ in 0..3 {
        all.next().unwrap().unwrap().restored.unwrap().commit.wait().unwrap();
    }
    assert_eq!(all.progress().namespace.as_deref(), Some(stage.rooms.name()));
    let last = all.progress().last.unwrap();
    drop(all);
    let stage = stage.power_cut();
    let rest = stage.rooms.restore_all_from(last, time, options).unwrap();
    let mut restored = 0;
    for object in rest {
        object.unwrap().restored.unwrap().commit.detach();
        restored += 1;
    }
    assert_eq!(restored, 4);
    assert_eq!(stage.rooms.objects().count(), 10);
}

#[test]
fn all_of_a_store_is_restored_namespace_by_namespace() {
    let (stage, time) = changed(3);
    let elsewhere = stage.store.namespace("elsewhere").unwrap();
    put(&mut elsewhere.open_by_name("x").unwrap(), "later");
    let all = stage.store.restore_all(time, RestoreOptions::new());
    let names: Vec<_> = all
        .map(|object| {
            let object = object.unwrap();
            object.restored.unwrap().commit.wait().unwrap();
            object.namespace.name().to_owned()
        })
        .collect();
    assert_eq!(names.iter().filter(|name| *name == "rooms").count(), 7);
    assert_eq!(names.iter().filter(|name| *name == "elsewhere").count(), 1);
    assert_eq!(elsewhere.objects().count(), 0);
    assert_eq!(stage.rooms.objects().count(), 10);
}

#[test]
fn a_restoration_of_a_store_that_was_cut_off_is_run_again() {
    let (mut stage, time) = changed(7);
    let elsewhere = stage.store.namespace("elsewhere").unwrap();
    put(&mut elsewhere.open_by_name("x").unwrap(), "later");
    drop(elsewhere);
    let (mut restored, mut runs) = (0, 0);
    loop {
        runs += 1;
        let mut all = stage.store.restore_all(time, RestoreOptions::new());
        let cut_off = (&mut all).take(3);
        let done = cut_off.map(|object| object.unwrap().restored.unwrap().commit.wait().unwrap());
        let done = done.count() as u64;
        let progress = all.progress();
        assert_eq!((progress.restored, progress.failed), (done, 0));
        drop(all);
        restored += done;
        if done == 0 {
            assert_eq!(progress.looked_at, 12, "all of both namespaces");
            break;
        }
        stage = stage.power_cut();
    }
    // Each of the eight that differed, once.
    assert_eq!((restored, runs), (8, 4));
    assert_eq!(stage.rooms.objects().count(), 10);
    assert_eq!(stage.store.namespace("elsewhere").unwrap().objects().count(), 0);
}

#[test]
fn an_object_that_cannot_be_restored_stops_no_other() {
    let (stage, time) = changed(4);
    stage.disk.advance(Duration::from_secs(1));
    let later = wall(&stage);
    stage.disk.advance(Duration::from_secs(1));
    stage.rooms.purge(stage.id("room 8")).unwrap().wait().unwrap();
    put(&mut stage.room("room 7"), "changed");
    let mut all = stage.rooms.restore_all(later, RestoreOptions::new());
    let told: Vec<_> = (&mut all).map(|object| object.unwrap()).collect();
    assert_eq!((all.progress().restored, all.progress().failed), (1, 1));
    for object in told {
        let is_purged = object.id == stage.id("room 8");
        match object.restored {
            Err(error) => assert!(is_purged && error.code() == "history.purged"),
            Ok(restored) => drop(restored.commit.wait().unwrap()),
        }
    }
    assert_eq!(value(&stage, "room 7").as_deref(), Some(&b"kept"[..]));
    assert!(time < later);
}

#[test]
fn a_reader_shows_the_past_as_far_as_it_shows_the_present() {
    let stage = Stage::new(5);
    let mut lobby = stage.room("lobby");
    let first = put(&mut lobby, "1");
    stage.disk.advance(Duration::from_secs(1));
    let time = wall(&stage);
    stage.disk.advance(Duration::from_secs(1));
    let second = put(&mut lobby, "2");
    stage.store.steps().write_mark().unwrap();
    let mut reader = Reader::open_on(stage.disk.clone()).unwrap();
    let read = |reader: &Reader, bookmark: &Bookmark| {
        let rooms = reader.namespace("rooms").unwrap();
        let snapshot = rooms.at(stage.id("lobby"), bookmark);
        snapshot.map(|snapshot| snapshot.get("a").unwrap().unwrap().to_vec())
    };
    assert_eq!(read(&reader, &first).unwrap(), b"1");
    assert_eq!(read(&reader, &second).unwrap(), b"2");
    let rooms = reader.namespace("rooms").unwrap();
    let at_time = |time| {
        let snapshot = rooms.at_time(stage.id("lobby"), time).unwrap();
        snapshot.get("a").unwrap().map(|value| value.to_vec())
    };
    assert_eq!(at_time(time).as_deref(), Some(&b"1"[..]));
    assert_eq!(at_time(UNIX_EPOCH), None);
    assert_eq!(at_time(wall(&stage)).as_deref(), Some(&b"2"[..]));
    let other = stage.room("other").current_bookmark().unwrap();
    assert_eq!(code(rooms.at(stage.id("lobby"), &other)), "bookmark.foreign");
    let third = put(&mut lobby, "3");
    assert_eq!(code(read(&reader, &third)), "bookmark.ahead");
    stage.store.steps().write_mark().unwrap();
    reader.refresh().unwrap();
    assert_eq!(read(&reader, &third).unwrap(), b"3");
    assert_eq!(read(&reader, &first).unwrap(), b"1");
}

#[test]
fn a_reader_knows_what_was_lost_in_terms_that_published_nothing() {
    let mut stage = Stage::new(6);
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for number in 0..4 {
        let mut lobby = stage.room("lobby");
        kept.push((put(&mut lobby, &number.to_string()), number.to_string()));
        let commit = lobby.put("a", "lost").unwrap();
        lost.push(commit.bookmark());
        commit.detach();
        drop(lobby);
        stage = stage.power_cut();
    }
    put(&mut stage.room("other"), "1");
    stage.store.steps().write_mark().unwrap();
    let reader = Reader::open_on(stage.disk.clone()).unwrap();
    let rooms = reader.namespace("rooms").unwrap();
    for (bookmark, value) in &kept {
        let snapshot = rooms.at(stage.id("lobby"), bookmark).unwrap();
        assert_eq!(snapshot.get("a").unwrap().as_deref(), Some(value.as_bytes()));
    }
    for bookmark in &lost {
        assert_eq!(code(rooms.at(stage.id("lobby"), bookmark)), "bookmark.lost");
    }
}

#[test]
fn an_object_whose_alarm_stays_is_emptied_once() {
    let stage = Stage::new(9);
    let time = wall(&stage);
    stage.disk.advance(Duration::from_secs(1));
    let mut later = stage.room("later");
    let mut turn = later.turn();
    turn.put("a", "new").unwrap();
    turn.set_alarm(dostore::ids::Timestamp(4_000_000_000_000_000)).unwrap();
    turn.commit_durable().unwrap();
    drop(later);
    let count = || stage.rooms.restore_all(time, RestoreOptions::new()).count();
    assert_eq!((count(), count(), count()), (1, 0, 0));
    assert_eq!(value(&stage, "later"), None);
    assert!(stage.room("later").alarm().unwrap().is_some());
}

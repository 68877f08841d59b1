//! What the crash simulation has found, each as a script of its own.

use super::stage::{Stage, code, open, options};
use dostore::bookmark::Bookmark;
use dostore::disk::sim::{Fault, SimDisk};
use dostore::inspect::verify::verify;
use dostore::retention::Retention;
use dostore::store::namespace::{Namespace, NamespaceOptions};
use dostore::store::object::Object;
use dostore::store::restore::RestoreOptions;
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

const DAY: Duration = Duration::from_hours(24);

/// A store with small pages, every checkpoint of which ends an epoch.
fn stage(disk: &SimDisk) -> Stage {
    let options = epochs().retention(Retention::days(3));
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    Stage { disk: disk.clone(), store, rooms }
}

fn epochs() -> Options {
    options().page_bytes(512).epoch(Duration::ZERO, 0, DAY).retire_after(Duration::ZERO)
}

fn put(object: &mut Object, value: &str) -> Bookmark {
    let commit = object.put("a", value).unwrap();
    let bookmark = commit.bookmark();
    commit.wait().unwrap();
    bookmark
}

fn value(found: Option<dostore::store::value::Value>) -> Option<String> {
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn at(rooms: &Namespace, name: &str, bookmark: &Bookmark) -> Option<String> {
    let view = rooms.at(rooms.id_from_name(name), bookmark);
    value(view.unwrap_or_else(|error| panic!("{name} at {bookmark}: {error}")).get("a").unwrap())
}

/// Merges whatever there is to merge, and history that is too old goes.
fn settle(store: &Store) {
    store.steps().expire().unwrap();
    while store.steps().merge().unwrap() {}
}

#[test]
fn a_log_that_goes_on_in_a_new_file_without_a_commit_gives_no_lsn_twice() {
    let disk = SimDisk::new(1);
    let stage = Stage::on(disk);
    put(&mut stage.room("lobby"), "1");
    stage.rooms.purge(stage.id("lobby")).unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    let stage = stage.power_cut();
    // Erasing moves the log to a new file, and drops the one that this term has begun with.
    assert!(stage.store.steps().erase().unwrap());
    let lost = stage.room("other").put("a", "lost").unwrap();
    let (lsn, bookmark) = (lost.position().lsn, lost.bookmark());
    lost.detach();
    let stage = stage.power_cut();
    let mut other = stage.room("other");
    let again = put(&mut other, "2").lsn();
    assert!(again > lsn, "{again} was given to a commit that was lost, as {lsn}");
    assert_eq!(code(other.at(&bookmark)), "bookmark.lost");
}

/// An object whose only entry waits for its next open, through a checkpoint and a crash.
fn check_waiting(stage: Stage, name: &str, full: &Bookmark, keys: usize) {
    stage.store.steps().checkpoint().unwrap();
    assert_eq!(stage.rooms.objects().count(), 0, "{name} has nothing");
    let disk = stage.disk.power_cut();
    drop(stage);
    let stage = self::stage(&disk);
    let id = stage.id(name);
    assert_eq!(stage.rooms.objects().count(), 0, "{name} has nothing");
    let opened = stage.rooms.open(id).unwrap();
    let found = opened.list(dostore::store::list::ListOptions::new()).unwrap().count();
    assert_eq!(found, keys, "{name} was to be restored to {full}");
}

#[test]
fn what_waits_for_the_next_open_of_an_object_without_anything_else_is_not_lost() {
    let stage = stage(&SimDisk::new(2));
    let mut tiny = stage.rooms.open(stage.id("tiny")).unwrap();
    let full = put(&mut tiny, "1");
    let mut turn = tiny.turn();
    turn.delete_all().unwrap();
    turn.commit_durable().unwrap();
    tiny.restore_on_next_open(&full).unwrap().0.wait().unwrap();
    drop(tiny);
    check_waiting(stage, "tiny", &full, 1);
}

#[test]
fn what_waits_for_the_next_open_is_not_lost_with_the_last_pages_of_a_large_object() {
    for is_known_before in [false, true] {
        let stage = stage(&SimDisk::new(3));
        let mut large = stage.rooms.open(stage.id("large")).unwrap();
        let mut turn = large.turn();
        for key in 0..200 {
            turn.put(format!("{key:04}"), "-".repeat(60)).unwrap();
        }
        let commit = turn.commit().unwrap();
        let full = commit.bookmark();
        commit.wait().unwrap();
        stage.store.steps().checkpoint().unwrap();
        if is_known_before {
            large.restore_on_next_open(&full).unwrap().0.wait().unwrap();
        }
        // Deltas first; then they are folded, and nothing is left of any page.
        for round in 0..4 {
            large.put("0100", "2").unwrap().wait().unwrap();
            let mut turn = large.turn();
            turn.delete_range::<&str>(..).unwrap();
            turn.commit_durable().unwrap();
            if round == 3 && !is_known_before {
                large.restore_on_next_open(&full).unwrap().0.wait().unwrap();
            }
            stage.store.steps().checkpoint().unwrap();
        }
        drop(large);
        check_waiting(stage, "large", &full, 200);
    }
}

#[test]
fn nobody_says_what_an_object_was_that_is_forgotten() {
    let stage = stage(&SimDisk::new(4));
    let commit = stage.room("lobby").put("a", "1").unwrap();
    let full = commit.bookmark();
    let time = UNIX_EPOCH + Duration::from_micros(commit.wait().unwrap().time.0);
    stage.disk.advance(DAY);
    stage.rooms.delete(stage.id("lobby")).unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    for day in 0..20 {
        stage.disk.advance(DAY);
        put(&mut stage.room("other"), &format!("{day}"));
        stage.store.steps().checkpoint().unwrap();
        settle(&stage.store);
        let id = stage.id("lobby");
        match stage.rooms.at(id, &full) {
            Ok(view) => assert!(view.get("a").unwrap().is_some(), "day {day}"),
            Err(error) => assert_eq!(error.code(), "history.expired"),
        }
        match stage.rooms.bookmark_at(id, time) {
            Ok(bookmark) => assert!(bookmark.lsn() <= full.lsn(), "day {day}: {bookmark}"),
            Err(error) => assert_eq!(error.code(), "history.expired", "day {day}"),
        }
    }
    assert_eq!(stage.rooms.snapshot(stage.id("lobby")).unwrap().last_lsn().0, 0, "it is forgotten");
}

/// What objects had at the end of each day, or that they had been purged since.
#[derive(Default)]
struct Days {
    moments: BTreeMap<String, Vec<(Bookmark, Option<String>)>>,
    read: usize,
}

impl Days {
    fn note(&mut self, rooms: &Namespace, names: &[&str]) {
        for name in names {
            let id = rooms.id_from_name(name);
            let now = value(rooms.snapshot(id).unwrap().get("a").unwrap());
            let moment = (rooms.current_bookmark(id).unwrap(), now);
            self.moments.entry((*name).to_owned()).or_default().push(moment);
        }
    }

    /// Each moment that history reaches back to is what it was.
    fn check(&mut self, rooms: &Namespace) {
        let from = rooms.history_from().unwrap();
        for (name, moments) in &self.moments {
            let (mut readable, all) = (0, moments.len());
            for (bookmark, then) in moments.iter().filter(|(moment, _)| moment.lsn() >= from) {
                assert_eq!(at(rooms, name, bookmark), *then, "{name} at {bookmark} of {all}");
                readable += 1;
            }
            self.read += readable;
        }
    }
}

#[test]
fn what_was_committed_before_the_first_epoch_that_is_left_is_known_from_it() {
    let stage = stage(&SimDisk::new(5));
    let mut days = Days::default();
    let names = ["every", "second", "fifth", "seventh"];
    for day in 0..25_u32 {
        for (name, each) in names.iter().zip([1, 2, 5, 7]) {
            if day % each == 0 {
                let mut room = stage.rooms.open(stage.id(name)).unwrap();
                // A page that is replaced is larger than what is logged about it.
                room.put("b", "-".repeat(400)).unwrap().detach();
                put(&mut room, &format!("{name} {day}"));
            }
        }
        stage.store.steps().checkpoint().unwrap();
        days.note(&stage.rooms, &names);
        stage.disk.advance(DAY);
        settle(&stage.store);
        days.check(&stage.rooms);
    }
    assert!(days.read > 200, "{}", days.read);
}

#[test]
fn epochs_behind_a_purge_have_states_of_their_own() {
    for (passes, seed) in [(Duration::ZERO, 6), (DAY, 16)] {
        let stage = stage(&SimDisk::new(seed));
        put(&mut stage.room("lobby"), "before");
        stage.store.steps().checkpoint().unwrap();
        stage.rooms.purge(stage.id("lobby")).unwrap().wait().unwrap();
        let mut days = Days::default();
        days.note(&stage.rooms, &["lobby"]);
        for day in 0..18_u32 {
            if day % 7 == 1 {
                put(&mut stage.room("lobby"), &format!("day {day}"));
            }
            put(&mut stage.room("other"), &format!("day {day}"));
            days.note(&stage.rooms, &["lobby", "other"]);
            stage.store.steps().checkpoint().unwrap();
            days.check(&stage.rooms);
            days.note(&stage.rooms, &["lobby"]);
            stage.disk.advance(passes);
            settle(&stage.store);
            days.check(&stage.rooms);
        }
        let has_expired = stage.store.stats().unwrap().expired_files > 0;
        assert_eq!(has_expired, passes > Duration::ZERO);
        stage.store.steps().erase().unwrap();
        days.check(&stage.rooms);
        assert!(verify(stage.disk.clone()).is_clean());
    }
}

#[test]
fn an_object_that_is_forgotten_after_a_purge_was_nothing_since_the_purge() {
    let stage = stage(&SimDisk::new(7));
    put(&mut stage.room("lobby"), "before");
    stage.rooms.purge(stage.id("lobby")).unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    let mut days = Days::default();
    for day in 0..10 {
        stage.disk.advance(DAY);
        put(&mut stage.room("other"), &format!("{day}"));
        stage.store.steps().checkpoint().unwrap();
        settle(&stage.store);
        days.note(&stage.rooms, &["lobby"]);
    }
    assert_eq!(stage.rooms.snapshot(stage.id("lobby")).unwrap().last_lsn().0, 0, "it is forgotten");
    for day in 10..13 {
        put(&mut stage.room("lobby"), &format!("{day}"));
        days.note(&stage.rooms, &["lobby"]);
        days.check(&stage.rooms);
        stage.store.steps().checkpoint().unwrap();
        days.check(&stage.rooms);
    }
    assert!(verify(stage.disk.clone()).is_clean());
    assert!(days.read > 10, "{}", days.read);
}

#[test]
fn a_namespace_reads_moments_of_the_classes_that_it_had_while_others_expire() {
    let disk = SimDisk::new(8);
    let store = epochs().retention(Retention::days(300)).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let brief = NamespaceOptions::new().retention(Retention::days(1));
    let brief = store.namespace_with("brief", brief).unwrap();
    let mut days = Days::default();
    for day in 0..20_u32 {
        match day {
            3 | 12 => rooms.set_retention(Some(Retention::days(200))).unwrap(),
            6 | 16 => rooms.set_retention(None).unwrap(),
            _ => {}
        }
        put(&mut brief.open_by_name("lobby").unwrap(), &format!("{day}"));
        put(&mut rooms.open_by_name("lobby").unwrap(), &format!("{day}"));
        if day % 4 == 0 {
            put(&mut rooms.open_by_name("other").unwrap(), &format!("{day}"));
        }
        days.note(&rooms, &["lobby", "other"]);
        store.steps().checkpoint().unwrap();
        disk.advance(DAY);
        settle(&store);
        days.check(&rooms);
    }
    assert!(store.stats().unwrap().expired_files > 10);
    assert_eq!(days.read, 20 * 21, "none of its own expired");
}

#[test]
fn what_the_cleaner_gave_up_counts_from_the_beginning_of_its_epoch() {
    let disk = SimDisk::new(9);
    let options = options().page_bytes(512).retire_after(Duration::ZERO);
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = NamespaceOptions::new().retention(Retention::days(200));
    let rooms = store.namespace_with("rooms", rooms).unwrap();
    let halls = store.namespace("halls").unwrap();
    let fill = || {
        for hall in 0..20 {
            let mut hall = halls.open_by_name(&format!("{hall}")).unwrap();
            hall.put("b", "-".repeat(2000)).unwrap().detach();
        }
        store.steps().checkpoint().unwrap();
    };
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    for key in ["b", "c", "d", "e", "z"] {
        lobby.put(key, "-".repeat(300)).unwrap().detach();
    }
    put(&mut lobby, "1");
    fill();
    // The setting ends the epoch; the pages are moved when nothing of the next one is there yet.
    halls.set_retention(Some(Retention::days(20))).unwrap();
    fill();
    assert!(store.steps().clean().unwrap(), "the pages lie among dead ones");
    // A checkpoint that has nothing of this class.
    fill();
    let mut days = Days::default();
    for round in 2..6 {
        lobby.put("z", format!("{round}")).unwrap().wait().unwrap();
        days.note(&rooms, &["lobby"]);
        store.steps().checkpoint().unwrap();
        days.check(&rooms);
    }
    assert!(verify(disk).is_clean());
}

#[test]
fn an_object_that_is_named_after_a_purge_keeps_its_name() {
    for is_reopened in [false, true] {
        for is_erased_first in [false, true] {
            let mut stage = stage(&SimDisk::new(9));
            put(&mut stage.room("lobby"), "before");
            stage.rooms.purge(stage.id("lobby")).unwrap().wait().unwrap();
            let mut lobby = stage.room("lobby");
            put(&mut lobby, "after");
            lobby.delete("a").unwrap().wait().unwrap();
            drop(lobby);
            stage.store.steps().checkpoint().unwrap();
            if is_erased_first {
                stage.store.steps().erase().unwrap();
            }
            if is_reopened {
                stage = self::stage(&stage.disk.power_cut());
            }
            put(&mut stage.room("lobby"), "again");
            if !is_erased_first {
                stage.store.steps().erase().unwrap();
            }
            stage.store.steps().checkpoint().unwrap();
            let told = format!("{is_reopened} {is_erased_first}");
            let names: Vec<_> = stage.rooms.objects().map(|info| info.unwrap().name).collect();
            assert_eq!(names, [Some("lobby".to_owned())], "{told}");
            assert!(verify(stage.disk.clone()).is_clean(), "{told}");
        }
    }
}

#[test]
fn a_bookmark_of_a_term_that_left_nothing_behind_is_of_the_term_before_it() {
    let stage = Stage::new(10);
    put(&mut stage.room("lobby"), "1");
    stage.store.steps().checkpoint().unwrap();
    let mut bookmarks = Vec::new();
    let mut disk = stage.disk.power_cut();
    for life in 0..5 {
        let store = open(&disk);
        let rooms = store.namespace("rooms").unwrap();
        let id = rooms.id_from_name("lobby");
        for bookmark in &bookmarks {
            assert_eq!(at(&rooms, "lobby", bookmark).as_deref(), Some("1"), "life {life}");
        }
        bookmarks.push(rooms.current_bookmark(id).unwrap());
        drop((rooms, store));
        disk = if life % 2 == 0 { disk.kill() } else { disk.power_cut() };
    }
    let stage = Stage::on(disk);
    put(&mut stage.room("lobby"), "2");
    for bookmark in &bookmarks {
        assert_eq!(at(&stage.rooms, "lobby", bookmark).as_deref(), Some("1"));
    }
}

#[test]
fn a_fork_that_fails_is_not_there() {
    let base = SimDisk::new(11);
    let full = {
        let stage = stage(&base);
        let full = put(&mut stage.room("lobby"), "1");
        put(&mut stage.room("lobby"), "2");
        stage.store.steps().checkpoint().unwrap();
        full
    };
    let mut failed = 0;
    for call in 1.. {
        let stage = stage(&base.fork());
        // What is not given the first time is asked for once more.
        stage.disk.fail_call(call, Fault::Io);
        stage.disk.fail_call(call + 1, Fault::Io);
        let (from, to) = (stage.id("lobby"), stage.id("copy"));
        let plain = RestoreOptions::new();
        let forked = stage.rooms.fork(from, &full, &stage.rooms, to, plain);
        if stage.disk.fault_log().is_empty() {
            assert!(forked.is_ok());
            break;
        }
        let is_there = stage.rooms.open(to).is_ok_and(|copy| copy.get("a").unwrap().is_some());
        assert_eq!(is_there, forked.is_ok(), "call {call}: {forked:?}");
        failed += u32::from(forked.is_err());
    }
    assert!(failed > 3, "{failed}");
}

#[test]
fn the_moment_of_a_change_of_settings_is_not_looked_for_in_files_of_the_class_before() {
    let stage = stage(&SimDisk::new(9));
    let keep = |bytes| Some(Retention::Keep { age: 30 * DAY, bytes: Some(bytes) });
    let checkpoint = || stage.store.steps().checkpoint().unwrap();
    // The namespace has a class of its own, then that of the store, then its own again.
    stage.rooms.set_retention(keep(100_000)).unwrap();
    checkpoint();
    put(&mut stage.room("lobby"), "0");
    stage.rooms.purge(stage.id("lobby")).unwrap().wait().unwrap();
    stage.rooms.set_retention(None).unwrap();
    let then = put(&mut stage.room("lobby"), "then");
    checkpoint();
    put(&mut stage.room("lobby"), "now");
    stage.rooms.set_retention(keep(0)).unwrap();
    checkpoint();
    // What the namespace had in its own class before goes.
    while stage.store.steps().expire().unwrap() {}
    assert_eq!(at(&stage.rooms, "lobby", &then).as_deref(), Some("then"));
}

//! What is easily forgotten: what a wipe takes with it, wishes that could never come true, commits
//! that fail half way.

use super::stage::{Stage, code};
use dostore::ids::Timestamp;
use dostore::retention::Retention;
use dostore::store::restore::RestoreOptions;

const FAR: Timestamp = Timestamp(u64::MAX / 4);

#[test]
fn an_alarm_of_then_is_there_when_the_keys_of_now_are_wiped() {
    let stage = Stage::new(1);
    let mut lobby = stage.rooms.open(stage.id("lobby")).unwrap();
    let mut turn = lobby.turn();
    turn.set_alarm(FAR).unwrap().set_named_alarm("tick", FAR).unwrap();
    turn.commit().unwrap().wait().unwrap();
    let then = lobby.current_bookmark().unwrap();
    let alarms = lobby.alarms().unwrap();
    lobby.put("topic", "rust").unwrap().wait().unwrap();
    let options = RestoreOptions::new().alarms(true);
    lobby.restore_with(&then, options).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.get("topic").unwrap(), None);
    assert_eq!(lobby.alarms().unwrap(), alarms);
}

#[test]
fn an_object_of_which_an_alarm_stays_keeps_its_name() {
    let stage = Stage::new(2);
    let before = stage.rooms.current_bookmark(stage.id("lobby")).unwrap();
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    turn.put("topic", "rust").unwrap().set_alarm(FAR).unwrap();
    turn.commit().unwrap().wait().unwrap();
    lobby.restore(&before).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.get("topic").unwrap(), None);
    assert_eq!(lobby.alarm().unwrap(), Some(FAR));
    drop(lobby);
    stage.store.steps().checkpoint().unwrap();
    let names: Vec<_> = stage.rooms.objects().map(|object| object.unwrap().name).collect();
    assert_eq!(names, [Some("lobby".to_owned())]);
}

#[test]
fn a_wish_that_its_own_commit_would_put_out_of_reach_is_refused() {
    let stage = Stage::new(3);
    stage.rooms.set_retention(Some(Retention::Off)).unwrap();
    let mut lobby = stage.room("lobby");
    lobby.put("topic", "rust").unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    let present = lobby.current_bookmark().unwrap();
    assert!(lobby.at(&present).is_ok());
    assert_eq!(code(lobby.restore_on_next_open(&present)), "history.off");
    drop(lobby);
    assert!(stage.rooms.open_by_name("lobby").is_ok());
}

#[test]
fn taking_back_a_wish_that_nobody_has_brings_nothing_into_memory() {
    let stage = Stage::new(4);
    let before = stage.store.stats().unwrap().objects_in_memory;
    assert!(stage.rooms.cancel_restore(stage.id("nobody")).unwrap().is_none());
    assert_eq!(stage.store.stats().unwrap().objects_in_memory, before);
}

#[test]
fn a_restoration_from_outside_that_fails_leaves_the_open_handle_its_right() {
    let stage = Stage::new(5);
    let mut lobby = stage.room("lobby");
    lobby.put("topic", vec![1; 40_000]).unwrap().wait().unwrap();
    let then = lobby.current_bookmark().unwrap();
    lobby.put("topic", vec![2; 40_000]).unwrap().wait().unwrap();
    stage.disk.set_free_bytes(0);
    let failed = stage.rooms.restore(stage.id("lobby"), &then);
    assert_eq!(code(failed), "disk.full");
    assert_eq!(lobby.get("topic").unwrap().unwrap()[0], 2);
}

#[test]
fn a_deletion_of_the_object_takes_what_waits_for_its_next_open() {
    let stage = Stage::new(6);
    let mut lobby = stage.room("lobby");
    let commit = lobby.put("topic", "rust").unwrap();
    let first = commit.bookmark();
    commit.wait().unwrap();
    lobby.put("topic", "go").unwrap().wait().unwrap();
    lobby.restore_on_next_open(&first).unwrap().0.wait().unwrap();
    let id = lobby.id();
    drop(lobby);
    stage.rooms.delete(id).unwrap().wait().unwrap();
    assert_eq!(stage.room("lobby").get("topic").unwrap(), None);
    assert!(stage.rooms.cancel_restore(id).unwrap().is_none());
}

//! The way back: restore, undo, fork, undelete.

use super::stage::{Stage, code};
use dostore::actor::Storage;
use dostore::bookmark::Bookmark;
use dostore::ids::Timestamp;
use dostore::store::alarms::Failure;
use dostore::store::list::ListOptions;
use dostore::store::object::Object;
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

fn fill(object: &mut Object, keys: std::ops::Range<u32>, value: &str) -> Bookmark {
    let mut turn = object.turn();
    for key in keys {
        turn.put(format!("{key:04}"), value).unwrap();
    }
    let commit = turn.commit().unwrap();
    let bookmark = commit.bookmark();
    commit.wait().unwrap();
    bookmark
}

#[test]
fn g21_a_restored_object_is_what_it_was_and_the_undo_bookmark_takes_it_back() {
    let stage = Stage::new(1);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..10, "one");
    let before = now(&lobby);
    fill(&mut lobby, 5..15, "two");
    lobby.delete("0001").unwrap().wait().unwrap();
    let after = now(&lobby);
    let restored = lobby.restore(&first).unwrap();
    // The handle sees it before it is durable.
    assert_eq!(lobby.get("0007").unwrap().as_deref(), Some(&b"one"[..]));
    restored.commit.wait().unwrap();
    assert_eq!(now(&lobby), before);
    assert_eq!(all(&lobby.at(&restored.undo).unwrap()), after);
    let undone = lobby.restore(&restored.undo).unwrap();
    undone.commit.wait().unwrap();
    assert_eq!(now(&lobby), after);
    // The undo is in the history as well.
    let again = lobby.restore(&undone.undo).unwrap();
    again.commit.wait().unwrap();
    assert_eq!(now(&lobby), before);
    drop(lobby);
    let stage = stage.power_cut();
    assert_eq!(now(&stage.room("lobby")), before);
}

#[test]
fn g21_a_restoration_survives_a_crash_whole_or_not_at_all() {
    let stage = Stage::new(2);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..30, "one");
    fill(&mut lobby, 10..40, "two");
    let after = now(&lobby);
    let restored = lobby.restore(&first).unwrap();
    let undo = restored.undo;
    restored.commit.detach();
    drop(lobby);
    // It was not waited for: this machine keeps nothing that was not synced.
    let stage = stage.power_cut();
    let mut lobby = stage.room("lobby");
    assert_eq!(now(&lobby), after);
    assert_eq!(all(&lobby.at(&undo).unwrap()), after);
    lobby.restore(&first).unwrap().commit.wait().unwrap();
    drop(lobby);
    let stage = stage.power_cut();
    let lobby = stage.room("lobby");
    assert_eq!(now(&lobby).len(), 30);
    assert_eq!(now(&lobby), all(&lobby.at(&first).unwrap()));
}

#[test]
fn a_deleted_object_comes_back_with_its_name() {
    let stage = Stage::new(3);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..20, "one");
    drop(lobby);
    let id = stage.id("lobby");
    stage.rooms.delete(id).unwrap().wait().unwrap();
    assert_eq!(stage.rooms.objects().count(), 0);
    assert_eq!(all(&stage.rooms.at(id, &first).unwrap()).len(), 20);
    let restored = stage.rooms.restore(id, &first).unwrap();
    restored.commit.wait().unwrap();
    let info = stage.rooms.objects().next().unwrap().unwrap();
    assert_eq!((info.name.as_deref(), info.keys), (Some("lobby"), 20));
    // And back to nothing.
    stage.rooms.restore(id, &restored.undo).unwrap().commit.wait().unwrap();
    assert_eq!(stage.rooms.objects().count(), 0);
    assert_eq!(now(&stage.room("lobby")), Map::new());
}

#[test]
fn an_open_handle_is_fenced_by_a_restoration_from_outside() {
    let stage = Stage::new(4);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..3, "one");
    fill(&mut lobby, 0..3, "two");
    stage.rooms.restore(stage.id("lobby"), &first).unwrap().commit.wait().unwrap();
    assert_eq!(code(lobby.get("0001")), "handle.fenced");
    assert_eq!(code(lobby.put("0001", "three")), "handle.fenced");
    assert_eq!(code(lobby.restore(&first)), "handle.fenced");
    // Another handle may be opened while the fenced one is held, and is not hurt by it.
    let second = stage.room("lobby");
    assert_eq!(second.get("0001").unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(code(lobby.restore(&first)), "handle.fenced");
    drop(lobby);
    assert!(second.get("0001").is_ok());
    assert_eq!(code(stage.rooms.open_by_name("lobby")), "object.open");
}

#[test]
fn a_fenced_handle_stays_fenced_when_its_object_has_left_memory() {
    let stage = Stage::new(5);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..3, "one");
    stage.rooms.restore(stage.id("lobby"), &first).unwrap().commit.wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    let second = stage.room("lobby");
    let present = second.current_bookmark().unwrap();
    assert_eq!(code(lobby.restore(&present)), "handle.fenced");
    assert!(second.get("0001").is_ok());
}

#[test]
fn an_actor_is_fenced_by_a_restoration_from_outside() {
    let stage = Stage::new(6);
    let storage = Storage::open(stage.room("lobby"));
    storage.put("a", "1").unwrap();
    let first = storage.current_bookmark().wait().unwrap();
    storage.put("a", "2").unwrap();
    storage.sync().wait().unwrap();
    stage.rooms.restore(stage.id("lobby"), &first).unwrap().commit.wait().unwrap();
    assert_eq!(code(storage.get("a")), "handle.fenced");
    assert!(storage.put("a", "3").is_err());
    drop(storage);
    assert_eq!(stage.room("lobby").get("a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn alarms_come_back_only_if_asked() {
    let stage = Stage::new(7);
    let at = |hour: u64| Timestamp(4_000_000_000_000_000 + hour * 3_600_000_000);
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    turn.put("a", "1").unwrap().set_alarm(at(1)).unwrap().set_named_alarm("x", at(2)).unwrap();
    let commit = turn.commit().unwrap();
    let first = commit.bookmark();
    commit.wait().unwrap();
    let mut turn = lobby.turn();
    turn.put("a", "2").unwrap().set_alarm(at(3)).unwrap();
    turn.clear_named_alarm("x").unwrap().set_named_alarm("y", at(4)).unwrap();
    turn.commit_durable().unwrap();
    let later = lobby.alarms().unwrap();

    let restored = lobby.restore(&first).unwrap();
    restored.commit.wait().unwrap();
    assert_eq!(lobby.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(lobby.alarms().unwrap(), later);

    let with_alarms = RestoreOptions::new().alarms(true);
    let restored = lobby.restore_with(&first, with_alarms).unwrap();
    restored.commit.wait().unwrap();
    assert_eq!(lobby.alarms().unwrap(), [(None, at(1)), (Some("x".to_owned()), at(2))]);
    lobby.restore_with(&restored.undo, with_alarms).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.alarms().unwrap(), later);

    // To before the object was: its alarms stay, or go.
    let nothing = stage.rooms.bookmark_at(lobby.id(), std::time::UNIX_EPOCH).unwrap();
    lobby.restore(&nothing).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.alarms().unwrap(), later);
    assert_eq!(lobby.get("a").unwrap(), None);
    lobby.restore_with(&nothing, with_alarms).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.alarms().unwrap(), []);
}

#[test]
fn an_alarm_that_came_back_fires_and_has_not_failed() {
    let stage = Stage::new(8);
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    turn.set_alarm(Timestamp(1)).unwrap();
    turn.commit_durable().unwrap();
    let fired = stage.store.alarms().try_next().unwrap().expect("it is due");
    let mut turn = lobby.turn();
    turn.fail_alarm(&fired, Failure::Counted, "not yet").unwrap();
    let commit = turn.commit().unwrap();
    drop(fired);
    let first = commit.bookmark();
    commit.wait().unwrap();
    let mut turn = lobby.turn();
    turn.clear_alarm().unwrap();
    turn.commit_durable().unwrap();
    assert!(stage.store.alarms().try_next().unwrap().is_none());
    let restored = lobby.restore_with(&first, RestoreOptions::new().alarms(true)).unwrap();
    restored.commit.wait().unwrap();
    let fired = stage.store.alarms().try_next().unwrap().expect("it is due");
    assert_eq!((fired.object_id().unwrap(), fired.attempt()), (lobby.id(), 0));
}

#[test]
fn attachments_and_the_user_version_follow_their_own_rules() {
    let stage = Stage::new(9);
    let storage = Storage::open(stage.room("lobby"));
    storage.set_user_version(1).unwrap();
    storage.put_attachment(b"socket", "old").unwrap();
    let first = storage.current_bookmark().wait().unwrap();
    storage.set_user_version(2).unwrap();
    storage.put_attachment(b"socket", "new").unwrap();
    storage.sync().wait().unwrap();
    drop(storage);
    let mut lobby = stage.room("lobby");
    let restored = lobby.restore(&first).unwrap();
    restored.commit.wait().unwrap();
    let storage = Storage::open(lobby);
    assert_eq!(storage.user_version().unwrap(), 1);
    assert_eq!(storage.attachment(b"socket").unwrap().as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_difference_that_does_not_fit_into_a_commit_is_adopted_and_undone() {
    let stage = Stage::new(10);
    let mut lobby = stage.room("lobby");
    let mut turn = lobby.turn();
    for key in 0..65_535_u32 {
        turn.put(key.to_be_bytes(), "1").unwrap();
    }
    let commit = turn.commit().unwrap();
    let first = commit.bookmark();
    commit.wait().unwrap();
    // With the key that goes and the mark that it is a restoration, one key less fits.
    lobby.delete(0_u32.to_be_bytes()).unwrap().wait().unwrap();
    let fits = lobby.current_bookmark().unwrap();
    let mut turn = lobby.turn();
    turn.delete_all().unwrap();
    turn.put("x", "1").unwrap();
    turn.commit_durable().unwrap();
    let before = now(&lobby);
    let restored = lobby.restore(&first).unwrap();
    assert_eq!(now(&lobby).len(), 65_535);
    let entry = lobby.history(restored.commit.bookmark()..).unwrap().next().unwrap().unwrap();
    // The pages, and the name that it keeps.
    assert_eq!((entry.operations, entry.puts), (2, 65_535));
    assert_eq!(entry.restored.unwrap().bookmark, first);
    drop(lobby);
    let stage = stage.power_cut();
    let mut lobby = stage.room("lobby");
    assert_eq!(now(&lobby).len(), 65_535);
    lobby.restore(&restored.undo).unwrap().commit.wait().unwrap();
    assert_eq!(now(&lobby), before);
    // One that fits does not go that way.
    let restored = lobby.restore(&fits).unwrap();
    assert_eq!(now(&lobby).len(), 65_534);
    let entry = lobby.history(restored.commit.bookmark()..).unwrap().next().unwrap().unwrap();
    assert_eq!(entry.operations, 65_535);
}

#[test]
fn neighbours_that_go_together_take_one_operation() {
    let stage = Stage::new(11);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 100..103, "one");
    let before = now(&lobby);
    for chunk in 0..3 {
        let mut turn = lobby.turn();
        for key in 0..60_000_u32 {
            turn.put(format!("{chunk}{key:05}"), "").unwrap();
        }
        turn.commit_durable().unwrap();
    }
    let restored = lobby.restore(&first).unwrap();
    let bookmark = restored.commit.bookmark();
    restored.commit.wait().unwrap();
    assert_eq!(now(&lobby), before);
    let entry = lobby.history(bookmark..).unwrap().next().unwrap().unwrap();
    assert!(entry.operations <= 8, "{entry:?}");
}

#[test]
fn a_fork_is_the_past_of_another_object_under_its_own_name() {
    let stage = Stage::new(12);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..10, "one");
    let then = now(&lobby);
    fill(&mut lobby, 0..20, "two");
    let elsewhere = stage.store.namespace("elsewhere").unwrap();
    let plain = RestoreOptions::new();
    let id = elsewhere.random_id().unwrap();
    let fork = |to_id| stage.rooms.fork(lobby.id(), &first, &elsewhere, to_id, plain);
    fork(id).unwrap().wait().unwrap();
    assert_eq!(all(&elsewhere.snapshot(id).unwrap()), then);
    let info = elsewhere.objects().next().unwrap().unwrap();
    assert_eq!((info.id, info.name), (id, None));
    assert_eq!(code(fork(id)), "fork.occupied");
    let named = stage.rooms.fork_by_name(lobby.id(), &first, &stage.rooms, "copy", plain);
    named.unwrap().wait().unwrap();
    let copy = stage.room("copy");
    assert_eq!(now(&copy), then);
    let entry = copy.history(..).unwrap().next().unwrap().unwrap();
    let restored = entry.restored.unwrap();
    assert!(restored.is_fork);
    assert_eq!(restored.bookmark.lsn(), first.lsn());
    // The source does not follow its fork, nor the fork its source.
    drop(copy);
    stage.rooms.delete(stage.id("copy")).unwrap().wait().unwrap();
    assert_eq!(now(&lobby).len(), 20);
    let names: Vec<_> =
        stage.rooms.objects().map(|info| info.unwrap().name.unwrap_or_default()).collect();
    assert_eq!(names, ["lobby"]);
    // An object that is open elsewhere is not made a fork under its holder.
    let held = elsewhere.open_by_name("held").unwrap();
    assert_eq!(code(fork(held.id())), "object.open");
    let another = Stage::new(120);
    let refused = stage.rooms.fork(lobby.id(), &first, &another.rooms, another.id("x"), plain);
    assert_eq!(code(refused), "fork.store");
}

#[test]
fn an_object_of_alarms_or_keys_is_occupied_and_a_deleted_one_is_not() {
    let stage = Stage::new(13);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..3, "one");
    let fork = |name| {
        stage.rooms.fork_by_name(lobby.id(), &first, &stage.rooms, name, RestoreOptions::new())
    };
    let mut other = stage.room("other");
    let mut turn = other.turn();
    turn.set_alarm(Timestamp(5)).unwrap();
    turn.commit_durable().unwrap();
    drop(other);
    assert_eq!(code(fork("other")), "fork.occupied");
    stage.rooms.delete(stage.id("other")).unwrap().wait().unwrap();
    fork("other").unwrap().wait().unwrap();
    assert_eq!(now(&stage.room("other")).len(), 3);
}

#[test]
fn what_waits_for_the_next_open_is_applied_then_and_not_before() {
    let stage = Stage::new(14);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..5, "one");
    let then = now(&lobby);
    fill(&mut lobby, 0..5, "two");
    let (commit, undo) = lobby.restore_on_next_open(&first).unwrap();
    commit.wait().unwrap();
    assert!(undo.is_session_end());
    // The session goes on, and its end is what the undo bookmark names.
    fill(&mut lobby, 5..7, "three");
    let end = now(&lobby);
    assert_eq!(all(&lobby.at(&undo).unwrap()), end);
    drop(lobby);
    let stage = stage.power_cut();
    let mut lobby = stage.room("lobby");
    assert_eq!(now(&lobby), then);
    assert_eq!(all(&lobby.at(&undo).unwrap()), end);
    let entry = lobby.history(..).unwrap().next_back().unwrap().unwrap();
    assert!(entry.restored.unwrap().is_at_open);
    // It waits for nothing any more.
    fill(&mut lobby, 0..1, "four");
    drop(lobby);
    let mut lobby = stage.room("lobby");
    assert_eq!(lobby.get("0000").unwrap().as_deref(), Some(&b"four"[..]));
    lobby.restore(&undo).unwrap().commit.wait().unwrap();
    assert_eq!(now(&lobby), end);
}

#[test]
fn what_waits_survives_a_checkpoint_and_a_deletion_of_everything() {
    let stage = Stage::new(15);
    let storage = Storage::open(stage.room("lobby"));
    storage.put("a", "1").unwrap();
    let first = storage.current_bookmark().wait().unwrap();
    storage
        .enter(|| {
            storage.put("a", "2").unwrap();
            storage.restore_on_next_open(&first).unwrap();
            storage.delete_all().unwrap();
        })
        .unwrap();
    storage.delete_all().unwrap();
    storage.sync().wait().unwrap();
    assert_eq!(storage.get("a").unwrap(), None);
    storage.abort("the next open is wanted now");
    let lobby = stage.room("lobby");
    assert_eq!(lobby.get("a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn the_last_call_counts_and_may_be_taken_back() {
    let stage = Stage::new(16);
    let mut lobby = stage.room("lobby");
    let first = fill(&mut lobby, 0..1, "one");
    let second = fill(&mut lobby, 0..1, "two");
    fill(&mut lobby, 0..1, "three");
    let value = |object: &Object| object.get("0000").unwrap().unwrap().to_vec();
    lobby.restore_on_next_open(&first).unwrap().0.wait().unwrap();
    lobby.restore_on_next_open(&second).unwrap().0.wait().unwrap();
    drop(lobby);
    let mut lobby = stage.room("lobby");
    assert_eq!(value(&lobby), b"two");
    // The end of the session is where it goes anyway.
    let (commit, undo) = lobby.restore_on_next_open(&first).unwrap();
    commit.wait().unwrap();
    lobby.restore_on_next_open(&undo).unwrap().0.wait().unwrap();
    drop(lobby);
    let mut lobby = stage.room("lobby");
    assert_eq!(value(&lobby), b"two");
    lobby.restore_on_next_open(&first).unwrap().0.wait().unwrap();
    drop(lobby);
    stage.rooms.cancel_restore(stage.id("lobby")).unwrap().unwrap().wait().unwrap();
    assert!(stage.rooms.cancel_restore(stage.id("lobby")).unwrap().is_none());
    assert_eq!(value(&stage.room("lobby")), b"two");
}

#[test]
fn a_mark_is_refused_at_once_for_a_moment_that_is_not_there() {
    let stage = Stage::new(17);
    let mut lobby = stage.room("lobby");
    fill(&mut lobby, 0..1, "one");
    let other = stage.room("other").current_bookmark().unwrap();
    assert_eq!(code(lobby.restore_on_next_open(&other)), "bookmark.foreign");
    let storage = Storage::open(lobby);
    assert_eq!(code(storage.restore_on_next_open(&other)), "bookmark.foreign");
    drop(storage);
    assert!(stage.rooms.cancel_restore(stage.id("lobby")).unwrap().is_none());
}

#[test]
fn what_waits_for_the_next_open_outlasts_restorations_and_crashes() {
    for (by_handle, undone_by_handle) in
        [(true, true), (true, false), (false, true), (false, false)]
    {
        let stage = Stage::new(40);
        let id = stage.room("lobby").id();
        let mut lobby = stage.rooms.open(id).unwrap();
        let full = lobby.put("a", "1").unwrap().bookmark();
        let mut turn = lobby.turn();
        turn.delete_all().unwrap();
        turn.commit().unwrap().wait().unwrap();
        lobby.restore_on_next_open(&full).unwrap().0.wait().unwrap();
        let restore = |lobby: &mut Object, by_handle: bool, to: &Bookmark| {
            let restored =
                if by_handle { lobby.restore(to) } else { stage.rooms.restore(id, to) }.unwrap();
            restored.commit.wait().unwrap();
            restored.undo
        };
        let undo = restore(&mut lobby, by_handle, &full);
        if !by_handle && undone_by_handle {
            continue;
        }
        restore(&mut lobby, undone_by_handle, &undo);
        stage.store.steps().checkpoint().unwrap();
        stage.store.steps().merge().unwrap();
        drop(lobby);
        let stage = stage.power_cut();
        // Not only does something wait: it is there to be restored.
        let lobby = stage.rooms.open(id).unwrap();
        let found = lobby.get("a").unwrap();
        assert_eq!(found.as_deref(), Some(&b"1"[..]), "{by_handle} {undone_by_handle}");
    }
}

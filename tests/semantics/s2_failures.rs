//! Sections 2.6, 2.7 and 2.10: commits that fail, memory, and the end of a store.

use crate::stage::{Stage, fill, keys, now, options, text};
use dostore::actor::Storage;
use dostore::disk::sim::Fault;
use dostore::error::{Error, ErrorKind};
use dostore::names::FileName;

/// Lets the next sync of the log fail.
fn fail_next_sync(stage: &Stage) {
    stage.disk.fail_call(2, Fault::Io);
    stage.store.steps().write_group().unwrap_err();
}

fn is_reset(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Broken | ErrorKind::Poisoned)
}

#[test]
fn s2_6_a_failed_commit_breaks_the_gate() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let gate = room.gate();
    assert!(!gate.is_open());
    fail_next_sync(&stage);
    let error = now(gate).unwrap_err();
    assert!(is_reset(&error), "{error:?}");
}

#[test]
fn s2_6_every_call_after_a_failed_commit_fails() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    fail_next_sync(&stage);
    let errors = [
        now(room.gate()).unwrap_err(),
        room.get("a").unwrap_err(),
        room.put("b", "1").unwrap_err(),
        room.delete("a").unwrap_err(),
        room.list(dostore::store::list::ListOptions::new()).unwrap_err(),
        room.alarm().unwrap_err(),
        room.enter(|| ()).unwrap_err(),
        now(room.run(async {})).unwrap_err(),
    ];
    for (number, error) in errors.iter().enumerate() {
        assert!(is_reset(error), "call {number}: {error:?}");
    }
}

#[test]
fn s2_6_a_reply_behind_the_gate_is_replaced_by_the_error() {
    let (stage, room) = Stage::with_room();
    let value = now(room.run(async { fill_and_count(&room) })).unwrap();
    let reply = room.gated(value);
    fail_next_sync(&stage);
    let error = now(reply).unwrap_err();
    assert!(is_reset(&error), "the 1 that the event returned never leaves: {error:?}");
}

fn fill_and_count(room: &Storage) -> u64 {
    fill(room, "a");
    room.count(dostore::store::list::ListOptions::new()).unwrap()
}

#[test]
fn s2_6_what_was_durable_before_a_failed_commit_is_there_after_it() {
    let (stage, room) = Stage::with_room();
    fill(&room, "kept");
    stage.write();
    fill(&room, "a b");
    fail_next_sync(&stage);
    drop(room);
    let disk = stage.disk.kill();
    drop(stage);
    let stage = Stage::on(disk, options());
    let found = keys(&stage.room());
    assert!(["kept", "a kept", "a b kept"].contains(&&*found), "{found}");
}

#[test]
fn s2_6_a_full_disk_fails_the_turn_whole_and_leaves_what_was_before() {
    let (stage, room) = Stage::with_room();
    fill(&room, "before");
    stage.write();
    stage.disk.set_free_bytes(0);
    let mut error = None;
    for round in 0..200 {
        let turn = room.enter(|| {
            room.put("round", round.to_string()).unwrap();
            room.put(format!("{round:03}"), [0; 4000]).unwrap();
        });
        if let Err(failed) = turn {
            error = Some((round, failed));
            break;
        }
    }
    let (round, error) = error.expect("the log runs out of room");
    assert!(is_reset(&error), "{error:?}");
    assert!(room.broken().is_some(), "its caller believes in writes that are not there");
    drop(room);
    stage.disk.set_free_bytes(1 << 30);
    let room = stage.room();
    assert_eq!(text(&room, "before"), Some("BEFORE".into()));
    assert_eq!(text(&room, &format!("{round:03}")), None);
    let last = text(&room, "round").map(|last| last.parse::<i32>().unwrap());
    assert_eq!(last, (round > 0).then(|| round - 1));
}

#[test]
fn s2_6_a_full_disk_leaves_reads_alone() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b");
    stage.checkpoint();
    stage.disk.set_free_bytes(0);
    assert_eq!(keys(&room), "a b");
    assert_eq!(room.enter(|| text(&room, "a")).unwrap(), Some("A".into()));
}

#[test]
fn s2_6_the_next_activation_starts_from_what_is_durable() {
    let (stage, room) = Stage::with_room();
    room.put("n", "1").unwrap();
    stage.write();
    room.enter(|| {
        room.put("n", "2").unwrap();
        room.abort("planned");
    })
    .unwrap_err();
    drop(room);
    let room = stage.room();
    assert_eq!(text(&room, "n"), Some("1".into()));
    room.put("n", "3").unwrap();
    stage.finish(room.gate()).unwrap();
}

#[test]
fn s2_6_a_read_that_fails_fails_for_its_caller_only() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    room.put("marked", "a text to find in a page").unwrap();
    stage.checkpoint();
    drop(room);
    let wanted = b"a text to find in a page";
    for name in stage.disk.names() {
        if let FileName::Segment(_) = name {
            let bytes = stage.disk.file_bytes(name).unwrap();
            let found = bytes.windows(wanted.len()).position(|window| window == wanted);
            if let Some(at) = found {
                stage.disk.flip_bit(name, at as u64 * 8).unwrap();
            }
        }
    }
    let (stage, room) = stage.power_cut_with_room();
    assert_eq!(room.get("marked").unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(room.broken().is_none());
    room.put("new", "1").unwrap();
    stage.finish(room.gate()).unwrap();
    assert_eq!(text(&room, "new"), Some("1".into()));
    assert_eq!(room.get("marked").unwrap_err().kind(), ErrorKind::Corrupt, "never absent");
}

#[test]
fn s2_7_a_cache_of_no_bytes_changes_no_answer() {
    let stage = Stage::with(options().cache_bytes(0));
    let room = stage.room();
    for number in 0..=255u8 {
        room.put(format!("{number:03}"), [number; 50]).unwrap();
    }
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    for number in (0..=255u8).rev() {
        assert_eq!(&*room.get(format!("{number:03}")).unwrap().unwrap(), &[number; 50]);
    }
}

#[test]
fn s2_7_a_turn_takes_more_than_the_dirty_budget() {
    let stage = Stage::with(options().dirty_bytes(1));
    let room = stage.room();
    room.enter(|| {
        for number in 0..100 {
            room.put(format!("{number:03}"), [1; 1000]).unwrap();
        }
    })
    .unwrap();
    stage.finish(room.gate()).unwrap();
    assert_eq!(room.count(dostore::store::list::ListOptions::new()).unwrap(), 100);
}

#[test]
fn s2_10_calls_after_the_store_was_closed_fail() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.store.clone().close().unwrap();
    room.put("b", "1").unwrap_err();
    room.get("a").unwrap_err();
    room.enter(|| fill(&room, "c")).unwrap_err();
}

#[test]
fn s2_10_a_turn_sealed_before_the_store_was_closed_is_kept() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let gate = room.gate();
    assert!(!gate.is_open());
    stage.store.clone().close().unwrap();
    assert!(gate.is_open());
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "a");
}

#[test]
fn s2_10_a_closed_storage_lets_the_object_go_and_keeps_its_turns() {
    let (stage, room) = Stage::with_room();
    let clone = room.clone();
    fill(&room, "a");
    let gate = room.gate();
    assert!(!gate.is_open());
    room.close();
    assert_eq!(clone.get("a").unwrap_err().kind(), ErrorKind::Broken);
    let again = stage.room();
    assert_eq!(keys(&again), "a");
    stage.write();
    assert!(gate.is_open());
}

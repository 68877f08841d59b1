//! Section 1.9: waiting for what was written before.

use crate::stage::{Stage, fill, keys, now, poll_pending, poll_ready};
use dostore::actor::Storage;
use dostore::disk::sim::Fault;
use dostore::error::ErrorKind;

#[test]
fn s1_9_sync_waits_for_the_writes_before_it() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b");
    let sync = room.sync();
    assert!(!sync.is_open());
    stage.write();
    assert!(sync.is_open());
}

#[test]
fn s1_9_sync_waits_for_unconfirmed_writes_too() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.put_unconfirmed("b", "1").unwrap();
    let sync = room.sync();
    assert!(!sync.is_open());
    assert!(room.gate().is_open(), "the gate does not");
    stage.write();
    assert!(sync.is_open());
}

#[test]
fn s1_9_sync_does_not_wait_for_later_writes() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let sync = room.sync();
    assert!(!sync.is_open());
    stage.write();
    fill(&room, "b");
    assert!(sync.is_open());
}

#[test]
fn s1_9_sync_with_nothing_pending_is_ready_at_once() {
    let (stage, room) = Stage::with_room();
    assert!(room.sync().is_open());
    fill(&room, "a");
    stage.write();
    assert!(room.sync().is_open());
}

#[test]
fn s1_9_sync_in_an_event_covers_the_turn_that_it_ends() {
    let (stage, room) = Stage::with_room();
    let mut event = Box::pin(room.run(async {
        room.put("a", "1").unwrap();
        room.sync().await.unwrap();
        stage.store.durable()
    }));
    poll_pending(event.as_mut());
    let logged = stage.lsn();
    assert_eq!(poll_ready(event.as_mut()).unwrap().0, logged, "what was put is durable");
    drop(event);
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(crate::stage::text(&room, "a"), Some("1".into()));
}

#[test]
fn s1_9_sync_fails_when_the_commit_before_it_failed() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let sync = room.sync();
    assert!(!sync.is_open());
    stage.disk.fail_call(2, Fault::Io);
    stage.store.steps().write_group().unwrap_err();
    let error = now(sync).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Broken | ErrorKind::Poisoned), "{error:?}");
}

#[test]
fn s1_9_sync_may_block_instead() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    room.sync().wait().unwrap();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(crate::stage::keys(&room), "a");
}

#[test]
fn s1_9_to_wait_inside_a_transaction_for_its_own_end_is_ended_by_the_limit() {
    let (stage, room) = Stage::with_room();
    let mut waits = Box::pin(room.transaction_async(async |storage: Storage| {
        storage.put("a", "1")?;
        storage.sync().await
    }));
    poll_pending(waits.as_mut());
    stage.write();
    poll_pending(waits.as_mut());
    stage.pass_seconds(31);
    assert_eq!(poll_ready(waits.as_mut()).unwrap_err().code(), "section.timeout");
    assert_eq!(keys(&stage.room()), "");
}

//! Section 3.3: what leaves waits until it cannot be taken back.

use crate::stage::{Crew, Diary, Stage, fill, keys, now, pause, poll_pending, poll_ready};
use dostore::actor::testing::ManualDurability;
use dostore::actor::{Storage, StorageOptions};
use dostore::error::ErrorKind;
use dostore::store::commit::Position;
use std::pin::pin;
use std::sync::Arc;

/// An object whose turns become durable when the test says so.
fn by_hand() -> (Stage, Storage, ManualDurability) {
    let stage = Stage::new();
    let manual = ManualDurability::new();
    let options =
        StorageOptions { durability: Some(Arc::new(manual.clone())), ..StorageOptions::default() };
    let object = stage.rooms.open_by_name("room").unwrap();
    (stage, Storage::with_options(object, options), manual)
}

/// Seals a turn and says where it stands.
fn sealed(room: &Storage, manual: &ManualDurability, key: &str) -> Position {
    room.put(key, "1").unwrap();
    *manual.pending().last().unwrap()
}

#[test]
fn s3_3_a_gate_waits_for_every_confirmed_turn_before_it() {
    let (_stage, room, manual) = by_hand();
    let first = sealed(&room, &manual, "a");
    let second = sealed(&room, &manual, "b");
    let mut gate = pin!(room.gate());
    poll_pending(gate.as_mut());
    manual.confirm(first);
    poll_pending(gate.as_mut());
    manual.confirm(second);
    poll_ready(gate).unwrap();
}

#[test]
fn s3_3_a_later_turn_never_delays_an_earlier_gate() {
    let (_stage, room, manual) = by_hand();
    let first = sealed(&room, &manual, "a");
    let mut early = pin!(room.gate());
    poll_pending(early.as_mut());
    let second = sealed(&room, &manual, "b");
    let mut late = pin!(room.gate());
    manual.confirm(first);
    poll_ready(early).unwrap();
    poll_pending(late.as_mut());
    manual.confirm(second);
    poll_ready(late).unwrap();
}

#[test]
fn s3_3_turns_may_be_confirmed_in_any_order_and_a_gate_needs_all_before_it() {
    let (_stage, room, manual) = by_hand();
    let positions: Vec<_> = ["a", "b", "c"].map(|key| sealed(&room, &manual, key)).into();
    let mut gate = pin!(room.gate());
    for place in [2, 0] {
        manual.confirm(positions[place]);
        poll_pending(gate.as_mut());
    }
    manual.confirm(positions[1]);
    poll_ready(gate).unwrap();
}

#[test]
fn s3_3_a_failed_turn_breaks_every_gate_taken_behind_it() {
    let (_stage, room, manual) = by_hand();
    let first = sealed(&room, &manual, "a");
    let second = sealed(&room, &manual, "b");
    let mut gate = pin!(room.gate());
    poll_pending(gate.as_mut());
    manual.confirm(first);
    manual.fail(second);
    let error = poll_ready(gate).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Broken, "gate.broken"));
    let later = poll_ready(pin!(room.gate())).unwrap_err();
    assert_eq!(later.code(), "gate.broken");
}

#[test]
fn s3_3_a_failed_turn_breaks_no_gate_taken_before_it() {
    let (_stage, room, manual) = by_hand();
    let first = sealed(&room, &manual, "a");
    let mut early = pin!(room.gate());
    poll_pending(early.as_mut());
    let second = sealed(&room, &manual, "b");
    manual.fail(second);
    manual.confirm(first);
    poll_ready(early).unwrap();
    assert!(room.broken().is_some());
}

#[test]
fn s3_3_a_failure_breaks_the_object_at_once_even_while_earlier_turns_wait() {
    let (_stage, room, manual) = by_hand();
    let _first = sealed(&room, &manual, "a");
    let second = sealed(&room, &manual, "b");
    let mut gate = pin!(room.gate());
    poll_pending(gate.as_mut());
    manual.fail(second);
    assert!(poll_ready(gate).is_err(), "it need not wait for the first to know");
    assert_eq!(room.broken().unwrap().kind(), ErrorKind::Broken);
    assert_eq!(room.put("c", "1").unwrap_err().kind(), ErrorKind::Broken);
}

#[test]
fn s3_3_a_failed_unconfirmed_turn_breaks_later_gates() {
    let (_stage, room, manual) = by_hand();
    room.put_unconfirmed("a", "1").unwrap();
    poll_ready(pin!(room.gate())).unwrap();
    manual.fail(*manual.pending().last().unwrap());
    let error = poll_ready(pin!(room.gate())).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Broken, "gate.broken"));
}

#[test]
fn s3_3_a_broken_gate_says_that_earlier_replies_stand_and_why_it_broke() {
    let (_stage, room, manual) = by_hand();
    manual.fail(sealed(&room, &manual, "a"));
    let error = poll_ready(pin!(room.gate())).unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "the cause comes with it: {error:?}");
    assert!(!error.is_retryable());
}

#[test]
fn s3_3_a_gated_value_shows_when_its_gate_opens() {
    let (_stage, room, manual) = by_hand();
    let position = sealed(&room, &manual, "a");
    let mut reply = pin!(room.gated("reply"));
    poll_pending(reply.as_mut());
    manual.confirm(position);
    assert_eq!(poll_ready(reply).unwrap(), "reply");
}

#[test]
fn s3_3_each_message_may_have_a_gate_of_its_own() {
    let (stage, room, manual) = by_hand();
    let (mut crew, diary) = (Crew::new(), Diary::new());
    let mut positions = Vec::new();
    for key in ["a", "b", "c"] {
        positions.push(sealed(&room, &manual, key));
        let (reply, diary) = (room.gated(key), diary.clone());
        crew.spawn(async move { diary.note(reply.await.unwrap()) });
    }
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "");
    manual.confirm(positions[0]);
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "a");
    manual.confirm_all();
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "a b c");
}

#[test]
fn s3_3_clones_of_a_gate_open_together() {
    let (stage, room, manual) = by_hand();
    let position = sealed(&room, &manual, "a");
    let (mut crew, diary) = (Crew::new(), Diary::new());
    let gate = room.gate();
    for number in 0..5 {
        let (gate, diary) = (gate.clone(), diary.clone());
        crew.spawn(async move {
            gate.await.unwrap();
            diary.note(number.to_string());
        });
    }
    stage.settle(&mut crew);
    manual.confirm(position);
    stage.settle(&mut crew);
    assert_eq!((diary.said().len(), crew.left()), (5, 0));
    poll_ready(pin!(gate)).unwrap();
}

#[test]
fn s3_3_a_gate_that_is_dropped_holds_up_nothing() {
    let (_stage, room, manual) = by_hand();
    let first = sealed(&room, &manual, "a");
    let mut dropped = Box::pin(room.gate());
    let mut kept = pin!(room.gate());
    poll_pending(dropped.as_mut());
    poll_pending(kept.as_mut());
    drop(dropped);
    manual.confirm(first);
    poll_ready(kept).unwrap();
}

#[test]
fn s3_3_a_gate_waits_for_no_other_object() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    fill(&room, "a");
    stage.write();
    fill(&other, "b");
    assert!(room.gate().is_open() && !other.gate().is_open());
}

#[test]
fn s3_3_storage_calls_do_not_wait_at_the_gate() {
    let (_stage, room, manual) = by_hand();
    sealed(&room, &manual, "a");
    fill(&room, "b c");
    assert_eq!(keys(&room), "a b c");
    assert_eq!(now(room.run(async { keys(&room) })).unwrap(), "a b c");
    assert_eq!(manual.pending().len(), 3);
}

#[test]
fn s3_3_a_gate_taken_inside_a_turn_waits_for_that_turn() {
    let (_stage, room, manual) = by_hand();
    let mut event = pin!(room.run(async {
        fill(&room, "a");
        let gate = room.gate();
        pause().await;
        [gate]
    }));
    poll_pending(event.as_mut());
    let [gate] = poll_ready(event).unwrap();
    let mut gate = pin!(gate);
    poll_pending(gate.as_mut());
    manual.confirm_all();
    poll_ready(gate).unwrap();
}

#[test]
fn s3_3_a_gate_with_nothing_before_it_is_open() {
    let (_stage, room, _manual) = by_hand();
    poll_ready(pin!(room.gate())).unwrap();
    assert_eq!(poll_ready(pin!(room.gated(1))).unwrap(), 1);
}

#[test]
fn s3_3_a_gate_outlives_its_storage() {
    let (_stage, room, manual) = by_hand();
    let position = sealed(&room, &manual, "a");
    let mut gate = pin!(room.gate());
    drop(room);
    poll_pending(gate.as_mut());
    manual.confirm(position);
    poll_ready(gate).unwrap();
}

#[test]
fn s3_3_after_activation_a_gate_waits_for_the_last_commit_of_before() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    drop(room);
    let room = stage.room();
    let seen = keys(&room);
    assert!(!room.gate().is_open(), "the read shows what a crash could take back");
    assert_eq!(stage.finish(room.gated(seen)).unwrap(), "a");
    assert!(room.gate().is_open());
    stage.write();
    drop(room);
    assert!(stage.room().gate().is_open(), "and now it is open from the start");
}

#[test]
fn s3_3_a_gate_may_be_waited_for_by_a_thread() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    room.gate().wait().unwrap();
    assert!(room.gate().is_open());
    assert_eq!(room.gated(5).wait().unwrap(), 5);
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "a");
}

#[test]
fn s3_3_sync_waits_for_what_the_gate_does_not() {
    let (_stage, room, manual) = by_hand();
    room.put_unconfirmed("a", "1").unwrap();
    poll_ready(pin!(room.gate())).unwrap();
    let mut sync = pin!(room.sync());
    poll_pending(sync.as_mut());
    manual.confirm_all();
    poll_ready(sync).unwrap();
}

#[test]
fn s3_3_what_left_a_gate_is_there_after_any_crash() {
    let (stage, room) = Stage::with_room();
    for number in 0..30u32 {
        room.put("n", number.to_string()).unwrap();
        if number % 3 == 0 {
            stage.finish(room.gate()).unwrap();
        }
    }
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    let found: u32 = crate::stage::text(&room, "n").unwrap().parse().unwrap();
    assert!(found >= 27, "{found} was shown as durable up to 27");
}

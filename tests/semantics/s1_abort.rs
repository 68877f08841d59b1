//! Section 1.15: giving up an object.

use crate::stage::{Crew, Stage, fill, keys, now, pause};
use dostore::error::ErrorKind;

#[test]
fn s1_15_abort_drops_the_open_turn() {
    let (stage, room) = Stage::with_room();
    fill(&room, "before");
    let before = stage.lsn();
    let ended = room.enter(|| {
        fill(&room, "a b");
        room.abort("no more");
    });
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Broken);
    assert_eq!(stage.lsn(), before, "nothing of the turn was logged");
    drop(room);
    let room = stage.room();
    assert_eq!(keys(&room), "before");
}

#[test]
fn s1_15_abort_keeps_sealed_turns_that_are_not_durable_yet() {
    let (stage, room) = Stage::with_room();
    let ended = stage.finish(room.run(async {
        fill(&room, "sealed");
        pause().await;
        fill(&room, "open");
        room.abort("no more");
    }));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Broken);
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "sealed");
}

#[test]
fn s1_15_every_call_after_an_abort_fails_and_gives_the_reason() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    room.abort("the door fell shut");
    let errors = [
        room.get("a").unwrap_err(),
        room.put("a", "1").unwrap_err(),
        room.delete("a").unwrap_err(),
        room.list(dostore::store::list::ListOptions::new()).unwrap_err(),
        room.set_alarm(stage.after(1)).unwrap_err(),
        room.delete_all().unwrap_err(),
        room.enter(|| ()).unwrap_err(),
        now(room.run(async {})).unwrap_err(),
        room.broken().unwrap(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Broken);
        assert!(error.to_string().contains("the door fell shut"), "{error}");
    }
}

#[test]
fn s1_15_writes_behind_an_abort_in_the_same_turn_are_refused() {
    let (stage, room) = Stage::with_room();
    room.enter(|| {
        room.abort("no more");
        assert_eq!(room.put("a", "1").unwrap_err().kind(), ErrorKind::Broken);
        assert_eq!(room.get("a").unwrap_err().kind(), ErrorKind::Broken);
    })
    .unwrap_err();
    drop(room);
    assert_eq!(keys(&stage.room()), "");
}

#[test]
fn s1_15_abort_breaks_every_gate_taken_later() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.abort("no more");
    let error = now(room.gate()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broken);
}

#[test]
fn s1_15_a_gate_taken_before_an_abort_never_opens_for_what_was_dropped() {
    let (stage, room) = Stage::with_room();
    let mut gate = None;
    room.enter(|| {
        fill(&room, "a");
        gate = Some(room.gate());
        room.abort("no more");
    })
    .unwrap_err();
    stage.write();
    let error = now(gate.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broken);
}

#[test]
fn s1_15_abort_ends_the_other_events_of_the_object() {
    let (stage, room) = Stage::with_room();
    let mut crew = Crew::new();
    let ended = std::rc::Rc::new(std::cell::Cell::new(None));
    let (waiting, seen) = (room.clone(), std::rc::Rc::clone(&ended));
    crew.spawn(async move {
        let inner = waiting.clone();
        let result = waiting.run(async move {
            fill(&inner, "a");
            pause().await;
            pause().await;
            fill(&inner, "b");
        });
        seen.set(Some(result.await.map_err(|error| error.kind())));
    });
    let aborting = room.clone();
    crew.spawn(async move { aborting.abort("no more") });
    stage.settle(&mut crew);
    assert_eq!(ended.get(), Some(Err(ErrorKind::Broken)));
    drop(room);
    assert_eq!(keys(&stage.room()), "a");
}

#[test]
fn s1_15_an_aborted_object_can_be_opened_again() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    room.abort("no more");
    drop(room);
    let room = stage.room();
    assert!(room.broken().is_none());
    fill(&room, "b");
    assert_eq!(keys(&room), "a b");
    stage.write();
    assert!(room.gate().is_open());
}

#[test]
fn s1_15_abort_touches_no_other_object() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    room.enter(|| {
        other.put("a", "1").unwrap();
        room.abort("no more");
    })
    .unwrap_err();
    assert!(other.broken().is_none());
    assert_eq!(keys(&other), "a");
}

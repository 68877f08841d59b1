//! Section 2.9: transactions beside loose writes.

use crate::stage::{Stage, fill, keys, listed, pause, poll_pending, text};
use dostore::actor::Storage;
use dostore::error::{Error, ErrorKind};
use dostore::store::list::ListOptions;
use std::pin::pin;

fn fail(room: &Storage) -> Result<(), Error> {
    room.put([0; 5000], "too long a key")
}

#[test]
fn s2_9_a_transaction_takes_no_loose_write_with_it() {
    let (_stage, room) = Stage::with_room();
    room.enter(|| {
        room.put("p", "1").unwrap();
        room.transaction(|room| {
            room.put("p", "2")?;
            fail(room)
        })
        .unwrap_err();
    })
    .unwrap();
    assert_eq!(text(&room, "p"), Some("1".into()));
}

#[test]
fn s2_9_loose_writes_before_a_transaction_are_a_commit_of_their_own() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    room.enter(|| {
        fill(&room, "a b");
        room.transaction(|room| room.put("c", "1")).unwrap();
        fill(&room, "d e");
    })
    .unwrap();
    assert_eq!(stage.lsn() - before, 3, "before it, itself, behind it");
}

#[test]
fn s2_9_a_transaction_that_ended_is_not_taken_back_by_what_follows() {
    let (stage, room) = Stage::with_room();
    room.enter(|| {
        fill(&room, "a");
        room.transaction(|room| room.put("b", "1")).unwrap();
        fill(&room, "c");
        room.abort("planned");
    })
    .unwrap_err();
    drop(room);
    assert_eq!(keys(&stage.room()), "a b");
}

#[test]
fn s2_9_an_async_transaction_that_is_dropped_is_rolled_back() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let before = stage.lsn();
    let mut event = Box::pin(room.run(async {
        let body = |room: Storage| async move {
            room.put("b", "1")?;
            room.delete("a")?;
            pause().await;
            Ok::<_, Error>(())
        };
        room.transaction_async(body).await.unwrap();
    }));
    poll_pending(event.as_mut());
    drop(event);
    assert!(room.broken().is_none());
    assert_eq!(keys(&room), "a");
    assert_eq!(stage.lsn(), before);
    fill(&room, "c");
    assert_eq!(keys(&room), "a c");
}

#[test]
fn s2_9_nothing_of_an_open_transaction_shows_outside() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let mut event = pin!(room.run(async {
        let body = |room: Storage| async move {
            room.put("b", "1")?;
            pause().await;
            Ok::<_, Error>(keys(&room))
        };
        room.transaction_async(body).await.unwrap()
    }));
    poll_pending(event.as_mut());
    assert_eq!(keys(&room), "a");
    stage.write();
    let outside = stage.rooms.snapshot(room.id()).unwrap();
    assert!(outside.get("b").unwrap().is_none());
    assert_eq!(stage.finish(event).unwrap(), "a b");
    assert_eq!(keys(&room), "a b");
}

#[test]
fn s2_9_a_loose_write_beside_an_open_transaction_is_refused() {
    let (stage, room) = Stage::with_room();
    let mut event = pin!(room.run(async {
        let body = |room: Storage| async move {
            room.put("b", "1")?;
            pause().await;
            Ok::<_, Error>(())
        };
        room.transaction_async(body).await.unwrap();
    }));
    poll_pending(event.as_mut());
    let error = room.put("a", "1").unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "storage.transaction"));
    stage.finish(event).unwrap();
    room.put("a", "1").unwrap();
    assert_eq!(keys(&room), "a b");
}

#[test]
fn s2_9_a_power_cut_in_an_open_transaction_leaves_nothing_of_it() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let mut event = Box::pin(room.run(async {
        let body = |room: Storage| async move {
            room.put("b", "1")?;
            pause().await;
            Ok::<_, Error>(())
        };
        room.transaction_async(body).await.unwrap();
    }));
    poll_pending(event.as_mut());
    stage.write();
    drop(event);
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "a");
}

#[test]
fn s2_9_an_inner_rollback_takes_back_that_a_write_was_confirmed() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.transaction(|room| {
        room.put_unconfirmed("b", "1")?;
        room.transaction(|room| {
            room.put("c", "confirmed")?;
            fail(room)
        })
        .unwrap_err();
        Ok::<_, Error>(())
    })
    .unwrap();
    assert!(room.gate().is_open());
    assert_eq!(keys(&room), "a b");
}

#[test]
fn s2_9_an_inner_commit_makes_the_outer_confirmed() {
    let (_stage, room) = Stage::with_room();
    room.transaction(|room| {
        room.put_unconfirmed("b", "1")?;
        room.transaction(|room| room.put("c", "confirmed"))
    })
    .unwrap();
    assert!(!room.gate().is_open());
}

#[test]
fn s2_9_an_inner_rollback_takes_back_the_alarm() {
    let (stage, room) = Stage::with_room();
    let outer = stage.after(50);
    room.transaction(|room| {
        room.set_alarm(outer)?;
        room.transaction(|room| {
            room.set_alarm(stage.after(5))?;
            fail(room)
        })
        .unwrap_err();
        assert_eq!(room.alarm()?, Some(outer));
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(room.alarm().unwrap(), Some(outer));
}

#[test]
fn s2_9_a_limit_holds_inside_a_transaction() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a c e g");
    stage.checkpoint();
    room.transaction(|room| {
        fill(room, "b d f");
        room.delete("a")?;
        assert_eq!(listed(room.list(ListOptions::new().limit(3))?), "b c d");
        assert_eq!(listed(room.list(ListOptions::new().limit(2).reverse())?), "g f");
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn s2_9_deletes_inside_a_transaction_count_what_it_sees() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c");
    stage.checkpoint();
    let counts = room.transaction(|room| {
        room.put("d", "1")?;
        room.delete("a")?;
        Ok::<_, Error>((room.delete_many(["a", "b", "d", "x"])?, room.delete("c")?))
    });
    assert_eq!(counts.unwrap(), (2, true));
    assert_eq!(keys(&room), "");
}

#[test]
fn s2_9_a_transaction_that_only_reads_commits_nothing() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let before = stage.lsn();
    let seen = room.transaction(|room| Ok::<_, Error>(keys(room)));
    assert_eq!(seen.unwrap(), "a");
    assert_eq!(stage.lsn(), before);
    assert!(room.gate().is_open());
}

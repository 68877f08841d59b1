//! Section 2.5: which turns close the gate.

use crate::stage::{Stage, fill, keys, pause, poll_pending};
use dostore::actor::Storage;
use dostore::error::Error;
use std::pin::pin;

fn is_closed(room: &Storage) -> bool {
    !room.gate().is_open()
}

#[test]
fn s2_5_a_confirmed_write_closes_the_gate_until_it_is_durable() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    assert!(is_closed(&room));
    stage.write();
    assert!(!is_closed(&room));
}

#[test]
fn s2_5_each_kind_of_write_closes_the_gate() {
    type Write = fn(&Stage, &Storage);
    let writes: [Write; 8] = [
        |_, room| assert!(room.delete("a").unwrap()),
        |_, room| assert_eq!(room.delete_many(["a"]).unwrap(), 1),
        |_, room| room.delete_range("a"..).unwrap(),
        |_, room| room.delete_all().unwrap(),
        |_, room| room.put_many([("b", "1")]).unwrap(),
        |stage, room| room.set_alarm(stage.after(3)).unwrap(),
        |stage, room| room.set_named_alarm("tea", stage.after(3)).unwrap(),
        |_, room| room.put_attachment(b"socket", "1").unwrap(),
    ];
    for (number, write) in writes.into_iter().enumerate() {
        let (stage, room) = Stage::with_room();
        fill(&room, "a");
        stage.write();
        assert!(!is_closed(&room));
        write(&stage, &room);
        assert!(is_closed(&room), "write {number}");
        stage.write();
        assert!(!is_closed(&room), "write {number}");
    }
}

#[test]
fn s2_5_the_gate_is_closed_from_the_write_on() {
    let (stage, room) = Stage::with_room();
    let mut gate = None;
    room.enter(|| {
        fill(&room, "a");
        gate = Some(room.gate());
    })
    .unwrap();
    let gate = gate.unwrap();
    assert!(!gate.is_open());
    stage.write();
    assert!(gate.is_open());
}

#[test]
fn s2_5_a_turn_without_confirmed_writes_leaves_the_gate_open() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.enter(|| {
        room.put_unconfirmed("b", "1").unwrap();
        room.delete_unconfirmed("a").unwrap();
    })
    .unwrap();
    assert!(!is_closed(&room));
    assert_eq!(keys(&room), "b");
}

#[test]
fn s2_5_a_turn_that_only_reads_leaves_the_gate_open() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.enter(|| keys(&room)).unwrap();
    assert!(!is_closed(&room));
}

#[test]
fn s2_5_an_unconfirmed_turn_behind_a_confirmed_one_is_not_waited_for() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.put_unconfirmed("b", "1").unwrap();
    assert!(!is_closed(&room));
    fill(&room, "c");
    assert!(is_closed(&room));
}

#[test]
fn s2_5_a_transaction_closes_the_gate_when_it_commits() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.transaction(|room| room.put("b", "1")).unwrap();
    assert!(is_closed(&room));
    stage.write();
    assert!(!is_closed(&room));
}

#[test]
fn s2_5_an_async_transaction_does_not_close_the_gate_before_it_commits() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    let mut event = pin!(room.run(async {
        let body = |room: Storage| async move {
            room.put("b", "1")?;
            pause().await;
            Ok::<_, Error>(())
        };
        room.transaction_async(body).await.unwrap();
    }));
    poll_pending(event.as_mut());
    assert!(!is_closed(&room), "nothing of it is committed");
    stage.finish(event).unwrap();
    assert!(is_closed(&room));
}

#[test]
fn s2_5_a_transaction_that_failed_leaves_the_gate_open() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    let failed: Result<(), Error> = room.transaction(|room| {
        room.put("b", "1")?;
        room.put([0; 5000], "")
    });
    failed.unwrap_err();
    assert!(!is_closed(&room));
}

#[test]
fn s2_5_an_unconfirmed_transaction_leaves_the_gate_open() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.transaction(|room| room.put_unconfirmed("b", "1")).unwrap();
    assert!(!is_closed(&room));
    assert_eq!(keys(&room), "a b");
}

//! Section 3.1: events of one object take turns.

use crate::stage::{Crew, Diary, Door, Stage, pause, pauses, poll_pending, poll_ready, text};
use dostore::actor::Storage;
use std::pin::pin;

fn count(room: &Storage) -> u32 {
    text(room, "n").map_or(0, |n| n.parse().unwrap())
}

/// One event that reads the counter, waits for so many polls, and writes it.
async fn increment(room: Storage, waits: usize) {
    let event = async {
        let seen = count(&room);
        pauses(waits).await;
        room.put("n", (seen + 1).to_string()).unwrap();
    };
    room.run(event).await.unwrap();
}

#[test]
fn s3_1_an_event_that_never_waits_is_alone() {
    let (stage, room) = Stage::with_room();
    let mut crew = Crew::new();
    for _ in 0..50 {
        crew.spawn(increment(room.clone(), 0));
    }
    stage.settle(&mut crew);
    assert_eq!((crew.left(), count(&room)), (0, 50));
}

#[test]
fn s3_1_events_interleave_where_one_waits() {
    let (stage, room) = Stage::with_room();
    let mut crew = Crew::new();
    for _ in 0..50 {
        crew.spawn(increment(room.clone(), 1));
    }
    stage.settle(&mut crew);
    assert_eq!((crew.left(), count(&room)), (0, 1), "all have read before the first wrote");
}

#[test]
fn s3_1_a_section_keeps_others_out_while_it_waits() {
    let (stage, room) = Stage::with_room();
    let mut crew = Crew::new();
    for _ in 0..50 {
        let room = room.clone();
        crew.spawn(async move {
            let section = || async {
                let seen = count(&room);
                pauses(3).await;
                room.put("n", (seen + 1).to_string())
            };
            room.block_concurrency_while(section).await.unwrap();
        });
    }
    stage.settle(&mut crew);
    assert_eq!((crew.left(), count(&room)), (0, 50));
}

#[test]
fn s3_1_an_event_is_polled_only_where_it_is_awaited() {
    let (_stage, room) = Stage::with_room();
    let event = room.run(async { room.put("a", "1").unwrap() });
    assert_eq!(text(&room, "a"), None, "calling run does nothing yet");
    poll_ready(pin!(event)).unwrap();
    assert_eq!(text(&room, "a"), Some("1".into()));
}

#[test]
fn s3_1_an_event_inside_an_event_joins_its_turn() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    let event = room.run(async {
        room.put("a", "1").unwrap();
        room.run(async { room.put("b", "2").unwrap() }).await.unwrap();
        room.put("c", "3").unwrap();
    });
    poll_ready(pin!(event)).unwrap();
    assert_eq!(stage.lsn() - before, 1);
}

#[test]
fn s3_1_waiting_for_something_outside_lets_other_events_in() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary, door) = (Crew::new(), Diary::new(), Door::new());
    let (inner, said, outside) = (room.clone(), diary.clone(), door.clone());
    let first = room.clone();
    crew.spawn(async move {
        let event = async {
            said.note("asks");
            outside.pass().await;
            said.note(format!("answered {}", count(&inner)));
        };
        first.run(event).await.unwrap();
    });
    crew.spawn(increment(room.clone(), 0));
    crew.spawn(increment(room.clone(), 0));
    stage.settle(&mut crew);
    assert_eq!((crew.left(), count(&room)), (1, 2));
    door.open();
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "asks answered 2");
}

#[test]
fn s3_1_events_that_wait_go_in_the_order_in_which_they_came() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary, door) = (Crew::new(), Diary::new(), Door::new());
    let (holder, outside) = (room.clone(), door.clone());
    crew.spawn(async move {
        let section = || outside.opened();
        holder.block_concurrency_while(section).await.unwrap();
    });
    for number in 0..20 {
        let (room, diary) = (room.clone(), diary.clone());
        crew.spawn(
            async move { room.run(async { diary.note(number.to_string()) }).await.unwrap() },
        );
    }
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "");
    door.open();
    stage.settle(&mut crew);
    let order: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(diary.said(), order);
}

#[test]
fn s3_1_who_asks_out_of_order_waits_for_the_others() {
    let (_stage, room) = Stage::with_room();
    let door = Door::new();
    let section = || door.opened();
    let mut section = pin!(room.block_concurrency_while(section));
    poll_pending(section.as_mut());
    let mut first = pin!(room.run(async {}));
    let mut second = pin!(room.run(async {}));
    poll_pending(first.as_mut());
    poll_pending(second.as_mut());
    door.open();
    poll_ready(section).unwrap();
    poll_pending(second.as_mut());
    poll_ready(first).unwrap();
    poll_ready(second).unwrap();
}

#[test]
fn s3_1_a_waiting_event_that_is_dropped_does_not_hold_up_the_next() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary, door) = (Crew::new(), Diary::new(), Door::new());
    let (holder, outside) = (room.clone(), door.clone());
    crew.spawn(async move {
        let section = || outside.opened();
        holder.block_concurrency_while(section).await.unwrap();
    });
    let mut tasks = Vec::new();
    for number in 0..4 {
        let (room, diary) = (room.clone(), diary.clone());
        let event =
            async move { room.run(async { diary.note(number.to_string()) }).await.unwrap() };
        tasks.push(crew.spawn(event));
    }
    stage.settle(&mut crew);
    crew.cancel(tasks[0]);
    crew.cancel(tasks[2]);
    door.open();
    stage.settle(&mut crew);
    assert_eq!((diary.line(), crew.left()), ("1 3".into(), 0));
}

#[test]
fn s3_1_the_next_in_line_that_is_dropped_after_its_wake_up_passes_it_on() {
    let (_stage, room) = Stage::with_room();
    let (mut crew, diary, door) = (Crew::new(), Diary::new(), Door::new());
    let section = || door.opened();
    let mut section = Box::pin(room.block_concurrency_while(section));
    poll_pending(section.as_mut());
    let mut first = Box::pin(room.run(async {}));
    poll_pending(first.as_mut());
    let (waiting, said) = (room.clone(), diary.clone());
    crew.spawn(async move { waiting.run(async { said.note("second") }).await.unwrap() });
    crew.run();
    door.open();
    poll_ready(section.as_mut()).unwrap();
    drop(first);
    crew.run();
    assert_eq!(diary.line(), "second");
}

#[test]
fn s3_1_events_of_two_objects_do_not_wait_for_each_other() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    let door = Door::new();
    let section = || door.opened();
    let mut section = pin!(room.block_concurrency_while(section));
    poll_pending(section.as_mut());
    poll_ready(pin!(other.run(async { other.put("a", "1").unwrap() }))).unwrap();
    door.open();
    poll_ready(section).unwrap();
}

#[test]
fn s3_1_an_event_in_one_object_may_use_another() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    let event = room.run(async {
        room.put("a", "1").unwrap();
        let inner = other.run(async {
            other.put("b", "2").unwrap();
            pause().await;
            other.put("c", "3").unwrap();
        });
        inner.await.unwrap();
        crate::stage::keys(&other)
    });
    assert_eq!(stage.finish(event).unwrap(), "b c");
    assert_eq!(crate::stage::keys(&room), "a");
}

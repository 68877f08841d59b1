//! Sections 2.1 to 2.4: what is one commit, when it is logged, and what an error does to it.

use crate::stage::{
    Crew, Diary, Stage, at_each_call, fill, keys, pause, pauses, poll_pending, poll_ready, text,
};
use dostore::actor::Storage;
use dostore::error::ErrorKind;
use dostore::store::list::ListOptions;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

/// A turn of keys, an alarm, a deletion, confirmed and unconfirmed.
fn mixed_turn(stage: &Stage, room: &Storage) {
    room.put("a", "1").unwrap();
    room.put_unconfirmed("b", "2").unwrap();
    room.put_many([("c", "3"), ("d", "4")]).unwrap();
    room.delete("old").unwrap();
    room.set_alarm(stage.after(9)).unwrap();
    room.set_named_alarm("tea", stage.after(10)).unwrap();
    room.put_attachment(b"socket", "seat").unwrap();
    room.set_user_version(2).unwrap();
}

/// What is there of a mixed turn: all of it or nothing.
fn is_there(room: &Storage) -> bool {
    let parts = [
        keys(room) == "a b c d",
        room.alarm().unwrap().is_some(),
        room.named_alarm("tea").unwrap().is_some(),
        room.attachment(b"socket").unwrap().is_some(),
        room.user_version().unwrap() == 2,
    ];
    if !parts.contains(&true) {
        assert_eq!(keys(room), "old");
        return false;
    }
    assert!(!parts.contains(&false), "half a turn: {parts:?}");
    true
}

/// Runs a script with the power failing at each call to the disk in turn, and hands what is left
/// to `check`. Says how often the script had ended before the power failed, and how often not.
fn with_power_failing(script: impl Fn(&Stage), check: impl Fn(&Storage) -> bool) -> [usize; 2] {
    let mut outcomes = [0; 2];
    at_each_call(|stage, calls| {
        fill(&stage.room(), "old");
        stage.write();
        stage.disk.crash_after(calls);
        script(&stage);
        let is_over = !stage.disk.is_off();
        let (_stage, room) = stage.power_cut_with_room();
        outcomes[usize::from(check(&room))] += 1;
        is_over
    });
    outcomes
}

#[test]
fn s2_1_writes_with_no_await_between_them_are_all_or_nothing() {
    let script = |stage: &Stage| {
        let room = stage.room();
        room.enter(|| mixed_turn(stage, &room)).unwrap();
        stage.store.steps().write_group().ok();
        stage.store.steps().checkpoint().ok();
    };
    let [without, with] = with_power_failing(script, is_there);
    assert!(without > 0 && with > 3, "{without} crashes before it, {with} behind it");
}

#[test]
fn s2_1_writes_of_one_poll_are_all_or_nothing() {
    let script = |stage: &Stage| {
        let room = stage.room();
        let event = room.run(async { mixed_turn(stage, &room) });
        poll_ready(pin!(event)).unwrap();
        stage.store.steps().write_group().ok();
    };
    let [without, with] = with_power_failing(script, is_there);
    assert!(without > 0 && with > 0);
}

#[test]
fn s2_2_a_turn_is_logged_when_its_poll_returns() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    let mut event = pin!(room.run(async {
        fill(&room, "a b");
        assert_eq!(stage.lsn(), before, "not inside the poll");
        pause().await;
        fill(&room, "c d");
        pause().await;
    }));
    poll_pending(event.as_mut());
    assert_eq!(stage.lsn() - before, 1);
    poll_pending(event.as_mut());
    assert_eq!(stage.lsn() - before, 2);
    poll_ready(event).unwrap();
    assert_eq!(stage.lsn() - before, 2, "a poll without writes logs nothing");
}

#[test]
fn s2_2_an_await_that_is_ready_does_not_end_the_turn() {
    let (stage, room) = Stage::with_room();
    let ended = poll_ready(pin!(room.run(async {
        fill(&room, "a");
        ready(()).await;
        room.get("a").unwrap();
        async { fill(&room, "b") }.await;
        room.abort("planned");
    })));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Broken);
    drop(room);
    assert_eq!(keys(&stage.room()), "", "both went with the one turn");
}

#[test]
fn s2_2_an_await_that_waits_ends_the_turn() {
    let (stage, room) = Stage::with_room();
    let ended = stage.finish(room.run(async {
        fill(&room, "a");
        pause().await;
        fill(&room, "b");
        room.abort("planned");
    }));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Broken);
    drop(room);
    assert_eq!(keys(&stage.room()), "a");
}

#[test]
fn s2_2_waiting_for_durability_ends_the_turn() {
    let (stage, room) = Stage::with_room();
    let ended = stage.finish(room.run(async {
        fill(&room, "a");
        room.sync().await.unwrap();
        fill(&room, "b");
        room.abort("planned");
    }));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Broken);
    drop(room);
    assert_eq!(keys(&stage.room()), "a");
}

#[test]
fn s2_2_everything_in_a_turn_is_one_commit() {
    let (stage, room) = Stage::with_room();
    fill(&room, "old");
    let before = stage.lsn();
    room.enter(|| mixed_turn(&stage, &room)).unwrap();
    assert_eq!(stage.lsn() - before, 1);
    assert!(is_there(&room));
}

#[test]
fn s2_2_a_callback_is_one_turn() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    let value = room.enter(|| {
        fill(&room, "a b c");
        7
    });
    assert_eq!(value.unwrap(), 7);
    assert_eq!(stage.lsn() - before, 1);
}

#[test]
fn s2_2_a_write_outside_any_turn_is_a_turn_of_its_own() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    fill(&room, "a b c");
    assert_eq!(stage.lsn() - before, 3);
}

#[test]
fn s2_2_a_nested_callback_joins_the_open_turn() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    room.enter(|| {
        fill(&room, "a");
        room.enter(|| fill(&room, "b")).unwrap();
        assert_eq!(stage.lsn(), before);
        fill(&room, "c");
    })
    .unwrap();
    assert_eq!(stage.lsn() - before, 1);
}

#[test]
fn s2_2_a_turn_that_only_reads_logs_nothing() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let before = stage.lsn();
    room.enter(|| (keys(&room), text(&room, "a"), room.alarm().unwrap())).unwrap();
    poll_ready(pin!(room.run(async { keys(&room) }))).unwrap();
    assert_eq!(stage.lsn(), before);
}

#[test]
fn s2_2_a_turn_of_one_object_takes_no_writes_of_another() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    room.enter(|| {
        fill(&room, "a");
        fill(&other, "b");
        room.abort("planned");
    })
    .unwrap_err();
    assert_eq!(keys(&other), "b", "it had a turn of its own");
    drop(room);
    assert_eq!(keys(&stage.room()), "");
}

#[test]
fn s2_2_a_turn_may_be_sealed_while_the_one_before_is_not_durable() {
    let (stage, room) = Stage::with_room();
    stage.write();
    let durable = stage.store.durable();
    fill(&room, "a b");
    room.put("a", "second").unwrap();
    assert_eq!(stage.store.durable(), durable);
    assert_eq!(text(&room, "a"), Some("second".into()), "and reads see the last");
}

#[test]
fn s2_2_many_turns_share_one_sync() {
    let (stage, room) = Stage::with_room();
    let others: Vec<_> = (0..20).map(|number| stage.actor(&format!("{number}"))).collect();
    stage.write();
    let calls = stage.disk.calls();
    fill(&room, "a b c d e f g h");
    for other in &others {
        fill(other, "a b");
    }
    stage.write();
    let calls = stage.disk.calls() - calls;
    assert!(calls <= 3, "{calls} calls to the disk for 48 commits");
}

#[test]
fn s2_2_two_events_by_turns_have_commits_of_their_own() {
    let (stage, room) = Stage::with_room();
    let mut one = Box::pin(room.run(async {
        fill(&room, "a1");
        pause().await;
        fill(&room, "a2");
        room.abort("planned");
    }));
    let mut other = Box::pin(room.run(async {
        fill(&room, "b1");
        pause().await;
        fill(&room, "b2");
    }));
    poll_pending(one.as_mut());
    poll_pending(other.as_mut());
    poll_ready(other.as_mut()).unwrap();
    poll_ready(one.as_mut()).unwrap_err();
    drop((one, other));
    drop(room);
    assert_eq!(keys(&stage.room()), "a1 b1 b2", "the abort took one turn only");
}

#[test]
fn s2_2_two_threads_never_share_a_turn() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    std::thread::scope(|scope| {
        for name in ["x", "y"] {
            let room = room.clone();
            scope.spawn(move || {
                for round in 0..200 {
                    let key = format!("{name}{round}");
                    let joined = room.enter(|| {
                        let seen = keys_of(&room, name);
                        room.put(&key, "1").unwrap();
                        room.put("last", &key).unwrap();
                        let stays = text(&room, "last") == Some(key.clone());
                        stays && keys_of(&room, name) == seen + 1
                    });
                    assert!(joined.unwrap(), "another thread wrote into the turn");
                }
            });
        }
    });
    assert_eq!(stage.lsn() - before, 400);
}

fn keys_of(room: &Storage, prefix: &str) -> u64 {
    room.count(ListOptions::new().prefix(prefix)).unwrap()
}

#[test]
fn s2_2_a_dropped_event_keeps_the_turns_that_it_sealed() {
    let (stage, room) = Stage::with_room();
    let mut event = Box::pin(room.run(async {
        fill(&room, "a");
        pause().await;
        fill(&room, "b");
        pauses(9).await;
        fill(&room, "c");
    }));
    poll_pending(event.as_mut());
    poll_pending(event.as_mut());
    drop(event);
    assert!(room.broken().is_none());
    assert_eq!(keys(&room), "a b");
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "a b");
}

#[test]
fn s2_2_a_read_outside_sees_only_sealed_turns() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a");
    let outside = room.clone();
    let seen = room.enter(|| {
        fill(&room, "b");
        std::thread::scope(|scope| scope.spawn(|| keys(&outside)).join().unwrap())
    });
    assert_eq!(seen.unwrap(), "a");
    assert_eq!(keys(&outside), "a b");
}

#[test]
fn s2_3_a_crash_leaves_a_prefix_of_the_turns() {
    let script = |stage: &Stage| {
        let room = stage.room();
        for round in 1..=5 {
            room.enter(|| {
                room.put("first", round.to_string()).ok();
                room.put(format!("{round}"), "").ok();
                room.put("last", round.to_string()).ok();
            })
            .ok();
            if round % 2 == 0 {
                stage.store.steps().write_group().ok();
            }
        }
    };
    let check = |room: &Storage| {
        let last = text(room, "last");
        assert_eq!(text(room, "first"), last);
        let rounds: u32 = last.map_or(0, |last| last.parse().unwrap());
        for round in 1..=5 {
            assert_eq!(text(room, &round.to_string()).is_some(), round <= rounds);
        }
        rounds > 0
    };
    let [without, with] = with_power_failing(script, check);
    assert!(without > 0 && with > 0);
}

#[test]
fn s2_3_a_read_joins_what_is_written_and_what_is_not() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c d e f g h");
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    room.delete_range("b".."e").unwrap();
    fill(&room, "c");
    assert_eq!(keys(&room), "a c e f g h");
    assert_eq!(room.get_many(["b", "c", "e"]).unwrap().len(), 2);
}

#[test]
fn s2_3_a_limit_is_met_in_spite_of_deleted_keys() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c d e f g h");
    stage.checkpoint();
    room.delete_many(["a", "b", "c", "h"]).unwrap();
    let limited = |options: ListOptions| crate::stage::listed(room.list(options).unwrap());
    assert_eq!(limited(ListOptions::new().limit(3)), "d e f");
    assert_eq!(limited(ListOptions::new().limit(2).reverse()), "g f");
}

#[test]
fn s2_4_a_throw_keeps_its_writes() {
    let (stage, room) = Stage::with_room();
    let thrown: Result<Result<(), &str>, _> = poll_result(&room, async {
        room.put("a", "1").unwrap();
        Err("no more")
    });
    assert_eq!(thrown.unwrap(), Err("no more"), "the event's own error comes through");
    assert!(room.broken().is_none());
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(text(&room, "a"), Some("1".into()));
}

fn poll_result<T>(room: &Storage, event: impl Future<Output = T>) -> dostore::error::Result<T> {
    poll_ready(pin!(room.run(event)))
}

#[test]
fn s2_4_a_throw_in_a_callback_keeps_its_writes() {
    let (stage, room) = Stage::with_room();
    let thrown: Result<(), &str> = room
        .enter(|| {
            fill(&room, "a");
            Err("no more")
        })
        .unwrap();
    assert_eq!(thrown, Err("no more"));
    stage.finish(room.gate()).unwrap();
    assert_eq!(keys(&room), "a");
}

#[test]
fn s2_4_a_refused_operation_leaves_the_turn_as_it_was() {
    let (_stage, room) = Stage::with_room();
    room.enter(|| {
        fill(&room, "a");
        room.put([0; 5000], "").unwrap_err();
        room.list(ListOptions::new().limit(0)).unwrap_err();
        fill(&room, "b");
    })
    .unwrap();
    assert_eq!(keys(&room), "a b");
}

#[test]
fn s2_4_a_panic_drops_only_the_open_turn() {
    let (stage, room) = Stage::with_room();
    let mut event = Box::pin(room.run(async {
        fill(&room, "sealed");
        pause().await;
        fill(&room, "open");
        assert!(text(&room, "open").is_none(), "planned panic");
    }));
    poll_pending(event.as_mut());
    let panicked = catch_unwind(AssertUnwindSafe(|| poll_ready(event.as_mut()).is_err()));
    assert!(panicked.unwrap_or(true), "it panics, or says that the object broke");
    assert_eq!(room.broken().unwrap().kind(), ErrorKind::Broken);
    drop(event);
    drop(room);
    assert_eq!(keys(&stage.room()), "sealed");
}

#[test]
fn s2_4_a_panic_in_a_callback_drops_its_turn_and_breaks_the_object() {
    let (stage, room) = Stage::with_room();
    fill(&room, "before");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        room.enter(|| {
            fill(&room, "open");
            assert!(text(&room, "open").is_none(), "planned panic");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(room.broken().unwrap().kind(), ErrorKind::Broken);
    assert_eq!(room.get("before").unwrap_err().kind(), ErrorKind::Broken);
    drop(room);
    assert_eq!(keys(&stage.room()), "before");
}

#[test]
fn s2_4_a_panic_ends_the_other_events_of_the_object() {
    let (stage, room) = Stage::with_room();
    let mut waiting = Box::pin(room.run(async {
        fill(&room, "a");
        pauses(5).await;
        fill(&room, "b");
    }));
    poll_pending(waiting.as_mut());
    let panicking = room.run(async { assert!(text(&room, "a").is_none(), "planned panic") });
    catch_unwind(AssertUnwindSafe(|| poll_ready(pin!(panicking)).ok())).ok();
    assert_eq!(poll_ready(waiting.as_mut()).unwrap_err().kind(), ErrorKind::Broken);
    drop(waiting);
    drop(room);
    assert_eq!(keys(&stage.room()), "a");
}

#[test]
fn s2_4_a_failed_section_keeps_its_writes_and_breaks_the_object() {
    let (stage, room) = Stage::with_room();
    let ended = stage.finish(room.run(async {
        fill(&room, "a");
        let section = room.block_concurrency_while(|| async {
            fill(&room, "b");
            pause().await;
            fill(&room, "c");
            Err::<(), _>(room.list(ListOptions::new().limit(0)).unwrap_err())
        });
        section.await.unwrap_err()
    }));
    ended.unwrap_err();
    assert_eq!(room.broken().unwrap().code(), "section.failed");
    drop(room);
    assert_eq!(keys(&stage.room()), "a b c");
}

#[test]
fn s2_4_a_failed_transaction_undoes_itself_and_nothing_else() {
    let (_stage, room) = Stage::with_room();
    room.enter(|| {
        fill(&room, "a");
        let failed: Result<(), dostore::error::Error> = room.transaction(|room| {
            fill(room, "b");
            room.put([0; 5000], "").map(drop)
        });
        failed.unwrap_err();
        fill(&room, "c");
    })
    .unwrap();
    assert_eq!(keys(&room), "a c");
}

#[test]
fn s2_4_order_of_events_is_the_order_of_their_polls() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary) = (Crew::new(), Diary::new());
    for name in ["x", "y"] {
        let (room, diary) = (room.clone(), diary.clone());
        crew.spawn(async move {
            let inner = room.clone();
            let event = async move {
                for step in 0..3 {
                    inner.put("last", format!("{name}{step}")).unwrap();
                    diary.note(text(&inner, "last").unwrap());
                    pause().await;
                }
            };
            room.run(event).await.unwrap();
        });
    }
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "x0 y0 x1 y1 x2 y2");
    assert_eq!(text(&room, "last"), Some("y2".into()));
}

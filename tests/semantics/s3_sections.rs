//! Section 3.2: critical sections.

use crate::stage::{
    Crew, Diary, Door, Stage, fill, keys, pause, pauses, poll, poll_pending, poll_ready, text,
};
use dostore::actor::{Storage, StorageOptions};
use dostore::error::{Error, ErrorKind};
use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A section that holds the object until a door opens.
async fn hold(room: Storage, door: Door) {
    let section = || door.opened();
    room.block_concurrency_while(section).await.unwrap();
}

fn refusal(room: &Storage) -> Error {
    room.list(dostore::store::list::ListOptions::new().limit(0)).unwrap_err()
}

#[test]
fn s3_2_a_section_hands_its_value_through() {
    let (stage, room) = Stage::with_room();
    let section = room.block_concurrency_while(|| async {
        pause().await;
        Ok::<_, Error>(42)
    });
    assert_eq!(stage.finish(section).unwrap(), 42);
    assert!(room.broken().is_none());
}

#[test]
fn s3_2_no_other_event_runs_while_a_section_does() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary) = (Crew::new(), Diary::new());
    let (holder, said) = (room.clone(), diary.clone());
    crew.spawn(async move {
        let section = || async {
            for step in 0..3 {
                said.note(format!("s{step}"));
                pauses(5).await;
            }
            Ok::<_, Error>(())
        };
        holder.block_concurrency_while(section).await.unwrap();
    });
    let (waiting, said) = (room.clone(), diary.clone());
    crew.spawn(async move { waiting.run(async { said.note("event") }).await.unwrap() });
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "s0 s1 s2 event");
}

#[test]
fn s3_2_an_event_that_has_begun_waits_too() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary) = (Crew::new(), Diary::new());
    let (early, said) = (room.clone(), diary.clone());
    crew.spawn(async move {
        let event = async {
            said.note("begun");
            pause().await;
            said.note("goes on");
        };
        early.run(event).await.unwrap();
    });
    let (holder, said) = (room.clone(), diary.clone());
    crew.spawn(async move {
        let section = || async {
            said.note("s");
            pauses(9).await;
            said.note("e");
            Ok::<_, Error>(())
        };
        holder.block_concurrency_while(section).await.unwrap();
    });
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "begun s e goes on");
}

#[test]
fn s3_2_an_event_begun_inside_runs_inside() {
    let (stage, room) = Stage::with_room();
    let diary = Diary::new();
    let section = room.block_concurrency_while(|| async {
        diary.note("s");
        pause().await;
        room.run(async {
            diary.note("inner");
            pause().await;
            diary.note("inner ends");
        })
        .await?;
        diary.note("e");
        Ok::<_, Error>(())
    });
    stage.finish(section).unwrap();
    assert_eq!(diary.line(), "s inner inner ends e");
}

#[test]
fn s3_2_sections_run_one_by_one_in_their_order() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary) = (Crew::new(), Diary::new());
    for number in 1..=4 {
        let (room, diary) = (room.clone(), diary.clone());
        crew.spawn(async move {
            let section = || async {
                diary.note(format!("s{number}"));
                pauses(number).await;
                diary.note(format!("e{number}"));
                Ok::<_, Error>(())
            };
            room.block_concurrency_while(section).await.unwrap();
        });
    }
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "s1 e1 s2 e2 s3 e3 s4 e4");
}

#[test]
fn s3_2_a_waiting_section_goes_before_waiting_events() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary, door) = (Crew::new(), Diary::new(), Door::new());
    crew.spawn(hold(room.clone(), door.clone()));
    let (waiting, said) = (room.clone(), diary.clone());
    crew.spawn(async move { waiting.run(async { said.note("event") }).await.unwrap() });
    let (waiting, said) = (room.clone(), diary.clone());
    crew.spawn(async move {
        let section = || async {
            said.note("section");
            Ok::<_, Error>(())
        };
        waiting.block_concurrency_while(section).await.unwrap();
    });
    stage.settle(&mut crew);
    door.open();
    stage.settle(&mut crew);
    assert_eq!(diary.line(), "section event");
}

#[test]
fn s3_2_sections_nest() {
    let (stage, room) = Stage::with_room();
    let diary = Diary::new();
    let section = room.block_concurrency_while(|| async {
        diary.note("a");
        let inner = room.block_concurrency_while(|| async {
            diary.note("b");
            pause().await;
            diary.note("c");
            Ok::<_, Error>(())
        });
        inner.await?;
        pause().await;
        diary.note("d");
        Ok::<_, Error>(())
    });
    stage.finish(section).unwrap();
    assert_eq!(diary.line(), "a b c d");
}

type Boxed<'a> = Pin<Box<dyn Future<Output = Result<u32, Error>> + 'a>>;

/// So many sections inside each other; says how many ran.
fn nested(room: &Storage, depth: u32) -> Boxed<'_> {
    Box::pin(async move {
        if depth == 0 {
            return Ok(0);
        }
        room.block_concurrency_while(|| async move { Ok(nested(room, depth - 1).await? + 1) }).await
    })
}

#[test]
fn s3_2_sections_nest_64_deep_and_no_deeper() {
    let (stage, room) = Stage::with_room();
    assert_eq!(stage.finish(nested(&room, 64)).unwrap(), 64);
    let error = stage.finish(nested(&room, 65)).unwrap_err();
    assert!(["gate.depth", "section.failed"].contains(&error.code()), "{error:?}");
}

#[test]
fn s3_2_an_event_begun_inside_goes_on_outside_when_the_section_has_ended() {
    let (stage, room) = Stage::with_room();
    let door = Door::new();
    let started = Rc::new(Cell::new(None));
    let section = room.block_concurrency_while(|| async {
        let inner = room.clone();
        let outside = door.clone();
        let event = room.run(async move {
            inner.put("a", "1").unwrap();
            outside.pass().await;
            inner.put("b", "2").unwrap();
        });
        let mut event = Box::pin(event);
        poll_pending(event.as_mut());
        started.set(Some(event));
        pause().await;
        Ok::<_, Error>(())
    });
    stage.finish(section).unwrap();
    let event = started.take().unwrap();
    door.open();
    stage.finish(event).unwrap();
    assert_eq!(keys(&room), "a b");
}

#[test]
fn s3_2_a_section_is_no_transaction() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    let section = room.block_concurrency_while(|| async {
        fill(&room, "a b");
        pause().await;
        fill(&room, "c");
        Ok::<_, Error>(())
    });
    stage.finish(section).unwrap();
    assert_eq!(stage.lsn() - before, 2, "each poll is a commit");
}

#[test]
fn s3_2_a_section_that_fails_breaks_the_object_for_all_who_wait() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary, door) = (Crew::new(), Diary::new(), Door::new());
    let (holder, outside, said) = (room.clone(), door.clone(), diary.clone());
    crew.spawn(async move {
        let section = || async {
            outside.pass().await;
            Err::<(), _>(refusal(&holder))
        };
        let error = holder.block_concurrency_while(section).await.unwrap_err();
        said.note(error.code());
    });
    for _ in 0..3 {
        let (room, diary) = (room.clone(), diary.clone());
        crew.spawn(async move {
            let error = room.run(async { diary.note("ran") }).await.unwrap_err();
            diary.note(error.code());
        });
    }
    stage.settle(&mut crew);
    door.open();
    stage.settle(&mut crew);
    assert_eq!(crew.left(), 0);
    let said = diary.said();
    assert_eq!(said[1..], ["section.failed", "section.failed", "section.failed"], "{said:?}");
    assert_eq!(room.broken().unwrap().kind(), ErrorKind::Broken);
}

#[test]
fn s3_2_a_section_that_fails_breaks_those_around_it() {
    let (stage, room) = Stage::with_room();
    let outer = room.block_concurrency_while(|| async {
        let inner = room.block_concurrency_while(|| async {
            pause().await;
            Err::<(), _>(refusal(&room))
        });
        inner.await.unwrap_err();
        pause().await;
        Ok::<_, Error>(())
    });
    stage.finish(outer).unwrap_err();
    assert_eq!(room.broken().unwrap().code(), "section.failed");
    assert_eq!(room.get("a").unwrap_err().kind(), ErrorKind::Broken);
}

#[test]
fn s3_2_a_section_that_panics_breaks_the_object() {
    let (stage, room) = Stage::with_room();
    let section = room.block_concurrency_while(|| async {
        fill(&room, "a");
        pause().await;
        fill(&room, "b");
        assert!(text(&room, "b").is_none(), "planned panic");
        Ok::<_, Error>(())
    });
    let mut section = Box::pin(section);
    poll_pending(section.as_mut());
    let poll = std::panic::AssertUnwindSafe(|| poll_ready(section.as_mut()).is_err());
    assert!(std::panic::catch_unwind(poll).unwrap_or(true));
    assert_eq!(room.broken().unwrap().kind(), ErrorKind::Broken);
    drop(section);
    drop(room);
    assert_eq!(keys(&stage.room()), "a");
}

/// How an endless section stands after so many seconds.
fn after(seconds: u64, options: Option<StorageOptions>, is_transaction: bool) -> Option<Error> {
    let stage = Stage::new();
    let object = stage.rooms.open_by_name("room").unwrap();
    let room = match options {
        Some(options) => Storage::with_options(object, options),
        None => Storage::open(object),
    };
    let door = Door::new();
    let mut crew = Crew::new();
    let (holder, outside) = (room.clone(), door.clone());
    crew.spawn(async move {
        if is_transaction {
            let body = |_| outside.opened();
            holder.transaction_async(body).await.ok();
        } else {
            let body = || outside.opened();
            holder.block_concurrency_while(body).await.ok();
        }
    });
    stage.settle(&mut crew);
    for _ in 0..seconds {
        stage.pass_seconds(1);
        stage.settle(&mut crew);
    }
    room.broken()
}

#[test]
fn s3_2_a_section_that_lasts_longer_than_30_seconds_breaks_the_object() {
    assert!(after(29, None, false).is_none());
    let error = after(31, None, false).unwrap();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Broken, "section.timeout"));
}

#[test]
fn s3_2_a_transaction_that_lasts_longer_than_30_seconds_breaks_the_object() {
    assert!(after(29, None, true).is_none());
    assert_eq!(after(31, None, true).unwrap().code(), "section.timeout");
}

#[test]
fn s3_2_a_section_beyond_its_limit_fails_for_its_caller_and_for_all_who_wait() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary, door) = (Crew::new(), Diary::new(), Door::new());
    let (holder, said) = (room.clone(), diary.clone());
    crew.spawn(async move {
        let error = holder.block_concurrency_while(|| door.opened()).await.unwrap_err();
        said.note(error.code());
    });
    let (waiting, said) = (room.clone(), diary.clone());
    crew.spawn(async move { said.note(waiting.run(async {}).await.unwrap_err().code()) });
    stage.settle(&mut crew);
    assert_eq!((diary.line(), crew.left()), (String::new(), 2));
    stage.pass_seconds(31);
    crew.run();
    assert_eq!((diary.line(), crew.left()), ("section.timeout section.timeout".into(), 0));
}

#[test]
fn s3_2_the_limit_of_a_section_is_an_option() {
    let options =
        || StorageOptions { section_limit: Duration::from_secs(3), ..StorageOptions::default() };
    assert!(after(2, Some(options()), false).is_none());
    assert_eq!(after(4, Some(options()), false).unwrap().code(), "section.timeout");
}

#[test]
fn s3_2_a_section_that_is_dropped_while_it_runs_breaks_the_object() {
    let (_stage, room) = Stage::with_room();
    let door = Door::new();
    let section = || door.opened();
    let mut section = Box::pin(room.block_concurrency_while(section));
    poll_pending(section.as_mut());
    drop(section);
    assert_eq!(room.broken().unwrap().code(), "section.dropped");
    assert_eq!(room.put("a", "1").unwrap_err().code(), "section.dropped");
}

#[test]
fn s3_2_a_section_that_is_dropped_before_it_began_is_forgotten() {
    let (_stage, room) = Stage::with_room();
    let body = || async {
        fill(&room, "a");
        Ok::<_, Error>(())
    };
    drop(room.block_concurrency_while(body));
    let door = Door::new();
    let holding = || door.opened();
    let mut first = Box::pin(room.block_concurrency_while(holding));
    poll_pending(first.as_mut());
    let mut waiting = Box::pin(room.block_concurrency_while(body));
    poll_pending(waiting.as_mut());
    drop(waiting);
    door.open();
    poll_ready(first.as_mut()).unwrap();
    assert!(room.broken().is_none());
    poll_ready(pin!(room.run(async {}))).unwrap();
    assert_eq!(keys(&room), "");
}

#[test]
fn s3_2_to_wait_inside_for_an_event_outside_is_an_error_and_no_standstill() {
    let (stage, room) = Stage::with_room();
    let mut outside = Box::pin(room.run(pauses(3)));
    poll_pending(outside.as_mut());
    let section = room.block_concurrency_while(|| async {
        pause().await;
        let error = outside.await.unwrap_err();
        Ok::<_, Error>(error.code())
    });
    assert_eq!(stage.finish(section).unwrap(), "gate.deadlock");
    assert!(room.broken().is_none(), "the section went on and ended well");
}

#[test]
fn s3_2_a_callback_is_refused_while_a_section_runs() {
    let (_stage, room) = Stage::with_room();
    let door = Door::new();
    let section = || door.opened();
    let mut section = pin!(room.block_concurrency_while(section));
    poll_pending(section.as_mut());
    let error = room.enter(|| ()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "gate.closed"));
    let error = room.transaction(|room| room.put("a", "1")).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "gate.closed"));
    door.open();
    poll_ready(section).unwrap();
    room.enter(|| fill(&room, "a")).unwrap();
}

#[test]
fn s3_2_a_transaction_inside_a_section_rolls_back_alone() {
    let (stage, room) = Stage::with_room();
    let section = room.block_concurrency_while(|| async {
        fill(&room, "a");
        pause().await;
        let body = |room: Storage| async move {
            fill(&room, "b");
            pause().await;
            Err::<(), _>(refusal(&room))
        };
        room.transaction_async(body).await.unwrap_err();
        pause().await;
        fill(&room, "c");
        Ok::<_, Error>(())
    });
    stage.finish(section).unwrap();
    assert_eq!(keys(&room), "a c");
}

#[test]
fn s3_2_a_million_waiters_do_not_overflow_the_stack() {
    let wait = || {
        let (_stage, room) = Stage::with_room();
        let door = Door::new();
        let section = || door.opened();
        let mut section = Box::pin(room.block_concurrency_while(section));
        poll_pending(section.as_mut());
        let ran = Cell::new(0);
        let event = || Box::pin(room.run(async { ran.set(ran.get() + 1) }));
        let mut waiting: Vec<_> = (0..1_000_000).map(|_| event()).collect();
        let mut context = Context::from_waker(Waker::noop());
        for event in &mut waiting {
            assert!(event.as_mut().poll(&mut context).is_pending());
        }
        door.open();
        poll_ready(section.as_mut()).unwrap();
        for event in &mut waiting[..500_000] {
            assert!(matches!(event.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
        }
        room.abort("planned");
        for event in &mut waiting[500_000..] {
            assert!(matches!(event.as_mut().poll(&mut context), Poll::Ready(Err(_))));
        }
        assert_eq!(ran.get(), 500_000);
    };
    let small = std::thread::Builder::new().stack_size(256 << 10);
    small.spawn(wait).unwrap().join().unwrap();
}

#[test]
fn s3_2_a_section_called_from_an_event_waits_for_its_own_kind_only() {
    let (stage, room) = Stage::with_room();
    let event = room.run(async {
        fill(&room, "a");
        let section = || async {
            fill(&room, "b");
            pause().await;
            Ok::<_, Error>(())
        };
        room.block_concurrency_while(section).await.unwrap();
        fill(&room, "c");
    });
    let mut event = pin!(event);
    poll_pending(event.as_mut());
    let mut other = pin!(room.run(async { keys(&room) }));
    assert!(poll(other.as_mut()).is_pending(), "the section runs");
    stage.finish(event).unwrap();
    assert_eq!(stage.finish(other).unwrap(), "a b c");
}

//! Section 1.8: transactions as closures.

use crate::stage::{Crew, Diary, Stage, fill, keys, listed, pauses, text};
use dostore::actor::Storage;
use dostore::error::{Error, ErrorKind};
use dostore::store::list::ListOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An error of a caller's own.
#[derive(Debug, PartialEq)]
enum Refusal {
    Full,
    Store(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error.code().to_owned())
    }
}

fn refuse() -> Result<(), Refusal> {
    Err(Refusal::Full)
}

#[test]
fn s1_8_a_transaction_hands_its_value_through() {
    let (_stage, room) = Stage::with_room();
    let value = room.transaction(|room| {
        room.put("a", "1")?;
        Ok::<_, Refusal>(41 + 1)
    });
    assert_eq!(value, Ok(42));
    assert_eq!(keys(&room), "a");
}

#[test]
fn s1_8_an_error_rolls_back_and_goes_to_the_caller() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b");
    let failed = room.transaction(|room| {
        room.put("a", "changed")?;
        room.delete("b")?;
        room.put("c", "new")?;
        room.delete_range("a"..)?;
        refuse()
    });
    assert_eq!(failed, Err(Refusal::Full));
    assert_eq!(keys(&room), "a b");
    assert_eq!(text(&room, "a"), Some("A".into()));
}

#[test]
fn s1_8_an_error_of_the_store_rolls_back_like_any_other() {
    let (_stage, room) = Stage::with_room();
    let failed = room.transaction(|room| {
        room.put("a", "1")?;
        room.put([0; 5000], "")?;
        Ok::<_, Refusal>(())
    });
    assert_eq!(failed, Err(Refusal::Store("limit.key".into())));
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_8_a_failed_transaction_leaves_the_object_alive() {
    let (stage, room) = Stage::with_room();
    room.transaction(|_| refuse()).unwrap_err();
    assert!(room.broken().is_none());
    fill(&room, "a");
    stage.finish(room.gate()).unwrap();
    assert_eq!(keys(&room), "a");
}

#[test]
fn s1_8_a_transaction_reads_what_it_wrote() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b c");
    room.transaction(|room| {
        room.delete("b")?;
        room.put("d", "1")?;
        assert_eq!(keys(room), "a c d");
        assert_eq!(room.get_many(["b", "d"])?.len(), 1);
        assert_eq!(room.count(ListOptions::new())?, 3);
        assert!(!room.delete("b")?);
        Ok::<_, Refusal>(())
    })
    .unwrap();
}

#[test]
fn s1_8_a_transaction_is_one_commit() {
    let (stage, room) = Stage::with_room();
    fill(&room, "z");
    let before = stage.lsn();
    room.transaction(|room| {
        room.put("a", "1")?;
        room.delete("z")?;
        room.set_alarm(stage.after(5))?;
        Ok::<_, Refusal>(())
    })
    .unwrap();
    assert_eq!(stage.lsn() - before, 1);
}

#[test]
fn s1_8_a_transaction_that_failed_commits_nothing() {
    let (stage, room) = Stage::with_room();
    fill(&room, "z");
    let before = stage.lsn();
    room.transaction(|room| {
        room.put("a", "1")?;
        refuse()
    })
    .unwrap_err();
    assert_eq!(stage.lsn(), before);
}

#[test]
fn s1_8_writes_through_any_clone_are_in_the_transaction() {
    let (_stage, room) = Stage::with_room();
    let clone = room.clone();
    room.transaction(|inside| {
        inside.put("a", "1")?;
        clone.put("b", "2")?;
        room.put("c", "3")?;
        refuse()
    })
    .unwrap_err();
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_8_an_inner_rollback_undoes_the_inner_only() {
    let (_stage, room) = Stage::with_room();
    room.transaction(|room| {
        room.put("a", "outer")?;
        room.transaction(|room| {
            room.put("a", "inner")?;
            room.put("b", "inner")?;
            refuse()
        })
        .unwrap_err();
        assert_eq!(text(room, "a"), Some("outer".into()));
        room.put("c", "outer")?;
        Ok::<_, Refusal>(())
    })
    .unwrap();
    assert_eq!(keys(&room), "a c");
    assert_eq!(text(&room, "a"), Some("outer".into()));
}

#[test]
fn s1_8_an_outer_rollback_undoes_both() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "z");
    room.transaction(|room| {
        room.put("a", "outer")?;
        room.transaction(|room| {
            room.put("b", "inner")?;
            Ok::<_, Refusal>(())
        })?;
        assert_eq!(keys(room), "a b z");
        refuse()
    })
    .unwrap_err();
    assert_eq!(keys(&room), "z");
}

#[test]
fn s1_8_transactions_nest_deeply() {
    fn nest(room: &Storage, depth: u32) -> Result<(), Refusal> {
        room.transaction(|room| {
            room.put(format!("{depth:03}"), "")?;
            if depth < 100 {
                nest(room, depth + 1).ok();
            }
            if depth % 10 == 5 { refuse() } else { Ok(()) }
        })
    }
    let (_stage, room) = Stage::with_room();
    nest(&room, 0).unwrap();
    assert_eq!(keys(&room), "000 001 002 003 004", "the failure at 5 takes all below with it");
}

#[test]
fn s1_8_a_panic_rolls_the_transaction_back_and_breaks_the_object() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        room.transaction(|room| {
            room.put("b", "1")?;
            assert!(text(room, "b").is_none(), "planned panic");
            Ok::<_, Refusal>(())
        })
    }));
    assert!(panicked.is_err(), "the panic goes on to the caller");
    assert_eq!(room.broken().unwrap().kind(), ErrorKind::Broken);
    drop(room);
    assert_eq!(keys(&stage.room()), "a");
}

#[test]
fn s1_8_async_transactions_of_one_object_run_one_after_another() {
    let (stage, room) = Stage::with_room();
    let (mut crew, diary) = (Crew::new(), Diary::new());
    for number in 1..=3 {
        let (room, diary) = (room.clone(), diary.clone());
        crew.spawn(async move {
            let inner = room.clone();
            let body = async {
                diary.note(format!("s{number}"));
                let seen = inner.get("n")?.map_or(0, |value| value.len());
                pauses(3).await;
                inner.put("n", vec![0; seen + 1])?;
                diary.note(format!("e{number}"));
                Ok::<_, Error>(())
            };
            let done = room.run(async { room.transaction_async(|_| body).await }).await;
            done.unwrap().unwrap();
        });
    }
    stage.settle(&mut crew);
    assert_eq!(crew.left(), 0);
    assert_eq!(diary.line(), "s1 e1 s2 e2 s3 e3");
    assert_eq!(room.get("n").unwrap().unwrap().len(), 3);
}

#[test]
fn s1_8_an_async_transaction_hands_its_value_through() {
    let (stage, room) = Stage::with_room();
    let body = async {
        room.put("a", "1")?;
        pauses(2).await;
        room.put("b", "2")?;
        Ok::<_, Refusal>("done")
    };
    let value = stage.finish(room.run(async { room.transaction_async(|_| body).await }));
    assert_eq!(value.unwrap(), Ok("done"));
    assert_eq!(keys(&room), "a b");
}

#[test]
fn s1_8_an_async_transaction_that_fails_undoes_all_its_polls() {
    let (stage, room) = Stage::with_room();
    fill(&room, "z");
    let before = stage.lsn();
    let body = async {
        room.put("a", "1")?;
        pauses(2).await;
        room.delete("z")?;
        pauses(2).await;
        refuse()
    };
    let value = stage.finish(room.run(async { room.transaction_async(|_| body).await }));
    assert_eq!(value.unwrap(), Err(Refusal::Full));
    assert_eq!(keys(&room), "z");
    assert_eq!(stage.lsn(), before);
    assert!(room.broken().is_none());
}

#[test]
fn s1_8_an_async_transaction_is_one_commit() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    let body = async {
        room.put("a", "1")?;
        pauses(3).await;
        room.put("b", "2")?;
        pauses(3).await;
        room.put("c", "3")?;
        Ok::<_, Error>(())
    };
    stage.finish(room.run(async { room.transaction_async(|_| body).await })).unwrap().unwrap();
    assert_eq!(stage.lsn() - before, 1);
    assert_eq!(keys(&room), "a b c");
}

#[test]
fn s1_8_a_transaction_inside_an_async_one_is_a_savepoint_of_it() {
    let (stage, room) = Stage::with_room();
    let body = async {
        room.put("a", "1")?;
        pauses(1).await;
        room.transaction(|room| {
            room.put("b", "2")?;
            refuse()
        })
        .unwrap_err();
        pauses(1).await;
        room.transaction(|room| {
            room.put("c", "3")?;
            Ok::<_, Refusal>(())
        })?;
        Ok::<_, Refusal>(keys(&room))
    };
    let seen = stage.finish(room.run(async { room.transaction_async(|_| body).await }));
    assert_eq!(seen.unwrap(), Ok("a c".into()));
    assert_eq!(keys(&room), "a c");
}

#[test]
fn s1_8_a_list_taken_in_a_transaction_outlives_its_rollback() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a");
    let mut entries = None;
    room.transaction(|room| {
        room.put("b", "1")?;
        entries = Some(room.list(ListOptions::new())?);
        refuse()
    })
    .unwrap_err();
    assert_eq!(listed(entries.unwrap()), "a b", "it shows what the transaction had written");
    assert_eq!(keys(&room), "a");
}

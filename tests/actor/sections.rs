//! Transactions and critical sections.

use crate::stage::*;
use dostore::actor::{Durability, Storage, StorageOptions};
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind, Result};
use dostore::store::Store;
use dostore::store::commit::Position;
use parking_lot::Mutex;
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[test]
fn a_transaction_is_undone_where_it_fails_and_never_merged_with_what_stood_before() {
    let (storage, durability) = manual(&rooms());
    storage
        .enter(|| {
            storage.put("p", "1").unwrap();
            let failed: Result<()> = storage.transaction(|storage| {
                storage.put("p", "2")?;
                Err(refusal())
            });
            failed.unwrap_err();
            assert_eq!(text(&storage, "p").as_deref(), Some("1"));
            let nested: Result<()> = storage.transaction(|storage| {
                storage.put("q", "1")?;
                let inner: Result<()> = storage.transaction(|storage| {
                    storage.put("q", "2")?;
                    Err(refusal())
                });
                inner.unwrap_err();
                storage.put("r", "1")
            });
            nested.unwrap();
        })
        .unwrap();
    assert_eq!(text(&storage, "q").as_deref(), Some("1"));
    assert_eq!(text(&storage, "r").as_deref(), Some("1"));
    assert_eq!(durability.pending().len(), 2);
}

#[test]
fn a_transaction_over_polls_keeps_others_out_and_is_one_commit() {
    let (storage, durability) = manual(&rooms());
    let mut moving = pin!(storage.transaction_async(async |storage| {
        storage.put("a", "1")?;
        pause().await;
        storage.put("b", "1")?;
        Ok::<_, Error>(7)
    }));
    assert!(poll(&mut moving).is_pending());
    let mut other = pin!(storage.run(async { text(&storage, "a") }));
    assert!(poll(&mut other).is_pending());
    assert_eq!(text(&storage, "a"), None);
    assert_eq!(storage.put("c", "1").unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(storage.enter(|| ()).unwrap_err().code(), "gate.closed");
    assert!(matches!(poll(&mut moving), Poll::Ready(Ok(7))));
    assert_eq!(durability.pending().len(), 1);
    match poll(&mut other) {
        Poll::Ready(seen) => assert_eq!(seen.unwrap().as_deref(), Some("1")),
        Poll::Pending => panic!("the section is over"),
    }
}

#[test]
fn a_transaction_over_polls_is_undone_by_an_error_and_by_dropping_it() {
    let (storage, durability) = manual(&rooms());
    storage.put("a", "0").unwrap();
    let failing: Result<()> = finish(storage.transaction_async(async |storage| {
        storage.put("a", "1")?;
        pause().await;
        Err(refusal())
    }));
    failing.unwrap_err();
    let mut dropped = Box::pin(storage.transaction_async(async |storage| {
        storage.put("a", "2")?;
        pause().await;
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut dropped.as_mut()).is_pending());
    drop(dropped);
    assert_eq!(text(&storage, "a").as_deref(), Some("0"));
    assert_eq!(durability.pending().len(), 1);
    storage.put("a", "3").unwrap();
    assert!(storage.broken().is_none());
}

#[test]
fn transactions_nest_over_polls_and_stand_apart_from_loose_writes() {
    let (storage, durability) = manual(&rooms());
    let event = storage.run(async {
        storage.put("loose", "1").unwrap();
        let outer = storage.transaction_async(async |storage| {
            storage.put("a", "1")?;
            let inner: Result<()> = storage
                .transaction_async(async |storage| {
                    storage.put("a", "2")?;
                    pause().await;
                    Err(refusal())
                })
                .await;
            inner.unwrap_err();
            assert_eq!(text(&storage, "a").as_deref(), Some("1"));
            storage.transaction(|storage| storage.put("b", "1"))?;
            pause().await;
            Ok::<_, Error>(())
        });
        outer.await.unwrap();
        storage.put("behind", "1").unwrap();
    });
    finish(event).unwrap();
    assert_eq!(durability.pending().len(), 3);
    assert_eq!(text(&storage, "b").as_deref(), Some("1"));
}

#[test]
fn nobody_outside_a_transaction_reads_what_it_wrote() {
    let storage = open(&rooms());
    let event = storage.run(async {
        let mut transaction = pin!(storage.transaction_async(async |storage| {
            storage.put("a", "1")?;
            pause().await;
            assert_eq!(text(&storage, "a").as_deref(), Some("1"));
            Ok::<_, Error>(())
        }));
        assert!(poll(&mut transaction.as_mut()).is_pending());
        assert_eq!(text(&storage, "a"), None);
        assert!(storage.get_many(["a"]).unwrap().is_empty());
        transaction.await.unwrap();
        assert_eq!(text(&storage, "a").as_deref(), Some("1"));
    });
    finish(event).unwrap();
    let mut other = pin!(storage.transaction_async(async |storage| {
        storage.put("b", "1")?;
        pause().await;
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut other).is_pending());
    assert!(storage.get_many(["b"]).unwrap().is_empty(), "nor does a call from outside");
    assert!(matches!(poll(&mut other), Poll::Ready(Ok(()))));
}

#[test]
fn a_section_that_was_cut_undoes_nothing_of_a_later_one_when_it_is_dropped() {
    let storage = open(&rooms());
    let mut inner = None;
    let mut outer = Box::pin(storage.transaction_async(async |storage| {
        let put = storage.clone();
        let mut section = Box::pin(storage.transaction_async(async move |_| {
            put.put("inner", "1")?;
            pause().await;
            pause().await;
            Ok::<_, Error>(())
        }));
        assert!(poll(&mut section.as_mut()).is_pending());
        inner = Some(section);
        pause().await;
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut outer.as_mut()).is_pending());
    drop(outer);
    let event = storage.run(async {
        let outer = storage.transaction_async(async |storage| {
            let inside = storage.transaction_async(async |storage| {
                storage.put("x", "1")?;
                drop(inner.take());
                pause().await;
                Ok::<_, Error>(())
            });
            inside.await
        });
        outer.await.unwrap();
    });
    finish(event).unwrap();
    assert_eq!(text(&storage, "x").as_deref(), Some("1"));
    assert_eq!(text(&storage, "inner"), None);
}

#[test]
fn whoever_waits_inside_a_section_that_is_dropped_waits_at_the_object_from_then_on() {
    let storage = open(&rooms());
    let begun_inside = Cell::new(None);
    let mut outer = Box::pin(storage.transaction_async(async |storage| {
        let event = Box::pin(storage.run(async {}));
        let section = Box::pin(storage.transaction_async(async |_| Ok::<_, Error>(())));
        begun_inside.set(Some((event, section)));
        let inner = storage.transaction_async(async |_| std::future::pending::<Result<()>>().await);
        inner.await
    }));
    assert!(poll(&mut outer.as_mut()).is_pending());
    let (mut event, mut section) = begun_inside.take().unwrap();
    let bells: [Arc<Bell>; 2] = Default::default();
    assert!(poll_with(&mut event.as_mut(), &bells[0]).is_pending());
    assert!(poll_with(&mut section.as_mut(), &bells[1]).is_pending());
    drop(outer);
    assert!(bells[1].is_rung() && !bells[0].is_rung(), "sections come first");
    assert!(matches!(poll(&mut section.as_mut()), Poll::Ready(Ok(()))));
    assert!(bells[0].is_rung());
    assert!(matches!(poll(&mut event.as_mut()), Poll::Ready(Ok(()))));
}

#[test]
fn a_section_that_is_over_is_woken_when_the_one_inside_it_ends() {
    let storage = open(&rooms());
    let inner = Cell::new(None);
    let mut outer = Box::pin(storage.transaction_async(async |storage| {
        let mut section = Box::pin(storage.transaction_async(async |_| {
            pause().await;
            Ok::<_, Error>(())
        }));
        assert!(poll(&mut section.as_mut()).is_pending());
        inner.set(Some(section));
        Ok::<_, Error>(7)
    }));
    let bell = Arc::<Bell>::default();
    assert!(poll_with(&mut outer.as_mut(), &bell).is_pending());
    let mut inner = inner.take().unwrap();
    assert!(!bell.is_rung());
    assert!(poll(&mut inner.as_mut()).is_ready());
    assert!(bell.is_rung());
    assert!(matches!(poll(&mut outer.as_mut()), Poll::Ready(Ok(7))));
}

#[test]
fn code_beside_a_transaction_cannot_write_into_it() {
    let storage = open(&rooms());
    let event = storage.run(async {
        let mut transaction = pin!(storage.transaction_async(async |storage| {
            storage.put("a", "1")?;
            pause().await;
            Ok::<_, Error>(())
        }));
        assert!(poll(&mut transaction.as_mut()).is_pending());
        let refused = storage.put("b", "1").unwrap_err();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Busy, "storage.transaction"));
        transaction.await.unwrap();
        storage.put("b", "1").unwrap();
    });
    finish(event).unwrap();
    assert_eq!(text(&storage, "b").as_deref(), Some("1"));
}

#[test]
fn a_section_that_is_dropped_while_it_runs_breaks_the_object() {
    let storage = open(&rooms());
    let mut section = Box::pin(storage.block_concurrency_while(|| async {
        storage.put("a", "1").unwrap();
        pause().await;
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut section.as_mut()).is_pending());
    drop(section);
    assert_eq!(storage.get("a").unwrap_err().code(), "section.dropped");
}

#[test]
fn a_section_that_fails_breaks_all_around_it_but_keeps_what_it_wrote() {
    let rooms = rooms();
    let storage = open(&rooms);
    let outer = storage.block_concurrency_while(|| async {
        let inner: Result<()> = storage
            .block_concurrency_while(|| async {
                storage.put("a", "1").unwrap();
                Err(refusal())
            })
            .await;
        inner.unwrap_err();
        Ok::<_, Error>(())
    });
    assert_eq!(finish(outer).unwrap_err().code(), "section.failed");
    assert_eq!(text(&open(&rooms), "a").as_deref(), Some("1"));
}

#[test]
fn waiting_inside_a_section_for_an_event_outside_it_is_an_error() {
    let storage = open(&rooms());
    let outside = storage.run(async { 1 });
    let section = storage.block_concurrency_while(|| outside);
    let error = finish(section).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "gate.deadlock"));
    let other = open(&self::rooms());
    let inside = other.block_concurrency_while(|| async { other.run(async { 1 }).await });
    assert_eq!(finish(inside).unwrap(), 1);
}

#[test]
fn a_section_beyond_its_limit_breaks_the_object() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let object = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
    let section_limit = Duration::from_secs(2);
    let options = StorageOptions { section_limit, ..StorageOptions::default() };
    let storage = Storage::with_options(object, options);
    let mut section = pin!(storage.block_concurrency_while(|| async {
        std::future::pending::<()>().await;
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut section).is_pending());
    disk.advance(Duration::from_secs(1));
    let mut event = pin!(storage.run(async {}));
    assert!(poll(&mut event).is_pending());
    disk.advance(Duration::from_secs(1));
    match poll(&mut event) {
        Poll::Ready(done) => assert_eq!(done.unwrap_err().code(), "section.timeout"),
        Poll::Pending => panic!("the limit is over"),
    }
    assert_eq!(storage.broken().unwrap().code(), "section.timeout");
}

/// A durability that is stuck as it hears of a commit, and holds what is being sealed meanwhile.
#[derive(Debug)]
struct Stuck {
    hears: Sender<()>,
    goes_on: Mutex<Receiver<()>>,
}

impl Durability for Stuck {
    fn begin(&self, _: Position) {
        let _ = self.hears.send(());
        let _ = self.goes_on.lock().recv();
    }

    fn is_confirmed(&self, _: Position) -> bool {
        true
    }

    fn failure(&self, _: Position) -> Option<Error> {
        None
    }

    fn poll(&self, _: Position, _: &Waker) -> Option<Result<()>> {
        Some(Ok(()))
    }
}

/// A section that never ends.
fn stand(storage: &Storage) -> impl Future<Output = Result<()>> + use<> {
    storage.block_concurrency_while(std::future::pending::<Result<()>>)
}

/// On threads: what breaks an object waits for it, and the thread of all timers must not.
#[test]
fn a_limit_that_has_passed_in_an_object_that_is_stuck_holds_up_no_other() {
    const PATIENCE: Duration = Duration::from_mins(1);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    // Until the object is stuck before its limit has passed, on however busy a machine.
    for millis in (0..).map(|doubled| 20 << doubled) {
        let open = |name: &str, durability| {
            let section_limit = Duration::from_millis(millis);
            let options = StorageOptions { durability, section_limit };
            Storage::with_options(rooms.open_by_name(name).unwrap(), options)
        };
        let (hears, heard) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let stuck = Stuck { hears, goes_on: Mutex::new(goes_on) };
        let (stuck, other) = (open("stuck", Some(Arc::new(stuck) as _)), open("other", None));
        let mut first = pin!(stand(&stuck));
        assert!(poll(&mut first).is_pending());
        let is_stuck = std::thread::scope(|scope| {
            let put = scope.spawn(|| stuck.put("k", "v"));
            let is_stuck = heard.recv_timeout(Duration::from_millis(millis)).is_ok();
            if is_stuck {
                let (tell, told) = mpsc::channel();
                let second = stand(&other);
                scope.spawn(move || tell.send(block_on(second)));
                let broken = told.recv_timeout(PATIENCE).expect("nobody hears of the time");
                assert_eq!(broken.unwrap_err().code(), "section.timeout");
            }
            drop(go_on);
            let _ = put.join().unwrap();
            is_stuck
        });
        if is_stuck {
            assert_eq!(block_on(first).unwrap_err().code(), "section.timeout");
            return;
        }
    }
}

#[test]
fn a_million_waiters_are_let_in_one_by_one_or_broken_at_once() {
    const WAITERS: usize = 1_000_000;
    let storage = open(&rooms());
    let count = AtomicUsize::new(0);
    let mut section = Box::pin(storage.block_concurrency_while(|| async {
        pause().await;
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut section.as_mut()).is_pending());
    let event = |_| {
        storage.run(async {
            count.fetch_add(1, Ordering::Relaxed);
        })
    };
    let mut waiters: Vec<_> = (0..WAITERS).map(|number| Box::pin(event(number))).collect();
    for waiter in &mut waiters {
        assert!(poll(&mut waiter.as_mut()).is_pending());
    }
    finish(section).unwrap();
    for waiter in &mut waiters[..WAITERS / 2] {
        assert!(poll(&mut waiter.as_mut()).is_ready());
    }
    assert_eq!(count.load(Ordering::Relaxed), WAITERS / 2);
    storage.abort("the test says so");
    for waiter in &mut waiters[WAITERS / 2..] {
        assert!(matches!(poll(&mut waiter.as_mut()), Poll::Ready(Err(_))));
    }
}

#[test]
fn the_timer_of_the_store_ends_a_section_that_nobody_polls() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let storage = open(&store.namespace("rooms").unwrap());
    let is_woken = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&is_woken));
    let mut section = pin!(storage.block_concurrency_while(|| async {
        std::future::pending::<()>().await;
        Ok::<_, Error>(())
    }));
    assert!(section.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    disk.advance(Duration::from_secs(29));
    store.steps().tick();
    assert!(storage.broken().is_none());
    disk.advance(Duration::from_secs(1));
    store.steps().tick();
    assert_eq!(storage.broken().unwrap().code(), "section.timeout");
    assert!(is_woken.is_rung(), "the section's own task hears of it");
}

#[test]
fn a_section_that_is_over_in_time_is_not_limited_later() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let storage = open(&store.namespace("rooms").unwrap());
    finish(storage.transaction_async(async |storage| {
        pause().await;
        storage.put("a", "1")
    }))
    .unwrap();
    disk.advance(Duration::from_mins(1));
    store.steps().tick();
    assert_eq!(text(&storage, "a").as_deref(), Some("1"));
}

#[test]
fn g18_nothing_of_others_runs_inside_and_nothing_loose_goes_along() {
    let (storage, durability) = manual(&rooms());
    // Loose writes before a transaction are a commit of their own, whatever becomes of it.
    let entered = storage.enter(|| {
        storage.put("loose", "1").unwrap();
        let undone: Result<()> = storage.transaction(|inside| {
            inside.put("loose", "2").and_then(|()| inside.put("x", "2"))?;
            Err(refusal())
        });
        assert!(undone.is_err());
        storage.transaction(|inside| inside.put("x", "3")).unwrap();
        storage.put("after", "4").unwrap();
    });
    entered.unwrap();
    assert_eq!(durability.pending().len(), 3, "before, inside and after");
    assert_eq!(["loose", "x", "after"].map(|key| text(&storage, key).unwrap()), ["1", "3", "4"]);
    // Over several polls as well; one that is dropped leaves nothing.
    let moving = |value: &'static str| {
        storage.transaction_async(async move |inside| {
            inside.put("x", value)?;
            pause().await;
            inside.put("y", value)?;
            pause().await;
            Ok::<_, Error>(())
        })
    };
    let mut dropped = Box::pin(moving("dropped"));
    for _ in 0..2 {
        assert!(poll(&mut dropped.as_mut()).is_pending());
    }
    drop(dropped);
    assert_eq!((text(&storage, "x").as_deref(), text(&storage, "y")), (Some("3"), None));
    let ran = AtomicUsize::new(0);
    let mut kept = Box::pin(moving("kept"));
    let event = || {
        storage.run(async {
            ran.fetch_add(1, Ordering::SeqCst);
            text(&storage, "y")
        })
    };
    let mut others = [Box::pin(event()), Box::pin(event())];
    for _ in 0..2 {
        assert!(poll(&mut kept.as_mut()).is_pending());
        assert!(others.iter_mut().all(|other| poll(&mut other.as_mut()).is_pending()));
    }
    assert_eq!((ran.load(Ordering::SeqCst), durability.pending().len()), (0, 3));
    finish(kept).unwrap();
    assert_eq!(durability.pending().len(), 4, "one commit");
    for other in others {
        assert_eq!(finish(other).unwrap().as_deref(), Some("kept"));
    }
}

#[test]
fn g18_a_section_that_cannot_end_does_not_hold_its_object_for_ever() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    for is_transaction in [false, true] {
        let storage = open(&store.namespace("rooms").unwrap());
        let forever = async || {
            storage.put("k", "1")?;
            std::future::pending::<Result<()>>().await
        };
        let plain = storage.block_concurrency_while(forever);
        let transaction = storage.transaction_async(async |_| forever().await);
        let mut plain = pin!(plain);
        let mut transaction = pin!(transaction);
        let polled = if is_transaction { poll(&mut transaction) } else { poll(&mut plain) };
        assert!(polled.is_pending());
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut waits = pin!(storage.run(async {}));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        disk.advance(Duration::from_secs(29));
        store.steps().tick();
        assert!(!bell.is_rung());
        disk.advance(Duration::from_secs(2));
        store.steps().tick();
        assert!(bell.is_rung(), "whoever waits is told");
        let Poll::Ready(Err(error)) = poll(&mut waits) else { panic!("it waits for ever") };
        assert_eq!(error.code(), "section.timeout");
        // What a transaction wrote is gone with it, and the object can be opened again.
        let again = open(&store.namespace("rooms").unwrap());
        assert_eq!(text(&again, "k").is_some(), !is_transaction);
        again.delete("k").unwrap();
    }
}

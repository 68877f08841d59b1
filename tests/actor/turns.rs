//! What becomes durable together, and what a panic or an abort leaves.

use crate::stage::*;
use dostore::actor::Storage;
use dostore::error::{Error, ErrorKind};
use dostore::store::list::ListOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::Poll;

#[test]
fn one_poll_is_one_commit() {
    let (storage, durability) = manual(&rooms());
    finish(storage.run(async {
        storage.put("a", "1").unwrap();
        storage.put("b", "2").unwrap();
        pause().await;
        storage.put("c", "3").unwrap();
    }))
    .unwrap();
    assert_eq!(durability.pending().len(), 2);
    storage.enter(|| storage.put("d", "4").and_then(|()| storage.put("e", "5"))).unwrap().unwrap();
    assert_eq!(durability.pending().len(), 3);
    storage.put("f", "6").unwrap();
    assert_eq!(durability.pending().len(), 4);
}

#[test]
fn tasks_on_several_threads_never_mix_their_turns() {
    const THREADS: usize = 4;
    const TURNS: usize = 500;
    let storage = open(&rooms());
    storage.put_many([("a", "0"), ("b", "0")]).unwrap();
    let inside = AtomicUsize::new(0);
    let task = |number: usize| {
        let (storage, inside) = (&storage, &inside);
        storage.run(async move {
            for turn in 0..TURNS {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                assert_eq!(text(storage, "a"), text(storage, "b"));
                let value = format!("{number} {turn}");
                storage.put("a", &value).unwrap();
                std::thread::yield_now();
                assert_eq!(text(storage, "a"), Some(value.clone()));
                storage.put("b", &value).unwrap();
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                pause().await;
            }
        })
    };
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || block_on(task(number)).unwrap());
        }
        // A thread without a future, and one that only reads, beside them.
        scope.spawn(|| {
            for _ in 0..TURNS {
                let enter = || {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    assert_eq!(text(&storage, "a"), text(&storage, "b"));
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                };
                storage.enter(enter).unwrap();
                let both = storage.get_many(["a", "b"]).unwrap();
                assert_eq!(both[&b"a"[..]], both[&b"b"[..]]);
            }
        });
    });
}

#[test]
fn a_write_from_another_thread_waits_for_the_poll_and_is_a_turn_of_its_own() {
    let (storage, durability) = manual(&rooms());
    let is_near = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let poll = storage.run(async {
            storage.put("k", "before").unwrap();
            scope.spawn(|| {
                is_near.store(true, Ordering::SeqCst);
                storage.put("k", "outside").unwrap();
            });
            while !is_near.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            (0..1000).for_each(|_| std::thread::yield_now());
            storage.put("k", "inside").unwrap();
        });
        finish(poll).unwrap();
    });
    assert_eq!(text(&storage, "k").as_deref(), Some("outside"));
    assert_eq!(durability.pending().len(), 2);
}

#[test]
fn reads_outside_show_what_is_sealed_and_wait_for_nobody() {
    let storage = open(&rooms());
    let event = storage.run(async {
        storage.put("k", "open").unwrap();
        let seen = std::thread::scope(|scope| scope.spawn(|| text(&storage, "k")).join().unwrap());
        assert_eq!(seen, None);
        assert_eq!(text(&storage, "k").as_deref(), Some("open"));
    });
    finish(event).unwrap();
    assert_eq!(text(&storage, "k").as_deref(), Some("open"));
}

#[test]
fn a_panic_drops_the_open_turn_and_breaks_the_object() {
    let rooms = rooms();
    let (storage, durability) = manual(&rooms);
    let mut event = Box::pin(storage.run(async {
        storage.put("sealed", "1").unwrap();
        pause().await;
        storage.put("open", "1").unwrap();
        panic!("of the test");
    }));
    assert!(poll(&mut event.as_mut()).is_pending());
    let before = storage.gate();
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut event.as_mut()))).is_err());
    let error = storage.get("sealed").unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Broken, "object.panicked"));
    assert_eq!(storage.put("k", "1").unwrap_err().code(), "object.panicked");
    assert_eq!(block_on(storage.run(async {})).unwrap_err().code(), "object.panicked");
    assert_eq!(storage.gate().wait().unwrap_err().code(), "object.panicked");
    durability.confirm_all();
    before.wait().unwrap();
    // Although clones of the broken one are still there.
    let again = open(&rooms);
    assert_eq!(text(&again, "sealed").as_deref(), Some("1"));
    assert_eq!(text(&again, "open"), None);
}

#[test]
fn a_panic_that_is_caught_inside_a_turn_breaks_the_object_too() {
    let storage = open(&rooms());
    let entered = storage.enter(|| {
        storage.put("k", "1").unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| storage.enter(|| panic!("of the test"))));
        assert!(caught.is_err());
        storage.put("k", "2").unwrap_err()
    });
    assert_eq!(entered.unwrap_err().code(), "object.panicked");
}

#[test]
fn an_abort_drops_the_open_turn_and_wakes_who_waits() {
    let rooms = rooms();
    let storage = open(&rooms);
    storage.put("k", "sealed").unwrap();
    let mut holder = pin!(storage.block_concurrency_while(|| async {
        pause().await;
        storage.put("k", "open").unwrap();
        storage.abort("the test says so");
        assert_eq!(storage.get("k").unwrap_err().code(), "object.aborted");
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut holder).is_pending());
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let waiting = storage.clone();
        scope.spawn(move || {
            let mut event = pin!(waiting.run(async {}));
            assert!(poll(&mut event.as_mut()).is_pending());
            tell.send(()).unwrap();
            assert_eq!(block_on(event).unwrap_err().code(), "object.aborted");
        });
        told.recv().unwrap();
        match poll(&mut holder) {
            Poll::Ready(done) => assert_eq!(done.unwrap_err().code(), "object.aborted"),
            Poll::Pending => panic!("the object is broken"),
        }
    });
    assert!(storage.broken().unwrap().to_string().contains("the test says so"));
    assert_eq!(text(&open(&rooms), "k").as_deref(), Some("sealed"));
}

#[test]
fn everybody_who_waits_hears_of_an_object_that_breaks_inside_a_turn() {
    let storage = open(&rooms());
    let mut holder = pin!(storage.block_concurrency_while(|| async {
        pause().await;
        storage.abort("the test says so");
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut holder).is_pending());
    let bells: [Arc<Bell>; 3] = Default::default();
    let mut events: Vec<_> = bells.iter().map(|_| Box::pin(storage.run(async {}))).collect();
    for (event, bell) in events.iter_mut().zip(&bells) {
        assert!(poll_with(&mut event.as_mut(), bell).is_pending());
    }
    assert!(poll(&mut holder).is_ready());
    assert!(bells.iter().all(|bell| bell.is_rung()), "not only whoever is next");
}

#[test]
fn a_dropped_future_keeps_its_sealed_turns_and_gives_up_its_place() {
    let storage = open(&rooms());
    let mut event = Box::pin(storage.run(async {
        storage.put("a", "1").unwrap();
        pause().await;
        storage.put("b", "1").unwrap();
    }));
    assert!(poll(&mut event.as_mut()).is_pending());
    drop(event);
    assert_eq!(text(&storage, "a").as_deref(), Some("1"));
    assert_eq!(text(&storage, "b"), None);

    let mut section = Box::pin(storage.block_concurrency_while(|| async {
        pause().await;
        Ok::<_, Error>(())
    }));
    assert!(poll(&mut section.as_mut()).is_pending());
    let mut first = Box::pin(storage.run(async {}));
    let mut second = pin!(storage.run(async {}));
    assert!(poll(&mut first.as_mut()).is_pending());
    assert!(poll(&mut second).is_pending());
    finish(section).unwrap();
    assert!(poll(&mut second).is_pending(), "the first one comes first");
    drop(first);
    assert!(poll(&mut second).is_ready());
}

#[test]
fn calls_inside_a_turn_join_it() {
    let (storage, durability) = manual(&rooms());
    let event = storage.run(async {
        storage.put("a", "1").unwrap();
        storage.run(async { storage.put("b", "1").unwrap() }).await.unwrap();
        storage.enter(|| storage.put("c", "1").unwrap()).unwrap();
        assert_eq!(durability.pending().len(), 0);
    });
    finish(event).unwrap();
    assert_eq!(durability.pending().len(), 1);
}

#[test]
fn keys_versions_and_attachments_stand_apart() {
    let storage = open(&rooms());
    assert_eq!(storage.user_version().unwrap(), 0);
    storage.set_user_version(7).unwrap();
    storage.put_attachment(b"s1", "tags").unwrap();
    storage.put_attachment(b"s2", "more").unwrap();
    storage.put("s1", "key").unwrap();
    assert_eq!(storage.attachment(b"s1").unwrap().as_deref(), Some(&b"tags"[..]));
    assert!(storage.delete_attachment(b"s2").unwrap());
    assert!(!storage.delete_attachment(b"s2").unwrap());
    let all: Vec<_> = storage.attachments().unwrap().map(|entry| entry.unwrap().0).collect();
    assert!(matches!(&all[..], [socket] if **socket == *b"s1"));
    assert_eq!(storage.count(ListOptions::new()).unwrap(), 1);
    storage.delete_all().unwrap();
    assert_eq!(storage.user_version().unwrap(), 0);
    assert_eq!(storage.attachments().unwrap().count(), 0);
}

/// A thread for each of so many objects is inside a turn of it and writes to the next one.
fn in_a_circle(objects: usize) -> Vec<Option<&'static str>> {
    let rooms = rooms();
    let name = |number: usize| format!("room {}", number % objects);
    let storages: Vec<_> =
        (0..objects).map(|n| Storage::open(rooms.open_by_name(&name(n)).unwrap())).collect();
    let all_inside = Barrier::new(objects);
    let work = |number: usize| {
        let entered = storages[number].enter(|| {
            storages[number].put("own", "1").unwrap();
            all_inside.wait();
            storages[(number + 1) % objects].put("other", "1")
        });
        entered.unwrap().err().map(|error| {
            assert!(error.is_retryable());
            error.code()
        })
    };
    let codes = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..objects).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(storages.iter().all(|storage| text(storage, "own").is_some()));
    codes
}

#[test]
fn threads_that_write_to_each_others_objects_inside_turns_do_not_wait_for_ever() {
    for objects in [2, 3, 5] {
        for _ in 0..50 {
            let codes = in_a_circle(objects);
            let refused: Vec<_> = codes.into_iter().flatten().collect();
            // The one that would have closed the circle; all others got what they waited for.
            assert_eq!(refused, ["turn.deadlock"]);
        }
    }
}

#[test]
fn a_section_that_is_dropped_where_its_turn_cannot_be_waited_for_is_over_all_the_same() {
    for _ in 0..20 {
        let rooms = rooms();
        let (a, b) = (open(&rooms), Storage::open(rooms.open_by_name("cellar").unwrap()));
        let mut never = Box::pin(
            a.transaction_async(async |_| std::future::pending::<Result<(), Error>>().await),
        );
        assert!(poll(&mut never.as_mut()).is_pending());
        let both_inside = Barrier::new(2);
        std::thread::scope(|scope| {
            let (a, b, both_inside) = (&a, &b, &both_inside);
            scope.spawn(move || {
                // Asked for inside a turn of the first object.
                let keys = std::iter::once_with(|| {
                    both_inside.wait();
                    // The turn of the other: refused, or had when the other thread lets it go.
                    let _ = b.put("k", "1");
                    "k"
                });
                let _ = a.get_many(keys);
            });
            let entered = b.enter(|| {
                both_inside.wait();
                (0..1000).for_each(|_| std::thread::yield_now());
                drop(never);
            });
            entered.unwrap();
        });
        match a.broken() {
            Some(error) => assert_eq!(error.code(), "section.dropped"),
            None => a.enter(|| a.put("k", "1")).unwrap().unwrap(),
        }
    }
}

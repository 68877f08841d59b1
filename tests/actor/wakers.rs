//! Wakers that call back into the object: none is called or dropped while a lock is held.

use crate::stage::*;
use dostore::actor::Storage;
use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::store::Store;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A waker that calls back when it is woken, and when its last clone is dropped.
struct Calls(Box<dyn Fn() + Send + Sync>);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn calls(call: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Calls(Box::new(call))))
}

/// Runs a script on a thread of its own: a waker that waits for a lock which its caller holds must
/// not keep the test from failing.
fn patiently(script: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let run = move || {
        script();
        tell.send(()).unwrap();
    };
    std::thread::Builder::new().spawn(run).unwrap();
    told.recv_timeout(Duration::from_mins(1)).expect("a waker was called under a lock");
}

/// Uses everything of an object that takes a lock of it, and counts.
fn use_all(storage: &Storage, count: &AtomicUsize) {
    let _ = storage.put("k", "1");
    let _ = storage.get("k");
    let _ = storage.gate().is_open();
    let _ = storage.alarm();
    drop(storage.run(async {}));
    count.fetch_add(1, Ordering::SeqCst);
}

fn user(storage: &Storage, count: &Arc<AtomicUsize>) -> Waker {
    let (storage, count) = (storage.clone(), Arc::clone(count));
    calls(move || use_all(&storage, &count))
}

#[test]
fn whoever_waits_at_the_input_gate_may_use_the_object_when_woken_or_forgotten() {
    patiently(|| {
        let storage = open(&rooms());
        let count = Arc::<AtomicUsize>::default();
        let mut section = Box::pin(storage.block_concurrency_while(|| async {
            pause().await;
            Ok::<_, Error>(())
        }));
        assert!(poll(&mut section.as_mut()).is_pending());
        let mut events: Vec<_> = (0..4).map(|_| Box::pin(storage.run(async {}))).collect();
        for event in &mut events {
            // The second waker takes the place of the first, whose last clone goes.
            for _ in 0..2 {
                let waker = user(&storage, &count);
                assert!(event.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        assert_eq!(count.load(Ordering::SeqCst), 4);
        drop(events.pop());
        assert_eq!(count.load(Ordering::SeqCst), 5);
        finish(section).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 7, "the first was woken, and its waker went");
        storage.abort("the test says so");
        assert_eq!(count.load(Ordering::SeqCst), 11);
    });
}

#[test]
fn a_section_may_use_the_object_when_it_is_woken_or_ends() {
    patiently(|| {
        let storage = open(&rooms());
        let count = Arc::<AtomicUsize>::default();
        let own = storage.clone();
        let mut inner = None;
        let mut outer = Box::pin(storage.block_concurrency_while(|| {
            inner = Some(Box::pin(own.block_concurrency_while(|| async {
                pause().await;
                Ok::<_, Error>(())
            })));
            let mut inner = inner.take().unwrap();
            async move {
                assert!(poll(&mut inner.as_mut()).is_pending());
                Ok::<_, Error>(inner)
            }
        }));
        for _ in 0..3 {
            let waker = user(&storage, &count);
            assert!(outer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert!(count.load(Ordering::SeqCst) >= 2, "those that were replaced");
        storage.abort("the test says so");
        drop(outer);
        assert!(count.load(Ordering::SeqCst) >= 4);
    });
}

#[test]
fn whoever_waits_at_the_output_gate_may_use_the_object_when_woken() {
    patiently(|| {
        let (storage, durability) = manual(&rooms());
        let count = Arc::<AtomicUsize>::default();
        storage.put("k", "0").unwrap();
        let (first, second) = (storage.gate(), storage.gate());
        let (mut first, mut second) = (pin!(first), pin!(second));
        for gate in [&mut first, &mut second] {
            let waker = user(&storage, &count);
            assert!(gate.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        durability.confirm(durability.pending()[0]);
        assert_eq!(count.load(Ordering::SeqCst), 4, "woken, and gone");
        for gate in [&mut first, &mut second] {
            assert!(matches!(poll(gate), Poll::Ready(Ok(()))));
        }
        // A gate on the open turn is bound to its end.
        let (own, seen) = (storage.clone(), Arc::clone(&count));
        finish(storage.run(async move {
            own.put("k", "2").unwrap();
            let mut gate = pin!(own.gate());
            let waker = user(&own, &seen);
            assert!(gate.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }))
        .unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 6);
        storage.put("k", "3").unwrap();
        let mut third = pin!(storage.gate());
        let waker = user(&storage, &count);
        assert!(third.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        durability.fail(durability.pending()[0]);
        assert!(count.load(Ordering::SeqCst) >= 7);
    });
}

#[test]
fn whoever_waits_for_the_log_may_use_the_object_whose_commit_finds_the_group_full() {
    patiently(|| {
        let options = Store::options().wal_file_bytes(64 << 10);
        let store = options.open_on(SimDisk::new(1)).unwrap();
        let storage = open(&store.namespace("rooms").unwrap());
        let count = Arc::<AtomicUsize>::default();
        let big = vec![7; 20 << 10];
        for _ in 0..200 {
            storage.put("small", "1").unwrap();
            let mut gate = pin!(storage.gate());
            let waker = user(&storage, &count);
            let _ = gate.as_mut().poll(&mut Context::from_waker(&waker));
            drop(waker);
            // Two fill a group: the third is written by whoever comes first, this thread or the
            // log's.
            for _ in 0..4 {
                storage.put("big", &big).unwrap();
            }
            gate.wait().unwrap();
        }
        assert!(count.load(Ordering::SeqCst) >= 200);
        drop(storage);
        store.close().unwrap();
    });
}

/// A waker that does something once, when it is woken.
fn once(code: impl FnOnce() + Send + 'static) -> Waker {
    struct Once<F: FnOnce() + Send>(std::sync::Mutex<Option<F>>);
    impl<F: FnOnce() + Send> Wake for Once<F> {
        fn wake(self: Arc<Self>) {
            let code = self.0.lock().unwrap().take();
            if let Some(code) = code {
                code();
            }
        }
    }
    Waker::from(Arc::new(Once(std::sync::Mutex::new(Some(code)))))
}

/// A turn that writes and polls a gate on itself with this waker.
fn turn_with_gate(storage: &Storage, waker: &Waker) -> dostore::error::Result<()> {
    finish(storage.run(async {
        storage.put("turn", "1").unwrap();
        let mut gate = pin!(storage.gate());
        assert!(gate.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }))
}

#[test]
fn what_a_waker_writes_when_a_turn_ends_is_a_turn_of_its_own() {
    patiently(|| {
        let rooms = rooms();
        let (storage, durability) = manual(&rooms);
        let own = storage.clone();
        let waker = once(move || {
            own.put("waker", "1").unwrap();
            finish(own.run(async { own.put("event", "1") })).unwrap().unwrap();
        });
        turn_with_gate(&storage, &waker).unwrap();
        assert_eq!(durability.pending().len(), 3);
        storage.close();
        let again = open(&rooms);
        for key in ["turn", "waker", "event"] {
            assert_eq!(text(&again, key).as_deref(), Some("1"), "{key}");
        }
    });
}

#[test]
fn what_is_written_by_who_waits_for_an_alarm_is_no_part_of_the_turn_that_sets_one() {
    patiently(|| {
        let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let (storage, durability) = manual(&rooms);
        let alarms = store.alarms();
        let mut next = pin!(alarms.next());
        let own = storage.clone();
        let waker = once(move || own.put("waker", "1").unwrap());
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        finish(storage.run(async { storage.set_alarm(Duration::from_secs(1)) })).unwrap().unwrap();
        assert_eq!(durability.pending().len(), 2);
        storage.close();
        assert_eq!(text(&open(&rooms), "waker").as_deref(), Some("1"));
    });
}

#[test]
fn a_waker_that_panics_harms_nobody_else() {
    patiently(|| {
        let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let panics = || once(|| panic!("the executor is gone"));
        let mut kept = Vec::new();
        let storage = open(&rooms);
        turn_with_gate(&storage, &panics()).unwrap();
        storage.put("later", "1").unwrap();
        // Those who wait for the turn, behind a section.
        let mut section = pin!(storage.block_concurrency_while(|| async {
            pause().await;
            Ok::<_, Error>(())
        }));
        assert!(poll(&mut section).is_pending());
        let bell = Arc::<Bell>::default();
        for waker in [panics(), Waker::from(Arc::clone(&bell))] {
            let mut event = Box::pin(storage.run(async {}));
            assert!(event.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            kept.push(event);
        }
        storage.abort("the test says so");
        assert!(bell.is_rung());
        assert_eq!(text(&open(&rooms), "later").as_deref(), Some("1"));
        // Those who wait for an alarm.
        let alarms = store.alarms();
        let bell = Arc::<Bell>::default();
        let (mut first, mut second) = (pin!(alarms.next()), pin!(alarms.next()));
        assert!(first.as_mut().poll(&mut Context::from_waker(&panics())).is_pending());
        assert!(poll_with(&mut second, &bell).is_pending());
        open(&rooms).set_alarm(Duration::from_secs(1)).unwrap();
        assert!(bell.is_rung());
    });
}

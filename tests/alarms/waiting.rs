//! Waiting for alarms: who is woken, when, and by whom.

use super::{World, at, plain};
use dostore::error::ErrorKind;
use dostore::ids::Timestamp;
use dostore::store::Store;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Counts how often it was woken.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicUsize>);

impl Flag {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_future_is_woken_by_time_by_new_alarms_and_by_what_comes_back() {
    let world = World::new(22);
    let woken = Flag::default();
    let waker = Waker::from(Arc::new(woken.clone()));
    let mut context = Context::from_waker(&waker);
    let mut next = pin!(world.alarms.next());
    assert!(next.as_mut().poll(&mut context).is_pending());
    world.set("a", None, 10);
    assert_eq!(woken.count(), 1);
    assert!(next.as_mut().poll(&mut context).is_pending());
    world.set("far", None, 1_000_000);
    assert_eq!(woken.count(), 1, "a later one wakes nobody");
    for _ in 0..12 {
        world.pass(1);
        world.store.steps().tick();
        let seen = woken.count();
        match next.as_mut().poll(&mut context) {
            Poll::Pending => assert!(seen >= 2, "the clock is looked at each second"),
            Poll::Ready(fired) => {
                let fired = fired.unwrap();
                assert_eq!(fired.scheduled(), at(10));
                let mut again = pin!(world.alarms.next());
                assert!(again.as_mut().poll(&mut context).is_pending());
                let before = woken.count();
                drop(fired);
                assert_eq!(woken.count(), before + 1);
                world.pass(3);
                assert!(again.as_mut().poll(&mut context).is_ready());
                return;
            }
        }
    }
    panic!("it never fired");
}

#[test]
fn waiting_needs_threads() {
    let world = World::new(23);
    assert_eq!(world.alarms.next().wait().unwrap_err().code(), "alarm.wait");
}

#[test]
fn a_store_with_threads_delivers_alarms_to_whoever_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("data")).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut object = rooms.open_by_name("a").unwrap();
    let mut turn = object.turn();
    turn.set_alarm(Timestamp(1)).unwrap();
    turn.commit_durable().unwrap();
    let fired = store.alarms().next().wait().unwrap();
    assert_eq!(fired.object_name().unwrap().as_deref(), Some("a"));
    let mut turn = object.turn();
    turn.complete_alarm(&fired).unwrap();
    turn.commit_durable().unwrap();
    drop((fired, object));
    assert!(store.alarms().try_next().unwrap().is_none());
    store.close().unwrap();
}

#[test]
fn a_clean_shutdown_keeps_alarms_and_ends_waiting() {
    let world = World::new(21);
    world.set("a", None, 10);
    let World { disk, store, rooms, alarms } = world;
    let waiting = Flag::default();
    let waker = Waker::from(Arc::new(waiting.clone()));
    let mut next = Box::pin(alarms.next());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    store.close().unwrap();
    assert_eq!(waiting.count(), 1);
    let Poll::Ready(done) = next.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("a closed store has no alarms to wait for");
    };
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Broken);
    drop((next, rooms, alarms));
    let world = World::open(disk);
    world.pass(60);
    assert_eq!(world.drain(), [plain("a")]);
}

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

#[test]
fn whoever_waits_for_an_alarm_may_use_the_store_when_woken_or_forgotten() {
    patiently(|| {
        let world = World::new(24);
        let count = Arc::<AtomicUsize>::default();
        let user = || {
            let (alarms, rooms) = (world.alarms.clone(), world.rooms.clone());
            let count = Arc::clone(&count);
            calls(move || {
                // The object whose commit set the alarm is not locked, nor is the index.
                drop(alarms.try_next());
                let _ = alarms.next_due();
                if let Ok(view) = rooms.snapshot(rooms.id_from_name("a")) {
                    let _ = view.get("k");
                }
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        let mut next = pin!(world.alarms.next());
        for _ in 0..2 {
            assert!(next.as_mut().poll(&mut Context::from_waker(&user())).is_pending());
        }
        // The timer still had the first when its place in the index was taken.
        assert_eq!(count.load(Ordering::SeqCst), 1);
        world.set("a", None, 10);
        assert!(count.load(Ordering::SeqCst) >= 2, "an alarm was set");
        assert!(next.as_mut().poll(&mut Context::from_waker(&user())).is_pending());
        world.pass(1);
        world.store.steps().tick();
        let before = count.load(Ordering::SeqCst);
        let mut other = Box::pin(world.alarms.next());
        assert!(other.as_mut().poll(&mut Context::from_waker(&user())).is_pending());
        drop(other);
        assert_eq!(count.load(Ordering::SeqCst), before + 1, "whoever is forgotten");
    });
}

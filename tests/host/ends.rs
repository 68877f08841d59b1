//! How objects and hosts end: resets, refusals, closing, and executors that go away.

use super::stage::*;
use dostore::actor::host::{Host, Spawner, Task};
use dostore::disk::sim::Fault;
use dostore::error::ErrorKind;
use dostore::store::Store;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_panic_resets_the_object_and_tells_everybody_who_waits() {
    let world = World::new();
    world.ask(add(1)).unwrap();
    let lobby = world.lobby();
    let signal = Signal::default();
    let own = signal.clone();
    let panics = lobby.send(alone(move |context| async move {
        context.storage().put("sum", 10_u64.to_le_bytes())?;
        own.wait().await;
        context.storage().put("sum", 20_u64.to_le_bytes())?;
        panic!("on purpose")
    }));
    world.run();
    let waits = lobby.send(add(100));
    signal.give();
    let failed = world.outcome(panics).unwrap_err();
    assert_eq!(code(&failed), "actor.panicked");
    assert!(failed.to_string().contains("on purpose"), "{failed}");
    assert_eq!(code(&world.outcome(waits).unwrap_err()), "actor.panicked");
    assert!(!world.is_active());
    assert_eq!((world.ask(add(1)).unwrap(), world.starts()), (11, 2), "what was sealed stays");
}

#[test]
fn an_abort_resets_the_object_and_an_error_does_not() {
    let world = World::new();
    let failed = world.ask(alone(|context| async move {
        context.storage().put("sum", 7_u64.to_le_bytes())?;
        Err(Failed::Own("refused"))
    }));
    assert_eq!(code(&failed.unwrap_err()), "refused");
    assert_eq!((world.ask(add(0)).unwrap(), world.starts()), (7, 1), "its writes stay");
    let aborts = world.lobby().send(alone(|context| async move {
        context.storage().put("sum", 8_u64.to_le_bytes())?;
        context.storage().abort("enough");
        Ok(0)
    }));
    let waits = world.lobby().send(add(1));
    assert_eq!(code(&world.outcome(aborts).unwrap_err()), "actor.reset");
    assert_eq!(code(&world.outcome(waits).unwrap_err()), "actor.reset");
    assert_eq!((world.ask(add(0)).unwrap(), world.starts()), (7, 2));
}

#[test]
fn a_sync_that_fails_is_told_by_the_reply_and_resets_the_object() {
    let world = World::new();
    assert_eq!(world.ask(add(1)).unwrap(), 1);
    let lost = world.lobby().send(add(1));
    world.run();
    // The write of the group, then its sync.
    world.disk.fail_call(2, Fault::Io);
    let failed = world.outcome(lost).unwrap_err();
    assert_eq!(code(&failed), "gate.broken");
    world.run();
    assert!(!world.is_active(), "nobody else had asked");
}

#[test]
fn a_reply_that_outlives_its_object_in_memory_is_told_of_a_sync_that_fails() {
    let world = World::new();
    let lost = world.class.send("lobby", add(1));
    world.run();
    world.pass(IDLE * 2);
    assert!(!world.is_active());
    world.disk.fail_call(2, Fault::Io);
    assert_eq!(code(&world.outcome(lost).unwrap_err()), "gate.broken");
}

#[test]
fn an_object_that_cannot_start_says_so_and_is_tried_again() {
    let world = World::new();
    world.tools.refuses.store(true, Ordering::Relaxed);
    let (first, second) = (world.lobby().send(add(1)), world.lobby().send(add(1)));
    for reply in [first, second] {
        let failed = world.outcome(reply).unwrap_err();
        assert_eq!(code(&failed), "actor.start");
        assert!(failed.to_string().contains("not today"), "{failed}");
    }
    assert_eq!(world.starts(), 1);
    world.tools.refuses.store(false, Ordering::Relaxed);
    assert_eq!(world.ask(add(1)).unwrap(), 1);
}

#[test]
fn an_object_that_somebody_else_has_open_is_busy() {
    let world = World::new();
    let outside = world.class.namespace().open_by_name("lobby").unwrap();
    assert_eq!(code(&world.ask(add(1)).unwrap_err()), "object.open");
    drop(outside);
    assert_eq!(world.ask(add(1)).unwrap(), 1);
}

/// Panics when it goes.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn messages_that_panic_when_they_go_take_nobody_along() {
    let world = World::new();
    world.tools.refuses.store(true, Ordering::Relaxed);
    let lobby = world.lobby();
    let bomb = || {
        let bomb = Bomb;
        alone(move |_| async move {
            drop(bomb);
            Ok(0)
        })
    };
    let replies: Vec<_> = (0..3).map(|_| lobby.send(bomb())).collect();
    world.run();
    for reply in replies {
        assert_eq!(code(&world.outcome(reply).unwrap_err()), "actor.start");
    }
    world.tools.refuses.store(false, Ordering::Relaxed);
    assert_eq!(code(&world.ask(bomb()).unwrap_err()), "actor.panicked");
    assert_eq!(world.ask(add(1)).unwrap(), 1);
}

#[test]
fn closing_handles_what_was_taken_and_takes_nothing_more() {
    let world = World::new();
    let signal = Signal::default();
    let lobby = world.lobby();
    let waits = lobby.send(wait_for(&signal));
    let own = signal.clone();
    let runs = world.class.send(
        "cellar",
        beside(move |context| async move {
            own.wait().await;
            context.storage().put("sum", 4_u64.to_le_bytes())?;
            Ok(4)
        }),
    );
    world.run();
    let taken = lobby.send(add(3));
    let World { disk, store, pool, host, class, .. } = world;
    let mut closing = host.close();
    pool.run_ready();
    assert!(look(&mut closing).is_pending());
    assert_eq!(code(&lobby.send(add(1)).wait().unwrap_err()), "host.closed");
    signal.give();
    pool.run_ready();
    assert!(look(&mut closing).is_ready());
    assert_eq!(class.active(), 0);
    for (reply, value) in [(waits, 0), (taken, 3), (runs, 4)] {
        assert_eq!(reply.wait().unwrap(), value);
    }
    // All of it is durable: not even the power is needed to hold on.
    let after = Store::options().threads(false).open_on(disk.power_cut()).unwrap();
    let rooms = after.namespace("rooms").unwrap();
    for (name, value) in [("lobby", 3_u64), ("cellar", 4)] {
        let stored = rooms.open_by_name(name).unwrap().get("sum").unwrap();
        assert_eq!(stored.as_deref(), Some(&value.to_le_bytes()[..]));
    }
    drop((store, class));
}

#[test]
fn closing_waits_for_what_nobody_waits_for() {
    let (world, durability) = World::manual(|builder| builder);
    drop(world.lobby().send(add(1)));
    let unconfirmed = world.class.send(
        "cellar",
        alone(|context| async move {
            context.storage().put_unconfirmed("sum", 4_u64.to_le_bytes())?;
            Ok(4)
        }),
    );
    assert_eq!(world.outcome(unconfirmed).unwrap(), 4);
    let [lobby, cellar] = durability.pending()[..] else { panic!("two commits") };
    world.close_when_safe(&durability, [lobby, cellar]);
}

#[test]
fn closing_waits_for_what_objects_sealed_that_have_left_or_broken() {
    let (world, durability) = World::manual(|builder| builder);
    drop(world.lobby().send(add(1)));
    world.pass(IDLE * 2);
    assert!(!world.is_active(), "it has left");
    let signal = Signal::default();
    let own = signal.clone();
    let breaks = world.class.send(
        "cellar",
        alone(move |context| async move {
            context.storage().put_unconfirmed("sum", 4_u64.to_le_bytes())?;
            own.wait().await;
            context.storage().abort("enough");
            Ok(4)
        }),
    );
    world.run();
    signal.give();
    assert_eq!(code(&world.outcome(breaks).unwrap_err()), "actor.reset");
    let [lobby, cellar] = durability.pending()[..] else { panic!("two commits") };
    world.close_when_safe(&durability, [cellar, lobby]);
}

/// An executor that does nothing by itself and may drop what it has.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Task>>>);

impl Spawner for Shelf {
    fn spawn(&self, task: Task) {
        self.0.lock().push(task);
    }
}

#[test]
fn an_executor_that_drops_its_tasks_leaves_nobody_waiting() {
    let shelf = Shelf::default();
    let world = World::with(|builder| builder.spawner(shelf.clone()));
    let never_run = world.lobby().send(add(1));
    shelf.0.lock().clear();
    let begun = world.lobby().send(wait_for(&Signal::default()));
    let queued = world.lobby().send(add(1));
    for task in &mut *shelf.0.lock() {
        assert!(look(task).is_pending());
    }
    shelf.0.lock().clear();
    for reply in [never_run, begun, queued] {
        assert_eq!(code(&reply.wait().unwrap_err()), "actor.dropped");
    }
    assert_eq!(world.tools.living.lock()["lobby"], 0);
}

/// Senders, sweeps and resets at once, on threads.
#[test]
fn one_instance_at_a_time_and_no_reply_lost_whatever_happens() {
    const SENDERS: u64 = 4;
    const MESSAGES: u64 = 2_000;
    const OBJECTS: u64 = 3;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let host = Host::builder(&store).mailbox(8).idle_after(Duration::from_hours(1)).start();
    let host = host.unwrap();
    let tools = Arc::<Tools>::default();
    let class = scripts(&host, "rooms", &tools);
    let is_over = &AtomicBool::new(false);
    let added = std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                host.sweep();
                std::thread::yield_now();
            }
        });
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let class = &class;
                scope.spawn(move || {
                    let mut added = vec![0; OBJECTS.try_into().unwrap()];
                    for message in 0..MESSAGES {
                        let object = (sender + message) % OBJECTS;
                        let is_bad = message % 97 == sender;
                        let message = if is_bad { alone(|_| async { panic!() }) } else { add(1) };
                        let reply = class.send(&object.to_string(), message).wait();
                        let index = usize::try_from(object).unwrap();
                        match reply {
                            Ok(_) => added[index] += 1,
                            Err(Failed::Host(error)) => {
                                assert_eq!(error.kind(), ErrorKind::Broken, "{error:?}");
                            }
                            Err(failed) => panic!("{failed}"),
                        }
                    }
                    added
                })
            })
            .collect();
        let added: Vec<Vec<u64>> =
            senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        is_over.store(true, Ordering::Relaxed);
        sweeper.join().unwrap();
        added
    });
    for object in 0..OBJECTS {
        let index = usize::try_from(object).unwrap();
        let told: u64 = added.iter().map(|added| added[index]).sum();
        let sum = class.send(&object.to_string(), add(0)).wait().unwrap();
        // A caller who was told of a reset does not know; all others do.
        assert!(sum >= told && told > 0, "{sum} {told}");
    }
    assert!(tools.starts.load(Ordering::Relaxed) > OBJECTS, "some were reset or left");
    host.close().wait();
    assert!(tools.living.lock().values().all(|living| *living == 0));
    drop(class);
    store.close().unwrap();
}

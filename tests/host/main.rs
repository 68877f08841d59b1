//! The actor host through its public interface: on a simulated machine and one thread where an
//! order matters, on threads where it must not.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

mod alarms;
mod eager;
mod ends;
#[cfg(feature = "tokio")]
mod on_tokio;
mod small;
mod stage;
mod wakers;

use dostore::actor::host::Host;
use dostore::error::ErrorKind;
use dostore::store::Store;
use parking_lot::Mutex;
use stage::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn messages_of_one_sender_are_handled_in_order_by_one_instance() {
    let world = World::new();
    let lobby = world.lobby();
    let replies: Vec<_> = (1..=100).map(|by| lobby.send(add(by))).collect();
    let sums: Vec<_> = replies.into_iter().map(|reply| world.outcome(reply).unwrap()).collect();
    let expected: Vec<u64> = (1..=100).map(|by| by * (by + 1) / 2).collect();
    assert_eq!((sums, world.starts()), (expected, 1));
    assert_eq!(world.class.active(), 1);
    world.outcome(world.class.send("cellar", add(1))).unwrap();
    assert_eq!(world.class.active(), 2);
}

#[test]
fn an_idle_object_leaves_memory_and_comes_back_from_what_it_stored() {
    let world = World::new();
    assert_eq!(world.ask(add(5)).unwrap(), 5);
    world.pass(IDLE / 2);
    assert!(world.is_active(), "not yet");
    assert_eq!(world.ask(add(1)).unwrap(), 6);
    world.pass(IDLE * 3 / 4);
    assert!(world.is_active(), "it had something to do");
    world.pass(IDLE);
    assert!(!world.is_active());
    assert_eq!(world.tools.living.lock()["lobby"], 0);
    assert_eq!((world.ask(add(1)).unwrap(), world.starts()), (7, 2));
    world.pass(IDLE * 2);
    assert!(!world.is_active(), "nor does it stay the second time");
}

#[test]
fn an_object_that_was_restored_from_outside_comes_back_with_what_was_restored() {
    let world = World::new();
    assert_eq!(world.ask(add(5)).unwrap(), 5);
    let rooms = world.store.namespace("rooms").unwrap();
    let id = rooms.id_from_name("lobby");
    let five = rooms.current_bookmark(id).unwrap();
    assert_eq!(world.ask(add(1)).unwrap(), 6);
    rooms.restore(id, &five).unwrap().commit.wait().unwrap();
    // Also for a handler that would not have asked the storage: what it keeps in memory is gone.
    world.ask(alone(|_| async { Ok(0) })).unwrap();
    assert_eq!((world.ask(add(0)).unwrap(), world.starts()), (5, 2));
    // A handler in the middle of its work is told; who came behind it is not.
    let signal = Signal::default();
    let waiting = signal.clone();
    let slow = world.lobby().send(alone(move |context| async move {
        waiting.wait().await;
        number(&context, "sum").map_err(Failed::from)
    }));
    world.run();
    let behind = world.lobby().send(add(2));
    rooms.restore(id, &five).unwrap().commit.wait().unwrap();
    signal.give();
    assert_eq!(code(&world.outcome(slow).unwrap_err()), "handle.fenced");
    assert_eq!((world.outcome(behind).unwrap(), world.starts()), (7, 3));
}

#[test]
fn a_message_that_comes_as_an_object_is_sent_away_keeps_it_and_not_for_ever() {
    let world = World::new();
    world.ask(add(1)).unwrap();
    for _ in 0..5 {
        world.host.sweep();
    }
    assert_eq!((world.ask(add(1)).unwrap(), world.starts()), (2, 1));
    world.pass(IDLE / 2);
    assert!(world.is_active());
    world.pass(IDLE);
    assert!(!world.is_active());
}

#[test]
fn an_object_whose_handler_waits_is_not_idle() {
    let world = World::new();
    let (first, second) = (Signal::default(), Signal::default());
    let waiting = world.lobby().send(wait_for(&first));
    world.pass(IDLE * 3);
    assert!(world.is_active());
    first.give();
    world.outcome(waiting).unwrap();
    let signal = second.clone();
    let reply = world.lobby().send(beside(move |_| async move {
        signal.wait().await;
        Ok(9)
    }));
    world.pass(IDLE * 3);
    assert!(world.is_active(), "an event beside the messages counts");
    second.give();
    assert_eq!((world.outcome(reply).unwrap(), world.starts()), (9, 1));
    world.pass(IDLE * 3);
    assert!(!world.is_active());
}

#[test]
fn a_message_that_comes_while_another_is_handled_is_not_left_lying() {
    let world = World::new();
    // More often than an object handles without letting others run.
    for sum in 1..150 {
        let sent = Arc::new(Mutex::new(None));
        let own = Arc::clone(&sent);
        let sends = alone(move |context| async move {
            *own.lock() = Some(context.recipient().send(add(1)));
            Ok(0)
        });
        world.ask(sends).unwrap();
        let reply = sent.lock().take().unwrap();
        assert_eq!(world.outcome(reply).unwrap(), sum);
    }
}

#[test]
fn a_full_mailbox_keeps_senders_waiting_and_lets_them_in_by_turns() {
    let world = World::with(|builder| builder.mailbox(2));
    let lobby = world.lobby();
    let signal = Signal::default();
    let first = lobby.send(wait_for(&signal));
    world.run();
    let mut inside: Vec<_> = (0..2).map(|_| lobby.send(add(1))).collect();
    assert!(inside.iter_mut().all(|reply| look(&mut reply.accepted()).is_ready()));
    assert_eq!(lobby.try_send(add(1)).unwrap_err().code(), "mailbox.full");
    let mut outside: Vec<_> = (0..3).map(|_| lobby.send(add(10))).collect();
    assert!(outside.iter_mut().all(|reply| look(&mut reply.accepted()).is_pending()));
    // Whoever loses patience outside takes the message along; inside, it is handled all the same.
    drop(outside.remove(1));
    drop(inside.remove(0));
    signal.give();
    world.outcome(first).unwrap();
    assert!(outside.iter_mut().all(|reply| look(&mut reply.accepted()).is_ready()));
    let sums: Vec<_> =
        inside.into_iter().chain(outside).map(|reply| world.outcome(reply).unwrap()).collect();
    assert_eq!(sums, [2, 12, 22]);
    assert_eq!(world.outcome(lobby.try_send(add(0)).unwrap()).unwrap(), 22);
}

/// On threads: between a look at the mailbox and the send another sender may come.
#[test]
fn what_try_send_takes_is_handled_though_nobody_waits_for_it() {
    const SENDERS: usize = 4;
    const MESSAGES: usize = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let host = Host::builder(&store).mailbox(1).start().unwrap();
    let class = scripts(&host, "rooms", &Arc::default());
    let handled = Arc::<AtomicUsize>::default();
    let send = || {
        let handled = Arc::clone(&handled);
        class.recipient("lobby").unwrap().try_send(alone(move |_| async move {
            handled.fetch_add(1, Ordering::Relaxed);
            Ok(0)
        }))
    };
    let send_all = || {
        for _ in 0..MESSAGES {
            // The reply is dropped at once.
            while let Err(error) = send() {
                assert_eq!(error.code(), "mailbox.full");
                std::thread::yield_now();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(send_all);
        }
    });
    host.close().wait();
    assert_eq!(handled.load(Ordering::Relaxed), SENDERS * MESSAGES);
}

#[test]
fn a_reply_shows_only_when_what_it_stands_on_is_safe() {
    let (world, durability) = World::manual(|builder| builder);
    let lobby = world.lobby();
    let mut first = lobby.send(add(1));
    world.run();
    let mut second = lobby.send(add(1));
    let mut read = lobby.send(alone(|context| async move { Ok(number(&context, "sum")?) }));
    world.run();
    let [one, two] = durability.pending()[..] else { panic!("two turns") };
    for reply in [&mut first, &mut second, &mut read] {
        assert!(look(reply).is_pending());
    }
    durability.confirm(two);
    assert!(look(&mut second).is_pending(), "it stands on the first too");
    assert!(look(&mut read).is_pending(), "so does what was read");
    durability.confirm(one);
    let sums = [first, second, read].map(|reply| world.outcome(reply).unwrap());
    assert_eq!(sums, [1, 2, 2]);
    let mut apart = lobby.send(beside(|context| async move {
        context.storage().put("sum", 9_u64.to_le_bytes())?;
        Ok(9)
    }));
    world.run();
    assert!(look(&mut apart).is_pending(), "an event beside the messages writes too");
    durability.confirm_all();
    assert_eq!(world.outcome(apart).unwrap(), 9);
}

#[test]
fn a_commit_that_fails_breaks_replies_and_nothing_of_it_is_shown() {
    let (world, durability) = World::manual(|builder| builder);
    let safe = world.lobby().send(add(1));
    world.run();
    durability.confirm_all();
    assert_eq!(world.outcome(safe).unwrap(), 1);
    let lost = world.lobby().send(add(1));
    world.run();
    durability.fail(durability.pending()[0]);
    let failed = world.outcome(lost).unwrap_err();
    assert_eq!(code(&failed), "gate.broken");
    assert_eq!(world.starts(), 1);
    // A new instance would stand on the same commit, so nothing is shown of it either.
    let again = world.lobby().send(add(0));
    assert_eq!(code(&world.outcome(again).unwrap_err()), "actor.reset");
    assert!(!world.is_active());
    let elsewhere = world.class.send("cellar", alone(|_| async { Ok(3) }));
    assert_eq!(world.outcome(elsewhere).unwrap(), 3);
}

#[test]
fn events_interleave_only_where_the_class_asks_for_it() {
    let world = World::new();
    let lobby = world.lobby();
    let signal = Signal::default();
    let own = signal.clone();
    let outer = lobby.send(beside(move |context| async move {
        context.storage().put("sum", 1_u64.to_le_bytes())?;
        own.wait().await;
        Ok(number(&context, "sum")?)
    }));
    world.run();
    assert_eq!(world.ask(add(10)).unwrap(), 11, "handled between the awaits");
    signal.give();
    assert_eq!(world.outcome(outer).unwrap(), 11);
    let signal = Signal::default();
    let waits = lobby.send(wait_for(&signal));
    let mut behind = lobby.send(add(1));
    world.run();
    assert!(look(&mut behind).is_pending(), "alone is alone");
    signal.give();
    world.outcome(waits).unwrap();
    assert_eq!(world.outcome(behind).unwrap(), 12);
    let panics = lobby.send(beside(|_| async { panic!("beside") }));
    assert_eq!(code(&world.outcome(panics).unwrap_err()), "actor.panicked");
    assert_eq!((world.ask(add(0)).unwrap(), world.starts()), (12, 2));
}

#[test]
fn an_object_runs_so_many_events_beside_and_takes_no_more_until_one_ends() {
    let world = World::with(|builder| builder.beside(2));
    let lobby = world.lobby();
    let signals: [Signal; 3] = std::array::from_fn(|_| Signal::default());
    let mut replies = Vec::new();
    for signal in &signals {
        let signal = signal.clone();
        replies.push(lobby.send(beside(move |context| async move {
            let begun = number(&context, "sum")? + 1;
            context.storage().put("sum", begun.to_le_bytes())?;
            signal.wait().await;
            Ok(begun)
        })));
    }
    let mut behind = lobby.send(add(0));
    world.run();
    assert!(look(&mut behind).is_pending(), "nothing overtakes what may not begin");
    signals[0].give();
    world.run();
    assert!(look(&mut behind).is_pending(), "the third took the place of the first");
    signals[1].give();
    world.run();
    assert!(look(&mut behind).is_ready(), "another one has ended");
    signals.iter().for_each(Signal::give);
    world.run();
    let begun: Vec<_> = replies.into_iter().map(|reply| world.outcome(reply).unwrap()).collect();
    assert_eq!(begun, [1, 2, 3]);
}

#[test]
fn a_store_has_one_host_until_that_is_closed() {
    let world = World::new();
    let start = || Host::builder(&world.store).spawner(world.pool.clone()).start();
    let error = start().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "host.second"));
    let World { host, .. } = world;
    let closing = host.close();
    let second = Host::builder(&world.store).spawner(world.pool.clone()).start().unwrap();
    drop(second);
    let third = Host::builder(&world.store).spawner(world.pool.clone()).start().unwrap();
    world.pool.run_ready();
    drop((closing, third));
}

#[test]
fn a_namespace_has_one_class_and_ids_are_of_their_namespace() {
    let world = World::new();
    let again = world.host.class::<Script, _, _>("rooms", async |_| Err(Failed::Own("never")));
    assert_eq!(again.unwrap_err().code(), "host.class");
    let other = world.store.namespace("other").unwrap().id_from_name("lobby");
    assert_eq!(world.class.recipient_by_id(other).unwrap_err().code(), "id.foreign");
    let id = world.class.namespace().id_from_name("lobby");
    let by_id = world.class.recipient_by_id(id).unwrap();
    world.ask(add(1)).unwrap();
    assert_eq!(world.outcome(by_id.send(add(1))).unwrap(), 2);
    assert_eq!(by_id.name(), Some("lobby"));
}

#[test]
fn an_object_that_comes_by_its_id_knows_the_name_that_is_kept_with_it() {
    let world = World::new();
    world.ask(add(1)).unwrap();
    let id = world.lobby().id();
    let known = |world: &World| {
        let by_id = world.class.recipient_by_id(id).unwrap();
        assert_eq!(by_id.name(), None, "nobody has said it");
        let tells = alone(|context| async move {
            assert_eq!(context.name(), Some("lobby"));
            let storage = context.storage();
            assert_eq!(storage.stored_name()?.as_deref(), Some("lobby"));
            Ok(1)
        });
        assert_eq!(world.outcome(by_id.send(tells)).unwrap(), 1);
    };
    let mut disk = world.disk.clone();
    drop(world);
    // From the log, and from a run.
    for _ in 0..2 {
        let world = World::on(disk.kill(), |builder| builder);
        known(&world);
        world.store.steps().checkpoint().unwrap();
        disk = world.disk.clone();
    }
}

#[test]
fn objects_that_may_not_be_idle_at_all_leave_soon_and_the_host_does_not_spin() {
    let world = World::with(|builder| builder.idle_after(Duration::ZERO));
    world.ask(add(1)).unwrap();
    world.pass(Duration::from_millis(40));
    assert!(!world.is_active());
    assert_eq!(world.ask(add(1)).unwrap(), 2);
}

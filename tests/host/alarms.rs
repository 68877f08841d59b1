//! Alarms, from the store through the host to their objects.

use super::stage::*;
use dostore::actor::Storage;
use dostore::actor::host::{Actor, Context};
use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::ids::Timestamp;
use dostore::limits::Limits;
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::alarms::Fired;
use dostore::store::namespace::Namespace;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Sets the plain alarm.
fn alarm_in(seconds: u64) -> Do {
    alone(move |context| async move {
        context.storage().set_alarm(Duration::from_secs(seconds))?;
        Ok(0)
    })
}

impl World {
    fn on_alarm(
        &self,
        code: impl FnMut(&Context<Script>, &Fired) -> Result<(), Failed> + Send + 'static,
    ) {
        *self.tools.on_alarm.lock() = Some(Box::new(code));
    }
}

fn count(context: &Context<Script>) -> Result<u64, Failed> {
    let fired = number(context, "fired")? + 1;
    context.storage().put("fired", fired.to_le_bytes())?;
    Ok(fired)
}

fn fired(world: &World) -> u64 {
    world.ask(alone(|context| async move { Ok(number(&context, "fired")?) })).unwrap()
}

#[test]
fn an_alarm_brings_its_object_into_memory_and_is_done_when_it_was_handled() {
    let world = World::new();
    world.on_alarm(|context, fired| {
        assert_eq!((context.name(), fired.is_retry()), (Some("lobby"), false));
        count(context).map(drop)
    });
    world.ask(alarm_in(60)).unwrap();
    world.pass(Duration::from_secs(50));
    assert!(!world.is_active());
    assert_eq!(world.starts(), 1);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.starts(), 2);
    world.pass(Duration::from_secs(4000));
    assert_eq!(fired(&world), 1);
    let set = world
        .ask(alone(|context| async move { Ok(u64::from(context.storage().alarm()?.is_some())) }));
    assert_eq!(set.unwrap(), 0);
}

#[test]
fn an_alarm_whose_handler_fails_is_tried_again_and_abandoned_after_too_many() {
    let world = World::new();
    let attempts = Arc::<AtomicU64>::default();
    let own = Arc::clone(&attempts);
    world.on_alarm(move |context, fired| {
        let attempt = own.fetch_add(1, Ordering::Relaxed);
        assert_eq!(u64::from(fired.attempt()), attempt);
        count(context)?;
        assert!(attempt % 2 == 0, "a panic counts like an error");
        Err(Failed::Own("no luck"))
    });
    world.ask(alarm_in(1)).unwrap();
    world.pass(Duration::from_secs(4000));
    assert_eq!(*world.tools.abandoned.lock(), ["no luck"]);
    // Three of seven attempts panicked, and what they wrote in that turn is gone.
    assert_eq!((attempts.load(Ordering::Relaxed), fired(&world)), (7, 4));
    world.pass(Duration::from_secs(4000));
    assert_eq!(world.tools.abandoned.lock().len(), 1);
}

#[test]
fn an_alarm_of_an_object_that_cannot_start_is_not_lost() {
    let world = World::new();
    world.on_alarm(|context, _| count(context).map(drop));
    world.ask(alarm_in(60)).unwrap();
    world.pass(Duration::from_secs(50));
    world.tools.refuses.store(true, Ordering::Relaxed);
    world.pass(Duration::from_secs(30));
    assert!(world.starts() > 1, "it was tried");
    world.tools.refuses.store(false, Ordering::Relaxed);
    world.pass(Duration::from_secs(1000));
    assert_eq!(fired(&world), 1);
}

#[test]
fn an_alarm_of_an_object_that_never_starts_fails_for_good_in_the_end() {
    let world = World::new();
    world.on_alarm(|context, _| count(context).map(drop));
    world.ask(alarm_in(60)).unwrap();
    world.pass(Duration::from_secs(50));
    world.tools.refuses.store(true, Ordering::Relaxed);
    world.pass(Duration::from_secs(4000));
    world.tools.refuses.store(false, Ordering::Relaxed);
    world.pass(Duration::from_secs(4000));
    assert_eq!(fired(&world), 0);
    let attempts = world.ask(alone(|context| async move {
        let failure = context.storage().last_failure(None)?.unwrap();
        assert_eq!(failure.text, "the object could not start: not today");
        Ok(u64::from(failure.attempts))
    }));
    assert_eq!(attempts.unwrap(), 7);
    for was_there in [true, false] {
        let cleared = world.ask(alone(|context| async move {
            Ok(u64::from(context.storage().clear_last_failure(None)?))
        }));
        assert_eq!(cleared.unwrap(), u64::from(was_there));
    }
}

#[test]
fn a_turn_of_an_alarm_that_cannot_be_logged_is_no_failure_of_its_handler() {
    let options = Store::options().wal_file_bytes(64 << 10);
    let world = World::of(options, SimDisk::new(1), |builder| builder);
    // Too much for what is left of the log; a word on a failure would still find room.
    let write = |context: &Context<Script>| context.storage().put("big", vec![7; 20 << 10]);
    let attempts = Arc::<Mutex<Vec<u32>>>::default();
    let own = Arc::clone(&attempts);
    world.on_alarm(move |context, fired| {
        own.lock().push(fired.attempt());
        count(context)?;
        Ok(write(context)?)
    });
    world.ask(alarm_in(60)).unwrap();
    world.disk.set_free_bytes(0);
    let fill = || {
        world.ask(alone(move |context| async move {
            write(&context)?;
            Ok(0)
        }))
    };
    let full = (0..50).find_map(|_| fill().err()).expect("the log has no end");
    assert_eq!(code(&full), "actor.reset");
    world.pass(Duration::from_mins(4));
    assert!(attempts.lock().len() > 7, "{attempts:?}");
    world.disk.set_free_bytes(1 << 30);
    world.pass(Duration::from_mins(1));
    assert!(attempts.lock().iter().all(|attempt| *attempt == 0), "{attempts:?}");
    assert_eq!((fired(&world), world.tools.abandoned.lock().len()), (1, 0));
}

/// Its alarms fail with what the store says of the objects that it uses, eight times of each kind.
struct Unlucky {
    rooms: Namespace,
    attempts: Arc<Mutex<Vec<u32>>>,
}

impl Actor for Unlucky {
    type Message = ();
    type Reply = ();
    type Error = Error;

    async fn handle(&mut self, _: &Context<Self>, (): ()) -> Result<(), Error> {
        Ok(())
    }

    async fn alarm(&mut self, _: &Context<Self>, fired: &Fired) -> Result<(), Error> {
        let tried = {
            let mut attempts = self.attempts.lock();
            attempts.push(fired.attempt());
            attempts.len()
        };
        let other = Storage::open(self.rooms.open_by_name("other")?);
        match tried {
            1..=8 => self.rooms.open_by_name("other").map(drop),
            9..=16 => {
                other.close();
                other.put("k", "1")
            }
            _ => other.put("k", "1"),
        }
    }
}

#[test]
fn an_error_that_is_no_fault_of_the_handler_abandons_no_alarm() {
    let world = World::new();
    set_in_attic(&world, 1, "unlucky");
    let rooms = world.store.namespace("rooms").unwrap();
    let attempts = Arc::<Mutex<Vec<u32>>>::default();
    let own = Arc::clone(&attempts);
    let start = move |_| {
        let unlucky = Unlucky { rooms: rooms.clone(), attempts: Arc::clone(&own) };
        async move { Ok(unlucky) }
    };
    let class = world.host.class("attic", start).unwrap();
    world.pass(Duration::from_hours(24));
    assert_eq!(*attempts.lock(), (0..=16).collect::<Vec<_>>(), "the last one was good");
    world.pass(IDLE * 20);
    let attic = class.namespace().open_by_name("unlucky 0").unwrap();
    assert_eq!(attic.last_failure(None).unwrap(), None);
}

#[test]
fn an_alarm_that_comes_as_its_object_leaves_is_handled_all_the_same() {
    let world = World::new();
    // Whoever holds this keeps the place where the alarm would be left lying.
    let lobby = world.lobby();
    world.on_alarm(|context, _| count(context).map(drop));
    world.ask(alarm_in(1)).unwrap();
    let (disk, store, pool) = (world.disk.clone(), world.store.clone(), world.pool.clone());
    *world.tools.on_drop.lock() = Some(Box::new(move || {
        disk.advance(Duration::from_secs(2));
        store.steps().tick();
        pool.run_ready();
    }));
    (0..5).for_each(|_| world.host.sweep());
    world.run();
    assert!(world.tools.on_drop.lock().is_none());
    assert_eq!((world.starts(), lobby.is_active()), (2, true), "it came back for the alarm");
    assert_eq!(fired(&world), 1);
}

#[test]
fn an_alarm_is_done_in_the_commit_that_its_handler_makes() {
    let world = World::new();
    world.on_alarm(|context, _| count(context).map(drop));
    world.ask(alarm_in(60)).unwrap();
    world.pass(Duration::from_mins(2));
    assert_eq!(fired(&world), 1);
    let rooms = world.store.namespace("rooms").unwrap();
    let id = rooms.id_from_name("lobby");
    let moments: Vec<_> = rooms.history(id, ..).unwrap().map(Result::unwrap).collect();
    let mut waited = 0;
    for moment in moments {
        let view = rooms.at(id, &moment.bookmark).unwrap();
        let (waits, rang) = (view.alarm().unwrap().is_some(), view.get("fired").unwrap().is_some());
        assert_ne!(waits, rang, "{moment:?}");
        waited += u64::from(waits);
    }
    assert_eq!(waited, 1, "set once, and handled once");
}

#[test]
fn alarms_set_before_a_crash_are_delivered_by_the_next_host() {
    let world = World::new();
    for room in 0..50 {
        let reply = world.class.send(&format!("room {room}"), alarm_in(60));
        world.outcome(reply).unwrap();
    }
    let disk = world.disk.power_cut();
    drop(world);
    disk.advance(Duration::from_hours(1));
    let world = World::on(disk, |builder| builder.alarms(3));
    let rooms = Arc::<Mutex<Vec<String>>>::default();
    let own = Arc::clone(&rooms);
    world.on_alarm(move |context, fired| {
        assert!(fired.missed());
        own.lock().push(context.name().unwrap_or_default().to_owned());
        Ok(())
    });
    world.pass(IDLE);
    let mut seen = rooms.lock().clone();
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), rooms.lock().len()), (50, 50));
}

#[test]
fn alarms_that_nobody_handles_yet_wait_in_the_store() {
    let world = World::with(|builder| builder.alarms(1));
    let signal = Signal::default();
    world.on_alarm(|context, _| count(context).map(drop));
    world.ask(alarm_in(1)).unwrap();
    let busy = world.lobby().send(wait_for(&signal));
    world.outcome(world.class.send("cellar", alarm_in(1))).unwrap();
    world.pass(Duration::from_secs(30));
    let cellar = world.class.recipient("cellar").unwrap();
    assert!(!cellar.is_active(), "the one that is with its object keeps others waiting");
    signal.give();
    world.outcome(busy).unwrap();
    world.pass(Duration::from_secs(30));
    assert_eq!(fired(&world), 1);
    let in_cellar = cellar.send(alone(|context| async move { Ok(number(&context, "fired")?) }));
    assert_eq!(world.outcome(in_cellar).unwrap(), 1);
}

/// Objects of a namespace that the host has no class for, each with an alarm that is due.
fn set_in_attic(world: &World, objects: usize, name: &str) {
    let attic = world.store.namespace("attic").unwrap();
    for number in 0..objects {
        let mut object = attic.open_by_name(&format!("{name} {number}")).unwrap();
        let mut turn = object.turn();
        turn.set_alarm(Timestamp(1)).unwrap();
        turn.commit_durable().unwrap();
    }
}

/// Gives the host a class for it, and says how many alarms come then.
fn rings_in_attic(world: &World) -> u64 {
    let rings = Arc::<AtomicU64>::default();
    let (tools, own) = (Arc::<Tools>::default(), Arc::clone(&rings));
    *tools.on_alarm.lock() = Some(Box::new(move |_, _| {
        own.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }));
    let class = scripts(&world.host, "attic", &tools);
    world.pass(Duration::from_mins(1));
    drop(class);
    rings.load(Ordering::Relaxed)
}

#[test]
fn alarms_that_no_class_takes_rest_in_the_store_until_one_does() {
    const OBJECTS: usize = 500;
    let world = World::new();
    set_in_attic(&world, OBJECTS, "early");
    world.store.steps().checkpoint().unwrap();
    set_in_attic(&world, OBJECTS, "late");
    world.on_alarm(|context, _| count(context).map(drop));
    world.ask(alarm_in(5)).unwrap();
    world.pass(Duration::from_secs(30));
    assert_eq!(fired(&world), 1, "they hold up no other");
    let alarms = world.store.alarms();
    assert_eq!(alarms.next_due().unwrap(), None, "nor are they offered again and again");
    // What a run has is not in memory, and after a checkpoint a run has all of it.
    let in_memory = || world.store.stats().unwrap().alarms_in_memory;
    assert!((OBJECTS as u64..2 * OBJECTS as u64).contains(&in_memory()), "{}", in_memory());
    world.store.steps().checkpoint().unwrap();
    assert_eq!(in_memory(), 0);
    set_in_attic(&world, 3, "last");
    world.pass(Duration::from_secs(30));
    assert_eq!(rings_in_attic(&world), 2 * OBJECTS as u64 + 3);
    world.pass(Duration::from_secs(4000));
    assert_eq!(alarms.next_due().unwrap(), None);
}

#[test]
fn alarms_that_no_class_took_are_to_be_had_when_the_host_is_gone() {
    let world = World::new();
    set_in_attic(&world, 3, "object");
    world.pass(Duration::from_secs(10));
    let World { store, pool, host, .. } = world;
    let mut closing = host.close();
    pool.run_ready();
    assert!(look(&mut closing).is_ready());
    let mut held = Vec::new();
    while let Some(fired) = store.alarms().try_next().unwrap() {
        held.push(fired);
    }
    let mut names: Vec<_> =
        held.iter().map(|fired| fired.object_name().unwrap().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["object 0", "object 1", "object 2"]);
}

#[test]
fn an_object_whose_alarm_rings_again_and_again_stays_in_memory() {
    let world = World::new();
    world.on_alarm(|context, _| {
        context.storage().set_alarm(IDLE / 2)?;
        count(context).map(drop)
    });
    world.ask(alarm_in(1)).unwrap();
    world.pass(IDLE * 6);
    assert_eq!((world.starts(), world.is_active()), (1, true));
}

#[test]
fn an_alarm_that_cannot_be_read_is_told_as_a_failure_of_the_store() {
    let world = World::new();
    let text = "hit".repeat(40);
    let mut object = world.store.namespace("rooms").unwrap().open_by_name("hit").unwrap();
    let mut turn = object.turn();
    turn.put("text", &text).unwrap();
    turn.set_named_alarm("n", Timestamp(1)).unwrap();
    turn.commit_durable().unwrap();
    drop(object);
    let disk = world.disk.clone();
    let World { store, pool, host, class, .. } = world;
    let mut closing = host.close();
    pool.run_ready();
    assert!(look(&mut closing).is_ready());
    drop(class);
    store.close().unwrap();
    let is_segment = |name: &FileName| matches!(name, FileName::Segment(_));
    let place = disk.names().into_iter().filter(is_segment).find_map(|name| {
        let bytes = disk.file_bytes(name)?;
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((name, at as u64 * 8))
    });
    let (name, bit) = place.expect("a page holds it");
    disk.flip_bit(name, bit).unwrap();
    let world = World::on(disk, |builder| builder);
    world.pass(Duration::from_secs(10));
    let told = world.store.last_failure().expect("somebody is told");
    assert_eq!(told.kind(), dostore::error::ErrorKind::Corrupt);
}

#[test]
fn an_alarm_whose_last_turn_has_no_room_left_is_done_all_the_same() {
    let limits = Limits { commit_operations: 16, ..Limits::default() };
    let world = World::of(Store::options().limits(limits), SimDisk::new(1), |builder| builder);
    world.on_alarm(|context, _| {
        count(context)?;
        let fill = |key: u64| context.storage().put(key.to_le_bytes(), "").is_ok();
        assert!(!(0..20).all(fill), "the turn is full");
        Ok(())
    });
    world.ask(alarm_in(1)).unwrap();
    world.pass(Duration::from_secs(4000));
    assert_eq!(fired(&world), 1);
}

//! Actors whose handlers do something before they give their futures.

use super::stage::{IDLE, World};
use dostore::actor::host::{Actor, Class, Context, Reply};
use dostore::error::{Error, Result};
use dostore::store::alarms::Fired;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// What an eager object is to do.
#[derive(Default)]
struct Orders {
    start_panics: bool,
    handle_panics: bool,
    /// So many starts fail for want of something that somebody else has.
    busy_starts: u32,
    rings: u32,
}

struct Eager(Arc<Mutex<Orders>>);

fn write_twice(context: &Context<Eager>) -> Result<()> {
    context.storage().put("a", "1")?;
    context.storage().put("b", "2")
}

impl Actor for Eager {
    type Message = ();
    type Reply = ();
    type Error = Error;

    fn handle(
        &mut self,
        context: &Context<Self>,
        (): (),
    ) -> impl Future<Output = Result<()>> + Send {
        let written = write_twice(context);
        assert!(!self.0.lock().handle_panics, "on purpose");
        async move { written }
    }

    async fn alarm(&mut self, _: &Context<Self>, _: &Fired) -> Result<()> {
        self.0.lock().rings += 1;
        Ok(())
    }
}

fn eager(world: &World, orders: &Arc<Mutex<Orders>>) -> Class<Eager> {
    let orders = Arc::clone(orders);
    let rooms = world.store.namespace("rooms").unwrap();
    let start = move |context: Context<Eager>| {
        write_twice(&context).unwrap();
        let (orders, rooms) = (Arc::clone(&orders), rooms.clone());
        assert!(!orders.lock().start_panics, "on purpose");
        async move {
            let left = orders.lock().busy_starts;
            if left > 0 {
                orders.lock().busy_starts = left - 1;
                let _held = rooms.open_by_name("other")?;
                rooms.open_by_name("other")?;
            }
            Ok(Eager(orders))
        }
    };
    world.host.class("eager", start).unwrap()
}

#[test]
fn what_a_handler_writes_before_it_gives_its_future_is_in_its_first_turn() {
    let (world, durability) = World::manual(|builder| builder);
    let class = eager(&world, &Arc::default());
    let reply = class.send("x", ());
    world.run();
    assert_eq!(durability.pending().len(), 2, "the start's turn and the handler's");
    drop(reply);
}

#[test]
fn a_panic_before_there_is_a_future_is_told_like_any_other() {
    let world = World::new();
    let orders = Arc::<Mutex<Orders>>::default();
    let class = eager(&world, &orders);
    let code = |reply: Reply<Eager>| world.outcome(reply).unwrap_err().code();
    orders.lock().start_panics = true;
    assert_eq!(code(class.send("x", ())), "actor.start");
    *orders.lock() = Orders { handle_panics: true, ..Orders::default() };
    assert_eq!(code(class.send("x", ())), "actor.panicked");
}

fn set_alarm(world: &World) {
    let mut object = world.store.namespace("eager").unwrap().open_by_name("x").unwrap();
    let mut turn = object.turn();
    turn.set_alarm(dostore::ids::Timestamp(1)).unwrap();
    turn.commit_durable().unwrap();
}

/// What is kept of the alarm once it is no more.
fn attempts(world: &World) -> Option<u32> {
    world.pass(Duration::from_hours(24));
    world.pass(IDLE * 20);
    let object = world.store.namespace("eager").unwrap().open_by_name("x").unwrap();
    assert_eq!(object.alarm().unwrap(), None);
    object.last_failure(None).unwrap().map(|failure| failure.attempts)
}

#[test]
fn an_alarm_of_an_object_whose_start_panics_is_abandoned_in_the_end() {
    let world = World::new();
    set_alarm(&world);
    let orders = Arc::new(Mutex::new(Orders { start_panics: true, ..Orders::default() }));
    let _class = eager(&world, &orders);
    assert_eq!((attempts(&world), orders.lock().rings), (Some(7), 0));
}

#[test]
fn an_alarm_is_not_abandoned_for_want_of_what_its_object_needs_to_start() {
    let world = World::new();
    set_alarm(&world);
    let orders = Arc::new(Mutex::new(Orders { busy_starts: 20, ..Orders::default() }));
    let _class = eager(&world, &orders);
    assert_eq!((attempts(&world), orders.lock().rings), (None, 1));
    assert_eq!(orders.lock().busy_starts, 0);
}

//! What an active object takes while it waits.

use super::stage::World;
use dostore::actor::host::{Actor, Context, Pool, Spawner, Task};
use dostore::error::{Error, Result};
use parking_lot::Mutex;
use std::hint::black_box;
use std::sync::Arc;

/// Its handler holds much over an await.
struct Wide;

const WIDE_BYTES: usize = 8_000;

impl Actor for Wide {
    type Message = ();
    type Reply = u8;
    type Error = Error;

    async fn handle(&mut self, _: &Context<Self>, (): ()) -> Result<u8> {
        let much = black_box([7; WIDE_BYTES]);
        std::future::ready(()).await;
        Ok(much[WIDE_BYTES / 2])
    }
}

/// A pool, and the sizes of the tasks that it was given.
struct Weighing(Pool, Arc<Mutex<Vec<usize>>>);

impl Spawner for Weighing {
    fn spawn(&self, task: Task) {
        self.1.lock().push(size_of_val(&*task));
        self.0.spawn(task);
    }
}

#[test]
fn an_object_that_waits_has_no_room_for_what_its_handler_holds() {
    let (pool, sizes) = (Pool::start(0).unwrap(), Arc::<Mutex<Vec<usize>>>::default());
    let weighing = Weighing(pool.clone(), Arc::clone(&sizes));
    let world = World::with(|builder| builder.spawner(weighing));
    let class = world.host.class("wide", async |_| Ok(Wide)).unwrap();
    let reply = class.send("one", ());
    pool.run_ready();
    assert_eq!(world.outcome(reply).unwrap(), 7);
    let largest = sizes.lock().iter().copied().max();
    assert!(largest.is_some_and(|bytes| bytes < 1_000), "{largest:?} bytes");
}

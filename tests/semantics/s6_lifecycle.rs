//! Section 6.2: how objects come into memory and leave it.

use crate::stage::{Stage, fill, poll_ready, text};
use dostore::actor::Storage;
use dostore::actor::host::{Actor, Class, Context, Host, Pool};
use dostore::error::{Error, Result};
use dostore::store::list::ListOptions;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Puts the key that it is sent, and answers how many there are.
struct Room(Arc<Seen>);

/// What is seen of instances from outside.
#[derive(Default)]
struct Seen {
    gone: AtomicUsize,
    storage: Mutex<Option<Storage>>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, Ordering::Relaxed);
    }
}

impl Actor for Room {
    type Message = &'static str;
    type Reply = u64;
    type Error = Error;

    async fn handle(&mut self, context: &Context<Self>, key: &'static str) -> Result<u64> {
        *self.0.storage.lock().unwrap() = Some(context.storage().clone());
        context.storage().put(key, "1")?;
        context.storage().count(ListOptions::new())
    }
}

/// A host with the settings that it has by itself, on this thread.
struct Hosted {
    stage: Stage,
    pool: Pool,
    class: Class<Room>,
    seen: Arc<Seen>,
    _host: Host,
}

impl Hosted {
    fn new() -> Self {
        let stage = Stage::new();
        let pool = Pool::start(0).unwrap();
        let host = Host::builder(&stage.store).spawner(pool.clone()).start().unwrap();
        let seen = Arc::<Seen>::default();
        let own = Arc::clone(&seen);
        let class = host.class("rooms", move |_| std::future::ready(Ok(Room(Arc::clone(&own)))));
        Self { stage, pool, class: class.unwrap(), seen, _host: host }
    }

    fn ask(&self, key: &'static str) -> u64 {
        let mut reply = pin!(self.class.send("room", key));
        self.pool.run_ready();
        self.stage.write();
        poll_ready(reply.as_mut()).unwrap()
    }

    fn pass_seconds(&self, seconds: u64) {
        for _ in 0..2 * seconds {
            self.stage.pass(Duration::from_millis(500));
            self.pool.run_ready();
        }
    }
}

#[test]
fn s6_2_an_object_that_is_idle_for_ten_seconds_leaves_memory_and_keeps_what_it_stored() {
    let hosted = Hosted::new();
    assert_eq!(hosted.ask("a"), 1);
    hosted.pass_seconds(9);
    assert_eq!(hosted.class.active(), 1);
    hosted.pass_seconds(4);
    assert_eq!(hosted.class.active(), 0);
    assert_eq!(hosted.ask("b"), 2);
}

#[test]
fn s6_2_an_object_that_is_used_stays_in_memory() {
    let hosted = Hosted::new();
    for _ in 0..5 {
        hosted.ask("a");
        hosted.pass_seconds(8);
    }
    assert_eq!(hosted.seen.gone.load(Ordering::Relaxed), 0);
}

#[test]
fn s6_2_an_object_leaves_without_being_asked() {
    let hosted = Hosted::new();
    hosted.ask("a");
    let storage = hosted.seen.storage.lock().unwrap().clone().unwrap();
    hosted.pass_seconds(13);
    assert_eq!(hosted.seen.gone.load(Ordering::Relaxed), 1);
    assert_eq!(storage.put("b", "1").unwrap_err().code(), "object.closed");
    assert_eq!(hosted.ask("c"), 2);
}

#[test]
fn s6_2_an_object_has_one_handle_at_a_time() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    assert_eq!(stage.rooms.open_by_name("room").unwrap_err().code(), "object.open");
    drop(room);
    assert_eq!(text(&stage.room(), "a").as_deref(), Some("A"));
}

#[test]
fn s6_2_a_storage_that_was_superseded_fails_at_its_next_call() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.rooms.delete(room.id()).unwrap().wait().unwrap();
    assert_eq!(room.get("a").unwrap_err().code(), "handle.fenced");
    assert_eq!(room.put("b", "1").unwrap_err().code(), "handle.fenced");
    let next = stage.room();
    fill(&next, "c");
    assert_eq!(room.get("c").unwrap_err().code(), "handle.fenced");
    assert_eq!((text(&next, "a"), text(&next, "c").as_deref()), (None, Some("C")));
}

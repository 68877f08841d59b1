//! Inner loops, by criterion: of the interface, and of the parts below it.
//!
//! Invariants:
//!   * Nothing here waits for a sync: what a disk does is measured by `figures`.

mod parts;

use criterion::{Criterion, criterion_group, criterion_main};
use dostore::actor::Storage;
use dostore::actor::host::{Actor, Class, Context, Host, Pool, Reply};
use dostore::error::Error;
use dostore::ids::ObjectId;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use std::collections::VecDeque;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{self, Waker};

const OBJECTS: usize = 1_000;
const KEYS: usize = 8;
const MANY: usize = 10_000;
/// Messages that are handled one after the other.
const BATCH: usize = 32;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A store of objects that lie in pages, closed and opened again.
fn prepare(folder: &std::path::Path) -> Result<(Store, Namespace, Vec<ObjectId>)> {
    let path = folder.join("data");
    let store = Store::open(&path)?;
    let rooms = store.namespace("rooms")?;
    for number in 0..OBJECTS {
        let mut object = rooms.open(rooms.id_from_name(&number.to_string()))?;
        let mut turn = object.turn();
        for key in 0..KEYS {
            turn.put(format!("key-{key}"), [b'v'; 100])?;
        }
        let _ = turn.commit()?.detach();
    }
    store.close()?;
    let store = Store::open(&path)?;
    let rooms = store.namespace("rooms")?;
    let ids = (0..OBJECTS).map(|number| rooms.id_from_name(&number.to_string())).collect();
    Ok((store, rooms, ids))
}

fn loops(criterion: &mut Criterion) -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (store, rooms, ids) = prepare(folder.path())?;
    let mut next = ids.iter().copied().cycle();
    criterion.bench_function("open, get, drop of a warm object", |bencher| {
        bencher.iter(|| -> dostore::error::Result<bool> {
            let Some(id) = next.next() else { return Ok(false) };
            Ok(rooms.open(id)?.get("key-3")?.is_some())
        });
    });
    let mut object = rooms.open(ids[0])?;
    criterion.bench_function("get from the page of an open object", |bencher| {
        bencher.iter(|| black_box(object.get(black_box("key-3"))));
    });
    criterion.bench_function("list of eight", |bencher| {
        bencher.iter(|| object.list(ListOptions::new()).map(Iterator::count));
    });
    let mut value = [0; 100];
    let mut count = 0_u64;
    criterion.bench_function("put and commit, not waited for", |bencher| {
        bencher.iter(|| -> dostore::error::Result<_> {
            count += 1;
            value[..8].copy_from_slice(&count.to_le_bytes());
            Ok(object.put("key-3", value)?.detach())
        });
    });
    criterion.bench_function("get from the changes of an open object", |bencher| {
        bencher.iter(|| black_box(object.get(black_box("key-3"))));
    });
    drop(object);
    actors(criterion, &rooms, ids[1])?;
    hosts(criterion, &store)?;
    parts::bytes(criterion)?;
    parts::runs(criterion, folder.path())?;
    Ok(store.close()?)
}

/// The same through the storage of an actor.
fn actors(criterion: &mut Criterion, rooms: &Namespace, id: ObjectId) -> Result<()> {
    let storage = Storage::open(rooms.open(id)?);
    criterion.bench_function("get of an actor, outside a turn", |bencher| {
        bencher.iter(|| black_box(storage.get(black_box("key-3"))));
    });
    storage.enter(|| {
        criterion.bench_function("get of an actor, inside a turn", |bencher| {
            bencher.iter(|| black_box(storage.get(black_box("key-3"))));
        });
    })?;
    criterion.bench_function("turn of an actor without a write", |bencher| {
        bencher.iter(|| black_box(storage.enter(|| ())));
    });
    let mut value = [0; 100];
    let mut count = 0_u64;
    criterion.bench_function("turn of an actor: get, put, gate, not waited for", |bencher| {
        bencher.iter(|| {
            count += 1;
            value[..8].copy_from_slice(&count.to_le_bytes());
            storage.enter(|| -> dostore::error::Result<_> {
                let _ = black_box(storage.get("key-3")?);
                storage.put("key-3", value)?;
                Ok(storage.gate())
            })
        });
    });
    let gate = storage.gate();
    gate.wait()?;
    criterion.bench_function("wait at a gate that is open", |bencher| {
        bencher.iter(|| black_box(&gate).wait());
    });
    Ok(())
}

/// Answers with the number that it is sent; writes where that is odd.
struct Echo;

impl Actor for Echo {
    type Message = u64;
    type Reply = u64;
    type Error = Error;

    async fn handle(
        &mut self,
        context: &Context<Self>,
        message: u64,
    ) -> dostore::error::Result<u64> {
        if !message.is_multiple_of(2) {
            context.storage().put("key-3", [b'v'; 100])?;
        }
        Ok(message)
    }
}

/// The same through a host, all on the thread of the loop.
fn hosts(criterion: &mut Criterion, store: &Store) -> Result<()> {
    let pool = Pool::start(0)?;
    let host = Host::builder(store).spawner(pool.clone()).start()?;
    let echoes = host.class("echoes", async |_| Ok(Echo))?;
    let recipient = echoes.recipient("echo")?;
    // The first message waits for a thread of the store to open the object.
    let mut first = pin!(recipient.send(0));
    let mut context = task::Context::from_waker(Waker::noop());
    while first.as_mut().poll(&mut context).is_pending() {
        pool.run_ready();
    }
    criterion.bench_function("message to an actor, handled and answered", |bencher| {
        bencher.iter(|| {
            let reply = recipient.send(black_box(2));
            pool.run_ready();
            reply.wait()
        });
    });
    criterion.bench_function("message to an actor that writes, reply not waited for", |bencher| {
        bencher.iter(|| {
            let reply = recipient.send(black_box(1));
            pool.run_ready();
            drop(reply);
        });
    });
    criterion.bench_function("message to one of 32 in a mailbox", |bencher| {
        bencher.iter(|| {
            let replies: [_; 32] = std::array::from_fn(|_| recipient.send(black_box(2)));
            pool.run_ready();
            replies.map(Reply::wait)
        });
    });
    each_of_many(criterion, &echoes, &pool)?;
    let mut closing = pin!(host.close());
    while closing.as_mut().poll(&mut context).is_pending() {
        pool.run_ready();
    }
    Ok(())
}

/// Of many actors in flight none is near when its message comes.
fn each_of_many(criterion: &mut Criterion, echoes: &Class<Echo>, pool: &Pool) -> Result<()> {
    let names = (0..MANY).map(|number| number.to_string());
    let recipients = names.map(|name| echoes.recipient(&name));
    let recipients = recipients.collect::<dostore::error::Result<Vec<_>>>()?;
    let mut waiting: VecDeque<_> = recipients.iter().map(|recipient| recipient.send(0)).collect();
    let mut context = task::Context::from_waker(Waker::noop());
    while let Some(reply) = waiting.front_mut() {
        pool.run_ready();
        if pin!(reply).poll(&mut context).is_ready() {
            waiting.pop_front();
        }
    }
    for (message, what) in [(2, "answers"), (1, "writes")] {
        let name = format!("message to the next of {MANY} actors, which {what}");
        let mut sent = 0;
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let recipient = &recipients[sent % MANY];
                sent += 1;
                if waiting.len() == MANY / 2 {
                    drop(waiting.pop_front());
                }
                waiting.push_back(recipient.send(black_box(message)));
                if sent.is_multiple_of(BATCH) {
                    pool.run_ready();
                }
            });
        });
        pool.run_ready();
        waiting.clear();
    }
    Ok(())
}

fn all(criterion: &mut Criterion) {
    if let Err(error) = loops(criterion) {
        eprintln!("the loops could not run: {error}");
        std::process::exit(1);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);

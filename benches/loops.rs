//! Inner loops that can be reached from outside, by criterion.
//!
//! Invariants:
//!   * Nothing here waits for a sync: what a disk does is measured by `figures`.

use criterion::{Criterion, criterion_group, criterion_main};
use dostore::ids::ObjectId;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use std::hint::black_box;

const OBJECTS: usize = 1_000;
const KEYS: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

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
    Ok(store.close()?)
}

fn all(criterion: &mut Criterion) {
    if let Err(error) = loops(criterion) {
        eprintln!("the loops could not run: {error}");
        std::process::exit(1);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);

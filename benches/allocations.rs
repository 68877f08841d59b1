//! How often the heap is asked for each commit, checkpoints and history on, and for each read.
//!
//! `cargo bench --bench allocations`. Counts are of the whole process, so that what the threads of
//! the store do for a commit is in them.

#![expect(clippy::cast_precision_loss, reason = "figures are rounded when printed")]

use dostore::ids::ObjectId;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const OBJECTS: u64 = 10_000;
const KEYS: u8 = 8;
const ROUNDS: u8 = 20;
/// Commits that wait for nobody before one is waited for.
const IN_FLIGHT: u64 = 10_000;

fn main() -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = Store::open(folder.path())?;
    let objects = store.namespace("objects")?;
    let ids: Vec<_> =
        (0..OBJECTS).map(|number| objects.id_from_name(&number.to_string())).collect();
    let open = |id: &ObjectId| objects.open(*id);
    let mut kept = ids.iter().map(open).collect::<dostore::error::Result<Vec<_>>>()?;
    let mut number = 0;
    commit_all(&store, &mut kept, 0..KEYS, &mut number)?;

    let counted = Region::new(ALLOCATOR);
    for round in 0..ROUNDS {
        let key = round % (KEYS / 2) * 2;
        commit_all(&store, &mut kept, key..key + 2, &mut number)?;
    }
    told("commit of two keys, the object open", &counted, OBJECTS * u64::from(ROUNDS));
    drop(kept);

    while store.steps().checkpoint()? {}
    // The first time brings pages into the cache.
    for count in [false, true] {
        read_all("open, and let go", count, &ids, &objects, |_| Ok(()))?;
        read_all("open, read a key, and let go", count, &ids, &objects, |object| {
            object.get([0])?.ok_or("a key is not there")?;
            Ok(())
        })?;
        read_all("open, list eight keys, and let go", count, &ids, &objects, |object| {
            let count = object.list(ListOptions::new())?.flatten().count();
            if count == usize::from(KEYS) { Ok(()) } else { Err("keys are not there".into()) }
        })?;
    }
    Ok(store.close()?)
}

/// One commit of each object, of these keys.
fn commit_all(
    store: &Store,
    objects: &mut [Object],
    keys: std::ops::Range<u8>,
    number: &mut u64,
) -> Result<()> {
    for object in objects {
        let mut turn = object.turn();
        for key in keys.clone() {
            let mut value = [key; 100];
            value[..8].copy_from_slice(&number.to_le_bytes());
            turn.put([key], value)?;
        }
        let lsn = turn.commit()?.detach().lsn;
        *number += 1;
        if number.is_multiple_of(IN_FLIGHT) {
            store.wait_durable(lsn)?;
        }
    }
    Ok(())
}

/// Opens each object once for this.
fn read_all(
    name: &str,
    count: bool,
    ids: &[ObjectId],
    objects: &Namespace,
    read: impl Fn(&Object) -> Result<()>,
) -> Result<()> {
    let counted = Region::new(ALLOCATOR);
    for id in ids {
        read(&objects.open(*id)?)?;
    }
    if count {
        told(name, &counted, OBJECTS);
    }
    Ok(())
}

fn told(name: &str, counted: &Region<'_, System>, times: u64) {
    let change = counted.change();
    let each = |count: usize| count as f64 / times as f64;
    println!(
        "allocations: {name:<36} {:6.2} {:8.0} B, {:6.2} grown anew",
        each(change.allocations),
        each(change.bytes_allocated),
        each(change.reallocations),
    );
}

//! A store with all its threads, in orders that are drawn: two that commit, one that looks, one
//! that makes checkpoints, and the power that is cut meanwhile.
//!
//! ```text
//! RUSTFLAGS="--cfg dostore_shuttle" CARGO_TARGET_DIR=target/shuttle DOSTORE_SCHEDULES=1000 \
//!   cargo test --lib schedules
//! ```
//!
//! Invariants:
//!   * A seed draws what the disk does and the order in which threads come to locks and atomics.
//!   * Who is not woken shows as a deadlock, but for threads that look for work by themselves.

use super::Store;
use super::blocking::block_on;
use super::namespace::Namespace;
use super::snapshot::Snapshot;
use crate::disk::sim::SimDisk;
use crate::ids::Lsn;
use crate::options::Options;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[path = "../../tests/ledger/mod.rs"]
mod ledger;

/// As many as a test run has time for.
const SCHEDULES: u64 = 300;
/// Orders in which a thread goes on for as long as it can, but for a few places that are drawn; in
/// the first the checker learns how long it takes.
const STUBBORN: usize = 2;
const CHANGES: usize = 4;
const STACK_BYTES: usize = 1 << 20;
const STEPS_MAX: usize = 5_000_000;

const NAMES: [&str; 2] = ["lobby", "attic"];
const TURNS: u8 = 4;

/// How many turns of each object were acknowledged.
type Acknowledged = Arc<[AtomicU64; 2]>;

#[test]
fn what_a_store_with_threads_acknowledges_is_there_in_whatever_order_they_go() {
    let number = |name, default| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let first: u64 = number("DOSTORE_FIRST_SEED", 0);
    let behind = first + number("DOSTORE_SCHEDULES", SCHEDULES);
    let (executions, cuts) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    for seed in first..behind {
        // Shown where it fails.
        println!("DOSTORE_FIRST_SEED={seed} DOSTORE_SCHEDULES=1");
        let (executions, cuts) = (Arc::clone(&executions), Arc::clone(&cuts));
        let life = move || {
            executions.fetch_add(1, Ordering::Relaxed);
            live(seed, &cuts);
        };
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        config.failure_persistence = FailurePersistence::None;
        config.silence_warnings = true;
        config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
        if seed % 2 == 0 {
            Runner::new(RandomScheduler::new_from_seed(seed, 1), config).run(life);
        } else {
            let scheduler = PctScheduler::new_from_seed(seed, CHANGES, STUBBORN);
            Runner::new(scheduler, config).run(life);
        }
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    ledger::add(&ledger::Row {
        kind: "schedules",
        seeds: format!("{first}..{behind}"),
        crashes: count(&cuts),
        executions: count(&executions),
        ..ledger::Row::default()
    });
}

fn options() -> Options {
    Options::default()
        .wal_file_bytes(64 << 10)
        .dirty_bytes(2 << 10)
        .reader_threads(1)
        .retire_after(Duration::ZERO)
}

fn live(seed: u64, cuts: &AtomicU64) {
    let disk = SimDisk::new(seed);
    let store = options().open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let acknowledged = Acknowledged::default();
    let mut threads: Vec<_> = (0..NAMES.len())
        .map(|which| {
            let (rooms, acknowledged) = (rooms.clone(), Arc::clone(&acknowledged));
            thread::spawn(move || write(&rooms, which, &acknowledged))
        })
        .collect();
    let of_looker = (store.clone(), rooms.clone());
    threads.push(thread::spawn(move || look(&of_looker.0, &of_looker.1)));
    let of_tender = store.clone();
    threads.push(thread::spawn(move || {
        for _ in 0..2 {
            of_tender.steps().checkpoint().unwrap();
            of_tender.steps().remove_retired().unwrap();
        }
    }));
    let known = counts(&acknowledged);
    check(&disk.fork().power_cut(), known);
    thread::yield_now();
    let known = counts(&acknowledged);
    let cut = disk.fork().power_cut();
    for thread in threads {
        thread.join().unwrap();
    }
    check(&cut, known);
    cuts.fetch_add(3, Ordering::Relaxed);
    assert!(store.last_failure().is_none(), "{:?}", store.last_failure());
    drop(rooms);
    let all = [u64::from(TURNS); 2];
    if seed % 4 < 2 {
        store.close().unwrap();
        let again = check(&disk.fork().power_cut(), all);
        assert_eq!(again.report().records_replayed, 0);
    } else {
        // The threads log what nobody has waited for.
        drop(store);
        check(&disk.fork().power_cut(), all);
    }
}

fn counts(acknowledged: &Acknowledged) -> [u64; 2] {
    [0, 1].map(|which: usize| acknowledged[which].load(Ordering::SeqCst))
}

/// Each turn builds on the one before it; some reopen the object, and not all are waited for.
fn write(rooms: &Namespace, which: usize, acknowledged: &Acknowledged) {
    let mut object = rooms.open_by_name(NAMES[which]).unwrap();
    for turn in 1..=TURNS {
        assert_eq!(object.get("turn").unwrap().map_or(0, |value| value[0]), turn - 1);
        let mut changes = object.turn();
        changes.put("turn", [turn]).unwrap().put([turn], [turn; 700]).unwrap();
        let commit = changes.commit().unwrap();
        match (turn + u8::from(which == 1)) % 3 {
            0 => _ = commit.detach(),
            1 => _ = commit.wait().unwrap(),
            _ => {
                let mut commit = pin!(commit);
                block_on(|context| commit.as_mut().poll(context)).unwrap();
            }
        }
        if (turn + u8::from(which == 1)) % 3 != 0 {
            acknowledged[which].store(u64::from(turn), Ordering::SeqCst);
        }
        if turn % 2 == 0 {
            drop(object);
            object = rooms.open_by_name(NAMES[which]).unwrap();
        }
    }
}

/// How many turns a snapshot shows: each whole, and none without those before it.
fn turns(snapshot: &Snapshot) -> u64 {
    let shown = snapshot.get("turn").unwrap().map_or(0, |value| value[0]);
    for turn in 1..=TURNS {
        let value = snapshot.get([turn]).unwrap();
        let is_whole = value.as_deref() == Some(&[turn; 700][..]);
        assert!(if turn <= shown { is_whole } else { value.is_none() });
    }
    u64::from(shown)
}

/// What a snapshot shows is durable, and never less than the one before it.
fn look(store: &Store, rooms: &Namespace) {
    let mut before = [(0, Lsn::ZERO); 2];
    for _ in 0..2 {
        for (which, name) in NAMES.iter().enumerate() {
            let snapshot = rooms.snapshot(rooms.id_from_name(name)).unwrap();
            assert!(store.durable() >= snapshot.last_lsn());
            let now = (turns(&snapshot), snapshot.last_lsn());
            assert!(now >= before[which], "{now:?} behind {:?}", before[which]);
            before[which] = now;
        }
    }
}

/// Opens what a power cut has left: what was acknowledged before it is there.
fn check(disk: &SimDisk, known: [u64; 2]) -> Store {
    let store = options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for (which, name) in NAMES.iter().enumerate() {
        let there = turns(&rooms.snapshot(rooms.id_from_name(name)).unwrap());
        assert!(there >= known[which], "{there} turns of {} in {name}", known[which]);
    }
    store
}

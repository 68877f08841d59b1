//! One commit at a time, beside one raw write and sync of the same size: waited for by a call,
//! which writes the log itself, right behind an open and later, and as a future, for which a thread
//! of the store writes it.
//!
//! Invariants:
//!   * All take turns commit by commit, and write into blocks that were written before, but for the
//!     commits behind the open.

use crate::load::{self, DataSet};
use crate::measure::{Goal, Histogram, Random, line};
use crate::raw::{BLOCK, RawFile};
use crate::{Result, Settings};
use dostore::store::Store;
use dostore::store::commit::{Commit, Position};
use dostore::store::object::Object;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Commits right behind the open; the first file of the log has room for more.
const FIRST_COMMITS: usize = 500;

pub fn run(settings: &Settings) -> Result<()> {
    let wal_file_bytes: u64 = if settings.quick { 4 << 20 } else { 64 << 20 };
    let time = Duration::from_secs_f64(settings.seconds(10.0));
    let set = DataSet::make(&settings.root, "churn", settings.objects(100_000))?;
    let store = set.open(Store::options().wal_file_bytes(wal_file_bytes))?;
    let mut raw =
        RawFile::create(&settings.root, "raw-alone", if settings.quick { 8 } else { 64 })?;
    let namespace = load::namespace(&store)?;
    let mut random = Random::new(1);
    let (mut first, mut beside) = (Histogram::new(), Histogram::new());
    for _ in 0..if settings.quick { FIRST_COMMITS / 10 } else { FIRST_COMMITS } {
        let mut object = namespace.open(load::id(&namespace, random.below(set.objects)))?;
        let began = Instant::now();
        change(&mut object, &mut random)?.wait()?;
        first.record(began.elapsed());
        beside.record(raw.append(BLOCK)?);
    }
    warm(&store, wal_file_bytes)?;
    let (mut own, mut awaited, mut bare) = (Histogram::new(), Histogram::new(), Histogram::new());
    let end = Instant::now() + time;
    let before = store.stats()?;
    while Instant::now() < end {
        let mut object = namespace.open(load::id(&namespace, random.below(set.objects)))?;
        let began = Instant::now();
        change(&mut object, &mut random)?.wait()?;
        own.record(began.elapsed());
        let began = Instant::now();
        block_on(change(&mut object, &mut random)?)?;
        awaited.record(began.elapsed());
        drop(object);
        bare.record(raw.append(BLOCK)?);
    }
    let after = store.stats()?;
    let groups = (after.groups - before.groups) as f64 / (after.commits - before.commits) as f64;
    let goal = Goal::RatioAtMost(1.3);
    let (micros, control) = (first.micros(0.5), Some(beside.micros(0.5)));
    line("alone: commit behind an open p50", micros, "us", goal, control);
    line("alone: commit p50", own.micros(0.5), "us", goal, Some(bare.micros(0.5)));
    line("alone: commit p99", own.micros(0.99), "us", Goal::None, Some(bare.micros(0.99)));
    let micros = awaited.micros(0.5);
    line("alone: awaited commit p50", micros, "us", Goal::None, Some(bare.micros(0.5)));
    line("alone: groups", groups, "per commit", Goal::None, None);
    Ok(store.close()?)
}

fn change(object: &mut Object, random: &mut Random) -> Result<Commit> {
    let mut values = [0; 2 * load::VALUE_BYTES];
    random.fill(&mut values);
    let (first, second) = values.split_at(load::VALUE_BYTES);
    let mut turn = object.turn();
    turn.put(load::KEYS[0], first)?.put(load::KEYS[1], second)?;
    Ok(turn.commit()?)
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a commit until it is durable.
fn block_on(commit: Commit) -> Result<Position> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut commit = pin!(commit);
    loop {
        match commit.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(position) => return Ok(position?),
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Fills log files until one that was prepared with written zeros is in use.
fn warm(store: &Store, wal_file_bytes: u64) -> Result<()> {
    // A store prepares files once it has logged a little.
    fill(store, wal_file_bytes / 4)?;
    let patience = Instant::now() + Duration::from_mins(1);
    while store.stats()?.pool_bytes < wal_file_bytes {
        if Instant::now() > patience {
            return Err("no log file was prepared".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    fill(store, wal_file_bytes)
}

fn fill(store: &Store, bytes: u64) -> Result<()> {
    let mut object = load::namespace(store)?.open_by_name("warm-up")?;
    let mut value = vec![0; 256 << 10];
    let mut random = Random::new(2);
    for _ in 0..=bytes / value.len() as u64 {
        random.fill(&mut value);
        object.put("filling", &value)?.wait()?;
    }
    object.delete("filling")?.wait()?;
    Ok(())
}

//! Durable commits a second with ten thousand in flight.
//!
//! Invariants:
//!   * A commit counts once the store has said that it is durable.

use crate::load::{self, DataSet, LOADERS, Window};
use crate::measure::{Goal, Histogram, Random, line, median};
use crate::raw::RawFile;
use crate::system::{self, Device};
use crate::{Result, Settings};
use dostore::store::Store;
use dostore::store::object::Object;
use std::path::Path;
use std::time::{Duration, Instant};

const IN_FLIGHT: usize = 10_000;
const ROUNDS: usize = 3;

/// One round of the engine.
struct Round {
    per_second: f64,
    processor_micros: f64,
    written_per_record: f64,
    record_bytes: f64,
    group_bytes: f64,
    latency: Histogram,
}

pub fn run(settings: &Settings) -> Result<()> {
    let objects = settings.objects(100_000);
    let time = Duration::from_secs_f64(settings.seconds(5.0));
    let set = DataSet::make(&settings.root, "churn", objects)?;
    let store = set.open(Store::options())?;
    let namespace = load::namespace(&store)?;
    let mut handles: Vec<Vec<Object>> = (0..LOADERS).map(|_| Vec::new()).collect();
    for (number, id) in set.ids(&namespace).into_iter().enumerate() {
        handles[number % LOADERS].push(namespace.open(id)?);
    }
    let mut raw =
        RawFile::create(&settings.root, "raw-groups", if settings.quick { 8 } else { 256 })?;
    // The first round brings pages and log files into their steady state.
    round(&store, &set.folder, &mut handles, time.min(Duration::from_secs(2)))?;
    let mut rounds = Vec::new();
    let mut controls = Vec::new();
    for _ in 0..ROUNDS {
        let round = round(&store, &set.folder, &mut handles, time)?;
        controls.push(raw.append_for(round.group_bytes as usize, time / 2)? / round.record_bytes);
        rounds.push(round);
    }
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let rate = middle(|round| round.per_second);
    line("commits: durable", rate, "1/s", Goal::AtLeast(300_000.0), Some(median(controls)));
    for (index, round) in rounds.iter().enumerate() {
        line(&format!("commits: round {index}"), round.per_second, "1/s", Goal::None, None);
    }
    let none = |name: &str, value: f64, unit: &str| line(name, value, unit, Goal::None, None);
    none("commits: processor time", middle(|round| round.processor_micros), "us/commit");
    none(
        "commits: device bytes, all processes",
        middle(|round| round.written_per_record),
        "x record",
    );
    none("commits: record", middle(|round| round.record_bytes), "bytes");
    none("commits: group", middle(|round| round.group_bytes) / 1024.0, "KiB");
    none("commits: latency p50", middle(|round| round.latency.micros(0.5)), "us");
    none("commits: latency p99", middle(|round| round.latency.micros(0.99)), "us");
    drop(handles);
    Ok(store.close()?)
}

fn round(
    store: &Store,
    folder: &Path,
    handles: &mut [Vec<Object>],
    time: Duration,
) -> Result<Round> {
    let device = Device::of(folder)?;
    let before = (store.stats()?, system::processor_seconds()?, device.counts()?.written_bytes);
    let began = Instant::now();
    let windows = std::thread::scope(|scope| -> Result<Vec<Window>> {
        let loaders: Vec<_> = handles
            .iter_mut()
            .zip(1..)
            .map(|(handles, stream)| scope.spawn(move || commit_for(store, handles, stream, time)))
            .collect();
        loaders.into_iter().map(|loader| loader.join().map_err(|_| "a loader panicked")?).collect()
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let after = (system::processor_seconds()?, device.counts()?.written_bytes, store.stats()?);
    let commits: u64 = windows.iter().map(|window| window.settled).sum();
    let mut latency = Histogram::new();
    for window in &windows {
        latency.add(&window.latency);
    }
    let record_bytes = (after.2.record_bytes - before.0.record_bytes) as f64;
    let groups = (after.2.groups - before.0.groups) as f64;
    Ok(Round {
        per_second: commits as f64 / seconds,
        processor_micros: (after.0 - before.1) * 1e6 / commits as f64,
        written_per_record: (after.1 - before.2) as f64 / record_bytes,
        record_bytes: record_bytes / commits as f64,
        group_bytes: record_bytes / groups,
        latency,
    })
}

fn commit_for(
    store: &Store,
    handles: &mut [Object],
    stream: u64,
    time: Duration,
) -> Result<Window> {
    let mut random = Random::new(stream);
    let mut window = Window::new(IN_FLIGHT / LOADERS);
    let end = Instant::now() + time;
    loop {
        let began = Instant::now();
        if began >= end {
            break;
        }
        let chosen = random.below(handles.len());
        let lsn = load::commit_two(&mut handles[chosen], &mut random)?;
        window.push(store, lsn, began)?;
    }
    window.drain(store)?;
    Ok(window)
}

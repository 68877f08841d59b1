//! What the size of a page does to one large object: the same work by six sizes, in turns.
//!
//! Invariants:
//!   * Each size has a store of its own, and what a round reads and commits is drawn anew.
//!   * Each read finds all the keys that were put.

use crate::load::{VALUE_BYTES, Window};
use crate::measure::{Goal, Random, line, median};
use crate::system::Device;
use crate::{Result, Settings, system};
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::object::Object;
use std::path::Path;
use std::time::{Duration, Instant};

const SIZES: [usize; 6] = [4 << 10, 8 << 10, 16 << 10, 24 << 10, 32 << 10, 64 << 10];
const ROUNDS: usize = 5;
/// Keys that are put by one turn while the object is made.
const MADE_AT_ONCE: usize = 8_000;
/// Keys that follow each other, read at once.
const NEIGHBOURS: usize = 8;
const READS: usize = 20_000;
const IN_FLIGHT: usize = 1_000;

/// What was measured of one size, a number each round.
#[derive(Default)]
struct Measured {
    read_micros: Vec<f64>,
    scanned: Vec<f64>,
    commits: Vec<f64>,
    /// Bytes that came to the device, of all processes, for each byte of records.
    written: Vec<f64>,
}

pub fn run(settings: &Settings) -> Result<()> {
    let keys = settings.objects(1_000_000);
    let time = Duration::from_secs_f64(settings.seconds(2.0));
    for size in SIZES {
        make(&folder_of(settings, size), size, keys)?;
    }
    let mut all: [Measured; SIZES.len()] = Default::default();
    for round in 0..if settings.quick { 1 } else { ROUNDS } {
        for place in 0..SIZES.len() {
            // What one leaves behind is not always met by the same other.
            let place = if round % 2 == 0 { place } else { SIZES.len() - 1 - place };
            let size = SIZES[place];
            measure(&folder_of(settings, size), size, (keys, time), &mut all[place])?;
        }
    }
    for (size, measured) in SIZES.iter().zip(all) {
        let say = |what: &str, unit: &str, numbers: Vec<f64>| {
            let name = format!("pages: {} KiB, {what}", size >> 10);
            line(&name, median(numbers), unit, Goal::None, None);
        };
        say("8 neighbours", "us", measured.read_micros);
        say("in order", "keys/s", measured.scanned);
        say("commits", "/s", measured.commits);
        say("device bytes for each of records", "times", measured.written);
        let bytes = system::folder_bytes(&folder_of(settings, *size))? as f64 / keys as f64;
        say("files for each key", "B", vec![bytes]);
    }
    Ok(())
}

fn folder_of(settings: &Settings, size: usize) -> std::path::PathBuf {
    settings.root.join(format!("pages-{size}"))
}

fn open(folder: &Path, size: usize) -> Result<(Store, Object)> {
    let store = Store::options().page_bytes(size).open(folder)?;
    let object = store.namespace("figures")?.open_by_name("large")?;
    Ok((store, object))
}

fn key(number: usize) -> String {
    format!("key-{number:010}")
}

fn make(folder: &Path, size: usize, keys: usize) -> Result<()> {
    let (store, mut object) = open(folder, size)?;
    let mut random = Random::new(1);
    let mut value = [0; VALUE_BYTES];
    for first in (0..keys).step_by(MADE_AT_ONCE) {
        let mut turn = object.turn();
        for number in first..(first + MADE_AT_ONCE).min(keys) {
            random.fill(&mut value);
            turn.put(key(number), value)?;
        }
        turn.commit()?.wait()?;
    }
    drop(object);
    Ok(store.close()?)
}

fn measure(
    folder: &Path,
    size: usize,
    (keys, time): (usize, Duration),
    measured: &mut Measured,
) -> Result<()> {
    let (store, mut object) = open(folder, size)?;
    let began = Instant::now();
    if object.list(ListOptions::new())?.count() != keys {
        return Err("keys are missing".into());
    }
    measured.scanned.push(keys as f64 / began.elapsed().as_secs_f64());
    let mut random = Random::new(2);
    let began = Instant::now();
    for _ in 0..READS {
        let first = random.below(keys - NEIGHBOURS);
        let found = object.range(key(first)..key(first + NEIGHBOURS))?;
        if found.flatten().count() != NEIGHBOURS {
            return Err("neighbours are missing".into());
        }
    }
    measured.read_micros.push(began.elapsed().as_secs_f64() * 1e6 / READS as f64);
    let device = Device::of(folder)?;
    let (before, written) = (store.stats()?, device.counts()?.written_bytes);
    let commits = commit(&store, &mut object, (keys, time), &mut random)?;
    measured.commits.push(commits);
    // What the commits made dirty counts as well.
    store.steps().checkpoint()?;
    let records = store.stats()?.record_bytes - before.record_bytes;
    drop(object);
    store.close()?;
    let written = device.counts()?.written_bytes - written;
    measured.written.push(written as f64 / records as f64);
    Ok(())
}

/// Commits two keys at a time, each anywhere; how many a second.
fn commit(
    store: &Store,
    object: &mut Object,
    (keys, time): (usize, Duration),
    random: &mut Random,
) -> Result<f64> {
    let mut window = Window::new(IN_FLIGHT);
    let mut value = [0; VALUE_BYTES];
    let began = Instant::now();
    while began.elapsed() < time {
        let asked = Instant::now();
        let mut turn = object.turn();
        for _ in 0..2 {
            random.fill(&mut value);
            turn.put(key(random.below(keys)), value)?;
        }
        window.push(store, turn.commit()?.detach().lsn, asked)?;
    }
    window.drain(store)?;
    Ok(window.settled as f64 / began.elapsed().as_secs_f64())
}

//! Opening a store: after a clean close, and after its process was killed.
//!
//! Invariants:
//!   * Caches are dropped before each open where that is allowed, and the line says so if not.

use crate::load::{self, DataSet, Window};
use crate::measure::{Goal, Random, line, median};
use crate::raw::{files, read_through};
use crate::system::drop_caches;
use crate::{Result, Settings, child};
use dostore::store::Store;
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

/// The child that commits until it is killed.
pub const CHILD: &str = "part-load";

pub fn run(settings: &Settings) -> Result<()> {
    clean(settings)?;
    killed(settings)
}

fn clean(settings: &Settings) -> Result<()> {
    let large_objects = settings.objects(1_000_000);
    let small = DataSet::make(&settings.root, "objects", large_objects / 10)?;
    let large = DataSet::make(&settings.root, "objects", large_objects)?;
    let rounds = if settings.quick { 3 } else { 7 };
    let (mut times, mut raw) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut is_cold = true;
    for _ in 0..rounds {
        for (set, index) in [(&small, 0), (&large, 1)] {
            is_cold &= drop_caches();
            let began = Instant::now();
            for path in files(&set.folder.join("data"))? {
                read_through(&path, 4096)?;
            }
            raw[index].push(began.elapsed().as_secs_f64() * 1e3);
            is_cold &= drop_caches();
            let began = Instant::now();
            let store = set.open(Store::options())?;
            times[index].push(began.elapsed().as_secs_f64() * 1e3);
            if !store.report().was_closed {
                return Err("a store that was closed does not say so".into());
            }
            store.close()?;
        }
    }
    let caches = if is_cold { "cold" } else { "caches not dropped" };
    let ([few, many], [raw_few, raw_many]) = (times.map(median), raw.map(median));
    let (small, large) = (small.objects, large.objects);
    let name = format!("open-store: {small} objects, {caches}");
    line(&name, few, "ms", Goal::AtMost(50.0), Some(raw_few));
    let name = format!("open-store: {large} objects, {caches}");
    line(&name, many, "ms", Goal::AtMost(50.0), Some(raw_many));
    line("open-store: growth by ten times", many / few, "x", Goal::AtMost(1.5), None);
    Ok(())
}

fn killed(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "churn", settings.objects(100_000))?;
    let tail_wanted: u64 = if settings.quick { 8 << 20 } else { 128 << 20 };
    let rounds = if settings.quick { 1 } else { 5 };
    let (mut rates, mut raw_rates, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let record_bytes = load_and_kill(&set, tail_wanted)?;
        drop_caches();
        let began = Instant::now();
        let mut bytes = 0;
        for path in files(&set.folder.join("data"))? {
            if path.parent().is_some_and(|folder| folder.ends_with("wal")) {
                bytes += read_through(&path, u64::MAX)?;
            }
        }
        raw_rates.push(bytes as f64 / 1e6 / began.elapsed().as_secs_f64());
        drop_caches();
        let began = Instant::now();
        let store = set.open(Store::options())?;
        let seconds = began.elapsed().as_secs_f64();
        let tail = store.report().records_replayed as f64 * record_bytes;
        rates.push(tail / 1e6 / seconds);
        tails.push(tail / f64::from(1 << 20));
        store.close()?;
    }
    let (goal, control) = (Goal::AtLeast(300.0), Some(median(raw_rates)));
    line("open-store: replay after a kill", median(rates), "MB/s", goal, control);
    line("open-store: tail replayed", median(tails), "MiB", Goal::None, None);
    Ok(())
}

/// Has a child commit so many bytes that no page holds, and kills it. The mean bytes of a record.
fn load_and_kill(set: &DataSet, tail_wanted: u64) -> Result<f64> {
    let objects = ["--objects".to_owned(), set.objects.to_string()];
    let mut child = child(CHILD, &set.folder, &objects)?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let mut said = (0, 0);
    for text in BufReader::new(output).lines() {
        let text = text?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        if let (Some(Ok(commits)), Some(Ok(bytes))) = (numbers.next(), numbers.next()) {
            said = (commits, bytes);
        }
        if said.1 >= tail_wanted {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    if said.1 < tail_wanted {
        return Err("the child ended before it had committed enough".into());
    }
    Ok(said.1 as f64 / said.0 as f64)
}

/// The child: commits without a checkpoint, and says how much every few thousand commits.
pub fn load(settings: &Settings) -> Result<()> {
    let set = DataSet { folder: settings.root.clone(), objects: settings.objects(0) };
    let store = set.open(Store::options().dirty_bytes(4 << 30))?;
    let namespace = load::namespace(&store)?;
    let ids = set.ids(&namespace);
    let mut random = Random::new(1);
    let mut window = Window::new(5_000);
    for commit in 1_u64.. {
        let mut object = namespace.open(ids[random.below(ids.len())])?;
        let began = Instant::now();
        let lsn = load::commit_two(&mut object, &mut random)?;
        drop(object);
        window.push(&store, lsn, began)?;
        if commit.is_multiple_of(5_000) {
            let stats = store.stats()?;
            println!("{} {}", stats.commits, stats.record_bytes);
            std::io::stdout().flush()?;
        }
    }
    Ok(())
}

//! Opening one object and reading from it: from memory, and from the device.
//!
//! Invariants:
//!   * Each open is of an object that is not in memory: nothing was committed since the store was
//!     opened.

use crate::load::{self, DataSet, KEYS};
use crate::measure::{Goal, Histogram, Random, line, median};
use crate::raw::{RawFile, files, read_through};
use crate::system::{Device, drop_caches};
use crate::{Result, Settings, system};
use dostore::ids::ObjectId;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use std::time::{Duration, Instant};

/// Opens, reads one key, lets go.
fn touch(namespace: &Namespace, id: ObjectId, key: &str) -> Result<Duration> {
    let began = Instant::now();
    let object = namespace.open(id)?;
    let value = object.get(key)?;
    drop(object);
    let time = began.elapsed();
    if value.is_none() {
        return Err("an object of the data set has no value".into());
    }
    Ok(time)
}

pub fn warm(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "objects", settings.objects(100_000))?;
    let store = set.open(Store::options())?;
    let namespace = load::namespace(&store)?;
    let ids = set.ids(&namespace);
    let mut raw =
        RawFile::create(&settings.root, "raw-warm", if settings.quick { 8 } else { 128 })?;
    for id in &ids {
        touch(&namespace, *id, KEYS[0])?;
    }
    let mut random = Random::new(1);
    let (mut own, mut bare) = (Histogram::new(), Histogram::new());
    let end = Instant::now() + Duration::from_secs_f64(settings.seconds(5.0));
    while Instant::now() < end {
        for _ in 0..1_000 {
            let id = ids[random.below(ids.len())];
            own.record(touch(&namespace, id, KEYS[random.below(KEYS.len())])?);
        }
        for _ in 0..1_000 {
            bare.record(raw.read_block()?);
        }
    }
    let goal = Goal::AtMost(2.5);
    line("open-warm: open, get, drop p50", own.micros(0.5), "us", goal, Some(bare.micros(0.5)));
    line("open-warm: p99", own.micros(0.99), "us", Goal::None, Some(bare.micros(0.99)));
    Ok(store.close()?)
}

const BLOCK_OF_OPENS: usize = 100;

pub fn cold(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "objects", settings.objects(1_000_000))?;
    let mut raw =
        RawFile::create(&settings.root, "raw-cold", if settings.quick { 32 } else { 1024 })?;
    let store = set.open(Store::options())?;
    let namespace = load::namespace(&store)?;
    let ids = set.ids(&namespace);
    if !drop_caches() {
        println!("open-cold: skipped, this process may not drop the page cache");
        return Ok(store.close()?);
    }
    raw.advise_random()?;
    for path in files(&set.folder.join("data"))? {
        if path.parent().is_some_and(|folder| folder.ends_with("run")) {
            read_through(&path, u64::MAX)?;
        }
    }
    let device = Device::of(&set.folder)?;
    let mut random = Random::new(1);
    let (mut own, mut bare) = (Histogram::new(), Histogram::new());
    let (mut own_reads, mut bare_reads) = (Vec::new(), Vec::new());
    let mut own_bytes = 0;
    let blocks = if settings.quick { 3 } else { 30 };
    for _ in 0..blocks {
        let before = (device.counts()?.reads, system::read_bytes()?);
        for _ in 0..BLOCK_OF_OPENS {
            own.record(touch(&namespace, ids[random.below(ids.len())], KEYS[3])?);
        }
        let between = (device.counts()?.reads, system::read_bytes()?);
        for _ in 0..BLOCK_OF_OPENS {
            bare.record(raw.read_block()?);
        }
        own_reads.push((between.0 - before.0) as f64 / BLOCK_OF_OPENS as f64);
        own_bytes += between.1 - before.1;
        bare_reads.push((device.counts()?.reads - between.0) as f64 / BLOCK_OF_OPENS as f64);
    }
    let mean = |reads: &[f64]| reads.iter().sum::<f64>() / reads.len() as f64;
    let bare_mean = mean(&bare_reads);
    line(
        "open-cold: device reads, mean",
        mean(&own_reads),
        "per open",
        Goal::None,
        Some(bare_mean),
    );
    let control = Some(median(bare_reads));
    line("open-cold: device reads", median(own_reads), "per open", Goal::AtMost(1.1), control);
    let bytes = own_bytes as f64 / (blocks * BLOCK_OF_OPENS) as f64 / 1024.0;
    line("open-cold: read from the device", bytes, "KiB per open", Goal::None, Some(4.0));
    line("open-cold: p50", own.micros(0.5), "us", Goal::None, Some(bare.micros(0.5)));
    line("open-cold: p99", own.micros(0.99), "us", Goal::None, Some(bare.micros(0.99)));
    Ok(store.close()?)
}

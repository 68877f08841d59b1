//! Memory and descriptors of a store with a million objects.
//!
//! Invariants:
//!   * A process of its own is measured, so that nothing of making the objects is counted.

use crate::load::{self, DataSet};
use crate::measure::{Goal, Random, line};
use crate::{Result, Settings, child, system};
use dostore::store::Store;
use std::io::Read;
use std::time::Instant;

/// The child that is measured.
pub const CHILD: &str = "part-activate";

const MEBIBYTE: f64 = (1 << 20) as f64;

pub fn run(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "objects", settings.objects(1_000_000))?;
    let objects = ["--objects".to_owned(), set.objects.to_string()];
    let mut child = child(CHILD, &set.folder, &objects)?;
    let mut said = String::new();
    let mut output = child.stdout.take().ok_or("the child has no output")?;
    output.read_to_string(&mut said)?;
    if !child.wait()?.success() {
        return Err("the measured child failed".into());
    }
    print!("{said}");
    Ok(())
}

/// The child: random activations with a small cache, then what it costs.
pub fn activate(settings: &Settings) -> Result<()> {
    let set = DataSet { folder: settings.root.clone(), objects: settings.objects(0) };
    let before = system::memory()?;
    let store = set.open(Store::options().cache_bytes(64 << 20))?;
    let namespace = load::namespace(&store)?;
    let mut random = Random::new(1);
    let activations = (set.objects / 10).max(1);
    let began = Instant::now();
    for _ in 0..activations {
        let id = load::id(&namespace, random.below(set.objects));
        let object = namespace.activate(id).wait()?;
        if object.get(load::KEYS[5])?.is_none() {
            return Err("an object of the data set has no value".into());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let memory = system::memory()?;
    let mebibytes = |bytes: u64| bytes as f64 / MEBIBYTE;
    let goal = Goal::AtMost(124.0);
    let control = Some(mebibytes(before.anonymous));
    line("million: RssAnon + RssShmem", memory.anonymous as f64 / 1e6, "MB", goal, control);
    let mapped = mebibytes(memory.mapped);
    line("million: RssFile, mapped", mapped, "MiB", Goal::None, None);
    let descriptors = system::descriptors()? as f64;
    line("million: open descriptors", descriptors, "", Goal::AtMost(99.0), None);
    let cached = mebibytes(store.stats()?.cache_bytes);
    line("million: page cache of the store", cached, "MiB", Goal::None, None);
    line("million: activations", activations as f64 / seconds, "1/s", Goal::None, None);
    Ok(store.close()?)
}

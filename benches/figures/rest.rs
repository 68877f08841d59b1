//! What history takes at rest: bytes of a commit in the log, in history before compression and in
//! its files, of values of which a given share is random.
//!
//! Invariants:
//!   * Exactly that share of the bytes of each value is random, in one piece at a place drawn anew;
//!     the rest are words that repeat.
//!   * All is merged and the store closed before anything is measured.

use crate::load::{self, DataSet, LOADERS, Window};
use crate::measure::{Goal, Random, line};
use crate::{Result, Settings};
use dostore::disk::ReadDisk;
use dostore::disk::real::RealReadDisk;
use dostore::manifest;
use dostore::object::history::bundle_of;
use dostore::run::{Run, RunItem};
use dostore::store::Store;
use std::path::Path;
use std::time::Instant;

/// Commits for each object.
const COMMITS_EACH: usize = 100;
const IN_FLIGHT: usize = 20_000;
const VALUE_BYTES: usize = 300;
const RANDOM_PERCENT: usize = 30;
const WORDS: &[u8] = b"{\"kind\":\"message\",\"room\":\"lobby\",\"author\":\"ann\",\
    \"edited\":false,\"mentions\":[],\"attachments\":[],\"reactions\":{},\"reply_to\":null,\
    \"text\":\"the quick brown fox jumps over the lazy dog and then goes home to have a cup of \
    tea with its old friends\"}, ";

pub fn run(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "rest", settings.objects(10_000))?;
    let store = set.open(Store::options())?;
    let commits = COMMITS_EACH * set.objects;
    let before = store.stats()?.record_bytes;
    std::thread::scope(|scope| -> Result<()> {
        let loaders: Vec<_> = (0..LOADERS)
            .map(|loader| {
                let (store, objects) = (&store, set.objects);
                scope.spawn(move || fill(store, objects, (loader, commits)))
            })
            .collect();
        loaders.into_iter().try_for_each(|done| done.join().map_err(|_| "a loader panicked")?)
    })?;
    store.steps().checkpoint()?;
    while store.steps().merge()? {}
    let stats = store.stats()?;
    store.close()?;
    let raw = raw_bytes(&set.folder.join("data"))?;
    let each = |bytes: u64| bytes as f64 / commits as f64;
    let record = each(stats.record_bytes - before);
    let name = |what: &str| format!("rest: {RANDOM_PERCENT} % random, {what}");
    line(&name("record of a commit"), record, "B", Goal::None, None);
    line(&name("history, not compressed"), each(raw), "B", Goal::None, None);
    line(&name("history"), each(stats.history_bytes), "B", Goal::None, None);
    let times = record / each(stats.history_bytes);
    line(&name("smaller than records"), times, "times", Goal::None, None);
    Ok(())
}

/// Fills a value.
fn fill_value(random: &mut Random, value: &mut [u8]) {
    let from = random.below(WORDS.len());
    for (byte, word) in value.iter_mut().zip(WORDS.iter().cycle().skip(from)) {
        *byte = *word;
    }
    let noise = value.len() * RANDOM_PERCENT / 100;
    let at = random.below(value.len() - noise + 1);
    random.fill(&mut value[at..at + noise]);
}

/// Makes its share of the commits.
fn fill(store: &Store, objects: usize, (loader, commits): (usize, usize)) -> Result<()> {
    let namespace = load::namespace(store)?;
    let mut random = Random::new(loader as u64);
    let mut window = Window::new(IN_FLIGHT);
    let mut value = [0; VALUE_BYTES];
    for _ in 0..commits / LOADERS {
        let rank = random.below(objects / LOADERS) * LOADERS + loader;
        let mut object = namespace.open(load::id(&namespace, rank))?;
        fill_value(&mut random, &mut value);
        let began = Instant::now();
        let commit = object.put(load::KEYS[random.below(load::KEYS.len())], value)?;
        drop(object);
        window.push(store, commit.detach().lsn, began)?;
    }
    window.drain(store)
}

/// Bytes of what the items of all files of history say.
fn raw_bytes(folder: &Path) -> Result<u64> {
    let disk = RealReadDisk::open(folder)?;
    let manifest = manifest::read(&disk)?.ok_or("there is no store")?;
    let disk: &dyn ReadDisk = &disk;
    let mut bytes = 0;
    for file in &manifest.history {
        let run = Run::open(disk, manifest.store, &file.facts)?;
        for item in run.iter() {
            let RunItem::Entry { value, .. } = item? else { continue };
            let bundle = bundle_of(&run, &value)?;
            let items = (0..bundle.count()).filter_map(|index| bundle.item(index));
            bytes += items.map(|(_, value)| value.len() as u64).sum::<u64>();
        }
    }
    Ok(bytes)
}

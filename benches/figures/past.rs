//! What the past costs to read and to bring back: tiny objects at random moments of a long history,
//! some of them committed to far more often than the others; warm, by age, and from the device.
//!
//! Invariants:
//!   * What is read from the device is read with no file of the store in memory but what the open
//!     and a first look into each file have read, in the order in which samples come, and is what
//!     the kernel says of this process.
//!   * The open epoch has as many files as merging leaves, of one size: the worst for a read.
//!   * Moments are drawn evenly over all commits made, so hot objects have their share of commits,
//!     and over all of the history's age.
//!   * Every value read is compared with what was committed.

use crate::load::{self, DataSet, LOADERS, Window};
use crate::measure::{Goal, Histogram, Random, line};
use crate::{Result, Settings, system};
use dostore::bookmark::Bookmark;
use dostore::disk::real::RealReadDisk;
use dostore::ids::{ObjectId, Timestamp};
use dostore::manifest;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Commits for each object in the mean.
const COMMITS_EACH: usize = 100;
/// Objects that share a tenth of all commits.
const HOT: usize = 10;
const IN_FLIGHT: usize = 20_000;
/// Files of history that merging leaves in an open epoch.
const FILES: usize = 11;
/// A round is one checkpoint's.
const DIRTY_BYTES: usize = 2 << 30;
/// One commit in so many is a moment to come back to.
const SAMPLE_EVERY: usize = 500;
const RESTORATIONS: usize = 2_000;
/// Samples that are read, and restored, with nothing in memory.
const COLD: usize = 1_000;
const AGES: usize = 10;
/// Moments that are looked at first, evenly over all commits: several in each file, so that no
/// other look is the first into one, which reads its index.
const LOOKS: usize = 4 * FILES;
const COLD_BYTES_MAX: f64 = 256.0;
const KEY: &str = "key-0";

/// A commit to look at later.
struct Sample {
    id: ObjectId,
    bookmark: Bookmark,
    time: Timestamp,
    value: [u8; load::VALUE_BYTES],
    age: f64,
    is_hot: bool,
}

pub fn run(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "past", settings.objects(100_000))?;
    let store = set.open(Store::options().threads(false).dirty_bytes(DIRTY_BYTES))?;
    let namespace = load::namespace(&store)?;
    let ids = set.ids(&namespace);
    let folder = set.folder.join("data");
    // Each round is a checkpoint, and that is a file.
    let rounds = FILES - files(&folder)?.min(FILES - 1);
    let share = COMMITS_EACH * ids.len() / (LOADERS * rounds);
    let commits = share * LOADERS * rounds;
    let mut samples = Vec::new();
    let began = Instant::now();
    for round in 0..rounds {
        samples.extend(fill_round(&store, &namespace, &ids, (round, rounds, share))?);
        store.steps().checkpoint()?;
        while store.steps().merge()? {}
    }
    let seconds = began.elapsed().as_secs_f64();
    line("past: commits made and published", commits as f64 / seconds, "/s", Goal::None, None);
    let stats = store.stats()?;
    let each = |bytes: u64| bytes as f64 / commits as f64;
    line("past: record bytes of a commit", each(stats.record_bytes), "B", Goal::None, None);
    line("past: history bytes of a commit", each(stats.history_bytes), "B", Goal::None, None);
    shuffle(&mut samples);
    drop(namespace);
    store.close()?;
    line("past: files of history", files(&folder)? as f64, "", Goal::None, None);
    from_the_device(&set, &folder, &samples)?;
    remember(&folder)?;
    let store = set.open(Store::options())?;
    let namespace = load::namespace(&store)?;
    read(&namespace, &samples, "first", check)?;
    read(&namespace, &samples, "warm", check)?;
    // A time may lead to other blocks than the bookmark does.
    read(&namespace, &samples, "first by time", check_by_time)?;
    read(&namespace, &samples, "warm by time", check_by_time)?;
    restore(&namespace, &samples)?;
    drop(namespace);
    Ok(store.close()?)
}

/// Reads some samples and restores others, each when nothing of the store is in memory but what
/// those before it have brought there.
fn from_the_device(set: &DataSet, folder: &Path, samples: &[Sample]) -> Result<()> {
    let count = COLD.min(samples.len() / 4);
    let rest = &samples[3 * count..];
    let kinds = ["read", "read by time", "restoration"];
    for (what, samples) in kinds.into_iter().zip(samples.chunks(count)) {
        evict(folder)?;
        let store = set.open(Store::options().threads(false))?;
        let namespace = load::namespace(&store)?;
        // What every open reads, and the first look into each file.
        let before = system::read_bytes()?;
        for look in 0..LOOKS {
            let is_its = |sample: &&Sample| (sample.age * LOOKS as f64) as usize == look;
            let Some(sample) = rest.iter().rfind(is_its) else { continue };
            namespace.at(sample.id, &sample.bookmark)?;
        }
        let first = (system::read_bytes()? - before) as f64 / 1024.0;
        line("past: first looks from the device, bytes", first, "KiB", Goal::None, None);
        let (mut bytes, mut times) = (Vec::new(), Histogram::new());
        for sample in samples {
            let (before, began) = (system::read_bytes()?, Instant::now());
            match what {
                "read" => drop(check(sample, &namespace)?),
                "read by time" => drop(check_by_time(sample, &namespace)?),
                _ => drop(namespace.restore(sample.id, &sample.bookmark)?.commit.detach()),
            }
            times.record(began.elapsed());
            bytes.push((system::read_bytes()? - before) as f64 / 1024.0);
        }
        bytes.sort_by(f64::total_cmp);
        let at = |share: f64| bytes[((bytes.len() - 1) as f64 * share) as usize];
        let name = |part: &str| format!("past: {what} from the device, {part}");
        line(&name("bytes, median"), at(0.5), "KiB", Goal::None, None);
        line(&name("bytes, p99"), at(0.99), "KiB", Goal::None, None);
        line(&name("bytes, most"), at(1.0), "KiB", Goal::AtMost(COLD_BYTES_MAX), None);
        line(&name("median"), times.micros(0.5), "us", Goal::None, None);
        line(&name("p99"), times.micros(0.99), "us", Goal::None, None);
        drop(namespace);
        store.close()?;
    }
    Ok(())
}

/// Has nothing of a closed store in memory.
fn evict(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
        } else if path.extension().is_none_or(|extension| extension != "sock") {
            let file = File::open(&path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Has all of a closed store in memory.
fn remember(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remember(&path)?;
        } else if path.extension().is_none_or(|extension| extension != "sock") {
            std::io::copy(&mut File::open(&path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

fn shuffle(samples: &mut [Sample]) {
    let mut random = Random::new(99);
    for index in (1..samples.len()).rev() {
        samples.swap(index, random.below(index + 1));
    }
}

fn files(folder: &Path) -> Result<usize> {
    let manifest = manifest::read(&RealReadDisk::open(folder)?)?;
    Ok(manifest.ok_or("there is no store")?.history.len())
}

/// Makes the commits of a round, and samples of them.
fn fill_round(
    store: &Store,
    namespace: &Namespace,
    ids: &[ObjectId],
    round: (usize, usize, usize),
) -> Result<Vec<Sample>> {
    std::thread::scope(|scope| {
        let make = |loader| move || fill(store, namespace, ids, (loader, round));
        let loaders: Vec<_> = (0..LOADERS).map(|loader| scope.spawn(make(loader))).collect();
        let mut all = Vec::new();
        for done in loaders {
            all.extend(done.join().map_err(|_| "a loader panicked")??);
        }
        Ok(all)
    })
}

/// Makes a loader's share of the commits of a round, of so many rounds.
fn fill(
    store: &Store,
    namespace: &Namespace,
    ids: &[ObjectId],
    (loader, (round, rounds, share)): (usize, (usize, usize, usize)),
) -> Result<Vec<Sample>> {
    let mut random = Random::new((round * LOADERS + loader) as u64);
    let mut window = Window::new(IN_FLIGHT);
    let own = ids.len() / LOADERS;
    let mut samples = Vec::with_capacity(share / SAMPLE_EVERY);
    let mut value = [0; load::VALUE_BYTES];
    for number in 0..share {
        let is_hot = random.below(10) == 0;
        let rank = random.below(if is_hot { HOT / LOADERS } else { own });
        let id = ids[rank * LOADERS + loader];
        let mut object = namespace.open(id)?;
        random.fill(&mut value);
        let began = Instant::now();
        let commit = object.put(KEY, value)?;
        if number % SAMPLE_EVERY == 0 {
            let age = (round * share + number) as f64 / (rounds * share) as f64;
            let (bookmark, time) = (commit.bookmark(), commit.position().time);
            samples.push(Sample { id, bookmark, time, value, age, is_hot });
        }
        window.push(store, commit.detach().lsn, began)?;
    }
    window.drain(store)?;
    Ok(samples)
}

/// Reads a key of a sample as of its moment. Says how long that took.
fn check(sample: &Sample, namespace: &Namespace) -> Result<Duration> {
    let began = Instant::now();
    let found = namespace.at(sample.id, &sample.bookmark)?.get(KEY)?;
    let took = began.elapsed();
    if found.as_deref() == Some(&sample.value[..]) {
        return Ok(took);
    }
    Err("a moment of the past is not what was committed".into())
}

/// The same as of the time of its commit, which a later commit may share.
fn check_by_time(sample: &Sample, namespace: &Namespace) -> Result<Duration> {
    let time = UNIX_EPOCH + Duration::from_micros(sample.time.0);
    let began = Instant::now();
    let bookmark = namespace.bookmark_at(sample.id, time)?;
    let found = namespace.at(sample.id, &bookmark)?.get(KEY)?;
    let took = began.elapsed();
    if found.as_deref() == Some(&sample.value[..]) {
        return Ok(took);
    }
    let later = (Bound::Excluded(sample.bookmark), Bound::Included(bookmark));
    match namespace.history(sample.id, later)?.next().transpose()? {
        Some(commit) if commit.time == sample.time => Ok(took),
        _ => Err("a time of the past is not what was committed by then".into()),
    }
}

/// Reads all samples, and tells apart those of hot objects and of each age.
fn read(
    namespace: &Namespace,
    samples: &[Sample],
    which: &str,
    check: fn(&Sample, &Namespace) -> Result<Duration>,
) -> Result<()> {
    let (mut all, mut hot) = (Histogram::new(), Histogram::new());
    let mut ages = vec![Histogram::new(); AGES];
    for sample in samples {
        let took = check(sample, namespace)?;
        all.record(took);
        if sample.is_hot {
            hot.record(took);
        }
        ages[(sample.age * AGES as f64) as usize].record(took);
    }
    let goal = if which.starts_with("first") { Goal::None } else { Goal::AtMost(1000.0) };
    let name = |what: &str| format!("past: {which} read as of a moment{what}");
    line(&name(", median"), all.micros(0.5), "us", Goal::None, None);
    line(&name(", p99"), all.micros(0.99), "us", goal, None);
    line(&name(" of a hot object, median"), hot.micros(0.5), "us", Goal::None, None);
    line(&name(" of a hot object, p99"), hot.micros(0.99), "us", goal, None);
    if which == "warm" {
        for (age, times) in (1..).zip(&ages) {
            let name = |part| format!("past: warm read, tenth {age} of the commits, {part}");
            line(&name("median"), times.micros(0.5), "us", Goal::None, None);
            line(&name("p99"), times.micros(0.99), "us", goal, None);
        }
    }
    Ok(())
}

/// Brings objects back; the commit is made, and its durability not waited for.
fn restore(namespace: &Namespace, samples: &[Sample]) -> Result<()> {
    // What it is now is in memory as well.
    for sample in samples.iter().take(RESTORATIONS) {
        namespace.snapshot(sample.id)?.get(KEY)?;
    }
    let mut times = Histogram::new();
    let mut last = None;
    for sample in samples.iter().take(RESTORATIONS) {
        let began = Instant::now();
        let restored = namespace.restore(sample.id, &sample.bookmark)?;
        times.record(began.elapsed());
        last = Some(restored.commit);
    }
    if let Some(commit) = last {
        commit.wait()?;
    }
    line("past: restoration, median", times.micros(0.5), "us", Goal::None, None);
    line("past: restoration, p99", times.micros(0.99), "us", Goal::AtMost(1000.0), None);
    Ok(())
}

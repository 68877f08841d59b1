//! A steady load for minutes: does the store keep up with its own cleaning?
//!
//! Invariants:
//!   * The load is offered by the clock: a store that falls behind does not slow it down, up to
//!     the commits that may be in flight.
//!   * Every second is printed, so that none can hide in an average; and with it what threads met
//!     that do nothing of the store.
//!   * The bound on files is one on what the present takes; history has columns of its own.

use crate::account::Files;
use crate::load::{self, DataSet, LOADERS, Window};
use crate::measure::{Goal, Histogram, Random, Zipf, line, median};
use crate::raw::{RawFile, new_file_cost};
use crate::system::{self, Device};
use crate::witness::{Seen, Witness};
use crate::{Result, Settings};
use dostore::ids::ObjectId;
use dostore::store::namespace::Namespace;
use dostore::store::{Stats, Store};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const OFFERED: f64 = 100_000.0;
const IN_FLIGHT: usize = 100_000;
const DIRTY_BYTES: usize = 128 << 20;
const RETIRE_AFTER: Duration = Duration::from_secs(5);
/// How often a loader tells its latencies.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// Bytes of a record of two keys with their values.
const RECORD_BYTES: f64 = 264.0;
const MEBIBYTE: f64 = (1 << 20) as f64;

pub fn run(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "churn", settings.objects(1_000_000))?;
    control(settings)?;
    let is_wanted = |name| settings.load.as_ref().is_none_or(|load| load == name);
    if is_wanted("uniform") {
        phase(settings, &set, "uniform", None)?;
    }
    if is_wanted("zipf") {
        let ranks = set.objects / LOADERS;
        phase(settings, &set, "zipf", Some(&Zipf::new(ranks, 0.99)))?;
    }
    control(settings)
}

/// What the disk can do now, before and after.
fn control(settings: &Settings) -> Result<()> {
    let mut raw = RawFile::create(&settings.root, "raw-sustained", 64)?;
    let time = Duration::from_secs_f64(settings.seconds(3.0).min(3.0));
    let rate = raw.append_for(256 << 10, time)? / 1e6;
    line("sustained: raw groups of 256 KiB", rate, "MB/s", Goal::None, None);
    let each = new_file_cost(&settings.root, if settings.quick { 8 } else { 256 })?;
    line("sustained: raw new file, processor time", each, "ms/MiB", Goal::None, None);
    Ok(())
}

/// What the loaders and the sampler share.
struct Shared<'a> {
    store: &'a Store,
    ids: &'a [ObjectId],
    zipf: Option<&'a Zipf>,
    is_over: AtomicBool,
    settled: AtomicU64,
    /// How far the load lies behind the clock, the worse of the loaders, in microseconds.
    behind: AtomicU64,
    latency: Mutex<Histogram>,
    stats: Mutex<Stats>,
    witness: Witness,
}

fn phase(settings: &Settings, set: &DataSet, name: &str, zipf: Option<&Zipf>) -> Result<()> {
    // Files that nothing names wait for readers in other processes: there are none here.
    let options = Store::options()
        .dirty_bytes(DIRTY_BYTES)
        .retire_after(RETIRE_AFTER)
        .retention(settings.retention);
    let store = set.open(options)?;
    let namespace = load::namespace(&store)?;
    let ids = set.ids(&namespace);
    let shared = Shared {
        store: &store,
        ids: &ids,
        zipf,
        is_over: AtomicBool::new(false),
        settled: AtomicU64::new(0),
        behind: AtomicU64::new(0),
        latency: Mutex::new(Histogram::new()),
        stats: Mutex::new(store.stats()?),
        witness: Witness::new()?,
    };
    let seconds = settings.seconds(600.0).max(1.0) as usize;
    let verdict = std::thread::scope(|scope| -> Result<Verdict> {
        let shared = &shared;
        let mut threads: Vec<_> = (0..LOADERS)
            .map(|loader| {
                let namespace = namespace.clone();
                scope.spawn(move || offer(shared, &namespace, loader))
            })
            .collect();
        threads.push(scope.spawn(move || keep_stats(shared)));
        let Shared { witness, is_over, .. } = shared;
        threads.push(scope.spawn(move || witness.sync(&settings.root, is_over)));
        threads.push(scope.spawn(move || {
            witness.nap(is_over);
            Ok(())
        }));
        let verdict = watch(shared, set, name, seconds);
        shared.is_over.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        verdict
    })?;
    verdict.print(name);
    Ok(store.close()?)
}

/// Commits at the offered rate until it is over.
fn offer(shared: &Shared<'_>, namespace: &Namespace, loader: usize) -> Result<()> {
    let share = OFFERED / LOADERS as f64;
    let mut random = Random::new(loader as u64 + 1);
    let mut window = Window::new(IN_FLIGHT / LOADERS);
    let began = Instant::now();
    let mut done = 0_u64;
    let mut published = 0;
    let mut told_at = began;
    while !shared.is_over.load(Ordering::Relaxed) {
        let elapsed = began.elapsed().as_secs_f64();
        let due = (elapsed * share) as u64;
        let goal = due.min(done + 1_000);
        while done < goal {
            let mut object = namespace.open(choose(shared, &mut random, loader))?;
            let began = Instant::now();
            let lsn = load::commit_two(&mut object, &mut random)?;
            drop(object);
            window.push(shared.store, lsn, began)?;
            done += 1;
        }
        window.settle(shared.store);
        shared.settled.fetch_add(window.settled - published, Ordering::Relaxed);
        published = window.settled;
        let behind = ((due - done) as f64 / share * 1e6) as u64;
        shared.behind.fetch_max(behind, Ordering::Relaxed);
        if behind == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
        if told_at.elapsed() > TELL_EVERY
            && let Ok(mut latency) = shared.latency.try_lock()
        {
            latency.add(&window.latency);
            window.latency = Histogram::new();
            told_at = Instant::now();
        }
    }
    window.drain(shared.store)
}

/// An object of this loader's share: handles are exclusive.
fn choose(shared: &Shared<'_>, random: &mut Random, loader: usize) -> ObjectId {
    let ranks = shared.ids.len() / LOADERS;
    let rank = match shared.zipf {
        Some(zipf) => zipf.draw(random),
        None => random.below(ranks),
    };
    // Frequent ones lie apart: the ids are in no order.
    shared.ids[rank * LOADERS + loader]
}

/// Asking for figures may wait for a checkpoint, so a thread of its own does.
fn keep_stats(shared: &Shared<'_>) -> Result<()> {
    while !shared.is_over.load(Ordering::Relaxed) {
        let stats = shared.store.stats()?;
        if let Ok(mut kept) = shared.stats.lock() {
            *kept = stats;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// What a phase showed.
#[derive(Default)]
struct Verdict {
    rates: Vec<f64>,
    p99: Vec<f64>,
    latency: Histogram,
    amplification: f64,
    seen: Vec<Seen>,
    shares: Vec<Shares>,
    history: u64,
    overtime: f64,
}

/// What files took in one second.
struct Second {
    files: Files,
    stats: Stats,
}

/// The parts of the bytes allowed that were taken.
struct Shares {
    /// By all files but history.
    files: f64,
    /// The same without those that only wait for readers in other processes.
    kept: f64,
}

impl Second {
    /// Bytes of history that the manifest does not name any more, or not yet.
    fn old_history(&self) -> u64 {
        self.files.history.saturating_sub(self.stats.history_bytes)
    }

    fn shares(&self) -> Shares {
        let allowed = 2.5 * self.stats.live_bytes as f64 + 4.0 * DIRTY_BYTES as f64;
        let files = self.files.present;
        let retired = self.stats.retired_bytes.saturating_sub(self.old_history());
        let kept = files.saturating_sub(retired);
        Shares { files: files as f64 / allowed, kept: kept as f64 / allowed }
    }
}

/// What is printed behind the number of the second.
struct Line<'a> {
    rate: f64,
    behind: f64,
    latency: &'a Histogram,
    seen: Seen,
    amplification: f64,
    second: &'a Second,
}

const COLUMNS: &str = "second rate/s behind_ms p50_us p99_us p99.9_us pause_ms sync_ms \
    stolen_ms device/record files_MiB history_MiB old_history_MiB live_MiB dead_MiB log_MiB \
    pool_MiB runs_MiB retired_MiB dirty_MiB anon_MiB mapped_MiB checkpoints cleaned merges";

impl Line<'_> {
    fn print(&self, number: usize) -> Result<()> {
        let Second { files, stats } = self.second;
        let memory = system::memory()?;
        let latency = |quantile| self.latency.micros(quantile);
        print!(
            "{number} {:.0} {:.0} {:.0} {:.0} {:.0} {:.0} {:.0} {:.0} {:.2}",
            self.rate,
            self.behind,
            latency(0.5),
            latency(0.99),
            latency(0.999),
            self.seen.pause,
            self.seen.sync,
            self.seen.stolen,
            self.amplification,
        );
        for bytes in [
            files.present,
            files.history,
            self.second.old_history(),
            stats.live_bytes,
            stats.reclaimable_bytes,
            stats.log_bytes,
            stats.pool_bytes,
            stats.run_bytes,
            stats.retired_bytes,
            stats.dirty_bytes,
            memory.anonymous,
            memory.mapped,
        ] {
            print!(" {:.0}", bytes as f64 / MEBIBYTE);
        }
        println!(" {} {} {}", stats.checkpoints, stats.segments_cleaned, stats.merges);
        Ok(())
    }
}

fn watch(shared: &Shared<'_>, set: &DataSet, name: &str, seconds: usize) -> Result<Verdict> {
    let device = Device::of(&set.folder)?;
    let mut verdict = Verdict::default();
    let first = (device.counts()?.written_bytes, shared.store.stats()?.record_bytes);
    let mut last = (shared.settled.load(Ordering::Relaxed), first.0);
    let began = Instant::now();
    let mut last_at = began;
    println!("# {name}: {COLUMNS}");
    for number in 1..=seconds {
        let next = began + Duration::from_secs(number as u64);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        let settled = shared.settled.load(Ordering::Relaxed);
        // Figures of the store may be some moments old; commits are not.
        let stats = *shared.stats.lock().map_err(|_| "a thread panicked")?;
        let written = device.counts()?.written_bytes;
        let latency = shared
            .latency
            .lock()
            .map_or_else(|_| Histogram::new(), |mut latency| std::mem::take(&mut *latency));
        let rate = (settled - last.0) as f64 / now.duration_since(last_at).as_secs_f64();
        let records = (settled - last.0).max(1) as f64 * RECORD_BYTES;
        let behind = shared.behind.swap(0, Ordering::Relaxed) as f64 / 1e3;
        let second = Second { files: Files::of(&set.folder.join("data"))?, stats };
        let amplification = (written - last.1) as f64 / records;
        let seen = shared.witness.look()?;
        let line = Line { rate, behind, latency: &latency, seen, amplification, second: &second };
        line.print(number)?;
        verdict.seen.push(seen);
        verdict.rates.push(rate);
        verdict.p99.push(latency.micros(0.99));
        verdict.latency.add(&latency);
        verdict.shares.push(second.shares());
        verdict.history = second.files.history;
        verdict.overtime = behind;
        last = (settled, written);
        last_at = now;
    }
    let records = shared.store.stats()?.record_bytes - first.1;
    verdict.amplification = (last.1 - first.0) as f64 / records.max(1) as f64;
    Ok(verdict)
}

impl Verdict {
    fn print(self, name: &str) {
        let mean = self.rates.iter().sum::<f64>() / self.rates.len().max(1) as f64;
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = |share: fn(&Shares) -> f64| self.shares.iter().map(share).fold(0.0, f64::max);
        let longest = |of: fn(&Seen) -> f64| self.seen.iter().map(of).fold(0.0, f64::max);
        let (pause, sync) = (longest(|seen| seen.pause), longest(|seen| seen.sync));
        let at_end = self.shares.last().map_or(0.0, |shares| shares.files);
        let said = |what: &str| format!("sustained {name}: {what}");
        let unit = "of allowed";
        line(&said("rate held"), mean, "1/s", Goal::AtLeast(OFFERED * 0.99), None);
        line(&said("behind at the end"), self.overtime, "ms", Goal::None, None);
        line(&said("least in a second"), least, "1/s", Goal::AtLeast(1.0), None);
        line(&said("raw thread not run at most"), pause, "ms", Goal::None, None);
        line(&said("raw block and sync at most"), sync, "ms", Goal::None, None);
        line(&said("p99, median second"), median(self.p99), "us", Goal::None, None);
        let p50 = Some(self.latency.micros(0.5));
        line(&said("p99.9"), self.latency.micros(0.999), "us", Goal::RatioAtMost(20.0), p50);
        line(&said("device bytes"), self.amplification, "x record", Goal::None, None);
        line(&said("files at most"), most(|of| of.files), unit, Goal::AtMost(1.0), None);
        line(&said("files in use at most"), most(|of| of.kept), unit, Goal::None, None);
        line(&said("files at the end"), at_end, unit, Goal::None, None);
        line(&said("history at the end"), self.history as f64 / MEBIBYTE, "MiB", Goal::None, None);
    }
}

//! What publishing costs: processor time of checkpoints, cleaning and merging for each commit.
//!
//! First by a store without threads of its own, where each step runs alone in this thread and does
//! all of its work there; then by one with its threads, of which two write what a checkpoint makes,
//! and which clean and merge by themselves.
//!
//! Invariants:
//!   * What is counted is this thread's own time, waits not included; the time by the clock, waits
//!     included, stands beside it.
//!   * The system has all files of both stores in memory before the first round.
//!   * Records are allocated by other threads than the one that frees them, as under a real load.

use crate::load::{self, DataSet, LOADERS, Window};
use crate::measure::{Goal, Random, line};
use crate::raw::new_file_cost;
use crate::system::thread_seconds;
use crate::{Result, Settings};
use dostore::ids::ObjectId;
use dostore::retention::Retention;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// Commits between two checkpoints: about what the default budget of dirty bytes makes of them.
const COMMITS: usize = 200_000;
const IN_FLIGHT: usize = 20_000;
/// No checkpoint is due by itself, and none is waited for.
const DIRTY_BYTES: usize = 1 << 30;
/// Rounds that do not count: files are opened and come into memory.
const WARM_ROUNDS: usize = 4;
/// Dead bytes, in percent of the live ones, from which on the store's own threads clean.
const DEAD_PERCENT: u64 = 80;

/// MiB of the control.
const RAW_MEBIBYTES: usize = 64;

pub fn run(settings: &Settings) -> Result<()> {
    compare(settings, Threads::None)?;
    compare(settings, Threads::Own)
}

/// Whose threads do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    /// The caller's alone.
    None,
    /// The store's.
    Own,
}

impl Threads {
    fn name(self) -> &'static str {
        match self {
            Self::None => "publish",
            Self::Own => "publish, threads",
        }
    }
}

fn compare(settings: &Settings, threads: Threads) -> Result<()> {
    let mut without = Side::open(settings, threads, Retention::Off)?;
    let mut with = Side::open(settings, threads, Retention::default())?;
    let rounds = settings.seconds(20.0).ceil() as usize;
    for round in 0..WARM_ROUNDS + rounds {
        if round == WARM_ROUNDS {
            (without.spent, with.spent) = (Spent::default(), Spent::default());
        }
        // What one frees is what the other takes next.
        let is_even = round.is_multiple_of(2);
        let [first, second] =
            if is_even { [&mut without, &mut with] } else { [&mut with, &mut without] };
        first.round(threads)?;
        second.round(threads)?;
    }
    let name = threads.name();
    let raw = new_file_cost(&settings.root, if settings.quick { 8 } else { RAW_MEBIBYTES })?;
    line(&format!("{name}: raw new file"), raw, "ms/MiB", Goal::None, None);
    let share = |of: fn(&Spent) -> f64| of(&without.spent) / of(&with.spent);
    let (spent, clock) = (share(|spent| spent.checkpoints), share(|spent| spent.clock));
    let on_over_off = format!("{name}: checkpoints, history on over off");
    line(&on_over_off, spent, "", Goal::AtLeast(0.8), None);
    line(&format!("{on_over_off}, clock"), clock, "", Goal::None, None);
    without.close(name, rounds)?;
    with.close(name, rounds)
}

/// A store that is published step by step.
struct Side {
    name: &'static str,
    store: Store,
    namespace: Namespace,
    ids: Vec<ObjectId>,
    commits: usize,
    spent: Spent,
}

impl Side {
    fn open(settings: &Settings, threads: Threads, retention: Retention) -> Result<Self> {
        let (name, folder) = if retention.is_on() {
            ("with history", "publish-history")
        } else {
            ("without history", "publish")
        };
        let set = DataSet::make(&settings.root, folder, settings.objects(1_000_000))?;
        let options = Store::options().threads(threads == Threads::Own);
        let options = options.dirty_bytes(DIRTY_BYTES).retire_after(Duration::ZERO);
        let store = set.open(options.retention(retention))?;
        let namespace = load::namespace(&store)?;
        let ids = set.ids(&namespace);
        read_into_memory(&set.folder.join("data"))?;
        let commits = COMMITS.min(ids.len() / 5);
        Ok(Self { name, store, namespace, ids, commits, spent: Spent::default() })
    }

    fn round(&mut self, threads: Threads) -> Result<()> {
        self.spent.commits += load_round(&self.store, &self.namespace, &self.ids, self.commits)?;
        self.spent.checkpoint(&self.store)?;
        if threads == Threads::None {
            self.spent.maintain(&self.store)?;
        }
        self.spent.cleaned = self.store.stats()?.segments_cleaned;
        Ok(())
    }

    fn close(self, figure: &str, rounds: usize) -> Result<()> {
        self.spent.print(&format!("{figure} {}", self.name), (rounds * self.commits) as f64);
        Ok(self.store.close()?)
    }
}

/// Reads all files under a folder, so that the system has them in memory.
fn read_into_memory(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_into_memory(&path)?;
        } else if path.extension().is_none_or(|extension| extension != "sock") {
            std::io::copy(&mut File::open(&path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

/// Commits two keys of objects chosen evenly; says how much processor time that took.
fn load_round(
    store: &Store,
    namespace: &Namespace,
    ids: &[ObjectId],
    commits: usize,
) -> Result<f64> {
    std::thread::scope(|scope| {
        let loader = |loader| {
            move || -> Result<f64> {
                let before = thread_seconds()?;
                let mut random = Random::new(loader as u64);
                let mut window = Window::new(IN_FLIGHT);
                for _ in 0..commits / LOADERS {
                    let rank = random.below(ids.len() / LOADERS);
                    let mut object = namespace.open(ids[rank * LOADERS + loader])?;
                    let began = Instant::now();
                    let lsn = load::commit_two(&mut object, &mut random)?;
                    drop(object);
                    window.push(store, lsn, began)?;
                }
                window.drain(store)?;
                Ok(thread_seconds()? - before)
            }
        };
        let loaders: Vec<_> = (0..LOADERS).map(|number| scope.spawn(loader(number))).collect();
        loaders.into_iter().map(|done| done.join().map_err(|_| "a loader panicked")?).sum()
    })
}

/// Processor time by what it was spent on, in seconds.
#[derive(Debug, Default)]
struct Spent {
    commits: f64,
    checkpoints: f64,
    /// By the clock.
    clock: f64,
    cleaning: f64,
    merging: f64,
    cleaned: u64,
}

impl Spent {
    fn checkpoint(&mut self, store: &Store) -> Result<()> {
        let began = Instant::now();
        time(&mut self.checkpoints, || store.steps().checkpoint())?;
        self.clock += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// What checkpoints make due.
    fn maintain(&mut self, store: &Store) -> Result<()> {
        let steps = store.steps();
        let stats = store.stats()?;
        if stats.reclaimable_bytes * 100 > stats.live_bytes * DEAD_PERCENT {
            time(&mut self.cleaning, || steps.clean())?;
        }
        time(&mut self.merging, || steps.merge())?;
        steps.remove_retired()?;
        Ok(())
    }

    fn print(&self, side: &str, commits: f64) {
        let each = |name, seconds: f64| {
            line(
                &format!("{side}: {name}"),
                seconds / commits * 1e6,
                "us/commit",
                Goal::None,
                None,
            );
        };
        each("commits, load included", self.commits);
        each("checkpoints", self.checkpoints);
        each("checkpoints, clock", self.clock);
        each("cleaning", self.cleaning);
        each("merging", self.merging);
        line(&format!("{side}: segments cleaned"), self.cleaned as f64, "", Goal::None, None);
    }
}

fn time(spent: &mut f64, step: impl FnOnce() -> dostore::error::Result<bool>) -> Result<bool> {
    let before = thread_seconds()?;
    let is_done = step()?;
    *spent += thread_seconds()? - before;
    Ok(is_done)
}

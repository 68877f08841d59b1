//! Stores full of objects, and commits in flight.
//!
//! Invariants:
//!   * Object `n` of a data set has the id of the name `n`, eight keys and values of 100 bytes.

use crate::Result;
use crate::measure::{Histogram, Random};
use dostore::ids::{Lsn, ObjectId};
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::{Options, Store};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub const KEYS: [&str; 8] =
    ["key-0", "key-1", "key-2", "key-3", "key-4", "key-5", "key-6", "key-7"];
pub const VALUE_BYTES: usize = 100;
pub const NAMESPACE: &str = "figures";
/// Threads that make load.
pub const LOADERS: usize = 2;
/// Commits in flight while a data set is made, per thread.
const MAKING_IN_FLIGHT: usize = 20_000;

/// A store's folder with so many objects in it, closed.
#[derive(Clone, Debug)]
pub struct DataSet {
    pub folder: PathBuf,
    pub objects: usize,
}

impl DataSet {
    /// The data set of this name under `root`, made if it is not there.
    pub fn make(root: &Path, name: &str, objects: usize) -> Result<Self> {
        let set = Self { folder: root.join(format!("{name}-{objects}")), objects };
        let finished = set.folder.join("complete");
        if finished.exists() {
            return Ok(set);
        }
        if set.folder.exists() {
            std::fs::remove_dir_all(&set.folder)?;
        }
        std::fs::create_dir_all(&set.folder)?;
        let began = Instant::now();
        let store = set.open(Store::options())?;
        std::thread::scope(|scope| -> Result<()> {
            let halves: Vec<_> = (0..LOADERS)
                .map(|half| {
                    let store = &store;
                    scope.spawn(move || fill(store, half, objects))
                })
                .collect();
            halves.into_iter().try_for_each(|half| half.join().map_err(|_| "a loader panicked")?)
        })?;
        store.close()?;
        std::fs::write(finished, b"")?;
        eprintln!("# {objects} objects made in {:.1} s", began.elapsed().as_secs_f64());
        Ok(set)
    }

    pub fn open(&self, options: Options) -> Result<Store> {
        Ok(options.open(self.folder.join("data"))?)
    }

    pub fn ids(&self, namespace: &Namespace) -> Vec<ObjectId> {
        (0..self.objects).map(|number| id(namespace, number)).collect()
    }
}

pub fn namespace(store: &Store) -> Result<Namespace> {
    Ok(store.namespace(NAMESPACE)?)
}

pub fn id(namespace: &Namespace, number: usize) -> ObjectId {
    namespace.id_from_name(&number.to_string())
}

fn fill(store: &Store, half: usize, objects: usize) -> Result<()> {
    let namespace = namespace(store)?;
    let mut random = Random::new(half as u64);
    let mut window = Window::new(MAKING_IN_FLIGHT);
    let mut value = [0; VALUE_BYTES];
    for number in (half..objects).step_by(LOADERS) {
        let mut object = namespace.open(id(&namespace, number))?;
        let began = Instant::now();
        let mut turn = object.turn();
        for key in KEYS {
            random.fill(&mut value);
            turn.put(key, value)?;
        }
        let position = turn.commit()?.detach();
        window.push(store, position.lsn, began)?;
    }
    window.drain(store)
}

/// Commits two keys of an object with fresh values.
pub fn commit_two(object: &mut Object, random: &mut Random) -> Result<Lsn> {
    let mut value = [0; VALUE_BYTES];
    let first = random.below(KEYS.len());
    let mut turn = object.turn();
    for key in [KEYS[first], KEYS[(first + 1) % KEYS.len()]] {
        random.fill(&mut value);
        turn.put(key, value)?;
    }
    Ok(turn.commit()?.detach().lsn)
}

/// Commits in flight, the oldest first.
#[derive(Debug)]
pub struct Window {
    waiting: VecDeque<(Lsn, Instant)>,
    limit: usize,
    /// From the call that began the turn until it was seen durable.
    pub latency: Histogram,
    pub settled: u64,
}

impl Window {
    pub fn new(limit: usize) -> Self {
        let waiting = VecDeque::with_capacity(limit.min(1 << 16));
        Self { waiting, limit, latency: Histogram::new(), settled: 0 }
    }

    /// Adds a commit; when the window is full, waits until the oldest is durable.
    pub fn push(&mut self, store: &Store, lsn: Lsn, began: Instant) -> Result<()> {
        self.waiting.push_back((lsn, began));
        if self.waiting.len() < self.limit {
            // A look at the watermark now and then keeps the latencies exact at little cost.
            if self.waiting.len().is_multiple_of(16) {
                self.settle(store);
            }
            return Ok(());
        }
        self.settle(store);
        if self.waiting.len() >= self.limit
            && let Some((oldest, _)) = self.waiting.front()
        {
            store.wait_durable(*oldest)?;
            self.settle(store);
        }
        Ok(())
    }

    /// Takes note of what became durable.
    pub fn settle(&mut self, store: &Store) {
        let durable = store.durable();
        let Some(_) = self.waiting.front().filter(|(lsn, _)| *lsn <= durable) else { return };
        let now = Instant::now();
        while let Some((_, began)) = self.waiting.pop_front_if(|(lsn, _)| *lsn <= durable) {
            self.latency.record(now.duration_since(began));
            self.settled += 1;
        }
    }

    /// Waits for all.
    pub fn drain(&mut self, store: &Store) -> Result<()> {
        if let Some((newest, _)) = self.waiting.back() {
            store.wait_durable(*newest)?;
        }
        self.settle(store);
        Ok(())
    }
}

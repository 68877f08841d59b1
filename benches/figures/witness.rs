//! What the machine does beside a load, seen by threads that do nothing of the store: so that a
//! second in which a store stood still says whether everything did.
//!
//! Invariants:
//!   * What has not ended yet counts as long as it has lasted so far.

use crate::Result;
use crate::raw::{BLOCK, RawFile};
use crate::system;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the thread that only sleeps means to.
const NAP: Duration = Duration::from_millis(5);
/// How often a block is written and synced: too little to be a load.
const SYNC_EVERY: Duration = Duration::from_millis(20);

/// How long the calls of one kind take.
#[derive(Debug)]
struct Calls {
    base: Instant,
    /// When the present call began, in microseconds behind the base; zero where there is none.
    since: AtomicU64,
    longest: AtomicU64,
}

impl Calls {
    fn new() -> Self {
        Self { base: Instant::now(), since: AtomicU64::new(0), longest: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.base.elapsed().as_micros() as u64 + 1
    }

    fn begin(&self) {
        self.since.store(self.now(), Ordering::SeqCst);
    }

    fn end(&self) {
        let since = self.since.swap(0, Ordering::SeqCst);
        self.longest.fetch_max(self.now() - since, Ordering::SeqCst);
    }

    /// The longest since the last look, in microseconds.
    fn take(&self) -> f64 {
        let lasts = match self.since.load(Ordering::SeqCst) {
            0 => 0,
            since => self.now().saturating_sub(since),
        };
        self.longest.swap(0, Ordering::SeqCst).max(lasts) as f64
    }
}

/// What was seen of the machine since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The longest time for which a thread that was to wake was not run, in milliseconds.
    pub pause: f64,
    /// The longest write and sync of one block of a file that was written before, in milliseconds.
    pub sync: f64,
    /// Processor time that the machine's host took for others, in milliseconds.
    pub stolen: f64,
}

/// The witnesses of one load.
#[derive(Debug)]
pub struct Witness {
    naps: Calls,
    syncs: Calls,
    /// Stolen time at the last look, in microseconds.
    stolen: AtomicU64,
}

impl Witness {
    pub fn new() -> Result<Self> {
        let stolen = AtomicU64::new(micros(system::stolen_seconds()?));
        Ok(Self { naps: Calls::new(), syncs: Calls::new(), stolen })
    }

    /// Sleeps until it is over.
    pub fn nap(&self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            self.naps.begin();
            std::thread::sleep(NAP);
            self.naps.end();
        }
    }

    /// Writes and syncs until it is over.
    pub fn sync(&self, folder: &Path, is_over: &AtomicBool) -> Result<()> {
        let mut file = RawFile::create(folder, "raw-witness", 1)?;
        while !is_over.load(Ordering::Relaxed) {
            self.syncs.begin();
            file.append(BLOCK)?;
            self.syncs.end();
            std::thread::sleep(SYNC_EVERY);
        }
        Ok(())
    }

    /// What was seen since the last look.
    pub fn look(&self) -> Result<Seen> {
        let stolen = micros(system::stolen_seconds()?);
        let before = self.stolen.swap(stolen, Ordering::SeqCst);
        let nap = NAP.as_micros() as f64;
        Ok(Seen {
            pause: (self.naps.take() - nap).max(0.0) / 1e3,
            sync: self.syncs.take() / 1e3,
            stolen: stolen.saturating_sub(before) as f64 / 1e3,
        })
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

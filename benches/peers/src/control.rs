//! Raw controls: the same work by bare system calls, taken right before and right after what an
//! engine does, because what a disk can do drifts.

use crate::Result;
use crate::measure::Histogram;
use crate::raw::{BLOCK, RawFile};
use crate::system;
use crate::workload::WHOLE_BYTES;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long each control writes.
const TIME: Duration = Duration::from_millis(150);
const MEBIBYTES: usize = 16;
/// From this size on, a write costs what its bytes cost.
const GROUP_BYTES_MAX: usize = 1 << 20;
const READS: usize = 200;
const WARM_READS: usize = 20_000;

/// A control of writes, to be taken more than once.
pub struct Writes {
    raw: RawFile,
    group_bytes: usize,
    /// What one group holds, in units of the figure.
    units: f64,
    time: Duration,
    groups: u32,
}

impl Writes {
    /// Of commits: each group holds all that are in flight, or as many as a mebibyte takes.
    pub fn of_commits(folder: &Path, in_flight: usize, commit_bytes: usize) -> Result<Self> {
        let commits = in_flight.min(GROUP_BYTES_MAX / commit_bytes);
        Self::new(folder, commits * commit_bytes, commits as f64)
    }

    /// Of new objects.
    pub fn of_objects(folder: &Path) -> Result<Self> {
        Self::new(folder, GROUP_BYTES_MAX, GROUP_BYTES_MAX as f64 / WHOLE_BYTES as f64)
    }

    fn new(folder: &Path, bytes: usize, units: f64) -> Result<Self> {
        let group_bytes = bytes.next_multiple_of(BLOCK).min(GROUP_BYTES_MAX);
        let raw = RawFile::create(folder, "raw-writes", MEBIBYTES)?;
        Ok(Self { raw, group_bytes, units, time: Duration::ZERO, groups: 0 })
    }

    /// Writes and syncs groups for a moment.
    pub fn take(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < TIME {
            self.time += self.raw.append(self.group_bytes)?;
            self.groups += 1;
        }
        Ok(())
    }

    /// Units a second, over all that was taken.
    pub fn rate(&self) -> f64 {
        f64::from(self.groups) * self.units / self.time.as_secs_f64()
    }
}

/// Reads of blocks at random that are in the page cache, in microseconds each, at the middle.
pub fn warm_reads(folder: &Path) -> Result<f64> {
    let mut raw = RawFile::create(folder, "raw-reads", MEBIBYTES)?;
    let mut latency = Histogram::new();
    for _ in 0..WARM_READS {
        latency.record(raw.read_block()?);
    }
    Ok(latency.micros(0.5))
}

/// A file whose blocks are read from the device, at random.
pub struct ColdReads(RawFile);

impl ColdReads {
    pub fn new(folder: &Path) -> Result<Self> {
        let raw = RawFile::create(folder, "raw-reads", 4 * MEBIBYTES)?;
        raw.advise_random()?;
        Ok(Self(raw))
    }

    /// Microseconds each, at the middle; the page cache is empty.
    pub fn take(&mut self) -> Result<f64> {
        let mut latency = Histogram::new();
        for _ in 0..READS {
            latency.record(self.0.read_block()?);
        }
        Ok(latency.micros(0.5))
    }
}

/// Empties the page cache.
pub fn empty_page_cache() -> Result<()> {
    if system::drop_caches() { Ok(()) } else { Err("only root can empty the page cache".into()) }
}

//! What a piece of work cost: processor time, and what came to the device.
//!
//! Invariants:
//!   * What came to the device is that of the whole device: journals of file systems count, and
//!     what the kernel says of one process counts large folios whole.

use crate::Result;
use crate::machine;
use crate::results::Figures;
use crate::system::{self, Device};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// Counts at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub at: Instant,
    pub processor_seconds: f64,
    pub device_reads: u64,
    pub device_bytes: u64,
    /// Requests to the device to make durable what it has; none where the kernel does not count.
    pub flushes: u64,
    pub read_bytes: u64,
    /// Processor time of all processes, in ticks.
    busy_ticks: u64,
}

impl Counts {
    /// Those of now, of the device that `folder` lies on.
    pub fn now(folder: &Path) -> Result<Self> {
        let device = Device::of(folder)?.counts()?;
        Ok(Self {
            at: Instant::now(),
            processor_seconds: system::processor_seconds()?,
            device_reads: device.reads,
            device_bytes: device.written_bytes,
            flushes: flushes(folder)?,
            read_bytes: system::read_bytes()?,
            busy_ticks: machine::busy_ticks(),
        })
    }

    /// The part of all processors that others than this process and a child, which took so much,
    /// had from then until now, in percent.
    pub fn others_but(&self, now: &Self, child_seconds: f64) -> f64 {
        let ticks = (now.busy_ticks - self.busy_ticks) as f64;
        let all = ticks / rustix::param::clock_ticks_per_second() as f64;
        let own = now.processor_seconds - self.processor_seconds + child_seconds;
        let there = now.at.duration_since(self.at).as_secs_f64() * processors();
        if there > 0.0 { ((all - own) / there * 100.0).max(0.0) } else { 0.0 }
    }

    /// Adds what each of so many commits, or objects, cost from then until now.
    pub fn tell(&self, now: &Self, figures: &mut Figures, count: f64) {
        figures.add("device bytes each", (now.device_bytes - self.device_bytes) as f64 / count);
        figures.add("device flushes each", (now.flushes - self.flushes) as f64 / count);
        let processor = now.processor_seconds - self.processor_seconds;
        figures.add("processor us each", processor * 1e6 / count);
    }
}

fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// How often the device was told to flush its cache.
fn flushes(folder: &Path) -> Result<u64> {
    let number = fs::metadata(folder)?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Ok(flushes_in(&fs::read_to_string("/proc/diskstats")?, major, minor))
}

fn flushes_in(text: &str, major: u32, minor: u32) -> u64 {
    let (major, minor) = (major.to_string(), minor.to_string());
    let find = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.first() == Some(&&*major) && fields.get(1) == Some(&&*minor);
        if is_it { fields.get(18)?.parse().ok() } else { None }
    };
    text.lines().find_map(find).unwrap_or_default()
}

/// Bytes that the files under a folder take on the device: holes do not count.
pub fn allocated_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        sum += if facts.is_dir() { allocated_bytes(&entry.path())? } else { facts.blocks() * 512 };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_are_those_of_the_device() {
        let text = " 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 77 16\n\
                    254 1 vda1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 88 16\n 7 0 loop0 1 2 3\n";
        assert_eq!([flushes_in(text, 254, 0), flushes_in(text, 254, 1)], [77, 88]);
        assert_eq!([flushes_in(text, 7, 0), flushes_in(text, 9, 9)], [0, 0]);
    }

    #[test]
    fn holes_take_no_room() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = fs::File::create(folder.path().join("hole")).expect("a file can be made");
        file.set_len(1 << 30).expect("it can be made longer");
        assert!(allocated_bytes(folder.path()).expect("it can be read") < 1 << 20);
    }
}

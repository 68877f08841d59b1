//! What the operating system says about this process and its disk.
//!
//! Invariants:
//!   * Numbers are read from `/proc` as they stand; nothing is estimated.

use crate::Result;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processor time of this process so far, all threads, user and system.
pub fn processor_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces; fields are counted behind it.
    let (_, fields) = text.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or_default())
        .sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Processor time of the calling thread so far; what it waited for a processor does not count.
pub fn thread_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok());
    Ok(nanos.ok_or("/proc/thread-self/schedstat has no number")? as f64 / 1e9)
}

/// Processor time, of all processors, that the host of a virtual machine has given to others.
pub fn stolen_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = text.lines().next().and_then(|line| line.split_whitespace().nth(8));
    let ticks: u64 = ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or_default();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The number behind `name:` in a text of such lines.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .find_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Bytes that this process has caused to be read from storage so far.
pub fn read_bytes() -> Result<u64> {
    Ok(field(&fs::read_to_string("/proc/self/io")?, "read_bytes"))
}

/// Bytes that this process has caused to be written to storage so far.
pub fn written_bytes() -> Result<u64> {
    Ok(field(&fs::read_to_string("/proc/self/io")?, "write_bytes"))
}

/// Resident memory by kind, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Memory of the process's own, shared memory included.
    pub anonymous: u64,
    /// Mapped files: the kernel takes it back when it needs it.
    pub mapped: u64,
}

/// Resident memory of this process.
pub fn memory() -> Result<Memory> {
    let text = fs::read_to_string("/proc/self/status")?;
    let kibibytes = |name| field(&text, name) << 10;
    Ok(Memory {
        anonymous: kibibytes("RssAnon") + kibibytes("RssShmem"),
        mapped: kibibytes("RssFile"),
    })
}

/// Open descriptors of this process.
pub fn descriptors() -> Result<usize> {
    // The listing itself holds one.
    Ok(fs::read_dir("/proc/self/fd")?.count() - 1)
}

/// The device that a folder lies on.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    major: u64,
    minor: u64,
}

/// What a device has done so far, for all processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceCounts {
    pub reads: u64,
    pub written_bytes: u64,
}

impl Device {
    /// The device of `folder`.
    pub fn of(folder: &Path) -> Result<Self> {
        let number = fs::metadata(folder)?.dev();
        let major = u64::from(rustix::fs::major(number));
        Ok(Self { major, minor: u64::from(rustix::fs::minor(number)) })
    }

    /// Its counts now; zeros where the kernel keeps none for it.
    pub fn counts(self) -> Result<DeviceCounts> {
        let text = fs::read_to_string("/proc/diskstats")?;
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |index: usize| -> u64 {
                fields.get(index).and_then(|field| field.parse().ok()).unwrap_or_default()
            };
            if number(0) == self.major && number(1) == self.minor {
                return Ok(DeviceCounts { reads: number(3), written_bytes: number(9) * 512 });
            }
        }
        Ok(DeviceCounts::default())
    }
}

/// Empties the page cache of the whole machine; false where this process may not.
pub fn drop_caches() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// The sum of the lengths of all files under a folder.
pub fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file may be removed between the listing and the look.
        let Ok(facts) = entry.metadata() else { continue };
        sum += if facts.is_dir() { folder_bytes(&entry.path())? } else { facts.len() };
    }
    Ok(sum)
}

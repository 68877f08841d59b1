//! Controls: the same bytes by bare system calls, so that a figure is read beside what the disk
//! could do at that moment.
//!
//! Invariants:
//!   * Every block that a control writes was written before, as in the log of a warm store.

use crate::Result;
use crate::measure::Random;
use crate::system::thread_seconds;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MEBIBYTE: usize = 1 << 20;
pub const BLOCK: usize = 4096;

/// A file full of zeros, written to the end and synced; removed when dropped.
#[derive(Debug)]
pub struct RawFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    offset: u64,
    buffer: Vec<u8>,
    random: Random,
}

impl RawFile {
    pub fn create(folder: &Path, name: &str, mebibytes: usize) -> Result<Self> {
        let path = folder.join(name);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let mut random = Random::new(99);
        let zeros = vec![0; MEBIBYTE];
        for piece in 0..mebibytes {
            file.write_all_at(&zeros, (piece * MEBIBYTE) as u64)?;
        }
        file.sync_all()?;
        let mut buffer = vec![0; MEBIBYTE];
        random.fill(&mut buffer);
        let bytes = (mebibytes * MEBIBYTE) as u64;
        Ok(Self { path, file, bytes, offset: 0, buffer, random })
    }

    /// Writes and syncs one group at the next place.
    pub fn append(&mut self, bytes: usize) -> Result<Duration> {
        for block in self.buffer[..bytes].chunks_mut(BLOCK) {
            let fresh = self.random.next().to_le_bytes();
            block[..8].copy_from_slice(&fresh);
        }
        if self.offset + bytes as u64 > self.bytes {
            self.offset = 0;
        }
        let began = Instant::now();
        self.file.write_all_at(&self.buffer[..bytes], self.offset)?;
        self.file.sync_data()?;
        self.offset += bytes as u64;
        Ok(began.elapsed())
    }

    /// Writes and syncs groups for some time; bytes a second.
    pub fn append_for(&mut self, group_bytes: usize, time: Duration) -> Result<f64> {
        let group = group_bytes.clamp(64 << 10, MEBIBYTE).next_multiple_of(BLOCK);
        let began = Instant::now();
        let mut written = 0;
        while began.elapsed() < time {
            self.append(group)?;
            written += group;
        }
        Ok(written as f64 / began.elapsed().as_secs_f64())
    }

    /// Tells the kernel that reads are at random, as the store does for its own files.
    pub fn advise_random(&self) -> Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Random)?)
    }

    /// Reads one block at a random place.
    pub fn read_block(&mut self) -> Result<Duration> {
        let place = self.random.below(self.bytes as usize / BLOCK) * BLOCK;
        let began = Instant::now();
        self.file.read_exact_at(&mut self.buffer[..BLOCK], place as u64)?;
        Ok(began.elapsed())
    }
}

impl Drop for RawFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Processor time of this thread, in milliseconds, for each MiB of a new file, before it comes to
/// the disk: on a virtual machine whose free memory went back to its host, ten times as much as on
/// another.
pub fn new_file_cost(folder: &Path, mebibytes: usize) -> Result<f64> {
    let before = thread_seconds()?;
    drop(RawFile::create(folder, "raw-new", mebibytes)?);
    Ok((thread_seconds()? - before) * 1e3 / mebibytes as f64)
}

/// Every file under a folder, the nearest first.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

/// Reads up to `most` bytes of a file in big pieces; how many there were.
pub fn read_through(path: &Path, most: u64) -> Result<u64> {
    let file = File::open(path)?;
    let mut buffer = vec![0; MEBIBYTE];
    let mut offset = 0;
    while offset < most {
        let wanted = (most - offset).min(MEBIBYTE as u64) as usize;
        let count = file.read_at(&mut buffer[..wanted], offset)?;
        if count == 0 {
            break;
        }
        offset += count as u64;
    }
    Ok(offset)
}

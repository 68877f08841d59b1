//! Cells that read: opening a store, opening an object, reading in order, what idle objects take.
//!
//! Invariants:
//!   * Where a cell is cold, the page cache is emptied before the store is opened.

use super::Stage;
use crate::Result;
use crate::cells::Cell;
use crate::control::{self, ColdReads};
use crate::engine::{Engine, Peer};
use crate::measure::{Histogram, Random};
use crate::probe::{Counts, allocated_bytes};
use crate::raw::{files, read_through};
use crate::results::Figures;
use crate::system;
use crate::workload::{KEYS, OBJECT_BYTES, VALUE_BYTES, WHOLE_BYTES, draw};
use std::path::Path;
use std::time::{Duration, Instant};

/// Reads that count where each comes from the device, and those before them that do not.
const COLD_READS: usize = 200;
const COLD_READS_BEFORE: usize = 100;
/// The part of the objects that is used once where memory is measured.
const USED_PART: u64 = 10;

impl Stage {
    pub(super) fn open(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let folder = self.folder(engine, cell);
        let mut control = ColdReads::new(&self.root)?;
        control::empty_page_cache()?;
        let raw = control.take()?;
        let before = Counts::now(&self.root)?;
        let peer = engine.open(&folder, cell.layout)?;
        let opened = before.at.elapsed();
        check(peer.read(0)?)?;
        let after = Counts::now(&self.root)?;
        peer.close()?;
        let time = after.at.duration_since(before.at);
        let mut figures = Figures::new("ms until an object was read", time.as_secs_f64() * 1e3);
        figures.control("raw cold read of 4 KiB, ms", raw / 1e3);
        figures.add("ms until open", opened.as_secs_f64() * 1e3);
        figures.add("device reads", (after.device_reads - before.device_reads) as f64);
        let read = (after.read_bytes - before.read_bytes) as f64;
        figures.add("KiB read", read / 1024.0);
        Ok(figures)
    }

    pub(super) fn warm(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let folder = self.folder(engine, cell);
        fill_page_cache(&folder)?;
        let mut peer = engine.open(&folder, cell.layout)?;
        peer.expect(cell.objects);
        let mut random = Random::new(1);
        read_for(&*peer, cell.objects, self.time / 4, &mut random)?;
        let control = control::warm_reads(&self.root)?;
        let latency = read_for(&*peer, cell.objects, self.time / 2, &mut random)?;
        peer.close()?;
        let mut figures = Figures::new("p50 us", latency.micros(0.5));
        figures.control("raw warm read of 4 KiB, us", control);
        figures.add("p99 us", latency.micros(0.99));
        Ok(figures)
    }

    pub(super) fn cold(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let mut control = ColdReads::new(&self.root)?;
        control::empty_page_cache()?;
        let raw = control.take()?;
        let mut peer = engine.open(&self.folder(engine, cell), cell.layout)?;
        peer.expect(cell.objects);
        let mut random = Random::new(1);
        let opened = Counts::now(&self.root)?;
        // What an engine reads once, as the top of its tree, is not what an object costs.
        for _ in 0..COLD_READS_BEFORE {
            check(peer.read(draw(cell.objects, &mut random))?)?;
        }
        let before = Counts::now(&self.root)?;
        let (mut latency, mut sum) = (Histogram::new(), Duration::ZERO);
        for _ in 0..COLD_READS {
            let time = read_one(&*peer, draw(cell.objects, &mut random))?;
            latency.record(time);
            sum += time;
        }
        let after = Counts::now(&self.root)?;
        peer.close()?;
        let each = |count: u64| count as f64 / COLD_READS as f64;
        let mut figures = Figures::new("p50 us", latency.micros(0.5));
        figures.control("raw cold read of 4 KiB, us", raw);
        figures.add("mean us", sum.as_secs_f64() * 1e6 / COLD_READS as f64);
        figures.add("p99 us", latency.micros(0.99));
        figures.add("device reads", each(after.device_reads - before.device_reads));
        figures.add("KiB read", each(after.read_bytes - before.read_bytes) / 1024.0);
        // An engine for which the kernel reads far ahead has all of a small store after these.
        let first = (before.read_bytes - opened.read_bytes) as f64;
        figures.add(&format!("MB read by {COLD_READS_BEFORE} reads before"), first / 1e6);
        Ok(figures)
    }

    pub(super) fn scan(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let folder = self.folder(engine, cell);
        let peer = engine.open(&folder, cell.layout)?;
        let began = Instant::now();
        let bytes = fill_page_cache(&folder)? as f64;
        let raw = began.elapsed().as_secs_f64();
        let wanted = cell.objects * KEYS as u64;
        let mut seconds = f64::INFINITY;
        // The first time brings everything to where the engine keeps it.
        for _ in 0..2 {
            let began = Instant::now();
            let keys = peer.scan()?;
            seconds = began.elapsed().as_secs_f64();
            if keys != wanted {
                return Err(format!("{keys} keys of {wanted} were read").into());
            }
        }
        peer.close()?;
        let mut figures = Figures::new("keys/s", wanted as f64 / seconds);
        let key_bytes = (size_of::<crate::workload::Key>() + VALUE_BYTES) as f64;
        figures.control("raw reads of its files, keys/s", bytes / key_bytes / raw);
        Ok(figures)
    }

    pub(super) fn idle(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let folder = self.folder(engine, cell);
        let bytes = allocated_bytes(&folder)?;
        let before = system::memory()?.anonymous;
        let peer = engine.open(&folder, cell.layout)?;
        let opened = system::memory()?.anonymous;
        let mut random = Random::new(1);
        for _ in 0..(cell.objects / USED_PART).max(1) {
            check(peer.read(draw(cell.objects, &mut random))?)?;
        }
        let used = system::memory()?;
        let descriptors = system::descriptors()?;
        let parts = peer.parts()?;
        peer.close()?;
        let each = |bytes: u64| bytes as f64 / cell.objects as f64;
        let mut figures = Figures::new("bytes on disk an object", each(bytes));
        figures.control("keys and values, bytes", WHOLE_BYTES as f64);
        figures.add("MB of memory, open", opened.saturating_sub(before) as f64 / 1e6);
        let grown = used.anonymous.saturating_sub(before);
        figures.add("MB of memory, a tenth was read", grown as f64 / 1e6);
        figures.add("bytes of memory an object", each(grown));
        figures.add("MB of mapped files", used.mapped as f64 / 1e6);
        figures.add("descriptors", descriptors as f64);
        for (name, bytes) in parts {
            figures.add(name, each(bytes));
        }
        Ok(figures)
    }
}

/// Reads every file; how many bytes there were.
pub(super) fn fill_page_cache(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in files(folder)? {
        bytes += read_through(&path, u64::MAX)?;
    }
    Ok(bytes)
}

/// Reads objects at random for some time.
fn read_for(
    peer: &dyn Peer,
    objects: u64,
    time: Duration,
    random: &mut Random,
) -> Result<Histogram> {
    let mut latency = Histogram::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        latency.record(read_one(peer, draw(objects, random))?);
    }
    Ok(latency)
}

fn read_one(peer: &dyn Peer, object: u64) -> Result<Duration> {
    let began = Instant::now();
    let bytes = peer.read(object)?;
    let time = began.elapsed();
    check(bytes)?;
    Ok(time)
}

fn check(bytes: usize) -> Result<()> {
    if bytes == OBJECT_BYTES { Ok(()) } else { Err("an object was not read whole".into()) }
}

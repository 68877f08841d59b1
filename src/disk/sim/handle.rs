//! What a simulated disk hands out: files, maps, the lock and the clock.
//!
//! Invariants:
//!   * After a power cut or a kill every handle of before fails, and changes nothing.

use super::content::{SECTOR_BYTES, blocks};
use super::faults::{Call, Fault};
use super::state::{State, Turn, off};
use super::{Moment, SimDisk};
use crate::disk::{Clock, File, Lock, Map, ReadFile, SyncFailed};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One life of a simulated machine: after it the state is gone, taken over by the next.
pub(super) struct Machine {
    pub(super) state: Mutex<Option<State>>,
    pub(super) clock: Arc<SimClock>,
    /// Copies from before each call that changes something, where they are wanted.
    pub(super) moments: Mutex<Option<Moments>>,
}

/// What is kept of moments, and who is asked something at each.
pub(super) struct Moments {
    pub(super) kept: Vec<Moment>,
    pub(super) ask: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Machine")
    }
}

impl Machine {
    pub(super) fn new(state: State, clock: Arc<SimClock>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(Some(state)), clock, moments: Mutex::new(None) })
    }

    /// A machine in the same state, as after a kill.
    pub(super) fn fork(&self, state: &State) -> SimDisk {
        let mut state = state.clone();
        state.kill();
        let clock = &self.clock;
        let uptime = u64::try_from(clock.uptime().as_micros()).unwrap_or(u64::MAX);
        SimDisk { machine: Self::new(state, SimClock::new(uptime, clock.wall_micros())) }
    }

    /// A call to the disk: counted, traced, and possibly going wrong. `word` says what it is about.
    pub(super) fn call<T>(
        &self,
        call: Call,
        word: u64,
        act: impl FnOnce(&mut State, Turn) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut guard = self.state.lock();
        let state = guard.as_mut().ok_or_else(off)?;
        if call.changes()
            && let Some(moments) = self.moments.lock().as_mut()
        {
            let (told, disk) = ((moments.ask)(), self.fork(state));
            moments.kept.push(Moment { calls: state.calls, disk, told });
        }
        self.clock.pass(Duration::from_micros(1));
        state.mix(word.rotate_left(8) ^ call as u64);
        let turn = state.begin(call)?;
        if turn.last && state.chance.coin() {
            return Err(off());
        }
        let result = act(state, turn);
        state.mix(u64::from(result.is_ok()));
        // A handle in the result takes the same lock when it is dropped.
        drop(guard);
        if turn.last { Err(off()) } else { result }
    }
}

/// An open file of a simulated disk. Opening it has counted one handle, which dropping gives back.
pub(super) struct SimFile {
    machine: Arc<Machine>,
    file: u64,
    /// Maps keep a file alive without one.
    has_descriptor: bool,
}

impl SimFile {
    /// Counts a handle in `state`, which is the locked state of `machine`.
    pub(super) fn open(machine: &Arc<Machine>, state: &mut State, file: u64) -> io::Result<Self> {
        state.check_descriptors()?;
        let opened = Self::hold(machine, state, file, true)?;
        state.descriptors += 1;
        Ok(opened)
    }

    fn hold(
        machine: &Arc<Machine>,
        state: &mut State,
        file: u64,
        has_descriptor: bool,
    ) -> io::Result<Self> {
        state.file(file)?.handles += 1;
        Ok(Self { machine: Arc::clone(machine), file, has_descriptor })
    }

    fn word(&self, offset: u64, bytes: u64) -> u64 {
        self.file.rotate_left(48) ^ offset.rotate_left(20) ^ bytes
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SimFile({})", self.file)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.machine.state.lock();
        if let Some(state) = state.as_mut() {
            state.descriptors -= u64::from(self.has_descriptor);
            state.close(self.file);
        }
    }
}

/// How much of `bytes` a short call moves: at least one, at most all but one.
fn shortened(state: &mut State, bytes: usize) -> usize {
    if bytes < 2 { bytes } else { 1 + state.chance.below(bytes as u64 - 1) as usize }
}

impl ReadFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        let word = self.word(0, 0);
        self.machine.call(Call::Length, word, |state, _| Ok(state.file(self.file)?.length))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let word = self.word(offset, buffer.len() as u64);
        self.machine.call(Call::Read, word, |state, turn| {
            let mut bytes = buffer.len();
            if turn.fault == Some(Fault::Short) {
                bytes = shortened(state, bytes);
            }
            state.read(self.file, &mut buffer[..bytes], offset)
        })
    }

    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>> {
        self.machine.call(Call::Map, self.word(0, bytes), |state, _| {
            let have = state.file(self.file)?.length;
            if have < bytes {
                let what = format!("a file of {have} bytes cannot be mapped for {bytes}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            let file = SimFile::hold(&self.machine, state, self.file, false)?;
            Ok(Arc::new(SimMap { file, bytes }) as Arc<dyn Map>)
        })
    }

    fn bypass_cache(&self) {
        if let Some(Ok(content)) = self.machine.state.lock().as_mut().map(|s| s.file(self.file)) {
            content.bypasses_cache = true;
        }
    }
}

impl File for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let word = self.word(offset, bytes.len() as u64);
        self.machine.call(Call::Write, word, |state, turn| {
            let mut count = bytes.len();
            if turn.fault == Some(Fault::Short) || turn.last {
                // A sector reaches the page cache whole too: systems copy page by page.
                let end = offset + shortened(state, count) as u64;
                let end = end.next_multiple_of(SECTOR_BYTES).min(offset + count as u64);
                count = (end - offset) as usize;
            }
            let have = state.charge(self.file, offset + count as u64)?;
            count = have.saturating_sub(offset) as usize;
            if count == 0 && !bytes.is_empty() {
                return Err(Fault::NoSpace.error());
            }
            state.mix(u64::from(crc32fast::hash(&bytes[..count])));
            state.write(self.file, &bytes[..count], offset)?;
            Ok(count)
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.machine.call(Call::Allocate, self.word(0, bytes), |state, _| {
            let have = state.file(self.file)?.charged;
            let free = state.total.saturating_sub(state.used);
            if blocks(bytes).saturating_sub(have) > free || state.charge(self.file, bytes)? < bytes
            {
                return Err(Fault::NoSpace.error());
            }
            let content = state.file(self.file)?;
            content.length = content.length.max(bytes);
            Ok(())
        })
    }

    fn start_writeback(&self, range: Range<u64>) -> io::Result<()> {
        let word = self.word(range.start, range.end);
        self.machine.call(Call::StartWriteback, word, |state, _| {
            state.write_some_back(self.file, &range, false);
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), SyncFailed> {
        let word = self.word(0, 0);
        let synced = self.machine.call(Call::Sync, word, |state, turn| state.sync(self.file, turn));
        synced.map_err(SyncFailed)
    }
}

#[derive(Debug)]
struct SimMap {
    file: SimFile,
    bytes: u64,
}

impl Map for SimMap {
    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        if range.start > range.end || range.end > self.bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let word = self.file.word(range.start, range.end);
        self.file.machine.call(Call::MapRead, word, |state, _| {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            let read = state.read(self.file.file, &mut bytes, range.start)?;
            // Behind the end of the file a real map raises a signal.
            if read < bytes.len() { Err(Fault::Io.error()) } else { Ok(Cow::Owned(bytes)) }
        })
    }

    fn memory(&self) -> Option<&[u8]> {
        None
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The lock of a simulated disk.
#[derive(Debug)]
pub(super) struct SimLock {
    pub(super) machine: Arc<Machine>,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Some(state) = self.machine.state.lock().as_mut() {
            state.lock = None;
        }
    }
}

/// Virtual time, in microseconds. It goes on through power cuts.
#[derive(Debug)]
pub(super) struct SimClock {
    uptime: AtomicU64,
    /// Added to the uptime, wrapping, to give the wall's time.
    wall_offset: AtomicU64,
}

impl SimClock {
    pub(super) fn new(uptime: u64, wall: u64) -> Arc<Self> {
        let offset = AtomicU64::new(wall.wrapping_sub(uptime));
        Arc::new(Self { uptime: AtomicU64::new(uptime), wall_offset: offset })
    }

    pub(super) fn pass(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.uptime.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn set_wall(&self, micros: u64) {
        let uptime = self.uptime.load(Ordering::Relaxed);
        self.wall_offset.store(micros.wrapping_sub(uptime), Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall_micros(&self) -> u64 {
        let uptime = self.uptime.load(Ordering::Relaxed);
        self.wall_offset.load(Ordering::Relaxed).wrapping_add(uptime)
    }

    fn uptime(&self) -> Duration {
        Duration::from_micros(self.uptime.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) {
        self.pass(duration);
    }
}

//! A disk, clock and source of randomness in memory, which fail as real ones do.
//!
//! It keeps apart what a running machine sees (the page cache, the names) from what a power cut
//! leaves (the medium), counts and can fail every call, and repeats a run exactly from its seed.
//!
//! Invariants:
//!   * Nothing is durable that was not synced, except by chance; all that was synced is.
//!   * The same seed and the same calls give the same results and the same trace.
//!   * No call does work in proportion to a file's size, except for what it reads or writes.

#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes fit into 64 bits; bytes are cut on purpose"
)]

mod content;
mod faults;
mod folders;
mod handle;
mod medium;
mod state;

pub use content::SECTOR_BYTES;
pub use faults::{Fault, Faults};
pub use state::{Crash, KeepLength, KeepNames, KeepSectors};

use super::{Clock, Disk, File, Listed, Lock, MediumError, ReadDisk, ReadFile, Space, SyncFailed};
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder};
use content::Content;
use faults::{Call, Chance};
use handle::{Machine, Moments, SimClock, SimFile, SimLock};
use medium::mixed;
use state::State;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// When a new machine's wall clock starts: 2026-01-01.
const WALL_START: u64 = 1_767_225_600_000_000;

/// A simulated machine's disk. Clones are the same disk, as another process sees it.
///
/// ```
/// use dostore::disk::sim::SimDisk;
/// use dostore::disk::{Disk, write_all_at};
/// use dostore::names::{FileName, Folder};
///
/// let disk = SimDisk::new(1);
/// let file = disk.create(FileName::Manifest)?;
/// write_all_at(&*file, b"synced", 0)?;
/// file.sync()?;
/// disk.sync_folder(Folder::Root)?;
/// write_all_at(&*file, b"at risk", 4096)?;
///
/// let disk = disk.power_cut();
/// assert_eq!(&disk.file_bytes(FileName::Manifest).unwrap()[..6], b"synced");
/// assert!(file.sync().is_err(), "the handle died with the power");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Machine>,
}

/// Damage to the medium, done after all that the page cache holds was written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// This bit of the file is flipped.
    FlipBit(u64),
    /// This sector becomes zeros.
    ZeroSector(u64),
    /// This sector becomes random bytes.
    Garbage(u64),
    /// Two sectors change places.
    SwapSectors(u64, u64),
    /// The file ends here, or is followed by zeros up to here.
    SetLength(u64),
    /// Reads of this sector fail, until it is written.
    Unreadable(u64),
    /// Reads of this sector give again what was there.
    Readable(u64),
}

/// A machine as of before a call that changes something.
#[derive(Debug)]
pub struct Moment {
    /// Calls before this one.
    pub calls: u64,
    /// The machine, as after a kill at that moment.
    pub disk: SimDisk,
    /// What who was asked said at that moment.
    pub told: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SimDisk")
    }
}

/// A number for the trace.
fn word(name: FileName) -> u64 {
    let number = name.number().map_or(name.leaf().len() as u64, |number| number.0);
    number ^ ((name.folder() as u64) << 60)
}

/// How a machine starts, fails and is looked at from outside. None of this counts as a call.
impl SimDisk {
    /// A machine with an empty disk. All chance comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { machine: Machine::new(State::new(seed), SimClock::new(0, WALL_START)) }
    }

    /// From now on all chance comes from `seed`, however often it was asked before: what happens
    /// from here on can be repeated although something before it is left out.
    pub fn reseed(&self, seed: u64) {
        self.look(|state| state.chance = Chance::new(seed));
    }

    /// Cuts the power; what was not synced is kept or lost by chance. The old handles fail from
    /// then on, and so does this value: the machine starts again as the one returned.
    #[must_use]
    pub fn power_cut(&self) -> Self {
        self.next_life(|state| {
            let crash = Crash::drawn(&mut state.chance);
            state.cut_power(crash);
        })
    }

    /// Cuts the power, keeping just this of what was not synced.
    #[must_use]
    pub fn power_cut_keeping(&self, crash: Crash) -> Self {
        self.next_life(|state| state.cut_power(crash))
    }

    /// Kills the process: its handles and its lock are gone, the page cache stays.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.next_life(|state| {
            state.note(format_args!("the process is killed"));
            state.kill();
        })
    }

    fn next_life(&self, end: impl FnOnce(&mut State)) -> Self {
        let state = self.machine.state.lock().take();
        let mut state = state.unwrap_or_else(|| panic!("this machine has been started again"));
        end(&mut state);
        Self { machine: Machine::new(state, Arc::clone(&self.machine.clock)) }
    }

    /// A machine in the same state, as after a kill; nothing that happens to one changes the other.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.look(|state| self.machine.fork(state))
    }

    /// From now on keeps a [`fork`](Self::fork) from before each call that changes something: cut
    /// there, the power leaves what it may leave when it fails during that call.
    pub fn keep_moments(&self) {
        self.keep_moments_asking(|| 0);
    }

    /// The same, and notes what `ask` says at each of these moments. It is asked in the middle of
    /// a call, so it must not call this disk.
    pub fn keep_moments_asking(&self, ask: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.machine.moments.lock() = Some(Moments { kept: Vec::new(), ask: Box::new(ask) });
    }

    /// What was kept since this was asked last.
    #[must_use]
    pub fn take_moments(&self) -> Vec<Moment> {
        let mut moments = self.machine.moments.lock();
        moments.as_mut().map(|moments| std::mem::take(&mut moments.kept)).unwrap_or_default()
    }

    /// A hash of the names and bytes that reads see: disks with the same hold the same.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        self.look(|state| {
            names(state).into_iter().fold(0, |all, name| {
                let content = state.find(name).map_or(0, |content| content.hash());
                mixed(mixed(all, word(name)), content)
            })
        })
    }

    fn look<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.machine.state.lock();
        with(state.as_mut().unwrap_or_else(|| panic!("this machine has been started again")))
    }

    /// Lets `calls` more calls pass; during the next one the power fails, so that it may still take
    /// effect. From then on every call fails, until the machine is started again.
    pub fn crash_after(&self, calls: u64) {
        self.look(|state| state.off_after = Some(state.calls + calls));
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.machine.state.lock().as_ref().is_none_or(|state| state.off)
    }

    /// Calls to the disk so far, over all lives.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.look(|state| state.calls)
    }

    /// A hash of all calls so far: two runs that differ here were not the same run.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.look(|state| state.trace)
    }

    /// From now on, calls go wrong this often.
    pub fn set_faults(&self, faults: Faults) {
        self.look(|state| state.faults = faults);
    }

    /// The `n`-th call from now goes wrong in this way; one is the next.
    pub fn fail_call(&self, n: u64, fault: Fault) {
        self.look(|state| state.scheduled.insert(state.calls + n, fault));
    }

    /// The `n`-th call from now and all behind it go wrong in this way, until the machine is
    /// started again.
    pub fn fail_from(&self, n: u64, fault: Fault) {
        self.look(|state| state.failing = Some((state.calls + n, fault)));
    }

    /// Lets exactly `calls` more calls take effect. From then on every call fails, as without
    /// power, until the machine is started again.
    pub fn cut_after(&self, calls: u64) {
        self.look(|state| state.cut_after = Some(state.calls + calls));
    }

    /// How many sectors and changes to names a power cut would choose from.
    #[must_use]
    pub fn at_risk(&self) -> (usize, usize) {
        self.look(|state| state.at_risk())
    }

    /// What went wrong lately, the latest last.
    #[must_use]
    pub fn fault_log(&self) -> Vec<String> {
        self.look(|state| state.log.iter().map(ToString::to_string).collect())
    }

    /// How many syncs told of a write-back that had failed before them.
    #[must_use]
    pub fn late_errors(&self) -> u64 {
        self.look(|state| state.late_errors)
    }

    /// Bytes that may still be written, beyond what is allocated.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.look(|state| {
            state.count_used();
            state.total = state.used.saturating_add(bytes);
        });
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        self.machine.clock.pass(duration);
    }

    /// Sets the wall clock, in microseconds since 1970.
    pub fn set_wall(&self, micros: u64) {
        self.machine.clock.set_wall(micros);
    }

    /// Drops every clean page from the page cache: what a failed sync lost is seen to be lost.
    pub fn evict_all(&self) {
        self.look(|state| {
            for name in names(state) {
                if let Ok(content) = state.find(name) {
                    content.evict(|| true);
                }
            }
        });
    }

    /// The files that a running process sees.
    #[must_use]
    pub fn names(&self) -> Vec<FileName> {
        self.look(|state| names(state))
    }

    /// Whether anybody said that a file need not stay in memory.
    #[must_use]
    pub fn bypasses_cache(&self, name: FileName) -> bool {
        self.look(|state| state.find(name).is_ok_and(|content| content.bypasses_cache))
    }

    /// A file's bytes as reads see them.
    #[must_use]
    pub fn file_bytes(&self, name: FileName) -> Option<Vec<u8>> {
        self.look(|state| state.find(name).ok().map(|content| content.image(false)))
    }

    /// A file's bytes as they are on the medium now, at the length that reads see.
    #[must_use]
    pub fn medium_bytes(&self, name: FileName) -> Option<Vec<u8>> {
        self.look(|state| state.find(name).ok().map(|content| content.image(true)))
    }

    /// Replaces a file's bytes on the medium, or makes the file; bytes and name are durable.
    pub fn replace_file_bytes(&self, name: FileName, bytes: Vec<u8>) {
        self.look(|state| {
            if let Ok(content) = state.find(name) {
                content.edit(|medium| *medium = bytes);
            } else {
                let file = state.add_file(Content::settled(&bytes));
                state.folders.plant(name, file);
            }
            state.count_used();
        });
    }

    /// Flips one bit of a file on the medium.
    pub fn flip_bit(&self, name: FileName, bit: u64) -> io::Result<()> {
        self.damage(name, Damage::FlipBit(bit))
    }

    /// Zeroes one sector of a file on the medium.
    pub fn zero_sector(&self, name: FileName, sector: u64) -> io::Result<()> {
        self.damage(name, Damage::ZeroSector(sector))
    }

    /// Damages a file on the medium. `NotFound` without the file, `InvalidInput` beyond its end.
    pub fn damage(&self, name: FileName, damage: Damage) -> io::Result<()> {
        self.look(|state| {
            state.note(format_args!("{name} suffers {damage:?}"));
            let file = state.folders.find(name)?;
            let mut garbage = [0; SECTOR_BYTES as usize];
            let mut chance = Chance::new(state.chance.next());
            garbage.fill_with(|| chance.next() as u8);
            let content = state.file(file)?;
            spoil(content, damage, &garbage).ok_or(io::ErrorKind::InvalidInput)?;
            state.count_used();
            Ok(())
        })
    }
}

fn names(state: &State) -> Vec<FileName> {
    let folders = Folder::ALL.iter();
    folders.flat_map(|folder| state.folders.list(*folder)).map(|(name, _)| name).collect()
}

fn spoil(content: &mut Content, damage: Damage, garbage: &[u8]) -> Option<()> {
    let length = content.length;
    let range = |sector: u64| {
        let start = sector.checked_mul(SECTOR_BYTES).filter(|start| *start < length)?;
        Some(start as usize..length.min(start + SECTOR_BYTES) as usize)
    };
    match damage {
        Damage::FlipBit(bit) if bit / 8 < length => {
            content.edit(|medium| medium[(bit / 8) as usize] ^= 1 << (bit % 8));
        }
        Damage::FlipBit(_) => return None,
        Damage::ZeroSector(sector) => {
            let range = range(sector)?;
            content.edit(|medium| medium[range].fill(0));
        }
        Damage::Garbage(sector) => {
            let range = range(sector)?;
            content.edit(|medium| medium[range.clone()].copy_from_slice(&garbage[..range.len()]));
        }
        Damage::SwapSectors(one, other) => {
            let (one, other) = (range(one)?, range(other)?);
            if one.len() != other.len() {
                return None;
            }
            content.edit(|medium| {
                let kept = medium[one.clone()].to_vec();
                medium.copy_within(other.clone(), one.start);
                medium[other].copy_from_slice(&kept);
            });
        }
        Damage::SetLength(bytes) => content.edit(|medium| medium.resize(bytes as usize, 0)),
        Damage::Unreadable(sector) => {
            range(sector)?;
            content.set_unreadable(sector, true);
        }
        Damage::Readable(sector) => content.set_unreadable(sector, false),
    }
    Some(())
}

impl ReadDisk for SimDisk {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        self.machine.call(Call::Open, word(name), |state, _| {
            let file = state.folders.find(name)?;
            Ok(Arc::new(SimFile::open(&self.machine, state, file)?) as Arc<dyn ReadFile>)
        })
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<Listed>> {
        self.machine.call(Call::List, folder as u64, |state, _| {
            if !state.folders.exists(folder) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let files = state.folders.list(folder);
            let mut found: Vec<Listed> = files
                .map(|(name, file)| Listed { leaf: name.leaf(), bytes: state.length(file) })
                .collect();
            if folder == Folder::Root {
                let inside =
                    Folder::ALL[1..].iter().filter(|inside| state.folders.exists(**inside));
                found.extend(inside.map(|inside| Listed { leaf: inside.path().into(), bytes: 0 }));
            }
            Ok(found)
        })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::<SimClock>::clone(&self.machine.clock)
    }

    fn lock_holder(&self) -> io::Result<Option<String>> {
        self.machine.call(Call::LockHolder, 0, |state, _| Ok(state.lock.clone()))
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Result<Box<dyn Lock>, String>> {
        self.machine.call(Call::Lock, 0, |state, _| {
            if let Some(holder) = &state.lock {
                return Ok(Err(holder.clone()));
            }
            if state.folders.find(FileName::Lock).is_err() {
                let file = state.add_file(Content::default());
                state.folders.create(FileName::Lock, file)?;
            }
            state.lock = Some(format!("simulated process, since call {}", state.calls));
            let machine = Arc::clone(&self.machine);
            Ok(Ok(Box::new(SimLock { machine }) as Box<dyn Lock>))
        })
    }

    fn make_folders(&self) -> io::Result<()> {
        self.machine.call(Call::MakeFolders, 0, |state, _| {
            state.folders.make();
            Ok(())
        })
    }

    fn create(&self, name: FileName) -> io::Result<Arc<dyn File>> {
        self.machine.call(Call::Create, word(name), |state, _| {
            state.check_descriptors()?;
            let file = state.add_file(Content::default());
            if let Err(error) = state.folders.create(name, file) {
                state.release(file);
                return Err(error);
            }
            Ok(Arc::new(SimFile::open(&self.machine, state, file)?) as Arc<dyn File>)
        })
    }

    fn open_medium(&self, name: FileName) -> Result<Arc<dyn ReadFile>, MediumError> {
        let opened = self.machine.call(Call::OpenMedium, word(name), |state, mut turn| {
            let file = state.folders.find(name)?;
            if let Some(fault) = turn.fault.take()
                && state.chance.coin()
            {
                return Err(fault.error());
            } else if state.chance.happens(state.faults.sync) {
                state.note(format_args!("the sync inside OpenMedium meets Io"));
                turn.fault = Some(Fault::Io);
            }
            let late = state.late_errors;
            if let Err(error) = state.sync(file, turn) {
                if state.late_errors > late {
                    mark(Mark::SyncErrorElsewhere);
                }
                return Ok(Err(SyncFailed(error)));
            }
            state.file(file)?.evict(|| true);
            Ok(Ok(Arc::new(SimFile::open(&self.machine, state, file)?) as Arc<dyn ReadFile>))
        });
        opened.map_err(MediumError::Open)?.map_err(MediumError::Sync)
    }

    fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        let about = word(from) ^ word(to).rotate_left(1);
        self.machine.call(Call::Rename, about, |state, _| {
            if let Some(replaced) = state.folders.rename(from, to)? {
                state.release(replaced);
            }
            Ok(())
        })
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.machine.call(Call::Remove, word(name), |state, _| {
            let file = state.folders.remove(name)?;
            state.release(file);
            Ok(())
        })
    }

    fn sync_folder(&self, folder: Folder) -> Result<(), SyncFailed> {
        let synced = self.machine.call(Call::SyncFolder, folder as u64, |state, turn| {
            if !state.folders.exists(folder) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if let Some(fault) = turn.fault.or(turn.last.then_some(Fault::Io)) {
                let loses = state.chance.happens(state.faults.sync_folder_loses);
                let failure = (fault, loses && turn.fault.is_some());
                return Err(state.folders.fail_sync(folder, failure, &mut state.chance));
            }
            state.folders.sync(folder, usize::MAX);
            state.reap_all();
            Ok(())
        });
        synced.map_err(SyncFailed)
    }

    fn space(&self) -> io::Result<Space> {
        self.machine.call(Call::Space, 0, |state, _| {
            Ok(Space { free: state.total.saturating_sub(state.used), total: state.total })
        })
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.machine.call(Call::Random, bytes.len() as u64, |state, _| {
            bytes.fill_with(|| state.chance.next() as u8);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;

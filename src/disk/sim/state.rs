//! All that a simulated machine remembers, and what a power cut leaves of it.
//!
//! Invariants:
//!   * Everything here changes under one lock, in the order of the calls.
//!   * A file lives while a name, seen or durable or pending, or a handle leads to it; its blocks
//!     are taken while a name that is seen or a handle does.

use super::content::{Content, blocks, whole_blocks};
use super::faults::{Call, Chance, Fault, Faults};
use super::folders::Folders;
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

const LOG_LINES: usize = 256;
const DISK_BYTES: u64 = 1 << 40;

/// What a power cut leaves of the sectors that were written and not synced, in the order of their
/// writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepSectors {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// Each with probability one half.
    Half,
    /// The first ones.
    Prefix,
    /// The last ones.
    Suffix,
    /// All but one.
    AllButOne,
    /// Only one.
    OnlyOne,
    /// Each with probability one half, and half of these only in part: the rest of such a sector is
    /// what was there before, or rubbish. [`SimDisk::power_cut`](super::SimDisk::power_cut) never
    /// draws this.
    Torn,
    /// Those whose bit is set, the first write's the lowest.
    These(u64),
}

/// What a power cut leaves of a file's length that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepLength {
    /// The durable one: bytes behind it are lost although their sectors were written.
    Old,
    /// The last one: bytes whose sectors were not written are zeros.
    New,
    /// For each file the old one, the new one or one between.
    Any,
}

/// What a power cut leaves of the changes to names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepNames {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// The first ones of each folder, each rename whole.
    Prefix,
    /// Any; a rename may leave both names or neither.
    AnySubset,
    /// Those whose bit is set, folder by folder and in order, each rename whole.
    These(u64),
}

/// What a power cut leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Of sectors.
    pub sectors: KeepSectors,
    /// Of lengths.
    pub length: KeepLength,
    /// Of names.
    pub names: KeepNames,
}

impl Crash {
    pub(super) fn drawn(chance: &mut Chance) -> Self {
        use KeepSectors as Keep;
        let sectors = [
            Keep::Nothing,
            Keep::Everything,
            Keep::Half,
            Keep::Half,
            Keep::Prefix,
            Keep::Suffix,
            Keep::AllButOne,
            Keep::OnlyOne,
        ][chance.below(8) as usize];
        let length = [KeepLength::Old, KeepLength::New, KeepLength::Any][chance.below(3) as usize];
        let names =
            [KeepNames::Nothing, KeepNames::Everything, KeepNames::Prefix, KeepNames::AnySubset]
                [chance.below(4) as usize];
        Self { sectors, length, names }
    }
}

/// How one call goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) fault: Option<Fault>,
    /// The power fails during this call: it may take effect, in part or whole, but never returns.
    pub(super) last: bool,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) folders: Folders,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// Files without a name that is seen, which something else may still lead to.
    nameless: BTreeSet<u64>,
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) scheduled: BTreeMap<u64, Fault>,
    pub(super) log: VecDeque<Arc<str>>,
    pub(super) calls: u64,
    writes: u64,
    pub(super) descriptors: u64,
    /// Syncs that told of an earlier failure.
    pub(super) late_errors: u64,
    /// From this call on all go wrong in this way.
    pub(super) failing: Option<(u64, Fault)>,
    pub(super) off_after: Option<u64>,
    /// No call behind this one takes effect.
    pub(super) cut_after: Option<u64>,
    pub(super) off: bool,
    pub(super) trace: u64,
    pub(super) total: u64,
    pub(super) used: u64,
    pub(super) lock: Option<String>,
}

pub(super) fn off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            folders: Folders::new(),
            files: BTreeMap::new(),
            next_file: 1,
            nameless: BTreeSet::new(),
            chance: Chance::new(seed),
            faults: Faults::none(),
            scheduled: BTreeMap::new(),
            log: VecDeque::new(),
            calls: 0,
            writes: 0,
            descriptors: 0,
            late_errors: 0,
            failing: None,
            off_after: None,
            cut_after: None,
            off: false,
            trace: seed,
            total: DISK_BYTES,
            used: 0,
            lock: None,
        }
    }

    /// One more call: whether and how it goes wrong.
    pub(super) fn begin(&mut self, call: Call) -> io::Result<Turn> {
        self.calls += 1;
        self.off |= self.cut_after.is_some_and(|last| self.calls > last);
        if self.off {
            return Err(off());
        }
        if self.off_after.is_some_and(|last| self.calls > last) {
            self.off = true;
            self.note(format_args!("the power fails during {call:?}"));
            return Ok(Turn { fault: None, last: true });
        }
        let scheduled =
            if self.scheduled.is_empty() { None } else { self.scheduled.remove(&self.calls) };
        let failing = self.failing.filter(|(from, _)| self.calls >= *from).map(|(_, fault)| fault);
        let fault = scheduled.or(failing).or_else(|| self.draw(call));
        if let Some(fault) = fault {
            self.note(format_args!("{call:?} meets {fault:?}"));
            let split = matches!(call, Call::Read | Call::Write) && fault == Fault::Short;
            // These three do harm before they return the error.
            if !split && !matches!(call, Call::Sync | Call::SyncFolder | Call::OpenMedium) {
                return Err(fault.error());
            }
        }
        Ok(Turn { fault, last: false })
    }

    fn draw(&mut self, call: Call) -> Option<Fault> {
        if self.chance.happens(self.faults.rate(call)) {
            // A name takes room as well.
            let may_be_full =
                matches!(call, Call::Sync | Call::SyncFolder | Call::Create | Call::Rename);
            let full = may_be_full && self.chance.coin();
            return Some(if full { Fault::NoSpace } else { Fault::Io });
        }
        let short = match call {
            Call::Read => self.faults.read_short,
            Call::Write => self.faults.write_short,
            _ => return None,
        };
        if self.chance.happens(self.faults.interrupted) {
            return Some(Fault::Interrupted);
        }
        self.chance.happens(short).then_some(Fault::Short)
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(format!("call {}: {what}", self.calls).into());
    }

    /// Folds a word into the trace.
    pub(super) fn mix(&mut self, word: u64) {
        let mixed = (self.trace ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.trace = mixed.rotate_left(29);
    }

    pub(super) fn file(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(off)
    }

    pub(super) fn add_file(&mut self, content: Content) -> u64 {
        let file = self.next_file;
        self.next_file += 1;
        self.used += content.charged;
        self.files.insert(file, content);
        file
    }

    /// Whether one more descriptor may be open.
    pub(super) fn check_descriptors(&mut self) -> io::Result<()> {
        if self.descriptors >= self.faults.descriptors {
            mark(Mark::NoDescriptor);
            self.note(format_args!("no descriptor is left"));
            return Err(rustix::io::Errno::MFILE.into());
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn files_held(&self) -> usize {
        self.files.len()
    }

    pub(super) fn length(&self, file: u64) -> u64 {
        self.files.get(&file).map_or(0, |content| content.length)
    }

    /// Takes blocks so that the file has them up to `end`; gives up to where it has them.
    pub(super) fn charge(&mut self, file: u64, end: u64) -> io::Result<u64> {
        let free = self.total.saturating_sub(self.used);
        let rate = self.faults.no_space;
        let content = self.files.get_mut(&file).ok_or_else(off)?;
        let want = blocks(end);
        if want <= content.charged {
            return Ok(end);
        }
        let full = self.chance.happens(rate);
        let grant = if full { 0 } else { whole_blocks(free).min(want - content.charged) };
        content.charged += grant;
        self.used += grant;
        let have = content.charged.min(end);
        if full {
            self.note(format_args!("no space for a block"));
        }
        Ok(have)
    }

    pub(super) fn write(&mut self, file: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writes += 1;
        let number = self.writes;
        self.file(file)?.write(bytes, offset, number);
        if self.chance.happens(self.faults.write_back) {
            let all = self.chance.coin();
            self.write_some_back(file, &(0..u64::MAX), all);
        }
        Ok(())
    }

    pub(super) fn write_some_back(&mut self, file: u64, range: &std::ops::Range<u64>, all: bool) {
        if self.chance.happens(self.faults.write_back_fails) {
            self.note(format_args!("write-back fails and nobody is told yet"));
            if let Some(content) = self.files.get_mut(&file) {
                content.fail_write_back(range, &mut self.chance);
            }
        } else if let Some(content) = self.files.get_mut(&file) {
            content.write_back(range, || all || self.chance.coin());
        }
    }

    pub(super) fn read(&mut self, file: u64, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.files.get_mut(&file).ok_or_else(off)?;
        if content.has_lost() && self.chance.happens(self.faults.evict) {
            content.evict(|| self.chance.coin());
        }
        content.read(bytes, offset)
    }

    /// A sync of a file, which fails when `fault` says so.
    pub(super) fn sync(&mut self, file: u64, turn: Turn) -> io::Result<()> {
        let content = self.files.get_mut(&file).ok_or_else(off)?;
        if turn.last {
            content.write_back_all(|| self.chance.coin());
            return Err(off());
        }
        match turn.fault {
            None if std::mem::take(&mut content.has_late_error) => {
                content.sync();
                self.late_errors += 1;
                mark(Mark::LateSyncError);
                self.note(format_args!("a sync tells of a write-back that failed before it"));
                Err(Fault::Io.error())
            }
            None => {
                content.sync();
                Ok(())
            }
            Some(fault) => {
                let reverts = self.chance.happens(self.faults.sync_reverts);
                content.fail_sync(&mut self.chance, reverts);
                Err(fault.error())
            }
        }
    }

    /// The file has no name any more; its blocks are free once no handle leads to it.
    pub(super) fn release(&mut self, file: u64) {
        if self.files.contains_key(&file) {
            self.nameless.insert(file);
            self.free_blocks(file);
            self.reap(file);
        }
    }

    /// Frees the blocks of a file without a name and without handles: a snapshot that maps a file
    /// keeps its space as well as its bytes.
    fn free_blocks(&mut self, file: u64) {
        let content = self.files.get_mut(&file).filter(|content| content.handles == 0);
        if let Some(content) = content.filter(|_| self.nameless.contains(&file)) {
            self.used = self.used.saturating_sub(std::mem::take(&mut content.charged));
        }
    }

    /// A handle of the file was closed.
    pub(super) fn close(&mut self, file: u64) {
        if let Some(content) = self.files.get_mut(&file) {
            content.handles = content.handles.saturating_sub(1);
            self.free_blocks(file);
            self.reap(file);
        }
    }

    /// Forgets a file if nothing leads to it.
    fn reap(&mut self, file: u64) {
        let is_open = self.files.get(&file).is_some_and(|content| content.handles > 0);
        if !is_open && self.nameless.contains(&file) && !self.folders.refer_to(file) {
            self.forget(file);
        }
    }

    /// Forgets all files that nothing leads to.
    pub(super) fn reap_all(&mut self) {
        if self.nameless.is_empty() {
            return;
        }
        let referred = self.folders.referred();
        for file in self.nameless.clone() {
            let is_open = self.files.get(&file).is_some_and(|content| content.handles > 0);
            if !is_open && !referred.contains(&file) {
                self.forget(file);
            }
        }
    }

    fn forget(&mut self, file: u64) {
        self.nameless.remove(&file);
        if let Some(content) = self.files.remove(&file) {
            self.used = self.used.saturating_sub(content.charged);
        }
    }

    /// The process is gone; the machine goes on, page cache and all.
    pub(super) fn kill(&mut self) {
        for content in self.files.values_mut() {
            content.handles = 0;
        }
        for file in self.nameless.clone() {
            self.free_blocks(file);
        }
        self.descriptors = 0;
        self.lock = None;
        self.off = false;
        self.failing = None;
        self.off_after = None;
        self.cut_after = None;
        self.scheduled.clear();
        self.reap_all();
    }

    /// The machine is gone and started again: what is left is what `crash` keeps.
    pub(super) fn cut_power(&mut self, crash: Crash) {
        self.note(format_args!("power cut, keeping {crash:?}"));
        self.keep_sectors(crash.sectors);
        for content in self.files.values_mut() {
            let (old, new) = (content.durable_length, content.length);
            let between = old.min(new) + self.chance.below(new.abs_diff(old) + 1);
            let any = [old, new, between][self.chance.below(3) as usize];
            content.forget_cache(match crash.length {
                KeepLength::Old => old,
                KeepLength::New => new,
                KeepLength::Any => any,
            });
        }
        self.folders.cut(crash.names, &mut self.chance);
        let named: BTreeSet<u64> = Folder::ALL
            .iter()
            .flat_map(|folder| self.folders.list(*folder))
            .map(|(_, file)| file)
            .collect();
        self.files.retain(|file, _| named.contains(file));
        self.nameless.clear();
        self.count_used();
        self.kill();
    }

    pub(super) fn at_risk(&self) -> (usize, usize) {
        let sectors = self.files.values().map(|content| content.dirty().count()).sum();
        (sectors, Folder::ALL.iter().map(|folder| self.folders.pending(*folder)).sum())
    }

    pub(super) fn count_used(&mut self) {
        self.used = self.files.values().map(|content| content.charged).sum();
    }

    fn keep_sectors(&mut self, keep: KeepSectors) {
        let mut dirty = Vec::new();
        for (file, content) in &self.files {
            dirty.extend(content.dirty().map(|(write, sector)| (write, *file, sector)));
        }
        dirty.sort_unstable();
        let chance = &mut self.chance;
        let place = chance.below(dirty.len() as u64 + 1) as usize;
        for (index, (_, file, sector)) in dirty.iter().enumerate() {
            let kept = match keep {
                KeepSectors::Nothing => false,
                KeepSectors::Everything => true,
                KeepSectors::Half | KeepSectors::Torn => chance.coin(),
                KeepSectors::Prefix => index < place,
                KeepSectors::Suffix => index >= place,
                KeepSectors::AllButOne => index != place,
                KeepSectors::OnlyOne => index == place,
                KeepSectors::These(bits) => index < 64 && bits >> index & 1 == 1,
            };
            let Some(content) = self.files.get_mut(file).filter(|_| kept) else { continue };
            if keep == KeepSectors::Torn && chance.coin() {
                mark(Mark::SectorTorn);
                content.tear(*sector, chance);
            } else {
                content.keep(*sector);
            }
        }
    }

    pub(super) fn find(&mut self, name: FileName) -> io::Result<&mut Content> {
        let file = self.folders.find(name)?;
        self.file(file)
    }
}

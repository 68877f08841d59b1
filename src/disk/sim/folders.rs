//! The names of a simulated disk: those that a running machine sees, and those that are durable.
//!
//! Invariants:
//!   * Applying all that is pending to the durable names gives the names that are seen, until a
//!     failed sync loses some of it for good.
//!   * A folder whose own name is not durable loses all its names when the power is cut.

use super::faults::{Chance, Fault};
use super::state::KeepNames;
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

#[derive(Clone, Copy, Debug)]
enum Change {
    Link(FileName, u64),
    Unlink(FileName),
    Rename(FileName, FileName, u64),
    Make(Folder),
}

#[derive(Clone, Debug, Default)]
struct Names {
    exists: bool,
    exists_durably: bool,
    seen: BTreeMap<FileName, u64>,
    durable: BTreeMap<FileName, u64>,
    /// What a sync of the folder would make durable, in order.
    pending: Vec<Change>,
}

impl Names {
    fn change(&mut self, change: Change) {
        apply(&mut self.seen, change, true, true);
        self.pending.push(change);
    }

    /// The files that a name, seen or durable or about to be, leads to; some more than once.
    fn files(&self) -> impl Iterator<Item = u64> + '_ {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Link(_, file) | Change::Rename(_, _, file) => Some(*file),
            Change::Unlink(_) | Change::Make(_) => None,
        });
        pending.chain(self.durable.values().copied()).chain(self.seen.values().copied())
    }
}

/// A rename is two changes to a medium that promises little; each is whole.
fn apply(names: &mut BTreeMap<FileName, u64>, change: Change, link: bool, unlink: bool) {
    match change {
        Change::Link(name, file) => {
            names.insert(name, file);
        }
        Change::Unlink(name) => {
            names.remove(&name);
        }
        Change::Rename(from, to, file) => {
            if unlink {
                names.remove(&from);
            }
            if link {
                names.insert(to, file);
            }
        }
        Change::Make(_) => {}
    }
}

#[derive(Clone, Debug)]
pub(super) struct Folders {
    names: [Names; 4],
}

fn not_found() -> io::Error {
    rustix::io::Errno::NOENT.into()
}

impl Folders {
    pub(super) fn new() -> Self {
        let mut names = [const { None }; 4].map(|_: Option<Names>| Names::default());
        names[Folder::Root as usize].exists = true;
        names[Folder::Root as usize].exists_durably = true;
        Self { names }
    }

    fn folder(&mut self, folder: Folder) -> io::Result<&mut Names> {
        let names = &mut self.names[folder as usize];
        if names.exists { Ok(names) } else { Err(not_found()) }
    }

    pub(super) fn find(&self, name: FileName) -> io::Result<u64> {
        self.names[name.folder() as usize].seen.get(&name).copied().ok_or_else(not_found)
    }

    pub(super) fn exists(&self, folder: Folder) -> bool {
        self.names[folder as usize].exists
    }

    /// The files of a folder, in order.
    pub(super) fn list(&self, folder: Folder) -> impl Iterator<Item = (FileName, u64)> + '_ {
        self.names[folder as usize].seen.iter().map(|(name, file)| (*name, *file))
    }

    pub(super) fn make(&mut self) {
        for folder in &Folder::ALL[1..] {
            if !self.exists(*folder) {
                self.names[*folder as usize].exists = true;
                self.names[Folder::Root as usize].pending.push(Change::Make(*folder));
            }
        }
    }

    pub(super) fn create(&mut self, name: FileName, file: u64) -> io::Result<()> {
        let names = self.folder(name.folder())?;
        if names.seen.contains_key(&name) {
            return Err(rustix::io::Errno::EXIST.into());
        }
        names.change(Change::Link(name, file));
        Ok(())
    }

    /// Removes a name; gives the file that lost it.
    pub(super) fn remove(&mut self, name: FileName) -> io::Result<u64> {
        let file = self.find(name)?;
        self.folder(name.folder())?.change(Change::Unlink(name));
        Ok(file)
    }

    /// Renames inside one folder; gives the file that lost its name to it.
    pub(super) fn rename(&mut self, from: FileName, to: FileName) -> io::Result<Option<u64>> {
        if from.folder() != to.folder() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = self.find(from)?;
        if from == to {
            return Ok(None);
        }
        let replaced = self.find(to).ok();
        self.folder(from.folder())?.change(Change::Rename(from, to, file));
        Ok(replaced)
    }

    /// A name and its folder are there, seen and durable, whatever is pending.
    pub(super) fn plant(&mut self, name: FileName, file: u64) {
        self.make();
        for folder in Folder::ALL {
            self.sync(folder, usize::MAX);
        }
        let names = &mut self.names[name.folder() as usize];
        names.seen.insert(name, file);
        names.durable.insert(name, file);
    }

    pub(super) fn pending(&self, folder: Folder) -> usize {
        self.names[folder as usize].pending.len()
    }

    /// Makes the first `count` pending changes durable.
    pub(super) fn sync(&mut self, folder: Folder, count: usize) {
        let names = &mut self.names[folder as usize];
        let count = count.min(names.pending.len());
        let mut made = Vec::new();
        for change in names.pending.drain(..count) {
            apply(&mut names.durable, change, true, true);
            if let Change::Make(folder) = change {
                made.push(folder);
            }
        }
        for folder in made {
            self.names[folder as usize].exists_durably = true;
        }
    }

    /// Whether a name, seen or durable or about to be, leads to the file.
    pub(super) fn refer_to(&self, file: u64) -> bool {
        self.names.iter().any(|names| names.files().any(|other| other == file))
    }

    /// The files that a name, seen or durable or about to be, leads to.
    pub(super) fn referred(&self) -> BTreeSet<u64> {
        self.names.iter().flat_map(Names::files).collect()
    }

    /// The power is gone: of the pending changes some are durable, and nothing else is seen.
    pub(super) fn cut(&mut self, keep: KeepNames, chance: &mut Chance) {
        let mut before = 0;
        for folder in Folder::ALL {
            let pending = self.pending(folder);
            match keep {
                KeepNames::These(bits) => self.keep_these(folder, bits.checked_shr(before)),
                KeepNames::Nothing => {}
                KeepNames::Everything => self.sync(folder, pending),
                KeepNames::Prefix => {
                    let count = chance.below(pending as u64 + 1) as usize;
                    self.sync(folder, count);
                }
                KeepNames::AnySubset => self.keep_any(folder, chance),
            }
            before += u32::try_from(pending).unwrap_or(u32::MAX);
        }
        for names in &mut self.names {
            names.pending.clear();
            names.exists = names.exists_durably;
            if !names.exists {
                names.durable.clear();
            }
            names.seen.clone_from(&names.durable);
        }
    }

    fn keep_these(&mut self, folder: Folder, bits: Option<u64>) {
        let pending = std::mem::take(&mut self.names[folder as usize].pending);
        for (index, change) in pending.into_iter().take(64).enumerate() {
            if bits.unwrap_or(0) >> index & 1 == 0 {
                continue;
            }
            if let Change::Make(made) = change {
                self.names[made as usize].exists_durably = true;
            } else {
                apply(&mut self.names[folder as usize].durable, change, true, true);
            }
        }
    }

    fn keep_any(&mut self, folder: Folder, chance: &mut Chance) {
        let mut pending = std::mem::take(&mut self.names[folder as usize].pending);
        for change in pending.drain(..) {
            let (link, unlink) = (chance.coin(), chance.coin());
            match change {
                Change::Rename(..) => {
                    apply(&mut self.names[folder as usize].durable, change, link, unlink);
                }
                Change::Make(made) if link => self.names[made as usize].exists_durably = true,
                _ if link => {
                    apply(&mut self.names[folder as usize].durable, change, true, true);
                }
                _ => {}
            }
        }
    }

    /// A failed sync of a folder makes some of the changes durable, and says so of none. Where it
    /// `loses` the others, no later sync makes them durable, though all are seen; folders stay.
    pub(super) fn fail_sync(
        &mut self,
        folder: Folder,
        (fault, loses): (Fault, bool),
        chance: &mut Chance,
    ) -> io::Error {
        let count = chance.below(self.pending(folder) as u64 + 1) as usize;
        self.sync(folder, count);
        let pending = &mut self.names[folder as usize].pending;
        let before = pending.len();
        if loses {
            pending.retain(|change| matches!(change, Change::Make(_)));
        }
        if pending.len() < before {
            mark(Mark::NamesLost);
        }
        fault.error()
    }
}

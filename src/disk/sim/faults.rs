//! What goes wrong, how often, and the one source of chance.
//!
//! Invariants:
//!   * All chance comes from [`Chance`], so a seed repeats a run.

use rustix::io::Errno;
use std::io;

/// A kind of call to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Open,
    OpenMedium,
    Length,
    Read,
    Map,
    MapRead,
    Create,
    Write,
    Allocate,
    StartWriteback,
    Sync,
    SyncFolder,
    Rename,
    Remove,
    List,
    MakeFolders,
    Lock,
    LockHolder,
    Space,
    Random,
}

impl Call {
    /// Whether it may change what a power cut leaves.
    pub(super) fn changes(self) -> bool {
        match self {
            Self::OpenMedium
            | Self::Create
            | Self::Write
            | Self::Allocate
            | Self::StartWriteback
            | Self::Sync
            | Self::SyncFolder
            | Self::Rename
            | Self::Remove
            | Self::MakeFolders
            | Self::Lock => true,
            Self::Open
            | Self::Length
            | Self::Read
            | Self::Map
            | Self::MapRead
            | Self::List
            | Self::LockHolder
            | Self::Space
            | Self::Random => false,
        }
    }
}

/// How one call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A sync that fails so drops the marks of what it should have written.
    Io,
    /// ENOSPC, which syncs return too.
    NoSpace,
    /// EINTR.
    Interrupted,
    /// EDQUOT: full, for this user.
    Quota,
    /// EMFILE.
    Descriptors,
    /// EROFS: the file system has given up.
    ReadOnly,
    /// A read or write of fewer bytes than asked for; EIO for any other call.
    Short,
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Io,
        Self::NoSpace,
        Self::Interrupted,
        Self::Quota,
        Self::Descriptors,
        Self::ReadOnly,
        Self::Short,
    ];

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io | Self::Short => Errno::IO.into(),
            Self::NoSpace => Errno::NOSPC.into(),
            Self::Interrupted => Errno::INTR.into(),
            Self::Quota => Errno::DQUOT.into(),
            Self::Descriptors => Errno::MFILE.into(),
            Self::ReadOnly => Errno::ROFS.into(),
        }
    }
}

/// How often calls go wrong: each a probability, drawn anew at each call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// EIO of a read.
    pub read: f64,
    /// A short read.
    pub read_short: f64,
    /// EIO of a write.
    pub write: f64,
    /// A short write.
    pub write_short: f64,
    /// EINTR of a read or write.
    pub interrupted: f64,
    /// ENOSPC of a write or allocation that needs new blocks.
    pub no_space: f64,
    /// EIO of an allocation.
    pub allocate: f64,
    /// A failed sync: EIO or ENOSPC once, and the next sync succeeds without having written.
    pub sync: f64,
    /// Of the failed syncs, those after which reads see the old bytes at once.
    pub sync_reverts: f64,
    /// A failed sync of a folder.
    pub sync_folder: f64,
    /// Of the failed syncs of folders, those that lose names for good: the next sync succeeds
    /// without them, and a power cut takes them.
    pub sync_folder_loses: f64,
    /// EIO of an open.
    pub open: f64,
    /// EIO or ENOSPC of a create.
    pub create: f64,
    /// EIO or ENOSPC of a rename.
    pub rename: f64,
    /// EIO of a remove.
    pub remove: f64,
    /// EIO of a listing.
    pub list: f64,
    /// EIO of a map, or of an access through one.
    pub map: f64,
    /// EIO of any other call.
    pub other: f64,
    /// Background write-back after a write, of a random part of the file. Not a fault.
    pub write_back: f64,
    /// Of the background write-backs, those that fail: some sectors never reach the medium, and the
    /// next sync of the file tells of it once, whichever descriptor asks.
    pub write_back_fails: f64,
    /// Descriptors that may be open at once; opens beyond them fail with EMFILE.
    pub descriptors: u64,
    /// Eviction before a read, of a random part of the file's clean sectors. Not a fault.
    pub evict: f64,
}

impl Faults {
    /// No fault; only what the page cache does by itself.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            read: 0.0,
            read_short: 0.0,
            write: 0.0,
            write_short: 0.0,
            interrupted: 0.0,
            no_space: 0.0,
            allocate: 0.0,
            sync: 0.0,
            sync_reverts: 0.0,
            sync_folder: 0.0,
            sync_folder_loses: 0.0,
            open: 0.0,
            create: 0.0,
            rename: 0.0,
            remove: 0.0,
            list: 0.0,
            map: 0.0,
            other: 0.0,
            write_back: 1.0 / 32.0,
            write_back_fails: 0.0,
            descriptors: u64::MAX,
            evict: 1.0 / 8.0,
        }
    }

    /// A random mix for one run: each kind is off, rare or frequent.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut faults = Self::none();
        for rate in [
            &mut faults.read,
            &mut faults.read_short,
            &mut faults.write,
            &mut faults.write_short,
            &mut faults.interrupted,
            &mut faults.no_space,
            &mut faults.allocate,
            &mut faults.sync,
            &mut faults.sync_folder,
            &mut faults.open,
            &mut faults.create,
            &mut faults.rename,
            &mut faults.remove,
            &mut faults.list,
            &mut faults.map,
            &mut faults.other,
        ] {
            *rate = [0.0, 0.0, 0.001, 0.02][chance.below(4) as usize];
        }
        faults.sync_reverts = [0.0, 0.5, 1.0][chance.below(3) as usize];
        faults.write_back_fails = [0.0, 0.0, 0.001, 0.02][chance.below(4) as usize];
        faults.descriptors = [u64::MAX, u64::MAX, 12, 5][chance.below(4) as usize];
        faults.sync_folder_loses = [0.0, 0.5, 1.0][chance.below(3) as usize];
        faults
    }

    pub(super) fn rate(&self, call: Call) -> f64 {
        match call {
            Call::Read => self.read,
            Call::Write => self.write,
            Call::Allocate => self.allocate,
            Call::Sync => self.sync,
            Call::SyncFolder => self.sync_folder,
            Call::Open | Call::OpenMedium => self.open,
            Call::Create => self.create,
            Call::Rename => self.rename,
            Call::Remove => self.remove,
            Call::List => self.list,
            Call::Map | Call::MapRead => self.map,
            Call::Length
            | Call::StartWriteback
            | Call::MakeFolders
            | Call::Lock
            | Call::LockHolder
            | Call::Space
            | Call::Random => self.other,
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::none()
    }
}

const TWO_TO_32: f64 = 4_294_967_296.0;

/// A small generator (`splitmix64`): fast, and the same on every machine.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    state: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; zero when there is none.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// True with this probability.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && f64::from((self.next() >> 32) as u32) < probability * TWO_TO_32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_kept() {
        let mut chance = Chance::new(1);
        let mut count = |rate| (0..10_000).filter(|_| chance.happens(rate)).count();
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), 10_000);
        assert!((800..1200).contains(&count(0.1)));
    }
}

//! Backups: a copy of the store as of one commit, made while commits go on.
//!
//! Invariants:
//!   * An error leaves the earlier backup in the folder as it was.

use super::Store;
use super::commit::Position;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, ReadDisk};
use crate::engine::Engine;
use crate::engine::backup::Told;
use crate::error::{Error, Result};
use crate::inspect::{self, Depth, Watch, verify_watched};
use std::path::Path;
use std::sync::Arc;

/// How a backup is made.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BackupOptions {
    may_link: bool,
    is_verified: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { may_link: true, is_verified: false }
    }
}

impl BackupOptions {
    /// Files are linked where that is possible, and nothing is verified beyond the copies.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the backup may share files with the store where both are folders of one file
    /// system. On by default: it takes no space and no time then, but one damaged sector damages
    /// both, so such a backup protects against mistakes and not against the medium.
    pub fn link(mut self, may_link: bool) -> Self {
        self.may_link = may_link;
        self
    }

    /// Whether the backup is verified whole when it is complete, every page and every run, those of
    /// earlier backups included. Off by default: it reads all of it.
    pub fn verify(mut self, is_verified: bool) -> Self {
        self.is_verified = is_verified;
        self
    }
}

/// A complete backup.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backup {
    /// The last commit in it, and its time. Everything that was durable when the backup was asked
    /// for is in it, and nothing behind this.
    pub position: Position,
    /// Files that an earlier backup had put there.
    pub files_kept: u64,
    /// Files that store and backup share.
    pub files_linked: u64,
    /// Files that were copied.
    pub files_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Files of earlier backups that went.
    pub files_removed: u64,
    /// What the verification found, if it was asked for. Damage that the store itself has is in the
    /// backup too, and the backup is complete with it.
    pub verified: Option<inspect::Report>,
}

/// Waits for a verification as long as nobody closes the store.
#[derive(Debug)]
struct WhileOpen<'a> {
    engine: &'a Engine,
    watch: &'a dyn Watch,
}

impl Watch for WhileOpen<'_> {
    fn expect(&self, bytes: u64) {
        self.watch.expect(bytes);
    }

    fn pass(&self, bytes: u64) {
        self.watch.pass(bytes);
    }

    fn is_over(&self) -> bool {
        self.engine.check_wanted().is_err() || self.watch.is_over()
    }
}

impl Store {
    /// Makes `path` a backup of the store as of one commit, with the defaults of [`BackupOptions`].
    ///
    /// The folder is made if it is missing; its parent must exist. It must be empty, or have an
    /// earlier backup of this store, of which files that did not change are kept. That one stays
    /// usable until the new one is complete; what is interrupted is never taken for a backup, and
    /// the next call goes on from there.
    ///
    /// What comes out is a store: open it, or put it in the place of the lost one. It has the
    /// identity, the names and the ids of this one and goes on by itself, so it is for one user at
    /// a time; once it was opened for writing it takes no further backups.
    ///
    /// Costs a checkpoint, then a copy of each file that the backup does not have, read back once.
    /// Blocks for that long; commits go on meanwhile. Files that the store gives up meanwhile stay
    /// until it is done.
    ///
    /// Fails with `backup.target` where something else is in the folder, or where it lies in the
    /// store's own; with `store.locked` where another has it open; with `Full` and `Io` where the
    /// folder takes no more; with `store.closed` where the store is closed meanwhile, which waits
    /// for no backup. In each case the earlier backup is as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> dostore::error::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (folder.path().join("data"), folder.path().join("backup"));
    /// use dostore::store::Store;
    ///
    /// let store = Store::open(path)?;
    /// let mut lobby = store.namespace("rooms")?.open_by_name("lobby")?;
    /// lobby.put("topic", "rust")?.wait()?;
    /// let backup = store.backup(&copy)?;
    /// lobby.put("topic", "lost")?.wait()?;
    /// println!("as of commit {}", backup.position.lsn);
    ///
    /// let restored = Store::open(&copy)?;
    /// let lobby = restored.namespace("rooms")?.open_by_name("lobby")?;
    /// assert_eq!(lobby.get("topic")?.as_deref(), Some(&b"rust"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<Backup> {
        self.backup_with(path, BackupOptions::new())
    }

    /// The same, with options.
    pub fn backup_with(&self, path: impl AsRef<Path>, options: BackupOptions) -> Result<Backup> {
        self.backup_watched(path.as_ref(), options, &())
    }

    /// The same for whoever wants to hear how far it has come: of the bytes that are copied, then
    /// of those that are verified.
    pub(in crate::store) fn backup_watched(
        &self,
        path: &Path,
        options: BackupOptions,
        watch: &dyn Watch,
    ) -> Result<Backup> {
        let failed = |cause| Error::io("opening the backup's folder", cause);
        if self.engine().disk.holds(path).map_err(failed)? {
            let what = "the backup lies in the store's own folder";
            return Err(Error::invalid("backup.target", what));
        }
        self.backup_to(Arc::new(RealDisk::create(path).map_err(failed)?), options, watch)
    }

    /// The same on a disk of one's own, as a simulated one.
    pub fn backup_on(&self, target: impl Disk, options: BackupOptions) -> Result<Backup> {
        self.backup_to(Arc::new(target), options, &())
    }

    fn backup_to(
        &self,
        target: Arc<dyn Disk>,
        options: BackupOptions,
        watch: &dyn Watch,
    ) -> Result<Backup> {
        let expect = &|bytes| watch.expect(bytes);
        let told = Told { expect, pass: &|bytes| watch.pass(bytes) };
        let copied = self.engine().backup(&target, options.may_link, &told)?;
        let reading: Arc<dyn ReadDisk> = target;
        let verified = if options.is_verified {
            let watch = WhileOpen { engine: self.engine(), watch };
            let report = verify_watched(&reading, Depth::Everything, &watch);
            self.engine().check_wanted()?;
            Some(report)
        } else {
            None
        };
        Ok(Backup {
            position: Position { lsn: copied.lsn, time: copied.time },
            files_kept: copied.kept,
            files_linked: copied.linked,
            files_copied: copied.copied,
            bytes_copied: copied.copied_bytes,
            files_removed: copied.removed,
            verified,
        })
    }
}

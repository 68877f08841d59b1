//! Backup: the files of one published state, linked or copied into a folder of their own, while
//! commits go on.
//!
//! A checkpoint comes first, so that pages and runs hold everything up to the manifest's cut and no
//! log is needed. The manifest of the backup begins no log: whoever opens it begins the first.
//!
//! A complete backup has a manifest. Before that a new target has the manifest to come under the
//! temporary name, which says whose unfinished backup it is; one that had a backup keeps it, and
//! all of its files, until the rename.
//!
//! Invariants:
//!   * A file is durable before the manifest that names it, and goes only after a manifest that
//!     does not name it is durable.
//!   * A file that is kept was named by the manifest of a complete backup, and is the same file.
//!   * The target belongs to a backup of this store that nobody has opened, or is empty.
//!   * It has nothing from behind the manifest's cut: there is no log that would tell.

use super::Engine;
use super::bookmarks::TERMS_APART;
use super::catalog::namespaces_at_cut;
use super::publish::named_files;
use super::recovery::load_version;
use crate::disk::{Disk, MediumError, ReadDisk, ReadFile, SyncFailed, read_exact_at, write_all_at};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::checksum;
use crate::format::manifest::Manifest;
use crate::ids::{FileNumber, LogPoint, Lsn, Term, Timestamp};
use crate::manifest::{self, WriteError};
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder};
use crate::object::version::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

/// How much is copied at once.
const PIECE_BYTES: usize = 1 << 20;
/// What is compared of a file that is there already: its headers, which have its salt, and the
/// footer.
const FRONT_BYTES: usize = 4096;
const BACK_BYTES: usize = 128;

/// What a backup is as of, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The last commit in it.
    pub lsn: Lsn,
    /// The time of that commit.
    pub time: Timestamp,
    /// Files that an earlier backup had put there.
    pub kept: u64,
    /// Files that the store and the backup share.
    pub linked: u64,
    /// Files copied.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Files of earlier backups that went.
    pub removed: u64,
}

/// Who hears how far a backup has come: how many bytes are to be copied, and that some were.
pub struct Told<'t> {
    /// How many bytes the files have that are not there yet.
    pub expect: &'t dyn Fn(u64),
    /// So many of them are there now.
    pub pass: &'t dyn Fn(u64),
}

impl fmt::Debug for Told<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Told")
    }
}

/// What is in the folder that a backup goes to.
struct Target {
    /// Of the backup that is there and complete.
    previous: Option<Manifest>,
    /// Whether one was begun there and never completed.
    is_begun: bool,
    files: BTreeMap<FileName, u64>,
}

/// How files come into a target.
struct How<'h> {
    target: &'h Arc<dyn Disk>,
    may_link: bool,
    told: &'h Told<'h>,
}

#[cold]
fn refused(what: &str) -> Error {
    Error::invalid("backup.target", what)
}

impl Engine {
    /// Makes `target` a backup of what is durable now. See [`Copied`] for what comes back.
    pub fn backup(
        &self,
        target: &Arc<dyn Disk>,
        may_link: bool,
        told: &Told<'_>,
    ) -> Result<Copied> {
        self.check_alive()?;
        // Before anything is made there, and again once nobody else can change it.
        self.look(&**target)?;
        target.make_folders().map_err(|cause| Error::io("making the backup's folders", cause))?;
        let locked = target.lock().map_err(|cause| Error::io("locking the backup", cause))?;
        let _lock = locked.map_err(|holder| {
            let what = format!("the backup is in use by {holder}");
            Error::new(ErrorKind::Locked, "store.locked", what)
        })?;
        for folder in Folder::ALL {
            sync_folder(&**target, folder)?;
        }
        let before = self.look(&**target)?;
        let version = self.checkpointed()?;
        let next = self.manifest_of(&version, &**target)?;
        if before.previous.as_ref().is_some_and(|previous| previous.cut > next.cut) {
            return Err(refused("the backup there is of a later state of the store"));
        }
        begin(&**target, &before, &next)?;
        let mut copied = Copied { lsn: next.cut, time: next.cut_time, ..Copied::default() };
        let mut created = Vec::new();
        let how = How { target, may_link, told };
        let taken = self.take_files(&how, &before, &next, &mut created, &mut copied);
        // No manifest names them, and the next try begins with fresh ones.
        let give_up = |error| {
            for name in &created {
                let _ = target.remove(*name);
            }
            error
        };
        taken.map_err(give_up)?;
        let is_first = before.previous.is_none();
        let done =
            if is_first { first(&**target, &next) } else { manifest::write(&**target, &next) };
        match done {
            Ok(()) => {}
            Err(WriteError::BeforeRename(error)) => return Err(give_up(error)),
            Err(WriteError::AfterRename(error)) => return Err(error),
        }
        copied.removed = remove_others(&**target, &next)?;
        mark(Mark::BackedUp);
        Ok(copied)
    }

    /// A published state that has everything that is durable now. While it is held, none of its
    /// files is removed.
    fn checkpointed(&self) -> Result<Arc<Version>> {
        let durable = self.wal.durable();
        loop {
            // Without anything to write, all that was committed is in the pages.
            let has_written = self.checkpoint()?;
            let version = self.version();
            if !has_written || version.manifest.cut >= durable {
                return Ok(version);
            }
        }
    }

    /// The manifest of a backup: the same files without a log. Its terms go on far from the
    /// store's, so that what either commits later is never taken for a commit of the other.
    fn manifest_of(&self, version: &Arc<Version>, target: &dyn Disk) -> Result<Manifest> {
        let mut apart = [0; 2];
        let drawn = target.random(&mut apart);
        drawn.map_err(|cause| Error::io("drawing a term", cause))?;
        let apart = TERMS_APART + u32::from(u16::from_le_bytes(apart));
        let mut next = version.manifest.clone();
        let term = self.context.term.0.checked_add(apart);
        next.term = Term(term.ok_or_else(|| {
            let what = "the store has used up its terms: export it into another";
            Error::new(ErrorKind::Unsupported, "backup.terms", what)
        })?);
        next.replay = LogPoint::default();
        next.closed = None;
        next.namespaces = namespaces_at_cut(version)?;
        Ok(next)
    }

    /// What is in the target; refuses what is not this store's to change.
    fn look(&self, target: &dyn Disk) -> Result<Target> {
        let (files, has_foreign) = list(target)?;
        let is_own = |found: &Manifest| found.store == self.context.store;
        let begun = match manifest::read_as(target, FileName::ManifestTemporary) {
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            found => found?.filter(|found| is_own(found) && is_backup(found)),
        };
        let is_begun = begun.is_some();
        match manifest::read(target) {
            Ok(Some(found)) if !is_own(&found) => Err(refused("there is another store")),
            Ok(Some(found)) if !is_backup(&found) => {
                Err(refused("there is a store that was opened for writing: it is no backup"))
            }
            Ok(Some(found)) => Ok(Target { previous: Some(found), is_begun, files }),
            // The manifest of the first backup is written without a rename, and may be cut off.
            Ok(None) => {
                let is_empty = !has_foreign && files.keys().all(|name| name.number().is_none());
                if is_empty || is_begun {
                    return Ok(Target { previous: None, is_begun, files });
                }
                Err(refused("the folder is neither empty nor a backup of this store"))
            }
            Err(error) if is_begun && error.kind() == ErrorKind::Corrupt => {
                Ok(Target { previous: None, is_begun, files })
            }
            Err(error) => Err(error),
        }
    }

    /// Has every file that `next` names in the target, durable with its name.
    fn take_files(
        &self,
        how: &How<'_>,
        before: &Target,
        next: &Manifest,
        created: &mut Vec<FileName>,
        copied: &mut Copied,
    ) -> Result<()> {
        let How { target, may_link, told } = *how;
        let had = before.previous.as_ref().map(named_files).unwrap_or_default();
        let files = lengths(next);
        let fresh = files.iter().filter(|(name, _)| !had.contains(name));
        (told.expect)(fresh.map(|(_, bytes)| bytes).sum());
        for (name, bytes) in files {
            self.check_wanted()?;
            if had.contains(&name) {
                if !self.is_same(&**target, name, bytes)? {
                    return Err(refused(
                        "a file of the backup there is damaged, or it is the \
                        backup of a store that went another way since; use another folder",
                    ));
                }
                copied.kept += 1;
                continue;
            }
            if before.files.contains_key(&name) {
                let removed = target.remove(name);
                removed.map_err(|cause| Error::io(format!("removing {name}"), cause))?;
            }
            created.push(name);
            if may_link && self.disk.link(name, &**target).is_ok() {
                copied.linked += 1;
                (told.pass)(bytes);
            } else {
                self.copy(&**target, name, bytes, told)?;
                copied.copied += 1;
                copied.copied_bytes += bytes;
            }
        }
        sync_folder(&**target, Folder::Segments)?;
        sync_folder(&**target, Folder::Runs)?;
        // What an open would refuse is found now, while the backup before is still there.
        let reading: Arc<dyn ReadDisk> = Arc::<dyn Disk>::clone(target);
        load_version(&reading, next, 0).map(drop)
    }

    /// Whether a file of the target is that of the store.
    fn is_same(&self, target: &dyn Disk, name: FileName, bytes: u64) -> Result<bool> {
        let ends = |disk: &dyn ReadDisk| -> io::Result<(u64, Vec<u8>, Vec<u8>)> {
            let file = disk.open(name)?;
            let length = file.bytes()?;
            let part =
                |most: usize| usize::try_from(length).map_or(most, |length| length.min(most));
            let (mut front, mut back) = (vec![0; part(FRONT_BYTES)], vec![0; part(BACK_BYTES)]);
            read_exact_at(&*file, &mut front, 0)?;
            read_exact_at(&*file, &mut back, length - part(BACK_BYTES) as u64)?;
            Ok((length, front, back))
        };
        let failed = |cause| Error::io(format!("comparing {name}"), cause);
        let own = ends(&*self.disk).map_err(failed)?;
        match ends(target) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
            found => Ok(own.0 == bytes && found.map_err(failed)? == own),
        }
    }

    /// Copies a file, makes it durable, and reads it back from the medium.
    fn copy(&self, target: &dyn Disk, name: FileName, bytes: u64, told: &Told<'_>) -> Result<()> {
        let failed = |cause| Error::io(format!("copying {name} to the backup"), cause);
        let source = self.disk.open(name).map_err(failed)?;
        let file = target.create(name).map_err(failed)?;
        let mut written = 0;
        let sums = self.pieces(&*source, bytes, |piece| {
            self.pace.spend(piece.len() as u64);
            write_all_at(&*file, piece, written)?;
            let end = written + piece.len() as u64;
            // A hint; what it cannot do the sync does.
            let _ = file.start_writeback(written..end);
            written = end;
            (told.pass)(piece.len() as u64);
            Ok(())
        });
        let sums = sums?.map_err(failed)?;
        file.sync().map_err(|SyncFailed(cause)| failed(cause))?;
        drop(file);
        let medium = target.open_medium(name).map_err(|error| match error {
            MediumError::Open(cause) | MediumError::Sync(SyncFailed(cause)) => failed(cause),
        })?;
        let read = self.pieces(&*medium, bytes, |_| Ok(()))?.map_err(failed)?;
        if let Some(wrong) = sums.iter().zip(&read).position(|(sum, read)| sum != read) {
            let what = "what was copied to the backup reads back as something else";
            let place = Place::new(name, (wrong * PIECE_BYTES) as u64);
            return Err(Error::corrupt("backup.copy", what, place));
        }
        Ok(())
    }

    /// Reads a file to its end, piece by piece; the checksums of the pieces. Fails before a piece
    /// with `store.closed` when whoever closes the store would wait for it.
    fn pieces(
        &self,
        file: &dyn ReadFile,
        bytes: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<io::Result<Vec<u32>>> {
        let most = usize::try_from(bytes).map_or(PIECE_BYTES, |bytes| bytes.min(PIECE_BYTES));
        let mut buffer = vec![0; most];
        let (mut sums, mut at) = (Vec::new(), 0);
        while at < bytes {
            self.check_wanted()?;
            let left = usize::try_from(bytes - at).unwrap_or(usize::MAX);
            let piece = &mut buffer[..most.min(left)];
            let taken = read_exact_at(file, piece, at).and_then(|()| {
                sums.push(checksum(at, piece));
                take(piece)
            });
            if let Err(cause) = taken {
                return Ok(Err(cause));
            }
            at += piece.len() as u64;
        }
        Ok(Ok(sums))
    }
}

/// Whether nothing was ever committed behind what a manifest names: an open begins a log.
fn is_backup(manifest: &Manifest) -> bool {
    manifest.replay.file == FileNumber(0) && manifest.generation > 0
}

/// The files that a manifest names, with their lengths.
fn lengths(manifest: &Manifest) -> BTreeMap<FileName, u64> {
    let segments = manifest.segments.iter().map(|segment| &segment.facts);
    let segments = segments.map(|facts| (FileName::Segment(facts.number), facts.bytes));
    let history = manifest.history.iter().map(|file| &file.facts);
    let runs = manifest.runs.iter().chain(history);
    segments.chain(runs.map(|facts| (FileName::Run(facts.number), facts.bytes))).collect()
}

fn sync_folder(target: &dyn Disk, folder: Folder) -> Result<()> {
    let synced = target.sync_folder(folder);
    synced.map_err(|SyncFailed(cause)| Error::io("syncing a folder of the backup", cause))
}

/// The store's files in the target, and whether there are others. A folder that is not there yet is
/// empty.
fn list(target: &dyn Disk) -> Result<(BTreeMap<FileName, u64>, bool)> {
    let (mut files, mut has_foreign) = (BTreeMap::new(), false);
    for folder in Folder::ALL {
        let listed = match target.list(folder) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            listed => listed.map_err(|cause| Error::io("listing a folder of the backup", cause))?,
        };
        for file in listed {
            let is_folder =
                folder == Folder::Root && Folder::ALL.iter().any(|inner| inner.path() == file.leaf);
            match FileName::parse(folder, &file.leaf) {
                Some(name) => drop(files.insert(name, file.bytes)),
                None => has_foreign |= !is_folder,
            }
        }
    }
    Ok((files, has_foreign))
}

/// Has the target say whose backup it will be, before there is any file of it; and removes files of
/// a log, which an open that a crash cut off may have left.
fn begin(target: &dyn Disk, before: &Target, next: &Manifest) -> Result<()> {
    for name in before.files.keys().filter(|name| name.folder() == Folder::Wal) {
        target.remove(*name).map_err(|cause| Error::io(format!("removing {name}"), cause))?;
    }
    sync_folder(target, Folder::Wal)?;
    if before.previous.is_none() && !before.is_begun {
        manifest::write_as(target, FileName::ManifestTemporary, next)?;
        sync_folder(target, Folder::Root)?;
    }
    Ok(())
}

/// Completes the first backup of a target. Not by a rename: a crash may take the old name of a
/// renamed file and not give the new one, and then nobody could tell whose files these are.
fn first(target: &dyn Disk, next: &Manifest) -> std::result::Result<(), WriteError> {
    manifest::write_as(target, FileName::Manifest, next).map_err(WriteError::AfterRename)?;
    sync_folder(target, Folder::Root).map_err(WriteError::AfterRename)
}

/// Removes what the backup does not name, now that it is complete.
fn remove_others(target: &dyn Disk, next: &Manifest) -> Result<u64> {
    let named: BTreeSet<FileName> = named_files(next);
    let mut removed = 0;
    for name in list(target)?.0.into_keys() {
        let is_kept = matches!(name, FileName::Lock | FileName::Manifest) || named.contains(&name);
        if !is_kept {
            target.remove(name).map_err(|cause| Error::io(format!("removing {name}"), cause))?;
            removed += u64::from(name.number().is_some());
        }
    }
    Ok(removed)
}

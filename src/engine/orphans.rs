//! What an open removes, and the manifest that it writes before that.
//!
//! Invariants:
//!   * A file is removed only when the replayed log and the manifest together do not need it.
//!   * Nothing goes that another manifest names before the name of this one is durable.

use super::publish::named_files;
use super::stats::files;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::ids::FileNumber;
use crate::manifest::{self, WriteError};
use crate::names::FileName;
use std::collections::BTreeSet;

/// Writes the manifest of a store that nobody uses yet.
pub(super) fn rewrite(disk: &dyn Disk, manifest: &mut Manifest) -> Result<()> {
    manifest.generation = manifest.generation.saturating_add(1);
    manifest.closed = None;
    manifest::write(disk, manifest).map_err(|failed| match failed {
        WriteError::BeforeRename(error) | WriteError::AfterRename(error) => error,
    })
}

/// Removes what neither the manifest nor the log needs: output of publishes that a crash cut off,
/// prepared files, log files wholly before the replay point.
///
/// The manifest before this one may name some of them. This one has its name for sure only if the
/// sync behind its rename succeeded, and a failed one is told once only: maybe to a process that is
/// gone. So it is written again first.
pub(super) fn remove_orphans(
    disk: &dyn Disk,
    manifest: &mut Manifest,
    (log_files, adopted): (&BTreeSet<FileNumber>, &BTreeSet<FileName>),
) -> Result<u64> {
    let mut named = named_files(manifest);
    named.extend(adopted);
    let is_orphan = |name: &FileName| match *name {
        FileName::Wal(number) => number < manifest.replay.file || !log_files.contains(&number),
        FileName::Segment(_) | FileName::Run(_) => !named.contains(name),
        // Whoever listened at the socket is gone: the lock is held here.
        FileName::ManifestTemporary | FileName::AdminSocket => true,
        FileName::Lock | FileName::Manifest => false,
    };
    let listed = files(disk)?.into_iter().filter_map(|(name, _)| name);
    let orphans: Vec<FileName> = listed.filter(is_orphan).collect();
    let may_be_named = |name: &FileName| match *name {
        FileName::Wal(number) => number < manifest.replay.file,
        FileName::Segment(_) | FileName::Run(_) => true,
        _ => false,
    };
    let (named, unnamed): (Vec<_>, Vec<_>) = orphans.into_iter().partition(may_be_named);
    // On a full disk they make room for the manifest.
    let removed = remove(disk, &unnamed)?;
    if named.is_empty() {
        return Ok(removed);
    }
    rewrite(disk, manifest)?;
    Ok(removed + remove(disk, &named)?)
}

/// Removes files; says how many were there.
fn remove(disk: &dyn Disk, names: &[FileName]) -> Result<u64> {
    let (mut removed, mut failed) = (0, None);
    for name in names {
        match disk.remove(*name) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Ok(()) => removed += 1,
            // The others go all the same: an open that always fails here must not pile up files.
            Err(cause) => failed = Some(Error::io(format!("removing {name}"), cause)),
        }
    }
    failed.map_or(Ok(removed), Err)
}

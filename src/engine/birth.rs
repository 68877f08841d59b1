//! The first open of a store: its manifest before its log.
//!
//! Invariants:
//!   * The name of a manifest is durable before there is a file of the log: one without a manifest
//!     is a store that lost it, and never an empty folder.

use super::orphans::rewrite;
use super::recovery::{RecoveryReport, missing};
use super::stats::files;
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::header::HEADER_BLOCK_BYTES;
use crate::format::manifest::Manifest;
use crate::ids::{FileNumber, LogPoint, StoreId};
use crate::manifest::{self, WriteError};
use crate::names::FileName;
use crate::options::Options;

/// The generation of a manifest that names its first log, and that nothing has replaced yet.
const BEGUN: u64 = 1;

/// The manifest that is there, or one for a folder without a store.
///
/// One that only an open has written is written again: if an earlier open failed in the sync behind
/// its rename, nobody is told a second time that the name never reached the medium, though it is
/// seen. What the medium has may be the one before, which knows no log.
pub(super) fn first_manifest(
    disk: &dyn Disk,
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<Manifest> {
    let read = manifest::read_to_write(disk)?;
    report.created = read.is_none();
    let manifest = read.map_or_else(|| create(disk, options), Ok)?;
    if manifest.generation <= BEGUN {
        manifest::write(disk, &manifest).map_err(|failed| match failed {
            WriteError::BeforeRename(error) | WriteError::AfterRename(error) => error,
        })?;
    }
    Ok(manifest)
}

/// A manifest for a folder that has no store. Files of the log, pages or runs without a manifest
/// are a store that lost it, not an empty folder.
fn create(disk: &dyn Disk, options: &Options) -> Result<Manifest> {
    // That of a store being created has no generation yet. A damaged one says nothing; of one that
    // cannot be read now nobody knows.
    let begun = match manifest::read_as(disk, FileName::ManifestTemporary) {
        Err(error) if error.kind() == ErrorKind::Corrupt => None,
        read => read?,
    };
    if begun.is_some_and(|begun| begun.generation > 0) {
        let place = Place::new(FileName::ManifestTemporary, 0);
        let what = "a backup was begun here and is not complete";
        return Err(Error::corrupt("backup.incomplete", what, place));
    }
    let is_numbered =
        |(name, _): &(Option<FileName>, u64)| name.is_some_and(|name| name.number().is_some());
    if files(disk)?.iter().any(is_numbered) {
        let place = Place::new(FileName::Manifest, 0);
        return Err(Error::corrupt("manifest.missing", "the manifest is missing", place));
    }
    if !options.create {
        return Err(missing());
    }
    let mut store = StoreId::default();
    disk.random(&mut store.0).map_err(|cause| Error::io("drawing the store's id", cause))?;
    let next_file = FileNumber(1);
    let manifest = Manifest { store, next_file, ..Manifest::default() };
    Ok(manifest)
}

/// The first file of a store's first log goes into the manifest before anything is served: from
/// here on a log that is not there is a loss and not a beginning.
pub(super) fn begin_log(
    disk: &dyn Disk,
    manifest: &mut Manifest,
    file: FileNumber,
    end: LogPoint,
) -> Result<()> {
    manifest.replay = LogPoint { file, offset: HEADER_BLOCK_BYTES, ..end };
    rewrite(disk, manifest)
}

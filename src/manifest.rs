//! The manifest's file: read whole, replaced whole.
//!
//! The rename is what publishes. Before it, a failure leaves the old manifest in force and can be
//! tried again; from it on, which of the two a crash would leave is unknown.
//!
//! Invariants:
//!   * The new bytes are durable before the name is theirs, and the name before `write` returns.
//!   * At most [`MANIFEST_BYTES_MAX`] bytes are read or written.

use crate::disk::{Disk, ReadDisk, SyncFailed, read_exact_at, write_all_at};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::header::HeaderFault;
use crate::format::manifest::Manifest;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::names::{FileName, Folder};
use crate::planted::{Mistake, planted};
use std::io;

/// Why [`write`] failed, told apart by whether it may be tried again.
#[derive(Debug)]
pub enum WriteError {
    /// The old manifest is in force.
    BeforeRename(Error),
    /// Either may be in force after a crash. The store must be opened again.
    AfterRename(Error),
}

/// The manifest; none where there is no store yet.
pub fn read(disk: &dyn ReadDisk) -> Result<Option<Manifest>> {
    read_as(disk, FileName::Manifest)
}

/// The manifest of a store that is to be changed. Fails with `format.unsupported` where a writer
/// must know what this one does not.
pub fn read_to_write(disk: &dyn ReadDisk) -> Result<Option<Manifest>> {
    let read = read(disk)?;
    match read.as_ref().map_or(0, |manifest| manifest.writer_features) {
        0 => Ok(read),
        unknown => {
            let what = format!("a store whose writers must know features {unknown:#x}");
            Err(unsupported(what, FileName::Manifest))
        }
    }
}

/// The manifest under this name; none where there is no such file.
pub fn read_as(disk: &dyn ReadDisk, name: FileName) -> Result<Option<Manifest>> {
    let bytes = match read_bytes(disk, name) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading the manifest", error)),
    };
    match Manifest::decode(&bytes) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(HeaderFault::Malformed(what)) => {
            Err(Error::corrupt("manifest.damaged", what, Place::new(name, 0)))
        }
        Err(HeaderFault::Unsupported { version, features }) => {
            let what = format!("manifest of format {version} with features {features:#x}");
            Err(unsupported(what, name))
        }
    }
}

#[cold]
fn unsupported(what: String, name: FileName) -> Error {
    Error::new(ErrorKind::Unsupported, "format.unsupported", what).at(Place::new(name, 0))
}

/// The file's bytes; one more than allowed of a file that is too long, which decoding refuses.
fn read_bytes(disk: &dyn ReadDisk, name: FileName) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let most = MANIFEST_BYTES_MAX + 1;
    let length = usize::try_from(file.bytes()?).unwrap_or(most).min(most);
    let mut bytes = vec![0; length];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Puts `manifest` in the place of the one before it.
pub fn write(disk: &dyn Disk, manifest: &Manifest) -> std::result::Result<(), WriteError> {
    write_as(disk, FileName::ManifestTemporary, manifest).map_err(WriteError::BeforeRename)?;
    // A rename that reports failure may have happened all the same, so it counts as done.
    disk.rename(FileName::ManifestTemporary, FileName::Manifest)
        .map_err(|error| WriteError::AfterRename(Error::io("renaming the manifest", error)))?;
    if planted(Mistake::SkipFolderSync) {
        return Ok(());
    }
    disk.sync_folder(Folder::Root).map_err(|SyncFailed(error)| {
        WriteError::AfterRename(Error::io("syncing the store's folder", error))
    })
}

/// Writes `manifest` under this name, in the place of a file that there may be. Its bytes are
/// durable then; its name is not, and no crash leaves the old file or the new one for sure.
pub fn write_as(disk: &dyn Disk, name: FileName, manifest: &Manifest) -> Result<()> {
    let bytes = manifest.encode();
    check_bytes(bytes.len())?;
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("removing an unfinished manifest", error));
        }
        _ => {}
    }
    let failed = |error| Error::io("writing the manifest", error);
    let file = disk.create(name).map_err(failed)?;
    write_all_at(&*file, &bytes, 0).map_err(failed)?;
    if planted(Mistake::RenameUnsynced) {
        return Ok(());
    }
    file.sync().map_err(|SyncFailed(error)| Error::io("syncing the manifest", error))
}

fn check_bytes(bytes: usize) -> Result<()> {
    if bytes > MANIFEST_BYTES_MAX {
        let what = format!("manifest has {bytes} bytes, at most {MANIFEST_BYTES_MAX}");
        return Err(Error::invalid("limit.manifest", what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Crash, Fault, KeepLength, KeepNames, KeepSectors, SimDisk};
    use crate::ids::StoreId;

    fn manifest(generation: u64) -> Manifest {
        Manifest { store: StoreId([3; 16]), generation, ..Manifest::default() }
    }

    fn generation(disk: &SimDisk) -> u64 {
        read(disk).unwrap().map_or(0, |manifest| manifest.generation)
    }

    fn disk_with_first(seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        write(&disk, &manifest(1)).unwrap();
        disk
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_error_and_a_written_one_is_read_back() {
        let disk = SimDisk::new(1);
        disk.make_folders().unwrap();
        assert_eq!(read(&disk).unwrap(), None);
        write(&disk, &manifest(1)).unwrap();
        assert_eq!(read(&disk).unwrap(), Some(manifest(1)));
    }

    #[test]
    fn a_manifest_is_as_long_as_its_limit_and_no_longer() {
        assert!(check_bytes(MANIFEST_BYTES_MAX).is_ok());
        for bytes in [MANIFEST_BYTES_MAX + 1, 2 * MANIFEST_BYTES_MAX] {
            assert_eq!(check_bytes(bytes).unwrap_err().code(), "limit.manifest");
        }
    }

    #[test]
    fn a_power_cut_anywhere_leaves_the_old_manifest_or_the_new_and_the_new_once_written() {
        let names = [KeepNames::Nothing, KeepNames::Everything, KeepNames::AnySubset];
        let sectors = [KeepSectors::Nothing, KeepSectors::Everything, KeepSectors::Half];
        let mut completed = 0;
        for calls in 0..16 {
            for (names, sectors) in names.into_iter().flat_map(|n| sectors.map(|s| (n, s))) {
                let disk = disk_with_first(calls);
                disk.crash_after(calls);
                let written = write(&disk, &manifest(2));
                let crash = Crash { sectors, length: KeepLength::Any, names };
                let found = generation(&disk.power_cut_keeping(crash));
                match written {
                    Ok(()) => {
                        completed += 1;
                        assert_eq!(found, 2, "after {calls} calls, {crash:?}");
                    }
                    Err(WriteError::BeforeRename(_)) => assert_eq!(found, 1, "{calls} {crash:?}"),
                    Err(WriteError::AfterRename(_)) => assert!(found == 1 || found == 2),
                }
            }
        }
        assert!(completed > 0, "no write was long enough ago to complete");
    }

    #[test]
    fn a_failure_says_whether_the_old_manifest_is_still_in_force() {
        let (mut before, mut after) = (0, 0);
        for call in 1..10 {
            let disk = disk_with_first(call);
            disk.fail_call(call, Fault::Io);
            match write(&disk, &manifest(2)) {
                Ok(()) => {}
                Err(WriteError::BeforeRename(_)) => {
                    before += 1;
                    assert_eq!(generation(&disk), 1);
                    write(&disk, &manifest(2)).unwrap();
                    assert_eq!(generation(&disk), 2);
                }
                Err(WriteError::AfterRename(_)) => after += 1,
            }
        }
        assert!(before >= 3 && after >= 2, "{before} before, {after} after");
    }

    #[test]
    fn a_damaged_manifest_is_corrupt() {
        let disk = disk_with_first(1);
        disk.flip_bit(FileName::Manifest, 900).unwrap();
        let error = read(&disk).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "manifest.damaged"));
        assert_eq!(error.place().unwrap().file, "MANIFEST");
    }
}

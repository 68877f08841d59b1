//! Where a store's bytes are, file by file.
//!
//! Invariants:
//!   * What is said comes from the manifest and the folders alone, and no file of pages is read,
//!     unless the manifest is lost.

use crate::disk::ReadDisk;
use crate::error::{ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::ids::{Lsn, Timestamp};
use crate::inspect::files::{Listing, Role};
use crate::inspect::guess::{foreign, guess_manifest};
use crate::manifest;
use crate::names::FileName;

/// A file and what it is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpace {
    /// The file.
    pub name: FileName,
    /// What it is there for.
    pub role: Role,
    /// Its length.
    pub bytes: u64,
    /// Bytes of it that are needed: of a segment the live pages.
    pub live_bytes: u64,
    /// Of a segment its live pages, of a run its entries.
    pub items: u64,
    /// The commit up to which it was written, where that is known.
    pub written_at: Lsn,
    /// Of a file of history, the time of the last commit in it.
    pub end_time: Option<Timestamp>,
    /// How often its pages were cleaned before.
    pub generation: u8,
}

/// Every file of a store, by folder and number. Where the manifest is lost, each is taken for one
/// that counts, and it is told why.
pub fn space(disk: &dyn ReadDisk) -> Result<(Vec<FileSpace>, Option<String>)> {
    let (manifest, lost) = match manifest::read(disk) {
        Ok(Some(manifest)) => match foreign(disk, &manifest)? {
            None => (manifest, None),
            why => (guess_manifest(disk)?, why),
        },
        Ok(None) => (guess_manifest(disk)?, Some("there is no manifest".to_owned())),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            (guess_manifest(disk)?, Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let listing = Listing::read(disk)?;
    let roles = listing.roles(disk, &manifest);
    let files = roles.map(|(name, bytes, role)| of_file(&manifest, name, bytes, role)).collect();
    Ok((files, lost))
}

fn of_file(manifest: &Manifest, name: FileName, bytes: u64, role: Role) -> FileSpace {
    let is_needed = !matches!(role, Role::Unnamed | Role::Pool);
    let (live_bytes, written_at) = (if is_needed { bytes } else { 0 }, Lsn::ZERO);
    let (items, end_time, generation) = (0, None, 0);
    let plain =
        FileSpace { name, role, bytes, live_bytes, items, written_at, end_time, generation };
    let number = name.number();
    match role {
        Role::Segment => {
            let mut states = manifest.segments.iter();
            let Some(state) = states.find(|it| Some(it.facts.number) == number) else {
                return plain;
            };
            let (live_bytes, items) = (state.live_bytes, state.live_pages);
            let (written_at, generation) = (state.written_at, state.generation);
            FileSpace { live_bytes, items, written_at, generation, ..plain }
        }
        Role::Run => {
            let mut runs = manifest.runs.iter();
            let found = runs.find(|facts| Some(facts.number) == number);
            FileSpace { items: found.map_or(0, |facts| facts.entries), ..plain }
        }
        Role::History => {
            let mut files = manifest.history.iter();
            let Some(file) = files.find(|file| Some(file.facts.number) == number) else {
                return plain;
            };
            // A guess does not know how far it goes.
            let Some(file) = Some(file).filter(|file| file.end != Lsn::MAX) else { return plain };
            let (items, written_at) = (file.facts.entries, file.end);
            FileSpace { items, written_at, end_time: Some(file.end_time), ..plain }
        }
        Role::Log | Role::Pool | Role::Unnamed | Role::Other => plain,
    }
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Run => "run",
            Self::History => "history",
            Self::Log => "log",
            Self::Pool => "ready",
            Self::Unnamed => "unnamed",
            Self::Other => "other",
        }
    }
}

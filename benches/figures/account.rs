//! Where the bytes of a store's folder are, with history apart: it grows with the log, and the
//! bound on files is one on what the present takes.
//!
//! Invariants:
//!   * Every file is counted by its length as the system has it, whether anything names it or not.
//!   * What a run is for stands in its header; one that has none yet counts as of the present.

use crate::{Result, system};
use dostore::format::header::HEADER_BYTES;
use dostore::format::run::RunUse;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a store's files at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files {
    /// Of all but history.
    pub present: u64,
    /// Of files of history, those included that are being written or wait to be removed.
    pub history: u64,
}

impl Files {
    /// The files in a store's folder as they are now.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut files = Self { present: system::folder_bytes(folder)?, history: 0 };
        for entry in fs::read_dir(folder.join("run"))? {
            let entry = entry?;
            // A file may be removed between the listing and the look.
            let Ok(facts) = entry.metadata() else { continue };
            if is_history(&entry.path()) {
                files.history += facts.len();
            }
        }
        // Written to between the two looks, they may have grown.
        files.present = files.present.saturating_sub(files.history);
        Ok(files)
    }
}

/// The use of a run stands behind its header.
fn is_history(path: &Path) -> bool {
    let mut usage = [0];
    let read = File::open(path).and_then(|file| file.read_at(&mut usage, HEADER_BYTES as u64));
    read.is_ok() && RunUse::from_byte(usage[0]) == Some(RunUse::History)
}

//! What a verification found, and how it is shown.
//!
//! Invariants:
//!   * At most [`FAULTS_MAX`] faults and [`NOTES_MAX`] notes are kept; the rest is counted.

use crate::error::{Error, Place};
use crate::ids::{Address, Lsn, StoreId};
use crate::names::FileName;
use std::fmt;

/// Faults that a report keeps.
pub const FAULTS_MAX: usize = 10_000;
/// Notes that a report keeps.
pub const NOTES_MAX: usize = 1_000;

/// Something that is not as it was written, or that contradicts something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// The object concerned, where one is known.
    pub object: Option<Address>,
    /// What is wrong.
    pub what: String,
    /// Whether something that can still be read is concerned. What is dead is lost to nobody, but
    /// shows that the medium is failing.
    pub is_live: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.what)?;
        if let Some(Address { namespace, id }) = self.object {
            write!(out, ", of object {namespace}/{id}")?;
        }
        out.write_str(if self.is_live { "" } else { " (dead)" })
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files that the manifest names.
    pub files: u64,
    /// Entries of sorted runs.
    pub entries: u64,
    /// Objects that hold something.
    pub objects: u64,
    /// Pages that the directory names, deltas included.
    pub pages: u64,
    /// Their bytes.
    pub page_bytes: u64,
    /// Pages met when segments were read whole; dead ones too.
    pub scanned_pages: u64,
    /// Groups of the log.
    pub groups: u64,
    /// Commits in them that no page holds yet.
    pub commits: u64,
}

/// The one word for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that was looked at is right.
    Clean,
    /// Something is damaged or missing.
    Damaged,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The store; none if the manifest could not be read.
    pub store: Option<StoreId>,
    /// The manifest's generation.
    pub generation: u64,
    /// Pages and runs were verified as of this commit.
    pub cut: Lsn,
    /// The log was verified up to here: no commit has an LSN between its last one and this.
    pub position: Lsn,
    /// Everything that is wrong, in the order in which it was found.
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub faults_left_out: u64,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// Notes beyond those.
    pub notes_left_out: u64,
    /// What was looked at.
    pub counts: Counts,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.verdict() == Verdict::Clean
    }

    /// The one word.
    pub fn verdict(&self) -> Verdict {
        if self.faults.is_empty() { Verdict::Clean } else { Verdict::Damaged }
    }

    /// All faults, those left out included.
    pub fn fault_count(&self) -> u64 {
        self.faults.len() as u64 + self.faults_left_out
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_left_out += 1;
        }
    }

    /// Something live is wrong in a file.
    pub(super) fn wrong(&mut self, file: FileName, what: impl Into<String>) {
        let place = Place::new(file, 0);
        self.fault(Fault { place, object: None, what: what.into(), is_live: true });
    }

    /// Something live could not be read; `file` is to blame where the error names none.
    pub(super) fn failed(&mut self, error: &Error, file: FileName, object: Option<Address>) {
        let place = error.place().cloned().unwrap_or_else(|| Place::new(file, 0));
        self.fault(Fault { place, object, what: message(error), is_live: true });
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note.into());
        } else {
            self.notes_left_out += 1;
        }
    }
}

/// An error's words without its place, which a fault has beside them; its cause with them.
pub(super) fn message(error: &Error) -> String {
    let whole = error.to_string();
    let place = error.place().map(|place| format!(" (in {place})"));
    let what = place.and_then(|place| whole.strip_suffix(&place)).unwrap_or(&whole);
    match std::error::Error::source(error) {
        Some(cause) => format!("{what}: {cause}"),
        None => what.to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        if let Some(store) = self.store {
            writeln!(out, "store {store}, manifest {}, cut {}", self.generation, self.cut)?;
        }
        writeln!(out, "{} files, {} run entries", counts.files, counts.entries)?;
        let (pages, bytes) = (counts.pages, counts.page_bytes);
        writeln!(out, "{} objects in {pages} pages of {bytes} bytes", counts.objects)?;
        let (groups, commits) = (counts.groups, counts.commits);
        writeln!(out, "{commits} commits in {groups} groups, up to {}", self.position)?;
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        for fault in &self.faults {
            writeln!(out, "fault: {fault}")?;
        }
        if self.faults_left_out > 0 {
            writeln!(out, "and {} faults more", self.faults_left_out)?;
        }
        match self.verdict() {
            Verdict::Clean => out.write_str("clean"),
            Verdict::Damaged => write!(out, "damaged: {} faults", self.fault_count()),
        }
    }
}

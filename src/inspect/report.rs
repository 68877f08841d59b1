//! What a verification found, and how it is shown.
//!
//! Invariants:
//!   * The verdict follows from the faults alone.
//!   * At most [`FAULTS_MAX`] faults and [`NOTES_MAX`] notes are kept; the rest is counted.

use crate::error::{Error, Place};
use crate::format::manifest::HistoryFile;
use crate::ids::{Address, Lsn, StoreId};
use crate::names::FileName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// Faults that a report keeps.
pub const FAULTS_MAX: usize = 10_000;
/// Notes that a report keeps.
pub const NOTES_MAX: usize = 1_000;

/// What a fault is about, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Nothing that anybody reads: dead pages, second copies, bytes that stand for nothing. It
    /// shows that the medium is failing.
    Spare,
    /// The past of objects.
    History,
    /// What objects are now.
    Live,
}

impl Scope {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Spare => "spare",
            Self::History => "history",
            Self::Live => "live",
        }
    }
}

/// Something that is not as it was written, or that contradicts something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// How many bytes are concerned; zero where a statement is wrong and not its bytes.
    pub bytes: u64,
    /// The object concerned, where one is known.
    pub object: Option<Address>,
    /// Of the object, the full keys that can be read no more; none for all of it.
    pub keys: Option<KeyRange>,
    /// What is wrong.
    pub what: String,
    /// What is concerned.
    pub scope: Scope,
}

/// Full keys from `first` to before `end`; without an end, to the last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// The first.
    pub first: Vec<u8>,
    /// Behind the last.
    pub end: Option<Vec<u8>>,
}

impl fmt::Display for KeyRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |full: &[u8]| full.get(1..).unwrap_or_default().escape_ascii().to_string();
        if self.first.len() > 1 {
            write!(out, "from \"{}\"", key(&self.first))?;
        } else {
            out.write_str("from the first")?;
        }
        match &self.end {
            Some(end) => write!(out, " to before \"{}\"", key(end)),
            None => out.write_str(" to the last"),
        }
    }
}

impl Fault {
    /// A fault of live state at these bytes of a file.
    pub(super) fn at(file: FileName, bytes: Range<u64>, what: impl Into<String>) -> Self {
        let (place, count) = (Place::new(file, bytes.start), bytes.end.saturating_sub(bytes.start));
        let (object, keys, scope) = (None, None, Scope::Live);
        Self { place, bytes: count, object, keys, what: what.into(), scope }
    }

    /// The same fault of an object.
    #[must_use]
    pub(super) fn of(self, object: impl Into<Option<Address>>) -> Self {
        Self { object: object.into(), ..self }
    }

    /// The same fault of something else than live state.
    #[must_use]
    pub(super) fn in_scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.place)?;
        if self.bytes > 0 {
            write!(out, ", {} bytes", self.bytes)?;
        }
        write!(out, ": {}", self.what)?;
        if let Some(Address { namespace, id }) = self.object {
            write!(out, ", of object {namespace}/{id}")?;
        }
        if let Some(keys) = &self.keys {
            write!(out, ", keys {keys}")?;
        }
        match self.scope {
            Scope::Live => Ok(()),
            scope => write!(out, " ({})", scope.word()),
        }
    }
}

/// Whoever waits, and hears how far it has come.
pub trait Watch: fmt::Debug {
    /// So many bytes are to be read, from now on.
    fn expect(&self, bytes: u64);

    /// So many of them have been.
    fn pass(&self, bytes: u64);

    /// Whether nobody waits any more. What is reported then is of no use, but comes soon.
    fn is_over(&self) -> bool {
        false
    }
}

/// Nobody waits.
impl Watch for () {
    fn expect(&self, _bytes: u64) {}

    fn pass(&self, _bytes: u64) {}
}

/// A file of history of which nothing can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneHistory {
    /// What the manifest says of it: the span of commits whose past it held.
    pub file: HistoryFile,
    /// Objects that are known to have had commits in it: each has a fault.
    pub named: u64,
    /// Others that committed later, and may have had some in it too.
    pub perhaps: u64,
}

impl fmt::Display for GoneHistory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HistoryFile { facts, class, epoch, start, end, .. } = &self.file;
        let (name, from, to) = (FileName::Run(facts.number), start.next().short(), end.short());
        write!(out, "{name} is lost whole: history of commits {from} to {to}, ")?;
        write!(out, "class {class}, epoch {epoch}; ")?;
        let (named, perhaps) = (self.named, self.perhaps);
        write!(out, "{named} objects are known to have had some there, {perhaps} others may have")
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
    /// What is damaged is needed by nobody. The medium may be failing.
    DamagedSpare,
    /// A part of the past is lost; what objects are now is right.
    DamagedHistory,
    /// Something that objects are now is damaged or missing, or the store does not open.
    Damaged,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::DamagedSpare => "damaged-spare",
            Self::DamagedHistory => "damaged-history",
            Self::Damaged => "damaged",
        }
    }
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
    /// The widest scope of all faults.
    worst: Option<Scope>,
    /// Files of history of which nothing can be read.
    pub gone: Vec<GoneHistory>,
    /// How the objects that faults name are called, as `namespace/name` or `namespace/~id`.
    pub names: BTreeMap<Address, String>,
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
        match self.worst {
            None => Verdict::Clean,
            Some(Scope::Spare) => Verdict::DamagedSpare,
            Some(Scope::History) => Verdict::DamagedHistory,
            Some(Scope::Live) => Verdict::Damaged,
        }
    }

    /// The one word, how many faults there are, and what they are about.
    pub fn conclusion(&self) -> String {
        let about = match self.verdict() {
            Verdict::Clean => return "clean".to_owned(),
            Verdict::DamagedSpare => "in bytes that nobody needs",
            Verdict::DamagedHistory => "in the past; live state is right",
            Verdict::Damaged => "in live state",
        };
        let (word, count) = (self.verdict().word(), self.fault_count());
        format!("{word}: {count} {}, {about}", if count == 1 { "fault" } else { "faults" })
    }

    /// The objects of which something is lost in this scope, as far as faults were kept.
    pub fn objects(&self, scope: Scope) -> BTreeSet<Address> {
        let faults = self.faults.iter().filter(|fault| fault.scope == scope);
        faults.filter_map(|fault| fault.object).collect()
    }

    /// All faults, those left out included.
    pub fn fault_count(&self) -> u64 {
        self.faults.len() as u64 + self.faults_left_out
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.worst = self.worst.max(Some(fault.scope));
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_left_out += 1;
        }
    }

    /// Something live is wrong in a file.
    pub(super) fn wrong(&mut self, file: FileName, what: impl Into<String>) {
        self.fault(Fault::at(file, 0..0, what));
    }

    /// Something live could not be read; `file` is to blame where the error names none.
    pub(super) fn failed(&mut self, error: &Error, file: FileName, object: Option<Address>) {
        let place = error.place().cloned().unwrap_or_else(|| Place::new(file, 0));
        self.fault(Fault { place, ..Fault::at(file, 0..0, message(error)).of(object) });
    }

    /// Keeps the faults for which `keeps` says so.
    pub(super) fn retain(&mut self, keeps: impl FnMut(&Fault) -> bool) {
        self.faults.retain(keeps);
        if self.faults_left_out == 0 {
            self.worst = self.faults.iter().map(|fault| fault.scope).max();
        }
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
    let place = error.place().map(|place| format!(" (in {place})")).unwrap_or_default();
    let without_place = |whole: String| whole.strip_suffix(&place).unwrap_or(&whole).to_owned();
    let what = without_place(error.to_string());
    match std::error::Error::source(error) {
        Some(cause) => format!("{what}: {}", without_place(cause.to_string())),
        None => what,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        if let Some(store) = self.store {
            writeln!(out, "store {store}, manifest {}, cut {}", self.generation, self.cut.short())?;
        }
        writeln!(out, "{} files, {} run entries", counts.files, counts.entries)?;
        let (pages, bytes) = (counts.pages, counts.page_bytes);
        writeln!(out, "{} objects in {pages} pages of {bytes} bytes", counts.objects)?;
        let (groups, commits) = (counts.groups, counts.commits);
        writeln!(out, "{commits} commits in {groups} groups, up to {}", self.position.short())?;
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        for gone in &self.gone {
            writeln!(out, "note: {gone}")?;
        }
        for fault in &self.faults {
            write!(out, "fault: {fault}")?;
            match fault.object.and_then(|object| self.names.get(&object)) {
                Some(name) => writeln!(out, ", which is {name}")?,
                None => writeln!(out)?,
            }
        }
        if self.faults_left_out > 0 {
            writeln!(out, "and {} faults more", self.faults_left_out)?;
        }
        out.write_str(&self.conclusion())
    }
}

//! What operators may change of a store, also while a process has it open.
//!
//! A [`Request`] is performed in one place ([`perform`]): for the socket of a store that is open
//! ([`Options::admin`](crate::store::Options::admin)), and for whoever opens a store just for that.
//! [`at`] finds out which of the two it has to be. `docs/admin.md` describes the protocol.
//!
//! Invariants:
//!   * A request is checked before anything is changed.
//!   * What is reported as done is durable.

mod client;
mod perform;
mod server;
mod wire;

pub use client::{ask, at};
pub use perform::perform;
pub(super) use server::Server;
pub use wire::Bytes;

use crate::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// An object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The namespace's name. It must be there.
    pub namespace: String,
    /// Which of its objects.
    pub object: Which,
}

/// An object inside its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one that has the id of this name.
    Name(String),
    /// The one with this id, in 64 hex digits.
    Id(String),
}

/// A moment of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The text of one of its bookmarks.
    Bookmark(String),
    /// Of all its commits up to a time of the clock, in microseconds since 1970.
    Time(u64),
}

/// What is asked of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// The figures of [`Stats`](crate::store::Stats).
    Stats,
    /// Sets a key of an object.
    Put {
        /// The object.
        of: Target,
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
        /// How tools read the value: `raw`, `json`, `msgpack`, `cbor` or `v8`.
        #[serde(default)]
        codec: Option<String>,
        /// Makes the namespace if it is missing.
        #[serde(default)]
        create: bool,
    },
    /// Deletes keys of an object. All of them must be there.
    Rm {
        /// The object.
        of: Target,
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Deletes an object with everything in it; its history stays.
    Delete {
        /// The object.
        of: Target,
    },
    /// Deletes an object and everything that it ever was.
    Purge {
        /// The object.
        of: Target,
    },
    /// Makes an object what it was.
    Restore {
        /// The object.
        of: Target,
        /// When.
        to: When,
        /// Whether its alarms come back too.
        #[serde(default)]
        alarms: bool,
    },
    /// Makes an object what it was right before its last restoration.
    Undo {
        /// The object.
        of: Target,
        /// Whether its alarms come back too.
        #[serde(default)]
        alarms: bool,
    },
    /// Makes all objects of a namespace, or of the store, what they were, one after the other.
    RestoreAll {
        /// The namespace; the store where it is left out.
        #[serde(default)]
        namespace: Option<String>,
        /// When, in microseconds since 1970.
        time: u64,
        /// Whether their alarms come back too.
        #[serde(default)]
        alarms: bool,
    },
    /// Makes an empty object what another one was.
    Fork {
        /// The object that was.
        of: Target,
        /// When; now where it is left out.
        #[serde(default)]
        at: Option<When>,
        /// The object that is to be.
        to: Target,
        /// Whether alarms are set too.
        #[serde(default)]
        alarms: bool,
    },
    /// Makes a folder a backup of the store, as [`Store::backup`](crate::store::Store::backup).
    Backup {
        /// The folder, by an absolute path.
        path: String,
        /// Whether it is verified whole.
        #[serde(default)]
        verify: bool,
        /// Whether files may not be shared with the store.
        #[serde(default)]
        copy: bool,
    },
    /// One round of what a store does in the background: a checkpoint, a cleaning, a merge, an
    /// expiry, and removal of what was replaced.
    Compact,
    /// Reads all files to find damage, and rebuilds what history has of it, as
    /// [`Store::scrub`](crate::store::Store::scrub).
    Scrub,
    /// Imports the export that follows the request, as
    /// [`Store::import`](crate::store::Store::import).
    Load {
        /// The namespace that takes everything; those of the export where it is left out.
        #[serde(default)]
        namespace: Option<String>,
        /// What becomes of objects that have content.
        #[serde(default)]
        existing: Existing,
    },
}

/// What a load does with objects that have content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// It ends there.
    #[default]
    Refuse,
    /// They are replaced.
    Replace,
    /// They stay as they are.
    Keep,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply {
    /// The figures asked for.
    Stats(Box<Figures>),
    /// An object was changed.
    Changed(Change),
    /// Many objects were restored, or were as they were to be.
    RestoredAll(ManyRestored),
    /// The backup is complete.
    BackedUp(BackedUp),
    /// The round is over.
    Compacted(Round),
    /// Everything was read.
    Scrubbed(Scrubbed),
    /// The export is imported.
    Loaded(Loaded),
}

/// Figures of a store at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The process that has the store open.
    pub process: u32,
    /// Everything up to this commit is durable.
    pub durable: u64,
    /// Since when the store is open, in microseconds.
    pub open_for: u64,
    /// What [`Store::stats`](crate::store::Store::stats) says.
    pub stats: crate::store::Stats,
}

/// A commit that changed an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its LSN.
    pub lsn: u64,
    /// Its time, in microseconds since 1970.
    pub time: u64,
    /// The object's bookmark right before it: restoring to it takes the change back. None where no
    /// history is kept, and after a purge.
    pub undo: Option<String>,
    /// Whether a handle was open on the object, which has lost its right to it.
    #[serde(default)]
    pub fenced: bool,
}

/// What came of restoring many objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManyRestored {
    /// Objects that were changed since, and looked at.
    pub looked_at: u64,
    /// Those that were restored; the others are as they were.
    pub restored: u64,
    /// Those that could not be restored.
    pub failed: u64,
    /// Why, of the first of these.
    pub failures: Vec<Failure>,
    /// Damage in the place of objects that are not known any more, and so were not looked at.
    #[serde(default)]
    pub lost: Vec<Refusal>,
    /// A time right before the first restoration: restoring to it takes all of them back, and with
    /// them what others have committed since. None where nothing was restored, and where a clock
    /// that went back has given the restorations the time of earlier commits.
    pub undo: Option<u64>,
}

/// An object that could not be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which.
    pub of: Target,
    /// Why.
    pub why: Refusal,
}

/// A backup, as [`Backup`](crate::store::backup::Backup) tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// The last commit in it.
    pub lsn: u64,
    /// Its time, in microseconds since 1970.
    pub time: u64,
    /// Files that were there.
    pub kept: u64,
    /// Files that store and backup share.
    pub linked: u64,
    /// Files copied.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Faults that its verification found; none without one.
    pub faults: Option<u64>,
}

/// One round of background work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// The steps that found something to do, in their order.
    pub steps: Vec<Step>,
    /// Bytes of all files before and after; what was replaced may wait for readers.
    pub bytes: [u64; 2],
}

/// What a scrub has found, as [`ScrubReport`](crate::store::ScrubReport) tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Files read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged, each with what became of it.
    pub damages: Vec<ScrubbedDamage>,
    /// Further damages, which are only counted.
    pub untold: u64,
    /// Whether something is left damaged that somebody needs.
    pub has_losses: bool,
}

/// One damage that a scrub has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubbedDamage {
    /// What it is, and where.
    pub what: String,
    /// What became of it: `rebuilt`, `left`, `told` or `spare`.
    pub fate: String,
    /// Why a page was left as it is.
    pub why: Option<String>,
}

/// A step of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// What was committed went into pages.
    Checkpoint,
    /// Segments were cleaned.
    Clean,
    /// Runs were merged.
    Merge,
    /// History expired.
    Expire,
}

impl Step {
    /// The steps of a round, in their order.
    pub const ALL: [Self; 4] = [Self::Checkpoint, Self::Clean, Self::Merge, Self::Expire];
}

/// An import, as [`Imported`](crate::store::transfer::Imported) tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Objects imported.
    pub objects: u64,
    /// Objects that had content and were kept.
    pub kept: u64,
    /// Entries imported.
    pub items: u64,
}

/// How far a restoration of many objects, a backup or a compaction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Objects looked at.
    pub looked_at: u64,
    /// Objects restored.
    pub restored: u64,
    /// Objects that could not be restored.
    pub failed: u64,
    /// Of a backup, bytes that are copied, or verified behind that; of a scrub, those read.
    #[serde(default)]
    pub bytes: u64,
    /// Of how many.
    #[serde(default)]
    pub bytes_of: u64,
    /// Of a compaction, the step that it begins.
    #[serde(default)]
    pub step: Option<Step>,
}

/// Why a request was not performed, as it is told to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The name of the [`ErrorKind`].
    pub kind: String,
    /// The code of the error.
    pub code: String,
    /// The error in words, with its cause.
    pub what: String,
}

const KINDS: [ErrorKind; 12] = [
    ErrorKind::Aborted,
    ErrorKind::Broken,
    ErrorKind::Busy,
    ErrorKind::Corrupt,
    ErrorKind::Full,
    ErrorKind::Invalid,
    ErrorKind::Io,
    ErrorKind::Locked,
    ErrorKind::NotFound,
    ErrorKind::NotRetained,
    ErrorKind::Poisoned,
    ErrorKind::Unsupported,
];

/// Codes that callers tell from others of their kind, whoever had the store open.
const TOLD_CODES: [&str; 9] = [
    "bookmark.foreign",
    "bookmark.lost",
    "bookmark.malformed",
    "fork.occupied",
    "import.exists",
    "key.missing",
    "namespace.missing",
    "object.missing",
    "restore.none",
];

impl Refusal {
    fn of(error: &Error) -> Self {
        let what = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        Self { kind: format!("{:?}", error.kind()), code: error.code().to_owned(), what }
    }

    /// The same as an error. Kinds are the same; codes that are not of [`TOLD_CODES`] become
    /// `admin.refused`.
    fn into_error(self) -> Error {
        let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == self.kind);
        let kind = kind.unwrap_or(ErrorKind::Io);
        match TOLD_CODES.iter().find(|code| **code == self.code) {
            Some(code) => Error::new(kind, code, self.what),
            None => Error::new(kind, "admin.refused", format!("{} [{}]", self.what, self.code)),
        }
    }
}

/// Whoever asks.
pub trait Operator {
    /// Hears how far a long request has come. False ends it where that can be done: between two
    /// objects.
    fn hear(&mut self, _progress: &Progress) -> bool {
        true
    }

    /// What follows the request: of a load, the export.
    fn stream(&mut self) -> &mut dyn Read;
}

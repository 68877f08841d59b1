//! Why a verb did not do what it was asked for, and the exit code that says so.
//!
//! Invariants:
//!   * Each exit code means the same for every verb.
//!   * An error of the store ends with its code, which docs/operating.md explains.

use crate::error::{Error, ErrorKind};
use std::fmt;
use std::io;

/// All is well.
pub const DONE: u8 = 0;
/// Failed; of a comparison: there is a difference.
pub const FAILED: u8 = 1;
/// The call is wrong.
pub const USAGE: u8 = 2;
/// What is asked for is not there.
pub const NOT_FOUND: u8 = 3;
/// Damage was found.
pub const DAMAGED: u8 = 4;
/// Another process has it.
pub const IN_USE: u8 = 5;
/// The time is outside the retained history.
pub const OUTSIDE_HISTORY: u8 = 6;
/// Interrupted from the terminal.
pub const INTERRUPTED: u8 = 130;

/// The exit codes as help shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  all is well         4  damage found
    1  failed, or differs  5  in use by another process
    2  wrong usage         6  outside the retained history
    3  not found         130  interrupted";

/// What a verb comes to: its exit code, or why it failed.
pub type Outcome = Result<u8, Failure>;

/// Why a verb failed.
#[derive(Debug)]
pub enum Failure {
    /// The call is wrong: how, and the right form.
    Usage(String),
    /// There is no such thing: what, and the nearest that there is.
    Missing(String),
    /// The store says no.
    Store(Error),
    /// The output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// Whether nobody reads the output any more.
    pub fn is_deaf(&self) -> bool {
        matches!(self, Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code that says so.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Missing(_) => NOT_FOUND,
            Self::Store(error) => match error.kind() {
                ErrorKind::NotFound => NOT_FOUND,
                ErrorKind::Corrupt => DAMAGED,
                ErrorKind::Locked | ErrorKind::Busy => IN_USE,
                ErrorKind::NotRetained => OUTSIDE_HISTORY,
                _ if is_about_a_bookmark(error) => USAGE,
                _ => FAILED,
            },
            // Whoever stops reading early has read enough.
            Self::Output(_) if self.is_deaf() => DONE,
            Self::Output(_) => FAILED,
        }
    }
}

/// What names all damage.
const VERIFY: &str = "`dostore verify`";

/// An error and its cause in words.
pub fn told(error: &Error) -> String {
    let Some(cause) = std::error::Error::source(error) else { return error.to_string() };
    // The same place is told once.
    let (cause, place) = (cause.to_string(), error.place());
    let place = place.map(|place| format!(" (in {place})")).unwrap_or_default();
    format!("{error}: {}", cause.strip_suffix(&place).unwrap_or(&cause))
}

/// Whether a bookmark was given that cannot be meant.
fn is_about_a_bookmark(error: &Error) -> bool {
    matches!(error.code(), "bookmark.foreign" | "bookmark.malformed")
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Missing(what) => out.write_str(what),
            Self::Store(error) => {
                let what = told(error);
                let is_of_the_store = error.kind() == ErrorKind::Corrupt && error.place().is_some();
                let is_import = error.code().starts_with("import.");
                let needs_hint = is_of_the_store && !is_import && !what.contains(VERIFY);
                out.write_str(&what)?;
                if needs_hint {
                    write!(out, "; {VERIFY} says what is damaged")?;
                }
                // What docs/operating.md explains. One that came through the admin socket has it.
                match error.code() {
                    "admin.refused" => Ok(()),
                    code => write!(out, " [{code}]"),
                }
            }
            Self::Output(cause) => write!(out, "writing the output: {cause}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Self {
        Self::Output(cause)
    }
}

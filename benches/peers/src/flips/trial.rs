//! One trial: a process of its own opens the store and reads every key.
//!
//! Invariants:
//!   * A trial counts as the worst that came of it: a process that ended early before a wrong
//!     value, that before a missing key, that before an error.
//!   * What is left of a process that went wrong is never waited for longer than a minute.

use super::content::{Content, KEYS};
use super::vaults::Candidate;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No trial takes longer.
const TIME_MAX: Duration = Duration::from_mins(1);
/// How often is looked whether it ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What the process that read a store says, in one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The store did not open.
    pub is_refused: bool,
    /// Keys of which reading gave an error.
    pub errors: usize,
    /// Keys that were not there, without an error.
    pub missing: usize,
    /// Keys with another value, without an error.
    pub wrong: usize,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Right,
    ErrorAtOpen,
    ErrorAtRead,
    Missing,
    Wrong,
    /// The process ended, or did not end, in a way of its own: how.
    Ended(String),
}

impl Outcome {
    fn of(found: Found) -> Self {
        match found {
            Found { is_refused: true, .. } => Self::ErrorAtOpen,
            Found { wrong: 1.., .. } => Self::Wrong,
            Found { missing: 1.., .. } => Self::Missing,
            Found { errors: 1.., .. } => Self::ErrorAtRead,
            Found { .. } => Self::Right,
        }
    }
}

/// Opens a store and reads every key of it.
pub fn read(candidate: &Candidate, folder: &Path, seed: u64) -> Found {
    let mut found = Found::default();
    let vault = match (candidate.open)(folder, false) {
        Ok(vault) => vault,
        Err(error) => {
            eprintln!("opening: {error}");
            return Found { is_refused: true, ..found };
        }
    };
    let content = Content::drawn(seed);
    for (object, values) in content.objects() {
        for (key, expected) in (0..KEYS).zip(values) {
            match vault.get(object, key) {
                Ok(Some(value)) => found.wrong += usize::from(value != *expected),
                Ok(None) => found.missing += 1,
                Err(error) => {
                    eprintln!("key {key} of object {object}: {error}");
                    found.errors += 1;
                }
            }
        }
    }
    found
}

/// The same in a process of its own.
pub fn read_apart(candidate: &Candidate, folder: &Path, seed: u64) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("flips-read").arg(candidate.id).arg("--dir").arg(folder);
    command.arg("--seed").arg(seed.to_string());
    // What a process says while it panics is not for the table.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let Some(status) = end_of(&mut child)? else { return Ok(Outcome::Ended("no end".into())) };
    if !status.success() {
        return Ok(Outcome::Ended(told(status)));
    }
    let mut said = String::new();
    child.stdout.take().ok_or("the process has no output")?.read_to_string(&mut said)?;
    let line = said.lines().last().ok_or("the process said nothing")?;
    Ok(Outcome::of(serde_json::from_str(line)?))
}

/// Waits for the end of a process; kills it when it takes too long, and has no answer then.
fn end_of(child: &mut Child) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + TIME_MAX;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        // What Rust ends a process with whose main thread panicked.
        (Some(101), _) => "panic".into(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown end".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_counts_as_the_worst_that_came_of_it() {
        let all = Found { is_refused: false, errors: 1, missing: 2, wrong: 3 };
        assert_eq!(Outcome::of(all), Outcome::Wrong);
        assert_eq!(Outcome::of(Found { wrong: 0, ..all }), Outcome::Missing);
        assert_eq!(Outcome::of(Found { wrong: 0, missing: 0, ..all }), Outcome::ErrorAtRead);
        assert_eq!(Outcome::of(Found::default()), Outcome::Right);
        let refused = Found { is_refused: true, ..Found::default() };
        assert_eq!(Outcome::of(refused), Outcome::ErrorAtOpen);
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(told(ExitStatus::from_raw(101 << 8)), "panic");
        assert_eq!(told(ExitStatus::from_raw(1 << 8)), "exit code 1");
        assert_eq!(told(ExitStatus::from_raw(11)), "signal 11");
    }
}

//! What came of all trials on one store, and the table of it.
//!
//! Invariants:
//!   * Every trial is counted once.

use super::trial::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;

/// How often each outcome came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub right: u64,
    pub error_at_open: u64,
    pub error_at_read: u64,
    pub missing: u64,
    pub wrong: u64,
    /// Panics, signals, and processes that did not end.
    pub ended: u64,
}

/// All trials on the store of one engine in one state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub engine: String,
    /// Its name in the table.
    pub title: String,
    pub version: String,
    /// When its files were copied.
    pub state: String,
    pub seed: u64,
    pub trials: u64,
    /// Bytes of which one was hit.
    pub bytes: u64,
    #[serde(flatten)]
    pub counts: Counts,
    /// How processes ended that did not come to their end.
    pub ends: BTreeMap<String, u64>,
    /// The same counts by the file that was hit.
    pub files: BTreeMap<String, Counts>,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Right => &mut self.right,
            Outcome::ErrorAtOpen => &mut self.error_at_open,
            Outcome::ErrorAtRead => &mut self.error_at_read,
            Outcome::Missing => &mut self.missing,
            Outcome::Wrong => &mut self.wrong,
            Outcome::Ended(_) => &mut self.ended,
        };
        *count += 1;
    }
}

impl Tally {
    pub fn add(&mut self, file: &Path, outcome: &Outcome) {
        self.trials += 1;
        self.counts.add(outcome);
        self.files.entry(file.display().to_string()).or_default().add(outcome);
        if let Outcome::Ended(how) = outcome {
            *self.ends.entry(how.clone()).or_default() += 1;
        }
    }

    fn percent(&self, count: u64) -> String {
        match count {
            0 => "0".into(),
            _ => format!("{:.1} %", 100.0 * count as f64 / self.trials as f64),
        }
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        let Counts { right, error_at_open, error_at_read, missing, wrong, ended } = self.counts;
        write!(text, "| {} | {} | {} |", self.title, self.version, self.state)?;
        for count in [right, error_at_open, error_at_read, missing, wrong, ended] {
            write!(text, " {} |", self.percent(count))?;
        }
        writeln!(text)
    }
}

/// The table of some tallies.
pub fn table<'t>(tallies: impl Iterator<Item = &'t Tally>) -> Result<String, fmt::Error> {
    let mut text = String::from(
        "| Engine | Version | Copied | right | error at open | error at read \
         | silently missing keys | silently wrong value | panic or signal |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for tally in tallies {
        tally.write(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trial_is_counted_by_its_file_and_in_all() {
        let mut tally = Tally { title: "engine".into(), version: "1".into(), ..Tally::default() };
        let ended = Outcome::Ended("signal 11".into());
        for (file, outcome) in
            [("a", &Outcome::Right), ("a", &Outcome::Wrong), ("b", &ended), ("b", &ended)]
        {
            tally.add(Path::new(file), outcome);
        }
        let expected = Counts { right: 1, wrong: 1, ended: 2, ..Counts::default() };
        assert_eq!((tally.trials, &tally.counts), (4, &expected));
        assert_eq!(tally.files["a"], Counts { right: 1, wrong: 1, ..Counts::default() });
        assert_eq!(tally.ends["signal 11"], 2);
        let table = table([&tally].into_iter()).expect("a text takes everything");
        let last = table.lines().last();
        assert_eq!(last, Some("| engine | 1 |  | 25.0 % | 0 | 0 | 0 | 25.0 % | 50.0 % |"));
    }
}

//! The ledger of campaigns: a row for each, written by the run itself.
//!
//! `DOSTORE_LEDGER` names the file that rows are added to; without it nothing is written.
//!
//! Invariants:
//!   * What a row says to repeat gives its counts again, with the same source.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;

/// What a campaign did.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Which campaign.
    pub kind: &'static str,
    /// What repeats it: its first seed and how many, or which part of all cases it was.
    pub seeds: String,
    /// Ends of a machine or a process in the middle of something.
    pub crashes: u64,
    /// Calls that failed and places that were damaged.
    pub faults: u64,
    /// Cases: what one seed, one flip or one place of a fault is depends on the kind.
    pub executions: u64,
    /// Cases in which something did not hold.
    pub failures: u64,
}

/// Adds a row, where one is wanted.
pub fn add(row: &Row) {
    let Ok(path) = std::env::var("DOSTORE_LEDGER") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("the ledger");
    let Row { kind, seeds, crashes, faults, executions, failures } = row;
    let (date, commit) = (today(), commit());
    if file.metadata().expect("the ledger's length").len() == 0 {
        writeln!(file, "date,commit,kind,seeds,crashes,faults,executions,failures").expect("room");
    }
    let line =
        format!("{date},{commit},{kind},{seeds},{crashes},{faults},{executions},{failures}\n");
    file.write_all(line.as_bytes()).expect("room in the ledger");
}

/// The source that ran: with a `+` where it was changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let told = Command::new("git").args(arguments).output().ok()?;
        let told =
            told.status.success().then(|| String::from_utf8_lossy(&told.stdout).into_owned());
        told.map(|told| told.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_some_and(|changed| changed.is_empty()) { commit } else { commit + "+" }
}

/// The date, in UTC, as `2026-11-22`.
fn today() -> String {
    #[expect(clippy::disallowed_methods, reason = "a campaign has a date, what it does has none")]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The day of this many days behind 1970-01-01, by the calendar of 400 years that repeats.
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let in_month = in_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{in_month:02}", era * 400 + year + carry)
}

#[test]
fn a_day_is_told_by_the_calendar() {
    let days = [0, 59, 11_016, 19_782, 20_779];
    let dates = ["1970-01-01", "1970-03-01", "2000-02-29", "2024-02-29", "2026-11-22"];
    assert_eq!(days.map(date), dates);
}

//! A process that opens a store and compares it with what was heard, for a process that must not
//! touch the file system itself: it could not end while it waits for its own answers.

use crate::load::{self, Heard};
use std::path::Path;
use std::process::{Command, Stdio};

/// Set in such a process: the folder of its store, and what was heard; nothing for a new store.
const FOLDER: &str = "DOSTORE_REAL_CHECK";
const HEARD: &str = "DOSTORE_REAL_HEARD";
/// The test that such a process is started as.
const NAME: &str = "block::what_was_acknowledged_on_ext4_outlives_lost_and_torn_sectors";
/// What begins what it says.
const SAYS: &str = "it has ";

/// The whole life of a process that compares, if this is one.
pub fn is_one() -> bool {
    let Some(folder) = std::env::var_os(FOLDER) else { return false };
    if let Ok(text) = std::env::var(HEARD) {
        let mut heard = Heard::of_text(&text);
        heard.check(Path::new(&folder));
        println!("\n{SAYS}{}", heard.to_text());
    } else {
        load::options().open(&folder).unwrap().close().unwrap();
    }
    true
}

fn run(folder: &Path, heard: Option<&Heard>) -> Result<String, String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(FOLDER, folder).stdin(Stdio::null());
    if let Some(heard) = heard {
        command.env(HEARD, heard.to_text());
    }
    let done = command.output().unwrap();
    let said = [&done.stdout, &done.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    if done.status.success() { Ok(said[0].clone()) } else { Err(said.concat()) }
}

/// Makes a store.
pub fn begin(folder: &Path) {
    run(folder, None).unwrap();
}

/// Compares a store with what was heard; gives what is known of it now, or what was said against
/// it.
pub fn check(folder: &Path, heard: &Heard) -> Result<Heard, String> {
    let said = run(folder, Some(heard))?;
    let said = said.lines().find_map(|line| line.strip_prefix(SAYS));
    said.map(Heard::of_text).ok_or_else(|| "it did not compare".into())
}

//! The machine that figures are from, and what else it was busy with.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where and when a run was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub memory_gibibytes: u64,
    pub kernel: String,
    pub file_system: String,
    /// The commit of this repository that was built.
    pub revision: String,
    /// The day, as the machine's clock says it.
    pub day: String,
    /// How the run was begun.
    pub command: String,
}

impl Machine {
    /// The one that this process runs on, with stores in `folder`.
    pub fn this(folder: &Path) -> Result<Self> {
        let memory = text("/proc/meminfo");
        let kibibytes: u64 = field(&memory, "MemTotal:")
            .split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        Ok(Self {
            processor: field(&text("/proc/cpuinfo"), "model name").replace(": ", ""),
            processors: std::thread::available_parallelism()?.get(),
            memory_gibibytes: kibibytes >> 20,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&text("/proc/self/mounts"), &fs::canonicalize(folder)?),
            revision: said("git", &["describe", "--always", "--dirty"]),
            day: said("date", &["--utc", "+%Y-%m-%d"]),
            command: command(std::env::args().skip(1)),
        })
    }
}

/// How a run was begun, without the paths of this machine.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut said: Vec<String> = Vec::new();
    for argument in arguments {
        let word = match said.last().map(String::as_str) {
            Some("--dir") => "FOLDER".to_owned(),
            Some("--out") => file_name(&argument),
            _ => argument,
        };
        said.push(word);
    }
    said.join(" ")
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What stands behind a name in a text of lines.
fn field(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or("unknown").trim().to_owned()
}

/// What a program says, in the folder of this crate.
fn said(program: &str, arguments: &[&str]) -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// The kind of the file system that a folder lies on: of the longest mount that it begins with.
fn file_system(mounts: &str, folder: &Path) -> String {
    let lines = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let found = lines.filter(|(mount, _)| folder.starts_with(mount));
    let longest = found.max_by_key(|(mount, _)| mount.len());
    longest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// Processor time that the whole machine has spent so far, in ticks, waiting not counted.
pub fn busy_ticks() -> u64 {
    let text = text("/proc/stat");
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // User, nice, system; then idle and waiting for disks; then interrupts and stolen time.
    ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(index, _)| ![3, 4].contains(index))
        .map(|(_, t)| t)
        .sum()
}

/// The version of a package in a lock file.
pub fn version(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    let version = lines.next()?.strip_prefix("version = \"")?;
    Some(version.trim_end_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_that_of_the_innermost_mount() {
        let mounts = "a / ext4 rw 0 0\nb /data tmpfs rw 0 0\nc /data/deep xfs rw 0 0\n";
        let of = |folder: &str| file_system(mounts, Path::new(folder));
        assert_eq!([of("/elsewhere"), of("/data/x"), of("/data/deep/x")], ["ext4", "tmpfs", "xfs"]);
    }

    #[test]
    fn the_lock_file_says_versions() {
        let lock = include_str!("../Cargo.lock");
        assert!(version(lock, "redb").is_some_and(|version| version.starts_with("4.")));
        assert_eq!(version(lock, "no-such-package"), None);
    }

    #[test]
    fn no_path_of_the_machine_is_told() {
        let words =
            ["run", "--dir", "/a/b", "--quick", "--out", "/a/peers.jsonl"].map(str::to_owned);
        let said = command(words.into_iter());
        assert_eq!(said, "run --dir FOLDER --quick --out peers.jsonl");
    }

    #[test]
    fn the_machine_is_known() {
        let machine = Machine::this(Path::new("/")).expect("it has a root");
        assert!(machine.processors > 0 && machine.memory_gibibytes > 0);
        assert!(busy_ticks() > 0);
    }
}

//! Replays the history of a git repository into a store and compares the result with git.
//!
//! Every file that ever existed is an object named by its path; every commit on the first-parent
//! line that touches it is one turn of that object. Many objects are open, and many turns on their
//! way to the disk, at once. At the end the store is closed and opened again, and every key of
//! every object is compared with what git says, asked by other commands.
//!
//! ```text
//! cargo run --release --example git_history -- [PATH] [--kill | --check-time] [--store DIR]
//!     [--rounds N]
//! ```
//!
//! Invariants:
//!   * Any difference from what git says ends in an exit code other than zero.
//!   * All commands of git speak of one commit, resolved once: the repository may grow meanwhile.

#![expect(clippy::disallowed_methods, reason = "a program, not the engine: it owns its time")]

pub mod compare;
pub mod git;
pub mod kill;
pub mod layout;
pub mod log;
pub mod replay;
pub mod time;
pub mod truth;

use dostore::store::Store;
use git::Repository;
use indicatif::{ProgressBar, ProgressStyle};
use replay::{Replay, Replayed};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use truth::Truth;

/// A result whose error is a message for whoever runs the program.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: git_history [PATH] [--kill | --check-time] [--store DIR] [--rounds N]

Replays the history of the git repository at PATH (default: this one) into a store, one object
per file and one turn per commit that touches it, and compares every key with git.

  --kill       kill the replaying process again and again, and compare after each time
  --check-time replay on a simulated machine whose clock is that of the commits, compare files as
               of dates with git, then delete everything, restore it and compare again
  --store DIR  keep the store in DIR; what is there already is not replayed again
  --rounds N   replay N times at once, each into a namespace of its own (default: 1)";

/// Turns on their way to the disk at most.
const WINDOW: usize = 8192;

/// What the command line asks for.
#[derive(Debug)]
pub struct Arguments {
    path: PathBuf,
    store: Option<PathBuf>,
    rounds: u32,
    is_kill: bool,
    is_time: bool,
    /// Set in a process that is there to be killed: the commit to replay up to.
    head: Option<String>,
}

impl Arguments {
    /// Reads the command line; none where it asks for help.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Outcome<Option<Self>> {
        let mut words = words.into_iter();
        let mut path = None;
        let mut arguments = Self {
            path: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
            store: None,
            rounds: 1,
            is_kill: false,
            is_time: false,
            head: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{} needs a value", word.display()));
            match word.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--kill") => arguments.is_kill = true,
                Some("--check-time") => arguments.is_time = true,
                Some("--store") => arguments.store = Some(PathBuf::from(value()?)),
                Some("--rounds") => {
                    let rounds = value()?.to_str().and_then(|word| word.parse().ok());
                    let is_right = |rounds: &u32| (1..=60_000).contains(rounds);
                    arguments.rounds =
                        rounds.filter(is_right).ok_or("--rounds takes a number from 1 to 60000")?;
                }
                Some(kill::CHILD) => arguments.head = value()?.into_string().ok(),
                Some(option) if option.starts_with('-') => {
                    return Err(format!("unknown option {option}\n\n{USAGE}").into());
                }
                _ if path.is_some() => return Err(format!("more than one PATH\n\n{USAGE}").into()),
                _ => path = Some(PathBuf::from(word)),
            }
        }
        if arguments.is_kill && arguments.is_time {
            return Err(format!("--kill and --check-time do not go together\n\n{USAGE}").into());
        }
        arguments.path = path.unwrap_or(arguments.path);
        Ok(Some(arguments))
    }
}

/// Does what the command line asks for.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    if let (Some(head), Some(store)) = (&arguments.head, &arguments.store) {
        let repository = Repository::at(&arguments.path, head)?;
        return kill::child(&repository, store, arguments.rounds);
    }
    let repository = Repository::open(&arguments.path)?;
    let temporary = tempfile::tempdir()?;
    let folder = arguments.store.as_deref().unwrap_or(temporary.path());
    println!("{}: {} commits", repository.path().display(), repository.commits());
    if arguments.is_time {
        return time::check(&repository);
    }
    if arguments.is_kill {
        return kill::parent(&repository, folder, arguments.rounds);
    }
    let store = options(Load::Ordinary).open(folder)?;
    fill(&repository, store, arguments.rounds)?;
    let truth = Truth::of(&repository)?;
    finish(folder, &truth, arguments.rounds, Load::Ordinary)
}

/// How much a store may keep to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// What a user would choose for little memory.
    Ordinary,
    /// So little that kills fall into checkpoints and changes of the log's file.
    Small,
}

/// The settings of every store here.
pub fn options(load: Load) -> dostore::store::Options {
    let options = Store::options().cache_bytes(8 << 20);
    match load {
        Load::Ordinary => options.dirty_bytes(16 << 20),
        Load::Small => {
            options.dirty_bytes(256 << 10).wal_file_bytes(1 << 20).segment_bytes(4 << 20)
        }
    }
}

/// Replays to the end, says how that went, and closes the store.
pub fn fill(repository: &Repository, store: Store, rounds: u32) -> Outcome<()> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} commits, {msg}, {eta} left")?;
    let progress = ProgressBar::new(repository.commits()).with_style(style);
    let begun = Instant::now();
    let mut replay = Replay::new(&store, rounds, WINDOW)?;
    let replayed = replay.run(repository, &progress, None, &mut |_| Ok(()))?;
    let time = begun.elapsed();
    drop(replay);
    progress.finish_and_clear();
    report(&store, &replayed, time)?;
    if replayed.skipped == 0 {
        report_history(&store)?;
    }
    store.close()?;
    Ok(())
}

/// Says what the history of all turns takes when everything is merged.
fn report_history(store: &Store) -> Outcome<()> {
    store.steps().checkpoint()?;
    while store.steps().merge()? {}
    let stats = store.stats()?;
    let (history, records) = (stats.history_bytes, stats.record_bytes);
    let tenths = records * 10 / history.max(1);
    let (times, tenth) = (tenths / 10, tenths % 10);
    println!("history at rest    {history} bytes, {times}.{tenth} times smaller than in the log");
    Ok(())
}

fn report(store: &Store, replayed: &Replayed, time: Duration) -> Outcome<()> {
    let memory = anonymous_memory().map_or("unknown".to_owned(), |kib| format!("{kib} KiB"));
    let stats = store.stats()?;
    let mut objects = 0_u64;
    for namespace in store.namespaces() {
        for object in namespace.objects() {
            object?;
            objects += 1;
        }
    }
    let rate = f64::from(u32::try_from(replayed.turns)?) / time.as_secs_f64().max(1e-9);
    println!("objects            {objects}");
    println!("turns              {} ({} there before)", replayed.turns, replayed.skipped);
    println!("durable commits/s  {rate:.0} ({:.2} s, git's own work included)", time.as_secs_f64());
    println!("syncs              {}", stats.groups);
    println!("bytes              {} logged, {} on disk", stats.record_bytes, stats.disk_bytes());
    println!("anonymous memory   {memory}");
    Ok(())
}

/// Anonymous memory of this process in KiB, where the operating system tells.
fn anonymous_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Opens the finished store once more and compares everything in it with git.
pub fn finish(folder: &Path, truth: &Truth, rounds: u32, load: Load) -> Outcome<()> {
    let store = options(load).create(false).open(folder)?;
    let mut keys = 0;
    for round in 1..=rounds {
        keys += compare::complete(&store, round, truth)?;
    }
    store.close()?;
    let objects = truth.names().count() * usize::try_from(rounds)?;
    println!("compared           {objects} objects, {keys} keys: all as git says");
    Ok(())
}

fn main() -> ExitCode {
    let outcome = Arguments::parse(std::env::args_os().skip(1)).and_then(|arguments| {
        let Some(arguments) = arguments else {
            println!("{USAGE}");
            return Ok(());
        };
        run(&arguments)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("git_history: {error}");
            ExitCode::FAILURE
        }
    }
}

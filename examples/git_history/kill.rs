//! The replay under fire: a process of its own that is killed again and again.
//!
//! The child says on its standard output which turns are durable. The parent kills it after a
//! random number of those lines, opens the store, and compares all of it.
//!
//! Invariants:
//!   * Every line that the parent read, before and after the kill, names a turn that is there.
//!   * At least [`KILLS`] children are killed while they work.

use super::Outcome;
use super::compare;
use super::git::Repository;
use super::layout;
use super::replay::Replay;
use super::truth::Truth;
use super::{Load, fill, finish, options};
use indicatif::ProgressBar;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, BufWriter, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The option of the process that is there to be killed.
pub const CHILD: &str = "--child";

/// How often the child is killed.
const KILLS: u32 = 12;

/// Turns in all, at least: each kill must fall into the work, not behind its end.
const TURNS: u64 = 40_000;

/// Turns that a child has on their way at most.
const WINDOW: usize = 256;

const SIGKILL: i32 = 9;

/// Turns by round and name.
type Acknowledged = HashMap<(u32, String), u64>;

/// Replays, saying which turns are durable. Runs until it is done or killed.
pub fn child(repository: &Repository, folder: &Path, rounds: u32) -> Outcome<()> {
    let store = options(Load::Small).open(folder)?;
    let mut told = BufWriter::new(std::io::stdout().lock());
    let mut replay = Replay::new(&store, rounds, WINDOW)?;
    replay.run(repository, &ProgressBar::hidden(), Some(&mut told), &mut |_| Ok(()))?;
    Ok(())
}

/// Has children killed, then replays to the end and compares everything.
pub fn parent(repository: &Repository, folder: &Path, rounds: u32) -> Outcome<()> {
    let truth = Truth::of(repository)?;
    if truth.turns() == 0 {
        return Err("the repository has no files: nothing to be killed over".into());
    }
    let mut rounds = rounds.max(u32::try_from(TURNS.div_ceil(truth.turns()))?);
    println!("{} turns in {rounds} rounds", truth.turns() * u64::from(rounds));
    let mut acknowledged = Acknowledged::new();
    let mut kills = 0;
    while kills < KILLS {
        let share = (truth.turns() * u64::from(rounds) / u64::from(KILLS)).clamp(50, 20_000);
        // Every fourth is killed early: while it opens the store.
        let patience = if kills % 4 == 3 { 0 } else { 1 + random(share) };
        if run_and_kill(repository, folder, rounds, patience, &mut acknowledged)? {
            kills += 1;
            let turns = verify(folder, &truth, &acknowledged, kills)?;
            println!(
                "kill {kills:2} after {patience} of its turns: {turns} turns found, all right"
            );
        } else {
            // It was done before it could be killed: there is too little to do.
            rounds += rounds.div_ceil(2);
            println!("done too early: {rounds} rounds");
        }
    }
    fill(repository, options(Load::Small).open(folder)?, rounds)?;
    finish(folder, &truth, rounds, Load::Small)
}

/// Starts a child and kills it after it said that `patience` turns are durable. False if it was
/// done before.
fn run_and_kill(
    repository: &Repository,
    folder: &Path,
    rounds: u32,
    patience: u64,
    acknowledged: &mut Acknowledged,
) -> Outcome<bool> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(repository.path())
        .args([CHILD, repository.head(), "--rounds", &rounds.to_string(), "--store"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?);
    if patience == 0 {
        std::thread::sleep(Duration::from_micros(random(20_000)));
    }
    let mut line = Vec::new();
    for _ in 0..patience {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        note(&line, acknowledged)?;
    }
    child.kill()?;
    // What it said before it died counts too, but for a line cut short.
    let mut rest = Vec::new();
    lines.read_to_end(&mut rest)?;
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        note(line, acknowledged)?;
    }
    let status = child.wait()?;
    if status.signal() == Some(SIGKILL) {
        return Ok(true);
    }
    if !status.success() {
        return Err(format!("the killed process failed by itself: {status}").into());
    }
    Ok(false)
}

/// Takes note of one line of a child.
fn note(line: &[u8], acknowledged: &mut Acknowledged) -> Outcome<()> {
    let Some(line) = line.strip_suffix(b"\n") else { return Ok(()) };
    let line = str::from_utf8(line)?;
    let mut parts = line.splitn(3, '\t');
    let (Some(round), Some(turns), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("the killed process says something unexpected: {line}").into());
    };
    let turns = turns.parse()?;
    let most = acknowledged.entry((round.parse()?, name.to_owned())).or_default();
    if turns <= *most {
        return Err(format!("turn {turns} of {name} was done twice").into());
    }
    *most = turns;
    Ok(())
}

/// Opens the store after a kill and compares all of it. Says how many turns are there.
fn verify(folder: &Path, truth: &Truth, acknowledged: &Acknowledged, kill: u32) -> Outcome<u64> {
    let store = options(Load::Small).open(folder)?;
    let mut rounds = HashMap::new();
    let mut turns = 0;
    for namespace in store.namespaces() {
        let found = compare::partial(&namespace, truth, |_, _, _| Ok(()))?;
        turns += found.values().sum::<u64>();
        rounds.insert(namespace.name().to_owned(), found);
    }
    for ((round, name), turns) in acknowledged {
        let namespace = layout::namespace_name(*round);
        let found = rounds.get(&namespace).and_then(|found| found.get(name)).copied();
        if found.unwrap_or(0) < *turns {
            let has = found.unwrap_or(0);
            let what = format!("turn {turns} was acknowledged, the store has {has}");
            return Err(format!("{namespace}: {name}: {what}").into());
        }
    }
    // Half of the time the next process finds a log that was never closed.
    if kill.is_multiple_of(2) {
        store.close()?;
    }
    Ok(turns)
}

/// A random number below `end`, which is not zero.
fn random(end: u64) -> u64 {
    RandomState::new().hash_one(end) % end
}

//! The past of a replay, compared with git: files as of dates, and a mass deletion undone.
//!
//! The replay runs on a simulated machine, whose clock is set to the time of each commit before it
//! is replayed. So the past of an object at a date must be what git's commits up to that date make
//! of its file.
//!
//! Invariants:
//!   * What git says comes from other commands than the replay's, read by other code.
//!   * Commit times never go back: one that is earlier than the one before counts as its equal.

use super::Outcome;
use super::compare::{self, Keys};
use super::git::Repository;
use super::layout;
use super::replay::Replay;
use super::truth::{AtHead, Truth, lines_at};
use dostore::disk::sim::SimDisk;
use dostore::retention::Retention;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use dostore::store::restore::RestoreOptions;
use indicatif::ProgressBar;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files looked at, each as of a date.
const SAMPLES: usize = 2_000;
/// Commits as of which every file's lines are looked at.
const HEADS: usize = 3;
/// Turns after which the store works on its files.
const WORK_EVERY: u64 = 500;
const WINDOW: usize = 256;

/// The commits on the first-parent line, the oldest first: id and time in seconds.
pub fn commit_times(repository: &Repository) -> Outcome<Vec<(String, u64)>> {
    let arguments = ["rev-list", "--first-parent", "--format=%ct", repository.head(), "--"];
    let output = repository.command(&arguments).output()?;
    if !output.status.success() {
        return Err(format!("git rev-list failed: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut commits = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let id = line.strip_prefix("commit ").ok_or("git rev-list says something unexpected")?;
        let time: i64 = lines.next().ok_or("git rev-list ends early")?.parse()?;
        commits.push((id.to_owned(), u64::try_from(time).unwrap_or(0)));
    }
    commits.reverse();
    let mut last = 0;
    for (_, time) in &mut commits {
        last = last.max(*time);
        *time = last;
    }
    Ok(commits)
}

/// The end of a second.
fn end_of(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second + 1) - Duration::from_micros(1)
}

fn set_clock(disk: &SimDisk, second: u64) {
    disk.set_wall(second.saturating_mul(1_000_000));
}

/// Everything at its smallest, so that little history makes many files.
fn open(disk: &SimDisk) -> Outcome<Store> {
    let options = Store::options()
        .threads(false)
        .wal_file_bytes(1 << 20)
        .segment_bytes(1 << 20)
        .retention(Retention::days(100 * 365))
        .epoch(Duration::ZERO, 64 << 10, Duration::from_hours(24));
    Ok(options.open_on(disk.clone())?)
}

fn work(store: &Store) -> Outcome<()> {
    let steps = store.steps();
    steps.checkpoint()?;
    while steps.clean()? || steps.merge()? {}
    steps.remove_retired()?;
    Ok(())
}

/// Replays the repository on a simulated machine whose clock is that of the commits.
pub fn replay(repository: &Repository, commits: &[(String, u64)]) -> Outcome<SimDisk> {
    let disk = SimDisk::new(1);
    set_clock(&disk, commits.first().map_or(0, |(_, time)| *time));
    let store = open(&disk)?;
    let mut replay = Replay::new(&store, 1, WINDOW)?;
    let mut turns = 0_u64;
    let mut begins = |ordinal: u64| {
        let place = usize::try_from(ordinal)?.checked_sub(1);
        let commit = place.and_then(|place| commits.get(place));
        set_clock(&disk, commit.ok_or("git log has more commits than git rev-list")?.1);
        turns += 1;
        if turns.is_multiple_of(WORK_EVERY) { work(&store) } else { Ok(()) }
    };
    replay.run(repository, &ProgressBar::hidden(), None, &mut begins)?;
    drop(replay);
    store.close()?;
    Ok(disk.kill())
}

/// The object of a file as of the end of a second.
fn keys_at(namespace: &Namespace, name: &str, second: u64) -> Outcome<Keys> {
    let id = namespace.id_from_name(name);
    let bookmark = namespace.bookmark_at(id, end_of(second))?;
    compare::keys(&namespace.at(id, &bookmark)?)
}

/// Compares files drawn at random as of dates drawn at random. Says how many keys they had.
pub fn compare_dates(
    namespace: &Namespace,
    truth: &Truth,
    commits: &[(String, u64)],
) -> Outcome<u64> {
    let mut names: Vec<&str> = truth.names().collect();
    names.sort_unstable();
    let mut state = 1_u64;
    let mut draw = |end: usize| -> Outcome<usize> {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Ok(usize::try_from(state >> 33)? % end.max(1))
    };
    let mut keys = 0;
    for _ in 0..SAMPLES {
        let name = names[draw(names.len())?];
        let touches = truth.touches(name).unwrap_or_default();
        // Half of the dates are near a commit of the file, the others anywhere.
        let near = match draw(2)? {
            0 => touches[draw(touches.len())?].commit as usize,
            _ => draw(commits.len())?,
        };
        let second = (commits[near].1 + 1).saturating_sub(draw(2)? as u64);
        let before = touches.partition_point(|touch| commits[touch.commit as usize].1 <= second);
        let right = if before > 0 { truth.keys_after(touches, before) } else { Keys::new() };
        let found = keys_at(namespace, name, second)?;
        keys += found.len() as u64;
        if let Some(difference) = compare::difference(&right, &found) {
            return Err(format!("{name} as of {second}: {difference}").into());
        }
    }
    Ok(keys)
}

/// Compares the lines of every file as of a few commits with git's own count.
fn compare_heads(
    repository: &Repository,
    namespace: &Namespace,
    truth: &Truth,
    commits: &[(String, u64)],
) -> Outcome<()> {
    for part in 1..=HEADS {
        let second = commits[(commits.len() * part / (HEADS + 1)).min(commits.len() - 1)].1;
        // The last commit of that second.
        let count = commits.partition_point(|(_, time)| *time <= second);
        let lines = lines_at(repository, &commits[count - 1].0)?;
        for name in truth.names() {
            let touches = truth.touches(name).unwrap_or_default();
            let is_there = touches.first().is_some_and(|touch| (touch.commit as usize) < count);
            let keys = keys_at(namespace, name, second)?;
            if is_there == keys.is_empty() {
                return Err(format!("{name} as of {second} has {} keys", keys.len()).into());
            }
            if is_there {
                let at_head = lines.get(name).copied().unwrap_or(AtHead::Deleted);
                compare::lines_at_head(name, &keys, at_head)
                    .map_err(|error| format!("as of {second}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// Deletes everything, puts other things in its place, and restores all. Says how many objects
/// were restored.
fn undo_deletion(disk: &SimDisk, store: &Store, last: u64) -> Outcome<u64> {
    let namespace = store.namespace(&layout::namespace_name(1))?;
    let ids: Vec<_> = namespace.objects().map(|info| Ok(info?.id)).collect::<Outcome<_>>()?;
    set_clock(disk, last + 10);
    for (number, id) in ids.iter().enumerate() {
        namespace.delete(*id)?.detach();
        if number % 3 == 0 {
            namespace.open(*id)?.put("other", number.to_string())?.detach();
        }
    }
    namespace.open_by_name("a file that never was")?.put("other", "")?.wait()?;
    work(store)?;
    let mut restored = 0;
    for object in namespace.restore_all(end_of(last), RestoreOptions::new()) {
        object?.restored?.commit.detach();
        restored += 1;
    }
    if restored <= ids.len() as u64 {
        return Err(format!("{restored} objects restored, {} were deleted", ids.len()).into());
    }
    work(store)?;
    Ok(restored)
}

/// The whole check.
pub fn check(repository: &Repository) -> Outcome<()> {
    let commits = commit_times(repository)?;
    let disk = replay(repository, &commits)?;
    let truth = Truth::of(repository)?;
    let store = open(&disk)?;
    let namespace = store.namespace(&layout::namespace_name(1))?;
    let keys = compare_dates(&namespace, &truth, &commits)?;
    println!("as of dates        {SAMPLES} files, {keys} keys: all as git says");
    compare_heads(repository, &namespace, &truth, &commits)?;
    let files = truth.names().count();
    println!("as of {HEADS} commits     {files} files each: lines as git counts them");
    let last = commits.last().map_or(0, |(_, time)| *time);
    let restored = undo_deletion(&disk, &store, last)?;
    let keys = compare::complete(&store, 1, &truth)?;
    println!("restored           {restored} objects, {keys} keys: all as git says");
    drop(namespace);
    store.close()?;
    let store = open(&disk.power_cut())?;
    compare::complete(&store, 1, &truth)?;
    store.close()?;
    Ok(())
}

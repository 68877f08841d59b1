//! A process that commits as fast as it can and says what is durable; and what a store must be
//! that such processes worked on.
//!
//! Invariants:
//!   * What an object is after `n` commits follows from its number and `n`, so that a half commit,
//!     a stale byte and a foreign one are seen for what they are.
//!   * An object has one writer, which waits for each commit before the next: a store has as many
//!     commits of it as were acknowledged, or one more.
//!   * A commit is told in one line, written in one piece, after its acknowledgement.
//!   * What a process tells after the power was cut proves nothing: a machine without power tells
//!     nothing, and a file system that is shut down in the middle of a sync may call it a success.

use crate::chance::Chance;
use dostore::bookmark::Bookmark;
use dostore::disk::real::RealReadDisk;
use dostore::error::Result;
use dostore::ids::Timestamp;
use dostore::inspect::verify::verify;
use dostore::retention::Retention;
use dostore::store::namespace::Namespace;
use dostore::store::snapshot::Snapshot;
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Set in a process that is to commit: the folder of its store.
const FOLDER: &str = "DOSTORE_REAL_LOAD";
/// The test that such a process is started as.
const NAME: &str = "kill::every_acknowledged_commit_is_there_after_a_kill";
/// What begins a line of it.
const TOLD: &str = "durable ";

const WRITERS: u64 = 3;
const OBJECTS: u64 = 6;
/// Keys that the commits of an object write by turns.
const SLOTS: u64 = 16;
/// The alarm of an object without commits. Far in the future.
const ALARM: u64 = 4_000_000_000_000_000;
const SIGKILL: i32 = 9;

/// So small that kills fall into checkpoints, merges and changes of the log's file.
pub fn options() -> Options {
    let kept = Retention::Keep { age: Duration::from_hours(24), bytes: Some(1 << 20) };
    let options = Store::options().wal_file_bytes(64 << 10).segment_bytes(16 << 10);
    let options = options.dirty_bytes(32 << 10).cache_bytes(1 << 20).retire_after(Duration::ZERO);
    options.epoch(Duration::ZERO, 128 << 10, Duration::from_hours(1)).retention(kept)
}

pub fn name(object: u64) -> String {
    format!("object {object}")
}

/// What commit `commit` of an object puts into its slot; none where it deletes.
fn value(object: u64, commit: u64) -> Option<Vec<u8>> {
    let bytes = match commit % 61 {
        60 => 30_000,
        short => 40 + short * 13,
    };
    let mut chance = Chance::new(object << 40 | commit);
    let word = |_| chance.next().to_le_bytes();
    (commit % 7 != 3).then(|| (0..bytes / 8).flat_map(word).collect())
}

fn slot(commit: u64) -> String {
    format!("slot {:02}", commit % SLOTS)
}

/// All keys of an object after so many commits.
fn state(object: u64, commits: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    for commit in 1 + commits.saturating_sub(SLOTS)..=commits {
        if let Some(value) = value(object, commit) {
            all.insert(slot(commit).into_bytes(), value);
        }
        all.insert(b"commits".to_vec(), commit.to_string().into_bytes());
    }
    all
}

/// Commits once more to an object; says how, and with which bookmark.
pub fn commit(space: &Namespace, object: u64, commit: u64) -> Result<Bookmark> {
    let mut handle = space.open_by_name(&name(object))?;
    let mut turn = handle.turn();
    turn.put("commits", commit.to_string())?.set_alarm(Timestamp(ALARM + commit))?;
    match value(object, commit) {
        Some(value) => turn.put(slot(commit), value)?,
        None => turn.delete(slot(commit))?,
    };
    let commit = turn.commit()?;
    let bookmark = commit.bookmark();
    commit.wait()?;
    Ok(bookmark)
}

/// How many commits an object shows. Fails the test if it is not exactly what so many make of it.
pub fn commits_of(shown: &Snapshot, object: u64) -> u64 {
    let count = shown.get("commits").unwrap();
    let count = count.map_or(0, |count| String::from_utf8_lossy(&count).parse().unwrap());
    let found: BTreeMap<_, _> = shown
        .range::<&[u8]>(..)
        .map(|entry| entry.unwrap())
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    assert!(found == state(object, count), "{} is not what {count} commits make", name(object));
    let alarm = (count > 0).then_some(Timestamp(ALARM + count));
    assert_eq!(shown.alarm().unwrap(), alarm, "{} after {count} commits", name(object));
    count
}

/// Commits to its objects until something fails.
fn write(space: &Namespace, writer: u64) -> Result<()> {
    let mine = || (writer..OBJECTS).step_by(usize::try_from(WRITERS).unwrap());
    let mut counts = BTreeMap::new();
    for object in mine() {
        let shown = space.snapshot(space.id_from_name(&name(object)))?;
        counts.insert(object, commits_of(&shown, object));
    }
    loop {
        for object in mine() {
            let count = counts[&object] + 1;
            let bookmark = commit(space, object, count)?;
            counts.insert(object, count);
            let line = format!("{TOLD}{object} {count} {bookmark}\n");
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        }
    }
}

/// The whole life of a process that commits, if this is one.
pub fn is_one() -> bool {
    let Some(folder) = std::env::var_os(FOLDER) else { return false };
    let store = options().open(&folder);
    let space = store.and_then(|store| store.namespace("load"));
    std::thread::scope(|scope| {
        let Ok(space) = &space else { return };
        for writer in 0..WRITERS {
            scope.spawn(move || write(space, writer).unwrap_err());
        }
    });
    true
}

/// An object, how many commits of it are durable, and the bookmark of the last; none if the line
/// tells of something else.
fn parsed(line: &str) -> Option<(u64, u64, Bookmark)> {
    let (_, told) = line.split_once(TOLD)?;
    // The last line may be cut short.
    let told = told.strip_suffix('\n')?;
    let words: Vec<_> = told.split(' ').collect();
    let [object, count, bookmark] = words[..] else { panic!("what is {told:?}?") };
    Some((object.parse().unwrap(), count.parse().unwrap(), bookmark.parse().unwrap()))
}

/// What is known to be durable: of each object its commits, and the bookmark of the last that was
/// told.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    objects: BTreeMap<u64, (u64, Option<Bookmark>)>,
    /// Commits of objects that were told too late to count.
    late: BTreeMap<u64, u64>,
    /// Lines in all.
    pub lines: u64,
}

impl Heard {
    /// Takes note of a line.
    pub fn note(&mut self, line: &str) {
        if let Some((object, count, bookmark)) = parsed(line) {
            self.know(object, count, bookmark);
            self.lines += 1;
        }
    }

    /// Takes note of a line that came too late to count.
    pub fn note_late(&mut self, line: &str) {
        if let Some((object, count, _)) = parsed(line) {
            self.late.insert(object, count);
        }
    }

    /// All but the count of lines, as one line of text for another process.
    pub fn to_text(&self) -> String {
        let one = |object| {
            let (count, bookmark) = self.objects.get(&object).copied().unwrap_or_default();
            let bookmark = bookmark.map_or("-".into(), |bookmark| bookmark.to_string());
            let late = self.late.get(&object).copied().unwrap_or(0);
            format!("{object} {count} {bookmark} {late}")
        };
        (0..OBJECTS).map(one).collect::<Vec<_>>().join(",")
    }

    pub fn of_text(text: &str) -> Self {
        let mut heard = Self::default();
        for one in text.split(',') {
            let words: Vec<_> = one.split(' ').collect();
            let [object, count, bookmark, late] = words[..] else { panic!("what is {one:?}?") };
            let (object, count) = (object.parse().unwrap(), count.parse().unwrap());
            if count > 0 {
                heard.objects.insert(object, (count, Some(bookmark.parse().unwrap())));
            }
            heard.late.insert(object, late.parse().unwrap());
        }
        heard
    }

    /// Takes note of a commit that is durable.
    pub fn know(&mut self, object: u64, count: u64, bookmark: Bookmark) {
        let before = self.objects.insert(object, (count, Some(bookmark)));
        let before = before.map_or(0, |(count, _)| count);
        assert_eq!(count, before + 1, "a commit of {} was told twice or left out", name(object));
    }

    /// Opens the store and compares: all that was told is there, at most one commit of each object
    /// that was not, and the moment of the last that was told can be read. That may have expired
    /// where there is a commit behind it: then it is no longer what the object is now.
    pub fn check(&mut self, folder: &Path) {
        let report = verify(RealReadDisk::open(folder).unwrap());
        assert!(report.is_clean(), "{report}");
        let store = options().threads(false).open(folder).unwrap();
        let space = store.namespace("load").unwrap();
        for object in 0..OBJECTS {
            let id = space.id_from_name(&name(object));
            let found = commits_of(&space.snapshot(id).unwrap(), object);
            let (told, bookmark) = self.objects.get(&object).copied().unwrap_or_default();
            let may_be = told..=told.max(self.late.remove(&object).unwrap_or(0)) + 1;
            assert!(may_be.contains(&found), "{} has {found}, not {told}", name(object));
            if let Some(bookmark) = bookmark {
                match space.at(id, &bookmark) {
                    Ok(then) => assert_eq!(commits_of(&then, object), told),
                    Err(error) => {
                        let is_past = found > told && error.code() == "history.expired";
                        assert!(is_past, "{} had {told}, has {found}: {error}", name(object));
                    }
                }
            }
            // What was shown stays as well.
            if found > told {
                let bookmark = space.current_bookmark(id).unwrap();
                self.objects.insert(object, (found, Some(bookmark)));
            }
        }
    }
}

/// A process that commits. Killed at its end.
pub struct Load {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Load {
    pub fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Listens to a line, if there is one more.
    fn hear_line(&mut self, note: &mut impl FnMut(&str)) -> usize {
        let mut line = String::new();
        let bytes = self.lines.read_line(&mut line).unwrap();
        note(&line);
        bytes
    }

    /// Listens to so many lines, or until there are no more.
    pub fn hear(&mut self, lines: u64, mut note: impl FnMut(&str)) {
        let _ = (0..lines).find(|_| self.hear_line(&mut note) == 0);
    }

    /// Listens to all that it has said by now.
    pub fn hear_all(&mut self, mut note: impl FnMut(&str)) {
        let waiting = rustix::io::ioctl_fionread(self.lines.get_ref()).unwrap();
        let mut waiting = usize::try_from(waiting).unwrap() + self.lines.buffer().len();
        while waiting > 0 {
            waiting = waiting.saturating_sub(self.hear_line(&mut note));
        }
    }

    /// Kills it, and hears the rest of what it had said. Says whether it was alive.
    pub fn kill(mut self, mut note: impl FnMut(&str)) -> bool {
        self.child.kill().unwrap();
        while self.hear_line(&mut note) > 0 {}
        self.child.wait().unwrap().signal() == Some(SIGKILL)
    }
}

/// How the processes of a campaign end, as a seed says.
#[derive(Debug)]
pub struct Patience(Chance);

impl Patience {
    pub fn of(seed: u64) -> Self {
        Self(Chance::new(seed))
    }

    /// Lets a process go on for a while: every fourth for less than opening the store takes, the
    /// others for up to a hundred lines.
    pub fn wait(&mut self, load: &mut Load, heard: &mut Heard) {
        if self.0.percent(25) {
            (0..self.0.below(4_000_000)).for_each(|_| std::hint::spin_loop());
        } else {
            let lines = self.0.below(100);
            load.hear(lines, |line| heard.note(line));
        }
    }
}

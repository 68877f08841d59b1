//! What git says, asked by other commands than the replay's and read by other code.
//!
//! `git rev-list` tells the commits, `git diff-tree` the files that each of them touches, and
//! `git diff` the lines of what is there in the end.
//!
//! Invariants:
//!   * A merge counts by its difference from its first parent alone.
//!   * Commits, and the touches of a file, are in the order of time, the oldest first.

use super::Outcome;
use super::git::{DIFF_OPTIONS, Repository};
use super::layout;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Read, Write};
use std::process::{Child, Stdio};

/// A commit on the first-parent line.
#[derive(Debug)]
pub struct Told {
    id: String,
    parent: Option<String>,
    author_key: Vec<u8>,
    time: Vec<u8>,
    subject: Vec<u8>,
}

/// A commit's effect on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which commit, counted from zero.
    pub commit: u32,
    is_binary: bool,
    added: u64,
    removed: u64,
}

/// Lines of a file as it is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHead {
    /// So many.
    Lines(u64),
    /// Git takes it for binary.
    Binary,
    /// It is not there any more.
    Deleted,
}

/// The history of every file, by the name of its object.
#[derive(Debug)]
pub struct Truth {
    commits: Vec<Told>,
    touches: HashMap<String, Vec<Touch>>,
    at_head: HashMap<String, AtHead>,
}

impl Truth {
    /// Asks git.
    pub fn of(repository: &Repository) -> Outcome<Self> {
        let commits = commits(repository)?;
        let touches = touches(repository, &commits)?;
        Ok(Self { commits, touches, at_head: lines_at(repository, repository.head())? })
    }

    /// Every file that ever existed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.touches.keys().map(String::as_str)
    }

    /// How many turns one round has.
    pub fn turns(&self) -> u64 {
        self.touches.values().map(|touches| touches.len() as u64).sum()
    }

    /// What happened to a file; none for one that never existed.
    pub fn touches(&self, name: &str) -> Option<&[Touch]> {
        self.touches.get(name).map(Vec::as_slice)
    }

    /// The lines of a file in the end.
    pub fn at_head(&self, name: &str) -> AtHead {
        self.at_head.get(name).copied().unwrap_or(AtHead::Deleted)
    }

    /// Files that are there in the end.
    pub fn names_at_head(&self) -> impl Iterator<Item = &str> {
        self.at_head.keys().map(String::as_str)
    }

    /// Every key of an object after the first `turns` of these touches, of which there is one.
    pub fn keys_after(&self, touches: &[Touch], turns: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let touches = &touches[..turns];
        let mut keys = BTreeMap::new();
        let mut authors: HashMap<&[u8], u64> = HashMap::new();
        let kept = turns.saturating_sub(usize::try_from(layout::SUBJECTS).unwrap_or(0));
        for (index, touch) in touches.iter().enumerate() {
            let told = &self.commits[touch.commit as usize];
            *authors.entry(&told.author_key).or_default() += 1;
            if index >= kept {
                let subject = layout::subject_value(&told.subject).to_vec();
                keys.insert(layout::subject_key(index as u64 + 1), subject);
            }
            if index + 1 == turns {
                let time = String::from_utf8_lossy(&told.time);
                let last = format!("{} {} {time}", touch.commit + 1, told.id);
                keys.insert(layout::LAST.to_vec(), last.into_bytes());
            }
        }
        for (author, count) in authors {
            keys.insert(author.to_vec(), count.to_string().into_bytes());
        }
        let added: u64 = touches.iter().map(|touch| touch.added).sum();
        let removed: u64 = touches.iter().map(|touch| touch.removed).sum();
        let net = if added < removed { "-" } else { "" };
        let lines = format!("{net}{} {added} {removed}", added.abs_diff(removed));
        keys.insert(layout::LINES.to_vec(), lines.into_bytes());
        keys.insert(layout::TURNS.to_vec(), turns.to_string().into_bytes());
        let binary = touches.iter().filter(|touch| touch.is_binary).count();
        if binary > 0 {
            keys.insert(layout::BINARY.to_vec(), binary.to_string().into_bytes());
        }
        keys
    }
}

/// Everything that a command prints; fails unless the command calls itself a success.
fn output(child: &mut Child, what: &str) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    child.stdout.take().ok_or("no output")?.read_to_end(&mut bytes)?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("git {what} failed: {status}").into());
    }
    Ok(bytes)
}

fn garbled(what: &str, bytes: &[u8]) -> Box<dyn std::error::Error> {
    let shown = bytes[..bytes.len().min(200)].escape_ascii();
    format!("git {what} says something unexpected: \"{shown}\"").into()
}

/// The commits, the oldest first.
fn commits(repository: &Repository) -> Outcome<Vec<Told>> {
    let format = "--format=%P%x00%an%x00%ae%x00%at%x00%s";
    let arguments = ["rev-list", "--first-parent", format, repository.head(), "--"];
    let bytes = output(&mut repository.command(&arguments).spawn()?, "rev-list")?;
    let mut commits = Vec::new();
    let mut lines = bytes.split(|byte| *byte == b'\n');
    while let Some(header) = lines.next() {
        if header.is_empty() {
            continue;
        }
        let id = header.strip_prefix(b"commit ").ok_or_else(|| garbled("rev-list", header))?;
        let line = lines.next().ok_or_else(|| garbled("rev-list", header))?;
        let fields: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let [parents, name, mail, time, subject] = fields[..] else {
            return Err(garbled("rev-list", line));
        };
        let parents = str::from_utf8(parents)?;
        commits.push(Told {
            id: str::from_utf8(id)?.to_owned(),
            parent: parents.split(' ').next().filter(|id| !id.is_empty()).map(str::to_owned),
            author_key: layout::author_key(name, mail),
            time: time.to_vec(),
            subject: subject.to_vec(),
        });
    }
    commits.reverse();
    Ok(commits)
}

/// The files that each commit touches.
fn touches(repository: &Repository, commits: &[Told]) -> Outcome<HashMap<String, Vec<Touch>>> {
    let fixed = ["diff-tree", "--stdin", "--root", "-m", "-r", "--raw", "--numstat"];
    let arguments = [&fixed[..], DIFF_OPTIONS].concat();
    let mut child = repository.command(&arguments).stdin(Stdio::piped()).spawn()?;
    let mut input = BufWriter::new(child.stdin.take().ok_or("no input")?);
    let bytes = std::thread::scope(|scope| {
        // Git writes while it still reads: one thread alone would end up waiting for itself.
        let asking = scope.spawn(move || -> std::io::Result<()> {
            for told in commits {
                match &told.parent {
                    Some(parent) => writeln!(input, "{} {parent}", told.id)?,
                    None => writeln!(input, "{}", told.id)?,
                }
            }
            input.flush()
        });
        let bytes = output(&mut child, "diff-tree");
        asking.join().map_err(|_| "asking git panicked")??;
        bytes
    })?;
    let mut reading = Reading { commits, next: 0, touches: HashMap::new(), paths: HashMap::new() };
    reading.read(&bytes)?;
    Ok(reading.touches)
}

/// The state of reading what `diff-tree` prints: `id NUL`, then `:raw NUL path NUL` for each file,
/// then `added TAB removed TAB path NUL` for each file.
struct Reading<'a> {
    commits: &'a [Told],
    /// Commits before this one were named.
    next: usize,
    touches: HashMap<String, Vec<Touch>>,
    /// Names of the objects of the present commit's paths.
    paths: HashMap<&'a [u8], String>,
}

impl<'a> Reading<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Outcome<()> {
        let mut words = bytes.split(|byte| *byte == 0);
        while let Some(word) = words.next() {
            match word.first() {
                None => {}
                Some(b':') => {
                    let path = words.next().ok_or_else(|| garbled("diff-tree", word))?;
                    self.touch(path)?;
                }
                Some(_) if word.contains(&b'\t') => self.count(word)?,
                Some(_) => self.commit(word)?,
            }
        }
        Ok(())
    }

    /// The commit with this id; those left out touch nothing.
    fn commit(&mut self, id: &[u8]) -> Outcome<()> {
        let found = self.commits[self.next..].iter().position(|told| told.id.as_bytes() == id);
        self.next += found.ok_or_else(|| garbled("diff-tree", id))? + 1;
        self.paths.clear();
        Ok(())
    }

    fn touch(&mut self, path: &'a [u8]) -> Outcome<()> {
        let name = layout::object_name(path);
        let commit = self.next.checked_sub(1).ok_or_else(|| garbled("diff-tree", path))?;
        let commit = u32::try_from(commit)?;
        let touch = Touch { commit, is_binary: false, added: 0, removed: 0 };
        self.touches.entry(name.clone()).or_default().push(touch);
        self.paths.insert(path, name);
        Ok(())
    }

    fn count(&mut self, line: &[u8]) -> Outcome<()> {
        let (lines, path) = numbers(line).ok_or_else(|| garbled("diff-tree", line))?;
        let touch = self.paths.get(path).and_then(|name| self.touches.get_mut(name)?.last_mut());
        let touch = touch.ok_or_else(|| garbled("diff-tree", line))?;
        match lines {
            Some((added, removed)) => (touch.added, touch.removed) = (added, removed),
            None => touch.is_binary = true,
        }
        Ok(())
    }
}

/// Lines added and removed.
type Numbers = Option<(u64, u64)>;

/// Lines added and removed (none for a binary file), and the path.
fn numbers(line: &[u8]) -> Option<(Numbers, &[u8])> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (added, rest) = (&line[..tab], &line[tab + 1..]);
    let tab = rest.iter().position(|byte| *byte == b'\t')?;
    let (removed, path) = (&rest[..tab], &rest[tab + 1..]);
    if (added, removed) == (b"-", b"-") {
        return Some((None, path));
    }
    let number = |digits| str::from_utf8(digits).ok()?.parse().ok();
    Some((Some((number(added)?, number(removed)?)), path))
}

/// The lines of every file that is there at a commit.
pub fn lines_at(repository: &Repository, commit: &str) -> Outcome<HashMap<String, AtHead>> {
    let nothing = repository.ask(&["hash-object", "-t", "tree", "/dev/null"])?;
    let fixed = ["diff", "--numstat"];
    let arguments = [&fixed[..], DIFF_OPTIONS, &[&nothing, commit, "--"]].concat();
    let bytes = output(&mut repository.command(&arguments).spawn()?, "diff")?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words
        .map(|word| match numbers(word) {
            Some((Some((added, 0)), path)) => Ok((layout::object_name(path), AtHead::Lines(added))),
            Some((None, path)) => Ok((layout::object_name(path), AtHead::Binary)),
            _ => Err(garbled("diff", word)),
        })
        .collect()
}

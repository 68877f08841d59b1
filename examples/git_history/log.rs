//! The stream of `git log -z --numstat`: commits, each followed by the files that it touches.
//!
//! Invariants:
//!   * Memory is bounded by the longest single name or subject, not by the size of a commit.
//!   * What cannot be understood is an error, never skipped.

use super::Outcome;
use super::git::{DIFF_OPTIONS, Repository};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};

/// Opens a commit in the stream. A line of `--numstat` begins with a digit or a dash.
const MARKER: &[u8] = b"commit";

const FORMAT: &str = "--format=tformat:commit%x00%H%x00%an%x00%ae%x00%at%x00%s";

/// A commit as the log shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its id, in hex.
    pub id: Vec<u8>,
    /// Its author's name.
    pub name: Vec<u8>,
    /// Its author's address.
    pub mail: Vec<u8>,
    /// When it was written, in seconds since 1970.
    pub time: Vec<u8>,
    /// Its first paragraph, on one line.
    pub subject: Vec<u8>,
}

/// A file that a commit touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path, as the bytes that git keeps.
    pub path: Vec<u8>,
    /// Lines added and removed; none in a binary file.
    pub lines: Option<(u64, u64)>,
}

/// One thing in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A commit begins.
    Commit(Commit),
    /// The commit that began last touches a file.
    Change(Change),
}

/// Reads the stream.
#[derive(Debug)]
pub struct Parser<R> {
    input: R,
    has_commit: bool,
}

impl<R: BufRead> Parser<R> {
    /// A parser of what `input` yields.
    pub fn new(input: R) -> Self {
        Self { input, has_commit: false }
    }

    /// What comes next; none at the end.
    pub fn event(&mut self) -> Outcome<Option<Event>> {
        let Some(word) = self.word()? else { return Ok(None) };
        if word == MARKER {
            self.has_commit = true;
            return Ok(Some(Event::Commit(self.commit()?)));
        }
        if !self.has_commit {
            return Err(unexpected(&word));
        }
        // The first change stands on a line of its own, behind the commit.
        let line = word.strip_prefix(b"\n").unwrap_or(&word);
        change(line).map(|change| Some(Event::Change(change))).ok_or_else(|| unexpected(line))
    }

    fn commit(&mut self) -> Outcome<Commit> {
        let mut field =
            || -> Outcome<Vec<u8>> { Ok(self.word()?.ok_or("git's log ends inside a commit")?) };
        let id = field()?;
        if !is_id(&id) {
            return Err(unexpected(&id));
        }
        Ok(Commit { id, name: field()?, mail: field()?, time: field()?, subject: field()? })
    }

    /// The bytes before the next NUL; none at the end.
    fn word(&mut self) -> Outcome<Option<Vec<u8>>> {
        let mut word = Vec::new();
        self.input.read_until(0, &mut word)?;
        if word.is_empty() {
            return Ok(None);
        }
        if word.pop() != Some(0) {
            return Err("git's log ends inside a word".into());
        }
        Ok(Some(word))
    }
}

/// Whether these bytes are the id of an object of git, of whichever length.
fn is_id(bytes: &[u8]) -> bool {
    bytes.len() >= 40 && bytes.iter().all(u8::is_ascii_hexdigit)
}

fn unexpected(bytes: &[u8]) -> Box<dyn std::error::Error> {
    let shown = bytes[..bytes.len().min(200)].escape_ascii();
    format!("git's log has something unexpected: \"{shown}\"").into()
}

/// `added TAB removed TAB path`; the path may hold anything but NUL.
fn change(line: &[u8]) -> Option<Change> {
    let mut parts = line.splitn(3, |byte| *byte == b'\t');
    let (added, removed, path) = (parts.next()?, parts.next()?, parts.next()?);
    if path.is_empty() {
        return None;
    }
    let number = |digits: &[u8]| str::from_utf8(digits).ok()?.parse().ok();
    let lines = match (added, removed) {
        (b"-", b"-") => None,
        _ => Some((number(added)?, number(removed)?)),
    };
    Some(Change { path: path.to_owned(), lines })
}

/// The log of a repository, as git writes it.
#[derive(Debug)]
pub struct Log {
    parser: Parser<BufReader<ChildStdout>>,
    child: Child,
}

impl Log {
    /// Starts git.
    pub fn of(repository: &Repository) -> Outcome<Self> {
        let fixed = ["log", "--numstat", "--first-parent", "-m", "--reverse", FORMAT];
        let arguments = [&fixed[..], DIFF_OPTIONS, &[repository.head(), "--"]].concat();
        let mut child = repository.command(&arguments).spawn()?;
        let output = child.stdout.take().ok_or("git's output is not to be had")?;
        let parser = Parser::new(BufReader::with_capacity(1 << 18, output));
        Ok(Self { parser, child })
    }

    /// What comes next; none at an end that git itself calls a success.
    pub fn event(&mut self) -> Outcome<Option<Event>> {
        if let Some(event) = self.parser.event()? {
            return Ok(Some(event));
        }
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("git log failed: {status}").into());
        }
        Ok(None)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // A no-op for one that ended; else nothing would read what it still writes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

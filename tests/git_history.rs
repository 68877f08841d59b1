//! The example `git_history` on repositories made for it: every kind of change that git knows.
//!
//! Invariants:
//!   * The repositories are made by `git fast-import` alone: no file system has a say in names.

#[expect(dead_code, reason = "the example's own entry and what only its kills need")]
#[path = "../examples/git_history/main.rs"]
mod example;

use dostore::store::Store;
use example::Load;
use example::layout;
use example::log::{Change, Commit, Event, Parser};
use example::truth::{AtHead, Truth};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A history in the language of `git fast-import`.
#[derive(Default)]
struct History {
    stream: Vec<u8>,
    commits: u32,
}

impl History {
    /// A commit on a branch, after its parents; says its mark.
    fn commit(&mut self, branch: &str, author: &str, subject: &str, parents: &[u32]) -> u32 {
        self.commits += 1;
        let (mark, time) = (self.commits, 1_000_000 + self.commits);
        self.line(&format!(
            "commit refs/heads/{branch}\nmark :{mark}\nauthor {author} {time} +0000"
        ));
        self.line(&format!("committer C <c@c> {time} +0000\ndata {}\n{subject}", subject.len()));
        for (index, parent) in parents.iter().enumerate() {
            self.line(&format!("{} :{parent}", if index == 0 { "from" } else { "merge" }));
        }
        mark
    }

    /// A file of the last commit; the path as fast-import quotes it.
    fn file(&mut self, mode: &str, path: &str, content: &[u8]) {
        self.stream.extend(format!("M {mode} inline {path}\ndata {}\n", content.len()).bytes());
        self.stream.extend(content);
        self.stream.push(b'\n');
    }

    fn line(&mut self, line: &str) {
        self.stream.extend(format!("{line}\n").bytes());
    }

    fn import(&self, folder: &Path) {
        git(folder, &["init", "-q"]);
        git(folder, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        let mut child = command(folder, &["fast-import", "--quiet"]).spawn().expect("git runs");
        child.stdin.take().expect("piped").write_all(&self.stream).expect("git reads");
        assert!(child.wait().expect("git ends").success());
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(folder).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

fn git(folder: &Path, arguments: &[&str]) {
    assert!(command(folder, arguments).status().expect("git runs").success(), "{arguments:?}");
}

fn has_git() -> bool {
    Command::new("git").arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// Every kind of change, a merge that changes something of its own and one that changes nothing.
fn every_kind() -> History {
    let mut history = History::default();
    let one = history.commit("main", "Ann <a@a>", "one", &[]);
    history.file("100644", "text", b"1\n2\n3\n");
    history.file("100644", "empty", b"");
    history.file("100644", "\"caf\\351 \\n\\t%\"", b"no newline");
    history.file("100644", "data", b"\0\x01\x02");
    history.file("100644", "gone/and/back", b"a\nb\n");
    history.file("120000", "link", b"text");
    history.line("M 160000 1234567890123456789012345678901234567890 module");
    let two = history.commit("main", "B\u{f6}b <b@b>", "two\nlines\n\nand a body", &[one]);
    history.file("100755", "text", b"1\n2\n3\n");
    history.line("D gone/and/back");
    history.line("R empty renamed");
    history.line("M 160000 1234567890123456789012345678901234567891 module");
    let side = history.commit("side", "Ann <a@a>", "side", &[one]);
    history.file("100644", "side", b"s\n");
    let ours = history.commit("main", "Ann <a@a>", "changes nothing", &[two, side]);
    let more = history.commit("side", "Dan <>", "more", &[side]);
    history.file("100644", "text", b"1\n2\n3\n4\n");
    let merge = history.commit("main", "Ann <a@a>", "merge", &[ours, more]);
    history.file("100755", "text", b"1\n2\n3\n4\n");
    history.file("100644", "side", b"s\n");
    history.file("100644", "gone/and/back", b"c\n");
    history.file("100644", "link", b"a file now\n");
    history.file("100644", "data", b"text at last\n");
    let mut last = history.commit("main", "Ann <a@a>", "", &[merge]);
    for turn in 0..15 {
        last = history.commit("main", "Ann <a@a>", &format!("turn {turn}"), &[last]);
        history.file("100755", "text", &b"x\n".repeat(turn));
    }
    history
}

fn replay(repository: &Path, store: &Path, more: &[&str]) -> example::Outcome<()> {
    let mut words = vec![OsString::from(repository), "--store".into(), store.into()];
    words.extend(more.iter().map(OsString::from));
    example::run(&example::Arguments::parse(words)?.expect("no help is asked for"))
}

/// The first file of a commit in the log; the rest is checked by the replays.
fn commit(subject: &str) -> Vec<u8> {
    let id = "0123456789012345678901234567890123456789";
    format!("commit\0{id}\0N\0m\x007\0{subject}\0").into_bytes()
}

fn events(bytes: &[u8]) -> example::Outcome<Vec<Event>> {
    let mut parser = Parser::new(bytes);
    let mut events = Vec::new();
    while let Some(event) = parser.event()? {
        events.push(event);
    }
    Ok(events)
}

#[test]
fn the_log_is_read_as_git_writes_it() {
    let bytes =
        [&commit("")[..], &commit("s"), b"\n1\t2\ta\tb\nc\0-\t-\t\xFF\0", &commit("commit")];
    let events = events(&bytes.concat()).expect("well-formed");
    let subjects: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Commit(Commit { subject, name, .. }) => Some((&subject[..], &name[..])),
            Event::Change(_) => None,
        })
        .collect();
    assert_eq!(subjects, [(&b""[..], &b"N"[..]), (b"s", b"N"), (b"commit", b"N")]);
    let text = Change { path: b"a\tb\nc".to_vec(), lines: Some((1, 2)) };
    let binary = Change { path: b"\xFF".to_vec(), lines: None };
    assert_eq!(events[2..4], [Event::Change(text), Event::Change(binary)]);
}

#[test]
fn what_is_no_log_is_refused() {
    let begun = commit("s");
    let cut: Vec<Vec<u8>> = (1..begun.len()).map(|at| begun[..at].to_vec()).collect();
    let behind = |bytes: &[u8]| [&begun[..], bytes].concat();
    let wrong = [&b"1\t1\ta\0"[..], b"commit\0not an id\0N\0m\x007\0s\0"].map(<[u8]>::to_vec);
    let lines = [&b"1\t-\ta\0"[..], b"1\ta\0", b"1\t1\t\0", b"x\ty\tz\0", b"1\t1\ta"].map(behind);
    for bytes in cut.into_iter().chain(wrong).chain(lines) {
        assert!(events(&bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn names_are_printable_and_differ() {
    let paths: [&[u8]; 7] = [b"a", b"a%00", b"a\0", b"%", b"\xE9", b"\xC3\xA9", b"a\n"];
    let mut names: Vec<_> = paths.iter().map(|path| layout::object_name(path)).collect();
    names.push(layout::object_name(&[b'x'; 1024]));
    names.push(layout::object_name(&[b'x'; 1025]));
    names.push(layout::object_name(&[b'x'; 1026]));
    assert!(names.iter().all(|name| name.len() <= 1024 && !name.contains(char::is_control)));
    assert_eq!(names[5], "\u{e9}");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10);
}

#[test]
fn every_kind_of_change_is_replayed_and_compared() {
    if !has_git() {
        return;
    }
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    every_kind().import(folder.path());
    let repository = example::git::Repository::open(folder.path()).unwrap();
    assert_eq!(repository.commits(), 20);
    let truth = Truth::of(&repository).unwrap();
    let count = |name: &str| truth.touches(name).map_or(0, <[_]>::len);
    let odd = "caf%E9 %0A%09%25";
    let names =
        ["text", "empty", "renamed", odd, "data", "gone/and/back", "link", "module", "side"];
    assert_eq!(names.map(count), [18, 2, 1, 1, 2, 3, 2, 2, 1]);
    assert_eq!(truth.names().count(), names.len());
    let lines = [("text", 14), (odd, 1), ("gone/and/back", 1), ("module", 1), ("renamed", 0)];
    assert!(lines.iter().all(|(name, lines)| truth.at_head(name) == AtHead::Lines(*lines)));
    let keys = truth.keys_after(truth.touches("text").unwrap(), 3);
    let value = |key: &[u8]| keys.get(key).map(|value| String::from_utf8_lossy(value));
    assert_eq!(value(b"lines").as_deref(), Some("4 4 0"));
    assert_eq!(value(&layout::author_key("B\u{f6}b".as_bytes(), b"b@b")).as_deref(), Some("1"));
    assert_eq!(value(&layout::subject_key(2)).as_deref(), Some("two lines"));

    replay(folder.path(), store.path(), &["--rounds", "3"]).unwrap();
    let opened = Store::open(store.path()).unwrap();
    let round = opened.namespace("round-2").unwrap();
    let data = round.open_by_name("data").unwrap();
    assert_eq!(data.get("binary").unwrap().as_deref(), Some(&b"2"[..]));
    drop((data, round));
    opened.close().unwrap();
    replay(folder.path(), store.path(), &["--rounds", "3"]).expect("a second time changes nothing");
}

#[test]
fn any_difference_from_git_is_an_error_that_names_it() {
    if !has_git() {
        return;
    }
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    every_kind().import(folder.path());
    let repository = example::git::Repository::open(folder.path()).unwrap();
    let truth = Truth::of(&repository).unwrap();
    let open = || example::options(Load::Small).open(store.path()).unwrap();
    example::fill(&repository, open(), 1).unwrap();
    let finish = || example::finish(store.path(), &truth, 1, Load::Small);
    let spoil = |name: &str, key: &[u8], value: Option<&[u8]>| -> Option<Vec<u8>> {
        let opened = open();
        let round = opened.namespace("round-1").unwrap();
        let mut object = round.open_by_name(name).unwrap();
        let before = object.get(key).unwrap().map(|value| value.to_vec());
        let commit = match value {
            Some(value) => object.put(key, value).unwrap(),
            None => object.delete(key).unwrap(),
        };
        commit.wait().unwrap();
        drop(object);
        opened.close().unwrap();
        before
    };
    let author = layout::author_key(b"Ann", b"a@a");
    let [subject, old] = [18, 8].map(layout::subject_key);
    for (name, key, value) in [
        ("text", layout::LINES, Some(&b"15 16 1"[..])),
        ("link", layout::TURNS, Some(b"1")),
        ("side", &author[..], Some(b"2")),
        ("text", &subject, None),
        ("text", &old, Some(b"turn 0")),
        ("data", layout::BINARY, None),
        ("side", b"extra", Some(b"")),
        ("none", layout::TURNS, Some(b"1")),
    ] {
        let before = spoil(name, key, value);
        let error = finish().expect_err("spoiled").to_string();
        assert!(error.contains(&format!("round-1: {name}: ")), "{error}");
        spoil(name, key, before.as_deref());
    }
    finish().expect("all is as it was");
    let opened = open();
    let round = opened.namespace("round-1").unwrap();
    round.delete(round.id_from_name("side")).unwrap().wait().unwrap();
    opened.close().unwrap();
    let error = finish().expect_err("an object is missing").to_string();
    assert!(error.contains("round-1: side: "), "{error}");
}

#[test]
fn files_as_of_dates_are_what_git_says_and_a_mass_deletion_is_undone() {
    if !has_git() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    every_kind().import(folder.path());
    replay(folder.path(), folder.path(), &["--check-time"]).unwrap();
}

#[test]
fn a_date_that_shows_another_commit_is_an_error() {
    if !has_git() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    every_kind().import(folder.path());
    let repository = example::git::Repository::open(folder.path()).unwrap();
    let truth = Truth::of(&repository).unwrap();
    let commits = example::time::commit_times(&repository).unwrap();
    assert_eq!((commits.len(), commits[0].1), (20, 1_000_001));
    let disk = example::time::replay(&repository, &commits).unwrap();
    let store = Store::options().threads(false).open_on(disk).unwrap();
    let round = store.namespace("round-1").unwrap();
    assert!(example::time::compare_dates(&round, &truth, &commits).is_ok());
    let mut late = commits;
    late.iter_mut().skip(1).for_each(|(_, time)| *time += 1);
    let error = example::time::compare_dates(&round, &truth, &late).unwrap_err().to_string();
    assert!(error.contains("as of 10000"), "{error}");
}

#[test]
fn a_shallow_clone_starts_at_its_boundary() {
    if !has_git() {
        return;
    }
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (origin, clone) = (folder.path().join("origin"), folder.path().join("clone"));
    std::fs::create_dir(&origin).unwrap();
    every_kind().import(&origin);
    let address = format!("file://{}", origin.display());
    let clone_name = clone.to_str().expect("a temporary folder has a plain name");
    let arguments = ["clone", "-q", "--no-checkout", "--depth", "3", &address, clone_name];
    git(folder.path(), &arguments);
    let repository = example::git::Repository::open(&clone).unwrap();
    assert_eq!(repository.commits(), 3);
    let truth = Truth::of(&repository).unwrap();
    assert_eq!(truth.touches("data").map(<[_]>::len), Some(1), "all is new at the boundary");
    replay(&clone, store.path(), &[]).unwrap();
}

#[test]
fn without_a_repository_or_a_commit_the_error_says_so() {
    if !has_git() {
        return;
    }
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let failure = |path: &Path| replay(path, store.path(), &[]).unwrap_err().to_string();
    assert!(failure(&folder.path().join("none")).contains("is no folder"));
    assert!(failure(folder.path()).contains("is in no git repository"));
    git(folder.path(), &["init", "-q"]);
    assert!(failure(folder.path()).contains("has no commits yet"));
}

#[test]
fn the_command_line_is_read_or_refused() {
    let parse = |words: &[&str]| example::Arguments::parse(words.iter().map(OsString::from));
    assert!(matches!(parse(&["--help"]), Ok(None)));
    assert!(matches!(parse(&["--kill", "x", "--rounds", "3"]), Ok(Some(_))));
    for words in [
        &["--kill", "--check-time"][..],
        &["--rounds"],
        &["--rounds", "0"],
        &["--what"],
        &["a", "b"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
}

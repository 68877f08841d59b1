//! The session in `docs/cli.md`: it is what the command prints on the store that the example
//! `git_history` leaves of a small repository.
//!
//! `DOSTORE_SESSION=write cargo test --features cli --test cli session` writes it anew.

use super::example::fill;
use super::example::git::Repository;
use super::help::words;
use super::stage::{call, options, write_out};
use dostore::disk::sim::SimDisk;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const BEGIN: &str = "```console\n";
const END: &str = "```\n";

/// Nine days before the calls are made.
const BEGINNING: u64 = 1_793_577_600_000_000;

fn git(folder: &Path, arguments: &[&str], input: &str) {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(folder).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{arguments:?}");
}

/// A commit in the language of `git fast-import`: its number, author, subject, and files.
fn commit(number: u32, author: &str, subject: &str, files: &[(&str, &str)]) -> String {
    let time = 1_793_000_000 + number * 3600;
    let mut text = format!("commit refs/heads/main\nmark :{number}\n");
    for role in ["author", "committer"] {
        writeln!(text, "{role} {author} <{author}@example.org> {time} +0000").unwrap();
    }
    writeln!(text, "data {}\n{subject}", subject.len()).unwrap();
    if number > 1 {
        writeln!(text, "from :{}", number - 1).unwrap();
    }
    for (path, content) in files {
        writeln!(text, "M 100644 inline {path}\ndata {}\n{content}", content.len()).unwrap();
    }
    text
}

/// A repository of two weeks, replayed week by week as it grew.
fn make(folder: &Path) {
    let repository = folder.join("repository");
    std::fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q"], "");
    git(&repository, &["symbolic-ref", "HEAD", "refs/heads/main"], "");
    let lines = |count: usize| "line\n".repeat(count);
    let first = [
        commit(1, "ada", "begin", &[("README.md", "hello\n"), ("src/main.rs", &lines(10))]),
        commit(2, "bob", "parse arguments", &[("src/main.rs", &lines(25))]),
        commit(3, "ada", "a library", &[("src/lib.rs", &lines(40)), ("src/main.rs", &lines(12))]),
    ];
    let second = [
        commit(4, "eve", "rewrite everything", &[("src/main.rs", "oops\n")]),
        commit(5, "ada", "say how to use it", &[("README.md", "hello\n\nuse it\n")]),
    ];
    let disk = SimDisk::new(7);
    disk.set_wall(BEGINNING);
    let mut stream = String::new();
    for week in [&first[..], &second[..]] {
        stream.push_str(&week.concat());
        git(&repository, &["fast-import", "--quiet", "--force"], &stream);
        let store = options().threads(false).open_on(disk.clone()).unwrap();
        fill(&Repository::open(&repository).unwrap(), store, 1).unwrap();
        disk.advance(Duration::from_hours(8 * 24));
    }
    write_out(&disk, &folder.join("data"));
}

/// The session with what the command prints now.
fn rerun(session: &str, store: &Path) -> String {
    let mut text = String::new();
    for line in session.lines().filter(|line| line.starts_with("$ ")) {
        let done = call(store, &words(line).iter().map(String::as_str).collect::<Vec<_>>());
        assert!(done.code <= 1 && done.errors.is_empty(), "{line}: {done:?}");
        let gap = if text.is_empty() { "" } else { "\n" };
        writeln!(text, "{gap}{line}").unwrap();
        let out = done.out.replace(store.to_str().unwrap(), "data");
        out.lines().for_each(|line| writeln!(text, "{}", line.trim_end()).unwrap());
    }
    text
}

#[test]
fn the_session_in_the_documents_is_what_the_command_prints() {
    if Command::new("git").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (session, after) = rest.split_once(END).unwrap();
    assert!(session.matches("$ dostore ").count() >= 6, "a session has commands");
    let now = rerun(session, &folder.path().join("data"));
    if std::env::var_os("DOSTORE_SESSION").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{now}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(session, now, "write it anew with DOSTORE_SESSION=write");
}

//! How git is asked: which repository, up to which commit, in which surroundings.
//!
//! Invariants:
//!   * No setting of the user and no variable of a surrounding git changes what a command prints.

use super::Outcome;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What settings could change in the output of the commands used here.
const SETTINGS: &[&str] = &[
    "color.ui=false",
    "diff.algorithm=myers",
    "i18n.logOutputEncoding=UTF-8",
    "log.diffMerges=separate",
    "log.follow=false",
    "log.mailmap=false",
    "log.showRoot=true",
    "log.showSignature=false",
];

/// What every command that compares trees is told.
pub const DIFF_OPTIONS: &[&str] = &[
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-relative",
    "--ignore-submodules=none",
    "--diff-algorithm=myers",
    "-O/dev/null",
    "-z",
];

/// A git that runs this program, as a hook does, must not lead it to another repository.
const FOREIGN: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_LITERAL_PATHSPECS",
];

/// A repository, and the commit whose history is replayed.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
    head: String,
    commits: u64,
}

impl Repository {
    /// The repository at `path`, at the commit that is checked out now.
    pub fn open(path: &Path) -> Outcome<Self> {
        if !path.is_dir() {
            return Err(format!("{} is no folder", path.display()).into());
        }
        ask(path, &["rev-parse", "--git-dir"])
            .map_err(|error| format!("{} is in no git repository: {error}", path.display()))?;
        let head = ask(path, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
            .map_err(|_| format!("the repository at {} has no commits yet", path.display()))?;
        Self::at(path, &head)
    }

    /// The repository at `path`, at the commit with this id.
    pub fn at(path: &Path, head: &str) -> Outcome<Self> {
        let commits = ask(path, &["rev-list", "--first-parent", "--count", head])?.parse()?;
        Ok(Self { path: path.to_owned(), head: head.to_owned(), commits })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the commit whose history is replayed.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Commits from the first one (in a shallow clone, from its boundary) to the last.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// A command of git in this repository, with its output to be read.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command(&self.path, arguments)
    }

    /// The first line that a command prints.
    pub fn ask(&self, arguments: &[&str]) -> Outcome<String> {
        ask(&self.path, arguments)
    }
}

fn command(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(path);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    for name in FOREIGN {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn ask(path: &Path, arguments: &[&str]) -> Outcome<String> {
    let output = command(path, arguments)
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("git cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?.trim_end().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("git {} failed ({}): {said}", arguments[0], output.status).into())
}

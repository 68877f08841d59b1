//! The verbs that change something: in this process where nobody has the store open, else in the
//! one that has it, through its admin socket.
//!
//! Invariants:
//!   * A verb that takes something away only says what it would do, unless it is told `--yes`.
//!   * What a verb has done it tells with the command that takes it back, where there is one.

pub mod backup;
pub mod bench;
pub mod compact;
pub mod delete;
pub mod fork;
pub mod moving;
mod preview;
mod preview_all;
pub mod restore;
pub mod scrub;
pub mod write;

use crate::bookmark::Bookmark;
use crate::cli::address::{Address, Who, quoted};
use crate::cli::call::{Call, fields};
use crate::cli::failure::Failure;
use crate::cli::place::Place;
use crate::cli::progress::measure;
use crate::cli::time::{machine, short};
use crate::ids::{Lsn, Timestamp};
use crate::store::admin::{self, Change, Operator, Progress, Reply, Request, Step, Target, Which};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;
use std::io::{self, Read};

/// Whether something is to be done, and not only shown.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Consent {
    /// Does it; without this, only what would be done is shown
    #[arg(short = 'y', long)]
    pub yes: bool,
}

/// Whoever waits at the terminal.
struct Waiting<'a> {
    bar: ProgressBar,
    stream: &'a mut dyn Read,
}

impl Operator for Waiting<'_> {
    fn hear(&mut self, progress: &Progress) -> bool {
        let Progress { looked_at, restored, failed, bytes, bytes_of, step } = *progress;
        if let Some(step) = step {
            let number = Step::ALL.iter().take_while(|before| **before != step).count() + 1;
            let (name, all) = (compact::word(step), Step::ALL.len());
            self.bar.set_message(format!("compacting: {name}, step {number} of {all}"));
        } else if bytes_of > 0 {
            measure(&self.bar, bytes_of);
            self.bar.set_position(bytes);
        } else {
            let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            self.bar.set_message(format!("{restored} of {looked_at} objects restored{failed}"));
        }
        true
    }

    fn stream(&mut self) -> &mut dyn Read {
        self.stream
    }
}

/// Has a request performed, whoever has the store open.
fn ask(call: &Call<'_>, what: &str, request: &Request) -> Result<Reply, Failure> {
    ask_with(call, &call.spinner(what), request, &mut io::empty())
}

/// The same with something that follows it, and that the bar counts.
fn ask_with(
    call: &Call<'_>,
    bar: &ProgressBar,
    request: &Request,
    stream: &mut dyn Read,
) -> Result<Reply, Failure> {
    call.believe("has the store opened for writing")?;
    let mut stream = bar.wrap_read(stream);
    let mut waiting = Waiting { bar: bar.clone(), stream: &mut stream };
    let done = admin::at(call.directory()?, request, &mut waiting);
    bar.finish_and_clear();
    Ok(done?)
}

/// What a request that changes an object has come to.
fn ask_change(call: &Call<'_>, what: &str, request: &Request) -> Result<Change, Failure> {
    match ask(call, what, request)? {
        Reply::Changed(change) => Ok(change),
        other => Err(unexpected(&other)),
    }
}

#[cold]
fn unexpected(reply: &Reply) -> Failure {
    let what = format!("the store's process answered something else: {reply:?}");
    Failure::Output(io::Error::other(what))
}

/// An object as a request names it. Asks a reader for what the beginning of an id means.
fn target(call: &Call<'_>, address: &Address) -> Result<Target, Failure> {
    let object = match &address.who {
        Some(Who::Name(name)) => Which::Name(name.clone()),
        Some(Who::Hex(hex)) if hex.len() == 64 => Which::Id(hex.clone()),
        _ => Which::Id(Place::find(&call.open()?, address)?.id.to_string()),
    };
    Ok(Target { namespace: address.space.clone(), object })
}

/// A command line that a shell reads back, on the same store.
pub fn command(call: &Call<'_>, words: &[&str]) -> String {
    let mut line = "dostore".to_owned();
    if let Some(folder) = &call.globals.directory {
        let _ = write!(line, " -C {}", quoted(&folder.to_string_lossy()));
    }
    for word in words {
        line.push(' ');
        line.push_str(&quoted(word));
    }
    line
}

/// The command that takes a change back.
fn undo_of(call: &Call<'_>, object: &str, change: &Change) -> Option<String> {
    let undo = change.undo.as_deref()?;
    Some(command(call, &["restore", object, "--to", undo, "--yes"]))
}

/// What a change has come to, for people: as which commit, and how it is taken back.
fn done_text(call: &Call<'_>, object: &str, what: &str, change: &Change) -> String {
    let as_commit = format!("{what} as commit {}{}", short(Lsn(change.lsn)), fenced(change));
    match undo_of(call, object, change) {
        Some(undo) => format!("{as_commit}\nundo:  {undo}"),
        None => format!("{as_commit}; there is no way back"),
    }
}

/// That somebody had the object open.
fn fenced(change: &Change) -> &'static str {
    if change.fenced { "\n  its process had it open, and has lost its right to it" } else { "" }
}

/// The same, for programs.
fn done_fields(call: &Call<'_>, object: &str, change: &Change) -> Map<String, Json> {
    fields([
        ("done", json!(true)),
        ("lsn", json!(change.lsn)),
        ("time", json!(machine(Timestamp(change.time)))),
        ("fenced", json!(change.fenced)),
        ("undo", json!(change.undo)),
        ("undo_command", json!(undo_of(call, object, change))),
    ])
}

/// The fields that say of which object a document is.
fn object_fields(target: &Target) -> Map<String, Json> {
    let (name, id) = match &target.object {
        Which::Name(name) => (Some(name), None),
        Which::Id(id) => (None, Some(id)),
    };
    fields([("ns", json!(target.namespace)), ("name", json!(name)), ("id", json!(id))])
}

/// The last line of what was only shown.
fn dry_run(call: &Call<'_>, words: &[&str]) -> String {
    format!("dry run; to do it:  {}", command(call, &[words, &["--yes"]].concat()))
}

/// The end of a moment's name for people: its commit and time.
fn moment_text(call: &Call<'_>, bookmark: &Bookmark, time: Timestamp) -> String {
    let commit = short(bookmark.lsn());
    match time {
        Timestamp(0) => format!("commit {commit}, before its first commit"),
        time => {
            let (at, ago) = (call.calendar.show(time), call.calendar.distance(time));
            format!("commit {commit}, its last change {at}, {ago}")
        }
    }
}

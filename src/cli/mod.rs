//! The `dostore` command: looks into a store, also while another process has it open.
//!
//! Read `arguments` first: it lists the verbs, each a file of its own. `call` is what they print
//! and read with, `address`, `place` and `time` are how people point at things, `tree`, `value` and
//! `v8` how values are shown.
//!
//! Invariants:
//!   * Nothing here takes a store's lock or changes a byte of it, but for verbs that say so.
//!   * Data goes to the output and nothing else does; what went wrong goes to the errors.
//!   * A reader of the output that goes away early is no failure.
//!   * Fields of JSON documents keep their names and meanings; new ones may come.

mod address;
mod alarms;
mod arguments;
mod bigkeys;
mod bookmark;
mod call;
mod change;
mod debug;
mod diff;
mod failure;
mod figures;
mod get;
mod history;
mod inspect;
mod keys;
mod listing;
mod ls;
mod place;
mod progress;
mod salvage;
mod segments;
mod shell;
mod show;
mod stat;
mod summary;
mod table;
mod tail;
mod then;
mod time;
mod top;
mod tree;
mod v8;
mod value;
mod verify;

use crate::ids::Timestamp;
use arguments::Arguments;
use call::Call;
use clap::Parser;
use failure::{DAMAGED, DONE, Failure, INTERRUPTED, USAGE};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use table::Paper;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let always = Arc::new(AtomicBool::new(true));
    let interrupt = signal_hook::consts::SIGINT;
    // Without it an interrupt ends the process as well, only less politely.
    let _ = signal_hook::flag::register_conditional_shutdown(interrupt, INTERRUPTED.into(), always);
    let is_seen = io::stdout().is_terminal();
    let paper = Paper {
        is_coloured: is_seen && std::env::var_os("NO_COLOR").is_none(),
        width: is_seen.then(width).flatten(),
    };
    let terminal = Terminal { paper, is_watched: io::stderr().is_terminal() };
    let stage = Stage { out: &mut io::stdout().lock(), errors: &mut io::stderr(), now: None };
    ExitCode::from(answer(std::env::args_os(), stage, terminal))
}

/// Characters of a line of the terminal, if it says how many.
fn width() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|told| told.parse().ok());
    let asked = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    told.or_else(asked).filter(|width| *width > 0)
}

/// What of a call goes to a terminal.
#[derive(Clone, Copy, Debug, Default)]
struct Terminal {
    /// The output.
    paper: Paper,
    /// The errors, beside which can be shown how far long work has come.
    is_watched: bool,
}

/// Where a command prints to.
#[expect(missing_debug_implementations, reason = "what is written to may have none")]
pub struct Stage<'a> {
    /// What was asked for.
    pub out: &'a mut dyn Write,
    /// What went wrong.
    pub errors: &'a mut dyn Write,
    /// The present time; the clock's if there is none.
    pub now: Option<Timestamp>,
}

/// Runs a command inside this process: its words, the first of which is the command's own name.
/// Says its exit code.
pub fn call(words: impl IntoIterator<Item = impl Into<OsString>>, stage: Stage<'_>) -> u8 {
    answer(words.into_iter().map(Into::into), stage, Terminal::default())
}

fn answer(words: impl Iterator<Item = OsString>, stage: Stage<'_>, terminal: Terminal) -> u8 {
    let words: Vec<_> = words.collect();
    let mut arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_wrong = error.use_stderr();
            let text = error.render();
            let mut text =
                if terminal.paper.is_coloured { text.ansi().to_string() } else { text.to_string() };
            if is_wrong && let Some(verb) = verb_meant(&words) {
                if asks_for_the_past(&verb, &words) {
                    let _ = write!(text, "\n{}\n", no_past(&verb));
                }
                let examples = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                let _ = write!(text, "\n{examples}\n");
            }
            let to = if is_wrong { stage.errors } else { stage.out };
            // Nobody is left to tell if this fails.
            let _ = to.write_all(text.as_bytes());
            return if is_wrong { USAGE } else { DONE };
        }
    };
    let folder = &mut arguments.globals.directory;
    *folder = folder.take().or_else(told_folder);
    let mut call = Call::new(arguments.globals, stage, terminal);
    let done = arguments.verb.run(&mut call);
    // What was printed before a failure is of use all the same.
    let ended = call.end();
    let seen = |code| if call.is_hidden() { DAMAGED } else { code };
    let failure = match (done, ended) {
        // What was found out holds, whoever reads it to its end.
        (Ok(code), Err(failure)) if failure.is_deaf() => return seen(code),
        (Err(failure), _) if failure.is_deaf() => return seen(DONE),
        (Err(failure), _) | (Ok(_), Err(failure)) => failure,
        (Ok(code), Ok(())) => return seen(code),
    };
    if failure.code() != DONE {
        call.tell(&failure.to_string());
    }
    failure.code()
}

/// Whether a call asks a verb for the past that has none.
fn asks_for_the_past(verb: &clap::Command, words: &[OsString]) -> bool {
    let is_at = |word: &OsString| word.to_string_lossy().split('=').next() == Some("--at");
    let has_past = verb.get_arguments().any(|argument| argument.get_long() == Some("at"));
    !has_past && words.iter().any(is_at)
}

/// Why a verb takes no --at.
fn no_past(verb: &clap::Command) -> &'static str {
    match verb.get_name() {
        "verify" | "salvage" | "segments" | "debug" => {
            "it looks at files, which are as they are and have no past"
        }
        "top" => "it shows what comes; `tail --at` shows what came before",
        "diff" => "its moments are FROM..TO",
        "bookmark" => "its moment stands behind the object",
        "restore" => "its moment is --to",
        _ => "it does something now, and nothing of it is about the past",
    }
}

/// The store's folder as the environment says it.
fn told_folder() -> Option<PathBuf> {
    std::env::var_os("DOSTORE_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// The verb that a wrong call means.
fn verb_meant(words: &[OsString]) -> Option<clap::Command> {
    let command = described();
    let verbs: Vec<_> = command.get_subcommands().collect();
    let meant = |word: &OsString| {
        let word = word.to_str().filter(|word| !word.is_empty())?;
        let exactly = verbs.iter().find(|verb| verb.get_name() == word);
        let mut fitting = verbs.iter().filter(|verb| verb.get_name().starts_with(word));
        exactly.or_else(|| fitting.next().filter(|_| fitting.next().is_none()))
    };
    words.iter().skip(1).find_map(meant).map(|verb| (*verb).clone())
}

/// The command line as it is described, for whoever prints it.
fn described() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Refuses what cannot be: both of two ways to say the same.
fn usage(what: impl Into<String>) -> Failure {
    Failure::Usage(what.into())
}

//! The verbs and what they have in common, as the command line is read.
//!
//! A verb is a file of its own with its arguments, its examples and a function that does it; here
//! it is a line of [`Verb`] and a line of [`Verb::run`].

use super::call::{Call, Globals};
use super::change::{backup, bench, compact, delete, fork, moving, restore, scrub, write};
use super::failure::{EXIT_CODES, Outcome};
use super::{
    alarms, bigkeys, bookmark, debug, diff, get, history, inspect, keys, ls, salvage, segments,
    shell, show, stat, tail, top, verify,
};
use clap::{Parser, Subcommand};

const ABOUT: &str = "\
Objects are addressed as NS/NAME or NS/~HEX, keys as NS/NAME:KEY, and a moment of either with @TIME
behind it: rooms/lobby:topic@-15m. Verbs may be cut short: `dostore ins`.

Examples:
  dostore -C data inspect
  DOSTORE_DIR=data dostore ls";

/// Looks into a store, also while another process has it open, and puts it right
#[derive(Debug, Parser)]
#[command(name = "dostore", version, infer_subcommands = true, arg_required_else_help = true)]
#[command(after_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// What every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Inspect(inspect::Arguments),
    Stat(stat::Arguments),
    Ls(ls::Arguments),
    Keys(keys::Arguments),
    Get(get::Arguments),
    Alarms(alarms::Arguments),
    Bigkeys(bigkeys::Arguments),
    History(history::Arguments),
    Show(show::Arguments),
    Diff(diff::Arguments),
    Bookmark(bookmark::Arguments),
    Tail(tail::Arguments),
    Top(top::Arguments),
    Verify(verify::Arguments),
    Salvage(salvage::Arguments),
    Segments(segments::Arguments),
    Debug(debug::Arguments),
    Restore(restore::Arguments),
    Undo(restore::Undo),
    Fork(fork::Arguments),
    Put(write::Put),
    Rm(write::Rm),
    Delete(delete::Delete),
    Purge(delete::Purge),
    Backup(backup::Arguments),
    Dump(moving::Dump),
    Load(moving::Load),
    Compact(compact::Arguments),
    Scrub(scrub::Arguments),
    Bench(bench::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
}

impl Verb {
    /// Does it.
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        match self {
            Self::Inspect(arguments) => arguments.run(call),
            Self::Stat(arguments) => arguments.run(call),
            Self::Ls(arguments) => arguments.run(call),
            Self::Keys(arguments) => arguments.run(call),
            Self::Get(arguments) => arguments.run(call),
            Self::Alarms(arguments) => arguments.run(call),
            Self::Bigkeys(arguments) => arguments.run(call),
            Self::History(arguments) => arguments.run(call),
            Self::Show(arguments) => arguments.run(call),
            Self::Diff(arguments) => arguments.run(call),
            Self::Bookmark(arguments) => arguments.run(call),
            Self::Tail(arguments) => arguments.run(call),
            Self::Top(arguments) => arguments.run(call),
            Self::Verify(arguments) => arguments.run(call),
            Self::Salvage(arguments) => arguments.run(call),
            Self::Segments(arguments) => arguments.run(call),
            Self::Debug(arguments) => arguments.run(call),
            Self::Restore(arguments) => arguments.run(call),
            Self::Undo(arguments) => arguments.run(call),
            Self::Fork(arguments) => arguments.run(call),
            Self::Put(arguments) => arguments.run(call),
            Self::Rm(arguments) => arguments.run(call),
            Self::Delete(arguments) => arguments.run(call),
            Self::Purge(arguments) => arguments.run(call),
            Self::Backup(arguments) => arguments.run(call),
            Self::Dump(arguments) => arguments.run(call),
            Self::Load(arguments) => arguments.run(call),
            Self::Compact(arguments) => arguments.run(call),
            Self::Scrub(arguments) => arguments.run(call),
            Self::Bench(arguments) => arguments.run(call),
            Self::Completions(arguments) => arguments.run(call),
            Self::Man(arguments) => arguments.run(call),
        }
    }
}

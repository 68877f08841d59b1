//! The `dostore` command: looks at a store, also while another process has it open.
//!
//! Exit codes: 0 all is well, 1 failed, 2 wrong usage, 3 not found, 4 damage found, 5 in use by
//! another, 6 outside the retained history. Every JSON document names its schema.
//!
//! Invariants:
//!   * Nothing here changes a byte of a store or takes its lock.
//!   * A reader of the output that goes away early is no failure.

mod show;

use crate::disk::real::RealReadDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::{Depth, summary, verify_to};
use clap::{Parser, Subcommand};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const DAMAGED: u8 = 4;
const IN_USE: u8 = 5;
const OUTSIDE_HISTORY: u8 = 6;

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well        3  not found           6  outside the retained history
  1  failed             4  damage found
  2  wrong usage        5  in use by another process";

const EXAMPLES: &str = "\
Examples:
  dostore -C data inspect
  DOSTORE_DIR=data dostore verify --deep";

const INSPECT_EXAMPLES: &str = "\
Examples:
  dostore -C data inspect
  dostore -C data inspect --json";

const VERIFY_EXAMPLES: &str = "\
Examples:
  dostore -C data verify
  dostore -C data verify --deep --json";

/// Looks at a store, also while another process has it open. Takes no lock and writes nothing.
#[derive(Debug, Parser)]
#[command(name = "dostore", version, infer_subcommands = true, arg_required_else_help = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Arguments {
    /// The store's folder
    #[arg(short = 'C', long = "directory", env = "DOSTORE_DIR", value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a store holds and where its bytes are
    ///
    /// Objects are counted as of the last checkpoint; commits behind it are counted beside them.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect {
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Checks every structure of a store against its checksums and against every other
    ///
    /// Reports all that is wrong and exits with 4 if anything is. Beside a writer the log is
    /// checked as far as it is shown to be durable.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// Reads pages too that nothing needs any more
        #[arg(long)]
        deep: bool,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_wrong = error.use_stderr();
            // Nobody is left to tell if this fails.
            let _ = error.print();
            return if is_wrong { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let Some(directory) = &arguments.directory else {
        complain("say which store: -C DIR, or DOSTORE_DIR in the environment");
        return ExitCode::from(USAGE);
    };
    let done = match arguments.command {
        Command::Inspect { json } => inspect(directory, json),
        Command::Verify { deep, json } => verify(directory, deep, json),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&show::error(&error));
            ExitCode::from(exit_code(error.kind()))
        }
    }
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Corrupt => DAMAGED,
        ErrorKind::Locked | ErrorKind::Busy => IN_USE,
        ErrorKind::NotRetained => OUTSIDE_HISTORY,
        _ => FAILED,
    }
}

fn open(directory: &Path) -> Result<RealReadDisk> {
    RealReadDisk::open(directory).map_err(|cause| {
        let what = format!("opening {}", directory.display());
        match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Error::new(ErrorKind::NotFound, "store.missing", what).caused_by(cause)
            }
            _ => Error::io(what, cause),
        }
    })
}

fn inspect(directory: &Path, json: bool) -> Result<ExitCode> {
    let summary = summary(open(directory)?)?;
    print(&if json { show::summary_json(&summary) } else { show::summary(&summary) })?;
    Ok(ExitCode::SUCCESS)
}

fn verify(directory: &Path, deep: bool, json: bool) -> Result<ExitCode> {
    let disk = open(directory)?;
    if crate::manifest::read(&disk).is_ok_and(|manifest| manifest.is_none()) {
        let what = format!("there is no store in {}", directory.display());
        return Err(Error::new(ErrorKind::NotFound, "store.missing", what));
    }
    let depth = if deep { Depth::Everything } else { Depth::Live };
    let report = verify_to(disk, depth);
    let is_coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(&if json { show::report_json(&report) } else { show::report(&report, is_coloured) })?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

/// Prints to the standard output; whoever stops reading early has read enough.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("writing the output", cause))
        }
        _ => Ok(()),
    }
}

fn complain(what: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(io::stderr(), "dostore: {what}");
}

//! `verify`: every structure against its checksums and against every other.

use super::call::{Call, Format, check_readable};
use super::change::command;
use super::failure::{DAMAGED, DONE, Outcome};
use super::progress::Watched;
use super::summary::{report, report_fields};
use crate::disk::ReadDisk;
use crate::inspect::{Depth, Verdict, is_there, verify_watched};
use clap::Args;
use std::fmt::Write;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  dostore verify
  dostore verify --deep --json";

/// Checks every structure of a store against its checksums and against every other
///
/// Reports all that is wrong and exits with 4 if anything is. Beside a writer the log is checked as
/// far as it is shown to be durable.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Reads pages too that nothing needs any more
    #[arg(long)]
    deep: bool,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
        let disk = call.disk()?;
        if !is_there(&disk)? {
            return Err(call.no_store());
        }
        check_readable(&disk)?;
        let depth = if self.deep { Depth::Everything } else { Depth::Live };
        let bar = call.spinner("verifying");
        let disk: Arc<dyn ReadDisk> = Arc::new(disk);
        let found = verify_watched(&disk, depth, &Watched(bar.clone()));
        bar.finish_and_clear();
        let mut text = report(call, &found);
        if found.verdict() == Verdict::Damaged {
            let salvage = command(call, &["salvage", "-o", "NEW"]);
            let _ = write!(text, "\nwhat can be had of it goes into a new store:  {salvage}");
        }
        call.document("verification", report_fields(&found), &text)?;
        Ok(if found.is_clean() { DONE } else { DAMAGED })
    }
}

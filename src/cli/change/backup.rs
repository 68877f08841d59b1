//! `backup`: a copy of the store as of one commit.

use super::restore::LAYOUTS;
use super::{ask, unexpected};
use crate::cli::call::{Call, fields};
use crate::cli::failure::{DAMAGED, DONE, Failure, Outcome};
use crate::cli::figures::{bytes, count};
use crate::cli::time::{machine, short};
use crate::cli::usage;
use crate::ids::{Lsn, Timestamp};
use crate::store::admin::{Reply, Request};
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dostore backup copies/monday
  dostore backup copies/tuesday --copy --verify";

/// Makes a folder a backup of the store as of one commit
///
/// Again and again into the same folder: only what is new is copied. On one file system files are
/// shared with the store, unless --copy is given. What comes out is a store.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The folder; its parent must be there
    folder: PathBuf,
    /// Shares no file with the store
    #[arg(long)]
    copy: bool,
    /// Verifies all of it when it is complete; exits with 4 if there is damage
    #[arg(long)]
    verify: bool,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let folder = std::path::absolute(&self.folder).map_err(Failure::Output)?;
        let Some(path) = folder.to_str().map(str::to_owned) else {
            return Err(usage("a backup goes to a folder whose path is UTF-8"));
        };
        let request = Request::Backup { path: path.clone(), verify: self.verify, copy: self.copy };
        let made = match ask(call, "making a backup", &request)? {
            Reply::BackedUp(made) => made,
            other => return Err(unexpected(&other)),
        };
        let commit = short(Lsn(made.lsn));
        let mut text = format!(
            "backup {} as of commit {commit}, {}\n  files: {} kept, {} shared, {} copied, {}",
            folder.display(),
            call.calendar.show(Timestamp(made.time)),
            made.kept,
            made.linked,
            made.copied,
            bytes(made.copied_bytes)
        );
        if let Some(faults) = made.faults {
            let _ = write!(text, "\n  verified: {}", count(faults, "fault"));
        }
        let document = fields([
            ("folder", json!(path)),
            ("lsn", json!(made.lsn)),
            ("time", json!(machine(Timestamp(made.time)))),
            ("files_kept", json!(made.kept)),
            ("files_shared", json!(made.linked)),
            ("files_copied", json!(made.copied)),
            ("bytes_copied", json!(made.copied_bytes)),
            ("faults", json!(made.faults)),
        ]);
        call.document("backup", document, &text)?;
        Ok(if made.faults.is_some_and(|faults| faults > 0) { DAMAGED } else { DONE })
    }
}

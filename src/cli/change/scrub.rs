//! `scrub`: all files read to find damage, and what history has of it rebuilt.

use super::restore::LAYOUTS;
use super::{ask, unexpected};
use crate::cli::call::{Call, fields};
use crate::cli::failure::{DAMAGED, DONE, Outcome};
use crate::cli::figures::bytes;
use crate::store::admin::{Reply, Request, Scrubbed};
use clap::Args;
use serde_json::json;
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  dostore scrub
  dostore scrub --json";

/// Reads all files to find damage, and rebuilds pages of which history has the content
///
/// Tells of each damage what became of it, and exits with 4 if some is left that somebody needs:
/// `dostore verify` says whom it concerns.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

impl Arguments {
    #[expect(clippy::unused_self, reason = "every verb is called the same way")]
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let found = match ask(call, "scrubbing", &Request::Scrub)? {
            Reply::Scrubbed(found) => found,
            other => return Err(unexpected(&other)),
        };
        let document = fields([
            ("files", json!(found.files)),
            ("bytes", json!(found.bytes)),
            ("untold", json!(found.untold)),
            ("items", json!(found.damages)),
        ]);
        call.document("scrub", document, &told(&found))?;
        Ok(if found.has_losses { DAMAGED } else { DONE })
    }
}

fn told(found: &Scrubbed) -> String {
    let Scrubbed { files, damages, untold, .. } = found;
    let mut text = format!("{files} files read, {}", bytes(found.bytes));
    if damages.is_empty() {
        text.push_str("; nothing is damaged");
    }
    for damage in damages {
        let _ = write!(text, "\n{:<8} {}", damage.fate, damage.what);
        if let Some(why) = &damage.why {
            let _ = write!(text, "\n         not rebuilt: {why}");
        }
    }
    if *untold > 0 {
        let _ = write!(text, "\nand {untold} more");
    }
    text
}

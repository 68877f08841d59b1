//! `compact`: one round of what a store does in the background.

use super::restore::LAYOUTS;
use super::{ask, unexpected};
use crate::cli::call::{Call, fields};
use crate::cli::failure::Outcome;
use crate::cli::figures::bytes;
use crate::store::admin::{Reply, Request, Step};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore compact
  dostore compact --json";

/// Does one round of what a store does in the background
///
/// A checkpoint, a cleaning, a merge, an expiry. A store does all of it by itself while a process
/// has it open; this is for one that was closed for long, and for whoever wants it now. Files that
/// were replaced stay for readers for a minute in a store that is open.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

/// What a step is called.
pub fn word(step: Step) -> &'static str {
    match step {
        Step::Checkpoint => "checkpoint",
        Step::Clean => "cleaning",
        Step::Merge => "merge",
        Step::Expire => "expiry",
    }
}

impl Arguments {
    #[expect(clippy::unused_self, reason = "every verb is called the same way")]
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let round = match ask(call, "compacting", &Request::Compact)? {
            Reply::Compacted(round) => round,
            other => return Err(unexpected(&other)),
        };
        let steps: Vec<_> = round.steps.iter().map(|step| word(*step)).collect();
        let did = if steps.is_empty() { "nothing to do".to_owned() } else { steps.join(", ") };
        let [before, after] = round.bytes.map(bytes);
        let document = fields([
            ("steps", json!(round.steps)),
            ("bytes_before", json!(round.bytes[0])),
            ("bytes_after", json!(round.bytes[1])),
        ]);
        call.document("compaction", document, &format!("{did}\n  files: {before} -> {after}"))
    }
}

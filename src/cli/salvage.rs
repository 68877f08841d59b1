//! `salvage`: what can be had of a damaged store, into a new one.

use super::call::{Call, Format, check_readable, fields};
use super::failure::{DAMAGED, DONE, Failure, Outcome};
use super::progress::Watched;
use super::summary::key_range;
use super::usage;
use crate::disk::Disk;
use crate::disk::real::{RealDisk, RealReadDisk};
use crate::inspect::is_there;
use crate::inspect::salvage::{Loss, Losses, Salvaged};
use crate::store::Store;
use crate::store::transfer::SalvageOptions;
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  dostore salvage -o fresh
  dostore salvage -o fresh --doubtful
  dostore salvage -o fresh --json";

/// Puts everything that is proven of a damaged store into a new one
///
/// The damaged store is only read. What is lost and what is doubtful is told by object and key
/// range; exits with 4 if there is any. History stays behind.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The new store's folder, in which there must be no store
    #[arg(short, long = "output", value_name = "DIR")]
    output: PathBuf,
    /// Puts in what verifies by itself and may be out of date, too
    #[arg(long)]
    doubtful: bool,
    /// What a namespace is called of which the store has lost the name
    #[arg(long, value_name = "NUMBER=NAME[:KEY]")]
    namespace: Vec<String>,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
        let options = self.options()?;
        let disk = call.disk()?;
        if !is_there(&disk)? {
            return Err(call.no_store());
        }
        check_readable(&disk)?;
        let from = call.directory()?.to_owned();
        self.check_output(call)?;
        let store = Store::options().open(&self.output)?;
        let bar = call.spinner("salvaging");
        let salvaged = store.salvage(from, options.watch(Arc::new(Watched(bar.clone()))));
        bar.finish_and_clear();
        let closed = store.close();
        let salvaged = salvaged?;
        closed?;
        call.document("salvage", salvaged_fields(&salvaged), &salvaged.to_string())?;
        Ok(if salvaged.is_whole() { DONE } else { DAMAGED })
    }

    fn options(&self) -> Result<SalvageOptions, Failure> {
        let mut options = SalvageOptions::new().doubtful(self.doubtful);
        for told in &self.namespace {
            let parts =
                told.split_once('=').and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
            let Some((number, rest)) = parts else {
                return Err(usage(format!("{told:?} is not NUMBER=NAME, as 1=rooms")));
            };
            let (name, key) = match rest.split_once(':') {
                Some((name, key)) => (name, Some(key)),
                None => (rest, None),
            };
            options = options.namespace(number, name, key);
        }
        Ok(options)
    }

    /// Nothing is written where a store is, least of all into the damaged one.
    fn check_output(&self, call: &Call<'_>) -> Result<(), Failure> {
        let damaged = RealDisk::open(call.directory()?);
        let is_inside = damaged.and_then(|disk| disk.holds(&self.output)).unwrap_or(true);
        let has_store = match RealReadDisk::open(&self.output) {
            Ok(disk) => is_there(&disk)?,
            Err(_) => false,
        };
        if is_inside || has_store {
            let what = format!("{} has a store in it; say a new folder", self.output.display());
            return Err(usage(what));
        }
        Ok(())
    }
}

fn salvaged_fields(salvaged: &Salvaged) -> Map<String, Value> {
    let behind = salvaged.behind_damage.map(
        |(first, last, commits)| json!({ "first": first.0, "last": last.0, "commits": commits }),
    );
    fields([
        ("store", json!(salvaged.store.to_string())),
        ("whole", json!(salvaged.is_whole())),
        ("position", json!(salvaged.position.0)),
        ("namespaces", json!(salvaged.namespaces)),
        ("objects", json!(salvaged.objects)),
        ("entries", json!(salvaged.entries)),
        ("commits", json!(salvaged.commits)),
        ("lost", losses(&salvaged.lost)),
        ("lost_left_out", json!(salvaged.lost.left_out)),
        ("doubtful", losses(&salvaged.doubtful)),
        ("doubtful_left_out", json!(salvaged.doubtful.left_out)),
        ("log_damage", json!(salvaged.log_damage)),
        ("behind_damage", json!(behind)),
        ("notes", json!(salvaged.notes)),
    ])
}

fn losses(losses: &Losses) -> Value {
    let loss = |loss: &Loss| {
        json!({
            "namespace": loss.object.namespace.0,
            "id": loss.object.id.to_string(),
            "called": loss.called,
            "keys": loss.keys.as_ref().map(key_range),
            "what": loss.what,
        })
    };
    losses.kept.iter().map(loss).collect()
}

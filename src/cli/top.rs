//! `top`: which objects commit most, as it happens.

use super::call::{Call, Format};
use super::failure::{DONE, Outcome};
use super::figures::{bar, bytes, digits};
use super::listing::{LAYOUTS, Listing};
use super::place::Place;
use super::table::Columns;
use super::tail::{Wanted, follow};
use super::time::span;
use crate::ids::ObjectId;
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::reader_commits::StoreCommit;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;

const EXAMPLES: &str = "\
Examples:
  dostore top --interval 100ms --rounds 1
  dostore top --interval 100ms --rounds 2 --limit 5";

const COLUMNS: Columns = &["OBJECT", "-COMMITS/s", "?-BYTES/s", "?SHARE"];

/// Commits of one look that are counted at most.
const COUNTED_MAX: usize = 1_000_000;
/// Characters of the longest bar.
const BAR_WIDTH: usize = 20;
/// Clears a terminal.
const CLEAR: &[u8] = b"\x1B[2J\x1B[H";

/// Shows which objects commit most, again and again until it is interrupted
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The time between two looks
    #[arg(long, value_name = "SPAN", default_value = "2s")]
    interval: String,
    /// Looks so many times, and ends
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Shows so many objects at most
    #[arg(long, value_name = "N", default_value_t = 15)]
    limit: usize,
}

/// What an object committed in one round.
struct Load {
    space: ReaderNamespace,
    id: ObjectId,
    commits: u64,
    bytes: u64,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        let is_once = self.rounds == Some(1);
        call.allow(if is_once { LAYOUTS } else { &[Format::Table, Format::Jsonl] })?;
        let interval = span(&self.interval)?.max(1000);
        let mut reader = call.open()?;
        let mut seen = reader.position();
        let mut round = 0;
        while self.rounds.is_none_or(|rounds| round < rounds) {
            call.sleep(interval)?;
            let found = follow(call, &mut reader, &Wanted::All, (seen, COUNTED_MAX))?;
            seen = reader.position().max(seen);
            self.show(call, &reader, loads(&found.commits), interval)?;
            round += 1;
        }
        Ok(DONE)
    }

    fn show(
        &self,
        call: &mut Call<'_>,
        reader: &Reader,
        mut loads: Vec<Load>,
        interval: u64,
    ) -> Outcome {
        let rate = |number: u64| number.saturating_mul(1_000_000) / interval;
        let all: u64 = loads.iter().map(|load| load.commits).sum();
        let all_bytes: u64 = loads.iter().map(|load| load.bytes).sum();
        loads.sort_by_key(|load| std::cmp::Reverse((load.commits, load.bytes)));
        if call.format() == Format::Table {
            if call.paper.is_coloured {
                call.bytes(CLEAR)?;
            }
            let now = call.calendar.show(call.calendar.now);
            let (commits, bytes) = (digits(rate(all)), bytes(rate(all_bytes)));
            let number = digits(loads.len() as u64);
            call.line(&format!("{now}  {commits} commits/s  {bytes}/s  {number} objects"))?;
        }
        let mut listing = Listing::new("top", COLUMNS, reader);
        for load in loads.into_iter().take(self.limit) {
            let place = Place::of(load.space, load.id)?;
            let share = bar(load.commits, all, BAR_WIDTH);
            let (commits, size) = (digits(rate(load.commits)), bytes(rate(load.bytes)));
            let cells = vec![place.address(), commits, size, share];
            let fields = [
                ("interval_us", json!(interval)),
                ("commits", json!(load.commits)),
                ("bytes", json!(load.bytes)),
            ];
            listing.row(call, cells, &place.row(fields))?;
        }
        let foot = call.position_text(reader.position(), reader.time());
        listing.end(call, None, &foot)?;
        Ok(DONE)
    }
}

fn loads(commits: &[StoreCommit]) -> Vec<Load> {
    let mut found: BTreeMap<ObjectId, Load> = BTreeMap::new();
    for StoreCommit { namespace, object, entry } in commits {
        let fresh = || Load { space: namespace.clone(), id: *object, commits: 0, bytes: 0 };
        let load = found.entry(*object).or_insert_with(fresh);
        load.commits += 1;
        load.bytes += entry.bytes;
    }
    found.into_values().collect()
}

//! `history`: the commits of an object.

use super::address::Address;
use super::call::{Call, Format, Past};
use super::failure::{DONE, Failure, Outcome};
use super::figures::{bytes, count, digits, sparkline};
use super::get::object_fields;
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, moment};
use super::time::{When, machine, short};
use crate::bookmark::Bookmark;
use crate::error::ErrorKind;
use crate::ids::{Lsn, Timestamp};
use crate::store::history::{History, HistoryEntry};
use crate::store::reader::Reader;
use clap::Args;
use serde_json::{Value as Json, json};
use std::ops::Bound;

const EXAMPLES: &str = "\
Examples:
  dostore history rooms/lobby
  dostore history rooms/lobby -n 4
  dostore history rooms/lobby --since -1h --json
  dostore history rooms/lobby --restores";

const COLUMNS: &[&str] = &["BOOKMARK", "TIME", "AGO", "-PUT", "-DEL", "-BYTES", "NOTE"];

/// Columns of the picture.
const PICTURE: u64 = 60;

/// Shows the commits of an object, the newest first
///
/// The bookmarks name the object right after each commit, in short; --json has them whole. A
/// picture shows when commits were made. What was deleted, or never had a name, can be asked for by
/// its id: NS/~HEX.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME or NS/~HEX
    object: String,
    /// Shows so many commits at most
    #[arg(short = 'n', long = "limit", value_name = "N")]
    limit: Option<usize>,
    /// Shows commits behind this time or bookmark
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Shows restorations only
    #[arg(long)]
    restores: bool,
    #[command(flatten)]
    past: Past,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let address = Address::of_object(&self.object)?;
        let until = moment(call, &address, self.past.at.as_deref())?;
        let since = self.since.as_deref().map(|text| call.calendar.read(text)).transpose()?;
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            place.check_ever()?;
            let mut entries = Vec::new();
            let mut has_more = false;
            let bar = call.counter("commits");
            for entry in read(&place, since, until)?.rev() {
                let entry = entry?;
                bar.inc(1);
                if self.restores && entry.restored.is_none() {
                    continue;
                }
                has_more = self.limit == Some(entries.len());
                if has_more {
                    break;
                }
                entries.push(entry);
            }
            bar.finish_and_clear();
            show(call, reader, &place, &entries, has_more)
        })
    }
}

/// The commits between two moments.
fn read(place: &Place, since: Option<When>, until: Option<When>) -> Result<History, Failure> {
    let start = match since {
        None => Bound::Unbounded,
        Some(since) => match place.bookmark(Some(since)) {
            Ok(bookmark) => Bound::Excluded(bookmark),
            // All that is kept is behind that time.
            Err(error) if error.kind() == ErrorKind::NotRetained => Bound::Unbounded,
            Err(error) => return Err(error.into()),
        },
    };
    let end = until.map(|until| place.bookmark(Some(until))).transpose()?;
    let end = end.map_or(Bound::Unbounded, Bound::Included);
    Ok(place.space.history(place.id, (start, end) as (Bound<Bookmark>, Bound<Bookmark>))?)
}

fn show(
    call: &mut Call<'_>,
    reader: &Reader,
    place: &Place,
    entries: &[HistoryEntry],
    has_more: bool,
) -> Outcome {
    if call.format() == Format::Table && !entries.is_empty() {
        call.line(&picture(call, entries))?;
    }
    let mut listing = Listing::new("history", COLUMNS, reader);
    listing.say(object_fields(place, &place.snapshot(None)?));
    for entry in entries {
        listing.row(call, cells(call, entry), &fields(entry))?;
    }
    let mut foot = call.position_text(reader.position(), reader.time());
    if has_more {
        foot = format!("earlier commits are not shown; {foot}");
    }
    listing.end(call, None, &foot)?;
    Ok(DONE)
}

/// Commits over time, the oldest at the left.
fn picture(call: &Call<'_>, entries: &[HistoryEntry]) -> String {
    let (Some(newest), Some(oldest)) = (entries.first(), entries.last()) else {
        return String::new();
    };
    let (from, to) = (oldest.time.0, newest.time.0.max(oldest.time.0 + 1));
    let mut columns = vec![0; usize::try_from(PICTURE).unwrap_or(1)];
    for entry in entries {
        let share = u128::from(entry.time.0.saturating_sub(from)) * u128::from(PICTURE)
            / u128::from(to - from);
        let at = usize::try_from(share).unwrap_or(0).min(columns.len() - 1);
        columns[at] += 1;
    }
    let from = call.calendar.show(Timestamp(from));
    let until = call.calendar.show(newest.time);
    let number = count(entries.len() as u64, "commit");
    format!("{number} from {from} to {until}\n|{}|\n", sparkline(&columns))
}

fn cells(call: &Call<'_>, entry: &HistoryEntry) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(restored) = &entry.restored {
        let from = short(restored.bookmark.lsn());
        let before = short(Lsn(entry.bookmark.lsn().0.saturating_sub(1)));
        notes.push(match (restored.is_fork, restored.is_at_open) {
            (true, _) => format!("fork of another object at {from}"),
            (false, true) => format!("restored to {from} when it was opened; before: {before}"),
            (false, false) => format!("restored to {from}; before: {before}"),
        });
    }
    let other = entry.operations.saturating_sub(entry.puts + entry.deletes);
    if other > 0 && entry.restored.is_none() {
        notes.push(format!("{other} of alarms and others"));
    }
    vec![
        short(entry.bookmark.lsn()),
        call.calendar.show(entry.time),
        call.calendar.distance(entry.time),
        digits(entry.puts),
        digits(entry.deletes),
        bytes(entry.bytes),
        notes.join("; "),
    ]
}

/// A commit, for programs.
pub fn fields(entry: &HistoryEntry) -> Vec<(&'static str, Json)> {
    let restored = entry.restored.map(|it| {
        json!({
            "bookmark": it.bookmark.to_string(),
            "fork": it.is_fork,
            "at_open": it.is_at_open,
        })
    });
    vec![
        ("bookmark", json!(entry.bookmark.to_string())),
        ("lsn", json!(entry.bookmark.lsn().0)),
        ("time", json!(machine(entry.time))),
        ("operations", json!(entry.operations)),
        ("puts", json!(entry.puts)),
        ("deletes", json!(entry.deletes)),
        ("bytes", json!(entry.bytes)),
        ("restored", json!(restored)),
    ]
}

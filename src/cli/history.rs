//! `history`: the commits of an object.
//!
//! Invariants:
//!   * Memory does not grow with the history: commits are shown as they are read.

use super::address::Address;
use super::call::{self, Call, Past};
use super::failure::{DONE, Failure, Outcome};
use super::figures::{bytes, count, digits, sparkline};
use super::get::object_fields;
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, moment};
use super::table::Columns;
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

const COLUMNS: Columns = &["BOOKMARK", "?TIME", "?AGO", "?-PUT", "?-DEL", "?-BYTES", "NOTE"];

/// Columns of the picture.
const PICTURE: usize = 60;
/// Spans of time that commits are counted in, many for each column of the picture.
const SPANS: usize = 32 * PICTURE;

/// Shows the commits of an object, the newest first
///
/// The bookmarks name the object right after each commit, in short; --json has them whole. A
/// picture at the end shows when commits were made. What was deleted, or never had a name, can be
/// asked for by its id: NS/~HEX.
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
        call.count("commits");
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            place.check_ever()?;
            self.show(call, reader, &place, (since, until))
        })
    }

    fn show(
        &self,
        call: &mut Call<'_>,
        reader: &Reader,
        place: &Place,
        (since, until): (Option<When>, Option<When>),
    ) -> Outcome {
        let mut listing = Listing::new("history", COLUMNS, reader);
        listing.say(object_fields(place, &place.snapshot(None)?));
        let unkept = place.space.unkept_to(place.id)?;
        let behind = since.map(|since| place.bookmark(Some(since)));
        let is_behind = behind.is_some_and(|it| it.is_ok_and(|it| it.lsn() >= unkept));
        let unkept = Some(unkept).filter(|lsn| *lsn > Lsn::ZERO && !is_behind);
        listing.say(call::fields([("unkept_to", json!(unkept.map(|lsn| lsn.0)))]));
        let (mut picture, mut has_more) = (None, false);
        for entry in read(place, since, until)?.rev() {
            // Behind damage inside its past nobody knows the commits of an object.
            let Some(entry) = call.readable(entry)? else { break };
            if self.restores && entry.restored.is_none() {
                call.step();
                continue;
            }
            has_more = self.limit.is_some_and(|limit| listing.rows() >= limit as u64);
            if has_more {
                break;
            }
            picture.get_or_insert_with(|| Picture::from(entry.time)).add(entry.time);
            listing.row(call, cells(call, &entry), &fields(&entry))?;
        }
        let mut foot = call.position_text(reader.position(), reader.time());
        if has_more {
            foot = format!("earlier commits are not shown; {foot}");
        } else if let Some(lsn) = unkept {
            foot = format!("{}\n{foot}", unkept_text(lsn));
        }
        if let Some(picture) = picture {
            foot = format!("\n{}\n{foot}", picture.text(call));
        }
        listing.end(call, None, &foot)?;
        Ok(DONE)
    }
}

/// That commits may be missing, for people.
pub fn unkept_text(up_to: Lsn) -> String {
    let why = "history has let go of them, was off, or they were purged";
    format!("commits up to {} may be missing: {why}", short(up_to))
}

/// The commits between two moments.
pub fn read(place: &Place, since: Option<When>, until: Option<When>) -> Result<History, Failure> {
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

/// Commits over time, told from the newest to the oldest.
struct Picture {
    newest: u64,
    oldest: u64,
    /// Microseconds of one span.
    span: u64,
    /// Commits in each span of time before the newest.
    counts: Vec<u64>,
    all: u64,
}

impl Picture {
    fn from(newest: Timestamp) -> Self {
        Self { newest: newest.0, oldest: newest.0, span: 1, counts: vec![0; SPANS], all: 0 }
    }

    fn add(&mut self, time: Timestamp) {
        let before = self.newest.saturating_sub(time.0);
        while before / self.span >= SPANS as u64 {
            for at in 0..SPANS {
                let pair = self.counts.get(2 * at..2 * at + 2);
                self.counts[at] = pair.map_or(0, |pair| pair.iter().sum());
            }
            self.span *= 2;
        }
        self.counts[usize::try_from(before / self.span).unwrap_or(0)] += 1;
        self.oldest = self.oldest.min(time.0);
        self.all += 1;
    }

    /// The oldest at the left.
    fn columns(&self) -> Vec<u64> {
        let all = (self.newest - self.oldest).max(1);
        let mut columns = vec![0; PICTURE];
        for (at, count) in self.counts.iter().enumerate() {
            let before = self.span.saturating_mul(at as u64).min(all);
            let share = u128::from(all - before) * PICTURE as u128 / u128::from(all);
            columns[usize::try_from(share).unwrap_or(0).min(PICTURE - 1)] += count;
        }
        columns
    }

    fn text(&self, call: &Call<'_>) -> String {
        let from = call.calendar.show(Timestamp(self.oldest));
        let until = call.calendar.show(Timestamp(self.newest));
        let number = count(self.all, "commit");
        format!("{number} from {from} to {until}\n|{}|", sparkline(&self.columns()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(times: impl Iterator<Item = u64>) -> Picture {
        let mut times = times.map(Timestamp).peekable();
        let mut picture = Picture::from(*times.peek().unwrap());
        times.for_each(|time| picture.add(time));
        picture
    }

    #[test]
    fn a_picture_of_any_span_has_each_commit_in_its_place() {
        for (every, many) in [(1, 60), (1, 5000), (7, 100_000), (1 << 40, 1000), (0, 9)] {
            let picture = picture((0..many).rev().map(|at| 5 + at * every));
            let columns = picture.columns();
            assert_eq!((columns.len(), columns.iter().sum::<u64>()), (PICTURE, many));
            let even = many / PICTURE as u64;
            let is_even = |count: &u64| *count >= even * 8 / 10 && *count <= even * 12 / 10 + 2;
            assert!(every == 0 || columns.iter().all(is_even), "{every}, {many}: {columns:?}");
        }
        let ends = picture([1_000_000, 999_990, 10, 0].into_iter()).columns();
        assert_eq!((ends[0], ends[PICTURE - 1]), (2, 2));
        assert_eq!(picture([7].into_iter()).columns().iter().sum::<u64>(), 1);
    }
}

//! `show`: one commit of an object.

use super::address::{self, Address};
use super::call::{Call, Format, Past, fields, position_fields};
use super::failure::{Failure, Outcome};
use super::figures::{bytes, count, facts};
use super::get::object_fields;
use super::history;
use super::place::{Place, moment};
use super::time::{When, machine, short};
use super::value::{self, AsShown, Shown};
use crate::bookmark::Bookmark;
use crate::error::{Error, ErrorKind};
use crate::store::changes::Change;
use crate::store::history::HistoryEntry;
use crate::store::reader::Reader;
use crate::store::value::Value;
use clap::Args;
use serde_json::{Map, Value as Json, json};
use std::ops::Bound;

const EXAMPLES: &str = "\
Examples:
  dostore show rooms/lobby
  dostore show rooms/lobby@-8d
  dostore show rooms/lobby --at '2026-11-02 12:00' --json";

/// Characters of a value that a line shows.
const VALUE_CHARACTERS: usize = 70;

/// Shows what a commit of an object changed: the last one up to a moment
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME or NS/~HEX, with the moment behind an @
    object: String,
    #[command(flatten)]
    past: Past,
    #[command(flatten)]
    shown: AsShown,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
        let address = Address::of_object(&self.object)?;
        let when = moment(call, &address, self.past.at.as_deref())?;
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            place.check_ever()?;
            let until = place.bookmark(when)?;
            let range = (Bound::Unbounded, Bound::Included(until)) as Range;
            let Some(entry) = place.space.history(place.id, range)?.next_back() else {
                return Err(no_commit(&place, when)?);
            };
            self.show(call, reader, &place, &entry?)
        })
    }

    fn show(
        &self,
        call: &mut Call<'_>,
        reader: &Reader,
        place: &Place,
        entry: &HistoryEntry,
    ) -> Outcome {
        let changes = place.space.changes_of(place.id, &entry.bookmark)?;
        let mut document = position_fields(reader);
        document.extend(object_fields(place, &place.snapshot(None)?));
        let own = history::fields(entry).into_iter();
        document.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let told: Vec<_> = changes.iter().map(|change| json!(self.fields(change))).collect();
        document.extend(fields([("changes", json!(told))]));
        let time = call.calendar.show(entry.time);
        let head = facts(&[
            ("commit", format!("{}  of {}", short(entry.bookmark.lsn()), place.address())),
            ("time", format!("{time}, {}", call.calendar.distance(entry.time))),
            ("record", bytes(entry.bytes)),
            ("bookmark", entry.bookmark.to_string()),
        ]);
        let lines: Vec<_> = changes.iter().map(|change| self.line(call, change)).collect();
        call.document("commit", document, &format!("{head}\n\n{}", lines.join("\n")))
    }

    fn line(&self, call: &Call<'_>, change: &Change) -> String {
        let alarm = |name: &Option<String>| {
            name.as_ref().map_or("alarm".to_owned(), |name| format!("alarm {name:?}"))
        };
        match change {
            Change::Put { key, value } => {
                let shown = self.shown.value.line(value, VALUE_CHARACTERS);
                format!("put     {}  {shown}", address::key(key))
            }
            Change::Delete { key } => format!("delete  {}", address::key(key)),
            Change::DeleteRange { start, end } => {
                let end = end.as_ref().map_or(String::new(), |end| address::key(end));
                format!("delete  {}..{end}", address::key(start))
            }
            Change::DeleteAll { keeps_alarms: true } => "delete  everything but alarms".to_owned(),
            Change::DeleteAll { .. } => "delete  everything".to_owned(),
            Change::SetAlarm { name, alarm: state } => {
                format!("set     {} to {}", alarm(name), call.calendar.show(state.due))
            }
            Change::ClearAlarm { name } => format!("clear   {}", alarm(name)),
            Change::Replaced { keys } => format!("replace everything, by {}", count(*keys, "key")),
            Change::Restored(it) if it.is_fork => "fork    of another object".to_owned(),
            Change::Restored(it) => format!("restore to {}", short(it.bookmark.lsn())),
        }
    }

    fn fields(&self, change: &Change) -> Map<String, Json> {
        match change {
            Change::Put { key, value } => {
                let mut put = fields([("change", json!("put")), ("key", json!(address::key(key)))]);
                put.extend(value_fields(self.shown.value, value));
                put
            }
            Change::Delete { key } => {
                fields([("change", json!("delete")), ("key", json!(address::key(key)))])
            }
            Change::DeleteRange { start, end } => fields([
                ("change", json!("delete_range")),
                ("start", json!(address::key(start))),
                ("end", json!(end.as_ref().map(|end| address::key(end)))),
            ]),
            Change::DeleteAll { keeps_alarms } => {
                fields([("change", json!("delete_all")), ("keeps_alarms", json!(keeps_alarms))])
            }
            Change::SetAlarm { name, alarm } => fields([
                ("change", json!("set_alarm")),
                ("alarm", json!(name)),
                ("time", json!(machine(alarm.time))),
                ("due", json!(machine(alarm.due))),
                ("attempts", json!(alarm.attempt())),
            ]),
            Change::ClearAlarm { name } => {
                fields([("change", json!("clear_alarm")), ("alarm", json!(name))])
            }
            Change::Replaced { keys } => {
                fields([("change", json!("replaced")), ("keys", json!(keys))])
            }
            Change::Restored(it) => fields([
                ("change", json!("restored")),
                ("bookmark", json!(it.bookmark.to_string())),
                ("fork", json!(it.is_fork)),
            ]),
        }
    }
}

/// Why no commit up to a moment can be shown: there was none, or history has let go of it.
fn no_commit(place: &Place, when: Option<When>) -> Result<Failure, Failure> {
    if place.snapshot(when)?.last_lsn().0 == 0 {
        let what = format!("{} had no commit up to then", place.address());
        return Ok(Failure::Missing(what));
    }
    let what = "the last commit up to then is from before the history that is kept";
    Ok(Error::new(ErrorKind::NotRetained, "history.expired", what).into())
}

/// A range of commits by bookmarks.
pub type Range = (Bound<Bookmark>, Bound<Bookmark>);

/// What programs are told of a value.
pub fn value_fields(shown: Shown, value: &Value) -> Map<String, Json> {
    let mut told = fields([
        ("size", json!(value.len())),
        ("codec", json!(value::codec(value.codec()))),
        ("form", json!(value::read(value).form.name())),
    ]);
    told.extend(shown.json(value).map(|value| ("value".to_owned(), value)));
    told
}

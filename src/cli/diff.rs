//! `diff`: what differs between two moments of an object.

use super::address::{self, Address};
use super::call::Call;
use super::failure::{DONE, FAILED, Failure, Outcome};
use super::get::object_fields;
use super::listing::{LAYOUTS, Listing};
use super::place::Place;
use super::show::value_fields;
use super::table::Columns;
use super::time::{When, machine, short};
use super::usage;
use super::value::AsShown;
use crate::ids::Timestamp;
use crate::store::past::Changed;
use crate::store::reader::Reader;
use clap::Args;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

const EXAMPLES: &str = "\
Examples:
  dostore diff rooms/lobby -9d..-8d
  dostore diff rooms/lobby '2026-11-01 12:00..now' --json
  dostore diff rooms/lobby -1d";

const COLUMNS: Columns = &["", "KEY", "~BEFORE", "~AFTER"];

/// Characters of a value that a line shows.
const VALUE_CHARACTERS: usize = 40;

/// Shows which keys and alarms two moments of an object have differently
///
/// Exits with 1 if there are any, as diff does. Without a second moment the present one is meant.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME or NS/~HEX
    object: String,
    /// FROM..TO, each a time, a span as -15m, or a bookmark
    #[arg(value_name = "FROM[..TO]", allow_hyphen_values = true)]
    moments: String,
    #[command(flatten)]
    shown: AsShown,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let address = Address::of_object(&self.object)?;
        if address.when.is_some() {
            return Err(usage("write the moments behind the object: diff NS/NAME FROM..TO"));
        }
        let (from, to) = self.moments.split_once("..").unwrap_or((&self.moments, ""));
        let read = |text: &str| match text {
            "" => Ok(None),
            text => call.calendar.read(text).map(Some),
        };
        let moments = [read(from)?, read(to)?];
        if moments[0].is_none() {
            return Err(usage("diff compares FROM..TO; only TO may be left out"));
        }
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            place.check_ever()?;
            match self.compare(call, reader, &place, moments) {
                // Whatever was printed is a difference.
                Err(failure) if failure.is_deaf() => Ok(FAILED),
                done => done,
            }
        })
    }

    fn compare(
        &self,
        call: &mut Call<'_>,
        reader: &Reader,
        place: &Place,
        moments: [Option<When>; 2],
    ) -> Outcome {
        let [before, after] = [place.bookmark(moments[0])?, place.bookmark(moments[1])?];
        let mut listing = Listing::new("diff", COLUMNS, reader);
        listing.say(object_fields(place, &place.snapshot(None)?));
        listing.say(super::call::fields([
            ("before", json!(before.to_string())),
            ("after", json!(after.to_string())),
        ]));
        let mut counts = [0; 3];
        for changed in place.space.diff(place.id, &before, &after)? {
            let changed = changed?;
            counts[kind(changed.before.is_some(), changed.after.is_some())] += 1;
            self.row(call, &mut listing, &changed)?;
        }
        let snapshots = [place.space.at(place.id, &before)?, place.space.at(place.id, &after)?];
        let [one, other] = snapshots.map(|snapshot| snapshot.alarms());
        for (name, times) in alarms(one?, other?) {
            counts[kind(times[0].is_some(), times[1].is_some())] += 1;
            alarm_row(call, &mut listing, name.as_deref(), times)?;
        }
        let [removed, added, changed] = counts;
        let foot = format!(
            "{added} added, {removed} removed, {changed} changed from {} to {}; {}",
            short(before.lsn()),
            short(after.lsn()),
            call.position_text(reader.position(), reader.time()),
        );
        let differences = listing.rows();
        listing.end(call, None, &foot)?;
        Ok(if differences == 0 { DONE } else { FAILED })
    }

    fn row(
        &self,
        call: &mut Call<'_>,
        listing: &mut Listing,
        changed: &Changed,
    ) -> Result<(), Failure> {
        let Changed { key, before, after } = changed;
        let kind = kind(before.is_some(), after.is_some());
        let line = |value: &Option<_>| {
            value
                .as_ref()
                .map_or(String::new(), |value| self.shown.value.line(value, VALUE_CHARACTERS))
        };
        let json = |value: &Option<_>| {
            value.as_ref().map_or(Json::Null, |value| json!(value_fields(self.shown.value, value)))
        };
        let cells = vec![SIGNS[kind].to_owned(), address::key(key), line(before), line(after)];
        listing.row(
            call,
            cells,
            &[
                ("change", json!(NAMES[kind])),
                ("key", json!(address::key(key))),
                ("was", json(before)),
                ("is", json(after)),
            ],
        )
    }
}

const SIGNS: [&str; 3] = ["-", "+", "~"];
const NAMES: [&str; 3] = ["removed", "added", "changed"];

fn kind(was: bool, is: bool) -> usize {
    match (was, is) {
        (true, false) => 0,
        (false, true) => 1,
        _ => 2,
    }
}

type Alarms = Vec<(Option<String>, Timestamp)>;

/// The alarms that two moments have differently.
fn alarms(before: Alarms, after: Alarms) -> BTreeMap<Option<String>, [Option<Timestamp>; 2]> {
    let mut all: BTreeMap<_, [Option<Timestamp>; 2]> = BTreeMap::new();
    for (at, alarms) in [before, after].into_iter().enumerate() {
        for (name, time) in alarms {
            all.entry(name).or_default()[at] = Some(time);
        }
    }
    all.retain(|_, [one, other]| one != other);
    all
}

fn alarm_row(
    call: &mut Call<'_>,
    listing: &mut Listing,
    name: Option<&str>,
    times: [Option<Timestamp>; 2],
) -> Result<(), Failure> {
    let kind = kind(times[0].is_some(), times[1].is_some());
    let named = name.map_or("(alarm)".to_owned(), |name| format!("(alarm {name:?})"));
    let [before, after] =
        times.map(|time| time.map_or(String::new(), |time| call.calendar.show(time)));
    let cells = vec![SIGNS[kind].to_owned(), named, before, after];
    listing.row(
        call,
        cells,
        &[
            ("change", json!(NAMES[kind])),
            ("alarm", json!(name.unwrap_or_default())),
            ("was", json!(times[0].and_then(machine))),
            ("is", json!(times[1].and_then(machine))),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_that_are_the_same_do_not_differ() {
        let at = |name: Option<&str>, time| (name.map(str::to_owned), Timestamp(time));
        let before = vec![at(None, 1), at(Some("a"), 2), at(Some("b"), 3)];
        let after = vec![at(Some("a"), 2), at(Some("b"), 4)];
        let found = alarms(before, after);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&None], [Some(Timestamp(1)), None]);
    }
}

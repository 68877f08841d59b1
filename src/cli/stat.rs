//! `stat`: how much there is, and how it is spread.

use super::address::Address;
use super::call::{Call, Format, Past, fields, position_fields};
use super::failure::{Failure, Outcome};
use super::figures::{bytes, digits, facts};
use super::get::object_fields;
use super::history::read as history;
use super::place::{Place, moment, moment_of_many, space};
use super::then::{Then, foot, namespaces, objects, then_fields};
use super::time::{When, machine};
use super::usage;
use crate::error::ErrorKind;
use crate::ids::Timestamp;
use crate::store::list::ListOptions;
use crate::store::reader::{Reader, ReaderNamespace};
use clap::Args;
use serde_json::{Value as Json, json};

const EXAMPLES: &str = "\
Examples:
  dostore stat
  dostore stat rooms
  dostore stat rooms --at -15m
  dostore stat rooms/lobby --json";

/// Counts: objects of a store or a namespace, or keys and commits of an object
///
/// Shows how sizes are spread: the median, what 99 in 100 are within, and the greatest. Everything
/// is counted, so it takes as long as there is much; with --at all that objects held is read.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS, NS/NAME or NS/~HEX
    address: Option<String>,
    #[command(flatten)]
    past: Past,
}

/// How numbers are spread.
struct Spread {
    sum: u64,
    count: usize,
    median: u64,
    p99: u64,
    most: u64,
}

impl Spread {
    fn of(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        let at = |percent: usize| {
            let rank = (numbers.len() * percent).div_ceil(100).max(1);
            numbers.get(rank - 1).copied().unwrap_or(0)
        };
        let (sum, count) = (numbers.iter().sum(), numbers.len());
        Self { sum, count, median: at(50), p99: at(99), most: at(100) }
    }

    fn text(&self, shown: fn(u64) -> String) -> String {
        let [median, p99, most] = [self.median, self.p99, self.most].map(shown);
        format!("{} in all; median {median}, p99 {p99}, most {most}", shown(self.sum))
    }

    fn json(&self) -> Json {
        json!({ "sum": self.sum, "median": self.median, "p99": self.p99, "most": self.most })
    }
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
        let address = self.address.as_deref().map(Address::parse).transpose()?;
        if address.as_ref().is_some_and(|it| it.key.is_some()) {
            return Err(usage("write stat, stat NS or stat NS/NAME"));
        }
        let at = self.past.at.as_deref();
        if let Some(address) = address.as_ref().filter(|it| it.who.is_some()) {
            let when = moment(call, address, at)?;
            return call.reading(|reader, call| {
                of_object(call, reader, &Place::find(reader, address)?, when)
            });
        }
        let at = moment_of_many(call, address.as_ref().and_then(|it| it.when.as_deref()), at)?;
        call.count("objects");
        call.reading(|reader, call| {
            let at = Then::of(reader, at)?;
            let Some(address) = &address else {
                return of_many(call, reader, (&namespaces(reader, at)?, None), at);
            };
            let space = space(reader, &address.space)?;
            of_many(call, reader, (std::slice::from_ref(&space), Some(space.name())), at)
        })
    }
}

fn of_many(
    call: &mut Call<'_>,
    reader: &Reader,
    (spaces, name): (&[ReaderNamespace], Option<&str>),
    at: Option<Then>,
) -> Outcome {
    let (mut keys, mut sizes) = (Vec::new(), Vec::new());
    let (mut named, mut alarms, mut newest) = (0_u64, 0_u64, Timestamp(0));
    for space in spaces {
        for object in objects(space, None, at)? {
            call.step();
            let Some(object) = call.readable(object)? else { continue };
            keys.push(object.keys);
            sizes.push(object.bytes);
            named += u64::from(object.name.is_some());
            alarms += u64::from(object.alarm.is_some());
            newest = newest.max(object.last_time);
        }
    }
    let (keys, sizes) = (Spread::of(keys), Spread::of(sizes));
    let mut document = position_fields(reader);
    document.extend(then_fields(at));
    document.extend(fields([
        ("ns", json!(name)),
        ("namespaces", json!(spaces.len())),
        ("objects", json!(keys.count)),
        ("named", json!(named)),
        ("alarms", json!(alarms)),
        ("keys", keys.json()),
        ("bytes", sizes.json()),
        ("modified", json!(machine(newest))),
    ]));
    let read = foot(call, reader, at);
    let modified = if newest.0 == 0 { "never".to_owned() } else { call.calendar.distance(newest) };
    let text = facts(&[
        ("objects", format!("{}, {} with a name", digits(keys.count as u64), digits(named))),
        ("keys", keys.text(digits)),
        ("size", sizes.text(bytes)),
        ("alarms", format!("{} objects with one", digits(alarms))),
        ("modified", modified),
        ("read", read),
    ]);
    call.document("stat", document, &text)
}

fn of_object(call: &mut Call<'_>, reader: &Reader, place: &Place, when: Option<When>) -> Outcome {
    let snapshot = place.content(when)?;
    let mut sizes = Vec::new();
    for entry in snapshot.list(ListOptions::new())? {
        let Some((key, value)) = call.readable(entry)? else { break };
        sizes.push((key.len() + value.len()) as u64);
    }
    let sizes = Spread::of(sizes);
    let mut commits = Vec::new();
    let mut oldest = None;
    match history(place, None, when) {
        Ok(history) => {
            for entry in history {
                let Some(entry) = call.readable(entry)? else { break };
                oldest = oldest.or(Some(entry.time));
                commits.push(entry.bytes);
            }
        }
        Err(Failure::Store(error)) if error.kind() == ErrorKind::NotRetained => {}
        Err(failure) => return Err(failure),
    }
    let commits = Spread::of(commits);
    let mut document = position_fields(reader);
    document.extend(object_fields(place, &snapshot));
    document.extend(fields([
        ("keys", json!(sizes.count)),
        ("bytes", sizes.json()),
        ("commits", json!(commits.count)),
        ("record_bytes", commits.json()),
        ("oldest", json!(oldest.and_then(machine))),
    ]));
    let since = oldest.map_or("none kept".to_owned(), |oldest| {
        let number = digits(commits.count as u64);
        format!("{number} commits since {}, {}", call.calendar.show(oldest), commits.text(bytes))
    });
    let (position, time) = match when {
        Some(_) => (snapshot.last_lsn(), snapshot.last_time()),
        None => (reader.position(), reader.time()),
    };
    let read = call.position_text(position, time);
    let text = facts(&[
        ("object", place.address()),
        ("keys", digits(sizes.count as u64)),
        ("size", sizes.text(bytes)),
        ("history", since),
        ("read", read),
    ]);
    call.document("stat", document, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_told_by_ranks() {
        let spread = Spread::of((1..=100).rev().collect());
        assert_eq!((spread.sum, spread.median, spread.p99, spread.most), (5050, 50, 99, 100));
        let none = Spread::of(Vec::new());
        assert_eq!((none.sum, none.median, none.most), (0, 0, 0));
        assert_eq!(Spread::of(vec![7]).text(digits), "7 in all; median 7, p99 7, most 7");
    }
}

//! `get`: values.

use super::address::{self, Address};
use super::call::{Call, Format, Past, SCHEMA, fields, position_fields};
use super::failure::{DONE, Failure, Outcome};
use super::figures::bytes;
use super::place::{Place, moment};
use super::time::{When, machine};
use super::usage;
use super::value::{self, AsShown, Shown};
use crate::store::reader::Reader;
use crate::store::snapshot::Snapshot;
use crate::store::value::Value;
use clap::Args;
use serde_json::{Map, Value as Json, json};

const EXAMPLES: &str = "\
Examples:
  dostore get rooms/lobby:topic
  dostore get rooms/lobby topic visitor/ada
  dostore get rooms/lobby:topic --at -15m
  dostore get rooms/lobby:topic --format raw
  dostore get rooms/lobby:topic --json --value hex";

/// Prints the values of keys of an object
///
/// A value is read by its codec, or as what it looks like. `--format raw` prints its bytes and
/// nothing else. Exits with 3 if a key is not there.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME:KEY, or NS/NAME and keys behind it
    address: String,
    /// Keys of the object
    keys: Vec<String>,
    #[command(flatten)]
    past: Past,
    #[command(flatten)]
    shown: AsShown,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl, Format::Raw])?;
        let address = Address::parse(&self.address)?;
        let mut keys: Vec<_> = address.key.iter().cloned().collect();
        for key in &self.keys {
            keys.push(address::unescape(key)?);
        }
        if keys.is_empty() {
            let text = &self.address;
            let what = format!("which key? write `get {text}:KEY`; `keys {text}` lists them");
            return Err(usage(what));
        }
        let when = moment(call, &address, self.past.at.as_deref())?;
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            let snapshot = place.content(when)?;
            keys.iter().try_for_each(|key| {
                let found = snapshot.get(key)?;
                let value = found.ok_or_else(|| place.no_key(&snapshot, key))?;
                print(
                    call,
                    self.shown.value,
                    &Shelf { reader, place: &place, snapshot: &snapshot, when },
                    key,
                    &value,
                )
            })?;
            Ok(DONE)
        })
    }
}

/// Where a value was found.
pub struct Shelf<'a> {
    /// The reader that found it.
    pub reader: &'a Reader,
    /// The object.
    pub place: &'a Place,
    /// The object at the moment.
    pub snapshot: &'a Snapshot,
    /// The moment.
    pub when: Option<When>,
}

/// Prints a value with what is known of it.
pub fn print(
    call: &mut Call<'_>,
    shown: Shown,
    shelf: &Shelf<'_>,
    key: &[u8],
    value: &Value,
) -> Result<(), Failure> {
    if call.format() == Format::Raw || shown == Shown::Raw && call.format() == Format::Table {
        return call.bytes(value);
    }
    let form = value::read(value).form.name();
    let (reader, place) = (shelf.reader, shelf.place);
    if call.format() == Format::Table {
        let address = format!("{}:{}", place.address(), address::key(key));
        let (position, time) = match shelf.when {
            Some(_) => (shelf.snapshot.last_lsn(), shelf.snapshot.last_time()),
            None => (reader.position(), reader.time()),
        };
        let as_of = call.position_text(position, time);
        call.line(&format!("{address}  {form}  {}  {as_of}", bytes(value.len() as u64)))?;
        let text = shown.text(value);
        return if text.is_empty() { Ok(()) } else { call.line(&text) };
    }
    let mut document =
        Map::from_iter([("schema".to_owned(), json!(SCHEMA)), ("kind".to_owned(), json!("value"))]);
    document.extend(position_fields(reader));
    document.extend(object_fields(place, shelf.snapshot));
    document.extend(fields([
        ("key", json!(address::key(key))),
        ("codec", json!(value::codec(value.codec()))),
        ("form", json!(form)),
        ("size", json!(value.len())),
    ]));
    document.extend(shown.json(value).map(|value| ("value".to_owned(), value)));
    // Several values are several documents, so each has a line of its own.
    call.line(&Json::Object(document).to_string())
}

/// The fields that say of which object a document is, and as of which of its commits.
pub fn object_fields(place: &Place, snapshot: &Snapshot) -> Map<String, Json> {
    fields([
        ("ns", json!(place.space.name())),
        ("name", json!(place.name)),
        ("id", json!(place.id.to_string())),
        ("last_lsn", json!(snapshot.last_lsn().0)),
        ("last_time", json!(machine(snapshot.last_time()))),
    ])
}

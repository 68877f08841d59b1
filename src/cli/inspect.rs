//! `inspect`: what there is to know of a store, a namespace, an object or a key.

use super::address::{self, Address};
use super::call::{Call, Format, Past, fields, position_fields};
use super::debug;
use super::failure::{DONE, Failure, Outcome};
use super::figures::{bytes, count, digits, facts};
use super::get::{Shelf, object_fields, print};
use super::place::{Place, moment, moment_of_many, space};
use super::summary;
use super::table::{Columns, table};
use super::then::{Then, counted};
use super::time::{When, machine};
use super::usage;
use super::value::Shown;
use crate::disk::ReadDisk;
use crate::error::Result as Stored;
use crate::inspect::summary::{Great, NamespaceSummary};
use crate::store::list::ListOptions;
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::snapshot::Snapshot;
use clap::Args;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  dostore inspect
  dostore inspect --at -15m
  dostore inspect rooms
  dostore inspect rooms/lobby
  dostore inspect rooms/lobby:topic
  dostore inspect MANIFEST
  dostore inspect rooms/lobby@-15m --json";

const GREATEST_OBJECTS: Columns = &["GREATEST OBJECTS", "-KEYS", "-SIZE", "?MODIFIED"];

/// The greatest keys that a card shows.
const GREATEST: usize = 5;

/// Shows what an address holds: a store, a namespace, an object, a key or a file
///
/// Without an address, what the store holds and where its bytes are; of a namespace its greatest
/// objects, too. Objects of a store or a namespace are counted as of the last checkpoint; commits
/// behind it are counted beside them. With --at all that objects held is read, and what has no
/// past is left out: files, their bytes and the log.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS, NS/NAME, NS/~HEX or NS/NAME:KEY; or a file as `verify` names it
    address: Option<String>,
    #[command(flatten)]
    past: Past,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
        let Some(text) = &self.address else {
            if let when @ Some(_) = moment_of_many(call, None, self.past.at.as_deref())? {
                call.count("objects");
                return call.reading(|reader, call| match Then::of(reader, when)? {
                    Some(then) => summary::summary_then(call, reader, then),
                    None => Ok(DONE),
                });
            }
            let found = summary::read(call)?;
            let text = summary::summary(call, &found);
            return call.document("summary", summary::summary_fields(&found), &text);
        };
        if let Some((name, at)) = debug::file_of(text) {
            if self.past.at.is_some() {
                return Err(usage("files are shown as they are now: they have no past"));
            }
            let disk: Arc<dyn ReadDisk> = Arc::new(call.disk()?);
            return debug::show(call, &disk, name, at);
        }
        let address = Address::parse(text)?;
        if address.who.is_none() {
            let past = self.past.at.as_deref();
            let when = moment_of_many(call, address.when.as_deref(), past)?;
            call.count("objects");
            return call.reading(|reader, call| {
                let space = space(reader, &address.space)?;
                match Then::of(reader, when)? {
                    None => namespace(call, reader, &space),
                    Some(then) => namespace_then(call, reader, &space, then),
                }
            });
        }
        let when = moment(call, &address, self.past.at.as_deref())?;
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            let snapshot = place.content(when)?;
            let Some(key) = &address.key else {
                return card(call, reader, &place, &snapshot, when);
            };
            let value = snapshot.get(key)?.ok_or_else(|| place.no_key(&snapshot, key))?;
            let shelf = Shelf { reader, place: &place, snapshot: &snapshot, when };
            print(call, Shown::Auto, &shelf, key, &value)?;
            Ok(DONE)
        })
    }
}

fn namespace(call: &mut Call<'_>, reader: &Reader, space: &ReaderNamespace) -> Outcome {
    let found = summary::read(call)?;
    let of_it = |it: &&NamespaceSummary| it.name.as_deref() == Some(space.name());
    let Some(own) = found.namespaces.iter().find(of_it) else {
        return Err(Failure::Missing(format!("there is no namespace {:?}", space.name())));
    };
    let lines = [
        ("counted", call.position_text(found.cut, found.cut_time)),
        ("behind it", format!("{} in the log", count(found.log_commits, "commit"))),
    ];
    let more = fields([("cut", json!(found.cut.0)), ("cut_time", json!(machine(found.cut_time)))]);
    namespace_card(call, (reader, space), own, (&lines, more))
}

/// A namespace as of a moment.
fn namespace_then(
    call: &mut Call<'_>,
    reader: &Reader,
    space: &ReaderNamespace,
    then: Then,
) -> Outcome {
    let own = counted(call, space, then)?;
    let lines = [("read", then.text(call))];
    namespace_card(call, (reader, space), &own, (&lines, then.fields()))
}

/// A namespace in figures, with what else is to be said of it.
fn namespace_card(
    call: &mut Call<'_>,
    (reader, space): (&Reader, &ReaderNamespace),
    own: &NamespaceSummary,
    (more, more_fields): (&[(&'static str, String)], Map<String, Json>),
) -> Outcome {
    let great = own.greatest.iter().map(|great| {
        let place = Place::of(space.clone(), space.id_from_short(great.id));
        place.map(|place| (place, *great))
    });
    let great: Vec<_> = great.collect::<Stored<_>>()?;
    let (cells, own) = summary::namespace(own);
    let names = ["namespace", "objects", "keys", "size", "alarms"];
    let mut lines: Vec<_> = names.into_iter().zip(cells).collect();
    lines.extend_from_slice(more);
    let mut document = position_fields(reader);
    document.extend(own);
    document.extend(more_fields);
    document.insert("greatest".to_owned(), great.iter().map(great_fields).collect());
    let row = |(place, great): &(Place, Great)| {
        let modified = call.calendar.distance(great.last_time);
        vec![place.address(), digits(great.keys), bytes(great.content_bytes), modified]
    };
    let rows: Vec<_> = great.iter().map(row).collect();
    let mut text = facts(&lines);
    if !rows.is_empty() {
        text = format!("{text}\n\n{}", table(GREATEST_OBJECTS, &rows, call.paper));
    }
    call.document("namespace", document, &text)
}

fn great_fields((place, great): &(Place, Great)) -> Json {
    json!({
        "name": place.name,
        "id": place.id.to_string(),
        "keys": great.keys,
        "bytes": great.content_bytes,
        "last_time": machine(great.last_time),
    })
}

/// What an object has, counted key by key.
#[derive(Default)]
struct Content {
    keys: u64,
    key_bytes: u64,
    value_bytes: u64,
    /// The greatest values, the greatest first.
    greatest: Vec<(usize, Vec<u8>)>,
}

impl Content {
    fn of(call: &mut Call<'_>, snapshot: &Snapshot) -> Result<Self, Failure> {
        let mut content = Self::default();
        for entry in snapshot.list(ListOptions::new())? {
            let Some((key, value)) = call.readable(entry)? else { break };
            content.keys += 1;
            content.key_bytes += key.len() as u64;
            content.value_bytes += value.len() as u64;
            let at = content.greatest.partition_point(|(size, _)| *size >= value.len());
            if at < GREATEST {
                content.greatest.insert(at, (value.len(), key.to_vec()));
                content.greatest.truncate(GREATEST);
            }
        }
        Ok(content)
    }
}

fn card(
    call: &mut Call<'_>,
    reader: &Reader,
    place: &Place,
    snapshot: &Snapshot,
    when: Option<When>,
) -> Outcome {
    let content = Content::of(call, snapshot)?;
    let bookmark = place.bookmark(when)?;
    let alarms = call.readable(snapshot.alarms())?.unwrap_or_default();
    let mut document = position_fields(reader);
    document.extend(object_fields(place, snapshot));
    let named = |alarm: &(Option<String>, _)| json!({ "name": alarm.0, "time": machine(alarm.1) });
    let greatest =
        |(size, key): &(usize, Vec<u8>)| json!({ "key": address::key(key), "size": size });
    document.extend(fields([
        ("bookmark", json!(bookmark.to_string())),
        ("keys", json!(content.keys)),
        ("key_bytes", json!(content.key_bytes)),
        ("value_bytes", json!(content.value_bytes)),
        ("alarms", alarms.iter().map(named).collect()),
        ("greatest", content.greatest.iter().map(greatest).collect()),
    ]));
    let (at, ago) = (snapshot.last_time(), call.calendar.distance(snapshot.last_time()));
    let size = bytes(content.key_bytes + content.value_bytes);
    let mut lines = vec![
        ("object", place.address()),
        ("id", place.id.to_string()),
        ("keys", format!("{}, {size}", count(content.keys, "key"))),
        ("modified", format!("{}, {ago}", call.calendar.show(at))),
    ];
    for (name, at) in &alarms {
        let (shown, distance) = (call.calendar.show(*at), call.calendar.distance(*at));
        let name = name.as_ref().map_or_else(String::new, |name| format!("{name:?} "));
        lines.push(("alarm", format!("{name}{shown}, {distance}")));
    }
    lines.push(("bookmark", bookmark.to_string()));
    let (position, time) =
        if when.is_some() { (snapshot.last_lsn(), at) } else { (reader.position(), reader.time()) };
    lines.push(("read", call.position_text(position, time)));
    let row = |(size, key): &(usize, Vec<u8>)| vec![address::key(key), bytes(*size as u64)];
    let rows: Vec<_> = content.greatest.iter().map(row).collect();
    let greatest = table(&["GREATEST KEYS", "-SIZE"], &rows, call.paper);
    call.document("object", document, &format!("{}\n\n{greatest}", facts(&lines)))
}

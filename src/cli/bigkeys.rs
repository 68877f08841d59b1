//! `bigkeys`: the greatest values of a store.

use super::address::{self, Address};
use super::call::{Call, Past};
use super::failure::{DONE, Failure, Outcome};
use super::figures::bytes;
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, moment, moment_of_many, space};
use super::table::Columns;
use super::then::{self, Then, namespaces, objects, snapshot_of, then_fields};
use super::usage;
use super::value::codec;
use crate::error::Result as Stored;
use crate::ids::{Codec, ObjectId};
use crate::store::list::ListOptions;
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::snapshot::Snapshot;
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore bigkeys
  dostore bigkeys rooms --limit 3
  dostore bigkeys rooms --at -15m
  dostore bigkeys rooms/lobby --json";

const COLUMNS: Columns = &["-SIZE", "?CODEC", "KEY"];

/// Lists the greatest values of a store, a namespace or an object, the greatest first
///
/// Objects that are smaller than the greatest values found so far are not read.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS, NS/NAME or NS/~HEX
    address: Option<String>,
    /// Lists so many at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    past: Past,
}

/// A value that is among the greatest.
struct Great {
    size: usize,
    codec: Codec,
    key: Vec<u8>,
    space: ReaderNamespace,
    id: ObjectId,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let address = self.address.as_deref().map(Address::parse).transpose()?;
        if address.as_ref().is_some_and(|it| it.key.is_some()) {
            return Err(usage("write bigkeys NS or bigkeys NS/NAME"));
        }
        let past = self.past.at.as_deref();
        let object = address.as_ref().filter(|it| it.who.is_some());
        let when = object.map(|it| moment(call, it, past)).transpose()?.flatten();
        let of_many = address.as_ref().filter(|_| object.is_none());
        let past = past.filter(|_| object.is_none());
        let at = moment_of_many(call, of_many.and_then(|it| it.when.as_deref()), past)?;
        call.count("objects");
        call.reading(|reader, call| {
            let (mut greatest, at) = (Vec::new(), Then::of(reader, at)?);
            let mut foot = then::foot(call, reader, at);
            match &address {
                None => {
                    for space in namespaces(reader, at)? {
                        self.of_space(call, &space, at, &mut greatest)?;
                    }
                }
                Some(address) if address.who.is_none() => {
                    self.of_space(call, &space(reader, &address.space)?, at, &mut greatest)?;
                }
                Some(address) => {
                    let place = Place::find(reader, address)?;
                    let content = place.content(when)?;
                    if when.is_some() {
                        foot = call.position_text(content.last_lsn(), content.last_time());
                    }
                    let read = self.of_object((&place.space, place.id), &content, &mut greatest);
                    call.readable(read)?;
                }
            }
            show(call, reader, (&greatest, at), &foot)
        })
    }

    fn of_space(
        &self,
        call: &mut Call<'_>,
        space: &ReaderNamespace,
        at: Option<Then>,
        greatest: &mut Vec<Great>,
    ) -> Result<(), Failure> {
        for object in objects(space, None, at)? {
            call.step();
            let Some(object) = call.readable(object)? else { continue };
            let least = greatest.last().map_or(0, |great| great.size as u64);
            let is_small = greatest.len() >= self.limit && object.bytes <= least;
            if !is_small || object.is_approximate {
                let read = snapshot_of(space, object.id, at)
                    .and_then(|content| self.of_object((space, object.id), &content, greatest));
                call.readable(read)?;
            }
        }
        Ok(())
    }

    fn of_object(
        &self,
        (space, id): (&ReaderNamespace, ObjectId),
        content: &Snapshot,
        greatest: &mut Vec<Great>,
    ) -> Stored<()> {
        for entry in content.list(ListOptions::new())? {
            let (key, value) = entry?;
            let at = greatest.partition_point(|great| great.size >= value.len());
            if at < self.limit {
                let (key, space) = (key.to_vec(), space.clone());
                let (size, codec) = (value.len(), value.codec());
                greatest.insert(at, Great { size, codec, key, space, id });
                greatest.truncate(self.limit);
            }
        }
        Ok(())
    }
}

fn show(
    call: &mut Call<'_>,
    reader: &Reader,
    (greatest, at): (&[Great], Option<Then>),
    foot: &str,
) -> Outcome {
    let mut listing = Listing::new("bigkeys", COLUMNS, reader);
    listing.say(then_fields(at));
    for great in greatest {
        let place = Place::of(great.space.clone(), great.id)?;
        let key = address::key(&great.key);
        let codec = codec(great.codec);
        let full = format!("{}:{key}", place.address());
        let cells = vec![bytes(great.size as u64), codec.to_owned(), full];
        let fields = [("key", json!(key)), ("size", json!(great.size)), ("codec", json!(codec))];
        listing.row(call, cells, &place.row(fields))?;
    }
    listing.end(call, None, foot)?;
    Ok(DONE)
}

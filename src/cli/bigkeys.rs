//! `bigkeys`: the greatest values of a store.

use super::address::{self, Address};
use super::call::Call;
use super::failure::{DONE, Failure, Outcome};
use super::figures::bytes;
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, space};
use super::table::Columns;
use super::usage;
use super::value::codec;
use crate::error::Result as Stored;
use crate::ids::{Codec, ObjectId};
use crate::store::list::ListOptions;
use crate::store::reader::{Reader, ReaderNamespace};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore bigkeys
  dostore bigkeys rooms --limit 3
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
        if address.as_ref().is_some_and(|it| it.key.is_some() || it.when.is_some()) {
            return Err(usage("write bigkeys NS or bigkeys NS/NAME"));
        }
        call.count("objects");
        call.reading(|reader, call| {
            let mut greatest = Vec::new();
            match &address {
                None => {
                    for space in reader.namespaces() {
                        self.of_space(call, &space, &mut greatest)?;
                    }
                }
                Some(address) if address.who.is_none() => {
                    self.of_space(call, &space(reader, &address.space)?, &mut greatest)?;
                }
                Some(address) => {
                    let place = Place::find(reader, address)?;
                    place.content(None)?;
                    let read = self.of_object(&place.space, place.id, &mut greatest);
                    call.readable(read)?;
                }
            }
            show(call, reader, &greatest)
        })
    }

    fn of_space(
        &self,
        call: &mut Call<'_>,
        space: &ReaderNamespace,
        greatest: &mut Vec<Great>,
    ) -> Result<(), Failure> {
        for object in space.objects() {
            call.step();
            let Some(object) = call.readable(object)? else { continue };
            let least = greatest.last().map_or(0, |great| great.size as u64);
            let is_small = greatest.len() >= self.limit && object.bytes <= least;
            if !is_small || object.is_approximate {
                let read = self.of_object(space, object.id, greatest);
                call.readable(read)?;
            }
        }
        Ok(())
    }

    fn of_object(
        &self,
        space: &ReaderNamespace,
        id: ObjectId,
        greatest: &mut Vec<Great>,
    ) -> Stored<()> {
        for entry in space.snapshot(id)?.list(ListOptions::new())? {
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

fn show(call: &mut Call<'_>, reader: &Reader, greatest: &[Great]) -> Outcome {
    let mut listing = Listing::new("bigkeys", COLUMNS, reader);
    for great in greatest {
        let place = Place::of(great.space.clone(), great.id)?;
        let key = address::key(&great.key);
        let codec = codec(great.codec);
        let full = format!("{}:{key}", place.address());
        let cells = vec![bytes(great.size as u64), codec.to_owned(), full];
        let fields = [("key", json!(key)), ("size", json!(great.size)), ("codec", json!(codec))];
        listing.row(call, cells, &place.row(fields))?;
    }
    let foot = call.position_text(reader.position(), reader.time());
    listing.end(call, None, &foot)?;
    Ok(DONE)
}

//! `keys`: the keys of an object.

use super::address::{self, Address};
use super::call::{Call, Page, Past};
use super::failure::{DONE, Failure, Outcome};
use super::figures::bytes;
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, moment};
use super::table::Columns;
use super::value::{self, AsShown};
use crate::store::list::ListOptions;
use crate::store::reader::Reader;
use crate::store::value::Value;
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore keys rooms/lobby
  dostore keys rooms/lobby visitor/ --limit 10
  dostore keys rooms/lobby --at -15m --json
  dostore keys rooms/lobby --value hex";

const COLUMNS: Columns = &["KEY", "?-SIZE", "?FORM", "~VALUE"];

/// Characters of a value that a line shows.
const VALUE_CHARACTERS: usize = 60;

/// Lists the keys of an object in order, with the beginnings of their values
///
/// The form of a value is its codec, or what it looks like where no codec is kept with it. Bytes of
/// a key that do not print are written as % and two hex digits.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME or NS/~HEX
    object: String,
    /// Only keys that begin so
    prefix: Option<String>,
    #[command(flatten)]
    past: Past,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    shown: AsShown,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let address = Address::of_object(&self.object)?;
        let when = moment(call, &address, self.past.at.as_deref())?;
        let mut options = ListOptions::new();
        if let Some(prefix) = &self.prefix {
            options = options.prefix(address::unescape(prefix)?);
        }
        if let Some(after) = &self.page.after {
            options = options.start_after(address::unescape(after)?);
        }
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            let snapshot = place.content(when)?;
            let mut listing = Listing::new("keys", COLUMNS, reader);
            let mut last = None;
            let mut more = None;
            for entry in snapshot.list(options.clone())? {
                // Behind damage inside an object a list does not go on.
                let Some((key, value)) = call.readable(entry)? else { break };
                if self.page.limit.is_some_and(|limit| listing.rows() >= limit as u64) {
                    more = last;
                    break;
                }
                self.show(call, &mut listing, &key, &value)?;
                last = Some(address::key(&key));
            }
            let foot = self.foot(call, reader, &snapshot);
            listing.end(call, more.as_deref(), &foot)?;
            Ok(DONE)
        })
    }

    fn foot(
        &self,
        call: &Call<'_>,
        reader: &Reader,
        snapshot: &crate::store::snapshot::Snapshot,
    ) -> String {
        if self.past.at.is_none() && !self.object.contains('@') {
            return call.position_text(reader.position(), reader.time());
        }
        call.position_text(snapshot.last_lsn(), snapshot.last_time())
    }

    fn show(
        &self,
        call: &mut Call<'_>,
        listing: &mut Listing,
        key: &[u8],
        value: &Value,
    ) -> Result<(), Failure> {
        let form = value::read(value).form.name();
        let line = self.shown.value.line(value, VALUE_CHARACTERS);
        let cells = vec![address::key(key), bytes(value.len() as u64), form.to_owned(), line];
        let mut fields = vec![
            ("key", json!(address::key(key))),
            ("size", json!(value.len())),
            ("codec", json!(value::codec(value.codec()))),
            ("form", json!(form)),
        ];
        fields.extend(self.shown.value.json(value).map(|value| ("value", value)));
        listing.row(call, cells, &fields)
    }
}

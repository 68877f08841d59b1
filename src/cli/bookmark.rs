//! `bookmark`: a moment of an object, as text that can be kept anywhere.

use super::address::Address;
use super::call::{Call, Format, fields, position_fields};
use super::failure::Outcome;
use super::get::object_fields;
use super::place::{Place, moment};
use super::time::short;
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore bookmark rooms/lobby
  dostore bookmark rooms/lobby -15m
  dostore bookmark rooms/lobby 'yesterday 14:00' --json";

/// Prints the bookmark of an object at a time, or of its present moment
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME or NS/~HEX
    object: String,
    /// A time, a span as -15m, or the first two parts of a bookmark
    #[arg(allow_hyphen_values = true)]
    time: Option<String>,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
        let address = Address::of_object(&self.object)?;
        let when = moment(call, &address, self.time.as_deref())?;
        call.reading(|reader, call| {
            let place = Place::find(reader, &address)?;
            place.check_ever()?;
            let bookmark = place.bookmark(when)?;
            let mut document = position_fields(reader);
            document.extend(object_fields(&place, &place.snapshot(when)?));
            document.extend(fields([
                ("bookmark", json!(bookmark.to_string())),
                ("short", json!(short(bookmark.lsn()))),
                ("lsn", json!(bookmark.lsn().0)),
            ]));
            call.document("bookmark", document, &bookmark.to_string())
        })
    }
}

//! `fork`: an object that is what another one was.

use super::restore::LAYOUTS;
use super::{ask_change, done_fields, done_text, object_fields, target};
use crate::cli::address::Address;
use crate::cli::call::{Call, Past, fields};
use crate::cli::failure::{DONE, Outcome};
use crate::cli::place::{Place, moment, space};
use crate::cli::usage;
use crate::store::admin::{Request, When};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore fork rooms/lobby rooms/copy
  dostore fork rooms/lobby@-8d rooms/then
  dostore fork rooms/lobby rooms/with-alarms --at -8d --alarms";

/// Makes a new object what another one is, or was
///
/// The new object must be empty; it gets the name that it is addressed by. Afterwards neither
/// follows the other.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME or NS/~HEX
    object: String,
    /// The new object: NS/NAME, or NS/~HEX with all 64 digits
    new: String,
    #[command(flatten)]
    past: Past,
    /// Sets its alarms too
    #[arg(long)]
    alarms: bool,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let (address, new) = (Address::of_object(&self.object)?, Address::of_object(&self.new)?);
        if (&address.space, &address.who) == (&new.space, &new.who) {
            return Err(usage("an object is no fork of itself: name another one that is to be"));
        }
        let when = moment(call, &address, self.past.at.as_deref())?;
        let mut at = None;
        call.reading(|reader, _| {
            let place = Place::find(reader, &address)?;
            place.content(when)?;
            space(reader, &new.space)?;
            at = when.map(|when| place.bookmark(Some(when))).transpose()?;
            Ok(DONE)
        })?;
        let at = at.map(|bookmark| When::Bookmark(bookmark.to_string()));
        let (of, to) = (target(call, &address)?, target(call, &new)?);
        let request = Request::Fork { of: of.clone(), at, to: to.clone(), alarms: self.alarms };
        let change = ask_change(call, "forking", &request)?;
        let (from, object) = (Address { when: None, ..address }, new.to_string());
        let mut document = object_fields(&to);
        document.extend(fields([("from", json!(object_fields(&of)))]));
        document.extend(done_fields(call, &object, &change));
        let text = done_text(call, &object, &format!("forked {from} to {object}"), &change);
        call.document("fork", document, &text)
    }
}

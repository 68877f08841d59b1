//! `delete` and `purge`: a whole object.

use super::restore::LAYOUTS;
use super::{Consent, ask_change, done_fields, done_text, dry_run, target};
use crate::cli::address::Address;
use crate::cli::call::{Call, fields};
use crate::cli::failure::{DONE, FAILED, Outcome};
use crate::cli::figures::{bytes, count};
use crate::cli::get::object_fields;
use crate::cli::place::Place;
use crate::store::admin::Request;
use crate::store::list::ListOptions;
use clap::Args;
use serde_json::json;

const DELETE_EXAMPLES: &str = "\
Examples:
  dostore delete rooms/lobby
  dostore delete 'rooms/lobster 3' --yes";

const PURGE_EXAMPLES: &str = "\
Examples:
  dostore purge rooms/gone
  dostore purge 'rooms/lobster 4' --yes";

/// Deletes an object with everything in it
///
/// Shows what would go, and deletes it with --yes. Its history stays for as long as history is
/// kept, and the command that brings it back is printed.
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub struct Delete {
    /// NS/NAME or NS/~HEX
    object: String,
    #[command(flatten)]
    consent: Consent,
}

/// Deletes an object and everything that it ever was
///
/// There is no way back. With --yes its past is out of reach at once, and its bytes are removed
/// from all files: now, or in the background where a process has the store open. Backups and
/// exports that were made before keep theirs.
#[derive(Debug, Args)]
#[command(after_help = PURGE_EXAMPLES)]
pub struct Purge {
    /// NS/NAME or NS/~HEX
    object: String,
    #[command(flatten)]
    consent: Consent,
}

impl Delete {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        end(call, "delete", &self.object, self.consent)
    }
}

impl Purge {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        end(call, "purge", &self.object, self.consent)
    }
}

/// Ends an object's life, or shows what would go.
fn end(call: &mut Call<'_>, verb: &'static str, object: &str, consent: Consent) -> Outcome {
    call.allow(LAYOUTS)?;
    let (address, is_purge) = (Address::of_object(object)?, verb == "purge");
    let mut seen = None;
    call.reading(|reader, _| {
        let place = Place::find(reader, &address)?;
        let snapshot = if is_purge {
            place.check_ever()?;
            place.snapshot(None)?
        } else {
            place.content(None)?
        };
        let (mut keys, mut size) = (0, 0);
        for entry in snapshot.list(ListOptions::new())? {
            let (key, value) = entry?;
            keys += 1;
            size += (key.len() + value.len()) as u64;
        }
        seen = Some((place.address(), object_fields(&place, &snapshot), keys, size));
        Ok(DONE)
    })?;
    let Some((object, mut document, keys, size)) = seen else { return Ok(FAILED) };
    document.extend(fields([("keys", json!(keys)), ("bytes", json!(size))]));
    let what = format!("{object}, {}, {}", count(keys, "key"), bytes(size));
    let past = if is_purge { ", and everything that it ever was" } else { "" };
    if !consent.yes {
        document.insert("done".to_owned(), json!(false));
        let last = dry_run(call, &[verb, &object]);
        return call.document(verb, document, &format!("would {verb} {what}{past}\n{last}"));
    }
    let of = target(call, &address)?;
    let request = if is_purge { Request::Purge { of } } else { Request::Delete { of } };
    let change = ask_change(call, "deleting", &request)?;
    document.extend(done_fields(call, &object, &change));
    let text = done_text(call, &object, &format!("{verb}d {what}{past},"), &change);
    call.document(verb, document, &text)
}

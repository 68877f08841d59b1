//! `put` and `rm`: keys of an object.

use super::restore::LAYOUTS;
use super::{Consent, ask_change, done_fields, done_text, dry_run, object_fields, target};
use crate::cli::address::{self, Address};
use crate::cli::call::{Call, fields};
use crate::cli::failure::{DONE, Failure, Outcome};
use crate::cli::figures::{bytes, count};
use crate::cli::place::{Place, space};
use crate::cli::usage;
use crate::store::admin::{Bytes, Request};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::Read;
use std::path::PathBuf;

const PUT_EXAMPLES: &str = "\
Examples:
  dostore put rooms/lobby:topic rust
  dostore put rooms/lobby:config '{\"open\":true}' --codec json
  dostore put rooms/cellar:topic rust --create
  dostore put rooms/lobby:odd --hex 00ff";

const RM_EXAMPLES: &str = "\
Examples:
  dostore rm rooms/lobby:topic
  dostore rm rooms/lobby topic visitor/ada --yes";

/// How a value may be kept to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kept {
    /// Nothing is said of it
    #[default]
    Raw,
    /// As JSON; it must be
    Json,
    /// As `MessagePack`
    Msgpack,
    /// As CBOR
    Cbor,
    /// As V8's structured clone
    V8,
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json => "json",
            Self::Msgpack => "msgpack",
            Self::Cbor => "cbor",
            Self::V8 => "v8",
        }
    }
}

/// Sets a key of an object
///
/// At once: the command that takes it back is printed. The value is the text as it stands, or what
/// --file has.
#[derive(Debug, Args)]
#[command(after_help = PUT_EXAMPLES)]
pub struct Put {
    /// NS/NAME:KEY
    address: String,
    /// The value, as text
    #[arg(required_unless_present_any = ["file", "hex"], conflicts_with_all = ["file", "hex"])]
    value: Option<String>,
    /// The value, from a file; - for the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "hex")]
    file: Option<PathBuf>,
    /// The value, in hex digits
    #[arg(long, value_name = "DIGITS")]
    hex: Option<String>,
    /// How tools read the value: raw, json, msgpack, cbor or v8
    #[arg(long, value_enum, default_value_t, value_name = "CODEC", hide_possible_values = true)]
    codec: Kept,
    /// Makes the namespace, and the store, if they are missing
    #[arg(long)]
    create: bool,
}

/// Deletes keys of an object
///
/// Shows what would go, and deletes it with --yes. All of the keys must be there.
#[derive(Debug, Args)]
#[command(after_help = RM_EXAMPLES)]
pub struct Rm {
    /// NS/NAME:KEY, or NS/NAME and keys behind it
    address: String,
    /// Keys of the object
    keys: Vec<String>,
    #[command(flatten)]
    consent: Consent,
}

/// The address of an object, and the key behind it.
fn keyed(text: &str) -> Result<(Address, Option<Vec<u8>>), Failure> {
    let mut address = Address::parse(text)?;
    if address.who.is_none() || address.when.is_some() {
        return Err(usage(format!("{text:?} is no key of an object: write NS/NAME:KEY")));
    }
    let key = address.key.take();
    Ok((address, key))
}

impl Put {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let (address, key) = keyed(&self.address)?;
        let Some(key) = key else {
            let text = &self.address;
            return Err(usage(format!("which key? write `put {text}:KEY VALUE`")));
        };
        let value = self.value()?;
        if self.codec == Kept::Json && serde_json::from_slice::<serde_json::Value>(&value).is_err()
        {
            return Err(usage("the value is no JSON; leave out --codec to set it as it stands"));
        }
        if !self.create {
            call.reading(|reader, _| space(reader, &address.space).map(|_| DONE))?;
        }
        let of = target(call, &address)?;
        let length = value.len() as u64;
        let request = Request::Put {
            of: of.clone(),
            key: Bytes(key.clone()),
            value: Bytes(value),
            codec: Some(self.codec.name().to_owned()),
            create: self.create,
        };
        let change = ask_change(call, "setting", &request)?;
        let object = address.to_string();
        let mut document = object_fields(&of);
        let key = address::key(&key);
        document.extend(fields([("key", json!(key)), ("size", json!(length))]));
        document.extend(done_fields(call, &object, &change));
        let what = format!("set {object}:{key} to {}", bytes(length));
        let text = done_text(call, &object, &what, &change);
        call.document("put", document, &text)
    }

    fn value(&self) -> Result<Vec<u8>, Failure> {
        if let Some(digits) = &self.hex {
            let read = crate::format::export::json::from_hex(digits.as_bytes());
            return read.map_err(|fault| usage(fault.0));
        }
        let Some(file) = &self.file else {
            return Ok(self.value.clone().unwrap_or_default().into_bytes());
        };
        let mut value = Vec::new();
        super::moving::input(file)?.0.read_to_end(&mut value).map_err(Failure::Output)?;
        Ok(value)
    }
}

impl Rm {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let (address, key) = keyed(&self.address)?;
        let mut keys: Vec<_> = key.into_iter().collect();
        for key in &self.keys {
            keys.push(address::unescape(key)?);
        }
        if keys.is_empty() {
            let text = &self.address;
            let what = format!("which key? write `rm {text}:KEY`; `keys {text}` lists them");
            return Err(usage(what));
        }
        let mut size = 0;
        call.reading(|reader, _| {
            let place = Place::find(reader, &address)?;
            let snapshot = place.content(None)?;
            size = 0;
            for key in &keys {
                let found = snapshot.get(key)?.ok_or_else(|| place.no_key(&snapshot, key))?;
                size += (key.len() + found.len()) as u64;
            }
            Ok(DONE)
        })?;
        let (of, object) = (target(call, &address)?, address.to_string());
        let names: Vec<_> = keys.iter().map(|key| address::key(key)).collect();
        let mut document = object_fields(&of);
        document.extend(fields([("keys", json!(names)), ("bytes", json!(size))]));
        let what = format!("{} of {object}, {}", count(keys.len() as u64, "key"), bytes(size));
        if !self.consent.yes {
            document.insert("done".to_owned(), json!(false));
            let names = names.into_iter().map(address::word).collect::<Vec<_>>();
            let words: Vec<_> = names.iter().map(|name| &**name).collect();
            let last = dry_run(call, &[&["rm", &object], &words[..]].concat());
            return call.document("rm", document, &format!("would delete {what}\n{last}"));
        }
        let keys = keys.into_iter().map(Bytes).collect();
        let change = ask_change(call, "deleting", &Request::Rm { of, keys })?;
        document.extend(done_fields(call, &object, &change));
        let text = done_text(call, &object, &format!("deleted {what},"), &change);
        call.document("rm", document, &text)
    }
}

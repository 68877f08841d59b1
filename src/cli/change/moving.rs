//! `dump` and `load`: objects as streams apart from any store.

use super::{Consent, ask_with, unexpected};
use crate::cli::address::Address;
use crate::cli::call::{Call, Format, Past, fields, is_damage};
use crate::cli::failure::{DONE, Failure, Outcome};
use crate::cli::figures::{bytes, count, digits};
use crate::cli::place::{Place, moment, moment_of_many, space};
use crate::cli::progress::measure;
use crate::cli::then::{Then, namespaces, objects, snapshot_of};
use crate::cli::time::When;
use crate::cli::usage;
use crate::error::{Error, Result as Stored};
use crate::store::admin::{Existing, Reply, Request};
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::transfer::{Exported, Exporter, Form};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const DUMP_EXAMPLES: &str = "\
Examples:
  dostore dump > copies/store.jsonl
  dostore dump rooms/lobby
  dostore dump rooms --at -8d
  dostore dump --compact -o copies/store.dump";

const LOAD_EXAMPLES: &str = "\
Examples:
  dostore load copies/lobby.jsonl --existing keep
  dostore load copies/lobby.jsonl --into elsewhere
  dostore load copies/lobby.jsonl --existing replace --yes";

/// Writes objects as lines of JSON, or as compact blocks
///
/// All are as of one moment. The lines are in a stable order and say nothing of when they were
/// made, so that those of two moments can be compared by `diff`. `dostore load` reads both forms.
#[derive(Debug, Args)]
#[command(after_help = DUMP_EXAMPLES)]
pub struct Dump {
    /// NS/NAME, NS/~HEX or NS, with @TIME behind it if wanted; all namespaces without
    address: Option<String>,
    #[command(flatten)]
    past: Past,
    /// Writes compressed blocks with checksums
    #[arg(long)]
    compact: bool,
    /// Writes to a file, which must not be there yet
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What becomes of objects that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum There {
    /// The load ends there
    #[default]
    Refuse,
    /// They are deleted first; needs --yes
    Replace,
    /// They stay as they are
    Keep,
}

/// Reads objects that `dostore dump` has written into a store
///
/// A store and namespaces that are missing are made. One that was interrupted goes on with
/// --existing keep.
#[derive(Debug, Args)]
#[command(after_help = LOAD_EXAMPLES)]
pub struct Load {
    /// The file; - for the standard input
    file: PathBuf,
    /// Puts everything into this namespace
    #[arg(long, value_name = "NS")]
    into: Option<String>,
    /// What becomes of objects that have content: refuse, replace or keep
    #[arg(long, value_enum, default_value_t, value_name = "WHAT", hide_possible_values = true)]
    existing: There,
    #[command(flatten)]
    consent: Consent,
}

/// A file to be read; the standard input for `-`. With its bytes, where they are known.
pub fn input(file: &Path) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let opened = File::open(file);
    let opened = opened.map_err(|cause| Error::io(format!("opening {}", file.display()), cause))?;
    let bytes = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|it| it.len());
    Ok((Box::new(opened), bytes))
}

/// What is written.
enum Wanted {
    Object(Address, Option<When>),
    Many(Option<String>, Option<When>),
}

impl Dump {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Raw])?;
        let wanted = self.wanted(call)?;
        let form = if self.compact { Form::Binary } else { Form::Text };
        call.count("objects");
        let Some(path) = &self.output else {
            return call.reading(|reader, call| {
                let (bar, mut missing) = (call.counted(), Missing::default());
                write(reader, &wanted, (form, &bar, &mut missing), Printed(call))?;
                missing.tell(call)?;
                Ok(DONE)
            });
        };
        let mut file = create(path)?;
        let done = call.reading(|reader, call| {
            // A read that begins again begins a file anew.
            file.set_len(0)?;
            io::Seek::rewind(&mut file)?;
            let (bar, mut missing) = (call.counted(), Missing::default());
            let done = write(reader, &wanted, (form, &bar, &mut missing), &mut file)?;
            let what = count(done.objects, "object");
            let lacks = if missing.0.is_empty() { "" } else { NO_END };
            call.line(&format!("wrote {what}, {}{lacks}", bytes(done.bytes)))?;
            missing.tell(call)?;
            Ok(DONE)
        });
        if done.is_err() {
            remove(path);
        }
        done
    }

    fn wanted(&self, call: &Call<'_>) -> Result<Wanted, Failure> {
        let at = self.past.at.as_deref();
        let Some(text) = &self.address else {
            return Ok(Wanted::Many(None, moment_of_many(call, None, at)?));
        };
        let address = Address::parse(text)?;
        if address.key.is_some() {
            return Err(usage(format!("{text:?} is a key; `get --format raw` prints its value")));
        }
        if address.who.is_some() {
            let when = moment(call, &address, at)?;
            return Ok(Wanted::Object(address, when));
        }
        let at = moment_of_many(call, address.when.as_deref(), at)?;
        Ok(Wanted::Many(Some(address.space), at))
    }
}

/// What people are told of a dump that lacks what is damaged.
const NO_END: &str =
    "; what is damaged is not in it, so it has no end: `load` takes it and says so";

/// Damages that are kept to be told.
const KEPT_MAX: usize = 100;

/// What damage keeps out of a dump.
#[derive(Default)]
struct Missing(Vec<Error>);

impl Missing {
    fn readable<T>(&mut self, read: Stored<T>) -> Stored<Option<T>> {
        match read {
            Err(error) if is_damage(&error) => {
                if self.0.len() < KEPT_MAX {
                    self.0.push(error);
                }
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    fn tell(self, call: &mut Call<'_>) -> Result<(), Failure> {
        self.0.into_iter().try_for_each(|error| call.readable::<()>(Err(error)).map(drop))
    }
}

/// The output of a call, for an exporter.
struct Printed<'a, 'c>(&'a mut Call<'c>);

impl Write for Printed<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(Failure::Output(cause)) => Err(cause),
            Err(other) => Err(io::Error::other(other.to_string())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes a dump that was not completed: a part of one is none, and would be in the way.
#[expect(clippy::disallowed_methods, reason = "the file is the user's, and of no store")]
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn create(path: &Path) -> Result<File, Failure> {
    // It has what objects hold, so it is for nobody else to read.
    let created = File::options().write(true).create_new(true).mode(0o600).open(path);
    Ok(created.map_err(|cause| Error::io(format!("creating {}", path.display()), cause))?)
}

fn write(
    reader: &Reader,
    wanted: &Wanted,
    (form, bar, missing): (Form, &ProgressBar, &mut Missing),
    out: impl Write,
) -> Result<Exported, Failure> {
    let mut exporter = Exporter::new(form, out)?;
    match wanted {
        Wanted::Object(address, when) => {
            let place = Place::find(reader, address)?;
            let snapshot = place.content(*when)?;
            exporter.namespace(place.space.name())?;
            exporter.object(place.id, &snapshot)?;
        }
        Wanted::Many(Some(name), at) => {
            let at = Then::of(reader, *at)?;
            add(&mut exporter, &space(reader, name)?, at, (bar, missing))?;
        }
        Wanted::Many(None, at) => {
            let at = Then::of(reader, *at)?;
            for space in namespaces(reader, at)? {
                add(&mut exporter, &space, at, (bar, missing))?;
            }
        }
    }
    Ok(if missing.0.is_empty() { exporter.finish()? } else { exporter.leave()? })
}

/// Writes the objects of a namespace as of a moment, or as the reader shows them.
fn add<W: Write>(
    exporter: &mut Exporter<W>,
    space: &ReaderNamespace,
    at: Option<Then>,
    (bar, missing): (&ProgressBar, &mut Missing),
) -> Result<(), Failure> {
    exporter.namespace(space.name())?;
    for info in objects(space, None, at)? {
        let info = missing.readable(info)?;
        let Some(id) = info.filter(|info| !info.is_unfinished).map(|info| info.id) else {
            continue;
        };
        let whole =
            snapshot_of(space, id, at).and_then(|it| Exporter::<W>::check(id, &it).map(|()| it));
        if let Some(snapshot) = missing.readable(whole)? {
            exporter.object(id, &snapshot)?;
            bar.inc(1);
        }
    }
    Ok(())
}

impl Load {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(super::restore::LAYOUTS)?;
        if self.existing == There::Replace && !self.consent.yes {
            return Err(usage("--existing replace deletes what is there: add --yes to do it"));
        }
        let existing = match self.existing {
            There::Refuse => Existing::Refuse,
            There::Replace => Existing::Replace,
            There::Keep => Existing::Keep,
        };
        let (mut input, bytes) = input(&self.file)?;
        let bar = call.spinner("loading");
        if let Some(bytes) = bytes {
            measure(&bar, bytes);
        }
        let request = Request::Load { namespace: self.into.clone(), existing };
        let loaded = match ask_with(call, &bar, &request, &mut *input)? {
            Reply::Loaded(loaded) => loaded,
            other => return Err(unexpected(&other)),
        };
        let kept = match loaded.kept {
            0 => String::new(),
            kept => format!("; {} stayed as they are", digits(kept)),
        };
        let objects = count(loaded.objects, "object");
        let text = format!("loaded {objects} with {} entries{kept}", digits(loaded.items));
        let document = fields([
            ("objects", json!(loaded.objects)),
            ("kept", json!(loaded.kept)),
            ("items", json!(loaded.items)),
        ]);
        call.document("load", document, &text)
    }
}

//! One call of the command: what every verb has at hand to read and to print with.
//!
//! Invariants:
//!   * Nothing here changes a byte of a store or takes its lock.
//!   * Output that was not seen yet is taken back when a read has to begin again.
//!   * What damage hides of a list is told at the end of the call, once, and in its exit code.
//!   * No foreign text steers a terminal: what would is written out, in JSON as JSON has it.

use super::failure::{DONE, Failure, Outcome, told};
use super::figures::tame;
use super::progress;
use super::table::Paper;
use super::time::{Calendar, machine, short};
use super::{Stage, Terminal};
use crate::disk::real::{RealClock, RealReadDisk};
use crate::disk::{Clock, ReadDisk};
use crate::error::{Error, ErrorKind, Place, Result as Stored};
use crate::ids::{Lsn, Timestamp};
use crate::inspect::{forbidden, is_there};
use crate::names::FileName;
use crate::store::reader::{Reader, is_given_up};
use crate::store::untrusted::{Bounds, OpenMode};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of what programs read.
pub const SCHEMA: &str = "dostore/1";

/// What stands above the options of every verb in its help.
const EVERYWHERE: &str = "Options of every verb";

/// How often a read begins again when the writer removes what it reads.
const ATTEMPTS: usize = 32;

/// Bytes of output that are held back, so that a read can begin again.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Damages that are told one by one.
const DAMAGES_TOLD: usize = 8;

/// How output is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// A JSON document on each line
    Jsonl,
    /// Comma-separated fields under a line of their names
    Csv,
    /// The value's bytes and nothing else
    Raw,
}

/// What every verb takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Globals {
    /// The store's folder
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    #[arg(help = "The store's folder; DOSTORE_DIR in the environment says it too")]
    #[arg(help_heading = EVERYWHERE)]
    pub directory: Option<PathBuf>,
    /// How output is laid out
    #[arg(long, value_enum, value_name = "FORMAT", global = true, hide_possible_values = true)]
    #[arg(help = "How output is laid out: table, json, jsonl, csv or raw")]
    #[arg(help_heading = EVERYWHERE)]
    pub format: Option<Format>,
    /// The same as --format json
    #[arg(long, global = true, conflicts_with = "format", help_heading = EVERYWHERE)]
    pub json: bool,
    /// Shows and reads times in UTC instead of the machine's zone
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub utc: bool,
    /// Takes the store for one that anybody may have written: verified whole before any of it is
    /// shown, and never mapped
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub untrusted: bool,
}

/// A moment to read at.
#[derive(Clone, Debug, Default, Args)]
pub struct Past {
    /// Reads as of then: a time, a span as -15m, or a bookmark
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: Option<String>,
}

/// How much of a list, from where on.
#[derive(Clone, Debug, Default, Args)]
pub struct Page {
    /// Lists so many at most
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Goes on behind this one, as `next` of the list before says it
    #[arg(long, value_name = "ADDRESS")]
    pub after: Option<String>,
}

/// Output that can be taken back as long as nobody has seen it.
struct Sheet<'a> {
    out: &'a mut dyn Write,
    held: Vec<u8>,
    is_seen: bool,
    /// What shows how far the call has come steps aside for it.
    bar: ProgressBar,
}

impl Write for Sheet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() > HELD_BYTES_MAX {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.is_seen |= !self.held.is_empty();
        self.bar.suspend(|| {
            self.out.write_all(&self.held)?;
            self.held.clear();
            self.out.flush()
        })
    }
}

/// One call.
pub struct Call<'a> {
    /// What every verb takes.
    pub globals: Globals,
    /// How times are read and shown.
    pub calendar: Calendar,
    /// What is printed on.
    pub paper: Paper,
    /// Whether somebody at a terminal waits.
    is_watched: bool,
    /// Damage that hides a part of what was asked for.
    hidden: Vec<String>,
    /// How much of it was told.
    told: usize,
    sheet: Sheet<'a>,
    errors: &'a mut dyn Write,
}

impl<'a> Call<'a> {
    /// A call that prints to a stage, and takes its `now` for the present time, if it is given.
    pub fn new(globals: Globals, stage: Stage<'a>, terminal: Terminal) -> Self {
        let Stage { out, errors, now } = stage;
        let zone = if globals.utc { TimeZone::UTC } else { TimeZone::system() };
        let now = now.unwrap_or_else(|| Timestamp(RealClock::new().wall_micros()));
        let calendar = Calendar { now, zone };
        let sheet = Sheet { out, held: Vec::new(), is_seen: false, bar: ProgressBar::hidden() };
        let Terminal { paper, is_watched } = terminal;
        let (hidden, told) = (Vec::new(), 0);
        Self { globals, calendar, paper, is_watched, hidden, told, sheet, errors }
    }

    /// Something that turns while long work is done; hidden where nobody looks.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        progress::spinner(self.is_watched, what)
    }

    /// The same with how many things were looked at.
    pub fn counter(&self, what: &str) -> ProgressBar {
        progress::counter(self.is_watched, what)
    }

    /// From here to the end of the call, counts things that are looked at.
    pub fn count(&mut self, what: &str) {
        self.sheet.bar = self.counter(what);
    }

    /// One more was looked at.
    pub fn step(&self) {
        self.sheet.bar.inc(1);
    }

    /// What counts, for whoever cannot hold the call while it looks.
    pub fn counted(&self) -> ProgressBar {
        self.sheet.bar.clone()
    }

    /// How output is laid out.
    pub fn format(&self) -> Format {
        if self.globals.json { Format::Json } else { self.globals.format.unwrap_or_default() }
    }

    /// Refuses layouts that the verb does not have.
    pub fn allow(&self, formats: &[Format]) -> Result<(), Failure> {
        if formats.contains(&self.format()) {
            return Ok(());
        }
        let names = formats.iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
        let (last, others) = names.split_last().map_or(("", &[][..]), |(it, rest)| (&**it, rest));
        let what = format!("--format of this verb is {} or {last}", others.join(", "));
        Err(Failure::Usage(what))
    }

    /// The store's folder.
    pub fn directory(&self) -> Result<&Path, Failure> {
        self.globals.directory.as_deref().ok_or_else(|| {
            let what = "say which store: -C DIR, or DOSTORE_DIR in the environment";
            Failure::Usage(what.to_owned())
        })
    }

    /// The store's folder, opened for whoever looks at files.
    pub fn disk(&self) -> Result<RealReadDisk, Failure> {
        self.believe("looks at files as they are, whoever wrote them")?;
        self.folder()
    }

    /// Refuses to go on where the store need not be believed.
    pub fn believe(&self, why: &str) -> Result<(), Failure> {
        if !self.globals.untrusted {
            return Ok(());
        }
        Err(Failure::Usage(format!("--untrusted is for verbs that show objects; this one {why}")))
    }

    fn folder(&self) -> Result<RealReadDisk, Failure> {
        let directory = self.directory()?;
        RealReadDisk::open(directory).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                let what = format!("there is no folder {}", directory.display());
                Failure::Store(Error::new(ErrorKind::NotFound, "store.missing", what))
            }
            _ => Failure::Store(Error::io(format!("opening {}", directory.display()), cause)),
        })
    }

    /// That no store is where one was looked for, or none that has its manifest.
    pub fn no_store(&self) -> Failure {
        if self.folder().is_ok_and(|disk| is_there(&disk).unwrap_or(false)) {
            let what = "the store has lost its manifest: `dostore verify` says what is left of it";
            let place = Place::new(FileName::Manifest, 0);
            return Error::corrupt("manifest.missing", what, place).into();
        }
        let folder = self.globals.directory.as_deref().unwrap_or(Path::new(""));
        let what = format!("there is no store in {}", folder.display());
        Failure::Store(Error::new(ErrorKind::NotFound, "store.missing", what))
    }

    /// Opens a reader on the store.
    pub fn open(&self) -> Result<Reader, Failure> {
        let bounds = || OpenMode::Untrusted(Bounds::new());
        let mode = self.globals.untrusted.then(bounds).unwrap_or_default();
        match Reader::open_on_with(self.folder()?, mode) {
            Err(error) if error.code() == "store.missing" => Err(self.no_store()),
            done => Ok(done?),
        }
    }

    /// Reads with `read`, which prints as well; again from the beginning when the writer has
    /// removed what it needs.
    pub fn reading(&mut self, mut read: impl FnMut(&Reader, &mut Self) -> Outcome) -> Outcome {
        let mut reader = self.open()?;
        let mut attempt = 1;
        loop {
            match read(&reader, self) {
                Err(Failure::Store(error)) if is_given_up(&error) => {
                    if self.sheet.is_seen || attempt == ATTEMPTS {
                        let what = "the writer has removed files meanwhile; try again";
                        let error = Error::new(ErrorKind::Busy, "reader.overtaken", what);
                        return Err(error.into());
                    }
                    self.sheet.held.clear();
                    self.hidden.clear();
                    attempt += 1;
                    reader.refresh()?;
                }
                done => return done,
            }
        }
    }

    /// What was read; none where damage hides it: the rest is of use all the same.
    pub fn readable<T>(&mut self, read: Stored<T>) -> Result<Option<T>, Failure> {
        match read {
            Err(error) if is_damage(&error) => {
                self.hide(told(&error));
                Ok(None)
            }
            read => Ok(Some(read?)),
        }
    }

    /// Notes damage that hides a part of what was asked for.
    pub fn hide(&mut self, what: String) {
        if !self.hidden.contains(&what) && self.hidden.len() <= DAMAGES_TOLD {
            self.hidden.push(what);
        }
    }

    /// Tells of what damage hides, each once.
    pub fn tell_hidden(&mut self) {
        let hidden = std::mem::take(&mut self.hidden);
        for what in hidden.iter().take(DAMAGES_TOLD).skip(self.told) {
            self.tell(what);
        }
        if hidden.len() > DAMAGES_TOLD.max(self.told) {
            self.tell("there is more damage");
        }
        if self.told < hidden.len() {
            self.tell("what is damaged is not shown; `dostore verify` names all of it");
        }
        (self.told, self.hidden) = (hidden.len(), hidden);
    }

    /// Whether damage hides anything.
    pub fn is_hidden(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// Tells what went wrong.
    pub fn tell(&mut self, what: &str) {
        let what = tame(what, false, |it| it.escape_default().to_string());
        let errors = &mut *self.errors;
        // Nobody is left to tell if this fails.
        self.sheet.bar.suspend(|| drop(writeln!(errors, "dostore: {what}")));
    }

    /// Lets time pass, with all output seen, and looks at the clock.
    pub fn sleep(&mut self, micros: u64) -> Result<(), Failure> {
        self.finish()?;
        let clock = RealClock::new();
        clock.sleep(Duration::from_micros(micros));
        self.calendar.now = Timestamp(clock.wall_micros());
        Ok(())
    }

    /// All output is seen.
    pub fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.sheet.flush()?)
    }

    /// Nothing more is looked at: all output is seen, and what damage hides is told.
    pub fn end(&mut self) -> Result<(), Failure> {
        self.sheet.bar.finish_and_clear();
        let seen = self.finish();
        self.tell_hidden();
        seen
    }

    /// Prints bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.sheet.write_all(bytes)?)
    }

    /// Prints text.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        let shown = match self.format() {
            Format::Table | Format::Raw => {
                tame(text, self.paper.is_coloured, |it| it.escape_default().to_string())
            }
            Format::Json | Format::Jsonl => {
                tame(text, false, |it| format!("\\u{:04x}", u32::from(it)))
            }
            // Fields have what is in them.
            Format::Csv => Cow::Borrowed(text),
        };
        self.bytes(shown.as_bytes())
    }

    /// Prints a line.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.text(text)?;
        self.bytes(b"\n")
    }

    /// Prints a document: `fields` for programs, `text` for people.
    pub fn document(&mut self, kind: &str, fields: Map<String, Json>, text: &str) -> Outcome {
        let mut document = Map::new();
        document.insert("schema".to_owned(), json!(SCHEMA));
        document.insert("kind".to_owned(), json!(kind));
        document.extend(fields);
        let printed = match self.format() {
            Format::Json => self.line(&format!("{:#}", Json::Object(document))),
            Format::Jsonl => self.line(&Json::Object(document).to_string()),
            Format::Table | Format::Csv | Format::Raw => self.line(text),
        };
        match printed {
            // What was found out holds, whoever reads it to its end.
            Err(failure) if failure.is_deaf() => Ok(DONE),
            printed => printed.map(|()| DONE),
        }
    }

    /// What is read, and when that was, for people.
    pub fn position_text(&self, position: Lsn, time: Timestamp) -> String {
        if position == Lsn::ZERO {
            return "as of now: nothing was ever committed".to_owned();
        }
        let (at, ago) = (self.calendar.show(time), self.calendar.distance(time));
        format!("as of commit {}, {at}, {ago}", short(position))
    }
}

/// Whether what was read is damaged, and not only given up by the writer meanwhile.
pub fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Corrupt && !is_given_up(error)
}

/// Refuses a store of which this user may not read every file: what it may not read is not damaged.
pub fn check_readable(disk: &dyn ReadDisk) -> Result<(), Failure> {
    match forbidden(disk)? {
        None => Ok(()),
        Some((name, cause)) => Err(Error::io(format!("opening {name}"), cause).into()),
    }
}

/// The fields of a document.
pub fn fields<const N: usize>(fields: [(&str, Json); N]) -> Map<String, Json> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The fields that say what was read.
pub fn position_fields(reader: &Reader) -> Map<String, Json> {
    fields([
        ("position", json!(reader.position().0)),
        ("position_time", json!(machine(reader.time()))),
    ])
}

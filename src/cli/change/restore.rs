//! `restore` and `undo`: an object, a namespace or the store becomes what it was.

use super::preview::Preview;
use super::preview_all::PreviewAll;
use super::{Consent, ask, ask_change, command, dry_run, moment_text, target, unexpected};
use crate::bookmark::Bookmark;
use crate::cli::address::{self, Address};
use crate::cli::call::{Call, Format, fields};
use crate::cli::failure::{DAMAGED, DONE, FAILED, Failure, Outcome};
use crate::cli::figures::{count, digits};
use crate::cli::get::object_fields;
use crate::cli::place::{Place, moment, space, time_of_many};
use crate::cli::time::{machine, short};
use crate::cli::usage;
use crate::disk::ReadDisk;
use crate::ids::{Lsn, Timestamp};
use crate::store::admin::{Change, ManyRestored, Reply, Request, When, Which};
use clap::Args;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  dostore restore rooms/lobby --to -8d
  dostore restore rooms/lobby --to 'yesterday 14:00' --yes
  dostore restore 'rooms/gone@-6d 12h' --yes
  dostore restore rooms --to -8d
  dostore restore --all --to -8d --json";

const UNDO_EXAMPLES: &str = "\
Examples:
  dostore undo rooms/lobby
  dostore undo rooms/lobby --yes";

/// Layouts of what is told of a change.
pub const LAYOUTS: &[Format] = &[Format::Table, Format::Json, Format::Jsonl];

/// Makes an object, a namespace or the store what it was
///
/// Shows what would change, and does it with --yes: as one commit for each object, so that nothing
/// is lost: what was committed since stays in the history, and the command that undoes it is
/// printed. Objects that were deleted come back. Of several objects each is restored by itself.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS/NAME, NS/~HEX or NS, with @TIME behind it if there is no --to
    address: Option<String>,
    /// The moment: a time, a span as -15m, or a bookmark of the object
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// All namespaces
    #[arg(long, conflicts_with = "address")]
    all: bool,
    /// Alarms come back too; without this they stay as they are
    #[arg(long)]
    alarms: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Takes back the last restoration of an object
///
/// The object becomes what it was right before. What was committed to it since goes as well, which
/// is shown first. Done twice, the restoration is there again.
#[derive(Debug, Args)]
#[command(after_help = UNDO_EXAMPLES)]
pub struct Undo {
    /// NS/NAME or NS/~HEX
    object: String,
    /// Alarms come back too; without this they stay as they are
    #[arg(long)]
    alarms: bool,
    #[command(flatten)]
    consent: Consent,
}

/// How an object is to be restored.
#[derive(Clone, Copy)]
struct How {
    alarms: bool,
    yes: bool,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let how = How { alarms: self.alarms, yes: self.consent.yes };
        let Some(text) = &self.address else {
            if !self.all {
                return Err(usage("restore what? NS/NAME, NS, or --all for the store"));
            }
            let at = time_of_many(call, None, self.to.as_deref())?.ok_or_else(no_time)?;
            return many(call, None, at, how);
        };
        let address = Address::parse(text)?;
        if address.key.is_some() {
            let what = format!("{text:?} is a key; an object is restored: leave out the key");
            return Err(usage(what));
        }
        if address.who.is_none() {
            let (when, to) = (address.when.as_deref(), self.to.as_deref());
            let at = time_of_many(call, when, to)?.ok_or_else(no_time)?;
            return many(call, Some(&address.space), at, how);
        }
        let when = moment(call, &address, self.to.as_deref())?.ok_or_else(no_time)?;
        let address = Address { when: None, ..address };
        one(call, &address, how, "restore", |place| {
            place.check_ever()?;
            Ok((place.bookmark(Some(when))?, None))
        })
    }
}

fn no_time() -> Failure {
    usage("to when? --to TIME, as --to -15m, or @TIME behind the address")
}

impl Undo {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let how = How { alarms: self.alarms, yes: self.consent.yes };
        one(call, &Address::of_object(&self.object)?, how, "undo", |place| {
            place.check_ever()?;
            for (since, entry) in (0..).zip(place.space.history(place.id, ..)?.rev()) {
                let entry = entry?;
                if entry.restored.is_some_and(|from| !from.is_fork) {
                    let before = Lsn(entry.bookmark.lsn().0 - 1);
                    let note = format!(
                        "  the restoration {} goes, and {} since",
                        short(entry.bookmark.lsn()),
                        count(since, "commit")
                    );
                    return Ok((place.space.bookmark_of(place.id, before)?, Some(note)));
                }
            }
            let what = format!("there is no restoration of {} to undo", place.address());
            Err(Failure::Missing(what))
        })
    }
}

/// What a preview was made of, kept for behind the change.
struct Seen {
    address: String,
    fields: Map<String, Json>,
    to: Bookmark,
    text: String,
}

/// Restores one object to the moment that `find` says, or shows what that would change.
fn one(
    call: &mut Call<'_>,
    address: &Address,
    how: How,
    verb: &str,
    find: impl Fn(&Place) -> Result<(Bookmark, Option<String>), Failure>,
) -> Outcome {
    let mut seen = None;
    call.reading(|reader, call| {
        let place = Place::find(reader, address)?;
        let (to, note) = find(&place)?;
        let preview = Preview::of(&place, to)?;
        let mut fields = object_fields(&place, &place.snapshot(None)?);
        fields.extend(preview.fields(how.alarms));
        let moment = moment_text(call, &to, preview.to_time);
        let note = note.map(|note| format!("\n{note}")).unwrap_or_default();
        let text = format!("{moment}{note}\n{}", preview.text(call, how.alarms));
        seen = Some(Seen { address: place.address(), fields, to, text });
        Ok(DONE)
    })?;
    let Some(mut seen) = seen else { return Ok(FAILED) };
    let alarms: &[&str] = if how.alarms { &["--alarms"] } else { &[] };
    if !how.yes {
        let to = seen.to.to_string();
        let words = [&["restore", &seen.address, "--to", &to], alarms].concat();
        let last = dry_run(call, &words);
        seen.fields.insert("done".to_owned(), json!(false));
        let holder = call.disk()?.lock_holder().ok().flatten();
        let held = holder.map(|holder| format!("{holder} has the store open, and does it\n"));
        let held = held.unwrap_or_default();
        let text = format!("would {verb} {} to {}\n{held}{last}", seen.address, seen.text);
        return call.document("restoration", seen.fields, &text);
    }
    let (of, to) = (target(call, address)?, When::Bookmark(seen.to.to_string()));
    let change = ask_change(call, "restoring", &Request::Restore { of, to, alarms: how.alarms })?;
    seen.fields.extend(super::done_fields(call, &seen.address, &change));
    let text = told(call, &seen, &change);
    call.document("restoration", seen.fields, &text)
}

/// What was done, for people.
fn told(call: &Call<'_>, seen: &Seen, change: &Change) -> String {
    let Seen { address, text, .. } = seen;
    let commit = short(Lsn(change.lsn));
    let undo = match super::undo_of(call, address, change) {
        Some(exactly) => {
            let undo = command(call, &["undo", address, "--yes"]);
            format!("undo:  {undo}\n  or:  {exactly}")
        }
        None => "no history is kept: there is no way back".to_owned(),
    };
    let fenced = super::fenced(change);
    format!("restored {address} as commit {commit}{fenced}\n  to {text}\n{undo}")
}

/// Restores many objects, or shows how many would change.
fn many(call: &mut Call<'_>, only: Option<&str>, at: Timestamp, how: How) -> Outcome {
    let mut preview = None;
    call.reading(|reader, call| {
        if let Some(name) = only {
            space(reader, name)?;
        }
        let bar = call.spinner("comparing objects");
        let compared = PreviewAll::of(reader, only, at);
        bar.finish_and_clear();
        preview = Some(compared?);
        Ok(DONE)
    })?;
    let preview = preview.unwrap_or_default();
    let what = only.map_or_else(|| "the store".to_owned(), address::space);
    let time = PreviewAll::time(call, at);
    let mut document = fields([("ns", json!(only)), ("to_time", json!(machine(at)))]);
    document.extend(preview.fields());
    document.insert("with_alarms".to_owned(), json!(how.alarms));
    if !how.yes {
        document.insert("done".to_owned(), json!(false));
        let last = dry_run(
            call,
            &words(only, at, how.alarms).iter().map(|word| &**word).collect::<Vec<_>>(),
        );
        let text = format!("would restore {what} to {time}\n{}\n{last}", preview.text());
        return call.document("restorations", document, &text);
    }
    let namespace = only.map(str::to_owned);
    let request = Request::RestoreAll { namespace, time: at.0, alarms: how.alarms };
    let done = match ask(call, &format!("restoring {what}"), &request)? {
        Reply::RestoredAll(done) => done,
        other => return Err(unexpected(&other)),
    };
    let undo = done.undo.map(|at| {
        let mut words = words(only, Timestamp(at), how.alarms);
        words.push("--yes".to_owned());
        command(call, &words.iter().map(|word| &**word).collect::<Vec<_>>())
    });
    document.extend(many_fields(&done, undo.as_deref()));
    let text = format!("restored {what} to {time}\n{}", many_text(&done, undo.as_deref()));
    call.document("restorations", document, &text)?;
    Ok(match (done.lost.is_empty(), done.failed) {
        (false, _) => DAMAGED,
        (true, 0) => DONE,
        (true, _) => FAILED,
    })
}

/// The words that restore many objects to a time.
fn words(only: Option<&str>, at: Timestamp, alarms: bool) -> Vec<String> {
    let what = only.map_or_else(|| "--all".to_owned(), address::space);
    let mut words = vec!["restore".to_owned(), what, "--to".to_owned()];
    words.push(machine(at).unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned()));
    words.extend(alarms.then(|| "--alarms".to_owned()));
    words
}

fn many_text(done: &ManyRestored, undo: Option<&str>) -> String {
    let looked = count(done.looked_at, "object");
    let mut text = format!("  {} of {looked} looked at are restored", digits(done.restored));
    for failure in &done.failures {
        let object = match &failure.of.object {
            Which::Name(name) => address::name(name),
            Which::Id(id) => format!("~{id}"),
        };
        let space = address::space(&failure.of.namespace);
        let _ = write!(text, "\n  failed: {space}/{object}: {}", failure.why.what);
    }
    if done.failed > done.failures.len() as u64 {
        let _ = write!(text, "\n  {} failed in all", count(done.failed, "object"));
    }
    for lost in &done.lost {
        let _ = write!(text, "\n  objects that are lost were not looked at: {}", lost.what);
    }
    match undo {
        Some(undo) => {
            format!("{text}\nundo, and with it what others have committed since:  {undo}")
        }
        None => text,
    }
}

fn many_fields(done: &ManyRestored, undo: Option<&str>) -> Map<String, Json> {
    fields([
        ("done", json!(true)),
        ("looked_at", json!(done.looked_at)),
        ("restored", json!(done.restored)),
        ("failed", json!(done.failed)),
        ("failures", json!(done.failures)),
        ("lost", json!(done.lost)),
        ("undo_time", json!(done.undo.and_then(|at| machine(Timestamp(at))))),
        ("undo_command", json!(undo)),
    ])
}

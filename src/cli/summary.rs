//! A store in figures, and what a verification found: as text for people, as fields for programs.
//!
//! Invariants:
//!   * Fields of JSON documents keep their names and meanings; new ones may come.

use super::address;
use super::call::{Call, fields, position_fields};
use super::failure::{DONE, Failure, OUTSIDE_HISTORY, Outcome};
use super::figures::{GREEN, PLAIN, RED, bar, bytes, count, digits, facts};
use super::listing::Listing;
use super::table::{Columns, table};
use super::then::{Then, counted_if_kept, namespaces};
use super::time::{Calendar, When, machine as time, short};
use crate::format::manifest::HistoryFile;
use crate::ids::{Address, Lsn, Timestamp};
use crate::inspect::summary::NamespaceSummary;
use crate::inspect::{Fault, GoneHistory, KeyRange, Report, Summary};
use crate::names::FileName;
use crate::store::reader::{Reader, ReaderNamespace};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Characters of the longest bar.
const BAR_WIDTH: usize = 24;

/// The figures of the store at hand.
pub fn read(call: &mut Call<'_>) -> Result<Summary, Failure> {
    let summary = match crate::inspect::summary(call.disk()?) {
        Err(error) if error.code() == "store.missing" => return Err(call.no_store()),
        done => done?,
    };
    summary.lost.iter().for_each(|lost| call.hide(lost.clone()));
    Ok(summary)
}

/// Bytes by what they are there for.
fn accounts(summary: &Summary) -> [(&'static str, u64); 9] {
    [
        ("live pages", summary.live_bytes),
        ("reclaimable", summary.reclaimable_bytes),
        ("sorted runs", summary.run_bytes),
        ("history", summary.history_bytes),
        ("log", summary.log_bytes),
        ("log files ready", summary.pool_bytes),
        ("no longer named", summary.unnamed_bytes),
        ("manifest and lock", summary.other_bytes),
        ("not the store's", summary.foreign_bytes),
    ]
}

/// A store in figures, for people.
pub fn summary(call: &Call<'_>, summary: &Summary) -> String {
    let commit = |lsn: Lsn, at: Timestamp| match time(at) {
        Some(_) => format!("commit {}, {}", short(lsn), call.calendar.show(at)),
        None => "nothing yet".to_owned(),
    };
    let spaces = summary.namespaces.len() as u64;
    let reach = match summary.history_from {
        None => "none in files yet".to_owned(),
        Some(Timestamp(0)) => "from the first commit on".to_owned(),
        Some(at) => format!("from {}, {}", call.calendar.show(at), call.calendar.distance(at)),
    };
    let about = facts(&[
        ("store", summary.store.to_string()),
        ("format", format!("{}, term {}", summary.format, summary.term)),
        ("writer", summary.writer.clone().unwrap_or_else(|| "none".to_owned())),
        ("read as of", commit(summary.position, summary.position_time)),
        ("checkpoint", commit(summary.cut, summary.cut_time)),
        ("behind it", format!("{} in the log", count(summary.log_commits, "commit"))),
        ("objects", format!("{} in {}", digits(summary.objects()), count(spaces, "namespace"))),
        ("history", reach),
    ]);
    let rows: Vec<_> = summary.namespaces.iter().map(space_cells).collect();
    let spaces = table(SPACE_COLUMNS, &rows, call.paper);
    let most = accounts(summary).iter().map(|(_, account)| *account).max().unwrap_or(0);
    let row = |name: String, account: u64, bar: String| vec![name, digits(account), bar];
    let accounts = accounts(summary);
    let mut rows: Vec<_> = accounts
        .iter()
        .map(|(name, account)| row((*name).to_owned(), *account, bar(*account, most, BAR_WIDTH)))
        .collect();
    let (files, segments, runs) = (summary.files, summary.segments, summary.runs);
    let (segments, runs) = (count(segments, "segment"), count(runs, "run"));
    let all = format!("all {}, {segments}, {runs}", count(files, "file"));
    rows.push(row(all, summary.disk_bytes(), String::new()));
    let space = table(&["SPACE", "-BYTES", "?"], &rows, call.paper);
    format!("{about}\n\n{spaces}\n\n{space}")
}

const SPACE_COLUMNS: Columns = &["NAMESPACE", "-OBJECTS", "?-KEYS", "?-SIZE", "?-ALARMS"];

fn space_cells(space: &NamespaceSummary) -> Vec<String> {
    let number = space.number;
    let name = space.name.as_deref().map(super::address::space);
    let about = if space.approximate > 0 { "~" } else { "" };
    vec![
        name.unwrap_or_else(|| format!("number {number}, not known")),
        digits(space.objects),
        format!("{about}{}", digits(space.keys)),
        format!("{about}{}", bytes(space.content_bytes)),
        digits(space.alarms),
    ]
}

fn space_fields(space: &NamespaceSummary) -> Vec<(&'static str, Value)> {
    vec![
        ("number", json!(space.number.0)),
        ("name", json!(space.name)),
        ("objects", json!(space.objects)),
        ("keys", json!(space.keys)),
        ("content_bytes", json!(space.content_bytes)),
        ("alarms", json!(space.alarms)),
        ("approximate", json!(space.approximate > 0)),
    ]
}

/// Lists the namespaces: as of the last checkpoint, or of a moment.
pub fn list_namespaces(call: &mut Call<'_>, when: Option<When>) -> Outcome {
    call.count("objects");
    call.reading(|reader, call| {
        if let Some(then) = Then::of(reader, when)? {
            return list_namespaces_then(call, reader, then);
        }
        let summary = read(call)?;
        let mut listing = Listing::new("namespaces", SPACE_COLUMNS, reader);
        for space in &summary.namespaces {
            listing.row(call, space_cells(space), &space_fields(space))?;
        }
        let foot = call.position_text(summary.cut, summary.cut_time);
        listing.end(call, None, &foot)?;
        Ok(DONE)
    })
}

/// The namespaces that there were, in the order in which they were made.
fn spaces_then(reader: &Reader, then: Then) -> Result<Vec<ReaderNamespace>, Failure> {
    let mut spaces = namespaces(reader, Some(then))?;
    spaces.sort_by_key(ReaderNamespace::number);
    Ok(spaces)
}

fn list_namespaces_then(call: &mut Call<'_>, reader: &Reader, then: Then) -> Outcome {
    let mut listing = Listing::new("namespaces", SPACE_COLUMNS, reader);
    listing.say(then.fields());
    let mut code = DONE;
    for space in spaces_then(reader, then)? {
        let found = counted_if_kept(call, &space, then)?;
        code = found.as_ref().map_or(OUTSIDE_HISTORY, |_| code);
        listing.row(call, space_cells_then(&space, found.as_ref()), &fields_then(&space, found))?;
    }
    listing.end(call, None, &then.text(call))?;
    Ok(code)
}

/// What is told of a namespace as of a moment: nothing but its name where history does not reach
/// back.
fn space_cells_then(space: &ReaderNamespace, found: Option<&NamespaceSummary>) -> Vec<String> {
    let unknown = || {
        let kept = ["history is not kept", "", "", ""].map(str::to_owned);
        [address::space(space.name())].into_iter().chain(kept).collect()
    };
    found.map_or_else(unknown, space_cells)
}

fn fields_then(
    space: &ReaderNamespace,
    found: Option<NamespaceSummary>,
) -> Vec<(&'static str, Value)> {
    let is_known = found.is_some();
    let found = found.unwrap_or_else(|| NamespaceSummary::of(space.number(), space.name()));
    let is_counted = |name: &str| !matches!(name, "number" | "name");
    let fields = space_fields(&found).into_iter();
    let hide =
        |(name, value)| (name, if is_known || !is_counted(name) { value } else { json!(null) });
    fields.map(hide).collect()
}

/// What the store held at a moment. Files have no past: where its bytes are is told of now alone.
pub fn summary_then(call: &mut Call<'_>, reader: &Reader, then: Then) -> Outcome {
    let (mut rows, mut documents) = (Vec::new(), Vec::new());
    let (mut objects, mut code) = (0, DONE);
    for space in spaces_then(reader, then)? {
        let found = counted_if_kept(call, &space, then)?;
        code = found.as_ref().map_or(OUTSIDE_HISTORY, |_| code);
        objects += found.as_ref().map_or(0, |found| found.objects);
        rows.push(space_cells_then(&space, found.as_ref()));
        let own = fields_then(&space, found).into_iter();
        let own = own.map(|(name, value)| (name.to_owned(), value));
        documents.push(Value::Object(own.collect()));
    }
    let spaces = count(rows.len() as u64, "namespace");
    let about = facts(&[
        ("store", reader.store().to_string()),
        ("read", then.text(call)),
        ("objects", format!("{} in {spaces}", digits(objects))),
        ("left out", "files and the log, which have no past".to_owned()),
    ]);
    let mut document = position_fields(reader);
    document.extend(then.fields());
    document.extend(fields([
        ("store", json!(reader.store().to_string())),
        ("namespaces", json!(documents)),
    ]));
    let text = format!("{about}\n\n{}", table(SPACE_COLUMNS, &rows, call.paper));
    call.document("summary", document, &text)?;
    Ok(code)
}

/// One namespace of a store, for people and for programs.
pub fn namespace(space: &NamespaceSummary) -> (Vec<String>, Map<String, Value>) {
    let named = space_fields(space).into_iter().map(|(name, value)| (name.to_owned(), value));
    (space_cells(space), named.collect())
}

/// The same, for programs.
pub fn summary_fields(summary: &Summary) -> Map<String, Value> {
    let object = |fields: Vec<(&str, Value)>| -> Map<String, Value> {
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let namespaces: Vec<Value> =
        summary.namespaces.iter().map(|space| object(space_fields(space)).into()).collect();
    let document = json!({
        "store": summary.store.to_string(),
        "format": summary.format,
        "term": summary.term.0,
        "generation": summary.generation,
        "writer": summary.writer,
        "position": summary.position.0,
        "position_time": time(summary.position_time),
        "cut": summary.cut.0,
        "cut_time": time(summary.cut_time),
        "log_commits": summary.log_commits,
        "history_from": summary.history_from.map(time),
        "namespaces": namespaces,
        "files": summary.files,
        "segments": summary.segments,
        "runs": summary.runs,
        "bytes": {
            "live": summary.live_bytes,
            "reclaimable": summary.reclaimable_bytes,
            "runs": summary.run_bytes,
            "history": summary.history_bytes,
            "log": summary.log_bytes,
            "pool": summary.pool_bytes,
            "unnamed": summary.unnamed_bytes,
            "other": summary.other_bytes,
            "foreign": summary.foreign_bytes,
            "total": summary.disk_bytes(),
        },
    });
    into_fields(document)
}

fn into_fields(document: Value) -> Map<String, Value> {
    if let Value::Object(fields) = document { fields } else { fields([]) }
}

/// What a file of history held that is lost whole, for people.
fn gone_text(calendar: &Calendar, gone: &GoneHistory) -> String {
    let HistoryFile { start_time, end_time, .. } = gone.file;
    let (from, to) = (calendar.show(start_time), calendar.show(end_time));
    format!("{gone}; made behind {from} and up to {to}")
}

fn gone_fields(gone: &GoneHistory) -> Value {
    let HistoryFile { facts, class, epoch, start, end, start_time, end_time } = gone.file;
    json!({
        "file": FileName::Run(facts.number).to_string(),
        "class": class,
        "epoch": epoch,
        "behind_lsn": start.0,
        "last_lsn": end.0,
        "behind_time": time(start_time),
        "last_time": time(end_time),
        "named": gone.named,
        "perhaps": gone.perhaps,
    })
}

/// What a verification found, for people.
pub fn report(call: &Call<'_>, report: &Report) -> String {
    let counts = &report.counts;
    let store = report.store.map_or("not known".to_owned(), |store| store.to_string());
    let (entries, pages) = (digits(counts.entries), count(counts.pages, "page"));
    let scanned = match counts.scanned_pages {
        0 => String::new(),
        scanned => format!("; {} read in segments", count(scanned, "page")),
    };
    let (commits, groups) = (count(counts.commits, "commit"), count(counts.groups, "group"));
    let about = facts(&[
        ("store", format!("{store}, manifest {}", report.generation)),
        ("checkpoint", format!("commit {}", short(report.cut))),
        ("files", format!("{}, {entries} entries of runs", digits(counts.files))),
        (
            "objects",
            format!("{} in {pages}, {}{scanned}", digits(counts.objects), bytes(counts.page_bytes)),
        ),
        ("log", format!("{commits} in {groups}, up to {}", short(report.position))),
    ]);
    let mut text = about + "\n";
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for gone in &report.gone {
        let _ = writeln!(text, "note: {}", gone_text(&call.calendar, gone));
    }
    if report.notes_left_out > 0 {
        let _ = writeln!(text, "and {} more", count(report.notes_left_out, "note"));
    }
    for fault in &report.faults {
        let called = fault.object.and_then(|object| report.names.get(&object));
        let called = called.map(|called| format!(", which is {called}")).unwrap_or_default();
        let _ = writeln!(text, "fault: {fault}{called}");
    }
    if report.faults_left_out > 0 {
        let _ = writeln!(text, "and {} more", count(report.faults_left_out, "fault"));
    }
    let verdict = report.conclusion();
    let colour = if report.is_clean() { GREEN } else { RED };
    if call.paper.is_coloured { format!("{text}{colour}{verdict}{PLAIN}") } else { text + &verdict }
}

/// The same, for programs.
pub fn report_fields(report: &Report) -> Map<String, Value> {
    let counts = &report.counts;
    let verdict = report.verdict().word();
    let document = json!({
        "verdict": verdict,
        "store": report.store.map(|store| store.to_string()),
        "generation": report.generation,
        "cut": report.cut.0,
        "position": report.position.0,
        "faults": report.faults.iter().map(|it| fault(report, it)).collect::<Vec<_>>(),
        "faults_left_out": report.faults_left_out,
        "gone_history": report.gone.iter().map(gone_fields).collect::<Vec<_>>(),
        "notes": report.notes,
        "notes_left_out": report.notes_left_out,
        "counts": {
            "files": counts.files,
            "entries": counts.entries,
            "objects": counts.objects,
            "pages": counts.pages,
            "page_bytes": counts.page_bytes,
            "scanned_pages": counts.scanned_pages,
            "groups": counts.groups,
            "commits": counts.commits,
        },
    });
    into_fields(document)
}

/// A range of keys: the first, and the one behind the last; none at an end of the object.
pub fn key_range(range: &KeyRange) -> Value {
    let key = |full: &[u8]| full.get(1..).filter(|key| !key.is_empty()).map(address::key);
    json!({ "from": key(&range.first), "to": range.end.as_deref().and_then(key) })
}

fn fault(report: &Report, fault: &Fault) -> Value {
    let object = fault.object.map(|object| {
        let Address { namespace, id } = object;
        let called = report.names.get(&object);
        json!({ "namespace": namespace.0, "id": id.to_string(), "called": called })
    });
    let keys = fault.keys.as_ref().map(key_range);
    json!({
        "file": fault.place.file,
        "offset": fault.place.offset,
        "lsn": fault.place.lsn.map(|lsn| lsn.0),
        "object": object,
        "keys": keys,
        "what": fault.what,
        "bytes": fault.bytes,
        "scope": fault.scope.word(),
    })
}

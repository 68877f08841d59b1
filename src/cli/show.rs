//! What the command prints: tables for people, one JSON document for programs.
//!
//! Invariants:
//!   * Fields of JSON documents keep their names and meanings; new ones may come.

use crate::error::Error;
use crate::ids::{Address, Lsn, Timestamp};
use crate::inspect::{Fault, Report, Summary, Verdict};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;

const SCHEMA: &str = "dostore/1";
const RED: &str = "\x1B[31m";
const GREEN: &str = "\x1B[32m";
const PLAIN: &str = "\x1B[0m";

/// An error with its cause.
pub fn error(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The time in words; none for zero, which stands for no time.
fn time(at: Timestamp) -> Option<String> {
    let micros = i64::try_from(at.0).ok().filter(|micros| *micros != 0);
    let at = micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    at.map(|at| at.to_string())
}

fn commit(lsn: Lsn, at: Timestamp) -> String {
    match time(at) {
        Some(at) => format!("commit {lsn}, {at}"),
        None => "nothing yet".to_owned(),
    }
}

/// A number with its digits in threes.
fn digits(number: u64) -> String {
    let plain = number.to_string();
    let mut grouped = String::with_capacity(plain.len() * 4 / 3);
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    for column in 1..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
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
pub fn summary(summary: &Summary) -> String {
    let mut out = String::new();
    let facts = [
        ("store", summary.store.to_string()),
        ("format", format!("{}, term {}", summary.format, summary.term)),
        ("writer", summary.writer.clone().unwrap_or_else(|| "none".to_owned())),
        ("read as of", commit(summary.position, summary.position_time)),
        ("checkpoint", commit(summary.cut, summary.cut_time)),
        ("behind it", format!("{} commits in the log", digits(summary.log_commits))),
    ];
    for (name, value) in facts {
        let _ = writeln!(out, "{name:<12}{value}");
    }
    let mut spaces = table(&["namespace", "objects", "keys", "bytes", "alarms"]);
    for space in &summary.namespaces {
        let number = space.number;
        let name = space.name.clone().unwrap_or_else(|| format!("number {number}, not known"));
        let figures = [space.objects, space.keys, space.content_bytes, space.alarms];
        let about = if space.approximate > 0 { "about " } else { "" };
        let mut row = vec![name];
        row.extend(figures.map(digits));
        row[2].insert_str(0, about);
        row[3].insert_str(0, about);
        spaces.add_row(row);
    }
    let mut bytes = table(&["bytes", ""]);
    for (name, account) in accounts(summary) {
        bytes.add_row([name.to_owned(), digits(account)]);
    }
    let (files, segments, runs) = (summary.files, summary.segments, summary.runs);
    let all = format!("all {files} files, {segments} segments, {runs} runs");
    bytes.add_row([all, digits(summary.disk_bytes())]);
    let _ = write!(out, "\n{}\n\n{}", spaces.trim_fmt(), bytes.trim_fmt());
    out
}

/// The same, for programs.
pub fn summary_json(summary: &Summary) -> String {
    let namespaces: Vec<Value> = summary
        .namespaces
        .iter()
        .map(|space| {
            json!({
                "number": space.number.0,
                "name": space.name,
                "objects": space.objects,
                "keys": space.keys,
                "content_bytes": space.content_bytes,
                "alarms": space.alarms,
                "approximate": space.approximate > 0,
            })
        })
        .collect();
    let document = json!({
        "schema": SCHEMA,
        "kind": "summary",
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
    format!("{document:#}")
}

/// What a verification found, for people.
pub fn report(report: &Report, is_coloured: bool) -> String {
    let text = report.to_string();
    let (lines, verdict) = text.rsplit_once('\n').unwrap_or(("", &text));
    let colour = if report.is_clean() { GREEN } else { RED };
    if is_coloured { format!("{lines}\n{colour}{verdict}{PLAIN}") } else { text }
}

/// The same, for programs.
pub fn report_json(report: &Report) -> String {
    let counts = &report.counts;
    let verdict = match report.verdict() {
        Verdict::Clean => "clean",
        Verdict::Damaged => "damaged",
    };
    let document = json!({
        "schema": SCHEMA,
        "kind": "verification",
        "verdict": verdict,
        "store": report.store.map(|store| store.to_string()),
        "generation": report.generation,
        "cut": report.cut.0,
        "position": report.position.0,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "faults_left_out": report.faults_left_out,
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
    format!("{document:#}")
}

fn fault(fault: &Fault) -> Value {
    let object = fault
        .object
        .map(|Address { namespace, id }| json!({ "namespace": namespace.0, "id": id.to_string() }));
    json!({
        "file": fault.place.file,
        "offset": fault.place.offset,
        "lsn": fault.place.lsn.map(|lsn| lsn.0),
        "object": object,
        "what": fault.what,
        "live": fault.is_live,
    })
}

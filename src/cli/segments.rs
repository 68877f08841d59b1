//! `segments`: where the bytes are, file by file.

use super::call::{Call, Format, fields};
use super::failure::{DAMAGED, DONE, Outcome};
use super::figures::{bar, bytes, digits};
use super::table::{Columns, table};
use super::time::{machine, short};
use crate::ids::Lsn;
use crate::inspect::space::{FileSpace, space};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  dostore segments
  dostore segments --json";

const COLUMNS: Columns =
    &["FILE", "IS", "-SIZE", "?-NEEDED", "?", "?-ITEMS", "?-CLEANED", "?UP TO"];

/// Characters of the longest bar.
const BAR_WIDTH: usize = 16;

/// Shows where the bytes are, file by file
///
/// A bar is as long as the file is large beside the largest one, as far as its bytes are needed:
/// the rest of a segment is dead pages. Items are live pages of a segment, entries of a run. Where
/// the manifest is lost, all files are taken for live ones; exits with 4 then.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

impl Arguments {
    #[expect(clippy::unused_self, reason = "every verb is run so")]
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
        let (files, lost) = match space(&call.disk()?) {
            Err(error) if error.code() == "store.missing" => return Err(call.no_store()),
            files => files?,
        };
        let most = files.iter().map(|file| file.bytes).max().unwrap_or(0);
        let rows: Vec<_> = files.iter().map(|file| row(call, file, most)).collect();
        let mut text = table(COLUMNS, &rows, call.paper);
        if let Some(why) = &lost {
            let _ = write!(text, "\n{why}: every file is taken for one that counts");
        }
        let items: Vec<Value> = files.iter().map(item).collect();
        let document = fields([("items", json!(items)), ("manifest_lost", json!(lost))]);
        call.document("segments", document, &text)?;
        Ok(if lost.is_some() { DAMAGED } else { DONE })
    }
}

fn row(call: &Call<'_>, file: &FileSpace, most: u64) -> Vec<String> {
    let share = (file.live_bytes * 100).checked_div(file.bytes).unwrap_or(0);
    let written = if file.written_at == Lsn::ZERO {
        String::new()
    } else {
        let time = file.end_time.map(|time| format!(", {}", call.calendar.distance(time)));
        format!("{}{}", short(file.written_at), time.unwrap_or_default())
    };
    let items = if file.items == 0 { String::new() } else { digits(file.items) };
    let cleaned = if file.generation == 0 { String::new() } else { file.generation.to_string() };
    vec![
        file.name.to_string(),
        file.role.word().to_owned(),
        bytes(file.bytes),
        format!("{share} %"),
        bar(file.live_bytes, most, BAR_WIDTH),
        items,
        cleaned,
        written,
    ]
}

fn item(file: &FileSpace) -> Value {
    json!({
        "file": file.name.to_string(),
        "is": file.role.word(),
        "bytes": file.bytes,
        "needed_bytes": file.live_bytes,
        "items": file.items,
        "written_at": (file.written_at != Lsn::ZERO).then_some(file.written_at.0),
        "end_time": file.end_time.map(machine),
        "generation": file.generation,
    })
}

//! Lists: rows that are aligned for people and streamed for programs.
//!
//! Invariants:
//!   * Memory does not grow with the list: rows are aligned in batches.
//!   * Programs get the same fields in each layout; on lines, those of the list stand on each.

use super::address::{self, quoted};
use super::call::{Call, Format, SCHEMA, position_fields};
use super::failure::Failure;
use super::table::{Columns, Table};
use crate::store::reader::Reader;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;

/// Rows that are aligned with each other.
const BATCH: usize = 1000;

/// The layouts that a list has.
pub const LAYOUTS: &[Format] = &[Format::Table, Format::Json, Format::Jsonl, Format::Csv];

/// A list that is being printed.
pub struct Listing {
    kind: &'static str,
    /// For people.
    table: Table,
    batch: Vec<Vec<String>>,
    rows: u64,
    common: Map<String, Json>,
}

impl Listing {
    /// A list of things of one kind, read by `reader`.
    pub fn new(kind: &'static str, columns: Columns, reader: &Reader) -> Self {
        let common = position_fields(reader);
        Self { kind, table: Table::new(columns), batch: Vec::new(), rows: 0, common }
    }

    /// Adds fields that hold for all of the list.
    pub fn say(&mut self, fields: Map<String, Json>) {
        self.common.extend(fields);
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Prints a row: cells for people, named fields for programs.
    pub fn row(
        &mut self,
        call: &mut Call<'_>,
        cells: Vec<String>,
        fields: &[(&'static str, Json)],
    ) -> Result<(), Failure> {
        self.rows += 1;
        call.step();
        match call.format() {
            Format::Table | Format::Raw => {
                self.batch.push(cells);
                if self.batch.len() == BATCH {
                    self.print_batch(call)?;
                }
            }
            Format::Json => {
                let head = if self.rows == 1 { self.json_head() } else { ",\n".to_owned() };
                call.text(&format!("{head}  {}", object(fields)))?;
            }
            Format::Jsonl => {
                let mut line = Map::new();
                line.insert("schema".to_owned(), json!(SCHEMA));
                line.insert("kind".to_owned(), json!(self.kind));
                line.extend(self.common.clone());
                line.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
                call.line(&Json::Object(line).to_string())?;
            }
            Format::Csv => {
                let is_own = |name: &str| fields.iter().any(|(own, _)| *own == name);
                let common = self.common.iter().filter(|(name, _)| !is_own(name));
                let all: Vec<(&str, &Json)> = fields
                    .iter()
                    .map(|(name, value)| (*name, value))
                    .chain(common.map(|(name, value)| (name.as_str(), value)))
                    .collect();
                if self.rows == 1 {
                    let names: Vec<_> = all.iter().map(|(name, _)| csv(&json!(name))).collect();
                    call.line(&names.join(","))?;
                }
                let values: Vec<_> = all.iter().map(|(_, value)| csv(value)).collect();
                call.line(&values.join(","))?;
            }
        }
        Ok(())
    }

    /// The beginning of the one document, up to the items.
    fn json_head(&self) -> String {
        let mut head = format!("{{\"schema\":\"{SCHEMA}\",\"kind\":\"{}\",", self.kind);
        for (name, value) in &self.common {
            let _ = write!(head, "{}:{value},", json!(name));
        }
        head + "\"items\":[\n"
    }

    fn print_batch(&mut self, call: &mut Call<'_>) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let text = self.table.batch(&std::mem::take(&mut self.batch), call.paper);
        call.line(&text)
    }

    /// Ends the list. `next` says behind what it goes on; `foot` is a line for people.
    pub fn end(
        mut self,
        call: &mut Call<'_>,
        next: Option<&str>,
        foot: &str,
    ) -> Result<(), Failure> {
        match call.format() {
            Format::Table | Format::Raw => {
                self.print_batch(call)?;
                if self.rows == 0 {
                    call.line(nothing(self.kind))?;
                }
                if let Some(what) = self.table.left_out() {
                    call.line(&what)?;
                }
                if let Some(next) = next {
                    let word = quoted(&address::word(next.to_owned()));
                    call.line(&format!("more: --after {word}"))?;
                }
                call.line(foot)
            }
            Format::Json => {
                let head = if self.rows == 0 { self.json_head() } else { "\n".to_owned() };
                call.line(&format!("{head}],\"next\":{}}}", json!(next)))
            }
            Format::Jsonl | Format::Csv => Ok(()),
        }
    }
}

/// What people are told of an empty list.
fn nothing(kind: &str) -> &'static str {
    match kind {
        "namespaces" => "no namespaces",
        "objects" | "top" => "no objects",
        "keys" | "bigkeys" => "no keys",
        "alarms" => "no alarms",
        "history" | "commits" => "no commits",
        "diff" => "no differences",
        _ => "nothing",
    }
}

fn object(fields: &[(&'static str, Json)]) -> Json {
    Json::Object(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// A field between commas.
fn csv(value: &Json) -> String {
    let plain = match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    if plain.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", plain.replace('"', "\"\""))
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(csv(&json!("a")), "a");
        assert_eq!(csv(&json!("a,\"b\"")), "\"a,\"\"b\"\"\"");
        assert_eq!(csv(&json!(null)), "");
        assert_eq!(csv(&json!({ "a": 1 })), "\"{\"\"a\"\":1}\"");
    }
}

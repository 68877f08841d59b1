//! What programs are told in `docs/cli.md` is what they get: each document has the fields that its
//! kind has there and no other, and each field there is in a document.

use super::stage::{Stage, call};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

type Fields = BTreeSet<String>;

/// Fields of every document, of every list and of what is read.
const COMMON: &[&str] = &[
    "schema",
    "kind",
    "items",
    "next",
    "position",
    "position_time",
    "at_time",
    "at_lsn",
    "ns",
    "name",
    "id",
    "last_lsn",
    "last_time",
];

/// Kinds whose documents have the fields of others too, as the table says in words.
const INHERITED: &[(&str, &str)] = &[
    ("value", "keys"),
    ("commit", "history"),
    ("commits", "history"),
    ("restoration", "a change"),
    ("fork", "a change"),
    ("put", "a change"),
    ("rm", "a change"),
    ("delete", "a change"),
    ("purge", "a change"),
];

/// The words between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the document: kinds, and the fields that they have. What stands in brackets is about
/// values.
fn rows() -> Vec<(Vec<String>, Fields)> {
    let text = include_str!("../../docs/cli.md");
    let rows = text.lines().skip_while(|line| !line.starts_with("| Kind | Fields"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let row = |row: &str| {
        let (kinds, fields) = row[1..].split_once('|').unwrap();
        let kinds = if kinds.contains('`') { quoted(kinds) } else { vec![kinds.trim().to_owned()] };
        let parts = fields.split('(').enumerate();
        let outside = |(index, part): (usize, &str)| match part.split_once(')') {
            Some((_, behind)) if index > 0 => behind.to_owned(),
            _ => part.to_owned(),
        };
        (kinds, quoted(&parts.map(outside).collect::<String>()).into_iter().collect())
    };
    rows.map(row).collect()
}

/// The fields of each kind.
fn documented() -> BTreeMap<String, Fields> {
    let mut found: BTreeMap<String, Fields> = BTreeMap::new();
    for (kinds, fields) in rows() {
        for kind in kinds {
            found.entry(kind).or_default().extend(fields.iter().cloned());
        }
    }
    for (kind, of) in INHERITED {
        let more = found[*of].clone();
        found.get_mut(*kind).unwrap().extend(more);
    }
    found
}

/// The names in a document, those of what is inside of it too.
fn names(value: &Value, found: &mut Fields) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.insert(name.clone());
                names(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

fn check_fields(fields: &Map<String, Value>, allowed: &Fields, told: &str) {
    for name in fields.keys() {
        let is_known = COMMON.contains(&&**name) || allowed.contains(name);
        assert!(is_known, "{told}: {name} is not documented: {fields:?}");
    }
}

/// Calls that give each kind of document.
const CALLS: &[&[&str]] = &[
    &["inspect"],
    &["inspect", "rooms"],
    &["inspect", "rooms/lobby"],
    &["inspect", "rooms/lobby:topic"],
    &["inspect", "MANIFEST"],
    &["ls"],
    &["ls", "--at", "-9d"],
    &["inspect", "--at", "-9d"],
    &["inspect", "rooms", "--at", "-9d"],
    &["ls", "rooms", "--limit", "2"],
    &["keys", "rooms/lobby"],
    &["get", "rooms/lobby:topic"],
    &["history", "rooms/lobby"],
    &["show", "rooms/lobby"],
    &["show", "rooms/lobby@-8d"],
    &["diff", "rooms/lobby", "-9d..now"],
    &["bookmark", "rooms/lobby"],
    &["tail"],
    &["tail", "--at", "-9d"],
    &["top", "--rounds", "1", "--interval", "1ms"],
    &["alarms"],
    &["bigkeys"],
    &["stat"],
    &["stat", "rooms/lobby"],
    &["segments"],
    &["debug", "wal"],
    &["verify", "--deep"],
    &["restore", "rooms/lobby", "--to", "-8d"],
    &["restore", "rooms/lobby", "--to", "-8d", "--yes"],
    &["undo", "rooms/lobby", "--yes"],
    &["restore", "rooms", "--to", "-8d"],
    &["restore", "rooms", "--to", "-8d", "--yes"],
    &["fork", "rooms/lobby", "rooms/copy"],
    &["put", "rooms/lobby:k", "v"],
    &["rm", "rooms/lobby:k", "--yes"],
    &["delete", "rooms/copy", "--yes"],
    &["purge", "rooms/copy", "--yes"],
    &["backup", "COPIES/one", "--verify"],
    &["load", "COPIES/lobby.jsonl", "--into", "loaded"],
    &["compact"],
    &["scrub"],
    &["bench", "--seconds", "0"],
    &["salvage", "-o", "COPIES/fresh"],
];

/// Checks a document, and notes which fields it has.
fn check_document(document: &Value, kinds: &BTreeMap<String, Fields>, seen: &mut Seen) {
    let fields = document.as_object().unwrap();
    assert_eq!(fields["schema"], "dostore/1", "{document}");
    let kind = fields["kind"].as_str().unwrap().to_owned();
    let allowed = kinds.get(&kind).unwrap_or_else(|| panic!("{kind} is not documented"));
    check_fields(fields, allowed, &kind);
    for item in fields.get("items").and_then(Value::as_array).into_iter().flatten() {
        check_fields(item.as_object().unwrap(), allowed, &kind);
    }
    names(document, seen.entry(kind).or_default());
}

type Seen = BTreeMap<String, Fields>;

#[test]
fn documents_have_the_fields_that_are_documented_and_no_others() {
    let stage = Stage::new();
    let (kinds, mut seen) = (documented(), Seen::new());
    let lobby = stage.call(&["dump", "rooms/lobby"]).text();
    std::fs::write(stage.copies().join("lobby.jsonl"), lobby).unwrap();
    let copies = stage.copies();
    for words in CALLS {
        let words: Vec<_> =
            words.iter().map(|it| it.replace("COPIES", copies.to_str().unwrap())).collect();
        let mut words: Vec<_> = words.iter().map(String::as_str).collect();
        words.push("--json");
        let done = stage.call(&words);
        let is_right = done.code == 0 || done.code == 1 && words[0] == "diff";
        assert!(is_right && done.errors.is_empty(), "{words:?}: {done:?}");
        check_document(&serde_json::from_str(&done.out).unwrap(), &kinds, &mut seen);
    }
    // Of damage there is more to be told.
    let folder = super::stage::contents(&stage.store().join("seg"));
    for (path, mut bytes) in folder {
        bytes.iter_mut().skip(4200).step_by(500).for_each(|byte| *byte ^= 1);
        std::fs::write(path, bytes).unwrap();
    }
    let fresh = copies.join("salvaged");
    for words in [&["verify", "--json"][..], &["salvage", "-o", fresh.to_str().unwrap(), "--json"]]
    {
        let done = call(&stage.store(), words);
        assert_eq!(done.code, 4, "{done:?}");
        check_document(&serde_json::from_str(&done.out).unwrap(), &kinds, &mut seen);
    }
    let done = call(&stage.store(), &["scrub", "--json"]);
    check_document(&serde_json::from_str(&done.out).unwrap(), &kinds, &mut seen);
    // Who commits most is nobody here; `counts` shows somebody.
    let is_shown = |kinds: &[String]| kinds[0] != "a change" && kinds[0] != "top";
    for (kinds, fields) in rows().into_iter().filter(|(kinds, _)| is_shown(kinds)) {
        let all = kinds.iter().flat_map(|kind| seen.get(kind).into_iter().flatten());
        let all: BTreeSet<_> = all.collect();
        let missing: Vec<_> = fields.iter().filter(|name| !all.contains(name)).collect();
        assert!(missing.is_empty(), "{kinds:?} never have {missing:?}, but {all:?}");
    }
}

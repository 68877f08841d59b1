//! The worked examples of `docs/format.md` are what the code reads and writes.

use crate::exports::{exported, fresh, import};
use dostore::store::transfer::{Form, Stream};
use std::path::Path;

/// What stands between the fences behind a heading of the document.
fn fenced(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(heading).unwrap();
    let (_, block) = rest.split_once("```text\n").unwrap();
    block.split("```").next().unwrap().to_owned()
}

fn bytes(heading: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in fenced(heading).lines() {
        let (offset, digits) = line.split_once(": ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        bytes.extend(digits.split(' ').map(|pair| u8::from_str_radix(pair, 16).unwrap()));
    }
    bytes
}

const TEXT: &str = "### An export, line by line";
const BINARY: &str = "### The same, byte by byte";

#[test]
fn both_examples_are_the_same_content_and_are_written_as_they_stand() {
    let (text, binary) = (fenced(TEXT), bytes(BINARY));
    for stream in [text.as_bytes(), &binary] {
        let store = fresh(1);
        assert_eq!(import(&store, stream).unwrap().objects, 1);
        assert_eq!(String::from_utf8(exported(&store, Form::Text)).unwrap(), text);
        assert_eq!(exported(&store, Form::Binary), binary);
    }
    assert_eq!(Stream::new(&binary[..]).unwrap().form(), Form::Binary);
}

/// The table says of each byte what the code finds there.
#[test]
fn the_table_covers_the_compact_example() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let document = std::fs::read_to_string(path).unwrap();
    let section = document.split_once(BINARY).unwrap().1.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut next = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (at, size): (usize, usize) = (cells[0].parse().unwrap(), cells[1].parse().unwrap());
        assert_eq!(at, next, "{row}");
        next += size;
    }
    assert_eq!(next, bytes(BINARY).len());
}

//! Mistakes made on purpose: `docs/testing.md` says of each which test catches it.
//!
//! In a build with `--cfg dostore_planted` each is made, and that test must fail within a thousand
//! seeds. `DOSTORE_PLANT=n` chooses one; with `DOSTORE_TABLE` set the seeds go into the document.
//!
//! Invariants:
//!   * The rows are the mistakes of `src/planted.rs`, in its words and its order.

#[cfg(dostore_planted)]
mod run;

use std::fs;
use std::path::{Path, PathBuf};

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    number: u32,
    mistake: String,
    /// The program of tests, or `lib`, and the beginning of the test's name.
    program: String,
    filter: String,
    /// Empty where there are no seeds.
    seed: String,
    seen: String,
}

impl Row {
    /// A line of the document; none where it is no row of this table.
    fn read(line: &str) -> Option<Self> {
        let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [number, mistake, test, seed, seen, ""] = cells[..] else { return None };
        let number = number.parse().ok()?;
        let (program, filter) = test.trim_matches('`').split_once(' ')?;
        let [mistake, program, filter, seed, seen] =
            [mistake, program, filter, seed, seen].map(str::to_owned);
        Some(Self { number, mistake, program, filter, seed, seen })
    }

    fn line(&self) -> String {
        let Self { number, mistake, program, filter, seed, seen } = self;
        let seed = if seed.is_empty() { String::new() } else { format!(" {seed}") };
        format!("| {number} | {mistake} | `{program} {filter}` |{seed} | {seen} |")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> PathBuf {
    root().join("docs/testing.md")
}

/// The part of the document about mistakes.
fn section(text: &str) -> &str {
    let start = text.find("## Planted mistakes").expect("the section is there");
    &text[start..]
}

/// The mistakes of the source: numbers, and what is said of each.
fn mistakes() -> Vec<(u32, String)> {
    let source = fs::read_to_string(root().join("src/planted.rs")).expect("the source is there");
    let (mut said, mut found) = (String::new(), Vec::new());
    for line in source.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("/// ") {
            words.trim_end_matches('.').clone_into(&mut said);
        } else if let Some((_, number)) = line.split_once(" = ")
            && let Ok(number) = number.trim_end_matches(',').parse()
        {
            let first = said[..1].to_lowercase();
            found.push((number, first + &said[1..]));
        }
    }
    found
}

#[test]
fn each_mistake_has_a_row_that_says_what_catches_it() {
    let text = fs::read_to_string(document()).expect("the document is there");
    let rows: Vec<_> = section(&text).lines().filter_map(Row::read).collect();
    let told: Vec<_> = rows.iter().map(|row| (row.number, row.mistake.clone())).collect();
    assert_eq!(told, mistakes());
    assert!((1..).zip(&rows).all(|(number, row)| number == row.number), "they are numbered");
    for row in &rows {
        let is_there = |path: String| root().join(path).exists();
        let Row { program, .. } = row;
        let is_file = is_there(format!("tests/{program}.rs")) || program == "lib";
        assert!(is_file || is_there(format!("tests/{program}")), "{row:?}");
        assert!(row.seed.is_empty() || row.seed.parse::<u64>().is_ok(), "{row:?}");
        assert!(!row.seen.is_empty() && Row::read(&row.line()).as_ref() == Some(row), "{row:?}");
    }
}

//! Makes the mistakes, one after the other, and runs what is to catch each.
//!
//! Invariants:
//!   * A mistake counts as caught only where its test has panicked.

use super::{Row, document, section};
use std::fs;
use std::process::Command;

/// Within so many seeds each must be caught.
const SEEDS: &str = "1000";

/// The first seed that its test fails with; empty where it has none.
fn caught_at(row: &Row) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--features", "cli"]).env_remove("DOSTORE_TABLE");
    match &*row.program {
        "lib" => cargo.arg("--lib"),
        program => cargo.args(["--test", program]),
    };
    cargo.args([&*row.filter, "--", "--nocapture"]);
    cargo.env("DOSTORE_PLANT", row.number.to_string()).env("DOSTORE_SEEDS", SEEDS);
    // Which events of a seed are wrong is not asked here.
    cargo.env("DOSTORE_TRIES", "0");
    let done = cargo.output().expect("cargo runs tests");
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let is_caught = !done.status.success() && said.contains("panicked at");
    let end: Vec<_> = said.lines().rev().take(20).collect();
    assert!(is_caught, "not caught: {row:?}\n{end:#?}");
    let seeds = said.split("seed ").skip(1).map(|rest| {
        let digits = rest.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].to_owned()
    });
    seeds.into_iter().find(|seed| !seed.is_empty()).unwrap_or_default()
}

#[test]
fn each_mistake_is_caught_by_its_test() {
    let chosen = std::env::var("DOSTORE_PLANT").ok().and_then(|text| text.parse().ok());
    let is_written = std::env::var_os("DOSTORE_TABLE").is_some();
    let mut text = fs::read_to_string(document()).expect("the document is there");
    let lines: Vec<_> = section(&text).lines().map(str::to_owned).collect();
    for line in lines {
        let Some(mut row) = Row::read(&line) else { continue };
        if chosen.is_some_and(|chosen: u32| chosen != row.number) {
            continue;
        }
        row.seed = caught_at(&row);
        println!("{}", row.line());
        if is_written {
            text = text.replace(&line, &row.line());
            fs::write(document(), &text).expect("the document can be written");
        }
    }
}

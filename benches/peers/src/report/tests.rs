//! That the document says what the results say.

use super::*;
use crate::machine::Machine;
use crate::results::Figures;

fn measured(cell: &str, engine: &str, round: usize, value: f64) -> Measured {
    let mut figures = Figures::new("commits/s", value);
    figures.control("raw", 2.0 * value);
    figures.add("p99 us", value / 100.0);
    let (cell, engine) = (cell.to_owned(), engine.to_owned());
    Measured { cell, engine, round, others: 1.0, figures }
}

/// Results in a file of their own, and the document of them.
fn document(all: Vec<Measured>) -> Document {
    document_with(all, "")
}

/// The same with what benches of the crate printed.
fn document_with(all: Vec<Measured>, printed: &str) -> Document {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("results");
    let mut results = Results::open(&path).expect("a new file is no error");
    let machine = Machine { command: "run --quick".to_owned(), ..Machine::default() };
    results.begin(machine).expect("it can be written");
    for one in all {
        results.add(one).expect("it can be written");
    }
    Document::of(&results, &Printed::of(printed), "pictures")
        .expect("results that are whole make a document")
}

#[test]
fn a_row_says_median_spread_and_ratio() {
    let values = [300.0, 100.0, 200.0, 5_000.0, 150.0];
    let rounds = values.iter().enumerate();
    let all = rounds.map(|(round, value)| measured("commits-100000-64", "redb", round, *value));
    let text = document(all.collect()).text;
    let line = "| redb | 200 | 100 to 5,000 | 5 | 400 | 0.500 | 2.00 |";
    assert!(text.contains(line), "{text}");
}

#[test]
fn the_best_stands_first_whether_more_or_less_is_better() {
    let pair = |cell| [measured(cell, "redb", 0, 10.0), measured(cell, "fjall", 0, 20.0)];
    for (cell, first) in [("create-10000", "| fjall |"), ("warm-10000", "| redb |")] {
        let text = document(pair(cell).to_vec()).text;
        let table = &text[text.find("| least to most |").expect("there is a table")..];
        let found = |name| table.find(name).expect("each has a row");
        let last = if first == "| fjall |" { "| redb |" } else { "| fjall |" };
        assert!(found(first) < found(last), "{cell}: {table}");
    }
}

#[test]
fn it_is_told_where_a_peer_is_ahead_and_where_none_is() {
    let of = |own: f64, peer: f64| {
        let cell = "commits-100000-1";
        document(vec![measured(cell, "dostore", 0, own), measured(cell, "lmdb", 0, peer)]).text
    };
    assert!(of(100.0, 250.0).contains("One durable commit at a time, 100,000 objects: LMDB, 2.50"));
    assert!(of(250.0, 100.0).contains("In no cell that was measured."));
}

#[test]
fn a_limit_is_no_peer() {
    let cell = "commits-100000-1";
    let all = vec![measured(cell, "dostore", 0, 10.0), measured(cell, "bare-log", 0, 90.0)];
    assert!(document(all).text.contains("In no cell that was measured."));
}

#[test]
fn a_goal_is_met_missed_or_not_measured() {
    let cell = "commits-100000-10000";
    let text = |own: f64| {
        let peer = measured(cell, "surrealkv", 0, 100_000.0);
        document(vec![measured(cell, "dostore", 0, own), peer]).text
    };
    let line = |text: &str, goal: &str| {
        let found = text.lines().find(|line| line.contains(goal));
        found.expect("each goal has a line").to_owned()
    };
    let (met, missed) = (text(600_000.0), text(300_000.0));
    assert!(line(&met, "at least 500,000").contains("| met |"));
    assert!(line(&missed, "at least 500,000").contains("| **missed** |"));
    assert!(line(&met, "4.00 times better than SurrealKV").contains("| 6.00 | met |"));
    assert!(line(&missed, "4.00 times better than SurrealKV").contains("| 3.00 | **missed** |"));
    assert!(line(&met, "over 10 million objects").contains("| not measured |"));
}

#[test]
fn a_goal_is_found_in_what_benches_printed() {
    let printed = "\
# On an idle machine.
open-store: replay after a kill                 265 MB/s  goal >= 300  raw  1114 ratio 0.24 MISSED
alarms: set                                  300000 1/s   goal >= 2    raw 250000 ratio 1.20 met";
    let text = document_with(Vec::new(), printed).text;
    let kill = "| MB/s of log replayed after a kill | at least 500 | 265 |  | raw: 1,114 | 0.530 \
                | **missed** | `cargo bench --bench figures -- open-store` |";
    assert!(text.contains(kill) && text.contains("On an idle machine."), "{text}");
    assert!(text.contains("| at least 1.00 times | 300,000 |  | commits: 250,000 | 1.20 | met |"));
}

#[test]
fn a_large_object_is_compared_with_small_ones_and_with_the_best_peer() {
    let all = vec![
        measured("commits-100000-1000", "dostore", 0, 100.0),
        measured("large-commits-125000-1000", "dostore", 0, 120.0),
        measured("large-scan-125000", "dostore", 0, 100.0),
        measured("large-scan-125000", "lmdb", 0, 160.0),
    ];
    let text = document(all).text;
    assert!(text.contains("| at least 1.00 times `commits-100000-1000` | 120 |"), "{text}");
    assert!(text.contains("| no peer more than 1.50 times better | 100 | LMDB: 160 |"));
    assert!(text.contains("| 1.60 | **missed** | `run --cells large-scan-125000` |"));
}

#[test]
fn every_picture_that_is_shown_is_made() {
    let mut all = vec![
        measured("commits-100000-1", "dostore", 0, 10.0),
        measured("commits-100000-64", "dostore", 0, 100.0),
        measured("commits-10000-64", "redb", 0, 100.0),
        measured("sustained-100000", "redb", 0, 5.0),
    ];
    all[3].figures.seconds = vec![(5.0, 100.0), (6.0, 120.0), (4.0, 900.0)];
    let document = document(all);
    let shown: Vec<&str> = document.text.split("](pictures/").skip(1).collect();
    assert!(shown.len() >= 6, "cells, in flight and over time: {shown:?}");
    for name in shown {
        let name = name.split(')').next().expect("a link ends");
        let made = document.pictures.iter().find(|(file, _)| file == name);
        assert!(made.is_some_and(|(_, picture)| picture.contains("<svg")), "{name}");
    }
}

#[test]
fn no_results_make_a_document_without_figures() {
    let text = document(Vec::new()).text;
    assert!(text.contains("run --quick") && text.contains("not measured"));
}

#[test]
fn numbers_keep_three_digits() {
    let said = [0.04567, 1.234, 12.34, 123.4, 1_234_567.0].map(number);
    assert_eq!(said, ["0.046", "1.23", "12.3", "123", "1,234,567"]);
}

//! What "fast" means for dostore: each goal with what was measured, the best peer and the limit.
//!
//! Invariants:
//!   * A goal that was not measured says so, with the command that measures it.

use super::number;
use super::rows::Table;
use crate::engines;
use std::fmt::Write;

/// Which figure of a cell is meant.
#[derive(Clone, Copy)]
enum Figure {
    Value,
    Beside(&'static str),
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// So many times better than another engine.
    TimesBetterThan(&'static str, f64),
    /// At most so many times the control's time.
    TimesControlAtMost(f64),
}

struct Goal {
    what: &'static str,
    cell: &'static str,
    figure: Figure,
    bound: Bound,
}

const fn goal(what: &'static str, cell: &'static str, figure: Figure, bound: Bound) -> Goal {
    Goal { what, cell, figure, bound }
}

const BUSY: &str = "commits-100000-10000";
const WARM: &str = "warm-100000";
const COLD: &str = "cold-1000000";
const SURREAL: &str = "surrealkv";
const FILES: &str = "sqlite-files";
const BY_HAND: &str = "rocksdb-by-hand";
const MEMORY: Figure = Figure::Beside("MB of memory, a tenth was read");
const AMPLIFICATION: Figure = Figure::Beside("device bytes, times keys and values");

const GOALS: &[Goal] = &[
    goal("durable commits/s, 10,000 in flight", BUSY, Figure::Value, Bound::AtLeast(500e3)),
    goal("the same", BUSY, Figure::Value, Bound::TimesBetterThan(SURREAL, 4.0)),
    goal("the same", BUSY, Figure::Value, Bound::TimesBetterThan(BY_HAND, 5.0)),
    goal("the same", BUSY, Figure::Value, Bound::TimesBetterThan(FILES, 300.0)),
    goal(
        "durable commits/s over ten million objects",
        "commits-10000000-10000",
        Figure::Value,
        Bound::AtLeast(150e3),
    ),
    goal("one commit at a time", "commits-100000-1", Figure::Value, Bound::TimesControlAtMost(1.1)),
    goal("open of an object, in the page cache", WARM, Figure::Value, Bound::AtMost(1.2)),
    goal("the same", WARM, Figure::Value, Bound::TimesBetterThan("lmdb", 2.0)),
    goal("the same", WARM, Figure::Value, Bound::TimesBetterThan("rocksdb-tuned", 5.0)),
    goal("the same", WARM, Figure::Value, Bound::TimesBetterThan(FILES, 150.0)),
    goal(
        "device reads to open an object, directory and all cold",
        COLD,
        Figure::Beside("device reads"),
        Bound::AtMost(2.0),
    ),
    goal(
        "disk for each object, at rest",
        "idle-1000000",
        Figure::Value,
        Bound::TimesBetterThan("rocksdb-tuned", 1.0),
    ),
    goal("MB of memory, ten million idle objects", IDLE, MEMORY, Bound::AtMost(100.0)),
    goal("descriptors of the same", IDLE, Figure::Beside("descriptors"), Bound::AtMost(100.0)),
    goal(
        "ms to open a store of ten million objects",
        "open-10000000",
        Figure::Beside("ms until open"),
        Bound::AtMost(20.0),
    ),
    goal("write amplification, sustained", "sustained-100000", AMPLIFICATION, Bound::AtMost(8.0)),
];

const IDLE: &str = "idle-10000000";

/// Goals that the figures of the crate itself measure.
const ELSEWHERE: &[(&str, &str)] = &[
    ("a get from an active object: at most 60 ns", "cargo bench --bench loops -- actor"),
    (
        "an object opened cold with the directory warm: at most 1.05 device reads, and 1.2 times a \
         raw read",
        "cargo bench --bench figures -- open-cold",
    ),
    ("replay after a kill: at least 500 MB/s", "cargo bench --bench figures -- open-store"),
    ("a read of the past: below 1 ms, warm", "cargo bench --bench figures -- past"),
    (
        "latency with everything on, 100,000 commits/s offered: p99.9 at most 20 times p50",
        "cargo bench --bench figures -- sustained",
    ),
    ("alarms: due ones handed out at 500,000/s", "cargo bench --bench figures -- alarms"),
];

impl Goal {
    fn of(&self, table: &Table<'_>, engine: &str) -> Option<f64> {
        let row = table.row(engine)?;
        match self.figure {
            Figure::Value => Some(row.value()),
            Figure::Beside(name) => row.beside(name),
        }
    }

    fn bound(&self) -> String {
        match self.bound {
            Bound::AtLeast(bound) => format!("at least {}", number(bound)),
            Bound::AtMost(bound) => format!("at most {}", number(bound)),
            Bound::TimesBetterThan(engine, times) => {
                let title = engines::named(engine).map_or(engine, |found| found.facts().title);
                format!("{} times better than {title}", number(times))
            }
            Bound::TimesControlAtMost(times) => format!("at most {times} times raw"),
        }
    }

    /// What was reached, as the bound says it.
    fn reached(&self, table: &Table<'_>) -> Option<(f64, bool)> {
        let own = self.of(table, "dostore")?;
        Some(match self.bound {
            Bound::AtLeast(bound) => (own / bound, own >= bound),
            Bound::AtMost(bound) => (own / bound, own <= bound),
            Bound::TimesBetterThan(engine, bound) => {
                let times = table.times_better(own, self.of(table, engine)?);
                (times, times >= bound)
            }
            Bound::TimesControlAtMost(bound) => {
                let times = table.row("dostore")?.ratio()?;
                let times = if table.cell.is_more_better() { 1.0 / times } else { times };
                (times, times <= bound)
            }
        })
    }

    fn line(&self, tables: &[Table<'_>]) -> String {
        let (what, bound, cell) = (self.what, self.bound(), self.cell);
        let command = format!("`run --cells {cell}`");
        let table = tables.iter().find(|table| table.cell.name() == cell);
        let Some(table) = table.filter(|table| self.of(table, "dostore").is_some()) else {
            return format!("| {what} | {bound} | not measured | | | | | {command} |");
        };
        let own = self.of(table, "dostore").map_or_else(String::new, number);
        let best = table.best_peer().and_then(|row| {
            Some(format!("{}: {}", row.title(), number(self.of(table, row.engine)?)))
        });
        let best = best.unwrap_or_default();
        let limit = self.of(table, "bare-log").map(number);
        let control = table.row("dostore").and_then(super::rows::Row::control).map(number);
        let limit = match (limit, control, self.figure) {
            (Some(limit), _, _) => format!("bare log: {limit}"),
            (None, Some(control), Figure::Value) => format!("raw: {control}"),
            _ => String::new(),
        };
        let (ratio, verdict) = match self.reached(table) {
            Some((ratio, true)) => (number(ratio), "met"),
            Some((ratio, false)) => (number(ratio), "**missed**"),
            None => (String::new(), "the other was not measured"),
        };
        format!("| {what} | {bound} | {own} | {best} | {limit} | {ratio} | {verdict} | {command} |")
    }
}

/// The section on goals.
pub fn write(text: &mut String, tables: &[Table<'_>]) -> std::fmt::Result {
    text.push_str(
        "\n## Goals\n\n\
         The ratio is what was reached against the bound: to the number, to the other engine, or \
         to the raw control.\n\n\
         | What | Goal | dostore | best peer | limit | ratio | | Command |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    GOALS.iter().try_for_each(|goal| writeln!(text, "{}", goal.line(tables)))?;
    text.push_str("\nOther goals have no peer to be measured beside:\n\n");
    ELSEWHERE.iter().try_for_each(|(what, command)| writeln!(text, "* {what}: `{command}`."))
}

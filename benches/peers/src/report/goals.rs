//! What "fast" means for dostore: each goal with what was measured, the best peer and the limit.
//!
//! Invariants:
//!   * A goal that was not measured says so, with the command that measures it.

use super::rows::{Row, Table};
use super::{COMMAND, number};
use crate::engines;
use crate::printed::Printed;
use std::fmt::Write;

/// Which figure of a cell is meant.
#[derive(Clone, Copy)]
enum Figure {
    Value,
    Beside(&'static str),
}

/// What measures a goal.
#[derive(Clone, Copy)]
enum Of {
    /// The first of these cells that was measured, of this way to use dostore.
    Cells(&'static str, &'static [&'static str], Figure),
    /// A line that a bench of the crate prints, and the arguments with which it does.
    Printed(&'static str, &'static str),
    /// Nothing yet.
    Nothing,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// So many times better than another engine.
    TimesBetterThan(&'static str, f64),
    /// No peer is more than so many times better.
    NoPeerTimesBetter(f64),
    /// At most so many times what the control takes.
    TimesControlAtMost(f64),
    /// At least so many times what the control does.
    TimesControlAtLeast(f64),
    /// At least so much of what the physical limit does.
    TimesLimit(f64),
    /// At least so many times what another cell has.
    TimesCellAtLeast(&'static str, f64),
}

struct Goal {
    what: &'static str,
    of: Of,
    bound: Bound,
}

const fn goal(what: &'static str, of: Of, bound: Bound) -> Goal {
    Goal { what, of, bound }
}

const fn cell(names: &'static [&'static str]) -> Of {
    Of::Cells(OWN, names, Figure::Value)
}

const fn beside(names: &'static [&'static str], figure: &'static str) -> Of {
    Of::Cells(OWN, names, Figure::Beside(figure))
}

const OWN: &str = "dostore";
const LEAN: &str = "dostore-no-history";
const SAME: &str = "the same";
const BUSY: Of = cell(&["commits-100000-10000"]);
const BUSY_LEAN: Of = Of::Cells(LEAN, &["commits-100000-10000"], Figure::Value);
const WARM: Of = cell(&["warm-1000000", "warm-100000"]);
const COLD: &[&str] = &["cold-1000000", "cold-100000"];
const IDLE: &[&str] = &["idle-10000000"];
const REST: &[&str] = &["idle-1000000", "idle-100000"];
const SURREAL: &str = "surrealkv";
const FILES: &str = "sqlite-files";
const BY_HAND: &str = "rocksdb-by-hand";
const TUNED: &str = "rocksdb-tuned";

const fn figures(line: &'static str, arguments: &'static str) -> Of {
    Of::Printed(line, arguments)
}

const GOALS: &[Goal] = &[
    goal("durable commits/s, 10,000 in flight, 100,000 objects", BUSY, Bound::AtLeast(500e3)),
    goal(SAME, BUSY, Bound::TimesBetterThan(SURREAL, 4.0)),
    goal(SAME, BUSY, Bound::TimesBetterThan(BY_HAND, 5.0)),
    goal(SAME, BUSY, Bound::TimesBetterThan(FILES, 300.0)),
    goal("the same without a past, as its peers are", BUSY_LEAN, Bound::AtLeast(500e3)),
    goal(SAME, BUSY_LEAN, Bound::TimesBetterThan(SURREAL, 4.0)),
    goal(SAME, BUSY_LEAN, Bound::TimesBetterThan(BY_HAND, 5.0)),
    goal(
        "durable commits/s over 10 million objects, data in the page cache",
        cell(&["commits-10000000-10000"]),
        Bound::AtLeast(150e3),
    ),
    goal("the same, cold", cell(&["commits-cold-10000000-10000"]), Bound::AtLeast(40e3)),
    goal(
        "commits in the worst second, 100,000/s offered evenly over 1 million objects",
        figures("sustained uniform: least in a second", "sustained --load uniform"),
        Bound::AtLeast(1.0),
    ),
    goal(
        "us for one commit, nothing else running, against a raw write and sync of its bytes",
        figures("alone: commit p50", "alone"),
        Bound::TimesControlAtMost(1.1),
    ),
    goal(
        "commits/s one at a time with all that follows, against the bare log",
        cell(&["commits-100000-1"]),
        Bound::TimesLimit(0.8),
    ),
    goal(
        "us to open an object of 8 values and read one, in the page cache",
        figures("open-warm: open, get, drop p50", "open-warm"),
        Bound::AtMost(1.2),
    ),
    goal("the same, compressed", Of::Nothing, Bound::AtMost(2.5)),
    goal(
        "us to open an object and read all of its 8 values",
        WARM,
        Bound::TimesBetterThan("lmdb", 2.0),
    ),
    goal(SAME, WARM, Bound::TimesBetterThan(TUNED, 5.0)),
    goal(SAME, cell(&["warm-100000"]), Bound::TimesBetterThan(FILES, 150.0)),
    goal(
        "device reads to open an object, the directory warm",
        figures("open-cold: device reads", "open-cold"),
        Bound::AtMost(1.05),
    ),
    goal("the same, all cold", beside(COLD, "device reads"), Bound::AtMost(2.0)),
    goal(
        "us to open an object, the directory warm, against a raw cold read",
        figures("open-cold: p50", "open-cold"),
        Bound::TimesControlAtMost(1.2),
    ),
    goal(
        "ns for a get from an active object",
        Of::Printed("get of an actor, outside a turn", "LOOPS get of"),
        Bound::AtMost(60.0),
    ),
    goal("disk for each object, at rest", cell(REST), Bound::TimesBetterThan(TUNED, 1.0)),
    goal(
        "the same without a past, as its peers are",
        Of::Cells(LEAN, REST, Figure::Value),
        Bound::TimesBetterThan(TUNED, 1.0),
    ),
    goal(
        "MB of memory, 10 million idle objects",
        beside(IDLE, "MB of memory, a tenth was read"),
        Bound::AtMost(100.0),
    ),
    goal("descriptors of the same", beside(IDLE, "descriptors"), Bound::AtMost(100.0)),
    goal(
        "ms to open a store of 10 million objects",
        beside(&["open-10000000"], "ms until open"),
        Bound::AtMost(20.0),
    ),
    goal(
        "MB/s of log replayed after a kill",
        figures("open-store: replay after a kill", "open-store"),
        Bound::AtLeast(500.0),
    ),
    goal(
        "us to read the past, warm, p99",
        figures("past: warm read as of a moment, p99", "past"),
        PAST,
    ),
    goal(
        "the same of a hot object",
        figures("past: warm read as of a moment of a hot object, p99", "past"),
        PAST,
    ),
    goal("the same by time", figures("past: warm by time read as of a moment, p99", "past"), PAST),
    goal("us to restore, warm, p99", figures("past: restoration, p99", "past"), PAST),
    goal(
        "p99.9 against p50 of commits, 100,000/s offered, everything on",
        figures("sustained uniform: p99.9", "sustained --load uniform"),
        Bound::TimesControlAtMost(20.0),
    ),
    goal(
        "device bytes for each of records, the same load",
        figures("sustained uniform: device bytes", "sustained --load uniform"),
        Bound::AtMost(8.0),
    ),
    goal(
        "the same by Zipf 0.99",
        figures("sustained zipf: device bytes", "sustained --load zipf"),
        Bound::AtMost(4.0),
    ),
    goal("one large object: reads", cell(&["large-warm-125000"]), Bound::NoPeerTimesBetter(1.5)),
    goal(
        "one large object: keys in order",
        cell(&["large-scan-125000"]),
        Bound::NoPeerTimesBetter(1.5),
    ),
    goal(
        "one large object: commits/s, as fast as for small ones",
        cell(&["large-commits-125000-1000"]),
        Bound::TimesCellAtLeast("commits-100000-1000", 1.0),
    ),
    goal(
        "1 million alarms set, against as many commits of a small value",
        figures("alarms: set", "alarms"),
        Bound::TimesControlAtLeast(1.0),
    ),
    goal(
        "due ones handed out a second",
        figures("alarms: due ones handed out", "alarms"),
        Bound::AtLeast(500e3),
    ),
    goal(
        "far ones held in memory, of 1 million",
        figures("alarms: in memory, after a checkpoint", "alarms"),
        Bound::AtMost(0.0),
    ),
];

const PAST: Bound = Bound::AtMost(1_000.0);

/// A line of the table; what is not known stays empty.
#[derive(Default)]
struct Found {
    own: Option<f64>,
    best: String,
    limit: String,
    /// What was reached, as the bound says it.
    reached: Option<f64>,
    command: String,
}

fn title(engine: &str) -> &str {
    engines::named(engine).map_or(engine, |found| found.facts().title)
}

fn find<'t, 'r>(tables: &'t [Table<'r>], name: &str, own: &str) -> Option<&'t Table<'r>> {
    tables.iter().find(|table| table.cell.name() == name && table.row(own).is_some())
}

fn of_row(row: &Row<'_>, figure: Figure) -> Option<f64> {
    match figure {
        Figure::Value => Some(row.value()),
        Figure::Beside(name) => row.beside(name),
    }
}

impl Bound {
    fn said(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("at least {}", number(bound)),
            Self::AtMost(bound) => format!("at most {}", number(bound)),
            Self::TimesBetterThan(engine, times) => {
                format!("{} times better than {}", number(times), title(engine))
            }
            Self::NoPeerTimesBetter(times) => {
                format!("no peer more than {} times better", number(times))
            }
            Self::TimesControlAtMost(times) => format!("at most {} times", number(times)),
            Self::TimesControlAtLeast(times) => format!("at least {} times", number(times)),
            Self::TimesLimit(times) => format!("at least {} of the limit", number(times)),
            Self::TimesCellAtLeast(cell, times) => {
                format!("at least {} times `{cell}`", number(times))
            }
        }
    }

    /// Whether what was reached is enough.
    fn is_met(self, reached: f64) -> bool {
        match self {
            Self::AtLeast(_) => reached >= 1.0,
            Self::AtMost(_) => reached <= 1.0,
            Self::NoPeerTimesBetter(times) | Self::TimesControlAtMost(times) => reached <= times,
            Self::TimesBetterThan(_, times)
            | Self::TimesControlAtLeast(times)
            | Self::TimesLimit(times)
            | Self::TimesCellAtLeast(_, times) => reached >= times,
        }
    }

    /// A figure against a number of the goal; where that is nothing, anything more is too much.
    fn against(own: f64, bound: f64) -> f64 {
        if bound > 0.0 {
            own / bound
        } else if own > bound {
            f64::INFINITY
        } else {
            1.0
        }
    }
}

impl Goal {
    /// What a cell says.
    fn in_table(
        &self,
        own: &str,
        table: &Table<'_>,
        tables: &[Table<'_>],
        figure: Figure,
    ) -> Option<Found> {
        let row = table.row(own)?;
        let own = of_row(row, figure)?;
        let is_more_better = table.cell.is_more_better();
        // Controls say how long in some cells, and how many in others.
        let control = row.ratio().map(|ratio| if is_more_better { 1.0 / ratio } else { ratio });
        let reached = match self.bound {
            Bound::AtLeast(bound) | Bound::AtMost(bound) => Some(Bound::against(own, bound)),
            Bound::TimesBetterThan(engine, _) => {
                let other = table.row(engine).and_then(|other| of_row(other, figure));
                other.map(|other| table.times_better(own, other))
            }
            Bound::NoPeerTimesBetter(_) => {
                table.best_peer().map(|peer| table.times_better(peer.value(), own))
            }
            Bound::TimesControlAtMost(_) => control,
            Bound::TimesControlAtLeast(_) => control.map(|times| 1.0 / times),
            Bound::TimesLimit(_) => {
                table.row("bare-log").and_then(|limit| Some(own / of_row(limit, figure)?))
            }
            Bound::TimesCellAtLeast(name, _) => {
                let other = find(tables, name, OWN).and_then(|table| table.row(OWN));
                other.map(|other| own / other.value())
            }
        };
        let best = table
            .best_peer()
            .and_then(|peer| Some(format!("{}: {}", peer.title(), number(of_row(peer, figure)?))));
        let limit = match (table.row("bare-log"), row.control(), figure) {
            (Some(limit), _, Figure::Value) => format!("bare log: {}", number(limit.value())),
            (None, Some(control), Figure::Value) => format!("raw: {}", number(control)),
            _ => String::new(),
        };
        let command = format!("`run --cells {}`", table.cell.name());
        Some(Found { own: Some(own), best: best.unwrap_or_default(), limit, reached, command })
    }

    /// What the benches of the crate printed.
    fn in_print(&self, printed: &Printed, line: &str, arguments: &str) -> Found {
        let own = printed.value(line);
        let reached = match self.bound {
            Bound::AtLeast(bound) | Bound::AtMost(bound) => {
                own.map(|own| Bound::against(own, bound))
            }
            _ => printed.ratio(line),
        };
        let limit = printed.raw(line).map_or_else(String::new, |raw| {
            let what = match line.split_once(": ") {
                Some(("alarms", _)) => "commits",
                Some((_, "p99.9")) => "p50",
                _ => "raw",
            };
            format!("{what}: {}", number(raw))
        });
        let command = match arguments.strip_prefix("LOOPS ") {
            Some(name) => format!("`cargo bench --bench loops -- '{name}'`"),
            None => format!("`cargo bench --bench figures -- {arguments}`"),
        };
        Found { own, best: String::new(), limit, reached, command }
    }

    fn found(&self, tables: &[Table<'_>], printed: &Printed) -> Found {
        match self.of {
            Of::Cells(own, names, figure) => {
                let table = names.iter().find_map(|name| find(tables, name, own));
                let found = table.and_then(|table| self.in_table(own, table, tables, figure));
                let name = names.first().copied().unwrap_or_default();
                let command = format!("`run --cells {name}`");
                found.unwrap_or_else(|| Found { command, ..Found::default() })
            }
            Of::Printed(line, arguments) => self.in_print(printed, line, arguments),
            Of::Nothing => Found { command: "no program yet".to_owned(), ..Found::default() },
        }
    }

    fn line(&self, tables: &[Table<'_>], printed: &Printed) -> String {
        let (what, bound) = (self.what, self.bound.said());
        let Found { own, best, limit, reached, command } = self.found(tables, printed);
        let Some(own) = own.map(number) else {
            return format!("| {what} | {bound} | not measured | | | | | {command} |");
        };
        let (ratio, verdict) = match reached {
            Some(ratio) if self.bound.is_met(ratio) => (number(ratio), "met"),
            Some(ratio) => (number(ratio), "**missed**"),
            None => (String::new(), "the other was not measured"),
        };
        format!("| {what} | {bound} | {own} | {best} | {limit} | {ratio} | {verdict} | {command} |")
    }
}

/// The section on goals.
pub fn write(text: &mut String, tables: &[Table<'_>], printed: &Printed) -> std::fmt::Result {
    writeln!(
        text,
        "\n## Goals\n\n\
         The ratio is what was reached against the bound: to the number, to the other engine, or \
         to the raw control.\n\
         `run` stands for `{COMMAND} run --dir FOLDER`.\n\
         What the benches of the crate measure has no peer beside it here.\n"
    )?;
    printed.about.iter().try_for_each(|line| writeln!(text, "{line}"))?;
    text.push_str(
        "\n| What | Goal | dostore | best peer | limit | ratio | | Command |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    GOALS.iter().try_for_each(|goal| writeln!(text, "{}", goal.line(tables, printed)))
}

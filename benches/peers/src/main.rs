//! dostore beside its peers: the same work, the same durability, the same cache, in turns.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- run --dir FOLDER` measures and
//! writes lines of JSON; `... -- report --to docs/benchmarks.md` makes the document of them.
//!
//! Invariants:
//!   * No engine is given less than its own documentation recommends for this work.
//!   * Every figure stands beside a raw control of the same moment.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded when printed"
)]

mod cells;
mod control;
mod engine;
mod engines;
mod flips;
mod key_space;
mod machine;
mod matrix;
#[path = "../../figures/measure.rs"]
#[expect(dead_code, reason = "shared with the figures of the crate, which need more of it")]
mod measure;
mod offer;
mod printed;
mod probe;
#[path = "../../figures/raw.rs"]
#[expect(dead_code, reason = "shared with the figures of the crate, which need more of it")]
mod raw;
mod recorder;
mod report;
mod results;
mod stage;
#[path = "../../figures/system.rs"]
#[expect(dead_code, reason = "shared with the figures of the crate, which need more of it")]
mod system;
mod workload;

use cells::Cell;
use clap::{Args, Parser, Subcommand};
use engine::Engine;
use flips::Flips;
use machine::Machine;
use matrix::{Answer, Matrix, Part};
use printed::Printed;
use results::Results;
use stage::Stage;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

#[derive(Parser)]
#[command(
    about = "dostore beside its peers: the same work and durability, in turns, with controls"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures every cell on every engine; goes on where a run was broken off.
    Run {
        /// Few objects and short times: shows that it works, and little else.
        #[arg(long)]
        quick: bool,
        /// Only these cells, or those whose names begin so, in this order.
        #[arg(long, value_delimiter = ',')]
        cells: Vec<String>,
        /// Only these engines.
        #[arg(long, value_delimiter = ',')]
        engines: Vec<String>,
        /// Begins no measurement after so many minutes; the same command goes on later.
        #[arg(long)]
        minutes: Option<f64>,
        /// Rounds of each cell; five, or one with --quick.
        #[arg(long)]
        rounds: Option<usize>,
        #[command(flatten)]
        place: Place,
        /// Lines of JSON, added to what is there.
        #[arg(long, default_value = "peers.jsonl")]
        out: PathBuf,
    },
    /// Says which cells and engines there are.
    List {
        #[arg(long)]
        quick: bool,
    },
    /// Makes a document with tables and pictures of the results.
    Report {
        #[arg(long, default_value = "peers.jsonl")]
        from: PathBuf,
        /// What `cargo bench --bench figures` and `--bench loops` printed, for the goals that no
        /// cell measures; lines that begin with # tell of them.
        #[arg(long)]
        figures: Option<PathBuf>,
        /// The document; pictures go into a folder beside it.
        #[arg(long)]
        to: PathBuf,
    },
    /// Flips one bit in the files of each engine, and says what reading all keys gives then.
    Flips(Flips),
    /// What flips begin as a process of its own.
    #[command(hide = true)]
    FlipsRead(flips::Read),
    /// What a run begins as a process of its own.
    #[command(hide = true)]
    Part {
        part: Part,
        #[arg(long)]
        cell: String,
        #[arg(long)]
        engine: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
struct Place {
    /// Where stores are made and removed.
    #[arg(long)]
    dir: PathBuf,
    /// Seconds that a measurement of commits takes; two, or a half with --quick.
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds that sustained commits take; forty-five, or two with --quick.
    #[arg(long)]
    sustained: Option<f64>,
}

impl Place {
    fn stage(self, is_quick: bool) -> Stage {
        let (seconds, sustained) = if is_quick { (0.5, 2.0) } else { (2.0, 45.0) };
        Stage {
            root: self.dir,
            time: Duration::from_secs_f64(self.seconds.unwrap_or(seconds)),
            sustained: Duration::from_secs_f64(self.sustained.unwrap_or(sustained)),
        }
    }
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run { quick, cells, engines, minutes, rounds, place, out } => {
            if cfg!(debug_assertions) && !quick {
                return Err("figures need a build with --release; --quick does without".into());
            }
            let (began, stage) = (Instant::now(), place.stage(quick));
            std::fs::create_dir_all(&stage.root)?;
            let rounds = rounds.unwrap_or(if quick { 1 } else { 5 });
            let machine = Machine::this(&stage.root)?;
            let (cells, engines) = (chosen_cells(quick, &cells)?, chosen_engines(&engines)?);
            let mut results = Results::open(&out)?;
            results.begin(machine)?;
            let end = minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
            Matrix { stage, cells, engines, rounds, end }.run(&mut results)
        }
        Command::List { quick } => {
            for cell in cells::matrix(quick) {
                println!("{}", cell.name());
            }
            println!();
            for engine in engines::all() {
                println!("{}", engine.facts().id);
            }
            Ok(())
        }
        Command::Report { from, figures, to } => {
            let printed = figures.map(std::fs::read_to_string).transpose()?.unwrap_or_default();
            report::write(&Results::open(&from)?, &Printed::of(&printed), &to)
        }
        Command::Flips(flips) => flips.run(),
        Command::FlipsRead(read) => read.run(),
        Command::Part { part, cell, engine, place } => {
            let cell = Cell::named(&cell).ok_or_else(|| format!("there is no cell {cell}"))?;
            let engine = named(&engine)?;
            let stage = place.stage(false);
            match part {
                Part::Prepare => stage.prepare(engine, &cell),
                Part::Load => stage.commit_until_killed(&cell, engine),
                Part::Measure => {
                    let figures = stage.measure(&cell, engine)?;
                    let processor_seconds = system::processor_seconds()?;
                    let answer = Answer { figures, processor_seconds };
                    println!("{}", serde_json::to_string(&answer)?);
                    Ok(())
                }
            }
        }
    }
}

fn named(id: &str) -> Result<&'static dyn Engine> {
    Ok(engines::named(id).ok_or_else(|| format!("there is no engine {id}"))?)
}

fn chosen_engines(ids: &[String]) -> Result<Vec<&'static dyn Engine>> {
    if ids.is_empty() {
        return Ok(engines::all().to_vec());
    }
    ids.iter().map(|id| named(id)).collect()
}

/// The cells that were asked for, of the matrix, in the order of the names; a whole name may also
/// be one outside it.
fn chosen_cells(is_quick: bool, names: &[String]) -> Result<Vec<Cell>> {
    let mut cells = cells::matrix(is_quick);
    if names.is_empty() {
        return Ok(cells);
    }
    for name in names {
        let is_known = cells.iter().any(|cell| cell.name().starts_with(name));
        match Cell::named(name) {
            Some(cell) if !cells.contains(&cell) => cells.push(cell),
            None if !is_known => return Err(format!("there is no cell {name}").into()),
            _ => {}
        }
    }
    let is_meant = |name: &String, cell: &Cell| match Cell::named(name) {
        Some(named) => named == *cell,
        None => cell.name().starts_with(name),
    };
    let place = |cell: &Cell| names.iter().position(|name| is_meant(name, cell));
    cells.retain(|cell| place(cell).is_some());
    cells.sort_by_key(place);
    Ok(cells)
}

//! The run: every cell on every engine, round by round, each measurement in a process of its own.
//!
//! Invariants:
//!   * Engines take turns within a round, in an order that changes from round to round.
//!   * What was measured is never measured again: a run that was broken off goes on.
//!   * A cell that changes stores leaves none behind for the next.
//!   * An engine that fails stops no other; the run as a whole fails at its end.

use crate::Result;
use crate::cells::{ALONE_OBJECTS, Cell, Work};
use crate::engine::Engine;
use crate::probe::Counts;
use crate::results::{Figures, Measured, Results};
use crate::stage::Stage;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No measurement takes longer.
const TIME_MAX: Duration = Duration::from_mins(20);
/// What a process commits before it is killed, or how long it does.
const KILLED_COMMITS: u64 = 200_000;
const KILLED_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes that are left free.
const FREE_MIN: u64 = 4 << 30;
/// An engine that makes stores slowly makes larger ones only once.
const SLOW_OBJECTS_MAX: u64 = 10_000;

/// What is to be measured.
pub struct Matrix {
    pub stage: Stage,
    pub cells: Vec<Cell>,
    pub engines: Vec<&'static dyn Engine>,
    pub rounds: usize,
    /// When no measurement is begun any more.
    pub end: Option<Instant>,
}

/// What a process of this program does in the place of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Prepare,
    Measure,
    Load,
}

impl Matrix {
    /// Whether an engine is measured on a cell.
    fn suits(engine: &dyn Engine, cell: &Cell) -> bool {
        let facts = engine.facts();
        facts.suits(cell) && (cell.objects < ALONE_OBJECTS || facts.family == "dostore")
    }

    fn rounds_of(&self, engine: &dyn Engine, cell: &Cell) -> usize {
        let is_slow = engine.facts().has_file_for_each && cell.objects > SLOW_OBJECTS_MAX;
        if is_slow && cell.work == Work::Create { 1 } else { cell.rounds(self.rounds) }
    }

    /// Fails when the disk is too full for what is to come.
    fn check_room(&self) -> Result<()> {
        let of = |cell: &&Cell| {
            let suited = self.engines.iter().filter(|engine| Self::suits(**engine, cell));
            let holding = suited.filter(|engine| engine.facts().role.holds_objects());
            let sizes: Vec<u64> = holding.map(|engine| engine.facts().object_bytes).collect();
            // One more is made beside the others.
            let together = sizes.iter().sum::<u64>() + sizes.iter().max().unwrap_or(&0);
            together * cell.objects
        };
        let Some(largest) = self.cells.iter().max_by_key(of) else { return Ok(()) };
        let needed = of(&largest) + FREE_MIN;
        let facts = rustix::fs::statvfs(&self.stage.root)?;
        let free = facts.f_bavail * facts.f_frsize;
        if free >= needed {
            return Ok(());
        }
        let (free, needed, name) = (free >> 30, needed >> 30, largest.name());
        Err(format!("{free} GiB are free, and {name} may need {needed} GiB").into())
    }

    /// Measures all that is not in the results yet.
    pub fn run(&self, results: &mut Results) -> Result<()> {
        self.check_room()?;
        let mut failures = 0;
        for (index, cell) in self.cells.iter().enumerate() {
            failures += self.run_cell(cell, results)?;
            let next = self.cells.get(index + 1);
            let is_last =
                next.is_none_or(|next| (next.objects, next.layout) != (cell.objects, cell.layout));
            for engine in &self.engines {
                let is_slow = engine.facts().has_file_for_each;
                if is_last || (cell.changes_store() && !is_slow) {
                    self.stage.forget(*engine, cell)?;
                }
            }
        }
        if failures > 0 {
            return Err(format!("{failures} measurements failed").into());
        }
        if self.is_over() {
            eprintln!("the time is over; the same command goes on");
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// All rounds of a cell; how many measurements failed.
    fn run_cell(&self, cell: &Cell, results: &mut Results) -> Result<usize> {
        let name = cell.name();
        let mut failures = 0;
        for round in 0..cell.rounds(self.rounds) {
            let mut engines = self.engines.clone();
            if round % 2 == 1 {
                engines.reverse();
            }
            engines.retain(|engine| {
                Self::suits(*engine, cell)
                    && round < self.rounds_of(*engine, cell)
                    && !results.has(&name, engine.facts().id, round)
            });
            for engine in engines {
                if self.is_over() {
                    return Ok(failures);
                }
                let id = engine.facts().id;
                match self.measure(cell, engine) {
                    Ok((figures, others)) => {
                        let (value, unit) = (figures.value, &figures.unit);
                        println!("{name} {id} round {round}: {value:.1} {unit}");
                        let (cell, engine) = (name.clone(), id.to_owned());
                        results.add(Measured { cell, engine, round, others, figures })?;
                    }
                    Err(error) => {
                        eprintln!("{name} {id} round {round} FAILED: {error}");
                        failures += 1;
                        // What is left may be what it failed on.
                        self.stage.forget(engine, cell)?;
                    }
                }
            }
        }
        Ok(failures)
    }

    /// One measurement, and the part of all processors that others took meanwhile.
    fn measure(&self, cell: &Cell, engine: &dyn Engine) -> Result<(Figures, f64)> {
        let is_limit = engine.facts().role.is_limit();
        if cell.needs_store() && !is_limit && !self.stage.is_prepared(engine, cell) {
            self.process(Part::Prepare, cell, engine)?.finish()?;
        }
        let mut killed = None;
        if cell.work == Work::OpenKilled {
            killed = Some(self.process(Part::Load, cell, engine)?.kill_when_busy()?);
        }
        let before = Counts::now(&self.stage.root)?;
        let said = self.process(Part::Measure, cell, engine)?.finish()?;
        let after = Counts::now(&self.stage.root)?;
        let line = said.lines().last().ok_or("the measuring process said nothing")?;
        let mut answer: Answer = serde_json::from_str(line)?;
        if let Some(commits) = killed {
            answer.figures.add("commits before the kill", commits as f64);
        }
        Ok((answer.figures, before.others_but(&after, answer.processor_seconds)))
    }

    /// Begins a process of this program.
    fn process(&self, part: Part, cell: &Cell, engine: &dyn Engine) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        let part = clap::ValueEnum::to_possible_value(&part).ok_or("a part has no name")?;
        command.arg("part").arg(part.get_name());
        command.arg("--cell").arg(cell.name()).arg("--engine").arg(engine.facts().id);
        command.arg("--dir").arg(&self.stage.root);
        command.arg("--seconds").arg(self.stage.time.as_secs_f64().to_string());
        command.arg("--sustained").arg(self.stage.sustained.as_secs_f64().to_string());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the process has no output")?;
        Ok(Process { child, output: Some(output) })
    }
}

/// What a measuring process says, in one line.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    pub figures: Figures,
    /// Processor time that it took itself.
    pub processor_seconds: f64,
}

/// A process of this program; killed when dropped.
struct Process {
    child: Child,
    output: Option<ChildStdout>,
}

impl Process {
    /// Waits for its end; what it said.
    fn finish(mut self) -> Result<String> {
        let mut output = self.output.take().ok_or("the process has no output")?;
        let reader: JoinHandle<std::io::Result<String>> = std::thread::spawn(move || {
            let mut said = String::new();
            output.read_to_string(&mut said).map(|_| said)
        });
        let end = Instant::now() + TIME_MAX;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > end => return Err("it took too long".into()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let said = reader.join().map_err(|_| "reading what it said panicked")??;
        if status.success() { Ok(said) } else { Err(format!("it ended with {status}").into()) }
    }

    /// Kills it once it has committed enough; how many commits those were.
    fn kill_when_busy(mut self) -> Result<u64> {
        let output = self.output.take().ok_or("the process has no output")?;
        let began = Instant::now();
        let mut commits = 0;
        for line in BufReader::new(output).lines() {
            commits = line?.trim().parse()?;
            if commits >= KILLED_COMMITS || began.elapsed() > KILLED_TIME_MAX {
                break;
            }
        }
        if self.child.try_wait()?.is_some() {
            return Err("it ended before it was killed".into());
        }
        Ok(commits)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Results as lines of JSON, one for each measurement: written as they come, so that a run that is
//! broken off goes on where it was.

use crate::Result;
use crate::flips::Tally;
use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A figure with its name, which says the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    pub value: f64,
}

/// What one measurement showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub unit: String,
    /// The figure that counts.
    pub value: f64,
    /// The same work by bare system calls, at the same moment and in the same unit.
    pub control: Option<Named>,
    /// What explains it.
    pub beside: Vec<Named>,
    /// What happened second by second: commits, and the latency that 99 of 100 did not exceed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<(f64, f64)>,
}

impl Figures {
    pub fn new(unit: &str, value: f64) -> Self {
        let unit = unit.to_owned();
        Self { unit, value, control: None, beside: Vec::new(), seconds: Vec::new() }
    }

    pub fn control(&mut self, name: &str, value: f64) {
        self.control = Some(Named { name: name.into(), value });
    }

    pub fn add(&mut self, name: &str, value: f64) {
        self.beside.push(Named { name: name.into(), value });
    }
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub cell: String,
    pub engine: String,
    pub round: usize,
    /// The part of all processors that other processes took meanwhile, in percent.
    pub others: f64,
    pub figures: Figures,
}

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Machine(Machine),
    Measured(Measured),
    Flips(Tally),
}

/// The results so far, in a file.
#[derive(Debug)]
pub struct Results {
    file: File,
    /// Where and how runs were begun, the last one at the end.
    pub machines: Vec<Machine>,
    pub all: Vec<Measured>,
    /// What flipped bits did.
    pub flips: Vec<Tally>,
}

impl Results {
    /// Reads what is there. A last line that was cut off is cut away; any other line that says
    /// nothing is an error.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut text = std::io::read_to_string(&mut file)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        file.set_len(whole as u64)?;
        let (mut machines, mut all, mut flips) = (Vec::new(), Vec::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let line = serde_json::from_str(line)
                .map_err(|error| format!("{} line {}: {error}", path.display(), number + 1))?;
            match line {
                Line::Machine(machine) => machines.push(machine),
                Line::Measured(measured) => all.push(measured),
                Line::Flips(tally) => flips.push(tally),
            }
        }
        Ok(Self { file, machines, all, flips })
    }

    /// Whether this was measured already.
    pub fn has(&self, cell: &str, engine: &str, round: usize) -> bool {
        let is_it =
            |known: &Measured| known.cell == cell && known.engine == engine && known.round == round;
        self.all.iter().any(is_it)
    }

    /// Says where what follows was measured.
    pub fn begin(&mut self, machine: Machine) -> Result<()> {
        self.write(&Line::Machine(machine.clone()))?;
        self.machines.push(machine);
        Ok(())
    }

    pub fn add(&mut self, measured: Measured) -> Result<()> {
        self.write(&Line::Measured(measured.clone()))?;
        self.all.push(measured);
        Ok(())
    }

    pub fn add_flips(&mut self, tally: Tally) -> Result<()> {
        self.write(&Line::Flips(tally.clone()))?;
        self.flips.push(tally);
        Ok(())
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        Ok(self.file.write_all(text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(round: usize) -> Measured {
        let mut figures = Figures::new("commits/s", 5.0);
        figures.control("raw", 10.0);
        figures.add("p99 us", 3.0);
        let (cell, engine) = ("create-10".to_owned(), "redb".to_owned());
        Measured { cell, engine, round, others: 0.5, figures }
    }

    #[test]
    fn a_run_goes_on_behind_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("results");
        let mut results = Results::open(&path).expect("a new file is no error");
        results.add(measured(0)).expect("it can be written");
        drop(results);
        let whole = std::fs::read(&path).expect("it was written");
        std::fs::write(&path, [&whole[..], &whole[..20]].concat()).expect("it can be written");
        let mut results = Results::open(&path).expect("what was cut off is no error");
        assert!(results.has("create-10", "redb", 0) && !results.has("create-10", "redb", 1));
        results.add(measured(1)).expect("it can be written");
        let results = Results::open(&path).expect("all lines are whole");
        assert_eq!(results.all, [measured(0), measured(1)]);
    }

    #[test]
    fn a_line_that_says_nothing_is_told() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("results");
        std::fs::write(&path, "{\"kind\":\"measured\"}\n").expect("it can be written");
        assert!(Results::open(&path).is_err());
    }
}

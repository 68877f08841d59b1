//! Measuring one cell on one engine once, in a process of its own.
//!
//! Invariants:
//!   * A store is made once for a size and opened anew for each measurement, so none profits from
//!     what another left in memory.
//!   * A control is taken beside each figure.
//!   * What is read must be what an object has, or the measurement fails.

mod commits;
mod reads;

use crate::Result;
use crate::cells::{Cell, Work};
use crate::engine::Engine;
use crate::results::Figures;
use crate::workload::Layout;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where stores lie, and how long each measurement takes.
#[derive(Clone, Debug)]
pub struct Stage {
    pub root: PathBuf,
    pub time: Duration,
    /// How long sustained commits take.
    pub sustained: Duration,
}

impl Stage {
    /// Where the store of an engine for a cell lies.
    fn folder(&self, engine: &dyn Engine, cell: &Cell) -> PathBuf {
        let kind = if cell.layout == Layout::One { "-large" } else { "" };
        self.root.join(format!("{}{kind}-{}", engine.facts().family, cell.objects))
    }

    /// What is there once the store is complete.
    fn marker(&self, engine: &dyn Engine, cell: &Cell) -> PathBuf {
        self.folder(engine, cell).with_extension("complete")
    }

    pub fn is_prepared(&self, engine: &dyn Engine, cell: &Cell) -> bool {
        self.marker(engine, cell).exists()
    }

    /// Makes the store for a cell.
    pub fn prepare(&self, engine: &dyn Engine, cell: &Cell) -> Result<()> {
        let folder = self.folder(engine, cell);
        remove(&folder)?;
        let mut peer = engine.open(&folder, cell.layout)?;
        peer.create(0..cell.objects)?;
        peer.settle()?;
        peer.close()?;
        Ok(fs::write(self.marker(engine, cell), b"")?)
    }

    /// Removes the store for a cell.
    pub fn forget(&self, engine: &dyn Engine, cell: &Cell) -> Result<()> {
        remove(&self.marker(engine, cell))?;
        remove(&self.folder(engine, cell))
    }

    /// Measures a cell on an engine once.
    pub fn measure(&self, cell: &Cell, engine: &dyn Engine) -> Result<Figures> {
        match cell.work {
            Work::Create => self.create(engine, cell),
            Work::Idle => self.idle(engine, cell),
            Work::Open | Work::OpenKilled => self.open(engine, cell),
            Work::Warm => self.warm(engine, cell),
            Work::Cold => self.cold(engine, cell),
            Work::Scan => self.scan(engine, cell),
            Work::Commits(in_flight) | Work::CommitsCold(in_flight) => {
                self.commits(engine, cell, in_flight)
            }
            Work::Sustained => self.sustained(engine, cell),
            Work::Churn => self.churn(engine, cell),
            Work::Alarms => self.alarms(engine, cell),
        }
    }
}

/// Removes a file, or a folder with all in it, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

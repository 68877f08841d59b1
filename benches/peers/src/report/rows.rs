//! Results by cell and engine: medians, spreads, ratios.
//!
//! Invariants:
//!   * Nothing is rounded before it is said.

use crate::cells::Cell;
use crate::engine::Role;
use crate::engines;
use crate::measure::median;
use crate::results::{Figures, Measured};

/// The rounds of one engine in one cell.
#[derive(Debug)]
pub struct Row<'r> {
    pub engine: &'r str,
    pub rounds: Vec<&'r Measured>,
}

impl Row<'_> {
    fn middle(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().filter_map(|round| of(&round.figures)).collect();
        (!values.is_empty()).then(|| median(values))
    }

    /// The median of the rounds.
    pub fn value(&self) -> f64 {
        self.middle(|figures| Some(figures.value)).unwrap_or_default()
    }

    /// The smallest and the largest round.
    pub fn spread(&self) -> (f64, f64) {
        let values = self.rounds.iter().map(|round| round.figures.value);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
            (value.min(least), value.max(most))
        })
    }

    pub fn control(&self) -> Option<f64> {
        self.middle(|figures| Some(figures.control.as_ref()?.value))
    }

    /// What it is of its control, round by round, the median.
    pub fn ratio(&self) -> Option<f64> {
        self.middle(|figures| Some(figures.value / figures.control.as_ref()?.value))
    }

    /// A figure beside, the median.
    pub fn beside(&self, name: &str) -> Option<f64> {
        self.middle(|figures| Some(figures.beside.iter().find(|named| named.name == name)?.value))
    }

    /// How it is called in tables.
    pub fn title(&self) -> &str {
        engines::named(self.engine).map_or(self.engine, |engine| engine.facts().title)
    }

    pub fn is_own(&self) -> bool {
        self.engine.starts_with("dostore")
    }

    pub fn is_limit(&self) -> bool {
        engines::named(self.engine).is_some_and(|engine| engine.facts().role == Role::Limit)
    }

    pub fn is_peer(&self) -> bool {
        !self.is_own() && !self.is_limit()
    }
}

/// One cell with the rows of all engines, the best first.
#[derive(Debug)]
pub struct Table<'r> {
    pub cell: Cell,
    pub rows: Vec<Row<'r>>,
}

impl<'r> Table<'r> {
    /// Of all cells, in the order of the matrix; cells outside it come last.
    pub fn all(measured: &'r [Measured]) -> Vec<Self> {
        let mut tables: Vec<Self> = Vec::new();
        for one in measured {
            let Some(cell) = Cell::named(&one.cell) else { continue };
            let place = tables.iter().position(|table| table.cell == cell);
            let place = place.unwrap_or_else(|| {
                tables.push(Self { cell, rows: Vec::new() });
                tables.len() - 1
            });
            tables[place].add(one);
        }
        let order = crate::cells::matrix(false);
        tables.sort_by_key(|table| {
            order.iter().position(|cell| *cell == table.cell).unwrap_or(usize::MAX)
        });
        tables.iter_mut().for_each(Self::sort);
        tables
    }

    fn add(&mut self, one: &'r Measured) {
        match self.rows.iter_mut().find(|row| row.engine == one.engine) {
            Some(row) => row.rounds.push(one),
            None => self.rows.push(Row { engine: &one.engine, rounds: vec![one] }),
        }
    }

    fn sort(&mut self) {
        let is_more_better = self.cell.is_more_better();
        self.rows.sort_by(|one, other| {
            let order = one.value().total_cmp(&other.value());
            if is_more_better { order.reverse() } else { order }
        });
    }

    pub fn row(&self, engine: &str) -> Option<&Row<'r>> {
        self.rows.iter().find(|row| row.engine == engine)
    }

    pub fn best_peer(&self) -> Option<&Row<'r>> {
        self.rows.iter().find(|row| row.is_peer())
    }

    pub fn best_own(&self) -> Option<&Row<'r>> {
        self.rows.iter().find(|row| row.is_own())
    }

    /// How many times better the first is than the second.
    pub fn times_better(&self, one: f64, other: f64) -> f64 {
        if self.cell.is_more_better() { one / other } else { other / one }
    }
}

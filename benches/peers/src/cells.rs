//! What is measured: a cell is one workload at one size.
//!
//! Invariants:
//!   * A cell's name says all of it, and names do not change: results are found by them.
//!   * Cells of one size follow each other, those that change stores behind those that do not.

use crate::workload::{KEYS, Layout};

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Objects made from nothing, as quickly as the engine can, all of it durable at the end.
    Create,
    /// Bytes on disk and in memory for each object that nobody uses.
    Idle,
    /// Opening a store that was closed, with the page cache empty.
    Open,
    /// Opening one object and reading all of its keys, with every file in the page cache.
    Warm,
    /// The same with the page cache emptied.
    Cold,
    /// Durable commits of two keys of random objects, so many waiting at the same time; every file
    /// was read before.
    Commits(usize),
    /// The same with the page cache emptied before.
    CommitsCold(usize),
    /// The same for a long time, with all the work in the background that it causes.
    Sustained,
    /// Opening a store whose process was killed while it committed.
    OpenKilled,
    /// Objects made and deleted again, each of both a durable commit, beside those that stay.
    Churn,
    /// Alarms set, handed out in the order of their times, and cleared.
    Alarms,
    /// Reading every key in order, all in the page cache.
    Scan,
}

/// One workload at one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub work: Work,
    /// Objects; in one large object, eights of keys.
    pub objects: u64,
    pub layout: Layout,
}

/// What is in flight in `Sustained`, `Churn` and `Alarms`, and while a process is killed.
pub const BUSY_IN_FLIGHT: usize = 1_000;

impl Cell {
    /// Its name in results and on the command line.
    pub fn name(&self) -> String {
        let large = if self.layout == Layout::One { "large-" } else { "" };
        let objects = self.objects;
        let name = match self.work {
            Work::Create => format!("create-{objects}"),
            Work::Idle => format!("idle-{objects}"),
            Work::Open => format!("open-{objects}"),
            Work::Warm => format!("warm-{objects}"),
            Work::Cold => format!("cold-{objects}"),
            Work::Commits(in_flight) => format!("commits-{objects}-{in_flight}"),
            Work::CommitsCold(in_flight) => format!("commits-cold-{objects}-{in_flight}"),
            Work::Sustained => format!("sustained-{objects}"),
            Work::OpenKilled => format!("open-killed-{objects}"),
            Work::Churn => format!("churn-{objects}"),
            Work::Alarms => format!("alarms-{objects}"),
            Work::Scan => format!("scan-{objects}"),
        };
        format!("{large}{name}")
    }

    /// What it measures, for people.
    pub fn title(&self) -> String {
        let objects = grouped(self.objects);
        if self.layout == Layout::One {
            return self.title_of_large();
        }
        match self.work {
            Work::Create => format!("Making {objects} objects"),
            Work::Idle => format!("{objects} idle objects"),
            Work::Open => format!("Opening a store of {objects} objects"),
            Work::Warm => format!("Opening one of {objects} objects, all in the page cache"),
            Work::Cold => format!("Opening one of {objects} objects, from the device"),
            Work::Commits(1) => format!("One durable commit at a time, {objects} objects"),
            Work::Commits(in_flight) => {
                format!(
                    "Durable commits, {} in flight, {objects} objects",
                    grouped(in_flight as u64)
                )
            }
            Work::CommitsCold(in_flight) => {
                let in_flight = grouped(in_flight as u64);
                format!("Durable commits, {in_flight} in flight, {objects} objects on the device")
            }
            Work::Sustained => format!("Sustained durable commits, {objects} objects"),
            Work::OpenKilled => format!("Opening a store of {objects} objects after a kill"),
            Work::Churn => format!("Objects made and deleted beside {objects} others"),
            Work::Alarms => format!("Alarms of {objects} objects, set by durable commits"),
            Work::Scan => format!("Reading {objects} objects in order"),
        }
    }

    fn title_of_large(&self) -> String {
        let object = format!("one object of {} keys", grouped(self.objects * KEYS as u64));
        match self.work {
            Work::Create => format!("Making {object}"),
            Work::Warm => format!("Reading eight neighbours in {object}, all in the page cache"),
            Work::Cold => format!("Reading eight neighbours in {object}, from the device"),
            Work::Scan => format!("Reading {object} in order, all in the page cache"),
            Work::Commits(in_flight) => {
                format!("Durable commits, {} in flight, {object}", grouped(in_flight as u64))
            }
            _ => format!("{}, {object}", self.name()),
        }
    }

    /// Whether more is better.
    pub fn is_more_better(&self) -> bool {
        matches!(
            self.work,
            Work::Create
                | Work::Commits(_)
                | Work::CommitsCold(_)
                | Work::Sustained
                | Work::Churn
                | Work::Alarms
                | Work::Scan
        )
    }

    /// Whether commits wait at the same time, though the cell is about something else.
    pub fn is_busy(&self) -> bool {
        matches!(self.work, Work::Sustained | Work::Churn | Work::Alarms)
    }

    /// Commits that wait at the same time, where that is what the cell is about.
    pub fn in_flight(&self) -> Option<usize> {
        match self.work {
            Work::Commits(in_flight) | Work::CommitsCold(in_flight) => Some(in_flight),
            _ => None,
        }
    }

    /// Whether it needs a store full of objects.
    pub fn needs_store(&self) -> bool {
        self.work != Work::Create
    }

    /// Whether it leaves a store other than it was: the next cell begins with a new one.
    pub fn changes_store(&self) -> bool {
        self.in_flight().is_some() || self.work == Work::OpenKilled || self.is_busy()
    }

    /// Rounds, of those that were asked for: what differs little or takes long takes fewer.
    pub fn rounds(&self, asked: usize) -> usize {
        match self.work {
            Work::Idle | Work::Sustained => asked.min(2),
            Work::OpenKilled => asked.min(3),
            Work::Create if self.objects >= 1_000_000 => asked.min(3),
            _ => asked,
        }
    }

    /// The cell of this name.
    pub fn named(name: &str) -> Option<Self> {
        let (name, layout) = match name.strip_prefix("large-") {
            Some(name) => (name, Layout::One),
            None => (name, Layout::Many),
        };
        let (work, numbers) = name.split_at(name.find(|letter: char| letter.is_ascii_digit())?);
        let (objects, in_flight) = match numbers.split_once('-') {
            Some((objects, in_flight)) => (objects, Some(in_flight.parse().ok()?)),
            None => (numbers, None),
        };
        let work = match (work, in_flight) {
            ("create-", None) => Work::Create,
            ("idle-", None) => Work::Idle,
            ("open-", None) => Work::Open,
            ("warm-", None) => Work::Warm,
            ("cold-", None) => Work::Cold,
            ("commits-", Some(in_flight)) => Work::Commits(in_flight),
            ("commits-cold-", Some(in_flight)) => Work::CommitsCold(in_flight),
            ("sustained-", None) => Work::Sustained,
            ("open-killed-", None) => Work::OpenKilled,
            ("churn-", None) => Work::Churn,
            ("alarms-", None) => Work::Alarms,
            ("scan-", None) => Work::Scan,
            _ => return None,
        };
        Some(Self { work, objects: objects.parse().ok()?, layout })
    }
}

/// A number with commas.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Every cell of a run. At most sizes only what may depend on the size.
pub fn matrix(is_quick: bool) -> Vec<Cell> {
    let cells = |layout: Layout, objects: u64, works: &[Work]| -> Vec<Cell> {
        works.iter().map(|work| Cell { work: *work, objects, layout }).collect()
    };
    let of = |objects, works: &[Work]| cells(Layout::Many, objects, works);
    let large = [Work::Create, Work::Warm, Work::Cold, Work::Scan, Work::Commits(1_000)];
    let [create, idle, open] = [Work::Create, Work::Idle, Work::Open];
    let read = [Work::Warm, Work::Cold];
    let some = [create, idle, open, read[0], read[1], Work::Commits(10_000)];
    let mut all = vec![create, idle, open, read[0], read[1]];
    all.extend([1, 64, 1_000, 10_000].map(Work::Commits));
    if is_quick {
        all.extend([Work::Sustained, Work::OpenKilled, Work::Churn, Work::Alarms]);
        return [of(2_000, &all), cells(Layout::One, 2_000, &large)].concat();
    }
    all.extend([Work::Commits(100_000), Work::Sustained, Work::OpenKilled, Work::Churn]);
    all.push(Work::Alarms);
    [
        of(10_000, &some),
        of(100_000, &all),
        cells(Layout::One, 125_000, &large),
        of(1_000_000, &some),
        // So many are not all in the page cache.
        of(
            ALONE_OBJECTS,
            &[create, idle, open, Work::Cold, Work::Commits(10_000), Work::CommitsCold(10_000)],
        ),
    ]
    .concat()
}

/// A size at which this crate is measured without its peers.
pub const ALONE_OBJECTS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_found_by_its_name() {
        for cell in [matrix(true), matrix(false)].concat() {
            assert_eq!(Cell::named(&cell.name()), Some(cell));
        }
        for name in ["", "commits-100", "create-100-1", "nothing-5", "warm-", "warm-x"] {
            assert_eq!(Cell::named(name), None, "{name}");
        }
    }

    #[test]
    fn numbers_have_commas() {
        let said = [0, 999, 1_000, 123_456, 10_000_000].map(grouped);
        assert_eq!(said, ["0", "999", "1,000", "123,456", "10,000,000"]);
    }
}

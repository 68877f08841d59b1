//! What the benches of the crate printed: lines of `figures`, and loops of criterion.
//!
//! Invariants:
//!   * A line that is neither is left out: what a program says beside figures does no harm.

use crate::measure::median;

/// A figure as it was printed, once or in several runs.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: String,
    value: f64,
    /// The raw control beside it.
    raw: Option<f64>,
}

/// All that was printed.
#[derive(Clone, Debug, Default)]
pub struct Printed {
    lines: Vec<Line>,
    /// What is said of it: lines that begin with a number sign and a space.
    pub about: Vec<String>,
}

impl Printed {
    pub fn of(text: &str) -> Self {
        let mut printed = Self::default();
        let mut before = "";
        for line in text.lines() {
            printed.lines.extend(figure(line).or_else(|| criterion(before, line)));
            let about = line.strip_prefix("# ").filter(|about| !about.contains("rate/s"));
            printed.about.extend(about.map(str::to_owned));
            before = line;
        }
        printed
    }

    fn middle(&self, name: &str, of: impl Fn(&Line) -> Option<f64>) -> Option<f64> {
        let lines = self.lines.iter().filter(|line| line.name == name);
        let values: Vec<f64> = lines.filter_map(of).collect();
        (!values.is_empty()).then(|| median(values))
    }

    /// The figure of this name; of several runs the median.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.middle(name, |line| Some(line.value))
    }

    /// The raw control of the figure of this name.
    pub fn raw(&self, name: &str) -> Option<f64> {
        self.middle(name, |line| line.raw)
    }

    /// What it is of its raw control, run by run.
    pub fn ratio(&self, name: &str) -> Option<f64> {
        self.middle(name, |line| Some(line.value / line.raw?))
    }
}

/// A line of `figures`: a name, a number, its unit, the goal, the control.
fn figure(line: &str) -> Option<Line> {
    let (own, beside) = line.split_once(" goal ")?;
    let words: Vec<&str> = own.split(' ').collect();
    // Units hold no numbers, names may.
    let place = words.iter().rposition(|word| word.parse::<f64>().is_ok())?;
    let name = words[..place].join(" ").trim_end().to_owned();
    let (_, raw) = beside.rsplit_once(" raw ")?;
    let raw = raw.split_whitespace().next().and_then(|word| word.parse().ok());
    Some(Line { name, value: words[place].parse().ok()?, raw })
}

/// A loop of criterion, in nanoseconds: its name stands before the time, or on a line of its own.
fn criterion(before: &str, line: &str) -> Option<Line> {
    let (name, times) = line.split_once("time:")?;
    let times = times.trim().strip_prefix('[')?.strip_suffix(']')?;
    let words: Vec<&str> = times.split_whitespace().collect();
    // The least, the middle and the most, each with its unit.
    let nanos = match *words.get(3)? {
        "ps" => 1e-3,
        "ns" => 1.0,
        "us" | "\u{b5}s" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    let name = if name.trim().is_empty() { before.trim() } else { name.trim() };
    let value = words.get(2)?.parse::<f64>().ok()? * nanos;
    Some(Line { name: name.to_owned(), value, raw: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_figures_are_read_with_their_controls() {
        let text = "\
# Measured on one day.
# uniform: second rate/s behind_ms
alone: commit p50            102.0 us    goal <= 1.3 x raw raw      100.0 ratio   1.02 met
alone: commit p50            104.0 us    goal <= 1.3 x raw raw      100.0 ratio   1.04 met
past: warm read, tenth 3 of the commits, median  36.0 us  goal -  raw  - ratio      - 
1 99998 0 12 40";
        let printed = Printed::of(text);
        assert_eq!(printed.about, ["Measured on one day."]);
        assert_eq!(printed.value("alone: commit p50"), Some(104.0));
        assert_eq!(printed.raw("alone: commit p50"), Some(100.0));
        assert_eq!(printed.ratio("alone: commit p50"), Some(1.04));
        let past = "past: warm read, tenth 3 of the commits, median";
        assert_eq!((printed.value(past), printed.ratio(past)), (Some(36.0), None));
        assert_eq!(printed.lines.len(), 3);
    }

    #[test]
    fn loops_of_criterion_are_read_in_nanoseconds() {
        let text = "\
list of eight           time:   [1.6612 \u{b5}s 1.6700 \u{b5}s 1.6811 \u{b5}s]
                        change: [-1.0% +0.1% +1.2%] (p = 0.90 > 0.05)
get of an actor, outside a turn
                        time:   [53.8 ns 54.1 ns 54.5 ns]";
        let printed = Printed::of(text);
        assert_eq!(printed.value("list of eight"), Some(1670.0));
        assert_eq!(printed.value("get of an actor, outside a turn"), Some(54.1));
        assert_eq!(printed.lines.len(), 2);
    }
}

//! Tables for people: aligned columns, which fit a terminal where one is narrow.
//!
//! Invariants:
//!   * What can be pasted into another call is never cut: a name, an id, a key, a bookmark.
//!   * Without a terminal nothing is left out and nothing is cut.
//!   * Rows that come in batches have the same columns in each.

use super::figures::{BOLD, PLAIN};
use comfy_table::{Cell, CellAlignment, Table as Grid, presets};

/// Characters between two columns.
const GAP: usize = 2;
/// To how many characters a cell is cut at most.
const CUT_MIN: usize = 12;
/// What stands at the end of a cell that is cut.
const CUT: char = '\u{2026}';

/// What a table is printed on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paper {
    /// Whether colours may be used.
    pub is_coloured: bool,
    /// Characters of a line; none where lines may be as long as they are.
    pub width: Option<usize>,
}

/// Names of columns, each behind its marks: `-` aligns it to the right, `~` lets its cells be cut,
/// `?` lets it be left out. What is left out first stands last.
pub type Columns = &'static [&'static str];

/// A table whose rows come in batches.
#[derive(Debug)]
pub struct Table {
    columns: Columns,
    /// Columns that are printed, once that is known.
    kept: Option<Vec<usize>>,
}

/// A whole table.
pub fn table(columns: Columns, rows: &[Vec<String>], paper: Paper) -> String {
    let mut table = Table::new(columns);
    let text = table.batch(rows, paper);
    match table.left_out() {
        Some(what) => format!("{text}\n{what}"),
        None => text,
    }
}

fn has_mark(column: &str, mark: char) -> bool {
    column.chars().take_while(|it| "-~?".contains(*it)).any(|it| it == mark)
}

fn name(column: &str) -> &str {
    column.trim_start_matches(['-', '~', '?'])
}

impl Table {
    /// A table without rows yet.
    pub fn new(columns: Columns) -> Self {
        Self { columns, kept: None }
    }

    /// The next rows; the first ones stand below the names of the columns.
    pub fn batch(&mut self, rows: &[Vec<String>], paper: Paper) -> String {
        let has_head = self.kept.is_none();
        let (kept, widths) = self.fit(rows, paper.width);
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING);
        if has_head {
            grid.set_header(kept.iter().map(|at| Cell::new(name(self.columns[*at]))));
        }
        for row in rows {
            let cell = |at: &usize| cut(row.get(*at).map_or("", String::as_str), widths[*at]);
            grid.add_row(kept.iter().map(cell));
        }
        for (index, at) in kept.iter().enumerate() {
            if let Some(column) = grid.column_mut(index) {
                let is_right = has_mark(self.columns[*at], '-');
                let side = if is_right { CellAlignment::Right } else { CellAlignment::Left };
                column.set_cell_alignment(side);
                column.set_padding((0, 2));
            }
        }
        self.kept = Some(kept);
        let text: Vec<_> = grid.lines().map(|line| line.trim_end().to_owned()).collect();
        let text = text.join("\n");
        if !has_head || !paper.is_coloured {
            return text;
        }
        let (head, rest) = text.split_at(text.find('\n').unwrap_or(text.len()));
        format!("{BOLD}{head}{PLAIN}{rest}")
    }

    /// Which columns there was no room for, in words.
    pub fn left_out(&self) -> Option<String> {
        let kept = self.kept.as_ref()?;
        let is_named =
            |(at, column): &(usize, &&str)| !kept.contains(at) && !name(column).is_empty();
        let names = self.columns.iter().enumerate().filter(is_named).map(|(_, it)| name(it));
        let names: Vec<_> = names.collect();
        (!names.is_empty()).then(|| format!("no room for {}", names.join(", ")))
    }

    /// The columns that are printed, and how wide each may be.
    fn fit(&self, rows: &[Vec<String>], most: Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let count = |text: &str| text.chars().count();
        let widest =
            |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|it| count(it)).max();
        let width = |(at, column): (usize, &&str)| count(name(column)).max(widest(at).unwrap_or(0));
        let widths: Vec<_> = self.columns.iter().enumerate().map(width).collect();
        let all = || (0..self.columns.len()).collect::<Vec<_>>();
        let mut kept = self.kept.clone().unwrap_or_else(all);
        let Some(most) = most else { return (kept, widths) };
        loop {
            let cut = self.narrowed(&kept, &widths, most);
            let is_fitting = total(&kept, &cut) <= most;
            let spare = kept.iter().rposition(|at| has_mark(self.columns[*at], '?'));
            match spare.filter(|_| !is_fitting && self.kept.is_none()) {
                None => return (kept, cut),
                Some(spare) => {
                    kept.remove(spare);
                }
            }
        }
    }

    /// The widths after cells were cut, the widest first, until all fit or no more can be cut.
    fn narrowed(&self, kept: &[usize], widths: &[usize], most: usize) -> Vec<usize> {
        let mut widths = widths.to_vec();
        while total(kept, &widths) > most {
            let may_be_cut =
                |at: &&usize| has_mark(self.columns[**at], '~') && widths[**at] > CUT_MIN;
            let Some(widest) = kept.iter().filter(may_be_cut).max_by_key(|at| widths[**at]) else {
                break;
            };
            widths[*widest] -= 1;
        }
        widths
    }
}

fn total(kept: &[usize], widths: &[usize]) -> usize {
    kept.iter().map(|at| widths[*at] + GAP).sum::<usize>().saturating_sub(GAP)
}

/// A cell that is not longer than so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain([CUT]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = &["NAME", "-N", "?-SIZE", "~VALUE", "?AGO"];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
        vec![
            row(["a", "1", "10 B", "a value that is longer than all the others", "2 d ago"]),
            row(["bcd", "10", "9 B", "short", "1 d ago"]),
        ]
    }

    fn on(width: usize) -> String {
        table(COLUMNS, &rows(), Paper { is_coloured: false, width: Some(width) })
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcd".to_owned(), "10".to_owned()]];
        let shown = table(&["NAME", "-N"], &rows, Paper::default());
        assert_eq!(shown, "NAME   N\na      1\nbcd   10");
        assert_eq!(table(&["NAME"], &[], Paper::default()), "NAME");
    }

    #[test]
    fn nothing_is_left_out_where_it_fits_or_where_no_terminal_is() {
        let whole = table(COLUMNS, &rows(), Paper::default());
        assert_eq!(whole.lines().count(), 3, "{whole}");
        let most = whole.lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!(on(most), whole);
        assert_ne!(on(most - 1), whole);
    }

    #[test]
    fn a_narrow_table_cuts_values_first_and_leaves_out_the_last_columns_next() {
        let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
        for width in 22..80 {
            let shown = on(width);
            assert!(longest(&shown) <= width, "{width}: {shown}");
            // What can be pasted is whole.
            assert!(shown.contains("\nbcd   10"), "{width}: {shown}");
        }
        assert!(on(60).contains("AGO") && on(60).contains(CUT), "{}", on(60));
        assert!(on(38).contains("AGO") && !on(38).contains("no room"), "{}", on(38));
        assert!(on(36).ends_with("\nno room for AGO") && on(36).contains("SIZE"), "{}", on(36));
        assert!(on(25).ends_with("\nno room for SIZE, AGO"), "{}", on(25));
        // Where nothing more can be left out, lines are as long as they are.
        assert!(on(5).contains("bcd   10  short"), "{}", on(5));
    }

    #[test]
    fn batches_have_the_columns_of_the_first() {
        let mut table = Table::new(COLUMNS);
        let paper = Paper { is_coloured: false, width: Some(25) };
        let first = table.batch(&rows(), paper);
        let short = [["x", "1", "1 B", "v", "now"].map(str::to_owned).to_vec()];
        let next = table.batch(&short, paper);
        assert!(first.starts_with("NAME") && !first.contains("AGO"), "{first}");
        assert_eq!(next, "x  1  v");
        assert_eq!(table.left_out().unwrap(), "no room for SIZE, AGO");
    }
}

//! Down from a key to the last page at or below it, over several runs.
//!
//! Invariants:
//!   * A page is found only if no run lost anything between it and the key, and no newer run lost
//!     what it had to say about the page itself.

use crate::error::{Error, Result};
use crate::format::entry::{HEAD_KEY_BYTES, PageEntry};
use crate::format::run::Hole;
use crate::ids::Life;
use crate::run::cursor::Position;
use crate::run::{Run, RunCursor};

/// Whether the key that a search begins at counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It does.
    To,
    /// Only what is below it does.
    Below,
}

/// A search for the last page at or below a key.
#[derive(Debug)]
pub(super) struct Down<'a> {
    /// The newest run first.
    cursors: Vec<RunCursor<'a>>,
    /// What was lost near the target.
    lost: Vec<Lost>,
    target: &'a [u8],
    /// What the keys of all pages of the life begin with.
    prefix: &'a [u8],
}

#[derive(Debug)]
struct Lost {
    /// Which of the cursors' runs lost it, counted from the newest.
    age: usize,
    hole: Hole,
    /// What a question gets that it hides.
    hidden: Error,
}

/// An entry that may be the page.
#[derive(Clone, Copy)]
struct Candidate<'c> {
    age: usize,
    key: &'c [u8],
    value: &'c [u8],
}

impl<'a> Down<'a> {
    /// Begins at `target`, a page's key, in runs of which the newest come first.
    pub(super) fn new(
        runs: impl Iterator<Item = &'a Run>,
        target: &'a [u8],
        reach: Reach,
    ) -> Result<Self> {
        let prefix = &target[..HEAD_KEY_BYTES + size_of::<Life>()];
        let mut search = Self { cursors: Vec::new(), lost: Vec::new(), target, prefix };
        for (age, run) in runs.enumerate() {
            let mut cursor = run.cursor();
            cursor.seek_floor(target)?;
            search.cursors.push(cursor);
            for hole in run.holes() {
                search.note(age, hole, || run.hidden());
            }
        }
        search.settle()?;
        if reach == Reach::Below {
            search.leave(target)?;
            search.lost.retain(|lost| lost.hole.first != target);
        }
        Ok(search)
    }

    /// Remembers what was lost, if it was between the life's first page and the target.
    fn note(&mut self, age: usize, hole: &Hole, hidden: impl FnOnce() -> Error) {
        if hole.first.as_slice() <= self.target && hole.last.as_slice() >= self.prefix {
            self.lost.push(Lost { age, hole: hole.clone(), hidden: hidden() });
        }
    }

    /// Moves cursors off damaged blocks, and notes what those held.
    fn settle(&mut self) -> Result<()> {
        for age in 0..self.cursors.len() {
            while let Position::Damaged(first, last) = self.cursors[age].position() {
                let hole = Hole { first: first.to_vec(), last: last.to_vec() };
                let hidden = self.cursors[age].hidden();
                self.cursors[age].previous()?;
                self.note(age, &hole, || hidden);
            }
        }
        Ok(())
    }

    /// Moves cursors that are at `key` below it.
    fn leave(&mut self, key: &[u8]) -> Result<()> {
        for cursor in &mut self.cursors {
            if matches!(cursor.position(), Position::Entry(at, _) if at == key) {
                cursor.previous()?;
            }
        }
        self.settle()
    }

    /// The page, with its fence.
    pub(super) fn find(mut self) -> Result<Option<(Vec<u8>, PageEntry)>> {
        loop {
            let Some(highest) = self.highest() else {
                return self.lost.first().map_or(Ok(None), |lost| Err(lost.hidden.clone()));
            };
            if let Some(lost) = self.lost.iter().find(|lost| lost.hides(&highest, self.target)) {
                return Err(lost.hidden.clone());
            }
            let page = PageEntry::decode_value(highest.value);
            let page = page.map_err(|fault| self.cursors[highest.age].run().bad_entry(fault))?;
            if let Some(page) = page {
                return Ok(Some((highest.key[self.prefix.len()..].to_vec(), page)));
            }
            let key = highest.key.to_vec();
            self.leave(&key)?;
        }
    }

    /// The last entry of the life that a cursor is at; of several the newest.
    fn highest(&self) -> Option<Candidate<'_>> {
        let mut highest: Option<Candidate<'_>> = None;
        for (age, cursor) in self.cursors.iter().enumerate() {
            let Position::Entry(key, value) = cursor.position() else { continue };
            if key.starts_with(self.prefix) && highest.is_none_or(|best| key > best.key) {
                highest = Some(Candidate { age, key, value });
            }
        }
        highest
    }
}

impl Lost {
    /// Whether what was lost may have been a better answer than the candidate.
    fn hides(&self, found: &Candidate<'_>, target: &[u8]) -> bool {
        let above = found.key < target && found.key < self.hole.last.as_slice();
        above || (self.age < found.age && self.hole.covers(found.key))
    }
}

//! Walking over a run: its entries, and the ranges in which entries were lost.
//!
//! A [`RunCursor`] goes either way over blocks as they are; a [`RunIter`] goes up and puts holes in
//! their places among the entries.
//!
//! Invariants:
//!   * A damaged block is one position between its neighbours: a walk passes it, never silently.
//!   * Keys ascend, and a seek comes to where the index says, or it fails: so every walk ends.

use super::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::block::{Block, BlockCursor};
use crate::format::run::Hole;

/// Where a cursor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position<'c> {
    /// Before the first or behind the last entry, or not yet placed.
    Outside,
    /// At an entry: key and value.
    Entry(&'c [u8], &'c [u8]),
    /// At a damaged block, whose entries had keys from the first to the last of these.
    Damaged(&'c [u8], &'c [u8]),
}

/// A place in a run, from which to go on in either direction.
#[derive(Debug)]
pub struct RunCursor<'a> {
    run: &'a Run,
    block: usize,
    state: State<'a>,
}

#[derive(Debug)]
enum State<'a> {
    /// At no entry. Next: any seek.
    Outside,
    /// At an entry of `block`. Next: `next` and `previous` move by one entry.
    Inside(BlockCursor<'a>),
    /// `block` is damaged, and how. Next: `next` and `previous` go to the block beside it.
    Damaged(Error),
}

impl<'a> RunCursor<'a> {
    pub(super) fn new(run: &'a Run) -> Self {
        Self { run, block: 0, state: State::Outside }
    }

    /// Where the cursor is.
    pub fn position(&self) -> Position<'_> {
        match &self.state {
            State::Outside => Position::Outside,
            State::Inside(cursor) => Position::Entry(cursor.key(), cursor.value()),
            State::Damaged(_) => {
                let index = &self.run.index;
                Position::Damaged(index.first_key(self.block), index.last_key(self.block))
            }
        }
    }

    /// What a question gets that the damage at the cursor hides.
    #[cold]
    pub(crate) fn hidden(&self) -> Error {
        match &self.state {
            State::Damaged(error) if error.is_unreadable() => error.clone(),
            State::Damaged(_) => self.run.hidden_at(self.run.index.block_range(self.block).start),
            _ => self.run.hidden(),
        }
    }

    /// The run that the cursor walks over.
    pub fn run(&self) -> &'a Run {
        self.run
    }

    /// Goes to the first entry at or above `key`.
    pub fn seek_ceiling(&mut self, key: &[u8]) -> Result<()> {
        let block = self.run.index.block_for(key).unwrap_or(0);
        if self.run.index.blocks() == 0 || self.run.index.last_key(block) < key {
            return self.enter_from_below(block + 1);
        }
        self.enter(block)?;
        self.within(|cursor| found(cursor.ceiling(key)?))
    }

    /// Goes to the last entry at or below `key`.
    pub fn seek_floor(&mut self, key: &[u8]) -> Result<()> {
        let Some(block) = self.run.index.block_for(key) else {
            self.state = State::Outside;
            return Ok(());
        };
        self.enter(block)?;
        self.within(|cursor| found(cursor.floor(key)?))
    }

    /// Goes to the last entry up to `to` whose key `holds`, as it does for all up to `from` and for
    /// all before one for which it does. Reads the one block that has it: which that is, the index
    /// says.
    pub fn seek_last(
        &mut self,
        (from, to): (&[u8], &[u8]),
        holds: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let index = &self.run.index;
        let start = index.block_for(from).unwrap_or(0);
        let end = index.block_for(to).map_or(0, |last| last + 1);
        let holds = |key: &[u8]| key <= to && holds(key);
        let Some(block) = index.last_of(start..end.max(start), holds) else {
            self.state = State::Outside;
            return Ok(());
        };
        self.enter(block)?;
        self.within(|cursor| cursor.last_of(holds))
    }

    /// Goes to the next entry.
    #[expect(clippy::should_implement_trait, reason = "it lends, and fails")]
    pub fn next(&mut self) -> Result<()> {
        let moved = match &mut self.state {
            State::Outside => return Ok(()),
            State::Inside(cursor) => cursor.next(),
            State::Damaged(_) => Ok(false),
        };
        if moved.map_err(|fault| self.run.malformed(self.block, fault))? {
            return Ok(());
        }
        self.check_edge(self.run.index.last_key(self.block))?;
        self.enter_from_below(self.block + 1)
    }

    /// Goes to the entry before.
    pub fn previous(&mut self) -> Result<()> {
        let moved = match &mut self.state {
            State::Outside => return Ok(()),
            State::Inside(cursor) => cursor.previous(),
            State::Damaged(_) => Ok(false),
        };
        if moved.map_err(|fault| self.run.malformed(self.block, fault))? {
            return Ok(());
        }
        let Some(block) = self.block.checked_sub(1) else {
            self.state = State::Outside;
            return Ok(());
        };
        self.enter(block)?;
        self.within(BlockCursor::last)
    }

    fn enter_from_below(&mut self, block: usize) -> Result<()> {
        if block >= self.run.index.blocks() {
            self.state = State::Outside;
            return Ok(());
        }
        self.enter(block)?;
        self.within(BlockCursor::first)?;
        self.check_edge(self.run.index.first_key(block))
    }

    /// That the entry at the edge of a block is the one that the index names.
    fn check_edge(&self, named: &[u8]) -> Result<()> {
        match &self.state {
            State::Inside(cursor) if cursor.key() != named => {
                Err(self.run.malformed(self.block, OTHER_KEYS))
            }
            _ => Ok(()),
        }
    }

    /// Makes `block` the current one, to be placed in.
    fn enter(&mut self, block: usize) -> Result<()> {
        self.block = block;
        self.state = match self.run.block(block) {
            Ok(bytes) => {
                let block =
                    Block::parse(bytes).map_err(|fault| self.run.malformed(block, fault))?;
                State::Inside(BlockCursor::new(block))
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => State::Damaged(error),
            Err(error) => return Err(error),
        };
        Ok(())
    }

    fn within(
        &mut self,
        place: impl FnOnce(&mut BlockCursor<'a>) -> std::result::Result<(), Malformed>,
    ) -> Result<()> {
        let State::Inside(cursor) = &mut self.state else { return Ok(()) };
        place(cursor).map_err(|fault| self.run.malformed(self.block, fault))
    }
}

const OTHER_KEYS: Malformed = Malformed("a block of other keys than its index says");

fn found(is_there: bool) -> std::result::Result<(), Malformed> {
    if is_there { Ok(()) } else { Err(OTHER_KEYS) }
}

/// What a walk over a run meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunItem {
    /// An entry.
    Entry {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// A range of keys, both ends in it, in which entries were lost: now, in a damaged block, or
    /// before the run was written. Entries that follow may lie in the range.
    Hole {
        /// The first key.
        first: Vec<u8>,
        /// The last key.
        last: Vec<u8>,
    },
}

/// An item, borrowed from the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemRef<'c> {
    Entry { key: &'c [u8], value: &'c [u8] },
    Hole { first: &'c [u8], last: &'c [u8] },
}

impl<'c> ItemRef<'c> {
    /// What the item orders by; at equal keys a hole comes before an entry.
    pub(crate) fn order(self) -> (&'c [u8], bool) {
        match self {
            Self::Entry { key, .. } => (key, true),
            Self::Hole { first, .. } => (first, false),
        }
    }
}

/// A walk over a run in the order of keys; a hole comes where it begins.
#[derive(Debug)]
pub struct RunIter<'a> {
    cursor: RunCursor<'a>,
    holes: &'a [Hole],
    /// Where the cursor is to be placed before it is looked at.
    start: Option<Vec<u8>>,
}

impl<'a> RunIter<'a> {
    pub(super) fn new(run: &'a Run, from: &[u8]) -> Self {
        let before = run.holes.partition_point(|hole| hole.last.as_slice() < from);
        let holes = &run.holes[before..];
        Self { cursor: RunCursor::new(run), holes, start: Some(from.to_vec()) }
    }

    /// Places the walk at its first item, if that has not been done.
    pub(crate) fn begin(&mut self) -> Result<()> {
        match self.start.take() {
            Some(start) => self.cursor.seek_ceiling(&start),
            None => Ok(()),
        }
    }

    pub(crate) fn run(&self) -> &'a Run {
        self.cursor.run
    }

    /// Nothing more comes: what is next could not be read.
    fn end(&mut self) {
        self.cursor.state = State::Outside;
        self.holes = &[];
    }

    /// The item that the walk is at.
    pub(crate) fn current(&self) -> Option<ItemRef<'_>> {
        let own = match self.cursor.position() {
            Position::Outside => None,
            Position::Entry(key, value) => Some(ItemRef::Entry { key, value }),
            Position::Damaged(first, last) => Some(ItemRef::Hole { first, last }),
        };
        let Some(hole) = self.holes.first() else { return own };
        match own {
            Some(own) if own.order().0 < hole.first.as_slice() => Some(own),
            _ => Some(ItemRef::Hole { first: &hole.first, last: &hole.last }),
        }
    }

    /// What a question gets that the hole hides which the walk is at.
    #[cold]
    pub(crate) fn hidden(&self) -> Error {
        match (self.holes.first(), self.cursor.position()) {
            (Some(hole), Position::Damaged(first, _)) if hole.first.as_slice() > first => {
                self.cursor.hidden()
            }
            (None, _) => self.cursor.hidden(),
            (Some(_), _) => self.run().hidden(),
        }
    }

    /// Goes behind the item that the walk is at.
    pub(crate) fn advance(&mut self) -> Result<()> {
        let first = match self.cursor.position() {
            Position::Outside => None,
            Position::Entry(first, _) | Position::Damaged(first, _) => Some(first),
        };
        if let [hole, rest @ ..] = self.holes
            && first.is_none_or(|first| hole.first.as_slice() <= first)
        {
            self.holes = rest;
            return Ok(());
        }
        self.cursor.next()
    }

    /// Goes to `key` if the walk is at an entry below it; says whether it was. Holes are not
    /// passed.
    pub(crate) fn skip_to(&mut self, key: &[u8]) -> Result<bool> {
        let skips = matches!(self.current(), Some(ItemRef::Entry { key: at, .. }) if at < key);
        if skips {
            self.cursor.seek_ceiling(key)?;
        }
        Ok(skips)
    }
}

impl Iterator for RunIter<'_> {
    type Item = Result<RunItem>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.begin() {
            self.end();
            return Some(Err(error));
        }
        let item = match self.current()? {
            ItemRef::Entry { key, value } => {
                RunItem::Entry { key: key.to_vec(), value: value.to_vec() }
            }
            ItemRef::Hole { first, last } => {
                RunItem::Hole { first: first.to_vec(), last: last.to_vec() }
            }
        };
        if let Err(error) = self.advance() {
            self.end();
            return Some(Err(error));
        }
        Some(Ok(item))
    }
}

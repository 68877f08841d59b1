//! Pages and changes become one ordered list of entries: what a checkpoint writes and a cleaner
//! rewrites.
//!
//! Invariants:
//!   * Entries are emitted once each, in key order, as the newest source has them.
//!   * A deleted range hides the keys of older sources only.

use super::changes::{ChangedKey, Changes};
use super::overlay::{Word, is_span};
use super::version::Stack;
use crate::error::Result;
use crate::format::page::{Page, PageItem};
use crate::ids::Codec;
use std::ops::Bound;

/// One source of a fold, at its next key.
struct Lane<'a> {
    source: Source<'a>,
    current: Option<ChangedKey<'a>>,
}

enum Source<'a> {
    Changes(&'a Changes<'a>, std::slice::Iter<'a, ChangedKey<'a>>),
    /// A page, and the entries that are still to come.
    Page(&'a Page, std::ops::Range<usize>),
}

impl<'a> Lane<'a> {
    /// At the first key of a source.
    fn new(source: Source<'a>) -> Self {
        let mut lane = Self { source, current: None };
        lane.advance();
        lane
    }

    fn advance(&mut self) {
        self.current = match &mut self.source {
            Source::Changes(_, rest) => rest.next().copied(),
            Source::Page(page, rest) => rest.next().map(|index| match page.item(index) {
                (key, PageItem::Value { codec, value }) => (key, Word::Value(codec, value)),
                (key, PageItem::Deleted) => (key, Word::Deleted),
            }),
        };
    }

    fn covers(&self, key: &[u8]) -> bool {
        match &self.source {
            Source::Changes(changes, _) => changes.covers(key),
            Source::Page(page, _) => page.covers(key),
        }
    }
}

fn page_lane<'a>(page: &'a Page, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Lane<'a> {
    let first = match from {
        Bound::Unbounded => 0,
        Bound::Included(key) | Bound::Excluded(key) => page.lower_bound(key),
    };
    let end = match to {
        Bound::Unbounded => page.count(),
        Bound::Included(key) | Bound::Excluded(key) => page.lower_bound(key),
    };
    Lane::new(Source::Page(page, first..end))
}

/// The lane at the least key, the newest of several; and the key.
fn least<'a>(lanes: &[Lane<'a>]) -> Option<(usize, ChangedKey<'a>)> {
    let mut least: Option<(usize, ChangedKey<'a>)> = None;
    for (age, lane) in lanes.iter().enumerate() {
        if let Some(current) = lane.current
            && least.is_none_or(|(_, (key, _))| current.0 < key)
        {
            least = Some((age, current));
        }
    }
    least
}

/// Emits what `changes` over `stack` say inside `[from, to)`.
pub fn fold(
    changes: &Changes<'_>,
    stack: &Stack,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    mut emit: impl FnMut(&[u8], Codec, &[u8]) -> Result<()>,
) -> Result<()> {
    if !is_span(from, to) {
        return Ok(());
    }
    let mut lanes = Vec::with_capacity(1 + stack.0.len());
    lanes.push(Lane::new(Source::Changes(changes, changes.between(from, to).iter())));
    lanes.extend(stack.0.iter().map(|page| page_lane(page, from, to)));
    while let Some((newest, (key, word))) = least(&lanes) {
        let is_covered = lanes[..newest].iter().any(|lane| lane.covers(key));
        if let (false, Word::Value(codec, value)) = (is_covered, word) {
            emit(key, codec, value)?;
        }
        // Those before the newest are behind the key already.
        let at_key = |lane: &&mut Lane<'_>| lane.current.is_some_and(|(at, _)| at == key);
        lanes[newest..].iter_mut().filter(at_key).for_each(Lane::advance);
    }
    Ok(())
}

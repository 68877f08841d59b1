//! A key range of an object and its pages, as a walk from both ends passes their entries.
//!
//! Invariants:
//!   * What a window has left are the entries of its pages inside the range, as long as it has seen
//!     every move of the other end.
//!   * A window's stack holds every page entry of the keys inside the window's bounds.

use super::overlay::Sorted;
use super::version::Stack;
use crate::format::page::Page;
use crate::ids::Life;
use std::ops::{Bound, Deref, Range};
use std::sync::Arc;

/// Where a step is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Up from the least key.
    Front,
    /// Down from the greatest one.
    Back,
}

impl End {
    pub(super) fn other(self) -> Self {
        if self == Self::Front { Self::Back } else { Self::Front }
    }
}

/// A key range and its pages.
#[derive(Debug)]
pub(super) struct Window {
    pub stack: Stack,
    /// Older than the overlays of the view, newer than the pages.
    pub overlay: Option<Arc<Sorted>>,
    pub lower: Bound<Vec<u8>>,
    pub upper: Upper,
    /// Of each page the entries inside the position and the window.
    pub left: Vec<Range<usize>>,
    /// The move of the other end up to which `left` is right; none while it is not known.
    pub seen: Option<u64>,
}

/// Where a window ends.
#[derive(Debug)]
pub(super) enum Upper {
    Known(Bound<Vec<u8>>),
    /// Where the page behind this one begins. Nobody asks before its own entries have been passed,
    /// unless something lies over them.
    NextPage(Life),
}

impl Upper {
    /// As far as it is known.
    pub fn known(&self) -> Bound<&[u8]> {
        match self {
            Self::Known(bound) => as_slice(bound),
            Self::NextPage(_) => Bound::Unbounded,
        }
    }
}

impl Window {
    /// All keys.
    pub fn whole(stack: Stack) -> Self {
        let (lower, upper) = (Bound::Unbounded, Upper::Known(Bound::Unbounded));
        Self { stack, overlay: None, lower, upper, left: Vec::new(), seen: None }
    }

    /// Each page, with what is left of it.
    pub fn pages(&self) -> impl Iterator<Item = (&Page, &Range<usize>)> {
        self.stack.0.iter().zip(&self.left)
    }

    /// Whether pages of the window have entries behind the range: then it ends in this window.
    pub fn has_more_than_the_range(&self) -> bool {
        // Of other windows the pages may have entries behind the window itself.
        matches!(self.upper, Upper::NextPage(_))
            && self.pages().any(|(page, left)| left.end < page.count())
    }

    /// Finds what is left of each page inside the position and the window.
    pub fn locate(&mut self, from: Bound<&[u8]>, to: Bound<&[u8]>) {
        let from = tighter(from, as_slice(&self.lower), End::Front);
        let to = tighter(to, self.upper.known(), End::Back);
        self.left.clear();
        self.left.extend(self.stack.0.iter().map(|page| inside(page, from, to)));
    }

    /// The key is behind the position of `end` now.
    pub fn pass(&mut self, key: &[u8], end: End) {
        for (page, left) in self.stack.0.iter().zip(&mut self.left) {
            if next_of(left, end).is_some_and(|index| page.item(index).0 == key) {
                pass_one(left, end);
            }
        }
    }
}

/// The next of a page's entries for `end`.
pub(super) fn next_of(left: &Range<usize>, end: End) -> Option<usize> {
    (!left.is_empty()).then(|| if end == End::Front { left.start } else { left.end - 1 })
}

/// The next of a page's entries for `end` is left no more.
pub(super) fn pass_one(left: &mut Range<usize>, end: End) {
    match end {
        End::Front => left.start += 1,
        End::Back => left.end -= 1,
    }
}

/// The page's entries inside the bounds.
fn inside(page: &Page, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Range<usize> {
    let first = match from {
        Bound::Unbounded => 0,
        Bound::Included(key) => page.lower_bound(key),
        Bound::Excluded(key) => behind(page, key),
    };
    let behind_last = match to {
        Bound::Unbounded => page.count(),
        Bound::Included(key) => {
            let index = page.lower_bound_from(first, key);
            index + usize::from(is_at(page, index, key))
        }
        Bound::Excluded(key) => page.lower_bound_from(first, key),
    };
    first..behind_last
}

/// The index of the first entry behind `key`.
fn behind(page: &Page, key: &[u8]) -> usize {
    let index = page.lower_bound(key);
    index + usize::from(is_at(page, index, key))
}

/// Whether the entry with this index, if there is one, has this key.
fn is_at(page: &Page, index: usize, key: &[u8]) -> bool {
    index < page.count() && page.item(index).0 == key
}

pub(super) fn as_slice<K: Deref<Target = [u8]>>(bound: &Bound<K>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &**key)
}

/// The bound that admits less.
pub(super) fn tighter<'a>(one: Bound<&'a [u8]>, two: Bound<&'a [u8]>, end: End) -> Bound<&'a [u8]> {
    let key = |bound: Bound<&'a [u8]>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    };
    match (key(one), key(two)) {
        (None, _) => two,
        (_, None) => one,
        (Some(first), Some(second)) if first == second => {
            if matches!(one, Bound::Excluded(_)) {
                one
            } else {
                two
            }
        }
        (Some(first), Some(second)) => {
            if (first > second) == (end == End::Front) {
                one
            } else {
                two
            }
        }
    }
}

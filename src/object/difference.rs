//! What differs between two views of objects, key by key and in order.
//!
//! Invariants:
//!   * Memory is that of one entry of each view and of the pages that they lie in.
//!   * It ends after the first error: what comes behind one is not told.

use super::View;
use super::range::{Entry, KeyBounds, RangeIter};
use crate::error::Result;
use std::cmp::Ordering;
use std::iter::Peekable;

/// A key and what each of two views has under it; at least one has something.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What the first view has.
    pub before: Option<Entry>,
    /// What the second view has.
    pub after: Option<Entry>,
}

impl Pair {
    /// Whether both have the same.
    pub fn is_same(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                before.codec == after.codec && *before.value == *after.value
            }
            _ => false,
        }
    }
}

/// The keys of two views in order, those with the same value in both included.
#[derive(Debug)]
pub struct Pairs {
    before: Peekable<RangeIter>,
    after: Peekable<RangeIter>,
    is_over: bool,
}

impl Pairs {
    /// The keys of both views inside `bounds`.
    pub fn new(before: View, after: View, bounds: KeyBounds) -> Self {
        let entries = |view, bounds| RangeIter::new(view, None, bounds).peekable();
        let (before, after) = (entries(before, bounds.clone()), entries(after, bounds));
        Self { before, after, is_over: false }
    }

    /// Which of the two has the lesser next key.
    fn order(&mut self) -> Option<Ordering> {
        match (self.before.peek(), self.after.peek()) {
            (None, None) => None,
            (Some(Ok(before)), Some(Ok(after))) => Some(before.key.cmp(&after.key)),
            (Some(Err(_)), _) | (Some(_), None) => Some(Ordering::Less),
            (_, Some(_)) => Some(Ordering::Greater),
        }
    }

    fn step(&mut self) -> Result<Option<Pair>> {
        let Some(order) = self.order() else { return Ok(None) };
        let before = if order.is_le() { self.before.next().transpose()? } else { None };
        let after = if order.is_ge() { self.after.next().transpose()? } else { None };
        Ok(Some(Pair { before, after }))
    }
}

impl Iterator for Pairs {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.step();
        self.is_over = next.is_err();
        next.transpose()
    }
}

//! Pages and an overlay become one ordered list of entries: what a checkpoint writes and a cleaner
//! rewrites.
//!
//! Invariants:
//!   * Entries are emitted once each, in key order, as the newest source has them.
//!   * A deleted range hides the keys of older sources only.

use super::overlay::{Found, Sorted, is_span};
use super::version::Stack;
use crate::error::Result;
use crate::format::page::{Page, PageItem};
use crate::ids::Codec;
use std::ops::Bound;

/// One source of a fold, at its next key.
struct Feed<'a> {
    kind: FeedKind<'a>,
    key: Option<&'a [u8]>,
}

enum FeedKind<'a> {
    Overlay(&'a Sorted, Box<dyn Iterator<Item = (&'a [u8], &'a Found)> + 'a>, Option<&'a Found>),
    Page(&'a Page, usize, usize),
}

impl Feed<'_> {
    fn advance(&mut self) {
        match &mut self.kind {
            FeedKind::Overlay(_, rest, found) => {
                let next = rest.next();
                self.key = next.map(|(key, _)| key);
                *found = next.map(|(_, found)| found);
            }
            FeedKind::Page(page, index, end) => {
                *index += 1;
                self.key = (*index < *end).then(|| page.item(*index).0);
            }
        }
    }

    fn covers(&self, key: &[u8]) -> bool {
        match &self.kind {
            FeedKind::Overlay(sorted, ..) => sorted.covers(key),
            FeedKind::Page(page, ..) => page.covers(key),
        }
    }

    fn value(&self) -> Option<(Codec, &[u8])> {
        match &self.kind {
            FeedKind::Overlay(_, _, Some(Found::Value(codec, value))) => Some((*codec, value)),
            FeedKind::Overlay(..) => None,
            FeedKind::Page(page, index, _) => match page.item(*index).1 {
                PageItem::Value { codec, value } => Some((codec, value)),
                PageItem::Deleted => None,
            },
        }
    }
}

fn page_feed<'a>(page: &'a Page, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Feed<'a> {
    let first = match from {
        Bound::Unbounded => 0,
        Bound::Included(key) | Bound::Excluded(key) => page.lower_bound(key),
    };
    let end = match to {
        Bound::Unbounded => page.count(),
        Bound::Included(key) | Bound::Excluded(key) => page.lower_bound(key),
    };
    let key = (first < end).then(|| page.item(first).0);
    Feed { kind: FeedKind::Page(page, first, end), key }
}

/// Emits what `overlay` over `stack` says inside `[from, to)`.
pub fn fold(
    overlay: &Sorted,
    stack: &Stack,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    mut emit: impl FnMut(&[u8], Codec, &[u8]) -> Result<()>,
) -> Result<()> {
    if !is_span(from, to) {
        return Ok(());
    }
    let rest: Box<dyn Iterator<Item = _>> = Box::new(overlay.iter_between(from, to));
    let mut feeds = vec![Feed { kind: FeedKind::Overlay(overlay, rest, None), key: None }];
    feeds[0].advance();
    feeds.extend(stack.0.iter().map(|page| page_feed(page, from, to)));
    while let Some(key) = feeds.iter().filter_map(|feed| feed.key).min() {
        let newest = feeds.iter().position(|feed| feed.key == Some(key)).unwrap_or(0);
        let is_covered = feeds[..newest].iter().any(|feed| feed.covers(key));
        if let (false, Some((codec, value))) = (is_covered, feeds[newest].value()) {
            emit(key, codec, value)?;
        }
        feeds.iter_mut().filter(|feed| feed.key == Some(key)).for_each(Feed::advance);
    }
    Ok(())
}

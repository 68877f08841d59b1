//! Changes of an object of many pages: each key range that a change touches is rewritten or gets a
//! delta; the others stay as they are.
//!
//! Invariants:
//!   * Key ranges are handled in key order and once each.
//!   * A page that disappears inside its life leaves a tombstone; the one with fence "" does not
//!     disappear while there are others.

use super::archive::{KeyRange, every_key};
use super::build::{Builder, wants_delta};
use super::clean::note_unread;
use super::content::{Content, inheriting};
use super::splitter::Splitter;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::entry::{Head, PageEntry, PagePart};
use crate::format::own_keys::RESTORE_KEY;
use crate::ids::{Address, Life};
use crate::marks::{Mark, mark};
use crate::object::changes::Changes;
use crate::object::fold::fold;
use crate::object::overlay::Word;
use crate::object::version::Stack;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Key ranges that are joined into one at most; what stays small is joined by the next change.
const JOINED_MAX: usize = 64;

/// A key range of the object as it is published: its fence, its entry, and the next fence.
struct Span {
    fence: Vec<u8>,
    entry: PageEntry,
    next: Option<Vec<u8>>,
}

impl Span {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let to = self.next.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(&self.fence), to)
    }
}

/// The account of one object's change.
struct Change {
    address: Address,
    life: Life,
    pages: BTreeMap<Vec<u8>, Option<PageEntry>>,
    count: u64,
    content_bytes: u64,
    is_approximate: bool,
    /// Whether a restoration waits for the next open afterwards.
    restores: bool,
    /// Where the last gap ends that was closed. One that begins there belongs to the same page,
    /// which is far behind where many key ranges in a row become empty.
    gap_end: Option<Vec<u8>>,
}

impl Builder<'_> {
    pub(super) fn change_large(
        &mut self,
        address: Address,
        head: &Head,
        changes: &Changes<'_>,
    ) -> Result<Content> {
        let mut change = Change::of(address, head);
        if let Some(word) = changes.find(RESTORE_KEY) {
            change.restores = matches!(word, Word::Value(..));
        }
        let mut position = first_change(changes, Bound::Unbounded);
        while let Some(key) = position {
            let Some(span) = self.span_at(&change, &key)? else {
                let what = "a large object without its first page";
                let place = Place::new("the directory", 0);
                return Err(Error::corrupt("directory.first_page", what, place));
            };
            let end = self.change_span(&mut change, changes, span)?;
            position = end.and_then(|end| first_change(changes, Bound::Included(&end)));
        }
        self.settle(change)
    }

    /// Folds the key ranges with these fences whose entries are wanted; without changes.
    pub(super) fn refold_spans<'f>(
        &mut self,
        address: Address,
        head: &Head,
        fences: impl Iterator<Item = &'f Vec<u8>>,
        is_wanted: impl Fn(&PageEntry) -> bool,
    ) -> Result<Content> {
        let nothing = Changes::default();
        let mut change = Change::of(address, head);
        for fence in fences {
            if change.pages.contains_key(fence) {
                continue;
            }
            let Some(span) = self.span_at(&change, fence)? else { break };
            if span.fence != *fence || !is_wanted(&span.entry) {
                continue;
            }
            // What cannot be read stays where it is.
            match self.version.stack(&span.entry, address, head.life) {
                Ok(stack) => drop(self.fold_span(&mut change, &nothing, span, stack)?),
                Err(error) => note_unread(&mut self.unread, error),
            }
        }
        if change.pages.is_empty() {
            return Ok(Content { count: change.count, ..Content::default() });
        }
        self.settle(change)
    }

    fn span_at(&self, change: &Change, key: &[u8]) -> Result<Option<Span>> {
        let directory = self.version.pages_of(change.address, change.life);
        let (address, life) = (change.address, change.life);
        let Some((fence, entry)) = self.insist(|| directory.page_at(address, life, key))? else {
            return Ok(None);
        };
        let next = self.insist(|| directory.page_after(address, life, &fence))?;
        Ok(Some(Span { fence, entry, next: next.map(|(fence, _)| fence) }))
    }

    /// Handles one key range, and those behind it that it is joined with. Says where the next
    /// begins.
    fn change_span(
        &mut self,
        change: &mut Change,
        changes: &Changes<'_>,
        span: Span,
    ) -> Result<Option<Vec<u8>>> {
        let (from, to) = span.bounds();
        let change_bytes = changes.bytes_between(from, to);
        if wants_delta(&span.entry, change_bytes) {
            return self.delta_span(change, changes, span);
        }
        match self.version.stack(&span.entry, change.address, change.life) {
            Ok(stack) => self.fold_span(change, changes, span, stack),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                mark(Mark::DamagedBaseKept);
                let damaged = PageEntry { damaged: true, ..span.entry };
                self.delta_span(change, changes, Span { entry: damaged, ..span })
            }
            Err(error) => Err(error),
        }
    }

    fn delta_span(
        &mut self,
        change: &mut Change,
        changes: &Changes<'_>,
        span: Span,
    ) -> Result<Option<Vec<u8>>> {
        let place = (&*span.fence, &span.entry);
        let entry =
            self.append_delta(change.address, change.life, place, changes, span.bounds())?;
        change.is_approximate = true;
        change.pages.insert(span.fence, Some(entry));
        Ok(span.next)
    }

    /// Folds a key range; while what is left is small and there is a next range, joins it.
    fn fold_span(
        &mut self,
        change: &mut Change,
        changes: &Changes<'_>,
        mut span: Span,
        stack: Stack,
    ) -> Result<Option<Vec<u8>>> {
        let small = self.engine.options.page_bytes / 4;
        let mut stacks = vec![(span.bounds_owned(), stack)];
        let mut released = vec![span.given_up()];
        let mut left = folded_bytes(changes, &stacks)?;
        while left < small
            && stacks.len() < JOINED_MAX
            && let Some(next) = span.next.clone()
        {
            let Some(joined) = self.span_at(change, &next)? else { break };
            let Ok(stack) = self.version.stack(&joined.entry, change.address, change.life) else {
                break;
            };
            mark(Mark::PageMerged);
            change.pages.insert(joined.fence.clone(), None);
            stacks.push((joined.bounds_owned(), stack));
            released.push(joined.given_up());
            span.next = joined.next;
            left += folded_bytes(changes, &stacks[stacks.len() - 1..])?;
        }
        if self.is_move {
            let newest = |(_, entry): &(_, PageEntry)| self.archive.newest_of(entry, change.life);
            let newest = released.iter().map(newest).max();
            self.page_exact_at = newest.unwrap_or(self.exact_at);
        }
        let pages = self.write_span(change, &span.fence, changes, &stacks, left)?;
        let logged = self.give_up(change, changes, &released);
        change.pages.insert(span.fence.clone(), None);
        let is_empty = pages.is_empty();
        change.take_over(inheriting(pages, logged));
        if is_empty && !span.fence.is_empty() {
            if change.gap_end.as_ref() != Some(&span.fence) {
                self.close_gap(change, changes, span.fence)?;
            }
            change.gap_end.clone_from(&span.next);
        }
        Ok(span.next)
    }

    /// Releases entries and hands them to history. Says what their successors inherit.
    fn give_up(
        &mut self,
        change: &mut Change,
        changes: &Changes<'_>,
        released: &[(KeyRange, PageEntry)],
    ) -> u64 {
        let mut logged = 0_u64;
        // Content that only moves, and whose range stays as it was, is exact where it was.
        let stays = self.is_move && released.len() == 1;
        for (range, entry) in released {
            change.forget(entry);
            self.release_entry(entry);
            let to = range.1.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let own = changes.bytes_between(Bound::Included(&range.0), to) as u64;
            // Adopted pages that were never archived count as if endlessly much were logged.
            logged = logged.saturating_add(if stays && entry.deltas.is_empty() {
                entry.logged_since_archived
            } else {
                self.archive.entry(change.life, range, (entry, None), own)
            });
        }
        logged
    }

    /// A key range is gone and belongs to the page before it from now on. That page must be exact
    /// about it since the same moment as about its own keys, so it is written again; unless that
    /// has just been done.
    fn close_gap(
        &mut self,
        change: &mut Change,
        changes: &Changes<'_>,
        gone: Vec<u8>,
    ) -> Result<()> {
        let mut below = gone;
        loop {
            let Some(span) = self.span_before(change, &below)? else { return Ok(()) };
            let changed = change.pages.get(&span.fence).cloned().flatten();
            let is_fresh = |entry: &PageEntry| {
                let exact_at = entry.base.as_ref().map(|base| base.exact_at);
                entry.deltas.is_empty() && exact_at == Some(self.exact_at)
            };
            if changed.as_ref().is_some_and(is_fresh) {
                return Ok(());
            }
            // What could not be read when its own change came is not read once more in the same
            // checkpoint: of its deltas some may be given up already.
            let is_kept = changed.as_ref().is_some_and(|changed| changed.damaged);
            let stack = match self.version.stack(&span.entry, change.address, change.life) {
                Ok(stack) if !is_kept => stack,
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                // It may be read again later: the gap stays a key range of its own.
                Ok(_) | Err(_) => {
                    let pages = self.empty_page(change, &below)?;
                    change.take_over(pages);
                    return Ok(());
                }
            };
            mark(Mark::GapClosed);
            for delta in changed.iter().flat_map(|changed| &changed.deltas) {
                if !span.entry.deltas.contains(delta) {
                    self.liveness.remove(delta.location.file, delta.location.bytes);
                }
            }
            let stacks = [(span.bounds_owned(), stack)];
            let bytes = folded_bytes(changes, &stacks)?;
            let pages = self.write_span(change, &span.fence, changes, &stacks, bytes)?;
            let logged = self.give_up(change, changes, &[span.given_up()]);
            change.pages.insert(span.fence.clone(), None);
            if !pages.is_empty() {
                change.take_over(inheriting(pages, logged));
                return Ok(());
            }
            below = span.fence;
        }
    }

    /// The last key range below a fence that is still there, as it is published; one that this
    /// change has made stands for itself.
    fn span_before(&self, change: &Change, fence: &[u8]) -> Result<Option<Span>> {
        let (address, life) = (change.address, change.life);
        let directory = self.version.pages_of(address, life);
        let bounds = (Bound::Unbounded, Bound::Excluded(fence));
        let made = change.pages.range::<[u8], _>(bounds).rev().find(|(_, entry)| entry.is_some());
        let before = |fence: &[u8]| self.insist(|| directory.page_before(address, life, fence));
        let mut published = before(fence)?;
        while let Some((fence, _)) = &published
            && change.pages.contains_key(fence)
        {
            published = before(fence)?;
        }
        let made = made
            .filter(|(made, _)| published.as_ref().is_none_or(|(published, _)| published < *made));
        let Some((fence, Some(made))) = made else {
            let Some((fence, _)) = published else { return Ok(None) };
            return self.span_at(change, &fence);
        };
        let span = self.span_at(change, fence)?;
        // A fence that the directory does not know is of a page made just now.
        let is_known = span.as_ref().is_some_and(|span| span.fence == *fence);
        if is_known {
            return Ok(span);
        }
        Ok(Some(Span { fence: fence.clone(), entry: made.clone(), next: None }))
    }

    fn write_span(
        &mut self,
        change: &Change,
        fence: &[u8],
        changes: &Changes<'_>,
        stacks: &[(OwnedBounds, Stack)],
        expected: usize,
    ) -> Result<Vec<(Vec<u8>, PageEntry)>> {
        if stacks.iter().any(|(_, stack)| stack.0.len() > 1) {
            mark(Mark::DeltaFolded);
        }
        let mut splitter = Splitter::new(self, change.address, change.life, fence, expected);
        if fence.is_empty() {
            splitter.keep_first();
        }
        for (bounds, stack) in stacks {
            fold(changes, stack, bounds.borrowed(), |key, codec, value| {
                splitter.push(key, codec, value)
            })?;
        }
        let pages = splitter.finish()?;
        if !pages.is_empty() || !self.is_move {
            return Ok(pages);
        }
        // What only moves goes on to be a key range of its own, though nothing is left in it.
        self.empty_page(change, fence)
    }

    fn empty_page(&mut self, change: &Change, fence: &[u8]) -> Result<Vec<(Vec<u8>, PageEntry)>> {
        let mut splitter = Splitter::new(self, change.address, change.life, fence, 0);
        splitter.keep_first();
        splitter.finish()
    }

    /// The object's content after all ranges: a single page moves into the head.
    fn settle(&mut self, mut change: Change) -> Result<Content> {
        let left = self.pages_left(&change)?;
        let mut content = Content {
            count: change.count,
            bytes: change.content_bytes,
            is_approximate: change.is_approximate,
            keeps_pages: matches!(left, Left::Several),
            pages: std::mem::take(&mut change.pages).into_iter().collect(),
            inline: None,
        };
        let Left::First(entry) = left else { return Ok(content) };
        mark(Mark::PagesCollapsed);
        content.pages.retain(|(fence, _)| !fence.is_empty());
        content.pages.insert(0, (Vec::new(), None));
        let is_bare =
            |base: &&PagePart| base.count == 0 && base.content_bytes == 0 && !change.restores;
        if entry.deltas.is_empty()
            && let Some(base) = entry.base.as_ref().filter(is_bare)
        {
            // Commits say how any other came to be empty.
            if self.archive.is_adopted(base, change.life) {
                self.archive.entry(change.life, &every_key(), (&entry, None), 0);
            }
            self.release_entry(&entry);
        } else {
            content.inline = Some(entry);
        }
        Ok(content)
    }

    /// What pages the object has after a change: those that it changed, and those that it left.
    fn pages_left(&self, change: &Change) -> Result<Left> {
        let is_other =
            |(fence, entry): (&Vec<u8>, &Option<PageEntry>)| !fence.is_empty() && entry.is_some();
        if change.pages.iter().any(is_other) {
            return Ok(Left::Several);
        }
        let (pages, clock) = ((change.address, change.life), &*self.engine.clock);
        let directory = self.version.pages_of(change.address, change.life);
        let mut left = Left::Nothing;
        for page in self.archive.pauses.pages(clock, &directory, pages) {
            let (fence, entry) = page?;
            match change.pages.get(&fence) {
                Some(None) => {}
                _ if !fence.is_empty() => return Ok(Left::Several),
                Some(Some(changed)) => left = Left::First(changed.clone()),
                None => left = Left::First(entry),
            }
        }
        Ok(left)
    }
}

/// The pages of an object after a change.
enum Left {
    Nothing,
    /// The one with fence "".
    First(PageEntry),
    /// One with another fence at least.
    Several,
}

impl Change {
    fn of(address: Address, head: &Head) -> Self {
        Self {
            address,
            life: head.life,
            pages: BTreeMap::new(),
            count: head.count,
            content_bytes: head.content_bytes,
            is_approximate: head.approximate,
            restores: head.restores,
            gap_end: None,
        }
    }

    fn forget(&mut self, entry: &PageEntry) {
        if let Some(base) = &entry.base {
            self.count = self.count.saturating_sub(u64::from(base.count));
            self.content_bytes = self.content_bytes.saturating_sub(base.content_bytes);
        }
    }

    fn take_over(&mut self, pages: Vec<(Vec<u8>, PageEntry)>) {
        for (fence, entry) in pages {
            self.account(&entry);
            self.pages.insert(fence, Some(entry));
        }
    }

    fn account(&mut self, entry: &PageEntry) {
        if let Some(base) = &entry.base {
            self.count = self.count.saturating_add(u64::from(base.count));
            self.content_bytes = self.content_bytes.saturating_add(base.content_bytes);
        }
    }
}

/// Bounds of a key range, kept.
struct OwnedBounds(Vec<u8>, Option<Vec<u8>>);

impl OwnedBounds {
    fn borrowed(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.0), self.1.as_deref().map_or(Bound::Unbounded, Bound::Excluded))
    }
}

impl Span {
    fn given_up(&self) -> (KeyRange, PageEntry) {
        ((self.fence.clone(), self.next.clone()), self.entry.clone())
    }

    fn bounds_owned(&self) -> OwnedBounds {
        OwnedBounds(self.fence.clone(), self.next.clone())
    }
}

/// The first key at or behind `from` that a change touches.
fn first_change(changes: &Changes<'_>, from: Bound<&[u8]>) -> Option<Vec<u8>> {
    let key = changes.between(from, Bound::Unbounded).first().map(|(key, _)| key.to_vec());
    let floor: &[u8] = match from {
        Bound::Included(from) | Bound::Excluded(from) => from,
        Bound::Unbounded => &[],
    };
    let range = changes.ranges_between(from, Bound::Unbounded).first();
    let range = range.map(|(start, _)| (*start).max(floor).to_vec());
    key.into_iter().chain(range).min()
}

fn folded_bytes(changes: &Changes<'_>, stacks: &[(OwnedBounds, Stack)]) -> Result<usize> {
    let mut bytes = 0;
    for (bounds, stack) in stacks {
        // A rough sum is enough to see that a range is large; only small ones are counted.
        let most: usize = stack.0.iter().map(|page| page.body().len()).sum();
        if stacks.len() == 1 && most > 1 << 20 {
            return Ok(most);
        }
        fold(changes, stack, bounds.borrowed(), |key, _, value| {
            bytes += key.len() + value.len() + 4;
            Ok(())
        })?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_head_says_that_cannot_be_is_counted_on_from() {
        let head = Head { count: u64::MAX, content_bytes: u64::MAX, ..Head::default() };
        let mut change = Change::of(Address::default(), &head);
        let base = PagePart { count: 3, content_bytes: 900, ..PagePart::default() };
        let entry = PageEntry { base: Some(base), ..PageEntry::default() };
        change.take_over(vec![(Vec::new(), entry.clone()), (vec![1], entry.clone())]);
        assert_eq!((change.count, change.content_bytes), (u64::MAX, u64::MAX));
        change.forget(&entry);
        assert_eq!((change.count, change.content_bytes), (u64::MAX - 3, u64::MAX - 900));
    }
}

//! Changes of an object of many pages: each key range that a change touches is rewritten or gets a
//! delta; the others stay as they are.
//!
//! Invariants:
//!   * Key ranges are handled in key order and once each.
//!   * A page that disappears inside its life leaves a tombstone; the one with fence "" does not
//!     disappear while there are others.

use super::build::{Builder, Content, wants_delta};
use super::splitter::Splitter;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::entry::{Head, PageEntry, PagePart};
use crate::ids::{Address, Life};
use crate::marks::{Mark, mark};
use crate::object::changes::Changes;
use crate::object::fold::fold;
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
}

impl Builder<'_> {
    pub(super) fn change_large(
        &mut self,
        address: Address,
        head: &Head,
        changes: &Changes<'_>,
    ) -> Result<Content> {
        let mut change = Change::of(address, head);
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
            if let Ok(stack) = self.version.stack(&span.entry, address, head.life) {
                self.fold_span(&mut change, &nothing, span, stack)?;
            }
        }
        if change.pages.is_empty() {
            return Ok(Content { count: change.count, ..Content::default() });
        }
        self.settle(change)
    }

    fn span_at(&self, change: &Change, key: &[u8]) -> Result<Option<Span>> {
        let directory = &self.version.directory;
        let Some((fence, entry)) = directory.page_at(change.address, change.life, key)? else {
            return Ok(None);
        };
        let next = directory.page_after(change.address, change.life, &fence)?;
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
        let mut released = vec![span.entry.clone()];
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
            released.push(joined.entry);
            span.next = joined.next;
            left += folded_bytes(changes, &stacks[stacks.len() - 1..])?;
        }
        let pages = self.write_span(change, &span.fence, changes, &stacks, left)?;
        for entry in &released {
            change.forget(entry);
            self.release_entry(entry);
        }
        change.pages.insert(span.fence, None);
        for (fence, entry) in pages {
            change.account(&entry);
            change.pages.insert(fence, Some(entry));
        }
        Ok(span.next)
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
        splitter.finish()
    }

    /// The object's content after all ranges: a single page moves into the head.
    fn settle(&mut self, change: Change) -> Result<Content> {
        let mut content = Content {
            inline: None,
            pages: Vec::new(),
            count: change.count,
            bytes: change.content_bytes,
            is_approximate: change.is_approximate,
        };
        let only = self.only_page(&change)?;
        content.pages = change.pages.into_iter().collect();
        let Some(entry) = only else { return Ok(content) };
        mark(Mark::PagesCollapsed);
        content.pages.retain(|(fence, _)| !fence.is_empty());
        content.pages.insert(0, (Vec::new(), None));
        let is_bare = |base: &PagePart| base.count == 0 && base.content_bytes == 0;
        if entry.deltas.is_empty() && entry.base.as_ref().is_some_and(is_bare) {
            self.release_entry(&entry);
        } else {
            content.inline = Some(entry);
        }
        Ok(content)
    }

    /// The entry with fence "", if no other page is left.
    fn only_page(&self, change: &Change) -> Result<Option<PageEntry>> {
        let is_other =
            |(fence, entry): (&Vec<u8>, &Option<PageEntry>)| !fence.is_empty() && entry.is_some();
        if change.pages.iter().any(is_other) {
            return Ok(None);
        }
        let directory = &self.version.directory;
        let mut first = None;
        for page in directory.pages(change.address, change.life) {
            let (fence, entry) = page?;
            match change.pages.get(&fence) {
                Some(None) => {}
                _ if !fence.is_empty() => return Ok(None),
                Some(Some(changed)) => first = Some(changed.clone()),
                None => first = Some(entry),
            }
        }
        Ok(first)
    }
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
        }
    }

    fn forget(&mut self, entry: &PageEntry) {
        if let Some(base) = &entry.base {
            self.count = self.count.saturating_sub(u64::from(base.count));
            self.content_bytes = self.content_bytes.saturating_sub(base.content_bytes);
        }
    }

    fn account(&mut self, entry: &PageEntry) {
        if let Some(base) = &entry.base {
            self.count += u64::from(base.count);
            self.content_bytes += base.content_bytes;
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

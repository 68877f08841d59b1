//! Changes beside a base: delta pages, as many as their bytes ask for.
//!
//! Invariants:
//!   * Deleted ranges stand in the first of them, below all that the others say of keys.

use super::build::Builder;
use crate::error::Result;
use crate::format::entry::PagePart;
use crate::format::page::{PageBuilder, PageKind, PageMeta};
use crate::ids::{Address, Life};
use crate::limits::VALUE_BYTES_MAX;
use crate::object::changes::{ChangedKey, Changes};
use crate::object::overlay::Word;
use std::ops::Bound;

/// Bytes of a delta page, where that does not make too many pages.
const DELTA_BYTES: usize = 1024 * 1024;
/// How many pages one change becomes at most, while none is as large as a page can be. An entry
/// has room for 255.
const DELTAS_MAX: usize = 64;
/// What an entry or a range takes in a page beside its keys and its value, at most.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Writes what `changes` say inside the bounds, which begin included and end excluded, as delta
/// pages: the lowest first, and one at least.
pub(super) fn write_deltas(
    builder: &mut Builder<'_>,
    (address, life, fence): (Address, Life, &[u8]),
    changes: &Changes<'_>,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
) -> Result<Vec<PagePart>> {
    let changed = changes.between(from, to);
    let bytes = |(key, word): &ChangedKey<'_>| match word {
        Word::Value(_, value) => key.len() + value.len(),
        Word::Deleted => key.len(),
    };
    let total: usize = changed.iter().map(bytes).sum();
    let page_bytes = (total / DELTAS_MAX).clamp(DELTA_BYTES, VALUE_BYTES_MAX);
    let (page, done) = (None, Vec::new());
    let mut pages = DeltaPages { address, life, fence, page_bytes, page, done };
    for (start, end) in changes.ranges_between(from, to) {
        let (start, end) = clip(start, end, from, to);
        if start < end {
            pages.page_for(builder, start.len() + end.len())?.push_range(start, end);
        }
    }
    for change in changed {
        let page = pages.page_for(builder, bytes(change))?;
        match change {
            (key, Word::Value(codec, value)) => page.push(key, *codec, value),
            (key, Word::Deleted) => page.push_deleted(key),
        }
    }
    pages.finish(builder)
}

/// The delta pages of one change of one key range.
struct DeltaPages<'a> {
    address: Address,
    life: Life,
    fence: &'a [u8],
    /// Beyond so many bytes a page takes nothing more, unless it has nothing.
    page_bytes: usize,
    page: Option<PageBuilder>,
    done: Vec<PagePart>,
}

impl DeltaPages<'_> {
    /// The page that takes so many bytes more: the open one, or a new one where that is full.
    fn page_for(&mut self, builder: &mut Builder<'_>, more: usize) -> Result<&mut PageBuilder> {
        let page_bytes = self.page_bytes;
        let is_full = |page: &PageBuilder| {
            !page.is_empty() && page.body_bytes() + more + ENTRY_OVERHEAD_BYTES > page_bytes
        };
        if self.page.as_ref().is_some_and(is_full) {
            self.write(builder)?;
        }
        let meta = || PageMeta {
            kind: PageKind::Delta,
            address: self.address,
            life: self.life,
            exact_at: builder.exact_at,
            until: builder.until,
            fence: self.fence.to_vec(),
        };
        Ok(self.page.get_or_insert_with(|| PageBuilder::new(meta())))
    }

    /// Writes the page that is open.
    fn write(&mut self, builder: &mut Builder<'_>) -> Result<()> {
        if let Some(page) = self.page.take() {
            self.done.push(builder.write_page(&page.finish())?);
        }
        Ok(())
    }

    fn finish(mut self, builder: &mut Builder<'_>) -> Result<Vec<PagePart>> {
        if self.done.is_empty() {
            self.page_for(builder, 0)?;
        }
        self.write(builder)?;
        Ok(self.done)
    }
}

/// The part of `[start, end)` inside the bounds, which begin included and end excluded.
fn clip<'a>(
    start: &'a [u8],
    end: &'a [u8],
    from: Bound<&'a [u8]>,
    to: Bound<&'a [u8]>,
) -> (&'a [u8], &'a [u8]) {
    let start = match from {
        Bound::Included(from) | Bound::Excluded(from) => start.max(from),
        Bound::Unbounded => start,
    };
    let end = match to {
        Bound::Included(to) | Bound::Excluded(to) => end.min(to),
        Bound::Unbounded => end,
    };
    (start, end)
}

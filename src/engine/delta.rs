//! Changes beside a base: delta pages, as many as their bytes ask for.
//!
//! Invariants:
//!   * Deleted ranges stand in the first of them, below everything that the others say.

use super::build::Builder;
use crate::error::Result;
use crate::format::entry::PagePart;
use crate::format::page::{PageBuilder, PageKind, PageMeta};
use crate::ids::{Address, Life};
use crate::object::changes::{ChangedKey, Changes};
use crate::object::overlay::Word;
use std::ops::Bound;

/// Bytes from which on a delta page is closed and the next begun.
const DELTA_BYTES: usize = 1024 * 1024;

/// The delta pages of one change of one key range.
pub(super) struct DeltaPages<'a> {
    pub address: Address,
    pub life: Life,
    pub fence: &'a [u8],
    pub page: Option<PageBuilder>,
}

impl DeltaPages<'_> {
    fn fresh(&self, builder: &Builder<'_>) -> PageBuilder {
        PageBuilder::new(PageMeta {
            kind: PageKind::Delta,
            address: self.address,
            life: self.life,
            exact_at: builder.exact_at,
            until: builder.until,
            fence: self.fence.to_vec(),
        })
    }

    /// Begins the first page, with the ranges that are deleted.
    pub fn open(
        &mut self,
        builder: &Builder<'_>,
        changes: &Changes<'_>,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    ) {
        let mut page = self.fresh(builder);
        for (start, end) in changes.ranges_between(from, to) {
            let (start, end) = clip(start, end, from, to);
            if start < end {
                page.push_range(start, end);
            }
        }
        self.page = Some(page);
    }

    /// Adds a change; the page before it, where that was full.
    pub fn push(
        &mut self,
        builder: &mut Builder<'_>,
        (key, word): &ChangedKey<'_>,
    ) -> Result<Option<PagePart>> {
        let is_full = self.page.as_ref().is_some_and(|page| page.body_bytes() > DELTA_BYTES);
        let full = if is_full { self.finish(builder)? } else { None };
        if self.page.is_none() {
            self.page = Some(self.fresh(builder));
        }
        let Some(page) = &mut self.page else { return Ok(full) };
        match word {
            Word::Value(codec, value) => page.push(key, *codec, value),
            Word::Deleted => page.push_deleted(key),
        }
        Ok(full)
    }

    /// Writes the page that is open.
    pub fn finish(&mut self, builder: &mut Builder<'_>) -> Result<Option<PagePart>> {
        self.page.take().map(|page| builder.write_page(&page.finish())).transpose()
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

//! Entries in key order become pages of about the size asked for.
//!
//! The pages of one fold are made equally large, so that a page one byte over the size becomes two
//! halves and not a whole one and a crumb. A value of more than half a page has a page of its own.
//!
//! Invariants:
//!   * Nothing is written for a fold without content, unless the caller keeps its first page. The
//!     store's own words about an object are not content, but for a restoration that waits.
//!   * An entry's count is of the user's keys; its bytes are keys with kinds, and values, of all
//!     content, so that they are zero only where there is none.
//!   * Each page but the first has as its fence no more of its first key than tells that from the
//!     last key of the page before: fences stand in the directory and its index, where long ones
//!     would take as much room as keys do.

use super::build::Builder;
use super::content::counted;
use crate::error::Result;
use crate::format::entry::PageEntry;
use crate::format::own_keys::RESTORE_KEY;
use crate::format::page::{PageBuilder, PageKind, PageMeta};
use crate::ids::{Address, Codec, Life, Lsn};
use crate::marks::{Mark, mark};

/// Takes the entries of one fold.
pub(super) struct Splitter<'b, 'e> {
    builder: &'b mut Builder<'e>,
    address: Address,
    life: Life,
    first_fence: Vec<u8>,
    page_bytes: usize,
    alone_bytes: usize,
    page: Option<Open>,
    is_first_kept: bool,
    /// That of the last entry; the first page's fence before there is any.
    last_key: Vec<u8>,
    done: Vec<(Vec<u8>, PageEntry)>,
}

/// The page being filled.
struct Open {
    fence: Vec<u8>,
    page: PageBuilder,
    users: u32,
    content_bytes: u64,
    /// Whether it holds a word of the store's own that must not be lost.
    is_needed: bool,
    is_closed: bool,
}

impl<'b, 'e> Splitter<'b, 'e> {
    /// Pages of one life; about `expected_bytes` of entries will come.
    pub fn new(
        builder: &'b mut Builder<'e>,
        address: Address,
        life: Life,
        first_fence: &[u8],
        expected_bytes: usize,
    ) -> Self {
        let target = builder.engine.options.page_bytes;
        let pages = expected_bytes.div_ceil(target + target / 3).max(1);
        let page_bytes = (expected_bytes / pages).max(target / 2);
        Self {
            builder,
            address,
            life,
            first_fence: first_fence.to_vec(),
            page_bytes,
            alone_bytes: target / 2,
            page: None,
            is_first_kept: false,
            last_key: first_fence.to_vec(),
            done: Vec::new(),
        }
    }

    /// The first page is written even without content: there are other pages in its life.
    pub fn keep_first(&mut self) {
        self.is_first_kept = true;
        if self.page.is_none() {
            self.page = Some(self.open_page(&[]));
        }
    }

    /// Takes the next entry.
    pub fn push(&mut self, key: &[u8], codec: Codec, value: &[u8]) -> Result<()> {
        let is_alone = value.len() > self.alone_bytes;
        let is_full = self.page.as_ref().is_some_and(|open| {
            let bytes = open.page.body_bytes() + key.len() + value.len();
            open.is_closed || is_alone || bytes > self.page_bytes
        });
        if is_full {
            self.finish_page()?;
        }
        if is_alone {
            mark(Mark::ValueAlone);
        }
        if self.page.is_none() {
            self.page = Some(self.open_page(key));
        }
        if let Some(open) = &mut self.page {
            open.page.push(key, codec, value);
            let (users, content_bytes) = counted(key, value);
            open.users += users;
            open.content_bytes += content_bytes;
            open.is_needed |= key == RESTORE_KEY;
            open.is_closed = is_alone;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    fn open_page(&self, key: &[u8]) -> Open {
        let is_first = self.done.is_empty();
        let fence = if is_first { &self.first_fence } else { fence_between(&self.last_key, key) };
        let fence = fence.to_vec();
        let page = PageBuilder::new(PageMeta {
            kind: PageKind::Page,
            address: self.address,
            life: self.life,
            exact_at: self.builder.page_exact_at,
            until: Lsn::ZERO,
            fence: fence.clone(),
        });
        let (is_needed, is_closed) = (false, false);
        Open { fence, page, users: 0, content_bytes: 0, is_needed, is_closed }
    }

    fn finish_page(&mut self) -> Result<()> {
        let Some(open) = self.page.take() else { return Ok(()) };
        let Open { fence, page, users, content_bytes, .. } = open;
        let mut part = self.builder.write_page(&page.finish())?;
        part.count = users;
        part.content_bytes = content_bytes;
        self.done.push((fence, PageEntry { base: Some(part), ..PageEntry::default() }));
        Ok(())
    }

    /// The entries of the pages written.
    pub fn finish(mut self) -> Result<Vec<(Vec<u8>, PageEntry)>> {
        // What the store itself says about an object does not make it exist.
        let is_empty = |open: &Open| open.users == 0 && open.content_bytes == 0 && !open.is_needed;
        let is_bare = self.page.as_ref().is_none_or(is_empty);
        if self.is_first_kept || !self.done.is_empty() || !is_bare {
            self.finish_page()?;
        }
        if self.done.len() > 1 {
            mark(Mark::PageSplit);
        }
        Ok(self.done)
    }
}

/// The shortest beginning of `key` that is above `below`; all of it where that is not below it.
pub(super) fn fence_between<'k>(below: &[u8], key: &'k [u8]) -> &'k [u8] {
    let shared = below.iter().zip(key).take_while(|(one, other)| one == other).count();
    key.get(..=shared).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::fence_between;

    #[test]
    fn a_fence_is_above_what_is_below_it_and_as_short_as_can_be() {
        let keys =
            [&b""[..], b"a", b"aa", b"ab", b"abc", b"abd", b"b", b"ba", b"\xFF", b"\xFF\xFF"];
        for (at, below) in keys.iter().enumerate() {
            for key in &keys[at + 1..] {
                let fence = fence_between(below, key);
                assert!(fence > *below && key.starts_with(fence), "{below:?} {key:?}");
                assert!(fence[..fence.len() - 1] <= **below, "{below:?} {key:?}: {fence:?}");
            }
        }
        assert_eq!(fence_between(b"ab", b"ab"), b"ab");
    }
}

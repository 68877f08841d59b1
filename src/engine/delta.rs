//! Changes beside a base: delta pages, as many as their bytes ask for.
//!
//! Beside a base that cannot be read deltas would grow without end, so from some number on they are
//! joined: the newest, down to the first that cannot be read either.
//!
//! Invariants:
//!   * Deleted ranges stand in the first of them, below all that the others say of keys.
//!   * No part of an entry goes while the base stays that has not been read: what is left without
//!     it could be taken for the whole, now, or once the medium gives back what it did not.
//!   * What joined deltas lie over is what the oldest of them lay over.

use super::build::Builder;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{PageEntry, PagePart};
use crate::format::page::{PageBuilder, PageKind, PageMeta};
use crate::ids::{Address, Life};
use crate::limits::VALUE_BYTES_MAX;
use crate::marks::{Mark, mark};
use crate::object::changes::{ChangedKey, Changes};
use crate::object::overlay::{Sorted, Word};
use std::ops::Bound;

/// Deltas beside a damaged base from which on they are joined.
const DELTAS_OF_DAMAGED_MAX: usize = 8;
/// Joined deltas are in memory at once. Where they are more than their base and so many times the
/// dirty budget, they are given up, and the base with them, without which nobody can read them.
const JOINED_PER_BUDGET: usize = 8;
/// What an entry has room for; what would be more is given up in the same way.
const PARTS_MAX: usize = 255;

/// Bytes of a delta page, where that does not make too many pages.
const DELTA_BYTES: usize = 1024 * 1024;
/// How many pages one change becomes at most, while none is as large as a page can be and all are
/// full.
const DELTAS_MAX: usize = 64;
/// What an entry or a range takes in a page beside its keys and its value, at most.
const ENTRY_OVERHEAD_BYTES: usize = 32;

impl Builder<'_> {
    /// The entry with one more delta: what `changes` say inside the bounds. More than one where it
    /// is too much for a page.
    pub(super) fn append_delta(
        &mut self,
        address: Address,
        life: Life,
        (fence, entry): (&[u8], &PageEntry),
        changes: &Changes<'_>,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<PageEntry> {
        mark(Mark::DeltaAppended);
        let mut deltas = Vec::with_capacity(entry.deltas.len() + 1);
        deltas.extend_from_slice(&entry.deltas);
        let mut changed = PageEntry { deltas, ..*entry };
        let (mut changes, until) = (changes, self.until);
        let (sorted, joined);
        if entry.deltas.len() >= DELTAS_OF_DAMAGED_MAX {
            let kept;
            (sorted, kept) = self.join_deltas(address, life, entry, changes)?;
            joined = Changes::of_sorted(&sorted);
            changes = &joined;
            if changes.bytes_between(bounds.0, bounds.1) > self.joined_bytes_max(entry) {
                return self.give_up_base((address, life), entry, &changed, bounds);
            }
            self.until = entry.deltas.get(kept).map_or(until, |oldest| oldest.until);
            for part in changed.deltas.drain(kept..) {
                self.liveness.remove(part.location.file, part.location.bytes);
            }
        }
        let written = write_deltas(self, (address, life, fence), changes, bounds);
        self.until = until;
        changed.deltas.extend(written?);
        if changed.deltas.len() > PARTS_MAX {
            return self.give_up_base((address, life), entry, &changed, bounds);
        }
        let logged: u64 = changed.deltas[entry.deltas.len().min(changed.deltas.len())..]
            .iter()
            .map(|part| u64::from(part.location.bytes))
            .sum();
        changed.logged_since_archived = changed.logged_since_archived.saturating_add(logged);
        Ok(changed)
    }

    /// Bytes that deltas beside a base which cannot be read may have when they are joined. Those
    /// from before it was damaged have less than the base.
    fn joined_bytes_max(&self, entry: &PageEntry) -> usize {
        let budget = self.engine.options.dirty_bytes;
        let base_bytes = entry.base.as_ref().map_or(0, |base| base.location.bytes as usize);
        budget.saturating_mul(JOINED_PER_BUDGET).saturating_add(base_bytes)
    }

    /// What an entry's newest deltas say, with `newer` on top, and how many older ones there are.
    /// One that cannot be read stays, and so do those below it.
    fn join_deltas(
        &self,
        address: Address,
        life: Life,
        entry: &PageEntry,
        newer: &Changes<'_>,
    ) -> Result<(Sorted, usize)> {
        let mut pages = Vec::with_capacity(entry.deltas.len());
        for part in entry.deltas.iter().rev() {
            match self.version.segments.read(part, address, life) {
                Ok(page) => pages.push(page),
                Err(error) if error.kind() == ErrorKind::Corrupt => break,
                Err(error) => return Err(error),
            }
        }
        let mut joined = Sorted::default();
        pages.iter().rev().for_each(|page| joined.absorb_page(page));
        joined.absorb_changes(newer);
        Ok((joined, entry.deltas.len() - pages.len()))
    }

    /// Gives up what an entry had, and what would have been: nobody could read it. Reads of the key
    /// range go on to fail.
    fn give_up_base(
        &mut self,
        (address, life): (Address, Life),
        entry: &PageEntry,
        changed: &PageEntry,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<PageEntry> {
        let mut parts = entry.parts();
        if entry.base.is_some()
            && parts.all(|part| self.archive.read_at_last(part, address, life).is_ok())
        {
            return Err(Error::new(ErrorKind::Io, "io", "a page can be read again"));
        }
        mark(Mark::DamagedBaseGivenUp);
        let key = |bound: Bound<&[u8]>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.to_vec()),
            Bound::Unbounded => None,
        };
        self.archive.entry(life, &(key(from).unwrap_or_default(), key(to)), (entry, None), 0);
        self.release_entry(changed);
        Ok(PageEntry { damaged: true, ..PageEntry::default() })
    }
}

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
    let ranges =
        changes.ranges_between(from, to).iter().map(|(start, end)| start.len() + end.len());
    let all = changed.iter().map(bytes).chain(ranges);
    let total: usize = all.map(|bytes| bytes + ENTRY_OVERHEAD_BYTES).sum();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::{Damage, SimDisk};
    use crate::engine::Engine;
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind, NamespaceNumber, ShortId};
    use crate::names::FileName;
    use crate::object::write_set::WriteSet;
    use crate::options::Options;
    use std::sync::Arc;

    fn put(engine: &Engine, id: u8, key: u8, bytes: usize) -> Address {
        let address = Address { namespace: NamespaceNumber(1), id: ShortId([id; 16]) };
        let mut changes = WriteSet::new();
        let (key, value) = (&[KeyKind::User as u8, key], &vec![id; bytes][..]);
        let put = Operation::Put { key, codec: Codec::Raw, value };
        changes.push(&engine.options.limits, &put).unwrap();
        let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
        engine.with_object(address, commit).unwrap();
        address
    }

    const BUDGET: usize = 16 << 10;

    /// An object to which more than is joined was committed beside a damaged page.
    fn after_too_much(damage: fn(u64) -> Damage) -> (Arc<Engine>, Address) {
        let disk = SimDisk::new(1);
        let options = Options::default().threads(false).dirty_bytes(BUDGET);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let engine = Engine::open(shared, options).unwrap();
        let (hit, other) = (put(&engine, 1, b'a', 3_000), put(&engine, 2, b'a', 3_000));
        engine.checkpoint().unwrap();
        let at = engine.version().head(hit).unwrap().unwrap().page.unwrap().base.unwrap().location;
        disk.damage(FileName::Segment(at.file), damage(at.offset / 512 + 1)).unwrap();
        for key in 1..=8 {
            put(&engine, 1, key, BUDGET);
            engine.checkpoint().unwrap();
            let entry = engine.version().head(hit).unwrap().unwrap().page.unwrap();
            assert!(entry.base.is_some() && entry.deltas.len() == usize::from(key));
        }
        put(&engine, 1, b'b', BUDGET);
        engine.checkpoint().unwrap();
        let version = engine.version();
        let head = version.head(other).unwrap().unwrap();
        version.stack_once(&head.page.unwrap(), other, head.life).unwrap();
        (engine, hit)
    }

    #[test]
    fn too_much_beside_a_page_that_cannot_be_read_is_given_up_with_it() {
        for damage in [Damage::ZeroSector, Damage::Unreadable] {
            let (engine, hit) = after_too_much(damage);
            let version = engine.version();
            let head = version.head(hit).unwrap().unwrap();
            let entry = head.page.unwrap();
            assert!(entry.base.is_none() && entry.deltas.is_empty() && entry.damaged);
            let refused = version.stack_once(&entry, hit, head.life).unwrap_err();
            assert_eq!(refused.code(), "page.lost");
            put(&engine, 1, b'c', 10);
            assert!(engine.checkpoint().unwrap(), "it takes commits all the same");
        }
    }
}

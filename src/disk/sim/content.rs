//! The bytes of one simulated file: what reads see, and what is on the medium.
//!
//! Invariants:
//!   * A sector of a cached page that is neither dirty nor lost equals the medium.
//!   * A copy shares its bytes with the original until one of the two writes.
//!   * A sector reaches the medium whole, but for one that is torn on purpose.

use super::faults::{Chance, Fault};
use super::medium::{Medium, PAGE_BYTES, mixed};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What the medium writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;
const SECTOR: usize = SECTOR_BYTES as usize;
const SECTORS: usize = PAGE_BYTES / SECTOR;

#[derive(Clone, Debug)]
struct CachedPage {
    bytes: [u8; PAGE_BYTES],
    /// For each sector the number of the write that made it dirty; zero when it is not.
    dirty: [u64; SECTORS],
    /// Sectors that a failed sync marked clean although the medium does not have them.
    lost: u8,
}

impl CachedPage {
    fn is_clean(&self) -> bool {
        self.lost == 0 && self.dirty == [0; SECTORS]
    }

    fn holds(&self, sector: usize) -> bool {
        self.dirty[sector] != 0 || self.lost & (1 << sector) != 0
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    medium: Medium,
    pages: BTreeMap<u64, Arc<CachedPage>>,
    pub(super) length: u64,
    pub(super) durable_length: u64,
    /// Bytes from the start that have blocks: writes there never run out of space.
    pub(super) charged: u64,
    /// Open handles and maps.
    pub(super) handles: u32,
    has_lost: bool,
    /// Write-back failed and nobody was told yet.
    pub(super) has_late_error: bool,
    unreadable: BTreeSet<u64>,
    /// Whether anybody said that it need not stay in memory. It stays: reads and crashes find all
    /// that they might find with the hint or without.
    pub(super) bypasses_cache: bool,
}

/// The part of page `number` that lies in `range`, as positions inside the page.
fn overlap(number: u64, range: &Range<u64>) -> Range<usize> {
    let first = number * PAGE_BYTES as u64;
    let start = range.start.saturating_sub(first) as usize;
    let end = (range.end - first).min(PAGE_BYTES as u64) as usize;
    start..end
}

fn pages_of(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64)
}

impl Content {
    /// A file that is wholly on the medium.
    pub(super) fn settled(bytes: &[u8]) -> Self {
        let length = bytes.len() as u64;
        let charged = blocks(length);
        Self {
            medium: Medium::of(bytes),
            length,
            durable_length: length,
            charged,
            ..Self::default()
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        if count == 0 {
            return Ok(0);
        }
        let range = offset..offset + count as u64;
        if !self.unreadable.is_empty() && self.meets_unreadable(&range) {
            return Err(Fault::Io.error());
        }
        let buffer = &mut buffer[..count];
        self.medium.copy_to(buffer, offset);
        if !self.pages.is_empty() {
            for (number, page) in self.pages.range(pages_of(&range)) {
                let part = overlap(*number, &range);
                let at = (number * PAGE_BYTES as u64 + part.start as u64 - offset) as usize;
                buffer[at..at + part.len()].copy_from_slice(&page.bytes[part]);
            }
        }
        Ok(count)
    }

    fn meets_unreadable(&self, range: &Range<u64>) -> bool {
        let sectors = range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES);
        self.unreadable.range(sectors).any(|sector| {
            let page = self.pages.get(&(sector / SECTORS as u64));
            !page.is_some_and(|page| page.holds((sector % SECTORS as u64) as usize))
        })
    }

    /// Writes into the cache; `number` orders this write among all.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, number: u64) {
        if bytes.is_empty() {
            return;
        }
        let range = offset..offset + bytes.len() as u64;
        for page_number in pages_of(&range) {
            let medium = &self.medium;
            let page = self.pages.entry(page_number).or_insert_with(|| {
                let mut bytes = [0; PAGE_BYTES];
                medium.copy_to(&mut bytes, page_number * PAGE_BYTES as u64);
                Arc::new(CachedPage { bytes, dirty: [0; SECTORS], lost: 0 })
            });
            let page = Arc::make_mut(page);
            let part = overlap(page_number, &range);
            let at = (page_number * PAGE_BYTES as u64 + part.start as u64 - offset) as usize;
            page.dirty[part.start / SECTOR..part.end.div_ceil(SECTOR)].fill(number);
            page.bytes[part.clone()].copy_from_slice(&bytes[at..at + part.len()]);
        }
        self.length = self.length.max(range.end);
    }

    /// Brings those dirty sectors of `range` to the medium that `choose` takes.
    pub(super) fn write_back(&mut self, range: &Range<u64>, mut choose: impl FnMut() -> bool) {
        let mut cleaned = false;
        for (number, page) in self.pages.range_mut(pages_of(range)) {
            for sector in 0..SECTORS {
                if page.dirty[sector] != 0 && choose() {
                    let page = Arc::make_mut(page);
                    let bytes = &page.bytes[sector * SECTOR..(sector + 1) * SECTOR];
                    let place = number * SECTORS as u64 + sector as u64;
                    self.medium.put(bytes, place * SECTOR_BYTES);
                    self.unreadable.remove(&place);
                    page.dirty[sector] = 0;
                    page.lost &= !(1 << sector);
                    cleaned = true;
                }
            }
        }
        if cleaned {
            self.pages.retain(|_, page| !page.is_clean());
        }
    }

    pub(super) fn write_back_all(&mut self, choose: impl FnMut() -> bool) {
        self.write_back(&(0..u64::MAX), choose);
    }

    /// Everything dirty, and the length, become durable. What an earlier sync lost stays lost.
    pub(super) fn sync(&mut self) {
        self.write_back_all(|| true);
        self.durable_length = self.length;
    }

    /// A sync that fails: a part reaches the medium, and nothing is dirty afterwards.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance, reverts: bool) {
        let share = [0.0, 0.5, 1.0][chance.below(3) as usize];
        self.write_back_all(|| chance.happens(share));
        if chance.coin() {
            self.durable_length = self.length;
        }
        self.lose(&(0..u64::MAX));
        if reverts {
            self.evict(|| true);
        }
    }

    /// Nothing of `range` is dirty any more, although the medium does not have it.
    fn lose(&mut self, range: &Range<u64>) {
        for (_, page) in self.pages.range_mut(pages_of(range)) {
            for sector in 0..SECTORS {
                if page.dirty[sector] != 0 {
                    let page = Arc::make_mut(page);
                    page.dirty[sector] = 0;
                    page.lost |= 1 << sector;
                    self.has_lost = true;
                }
            }
        }
    }

    /// Write-back that fails: part of `range` reaches the medium, and a later sync tells of it.
    pub(super) fn fail_write_back(&mut self, range: &Range<u64>, chance: &mut Chance) {
        self.write_back(range, || chance.coin());
        let before = std::mem::take(&mut self.has_lost);
        self.lose(range);
        self.has_late_error |= self.has_lost;
        self.has_lost |= before;
    }

    pub(super) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Drops those clean sectors from the cache that `choose` takes.
    pub(super) fn evict(&mut self, mut choose: impl FnMut() -> bool) {
        if !self.has_lost {
            return;
        }
        self.has_lost = false;
        for (number, page) in &mut self.pages {
            for sector in 0..SECTORS {
                if page.dirty[sector] != 0 || page.lost & (1 << sector) == 0 {
                    continue;
                }
                if !choose() {
                    self.has_lost = true;
                    continue;
                }
                let offset = number * PAGE_BYTES as u64 + (sector * SECTOR) as u64;
                let page = Arc::make_mut(page);
                let bytes = &mut page.bytes[sector * SECTOR..(sector + 1) * SECTOR];
                self.medium.copy_to(bytes, offset);
                page.lost &= !(1 << sector);
            }
        }
        self.pages.retain(|_, page| !page.is_clean());
    }

    /// The dirty sectors, each with the number of its write.
    pub(super) fn dirty(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pages.iter().flat_map(|(number, page)| {
            let first = number * SECTORS as u64;
            let numbers = page.dirty.iter().zip(first..);
            numbers.filter(|(write, _)| **write != 0).map(|(write, sector)| (*write, sector))
        })
    }

    /// One dirty sector reaches the medium while the power fails.
    pub(super) fn keep(&mut self, sector: u64) {
        if let Some(page) = self.pages.get(&(sector / SECTORS as u64)) {
            let start = (sector % SECTORS as u64) as usize * SECTOR;
            self.medium.put(&page.bytes[start..start + SECTOR], sector * SECTOR_BYTES);
        }
    }

    /// One dirty sector reaches the medium in part: the bytes in front of a place, or behind it,
    /// beside what was there before or beside rubbish.
    pub(super) fn tear(&mut self, sector: u64, chance: &mut Chance) {
        let start = (sector * SECTOR_BYTES) as usize;
        let mut torn = [0; SECTOR];
        self.medium.copy_to(&mut torn, start as u64);
        if chance.below(4) == 0 {
            torn.fill_with(|| chance.next() as u8);
        }
        self.keep(sector);
        let place = 1 + chance.below(SECTOR_BYTES - 1) as usize;
        let part = if chance.coin() { place..SECTOR } else { 0..place };
        self.medium.put(&torn[part.clone()], (start + part.start) as u64);
    }

    /// The power is gone: what is left is the medium, at this length.
    pub(super) fn forget_cache(&mut self, length: u64) {
        self.pages.clear();
        self.has_lost = false;
        self.has_late_error = false;
        self.medium.truncate(length);
        self.length = length;
        self.durable_length = length;
        self.charged = blocks(length);
        self.handles = 0;
    }

    /// All the bytes, as they are on the medium or as reads see them.
    pub(super) fn image(&self, medium_only: bool) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        self.medium.copy_to(&mut bytes, 0);
        if !medium_only {
            for (number, page) in &self.pages {
                let part = overlap(*number, &(0..self.length));
                let at = *number as usize * PAGE_BYTES;
                bytes[at..at + part.len()].copy_from_slice(&page.bytes[part]);
            }
        }
        bytes
    }

    /// A hash of all the bytes as reads see them.
    pub(super) fn hash(&self) -> u64 {
        let seen = |content: &Self| Medium::of(&content.image(false)).hash();
        let bytes = if self.pages.is_empty() { self.medium.hash() } else { seen(self) };
        mixed(bytes, self.length)
    }

    /// Everything is written back and nothing is cached; then `change` edits the medium.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.sync();
        self.evict(|| true);
        let mut bytes = self.image(true);
        change(&mut bytes);
        self.length = bytes.len() as u64;
        self.medium = Medium::of(&bytes);
        self.durable_length = self.length;
        self.charged = blocks(self.length);
    }

    pub(super) fn set_unreadable(&mut self, sector: u64, is_unreadable: bool) {
        self.edit(|_| {});
        if is_unreadable {
            self.unreadable.insert(sector);
        } else {
            self.unreadable.remove(&sector);
        }
    }
}

/// The bytes of the blocks that `length` bytes need.
pub(super) fn blocks(length: u64) -> u64 {
    length.next_multiple_of(PAGE_BYTES as u64)
}

/// The bytes of the blocks that fit into `free` bytes.
pub(super) fn whole_blocks(free: u64) -> u64 {
    free - free % PAGE_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &Content, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![7; (range.end - range.start) as usize];
        let read = content.read(&mut bytes, range.start).unwrap();
        bytes.truncate(read);
        bytes
    }

    #[test]
    fn reads_see_writes_through_page_and_sector_borders() {
        let mut content = Content::default();
        let mut model = vec![0; 20_000];
        let mut chance = Chance::new(3);
        for number in 1..2000 {
            let start = chance.below(19_000);
            let bytes = vec![number as u8; chance.below(1000) as usize];
            content.write(&bytes, start, number);
            model[start as usize..start as usize + bytes.len()].copy_from_slice(&bytes);
            match chance.below(4) {
                0 => content.sync(),
                1 => content.write_back_all(|| chance.coin()),
                2 => content.evict(|| true),
                _ => {}
            }
            let start = chance.below(content.length);
            let end = (start + chance.below(9000)).min(content.length);
            assert_eq!(read(&content, start..end), model[start as usize..end as usize]);
            assert_eq!(content.image(false), model[..content.length as usize]);
        }
        assert!(read(&content, content.length..content.length + 9).is_empty());
    }

    #[test]
    fn a_torn_sector_is_in_part_new_and_its_neighbours_are_old() {
        let mut rubbish = 0;
        for seed in 0..40 {
            let mut chance = Chance::new(seed);
            let mut content = Content::default();
            content.write(&[1; 4096], 0, 1);
            content.sync();
            content.write(&[2; 4096], 0, 2);
            content.tear(3, &mut chance);
            content.forget_cache(4096);
            let bytes = content.image(true);
            let (torn, others) = (&bytes[1536..2048], [&bytes[..1536], &bytes[2048..]].concat());
            assert!(others.iter().all(|byte| *byte == 1));
            let new: u32 = torn.iter().map(|byte| u32::from(*byte == 2)).sum();
            assert!((1..512).contains(&new), "seed {seed}");
            rubbish += u32::from(torn.iter().any(|byte| *byte > 2));
        }
        assert!((1..40).contains(&rubbish));
    }

    #[test]
    fn a_lost_sector_is_seen_until_it_is_evicted() {
        for seed in 0..20 {
            let mut chance = Chance::new(seed);
            let mut content = Content::default();
            content.write(&[1; 4096], 0, 1);
            content.sync();
            content.write(&[2; 4096], 0, 2);
            content.fail_sync(&mut chance, false);
            content.sync();
            assert_eq!(read(&content, 0..4096), [2; 4096]);
            let medium = content.image(true);
            assert!(medium.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
            content.evict(|| true);
            assert_eq!(read(&content, 0..4096), medium);
        }
    }
}

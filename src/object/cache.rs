//! Pages that cost memory: decompressed ones and first reads. Pages in mapped memory are the
//! operating system's to cache and never enter.
//!
//! Bounded in bytes. Evicts by recency and frequency: a page enters a small queue, and only one
//! that was asked for again there goes on to the main queue, where each use buys it one more round
//! (S3-FIFO, Yang et al., SOSP 2023).
//!
//! Invariants:
//!   * `bytes` is the sum over the pages held, and at most the budget after every call.
//!   * A page's place names its content for ever, so an entry is never stale.

use crate::error::Result;
use crate::format::entry::{PageLocation, PagePart};
use crate::format::page::Page;
use crate::ids::{Address, Life};
use crate::segment::SegmentSet;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

const SHARDS: usize = 16;

type Place = (u64, u64);

/// A bounded cache of pages, shared by all objects.
#[derive(Debug)]
pub struct PageCache {
    /// Leaf locks: nothing is read and nobody waited for while one is held.
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    pages: HashMap<Place, Cached>,
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    bytes: usize,
    small_bytes: usize,
    budget: usize,
}

#[derive(Debug)]
struct Cached {
    page: Page,
    bytes: usize,
    uses: u8,
    is_main: bool,
}

impl PageCache {
    /// A cache of at most `budget` bytes.
    pub fn new(budget: usize) -> Self {
        let shard = || Mutex::new(Shard { budget: budget / SHARDS, ..Shard::default() });
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    /// The page that `part` names, from memory or from its segment.
    pub fn read(
        &self,
        segments: &SegmentSet,
        part: &PagePart,
        address: Address,
        life: Life,
    ) -> Result<Page> {
        if let Some(page) = self.find(part, address, life) {
            return Ok(page);
        }
        let page = segments.read(part, address, life)?;
        let (place, bytes) = (place(&part.location), page.heap_bytes());
        if bytes > 0 {
            self.shard(place).lock().insert(place, page.clone(), bytes);
        }
        Ok(page)
    }

    /// The same, if it is in memory.
    pub fn find(&self, part: &PagePart, address: Address, life: Life) -> Option<Page> {
        let place = place(&part.location);
        let cached = self.shard(place).lock().get(place);
        // Whoever else the place is named for is told so by the segment.
        let is_own = |page: &Page| (page.header().address, page.header().life) == (address, life);
        cached.filter(is_own)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    fn shard(&self, (file, offset): Place) -> &Mutex<Shard> {
        let mixed = (file ^ (offset >> 3)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.shards[usize::try_from(mixed >> 60).unwrap_or(0) % SHARDS]
    }
}

fn place(location: &PageLocation) -> Place {
    (location.file.0, location.offset)
}

impl Shard {
    fn get(&mut self, place: Place) -> Option<Page> {
        let cached = self.pages.get_mut(&place)?;
        cached.uses = (cached.uses + 1).min(3);
        Some(cached.page.clone())
    }

    fn insert(&mut self, place: Place, page: Page, bytes: usize) {
        if bytes > self.budget || self.pages.contains_key(&place) {
            return;
        }
        self.pages.insert(place, Cached { page, bytes, uses: 0, is_main: false });
        self.small.push_back(place);
        self.bytes += bytes;
        self.small_bytes += bytes;
        while self.bytes > self.budget {
            self.evict_one();
        }
    }

    fn evict_one(&mut self) {
        let from_small = self.small_bytes > self.budget / 10 || self.main.is_empty();
        let queue = if from_small { &mut self.small } else { &mut self.main };
        let Some(place) = queue.pop_front() else { return };
        let Some(cached) = self.pages.get_mut(&place) else { return };
        if cached.uses > 0 {
            if cached.is_main {
                cached.uses -= 1;
            } else {
                cached.uses = 0;
                cached.is_main = true;
                self.small_bytes -= cached.bytes;
            }
            self.main.push_back(place);
            return;
        }
        self.bytes -= cached.bytes;
        if !cached.is_main {
            self.small_bytes -= cached.bytes;
        }
        self.pages.remove(&place);
    }
}

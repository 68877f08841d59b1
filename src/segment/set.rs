//! The segments of a store: opened when first wanted, at most so many at once.
//!
//! Invariants:
//!   * A page holds the map that it lies in: closing or removing a segment takes nothing away from
//!     whoever reads.
//!   * `slots` and a slot's `open` are leaf locks. A slot's lock is waited for only by who holds
//!     neither; who holds `slots` only tries it. No file is opened or read under either.

use super::dictionary::{self, Dictionary};
use super::reader::{OpenSegment, Touched};
use super::scan::Scan;
use super::walked::Walked;
use super::{PAGES_AT, corrupt};
use crate::disk::ReadDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{PageLocation, PagePart};
use crate::format::page::{BuiltPage, Packed, Page, SegmentFacts};
use crate::ids::{Address, FileNumber, Life, StoreId};
use crate::locks::RwLock;
use crate::planted::{Mistake, planted};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// How many segments are open at once.
pub const OPEN_SEGMENTS_MAX: usize = 64;

/// Every live segment of a store.
#[derive(Debug)]
pub struct SegmentSet {
    disk: Arc<dyn ReadDisk>,
    store: StoreId,
    slots: RwLock<BTreeMap<FileNumber, Arc<Slot>>>,
    /// Segments opened so far: the clock that tells which of the open ones was used last.
    opened: AtomicU64,
    /// Equal dictionaries of several files are one in memory.
    dictionaries: Mutex<Vec<Weak<Dictionary>>>,
    walked: Walked,
}

#[derive(Debug)]
struct Slot {
    facts: SegmentFacts,
    open: RwLock<Option<Arc<OpenSegment>>>,
    used: AtomicU64,
    /// Made when the file is opened: nothing is taken for what is only said of its length.
    touched: OnceLock<Touched>,
}

impl SegmentSet {
    /// No segments yet.
    pub fn new(disk: Arc<dyn ReadDisk>, store: StoreId) -> Self {
        Self {
            disk,
            store,
            slots: RwLock::default(),
            opened: AtomicU64::new(0),
            dictionaries: Mutex::default(),
            walked: Walked::new(),
        }
    }

    /// From now on, this segment may be read. It is not looked at before it is. One that could be
    /// read already stays open, and what is known to be in memory stays known.
    pub fn add(&self, facts: &SegmentFacts) {
        let fresh = || Slot {
            facts: *facts,
            open: RwLock::new(None),
            used: AtomicU64::new(0),
            touched: OnceLock::new(),
        };
        self.slots.write().entry(facts.number).or_insert_with(|| Arc::new(fresh()));
    }

    /// Forgets a segment. Its pages in memory stay; the file is the caller's to remove.
    pub fn remove(&self, number: FileNumber) {
        self.slots.write().remove(&number);
    }

    /// Memory is short: what was read lately may have left it, so the map is not trusted to be
    /// faster than a read call.
    pub fn hint_memory_short(&self) {
        for touched in self.slots.read().values().filter_map(|slot| slot.touched.get()) {
            touched.clear();
        }
    }

    /// Reads a page of an object that an entry of the directory names.
    pub fn read(&self, part: &PagePart, address: Address, life: Life) -> Result<Page> {
        let location = &part.location;
        let page = self.page(location).map_err(|error| about(error, address))?;
        let header = page.header();
        if header.address != address && !planted(Mistake::UncheckedObject) {
            return Err(wrong("page.object", "page of another object", address, location));
        }
        if header.life != life && !planted(Mistake::EarlierLife) {
            return Err(wrong("page.life", "page of another life", address, location));
        }
        // Counts differ in meaning: a page counts its entries, an entry the user's keys among them.
        let same = (header.exact_at, header.until, header.dictionary)
            == (part.exact_at, part.until, part.dictionary);
        if !same {
            return Err(wrong("page.entry", "page differs from its entry", address, location));
        }
        Ok(page)
    }

    /// Reads whatever page is at a place: for tools, and for the cleaner's own checks.
    pub fn page(&self, location: &PageLocation) -> Result<Page> {
        let slot = self.slot(location.file)?;
        let open = self.open(&slot)?;
        let touched = slot.touched.get_or_init(|| Touched::new(open.mapped_bytes()));
        open.page(location, (touched, &self.walked), &|bytes| self.intern(bytes))
    }

    /// Whether a page is byte for byte the one that was written at a place, by the checksum that
    /// the directory keeps of that one. None where nobody can tell: what was compressed may have
    /// been so by another build.
    pub fn is_same(&self, part: &PagePart, page: &BuiltPage) -> Result<Option<bool>> {
        let PageLocation { file, offset, bytes, crc } = part.location;
        let open = self.open(&*self.slot(file)?)?;
        let stored = |packed: Packed<'_>| {
            let mut stored = Vec::new();
            let sum = page.store(packed, open.seed(offset), &mut stored);
            (stored.len() == bytes as usize).then_some(sum == crc)
        };
        if let Some(is_same) = stored(Packed::Raw) {
            return Ok(Some(is_same));
        }
        let dictionary = match part.dictionary {
            0 => None,
            id => Some(open.dictionary(id, &|bytes| self.intern(bytes))?),
        };
        let mut frame = Vec::new();
        let most = page.body.len().saturating_sub(1);
        if !dictionary::compress(dictionary.as_deref(), &page.body, most, &mut frame) {
            return Ok(None);
        }
        let packed = Packed::Zstd { dictionary: part.dictionary, frame: &frame };
        Ok(stored(packed).filter(|is_same| *is_same))
    }

    /// The dictionary with this id in a segment.
    pub fn dictionary(&self, number: FileNumber, id: u32) -> Result<Arc<Dictionary>> {
        let open = self.open(&*self.slot(number)?)?;
        open.dictionary(id, &|bytes| self.intern(bytes))
    }

    /// Every page of a segment, in the order of the file. What is damaged is an error in its
    /// place, and the scan goes on behind it.
    pub fn scan(&self, number: FileNumber) -> Result<Scan> {
        let open = self.open(&*self.slot(number)?)?;
        let end = PAGES_AT.saturating_add(open.facts().page_bytes);
        Scan::new(open, PAGES_AT..end)
    }

    /// The footer and the dictionaries of a segment are what was written.
    pub fn verify_ends(&self, number: FileNumber) -> Result<()> {
        let open = self.open(&*self.slot(number)?)?;
        open.verify_ends(&|bytes| self.intern(bytes))
    }

    /// What stands behind the pages of a segment and is damaged: where, and whether no other copy
    /// is left.
    pub fn damaged_ends(&self, number: FileNumber) -> Result<Vec<(Range<u64>, bool)>> {
        self.open(&*self.slot(number)?)?.damaged_ends()
    }

    fn slot(&self, number: FileNumber) -> Result<Arc<Slot>> {
        let found = self.slots.read().get(&number).map(Arc::clone);
        found.ok_or_else(|| {
            corrupt("segment.unknown", "an entry names a segment that is not live", number, 0)
        })
    }

    fn open(&self, slot: &Slot) -> Result<Arc<OpenSegment>> {
        let now = self.opened.load(Ordering::Relaxed);
        // A store to a line that all readers share is worth it only when it changes something.
        if slot.used.load(Ordering::Relaxed) != now {
            slot.used.store(now, Ordering::Relaxed);
        }
        if let Some(open) = &*slot.open.read() {
            return Ok(Arc::clone(open));
        }
        let fresh = Arc::new(OpenSegment::open(&*self.disk, self.store, slot.facts)?);
        let open = Arc::clone(slot.open.write().get_or_insert(fresh));
        slot.used.store(self.opened.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.close_some(slot.facts.number);
        Ok(open)
    }

    /// Closes the segments that were not used for longest, while too many are open.
    fn close_some(&self, keep: FileNumber) {
        let slots = self.slots.read();
        let is_open = |slot: &&Arc<Slot>| slot.open.try_read().is_none_or(|open| open.is_some());
        let mut open: Vec<_> = slots.values().filter(is_open).collect();
        open.sort_by_key(|slot| slot.used.load(Ordering::Relaxed));
        let excess = open.len().saturating_sub(OPEN_SEGMENTS_MAX);
        for slot in open.into_iter().filter(|slot| slot.facts.number != keep).take(excess) {
            if let Some(mut open) = slot.open.try_write() {
                *open = None;
            }
        }
    }

    fn intern(&self, bytes: &[u8]) -> Arc<Dictionary> {
        let mut known = self.dictionaries.lock();
        known.retain(|one| one.strong_count() > 0);
        let found = known.iter().filter_map(Weak::upgrade).find(|one| one.bytes() == bytes);
        found.unwrap_or_else(|| {
            let fresh = Arc::new(Dictionary::new(bytes.to_vec()));
            known.push(Arc::downgrade(&fresh));
            fresh
        })
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.slots.read().values().filter(|slot| slot.open.read().is_some()).count()
    }
}

/// Says whose page it was that is damaged.
#[cold]
fn about(error: Error, address: Address) -> Error {
    let (ErrorKind::Corrupt, Some(place)) = (error.kind(), error.place().cloned()) else {
        return error;
    };
    let Address { namespace, id } = address;
    let why = if error.is_unreadable() { "cannot be read" } else { "is not what was written" };
    let what = format!("page of object {id} in namespace {namespace} {why}");
    Error::corrupt(error.code(), what, place).caused_by(error)
}

#[cold]
fn wrong(code: &'static str, what: &str, address: Address, location: &PageLocation) -> Error {
    let what = format!("{what}, wanted for {} in namespace {}", address.id, address.namespace);
    corrupt(code, what, location.file, location.offset)
}

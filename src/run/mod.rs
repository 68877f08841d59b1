//! Sorted runs: immutable files of entries in the order of their keys, mapped and searched there.
//!
//! Read [`writer`] for how one comes to be, then [`Run`]; `index` and `filter` find a block, and
//! [`cursor`] walks over entries and over what damage left of them.
//!
//! Invariants:
//!   * A run is what its facts in the manifest say, or it does not open.
//!   * No byte of a block is looked at before the block's checksum was right once in this run.
//!   * Where entries were lost a question fails; it is never answered with "absent".
//!   * Bytes that the medium does not give, asked twice, are damage with a code of its own.

pub mod cursor;
pub mod examine;
mod filter;
mod index;
#[cfg(test)]
pub(crate) mod testing;
pub mod writer;

pub use cursor::{RunCursor, RunItem, RunIter};
pub(crate) use filter::AddressHash;
pub(crate) use index::TOO_LARGE;
pub use writer::RunWriter;

use crate::disk::bytes::SharedBytes;
use crate::disk::streamed::Streamed;
use crate::disk::{Map, ReadDisk, ReadFile, ask_twice, is_unreadable};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::block::{Block, block_is_whole};
use crate::format::header::{
    FileKind, HEADER_BLOCK_BYTES, HEADER_BYTES, Header, HeaderFault, SECOND_COPY_OFFSET,
};
use crate::format::run::{FOOTER_BYTES, Footer, Hole, RunFacts, Section, decode_holes};
use crate::format::{Malformed, checksum, place_seed};
use crate::ids::{Address, StoreId};
use crate::names::FileName;
use cursor::Position;
use filter::Filter;
use index::Index;
use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the first block of a run begins.
const HEADER_END: usize = 4096;

const _: () = assert!(HEADER_END as u64 == HEADER_BLOCK_BYTES);

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// An open run.
#[derive(Debug)]
pub struct Run {
    facts: RunFacts,
    header: Header,
    addresses: u64,
    map: Arc<dyn Map>,
    index: Index,
    filter: Filter,
    holes: Vec<Hole>,
    /// Where the list of them stands in the file.
    holes_at: u64,
    /// A bit for each block whose checksum was right; empty where the map shares no memory, so
    /// that each reading is a new copy and is checked.
    verified: Box<[AtomicU64]>,
}

impl Run {
    /// Opens the run that the manifest describes. Its blocks are not read.
    pub fn open(disk: &dyn ReadDisk, store: StoreId, facts: &RunFacts) -> Result<Arc<Self>> {
        let file = file_of(disk, facts)?;
        let map = ask_twice(|| file.map(facts.bytes));
        let map = map.map_err(|error| unread(FileName::Run(facts.number), 0, error))?;
        Self::from_map(map, store, facts)
    }

    /// Opens it for one walk over all of its blocks, behind which it will hardly be read again:
    /// index and filter are in memory, and the blocks pass by the system's cache.
    pub fn open_to_walk(
        disk: &dyn ReadDisk,
        store: StoreId,
        facts: &RunFacts,
    ) -> Result<Arc<Self>> {
        let file = file_of(disk, facts)?;
        Self::from_map(Arc::new(Streamed::new(file, facts.bytes)), store, facts)
    }

    /// Asks for what an open of the run will read, so that several are read at the same time. A
    /// hint: the open that follows judges what it finds.
    pub fn prefetch(disk: &dyn ReadDisk, facts: &RunFacts) {
        let Ok(file) = disk.open(FileName::Run(facts.number)) else { return };
        let Ok(map) = file.map(facts.bytes) else { return };
        // Index and filter take about a thirtieth of a run; the footer is behind them.
        let tail = (facts.bytes / 24).max(16 << 10).min(facts.bytes);
        map.will_need(0..HEADER_BLOCK_BYTES.min(facts.bytes));
        map.will_need(facts.bytes - tail..facts.bytes);
    }

    /// Opens a run whose file is mapped.
    pub fn from_map(map: Arc<dyn Map>, store: StoreId, facts: &RunFacts) -> Result<Arc<Self>> {
        let name = FileName::Run(facts.number);
        let damaged = |code, Malformed(what): Malformed, offset| {
            Error::corrupt(code, what, Place::new(name, offset))
        };
        let least = (HEADER_END + FOOTER_BYTES) as u64;
        if map.bytes() != facts.bytes || facts.bytes < least {
            return Err(damaged("run.length", Malformed("a run of another length"), 0));
        }
        let header = header(&*map, name)?;
        if header.store != store || header.number != facts.number {
            return Err(damaged("run.foreign", Malformed("a run of another store or number"), 0));
        }
        let footer_at = facts.bytes - FOOTER_BYTES as u64;
        let footer = slice(&*map, footer_at, facts.bytes, name)?;
        let (footer, sum) = Footer::decode(&footer, seed(&header, footer_at))
            .map_err(|fault| damaged("run.footer", fault, footer_at))?;
        if sum != facts.checksum || footer.usage != facts.usage || footer.entries != facts.entries {
            let what = Malformed("not the run that the manifest means");
            return Err(damaged("run.foreign", what, footer_at));
        }
        // Index, filter and holes stand side by side, and all of them are checked now.
        map.will_need(footer.index.offset..footer_at);
        let section = |section: &Section| read_section(&map, &header, section, name);
        let blocks_at = HEADER_BLOCK_BYTES..footer.index.offset;
        let index = Index::new(section(&footer.index)?, &blocks_at)
            .map_err(|fault| damaged("run.index", fault, footer.index.offset))?;
        let filter = Filter::new(section(&footer.filter)?)
            .filter(|filter| filter.has_room_for(footer.addresses))
            .ok_or(Malformed("not a filter of so many addresses"));
        let filter = filter.map_err(|fault| damaged("run.filter", fault, footer.filter.offset))?;
        let holes = decode_holes(&section(&footer.holes)?)
            .map_err(|fault| damaged("run.holes", fault, footer.holes.offset))?;
        let words = if map.memory().is_some() { index.blocks().div_ceil(64) } else { 0 };
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        let (facts, addresses, holes_at) = (*facts, footer.addresses, footer.holes.offset);
        let run = Self { facts, header, addresses, map, index, filter, holes, holes_at, verified };
        Ok(Arc::new(run))
    }

    /// Asks for the whole run to be brought into memory. A hint.
    pub fn will_need(&self) {
        self.map.will_need(0..self.map.bytes());
    }

    /// What the manifest says of the run.
    pub fn facts(&self) -> &RunFacts {
        &self.facts
    }

    /// Distinct addresses that begin keys of the run.
    pub fn addresses(&self) -> u64 {
        self.addresses
    }

    /// Ranges of keys that were lost to damage before the run was written.
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Blocks in the run.
    pub fn blocks(&self) -> usize {
        self.index.blocks()
    }

    /// Where a block is, and its first and last key.
    pub fn block_at(&self, number: usize) -> (Range<u64>, &[u8], &[u8]) {
        let (first, last) = (self.index.first_key(number), self.index.last_key(number));
        (self.index.block_range(number), first, last)
    }

    /// The file.
    pub fn name(&self) -> FileName {
        FileName::Run(self.facts.number)
    }

    /// Whether the run may have something to say about an address. Denies it rightly always, and
    /// affirms it wrongly once in a hundred times.
    pub fn may_hold(&self, address: &Address) -> bool {
        self.may_hold_hash(AddressHash::new(address), address)
    }

    pub(crate) fn may_hold_hash(&self, hash: AddressHash, address: &Address) -> bool {
        self.filter.may_hold(hash) || (!self.holes.is_empty() && self.lost(&address.to_bytes()))
    }

    /// The same for what begins a key.
    pub(crate) fn may_hold_start_of(&self, key: &[u8]) -> bool {
        let start = &key[..key.len().min(Address::BYTES)];
        self.filter.may_hold(AddressHash::of_key(start)) || self.lost(start)
    }

    /// Whether a hole covers a key that begins with `prefix`.
    #[cold]
    fn lost(&self, prefix: &[u8]) -> bool {
        self.holes.iter().any(|hole| {
            let begins = hole.first.as_slice() <= prefix || hole.first.starts_with(prefix);
            begins && prefix <= hole.last.as_slice()
        })
    }

    /// Hands the value of `key` to `read`. Fails where the key was lost to damage.
    pub fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        if let Some(number) = self.index.block_for(key) {
            let bytes = match self.block(number) {
                Err(_) if key > self.index.last_key(number) => return self.absent(key),
                bytes => bytes?,
            };
            let found = Block::parse(&*bytes).and_then(|block| {
                let value = block.find(key)?;
                Ok(value.map(read))
            });
            if let Some(answer) = found.map_err(|fault| self.malformed(number, fault))? {
                return Ok(Some(answer));
            }
        }
        self.absent(key)
    }

    /// The answer for a key without an entry.
    fn absent<R>(&self, key: &[u8]) -> Result<Option<R>> {
        if self.holes.is_empty() || !self.holes.iter().any(|hole| hole.covers(key)) {
            return Ok(None);
        }
        Err(self.hidden())
    }

    /// The last entry whose key is at most `key`.
    pub fn floor(&self, key: &[u8]) -> Result<Option<KeyValue>> {
        let mut cursor = self.cursor();
        cursor.seek_floor(key)?;
        let found = entry(&cursor)?;
        let low = found.as_ref().map(|(low, _)| low.as_slice());
        let hides = |hole: &Hole| {
            hole.first.as_slice() <= key
                && low.is_none_or(|low| low < key && low < hole.last.as_slice())
        };
        if self.holes.iter().any(hides) { Err(self.hidden()) } else { Ok(found) }
    }

    /// The first entry whose key is at least `key`.
    pub fn ceiling(&self, key: &[u8]) -> Result<Option<KeyValue>> {
        let mut cursor = self.cursor();
        cursor.seek_ceiling(key)?;
        let found = entry(&cursor)?;
        let high = found.as_ref().map(|(high, _)| high.as_slice());
        let hides = |hole: &Hole| {
            hole.last.as_slice() >= key
                && high.is_none_or(|high| high > key && high > hole.first.as_slice())
        };
        if self.holes.iter().any(hides) { Err(self.hidden()) } else { Ok(found) }
    }

    /// Walks over everything in the order of keys.
    pub fn iter(&self) -> RunIter<'_> {
        RunIter::new(self, &[])
    }

    /// Walks over everything from `key` on: the first entry is at or above it, and a hole that
    /// reaches up to it comes first.
    pub fn iter_from(&self, key: &[u8]) -> RunIter<'_> {
        RunIter::new(self, key)
    }

    /// A cursor that is nowhere yet.
    pub fn cursor(&self) -> RunCursor<'_> {
        RunCursor::new(self)
    }

    /// Checks every block; hands out where a damaged one is, and the keys between which it lies.
    pub fn verify(&self, mut damaged: impl FnMut(Error, Range<u64>, &[u8], &[u8])) -> Result<()> {
        for number in 0..self.index.blocks() {
            match self.check_block(number) {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let (range, first, last) = self.block_at(number);
                    damaged(error, range, first, last);
                }
                checked => checked?,
            }
        }
        Ok(())
    }

    /// Checks one block, whatever was found of it before.
    pub fn check_block(&self, number: usize) -> Result<()> {
        let range = self.index.block_range(number);
        let bytes = slice(&*self.map, range.start, range.end, self.name())?;
        let is_whole = block_is_whole(&bytes, seed(&self.header, range.start));
        if is_whole { Ok(()) } else { Err(self.malformed(number, CHECKSUM_DIFFERS)) }
    }

    /// The bytes of a block, checked.
    fn block(&self, number: usize) -> Result<Cow<'_, [u8]>> {
        let range = self.index.block_range(number);
        let start = range.start;
        let bytes = slice(&*self.map, start, range.end, self.name())?;
        let bit = 1u64 << (number % 64);
        let word = self.verified.get(number / 64);
        if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(bytes);
        }
        if !block_is_whole(&bytes, seed(&self.header, start)) {
            return Err(self.malformed(number, CHECKSUM_DIFFERS));
        }
        if let Some(word) = word {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    #[cold]
    fn malformed(&self, block: usize, fault: Malformed) -> Error {
        let offset = self.index.block_range(block).start;
        Error::corrupt("run.block", fault.0, Place::new(self.name(), offset))
    }

    /// What a question that a hole hides gets.
    #[cold]
    pub(crate) fn hidden(&self) -> Error {
        self.hidden_at(self.holes_at)
    }

    /// The same where the damage stands at `offset`.
    #[cold]
    fn hidden_at(&self, offset: u64) -> Error {
        let what = "what a run says here was lost to damage";
        Error::corrupt("run.hole", what, Place::new(self.name(), offset))
    }

    /// For an entry that no version writes.
    #[cold]
    pub(crate) fn bad_entry(&self, fault: Malformed) -> Error {
        Error::corrupt("run.entry", fault.0, Place::new(self.name(), 0))
    }
}

impl<'a> IntoIterator for &'a Run {
    type Item = Result<RunItem>;
    type IntoIter = RunIter<'a>;

    fn into_iter(self) -> RunIter<'a> {
        self.iter()
    }
}

fn entry(cursor: &RunCursor<'_>) -> Result<Option<KeyValue>> {
    match cursor.position() {
        Position::Outside => Ok(None),
        Position::Entry(key, value) => Ok(Some((key.to_vec(), value.to_vec()))),
        Position::Damaged(..) => Err(cursor.hidden()),
    }
}

const CHECKSUM_DIFFERS: Malformed = Malformed("block checksum differs");

/// The seed of what stands at `offset` of the run with this header.
fn seed(header: &Header, offset: u64) -> u64 {
    place_seed(header.salt, header.number.0, offset)
}

fn slice(map: &dyn Map, start: u64, end: u64, name: FileName) -> Result<Cow<'_, [u8]>> {
    ask_twice(|| map.slice(start..end)).map_err(|error| unread(name, start, error))
}

/// The file of the run that has these facts, which has their length.
fn file_of(disk: &dyn ReadDisk, facts: &RunFacts) -> Result<Arc<dyn ReadFile>> {
    let name = FileName::Run(facts.number);
    let (file, bytes) = open_file(disk, name)?;
    if bytes != facts.bytes {
        let what = format!("a run has {bytes} bytes, not {}", facts.bytes);
        return Err(Error::corrupt("run.length", what, Place::new(name, 0)));
    }
    Ok(file)
}

/// The file of a run, and its length.
fn open_file(disk: &dyn ReadDisk, name: FileName) -> Result<(Arc<dyn ReadFile>, u64)> {
    let opened = ask_twice(|| disk.open(name));
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::corrupt("run.missing", "a run is missing", Place::new(name, 0))
        }
        _ => unread(name, 0, error),
    })?;
    let bytes = ask_twice(|| file.bytes()).map_err(|error| unread(name, 0, error))?;
    Ok((file, bytes))
}

/// Why what stands at `offset` of a run cannot be had.
#[cold]
fn unread(name: FileName, offset: u64, error: io::Error) -> Error {
    if is_unreadable(&error) {
        let what = "the medium does not give a part of a run back";
        return Error::corrupt("run.unreadable", what, Place::new(name, offset)).caused_by(error);
    }
    Error::io(format!("reading {name}"), error)
}

/// One bad sector does not orphan the run: either copy of the header will do.
fn header(map: &dyn Map, name: FileName) -> Result<Header> {
    let copy = |at: usize| {
        let bytes = slice(map, at as u64, (at + HEADER_BYTES) as u64, name)?;
        Header::decode(&bytes, FileKind::Run).map_err(|fault| header_error(fault, name))
    };
    copy(0).or_else(|first| copy(SECOND_COPY_OFFSET).map_err(|_| first))
}

#[cold]
fn header_error(fault: HeaderFault, name: FileName) -> Error {
    match fault {
        HeaderFault::Malformed(what) => Error::corrupt("run.header", what, Place::new(name, 0)),
        HeaderFault::Unsupported { version, features } => {
            let what = format!("a run of format {version} with features {features:#x}");
            Error::new(ErrorKind::Unsupported, "run.version", what).at(Place::new(name, 0))
        }
    }
}

fn read_section(
    map: &Arc<dyn Map>,
    header: &Header,
    section: &Section,
    name: FileName,
) -> Result<SharedBytes> {
    let damaged = |what| Error::corrupt("run.section", what, Place::new(name, section.offset));
    let end = section.offset.checked_add(section.bytes);
    let end = end.filter(|end| *end <= map.bytes() && section.offset >= HEADER_BLOCK_BYTES);
    let end = end.ok_or_else(|| damaged("a section outside its file"))?;
    let bytes = ask_twice(|| SharedBytes::from_map(map, section.offset..end))
        .map_err(|error| unread(name, section.offset, error))?;
    if checksum(seed(header, section.offset), &bytes) != section.crc {
        return Err(damaged("section checksum differs"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

//! Opens a run as far as it goes: what is damaged of its frame is made anew from its blocks, and
//! each damage is told with its bytes.
//!
//! An engine never uses such a run: it answers what is left, and says of nothing that it is absent
//! that may have been lost.
//!
//! Invariants:
//!   * A block found without the index passed its checksum at its place, and ascends.
//!   * Where blocks may be missing there is a hole.
//!   * Where the run may have had holes that cannot be read, all of it is one.

use super::filter::Filter;
use super::index::{Index, IndexBuilder};
use super::writer::{SECTION_ALIGNMENT, joined};
use super::{HEADER_END, Run, header, open_file, read_section, seed, slice, unread};
use crate::disk::bytes::SharedBytes;
use crate::disk::{Map, ReadDisk, ask_twice};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::block::{BLOCK_ALIGNMENT, Block, BlockCursor, block_is_whole};
use crate::format::header::{FileKind, HEADER_BYTES, Header, SECOND_COPY_OFFSET};
use crate::format::run::{FOOTER_BYTES, Footer, Hole, RunFacts, RunUse, Section, decode_holes};
use crate::ids::{FileNumber, StoreId};
use crate::limits::BLOCK_BYTES_MAX;
use crate::names::FileName;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const BLOCKS: &str = "blocks are damaged";
const HOLES: &str = "the list of earlier losses is damaged";

/// A list of holes that has none.
const NO_HOLES: [u8; 1] = [0];

/// Above every key of a run.
const ABOVE_KEYS: [u8; 64] = [0xFF; 64];

/// What a damage takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Nothing: the bytes stand twice, or stand for nothing.
    None,
    /// The run does not open, though no entry is lost.
    Opening,
    /// Entries are lost, or may be.
    Entries,
}

/// A damage of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wound {
    /// The damaged bytes: as many as one checksum covers.
    pub range: Range<u64>,
    /// What they are.
    pub what: &'static str,
    /// What follows.
    pub harm: Harm,
    /// Of lost entries, between which keys they stood, both included.
    pub keys: Option<(Vec<u8>, Vec<u8>)>,
}

/// A run, opened as far as it goes.
#[derive(Debug)]
pub struct Examined {
    /// What is left of it.
    pub run: Arc<Run>,
    /// What is damaged of its frame. Blocks that the index knows are not looked at.
    pub wounds: Vec<Wound>,
    /// Where the last block ends if there is no footer.
    pub open_end: Option<u64>,
}

/// Opens a run of which anything may be damaged. Fails only where nothing of it can be used: it is
/// missing, foreign, of another version, or has lost both copies of its header.
///
/// `facts` are what the manifest says; without them the footer is believed.
pub fn examine(
    disk: &dyn ReadDisk,
    store: StoreId,
    number: FileNumber,
    facts: Option<&RunFacts>,
) -> Result<Examined> {
    let name = FileName::Run(number);
    let damaged = |code, what| Error::corrupt(code, what, Place::new(name, 0));
    let (file, bytes) = open_file(disk, name)?;
    if bytes < HEADER_END as u64 {
        return Err(damaged("run.length", "a run without a header"));
    }
    let map = ask_twice(|| file.map(bytes)).map_err(|error| unread(name, 0, error))?;
    let header = header(&*map, name)?;
    if header.store != store || header.number != number {
        return Err(damaged("run.foreign", "a run of another store or number"));
    }
    let end = facts.map_or(bytes, |facts| facts.bytes);
    let mut exam = Exam { map, header, name, bytes, end, checksum: 0, wounds: Vec::new() };
    exam.check_header()?;
    exam.check_length();
    let footer = exam.footer(facts)?;
    exam.assemble(footer, facts)
}

/// What stands for a run of which nothing can be used: it says of everything that it was lost.
#[must_use]
pub fn lost(facts: &RunFacts) -> Arc<Run> {
    let header = Header {
        kind: FileKind::Run,
        store: StoreId::default(),
        number: facts.number,
        term: crate::ids::Term(0),
        salt: 0,
        writer_features: 0,
    };
    let index = IndexBuilder::default().assemble(HEADER_END as u64);
    let filter = Filter::new(SharedBytes::from(vec![0xFF; 32]));
    let (Ok(index), Some(filter)) = (index, filter) else {
        unreachable!("an empty index and a full filter are right")
    };
    let holes = vec![everything()];
    let (facts, map, verified) = (*facts, Arc::new(NoMap), Box::default());
    let (addresses, holes_at) = (0, 0);
    Arc::new(Run { facts, header, addresses, map, index, filter, holes, holes_at, verified })
}

fn everything() -> Hole {
    Hole { first: Vec::new(), last: ABOVE_KEYS.to_vec() }
}

/// The map of a file that is not there.
#[derive(Debug)]
struct NoMap;

impl Map for NoMap {
    fn slice(&self, _range: Range<u64>) -> io::Result<std::borrow::Cow<'_, [u8]>> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn memory(&self) -> Option<&[u8]> {
        None
    }

    fn bytes(&self) -> u64 {
        0
    }
}

struct Exam {
    map: Arc<dyn Map>,
    header: Header,
    name: FileName,
    /// Of the file as it is.
    bytes: u64,
    /// Where the run ends as it was written.
    end: u64,
    /// That of the footer, once it was read.
    checksum: u32,
    wounds: Vec<Wound>,
}

/// What a search for blocks finds.
#[derive(Default)]
struct Search {
    index: IndexBuilder,
    entries: u64,
    /// Where the last block ends.
    end: u64,
    last_key: Option<Vec<u8>>,
    holes: Vec<Hole>,
}

impl Exam {
    fn wound(&mut self, range: Range<u64>, what: &'static str, harm: Harm) {
        self.wounds.push(Wound { range, what, harm, keys: None });
    }

    fn lose(&mut self, range: Range<u64>, what: &'static str, hole: &Hole) {
        let keys = Some((hole.first.clone(), hole.last.clone()));
        self.wounds.push(Wound { range, what, harm: Harm::Entries, keys });
    }

    /// Bytes of the file; none where the medium does not give them.
    fn bytes_of(&self, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        match slice(&*self.map, range.start, range.end, self.name) {
            Ok(bytes) => Ok(Some(bytes.into_owned())),
            Err(error) if error.is_unreadable() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_header(&mut self) -> Result<()> {
        for at in [0, SECOND_COPY_OFFSET as u64] {
            let half = at..at + SECOND_COPY_OFFSET as u64;
            let bytes = self.bytes_of(half.clone())?;
            let is_right = |bytes: Vec<u8>| {
                Header::decode(&bytes, FileKind::Run).is_ok()
                    && RunUse::from_byte(bytes[HEADER_BYTES]).is_some()
                    && bytes[HEADER_BYTES + 1..].iter().all(|byte| *byte == 0)
            };
            if !bytes.is_some_and(is_right) {
                self.wound(half, "a copy of the header is damaged", Harm::None);
            }
        }
        Ok(())
    }

    fn check_length(&mut self) {
        let (bytes, end) = (self.bytes, self.end);
        if bytes < end {
            self.wound(bytes..end, "the file is cut short", Harm::Opening);
        } else if bytes > end {
            self.wound(end..bytes, "the file goes on behind its end", Harm::Opening);
        }
    }

    /// The footer, if it can be read. Another one than the manifest's is an error.
    fn footer(&mut self, facts: Option<&RunFacts>) -> Result<Option<Footer>> {
        let at = self.end.saturating_sub(FOOTER_BYTES as u64);
        if self.bytes < self.end || at < HEADER_END as u64 {
            return Ok(None);
        }
        let bytes = self.bytes_of(at..self.end)?;
        let decoded = bytes.and_then(|it| Footer::decode(&it, seed(&self.header, at)).ok());
        let Some((footer, sum)) = decoded else {
            self.wound(at..self.end, "the footer is damaged", Harm::Opening);
            return Ok(None);
        };
        self.checksum = sum;
        let said = (footer.usage, footer.entries, sum);
        if facts.is_some_and(|facts| said != (facts.usage, facts.entries, facts.checksum)) {
            let what = "not the run that the manifest means";
            return Err(Error::corrupt("run.foreign", what, Place::new(self.name, at)));
        }
        Ok(Some(footer))
    }

    fn section(&mut self, section: &Section, what: &'static str) -> Result<Option<SharedBytes>> {
        match read_section(&self.map, &self.header, section, self.name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let range = section.offset..section.offset.saturating_add(section.bytes);
                self.wound(range, what, Harm::Opening);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Between sections there are zeros.
    fn check_gaps(&mut self, footer: &Footer) -> Result<()> {
        let behind = |section: &Section| section.offset.saturating_add(section.bytes);
        let gaps = [
            behind(&footer.index)..footer.filter.offset,
            behind(&footer.filter)..footer.holes.offset,
        ];
        let bytes = self.bytes;
        for gap in gaps.into_iter().filter(|gap| gap.start < gap.end && gap.end <= bytes) {
            let is_zero = |bytes: Vec<u8>| bytes.iter().all(|byte| *byte == 0);
            if !self.bytes_of(gap.clone())?.is_some_and(is_zero) {
                self.wound(gap, "bytes that stand for nothing are not zero", Harm::None);
            }
        }
        Ok(())
    }

    fn assemble(mut self, footer: Option<Footer>, facts: Option<&RunFacts>) -> Result<Examined> {
        let (mut index, mut filter, mut open_end) = (None, None, None);
        if let Some(footer) = &footer {
            let blocks_at = HEADER_END as u64..footer.index.offset;
            let read = self.section(&footer.index, "the index is damaged")?;
            index = read.and_then(|bytes| Index::new(bytes, &blocks_at).ok());
            let read = self.section(&footer.filter, "the filter is damaged")?;
            filter = read.and_then(Filter::new);
            self.check_gaps(footer)?;
        }
        let mut entries = footer.as_ref().map_or(0, |footer| footer.entries);
        let mut holes = self.holes(footer.as_ref())?;
        let index = if let Some(index) = index {
            index
        } else {
            let blocks_end = footer.as_ref().map_or(self.bytes.min(self.end), |it| it.index.offset);
            let search = self.search(blocks_end, footer.is_some(), facts)?;
            entries = search.entries;
            holes.extend(search.holes);
            open_end = footer.is_none().then_some(search.end);
            search.index.assemble(search.end)?
        };
        // A filter that denies nothing costs look-ups, and no answer.
        let all = || Filter::new(SharedBytes::from(vec![0xFF; 32]));
        let Some(filter) = filter.or_else(all) else {
            let place = Place::new(self.name, 0);
            return Err(Error::corrupt("run.filter", "there is no filter", place));
        };
        let usage = self.usage(footer.as_ref(), facts)?;
        let words = if self.map.memory().is_some() { index.blocks().div_ceil(64) } else { 0 };
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        let number = self.header.number;
        let (bytes, checksum) = (self.bytes, self.checksum);
        let facts = facts.copied().unwrap_or(RunFacts { number, usage, bytes, entries, checksum });
        let (addresses, holes_at) =
            footer.map_or((0, self.end), |footer| (footer.addresses, footer.holes.offset));
        let (holes, header, map) = (joined(holes), self.header, self.map);
        let run = Run { facts, header, addresses, map, index, filter, holes, holes_at, verified };
        Ok(Examined { run: Arc::new(run), wounds: self.wounds, open_end })
    }

    /// What was lost before the run was written. If the list of that cannot be read and may have
    /// had an entry, nobody can tell for which keys older runs must not answer.
    fn holes(&mut self, footer: Option<&Footer>) -> Result<Vec<Hole>> {
        let (range, is_empty) = if let Some(Footer { holes, .. }) = footer {
            match read_section(&self.map, &self.header, holes, self.name) {
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                read => {
                    if let Some(holes) = read.ok().and_then(|bytes| decode_holes(&bytes).ok()) {
                        return Ok(holes);
                    }
                }
            }
            let range = holes.offset..holes.offset.saturating_add(holes.bytes);
            (range, holes.bytes == NO_HOLES.len() as u64)
        } else {
            (self.bytes.min(self.end)..self.end, self.ends_without_holes()?)
        };
        if is_empty {
            if footer.is_some() {
                self.wound(range, HOLES, Harm::Opening);
            }
            return Ok(Vec::new());
        }
        self.lose(range, HOLES, &everything());
        Ok(vec![everything()])
    }

    /// Whether there is nothing but an empty list of holes right before where the footer was. Its
    /// one byte may be the last of a longer list as well, which is then found to be one.
    fn ends_without_holes(&self) -> Result<bool> {
        let at = self.end.saturating_sub(FOOTER_BYTES as u64);
        let list = at.saturating_sub(NO_HOLES.len() as u64);
        let is_there = self.bytes >= self.end && list >= HEADER_END as u64;
        if !is_there || !list.is_multiple_of(SECTION_ALIGNMENT as u64) {
            return Ok(false);
        }
        let Some(bytes) = self.bytes_of(HEADER_END as u64..self.end)? else { return Ok(false) };
        let (before, footer) = bytes.split_at(bytes.len() - FOOTER_BYTES);
        // What wiped out the footer may have done so with the list.
        let is_wiped = footer.iter().all(|byte| *byte == 0);
        let mut starts = (0..before.len() - NO_HOLES.len()).step_by(SECTION_ALIGNMENT);
        let is_longer = |start| decode_holes(&before[start..]).is_ok();
        Ok(before.ends_with(&NO_HOLES) && !is_wiped && !starts.any(is_longer))
    }

    fn usage(&self, footer: Option<&Footer>, facts: Option<&RunFacts>) -> Result<RunUse> {
        if let Some(usage) = facts.map(|facts| facts.usage).or(footer.map(|it| it.usage)) {
            return Ok(usage);
        }
        for at in [HEADER_BYTES, SECOND_COPY_OFFSET + HEADER_BYTES] {
            let byte = self.bytes_of(at as u64..at as u64 + 1)?;
            if let Some(usage) = byte.and_then(|byte| RunUse::from_byte(byte[0])) {
                return Ok(usage);
            }
        }
        let place = Place::new(self.name, 0);
        Err(Error::corrupt("run.header", "a run for an unknown use", place))
    }

    /// Looks for blocks without the index. `is_exact` says that nothing else stands before `to`.
    fn search(&mut self, to: u64, is_exact: bool, facts: Option<&RunFacts>) -> Result<Search> {
        let mut found = Search { end: HEADER_END as u64, ..Search::default() };
        let mut at = found.end;
        while at < to {
            match self.block_at(at, to)? {
                Some((block, bytes)) => {
                    self.take(&mut found, at, block)?;
                    at += bytes;
                    found.end = at;
                }
                None => at += BLOCK_ALIGNMENT as u64,
            }
        }
        let is_short = facts.is_none_or(|facts| found.entries != facts.entries);
        if found.end < to && (is_exact || (facts.is_some() && is_short)) {
            let first = found.last_key.as_deref().map_or_else(Vec::new, behind);
            let hole = Hole { first, last: ABOVE_KEYS.to_vec() };
            self.lose(found.end..to, BLOCKS, &hole);
            found.holes.push(hole);
        }
        Ok(found)
    }

    /// Notes a block, and what was lost before it.
    fn take(&mut self, found: &mut Search, at: u64, block: Found) -> Result<()> {
        let before = found.last_key.as_deref().map_or_else(Vec::new, behind);
        if block.first < before {
            // The same keys twice: no writer does that.
            return Ok(());
        }
        if found.end < at {
            found.index.push(found.end, &before, &before)?;
            let hole = Hole { first: before, last: block.first.clone() };
            self.lose(found.end..at, BLOCKS, &hole);
            found.holes.push(hole);
        }
        found.index.push(at, &block.first, &block.last)?;
        found.entries += block.entries;
        found.last_key = Some(block.last);
        Ok(())
    }

    /// The beginning of a range, up to what the medium does not give.
    fn readable(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if let Some(bytes) = self.bytes_of(range.clone())? {
            return Ok(bytes);
        }
        let mut readable = Vec::new();
        for at in range.clone().step_by(BLOCK_ALIGNMENT) {
            let part = at..(at + BLOCK_ALIGNMENT as u64).min(range.end);
            let Some(bytes) = self.bytes_of(part)? else { break };
            readable.extend_from_slice(&bytes);
        }
        Ok(readable)
    }

    /// The block that begins at `at` and passes its checksum, and its bytes.
    fn block_at(&self, at: u64, to: u64) -> Result<Option<(Found, u64)>> {
        let most = (to - at).min(BLOCK_BYTES_MAX as u64);
        let bytes = self.readable(at..at + most)?;
        let seed = seed(&self.header, at);
        for end in (BLOCK_ALIGNMENT..=bytes.len()).step_by(BLOCK_ALIGNMENT) {
            if block_is_whole(&bytes[..end], seed) {
                return Ok(Found::read(&bytes[..end]).map(|found| (found, end as u64)));
            }
        }
        Ok(None)
    }
}

/// The keys of a block that was found.
struct Found {
    first: Vec<u8>,
    last: Vec<u8>,
    entries: u64,
}

impl Found {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = BlockCursor::new(Block::parse(bytes).ok()?);
        cursor.first().ok()?;
        let first = cursor.key().to_vec();
        let (mut last, mut entries) = (first.clone(), 1);
        while cursor.next().ok()? {
            last.clear();
            last.extend_from_slice(cursor.key());
            entries += 1;
        }
        Some(Self { first, last, entries })
    }
}

/// The least key above this one.
fn behind(key: &[u8]) -> Vec<u8> {
    let mut behind = key.to_vec();
    behind.push(0);
    behind
}

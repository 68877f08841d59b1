//! Writes a run: entries in the order of their keys, holes in any order.
//!
//! Invariants:
//!   * Keys ascend strictly; asserted, because whoever writes a run made them.
//!   * A run is synced before its facts are known. Its name is the caller's to sync.
//!   * Memory is bounded by the index, the filter and the holes, not by the entries.
//!   * One that may be given up asks for that before each block.

use super::filter::{AddressHash, FilterBuilder};
use super::index::IndexBuilder;
use super::{HEADER_END, seed};
use crate::disk::Disk;
use crate::disk::pace::Pace;
use crate::disk::piece::PacedFile;
use crate::error::{Error, Result};
use crate::format::block::{BlockBuilder, ENTRY_BYTES_MAX};
use crate::format::checksum;
use crate::format::header::{FileContext, FileKind, HEADER_BYTES, Header, SECOND_COPY_OFFSET};
use crate::format::run::{Footer, Hole, RunFacts, RunUse, Section, encode_holes};
use crate::ids::{Address, FileNumber};
use crate::names::FileName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sections begin on a cache line, so that no block of a filter straddles two.
pub(super) const SECTION_ALIGNMENT: usize = 64;
/// Bytes of a block of history, whose entries are large: a bundle that does not shrink has one to
/// itself, for a block is read whole.
const BUNDLES_BYTES: usize = 24 * 1024;

/// A run being written.
#[derive(Debug)]
pub struct RunWriter {
    name: FileName,
    header: Header,
    usage: RunUse,
    file: PacedFile,
    block: BlockBuilder,
    index: IndexBuilder,
    filter: FilterBuilder,
    holes: Vec<Hole>,
    /// The key of the last entry; none before the first.
    last_key: Option<Vec<u8>>,
    entries: u64,
    addresses: u64,
    /// Set when the run is not wanted any more.
    is_over: Option<Arc<AtomicBool>>,
}

impl RunWriter {
    /// Creates the file of a run.
    pub fn create(
        disk: &dyn Disk,
        pace: Arc<Pace>,
        context: FileContext,
        number: FileNumber,
        usage: RunUse,
    ) -> Result<Self> {
        let name = FileName::Run(number);
        let failed = |error| Error::io(format!("creating {name}"), error);
        let mut salt = [0; 8];
        disk.random(&mut salt).map_err(failed)?;
        let header = context.header(FileKind::Run, number, u64::from_le_bytes(salt));
        let file = disk.create(name).map_err(failed)?;
        let is_history = usage == RunUse::History;
        if is_history {
            // Few look back, and where to nobody can know.
            file.bypass_cache();
        }
        let mut file = PacedFile::new(file, pace);
        file.append(&header_block(&header, usage)).map_err(failed)?;
        let block = if is_history {
            BlockBuilder::of_bytes(BUNDLES_BYTES)
        } else {
            BlockBuilder::default()
        };
        Ok(Self {
            name,
            header,
            usage,
            file,
            block,
            index: IndexBuilder::default(),
            filter: FilterBuilder::Collecting(Vec::new()),
            holes: Vec::new(),
            last_key: None,
            entries: 0,
            addresses: 0,
            is_over: None,
        })
    }

    /// Says how many distinct addresses will come at most, before the first entry: the filter then
    /// needs no memory beyond its own size.
    pub fn expect_addresses(&mut self, addresses: u64) {
        assert_eq!(self.entries, 0, "the size of a filter is said before the first entry");
        self.filter = FilterBuilder::for_addresses(addresses.max(1));
    }

    /// From now on the writer fails with `store.closed` once this is set.
    pub fn give_up_when(&mut self, is_over: Arc<AtomicBool>) {
        self.is_over = Some(is_over);
    }

    /// Whether an entry with this key may be added now.
    pub fn may_follow(&self, key: &[u8]) -> bool {
        self.last_key.as_deref().is_none_or(|before| before < key)
    }

    /// Adds an entry whose key is above that of the one before.
    ///
    /// Fails for a key and value that do not fit a block, and when the file cannot be written.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.add_parts(key, &[value])
    }

    /// The same for a value that comes in parts.
    pub fn add_parts(&mut self, key: &[u8], value: &[&[u8]]) -> Result<()> {
        let bytes = key.len() + value.iter().map(|part| part.len()).sum::<usize>();
        if bytes > ENTRY_BYTES_MAX {
            let what = format!("an entry of a run has {bytes} bytes");
            return Err(Error::invalid("run.entry", what));
        }
        assert!(self.may_follow(key), "keys of a run ascend");
        let before = self.last_key.as_deref();
        // An entry of history says of itself which addresses it is about.
        let begins_address = self.usage != RunUse::History
            && before.is_none_or(|before| start(before) != start(key));
        if !self.block.add(key, value) {
            self.end_block()?;
            let added = self.block.add(key, value);
            assert!(added, "an empty block has room for an entry");
        }
        if begins_address {
            self.filter.add(AddressHash::of_key(key));
            self.addresses += 1;
        }
        self.entries += 1;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    /// Says that entries of a run of history are about this address. Once for each.
    pub fn note_address(&mut self, address: &Address) {
        assert_eq!(self.usage, RunUse::History, "other entries say it by their keys");
        self.filter.add(AddressHash::new(address));
        self.addresses += 1;
    }

    /// Says that what older files held for keys from `first` to `last`, both included, was lost to
    /// damage. Entries added inside the range count as newer than the damage.
    pub fn add_hole(&mut self, first: &[u8], last: &[u8]) {
        assert!(first <= last, "a hole has an order");
        self.holes.push(Hole { first: first.to_vec(), last: last.to_vec() });
    }

    /// Writes the rest and syncs the file.
    pub fn finish(mut self) -> Result<RunFacts> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let blocks_end = self.file.offset();
        let index = std::mem::take(&mut self.index).finish(blocks_end)?;
        let index = self.section(&index)?;
        let filter = std::mem::replace(&mut self.filter, FilterBuilder::Collecting(Vec::new()));
        let filter = self.section(&filter.finish())?;
        let mut holes = Vec::new();
        encode_holes(&joined(std::mem::take(&mut self.holes)), &mut holes);
        let holes = self.section(&holes)?;
        let Self { usage, entries, addresses, .. } = self;
        let footer = Footer { usage, entries, addresses, index, filter, holes };
        let (footer, sum) = footer.encode(seed(&self.header, self.file.offset()));
        self.append(&footer)?;
        let name = self.name;
        let (_, bytes) = self.file.finish().map_err(|error| failed(name, error.into_io()))?;
        Ok(RunFacts { number: self.header.number, usage, bytes, entries, checksum: sum })
    }

    fn end_block(&mut self) -> Result<()> {
        if self.is_over.as_ref().is_some_and(|is_over| is_over.load(Ordering::Relaxed)) {
            return Err(Error::closed());
        }
        let offset = self.file.offset();
        self.index.push(offset, self.block.first_key(), self.block.last_key())?;
        let (block, seed) = (&mut self.block, seed(&self.header, offset));
        let written = self.file.append_with(|out| block.finish(seed, out));
        written.map_err(|error| failed(self.name, error))
    }

    fn section(&mut self, bytes: &[u8]) -> Result<Section> {
        let end = self.file.offset();
        let padding = end.next_multiple_of(SECTION_ALIGNMENT as u64) - end;
        for _ in 0..padding {
            self.append(&[0])?;
        }
        let offset = self.file.offset();
        self.append(bytes)?;
        let crc = checksum(seed(&self.header, offset), bytes);
        Ok(Section { offset, bytes: bytes.len() as u64, crc })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.append(bytes).map_err(|error| failed(self.name, error))
    }
}

fn failed(name: FileName, error: std::io::Error) -> Error {
    Error::io(format!("writing {name}"), error)
}

/// What the filter knows of a key.
fn start(key: &[u8]) -> &[u8] {
    &key[..key.len().min(Address::BYTES)]
}

fn header_block(header: &Header, usage: RunUse) -> Vec<u8> {
    let mut block = vec![0; HEADER_END];
    for at in [0, SECOND_COPY_OFFSET] {
        block[at..at + HEADER_BYTES].copy_from_slice(&header.encode());
        block[at + HEADER_BYTES] = usage as u8;
    }
    block
}

/// The same keys, as ranges that are disjoint and ascend.
pub(super) fn joined(mut holes: Vec<Hole>) -> Vec<Hole> {
    holes.sort();
    let mut joined: Vec<Hole> = Vec::with_capacity(holes.len());
    for hole in holes {
        match joined.last_mut() {
            Some(before) if before.last >= hole.first => {
                before.last = hole.last.max(std::mem::take(&mut before.last));
            }
            _ => joined.push(hole),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_that_touch_are_joined() {
        let hole = |first: u8, last: u8| Hole { first: vec![first], last: vec![last] };
        let holes = vec![hole(5, 6), hole(1, 4), hole(2, 3), hole(6, 9), hole(11, 12)];
        assert_eq!(joined(holes), vec![hole(1, 4), hole(5, 9), hole(11, 12)]);
    }
}

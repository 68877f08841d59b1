//! One open segment: found right once, then read page by page.
//!
//! The first read of a part of the file is a read call of exactly the page, which is one request
//! to the device where a fault on the map would be several or drag in megabytes. Later reads of the
//! same part take the bytes where they lie, without a call and without a copy.
//!
//! Invariants:
//!   * No page is handed out whose checksum was not verified in this very read.
//!   * No place from outside is used before it was found inside the file's pages.

use super::dictionary::{self, Dictionary};
use super::walked::Walked;
use super::{FOOTER_BYTES, Footer, PAGES_AT, corrupt, header_error};
use crate::disk::bytes::SharedBytes;
use crate::disk::{Map, ReadDisk, ReadFile, ask_twice, is_unreadable, read_exact_at};
use crate::error::{Error, Place, Result};
use crate::format::Malformed;
use crate::format::entry::PageLocation;
use crate::format::header::{FileKind, HEADER_BYTES, Header, SECOND_COPY_OFFSET};
use crate::format::page::{
    PAGE_ALIGNMENT, PAGE_HEADER_BYTES, Page, PageHeader, SegmentFacts, decode_dictionary, verified,
};
use crate::format::place_seed;
use crate::ids::{FileNumber, StoreId};
use crate::limits::PAGE_BYTES_MAX;
use crate::names::FileName;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What is touched at once.
const TOUCH_BYTES: u64 = 16 * 1024;

/// Which parts of a segment were read lately. A hint: a lost bit costs one read call.
#[derive(Debug)]
pub(super) struct Touched(Box<[AtomicU64]>);

impl Touched {
    /// Nothing touched, of a file this long.
    pub(super) fn new(bytes: u64) -> Self {
        let words = bytes.div_ceil(TOUCH_BYTES * 64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Touches a range; whether all of it had been touched.
    fn touch(&self, offset: u64, bytes: u64) -> bool {
        let (first, last) = (offset / TOUCH_BYTES, (offset + bytes - 1) / TOUCH_BYTES);
        let mut all = true;
        for block in first..=last {
            let Some(word) = usize::try_from(block / 64).ok().and_then(|at| self.0.get(at)) else {
                return false;
            };
            let bit = 1 << (block % 64);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
                all = false;
            }
        }
        all
    }

    /// Nothing is touched any more.
    pub(super) fn clear(&self) {
        for word in &self.0 {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// An open segment.
#[derive(Debug)]
pub(super) struct OpenSegment {
    facts: SegmentFacts,
    salt: u64,
    file: Arc<dyn ReadFile>,
    map: Arc<dyn Map>,
    dictionaries: OnceLock<Vec<Arc<Dictionary>>>,
}

impl OpenSegment {
    /// Opens the file that `facts` are about and finds it right.
    pub(super) fn open(disk: &dyn ReadDisk, store: StoreId, facts: SegmentFacts) -> Result<Self> {
        let number = facts.number;
        let (file, salt) = open_file(disk, store, number)?;
        let bytes = ask_twice(|| file.bytes()).map_err(|error| failed(number, error))?;
        if facts.bytes < PAGES_AT + FOOTER_BYTES {
            let what = format!("segment of {} bytes has no room for pages", facts.bytes);
            return Err(corrupt("segment.short", what, number, bytes));
        }
        // Of a file that was cut short the pages before the cut are as good as ever.
        let map = ask_twice(|| file.map(facts.bytes.min(bytes)));
        let map = map.map_err(|error| failed(number, error))?;
        Ok(Self { facts, salt, file, map, dictionaries: OnceLock::new() })
    }

    /// Bytes of the file that can be read, as far as the manifest knows them.
    pub(super) fn mapped_bytes(&self) -> u64 {
        self.map.bytes()
    }

    /// What the manifest says of the file.
    pub(super) fn facts(&self) -> &SegmentFacts {
        &self.facts
    }

    /// The seed of checksums at `offset`.
    pub(super) fn seed(&self, offset: u64) -> u64 {
        place_seed(self.salt, self.facts.number.0, offset)
    }

    /// Reads a page. Its checksum is compared with the one at its end and with the wanted one.
    /// Its entries are walked unless `walked` says that they were.
    pub(super) fn page(
        &self,
        location: &PageLocation,
        (touched, walked): (&Touched, &Walked),
        intern: &dyn Fn(&[u8]) -> Arc<Dictionary>,
    ) -> Result<Page> {
        let (number, offset) = (self.facts.number, location.offset);
        if !self.holds(location) {
            return Err(corrupt("page.place", "page outside of its segment", number, offset));
        }
        let stored = self.bytes(offset, location.bytes, touched)?;
        if verified(&stored, self.seed(offset)) != Some(location.crc) {
            return Err(corrupt("page.checksum", "page checksum differs", number, offset));
        }
        let expand =
            |header: &PageHeader, frame: &[u8], raw: &mut [u8]| -> std::result::Result<(), Fault> {
                let dictionary = match header.dictionary {
                    0 => None,
                    id => Some(self.dictionary(id, intern).map_err(Fault::Error)?),
                };
                Ok(dictionary::expand(dictionary.as_deref(), frame, raw)?)
            };
        let is_known = walked.has(location);
        let page = if is_known {
            Page::decode_again(&stored, expand)
        } else {
            Page::decode(&stored, expand)
        };
        let page = page.map_err(|fault| match fault {
            Fault::Malformed(fault) => corrupt("page.malformed", fault.0, number, offset),
            Fault::Error(error) => error,
        })?;
        if !is_known {
            walked.insert(location);
        }
        Ok(page)
    }

    /// Reads bytes into `buffer`, past the map.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let number = self.facts.number;
        let read = ask_twice(|| read_exact_at(&*self.file, buffer, offset));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                corrupt("segment.short", "the segment is cut short", number, offset)
            }
            _ => unread_page(number, offset, error),
        })
    }

    /// The dictionary with this id. All of a file are read when the first is wanted.
    pub(super) fn dictionary(
        &self,
        id: u32,
        intern: &dyn Fn(&[u8]) -> Arc<Dictionary>,
    ) -> Result<Arc<Dictionary>> {
        let all = if let Some(all) = self.dictionaries.get() {
            all
        } else {
            let [first, second] = self.dictionary_copies()?;
            let read = self
                .read_dictionaries(first, intern)
                .or_else(|error| self.read_dictionaries(second, intern).map_err(|_| error))?;
            self.dictionaries.get_or_init(|| read)
        };
        let found = all.iter().find(|one| one.id() == id).map(Arc::clone);
        let number = self.facts.number;
        let missing =
            || corrupt("segment.dictionary", format!("no dictionary {id:08x}"), number, 0);
        found.ok_or_else(missing)
    }

    /// Reads the footer.
    pub(super) fn footer(&self) -> Result<Footer> {
        let number = self.facts.number;
        let footer = read_footer(&*self.file, number, self.salt, self.facts.bytes)?;
        if (footer.pages_end - PAGES_AT, footer.pages) != (self.facts.page_bytes, self.facts.pages)
        {
            let what = "footer differs from the manifest";
            return Err(corrupt("segment.footer", what, number, self.facts.bytes));
        }
        Ok(footer)
    }

    /// Reads what stands behind the pages.
    pub(super) fn verify_ends(&self, intern: &dyn Fn(&[u8]) -> Arc<Dictionary>) -> Result<()> {
        let footer = self.footer()?;
        for copy in self.dictionary_copies()? {
            let at = copy.start;
            if self.read_dictionaries(copy, intern)?.len() != footer.dictionaries as usize {
                let what = "footer counts other dictionaries";
                return Err(corrupt("segment.footer", what, self.facts.number, at));
            }
        }
        Ok(())
    }

    /// Everything behind the pages that is not what was written: where it is, and whether it is
    /// the only copy that was left.
    pub(super) fn damaged_ends(&self) -> Result<Vec<(Range<u64>, bool)>> {
        let mut damaged = Vec::new();
        let footer_at = self.facts.bytes - FOOTER_BYTES;
        if self.footer().is_err() {
            damaged.push((footer_at..self.facts.bytes, false));
        }
        let [first, second] = self.dictionary_copies()?;
        let mut at = 0;
        while first.start + at < first.end {
            let read = [&first, &second].map(|copy| {
                let page = self.dictionary_page(copy.start + at, copy.end);
                page.ok().and_then(|page| Some(decode_dictionary(&page.ok()?).is_ok())).is_some()
            });
            let bytes = match read {
                [true, _] => self.dictionary_bytes(first.start + at, first.end),
                [_, true] => self.dictionary_bytes(second.start + at, second.end),
                _ => None,
            };
            let bytes = bytes.unwrap_or(first.end - first.start - at);
            for (copy, _) in [&first, &second].into_iter().zip(read).filter(|(_, read)| !read) {
                let start = copy.start + at;
                damaged.push((start..start + bytes, read == [false, false]));
            }
            at += bytes;
        }
        Ok(damaged)
    }

    fn dictionary_bytes(&self, at: u64, end: u64) -> Option<u64> {
        self.dictionary_page(at, end).ok()?.ok().map(|stored| stored.len() as u64)
    }

    fn holds(&self, location: &PageLocation) -> bool {
        let bytes = u64::from(location.bytes);
        let end = location.offset.checked_add(bytes);
        location.file == self.facts.number
            && location.offset >= PAGES_AT
            && location.offset.is_multiple_of(PAGE_ALIGNMENT as u64)
            && (PAGE_HEADER_BYTES as u64..=PAGE_BYTES_MAX as u64).contains(&bytes)
            && end.is_some_and(|end| end <= self.facts.bytes - FOOTER_BYTES)
    }

    fn bytes(&self, offset: u64, bytes: u32, touched: &Touched) -> Result<SharedBytes> {
        let end = offset + u64::from(bytes);
        let is_mapped = end <= self.map.bytes() && self.map.memory().is_some();
        if touched.touch(offset, u64::from(bytes)) && is_mapped {
            return ask_twice(|| SharedBytes::from_map(&self.map, offset..end))
                .map_err(|error| unread_page(self.facts.number, offset, error));
        }
        let mut memory: Arc<[u8]> = std::iter::repeat_n(0, bytes as usize).collect();
        if let Some(buffer) = Arc::get_mut(&mut memory) {
            self.read(buffer, offset)?;
        }
        Ok(SharedBytes::from(memory))
    }

    /// Where the two copies of the dictionaries are: told by the manifest, not by the footer, so
    /// that no single bad sector makes every page unreadable.
    fn dictionary_copies(&self) -> Result<[Range<u64>; 2]> {
        let end = self.facts.bytes - FOOTER_BYTES;
        let start = PAGES_AT.saturating_add(self.facts.page_bytes).min(end);
        if !(end - start).is_multiple_of(2) {
            let what = "dictionaries are not there twice";
            return Err(corrupt("segment.dictionary", what, self.facts.number, start));
        }
        let middle = start + (end - start) / 2;
        Ok([start..middle, middle..end])
    }

    fn read_dictionaries(
        &self,
        copy: Range<u64>,
        intern: &dyn Fn(&[u8]) -> Arc<Dictionary>,
    ) -> Result<Vec<Arc<Dictionary>>> {
        let mut all = Vec::new();
        let Range { start: mut at, end } = copy;
        while at < end {
            let malformed =
                |fault: Malformed| corrupt("segment.dictionary", fault.0, self.facts.number, at);
            let stored = self.dictionary_page(at, end)?.map_err(malformed)?;
            let (id, bytes) = decode_dictionary(&stored).map_err(malformed)?;
            let dictionary = intern(bytes);
            if dictionary.id() != id {
                return Err(malformed(Malformed("dictionary with a wrong id")));
            }
            all.push(dictionary);
            at += stored.len() as u64;
        }
        Ok(all)
    }

    fn dictionary_page(
        &self,
        at: u64,
        end: u64,
    ) -> Result<std::result::Result<Vec<u8>, Malformed>> {
        if end - at < PAGE_HEADER_BYTES as u64 {
            return Ok(Err(Malformed("dictionary cut short")));
        }
        let mut stored = vec![0; PAGE_HEADER_BYTES];
        self.read(&mut stored, at)?;
        let page_bytes = match PageHeader::decode(&stored) {
            Ok(header) => header.page_bytes(),
            Err(fault) => return Ok(Err(fault)),
        };
        if end - at < page_bytes as u64 {
            return Ok(Err(Malformed("dictionary cut short")));
        }
        stored.resize(page_bytes, 0);
        self.read(&mut stored, at)?;
        let right = verified(&stored, self.seed(at)).is_some();
        Ok(if right { Ok(stored) } else { Err(Malformed("dictionary checksum differs")) })
    }
}

/// What a segment says of itself, for tools that have no manifest.
pub fn facts_of(disk: &dyn ReadDisk, store: StoreId, number: FileNumber) -> Result<SegmentFacts> {
    let (file, salt) = open_file(disk, store, number)?;
    let bytes = ask_twice(|| file.bytes()).map_err(|error| failed(number, error))?;
    if bytes < PAGES_AT + FOOTER_BYTES {
        return Err(corrupt("segment.short", "segment without a footer", number, bytes));
    }
    let footer = read_footer(&*file, number, salt, bytes)?;
    let page_bytes = footer.pages_end - PAGES_AT;
    Ok(SegmentFacts { number, bytes, page_bytes, pages: footer.pages })
}

/// Why a page was not read.
enum Fault {
    Malformed(Malformed),
    Error(Error),
}

impl From<Malformed> for Fault {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

fn read_footer(file: &dyn ReadFile, number: FileNumber, salt: u64, bytes: u64) -> Result<Footer> {
    let at = bytes - FOOTER_BYTES;
    let mut tail = vec![0; usize::try_from(FOOTER_BYTES).unwrap_or(0)];
    let read = ask_twice(|| read_exact_at(file, &mut tail, at));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            corrupt("segment.short", "the segment is cut short", number, at)
        }
        _ => failed(number, error),
    })?;
    Footer::decode(&tail, salt, number, at)
        .map_err(|fault| corrupt("segment.footer", fault.0, number, at))
}

/// Opens a segment and reads its header; then the file and its salt.
fn open_file(
    disk: &dyn ReadDisk,
    store: StoreId,
    number: FileNumber,
) -> Result<(Arc<dyn ReadFile>, u64)> {
    let opened = ask_twice(|| disk.open(FileName::Segment(number)));
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => corrupt("segment.missing", "segment is missing", number, 0),
        _ => failed(number, error),
    })?;
    let mut block = [0; SECOND_COPY_OFFSET + HEADER_BYTES];
    let mut read = ask_twice(|| read_exact_at(&*file, &mut block, 0));
    if read.as_ref().is_err_and(is_unreadable) {
        // Either copy will do.
        let mut copy =
            |at: usize| read_exact_at(&*file, &mut block[at..at + HEADER_BYTES], at as u64).is_ok();
        // Both are asked for.
        read = if copy(0) | copy(SECOND_COPY_OFFSET) { Ok(()) } else { read };
    }
    match read {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(corrupt("segment.short", "segment without a header", number, 0));
        }
        Err(error) => return Err(failed(number, error)),
    }
    let header = Header::decode(&block, FileKind::Segment)
        .or_else(|first| {
            let second = &block[SECOND_COPY_OFFSET..];
            Header::decode(second, FileKind::Segment).map_err(|_| first)
        })
        .map_err(|fault| header_error(fault, number))?;
    if header.store != store || header.number != number {
        let what = format!("file is segment {} of store {}", header.number, header.store);
        return Err(corrupt("segment.foreign", what, number, 0));
    }
    Ok((file, header.salt))
}

/// Why nothing of a segment can be had.
#[cold]
fn failed(number: FileNumber, error: io::Error) -> Error {
    if is_unreadable(&error) {
        let what = "the medium does not give a segment back";
        return corrupt("segment.unreadable", what, number, 0).caused_by(error);
    }
    Error::io(format!("reading segment {number}"), error)
}

/// Why what stands at `offset` of a segment cannot be had.
#[cold]
fn unread_page(number: FileNumber, offset: u64, error: io::Error) -> Error {
    if is_unreadable(&error) {
        let what = "the medium does not give a page back";
        return corrupt("page.unreadable", what, number, offset).caused_by(error);
    }
    failed(number, error).at(Place::new(FileName::Segment(number), offset))
}

//! Writes one segment.
//!
//! Invariants:
//!   * A page's checksum is seeded by its place: it passes there and nowhere else.
//!   * Every dictionary that a page of the file uses is in the file.
//!   * Facts are given only for a file that is synced; its name is the caller's to sync.

use super::dictionary::{self, Dictionary, Trial};
use super::{FOOTER_BYTES, Footer, PAGES_AT};
use crate::disk::Disk;
use crate::disk::pace::Pace;
use crate::disk::piece::PacedFile;
use crate::error::{Error, Result};
use crate::format::entry::{PageLocation, PagePart};
use crate::format::header::{FileContext, FileKind, HEADER_BYTES, SECOND_COPY_OFFSET};
use crate::format::page::{BuiltPage, Packed, SegmentFacts, store_dictionary};
use crate::format::place_seed;
use crate::ids::FileNumber;
use crate::marks::{Mark, mark};
use crate::names::FileName;
use std::io;
use std::sync::Arc;

/// Bodies below this gain nothing that is worth a frame.
const COMPRESSED_BYTES_MIN: usize = 64;

/// How the pages of a segment are to be stored.
#[derive(Clone, Debug)]
pub enum Compression {
    /// As they are: read without a copy, and for the young, who will be written again soon.
    None,
    /// Compressed, where that saves an eighth or more.
    Zstd(Option<Arc<Dictionary>>),
}

/// A segment being written.
#[derive(Debug)]
pub struct SegmentWriter {
    file: PacedFile,
    number: FileNumber,
    salt: u64,
    pages: u64,
    dictionaries: Vec<Arc<Dictionary>>,
    frame: Vec<u8>,
    trial: Trial,
}

impl SegmentWriter {
    /// Creates the file.
    pub fn create(
        disk: &dyn Disk,
        pace: Arc<Pace>,
        context: FileContext,
        number: FileNumber,
    ) -> Result<Self> {
        let mut salt = [0; 8];
        disk.random(&mut salt).map_err(|error| Error::io("drawing a file's salt", error))?;
        let salt = u64::from_le_bytes(salt);
        let file = disk
            .create(FileName::Segment(number))
            .map_err(|error| Error::io(format!("creating segment {number}"), error))?;
        let header = context.header(FileKind::Segment, number, salt).encode();
        let mut block = header.to_vec();
        block.resize(SECOND_COPY_OFFSET, 0);
        block.extend_from_slice(&header);
        assert_eq!(block.len(), SECOND_COPY_OFFSET + HEADER_BYTES);
        block.resize(usize::try_from(PAGES_AT).unwrap_or(usize::MAX), 0);
        let mut file = PacedFile::new(file, pace);
        file.append(&block).map_err(|error| failed(number, error))?;
        Ok(Self {
            file,
            number,
            salt,
            pages: 0,
            dictionaries: Vec::new(),
            frame: Vec::new(),
            trial: Trial::default(),
        })
    }

    /// Appends a page.
    pub fn append(&mut self, page: &BuiltPage, compression: &Compression) -> Result<PagePart> {
        let dictionary = match compression {
            Compression::None => None,
            Compression::Zstd(dictionary) => self.compressed(page, dictionary.as_ref()),
        };
        let packed = match dictionary {
            None => Packed::Raw,
            Some(dictionary) => Packed::Zstd { dictionary, frame: &self.frame },
        };
        let offset = self.file.offset();
        let seed = place_seed(self.salt, self.number.0, offset);
        let stored = self.file.append_with(|out| page.store(packed, seed, out));
        let crc = stored.map_err(|error| failed(self.number, error))?;
        let bytes = u32::try_from(self.file.offset() - offset).unwrap_or(u32::MAX);
        self.pages += 1;
        Ok(PagePart {
            location: PageLocation { file: self.number, offset, bytes, crc },
            exact_at: page.meta.exact_at,
            until: page.meta.until,
            count: page.count,
            content_bytes: page.content_bytes,
            dictionary: dictionary.unwrap_or(0),
        })
    }

    /// Bytes so far, as the facts will count them: without dictionaries and footer.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.file.offset()
    }

    /// Pages so far.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Ends the file and syncs it.
    pub fn finish(mut self) -> Result<SegmentFacts> {
        let pages_end = self.file.offset();
        let dictionaries = std::mem::take(&mut self.dictionaries);
        // Twice: without them no page that uses them can be read.
        for dictionary in dictionaries.iter().chain(&dictionaries) {
            let seed = place_seed(self.salt, self.number.0, self.file.offset());
            let (id, bytes) = (dictionary.id(), dictionary.bytes());
            let stored = self.file.append_with(|out| store_dictionary(id, bytes, seed, out));
            stored.map_err(|error| failed(self.number, error))?;
        }
        let footer = Footer {
            pages_end,
            pages: self.pages,
            dictionaries: u32::try_from(dictionaries.len()).unwrap_or(u32::MAX),
        };
        let footer_at = self.file.offset();
        let number = self.number;
        let footer = footer.encode(self.salt, number, footer_at);
        self.file.append(&footer).map_err(|error| failed(number, error))?;
        let (_, bytes) = self.file.finish().map_err(|error| failed(number, error.into_io()))?;
        assert_eq!(bytes, footer_at + FOOTER_BYTES, "bytes that nobody appended");
        Ok(SegmentFacts { number, bytes, page_bytes: pages_end - PAGES_AT, pages: self.pages })
    }

    /// Compresses a body into `frame`, if that pays; then the dictionary's id, or zero.
    fn compressed(&mut self, page: &BuiltPage, with: Option<&Arc<Dictionary>>) -> Option<u32> {
        let raw = &page.body;
        if raw.len() < COMPRESSED_BYTES_MIN || !self.trial.is_due() {
            self.trial.note(false);
            return None;
        }
        let known =
            with.and_then(|with| self.dictionaries.iter().find(|one| one.id() == with.id()));
        // Two dictionaries of one id cannot both be in a file.
        let with = with.filter(|with| known.is_none_or(|known| known.bytes() == with.bytes()));
        let is_new = known.is_none();
        let most = raw.len() - raw.len().div_ceil(8);
        if !dictionary::compress(with.map(Arc::as_ref), raw, most, &mut self.frame) {
            self.trial.note(false);
            return None;
        }
        self.trial.note(true);
        let Some(with) = with else { return Some(0) };
        mark(Mark::DictionaryUsed);
        if is_new {
            self.dictionaries.push(Arc::clone(with));
        }
        Some(with.id())
    }
}

#[cold]
fn failed(number: FileNumber, error: io::Error) -> Error {
    Error::io(format!("writing segment {number}"), error)
}

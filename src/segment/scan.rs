//! Walks every page of a segment, past damage.
//!
//! Invariants:
//!   * A page is reported only with its checksum verified; damage is reported once for each gap.
//!   * Memory is bounded by the largest page, and the bytes summed while looking for the next page
//!     behind damage by a multiple of the file, whatever the file claims.

use super::corrupt;
use super::reader::OpenSegment;
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::entry::PageLocation;
use crate::format::page::{
    PAGE_ALIGNMENT, PAGE_HEADER_BYTES, PageHeader, PageKind, PageMeta, verified,
};
use crate::limits::GROUP_ALIGNMENT;
use std::ops::Range;
use std::sync::Arc;

/// What is read at once.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// How often over the bytes of a file may be summed while looking behind damage.
const SEARCH_FACTOR: u64 = 4;

/// A page as a scan finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedPage {
    /// Where it is.
    pub location: PageLocation,
    /// What it is about.
    pub meta: PageMeta,
    /// Its entries.
    pub count: u32,
    /// The dictionary that it is compressed with; zero for none.
    pub dictionary: u32,
}

/// The pages of a segment; see [`super::SegmentSet::scan`].
#[derive(Debug)]
pub struct Scan {
    open: Arc<OpenSegment>,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// The last thing seen was damage, which was reported.
    in_gap: bool,
    gaps: u64,
    pages: u64,
    /// Bytes that may still be summed while looking for a page behind damage.
    search_bytes: u64,
    done: bool,
}

enum Fault {
    Malformed(Malformed),
    Unreadable(Error),
}

impl From<Malformed> for Fault {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

impl Scan {
    pub(super) fn new(open: Arc<OpenSegment>, pages: Range<u64>) -> Result<Self> {
        if pages.end > open.facts().bytes {
            let number = open.facts().number;
            return Err(corrupt("segment.short", "pages beyond the end", number, pages.end));
        }
        let there = pages.end.min(open.mapped_bytes()).saturating_sub(pages.start);
        Ok(Self {
            open,
            at: pages.start,
            end: pages.end,
            window: Vec::new(),
            window_at: 0,
            in_gap: false,
            gaps: 0,
            pages: 0,
            search_bytes: there.saturating_mul(SEARCH_FACTOR),
            done: false,
        })
    }

    /// How far it has come: where the next page begins, or damage.
    pub fn at(&self) -> u64 {
        self.at.min(self.end)
    }

    fn page_at(&mut self, at: u64) -> std::result::Result<ScannedPage, Fault> {
        let header = PageHeader::decode(self.bytes(at, PAGE_HEADER_BYTES as u64)?)?;
        let page_bytes = header.page_bytes() as u64;
        if self.in_gap {
            let Some(rest) = self.search_bytes.checked_sub(page_bytes) else {
                self.at = self.end;
                return Err(Malformed("too much damage").into());
            };
            self.search_bytes = rest;
        }
        let seed = self.open.seed(at);
        let stored = self.bytes(at, page_bytes)?;
        let crc = verified(stored, seed).ok_or(Malformed("page checksum differs"))?;
        if header.kind == PageKind::Dictionary {
            return Err(Malformed("a dictionary where a page should be").into());
        }
        let meta = header.meta(header.fence(stored)?);
        let location = PageLocation {
            file: self.open.facts().number,
            offset: at,
            bytes: u32::try_from(page_bytes).map_err(|_| Malformed("page beyond its limits"))?,
            crc,
        };
        Ok(ScannedPage { location, meta, count: header.count, dictionary: header.dictionary })
    }

    /// The file's bytes at `at`, through a window that moves along.
    fn bytes(&mut self, at: u64, bytes: u64) -> std::result::Result<&[u8], Fault> {
        if self.end - at < bytes {
            return Err(Malformed("page cut short").into());
        }
        let has = |window: &[u8], window_at: u64| {
            at >= window_at && at + bytes <= window_at + window.len() as u64
        };
        if !has(&self.window, self.window_at) {
            let wanted = bytes.max(WINDOW_BYTES).min(self.end - at);
            let read = self.fill(at, wanted);
            // One bad sector does not hide what can be read before it.
            read.or_else(|_| self.fill(at, bytes)).map_err(Fault::Unreadable)?;
        }
        let start = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let found = self.window.get(start..).and_then(|rest| rest.get(..length));
        Ok(found.ok_or(Malformed("page cut short"))?)
    }

    fn fill(&mut self, at: u64, bytes: u64) -> Result<()> {
        self.window.clear();
        self.window_at = at;
        self.window.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        let read = self.open.read(&mut self.window, at);
        if read.is_err() {
            self.window.clear();
        }
        read
    }

    fn end_error(&self) -> Option<Error> {
        let facts = self.open.facts();
        if self.gaps > 0 || self.pages == facts.pages {
            return None;
        }
        let what = format!("segment has {} pages instead of {}", self.pages, facts.pages);
        Some(corrupt("segment.pages", what, facts.number, self.end))
    }
}

impl Iterator for Scan {
    type Item = Result<ScannedPage>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.end {
            let at = self.at;
            let fault = match self.page_at(at) {
                Ok(page) => {
                    self.at += u64::from(page.location.bytes);
                    self.pages += 1;
                    self.in_gap = false;
                    return Some(Ok(page));
                }
                Err(fault) => fault,
            };
            let step = match fault {
                Fault::Malformed(_) => PAGE_ALIGNMENT as u64,
                Fault::Unreadable(_) => GROUP_ALIGNMENT - at % GROUP_ALIGNMENT,
            };
            self.at = self.at.max(at + step);
            if self.at >= self.open.mapped_bytes() {
                // Behind the end of the file there is nothing, whatever is said of its length.
                self.at = self.end;
            }
            if self.in_gap {
                continue;
            }
            self.in_gap = true;
            self.gaps += 1;
            let number = self.open.facts().number;
            return Some(Err(match fault {
                Fault::Malformed(fault) => corrupt("segment.damaged", fault.0, number, at),
                Fault::Unreadable(error) => error,
            }));
        }
        if std::mem::replace(&mut self.done, true) { None } else { self.end_error().map(Err) }
    }
}

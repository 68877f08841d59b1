//! Verification of segments apart from the directory: what stands behind the pages, and dead pages.
//!
//! Invariants:
//!   * A damaged page that the directory names is told once, by whoever looked at its object.

use crate::error::{Error, Result};
use crate::format::header::HEADER_BLOCK_BYTES;
use crate::format::manifest::SegmentState;
use crate::ids::FileNumber;
use crate::inspect::report::{Fault, Report, Scope, message};
use crate::names::FileName;
use crate::segment::{ScannedPage, SegmentSet};
use std::collections::BTreeMap;
use std::ops::Range;

/// Pages that cannot be read and are told: where each begins and ends.
pub type Told = BTreeMap<(FileNumber, u64), u64>;

/// Dictionaries and the footer.
pub fn check_ends(segments: &SegmentSet, number: FileNumber, report: &mut Report) {
    let name = FileName::Segment(number);
    match segments.damaged_ends(number) {
        Ok(damaged) => {
            for (range, is_lost) in damaged {
                let fault = Fault::at(name, range, "what stands behind the pages is damaged");
                let scope = if is_lost { Scope::Live } else { Scope::Spare };
                report.fault(fault.in_scope(scope));
            }
        }
        Err(error) => report.failed(&error, name, None),
    }
}

/// Bytes of a segment where a page should be and none is right.
#[derive(Debug)]
pub struct Gap {
    /// The segment.
    pub number: FileNumber,
    /// From behind the right page before it to the next one.
    pub range: Range<u64>,
    /// What is wrong with the first page in it.
    pub error: Error,
}

/// Hands out every right page of a segment, from its first to its last. Returns the gaps between
/// them.
pub fn walk_pages(
    segments: &SegmentSet,
    state: &SegmentState,
    mut take: impl FnMut(ScannedPage),
) -> Result<Vec<Gap>> {
    let number = state.facts.number;
    let (mut gaps, mut open) = (Vec::new(), None);
    let mut end = |open: &mut Option<(u64, Error)>, end: u64| {
        let gap = open.take().map(|(start, error)| Gap { number, range: start..end, error });
        gaps.extend(gap.filter(|gap| !gap.range.is_empty()));
    };
    for page in segments.scan(number)? {
        match page {
            Ok(page) => {
                end(&mut open, page.location.offset);
                take(page);
            }
            Err(error) => {
                let at = error.place().map_or(HEADER_BLOCK_BYTES, |place| place.offset);
                open.get_or_insert((at, error));
            }
        }
    }
    end(&mut open, HEADER_BLOCK_BYTES.saturating_add(state.facts.page_bytes));
    Ok(gaps)
}

/// Reads a segment from its first page to its last. Returns what of it holds no right page.
pub fn check_pages(segments: &SegmentSet, state: &SegmentState, report: &mut Report) -> Vec<Gap> {
    let name = FileName::Segment(state.facts.number);
    let (mut count, mut bytes) = (0, 0);
    let walked = walk_pages(segments, state, |page| {
        count += 1;
        bytes += u64::from(page.location.bytes);
    });
    let gaps = match walked {
        Ok(gaps) => gaps,
        Err(error) => {
            report.failed(&error, name, None);
            return Vec::new();
        }
    };
    report.counts.scanned_pages += count;
    // Without a footer a guess knows of none.
    let is_known = gaps.is_empty() && state.facts.pages > 0;
    if is_known && (count, bytes) != (state.facts.pages, state.facts.page_bytes) {
        let (pages, page_bytes) = (state.facts.pages, state.facts.page_bytes);
        let what =
            format!("holds {count} pages of {bytes} bytes instead of {pages} of {page_bytes}");
        report.wrong(name, what);
    }
    gaps
}

/// Tells of bytes without a right page, but for those that are told already.
pub fn tell_gap(gap: &Gap, told: &Told, scope: Scope, report: &mut Report) {
    let Gap { number, range: Range { start, end }, error } = gap;
    let mut at = *start;
    let mut tell = |range: Range<u64>| {
        if range.start < range.end {
            let fault = Fault::at(FileName::Segment(*number), range, message(error));
            report.fault(fault.in_scope(scope));
        }
    };
    for ((_, start), end) in told.range((*number, *start)..(*number, *end)) {
        tell(at..*start);
        at = *end;
    }
    tell(at..*end);
}

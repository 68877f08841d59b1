//! Verification of segments apart from the directory: what stands behind the pages, and dead pages.
//!
//! Invariants:
//!   * A damaged page that the directory names is told once, by whoever looked at its object.

use crate::error::Error;
use crate::format::header::HEADER_BLOCK_BYTES;
use crate::format::manifest::SegmentState;
use crate::ids::FileNumber;
use crate::inspect::report::{Fault, Report, Scope, message};
use crate::names::FileName;
use crate::segment::SegmentSet;
use std::collections::BTreeMap;
use std::ops::Range;

/// Live pages that cannot be read: where each begins and ends.
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

/// Reads a segment from its first page to its last. What is damaged of it and not told yet has this
/// scope.
pub fn check_pages(
    segments: &SegmentSet,
    state: &SegmentState,
    (told, scope): (&Told, Scope),
    report: &mut Report,
) {
    let (number, name) = (state.facts.number, FileName::Segment(state.facts.number));
    let pages = match segments.scan(number) {
        Ok(pages) => pages,
        Err(error) => return report.failed(&error, name, None),
    };
    let (mut count, mut bytes) = (0, 0);
    let mut gap: Option<(u64, Error)> = None;
    let mut is_whole = true;
    for page in pages {
        match page {
            Ok(page) => {
                count += 1;
                bytes += u64::from(page.location.bytes);
                if let Some((start, error)) = gap.take() {
                    let gap = start..page.location.offset;
                    tell_gap(number, gap, &error, (told, scope), report);
                }
            }
            Err(error) => {
                is_whole = false;
                let at = error.place().map_or(HEADER_BLOCK_BYTES, |place| place.offset);
                gap.get_or_insert((at, error));
            }
        }
    }
    let end = HEADER_BLOCK_BYTES.saturating_add(state.facts.page_bytes);
    if let Some((start, error)) = gap {
        tell_gap(number, start..end, &error, (told, scope), report);
    }
    report.counts.scanned_pages += count;
    // Without a footer a guess knows of none.
    let is_known = is_whole && state.facts.pages > 0;
    if is_known && (count, bytes) != (state.facts.pages, state.facts.page_bytes) {
        let (pages, page_bytes) = (state.facts.pages, state.facts.page_bytes);
        let what =
            format!("holds {count} pages of {bytes} bytes instead of {pages} of {page_bytes}");
        report.wrong(name, what);
    }
}

/// Tells of bytes without a right page, but for the live pages among them.
fn tell_gap(
    number: FileNumber,
    gap: Range<u64>,
    error: &Error,
    (told, scope): (&Told, Scope),
    report: &mut Report,
) {
    let mut at = gap.start;
    let mut tell = |range: Range<u64>| {
        if range.start < range.end {
            let fault = Fault::at(FileName::Segment(number), range, message(error));
            report.fault(fault.in_scope(scope));
        }
    };
    for ((_, start), end) in told.range((number, gap.start)..(number, gap.end)) {
        tell(at..*start);
        at = *end;
    }
    tell(at..gap.end);
}

//! Which pages were walked, entry by entry, since the store was opened.
//!
//! Each read of a page compares its checksum, which says that its bytes are those of the read
//! before. To walk them again would tell nothing new, and looks at each of many entries.
//!
//! Invariants:
//!   * A page is taken down only behind a walk that found it right.
//!   * A place names its content for ever; a wrong answer needs two pages of which place and
//!     checksum together mix to the same 64 bits.

use crate::format::entry::PageLocation;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages that can be known at a time: with pages of a large object, 400 MB of them.
const SLOTS: usize = 16 * 1024;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

/// Shorter ones have few entries, and would push out those that have many.
const PAGE_BYTES_LEAST: u32 = 4096;

/// Pages that were found right. A hint: one that is forgotten costs one more walk.
#[derive(Debug)]
pub(super) struct Walked(Box<[AtomicU64]>);

impl Walked {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether the page, whose checksum was found right, has been walked.
    pub(super) fn has(&self, location: &PageLocation) -> bool {
        let (slot, tag) = place(location);
        location.bytes >= PAGE_BYTES_LEAST && self.0[slot].load(Ordering::Relaxed) == tag
    }

    /// The page was walked and found right.
    pub(super) fn insert(&self, location: &PageLocation) {
        if location.bytes >= PAGE_BYTES_LEAST {
            let (slot, tag) = place(location);
            self.0[slot].store(tag, Ordering::Relaxed);
        }
    }
}

/// The slot of a page, and what stands there for it; never the zero of an empty slot.
fn place(location: &PageLocation) -> (usize, u64) {
    let key = location.file.0.rotate_left(40) ^ (location.offset >> 3);
    let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let slot = usize::try_from(mixed >> (u64::BITS - SLOT_BITS)).unwrap_or(0);
    (slot % SLOTS, (mixed ^ (u64::from(location.crc) << 16)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FileNumber;

    #[test]
    fn a_page_is_known_by_its_place_and_its_checksum() {
        let walked = Walked::new();
        let page = PageLocation { file: FileNumber(7), offset: 8192, bytes: 24_576, crc: 5 };
        assert!(!walked.has(&page));
        walked.insert(&page);
        assert!(walked.has(&page));
        for other in [
            PageLocation { file: FileNumber(8), ..page },
            PageLocation { offset: 8200, ..page },
            PageLocation { crc: 6, ..page },
        ] {
            assert!(!walked.has(&other), "{other:?}");
        }
        let short = PageLocation { offset: 40_960, bytes: PAGE_BYTES_LEAST - 8, ..page };
        walked.insert(&short);
        assert!(!walked.has(&short));
    }
}

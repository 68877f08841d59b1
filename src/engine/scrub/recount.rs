//! What is live of a segment, counted anew while it is read.
//!
//! Where a part of the directory is lost, so are the entries of pages that it named. When the life
//! ends that they were of, nobody can take them off the account of their segment, which would stay
//! for ever. A scrub reads each page, and asks the directory whether anything can name it.
//!
//! Invariants:
//!   * A page counts as dead only where the directory answers without anything being hidden. What
//!     is dead stays dead, so what was counted holds however much is published meanwhile.
//!   * Counting anew only ever lowers what counts as live.

use super::Engine;
use crate::error::{ErrorKind, Result};
use crate::format::entry::PageEntry;
use crate::ids::FileNumber;
use crate::object::version::Version;
use crate::segment::ScannedPage;

/// What was found dead of a segment.
#[derive(Debug, Default)]
pub(super) struct Dead {
    bytes: u64,
    pages: u64,
}

impl Dead {
    /// Looks whether anything names a page.
    pub fn look(&mut self, version: &Version, page: &ScannedPage) {
        // What cannot be told is not dead.
        if !is_named(version, page).unwrap_or(true) {
            self.bytes += u64::from(page.location.bytes);
            self.pages += 1;
        }
    }
}

fn is_named(version: &Version, page: &ScannedPage) -> Result<bool> {
    let (address, life) = (page.meta.address, page.meta.life);
    let Some(head) = version.head(address)? else { return Ok(false) };
    if head.deleted || head.life != life {
        return Ok(false);
    }
    let names = |entry: &PageEntry| entry.parts().any(|part| part.location == page.location);
    if let Some(entry) = &head.page {
        return Ok(names(entry));
    }
    // All parts of an entry have its fence.
    let found = version.pages_of(address, life).page_at(address, life, &page.meta.fence)?;
    Ok(found.is_some_and(|(_, entry)| names(&entry)))
}

impl Engine {
    /// Sets right what counts as live of a segment that was read to its end.
    pub(super) fn recount(&self, number: FileNumber, dead: &Dead) -> Result<()> {
        let mut publisher = self.publisher.lock();
        let mut next = publisher.manifest.clone();
        let mut segments = next.segments.iter_mut();
        let Some(segment) = segments.find(|segment| segment.facts.number == number) else {
            return Ok(());
        };
        let bytes = segment.facts.page_bytes.saturating_sub(dead.bytes);
        let pages = segment.facts.pages.saturating_sub(dead.pages);
        if segment.live_bytes <= bytes && segment.live_pages <= pages {
            return Ok(());
        }
        segment.live_bytes = segment.live_bytes.min(bytes);
        segment.live_pages = segment.live_pages.min(pages);
        next.segments.retain(|segment| segment.live_pages > 0);
        match self.publish(&mut publisher, next) {
            // The next scrub counts again.
            Err(error) if error.kind() == ErrorKind::Full => Ok(()),
            published => published,
        }
    }
}

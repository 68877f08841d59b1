//! Which purges a segment holds something of: pages of the object from before, or a dictionary that
//! may have learnt from them.
//!
//! Invariants:
//!   * Whatever cannot be read may hold anything, unless the directory says that all of it is pages
//!     of other objects.

use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::PageEntry;
use crate::format::manifest::Purge;
use crate::ids::{Address, FileNumber, Lsn, NamespaceNumber};
use crate::object::version::Version;
use crate::segment::ScannedPage;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What is looked for.
struct Sought {
    ends: BTreeMap<Address, Lsn>,
    namespaces: BTreeSet<NamespaceNumber>,
}

impl Sought {
    fn new(purges: &[Purge]) -> Self {
        Self {
            ends: purges.iter().map(|purge| (purge.address, purge.lsn)).collect(),
            namespaces: purges.iter().map(|purge| purge.address.namespace).collect(),
        }
    }

    /// Whether a page is of a purged object, and from before.
    fn is_old(&self, page: &ScannedPage) -> bool {
        let end = self.ends.get(&page.meta.address);
        end.is_some_and(|end| page.meta.exact_at < *end)
    }

    /// Whether a page is packed with what may have learnt from a purged object.
    fn is_packed(&self, page: &ScannedPage) -> bool {
        page.dictionary != 0 && self.namespaces.contains(&page.meta.address.namespace)
    }
}

/// The segments that hold something of these purges, or that may. The purged lives themselves are
/// dead, so most of what is found is about to be rewritten for its neighbours' sake. `check` is
/// asked before each segment whether to go on.
pub(super) fn concerned(
    version: &Version,
    purges: &[Purge],
    check: impl Fn() -> Result<()>,
) -> Result<Vec<FileNumber>> {
    let sought = Sought::new(purges);
    let holds = |page: Result<ScannedPage>| {
        page.map_or(true, |page| sought.is_old(&page) || sought.is_packed(&page))
    };
    let mut concerned = Vec::new();
    for number in version.manifest.segments.iter().map(|segment| segment.facts.number) {
        check()?;
        let scan = version.segments.scan(number);
        if scan.map_or(true, |mut scan| scan.any(holds)) {
            concerned.push(number);
        }
    }
    Ok(concerned)
}

/// The purges that a segment, which could not be emptied, holds something of. Fails where it cannot
/// be read for another reason than damage.
///
/// Reads the whole directory where the segment has gaps.
pub(super) fn held_by(
    version: &Version,
    number: FileNumber,
    purges: &[Purge],
) -> Result<Vec<Purge>> {
    let held = match find(version, number, &Sought::new(purges)) {
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(purges.to_vec()),
        held => held?,
    };
    let is_held = |purge: &&Purge| {
        let Address { namespace, .. } = purge.address;
        held.namespaces.contains(&namespace) || held.objects.contains(&purge.address)
    };
    Ok(purges.iter().filter(is_held).copied().collect())
}

/// What is in a segment of what is looked for.
#[derive(Default)]
struct Held {
    objects: BTreeSet<Address>,
    namespaces: BTreeSet<NamespaceNumber>,
}

/// Fails with the error of a gap of which nobody knows what was in it.
fn find(version: &Version, number: FileNumber, sought: &Sought) -> Result<Held> {
    let mut held = Held::default();
    let mut gaps = Vec::new();
    let mut scan = version.segments.scan(number)?;
    loop {
        let from = scan.at();
        match scan.next() {
            None => break,
            Some(Ok(page)) => {
                if sought.is_old(&page) {
                    held.objects.insert(page.meta.address);
                }
                if sought.is_packed(&page) {
                    held.namespaces.insert(page.meta.address.namespace);
                }
                close(&mut gaps, page.location.offset);
            }
            Some(Err(error)) if error.kind() == ErrorKind::Corrupt => {
                gaps.push((from..from, error));
            }
            Some(Err(error)) => return Err(error),
        }
    }
    close(&mut gaps, scan.at());
    if gaps.is_empty() {
        return Ok(held);
    }
    let live = Live::of(version, number)?;
    for (gap, error) in gaps {
        if !live.covers(&gap) {
            return Err(error);
        }
    }
    held.namespaces.extend(live.packed);
    Ok(held)
}

/// The last gap ends here, if it has no end yet.
fn close(gaps: &mut [(Range<u64>, Error)], end: u64) {
    if let Some((gap, _)) = gaps.last_mut().filter(|(gap, _)| gap.is_empty()) {
        gap.end = end;
    }
}

/// The pages of a segment that the directory names.
#[derive(Default)]
struct Live {
    /// Where each begins and ends.
    pages: BTreeMap<u64, u64>,
    /// The namespaces of those packed with a dictionary.
    packed: BTreeSet<NamespaceNumber>,
}

impl Live {
    /// Reads the whole directory; fails where a part of it is lost.
    fn of(version: &Version, number: FileNumber) -> Result<Self> {
        let mut live = Self::default();
        for head in version.directory.heads(Address::default()) {
            let (address, head) = head?;
            if let Some(entry) = &head.page {
                live.add(number, address.namespace, entry);
                continue;
            }
            for page in version.directory.pages(address, head.life) {
                live.add(number, address.namespace, &page?.1);
            }
        }
        Ok(live)
    }

    fn add(&mut self, number: FileNumber, namespace: NamespaceNumber, entry: &PageEntry) {
        for part in entry.parts().filter(|part| part.location.file == number) {
            let (from, bytes) = (part.location.offset, u64::from(part.location.bytes));
            self.pages.insert(from, from + bytes);
            if part.dictionary != 0 {
                self.packed.insert(namespace);
            }
        }
    }

    /// Whether all of a gap is pages, without a byte between them.
    fn covers(&self, gap: &Range<u64>) -> bool {
        let mut at = gap.start;
        while at < gap.end {
            let Some(end) = self.pages.get(&at) else { return false };
            at = *end;
        }
        at == gap.end && !gap.is_empty()
    }
}

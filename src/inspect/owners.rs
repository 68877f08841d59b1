//! Whose page stood where a segment holds none that is right: by the directory, for whoever has not
//! gone from the objects to their pages.
//!
//! Invariants:
//!   * Memory is an entry's pages and what is found: [`KNOWN_MAX`] pages at most.

use crate::directory::Directory;
use crate::error::Result;
use crate::format::entry::{DirectoryKey, Head, PageEntry, PageLocation};
use crate::ids::{Address, FileNumber};
use crate::inspect::lost::KNOWN_MAX;
use crate::inspect::report::{KeyRange, message};
use crate::inspect::segments::Gap;
use crate::run::{Run, RunItem};
use std::collections::BTreeMap;
use std::ops::Range;

/// A page in a gap, as the directory names it.
#[derive(Debug)]
pub struct Owned {
    /// The segment.
    pub number: FileNumber,
    /// Its bytes.
    pub range: Range<u64>,
    /// The object, and the full keys that are lost with it; of a page that nobody needs any more,
    /// none.
    pub live: Option<(Address, Option<KeyRange>)>,
    /// What is wrong with it.
    pub what: String,
}

/// Stretches of segments without right pages.
struct Gaps<'a>(BTreeMap<(FileNumber, u64), &'a Gap>);

impl Gaps<'_> {
    /// The gap in which a page stands, or a part of it.
    fn holds(&self, page: &PageLocation) -> Option<&Gap> {
        let end = page.offset.saturating_add(u64::from(page.bytes));
        let before = self.0.range((page.file, 0)..(page.file, end)).next_back();
        before.map(|(_, gap)| *gap).filter(|gap| gap.range.end > page.offset)
    }
}

/// What is found so far, by where it stands.
type Found = BTreeMap<(FileNumber, u64), Owned>;

/// The pages in some gaps that any entry of the directory names, by where they stand; and whether
/// that is all of them.
pub fn of_gaps(directory: &Directory, gaps: &[Gap]) -> (Vec<Owned>, bool) {
    let gaps = Gaps(gaps.iter().map(|gap| ((gap.number, gap.range.start), gap)).collect());
    let (mut found, mut whose) = (Found::new(), BTreeMap::new());
    let mut is_whole = true;
    for run in directory.runs().iter().filter(|_| !gaps.0.is_empty()) {
        for (address, entry) in entries(run) {
            for (page, gap) in parts(&entry, &gaps) {
                is_whole &= found.len() < KNOWN_MAX;
                if is_whole {
                    note(&mut found, &page, None, gap);
                    whose.entry(address).or_insert_with(Vec::new).push(page);
                }
            }
        }
    }
    for (address, pages) in whose {
        let is_known = note_live(directory, address, &gaps, &mut found);
        for page in pages.into_iter().filter(|_| !is_known) {
            if let Some(gap) = gaps.holds(&page) {
                note(&mut found, &page, Some((address, None)), gap);
            }
        }
    }
    (found.into_values().collect(), is_whole)
}

fn note(
    found: &mut Found,
    page: &PageLocation,
    live: Option<(Address, Option<KeyRange>)>,
    gap: &Gap,
) {
    let (number, range) = (page.file, page.offset..page.offset + u64::from(page.bytes));
    let what = message(&gap.error);
    let own = found.entry((number, page.offset));
    let own = own.or_insert(Owned { number, range, live: None, what });
    own.live = live.or(own.live.take());
}

/// The pages that an entry names and that are in a gap.
fn parts<'g>(
    entry: &PageEntry,
    gaps: &'g Gaps<'_>,
) -> impl Iterator<Item = (PageLocation, &'g Gap)> {
    let pages: Vec<_> = entry.parts().map(|part| part.location).collect();
    pages.into_iter().filter_map(|page| Some((page, gaps.holds(&page)?)))
}

/// What the entries of a run name, whether they still count or not.
fn entries(run: &Run) -> impl Iterator<Item = (Address, PageEntry)> {
    run.iter().filter_map(|item| {
        let Ok(RunItem::Entry { key, value }) = item else { return None };
        match DirectoryKey::parse(&key).ok()? {
            DirectoryKey::Head(address) => Some((address, Head::decode(&value).ok()?.page?)),
            DirectoryKey::Page(address, ..) => {
                Some((address, PageEntry::decode_value(&value).ok()??))
            }
        }
    })
}

/// The entries of an object, each with the full keys that it answers for as far as that is known;
/// an error where entries are lost.
pub fn entries_of<'a>(
    directory: &'a Directory,
    address: Address,
    head: &'a Head,
) -> impl Iterator<Item = Result<(KeyRange, PageEntry)>> + 'a {
    let one = head.page.iter().map(|entry| Ok((Vec::new(), entry.clone())));
    let pages = directory.pages(address, head.life).take_while(|_| head.page.is_none());
    let mut pages = one.chain(pages).peekable();
    std::iter::from_fn(move || {
        let page = pages.next()?;
        let next = pages.peek().and_then(|next| next.as_ref().ok());
        let end = next.map(|(fence, _)| fence.clone());
        Some(page.map(|(first, entry)| (KeyRange { first, end }, entry)))
    })
}

/// Notes the pages in gaps that an object still needs. Says whether all its entries are known.
fn note_live(directory: &Directory, address: Address, gaps: &Gaps<'_>, found: &mut Found) -> bool {
    let Ok(Some(head)) = directory.head(address) else { return false };
    if head.deleted {
        return true;
    }
    let mut is_whole = true;
    for entry in entries_of(directory, address, &head) {
        let Ok((keys, entry)) = entry else {
            is_whole = false;
            continue;
        };
        for (page, gap) in parts(&entry, gaps) {
            note(found, &page, Some((address, Some(keys.clone()))), gap);
        }
    }
    is_whole
}

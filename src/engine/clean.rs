//! Cleaning: live pages move out of segments that are mostly dead, folded and compressed.
//!
//! Victims are chosen by benefit, age times free space over cost (Rosenblum and Ousterhout 1992),
//! and their pages are looked up in key order. What moves has outlived its neighbours and is likely
//! to stay, so it is worth compressing, with a dictionary for each namespace.
//!
//! Invariants:
//!   * A page moves only if the directory names it at exactly this place.
//!   * A page that cannot be read stays where it is, and so does its segment. What keeps it there
//!     may pass, so it is tried again, the longer after the more often it failed.

use super::Engine;
use super::archive::every_key;
use super::build::Builder;
use super::content::{content_of, inheriting};
use super::patience::Patience;
use super::publish::Publisher;
use super::stats::total;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Head, PageEntry, PageLocation, PagePart};
use crate::format::manifest::SegmentState;
use crate::ids::{Address, FileNumber, Life, NamespaceNumber};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::changes::Changes;
use crate::object::version::{Stack, Version};
use crate::planted::{Mistake, planted};
use crate::segment::Compression;
use crate::segment::dictionary::{Dictionary, TRAINED_BYTES};
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Dead share of a segment, in percent, from which on cleaning pays.
const DEAD_PERCENT_MIN: u64 = 30;
/// Dead bytes that threads let be, in percent of the live ones: the more there are, the emptier are
/// the victims, and the less is rewritten for each byte that comes free.
const DEAD_PERCENT_KEPT: u64 = 80;
/// Steps of cleaning that may follow each other, one more for each share of what is kept that is
/// dead beyond it: the further behind, the more before the next checkpoint.
const STEPS_PER_KEPT: u64 = 8;
const STEPS_MAX: u64 = 8;
/// Small segments that are let be.
const SMALL_SEGMENTS_MAX: usize = 32;
/// Pages that a dictionary is trained on, and how few are not worth it.
const SAMPLES_MAX: usize = 4_000;
const SAMPLES_MIN: usize = 64;

/// A key range of an object in a victim.
type Range = (Address, Life, Vec<u8>);

impl Engine {
    /// Whether enough is dead, or enough segments are small, for cleaning on its own account.
    pub fn wants_clean(&self) -> bool {
        let version = self.version();
        let segments = &version.manifest.segments;
        let (dead, kept) = self.dead_and_kept(segments);
        let is_due = dead > kept || self.has_crumbs(segments);
        is_due && !self.choose_victims(segments, &Patience::default()).is_empty()
    }

    /// Dead bytes of pages, and how many of them threads let be.
    fn dead_and_kept(&self, segments: &[SegmentState]) -> (u64, u64) {
        let live = total(segments.iter().map(|segment| segment.live_bytes));
        let pages = total(segments.iter().map(|segment| segment.facts.page_bytes));
        let kept =
            (live.saturating_mul(DEAD_PERCENT_KEPT) / 100).max(self.options.dirty_bytes as u64 / 2);
        (pages.saturating_sub(live), kept)
    }

    /// Cleans as far as is due: one step, and more the further what is dead is beyond what is kept.
    /// A load that leaves time for one step only between two checkpoints would else leave dead
    /// bytes behind without a bound. Says whether anything was cleaned.
    pub fn clean_what_is_due(&self) -> Result<bool> {
        let (dead, kept) = self.dead_and_kept(&self.version().manifest.segments);
        let beyond = dead.saturating_sub(kept).saturating_mul(STEPS_PER_KEPT);
        let steps = (beyond / kept.max(1)).saturating_add(1);
        let mut has_cleaned = false;
        for _ in 0..steps.min(STEPS_MAX) {
            if !self.wants_clean() || self.check_wanted().is_err() || !self.clean()? {
                break;
            }
            has_cleaned = true;
        }
        Ok(has_cleaned)
    }

    /// Below this a segment is small.
    fn crumb_bytes(&self) -> u64 {
        self.options.segment_bytes / 8
    }

    fn has_crumbs(&self, segments: &[SegmentState]) -> bool {
        let small = self.crumb_bytes();
        let is_small = |segment: &&SegmentState| segment.facts.bytes < small;
        segments.iter().filter(is_small).count() > SMALL_SEGMENTS_MAX
    }

    /// Cleans some segments. Says whether any was worth it.
    pub fn clean(&self) -> Result<bool> {
        let mut publisher = self.publisher.lock();
        self.check_alive()?;
        let victims = self.choose_victims(&publisher.manifest.segments, &publisher.pinned);
        if victims.is_empty() {
            return Ok(false);
        }
        match self.clean_victims(&mut publisher, &victims)? {
            // Damage is told by who reads it.
            Some(error) if error.kind() != ErrorKind::Corrupt => Err(error),
            _ => Ok(true),
        }
    }

    fn choose_victims(
        &self,
        segments: &[SegmentState],
        pinned: &Patience<FileNumber>,
    ) -> BTreeSet<FileNumber> {
        let now = self.clock.uptime();
        let small = self.crumb_bytes();
        let has_crumbs = self.has_crumbs(segments);
        let newest = segments.iter().map(|segment| segment.facts.number.0).max().unwrap_or(0);
        let mut candidates: Vec<(u64, &SegmentState)> = segments
            .iter()
            .filter(|segment| !pinned.waits(&segment.facts.number, now))
            .filter_map(|segment| {
                let dead = segment.facts.page_bytes.saturating_sub(segment.live_bytes);
                let percent = dead.saturating_mul(100) / segment.facts.page_bytes.max(1);
                let is_crumb = segment.facts.bytes < small && has_crumbs;
                let age = newest - segment.facts.number.0 + 1;
                let pays = percent >= DEAD_PERCENT_MIN || is_crumb;
                pays.then(|| (percent.max(1) * u64::from(64 - age.leading_zeros()), segment))
            })
            .collect();
        candidates
            .sort_by_key(|(benefit, segment)| (std::cmp::Reverse(*benefit), segment.facts.number));
        let mut budget = self.options.clean_bytes;
        let mut victims = BTreeSet::new();
        for (_, segment) in candidates {
            if segment.live_bytes > budget && !victims.is_empty() {
                break;
            }
            budget = budget.saturating_sub(segment.live_bytes.max(1));
            victims.insert(segment.facts.number);
        }
        victims
    }

    /// Moves what is live out of segments, past what cannot be read. Says what may pass and kept
    /// something where it is.
    pub(super) fn clean_victims(
        &self,
        publisher: &mut Publisher,
        victims: &BTreeSet<FileNumber>,
    ) -> Result<Option<Error>> {
        let version = self.version();
        let mut ranges = Vec::new();
        let mut unread = None;
        for victim in victims {
            if let Err(error) = scan(&version, *victim, &mut ranges, &mut unread) {
                note_unread(&mut unread, error);
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        if planted(Mistake::RemoveEarly) {
            for victim in victims {
                let _ = self.disk.remove(FileName::Segment(*victim));
            }
        }
        let mut next = publisher.manifest.clone();
        let mut builder = Builder::new(self, &version, next.cut, 1);
        builder.unread = unread;
        let mut namespace = None;
        for object in ranges.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)) {
            self.check_wanted()?;
            let address = object[0].0;
            if namespace != Some(address.namespace) {
                namespace = Some(address.namespace);
                let dictionary = self.dictionary(&version, address.namespace, &ranges);
                builder.compression = Compression::Zstd(dictionary);
            }
            match builder.move_object(object, victims) {
                // Its pages stay.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    note_unread(&mut builder.unread, error);
                }
                moved => moved?,
            }
        }
        let time = next.cut_time;
        let unread = builder.unread.take();
        let created = builder.finish(&mut next, time)?;
        self.publish_new(publisher, next, &created, None)?;
        // What is left in a victim could not be moved: trying again at once would not help.
        let Publisher { manifest, pinned, .. } = publisher;
        let left = manifest.segments.iter().map(|segment| segment.facts.number);
        let left: BTreeSet<_> = left.collect();
        let now = self.clock.uptime();
        left.intersection(victims).for_each(|number| pinned.note_failed(*number, now));
        pinned.keep_only(|number| left.contains(number));
        mark(Mark::SegmentCleaned);
        self.counters.cleaned.fetch_add(victims.len() as u64, Ordering::Relaxed);
        Ok(unread)
    }

    /// The dictionary of a namespace: the one known, or one trained on objects that will move.
    fn dictionary(
        &self,
        version: &Version,
        namespace: NamespaceNumber,
        ranges: &[Range],
    ) -> Option<Arc<Dictionary>> {
        let mut known = self.dictionaries.lock();
        if let Some(dictionary) = known.get(&namespace) {
            return Some(Arc::clone(dictionary));
        }
        let objects = ranges.chunk_by(|one, next| one.0 == next.0).map(|object| object[0].0);
        let own = objects.filter(|address| address.namespace == namespace);
        let samples: Vec<Vec<u8>> =
            own.take(SAMPLES_MAX).filter_map(|address| sample(version, address)).collect();
        if samples.len() < SAMPLES_MIN {
            return None;
        }
        let dictionary = Arc::new(Dictionary::train(&samples, TRAINED_BYTES)?);
        known.insert(namespace, Arc::clone(&dictionary));
        Some(dictionary)
    }
}

/// Dictionaries trained since open, by namespace. A leaf lock around training, which is rare.
pub type Dictionaries = crate::locks::Mutex<HashMap<NamespaceNumber, Arc<Dictionary>>>;

fn sample(version: &Version, address: Address) -> Option<Vec<u8>> {
    let head = version.head(address).ok()??;
    let entry = head.page.as_ref()?;
    let stack = version.stack(entry, address, head.life).ok()?;
    stack.0.last().map(|page| page.body().to_vec())
}

/// The key ranges that have a page in a segment, past what is damaged. What is live there stays,
/// and then so does the segment.
fn scan(
    version: &Version,
    victim: FileNumber,
    ranges: &mut Vec<Range>,
    unread: &mut Option<Error>,
) -> Result<()> {
    for page in version.segments.scan(victim)? {
        match page {
            Ok(page) => ranges.push((page.meta.address, page.meta.life, page.meta.fence)),
            Err(error) => note_unread(unread, error),
        }
    }
    Ok(())
}

/// Keeps the first error that may not come again. Bytes that are not what was written stay so.
pub(super) fn note_unread(unread: &mut Option<Error>, error: Error) {
    if error.kind() != ErrorKind::Corrupt || error.is_unreadable() {
        unread.get_or_insert(error);
    }
}

fn names_any(entry: &PageEntry, victims: &BTreeSet<FileNumber>) -> bool {
    let is_in = |location: &PageLocation| victims.contains(&location.file);
    entry.base.iter().chain(&entry.deltas).any(|part| is_in(&part.location))
}

impl Builder<'_> {
    /// Rewrites what the directory names of one life of an object in the victims: `ranges` are all
    /// of it that have a page there.
    fn move_object(&mut self, ranges: &[Range], victims: &BTreeSet<FileNumber>) -> Result<()> {
        let (address, life) = (ranges[0].0, ranges[0].1);
        let Some(head) = self.version.head(address)? else { return Ok(()) };
        if head.deleted || head.life != life {
            return Ok(());
        }
        self.archive.begin(address, None);
        self.archive.note_adopted(life, head.adopted);
        match &head.page {
            Some(entry) if names_any(entry, victims) => self.move_tiny(address, &head, entry)?,
            Some(_) => return Ok(()),
            None => self.move_large(address, &head, ranges, victims)?,
        }
        if self.archive.mark() > 0 {
            self.archive.head(Some(&head));
        }
        self.archive.finish(address, &[], &mut self.created)
    }

    fn move_tiny(&mut self, address: Address, head: &Head, entry: &PageEntry) -> Result<()> {
        let stack = match self.version.stack_once(entry, address, head.life) {
            Ok(stack) => stack,
            Err(error) => {
                note_unread(&mut self.unread, error);
                return Ok(());
            }
        };
        self.page_exact_at = self.archive.newest_of(entry, head.life);
        let pages = if let Some(moved) = self.move_whole(entry, &stack)? {
            vec![(Vec::new(), moved)]
        } else {
            let everything = (Bound::Unbounded, Bound::Unbounded);
            let all = (&[][..], &Changes::default(), &stack);
            self.fold_pages(address, head.life, all, everything, 0)?
        };
        let logged = if entry.deltas.is_empty() && !pages.is_empty() {
            entry.logged_since_archived
        } else {
            self.archive.entry(head.life, &every_key(), (entry, Some(&stack)), 0)
        };
        let pages = inheriting(pages, logged);
        self.release_entry(entry);
        let mut content = content_of(pages);
        let moved = Head {
            deleted: content.inline.is_none() && content.pages.is_empty() && !head.may_have_alarm(),
            approximate: false,
            count: content.count,
            content_bytes: content.bytes,
            page: content.inline.take(),
            ..head.clone()
        };
        self.write_entries(address, &moved, &content)
    }

    /// Writes a page that has no deltas as it is, without looking at its entries, unless folding
    /// might split it or leave nothing of it.
    fn move_whole(&mut self, entry: &PageEntry, stack: &Stack) -> Result<Option<PageEntry>> {
        let (Some(base), [newer @ .., page]) = (&entry.base, &stack.0[..]) else {
            return Ok(None);
        };
        if !newer.is_empty() && !planted(Mistake::MoveWithoutDeltas) {
            return Ok(None);
        }
        let is_small = page.body().len() <= self.engine.options.page_bytes / 2;
        if !is_small || (base.count == 0 && base.content_bytes == 0) {
            return Ok(None);
        }
        let part = self.write_page(&page.copy_exact_at(self.page_exact_at))?;
        let (count, content_bytes) = (base.count, base.content_bytes);
        let part = PagePart { count, content_bytes, ..part };
        Ok(Some(PageEntry { base: Some(part), ..PageEntry::default() }))
    }

    fn move_large(
        &mut self,
        address: Address,
        head: &Head,
        ranges: &[Range],
        victims: &BTreeSet<FileNumber>,
    ) -> Result<()> {
        let fences = ranges.iter().map(|(_, _, fence)| fence);
        let before = self.liveness.clone();
        let refolded = self.refold_spans(address, head, fences, |entry| names_any(entry, victims));
        let content = refolded.inspect_err(|_| {
            // What was folded before the error is not published: the old pages stay alive.
            self.liveness = before;
        })?;
        if content.pages.is_empty() && content.inline.is_none() {
            return Ok(());
        }
        let moved = Head {
            deleted: content.inline.is_none()
                && content.pages.iter().all(|(_, entry)| entry.is_none())
                && !content.keeps_pages
                && !head.may_have_alarm(),
            approximate: content.is_approximate,
            count: content.count,
            content_bytes: content.bytes,
            page: content.inline.clone(),
            ..head.clone()
        };
        self.write_entries(address, &moved, &content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::format::page::SegmentFacts;
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind, ShortId};
    use crate::manifest;
    use crate::object::write_set::WriteSet;
    use crate::options::Options;

    fn open(disk: &SimDisk) -> Arc<Engine> {
        Engine::open(Arc::new(disk.clone()), Options::default().threads(false)).unwrap()
    }

    #[test]
    fn no_number_that_a_manifest_says_makes_a_step_panic() {
        let disk = SimDisk::new(1);
        let engine = open(&disk);
        for id in 0..4 {
            let address = Address { namespace: NamespaceNumber(1), id: ShortId([id; 16]) };
            let mut changes = WriteSet::new();
            let key = &[KeyKind::User as u8, b'k'];
            let put = Operation::Put { key, codec: Codec::Raw, value: &[id; 3_000] };
            changes.push(&engine.options.limits, &put).unwrap();
            let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
            engine.with_object(address, commit).unwrap();
            assert!(engine.checkpoint().unwrap());
        }
        let base = disk.kill();
        let told = manifest::read(&base).unwrap().unwrap();
        assert!(told.segments.len() == 4 && told.history.len() == 4);
        let numbers = [1 << 58, 1 << 62, (1 << 63) - 1].into_iter();
        for (number, field) in numbers.flat_map(|number| (0..6).map(move |field| (number, field))) {
            let (disk, mut forged) = (base.fork(), told.clone());
            for segment in &mut forged.segments {
                let SegmentState { facts, live_bytes, live_pages, .. } = segment;
                let SegmentFacts { bytes, page_bytes, pages, .. } = facts;
                let fields = [bytes, page_bytes, pages, live_bytes, live_pages];
                fields.into_iter().nth(field).into_iter().for_each(|it| *it = number);
            }
            if field == 5 {
                forged.history.iter_mut().for_each(|file| file.facts.bytes = number);
                forged.generation = u64::MAX;
            }
            manifest::write(&disk, &forged).unwrap();
            let engine = open(&disk);
            let _ = (engine.wants_clean(), engine.clean_what_is_due(), engine.clean());
            let _ = (engine.expire(), engine.merge(), engine.scrub(), engine.checkpoint());
            disk.advance(std::time::Duration::from_hours(1));
            let _ = (engine.wants_expire(), engine.remove_retired());
            assert!(engine.stats().unwrap().disk_bytes() > 0 && engine.check_alive().is_ok());
        }
    }
}

//! Damaged pages written anew: what a scrub has found is put right where history has it.
//!
//! A part of an entry is exact at an LSN, and history says what the object was as of that LSN. So
//! each damaged part is made anew by itself: a base from the state that history has and the commits
//! behind it, a delta from the commits that it held. It has the same LSNs, fence and entries as
//! before and takes the same place in the entry; to all others it is a page that has moved, and
//! nothing is given up for it.
//!
//! Invariants:
//!   * No byte of a damaged part is used, and an entry is whole afterwards or stays as it was.
//!   * What takes the place of a page counts what that counted and, where that can be told, has
//!     its checksum; or it is not published.
//!   * Nobody publishes anything else between the look at an entry and the publish.

use super::Engine;
use super::build::Builder;
use super::content::{Content, counted};
use super::delta::write_deltas;
use super::publish::Publisher;
use crate::disk::ReadDisk;
use crate::disk::fresh::Fresh;
use crate::disk::unmapped::Unmapped;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Head, PageEntry, PagePart, counts_from};
use crate::format::page::{PageBuilder, PageKind, PageMeta};
use crate::ids::{Address, Life, Lsn};
use crate::limits::PAGE_BYTES_MAX;
use crate::marks::{Mark, mark};
use crate::object::View;
use crate::object::changes::Changes;
use crate::object::past::changes_between;
use crate::object::range::RangeIter;
use crate::object::version::Version;
use crate::planted::{Mistake, planted};
use crate::segment::SegmentSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a page and its last entry take beside keys and values, at most.
const PAGE_SPARE_BYTES: usize = 4096;

/// A key range of an object, of whose pages one is suspected of damage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suspect {
    pub address: Address,
    pub life: Life,
    pub fence: Vec<u8>,
}

/// What became of a suspect.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing was wrong with it, or it is not live any more.
    Whole,
    /// This was found, and is put right.
    Rebuilt(Error),
    /// This was found, and stays for this reason.
    Left(Error, Error),
}

/// An entry of which a part may be damaged.
struct Site<'a> {
    address: Address,
    head: &'a Head,
    fence: &'a [u8],
    next: Option<&'a [u8]>,
    entry: &'a PageEntry,
}

impl Site<'_> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(self.fence), self.next.map_or(Bound::Unbounded, Bound::Excluded))
    }
}

impl Engine {
    /// All segments of a version, read past what the system remembers of them.
    fn fresh_segments(&self, version: &Version) -> SegmentSet {
        let segments = SegmentSet::new(fresh_disk(version), self.context.store);
        version.manifest.segments.iter().for_each(|segment| segments.add(&segment.facts));
        segments
    }

    /// Looks at suspects, in their order, and writes anew what is damaged of them. Where there is
    /// no room for that, all of it is left as it is.
    pub(super) fn rebuild(&self, suspects: &[Suspect]) -> Result<Vec<Verdict>> {
        let mut publisher = self.publisher.lock();
        self.check_alive()?;
        match self.rebuild_or_leave(&mut publisher, suspects, None) {
            Err(full) if full.kind() == ErrorKind::Full && self.check_alive().is_ok() => {
                mark(Mark::NotRebuilt);
                self.rebuild_or_leave(&mut publisher, suspects, Some(&full))
            }
            rebuilt => rebuilt,
        }
    }

    /// The same; with an error, nothing is written, and it is the reason.
    fn rebuild_or_leave(
        &self,
        publisher: &mut Publisher,
        suspects: &[Suspect],
        refused: Option<&Error>,
    ) -> Result<Vec<Verdict>> {
        let version = self.version();
        let fresh = self.fresh_segments(&version);
        let mut next = publisher.manifest.clone();
        let mut builder = Builder::new(self, &version, next.cut, 1);
        let mut verdicts = Vec::with_capacity(suspects.len());
        for object in suspects.chunk_by(|one, next| one.address == next.address) {
            self.check_wanted()?;
            let builder = &mut builder;
            let mut rebuilder = Rebuilder { builder, version: &version, fresh: &fresh, refused };
            verdicts.extend(rebuilder.object(object)?);
        }
        let is_rebuilt = |verdict: &&Verdict| matches!(verdict, Verdict::Rebuilt(_));
        let rebuilt = verdicts.iter().filter(is_rebuilt).count() as u64;
        if rebuilt > 0 {
            let time = next.cut_time;
            let created = builder.finish(&mut next, time)?;
            self.publish_new(publisher, next, &created, None)?;
            self.counters.rebuilt.fetch_add(rebuilt, Ordering::Relaxed);
        }
        Ok(verdicts)
    }
}

struct Rebuilder<'b, 'e> {
    builder: &'b mut Builder<'e>,
    version: &'b Arc<Version>,
    fresh: &'b SegmentSet,
    /// Why nothing is written, if so.
    refused: Option<&'b Error>,
}

impl Rebuilder<'_, '_> {
    /// Looks at suspects of one object.
    fn object(&mut self, suspects: &[Suspect]) -> Result<Vec<Verdict>> {
        let address = suspects[0].address;
        let head = match self.version.head(address) {
            Ok(Some(head)) if !head.deleted => head,
            Ok(_) => return Ok(suspects.iter().map(|_| Verdict::Whole).collect()),
            Err(error) if is_lasting(&error) => {
                let left = || Verdict::Left(error.clone(), error.clone());
                return Ok(suspects.iter().map(|_| left()).collect());
            }
            Err(error) => return Err(error),
        };
        let mut changed =
            Content { count: head.count, bytes: head.content_bytes, ..Content::default() };
        let mut verdicts = Vec::with_capacity(suspects.len());
        for suspect in suspects {
            verdicts.push(match self.suspect(&head, suspect, &mut changed) {
                Err(error) if is_lasting(&error) => Verdict::Left(error.clone(), error),
                verdict => verdict?,
            });
        }
        if changed.inline.is_some() || !changed.pages.is_empty() {
            let inline = changed.inline.take();
            let head = Head {
                count: changed.count,
                content_bytes: changed.bytes,
                page: inline.or_else(|| head.page.clone()),
                ..head
            };
            self.builder.write_entries(address, &head, &changed)?;
        }
        Ok(verdicts)
    }

    /// Looks at one suspect; notes the entry that takes the place of a damaged one.
    fn suspect(
        &mut self,
        head: &Head,
        suspect: &Suspect,
        changed: &mut Content,
    ) -> Result<Verdict> {
        let Suspect { address, life, fence } = suspect;
        if *life != head.life {
            return Ok(Verdict::Whole);
        }
        let directory = &self.version.directory;
        let (entry, next) = match &head.page {
            Some(entry) if fence.is_empty() => (entry.clone(), None),
            Some(_) => return Ok(Verdict::Whole),
            None => match directory.page_at(*address, *life, fence)? {
                Some((own, entry)) if own == *fence => {
                    (entry, directory.page_after(*address, *life, fence)?.map(|(next, _)| next))
                }
                _ => return Ok(Verdict::Whole),
            },
        };
        let site = Site { address: *address, head, fence, next: next.as_deref(), entry: &entry };
        let Some(damage) = self.damage(&site)? else { return Ok(Verdict::Whole) };
        if let Some(refused) = self.refused {
            return Ok(Verdict::Left(damage, refused.clone()));
        }
        let before = self.builder.liveness.clone();
        match self.entry(&site) {
            Ok(rebuilt) => {
                if entry.base.is_none()
                    && let Some(base) = &rebuilt.base
                {
                    changed.count = changed.count.saturating_add(u64::from(base.count));
                    changed.bytes = changed.bytes.saturating_add(base.content_bytes);
                }
                match &head.page {
                    Some(_) => changed.inline = Some(rebuilt),
                    None => changed.pages.push((fence.clone(), Some(rebuilt))),
                }
                Ok(Verdict::Rebuilt(damage))
            }
            Err(error) if is_lasting(&error) => {
                mark(Mark::NotRebuilt);
                self.builder.liveness = before;
                Ok(Verdict::Left(damage, error))
            }
            Err(error) => Err(error),
        }
    }

    /// What is wrong with an entry, if anything is.
    fn damage(&self, site: &Site<'_>) -> Result<Option<Error>> {
        for part in site.entry.parts() {
            if let Some(damage) = self.damage_of(part, site)? {
                return Ok(Some(damage));
            }
        }
        Ok(site.entry.base.is_none().then(|| lost(site.address)))
    }

    fn damage_of(&self, part: &PagePart, site: &Site<'_>) -> Result<Option<Error>> {
        match self.fresh.read(part, site.address, site.head.life) {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// The entry with all that is damaged of it written anew.
    fn entry(&mut self, site: &Site<'_>) -> Result<PageEntry> {
        let entry = site.entry;
        let base = match &entry.base {
            Some(base) if self.damage_of(base, site)?.is_none() => *base,
            _ => self.base(site)?,
        };
        let mut deltas = Vec::with_capacity(entry.deltas.len());
        // One change may have become several pages.
        let is_one = |one: &PagePart, next: &PagePart| {
            (one.until, one.exact_at) == (next.until, next.exact_at)
        };
        for change in entry.deltas.chunk_by(is_one) {
            let mut is_damaged = false;
            for part in change {
                is_damaged |= self.damage_of(part, site)?.is_some();
            }
            if is_damaged {
                deltas.extend(self.deltas(site, change)?);
            } else {
                deltas.extend_from_slice(change);
            }
        }
        let logged_since_archived = entry.logged_since_archived;
        Ok(PageEntry { base: Some(base), deltas, logged_since_archived, damaged: false })
    }

    /// Writes a base anew.
    fn base(&mut self, site: &Site<'_>) -> Result<PagePart> {
        let Site { address, head, fence, entry, .. } = *site;
        let (exact_at, at) = if let Some(base) = &entry.base {
            (base.exact_at, counts_from(base.exact_at, head.life, head.adopted))
        } else {
            self.check_alone(site)?;
            let at = entry.deltas.first().map_or(head.last_lsn, |delta| delta.until);
            (at, at)
        };
        let at = if planted(Mistake::RebuildEarlier) { Lsn(at.0 - 1) } else { at };
        let view = View::of_history(self.version, address, at)?;
        let has_commits = view.has_commits();
        let mut page = PageBuilder::new(PageMeta {
            kind: PageKind::Page,
            address,
            life: head.life,
            exact_at,
            until: Lsn::ZERO,
            fence: fence.to_vec(),
        });
        let (mut count, mut content_bytes) = (0, 0);
        let (from, to) = site.bounds();
        let bounds = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        for found in RangeIter::new(view, None, bounds) {
            let found = found?;
            let own = counted(&found.key, &found.value);
            (count, content_bytes) = (count + own.0, content_bytes + own.1);
            let bytes = page.body_bytes() + found.key.len() + found.value.len();
            if bytes > PAGE_BYTES_MAX - PAGE_SPARE_BYTES {
                return Err(differs(address));
            }
            page.push(&found.key, found.codec, &found.value);
        }
        let page = page.finish();
        if let Some(base) = &entry.base {
            let is_same = (base.count, base.content_bytes) == (count, content_bytes);
            // Where its file cannot be opened, nobody can tell.
            if !is_same || self.fresh.is_same(base, &page).is_ok_and(|is| is == Some(false)) {
                return Err(differs(address));
            }
            self.builder.liveness.remove(base.location.file, base.location.bytes);
        }
        mark(if has_commits { Mark::RebuiltFromCommits } else { Mark::RebuiltFromState });
        let part = self.builder.write_page(&page)?;
        Ok(PagePart { count, content_bytes, ..part })
    }

    /// Writes the pages of one change anew.
    fn deltas(&mut self, site: &Site<'_>, change: &[PagePart]) -> Result<Vec<PagePart>> {
        let Site { address, head, fence, .. } = *site;
        let (until, exact_at) = (change[0].until, change[0].exact_at);
        let from =
            if planted(Mistake::RebuildWithoutCommits) { Lsn(exact_at.0 - 1) } else { until };
        let said = changes_between(self.version, address, (from, exact_at), (fence, site.next))?;
        let changes = Changes::of_sorted(&said);
        let builder = &mut *self.builder;
        let before = (builder.exact_at, builder.until);
        (builder.exact_at, builder.until) = (exact_at, until);
        let place = (address, head.life, fence);
        let written = write_deltas(builder, place, &changes, site.bounds());
        (builder.exact_at, builder.until) = before;
        let written = written?;
        let counts = |parts: &[PagePart]| {
            let sums = parts.iter().map(|part| (u64::from(part.count), part.content_bytes));
            sums.fold((0, 0), |sum: (u64, u64), own| (sum.0 + own.0, sum.1.saturating_add(own.1)))
        };
        if counts(&written) != counts(change) {
            return Err(differs(address));
        }
        for part in change {
            self.builder.liveness.remove(part.location.file, part.location.bytes);
        }
        mark(Mark::RebuiltDelta);
        Ok(written)
    }

    /// Where the base of an object's only entry was given up, that may have stood for a directory
    /// that was lost. If any of that is left, it would show beside what is rebuilt.
    fn check_alone(&self, site: &Site<'_>) -> Result<()> {
        let Site { address, head, .. } = *site;
        if head.page.is_none() {
            return Ok(());
        }
        let is_lost = head.alarm_lost || head.marks_lost || head.life == Life(0);
        match self.version.directory.pages(address, head.life).next() {
            None if !is_lost => Ok(()),
            None | Some(Ok(_)) => Err(lost(address)),
            Some(Err(error)) => Err(error),
        }
    }
}

/// The disk of a version, each byte of which is asked of the medium.
pub(super) fn fresh_disk(version: &Version) -> Arc<dyn ReadDisk> {
    Arc::new(Unmapped::new(Fresh::new(Arc::clone(version.history.disk()))))
}

/// Whether an error says that something cannot be had, and not that a call has failed.
fn is_lasting(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotRetained)
}

#[cold]
fn lost(address: Address) -> Error {
    let what = format!("a page of object {address:?} was damaged and its content is lost");
    Error::new(ErrorKind::Corrupt, "page.lost", what)
}

#[cold]
fn differs(address: Address) -> Error {
    let what = format!("what history has of object {address:?} is not what its damaged page held");
    Error::new(ErrorKind::Corrupt, "rebuild.differs", what)
}

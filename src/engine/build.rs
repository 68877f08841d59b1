//! Layers become pages: what a checkpoint writes for each object, in key order.
//!
//! A small change of an object appends a delta page beside its base; else base, deltas and layer
//! are folded into new pages, split or joined so that each has about the size that was asked for.
//! An object of one page has it in its head; a larger one has an entry for each fence key.
//!
//! Invariants:
//!   * A head names its one page, or there are page entries of its life; never both. Neither is
//!     there for an object that is deleted, or that has an alarm and nothing else.
//!   * The fence "" exists while the life has page entries.
//!   * A page that cannot be read is never folded: the change becomes one more delta.

use super::Engine;
use super::alarms::hints_of;
use super::archive::{Archive, every_key};
use super::content::{Content, content_of, content_of_entry, head_of, inheriting};
use super::publish::Liveness;
use super::splitter::Splitter;
use crate::error::{Error, ErrorKind, Result};
use crate::format::alarm::{HINT, HINT_TOMBSTONE, Hint};
use crate::format::entry::{Head, PAGE_TOMBSTONE, PageEntry, PagePart, head_key, page_key};
use crate::format::manifest::{Manifest, SegmentState};
use crate::format::object_name::ObjectName;
use crate::format::own_keys::NAME_KEY;
use crate::format::page::{BuiltPage, SegmentFacts};
use crate::format::run::{RunFacts, RunUse};
use crate::ids::{Address, Life, Lsn, Timestamp};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::changes::Changes;
use crate::object::fold::fold;
use crate::object::overlay::{Layer, Word};
use crate::object::state::HeadState;
use crate::object::version::{Stack, Version};
use crate::run::RunWriter;
use crate::segment::{Compression, SegmentWriter};
use std::ops::Bound;
use std::sync::Arc;

/// Deltas that a healthy entry has at most.
const DELTAS_MAX: usize = 2;

/// Writes the pages, entries and names of one publish.
pub struct Builder<'e> {
    pub(super) engine: &'e Engine,
    pub(super) version: &'e Version,
    pub(super) exact_at: Lsn,
    /// The same for the pages of the fold at hand: of what only moves, when it last changed.
    pub(super) page_exact_at: Lsn,
    /// The first error that may pass and kept the cleaner from moving something.
    pub(super) unread: Option<Error>,
    /// Until when what deltas of the object at hand lie over was exact.
    pub(super) until: Lsn,
    /// Whether nothing changes but places.
    pub(super) is_move: bool,
    pub(super) archive: Archive<'e>,
    pub(super) compression: Compression,
    generation: u8,
    segment: Option<SegmentWriter>,
    segments: Vec<SegmentFacts>,
    directory: Option<RunWriter>,
    names: Option<RunWriter>,
    /// Hints of alarms to be written: true for one that is set, false for one taken back.
    hints: Vec<(Hint, bool)>,
    pub(super) liveness: Liveness,
    pub(super) created: Vec<FileName>,
    /// Pages that objects have adopted, and all files of commits that adopted any.
    pub(super) adopted: Vec<(RunFacts, Vec<SegmentFacts>)>,
    pub(super) covered: Vec<(FileName, u64)>,
    /// Of the entry being written; kept for its memory.
    value: Vec<u8>,
}

impl<'e> Builder<'e> {
    /// A builder of pages exact at `exact_at` over the state that `version` has published.
    pub fn new(engine: &'e Engine, version: &'e Version, exact_at: Lsn, generation: u8) -> Self {
        Self {
            engine,
            version,
            exact_at,
            page_exact_at: exact_at,
            unread: None,
            until: version.manifest.cut,
            is_move: generation > 0,
            archive: Archive::new(engine, version),
            compression: Compression::None,
            generation,
            segment: None,
            segments: Vec::new(),
            directory: None,
            names: None,
            hints: Vec::new(),
            liveness: Liveness::default(),
            created: Vec::new(),
            adopted: Vec::new(),
            covered: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Writes one object's changes; says whether it holds nothing after them. Objects come in
    /// address order.
    pub fn add(&mut self, address: Address, layer: &Layer) -> Result<bool> {
        self.archive.begin(address, layer.purged);
        let Some(life) = layer.after.life else {
            // Deletes of what never was: there is nothing to say.
            self.archive.never(address);
            self.archive.finish(address, layer.records(), &mut self.created)?;
            return Ok(layer.after.deleted);
        };
        let changes = layer.changes();
        let old = self.insist(|| self.version.head(address));
        let alarm = old.as_ref().ok().and_then(|head| head.as_ref()?.alarm);
        hints_of(address, alarm, layer, &mut self.hints);
        let mut content = match old {
            // The head lies in a damaged part of the directory: what is below is not known, so the
            // change becomes a delta without a base, and reads say so.
            Err(error) if error.kind() == ErrorKind::Corrupt && !layer.wiped => {
                self.archive.lost(Lsn::ZERO, Life(0), every_key());
                self.change_lost(address, life, &changes)?
            }
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            Err(_) => {
                self.archive.lost(Lsn::ZERO, Life(0), every_key());
                self.begin_life(address, life, (HeadState::lost(), layer), &changes)?
            }
            Ok(old) => {
                self.archive_bare(address, old.as_ref())?;
                let adopted = old.as_ref().and_then(|old| old.adopted);
                self.archive.note_adopted(old.as_ref().map_or(Life(0), |old| old.life), adopted);
                let content = self.change(address, life, old.as_ref(), layer, &changes)?;
                self.archive_hot(address, old.as_ref(), layer)?;
                self.archive.head(old.as_ref());
                content
            }
        };
        self.archive.finish(address, layer.records(), &mut self.created)?;
        let head = head_of(layer, life, &mut content);
        if let Some(Word::Value(_, name)) = changes.find(NAME_KEY) {
            let name = &String::from_utf8_lossy(name);
            let name = ObjectName { given: layer.after.last_lsn, name }.encode();
            self.names()?.add(&address.to_bytes(), &name)?;
        }
        self.write_entries(address, &head, &content)?;
        Ok(head.deleted)
    }

    /// Where the head could not be read when the object was taken into memory, and can be now, lays
    /// the object's changes over it: what is written follows from both.
    pub fn find_again(&self, address: Address, layer: &mut Arc<Layer>) -> Result<()> {
        if !layer.after.is_lost() {
            return Ok(());
        }
        match self.insist(|| self.version.head(address)) {
            Ok(head) => {
                mark(Mark::HeadFoundAgain);
                *layer = Arc::new(layer.over_state(HeadState::of(head.as_ref())));
                Ok(())
            }
            // What is not known is said to be so.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks the directory, and asks again where the medium does not give the answer.
    pub(super) fn insist<T>(&self, ask: impl FnMut() -> Result<T>) -> Result<T> {
        self.archive.pauses.insist(&*self.engine.clock, ask)
    }

    /// Takes back hints that mean no alarm any more.
    pub fn take_back(&mut self, stale: &[Hint]) {
        self.hints.extend(stale.iter().map(|hint| (hint.clone(), false)));
    }

    /// Hints go into a run of their own, by time.
    fn write_hints(&mut self) -> Result<Option<RunWriter>> {
        let mut hints = std::mem::take(&mut self.hints);
        if hints.is_empty() {
            return Ok(None);
        }
        // One that is set comes before the same one taken back, and is the one that counts.
        hints.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
        hints.dedup_by(|later, first| later.0 == first.0);
        let mut run = self.run(RunUse::Alarms)?;
        for (hint, is_set) in &hints {
            run.add(&hint.encode(), if *is_set { HINT } else { HINT_TOMBSTONE })?;
        }
        Ok(Some(run))
    }

    fn change(
        &mut self,
        address: Address,
        life: Life,
        old: Option<&Head>,
        layer: &Layer,
        changes: &Changes<'_>,
    ) -> Result<Content> {
        if layer.wiped
            && let Some(old) = old
        {
            mark(Mark::LifeReplaced);
            self.release(address, old, layer.bytes as u64)?;
        }
        match old.filter(|old| !old.deleted && !layer.wiped) {
            None => {
                let before = HeadState::of(old);
                self.begin_life(address, life, (before, layer), changes)
            }
            Some(Head { page: Some(entry), .. }) => {
                self.change_tiny(address, life, entry, layer, changes)
            }
            Some(head) if self.has_no_page(address, head)? => {
                self.fold_new(address, life, layer, changes)
            }
            Some(head) => self.change_large_or_lost(address, life, head, changes),
        }
    }

    /// An object that has an alarm and nothing else has no page.
    /// One whose entries are damaged counts as one that has pages.
    pub(super) fn has_no_page(&self, address: Address, head: &Head) -> Result<bool> {
        if head.count > 0 || head.content_bytes > 0 {
            return Ok(false);
        }
        let pages = || self.version.directory.pages(address, head.life);
        match self.insist(|| pages().next().transpose()) {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            page => Ok(page?.is_none()),
        }
    }

    /// Where the directory has lost pages of a large object, nothing can be built on the others:
    /// the change is kept beside a base that is lost, and reads of anything else say so. What may
    /// only be out of reach is waited for first.
    pub(super) fn change_large_or_lost(
        &mut self,
        address: Address,
        life: Life,
        head: &Head,
        changes: &Changes<'_>,
    ) -> Result<Content> {
        let (before, kept) = (self.liveness.clone(), self.archive.mark());
        match self.change_large(address, head, changes) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.liveness = before;
                self.archive.back_to(kept);
                self.archive.lost(Lsn::ZERO, life, every_key());
                self.change_lost(address, life, changes)
            }
            changed => changed,
        }
    }

    fn change_lost(
        &mut self,
        address: Address,
        life: Life,
        changes: &Changes<'_>,
    ) -> Result<Content> {
        let lost = PageEntry { damaged: true, ..PageEntry::default() };
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let changed = self.append_delta(address, life, (&[], &lost), changes, everything)?;
        mark(Mark::DamagedBaseKept);
        Ok(content_of_entry(changed))
    }

    /// The pages of an ended life die.
    fn release(&mut self, address: Address, old: &Head, logged: u64) -> Result<()> {
        if old.deleted {
            return Ok(());
        }
        if let Some(entry) = &old.page {
            self.archive.entry(old.life, &every_key(), (entry, None), logged);
            self.release_entry(entry);
            return Ok(());
        }
        self.release_pages(address, old.life, logged)
    }

    /// The same for all that have entries of their own. What the directory has lost stays counted
    /// as live until a scrub counts anew: a delete works all the same. What may only be out of
    /// reach is waited for first.
    pub(super) fn release_pages(
        &mut self,
        address: Address,
        life: Life,
        logged: u64,
    ) -> Result<()> {
        let mut before: Option<(Vec<u8>, PageEntry)> = None;
        let version = self.version;
        let (directory, pauses) = (version.pages_of(address, life), self.archive.pauses.clone());
        for page in pauses.pages(&*self.engine.clock, &directory, (address, life)) {
            match page {
                Ok((fence, entry)) => {
                    self.release_entry(&entry);
                    let next = Some(fence.clone());
                    if let Some((fence, entry)) = before.replace((fence, entry)) {
                        self.archive.entry(life, &(fence, next), (&entry, None), logged);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.archive.lost(Lsn::ZERO, life, every_key());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some((fence, entry)) = before {
            self.archive.entry(life, &(fence, None), (&entry, None), logged);
        }
        Ok(())
    }

    pub(super) fn release_entry(&mut self, entry: &PageEntry) {
        for part in entry.base.iter().chain(&entry.deltas) {
            self.liveness.remove(part.location.file, part.location.bytes);
        }
    }

    pub(super) fn fold_new(
        &mut self,
        address: Address,
        life: Life,
        layer: &Layer,
        changes: &Changes<'_>,
    ) -> Result<Content> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let below = (&[][..], changes, &Stack::default());
        let pages = self.fold_pages(address, life, below, everything, layer.bytes)?;
        Ok(content_of(inheriting(pages, layer.bytes as u64)))
    }

    /// Folds into new pages, the first with the given fence.
    pub(super) fn fold_pages(
        &mut self,
        address: Address,
        life: Life,
        (fence, changes, stack): (&[u8], &Changes<'_>, &Stack),
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        overlay_bytes: usize,
    ) -> Result<Vec<(Vec<u8>, PageEntry)>> {
        let below: usize = stack.0.iter().map(|page| page.body().len()).sum();
        if stack.0.len() > 1 {
            mark(Mark::DeltaFolded);
        }
        let mut splitter = Splitter::new(self, address, life, fence, below + overlay_bytes);
        fold(changes, stack, bounds, |key, codec, value| splitter.push(key, codec, value))?;
        splitter.finish()
    }

    fn change_tiny(
        &mut self,
        address: Address,
        life: Life,
        entry: &PageEntry,
        layer: &Layer,
        changes: &Changes<'_>,
    ) -> Result<Content> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        if wants_delta(entry, layer.bytes) {
            let mut changed =
                self.append_delta(address, life, (&[], entry), changes, everything)?;
            changed.logged_since_archived =
                entry.logged_since_archived.saturating_add(layer.bytes as u64);
            return Ok(content_of_entry(changed));
        }
        match self.version.stack_once(entry, address, life) {
            Ok(stack) => {
                let all = (&[][..], changes, &stack);
                let pages = self.fold_pages(address, life, all, everything, layer.bytes)?;
                let given_up = (entry, Some(&stack));
                let logged = self.archive.entry(life, &every_key(), given_up, layer.bytes as u64);
                self.release_entry(entry);
                Ok(content_of(inheriting(pages, logged)))
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                mark(Mark::DamagedBaseKept);
                let damaged = PageEntry { damaged: true, ..entry.clone() };
                let place = (&[][..], &damaged);
                let changed = self.append_delta(address, life, place, changes, everything)?;
                Ok(content_of_entry(changed))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a page into the open segment.
    pub(super) fn write_page(&mut self, page: &BuiltPage) -> Result<PagePart> {
        if self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.bytes() >= self.engine.options.segment_bytes)
        {
            self.finish_segment()?;
        }
        if self.segment.is_none() {
            let number = self.engine.numbers.take();
            self.created.push(FileName::Segment(number));
            let Engine { disk, pace, context, .. } = self.engine;
            let writer = SegmentWriter::create(&**disk, Arc::clone(pace), *context, number)?;
            self.segment = Some(writer);
        }
        let Some(segment) = &mut self.segment else { return Err(no_writer()) };
        let part = segment.append(page, &self.compression)?;
        self.liveness.add(part.location.file, part.location.bytes);
        Ok(part)
    }

    fn finish_segment(&mut self) -> Result<()> {
        if let Some(segment) = self.segment.take() {
            self.segments.push(segment.finish()?);
        }
        Ok(())
    }

    fn run(&mut self, usage: RunUse) -> Result<RunWriter> {
        let number = self.engine.numbers.take();
        self.created.push(FileName::Run(number));
        let Engine { disk, pace, context, .. } = self.engine;
        RunWriter::create(&**disk, Arc::clone(pace), *context, number, usage)
    }

    pub(super) fn directory(&mut self) -> Result<&mut RunWriter> {
        if self.directory.is_none() {
            self.directory = Some(self.run(RunUse::Directory)?);
        }
        self.directory.as_mut().ok_or_else(no_writer)
    }

    fn names(&mut self) -> Result<&mut RunWriter> {
        if self.names.is_none() {
            self.names = Some(self.run(RunUse::Names)?);
        }
        self.names.as_mut().ok_or_else(no_writer)
    }

    pub(super) fn write_entries(
        &mut self,
        address: Address,
        head: &Head,
        content: &Content,
    ) -> Result<()> {
        let mut value = std::mem::take(&mut self.value);
        let directory = self.directory()?;
        value.clear();
        head.encode(&mut value);
        directory.add(&head_key(address), &value)?;
        for (fence, entry) in &content.pages {
            value.clear();
            match entry {
                Some(entry) => entry.encode(&mut value),
                None => value.extend_from_slice(PAGE_TOMBSTONE),
            }
            directory.add(&page_key(address, head.life, fence), &value)?;
        }
        self.value = value;
        Ok(())
    }

    /// Syncs all files and enters them into the manifest. Says which files are new.
    pub fn finish(mut self, next: &mut Manifest, time: Timestamp) -> Result<Vec<FileName>> {
        self.finish_segment()?;
        self.archive.publish(next, (self.exact_at, time))?;
        let written_at = self.exact_at;
        for facts in std::mem::take(&mut self.segments) {
            let generation = self.generation;
            let (live_bytes, live_pages) = (0, 0);
            next.segments.push(SegmentState {
                facts,
                live_bytes,
                live_pages,
                written_at,
                generation,
            });
        }
        for (run, segments) in std::mem::take(&mut self.adopted) {
            next.segments.extend(segments.into_iter().map(|facts| SegmentState {
                facts,
                live_bytes: facts.page_bytes,
                live_pages: facts.pages,
                written_at,
                generation: 0,
            }));
            next.runs.insert(0, run);
        }
        let alarms = self.write_hints()?;
        for writer in [self.directory.take(), self.names.take(), alarms].into_iter().flatten() {
            next.runs.insert(0, writer.finish()?);
        }
        self.liveness.apply(next);
        Ok(std::mem::take(&mut self.created))
    }
}

impl Drop for Builder<'_> {
    /// A builder that was not finished leaves nothing behind.
    fn drop(&mut self) {
        for name in &self.created {
            let _ = self.engine.disk.remove(*name);
        }
    }
}

fn no_writer() -> Error {
    Error::new(ErrorKind::Io, "io", "a file of the publish is gone")
}

/// Whether a change is small enough to stand beside its base.
pub(super) fn wants_delta(entry: &PageEntry, change_bytes: usize) -> bool {
    let base_bytes = entry.base.as_ref().map_or(0, |base| u64::from(base.location.bytes));
    entry.deltas.len() < DELTAS_MAX && (change_bytes as u64) * 3 < base_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{PageLocation, PagePart};

    #[test]
    fn a_change_stands_beside_its_base_while_it_is_small_and_there_are_few() {
        let part = |bytes| {
            let location = PageLocation { bytes, ..PageLocation::default() };
            PagePart { location, ..PagePart::default() }
        };
        let entry = |base: Option<u32>, deltas| {
            let (base, deltas) = (base.map(part), vec![part(1); deltas]);
            PageEntry { base, deltas, ..PageEntry::default() }
        };
        assert!(wants_delta(&entry(Some(31), 0), 10));
        assert!(wants_delta(&entry(Some(31), DELTAS_MAX - 1), 10));
        assert!(!wants_delta(&entry(Some(31), DELTAS_MAX), 10), "there are enough");
        assert!(!wants_delta(&entry(Some(30), 0), 10), "a third of the base");
        assert!(!wants_delta(&entry(None, 0), 0), "there is nothing to stand beside");
    }
}

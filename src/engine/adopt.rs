//! Adopting: content of any size comes into an object by one small commit.
//!
//! 1. A record gives its LSN to a new life and changes nothing.
//! 2. Pages of that life, and a run that names them, are written beside everything else, an entry
//!    at a time. Files and names are synced.
//! 3. A commit names the files. Until a checkpoint covers it, the object is read through the run.
//! 4. That checkpoint enters segments and run into the manifest, and says in history from which
//!    commit on the pages count: they cannot know, for they were written before it.
//!
//! Files that no commit names are nobody's: the writer removes them when it gives up, and the next
//! open when it has read the log.
//!
//! Invariants:
//!   * The files are durable, and so are their names, before the commit is logged.
//!   * Memory is that of a page, of the run's index and filter, and of so many entries.
//!   * No replay of history goes from before the commit to behind it.

use super::Engine;
use super::build::Builder;
use super::content::Content;
use super::splitter::{Splitter, fence_between};
use crate::error::{Error, ErrorKind, Result};
use crate::format::adoption::{Adoption, segments_bytes};
use crate::format::entry::{Head, page_key};
use crate::format::manifest::Manifest;
use crate::format::record::{Operation, RECORD_HEADER_BYTES, RecordHeader, RecordKind, adoption};
use crate::format::run::RunFacts;
use crate::ids::{Address, Life, Lsn, Timestamp};
use crate::locks::RwLockReadGuard;
use crate::marks::{Mark, mark};
use crate::names::{FileName, Folder};
use crate::object::changes::Changes;
use crate::object::overlay::Layer;
use crate::object::range::Entry;
use crate::object::state::HeadState;
use crate::planted::{Mistake, planted};
use crate::run::Run;
use std::cell::Cell;

/// Bytes of entries after which those of their pages go into the run.
const SPLIT_BYTES: usize = 8 << 20;
/// No state of a page that was adopted is in history: as if this much was logged about it.
const NEVER_ARCHIVED: u64 = 1 << 62;

/// Pages that no commit has adopted yet. When dropped, they are removed.
#[derive(Debug)]
pub struct Prepared<'e> {
    /// What they hold may be of an object that is purged meanwhile: until a commit names them, or
    /// they are removed, no purge is called erased.
    _rewriting: RwLockReadGuard<'e, ()>,
    engine: &'e Engine,
    address: Address,
    life: Life,
    counts: (u64, u64),
    run: RunFacts,
    /// As a commit names them.
    segments: Vec<u8>,
    files: Vec<FileName>,
    is_adopted: Cell<bool>,
}

impl Engine {
    /// Writes entries, in the order of their keys, into pages that the object may adopt. Nothing
    /// of it is seen before it does.
    pub fn prepare(
        &self,
        address: Address,
        entries: impl Iterator<Item = Result<Entry>>,
    ) -> Result<Prepared<'_>> {
        self.check_alive()?;
        let rewriting = self.rewriting.read();
        let life = self.begin_life(address)?;
        let version = self.version();
        let mut builder = Builder::new(self, &version, Lsn(life.0), 0);
        let counts = builder.write_life(address, life, entries)?;
        let mut written = Manifest::default();
        let files = builder.finish(&mut written, Timestamp(0))?;
        let segments = || written.segments.iter().map(|state| state.facts);
        let Some(run) = written.runs.first().copied() else {
            return Err(Error::new(ErrorKind::Io, "io", "the run of the pages is gone"));
        };
        let engine = self;
        let (bytes, is_adopted) = (segments_bytes(segments()), Cell::new(false));
        let prepared = Prepared {
            _rewriting: rewriting,
            engine,
            address,
            life,
            counts,
            run,
            segments: bytes,
            files,
            is_adopted,
        };
        for folder in [Folder::Segments, Folder::Runs] {
            if planted(Mistake::AdoptEarly) {
                break;
            }
            self.sync_folder(folder)?;
        }
        segments().for_each(|facts| version.segments.add(&facts));
        let run = Run::open(&*self.disk, self.context.store, &run)?;
        version.adopted.add(address, &prepared.adoption(), run, None);
        Ok(prepared)
    }

    /// An LSN that no commit has.
    fn begin_life(&self, address: Address) -> Result<Life> {
        let (kind, lsn, time) = (RecordKind::AdoptBegin, Lsn::ZERO, Timestamp(0));
        let header = RecordHeader { length: 0, kind, lsn, time, address };
        Ok(Life(self.wal.append(&mut header.encode(), |_, _| {})?.lsn.0))
    }
}

impl Prepared<'_> {
    fn adoption(&self) -> Adoption<'_> {
        Adoption::new(self.life, self.counts, self.run, &self.segments)
    }

    /// What the commit that adopts them begins with.
    pub fn operation(&self) -> Operation<'_> {
        Operation::Adopt(self.adoption())
    }

    /// The object has adopted them. Called under its lock.
    pub fn adopted(&self, lsn: Lsn) {
        self.engine.version().adopted.settle(self.address, self.life, lsn);
        self.is_adopted.set(true);
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if self.is_adopted.get() {
            return;
        }
        mark(Mark::AdoptionLeft);
        for name in &self.files {
            let _ = self.engine.remove_file(*name);
        }
    }
}

impl Builder<'_> {
    /// Writes the pages of a whole life, and their entries. Says how many keys and bytes they have.
    fn write_life(
        &mut self,
        address: Address,
        life: Life,
        entries: impl Iterator<Item = Result<Entry>>,
    ) -> Result<(u64, u64)> {
        let mut entries = entries.peekable();
        let (mut counts, mut fence, engine) = ((0, 0), Vec::new(), self.engine);
        loop {
            let is_first = fence.is_empty();
            let mut splitter = Splitter::new(self, address, life, &fence, SPLIT_BYTES);
            if is_first {
                splitter.keep_first();
            }
            let (mut bytes, mut last) = (0, None);
            while bytes < SPLIT_BYTES
                && let Some(entry) = entries.next().transpose()?
            {
                engine.check_wanted()?;
                splitter.push(&entry.key, entry.codec, &entry.value)?;
                bytes += entry.key.len() + entry.value.len();
                last = Some(entry.key);
            }
            let mut value = Vec::new();
            for (fence, mut entry) in splitter.finish()? {
                let base = entry.base.as_ref();
                counts.0 += base.map_or(0, |base| u64::from(base.count));
                counts.1 += base.map_or(0, |base| base.content_bytes);
                entry.logged_since_archived = NEVER_ARCHIVED;
                value.clear();
                entry.encode(&mut value);
                self.directory()?.add(&page_key(address, life, &fence), &value)?;
            }
            match entries.peek() {
                None => return Ok(counts),
                Some(Ok(next)) => {
                    let below = last.as_deref().unwrap_or_default();
                    fence = fence_between(below, &next.key).to_vec();
                }
                // The next round ends with it.
                Some(Err(_)) => {}
            }
        }
    }

    /// A life that begins in the layer, with adopted pages or with none. `before` is what the head
    /// said below the layer.
    pub(super) fn begin_life(
        &mut self,
        address: Address,
        life: Life,
        (before, layer): (HeadState, &Layer),
        changes: &Changes<'_>,
    ) -> Result<Content> {
        if layer.adoptions().next().is_some() {
            self.cover_adoptions(address, before, layer)?;
        }
        let adopted = layer.adopted.and_then(|_| layer.adoptions().last());
        let Some((header, adoption)) = adopted else {
            return self.fold_new(address, life, layer, changes);
        };
        let segments = adoption.segments().collect();
        self.adopted.push((adoption.run, segments));
        let head = Head {
            life,
            last_lsn: header.lsn,
            adopted: Some(header.lsn),
            count: adoption.count,
            content_bytes: adoption.content_bytes,
            ..Head::default()
        };
        let until = self.until;
        self.until = until.max(Lsn(header.lsn.0 - 1));
        let content = self.change_large_or_lost(address, life, &head, changes);
        self.until = until;
        content
    }

    /// Says in history which commits adopted pages, and what these were where they are given up
    /// before any manifest named them.
    fn cover_adoptions(
        &mut self,
        address: Address,
        before: HeadState,
        layer: &Layer,
    ) -> Result<()> {
        let mut state = before;
        for record in layer.records() {
            let Ok(header) = RecordHeader::decode(record) else { continue };
            state.apply_record(record, header.lsn, header.time);
            let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
            let Some(adoption) = adoption(payload) else { continue };
            self.covered.extend(adoption.files());
            self.archive.note_adopted(adoption.life, Some(header.lsn));
            self.archive.adopted(&state);
            if layer.adopted != Some(adoption.life) {
                let is_purged = layer.purged.is_some_and(|purged| header.lsn < purged);
                mark(if is_purged { Mark::AdoptionPurged } else { Mark::AdoptionReplaced });
                self.release_pages(address, adoption.life, 0)?;
            }
        }
        Ok(())
    }
}

//! What a publish puts into history: of each object the states that it gives up, and the commits
//! that the pages take in.
//!
//! Whoever replaces a page entry hands it over here before it is released. It is kept with the last
//! cut at which each part of it was the newest, unless a state that is near enough is in the open
//! epoch already: less was logged since than the page takes, or than is read at once anyway. Deltas
//! say what commits say, so only those are kept whose commits belong to an earlier epoch.
//!
//! Invariants:
//!   * The first state of a key range that is given up in an epoch is always kept.
//!   * What is kept of an entry reaches into the open epoch, whose commits do the rest.
//!   * What cannot be read is kept as lost, and stops nobody. It stays lost though the medium may
//!     give it back one day, for the page itself goes; so the medium is asked again before that,
//!     after pauses of which a publish makes a few.
//!   * Objects come in address order; what one gives up is written when it is done.
//!   * Two files are open at most, however many namespaces have files of their own.

use super::Engine;
use super::build::Builder;
use super::classes::OWN_CLASSES;
use super::history_file::HistoryWriter;
use super::patience::Pauses;
use crate::error::{ErrorKind, Result};
use crate::format::entry::{Head, PageEntry, PagePart, counts_from};
use crate::format::history::{Group, ItemKey, State};
use crate::format::manifest::{ClassChange, HistoryFile, Manifest};
use crate::format::page::{Packed, Page, PageBuilder, PageKind, PageMeta};
use crate::format::record::{RECORD_HEADER_BYTES, RecordHeader};
use crate::format::run::RunFacts;
use crate::ids::{Address, Life, Lsn, NamespaceNumber, Timestamp};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::fold::fold;
use crate::object::overlay::Layer;
use crate::object::retention::{OFF_CLASS, class_of};
use crate::object::state::HeadState;
use crate::object::version::{Stack, Version};
use crate::planted::{Mistake, planted};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An object whose commits are many gets further states while it is smaller than this many pages.
const HOT_PAGES_MAX: usize = 4;
/// Commits of less than this share of the bytes that ask for a state between them are near enough
/// to a state for a page of any size.
const NEAR_SHARE: u64 = 4;

/// Compressing takes longer than writing: in a file that will soon be merged it must save one byte
/// in so many.
const SAVES: usize = 4;

/// The history of one publish.
pub(super) struct Archive<'e> {
    engine: &'e Engine,
    version: &'e Version,
    /// The last LSN of the epoch before the open one.
    epoch_start: Lsn,
    /// The cut up to which what is newest now was so.
    until: Lsn,
    /// The retention class of the object at hand; none where its history is not kept.
    class: Option<u32>,
    /// Where its past before a moment is not to be kept any more.
    purged: Option<Lsn>,
    /// The namespace of the object at hand.
    namespace: Option<NamespaceNumber>,
    /// Lives of the object at hand that adopted pages, and the commits that did.
    adoptions: Vec<(Life, Lsn)>,
    /// Classes that begin with this interval.
    first: BTreeMap<NamespaceNumber, u32>,
    /// What it gives up.
    kept: Vec<Kept>,
    /// Files being written, by class. Each object takes its own out and puts it back: a pointer.
    writers: BTreeMap<u32, Box<HistoryWriter>>,
    /// Files written and synced, with their classes.
    done: Vec<(u32, RunFacts)>,
    /// How often it will still wait for the medium.
    pub(super) pauses: Pauses,
    value: Vec<u8>,
}

/// A state to be written.
struct Kept {
    exact: Lsn,
    until: Lsn,
    what: What,
}

enum What {
    /// A part of an entry, read already or to be read.
    Part {
        part: PagePart,
        page: Option<Page>,
        life: Life,
        range: KeyRange,
        is_delta: bool,
    },
    /// A stored page of all keys.
    Stored(Vec<u8>),
    Absent,
    Lost {
        life: Life,
        range: KeyRange,
    },
    Head {
        time: Timestamp,
        alarm: Option<crate::alarm::Alarm>,
        adopted: bool,
    },
}

/// A fence, and the next one.
pub(super) type KeyRange = (Vec<u8>, Option<Vec<u8>>);

/// All keys.
pub(super) fn every_key() -> KeyRange {
    (Vec::new(), None)
}

impl<'e> Archive<'e> {
    pub fn new(engine: &'e Engine, version: &'e Version) -> Self {
        Self {
            engine,
            version,
            epoch_start: version.manifest.epoch_start,
            until: version.manifest.cut,
            class: None,
            purged: None,
            namespace: None,
            adoptions: Vec::new(),
            first: BTreeMap::new(),
            kept: Vec::new(),
            writers: BTreeMap::new(),
            done: Vec::new(),
            pauses: Pauses::default(),
            value: Vec::new(),
        }
    }

    /// Takes namespaces whose first commits are in this interval to have these classes.
    pub fn begin_classes(&mut self, first: &[ClassChange]) {
        self.first = first.iter().map(|change| (change.namespace, change.class)).collect();
    }

    /// The next object begins.
    pub fn begin(&mut self, address: Address, purged: Option<Lsn>) {
        if self.namespace != Some(address.namespace) {
            let first = self.first.get(&address.namespace).copied();
            let present = || class_of(&self.version.manifest, address.namespace);
            self.class = Some(first.unwrap_or_else(present)).filter(|class| *class != OFF_CLASS);
            self.namespace = Some(address.namespace);
        }
        self.purged = purged;
        self.adoptions.clear();
        self.kept.clear();
    }

    /// A life of the object at hand may have adopted its pages.
    pub fn note_adopted(&mut self, life: Life, adopted: Option<Lsn>) {
        self.adoptions.extend(adopted.map(|adopted| (life, adopted)));
    }

    /// From when on a part of a life's entry counts.
    fn counts_from(&self, part: &PagePart, life: Life) -> Lsn {
        let adopted = self.adoptions.iter().find(|(own, _)| *own == life);
        counts_from(part.exact_at, life, adopted.map(|(_, adopted)| *adopted))
    }

    /// Whether a commit adopted the page: what it holds was said by no other.
    pub fn is_adopted(&self, base: &PagePart, life: Life) -> bool {
        self.counts_from(base, life) != base.exact_at
    }

    /// The LSN that the newest part of an entry is exact at.
    pub fn newest_of(&self, entry: &PageEntry, life: Life) -> Lsn {
        let newest = entry.deltas.last().or(entry.base.as_ref());
        newest.map_or(Lsn::ZERO, |part| self.counts_from(part, life))
    }

    /// How much the object has given up so far, to go back to.
    pub fn mark(&self) -> usize {
        self.kept.len()
    }

    /// Gives nothing up after all that came since `to`.
    pub fn back_to(&mut self, to: usize) {
        self.kept.truncate(to);
    }

    fn keep(&mut self, exact: Lsn, until: Lsn, what: What) {
        if self.class.is_some() {
            self.kept.push(Kept { exact, until, what });
        }
    }

    /// Takes over an entry that is given up. `logged` bytes were logged about it since the last
    /// cut. Says how many were since its last state that is kept, for what takes its place.
    pub fn entry(
        &mut self,
        life: Life,
        range: &KeyRange,
        (entry, stack): (&PageEntry, Option<&Stack>),
        logged: u64,
    ) -> u64 {
        let since = entry.logged_since_archived.saturating_add(logged);
        let Some(base) = &entry.base else {
            self.lost(Lsn::ZERO, life, range.clone());
            return logged;
        };
        let has_state = base.exact_at > self.epoch_start || planted(Mistake::SkipEagerly);
        let near = self.engine.options.history_state_bytes as u64 / NEAR_SHARE;
        if self.class.is_none() || has_state && since < near.max(u64::from(base.location.bytes)) {
            mark(Mark::StateSkipped);
            return since;
        }
        let mut pages = stack.map(|stack| stack.0.iter().rev());
        let mut reached = Lsn::ZERO;
        for (index, part) in entry.parts().enumerate() {
            let page = pages.as_mut().and_then(|pages| pages.next().cloned());
            let is_delta = index > 0;
            if is_delta {
                if reached >= self.epoch_start {
                    mark(Mark::DeltaLeft);
                    break;
                }
                mark(Mark::DeltaKept);
                if planted(Mistake::LeaveDeltas) {
                    continue;
                }
            }
            let next = entry.deltas.get(index);
            let exact = self.counts_from(part, life);
            // The commit that adopted a page says more than the page does.
            let least = Lsn(exact.0.saturating_sub(1));
            let mut until = next.map_or(self.until, |next| next.until).max(least);
            reached = until;
            if planted(Mistake::UntilTooLate) {
                until = until.next();
            }
            let range = range.clone();
            let what = What::Part { part: *part, page, life, range, is_delta };
            self.keep(exact, until, what);
        }
        logged
    }

    /// The object had no content since `exact`.
    pub fn absent(&mut self, exact: Lsn) {
        self.keep(exact, self.until, What::Absent);
    }

    /// The object is not known: it never was, or nothing was in it since it was purged.
    pub fn never(&mut self, address: Address) {
        match self.version.manifest.purge_of(address) {
            None => self.absent(Lsn::ZERO),
            Some(purge) => {
                self.absent(purge.lsn);
                let (time, alarm, adopted) = (Timestamp(0), None, false);
                self.keep(purge.lsn, self.until, What::Head { time, alarm, adopted });
            }
        }
    }

    /// What was in a key range cannot be read.
    pub fn lost(&mut self, exact: Lsn, life: Life, range: KeyRange) {
        self.keep(exact, self.until, What::Lost { life, range });
    }

    /// What the head said, where something is given up, or for the first time in an epoch.
    pub fn head(&mut self, old: Option<&Head>) {
        // What is not known of its alarm is not said: without a head there is no such moment.
        let Some(old) = old.filter(|old| !old.alarm_lost) else { return };
        if old.last_lsn <= self.epoch_start || !self.kept.is_empty() {
            let what = What::Head { time: old.last_time, alarm: old.alarm, adopted: false };
            self.keep(old.last_lsn, self.until, what);
        }
    }

    /// A commit adopted pages: `after` is what the head says behind it.
    pub fn adopted(&mut self, after: &HeadState) {
        let HeadState { last_lsn, last_time, .. } = *after;
        let what = What::Head { time: last_time, alarm: after.known_alarm(), adopted: true };
        self.keep(last_lsn, last_lsn, what);
    }

    /// Writes what the object gives up, and its commits.
    pub fn finish(
        &mut self,
        address: Address,
        records: &[Arc<[u8]>],
        created: &mut Vec<FileName>,
    ) -> Result<()> {
        let Some(class) = self.class else { return Ok(()) };
        if self.kept.is_empty() && records.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer_of(class, created)?;
        let mut kept = std::mem::take(&mut self.kept);
        let records = match self.purged {
            None => records,
            Some(purged) => {
                kept.retain(|kept| kept.exact >= purged);
                let time = Timestamp(0);
                for what in [What::Absent, What::Head { time, alarm: None, adopted: false }] {
                    kept.push(Kept { exact: purged, until: purged, what });
                }
                let is_before = |record: &Arc<[u8]>| {
                    RecordHeader::decode(record).is_ok_and(|header| header.lsn < purged)
                };
                &records[records.partition_point(is_before)..]
            }
        };
        kept.sort_by_key(|kept| kept.exact);
        let mut place = ItemKey::first(address, Group::States, Lsn::ZERO);
        for (index, state) in kept.iter().enumerate() {
            let is_same = index > 0 && kept[index - 1].exact == state.exact;
            place.ordinal = if is_same { place.ordinal + 1 } else { 0 };
            place.lsn = state.exact;
            self.write_state(&mut writer, place, state)?;
        }
        kept.clear();
        self.kept = kept;
        for record in records {
            let Ok(header) = RecordHeader::decode(record) else { continue };
            let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
            let key = ItemKey::first(address, Group::Commits, header.lsn);
            writer.add_commit(key, header.time, payload)?;
        }
        self.writers.insert(class, writer);
        Ok(())
    }

    /// The open file of a class; a new one where there is none.
    fn writer_of(&mut self, class: u32, created: &mut Vec<FileName>) -> Result<Box<HistoryWriter>> {
        if let Some(writer) = self.writers.remove(&class) {
            return Ok(writer);
        }
        // Objects come by namespace: whichever had a file of its own before gets no more items.
        let complete = self.writers.split_off(&OWN_CLASSES);
        self.end_files(complete)?;
        let number = self.engine.numbers.take();
        created.push(FileName::Run(number));
        HistoryWriter::create(self.engine, number, SAVES).map(Box::new)
    }

    fn end_files(&mut self, writers: BTreeMap<u32, Box<HistoryWriter>>) -> Result<()> {
        for (class, writer) in writers {
            self.done.push((class, writer.finish()?));
        }
        Ok(())
    }

    fn write_state(&mut self, writer: &mut HistoryWriter, key: ItemKey, kept: &Kept) -> Result<()> {
        let until = kept.until;
        let state = match &kept.what {
            What::Absent => State::Absent { until },
            What::Head { time, alarm, adopted } => {
                State::Head { until, time: *time, alarm: *alarm, adopted: *adopted }
            }
            What::Lost { life, range: (fence, end) } => {
                State::Lost { until, life: *life, fence, end: end.as_deref() }
            }
            What::Stored(stored) => page_state(until, None, stored, false),
            What::Part { part, page, life, range: (fence, end), is_delta } => {
                let read = || self.read_at_last(part, key.address, *life);
                match page.clone().map_or_else(read, Ok) {
                    Ok(page) => {
                        self.value.clear();
                        page.store_raw(key.lsn, 0, &mut self.value);
                        page_state(until, end.as_deref(), &self.value, *is_delta)
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        mark(Mark::StateLost);
                        State::Lost { until, life: *life, fence, end: end.as_deref() }
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        writer.add_state(key, &state)
    }

    /// Reads a page for the last time: if the medium does not give it, from the cache, or after a
    /// pause.
    pub fn read_at_last(&mut self, part: &PagePart, address: Address, life: Life) -> Result<Page> {
        let (segments, cache) = (&self.version.segments, &self.version.cache);
        let read = self.pauses.insist(&*self.engine.clock, || {
            segments.read(part, address, life).or_else(|error| {
                let cached = || cache.find(part, address, life);
                let page = error.is_unreadable().then(cached).flatten();
                page.ok_or(error)
            })
        });
        if read.is_ok() && self.pauses.were_needed() {
            mark(Mark::ReadAfterPause);
        }
        read
    }

    /// Syncs the files that are open, and enters all into the manifest.
    pub fn publish(
        &mut self,
        next: &mut Manifest,
        (end, end_time): (Lsn, Timestamp),
    ) -> Result<()> {
        let open = std::mem::take(&mut self.writers);
        self.end_files(open)?;
        let before = &self.version.manifest;
        for (class, facts) in std::mem::take(&mut self.done) {
            self.engine.counters.history_bytes.fetch_add(facts.bytes, Ordering::Relaxed);
            next.history.push(HistoryFile {
                facts,
                class,
                epoch: before.epoch,
                start: before.cut,
                end,
                start_time: before.cut_time,
                end_time,
            });
        }
        Ok(())
    }
}

fn page_state<'a>(until: Lsn, end: Option<&'a [u8]>, frame: &'a [u8], is_delta: bool) -> State<'a> {
    let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    if is_delta {
        State::Delta { until, end, bytes, frame }
    } else {
        State::Page { until, end, bytes, frame }
    }
}

impl Builder<'_> {
    /// Says what an object without content was, before it changes.
    pub(super) fn archive_bare(&mut self, address: Address, old: Option<&Head>) -> Result<()> {
        match old {
            None => self.archive.never(address),
            Some(old) if old.deleted || old.page.is_none() && self.has_no_page(address, old)? => {
                self.archive.absent(old.last_lsn);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Further states of an object of one page that many commits of one interval changed, so that
    /// no moment between them is far from a state.
    pub(super) fn archive_hot(
        &mut self,
        address: Address,
        old: Option<&Head>,
        layer: &Layer,
    ) -> Result<()> {
        let least = self.engine.options.history_state_bytes;
        let size = old.map_or(0, |old| usize::try_from(old.content_bytes).unwrap_or(usize::MAX));
        if self.archive.class.is_none() || layer.bytes <= least.max(size.saturating_mul(4)) {
            return Ok(());
        }
        let stack = match old.filter(|old| !old.deleted) {
            None => Stack::default(),
            Some(Head { page: Some(entry), life, .. }) => {
                match self.version.stack_once(entry, address, *life) {
                    Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(()),
                    stack => stack?,
                }
            }
            Some(old) if self.has_no_page(address, old)? => Stack::default(),
            Some(_) => return Ok(()),
        };
        let before = HeadState::of(old);
        let mut now = Layer::new(0, before);
        let (mut size, mut since) = (size, 0);
        for record in layer.records() {
            let Ok(header) = RecordHeader::decode(record) else { continue };
            now.apply(Arc::clone(record), header.lsn, header.time);
            let Some(alarm) = now.after.alarm().filter(|_| now.adopted.is_none()) else {
                return Ok(());
            };
            since += record.len();
            if since <= least.max(size.saturating_mul(4)) {
                continue;
            }
            let Some(stored) = self.state_between(address, &now, &stack, header.lsn)? else {
                return Ok(());
            };
            mark(Mark::HotState);
            (size, since) = (stored.len(), 0);
            let what = if stored.is_empty() { What::Absent } else { What::Stored(stored) };
            self.archive.keep(header.lsn, header.lsn, what);
            let what = What::Head { time: header.time, alarm, adopted: false };
            self.archive.keep(header.lsn, header.lsn, what);
        }
        Ok(())
    }

    /// What the object is after the commits of `now`, as a stored page; empty without content, and
    /// none where it is too large.
    fn state_between(
        &self,
        address: Address,
        now: &Layer,
        stack: &Stack,
        at: Lsn,
    ) -> Result<Option<Vec<u8>>> {
        let most = HOT_PAGES_MAX * self.engine.options.page_bytes;
        let nothing = Stack::default();
        let below = if now.wiped { &nothing } else { stack };
        let mut page = PageBuilder::new(PageMeta {
            kind: PageKind::Page,
            address,
            life: now.after.life.unwrap_or(Life(0)),
            exact_at: at,
            until: Lsn::ZERO,
            fence: Vec::new(),
        });
        let changes = now.changes();
        let mut is_large = false;
        fold(&changes, below, (Bound::Unbounded, Bound::Unbounded), |key, codec, value| {
            is_large |= page.body_bytes() + value.len() > most;
            if !is_large {
                page.push(key, codec, value);
            }
            Ok(())
        })?;
        if is_large {
            return Ok(None);
        }
        let mut stored = Vec::new();
        if !page.is_empty() {
            page.finish().store(Packed::Raw, 0, &mut stored);
        }
        Ok(Some(stored))
    }
}

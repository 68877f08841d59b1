//! Merging of history: several files of one class become one, so that a look-up asks few.
//!
//! The open epoch has few files, for a moment may ask for all of them; when an epoch is closed, all
//! of its files become one; and when there are many closed epochs, those of a day become one.
//!
//! Invariants:
//!   * Inputs are neighbours in the order of spans, and the output covers exactly their spans.
//!   * Memory is a piece, an index and a filter for each input, not the items.
//!   * A damaged bundle is carried on as a hole; nothing before a purge is carried on.
//!   * A chunk is carried on only right behind the one before it.
//!   * Whatever stands in the inputs, items are written in ascending order.
//!   * Written without the publisher lock; thrown away if any input is gone when it is done.

use super::Engine;
use super::history_file::HistoryWriter;
use super::purge::{Left, leave_in_history, may_go_on, stuck};
use crate::error::{ErrorKind, Result};
use crate::format::history::{
    BUNDLE_KEY_BYTES, Bundle, BundleKey, Group, ITEM_KEY_BYTES, ItemKey, State,
};
use crate::format::manifest::{ClassChange, HistoryFile, Manifest, Purge};
use crate::ids::{Address, FileNumber, Lsn, NamespaceNumber, ShortId, Timestamp};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::object::history::{bundle_of, order};
use crate::object::version::Version;
use crate::planted::{Mistake, planted};
use crate::run::cursor::Position;
use crate::run::{Run, RunCursor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Files of the open epoch beyond which the newest are merged.
pub(super) const OPEN_MAX: usize = 11;
/// Files of closed epochs beyond which those of a day are merged.
const CLOSED_MAX: usize = 60;
/// Files that are merged at once at most.
const INPUTS_MAX: usize = 64;
/// Bundles are compressed where that saves one byte in so many.
const SAVES: usize = 8;
const DAY_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// What is known of the files of history.
#[derive(Debug, Default)]
pub(super) struct Merging {
    /// Those that damage keeps from being merged.
    unmergeable: BTreeSet<FileNumber>,
    /// The last manifest that was looked through and had none to merge: threads ask all the time,
    /// and there may be a file for each namespace.
    settled: Option<u64>,
}

impl Merging {
    /// Neighbours that are worth merging.
    fn choose(&mut self, version: &Version) -> Option<Vec<HistoryFile>> {
        let generation = Some(version.manifest.generation);
        if self.settled == generation {
            return None;
        }
        let chosen = choose(version, &self.unmergeable);
        if chosen.is_none() {
            self.settled = generation;
        }
        chosen
    }

    /// Has these left as they are from now on.
    fn leave<'f>(&mut self, files: impl IntoIterator<Item = &'f HistoryFile>) {
        self.unmergeable.extend(files.into_iter().map(|file| file.facts.number));
        self.settled = None;
    }
}

impl Engine {
    /// Whether there are files of history to merge.
    pub fn wants_history_merge(&self) -> bool {
        self.history_merging.lock().choose(&self.version()).is_some()
    }

    /// Merges files of history. Says whether there were any to merge. A file that is damaged as a
    /// whole is left as it is from then on, and the others are merged around it.
    pub fn merge_history(&self) -> Result<bool> {
        self.check_alive()?;
        let version = self.version();
        let files = self.history_merging.lock().choose(&version);
        let files = files.filter(|all| !self.are_let_be(all.iter().map(|file| &file.facts)));
        let Some(files) = files else { return Ok(false) };
        let opens = |file: &HistoryFile| version.history.open_file(file).is_ok();
        let damaged: Vec<_> = files.iter().filter(|file| !opens(file)).copied().collect();
        let facts: Vec<_> = files.iter().map(|file| file.facts).collect();
        let merged = self.within_room(&facts, || self.replace_history(version, files.clone()));
        let error = merged.as_ref().err();
        if let Some(error) = error.filter(|error| error.kind() == ErrorKind::Corrupt) {
            let is_named = |file: &&HistoryFile| error.is_of(FileName::Run(file.facts.number));
            let unread = files.iter().find(|file| error.is_unreadable() && is_named(file));
            // What opens and cannot be merged all the same: nobody knows which of them it was.
            let left = if damaged.is_empty() { &files } else { &damaged };
            self.history_merging.lock().leave(unread.map_or(&left[..], std::slice::from_ref));
        }
        merged.map(|merged| merged.is_some())
    }

    /// Writes every file of history again that may hold something of these objects from before
    /// their purges. Notes the purges that files which cannot be read leave something of.
    pub(super) fn erase_history(&self, purges: &[Purge], left: &mut Left) -> Result<()> {
        let mut done = BTreeSet::new();
        if planted(Mistake::EraseEarly) {
            return Ok(());
        }
        loop {
            let version = self.version();
            let mut files = version.manifest.history.iter();
            let Some(file) = files.find(|file| !done.contains(&file.facts.number)) else {
                return Ok(());
            };
            let file = *file;
            match self.erase_from(version, &file, purges) {
                // One that is gone has others in its place.
                Ok(number) => drop(done.insert(number.unwrap_or(file.facts.number))),
                Err(error) if may_go_on(&error) => {
                    done.insert(file.facts.number);
                    let is_damage = error.kind() == ErrorKind::Corrupt && !error.is_unreadable();
                    let error = if is_damage {
                        stuck(FileName::Run(file.facts.number)).caused_by(error)
                    } else {
                        error
                    };
                    let held = purges.iter().filter(|purge| file.start < purge.lsn);
                    held.for_each(|purge| leave_in_history(left, *purge, error.clone()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a file of history again if it may hold something of these purges. Says which file
    /// took its place.
    fn erase_from(
        &self,
        version: Arc<Version>,
        file: &HistoryFile,
        purges: &[Purge],
    ) -> Result<Option<FileNumber>> {
        let mut older = purges.iter().filter(|purge| file.start < purge.lsn).peekable();
        if older.peek().is_none() {
            return Ok(None);
        }
        let run = version.history.open_file(file)?;
        if older.any(|purge| run.may_hold(&purge.address)) {
            return self.replace_history(version, vec![*file]);
        }
        Ok(None)
    }

    /// Puts one file in the place of these, and says its number. None where one of them is gone
    /// meanwhile.
    fn replace_history(
        &self,
        version: Arc<Version>,
        files: Vec<HistoryFile>,
    ) -> Result<Option<FileNumber>> {
        let _rewriting = self.rewriting.read();
        let inputs = Inputs::open(&version, files)?;
        drop(version);
        let number = self.numbers.take();
        let name = FileName::Run(number);
        let written = self.write_history(&inputs, number);
        let merged = written.inspect_err(|_| drop(self.disk.remove(name)))?;
        let mut publisher = self.publisher.lock();
        let mut next = publisher.manifest.clone();
        let is_there = |input: &HistoryFile| next.history.contains(input);
        if !inputs.files.iter().all(is_there) || inputs.are_purged_since(&next) {
            mark(Mark::MergeDiscarded);
            self.discard(&publisher, name);
            return Ok(None);
        }
        next.history.retain(|file| !inputs.files.contains(file));
        next.history.push(merged);
        next.history.sort_by_key(order);
        self.publish_new(&mut publisher, next, &[name], None)?;
        mark(Mark::HistoryMerged);
        self.counters.merges.fetch_add(1, Ordering::Relaxed);
        Ok(Some(number))
    }

    fn write_history(&self, inputs: &Inputs, number: FileNumber) -> Result<HistoryFile> {
        let mut out = HistoryWriter::create(self, number, SAVES)?;
        out.give_up_when(Arc::clone(&self.is_ending));
        let Inputs { files, runs, purged } = inputs;
        let addresses = runs.iter().map(|run| run.addresses()).sum::<u64>();
        out.expect_addresses(addresses + purged.len() as u64);
        let mut merged = files[0];
        for file in files {
            merged.epoch = merged.epoch.max(file.epoch);
            merged.start = merged.start.min(file.start);
            merged.end = merged.end.max(file.end);
            merged.start_time = merged.start_time.min(file.start_time);
            merged.end_time = merged.end_time.max(file.end_time);
        }
        merge(runs, purged, (merged.start, merged.end), &mut out)?;
        merged.facts = out.finish()?;
        Ok(merged)
    }
}

/// What a merge reads: it takes long, and holds no version.
struct Inputs {
    files: Vec<HistoryFile>,
    runs: Vec<Arc<Run>>,
    /// The purges that are known.
    purged: BTreeMap<Address, Lsn>,
}

impl Inputs {
    fn open(version: &Version, files: Vec<HistoryFile>) -> Result<Self> {
        let runs = files.iter().map(|file| version.history.open_to_walk(file));
        let runs = runs.collect::<Result<_>>()?;
        let purged = version.manifest.purged.iter().map(|purge| (purge.address, purge.lsn));
        Ok(Self { files, runs, purged: purged.collect() })
    }

    /// Whether an object that they may hold was purged, and that is not known.
    fn are_purged_since(&self, now: &Manifest) -> bool {
        let is_new = |purge: &&Purge| self.purged.get(&purge.address) != Some(&purge.lsn);
        let mut new = now.purged.iter().filter(is_new);
        new.any(|purge| self.runs.iter().any(|run| run.may_hold(&purge.address)))
    }
}

/// Neighbours that are worth merging, in the order of their spans, without any of `unmergeable`
/// between them.
fn choose(version: &Version, unmergeable: &BTreeSet<FileNumber>) -> Option<Vec<HistoryFile>> {
    let mut classes: BTreeMap<u32, Vec<HistoryFile>> = BTreeMap::new();
    for file in &version.manifest.history {
        classes.entry(file.class).or_default().push(*file);
    }
    let (open, changes) = (version.manifest.epoch, &version.manifest.classes);
    classes.into_values().find_map(|mut files| {
        files.sort_by_key(order);
        let is_left = |file: &&HistoryFile| unmergeable.contains(&file.facts.number);
        let parted: BTreeSet<u64> = files.iter().filter(is_left).map(|file| file.epoch).collect();
        files.split(|file| unmergeable.contains(&file.facts.number)).find_map(|files| {
            closed_epoch(files, open)
                .or_else(|| newest(files, open))
                .or_else(|| day(files, open, (changes, &parted)))
        })
    })
}

/// The files of the first closed epoch that has several.
fn closed_epoch(files: &[HistoryFile], open: u64) -> Option<Vec<HistoryFile>> {
    let mut epochs = files.chunk_by(|one, other| one.epoch == other.epoch);
    let epoch = epochs.find(|epoch| epoch.len() > 1 && epoch[0].epoch < open)?;
    Some(epoch.iter().take(INPUTS_MAX).copied().collect())
}

/// Where the open epoch has more files than it should, the newest of them: two at least, and so
/// many that together they are not larger than the next. So an item is written again only when as
/// much has come behind it.
fn newest(files: &[HistoryFile], open: u64) -> Option<Vec<HistoryFile>> {
    let own = &files[files.partition_point(|file| file.epoch < open)..];
    if own.len() <= OPEN_MAX {
        return None;
    }
    let (mut taken, mut bytes) = (0, 0);
    for file in own.iter().rev().take(INPUTS_MAX) {
        if taken >= 2 && file.facts.bytes >= bytes {
            break;
        }
        bytes = file.facts.bytes.saturating_add(bytes);
        taken += 1;
    }
    Some(own[own.len() - taken..].to_vec())
}

/// Closed epochs of one day, where there are many. Not one of `parted`, of which a file is left as
/// it is: a look-up asks all files of an epoch, and none that is damaged for another one.
fn day(
    files: &[HistoryFile],
    open: u64,
    (changes, parted): (&[ClassChange], &BTreeSet<u64>),
) -> Option<Vec<HistoryFile>> {
    let closed = &files[..files.partition_point(|file| file.epoch < open)];
    if closed.len() <= CLOSED_MAX {
        return None;
    }
    let day = |file: &HistoryFile| file.end_time.0 / DAY_MICROS;
    // A file is looked for by the class that a namespace has at its end: none may span a change.
    let is_changed = |one: &HistoryFile, other: &HistoryFile| {
        changes.iter().any(|change| one.end <= change.from && change.from <= other.start)
    };
    let is_same = |one: &HistoryFile, other: &HistoryFile| {
        let is_whole = |file: &HistoryFile| !parted.contains(&file.epoch);
        day(one) == day(other) && !is_changed(one, other) && is_whole(one) && is_whole(other)
    };
    let mut days = closed.chunk_by(is_same);
    let files = days.find(|files| files.len() > 1)?;
    Some(files.iter().take(INPUTS_MAX).copied().collect())
}

/// One input, at its next item.
struct Lane<'a> {
    run: &'a Run,
    cursor: RunCursor<'a>,
    bundle: Option<Bundle>,
    index: usize,
    /// The last item of the bundle before.
    last: Option<ItemKey>,
}

/// What orders items over several files: which state stands where among those exact at one LSN is
/// decided anew.
type Place = (Address, Group, Lsn);

impl<'a> Lane<'a> {
    fn new(run: &'a Run, out: &mut HistoryWriter) -> Result<Self> {
        for hole in run.holes() {
            out.add_hole(&hole.first, &hole.last);
        }
        let mut cursor = run.cursor();
        cursor.seek_ceiling(&[])?;
        let mut lane = Self { run, cursor, bundle: None, index: 0, last: None };
        lane.load(out)?;
        Ok(lane)
    }

    /// Loads the bundle that the cursor is at; what is damaged, or cannot be right, becomes a hole.
    fn load(&mut self, out: &mut HistoryWriter) -> Result<()> {
        self.index = 0;
        let end = |bundle: Bundle| bundle.item(bundle.count() - 1).map(|(key, _)| key);
        self.last = self.bundle.take().and_then(end).or(self.last);
        loop {
            let lost = match self.cursor.position() {
                Position::Outside => return Ok(()),
                Position::Entry(key, value) => match bundle_of(self.run, value) {
                    Ok(bundle) if self.may_follow(key, &bundle) => {
                        self.bundle = Some(bundle);
                        return Ok(());
                    }
                    Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                    _ => key.to_vec(),
                },
                // What may come back is not written off.
                Position::Damaged(..) if self.cursor.hidden().is_unreadable() => {
                    return Err(self.cursor.hidden());
                }
                Position::Damaged(first, _) => first.to_vec(),
            };
            self.cursor.next()?;
            let last = before(self.cursor.position());
            out.add_hole(&lost, last.as_slice().max(&lost));
        }
    }

    /// Whether the bundle is what its key says, behind everything before it.
    fn may_follow(&self, key: &[u8], bundle: &Bundle) -> bool {
        let first = bundle.item(0).map(|(key, _)| key);
        let said = BundleKey::decode(key).ok().map(|key| key.first);
        first.is_some() && first == said && self.last < first
    }

    fn item(&self) -> Option<(ItemKey, &[u8])> {
        self.bundle.as_ref()?.item(self.index)
    }

    fn place(&self) -> Option<Place> {
        self.item().map(|(key, _)| (key.address, key.group, key.lsn))
    }

    fn advance(&mut self, out: &mut HistoryWriter) -> Result<()> {
        self.index += 1;
        if self.item().is_none() && self.bundle.is_some() {
            self.cursor.next()?;
            self.load(out)?;
        }
        Ok(())
    }
}

/// The last key that an item before this position can have.
fn before(position: Position<'_>) -> Vec<u8> {
    let next = match position {
        Position::Outside => return vec![0xFF; BUNDLE_KEY_BYTES],
        Position::Entry(key, _) | Position::Damaged(key, _) => key,
    };
    let mut last = next.to_vec();
    last.truncate(ITEM_KEY_BYTES);
    for byte in last.iter_mut().rev() {
        let (less, is_borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !is_borrowed {
            break;
        }
    }
    last.resize(BUNDLE_KEY_BYTES, 0xFF);
    last
}

/// Writes the items of all runs as one, without what is from before a purge. In its place it says
/// that the object had nothing from the purge on, if that is inside of `span`.
fn merge(
    runs: &[Arc<Run>],
    purged: &BTreeMap<Address, Lsn>,
    (start, end): (Lsn, Lsn),
    out: &mut HistoryWriter,
) -> Result<()> {
    let mut lanes = Vec::with_capacity(runs.len());
    for run in runs {
        lanes.push(Lane::new(run, out)?);
    }
    let mut ordinals = Ordinals::default();
    let mut emptied: Option<Address> = None;
    while let Some((first, next)) = least(&lanes) {
        // As long as no other lane comes first, nothing has to be compared but with the next.
        let lane = &mut lanes[first];
        while let Some(place) = lane.place().filter(|place| (*place, first) < next) {
            let (address, _, lsn) = place;
            let purge = purged.get(&address).copied();
            if let Some(purge) = purge
                && emptied != Some(address)
                && place >= (address, Group::States, purge)
            {
                emptied = Some(address);
                if start < purge && purge <= end {
                    let key = ItemKey::first(address, Group::States, purge);
                    write_emptied(key, &mut ordinals, out)?;
                }
            }
            let is_purged = purge.is_some_and(|purge| lsn < purge);
            if let Some((key, value)) = lane.item()
                && !is_purged
                && let Some(key) = ordinals.next(first, key)
            {
                out.add(&key, &[value])?;
            }
            lane.advance(out)?;
        }
    }
    Ok(())
}

/// Behind every place.
const NOWHERE: (Place, usize) = (
    (
        Address { namespace: NamespaceNumber(u32::MAX), id: ShortId([0xFF; 16]) },
        Group::Commits,
        Lsn::MAX,
    ),
    usize::MAX,
);

/// The lane with the least place, and the least place of the others with its lane. Of lanes at
/// the same place the first comes first.
fn least(lanes: &[Lane<'_>]) -> Option<(usize, (Place, usize))> {
    let (mut first, mut next) = (NOWHERE, NOWHERE);
    for (index, lane) in lanes.iter().enumerate() {
        let Some(place) = lane.place() else { continue };
        let at = (place, index);
        if at < first {
            next = std::mem::replace(&mut first, at);
        } else if at < next {
            next = at;
        }
    }
    (first != NOWHERE).then_some((first.1, next))
}

fn write_emptied(key: ItemKey, ordinals: &mut Ordinals, out: &mut HistoryWriter) -> Result<()> {
    let until = key.lsn;
    let head = State::Head { until, time: Timestamp(0), alarm: None, adopted: false };
    for state in [State::Absent { until }, head] {
        out.add_state(ordinals.begin(key), &state)?;
    }
    Ok(())
}

/// Counts the states of an object that are exact at one LSN.
#[derive(Default)]
struct Ordinals {
    /// The last key that was given.
    last: Option<ItemKey>,
    /// What it was in which lane.
    source: Option<(usize, ItemKey)>,
}

impl Ordinals {
    /// The key of a first chunk with its place among all files.
    fn begin(&mut self, key: ItemKey) -> ItemKey {
        let place = |key: &ItemKey| (key.address, key.group, key.lsn);
        let before = self.last.filter(|last| place(last) == place(&key));
        let ordinal = before.map_or(0, |last| last.ordinal + 1);
        self.source = None;
        *self.last.insert(ItemKey { ordinal, ..key })
    }

    /// The same for an item of a lane. None for a chunk whose first, or the one before it, was
    /// lost to damage.
    fn next(&mut self, lane: usize, key: ItemKey) -> Option<ItemKey> {
        let given = match (key.chunk.checked_sub(1), self.source) {
            (None, _) => self.begin(key),
            (Some(chunk), Some(source)) if source == (lane, ItemKey { chunk, ..key }) => {
                ItemKey { chunk: key.chunk, ..self.last? }
            }
            _ => return None,
        };
        (self.last, self.source) = (Some(given), Some((lane, key)));
        Some(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::run::{RunFacts, RunUse};
    use crate::ids::NamespaceNumber;

    fn file(epoch: u64, bytes: u64) -> HistoryFile {
        let number = FileNumber(epoch);
        let facts = RunFacts { number, usage: RunUse::History, bytes, entries: 1, checksum: 0 };
        let (start, end) = (Lsn(epoch * 10), Lsn(epoch * 10 + 10));
        let times = (Timestamp(epoch), Timestamp(epoch + 1));
        let (start_time, end_time) = times;
        HistoryFile { facts, class: 1, epoch, start, end, start_time, end_time }
    }

    #[test]
    fn no_file_of_a_day_spans_a_change_of_classes() {
        let files: Vec<_> = (0..CLOSED_MAX as u64 + 5).map(|epoch| file(epoch, 1)).collect();
        let (open, none) = (files.len() as u64, BTreeSet::new());
        assert_eq!(day(&files, open, (&[], &none)).map(|files| files.len()), Some(INPUTS_MAX));
        let change =
            |from| ClassChange { namespace: NamespaceNumber(1), class: 0, from: Lsn(from) };
        assert_eq!(day(&files, open, (&[change(30)], &none)).map(|files| files.len()), Some(3));
        // One that fell between two files of the class.
        let apart: Vec<_> = files.iter().filter(|file| file.epoch != 2).copied().collect();
        assert_eq!(day(&apart, open, (&[change(25)], &none)).map(|files| files.len()), Some(2));
        // One of which a file cannot be read is left by itself.
        let parted = BTreeSet::from([4]);
        assert_eq!(day(&files, open, (&[], &parted)).map(|files| files.len()), Some(4));
    }

    #[test]
    fn a_chunk_follows_only_the_one_before_it_in_its_own_file() {
        let at = |ordinal, chunk| {
            let first = ItemKey::first(Address::default(), Group::States, Lsn(7));
            ItemKey { ordinal, chunk, ..first }
        };
        let mut ordinals = Ordinals::default();
        let mut last = None;
        for (lane, ordinal, chunk, given) in [
            (0, 0, 0, Some((0, 0))),
            (0, 0, 1, Some((0, 1))),
            // A block was lost that ended behind the first chunk of the next state.
            (0, 1, 1, None),
            (0, 1, 2, None),
            (0, 2, 0, Some((1, 0))),
            (0, 2, 2, None),
            // Another file goes on at the same place.
            (1, 2, 1, None),
            (1, 3, 0, Some((2, 0))),
            (0, 3, 1, None),
            (1, 3, 1, Some((2, 1))),
        ] {
            let key = ordinals.next(lane, at(ordinal, chunk));
            assert_eq!(key.map(|key| (key.ordinal, key.chunk)), given, "{ordinal}, {chunk}");
            assert!(key.is_none() || last < key, "they ascend");
            last = key.or(last);
        }
    }

    #[test]
    fn the_newest_files_are_merged_up_to_one_that_is_larger_than_they_are_together() {
        let sized = |sizes: &[u64]| sizes.iter().map(|bytes| file(3, *bytes)).collect::<Vec<_>>();
        let taken = |sizes: &[u64]| newest(&sized(sizes), 3).map(|files| files.len());
        assert_eq!(taken(&[1; OPEN_MAX]), None);
        assert_eq!(taken(&[1; OPEN_MAX + 1]), Some(OPEN_MAX + 1));
        let mixed = |large: &[u64], ones: usize| taken(&[large, &vec![1; ones]].concat());
        assert_eq!(mixed(&[50, 20, 19, 19], OPEN_MAX - 3), Some(OPEN_MAX - 3));
        assert_eq!(mixed(&[50, 20, 19, 19, 12], OPEN_MAX - 4), Some(OPEN_MAX - 4));
        assert_eq!(taken(&[&[1; OPEN_MAX][..], &[50]].concat()), Some(OPEN_MAX + 1));
    }

    #[test]
    fn an_open_epoch_of_any_length_has_few_files_and_writes_each_item_a_few_times() {
        let (mut files, mut written) = (Vec::<HistoryFile>::new(), 0);
        for flush in 0..200 {
            files.push(file(3, 100 + flush * 37 % 50));
            while let Some(inputs) = newest(&files, 3) {
                files.truncate(files.len() - inputs.len());
                let bytes = inputs.iter().map(|file| file.facts.bytes).sum();
                files.push(file(3, bytes));
                written += bytes;
            }
            assert!(files.len() <= OPEN_MAX);
        }
        let all: u64 = files.iter().map(|file| file.facts.bytes).sum();
        assert!(written < 2 * all, "{written} bytes to merge {all}");
    }
}

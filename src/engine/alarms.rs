//! The time index of alarms: hints of where to look, by the time when they are due.
//!
//! The objects themselves hold their alarms; what is here is derived from them. A commit that sets
//! an alarm enters a hint into the map of its cut. The checkpoint of the cut writes the hints of
//! its objects into an alarm run, and the map goes when that run is installed: so far alarms of a
//! quiet store take no memory. Recovery's replay fills the map of the first cut again.
//!
//! A hint may be stale, when its alarm was moved, cleared or has fired. It is never missing.
//!
//! Invariants:
//!   * Each alarm that is set has a hint: in a map, in a run of the version installed now, or among
//!     those handed out; or a range of hints that is lost stands for it, and is looked for.
//!   * A hint enters a map only after its commit was applied: whoever finds it sees the alarm.
//!   * The map of a cut goes in the same critical section in which its run comes.
//!   * No waker is made, called or dropped under a lock.

use super::Engine;
use super::lost_hints::{LostHints, hints_between};
use crate::alarm::Alarm;
use crate::directory::{HintStep, Hints, Lost};
use crate::error::Result;
use crate::format::alarm::{Hint, behind_due, name_in_key};
use crate::format::record::{Operation, Operations, RECORD_HEADER_BYTES};
use crate::ids::{Address, Lsn, NamespaceNumber, ShortId, Timestamp};
use crate::locks::Mutex;
use crate::marks::{Mark, mark};
use crate::object::Inner;
use crate::object::overlay::{Found, Layer};
use crate::object::version::Version;
use crate::planted::{Mistake, planted};
use crate::wakes::Wakes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

/// Stale hints that are remembered until the next checkpoint takes them back.
const STALE_MAX: usize = 64 << 10;

/// A clock that is so much behind what was handed out has been set back.
const SET_BACK_MICROS: u64 = 60_000_000;

/// The time index.
#[derive(Debug, Default)]
pub struct AlarmIndex {
    /// A leaf lock, but for that of the installed version.
    inner: Mutex<Index>,
    /// Whether somebody is to be woken.
    has_woken: AtomicBool,
}

#[derive(Debug)]
struct Index {
    /// What was set since the last checkpoint, by cut.
    maps: BTreeMap<u64, BTreeSet<Hint>>,
    /// Every hint below was handed out.
    next: Hint,
    /// Hints below `next` that came after it had passed them.
    passed: BTreeSet<Hint>,
    /// Hints in runs that were found stale: no alarm will ever be meant by them again.
    stale: BTreeSet<Hint>,
    /// Checkpoints installed.
    installs: u64,
    /// Ranges of hints that runs have lost.
    lost: LostHints,
    /// The newest cut that has set an alarm.
    newest_cut: u64,
    /// Hints that are due and that nobody takes, and that runs may not have, by the cut whose
    /// checkpoint writes them at the latest.
    aside: BTreeMap<u64, BTreeSet<Hint>>,
    /// Who waits, and until when it would.
    waiters: BTreeMap<u64, (Timestamp, Waker)>,
    /// Who is to be woken once the object is unlocked whose commit set an alarm.
    woken: Wakes,
}

/// The least hint that is due at a time.
fn first_due(due: Timestamp) -> Hint {
    let address = Address { namespace: NamespaceNumber(0), id: ShortId([0; 16]) };
    Hint { due, address, generation: Lsn::ZERO, name: None }
}

/// The least hint above.
fn above(hint: &Hint) -> Hint {
    let name = hint.name.as_ref().map_or_else(String::new, |name| format!("{name}\0"));
    Hint { name: Some(name.into_boxed_str()), ..hint.clone() }
}

impl Default for Index {
    fn default() -> Self {
        Self {
            maps: BTreeMap::new(),
            next: first_due(Timestamp(0)),
            passed: BTreeSet::new(),
            stale: BTreeSet::new(),
            installs: 0,
            lost: LostHints::default(),
            newest_cut: 0,
            aside: BTreeMap::new(),
            waiters: BTreeMap::new(),
            woken: Wakes::default(),
        }
    }
}

impl Index {
    fn insert(&mut self, cut: u64, hint: Hint) {
        let due = hint.due;
        self.newest_cut = self.newest_cut.max(cut);
        if hint < self.next {
            self.passed.insert(hint);
        } else {
            self.maps.entry(cut).or_default().insert(hint);
        }
        if self.waiters.values().any(|(until, _)| due < *until) {
            let waiters = std::mem::take(&mut self.waiters).into_values();
            self.woken.extend(waiters.map(|(_, waker)| waker).collect());
        }
    }

    fn remove(&mut self, hint: &Hint) {
        if !self.passed.is_empty() {
            self.passed.remove(hint);
        }
        for map in self.maps.values_mut() {
            map.remove(hint);
        }
    }

    fn first_in_memory(&self) -> Option<Timestamp> {
        let first = self.maps.values().filter_map(BTreeSet::first).map(|hint| hint.due).min();
        let passed = self.passed.first().map(|hint| hint.due);
        first.into_iter().chain(passed).min()
    }

    /// The hints in maps from `from` to before `end`, the first `most` of each map.
    fn in_maps(&self, from: &Hint, end: &Hint, most: usize) -> Vec<Hint> {
        let of_map = |map: &BTreeSet<Hint>| -> Vec<Hint> {
            map.range(from..end).take(most).cloned().collect()
        };
        self.maps.values().flat_map(of_map).collect()
    }

    fn drop_below(&mut self, end: &Hint) {
        for map in self.maps.values_mut() {
            while map.first().is_some_and(|first| first < end) {
                map.pop_first();
            }
        }
    }
}

/// What a commit did to the alarms of an object.
#[derive(Debug, Default)]
struct Changes {
    set: Vec<Hint>,
    replaced: Vec<Hint>,
}

impl Changes {
    /// `before` is what the object's head said before `record`, and `layers` what was below it.
    fn of(address: Address, before: Option<Alarm>, inner: &Inner, record: &[u8]) -> Self {
        let mut changes = Self::default();
        let after = inner.state().known_alarm();
        if before != after {
            changes.set.extend(after.map(|alarm| Hint::of(&alarm, address, None)));
            changes.replaced.extend(before.map(|alarm| Hint::of(&alarm, address, None)));
        }
        changes.set.extend(hints_in(address, record));
        changes
    }

    /// Adds the named alarms that `record` will replace, as far as the overlay knows them.
    fn replaced_names(address: Address, inner: &Inner, record: &[u8]) -> Vec<Hint> {
        let old = |operation| -> Option<Hint> {
            let (Operation::Put { key, .. } | Operation::Delete { key }) = operation else {
                return None;
            };
            name_in_key(key)?;
            let found = inner.layers.iter().rev().find_map(|layer| layer.find(key))?;
            let Found::Value(_, value) = found else { return None };
            Hint::of_entry(address, key, &value)
        };
        operations(record).filter_map(old).collect()
    }
}

fn operations(record: &[u8]) -> impl Iterator<Item = Operation<'_>> {
    let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
    Operations::new(payload).map_while(std::result::Result::ok)
}

/// A hint for each named alarm that a record sets.
fn hints_in(address: Address, record: &[u8]) -> impl Iterator<Item = Hint> {
    operations(record).filter_map(move |operation| {
        let Operation::Put { key, value, .. } = operation else { return None };
        Hint::of_entry(address, key, value)
    })
}

/// The alarms of an object before a commit, for [`AlarmIndex::note`].
#[derive(Debug)]
pub struct Before {
    alarm: Option<Alarm>,
    named: Vec<Hint>,
}

impl Before {
    /// Looks before a commit of replay, when nothing that is replaced can be in the index's way.
    pub fn replay(inner: &Inner) -> Self {
        Self { alarm: inner.state().known_alarm(), named: Vec::new() }
    }

    /// Looks before `record` is applied.
    pub fn of(address: Address, inner: &Inner, record: &[u8]) -> Self {
        let alarm = inner.state().known_alarm();
        Self { alarm, named: Changes::replaced_names(address, inner, record) }
    }
}

/// Hints that are due.
#[derive(Debug, Default)]
pub struct Due {
    /// The hints, in their order.
    pub hints: Hinted,
    /// Whether there may be more of them.
    pub has_more: bool,
}

impl AlarmIndex {
    /// The same for the last commit of an object in replay; most say nothing of alarms.
    pub(super) fn note_replayed(&self, cut: u64, address: Address, before: &Before, inner: &Inner) {
        let Some(layer) = inner.layers.last() else { return };
        if (layer.names_alarms || before.alarm != layer.after.known_alarm())
            && let Some(record) = layer.records().last()
        {
            self.note(cut, address, before, inner, record);
        }
    }

    /// Enters what a commit, which is applied, has set. `record` is the commit's. Called under the
    /// object's lock: whoever is to hear of it hears by [`AlarmIndex::tell`].
    pub fn note(&self, cut: u64, address: Address, before: &Before, inner: &Inner, record: &[u8]) {
        let changes = Changes::of(address, before.alarm, inner, record);
        let mut index = self.inner.lock();
        for hint in changes.replaced.iter().chain(&before.named) {
            index.remove(hint);
        }
        for hint in changes.set {
            index.insert(cut, hint);
        }
        if !index.woken.is_empty() {
            self.has_woken.store(true, Ordering::Relaxed);
        }
    }

    /// Wakes who waits for what commits have set. To be called after each commit that may have set
    /// an alarm, while no lock is held: wakers may do anything.
    pub fn tell(&self) {
        if !self.has_woken.load(Ordering::Relaxed) {
            return;
        }
        let mut index = self.inner.lock();
        let woken = std::mem::take(&mut index.woken);
        self.has_woken.store(false, Ordering::Relaxed);
        drop(index);
        woken.wake();
    }

    /// Makes a version the installed one; it has what the maps up to the cut `covers` say.
    pub(super) fn install(&self, covers: Option<u64>, install: impl FnOnce()) {
        let mut index = self.inner.lock();
        install();
        let Some(covers) = covers else { return };
        index.installs += 1;
        let behind = if planted(Mistake::DropNewHints) { covers + 2 } else { covers + 1 };
        index.maps = index.maps.split_off(&behind);
        index.aside = index.aside.split_off(&behind);
    }

    /// Keeps a hint that was handed out and that nobody takes, for as long as no run has it.
    pub fn set_aside(&self, hint: Hint) {
        let mut index = self.inner.lock();
        let cut = index.newest_cut;
        index.aside.entry(cut).or_default().insert(hint);
    }

    /// Hands out again what was set aside, and all else that is due. Not while hints are taken.
    pub fn begin_again(&self) {
        let mut index = self.inner.lock();
        let aside = std::mem::take(&mut index.aside);
        index.passed.extend(aside.into_values().flatten());
        index.next = first_due(Timestamp(0));
        index.lost.forget_found();
    }

    /// Remembers a hint of a run that means no alarm any more.
    pub fn note_stale(&self, hint: Hint) {
        let mut index = self.inner.lock();
        if index.stale.len() < STALE_MAX {
            index.stale.insert(hint);
        }
    }

    /// The stale hints that are known.
    pub(super) fn stale(&self) -> Vec<Hint> {
        self.inner.lock().stale.iter().cloned().collect()
    }

    /// Forgets stale hints that a run takes back now.
    pub(super) fn forget_stale(&self, hints: &[Hint]) {
        let mut index = self.inner.lock();
        for hint in hints {
            index.stale.remove(hint);
        }
    }

    /// Hints that came below what was handed out already, and that are due.
    pub fn take_passed(&self, now: Timestamp, most: usize) -> Vec<Hint> {
        let mut index = self.inner.lock();
        let mut taken = Vec::new();
        while taken.len() < most
            && index.passed.first().is_some_and(|hint| hint.due <= now)
            && let Some(hint) = index.passed.pop_first()
        {
            taken.push(hint);
        }
        taken
    }

    /// Has the `waker` of whoever waits under this number woken when something is set that is due
    /// before `until`; false when something in memory is already.
    pub fn wait(&self, until: Timestamp, number: u64, waker: &Waker) -> bool {
        // Made before the lock is taken, and what it replaces is dropped after.
        let waker = waker.clone();
        let mut index = self.inner.lock();
        if index.first_in_memory().is_some_and(|first| first < until) {
            return false;
        }
        let before = index.waiters.insert(number, (until, waker));
        drop(index);
        drop(before);
        true
    }

    /// Whoever waited under this number does not any more.
    pub fn forget(&self, number: u64) {
        let gone = {
            let mut index = self.inner.lock();
            index.waiters.remove(&number)
        };
        drop(gone);
    }

    /// Takes a hint back that was handed out before its time.
    pub fn put_back(&self, hint: Hint) {
        self.inner.lock().passed.insert(hint);
    }

    /// When something that was lost is looked for again, by uptime.
    pub fn next_look(&self) -> Option<Duration> {
        self.inner.lock().lost.next_look()
    }

    /// Wakes everybody who waits.
    pub fn wake_all(&self) {
        let woken = std::mem::take(&mut self.inner.lock().waiters);
        woken.into_values().map(|(_, waker)| waker).collect::<Wakes>().wake();
    }

    /// Hints in memory: what alarms cost beside the overlays.
    pub fn in_memory(&self) -> usize {
        let index = self.inner.lock();
        let sets = index.maps.values().chain(index.aside.values());
        sets.map(BTreeSet::len).sum::<usize>() + index.passed.len()
    }
}

impl Engine {
    /// Hands out hints that are due, at most about `most`; each once. One caller at a time.
    pub fn take_due_alarms(&self, now: Timestamp, most: usize) -> Result<Due> {
        let has_looked = self.look_again()?;
        loop {
            let (version, installs, from) = self.due_from(now);
            let behind = first_due(Timestamp(now.0.saturating_add(1)));
            if from >= behind {
                return Ok(Due { has_more: has_looked, ..Due::default() });
            }
            let (found, lost) = walk_due(&version, &from, now, most)?;
            let mut end = match found.last() {
                Some((last, _)) if found.len() >= most => above(last),
                _ => behind,
            };
            let mut found_again = has_looked;
            for lost in lost {
                found_again |= self.find_again(&version, lost)?;
            }
            let mut index = self.alarms.inner.lock();
            if index.installs != installs {
                continue;
            }
            let mut hints = found;
            hints.extend(index.in_maps(&from, &end, most).into_iter().map(|hint| (hint, false)));
            hints.sort_unstable();
            hints.dedup_by(|one, other| one.0 == other.0);
            // What a map has beyond the first `most` is not among them.
            if hints.len() >= most {
                hints.truncate(most);
                end = hints.last().map_or(end, |(last, _)| above(last));
            }
            index.drop_below(&end);
            index.next = end;
            return Ok(Due { has_more: found_again || hints.len() >= most, hints });
        }
    }

    /// The version to walk and where to begin.
    fn due_from(&self, now: Timestamp) -> (Arc<Version>, u64, Hint) {
        let mut index = self.alarms.inner.lock();
        if now.0.saturating_add(SET_BACK_MICROS) < index.next.due.0 {
            // The clock was set back: what has been handed out is handed out again as it comes.
            mark(Mark::ClockSetBack);
            index.next = first_due(Timestamp(now.0.saturating_add(1)));
        }
        (self.version(), index.installs, index.next.clone())
    }

    /// When the next hint is due, stale or not; none when there is none.
    pub fn next_due(&self) -> Result<Option<Timestamp>> {
        let (version, first, from) = {
            let index = self.alarms.inner.lock();
            (self.version(), index.first_in_memory(), index.next.encode())
        };
        let behind = behind_due(first.unwrap_or(Timestamp(u64::MAX)));
        let mut hints = Hints::new(&version.alarms, &from);
        let mut in_runs = None;
        while let Some(step) = hints.next_below(&behind)? {
            match step {
                HintStep::Lost(lost) if self.is_settled(&lost) => continue,
                HintStep::Lost(lost) => in_runs = Hint::decode(&lost.first).ok(),
                HintStep::Hint(hint) => in_runs = Some(hint),
            }
            break;
        }
        Ok(first.into_iter().chain(in_runs.map(|hint| hint.due)).min())
    }

    /// Whether there is nothing to look for now in the place of hints that were lost.
    fn is_settled(&self, lost: &Lost) -> bool {
        self.alarms.inner.lock().lost.is_settled(lost, self.clock.uptime())
    }

    /// Looks for lost hints again where objects were out of reach the last time. Says whether there
    /// were any.
    fn look_again(&self) -> Result<bool> {
        let lost = self.alarms.inner.lock().lost.to_look_for(self.clock.uptime());
        let mut has_looked = false;
        for lost in lost {
            has_looked |= self.find_again(&self.version(), lost)?;
        }
        Ok(has_looked)
    }

    /// Enters the alarms anew whose hints were lost to damage: the objects still have them. Costs a
    /// walk over all objects, once for each range that was lost, and once more each time when an
    /// object was out of reach. Says whether it had to.
    fn find_again(&self, version: &Arc<Version>, lost: Lost) -> Result<bool> {
        if self.is_settled(&lost) {
            return Ok(false);
        }
        mark(Mark::HintsFoundAgain);
        let (found, is_whole) = hints_between(version, &lost)?;
        let mut index = self.alarms.inner.lock();
        index.passed.extend(found);
        index.lost.note(lost, is_whole, self.clock.uptime());
        Ok(true)
    }
}

/// Hints, and whether each came from a run.
type Hinted = Vec<(Hint, bool)>;

/// Hints of runs from `from` on that are due, and ranges in which hints were lost.
fn walk_due(
    version: &Version,
    from: &Hint,
    now: Timestamp,
    most: usize,
) -> Result<(Hinted, Vec<Lost>)> {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    if version.alarms.is_empty() {
        return Ok((found, lost));
    }
    let mut hints = Hints::new(&version.alarms, &from.encode());
    let behind = behind_due(now);
    while found.len() < most
        && let Some(step) = hints.next_below(&behind)?
    {
        match step {
            HintStep::Hint(hint) => found.push((hint, true)),
            HintStep::Lost(range) => lost.push(range),
        }
    }
    Ok((found, lost))
}

/// Alarm hints that a checkpoint writes for the changes of one object: true for one that is set.
pub(super) fn hints_of(
    address: Address,
    old: Option<Alarm>,
    layer: &Layer,
    out: &mut Vec<(Hint, bool)>,
) {
    let new = layer.after.known_alarm();
    if old != new {
        out.extend(old.map(|alarm| (Hint::of(&alarm, address, None), false)));
        out.extend(new.map(|alarm| (Hint::of(&alarm, address, None), true)));
    }
    if !layer.names_alarms {
        return;
    }
    if layer.adoptions().next().is_some() {
        // Pages that a commit adopted may have taken over what another had set.
        let set = layer.records().iter().flat_map(|record| hints_in(address, record));
        out.extend(set.map(|hint| (hint, true)));
        return;
    }
    for (key, found) in layer.sorted().iter() {
        if let Found::Value(_, value) = found {
            out.extend(Hint::of_entry(address, key, value).map(|hint| (hint, true)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(due: u64, name: Option<&str>) -> Hint {
        Hint { name: name.map(Box::from), ..first_due(Timestamp(due)) }
    }

    #[test]
    fn nothing_lies_between_a_hint_and_the_one_above_it() {
        assert!(hint(5, None) < above(&hint(5, None)));
        assert!(above(&hint(5, None)) <= hint(5, Some("")));
        assert!(hint(5, Some("a")) < above(&hint(5, Some("a"))));
        assert!(above(&hint(5, Some("a"))) <= hint(5, Some("a\0")));
        assert!(above(&hint(5, Some("z"))) < first_due(Timestamp(6)));
    }

    #[test]
    fn what_is_set_below_what_was_handed_out_is_kept_apart() {
        let mut index = Index { next: first_due(Timestamp(10)), ..Index::default() };
        index.insert(1, hint(5, None));
        index.insert(1, hint(15, None));
        index.insert(2, hint(12, Some("n")));
        assert_eq!(index.first_in_memory(), Some(Timestamp(5)));
        assert_eq!(index.passed.len(), 1);
        let found = index.in_maps(&index.next.clone(), &hint(99, None), 9);
        assert_eq!(found, [hint(15, None), hint(12, Some("n"))]);
        index.remove(&hint(5, None));
        index.drop_below(&hint(13, None));
        assert_eq!(index.first_in_memory(), Some(Timestamp(15)));
    }
}

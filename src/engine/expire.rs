//! Expiry: history that is older than its retention, or takes more than its share, goes.
//!
//! What goes are the files of closed epochs, whole and the oldest first; nothing that stays needs
//! them. A clock that is wrong must not erase the past: the horizon moves only so fast by the
//! uptime of the process, and not at all for a day after the clock has jumped. How far uptime has
//! let it move stands in each manifest, so that many short lives count like a long one.
//!
//! Invariants:
//!   * Nothing goes that is not too old by the clock as it is now.
//!   * The horizon of a class moves exactly to the end of what was removed, in the same publish.
//!   * The open epoch is never removed.

use super::Engine;
use super::history::OpenSince;
use crate::error::{Error, Result};
use crate::format::manifest::{ClassChange, HistoryFile, Manifest};
use crate::ids::{FileNumber, Lsn, NamespaceNumber, Timestamp, micros};
use crate::marks::{Mark, mark};
use crate::object::retention::{OFF_CLASS, had_class, readable_from};
use crate::planted::{Mistake, planted};
use crate::retention::Retention;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::classes::Settings;
use super::purge::forget_purges;

/// How many times faster than uptime a horizon may move.
const SPEED: u32 = 24;
/// How far clock and uptime may come apart, and how long they must agree again.
const DAY: Duration = Duration::from_hours(24);
/// How often threads look.
const EVERY: Duration = Duration::from_mins(1);
/// What of a file system may be in use before history without a bound of its own gives way.
const FULL_PERCENT: u64 = 80;

/// What is known of the passing of time.
#[derive(Debug, Default)]
pub struct Expiry {
    state: Mutex<Guard>,
    /// Since when the open epoch has been open.
    pub(super) open: OpenSince,
    /// Somebody wants the open epoch of history to end.
    pub(super) ends_epoch: AtomicBool,
}

#[derive(Debug, Default)]
struct Guard {
    /// Clock and uptime when they were compared last.
    seen: Option<(u64, Duration)>,
    /// Nothing goes before this uptime: the clock has jumped.
    held_until: Duration,
    /// Up to what time uptime has let the horizon of each class with files move.
    allowed: BTreeMap<u32, Timestamp>,
}

impl Guard {
    /// Compares clock and uptime. Says how far a horizon may move now; none while the clock is in
    /// doubt.
    fn pass(&mut self, wall: u64, uptime: Duration) -> Option<Duration> {
        let (before, at) = self.seen.replace((wall, uptime)).unwrap_or((wall, uptime));
        let passed = uptime.saturating_sub(at);
        if wall.abs_diff(before.saturating_add(micros(passed))) > micros(DAY) {
            self.held_until = uptime + DAY;
        }
        (uptime >= self.held_until).then(|| passed.saturating_mul(SPEED))
    }

    /// The time before which files of a class may go: what is wanted, as far as `may` lets it.
    fn horizon(&mut self, class: u32, oldest: Timestamp, wanted: u64, may: Duration) -> Timestamp {
        let allowed = self.allowed.entry(class).or_insert(oldest);
        // Before the oldest file there is nothing to move over.
        let most = oldest.max(*allowed).0.saturating_add(micros(may));
        *allowed = Timestamp(wanted.min(most).max(allowed.0));
        Timestamp(wanted.min(allowed.0))
    }
}

impl Expiry {
    /// Goes on from where an earlier life of the store has come to.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let allowed = manifest.allowed.iter().copied().collect();
        let state = Mutex::new(Guard { allowed, ..Guard::default() });
        Self { state, open: OpenSince::default(), ends_epoch: AtomicBool::new(false) }
    }

    /// How far uptime has let horizons move, for the next manifest.
    pub(super) fn allowed(&self) -> Vec<(u32, Timestamp)> {
        self.state.lock().allowed.iter().map(|(class, time)| (*class, *time)).collect()
    }
}

/// What is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    files: BTreeSet<FileNumber>,
    horizons: BTreeMap<u32, Lsn>,
    /// A bound in bytes is passed by what the open epoch holds.
    ends_epoch: bool,
}

/// The closed epochs of a class, the oldest first, each with its files.
fn closed_epochs(manifest: &Manifest, class: u32) -> BTreeMap<u64, Vec<&HistoryFile>> {
    let mut epochs = BTreeMap::new();
    let is_closed = |file: &&HistoryFile| file.class == class && file.epoch < manifest.epoch;
    for file in manifest.history.iter().filter(is_closed) {
        epochs.entry(file.epoch).or_insert_with(Vec::new).push(file);
    }
    epochs
}

impl Plan {
    fn drop_epoch(&mut self, class: u32, files: &[&HistoryFile]) -> u64 {
        self.files.extend(files.iter().map(|file| file.facts.number));
        let end = files.iter().map(|file| file.end).max().unwrap_or(Lsn::ZERO);
        let end = if planted(Mistake::HorizonTooLow) { Lsn(end.0.saturating_sub(1)) } else { end };
        let horizon = self.horizons.entry(class).or_insert(Lsn::ZERO);
        *horizon = end.max(*horizon);
        files.iter().map(|file| file.facts.bytes).fold(0, u64::saturating_add)
    }

    /// Drops what is older than `horizon`, and then what passes `bytes`.
    fn add_class(
        &mut self,
        manifest: &Manifest,
        class: u32,
        horizon: Timestamp,
        bytes: Option<u64>,
    ) {
        let of_class = manifest.history.iter().filter(|file| file.class == class);
        let mut left = of_class.map(|file| file.facts.bytes).fold(0, u64::saturating_add);
        let most = bytes.unwrap_or(u64::MAX);
        for files in closed_epochs(manifest, class).values() {
            let is_old = files.iter().all(|file| file.end_time < horizon);
            let is_old = is_old || planted(Mistake::ExpireEarly);
            if !is_old && left <= most {
                return;
            }
            left = left.saturating_sub(self.drop_epoch(class, files));
        }
        self.ends_epoch |= left > most;
    }

    /// Drops the oldest closed epochs of all classes but those in `bounded` until so many bytes
    /// are free.
    fn free(&mut self, manifest: &Manifest, bounded: &BTreeSet<u32>, bytes: u64) {
        let classes: BTreeSet<u32> = manifest.history.iter().map(|file| file.class).collect();
        let mut epochs: Vec<_> = classes
            .difference(bounded)
            .copied()
            .flat_map(|class| {
                let epochs = closed_epochs(manifest, class);
                epochs.into_iter().map(move |(epoch, files)| (epoch, class, files))
            })
            .collect();
        epochs.sort_by_key(|(epoch, class, _)| (*epoch, *class));
        let is_gone = |file: &&HistoryFile| self.files.contains(&file.facts.number);
        let gone = manifest.history.iter().filter(is_gone).map(|file| file.facts.bytes);
        let mut freed = gone.fold(0, u64::saturating_add);
        for (_, class, files) in epochs {
            if freed >= bytes {
                return;
            }
            if files.iter().all(|file| !self.files.contains(&file.facts.number)) {
                freed = freed.saturating_add(self.drop_epoch(class, &files));
            }
        }
    }

    /// What the manifest is without it.
    ///
    /// Terms stay: a bookmark of a moment that was never durable is to be told from any other.
    fn apply(&self, manifest: &mut Manifest) {
        manifest.history.retain(|file| !self.files.contains(&file.facts.number));
        for (class, lsn) in &self.horizons {
            match manifest.horizons.iter_mut().find(|(other, _)| other == class) {
                Some((_, horizon)) => *horizon = (*horizon).max(*lsn),
                None => manifest.horizons.push((*class, *lsn)),
            }
        }
        forget_changes(manifest);
        forget_purges(manifest);
    }
}

/// Forgets changes of classes that no readable moment asks for: each that the next one followed
/// before the first moment that can be read, unless that moment follows from it. Where the next one
/// begins right behind that moment, the moment itself is still of the class before.
fn forget_changes(manifest: &mut Manifest) {
    let numbers: BTreeSet<_> = manifest.classes.iter().map(|change| change.namespace).collect();
    for number in numbers {
        let readable = readable_from(manifest, number);
        let is_over = |next: &ClassChange| readable.is_none_or(|readable| next.from < readable);
        loop {
            let places = manifest.classes.iter().enumerate();
            let mut own = places.filter(|(_, change)| change.namespace == number);
            let Some((first, _)) = own.next() else { break };
            if !own.next().is_some_and(|(_, next)| is_over(next)) {
                break;
            }
            let change = manifest.classes.remove(first);
            if readable_from(manifest, number) != readable {
                manifest.classes.insert(first, change);
                break;
            }
        }
    }
}

/// How long the files of a class are kept: as its setting says; or, where no namespace has it any
/// more, for as long as those that had it want their history.
fn retention_of(manifest: &Manifest, settings: &Settings, class: u32) -> Retention {
    if let Some(retention) = settings.of_class(class) {
        return retention;
    }
    let had = |number: &NamespaceNumber| {
        settings.class(*number) != OFF_CLASS && had_class(manifest, *number, class)
    };
    let ages =
        settings.numbers().filter(had).filter_map(|number| match settings.retention(number) {
            Retention::Off => None,
            Retention::Keep { age, .. } => Some(age),
        });
    ages.max().map_or(Retention::Off, |age| Retention::Keep { age, bytes: None })
}

impl Engine {
    /// Whether it is time to look for history that may go.
    pub fn wants_expire(&self) -> bool {
        let seen = self.expiry.state.lock().seen;
        let is_time = !self.options.spares_history
            && seen.is_none_or(|(_, at)| self.clock.uptime() >= at + EVERY);
        is_time && !self.version().manifest.history.is_empty()
    }

    /// Removes history that is older than its retention, or takes more than it may. Says whether
    /// there was any.
    pub fn expire(&self) -> Result<bool> {
        let mut publisher = self.publisher.lock();
        self.check_alive()?;
        let settings = self.settings();
        let plan = self.plan(&publisher.manifest, &settings)?;
        if plan.ends_epoch {
            self.expiry.ends_epoch.store(true, Ordering::Relaxed);
        }
        if plan.files.is_empty() {
            return Ok(false);
        }
        let mut next = publisher.manifest.clone();
        plan.apply(&mut next);
        self.publish(&mut publisher, next)?;
        mark(Mark::HistoryExpired);
        self.counters.expired_files.fetch_add(plan.files.len() as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn plan(&self, manifest: &Manifest, settings: &Settings) -> Result<Plan> {
        let mut plan = Plan::default();
        let (wall, uptime) = (self.clock.wall_micros(), self.clock.uptime());
        let mut guard = self.expiry.state.lock();
        let Some(may) = guard.pass(wall, uptime) else {
            self.counters.expiry_holds.fetch_add(1, Ordering::Relaxed);
            return Ok(plan);
        };
        let mut oldest = BTreeMap::new();
        for file in &manifest.history {
            // Before the first cut of a store there is no time.
            let is_first = file.start == Lsn::ZERO;
            let time = if is_first { file.end_time } else { file.start_time };
            let start = oldest.entry(file.class).or_insert(time);
            *start = time.min(*start);
        }
        guard.allowed.retain(|class, _| oldest.contains_key(class));
        let mut bounded = BTreeSet::new();
        for (class, oldest) in oldest {
            match retention_of(manifest, settings, class) {
                // Nobody can read it: no clock is asked.
                Retention::Off => plan.add_class(manifest, class, Timestamp(u64::MAX), None),
                Retention::Keep { age, bytes } => {
                    let wanted = wall.saturating_sub(micros(age));
                    let horizon = guard.horizon(class, oldest, wanted, may);
                    bounded.extend(bytes.map(|_| class));
                    plan.add_class(manifest, class, horizon, bytes);
                }
            }
        }
        drop(guard);
        if !self.options.spares_history {
            plan.free(manifest, &bounded, self.excess_bytes()?);
        }
        Ok(plan)
    }

    /// Bytes by which the file system is fuller than history may make it. Where its size is not
    /// known there is no such bound.
    fn excess_bytes(&self) -> Result<u64> {
        let space = match self.disk.space() {
            Ok(space) => space,
            Err(cause) if cause.kind() == std::io::ErrorKind::Unsupported => return Ok(0),
            Err(cause) => return Err(Error::io("asking for free space", cause)),
        };
        let most = space.total / 100 * FULL_PERCENT;
        // What was let go of is as good as free.
        let free = space.free.saturating_add(self.retired_bytes());
        Ok(space.total.saturating_sub(free).saturating_sub(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::namespace::{NamespaceItem, NamespaceValue};
    use crate::format::run::{RunFacts, RunUse};
    use crate::object_id::NamespaceKey;
    use proptest::prelude::*;

    fn file(number: u64, class: u32, epoch: u64, bytes: u64) -> HistoryFile {
        HistoryFile {
            facts: RunFacts {
                number: FileNumber(number),
                usage: RunUse::History,
                bytes,
                entries: 1,
                checksum: 0,
            },
            class,
            epoch,
            start: Lsn(number * 10 - 10),
            end: Lsn(number * 10),
            start_time: Timestamp(number * 100 - 100),
            end_time: Timestamp(number * 100),
        }
    }

    /// Files 1 to 5 of class 1, two to an epoch; the last epoch is open.
    fn manifest() -> Manifest {
        let history = (1..=5).map(|number| file(number, 1, (number - 1) / 2, 50)).collect();
        Manifest { history, epoch: 2, cut: Lsn(50), ..Manifest::default() }
    }

    fn numbers(plan: &Plan) -> Vec<u64> {
        plan.files.iter().map(|file| file.0).collect()
    }

    fn settings(own: &[(u32, Option<Retention>)]) -> Settings {
        let own = own.iter().map(|(number, own)| (NamespaceNumber(*number), *own)).collect();
        Settings { default: Retention::days(30), own }
    }

    #[test]
    fn a_change_is_kept_while_a_moment_of_the_class_before_it_can_be_read() {
        let change =
            |class, from| ClassChange { namespace: NamespaceNumber(1), class, from: Lsn(from) };
        let left = |changes: &[ClassChange], horizon| {
            let horizons = vec![(18, Lsn(horizon))];
            let mut manifest =
                Manifest { classes: changes.to_vec(), horizons, ..Manifest::default() };
            forget_changes(&mut manifest);
            manifest.classes.len()
        };
        let back_and_forth = [change(18, 10), change(1, 30), change(18, 50)];
        let horizons = [5, 20, 30, 31, 50, 51];
        // At 30 and 50 the moment itself is of the class that ends there.
        let expected = [3, 3, 3, 2, 2, 1];
        assert_eq!(horizons.map(|horizon| left(&back_and_forth, horizon)), expected);
        // Where the class before the first one kept history, nothing says that it was off.
        assert_eq!(left(&[change(0, 10), change(18, 30)], 20), 2);
    }

    #[test]
    fn whole_closed_epochs_go_once_their_last_commit_is_too_old() {
        let dropped = |horizon| {
            let mut plan = Plan::default();
            plan.add_class(&manifest(), 1, Timestamp(horizon), None);
            assert!(!plan.ends_epoch);
            (numbers(&plan), plan.horizons.get(&1).map(|lsn| lsn.0))
        };
        assert_eq!(dropped(200), (vec![], None));
        assert_eq!(dropped(201), (vec![1, 2], Some(20)));
        assert_eq!(dropped(400), (vec![1, 2], Some(20)));
        // Never the open epoch.
        assert_eq!(dropped(u64::MAX), (vec![1, 2, 3, 4], Some(40)));
    }

    #[test]
    fn a_bound_in_bytes_takes_the_oldest_and_closes_the_epoch_at_last() {
        let dropped = |bytes| {
            let mut plan = Plan::default();
            plan.add_class(&manifest(), 1, Timestamp(0), Some(bytes));
            (numbers(&plan), plan.ends_epoch)
        };
        assert_eq!(dropped(250), (vec![], false));
        assert_eq!(dropped(249), (vec![1, 2], false));
        assert_eq!(dropped(149), (vec![1, 2, 3, 4], false));
        assert_eq!(dropped(49), (vec![1, 2, 3, 4], true));
    }

    #[test]
    fn a_full_disk_takes_the_oldest_of_all_classes_and_leaves_the_open_epoch() {
        let mut manifest = manifest();
        manifest.history.push(file(6, 18, 0, 30));
        let dropped = |bytes| {
            let mut plan = Plan::default();
            plan.free(&manifest, &BTreeSet::new(), bytes);
            (numbers(&plan), plan.ends_epoch)
        };
        assert_eq!(dropped(0), (vec![], false));
        assert_eq!(dropped(1), (vec![1, 2], false));
        assert_eq!(dropped(100), (vec![1, 2], false));
        assert_eq!(dropped(101), (vec![1, 2, 6], false));
        assert_eq!(dropped(u64::MAX), (vec![1, 2, 3, 4, 6], false));
        // What goes anyway counts.
        let mut plan = Plan::default();
        plan.add_class(&manifest, 1, Timestamp(201), None);
        plan.free(&manifest, &BTreeSet::new(), 100);
        assert_eq!(numbers(&plan), [1, 2]);
        // A class with a bound of its own keeps to that.
        let mut plan = Plan::default();
        plan.free(&manifest, &BTreeSet::from([1]), u64::MAX);
        assert_eq!(numbers(&plan), [6]);
    }

    #[test]
    fn a_plan_moves_horizons_and_forgets_what_no_moment_asks_for() {
        let mut manifest = manifest();
        let change =
            |class, from| ClassChange { namespace: NamespaceNumber(1), class, from: Lsn(from) };
        manifest.classes = vec![change(0, 5), change(1, 15), change(18, 30)];
        let span = |term: u32, last| crate::format::manifest::TermSpan {
            term: crate::ids::Term(term),
            first: Lsn(last - 9),
            last: Lsn(last),
        };
        manifest.terms = vec![span(1, 10), span(2, 20), span(3, 50)];
        let mut plan = Plan::default();
        plan.add_class(&manifest, 1, Timestamp(201), None);
        plan.apply(&mut manifest);
        let left: Vec<_> = manifest.history.iter().map(|file| file.facts.number.0).collect();
        assert_eq!(left, [3, 4, 5]);
        assert_eq!(manifest.horizons, [(1, Lsn(20))]);
        assert_eq!(readable_from(&manifest, NamespaceNumber(1)), Some(Lsn(20)));
        // Moments up to the last change are looked up in the class before it.
        assert_eq!(manifest.classes, [change(1, 15), change(18, 30)]);
        assert_eq!(manifest.terms.len(), 3);
    }

    #[test]
    fn files_of_a_class_that_nobody_has_go_as_those_who_had_it_want() {
        let mut manifest = manifest();
        let week = Some(Retention::days(7));
        let change =
            |class, from| ClassChange { namespace: NamespaceNumber(1), class, from: Lsn(from) };
        manifest.classes = vec![change(17, 5), change(1, 15)];
        let of = |settings: &Settings, class| retention_of(&manifest, settings, class);
        assert_eq!(of(&settings(&[(1, None)]), 17), Retention::days(30));
        assert_eq!(of(&settings(&[(1, week)]), 17), Retention::days(7));
        assert_eq!(of(&settings(&[(1, Some(Retention::Off))]), 17), Retention::Off);
        assert_eq!(of(&settings(&[(1, None)]), 99), Retention::Off);
        let off = Settings { default: Retention::Off, ..settings(&[(1, week)]) };
        assert_eq!(of(&off, 1), Retention::days(7));
        // One that was made with a setting of its own never had the default.
        manifest.classes.truncate(1);
        let (number, key) = (NamespaceNumber(1), NamespaceKey::new("rooms"));
        let value = NamespaceValue { number, key, retention: week };
        manifest.namespaces =
            vec![NamespaceItem { since: Lsn(6), name: "rooms".to_owned(), value }];
        let of = |class| retention_of(&manifest, &off, class);
        assert_eq!((of(1), of(17)), (Retention::Off, Retention::days(7)));
    }

    #[test]
    fn a_horizon_moves_a_day_in_an_hour_and_never_back() {
        let mut guard = Guard::default();
        let hour = Duration::from_hours(1);
        let day = micros(DAY);
        let start = 100 * day;
        assert_eq!(guard.pass(start, Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(guard.horizon(1, Timestamp(day), 50 * day, Duration::ZERO), Timestamp(day));
        let may = guard.pass(start + micros(hour), hour).unwrap();
        assert_eq!(guard.horizon(1, Timestamp(day), 50 * day, may), Timestamp(2 * day));
        // As far as is wanted, and no further.
        let may = guard.pass(start + micros(3 * hour), 3 * hour).unwrap();
        assert_eq!(guard.horizon(1, Timestamp(day), 3 * day, may), Timestamp(3 * day));
        // A clock that was set back makes nothing old that is not.
        assert_eq!(guard.horizon(1, Timestamp(day), 2 * day, may), Timestamp(2 * day));
        assert_eq!(guard.allowed[&1], Timestamp(3 * day));
        // Over a time without files no uptime is needed.
        assert_eq!(
            guard.horizon(1, Timestamp(40 * day), 50 * day, hour * SPEED),
            Timestamp(41 * day)
        );
    }

    #[test]
    fn short_lives_count_like_a_long_one() {
        let (minute, day) = (Duration::from_mins(1), micros(DAY));
        let mut manifest = manifest();
        let mut lives = 0;
        // Ten minutes a week, with history of a day to go.
        let horizon = loop {
            let expiry = Expiry::of(&manifest);
            let mut guard = expiry.state.lock();
            let start = (100 + 7 * lives) * day;
            let mut horizon = Timestamp(0);
            for look in 0..=10u32 {
                let now = start + u64::from(look) * micros(minute);
                let may = guard.pass(now, minute * look).unwrap();
                horizon = guard.horizon(1, Timestamp(50 * day), 90 * day, may);
            }
            drop(guard);
            manifest.allowed = expiry.allowed();
            lives += 1;
            if horizon >= Timestamp(51 * day) {
                break horizon;
            }
        };
        assert_eq!((lives, horizon), (6, Timestamp(51 * day)));
    }

    #[test]
    fn a_clock_that_jumps_holds_expiry_for_a_day_of_uptime() {
        for jump in [400, -50] {
            let mut guard = Guard::default();
            let hour = Duration::from_hours(1);
            let start = 100 * micros(DAY);
            let mut uptime = Duration::ZERO;
            assert!(guard.pass(start, uptime).is_some());
            uptime += hour;
            // Less than a day is no jump: a machine that slept over night.
            let slept = start + micros(hour) + micros(23 * hour);
            assert_eq!(guard.pass(slept, uptime), Some(24 * hour));
            uptime += hour;
            let jumped = slept.checked_add_signed(jump * 86_400_000_000).unwrap();
            assert_eq!(guard.pass(jumped, uptime), None);
            let after = |passed: Duration| jumped + micros(passed);
            assert_eq!(guard.pass(after(hour), uptime + hour), None);
            assert_eq!(guard.pass(after(23 * hour), uptime + 23 * hour), None);
            // What passed while it was held is not made up for.
            assert_eq!(guard.pass(after(24 * hour), uptime + 24 * hour), Some(24 * hour));
        }
    }

    proptest! {
        /// No readable moment misses a file, and no closed file is left that is too old.
        #[test]
        fn what_is_needed_stays_and_the_rest_goes(
            epochs in proptest::collection::vec((0u64..4, 1u32..3), 1..12),
            horizon in 0u64..1500,
            bytes in proptest::option::of(0u64..500),
            excess in 0u64..300,
        ) {
            let mut epoch = 0;
            let mut history = Vec::new();
            for (number, (step, class)) in (1..).zip(&epochs) {
                epoch += step % 2;
                history.push(file(number, *class, epoch, 50));
            }
            let mut manifest = Manifest { history, epoch, cut: Lsn(1000), ..Manifest::default() };
            let before = manifest.clone();
            let mut plan = Plan::default();
            for class in 1..3 {
                plan.add_class(&manifest, class, Timestamp(horizon), bytes);
            }
            plan.free(&manifest, &BTreeSet::new(), excess);
            plan.apply(&mut manifest);
            let from = readable_from(&manifest, NamespaceNumber(0)).unwrap();
            for file in &before.history {
                let is_left = manifest.history.contains(file);
                let is_needed = file.class == 1 && file.end > from;
                prop_assert!(is_left || !is_needed);
                prop_assert!(is_left || file.epoch < epoch);
                // An epoch of a class goes whole.
                let same = before.history.iter()
                    .filter(|other| (other.class, other.epoch) == (file.class, file.epoch));
                let last = same.map(|other| other.end_time.0).max().unwrap();
                prop_assert!(!is_left || file.epoch == epoch || last >= horizon);
                // Whatever of a class is left is younger than all of it that went.
                let younger = |gone: &&HistoryFile| {
                    gone.class == file.class && !manifest.history.contains(gone)
                };
                prop_assert!(!is_left || before.history.iter().filter(younger)
                    .all(|gone| gone.end < file.end));
            }
            let left = |class| -> u64 {
                let of = manifest.history.iter().filter(|file| file.class == class);
                of.map(|file| file.facts.bytes).sum()
            };
            for class in 1..3 {
                let open = manifest.history.iter()
                    .filter(|file| file.class == class && file.epoch == epoch).count() as u64 * 50;
                let most = bytes.unwrap_or(u64::MAX);
                prop_assert!(left(class) <= most || left(class) == open && plan.ends_epoch);
            }
        }
    }
}

//! Alarms over many deliveries and crashes, against a model that knows every setting.
//!
//! `DOSTORE_DELIVERIES=n` delivers that many; `DOSTORE_ALARM_SEED=n` begins at another seed.
//!
//! Invariants:
//!   * What fires is in the model as it fired, durable, due, and not in other hands.
//!   * When everything due has been handled, the model has nothing that is due.
//!   * After a crash the alarms are those of a prefix of all commits.

use super::chance::Chance;
use super::ledger::{self, Row};
use dostore::disk::ReadDisk;
use dostore::disk::sim::{Fault, SimDisk};
use dostore::ids::{Lsn, Timestamp};
use dostore::inspect::verify::verify;
use dostore::store::Store;
use dostore::store::alarms::{Alarms, Failure, Fired, Outcome};
use dostore::store::namespace::Namespace;
use dostore::store::snapshot::Snapshot;
use dostore::store::turn::Turn;
use std::collections::BTreeMap;
use std::time::Duration;

const DELIVERIES: u64 = 20_000;
/// So many deliveries are one machine's.
const PER_SEED: u64 = 10_000;
const OBJECTS: u64 = 24;
const NAMES: [Option<&str>; 3] = [None, Some("a"), Some("b")];
const SECOND: u64 = 1_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// An object and one of its alarms.
type Key = (u64, usize);

/// One setting of an alarm, and where its attempts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    number: u64,
    time: u64,
    due: u64,
    counted: u32,
    attempts: u32,
}

/// What an alarm was after each commit that may still be lost, and the last that may not.
type Story = Vec<(Lsn, Option<Setting>)>;

#[derive(Default)]
struct Counts {
    deliveries: u64,
    retries: u64,
    abandoned: u64,
    superseded: u64,
    crashes: u64,
    dropped: u64,
}

struct World {
    disk: SimDisk,
    chance: Chance,
    /// None while the machine is off.
    open: Option<(Store, Namespace, Alarms)>,
    stories: BTreeMap<Key, Story>,
    held: Vec<(Fired, Key, Setting)>,
    settings: u64,
    last: Lsn,
    counts: Counts,
}

/// The machine is off: what was going on is over.
#[derive(Debug)]
struct Off;

type Step<T = ()> = Result<T, Off>;

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        disk.set_wall(START);
        let mut world = Self {
            disk,
            chance: Chance::new(seed),
            open: None,
            stories: BTreeMap::new(),
            held: Vec::new(),
            settings: 0,
            last: Lsn::ZERO,
            counts: Counts::default(),
        };
        world.reopen();
        world
    }

    /// What the store says; an error is right only when the machine went off.
    fn said<T>(&self, said: dostore::error::Result<T>) -> Step<T> {
        said.map_err(|error| {
            assert!(self.disk.is_off(), "without a cause: {error:?}");
            Off
        })
    }

    fn store(&self) -> &Store {
        &self.open.as_ref().expect("open").0
    }

    fn rooms(&self) -> Namespace {
        self.open.as_ref().expect("open").1.clone()
    }

    fn now(&self) -> u64 {
        self.disk.clock().wall_micros()
    }

    fn setting(&self, key: Key) -> Option<Setting> {
        self.stories.get(&key)?.last()?.1
    }

    fn remember(&mut self, lsn: Lsn, key: Key, setting: Option<Setting>) {
        self.last = self.last.max(lsn);
        let story = self.stories.entry(key).or_default();
        story.push((lsn, setting));
        if story.len() > 32 {
            let durable = self.open.as_ref().map_or(Lsn::ZERO, |open| open.0.durable());
            let settled = story.partition_point(|(lsn, _)| *lsn <= durable);
            story.drain(..settled.saturating_sub(1));
        }
    }

    /// Opens the store after whatever ended it, and compares it with the model.
    fn reopen(&mut self) {
        self.held.clear();
        let floor = self.open.take().map_or(Lsn::ZERO, |(store, ..)| store.durable());
        self.disk = if self.chance.percent(70) { self.disk.power_cut() } else { self.disk.kill() };
        let options = Store::options()
            .threads(false)
            .wal_file_bytes(256 << 10)
            .segment_bytes(64 << 10)
            .page_bytes(512)
            .retire_after(Duration::ZERO);
        let store = options.open_on(self.disk.clone()).expect("nothing disturbs");
        let rooms = store.namespace("rooms").expect("nothing disturbs");
        let alarms = store.alarms();
        let views: Vec<_> = (0..OBJECTS)
            .map(|object| rooms.snapshot(rooms.id_from_name(&name(object))).expect("undamaged"))
            .collect();
        let shown = views.iter().map(Snapshot::last_lsn).max().unwrap_or_default();
        let last = floor.min(self.last).max(shown);
        for story in self.stories.values_mut() {
            story.retain(|(lsn, _)| *lsn <= last);
        }
        for (object, view) in views.iter().enumerate() {
            let mut found: Vec<_> = view.alarms().expect("undamaged");
            found.sort();
            let mut right = Vec::new();
            for (index, alarm) in NAMES.iter().enumerate() {
                if let Some(setting) = self.setting((object as u64, index)) {
                    right.push((alarm.map(str::to_owned), Timestamp(setting.time)));
                }
            }
            assert_eq!(found, right, "object {object} after opening at {last}");
        }
        let report = verify(self.disk.clone());
        assert!(report.is_clean(), "{:?}", report.faults);
        self.open = Some((store, rooms, alarms));
    }

    /// A turn of one object, and what it does to the model when it is committed.
    fn turn(
        &mut self,
        object: u64,
        fill: impl FnOnce(&mut Self, &mut Turn<'_>) -> Step<Vec<(Key, Option<Setting>)>>,
    ) -> Step {
        let opened = self.rooms().open_by_name(&name(object));
        let mut handle = self.said(opened)?;
        let mut turn = handle.turn();
        let changed = fill(self, &mut turn)?;
        let committed = turn.commit();
        let commit = self.said(committed)?;
        let lsn = commit.position().lsn;
        for (key, setting) in changed {
            self.remember(lsn, key, setting);
        }
        if self.chance.percent(5) {
            let waited = commit.wait();
            self.said(waited)?;
        }
        Ok(())
    }

    fn set(&mut self, turn: &mut Turn<'_>, key: Key, time: u64) -> Step<Option<Setting>> {
        self.settings += 1;
        let at = Timestamp(time);
        let set = match NAMES[key.1] {
            None => turn.set_alarm(at).map(drop),
            Some(name) => turn.set_named_alarm(name, at).map(drop),
        };
        self.said(set)?;
        Ok(Some(Setting { number: self.settings, time, due: time, counted: 0, attempts: 0 }))
    }

    fn some_time(&mut self) -> u64 {
        let now = self.now();
        match self.chance.below(10) {
            0 => now - self.chance.below(100 * SECOND),
            1 => now,
            2 => now + self.chance.below(3_000 * SECOND),
            // Many at one moment.
            3 => now - now % (10 * SECOND) + 20 * SECOND,
            _ => now + self.chance.below(30 * SECOND),
        }
    }

    fn change_alarms(&mut self) -> Step {
        // The first object is changed seldom, so that its alarms have the time to be given up.
        let object = match self.chance.below(OBJECTS) {
            0 if self.chance.percent(95) => 1,
            object => object,
        };
        self.turn(object, |world, turn| {
            let mut changed = Vec::new();
            if world.chance.percent(4) {
                let keeps = world.chance.percent(50);
                let deleted =
                    if keeps { turn.delete_all_keeping_alarms() } else { turn.delete_all() };
                world.said(deleted.map(drop))?;
                if !keeps {
                    changed.extend((0..NAMES.len()).map(|index| ((object, index), None)));
                }
            }
            for _ in 0..world.chance.between(1, 3) {
                let key = (object, world.chance.index(NAMES.len()));
                if world.chance.percent(15) {
                    let cleared = match NAMES[key.1] {
                        None => turn.clear_alarm().map(drop),
                        Some(name) => turn.clear_named_alarm(name).map(drop),
                    };
                    world.said(cleared)?;
                    changed.push((key, None));
                } else {
                    let time = world.some_time();
                    let setting = world.set(turn, key, time)?;
                    changed.push((key, setting));
                }
            }
            let value = [7; 40];
            let put = turn.put(format!("k{}", world.chance.below(20)), value).map(drop);
            world.said(put)?;
            Ok(changed)
        })
    }

    fn deliver(&mut self) -> Step<bool> {
        let next = self.open.as_ref().expect("open").2.try_next();
        let Some(fired) = self.said(next)? else { return Ok(false) };
        self.counts.deliveries += 1;
        let said = fired.object_name();
        let object = self.said(said)?.expect("all objects have names");
        let object: u64 = object[6..].parse().expect("a number");
        let index =
            NAMES.iter().position(|name| *name == fired.alarm_name()).expect("a known name");
        let key = (object, index);
        let setting = self.setting(key).expect("an alarm that is not set fires");
        assert_eq!(fired.scheduled(), Timestamp(setting.time), "{key:?}");
        assert_eq!(fired.attempt(), setting.attempts, "{key:?}");
        assert!(setting.due <= self.now(), "{key:?} fires early: {setting:?}");
        let set = self.stories[&key].last().map(|(lsn, _)| *lsn);
        assert!(set <= Some(self.store().durable()), "{key:?} fires before it is surely set");
        assert!(self.held.iter().all(|(_, other, _)| *other != key), "{key:?} twice");
        if self.chance.percent(5) {
            self.held.push((fired, key, setting));
            return Ok(true);
        }
        self.handle(&fired, key, setting)?;
        Ok(true)
    }

    /// Handles what fired as `fired_as`, in one of the ways in which a handler can.
    fn handle(&mut self, fired: &Fired, key: Key, fired_as: Setting) -> Step {
        // The alarms of one object nearly always fail.
        let is_doomed = key.0 == 0 && self.chance.percent(90);
        let kind = if is_doomed { 10 } else { self.chance.below(100) };
        if kind < 3 {
            self.counts.dropped += 1;
            return Ok(());
        }
        self.turn(key.0, |world, turn| {
            let is_same = world.setting(key) == Some(fired_as);
            if (3..25).contains(&kind) {
                let counts = kind < 18;
                let failure = if counts { Failure::Counted } else { Failure::Uncounted };
                let failed = turn.fail_alarm(fired, failure, "no");
                let outcome = world.said(failed)?;
                return Ok(world.failed(key, fired_as, (is_same, counts), outcome));
            }
            let mut changed = Vec::new();
            if kind < 35 {
                // Set again while it is handled, to the very same time or another.
                let time = if kind < 30 { fired_as.time } else { world.some_time() };
                let setting = world.set(turn, key, time)?;
                changed.push((key, setting));
                let done = turn.complete_alarm(fired);
                assert!(!world.said(done)?, "{key:?} was set again");
                return Ok(changed);
            }
            let done = turn.complete_alarm(fired);
            assert_eq!(world.said(done)?, is_same, "{key:?}");
            if is_same {
                changed.push((key, None));
            }
            Ok(changed)
        })
    }

    fn failed(
        &mut self,
        key: Key,
        fired_as: Setting,
        (is_same, counts): (bool, bool),
        outcome: Outcome,
    ) -> Vec<(Key, Option<Setting>)> {
        match outcome {
            Outcome::Superseded => {
                assert!(!is_same, "{key:?} was not changed");
                self.counts.superseded += 1;
                Vec::new()
            }
            Outcome::Retry { at } => {
                assert!(is_same && (fired_as.counted < 6 || !counts), "{key:?}: {fired_as:?}");
                self.counts.retries += 1;
                let counted = fired_as.counted + u32::from(counts);
                let attempts = fired_as.attempts + 1;
                vec![(key, Some(Setting { due: at.0, counted, attempts, ..fired_as }))]
            }
            Outcome::Abandoned => {
                assert!(is_same && counts && fired_as.counted == 6, "{key:?}: {fired_as:?}");
                self.counts.abandoned += 1;
                vec![(key, None)]
            }
        }
    }

    fn release(&mut self) -> Step {
        if self.held.is_empty() {
            return Ok(());
        }
        let place = self.chance.index(self.held.len());
        let (fired, key, setting) = self.held.swap_remove(place);
        self.handle(&fired, key, setting)
    }

    fn act(&mut self) -> Step {
        match self.chance.below(1000) {
            0..=249 => self.change_alarms(),
            250..=549 => self.deliver().map(drop),
            550..=599 => self.release(),
            600..=699 => {
                self.disk.advance(Duration::from_millis(self.chance.below(20_000)));
                Ok(())
            }
            700..=702 => {
                let by = self.chance.below(2_000 * SECOND);
                let now = self.now();
                let to = if self.chance.percent(50) { now + by } else { now - by };
                self.disk.set_wall(to);
                Ok(())
            }
            703 if self.chance.percent(40) => self.checkpoint_twice(),
            703..=712 => {
                let done = self.store().steps().checkpoint();
                self.said(done).map(drop)
            }
            713..=716 => {
                let done = self.store().steps().merge();
                self.said(done).map(drop)
            }
            717..=718 => {
                let done = self.store().steps().clean();
                self.said(done).map(drop)
            }
            719..=720 => {
                let done = self.store().steps().remove_retired();
                self.said(done).map(drop)
            }
            721 => {
                let object = self.chance.below(OBJECTS);
                let rooms = self.rooms();
                let deleted = rooms.delete(rooms.id_from_name(&name(object)));
                let lsn = self.said(deleted)?.position().lsn;
                for index in 0..NAMES.len() {
                    self.remember(lsn, (object, index), None);
                }
                Ok(())
            }
            722 => {
                let calls = self.chance.below(60);
                self.disk.crash_after(calls);
                Ok(())
            }
            _ => {
                let done = self.store().steps().write_group();
                self.said(done).map(drop)
            }
        }
    }

    /// A checkpoint that fails and is tried again. What is set meanwhile is not in it, and must
    /// fire before the next one.
    fn checkpoint_twice(&mut self) -> Step {
        self.change_alarms()?;
        let done = self.store().steps().write_group();
        self.said(done)?;
        // Not `Io`: a read that fails with it is asked for again.
        self.disk.fail_call(1, Fault::ReadOnly);
        let failed = self.store().steps().checkpoint().is_err();
        assert!(failed, "it writes nothing, though something was changed");
        for _ in 0..self.chance.between(2, 6) {
            self.change_alarms()?;
        }
        let done = self.store().steps().write_group();
        self.said(done)?;
        let done = self.store().steps().checkpoint();
        self.said(done)?;
        self.settle()
    }

    /// Handles everything that is due: then nothing that the model has may be.
    fn settle(&mut self) -> Step {
        self.held.clear();
        loop {
            let before = self.counts.deliveries;
            for _ in 0..2 {
                self.disk.advance(Duration::from_secs(3));
                let done = self.store().steps().write_group();
                self.said(done)?;
                while self.deliver()? {
                    let done = self.store().steps().write_group();
                    self.said(done)?;
                }
                while !self.held.is_empty() {
                    self.release()?;
                }
            }
            if self.counts.deliveries == before {
                break;
            }
        }
        let now = self.now();
        for (key, story) in &self.stories {
            let setting = story.last().and_then(|(_, setting)| *setting);
            let lost = setting.filter(|setting| setting.due <= now);
            assert!(lost.is_none(), "{key:?} never fires: {lost:?} at {now}");
        }
        Ok(())
    }

    fn run(&mut self, deliveries: u64) {
        let mut next_settle = deliveries / 8;
        while self.counts.deliveries < deliveries {
            let mut step = self.act();
            if step.is_ok() && self.counts.deliveries >= next_settle {
                next_settle += deliveries / 8 + 1;
                step = self.settle();
            }
            if step.is_err() {
                self.counts.crashes += 1;
                self.reopen();
            }
        }
    }
}

fn name(object: u64) -> String {
    format!("object{object}")
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn alarms_are_neither_lost_nor_early_and_fire_at_least_once() {
    let wanted = from_environment("DOSTORE_DELIVERIES").unwrap_or(DELIVERIES);
    let first = from_environment("DOSTORE_ALARM_SEED").unwrap_or(1);
    let mut seed = first;
    let mut total = Counts::default();
    while total.deliveries < wanted {
        let mut world = World::new(seed);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(PER_SEED)));
        if let Err(panic) = ran {
            eprintln!("alarm seed {seed}");
            std::panic::resume_unwind(panic);
        }
        let counts = world.counts;
        total.deliveries += counts.deliveries;
        total.retries += counts.retries;
        total.abandoned += counts.abandoned;
        total.superseded += counts.superseded;
        total.crashes += counts.crashes;
        total.dropped += counts.dropped;
        seed += 1;
    }
    let Counts { deliveries, retries, abandoned, superseded, crashes, dropped } = total;
    ledger::add(&Row {
        kind: "alarms",
        seeds: format!("{} from {first}", seed - first),
        crashes,
        executions: deliveries,
        ..Row::default()
    });
    println!(
        "{deliveries} deliveries, {crashes} crashes, {retries} retries, {abandoned} abandoned"
    );
    println!("  {superseded} reports on what was set again, {dropped} dropped without a report");
    assert!(crashes > 0 && retries > 0 && superseded > 0 && dropped > 0);
    assert!(abandoned > 0);
}

//! Alarms through the public interface, on a simulated machine whose clock the tests set.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

mod damage;
mod waiting;

use dostore::disk::sim::{Damage, SimDisk};
use dostore::ids::Timestamp;
use dostore::names::FileName;
use dostore::store::alarms::{Alarms, Failure, Fired, Outcome};
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::{Options, Store};
use std::time::Duration;

const SECOND: u64 = 1_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn options() -> Options {
    Store::options()
        .threads(false)
        .wal_file_bytes(64 << 10)
        .segment_bytes(16 << 10)
        .page_bytes(512)
        .retire_after(Duration::ZERO)
}

/// A machine, its store and a namespace.
struct World {
    disk: SimDisk,
    store: Store,
    rooms: Namespace,
    alarms: Alarms,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        disk.set_wall(START);
        Self::open(disk)
    }

    fn open(disk: SimDisk) -> Self {
        let store = options().open_on(disk.clone()).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let alarms = store.alarms();
        Self { disk, store, rooms, alarms }
    }

    /// The power fails, and the store is opened again.
    fn crash(self) -> Self {
        let Self { disk, store, rooms, alarms } = self;
        let disk = disk.power_cut();
        drop((store, rooms, alarms));
        Self::open(disk)
    }

    fn set(&self, object: &str, alarm: Option<&str>, seconds: u64) {
        let mut object = self.rooms.open_by_name(object).unwrap();
        let mut turn = object.turn();
        match alarm {
            None => drop(turn.set_alarm(at(seconds)).unwrap()),
            Some(name) => drop(turn.set_named_alarm(name, at(seconds)).unwrap()),
        }
        turn.commit_durable().unwrap();
    }

    fn pass(&self, seconds: u64) {
        self.disk.advance(Duration::from_secs(seconds));
    }

    fn fired(&self) -> Option<Fired> {
        self.alarms.try_next().unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "what was completed is let go")]
    fn complete(&self, fired: Fired) {
        let mut object = self.rooms.open(fired.object_id().unwrap()).unwrap();
        let mut turn = object.turn();
        assert!(turn.complete_alarm(&fired).unwrap());
        turn.commit_durable().unwrap();
    }

    fn fail(&self, fired: &Fired, failure: Failure) -> Outcome {
        let mut object = self.rooms.open(fired.object_id().unwrap()).unwrap();
        let mut turn = object.turn();
        let outcome = turn.fail_alarm(fired, failure, "it went wrong").unwrap();
        turn.commit_durable().unwrap();
        outcome
    }

    /// The store as it lies on disk has no fault.
    fn verify(&self) {
        let report = dostore::inspect::verify::verify(self.disk.clone());
        assert!(report.is_clean(), "{report:?}");
    }

    /// Everything that fires now, completed: names of objects and alarms.
    fn drain(&self) -> Vec<(String, Option<String>)> {
        let mut found = Vec::new();
        while let Some(fired) = self.fired() {
            let object = fired.object_name().unwrap().unwrap();
            found.push((object, fired.alarm_name().map(str::to_owned)));
            self.complete(fired);
        }
        found
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(START + seconds * SECOND)
}

fn plain(object: &str) -> (String, Option<String>) {
    (object.to_owned(), None)
}

fn named(object: &str, alarm: &str) -> (String, Option<String>) {
    (object.to_owned(), Some(alarm.to_owned()))
}

#[test]
fn an_alarm_fires_once_it_is_due_and_not_before() {
    let world = World::new(1);
    world.set("a", None, 100);
    assert!(world.fired().is_none());
    assert_eq!(world.alarms.next_due().unwrap(), Some(at(100)));
    world.pass(98);
    assert!(world.fired().is_none());
    world.pass(3);
    let fired = world.fired().unwrap();
    assert_eq!(fired.object_id().unwrap(), world.rooms.id_from_name("a"));
    assert_eq!(fired.namespace().unwrap().name(), "rooms");
    assert_eq!((fired.alarm_name(), fired.scheduled(), fired.attempt()), (None, at(100), 0));
    assert!(!fired.is_retry() && !fired.missed());
    assert!(fired.late() >= Duration::from_secs(1));
    world.complete(fired);
    world.pass(10);
    assert!(world.fired().is_none());
    assert_eq!(world.rooms.open_by_name("a").unwrap().alarm().unwrap(), None);
    assert_eq!(world.alarms.next_due().unwrap(), None);
}

#[test]
fn reads_see_alarms_as_turns_and_commits_leave_them() {
    let world = World::new(2);
    let mut object = world.rooms.open_by_name("a").unwrap();
    let mut turn = object.turn();
    turn.set_alarm(at(5)).unwrap().set_named_alarm("n", at(6)).unwrap();
    {
        let mut savepoint = turn.savepoint();
        savepoint.clear_alarm().unwrap().clear_named_alarm("n").unwrap();
        assert_eq!(savepoint.alarms().unwrap(), []);
    }
    assert_eq!(turn.alarm().unwrap(), Some(at(5)));
    assert_eq!(turn.named_alarm("n").unwrap(), Some(at(6)));
    let both = [(None, at(5)), (Some("n".to_owned()), at(6))];
    assert_eq!(turn.alarms().unwrap(), both);
    turn.commit_durable().unwrap();
    for _ in 0..2 {
        assert_eq!((object.alarm().unwrap(), object.named_alarm("n").unwrap()).0, Some(at(5)));
        assert_eq!(object.alarms().unwrap(), both);
        let snapshot = object.snapshot().unwrap();
        assert_eq!((snapshot.alarm().unwrap(), snapshot.named_alarm("n").unwrap()).1, Some(at(6)));
        assert_eq!(snapshot.alarms().unwrap(), both);
        assert_eq!(snapshot.named_alarm("m").unwrap(), None);
        world.store.steps().checkpoint().unwrap();
    }
    assert_eq!(object.list(ListOptions::default()).unwrap().count(), 0, "alarms are no keys");
    let long = "x".repeat(1025);
    let refused = object.turn().set_named_alarm(&long, at(1)).unwrap_err();
    assert_eq!(refused.code(), "limit.name");
}

#[test]
fn overdue_alarms_fire_after_reopening_and_say_that_they_were_missed() {
    for has_checkpoint in [false, true] {
        let world = World::new(3);
        world.set("a", None, 10);
        world.set("b", Some("n"), 20);
        world.set("c", None, 5_000);
        if has_checkpoint {
            world.store.steps().checkpoint().unwrap();
        }
        world.pass(100);
        let world = world.crash();
        let first = world.fired().unwrap();
        assert!(first.missed() && !first.is_retry());
        assert_eq!(first.object_name().unwrap().as_deref(), Some("a"));
        world.complete(first);
        assert_eq!(world.drain(), [named("b", "n")]);
        world.pass(5_000);
        let late = world.fired().unwrap();
        assert!(!late.missed());
        world.complete(late);
    }
}

#[test]
fn a_past_time_fires_at_once() {
    let world = World::new(4);
    world.pass(50);
    world.set("a", None, 10);
    world.set("zero", None, 0);
    assert_eq!(world.drain(), [plain("zero"), plain("a")]);
    // Below what has been handed out.
    world.set("a", None, 1);
    assert_eq!(world.drain(), [plain("a")]);
}

#[test]
fn an_alarm_set_to_exactly_the_firing_time_fires_again() {
    for has_checkpoint in [false, true] {
        let world = World::new(5);
        world.set("a", None, 10);
        world.pass(20);
        let fired = world.fired().unwrap();
        let mut object = world.rooms.open(fired.object_id().unwrap()).unwrap();
        let mut turn = object.turn();
        turn.set_alarm(fired.scheduled()).unwrap();
        assert!(!turn.complete_alarm(&fired).unwrap(), "that is another setting");
        turn.commit_durable().unwrap();
        assert_eq!(object.alarm().unwrap(), Some(at(10)));
        drop(object);
        if has_checkpoint {
            world.store.steps().checkpoint().unwrap();
        }
        assert!(world.fired().is_none(), "one at a time");
        drop(fired);
        assert_eq!(world.drain(), [plain("a")]);
    }
}

#[test]
fn what_is_cleared_or_moved_does_not_fire_as_it_was() {
    let world = World::new(6);
    for name in ["a", "b", "c"] {
        world.set(name, None, 10);
        world.set(name, Some("n"), 10);
    }
    world.store.steps().checkpoint().unwrap();
    world.verify();
    let mut object = world.rooms.open_by_name("a").unwrap();
    let mut turn = object.turn();
    turn.clear_alarm().unwrap().clear_named_alarm("n").unwrap();
    turn.commit_durable().unwrap();
    drop(object);
    world.set("b", None, 1000);
    world.set("b", Some("n"), 1000);
    world.pass(20);
    let mut fired = world.drain();
    fired.sort();
    assert_eq!(fired, [plain("c"), named("c", "n")]);
    world.store.steps().checkpoint().unwrap();
    world.verify();
    let world = world.crash();
    assert_eq!(world.drain(), []);
    world.pass(2000);
    let mut fired = world.drain();
    fired.sort();
    assert_eq!(fired, [plain("b"), named("b", "n")]);
}

#[test]
fn named_alarms_stand_beside_the_plain_one_and_in_order_of_time() {
    let world = World::new(7);
    world.set("a", Some("late"), 30);
    world.set("a", None, 20);
    world.set("a", Some(""), 10);
    world.pass(40);
    assert_eq!(world.drain(), [named("a", ""), plain("a"), named("a", "late")]);
}

#[test]
fn deleting_all_clears_alarms_unless_they_are_to_be_kept() {
    for keeps in [false, true] {
        for has_checkpoint in [false, true] {
            let world = World::new(8);
            world.set("a", None, 10);
            world.set("a", Some("n"), 11);
            if has_checkpoint {
                world.store.steps().checkpoint().unwrap();
            }
            let mut object = world.rooms.open_by_name("a").unwrap();
            let mut turn = object.turn();
            turn.put("k", "v").unwrap();
            if keeps {
                turn.delete_all_keeping_alarms().unwrap();
            } else {
                turn.delete_all().unwrap();
            }
            let expected = if keeps { 2 } else { 0 };
            assert_eq!(turn.alarms().unwrap().len(), expected);
            turn.commit_durable().unwrap();
            assert_eq!(object.get("k").unwrap(), None);
            assert_eq!(object.alarms().unwrap().len(), expected);
            drop(object);
            if has_checkpoint {
                world.store.steps().checkpoint().unwrap();
            }
            let world = world.crash();
            world.pass(20);
            assert_eq!(world.drain().len(), expected);
        }
    }
}

#[test]
fn an_object_deleted_from_outside_has_no_alarms() {
    let world = World::new(9);
    world.set("a", None, 10);
    world.set("a", Some("n"), 10);
    world.store.steps().checkpoint().unwrap();
    world.rooms.delete(world.rooms.id_from_name("a")).unwrap().wait().unwrap();
    world.pass(20);
    assert_eq!(world.drain(), []);
    // A new life does not inherit what the old one had, even at the same time.
    world.set("a", None, 10);
    assert_eq!(world.drain(), [plain("a")]);
}

#[test]
fn counters_of_retries_survive_crashes_and_the_seventh_failure_abandons() {
    let mut world = World::new(10);
    world.set("a", None, 10);
    world.set("a", Some("other"), 1_000_000);
    world.pass(10);
    let mut delays = Vec::new();
    for attempt in 0..=6 {
        let fired = world.fired().unwrap();
        assert_eq!((fired.attempt(), fired.is_retry()), (attempt, attempt > 0));
        assert_eq!(fired.scheduled(), at(10), "what was asked for stays");
        let object = world.rooms.open(fired.object_id().unwrap()).unwrap();
        assert_eq!(object.alarm().unwrap(), Some(at(10)));
        drop(object);
        match world.fail(&fired, Failure::Counted) {
            Outcome::Retry { at: again } => {
                let now = world.disk_now();
                delays.push((again.0 - now) / SECOND);
                drop(fired);
                assert!(world.fired().is_none());
                if attempt % 2 == 0 {
                    world.store.steps().checkpoint().unwrap();
                }
                world = world.crash();
                world.pass((again.0 - now) / SECOND + 1);
            }
            outcome => {
                assert_eq!((outcome, attempt), (Outcome::Abandoned, 6));
                drop(fired);
            }
        }
    }
    for (index, delay) in delays.iter().enumerate() {
        let base = 2_u64 << index;
        assert!((base..=base + base / 4).contains(delay), "{delays:?}");
    }
    world.store.steps().checkpoint().unwrap();
    let world = world.crash();
    assert_eq!(world.drain(), []);
    let object = world.rooms.open_by_name("a").unwrap();
    assert_eq!(object.alarms().unwrap(), [(Some("other".to_owned()), at(1_000_000))]);
    let failure = object.last_failure(None).unwrap().unwrap();
    assert_eq!((failure.scheduled, failure.attempts), (at(10), 7));
    assert_eq!(failure.text, "it went wrong");
    assert_eq!(object.last_failure(Some("other")).unwrap(), None);
}

impl World {
    fn disk_now(&self) -> u64 {
        use dostore::disk::ReadDisk;
        self.disk.clock().wall_micros()
    }
}

#[test]
fn failures_that_do_not_count_never_abandon() {
    let world = World::new(11);
    world.set("a", Some("n"), 10);
    world.pass(10);
    for attempt in 0..40 {
        let fired = world.fired().unwrap();
        assert_eq!(fired.attempt(), attempt);
        let outcome = world.fail(&fired, Failure::Uncounted);
        assert!(matches!(outcome, Outcome::Retry { .. }));
        drop(fired);
        world.pass(1281);
    }
}

#[test]
fn the_last_failure_of_an_object_with_nothing_else_is_kept() {
    let world = World::new(12);
    world.set("a", Some("n"), 10);
    world.pass(10);
    for _ in 0..7 {
        let fired = world.fired().unwrap();
        world.fail(&fired, Failure::Counted);
        drop(fired);
        world.pass(1281);
    }
    world.store.steps().checkpoint().unwrap();
    let world = world.crash();
    let object = world.rooms.open_by_name("a").unwrap();
    assert_eq!(object.alarms().unwrap(), []);
    assert_eq!(object.last_failure(Some("n")).unwrap().unwrap().attempts, 7);
}

#[test]
fn a_report_on_an_alarm_that_was_set_again_changes_nothing() {
    let world = World::new(13);
    world.set("a", None, 10);
    world.set("b", None, 10);
    world.pass(10);
    let fired = world.fired().unwrap();
    let other = world.fired().unwrap();
    world.set(fired.object_name().unwrap().unwrap().as_str(), None, 50);
    assert_eq!(world.fail(&fired, Failure::Counted), Outcome::Superseded);
    let mut object = world.rooms.open(fired.object_id().unwrap()).unwrap();
    assert_eq!(object.alarm().unwrap(), Some(at(50)));
    let refused = object.turn().complete_alarm(&other).unwrap_err();
    assert_eq!(refused.code(), "alarm.object");
}

#[test]
fn a_dropped_firing_comes_back_and_counts_as_no_attempt() {
    let world = World::new(14);
    world.set("a", None, 10);
    world.pass(10);
    drop(world.fired().unwrap());
    assert!(world.fired().is_none());
    world.pass(1);
    assert!(world.fired().is_none());
    world.pass(2);
    let fired = world.fired().unwrap();
    assert_eq!(fired.attempt(), 0);
    // A report that is not committed is none.
    let mut object = world.rooms.open_by_name("a").unwrap();
    let mut turn = object.turn();
    turn.complete_alarm(&fired).unwrap();
    drop(turn);
    drop((object, fired));
    world.pass(3);
    assert_eq!(world.drain(), [plain("a")]);
}

#[test]
fn while_one_firing_is_held_others_go_on() {
    let world = World::new(15);
    for name in ["a", "b", "c"] {
        world.set(name, None, 10);
    }
    world.pass(10);
    let held = world.fired().unwrap();
    assert_eq!(world.drain().len(), 2);
    world.pass(100);
    assert!(world.fired().is_none());
    world.complete(held);
}

#[test]
fn a_clock_that_jumps_either_way_loses_no_alarm() {
    let world = World::new(16);
    world.set("soon", None, 100);
    world.set("later", None, 10_000);
    world.store.steps().checkpoint().unwrap();
    // Forward: what is due by the clock fires.
    world.disk.set_wall(at(20_000).0);
    assert_eq!(world.drain(), [plain("soon"), plain("later")]);
    // Back: what is set now is due when the clock gets there, and not before.
    world.disk.set_wall(at(0).0);
    world.set("soon", None, 50);
    world.set("later", Some("n"), 5_000);
    world.store.steps().checkpoint().unwrap();
    assert!(world.fired().is_none());
    world.pass(60);
    assert_eq!(world.drain(), [plain("soon")]);
    world.pass(5_000);
    assert_eq!(world.drain(), [named("later", "n")]);
    // Back while a firing is held, and given back then.
    world.set("soon", None, 0);
    let fired = world.fired().unwrap();
    world.disk.set_wall(at(0).0 - 100 * SECOND);
    drop(fired);
    world.pass(3);
    assert!(world.fired().is_none(), "it is not due by the clock any more");
    world.pass(100);
    assert_eq!(world.drain(), [plain("soon")]);
}

#[test]
fn an_alarm_does_not_fire_before_its_setting_is_durable() {
    let world = World::new(17);
    let mut object = world.rooms.open_by_name("a").unwrap();
    let mut turn = object.turn();
    turn.set_alarm(at(0)).unwrap();
    let commit = turn.commit().unwrap();
    assert!(world.fired().is_none());
    assert!(!commit.is_durable());
    commit.wait().unwrap();
    // Later commits that are not durable do not hold it back.
    object.put("k", "v").unwrap().detach();
    drop(object);
    assert_eq!(world.drain(), [plain("a")]);
}

#[test]
fn far_alarms_take_no_memory_once_a_checkpoint_has_written_them() {
    let world = World::new(18);
    for number in 0..200 {
        world.set(&format!("object {number}"), None, 1000 + number);
    }
    assert_eq!(world.store.stats().unwrap().alarms_in_memory, 200);
    world.store.steps().checkpoint().unwrap();
    assert_eq!(world.store.stats().unwrap().alarms_in_memory, 0);
    world.pass(1100);
    assert_eq!(world.drain().len(), 101);
}

#[test]
fn runs_of_alarms_are_merged_and_tombstones_go() {
    let world = World::new(19);
    for round in 0..12 {
        for number in 0..10 {
            world.set(&format!("object {number}"), None, 1000 + round * 10);
        }
        world.store.steps().checkpoint().unwrap();
        while world.store.steps().merge().unwrap() {}
        world.verify();
        world.store.steps().remove_retired().unwrap();
    }
    assert_eq!(world.alarms.next_due().unwrap(), Some(at(1110)));
    world.pass(1110);
    assert_eq!(world.drain().len(), 10);
    world.pass(3);
    assert!(world.fired().is_none());
}

#[test]
fn hints_lost_to_damage_are_found_again_from_the_objects() {
    let world = World::new(20);
    world.set("a", None, 10);
    world.set("b", Some("n"), 20);
    world.set("c", None, 500);
    let before = world.disk.names();
    world.store.steps().checkpoint().unwrap();
    // Of the runs of this checkpoint only the one of alarms has that use in its header block.
    let is_run = |name: &FileName| matches!(name, FileName::Run(_)) && !before.contains(name);
    let runs: Vec<_> = world.disk.names().into_iter().filter(is_run).collect();
    let usage = |name: FileName| world.disk.file_bytes(name).unwrap()[80];
    let alarms: Vec<_> = runs.into_iter().filter(|name| usage(*name) == 3).collect();
    assert_eq!(alarms.len(), 1);
    let World { disk, store, .. } = world;
    drop(store);
    let disk = disk.power_cut();
    disk.damage(alarms[0], Damage::FlipBit((4096 + 9) * 8)).unwrap();
    let world = World::open(disk);
    world.pass(30);
    let mut fired = world.drain();
    fired.sort();
    assert_eq!(fired, [plain("a"), named("b", "n")]);
    world.pass(1000);
    assert_eq!(world.drain(), [plain("c")]);
}

#[test]
fn a_hint_that_was_found_stale_is_taken_back_by_the_next_checkpoint() {
    let world = World::new(25);
    world.set("a", Some("n"), 10);
    world.store.steps().checkpoint().unwrap();
    let mut object = world.rooms.open_by_name("a").unwrap();
    let mut turn = object.turn();
    turn.clear_named_alarm("n").unwrap();
    turn.commit_durable().unwrap();
    drop(object);
    world.store.steps().checkpoint().unwrap();
    // Nobody knew where the hint was, so it is still in its run.
    let world = world.crash();
    assert_eq!(world.alarms.next_due().unwrap(), Some(at(10)));
    world.pass(20);
    assert!(world.drain().is_empty(), "what was cleared does not fire");
    world.set("b", None, 500);
    world.store.steps().checkpoint().unwrap();
    let world = world.crash();
    assert_eq!(world.alarms.next_due().unwrap(), Some(at(500)), "the stale hint is gone");
    world.verify();
}

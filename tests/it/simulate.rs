//! Many short lives of a store on a simulated disk, each ended by a crash, against a model.
//!
//! `DOSTORE_SEED=n` replays one seed and tells what it does, `DOSTORE_ONLY=list` with no other of
//! its events; `DOSTORE_SEEDS=n` runs that many, from `DOSTORE_FIRST_SEED` on. Of a seed that is
//! wrong the fewest events are looked for that are wrong in the same way.
//!
//! Invariants:
//!   * A seed does the same each time: nothing in it depends on time, threads or other seeds.

use super::chance::Chance;
use super::ledger::{self, Row};
use super::shrink::shrink;
use super::simulate_events::{self, CUT, END, Event};
use super::simulate_plan::Action;
use super::simulate_world::{Activity, Counts, Outcome, Stop, World};
use dostore::marks::{Mark, unreached};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SEEDS: u64 = 120;
/// From so many seeds on, the shares of crashes and the marks are checked too.
const CAMPAIGN: u64 = 2_000;
/// One seed in so many runs twice.
const TWICE_EVERY: u64 = 100;
/// Marks that no single thread can reach, or that are of alarms: other tests reach them.
const REACHED_ELSEWHERE: &[Mark] = &[
    Mark::MergeDiscarded,
    Mark::FileOvertaken,
    Mark::HintStale,
    Mark::HintsFoundAgain,
    Mark::ClockSetBack,
    Mark::HeadFoundAgain,
    Mark::RunLetBe,
];

/// The steps in which most crashes are wanted.
const STEPS: &[(Activity, Action)] = &[
    (Activity::Checkpoint, Action::Checkpoint),
    (Activity::Checkpoint, Action::Checkpoint),
    (Activity::Clean, Action::Clean),
    (Activity::Merge, Action::Merge),
];

impl World {
    /// One life: actions until something ends it. Whatever ended it is over when this returns.
    fn live(&mut self, most: u64) -> Outcome {
        let ended = self.actions(most).and_then(|()| self.end());
        match ended {
            Ok(()) => Ok(()),
            Err(Stop::Crashed) => {
                self.crash(true);
                Ok(())
            }
            Err(Stop::Poisoned) => {
                self.counts.poisoned += 1;
                self.check_poisoned()?;
                let with_power = self.chance.percent(50);
                self.crash(with_power);
                Ok(())
            }
            Err(violation) => Err(violation),
        }
    }

    fn actions(&mut self, most: u64) -> Outcome {
        if self.happens(CUT) && self.chance.percent(15) {
            let calls = self.chance.pick(&[20, 200, 1_000]);
            let calls = self.chance.below(calls);
            self.disk.crash_after(calls);
        }
        for number in 0..most {
            if self.happens(number) {
                let action = Action::ALL[self.chance.weighted(&self.plan.weights)];
                self.act(action)?;
            }
        }
        Ok(())
    }

    /// Where the end does not happen, the next life goes on in this one's place.
    fn end(&mut self) -> Outcome {
        if !self.happens(END) {
            return Ok(());
        }
        match self.chance.below(20) {
            0 => self.end_before_a_sync(),
            1..=11 => self.end_in_a_step(),
            12..=14 => {
                self.crash(true);
                Ok(())
            }
            15..=16 => {
                self.crash(false);
                Ok(())
            }
            17..=18 => self.close(),
            _ => {
                // Dropped without a close: the machine goes on.
                self.note_durable();
                self.running = None;
                Ok(())
            }
        }
    }

    /// Lets the power fail inside a checkpoint, a clean or a merge.
    fn end_in_a_step(&mut self) -> Outcome {
        let (activity, action) = self.chance.pick(STEPS);
        if activity != Activity::Checkpoint {
            // Something to clean, something to merge.
            for _ in 0..self.chance.below(4) {
                self.turn()?;
                self.step(Activity::Checkpoint, Action::Checkpoint)?;
            }
        }
        let most = self.calls_of.get(&activity).copied().unwrap_or(40);
        let calls = self.chance.below(most + 2);
        if activity == Activity::Checkpoint {
            self.turn()?;
        }
        self.disk.crash_after(calls);
        self.step(activity, action)?;
        // It was shorter than that, or there was nothing to do.
        for _ in 0..20 {
            self.turn()?;
            self.step(Activity::Checkpoint, Action::Checkpoint)?;
            let (activity, action) = self.chance.pick(STEPS);
            self.step(activity, action)?;
        }
        self.crash(true);
        Ok(())
    }

    /// Ends between the write of a group and its sync, when write-back has failed already: whoever
    /// opens the store is told.
    fn end_before_a_sync(&mut self) -> Outcome {
        self.turn()?;
        self.fail_write_back();
        self.disk.crash_after(1);
        self.act(Action::WriteGroup)?;
        self.crash(true);
        Ok(())
    }

    fn close(&mut self) -> Outcome {
        if self.chance.percent(30) {
            let calls = self.chance.below(60);
            self.disk.crash_after(calls);
        }
        self.activity = Activity::Close;
        let running = self.running.take().expect("the store is open");
        let store = running.store.clone();
        // Handles go first or last.
        let handles = self.chance.percent(50).then_some(running.handles);
        let closed = store.clone().close();
        self.note(format_args!("close: {closed:?}"));
        self.floor = self.floor.max(store.durable().min(self.issued_here));
        drop((store, handles));
        match closed {
            Ok(()) => self.floor = self.floor.max(self.issued_here),
            Err(error) => self.judge("a close", &error)?,
        }
        let floor = self.floor;
        self.note(format_args!("closed, durable up to {floor}"));
        if self.disk.is_off() { Err(Stop::Crashed) } else { Ok(()) }
    }

    /// A poisoned store promises nothing more.
    fn check_poisoned(&mut self) -> Outcome {
        let Some(running) = &mut self.running else { return Ok(()) };
        let before = running.store.durable();
        let taken = running.handles.values_mut().find_map(|handle| handle.put("late", "1").ok());
        let step = running.store.steps().checkpoint();
        if let Some(commit) = taken {
            let what = format!("a poisoned store takes commit {}", commit.position().lsn);
            return Err(Stop::Violation(what));
        }
        if step.is_ok() || running.store.durable() != before {
            return Err(Stop::Violation("a poisoned store goes on".to_owned()));
        }
        Ok(())
    }

    /// The whole seed.
    fn run(&mut self) -> Outcome {
        self.open()?;
        for life in 1..=self.plan.lives {
            self.note(format_args!("life {life}"));
            let most = self.events.begin_life(life).below(self.plan.actions_max);
            self.live(most)?;
            if self.running.is_none() {
                self.open()?;
            }
        }
        self.chance = self.events.begin_life(self.plan.lives + 1);
        self.set_faults(false);
        self.crash(false);
        self.limit_space(None);
        self.open_undisturbed()?;
        self.check_drained()?;
        self.check_some_pasts()?;
        self.erase()?;
        self.check_expired()?;
        self.check_some_pasts()?;
        self.check_traces()?;
        if self.plan.is_damaged_at_the_end {
            self.damage()?;
        }
        self.counts.calls = self.disk.calls();
        Ok(())
    }

    fn check_some_pasts(&mut self) -> Outcome {
        for index in 0..self.objects.len().min(8) {
            self.check_past_of(index)?;
        }
        for what in std::mem::take(&mut self.seen) {
            self.counts.seeds.insert(what, 1);
        }
        Ok(())
    }

    /// When faults stop, all work drains, and a clean close is seen as one.
    fn check_drained(&mut self) -> Outcome {
        self.act(Action::WaitForAll)?;
        for action in [Action::Checkpoint, Action::Clean, Action::Merge] {
            for _ in 0..100 {
                if !self.step(Activity::OtherStep, action)? {
                    break;
                }
            }
        }
        let running = self.running.take().expect("the store is open");
        drop(running.handles);
        if let Err(error) = running.store.close() {
            return Err(Stop::Violation(format!("a clean close fails: {error:?}")));
        }
        self.floor = self.floor.max(self.issued_here);
        self.open_undisturbed()?;
        let report = self.running().store.report();
        if !report.was_closed || report.records_replayed > 0 {
            return Err(Stop::Violation(format!("opened after a close: {report:?}")));
        }
        Ok(())
    }
}

/// What came of one seed.
struct Ran {
    counts: Counts,
    trace: u64,
    wrong: Option<Wrong>,
}

/// What is wrong, and what had happened before.
struct Wrong {
    what: String,
    story: String,
    events: Vec<Event>,
}

impl Wrong {
    /// Two faults are the same where they say the same of other objects at other places.
    fn is_as(&self, other: &Self) -> bool {
        let words =
            |wrong: &Self| wrong.what.replace(|letter: char| letter.is_ascii_hexdigit(), "");
        words(self) == words(other)
    }

    fn tell(&self, seed: u64) -> String {
        format!("seed {seed}: {}\n{}", self.what, self.story)
    }
}

/// Runs one seed, or of its events only these.
fn run_seed(seed: u64, only: Option<BTreeSet<Event>>, is_verbose: bool) -> Ran {
    run_world(World::new(seed, only, is_verbose))
}

/// Runs what an input says. Panics where something is wrong.
pub fn run_input(input: &[u8]) {
    if let Some(Wrong { what, story, .. }) = run_world(World::said(input)).wrong {
        panic!("{what}\n{story}");
    }
}

fn run_world(mut world: World) -> Ran {
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let wrong = match ran {
        Ok(Ok(())) => None,
        Ok(Err(Stop::Violation(what))) => Some(what),
        Ok(Err(stop)) => Some(format!("ends by {stop:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(format!("panics: {}", text.unwrap_or_default()))
        }
    };
    let wrong = wrong.map(|what| {
        let (story, events) = (world.story(), world.events.happened().to_vec());
        Wrong { what, story, events }
    });
    let trace = world.disk.trace();
    Ran { counts: world.counts, trace, wrong }
}

/// Runs that looking for the fewest events may take, where `DOSTORE_TRIES` says nothing.
const TRIES: u64 = 400;

/// Tells what is wrong with a seed in as few of its events as show it, and how to see it again.
fn shrunk(seed: u64, wrong: &Wrong) -> String {
    let fails = |events: &[Event]| {
        let ran = run_seed(seed, Some(events.iter().copied().collect()), false);
        ran.wrong.is_some_and(|found| found.is_as(wrong))
    };
    let tries = from_environment("DOSTORE_TRIES").unwrap_or(TRIES);
    let events = shrink(&wrong.events, usize::try_from(tries).unwrap_or(usize::MAX), fails);
    let fewest = run_seed(seed, Some(events.iter().copied().collect()), false).wrong;
    format!(
        "{}\n-- {} of its {} events are enough: DOSTORE_SEED={seed} DOSTORE_ONLY={}\n{}",
        wrong.tell(seed),
        events.len(),
        wrong.events.len(),
        simulate_events::list(&events),
        fewest.map_or_else(String::new, |wrong| wrong.tell(seed)),
    )
}

pub fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Runs seeds on every core until all are done or one is wrong.
fn campaign(first: u64, seeds: u64) -> (Counts, Option<String>) {
    let next = AtomicU64::new(first);
    let is_over = AtomicBool::new(false);
    let total = Mutex::new((Counts::default(), None::<(u64, Wrong)>));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let ran = run_twice_now_and_then(seed);
                    let mut total = total.lock().expect("no thread panics");
                    total.0.add(&ran.counts);
                    if let Some(wrong) = ran.wrong {
                        is_over.store(true, Ordering::Relaxed);
                        // The lowest seed is told: it is the same one each time.
                        if total.1.as_ref().is_none_or(|(other, _)| seed < *other) {
                            total.1 = Some((seed, wrong));
                        }
                    }
                }
            });
        }
    });
    let (counts, wrong) = total.into_inner().expect("no thread panics");
    (counts, wrong.map(|(seed, wrong)| shrunk(seed, &wrong)))
}

/// Runs a seed; of some it is seen that they do the same again.
fn run_twice_now_and_then(seed: u64) -> Ran {
    let mut ran = run_seed(seed, None, false);
    if ran.wrong.is_none()
        && seed.is_multiple_of(TWICE_EVERY)
        && run_seed(seed, None, false).trace != ran.trace
    {
        let what = "it runs differently the second time".to_owned();
        ran.wrong = Some(Wrong { what, story: String::new(), events: Vec::new() });
    }
    ran
}

/// What changes the past, or brings it back, in one commit and by adoption.
const WAYS_BACK: [&str; 8] = [
    "a restoration",
    "a large restoration",
    "an undoing",
    "a large undoing",
    "a fork",
    "a large fork",
    "a purge",
    "a large purge",
];

fn tell(seeds: u64, counts: &Counts) {
    let cycles = counts.cycles();
    let percent = |count: u64| count * 100 / cycles.max(1);
    let in_steps = counts.crashes_in(&[Activity::Checkpoint, Activity::Clean, Activity::Merge]);
    println!("{seeds} seeds, {cycles} crash cycles, {} opens", counts.opens);
    println!("  by activity: {:?}", counts.crashes);
    println!("  {} % in a checkpoint, clean or merge", percent(in_steps));
    println!("  {} % in recovery", percent(counts.crashes_in(&[Activity::Recovery])));
    println!(
        "  {} commits, {} reads, {} errors, {} poisoned, {} damages, {} calls to the disk",
        counts.commits, counts.reads, counts.errors, counts.poisoned, counts.damages, counts.calls
    );
    println!("  {} keys compared at moments of the past, in seeds with", counts.past);
    for (what, count) in &counts.seeds {
        println!("    {what} before: {} %", count * 100 / seeds.max(1));
    }
    println!("  {} values of purged objects looked for", counts.looked_for);
    println!("  marks not reached: {:?}", unreached());
}

fn check_campaign(seeds: u64, counts: &Counts) {
    let cycles = counts.cycles();
    let in_steps = counts.crashes_in(&[Activity::Checkpoint, Activity::Clean, Activity::Merge]);
    assert!(in_steps * 100 >= cycles * 30, "too few crashes in steps: {in_steps} of {cycles}");
    let in_recovery = counts.crashes_in(&[Activity::Recovery]);
    assert!(in_recovery * 100 >= cycles * 10, "too few in recovery: {in_recovery} of {cycles}");
    for what in ["a crash", "cleaning", "merging", "expiry"] {
        let count = counts.seeds.get(what).copied().unwrap_or(0);
        assert!(count * 2 >= seeds, "{what} in {count} of {seeds} seeds only");
    }
    for what in WAYS_BACK {
        let count = counts.seeds.get(what).copied().unwrap_or(0);
        assert!(count * 20 >= seeds, "{what} in {count} of {seeds} seeds only");
    }
    let missed: Vec<Mark> =
        unreached().into_iter().filter(|mark| !REACHED_ELSEWHERE.contains(mark)).collect();
    assert!(missed.is_empty(), "branches never taken: {missed:?}");
}

#[test]
fn a_store_loses_nothing_that_it_showed_to_be_durable() {
    if let Some(seed) = from_environment("DOSTORE_SEED") {
        let only = std::env::var("DOSTORE_ONLY").ok();
        let ran = run_seed(seed, only.as_deref().map(simulate_events::from_list), true);
        tell(1, &ran.counts);
        println!("  trace {:016x}", ran.trace);
        assert!(ran.wrong.is_none(), "\n{}", ran.wrong.map_or_else(String::new, |w| w.tell(seed)));
        return;
    }
    let first = from_environment("DOSTORE_FIRST_SEED").unwrap_or(0);
    let seeds = from_environment("DOSTORE_SEEDS").unwrap_or(SEEDS);
    let (counts, wrong) = campaign(first, seeds);
    tell(seeds, &counts);
    ledger::add(&Row {
        kind: "simulate",
        seeds: format!("{seeds} from {first}"),
        crashes: counts.cycles(),
        faults: counts.errors + counts.damages,
        executions: seeds,
        failures: u64::from(wrong.is_some()),
    });
    assert!(wrong.is_none(), "\n{}", wrong.unwrap_or_default());
    if seeds >= CAMPAIGN {
        check_campaign(seeds, &counts);
    }
}

/// A store is right whatever is left out, or the fewest events that are wrong would mean nothing.
#[test]
fn a_seed_is_right_with_any_of_its_events() {
    for seed in 0..8 {
        let mut chance = Chance::new(seed);
        let mut world = World::new(seed, None, false);
        assert!(world.run().is_ok(), "seed {seed}");
        let events = world.events.happened();
        let share = chance.pick(&[2, 20, 50, 90]);
        let only: BTreeSet<Event> =
            events.iter().copied().filter(|_| chance.percent(share)).collect();
        let ran = run_seed(seed, Some(only.clone()), false);
        let list: Vec<Event> = only.iter().copied().collect();
        let told = ran.wrong.map(|wrong| wrong.tell(seed)).unwrap_or_default();
        assert!(told.is_empty(), "DOSTORE_ONLY={}: {told}", simulate_events::list(&list));
        let again = run_seed(seed, Some(only), false);
        assert_eq!(again.trace, ran.trace, "seed {seed}");
    }
}

/// What a seed does again with few of its events is found: here that the store is poisoned.
#[test]
fn the_fewest_events_of_a_seed_still_do_what_all_of_them_did() {
    let poisons = |seed, only| run_seed(seed, only, false).counts.poisoned > 0;
    let seed = (0..50).find(|seed| poisons(*seed, None)).expect("some seeds poison the store");
    let mut world = World::new(seed, None, false);
    assert!(world.run().is_ok());
    let all = world.events.happened();
    let fewest = shrink(all, 60, |events| poisons(seed, Some(events.iter().copied().collect())));
    assert!(poisons(seed, Some(fewest.iter().copied().collect())));
    assert!(fewest.len() * 10 < all.len(), "{} of {} events are left", fewest.len(), all.len());
}

//! Random histories, and each moment of them.

use super::model::{Chance, Change, Stage, check_view, key};
use dostore::disk::ReadDisk;
use dostore::engine::recovery::load_version;
use dostore::inspect::verify::verify;
use dostore::marks::{Mark, unreached};
use dostore::object::View;
use dostore::options::Options;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

const SEEDS: u64 = 150;
/// Seeds of each run with a focus.
const FOCUS_SEEDS: u64 = 12;

/// What a run is about: where it differs from one in which everything is drawn.
#[derive(Clone, Copy, Default)]
struct Focus {
    page_bytes: Option<usize>,
    state_bytes: Option<usize>,
    epoch_bytes: Option<u64>,
    /// Keys of each object, and bytes of its values at most.
    objects: &'static [(u64, u64)],
    /// Commits of an object in a row, at most.
    row: Option<u64>,
    /// In percent of the rows, that the object's life ends before.
    ends: u64,
    /// In percent of the rows, that a checkpoint comes behind.
    checkpoints: u64,
}

fn options(chance: &mut Chance, focus: &Focus) -> Options {
    let day = Duration::from_hours(24);
    let page_bytes = chance.pick(&[512, 1024, 4096]);
    let state_bytes = chance.pick(&[400, 4_000, 64 << 10]);
    let epoch_bytes = chance.pick(&[0, 2_000, 20_000, 1 << 30]);
    Options::default()
        .threads(false)
        .wal_file_bytes(64 << 10)
        .page_bytes(focus.page_bytes.unwrap_or(page_bytes))
        .segment_bytes(chance.pick(&[16 << 10, 64 << 10]))
        .clean_bytes(chance.pick(&[4 << 10, 64 << 10]))
        .history_state_bytes(focus.state_bytes.unwrap_or(state_bytes))
        .epoch(Duration::ZERO, focus.epoch_bytes.unwrap_or(epoch_bytes), day)
}

/// Some objects of one page, some larger, some hot.
fn objects(chance: &mut Chance, focus: &Focus) -> Vec<(u64, u64)> {
    let count = chance.between(1, 5);
    let sizes = [(1, 30), (4, 60), (12, 300), (60, 40), (300, 30), (40, 700), (3, 30_000)];
    let sizes = if focus.objects.is_empty() { &sizes[..] } else { focus.objects };
    (0..count).map(|_| chance.pick(sizes)).collect()
}

/// Commits of one object in a row, and what the focus wants around them.
fn row(stage: &mut Stage, chance: &mut Chance, most: u64, focus: &Focus) {
    let index = chance.index(stage.objects.len());
    if chance.percent(focus.ends) {
        let mut change = Change::of(&stage.objects[index]);
        change.delete_all();
        stage.apply(index, change);
    }
    for _ in 0..chance.between(1, most) {
        stage.commit(index);
    }
    if chance.percent(focus.checkpoints) {
        stage.engine().checkpoint().expect("it succeeds");
    }
}

fn run(seed: u64, is_told: bool, focus: &Focus) -> u64 {
    let mut chance = Chance::new(seed ^ 0x6869_7374);
    let options = options(&mut chance, focus);
    let mut stage = Stage::new(seed, options, &objects(&mut chance, focus));
    let most = if chance.percent(30) { 60 } else { 4 };
    let most = focus.row.unwrap_or(most);
    for step in 0..chance.between(20, 120) {
        let drawn = chance.below(20);
        if is_told {
            eprintln!("step {step}: {drawn}, {:?}", verify(stage.disk.clone()).faults);
        }
        match drawn {
            0..=3 => drop(stage.engine().checkpoint().expect("it succeeds")),
            4..=5 => drop(stage.engine().clean().expect("it succeeds")),
            6 => drop(stage.engine().merge().expect("it succeeds")),
            7 => drop(stage.engine().merge_history().expect("it succeeds")),
            8 if chance.percent(30) => {
                stage.engine().checkpoint().expect("it succeeds");
                stage.open();
            }
            9 => {
                let index = chance.index(stage.objects.len());
                stage.check(index, 6);
            }
            _ => row(&mut stage, &mut chance, most, focus),
        }
    }
    for index in 0..stage.objects.len() {
        stage.check(index, 80);
    }
    check_from_outside(&mut stage);
    let report = verify(stage.disk.clone());
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    stage.compared
}

/// Commits behind a state that are more than what is laid over all of it at once, and more than
/// what is taken ahead of who reads on.
#[test]
fn a_large_object_is_read_whole_amid_many_commits() {
    let day = Duration::from_hours(24);
    let options = Options::default().threads(false).epoch(day, 1 << 40, day);
    let mut stage = Stage::new(2, options, &[(3_000, 0)]);
    let fill = |stage: &mut Stage, first: u64, mark: u8| {
        let mut change = Change::of(&stage.objects[0]);
        for number in 0..500 {
            change.put(&key((first + number * 5) % 3_000), vec![mark; 1_500]);
        }
        let (from, to) = (key(first), key(first + 3));
        change.delete_range(&from, &to);
        stage.apply(0, change)
    };
    for first in 0..10 {
        fill(&mut stage, first, b'a');
    }
    stage.engine().checkpoint().expect("it succeeds");
    let middle = (0..26_u8).map(|round| fill(&mut stage, u64::from(round) * 7, b'b' + round));
    let middle = middle.last().expect("it succeeds");
    for first in 0..3 {
        fill(&mut stage, first, b'z');
    }
    stage.engine().checkpoint().expect("it succeeds");
    let object = &stage.objects[0];
    let view = stage.engine().view_at(object.address, middle).expect("it succeeds");
    let moment = object.at(middle);
    check_view(&view, &moment, "amid commits", &mut stage.chance);
}

/// Behind the first state that is come upon, that the object was not there, are all commits that
/// made it large; its pages are in the file behind.
#[test]
fn a_large_object_that_came_and_went_is_read_from_the_pages_that_it_had() {
    let day = Duration::from_hours(24);
    let options = Options::default().threads(false).epoch(day, 1 << 40, day);
    let mut stage = Stage::new(3, options, &[(3_000, 0)]);
    for first in 0..5 {
        let mut change = Change::of(&stage.objects[0]);
        for number in 0..500 {
            change.put(&key(first * 500 + number), vec![b'a'; 1_500]);
        }
        stage.apply(0, change);
    }
    let full = stage.last;
    stage.engine().checkpoint().expect("it succeeds");
    let mut change = Change::of(&stage.objects[0]);
    change.delete_all();
    stage.apply(0, change);
    stage.engine().checkpoint().expect("it succeeds");
    let object = &stage.objects[0];
    let view = stage.engine().view_at(object.address, full).expect("it succeeds");
    assert!(view.layers.is_empty(), "no commit is laid over the pages");
    let moment = object.at(full);
    check_view(&view, &moment, "when it was full", &mut stage.chance);
}

/// A page keeps what it was exact about when the range behind it falls to it.
#[test]
fn a_range_that_falls_to_the_page_before_it_is_not_taken_for_empty_in_the_past() {
    let day = Duration::from_hours(24);
    let options = Options::default().threads(false).page_bytes(512).epoch(day, 1 << 40, day);
    let mut stage = Stage::new(1, options, &[(20, 100)]);
    let fill = |stage: &mut Stage, keys: std::ops::Range<u64>, mark: u8| {
        let mut change = Change::of(&stage.objects[0]);
        for key in keys.map(key) {
            change.put(&key, vec![mark; 100]);
        }
        stage.apply(0, change);
        stage.engine().checkpoint().expect("it succeeds");
    };
    fill(&mut stage, 0..20, b'a');
    // The first page is exact at a later moment than the last one.
    fill(&mut stage, 0..8, b'b');
    let with_tail = stage.last;
    let mut change = Change::of(&stage.objects[0]);
    let (from, to) = (key(8), key(20));
    change.delete_range(&from, &to);
    stage.apply(0, change);
    stage.engine().checkpoint().expect("it succeeds");
    fill(&mut stage, 0..2, b'c');
    let view = stage.engine().view_at(stage.objects[0].address, with_tail).expect("it succeeds");
    let moment = stage.objects[0].at(with_tail);
    assert_eq!(moment.map.len(), 20);
    check_view(&view, &moment, "before the tail went", &mut stage.chance);
    stage.check(0, 100);
}

/// The same from what is on the disk alone, as a reader in another process has it.
fn check_from_outside(stage: &mut Stage) {
    stage.engine().checkpoint().expect("it succeeds");
    let disk: Arc<dyn ReadDisk> = Arc::new(stage.disk.clone());
    let manifest = dostore::manifest::read(&*disk).expect("it succeeds").expect("it succeeds");
    let version = Arc::new(load_version(&disk, &manifest, 1 << 20).expect("it succeeds"));
    for object in &stage.objects {
        for moment in object.moments.iter().rev().take(10) {
            let view = View::of_version(object.address, Arc::clone(&version)).expect("it succeeds");
            let view = view.as_of(moment.lsn).expect("it succeeds");
            let told = format!("{:?} from outside, as of {}", object.address, moment.lsn);
            stage.compared += check_view(&view, moment, &told, &mut stage.chance);
        }
    }
}

fn run_all(seeds: std::ops::Range<u64>, is_told: bool, focus: &Focus) -> u64 {
    let one = |seed| match catch_unwind(AssertUnwindSafe(|| run(seed, is_told, focus))) {
        Ok(count) => count,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("seed {seed}: {text}");
        }
    };
    seeds.map(one).sum()
}

/// Runs with a focus; each branch that it is about must have been taken.
fn check_focus(focus: &Focus, wanted: &[Mark]) {
    let compared = run_all(0..FOCUS_SEEDS, false, focus);
    assert!(compared > 2_000, "only {compared} comparisons");
    let missed: Vec<Mark> = unreached().into_iter().filter(|mark| wanted.contains(mark)).collect();
    assert!(missed.is_empty(), "branches never taken: {missed:?}");
}

/// No state is near: most moments are far behind the one that serves them.
#[test]
fn moments_behind_states_that_were_skipped_are_what_they_were() {
    let objects = &[(4, 60), (12, 300)];
    let (state_bytes, epoch_bytes) = (Some(64 << 10), Some(1 << 30));
    let focus = Focus { state_bytes, epoch_bytes, objects, checkpoints: 60, ..Focus::default() };
    check_focus(&focus, &[Mark::StateSkipped]);
}

#[test]
fn moments_between_deltas_are_what_they_were() {
    let objects = &[(60, 40), (40, 60)];
    let (page_bytes, epoch_bytes, row) = (Some(4_096), Some(2_000), Some(2));
    let focus =
        Focus { page_bytes, epoch_bytes, objects, row, checkpoints: 70, ..Focus::default() };
    check_focus(&focus, &[Mark::DeltaAppended, Mark::DeltaKept, Mark::DeltaLeft]);
}

#[test]
fn moments_of_hot_objects_are_what_they_were() {
    let objects = &[(1, 30), (4, 60)];
    let focus = Focus {
        state_bytes: Some(400),
        objects,
        row: Some(80),
        checkpoints: 30,
        ..Focus::default()
    };
    check_focus(&focus, &[Mark::HotState]);
}

#[test]
fn moments_of_each_life_are_what_they_were() {
    let objects = &[(4, 60), (60, 40), (300, 30)];
    let focus = Focus { objects, ends: 40, checkpoints: 30, ..Focus::default() };
    check_focus(&focus, &[Mark::LifeReplaced]);
}

/// Every commit has an interval of its own, or shares one with a single other.
#[test]
fn moments_on_both_sides_of_each_cut_are_what_they_were() {
    let focus = Focus { row: Some(1), checkpoints: 90, ..Focus::default() };
    check_focus(&focus, &[Mark::StateSkipped]);
}

/// Every interval is an epoch.
#[test]
fn moments_on_both_sides_of_the_end_of_an_epoch_are_what_they_were() {
    let focus = Focus { epoch_bytes: Some(0), row: Some(3), checkpoints: 60, ..Focus::default() };
    check_focus(&focus, &[Mark::HistoryMerged]);
}

#[test]
fn g19_every_moment_of_every_object_is_what_it_was() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let one: Option<u64> = number("DOSTORE_SEED");
    let seeds = number("DOSTORE_SEEDS").unwrap_or(SEEDS);
    let range = one.map_or(0..seeds, |seed| seed..seed + 1);
    let compared = run_all(range, one.is_some(), &Focus::default());
    println!("{compared} comparisons of a key at a moment");
    if one.is_some() || seeds < SEEDS {
        return;
    }
    assert!(compared > 100_000, "only {compared} comparisons");
    let wanted = [
        Mark::StateSkipped,
        Mark::DeltaKept,
        Mark::HotState,
        Mark::GapClosed,
        Mark::HistoryMerged,
        Mark::LifeReplaced,
        Mark::PageSplit,
        Mark::PageMerged,
        Mark::PagesCollapsed,
        Mark::SegmentCleaned,
    ];
    let missed: Vec<Mark> = unreached().into_iter().filter(|mark| wanted.contains(mark)).collect();
    assert!(missed.is_empty(), "branches never taken: {missed:?}");
}

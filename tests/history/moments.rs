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

fn options(chance: &mut Chance) -> Options {
    let day = Duration::from_hours(24);
    Options::default()
        .threads(false)
        .wal_file_bytes(64 << 10)
        .page_bytes(chance.pick(&[512, 1024, 4096]))
        .segment_bytes(chance.pick(&[16 << 10, 64 << 10]))
        .clean_bytes(chance.pick(&[4 << 10, 64 << 10]))
        .history_state_bytes(chance.pick(&[400, 4_000, 64 << 10]))
        .epoch(Duration::ZERO, chance.pick(&[0, 2_000, 20_000, 1 << 30]), day)
}

/// Some objects of one page, some larger, some hot.
fn objects(chance: &mut Chance) -> Vec<(u64, u64)> {
    let count = chance.between(1, 5);
    let sizes = [(1, 30), (4, 60), (12, 300), (60, 40), (300, 30), (40, 700), (3, 30_000)];
    (0..count).map(|_| chance.pick(&sizes)).collect()
}

fn run(seed: u64, is_told: bool) -> u64 {
    let mut chance = Chance::new(seed ^ 0x6869_7374);
    let mut stage = Stage::new(seed, options(&mut chance), &objects(&mut chance));
    let hot = chance.percent(30);
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
            _ => {
                let index = chance.index(stage.objects.len());
                let most = if hot { 60 } else { 4 };
                for _ in 0..chance.between(1, most) {
                    stage.commit(index);
                }
            }
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

#[test]
fn g19_every_moment_of_every_object_is_what_it_was() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let one: Option<u64> = number("DOSTORE_SEED");
    let seeds = number("DOSTORE_SEEDS").unwrap_or(SEEDS);
    let mut compared = 0;
    for seed in one.map_or(0..seeds, |seed| seed..seed + 1) {
        match catch_unwind(AssertUnwindSafe(|| run(seed, one.is_some()))) {
            Ok(count) => compared += count,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                panic!("seed {seed}: {text}");
            }
        }
    }
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

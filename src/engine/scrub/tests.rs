//! Passes of a scrub step by step, two at once, given up, on a full disk.
//!
//! Invariants:
//!   * Each value of an object is made of the byte of its id, so that a wrong one shows.

use super::*;
use crate::disk::sim::{Damage, SimDisk};
use crate::format::entry::PageLocation;
use crate::format::record::Operation;
use crate::ids::{Codec, KeyKind, NamespaceNumber, ShortId};
use crate::names::FileName;
use crate::object::overlay::Found;
use crate::object::write_set::WriteSet;
use crate::options::Options;

const KEY: &[u8] = &[KeyKind::User as u8, b'k'];
const VALUE_BYTES: usize = 12_000;

fn address(id: u8) -> Address {
    Address { namespace: NamespaceNumber(1), id: ShortId([id; 16]) }
}

fn put(engine: &Engine, id: u8) {
    let mut changes = WriteSet::new();
    let put = Operation::Put { key: KEY, codec: Codec::Raw, value: &[id; VALUE_BYTES] };
    changes.push(&engine.options.limits, &put).unwrap();
    let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
    engine.with_object(address(id), commit).unwrap();
}

/// A store with an object of one page for each of these ids.
fn with_pages(disk: &SimDisk, ids: Range<u8>, options: Options) -> Arc<Engine> {
    let options = options.threads(false).cache_bytes(0);
    let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
    ids.for_each(|id| put(&engine, id));
    assert!(engine.checkpoint().unwrap());
    engine
}

fn page_of(engine: &Engine, id: u8) -> PageLocation {
    let head = engine.version().head(address(id)).unwrap().unwrap();
    head.page.unwrap().base.unwrap().location
}

fn harm(disk: &SimDisk, at: PageLocation) {
    disk.damage(FileName::Segment(at.file), Damage::ZeroSector(at.offset / 512 + 3)).unwrap();
}

fn is_whole(engine: &Engine, id: u8) -> bool {
    let found = engine.view(address(id)).unwrap().find(KEY);
    matches!(found, Ok(Some(Found::Value(_, value))) if *value == [id; VALUE_BYTES])
}

/// Bytes, passes, damages and rebuilt key ranges.
fn counted(engine: &Engine) -> [u64; 4] {
    let Counters { scrubbed_bytes, scrubs, damages, rebuilt, .. } = &engine.counters;
    [scrubbed_bytes, scrubs, damages, rebuilt].map(|count| count.load(Ordering::Relaxed))
}

fn fates(report: &ScrubReport) -> Vec<String> {
    let fate = |damaged: &Damaged| match &damaged.fate {
        Fate::Left(why) => why.code().to_owned(),
        other => format!("{other:?}"),
    };
    report.damages.iter().map(fate).collect()
}

#[test]
fn a_pass_in_the_background_goes_by_its_rate_and_the_next_begins_after_an_hour() {
    let disk = SimDisk::new(1);
    let engine = with_pages(&disk, 0..120, Options::default().scrub_bytes_per_second(100_000));
    let bytes = engine.scrub().unwrap().bytes;
    assert_eq!(counted(&engine), [bytes, 1, 0, 0]);
    harm(&disk, page_of(&engine, 90));
    let (mut steps, mut goes_on) = (0, true);
    while goes_on {
        assert!(engine.wants_scrub());
        let before = counted(&engine)[0];
        goes_on = engine.scrub_more().unwrap();
        let read = counted(&engine)[0] - before;
        assert!(read < STEP_BYTES + 2 * VALUE_BYTES as u64, "{read} bytes at once");
        if goes_on {
            // A clock tells whole milliseconds at the least.
            let cost = Duration::from_millis(read / 100);
            disk.advance(cost.saturating_sub(Duration::from_millis(100)));
            assert!(!engine.wants_scrub(), "{read} bytes are not paid for");
            disk.advance(Duration::from_millis(101));
        }
        steps += 1;
    }
    assert!(steps > 4 && (0..120).all(|id| is_whole(&engine, id)));
    assert_eq!(counted(&engine), [2 * bytes, 2, 1, 1]);
    disk.advance(PASS_EVERY.saturating_sub(Duration::from_secs(1)));
    assert!(!engine.wants_scrub());
    disk.advance(Duration::from_secs(1));
    assert!(engine.wants_scrub() && engine.scrub_more().unwrap(), "begun anew");
}

#[test]
fn a_pass_that_is_given_up_goes_on_where_it_was_and_tells_of_nothing_twice() {
    let disk = SimDisk::new(2);
    let engine = with_pages(&disk, 0..120, Options::default().scrub_bytes_per_second(1 << 30));
    let bytes = engine.scrub().unwrap().bytes;
    harm(&disk, page_of(&engine, 5));
    let mut goes_on = true;
    while goes_on {
        engine.give_up(true);
        assert_eq!(engine.scrub_more().unwrap_err().code(), "store.closed");
        engine.give_up(false);
        goes_on = engine.scrub_more().unwrap();
    }
    assert_eq!(counted(&engine), [2 * bytes, 2, 1, 1]);
    assert!(is_whole(&engine, 5));
}

#[test]
fn two_passes_at_once_and_all_other_work_beside_them_rebuild_each_page_once() {
    for order in 0..4 {
        let disk = SimDisk::new(3);
        let engine = with_pages(&disk, 0..120, Options::default());
        let damaged = [3, 60, 61, 119];
        for id in damaged {
            harm(&disk, page_of(&engine, id));
        }
        let mut passes = [engine.begin_pass(), engine.begin_pass()];
        let mut goes_on = [true; 2];
        for round in 0_u8.. {
            for (pass, goes_on) in passes.iter_mut().zip(&mut goes_on) {
                if *goes_on {
                    *goes_on = engine.step(pass).unwrap();
                }
                put(&engine, 130 + round % 100);
                match (order + usize::from(round)) % 4 {
                    0 => drop(engine.checkpoint().unwrap()),
                    1 => drop(engine.clean().unwrap()),
                    2 => drop(engine.merge().unwrap()),
                    _ => drop(engine.purge(address(130)).unwrap()),
                }
                disk.advance(Duration::from_mins(2));
                engine.remove_retired().unwrap();
            }
            if goes_on == [false; 2] {
                break;
            }
        }
        let told = passes.map(|pass| fates(&pass.report));
        let rebuilt = told.iter().flatten().filter(|fate| *fate == "Rebuilt").count();
        assert_eq!(rebuilt, damaged.len(), "{told:?}");
        assert!(told.iter().all(|told| told.len() <= damaged.len()), "{told:?}");
        let found = told.iter().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(counted(&engine)[1..], [2, found, damaged.len() as u64]);
        assert!((0..120).all(|id| is_whole(&engine, id)));
        assert!(!engine.scrub().unwrap().has_losses());
    }
}

#[test]
fn damages_that_are_not_told_any_more_are_counted() {
    let disk = SimDisk::new(4);
    let engine = with_pages(&disk, 0..3, Options::default());
    harm(&disk, page_of(&engine, 1));
    let mut pass = engine.begin_pass();
    for _ in 0..DAMAGES_MAX {
        pass.report.tell(Error::closed(), None, Fate::Told);
    }
    while engine.step(&mut pass).unwrap() {}
    assert_eq!((pass.report.damages.len(), pass.report.untold), (DAMAGES_MAX, 1));
    assert_eq!(counted(&engine)[2..], [1, 1]);
}

#[test]
fn damage_is_spare_only_where_nothing_of_the_directory_is_hidden() {
    let disk = SimDisk::new(5);
    let engine = with_pages(&disk, 0..3, Options::default());
    harm(&disk, page_of(&engine, 1));
    let disk = disk.kill();
    let run = engine.version().directory.runs()[0].facts().number;
    disk.damage(FileName::Run(run), Damage::FlipBit(4_096 * 8 + 77)).unwrap();
    let options = Options::default().threads(false);
    let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
    let report = engine.scrub().unwrap();
    let mut told = fates(&report);
    told.sort();
    assert_eq!(told, ["Told", "run.hole"], "whose the page is nobody can tell");
    assert!(report.has_losses() && counted(&engine)[3] == 0);
}

#[test]
fn where_there_is_no_room_to_rebuild_that_is_told_and_the_pass_goes_on() {
    let disk = SimDisk::new(6);
    let engine = with_pages(&disk, 0..9, Options::default().scrub_bytes_per_second(1 << 30));
    for id in [2, 7] {
        harm(&disk, page_of(&engine, id));
    }
    let there = disk.names();
    disk.set_free_bytes(0);
    assert_eq!(fates(&engine.scrub().unwrap()), ["disk.full", "disk.full"]);
    assert_eq!(disk.names(), there);
    // Not tried again all the time either.
    while engine.scrub_more().unwrap() {}
    assert!(!engine.wants_scrub() && !is_whole(&engine, 2) && is_whole(&engine, 3));
    assert_eq!(counted(&engine)[1..], [2, 4, 0]);
    disk.set_free_bytes(1 << 20);
    assert_eq!(fates(&engine.scrub().unwrap()), ["Rebuilt", "Rebuilt"]);
    assert!((0..9).all(|id| is_whole(&engine, id)));
}

fn change(engine: &Engine, id: u8, operations: &[Operation<'_>]) {
    let mut changes = WriteSet::new();
    for operation in operations {
        changes.push(&engine.options.limits, operation).unwrap();
    }
    let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
    engine.with_object(address(id), commit).unwrap();
    assert!(engine.checkpoint().unwrap());
}

/// What counts as live, in pages, by segment.
fn live(engine: &Engine) -> Vec<(FileNumber, u64, u64)> {
    let version = engine.version();
    let segments = version.manifest.segments.iter();
    segments.map(|one| (one.facts.number, one.live_pages, one.live_bytes)).collect()
}

#[test]
fn pages_whose_entries_were_lost_do_not_keep_their_segment_for_ever() {
    let disk = SimDisk::new(7);
    let options = || Options::default().threads(false).page_bytes(4_096);
    let engine = Engine::open(Arc::new(disk.clone()), options()).unwrap();
    // So many pages that their entries fill several blocks.
    let key = |number: u16| [&[KeyKind::User as u8][..], &number.to_be_bytes()].concat();
    let keys: Vec<Vec<u8>> = (0..2_000).map(key).collect();
    let value = &[1; 2_000][..];
    let puts = keys.iter().map(|key| Operation::Put { key, codec: Codec::Raw, value });
    let puts: Vec<_> = puts.collect();
    change(&engine, 1, &puts);
    let run = Arc::clone(&engine.version().directory.runs()[0]);
    assert!(run.blocks() > 4, "{} blocks", run.blocks());
    let (number, at) = (run.facts().number, run.block_at(run.blocks() / 2).0.start);
    let before = live(&engine);
    // Of a whole store nothing is set right.
    engine.scrub().unwrap();
    assert_eq!(live(&engine), before);
    let disk = disk.kill();
    disk.damage(FileName::Run(number), Damage::FlipBit((at + 20) * 8)).unwrap();
    let engine = Engine::open(Arc::new(disk.clone()), options()).unwrap();
    // The head can be read, and so can the entries in other blocks.
    change(&engine, 1, &[Operation::DeleteAll { keep_alarms: false }]);
    let left = live(&engine);
    assert!(left.len() == 1 && left[0].1 > 1 && left[0].1 < before[0].1, "{left:?} of {before:?}");
    put(&engine, 2);
    assert!(engine.checkpoint().unwrap());
    engine.scrub().unwrap();
    let now = live(&engine);
    assert!(now.len() == 1 && now[0].0 != left[0].0 && is_whole(&engine, 2), "{now:?}");
    engine.scrub().unwrap();
    assert_eq!(live(&engine), now);
}

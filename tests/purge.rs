//! Purge: what was in an object is out of reach at once, and soon in no file.
//!
//! A marker that nothing compresses is planted in a key, a value, the object's name and the name of
//! an alarm. Whether it is gone is asked of every byte of every file, as the machine sees it and as
//! the medium has it, and of every page, dictionary and entry once decoded.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

use dostore::disk::ReadDisk;
use dostore::disk::sim::{Damage, SimDisk};
use dostore::error::ErrorKind;
use dostore::format::manifest::Manifest;
use dostore::format::run::RunUse;
use dostore::ids::Timestamp;
use dostore::inspect::verify::verify;
use dostore::manifest;
use dostore::names::FileName;
use dostore::object::history::bundle_of;
use dostore::run::{Run, RunItem};
use dostore::segment::SegmentSet;
use dostore::store::commit::Commit;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::{Options, Store};
use std::collections::BTreeSet;
use std::sync::Arc;

const MARKER: &str = "q7ZpX2vK9mR4tB1nW8yC6sL3hD5fG0jA";
const NEIGHBOURS: usize = 120;
/// Enough that a dictionary is trained.
const CROWD: usize = 240;

fn options() -> Options {
    Store::options()
        .threads(false)
        .wal_file_bytes(64 << 10)
        .segment_bytes(16 << 10)
        .page_bytes(1024)
        .retire_after(std::time::Duration::from_mins(1))
}

fn open(disk: &SimDisk) -> (Store, Namespace) {
    let store = options().open_on(disk.clone()).unwrap();
    let people = store.namespace("people").unwrap();
    (store, people)
}

fn has(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

/// Where the marker is.
fn traces(disk: &SimDisk) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in disk.names() {
        let kinds = [("seen", disk.file_bytes(name)), ("stored", disk.medium_bytes(name))];
        for (kind, bytes) in kinds {
            if bytes.is_some_and(|bytes| has(&bytes)) {
                found.insert(format!("{name} as {kind}"));
            }
        }
    }
    let reading: Arc<dyn ReadDisk> = Arc::new(disk.clone());
    let manifest = manifest::read(disk).unwrap().unwrap();
    find_in_segments(&reading, &manifest, &mut found);
    for facts in manifest.runs.iter().chain(manifest.history.iter().map(|file| &file.facts)) {
        let run = Run::open(&*reading, manifest.store, facts).unwrap();
        for item in run.iter() {
            let RunItem::Entry { key, value } = item.unwrap() else { panic!("a hole") };
            if has(&key) || has(&value) {
                found.insert(format!("an entry of {} as {:?}", run.name(), facts.usage));
            }
            if facts.usage == RunUse::History {
                let bundle = bundle_of(&run, &value).unwrap();
                let mut items = (0..bundle.count()).filter_map(|index| bundle.item(index));
                if items.any(|(_, value)| has(value)) {
                    found.insert(format!("an item of {}", run.name()));
                }
            }
        }
    }
    found
}

fn find_in_segments(disk: &Arc<dyn ReadDisk>, manifest: &Manifest, found: &mut BTreeSet<String>) {
    let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
    for segment in &manifest.segments {
        segments.add(&segment.facts);
        let number = segment.facts.number;
        for page in segments.scan(number).unwrap() {
            let page = page.unwrap();
            if has(segments.page(&page.location).unwrap().body()) || has(&page.meta.fence) {
                found.insert(format!("a page of {}", FileName::Segment(number)));
            }
            let id = page.dictionary;
            if id != 0 && has(segments.dictionary(number, id).unwrap().bytes()) {
                found.insert(format!("a dictionary of {}", FileName::Segment(number)));
            }
        }
    }
}

fn plant(people: &Namespace, rounds: u32) {
    let name = format!("ann {MARKER}");
    for round in 0..rounds {
        let mut ann = people.open_by_name(&name).unwrap();
        let mut turn = ann.turn();
        turn.put(format!("key {MARKER}"), format!("round {round}")).unwrap();
        turn.put("note", format!("says {MARKER} in round {round}")).unwrap();
        turn.set_named_alarm(&format!("call {MARKER}"), Timestamp(u64::MAX / 4)).unwrap();
        turn.commit().unwrap().wait().unwrap();
    }
}

/// Neighbours whose values look alike and repeat what a dictionary would learn.
fn surround(people: &Namespace, count: usize, round: u32) {
    for number in 0..count {
        let mut object = people.open_by_name(&format!("neighbour {number}")).unwrap();
        let mut turn = object.turn();
        for key in ["address", "city", "street"] {
            let value =
                format!("{key} of number {number}: 12 Long Lane, Springfield, round {round}");
            turn.put(key, value.repeat(2)).unwrap();
        }
        turn.commit().unwrap().wait().unwrap();
    }
}

fn check_neighbours(people: &Namespace, count: usize, round: u32) {
    for number in 0..count {
        let object = people.open_by_name(&format!("neighbour {number}")).unwrap();
        let value = object.get("city").unwrap().unwrap();
        assert!(std::str::from_utf8(&value).unwrap().ends_with(&format!("round {round}")));
    }
}

/// Checkpoints, cleans and merges until there is nothing to do.
fn settle(store: &Store) {
    let steps = store.steps();
    steps.checkpoint().unwrap();
    while steps.clean().unwrap() || steps.merge().unwrap() {}
}

fn is_clean(disk: &SimDisk) -> bool {
    verify(disk.clone()).is_clean()
}

#[test]
fn g23_a_purge_leaves_no_byte_in_any_file() {
    let disk = SimDisk::new(1);
    let (store, people) = open(&disk);
    for round in 0..6 {
        surround(&people, NEIGHBOURS, round);
        plant(&people, 3);
        settle(&store);
    }
    plant(&people, 1);
    let before = traces(&disk);
    let is_in = |part: &str| before.iter().any(|trace| trace.contains(part));
    for part in ["wal/", "a page of", "Names", "Alarms", "an item of"] {
        assert!(is_in(part), "{part} in {before:?}");
    }
    assert!(store.stats().unwrap().segments_cleaned > 0);

    let id = people.id_from_name(&format!("ann {MARKER}"));
    people.purge(id).unwrap().wait().unwrap();
    assert_eq!(people.open(id).unwrap().list(ListOptions::new()).unwrap().count(), 0);
    assert!(store.steps().erase().unwrap());
    assert_eq!(traces(&disk), BTreeSet::new());
    assert!(!store.steps().erase().unwrap(), "it was erased already");
    check_neighbours(&people, NEIGHBOURS, 5);
    assert!(is_clean(&disk));
    drop((people, store));
    let disk = disk.power_cut();
    assert_eq!(traces(&disk), BTreeSet::new());
    check_neighbours(&open(&disk).1, NEIGHBOURS, 5);
}

#[test]
fn a_dictionary_that_learnt_from_a_purged_object_goes_with_it() {
    let disk = SimDisk::new(2);
    let (store, people) = open(&disk);
    // All of them say it, so the dictionary does.
    crowd(&store, &people, "sayer", MARKER);
    // These never did; they are packed with it all the same.
    crowd(&store, &people, "other", "nothing");
    let before = traces(&disk);
    assert!(before.iter().any(|trace| trace.contains("a dictionary of")));
    for number in 0..CROWD {
        let id = people.id_from_name(&format!("sayer {number}"));
        people.purge(id).unwrap().wait().unwrap();
    }
    assert!(store.steps().erase().unwrap());
    assert_eq!(traces(&disk), BTreeSet::new());
    for number in 0..CROWD {
        assert!(
            people
                .open_by_name(&format!("other {number}"))
                .unwrap()
                .get("key 3")
                .unwrap()
                .is_some()
        );
    }
    assert!(is_clean(&disk));
}

/// Objects of which the cleaner moves half: the others of each segment die.
fn crowd(store: &Store, people: &Namespace, who: &str, word: &str) {
    for round in 0..6 {
        for number in (0..CROWD).filter(|number| round == 0 || number % 2 == 0) {
            let mut object = people.open_by_name(&format!("{who} {number}")).unwrap();
            let mut turn = object.turn();
            for key in 0..8 {
                let words = number * 7919 + key * 104_729 + round * 31;
                let value = format!("{words} and {word} of {} to {}", words * 17, words % 613);
                turn.put(format!("key {key}"), value).unwrap();
            }
            turn.commit().unwrap().wait().unwrap();
        }
        settle(store);
    }
}

#[test]
fn what_a_purged_object_becomes_later_stays() {
    let disk = SimDisk::new(3);
    let (store, people) = open(&disk);
    plant(&people, 2);
    settle(&store);
    let name = format!("ann {MARKER}");
    let old = people.open_by_name(&name).unwrap();
    people.purge(old.id()).unwrap().wait().unwrap();
    assert_eq!(old.get("note").unwrap_err().code(), "handle.fenced");
    let mut ann = people.open(people.id_from_name(&name)).unwrap();
    assert_eq!(ann.get("note").unwrap(), None);
    assert_eq!(ann.alarms().unwrap(), []);
    ann.put("note", "again").unwrap().wait().unwrap();
    assert!(store.steps().erase().unwrap());
    assert_eq!(traces(&disk), BTreeSet::new());
    assert_eq!(ann.get("note").unwrap().as_deref(), Some(&b"again"[..]));
    drop((ann, people, store));
    let (_, people) = open(&disk.power_cut());
    let ann = people.open(people.id_from_name(&name)).unwrap();
    assert_eq!(ann.get("note").unwrap().as_deref(), Some(&b"again"[..]));
}

#[test]
fn files_that_a_snapshot_reads_are_removed_when_it_is_dropped() {
    let disk = SimDisk::new(4);
    let (store, people) = open(&disk);
    plant(&people, 2);
    settle(&store);
    let id = people.id_from_name(&format!("ann {MARKER}"));
    let snapshot = people.snapshot(id).unwrap();
    people.purge(id).unwrap().wait().unwrap();
    assert!(!store.steps().erase().unwrap());
    assert!(!traces(&disk).is_empty());
    assert!(snapshot.get("note").unwrap().is_some(), "it shows what it showed");
    drop(snapshot);
    assert!(store.steps().erase().unwrap());
    assert_eq!(traces(&disk), BTreeSet::new());
}

#[test]
fn a_purge_survives_a_power_cut_at_every_call_and_is_completed_after_it() {
    let base = SimDisk::new(5);
    let (store, people) = open(&base);
    surround(&people, 8, 0);
    plant(&people, 2);
    settle(&store);
    plant(&people, 1);
    let id = people.id_from_name(&format!("ann {MARKER}"));
    drop((people, store));
    let mut cuts = 0;
    for call in 1.. {
        let disk = base.fork();
        let (store, people) = open(&disk);
        disk.crash_after(call);
        let acknowledged = people.purge(id).and_then(Commit::wait).is_ok();
        let erased = acknowledged && store.steps().erase().is_ok_and(|erased| erased);
        let is_off = disk.is_off();
        drop((people, store));
        let disk = disk.power_cut();
        if erased {
            assert_eq!(traces(&disk), BTreeSet::new(), "cut at call {call}");
        }
        let (store, people) = open(&disk);
        let is_gone = people.open(id).unwrap().get("note").unwrap().is_none();
        assert!(is_gone || !acknowledged, "cut at call {call}");
        if is_gone {
            store.steps().erase().unwrap();
            assert_eq!(traces(&disk), BTreeSet::new(), "cut at call {call}");
            check_neighbours(&people, 8, 0);
            assert!(is_clean(&disk));
        }
        if !is_off {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 40, "{cuts}");
}

#[test]
fn a_segment_that_cannot_be_emptied_is_said_and_not_tried_for_ever() {
    let disk = SimDisk::new(6);
    let (store, people) = open(&disk);
    surround(&people, 8, 0);
    plant(&people, 1);
    settle(&store);
    let segments: Vec<_> =
        disk.names().into_iter().filter(|name| matches!(name, FileName::Segment(_))).collect();
    people.purge(people.id_from_name(&format!("ann {MARKER}"))).unwrap().wait().unwrap();
    drop((people, store));
    for name in segments {
        disk.damage(name, Damage::ZeroSector(9)).unwrap();
    }
    let (store, _) = open(&disk.kill());
    let failed = store.steps().erase().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Corrupt);
    assert!(!store.steps().erase().unwrap(), "it is not tried again and again");
}

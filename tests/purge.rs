//! Purge: what was in an object is out of reach at once, and soon in no file.
//!
//! A marker that nothing compresses is planted in a key, a value, the object's name and the name of
//! an alarm. Whether it is gone is asked of every byte of every file, as the machine sees it and as
//! the medium has it, and of every page, dictionary and entry once decoded.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

#[path = "it/traces.rs"]
mod traces;

use dostore::disk::ReadDisk;
use dostore::disk::sim::{Fault, SimDisk};
use dostore::error::ErrorKind;
use dostore::format::manifest::SegmentState;
use dostore::ids::{ShortId, Timestamp};
use dostore::inspect::verify::verify;
use dostore::manifest;
use dostore::names::{FileName, Folder};
use dostore::retention::Retention;
use dostore::segment::{ScannedPage, SegmentSet};
use dostore::store::commit::Commit;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::{Options, Store};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

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
        .retire_after(Duration::from_mins(1))
}

fn open(disk: &SimDisk) -> (Store, Namespace) {
    let store = options().open_on(disk.clone()).unwrap();
    let people = store.namespace("people").unwrap();
    (store, people)
}

/// The name of the object with the marker.
fn marked() -> String {
    format!("ann {MARKER}")
}

fn has(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

fn has_bytes(disk: &SimDisk, name: FileName) -> bool {
    let bytes = [disk.file_bytes(name), disk.medium_bytes(name)];
    bytes.into_iter().flatten().any(|bytes| has(&bytes))
}

/// Where the marker is.
fn traces(disk: &SimDisk) -> BTreeSet<String> {
    traces::traces(disk, &has)
}

fn plant(people: &Namespace, rounds: u32) {
    let name = marked();
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
    // Zeros are never written to the log as they are, nor what stands beside them.
    let mut ann = people.open_by_name(&marked()).unwrap();
    ann.put("blank", [MARKER.as_bytes(), &[0; 2048]].concat()).unwrap().wait().unwrap();
    drop(ann);
    let before = traces(&disk);
    let is_in = |part: &str| before.iter().any(|trace| trace.contains(part));
    for part in ["wal/", "a group of", "a page of", "Names", "Alarms", "an item of"] {
        assert!(is_in(part), "{part} in {before:?}");
    }
    assert!(store.stats().unwrap().segments_cleaned > 0);

    let id = people.id_from_name(&marked());
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
    let name = marked();
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
fn a_name_outlives_deletions_and_is_taken_by_the_next_purge_alone() {
    let disk = SimDisk::new(11);
    let (store, people) = open(&disk);
    let id = people.id_from_name("ann");
    let note = |mut handle: Object| handle.put("note", "hello").unwrap().wait().unwrap();
    let listed = |people: &Namespace| {
        let mut all = people.objects().map(|info| info.unwrap().name);
        (all.next().unwrap(), people.snapshot(id).unwrap().name().unwrap())
    };
    note(people.open_by_name("ann").unwrap());
    settle(&store);
    people.purge(id).unwrap().wait().unwrap();
    note(people.open(id).unwrap());
    assert_eq!(listed(&people), (None, None), "the purge is not in a manifest yet");
    settle(&store);
    assert_eq!(listed(&people), (None, None));
    let ann = || Some("ann".to_owned());
    note(people.open_by_name("ann").unwrap());
    settle(&store);
    assert_eq!(listed(&people), (ann(), ann()));
    people.delete(id).unwrap().wait().unwrap();
    settle(&store);
    note(people.open(id).unwrap());
    settle(&store);
    assert_eq!(listed(&people), (ann(), ann()), "it follows from the id");
    assert!(store.steps().erase().unwrap());
    assert_eq!(listed(&people), (ann(), ann()), "it was given after the purge");
    drop((people, store));
    let (store, people) = open(&disk.power_cut());
    assert_eq!(listed(&people), (ann(), ann()));
    people.purge(id).unwrap().wait().unwrap();
    note(people.open(id).unwrap());
    assert!(store.steps().erase().unwrap());
    assert_eq!(listed(&people), (None, None));
}

#[test]
fn files_that_a_snapshot_reads_are_removed_when_it_is_dropped() {
    let disk = SimDisk::new(4);
    let (store, people) = open(&disk);
    plant(&people, 2);
    settle(&store);
    let id = people.id_from_name(&marked());
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
    let id = people.id_from_name(&marked());
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

/// An error of any call while erasing is no damage: what it kept goes with the next try.
#[test]
fn an_error_of_the_disk_keeps_no_purge_for_longer_than_it_lasts() {
    let base = SimDisk::new(12);
    let (store, people) = open(&base);
    surround(&people, 8, 0);
    plant(&people, 2);
    settle(&store);
    let id = people.id_from_name(&marked());
    people.purge(id).unwrap().wait().unwrap();
    drop((people, store));
    let (mut failed, mut unread) = (0, 0);
    for call in 1.. {
        let disk = base.fork();
        let (store, people) = open(&disk);
        let last = disk.calls() + call;
        // What is not given the first time is asked for once more.
        disk.fail_call(call, Fault::Io);
        disk.fail_call(call + 1, Fault::Io);
        if let Err(error) = store.steps().erase() {
            failed += 1;
            unread += usize::from(error.code().ends_with(".unreadable"));
            assert_ne!(error.code(), "purge.stuck", "call {call}");
        }
        if disk.calls() < last {
            break;
        }
        // The second may still be to come.
        let _ = disk.list(Folder::Root);
        drop((people, store));
        let (store, _people) = open(&disk);
        store.steps().erase().unwrap();
        assert_eq!(traces(&disk), BTreeSet::new(), "call {call}");
    }
    assert!(failed > 40 && unread > 5, "{failed} {unread}");
}

/// Where the pages of a segment lie, and of which object each is.
fn pages(disk: &SimDisk) -> Vec<ScannedPage> {
    let reading: Arc<dyn ReadDisk> = Arc::new(disk.clone());
    let manifest = manifest::read(disk).unwrap().unwrap();
    let segments = SegmentSet::new(reading, manifest.store);
    let scan = |segment: &SegmentState| {
        segments.add(&segment.facts);
        segments.scan(segment.facts.number).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    manifest.segments.iter().flat_map(scan).collect()
}

/// Flips a bit in the middle of a page.
fn spoil(disk: &SimDisk, page: &ScannedPage) {
    let bit = (page.location.offset + u64::from(page.location.bytes) / 2) * 8;
    disk.flip_bit(FileName::Segment(page.location.file), bit).unwrap();
}

fn is_of(page: &ScannedPage, people: &Namespace, name: &str) -> bool {
    page.meta.address.id == people.id_from_name(name).short()
}

#[test]
fn what_nobody_waited_for_is_erased_with_the_rest() {
    let disk = SimDisk::new(7);
    let (store, people) = open(&disk);
    surround(&people, 8, 0);
    let mut ann = people.open_by_name(&marked()).unwrap();
    ann.put("note", format!("says {MARKER}")).unwrap().detach();
    people.purge(ann.id()).unwrap().detach();
    assert!(store.steps().erase().unwrap());
    assert_eq!(traces(&disk), BTreeSet::new());
    check_neighbours(&people, 8, 0);
}

#[test]
fn a_checkpoint_that_fails_makes_no_purge_forgotten() {
    let base = SimDisk::new(8);
    let (store, people) = open(&base);
    surround(&people, 8, 0);
    plant(&people, 2);
    settle(&store);
    drop((people, store));
    let mut failed = 0;
    for call in 1.. {
        let disk = base.fork();
        let (store, people) = open(&disk);
        people.purge(people.id_from_name(&marked())).unwrap().wait().unwrap();
        let last = disk.calls() + call;
        disk.fail_call(call, Fault::Io);
        let done = store.steps().checkpoint();
        if disk.calls() < last {
            break;
        }
        if done.is_ok() {
            continue;
        }
        match store.steps().erase() {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Poisoned, "call {call}"),
            Ok(is_erased) => {
                assert!(is_erased, "call {call}");
                assert_eq!(traces(&disk), BTreeSet::new(), "call {call}");
                failed += 1;
            }
        }
    }
    assert!(failed > 5, "{failed}");
}

#[test]
fn damage_of_others_keeps_no_purge_from_being_erased() {
    let base = SimDisk::new(9);
    let (store, people) = open(&base);
    for round in 0..4 {
        surround(&people, NEIGHBOURS, round);
        plant(&people, 1);
        store.steps().checkpoint().unwrap();
    }
    people.purge(people.id_from_name(&marked())).unwrap().wait().unwrap();
    // Some of the others are live and some are dead; some lie in one file with the purged object.
    let is_ann = |page: &&ScannedPage| is_of(page, &people, &marked());
    let mut all = pages(&base);
    let namespace = all.iter().find(is_ann).unwrap().meta.address.namespace;
    all.retain(|page| page.meta.address.namespace == namespace);
    let beside: BTreeSet<_> = all.iter().filter(is_ann).map(|page| page.location.file).collect();
    let (mut erased, mut stuck) = (0, 0);
    for page in all.iter().filter(|page| !is_ann(page)).step_by(5) {
        let disk = base.fork();
        spoil(&disk, page);
        let (store, _) = open(&disk);
        match store.steps().erase() {
            Ok(true) => {
                assert!(!disk.names().into_iter().any(|name| has_bytes(&disk, name)), "{page:?}");
                erased += 1;
            }
            // A live page that is damaged cannot be moved, and the file stays with all else in it.
            Err(error) if beside.contains(&page.location.file) => {
                assert_eq!(error.code(), "purge.stuck");
                stuck += 1;
            }
            other => panic!("{page:?}: {other:?}"),
        }
    }
    assert!(erased > 20 && stuck > 0, "{erased} erased, {stuck} stuck");
}

#[test]
fn a_segment_that_cannot_be_emptied_is_said_and_keeps_no_other_purge() {
    let disk = SimDisk::new(6);
    let (store, people) = open(&disk);
    surround(&people, 8, 0);
    plant(&people, 1);
    settle(&store);
    people.open_by_name("bob").unwrap().put("note", "he").unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    for name in [&*marked(), "bob"] {
        people.purge(people.id_from_name(name)).unwrap().wait().unwrap();
    }
    let all = pages(&disk);
    let beside = all.iter().find(|page| is_of(page, &people, "neighbour 3")).unwrap();
    let ann = people.id_from_name(&marked()).short();
    drop((people, store));
    spoil(&disk, beside);
    let disk = disk.kill();
    let (store, people) = open(&disk);
    assert_eq!(store.steps().erase().unwrap_err().code(), "purge.stuck");
    assert_eq!(not_erased(&disk), [ann], "the other one lies elsewhere");
    let calls = disk.calls();
    assert_eq!(store.steps().erase().unwrap_err().code(), "purge.stuck", "it is said again");
    assert_eq!(disk.calls(), calls, "and not tried again");
    assert!(people.snapshot(people.id_from_name("neighbour 3")).unwrap().get("city").is_err());
    assert!(people.snapshot(people.id_from_name("neighbour 2")).unwrap().get("city").is_ok());
}

#[test]
fn a_file_of_history_that_cannot_be_read_keeps_only_what_it_may_hold() {
    let disk = SimDisk::new(10);
    let (store, people) = open(&disk);
    people.open_by_name("bob").unwrap().put("note", "he").unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    people.purge(people.id_from_name("bob")).unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    for _ in 0..2 {
        plant(&people, 2);
        store.steps().checkpoint().unwrap();
    }
    people.purge(people.id_from_name(&marked())).unwrap().wait().unwrap();
    let ann = people.id_from_name(&marked()).short();
    drop((people, store));
    let history = manifest::read(&disk).unwrap().unwrap().history;
    let last = history.iter().max_by_key(|file| file.end).unwrap().facts;
    disk.flip_bit(FileName::Run(last.number), (last.bytes - 8) * 8).unwrap();
    let disk = disk.kill();
    let (store, _) = open(&disk);
    let failed = store.steps().erase().unwrap_err();
    assert_eq!(failed.code(), "purge.stuck");
    assert_eq!(failed.place().unwrap().file, FileName::Run(last.number).to_string());
    assert_eq!(not_erased(&disk), [ann]);
}

/// The purged objects of which a file may hold something.
fn not_erased(disk: &SimDisk) -> Vec<ShortId> {
    let purged = manifest::read(disk).unwrap().unwrap().purged;
    purged.iter().filter(|purge| !purge.erased).map(|purge| purge.address.id).collect()
}

#[test]
fn an_alarm_that_was_on_its_way_is_not_written_down_again() {
    for retention in [Retention::Off, Retention::days(30)] {
        let disk = SimDisk::new(11);
        let store = options().retention(retention).open_on(disk.clone()).unwrap();
        let people = store.namespace("people").unwrap();
        for (name, alarm) in [("bob", "call".to_owned()), (&marked(), format!("call {MARKER}"))] {
            let mut object = people.open_by_name(name).unwrap();
            let mut turn = object.turn();
            turn.put("note", "here").unwrap();
            // Bob's comes first.
            let due = Timestamp(disk.clock().wall_micros() + name.len() as u64 * 1_000_000);
            turn.set_named_alarm(&alarm, due).unwrap();
            turn.commit().unwrap().wait().unwrap();
        }
        drop((people, store));
        // After an open, and a checkpoint, only runs have hints.
        let store = options().retention(retention).open_on(disk.clone()).unwrap();
        let people = store.namespace("people").unwrap();
        store.steps().checkpoint().unwrap();
        disk.advance(Duration::from_mins(2));
        let alarms = store.alarms();
        drop(alarms.try_next().unwrap().expect("bob's"));
        people.purge(people.id_from_name(&marked())).unwrap().wait().unwrap();
        assert!(store.steps().erase().unwrap());
        while let Some(fired) = alarms.try_next().unwrap() {
            assert_eq!(fired.object_name().unwrap().as_deref(), Some("bob"));
        }
        people.open_by_name("bob").unwrap().put("note", "there").unwrap().wait().unwrap();
        assert!(store.steps().checkpoint().unwrap());
        assert_eq!(traces(&disk), BTreeSet::new(), "{retention:?}");
    }
}

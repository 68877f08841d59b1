//! Each promise of `docs/guarantees.md` as a short script on the simulated disk.
//!
//! The scripts are small and exhaustive where they can be: the power fails at every disk call in
//! turn. The long random runs are in `tests/it`.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

use dostore::disk::sim::{Damage, Fault, SimDisk};
use dostore::disk::{Disk, ReadDisk};
use dostore::error::ErrorKind;
use dostore::ids::Timestamp;
use dostore::names::{FileName, Folder};
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::{Options, Store};

fn options() -> Options {
    Store::options()
        .threads(false)
        .wal_file_bytes(64 << 10)
        .segment_bytes(16 << 10)
        .page_bytes(512)
        .retire_after(std::time::Duration::ZERO)
}

fn open(disk: &SimDisk) -> (Store, Namespace) {
    let store = options().open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

/// The two keys of an object that every commit of the script sets to the same number.
fn pair(rooms: &Namespace, name: &str) -> Option<u32> {
    let object = rooms.open_by_name(name).unwrap();
    let number = |key: &str| {
        let value = object.get(key).unwrap()?;
        Some(u32::from_le_bytes(value[..4].try_into().unwrap()))
    };
    assert_eq!(number("a"), number("b"), "half a commit of {name}");
    number("a")
}

/// What a script got acknowledged and what it tried, by object.
#[derive(Default)]
struct Progress {
    acknowledged: [u32; 2],
    tried: [u32; 2],
}

const NAMES: [&str; 2] = ["one", "two"];

/// Commits, checkpoints, cleans and merges, until a call fails.
fn script(disk: &SimDisk, progress: &mut Progress) -> dostore::error::Result<()> {
    let store = options().open_on(disk.clone())?;
    let rooms = store.namespace("rooms")?;
    for round in 1..=6u32 {
        for (index, name) in NAMES.iter().enumerate() {
            let mut object = rooms.open_by_name(name)?;
            let mut turn = object.turn();
            let value = [&round.to_le_bytes()[..], &[7; 300]].concat();
            turn.put("a", &value)?.put("b", &value)?;
            progress.tried[index] = round;
            turn.commit()?.wait()?;
            progress.acknowledged[index] = round;
        }
        store.steps().checkpoint()?;
        store.steps().clean()?;
        store.steps().merge()?;
        store.steps().remove_retired()?;
    }
    store.close()
}

/// Runs the script with the power failing at each call in turn.
fn with_power_failing_everywhere(check: impl Fn(&Namespace, &Progress)) {
    let mut failed_at = 0;
    for calls in 1.. {
        let disk = SimDisk::new(calls);
        disk.crash_after(calls);
        let mut progress = Progress::default();
        let finished = script(&disk, &mut progress).is_ok();
        let disk = disk.power_cut();
        let (_store, rooms) = open(&disk);
        check(&rooms, &progress);
        if finished {
            break;
        }
        failed_at = calls;
    }
    assert!(failed_at > 100, "the script is too short to mean anything: {failed_at} calls");
}

#[test]
fn g1_an_acknowledged_commit_survives_any_crash() {
    with_power_failing_everywhere(|rooms, progress| {
        for (index, name) in NAMES.iter().enumerate() {
            let found = pair(rooms, name).unwrap_or(0);
            assert!(found >= progress.acknowledged[index], "{name}: {found}");
        }
    });
}

#[test]
fn g2_an_unacknowledged_commit_is_whole_or_absent_and_so_is_all_before_it() {
    with_power_failing_everywhere(|rooms, progress| {
        let found = NAMES.map(|name| pair(rooms, name).unwrap_or(0));
        assert!(found[0] <= progress.tried[0] && found[1] <= progress.tried[1]);
        // The log orders one before two in each round: a prefix has at most one round between them.
        assert!(found[0] == found[1] || found[0] == found[1] + 1, "{found:?} is no prefix");
    });
}

#[test]
fn g3_nothing_is_shown_outside_that_a_crash_could_take_back() {
    let disk = SimDisk::new(3);
    let (store, rooms) = open(&disk);
    let mut object = rooms.open_by_name("one").unwrap();
    let commit = object.put("a", "1").unwrap();
    assert!(store.durable() < commit.position().lsn, "nobody has synced yet");
    let shown = rooms.snapshot(object.id()).unwrap();
    assert_eq!(shown.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(store.durable() >= commit.position().lsn, "a snapshot waits for what it shows");
    let unconfirmed = object.put("a", "2").unwrap();
    let peek = object.snapshot_unconfirmed().unwrap();
    assert_eq!(peek.get("a").unwrap().as_deref(), Some(&b"2"[..]));
    assert!(store.durable() < unconfirmed.position().lsn, "who asks for less does not wait");
    let listed: Vec<_> = rooms.objects().collect::<Result<_, _>>().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(store.durable() >= listed[0].last_lsn, "a listing waits as well");
}

#[test]
fn g4_a_failed_sync_is_never_tried_again_and_poisons_the_store() {
    let disk = SimDisk::new(4);
    let (store, rooms) = open(&disk);
    let mut object = rooms.open_by_name("one").unwrap();
    object.put("a", "kept").unwrap().wait().unwrap();
    let commit = object.put("a", "lost").unwrap();
    // The group's write is the next call, its sync the one behind it.
    disk.fail_call(2, Fault::Io);
    let failed = commit.wait().unwrap_err();
    assert_eq!((failed.kind(), failed.code()), (ErrorKind::Poisoned, "commit.indeterminate"));
    let calls = disk.calls();
    for _ in 0..3 {
        assert_eq!(object.put("a", "later").unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(object.get("a").unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(store.steps().checkpoint().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(store.steps().write_group().unwrap_err().kind(), ErrorKind::Poisoned);
    }
    assert_eq!(disk.calls(), calls, "a poisoned store leaves the disk alone");
    drop((object, rooms, store));
    let (_store, rooms) = open(&disk.kill());
    let object = rooms.open_by_name("one").unwrap();
    let found = object.get("a").unwrap().unwrap();
    assert!(*found == *b"kept" || *found == *b"lost", "either, but whole: {:?}", &*found);
}

#[test]
fn g5_a_crash_at_any_call_leaves_a_store_that_opens_and_goes_on() {
    with_power_failing_everywhere(|rooms, _| {
        let mut object = rooms.open_by_name("one").unwrap();
        object.put("a", [9; 4]).unwrap().wait().unwrap();
        object.put("b", [9; 4]).unwrap().wait().unwrap();
        assert_eq!(object.get("a").unwrap().as_deref(), Some(&[9; 4][..]));
    });
}

/// A store with pages of several objects in one segment, closed.
fn store_with_pages(disk: &SimDisk) {
    let (store, rooms) = open(disk);
    for name in ["left", "hit", "right"] {
        let mut object = rooms.open_by_name(name).unwrap();
        object.put("key", name.repeat(40)).unwrap().wait().unwrap();
    }
    store.close().unwrap();
}

/// Damages the page that holds this text.
fn damage_page_with(disk: &SimDisk, text: &str) -> FileName {
    let is_segment = |name: &FileName| matches!(name, FileName::Segment(_));
    for name in disk.names().into_iter().filter(is_segment) {
        let bytes = disk.file_bytes(name).unwrap();
        let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(at) = found {
            disk.flip_bit(name, at as u64 * 8).unwrap();
            return name;
        }
    }
    panic!("no page holds {text}");
}

#[test]
fn g6_damaged_bytes_are_never_used_and_the_error_says_where_they_are() {
    let disk = SimDisk::new(6);
    store_with_pages(&disk);
    let name = damage_page_with(&disk, "hithithit");
    let (_store, rooms) = open(&disk);
    let object = rooms.open_by_name("hit").unwrap();
    let error = object.get("key").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.place().unwrap().file, name.to_string());
    let id = object.id().short().to_string();
    assert!(format!("{error}").contains(&id), "{error} does not name {id}");
}

#[test]
fn g7_damage_in_one_object_stops_no_other_object_nor_the_checkpoint_nor_the_cleaner() {
    let disk = SimDisk::new(7);
    store_with_pages(&disk);
    damage_page_with(&disk, "hithithit");
    let (store, rooms) = open(&disk);
    for name in ["left", "hit", "right"] {
        let mut object = rooms.open_by_name(name).unwrap();
        object.put("other", "x".repeat(400)).unwrap().wait().unwrap();
    }
    assert!(store.steps().checkpoint().unwrap());
    while store.steps().clean().unwrap() {}
    for name in ["left", "right"] {
        let object = rooms.open_by_name(name).unwrap();
        assert_eq!(&*object.get("key").unwrap().unwrap(), name.repeat(40).as_bytes());
    }
    let hit = rooms.open_by_name("hit").unwrap();
    assert_eq!(hit.get("key").unwrap_err().kind(), ErrorKind::Corrupt, "never an empty answer");
}

#[test]
fn g8_no_object_sees_another_nor_an_earlier_life_of_itself() {
    let disk = SimDisk::new(8);
    let (store, rooms) = open(&disk);
    let other = store.namespace("other").unwrap();
    for round in 0..3 {
        let mut object = rooms.open_by_name("one").unwrap();
        for key in 0..50 {
            object.put(format!("{round}-{key}"), [1; 40]).unwrap().wait().unwrap();
        }
        store.steps().checkpoint().unwrap();
        let listed = object.list(ListOptions::new()).unwrap().count();
        assert_eq!(listed, 50, "round {round} sees what came before it");
        let id = object.id();
        rooms.delete(id).unwrap().wait().unwrap();
        assert_eq!(object.get("0-0").unwrap_err().code(), "handle.fenced");
        drop(object);
        if round == 1 {
            store.steps().checkpoint().unwrap();
        }
        assert_eq!(rooms.objects().count(), 0);
    }
    let stranger = other.open_by_name("one").unwrap();
    assert_eq!(stranger.list(ListOptions::new()).unwrap().count(), 0);
    let foreign = rooms.open(other.id_from_name("one"));
    assert_eq!(foreign.unwrap_err().code(), "id.foreign");
}

#[test]
fn g9_names_and_keys_never_become_file_names() {
    let disk = SimDisk::new(9);
    let store = options().open_on(disk.clone()).unwrap();
    let before: Vec<_> = disk.list(Folder::Root).unwrap();
    for name in ["../../etc/passwd", "a/b", "\0", "MANIFEST", "\u{202E}"] {
        let namespace = store.namespace(name).unwrap();
        let mut object = namespace.open_by_name(name).unwrap();
        object.put(name, name).unwrap().wait().unwrap();
    }
    store.steps().checkpoint().unwrap();
    let leaves = |listed: Vec<dostore::disk::Listed>| {
        let mut leaves: Vec<_> = listed.into_iter().map(|listed| listed.leaf).collect();
        leaves.sort();
        leaves
    };
    assert_eq!(leaves(disk.list(Folder::Root).unwrap()), leaves(before));
    for folder in [Folder::Wal, Folder::Segments, Folder::Runs] {
        for leaf in leaves(disk.list(folder).unwrap()) {
            assert!(FileName::parse(folder, &leaf).is_some(), "{leaf}");
        }
    }
}

/// Disk calls that an open takes after a clean close of a store with so many objects.
fn calls_to_open(objects: u32) -> u64 {
    let disk = SimDisk::new(10);
    let store = options().segment_bytes(64 << 20).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for number in 0..objects {
        let mut object = rooms.open_by_name(&number.to_string()).unwrap();
        object.put("key", "value").unwrap().detach();
    }
    store.close().unwrap();
    let before = disk.calls();
    drop(open(&disk));
    disk.calls() - before
}

#[test]
fn g10_opening_costs_the_tail_of_the_log_and_not_the_objects() {
    let (few, many) = (calls_to_open(20), calls_to_open(2_000));
    assert!(many < few + few / 2, "{few} calls for 20 objects, {many} for 2,000");
}

#[test]
fn g11_every_byte_on_disk_is_accounted_for() {
    let disk = SimDisk::new(11);
    let (store, rooms) = open(&disk);
    for round in 0..5 {
        for number in 0..30 {
            let mut object = rooms.open_by_name(&number.to_string()).unwrap();
            object.put("key", vec![round; 200]).unwrap().wait().unwrap();
        }
        store.steps().checkpoint().unwrap();
        store.steps().clean().unwrap();
        store.steps().merge().unwrap();
        store.steps().prepare_file().unwrap();
        let stats = store.stats().unwrap();
        let on_disk: u64 =
            disk.names().into_iter().map(|name| disk.file_bytes(name).unwrap().len() as u64).sum();
        assert_eq!(stats.disk_bytes(), on_disk);
        assert!(stats.live_bytes > 0 && stats.pool_bytes > 0);
    }
}

#[test]
fn g12_a_second_writer_is_told_at_once_who_has_the_store() {
    let disk = SimDisk::new(12);
    let (store, _rooms) = open(&disk);
    let refused = options().open_on(disk.clone()).unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Locked, "store.locked"));
    let holder = disk.lock_holder().unwrap().unwrap();
    assert!(refused.to_string().contains(&holder), "{refused}");
    store.close().unwrap();
    assert!(disk.lock().unwrap().is_ok(), "a closed store lets others in");
}

#[test]
fn g13_a_full_disk_fails_commits_definitely_and_ends_when_there_is_room() {
    let disk = SimDisk::new(13);
    let (store, rooms) = open(&disk);
    let mut object = rooms.open_by_name("one").unwrap();
    disk.set_free_bytes(0);
    let mut last = 0u32;
    let full = loop {
        let next = last + 1;
        match object.put("key", [&next.to_le_bytes()[..], &[5; 4000]].concat()) {
            Ok(commit) => drop(commit.wait().unwrap()),
            Err(error) => break error,
        }
        last = next;
        assert!(last < 1_000, "a disk without room took a thousand commits");
    };
    assert_eq!((full.kind(), full.is_retryable()), (ErrorKind::Full, true));
    let read = |object: &dostore::store::object::Object| {
        u32::from_le_bytes(object.get("key").unwrap().unwrap()[..4].try_into().unwrap())
    };
    assert_eq!(read(&object), last, "reads go on, and what failed is not there");
    disk.set_free_bytes(u64::MAX);
    object.put("key", [&9u32.to_le_bytes()[..], &[5; 4000]].concat()).unwrap().wait().unwrap();
    assert_eq!(read(&object), 9);
    drop((object, rooms, store));
    let (_store, rooms) = open(&disk.power_cut());
    assert_eq!(read(&rooms.open_by_name("one").unwrap()), 9);
}

#[test]
fn g14_a_missing_manifest_or_log_is_damage_and_not_an_empty_store() {
    for victim in ["manifest", "log"] {
        let disk = SimDisk::new(14);
        let (store, rooms) = open(&disk);
        rooms.open_by_name("one").unwrap().put("key", "value").unwrap().wait().unwrap();
        drop((rooms, store));
        let disk = disk.power_cut();
        let is_victim = |name: &FileName| match name {
            FileName::Manifest => victim == "manifest",
            FileName::Wal(_) => victim == "log",
            _ => false,
        };
        let names = disk.names().into_iter().filter(is_victim).collect::<Vec<_>>();
        assert!(!names.is_empty());
        for name in names {
            disk.remove(name).unwrap();
        }
        let refused = options().open_on(disk.clone());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt, "without its {victim}");
    }
    let disk = SimDisk::new(15);
    store_with_pages(&disk);
    disk.damage(FileName::Manifest, Damage::FlipBit(700)).unwrap();
    assert_eq!(options().open_on(disk).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// What is known of the alarms of the script: when each acknowledged one was set for, and whether
/// a turn that may have changed it was begun since.
#[derive(Default)]
struct Promised {
    at: [Option<u64>; 2],
    is_open: [bool; 2],
}

const SECOND: u64 = 1_000_000;

/// Sets alarms, lets them fire and completes them, with checkpoints and merges, until a call fails.
fn alarm_script(disk: &SimDisk, promised: &mut Promised) -> dostore::error::Result<()> {
    let store = options().open_on(disk.clone())?;
    let rooms = store.namespace("rooms")?;
    let alarms = store.alarms();
    for _ in 0..5 {
        for (index, name) in NAMES.iter().enumerate() {
            let at = disk.clock().wall_micros() + 100 * SECOND * (1 + index as u64);
            let mut object = rooms.open_by_name(name)?;
            let mut turn = object.turn();
            if index == 0 {
                turn.set_alarm(Timestamp(at))?;
            } else {
                turn.set_named_alarm("n", Timestamp(at))?;
            }
            promised.is_open[index] = true;
            turn.commit()?.wait()?;
            (promised.at[index], promised.is_open[index]) = (Some(at), false);
        }
        store.steps().checkpoint()?;
        disk.advance(std::time::Duration::from_secs(101));
        if let Some(fired) = alarms.try_next()? {
            let index = usize::from(fired.alarm_name().is_some());
            assert_eq!(promised.at[index], Some(fired.scheduled().0));
            let mut object = rooms.open(fired.object_id()?)?;
            let mut turn = object.turn();
            turn.complete_alarm(&fired)?;
            promised.is_open[index] = true;
            turn.commit()?.wait()?;
            (promised.at[index], promised.is_open[index]) = (None, false);
        }
        store.steps().merge()?;
        store.steps().remove_retired()?;
    }
    store.close()
}

#[test]
fn g15_an_alarm_that_was_acknowledged_fires_at_least_once_and_never_early() {
    let mut failed_at = 0;
    for calls in 1.. {
        let disk = SimDisk::new(calls);
        disk.crash_after(calls);
        let mut promised = Promised::default();
        let finished = alarm_script(&disk, &mut promised).is_ok();
        let disk = disk.power_cut();
        let (store, _rooms) = open(&disk);
        let alarms = store.alarms();
        let mut seen = [false; 2];
        for _ in 0..3 {
            while let Some(fired) = alarms.try_next().unwrap() {
                assert!(fired.scheduled().0 <= disk.clock().wall_micros(), "early");
                let index = usize::from(fired.alarm_name().is_some());
                if !promised.is_open[index] {
                    assert_eq!(promised.at[index], Some(fired.scheduled().0), "it was completed");
                }
                seen[index] = true;
                let mut object =
                    fired.namespace().unwrap().open(fired.object_id().unwrap()).unwrap();
                let mut turn = object.turn();
                turn.complete_alarm(&fired).unwrap();
                turn.commit_durable().unwrap();
            }
            disk.advance(std::time::Duration::from_secs(100));
        }
        for (index, seen) in seen.into_iter().enumerate() {
            let is_due = promised.at[index].is_some() && !promised.is_open[index];
            assert!(seen || !is_due, "alarm {index} is lost after call {calls}");
        }
        if finished {
            break;
        }
        failed_at = calls;
    }
    assert!(failed_at > 100, "the script is too short to mean anything: {failed_at} calls");
}

#[test]
fn retired_files_go_before_their_time_when_they_take_too_much() {
    let dirty_bytes = 64 << 10;
    let disk = SimDisk::new(16);
    let patient = options().retire_after(std::time::Duration::from_hours(1));
    let store = patient.dirty_bytes(dirty_bytes).open_on(disk).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut removed = 0;
    for round in 0..40 {
        let mut object = rooms.open_by_name("one").unwrap();
        object.put("key", vec![round; 20_000]).unwrap().wait().unwrap();
        store.steps().checkpoint().unwrap();
        removed += store.steps().remove_retired().unwrap();
        let retired = store.stats().unwrap().retired_bytes;
        assert!(retired <= 2 * dirty_bytes as u64, "{retired} bytes wait for readers");
    }
    assert!(removed > 0, "nothing was ever retired");
}

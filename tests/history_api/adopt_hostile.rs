//! Adoptions when calls fail, when files are damaged, and while others read or copy.

use super::stage::{Stage, code, options};
use dostore::bookmark::Bookmark;
use dostore::disk::sim::{Fault, SimDisk};
use dostore::error::ErrorKind;
use dostore::ids::Timestamp;
use dostore::inspect::verify::verify;
use dostore::names::{FileName, Folder};
use dostore::store::list::ListOptions;
use dostore::store::object::Object;
use dostore::store::restore::RestoreOptions;
use dostore::store::snapshot::Snapshot;
use dostore::store::{Fate, Store};
use std::collections::BTreeSet;
use std::time::Duration;

const MANY: usize = 120;

fn stage(disk: &SimDisk) -> dostore::error::Result<Stage> {
    let options = options().page_bytes(512).segment_bytes(16 << 10).adopt_operations(0);
    let store = options.retire_after(Duration::ZERO).cache_bytes(0).open_on(disk.clone())?;
    let rooms = store.namespace("rooms")?;
    Ok(Stage { disk: disk.clone(), store, rooms })
}

fn fill(object: &mut Object, keys: usize, value: &str) -> Bookmark {
    let mut turn = object.turn();
    for key in 0..keys {
        turn.put(format!("{key:04}"), format!("{value} {key} {}", "-".repeat(40))).unwrap();
    }
    let commit = turn.commit().unwrap();
    let bookmark = commit.bookmark();
    commit.wait().unwrap();
    bookmark
}

/// A moment of `lobby` with many keys; now it has two. `other` has one.
fn changed(stage: &Stage) -> Bookmark {
    let mut lobby = stage.room("lobby");
    let many = fill(&mut lobby, MANY, "one");
    stage.store.steps().checkpoint().unwrap();
    let mut turn = lobby.turn();
    turn.delete_all().unwrap();
    turn.commit_durable().unwrap();
    fill(&mut lobby, 2, "two");
    fill(&mut stage.room("other"), 1, "three");
    stage.store.steps().checkpoint().unwrap();
    many
}

fn keys(snapshot: &Snapshot) -> usize {
    let entries = snapshot.list(ListOptions::new()).unwrap();
    entries.fold(0, |count, entry| count + usize::from(entry.is_ok()))
}

fn now(stage: &Stage) -> usize {
    keys(&stage.rooms.snapshot(stage.id("lobby")).unwrap())
}

fn pages_and_runs(disk: &SimDisk) -> BTreeSet<FileName> {
    let is_file = |name: &FileName| matches!(name, FileName::Segment(_) | FileName::Run(_));
    disk.names().into_iter().filter(is_file).collect()
}

#[test]
fn an_adoption_in_which_any_call_fails_is_refused_and_leaves_nothing() {
    let base = SimDisk::new(1);
    let many = changed(&stage(&base).unwrap());
    let base = base.power_cut();
    let (mut refused, mut poisoned) = (0, 0);
    for (call, fault) in (1..).flat_map(|call| [(call, Fault::Io), (call, Fault::NoSpace)]) {
        let disk = base.fork();
        let after_open = stage(&disk).unwrap();
        let before = pages_and_runs(&disk);
        let calls = disk.calls();
        disk.fail_call(call, fault);
        let restored = after_open.rooms.restore(after_open.id("lobby"), &many);
        if disk.calls() < calls + call {
            restored.unwrap().commit.detach();
            break;
        }
        match restored {
            Ok(restored) => {
                // What failed was not needed, or will be told to who waits.
                restored.commit.detach();
            }
            Err(error) if error.kind() == ErrorKind::Poisoned => poisoned += 1,
            Err(error) => {
                let kinds = [ErrorKind::Io, ErrorKind::Full];
                if kinds.contains(&error.kind()) && after_open.store.steps().checkpoint().is_ok() {
                    assert_eq!(pages_and_runs(&disk), before, "call {call}: {error:?}");
                    assert_eq!(now(&after_open), 2, "call {call}: {error:?}");
                    let again = after_open.rooms.restore(after_open.id("lobby"), &many).unwrap();
                    again.commit.wait().unwrap();
                    assert_eq!(now(&after_open), MANY);
                    refused += 1;
                }
            }
        }
        drop(after_open);
        let after = stage(&disk.power_cut()).unwrap();
        assert!([2, MANY].contains(&now(&after)), "call {call}");
        assert!(verify(after.disk.clone()).is_clean(), "call {call}");
    }
    assert!(refused > 20, "{refused} refused, {poisoned} poisoned");
}

#[test]
fn damage_in_adopted_files_that_no_checkpoint_has_covered_hurts_one_object() {
    let base = SimDisk::new(2);
    let first = stage(&base).unwrap();
    let many = changed(&first);
    let before = pages_and_runs(&base);
    first.rooms.restore(first.id("lobby"), &many).unwrap().commit.wait().unwrap();
    drop(first);
    let base = base.kill();
    let adopted: Vec<_> = pages_and_runs(&base).difference(&before).copied().collect();
    assert!(adopted.len() >= 2, "{adopted:?}");
    let (mut refused, mut hurt, mut unhurt) = (0, 0, 0);
    for name in adopted {
        let bits = base.file_bytes(name).unwrap().len() as u64 * 8;
        for bit in (0..bits).step_by(1_999) {
            let disk = base.fork();
            disk.flip_bit(name, bit).unwrap();
            let stage = match stage(&disk) {
                Ok(stage) => stage,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}, bit {bit}");
                    assert!(matches!(name, FileName::Run(_)), "{name}, bit {bit}: {error:?}");
                    refused += 1;
                    continue;
                }
            };
            for round in 0..3 {
                let lobby = stage.rooms.snapshot(stage.id("lobby")).unwrap();
                let mut found = 0;
                for entry in lobby.list(ListOptions::new()).unwrap() {
                    match entry {
                        Ok((_, value)) => {
                            assert!(value.starts_with(b"one "), "{name}, bit {bit}");
                            found += 1;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}, bit {bit}");
                            found = usize::MAX;
                            break;
                        }
                    }
                }
                if found == usize::MAX {
                    hurt += 1;
                } else {
                    assert_eq!(found, MANY, "{name}, bit {bit}, round {round}");
                    unhurt += 1;
                }
                drop(lobby);
                let mut other = stage.room("other");
                other.put("b", "4").unwrap().wait().unwrap();
                assert!(other.get("0000").unwrap().is_some());
                stage.store.steps().checkpoint().unwrap();
            }
        }
    }
    assert!(hurt > 30 && unhurt > 5, "{refused} refused, {hurt} hurt, {unhurt} not");
}

#[test]
fn a_snapshot_of_what_was_adopted_outlasts_all_that_publishing_makes_of_it() {
    let disk = SimDisk::new(3);
    let stage = stage(&disk).unwrap();
    let many = changed(&stage);
    let id = stage.id("lobby");
    let restored = stage.rooms.restore(id, &many).unwrap();
    restored.commit.wait().unwrap();
    let held = stage.rooms.snapshot(id).unwrap();
    let again = stage.rooms.restore(id, &restored.undo).unwrap();
    again.commit.wait().unwrap();
    let undone = stage.rooms.snapshot(id).unwrap();
    for round in 0..20 {
        fill(&mut stage.room("lobby"), 30, &format!("{round}"));
        fill(&mut stage.room("other"), 30, &format!("{round}"));
        let steps = stage.store.steps();
        steps.checkpoint().unwrap();
        while steps.clean().unwrap() || steps.merge().unwrap() {}
        steps.remove_retired().unwrap();
        assert_eq!((keys(&held), keys(&undone)), (MANY, 2), "round {round}");
    }
    drop((held, undone));
    stage.store.steps().remove_retired().unwrap();
    assert!(verify(disk.clone()).is_clean());
    let all: u64 =
        disk.names().iter().map(|name| disk.file_bytes(*name).map_or(0, |b| b.len() as u64)).sum();
    assert_eq!(stage.store.stats().unwrap().disk_bytes(), all);
}

#[test]
fn a_backup_has_what_was_adopted_and_its_past() {
    let disk = SimDisk::new(4);
    let stage = stage(&disk).unwrap();
    let many = changed(&stage);
    let id = stage.id("lobby");
    let restored = stage.rooms.restore(id, &many).unwrap();
    restored.commit.wait().unwrap();
    let target = SimDisk::new(5);
    let verified = dostore::store::backup::BackupOptions::new().verify(true);
    stage.store.backup_on(target.clone(), verified).unwrap();
    let copy = self::stage(&target.fork()).unwrap();
    assert_eq!(now(&copy), MANY);
    assert_eq!(keys(&copy.rooms.at(id, &restored.undo).unwrap()), 2);
    // Undone, and adopted once more, over the backup before.
    let undone = stage.rooms.restore(id, &restored.undo).unwrap();
    let last = stage.rooms.restore(id, &undone.undo).unwrap();
    last.commit.wait().unwrap();
    let backup = stage.store.backup_on(target.clone(), verified).unwrap();
    assert!(backup.verified.is_some_and(|report| report.is_clean()));
    let copy = self::stage(&target.fork()).unwrap();
    assert_eq!((now(&copy), keys(&copy.rooms.at(id, &last.undo).unwrap())), (MANY, 2));
    assert_eq!(code(copy.rooms.restore(stage.id("other"), &many)), "bookmark.foreign");
}

#[test]
fn more_alarms_than_a_commit_may_have_are_refused_and_nothing_is_changed() {
    let disk = SimDisk::new(9);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    // Together beyond the 32 MiB of a commit.
    for half in 0..2 {
        let mut turn = lobby.turn();
        for number in 0..17_000 {
            let name = format!("{half}{number:0999}");
            turn.set_named_alarm(&name, Timestamp(u64::MAX / 4)).unwrap();
        }
        turn.put("half", [half]).unwrap();
        turn.commit().unwrap().wait().unwrap();
    }
    let full = lobby.current_bookmark().unwrap();
    let mut turn = lobby.turn();
    turn.delete_all().unwrap();
    turn.commit().unwrap().wait().unwrap();
    let (names, last) = (disk.names(), store.durable());
    let with_alarms = RestoreOptions::new().alarms(true);
    assert_eq!(code(lobby.restore_with(&full, with_alarms)), "restore.large");
    assert_eq!((disk.names(), store.durable()), (names, last));
    assert_eq!(lobby.get("half").unwrap(), None);
    // Without them it goes.
    lobby.restore(&full).unwrap().commit.wait().unwrap();
    assert_eq!(lobby.get("half").unwrap().as_deref(), Some(&[1][..]));
}

#[test]
fn a_scrub_reads_adopted_pages_that_no_checkpoint_has_covered() {
    let disk = SimDisk::new(5);
    let first = stage(&disk).unwrap();
    let many = changed(&first);
    let before = pages_and_runs(&disk);
    first.rooms.restore(first.id("lobby"), &many).unwrap().commit.wait().unwrap();
    let adopted: Vec<_> = pages_and_runs(&disk).difference(&before).copied().collect();
    drop(first);
    let base = disk.kill();
    let whole = stage(&base.fork()).unwrap().store.scrub().unwrap();
    assert!(whole.damages.is_empty(), "{whole:?}");
    let (mut left, mut told) = (0, 0);
    for name in adopted {
        let disk = base.fork();
        let stage = stage(&disk).unwrap();
        disk.flip_bit(name, 4_196 * 8).unwrap();
        let report = stage.store.scrub().unwrap();
        assert!(report.has_losses() && report.files > whole.files / 2, "{name}: {report:?}");
        for damaged in &report.damages {
            assert_eq!(damaged.error.place().unwrap().file, name.to_string());
            match &damaged.fate {
                Fate::Left(why) => {
                    assert_eq!(
                        (why.code(), name.folder()),
                        ("rebuild.uncovered", Folder::Segments)
                    );
                    assert_eq!(damaged.address.unwrap().id, stage.id("lobby").short());
                    left += 1;
                }
                Fate::Told => {
                    assert_eq!(name.folder(), Folder::Runs);
                    told += 1;
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    assert!(left > 0 && told > 0, "{left} left, {told} told");
}

#[test]
fn that_a_page_was_lost_where_it_was_adopted_is_no_fault_of_history() {
    let disk = SimDisk::new(6);
    let first = stage(&disk).unwrap();
    let many = changed(&first);
    let before = pages_and_runs(&disk);
    first.rooms.restore(first.id("lobby"), &many).unwrap().commit.wait().unwrap();
    first.room("lobby").put("0000", "two").unwrap().wait().unwrap();
    first.store.steps().checkpoint().unwrap();
    let is_page = |name: &FileName| name.folder() == Folder::Segments;
    let adopted: Vec<_> = pages_and_runs(&disk).difference(&before).copied().collect();
    drop(first);
    let base = disk.kill();
    let mut lost = 0;
    for name in adopted.into_iter().filter(is_page) {
        let disk = base.fork();
        disk.flip_bit(name, 4_196 * 8).unwrap();
        let stage = stage(&disk).unwrap();
        let now = stage.rooms.snapshot(stage.id("lobby")).unwrap();
        lost += usize::from(now.list(ListOptions::new()).unwrap().any(|entry| entry.is_err()));
        drop(now);
        let mut lobby = stage.room("lobby");
        let mut turn = lobby.turn();
        turn.delete_all().unwrap();
        turn.commit_durable().unwrap();
        stage.store.steps().checkpoint().unwrap();
        let report = verify(disk.clone());
        assert!(report.is_clean(), "{name}: {:?}", report.faults);
    }
    assert!(lost > 0, "{lost}");
}

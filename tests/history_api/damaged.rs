//! Files of history that are damaged before they are written anew.

use super::stage::{Stage, options};
use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::inspect::{Scope, verify};
use dostore::names::FileName;
use dostore::store::list::ListOptions;
use std::time::Duration;

const KEYS: u32 = 80;

/// Half of it is random: a block of history has several bundles then, which end where they will.
fn value(key: u32, round: u64) -> Vec<u8> {
    let mut state = (u64::from(key) + 1) * 0x9E37_79B9 + round;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    random.take(1_500).chain(std::iter::repeat_n(7, 1_500)).collect()
}

fn fill(stage: &Stage, round: u64) {
    let mut large = stage.room("large");
    let mut turn = large.turn();
    for key in 0..KEYS {
        turn.put(format!("{key:04}"), value(key, round)).unwrap();
    }
    turn.commit_durable().unwrap();
    drop(large);
    stage.room("other").put("n", round.to_le_bytes()).unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
}

fn stage(disk: &SimDisk) -> Stage {
    // Each checkpoint ends an epoch, so that it keeps the pages that it replaces.
    let options = options().epoch(Duration::ZERO, 0, Duration::from_hours(24));
    let store = options.wal_file_bytes(4 << 20).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    Stage { disk: disk.clone(), store, rooms }
}

fn history(disk: &SimDisk) -> Vec<FileName> {
    let manifest = dostore::manifest::read(disk).unwrap().unwrap();
    manifest.history.iter().map(|file| FileName::Run(file.facts.number)).collect()
}

/// A large object whose pages were written twice, and another one that was purged; both have
/// something in the last file of history.
fn purged() -> (SimDisk, Bookmark) {
    let stage = stage(&SimDisk::new(1));
    fill(&stage, 1);
    // In the epoch that is open then, only pages that are given up say what was before.
    stage.room("other").put("n", "between").unwrap().wait().unwrap();
    let first = stage.rooms.current_bookmark(stage.id("large")).unwrap();
    fill(&stage, 2);
    stage.rooms.purge(stage.id("other")).unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    (stage.disk.kill(), first)
}

#[test]
fn g7_history_with_a_damaged_block_anywhere_is_written_anew_without_it() {
    let (base, first) = purged();
    let files = history(&base);
    let longest = files.iter().max_by_key(|name| base.file_bytes(**name).unwrap().len());
    let name = *longest.unwrap();
    let bytes = base.file_bytes(name).unwrap().len() as u64;
    let (mut hurt, mut unhurt) = (0, 0);
    for at in (4096..bytes).step_by(12 << 10) {
        let disk = base.fork();
        disk.flip_bit(name, at * 8).unwrap();
        let stage = stage(&disk);
        let before = history(&disk);
        // Where the file cannot even be opened it stays as it is.
        let erased = stage.store.steps().erase();
        if erased.is_ok() {
            assert!(!history(&disk).contains(&name), "byte {at}: {before:?}");
        }
        let report = verify(disk.clone());
        assert!(report.faults.iter().all(|fault| fault.scope != Scope::Live), "{report}");
        if erased.is_ok() {
            let told = |what: &str| what.contains("lost") || what.contains("loss");
            assert!(report.faults.iter().all(|fault| told(&fault.what)), "byte {at}: {report}");
        }
        let past = stage
            .rooms
            .at(stage.id("large"), &first)
            .and_then(|past| past.list(ListOptions::new())?.collect::<Result<Vec<_>, _>>());
        match past {
            Ok(entries) => {
                assert_eq!(entries.len(), KEYS as usize, "byte {at}");
                for (key, (_, found)) in (0..).zip(&entries) {
                    assert_eq!(found[..], value(key, 1)[..], "byte {at}, key {key}");
                }
                unhurt += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error:?}");
                hurt += 1;
            }
        }
        // The store goes on.
        stage.room("large").put("0000", "3").unwrap().wait().unwrap();
    }
    assert!(hurt >= 5, "{hurt} hurt, {unhurt} not");
}

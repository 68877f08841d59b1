//! Which files that no manifest names any more stay, and for whom.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::sim::{Fault, SimDisk};
use dostore::engine::publish::named_files;
use dostore::manifest;
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use std::collections::BTreeSet;
use std::time::Duration;

const KEYS: u32 = 40;

struct Stage {
    disk: SimDisk,
    store: Store,
    rooms: Namespace,
}

impl Stage {
    fn new() -> Self {
        let disk = SimDisk::new(1);
        let options = Store::options().threads(false).wal_file_bytes(64 << 10).page_bytes(512);
        let options = options.segment_bytes(16 << 10).adopt_operations(0).pool_files(0);
        let store = options.open_on(disk.clone()).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        Self { disk, store, rooms }
    }

    /// Every key gets a new value, which goes into pages; and files are rewritten again and again.
    fn rewrite(&self, lobby: &mut Object, rounds: u8) {
        for round in 0..rounds {
            put(lobby, round);
            self.store.steps().checkpoint().unwrap();
            self.store.steps().clean().unwrap();
            self.store.steps().merge().unwrap();
            self.disk.advance(Duration::from_hours(1));
            self.store.steps().remove_retired().unwrap();
        }
    }

    /// Files of the log, and others that the manifest does not name.
    fn not_named(&self) -> (usize, BTreeSet<FileName>) {
        let named = named_files(&manifest::read(&self.disk).unwrap().unwrap());
        let mut files = self.disk.names();
        files.retain(|name| name.number().is_some() && !named.contains(name));
        let (log, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|name| matches!(name, FileName::Wal(_)));
        (log.len(), others.into_iter().collect())
    }
}

fn put(lobby: &mut Object, value: u8) {
    let mut turn = lobby.turn();
    for key in 0..KEYS {
        turn.put(format!("{key}"), vec![value; 500]).unwrap();
    }
    turn.commit().unwrap().wait().unwrap();
}

#[test]
fn a_snapshot_keeps_the_files_that_it_may_read_and_no_other() {
    let stage = Stage::new();
    let mut lobby = stage.rooms.open_by_name("lobby").unwrap();
    stage.rewrite(&mut lobby, 3);
    let there: BTreeSet<_> = stage.disk.names().into_iter().collect();
    let snapshot = lobby.snapshot().unwrap();
    stage.rewrite(&mut lobby, 30);
    let (log, others) = stage.not_named();
    assert!(log <= 2, "{log} files of the log, which no snapshot reads");
    assert!(others.is_subset(&there), "{others:?} were made after the snapshot");
    assert!(!others.is_empty(), "the snapshot's own files");
    for key in 0..KEYS {
        assert_eq!(snapshot.get(format!("{key}")).unwrap().as_deref(), Some(&[2; 500][..]));
    }
    drop(snapshot);
    stage.store.steps().remove_retired().unwrap();
    assert_eq!(stage.not_named().1, BTreeSet::new());
    assert_eq!(stage.store.stats().unwrap().retired_bytes, 0);
}

#[test]
fn a_snapshot_keeps_pages_that_were_adopted_after_its_files() {
    let stage = Stage::new();
    let mut lobby = stage.rooms.open_by_name("lobby").unwrap();
    put(&mut lobby, 100);
    let then = lobby.current_bookmark().unwrap();
    put(&mut lobby, 101);
    stage.store.steps().checkpoint().unwrap();
    lobby.restore(&then).unwrap().commit.wait().unwrap();
    // Its files are from before the pages, which only its commits name.
    let snapshot = lobby.snapshot().unwrap();
    stage.rewrite(&mut lobby, 30);
    for key in 0..KEYS {
        assert_eq!(snapshot.get(format!("{key}")).unwrap().as_deref(), Some(&[100; 500][..]));
    }
    drop(snapshot);
    stage.store.steps().remove_retired().unwrap();
    assert_eq!(stage.not_named().1, BTreeSet::new());
}

#[test]
fn a_file_that_cannot_be_removed_keeps_no_other_and_is_tried_again() {
    let stage = Stage::new();
    let mut lobby = stage.rooms.open_by_name("lobby").unwrap();
    for round in 0..10 {
        put(&mut lobby, round);
        stage.store.steps().checkpoint().unwrap();
    }
    stage.store.steps().clean().unwrap();
    stage.disk.advance(Duration::from_hours(1));
    let (_, waiting) = stage.not_named();
    assert!(waiting.len() > 3, "{waiting:?}");
    stage.disk.fail_call(1, Fault::Io);
    assert_eq!(stage.store.steps().remove_retired().unwrap_err().code(), "io");
    let (log, others) = stage.not_named();
    assert!(log + others.len() <= 2, "{log} files of the log and {others:?} still wait");
    assert_eq!(stage.store.steps().remove_retired().unwrap(), 1);
    assert_eq!(stage.not_named().1, BTreeSet::new());
}

//! What happens to an object while pages are written that it is to adopt.
//!
//! They are written beside the object, so anything may happen to it meanwhile. Here it does so in
//! the middle of a call to the disk: no second thread, and the same each time.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::actor::Storage;
use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::ids::Timestamp;
use dostore::inspect::verify::verify;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::restore::{RestoreOptions, Restored};

struct Stage {
    disk: Interposed,
    store: Store,
    rooms: Namespace,
    /// When `lobby` had its keys.
    many: Bookmark,
}

const KEYS: u32 = 300;

fn open(disk: &Interposed) -> Store {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10).page_bytes(512);
    options.segment_bytes(16 << 10).adopt_operations(0).open_on(disk.clone()).unwrap()
}

fn put(object: &mut Object, keys: std::ops::Range<u32>, value: &str) -> Bookmark {
    let mut turn = object.turn();
    for key in keys {
        turn.put(format!("{key:04}"), value).unwrap();
    }
    let commit = turn.commit().unwrap();
    let bookmark = commit.bookmark();
    commit.wait().unwrap();
    bookmark
}

fn stage(seed: u64) -> Stage {
    let disk = Interposed::new(SimDisk::new(seed));
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    let many = put(&mut lobby, 0..KEYS, "then");
    put(&mut lobby, 0..KEYS, "now");
    drop(lobby);
    Stage { disk, store, rooms, many }
}

impl Stage {
    /// Restores `lobby`, and does something else in the middle of it.
    fn restore(
        &self,
        meanwhile: impl FnOnce(&Store, &Namespace) + Send + 'static,
    ) -> Result<Restored, Error> {
        let (store, rooms) = (self.store.clone(), self.rooms.clone());
        self.disk.before_next(Point::CreateRun, move |_| meanwhile(&store, &rooms));
        self.rooms.restore(self.rooms.id_from_name("lobby"), &self.many)
    }

    /// All keys have this value, now and after a crash and a checkpoint.
    fn check(self, value: &str) -> Namespace {
        let is_right = |rooms: &Namespace| {
            let lobby = rooms.snapshot(rooms.id_from_name("lobby")).unwrap();
            let entries = lobby.list(ListOptions::new()).unwrap();
            let values: Vec<_> = entries.map(|entry| entry.unwrap().1).collect();
            assert_eq!(values.len(), KEYS as usize);
            assert!(values.iter().all(|found| **found == *value.as_bytes()));
        };
        is_right(&self.rooms);
        drop((self.rooms, self.store));
        let disk = Interposed::new(self.disk.disk.power_cut());
        let store = open(&disk);
        let rooms = store.namespace("rooms").unwrap();
        is_right(&rooms);
        store.steps().checkpoint().unwrap();
        is_right(&rooms);
        assert_eq!(verify(disk.disk.clone()).faults, []);
        rooms
    }
}

#[test]
fn commits_that_come_meanwhile_are_restored_away_and_what_is_no_data_stays() {
    let stage = stage(1);
    let restored = stage.restore(|_, rooms| {
        let mut lobby = rooms.open_by_name("lobby").unwrap();
        put(&mut lobby, 100..KEYS + 100, "meanwhile");
        let mut turn = lobby.turn();
        turn.set_named_alarm("x", Timestamp(5)).unwrap().set_alarm(Timestamp(6)).unwrap();
        turn.commit_durable().unwrap();
        let storage = Storage::open(lobby);
        storage.put_attachment(b"socket", "meanwhile").unwrap();
        storage.sync().wait().unwrap();
    });
    let restored = restored.unwrap();
    restored.commit.wait().unwrap();
    let id = stage.rooms.id_from_name("lobby");
    let before = stage.rooms.at(id, &restored.undo).unwrap();
    assert_eq!(before.get("0350").unwrap().as_deref(), Some(&b"meanwhile"[..]));
    let rooms = stage.check("then");
    let lobby = rooms.open_by_name("lobby").unwrap();
    let alarms = [(None, Timestamp(6)), (Some("x".to_owned()), Timestamp(5))];
    assert_eq!(lobby.alarms().unwrap(), alarms);
    let storage = Storage::open(lobby);
    assert_eq!(storage.attachment(b"socket").unwrap().as_deref(), Some(&b"meanwhile"[..]));
}

#[test]
fn checkpoints_cleaning_and_merges_that_come_meanwhile_change_nothing() {
    let stage = stage(2);
    let restored = stage.restore(|store, rooms| {
        for round in 0..6 {
            put(&mut rooms.open_by_name("other").unwrap(), 0..20, &format!("{round}"));
            store.steps().checkpoint().unwrap();
            store.steps().clean().unwrap();
            store.steps().merge().unwrap();
            store.steps().remove_retired().unwrap();
        }
    });
    restored.unwrap().commit.wait().unwrap();
    stage.check("then");
}

#[test]
fn a_checkpoint_that_comes_while_adopted_pages_are_scrubbed_does_not_count_them_dead() {
    let stage = stage(6);
    stage.restore(|_, _| ()).unwrap().commit.wait().unwrap();
    let store = stage.store.clone();
    // Until then the directory names none of them.
    stage.disk.before_next(Point::OpenSegment, move |_| {
        assert!(store.steps().checkpoint().unwrap());
    });
    let report = stage.store.scrub().unwrap();
    assert!(report.damages.is_empty() && report.files > 1, "{report:?}");
    while stage.store.steps().clean().unwrap() {}
    stage.store.steps().remove_retired().unwrap();
    stage.check("then");
}

#[test]
fn another_restoration_that_comes_meanwhile_is_the_earlier_one() {
    let stage = stage(3);
    let many = stage.many;
    let restored = stage.restore(move |_, rooms| {
        let lobby = rooms.id_from_name("lobby");
        let restored = rooms.restore(lobby, &many).unwrap();
        rooms.restore(lobby, &restored.undo).unwrap().commit.wait().unwrap();
    });
    restored.unwrap().commit.wait().unwrap();
    stage.check("then");
}

#[test]
fn a_purge_that_comes_meanwhile_is_not_undone_and_no_file_is_left() {
    let stage = stage(4);
    let restored = stage.restore(|_, rooms| {
        rooms.purge(rooms.id_from_name("lobby")).unwrap().wait().unwrap();
    });
    assert_eq!(restored.unwrap_err().code(), "history.purged");
    assert_eq!(stage.rooms.objects().count(), 0);
    stage.store.steps().checkpoint().unwrap();
    let all: u64 = stage.disk.disk.names().iter().map(|name| length(&stage.disk.disk, *name)).sum();
    assert_eq!(stage.store.stats().unwrap().disk_bytes(), all);
    let names = stage.disk.disk.names();
    drop((stage.rooms, stage.store));
    let report = verify(stage.disk.disk.power_cut());
    assert_eq!((report.faults, report.notes), (vec![], vec![]), "{names:?}");
}

#[test]
fn a_fork_into_what_was_filled_meanwhile_is_refused() {
    let stage = stage(5);
    let rooms = stage.rooms.clone();
    stage.disk.before_next(Point::CreateRun, move |_| {
        put(&mut rooms.open_by_name("copy").unwrap(), 0..1, "first");
    });
    let (id, plain) = (stage.rooms.id_from_name("lobby"), RestoreOptions::new());
    let fork = || stage.rooms.fork_by_name(id, &stage.many, &stage.rooms, "copy", plain);
    assert_eq!(fork().unwrap_err().code(), "fork.occupied");
    stage.rooms.delete(stage.rooms.id_from_name("copy")).unwrap().wait().unwrap();
    // A purge of the source takes the fork with it.
    let rooms = stage.rooms.clone();
    stage.disk.before_next(Point::CreateRun, move |_| {
        rooms.purge(id).unwrap().wait().unwrap();
    });
    assert_eq!(fork().unwrap_err().code(), "history.purged");
    assert_eq!(stage.rooms.objects().count(), 0);
}

fn length(disk: &SimDisk, name: dostore::names::FileName) -> u64 {
    disk.file_bytes(name).map_or(0, |bytes| bytes.len() as u64)
}

/// Whether any file has a part of what the lobby had.
fn is_in_a_file(disk: &SimDisk, text: &str) -> bool {
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    disk.names().into_iter().any(|name| has(&disk.file_bytes(name).unwrap()))
}

#[test]
fn what_was_purged_is_not_called_erased_while_pages_of_it_are_written() {
    const SECRET: &str = "a secret that is purged";
    let disk = Interposed::new(SimDisk::new(6));
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    // No file but the log has it, so the view of what is restored keeps none.
    let many = put(&mut lobby, 0..KEYS, SECRET);
    put(&mut lobby, 0..KEYS, "now");
    drop(lobby);
    let id = rooms.id_from_name("lobby");
    let (meanwhile, hooked) = (store.clone(), rooms.clone());
    disk.before_next(Point::CreateRun, move |_| {
        hooked.purge(id).unwrap().wait().unwrap();
        for _ in 0..5 {
            assert!(!meanwhile.steps().erase().unwrap(), "pages of it are on their way");
        }
    });
    assert_eq!(rooms.restore(id, &many).unwrap_err().code(), "history.purged");
    assert!(store.steps().erase().unwrap());
    assert!(!is_in_a_file(&disk.disk, SECRET));
}

//! A purge, and a restoration or a fork of what it purges: each before the other, and each in the
//! middle of the other, with changes that one commit takes and with pages that are adopted.
//!
//! The other happens in the middle of a call to the disk: no second thread, and the same each time.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::inspect::verify::verify;
use dostore::store::Store;
use dostore::store::commit::Commit;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::restore::{RestoreOptions, Restored};

const KEYS: u32 = 40;

struct Stage {
    disk: Interposed,
    store: Store,
    rooms: Namespace,
    /// When `lobby` had values that are gone.
    then: Bookmark,
    point: Point,
}

fn open(disk: &Interposed, operations: usize) -> (Store, Namespace) {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10).page_bytes(512);
    let options = options.segment_bytes(16 << 10).cache_bytes(0).adopt_operations(operations);
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

fn put(object: &mut Object, value: &str) -> Bookmark {
    let mut turn = object.turn();
    for key in 0..KEYS {
        turn.put(format!("{key:04}"), value.repeat(10)).unwrap();
    }
    let commit = turn.commit().unwrap();
    let bookmark = commit.bookmark();
    commit.wait().unwrap();
    bookmark
}

impl Stage {
    /// `operations` is how many changes one commit may have: 0 for pages that are adopted.
    fn new(seed: u64, operations: usize) -> Self {
        let disk = Interposed::new(SimDisk::new(seed));
        let (store, rooms) = open(&disk, operations);
        // What every open reads lies in another file than the object.
        store.steps().checkpoint().unwrap();
        let mut lobby = rooms.open_by_name("lobby").unwrap();
        let then = put(&mut lobby, "then");
        store.steps().checkpoint().unwrap();
        drop((lobby, rooms, store));
        let disk = Interposed::new(disk.disk.kill());
        let (store, rooms) = open(&disk, operations);
        put(&mut rooms.open_by_name("lobby").unwrap(), "now");
        // The first is when the state wanted is read, the second when it is written.
        let point = if operations > 0 { Point::OpenSegment } else { Point::CreateRun };
        Self { disk, store, rooms, then, point }
    }

    fn restore(&self) -> Result<Restored, Error> {
        self.rooms.restore(self.rooms.id_from_name("lobby"), &self.then)
    }

    fn fork(&self) -> Result<Commit, Error> {
        let (lobby, plain) = (self.rooms.id_from_name("lobby"), RestoreOptions::new());
        self.rooms.fork_by_name(lobby, &self.then, &self.rooms, "copy", plain)
    }

    fn purge(&self, name: &str) {
        self.rooms.purge(self.rooms.id_from_name(name)).unwrap().wait().unwrap();
    }

    /// Purges an object in the middle of what comes next.
    fn purge_meanwhile(&self, name: &'static str) {
        let rooms = self.rooms.clone();
        self.disk.before_next(self.point, move |_| {
            rooms.purge(rooms.id_from_name(name)).unwrap().wait().unwrap();
        });
    }

    fn keys(rooms: &Namespace, name: &str) -> usize {
        let view = rooms.snapshot(rooms.id_from_name(name)).unwrap();
        view.list(ListOptions::new()).unwrap().count()
    }

    /// How many keys both objects have: now, after a power cut, when pages have them, and when
    /// what was purged is erased.
    fn check(self, lobby: usize, copy: usize) {
        let is_right = |rooms: &Namespace, when: &str| {
            let found = ["lobby", "copy"].map(|name| Self::keys(rooms, name));
            assert_eq!(found, [lobby, copy], "{when}");
        };
        is_right(&self.rooms, "now");
        drop((self.rooms, self.store));
        let disk = Interposed::new(self.disk.disk.power_cut());
        let (store, rooms) = open(&disk, 0);
        is_right(&rooms, "after a power cut");
        store.steps().checkpoint().unwrap();
        is_right(&rooms, "in pages");
        while store.steps().erase().unwrap() {}
        is_right(&rooms, "when the rest is erased");
        let gone = rooms.at(rooms.id_from_name("lobby"), &self.then);
        assert_eq!(gone.unwrap_err().code(), "history.purged");
        assert!(verify(disk.disk.clone()).is_clean());
    }
}

const WAYS: [usize; 2] = [1_000, 0];

#[test]
fn a_purge_before_a_restoration_and_a_fork_has_them_refused() {
    for operations in WAYS {
        let stage = Stage::new(1, operations);
        stage.purge("lobby");
        assert_eq!(stage.restore().unwrap_err().code(), "history.purged");
        assert_eq!(stage.fork().unwrap_err().code(), "history.purged");
        stage.check(0, 0);
    }
}

#[test]
fn a_purge_behind_a_restoration_takes_it_and_leaves_a_fork() {
    let keys = KEYS as usize;
    for operations in WAYS {
        let stage = Stage::new(2, operations);
        stage.fork().unwrap().wait().unwrap();
        let restored = stage.restore().unwrap();
        let after = restored.commit.bookmark();
        restored.commit.detach();
        stage.purge("lobby");
        for moment in [after, restored.undo] {
            let gone = stage.rooms.restore(stage.rooms.id_from_name("lobby"), &moment);
            assert_eq!(gone.unwrap_err().code(), "history.purged");
        }
        stage.check(0, keys);
    }
}

#[test]
fn a_purge_that_overtakes_a_restoration_has_it_refused() {
    for operations in WAYS {
        let stage = Stage::new(3, operations);
        stage.purge_meanwhile("lobby");
        assert_eq!(stage.restore().unwrap_err().code(), "history.purged");
        stage.check(0, 0);
    }
}

#[test]
fn a_purge_that_overtakes_a_fork_has_it_refused_and_takes_nothing_else() {
    for operations in WAYS {
        let stage = Stage::new(4, operations);
        let own = put(&mut stage.rooms.open_by_name("copy").unwrap(), "own");
        let copy = stage.rooms.id_from_name("copy");
        stage.rooms.delete(copy).unwrap().wait().unwrap();
        stage.purge_meanwhile("lobby");
        assert_eq!(stage.fork().unwrap_err().code(), "history.purged");
        let past = stage.rooms.at(copy, &own).unwrap();
        assert_eq!(past.list(ListOptions::new()).unwrap().count(), KEYS as usize);
        drop(past);
        stage.check(0, 0);
    }
}

#[test]
fn a_purge_of_what_is_about_to_be_a_fork_comes_before_the_fork() {
    let keys = KEYS as usize;
    for operations in WAYS {
        let stage = Stage::new(5, operations);
        stage.purge_meanwhile("copy");
        stage.fork().unwrap().wait().unwrap();
        let copy = stage.rooms.snapshot(stage.rooms.id_from_name("copy")).unwrap();
        let first = copy.list(ListOptions::new()).unwrap().next().unwrap().unwrap();
        assert_eq!(*first.1, *"then".repeat(10).as_bytes());
        drop(copy);
        stage.purge("lobby");
        stage.check(0, keys);
    }
}

#[test]
fn a_restoration_that_overtakes_a_purge_and_its_erasing_brings_nothing_back() {
    for operations in WAYS {
        let stage = Stage::new(6, operations);
        let (store, rooms) = (stage.store.clone(), stage.rooms.clone());
        stage.disk.before_next(stage.point, move |_| {
            rooms.purge(rooms.id_from_name("lobby")).unwrap().wait().unwrap();
            // The view of the state wanted keeps some files: what is left goes later.
            store.steps().erase().unwrap();
        });
        assert_eq!(stage.restore().unwrap_err().code(), "history.purged");
        stage.check(0, 0);
    }
}

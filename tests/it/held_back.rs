//! Commits that are held back while a checkpoint takes the pressure away.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::Clock;
use dostore::disk::sim::SimDisk;
use dostore::store::Store;
use dostore::store::object::Object;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Far more than all of it takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A clock that stands: who waits for time to pass waits until somebody is in a hurry.
#[derive(Debug)]
struct Halting {
    of: Arc<dyn Clock>,
    is_standing: AtomicBool,
    told: Mutex<Sender<()>>,
}

impl Clock for Halting {
    fn wall_micros(&self) -> u64 {
        self.of.wall_micros()
    }

    fn uptime(&self) -> Duration {
        self.of.uptime()
    }

    fn sleep(&self, duration: Duration) {
        if self.is_standing.load(Ordering::Relaxed) {
            let _ = self.told.lock().unwrap().send(());
            std::thread::yield_now();
        } else {
            self.of.sleep(duration);
        }
    }
}

struct Stage {
    disk: Interposed,
    clock: Arc<Halting>,
    /// Somebody is held back.
    held: Receiver<()>,
    store: Store,
}

impl Stage {
    fn new() -> Self {
        let disk = SimDisk::new(1);
        let (told, held) = mpsc::channel();
        let (of, told) = (dostore::disk::ReadDisk::clock(&disk), Mutex::new(told));
        let clock = Arc::new(Halting { of, is_standing: AtomicBool::new(false), told });
        let disk = Interposed::new(disk).with_clock(clock.clone());
        // A budget that any commit is far beyond.
        let options = Store::options().threads(false).wal_file_bytes(64 << 10).dirty_bytes(100);
        let store = options.background_bytes_per_second(0).open_on(disk.clone()).unwrap();
        Self { disk, clock, held, store }
    }

    fn room(&self, name: &str) -> Object {
        let mut room = self.store.namespace("rooms").unwrap().open_by_name(name).unwrap();
        room.put("key", [0; 1000]).unwrap().wait().unwrap();
        room
    }

    /// A checkpoint ends although `held` commits more than many groups hold, and is held back in
    /// each of them with its object and the log's writer; it is so already `before` the checkpoint,
    /// or when only the manifest is still to be written.
    #[track_caller]
    fn check(self, mut held: Object, is_before: bool) {
        self.clock.is_standing.store(true, Ordering::Relaxed);
        let (tell, done) = mpsc::channel();
        let tell_checkpoint = tell.clone();
        let begin = move || {
            let commit = move || tell.send(held.put("long", vec![1; 2 << 20]).is_ok()).unwrap();
            std::thread::Builder::new().spawn(commit).unwrap();
            self.held.recv_timeout(PATIENCE).expect("nobody is held back");
        };
        if is_before {
            begin();
        } else {
            self.disk.before_next(Point::CreateManifest, move |_| begin());
        }
        // Not scoped: a checkpoint that waits for ever must not keep the test from failing.
        let store = self.store.clone();
        let checkpoint = move || tell_checkpoint.send(store.steps().checkpoint().unwrap()).unwrap();
        std::thread::Builder::new().spawn(checkpoint).unwrap();
        assert!(done.recv_timeout(PATIENCE).expect("the checkpoint waits for whom it frees"));
        // The commit may still be held back, with nobody in a hurry.
        self.clock.is_standing.store(false, Ordering::Relaxed);
        assert!(done.recv_timeout(PATIENCE).unwrap());
    }
}

#[test]
fn a_checkpoint_waits_for_no_commit_that_is_held_back_with_an_object_of_its_own() {
    let stage = Stage::new();
    let room = stage.room("room");
    stage.check(room, true);
}

#[test]
fn a_checkpoint_waits_for_no_commit_that_is_held_back_with_the_log() {
    let stage = Stage::new();
    let clean = stage.room("clean");
    stage.store.steps().checkpoint().unwrap();
    stage.room("dirty");
    stage.check(clean, true);
}

#[test]
fn a_checkpoint_lets_go_of_layers_while_commits_are_held_back() {
    let stage = Stage::new();
    let room = stage.room("room");
    stage.check(room, false);
}

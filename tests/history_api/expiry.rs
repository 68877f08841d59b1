//! Expiry of history on a clock that the tests move.

use super::stage::{code, options};
use dostore::bookmark::Bookmark;
use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::retention::Retention;
use dostore::store::Store;
use dostore::store::namespace::{Namespace, NamespaceOptions};
use dostore::store::object::Object;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// Every checkpoint ends an epoch.
fn open(disk: &SimDisk) -> Store {
    let options = options().epoch(Duration::ZERO, 0, DAY).retire_after(Duration::ZERO);
    options.retention(Retention::days(3)).open_on(disk.clone()).unwrap()
}

struct Scene {
    disk: SimDisk,
    store: Store,
    rooms: Namespace,
    moments: Vec<(Bookmark, u8)>,
}

impl Scene {
    fn new(seed: u64, retention: Option<Retention>) -> Self {
        let disk = SimDisk::new(seed);
        let store = open(&disk);
        let settings = NamespaceOptions::new();
        let settings = retention.map_or(settings.clone(), |own| settings.retention(own));
        let rooms = store.namespace_with("rooms", settings).unwrap();
        Self { disk, store, rooms, moments: Vec::new() }
    }

    fn lobby(&self) -> Object {
        self.rooms.open_by_name("lobby").unwrap()
    }

    /// A commit, a checkpoint, a day.
    fn day(&mut self) {
        let number = u8::try_from(self.moments.len()).unwrap();
        let commit = self.lobby().put("n", [number]).unwrap();
        self.moments.push((commit.bookmark(), number));
        commit.wait().unwrap();
        self.store.steps().checkpoint().unwrap();
        self.disk.advance(DAY);
    }

    /// Days in which others commit, and what is old enough goes.
    fn age(&self, days: u8) {
        for day in 0..days {
            let mut other = self.rooms.open_by_name("other").unwrap();
            other.put("n", [day]).unwrap().wait().unwrap();
            self.store.steps().checkpoint().unwrap();
            self.disk.advance(DAY);
            self.store.steps().expire().unwrap();
        }
    }

    /// Which moments can be read; each of them is right, and each other one is refused.
    fn readable(&self) -> Vec<u8> {
        let lobby = self.lobby();
        let mut readable = Vec::new();
        for (bookmark, number) in &self.moments {
            match lobby.at(bookmark) {
                Ok(view) => {
                    assert_eq!(view.get("n").unwrap().as_deref(), Some(&[*number][..]));
                    readable.push(*number);
                }
                Err(error) => assert_eq!(error.code(), "history.expired"),
            }
        }
        readable
    }

    fn files(&self) -> usize {
        self.store.steps().remove_retired().unwrap();
        let runs = dostore::names::Folder::Runs;
        self.disk.list(runs).unwrap().len()
    }
}

#[test]
fn g22_what_is_older_than_its_retention_goes_and_nothing_else() {
    let mut scene = Scene::new(1, None);
    for day in 0..12_u8 {
        scene.day();
        let had = scene.readable();
        let removed = scene.store.steps().expire().unwrap();
        let has = scene.readable();
        assert!(removed || had == has, "day {day}");
        // What is three days old or younger is there; what is older than that by more than the
        // epoch that it is in is not. The end of the last epoch that went can be read still.
        let (kept, gone) = ((day + 1).saturating_sub(3), (day + 1).saturating_sub(5));
        assert!(has.iter().copied().eq(*has.first().unwrap()..=day), "day {day}");
        assert!((gone..=kept).contains(&has[0]), "day {day}: {has:?}");
    }
    assert!(scene.store.stats().unwrap().expired_files >= 6);
    let from = scene.rooms.history_from().unwrap();
    let lobby = scene.lobby();
    assert!(lobby.history(..).unwrap().next().unwrap().unwrap().bookmark.lsn() > from);
    assert_eq!(code(lobby.bookmark_at(std::time::UNIX_EPOCH)), "history.expired");
    // What is refused says from when on there is history, and that is so to the microsecond.
    let told = lobby.at(&scene.moments[0].0).unwrap_err().to_string();
    assert!(told.contains(&format!("from commit {from} on")), "{told}");
    let (_, told) = told.split_once("made at ").unwrap();
    let micros = told.split(' ').next().unwrap().parse().unwrap();
    let at = |micros| std::time::UNIX_EPOCH + Duration::from_micros(micros);
    let first = lobby.bookmark_at(at(micros)).unwrap();
    assert!(first.lsn() >= from && lobby.at(&first).is_ok());
    assert_eq!(code(lobby.bookmark_at(at(micros - 1))), "history.expired");
    drop(lobby);
    // The horizon is durable.
    let has = scene.readable();
    scene.disk = scene.disk.power_cut();
    scene.store = open(&scene.disk);
    scene.rooms = scene.store.namespace("rooms").unwrap();
    assert_eq!(scene.readable(), has);
}

#[test]
fn a_clock_that_jumps_ahead_erases_nothing() {
    let mut scene = Scene::new(2, None);
    (0..3).for_each(|_| scene.day());
    scene.store.steps().expire().unwrap();
    let has = scene.readable();
    let wall = scene.disk.clock().wall_micros();
    scene.disk.set_wall(wall + 10 * 365 * 86_400_000_000);
    assert!(!scene.store.steps().expire().unwrap());
    assert_eq!(scene.store.stats().unwrap().expiry_holds, 1);
    scene.disk.advance(DAY / 2);
    assert!(!scene.store.steps().expire().unwrap());
    assert_eq!((scene.readable(), scene.store.stats().unwrap().expiry_holds), (has, 2));
}

#[test]
fn a_horizon_moves_only_so_fast() {
    let mut scene = Scene::new(3, None);
    (0..4).for_each(|_| scene.day());
    let has = scene.readable();
    // Closed for a year: nobody was there to see the time pass.
    scene.disk.advance(365 * DAY);
    scene.disk = scene.disk.kill();
    scene.store = open(&scene.disk);
    scene.rooms = scene.store.namespace("rooms").unwrap();
    assert!(!scene.store.steps().expire().unwrap());
    // Half a day may go: that is the first epoch, whose end can be read still.
    scene.disk.advance(Duration::from_mins(30));
    assert!(scene.store.steps().expire().unwrap());
    assert_eq!(scene.readable(), has);
    // Two days and a half.
    scene.disk.advance(Duration::from_hours(2));
    assert!(scene.store.steps().expire().unwrap());
    assert_eq!(scene.readable(), [2, 3]);
}

#[test]
fn a_store_that_is_open_for_minutes_a_week_expires_as_well() {
    let mut scene = Scene::new(7, None);
    (0..4).for_each(|_| scene.day());
    let mut weeks = 0;
    while scene.readable().contains(&1) {
        assert!(weeks < 20, "two days are two hours of uptime");
        // Some weeks end with a crash, which takes what was not published.
        if weeks % 3 > 0 {
            scene.store.clone().close().unwrap();
        }
        scene.disk.advance(7 * DAY);
        scene.disk = scene.disk.kill();
        scene.store = open(&scene.disk);
        scene.rooms = scene.store.namespace("rooms").unwrap();
        for _ in 0..2 {
            scene.store.steps().expire().unwrap();
            scene.disk.advance(Duration::from_mins(10));
        }
        weeks += 1;
    }
    assert!(weeks > 9, "ten minutes a week are two days of history in twelve weeks");
}

#[test]
fn files_of_a_namespace_that_is_switched_off_go() {
    let mut scene = Scene::new(4, Some(Retention::days(300)));
    (0..4).for_each(|_| scene.day());
    scene.store.steps().expire().unwrap();
    let before = scene.files();
    scene.rooms.set_retention(Some(Retention::Off)).unwrap();
    scene.store.steps().checkpoint().unwrap();
    assert!(scene.store.steps().expire().unwrap());
    assert!(scene.files() + 3 <= before + 1);
    assert_eq!(code(scene.lobby().at(&scene.moments[0].0)), "history.off");
    assert!(!scene.store.steps().expire().unwrap());
}

#[test]
fn a_bound_in_bytes_closes_the_epoch_when_the_rest_is_gone() {
    let bound = Retention::Keep { age: 300 * DAY, bytes: Some(0) };
    let mut scene = Scene::new(5, Some(bound));
    (0..3).for_each(|_| scene.day());
    assert!(scene.store.steps().expire().unwrap());
    assert_eq!(scene.readable(), [2]);
    // Without a bound all would be there.
    let mut scene = Scene::new(5, Some(Retention::days(300)));
    (0..3).for_each(|_| scene.day());
    assert!(!scene.store.steps().expire().unwrap());
    assert_eq!(scene.readable(), [0, 1, 2]);
}

#[test]
fn a_full_file_system_takes_closed_epochs() {
    let mut scene = Scene::new(6, Some(Retention::days(300)));
    (0..3).for_each(|_| scene.day());
    assert!(!scene.store.steps().expire().unwrap());
    let used = scene.store.stats().unwrap().disk_bytes();
    scene.disk.set_free_bytes(used / 10);
    assert!(scene.store.steps().expire().unwrap());
    assert!(scene.store.stats().unwrap().expired_files > 0);
}

#[test]
fn a_bound_in_bytes_holds_also_where_the_file_system_is_full() {
    let bound = Retention::Keep { age: 300 * DAY, bytes: Some(1 << 30) };
    let mut scene = Scene::new(6, Some(bound));
    (0..3).for_each(|_| scene.day());
    scene.disk.set_free_bytes(scene.store.stats().unwrap().disk_bytes() / 10);
    scene.store.steps().expire().unwrap();
    assert_eq!(scene.readable(), [0, 1, 2]);
}

#[test]
fn epochs_end_by_uptime_while_the_clock_is_behind_what_was_committed() {
    let disk = SimDisk::new(30);
    let epoch = |disk: &SimDisk| dostore::manifest::read(disk).unwrap().unwrap().epoch;
    let store = options().epoch(DAY, 0, DAY).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let put = |value: u8| {
        rooms.open_by_name("lobby").unwrap().put("n", [value]).unwrap().wait().unwrap();
        store.steps().checkpoint().unwrap();
    };
    // One commit of another age, until somebody sets the clock right.
    let wall = disk.clock().wall_micros();
    disk.set_wall(wall + 2_000 * 86_400_000_000);
    put(0);
    disk.set_wall(wall);
    let before = epoch(&disk);
    for value in 1..20 {
        put(value);
        disk.advance(DAY / 4);
    }
    let ended = epoch(&disk) - before;
    assert!((3..=5).contains(&ended), "{ended} epochs ended in five days");
}

#[test]
fn a_wish_that_expires_before_the_next_open_is_told_until_it_is_taken_back() {
    let mut scene = Scene::new(10, None);
    scene.day();
    scene.day();
    let mut lobby = scene.lobby();
    lobby.restore_on_next_open(&scene.moments[0].0).unwrap().0.wait().unwrap();
    let id = lobby.id();
    drop(lobby);
    scene.age(9);
    for _ in 0..2 {
        assert_eq!(code(scene.rooms.open_by_name("lobby")), "history.expired");
    }
    scene.rooms.cancel_restore(id).unwrap().expect("it waits still").wait().unwrap();
    assert_eq!(scene.lobby().get("n").unwrap().as_deref(), Some(&[1][..]));
}

#[test]
fn what_an_object_is_now_can_be_read_and_restored_to_at_any_age() {
    let mut scene = Scene::new(11, None);
    scene.day();
    let (old, id) = (scene.moments[0].0, scene.lobby().id());
    scene.age(9);
    assert!(scene.rooms.history_from().unwrap() > old.lsn());
    let view = scene.rooms.at(id, &old).unwrap();
    assert_eq!(view.get("n").unwrap().as_deref(), Some(&[0][..]));
    scene.rooms.restore(id, &old).unwrap().commit.wait().unwrap();
    assert_eq!(scene.lobby().get("n").unwrap().as_deref(), Some(&[0][..]));
    scene.lobby().put("n", [1]).unwrap().wait().unwrap();
    assert_eq!(code(scene.rooms.at(id, &old)), "history.expired");
}

//! Random lives of a few objects against a model: every moment that was ever bookmarked is read
//! again, restored to, forked and undone, with crashes at any call in between.
//!
//! Invariants:
//!   * A seed makes the same life.

#[path = "../it/chance.rs"]
#[expect(dead_code, reason = "another test uses the rest")]
mod chance;

use super::stage::{Stage, options};
use chance::Chance;
use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind};
use dostore::inspect::verify::verify;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::restore::RestoreOptions;
use dostore::store::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::time::Duration;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Outcome<T> = Result<T, Error>;

const OBJECTS: usize = 3;

fn all(snapshot: &Snapshot) -> Outcome<Map> {
    let entries = snapshot.list(ListOptions::new())?;
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

/// The moments of one object, oldest first, and whether a crash may still take each.
#[derive(Default)]
struct Past {
    moments: Vec<(Bookmark, Map)>,
}

impl Past {
    fn now(&self) -> Map {
        self.moments.last().map(|(_, map)| map.clone()).unwrap_or_default()
    }
}

struct World {
    chance: Chance,
    disk: SimDisk,
    pasts: [Past; OBJECTS],
    /// Bookmarks that a crash took.
    lost: Vec<(usize, Bookmark)>,
    compared: u64,
    restored: u64,
    crashes: u64,
    /// Moments that history did not hold.
    gaps: u64,
}

/// A life of the store, until it is closed or something fails.
struct Life<'w> {
    world: &'w mut World,
    store: Store,
    rooms: Namespace,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed),
            disk: SimDisk::new(seed),
            pasts: Default::default(),
            lost: Vec::new(),
            compared: 0,
            restored: 0,
            crashes: 0,
            gaps: 0,
        }
    }

    fn live(&mut self) {
        let steps = self.chance.between(5, 60);
        if self.chance.percent(60) {
            let calls = self.chance.between(1, 300);
            self.disk.crash_after(calls);
        }
        let ended = self.try_to_live(steps);
        assert!(ended.is_ok() || self.disk.is_off(), "{:?}", ended.err());
        self.crashes += u64::from(self.disk.is_off());
        self.disk = self.disk.power_cut();
        self.settle();
    }

    fn try_to_live(&mut self, steps: u64) -> Outcome<()> {
        // Epochs end every few checkpoints.
        let epoch = (Duration::ZERO, 2_000, Duration::from_hours(24));
        let options = options().page_bytes(512).segment_bytes(16 << 10);
        let options = options.epoch(epoch.0, epoch.1, epoch.2).history_state_bytes(256);
        // In some lives whatever differs is more than one commit may change.
        let options = options.adopt_operations(self.chance.pick(&[0, 3, 6, 65_536]));
        let store = options.open_on(self.disk.clone())?;
        let rooms = store.namespace("rooms")?;
        let mut life = Life { world: self, store, rooms };
        for _ in 0..steps {
            life.step()?;
        }
        Ok(())
    }

    /// After a crash: what is gone was not acknowledged, and what is left is a prefix.
    fn settle(&mut self) {
        let stage = Stage::on(self.disk.clone());
        for (index, past) in self.pasts.iter_mut().enumerate() {
            let id = stage.id(&format!("room {index}"));
            let is_lost = |bookmark: &Bookmark| {
                let read = stage.rooms.at(id, bookmark);
                read.is_err_and(|error| error.code() == "bookmark.lost")
            };
            let kept = past.moments.partition_point(|(bookmark, _)| !is_lost(bookmark));
            for (bookmark, _) in past.moments.drain(kept..) {
                assert!(is_lost(&bookmark), "a moment behind a lost one is there");
                self.lost.push((index, bookmark));
            }
            // A crash may have left what waits for an open; the model has none.
            if let Some(commit) = stage.rooms.cancel_restore(id).unwrap() {
                commit.wait().unwrap();
            }
            let now = all(&stage.rooms.snapshot(id).unwrap()).unwrap();
            assert_eq!(now, past.now(), "object {index}");
        }
        for (index, bookmark) in &self.lost {
            let id = stage.id(&format!("room {index}"));
            let error = stage.rooms.at(id, bookmark).unwrap_err();
            assert_eq!(error.code(), "bookmark.lost");
        }
        drop(stage.rooms);
        drop(stage.store);
        self.disk = stage.disk.kill();
        let report = verify(self.disk.clone());
        assert!(report.is_clean(), "{:?}", report.faults);
    }
}

impl Life<'_> {
    fn step(&mut self) -> Outcome<()> {
        let object = self.world.chance.index(OBJECTS);
        match self.world.chance.weighted(&[30, 12, 8, 6, 30, 4, 8, 2, 3, 3, 3, 1, 6]) {
            0 => self.turn(object),
            1 => self.restore(object),
            2 => self.restore_from_outside(object),
            3 => self.next_open(object),
            4 => self.read(object),
            5 => self.store.steps().write_group().map(drop),
            6 => self.store.steps().checkpoint().map(drop),
            7 => self.fork(object),
            8 => self.delete(object),
            9 => self.store.steps().clean().map(drop),
            10 => self.store.steps().merge().map(drop),
            11 => self.store.steps().expire().map(drop),
            _ => self.history(object),
        }
    }

    fn name(object: usize) -> String {
        format!("room {object}")
    }

    fn note(&mut self, object: usize, bookmark: Bookmark, map: Map) {
        self.world.pasts[object].moments.push((bookmark, map));
    }

    fn turn(&mut self, object: usize) -> Outcome<()> {
        let mut handle = self.rooms.open_by_name(&Self::name(object))?;
        let mut map = self.world.pasts[object].now();
        let mut turn = handle.turn();
        let chance = &mut self.world.chance;
        for _ in 0..chance.between(1, 6) {
            let key = vec![b'a' + u8::try_from(chance.below(20)).unwrap()];
            match chance.below(10) {
                0 => {
                    turn.delete_all()?;
                    map.clear();
                }
                1 | 2 => {
                    turn.delete(&key)?;
                    map.remove(&key);
                }
                3 => {
                    turn.delete_range(key.clone()..)?;
                    map.split_off(&key);
                }
                _ => {
                    let value = chance.next().to_le_bytes().to_vec();
                    turn.put(&key, &value)?;
                    map.insert(key, value);
                }
            }
        }
        let commit = turn.commit()?;
        let bookmark = commit.bookmark();
        self.note(object, bookmark, map);
        if self.world.chance.percent(50) {
            commit.wait()?;
        }
        Ok(())
    }

    /// A moment of an object that history should hold.
    fn pick(&mut self, object: usize) -> Option<(Bookmark, Map)> {
        let moments = &self.world.pasts[object].moments;
        let index = self.world.chance.index(moments.len());
        moments.get(index).cloned()
    }

    /// Whether the moment was there; counts what history does not hold.
    fn there<T>(&mut self, read: Outcome<T>) -> Outcome<Option<T>> {
        match read {
            Err(error) if error.kind() == ErrorKind::NotRetained => {
                eprintln!("{error}");
                self.world.gaps += 1;
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    fn read(&mut self, object: usize) -> Outcome<()> {
        let Some((bookmark, map)) = self.pick(object) else { return Ok(()) };
        let id = self.rooms.id_from_name(&Self::name(object));
        let read = self.rooms.at(id, &bookmark).and_then(|snapshot| all(&snapshot));
        if let Some(found) = self.there(read)? {
            assert_eq!(found, map, "object {object} at {bookmark}");
            self.world.compared += 1;
        }
        Ok(())
    }

    /// Every commit that is told is a moment of the model's, and the other way round.
    fn history(&mut self, object: usize) -> Outcome<()> {
        let id = self.rooms.id_from_name(&Self::name(object));
        let told = self.rooms.history(id, ..)?;
        let mut told = told.map(|entry| Ok(entry?.bookmark)).collect::<Outcome<Vec<_>>>()?;
        let mut known: Vec<_> =
            self.world.pasts[object].moments.iter().map(|(bookmark, _)| *bookmark).collect();
        known.dedup();
        // What was taken back after a crash is the model's doing and not in its moments.
        told.retain(|bookmark| known.contains(bookmark));
        assert_eq!(told, known);
        Ok(())
    }

    fn restore(&mut self, object: usize) -> Outcome<()> {
        let Some((bookmark, map)) = self.pick(object) else { return Ok(()) };
        let mut handle = self.rooms.open_by_name(&Self::name(object))?;
        let before = self.world.pasts[object].now();
        let restored = handle.restore(&bookmark);
        let Some(restored) = self.there(restored)? else { return Ok(()) };
        assert_eq!(all(&handle.snapshot_unconfirmed()?)?, map);
        self.note(object, restored.commit.bookmark(), map);
        self.world.restored += 1;
        if self.world.chance.percent(50) {
            restored.commit.wait()?;
        }
        if self.world.chance.percent(30) {
            let undone = handle.restore(&restored.undo)?;
            assert_eq!(all(&handle.snapshot_unconfirmed()?)?, before);
            self.note(object, undone.commit.bookmark(), before);
        }
        Ok(())
    }

    fn restore_from_outside(&mut self, object: usize) -> Outcome<()> {
        let Some((bookmark, map)) = self.pick(object) else { return Ok(()) };
        let handle = self.rooms.open_by_name(&Self::name(object))?;
        let restored = self.rooms.restore(handle.id(), &bookmark);
        let Some(restored) = self.there(restored)? else { return Ok(()) };
        self.note(object, restored.commit.bookmark(), map);
        assert!(handle.get("a").is_err());
        Ok(())
    }

    fn next_open(&mut self, object: usize) -> Outcome<()> {
        let Some((bookmark, map)) = self.pick(object) else { return Ok(()) };
        let mut handle = self.rooms.open_by_name(&Self::name(object))?;
        let now = self.world.pasts[object].now();
        let asked = handle.restore_on_next_open(&bookmark);
        let Some((commit, undo)) = self.there(asked)? else { return Ok(()) };
        // Nobody but the next open reads this moment, so the model needs no step in between.
        self.note(object, commit.bookmark(), now.clone());
        commit.wait()?;
        drop(handle);
        let opened = self.rooms.open_by_name(&Self::name(object));
        let Some(handle) = self.there(opened)? else {
            let id = self.rooms.id_from_name(&Self::name(object));
            self.rooms.cancel_restore(id)?.expect("it waits still").wait()?;
            return Ok(());
        };
        assert_eq!(all(&handle.snapshot_unconfirmed()?)?, map);
        self.note(object, handle.current_bookmark()?, map);
        let end = handle.at(&undo).and_then(|snapshot| all(&snapshot));
        if let Some(end) = self.there(end)? {
            assert_eq!(end, now);
        }
        Ok(())
    }

    fn fork(&mut self, object: usize) -> Outcome<()> {
        let Some((bookmark, map)) = self.pick(object) else { return Ok(()) };
        let (id, to) = (self.rooms.id_from_name(&Self::name(object)), self.rooms.random_id()?);
        let forked = self.rooms.fork(id, &bookmark, &self.rooms, to, RestoreOptions::new());
        let Some(commit) = self.there(forked)? else { return Ok(()) };
        commit.wait()?;
        assert_eq!(all(&self.rooms.snapshot(to)?)?, map);
        Ok(())
    }

    fn delete(&mut self, object: usize) -> Outcome<()> {
        let commit = self.rooms.delete(self.rooms.id_from_name(&Self::name(object)))?;
        self.note(object, commit.bookmark(), Map::new());
        Ok(())
    }
}

#[test]
fn g21_moments_restorations_and_forks_agree_with_a_model_through_crashes() {
    let (mut compared, mut restored, mut crashes) = (0, 0, 0);
    let seeds: u64 = std::env::var("DOSTORE_SEEDS").map_or(60, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let mut world = World::new(seed);
        for _ in 0..6 {
            world.live();
        }
        compared += world.compared;
        restored += world.restored;
        crashes += world.crashes;
        assert_eq!(world.gaps, 0, "seed {seed}: history did not hold what it should");
    }
    assert!(compared > seeds * 5 && restored > seeds * 3 && crashes > seeds, "too little happened");
}

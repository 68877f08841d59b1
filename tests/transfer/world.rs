//! A store on a simulated disk with random content, and a plain map that says what is in it.

use dostore::disk::sim::SimDisk;
use dostore::ids::Lsn;
use dostore::store::list::ListOptions;
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is in the objects of a store, by name of the object and then by key.
pub type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

pub const NAMESPACE: &str = "rooms";

pub fn options() -> Options {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10);
    options.segment_bytes(16 << 10).page_bytes(512).retire_after(Duration::ZERO)
}

pub fn open(disk: &SimDisk) -> Store {
    options().open_on(disk.clone()).unwrap()
}

/// Randomness from a seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }

    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// A store and what must be in it.
pub struct World {
    pub disk: SimDisk,
    pub store: Store,
    pub model: Model,
    pub last: Lsn,
    pub chance: Chance,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let store = open(&disk);
        store.namespace(NAMESPACE).unwrap();
        let (model, chance) = (Model::new(), Chance(seed * 2 + 1));
        Self { disk, store, model, last: Lsn::ZERO, chance }
    }

    /// Commits to random objects, durable when this returns.
    pub fn commit(&mut self, commits: usize) {
        let namespace = self.store.namespace(NAMESPACE).unwrap();
        for _ in 0..commits {
            let name = format!("room {}", self.chance.below(12));
            let content = self.model.entry(name.clone()).or_default();
            let mut object = namespace.open_by_name(&name).unwrap();
            let mut turn = object.turn();
            if self.chance.below(20) == 0 {
                turn.delete_all().unwrap();
                content.clear();
            }
            for _ in 0..=self.chance.below(8) {
                let key = format!("key {:02}", self.chance.below(40)).into_bytes();
                let bytes = 1 + self.chance.below(200);
                let value: Vec<u8> = (0..bytes).map(|_| self.chance.byte()).collect();
                turn.put(&key, &value).unwrap();
                content.insert(key, value);
            }
            self.last = turn.commit().unwrap().wait().unwrap().lsn;
        }
    }

    /// Background work, so that files come and go.
    pub fn work(&self) {
        let steps = self.store.steps();
        steps.checkpoint().unwrap();
        while steps.clean().unwrap() {}
        while steps.merge().unwrap() {}
        steps.remove_retired().unwrap();
    }
}

/// What is in a store's objects, read through its interface.
pub fn content(store: &Store) -> Model {
    let namespace = store.namespace(NAMESPACE).unwrap();
    let mut model = Model::new();
    for object in namespace.objects() {
        let object = object.unwrap();
        let snapshot = namespace.snapshot(object.id).unwrap();
        let entries = snapshot.list(ListOptions::new()).unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), value.to_vec())
        });
        model.insert(object.name.unwrap(), entries.collect());
    }
    model
}

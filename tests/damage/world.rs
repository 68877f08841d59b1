//! A small store on a simulated disk with something of everything, and what is in it.

use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::ids::Timestamp;
use dostore::store::namespace::Namespace;
use dostore::store::transfer::Form;
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::time::Duration;

/// What objects hold: the lines of an export, by namespace and id.
pub type Content = BTreeMap<(String, String), Vec<String>>;

/// Randomness from a seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }
}

pub fn options() -> Options {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(1);
    let options = options.epoch(Duration::from_secs(1), 1 << 10, Duration::from_hours(1));
    options.segment_bytes(24 << 10).page_bytes(1 << 10).retire_after(Duration::ZERO)
}

pub fn open(disk: &SimDisk) -> Store {
    options().open_on(disk.clone()).unwrap()
}

fn put(namespace: &Namespace, name: &str, keys: std::ops::Range<u32>, round: u32) {
    let mut object = namespace.open_by_name(name).unwrap();
    let mut turn = object.turn();
    for key in keys {
        let value = format!("{{\"room\":\"{name}\",\"round\":{round},\"topic\":\"of {key}\"}}");
        turn.put(format!("key/{key:04}"), value).unwrap();
    }
    turn.commit().unwrap().wait().unwrap();
}

fn round(store: &Store, round: u32) {
    let rooms = store.namespace("rooms").unwrap();
    let users = store.namespace_with_key("users", "a key of their own").unwrap();
    for number in (0..60).filter(|number| (number + round).is_multiple_of(4)) {
        put(&rooms, &format!("room {number}"), 0..1 + number % 7, round);
    }
    put(&users, "large", round * 20..round * 20 + 60, round);
    let mut nameless = users.open(users.random_id().unwrap()).unwrap();
    nameless.put("k", vec![round as u8; 300]).unwrap().wait().unwrap();
    drop(nameless);
    let alarms = store.namespace("alarms").unwrap();
    for number in 0..6 {
        let mut object = alarms.open_by_name(&format!("alarm {number}")).unwrap();
        let mut turn = object.turn();
        let at = Timestamp(4_000_000_000_000_000 + u64::from(round * 10 + number));
        turn.set_alarm(at).unwrap();
        turn.set_named_alarm(&format!("named {}", round % 3), at).unwrap();
        turn.commit().unwrap().wait().unwrap();
    }
    if round % 3 == 2 {
        rooms.delete(rooms.id_from_name(&format!("room {round}"))).unwrap().wait().unwrap();
    }
}

/// Several rounds with checkpoints, then a tail of the log, then the end of the process.
pub fn store(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let store = open(&disk);
    for number in 0..7 {
        round(&store, number);
        store.steps().checkpoint().unwrap();
        disk.advance(Duration::from_secs(100));
        if number == 3 {
            store.steps().clean().unwrap();
            while store.steps().merge().unwrap() {}
            disk.advance(Duration::from_secs(100));
            while store.steps().remove_retired().unwrap() > 0 {}
        }
    }
    round(&store, 7);
    round(&store, 8);
    store.steps().write_mark().unwrap();
    store.steps().prepare_file().unwrap();
    let disk = disk.kill();
    drop(store);
    disk
}

/// What a store holds. Opens a copy of it.
pub fn content(disk: &SimDisk) -> Content {
    let mut stream = Vec::new();
    open(&disk.fork()).export(Form::Text, &mut stream).unwrap();
    lines(&stream)
}

/// The lines of an export, object by object.
pub fn lines(stream: &[u8]) -> Content {
    let (mut content, mut namespace, mut object) = (Content::new(), String::new(), String::new());
    for line in std::str::from_utf8(stream).unwrap().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(name) = value["namespace"].as_str() {
            name.clone_into(&mut namespace);
        } else if let Some(id) = value["object"].as_str() {
            id.clone_into(&mut object);
        }
        if !object.is_empty() {
            content.entry((namespace.clone(), object.clone())).or_default().push(line.to_owned());
        }
        if value["end"] == "object" {
            object.clear();
        }
    }
    content
}

/// Opens a damaged store and reads all of it: refused with a clear error, or each object is what it
/// was, or an error. Returns how many objects were read.
pub fn read_all(disk: &SimDisk, expected: &Content) -> Option<usize> {
    let store = match options().open_on(disk.fork()) {
        Ok(store) => store,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Corrupt), "{error:?}");
            assert!(error.place().is_some(), "{error:?}");
            return None;
        }
    };
    let mut read = 0;
    for ((name, hex), lines) in expected {
        let namespace = store.namespace(name).unwrap();
        let id = namespace.id_from_hex(hex).unwrap();
        let mut stream = Vec::new();
        match namespace.export_object(id, Form::Text, &mut stream) {
            Ok(_) => {
                let found = self::lines(&stream).remove(&(name.clone(), hex.clone()));
                assert_eq!(found.as_ref(), Some(lines), "{name} {hex}");
                read += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}"),
        }
    }
    Some(read)
}

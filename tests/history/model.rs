//! One engine on a simulated disk, and what each object was after each commit.
//!
//! Invariants:
//!   * A seed does the same each time.

#[path = "../it/chance.rs"]
#[expect(dead_code, reason = "another test uses the rest")]
mod chance;

pub use chance::Chance;

use dostore::alarm::Alarm;
use dostore::disk::sim::SimDisk;
use dostore::engine::Engine;
use dostore::format::record::Operation;
use dostore::ids::{Address, Codec, KeyKind, Lsn, NamespaceNumber, ShortId, Timestamp};
use dostore::limits::Limits;
use dostore::object::View;
use dostore::object::overlay::Found;
use dostore::object::range::RangeIter;
use dostore::object::write_set::WriteSet;
use dostore::options::Options;
use dostore::retention::Retention;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What an object was after a commit.
#[derive(Clone, Default)]
pub struct Moment {
    pub lsn: Lsn,
    pub map: Arc<Map>,
    pub alarm: Option<Alarm>,
}

/// One object and all that it ever was.
pub struct Object {
    pub address: Address,
    pub keys: u64,
    pub value_bytes: u64,
    pub moments: Vec<Moment>,
}

impl Object {
    pub fn at(&self, at: Lsn) -> Moment {
        let behind = self.moments.partition_point(|moment| moment.lsn <= at);
        behind.checked_sub(1).map_or_else(Moment::default, |last| self.moments[last].clone())
    }
}

/// The full key with this number.
pub fn key(number: u64) -> Vec<u8> {
    let mut key = vec![KeyKind::User as u8];
    key.extend_from_slice(format!("key {number:06}").as_bytes());
    key
}

pub struct Stage {
    pub disk: SimDisk,
    pub engine: Option<Arc<Engine>>,
    pub options: Options,
    pub objects: Vec<Object>,
    pub chance: Chance,
    pub last: Lsn,
    pub compared: u64,
    version: u64,
}

impl Stage {
    pub fn new(seed: u64, options: Options, objects: &[(u64, u64)]) -> Self {
        let object = |(index, (keys, value_bytes)): (usize, &(u64, u64))| Object {
            address: Address {
                // Every other one has a retention class of its own.
                namespace: NamespaceNumber(1 + u32::from(index % 2 == 1)),
                id: ShortId([u8::try_from(index * 17).expect("it succeeds"); 16]),
            },
            keys: *keys,
            value_bytes: *value_bytes,
            moments: Vec::new(),
        };
        let objects = objects.iter().enumerate().map(object).collect();
        let mut stage = Self {
            disk: SimDisk::new(seed),
            engine: None,
            options,
            objects,
            chance: Chance::new(seed),
            last: Lsn::ZERO,
            compared: 0,
            version: 0,
        };
        stage.open();
        let kept = Some(Retention::days(300));
        for (name, retention) in [("objects", None), ("others", kept)] {
            stage.engine().namespace(name, None, retention).expect("it succeeds");
        }
        stage
    }

    pub fn open(&mut self) {
        self.engine = None;
        self.disk = self.disk.kill();
        let disk = Arc::new(self.disk.clone());
        self.engine = Some(Engine::open(disk, self.options.clone()).expect("it succeeds"));
    }

    pub fn engine(&self) -> Arc<Engine> {
        Arc::clone(self.engine.as_ref().expect("it succeeds"))
    }

    /// A random commit of an object.
    pub fn commit(&mut self, index: usize) {
        let count = self.chance.pick(&[1, 1, 2, 5]);
        let mut changes = Change::of(&self.objects[index]);
        for _ in 0..count {
            self.version += 1;
            changes.random(&self.objects[index], &mut self.chance, self.version);
        }
        self.apply(index, changes);
    }

    /// Commits what was changed.
    pub fn apply(&mut self, index: usize, change: Change) -> Lsn {
        let engine = self.engine();
        let address = self.objects[index].address;
        let Change { set, map, alarm } = change;
        let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, set);
        let lsn = engine.with_object(address, commit).expect("it succeeds").lsn;
        self.last = lsn;
        let moment = Moment { lsn, map: Arc::new(map), alarm };
        self.objects[index].moments.push(moment);
        lsn
    }

    /// Compares an object with the model at every commit of the store, or at `most` random ones.
    pub fn check(&mut self, index: usize, most: usize) {
        let engine = self.engine();
        let all = self.objects.iter().flat_map(|object| &object.moments).map(|moment| moment.lsn);
        let mut all: Vec<Lsn> = all.chain([Lsn::ZERO]).collect();
        all.sort_unstable();
        while all.len() > most {
            let at = self.chance.index(all.len());
            all.swap_remove(at);
        }
        for at in all {
            let object = &self.objects[index];
            let moment = object.at(at);
            let view = engine.view_at(object.address, at);
            let view = view.unwrap_or_else(|error| panic!("object {index} as of {at}: {error:?}"));
            let told = format!("object {index} as of {at}, last {}", self.last);
            self.compared += check_view(&view, &moment, &told, &mut self.chance);
        }
    }
}

/// Changes of one object in the making.
pub struct Change {
    pub set: WriteSet,
    pub map: Map,
    pub alarm: Option<Alarm>,
}

impl Change {
    pub fn of(object: &Object) -> Self {
        let now = object.at(Lsn(u64::MAX));
        Self { set: WriteSet::new(), map: (*now.map).clone(), alarm: now.alarm }
    }

    pub fn push(&mut self, operation: &Operation<'_>) {
        self.set.push(&Limits::default(), operation).expect("it succeeds");
    }

    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.push(&Operation::Put { key, codec: Codec::Raw, value: &value });
        self.map.insert(key.to_vec(), value);
    }

    pub fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        self.push(&Operation::DeleteRange { start, end });
        self.map.retain(|key, _| key.as_slice() < start || key.as_slice() >= end);
    }

    pub fn delete_all(&mut self) {
        self.push(&Operation::DeleteAll { keep_alarms: false });
        self.map.clear();
        self.alarm = None;
    }

    fn random(&mut self, object: &Object, chance: &mut Chance, version: u64) {
        let start = key(chance.below(object.keys));
        match chance.below(60) {
            0 => self.delete_all(),
            1..=3 => {
                let end = key(chance.below(object.keys + 1));
                let (start, end) = if start < end { (start, end) } else { (end, start) };
                self.delete_range(&start, &end);
            }
            4 => {
                let end = key(object.keys);
                self.delete_range(&start, &end);
            }
            5..=12 => {
                self.push(&Operation::Delete { key: &start });
                self.map.remove(&start);
            }
            13..=15 => {
                let alarm = Alarm::new(Timestamp(version), Lsn(1));
                self.push(&Operation::SetAlarm(alarm));
                self.alarm = Some(alarm);
            }
            16..=17 => {
                self.push(&Operation::ClearAlarm);
                self.alarm = None;
            }
            _ => {
                let bytes =
                    usize::try_from(chance.below(object.value_bytes + 1)).expect("it succeeds");
                let mut value = format!("{version} ").into_bytes();
                value.resize(bytes + 8, b'a' + u8::try_from(version % 26).expect("it succeeds"));
                self.put(&start, value);
            }
        }
    }
}

fn entries(view: &View) -> RangeIter {
    RangeIter::new(view.clone(), None, (Bound::Unbounded, Bound::Unbounded))
}

/// Compares all of a view with the model, forwards, backwards and by key. Says how many keys.
pub fn check_view(view: &View, moment: &Moment, told: &str, chance: &mut Chance) -> u64 {
    let mut found = Vec::new();
    for entry in entries(view) {
        let entry = entry.unwrap_or_else(|error| panic!("{told}: {error:?}"));
        found.push((entry.key.to_vec(), entry.value.to_vec()));
    }
    let right: Vec<_> =
        moment.map.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    if found != right {
        let wrong = found.iter().zip(&right).position(|(one, other)| one != other);
        let short = |entry: Option<&(Vec<u8>, Vec<u8>)>| {
            entry.map(|(key, value)| {
                (
                    key.escape_ascii().to_string(),
                    value[..value.len().min(12)].escape_ascii().to_string(),
                )
            })
        };
        let at = wrong.unwrap_or(found.len().min(right.len()));
        panic!(
            "{told}: {} keys, not {}; at {at} {:?}, not {:?}",
            found.len(),
            right.len(),
            short(found.get(at)),
            short(right.get(at))
        );
    }
    if chance.percent(30) {
        let back = entries(view).rev().map(|entry| entry.expect("it succeeds").key.to_vec());
        assert!(back.eq(right.iter().rev().map(|(key, _)| key.clone())), "{told}, backwards");
    }
    for _ in 0..3.min(right.len()) {
        let (key, value) = &right[chance.index(right.len())];
        match view.find(key).expect("it succeeds") {
            Some(Found::Value(_, found)) => assert_eq!(*found, **value, "{told}, one key"),
            other => panic!("{told}: {other:?} for one key"),
        }
        let mut beside = key.clone();
        beside.push(b'x');
        assert!(
            !matches!(view.find(&beside).expect("it succeeds"), Some(Found::Value(..))),
            "{told}"
        );
    }
    assert_eq!(view.alarm().ok(), Some(moment.alarm), "{told}, the alarm");
    // Deletes of what never was are not remembered.
    let is_nothing = moment.map.is_empty() && view.state.last_lsn == Lsn::ZERO;
    assert!(is_nothing || view.state.last_lsn == moment.lsn, "{told}, {:?}", view.state);
    right.len() as u64 + 1
}

//! dostore with one large object, which has one writer at a time.

use super::dostore::settle;
use super::window::Window;
use crate::Result;
use crate::engine::{AlarmTimes, Load, Peer};
use crate::measure::Random;
use crate::recorder::Recorder;
use crate::workload::{Change, KEYS, Layout, value};
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Eights of keys in a commit while the object is made.
const MADE_AT_ONCE: u64 = 1_000;
/// Such commits in flight.
const MAKING_IN_FLIGHT: usize = 4;

pub struct One {
    store: Store,
    object: Mutex<Object>,
}

impl One {
    pub fn open(store: Store, namespace: &Namespace) -> Result<Box<dyn Peer>> {
        let object = Mutex::new(namespace.open_by_name("large")?);
        Ok(Box::new(Self { store, object }))
    }
}

impl Peer for One {
    fn create(&self, objects: Range<u64>) -> Result<()> {
        let recorder = Recorder::new();
        let mut random = Random::new(1);
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let mut window = Window::new(&self.store, &recorder, 0, MAKING_IN_FLIGHT);
        for first in objects.clone().step_by(usize::try_from(MADE_AT_ONCE)?) {
            let began = Instant::now();
            let mut turn = object.turn();
            for eight in first..(first + MADE_AT_ONCE).min(objects.end) {
                for key in 0..KEYS {
                    turn.put(Layout::One.key(eight, key), value(&mut random))?;
                }
            }
            window.push(turn.commit()?.detach().lsn, began)?;
        }
        window.drain()
    }

    fn commit(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        let mut random = Random::new(1);
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let mut window = Window::new(&self.store, recorder, 0, load.in_flight);
        let end = Instant::now() + load.time;
        while Instant::now() < end {
            let began = Instant::now();
            let change = Change::draw(load.objects, &mut random);
            let mut turn = object.turn();
            for (key, value) in &change.puts {
                turn.put(Layout::One.key(change.object, *key), value)?;
            }
            window.push(turn.commit()?.detach().lsn, began)?;
        }
        window.drain()
    }

    fn churn(&self, _: &Load, _: &Arc<Recorder>) -> Result<()> {
        Err("one object is not made and deleted again".into())
    }

    fn alarms(&self, _: &Load, _: &Arc<Recorder>) -> Result<AlarmTimes> {
        Err("one object has one alarm".into())
    }

    fn read(&self, eight: u64) -> Result<usize> {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let mut entries = object.range(Layout::One.key(eight, 0)..Layout::One.behind(eight))?;
        while let Some(entry) = entries.next_ref()? {
            bytes += entry.value.len();
        }
        Ok(bytes)
    }

    fn scan(&self) -> Result<u64> {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = 0;
        let mut entries = object.list(ListOptions::new())?;
        while entries.next_ref()?.is_some() {
            keys += 1;
        }
        Ok(keys)
    }

    fn settle(&mut self) -> Result<()> {
        settle(&self.store)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Self { store, object } = *self;
        drop(object);
        Ok(store.close()?)
    }
}

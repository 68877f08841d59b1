//! Engines with one ordered key space: all objects lie in it, each behind its own eight bytes.
//!
//! Invariants:
//!   * What is written in one call is atomic, and durable when the call returns.

use crate::Result;
use crate::engine::{AlarmTimes, Load, Peer};
use crate::measure::Random;
use crate::offer;
use crate::recorder::Recorder;
use crate::workload::{ALARMS_FROM, Change, KEYS, Key, Layout, Value, value};
use std::ops::Range;
use std::sync::Arc;

/// A store with one ordered key space.
pub trait KeySpace: Send + Sync {
    /// Puts all of it.
    fn write(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()>;

    /// Takes keys away.
    fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<()>;

    /// The same as `write`, without waiting for the disk where the engine offers that.
    fn write_lazily(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        self.write(puts)
    }

    /// Makes everything durable that was written lazily.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Visits keys from `from` up to, not including, `to`, with their values.
    fn scan(&self, from: &Key, to: &Key, visit: impl FnMut(&[u8], &[u8])) -> Result<()>;

    /// Puts keys with nothing behind them, as an index does.
    fn mark(&self, keys: impl Iterator<Item = Key>) -> Result<()>;

    /// Takes such keys away.
    fn unmark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        self.delete(keys)
    }

    /// Visits such keys in order, from `from` on.
    fn marks(&self, from: &Key, mut visit: impl FnMut(&[u8])) -> Result<()> {
        self.scan(from, &[0xff; 14], |key, _| visit(key))
    }

    /// Brings files to rest.
    fn settle(&mut self) -> Result<()>;

    fn close(self) -> Result<()>;

    /// Makes and deletes objects for the time of a load, in groups of `group_max` at most.
    fn churn(&self, load: &Load, recorder: &Arc<Recorder>, group_max: usize) -> Result<()> {
        let make = |objects: &[u64], random: &mut Random| {
            self.write(keys_of(load.layout, objects).map(|key| (key, value(random))))
        };
        let delete = |objects: &[u64]| self.delete(keys_of(load.layout, objects));
        offer::churn(load, recorder, group_max, make, delete)
    }

    /// Sets alarms, as keys of an index by time, hands them out and clears them, in groups of
    /// `group_max` at most.
    fn alarms(
        &self,
        load: &Load,
        recorder: &Arc<Recorder>,
        group_max: usize,
    ) -> Result<AlarmTimes> {
        let due = || {
            let mut keys: Vec<Key> = Vec::new();
            let mut is_whole = true;
            self.marks(&ALARMS_FROM, |key| match key.try_into() {
                Ok(key) => keys.push(key),
                Err(_) => is_whole = false,
            })?;
            if is_whole { Ok(keys) } else { Err("a key of an alarm was not read whole".into()) }
        };
        let set = |keys: &[Key]| self.mark(keys.iter().copied());
        let clear = |keys: &[Key]| self.unmark(keys.iter().copied());
        offer::alarms(load, recorder, group_max, set, due, clear)
    }

    /// Commits for the time of a load; `group_max` changes at once at most.
    fn offer(&self, load: &Load, recorder: &Arc<Recorder>, group_max: usize) -> Result<()> {
        let commit = |changes: &[Change]| self.write(puts(load.layout, changes));
        offer::commits(load, recorder, group_max, commit)
    }
}

/// All keys of some objects.
pub fn keys_of(layout: Layout, objects: &[u64]) -> impl Iterator<Item = Key> {
    objects.iter().flat_map(move |object| (0..KEYS).map(move |key| layout.key(*object, key)))
}

/// Keys and values of some changes.
pub fn puts(layout: Layout, changes: &[Change]) -> impl Iterator<Item = (Key, Value)> {
    changes.iter().flat_map(move |change| {
        change.puts.iter().map(move |(key, value)| (layout.key(change.object, *key), *value))
    })
}

/// How an engine with one key space is used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Changes that the application puts into one commit at most.
    pub group_max: usize,
    /// Objects in a transaction while they are made.
    pub made_at_once: u64,
    /// Threads that make them.
    pub makers: usize,
}

/// An open store with one key space.
pub struct Shared<S> {
    pub space: S,
    pub usage: Usage,
    pub layout: Layout,
}

impl<S: KeySpace> Peer for Shared<S> {
    fn create(&self, objects: Range<u64>) -> Result<()> {
        let Usage { made_at_once, makers, .. } = self.usage;
        let layout = self.layout;
        offer::batches(&objects, made_at_once, makers, |batch, random| {
            let keys = batch.flat_map(|object| (0..KEYS).map(move |key| layout.key(object, key)));
            self.space.write_lazily(keys.map(|key| (key, value(random))))
        })?;
        self.space.sync()
    }

    fn commit(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        self.space.offer(load, recorder, self.usage.group_max)
    }

    fn churn(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        self.space.churn(load, recorder, self.usage.group_max)
    }

    fn read(&self, object: u64) -> Result<usize> {
        let mut bytes = 0;
        let (from, to) = (self.layout.key(object, 0), self.layout.behind(object));
        self.space.scan(&from, &to, |_, value| bytes += value.len())?;
        Ok(bytes)
    }

    fn scan(&self) -> Result<u64> {
        let mut keys = 0;
        self.space.scan(&[0; 14], &ALARMS_FROM, |_, _| keys += 1)?;
        Ok(keys)
    }

    fn alarms(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<AlarmTimes> {
        self.space.alarms(load, recorder, self.usage.group_max)
    }

    fn settle(&mut self) -> Result<()> {
        self.space.settle()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.space.close()
    }
}

//! dostore with everything on, as it is by default: checkpoints, cleaning, history.
//!
//! Invariants:
//!   * A commit counts once the store has said that it is durable.
//!   * An object has one writer at a time: loaders draw from objects of their own.

use super::dostore_large::One;
use super::window::Window;
use crate::Result;
use crate::engine::{AlarmTimes, Engine, Facts, Load, Peer, Role};
use crate::measure::Random;
use crate::offer::{check_alarms, in_threads};
use crate::recorder::Recorder;
use crate::workload::{CACHE_BYTES, Change, KEYS, Layout, alarm_time, own_key, value};
use dostore::ids::{Lsn, ObjectId, Timestamp};
use dostore::retention::Retention;
use dostore::store::Store;
use dostore::store::alarms::Fired;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Threads that make objects.
const LOADERS: usize = 2;
/// Commits in flight while objects are made, for each thread.
const MAKING_IN_FLIGHT: usize = 20_000;
/// New objects that wait to be deleted, for each thread.
const MADE_MAX: usize = 500;
/// Files that nothing names wait so long for readers in other processes: there are none here.
const RETIRE_AFTER: Duration = Duration::from_secs(5);

/// A way to use it.
#[derive(Debug)]
pub struct Dostore {
    facts: Facts,
    /// Whether objects stay open from one commit to the next, as those of active actors do.
    is_kept_open: bool,
    retention: Retention,
}

impl Dostore {
    /// As it is.
    pub const DEFAULT: Self =
        Self { facts: FACTS, is_kept_open: false, retention: Retention::days(30) };

    /// As actors use it.
    pub const KEPT_OPEN: Self = Self {
        facts: Facts {
            id: "dostore-kept-open",
            title: "dostore, objects kept open",
            settings: "as dostore, but objects stay open, as those of active actors do",
            role: Role::Commits,
            ..FACTS
        },
        is_kept_open: true,
        ..Self::DEFAULT
    };

    /// As its peers are, which know no past.
    pub const WITHOUT_HISTORY: Self = Self {
        facts: Facts {
            id: "dostore-no-history",
            title: "dostore, no history",
            settings: "as dostore, but `Retention::Off`: it keeps no past, as its peers do not",
            family: "dostore-no-history",
            role: Role::Beside,
            ..FACTS
        },
        retention: Retention::Off,
        ..Self::DEFAULT
    };
}

const FACTS: Facts = Facts {
    id: "dostore",
    title: "dostore",
    package: "dostore",
    settings: "default options but for the cache and `retire_after` of 5 s, history on; two \
               threads make commits, and open the object anew for each",
    durability: "`Store::wait_durable`: the group of the log that has the commit was synced",
    source: "docs/guarantees.md",
    family: "dostore",
    objects_max: u64::MAX,
    object_bytes: 2_200,
    has_file_for_each: false,
    role: Role::Full,
};

impl Engine for Dostore {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>> {
        let options = Store::options()
            .cache_bytes(CACHE_BYTES)
            .retire_after(RETIRE_AFTER)
            .retention(self.retention);
        let store = options.open(folder)?;
        let namespace = store.namespace("peers")?;
        if layout == Layout::One {
            return One::open(store, &namespace);
        }
        let is_kept_open = self.is_kept_open;
        Ok(Box::new(Opened { store, namespace, ids: Vec::new(), is_kept_open }))
    }
}

struct Opened {
    store: Store,
    namespace: Namespace,
    /// Of all objects, where that was asked for.
    ids: Vec<ObjectId>,
    is_kept_open: bool,
}

impl Opened {
    fn id(&self, object: u64) -> ObjectId {
        let known = self.ids.get(object as usize).copied();
        known.unwrap_or_else(|| self.namespace.id_from_name(&object.to_string()))
    }

    fn make(&self, objects: impl Iterator<Item = u64>, maker: usize) -> Result<()> {
        let recorder = Recorder::new();
        let mut random = Random::new(maker as u64 + 1);
        let mut window = Window::new(&self.store, &recorder, maker, MAKING_IN_FLIGHT);
        for number in objects {
            let began = Instant::now();
            let mut object = self.namespace.open(self.id(number))?;
            window.push(fill(&mut object, &mut random)?, began)?;
        }
        window.drain()
    }

    /// One of the threads that make objects and delete them; deletions follow at the distance of
    /// what is in flight.
    fn churn_for(&self, load: &Load, window: &mut Window<'_>, loaders: usize) -> Result<()> {
        let mut random = Random::new(window.stream as u64 + 1);
        let mut made: VecDeque<Object> = VecDeque::new();
        let end = Instant::now() + load.time;
        let numbers = (load.objects + window.stream as u64..).step_by(loaders);
        for number in numbers.take_while(|_| Instant::now() < end) {
            let began = Instant::now();
            let mut object = self.namespace.open(self.id(number))?;
            let lsn = fill(&mut object, &mut random)?;
            made.push_back(object);
            window.push(lsn, began)?;
            if made.len() >= window.limit.min(MADE_MAX)
                && let Some(mut oldest) = made.pop_front()
            {
                let began = Instant::now();
                let mut turn = oldest.turn();
                turn.delete_all()?;
                let lsn = turn.commit()?.detach().lsn;
                window.push(lsn, began)?;
            }
        }
        window.drain()
    }

    /// One of the threads that set alarms; how many it set.
    fn set_alarms(&self, load: &Load, window: &mut Window<'_>, loaders: usize) -> Result<u64> {
        let end = Instant::now() + load.time;
        let objects = (window.stream as u64..load.objects).step_by(loaders);
        let mut count = 0;
        for number in objects.take_while(|_| Instant::now() < end) {
            let began = Instant::now();
            let mut object = self.namespace.open(self.id(number))?;
            let mut turn = object.turn();
            turn.set_alarm(Timestamp(alarm_time(number)))?;
            window.push(turn.commit()?.detach().lsn, began)?;
            count += 1;
        }
        window.drain()?;
        Ok(count)
    }

    /// One of the threads that handle alarms.
    fn clear_alarms<'f>(
        &self,
        fired: impl Iterator<Item = &'f Fired>,
        window: &mut Window<'_>,
    ) -> Result<()> {
        for fired in fired {
            let began = Instant::now();
            let mut object = self.namespace.open(fired.object_id()?)?;
            let mut turn = object.turn();
            if !turn.complete_alarm(fired)? {
                return Err("an alarm was another when it was handled".into());
            }
            window.push(turn.commit()?.detach().lsn, began)?;
        }
        window.drain()
    }

    /// One of the threads that make commits.
    fn offer(&self, load: &Load, window: &mut Window<'_>, loaders: usize) -> Result<()> {
        let loader = window.stream;
        let mut random = Random::new(loader as u64 + 1);
        let own = load.objects / loaders as u64;
        let mut kept: Vec<Option<Object>> = Vec::new();
        if self.is_kept_open {
            kept.resize_with(own as usize, || None);
        }
        let end = Instant::now() + load.time;
        loop {
            let began = Instant::now();
            if began >= end {
                return window.drain();
            }
            let change = Change::draw(own, &mut random);
            let id = || self.id(change.object * loaders as u64 + loader as u64);
            let lsn = match kept.get_mut(change.object as usize) {
                None => put(&mut self.namespace.open(id())?, &change)?,
                Some(Some(object)) => put(object, &change)?,
                Some(empty) => put(empty.insert(self.namespace.open(id())?), &change)?,
            };
            window.push(lsn, began)?;
        }
    }
}

fn fill(object: &mut Object, random: &mut Random) -> Result<Lsn> {
    let mut turn = object.turn();
    for key in 0..KEYS {
        turn.put(own_key(key), value(random))?;
    }
    Ok(turn.commit()?.detach().lsn)
}

fn put(object: &mut Object, change: &Change) -> Result<Lsn> {
    let mut turn = object.turn();
    for (key, value) in &change.puts {
        turn.put(own_key(*key), value)?;
    }
    Ok(turn.commit()?.detach().lsn)
}

impl Peer for Opened {
    fn expect(&mut self, objects: u64) {
        self.ids = (0..objects).map(|object| self.id(object)).collect();
    }

    fn create(&self, objects: Range<u64>) -> Result<()> {
        in_threads(LOADERS, |maker| self.make(objects.clone().skip(maker).step_by(LOADERS), maker))
    }

    fn commit(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        let loaders = load.in_flight.min(load.makers);
        in_threads(loaders, |loader| {
            let limit = load.in_flight / loaders;
            let mut window = Window::new(&self.store, recorder, loader, limit);
            self.offer(load, &mut window, loaders)
        })
    }

    fn churn(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        let loaders = load.in_flight.min(load.makers);
        in_threads(loaders, |loader| {
            let limit = load.in_flight / loaders;
            let mut window = Window::new(&self.store, recorder, loader, limit);
            self.churn_for(load, &mut window, loaders)
        })
    }

    fn alarms(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<AlarmTimes> {
        let loaders = load.in_flight.min(load.makers);
        let limit = load.in_flight / loaders;
        let (began, alarms) = (Instant::now(), AtomicU64::new(0));
        in_threads(loaders, |loader| {
            let mut window = Window::new(&self.store, recorder, loader, limit);
            let count = self.set_alarms(load, &mut window, loaders)?;
            alarms.fetch_add(count, Ordering::Relaxed);
            Ok(())
        })?;
        let set = began.elapsed();
        let (began, due, mut fired) = (Instant::now(), self.store.alarms(), Vec::new());
        while let Some(next) = due.try_next()? {
            fired.push(next);
        }
        let (handed_out, alarms) = (began.elapsed(), alarms.into_inner());
        let is_in_order = fired.is_sorted_by_key(Fired::scheduled);
        check_alarms(alarms, fired.len() as u64, is_in_order)?;
        let began = Instant::now();
        in_threads(loaders, |loader| {
            let mut window = Window::new(&self.store, recorder, loader, limit);
            self.clear_alarms(fired.iter().skip(loader).step_by(loaders), &mut window)
        })?;
        Ok(AlarmTimes { alarms, set, handed_out, cleared: began.elapsed() })
    }

    fn read(&self, object: u64) -> Result<usize> {
        let object = self.namespace.open(self.id(object))?;
        let mut bytes = 0;
        let mut entries = object.list(ListOptions::new())?;
        while let Some(entry) = entries.next_ref()? {
            bytes += entry.value.len();
        }
        Ok(bytes)
    }

    fn scan(&self) -> Result<u64> {
        Err("there is no order over all objects".into())
    }

    fn parts(&self) -> Result<Vec<(&'static str, u64)>> {
        let stats = self.store.stats()?;
        let pages = stats.live_bytes + stats.reclaimable_bytes + stats.run_bytes;
        Ok(vec![
            ("of the bytes: pages and their directory", pages),
            ("history", stats.history_bytes),
            ("the log and its files written ahead", stats.log_bytes + stats.pool_bytes),
        ])
    }

    fn settle(&mut self) -> Result<()> {
        settle(&self.store)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

/// Brings files to rest.
pub fn settle(store: &Store) -> Result<()> {
    let steps = store.steps();
    steps.checkpoint()?;
    while steps.merge()? || steps.clean()? {}
    steps.checkpoint()?;
    std::thread::sleep(RETIRE_AFTER + Duration::from_millis(100));
    steps.remove_retired()?;
    Ok(())
}

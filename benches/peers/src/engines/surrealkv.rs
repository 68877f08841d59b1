//! SurrealKV by its asynchronous interface: one task for each commit in flight.

use crate::Result;
use crate::engine::{AlarmTimes, Engine, Facts, Load, Peer, Role};
use crate::key_space::{KeySpace, Shared, Usage, keys_of, puts};
use crate::measure::Random;
use crate::offer::check_alarms;
use crate::recorder::Recorder;
use crate::workload::{ALARMS_FROM, CACHE_BYTES, Change, Key, Layout, Value, alarm_key, value};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use surrealkv::{
    CompactRangeOptions, Durability, Error, LSMIterator, Mode, Options, Tree, TreeBuilder,
};
use tokio::runtime::Runtime;

pub struct SurrealKv;

impl Engine for SurrealKv {
    fn facts(&self) -> Facts {
        Facts {
            id: "surrealkv",
            title: "SurrealKV",
            package: "surrealkv",
            settings: "one tree for all objects, a log written ahead of its end \
                       (`with_wal_preallocation`), a task for each commit in flight, a runtime \
                       with a thread for each processor",
            durability: "a write-only transaction with `Durability::Immediate`",
            source: "https://docs.rs/surrealkv/latest/surrealkv/struct.Options.html",
            family: "surrealkv",
            objects_max: u64::MAX,
            object_bytes: 1_800,
            has_file_for_each: false,
            role: Role::Full,
        }
    }

    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
        let options = Options::new()
            .with_path(folder.to_owned())
            .with_wal_preallocation(true)
            .with_block_cache_capacity(CACHE_BYTES as u64);
        let tree = {
            let _entered = runtime.enter();
            TreeBuilder::with_options(options).build()?
        };
        let usage = Usage { made_at_once: 1_000, ..super::ONE_BY_ONE };
        Ok(Box::new(Shared { space: Opened { runtime, tree: Arc::new(tree) }, usage, layout }))
    }
}

struct Opened {
    runtime: Runtime,
    tree: Arc<Tree>,
}

/// What is done to a key.
enum Edit {
    Put(Value),
    /// Puts nothing behind it.
    Mark,
    Delete,
}

fn put((key, value): (Key, Value)) -> (Key, Edit) {
    (key, Edit::Put(value))
}

/// Commits until it is done: where another task had the same object, the application tries again.
async fn commit(tree: &Tree, edits: &[(Key, Edit)], durability: Durability) -> Result<()> {
    loop {
        let mut transaction = tree.begin_with_mode(Mode::WriteOnly)?.with_durability(durability);
        for (key, edit) in edits {
            match edit {
                Edit::Put(value) => transaction.set(&key[..], &value[..])?,
                Edit::Mark => transaction.set(&key[..], b"".as_slice())?,
                Edit::Delete => transaction.delete(&key[..])?,
            }
        }
        match transaction.commit().await {
            Err(Error::TransactionWriteConflict | Error::TransactionRetry) => {}
            done => return Ok(done?),
        }
    }
}

/// One task: commits until the time of the load is over.
async fn offer(tree: &Tree, recorder: &Recorder, load: Load, task: usize) -> Result<()> {
    let mut random = Random::new(task as u64 + 1);
    let end = Instant::now() + load.time;
    while Instant::now() < end {
        let began = Instant::now();
        let change = Change::draw(load.objects, &mut random);
        let puts: Vec<_> = puts(load.layout, &[change]).map(put).collect();
        commit(tree, &puts, Durability::Immediate).await?;
        recorder.record(task, began, 1);
    }
    Ok(())
}

/// One task: makes objects and deletes them until the time of the load is over.
async fn churn(tree: &Tree, recorder: &Recorder, load: Load, task: usize) -> Result<()> {
    let mut random = Random::new(task as u64 + 1);
    let end = Instant::now() + load.time;
    let numbers = (load.objects + task as u64..).step_by(load.in_flight);
    for object in numbers.take_while(|_| Instant::now() < end) {
        let began = Instant::now();
        let edits: Vec<_> =
            keys_of(load.layout, &[object]).map(|key| put((key, value(&mut random)))).collect();
        commit(tree, &edits, Durability::Immediate).await?;
        recorder.record(task, began, 1);
        let began = Instant::now();
        let edits: Vec<_> =
            keys_of(load.layout, &[object]).map(|key| (key, Edit::Delete)).collect();
        commit(tree, &edits, Durability::Immediate).await?;
        recorder.record(task, began, 1);
    }
    Ok(())
}

/// One task: commits an edit of every so-manieth key, until the keys or the time end; how many.
async fn edit_keys(
    tree: &Tree,
    recorder: &Recorder,
    keys: impl Iterator<Item = (Key, Edit)>,
    end: Option<Instant>,
    task: usize,
) -> Result<u64> {
    let mut count = 0;
    for edit in keys.take_while(|_| end.is_none_or(|end| Instant::now() < end)) {
        let began = Instant::now();
        commit(tree, &[edit], Durability::Immediate).await?;
        recorder.record(task, began, 1);
        count += 1;
    }
    Ok(count)
}

impl Opened {
    /// A task for each commit in flight.
    fn in_tasks<F: Future<Output = Result<()>> + Send + 'static>(
        &self,
        load: &Load,
        work: impl Fn(Arc<Tree>, usize) -> F,
    ) -> Result<()> {
        self.runtime.block_on(async {
            let tasks: Vec<_> = (0..load.in_flight)
                .map(|task| tokio::spawn(work(Arc::clone(&self.tree), task)))
                .collect();
            for task in tasks {
                task.await.map_err(|_| "a task panicked")??;
            }
            Ok(())
        })
    }
}

impl KeySpace for Opened {
    fn write(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let edits: Vec<_> = puts.map(put).collect();
        self.runtime.block_on(commit(&self.tree, &edits, Durability::Immediate))
    }

    fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let edits: Vec<_> = keys.map(|key| (key, Edit::Delete)).collect();
        self.runtime.block_on(commit(&self.tree, &edits, Durability::Immediate))
    }

    fn write_lazily(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let edits: Vec<_> = puts.map(put).collect();
        self.runtime.block_on(commit(&self.tree, &edits, Durability::Eventual))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.tree.flush_wal(true)?)
    }

    fn mark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let edits: Vec<_> = keys.map(|key| (key, Edit::Mark)).collect();
        self.runtime.block_on(commit(&self.tree, &edits, Durability::Immediate))
    }

    fn scan(&self, from: &Key, to: &Key, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut found = transaction.range(&from[..], &to[..])?;
        let mut is_valid = found.seek_first()?;
        while is_valid {
            visit(found.key().user_key(), &found.value_ref()?);
            is_valid = found.next()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        let _entered = self.runtime.enter();
        Ok(self.tree.compact_range(None, None, &CompactRangeOptions::default())?)
    }

    fn close(self) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }

    fn churn(&self, load: &Load, recorder: &Arc<Recorder>, _group_max: usize) -> Result<()> {
        self.in_tasks(load, |tree, task| {
            let (recorder, load) = (Arc::clone(recorder), *load);
            async move { churn(&tree, &recorder, load, task).await }
        })
    }

    fn alarms(
        &self,
        load: &Load,
        recorder: &Arc<Recorder>,
        _group_max: usize,
    ) -> Result<AlarmTimes> {
        let (began, load, alarms) = (Instant::now(), *load, Arc::new(AtomicU64::new(0)));
        self.in_tasks(&load, |tree, task| {
            let (recorder, alarms) = (Arc::clone(recorder), Arc::clone(&alarms));
            let objects = (task as u64..load.objects).step_by(load.in_flight);
            let keys = objects.map(|object| (alarm_key(object), Edit::Mark));
            let end = Some(began + load.time);
            async move {
                let count = edit_keys(&tree, &recorder, keys, end, task).await?;
                alarms.fetch_add(count, Ordering::Relaxed);
                Ok(())
            }
        })?;
        let set = began.elapsed();
        let (began, mut keys) = (Instant::now(), Vec::new());
        self.marks(&ALARMS_FROM, |key| keys.extend(Key::try_from(key)))?;
        let (handed_out, alarms) = (began.elapsed(), alarms.load(Ordering::Relaxed));
        check_alarms(alarms, keys.len() as u64, keys.is_sorted())?;
        let (began, keys) = (Instant::now(), Arc::new(keys));
        self.in_tasks(&load, |tree, task| {
            let (recorder, keys) = (Arc::clone(recorder), Arc::clone(&keys));
            async move {
                let own = keys.iter().skip(task).step_by(load.in_flight);
                let edits = own.map(|key| (*key, Edit::Delete));
                edit_keys(&tree, &recorder, edits, None, task).await.map(drop)
            }
        })?;
        Ok(AlarmTimes { alarms, set, handed_out, cleared: began.elapsed() })
    }

    fn offer(&self, load: &Load, recorder: &Arc<Recorder>, _group_max: usize) -> Result<()> {
        self.in_tasks(load, |tree, task| {
            let (recorder, load) = (Arc::clone(recorder), *load);
            async move { offer(&tree, &recorder, load, task).await }
        })
    }
}

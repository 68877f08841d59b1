//! SQLite with one file for each object, as runtimes of durable objects do it today.
//!
//! Invariants:
//!   * The connections used last stay open, up to a bound: each takes up to 200 KB of memory and
//!     three descriptors.
//!   * A connection is opened and closed outside the lock.

use super::sqlite::{TABLE, connect, put_all};
use crate::Result;
use crate::engine::{AlarmTimes, Engine, Facts, Load, Peer, Role};
use crate::measure::Random;
use crate::offer;
use crate::recorder::Recorder;
use crate::workload::{CACHE_BYTES, Change, KEYS, Layout, own_key, value};
use lru::LruCache;
use rusqlite::Connection;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that stay open.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("it is not zero");
/// Folders over which files are spread.
const FOLDERS: u64 = 256;
/// Threads that make objects: their syncs overlap.
const MAKERS: usize = 8;
const FILES_MAX: u64 = 100_000;
const ALL: &str = "SELECT k, v FROM kv";

pub struct FilePerObject;

impl Engine for FilePerObject {
    fn facts(&self) -> Facts {
        Facts {
            id: "sqlite-files",
            title: "SQLite, a file for each object",
            package: "libsqlite3-sys",
            settings: "a database with a log for each object, the 4,096 connections used last \
                       stay open and share the cache",
            durability: "a transaction with `journal_mode=WAL` and `synchronous=FULL`",
            source: "https://www.sqlite.org/pragma.html#pragma_synchronous",
            family: "sqlite-files",
            objects_max: FILES_MAX,
            object_bytes: 16_000,
            has_file_for_each: true,
            role: Role::Blocking,
        }
    }

    fn open(&self, folder: &Path, _: Layout) -> Result<Box<dyn Peer>> {
        for number in 0..FOLDERS {
            std::fs::create_dir_all(folder.join(format!("{number:02x}")))?;
        }
        let open = Mutex::new(LruCache::new(OPEN_MAX));
        Ok(Box::new(Files { folder: folder.to_owned(), open }))
    }
}

struct Files {
    folder: PathBuf,
    /// Open connections that no thread uses now.
    open: Mutex<LruCache<u64, Connection>>,
}

impl Files {
    fn with<T>(&self, object: u64, work: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let found = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop(&object);
        let mut connection = match found {
            Some(connection) => connection,
            None => self.connect(object)?,
        };
        let result = work(&mut connection);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = open.push(object, connection);
        drop(open);
        drop(oldest);
        result
    }

    fn connect(&self, object: u64) -> Result<Connection> {
        connect(&self.path(object), CACHE_BYTES / OPEN_MAX)
    }

    fn path(&self, object: u64) -> PathBuf {
        self.folder.join(format!("{:02x}", object % FOLDERS)).join(format!("{object}.sqlite"))
    }

    fn make(&self, object: u64, random: &mut Random) -> Result<()> {
        let puts = (0..KEYS).map(|key| (own_key(key), value(random)));
        self.with(object, |connection| {
            connection.execute(TABLE, ())?;
            put_all(connection, puts)
        })
    }

    /// Removes the file; it stays so once the folder is synced.
    fn delete(&self, object: u64) -> Result<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop(&object);
        drop(open);
        let path = self.path(object);
        fs::remove_file(&path)?;
        Ok(File::open(path.parent().ok_or("a file lies in no folder")?)?.sync_all()?)
    }

    fn commit_one(&self, change: &Change) -> Result<()> {
        let puts = change.puts.iter().map(|(key, value)| (own_key(*key), *value));
        self.with(change.object, |connection| put_all(connection, puts))
    }
}

impl Peer for Files {
    fn create(&self, objects: Range<u64>) -> Result<()> {
        offer::batches(&objects, 1, MAKERS, |batch, random| {
            batch.into_iter().try_for_each(|object| self.make(object, random))
        })
    }

    fn commit(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        offer::commits(load, recorder, 1, |changes| {
            changes.iter().try_for_each(|change| self.commit_one(change))
        })
    }

    fn churn(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        let make = |objects: &[u64], random: &mut Random| {
            objects.iter().try_for_each(|object| self.make(*object, random))
        };
        let delete = |objects: &[u64]| objects.iter().try_for_each(|object| self.delete(*object));
        offer::churn(load, recorder, 1, make, delete)
    }

    fn alarms(&self, _: &Load, _: &Arc<Recorder>) -> Result<AlarmTimes> {
        Err("no index over all files".into())
    }

    fn read(&self, object: u64) -> Result<usize> {
        self.with(object, |connection| {
            let mut all = connection.prepare_cached(ALL)?;
            let (mut rows, mut bytes) = (all.query(())?, 0);
            while let Some(row) = rows.next()? {
                bytes += row.get_ref(1)?.as_blob()?.len();
            }
            Ok(bytes)
        })
    }

    fn scan(&self) -> Result<u64> {
        Err("there is no order over all objects".into())
    }

    fn settle(&mut self) -> Result<()> {
        // The last connection to a file puts its log into it when it closes.
        self.open.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.settle()
    }
}

//! SQLite with one file for all objects; a commit is a transaction, which takes one change or a
//! group that the application made.
//!
//! Invariants:
//!   * One connection writes, behind a lock of this process: SQLite has one writer at a time, and
//!     connections that wait for each other sleep between tries.

use crate::Result;
use crate::engine::{Engine, Facts, Peer, Role};
use crate::key_space::{KeySpace, Shared, Usage};
use crate::workload::{CACHE_BYTES, Key, Layout, Value};
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID";
pub const PUT: &str = "INSERT OR REPLACE INTO kv (k, v) VALUES (?1, ?2)";
const RANGE: &str = "SELECT k, v FROM kv WHERE k >= ?1 AND k < ?2";

/// A connection whose commits are durable: with a log, `FULL` syncs it at each commit, which
/// `NORMAL` does not.
pub fn connect(path: &Path, cache_bytes: usize) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_mins(1))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -i64::try_from(cache_bytes >> 10)?)?;
    Ok(connection)
}

pub struct OneFile {
    pub usage: Usage,
}

const FACTS: Facts = Facts {
    id: "sqlite",
    title: "SQLite, one file",
    package: "libsqlite3-sys",
    settings: "one table `WITHOUT ROWID` for all objects, a log, one connection that writes, \
               statements prepared once",
    durability: "a transaction with `journal_mode=WAL` and `synchronous=FULL`",
    source: "https://www.sqlite.org/pragma.html#pragma_synchronous",
    family: "sqlite",
    objects_max: u64::MAX,
    object_bytes: 2_200,
    has_file_for_each: false,
    role: Role::Blocking,
};

impl Engine for OneFile {
    fn facts(&self) -> Facts {
        if self.usage.group_max == 1 {
            return FACTS;
        }
        Facts {
            id: "sqlite-by-hand",
            title: "SQLite, one file, grouped by hand",
            settings: "as SQLite, one file, up to 1,000 commits in one transaction",
            role: Role::ByHand,
            ..FACTS
        }
    }

    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>> {
        std::fs::create_dir_all(folder)?;
        let connection = connect(&folder.join("objects.sqlite"), CACHE_BYTES)?;
        connection.execute(TABLE, ())?;
        let space = Opened { connection: Mutex::new(connection) };
        Ok(Box::new(Shared { space, usage: self.usage, layout }))
    }
}

struct Opened {
    connection: Mutex<Connection>,
}

impl KeySpace for Opened {
    fn write(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        put_all(&mut connection, puts)
    }

    fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut delete = transaction.prepare_cached("DELETE FROM kv WHERE k = ?1")?;
        for key in keys {
            delete.execute([&key[..]])?;
        }
        drop(delete);
        Ok(transaction.commit()?)
    }

    fn mark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        put_all(&mut connection, keys.map(|key| (key, b"")))
    }

    fn scan(&self, from: &Key, to: &Key, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut range = connection.prepare_cached(RANGE)?;
        let mut rows = range.query((&from[..], &to[..]))?;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
        Ok(connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?)
    }

    fn close(self) -> Result<()> {
        let connection = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, error)| error.into())
    }
}

/// Puts all of it in one transaction.
pub fn put_all<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    connection: &mut Connection,
    puts: impl Iterator<Item = (K, V)>,
) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut put = transaction.prepare_cached(PUT)?;
    for (key, value) in puts {
        put.execute((key.as_ref(), value.as_ref()))?;
    }
    drop(put);
    Ok(transaction.commit()?)
}

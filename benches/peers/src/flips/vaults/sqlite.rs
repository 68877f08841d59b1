//! SQLite with one file and a log: one table, a transaction for each commit.

use super::{Candidate, SIMPLE, Vault, shared, shared_key};
use crate::Result;
use crate::engines::sqlite::{PUT, TABLE};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::Path;

pub const CANDIDATE: Candidate = Candidate {
    id: "sqlite",
    title: "SQLite by libsqlite3-sys",
    package: "libsqlite3-sys",
    states: SIMPLE,
    open,
};

const GET: &str = "SELECT v FROM kv WHERE k = ?1";

struct Opened {
    connection: Connection,
}

fn open(folder: &Path, is_new: bool) -> Result<Box<dyn Vault>> {
    let mut flags = OpenFlags::default();
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, is_new);
    if is_new {
        std::fs::create_dir_all(folder)?;
    }
    let connection = Connection::open_with_flags(folder.join("objects.sqlite"), flags)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if is_new {
        connection.execute(TABLE, ())?;
    }
    Ok(Box::new(Opened { connection }))
}

impl Vault for Opened {
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut put = transaction.prepare_cached(PUT)?;
        for (key, value) in shared(object, values) {
            put.execute((&key[..], value))?;
        }
        drop(put);
        Ok(transaction.commit()?)
    }

    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>> {
        let mut get = self.connection.prepare_cached(GET)?;
        let found = get.query_row([&shared_key(object, key)[..]], |row| row.get(0));
        Ok(found.optional()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

//! redb: one table, a transaction for each commit.

use super::{Candidate, SIMPLE, Vault, shared, shared_key};
use crate::Result;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;

pub const CANDIDATE: Candidate =
    Candidate { id: "redb", title: "redb", package: "redb", states: SIMPLE, open };

const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");

struct Opened {
    database: Database,
}

fn open(folder: &Path, is_new: bool) -> Result<Box<dyn Vault>> {
    let path = folder.join("objects.redb");
    if !is_new {
        return Ok(Box::new(Opened { database: Database::open(path)? }));
    }
    std::fs::create_dir_all(folder)?;
    Ok(Box::new(Opened { database: Database::create(path)? }))
}

impl Vault for Opened {
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()> {
        let transaction = self.database.begin_write()?;
        let mut table = transaction.open_table(OBJECTS)?;
        for (key, value) in shared(object, values) {
            table.insert(&key[..], value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>> {
        let table = self.database.begin_read()?.open_table(OBJECTS)?;
        let value = table.get(&shared_key(object, key)[..])?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.close()?)
    }
}

//! redb: one table for all objects; a commit is a transaction, which takes one change or a group
//! that the application made.

use crate::Result;
use crate::engine::{Engine, Facts, Peer, Role};
use crate::key_space::{KeySpace, Shared, Usage};
use crate::workload::{CACHE_BYTES, Key, Layout, Value};
use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;

/// Fixed widths take less room than lengths beside each key.
const OBJECTS: TableDefinition<'_, &Key, &Value> = TableDefinition::new("objects");
/// Keys of an index, which have nothing behind them.
const MARKS: TableDefinition<'_, &Key, ()> = TableDefinition::new("marks");

pub struct Redb {
    pub usage: Usage,
}

const FACTS: Facts = Facts {
    id: "redb",
    title: "redb",
    package: "redb",
    settings: "one table for all objects, keys and values of fixed width; an index in another",
    durability: "a transaction with `Durability::Immediate`, the default",
    source: "https://docs.rs/redb/latest/redb/enum.Durability.html",
    family: "redb",
    objects_max: u64::MAX,
    object_bytes: 3_000,
    has_file_for_each: false,
    role: Role::Blocking,
};

impl Engine for Redb {
    fn facts(&self) -> Facts {
        if self.usage.group_max == 1 {
            return FACTS;
        }
        Facts {
            id: "redb-by-hand",
            title: "redb, grouped by hand",
            settings: "as redb, up to 1,000 commits in one transaction",
            role: Role::ByHand,
            ..FACTS
        }
    }

    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>> {
        std::fs::create_dir_all(folder)?;
        let mut builder = Database::builder();
        let database = builder.set_cache_size(CACHE_BYTES).create(folder.join("objects.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(OBJECTS)?;
        transaction.open_table(MARKS)?;
        transaction.commit()?;
        Ok(Box::new(Shared { space: Opened { database }, usage: self.usage, layout }))
    }
}

struct Opened {
    database: Database,
}

impl KeySpace for Opened {
    fn write(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let transaction = self.database.begin_write()?;
        let mut table = transaction.open_table(OBJECTS)?;
        for (key, value) in puts {
            table.insert(&key, &value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let transaction = self.database.begin_write()?;
        let mut table = transaction.open_table(OBJECTS)?;
        for key in keys {
            table.remove(&key)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn scan(&self, from: &Key, to: &Key, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let table = self.database.begin_read()?.open_table(OBJECTS)?;
        for entry in table.range::<&Key>(from..to)? {
            let (key, value) = entry?;
            visit(key.value(), value.value());
        }
        Ok(())
    }

    fn mark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let transaction = self.database.begin_write()?;
        let mut table = transaction.open_table(MARKS)?;
        for key in keys {
            table.insert(&key, ())?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn unmark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let transaction = self.database.begin_write()?;
        let mut table = transaction.open_table(MARKS)?;
        for key in keys {
            table.remove(&key)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn marks(&self, from: &Key, mut visit: impl FnMut(&[u8])) -> Result<()> {
        let table = self.database.begin_read()?.open_table(MARKS)?;
        for entry in table.range::<&Key>(from..)? {
            visit(entry?.0.value());
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        while self.database.compact()? {}
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.close()?)
    }
}

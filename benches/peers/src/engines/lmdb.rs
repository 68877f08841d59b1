//! LMDB by heed: one database for all objects; a commit is a transaction, which takes one change
//! or a group that the application made.

use crate::Result;
use crate::engine::{Engine, Facts, Peer, Role};
use crate::key_space::{KeySpace, Shared, Usage};
use crate::workload::{Key, Layout, Value};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions};
use std::ops::Bound;
use std::path::Path;

/// Address space, not memory and not disk.
const MAP_BYTES: usize = 64 << 30;

/// All that is stored, as bytes.
pub type Objects = Database<'static, Bytes, Bytes>;

pub struct Lmdb {
    pub usage: Usage,
}

const FACTS: Facts = Facts {
    id: "lmdb",
    title: "LMDB",
    package: "heed",
    settings: "one database for all objects; its only cache is the page cache, which it may have \
               whole",
    durability: "a transaction without `MDB_NOSYNC` and `MDB_NOMETASYNC`, the default",
    source: "http://www.lmdb.tech/doc/group__mdb.html",
    family: "lmdb",
    objects_max: u64::MAX,
    object_bytes: 2_800,
    has_file_for_each: false,
    role: Role::Blocking,
};

impl Engine for Lmdb {
    fn facts(&self) -> Facts {
        if self.usage.group_max == 1 {
            return FACTS;
        }
        Facts {
            id: "lmdb-by-hand",
            title: "LMDB, grouped by hand",
            settings: "as LMDB, up to 1,000 commits in one transaction",
            role: Role::ByHand,
            ..FACTS
        }
    }

    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>> {
        let (environment, objects) = open(folder, MAP_BYTES)?;
        Ok(Box::new(Shared { space: Opened { environment, objects }, usage: self.usage, layout }))
    }
}

/// Opens the environment in a folder, with the database that has no name; makes them if they are
/// not there.
#[expect(unsafe_code, reason = "nobody else opens or changes the files of a measurement")]
pub fn open(folder: &Path, map_bytes: usize) -> Result<(Env, Objects)> {
    std::fs::create_dir_all(folder)?;
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes);
    // SAFETY: the folder is this process's own, and it opens the environment once.
    let environment = unsafe { options.open(folder)? };
    let transaction = environment.write_txn()?;
    let made = environment.create_databases_and_commit(transaction, |opener, transaction| {
        opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
    });
    let objects = made?.unwrap_commit();
    Ok((environment, objects))
}

struct Opened {
    environment: Env,
    objects: Objects,
}

impl Opened {
    fn put<V: AsRef<[u8]>>(&self, puts: impl Iterator<Item = (Key, V)>) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for (key, value) in puts {
            self.objects.put(&mut transaction, &key, value.as_ref())?;
        }
        Ok(transaction.commit()?)
    }
}

impl KeySpace for Opened {
    fn write(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        self.put(puts)
    }

    fn mark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        self.put(keys.map(|key| (key, b"")))
    }

    fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for key in keys {
            self.objects.delete(&mut transaction, &key)?;
        }
        Ok(transaction.commit()?)
    }

    fn scan(&self, from: &Key, to: &Key, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let transaction = self.environment.read_txn()?;
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(from), Bound::Excluded(to));
        for entry in self.objects.range(&transaction, &range)? {
            let (key, value) = entry?;
            visit(key, value);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        // Its documentation has nothing for it but a copy to another file.
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.environment.prepare_for_closing().wait();
        Ok(())
    }
}

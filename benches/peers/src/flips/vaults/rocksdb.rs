//! RocksDB: one column family, a synced batch for each commit.

use super::{Candidate, Vault, WITH_FLUSH, shared, shared_key};
use crate::Result;
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use std::path::Path;

pub const CANDIDATE: Candidate = Candidate {
    id: "rocksdb",
    title: "RocksDB",
    package: "librocksdb-sys",
    states: WITH_FLUSH,
    open,
};

struct Opened {
    database: DB,
}

fn open(folder: &Path, is_new: bool) -> Result<Box<dyn Vault>> {
    let mut options = Options::default();
    options.create_if_missing(is_new);
    Ok(Box::new(Opened { database: DB::open(&options, folder)? }))
}

impl Vault for Opened {
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in shared(object, values) {
            batch.put(key, value);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.database.write_opt(batch, &options)?)
    }

    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.database.get(shared_key(object, key))?)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.database.flush()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        // It closes when it is dropped.
        Ok(())
    }
}

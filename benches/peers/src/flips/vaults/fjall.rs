//! fjall: one keyspace, a batch for each commit.

use super::{Candidate, Vault, WITH_FLUSH, shared, shared_key};
use crate::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

pub const CANDIDATE: Candidate =
    Candidate { id: "fjall", title: "fjall", package: "fjall", states: WITH_FLUSH, open };

struct Opened {
    database: Database,
    objects: Keyspace,
}

/// It has no way to open only what is there.
fn open(folder: &Path, _is_new: bool) -> Result<Box<dyn Vault>> {
    let database = Database::builder(folder).open()?;
    let objects = database.keyspace("objects", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Opened { database, objects }))
}

impl Vault for Opened {
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in shared(object, values) {
            batch.insert(&self.objects, key, value);
        }
        Ok(batch.commit()?)
    }

    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.objects.get(shared_key(object, key))?.map(|value| value.to_vec()))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.objects.rotate_memtable_and_wait()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

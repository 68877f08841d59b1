//! fjall: one journal, one keyspace for all objects; a commit is a batch, which takes one change
//! or a group that the application made.

use crate::Result;
use crate::engine::{Engine, Facts, Peer, Role};
use crate::key_space::{KeySpace, Shared, Usage};
use crate::workload::{CACHE_BYTES, Key, Layout, Value};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

pub struct Fjall {
    pub usage: Usage,
}

const FACTS: Facts = Facts {
    id: "fjall",
    title: "fjall",
    package: "fjall",
    settings: "one keyspace for all objects, as many keyspaces cost memory and files each",
    durability: "a batch with `PersistMode::SyncData`",
    source: "https://docs.rs/fjall/latest/fjall/enum.PersistMode.html",
    family: "fjall",
    objects_max: u64::MAX,
    object_bytes: 2_600,
    has_file_for_each: false,
    role: Role::Blocking,
};

impl Engine for Fjall {
    fn facts(&self) -> Facts {
        if self.usage.group_max == 1 {
            return FACTS;
        }
        Facts {
            id: "fjall-by-hand",
            title: "fjall, grouped by hand",
            settings: "as fjall, up to 1,000 commits in one batch",
            role: Role::ByHand,
            ..FACTS
        }
    }

    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>> {
        let database = Database::builder(folder).cache_size(CACHE_BYTES as u64).open()?;
        let objects = database.keyspace("objects", KeyspaceCreateOptions::default)?;
        Ok(Box::new(Shared { space: Opened { database, objects }, usage: self.usage, layout }))
    }
}

struct Opened {
    database: Database,
    objects: Keyspace,
}

impl Opened {
    fn commit<V: AsRef<[u8]>>(
        &self,
        puts: impl Iterator<Item = (Key, V)>,
        durability: Option<PersistMode>,
    ) -> Result<()> {
        let mut batch = self.database.batch().durability(durability);
        for (key, value) in puts {
            batch.insert(&self.objects, key, value.as_ref());
        }
        Ok(batch.commit()?)
    }
}

impl KeySpace for Opened {
    fn write(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        self.commit(puts, Some(PersistMode::SyncData))
    }

    fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for key in keys {
            batch.remove(&self.objects, key);
        }
        Ok(batch.commit()?)
    }

    fn write_lazily(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        self.commit(puts, None)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn mark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        self.commit(keys.map(|key| (key, b"")), Some(PersistMode::SyncData))
    }

    fn scan(&self, from: &Key, to: &Key, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for item in self.objects.range(*from..*to) {
            let (key, value) = item.into_inner()?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.objects.rotate_memtable_and_wait()?;
        Ok(self.objects.major_compact()?)
    }

    fn close(self) -> Result<()> {
        self.sync()
    }
}

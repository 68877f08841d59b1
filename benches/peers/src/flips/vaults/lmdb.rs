//! LMDB by heed: one database, a transaction for each commit.

use super::{Candidate, SIMPLE, Vault, shared, shared_key};
use crate::Result;
use crate::engines::lmdb;
use heed::Env;
use std::path::Path;

pub const CANDIDATE: Candidate =
    Candidate { id: "lmdb", title: "LMDB by heed", package: "heed", states: SIMPLE, open };

/// By default it takes a mebibyte, which is too little.
const MAP_BYTES: usize = 64 << 20;

struct Opened {
    environment: Env,
    objects: lmdb::Objects,
}

/// Its one database without a name is in every file.
fn open(folder: &Path, _is_new: bool) -> Result<Box<dyn Vault>> {
    let (environment, objects) = lmdb::open(folder, MAP_BYTES)?;
    Ok(Box::new(Opened { environment, objects }))
}

impl Vault for Opened {
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for (key, value) in shared(object, values) {
            self.objects.put(&mut transaction, &key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>> {
        let transaction = self.environment.read_txn()?;
        let value = self.objects.get(&transaction, &shared_key(object, key))?;
        Ok(value.map(<[u8]>::to_vec))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.environment.prepare_for_closing().wait();
        Ok(())
    }
}

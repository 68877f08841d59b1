//! SurrealKV: one tree, a transaction for each commit.

use super::{Candidate, SIMPLE, Vault, shared, shared_key};
use crate::Result;
use std::path::Path;
use surrealkv::{Durability, Mode, Options, Tree, TreeBuilder};
use tokio::runtime::Runtime;

/// Closing brings its data into tables by default.
pub const CANDIDATE: Candidate =
    Candidate { id: "surrealkv", title: "SurrealKV", package: "surrealkv", states: SIMPLE, open };

struct Opened {
    runtime: Runtime,
    tree: Tree,
}

/// It has no way to open only what is there.
fn open(folder: &Path, _is_new: bool) -> Result<Box<dyn Vault>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let options = Options::new().with_path(folder.to_owned());
    let tree = {
        let _entered = runtime.enter();
        TreeBuilder::with_options(options).build()?
    };
    Ok(Box::new(Opened { runtime, tree }))
}

impl Vault for Opened {
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()> {
        let transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
        let mut transaction = transaction.with_durability(Durability::Immediate);
        for (key, value) in shared(object, values) {
            transaction.set(&key[..], value)?;
        }
        Ok(self.runtime.block_on(transaction.commit())?)
    }

    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        Ok(transaction.get(&shared_key(object, key)[..])?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}

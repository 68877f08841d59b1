//! dostore, with history, as it is by default: each object an object of its own, or all of them
//! together one large object.

use super::{Candidate, SIMPLE, Vault, shared};
use crate::Result;
use crate::workload::own_key;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use std::path::Path;

pub const MANY: Candidate = Candidate {
    id: "dostore",
    title: "dostore, 200 objects of ten keys",
    package: "dostore",
    states: SIMPLE,
    open: |folder, is_new| Opened::open(folder, is_new, false),
};

pub const ONE: Candidate = Candidate {
    id: "dostore-large",
    title: "dostore, one object of 2,000 keys",
    open: |folder, is_new| Opened::open(folder, is_new, true),
    ..MANY
};

struct Opened {
    store: Store,
    namespace: Namespace,
    is_one: bool,
}

impl Opened {
    fn open(folder: &Path, is_new: bool, is_one: bool) -> Result<Box<dyn Vault>> {
        let store = Store::options().create(is_new).open(folder)?;
        let namespace = store.namespace("flips")?;
        Ok(Box::new(Self { store, namespace, is_one }))
    }

    /// Opened anew for each key: what is wrong with it shows at a read, and with every key.
    fn object(&self, object: u64) -> Result<Object> {
        let name = if self.is_one { "large".to_owned() } else { object.to_string() };
        Ok(self.namespace.open_by_name(&name)?)
    }
}

impl Vault for Opened {
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()> {
        let mut opened = self.object(object)?;
        let mut turn = opened.turn();
        for (own, (whole, value)) in shared(object, values).enumerate() {
            if self.is_one {
                turn.put(whole, value)?;
            } else {
                turn.put(own_key(own), value)?;
            }
        }
        turn.commit()?.wait()?;
        Ok(())
    }

    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>> {
        let opened = self.object(object)?;
        let value = if self.is_one {
            opened.get(super::shared_key(object, key))?
        } else {
            opened.get(own_key(key))?
        };
        Ok(value.map(|value| value.to_vec()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

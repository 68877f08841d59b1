//! The objects in memory: those with an open handle, and those whose overlay has layers.
//!
//! Invariants:
//!   * An object that left the table is marked evicted under its own lock first, so whoever still
//!     holds it looks again.
//!   * A shard is never held while waiting for an object: eviction only tries.

use crate::ids::Address;
use crate::object::ObjectState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

const SHARDS: usize = 64;

/// All objects in memory, by address.
#[derive(Debug)]
pub struct Table {
    /// Before objects in the lock order.
    shards: Vec<Mutex<HashMap<Address, Arc<ObjectState>>>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Table {
    fn shard(&self, address: &Address) -> &Mutex<HashMap<Address, Arc<ObjectState>>> {
        let last = address.id.0[15] ^ address.id.0[0];
        &self.shards[usize::from(last) % SHARDS]
    }

    /// The object, if it is in memory.
    pub fn get(&self, address: &Address) -> Option<Arc<ObjectState>> {
        self.shard(address).lock().get(address).cloned()
    }

    /// The object in memory; put there, not loaded yet, if it is not.
    pub fn get_or_insert(&self, address: Address) -> Arc<ObjectState> {
        let mut shard = self.shard(&address).lock();
        Arc::clone(shard.entry(address).or_insert_with(|| Arc::new(ObjectState::new(address))))
    }

    /// Takes out an object that is marked evicted.
    pub fn remove(&self, object: &Arc<ObjectState>) {
        let mut shard = self.shard(&object.address).lock();
        if shard.get(&object.address).is_some_and(|found| Arc::ptr_eq(found, object)) {
            shard.remove(&object.address);
        }
    }

    /// Lets an object go that nobody has open and that has no layers.
    pub fn evict(&self, object: &Arc<ObjectState>) {
        let mut shard = self.shard(&object.address).lock();
        let Some(mut inner) = object.inner.try_lock() else { return };
        if inner.is_open || !inner.layers.is_empty() || inner.is_evicted {
            return;
        }
        inner.is_evicted = true;
        shard.remove(&object.address);
    }

    /// Objects in memory.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// The addresses in memory of one namespace or all, in order, from `from` on.
    pub fn addresses_from(&self, from: Address, to: Address) -> Vec<Address> {
        let mut found: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| shard.lock().keys().copied().collect::<Vec<_>>())
            .filter(|address| (from..=to).contains(address))
            .collect();
        found.sort_unstable();
        found
    }
}

//! The objects in memory: those with an open handle, and those whose overlay has layers.
//!
//! Invariants:
//!   * An object that left the table is marked evicted under its own lock first, so whoever still
//!     holds it looks again.
//!   * A shard is never held while waiting for an object: eviction only tries. What it could not
//!     try is tried again with the next one, and by each checkpoint.

use crate::ids::Address;
use crate::locks::{Mutex, Ranked, rank};
use crate::object::ObjectState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

const SHARDS: usize = 64;

type Shard = HashMap<Address, Arc<ObjectState>, Seed>;

/// What a table's hashes begin with: differs from table to table, so that nobody can choose ids
/// that fall together.
#[derive(Clone, Copy, Debug)]
struct Seed(u64);

impl BuildHasher for Seed {
    type Hasher = AddressHasher;

    fn build_hasher(&self) -> AddressHasher {
        AddressHasher(self.0)
    }
}

/// A hash of addresses. Ids are uniform already, so one multiplication for each word is enough.
struct AddressHasher(u64);

impl AddressHasher {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are meant")]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    /// Lengths: of addresses there is one only.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Behind objects in the lock order: no object is waited for while a shard is held.
type RankedShard = Ranked<Shard, { rank::SHARD }>;

/// All objects in memory, by address.
#[derive(Debug)]
pub struct Table {
    shards: Vec<RankedShard>,
    /// Objects that somebody looked at when they could have gone.
    missed: Mutex<Vec<Weak<ObjectState>>>,
    has_missed: AtomicBool,
}

impl Default for Table {
    fn default() -> Self {
        let seed = Seed(RandomState::new().hash_one(SHARDS));
        let shard = || RankedShard::new(Shard::with_hasher(seed));
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            missed: Mutex::default(),
            has_missed: AtomicBool::new(false),
        }
    }
}

impl Table {
    fn shard(&self, address: &Address) -> &RankedShard {
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
        self.evict_missed();
        self.try_evict(object);
    }

    /// Tries again with objects that somebody looked at when they could have gone.
    pub fn evict_missed(&self) {
        if !self.has_missed.load(Ordering::Relaxed) {
            return;
        }
        let missed = {
            let mut missed = self.missed.lock();
            self.has_missed.store(false, Ordering::Relaxed);
            std::mem::take(&mut *missed)
        };
        for object in missed.iter().filter_map(Weak::upgrade) {
            self.try_evict(&object);
        }
    }

    fn try_evict(&self, object: &Arc<ObjectState>) {
        let mut shard = self.shard(&object.address).lock();
        let Some(mut inner) = object.inner.try_lock() else {
            drop(shard);
            let mut missed = self.missed.lock();
            missed.push(Arc::downgrade(object));
            self.has_missed.store(true, Ordering::Relaxed);
            return;
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NamespaceNumber, ShortId};

    #[test]
    fn an_object_that_is_looked_at_as_it_could_go_goes_with_the_next_one() {
        let table = Table::default();
        let at = |n| Address { namespace: NamespaceNumber(1), id: ShortId([n; 16]) };
        let (one, other) = (table.get_or_insert(at(1)), table.get_or_insert(at(2)));
        let looking = one.inner.lock();
        table.evict(&one);
        table.evict(&other);
        assert_eq!(table.count(), 1, "it is still looked at");
        drop(looking);
        table.evict_missed();
        assert_eq!(table.count(), 0);
        // One that was opened meanwhile stays.
        let one = table.get_or_insert(at(1));
        let mut looking = one.inner.lock();
        table.evict(&one);
        looking.is_open = true;
        drop(looking);
        table.evict_missed();
        assert_eq!(table.count(), 1);
    }
}

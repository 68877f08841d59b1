//! Typed values: constants that say where a value stands and how it becomes bytes.
//!
//! Invariants:
//!   * Each value is stored with the codec that wrote it, and read by that one, so that the
//!     encoding of a constant may be changed while old values are there.
//!   * Keys of a map stand behind its prefix, and order as the keys do.

mod encoding;
mod key;

pub use key::MapKey;

use super::storage::Storage;
use crate::error::{Error, Result};
use crate::store::list::{Entries, ListOptions};
use crate::store::value::Value;
use encoding::Encoding;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

/// One value under one key.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "json")] {
/// # use dostore::actor::{Storage, typed::Cell};
/// const COUNT: Cell<u64> = Cell::json("count");
///
/// fn visit(storage: &Storage) -> dostore::error::Result<u64> {
///     COUNT.update(storage, |count| *count += 1)
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Cell<T> {
    key: &'static str,
    encoding: Encoding,
    value: PhantomData<fn() -> T>,
}

impl<T> Cell<T> {
    /// The value under `key`, written as JSON.
    #[cfg(feature = "json")]
    pub const fn new(key: &'static str) -> Self {
        Self::json(key)
    }

    /// The value under `key`, written as JSON.
    #[cfg(feature = "json")]
    pub const fn json(key: &'static str) -> Self {
        Self { key, encoding: Encoding::Json, value: PhantomData }
    }

    /// The value under `key`, written as `MessagePack`.
    #[cfg(feature = "msgpack")]
    pub const fn msgpack(key: &'static str) -> Self {
        Self { key, encoding: Encoding::MessagePack, value: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Cell<T> {
    /// The value, if it is there. Fails with `value.decode` where it is not one of this type.
    pub fn get(&self, storage: &Storage) -> Result<Option<T>> {
        storage.get(self.key)?.as_ref().map(encoding::decode).transpose()
    }

    /// Sets the value. Fails with `value.encode` where its type refuses.
    pub fn set(&self, storage: &Storage, value: &T) -> Result<()> {
        storage.put_as(self.key, self.encoding.codec(), self.encoding.encode(value)?)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn set_unconfirmed(&self, storage: &Storage, value: &T) -> Result<()> {
        storage.put_as_unconfirmed(self.key, self.encoding.codec(), self.encoding.encode(value)?)
    }

    /// Deletes the value. Says whether it was there.
    pub fn delete(&self, storage: &Storage) -> Result<bool> {
        storage.delete(self.key)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn delete_unconfirmed(&self, storage: &Storage) -> Result<bool> {
        storage.delete_unconfirmed(self.key)
    }

    /// Changes the value, or the default where there is none, and gives what it is then: nothing
    /// comes between the read and the write. A panic of `change` breaks the object.
    pub fn update(&self, storage: &Storage, change: impl FnOnce(&mut T)) -> Result<T>
    where
        T: Default,
    {
        self.update_by(storage, change, Self::set)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn update_unconfirmed(&self, storage: &Storage, change: impl FnOnce(&mut T)) -> Result<T>
    where
        T: Default,
    {
        self.update_by(storage, change, Self::set_unconfirmed)
    }

    fn update_by(
        &self,
        storage: &Storage,
        change: impl FnOnce(&mut T),
        set: impl FnOnce(&Self, &Storage, &T) -> Result<()>,
    ) -> Result<T>
    where
        T: Default,
    {
        storage.in_turn(|_| {
            let mut value = self.get(storage)?.unwrap_or_default();
            change(&mut value);
            set(self, storage, &value)?;
            Ok(value)
        })
    }
}

/// Values under the keys that begin with a prefix. All keys that begin so are the map's, and one
/// that is not of its type is told as `key.decode` in its place: so end the prefix with what no
/// other constant's key goes on with, as `/`.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "json")] {
/// # use dostore::actor::{Storage, typed::Map};
/// const LINES: Map<u64, String> = Map::json("line/");
///
/// fn last(storage: &Storage) -> dostore::error::Result<Option<(u64, String)>> {
///     LINES.entries(storage)?.next_back().transpose()
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Map<K, V> {
    prefix: &'static str,
    encoding: Encoding,
    entry: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Map<K, V> {
    /// The values behind `prefix`, written as JSON.
    #[cfg(feature = "json")]
    pub const fn new(prefix: &'static str) -> Self {
        Self::json(prefix)
    }

    /// The values behind `prefix`, written as JSON.
    #[cfg(feature = "json")]
    pub const fn json(prefix: &'static str) -> Self {
        Self { prefix, encoding: Encoding::Json, entry: PhantomData }
    }

    /// The values behind `prefix`, written as `MessagePack`.
    #[cfg(feature = "msgpack")]
    pub const fn msgpack(prefix: &'static str) -> Self {
        Self { prefix, encoding: Encoding::MessagePack, entry: PhantomData }
    }
}

impl<K: MapKey, V: Serialize + DeserializeOwned> Map<K, V> {
    fn key(&self, key: &K) -> Vec<u8> {
        let mut bytes = self.prefix.as_bytes().to_vec();
        key.encode(&mut bytes);
        bytes
    }

    /// The value of a key, if it is there. Fails with `value.decode` where it is not of this type.
    pub fn get(&self, storage: &Storage, key: impl Borrow<K>) -> Result<Option<V>> {
        storage.get(self.key(key.borrow()))?.as_ref().map(encoding::decode).transpose()
    }

    /// Whether a key is there.
    pub fn contains(&self, storage: &Storage, key: impl Borrow<K>) -> Result<bool> {
        storage.contains(self.key(key.borrow()))
    }

    /// Sets the value of a key. Fails with `value.encode` where its type refuses.
    pub fn insert(&self, storage: &Storage, key: impl Borrow<K>, value: &V) -> Result<()> {
        let bytes = self.encoding.encode(value)?;
        storage.put_as(self.key(key.borrow()), self.encoding.codec(), bytes)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn insert_unconfirmed(
        &self,
        storage: &Storage,
        key: impl Borrow<K>,
        value: &V,
    ) -> Result<()> {
        let bytes = self.encoding.encode(value)?;
        storage.put_as_unconfirmed(self.key(key.borrow()), self.encoding.codec(), bytes)
    }

    /// Deletes a key. Says whether it was there.
    pub fn remove(&self, storage: &Storage, key: impl Borrow<K>) -> Result<bool> {
        storage.delete(self.key(key.borrow()))
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn remove_unconfirmed(&self, storage: &Storage, key: impl Borrow<K>) -> Result<bool> {
        storage.delete_unconfirmed(self.key(key.borrow()))
    }

    /// Changes the value of a key, or the default where there is none, and gives what it is then.
    /// See [`Cell::update`].
    pub fn update(
        &self,
        storage: &Storage,
        key: impl Borrow<K>,
        change: impl FnOnce(&mut V),
    ) -> Result<V>
    where
        V: Default,
    {
        self.update_by(storage, key.borrow(), change, |map, storage, key, value| {
            map.insert(storage, key, value)
        })
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn update_unconfirmed(
        &self,
        storage: &Storage,
        key: impl Borrow<K>,
        change: impl FnOnce(&mut V),
    ) -> Result<V>
    where
        V: Default,
    {
        self.update_by(storage, key.borrow(), change, |map, storage, key, value| {
            map.insert_unconfirmed(storage, key, value)
        })
    }

    fn update_by(
        &self,
        storage: &Storage,
        key: &K,
        change: impl FnOnce(&mut V),
        insert: impl FnOnce(&Self, &Storage, &K, &V) -> Result<()>,
    ) -> Result<V>
    where
        V: Default,
    {
        storage.in_turn(|_| {
            let mut value = self.get(storage, key)?.unwrap_or_default();
            change(&mut value);
            insert(self, storage, key, &value)?;
            Ok(value)
        })
    }

    /// Every entry in the order of the keys, as of this call. An entry fails with `key.decode` or
    /// `value.decode` where it is not of the map's types; the others follow.
    pub fn entries(&self, storage: &Storage) -> Result<MapEntries<K, V>> {
        self.range(storage, ..)
    }

    /// The entries in a range of keys, in their order, as of this call.
    pub fn range(&self, storage: &Storage, range: impl RangeBounds<K>) -> Result<MapEntries<K, V>> {
        let mut options = ListOptions::new().prefix(self.prefix);
        options = match range.start_bound() {
            Bound::Included(key) => options.start(self.key(key)),
            Bound::Excluded(key) => options.start_after(self.key(key)),
            Bound::Unbounded => options,
        };
        options = match range.end_bound() {
            // The first key behind it.
            Bound::Included(key) => options.end([self.key(key), vec![0]].concat()),
            Bound::Excluded(key) => options.end(self.key(key)),
            Bound::Unbounded => options,
        };
        let entries = storage.list(options)?;
        Ok(MapEntries { entries, prefix_bytes: self.prefix.len(), entry: PhantomData })
    }

    /// How many entries there are. Looks at each key.
    pub fn count(&self, storage: &Storage) -> Result<u64> {
        storage.count(ListOptions::new().prefix(self.prefix))
    }

    /// Deletes every entry, without looking at them.
    pub fn clear(&self, storage: &Storage) -> Result<()> {
        storage.delete_range::<Vec<u8>>(self.bounds())
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn clear_unconfirmed(&self, storage: &Storage) -> Result<()> {
        storage.delete_range_unconfirmed::<Vec<u8>>(self.bounds())
    }

    /// Where the map's keys are.
    fn bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let start = self.prefix.as_bytes();
        // No byte of UTF-8 is the greatest, so the next prefix differs in the last byte.
        match start.split_last() {
            None => (Bound::Unbounded, Bound::Unbounded),
            Some((last, head)) => {
                let end = [head, &[last + 1]].concat();
                (Bound::Included(start.to_vec()), Bound::Excluded(end))
            }
        }
    }
}

/// Entries of a [`Map`], from both ends. A snapshot as of its creation.
#[derive(Debug)]
pub struct MapEntries<K, V> {
    entries: Entries,
    prefix_bytes: usize,
    entry: PhantomData<fn() -> (K, V)>,
}

impl<K: MapKey, V: DeserializeOwned> MapEntries<K, V> {
    fn decode(&self, entry: Result<(Value, Value)>) -> Result<(K, V)> {
        let (key, value) = entry?;
        let key = K::decode(key.get(self.prefix_bytes..).unwrap_or_default()).ok_or_else(|| {
            Error::invalid("key.decode", "a key behind the map's prefix is not one of its type")
        })?;
        Ok((key, encoding::decode(&value)?))
    }
}

impl<K: MapKey, V: DeserializeOwned> Iterator for MapEntries<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(self.decode(entry))
    }
}

impl<K: MapKey, V: DeserializeOwned> DoubleEndedIterator for MapEntries<K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next_back()?;
        Some(self.decode(entry))
    }
}

//! A namespace: objects by id or by name.

use super::Store;
use super::activate::{Activate, Which};
use super::commit::{Commit, Position};
use super::object::Object;
use super::objects::Objects;
use super::snapshot::Snapshot;
use crate::engine::catalog::NamespaceEntry;
use crate::error::{Error, Result};
use crate::format::record::Operation;
use crate::ids::{Address, NamespaceNumber, ObjectId, ShortId};
use crate::limits::check_name;
use crate::object::write_set::WriteSet;
use crate::wal::group_commit::Grant;
use std::sync::Arc;

/// A namespace of a store. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Namespace {
    pub(crate) store: Store,
    name: Arc<str>,
    entry: NamespaceEntry,
}

impl Namespace {
    pub(crate) fn new(store: Store, name: &str, entry: NamespaceEntry) -> Self {
        Self { store, name: name.into(), entry }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the object with this name: always the same one.
    pub fn id_from_name(&self, name: &str) -> ObjectId {
        self.entry.key.named(name)
    }

    /// A new id that no other object has.
    pub fn random_id(&self) -> Result<ObjectId> {
        let mut half = [0; 16];
        let drawn = self.store.engine().disk.random(&mut half);
        drawn.map_err(|cause| Error::io("drawing an id", cause))?;
        Ok(self.entry.key.random(half))
    }

    /// The id that 64 hex digits say. Fails with `id.malformed`, or with `id.foreign` for an id of
    /// another namespace.
    pub fn id_from_hex(&self, hex: &str) -> Result<ObjectId> {
        self.entry.key.parse(hex)
    }

    pub(crate) fn id_of(&self, short: ShortId) -> ObjectId {
        self.entry.key.from_short(short)
    }

    pub(crate) fn address(&self, id: ObjectId) -> Result<Address> {
        let short = id.short();
        if self.id_of(short) != id {
            let what = "the id is of another namespace";
            return Err(Error::invalid("id.foreign", what));
        }
        Ok(Address { namespace: self.entry.number, id: short })
    }

    pub(crate) fn number(&self) -> NamespaceNumber {
        self.entry.number
    }

    pub(crate) fn first_address(&self) -> Address {
        Address { namespace: self.entry.number, id: ShortId([0; 16]) }
    }

    /// Opens an object, there or not: one look-up in the directory, on this thread. Its page is
    /// read when something is read from it. Fails with `object.open` while another handle is open.
    pub fn open(&self, id: ObjectId) -> Result<Object> {
        let address = self.address(id)?;
        Object::open(self.store.clone(), address, id, None)
    }

    /// Opens the object with this name; from its first commit on the name is kept with it.
    pub fn open_by_name(&self, name: &str) -> Result<Object> {
        check_name(name)?;
        let id = self.id_from_name(name);
        let address = self.address(id)?;
        Object::open(self.store.clone(), address, id, Some(name))
    }

    /// The same as [`Namespace::open`] and a first read, as a future: the look-up and the read of
    /// its page happen on a thread of the store. Dropping the future gives the object back.
    pub fn activate(&self, id: ObjectId) -> Activate {
        Activate::new(self.clone(), Which::Id(id))
    }

    /// The same for the object with this name, as [`Namespace::open_by_name`] opens it.
    pub fn activate_by_name(&self, name: &str) -> Activate {
        Activate::new(self.clone(), Which::Name(name.into()))
    }

    /// An object as of now, without opening it, once what it shows is durable.
    pub fn snapshot(&self, id: ObjectId) -> Result<Snapshot> {
        let engine = self.store.engine();
        engine.check_alive()?;
        Snapshot::durable(engine, engine.view(self.address(id)?)?)
    }

    /// An object after its last commit at or before `at`. Nothing is waited for.
    #[doc(hidden)]
    pub fn snapshot_as_of(&self, id: ObjectId, at: crate::ids::Lsn) -> Result<Snapshot> {
        let engine = self.store.engine();
        engine.check_alive()?;
        Ok(Snapshot::new(engine.view_at(self.address(id)?, at)?))
    }

    /// The objects of the namespace, by id, without opening any.
    pub fn objects(&self) -> Objects {
        Objects::new(self.clone(), self.first_address())
    }

    /// The objects from this id on, itself included.
    pub fn objects_from(&self, id: ObjectId) -> Result<Objects> {
        Ok(Objects::new(self.clone(), self.address(id)?))
    }

    /// Deletes an object with everything in it, at a cost that does not depend on its size. An
    /// open handle loses its right to the object: its next call fails with `handle.fenced`.
    pub fn delete(&self, id: ObjectId) -> Result<Commit> {
        let engine = self.store.engine();
        let mut changes = WriteSet::new();
        let everything = Operation::DeleteAll { keep_alarms: false };
        changes.push(&engine.options.limits, &everything)?;
        Ok(self.committed(engine.end_life(self.address(id)?, changes)?))
    }

    /// Deletes an object with everything in it and everything that ever was. From this commit on
    /// its past is out of reach, and a step in the background removes its bytes from all files: at
    /// once where the store has threads, else by [`Steps::erase`](super::Steps::erase). That step
    /// reads every segment once, and rewrites those that the object shares, so several purges one
    /// after the other cost little more than one. An open handle loses its right to the object: its
    /// next call fails with `handle.fenced`. The id may be used again.
    ///
    /// ```
    /// # fn main() -> dostore::error::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = dostore::store::Store::open(dir.path())?;
    /// let people = store.namespace("people")?;
    /// people.open_by_name("ann")?.put("email", "ann@example.org")?.wait()?;
    /// people.purge(people.id_from_name("ann"))?.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn purge(&self, id: ObjectId) -> Result<Commit> {
        Ok(self.committed(self.store.engine().purge(self.address(id)?)?))
    }

    fn committed(&self, grant: Grant) -> Commit {
        let position = Position { lsn: grant.lsn, time: grant.time };
        Commit::new(self.store.clone(), position)
    }
}

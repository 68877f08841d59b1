//! A namespace: objects by id or by name.
//!
//! Invariants:
//!   * An id is taken only where the namespace's key proves it.
//!   * What deletes an object from outside its handle takes the handle's right to it.

use super::Store;
use super::activate::{Activate, Which};
use super::commit::Commit;
use super::object::Object;
use super::objects::Objects;
use super::snapshot::Snapshot;
use crate::bookmark::Bookmark;
use crate::engine::catalog::NamespaceEntry;
use crate::error::{Error, Result};
use crate::format::record::Operation;
use crate::ids::{Address, NamespaceNumber, ObjectId, ShortId};
use crate::limits::check_name;
use crate::object::write_set::WriteSet;
use crate::object_id::IdMaker;
use crate::retention::Retention;
use std::sync::Arc;

/// How a namespace is made, if there is none of its name.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct NamespaceOptions {
    pub(super) unique_key: Option<String>,
    pub(super) retention: Option<Retention>,
}

impl NamespaceOptions {
    /// Ids derived with the namespace's name; history kept as long as the store's.
    pub fn new() -> Self {
        Self::default()
    }

    /// What object ids are derived with.
    pub fn unique_key(mut self, unique_key: &str) -> Self {
        self.unique_key = Some(unique_key.to_owned());
        self
    }

    /// How long its history is kept, whatever the store's setting. Whole seconds count.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }
}

/// A namespace of a store. Cloning is cheap; a clone keeps the store open.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = dostore::store::Store::open(dir.path())?;
/// let rooms = store.namespace("rooms")?;
/// let id = rooms.id_from_name("lobby"); // Always the same one.
/// rooms.open_by_name("lobby")?.put("topic", "rust")?.wait()?;
/// for object in rooms.objects() {
///     let object = object?;
///     assert_eq!((object.id, object.keys), (id, 1));
/// }
/// rooms.delete(id)?.wait()?;
/// assert!(rooms.snapshot(id)?.is_empty()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Namespace {
    pub(crate) store: Store,
    name: Arc<str>,
    entry: NamespaceEntry,
    ids: Arc<IdMaker>,
}

impl Namespace {
    pub(crate) fn new(store: Store, name: &str, entry: NamespaceEntry) -> Self {
        let ids = Arc::new(entry.key.maker());
        Self { store, name: name.into(), entry, ids }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long its history is kept by a setting of its own; none where the store's holds.
    pub fn retention(&self) -> Option<Retention> {
        self.store.engine().retention(self.entry.number)
    }

    /// Sets how long its history is kept; none for as long as the store's. Blocks until that is
    /// durable; in force from the next checkpoint on. Switching history off ends it: what there was
    /// cannot be read any more, and is removed; history switched on again begins there.
    pub fn set_retention(&self, retention: Option<Retention>) -> Result<()> {
        self.store.engine().check_alive()?;
        self.store.engine().set_retention(&self.name, retention)
    }

    /// The id of the object with this name: always the same one. Computes a hash, reads nothing.
    pub fn id_from_name(&self, name: &str) -> ObjectId {
        self.ids.named(name)
    }

    /// A new id that no other object has, drawn at random. Fails with `Io` where the system gives
    /// no randomness.
    pub fn random_id(&self) -> Result<ObjectId> {
        let mut half = [0; 16];
        let drawn = self.store.engine().disk.random(&mut half);
        drawn.map_err(|cause| Error::io("drawing an id", cause))?;
        Ok(self.ids.from_short(ShortId(half)))
    }

    /// The id that 64 hex digits say. Fails with `id.malformed`, or with `id.foreign` for an id of
    /// another namespace.
    pub fn id_from_hex(&self, hex: &str) -> Result<ObjectId> {
        self.ids.parse(hex)
    }

    /// The id that 32 bytes are, as [`ObjectId::as_bytes`] gives them. Fails with `id.foreign` for
    /// an id of another namespace, unless that was made with the same `unique_key`.
    pub fn id_from_bytes(&self, bytes: [u8; 32]) -> Result<ObjectId> {
        let id = ObjectId(bytes);
        self.address(id).map(|_| id)
    }

    pub(crate) fn id_of(&self, short: ShortId) -> ObjectId {
        self.ids.from_short(short)
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
    /// read when something is read from it. A restoration that waits for this open is done first,
    /// see [`Object::restore_on_next_open`].
    ///
    /// Fails with `object.open` while another handle is open, with `object.unfinished` where an
    /// import of it was not completed, and with `id.foreign` for an id of another namespace.
    pub fn open(&self, id: ObjectId) -> Result<Object> {
        let address = self.address(id)?;
        Object::open(self.store.clone(), address, id, None)
    }

    /// Opens the object with this name, as [`Namespace::open`] does; from its first commit on the
    /// name is kept with it. Fails with `limit.name` for a name of more than 1,024 bytes.
    pub fn open_by_name(&self, name: &str) -> Result<Object> {
        check_name(name)?;
        let id = self.id_from_name(name);
        let address = self.address(id)?;
        Object::open(self.store.clone(), address, id, Some(name))
    }

    /// The same as [`Namespace::open`] and a first read, as a future: the look-up and the read of
    /// its page happen on a thread of the store. Dropping the future gives the object back. Fails
    /// with `Corrupt` too, where the first page is damaged; [`Namespace::open`] opens it then.
    pub fn activate(&self, id: ObjectId) -> Activate {
        Activate::new(self.clone(), Which::Id(id))
    }

    /// The same for the object with this name, as [`Namespace::open_by_name`] opens it.
    pub fn activate_by_name(&self, name: &str) -> Activate {
        Activate::new(self.clone(), Which::Name(name.into()))
    }

    /// An object as of now, there or not, without opening it. Blocks until what it shows is
    /// durable. Fails with `object.unfinished` where an import of it was not completed.
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

    /// An object as of now, to come back to, once what it names is durable; without opening it.
    pub fn current_bookmark(&self, id: ObjectId) -> Result<Bookmark> {
        let engine = self.store.engine();
        engine.check_alive()?;
        let address = self.address(id)?;
        // Before the object: what is durable by then and of the object, the view has.
        let durable = engine.wal.durable();
        let last = engine.view(address)?.state.last_lsn;
        engine.wait_durable(last)?;
        Ok(engine.bookmark(address, last.max(durable)))
    }

    /// The objects of the namespace, by id, without opening any. Lazy: each costs the look-ups of
    /// its entry and its name, and waits until its last commit is durable; memory is that of some
    /// hundred addresses.
    pub fn objects(&self) -> Objects {
        Objects::new(self.clone(), self.first_address())
    }

    /// The objects from this id on, itself included.
    pub fn objects_from(&self, id: ObjectId) -> Result<Objects> {
        Ok(Objects::new(self.clone(), self.address(id)?))
    }

    /// Deletes an object with everything in it, at a cost that does not depend on its size; its
    /// history stays. An open handle loses its right to the object: its next call fails with
    /// `handle.fenced`.
    pub fn delete(&self, id: ObjectId) -> Result<Commit> {
        let engine = self.store.engine();
        let mut changes = WriteSet::new();
        let everything = Operation::DeleteAll { keep_alarms: false };
        changes.push(&engine.options.limits, &everything)?;
        let address = self.address(id)?;
        let grant = engine.commit_from_outside(address, changes)?;
        Ok(Commit::of_grant(self.store.clone(), address, &grant))
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
        let address = self.address(id)?;
        let grant = self.store.engine().purge(address)?;
        Ok(Commit::of_grant(self.store.clone(), address, &grant))
    }
}

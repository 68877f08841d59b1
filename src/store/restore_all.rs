//! Restoring many objects to one time: a namespace, or all of a store.
//!
//! Object by object, each as one commit of its own: together they are not atomic. What was restored
//! already is as it was then and is left alone, so a second run goes on where the first one ended.
//!
//! Invariants:
//!   * Every object that was committed to since the time is looked at, deleted ones included.
//!   * An object that is as it was then gets no commit.

use super::Store;
use super::addresses::Addresses;
use super::namespace::Namespace;
use super::restore::{RestoreOptions, Restored};
use super::restore_plan::differs;
use super::transfer::check_view;
use crate::error::Result;
use crate::ids::{Address, Lsn, ObjectId, Timestamp};
use crate::object::retention;
use std::time::SystemTime;

/// An object that was to be restored.
#[derive(Debug)]
pub struct RestoredObject {
    /// The namespace that holds it.
    pub namespace: Namespace,
    /// The object.
    pub id: ObjectId,
    /// Its restoration, or why there is none: the others go on.
    pub restored: Result<Restored>,
}

/// How far a restoration of many objects has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Objects looked at.
    pub looked_at: u64,
    /// Objects restored.
    pub restored: u64,
    /// Objects that could not be restored.
    pub failed: u64,
    /// The object that was looked at last: a later run may begin with it.
    pub last: Option<ObjectId>,
    /// The namespace of that object.
    pub namespace: Option<String>,
}

/// A restoration of many objects, one at each step. Dropping it keeps what was restored.
///
/// Objects that were not changed since the time, or are as they were, are passed over. An error of
/// the iterator itself stands in the place of objects that the directory has lost: they are not
/// restored, and it goes on behind them.
#[derive(Debug)]
#[must_use = "nothing is restored before it is iterated"]
pub struct RestoreAll {
    /// The last first.
    namespaces: Vec<Namespace>,
    time: Timestamp,
    options: RestoreOptions,
    /// Of the last namespace.
    addresses: Addresses,
    progress: RestoreProgress,
}

impl RestoreAll {
    fn new(mut namespaces: Vec<Namespace>, time: SystemTime, options: RestoreOptions) -> Self {
        namespaces.reverse();
        let addresses = Addresses::new(namespaces.last().map(Namespace::first_address));
        let progress = RestoreProgress::default();
        Self { namespaces, time: time.into(), options, addresses, progress }
    }

    /// How far it has come.
    pub fn progress(&self) -> RestoreProgress {
        self.progress.clone()
    }

    /// The next object to be looked at, those that are deleted included.
    fn next_address(&mut self) -> Option<Result<Address>> {
        while let Some(namespace) = self.namespaces.last() {
            let next = self.addresses.next(namespace.store.engine(), |_| true);
            if next.is_some() {
                return next;
            }
            self.namespaces.pop();
            self.addresses = Addresses::new(self.namespaces.last().map(Namespace::first_address));
        }
        None
    }

    /// Restores one object; none where there is nothing to do.
    fn restore(&self, namespace: &Namespace, address: Address) -> Result<Option<Restored>> {
        let engine = namespace.store.engine();
        engine.check_alive()?;
        let now = engine.view(address)?;
        let Some(at) = retention::moment_at(&now, self.time)? else { return Ok(None) };
        let then = engine.view_at(address, at)?;
        check_view(&then)?;
        if !differs(&now, &then, self.options)? {
            return Ok(None);
        }
        namespace.restore_to(address, &then, at, self.options).map(Some)
    }
}

impl Iterator for RestoreAll {
    type Item = Result<RestoredObject>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let address = match self.next_address()? {
                Ok(address) => address,
                Err(error) => return Some(Err(error)),
            };
            let namespace = self.namespaces.last()?.clone();
            let id = namespace.id_of(address.id);
            self.progress.looked_at += 1;
            self.progress.last = Some(id);
            if self.progress.namespace.as_deref() != Some(namespace.name()) {
                self.progress.namespace = Some(namespace.name().to_owned());
            }
            let restored = match self.restore(&namespace, address) {
                Ok(None) => continue,
                Ok(Some(restored)) => {
                    self.progress.restored += 1;
                    Ok(restored)
                }
                Err(error) => {
                    self.progress.failed += 1;
                    Err(error)
                }
            };
            return Some(Ok(RestoredObject { namespace, id, restored }));
        }
    }
}

impl Namespace {
    /// Makes every object that was changed since a time what it was then, one by one as the
    /// iterator is asked. Handles that are open on them are fenced. Costs a look-up of each object
    /// of the namespace, and of those that were changed what [`Namespace::restore`] costs.
    ///
    /// ```
    /// # fn main() -> dostore::error::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = dostore::store::Store::open(dir.path())?;
    /// use dostore::store::restore::RestoreOptions;
    ///
    /// let rooms = store.namespace("rooms")?;
    /// let mut lobby = rooms.open_by_name("lobby")?;
    /// let then = lobby.put("topic", "rust")?.wait()?.time;
    /// lobby.put("topic", "oops")?.wait()?;
    /// drop(lobby);
    ///
    /// for restored in rooms.restore_all(then.into(), RestoreOptions::new()) {
    ///     let object = restored?;
    ///     let undo = object.restored?.undo;
    ///     println!("{} was restored; back to {undo} undoes it", object.id);
    /// }
    /// let lobby = rooms.open_by_name("lobby")?;
    /// assert_eq!(lobby.get("topic")?.as_deref(), Some(&b"rust"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn restore_all(&self, time: SystemTime, options: RestoreOptions) -> RestoreAll {
        RestoreAll::new(vec![self.clone()], time, options)
    }

    /// The same from this object on, as [`RestoreAll::progress`] has told it.
    pub fn restore_all_from(
        &self,
        id: ObjectId,
        time: SystemTime,
        options: RestoreOptions,
    ) -> Result<RestoreAll> {
        let from = self.address(id)?;
        let mut all = self.restore_all(time, options);
        all.addresses = Addresses::new(Some(from));
        Ok(all)
    }

    /// From when on the history of the namespace is there: the LSN of the first moment that can be
    /// read. None where none is kept.
    pub fn history_from(&self) -> Option<Lsn> {
        let manifest = &self.store.engine().version().manifest;
        retention::readable_from(manifest, self.first_address().namespace)
    }
}

impl Store {
    /// Makes every object of every namespace that was changed since a time what it was then: see
    /// [`Namespace::restore_all`].
    pub fn restore_all(&self, time: SystemTime, options: RestoreOptions) -> RestoreAll {
        RestoreAll::new(self.namespaces(), time, options)
    }
}

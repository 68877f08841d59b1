//! Restoring many objects to one time: a namespace, or all of a store.
//!
//! Object by object, each as one commit of its own: together they are not atomic. What was restored
//! already is as it was then and is left alone, so a second run goes on where the first one ended.
//!
//! Invariants:
//!   * Every object that was committed to since the time is looked at, deleted ones included.
//!   * An object that is as it was then gets no commit.

use super::Store;
use super::namespace::Namespace;
use super::objects::PAGE_OF_HEADS;
use super::restore::{RestoreOptions, Restored};
use super::restore_plan::differs;
use super::transfer::check_view;
use crate::error::Result;
use crate::ids::{Address, Lsn, ObjectId, ShortId, Timestamp};
use crate::object::retention;
use std::collections::VecDeque;
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
/// the iterator itself is one of listing the objects, and ends it.
#[derive(Debug)]
#[must_use = "nothing is restored before it is iterated"]
pub struct RestoreAll {
    /// The last first.
    namespaces: Vec<Namespace>,
    time: Timestamp,
    options: RestoreOptions,
    next: Option<Address>,
    ready: VecDeque<Address>,
    progress: RestoreProgress,
}

impl RestoreAll {
    fn new(mut namespaces: Vec<Namespace>, time: SystemTime, options: RestoreOptions) -> Self {
        namespaces.reverse();
        let next = namespaces.last().map(Namespace::first_address);
        Self {
            namespaces,
            time: time.into(),
            options,
            next,
            ready: VecDeque::new(),
            progress: RestoreProgress::default(),
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> RestoreProgress {
        self.progress.clone()
    }

    /// The next objects, those in memory first: an object leaves memory only after the version
    /// with its pages is there.
    fn refill(&mut self) -> Result<()> {
        while self.ready.is_empty()
            && let Some(namespace) = self.namespaces.last()
        {
            let Some(from) = self.next.take() else {
                self.namespaces.pop();
                self.next = self.namespaces.last().map(Namespace::first_address);
                continue;
            };
            let engine = namespace.store.engine();
            let last = Address { id: ShortId([0xFF; 16]), ..from };
            let mut found = engine.table.addresses_from(from, last);
            let version = engine.version();
            for (count, head) in version.directory.heads(from).enumerate() {
                let (address, _) = head?;
                if address.namespace != from.namespace {
                    break;
                }
                if count == PAGE_OF_HEADS {
                    self.next = Some(address);
                    found.retain(|other| *other < address);
                    break;
                }
                found.push(address);
            }
            found.sort_unstable();
            found.dedup();
            self.ready = found.into();
        }
        Ok(())
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
            if let Err(error) = self.refill() {
                self.namespaces.clear();
                return Some(Err(error));
            }
            let address = self.ready.pop_front()?;
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
    /// iterator is asked. Handles that are open on them are fenced.
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
        all.next = Some(from);
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
    /// Makes every object of every namespace that was changed since a time what it was then.
    pub fn restore_all(&self, time: SystemTime, options: RestoreOptions) -> RestoreAll {
        RestoreAll::new(self.namespaces(), time, options)
    }
}

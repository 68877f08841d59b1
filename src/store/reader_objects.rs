//! The objects of a namespace as a reader shows them, now or as of a time.
//!
//! Invariants:
//!   * Memory does not grow with the namespace.

use super::objects::{ObjectInfo, PAGE_OF_HEADS, info_at, info_of};
use super::reader::ReaderNamespace;
use crate::error::Result;
use crate::ids::{Address, ObjectId, ShortId, Timestamp};
use crate::object::retention;
use std::collections::VecDeque;
use std::time::SystemTime;

impl ReaderNamespace {
    /// The objects of the namespace, by id.
    pub fn objects(&self) -> ReaderObjects {
        let from = Address { namespace: self.entry.number, id: ShortId::default() };
        ReaderObjects::new(self, from, None)
    }

    /// The objects from this id on, itself included.
    pub fn objects_from(&self, id: ObjectId) -> Result<ReaderObjects> {
        Ok(ReaderObjects::new(self, self.address(id)?, None))
    }

    /// The objects that there were at a time, from this id on, as they were then. Reads of each
    /// object all that it held. Fails with `history.expired` where history does not reach back.
    pub fn objects_at(&self, id: ObjectId, time: SystemTime) -> Result<ReaderObjects> {
        Ok(ReaderObjects::new(self, self.address(id)?, Some(time.into())))
    }
}

/// The objects of a namespace at one moment, by id.
#[derive(Debug)]
pub struct ReaderObjects {
    namespace: ReaderNamespace,
    at: Option<Timestamp>,
    next: Option<Address>,
    ready: VecDeque<Address>,
}

impl ReaderObjects {
    fn new(namespace: &ReaderNamespace, from: Address, at: Option<Timestamp>) -> Self {
        let (namespace, next) = (namespace.clone(), Some(from));
        Self { namespace, at, next, ready: VecDeque::new() }
    }

    fn info(&self, address: Address) -> Result<Option<ObjectInfo>> {
        let id = self.namespace.id_from_short(address.id);
        let view = self.namespace.moment.view(address)?;
        let Some(at) = self.at else { return info_of(&view, id) };
        match retention::moment_at(&view, at)? {
            Some(lsn) => info_at(&view.as_of(lsn)?, id),
            None => info_at(&view, id),
        }
    }

    fn refill(&mut self) -> Result<()> {
        let moment = &self.namespace.moment;
        while self.ready.is_empty()
            && let Some(from) = self.next.take()
        {
            let last = Address { id: ShortId([0xFF; 16]), ..from };
            let mut found = Vec::new();
            for head in moment.version.directory.heads(from) {
                let (address, head) = head?;
                if address > last {
                    break;
                }
                if found.len() == PAGE_OF_HEADS {
                    self.next = Some(address);
                    break;
                }
                if !head.deleted || self.at.is_some() {
                    found.push(address);
                }
            }
            let is_here = |address: &&Address| self.next.is_none_or(|next| **address < next);
            found.extend(moment.objects.range(from..=last).map(|(at, _)| at).take_while(is_here));
            found.sort_unstable();
            found.dedup();
            self.ready = found.into();
        }
        Ok(())
    }
}

impl Iterator for ReaderObjects {
    type Item = Result<ObjectInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Err(error) = self.refill() {
                self.next = None;
                return Some(Err(error));
            }
            let address = self.ready.pop_front()?;
            match self.info(address).transpose() {
                None => {}
                some => return some,
            }
        }
    }
}

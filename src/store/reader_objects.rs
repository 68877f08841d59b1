//! The objects of a namespace as a reader shows them, now or as of a time.
//!
//! Invariants:
//!   * Memory does not grow with the namespace.

use super::addresses::{Pages, rest_of_namespace};
use super::objects::{ObjectInfo, info_at, info_of};
use super::reader::ReaderNamespace;
use crate::error::Result;
use crate::format::entry::Head;
use crate::ids::{Address, ObjectId, ShortId, Timestamp};
use crate::object::retention;
use std::ops::RangeInclusive;
use std::time::SystemTime;

impl ReaderNamespace {
    /// The objects of the namespace, by id.
    pub fn objects(&self) -> ReaderObjects {
        let from = Address { namespace: self.entry.number, id: ShortId::default() };
        ReaderObjects::new(self, rest_of_namespace(from), None)
    }

    /// The objects from this id on, itself included.
    pub fn objects_from(&self, id: ObjectId) -> Result<ReaderObjects> {
        Ok(ReaderObjects::new(self, rest_of_namespace(self.address(id)?), None))
    }

    /// The objects whose ids begin with any from this half to that one.
    #[cfg(feature = "cli")]
    pub(crate) fn objects_between(&self, first: ShortId, last: ShortId) -> ReaderObjects {
        let of = |id| Address { namespace: self.entry.number, id };
        ReaderObjects::new(self, of(first)..=of(last), None)
    }

    /// The objects that there were at a time, from this id on, as they were then. Reads of each
    /// object all that it held. Fails with `history.expired` where history does not reach back.
    pub fn objects_at(&self, id: ObjectId, time: SystemTime) -> Result<ReaderObjects> {
        Ok(ReaderObjects::new(self, rest_of_namespace(self.address(id)?), Some(time.into())))
    }
}

/// The objects of a namespace at one moment, by id.
///
/// An error stands in the place of what cannot be read, as in [`Objects`](super::objects::Objects).
#[derive(Debug)]
pub struct ReaderObjects {
    namespace: ReaderNamespace,
    at: Option<Timestamp>,
    pages: Pages,
}

impl ReaderObjects {
    fn new(
        namespace: &ReaderNamespace,
        range: RangeInclusive<Address>,
        at: Option<Timestamp>,
    ) -> Self {
        Self { namespace: namespace.clone(), at, pages: Pages::of(range) }
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

    /// The next address, or why some are not there.
    fn next_address(&mut self) -> Option<Result<Address>> {
        let moment = &self.namespace.moment;
        while let Some(range) = self.pages.wanted() {
            let is_wanted = |head: &Head| !head.deleted || self.at.is_some();
            self.pages.read(&moment.version.directory, is_wanted, |is_before| {
                let recent = moment.objects.range(range).map(|(address, _)| *address);
                recent.take_while(is_before).collect::<Vec<_>>()
            });
        }
        self.pages.pop()
    }
}

impl Iterator for ReaderObjects {
    type Item = Result<ObjectInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let address = self.next_address()?;
            match address.and_then(|address| self.info(address)).transpose() {
                None => {}
                some => return some,
            }
        }
    }
}

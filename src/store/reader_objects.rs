//! The objects of a namespace as a reader shows them, now or as of a time.
//!
//! Invariants:
//!   * Memory does not grow with the namespace.

use super::addresses::{Pages, rest_of_namespace};
use super::objects::{ObjectInfo, name_of, nameless_at, nameless_of};
use super::reader::ReaderNamespace;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Head;
use crate::ids::{Address, Lsn, ObjectId, ShortId, Timestamp};
use crate::object::retention;
use std::ops::RangeInclusive;
use std::time::SystemTime;

impl ReaderNamespace {
    /// The objects of the namespace, by id.
    pub fn objects(&self) -> ReaderObjects {
        let from = Address { namespace: self.entry.number, id: ShortId::default() };
        ReaderObjects::new(self, rest_of_namespace(from), AsOf::Now)
    }

    /// The objects from this id on, itself included.
    pub fn objects_from(&self, id: ObjectId) -> Result<ReaderObjects> {
        Ok(ReaderObjects::new(self, rest_of_namespace(self.address(id)?), AsOf::Now))
    }

    /// The objects whose ids begin with any from this half to that one.
    #[cfg(feature = "cli")]
    pub(crate) fn objects_between(&self, first: ShortId, last: ShortId) -> ReaderObjects {
        let of = |id| Address { namespace: self.entry.number, id };
        ReaderObjects::new(self, of(first)..=of(last), AsOf::Now)
    }

    /// The objects that there were at a time, from this id on, as they were then. Reads of each
    /// object all that it held. Fails with `history.expired` where history does not reach back.
    pub fn objects_at(&self, id: ObjectId, time: SystemTime) -> Result<ReaderObjects> {
        let range = rest_of_namespace(self.address(id)?);
        Ok(ReaderObjects::new(self, range, AsOf::Time(time.into())))
    }

    /// The same right after a commit of the store.
    #[cfg(feature = "cli")]
    pub(crate) fn objects_after(&self, id: ObjectId, commit: Lsn) -> Result<ReaderObjects> {
        let range = rest_of_namespace(self.address(id)?);
        Ok(ReaderObjects::new(self, range, AsOf::Commit(commit)))
    }
}

/// As of when objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AsOf {
    Now,
    Time(Timestamp),
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command asks for it"))]
    Commit(Lsn),
}

/// The objects of a namespace at one moment, by id.
///
/// An error stands in the place of what cannot be read, as in [`Objects`](super::objects::Objects).
#[derive(Debug)]
pub struct ReaderObjects {
    namespace: ReaderNamespace,
    at: AsOf,
    pages: Pages,
    /// Whether objects whose names are lost are shown, and the errors behind them.
    shows_nameless: bool,
    /// The error behind the object that was shown last.
    lost_name: Option<Error>,
}

impl ReaderObjects {
    fn new(namespace: &ReaderNamespace, range: RangeInclusive<Address>, at: AsOf) -> Self {
        let (namespace, pages) = (namespace.clone(), Pages::of(range));
        Self { namespace, at, pages, shows_nameless: false, lost_name: None }
    }

    /// Shows objects whose names are lost to damage as if they had none, each with the error behind
    /// it.
    #[cfg(feature = "cli")]
    pub(crate) fn nameless(self) -> Self {
        Self { shows_nameless: true, ..self }
    }

    fn info(&mut self, address: Address) -> Result<Option<ObjectInfo>> {
        let id = self.namespace.id_from_short(address.id);
        let mut view = self.namespace.moment.view(address)?;
        let info = match self.at {
            AsOf::Now => nameless_of(&view, id)?,
            AsOf::Time(at) => {
                if let Some(lsn) = retention::moment_at(&view, at)? {
                    view = view.as_of(lsn)?;
                }
                nameless_at(&view, id)?
            }
            AsOf::Commit(lsn) => {
                view = view.as_of(lsn)?;
                nameless_at(&view, id)?
            }
        };
        let Some(mut info) = info else { return Ok(None) };
        match name_of(&view) {
            Err(error) if self.shows_nameless && error.kind() == ErrorKind::Corrupt => {
                self.lost_name = Some(error);
            }
            name => info.name = name?,
        }
        Ok(Some(info))
    }

    /// The next address, or why some are not there.
    fn next_address(&mut self) -> Option<Result<Address>> {
        let moment = &self.namespace.moment;
        while let Some(range) = self.pages.wanted() {
            let is_wanted = |head: &Head| !head.deleted || self.at != AsOf::Now;
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
        if let Some(error) = self.lost_name.take() {
            return Some(Err(error));
        }
        loop {
            let address = self.next_address()?;
            match address.and_then(|address| self.info(address)).transpose() {
                None => {}
                some => return some,
            }
        }
    }
}

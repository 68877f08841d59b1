//! The addresses of a namespace in order, a page of the directory's heads at a time.
//!
//! What the directory has lost is an error in its place; what lies before it and behind it is
//! handed out like all else. Where it cannot be asked at all the list ends, with the error.
//!
//! Invariants:
//!   * What is lost is told once, at whichever page it begins or goes on.
//!   * Behind an error that is no damage nothing is handed out: it would look like all there is.
//!   * Memory is one page, and of a store that is open for writing what is in memory there.

use crate::directory::Directory;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Head;
use crate::ids::{Address, ShortId};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// How many of the directory's heads are looked at in one go.
pub(crate) const PAGE_OF_HEADS: usize = 256;

/// Every address of the namespace of one, from this one on.
pub(super) fn rest_of_namespace(from: Address) -> RangeInclusive<Address> {
    from..=Address { id: ShortId([0xFF; 16]), ..from }
}

/// What is ready to be handed out, and what comes behind it.
#[derive(Debug, Default)]
pub(super) struct Pages {
    rest: Option<RangeInclusive<Address>>,
    /// The last key of all that was told to be lost.
    told: Vec<u8>,
    ready: VecDeque<Result<Address>>,
}

impl Pages {
    /// The addresses of a range, none of them read yet.
    pub fn of(range: RangeInclusive<Address>) -> Self {
        Self { rest: Some(range), ..Self::default() }
    }

    /// What is to be read next, when nothing is ready.
    pub fn wanted(&self) -> Option<RangeInclusive<Address>> {
        self.rest.clone().filter(|_| self.ready.is_empty())
    }

    /// Reads one page: heads that are wanted, and `others` that lie before the next page, if there
    /// is one.
    pub fn read<O: IntoIterator<Item = Address>>(
        &mut self,
        directory: &Directory,
        is_wanted: impl Fn(&Head) -> bool,
        others: impl FnOnce(&dyn Fn(&Address) -> bool) -> O,
    ) {
        let Some(range) = self.rest.take() else { return };
        let (mut before, mut count, mut next) = (*range.start(), 0, None);
        let mut found: Vec<(Address, Option<Error>)> = Vec::new();
        let mut failed = None;
        let mut heads = directory.heads_within(range.clone(), &self.told);
        for head in heads.by_ref() {
            match head {
                Ok((address, _)) if count == PAGE_OF_HEADS => {
                    next = Some(address);
                    break;
                }
                Ok((address, head)) => {
                    (before, count) = (address, count + 1);
                    found.extend(is_wanted(&head).then_some((address, None)));
                }
                Err(error) if error.kind() != ErrorKind::Corrupt => {
                    failed = Some(error);
                    break;
                }
                Err(error) => found.push((before, Some(error))),
            }
        }
        self.told = heads.lost_to();
        let is_before = |address: &Address| match next {
            _ if failed.is_some() => count > 0 && *address <= before,
            Some(next) => *address < next,
            None => true,
        };
        found.extend(others(&is_before).into_iter().map(|address| (address, None)));
        // Errors stand behind the address that was read before them.
        found.sort_by_key(|(address, error)| (*address, error.is_some()));
        found.dedup_by(|one, other| one.0 == other.0 && one.1.is_none() && other.1.is_none());
        self.ready =
            found.into_iter().map(|(address, error)| error.map_or(Ok(address), Err)).collect();
        self.ready.extend(failed.map(Err));
        self.rest = next.map(|next| next..=*range.end());
    }

    /// The next address, or why some are not there.
    pub fn pop(&mut self) -> Option<Result<Address>> {
        self.ready.pop_front()
    }
}

/// The addresses of a namespace from one on: those in memory, and the directory's heads.
///
/// What is in memory is looked at once, when the first address is asked for: it takes a lock of
/// each part of the table. An object that leaves memory later is in the directory by then.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pages: Pages,
    in_memory: Option<VecDeque<Address>>,
}

impl Addresses {
    /// Those from this address on; none at all without one.
    pub fn new(from: Option<Address>) -> Self {
        let pages = from.map(|from| Pages::of(rest_of_namespace(from)));
        Self { pages: pages.unwrap_or_default(), in_memory: None }
    }

    /// The next address that is in memory or has a head that is wanted, or an error in the place of
    /// those that are lost: the next call goes on behind it.
    pub fn next(
        &mut self,
        engine: &Engine,
        is_wanted: impl Fn(&Head) -> bool,
    ) -> Option<Result<Address>> {
        while let Some(range) = self.pages.wanted() {
            let (from, last) = range.into_inner();
            // Before the version: whatever has left memory is in it.
            let in_memory = self
                .in_memory
                .get_or_insert_with(|| engine.table.addresses_from(from, last).into());
            let version = engine.version();
            self.pages.read(&version.directory, &is_wanted, |is_before| {
                in_memory.drain(..in_memory.partition_point(is_before))
            });
        }
        self.pages.pop()
    }
}

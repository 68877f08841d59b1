//! Moments of a whole store as a reader knows them, for whoever looks at many objects at once.
//!
//! Invariants:
//!   * Nothing behind the reader's own moment is shown.
//!   * A bookmark counts only where an object is known whose it is.

use super::reader::{Reader, ReaderNamespace};
use super::reader_past::check_shown;
use super::snapshot::Snapshot;
use super::transfer::check_view;
use crate::bookmark::Bookmark;
use crate::engine::catalog::CATALOG;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Address, Lsn, NamespaceNumber, ObjectId, StoreId, Timestamp};
use crate::object::retention;

impl Reader {
    /// The store that is read.
    pub(crate) fn store(&self) -> StoreId {
        self.moment().version.manifest.store
    }

    /// The last commit of the store that a bookmark of any of its objects shows.
    ///
    /// Costs one look at each object until its own is found. Fails with `bookmark.foreign` where no
    /// object is known whose it is, and as [`ReaderNamespace::at`] does.
    pub(crate) fn commit_of(&self, bookmark: &Bookmark) -> Result<Lsn> {
        let moment = self.moment();
        let (store, spaces) = (self.store(), self.spaces());
        let is_its = |address: &Address| bookmark.check(store, *address).is_ok();
        let mut damage = None;
        let mut own = moment.objects.keys().copied().find(is_its);
        let mut heads = moment.version.directory.heads(Address::default());
        while own.is_none() {
            match heads.next() {
                None => break,
                Some(Ok((address, _))) => own = Some(address).filter(is_its),
                Some(Err(error)) => damage = damage.or(Some(error)),
            }
        }
        match (own.and_then(|own| Some((own, spaces.get(&own.namespace)?))), damage) {
            (Some((own, space)), _) => space.moment_of(own, bookmark),
            // It may be of an object that is lost.
            (None, Some(damage)) => Err(damage),
            (None, None) => {
                let what = "the bookmark is of no object of this store";
                Err(Error::invalid("bookmark.foreign", what))
            }
        }
    }

    /// Fails with `bookmark.ahead` for a commit behind what is shown.
    pub(crate) fn check_shown(&self, commit: Lsn) -> Result<()> {
        check_shown(self.moment(), commit)
    }

    /// The namespaces that there were right after a commit of the store, by name.
    pub(crate) fn namespaces_after(&self, commit: Lsn) -> Vec<ReaderNamespace> {
        let mut spaces = self.namespaces();
        spaces.retain(|space| space.entry.since <= commit);
        spaces
    }

    /// The namespaces that there were at a time, by name: as the history of their list says or,
    /// where that does not reach back, those that were there when a file of history began.
    ///
    /// Fails with `history.expired` where nothing reaches back.
    pub(crate) fn namespaces_at(&self, time: Timestamp) -> Result<Vec<ReaderNamespace>> {
        let moment = self.moment();
        let listed = retention::moment_at(&moment.view(CATALOG)?, time);
        match listed {
            Ok(None) => Ok(self.namespaces()),
            Ok(Some(commit)) => Ok(self.namespaces_after(commit)),
            Err(error) if error.kind() == ErrorKind::NotRetained => {
                let files = moment.version.manifest.history.iter();
                let before = files.filter(|file| file.start_time <= time);
                let known = before.map(|file| file.start).max();
                known.map(|known| self.namespaces_after(known)).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// A commit from which on all are behind a time; commits before it may be, too.
    pub(crate) fn last_by(&self, time: Timestamp) -> Lsn {
        let manifest = &self.moment().version.manifest;
        let later = manifest.history.iter().filter(|file| file.start_time > time);
        let in_files = later.map(|file| file.start).min();
        let at_cut = Some(manifest.cut).filter(|_| manifest.cut_time > time);
        in_files.into_iter().chain(at_cut).fold(self.position(), Lsn::min)
    }
}

impl ReaderNamespace {
    /// Its number in addresses.
    pub(crate) fn number(&self) -> NamespaceNumber {
        self.entry.number
    }

    /// Fails where an object that was there at a time may have been forgotten since it ended.
    pub(crate) fn check_all_known_at(&self, time: Timestamp) -> Result<()> {
        let manifest = &self.moment.version.manifest;
        if time >= manifest.cut_time {
            return Ok(());
        }
        retention::check_time(manifest, self.entry.number, time).map(drop)
    }

    /// The same right after a commit of the store.
    pub(crate) fn check_all_known_after(&self, commit: Lsn) -> Result<()> {
        let manifest = &self.moment.version.manifest;
        if commit >= manifest.cut {
            return Ok(());
        }
        retention::check(manifest, self.entry.number, commit)
    }

    /// Up to which commit the history of an object may lack some that it does not keep.
    pub(crate) fn unkept_to(&self, id: ObjectId) -> Result<Lsn> {
        let view = self.moment.view(self.address(id)?)?;
        let last = view.state.last_lsn;
        // A history that is off has not even those of the log.
        let is_off = retention::history_start(&view) >= last;
        Ok(if is_off { last } else { view.unkept_to()? })
    }

    /// The LSN that a bookmark of an object names, as far as is shown.
    pub(crate) fn commit_of(&self, id: ObjectId, bookmark: &Bookmark) -> Result<Lsn> {
        self.moment_of(self.address(id)?, bookmark)
    }

    /// An object right after a commit of the store, of that object or not.
    pub(crate) fn after(&self, id: ObjectId, commit: Lsn) -> Result<Snapshot> {
        check_shown(&self.moment, commit)?;
        let view = self.moment.view(self.address(id)?)?.as_of(commit)?;
        check_view(&view)?;
        Ok(Snapshot::new(view))
    }
}

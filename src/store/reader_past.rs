//! The past of objects as a reader shows it: moments, commits, what changed between two moments.
//!
//! Invariants:
//!   * Nothing behind the reader's own moment is shown.

use super::changes::Change;
use super::history::{History, Namer};
use super::list::full_bounds_of;
use super::past::{Changes, Moment as Past, session_end};
use super::reader::{Moment, ReaderNamespace};
use super::snapshot::Snapshot;
use super::transfer::check_view;
use crate::bookmark::Bookmark;
use crate::engine::bookmarks::{moment_in, terms_of_reader};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::TermSpan;
use crate::ids::{Address, KeyKind, Lsn, ObjectId};
use crate::object::View;
use crate::object::difference::Pairs;
use crate::object::retention;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::time::SystemTime;

impl Moment {
    fn terms(&self) -> Result<Vec<TermSpan>> {
        let ends = self.ends.iter().copied().chain([self.position]);
        terms_of_reader(&*self.disk, &self.version.manifest, ends)
    }

    pub(super) fn namer(&self) -> Result<Namer> {
        Ok(Namer { store: self.version.manifest.store, terms: self.terms()? })
    }
}

impl ReaderNamespace {
    /// The LSN that a bookmark of an object names, as far as this moment goes.
    pub(super) fn moment_of(&self, address: Address, bookmark: &Bookmark) -> Result<Lsn> {
        let moment = &*self.moment;
        let manifest = &moment.version.manifest;
        bookmark.check(manifest.store, address)?;
        check_shown(moment, bookmark.lsn())?;
        let lsn = moment_in(&moment.terms()?, moment.position, bookmark)?;
        if !bookmark.is_session_end() {
            return Ok(lsn);
        }
        match session_end(&moment.view(address)?, lsn)? {
            Past::At(lsn) => Ok(lsn),
            Past::Present => Ok(moment.position),
        }
    }

    /// An object as it was at a bookmark, there or not. Fails with `bookmark.ahead` for a moment
    /// that this one does not show yet, and as [`Object::at`] does; with errors of reading as
    /// [`ReaderNamespace::snapshot`].
    ///
    /// [`Object::at`]: super::object::Object::at
    pub fn at(&self, id: ObjectId, bookmark: &Bookmark) -> Result<Snapshot> {
        let address = self.address(id)?;
        Ok(Snapshot::new(self.view_at(address, bookmark)?))
    }

    /// An object as of a time: of all its commits up to then. Later times than what is shown give
    /// what is shown.
    pub fn at_time(&self, id: ObjectId, time: SystemTime) -> Result<Snapshot> {
        let view = self.moment.view(self.address(id)?)?;
        let view = match retention::moment_at(&view, time.into())? {
            Some(lsn) => view.as_of(lsn)?,
            None => view,
        };
        check_view(&view)?;
        Ok(Snapshot::new(view))
    }

    /// An object as this moment shows it, to come back to.
    pub fn current_bookmark(&self, id: ObjectId) -> Result<Bookmark> {
        self.bookmark_of(id, self.moment.position)
    }

    /// The moment of an object right after a commit of the store, of that object or not: what the
    /// first two parts of a bookmark say. Fails with `bookmark.ahead` for a later one than is
    /// shown.
    pub fn bookmark_of(&self, id: ObjectId, lsn: Lsn) -> Result<Bookmark> {
        let address = self.address(id)?;
        check_shown(&self.moment, lsn)?;
        Ok(self.moment.namer()?.bookmark(address, lsn))
    }

    /// The moment of an object at a time: see [`Object::bookmark_at`].
    ///
    /// [`Object::bookmark_at`]: super::object::Object::bookmark_at
    pub fn bookmark_at(&self, id: ObjectId, time: SystemTime) -> Result<Bookmark> {
        let view = self.moment.view(self.address(id)?)?;
        let moment = retention::moment_at(&view, time.into())?;
        self.bookmark_of(id, moment.unwrap_or(self.moment.position))
    }

    /// The commits of an object: see [`Object::history`].
    ///
    /// [`Object::history`]: super::object::Object::history
    pub fn history(&self, id: ObjectId, range: impl RangeBounds<Bookmark>) -> Result<History> {
        let address = self.address(id)?;
        let view = self.moment.view(address)?;
        let newest = view.state.last_lsn;
        let after = match range.start_bound() {
            Bound::Unbounded => retention::history_start(&view),
            Bound::Included(bookmark) => {
                Lsn(self.moment_of(address, bookmark)?.0.saturating_sub(1))
            }
            Bound::Excluded(bookmark) => self.moment_of(address, bookmark)?,
        };
        let last = match range.end_bound() {
            Bound::Unbounded => newest,
            Bound::Included(bookmark) => self.moment_of(address, bookmark)?.min(newest),
            Bound::Excluded(bookmark) => {
                Lsn(self.moment_of(address, bookmark)?.0.saturating_sub(1)).min(newest)
            }
        };
        History::of_view(view, self.moment.namer()?, (after, last))
    }

    /// What a commit of an object changed, in order. Fails with `commit.missing` where the
    /// bookmark is of no commit of the object, and as [`ReaderNamespace::at`] does.
    pub fn changes_of(&self, id: ObjectId, commit: &Bookmark) -> Result<Vec<Change>> {
        let address = self.address(id)?;
        let lsn = self.moment_of(address, commit)?;
        let view = self.moment.view(address)?;
        let namer = self.moment.namer()?;
        let mut changes = None;
        view.each_commit((Lsn(lsn.0.saturating_sub(1)), lsn), |commit| {
            changes = Some(Change::all_of(&commit, address, &namer)?);
            Ok(ControlFlow::Break(()))
        })?;
        changes.ok_or_else(|| {
            let what = format!("the object has no commit {lsn}");
            Error::new(ErrorKind::NotFound, "commit.missing", what)
        })
    }

    fn view_at(&self, address: Address, bookmark: &Bookmark) -> Result<View> {
        let lsn = self.moment_of(address, bookmark)?;
        let view = self.moment.view(address)?.as_of(lsn)?;
        check_view(&view)?;
        Ok(view)
    }

    /// The keys that two moments of an object have differently.
    pub fn diff(&self, id: ObjectId, before: &Bookmark, after: &Bookmark) -> Result<Changes> {
        let address = self.address(id)?;
        let (before, after) = (self.view_at(address, before)?, self.view_at(address, after)?);
        Ok(Changes::new(Pairs::new(before, after, full_bounds_of(KeyKind::User))))
    }
}

/// Fails with `bookmark.ahead` for a commit behind what is shown.
pub(super) fn check_shown(moment: &Moment, commit: Lsn) -> Result<()> {
    if commit <= moment.position {
        return Ok(());
    }
    let what = "the bookmark is of a moment behind what the reader shows; refresh it";
    Err(Error::new(ErrorKind::NotFound, "bookmark.ahead", what))
}

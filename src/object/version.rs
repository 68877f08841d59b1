//! One published state of the store's files: what a manifest names, opened for reading.
//!
//! Invariants:
//!   * A version never changes. While anybody holds one, none of its files is removed.
//!   * Layers and versions fit in one direction only: layers that a version already holds may be
//!     read on top of it (they say the same again); a version older than dropped layers may not.
//!     So whoever needs both takes the layers first.

use super::adopted::{AdoptedPages, PagesOf};
use super::cache::PageCache;
use super::history::HistoryRuns;
use super::past_pages::Past;
use crate::directory::Directory;
use crate::disk::ReadDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::adoption::Adoption;
use crate::format::entry::{Head, PageEntry, PagePart};
use crate::format::manifest::Manifest;
use crate::format::page::Page;
use crate::format::record::RecordHeader;
use crate::ids::{Address, Life};
use crate::object::overlay::Found;
use crate::run::Run;
use crate::segment::SegmentSet;
use std::sync::Arc;

/// A published state.
#[derive(Debug)]
pub struct Version {
    /// The manifest that named it.
    pub manifest: Manifest,
    /// Where each object's pages are.
    pub directory: Directory,
    /// Names of objects, newest run first.
    pub names: Vec<Arc<Run>>,
    /// Hints of alarms, newest run first.
    pub alarms: Vec<Arc<Run>>,
    /// What objects were.
    pub history: HistoryRuns,
    /// The pages themselves.
    pub segments: Arc<SegmentSet>,
    /// Pages that cost memory to hold.
    pub cache: Arc<PageCache>,
    /// Pages that no manifest names yet.
    pub adopted: Arc<AdoptedPages>,
}

/// The pages of one key range, the newest first: deltas, then their base.
#[derive(Clone, Debug, Default)]
pub struct Stack(pub Vec<Page>);

impl Stack {
    /// What the pages say of a key.
    pub fn find(&self, key: &[u8]) -> Option<Found> {
        for page in &self.0 {
            match page.find_value(key) {
                Some(Some((codec, value))) => return Some(Found::Value(codec, value)),
                Some(None) => return Some(Found::Deleted),
                None if page.covers(key) => return Some(Found::Deleted),
                None => {}
            }
        }
        None
    }
}

/// What is below an object's overlay.
#[derive(Clone, Debug)]
pub enum Base {
    /// Nothing.
    Empty,
    /// All of it: a one-page object.
    Tiny(Stack),
    /// Pages by fence key, found through the directory.
    Large(Life),
    /// Pages of a past moment, by key range.
    Past(Arc<Past>),
}

impl Version {
    /// An object's head; none for one that never was, or that is deleted.
    pub fn head(&self, address: Address) -> Result<Option<Head>> {
        self.directory.head(address)
    }

    /// What the head names, loaded if it is one page.
    pub fn base(&self, address: Address, head: Option<&Head>) -> Result<Base> {
        match head {
            None => Ok(Base::Empty),
            Some(head) if head.deleted => Ok(Base::Empty),
            Some(Head { page: Some(entry), life, .. }) => {
                Ok(Base::Tiny(self.stack(entry, address, *life)?))
            }
            Some(head) => Ok(Base::Large(head.life)),
        }
    }

    /// What is below layers of which the last end of a life has adopted pages of `adopted`; or what
    /// is below none.
    pub fn base_of(&self, address: Address, adopted: Option<Life>) -> Result<Base> {
        let Some(life) = adopted else { return self.base(address, self.head(address)?.as_ref()) };
        if self.adopted.behind(address, life, self.manifest.cut).is_some() {
            return Ok(Base::Large(life));
        }
        self.base(address, Some(&self.adopted_head(address, life)?))
    }

    /// What is known of pages that the object has adopted for a life.
    pub fn adopted_head(&self, address: Address, life: Life) -> Result<Head> {
        if let Some(adopted) = self.adopted.behind(address, life, self.manifest.cut) {
            let (count, content_bytes) = (adopted.count, adopted.content_bytes);
            let adopted = Some(adopted.lsn);
            return Ok(Head { life, count, content_bytes, adopted, ..Head::default() });
        }
        // A checkpoint has covered the commit.
        let head = self.head(address)?.filter(|head| head.life == life);
        head.ok_or_else(|| {
            let what = format!("the pages that object {address:?} has adopted are not there");
            Error::new(ErrorKind::Corrupt, "adopt.lost", what)
        })
    }

    /// Opens pages that a commit behind the cut has adopted.
    pub fn adopt(
        &self,
        disk: &dyn ReadDisk,
        header: &RecordHeader,
        adoption: &Adoption<'_>,
    ) -> Result<()> {
        let run = Run::open(disk, self.manifest.store, &adoption.run)?;
        adoption.segments().for_each(|facts| self.segments.add(&facts));
        self.adopted.add(header.address, adoption, run, Some(header.lsn));
        Ok(())
    }

    /// Where the pages of a life are found.
    pub fn pages_of(&self, address: Address, life: Life) -> PagesOf<'_> {
        let adopted = self.adopted.behind(address, life, self.manifest.cut);
        PagesOf::new(&self.directory, adopted)
    }

    /// The pages that an entry names.
    pub fn stack(&self, entry: &PageEntry, address: Address, life: Life) -> Result<Stack> {
        stack_of(entry, address, |part| self.cache.read(&self.segments, part, address, life))
    }

    /// The same, for whoever is about to replace these pages: they do not enter the cache.
    pub fn stack_once(&self, entry: &PageEntry, address: Address, life: Life) -> Result<Stack> {
        stack_of(entry, address, |part| self.segments.read(part, address, life))
    }
}

fn stack_of(
    entry: &PageEntry,
    address: Address,
    read: impl Fn(&PagePart) -> Result<Page>,
) -> Result<Stack> {
    let parts = entry.deltas.iter().rev().chain(entry.base.as_ref());
    let mut pages = Vec::with_capacity(1 + entry.deltas.len());
    for part in parts {
        pages.push(read(part)?);
    }
    if entry.base.is_none() {
        let what = format!("a page of object {address:?} was damaged and its content is lost");
        return Err(Error::new(ErrorKind::Corrupt, "page.lost", what));
    }
    Ok(Stack(pages))
}

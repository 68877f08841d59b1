//! Pages that objects have adopted and that no manifest names yet.
//!
//! A commit that adopts names a run and segments of its own. Until a checkpoint covers the commit,
//! the object's pages are found through that run; then the run is one of the directory.
//!
//! Shared by all versions of a store, as the segments are: each asks for what is behind its cut.
//!
//! Invariants:
//!   * A run is here before its commit is logged, and until its file is removed.

use crate::directory::Directory;
use crate::format::adoption::Adoption;
use crate::format::page::SegmentFacts;
use crate::ids::{Address, FileNumber, Life, Lsn};
use crate::names::FileName;
use crate::run::Run;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Adopted pages, by object and life. A leaf lock.
#[derive(Debug, Default)]
pub struct AdoptedPages {
    /// How many there are: almost always none.
    count: AtomicUsize,
    all: RwLock<BTreeMap<(Address, Life), Adopted>>,
}

/// The pages of one adoption.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The commit; the last LSN of all while it is not logged.
    pub lsn: Lsn,
    /// Keys of the user in them.
    pub count: u64,
    /// Bytes of content in them.
    pub content_bytes: u64,
    /// Their entries.
    directory: Arc<Directory>,
    /// The segments of the pages.
    segments: Arc<[SegmentFacts]>,
    /// The files of both.
    files: Arc<[FileName]>,
}

impl AdoptedPages {
    /// From now on these pages can be read. `lsn` is that of the commit, if it is known.
    pub fn add(&self, address: Address, adoption: &Adoption<'_>, run: Arc<Run>, lsn: Option<Lsn>) {
        let adopted = Adopted {
            lsn: lsn.unwrap_or(Lsn::MAX),
            count: adoption.count,
            content_bytes: adoption.content_bytes,
            directory: Arc::new(Directory::new(vec![run])),
            segments: adoption.segments().collect(),
            files: adoption.files().map(|(name, _)| name).collect(),
        };
        let mut all = self.all.write();
        all.insert((address, adoption.life), adopted);
        self.count.store(all.len(), Ordering::Release);
    }

    /// The commit was logged.
    pub fn settle(&self, address: Address, life: Life, lsn: Lsn) {
        if let Some(adopted) = self.all.write().get_mut(&(address, life)) {
            adopted.lsn = lsn;
        }
    }

    /// Forgets what this run names; its file is the caller's to remove.
    pub fn remove(&self, run: FileNumber) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut all = self.all.write();
        all.retain(|_, adopted| adopted.runs().all(|own| own.facts().number != run));
        self.count.store(all.len(), Ordering::Release);
    }

    /// What an object has adopted for a life by a commit behind `cut`.
    pub fn behind(&self, address: Address, life: Life, cut: Lsn) -> Option<Adopted> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let all = self.all.read();
        all.get(&(address, life)).filter(|adopted| adopted.lsn > cut).cloned()
    }

    /// Whether some of these pages are in this file.
    pub fn are_in(&self, name: FileName) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && self.all.read().values().any(|adopted| adopted.files.contains(&name))
    }

    /// What commits behind `cut` have adopted, each with its object and life.
    pub fn all_behind(&self, cut: Lsn) -> Vec<(Address, Life, Adopted)> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let all = self.all.read();
        let is_behind = |adopted: &Adopted| adopted.lsn > cut && adopted.lsn < Lsn::MAX;
        let all = all.iter().filter(|(_, adopted)| is_behind(adopted));
        all.map(|((address, life), adopted)| (*address, *life, adopted.clone())).collect()
    }

    /// The runs that are open.
    pub fn runs(&self) -> Vec<Arc<Run>> {
        let all = self.all.read();
        all.values().flat_map(|adopted| adopted.runs().cloned()).collect()
    }
}

impl Adopted {
    /// The segments of the pages.
    pub fn segments(&self) -> &[SegmentFacts] {
        &self.segments
    }

    /// The entries of the pages.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The runs of these.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.directory.runs().iter()
    }
}

/// The directory that has the pages of a life.
#[derive(Debug)]
pub enum PagesOf<'a> {
    /// That of the version.
    Published(&'a Directory),
    /// One of its own.
    Adopted(Arc<Directory>),
}

impl<'a> PagesOf<'a> {
    /// What was adopted, or else the directory of the version.
    pub fn new(published: &'a Directory, adopted: Option<Adopted>) -> Self {
        adopted.map_or(Self::Published(published), |adopted| Self::Adopted(adopted.directory))
    }
}

impl Deref for PagesOf<'_> {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        match self {
            Self::Published(directory) => directory,
            Self::Adopted(directory) => directory,
        }
    }
}

//! One object in memory: what is in its pages, and what was committed since.
//!
//! A read asks the turn's write set, then the layers of the overlay from the newest, then the
//! pages. Read [`overlay`] first, then [`version`], [`write_set`], [`range`] and [`cache`].
//!
//! Invariants:
//!   * An object is in the table while a handle is open on it or its overlay has layers; an idle
//!     object is not in memory at all.
//!   * Layers are in commit order, the oldest first; only the last takes commits, and only while
//!     nobody else holds it.
//!   * Layers of one cut may be merged; layers of different cuts never are.
//!   * This module never decides durability: it makes a record and is told an LSN.

pub mod adopted;
pub mod cache;
pub mod changes;
pub mod commits;
pub mod difference;
pub mod fold;
pub mod history;
pub mod overlay;
pub mod past;
mod past_commits;
mod past_pages;
pub mod range;
pub mod retention;
pub mod state;
mod times;
pub mod version;
mod window;
pub mod write_set;

use crate::error::Result;
use crate::format::entry::Head;
use crate::format::record::{RECORD_HEADER_BYTES, adoption};
use crate::ids::{Address, Life, Lsn, Timestamp};
use crate::locks::{Guard, Ranked, rank};
use overlay::{Found, Layer};
use past_pages::Past;
use state::{HeadState, lay_over};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use version::{Base, Version};

/// Layers of one cut from which on they are merged.
const LAYERS_PER_CUT_MIN: usize = 4;

/// An object in memory.
#[derive(Debug)]
pub struct ObjectState {
    /// Which object.
    pub address: Address,
    /// Grows when open handles lose their right to the object. Changed under the lock only; so who
    /// has it knows, and who only looks needs no lock.
    fence: AtomicU64,
    /// Its content. Before a table shard and the log in the lock order; before that of an object
    /// with a higher address.
    pub inner: Ranked<Inner, { rank::OBJECT }>,
}

/// An object's head, as of one version.
#[derive(Clone, Debug)]
pub struct FoundHead {
    /// The generation of the version's manifest.
    generation: u64,
    head: Head,
}

/// Holding an object's lock.
pub type InnerGuard<'o> = Guard<'o, Inner, { rank::OBJECT }>;

/// What an object's lock guards.
#[derive(Debug, Default)]
pub struct Inner {
    /// What the head said when the object was brought into memory, or at its last checkpoint; or
    /// what is known without it.
    pub bottom: HeadState,
    /// Whether `bottom` is known.
    pub is_loaded: bool,
    /// Committed changes since the pages.
    pub layers: Vec<Arc<Layer>>,
    /// The pages, once something was read from them.
    pub base: Option<Base>,
    /// What the directory said when the object was brought into memory, until something is read or
    /// committed: whoever opens it mostly reads next, and need not ask again.
    pub found: Option<Box<FoundHead>>,
    /// The cut whose dirty list has the object.
    pub dirty_cut: u64,
    /// Whether a handle is open.
    pub is_open: bool,
    /// Set when the object has left the table: whoever finds it must look again.
    pub is_evicted: bool,
}

impl ObjectState {
    /// An object whose head is still to be looked up.
    pub fn new(address: Address) -> Self {
        Self { address, fence: AtomicU64::new(0), inner: Ranked::default() }
    }

    /// Which handle has the right to the object.
    pub fn fence(&self) -> u64 {
        self.fence.load(Ordering::Relaxed)
    }

    /// Takes that right from whoever has it; gives the fence of who comes next. `_lock` is what the
    /// object's lock guards, held by the caller.
    pub fn raise_fence(&self, _lock: &mut Inner) -> u64 {
        self.fence.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Gives the right back to whoever had it at `fence`, when what took it came to nothing.
    pub fn lower_fence(&self, fence: u64, _lock: &mut Inner) {
        self.fence.store(fence, Ordering::Relaxed);
    }

    /// Looks at the part of memory that every use of the object begins with; what it says means
    /// nothing.
    pub fn touch(&self) -> usize {
        usize::from(self.inner.is_locked())
    }
}

impl Inner {
    /// Takes over what the object's head says.
    pub fn load(&mut self, head: Option<&Head>) {
        self.bottom = HeadState::of(head);
        self.is_loaded = true;
    }

    /// The same, and keeps what a version says for who reads next.
    pub fn load_to_read(&mut self, head: Option<Head>, version: &Version) {
        self.load(head.as_ref());
        let generation = version.manifest.generation;
        self.found = head.map(|head| Box::new(FoundHead { generation, head }));
    }

    /// Takes an object into memory whose head lies in a part of the directory that cannot be read.
    pub fn load_lost(&mut self) {
        self.bottom = HeadState::lost();
        self.is_loaded = true;
    }

    /// The head as it follows from all commits.
    pub fn state(&self) -> &HeadState {
        self.layers.last().map_or(&self.bottom, |layer| &layer.after)
    }

    /// Applies a commit that was logged before cut number `cut + 1`.
    pub fn apply(&mut self, record: Arc<[u8]>, lsn: Lsn, time: Timestamp, cut: u64) {
        if record.get(RECORD_HEADER_BYTES..).and_then(adoption).is_some() {
            self.base = None;
        }
        self.found = None;
        let takes = |layer: &mut Arc<Layer>| layer.cut == cut && Arc::get_mut(layer).is_some();
        if !self.layers.last_mut().is_some_and(takes) {
            self.merge_layers(cut);
            let layer = Layer::new(cut, self.state().clone());
            self.layers.push(Arc::new(layer));
        }
        if let Some(top) = self.layers.last_mut().and_then(Arc::get_mut) {
            top.apply(record, lsn, time);
        }
    }

    /// Keeps the stack low: where this cut has many layers, merges the newest, as long as the next
    /// one is not much larger than they are together. So each record is copied about as often as
    /// what the cut has of the object doubles, and there are about as many layers. Holders of the
    /// old ones keep them.
    fn merge_layers(&mut self, cut: u64) {
        let first = self.layers.partition_point(|layer| layer.cut < cut);
        let own = &self.layers[first..];
        if own.len() < LAYERS_PER_CUT_MIN {
            return;
        }
        let mut bytes = 0;
        let is_small = |layer: &&Arc<Layer>| {
            let is_small = bytes == 0 || layer.bytes <= 2 * bytes;
            bytes += layer.bytes;
            is_small
        };
        let count = own.iter().rev().take_while(is_small).count();
        let merged = Layer::joined(self.layers.drain(self.layers.len() - count..));
        self.layers.extend(merged);
    }

    /// Drops the layers that the checkpoint of `cut` has put into pages; `bottom` is what the head
    /// says after them. Says how many record bytes they had.
    pub fn drop_layers(&mut self, cut: u64, bottom: HeadState) -> usize {
        let frozen = self.layers.partition_point(|layer| layer.cut <= cut);
        self.bottom = bottom;
        self.base = None;
        self.found = None;
        let dropped = self.layers.drain(..frozen).map(|layer| layer.bytes).sum();
        if self.state().is_lost() {
            // The checkpoint may have read what could not be read before.
            lay_over(&mut self.layers, self.bottom.clone());
        }
        dropped
    }

    /// What the object says of a full key; loads its pages where the overlay does not know.
    pub fn find(
        &mut self,
        address: Address,
        key: &[u8],
        version: impl Fn() -> Arc<Version>,
    ) -> Result<Option<Found>> {
        let mut adopted = None;
        for layer in self.layers.iter().rev() {
            if let Some(found) = layer.find(key) {
                return Ok(Some(found));
            }
            if layer.wiped {
                adopted = layer.adopted;
                break;
            }
        }
        match &self.base {
            Some(Base::Empty) => return Ok(None),
            Some(Base::Tiny(stack)) => return Ok(stack.find(key)),
            Some(Base::Past(past)) => return past.find(key),
            None | Some(Base::Large(_)) => {}
        }
        let version = version();
        if let Some(Base::Large(life)) = self.base {
            if let Some((_, entry)) = version.pages_of(address, life).page_at(address, life, key)? {
                return Ok(version.stack(&entry, address, life)?.find(key));
            }
            // A large object has a page for every key: cleaning has left one page in the head.
            self.base = None;
        }
        let base = match self.found.take() {
            Some(found) if adopted.is_none() && found.is_of(&version) => {
                version.base(address, Some(&found.head))?
            }
            _ => version.base_of(address, adopted)?,
        };
        match self.base.insert(base) {
            Base::Empty => Ok(None),
            Base::Tiny(stack) => Ok(stack.find(key)),
            Base::Large(life) => version.find_large(address, *life, key),
            Base::Past(past) => past.find(key),
        }
    }
}

impl FoundHead {
    fn is_of(&self, version: &Version) -> bool {
        self.generation == version.manifest.generation
    }
}

impl Version {
    /// What the pages of a large object say of a key.
    pub fn find_large(&self, address: Address, life: Life, key: &[u8]) -> Result<Option<Found>> {
        match self.pages_of(address, life).page_at(address, life, key)? {
            Some((_, entry)) => Ok(self.stack(&entry, address, life)?.find(key)),
            None => Ok(None),
        }
    }
}

/// A moment of an object: it does not change while it is held.
#[derive(Clone, Debug)]
pub struct View {
    /// Which object.
    pub address: Address,
    /// The files below.
    pub version: Arc<Version>,
    /// The overlay, the oldest layer first.
    pub layers: Vec<Arc<Layer>>,
    /// What the head says at this moment.
    pub state: HeadState,
    /// What is below the layers, of a moment before that of the version's pages.
    past: Option<Arc<Past>>,
    /// What the version's head says, if it was known already.
    found: Option<Box<FoundHead>>,
    /// What is below the layers, if that was read already and is no more than a page.
    read: Option<Base>,
}

impl View {
    /// The object as it is now. `version` is asked for after the layers are taken.
    pub fn of(object: &ObjectState, version: impl FnOnce() -> Arc<Version>) -> Self {
        let inner = object.inner.lock();
        Self::of_inner(object.address, &inner, version)
    }

    /// The same, for whoever holds the object's lock.
    pub fn of_inner(
        address: Address,
        inner: &Inner,
        version: impl FnOnce() -> Arc<Version>,
    ) -> Self {
        let layers = inner.layers.clone();
        let state = inner.state().clone();
        let version = version();
        let found = inner.found.clone().filter(|found| found.is_of(&version));
        let read = inner.base.clone().filter(|base| matches!(base, Base::Empty | Base::Tiny(_)));
        Self { address, version, layers, state, past: None, found, read }
    }

    /// An object that is not in memory.
    pub fn of_version(address: Address, version: Arc<Version>) -> Result<Self> {
        let state = HeadState::of(version.head(address)?.as_ref());
        let (past, found, read) = (None, None, None);
        Ok(Self { address, version, layers: Vec::new(), state, past, found, read })
    }

    /// The layers that count, the newest first: those down to the last end of a life.
    pub fn live_layers(&self) -> impl Iterator<Item = &Arc<Layer>> {
        let first = self.layers.iter().rposition(|layer| layer.wiped).unwrap_or(0);
        self.layers[first..].iter().rev()
    }

    /// The last of the layers that ends a life.
    fn last_end(&self) -> Option<&Layer> {
        self.layers.iter().rfind(|layer| layer.wiped).map(|layer| &**layer)
    }

    /// Whether there are pages below the layers that count.
    pub fn has_base(&self) -> bool {
        self.last_end().is_none_or(|end| end.adopted.is_some())
    }

    /// What is known of the pages below the layers, if there are any that count.
    pub fn head(&self) -> Result<Option<Head>> {
        match self.last_end().map(|end| end.adopted) {
            None => self.version.head(self.address),
            Some(None) => Ok(None),
            Some(Some(life)) => self.version.adopted_head(self.address, life).map(Some),
        }
    }

    /// What is below the layers.
    pub fn base(&self) -> Result<Base> {
        if !self.has_base() {
            return Ok(Base::Empty);
        }
        if let Some(past) = &self.past {
            return past.base();
        }
        if let Some(read) = &self.read {
            return Ok(read.clone());
        }
        match (self.last_end().and_then(|end| end.adopted), &self.found) {
            (None, Some(found)) => self.version.base(self.address, Some(&found.head)),
            (adopted, _) => self.version.base_of(self.address, adopted),
        }
    }

    /// What the object says of a full key.
    pub fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        for layer in self.live_layers() {
            if let Some(found) = layer.find(key) {
                return Ok(Some(found));
            }
        }
        match self.base()? {
            Base::Empty => Ok(None),
            Base::Tiny(stack) => Ok(stack.find(key)),
            Base::Large(life) => self.version.find_large(self.address, life, key),
            Base::Past(past) => past.find(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::Alarm;
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind};
    use crate::limits::Limits;
    use crate::object::write_set::WriteSet;

    fn put(inner: &mut Inner, lsn: u64, key: &[u8], value: &[u8]) {
        let mut changes = WriteSet::new();
        let full = [&[KeyKind::User as u8], key].concat();
        let put = Operation::Put { key: &full, codec: Codec::Raw, value };
        changes.push(&Limits::default(), &put).unwrap();
        let record = changes.into_record(Address::default());
        inner.apply(Arc::from(record), Lsn(lsn), Timestamp(lsn), 1);
    }

    #[test]
    fn what_a_checkpoint_has_found_again_is_below_later_commits_too() {
        let mut inner = Inner::default();
        inner.load_lost();
        put(&mut inner, 3, b"before", b"the cut");
        inner.layers.push(Arc::new(Layer::new(2, inner.state().clone())));
        put(&mut inner, 4, b"behind", b"it");
        assert!(inner.state().is_lost());
        let (life, alarm) = (Life(1), Some(Alarm::new(Timestamp(9), Lsn(2))));
        let found = Head { life, alarm, last_lsn: Lsn(3), ..Head::default() };
        inner.drop_layers(1, HeadState::of(Some(&found)));
        let state = inner.state();
        assert_eq!((state.alarm(), state.unfinished()), (Some(alarm), Some(false)));
        assert_eq!(state.life, Some(life));
    }

    #[test]
    fn what_many_commits_have_made_is_not_copied_for_each_few_that_are_looked_at() {
        let mut inner = Inner::default();
        for lsn in 1..=1000 {
            put(&mut inner, lsn, b"first", &lsn.to_le_bytes());
        }
        let large = Arc::clone(&inner.layers[0]);
        let mut held = inner.layers.clone();
        let (mut lsn, mut most) = (1000, 0);
        while inner.layers.iter().map(|layer| layer.bytes).sum::<usize>() < 4 * large.bytes / 3 {
            lsn += 1;
            put(&mut inner, lsn, b"then", &lsn.to_le_bytes());
            // Somebody looks at each commit.
            held = inner.layers.clone();
            assert!(Arc::ptr_eq(&held[0], &large), "copied at commit {lsn}");
            most = most.max(held.len());
        }
        drop(held);
        assert!(lsn > 1200 && most <= 12, "{most} layers at commit {lsn}");
        let all = Layer::joined(inner.layers.iter().cloned()).unwrap();
        assert_eq!((all.records().len() as u64, all.after.last_lsn), (lsn, Lsn(lsn)));
        for (key, last) in [("first", 1000), ("then", lsn)] {
            let key = [&[KeyKind::User as u8], key.as_bytes()].concat();
            let found = all.find(&key);
            let is_last = |value: &[u8]| value == u64::to_le_bytes(last);
            assert!(matches!(found, Some(Found::Value(_, value)) if is_last(&value)));
        }
    }
}

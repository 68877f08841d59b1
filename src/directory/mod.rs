//! The directory: where the pages of every object are, as of the last checkpoint.
//!
//! It is a few runs, the newest first; an entry of a newer run replaces those of older ones. There
//! is no copy in memory. Read [`Directory`] first; `search` goes down to the page that may hold a
//! key, `walk` goes up over all runs at once, and [`merge()`] makes one run of several.
//!
//! Invariants:
//!   * A directory never changes: a checkpoint makes another, which shares its runs.
//!   * Where a run lost entries, an answer comes from a newer run or the question fails. What was
//!     lost is never taken for absent.

mod hints;
mod merge;
mod search;
mod walk;

pub use hints::{HintStep, Hints, Lost};
pub use merge::{MergeStats, merge, merge_hints, merge_names};

use crate::error::{Error, Result};
use crate::format::entry::{
    DirectoryKey, HEAD_KEY_BYTES, Head, PageEntry, behind_keys, head_key, page_key,
};
use crate::format::run::RunUse;
use crate::ids::{Address, Life};
use crate::run::{AddressHash, Run};
use search::{Down, Reach};
use std::ops::RangeInclusive;
use std::sync::Arc;
use walk::{Step, Walk};

/// A page's fence and its entry.
pub type FencedPage = (Vec<u8>, PageEntry);

/// The entries of all objects.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    runs: Vec<Arc<Run>>,
}

impl Directory {
    /// Made of these runs, the newest first.
    pub fn new(runs: Vec<Arc<Run>>) -> Self {
        for run in &runs {
            assert_eq!(run.facts().usage, RunUse::Directory, "a directory is made of its own runs");
        }
        Self { runs }
    }

    /// The runs, the newest first.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// What is known about an object; none if it never was. A deleted one says so in its head.
    pub fn head(&self, address: Address) -> Result<Option<Head>> {
        let hash = AddressHash::new(&address);
        let key = head_key(address);
        for run in &self.runs {
            if !run.may_hold_hash(hash, &address) {
                continue;
            }
            if let Some(head) = run.get(&key, Head::decode)? {
                return head.map(Some).map_err(|fault| run.bad_entry(fault));
            }
        }
        Ok(None)
    }

    /// The page that may hold `key`: the one with the greatest fence at or below it.
    pub fn page_at(&self, address: Address, life: Life, key: &[u8]) -> Result<Option<FencedPage>> {
        let target = page_key(address, life, key);
        Down::new(self.runs_for(address), &target, Reach::To)?.find()
    }

    /// The page before the one with this fence.
    pub fn page_before(
        &self,
        address: Address,
        life: Life,
        fence: &[u8],
    ) -> Result<Option<FencedPage>> {
        let target = page_key(address, life, fence);
        Down::new(self.runs_for(address), &target, Reach::Below)?.find()
    }

    /// The page behind the one with this fence.
    pub fn page_after(
        &self,
        address: Address,
        life: Life,
        fence: &[u8],
    ) -> Result<Option<FencedPage>> {
        self.pages_behind(address, life, fence).next().transpose()
    }

    /// All pages of a life in the order of their fences. Goes on behind a range that was lost,
    /// after an error that says so.
    pub fn pages(&self, address: Address, life: Life) -> Pages<'_> {
        self.pages_from(address, life, &page_key(address, life, b""))
    }

    /// Those of them with a greater fence than this one.
    pub fn pages_behind(&self, address: Address, life: Life, fence: &[u8]) -> Pages<'_> {
        let mut start = page_key(address, life, fence);
        start.push(0);
        self.pages_from(address, life, &start)
    }

    fn pages_from(&self, address: Address, life: Life, start: &[u8]) -> Pages<'_> {
        let walk = Walk::new(self.runs_for(address), start);
        Pages { walk, prefix: page_key(address, life, b""), ended: false }
    }

    /// All heads from an address on, those of deleted objects included. Goes on behind a range
    /// that was lost, after an error that says so.
    pub fn heads(&self, from: Address) -> Heads<'_> {
        let runs = self.runs.iter().map(|run| &**run);
        let walk = Walk::new(runs, &head_key(from));
        Heads { walk, end: None, told: Vec::new(), lost_to: Vec::new(), ended: false }
    }

    /// The heads from one address to another, both included, and no error for what hides none of
    /// them: ranges that lie behind these, or end at the key `told` or before, or have pages of one
    /// object only.
    pub fn heads_within(&self, range: RangeInclusive<Address>, told: &[u8]) -> Heads<'_> {
        let end = Some(behind_keys(*range.end()));
        Heads { end, told: told.to_vec(), lost_to: told.to_vec(), ..self.heads(*range.start()) }
    }

    /// The runs that may know an object, the newest first.
    fn runs_for(&self, address: Address) -> impl Iterator<Item = &Run> {
        let hash = AddressHash::new(&address);
        let runs = self.runs.iter().map(|run| &**run);
        runs.filter(move |run| run.may_hold_hash(hash, &address))
    }
}

/// The pages of a life; see [`Directory::pages`].
#[derive(Debug)]
pub struct Pages<'a> {
    walk: Walk<'a>,
    prefix: Vec<u8>,
    ended: bool,
}

impl Iterator for Pages<'_> {
    type Item = Result<FencedPage>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.step() {
                Ok(None) => {}
                Ok(Some(page)) => return Some(Ok(page)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

impl Pages<'_> {
    /// The next page, or none if what is next is not one.
    fn step(&mut self) -> Result<Option<FencedPage>> {
        let step = self.walk.next().inspect_err(|_| self.ended = true)?;
        match step {
            None => self.ended = true,
            Some(Step::Hole { first, hidden, .. }) => {
                let behind = first > self.prefix && !first.starts_with(&self.prefix);
                if !behind {
                    return Err(hidden);
                }
                self.ended = true;
            }
            Some(Step::Entry { lane, .. }) => {
                let (key, value) = self.walk.entry(lane);
                let Some(fence) = key.strip_prefix(self.prefix.as_slice()) else {
                    self.ended = true;
                    return Ok(None);
                };
                let page = PageEntry::decode_value(value);
                let page = page.map_err(|fault| self.walk.run(lane).bad_entry(fault))?;
                return Ok(page.map(|page| (fence.to_vec(), page)));
            }
        }
        Ok(None)
    }
}

/// The heads of objects; see [`Directory::heads`].
#[derive(Debug)]
pub struct Heads<'a> {
    walk: Walk<'a>,
    /// Nothing from this key on is wanted.
    end: Option<[u8; HEAD_KEY_BYTES]>,
    /// Ranges that end here or before have been told.
    told: Vec<u8>,
    /// The last key of all ranges told.
    lost_to: Vec<u8>,
    ended: bool,
}

impl Iterator for Heads<'_> {
    type Item = Result<(Address, Head)>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.step() {
                Ok(None) => {}
                Ok(Some(head)) => return Some(Ok(head)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

impl Heads<'_> {
    /// The last key of all that was told to be lost, here or before.
    pub fn lost_to(self) -> Vec<u8> {
        self.lost_to
    }

    fn is_behind(&self, key: &[u8]) -> bool {
        self.end.is_some_and(|end| key >= &end[..])
    }

    /// The next head, or none if what is next is not one.
    fn step(&mut self) -> Result<Option<(Address, Head)>> {
        let step = self.walk.next().inspect_err(|_| self.ended = true)?;
        let lane = match step {
            None => {
                self.ended = true;
                return Ok(None);
            }
            Some(Step::Hole { first, last, hidden, .. }) => {
                self.ended = self.is_behind(&first);
                let is_listing = self.end.is_some();
                if self.ended || last <= self.told || is_listing && hides_no_head(&first, &last) {
                    return Ok(None);
                }
                let error = hidden_heads(hidden, &first, &last);
                self.lost_to = std::mem::take(&mut self.lost_to).max(last);
                return Err(error);
            }
            Some(Step::Entry { lane, .. }) => lane,
        };
        let (key, value) = self.walk.entry(lane);
        if self.is_behind(key) {
            self.ended = true;
            return Ok(None);
        }
        let bad = |fault| self.walk.run(lane).bad_entry(fault);
        match DirectoryKey::parse(key).map_err(bad)? {
            DirectoryKey::Head(address) => {
                let head = Head::decode(value).map_err(bad)?;
                Ok(Some((address, head)))
            }
            DirectoryKey::Page(address, ..) => {
                let skipped = self.walk.skip_to(&behind_keys(address));
                skipped.inspect_err(|_| self.ended = true)?;
                Ok(None)
            }
        }
    }
}

/// What a listing gets in the place of heads that a hole hides.
#[cold]
fn hidden_heads(hidden: Error, first: &[u8], last: &[u8]) -> Error {
    let (Some(first), Some(last)) = (Address::from_bytes(first), Address::from_bytes(last)) else {
        return hidden;
    };
    let [first, last] = [first, last].map(|it| format!("{}/{}", it.namespace, it.id));
    let fate = if hidden.is_unreadable() { "is not given back" } else { "was lost to damage" };
    let what = format!("what the directory has of objects from {first} to {last} {fate}");
    hidden.saying(what)
}

/// Whether between these keys there are pages of one object and nothing else.
fn hides_no_head(first: &[u8], last: &[u8]) -> bool {
    let (first, last) = (DirectoryKey::parse(first), DirectoryKey::parse(last));
    match (first, last) {
        (Ok(DirectoryKey::Page(one, ..)), Ok(DirectoryKey::Page(other, ..))) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests;

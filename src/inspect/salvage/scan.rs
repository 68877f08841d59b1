//! Pages found by reading segments whole, where the directory that named them is lost.
//!
//! Such a page verifies by itself. But what replaced it may be lost, and an object may have been
//! deleted since: all of it is doubtful.
//!
//! Invariants:
//!   * Of an object only pages of one life are used, and of a fence the newest.

use super::objects::{Content, Outgoing};
use super::{Source, Target};
use crate::error::Result;
use crate::format::entry::{Head, head_key};
use crate::format::page::PageKind;
use crate::ids::{Address, Life, Lsn};
use crate::inspect::catalog::CATALOG;
use crate::inspect::owners::{self, Owned};
use crate::inspect::segments::{Gap, walk_pages};
use crate::run::{Run, RunItem};
use crate::segment::ScannedPage;
use std::collections::{BTreeMap, BTreeSet};

/// Places of pages that are gathered at most.
pub const PAGES_MAX: usize = 1_000_000;

type Found = BTreeMap<Address, Vec<ScannedPage>>;

impl Source<'_> {
    /// The pages of some objects, wherever they stand, and the gaps where none is right.
    fn gather(&mut self, is_wanted: impl Fn(Address) -> bool) -> (Found, Vec<Gap>) {
        let (mut found, mut count) = (Found::new(), 0);
        let mut gaps = Vec::new();
        for state in &self.manifest.segments {
            let walked = walk_pages(&self.segments, state, |page| {
                if is_wanted(page.meta.address) && count < PAGES_MAX {
                    count += 1;
                    found.entry(page.meta.address).or_default().push(page);
                }
            });
            gaps.extend(walked.into_iter().flatten());
        }
        if count == PAGES_MAX {
            self.done
                .note(format!("only {PAGES_MAX} pages that no directory names were looked at"));
        }
        (found, gaps)
    }

    /// Objects that the directory has lost, and the key ranges of others that it has.
    pub(super) fn hand_out_doubtful(
        &mut self,
        lost: &BTreeSet<Address>,
        partly: &BTreeMap<Address, (Life, BTreeSet<Vec<u8>>)>,
        target: &mut dyn Target,
    ) -> Result<()> {
        if lost.is_empty() && partly.is_empty() {
            return Ok(());
        }
        let is_wanted = |address| lost.contains(&address) || partly.contains_key(&address);
        let (found, _) = self.gather(is_wanted);
        for address in lost.iter().filter(|address| !found.contains_key(address)) {
            self.lose(*address, None, "its entry is lost, and no page of it was found");
        }
        for (address, pages) in found {
            if let Some((life, seen)) = partly.get(&address) {
                let of_life = |page: &ScannedPage| page.meta.life == *life;
                let is_new = |page: &ScannedPage| !seen.contains(&page.meta.fence);
                if pages.iter().any(|page| of_life(page) && is_new(page)) {
                    self.doubt(address, None, "pages were found that may be the missing ones");
                }
                continue;
            }
            self.doubt(address, None, "its entry is lost; pages of it were found");
            if self.with_doubtful && self.namespaces.contains_key(&address.namespace) {
                self.hand_out_pages(address, pages, None, target)?;
            }
        }
        Ok(())
    }

    /// All objects of a store whose manifest is gone.
    pub(super) fn hand_out_scanned(&mut self, target: &mut dyn Target) -> Result<()> {
        let (mut found, gaps) = self.gather(|address| address != CATALOG);
        let (owned, is_all) = owners::of_gaps(&self.directory, &gaps);
        if !is_all {
            self.done.note("more objects may be concerned than were gathered");
        }
        for Owned { live, what, .. } in owned {
            if let Some((address, keys)) = live.filter(|(address, _)| *address != CATALOG) {
                self.lose(address, keys, what);
            }
        }
        for run in self.runs.directory.clone() {
            for address in addresses(&run) {
                found.entry(address).or_default();
            }
        }
        found.remove(&CATALOG);
        for (address, pages) in found {
            let head = self.newest_head(address);
            let newest = pages.iter().map(|page| page.meta.exact_at).max().unwrap_or(Lsn::ZERO);
            let is_gone = |head: &Head| head.deleted && head.last_lsn >= newest;
            if head.as_ref().is_some_and(is_gone) {
                continue;
            }
            if !self.namespaces.contains_key(&address.namespace) {
                self.lose(address, None, "its namespace is lost, and with it the key of its id");
                continue;
            }
            self.doubt(address, None, "the manifest is lost, so what is newest is not known");
            if self.with_doubtful {
                self.hand_out_pages(address, pages, head.as_ref(), target)?;
            }
        }
        Ok(())
    }

    /// The head with the last commit, whichever run has it.
    fn newest_head(&self, address: Address) -> Option<Head> {
        let key = head_key(address);
        let heads = self.runs.directory.iter();
        let heads = heads.filter_map(|run| run.get(&key, Head::decode).ok()??.ok());
        heads.max_by_key(|head| head.last_lsn)
    }

    /// Hands out an object as the newest of these pages say.
    fn hand_out_pages(
        &mut self,
        address: Address,
        mut pages: Vec<ScannedPage>,
        head: Option<&Head>,
        target: &mut dyn Target,
    ) -> Result<()> {
        pages.sort_by_key(|page| std::cmp::Reverse(page.meta.exact_at));
        let life = pages.first().map(|page| page.meta.life);
        let life = head.filter(|head| !head.deleted).map(|head| head.life).or(life);
        pages.retain(|page| Some(page.meta.life) == life);
        let mut by_fence: BTreeMap<Vec<u8>, Vec<ScannedPage>> = BTreeMap::new();
        for page in pages {
            let stack = by_fence.entry(page.meta.fence.clone()).or_default();
            // Below the newest base nothing counts.
            if stack.last().is_none_or(|above| above.meta.kind == PageKind::Delta) {
                stack.push(page);
            }
        }
        let mut outgoing = Outgoing::new(address);
        let mut stacks = by_fence.into_iter().peekable();
        while let Some((_, stack)) = stacks.next() {
            let mut content = Content::default();
            for page in stack.iter().filter_map(|page| self.segments.page(&page.location).ok()) {
                content.add_below(&page);
            }
            if let Some((next, _)) = stacks.peek() {
                content.end_before(next);
            }
            self.hand_out_content(&mut outgoing, &content, target)?;
        }
        let alarm = head.filter(|head| !head.deleted).and_then(|head| head.alarm);
        self.hand_out_alarm(&mut outgoing, alarm.as_ref(), target)
    }
}

/// The addresses that keys of a run begin with, each once.
fn addresses(run: &Run) -> impl Iterator<Item = Address> {
    let mut before = None;
    run.iter().filter_map(move |item| {
        let Ok(RunItem::Entry { key, .. }) = item else { return None };
        let address = Address::from_bytes(&key)?;
        (before.replace(address) != Some(address)).then_some(address)
    })
}

//! The key ranges of an object as it was: which state serves each, and its pages when it is read.
//!
//! Invariants:
//!   * Each key has one state, the nearest that was found; claimed ranges do not overlap.
//!   * Pages are read when a key range is, and not kept.

use super::history::whole_value;
use super::overlay::{Found, Sorted};
use super::past::gap;
use super::past_commits::Ahead;
use super::version::{Base, Stack, Version};
use crate::disk::bytes::SharedBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::entry::{Head, PageEntry, PagePart, counts_from};
use crate::format::history::{ItemKey, State};
use crate::format::page::{Page, verified};
use crate::ids::{Address, Life, Lsn};
use crate::run::Run;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// What a state found in history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundKind {
    Page,
    Delta,
    Absent,
    Lost,
}

/// A state found in history, without its content.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub kind: FoundKind,
    pub exact: Lsn,
    pub until: Lsn,
    /// Of a delta, up to where what it lies over was exact.
    pub over: Lsn,
    life: Life,
    fence: Vec<u8>,
    end: Option<Vec<u8>>,
    pub place: Option<(Arc<Run>, ItemKey)>,
}

impl Finding {
    /// The object had no content.
    pub fn absent(exact: Lsn, until: Lsn) -> Self {
        let (kind, life) = (FoundKind::Absent, Life(0));
        let (over, fence, end) = (Lsn::ZERO, Vec::new(), None);
        Self { kind, exact, until, over, life, fence, end, place: None }
    }

    pub fn set_range(&mut self, life: Life, fence: &[u8], end: Option<&[u8]>) {
        (self.life, self.fence, self.end) = (life, fence.to_vec(), end.map(<[u8]>::to_vec));
    }

    /// Whether commits can be laid over it.
    pub fn is_start(&self) -> bool {
        matches!(self.kind, FoundKind::Page | FoundKind::Absent)
    }

    /// Whether it is about all keys.
    pub fn is_whole(&self) -> bool {
        self.fence.is_empty() && self.end.is_none()
    }

    /// Whether it is a delta over this page. Both are of one commit where that adopted the page.
    fn lies_over(&self, base: &Self) -> bool {
        self.kind == FoundKind::Delta
            && self.exact >= base.exact
            && (self.life, &self.fence, &self.end) == (base.life, &base.fence, &base.end)
    }
}

/// The deltas that lie over a page one above the other, the oldest first, and up to where all of it
/// is exact. `found` has the newest first.
fn deltas_over(base: &Finding, found: &[Finding]) -> (Vec<Finding>, Lsn) {
    let (mut deltas, mut until) = (Vec::new(), base.until);
    for delta in found.iter().rev().filter(|finding| finding.lies_over(base)) {
        // One between them was lost, or it lies over another base: commits say the same.
        if delta.over != until {
            break;
        }
        until = delta.until;
        deltas.push(delta.clone());
    }
    (deltas, until)
}

/// What serves a key range.
#[derive(Clone, Debug)]
struct Source {
    base: Finding,
    /// The oldest first.
    deltas: Vec<Finding>,
    /// Up to where all of it together is exact.
    until: Lsn,
    /// Whether the commits behind `until` cannot be had.
    has_gap: bool,
}

/// Disjoint key ranges by their beginnings, each with its end and the number of its source.
#[derive(Clone, Debug, Default)]
struct Claims(BTreeMap<Vec<u8>, (Option<Vec<u8>>, usize)>);

/// A key range from its beginning to its end, and the number of its source.
type Claim<'a> = (&'a Vec<u8>, Option<&'a [u8]>, usize);

/// Whether a range that ends there holds the key.
pub(super) fn reaches(end: Option<&[u8]>, key: &[u8]) -> bool {
    end.is_none_or(|end| key < end)
}

impl Claims {
    /// The claim that holds a key.
    fn at(&self, key: &[u8]) -> Option<Claim<'_>> {
        let bounds = (Bound::Unbounded, Bound::Included(key));
        let (start, (end, source)) = self.0.range::<[u8], _>(bounds).next_back()?;
        reaches(end.as_deref(), key).then_some((start, end.as_deref(), *source))
    }

    /// Where the next claim behind a key begins.
    fn next(&self, key: &[u8]) -> Option<&Vec<u8>> {
        let bounds = (Bound::Excluded(key), Bound::Unbounded);
        self.0.range::<[u8], _>(bounds).next().map(|(start, _)| start)
    }

    /// Claims what is free of a range. Says whether anything was.
    fn claim(&mut self, from: &[u8], to: Option<&[u8]>, source: usize) -> bool {
        let mut position = from.to_vec();
        let mut has_any = false;
        loop {
            while let Some((_, end, _)) = self.at(&position) {
                let Some(end) = end.map(<[u8]>::to_vec) else { return has_any };
                position = end;
            }
            if !reaches(to, &position) {
                return has_any;
            }
            let next = self.next(&position).cloned();
            let is_inside = next.as_deref().is_some_and(|next| reaches(to, next));
            let end = if is_inside { next.clone() } else { to.map(<[u8]>::to_vec) };
            self.0.insert(position, (end, source));
            has_any = true;
            match next.filter(|_| is_inside) {
                Some(next) => position = next,
                None => return has_any,
            }
        }
    }

    /// Whether every key is claimed.
    fn is_everything(&self) -> bool {
        let mut position: &[u8] = &[];
        loop {
            match self.at(position) {
                None => return false,
                Some((_, None, _)) => return true,
                Some((_, Some(end), _)) => position = end,
            }
        }
    }
}

/// A key range of a past object and what is in it.
#[derive(Debug)]
pub(super) struct PastWindow {
    pub stack: Stack,
    /// Commits over the pages.
    pub overlay: Option<Arc<Sorted>>,
    pub lower: Vec<u8>,
    pub upper: Option<Vec<u8>>,
}

/// The pages of an object at a past moment.
#[derive(Debug)]
pub struct Past {
    pub(super) version: Arc<Version>,
    pub(super) address: Address,
    pub(super) at: Lsn,
    claims: Claims,
    sources: Vec<Source>,
    /// The pages that serve what no state was found for.
    present: Option<Head>,
    /// Whether commits are laid over each key range when it is read.
    lays_commits: bool,
    pub(super) before: Lsn,
    /// Commits over the key ranges that are read next. A leaf lock.
    pub(super) ahead: Mutex<Ahead>,
}

impl Past {
    pub(super) fn new(version: &Arc<Version>, address: Address, at: Lsn) -> Self {
        Self {
            version: Arc::clone(version),
            address,
            at,
            claims: Claims::default(),
            sources: Vec::new(),
            present: None,
            lays_commits: false,
            before: Lsn::ZERO,
            ahead: Mutex::default(),
        }
    }

    /// Gives what is still free to states just found; hands back those of lost pages. Commits up
    /// to `before` are not to be had.
    pub(super) fn claim(&mut self, mut found: Vec<Finding>, before: Lsn) -> Vec<Finding> {
        self.before = before;
        found.sort_by_key(|finding| std::cmp::Reverse((finding.exact, finding.until)));
        for base in found.iter().filter(|finding| finding.is_start()) {
            let number = self.sources.len();
            if !self.claims.claim(&base.fence, base.end.as_deref(), number) {
                continue;
            }
            let (deltas, until) = deltas_over(base, &found);
            let has_gap = until < self.at && until < before;
            self.sources.push(Source { base: base.clone(), deltas, until, has_gap });
        }
        found.retain(|finding| finding.kind == FoundKind::Lost);
        found
    }

    /// What was lost says so, where nothing else is there.
    pub(super) fn claim_lost(&mut self, lost: Vec<Finding>) {
        for base in lost {
            let number = self.sources.len();
            if self.claims.claim(&base.fence, base.end.as_deref(), number) {
                let (deltas, until) = (Vec::new(), self.at);
                self.sources.push(Source { base, deltas, until, has_gap: false });
            }
        }
    }

    pub(super) fn is_covered(&self) -> bool {
        self.claims.is_everything()
    }

    /// What is not claimed is served by the pages that this head leads to.
    pub(super) fn set_present(&mut self, head: Option<Head>) {
        self.present = head.filter(|head| !head.deleted);
    }

    pub(super) fn lay_commits_over_windows(&mut self) {
        self.lays_commits = true;
    }

    pub(super) fn lays_commits(&self) -> bool {
        self.lays_commits
    }

    /// The source of all keys, if it is one.
    fn whole(&self) -> Option<&Source> {
        match self.claims.at(&[])? {
            (_, None, source) => self.sources.get(source),
            _ => None,
        }
    }

    pub(super) fn is_one_page(&self) -> bool {
        self.whole().is_some()
    }

    pub(super) fn is_absent(&self) -> bool {
        self.whole().is_some_and(|source| source.base.kind == FoundKind::Absent)
    }

    /// The life that the first keys are of.
    pub(super) fn first_life(&self) -> Option<Life> {
        let claimed = self.claims.at(&[]).and_then(|(_, _, source)| self.sources.get(source));
        match claimed {
            Some(source) if source.base.kind == FoundKind::Absent => None,
            Some(source) => Some(source.base.life),
            None => self.present.as_ref().map(|head| head.life),
        }
    }

    /// Behind which LSN commits are needed to bring every key range to the moment.
    pub(super) fn needs_commits_from(&self, before: Lsn) -> Lsn {
        let present = if self.is_covered() { self.at } else { before };
        let sources = self.sources.iter().map(|source| source.until);
        sources.fold(present, std::cmp::min)
    }

    /// Behind which LSN the states that were found need commits.
    pub(super) fn sources_until(&self) -> Lsn {
        self.sources.iter().map(|source| source.until).min().unwrap_or(self.at)
    }

    /// What lies below the layers of the view.
    pub(super) fn base(self: &Arc<Self>) -> Result<Base> {
        match self.whole().filter(|_| !self.lays_commits) {
            Some(source) if source.base.kind == FoundKind::Absent => {
                self.stack(source).map(|_| Base::Empty)
            }
            Some(source) => self.stack(source).map(Base::Tiny),
            None => Ok(Base::Past(Arc::clone(self))),
        }
    }

    /// What the object said of a key.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        let window = self.window_at(key)?;
        let newer = window.overlay.as_ref().and_then(|overlay| overlay.find(key));
        Ok(newer.or_else(|| window.stack.find(key)))
    }

    /// The key range that holds `key`.
    pub(super) fn window_at(&self, key: &[u8]) -> Result<PastWindow> {
        if let Some((start, end, source)) = self.claims.at(key) {
            return self.window(source, start, end);
        }
        let (life, entry) =
            self.present_page(|life| self.version.directory.page_at(self.address, life, key))?;
        self.present_window(life, entry, key)
    }

    /// The key range that holds the keys just below `key`.
    pub(super) fn window_before(&self, key: &[u8]) -> Result<PastWindow> {
        let bounds = (Bound::Unbounded, Bound::Excluded(key));
        let below = self.claims.0.range::<[u8], _>(bounds).next_back();
        if let Some((start, (end, source))) = below
            && end.as_deref().is_none_or(|end| key <= end)
        {
            return self.window(*source, start, end.as_deref());
        }
        let (life, entry) =
            self.present_page(|life| self.version.directory.page_before(self.address, life, key))?;
        self.present_window(life, entry, key)
    }

    fn window(&self, source: usize, start: &[u8], end: Option<&[u8]>) -> Result<PastWindow> {
        let Some(source) = self.sources.get(source) else { return Err(gap(self.at)) };
        let stack = self.stack(source)?;
        self.finished(stack, source.until, start.to_vec(), end.map(<[u8]>::to_vec))
    }

    /// The entry of the present that serves a key, with its fence.
    fn present_page(
        &self,
        look: impl FnOnce(Life) -> Result<Option<(Vec<u8>, PageEntry)>>,
    ) -> Result<(Life, (Vec<u8>, PageEntry))> {
        let Some(head) = &self.present else { return Err(gap(self.at)) };
        let found = match &head.page {
            Some(entry) => Some((Vec::new(), entry.clone())),
            None => look(head.life)?,
        };
        let found = found.ok_or_else(|| gap(self.at))?;
        let from = |base: &PagePart| counts_from(base.exact_at, head.life, head.adopted);
        let is_exact = found.1.base.as_ref().is_some_and(|base| from(base) <= self.at);
        if is_exact { Ok((head.life, found)) } else { Err(gap(self.at)) }
    }

    fn present_window(
        &self,
        life: Life,
        (fence, mut entry): (Vec<u8>, PageEntry),
        near: &[u8],
    ) -> Result<PastWindow> {
        let is_inline = self.present.as_ref().is_some_and(|head| head.page.is_some());
        let directory = &self.version.directory;
        let next =
            if is_inline { None } else { directory.page_after(self.address, life, &fence)? };
        let next = next.map(|(fence, _)| fence);
        let later = entry.deltas.iter().position(|delta| delta.exact_at > self.at);
        let until = match later {
            Some(later) => entry.deltas[later].until,
            None => self.version.manifest.cut,
        };
        entry.deltas.truncate(later.unwrap_or(entry.deltas.len()));
        let stack = self.version.stack(&entry, self.address, life)?;
        // What is claimed on either side is not this page's to say.
        let bounds = (Bound::Unbounded, Bound::Excluded(near));
        let below = self.claims.0.range::<[u8], _>(bounds).next_back();
        let claimed_to = below.and_then(|(_, (end, _))| end.clone()).unwrap_or_default();
        let lower = fence.max(claimed_to);
        let claimed_from = self.claims.next(&lower).cloned();
        let upper = match (next, claimed_from) {
            (Some(next), Some(claimed)) => Some(next.min(claimed)),
            (next, claimed) => next.or(claimed),
        };
        self.finished(stack, until, lower, upper)
    }

    fn finished(
        &self,
        mut stack: Stack,
        until: Lsn,
        lower: Vec<u8>,
        upper: Option<Vec<u8>>,
    ) -> Result<PastWindow> {
        if until < self.at && until < self.before {
            return Err(gap(self.at));
        }
        let mut overlay = None;
        if self.lays_commits && until < self.at {
            let commits = self.commits_over(until, &lower, upper.as_deref())?;
            if commits.is_wiped {
                stack = Stack::default();
            }
            overlay = Some(commits.sorted);
        }
        Ok(PastWindow { stack, overlay, lower, upper })
    }

    /// The pages of a source, the newest first.
    fn stack(&self, source: &Source) -> Result<Stack> {
        if source.has_gap {
            return Err(gap(self.at));
        }
        match source.base.kind {
            FoundKind::Absent => return Ok(Stack::default()),
            FoundKind::Lost => {
                let what = "a page of the past was damaged before it came into history";
                return Err(Error::new(ErrorKind::Corrupt, "history.lost", what));
            }
            FoundKind::Page | FoundKind::Delta => {}
        }
        let parts = source.deltas.iter().rev().chain([&source.base]);
        Ok(Stack(parts.map(|part| self.page(part)).collect::<Result<_>>()?))
    }

    fn page(&self, finding: &Finding) -> Result<Page> {
        let Some((run, key)) = &finding.place else { return Err(gap(self.at)) };
        let bad = |fault| run.bad_entry(fault);
        let mut whole = whole_value(run, key)?;
        let (State::Page { frame, bytes, .. } | State::Delta { frame, bytes, .. }) =
            State::decode(&whole).map_err(bad)?
        else {
            return Err(bad(Malformed("a state that is not a page")));
        };
        let (start, length) = (whole.len() - frame.len(), frame.len());
        if length != bytes as usize || verified(frame, 0).is_none() {
            return Err(bad(Malformed("a page of history that is not whole")));
        }
        whole.drain(..start);
        let stored = SharedBytes::from(whole);
        let page = Page::decode(&stored, |_, _, _| Err(Malformed("a page that is not raw")));
        let page = page.map_err(bad)?;
        let header = page.header();
        if (header.address, header.exact_at) != (self.address, finding.exact) {
            return Err(bad(Malformed("the page of another object or moment")));
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FoundKind, exact: u64, until: u64, over: u64) -> Finding {
        let mut finding = Finding::absent(Lsn(exact), Lsn(until));
        (finding.kind, finding.over) = (kind, Lsn(over));
        finding
    }

    #[test]
    fn a_chain_of_deltas_ends_where_one_of_them_is_missing() {
        let base = finding(FoundKind::Page, 10, 20, 0);
        let chain = [(25, 30, 20), (35, 40, 30), (45, 50, 40)];
        let over = |left_out: Option<usize>| {
            let is_there = |(at, _): &(usize, &(u64, u64, u64))| Some(*at) != left_out;
            let deltas = chain.iter().enumerate().filter(is_there);
            let delta = |(_, &(exact, until, over))| finding(FoundKind::Delta, exact, until, over);
            let mut found: Vec<_> = deltas.map(delta).collect();
            found.reverse();
            found.push(base.clone());
            let (deltas, until) = deltas_over(&base, &found);
            (deltas.iter().map(|delta| delta.exact.0).collect::<Vec<_>>(), until.0)
        };
        assert_eq!(over(None), (vec![25, 35, 45], 50));
        assert_eq!(over(Some(0)), (vec![], 20));
        assert_eq!(over(Some(1)), (vec![25], 30));
        assert_eq!(over(Some(2)), (vec![25, 35], 40));
    }
}

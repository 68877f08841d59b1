//! Which moment a bookmark names, and whether it ever became durable.
//!
//! A moment of an object is an LSN of the store: what it shows of the object is all of the object's
//! commits up to it. So the present moment may be told by any LSN from the object's last commit on
//! that no later commit of it can get; the durable one is taken, which no crash takes back and
//! which is as young as the store.
//!
//! Invariants:
//!   * A bookmark is lost only with a commit of its own object, or of the store before it.
//!   * A term's bookmarks lie from right before its first LSN to its last durable one.
//!   * A term without a commit names one moment, which it has in common with the term before it:
//!     that is told from what that one lost by its distance.

use super::Engine;
use super::recovery::{LogHeader, read_wal_header};
use super::stats::files;
use crate::bookmark::Bookmark;
use crate::disk::ReadDisk;
use crate::error::Result;
use crate::format::manifest::{Manifest, TermSpan};
use crate::ids::{Address, Lsn, StoreId, Term};
use crate::names::FileName;
use crate::planted::{Mistake, planted};
use std::collections::BTreeMap;

/// More commits than a crash can take: those of a term that were logged and are not durable.
const LOST_MAX: u64 = 1 << 22;

/// The term that an LSN belongs to: the last that began at it, right behind it, or before it.
fn term_of(terms: &[TermSpan], lsn: Lsn) -> Term {
    let count = terms.partition_point(|span| span.first <= lsn.next());
    count.checked_sub(1).map_or(Term(0), |last| terms[last].term)
}

/// The LSN before the first of a term.
pub(super) fn right_before(first: Lsn) -> Lsn {
    Lsn(first.0.saturating_sub(1))
}

/// Forgets terms without a commit, but for the first: the list would grow with each open. What
/// their bookmarks can name is told without them.
pub(super) fn forget_idle(spans: &mut Vec<TermSpan>) {
    let mut before: Option<Lsn> = None;
    spans.retain(|span| {
        let moment = right_before(span.first);
        let is_idle = span.last < span.first;
        let is_told = before.is_some_and(|last| begins_term(moment) && is_behind_all(moment, last));
        if is_idle && is_told {
            return false;
        }
        before = Some(span.last);
        true
    });
}

/// Whether a term may have begun right behind this LSN.
fn begins_term(lsn: Lsn) -> bool {
    lsn.next() == lsn.first_of_next_term()
}

/// Whether an LSN is behind every one that a term gave away whose last durable one this is.
fn is_behind_all(lsn: Lsn, last: Lsn) -> bool {
    lsn.0 > last.0.saturating_add(LOST_MAX)
}

/// Adds terms that no manifest has written down: they ended before they published anything.
pub(super) fn note_terms(spans: &mut Vec<TermSpan>, firsts: &BTreeMap<Term, Lsn>) {
    for (term, first) in firsts {
        if spans.iter().all(|span| span.term != *term) {
            spans.push(TermSpan { term: *term, first: *first, last: right_before(*first) });
        }
    }
    spans.sort_unstable_by_key(|span| span.term);
}

/// The terms of a store for whoever only reads it: those of the manifest, those that the files of
/// the log name, and where they ended. `ends` are last commits before others of a later term.
pub fn terms_of_reader(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    ends: &[Lsn],
) -> Result<Vec<TermSpan>> {
    let mut firsts = BTreeMap::new();
    for (name, _) in files(disk)? {
        let Some(name @ FileName::Wal(_)) = name else { continue };
        // A file that is gone by now is one that the log does not need.
        let Ok(LogHeader::Used(header)) = read_wal_header(disk, name) else { continue };
        if header.header.store == manifest.store {
            let first = firsts.entry(header.header.term).or_insert(header.first_lsn);
            *first = header.first_lsn.min(*first);
        }
    }
    let mut spans = manifest.terms.clone();
    note_terms(&mut spans, &firsts);
    for end in ends {
        let count = spans.partition_point(|span| span.first <= *end);
        if let Some(span) = count.checked_sub(1).and_then(|at| spans.get_mut(at)) {
            span.last = span.last.max(*end);
        }
    }
    Ok(spans)
}

/// Whether the moment became durable, as far as the spans of the terms say; `end` is where the
/// last of them has come to.
fn is_kept(terms: &[TermSpan], end: Lsn, bookmark: &Bookmark) -> bool {
    let Some(at) = terms.iter().position(|span| span.term == bookmark.term()) else {
        // Spans of long ago are forgotten with the history, which is then what is asked for. One
        // between others left nothing behind: only what was before its first commit is kept.
        let is_old = terms.first().is_some_and(|first| bookmark.term() < first.term);
        let is_between = terms.last().is_some_and(|last| bookmark.term() < last.term);
        let lsn = bookmark.lsn();
        return is_old || is_between && lsn <= end && begins_term(lsn);
    };
    let (next, lsn) = (terms.get(at + 1), bookmark.lsn());
    let last = next.map_or(end, |_| terms[at].last);
    let before_first = right_before(terms[at].first);
    let is_own = (before_first..=last.max(before_first)).contains(&lsn);
    // Named when a term that was forgotten had just begun.
    let is_before_next = next.is_some_and(|next| lsn < next.first);
    is_own || is_before_next && begins_term(lsn) && is_behind_all(lsn, last)
}

/// The LSN of a bookmark of this object, from spans of terms and where the last has come to.
pub fn moment_in(terms: &[TermSpan], end: Lsn, bookmark: &Bookmark) -> Result<Lsn> {
    if is_kept(terms, end, bookmark) || planted(Mistake::UncheckedTerm) {
        Ok(bookmark.lsn())
    } else {
        Err(bookmark.lost())
    }
}

/// The bookmark of an LSN of this store.
pub fn bookmark_in(store: StoreId, terms: &[TermSpan], address: Address, lsn: Lsn) -> Bookmark {
    Bookmark::new(store, address, lsn, term_of(terms, lsn))
}

impl Engine {
    /// The moment right after the commit `lsn`, or of the store's LSN.
    pub fn bookmark(&self, address: Address, lsn: Lsn) -> Bookmark {
        bookmark_in(self.context.store, &self.terms, address, lsn)
    }

    /// The LSN of the present moment of an object whose last commit is `last`. The caller holds
    /// the object's lock, or wants no more than what was committed when it looked.
    pub fn present(&self, last: Lsn) -> Lsn {
        last.max(self.wal.durable())
    }

    /// The LSN that a bookmark of this object names. Fails with `bookmark.foreign` for one of
    /// another object, and with `bookmark.lost` for a moment that a crash took back.
    pub fn moment(&self, address: Address, bookmark: &Bookmark) -> Result<Lsn> {
        bookmark.check(self.context.store, address)?;
        moment_in(&self.terms, self.wal.last_lsn(), bookmark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(term: u32, first: u64, last: u64) -> TermSpan {
        TermSpan { term: Term(term), first: Lsn(first), last: Lsn(last) }
    }

    #[test]
    fn a_term_reaches_from_before_its_first_commit_to_its_last_durable_one() {
        let terms = [span(2, 100, 120), span(3, 200, 199), span(5, 300, 299)];
        let kept = |term, lsn| {
            let bookmark =
                Bookmark::new(StoreId::default(), Address::default(), Lsn(lsn), Term(term));
            moment_in(&terms, Lsn(310), &bookmark).is_ok()
        };
        for (term, lsn, is_kept) in [
            (2, 98, false),
            (2, 99, true),
            (2, 120, true),
            (2, 121, false),
            (3, 198, false),
            (3, 199, true),
            (3, 200, false),
            (4, 250, false),
            (4, 0xFF_FFFF, false),
            (5, 299, true),
            (5, 310, true),
            (5, 311, false),
            (6, 305, false),
            (1, 50, true),
        ] {
            assert_eq!(kept(term, lsn), is_kept, "LSN {lsn} of term {term}");
        }
    }

    #[test]
    fn terms_without_a_commit_are_forgotten_and_their_bookmarks_are_told_all_the_same() {
        const TERM: u64 = 1 << 24;
        // The fourth begins right behind what the third may have lost; the seventh is the newest.
        let all = [
            span(1, TERM, TERM - 1),
            span(2, 2 * TERM, 2 * TERM + 9),
            span(3, 3 * TERM, 4 * TERM - 5),
            span(4, 4 * TERM, 4 * TERM - 1),
            span(5, 5 * TERM, 5 * TERM - 1),
            span(6, 6 * TERM, 6 * TERM - 1),
            span(7, 7 * TERM, 7 * TERM + 3),
        ];
        let mut left = all.to_vec();
        forget_idle(&mut left);
        let terms: Vec<_> = left.iter().map(|span| span.term.0).collect();
        assert_eq!(terms, [1, 2, 3, 4, 7]);
        let kept = |terms: &[TermSpan], term, lsn| {
            let of = (StoreId::default(), Address::default());
            let bookmark = Bookmark::new(of.0, of.1, Lsn(lsn), Term(term));
            moment_in(terms, Lsn(7 * TERM + 3), &bookmark).is_ok()
        };
        // Right before the fourth term, and so near that the third may have lost it.
        assert!(!kept(&left, 3, 4 * TERM - 1) && kept(&left, 4, 5 * TERM - 1));
        for of in &all {
            for lsn in [of.first.0 - 1, of.first.0, of.first.0 + 5, of.last.0, of.last.0 + 1] {
                let is_kept = kept(&all, of.term.0, lsn);
                assert_eq!(kept(&left, of.term.0, lsn), is_kept, "{lsn} of {of:?}");
            }
            // As they are named from now on.
            for lsn in [of.first.0 - 1, of.last.0] {
                let term = term_of(&left, Lsn(lsn));
                assert!(kept(&left, term.0, lsn), "{lsn} as one of {term:?}");
            }
        }
    }

    #[test]
    fn a_bookmark_is_of_the_term_that_its_moment_is_kept_in() {
        let terms = [span(2, 100, 120), span(3, 200, 199), span(5, 300, 299)];
        for (lsn, term) in [(98, 0), (99, 2), (120, 2), (199, 3), (299, 5), (304, 5)] {
            assert_eq!(term_of(&terms, Lsn(lsn)), Term(term), "LSN {lsn}");
        }
    }
}

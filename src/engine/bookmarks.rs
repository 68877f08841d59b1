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
//!   * What the store did behind a backup is not in the backup. Of all that was named then, nothing
//!     is kept there: neither in terms that it never heard of, nor behind the last commit of the
//!     term in which it was made. Where that is in the list, the distance of two terms tells.

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

/// A backup goes on in a term at least so far behind the store's. No two terms of the list are so
/// far apart otherwise: see [`forget_idle`].
pub(super) const TERMS_APART: u32 = 1 << 16;

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

/// The first LSN of a term that begins behind these terms, and behind the highest LSN that the log
/// tells of. A backup has no log: its last term may have begun far behind the last commit.
pub(super) fn first_behind(terms: &[TermSpan], highest: Lsn) -> Lsn {
    let begun = terms.last().map_or(Lsn::ZERO, |span| right_before(span.first).max(span.last));
    highest.max(begun).first_of_next_term()
}

/// Forgets terms without a commit, but for the first and the last: the list would grow with each
/// open. What their bookmarks can name is told without them. Those on both sides of a backup stay,
/// and so does one of as many as would make it look as if there had been one.
pub(super) fn forget_idle(spans: &mut Vec<TermSpan>) {
    let mut kept: Vec<TermSpan> = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        let moment = right_before(span.first);
        let is_told = kept.last().zip(spans.get(at + 1)).is_some_and(|(before, next)| {
            let is_one_line = !is_apart(before, next);
            is_one_line && begins_term(moment) && is_behind_all(moment, before.last)
        });
        if span.last >= span.first || !is_told {
            kept.push(*span);
        }
    }
    *spans = kept;
}

/// Whether a term is that of a backup, and the one before it the last that the backup knows of.
fn is_apart(before: &TermSpan, span: &TermSpan) -> bool {
    span.term.0.saturating_sub(before.term.0) >= TERMS_APART
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
/// the log name, and where they ended. `ends` are commits that are durable: the last ones before
/// others of a later term, and the last of all that is shown.
pub fn terms_of_reader(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    ends: impl IntoIterator<Item = Lsn>,
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
    ends.into_iter().for_each(|end| note_end(&mut spans, end));
    Ok(spans)
}

/// Notes that the term which an LSN belongs to has come so far. The moment of a term without a
/// commit, which may be forgotten, says nothing of the term before it.
fn note_end(spans: &mut [TermSpan], end: Lsn) {
    let count = spans.partition_point(|span| span.first <= end.next());
    let Some(span) = count.checked_sub(1).and_then(|at| spans.get_mut(at)) else { return };
    if !(begins_term(end) && is_behind_all(end, span.last)) {
        span.last = span.last.max(end);
    }
}

/// Whether the moment became durable, as far as the spans of the terms say; `end` is where the
/// last of them has come to.
fn is_kept(terms: &[TermSpan], end: Lsn, bookmark: &Bookmark) -> bool {
    let lsn = bookmark.lsn();
    let at = terms.partition_point(|span| span.term < bookmark.term());
    // Whether the term at a place followed the one before it in the store itself.
    let goes_on = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| terms.get(before));
        before.zip(terms.get(at)).is_some_and(|(before, span)| !is_apart(before, span))
    };
    let Some(own) = terms.get(at).filter(|span| span.term == bookmark.term()) else {
        // Before all terms nothing was lost. One between others left nothing behind: only what was
        // before its first commit is kept.
        let is_first = at == 0 && !terms.is_empty();
        return is_first || goes_on(at) && lsn <= end && begins_term(lsn);
    };
    let next = terms.get(at + 1);
    let last = next.map_or(end, |_| own.last);
    let before_first = right_before(own.first);
    let is_own = (before_first..=last.max(before_first)).contains(&lsn);
    // Named when a term that was forgotten had just begun.
    let is_before_next = goes_on(at + 1) && next.is_some_and(|next| lsn < next.first);
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
    use proptest::collection::vec;
    use proptest::prelude::*;

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

    /// What befalls a store.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Open,
        /// A commit, behind so many of other objects.
        Commit(u64),
        /// A crash that takes as many of the last commits.
        Crash(usize),
        BackUp,
    }

    fn event() -> impl Strategy<Value = Event> {
        let near_end = (1u64 << 24) - 8..1 << 24;
        prop_oneof![
            3 => Just(Event::Open),
            3 => prop_oneof![0u64..3, near_end].prop_map(Event::Commit),
            2 => (0usize..4).prop_map(Event::Crash),
            1 => Just(Event::BackUp),
        ]
    }

    /// A store and what it was copied from, with the commits of one object in it.
    #[derive(Clone, Default)]
    struct Line {
        terms: Vec<TermSpan>,
        term: u32,
        /// The last LSN that the log tells of.
        highest: u64,
        is_open: bool,
        /// The LSN of each commit, and what it is.
        commits: Vec<(u64, usize)>,
        /// Moments that were named here, or before it was copied, and are durable.
        named: Vec<usize>,
    }

    /// A bookmark, and the commits that the object had where it was made.
    type Named = (Bookmark, Vec<usize>);

    impl Line {
        fn end(&self) -> Lsn {
            self.terms.last().map_or(Lsn::ZERO, |span| span.last)
        }

        fn shown(&self, lsn: Lsn) -> Vec<usize> {
            let shown = self.commits.iter().filter(|commit| commit.0 <= lsn.0);
            shown.map(|commit| commit.1).collect()
        }

        fn name(&mut self, lsn: Lsn, all: &mut Vec<Named>) {
            let of = (StoreId::default(), Address::default());
            let bookmark = Bookmark::new(of.0, of.1, lsn, term_of(&self.terms, lsn));
            self.named.push(all.len());
            all.push((bookmark, self.shown(lsn)));
        }

        fn open(&mut self, all: &mut Vec<Named>) {
            let first = first_behind(&self.terms, Lsn(self.highest));
            self.term += 1;
            self.terms.push(span(self.term, first.0, first.0 - 1));
            forget_idle(&mut self.terms);
            self.highest = first.0;
            self.is_open = true;
            // Restorations name again what was named in earlier terms.
            let mut again: Vec<_> = self.named.iter().map(|at| all[*at].0.lsn()).collect();
            again.sort();
            again.dedup();
            for lsn in again {
                self.name(lsn, all);
            }
        }

        fn commit(&mut self, others: u64, what: usize, all: &mut Vec<Named>) {
            let lsn = self.end().0 + 1 + others;
            self.commits.push((lsn, what));
            self.highest = lsn;
            if let Some(span) = self.terms.last_mut() {
                span.last = Lsn(lsn);
            }
            self.name(Lsn(lsn - 1), all);
            self.name(Lsn(lsn), all);
        }

        fn crash(&mut self, count: usize, all: &[Named]) {
            self.is_open = false;
            for _ in 0..count {
                let Some(span) = self.terms.last_mut() else { return };
                let is_lost = |lsn: u64| lsn >= span.first.0 && lsn + LOST_MAX > self.highest;
                if self.commits.pop_if(|commit| is_lost(commit.0)).is_none() {
                    return;
                }
                // With those of other objects behind the one before it.
                let kept = self.commits.last().map_or(0, |commit| commit.0);
                let others = self.highest.saturating_sub(LOST_MAX);
                span.last = Lsn(kept.max(others).max(span.first.0 - 1));
                let end = span.last;
                self.named.retain(|at| all[*at].0.lsn() <= end);
            }
        }

        /// As the copy is before its first open, with no log. Chance tells copies apart; here it
        /// never fails.
        fn copy(&self, others: &[Self]) -> Self {
            let mut term = self.term + TERMS_APART;
            while others.iter().any(|other| other.term.abs_diff(term) < 64) {
                term += 64;
            }
            let highest = self.commits.last().map_or(0, |commit| commit.0);
            Self { term, highest, is_open: false, ..self.clone() }
        }
    }

    proptest! {
        #[test]
        fn a_bookmark_shows_what_it_did_wherever_it_is_accepted(
            events in vec((any::<prop::sample::Index>(), event()), 1..40),
        ) {
            let (mut lines, mut all) = (vec![Line::default()], Vec::new());
            for (what, (line, event)) in events.into_iter().enumerate() {
                let at = line.index(lines.len());
                let line = &mut lines[at];
                if matches!(event, Event::Open) || !line.is_open {
                    line.open(&mut all);
                }
                match event {
                    Event::Open => {}
                    Event::Commit(others) => line.commit(others, what, &mut all),
                    Event::Crash(count) => line.crash(count, &all),
                    Event::BackUp => {
                        let copy = lines[at].copy(&lines);
                        lines.push(copy);
                    }
                }
                let line = &mut lines[at];
                line.name(line.end(), &mut all);
                let mut pairs = line.terms.windows(2);
                prop_assert!(pairs.all(|two| two[0].term < two[1].term));
                let mut pairs = line.terms.windows(2);
                prop_assert!(pairs.all(|two| two[0].last < two[1].first), "{:?}", line.terms);
            }
            for line in &lines {
                for (at, (bookmark, shown)) in all.iter().enumerate() {
                    let is_kept = is_kept(&line.terms, line.end(), bookmark);
                    let is_right = line.shown(bookmark.lsn()) == *shown;
                    prop_assert!(!is_kept || is_right, "{bookmark} in {:?}", line.terms);
                    let must_be = line.named.contains(&at);
                    prop_assert!(is_kept || !must_be, "{bookmark} in {:?}", line.terms);
                }
            }
        }
    }
}

//! Entries of an object in key order, from both ends: write set, layers and pages as one.
//!
//! The iterator keeps a position, and each step asks every overlay for its next key at or behind
//! it. Of a page it keeps which entries are left: a step looks at the next of them. Pages of a
//! large object are loaded one key range at a time. Where nothing lies over a page, a step is the
//! next of its entries and no more.
//!
//! Invariants:
//!   * `from..to` is what has not been yielded yet, but for what `passed` says; it only shrinks.
//!   * What one range has deleted costs one step, not one for each key, as long as no page says so.

use super::View;
use super::overlay::{Found, Sorted, is_span};
use super::past_pages::{Past, PastWindow};
use super::version::{Base, Stack};
pub use super::window::End;
use super::window::{Upper, Window, as_slice, next_of, pass_one, tighter};
use crate::directory::FencedPage;
use crate::disk::bytes::SharedBytes;
use crate::error::Result;
use crate::format::page::{Page, PageItem};
use crate::ids::{Codec, Life};
use std::ops::{Bound, Deref};
use std::sync::Arc;

/// Beyond every full key: kinds are small.
const BEHIND_ALL: &[u8] = &[0xFF];

/// An entry: full key, codec, value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The full key: kind byte, then the user's key.
    pub key: SharedBytes,
    /// How tools may read the value.
    pub codec: Codec,
    /// The value.
    pub value: SharedBytes,
}

impl Entry {
    fn as_ref(&self) -> EntryRef<'_> {
        EntryRef { key: &self.key, codec: self.codec, value: &self.value }
    }
}

/// An entry that is not held: as [`Entry`], while nothing else is asked for.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// The full key: kind byte, then the user's key.
    pub key: &'a [u8],
    /// How tools may read the value.
    pub codec: Codec,
    /// The value.
    pub value: &'a [u8],
}

/// Bounds of full keys.
pub type KeyBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Entries of a view in key order.
#[derive(Debug)]
pub struct RangeIter {
    view: View,
    /// Newest first.
    overlays: Vec<Arc<Sorted>>,
    base: BaseState,
    from: Bound<Place>,
    to: Bound<Place>,
    front: Option<Window>,
    back: Option<Window>,
    /// The entry of its window's single page that the front has passed last, and the back, where
    /// `from` or `to` do not say so yet.
    passed: [Option<usize>; 2],
    /// How often the front has moved, and the back.
    moves: [u64; 2],
    /// The page behind the last one that the front has passed, found on the way.
    ahead: Option<FencedPage>,
    /// The entry that `next_ref` has lent, where it lies in no page.
    lent: Option<Entry>,
}

/// The key at which a position stands.
#[derive(Debug)]
enum Place {
    Given(Vec<u8>),
    /// Of an entry: its bytes are not copied.
    Found(SharedBytes),
}

impl Deref for Place {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Given(key) => key,
            Self::Found(key) => key,
        }
    }
}

#[derive(Debug)]
enum BaseState {
    Unloaded,
    Loaded(Base),
}

/// The nearest key, and which source has it.
struct Nearest<'a> {
    key: &'a [u8],
    /// The newest source is 0.
    age: usize,
    source: Source<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Overlay(&'a SharedBytes, &'a Found),
    Page(&'a Page, usize),
}

impl RangeIter {
    /// The entries of `view` inside `bounds`, with a turn's changes on top.
    pub fn new(view: View, changes: Option<(Arc<Sorted>, bool)>, bounds: KeyBounds) -> Self {
        let mut overlays: Vec<_> = view.live_layers().map(|layer| layer.sorted()).collect();
        let mut has_base = view.has_base();
        if let Some((sorted, wiped)) = changes {
            if wiped {
                overlays.clear();
                has_base = false;
            }
            overlays.insert(0, sorted);
        }
        let base = if has_base { BaseState::Unloaded } else { BaseState::Loaded(Base::Empty) };
        let (from, to) = (bounds.0.map(Place::Given), bounds.1.map(Place::Given));
        let (passed, moves) = ([None; 2], [0; 2]);
        let (front, back, ahead, lent) = (None, None, None, None);
        Self { view, overlays, base, from, to, front, back, passed, moves, ahead, lent }
    }

    /// The next entry at `end`, lent: no holder of its memory is counted.
    #[inline]
    pub fn next_ref(&mut self, end: End) -> Result<Option<EntryRef<'_>>> {
        // Only deltas say that keys are deleted.
        let value_at = |page: &Page, index| (!page.is_delta()).then_some(index);
        let Some(index) = self.pass_in_page(end, value_at) else { return self.lend(end) };
        let window = if end == End::Front { &self.front } else { &self.back };
        let page = window.as_ref().and_then(|window| window.stack.0.first());
        Ok(page.and_then(|page| match page.item(index) {
            (key, PageItem::Value { codec, value }) => Some(EntryRef { key, codec, value }),
            _ => None,
        }))
    }

    /// As `next_ref`, of an entry that may lie anywhere.
    fn lend(&mut self, end: End) -> Result<Option<EntryRef<'_>>> {
        self.lent = self.step_to(end)?;
        Ok(self.lent.as_ref().map(Entry::as_ref))
    }

    /// The next entry at `end`; nothing more comes behind an error.
    #[inline]
    fn step_to(&mut self, end: End) -> Result<Option<Entry>> {
        self.step(end).inspect_err(|_| drop(self.finish()))
    }

    #[inline]
    fn step(&mut self, end: End) -> Result<Option<Entry>> {
        let shared_entry = |page: &Page, index| {
            let (key, value) = page.shared_entry(index);
            value.map(|(codec, value)| Entry { key, codec, value })
        };
        match self.pass_in_page(end, shared_entry) {
            Some(entry) => Ok(Some(entry)),
            None => self.step_anywhere(end),
        }
    }

    fn step_anywhere(&mut self, end: End) -> Result<Option<Entry>> {
        self.catch_up(End::Front);
        self.catch_up(End::Back);
        while is_span(as_slice(&self.from), as_slice(&self.to)) {
            let mut window = self.window(end)?;
            let Some((key, found)) = self.candidate(&mut window, end) else {
                if end == End::Front && window.has_more_than_the_range() {
                    return Ok(self.finish());
                }
                let edge = match end {
                    End::Front => self.upper_of(window)?,
                    End::Back => window.lower,
                };
                let position = match edge {
                    Bound::Unbounded => return Ok(self.finish()),
                    Bound::Included(key) => Bound::Excluded(key),
                    Bound::Excluded(key) => Bound::Included(key),
                };
                self.move_to(end, position.map(Place::Given));
                continue;
            };
            self.move_to(end, Bound::Excluded(Place::Found(key.clone())));
            if let Found::Value(codec, value) = found {
                *self.window_slot(end) = Some(window);
                return Ok(Some(Entry { key, codec, value }));
            }
            if let Some(position) = self.leap(&key, end) {
                self.move_to(end, position.map(Place::Given));
                window.seen = None;
            }
            if self.is_in(&window, end) {
                *self.window_slot(end) = Some(window);
            }
        }
        Ok(None)
    }

    /// Passes the next entry where a single page has all there is to say of it, and `take` takes
    /// it. Its key is not taken down as the position: mostly the next step is one of these.
    #[inline]
    fn pass_in_page<T>(
        &mut self,
        end: End,
        take: impl FnOnce(&Page, usize) -> Option<T>,
    ) -> Option<T> {
        let moves = self.moves[end.other() as usize];
        let is_bare = self.overlays.is_empty();
        let window = self.window_slot(end).as_mut()?;
        let ([page], [left]) = (&window.stack.0[..], &mut window.left[..]) else { return None };
        if !is_bare || window.overlay.is_some() || window.seen != Some(moves) {
            return None;
        }
        let index = next_of(left, end)?;
        let taken = take(page, index)?;
        pass_one(left, end);
        self.passed[end as usize] = Some(index);
        self.moves[end as usize] += 1;
        Some(taken)
    }

    /// Takes down what `end` has passed as its position.
    fn catch_up(&mut self, end: End) {
        let Some(index) = self.passed[end as usize].take() else { return };
        let window = self.window_slot(end).as_ref();
        let Some(page) = window.and_then(|window| window.stack.0.first()) else { return };
        let position = Bound::Excluded(Place::Found(page.shared_entry(index).0));
        match end {
            End::Front => self.from = position,
            End::Back => self.to = position,
        }
    }

    /// Where to go on behind a key that an overlay has deleted with a range: at what that overlay
    /// or a newer one has in the range, or at its end. What older sources have of it is not looked
    /// at.
    fn leap(&self, key: &[u8], end: End) -> Option<Bound<Vec<u8>>> {
        let mut overlays = self.overlays.iter().enumerate();
        let over = |(age, sorted): (usize, &'_ Arc<Sorted>)| {
            let (start, behind) = sorted.range_over(key)?;
            Some((age, start.to_vec(), behind.to_vec()))
        };
        let (age, start, behind) = overlays.find_map(over)?;
        let newer = self.overlays[..=age].iter();
        Some(match end {
            End::Front => {
                let bounds = (Bound::Excluded(key), Bound::Excluded(&*behind));
                let next = newer.filter_map(|sorted| Some(sorted.first(bounds.0, bounds.1)?.0));
                Bound::Included(
                    next.map(|key| &*key.0).min().map_or(behind.clone(), <[u8]>::to_vec),
                )
            }
            End::Back => {
                let bounds = (Bound::Included(&*start), Bound::Excluded(key));
                let next = newer.filter_map(|sorted| Some(sorted.last(bounds.0, bounds.1)?.0));
                let next = next.map(|key| &*key.0).max();
                next.map_or(Bound::Excluded(start.clone()), |key| Bound::Included(key.to_vec()))
            }
        })
    }

    /// Whether the position of `end` has not left a window.
    fn is_in(&self, window: &Window, end: End) -> bool {
        match end {
            End::Front => is_span(as_slice(&self.from), window.upper.known()),
            End::Back => is_span(as_slice(&window.lower), as_slice(&self.to)),
        }
    }

    fn finish(&mut self) -> Option<Entry> {
        self.from = Bound::Excluded(Place::Given(Vec::new()));
        self.to = Bound::Excluded(Place::Given(Vec::new()));
        None
    }

    fn move_to(&mut self, end: End, position: Bound<Place>) {
        match end {
            End::Front => self.from = position,
            End::Back => self.to = position,
        }
        self.moves[end as usize] += 1;
    }

    fn window_slot(&mut self, end: End) -> &mut Option<Window> {
        if end == End::Front { &mut self.front } else { &mut self.back }
    }

    /// The window at the position of `end`, taken out of its slot or loaded, which knows what is
    /// left of it.
    fn window(&mut self, end: End) -> Result<Window> {
        let mut window = match self.window_slot(end).take() {
            Some(window) => window,
            None => self.load(end)?,
        };
        let moves = self.moves[end.other() as usize];
        if window.seen != Some(moves) {
            window.locate(as_slice(&self.from), as_slice(&self.to));
            window.seen = Some(moves);
        }
        Ok(window)
    }

    fn load(&mut self, end: End) -> Result<Window> {
        if matches!(self.base, BaseState::Unloaded) {
            self.base = BaseState::Loaded(self.view.base()?);
        }
        let whole = Window::whole;
        match &self.base {
            BaseState::Unloaded | BaseState::Loaded(Base::Empty) => Ok(whole(Stack::default())),
            BaseState::Loaded(Base::Tiny(stack)) => Ok(whole(stack.clone())),
            BaseState::Loaded(Base::Large(life)) => self.page_window(*life, end),
            BaseState::Loaded(Base::Past(past)) => self.past_window(past, end),
        }
    }

    /// Where a window ends that the front has passed.
    fn upper_of(&mut self, window: Window) -> Result<Bound<Vec<u8>>> {
        let life = match window.upper {
            Upper::Known(bound) => return Ok(bound),
            Upper::NextPage(life) => life,
        };
        let View { address, version, .. } = &self.view;
        let fence = if let Bound::Included(fence) = &window.lower { fence } else { &[][..] };
        self.ahead = version.pages_of(*address, life).page_after(*address, life, fence)?;
        let next = self.ahead.as_ref().map(|(fence, _)| fence.clone());
        Ok(next.map_or(Bound::Unbounded, Bound::Excluded))
    }

    fn page_window(&mut self, life: Life, end: End) -> Result<Window> {
        let ahead = self.ahead.take().filter(|(fence, _)| {
            end == End::Front && matches!(&self.from, Bound::Included(key) if **key == **fence)
        });
        let View { address, version, .. } = &self.view;
        let directory = version.pages_of(*address, life);
        let entry = match (end, &self.from, &self.to) {
            _ if ahead.is_some() => ahead,
            (End::Front, Bound::Included(key) | Bound::Excluded(key), _) => {
                directory.page_at(*address, life, key)?
            }
            (End::Front, Bound::Unbounded, _) => directory.page_at(*address, life, &[])?,
            (End::Back, _, Bound::Included(key)) => directory.page_at(*address, life, key)?,
            (End::Back, _, Bound::Excluded(key)) => directory.page_before(*address, life, key)?,
            (End::Back, _, Bound::Unbounded) => directory.page_at(*address, life, BEHIND_ALL)?,
        };
        let Some((fence, entry)) = entry else { return Ok(Window::whole(Stack::default())) };
        let stack = version.stack(&entry, *address, life)?;
        let upper = if self.overlays.is_empty() {
            Upper::NextPage(life)
        } else {
            let next = directory.page_after(*address, life, &fence)?;
            Upper::Known(next.map_or(Bound::Unbounded, |(fence, _)| Bound::Excluded(fence)))
        };
        let lower = if fence.is_empty() { Bound::Unbounded } else { Bound::Included(fence) };
        Ok(Window { lower, upper, ..Window::whole(stack) })
    }

    fn past_window(&self, past: &Past, end: End) -> Result<Window> {
        let window = match (end, &self.from, &self.to) {
            (End::Front, Bound::Included(key) | Bound::Excluded(key), _)
            | (End::Back, _, Bound::Included(key)) => past.window_at(key)?,
            (End::Front, Bound::Unbounded, _) => past.window_at(&[])?,
            (End::Back, _, Bound::Excluded(key)) => past.window_before(key)?,
            (End::Back, _, Bound::Unbounded) => past.window_at(BEHIND_ALL)?,
        };
        let PastWindow { stack, overlay, lower, upper } = window;
        let lower = if lower.is_empty() { Bound::Unbounded } else { Bound::Included(lower) };
        let upper = Upper::Known(upper.map_or(Bound::Unbounded, Bound::Excluded));
        Ok(Window { overlay, lower, upper, ..Window::whole(stack) })
    }

    /// The key nearest to `end` inside position and window, and what the newest source says of it.
    /// It is not left in the window any more.
    fn candidate(&self, window: &mut Window, end: End) -> Option<(SharedBytes, Found)> {
        let nearest = self.nearest(window, end)?;
        let age = nearest.age;
        let (key, found) = match nearest.source {
            Source::Overlay(key, found) => (key.clone(), found.clone()),
            Source::Page(page, index) => {
                let (key, said) = page.shared_entry(index);
                (key, said.map_or(Found::Deleted, |(codec, value)| Found::Value(codec, value)))
            }
        };
        let overlays = self.overlays.iter().chain(&window.overlay);
        let pages_above = age.saturating_sub(self.overlay_count(window));
        let is_covered = overlays.take(age).any(|sorted| sorted.covers(&key))
            || window.stack.0[..pages_above].iter().any(|page| page.covers(&key));
        window.pass(&key, end);
        Some((key, if is_covered { Found::Deleted } else { found }))
    }

    fn overlay_count(&self, window: &Window) -> usize {
        self.overlays.len() + usize::from(window.overlay.is_some())
    }

    fn nearest<'a>(&'a self, window: &'a Window, end: End) -> Option<Nearest<'a>> {
        let mut best: Option<Nearest<'a>> = None;
        let mut offer = |key: &'a [u8], age, source| {
            let is_nearer = match &best {
                None => true,
                Some(best) if end == End::Front => *key < *best.key,
                Some(best) => *key > *best.key,
            };
            if is_nearer {
                best = Some(Nearest { key, age, source });
            }
        };
        let overlay_count = self.overlay_count(window);
        if overlay_count > 0 {
            let from = tighter(as_slice(&self.from), as_slice(&window.lower), End::Front);
            let to = tighter(as_slice(&self.to), window.upper.known(), End::Back);
            for (age, sorted) in self.overlays.iter().chain(&window.overlay).enumerate() {
                let next =
                    if end == End::Front { sorted.first(from, to) } else { sorted.last(from, to) };
                if let Some((key, found)) = next {
                    offer(&key.0, age, Source::Overlay(&key.0, found));
                }
            }
        }
        for (age, (page, left)) in (overlay_count..).zip(window.pages()) {
            if let Some(index) = next_of(left, end) {
                offer(page.item(index).0, age, Source::Page(page, index));
            }
        }
        best
    }
}

impl Iterator for RangeIter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step_to(End::Front).transpose()
    }
}

impl DoubleEndedIterator for RangeIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step_to(End::Back).transpose()
    }
}

//! Which turns of an object are sealed, and which of those are safe: what gates go by.
//!
//! Where a commit proves those before it safe, a gate asks the durability for one. Where it does
//! not, the ledger hears of each commit, and gates wait for the ledger.
//!
//! Invariants:
//!   * Turns are numbered in the order in which they are sealed; the open one has the next number.
//!   * What is outstanding is in that order. A turn leaves it only when it is confirmed.
//!   * Once a turn has failed, every gate that covers it or a later one fails.
//!   * The ledger's lock is a leaf: of what is called while it is held, only questions to
//!     [`Durability`] that may not block.

use super::core::Core;
use super::durability::Durability;
use super::queue::Queue;
use crate::error::{Error, ErrorKind, Result};
use crate::locks::Mutex;
use crate::planted::{Mistake, planted};
use crate::store::blocking::block_on;
use crate::store::commit::Position;
use crate::store::outstanding::Left;
use crate::wakes::Wakes;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Wake, Waker};

#[derive(Clone, Copy, Debug)]
struct Sealed {
    turn: u64,
    position: Position,
    is_confirmed: bool,
}

/// In the order in which each turn touches it.
#[derive(Debug, Default)]
#[repr(C)]
struct Ledger {
    /// The number of the open turn.
    open: u64,
    /// Whether a gate covers the open turn. Without one nobody is in the two lists below.
    is_bound: bool,
    /// The first turn that failed, and how.
    failed: Option<(u64, Error)>,
    /// How many of those below need no confirmation.
    unconfirmed: usize,
    outstanding: Queue<Sealed>,
    /// Who waits for the open turn's end.
    bound: Vec<Waker>,
    /// Who wants to know where the open turn is logged.
    asked: Vec<Place>,
    /// Gates on turns that are sealed, where the durability is not ordered.
    gates: Gates,
}

/// Who waits for turns, by the last one: those of which each turn must be safe, and those that wait
/// for confirmed turns only.
#[derive(Debug, Default)]
struct Gates {
    everything: BTreeMap<u64, Vec<Waker>>,
    confirmed: BTreeMap<u64, Vec<Waker>>,
}

impl Gates {
    fn put(&mut self, last: u64, everything: bool, waker: Waker) {
        let gates = if everything { &mut self.everything } else { &mut self.confirmed };
        let at = gates.entry(last).or_default();
        if !at.last().is_some_and(|last| last.will_wake(&waker)) {
            at.push(waker);
        }
    }

    /// Everybody whose gate fails or opens when a turn has failed.
    fn take_all(&mut self) -> Wakes {
        let Self { everything, confirmed } = std::mem::take(self);
        everything.into_values().chain(confirmed.into_values()).flatten().collect()
    }
}

/// Where a turn was logged, once it has ended; none where it logged nothing.
pub(super) type Place = Arc<OnceLock<Result<Option<Position>>>>;

impl Ledger {
    fn end_turn(&mut self, place: &Result<Option<Position>>) -> Wakes {
        self.open += 1;
        if !std::mem::take(&mut self.is_bound) {
            return Wakes::default();
        }
        for asked in self.asked.drain(..) {
            let _ = asked.set(place.clone());
        }
        std::mem::take(&mut self.bound).into()
    }

    fn fail(&mut self, turn: u64, error: &Error) {
        if self.failed.as_ref().is_none_or(|(first, _)| turn < *first) {
            self.failed = Some((turn, error.clone()));
        }
    }

    /// Forgets what is safe.
    fn prune(&mut self, durability: &dyn Durability) {
        while let Some(sealed) = self.outstanding.front()
            && durability.is_confirmed(sealed.position)
        {
            self.unconfirmed -= usize::from(!sealed.is_confirmed);
            self.outstanding.pop_front();
        }
    }

    /// The first turn that a gate must still wait for.
    fn first_wanted(&self, durability: &dyn Durability, everything: bool) -> u64 {
        let is_wanted = |sealed: &&Sealed| {
            (sealed.is_confirmed || everything) && !durability.is_confirmed(sealed.position)
        };
        self.covered(u64::MAX).find(is_wanted).map_or(self.open, |sealed| sealed.turn)
    }

    /// Whose gate has opened by what became safe.
    fn take_opened(&mut self, durability: &dyn Durability) -> Wakes {
        self.prune(durability);
        let mut opened = Wakes::default();
        for everything in [true, false] {
            let first = self.first_wanted(durability, everything);
            let gates =
                if everything { &mut self.gates.everything } else { &mut self.gates.confirmed };
            let later = gates.split_off(&first);
            let gone = std::mem::replace(gates, later);
            opened.extend(gone.into_values().flatten().collect());
        }
        opened
    }

    /// What is outstanding up to turn `last`.
    fn covered(&self, last: u64) -> impl DoubleEndedIterator<Item = &Sealed> {
        self.outstanding.fronts(move |sealed| sealed.turn <= last)
    }

    /// The first commit up to turn `last` that will never be safe, and why.
    fn failure(&self, durability: &dyn Durability, last: u64) -> Option<(Position, Error)> {
        let failed = |sealed: &Sealed| {
            durability.failure(sealed.position).map(|cause| (sealed.position, cause))
        };
        if durability.is_ordered() {
            // All that is outstanding has failed, or nothing has.
            return self.outstanding.front().filter(|first| first.turn <= last).and_then(failed);
        }
        self.covered(last).find_map(failed)
    }

    /// What a gate covers that is taken between two turns.
    fn cover(&self, is_ordered: bool, everything: bool) -> Cover {
        let is_confirmed = everything || self.unconfirmed == 0;
        if !is_ordered || !is_confirmed || self.failed.is_some() {
            return Cover::Turns { last: self.open - 1, everything };
        }
        let last = if planted(Mistake::GateOnFirst) {
            self.outstanding.front()
        } else {
            self.outstanding.back()
        };
        last.map_or(Cover::Nothing, |sealed| Cover::Commit(sealed.position))
    }

    fn push(&mut self, position: Position, is_confirmed: bool) {
        self.unconfirmed += usize::from(!is_confirmed);
        self.outstanding.push_back(Sealed { turn: self.open, position, is_confirmed });
    }
}

/// What gates need of an object. They keep it, and not the object.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Book {
    broken: OnceLock<Error>,
    durability: Arc<dyn Durability>,
    is_ordered: bool,
    ledger: Mutex<Ledger>,
    /// Who must hear of a commit that failed.
    core: OnceLock<Weak<Core>>,
}

/// What a gate waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cover {
    /// Nothing.
    Nothing,
    /// A commit that proves all that is covered safe.
    Commit(Position),
    /// The ledger says.
    Turns {
        /// The last turn.
        last: u64,
        /// Whether turns that need no confirmation count as well.
        everything: bool,
    },
}

/// What follows from a turn that was logged.
pub(super) struct Sealing {
    /// Who waited for that and is to be woken.
    pub bound: Wakes,
    /// A commit of before that has failed meanwhile, for [`Book::failed`].
    pub failure: Option<(Position, Error)>,
    /// What a gate covers that is taken now.
    pub cover: Cover,
}

/// What is left to wait for, for a gate.
enum Wanted {
    Nothing,
    /// The last commit, which proves those before it.
    Commit(Position),
    /// The ledger hears of each turn.
    Turns,
}

/// Hears what becomes of one commit, where others say nothing of it.
struct Watch {
    book: Weak<Book>,
    position: Position,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        if let Some(book) = self.book.upgrade() {
            book.ask(self);
        }
    }
}

impl Book {
    /// Gates of an object whose last commit is `last`, and which has `left` others that were not
    /// safe when it was let go.
    pub fn new(durability: Arc<dyn Durability>, last: Position, left: Left) -> Self {
        let mut ledger = Ledger::default();
        let before = left.into_iter().filter(|(position, _)| position.lsn < last.lsn);
        for (position, is_confirmed) in before.chain([(last, true)]) {
            if !durability.is_confirmed(position) {
                ledger.push(position, is_confirmed);
            }
        }
        // From here on; turns of before have the number zero.
        ledger.open = 1;
        Self {
            is_ordered: durability.is_ordered(),
            durability,
            ledger: Mutex::new(ledger),
            broken: OnceLock::new(),
            core: OnceLock::new(),
        }
    }

    /// What whoever opens the object next must wait for: nothing where its last commit tells all.
    pub fn left(&self) -> Left {
        if self.is_ordered {
            return Left::new();
        }
        let mut ledger = self.ledger.lock();
        ledger.prune(&*self.durability);
        let all = ledger.covered(u64::MAX);
        all.map(|sealed| (sealed.position, sealed.is_confirmed)).collect()
    }

    /// Looks at what each turn goes through, so that it is near; what it says means nothing.
    pub fn touch(&self) -> usize {
        usize::from(self.ledger.is_locked())
    }

    pub fn durability(&self) -> &dyn Durability {
        &*self.durability
    }

    /// From here on it hears of what it was made with, and tells `core` of failures.
    pub fn begin(self: &Arc<Self>, core: Weak<Core>) {
        let _ = self.core.set(core);
        let left: Vec<_> = {
            let ledger = self.ledger.lock();
            ledger.covered(u64::MAX).map(|sealed| sealed.position).collect()
        };
        for position in left {
            self.watch(position);
        }
    }

    /// Has the ledger hear what becomes of a commit, if no other commit tells that.
    pub fn watch(self: &Arc<Self>, position: Position) {
        if !self.is_ordered {
            self.ask(Arc::new(Watch { book: Arc::downgrade(self), position }));
        }
    }

    fn ask(&self, watch: Arc<Watch>) {
        let position = watch.position;
        match self.durability.poll(position, &Waker::from(watch)) {
            Some(Ok(())) => {
                let opened = self.ledger.lock().take_opened(&*self.durability);
                self.wake(opened);
            }
            Some(Err(cause)) => drop(self.failed(position, &cause)),
            None => {}
        }
    }

    /// Wakes those whose gates have opened or failed; not inside a turn of the object.
    fn wake(&self, wakes: Wakes) {
        match self.core.get().and_then(Weak::upgrade) {
            Some(core) if core.is_inside() => core.owe(wakes),
            _ => wakes.wake(),
        }
    }

    pub fn broken(&self) -> Option<&Error> {
        self.broken.get()
    }

    pub fn check(&self) -> Result<()> {
        self.broken.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Notes why the object is broken. False where it is broken already.
    pub fn set_broken(&self, error: &Error) -> bool {
        self.broken.set(error.clone()).is_ok()
    }

    /// Breaks the object if a commit of it has failed that no gate has asked for yet.
    pub fn notice(&self) {
        let failure = self.ledger.lock().failure(&*self.durability, u64::MAX);
        if let Some((position, cause)) = failure {
            self.failed(position, &cause);
        }
    }

    /// Where the open turn will be logged, and what tells when that is known. A failure to log it
    /// breaks the object from here on.
    pub fn ask_place(&self) -> (Place, Cover) {
        let mut ledger = self.ledger.lock();
        ledger.is_bound = true;
        let place = Place::default();
        ledger.asked.push(Arc::clone(&place));
        (place, Cover::Turns { last: ledger.open, everything: true })
    }

    /// The open turn is logged at `position`.
    pub fn seal(&self, position: Position, is_confirmed: bool) -> Sealing {
        self.durability.begin(position);
        let mut ledger = self.ledger.lock();
        ledger.prune(&*self.durability);
        let failure =
            self.is_ordered.then(|| ledger.failure(&*self.durability, u64::MAX)).flatten();
        ledger.push(position, is_confirmed);
        let bound = ledger.end_turn(&Ok(Some(position)));
        Sealing { bound, failure, cover: ledger.cover(self.is_ordered, false) }
    }

    /// The open turn ended without a commit. Who waited for its end is to be woken.
    pub fn seal_nothing(&self) -> Wakes {
        self.ledger.lock().end_turn(&Ok(None))
    }

    /// Whether a gate covers the open turn.
    pub fn is_bound(&self) -> bool {
        self.ledger.lock().is_bound
    }

    /// The open turn, and every later one, will never be safe.
    pub fn fail_open(&self, error: &Error) -> Wakes {
        let mut ledger = self.ledger.lock();
        let turn = ledger.open;
        ledger.fail(turn, error);
        ledger.end_turn(&Err(error.clone()))
    }

    /// What a gate that is taken now covers: all that is sealed, and the open turn if asked.
    pub fn cover(&self, with_open: bool, everything: bool) -> Cover {
        let mut ledger = self.ledger.lock();
        if with_open {
            ledger.is_bound = true;
            return Cover::Turns { last: ledger.open, everything };
        }
        if self.is_ordered {
            ledger.prune(&*self.durability);
        }
        ledger.cover(self.is_ordered, everything)
    }

    /// What a gate covers that waits for all that is sealed, up to the first turn that failed.
    pub fn cover_sealed(&self) -> Cover {
        let failed = self.ledger.lock().failed.as_ref().map(|(turn, _)| *turn);
        match failed {
            Some(turn) => Cover::Turns { last: turn.saturating_sub(1), everything: true },
            None => self.cover(false, true),
        }
    }

    /// Whether what is covered is safe; if that is not known yet, `waker` is woken when it may be.
    pub fn poll(&self, cover: Cover, waker: &Waker) -> Poll<Result<()>> {
        loop {
            match self.look(cover) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Some(Wanted::Nothing)) => return Poll::Ready(Ok(())),
                Ok(Some(Wanted::Commit(position))) => {
                    let told = self.durability.poll(position, waker);
                    return told.map_or(Poll::Pending, |told| {
                        Poll::Ready(told.map_err(|cause| self.failed(position, &cause)))
                    });
                }
                Ok(Some(Wanted::Turns)) if self.enlist(cover, waker.clone()) => {
                    return Poll::Pending;
                }
                Ok(None) if self.bind(cover, waker.clone()) => return Poll::Pending,
                // It has changed between the two looks.
                Ok(_) => {}
            }
        }
    }

    /// Keeps a waker until turns that are sealed are safe, or one has failed; false if they are.
    fn enlist(&self, cover: Cover, waker: Waker) -> bool {
        let Cover::Turns { last, everything } = cover else { return false };
        let mut ledger = self.ledger.lock();
        let has_failed = ledger.failed.as_ref().is_some_and(|(turn, _)| *turn <= last);
        if has_failed || ledger.first_wanted(&*self.durability, everything) > last {
            return false;
        }
        ledger.gates.put(last, everything, waker);
        true
    }

    /// Keeps a waker until the open turn ends; false if it has.
    pub fn bind(&self, cover: Cover, waker: Waker) -> bool {
        let Cover::Turns { last, .. } = cover else { return false };
        let mut ledger = self.ledger.lock();
        let is_open = ledger.open <= last;
        if is_open && !ledger.bound.last().is_some_and(|last| last.will_wake(&waker)) {
            ledger.bound.push(waker);
        }
        is_open
    }

    /// Blocks until what is covered is safe, or never will be.
    pub fn wait(&self, cover: Cover) -> Result<()> {
        match self.look(cover)? {
            Some(Wanted::Nothing) => return Ok(()),
            Some(Wanted::Commit(position)) => {
                // One wait is all, and may be cheaper than being woken.
                let waited = self.durability.wait(position);
                waited.map_err(|cause| self.failed(position, &cause))?;
            }
            Some(Wanted::Turns) | None => {}
        }
        self.block(cover)
    }

    fn block(&self, cover: Cover) -> Result<()> {
        block_on(|context| self.poll(cover, context.waker()))
    }

    /// What a gate says of a commit that failed. Breaks the object.
    pub fn failed(&self, position: Position, cause: &Error) -> Error {
        let error = gate_broken(cause);
        let mut ledger = self.ledger.lock();
        let before = ledger.outstanding.fronts(|sealed| sealed.position < position).count();
        let turn = ledger.outstanding.get(before).map_or(ledger.open, |sealed| sealed.turn);
        ledger.fail(turn, &error);
        let told = ledger.gates.take_all();
        drop(ledger);
        if let Some(core) = self.core.get().and_then(Weak::upgrade) {
            core.break_with(&error);
        }
        self.wake(told);
        error
    }

    /// The state of what is covered: none where that is open.
    pub fn state(&self, cover: Cover) -> Option<Result<()>> {
        match self.look(cover) {
            Ok(Some(Wanted::Nothing)) => Some(Ok(())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// What must still become safe; none while the last covered turn is open.
    fn look(&self, cover: Cover) -> Result<Option<Wanted>> {
        let durability = &*self.durability;
        let (last, everything) = match cover {
            Cover::Nothing => return Ok(Some(Wanted::Nothing)),
            Cover::Commit(position) if durability.is_confirmed(position) => {
                return Ok(Some(Wanted::Nothing));
            }
            Cover::Commit(position) => {
                let failure = durability.failure(position);
                failure.map_or(Ok(()), |cause| Err(self.failed(position, &cause)))?;
                return Ok(Some(Wanted::Commit(position)));
            }
            Cover::Turns { last, everything } => (last, everything),
        };
        let mut ledger = self.ledger.lock();
        if let Some((turn, error)) = &ledger.failed
            && *turn <= last
        {
            return Err(error.clone());
        }
        if ledger.open <= last {
            return Ok(None);
        }
        ledger.prune(durability);
        if !self.is_ordered {
            let is_open = ledger.first_wanted(durability, everything) > last;
            return Ok(Some(if is_open { Wanted::Nothing } else { Wanted::Turns }));
        }
        if let Some((position, cause)) = ledger.failure(durability, last) {
            drop(ledger);
            return Err(self.failed(position, &cause));
        }
        let is_wanted = |sealed: &&Sealed| {
            (sealed.is_confirmed || everything) && !durability.is_confirmed(sealed.position)
        };
        let wanted = ledger.covered(last).rfind(is_wanted);
        Ok(Some(wanted.map_or(Wanted::Nothing, |sealed| Wanted::Commit(sealed.position))))
    }
}

/// What is said of everything that stands on a commit that failed.
pub(super) fn gate_broken(cause: &Error) -> Error {
    let what = format!("a commit failed, so nothing that may follow from it can be shown: {cause}");
    Error::new(ErrorKind::Broken, "gate.broken", what).caused_by(cause.clone())
}

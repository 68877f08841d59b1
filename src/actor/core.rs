//! What all clones of a storage share: the object, its open turn, and whose turn it is.
//!
//! Four locks, none held while foreign code runs: the gate ([`super::doors`]), the draft, the
//! ledger ([`super::ledger`]), which may be taken under the draft's, and the list of alarms that
//! are being handled. The thread that has the turn is remembered, so that a call knows whether it
//! is inside.
//!
//! Invariants:
//!   * Only the thread that has the turn changes the draft, but for breaking the object, which
//!     throws the draft away.
//!   * The draft is empty between turns, unless a transaction is open over several of them.
//!   * A broken object logs nothing more: the draft is thrown away after the object is marked.
//!   * Wakers are called while no lock is held, and not inside the turn that wakes them: what they
//!     write is no part of it.

use super::alarms::Handled;
use super::doors::{Doors, THREAD};
use super::durability::{Durability, Local};
use super::ledger::{Book, Cover, Sealing};
use super::storage::StorageOptions;
use super::waits::Wait;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Lsn, Timestamp};
use crate::object::write_set::Savepoint;
use crate::store::commit::Position;
use crate::store::draft::Draft;
use crate::store::object::Object;
use crate::store::outstanding::Left;
use crate::wakes::Wakes;
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Before the first commit.
const NOTHING: Position = Position { lsn: Lsn::ZERO, time: Timestamp(0) };

thread_local! {
    /// Has an address of its own in each thread.
    static PLACE: u8 = const { 0 };
    /// Counts threads, from one; zero until it is asked for.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// A number that no other living thread has.
pub(super) fn this_thread() -> usize {
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

/// A number below `shares` that this thread always has, and its neighbours in age do not.
pub(super) fn thread_share(shares: usize) -> usize {
    let number = NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
        }
        number.get()
    });
    number % shares
}

/// A transaction that is open.
#[derive(Clone, Copy, Debug)]
struct Transaction {
    /// The level of the gate from which on code belongs to it.
    level: usize,
    /// Where it began; none for the beginning of the draft.
    begin: Option<Savepoint>,
    was_confirmed: bool,
}

/// The open turn.
#[derive(Debug, Default)]
struct Open {
    transactions: Vec<Transaction>,
    /// Whether a write in it must be confirmed before a gate opens.
    is_confirmed: bool,
    /// Elsewhere: it is there while a turn is, in memory that the thread has just used for another.
    draft: Option<Box<Draft>>,
}

/// What clones of a storage share. What each turn goes through comes first, in one piece: of ten
/// thousand objects none is in the processor's cache, and each line of it is waited for.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Core {
    pub book: Arc<Book>,
    /// The thread that has the turn; zero for none.
    holder: AtomicUsize,
    /// The level of the code that runs in the turn. Changed by the holder only.
    level: AtomicUsize,
    /// Threads that wait for the turn.
    blocked: AtomicU32,
    /// Whether there is a draft. Changed by the holder, and when the object breaks.
    has_draft: AtomicBool,
    /// Whether a turn is between the log and the ledger.
    is_sealing: AtomicBool,
    /// Whether the engine is to tell of a commit of this turn. Changed by the holder only.
    owes_engine: AtomicBool,
    pub object: Object,
    open: Mutex<Open>,
    pub doors: Mutex<Doors>,
    /// For threads that wait for the turn.
    freed: Condvar,
    pub section_limit: Duration,
    /// Alarms that are being handled. A leaf lock.
    pub handled: Mutex<Vec<Handled>>,
    next_handled: AtomicU64,
}

impl Core {
    pub fn new(object: Object, options: StorageOptions) -> Arc<Self> {
        let durability: Arc<dyn Durability> =
            options.durability.unwrap_or_else(|| Arc::new(Local::new(object.store())));
        let last = object.last_position();
        let left = if durability.is_ordered() {
            Left::new()
        } else {
            object.store().outstanding().take(object.address())
        };
        let book = Book::new(durability, last.as_ref().copied().unwrap_or(NOTHING), left);
        let core = Arc::new(Self {
            object,
            book: Arc::new(book),
            section_limit: options.section_limit,
            holder: AtomicUsize::new(0),
            level: AtomicUsize::new(0),
            has_draft: AtomicBool::new(false),
            is_sealing: AtomicBool::new(false),
            owes_engine: AtomicBool::new(false),
            next_handled: AtomicU64::new(0),
            doors: Mutex::new(Doors::new()),
            freed: Condvar::new(),
            blocked: AtomicU32::new(0),
            open: Mutex::default(),
            handled: Mutex::default(),
        });
        core.book.begin(Arc::downgrade(&core));
        if let Err(error) = last {
            core.break_with(&error);
        }
        core
    }

    /// Whether this thread has the turn.
    pub fn is_inside(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == this_thread()
    }

    /// Looks at every part of memory that a turn goes through: looked at together, the processor
    /// fetches them together, and waits for each one otherwise. What it says means nothing.
    pub fn touch(&self) -> usize {
        let own = usize::from(self.open.is_locked()) ^ usize::from(self.doors.is_locked());
        self.holder() ^ own ^ self.book.touch() ^ self.object.touch()
    }

    /// A number that no other alarm being handled has.
    pub fn next_handled(&self) -> u64 {
        self.next_handled.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes what the gate decided, under its lock.
    pub fn set_holder(&self, doors: &Doors) {
        let holder = if doors.is_held() { this_thread() } else { 0 };
        self.holder.store(holder, Ordering::Relaxed);
        self.level.store(doors.current(), Ordering::Relaxed);
    }

    /// The thread that has the turn; zero for none.
    pub fn holder(&self) -> usize {
        self.holder.load(Ordering::Relaxed)
    }

    /// Takes the turn; blocks while another thread has it, unless that one would wait for this one.
    /// With `as_event`, fails with `Busy` where a section runs: this thread may be the one that the
    /// section needs.
    pub fn take_turn(self: &Arc<Self>, as_event: bool) -> Result<Turn<'_>> {
        let mut doors = self.doors.lock();
        if doors.is_held() {
            let Some(wait) = Wait::begin(self) else {
                let what = "the thread that has the turn waits for a turn that this thread has";
                return Err(Error::new(ErrorKind::Busy, "turn.deadlock", what));
            };
            while doors.is_held() {
                self.blocked.fetch_add(1, Ordering::Relaxed);
                self.freed.wait(&mut doors);
                self.blocked.fetch_sub(1, Ordering::Relaxed);
            }
            drop(wait);
        }
        let refused = self.refusal(&doors, as_event);
        if let Some(error) = refused {
            drop(doors);
            // Another thread may wait for the turn that this one does not take.
            self.freed.notify_one();
            return Err(error);
        }
        doors.take(THREAD);
        self.set_holder(&doors);
        Ok(Turn::new(self, Part::Outer))
    }

    /// Why a thread may not take the free turn.
    fn refusal(&self, doors: &Doors, as_event: bool) -> Option<Error> {
        if let Some(error) = self.book.broken() {
            return Some(error.clone());
        }
        let what = "a critical section of the object runs; only `run` waits for its end";
        let is_closed = as_event && doors.depth() > 0;
        is_closed.then(|| Error::new(ErrorKind::Busy, "gate.closed", what))
    }

    /// Gives the turn back, and then wakes whom its commits and its end concern.
    fn release(&self) {
        let owes_engine = self.owes_engine.load(Ordering::Relaxed);
        if owes_engine {
            self.owes_engine.store(false, Ordering::Relaxed);
        }
        let mut doors = self.doors.lock();
        let is_broken = self.book.broken().is_some();
        let wakes = if is_broken { doors.leave_broken() } else { doors.leave() };
        self.set_holder(&doors);
        let is_waited_for = self.blocked.load(Ordering::Relaxed) > 0;
        drop(doors);
        if is_waited_for {
            self.freed.notify_one();
        }
        if owes_engine {
            self.object.store().engine().tell();
        }
        wakes.wake();
    }

    /// Has these woken when the turn, which this thread has, is given back.
    pub fn owe(&self, wakes: Wakes) {
        if !wakes.is_empty() {
            self.doors.lock().owe(wakes);
        }
    }

    /// Runs `read` on the open draft, if there is one that this thread may see.
    pub fn with_draft<R>(&self, read: impl FnOnce(&Draft) -> Result<R>) -> Option<Result<R>> {
        if !self.has_draft.load(Ordering::Relaxed) || !self.is_inside() {
            return None;
        }
        let open = self.open.lock();
        // The draft of a transaction is for those inside it; before it there is none.
        let level = self.level.load(Ordering::Relaxed);
        if open.transactions.first().is_some_and(|transaction| level < transaction.level) {
            return None;
        }
        open.draft.as_deref().map(read)
    }

    /// What a gate that is taken now covers; with `everything`, also what needs no confirmation.
    pub fn cover(&self, everything: bool) -> Cover {
        if self.is_inside() {
            let with_open = if everything { self.has_write() } else { self.has_confirmed_write() };
            return self.book.cover(with_open, everything);
        }
        if self.is_sealing.load(Ordering::Acquire) {
            // The turn may be read before the ledger has it.
            drop(self.open.lock());
        }
        self.book.cover(false, everything)
    }

    /// Runs `change` on the draft of the open turn, which this thread has. An error leaves the
    /// draft as it was.
    pub fn edit<R>(
        &self,
        is_confirmed: bool,
        change: impl FnOnce(&mut Draft, &Object) -> Result<R>,
    ) -> Result<R> {
        let mut open = self.open.lock();
        self.book.check()?;
        self.check_transaction(&open)?;
        let open = &mut *open;
        let draft = open.draft.get_or_insert_default();
        let before = draft.savepoint();
        let count = draft.count();
        let done = change(draft, &self.object);
        if draft.count() == count {
            return done;
        }
        if done.is_err() {
            draft.roll_back(before);
            return done;
        }
        open.is_confirmed |= is_confirmed;
        self.has_draft.store(true, Ordering::Relaxed);
        done
    }

    /// Only what runs inside the innermost open transaction may write.
    fn check_transaction(&self, open: &Open) -> Result<()> {
        let level = self.level.load(Ordering::Relaxed);
        match open.transactions.last() {
            Some(transaction) if level < transaction.level => {
                let what = "a transaction of the object is open; only code inside it may write";
                Err(Error::new(ErrorKind::Busy, "storage.transaction", what))
            }
            _ => Ok(()),
        }
    }

    /// Whether the open turn, which this thread has, holds a write that gates wait for.
    pub fn has_confirmed_write(&self) -> bool {
        self.has_draft.load(Ordering::Relaxed) && self.open.lock().is_confirmed
    }

    /// Whether the open turn, which this thread has, holds any write.
    pub fn has_write(&self) -> bool {
        self.has_draft.load(Ordering::Relaxed)
    }

    /// Seals the open turn, unless a transaction is open: logs it as one commit. On an error
    /// nothing was logged, and the turn's writes are gone. Gives what a gate covers that is taken
    /// now, where a commit was made.
    pub fn seal(&self) -> Result<Option<Cover>> {
        if !self.has_draft.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut open = self.open.lock();
        if !open.transactions.is_empty() {
            return Ok(None);
        }
        let draft = open.draft.take();
        let is_confirmed = std::mem::take(&mut open.is_confirmed);
        self.has_draft.store(false, Ordering::Relaxed);
        let changes = match draft {
            Some(draft) if draft.count() > 0 => draft.into_changes(),
            _ => {
                drop(open);
                self.owe(self.book.seal_nothing());
                return Ok(None);
            }
        };
        self.owes_engine.store(true, Ordering::Relaxed);
        self.is_sealing.store(true, Ordering::Relaxed);
        let logged = self.object.log(changes);
        let sealed = logged.map(|position| (position, self.book.seal(position, is_confirmed)));
        self.is_sealing.store(false, Ordering::Release);
        drop(open);
        let (position, Sealing { bound, failure, cover }) = sealed?;
        self.owe(bound);
        if let Some((failed, cause)) = failure {
            self.book.failed(failed, &cause);
        }
        self.book.watch(position);
        self.object.store().engine().wal.tell_writer();
        Ok(Some(cover))
    }

    /// The same for what nobody is told about otherwise: a failure breaks the object.
    pub fn seal_or_break(&self) -> Result<Option<Cover>> {
        self.seal().map_err(|cause| {
            let what = format!("a turn of the object could not be logged: {cause}");
            let error = Error::new(ErrorKind::Broken, "object.commit", what);
            self.break_with(&error.caused_by(cause))
        })
    }

    /// Begins a transaction in the turn that this thread has; what was written loosely before is
    /// sealed first. Gives the number of transactions around it.
    pub fn begin_transaction(&self) -> Result<usize> {
        self.seal_or_break()?;
        let mut open = self.open.lock();
        self.book.check()?;
        self.check_transaction(&open)?;
        let begin = open.draft.as_deref().map(Draft::savepoint);
        let level = self.level.load(Ordering::Relaxed);
        let was_confirmed = open.is_confirmed;
        open.transactions.push(Transaction { level, begin, was_confirmed });
        Ok(open.transactions.len() - 1)
    }

    /// Ends transaction number `number`, and those inside it, with its writes kept: in a commit of
    /// its own if there is none around it.
    pub fn commit_transaction(&self, number: usize) -> Result<()> {
        let mut open = self.open.lock();
        self.book.check()?;
        open.transactions.truncate(number);
        drop(open);
        if number > 0 {
            return Ok(());
        }
        self.seal_call().map(drop)
    }

    /// Seals for a caller that is told of a failure. The object lives on, unless a gate has gone
    /// by the turn that failed.
    fn seal_call(&self) -> Result<Option<Cover>> {
        if self.book.is_bound() { self.seal_or_break() } else { self.seal() }
    }

    /// Ends transaction number `number`, and those inside it, with their writes undone. Says
    /// whether it was open.
    pub fn roll_back_transaction(&self, number: usize) -> bool {
        let mut open = self.open.lock();
        let Some(transaction) = open.transactions.get(number).copied() else { return false };
        open.transactions.truncate(number);
        open.is_confirmed = transaction.was_confirmed;
        let mut bound = Wakes::default();
        match (transaction.begin, &mut open.draft) {
            (Some(begin), Some(draft)) => draft.roll_back(begin),
            _ => open.draft = None,
        }
        if number == 0 {
            // An operation that changed nothing leaves a draft without anything in it.
            open.draft.take_if(|draft| draft.count() == 0);
            self.has_draft.store(open.draft.is_some(), Ordering::Relaxed);
            bound = self.book.seal_nothing();
        }
        drop(open);
        self.owe(bound);
        true
    }

    /// The time by which sections are limited.
    pub fn now(&self) -> Duration {
        self.object.store().engine().clock.uptime()
    }

    /// Whether a section has run for too long.
    pub fn is_overdue(&self, doors: &Doors) -> bool {
        doors.is_overdue(self.now())
    }

    /// Breaks the object because a section has run for too long.
    pub fn break_overdue(&self) -> Error {
        let limit = self.section_limit;
        let what = format!("a critical section of the object ran for longer than {limit:?}");
        self.break_with(&Error::new(ErrorKind::Broken, "section.timeout", what))
    }

    /// Breaks the object if a section has run for too long.
    pub fn check_limit(&self) {
        let is_overdue = self.is_overdue(&self.doors.lock());
        if is_overdue {
            self.break_overdue();
        }
    }

    /// Drops the open turn and breaks the object: every later call fails with this error, or with
    /// an earlier one. Lets the object go, so that it can be opened again.
    pub fn break_with(&self, error: &Error) -> Error {
        if !self.book.set_broken(error) {
            return self.book.broken().unwrap_or(error).clone();
        }
        let mut open = self.open.lock();
        *open = Open::default();
        self.has_draft.store(false, Ordering::Relaxed);
        let bound = self.book.fail_open(error);
        drop(open);
        self.leave_outstanding();
        self.object.let_go();
        let mut doors = self.doors.lock();
        doors.owe(bound);
        // Whoever has the turn wakes everybody when it ends.
        let wakes = if doors.is_held() { Wakes::default() } else { doors.leave_broken() };
        drop(doors);
        wakes.wake();
        error.clone()
    }
}

impl Core {
    /// Before the object can be opened again: whoever does that waits for what is not safe yet.
    fn leave_outstanding(&self) {
        let left = self.book.left();
        if !left.is_empty() {
            let is_safe = |position| self.book.durability().is_confirmed(position);
            self.object.store().outstanding().put(self.object.address(), left, is_safe);
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.book.broken().is_none() {
            self.leave_outstanding();
        }
    }
}

/// What of a turn a piece of code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Outer,
    /// An event polled inside another one; the level to return to.
    Event(usize),
    /// A call inside an event.
    Call,
}

/// The turn, or a part of it. Dropped without an end, as by a panic, it breaks the object.
#[derive(Debug)]
#[must_use = "a turn that is dropped breaks the object"]
pub(super) struct Turn<'c> {
    core: &'c Core,
    part: Part,
    is_over: bool,
}

impl<'c> Turn<'c> {
    pub fn new(core: &'c Core, part: Part) -> Self {
        Self { core, part, is_over: false }
    }

    /// Seals the turn, if this is all of it, and gives it back. An error breaks the object. Gives
    /// what a gate covers that is taken as the turn ends, where it has logged anything.
    pub fn end(mut self) -> Result<Option<Cover>> {
        let is_outer = self.part == Part::Outer;
        let sealed = if is_outer { self.core.seal_or_break() } else { Ok(None) };
        self.is_over = true;
        self.leave();
        sealed.and_then(|cover| self.core.book.check().map(|()| cover))
    }

    /// The same for a call that is a turn by itself: it tells the error, and the object lives on,
    /// unless a gate has gone by that turn.
    pub fn end_call(mut self) -> Result<()> {
        let is_outer = self.part == Part::Outer;
        let sealed = if is_outer { self.core.seal_call() } else { Ok(None) };
        self.is_over = true;
        self.leave();
        sealed.map(drop)
    }

    fn leave(&self) {
        match self.part {
            Part::Outer => self.core.release(),
            Part::Event(level) => {
                let mut doors = self.core.doors.lock();
                doors.leave_inner(level);
                self.core.set_holder(&doors);
            }
            Part::Call => {}
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let what = "code panicked in a turn of the object; what it wrote in it is gone";
            self.core.break_with(&Error::new(ErrorKind::Broken, "object.panicked", what));
            self.leave();
        }
    }
}

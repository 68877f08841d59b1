//! What the code of an actor calls: one object, shared by everything that runs for it.
//!
//! Invariants:
//!   * A call inside a turn of this object on this thread joins that turn; elsewhere it is a turn
//!     of one operation.
//!   * A call that fails has changed nothing.
//!   * Reads outside a turn block for nobody, and show what is sealed.

use super::core::{Core, Part, Turn};
use super::durability::Durability;
use super::gate::{Gate, Gated};
use super::ledger::Cover;
use super::sections::{Kind, Section};
use super::turns::{Run, Turns};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Codec, ObjectId};
use crate::store::draft::Draft;
use crate::store::list::{Entries, ListOptions};
use crate::store::object::Object;
use crate::store::snapshot::Snapshot;
use crate::store::value::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

/// The bounds of a range of keys.
fn slices_of<'r, K: AsRef<[u8]> + 'r>(
    range: &'r impl RangeBounds<K>,
) -> (Bound<&'r [u8]>, Bound<&'r [u8]>) {
    (range.start_bound().map(AsRef::as_ref), range.end_bound().map(AsRef::as_ref))
}

/// How a storage behaves.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// When a commit counts as safe. The log of the store, if none is given.
    pub durability: Option<Arc<dyn Durability>>,
    /// How long a critical section may run before it breaks the object; 30 s by default.
    pub section_limit: Duration,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { durability: None, section_limit: Duration::from_secs(30) }
    }
}

/// The storage of one actor. Cloning is cheap; all clones are the same object.
///
/// Every write is part of a turn, and a turn is durable as a whole or not at all: what is written
/// in one poll of a future given to [`Storage::run`], or in one call of [`Storage::enter`]. A write
/// anywhere else is a turn of its own; it waits while another thread is inside a turn.
///
/// Writes are seen by later reads at once and are durable soon after. What must not be seen outside
/// before, goes through [`Storage::gate`] or [`Storage::gated`]. Dropping the last clone lets the
/// object go; what is sealed stays, and becomes durable all the same.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = dostore::store::Store::open(dir.path())?;
/// use dostore::actor::Storage;
/// use dostore::error::Result;
///
/// let storage = Storage::open(store.namespace("rooms")?.open_by_name("lobby")?);
/// let answer = storage.enter(|| -> Result<_> {
///     storage.put("topic", "rust")?;
///     storage.put("visitors", "1")?; // In the same commit.
///     Ok(storage.gated("done"))
/// })??;
/// assert_eq!(answer.wait()?, "done"); // Both are durable.
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// After [`Storage::abort`], a panic or a failed section, the object is broken: each call fails
/// with the kind `Broken`. So it is after a turn of [`Storage::run`] that could not be logged, and
/// after a commit that its durability gave up. A write outside a turn and [`Storage::transaction`]
/// return their error, and the object lives on, unless a gate was taken inside. A broken object can
/// be opened again; where the error's source is `Poisoned`, only after the store.
#[derive(Clone)]
pub struct Storage {
    core: Arc<Core>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Storage of {}", self.id())
    }
}

impl Storage {
    /// The storage of an open object.
    pub fn open(object: Object) -> Self {
        Self::with_options(object, StorageOptions::default())
    }

    /// The same with settings.
    pub fn with_options(object: Object, options: StorageOptions) -> Self {
        Self { core: Core::new(object, options) }
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.core.object.id()
    }

    /// The name that the object was opened by, if it was.
    pub fn name(&self) -> Option<&str> {
        self.core.object.name()
    }

    /// The name that is kept with the object, whoever opened it and how: none where no commit was
    /// ever made under a name, or the object was purged since. May read a block of a run.
    pub fn stored_name(&self) -> Result<Option<String>> {
        self.core.book.check()?;
        self.core.object.stored_name()
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Runs `read` on the open draft where this thread has one, else on the object.
    pub(super) fn read<R>(
        &self,
        draft: impl FnOnce(&Draft, &Object) -> Result<R>,
        object: impl FnOnce(&Object) -> Result<R>,
    ) -> Result<R> {
        let core = &*self.core;
        core.book.check()?;
        match core.with_draft(|open| draft(open, &core.object)) {
            Some(done) => done,
            None => object(&core.object),
        }
    }

    /// Runs `call` inside a turn: the open one, or one of its own.
    pub(super) fn in_turn<R>(&self, call: impl FnOnce(&Core) -> Result<R>) -> Result<R> {
        if self.core.is_inside() {
            return call(&self.core);
        }
        let turn = self.core.take_turn(false)?;
        let done = call(&self.core);
        let ended = turn.end_call();
        done.and_then(|value| ended.map(|()| value))
    }

    /// Changes the open turn, or makes a turn of its own.
    pub(super) fn change<R>(
        &self,
        is_confirmed: bool,
        change: impl FnOnce(&mut Draft, &Object) -> Result<R>,
    ) -> Result<R> {
        self.in_turn(|core| core.edit(is_confirmed, change))
    }

    /// The value of a key as the open turn sees it, else as it is sealed; none where it is not
    /// there.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        self.read(|draft, object| draft.get(object, key), |object| object.get(key))
    }

    /// Whether a key is there.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// The values of those of the keys that are there, in the order of the keys, all as of one
    /// moment. Outside a turn it waits while another thread is inside one.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<BTreeMap<Vec<u8>, Value>> {
        self.in_turn(|_| {
            let mut found = BTreeMap::new();
            for key in keys {
                if let Some(value) = self.get(key.as_ref())? {
                    found.insert(key.as_ref().to_vec(), value);
                }
            }
            Ok(found)
        })
    }

    /// Keys and values as of this call.
    pub fn list(&self, options: ListOptions) -> Result<Entries> {
        // Only one of the two takes it.
        let again = options.clone();
        self.read(|draft, object| draft.list(object, options), |object| object.list(again))
    }

    /// Keys and values in a range of keys, as of this call.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Entries> {
        let range = slices_of(&range);
        self.read(
            |draft, object| draft.range::<&[u8]>(object, &range),
            |object| object.range::<&[u8]>(range),
        )
    }

    /// Keys as of this call; their values come empty.
    pub fn keys(&self, options: ListOptions) -> Result<Entries> {
        self.list(options.keys_only())
    }

    /// How many keys a list would show. Looks at each.
    pub fn count(&self, options: ListOptions) -> Result<u64> {
        self.keys(options)?.try_fold(0, |count, entry| entry.map(|_| count + 1))
    }

    /// The object as it is sealed now, fixed. What it shows may not be durable yet: what follows
    /// from it goes through a gate that is taken later.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.core.book.check()?;
        self.core.object.snapshot_unconfirmed()
    }

    /// Sets a key. Beyond a limit of the store it fails with `limit.key`, `limit.value`,
    /// `limit.pair`, `limit.commit` or `limit.operations`, kind `Invalid`, and the open turn is as
    /// it was. From outside an open transaction it fails with `storage.transaction`, kind `Busy`.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(true, Codec::Raw, key.as_ref(), value.as_ref())
    }

    /// Sets a key and says how tools may read the value.
    pub fn put_as(
        &self,
        key: impl AsRef<[u8]>,
        codec: Codec,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.put_with(true, codec, key.as_ref(), value.as_ref())
    }

    /// Sets a key; gates do not wait for it, but fail if it does.
    pub fn put_unconfirmed(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(false, Codec::Raw, key.as_ref(), value.as_ref())
    }

    /// The same, saying how tools may read the value.
    pub fn put_as_unconfirmed(
        &self,
        key: impl AsRef<[u8]>,
        codec: Codec,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.put_with(false, codec, key.as_ref(), value.as_ref())
    }

    fn put_with(&self, is_confirmed: bool, codec: Codec, key: &[u8], value: &[u8]) -> Result<()> {
        self.change(is_confirmed, |draft, object| draft.put(object, key, codec, value))
    }

    /// Sets several keys, or none of them where one fails.
    pub fn put_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        self.put_many_with(true, entries)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn put_many_unconfirmed<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        self.put_many_with(false, entries)
    }

    fn put_many_with<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        is_confirmed: bool,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        // Before any lock is taken: iterator, keys and values are the caller's code.
        let owned: Vec<_> = entries.into_iter().collect();
        let slices = owned.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        let entries: Vec<(&[u8], &[u8])> = slices.collect();
        self.change(is_confirmed, |draft, object| {
            let mut entries = entries.into_iter();
            entries.try_for_each(|(key, value)| draft.put(object, key, Codec::Raw, value))
        })
    }

    /// Deletes a key. Says whether it was there; where it was not, nothing is written.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.delete_keys(true, &[key.as_ref()])? > 0)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn delete_unconfirmed(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.delete_keys(false, &[key.as_ref()])? > 0)
    }

    /// Deletes several keys. Says how many were there, each counted once.
    pub fn delete_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<usize> {
        self.delete_many_with(true, keys)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn delete_many_unconfirmed<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<usize> {
        self.delete_many_with(false, keys)
    }

    fn delete_many_with<K: AsRef<[u8]>>(
        &self,
        is_confirmed: bool,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<usize> {
        let owned: Vec<_> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = owned.iter().map(AsRef::as_ref).collect();
        self.delete_keys(is_confirmed, &keys)
    }

    fn delete_keys(&self, is_confirmed: bool, keys: &[&[u8]]) -> Result<usize> {
        self.change(is_confirmed, |draft, object| {
            let mut deleted = 0;
            for key in keys {
                if draft.get(object, key)?.is_some() {
                    draft.delete(object, key)?;
                    deleted += 1;
                }
            }
            Ok(deleted)
        })
    }

    /// Deletes every key in a range, without looking at them.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.delete_range_with(true, &range)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn delete_range_unconfirmed<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<()> {
        self.delete_range_with(false, &range)
    }

    fn delete_range_with<K: AsRef<[u8]>>(
        &self,
        is_confirmed: bool,
        range: &impl RangeBounds<K>,
    ) -> Result<()> {
        let range = slices_of(range);
        self.change(is_confirmed, |draft, object| draft.delete_range::<&[u8]>(object, &range))
    }

    /// Deletes everything in the object: keys, alarms, attachments and the user's version, at a
    /// cost that does not depend on how much there is. Gates wait for it always.
    pub fn delete_all(&self) -> Result<()> {
        self.change(true, Draft::delete_all)
    }

    /// Runs a future so that each of its polls is one turn: what it writes between two awaits that
    /// have to wait becomes durable together or not at all.
    ///
    /// It belongs to the critical section whose code calls this, if any, and is polled only while
    /// no other section runs. An error that the future returns undoes nothing. Dropping it keeps
    /// the turns that are sealed. The output is an error, of the kind `Broken`, where the object is
    /// broken; or `gate.deadlock` where it is polled inside a section that it has to wait for.
    ///
    /// Polled inside a turn of the same object, it joins that turn.
    pub fn run<F: Future>(&self, future: F) -> Run<F> {
        Run::new(&self.core, future)
    }

    /// Runs a callback as one turn, or as a part of the open one. Blocks while another thread is
    /// inside a turn; fails with `gate.closed`, kind `Busy`, while a critical section runs that
    /// this thread is not inside: only [`Storage::run`] waits for that.
    ///
    /// A panic breaks the object, and goes on.
    pub fn enter<R>(&self, callback: impl FnOnce() -> R) -> Result<R> {
        let turn = self.turn()?;
        let value = callback();
        turn.end()?;
        Ok(value)
    }

    /// The same, for who holds this storage meanwhile and wants to know what a gate covers that is
    /// taken as the last turn ends.
    pub(super) fn turns<F: Future>(&self, future: F) -> Turns<&Core, F> {
        Turns::new(&self.core, future)
    }

    /// The turn for a callback.
    fn turn(&self) -> Result<Turn<'_>> {
        if self.core.is_inside() {
            self.core.book.check()?;
            return Ok(Turn::new(&self.core, Part::Call));
        }
        self.core.take_turn(true)
    }

    /// Runs a closure whose writes are one commit of their own, or, where it fails, undone.
    ///
    /// What was written in the open turn before is sealed first. Inside another transaction it is
    /// a savepoint of that. The error is the closure's, or says why the commit could not be logged;
    /// either way the object lives on. Where it is of kind `Broken`, the object does not: an
    /// earlier commit failed meanwhile, and whether this one was logged, only reopening tells.
    /// Blocks and fails as [`Storage::enter`] does.
    pub fn transaction<R, E: From<Error>>(
        &self,
        closure: impl FnOnce(&Self) -> Result<R, E>,
    ) -> Result<R, E> {
        let turn = self.turn()?;
        let done = match self.core.begin_transaction() {
            Err(error) => Err(error.into()),
            Ok(number) => match closure(self) {
                Ok(value) => self.core.commit_transaction(number).map(|()| value).map_err(E::from),
                Err(error) => {
                    self.core.roll_back_transaction(number);
                    Err(error)
                }
            },
        };
        let ended = turn.end();
        let value = done?;
        ended?;
        Ok(value)
    }

    /// The same over several polls: a critical section whose writes are one commit of their own.
    ///
    /// While it runs no other event of the object is polled, and only code inside it may write;
    /// reads elsewhere do not see its writes. An error of the future, or dropping it, undoes them,
    /// and the object lives on. A panic, or running beyond the limit, breaks the object.
    pub fn transaction_async<R, E, F, B>(
        &self,
        begin: B,
    ) -> impl Future<Output = Result<R, E>> + use<R, E, F, B>
    where
        B: FnOnce(Self) -> F,
        E: From<Error>,
        F: Future<Output = Result<R, E>>,
    {
        let storage = self.clone();
        Section::new(&self.core, Kind::Transaction, move || begin(storage))
    }

    /// Runs a future during which no other event of the object is polled: what is begun inside it
    /// is, and what else comes in waits for its end, in order.
    ///
    /// Several of them run one after another. Where it fails, panics, runs for longer than the
    /// limit, or is dropped before its end, the object is broken for everybody; what it wrote
    /// before that stays, but for the open turn of a panic.
    pub fn block_concurrency_while<R, E, F, B>(
        &self,
        begin: B,
    ) -> impl Future<Output = Result<R, E>> + use<R, E, F, B>
    where
        B: FnOnce() -> F,
        E: From<Error>,
        F: Future<Output = Result<R, E>>,
    {
        Section::new(&self.core, Kind::Plain, begin)
    }

    /// Drops the open turn and breaks the object: each later call fails with `object.aborted`.
    /// What is sealed stays, and the gates that cover no more than that.
    pub fn abort(&self, reason: &str) {
        let what = format!("the object was aborted: {reason}");
        self.core.break_with(&Error::new(ErrorKind::Broken, "object.aborted", what));
    }

    /// Lets the object go, so that it can be opened again even while clones of this are held:
    /// their calls fail with `object.closed`. An open turn is dropped; what is sealed stays.
    pub fn close(&self) {
        let what = "the storage of the object was closed; open the object again";
        self.core.break_with(&Error::new(ErrorKind::Broken, "object.closed", what));
    }

    /// Why the object is broken, if it is.
    pub fn broken(&self) -> Option<Error> {
        self.core.book.notice();
        self.core.book.broken().cloned()
    }

    /// Whether nothing more can be done with the object: it is known to be broken, without a look
    /// at what is on its way, or was deleted or restored from outside.
    pub(super) fn is_over(&self) -> bool {
        self.core.book.broken().is_some() || self.core.object.is_fenced()
    }

    /// Looks at what a turn will need, so that the processor has it near; what it says means
    /// nothing.
    pub(super) fn touch(&self) -> usize {
        self.core.touch()
    }

    /// A gate for what leaves the object now: it opens when every confirmed turn that was sealed
    /// before is safe. Taken inside a turn that has written, it waits for that turn too.
    pub fn gate(&self) -> Gate {
        self.gate_of(self.cover())
    }

    /// What a gate that is taken now waits for.
    pub(super) fn cover(&self) -> Cover {
        self.core.cover(false)
    }

    pub(super) fn gate_of(&self, cover: Cover) -> Gate {
        Gate::new(&self.core.book, cover)
    }

    /// What says when turns are safe.
    pub(super) fn durability(&self) -> &dyn Durability {
        self.core.book.durability()
    }

    /// A value that comes out when a gate that is taken now opens.
    pub fn gated<T>(&self, value: T) -> Gated<T> {
        Gated::new(self.gate(), value)
    }

    /// A gate for everything that is sealed, however the object has ended.
    pub(super) fn sealed(&self) -> Gate {
        Gate::new(&self.core.book, self.core.book.cover_sealed())
    }

    /// A gate for everything that was written before, confirmed or not.
    pub fn sync(&self) -> Gate {
        Gate::new(&self.core.book, self.core.cover(true))
    }
}

//! A host from its settings to its end.
//!
//! Invariants:
//!   * Two tasks keep the house: one hands out the store's alarms, and is their only consumer; the
//!     other sends idle objects away.
//!   * From the moment of closing on nothing is taken; what was taken is handled, made durable and
//!     answered before the close is done. So is what was sealed by objects that have left, or have
//!     broken, before.
//!   * Objects name the shared part of the host, and the shared part names none of them.

use super::alarms::{Delivery, Permits};
use super::class::{Class, Roster, Start};
use super::pool::{Pool, Spawner};
use super::{Actor, Context};
use crate::actor::durability::{Durability, Local};
use crate::actor::gate::Gate;
use crate::actor::storage::StorageOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::store::blocking::block_on;
use crate::store::namespace::Namespace;
use crate::wakes::Wakes;
use parking_lot::Mutex;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{self, Poll, Waker};
use std::time::Duration;

/// Sweeps while an object may be idle: it leaves at most this part later than it could.
const SWEEPS: u32 = 4;
/// The least time between two sweeps.
const SWEEP_EVERY_MIN: Duration = Duration::from_millis(1);
/// How long the alarms rest when the store could not read them.
const ALARMS_RETRY: Duration = Duration::from_secs(1);
/// Damaged objects in a row after which they rest as well: it may be the index that is damaged.
const DAMAGED_MAX: u32 = 64;

/// What every class of a host shares.
pub(super) struct Shared {
    pub store: Store,
    pub spawner: Box<dyn Spawner>,
    pub settings: Settings,
    /// What the storage of each object goes by.
    pub durability: Arc<dyn Durability>,
    /// Counts sweeps: the host's coarse clock, read once for each message.
    tick: AtomicU64,
    is_closing: AtomicBool,
    life: Mutex<Life>,
}

/// What a host was told.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub mailbox: usize,
    pub beside: usize,
    pub idle_after: Duration,
    pub alarms: usize,
    pub storage: StorageOptions,
}

/// Who is still there.
#[derive(Default)]
struct Life {
    tasks: usize,
    closers: Vec<Waker>,
    /// By [`Keeper`].
    keepers: [Option<Waker>; 2],
    /// Of objects that left, or broke, with turns sealed that are not safe yet.
    unsafe_yet: Vec<Gate>,
}

impl Shared {
    pub fn check_open(&self) -> Result<()> {
        if self.is_closing() {
            return Err(Error::new(ErrorKind::Broken, "host.closed", "the host is closed"));
        }
        Ok(())
    }

    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Has the close wait for what an object has left behind.
    pub fn wait_for(&self, sealed: Gate) {
        let is_open = |gate: &Gate| gate.state().is_none();
        if !is_open(&sealed) {
            return;
        }
        // Gates are asked under no lock.
        let mut all = std::mem::take(&mut self.life.lock().unsafe_yet);
        all.retain(is_open);
        all.push(sealed);
        self.life.lock().unsafe_yet.append(&mut all);
    }

    pub fn tick(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Waits for a future of a keeper; none when the host closes first.
    async fn while_open<F: Future>(&self, keeper: Keeper, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| {
            let waker = context.waker().clone();
            let before = self.life.lock().keepers[keeper as usize].replace(waker);
            drop(before);
            // Looked at after the waker is in its place: a close after this wakes it.
            if self.is_closing() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        })
        .await
    }
}

/// The tasks that keep the house.
#[derive(Clone, Copy)]
enum Keeper {
    Alarms,
    Sweeps,
}

/// Counts a task of the host for as long as it lives.
pub(super) struct Living(Arc<Shared>);

impl Living {
    pub fn new(shared: &Arc<Shared>) -> Self {
        shared.life.lock().tasks += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let mut life = self.0.life.lock();
        life.tasks -= 1;
        let closers = if life.tasks == 0 { std::mem::take(&mut life.closers) } else { Vec::new() };
        drop(life);
        Wakes::from(closers).wake();
    }
}

/// A class as the keeper sees it.
pub(super) trait Registered: Send + Sync {
    fn namespace(&self) -> &Namespace;
    fn deliver(self: Arc<Self>, delivery: Box<Delivery>);
    /// Sends away whoever has had nothing to do from `tick` on.
    fn sweep(&self, tick: u64);
    /// Sends everyone away who has nothing to do.
    fn send_away(&self);
}

/// What the host and its keeper share, and objects do not.
struct House {
    shared: Arc<Shared>,
    classes: Mutex<Vec<Arc<dyn Registered>>>,
    permits: Arc<Permits>,
}

impl House {
    /// Gives an alarm to the class that it is for. One of a namespace that no class of this host
    /// has goes back to the store, which keeps all of them to itself until there is a class.
    fn deliver(&self, delivery: Box<Delivery>) {
        let class = {
            let classes = self.classes.lock();
            let is_it = |class: &&Arc<dyn Registered>| {
                class.namespace().name() == delivery.namespace.name()
            };
            let found = classes.iter().find(is_it).cloned();
            if found.is_none() {
                // Under the lock, so that a class that comes now comes after.
                self.shared.store.scheduler().refuse(delivery.namespace.number());
            }
            found
        };
        match class {
            Some(class) => class.deliver(delivery),
            None => drop(delivery),
        }
    }

    fn classes(&self) -> Vec<Arc<dyn Registered>> {
        self.classes.lock().clone()
    }

    fn sweep(&self) {
        let tick = self.shared.tick.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(since) = tick.checked_sub(u64::from(SWEEPS)) {
            self.classes().iter().for_each(|class| class.sweep(since));
        }
    }

    fn begin_close(&self) {
        if self.shared.is_closing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared.store.scheduler().give_back();
        let keepers = std::mem::take(&mut self.shared.life.lock().keepers);
        keepers.into_iter().flatten().collect::<Wakes>().wake();
        self.classes().iter().for_each(|class| class.send_away());
    }
}

/// Waits by the store's timer; for ever where that cannot run, for want of a thread.
async fn pause(store: &Store, time: Duration) {
    let timer = store.timer();
    let until = timer.now() + time;
    let mut entry = None;
    poll_fn(|context| {
        if timer.now() >= until {
            return Poll::Ready(());
        }
        entry = timer.wake_at(until, context.waker()).ok();
        Poll::Pending
    })
    .await;
    drop(entry);
}

/// Hands out the store's alarms until the host closes.
async fn deliver_alarms(house: Arc<House>, living: Living) {
    let consumer = Consumer(house.shared.store.clone());
    let alarms = house.shared.store.alarms();
    let engine = house.shared.store.engine();
    let mut damaged = 0;
    loop {
        let permit = house.permits.take();
        let Some(permit) = house.shared.while_open(Keeper::Alarms, permit).await else { break };
        match house.shared.while_open(Keeper::Alarms, alarms.next()).await {
            Some(Ok(fired)) => {
                damaged = 0;
                match Delivery::new(fired, permit) {
                    Ok(delivery) => house.deliver(Box::new(delivery)),
                    Err(error) => engine.note_failure(&error),
                }
            }
            // A damaged object keeps no other from its alarms, and comes back in a minute.
            Some(Err(error)) if error.kind() == ErrorKind::Corrupt && damaged < DAMAGED_MAX => {
                damaged += 1;
                engine.note_failure(&error);
            }
            // A store that is closed or poisoned has no alarms; all else may pass, or concerns one
            // object.
            Some(Err(error)) if !is_over(&error) => {
                damaged = 0;
                engine.note_failure(&error);
                let pause = pause(&house.shared.store, ALARMS_RETRY);
                if house.shared.while_open(Keeper::Alarms, pause).await.is_none() {
                    break;
                }
            }
            Some(Err(_)) | None => break,
        }
    }
    drop(consumer);
    drop(living);
}

/// The store's alarms are in the hands of this host. After that, also those are to be had for
/// which it had no class.
struct Consumer(Store);

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.scheduler().accept(self.0.engine(), None);
    }
}

fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Broken | ErrorKind::Poisoned)
}

/// Sends idle objects away until the host closes.
async fn sweep(house: Arc<House>, living: Living) {
    let every = (house.shared.settings.idle_after / SWEEPS).max(SWEEP_EVERY_MIN);
    loop {
        let pause = pause(&house.shared.store, every);
        if house.shared.while_open(Keeper::Sweeps, pause).await.is_none() {
            break;
        }
        house.sweep();
    }
    drop(living);
}

/// Settings of a host, finished by [`HostBuilder::start`].
#[must_use = "a host does nothing before it is started"]
pub struct HostBuilder {
    store: Store,
    settings: Settings,
    spawner: Option<Box<dyn Spawner>>,
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "HostBuilder({:?})", self.settings)
    }
}

impl HostBuilder {
    /// Messages that a mailbox takes; 1,024 by default, at least 1. Those sent beyond wait with
    /// their senders.
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.settings.mailbox = messages.max(1);
        self
    }

    /// Events that an object runs beside its messages at once ([`super::Event::Beside`]); 1,024 by
    /// default, at least 1. While so many run, no message of it is begun.
    pub fn beside(mut self, events: usize) -> Self {
        self.settings.beside = events.max(1);
        self
    }

    /// How long an object without anything to do stays in memory; 10 seconds by default, and up to
    /// a quarter longer. Less than four milliseconds counts as four.
    pub fn idle_after(mut self, time: Duration) -> Self {
        self.settings.idle_after = time;
        self
    }

    /// Alarms that are with objects at once; 256 by default, at least 1. One counts from the moment
    /// when its object is told until it was handled, also while the object is busy with a message:
    /// as many handlers that never end hold up the alarms of all.
    pub fn alarms(mut self, alarms: usize) -> Self {
        self.settings.alarms = alarms.max(1);
        self
    }

    /// How the storage of each object is opened.
    pub fn storage(mut self, options: StorageOptions) -> Self {
        self.settings.storage = options;
        self
    }

    /// Where the host's tasks run; by default a [`Pool`] of its own.
    pub fn spawner(mut self, spawner: impl Spawner) -> Self {
        self.spawner = Some(Box::new(spawner));
        self
    }

    /// Starts the host. Fails with `host.second`, kind `Busy`, where the store has one that was not
    /// closed; with `Io` where the system refuses a thread.
    pub fn start(mut self) -> Result<Host> {
        // One for all objects: a reply that looks whether it may show finds it in the cache.
        let local = || Arc::new(Local::new(&self.store)) as Arc<dyn Durability>;
        let durability = Arc::clone(self.settings.storage.durability.get_or_insert_with(local));
        let spawner = match self.spawner {
            Some(spawner) => spawner,
            None => Box::new(Pool::start_default()?),
        };
        if !self.store.scheduler().take() {
            let what = "the store has a host already, which takes the alarms of all its objects";
            return Err(Error::new(ErrorKind::Busy, "host.second", what));
        }
        let permits = Permits::new(self.settings.alarms);
        let shared = Arc::new(Shared {
            store: self.store,
            spawner,
            settings: self.settings,
            durability,
            tick: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            life: Mutex::default(),
        });
        let house = Arc::new(House { shared, classes: Mutex::default(), permits });
        let sweeping = sweep(Arc::clone(&house), Living::new(&house.shared));
        house.shared.spawner.spawn(Box::pin(sweeping));
        Ok(Host { house })
    }
}

/// The objects of a store that are active, and what keeps them so.
///
/// One host for a store, for it is the consumer of the store's alarms; the next may start once this
/// one begins to close. Dropping it closes it without
/// waiting: nothing is taken any more, and what was taken is handled in the background.
pub struct Host {
    house: Arc<House>,
}

impl fmt::Debug for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Host({:?})", self.house.shared.settings)
    }
}

impl Host {
    /// A host with the default settings, on threads of its own.
    pub fn start(store: &Store) -> Result<Self> {
        Self::builder(store).start()
    }

    /// Settings of a host, to be finished by [`HostBuilder::start`].
    pub fn builder(store: &Store) -> HostBuilder {
        let settings = Settings {
            mailbox: 1024,
            beside: 1024,
            idle_after: Duration::from_secs(10),
            alarms: 256,
            storage: StorageOptions::default(),
        };
        HostBuilder { store: store.clone(), settings, spawner: None }
    }

    /// Runs the objects of a namespace, made if it is not there, by one kind of actor. From here on
    /// their alarms are delivered; those of namespaces without a class stay in the store.
    ///
    /// `start` makes an instance from what its storage holds, and may write. It runs as the first
    /// event of each activation; whatever the objects of the class share, it captures. Fails with
    /// `host.class` where the host has a class for the namespace already.
    pub fn class<A, S, F>(&self, namespace: &str, start: S) -> Result<Class<A>>
    where
        A: Actor,
        S: Fn(Context<A>) -> F + Send + Sync + 'static,
        F: Future<Output = std::result::Result<A, A::Error>> + Send + 'static,
    {
        let shared = &self.house.shared;
        shared.check_open()?;
        let namespace = shared.store.namespace(namespace)?;
        let start: Start<A> = Box::new(move |context| Box::pin(start(context)));
        let mut classes = self.house.classes.lock();
        if classes.iter().any(|class| class.namespace().name() == namespace.name()) {
            let what = format!("the host has a class for namespace {:?} already", namespace.name());
            return Err(Error::invalid("host.class", what));
        }
        let number = namespace.number();
        let roster = Roster::new(Arc::clone(shared), namespace, start);
        let is_first = classes.is_empty();
        classes.push(Arc::clone(&roster) as _);
        drop(classes);
        shared.store.scheduler().accept(shared.store.engine(), Some(number));
        if is_first {
            let living = Living::new(shared);
            shared.spawner.spawn(Box::pin(deliver_alarms(Arc::clone(&self.house), living)));
        }
        Ok(Class(roster))
    }

    /// One tick of the clock by which the host tells who is idle: whoever has had nothing to do for
    /// the last four ticks is sent away. The host ticks by itself, a quarter of
    /// [`HostBuilder::idle_after`] apart; this is for stores without threads, and for tests.
    pub fn sweep(&self) {
        self.house.sweep();
    }

    /// Takes nothing more, has everything handled that was taken, and resolves when all of it is
    /// durable and no object is active. Begins at once; dropping the future does not stop it. A
    /// handler that never ends keeps it from resolving.
    pub fn close(self) -> Closing {
        self.house.begin_close();
        Closing { shared: Arc::clone(&self.house.shared), unsafe_yet: Vec::new() }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.house.begin_close();
        self.house.classes.lock().clear();
    }
}

/// The future of a host that closes. See [`Host::close`].
#[must_use = "a host is not closed before this resolves"]
pub struct Closing {
    shared: Arc<Shared>,
    /// What is left to wait for once no task is.
    unsafe_yet: Vec<Gate>,
}

impl fmt::Debug for Closing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Closing")
    }
}

impl Closing {
    /// Blocks until the host is closed. Not to be called on one of the host's own threads.
    pub fn wait(mut self) {
        block_on(|context| Pin::new(&mut self).poll(context));
    }
}

impl Future for Closing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let Self { shared, unsafe_yet } = &mut *self;
        let mut life = shared.life.lock();
        if life.tasks == 0 {
            unsafe_yet.append(&mut life.unsafe_yet);
            drop(life);
            // What failed is over too.
            unsafe_yet.retain_mut(|gate| Pin::new(gate).poll(context).is_pending());
            return if unsafe_yet.is_empty() { Poll::Ready(()) } else { Poll::Pending };
        }
        if !life.closers.iter().any(|known| known.will_wake(&waker)) {
            life.closers.push(waker);
        }
        Poll::Pending
    }
}

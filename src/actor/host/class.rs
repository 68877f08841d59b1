//! A class of objects: who is there, and how one sends to them.
//!
//! Invariants:
//!   * A seat stays for as long as somebody sends to it or its resident is there, and is forgotten
//!     with the last of them: an idle object that nobody points at takes no memory.
//!   * A shard's lock is held for a look-up only; no seat is dropped under it.

use super::alarms::Delivery;
use super::lifecycle::{Registered, Shared};
use super::pool::Task;
use super::reply::Reply;
use super::seat::Seat;
use super::{Actor, Context};
use crate::actor::core::thread_share;
use crate::actor::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::ObjectId;
use crate::limits::check_name;
use crate::store::namespace::Namespace;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

const SHARDS: usize = 32;
/// More than threads that send at once, as a rule.
const POSTS: usize = 16;

/// The future of an instance.
type Starting<A> =
    Pin<Box<dyn Future<Output = std::result::Result<A, <A as Actor>::Error>> + Send>>;
/// What makes an instance from durable state.
pub(super) type Start<A> = Box<dyn Fn(Context<A>) -> Starting<A> + Send + Sync>;

/// All that a class's objects share.
pub(super) struct Roster<A: Actor> {
    pub shared: Arc<Shared>,
    pub namespace: Namespace,
    pub start: Start<A>,
    seats: Vec<Mutex<HashMap<ObjectId, Weak<Seat<A>>>>>,
    posts: Vec<Arc<Post<A>>>,
    /// Who may have fallen idle, by the tick of the last work known.
    stays: Mutex<BTreeMap<u64, Vec<Weak<Seat<A>>>>>,
}

impl<A: Actor> Roster<A> {
    pub fn new(shared: Arc<Shared>, namespace: Namespace, start: Start<A>) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            let seats = (0..SHARDS).map(|_| Mutex::default()).collect();
            let post = || Post { shared: Arc::clone(&shared), roster: Weak::clone(own) };
            let posts = (0..POSTS).map(|_| Arc::new(post())).collect();
            Self { shared, namespace, start, seats, posts, stays: Mutex::default() }
        })
    }

    pub fn check_open(&self) -> Result<()> {
        self.shared.check_open()
    }

    pub fn is_closing(&self) -> bool {
        self.shared.is_closing()
    }

    pub fn mailbox_limit(&self) -> usize {
        self.shared.settings.mailbox
    }

    pub fn beside_limit(&self) -> usize {
        self.shared.settings.beside
    }

    /// What the replies hold of the class that are to be made on this thread.
    pub fn post(&self) -> &Arc<Post<A>> {
        &self.posts[thread_share(POSTS)]
    }

    pub fn tick(&self) -> u64 {
        self.shared.tick()
    }

    pub fn spawn(&self, task: Task) {
        self.shared.spawner.spawn(task);
    }

    fn shard(&self, id: ObjectId) -> &Mutex<HashMap<ObjectId, Weak<Seat<A>>>> {
        &self.seats[usize::from(id.0[0]) % SHARDS]
    }

    fn seat(self: &Arc<Self>, id: ObjectId) -> Arc<Seat<A>> {
        let mut shard = self.shard(id).lock();
        if let Some(seat) = shard.get(&id).and_then(Weak::upgrade) {
            return seat;
        }
        let seat = Arc::new(Seat::new(Arc::clone(self), id));
        shard.insert(id, Arc::downgrade(&seat));
        seat
    }

    /// A seat is gone, unless another for the same object took its place already.
    pub fn forget(&self, id: ObjectId) {
        let mut shard = self.shard(id).lock();
        if shard.get(&id).is_some_and(|seat| seat.strong_count() == 0) {
            shard.remove(&id);
        }
    }

    /// An object became active.
    pub fn note_stay(&self, seat: &Arc<Seat<A>>) {
        if seat.begin_stay() {
            let mut stays = self.stays.lock();
            stays.entry(self.tick()).or_default().push(Arc::downgrade(seat));
        }
    }

    fn active(&self) -> usize {
        let seats = self
            .seats
            .iter()
            .flat_map(|shard| shard.lock().values().filter_map(Weak::upgrade).collect::<Vec<_>>());
        seats.filter(|seat| seat.is_active()).count()
    }
}

/// What replies hold of their class. There are several, and a thread keeps to one of them: whoever
/// makes replies and lets go of them counts where no other thread does.
#[repr(align(128))]
pub(super) struct Post<A: Actor> {
    shared: Arc<Shared>,
    roster: Weak<Roster<A>>,
}

impl<A: Actor> Post<A> {
    /// What says when commits of the objects are safe.
    pub fn durability(&self) -> &dyn Durability {
        &*self.shared.durability
    }

    /// A commit of this object that a reply stood on will never be safe.
    pub fn tell_failed(&self, id: ObjectId) {
        let Some(roster) = self.roster.upgrade() else { return };
        // Bound to a name, so that it is not dropped under the lock.
        let seat = roster.shard(id).lock().get(&id).and_then(Weak::upgrade);
        if let Some(seat) = seat {
            seat.tell_failed();
        }
    }
}

impl<A: Actor> Registered for Roster<A> {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn deliver(self: Arc<Self>, delivery: Box<Delivery>) {
        self.seat(delivery.id).deliver(delivery);
    }

    fn sweep(&self, tick: u64) {
        let due: Vec<_> = {
            let mut stays = self.stays.lock();
            let later = stays.split_off(&tick);
            std::mem::replace(&mut *stays, later).into_values().flatten().collect()
        };
        for weak in due {
            let Some(seat) = weak.upgrade() else { continue };
            if let Some(used) = seat.ask_to_leave(tick) {
                self.stays.lock().entry(used).or_default().push(weak);
            }
        }
    }

    fn send_away(&self) {
        for shard in &self.seats {
            let seats: Vec<_> = shard.lock().values().filter_map(Weak::upgrade).collect();
            for seat in seats {
                seat.send_away();
            }
        }
    }
}

/// A class of a host: the objects of one namespace, run by one kind of actor. Cloning is cheap.
pub struct Class<A: Actor>(pub(super) Arc<Roster<A>>);

impl<A: Actor> Clone for Class<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> fmt::Debug for Class<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Class({})", self.0.namespace.name())
    }
}

impl<A: Actor> Class<A> {
    /// The objects' namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// Sends to the object of this name. Short for [`Class::recipient`] and [`Recipient::send`];
    /// whoever sends to the same object again keeps the recipient and saves two hashes.
    pub fn send(&self, name: &str, message: A::Message) -> Reply<A> {
        match self.recipient(name) {
            Ok(recipient) => recipient.send(message),
            Err(error) => Reply::failed(error),
        }
    }

    /// The object of this name, active or not. Fails with `Invalid` where it is too long for one.
    pub fn recipient(&self, name: &str) -> Result<Recipient<A>> {
        check_name(name)?;
        let seat = self.0.seat(self.0.namespace.id_from_name(name));
        let _ = seat.name.set(name.into());
        Ok(Recipient(seat))
    }

    /// The object of this id, active or not. Fails with `id.foreign` for one of another namespace.
    pub fn recipient_by_id(&self, id: ObjectId) -> Result<Recipient<A>> {
        self.0.namespace.address(id)?;
        Ok(Recipient(self.0.seat(id)))
    }

    /// Objects of the class that are active now. Looks at each that somebody points at.
    pub fn active(&self) -> usize {
        self.0.active()
    }
}

/// One object to send to. Cloning is cheap; holding it keeps the object's mailbox in memory, about
/// 200 bytes and room for a message, and neither activates the object nor keeps it active.
pub struct Recipient<A: Actor>(pub(super) Arc<Seat<A>>);

impl<A: Actor> Clone for Recipient<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> fmt::Debug for Recipient<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Recipient({})", self.0.id)
    }
}

impl<A: Actor> Recipient<A> {
    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.0.id
    }

    /// The object's name, where it is known.
    pub fn name(&self) -> Option<&str> {
        self.0.name.get().map(|name| &**name)
    }

    /// Sends a message: it is in the mailbox when this returns, unless that was full. Messages are
    /// handled in the order of the calls.
    ///
    /// A message that finds the mailbox full waits behind it for as long as its reply lives
    /// ([`Reply::accepted`]). Never blocks; costs one allocation and no system call while the
    /// host is busy. Once the host closes nothing is taken, and the reply fails with `host.closed`.
    pub fn send(&self, message: A::Message) -> Reply<A> {
        self.0.send(message, true).expect("it may wait outside the mailbox")
    }

    /// Sends a message unless the mailbox is full. Fails with `mailbox.full`, kind `Busy`; the
    /// message is gone then.
    pub fn try_send(&self, message: A::Message) -> Result<Reply<A>> {
        self.0.send(message, false).ok_or_else(|| {
            let what = "the object's mailbox is full";
            Error::new(ErrorKind::Busy, "mailbox.full", what)
        })
    }

    /// Whether the object is in memory now.
    pub fn is_active(&self) -> bool {
        self.0.is_active()
    }
}

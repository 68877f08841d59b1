//! Alarms that are due, delivered at least once.
//!
//! An alarm stands in its object and is set, moved and cleared by the turns of the object. When it
//! is due, [`Alarms::next`] hands out a [`Fired`]. Whoever handles it says so in the last turn of
//! the handling, by [`Turn::complete_alarm`](super::turn::Turn::complete_alarm) or
//! [`Turn::fail_alarm`](super::turn::Turn::fail_alarm): so that the alarm is gone exactly when what
//! it did is durable. One that was not reported fires again.
//!
//! How often a failed attempt is tried again: [`RetryPolicy`](crate::alarm::RetryPolicy). An
//! [actor host](crate::actor::host) does all of this for its objects.
//!
//! Invariants:
//!   * An alarm whose setting is durable fires until a commit clears or moves it, also over a
//!     crash, and never before it is due by the machine's clock.
//!   * Dropping a future or a [`Fired`] loses nothing.
//!
//! # Examples
//!
//! ```
//! # fn main() -> dostore::error::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = dostore::store::Store::open(dir.path())?;
//! use std::time::SystemTime;
//!
//! let mut lobby = store.namespace("rooms")?.open_by_name("lobby")?;
//! let mut turn = lobby.turn();
//! turn.set_alarm(SystemTime::now())?;
//! turn.commit()?.wait()?;
//!
//! let fired = store.alarms().next().wait()?; // Or `.await`, on any runtime.
//! assert_eq!(fired.object_id()?, lobby.id());
//! let mut turn = lobby.turn();
//! turn.put("closed", "yes")?.complete_alarm(&fired)?;
//! turn.commit()?.wait()?;
//! assert_eq!(lobby.alarm()?, None);
//! # Ok(())
//! # }
//! ```

pub(crate) mod calls;
pub(crate) mod scheduler;

pub use crate::alarm::Failure;
pub use crate::format::alarm::LastFailure;
pub use calls::Outcome;

use super::Store;
use super::blocking::block_on;
use super::namespace::Namespace;
use super::objects::name_of;
use super::timer;
use crate::alarm::Alarm;
use crate::error::{Error, Result};
use crate::format::alarm::Hint;
use crate::ids::{Address, ObjectId, Timestamp};
use scheduler::{Firing, now};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often the clock is looked at, so that a jump of it is seen.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// The alarms of a store that are due. Cloning is cheap; each alarm fires at one of the clones.
#[derive(Clone, Debug)]
pub struct Alarms {
    store: Store,
}

impl Alarms {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The future of the next alarm, of any object of any namespace. Works in any runtime.
    /// Dropping it loses no alarm.
    ///
    /// Fails with `Corrupt` where an object that may have an alarm is damaged; that object is
    /// tried again in a minute, and the next call goes on with others.
    pub fn next(&self) -> Next {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Next { alarms: self.clone(), number, timer: None }
    }

    /// An alarm that is due now, if there is one. Does not block for time to pass, nor for a commit
    /// that set one to become durable. Fails as [`Alarms::next`] does.
    pub fn try_next(&self) -> Result<Option<Fired>> {
        let firing = self.store.scheduler().try_next(self.store.engine())?;
        Ok(firing.map(|firing| Fired::new(self.store.clone(), firing)))
    }

    /// When an alarm may be due next, by the clock; none while no alarm is set. An earlier one may
    /// be set at any time, and what stands here may have been cleared.
    pub fn next_due(&self) -> Result<Option<Timestamp>> {
        self.store.scheduler().next_due(self.store.engine())
    }
}

/// The future of an alarm that is due.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Next {
    alarms: Alarms,
    number: u64,
    timer: Option<timer::Entry>,
}

impl Next {
    /// Blocks until an alarm is due. Fails with `alarm.wait` in a store without threads, where
    /// nobody would see the time pass.
    pub fn wait(self) -> Result<Fired> {
        if !self.alarms.store.timer().is_threaded() {
            let what = "a store without threads cannot wait for an alarm; ask try_next";
            return Err(Error::invalid("alarm.wait", what));
        }
        let mut next = pin!(self);
        block_on(|context| next.as_mut().poll(context))
    }

    fn disarm(&mut self) {
        self.timer = None;
        self.alarms.store.engine().alarms.forget(self.number);
    }

    /// Sees to it that `waker` is woken when there may be something to do; false when there is
    /// already.
    fn arm(&mut self, waker: &Waker) -> Result<bool> {
        let store = &self.alarms.store;
        let (engine, scheduler) = (store.engine(), store.scheduler());
        if let Some(lsn) = scheduler.awaited()
            && let Some(done) = engine.wal.poll(lsn, waker)
        {
            return done.map(|()| false);
        }
        let until = engine.next_due()?.unwrap_or(Timestamp(u64::MAX));
        if !engine.alarms.wait(until, self.number, waker) {
            return Ok(false);
        }
        // What is given back from here on finds the waker.
        let uptime = store.timer().now();
        let left = Duration::from_micros(until.0.saturating_sub(now(engine).0));
        let at = uptime + left.min(CLOCK_EVERY);
        let at = scheduler.next_back().map_or(at, |back| back.min(at));
        self.timer = Some(store.timer().wake_at(at, waker)?);
        Ok(true)
    }
}

impl Future for Next {
    type Output = Result<Fired>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.alarms.try_next() {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Some(fired)) => {
                    self.disarm();
                    return Poll::Ready(Ok(fired));
                }
                Ok(None) => {}
            }
            match self.arm(context.waker()) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(true) => return Poll::Pending,
                Ok(false) => {}
            }
        }
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// An alarm that is due and in the hands of whoever holds this.
///
/// While it is held, this alarm of this object does not fire again. Dropping it ends that: if no
/// commit has completed, failed, moved or cleared the alarm by then, it fires again after two
/// seconds, and no attempt is counted.
#[derive(Debug)]
#[must_use = "an alarm that is not reported fires again"]
pub struct Fired {
    store: Store,
    firing: Firing,
}

impl Fired {
    fn new(store: Store, firing: Firing) -> Self {
        Self { store, firing }
    }

    fn hint(&self) -> &Hint {
        &self.firing.hint
    }

    pub(crate) fn address(&self) -> Address {
        self.hint().address
    }

    /// The state in which the alarm fired.
    pub(crate) fn state(&self) -> &Alarm {
        &self.firing.alarm
    }

    /// The namespace of the object. Fails with `Corrupt` if the store does not have it.
    pub fn namespace(&self) -> Result<Namespace> {
        let number = self.address().namespace;
        let found = self.store.scheduler().namespace(self.store.engine(), number);
        let (name, entry) = found.ok_or_else(|| {
            let what = format!("the store has no namespace of number {number}");
            Error::new(crate::error::ErrorKind::Corrupt, "alarm.namespace", what)
        })?;
        Ok(Namespace::new(self.store.clone(), &name, entry))
    }

    /// The object's id.
    pub fn object_id(&self) -> Result<ObjectId> {
        Ok(self.namespace()?.id_of(self.address().id))
    }

    /// The object's name, if it was ever opened by name.
    pub fn object_name(&self) -> Result<Option<String>> {
        name_of(&self.store.engine().view(self.address())?)
    }

    /// The alarm's name; none for the plain one.
    pub fn alarm_name(&self) -> Option<&str> {
        self.hint().name.as_deref()
    }

    /// When it was set for.
    pub fn scheduled(&self) -> Timestamp {
        self.state().time
    }

    /// Attempts that failed before this one.
    pub fn attempt(&self) -> u32 {
        self.state().attempt()
    }

    /// Whether an attempt failed before this one.
    pub fn is_retry(&self) -> bool {
        self.attempt() > 0
    }

    /// Whether it came due before the store was opened.
    pub fn missed(&self) -> bool {
        self.state().due < self.store.scheduler().opened_at
    }

    /// How long it had been due when it fired.
    pub fn late(&self) -> Duration {
        Duration::from_micros(self.firing.at.0.saturating_sub(self.state().due.0))
    }
}

impl Drop for Fired {
    fn drop(&mut self) {
        let hint = self.hint().clone();
        self.store.scheduler().land(self.store.engine(), hint, &self.firing.alarm);
    }
}

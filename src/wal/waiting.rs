//! Waiting for durability, blocking or by a waker, and waking the log's writer.
//!
//! Invariants:
//!   * A waiter looks at the watermark again after it has taken the lock under which it is woken:
//!     no group is missed between a look and a wait.
//!   * What became durable is never told as failed, whatever poisons or closes the log behind it.
//!   * Wakers are called without any lock of the log or of an object. Two calls wait for the log
//!     with a lock of their own held and may call wakers under it: making a namespace (the
//!     catalog's) and publishing (the publisher's).

use super::group_commit::Wal;
use crate::error::Result;
use crate::ids::Lsn;
use crate::locks::atomic::{AtomicU64, Ordering};
use crate::locks::{check_free_from, rank};
use crate::wakes::Wakes;
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

/// Who waits, and what they must not miss.
#[derive(Default)]
pub(super) struct Waiters {
    wakers: VecDeque<(Lsn, Waker)>,
    /// Counts groups done, so that a waiter does not miss one between its look and its wait.
    groups_done: u64,
    wake_writer: bool,
}

/// Somebody is in a hurry.
#[derive(Debug)]
#[must_use = "dropped at once, it hurries nobody"]
pub struct Hurry<'w>(&'w AtomicU64);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C> Wal<C> {
    /// Tells everybody whose commit is durable, or all when nothing more will be.
    pub(super) fn wake_waiters(&self) {
        let durable = self.durable();
        let everyone = self.poison().is_some();
        let mut waiters = self.waiters.lock();
        waiters.groups_done += 1;
        let reached = waiters.wakers.partition_point(|(lsn, _)| everyone || *lsn <= durable);
        let wakes: Wakes = waiters.wakers.drain(..reached).map(|(_, waker)| waker).collect();
        drop(waiters);
        self.group_done.notify_all();
        wakes.wake();
    }

    /// Tells the threads that wait, and owes it to the wakers: for whoever holds an object.
    pub(super) fn tell_threads(&self) {
        self.waiters.lock().groups_done += 1;
        self.owes_wakers.store(true, Ordering::SeqCst);
        self.group_done.notify_all();
    }

    /// Wakes whom a commit that found the group full could not. To be called behind each commit,
    /// while no lock is held; where it is not, they are woken with the next group.
    pub fn wake_owed(&self) {
        if self.owes_wakers.load(Ordering::Relaxed)
            && self.owes_wakers.swap(false, Ordering::SeqCst)
        {
            self.wake_waiters();
        }
    }

    /// Whether `lsn` is durable, or never will be; none where that is open.
    fn look(&self, lsn: Lsn) -> Option<Result<()>> {
        // First: what was durable when the log was poisoned or closed is so to whoever knows that.
        let poison = self.poison();
        if self.durable() >= lsn {
            return Some(Ok(()));
        }
        poison.map(|error| Err(error.clone()))
    }

    /// Waits until `lsn` is durable, as the leader where nobody else is.
    pub fn wait(&self, lsn: Lsn) -> Result<()> {
        check_free_from(rank::OBJECT);
        loop {
            // Read before anything is looked at: whoever changes what is looked at counts on.
            let seen = self.waiters.lock().groups_done;
            if let Some(done) = self.look(lsn) {
                return done;
            }
            if self.writer.try_lock().is_some() {
                // It fails where the log is poisoned, and the next look tells.
                let _ = self.write_group();
                continue;
            }
            let mut waiters = self.waiters.lock();
            while waiters.groups_done == seen {
                waiters.wait(&self.group_done);
            }
        }
    }

    /// From now on a thread writes the log when [`Wal::tell_writer`] is called, or no longer.
    pub fn set_thread(&self, has_thread: bool) {
        self.has_thread.store(has_thread, Ordering::SeqCst);
    }

    /// Whether `lsn` is durable; if not, `waker` is woken when it is, or when the log is poisoned.
    pub fn poll(&self, lsn: Lsn, waker: &Waker) -> Option<Result<()>> {
        if self.durable() < lsn && !self.has_thread.load(Ordering::SeqCst) {
            // It fails where the log is poisoned, and the next look tells.
            let _ = self.write_group();
        }
        if let Some(done) = self.look(lsn) {
            return Some(done);
        }
        // Made, and where it is not needed dropped, without the lock.
        let waker = waker.clone();
        let mut waiters = self.waiters.lock();
        if let Some(done) = self.look(lsn) {
            return Some(done);
        }
        let place = waiters.wakers.partition_point(|(other, _)| *other <= lsn);
        waiters.wakers.insert(place, (lsn, waker));
        drop(waiters);
        self.tell_writer();
        None
    }

    /// Sees to it that the open group is written without anybody waiting for it.
    pub fn tell_writer(&self) {
        if self.writer_sleeps.load(Ordering::SeqCst) {
            self.waiters.lock().wake_writer = true;
            self.work.notify_one();
        }
    }

    /// For the log writer's thread: sleeps until there is work, at most for `most`.
    /// Returns at once when `is_over` says so; whoever makes it say so calls [`Wal::tell_writer`].
    pub fn sleep_until_work(&self, most: Duration, is_over: impl Fn() -> bool) {
        self.writer_sleeps.store(true, Ordering::SeqCst);
        if !is_over() && self.open.lock().records == 0 {
            let mut waiters = self.waiters.lock();
            if !std::mem::take(&mut waiters.wake_writer) {
                waiters.wait_for(&self.work, most);
                waiters.wake_writer = false;
            }
        }
        self.writer_sleeps.store(false, Ordering::SeqCst);
    }

    /// No group is held back while what is returned is there: for whoever takes the pressure away
    /// and may wait for the log, or for an object whose commit waits for the log.
    pub fn hurry(&self) -> Hurry<'_> {
        self.in_hurry.fetch_add(1, Ordering::Relaxed);
        Hurry(&self.in_hurry)
    }
}

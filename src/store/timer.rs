//! Wakers by the time at which they are to be woken.
//!
//! One thread, started when first needed, wakes them; a store without threads wakes them when
//! [`super::Steps::tick`] is called.
//!
//! Invariants:
//!   * Time is the clock's uptime: it does not jump.
//!   * A waker is woken once. None is made, called or dropped while the lock is held.

use crate::disk::Clock;
use crate::error::{Error, Result};
use crate::locks::thread::{self, JoinHandle};
use crate::locks::{Condvar, Mutex};
use crate::wakes::Wakes;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

/// A moment, and a number that tells apart what waits for the same one.
type Key = (Duration, u64);

/// The timer of a store.
#[derive(Debug)]
pub(crate) struct Timer {
    shared: Arc<Shared>,
    is_threaded: bool,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    /// A leaf lock.
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wakers: BTreeMap<Key, Waker>,
    next_number: u64,
    thread: Option<JoinHandle<()>>,
    is_over: bool,
}

/// What will be woken. Dropping it forgets the waker.
#[derive(Debug)]
pub(crate) struct Entry {
    shared: Weak<Shared>,
    key: Key,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.state.lock();
            let waker = state.wakers.remove(&self.key);
            drop(state);
            drop(waker);
        }
    }
}

impl Timer {
    pub fn new(clock: Arc<dyn Clock>, is_threaded: bool) -> Self {
        let (state, bell) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { clock, state, bell }), is_threaded }
    }

    /// Whether time passes by itself, and not by [`super::Steps::tick`].
    pub fn is_threaded(&self) -> bool {
        self.is_threaded
    }

    /// The present moment.
    pub fn now(&self) -> Duration {
        self.shared.clock.uptime()
    }

    /// Wakes `waker` at a moment, or soon if that has passed.
    pub fn wake_at(&self, at: Duration, waker: &Waker) -> Result<Entry> {
        let waker = waker.clone();
        let mut state = self.shared.state.lock();
        if self.is_threaded && state.thread.is_none() && !state.is_over {
            state.thread = Some(start(&self.shared)?);
        }
        let key = (at, state.next_number);
        state.next_number += 1;
        let is_first = state.wakers.first_key_value().is_none_or(|(first, _)| key < *first);
        state.wakers.insert(key, waker);
        drop(state);
        if is_first {
            self.shared.bell.notify_all();
        }
        Ok(Entry { shared: Arc::downgrade(&self.shared), key })
    }

    /// Wakes whose moment has come. Says how many.
    pub fn tick(&self) -> usize {
        self.shared.tick()
    }

    /// Wakes everybody and stops the thread.
    pub fn stop(&self) {
        let mut state = self.shared.state.lock();
        state.is_over = true;
        let (wakers, thread) = (std::mem::take(&mut state.wakers), state.thread.take());
        drop(state);
        self.shared.bell.notify_all();
        wakers.into_values().collect::<Wakes>().wake();
        // A thread that dropped the last handle of the store cannot wait for itself.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn tick(&self) -> usize {
        let now = self.clock.uptime();
        let mut state = self.state.lock();
        let later = state.wakers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut state.wakers, later);
        drop(state);
        let count = due.len();
        due.into_values().collect::<Wakes>().wake();
        count
    }

    fn run(&self) {
        loop {
            self.tick();
            let mut state = self.state.lock();
            if state.is_over {
                return;
            }
            match state.wakers.first_key_value().map(|((at, _), _)| *at) {
                None => self.bell.wait(&mut state),
                Some(at) => {
                    let left = at.saturating_sub(self.clock.uptime());
                    self.bell.pause(&mut state, left);
                }
            }
        }
    }
}

fn start(shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let builder = thread::Builder::new().name("dostore-time".to_owned());
    let started = builder.spawn(move || shared.run());
    started.map_err(|cause| Error::io("starting a thread", cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ReadDisk;
    use crate::disk::sim::SimDisk;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::Wake;

    /// Uses the timer when it is woken, and when it is dropped.
    struct Uses(Arc<Timer>, Arc<AtomicUsize>);

    impl Uses {
        fn call(&self) {
            drop(self.0.wake_at(Duration::from_hours(1), Waker::noop()));
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Wake for Uses {
        fn wake(self: Arc<Self>) {
            self.call();
        }
    }

    impl Drop for Uses {
        fn drop(&mut self) {
            self.call();
        }
    }

    #[test]
    fn a_waker_may_use_the_timer_when_it_is_woken_forgotten_or_told_the_end() {
        let (tell, told) = mpsc::channel();
        let script = move || {
            let disk = SimDisk::new(1);
            let timer = Arc::new(Timer::new(disk.clock(), false));
            let count = Arc::<AtomicUsize>::default();
            let enter = |seconds| {
                let uses = Uses(Arc::clone(&timer), Arc::clone(&count));
                let waker = Waker::from(Arc::new(uses));
                timer.wake_at(timer.now() + Duration::from_secs(seconds), &waker).unwrap()
            };
            let [due, forgotten, last] = [1, 2, 3].map(enter);
            disk.advance(Duration::from_secs(1));
            assert_eq!((timer.tick(), count.load(Ordering::SeqCst)), (1, 2));
            drop((due, forgotten));
            assert_eq!(count.load(Ordering::SeqCst), 3);
            timer.stop();
            assert_eq!(count.load(Ordering::SeqCst), 5);
            drop(last);
            tell.send(()).unwrap();
        };
        // Not joined: a waker that is called under the lock must not keep the test from failing.
        std::thread::Builder::new().spawn(script).unwrap();
        told.recv_timeout(Duration::from_mins(1)).expect("a waker was called under the lock");
    }
}

//! Wakers that call back into the host: none is called or dropped while a lock is held.

use super::stage::*;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A waker that calls back when it is woken, and when its last clone is dropped.
struct Calls(Box<dyn Fn() + Send + Sync>);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn calls(call: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Calls(Box::new(call))))
}

/// Runs a script on a thread of its own: a waker that waits for a lock which its caller holds must
/// not keep the test from failing.
fn patiently(script: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let run = move || {
        script();
        tell.send(()).unwrap();
    };
    std::thread::Builder::new().spawn(run).unwrap();
    told.recv_timeout(Duration::from_mins(1)).expect("a waker was called under a lock");
}

fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn whoever_waits_for_a_reply_may_send_when_woken() {
    patiently(|| {
        let (world, durability) = World::manual(|builder| builder.mailbox(1));
        let lobby = world.lobby();
        let signal = Signal::default();
        let busy = lobby.send(wait_for(&signal));
        world.run();
        let mut inside = lobby.send(add(1));
        let mut outside = lobby.send(add(1));
        let count = Arc::<AtomicUsize>::default();
        let user = || {
            let (lobby, count) = (lobby.clone(), Arc::clone(&count));
            calls(move || {
                drop(lobby.try_send(add(1)));
                assert!(lobby.is_active());
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        for _ in 0..2 {
            assert!(poll_with(&mut inside, &user()).is_pending());
            assert!(poll_with(&mut outside.accepted(), &user()).is_pending());
        }
        assert_eq!(count.load(Ordering::SeqCst), 2, "those that were replaced");
        signal.give();
        world.outcome(busy).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 4, "let in, and the reply is behind its gate");
        durability.confirm_all();
        assert_eq!(count.load(Ordering::SeqCst), 6);
        assert!(world.outcome(inside).is_ok());
        // A gate that breaks while the reply is settled breaks the object, which wakes as well.
        let mut last = lobby.send(alone(|context| async move {
            context.storage().put("sum", 9_u64.to_le_bytes())?;
            context.storage().abort("the test says so");
            Ok(0)
        }));
        assert!(poll_with(&mut last, &user()).is_pending());
        world.run();
        assert_eq!(count.load(Ordering::SeqCst), 8);
        assert!(poll_with(&mut last, Waker::noop()).is_ready());
    });
}

#[test]
fn whoever_waits_for_the_end_of_a_host_may_ask_for_it_when_woken() {
    patiently(|| {
        let world = World::new();
        let signal = Signal::default();
        let waits = world.lobby().send(wait_for(&signal));
        world.run();
        let World { store, pool, host, class, .. } = world;
        let mut closing = host.close();
        let asked = Arc::<AtomicUsize>::default();
        for _ in 0..2 {
            let (class, asked) = (class.clone(), Arc::clone(&asked));
            let waker = calls(move || {
                let refused = class.send("lobby", add(1));
                assert_eq!(code(&refused.wait().unwrap_err()), "host.closed");
                asked.fetch_add(1, Ordering::SeqCst);
            });
            assert!(poll_with(&mut closing, &waker).is_pending());
        }
        signal.give();
        pool.run_ready();
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        assert!(look(&mut closing).is_ready());
        assert!(waits.wait().is_ok());
        drop(store);
    });
}

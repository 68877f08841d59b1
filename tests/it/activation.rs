//! Opening objects off the caller's thread: without such threads, and when one of them panics.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::sim::SimDisk;
use dostore::error::{ErrorKind, Result};
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::{Options, Store};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Far more than all of it takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A store whose object has its page on disk, in another file than the list of namespaces.
fn store(disk: &Interposed, options: Options) -> (Store, Namespace) {
    let before = |change: fn(Namespace)| {
        let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
        change(store.namespace("rooms").unwrap());
        store.close().unwrap();
    };
    before(drop);
    before(|rooms| drop(rooms.open_by_name("lobby").unwrap().put("k", "1").unwrap().wait()));
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

struct Tell(mpsc::Sender<()>);

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
    }
}

/// What comes of an activation, and whether it had to be waited for.
fn activate(rooms: &Namespace) -> (Result<Object>, bool) {
    let (tell, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(Tell(tell)));
    let mut future = pin!(rooms.activate(rooms.id_from_name("lobby")));
    let mut was_woken = false;
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (done, was_woken);
        }
        told.recv_timeout(PATIENCE).expect("nobody says that the object is there");
        was_woken = true;
    }
}

#[test]
fn without_threads_for_it_an_object_is_opened_at_the_first_poll() {
    let options = [Store::options().threads(false), Store::options().reader_threads(0)];
    for options in options {
        let disk = Interposed::new(SimDisk::new(1));
        let (store, rooms) = store(&disk, options);
        let (object, was_woken) = activate(&rooms);
        assert_eq!(object.unwrap().get("k").unwrap().as_deref(), Some(&b"1"[..]));
        assert!(!was_woken);
        drop(rooms);
        store.close().unwrap();
    }
}

#[test]
fn with_threads_for_it_whoever_waits_is_woken() {
    let disk = Interposed::new(SimDisk::new(2));
    let (store, rooms) = store(&disk, Store::options());
    let (object, was_woken) = activate(&rooms);
    assert_eq!(object.unwrap().get("k").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(was_woken);
    drop(rooms);
    store.close().unwrap();
}

#[test]
fn a_panic_while_an_object_is_opened_fails_the_activation_and_poisons_the_store() {
    let disk = Interposed::new(SimDisk::new(3));
    let (_store, rooms) = store(&disk, Store::options().reader_threads(1));
    disk.before_next(Point::OpenSegment, |_| panic!("of the test"));
    let error = activate(&rooms).0.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Poisoned, "store.panicked"));
    // The thread is still there for the next one, and the store promises nothing more.
    let error = activate(&rooms).0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
}

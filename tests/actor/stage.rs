//! A storage on a simulated machine, and what polls futures.

use dostore::actor::testing::ManualDurability;
use dostore::actor::{Storage, StorageOptions};
use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

pub fn rooms() -> Namespace {
    let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
    store.namespace("rooms").unwrap()
}

pub fn open(rooms: &Namespace) -> Storage {
    Storage::open(rooms.open_by_name("lobby").unwrap())
}

pub fn manual(rooms: &Namespace) -> (Storage, ManualDurability) {
    let durability = ManualDurability::new();
    let options = StorageOptions {
        durability: Some(Arc::new(durability.clone())),
        ..StorageOptions::default()
    };
    (Storage::with_options(rooms.open_by_name("lobby").unwrap(), options), durability)
}

pub fn poll<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls until there is an output; for futures that need nobody else.
pub fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll(&mut future) {
            return output;
        }
    }
}

/// Pending once.
pub async fn pause() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

pub fn text(storage: &Storage, key: &str) -> Option<String> {
    let value = storage.get(key).unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

pub fn refusal() -> Error {
    rooms().id_from_hex("x").unwrap_err()
}

/// Wakes the thread that polls.
#[derive(Default)]
pub struct Bell(Mutex<bool>, Condvar);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
}

impl Bell {
    pub fn is_rung(&self) -> bool {
        *self.0.lock().unwrap()
    }
}

/// Polls with a waker that rings the bell.
pub fn poll_with<F: Future>(future: &mut Pin<&mut F>, bell: &Arc<Bell>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(bell));
    future.as_mut().poll(&mut Context::from_waker(&waker))
}

/// Polls when woken, and only then: a wake-up that is lost hangs the test.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut rung = bell.0.lock().unwrap();
        while !std::mem::take(&mut *rung) {
            rung = bell.1.wait(rung).unwrap();
        }
    }
}

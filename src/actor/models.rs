//! Gates and who waits for them, under a model checker.
//!
//! Invariants:
//!   * Who is not woken shows as a deadlock: no wait ends by time.
//!   * A turn is sealed here by the calls of the ledger that the core makes, in their order.

use super::durability::{Durability, Local};
use super::gate::Gate;
use super::ledger::Book;
use super::testing::ManualDurability;
use crate::disk::sim::{Fault, SimDisk};
use crate::error::ErrorKind;
use crate::ids::{Lsn, Timestamp};
use crate::locks::model::{model, spawn};
use crate::store::Options;
use crate::store::commit::Position;
use crate::store::outstanding::Left;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

const PREEMPTIONS: usize = 3;

fn at(lsn: u64) -> Position {
    Position { lsn: Lsn(lsn), time: Timestamp(0) }
}

fn book(durability: impl Durability + 'static) -> Arc<Book> {
    Arc::new(Book::new(Arc::new(durability), at(0), Left::new()))
}

/// The open turn was logged there.
fn seal(book: &Arc<Book>, position: Position) {
    let sealing = book.seal(position, true);
    sealing.bound.wake();
    if let Some((failed, cause)) = sealing.failure {
        book.failed(failed, &cause);
    }
    book.watch(position);
}

/// What holds back until all that is sealed is safe; with `open`, the open turn too.
fn gate(book: &Arc<Book>, open: bool) -> Gate {
    Gate::new(book, book.cover(open, false))
}

/// Wakes nobody.
struct Gone;

impl Wake for Gone {
    fn wake(self: Arc<Self>) {}
}

/// Looks once, as a future that is dropped before it is over.
fn look_once(gate: Gate) {
    let waker = Waker::from(Arc::new(Gone));
    let looked = pin!(gate).poll(&mut Context::from_waker(&waker));
    assert!(!matches!(looked, Poll::Ready(Err(_))));
}

fn kind_of(told: crate::error::Result<()>) -> Option<ErrorKind> {
    told.err().map(|error| error.kind())
}

#[test]
fn who_waits_for_turns_goes_on_in_whatever_order_they_become_safe() {
    model(PREEMPTIONS, || {
        let by_hand = ManualDurability::new();
        let book = book(by_hand.clone());
        seal(&book, at(1));
        seal(&book, at(2));
        let gate = gate(&book, false);
        let other = by_hand.clone();
        let confirming = spawn(move || {
            other.confirm(at(2));
            other.confirm(at(1));
        });
        gate.wait().unwrap();
        assert!(by_hand.pending().is_empty());
        confirming.join().unwrap();
    });
}

#[test]
fn who_waits_for_the_open_turn_hears_of_its_end_and_of_its_being_safe() {
    model(PREEMPTIONS, || {
        let by_hand = ManualDurability::new();
        let book = book(by_hand.clone());
        let gate = gate(&book, true);
        assert!(book.is_bound());
        let (other, sealed) = (by_hand.clone(), Arc::clone(&book));
        let sealing = spawn(move || {
            seal(&sealed, at(1));
            other.confirm(at(1));
        });
        gate.wait().unwrap();
        assert!(by_hand.is_confirmed(at(1)));
        sealing.join().unwrap();
    });
}

#[test]
fn one_that_does_not_wait_to_the_end_takes_no_wake_up_from_another() {
    model(PREEMPTIONS, || {
        let by_hand = ManualDurability::new();
        let book = book(by_hand.clone());
        seal(&book, at(1));
        let gate = gate(&book, false);
        let (leaving, waiting) = (gate.clone(), gate);
        let leaver = spawn(move || look_once(leaving));
        let waiter = spawn(move || waiting.wait().unwrap());
        by_hand.confirm(at(1));
        leaver.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn of_two_turns_the_second_fails_alone() {
    model(PREEMPTIONS, || {
        let by_hand = ManualDurability::new();
        let book = book(by_hand.clone());
        seal(&book, at(1));
        let first = gate(&book, false);
        seal(&book, at(2));
        let second = gate(&book, false);
        let waiter = spawn(move || first.wait().unwrap());
        let other = by_hand.clone();
        let settling = spawn(move || {
            other.fail(at(2));
            other.confirm(at(1));
        });
        assert_eq!(kind_of(second.wait()), Some(ErrorKind::Broken));
        waiter.join().unwrap();
        settling.join().unwrap();
        // And so does whatever comes behind it, safe or not.
        seal(&book, at(3));
        by_hand.confirm(at(3));
        assert_eq!(kind_of(gate(&book, false).wait()), Some(ErrorKind::Broken));
    });
}

#[test]
fn a_failed_sync_fails_the_gates_behind_it_whoever_led_and_none_before_it() {
    model(PREEMPTIONS, || {
        let disk = SimDisk::new(1);
        let options = Options::default().threads(false).wal_file_bytes(64 << 10);
        let store = options.open_on(disk.clone()).unwrap();
        let mut object = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
        let book = book(Local::new(&store));
        let position = object.put("topic", "first").unwrap().wait().unwrap();
        seal(&book, position);
        let before = gate(&book, false);
        seal(&book, object.put("topic", "second").unwrap().detach());
        let behind = gate(&book, false);
        // The write of the group, and then its sync.
        disk.fail_call(2, Fault::Io);
        let other = behind.clone();
        let waiter = spawn(move || kind_of(other.wait()));
        assert_eq!(kind_of(behind.wait()), Some(ErrorKind::Broken));
        assert_eq!(waiter.join().unwrap(), Some(ErrorKind::Broken));
        assert!(before.is_open());
        assert_eq!(kind_of(behind.wait()), Some(ErrorKind::Broken));
    });
}

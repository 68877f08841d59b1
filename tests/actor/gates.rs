//! What leaves an object waits for what it follows from.

use crate::stage::*;
use dostore::actor::testing::ManualDurability;
use dostore::actor::{Durability, Storage, StorageOptions};
use dostore::disk::sim::{Fault, SimDisk};
use dostore::error::{Error, ErrorKind, Result};
use dostore::store::Store;
use dostore::store::commit::Position;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

#[test]
fn a_later_write_does_not_delay_an_earlier_gate() {
    let (storage, durability) = manual(&rooms());
    storage.put("a", "1").unwrap();
    let first = storage.gate();
    storage.put("b", "1").unwrap();
    let second = storage.gated(7);
    let [a, b] = durability.pending()[..] else { panic!("two commits") };
    assert!(!first.is_open());
    durability.confirm(a);
    first.wait().unwrap();
    let mut second = pin!(second);
    assert!(poll(&mut second).is_pending());
    durability.confirm(b);
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(7))));
}

#[test]
fn a_gate_needs_all_before_it_in_whatever_order_they_come() {
    let (storage, durability) = manual(&rooms());
    storage.put("a", "1").unwrap();
    storage.put("b", "1").unwrap();
    let gate = storage.gate();
    let [a, b] = durability.pending()[..] else { panic!("two commits") };
    durability.confirm(b);
    assert!(!gate.is_open());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(gate.clone()));
        let blocks = scope.spawn(|| gate.wait());
        durability.confirm(a);
        waits.join().unwrap().unwrap();
        blocks.join().unwrap().unwrap();
    });
}

/// Commits become safe in their order, as those of one log do.
#[derive(Debug)]
struct InOrder(ManualDurability);

impl Durability for InOrder {
    fn begin(&self, position: Position) {
        self.0.begin(position);
    }

    fn is_confirmed(&self, position: Position) -> bool {
        self.0.is_confirmed(position)
    }

    fn failure(&self, position: Position) -> Option<Error> {
        self.0.failure(position)
    }

    fn poll(&self, position: Position, waker: &Waker) -> Option<Result<()>> {
        self.0.poll(position, waker)
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

#[test]
fn a_gate_waits_for_the_last_of_the_commits_that_come_in_their_order() {
    let manual = ManualDurability::new();
    let durability = Some(Arc::new(InOrder(manual.clone())) as _);
    let options = StorageOptions { durability, ..StorageOptions::default() };
    let storage = Storage::with_options(rooms().open_by_name("lobby").unwrap(), options);
    for key in ["a", "b", "c"] {
        storage.put(key, "1").unwrap();
    }
    let gate = storage.gate();
    let [a, b, c] = manual.pending()[..] else { panic!("three commits") };
    for early in [a, b] {
        manual.confirm(early);
        assert!(!gate.is_open(), "the last one is not safe");
    }
    manual.confirm(c);
    gate.wait().unwrap();
}

#[test]
fn a_failed_commit_breaks_the_gates_behind_it_and_no_other() {
    let rooms = rooms();
    let (storage, durability) = manual(&rooms);
    storage.put("a", "1").unwrap();
    let before = storage.gate();
    storage.put("b", "1").unwrap();
    let behind = storage.gate();
    let [a, b] = durability.pending()[..] else { panic!("two commits") };
    durability.fail(b);
    let error = behind.wait().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Broken, "gate.broken"));
    assert!(error.to_string().contains("the test lets the commit fail"), "{error}");
    assert!(!before.is_open());
    durability.confirm(a);
    before.wait().unwrap();
    assert_eq!(storage.get("a").unwrap_err().code(), "gate.broken");
    assert_eq!(block_on(storage.gate()).unwrap_err().code(), "gate.broken");
    assert_eq!(text(&open(&rooms), "a").as_deref(), Some("1"));
}

#[test]
fn an_unconfirmed_write_delays_no_gate_but_breaks_it() {
    let (storage, durability) = manual(&rooms());
    storage.put_unconfirmed("a", "1").unwrap();
    storage.gate().wait().unwrap();
    let all = storage.sync();
    assert!(!all.is_open());
    let [a] = durability.pending()[..] else { panic!("one commit") };
    durability.fail(a);
    assert_eq!(storage.gate().wait().unwrap_err().code(), "gate.broken");
    assert_eq!(all.wait().unwrap_err().code(), "gate.broken");
}

#[test]
fn one_confirmed_write_makes_its_whole_turn_confirmed() {
    let (storage, _) = manual(&rooms());
    storage
        .enter(|| {
            storage.put_unconfirmed("a", "1").unwrap();
            assert!(storage.gate().is_open());
            storage.put("b", "1").unwrap();
        })
        .unwrap();
    assert!(!storage.gate().is_open());
}

#[test]
fn a_gate_taken_inside_a_turn_waits_for_what_the_turn_has_written() {
    let (storage, durability) = manual(&rooms());
    let (early, late) = storage
        .enter(|| {
            let early = storage.gate();
            storage.put("a", "1").unwrap();
            (early, storage.gated("said"))
        })
        .unwrap();
    assert!(early.is_open());
    let mut late = pin!(late);
    assert!(poll(&mut late).is_pending());
    durability.confirm_all();
    assert!(matches!(poll(&mut late), Poll::Ready(Ok("said"))));

    let mut event = pin!(storage.run(async {
        storage.put("b", "1").unwrap();
        storage.gated(1).await
    }));
    assert!(poll(&mut event).is_pending());
    durability.confirm_all();
    assert!(matches!(poll(&mut event), Poll::Ready(Ok(Ok(1)))));
}

#[test]
fn a_gate_on_a_turn_that_was_dropped_never_opens() {
    let storage = open(&rooms());
    let mut taken = None;
    let entered = storage.enter(|| {
        storage.put("a", "1").unwrap();
        taken = Some(storage.gate());
        storage.abort("the test says so");
    });
    assert_eq!(entered.unwrap_err().code(), "object.aborted");
    assert_eq!(taken.unwrap().wait().unwrap_err().code(), "object.aborted");
}

#[test]
fn a_gate_waits_for_what_the_object_had_committed_when_it_was_opened() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut object = rooms.open_by_name("lobby").unwrap();
    object.put("a", "1").unwrap().detach();
    let gate = Storage::open(object).gate();
    assert!(!gate.is_open());
    store.steps().write_group().unwrap();
    assert!(gate.is_open());
}

#[test]
fn a_sync_of_the_log_that_fails_breaks_the_gates_that_it_concerns() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let storage = open(&store.namespace("rooms").unwrap());
    storage.put("a", "1").unwrap();
    let before = storage.gate();
    before.wait().unwrap();
    storage.put("b", "1").unwrap();
    let behind = storage.gate();
    // The first call of a group is its write.
    disk.fail_call(1, Fault::Io);
    let error = block_on(behind).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Broken, "gate.broken"));
    before.wait().unwrap();
    assert_eq!(storage.get("a").unwrap_err().code(), "gate.broken");
}

#[test]
fn whoever_waits_for_the_end_of_a_turn_is_woken_when_the_turn_is_undone_or_breaks() {
    let storage = open(&rooms());
    let bind = || {
        storage.put("a", "1").unwrap();
        let (bell, mut gate) = (Arc::<Bell>::default(), Box::pin(storage.gate()));
        assert!(poll_with(&mut gate.as_mut(), &bell).is_pending());
        (bell, gate)
    };
    let mut bound = None;
    let undone: Result<()> = storage.transaction(|_| {
        bound = Some(bind());
        Err(refusal())
    });
    assert!(undone.is_err());
    let (bell, mut gate) = bound.unwrap();
    assert!(bell.is_rung());
    assert!(matches!(poll(&mut gate.as_mut()), Poll::Ready(Ok(()))), "it covers nothing");
    let mut bound = None;
    let entered = storage.enter(|| {
        bound = Some(bind());
        storage.abort("the test says so");
    });
    assert!(entered.is_err());
    let (bell, mut gate) = bound.unwrap();
    assert!(bell.is_rung());
    let Poll::Ready(Err(error)) = poll(&mut gate.as_mut()) else { panic!("it opened") };
    assert_eq!(error.code(), "object.aborted");
}

#[test]
fn a_transaction_that_cannot_be_logged_breaks_the_object_where_a_gate_went_by_it() {
    let disk = SimDisk::new(1);
    let options = Store::options().threads(false).wal_file_bytes(64 << 10);
    let store = options.open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let storage = open(&rooms);
    disk.set_free_bytes(0);
    let write = |storage: &Storage| storage.put("big", vec![7; 20 << 10]);
    let full = (0..50).find_map(|_| storage.transaction(write).err()).expect("the log has no end");
    assert_eq!(full.kind(), ErrorKind::Full);
    assert!(storage.broken().is_none(), "its caller was told, and nobody else knows of it");
    let mut gate = None;
    let failed = storage.transaction(|storage| {
        write(storage)?;
        gate = Some(storage.gate());
        Ok::<_, Error>(())
    });
    assert_eq!(failed.unwrap_err().code(), "object.commit");
    let said = gate.unwrap().state().expect("it waits for a turn that will never be");
    assert_eq!(said.unwrap_err().code(), "object.commit");
    assert_eq!(storage.broken().unwrap().code(), "object.commit");
}

/// Lets a reader in between a turn is logged and the ledger has it.
#[derive(Debug)]
struct Between {
    manual: ManualDurability,
    begun: Mutex<Option<mpsc::Sender<()>>>,
    was_read: Mutex<mpsc::Receiver<()>>,
}

impl Durability for Between {
    fn begin(&self, position: Position) {
        self.manual.begin(position);
        if let Some(begun) = self.begun.lock().unwrap().take() {
            begun.send(()).unwrap();
            self.was_read.lock().unwrap().recv().unwrap();
            // The reader has seen the turn, and takes its gate now.
            (0..1000).for_each(|_| std::thread::yield_now());
        }
    }

    fn is_confirmed(&self, position: Position) -> bool {
        self.manual.is_confirmed(position)
    }

    fn failure(&self, position: Position) -> Option<Error> {
        self.manual.failure(position)
    }

    fn poll(&self, position: Position, waker: &Waker) -> Option<Result<()>> {
        self.manual.poll(position, waker)
    }
}

#[test]
fn a_gate_taken_as_a_turn_is_being_sealed_covers_what_was_read_of_it() {
    let manual = ManualDurability::new();
    let (begun, has_begun) = mpsc::channel();
    let (read, was_read) = mpsc::channel();
    let between = Between {
        manual: manual.clone(),
        begun: Mutex::new(Some(begun)),
        was_read: Mutex::new(was_read),
    };
    let options =
        StorageOptions { durability: Some(Arc::new(between)), ..StorageOptions::default() };
    let storage = Storage::with_options(rooms().open_by_name("lobby").unwrap(), options);
    let gate = std::thread::scope(|scope| {
        let storage = &storage;
        let reader = scope.spawn(move || {
            has_begun.recv().unwrap();
            assert_eq!(text(storage, "k").as_deref(), Some("1"), "it is logged");
            read.send(()).unwrap();
            storage.gate()
        });
        storage.put("k", "1").unwrap();
        reader.join().unwrap()
    });
    assert!(!gate.is_open(), "what was read is not safe");
    manual.confirm_all();
    assert!(gate.is_open());
}

#[test]
fn a_commit_that_was_open_when_its_object_was_let_go_holds_up_who_opens_it_next() {
    let rooms = rooms();
    let (storage, durability) = manual(&rooms);
    let again = || {
        let durability = Some(Arc::new(durability.clone()) as _);
        let options = StorageOptions { durability, ..StorageOptions::default() };
        Storage::with_options(rooms.open_by_name("lobby").unwrap(), options)
    };
    storage.put("a", "5").unwrap();
    storage.put_unconfirmed("b", "6").unwrap();
    storage.put("c", "7").unwrap();
    let [five, six, seven] = durability.pending()[..] else { panic!("three commits") };
    durability.confirm(seven);
    storage.close();
    let next = again();
    assert_eq!(text(&next, "a").as_deref(), Some("5"));
    assert!(!next.gate().is_open(), "what it shows may be lost");
    drop(next);
    let last = again();
    assert!(!last.gate().is_open(), "nor is it forgotten the second time");
    durability.confirm(five);
    assert!(last.gate().is_open() && !last.sync().is_open());
    durability.fail(six);
    assert_eq!(last.gate().wait().unwrap_err().code(), "gate.broken");
    assert_eq!(again().gate().wait().unwrap_err().code(), "gate.broken");
    drop(storage);
}

/// Reads the object when it is asked for its bytes.
struct Lazy<'s>(&'s Storage);

impl AsRef<[u8]> for Lazy<'_> {
    fn as_ref(&self) -> &[u8] {
        let _ = self.0.put("asked", "1");
        b"k"
    }
}

#[test]
fn keys_and_values_may_use_the_object_when_they_are_asked_for_their_bytes() {
    let (tell, told) = mpsc::channel();
    let script = move || {
        let storage = open(&rooms());
        finish(storage.run(async {
            let lazy = || Lazy(&storage);
            storage.put_many([(lazy(), lazy())])?;
            assert_eq!(storage.delete_many([lazy()])?, 1);
            storage.delete_range(lazy()..)?;
            storage.put(lazy(), lazy())?;
            storage.delete(lazy())
        }))
        .unwrap()
        .unwrap();
        tell.send(()).unwrap();
    };
    std::thread::Builder::new().spawn(script).unwrap();
    told.recv_timeout(Duration::from_mins(1)).expect("a key was asked under a lock");
}

#[test]
fn an_unconfirmed_turn_that_fails_is_told_at_once_to_who_waits_for_later_ones() {
    let (storage, durability) = manual(&rooms());
    storage.put_unconfirmed("a", "1").unwrap();
    storage.put("b", "1").unwrap();
    let [a, _] = durability.pending()[..] else { panic!("two commits") };
    let mut gate = pin!(storage.gate());
    let bell = Arc::<Bell>::default();
    assert!(poll_with(&mut gate, &bell).is_pending());
    durability.fail(a);
    assert!(bell.is_rung());
    let failed = poll(&mut gate).map_err(|error| error.code());
    assert!(matches!(failed, Poll::Ready(Err("gate.broken"))), "{failed:?}");
}

/// Panics when it hears of a commit.
#[derive(Debug)]
struct Panics;

impl Durability for Panics {
    fn begin(&self, _: Position) {
        panic!("on purpose");
    }

    fn is_confirmed(&self, _: Position) -> bool {
        true
    }

    fn failure(&self, _: Position) -> Option<Error> {
        None
    }

    fn poll(&self, _: Position, _: &Waker) -> Option<Result<()>> {
        Some(Ok(()))
    }
}

#[test]
fn a_durability_that_panics_breaks_the_object_and_keeps_no_turn() {
    let rooms = rooms();
    let options = StorageOptions { durability: Some(Arc::new(Panics)), ..Default::default() };
    let storage = Storage::with_options(rooms.open_by_name("lobby").unwrap(), options);
    let put = std::panic::AssertUnwindSafe(|| storage.put("a", "1"));
    assert!(std::panic::catch_unwind(put).is_err());
    assert_eq!(storage.put("b", "1").unwrap_err().code(), "object.panicked");
    assert_eq!(text(&open(&rooms), "b"), None);
}

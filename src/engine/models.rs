//! Commits, checkpoints, activations and the removal of files beside each other, under a model
//! checker: the whole engine on a simulated disk, each call to which is one step.
//!
//! ```text
//! RUSTFLAGS="--cfg dostore_loom" CARGO_TARGET_DIR=target/loom cargo test --lib models
//! ```
//!
//! Invariants:
//!   * What a model looks at in the end follows from its commits alone, whatever the order was.

use super::Engine;
use crate::disk::sim::SimDisk;
use crate::format::record::Operation;
use crate::ids::{Address, Codec, KeyKind, Lsn, NamespaceNumber, ShortId};
use crate::locks::model::{model, spawn};
use crate::names::FileName;
use crate::object::overlay::Found;
use crate::object::write_set::WriteSet;
use crate::object::{Inner, View};
use crate::options::Options;
use crate::retention::Retention;

use std::sync::Arc;
use std::time::Duration;

/// How often a thread may be interrupted where it need not wait.
const PREEMPTIONS: usize = 3;

const ONE: Address = address(1);
const OTHER: Address = address(2);

const fn address(id: u8) -> Address {
    Address { namespace: NamespaceNumber(1), id: ShortId([id; 16]) }
}

/// A store without history, whose files may go as soon as nobody needs them.
fn open(disk: &SimDisk) -> Arc<Engine> {
    let options = Options::default()
        .threads(false)
        .wal_file_bytes(64 << 10)
        .retention(Retention::Off)
        .retire_after(Duration::ZERO);
    Engine::open(Arc::new(disk.clone()), options).unwrap()
}

fn full(key: u8) -> [u8; 2] {
    [KeyKind::User as u8, key]
}

fn changes(engine: &Engine, key: u8, value: &[u8]) -> WriteSet {
    let mut changes = WriteSet::new();
    let put = Operation::Put { key: &full(key), codec: Codec::Raw, value };
    changes.push(&engine.options.limits, &put).unwrap();
    changes
}

fn put(engine: &Engine, address: Address, key: u8, value: &[u8]) -> Lsn {
    let changes = changes(engine, key, value);
    let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
    engine.with_object(address, commit).unwrap().lsn
}

fn value(found: Option<Found>) -> Option<Vec<u8>> {
    match found? {
        Found::Value(_, value) => Some(value.to_vec()),
        Found::Deleted => None,
    }
}

fn seen(view: &View, key: u8) -> Option<Vec<u8>> {
    value(view.find(&full(key)).unwrap())
}

/// What the pages hold that are published, whatever is in memory.
fn in_pages(engine: &Engine, address: Address, key: u8) -> Option<Vec<u8>> {
    seen(&View::of_version(address, engine.version()).unwrap(), key)
}

/// How many keys of an object the pages hold, as its head says.
fn count_in_pages(engine: &Engine, address: Address) -> u64 {
    engine.version().head(address).unwrap().map_or(0, |head| head.count)
}

/// The log has what the pages hold, and replay begins behind it.
fn check_cut(engine: &Engine) {
    let version = engine.version();
    let cut = version.manifest.cut;
    assert!(cut <= engine.wal.durable());
    for object in [ONE, OTHER] {
        assert!(version.head(object).unwrap().is_none_or(|head| head.last_lsn <= cut));
    }
}

#[test]
fn a_commit_beside_a_cut_is_in_its_pages_or_on_the_list_of_the_next() {
    model(PREEMPTIONS, || {
        let disk = SimDisk::new(1);
        let engine = open(&disk);
        put(&engine, ONE, b'a', b"before");
        let other = Arc::clone(&engine);
        let committing = spawn(move || {
            put(&other, ONE, b'b', b"beside");
            put(&other, OTHER, b'c', b"behind")
        });
        assert!(engine.checkpoint().unwrap());
        check_cut(&engine);
        let last = committing.join().unwrap();
        assert_eq!(in_pages(&engine, ONE, b'a').as_deref(), Some(&b"before"[..]));
        // What is not in pages is on the list, and nothing is that has no commits.
        let is_left = engine.table.count() > 0;
        assert_eq!(engine.wal.with_companion(|dirty| !dirty.objects.is_empty()), is_left);
        assert_eq!(engine.checkpoint().unwrap(), is_left);
        check_cut(&engine);
        assert_eq!(engine.table.count(), 0, "what is in pages leaves memory");
        assert_eq!(in_pages(&engine, ONE, b'b').as_deref(), Some(&b"beside"[..]));
        assert_eq!(in_pages(&engine, OTHER, b'c').as_deref(), Some(&b"behind"[..]));
        assert_eq!([ONE, OTHER].map(|object| count_in_pages(&engine, object)), [2, 1]);
        assert_eq!(engine.version().manifest.cut, last);
    });
}

#[test]
fn what_is_durable_beside_a_cut_is_there_after_a_power_cut() {
    model(PREEMPTIONS, || {
        let disk = SimDisk::new(1);
        let engine = open(&disk);
        put(&engine, ONE, b'a', b"before");
        let other = Arc::clone(&engine);
        let committing = spawn(move || {
            let lsn = put(&other, ONE, b'b', b"beside");
            other.wait_durable(lsn).unwrap();
        });
        assert!(engine.checkpoint().unwrap());
        committing.join().unwrap();
        let again = open(&disk.power_cut());
        let view = again.view(ONE).unwrap();
        assert_eq!(seen(&view, b'a').as_deref(), Some(&b"before"[..]));
        assert_eq!(seen(&view, b'b').as_deref(), Some(&b"beside"[..]));
    });
}

/// Opens the object and adds one to a number that it holds.
fn add_one(engine: &Engine, inner: &mut Inner, key: u8) -> u8 {
    let found = inner.find(ONE, &full(key), || engine.version()).unwrap();
    value(found).expect("a commit came before")[0] + 1
}

#[test]
fn an_object_that_is_activated_beside_an_installation_misses_nothing() {
    model(PREEMPTIONS, || {
        let engine = open(&SimDisk::new(1));
        put(&engine, ONE, b'p', &[7]);
        assert!(engine.checkpoint().unwrap());
        put(&engine, ONE, b'a', &[1]);
        let other = Arc::clone(&engine);
        let activating = spawn(move || {
            let commit = |object: &Arc<_>, inner: &mut Inner| {
                inner.is_open = true;
                // It has the pages from here on.
                assert_eq!(add_one(&other, inner, b'p'), 8);
                let next = add_one(&other, inner, b'a');
                assert_eq!(next, 2);
                other.commit(object, inner, changes(&other, b'a', &[next]))
            };
            let lsn = other.with_object(ONE, commit).unwrap().lsn;
            other.with_object(ONE, |_, inner| {
                assert_eq!(inner.state().last_lsn, lsn);
                assert_eq!(add_one(&other, inner, b'a'), 3);
                inner.is_open = false;
                Ok(())
            })
        });
        assert!(engine.checkpoint().unwrap());
        activating.join().unwrap().unwrap();
        engine.checkpoint().unwrap();
        assert_eq!(in_pages(&engine, ONE, b'a'), Some(vec![2]));
        assert_eq!(count_in_pages(&engine, ONE), 2, "no commit counts twice");
        assert_eq!(engine.table.count(), 0);
    });
}

#[test]
fn a_view_beside_an_installation_shows_what_was_committed() {
    model(PREEMPTIONS, || {
        let engine = open(&SimDisk::new(1));
        put(&engine, ONE, b'a', b"first");
        assert!(engine.checkpoint().unwrap());
        put(&engine, ONE, b'b', b"second");
        let other = Arc::clone(&engine);
        let looking = spawn(move || {
            let view = other.view(ONE).unwrap();
            assert_eq!(seen(&view, b'a').as_deref(), Some(&b"first"[..]));
            assert_eq!(seen(&view, b'b').as_deref(), Some(&b"second"[..]));
            view.state.last_lsn
        });
        assert!(engine.checkpoint().unwrap());
        assert_eq!(looking.join().unwrap(), engine.wal.last_lsn());
    });
}

fn is_page_or_run(name: &FileName) -> bool {
    matches!(name, FileName::Segment(_) | FileName::Run(_))
}

#[test]
fn files_that_a_view_reads_are_there_until_it_goes_and_go_then() {
    model(PREEMPTIONS, || {
        let disk = SimDisk::new(1);
        let engine = open(&disk);
        put(&engine, ONE, b'a', &[1; 40]);
        assert!(engine.checkpoint().unwrap());
        put(&engine, ONE, b'a', &[2; 40]);
        let other = Arc::clone(&engine);
        let reading = spawn(move || {
            let view = View::of_version(ONE, other.version()).unwrap();
            let first = seen(&view, b'a').unwrap();
            assert!(first == [1; 40] || first == [2; 40]);
            assert_eq!(seen(&view, b'a'), Some(first));
        });
        assert!(engine.checkpoint().unwrap());
        engine.remove_retired().unwrap();
        reading.join().unwrap();
        engine.remove_retired().unwrap();
        assert!(engine.retired_files().is_empty());
        let named = super::publish::named_files(&engine.version().manifest);
        let kept = disk.names().into_iter().filter(is_page_or_run).collect();
        assert_eq!(named, kept);
    });
}

#[test]
fn a_commit_beside_a_close_is_refused_or_in_pages() {
    model(PREEMPTIONS, || {
        let disk = SimDisk::new(1);
        let engine = open(&disk);
        put(&engine, ONE, b'a', b"before");
        let other = Arc::clone(&engine);
        let committing = spawn(move || {
            let changes = changes(&other, b'b', b"beside");
            let commit = |object: &Arc<_>, inner: &mut _| other.commit(object, inner, changes);
            match other.with_object(ONE, commit) {
                Ok(grant) => other.wait_durable(grant.lsn).map(|()| true).unwrap(),
                Err(error) => {
                    assert_eq!(error.code(), "store.closed");
                    false
                }
            }
        });
        engine.close().unwrap();
        let is_there = committing.join().unwrap();
        drop(engine);
        let again = open(&disk);
        assert_eq!(again.report().records_replayed, 0);
        assert_eq!(in_pages(&again, ONE, b'a').as_deref(), Some(&b"before"[..]));
        assert_eq!(in_pages(&again, ONE, b'b').is_some(), is_there);
    });
}

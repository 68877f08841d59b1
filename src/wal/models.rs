//! The waiting of the log under a model checker, which tries every order in which a few threads can
//! come to its locks and atomics:
//!
//! ```text
//! RUSTFLAGS="--cfg dostore_loom" CARGO_TARGET_DIR=target/loom cargo test --lib models
//! ```
//!
//! Invariants:
//!   * Who is not woken shows as a deadlock: no wait ends by time.
//!   * The disk underneath is no part of a model: a call to it is one step.

use super::group_commit::Wal;
use super::pool::{FileNumbers, Pool};
use crate::disk::pace::Pace;
use crate::disk::sim::{Fault, SimDisk};
use crate::disk::{Disk, ReadDisk};
use crate::error::ErrorKind;
use crate::format::header::{FileContext, HEADER_BLOCK_BYTES};
use crate::format::record::{RECORD_HEADER_BYTES, RecordHeader, RecordKind};
use crate::ids::{
    Address, FileNumber, LogEnd, Lsn, NamespaceNumber, ShortId, StoreId, Term, Timestamp,
};
use crate::limits::GROUP_ALIGNMENT;
use crate::locks::model::{model, spawn};
use crate::names::FileName;
use loom::sync::{Condvar, Mutex};

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// How often a thread may be interrupted where it need not wait.
const PREEMPTIONS: usize = 3;

fn log() -> (Arc<Wal<()>>, SimDisk) {
    let sim = SimDisk::new(1);
    sim.make_folders().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let pace = Arc::new(Pace::new(sim.clock()));
    let context = FileContext { store: StoreId([1; 16]), term: Term(1) };
    let numbers = Arc::new(FileNumbers::from(FileNumber(1)));
    let pool = Pool::new((disk, pace), context, numbers, 64 << 10, Arc::default());
    let file = pool.start(LogEnd::default(), Lsn(1)).unwrap();
    let pressure = Box::new(|| Duration::ZERO);
    (Arc::new(Wal::new(Arc::new(pool), file, LogEnd::default(), Lsn(1), (), pressure)), sim)
}

/// The shortest record.
fn record() -> [u8; RECORD_HEADER_BYTES] {
    let (lsn, time) = (Lsn(0), Timestamp(0));
    let address = Address { namespace: NamespaceNumber(1), id: ShortId::default() };
    RecordHeader { length: 0, kind: RecordKind::Commit, lsn, time, address }.encode()
}

fn append(wal: &Wal<()>) -> Lsn {
    wal.append(&mut record(), |(), _| ()).unwrap().lsn
}

/// Runs the same beside itself.
fn both<T: Send + 'static>(wal: &Arc<Wal<()>>, run: fn(&Wal<()>) -> T) -> [T; 2] {
    let other = Arc::clone(wal);
    let other = spawn(move || run(&other));
    let own = run(wal);
    [own, other.join().unwrap()]
}

#[test]
fn two_that_commit_and_wait_both_go_on_whoever_leads() {
    model(PREEMPTIONS, || {
        let (wal, _) = log();
        let commits = both(&wal, |wal| {
            let lsn = append(wal);
            wal.wait(lsn).unwrap();
            assert!(wal.durable() >= lsn);
            lsn
        });
        assert_eq!(commits[0].0 + commits[1].0, 3);
        assert_eq!(wal.durable(), Lsn(2));
    });
}

#[test]
fn after_a_failed_sync_nobody_is_told_that_a_commit_is_durable() {
    model(PREEMPTIONS, || {
        let (wal, sim) = log();
        // The write of the first group, and then its sync.
        sim.fail_call(2, Fault::Io);
        let told = both(&wal, |wal| match wal.append(&mut record(), |(), _| ()) {
            Ok(grant) => wal.wait(grant.lsn).map_err(|error| error.kind()),
            Err(error) => Err(error.kind()),
        });
        assert_eq!(told, [Err(ErrorKind::Poisoned); 2]);
        assert_eq!(wal.durable(), Lsn(0));
    });
}

/// Rings when it is woken.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.bell.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.bell.notify_one();
    }
}

#[test]
fn a_future_is_woken_by_the_thread_of_the_log_and_that_thread_by_a_commit() {
    model(PREEMPTIONS, || {
        let (wal, _) = log();
        wal.set_thread(true);
        // In the store it is an atomic, sequentially consistent like the one that says that the
        // writer sleeps; the checker knows no order of two such, but that of a lock.
        let stop = Arc::new(Mutex::new(false));
        let writer = {
            let (wal, stop) = (Arc::clone(&wal), Arc::clone(&stop));
            spawn(move || {
                let is_over = || *stop.lock().unwrap();
                while !is_over() {
                    wal.write_group().unwrap();
                    wal.sleep_until_work(Duration::MAX, is_over);
                }
            })
        };
        let bell = Arc::<Bell>::default();
        let waker = Waker::from(Arc::clone(&bell));
        let lsn = append(&wal);
        loop {
            match wal.poll(lsn, &waker) {
                Some(done) => break done.unwrap(),
                None => bell.wait(),
            }
        }
        assert!(wal.durable() >= lsn);
        *stop.lock().unwrap() = true;
        wal.tell_writer();
        writer.join().unwrap();
    });
}

#[test]
fn who_waits_by_blocking_and_who_waits_by_a_waker_are_both_told() {
    model(PREEMPTIONS, || {
        let (wal, _) = log();
        let other = Arc::clone(&wal);
        let blocking = spawn(move || {
            let lsn = append(&other);
            other.wait(lsn).unwrap();
        });
        let bell = Arc::<Bell>::default();
        let lsn = append(&wal);
        // Without a thread of the log, who polls writes.
        assert!(wal.poll(lsn, &Waker::from(Arc::clone(&bell))).unwrap().is_ok());
        blocking.join().unwrap();
        assert_eq!(wal.durable(), Lsn(2));
    });
}

/// Commits and waits.
fn commit(wal: &Wal<()>) -> Lsn {
    let lsn = append(wal);
    wal.wait(lsn).unwrap();
    assert!(wal.durable() >= lsn);
    lsn
}

#[test]
fn of_three_that_commit_and_wait_each_goes_on_whoever_leads() {
    model(PREEMPTIONS, || {
        let (wal, _) = log();
        let others = [(); 2].map(|()| {
            let wal = Arc::clone(&wal);
            spawn(move || commit(&wal))
        });
        let own = commit(&wal).0;
        let sum: u64 = others.into_iter().map(|other| other.join().unwrap().0).sum();
        assert_eq!((own + sum, wal.durable()), (6, Lsn(3)));
    });
}

/// Whether the medium has the group that a lone commit was in.
fn is_on_medium(sim: &SimDisk, lsn: Lsn) -> bool {
    let medium = sim.medium_bytes(FileName::Wal(FileNumber(1))).unwrap();
    let group = usize::try_from(HEADER_BLOCK_BYTES + (lsn.0 - 1) * GROUP_ALIGNMENT).unwrap();
    medium[group..].iter().take(8).any(|byte| *byte != 0)
}

#[test]
fn the_watermark_only_grows_and_the_medium_has_what_it_covers() {
    model(PREEMPTIONS, || {
        let (wal, sim) = log();
        let other = Arc::clone(&wal);
        let committing = spawn(move || [commit(&other), commit(&other)]);
        let mut before = Lsn(0);
        for _ in 0..3 {
            // The checker sees by the lock that orders matter here.
            let given = wal.last_lsn();
            let durable = wal.durable();
            assert!(durable >= before && given <= wal.last_lsn());
            assert!(durable == Lsn(0) || is_on_medium(&sim, durable));
            before = durable;
        }
        assert_eq!(committing.join().unwrap(), [Lsn(1), Lsn(2)]);
    });
}

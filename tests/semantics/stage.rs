//! A store on a simulated machine, and what it takes to poll futures there without a runtime.
//!
//! Invariants:
//!   * Nothing is durable before the test writes the log, or waits for a future.
//!   * A future is polled again only when it asked for that: a lost wake-up fails its test.

use dostore::actor::Storage;
use dostore::disk::sim::SimDisk;
use dostore::ids::Timestamp;
use dostore::store::alarms::{Failure, Fired};
use dostore::store::list::{Entries, ListOptions};
use dostore::store::namespace::Namespace;
use dostore::store::{Options, Store};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// The wall clock when a stage begins, in microseconds.
pub const BEGIN: u64 = 1_800_000_000_000_000;

pub const SECOND: u64 = 1_000_000;

/// A machine, a store on it, and a namespace in that.
pub struct Stage {
    pub disk: SimDisk,
    pub store: Store,
    pub rooms: Namespace,
    options: Options,
}

/// The settings of every stage: small files, no threads.
pub fn options() -> Options {
    Store::options()
        .threads(false)
        .wal_file_bytes(256 << 10)
        .segment_bytes(64 << 10)
        .page_bytes(512)
        .retire_after(Duration::ZERO)
}

impl Stage {
    pub fn new() -> Self {
        Self::with(options())
    }

    pub fn with(options: Options) -> Self {
        let disk = SimDisk::new(1);
        disk.set_wall(BEGIN);
        Self::on(disk, options)
    }

    pub fn on(disk: SimDisk, options: Options) -> Self {
        let store = options.clone().open_on(disk.clone()).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        Self { disk, store, rooms, options }
    }

    /// A stage and the one object that most tests need.
    pub fn with_room() -> (Self, Storage) {
        let stage = Self::new();
        let room = stage.room();
        (stage, room)
    }

    pub fn room(&self) -> Storage {
        self.actor("room")
    }

    pub fn actor(&self, name: &str) -> Storage {
        Storage::open(self.rooms.open_by_name(name).unwrap())
    }

    /// What a power cut leaves. Storages of before are of no use any more.
    pub fn power_cut(self) -> Self {
        let disk = self.disk.power_cut();
        let options = self.options.clone();
        drop(self);
        Self::on(disk, options)
    }

    /// The same, with the object that most tests need.
    pub fn power_cut_with_room(self) -> (Self, Storage) {
        let stage = self.power_cut();
        let room = stage.room();
        (stage, room)
    }

    /// Writes and syncs whatever was committed.
    pub fn write(&self) {
        while self.store.steps().write_group().unwrap() {}
    }

    /// Puts what was committed into pages.
    pub fn checkpoint(&self) {
        self.write();
        self.store.steps().checkpoint().unwrap();
    }

    /// The LSN of the last commit of the store, made durable.
    pub fn lsn(&self) -> u64 {
        self.write();
        self.store.durable().0
    }

    /// The time of the wall, in microseconds.
    pub fn now(&self) -> Timestamp {
        use dostore::disk::ReadDisk;
        Timestamp(self.disk.clock().wall_micros())
    }

    /// The time so many seconds from now.
    pub fn after(&self, seconds: u64) -> Timestamp {
        Timestamp(self.now().0 + seconds * SECOND)
    }

    /// Lets time pass, and lets the store notice.
    pub fn pass(&self, duration: Duration) {
        self.disk.advance(duration);
        self.store.steps().tick();
    }

    /// Lets time pass until just this moment of the wall's clock.
    pub fn pass_until(&self, at: Timestamp) {
        self.write();
        self.pass(Duration::from_micros(at.0.saturating_sub(self.now().0)));
    }

    pub fn pass_seconds(&self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// Polls a future to its end, writing the log whenever it waits. Lets no time pass.
    #[track_caller]
    pub fn finish<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            woken.0.store(false, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            if !woken.0.load(Ordering::SeqCst) {
                self.write();
            }
            assert!(woken.0.load(Ordering::SeqCst), "the future waits for nothing that comes");
        }
    }

    /// Runs the tasks of a crew until none goes on, writing the log whenever all wait.
    pub fn settle(&self, crew: &mut Crew) {
        while crew.run() > 0 {
            self.write();
        }
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs a script on a machine whose power fails at each call to the disk in turn, with several
/// outcomes of the power cut for each; until the script says that it ended before the power
/// failed. The script gets the number of calls after which it is to let the power fail.
pub fn at_each_call(mut script: impl FnMut(Stage, u64) -> bool) {
    for calls in 0.. {
        let mut is_over = true;
        for seed in 0..4 {
            let disk = SimDisk::new(calls * 4 + seed);
            disk.set_wall(BEGIN);
            is_over &= script(Stage::on(disk, options()), calls);
        }
        if is_over {
            return;
        }
    }
}

/// One poll.
pub fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// One poll that must not end the future.
#[track_caller]
pub fn poll_pending<F: Future>(future: Pin<&mut F>) {
    assert!(poll(future).is_pending(), "the future did not wait");
}

/// One poll that must end the future.
#[track_caller]
pub fn poll_ready<F: Future>(future: Pin<&mut F>) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

/// Polls a future that must be ready at once.
#[track_caller]
pub fn now<F: Future>(future: F) -> F::Output {
    poll_ready(pin!(future))
}

/// Waits for one poll: where a turn ends.
pub async fn pause() {
    let mut is_second = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for so many polls.
pub async fn pauses(count: usize) {
    for _ in 0..count {
        pause().await;
    }
}

/// A door that a test opens.
#[derive(Clone, Default)]
pub struct Door {
    is_open: Rc<Cell<bool>>,
    wakers: Rc<RefCell<Vec<Waker>>>,
}

impl Door {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        self.is_open.set(true);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// The same, as the body of a section.
    pub async fn opened(&self) -> dostore::error::Result<()> {
        self.pass().await;
        Ok(())
    }

    pub async fn pass(&self) {
        std::future::poll_fn(|context| {
            if self.is_open.get() {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Diary(Rc<RefCell<Vec<String>>>);

impl Diary {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    pub fn said(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// All of it, in one line.
    pub fn line(&self) -> String {
        self.0.borrow().join(" ")
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks of one thread. A task is polled when it is new and when its waker was called.
#[derive(Default)]
pub struct Crew {
    tasks: Vec<Option<Task>>,
    ready: Arc<Mutex<VecDeque<usize>>>,
}

struct Call {
    task: usize,
    ready: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push_back(self.task);
    }
}

impl Crew {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> usize {
        self.tasks.push(Some(Box::pin(future)));
        let task = self.tasks.len() - 1;
        self.ready.lock().unwrap().push_back(task);
        task
    }

    /// Cancels a task.
    pub fn cancel(&mut self, task: usize) {
        self.tasks[task] = None;
    }

    /// Polls whoever asked for it until nobody asks. Says how many polls that were.
    pub fn run(&mut self) -> usize {
        let mut polls = 0;
        loop {
            let Some(task) = self.ready.lock().unwrap().pop_front() else { return polls };
            let Some(future) = &mut self.tasks[task] else { continue };
            polls += 1;
            let waker = Waker::from(Arc::new(Call { task, ready: Arc::clone(&self.ready) }));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tasks[task] = None;
            }
        }
    }

    /// How many tasks have not ended.
    pub fn left(&self) -> usize {
        self.tasks.iter().flatten().count()
    }
}

/// The value of a key as text.
pub fn text(room: &Storage, key: &str) -> Option<String> {
    let value = room.get(key).unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

/// The keys of a list as text, in its order, each with a space behind it.
pub fn listed(entries: Entries) -> String {
    let key = |entry: dostore::error::Result<(_, _)>| {
        let (key, _): (dostore::store::value::Value, dostore::store::value::Value) = entry.unwrap();
        String::from_utf8(key.to_vec()).unwrap()
    };
    entries.map(key).collect::<Vec<_>>().join(" ")
}

/// All keys of an object.
pub fn keys(room: &Storage) -> String {
    listed(room.list(ListOptions::new()).unwrap())
}

/// Puts each of these keys.
pub fn fill(room: &Storage, keys: &str) {
    for key in keys.split(' ') {
        room.put(key, key.to_uppercase()).unwrap();
    }
}

/// The next alarm that is due, if one is.
pub fn due(stage: &Stage) -> Option<Fired> {
    stage.write();
    stage.store.alarms().try_next().unwrap()
}

/// The alarm that must be due now.
#[track_caller]
pub fn fired(stage: &Stage) -> Fired {
    due(stage).expect("an alarm is due")
}

/// The name of the object that an alarm is of.
pub fn owner(fired: &Fired) -> String {
    fired.object_name().unwrap().unwrap()
}

/// Handles an alarm as a host does: the handler in one turn, with its outcome in the same commit.
pub fn handle(room: &Storage, fired: &Fired, handler: impl FnOnce() -> Result<(), &'static str>) {
    let scope = room.alarm_scope(fired);
    room.enter(|| match handler() {
        Ok(()) => room.complete_alarm(fired).map(drop).unwrap(),
        Err(text) => room.fail_alarm(fired, Failure::Counted, text).map(drop).unwrap(),
    })
    .unwrap();
    drop(scope);
}

//! What the tests of the host stand on: objects that do what messages say, and a world around
//! them on one thread and a simulated machine.
//!
//! Invariants:
//!   * What a handler does is said by the message itself, so that a test reads from top to bottom.

use dostore::actor::StorageOptions;
use dostore::actor::host::{
    Actor, Beside, Class, Context, Event, Host, HostBuilder, Pool, Recipient, Reply,
};
use dostore::actor::testing::ManualDurability;
use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::store::alarms::Fired;
use dostore::store::commit::Position;
use dostore::store::{Options, Store};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{self, Poll, Waker};
use std::time::Duration;

pub const IDLE: Duration = Duration::from_secs(10);

/// How a script fails.
#[derive(Debug)]
pub enum Failed {
    Host(Error),
    Own(&'static str),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(out),
            Self::Own(what) => out.write_str(what),
        }
    }
}

pub fn code(failed: &Failed) -> &'static str {
    match failed {
        Failed::Host(error) => error.code(),
        Failed::Own(what) => what,
    }
}

pub type Outcome = Result<u64, Failed>;
pub type Code = Box<dyn FnOnce(Context<Script>) -> Beside<Script> + Send>;

/// A message that says what its handler does.
pub enum Do {
    Alone(Code),
    Beside(Code),
}

pub fn alone<F>(code: impl FnOnce(Context<Script>) -> F + Send + 'static) -> Do
where
    F: Future<Output = Outcome> + Send + 'static,
{
    Do::Alone(Box::new(move |context| Box::pin(code(context))))
}

pub fn beside<F>(code: impl FnOnce(Context<Script>) -> F + Send + 'static) -> Do
where
    F: Future<Output = Outcome> + Send + 'static,
{
    Do::Beside(Box::new(move |context| Box::pin(code(context))))
}

pub fn number(context: &Context<Script>, key: &str) -> Result<u64, Error> {
    let found = context.storage().get(key)?;
    Ok(found.map_or(0, |value| u64::from_le_bytes((*value).try_into().unwrap())))
}

/// Adds to a stored number and answers with the sum.
pub fn add(by: u64) -> Do {
    alone(move |context| async move {
        let sum = number(&context, "sum")? + by;
        context.storage().put("sum", sum.to_le_bytes())?;
        Ok(sum)
    })
}

/// Something that handlers wait for until the test lets them go on.
#[derive(Clone, Default)]
pub struct Signal(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Signal {
    pub fn give(&self) {
        let wakers = {
            let mut state = self.0.lock();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub async fn wait(&self) {
        poll_fn(|context| {
            let mut state = self.0.lock();
            if state.0 {
                return Poll::Ready(());
            }
            state.1.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

pub fn wait_for(signal: &Signal) -> Do {
    let signal = signal.clone();
    alone(move |_| async move {
        signal.wait().await;
        Ok(0)
    })
}

pub type OnAlarm = Box<dyn FnMut(&Context<Script>, &Fired) -> Result<(), Failed> + Send>;

/// What all objects of a test share.
#[derive(Default)]
pub struct Tools {
    /// Instances that are there, by object.
    pub living: Mutex<BTreeMap<String, u64>>,
    pub starts: AtomicU64,
    pub refuses: AtomicBool,
    pub on_alarm: Mutex<Option<OnAlarm>>,
    pub abandoned: Mutex<Vec<String>>,
    /// Called as the next instance goes.
    pub on_drop: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// An object that does what messages say.
pub struct Script {
    pub tools: Arc<Tools>,
    pub name: String,
}

impl Script {
    pub fn start(context: &Context<Self>, tools: &Arc<Tools>) -> Result<Self, Failed> {
        tools.starts.fetch_add(1, Ordering::Relaxed);
        if tools.refuses.load(Ordering::Relaxed) {
            return Err(Failed::Own("not today"));
        }
        let name = context.name().unwrap_or_default().to_owned();
        *tools.living.lock().entry(name.clone()).or_default() += 1;
        Ok(Self { tools: Arc::clone(tools), name })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        *self.tools.living.lock().entry(self.name.clone()).or_default() -= 1;
        let on_drop = self.tools.on_drop.lock().take();
        if let Some(on_drop) = on_drop {
            on_drop();
        }
    }
}

impl Actor for Script {
    type Message = Do;
    type Reply = u64;
    type Error = Failed;

    async fn handle(&mut self, context: &Context<Self>, message: Do) -> Outcome {
        assert_eq!(self.tools.living.lock()[&self.name], 1, "one instance at a time");
        let (Do::Alone(code) | Do::Beside(code)) = message;
        code(context.clone()).await
    }

    async fn alarm(&mut self, context: &Context<Self>, fired: &Fired) -> Result<(), Failed> {
        let mut on_alarm = self.tools.on_alarm.lock();
        on_alarm.as_mut().map_or(Ok(()), |on_alarm| on_alarm(context, fired))
    }

    async fn abandoned(&mut self, _: &Context<Self>, _: &Fired, why: &str) {
        self.tools.abandoned.lock().push(why.to_owned());
    }

    fn interleaved(&mut self, context: &Context<Self>, message: Do) -> Event<Self> {
        match message {
            Do::Alone(_) => Event::Alone(message),
            Do::Beside(code) => Event::Beside(code(context.clone())),
        }
    }
}

/// Has a host run scripts.
pub fn scripts(host: &Host, namespace: &str, tools: &Arc<Tools>) -> Class<Script> {
    let tools = Arc::clone(tools);
    let class = host.class(namespace, move |context| {
        let started = Script::start(&context, &tools);
        async move { started }
    });
    class.unwrap()
}

/// A host on one thread, on a machine whose clock the test sets.
pub struct World {
    pub disk: SimDisk,
    pub store: Store,
    pub pool: Pool,
    pub host: Host,
    pub class: Class<Script>,
    pub tools: Arc<Tools>,
}

impl World {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(change: impl FnOnce(HostBuilder) -> HostBuilder) -> Self {
        Self::on(SimDisk::new(1), change)
    }

    /// One whose commits are safe when the test says so.
    pub fn manual(change: impl FnOnce(HostBuilder) -> HostBuilder) -> (Self, ManualDurability) {
        let manual = ManualDurability::new();
        let durability = Some(Arc::new(manual.clone()) as _);
        let options = StorageOptions { durability, ..StorageOptions::default() };
        (Self::with(|builder| change(builder.storage(options))), manual)
    }

    pub fn on(disk: SimDisk, change: impl FnOnce(HostBuilder) -> HostBuilder) -> Self {
        Self::of(Store::options(), disk, change)
    }

    pub fn of(
        options: Options,
        disk: SimDisk,
        change: impl FnOnce(HostBuilder) -> HostBuilder,
    ) -> Self {
        let store = options.threads(false).open_on(disk.clone()).unwrap();
        let pool = Pool::start(0).unwrap();
        let builder = Host::builder(&store).spawner(pool.clone()).idle_after(IDLE);
        let host = change(builder).start().unwrap();
        let tools = Arc::<Tools>::default();
        let class = scripts(&host, "rooms", &tools);
        Self { disk, store, pool, host, class, tools }
    }

    pub fn lobby(&self) -> Recipient<Script> {
        self.class.recipient("lobby").unwrap()
    }

    pub fn run(&self) {
        self.pool.run_ready();
    }

    /// What a reply came to, once everything ran that could.
    pub fn outcome<A: Actor>(&self, mut reply: Reply<A>) -> Result<A::Reply, A::Error> {
        self.run();
        match look(&mut reply) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("there is no reply"),
        }
    }

    pub fn ask(&self, message: Do) -> Outcome {
        self.outcome(self.lobby().send(message))
    }

    /// Time passes, step by step, and what waits for it runs.
    pub fn pass(&self, time: Duration) {
        for _ in 0..20 {
            self.disk.advance(time / 20);
            self.store.steps().tick();
            self.run();
        }
    }

    pub fn starts(&self) -> u64 {
        self.tools.starts.load(Ordering::Relaxed)
    }

    pub fn is_active(&self) -> bool {
        self.lobby().is_active()
    }

    /// Closes the host, which waits for each of these commits.
    pub fn close_when_safe(self, durability: &ManualDurability, commits: [Position; 2]) {
        let mut closing = self.host.close();
        for commit in commits {
            self.pool.run_ready();
            assert!(look(&mut closing).is_pending());
            durability.confirm(commit);
        }
        self.pool.run_ready();
        assert!(look(&mut closing).is_ready());
    }
}

pub fn look<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut task::Context::from_waker(Waker::noop()))
}

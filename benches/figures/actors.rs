//! Actor turns a second through the host, with ten thousand actors in flight, beside the same work
//! by bare turns of the engine.
//!
//! Invariants:
//!   * A turn reads one key, writes one, and counts once its reply was seen: then it is durable.
//!   * Host and engine take turns within one run, and in who is first, and hold the same objects.
//!     Each has all of them in memory before the clock starts, and begins with nothing dirty: none
//!     pays for pages of the other's commits.

use crate::load::{self, DataSet, KEYS, LOADERS, VALUE_BYTES, Window};
use crate::measure::{Goal, Histogram, Random, line, median};
use crate::system;
use crate::{Result, Settings};
use dostore::actor::host::{Actor, Class, Context, Host, Recipient, Reply};
use dostore::error::Error;
use dostore::store::Store;
use dostore::store::object::Object;
use std::collections::VecDeque;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const IN_FLIGHT: usize = 10_000;
const ROUNDS: usize = 5;

/// Reads a key and writes it.
struct Touch;

/// Which key, and its new value.
struct Write {
    key: usize,
    value: [u8; VALUE_BYTES],
}

impl Actor for Touch {
    type Message = Write;
    type Reply = u64;
    type Error = Error;

    async fn handle(
        &mut self,
        context: &Context<Self>,
        message: Write,
    ) -> dostore::error::Result<u64> {
        let storage = context.storage();
        let key = KEYS[message.key];
        let before = storage.get(key)?.map_or(0, |value| u64::from(value[0]));
        storage.put(key, message.value)?;
        Ok(before)
    }
}

/// What one round came to.
struct Round {
    per_second: f64,
    processor_micros: f64,
    latency: Histogram,
}

pub fn run(settings: &Settings) -> Result<()> {
    let objects = settings.objects(IN_FLIGHT);
    let time = Duration::from_secs_f64(settings.seconds(4.0));
    let set = DataSet::make(&settings.root, "actors", objects)?;
    let store = set.open(Store::options())?;
    let host = Host::builder(&store).idle_after(Duration::from_hours(1)).start()?;
    let class = host.class(load::NAMESPACE, async |_| Ok(Touch))?;
    let mut rounds = Vec::new();
    let mut controls = Vec::new();
    // The first pair brings pages and log files into their steady state.
    for number in 0..=ROUNDS {
        let engine = || by_engine(&store, objects, time);
        let hosted = || by_host(&class, objects, time);
        let is_host_first = number % 2 == 1;
        let first =
            rest_of(&store).and_then(|()| if is_host_first { hosted() } else { engine() })?;
        wait_until_idle(&host, &class);
        let second =
            rest_of(&store).and_then(|()| if is_host_first { engine() } else { hosted() })?;
        wait_until_idle(&host, &class);
        let (round, control) = if is_host_first { (first, second) } else { (second, first) };
        if number > 0 {
            controls.push(control);
            rounds.push(round);
        }
    }
    let ratios = rounds.iter().zip(&controls).map(|(own, raw)| own.per_second / raw.per_second);
    let ratio = median(ratios.collect());
    let middle = |rounds: &[Round], of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let rate = middle(&rounds, |round| round.per_second);
    let raw = middle(&controls, |round| round.per_second);
    line("actors: durable turns", rate, "1/s", Goal::AtLeast(250_000.0), Some(raw));
    line("actors: share of the engine's", ratio * 100.0, "%", Goal::AtLeast(70.0), None);
    let none = |name: &str, value: f64, unit: &str| line(name, value, unit, Goal::None, None);
    for (index, (own, raw)) in rounds.iter().zip(&controls).enumerate() {
        let name = format!("actors: round {index}");
        line(&name, own.per_second, "1/s", Goal::None, Some(raw.per_second));
    }
    none("actors: processor time", middle(&rounds, |round| round.processor_micros), "us/turn");
    none("actors: engine alone", middle(&controls, |round| round.processor_micros), "us/turn");
    none("actors: latency p50", middle(&rounds, |round| round.latency.micros(0.5)), "us");
    none("actors: latency p99", middle(&rounds, |round| round.latency.micros(0.99)), "us");
    host.close().wait();
    drop(class);
    Ok(store.close()?)
}

/// Runs a loader on each of the threads, and adds up what they come to. A loader says when it has
/// its objects in memory; the clock starts when both have.
fn round(load: impl Fn(usize, &Barrier) -> Result<(u64, Histogram)> + Sync) -> Result<Round> {
    let ready = &Barrier::new(LOADERS + 1);
    let (done, before, began) = std::thread::scope(|scope| -> Result<_> {
        let load = &load;
        let loaders: Vec<_> =
            (0..LOADERS).map(|half| scope.spawn(move || load(half, ready))).collect();
        ready.wait();
        let (before, began) = (system::processor_seconds()?, Instant::now());
        let done =
            loaders.into_iter().map(|loader| loader.join().map_err(|_| "a loader panicked")?);
        Ok((done.collect::<Result<Vec<_>>>()?, before, began))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let turns: u64 = done.iter().map(|(turns, _)| turns).sum();
    let mut latency = Histogram::new();
    for (_, own) in &done {
        latency.add(own);
    }
    Ok(Round {
        per_second: turns as f64 / seconds,
        processor_micros: (system::processor_seconds()? - before) * 1e6 / turns as f64,
        latency,
    })
}

/// The same reads and writes by turns of the engine.
fn by_engine(store: &Store, objects: usize, time: Duration) -> Result<Round> {
    let namespace = load::namespace(store)?;
    round(|half, ready| {
        let own = (half..objects).step_by(LOADERS);
        let opened = own.map(|number| {
            let object = namespace.open(load::id(&namespace, number))?;
            object.get(KEYS[0]).map(|_| object)
        });
        let opened = opened.collect::<dostore::error::Result<Vec<Object>>>();
        ready.wait();
        let mut handles = opened?;
        let mut random = Random::new(half as u64);
        let mut window = Window::new(IN_FLIGHT / LOADERS);
        let mut value = [0; VALUE_BYTES];
        let mut read = 0;
        let end = Instant::now() + time;
        for next in (0..handles.len()).cycle() {
            let began = Instant::now();
            if began >= end {
                break;
            }
            let key = KEYS[random.below(KEYS.len())];
            random.fill(&mut value);
            let mut turn = handles[next].turn();
            read += turn.get(key)?.map_or(0, |value| u64::from(value[0]));
            turn.put(key, value)?;
            window.push(store, turn.commit()?.detach().lsn, began)?;
        }
        window.drain(store)?;
        std::hint::black_box(read);
        Ok((window.settled, window.latency))
    })
}

/// By messages to the host.
fn by_host(class: &Class<Touch>, objects: usize, time: Duration) -> Result<Round> {
    round(|half, ready| {
        let own = (half..objects).step_by(LOADERS);
        let named = own.map(|number| class.recipient_by_id(load::id(class.namespace(), number)));
        let recipients = named.collect::<dostore::error::Result<Vec<Recipient<Touch>>>>();
        let first = || Write { key: 0, value: [0; VALUE_BYTES] };
        let active = recipients.and_then(|recipients| {
            let replies: Vec<_> =
                recipients.iter().map(|recipient| recipient.send(first())).collect();
            replies.into_iter().try_for_each(|reply| reply.wait().map(drop))?;
            Ok(recipients)
        });
        ready.wait();
        let recipients = active?;
        let mut random = Random::new(half as u64);
        let mut waiting: VecDeque<(Reply<Touch>, Instant)> = VecDeque::new();
        let mut latency = Histogram::new();
        let mut turns = 0;
        let begin = Instant::now();
        for recipient in recipients.iter().cycle() {
            let is_full = waiting.len() >= IN_FLIGHT / LOADERS;
            let oldest = if is_full { waiting.pop_front() } else { None };
            let oldest = oldest.map(|(reply, began)| reply.wait().map(|_| began)).transpose()?;
            // One look at the clock for each turn, as by the engine: it ends one and begins one.
            let now = Instant::now();
            if let Some(began) = oldest {
                latency.record(now.duration_since(began));
                turns += 1;
            }
            if now.duration_since(begin) >= time {
                break;
            }
            let mut message = Write { key: random.below(KEYS.len()), value: [0; VALUE_BYTES] };
            random.fill(&mut message.value);
            waiting.push_back((recipient.send(message), now));
        }
        for (reply, began) in waiting {
            reply.wait()?;
            latency.record(began.elapsed());
            turns += 1;
        }
        Ok((turns, latency))
    })
}

/// Does what the rounds before have left to be done in the background.
fn rest_of(store: &Store) -> Result<()> {
    store.steps().checkpoint()?;
    while store.steps().merge()? {}
    Ok(())
}

/// Waits until no object is active, so that the engine may open them.
fn wait_until_idle(host: &Host, class: &Class<Touch>) {
    while class.active() > 0 {
        host.sweep();
        std::thread::yield_now();
    }
}

//! Small commits beside the largest: what one object's long commit does to the others'.
//!
//! Invariants:
//!   * Rounds with and without large commits take turns in one store.
//!   * Small commits come by the clock, and their objects stay open: a call that is held up delays
//!     those behind it, and shows.

use crate::load::{self, DataSet, Window};
use crate::measure::{Goal, Histogram, Random, line};
use crate::{Result, Settings};
use dostore::limits::VALUE_BYTES_MAX;
use dostore::store::Store;
use dostore::store::object::Object;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Small commits a second, of two keys of 100 B.
const OFFERED: f64 = 20_000.0;
const IN_FLIGHT: usize = 20_000;
const OBJECTS: usize = 1_000;
/// From the end of a large commit to the next.
const PAUSE: Duration = Duration::from_millis(200);
const ROUNDS: usize = 3;

/// What rounds of one kind showed.
struct Side {
    /// Of the call that commits.
    calls: Histogram,
    /// From when the commit was due until it was seen durable.
    durable: Histogram,
    large: Histogram,
}

impl Side {
    fn new() -> Self {
        Self { calls: Histogram::new(), durable: Histogram::new(), large: Histogram::new() }
    }
}

pub fn run(settings: &Settings) -> Result<()> {
    let set = DataSet::make(&settings.root, "large", OBJECTS)?;
    let store = set.open(Store::options())?;
    let namespace = load::namespace(&store)?;
    let ids = set.ids(&namespace).into_iter();
    let mut small: Vec<Object> = ids.map(|id| Ok(namespace.open(id)?)).collect::<Result<_>>()?;
    let mut large = namespace.open_by_name("large")?;
    let mut value = vec![0; if settings.quick { 1 << 20 } else { VALUE_BYTES_MAX }];
    Random::new(1).fill(&mut value);
    let time = Duration::from_secs_f64(settings.seconds(5.0));
    let (mut alone, mut beside) = (Side::new(), Side::new());
    for _ in 0..ROUNDS {
        round(&store, &mut small, None, time, &mut alone)?;
        round(&store, &mut small, Some((&mut large, &mut value)), time, &mut beside)?;
    }
    for (name, quantile) in [("p50", 0.5_f64), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)] {
        let said = |what: &str| format!("large: {what}, {name}");
        let of = |side: &Histogram| side.micros(quantile.min(0.999_999));
        line(&said("small call"), of(&beside.calls), "us", Goal::None, Some(of(&alone.calls)));
        let (with, without) = (of(&beside.durable), of(&alone.durable));
        line(&said("small durable"), with, "us", Goal::None, Some(without));
    }
    line("large: itself durable, p50", beside.large.micros(0.5), "us", Goal::None, None);
    drop((small, large));
    Ok(store.close()?)
}

fn round(
    store: &Store,
    small: &mut [Object],
    large: Option<(&mut Object, &mut Vec<u8>)>,
    time: Duration,
    side: &mut Side,
) -> Result<()> {
    let is_over = AtomicBool::new(false);
    let Side { calls, durable, large: of_large } = side;
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let beside = large.map(|(object, value)| {
            scope.spawn(move || commit_large(object, value, is_over, of_large))
        });
        let done = offer(store, small, time, calls, durable);
        is_over.store(true, Ordering::Relaxed);
        beside.map_or(Ok(()), |beside| beside.join().map_err(|_| "the large one panicked")?)?;
        done
    })
}

fn commit_large(
    object: &mut Object,
    value: &mut [u8],
    is_over: &AtomicBool,
    times: &mut Histogram,
) -> Result<()> {
    let mut random = Random::new(2);
    while !is_over.load(Ordering::Relaxed) {
        let place = random.below(value.len() - 8);
        random.fill(&mut value[place..place + 8]);
        let began = Instant::now();
        object.put("large", &*value)?.wait()?;
        times.record(began.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Commits at the offered rate.
fn offer(
    store: &Store,
    objects: &mut [Object],
    time: Duration,
    calls: &mut Histogram,
    durable: &mut Histogram,
) -> Result<()> {
    let mut random = Random::new(3);
    let mut window = Window::new(IN_FLIGHT);
    let began = Instant::now();
    let mut done = 0_u64;
    while began.elapsed() < time {
        let due = (began.elapsed().as_secs_f64() * OFFERED) as u64;
        while done < due {
            let object = &mut objects[random.below(OBJECTS)];
            let was_due = began + Duration::from_secs_f64(done as f64 / OFFERED);
            let called = Instant::now();
            let lsn = load::commit_two(object, &mut random)?;
            calls.record(called.elapsed());
            window.push(store, lsn, was_due)?;
            done += 1;
        }
        window.settle(store);
        std::thread::sleep(Duration::from_micros(100));
    }
    window.drain(store)?;
    durable.add(&window.latency);
    Ok(())
}

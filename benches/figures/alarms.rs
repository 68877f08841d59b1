//! Alarms by the million: how fast they are set and handed out, and what far ones cost.
//!
//! Invariants:
//!   * The control commits the same number of objects with a small value in the place of an alarm.

use crate::measure::{Goal, line};
use crate::{Result, Settings, system};
use dostore::ids::Timestamp;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use dostore::store::turn::Turn;
use std::time::Instant;

/// Commits of one object each, all durable at the end; how many a second.
fn commits(
    namespace: &Namespace,
    count: usize,
    fill: impl Fn(&mut Turn<'_>, u64) -> dostore::error::Result<()>,
) -> Result<f64> {
    let began = Instant::now();
    let mut last = None;
    for number in 0..count as u64 {
        let mut object = namespace.open(namespace.random_id()?)?;
        let mut turn = object.turn();
        fill(&mut turn, number)?;
        last = Some(turn.commit()?);
    }
    if let Some(last) = last {
        last.wait()?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

pub fn run(settings: &Settings) -> Result<()> {
    let count = settings.objects(1_000_000);
    let folder = settings.root.join("alarms");
    std::fs::create_dir_all(&folder)?;
    let control = {
        let store = Store::open(folder.join("control"))?;
        let namespace = store.namespace("objects")?;
        let put = |turn: &mut Turn<'_>, number: u64| turn.put("k", number.to_le_bytes()).map(drop);
        let rate = commits(&namespace, count, put)?;
        store.close()?;
        rate
    };
    let path = folder.join("alarms");
    let store = Store::open(&path)?;
    let namespace = store.namespace("objects")?;
    // Times that have passed: nobody takes them yet, so they lie there as far ones do.
    let set =
        |turn: &mut Turn<'_>, number: u64| turn.set_alarm(Timestamp(1 + number * 1_000)).map(drop);
    let rate = commits(&namespace, count, set)?;
    let goal = Goal::AtLeast(control * 0.7);
    line("alarms: set", rate, "1/s", goal, Some(control));
    drop(namespace);
    store.close()?;
    let before = system::memory()?.anonymous;
    let store = Store::open(&path)?;
    let in_memory = store.stats()?.alarms_in_memory as f64;
    line("alarms: in memory, after a checkpoint", in_memory, "", Goal::AtMost(0.0), None);
    let grown = system::memory()?.anonymous.saturating_sub(before) as f64;
    let each = grown / count as f64;
    line("alarms: heap for each, opened again", each, "B", Goal::AtMost(16.0), None);
    let alarms = store.alarms();
    let mut fired = Vec::with_capacity(count);
    let began = Instant::now();
    while let Some(next) = alarms.try_next()? {
        fired.push(next);
    }
    let rate = fired.len() as f64 / began.elapsed().as_secs_f64();
    if fired.len() != count {
        return Err(format!("{} alarms of {count} fired", fired.len()).into());
    }
    line("alarms: due ones handed out", rate, "1/s", Goal::AtLeast(500_000.0), None);
    drop(fired);
    Ok(store.close()?)
}

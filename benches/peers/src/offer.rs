//! Closed loops: threads that make commits, each the next one when the last is durable.
//!
//! Invariants:
//!   * No thread outlives the call.
//!   * Each thread draws its own random numbers.

use crate::Result;
use crate::engine::{AlarmTimes, Load};
use crate::measure::Random;
use crate::recorder::Recorder;
use crate::workload::{Change, Key, alarm_key};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Threads that wait for commits, one each, at most: more wake each other rather than get more
/// done. Who doubts it sets another number and measures the blocking engines again.
const THREADS_MAX: usize = 64;

/// The threads, and the changes in a commit of each, for what is in flight: an application that
/// makes groups by hand puts up to `group_max` changes into one.
fn shares(in_flight: usize, group_max: usize) -> (usize, usize) {
    let group = in_flight.clamp(1, group_max);
    ((in_flight / group).clamp(1, THREADS_MAX), group)
}

/// Commits for the time of a load by calls that return when what they got is durable.
pub fn commits(
    load: &Load,
    recorder: &Recorder,
    group_max: usize,
    commit: impl Fn(&[Change]) -> Result<()> + Sync,
) -> Result<()> {
    let (threads, group) = shares(load.in_flight, group_max);
    let end = Instant::now() + load.time;
    in_threads(threads, |thread| {
        let mut random = Random::new(thread as u64 + 1);
        let mut changes = Vec::with_capacity(group);
        while Instant::now() < end {
            changes.clear();
            let began = Instant::now();
            changes.extend((0..group).map(|_| Change::draw(load.objects, &mut random)));
            commit(&changes)?;
            recorder.record(thread, began, group);
        }
        Ok(())
    })
}

/// Makes objects and deletes them again for the time of a load; both calls get the numbers of new
/// objects, as many as an application puts into one commit, and return when it is durable.
pub fn churn(
    load: &Load,
    recorder: &Recorder,
    group_max: usize,
    make: impl Fn(&[u64], &mut Random) -> Result<()> + Sync,
    delete: impl Fn(&[u64]) -> Result<()> + Sync,
) -> Result<()> {
    let (threads, group) = shares(load.in_flight, group_max);
    let end = Instant::now() + load.time;
    in_threads(threads, |thread| {
        let mut random = Random::new(thread as u64 + 1);
        let mut objects: Vec<u64> =
            (0..group).map(|index| (thread * group + index) as u64).collect();
        for object in &mut objects {
            *object += load.objects;
        }
        while Instant::now() < end {
            let began = Instant::now();
            make(&objects, &mut random)?;
            recorder.record(thread, began, group);
            let began = Instant::now();
            delete(&objects)?;
            recorder.record(thread, began, group);
            for object in &mut objects {
                *object += (threads * group) as u64;
            }
        }
        Ok(())
    })
}

/// Sets an alarm for one object after the other until the time of a load is over or all have one,
/// has all of them handed out, and clears them; the keys are those of an index by time, and the
/// calls that get some of them return when that is durable.
pub fn alarms(
    load: &Load,
    recorder: &Recorder,
    group_max: usize,
    set: impl Fn(&[Key]) -> Result<()> + Sync,
    due: impl Fn() -> Result<Vec<Key>>,
    clear: impl Fn(&[Key]) -> Result<()> + Sync,
) -> Result<AlarmTimes> {
    let (threads, group) = shares(load.in_flight, group_max);
    let began = Instant::now();
    let set_alarms = Mutex::new(0);
    in_threads(threads, |thread| {
        let (mut objects, mut count) = (thread as u64 * group as u64, 0);
        let mut keys = Vec::with_capacity(group);
        while objects < load.objects && began.elapsed() < load.time {
            let now = Instant::now();
            keys.clear();
            keys.extend((objects..(objects + group as u64).min(load.objects)).map(alarm_key));
            set(&keys)?;
            recorder.record(thread, now, keys.len());
            count += keys.len() as u64;
            objects += (threads * group) as u64;
        }
        *set_alarms.lock().unwrap_or_else(PoisonError::into_inner) += count;
        Ok(())
    })?;
    let set = began.elapsed();
    let alarms = set_alarms.into_inner().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let handed_out = due()?;
    let took = began.elapsed();
    check_alarms(alarms, handed_out.len() as u64, handed_out.is_sorted())?;
    let began = Instant::now();
    in_threads(threads, |thread| {
        for keys in handed_out.chunks(group).skip(thread).step_by(threads) {
            let now = Instant::now();
            clear(keys)?;
            recorder.record(thread, now, keys.len());
        }
        Ok(())
    })?;
    Ok(AlarmTimes { alarms, set, handed_out: took, cleared: began.elapsed() })
}

/// Fails unless all alarms that were set were handed out, in order.
pub fn check_alarms(set: u64, handed_out: u64, is_in_order: bool) -> Result<()> {
    match (set == handed_out, is_in_order) {
        (true, true) => Ok(()),
        (true, false) => Err("alarms were handed out in no order".into()),
        (false, _) => Err(format!("{handed_out} alarms of {set} were handed out").into()),
    }
}

/// Splits objects into batches and has threads make them; each takes every `threads`-th batch.
pub fn batches(
    objects: &Range<u64>,
    batch: u64,
    threads: usize,
    make: impl Fn(Range<u64>, &mut Random) -> Result<()> + Sync,
) -> Result<()> {
    let step = usize::try_from(batch)?;
    in_threads(threads, |thread| {
        let mut random = Random::new(thread as u64 + 1);
        for first in objects.clone().step_by(step).skip(thread).step_by(threads) {
            make(first..(first + batch).min(objects.end), &mut random)?;
        }
        Ok(())
    })
}

/// Does the work in so many threads, and waits for all; the first error counts.
pub fn in_threads(threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let done: Vec<_> = all.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.into_iter().try_for_each(|done| done.map_err(|_| "a thread panicked")?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Layout;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn what_is_in_flight_is_spread_over_threads_and_groups() {
        assert_eq!(shares(1, 1), (1, 1));
        assert_eq!(shares(10_000, 1), (64, 1));
        assert_eq!(shares(64, 1_000), (1, 64));
        assert_eq!(shares(10_000, 1_000), (10, 1_000));
    }

    #[test]
    fn batches_cover_each_object_once() {
        let seen = Mutex::new(Vec::new());
        let make = |objects: Range<u64>, _: &mut Random| {
            seen.lock().map_err(|_| "poisoned")?.extend(objects);
            Ok(())
        };
        batches(&(5..105), 7, 3, make).expect("no batch fails");
        let mut seen = seen.into_inner().expect("no thread panicked");
        seen.sort_unstable();
        assert_eq!(seen, (5..105).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_deleted_was_made_and_is_new() {
        let there = Mutex::new(BTreeSet::new());
        let time = Duration::from_millis(20);
        let load = Load { objects: 100, in_flight: 8, makers: 2, time, layout: Layout::Many };
        let recorder = Recorder::new();
        let make = |objects: &[u64], _: &mut Random| {
            let mut there = there.lock().map_err(|_| "poisoned")?;
            let is_new = objects.iter().all(|object| *object >= 100 && there.insert(*object));
            if is_new { Ok(()) } else { Err("it was there".into()) }
        };
        let delete = |objects: &[u64]| {
            let mut there = there.lock().map_err(|_| "poisoned")?;
            let was_there = objects.iter().all(|object| there.remove(object));
            if was_there { Ok(()) } else { Err("it was not there".into()) }
        };
        churn(&load, &recorder, 2, make, delete).expect("no call fails");
        assert!(recorder.whole().commits > 0);
        assert!(there.into_inner().expect("no thread panicked").is_empty());
    }

    #[test]
    fn every_alarm_is_set_once_and_cleared_once() {
        let there = Mutex::new(BTreeSet::new());
        let time = Duration::from_mins(1);
        let load = Load { objects: 103, in_flight: 8, makers: 2, time, layout: Layout::Many };
        let with = |keys: &[Key], edit: fn(&mut BTreeSet<Key>, Key) -> bool| -> Result<()> {
            let mut there = there.lock().map_err(|_| "poisoned")?;
            let is_new = keys.iter().all(|key| edit(&mut there, *key));
            if is_new { Ok(()) } else { Err("not for the first time".into()) }
        };
        let set = |keys: &[Key]| with(keys, BTreeSet::insert);
        let clear = |keys: &[Key]| with(keys, |there, key| there.remove(&key));
        let due = || Ok(there.lock().map_err(|_| "poisoned")?.iter().copied().collect());
        let recorder = Recorder::new();
        let times = alarms(&load, &recorder, 2, set, due, clear).expect("no call fails");
        assert_eq!((times.alarms, recorder.whole().commits), (103, 206));
        assert!(there.lock().expect("no thread panicked").is_empty());
        let lost = alarms(&load, &recorder, 2, set, || Ok(Vec::new()), clear);
        assert!(lost.is_err(), "alarms that were not handed out are told");
    }

    #[test]
    fn an_error_of_one_thread_is_told() {
        let work = |thread| if thread == 2 { Err("no".into()) } else { Ok(()) };
        assert!(in_threads(4, work).is_err());
    }
}

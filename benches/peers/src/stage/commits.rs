//! Cells that write: objects made, commits, objects made and deleted again, alarms.
//!
//! Invariants:
//!   * Controls are taken right before and right behind what is measured.

use super::reads::fill_page_cache;
use super::{Stage, remove};
use crate::Result;
use crate::cells::{BUSY_IN_FLIGHT, Cell, Work};
use crate::control::{self, Writes};
use crate::engine::{Engine, Load, Peer};
use crate::probe::{Counts, allocated_bytes};
use crate::recorder::{Recorder, Second};
use crate::results::Figures;
use crate::workload::{Change, KEYS, Key, Layout, WHOLE_BYTES};
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// How often commits are told where a process waits to be killed.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Threads that make commits: one for each processor of the machines of today's figures.
const MAKERS: usize = 2;
/// The same where each waits for the device again and again.
const MAKERS_COLD: usize = 32;

/// What is committed.
#[derive(Clone, Copy)]
struct Offer {
    call: fn(&dyn Peer, &Load, &Arc<Recorder>) -> Result<()>,
    /// Keys and values of a commit.
    bytes: usize,
}

const CHANGES: Offer = Offer { call: |peer, load, to| peer.commit(load, to), bytes: Change::BYTES };
/// A commit with all of an object, then one with nothing but its end.
const CHURN: Offer = Offer { call: |peer, load, to| peer.churn(load, to), bytes: WHOLE_BYTES / 2 };

const RAW_GROUPS: &str = "raw groups of what is in flight, commits/s";

fn tell_latency(whole: &Second, figures: &mut Figures) {
    for (name, share) in [("p50 us", 0.5), ("p99 us", 0.99), ("p99.9 us", 0.999)] {
        figures.add(name, whole.latency.micros(share));
    }
}

impl Stage {
    pub(super) fn create(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let folder = self.root.join("made");
        remove(&folder)?;
        let mut control = Writes::of_objects(&self.root)?;
        control.take()?;
        let before = Counts::now(&self.root)?;
        let mut peer = engine.open(&folder, cell.layout)?;
        peer.create(0..cell.objects)?;
        let after = Counts::now(&self.root)?;
        control.take()?;
        let (unit, each) = match cell.layout {
            Layout::Many => ("objects/s", 1.0),
            Layout::One => ("keys/s", KEYS as f64),
        };
        let made = cell.objects as f64 * each;
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let mut figures = Figures::new(unit, made / seconds);
        figures.control(&format!("raw groups of 1 MiB, {unit}"), control.rate() * each);
        before.tell(&after, &mut figures, made);
        if self.is_prepared(engine, cell) {
            peer.close()?;
            remove(&folder)?;
        } else {
            // It is as good as a store made for the cells that follow.
            peer.settle()?;
            peer.close()?;
            let place = self.folder(engine, cell);
            remove(&place)?;
            fs::rename(&folder, place)?;
            fs::write(self.marker(engine, cell), b"")?;
        }
        Ok(figures)
    }

    pub(super) fn commits(
        &self,
        engine: &dyn Engine,
        cell: &Cell,
        in_flight: usize,
    ) -> Result<Figures> {
        let mut load = Load { in_flight, ..self.busy(cell) };
        if matches!(cell.work, Work::CommitsCold(_)) {
            control::empty_page_cache()?;
            load.makers = MAKERS_COLD;
        } else if !engine.facts().role.is_limit() {
            fill_page_cache(&self.folder(engine, cell))?;
        }
        Ok(self.offer(engine, cell, &load, CHANGES)?.0)
    }

    pub(super) fn sustained(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let load = Load { time: self.sustained, ..self.busy(cell) };
        let (mut figures, seconds) = self.offer(engine, cell, &load, CHANGES)?;
        let of = |second: &Second| (second.commits as f64, second.latency.micros(0.99));
        figures.seconds = seconds.iter().map(of).collect();
        let commits = figures.seconds.iter().map(|second| second.0);
        // The last one is not whole.
        let whole = commits.take(seconds.len().saturating_sub(1));
        let least = whole.fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            figures.add("commits, least in a second", least);
        }
        let worst = figures.seconds.iter().map(|second| second.1).fold(0.0, f64::max);
        figures.add("p99 us, worst second", worst);
        Ok(figures)
    }

    pub(super) fn churn(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let folder = self.folder(engine, cell);
        let before = allocated_bytes(&folder)?;
        let (mut figures, _) = self.offer(engine, cell, &self.busy(cell), CHURN)?;
        let grown = allocated_bytes(&folder)? as f64 - before as f64;
        figures.add("MB on disk more, closed", grown / 1e6);
        Ok(figures)
    }

    pub(super) fn alarms(&self, engine: &dyn Engine, cell: &Cell) -> Result<Figures> {
        let load = self.busy(cell);
        let mut peer = engine.open(&self.folder(engine, cell), cell.layout)?;
        peer.expect(load.objects);
        let mut control = Writes::of_commits(&self.root, load.in_flight, size_of::<Key>())?;
        control.take()?;
        let before = Counts::now(&self.root)?;
        let recorder = Arc::new(Recorder::new());
        let times = peer.alarms(&load, &recorder)?;
        let after = Counts::now(&self.root)?;
        control.take()?;
        peer.close()?;
        let rate = |took: Duration| times.alarms as f64 / took.as_secs_f64();
        let mut figures = Figures::new("alarms set/s", rate(times.set));
        figures.control(RAW_GROUPS, control.rate());
        figures.add("handed out/s", rate(times.handed_out));
        figures.add("cleared/s", rate(times.cleared));
        let whole = recorder.whole();
        tell_latency(&whole, &mut figures);
        before.tell(&after, &mut figures, whole.commits.max(1) as f64);
        Ok(figures)
    }

    fn busy(&self, cell: &Cell) -> Load {
        let Cell { objects, layout, .. } = *cell;
        let (in_flight, makers, time) = (BUSY_IN_FLIGHT, MAKERS, self.time);
        Load { objects, in_flight, makers, time, layout }
    }

    /// Figures of commits, and what happened in each second.
    fn offer(
        &self,
        engine: &dyn Engine,
        cell: &Cell,
        load: &Load,
        offer: Offer,
    ) -> Result<(Figures, Vec<Second>)> {
        let mut peer = engine.open(&self.folder(engine, cell), cell.layout)?;
        peer.expect(load.objects);
        // Files and caches come into their steady state.
        let warming = Load { time: self.time / 5, ..*load };
        (offer.call)(&*peer, &warming, &Arc::new(Recorder::new()))?;
        let mut control = Writes::of_commits(&self.root, load.in_flight, offer.bytes)?;
        control.take()?;
        let before = Counts::now(&self.root)?;
        let recorder = Arc::new(Recorder::new());
        (offer.call)(&*peer, load, &recorder)?;
        let after = Counts::now(&self.root)?;
        control.take()?;
        peer.close()?;
        let whole = recorder.whole();
        let commits = whole.commits.max(1) as f64;
        let rate = commits / after.at.duration_since(before.at).as_secs_f64();
        let mut figures = Figures::new("commits/s", rate);
        figures.control(RAW_GROUPS, control.rate());
        tell_latency(&whole, &mut figures);
        before.tell(&after, &mut figures, commits);
        let written = (after.device_bytes - before.device_bytes) as f64;
        let times = written / commits / offer.bytes as f64;
        figures.add("device bytes, times keys and values", times);
        Ok((figures, recorder.seconds()))
    }

    /// Commits until this process is killed, and says now and then how many there were.
    pub fn commit_until_killed(&self, cell: &Cell, engine: &dyn Engine) -> Result<()> {
        let mut peer = engine.open(&self.folder(engine, cell), cell.layout)?;
        peer.expect(cell.objects);
        let load = Load { time: TELL_EVERY, ..self.busy(cell) };
        let recorder = Arc::new(Recorder::new());
        loop {
            peer.commit(&load, &recorder)?;
            println!("{}", recorder.whole().commits);
            std::io::stdout().flush()?;
        }
    }
}

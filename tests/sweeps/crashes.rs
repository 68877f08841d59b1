//! Crashes by the million: long random sequences of steps, run once, and of each of their moments
//! some of the states that a power cut or a kill may leave.
//!
//! `DOSTORE_STATES_SEEDS=n` runs that many seeds, from `DOSTORE_FIRST_SEED` on.
//!
//! Invariants:
//!   * A seed does the same each time: nothing in it depends on time, threads or other seeds.
//!   * States that are the same bytes under the same expectations are examined once, and count
//!     once.

use crate::chance::Chance;
use crate::ledger::{self, Row};
use crate::moments::Moment;
use crate::plan::{drawn_options, drawn_step};
use crate::steps::Step;
use crate::world::{self, Told, World, base};
use crate::{number, on_all_cores};
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::names::FileName;
use dostore::store::Store;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Mutex;

/// Seeds, if nothing else is said.
const SEEDS: usize = 12;
/// Ends that are tried of each moment, most of them power cuts.
const ENDS: u64 = 3;
/// Of a hundred states: those that are verified, in which one more commit is made, and whose
/// recovery is cut off as well.
const VERIFIED: u64 = 10;
const GOING_ON: u64 = 25;
const RECUT: u64 = 12;
/// Moments of the past that are compared in each state.
const PASTS: u64 = 2;
/// So many recoveries in a row may be cut off.
const DEPTH: u64 = 3;
const BLOCK: usize = 4_096;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    moments: u64,
    /// States that power cuts and kills left, each examined.
    crashes: u64,
    kills: u64,
    /// Of the crashes, those inside a recovery or right behind one.
    in_recovery: u64,
    verified: u64,
    /// Moments of the past, and keys of them, that were compared.
    pasts: u64,
    keys: u64,
    /// Logs with a block of another past.
    forged: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.moments += other.moments;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.in_recovery += other.in_recovery;
        self.verified += other.verified;
        self.pasts += other.pasts;
        self.keys += other.keys;
        self.forged += other.forged;
    }
}

/// A state to be examined.
struct Left<'a> {
    world: &'a World,
    disk: SimDisk,
    range: Range<usize>,
    /// How many recoveries were cut off before.
    depth: u64,
}

struct Seed {
    chance: Chance,
    counts: Counts,
    /// States that were examined: their bytes, what they may be, and whether the page cache has
    /// what the medium does not.
    known: HashSet<(u64, Range<usize>, bool)>,
}

impl Seed {
    fn run(&mut self) -> Told<()> {
        let mut world = if self.chance.percent(80) {
            base()
        } else {
            World::on(SimDisk::new(self.chance.next()), world::options())
        };
        world.options = drawn_options(&mut self.chance);
        for _ in 0..self.chance.between(1, 4) {
            self.pass(&mut world, "the open", World::open)?;
            for _ in 0..self.chance.between(3, 16) {
                let Some(act) = drawn_step(&mut self.chance, &world) else { continue };
                let told = format!("{act:?}");
                self.pass(&mut world, &told, |world| act.on(world))?;
            }
            if self.chance.percent(20) {
                self.mix_two_pasts(&world)?;
            }
            if !self.begin_anew(&mut world)? {
                break;
            }
        }
        Ok(())
    }

    /// Does something, and ends the machine at the moments that it passes.
    fn pass(
        &mut self,
        world: &mut World,
        told: &str,
        act: impl FnOnce(&mut World) -> dostore::error::Result<()>,
    ) -> Told<()> {
        let is_asked = self.chance.percent(50);
        let moments = world.watched(is_asked, |world| match act(world) {
            // What is wanted may have expired; what may and what may not is asked elsewhere.
            Err(error) if error.kind() == ErrorKind::NotRetained => Ok(()),
            done => done,
        });
        let moments = moments.map_err(|error| format!("{told}: {error:?}"))?;
        for moment in moments.iter().chain([&world.now()]) {
            self.counts.moments += 1;
            self.end(world, moment, 0).map_err(|what| format!("in {told}, {what}"))?;
        }
        Ok(())
    }

    /// Some of the ends that a machine may find at a moment.
    fn end(&mut self, world: &World, moment: &Moment, depth: u64) -> Told<()> {
        for _ in 0..ENDS {
            let (disk, is_kill) = self.ended(&moment.disk);
            let range = moment.range.clone();
            if !self.known.insert((disk.content_hash(), range.clone(), is_kill)) {
                continue;
            }
            self.counts.crashes += 1;
            self.counts.kills += u64::from(is_kill);
            self.counts.in_recovery += u64::from(depth > 0);
            let left = Left { world, disk: disk.clone(), range, depth };
            self.examine(&left).map_err(|what| {
                let met = disk.fault_log().into_iter().rev().take(2 + depth as usize);
                format!("{what} ({:?})", met.collect::<Vec<_>>())
            })?;
        }
        Ok(())
    }

    /// What is left of a machine; whether its page cache is.
    fn ended(&mut self, disk: &SimDisk) -> (SimDisk, bool) {
        let left = disk.fork();
        left.reseed(self.chance.next());
        if self.chance.percent(12) { (left, true) } else { (left.power_cut(), false) }
    }

    fn examine(&mut self, left: &Left<'_>) -> Told<()> {
        let Left { world, disk, range, depth } = left;
        let is_recut = *depth < DEPTH && self.chance.percent(RECUT);
        if is_recut {
            disk.keep_moments();
        }
        let store = world.open_left(disk)?;
        let (first, last) = world.place_of(&store, range.clone())?;
        if is_recut {
            let passed = disk.take_moments();
            let passed = passed.into_iter().map(|kept| (kept.disk, range.clone()));
            // What was shown stays.
            let shown = (disk.fork(), first..last + 1);
            let mut moments: Vec<_> = passed.collect();
            let drawn = self.chance.index(moments.len().max(1));
            moments = moments.into_iter().skip(drawn).take(1).chain([shown]).collect();
            for (disk, range) in moments {
                let moment = Moment { disk, range };
                self.end(world, &moment, depth + 1).map_err(|what| format!("recut, {what}"))?;
            }
        }
        for _ in 0..PASTS {
            self.compare_a_past(world, &store, (first, last))?;
        }
        if self.chance.percent(VERIFIED) {
            self.counts.verified += 1;
            world::check_whole(disk)?;
        }
        if self.chance.percent(GOING_ON) {
            world::go_on(&store)?;
        }
        Ok(())
    }

    /// Compares an object as of one of its commits, or finds it refused for the right reason.
    fn compare_a_past(
        &mut self,
        world: &World,
        store: &Store,
        (first, last): (usize, usize),
    ) -> Told<()> {
        if world.pasts.is_empty() {
            return Ok(());
        }
        let past = &world.pasts[self.chance.index(world.pasts.len())];
        // Whether a commit is there that changes nothing of what was before is not seen.
        if first < past.index && past.index <= last {
            return Ok(());
        }
        let told = |what: &str| format!("object {} as of {}: {what}", past.object, past.bookmark);
        let rooms = store.namespace("rooms").map_err(|error| told(&format!("{error:?}")))?;
        let id = rooms.id_from_name(&world::name(past.object));
        let read = rooms.at(id, &past.bookmark).and_then(|view| world::keys_of(&view));
        self.counts.pasts += 1;
        if past.index > last {
            return match read {
                Err(error) if error.code() == "bookmark.lost" => Ok(()),
                other => Err(told(&format!("a crash took it, and it is {other:?}"))),
            };
        }
        // Nor is whether a purge is there of what had nothing.
        let from = rooms.history_from();
        let refusals: Vec<_> = (first..=last).map(|at| world.refusal(past, at, from)).collect();
        match read {
            Ok(keys) if refusals.contains(&None) => {
                if keys != world.then(past).0 {
                    return Err(told(&format!("it has {} keys, or others", keys.len())));
                }
                self.counts.keys += keys.len() as u64 + 1;
                Ok(())
            }
            Err(error) if refusals.contains(&Some(error.code())) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotRetained => {
                // What has nothing may be forgotten, its purge too.
                let state = &world.states[last].1;
                let is_nothing = !state.contains_key(&past.object);
                let codes = ["history.expired", "history.off"];
                let is_right = is_nothing && codes.contains(&error.code());
                if is_right { Ok(()) } else { Err(told(&format!("{error:?}, not {refusals:?}"))) }
            }
            read => Err(told(&format!("{read:?}, not {refusals:?}"))),
        }
    }

    /// Two machines go on from the same moment, as after a restored snapshot of one of them; then
    /// one block of the log of the first stands in the log of the second. No checksum of the block
    /// itself shows it.
    fn mix_two_pasts(&mut self, world: &World) -> Told<()> {
        let went_on = |first: u64| {
            let mut world = world.fork();
            let done = world.open().and_then(|()| {
                world.begin_counting_at(first);
                (0..5).try_for_each(|_| {
                    world.put(0, 1, 8)?;
                    world.act(Step::Wait)
                })
            });
            world.drop_store();
            done.map_err(|error| format!("two pasts: {error:?}"))?;
            Ok::<_, String>(world)
        };
        let (one, other) = (went_on(1_000)?, went_on(2_000)?);
        let disk = one.disk.fork();
        let logs = disk.names().into_iter().filter(|name| matches!(name, FileName::Wal(_)));
        for name in logs {
            let (Some(mut mine), Some(its)) = (disk.file_bytes(name), other.disk.file_bytes(name))
            else {
                continue;
            };
            let blocks = mine.chunks(BLOCK).zip(its.chunks(BLOCK)).enumerate();
            let differing: Vec<_> =
                blocks.filter(|(_, (mine, its))| mine != its).map(|(at, _)| at).collect();
            // The header differs where the two have drawn different salts.
            if differing.len() < 3 || differing[0] == 0 {
                continue;
            }
            let at = differing[self.chance.index(differing.len() - 1)] * BLOCK;
            mine[at..at + BLOCK].copy_from_slice(&its[at..at + BLOCK]);
            disk.replace_file_bytes(name, mine);
            self.counts.forged += 1;
            let opened = one.options.clone().open_on(disk.clone());
            return match opened {
                Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
                Err(error) => Err(format!("a block of another past: {error:?}")),
                Ok(store) => one
                    .place_of(&store, one.range())
                    .map(drop)
                    .map_err(|what| format!("a block of another past, at {at} of {name}: {what}")),
            };
        }
        Ok(())
    }

    /// The machine ends and starts again. False where it cannot be known what was lost.
    fn begin_anew(&mut self, world: &mut World) -> Told<bool> {
        world.drop_store();
        (world.disk, _) = self.ended(&world.disk);
        let left = world.fork();
        let store = left.open_left(&left.disk)?;
        let (first, last) = world.place_of(&store, world.range())?;
        drop(store);
        world.disk = left.disk.kill();
        if first == last {
            world.go_back_to(first);
        }
        Ok(first == last)
    }
}

#[test]
fn every_crash_of_a_random_sequence_leaves_one_of_its_commits() {
    let (from, seeds) = (number("DOSTORE_FIRST_SEED", 0), number("DOSTORE_STATES_SEEDS", SEEDS));
    let total = Mutex::new(Counts::default());
    let run = |number: usize| {
        let chance = Chance::new(number as u64);
        let mut seed = Seed { chance, counts: Counts::default(), known: HashSet::new() };
        let ran = seed.run();
        total.lock().unwrap().add(&seed.counts);
        ran.map_err(|what| format!("seed {number}: {what}"))
    };
    let wrong = on_all_cores((from, 1, from + seeds), run);
    let counts = total.into_inner().unwrap();
    println!("{seeds} seeds from {from}: {counts:?}");
    ledger::add(&Row {
        kind: "crash-states",
        seeds: format!("{seeds} from {from}"),
        crashes: counts.crashes,
        faults: counts.forged,
        executions: counts.crashes + counts.forged,
        failures: wrong.len() as u64,
    });
    let lowest = wrong[..wrong.len().min(9)].join("\n");
    assert!(wrong.is_empty(), "{} seeds are wrong:\n{lowest}", wrong.len());
    // A campaign that never came to one of these has not looked.
    let Counts { kills, in_recovery, verified, keys, forged, .. } = counts;
    let least = kills.min(in_recovery).min(verified).min(keys).min(forged);
    assert!(seeds < SEEDS || least > 0, "{counts:?}");
}

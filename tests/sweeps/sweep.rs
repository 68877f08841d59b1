//! Every call of every scenario goes wrong in every way, once; and every call of the recovery that
//! follows a crash.

use crate::ledger::{self, Row};
use crate::steps::{SCENARIOS, Step};
use crate::world::{World, base};
use crate::{number, on_all_cores};
use dostore::disk::sim::{Crash, Fault, KeepLength, KeepNames, KeepSectors};

/// Of so many cases one is tried, if nothing else is said. Prime.
const STRIDE: usize = 151;
/// Scenarios of which recovery is swept too, and crashes of each call of them.
const WITH_RECOVERY: usize = 12;
const CRASHES: usize = 3;

/// What a power cut leaves, in eight ways.
const PATTERNS: [Crash; 8] = {
    use {KeepLength as Length, KeepNames as Names, KeepSectors as Keep};
    const fn crash(sectors: KeepSectors, length: KeepLength, names: KeepNames) -> Crash {
        Crash { sectors, length, names }
    }
    [
        crash(Keep::Nothing, Length::Old, Names::Nothing),
        crash(Keep::Everything, Length::New, Names::Everything),
        crash(Keep::Half, Length::Any, Names::Prefix),
        crash(Keep::Prefix, Length::New, Names::Everything),
        crash(Keep::Suffix, Length::New, Names::Everything),
        crash(Keep::AllButOne, Length::New, Names::AnySubset),
        crash(Keep::OnlyOne, Length::Old, Names::Everything),
        crash(Keep::Everything, Length::New, Names::Nothing),
    ]
};

/// How a call goes wrong.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Once(Fault),
    /// And all calls behind it.
    Always(Fault),
    /// It is the last, and may take effect in part.
    Torn(Crash),
    /// None from it on takes effect; the page cache stays.
    Killed,
}

/// All but that a call is interrupted, which nothing is for ever.
const FOR_EVER: [Fault; 6] =
    [Fault::Io, Fault::NoSpace, Fault::Quota, Fault::Descriptors, Fault::ReadOnly, Fault::Short];
const FAULTS: usize = Fault::ALL.len() + FOR_EVER.len();
const MODES: usize = FAULTS + PATTERNS.len() + 1;

impl Mode {
    fn of(number: usize) -> Self {
        let once = Fault::ALL.len();
        match number {
            _ if number < once => Self::Once(Fault::ALL[number]),
            _ if number < FAULTS => Self::Always(FOR_EVER[number - once]),
            _ => PATTERNS.get(number - FAULTS).map_or(Self::Killed, |crash| Self::Torn(*crash)),
        }
    }

    fn is_crash(self) -> bool {
        matches!(self, Self::Torn(_) | Self::Killed)
    }

    /// Before call `call` from now.
    fn arm(self, world: &World, call: usize) {
        let call = call as u64;
        match self {
            Self::Once(fault) => world.disk.fail_call(call, fault),
            Self::Always(fault) => world.disk.fail_from(call, fault),
            Self::Torn(_) => world.disk.crash_after(call - 1),
            Self::Killed => world.disk.cut_after(call - 1),
        }
    }

    /// The end of the process, and of what was wrong.
    fn end(self, world: &mut World, call: usize) {
        world.drop_store();
        world.disk = match self {
            Self::Torn(crash) => world.disk.power_cut_keeping(crash),
            Self::Once(_) | Self::Always(_) if call.is_multiple_of(2) => world.disk.power_cut(),
            _ => world.disk.kill(),
        };
    }
}

/// Calls of each scenario when nothing fails.
fn lengths() -> Vec<usize> {
    let length = |steps: &&[Step]| {
        let mut world = base();
        let before = world.disk.calls();
        world.run(steps).unwrap();
        let calls = world.disk.calls() - before;
        world.drop_store();
        world.disk = world.disk.kill();
        world.check().unwrap();
        calls as usize
    };
    SCENARIOS.iter().map(length).collect()
}

/// A case by its number: the scenario, the call, and how it goes wrong.
fn case(lengths: &[usize], mut number: usize) -> (usize, usize, Mode) {
    for (scenario, calls) in lengths.iter().enumerate() {
        if number < calls * MODES {
            return (scenario, number / MODES + 1, Mode::of(number % MODES));
        }
        number -= calls * MODES;
    }
    panic!("there is no case of this number");
}

#[test]
fn whatever_call_goes_wrong_nothing_is_lost_and_the_store_goes_on() {
    let lengths = lengths();
    let cases = lengths.iter().sum::<usize>() * MODES;
    let (from, stride) = (number("DOSTORE_SWEEP_FROM", 0), number("DOSTORE_SWEEP", STRIDE));
    let run = |number: usize| {
        let (scenario, call, mode) = case(&lengths, number);
        let mut world = base();
        mode.arm(&world, call);
        let ran = world.run(SCENARIOS[scenario]);
        let met = world.disk.fault_log().into_iter().next_back().unwrap_or_default();
        mode.end(&mut world, call);
        let steps = SCENARIOS[scenario];
        let told = |what| format!("{steps:?}, call {call}, {mode:?}, {met}: {what}");
        ran.and_then(|()| world.check()).map_err(told)
    };
    let wrong = on_all_cores((from, stride, cases), run);
    let executions = cases.saturating_sub(from).div_ceil(stride) as u64;
    println!("{executions} of {cases} cases, {} calls", lengths.iter().sum::<usize>());
    let crashes = executions * (PATTERNS.len() as u64 + 1) / MODES as u64;
    let seeds = format!("every {stride} from {from}");
    let faults = executions - crashes;
    end(Row { kind: "sweep", seeds, crashes, faults, executions, ..Row::default() }, &wrong);
}

/// Ends a campaign: enters it into the ledger, and fails where anything was wrong.
#[track_caller]
fn end(row: Row, wrong: &[String]) {
    let count = wrong.len();
    ledger::add(&Row { failures: count as u64, ..row });
    assert!(wrong.is_empty(), "{count} are wrong:\n{}", wrong[..count.min(9)].join("\n"));
}

/// An object that has an alarm and no page was taken for one that had lost its first page, and the
/// commits behind it with it, when a read of the directory failed once.
#[test]
fn a_call_that_fails_once_in_a_checkpoint_loses_nothing() {
    let steps = [Step::Checkpoint];
    let number = SCENARIOS.iter().position(|scenario| **scenario == steps).unwrap();
    for call in 1..=lengths()[number] {
        let mut world = base();
        Mode::Once(Fault::Io).arm(&world, call);
        let ran = world.run(&steps);
        Mode::Killed.end(&mut world, call);
        ran.and_then(|()| world.check()).unwrap_or_else(|what| panic!("call {call}: {what}"));
    }
}

/// A first crash, a second fault at each call of the recovery behind it, and a third life.
fn recover(scenario: usize, call: usize, first: Mode, run: &mut u64) -> Result<(), String> {
    let mut crashed = base();
    first.arm(&crashed, call);
    crashed.run(SCENARIOS[scenario])?;
    first.end(&mut crashed, call);
    let calls = {
        let mut world = crashed.fork();
        let before = world.disk.calls();
        world.open().map_err(|error| format!("recovery: {error:?}"))?;
        (world.disk.calls() - before) as usize
    };
    for second in 1..=calls {
        // The second way differs from call to call, and from crash to crash.
        let mode = Mode::of((second * 5 + call) % MODES);
        let mut world = crashed.fork();
        mode.arm(&world, second);
        let told = |what| format!("call {second} of recovery, {mode:?}: {what}");
        world.run(&[]).map_err(told)?;
        mode.end(&mut world, second);
        world.check().map_err(told)?;
        *run += 1;
    }
    Ok(())
}

#[test]
fn whatever_goes_wrong_in_the_recovery_behind_a_crash_nothing_is_lost() {
    let lengths: Vec<_> = lengths().into_iter().take(WITH_RECOVERY).collect();
    let cases = lengths.iter().sum::<usize>() * CRASHES;
    let (from, stride) = (number("DOSTORE_SWEEP_FROM", 0), number("DOSTORE_SWEEP", STRIDE));
    let ran = std::sync::Mutex::new(0);
    let run = |number: usize| {
        let call_case = number / CRASHES * MODES;
        let (scenario, call, _) = case(&lengths, call_case);
        let first = Mode::of(FAULTS + (number * 4 + call) % (PATTERNS.len() + 1));
        assert!(first.is_crash());
        let mut count = 0;
        let told = |what| format!("{:?}, call {call}, {first:?}, {what}", SCENARIOS[scenario]);
        let done = recover(scenario, call, first, &mut count).map_err(told);
        *ran.lock().unwrap() += count;
        done
    };
    let wrong = on_all_cores((from, stride, cases), run);
    let executions = ran.into_inner().unwrap();
    println!(
        "{executions} second faults behind {} crashes",
        cases.saturating_sub(from).div_ceil(stride)
    );
    let (kind, seeds) = ("sweep-recovery", format!("every {stride} from {from}"));
    let crashes = cases.saturating_sub(from).div_ceil(stride) as u64;
    let faults = executions;
    end(Row { kind, seeds, crashes, faults, executions, ..Row::default() }, &wrong);
}

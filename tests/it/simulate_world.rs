//! One simulated machine with a store on it, and the model beside it: opening, crashing, comparing.
//!
//! Invariants:
//!   * Every error of the store is judged: it is allowed only where something was made to go wrong.
//!   * After each opening the store equals the model after a prefix of all commits, in the order of
//!     their LSNs; the prefix holds everything that was ever shown to be durable.

use super::chance::Chance;
use super::model::ObjectModel;
use super::simulate_checks::{self, Fault};
use super::simulate_events::{Event, Events, Opening, opening};
use super::simulate_plan::{Plan, Weather};
use super::simulate_retention::Purged;
use dostore::disk::sim::{Faults, SimDisk};
use dostore::error::{Error, ErrorKind};
use dostore::ids::{Lsn, Timestamp};
use dostore::inspect::verify::verify;
use dostore::retention::Retention;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why a life ends.
#[derive(Debug)]
pub enum Stop {
    /// The power has failed.
    Crashed,
    /// The store says that it must be opened again.
    Poisoned,
    /// The store is wrong.
    Violation(String),
}

pub type Outcome<T = ()> = Result<T, Stop>;

/// What the store was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    Turns,
    Checkpoint,
    Clean,
    Merge,
    OtherStep,
    Close,
    Recovery,
}

/// What a campaign counts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Power failures, kills and ends without a close, by what the store was doing.
    pub crashes: BTreeMap<Activity, u64>,
    pub poisoned: u64,
    pub opens: u64,
    pub commits: u64,
    pub reads: u64,
    /// Keys compared at moments of the past.
    pub past: u64,
    pub errors: u64,
    pub damages: u64,
    /// Values of purged objects that were looked for in all files.
    pub looked_for: u64,
    pub calls: u64,
    /// Seeds, by what happened in them before moments of the past were compared.
    pub seeds: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        for (activity, count) in &other.crashes {
            *self.crashes.entry(*activity).or_default() += count;
        }
        self.poisoned += other.poisoned;
        self.opens += other.opens;
        self.commits += other.commits;
        self.reads += other.reads;
        self.past += other.past;
        self.errors += other.errors;
        self.damages += other.damages;
        self.looked_for += other.looked_for;
        for (what, count) in &other.seeds {
            *self.seeds.entry(what).or_default() += count;
        }
        self.calls += other.calls;
    }

    pub fn cycles(&self) -> u64 {
        self.crashes.values().sum()
    }

    pub fn crashes_in(&self, activities: &[Activity]) -> u64 {
        activities.iter().filter_map(|activity| self.crashes.get(activity)).sum()
    }
}

/// The running store.
pub struct Running {
    /// Before the store, so that they are dropped first.
    pub handles: BTreeMap<usize, Object>,
    pub namespaces: Vec<Namespace>,
    pub store: Store,
}

#[expect(clippy::struct_excessive_bools, reason = "what may fail is several independent facts")]
pub struct World {
    pub disk: SimDisk,
    pub chance: Chance,
    pub plan: Plan,
    pub counts: Counts,
    pub objects: Vec<ObjectModel>,
    /// Everything up to here was shown to be durable.
    pub floor: Lsn,
    /// No commit was ever given a later LSN than this.
    pub issued: Lsn,
    /// The same, since the store was opened.
    pub issued_here: Lsn,
    pub last_time: Timestamp,
    pub running: Option<Running>,
    pub activity: Activity,
    /// Whether calls may fail now, by chance or for want of space.
    pub has_faults: bool,
    pub is_short_of_space: bool,
    /// Whether any call could have failed since the store was opened.
    pub had_faults: bool,
    /// Syncs that had told of an earlier failure when the store was opened.
    late_before: u64,
    /// Whether a checkpoint failed: the next one tries the same commits again, and no later ones.
    pub has_open_cut: bool,
    /// Calls that each activity took the last time.
    pub calls_of: BTreeMap<Activity, u64>,
    /// What has happened in this seed.
    pub seen: BTreeSet<&'static str>,
    /// The settings of namespaces, and those that failed: the next open tells.
    pub retentions: Vec<Option<Retention>>,
    pub retentions_tried: Vec<(usize, Option<Retention>)>,
    /// Purges whose bytes may still be there; what may not be there any more.
    pub purges: Vec<Purged>,
    pub erased: Vec<Vec<u8>>,
    /// Values that are in several objects, by owner and version.
    pub shared: BTreeSet<(Option<usize>, u64)>,
    /// The disk of the last backup.
    pub backup: Option<SimDisk>,
    pub events: Events,
    namespaces_made: bool,
    is_verbose: bool,
    journal: VecDeque<String>,
}

const JOURNAL_LINES: usize = 80;
/// Bytes free where nothing is said about space.
const SPACE: u64 = 1 << 40;

/// The name of a simulated namespace.
pub fn namespace_name(index: usize) -> String {
    format!("namespace {index}")
}

impl World {
    /// A new machine; of the events of the seed only these happen, if any are given.
    pub fn new(seed: u64, only: Option<BTreeSet<Event>>, is_verbose: bool) -> Self {
        let (disk, plan) = (SimDisk::new(seed), Plan::drawn(seed));
        Self::of(disk, plan, Chance::new(seed), Events::new(seed, only), is_verbose)
    }

    /// A short one, in which an input says what is drawn.
    pub fn said(input: &[u8]) -> Self {
        let mut chance = Chance::said(input);
        let plan = Plan::short(&mut chance);
        Self::of(SimDisk::new(0), plan, chance, Events::new(0, None), false)
    }

    fn of(disk: SimDisk, plan: Plan, chance: Chance, events: Events, is_verbose: bool) -> Self {
        Self {
            disk,
            chance,
            plan,
            counts: Counts::default(),
            objects: Vec::new(),
            floor: Lsn::ZERO,
            issued: Lsn::ZERO,
            issued_here: Lsn::ZERO,
            last_time: Timestamp(0),
            running: None,
            activity: Activity::Recovery,
            has_faults: false,
            is_short_of_space: false,
            had_faults: false,
            late_before: 0,
            has_open_cut: false,
            calls_of: BTreeMap::new(),
            seen: BTreeSet::new(),
            retentions: Vec::new(),
            retentions_tried: Vec::new(),
            purges: Vec::new(),
            erased: Vec::new(),
            shared: BTreeSet::new(),
            backup: None,
            events,
            namespaces_made: false,
            is_verbose,
            journal: VecDeque::new(),
        }
    }

    /// Whether the event with this number in this life happens. What it draws is its own.
    pub fn happens(&mut self, number: u64) -> bool {
        let Some(seed) = self.events.begin(number) else { return false };
        self.chance.reseed(seed);
        self.disk.reseed(seed);
        true
    }

    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let line = format!("[call {}] {what}", self.disk.calls());
        if self.is_verbose {
            eprintln!("{line}");
        }
        if self.journal.len() == JOURNAL_LINES {
            self.journal.pop_front();
        }
        self.journal.push_back(line);
    }

    /// What happened lately, for whoever must find out why.
    pub fn story(&self) -> String {
        let mut story = format!("{:#?}\n-- last actions\n", self.plan.weather);
        for line in &self.journal {
            story.push_str(line);
            story.push('\n');
        }
        story.push_str("-- what went wrong on the disk\n");
        for line in self.disk.fault_log().iter().rev().take(60).rev() {
            story.push_str(line);
            story.push('\n');
        }
        story
    }

    pub fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the store is open")
    }

    /// Whether the store may say so; if it may, what follows from it.
    pub fn judge(&mut self, what: &str, error: &Error) -> Outcome {
        self.counts.errors += 1;
        if self.disk.is_off() {
            return Err(Stop::Crashed);
        }
        self.note(format_args!("{what} fails: {error:?}"));
        let was_told_late = self.disk.late_errors() > self.late_before;
        let is_allowed = match error.kind() {
            ErrorKind::Poisoned => self.had_faults || was_told_late,
            ErrorKind::Io => self.has_faults || was_told_late,
            // Two bulks in one turn are more than a commit may hold.
            ErrorKind::Invalid => matches!(error.code(), "limit.operations" | "limit.commit"),
            ErrorKind::Full => self.has_faults || self.is_short_of_space,
            // A read that fails twice in a row.
            ErrorKind::Corrupt => self.has_faults && error.code().ends_with(".unreadable"),
            _ => false,
        };
        if !is_allowed {
            return Err(Stop::Violation(format!("{what} fails without a cause: {error:?}")));
        }
        if error.kind() == ErrorKind::Poisoned { Err(Stop::Poisoned) } else { Ok(()) }
    }

    /// A read: wrong answers are violations, errors are judged.
    pub fn judge_read(&mut self, what: &str, read: Result<(), Fault>) -> Outcome {
        self.counts.reads += 1;
        match read {
            Ok(()) => Ok(()),
            Err(Fault::Wrong(wrong)) => Err(Stop::Violation(format!("{what}: {wrong}"))),
            Err(Fault::Refused(error)) => self.judge(what, &error),
        }
    }

    /// Calls go wrong from now on, as the seed's weather says; or not any more.
    pub fn set_faults(&mut self, on: bool) {
        let mut faults = Faults::none();
        match self.plan.weather {
            Weather::Stormy if on => faults = Faults::drawn(self.chance.next()),
            Weather::Syncs if on => {
                faults.sync = 0.02;
                faults.sync_folder = self.chance.pick(&[0.0, 0.02]);
                faults.sync_folder_loses = self.chance.pick(&[0.0, 0.5, 1.0]);
                faults.sync_reverts = self.chance.pick(&[0.0, 0.5]);
                if self.chance.percent(50) {
                    (faults.write_back, faults.write_back_fails) = (0.5, 0.1);
                }
            }
            _ => {}
        }
        self.has_faults = faults != Faults::none();
        self.had_faults |= self.has_faults;
        self.disk.set_faults(faults);
    }

    /// All that is written is written back at once, and that fails.
    pub fn fail_write_back(&mut self) {
        (self.has_faults, self.had_faults) = (true, true);
        let faults = Faults { write_back: 1.0, write_back_fails: 1.0, ..Faults::none() };
        self.disk.set_faults(faults);
    }

    /// The next bytes are the last; or there are plenty again.
    pub fn limit_space(&mut self, bytes: Option<u64>) {
        self.is_short_of_space = bytes.is_some();
        self.had_faults |= self.is_short_of_space;
        self.disk.set_free_bytes(bytes.unwrap_or(SPACE));
    }

    /// Everything that the store calls durable now survives from here on.
    pub fn note_durable(&mut self) {
        if let Some(running) = &self.running {
            self.floor = self.floor.max(running.store.durable().min(self.issued_here));
        }
    }

    /// The process ends, or the machine does.
    pub fn crash(&mut self, with_power: bool) {
        self.note_durable();
        self.seen.insert("a crash");
        *self.counts.crashes.entry(self.activity).or_default() += 1;
        let is_off = self.disk.is_off();
        let drop_first = self.chance.percent(30);
        if drop_first {
            self.running = None;
        }
        // What ended in the middle of a call was the machine, or the process alone.
        let cut = if is_off { self.chance.percent(75) } else { with_power };
        let next = if cut { self.disk.power_cut() } else { self.disk.kill() };
        self.disk = next;
        self.running = None;
        let how = if cut { "power cut" } else { "kill" };
        let (during, floor) = (self.activity, self.floor);
        self.note(format_args!("{how} during {during:?}; durable up to {floor}"));
    }

    /// Opens the store, however often it crashes meanwhile, and compares it with the model.
    pub fn open(&mut self) -> Outcome {
        for attempt in 0.. {
            match self.open_once(attempt, attempt < 5) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Stop::Crashed) => self.crash(true),
                Err(Stop::Poisoned) => {
                    let with_power = self.chance.percent(50);
                    self.crash(with_power);
                }
                Err(violation) => return Err(violation),
            }
        }
        Ok(())
    }

    /// Opens a store that nothing disturbs: it must open.
    pub fn open_undisturbed(&mut self) -> Outcome {
        for attempt in 0.. {
            if self.open_once(attempt, false)? {
                self.set_faults(false);
                return Ok(());
            }
            if self.disk.late_errors() == self.late_before {
                break;
            }
        }
        Err(Stop::Violation("a store that nothing disturbs does not open".to_owned()))
    }

    fn open_once(&mut self, attempt: u64, may_fail: bool) -> Outcome<bool> {
        self.activity = Activity::Recovery;
        self.issued_here = Lsn::ZERO;
        self.has_open_cut = false;
        self.had_faults = self.is_short_of_space;
        self.late_before = self.disk.late_errors();
        let may_meet_faults = may_fail && self.happens(opening(attempt, Opening::Faults));
        let with_faults = may_meet_faults && self.chance.percent(40);
        self.set_faults(with_faults);
        if !may_fail {
            self.limit_space(None);
        }
        let before = self.disk.calls();
        if may_fail && self.happens(opening(attempt, Opening::Cut)) && self.chance.percent(20) {
            let most = self.calls_of.get(&Activity::Recovery).copied().unwrap_or(60);
            let calls = self.chance.below(most + most / 8 + 2);
            self.disk.crash_after(calls);
        }
        let options = self.plan.options(&mut self.chance);
        self.counts.opens += 1;
        let store = match options.open_on(self.disk.clone()) {
            Ok(store) => store,
            Err(error) => {
                self.judge("opening", &error)?;
                return Ok(false);
            }
        };
        if !store.report().created {
            self.calls_of.insert(Activity::Recovery, self.disk.calls() - before);
        }
        let (report, durable) = (store.report().clone(), store.durable());
        self.note(format_args!("open: {report:?}, durable up to {durable}"));
        self.activity = Activity::Turns;
        store.steps().hold_pieces(self.chance.pick(&[0, 4 << 10, 16 << 10]));
        let namespaces = Vec::new();
        self.running = Some(Running { handles: BTreeMap::new(), namespaces, store });
        self.set_faults(false);
        if !self.open_namespaces()? {
            self.running = None;
            return Ok(false);
        }
        self.check_recovered()?;
        self.verify()?;
        self.check_listing()?;
        let has_weather = self.happens(opening(attempt, Opening::Weather));
        let with_faults = has_weather && self.chance.percent(60);
        self.set_faults(with_faults);
        Ok(true)
    }

    /// Looks for the namespaces, and makes them in the first life.
    fn open_namespaces(&mut self) -> Outcome<bool> {
        let store = self.running().store.clone();
        let known = store.namespaces();
        for index in 0..self.plan.namespaces {
            let name = namespace_name(index);
            let is_known = known.iter().any(|namespace| namespace.name() == name);
            if self.namespaces_made && !is_known {
                return Err(Stop::Violation(format!("{name} is gone")));
            }
            match store.namespace(&name) {
                Ok(namespace) => self.running().namespaces.push(namespace),
                Err(error) => {
                    self.judge("making a namespace", &error)?;
                    return Ok(false);
                }
            }
        }
        if !self.namespaces_made {
            self.namespaces_made = true;
            self.retentions = vec![None; self.plan.namespaces];
            self.make_objects();
        }
        self.check_retentions()?;
        Ok(true)
    }

    fn make_objects(&mut self) {
        let plans = self.plan.objects.clone();
        for (index, plan) in plans.iter().enumerate() {
            let name = format!("object {index}");
            let id = self.running().namespaces[plan.namespace].id_from_name(&name);
            let name = plan.is_named.then_some(name);
            self.objects.push(ObjectModel::new(index, plan.namespace, id, name));
        }
    }

    /// The heart of it: what is there is what a prefix of all commits makes.
    fn check_recovered(&mut self) -> Outcome {
        let mut views = Vec::new();
        for index in 0..self.objects.len() {
            let (namespace, id) = (self.objects[index].namespace, self.objects[index].id);
            match self.running().namespaces[namespace].snapshot(id) {
                Ok(view) => views.push(view),
                Err(error) => {
                    self.judge("a snapshot after opening", &error)?;
                    return Err(Stop::Violation(format!(
                        "no snapshot of object {index}: {error:?}"
                    )));
                }
            }
        }
        let shown = views.iter().map(dostore::store::snapshot::Snapshot::last_lsn).max();
        let last = self.floor.max(shown.unwrap_or_default());
        let times = views.iter().map(dostore::store::snapshot::Snapshot::last_time);
        self.last_time = times.max().unwrap_or_default();
        if last > self.issued {
            return Err(Stop::Violation(format!("LSN {last} was never given to a commit")));
        }
        if last > self.floor {
            self.note(format_args!("survived beyond what was durable: up to {last}"));
        }
        self.floor = last;
        self.forget_lost_purges();
        for (index, view) in views.iter().enumerate() {
            let object = &mut self.objects[index];
            object.truncate(last);
            let (found, right) = (view.last_lsn(), object.last_lsn());
            // An object without content may be forgotten with its last commit.
            if found != right && !(object.now().is_empty() && found == Lsn::ZERO) {
                let what = format!("object {index} is at {found}, not at {right}; end is {last}");
                return Err(Stop::Violation(what));
            }
            let read = simulate_checks::check_all(view, (index, object.now()));
            let told = format!("after opening, up to {last}");
            self.judge_read(&told, read)?;
        }
        Ok(())
    }

    /// Every structure on the disk, checked against every other.
    fn verify(&mut self) -> Outcome {
        let report = verify(self.disk.clone());
        if self.disk.is_off() {
            return Err(Stop::Crashed);
        }
        match report.faults.first() {
            None => Ok(()),
            Some(fault) => Err(Stop::Violation(format!("verify finds {fault}"))),
        }
    }

    /// The listing of each namespace against the model.
    pub fn check_listing(&mut self) -> Outcome {
        for namespace in 0..self.plan.namespaces {
            let listed = self.running().namespaces[namespace].objects();
            let mut found = BTreeMap::new();
            let mut last = None;
            for info in listed {
                let info = match info {
                    Ok(info) => info,
                    Err(error) => return self.judge("listing objects", &error),
                };
                if last.is_some_and(|last| last >= info.id) {
                    return Err(Stop::Violation(format!("listing out of order at {}", info.id)));
                }
                last = Some(info.id);
                found.insert(info.id, info);
            }
            self.note_durable();
            for object in self.objects.iter().filter(|object| object.namespace == namespace) {
                let info = found.remove(&object.id);
                check_info(object, info.as_ref()).map_err(Stop::Violation)?;
            }
            if let Some(id) = found.keys().next() {
                return Err(Stop::Violation(format!("{id} is listed and never was")));
            }
        }
        Ok(())
    }
}

fn check_info(
    object: &ObjectModel,
    info: Option<&dostore::store::objects::ObjectInfo>,
) -> Result<(), String> {
    let (index, map) = (object.index, object.now());
    let Some(info) = info else {
        let told = format!("object {index} with {} keys is not listed", map.len());
        return if map.is_empty() { Ok(()) } else { Err(told) };
    };
    let bytes: usize = map.iter().map(|(key, content)| key.len() + content.bytes).sum();
    let is_counted = info.keys == map.len() as u64 && info.bytes == bytes as u64;
    if map.is_empty() && !info.is_approximate {
        return Err(format!("object {index} without keys is listed: {info:?}"));
    }
    if !info.is_approximate && !is_counted {
        return Err(format!("object {index}: {info:?}, not {} keys, {bytes} bytes", map.len()));
    }
    if info.last_lsn != object.last_lsn() {
        return Err(format!("object {index} is listed at {}", info.last_lsn));
    }
    // What has nothing may be forgotten with its name, and a wish for it taken back by its id.
    let is_forgotten = map.is_empty() && info.name.is_none();
    let is_named = is_forgotten || object.name.is_none() == info.name.is_none();
    if !is_named || info.name.as_ref().is_some_and(|name| Some(name) != object.name.as_ref()) {
        return Err(format!("object {index} is listed by the name {:?}", info.name));
    }
    Ok(())
}

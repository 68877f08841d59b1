//! The replay: one turn for each file that a commit touches, many on their way at once.
//!
//! Invariants:
//!   * Turns are committed in the order of the log, in each round.
//!   * What the store has already is left alone: an object says which commit it saw last.
//!   * At most `window` commits are not known durable; handles that are open are bounded too.

use super::Outcome;
use super::git::Repository;
use super::layout;
use super::log::{Change, Commit, Event, Log};
use dostore::ids::Lsn;
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::turn::Turn;
use indicatif::ProgressBar;
use std::collections::{HashMap, VecDeque};
use std::io::Write;

/// Handles kept open: those used last, twice this many at most.
const HANDLES: usize = 1024;

/// What a replay did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replayed {
    /// Turns committed, all durable.
    pub turns: u64,
    /// Turns that the store had already.
    pub skipped: u64,
}

/// Where each durable turn is told, as `round TAB turns TAB name`.
pub type Acknowledgements<'a> = Option<&'a mut dyn Write>;

/// Objects of one round by path.
type Handles = HashMap<(usize, Vec<u8>), Object>;

/// A replay into an open store.
#[derive(Debug)]
pub struct Replay {
    store: Store,
    rounds: Vec<Namespace>,
    young: Handles,
    old: Handles,
    flying: VecDeque<Flight>,
    window: usize,
    done: Replayed,
}

/// A turn that is not known durable.
#[derive(Debug)]
struct Flight {
    lsn: Lsn,
    round: usize,
    turns: u64,
    /// Empty where nobody wants to know.
    name: String,
}

impl Replay {
    /// A replay into namespaces of its own.
    pub fn new(store: &Store, rounds: u32, window: usize) -> Outcome<Self> {
        let rounds = (1..=rounds).map(|round| store.namespace(&layout::namespace_name(round)));
        Ok(Self {
            store: store.clone(),
            rounds: rounds.collect::<Result<_, _>>()?,
            young: Handles::new(),
            old: Handles::new(),
            flying: VecDeque::new(),
            window,
            done: Replayed::default(),
        })
    }

    /// Replays the log to its end; all of it is durable then. `begins` is called before each turn,
    /// with the number of its commit.
    pub fn run(
        &mut self,
        repository: &Repository,
        progress: &ProgressBar,
        mut told: Acknowledgements<'_>,
        begins: &mut dyn FnMut(u64) -> Outcome<()>,
    ) -> Outcome<Replayed> {
        let mut log = Log::of(repository)?;
        let mut commit = Commit::default();
        let mut ordinal = 0_u64;
        while let Some(event) = log.event()? {
            match event {
                Event::Commit(next) => {
                    commit = next;
                    ordinal += 1;
                    progress.inc(1);
                }
                Event::Change(change) => {
                    begins(ordinal)?;
                    for round in 0..self.rounds.len() {
                        self.apply(round, ordinal, &commit, &change, told.is_some())?;
                        self.land(self.window, &mut told)?;
                    }
                    if progress.position().is_multiple_of(64) {
                        progress.set_message(format!("{} turns", self.done.turns));
                    }
                }
            }
        }
        self.land(0, &mut told)?;
        Ok(self.done)
    }

    /// One turn of one object, unless it is there already.
    fn apply(
        &mut self,
        round: usize,
        ordinal: u64,
        commit: &Commit,
        change: &Change,
        is_told: bool,
    ) -> Outcome<()> {
        let object = self.handle(round, &change.path)?;
        if last_ordinal(object)? >= ordinal {
            self.done.skipped += 1;
            return Ok(());
        }
        let mut turn = object.turn();
        let turns = describe(&mut turn, ordinal, commit, change)?;
        // From here on the store's own thread sees to it that the turn becomes durable.
        let lsn = turn.commit()?.detach().lsn;
        let name = if is_told { layout::object_name(&change.path) } else { String::new() };
        self.flying.push_back(Flight { lsn, round, turns, name });
        Ok(())
    }

    /// The open handle of a path's object. Those not used for long are closed.
    fn handle(&mut self, round: usize, path: &[u8]) -> Outcome<&mut Object> {
        let key = (round, path.to_owned());
        if !self.young.contains_key(&key) {
            if self.young.len() >= HANDLES {
                self.old = std::mem::take(&mut self.young);
            }
            let object = match self.old.remove(&key) {
                Some(object) => object,
                None => self.rounds[round].open_by_name(&layout::object_name(path))?,
            };
            self.young.insert(key.clone(), object);
        }
        Ok(self.young.get_mut(&key).ok_or("the handle was put there just now")?)
    }

    /// Waits for the oldest turns until no more than `most` are on their way, and takes note of
    /// all that are durable by now.
    fn land(&mut self, most: usize, told: &mut Acknowledgements<'_>) -> Outcome<()> {
        if let Some(excess) = self.flying.len().checked_sub(most + 1) {
            self.store.wait_durable(self.flying[excess].lsn)?;
        }
        let durable = self.store.durable();
        let landed = self.flying.partition_point(|flight| flight.lsn <= durable);
        for Flight { round, turns, name, .. } in self.flying.drain(..landed) {
            self.done.turns += 1;
            if let Some(told) = told {
                writeln!(told, "{}\t{turns}\t{name}", round + 1)?;
            }
        }
        if let Some(told) = told
            && landed > 0
        {
            told.flush()?;
        }
        Ok(())
    }
}

/// The commit that an object saw last; zero before the first.
fn last_ordinal(object: &Object) -> Outcome<u64> {
    let Some(last) = object.get(layout::LAST)? else { return Ok(0) };
    let ordinal = last.split(|byte| *byte == b' ').next().unwrap_or_default();
    number(layout::LAST, ordinal)
}

/// The number that these bytes say.
fn number<N: std::str::FromStr>(key: &[u8], bytes: &[u8]) -> Outcome<N> {
    let number = str::from_utf8(bytes).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("{} is no number in the store", key.escape_ascii()).into())
}

/// A counter of a turn's object, one higher.
fn count(turn: &mut Turn<'_>, key: &[u8]) -> Outcome<u64> {
    let before = turn.get(key)?.map_or(Ok(0), |value| number::<u64>(key, &value))?;
    turn.put(key, (before + 1).to_string())?;
    Ok(before + 1)
}

/// Everything that a commit changes in the object of a file. Says how many turns that makes.
fn describe(turn: &mut Turn<'_>, ordinal: u64, commit: &Commit, change: &Change) -> Outcome<u64> {
    let turns = count(turn, layout::TURNS)?;
    count(turn, &layout::author_key(&commit.name, &commit.mail))?;
    let (added, removed) = if let Some(lines) = change.lines {
        lines
    } else {
        count(turn, layout::BINARY)?;
        (0, 0)
    };
    let lines = turn.get(layout::LINES)?;
    let mut totals = [0_u64; 2];
    if let Some(lines) = &lines {
        // The net total, the first of the three, is worked out anew.
        let known = lines.split(|byte| *byte == b' ').skip(1);
        for (total, digits) in totals.iter_mut().zip(known) {
            *total = number(layout::LINES, digits)?;
        }
    }
    let (added, removed) = (totals[0] + added, totals[1] + removed);
    let net = i128::from(added) - i128::from(removed);
    turn.put(layout::LINES, format!("{net} {added} {removed}"))?;
    let last = [ordinal.to_string().as_bytes(), &commit.id, &commit.time].join(&b' ');
    turn.put(layout::LAST, last)?;
    turn.put(layout::subject_key(turns), layout::subject_value(&commit.subject))?;
    if turns > layout::SUBJECTS {
        turn.delete(layout::subject_key(turns - layout::SUBJECTS))?;
    }
    Ok(turns)
}

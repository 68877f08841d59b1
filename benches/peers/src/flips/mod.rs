//! One flipped bit in the files of each engine: whether what is read is right, an error, or wrong
//! without a word.
//!
//! Invariants:
//!   * Engines have default options; what is asked of each is that a commit is durable.
//!   * A store that is put back without a flip reads right, or nothing is counted.
//!   * The seed decides values, places and bits. Engines write times and random names of their own,
//!     so another run of the same seed may hit other bytes.

mod content;
mod image;
mod tally;
mod trial;
mod vaults;

pub use tally::Tally;

use crate::machine::{Machine, version};
use crate::measure::Random;
use crate::results::Results;
use crate::{Result, stage};
use clap::Args;
use content::Content;
use image::Image;
use std::path::{Path, PathBuf};
use trial::{Outcome, read, read_apart};
use vaults::{Candidate, State};

/// Settings of the command.
#[derive(Args)]
pub struct Flips {
    /// Where stores are made and removed.
    #[arg(long)]
    dir: PathBuf,
    /// Flips for each row of the table.
    #[arg(long, default_value_t = 400)]
    trials: u64,
    /// Decides values, places and bits.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these engines.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Says of each flip that was not right what came of it.
    #[arg(long)]
    tell: bool,
    /// Lines of JSON, added to what is there.
    #[arg(long, default_value = "flips.jsonl")]
    out: PathBuf,
}

/// What a trial begins as a process of its own.
#[derive(Args)]
pub struct Read {
    engine: String,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    seed: u64,
}

impl Read {
    pub fn run(&self) -> Result<()> {
        let found = read(vaults::named(&self.engine)?, &self.dir, self.seed);
        println!("{}", serde_json::to_string(&found)?);
        Ok(())
    }
}

impl Flips {
    /// Counts what is not in the results yet, and prints the table of all that was asked for.
    pub fn run(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut results = Results::open(&self.out)?;
        results.begin(Machine::this(&self.dir)?)?;
        for (candidate, state) in self.chosen()? {
            if results.flips.iter().any(|known| self.is_it(known, candidate, state)) {
                continue;
            }
            let (title, copied) = (candidate.title, state.name());
            eprintln!("{title}, {copied}");
            let tally = self.count(candidate, state);
            results.add_flips(tally.map_err(|error| format!("{title}, {copied}: {error}"))?)?;
        }
        let rows = self.chosen()?.into_iter().filter_map(|(candidate, state)| {
            results.flips.iter().find(|known| self.is_it(known, candidate, state))
        });
        print!("{}", tally::table(rows)?);
        Ok(())
    }

    fn chosen(&self) -> Result<Vec<(&'static Candidate, State)>> {
        let candidates = match self.engines.as_slice() {
            [] => vaults::ALL.iter().collect(),
            ids => ids.iter().map(|id| vaults::named(id)).collect::<Result<Vec<_>>>()?,
        };
        let in_states = |candidate: &'static Candidate| {
            candidate.states.iter().map(move |state| (candidate, *state))
        };
        Ok(candidates.into_iter().flat_map(in_states).collect())
    }

    fn is_it(&self, known: &Tally, candidate: &Candidate, state: State) -> bool {
        let asked = (candidate.id, state.name(), self.seed, self.trials);
        (known.engine.as_str(), known.state.as_str(), known.seed, known.trials) == asked
    }

    /// All trials on one store.
    fn count(&self, candidate: &Candidate, state: State) -> Result<Tally> {
        let folder = self.dir.join("flips");
        stage::remove(&folder)?;
        let image = make(candidate, state, &folder, self.seed)?;
        let places = image.places();
        let unhurt = self.read_image(candidate, &image, &folder, |_| Ok(()))?;
        if unhurt != Outcome::Right {
            return Err(format!("without a flip it was {unhurt:?}").into());
        }
        let lock = include_str!("../../Cargo.lock");
        let mut tally = Tally {
            engine: candidate.id.into(),
            title: candidate.title.into(),
            version: version(lock, candidate.package).unwrap_or_default(),
            state: state.name().into(),
            seed: self.seed,
            bytes: places.len() as u64,
            ..Tally::default()
        };
        // Other numbers than those of which the values are made.
        let mut random = Random::seeded(!self.seed);
        for _ in 0..self.trials {
            let place = places[random.below(places.len())];
            let bit = random.below(8) as u32;
            let flip = |folder: &Path| place.flip(bit, folder);
            let outcome = self.read_image(candidate, &image, &folder, flip)?;
            if self.tell && outcome != Outcome::Right {
                let (offset, path) = (place.offset, place.path.display());
                eprintln!("bit {bit} of byte {offset} of {path}: {outcome:?}");
            }
            tally.add(place.path, &outcome);
        }
        Ok(tally)
    }

    /// Puts a store back, changes it, and has it read.
    fn read_image(
        &self,
        candidate: &Candidate,
        image: &Image,
        folder: &Path,
        change: impl Fn(&Path) -> Result<()>,
    ) -> Result<Outcome> {
        image.restore(folder)?;
        change(folder)?;
        let outcome = read_apart(candidate, folder, self.seed);
        stage::remove(folder)?;
        outcome
    }
}

/// Makes a store and copies its files in a state.
fn make(candidate: &Candidate, state: State, folder: &Path, seed: u64) -> Result<Image> {
    let vault = (candidate.open)(folder, true)?;
    for (object, values) in Content::drawn(seed).objects() {
        vault.commit(object, values)?;
    }
    if state == State::Flushed {
        vault.flush()?;
    }
    let while_open = if state == State::Open { Some(Image::of(folder)?) } else { None };
    vault.close()?;
    let image = while_open.map_or_else(|| Image::of(folder), Ok);
    stage::remove(folder)?;
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use trial::Found;

    #[test]
    fn no_two_candidates_have_one_name() {
        let ids: BTreeSet<_> = vaults::ALL.iter().map(|candidate| candidate.id).collect();
        assert_eq!(ids.len(), vaults::ALL.len());
    }

    #[test]
    fn every_store_that_is_put_back_reads_right_and_no_other_does() {
        for candidate in vaults::ALL {
            for state in candidate.states {
                let folder = tempfile::tempdir().expect("a folder can be made");
                let path = folder.path().join("store");
                let about = format!("{} {}", candidate.id, state.name());
                let image = make(candidate, *state, &path, 1);
                let image = image.unwrap_or_else(|error| panic!("{about}: {error}"));
                assert!(!image.places().is_empty(), "{about}");
                image.restore(&path).unwrap_or_else(|error| panic!("{about}: {error}"));
                assert_eq!(read(candidate, &path, 1), Found::default(), "{about}");
                let all = content::OBJECTS as usize * content::KEYS;
                let other = Found { wrong: all, ..Found::default() };
                assert_eq!(read(candidate, &path, 2), other, "{about}");
            }
        }
    }
}

//! Engines with default options, each as small a wrapper as the trials need.
//!
//! Invariants:
//!   * A commit is durable when the call returns.
//!   * Where an engine can be told to open only what is there, reading does so: a store that lost
//!     its name is an error then, and no new one.

mod dostore;
mod fjall;
mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sqlite;
mod surrealkv;

use crate::Result;
use crate::workload::{Key, Layout};
use std::path::Path;

/// An open store. Objects are numbers, and so are the keys in them.
pub trait Vault {
    /// Puts the first keys of an object, in one durable commit.
    fn commit(&self, object: u64, values: &[Vec<u8>]) -> Result<()>;

    /// The value of a key.
    fn get(&self, object: u64, key: usize) -> Result<Option<Vec<u8>>>;

    /// Brings data from the log into tables, where closing leaves it in the log.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()>;
}

/// When the files of a store are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Once the last commit is durable: what a crash leaves.
    Open,
    /// After it was closed.
    Closed,
    /// After it was told to bring everything into tables, and closed.
    Flushed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "while open",
            Self::Closed => "closed",
            Self::Flushed => "flushed, closed",
        }
    }
}

/// An engine.
pub struct Candidate {
    /// Its name in results and on the command line.
    pub id: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// Its package in `Cargo.lock`, which says the version.
    pub package: &'static str,
    pub states: &'static [State],
    /// Opens a store; whether it is a new one.
    pub open: fn(&Path, bool) -> Result<Box<dyn Vault>>,
}

const SIMPLE: &[State] = &[State::Open, State::Closed];
/// Of engines that leave data in the log when they are closed.
const WITH_FLUSH: &[State] = &[State::Open, State::Closed, State::Flushed];

/// All engines that were built, in the order of the table.
pub const ALL: &[Candidate] = &[
    dostore::MANY,
    dostore::ONE,
    fjall::CANDIDATE,
    surrealkv::CANDIDATE,
    redb::CANDIDATE,
    sqlite::CANDIDATE,
    lmdb::CANDIDATE,
    #[cfg(feature = "rocksdb")]
    rocksdb::CANDIDATE,
];

/// The engine of this name.
pub fn named(id: &str) -> Result<&'static Candidate> {
    let found = ALL.iter().find(|candidate| candidate.id == id);
    Ok(found.ok_or_else(|| format!("there is no engine {id}"))?)
}

/// A key where all objects share a key space.
fn shared_key(object: u64, key: usize) -> Key {
    Layout::Many.key(object, key)
}

/// The first keys of an object in a shared key space, with their values.
fn shared(object: u64, values: &[Vec<u8>]) -> impl Iterator<Item = (Key, &[u8])> {
    let numbered = values.iter().enumerate();
    numbered.map(move |(key, value)| (shared_key(object, key), value.as_slice()))
}

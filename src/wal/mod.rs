//! The log: one total order of commits, in files that are written once.
//!
//! Writing: [`group_commit`] gathers commits into groups, `waiting` knows who waits for them,
//! [`pool`] prepares the files for them, [`cut`] says up to where a checkpoint works.
//!
//! Reading: [`recovery`] is the decision where the log ends, [`reader`] walks it, `survey` knows
//! which file follows which, `assembly` turns groups into commits, and [`files`] is the seam to
//! the folder. [`examine`] looks at one file by itself, past damage.
//!
//! Invariants:
//!   * A group is written after the group before it is durable: only the last can be torn.
//!   * A file's header names exactly where its predecessor ends; what follows there is dead.

mod assembly;
#[cfg(test)]
mod assembly_tests;
mod chain;
pub mod cut;
pub mod examine;
pub mod files;
mod flipped;
pub mod group_commit;
#[cfg(all(test, dostore_loom))]
mod models;
pub mod pool;
pub mod reader;
pub mod recovery;
#[cfg(test)]
mod replay_tests;
mod survey;
#[cfg(test)]
mod test_log;
mod waiting;

//! Looking at a store from outside: what is in it, and whether all of it is right.
//!
//! Works on closed stores, on broken ones and beside a writer, with nothing but the formats and
//! the structures below the engine: what it says does not depend on the code that wrote the store.
//! Read [`verify`](mod@verify) first; `files`, `runs`, `objects`, `segments`, `history`, `log`,
//! `adoptions`, `guess`, `owners`, `gone` and `lost` are its parts; [`summary`](mod@summary)
//! counts, and [`structure`] shows one file, in the words of `words`.
//!
//! Invariants:
//!   * Takes no lock and writes nothing: it holds a [`ReadDisk`](crate::disk::ReadDisk) only.
//!
//! # Examples
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//! # dostore::store::Store::open(path)?.close()?;
//! use dostore::disk::real::RealReadDisk;
//! use dostore::inspect;
//!
//! let report = inspect::verify(RealReadDisk::open(path)?);
//! println!("{}", report.conclusion());
//! assert!(report.is_clean());
//! # Ok(())
//! # }
//! ```

mod adoptions;
pub mod catalog;
mod files;
mod gone;
mod guess;
mod history;
mod log;
mod lost;
mod objects;
mod owners;
pub mod report;
mod runs;
pub mod salvage;
mod segments;
pub mod space;
pub mod structure;
pub mod summary;
pub mod verify;
mod words;

pub use files::forbidden;
pub use report::{Counts, Fault, GoneHistory, KeyRange, Report, Scope, Verdict, Watch};
pub use summary::{Summary, summary};
pub use verify::{Depth, is_there, verify, verify_shared, verify_to, verify_watched};

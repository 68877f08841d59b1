//! The threads that a store starts, with the locks of the same build.
//!
//! Invariants:
//!   * Without `--cfg dostore_shuttle` they are those of the standard library.

#[cfg(not(all(test, dostore_shuttle)))]
pub use std::thread::{Builder, JoinHandle, current};

#[cfg(all(test, dostore_shuttle))]
pub use shuttle::thread::{Builder, JoinHandle, current};

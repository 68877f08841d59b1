//! The atomics that the log's waiting is built on, with the locks of the same build.
//!
//! Invariants:
//!   * Without `--cfg dostore_loom` or `--cfg dostore_shuttle` they are those of the standard
//!     library.

pub use std::sync::atomic::Ordering;

#[cfg(not(all(test, any(dostore_loom, dostore_shuttle))))]
pub use std::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(all(test, dostore_loom))]
pub use loom::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(all(test, dostore_shuttle))]
pub use shuttle::sync::atomic::{AtomicBool, AtomicU64};

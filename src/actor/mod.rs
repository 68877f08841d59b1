//! The storage of an actor: implicit transactions, an output gate and an input gate.
//!
//! Owns the rules by which code that runs in turns shares one object. Needs no runtime: its
//! futures run under any executor, and threads are blocked only by calls that say so.
//!
//! Read [`storage`] (what an actor calls), then [`turns`] (one poll is one turn), [`gate`] (what
//! leaves waits) and `sections` (what runs alone). `docs/actors.md` tells how a runtime is built
//! on them; [`host`] is a small, complete one.

pub mod alarms;
mod attachments;
pub mod bookmarks;
mod core;
mod doors;
pub mod durability;
pub mod gate;
pub mod host;
mod ledger;
#[cfg(all(test, dostore_loom))]
mod models;
mod queue;
mod sections;
pub mod storage;
pub mod testing;
pub mod turns;
#[cfg(any(feature = "json", feature = "msgpack"))]
pub mod typed;
mod waits;

pub use alarms::{AlarmScope, AlarmTime};
pub use bookmarks::CurrentBookmark;
pub use durability::{Durability, Local};
pub use gate::{Gate, Gated};
pub use storage::{Storage, StorageOptions};
pub use turns::Run;

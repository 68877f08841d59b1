//! Operators on a store that is open: the admin socket, from inside and from other processes.
//!
//! Invariants:
//!   * Nothing is waited for by time: what must come is read until it is there, or asked for again
//!     until a deadline far beyond it.

#![cfg(feature = "admin")]
#![expect(clippy::disallowed_methods, reason = "watches real processes and files")]
#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

mod live;
mod requests;
mod socket;
mod stage;
mod visitors;

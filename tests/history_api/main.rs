//! Bookmarks, the past and the way back, on a simulated machine and its clock.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

mod adopt;
mod adopt_hostile;
mod bookmarks;
mod damaged;
mod edges;
mod expiry;
mod found;
mod many;
mod model;
mod past;
mod restore;
mod retention;
mod stage;

//! Turns, gates and sections of an actor's storage, polled by hand.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

mod crashes;
mod gates;
mod sections;
mod stage;
mod turns;
#[cfg(all(feature = "json", feature = "msgpack"))]
mod typed;
mod wakers;

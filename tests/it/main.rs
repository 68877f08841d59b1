//! Tests of the crate from outside, in one binary.

mod alarms;
mod chance;
#[expect(clippy::unwrap_used, reason = "what fails, fails the test")]
mod interposed;
#[expect(clippy::unwrap_used, reason = "what fails, fails the test")]
mod merge_discarded;
mod model;
#[expect(clippy::unwrap_used, reason = "what fails, fails the test")]
mod pool_in_progress;
mod simulate;
mod simulate_checks;
mod simulate_damage;
mod simulate_forged;
mod simulate_plan;
mod simulate_turns;
mod simulate_world;
mod stats_beside;

//! Tests of the crate from outside, in one binary.

mod chance;
mod model;
mod simulate;
mod simulate_checks;
mod simulate_damage;
mod simulate_forged;
mod simulate_plan;
mod simulate_turns;
mod simulate_world;

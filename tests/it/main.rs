//! Tests of the crate from outside, in one binary.

mod activation;
mod actors;
mod actors_handler;
mod actors_model;
mod actors_world;
mod adopt_in_progress;
mod alarms;
mod chance;
mod close_in_progress;
mod emptying;
mod held_back;
mod interposed;
#[path = "../ledger/mod.rs"]
mod ledger;
mod merge_discarded;
mod model;
mod names_lost;
mod pages;
mod pool_in_progress;
mod purge_overtakes;
mod retired;
mod simulate;
mod simulate_backup;
mod simulate_checks;
mod simulate_damage;
mod simulate_forged;
mod simulate_past;
mod simulate_plan;
mod simulate_restore;
mod simulate_retention;
mod simulate_turns;
mod simulate_world;
mod stats_beside;
mod traces;

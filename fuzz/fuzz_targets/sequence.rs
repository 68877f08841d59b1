//! Calls, crashes and faults against the model: the simulation of `tests/it`, in which the input
//! says what is drawn, for as long as it lasts.
#![no_main]
#![expect(dead_code, unused_imports, reason = "the campaign of the tests is not needed here")]

#[path = "../../tests/it/chance.rs"]
mod chance;
#[path = "../../tests/ledger/mod.rs"]
mod ledger;
#[path = "../../tests/it/model.rs"]
mod model;
#[path = "../../tests/it/shrink.rs"]
mod shrink;
#[path = "../../tests/it/simulate.rs"]
mod simulate;
#[path = "../../tests/it/simulate_backup.rs"]
mod simulate_backup;
#[path = "../../tests/it/simulate_checks.rs"]
mod simulate_checks;
#[path = "../../tests/it/simulate_damage.rs"]
mod simulate_damage;
#[path = "../../tests/it/simulate_events.rs"]
mod simulate_events;
#[path = "../../tests/it/simulate_forged.rs"]
mod simulate_forged;
#[path = "../../tests/it/simulate_past.rs"]
mod simulate_past;
#[path = "../../tests/it/simulate_plan.rs"]
mod simulate_plan;
#[path = "../../tests/it/simulate_restore.rs"]
mod simulate_restore;
#[path = "../../tests/it/simulate_retention.rs"]
mod simulate_retention;
#[path = "../../tests/it/simulate_scrub.rs"]
mod simulate_scrub;
#[path = "../../tests/it/simulate_torn.rs"]
mod simulate_torn;
#[path = "../../tests/it/simulate_turns.rs"]
mod simulate_turns;
#[path = "../../tests/it/simulate_unreadable.rs"]
mod simulate_unreadable;
#[path = "../../tests/it/simulate_world.rs"]
mod simulate_world;
#[path = "../../tests/it/traces.rs"]
mod traces;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-sequence", simulate::run_input, data);
});

//! What an actor's storage does, one small test for each claim of `docs/semantics.md`.
//!
//! Invariants:
//!   * A test is named after the paragraph of the document that names it; `tests/tidy.rs` checks
//!     both ways.
//!   * Time is the simulated machine's, and nothing is written to the log before a test says so.

#![expect(clippy::unwrap_used, reason = "what cannot fail in a script fails its test")]

mod s1_abort;
mod s1_alarm_calls;
mod s1_bookmarks;
mod s1_delete;
mod s1_keys;
mod s1_limits;
mod s1_list;
mod s1_reads_and_writes;
mod s1_sync;
mod s1_transaction;
mod s2_delete_all;
mod s2_failures;
mod s2_gate;
mod s2_transactions;
mod s2_turns;
mod s3_input_gate;
mod s3_output_gate;
mod s3_sections;
mod s4_alarms;
mod s4_handler;
mod s4_retries;
mod s6_lifecycle;
mod stage;

//! The `dostore` command on stores in folders: output, exit codes, and what it leaves alone.
#![cfg(feature = "cli")]
#![expect(clippy::disallowed_methods, reason = "tests look at and damage files")]
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

#[expect(dead_code, reason = "the example's own entry, its kills and its comparison")]
#[path = "../../examples/git_history/main.rs"]
mod example;

mod change;
mod counts;
mod damage;
mod help;
mod hostile;
mod live;
mod live_checks;
mod look;
mod past;
mod schema;
mod session;
mod stage;
mod strangers;
mod summary;
mod time;

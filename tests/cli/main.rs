//! The `dostore` command on stores in folders: output, exit codes, and what it leaves alone.
#![cfg(feature = "cli")]
#![expect(clippy::disallowed_methods, reason = "tests look at and damage files")]
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

mod help;
mod look;
mod stage;
mod summary;

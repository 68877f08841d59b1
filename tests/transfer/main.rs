//! Backups, exports and imports.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

mod backup;
mod backup_faults;
mod example;
mod exports;
mod half;
mod imports;
mod world;

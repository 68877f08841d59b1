//! The store on the real machine: processes that are killed, disks that run full, syncs that fail,
//! sectors that cannot be read, and file systems that lose their power.
//!
//! `DOSTORE_KILLS` says how many processes are killed, `DOSTORE_CUTS` how often each file system,
//! or the disk below it, loses its power; a few times by default.
//!
//! Invariants:
//!   * What needs mounts happens in a process whose mounts nobody else sees, and which vanish with
//!     it however it ends.
//!   * What cannot run here says why. For the superuser under `CI=true` that is a failure.

#![expect(clippy::disallowed_methods, reason = "works on real files, processes and mounts")]
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

mod block;
mod blocks;
#[path = "../it/chance.rs"]
#[expect(dead_code, reason = "few kinds of chance are needed here")]
mod chance;
mod checker;
mod cut;
mod device;
mod full;
mod kill;
#[path = "../ledger/mod.rs"]
mod ledger;
mod load;
mod rig;
mod rot;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

//! A clock that gives a lost sector back while somebody waits for it.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::Interposed;
use dostore::disk::sim::{Damage, SimDisk};
use dostore::disk::{Clock, ReadDisk};
use dostore::names::FileName;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Debug)]
struct Healing {
    disk: SimDisk,
    lost: (FileName, u64),
    waits: AtomicU32,
    heals_after: u32,
}

/// The disk, on which this sector comes back with the wait of this number.
pub fn healing(disk: &SimDisk, lost: (FileName, u64), heals_after: u32) -> Interposed {
    let waits = AtomicU32::new(0);
    let clock = Healing { disk: disk.clone(), lost, waits, heals_after };
    Interposed::new(disk.clone()).with_clock(Arc::new(clock))
}

impl Clock for Healing {
    fn wall_micros(&self) -> u64 {
        self.disk.clock().wall_micros()
    }

    fn uptime(&self) -> Duration {
        self.disk.clock().uptime()
    }

    fn sleep(&self, duration: Duration) {
        if self.waits.fetch_add(1, Ordering::Relaxed) + 1 == self.heals_after {
            self.disk.damage(self.lost.0, Damage::Readable(self.lost.1)).unwrap();
        }
        self.disk.clock().sleep(duration);
    }
}

//! Which thread waits for the turn of which object: so that no threads wait in a circle.
//!
//! A thread enters itself before it blocks, and follows the others from there: the thread that has
//! the turn, the turn for which that one waits, and so on. Nothing of this is touched by a thread
//! that finds the turn free.
//!
//! Invariants:
//!   * The lock is a leaf. Who enters sees everybody who entered before: of the threads of a
//!     circle, the last one to enter sees it whole.
//!   * A thread takes its entry back before it has the turn.

use super::core::{Core, this_thread};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Threads that wait, and for whose turn.
static WAITS: Mutex<BTreeMap<usize, Weak<Core>>> = Mutex::new(BTreeMap::new());

/// The entry of this thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Wait(());

impl Wait {
    /// Enters this thread as one that waits for the turn of `core`; none where it would wait for
    /// itself.
    pub fn begin(core: &Arc<Core>) -> Option<Self> {
        let own = this_thread();
        let mut waits = WAITS.lock();
        let mut holder = core.holder();
        // A thread that has just taken the turn may still be entered: no chain is longer than all.
        for _ in 0..waits.len() {
            let awaited = waits.get(&holder).and_then(Weak::upgrade);
            let Some(awaited) = awaited else { break };
            holder = awaited.holder();
            if holder == own {
                return None;
            }
        }
        waits.insert(own, Arc::downgrade(core));
        Some(Self(()))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let gone = WAITS.lock().remove(&this_thread());
        drop(gone);
    }
}

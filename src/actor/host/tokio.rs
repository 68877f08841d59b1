//! The host's tasks on a tokio runtime.
//!
//! Invariants:
//!   * Names tokio's `spawn` and nothing else of it: the rest of the host needs no runtime.

use super::pool::{Spawner, Task};
use ::tokio::runtime::Handle;

/// Runs the host's tasks on a tokio runtime. A runtime that shuts down drops them, and whoever
/// waits for an object gets an error; so close the host first.
#[derive(Clone, Debug)]
pub struct Tokio(Handle);

impl Tokio {
    /// The runtime of this handle.
    pub fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// The runtime in whose context this is called. Panics outside of one, as tokio does.
    pub fn current() -> Self {
        Self(Handle::current())
    }
}

impl Spawner for Tokio {
    fn spawn(&self, task: Task) {
        drop(self.0.spawn(task));
    }
}

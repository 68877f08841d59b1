//! The open sockets of this process. They outlive the rooms' stays in memory.
//!
//! Invariants:
//!   * A socket's number is never used again, in no process: what a crash left behind of one in a
//!     room's storage cannot be taken for another.
//!   * Frames go out in the order in which they were put in, each behind a gate of its own.

use dostore::actor::Gate;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Names a socket: drawn by the process, then counted.
pub type SocketId = [u8; 16];

/// What is to be sent, once its gate is open.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Opens when what the text shows is durable.
    pub gate: Gate,
    /// The frame.
    pub text: Arc<str>,
}

/// The open sockets. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Sockets {
    open: Arc<Mutex<HashMap<SocketId, UnboundedSender<Frame>>>>,
    process: u64,
    next: Arc<AtomicU64>,
}

impl Default for Sockets {
    fn default() -> Self {
        let process = RandomState::new().hash_one("chat_rooms");
        Self { open: Arc::default(), process, next: Arc::default() }
    }
}

impl Sockets {
    /// A new socket, and the frames that are to leave by it.
    pub fn open(&self) -> (SocketId, UnboundedReceiver<Frame>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = SocketId::default();
        id[..8].copy_from_slice(&self.process.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        let (sender, frames) = unbounded_channel();
        self.locked().insert(id, sender);
        (id, frames)
    }

    /// Sends a frame, if the socket is open still.
    pub fn send(&self, id: &[u8], frame: Frame) {
        if let Some(sender) = self.locked().get(id) {
            let _ = sender.send(frame);
        }
    }

    /// Whether the socket is open.
    pub fn is_open(&self, id: &[u8]) -> bool {
        self.locked().contains_key(id)
    }

    /// The socket is gone.
    pub fn close(&self, id: &SocketId) {
        self.locked().remove(id);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<SocketId, UnboundedSender<Frame>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

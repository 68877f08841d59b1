//! The open sockets of this process. They outlive the rooms' stays in memory.
//!
//! Invariants:
//!   * A socket's number is never used again, in no process: what a crash left behind of one in a
//!     room's storage cannot be taken for another.
//!   * Frames go out in the order in which they were put in, each behind a gate of its own. None is
//!     left out: a socket for which too much waits is cut off instead.
//!   * A socket is open for as long as it stands in the map; whoever serves it hears when it does
//!     not any more, whatever he waits for.

use dostore::actor::Gate;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Bytes of frames that may wait for one socket. Whoever reads so slowly that more would, comes
/// again and asks for what he missed.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// What a frame takes beside its text.
const FRAME_BYTES: usize = 128;

/// Names a socket: drawn by the process, then counted.
pub type SocketId = [u8; 16];

/// What is to be sent, once its gate is open.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Opens when what the text shows is durable.
    pub gate: Gate,
    /// Which message it shows, if it shows one.
    pub number: Option<u64>,
    /// The frame.
    pub text: Arc<str>,
}

impl Frame {
    fn bytes(&self) -> usize {
        FRAME_BYTES + self.text.len()
    }
}

/// The end of a socket at which frames are put in.
#[derive(Debug)]
struct Entry {
    frames: UnboundedSender<Frame>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Dropped with the entry, which tells the other end.
    _open: oneshot::Sender<()>,
}

/// The frames that are to leave by a socket.
#[derive(Debug)]
pub struct Frames {
    frames: UnboundedReceiver<Frame>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Frames {
    /// The next frame; none once the socket is cut off and all have left.
    pub async fn next(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await;
        self.taken(frame)
    }

    /// The next frame, if one waits.
    pub fn next_waiting(&mut self) -> Option<Frame> {
        let frame = self.frames.try_recv().ok();
        self.taken(frame)
    }

    fn taken(&self, frame: Option<Frame>) -> Option<Frame> {
        let bytes = frame.as_ref().map_or(0, Frame::bytes);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        frame
    }
}

/// The open sockets. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Sockets {
    open: Arc<Mutex<HashMap<SocketId, Entry>>>,
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
    /// A new socket, the frames that are to leave by it, and what resolves when it is cut off.
    pub fn open(&self) -> (SocketId, Frames, oneshot::Receiver<()>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = SocketId::default();
        id[..8].copy_from_slice(&self.process.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        let (sender, frames) = unbounded_channel();
        let (open, cut) = oneshot::channel();
        let waiting_bytes = Arc::<AtomicUsize>::default();
        let own = Arc::clone(&waiting_bytes);
        self.locked().insert(id, Entry { frames: sender, waiting_bytes: own, _open: open });
        (id, Frames { frames, waiting_bytes }, cut)
    }

    /// Sends a frame, if the socket is open still. Cuts it off where too much waits already.
    pub fn send(&self, id: &[u8], frame: Frame) {
        let mut open = self.locked();
        let Some(entry) = open.get(id) else { return };
        let before = entry.waiting_bytes.fetch_add(frame.bytes(), Ordering::Relaxed);
        if before > WAITING_BYTES_MAX || entry.frames.send(frame).is_err() {
            open.remove(id);
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

    fn locked(&self) -> MutexGuard<'_, HashMap<SocketId, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

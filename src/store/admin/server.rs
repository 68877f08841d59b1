//! The listening end: one connection, one request.
//!
//! Each of a few threads serves one connection at a time. Who is slow, wrong or gone costs its own
//! connection, and at most the time limits below.
//!
//! Invariants:
//!   * A request is read whole, within its limits, before any of it is done.
//!   * The server keeps no store open: it takes hold of it for the time of a request.
//!   * Behind `stop` nobody is let in, and no read or write of a connection blocks.

use super::wire::{self, LINE_BYTES_MAX, Line};
use super::{Operator, Progress, Refusal, Request, perform};
use crate::disk::Clock;
use crate::disk::socket::{Listener, Visitor};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a whole request may take to come in.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long a piece of what follows a request may take to come in, and a line to go out.
const PIECE_TIME: Duration = Duration::from_secs(30);
/// How often a long request tells how far it has come.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// How long no visitor is waited for after one could not be let in, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes asked for in one read.
const READ_BYTES: usize = 64 << 10;

/// What the threads that listen share.
#[derive(Debug)]
pub(in crate::store) struct Server {
    listener: Listener,
    clock: Arc<dyn Clock>,
    is_stopping: AtomicBool,
    /// Connections that are open, to be cut off at the end; and the number of the next.
    open: Mutex<(BTreeMap<u64, UnixStream>, u64)>,
}

impl Server {
    pub fn new(listener: Listener, clock: Arc<dyn Clock>) -> Self {
        let open = Mutex::default();
        Self { listener, clock, is_stopping: AtomicBool::new(false), open }
    }

    /// Serves one connection after the other until the server is stopped or the store is gone.
    pub fn serve(&self, store: impl Fn() -> Option<Store>) {
        loop {
            match self.listener.accept() {
                Ok(Some(visitor)) => self.receive(visitor, &store),
                Ok(None) => return,
                Err(_) => self.clock.sleep(PAUSE),
            }
        }
    }

    /// Lets nobody in any more, and cuts off whoever is there.
    pub fn stop(&self) {
        let open = self.open.lock();
        self.is_stopping.store(true, Ordering::SeqCst);
        self.listener.close();
        for stream in open.0.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn receive(&self, visitor: Visitor, store: &impl Fn() -> Option<Store>) {
        let Some(number) = self.note(&visitor.stream) else { return };
        // A failure to talk is the visitor's alone.
        let _ = self.converse(visitor, store);
        self.open.lock().0.remove(&number);
    }

    /// Notes a connection; none where it cannot be served any more.
    fn note(&self, stream: &UnixStream) -> Option<u64> {
        let mut open = self.open.lock();
        if self.is_stopping.load(Ordering::SeqCst) {
            return None;
        }
        let number = open.1;
        open.1 += 1;
        open.0.insert(number, stream.try_clone().ok()?);
        Some(number)
    }

    fn converse(&self, visitor: Visitor, store: &impl Fn() -> Option<Store>) -> io::Result<()> {
        let Visitor { stream, user, is_welcome } = visitor;
        stream.set_write_timeout(Some(PIECE_TIME))?;
        let mut guest = Guest { server: self, stream, behind: Vec::new(), told: None };
        if !is_welcome {
            let what = format!("user {user} may not change a store of another user");
            let error = Error::new(ErrorKind::Invalid, "admin.user", what);
            return guest.say(&Line::Error(Refusal::of(&error)));
        }
        let request = match guest.request()? {
            Ok(request) => request,
            Err(error) => return guest.say(&Line::Error(Refusal::of(&error))),
        };
        let Some(store) = store() else { return Ok(()) };
        let done = catch_unwind(AssertUnwindSafe(|| perform(&store, &request, &mut guest)));
        let done = done.unwrap_or_else(|_| Err(store.engine().panicked()));
        drop(store);
        guest.say(&match done {
            Ok(reply) => Line::Done(reply),
            Err(error) => Line::Error(Refusal::of(&error)),
        })
    }
}

/// Whoever is at the other end of a connection.
struct Guest<'s> {
    server: &'s Server,
    stream: UnixStream,
    /// What was read of what follows the request.
    behind: Vec<u8>,
    /// When progress was told last.
    told: Option<Duration>,
}

impl Guest<'_> {
    /// Reads the request, which a line feed ends, or the end of what is sent.
    fn request(&mut self) -> io::Result<Result<Request>> {
        let give_up = self.server.clock.uptime() + REQUEST_TIME;
        let mut line = Vec::new();
        loop {
            let left = give_up.saturating_sub(self.server.clock.uptime());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let before = line.len();
            line.resize(before + READ_BYTES, 0);
            let read = match self.stream.read(&mut line[before..]) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => 0,
                Ok(0) => return Ok(self.decode(&line[..before])),
                read => read?,
            };
            line.truncate(before + read);
            if let Some(at) = line[before..].iter().position(|byte| *byte == b'\n') {
                self.behind = line.split_off(before + at + 1);
                return Ok(self.decode(&line));
            }
            if line.len() > LINE_BYTES_MAX {
                let what = format!("a request has at most {LINE_BYTES_MAX} bytes");
                return Ok(Err(Error::invalid("admin.malformed", what)));
            }
        }
    }

    fn decode(&self, line: &[u8]) -> Result<Request> {
        let _ = self.stream.set_read_timeout(Some(PIECE_TIME));
        wire::decode_request(line)
    }

    fn say(&mut self, line: &Line) -> io::Result<()> {
        self.stream.write_all(&wire::encode(line).map_err(io::Error::other)?)
    }
}

impl Operator for Guest<'_> {
    fn hear(&mut self, progress: &Progress) -> bool {
        if self.server.is_stopping.load(Ordering::SeqCst) {
            return false;
        }
        let now = self.server.clock.uptime();
        if self.told.is_some_and(|told| now.saturating_sub(told) < TELL_EVERY) {
            return true;
        }
        self.told = Some(now);
        self.say(&Line::Progress(*progress)).is_ok()
    }

    fn stream(&mut self) -> &mut dyn Read {
        self
    }
}

impl Read for Guest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.behind.is_empty() {
            return self.stream.read(buffer);
        }
        let count = buffer.len().min(self.behind.len());
        buffer[..count].copy_from_slice(&self.behind[..count]);
        self.behind.drain(..count);
        Ok(count)
    }
}

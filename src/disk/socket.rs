//! The socket in a store's folder, through which its process can be spoken to.
//!
//! Reached from the folder's descriptor, so neither a long path nor a renamed folder is a matter.
//!
//! Invariants:
//!   * The socket's name never stands with another mode than 0600.
//!   * Whoever binds or removes the name holds the store's lock.

use crate::names::FileName;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// The socket of the process that has the store open. Dropping it closes it.
#[derive(Debug)]
pub struct Listener {
    folder: OwnedFd,
    socket: OwnedFd,
    is_closed: AtomicBool,
}

/// Somebody who has connected.
#[derive(Debug)]
pub struct Visitor {
    /// What is said.
    pub stream: UnixStream,
    /// The user whose process it is.
    pub user: u32,
    /// Whether that is this process's own user, or the superuser.
    pub is_welcome: bool,
}

impl Listener {
    /// Listens in a folder whose lock the caller holds.
    pub(super) fn bind(folder: BorrowedFd<'_>) -> io::Result<Self> {
        let folder = folder.try_clone_to_owned()?;
        let socket = open()?;
        // Before the name is there: it takes the mode of the socket.
        fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        net::bind(&socket, &address(folder.as_fd())?)?;
        let listener = Self { folder, socket, is_closed: AtomicBool::new(false) };
        net::listen(&listener.socket, BACKLOG)?;
        Ok(listener)
    }

    /// Waits for the next who connects; none once it was closed.
    pub fn accept(&self) -> io::Result<Option<Visitor>> {
        let accepted = net::accept_with(&self.socket, SocketFlags::CLOEXEC);
        if self.is_closed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let stream = UnixStream::from(accepted?);
        let user = user_of(&stream)?;
        let own = rustix::process::geteuid().as_raw();
        Ok(Some(Visitor { stream, user, is_welcome: is_welcome(own, user) }))
    }

    /// Removes the name and lets nobody in any more; whoever waits in `accept` returns.
    pub fn close(&self) {
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        // What is left of it, the next open removes.
        let _ = fs::unlinkat(&self.folder, FileName::AdminSocket.leaf(), AtFlags::empty());
        let _ = net::shutdown(&self.socket, Shutdown::Both);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

/// Connects to the process that has the store in `folder` open. `None` where none listens.
pub fn connect(folder: &Path) -> io::Result<Option<UnixStream>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = fs::open(folder, flags, Mode::empty())?;
    let socket = open()?;
    match net::connect(&socket, &address(folder.as_fd())?) {
        Ok(()) => Ok(Some(UnixStream::from(socket))),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a process of this user may change what is open here.
fn is_welcome(own: u32, user: u32) -> bool {
    user == own || user == 0
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// The socket's name by way of the folder's descriptor.
#[cfg(target_os = "linux")]
fn address(folder: BorrowedFd<'_>) -> io::Result<SocketAddrUnix> {
    let (folder, leaf) = (folder.as_raw_fd(), FileName::AdminSocket.leaf());
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{folder}/{leaf}"))?)
}

#[cfg(target_os = "linux")]
fn user_of(stream: &UnixStream) -> io::Result<u32> {
    Ok(net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn address(_folder: BorrowedFd<'_>) -> io::Result<SocketAddrUnix> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn user_of(_stream: &UnixStream) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_and_the_superuser_are_welcome() {
        assert!(is_welcome(1000, 1000) && is_welcome(1000, 0) && is_welcome(0, 0));
        assert!(!is_welcome(1000, 1001) && !is_welcome(0, 1000));
    }
}

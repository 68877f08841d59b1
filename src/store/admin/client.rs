//! The asking end: a request to the store in a folder, whoever has it open.

use super::wire::{self, LINE_BYTES_MAX, Line};
use super::{Operator, Reply, Request, perform};
use crate::disk::ReadDisk;
use crate::disk::real::RealReadDisk;
use crate::disk::socket;
use crate::engine::catalog::CATALOG;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::manifest;
use crate::object::retention::{OFF_CLASS, class_of};
use crate::retention::Retention;
use crate::store::{Options, Store};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Bytes of what follows a request that are sent at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of a file of the log in a store that is opened for one request.
const WAL_FILE_BYTES: u64 = 8 << 20;
/// How often the store is looked at anew when it is opened or closed at that moment.
const ATTEMPTS: usize = 3;
/// Longer than history is ever kept: what the store itself does not say is not guessed.
const FOREVER: Duration = Duration::from_hours(1000 * 365 * 24);

/// Performs a request on the store in a folder. Where no process has it open, it is opened for
/// that, and closed again; where one has, that one is asked through its socket.
///
/// A store opened for this keeps its history as it is: how long its process keeps the history of
/// namespaces without a setting of their own is not known, so none of it expires. That of others
/// expires in [`Request::Compact`] only.
///
/// Fails with `store.locked` where a process has the store open and does not listen
/// ([`Options::admin`]), with `admin.refused` and the kind of what went wrong where it was asked in
/// vain, and else as [`perform`].
pub fn at(folder: &Path, request: &Request, operator: &mut dyn Operator) -> Result<Reply> {
    let mut attempt = 1;
    loop {
        let opened = match holder(folder, request)? {
            None => open(folder, request),
            Some(holder) => match connect(folder)? {
                Some(stream) => return converse(stream, request, operator),
                None => Err(unheard(&holder)),
            },
        };
        match opened {
            Ok(store) => return perform_alone(store, request, operator),
            // Its process may have just gone, or another one just come.
            Err(error) if error.kind() == ErrorKind::Locked && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Asks the process that has the store in a folder open. None where none listens.
pub fn ask(folder: &Path, request: &Request, operator: &mut dyn Operator) -> Result<Option<Reply>> {
    connect(folder)?.map(|stream| converse(stream, request, operator)).transpose()
}

/// Whether the request may begin a store.
fn creates(request: &Request) -> bool {
    matches!(request, Request::Load { .. } | Request::Put { create: true, .. })
}

#[cold]
fn opening(folder: &Path, cause: io::Error) -> Error {
    let what = format!("opening {}", folder.display());
    if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        return Error::new(ErrorKind::NotFound, "store.missing", what).caused_by(cause);
    }
    Error::io(what, cause)
}

/// What the process that has the store open says of itself.
fn holder(folder: &Path, request: &Request) -> Result<Option<String>> {
    match RealReadDisk::open(folder).and_then(|disk| disk.lock_holder()) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && creates(request) => Ok(None),
        asked => asked.map_err(|cause| opening(folder, cause)),
    }
}

#[cold]
fn unheard(holder: &str) -> Error {
    let what = format!(
        "{holder} has the store open and does not listen to operators: stop it, or have it open \
         the store with Options::admin(true)"
    );
    Error::new(ErrorKind::Locked, "store.locked", what)
}

fn connect(folder: &Path) -> Result<Option<UnixStream>> {
    socket::connect(folder).map_err(|cause| Error::io("connecting to admin.sock", cause))
}

/// Opens a store that no process has open.
fn open(folder: &Path, request: &Request) -> Result<Store> {
    let manifest = match RealReadDisk::open(folder) {
        Ok(disk) => manifest::read(&disk)?,
        Err(_) => None,
    };
    let mut options = Options::default()
        .create(creates(request))
        .retention(manifest.as_ref().map_or_else(Retention::default, kept_by))
        .wal_file_bytes(WAL_FILE_BYTES)
        .pool_files(0)
        .reader_threads(0)
        .threads(!does_steps(request));
    options.spares_history = true;
    options.open(folder)
}

/// What keeps the history of namespaces without a setting of their own as it is.
fn kept_by(manifest: &Manifest) -> Retention {
    match class_of(manifest, CATALOG.namespace) {
        OFF_CLASS => Retention::Off,
        _ => Retention::Keep { age: FOREVER, bytes: None },
    }
}

/// Whether a request does itself what threads would do beside it.
fn does_steps(request: &Request) -> bool {
    matches!(request, Request::Purge { .. } | Request::Compact | Request::Scrub)
}

/// Performs a request on a store that is open for nothing else.
fn perform_alone(store: Store, request: &Request, operator: &mut dyn Operator) -> Result<Reply> {
    let done = perform(&store, request, operator);
    let is_purge = matches!(request, Request::Purge { .. });
    let erased = if is_purge && done.is_ok() { store.steps().erase().map(drop) } else { Ok(()) };
    let closed = store.close();
    let done = done?;
    erased.and(closed).map(|()| done)
}

#[cold]
fn silent(cause: io::Error) -> Error {
    let what = "the process that has the store open ended the conversation; what was asked for \
                may be done or not";
    Error::new(ErrorKind::Io, "admin.silent", what).caused_by(cause)
}

/// Sends a request, and what follows it, and hears what comes of it.
fn converse(
    mut stream: UnixStream,
    request: &Request,
    operator: &mut dyn Operator,
) -> Result<Reply> {
    let line = wire::encode_request(request)?;
    // Whoever refuses a request need not read it whole: what it says of that counts.
    let mut sent = stream.write_all(&line);
    if sent.is_ok() && matches!(request, Request::Load { .. }) {
        sent = send(&mut stream, operator.stream())?;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let most = LINE_BYTES_MAX as u64;
        let read = lines.by_ref().take(most).read_until(b'\n', &mut line);
        match (read, &sent) {
            (Ok(0), Err(cause)) => return Err(silent(cause.kind().into())),
            (Ok(0), Ok(())) => return Err(silent(io::ErrorKind::UnexpectedEof.into())),
            (Err(cause), _) => return Err(silent(cause)),
            (Ok(_), _) => {}
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Progress(progress)) => {
                if !operator.hear(&progress) {
                    let what = "the request was given up; the store's process ends it";
                    return Err(Error::new(ErrorKind::Aborted, "admin.ended", what));
                }
            }
            Ok(Line::Done(reply)) => return Ok(reply),
            Ok(Line::Error(refusal)) => return Err(refusal.into_error()),
            Err(cause) => return Err(silent(io::Error::other(cause))),
        }
    }
}

/// Sends what follows a request. A failure to read it is the caller's, one to send it is not yet.
fn send(stream: &mut UnixStream, from: &mut dyn Read) -> Result<io::Result<()>> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => return Ok(Ok(())),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|cause| Error::io("reading an export", cause))?,
        };
        if let Err(cause) = stream.write_all(&piece[..read]) {
            return Ok(Err(cause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::ClassChange;
    use crate::ids::Lsn;

    #[test]
    fn a_store_opened_for_a_request_gives_up_no_history_and_begins_none() {
        let mut manifest = Manifest::default();
        let kept = Retention::Keep { age: FOREVER, bytes: None };
        assert_eq!(kept_by(&manifest), kept);
        let off = ClassChange { namespace: CATALOG.namespace, class: OFF_CLASS, from: Lsn(1) };
        manifest.classes.push(off);
        assert_eq!(kept_by(&manifest), Retention::Off);
    }
}

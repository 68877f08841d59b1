//! The one error type: what failed, where, what to do about it.
//!
//! Kinds are coarse and prescriptive: a new one is due only where a caller would act differently.
//! Codes are finer, stable and meant for programs; messages are meant for people and may change.
//! No message shows a value's bytes.

use crate::ids::Lsn;
use std::fmt;
use std::sync::Arc;

/// `Result` with this crate's [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The transaction was rolled back and nothing was written. Run it again.
    Aborted,
    /// What the caller holds is of no more use: the object was reset after a failure or taken away,
    /// or the store, host or reader is closed. Open it again, unless the code says otherwise.
    Broken,
    /// Someone else uses it now. Try again later.
    Busy,
    /// Bytes on disk are not what was written, or the medium does not give them back. Run
    /// `dostore verify`; restore what it names.
    Corrupt,
    /// The disk is full. Nothing was written; reads go on; free space and try again.
    Full,
    /// The call was wrong: a limit exceeded, a bad option, a used-up handle. Fix the caller.
    Invalid,
    /// The operating system refused. The store is unchanged, except perhaps with `admin.silent`;
    /// trying again may help.
    Io,
    /// The store is open for writing, in another process or in this one. In this one it is until
    /// `Store::close` succeeds, or until all that holds it is dropped: objects, namespaces,
    /// commits, alarms that fired, storages, gates, and hosts with their classes, recipients and
    /// replies.
    Locked,
    /// There is no such thing.
    NotFound,
    /// The time asked for is outside the retained history.
    NotRetained,
    /// An earlier sync failed, so nothing more can be promised. Drop the store and reopen it.
    Poisoned,
    /// Written by a version that this one does not understand, or a platform it does not run on.
    Unsupported,
}

/// Where on disk something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the store's folder.
    pub file: String,
    /// The byte in it.
    pub offset: u64,
    /// The commit concerned, where one is known.
    pub lsn: Option<Lsn>,
}

impl Place {
    /// Byte `offset` of `file`.
    pub fn new(file: impl fmt::Display, offset: u64) -> Self {
        Self { file: file.to_string(), offset, lsn: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at byte {}", self.file, self.offset)?;
        match self.lsn {
            Some(lsn) => write!(out, ", LSN {lsn}"),
            None => Ok(()),
        }
    }
}

/// Why a call failed. One word wide; cheap to clone.
///
/// `Display` gives the message and the place, `Debug` the kind, the code and the cause as well.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use dostore::error::ErrorKind;
/// use dostore::store::Store;
///
/// let error = Store::options().create(false).open(dir.path()).unwrap_err();
/// assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "store.missing"));
/// assert!(!error.is_retryable());
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

/// What a disk says of names once the store's lock was given back: they may be another writer's.
#[derive(Debug)]
pub(crate) struct LockGivenBack;

impl fmt::Display for LockGivenBack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the store is closed")
    }
}

impl std::error::Error for LockGivenBack {}

struct Inner {
    kind: ErrorKind,
    code: &'static str,
    what: String,
    place: Option<Place>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

const _: () = assert!(size_of::<Error>() == size_of::<usize>());

impl Error {
    #[cold]
    pub(crate) fn new(kind: ErrorKind, code: &'static str, what: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, code, what: what.into(), place: None, cause: None }))
    }

    #[cold]
    /// For what comes to a store that is closed, or that is about to be.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Broken, "store.closed", "the store is closed")
    }

    pub(crate) fn invalid(code: &'static str, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, code, what)
    }

    #[cold]
    pub(crate) fn corrupt(code: &'static str, what: impl Into<String>, place: Place) -> Self {
        Self::new(ErrorKind::Corrupt, code, what).at(place)
    }

    /// What the operating system said about `what`: a full disk is [`ErrorKind::Full`].
    #[cold]
    pub(crate) fn io(what: impl Into<String>, cause: std::io::Error) -> Self {
        use std::io::ErrorKind as Os;
        if cause.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<LockGivenBack>) {
            return Self::closed();
        }
        let (kind, code) = match cause.kind() {
            Os::StorageFull | Os::QuotaExceeded => (ErrorKind::Full, "disk.full"),
            _ => (ErrorKind::Io, "io"),
        };
        Self::new(kind, code, what).caused_by(cause)
    }

    /// What durability is from now on unknown by.
    #[cold]
    pub(crate) fn indeterminate(cause: &Self) -> Self {
        let what = format!("an earlier failure leaves durability unknown: {cause}");
        Self::new(ErrorKind::Poisoned, "commit.indeterminate", what).caused_by(cause.clone())
    }

    #[must_use]
    #[cold]
    pub(crate) fn at(self, place: Place) -> Self {
        self.changed(|inner| inner.place = Some(place))
    }

    /// The same in other words.
    #[must_use]
    #[cold]
    pub(crate) fn saying(self, what: String) -> Self {
        self.changed(|inner| inner.what = what)
    }

    #[must_use]
    #[cold]
    pub(crate) fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.changed(|inner| inner.cause = Some(Arc::new(cause)))
    }

    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner {
            kind: self.0.kind,
            code: self.0.code,
            what: self.0.what.clone(),
            place: self.0.place.clone(),
            cause: self.0.cause.clone(),
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A stable name for programs, as `limit.value` or `commit.indeterminate`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Where on disk it was found, if it was.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// Whether it was found in this file.
    pub(crate) fn is_of(&self, file: impl fmt::Display) -> bool {
        self.place().is_some_and(|place| place.file == file.to_string())
    }

    /// Of damage, whether it may be none: the medium did not give bytes back, which it may at
    /// another time.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self.0.code, "page.unreadable" | "run.unreadable" | "segment.unreadable")
    }

    /// Whether the same call may succeed later without a change by the caller.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Aborted | ErrorKind::Busy | ErrorKind::Full | ErrorKind::Io
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.what)?;
        match &self.0.place {
            Some(place) => write!(out, " (in {place})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} [{}]: {self}", self.0.kind, self.0.code)?;
        match &self.0.cause {
            Some(cause) => write!(out, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn an_error_says_what_where_and_why() {
        let error =
            Error::corrupt("page.checksum", "page checksum differs", Place::new("seg/7", 9));
        assert_eq!(error.to_string(), "page checksum differs (in seg/7 at byte 9)");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(!error.is_retryable());
        let full = Error::io("preparing a WAL file", std::io::ErrorKind::StorageFull.into());
        assert_eq!((full.kind(), full.code()), (ErrorKind::Full, "disk.full"));
        assert!(full.is_retryable() && full.source().is_some());
    }
}

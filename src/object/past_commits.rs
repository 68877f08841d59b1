//! Commits over the key ranges of a past object, where they are too many for one layer.
//!
//! A single key range asks for the commits about its own keys. Who reads one range after the other
//! would walk over all commits each time: the commits about many ranges are taken at once then, as
//! far as memory goes, and serve until that end is reached.
//!
//! Invariants:
//!   * What is laid over a range is every commit behind the state that serves it, up to the moment.
//!     Earlier ones may be among them: in order they say again what the state says.

use super::history::HistoryRun;
use super::overlay::Sorted;
use super::past::commits_between;
use super::past_pages::{Past, reaches};
use crate::disk::bytes::SharedBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::record::{Operation, Operations, RECORD_HEADER_BYTES};
use crate::ids::Lsn;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of keys and values that are taken at once; with what a map adds, a few times as much.
const AHEAD_BYTES: usize = 8 << 20;

/// What commits say of the keys of a range.
#[derive(Clone, Debug, Default)]
pub(super) struct Commits {
    pub sorted: Arc<Sorted>,
    /// Whether a life ended in them.
    pub is_wiped: bool,
}

/// Commits about the keys from `lower` to before `upper`.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    taken: Option<Taken>,
    /// Where the range ended that was asked for last.
    next: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Taken {
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    /// Behind which LSN they begin.
    from: Lsn,
    commits: Commits,
}

/// How far commits are taken.
#[derive(Clone, Copy, Debug)]
enum Reach<'a> {
    /// To the end of a range; none for behind the last key.
    To(Option<&'a [u8]>),
    /// For as many keys as there is memory.
    Far,
}

impl Taken {
    fn serves(&self, from: Lsn, lower: &[u8], upper: Option<&[u8]>) -> bool {
        let ends = match (upper, &self.upper) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(upper), Some(own)) => upper <= own.as_slice(),
        };
        self.from <= from && *self.lower <= *lower && ends
    }
}

impl Past {
    /// The commits behind `from`, as far as they are about keys of a range.
    pub(super) fn commits_over(
        &self,
        from: Lsn,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> Result<Commits> {
        let from = from.max(self.before);
        let mut ahead = self.ahead.lock();
        let goes_on = ahead.next.as_deref() == Some(lower);
        ahead.next = upper.map(<[u8]>::to_vec);
        let serves = |taken: &&Taken| taken.serves(from, lower, upper);
        if let Some(taken) = ahead.taken.as_ref().filter(serves) {
            return Ok(taken.commits.clone());
        }
        if goes_on {
            let before = ahead.taken.take().map_or(from, |taken| taken.from);
            let least = from.min(before).min(self.sources_until()).max(self.before);
            let taken = ahead.taken.insert(self.take(least, lower, Reach::Far)?);
            if taken.serves(from, lower, upper) {
                return Ok(taken.commits.clone());
            }
        }
        drop(ahead);
        Ok(self.take(from, lower, Reach::To(upper))?.commits)
    }

    fn take(&self, from: Lsn, lower: &[u8], reach: Reach<'_>) -> Result<Taken> {
        let (mut sorted, mut is_wiped) = (Sorted::default(), false);
        let (is_far, upper) = match reach {
            Reach::To(upper) => (false, upper),
            Reach::Far => (true, None),
        };
        let (mut upper, mut bytes) = (upper.map(<[u8]>::to_vec), 0);
        let manifest = &self.version.manifest;
        let files: Vec<&Arc<HistoryRun>> =
            self.version.history.of(manifest, self.address.namespace).collect();
        commits_between(&self.version, &files, self.address, (from, self.at), |record, _, _| {
            let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
            for operation in Operations::new(payload) {
                let operation = operation.map_err(|Malformed(what)| {
                    Error::new(ErrorKind::Corrupt, "history.commit", what)
                })?;
                is_wiped |= matches!(operation, Operation::DeleteAll { .. });
                if let Some(operation) = clipped(&operation, lower, upper.as_deref()) {
                    sorted.apply_operation(&operation, |part| SharedBytes::from(part));
                    bytes += said(&operation);
                }
            }
            if is_far && bytes > AHEAD_BYTES {
                // What was said twice counts once from here on.
                (bytes, upper) = sorted.keep_first(AHEAD_BYTES / 2, upper.take());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let commits = Commits { sorted: Arc::new(sorted), is_wiped };
        Ok(Taken { lower: lower.to_vec(), upper, from, commits })
    }
}

/// Bytes of keys and values in an operation.
fn said(operation: &Operation<'_>) -> usize {
    match operation {
        Operation::Put { key, value, .. } => key.len() + value.len(),
        Operation::Delete { key } => key.len(),
        Operation::DeleteRange { start, end } => start.len() + end.len(),
        _ => 0,
    }
}

/// The part of an operation that is about keys of a range.
fn clipped<'a>(
    operation: &Operation<'a>,
    lower: &'a [u8],
    upper: Option<&'a [u8]>,
) -> Option<Operation<'a>> {
    let is_inside = |key: &[u8]| lower <= key && reaches(upper, key);
    match *operation {
        Operation::Put { key, .. } | Operation::Delete { key } => {
            is_inside(key).then_some(*operation)
        }
        Operation::DeleteRange { start, end } => {
            let start = start.max(lower);
            let end = upper.map_or(end, |upper| end.min(upper));
            (start < end).then_some(Operation::DeleteRange { start, end })
        }
        Operation::DeleteAll { .. }
        | Operation::SetAlarm(_)
        | Operation::ClearAlarm
        | Operation::Restored(_)
        | Operation::Adopt(_) => Some(*operation),
    }
}

//! The commits of an object, as far as layers and history hold them.
//!
//! Invariants:
//!   * What is told is every commit behind a moment, in order, or an error.

use super::View;
use super::history::walk_commits;
use super::retention;
use crate::error::{Error, ErrorKind, Result};
use crate::format::history::{Group, ItemKey};
use crate::format::record::{Operations, RECORD_HEADER_BYTES, RecordHeader};
use crate::ids::{Lsn, Timestamp};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A commit of an object.
#[derive(Clone, Debug)]
pub struct PastCommit {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its time.
    pub time: Timestamp,
    payload: Payload,
}

#[derive(Clone, Debug)]
enum Payload {
    /// Behind the header of a record.
    Record(Arc<[u8]>),
    Alone(Box<[u8]>),
}

impl PastCommit {
    fn of(record: &Arc<[u8]>) -> Option<Self> {
        let RecordHeader { lsn, time, .. } = RecordHeader::decode(record).ok()?;
        Some(Self { lsn, time, payload: Payload::Record(Arc::clone(record)) })
    }

    fn payload(&self) -> &[u8] {
        match &self.payload {
            Payload::Record(record) => record.get(RECORD_HEADER_BYTES..).unwrap_or_default(),
            Payload::Alone(payload) => payload,
        }
    }

    /// What it changed, in order.
    pub fn operations(&self) -> Operations<'_> {
        Operations::new(self.payload())
    }

    /// Bytes of its record in the log.
    pub fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload().len()
    }
}

impl View {
    /// The object's commits behind `after` that the view shows, the oldest first. Fails with
    /// `history.expired`, `history.off` or `history.purged` where they are not all there.
    pub fn commits(&self, after: Lsn) -> Result<Vec<PastCommit>> {
        retention::check_view(self, after)?;
        let manifest = &self.version.manifest;
        let namespace = self.address.namespace;
        let purged = manifest.purge_of(self.address).map(|purge| purge.lsn);
        let purged = self.layers.iter().filter_map(|layer| layer.purged).max().max(purged);
        if purged.is_some_and(|purged| after < purged) {
            let what = format!("the object's commits behind {after} were purged");
            return Err(Error::new(ErrorKind::NotRetained, "history.purged", what));
        }
        let from = ItemKey::first(self.address, Group::Commits, after.next());
        let to = ItemKey::last(self.address, Group::Commits, manifest.cut);
        let mut commits = Vec::new();
        let is_behind =
            after < self.version.head(self.address)?.map_or(Lsn::ZERO, |head| head.last_lsn);
        for file in self.version.history.of(manifest, namespace) {
            if !is_behind || file.file.end <= after || file.file.start == file.file.end {
                continue;
            }
            let run = self.version.history.open(file)?;
            if !run.may_hold(&self.address) {
                continue;
            }
            walk_commits(&run, (&from, &to), |lsn, commit| {
                let payload = Payload::Alone(commit.payload.into());
                commits.push(PastCommit { lsn, time: commit.time, payload });
                Ok(ControlFlow::Continue(()))
            })?;
        }
        commits.sort_by_key(|commit| commit.lsn);
        let records = self.layers.iter().flat_map(|layer| layer.records());
        let recent = records.filter_map(PastCommit::of);
        let covered = manifest.cut.max(after);
        commits.extend(recent.filter(|commit| commit.lsn > covered));
        Ok(commits)
    }
}

//! Files of history, opened when they are first needed, and the items of one object in them.
//!
//! Invariants:
//!   * Where items were lost to damage a walk fails; it never passes them by.
//!   * A walk holds one bundle in memory.

use crate::disk::ReadDisk;
use crate::error::Result;
use crate::format::Malformed;
use crate::format::history::{Bundle, BundleKey, CHUNK_BYTES, CommitStart, ItemKey};
use crate::format::manifest::{HistoryFile, Manifest};
use crate::ids::{Lsn, NamespaceNumber, StoreId};
use crate::limits::{LOGGED_COMMIT_BYTES_MAX, PAGE_BYTES_MAX};
use crate::run::cursor::Position;
use crate::run::{Run, RunCursor};
use crate::segment::dictionary;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

/// The retention class of namespaces that never had another.
pub const DEFAULT_CLASS: u32 = 1;

/// A file of history.
#[derive(Debug)]
pub struct HistoryRun {
    /// What the manifest says of it.
    pub file: HistoryFile,
    run: OnceLock<Arc<Run>>,
}

/// The files of history that one manifest names, in the order of the spans that they cover.
#[derive(Debug)]
pub struct HistoryRuns {
    disk: Arc<dyn ReadDisk>,
    store: StoreId,
    files: Vec<Arc<HistoryRun>>,
}

impl HistoryRuns {
    /// The files of a manifest; those that `before` has open are not opened again.
    pub fn new(disk: Arc<dyn ReadDisk>, manifest: &Manifest, before: Option<&Self>) -> Self {
        let known: BTreeMap<_, _> = before
            .into_iter()
            .flat_map(|before| &before.files)
            .map(|run| (run.file.facts.number, run))
            .collect();
        let open = |file: &HistoryFile| match known.get(&file.facts.number) {
            Some(run) if run.file == *file => Arc::clone(run),
            _ => Arc::new(HistoryRun { file: *file, run: OnceLock::new() }),
        };
        let mut files: Vec<_> = manifest.history.iter().map(open).collect();
        files.sort_by_key(|run| order(&run.file));
        Self { disk, store: manifest.store, files }
    }

    /// The disk that they lie on.
    pub fn disk(&self) -> &Arc<dyn ReadDisk> {
        &self.disk
    }

    /// The files in which commits and states of a namespace may be.
    pub fn of<'a>(
        &'a self,
        manifest: &'a Manifest,
        namespace: NamespaceNumber,
    ) -> impl Iterator<Item = &'a Arc<HistoryRun>> {
        self.files.iter().filter(move |run| {
            // A file of states alone stands at the very beginning of what it belongs to.
            let inside =
                if run.file.start < run.file.end { run.file.end } else { run.file.end.next() };
            class_at(manifest, namespace, inside) == run.file.class
        })
    }

    /// The run of a file that the manifest names.
    pub fn open_file(&self, file: &HistoryFile) -> Result<Arc<Run>> {
        match self.files.iter().find(|run| run.file == *file) {
            Some(run) => self.open(run),
            None => Run::open(&*self.disk, self.store, &file.facts),
        }
    }

    /// The run of a file, for whoever walks over all of it and replaces it then.
    pub fn open_to_walk(&self, file: &HistoryFile) -> Result<Arc<Run>> {
        Run::open_to_walk(&*self.disk, self.store, &file.facts)
    }

    /// The run of a file; opens it the first time.
    pub fn open(&self, file: &HistoryRun) -> Result<Arc<Run>> {
        if let Some(run) = file.run.get() {
            return Ok(Arc::clone(run));
        }
        let run = Run::open(&*self.disk, self.store, &file.file.facts)?;
        Ok(Arc::clone(file.run.get_or_init(|| run)))
    }
}

/// By what files of history are ordered: one of states alone stands behind the commits up to its
/// LSN.
pub fn order(file: &HistoryFile) -> (Lsn, Lsn, u32, u64) {
    (file.end, file.start, file.class, file.facts.number.0)
}

/// The retention class that a namespace had at a commit.
pub fn class_at(manifest: &Manifest, namespace: NamespaceNumber, at: Lsn) -> u32 {
    let changes = manifest.classes.iter().rev();
    let mut own = changes.filter(|change| change.namespace == namespace && change.from < at);
    own.next().map_or(DEFAULT_CLASS, |change| change.class)
}

/// The bundle of an entry of a run of history.
pub fn bundle_of(run: &Run, value: &[u8]) -> Result<Bundle> {
    let expand = |frame: &[u8], raw: &mut [u8]| dictionary::expand(None, frame, raw);
    Bundle::decode(value, expand).map_err(|fault| run.bad_entry(fault))
}

/// What a walk says to each item.
pub type Walked = Result<ControlFlow<()>>;

/// Hands out the items of one object with keys from `from` to `to`, both included, upwards.
pub fn walk_up(
    run: &Run,
    (from, to): (&ItemKey, &ItemKey),
    mut each: impl FnMut(&ItemKey, &[u8]) -> Walked,
) -> Result<()> {
    if !run.may_hold(&from.address) {
        return Ok(());
    }
    let mut cursor = run.cursor();
    if !place(run, &mut cursor, from, from, to)? {
        cursor.seek_ceiling(&from.encode())?;
    }
    while let Some(bundle) = bundle_at(run, &cursor, to)? {
        for index in bundle.lower_bound(from)..bundle.count() {
            let Some((key, value)) = bundle.item(index) else { break };
            if key > *to || each(&key, value)?.is_break() {
                return Ok(());
            }
        }
        cursor.next()?;
    }
    Ok(())
}

/// The same from `to` down to `from`.
pub fn walk_down(
    run: &Run,
    (from, to): (&ItemKey, &ItemKey),
    mut each: impl FnMut(&ItemKey, &[u8]) -> Walked,
) -> Result<()> {
    if !run.may_hold(&from.address) {
        return Ok(());
    }
    let mut cursor = run.cursor();
    if !place(run, &mut cursor, to, from, to)? {
        return Ok(());
    }
    while let Some(bundle) = bundle_at(run, &cursor, to)? {
        let end = bundle.lower_bound(to);
        let is_at = bundle.item(end).is_some_and(|(key, _)| key == *to);
        for index in (0..end + usize::from(is_at)).rev() {
            let Some((key, value)) = bundle.item(index) else { break };
            if key < *from || each(&key, value)?.is_break() {
                return Ok(());
            }
        }
        if bundle.item(0).is_none_or(|(first, _)| first <= *from) {
            return Ok(());
        }
        cursor.previous()?;
    }
    Ok(())
}

/// Places a cursor at the bundle in which `key` would be. False where it is before the first, or
/// where the run knows nothing of the object.
fn place(
    run: &Run,
    cursor: &mut RunCursor<'_>,
    key: &ItemKey,
    from: &ItemKey,
    to: &ItemKey,
) -> Result<bool> {
    check_holes(run, from, to)?;
    cursor.seek_floor(&BundleKey::last(key))?;
    Ok(cursor.position() != Position::Outside)
}

/// Fails where items of a span may have been lost before the run was written.
pub(super) fn check_holes(run: &Run, from: &ItemKey, to: &ItemKey) -> Result<()> {
    let (first, last) = (from.encode(), BundleKey::last(to));
    let is_lost = |hole: &crate::format::run::Hole| {
        hole.first.as_slice() <= &last[..] && hole.last.as_slice() >= &first[..]
    };
    if run.holes().iter().any(is_lost) { Err(run.hidden()) } else { Ok(()) }
}

/// The bundle that a cursor is at; none behind `to` and outside of the run.
pub(super) fn bundle_at(run: &Run, cursor: &RunCursor<'_>, to: &ItemKey) -> Result<Option<Bundle>> {
    match cursor.position() {
        Position::Outside => Ok(None),
        Position::Entry(first, _) | Position::Damaged(first, _)
            if first > &BundleKey::last(to)[..] =>
        {
            Ok(None)
        }
        Position::Entry(_, value) => bundle_of(run, value).map(Some),
        Position::Damaged(..) => Err(cursor.hidden()),
    }
}

/// The value that begins with an item, all chunks of it joined.
pub fn whole_value(run: &Run, key: &ItemKey) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    let last = ItemKey { chunk: u16::MAX, ..*key };
    walk_up(run, (key, &last), |_, value| {
        if whole.len() > PAGE_BYTES_MAX {
            return Err(run.bad_entry(Malformed("a state longer than any page")));
        }
        whole.extend_from_slice(value);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(whole)
}

/// Hands out the commits of an object with items between two keys, upwards: LSN, and what its
/// chunks say together.
pub fn walk_commits(
    run: &Run,
    (from, to): (&ItemKey, &ItemKey),
    mut each: impl FnMut(Lsn, CommitStart<'_>) -> Walked,
) -> Result<()> {
    // A commit in several chunks, until its last one.
    let mut open: Option<(ItemKey, Vec<u8>)> = None;
    walk_up(run, (from, to), |key, value| {
        if key.chunk > 0 {
            let Some((first, whole)) = &mut open else {
                return Err(run.bad_entry(Malformed("a chunk without its first")));
            };
            whole.extend_from_slice(value);
            let (first, whole) = (*first, &*whole);
            let commit = CommitStart::decode(whole).map_err(|fault| run.bad_entry(fault))?;
            if commit.payload.len() < commit.bytes as usize {
                return Ok(ControlFlow::Continue(()));
            }
            let told = each(first.lsn, commit)?;
            open = None;
            return Ok(told);
        }
        let commit = CommitStart::decode(value).map_err(|fault| run.bad_entry(fault))?;
        if commit.payload.len() < commit.bytes as usize {
            open = Some((*key, value.to_vec()));
            return Ok(ControlFlow::Continue(()));
        }
        each(key.lsn, commit)
    })?;
    if open.is_some() {
        return Err(run.bad_entry(Malformed("a commit without its last chunk")));
    }
    Ok(())
}

/// The same downwards.
pub fn walk_commits_down(
    run: &Run,
    (from, to): (&ItemKey, &ItemKey),
    mut each: impl FnMut(Lsn, CommitStart<'_>) -> Walked,
) -> Result<()> {
    // Chunks of a commit, the last one first, until its first one.
    let (mut rest, mut bytes): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
    walk_down(run, (from, to), |key, value| {
        bytes = if rest.is_empty() { 0 } else { bytes } + value.len();
        if bytes > LOGGED_COMMIT_BYTES_MAX + CHUNK_BYTES {
            return Err(run.bad_entry(Malformed("a commit longer than any")));
        }
        if key.chunk > 0 {
            rest.push(value.to_vec());
            return Ok(ControlFlow::Continue(()));
        }
        let joined: Vec<u8>;
        let mut value = value;
        if !rest.is_empty() {
            joined = std::iter::once(value)
                .chain(rest.iter().rev().map(|part| &**part))
                .collect::<Vec<_>>()
                .concat();
            value = &joined;
        }
        let commit = CommitStart::decode(value).map_err(|fault| run.bad_entry(fault))?;
        if commit.payload.len() < commit.bytes as usize {
            let fault = Malformed("a commit without its last chunk");
            return Err(run.bad_entry(fault));
        }
        let told = each(key.lsn, commit)?;
        rest.clear();
        Ok(told)
    })?;
    if rest.is_empty() {
        return Ok(());
    }
    Err(run.bad_entry(Malformed("a chunk without its first")))
}

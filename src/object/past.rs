//! An object as it was: a view of a past moment, made from a view of the present one.
//!
//! For each key range by itself, what is looked for is a state that was exact at or before the
//! moment: in the files of the moment's epoch, else in later ones, else among the pages of the
//! present. The commits from where that state ends up to the moment are laid over it. A small
//! object is looked for from the moment's own file back, and the first state serves.
//!
//! Needs no engine, so a reader in another process does the same.
//!
//! Invariants:
//!   * What a past view says is what was committed up to its moment, or an error: never "absent"
//!     where something is only not found.
//!   * Nothing of an epoch before that of the moment is read.

use super::View;
use super::history::{HistoryRun, walk_commits, walk_down};
use super::overlay::{Found, Layer, Sorted};
use super::past_pages::{Finding, FoundKind, Past};
use super::retention;
use super::state::HeadState;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::entry::Head;
use crate::format::history::{Group, ItemKey, State};
use crate::format::own_keys::{IMPORT_KEY, NAME_KEY, RESTORE_KEY};
use crate::format::page::PageHeader;
use crate::format::record::{
    Operation, Operations, RECORD_HEADER_BYTES, RecordHeader, RecordKind, is_purge,
    without_adoption,
};
use crate::ids::{Address, Life, Lsn, Timestamp};
use crate::marks::{Mark, mark};
use crate::object::version::Version;
use crate::planted::{Mistake, planted};
use crate::run::Run;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of commits behind a state that are laid over it as a whole; more than that are laid over
/// each key range when it is read.
const LAYER_BYTES_MAX: usize = 4 << 20;
/// The same behind the first state that was come upon: behind others there may be fewer.
const NEAREST_BYTES_MAX: usize = 1 << 20;

impl View {
    /// The last commit that purged the object, if one did.
    pub fn last_purge(&self) -> Option<Lsn> {
        if planted(Mistake::IgnorePurge) {
            return None;
        }
        let published = self.version.manifest.purge_of(self.address).map(|purge| purge.lsn);
        self.layers.iter().filter_map(|layer| layer.purged).max().max(published)
    }

    /// The object as of `at`: with the effects of its commits up to there and of none later.
    ///
    /// Fails with `history.gap` where history does not hold what is needed, with
    /// `history.purged` for a moment before a purge, and with the codes of damaged pages and runs.
    pub fn as_of(self, at: Lsn) -> Result<Self> {
        if retention::is_present(&self, at) {
            return Ok(self);
        }
        retention::check(&self.version.manifest, self.address.namespace, at)?;
        let purged = self.last_purge();
        if purged.is_some_and(|purged| at < purged) {
            mark(Mark::RefusedPurged);
            let what = format!("the history of the object before {at} was purged");
            return Err(Error::new(ErrorKind::NotRetained, "history.purged", what));
        }
        let head = self.version.head(self.address)?;
        let before = HeadState::of(head.as_ref());
        if at >= before.last_lsn {
            return Ok(self.with_commits_up_to(at, before));
        }
        let search = |reach| Search::new(&self.version, (self.address, at), purged, reach);
        if let Some(view) = search(Reach::Nearest)?.into_view(head.clone())? {
            return Ok(view);
        }
        search(Reach::Epoch)?.into_view(head)?.ok_or_else(|| gap(at))
    }

    /// The object as of `at` from history alone, whatever its pages are: for whoever writes one of
    /// them anew. Fails as [`View::as_of`] does, for a moment that no state and no commit tell
    /// when the object is looked at. What its head says of names and imports is not asked for.
    pub fn of_history(version: &Arc<Version>, address: Address, at: Lsn) -> Result<Self> {
        retention::check(&version.manifest, address.namespace, at)?;
        let purged = version.manifest.purge_of(address).map(|purge| purge.lsn);
        if purged.is_some_and(|purged| at < purged) {
            return Err(gap(at));
        }
        let search = |reach| Search::new(version, (address, at), purged, reach);
        let mut view = search(Reach::Nearest)?.into_bare_view(None)?;
        if view.is_none() {
            view = search(Reach::Epoch)?.into_bare_view(None)?;
        }
        if planted(Mistake::RebuildWithoutCommits) {
            view = view.map(|view| Self { layers: Vec::new(), ..view });
        }
        view.ok_or_else(|| gap(at))
    }

    /// Whether commits lie over the states that it was found by.
    pub fn has_commits(&self) -> bool {
        !self.layers.is_empty() || self.past.as_ref().is_some_and(|past| past.lays_commits())
    }

    /// The pages of its version, in the state `before`, with the commits of the layers up to `at`.
    fn with_commits_up_to(self, at: Lsn, before: HeadState) -> Self {
        let cut = self.version.manifest.cut;
        let records = self.layers.iter().flat_map(|layer| layer.records());
        let decoded =
            records.filter_map(|record| Some((RecordHeader::decode(record).ok()?, record)));
        let counts = |header: &RecordHeader| header.lsn > cut && header.lsn <= at;
        let counted: Vec<_> = decoded.filter(|(header, _)| counts(header)).collect();
        // What a life ended with is no more; only the head remembers it.
        let end = counted.iter().rposition(|(_, record)| ends_life(record)).unwrap_or(0);
        let mut state = before;
        let mut purged = None;
        for (header, record) in &counted[..end] {
            state.apply_record(record, header.lsn, header.time);
            purged = if is_purge(record) { Some(header.lsn) } else { purged };
        }
        let mut layer = Layer::new(0, state);
        layer.purged = purged;
        for (header, record) in &counted[end..] {
            layer.apply(Arc::clone(record), header.lsn, header.time);
        }
        let state = layer.after.clone();
        let layers = if layer.bytes > 0 { vec![Arc::new(layer)] } else { Vec::new() };
        Self { layers, state, ..self }
    }
}

/// Whether a commit ends the life of its object.
fn ends_life(record: &[u8]) -> bool {
    let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
    let mut operations = Operations::new(payload).map_while(std::result::Result::ok);
    let is_end = |operation| matches!(operation, Operation::DeleteAll { .. } | Operation::Adopt(_));
    operations.any(is_end)
}

#[cold]
pub(super) fn gap(at: Lsn) -> Error {
    let what = format!("history does not hold what the object was as of {at}");
    Error::new(ErrorKind::NotRetained, "history.gap", what)
}

/// Which files of a moment's epoch are asked for states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Those back to the first state of a small object.
    Nearest,
    /// All, for there are many commits behind that one.
    Epoch,
}

/// What the head said, with the LSNs from and to which it said it.
#[derive(Clone, Debug)]
struct FoundHead {
    exact: Lsn,
    until: Lsn,
    state: HeadState,
}

/// A search for the states of one object at one moment.
struct Search<'a> {
    version: &'a Arc<Version>,
    address: Address,
    at: Lsn,
    past: Past,
    head: Option<FoundHead>,
    /// The files of the moment's epoch.
    own: Vec<&'a Arc<HistoryRun>>,
    /// Commits up to here belong to earlier epochs, or to lives before pages were adopted.
    before: Lsn,
    /// The last commit up to the moment that adopted pages: nothing from before it counts.
    adopted: Lsn,
    /// Whether files of the epoch were not asked.
    is_cut_short: bool,
}

impl<'a> Search<'a> {
    fn new(
        version: &'a Arc<Version>,
        (address, at): (Address, Lsn),
        purged: Option<Lsn>,
        reach: Reach,
    ) -> Result<Self> {
        let files: Vec<_> = version.history.of(&version.manifest, address.namespace).collect();
        let spans = || files.iter().filter(|run| run.file.start < run.file.end);
        let Some(epoch) = spans().find(|run| run.file.end >= at).map(|run| run.file.epoch) else {
            return Err(gap(at));
        };
        let own: Vec<_> = files.iter().copied().filter(|run| run.file.epoch == epoch).collect();
        // Earlier epochs may have expired. A file of states alone counts: what was committed
        // behind it is of this epoch, though the first file with commits may begin later.
        let before = own.iter().map(|run| run.file.start).min().unwrap_or(Lsn::ZERO);
        let later = files.iter().copied().filter(|run| run.file.epoch > epoch).collect();
        let past = Past::new(version, address, at);
        let (head, adopted, is_cut_short) = (None, Lsn::ZERO, false);
        let mut search =
            Self { version, address, at, past, head, own, before, adopted, is_cut_short };
        search.look_through(later, purged, reach)?;
        Ok(search)
    }

    /// Looks for states in the files that begin before the moment, the nearest first. Of a small
    /// object the first state is enough: the commits in files behind it do the rest. Of any other,
    /// looks into all files of the epoch, and then into `later` ones.
    fn look_through(
        &mut self,
        later: Vec<&Arc<HistoryRun>>,
        purged: Option<Lsn>,
        reach: Reach,
    ) -> Result<()> {
        let (own, mut found) = (self.own.clone(), Vec::new());
        let (near, behind): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|run| run.file.start < self.at);
        for run in near.into_iter().rev().chain(behind) {
            self.collect(run, purged, &mut found)?;
            let is_small = found.iter().all(Finding::is_whole);
            let has_state = found.iter().any(Finding::is_start) && self.head.is_some();
            if reach == Reach::Nearest && is_small && has_state {
                self.is_cut_short = true;
                break;
            }
        }
        // Of an epoch behind the purge there are states of its own.
        if let Some(purged) = purged.filter(|purged| *purged > self.before) {
            found.push(Finding::absent(purged, purged));
            let state = HeadState { last_lsn: purged, deleted: true, ..HeadState::default() };
            self.note_head(FoundHead { exact: purged, until: purged, state });
        }
        // The commit that adopted says more than its pages do.
        if !planted(Mistake::CrossAdoptions) {
            self.before = self.before.max(Lsn(self.adopted.0.saturating_sub(1)));
            found.retain(|finding| finding.exact >= self.adopted);
        }
        let mut lost = self.past.claim(found, self.before);
        for run in later {
            if self.past.is_covered() && self.head.is_some() {
                break;
            }
            let mut found = Vec::new();
            let known = self.head.take();
            self.collect(run, purged, &mut found)?;
            self.head = known.or_else(|| self.head.take());
            lost.extend(self.past.claim(found, self.before));
        }
        self.past.claim_lost(lost);
        Ok(())
    }

    fn note_head(&mut self, head: FoundHead) {
        let is_nearer = |known: &FoundHead| (known.exact, known.until) < (head.exact, head.until);
        if self.head.as_ref().is_none_or(is_nearer) {
            self.head = Some(head);
        }
    }

    /// States of a file that are exact at or before the moment, the nearest first.
    fn collect(
        &mut self,
        file: &HistoryRun,
        purged: Option<Lsn>,
        found: &mut Vec<Finding>,
    ) -> Result<()> {
        let run = self.version.history.open(file)?;
        let from = ItemKey::first(self.address, Group::States, purged.unwrap_or(Lsn::ZERO));
        let to = ItemKey::last(self.address, Group::States, self.at);
        let (mut has_whole, mut has_head) = (false, false);
        walk_down(&run, (&from, &to), |key, value| {
            if key.chunk > 0 {
                return Ok(ControlFlow::Continue(()));
            }
            let state = State::decode(value).map_err(|fault| run.bad_entry(fault))?;
            if key.lsn < self.adopted {
                return Ok(ControlFlow::Break(()));
            }
            if let State::Head { until, time, alarm, adopted } = state {
                has_head = true;
                if adopted {
                    mark(Mark::PastAdopted);
                    self.adopted = self.adopted.max(key.lsn);
                }
                self.note_head(FoundHead::of(key.lsn, (until, time), alarm));
            } else {
                let finding = finding_of(&run, key, &state)?;
                if finding.kind == FoundKind::Absent && key.lsn == Lsn::ZERO {
                    has_head = true;
                    self.note_head(FoundHead::of(Lsn::ZERO, (finding.until, Timestamp(0)), None));
                }
                has_whole |= finding.is_start() && finding.is_whole();
                found.push(finding);
            }
            // What is exact earlier than a state of everything is farther away for every key.
            let is_enough = has_whole && has_head;
            Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }

    /// Hands out the object's commits behind `from` up to the moment.
    fn commits(
        &self,
        from: Lsn,
        mut each: impl FnMut(Arc<[u8]>, Lsn, Timestamp) -> ControlFlow<()>,
    ) -> Result<()> {
        commits_between(
            self.version,
            &self.own,
            self.address,
            (from, self.at),
            |record, lsn, time| Ok(each(record, lsn, time)),
        )
    }

    /// The view of the moment; none where more commits lie behind the state that was found than
    /// behind another, maybe.
    fn into_view(self, head: Option<Head>) -> Result<Option<View>> {
        let Some(mut view) = self.into_bare_view(head)? else { return Ok(None) };
        let is_value = |found| matches!(found, Some(Found::Value(..)));
        let has = |key| view.find(key).is_ok_and(is_value);
        let (named, restores) = (has(NAME_KEY), has(RESTORE_KEY));
        // Where nobody can tell whether an import was complete, nothing is shown.
        let unfinished = is_value(view.find(IMPORT_KEY)?);
        view.state = HeadState { named, unfinished, restores, ..view.state };
        Ok(Some(view))
    }

    /// The same, without what the first pages say of the object itself.
    fn into_bare_view(mut self, head: Option<Head>) -> Result<Option<View>> {
        self.past.set_present(head);
        let Some(found) = self.head.clone() else { return Err(gap(self.at)) };
        let mut state = found.state;
        state.life = self.past.first_life();
        state.deleted = self.past.is_absent();
        let from = self.past.needs_commits_from(self.before).min(found.until);
        let mut layer = Layer::new(0, state.clone());
        let (mut is_long, mut is_far) = (false, false);
        let may_be_long = !self.past.is_one_page();
        if from < self.at {
            self.commits(from, |record, lsn, time| {
                let bytes = layer.bytes + record.len();
                is_long |= may_be_long && bytes > LAYER_BYTES_MAX;
                is_far |= self.is_cut_short && bytes > NEAREST_BYTES_MAX;
                if is_long || is_far {
                    return ControlFlow::Break(());
                }
                layer.apply(record, lsn, time);
                ControlFlow::Continue(())
            })?;
        }
        if is_far {
            return Ok(None);
        }
        let mut layers = Vec::new();
        if is_long {
            self.commits(from, |record, lsn, time| {
                state.apply_record(&record, lsn, time);
                ControlFlow::Continue(())
            })?;
            self.past.lay_commits_over_windows();
        } else {
            state = layer.after.clone();
            if layer.bytes > 0 {
                layers.push(Arc::new(layer));
            }
        }
        let (address, version) = (self.address, Arc::clone(self.version));
        let past = Some(Arc::new(self.past));
        let (found, read) = (None, None);
        Ok(Some(View { address, version, layers, state, past, found, read }))
    }
}

impl FoundHead {
    fn of(exact: Lsn, (until, time): (Lsn, Timestamp), alarm: Option<crate::alarm::Alarm>) -> Self {
        let state = HeadState { last_lsn: exact, last_time: time, alarm, ..HeadState::default() };
        Self { exact, until, state }
    }
}

fn finding_of(run: &Arc<Run>, key: &ItemKey, state: &State<'_>) -> Result<Finding> {
    let mut finding = Finding::absent(key.lsn, state.until());
    finding.place = Some((Arc::clone(run), *key));
    match *state {
        State::Page { end, frame, .. } | State::Delta { end, frame, .. } => {
            let is_page = matches!(state, State::Page { .. });
            let header = PageHeader::decode(frame).map_err(|fault| run.bad_entry(fault))?;
            let fence = header.fence_in(frame).map_err(|fault| run.bad_entry(fault))?;
            if header.address != key.address {
                return Err(run.bad_entry(Malformed("the page of another object")));
            }
            finding.kind = if is_page { FoundKind::Page } else { FoundKind::Delta };
            finding.over = header.until;
            finding.set_range(header.life, fence, end);
        }
        State::Lost { life, fence, end, .. } => {
            finding.kind = FoundKind::Lost;
            finding.set_range(life, fence, end);
        }
        State::Absent { .. } | State::Head { .. } => finding.set_range(Life(0), &[], None),
    }
    Ok(finding)
}

/// What the commits of an object behind `from` up to `to` say of the keys from `lower` to before
/// `upper`, from history alone. Fails where history does not hold them, or a life ended in them.
pub fn changes_between(
    version: &Arc<Version>,
    address: Address,
    (from, to): (Lsn, Lsn),
    (lower, upper): (&[u8], Option<&[u8]>),
) -> Result<Arc<Sorted>> {
    retention::check(&version.manifest, address.namespace, from)?;
    let is_purged = version.manifest.purge_of(address).is_some_and(|purge| purge.lsn > from);
    let commits = Past::new(version, address, to).commits_over(from, lower, upper)?;
    if is_purged || commits.is_wiped { Err(gap(to)) } else { Ok(commits.sorted) }
}

/// Hands out the commits of an object behind `from` up to `to`, as records, from these files.
pub(super) fn commits_between(
    version: &Version,
    files: &[&Arc<HistoryRun>],
    address: Address,
    (from, to): (Lsn, Lsn),
    mut each: impl FnMut(Arc<[u8]>, Lsn, Timestamp) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let first = ItemKey::first(address, Group::Commits, from.next());
    let last = ItemKey::last(address, Group::Commits, to);
    let mut is_over = false;
    for file in files.iter().filter(|run| run.file.end > from && run.file.start < to) {
        let run = version.history.open(file)?;
        walk_commits(&run, (&first, &last), |lsn, commit| {
            // Pages that were adopted are among the states.
            let payload = without_adoption(commit.payload);
            let header = RecordHeader {
                length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
                kind: RecordKind::Commit,
                lsn,
                time: commit.time,
                address,
            };
            let mut record = Vec::with_capacity(RECORD_HEADER_BYTES + payload.len());
            record.extend_from_slice(&header.encode());
            record.extend_from_slice(payload);
            let told = each(Arc::from(record), lsn, commit.time)?;
            is_over = told.is_break();
            Ok(told)
        })?;
        if is_over {
            break;
        }
    }
    Ok(())
}

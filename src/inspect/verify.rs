//! Verification: every structure of a store against its checksums and against every other.
//!
//! It never stops at the first fault, writes nothing, takes no lock, and works beside a writer:
//! where one has replaced files while they were read, the walk begins again with the newest
//! manifest.
//!
//! Invariants:
//!   * A fault names a file. What a crash may leave behind is a note, not a fault.
//!   * Memory does not depend on the number of objects.

use crate::directory::Directory;
use crate::disk::ReadDisk;
use crate::error::{Error, Place};
use crate::format::manifest::Manifest;
use crate::format::record::{Operations, RecordView};
use crate::ids::{FileNumber, LogPosition};
use crate::inspect::catalog::Catalog;
use crate::inspect::files::{self, Listing};
use crate::inspect::objects::Objects;
use crate::inspect::report::{FAULTS_MAX, Fault, Report, message};
use crate::inspect::runs::Runs;
use crate::manifest;
use crate::names::{FileName, Folder};
use crate::segment::SegmentSet;
use crate::wal::reader::{Live, Replayed, Verdict, replay, replay_proven};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How often a walk that a writer overtook begins again.
const ATTEMPTS: usize = 3;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything that can still be read by a user, and the log.
    Live,
    /// Dead pages too: what they show is that the medium fails.
    Everything,
}

/// Verifies a store whole.
pub fn verify(disk: impl ReadDisk + 'static) -> Report {
    verify_to(disk, Depth::Everything)
}

/// Verifies a store to some depth.
pub fn verify_to(disk: impl ReadDisk + 'static, depth: Depth) -> Report {
    verify_shared(&(Arc::new(disk) as Arc<dyn ReadDisk>), depth)
}

/// The same for a disk that others hold too.
pub fn verify_shared(disk: &Arc<dyn ReadDisk>, depth: Depth) -> Report {
    let mut attempt = 1;
    loop {
        let mut report = Report::default();
        let manifest = walk(disk, depth, &mut report);
        let Some(newest) = overtaken(disk, manifest.as_ref(), &report) else { return report };
        if attempt == ATTEMPTS {
            forgive(&mut report, &newest);
            return report;
        }
        attempt += 1;
    }
}

/// The newest manifest, if faults may be due to files that it no longer names.
fn overtaken(
    disk: &Arc<dyn ReadDisk>,
    manifest: Option<&Manifest>,
    report: &Report,
) -> Option<Manifest> {
    let before = manifest.filter(|_| !report.is_clean())?;
    let newest = manifest::read(&**disk).ok()??;
    (newest.generation != before.generation).then_some(newest)
}

/// Takes back the faults of files that were given up meanwhile.
fn forgive(report: &mut Report, newest: &Manifest) {
    let named: BTreeSet<String> = files::named(newest).keys().map(ToString::to_string).collect();
    let given_up = |file: &str| {
        let (folder, leaf) = file.split_once('/').unwrap_or(("", file));
        let folder = Folder::ALL.into_iter().find(|known| known.path() == folder);
        match folder.and_then(|folder| FileName::parse(folder, leaf)) {
            Some(FileName::Wal(number)) => number < newest.replay.file,
            Some(FileName::Segment(_) | FileName::Run(_)) => !named.contains(file),
            _ => false,
        }
    };
    let found = report.faults.len();
    report.faults.retain(|fault| !given_up(&fault.place.file));
    if report.faults.len() < found {
        report.note("a writer replaced files while they were read; verify again");
    }
}

fn walk(disk: &Arc<dyn ReadDisk>, depth: Depth, report: &mut Report) -> Option<Manifest> {
    let manifest = match manifest::read(&**disk) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            report.wrong(FileName::Manifest, "there is no manifest");
            return None;
        }
        Err(error) => {
            report.failed(&error, FileName::Manifest, None);
            return None;
        }
    };
    report.store = Some(manifest.store);
    report.generation = manifest.generation;
    report.cut = manifest.cut;
    report.position = manifest.cut;
    report.counts.files = 1;
    check_manifest(&manifest, report);
    match Listing::read(&**disk) {
        Ok(listing) => {
            files::check(&**disk, &manifest, &listing, report);
            files::note_others(&**disk, &manifest, &listing, report);
        }
        Err(error) => report.failed(&error, FileName::Manifest, None),
    }
    check_content(disk, &manifest, depth, report);
    check_log(&**disk, &manifest, report);
    Some(manifest)
}

fn check_manifest(manifest: &Manifest, report: &mut Report) {
    let mut wrong = |what: String| report.wrong(FileName::Manifest, what);
    for pair in manifest.terms.windows(2) {
        if pair[0].term >= pair[1].term || pair[0].last >= pair[1].first {
            wrong(format!("terms {} and {} overlap", pair[0].term, pair[1].term));
        }
    }
    for state in &manifest.segments {
        let number = state.facts.number;
        if state.live_bytes > state.facts.page_bytes || state.live_pages > state.facts.pages {
            wrong(format!("more of {} is live than it holds", FileName::Segment(number)));
        }
        if state.written_at > manifest.cut {
            wrong(format!("{} was written after the cut", FileName::Segment(number)));
        }
    }
    if manifest.replay.file >= manifest.next_file && manifest.replay.file != FileNumber(0) {
        wrong(format!("replay begins in file {}, not given out yet", manifest.replay.file));
    }
}

/// Runs, objects with their pages, and segments whole.
fn check_content(disk: &Arc<dyn ReadDisk>, manifest: &Manifest, depth: Depth, report: &mut Report) {
    let runs = Runs::check(&**disk, manifest, report);
    let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
    manifest.segments.iter().for_each(|state| segments.add(&state.facts));
    let mut damaged = BTreeSet::new();
    if runs.is_directory_whole {
        let directory = Directory::new(runs.directory.clone());
        let catalog = Catalog::read(&directory, &segments);
        let namespaces = catalog.and_then(|catalog| catalog.namespaces());
        if let Err(error) = &namespaces {
            report.note(format!("names were not checked: {error}"));
        }
        let mut objects = Objects::new(manifest, (&directory, &runs), &segments, report);
        if let Ok(namespaces) = namespaces {
            objects.expect_namespaces(namespaces);
        }
        objects.check(manifest);
        damaged = std::mem::take(&mut objects.damaged);
    } else {
        report.note("objects were not checked: a part of the directory did not open");
    }
    for state in &manifest.segments {
        let number = state.facts.number;
        if let Err(error) = segments.verify_ends(number) {
            report.failed(&error, FileName::Segment(number), None);
        }
    }
    if depth == Depth::Everything {
        check_segments(manifest, &segments, &damaged, report);
    }
}

/// Reads segments from the first page to the last; `told` are damaged pages that are known.
fn check_segments(
    manifest: &Manifest,
    segments: &SegmentSet,
    told: &BTreeSet<(FileNumber, u64)>,
    report: &mut Report,
) {
    for state in &manifest.segments {
        let (number, name) = (state.facts.number, FileName::Segment(state.facts.number));
        let pages = match segments.scan(number) {
            Ok(pages) => pages,
            Err(error) => {
                report.failed(&error, name, None);
                continue;
            }
        };
        let (mut count, mut bytes, mut is_whole) = (0, 0, true);
        for page in pages {
            match page {
                Ok(page) => {
                    count += 1;
                    bytes += u64::from(page.location.bytes);
                }
                Err(error) => {
                    is_whole = false;
                    check_scan_error(&error, name, told, report);
                }
            }
        }
        report.counts.scanned_pages += count;
        if is_whole && (count, bytes) != (state.facts.pages, state.facts.page_bytes) {
            let (pages, page_bytes) = (state.facts.pages, state.facts.page_bytes);
            let what =
                format!("holds {count} pages of {bytes} bytes instead of {pages} of {page_bytes}");
            report.wrong(name, what);
        }
    }
}

fn check_scan_error(
    error: &Error,
    name: FileName,
    told: &BTreeSet<(FileNumber, u64)>,
    report: &mut Report,
) {
    let place = error.place().cloned().unwrap_or_else(|| Place::new(name, 0));
    let is_told = name.number().is_some_and(|number| told.contains(&(number, place.offset)));
    if !is_told {
        report.fault(Fault { place, object: None, what: message(error), is_live: false });
    }
}

/// Replays the log: strictly, or beside a writer up to what is shown to be durable.
fn check_log(disk: &dyn ReadDisk, manifest: &Manifest, report: &mut Report) {
    let holder = disk.lock_holder().ok().flatten();
    let (files, store) = (Live(disk), manifest.store);
    let (from, cut) = (manifest.replay, manifest.cut);
    let mut malformed = Vec::new();
    let mut sink = |record: RecordView<'_>, position: LogPosition| {
        if malformed.len() < FAULTS_MAX {
            malformed.extend(malformed_commit(&record, position));
        }
        Ok(())
    };
    let walk = if holder.is_some() { replay_proven } else { replay };
    let replayed = walk(&files, store, from, cut, cut, &mut sink);
    for fault in malformed {
        report.fault(fault);
    }
    match replayed {
        Ok(replayed) => take_log(manifest, &replayed, report),
        Err(error) => report.failed(&error, FileName::Wal(from.file), None),
    }
    if let Some(holder) = holder {
        report.note(format!("{holder} writes; the log was verified as far as it is proven"));
    }
}

fn malformed_commit(record: &RecordView<'_>, position: LogPosition) -> Option<Fault> {
    let fault = Operations::new(record.payload).find_map(Result::err)?;
    let mut place = Place::new(FileName::Wal(position.file), position.offset);
    place.lsn = Some(record.header.lsn);
    let object = Some(record.header.address);
    Some(Fault { place, object, what: fault.to_string(), is_live: true })
}

fn take_log(manifest: &Manifest, replayed: &Replayed, report: &mut Report) {
    report.counts.groups = replayed.groups;
    report.counts.commits = replayed.records;
    report.position = replayed.end.lsn.max(manifest.cut);
    let end = &replayed.end.point;
    let name = FileName::Wal(end.file);
    match (replayed.verdict, &replayed.discarded) {
        (Verdict::Torn, Some(range)) => {
            let bytes = range.end - range.start;
            report.note(format!("{name} ends with {bytes} bytes of a write that was cut off"));
        }
        (Verdict::Torn, None) => report.note(format!("{name} ends with a write that was cut off")),
        (Verdict::Corrupt, _) => report.wrong(name, "the log is damaged"),
        (Verdict::Clean, _) => {}
    }
    if replayed.open_chains > 0 {
        report.note(format!("{} long commits without their ends", replayed.open_chains));
    }
    if let Some(closed) = manifest.closed.filter(|closed| closed.point != *end) {
        let what =
            format!("the log goes on behind byte {}, where it was closed", closed.point.offset);
        report.wrong(name, what);
    }
}

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
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::ids::FileNumber;
use crate::inspect::adoptions::Adopted;
use crate::inspect::catalog::Catalog;
use crate::inspect::files::{self, Listing};
use crate::inspect::guess::{foreign, guess_manifest};
use crate::inspect::objects::Objects;
use crate::inspect::owners::{self, Owned};
use crate::inspect::report::{Fault, Report, Scope, Watch, message};
use crate::inspect::runs::Runs;
use crate::inspect::segments::{Gap, Told, check_ends, check_pages, tell_gap};
use crate::inspect::{gone, log, lost};
use crate::manifest;
use crate::names::{FileName, Folder};
use crate::segment::SegmentSet;
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

/// Whether there is anything of a store: a manifest, or a file that one would name.
pub fn is_there(disk: &dyn ReadDisk) -> Result<bool> {
    let listing = Listing::read(disk)?;
    Ok(listing.files.keys().any(|name| *name == FileName::Manifest || name.number().is_some()))
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
    verify_watched(disk, depth, &())
}

/// The same for whoever wants to hear how far it has come.
pub fn verify_watched(disk: &Arc<dyn ReadDisk>, depth: Depth, watch: &dyn Watch) -> Report {
    let mut attempt = 1;
    loop {
        let mut report = Report::default();
        let manifest = walk(disk, (depth, watch), &mut report);
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
    report.gone.retain(|gone| named.contains(&FileName::Run(gone.file.facts.number).to_string()));
    let found = report.faults.len();
    report.retain(|fault| !given_up(&fault.place.file));
    if report.faults.len() < found {
        report.note("a writer replaced files while they were read; verify again");
    }
}

/// What is read, and who hears of it.
type How<'w> = (Depth, &'w dyn Watch);

fn walk(disk: &Arc<dyn ReadDisk>, how: How<'_>, report: &mut Report) -> Option<Manifest> {
    let manifest = match manifest::read(&**disk) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            report.wrong(FileName::Manifest, "there is no manifest");
            walk_guessed(disk, how, report);
            return None;
        }
        Err(error) => {
            lose_manifest(disk, message(&error), report);
            walk_guessed(disk, how, report);
            return None;
        }
    };
    if let Ok(Some(why)) = foreign(&**disk, &manifest) {
        lose_manifest(disk, why, report);
        walk_guessed(disk, how, report);
        return None;
    }
    report.store = Some(manifest.store);
    report.generation = manifest.generation;
    report.cut = manifest.cut;
    report.position = manifest.cut;
    report.counts.files = 1;
    check_manifest(&manifest, report);
    how.1.expect(bytes_to_read(&manifest, how.0));
    let listing = listing_of(disk, report);
    let left = files::check(&**disk, &manifest, &listing, report);
    check_log(disk, (&manifest, &listing), report);
    check_content(disk, &manifest, (&left, how), report);
    Some(manifest)
}

/// Tells of a manifest that is of no use.
fn lose_manifest(disk: &Arc<dyn ReadDisk>, what: String, report: &mut Report) {
    let bytes = disk.open(FileName::Manifest).and_then(|file| file.bytes()).unwrap_or(0);
    report.fault(Fault::at(FileName::Manifest, 0..bytes, what));
}

fn listing_of(disk: &Arc<dyn ReadDisk>, report: &mut Report) -> Listing {
    let listing = Listing::read(&**disk);
    let listing = listing.inspect_err(|error| report.failed(error, FileName::Manifest, None));
    listing.unwrap_or_default()
}

/// The log, and what objects have adopted in it.
fn check_log(
    disk: &Arc<dyn ReadDisk>,
    (manifest, listing): (&Manifest, &Listing),
    report: &mut Report,
) {
    let adopted = log::check(&**disk, manifest, listing, report);
    let named = adopted.iter().flat_map(Adopted::files).collect();
    files::note_others(&**disk, manifest, listing, &named, report);
    for it in &adopted {
        it.check(disk, (manifest, listing), report);
    }
}

/// Bytes of runs and pages that a walk reads.
fn bytes_to_read(manifest: &Manifest, depth: Depth) -> u64 {
    let history = manifest.history.iter().map(|file| file.facts.bytes);
    let runs = manifest.runs.iter().map(|facts| facts.bytes).chain(history);
    let live = manifest.segments.iter().map(|state| state.live_bytes);
    let is_whole = depth == Depth::Everything;
    let all = manifest.segments.iter().filter(|_| is_whole).map(|state| state.facts.page_bytes);
    runs.chain(live).chain(all).fold(0, u64::saturating_add)
}

/// Every file by itself, where no manifest says which of them count.
fn walk_guessed(disk: &Arc<dyn ReadDisk>, (_, watch): How<'_>, report: &mut Report) {
    let manifest = match guess_manifest(&**disk) {
        Ok(manifest) => manifest,
        Err(error) => return report.note(message(&error)),
    };
    report.store = Some(manifest.store);
    report.note("without the manifest every file is taken for one that counts");
    watch.expect(bytes_to_read(&manifest, Depth::Live));
    let listing = listing_of(disk, report);
    let guessed = files::named(&manifest);
    for (name, bytes) in &listing.files {
        let is_content = matches!(name, FileName::Segment(_) | FileName::Run(_));
        if is_content && !guessed.contains_key(name) {
            let what = "the file does not say that it is of this store";
            report.fault(Fault::at(*name, 0..*bytes, what));
        }
    }
    let left = files::check(&**disk, &manifest, &listing, report);
    check_log(disk, (&manifest, &listing), report);
    let runs = Runs::check(&**disk, &manifest, (report, watch));
    lost::tell_history(&runs, report);
    gone::tell(&runs, &manifest, report);
    let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
    manifest.segments.iter().for_each(|state| segments.add(&state.facts));
    let known = lost::of_directory(&runs, (&manifest, &segments), report);
    let directory = Directory::new(runs.directory.clone());
    let mut objects = Objects::new(&manifest, (&directory, &runs), &segments, (report, watch));
    objects.check_lost(&known);
    let mut gaps = Vec::new();
    let states = manifest.segments.iter();
    for state in states.filter(|state| left.contains(&state.facts.number)) {
        if watch.is_over() {
            break;
        }
        check_ends(&segments, state.facts.number, report);
        gaps.extend(check_pages(&segments, state, report));
        watch.pass(state.facts.page_bytes);
    }
    tell_owned(&directory, &gaps, report);
    if let Ok(namespaces) = Catalog::scanned(&manifest, &segments).namespaces() {
        lost::name_objects(&namespaces, &runs, report);
    }
}

/// Tells of bytes without a right page, and of each page there whose it was.
fn tell_owned(directory: &Directory, gaps: &[Gap], report: &mut Report) {
    let (owned, is_all) = owners::of_gaps(directory, gaps);
    if !is_all {
        report.note("more objects may be concerned than were gathered");
    }
    let mut told = Told::new();
    for Owned { number, range, live, what } in owned {
        told.insert((number, range.start), range.end);
        let fault = Fault::at(FileName::Segment(number), range, what);
        report.fault(match live {
            Some((address, keys)) => Fault { keys, ..fault.of(address) },
            None => fault.in_scope(Scope::Spare),
        });
    }
    for gap in gaps {
        tell_gap(gap, &told, Scope::Live, report);
    }
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
fn check_content(
    disk: &Arc<dyn ReadDisk>,
    manifest: &Manifest,
    (left, (depth, watch)): (&BTreeSet<FileNumber>, How<'_>),
    report: &mut Report,
) {
    let runs = Runs::check(&**disk, manifest, (report, watch));
    let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
    manifest.segments.iter().for_each(|state| segments.add(&state.facts));
    let known = lost::of_directory(&runs, (manifest, &segments), report);
    let directory = Directory::new(runs.directory.clone());
    let namespaces = Catalog::of(manifest).namespaces();
    if let Err(error) = &namespaces {
        report.note(format!("names were not checked: {error}"));
    }
    let mut objects = Objects::new(manifest, (&directory, &runs), &segments, (report, watch));
    if let Ok(namespaces) = &namespaces {
        objects.expect_namespaces(namespaces.clone());
    }
    objects.check(manifest);
    objects.check_lost(&known);
    let damaged = std::mem::take(&mut objects.damaged);
    lost::tell_history(&runs, report);
    gone::tell(&runs, manifest, report);
    let states = manifest.segments.iter();
    for state in states.filter(|state| left.contains(&state.facts.number)) {
        if watch.is_over() {
            break;
        }
        check_ends(&segments, state.facts.number, report);
        if depth == Depth::Everything {
            let gaps = check_pages(&segments, state, report);
            for gap in &gaps {
                tell_gap(gap, &damaged, Scope::Spare, report);
            }
            watch.pass(state.facts.page_bytes);
        }
    }
    if let Ok(namespaces) = &namespaces {
        lost::name_objects(namespaces, &runs, report);
    }
}

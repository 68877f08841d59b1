//! Scrubbing: every segment and run is read, a part at a time, to find damage before somebody needs
//! what it hit; and what history has of it is written anew.
//!
//! They are those of the present and the past, and those that objects have adopted since the last
//! checkpoint. They are read in the order of their numbers, so that what is written meanwhile
//! comes last, and from the medium, as far as the system forgets what it remembers of them. Whose
//! a damaged page is the directory tells: it is walked when a segment is found damaged, and once
//! at the end, for what was given up before.
//!
//! Invariants:
//!   * Nothing that is found is passed over: each damage is told, with what became of it.
//!   * A pass holds one file open, and no lock but the publisher's while pages are rebuilt or what
//!     is live of a segment is set right.

mod recount;

use super::Engine;
use super::rebuild::{Suspect, Verdict, fresh_disk};
use super::stats::{Counters, total};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::PageEntry;
use crate::format::manifest::Manifest;
use crate::format::page::SegmentFacts;
use crate::format::run::RunFacts;
use crate::ids::{Address, FileNumber};
use crate::object::version::Version;
use crate::run::Run;
use crate::segment::{Scan, SegmentSet};
use recount::Dead;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is read before it is paid for.
const STEP_BYTES: u64 = 256 << 10;
/// Entries that are looked at, and rebuilt, under one lock.
const SUSPECTS_MAX: usize = 64;
/// Damages that one pass tells apart.
const DAMAGES_MAX: usize = 10_000;
/// How often a small store is read from its beginning.
const PASS_EVERY: Duration = Duration::from_hours(1);

/// What a pass over a store has found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read of them.
    pub bytes: u64,
    /// What is damaged, each with what became of it. At most 10,000.
    pub damages: Vec<Damaged>,
    /// Further ones, which are only counted.
    pub untold: u64,
}

/// Something that is damaged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Damaged {
    /// What was found, and where.
    pub error: Error,
    /// The object whose page it is.
    pub address: Option<Address>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of something that is damaged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fate {
    /// It was written anew from history, and can be read.
    Rebuilt,
    /// It is a page, and stays as it is, because of this: reads that need it fail.
    Left(Error),
    /// It is of a run, from which nothing is rebuilt: what needs it fails.
    Told,
    /// Nobody needs the bytes, or they could be read when they were asked for once more.
    Spare,
}

impl ScrubReport {
    /// Whether something was damaged that somebody needs, and still is.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        let is_loss = |damaged: &Damaged| matches!(damaged.fate, Fate::Left(_) | Fate::Told);
        self.untold > 0 || self.damages.iter().any(is_loss)
    }

    /// How many damages were found, told or only counted.
    fn found(&self) -> u64 {
        self.damages.len() as u64 + self.untold
    }

    fn tell(&mut self, error: Error, address: Option<Address>, fate: Fate) {
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(Damaged { error, address, fate });
        } else {
            self.untold += 1;
        }
    }
}

/// A pass over a store, as far as it has come.
#[derive(Debug)]
pub(super) struct Pass {
    /// Files up to this number are done.
    behind: FileNumber,
    /// Files from this number on are younger than the pass.
    end: FileNumber,
    open: Option<OpenFile>,
    /// Damage of segments for which no owners were looked for yet.
    gaps: Vec<Gap>,
    report: ScrubReport,
}

/// A damaged range of a segment.
#[derive(Debug)]
struct Gap {
    file: FileNumber,
    range: Range<u64>,
    error: Error,
    /// Whether it was told as damage of an entry.
    is_told: bool,
}

/// The file that is being read.
#[derive(Debug)]
enum OpenFile {
    Segment {
        number: FileNumber,
        segments: SegmentSet,
        scan: Box<Scan>,
        /// Where damage began, while nobody knows where it ends.
        gap: Option<(u64, Error)>,
        /// None where no checkpoint has covered what names the pages: the directory cannot tell.
        dead: Option<Dead>,
    },
    Run {
        run: Arc<Run>,
        block: usize,
    },
}

/// A file that is to be read.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Segment(SegmentFacts),
    /// A segment that the manifest does not name yet.
    Adopted(SegmentFacts),
    Run(RunFacts),
}

impl Wanted {
    fn number(&self) -> FileNumber {
        match self {
            Self::Segment(facts) | Self::Adopted(facts) => facts.number,
            Self::Run(facts) => facts.number,
        }
    }
}

/// What scrubbing in the background has come to.
#[derive(Debug, Default)]
pub(super) struct Scrubbing {
    pass: Option<Pass>,
    /// The uptime of its next step.
    next: Duration,
}

impl Engine {
    /// Reads all files of the present and the past, and rebuilds what it can of what is damaged.
    pub fn scrub(&self) -> Result<ScrubReport> {
        self.scrub_while(|_, _| true)
    }

    /// The same for whoever hears how many bytes are read, and of about how many, and who may end
    /// it: the report is of what was read by then.
    pub fn scrub_while(&self, mut goes_on: impl FnMut(u64, u64) -> bool) -> Result<ScrubReport> {
        let mut pass = self.begin_pass();
        let version = self.version();
        let Manifest { segments, runs, history, .. } = &version.manifest;
        let files = segments.iter().map(|segment| segment.facts.bytes);
        let files = files.chain(runs.iter().map(|facts| facts.bytes));
        let bytes_of = total(files.chain(history.iter().map(|file| file.facts.bytes)));
        // One that is held keeps every file of its time.
        drop(version);
        while self.step(&mut pass)? && goes_on(pass.report.bytes, bytes_of) {}
        Ok(pass.report)
    }

    /// Whether a step of scrubbing in the background is due.
    pub fn wants_scrub(&self) -> bool {
        let is_on = self.options.scrub_bytes_per_second > 0;
        is_on && self.clock.uptime() >= self.scrubbing.lock().next
    }

    /// Goes on with the pass in the background; begins the next when it is over. A read that fails
    /// begins its file anew.
    pub fn scrub_more(&self) -> Result<bool> {
        let taken = self.scrubbing.lock().pass.take();
        let mut pass = taken.unwrap_or_else(|| self.begin_pass());
        let before = pass.report.bytes;
        let stepped = self.step(&mut pass);
        let bytes = pass.report.bytes - before;
        let rate = self.options.scrub_bytes_per_second.max(1);
        let cost = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
        let is_over = matches!(stepped, Ok(false));
        let wait = if is_over { cost.max(PASS_EVERY) } else { cost };
        let mut scrubbing = self.scrubbing.lock();
        scrubbing.next = self.clock.uptime().saturating_add(wait);
        scrubbing.pass = (!is_over).then_some(pass);
        stepped
    }

    fn begin_pass(&self) -> Pass {
        let (behind, end) = (FileNumber(0), self.numbers.peek());
        Pass { behind, end, open: None, gaps: Vec::new(), report: ScrubReport::default() }
    }

    /// Reads so many bytes more, and counts what came of it, also where it failed. Says whether
    /// there are more.
    fn step(&self, pass: &mut Pass) -> Result<bool> {
        let (bytes, found) = (pass.report.bytes, pass.report.found());
        let stepped = self.look_on(pass);
        let (read, found) = (pass.report.bytes - bytes, pass.report.found() - found);
        let is_over = matches!(stepped, Ok(false));
        let Counters { scrubbed_bytes, scrubs, damages, .. } = &self.counters;
        scrubbed_bytes.fetch_add(read, Ordering::Relaxed);
        scrubs.fetch_add(u64::from(is_over), Ordering::Relaxed);
        damages.fetch_add(found, Ordering::Relaxed);
        self.pace.spend(read);
        stepped
    }

    fn look_on(&self, pass: &mut Pass) -> Result<bool> {
        let version = self.version();
        let bytes = pass.report.bytes;
        let mut is_over = false;
        while pass.report.bytes - bytes < STEP_BYTES && !is_over {
            self.check_wanted()?;
            self.check_alive()?;
            is_over = !self.read_more(&version, pass)?;
        }
        if is_over || !pass.gaps.is_empty() {
            self.find_owners(pass, is_over)?;
        }
        Ok(!is_over)
    }

    /// Reads the next page or block, or opens the next file; false when there is none.
    fn read_more(&self, version: &Version, pass: &mut Pass) -> Result<bool> {
        if let Some(open) = &mut pass.open {
            let number = open.number();
            let before = open.at();
            let more = open.read(version, &mut pass.gaps, &mut pass.report);
            pass.report.bytes += open.at().saturating_sub(before);
            match more {
                Ok(true) => {}
                Ok(false) => {
                    pass.behind = number;
                    if let Some(OpenFile::Segment { dead: Some(dead), .. }) = pass.open.take() {
                        self.recount(number, &dead)?;
                    }
                }
                Err(error) => {
                    pass.open = None;
                    return Err(error);
                }
            }
            return Ok(true);
        }
        let Some(wanted) = next_file(version, pass.behind, pass.end) else {
            return Ok(false);
        };
        match self.open_to_scrub(version, &wanted) {
            Ok(open) => pass.open = Some(open),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                pass.behind = wanted.number();
                match wanted {
                    Wanted::Segment(facts) | Wanted::Adopted(facts) => {
                        let (file, range) = (facts.number, 0..u64::MAX);
                        pass.gaps.push(Gap { file, range, error, is_told: false });
                    }
                    Wanted::Run(_) => pass.report.tell(error, None, Fate::Told),
                }
            }
            Err(error) => return Err(error),
        }
        pass.report.files += 1;
        Ok(true)
    }

    fn open_to_scrub(&self, version: &Version, wanted: &Wanted) -> Result<OpenFile> {
        let (disk, store) = (fresh_disk(version), self.context.store);
        match wanted {
            Wanted::Segment(facts) | Wanted::Adopted(facts) => {
                let segments = SegmentSet::new(disk, store);
                segments.add(facts);
                let scan = Box::new(segments.scan(facts.number)?);
                let is_named = matches!(wanted, Wanted::Segment(_));
                let (number, dead) = (facts.number, is_named.then(Dead::default));
                Ok(OpenFile::Segment { number, segments, scan, gap: None, dead })
            }
            Wanted::Run(facts) => {
                Ok(OpenFile::Run { run: Run::open(&*disk, store, facts)?, block: 0 })
            }
        }
    }

    /// Tells of damage in pages that objects have adopted and that no checkpoint has covered: the
    /// directory does not name them yet.
    fn tell_adopters(&self, pass: &mut Pass) -> Result<()> {
        let version = self.version();
        for (address, life, adopted) in version.adopted.all_behind(version.manifest.cut) {
            let mut hit = BTreeSet::new();
            for page in adopted.directory().pages(address, life) {
                match page {
                    Ok((_, entry)) => hit.extend(hits(&pass.gaps, &entry)),
                    // What the run has lost is told when it is read.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {}
                    Err(error) => return Err(error),
                }
            }
            for number in hit {
                let gap = &mut pass.gaps[number];
                gap.is_told = true;
                pass.report.tell(gap.error.clone(), Some(address), Fate::Left(uncovered()));
            }
        }
        Ok(())
    }

    /// Looks for the entries that the damage found so far concerns, at last for those too of which
    /// content was given up before; rebuilds what can be, and tells of all of it.
    fn find_owners(&self, pass: &mut Pass, is_last: bool) -> Result<()> {
        self.tell_adopters(pass)?;
        let is_wanted = || self.check_wanted();
        let (suspects, hidden) = suspects(&self.version(), &pass.gaps, is_last, is_wanted)?;
        for batch in suspects.chunks(SUSPECTS_MAX) {
            let wanted: Vec<Suspect> = batch.iter().map(|(suspect, _)| suspect.clone()).collect();
            let verdicts = self.rebuild(&wanted)?;
            for ((suspect, gaps), verdict) in batch.iter().zip(verdicts) {
                let (error, fate) = match verdict {
                    Verdict::Whole => continue,
                    Verdict::Rebuilt(error) => (error, Fate::Rebuilt),
                    Verdict::Left(error, why) => (error, Fate::Left(why)),
                };
                for gap in gaps {
                    pass.gaps[*gap].is_told = true;
                }
                pass.report.tell(error, Some(suspect.address), fate);
            }
        }
        for Gap { error, .. } in std::mem::take(&mut pass.gaps).into_iter().filter(|it| !it.is_told)
        {
            // Who needs the bytes may stand where the directory has lost something.
            pass.report.tell(error, None, hidden.clone().map_or(Fate::Spare, Fate::Left));
        }
        Ok(())
    }
}

/// The file with the lowest number behind one and before another, of those that the manifest names
/// and those that objects have adopted since.
fn next_file(version: &Version, behind: FileNumber, end: FileNumber) -> Option<Wanted> {
    let manifest = &version.manifest;
    let adopted = version.adopted.all_behind(manifest.cut);
    let pages = adopted.iter().flat_map(|(.., adopted)| adopted.segments());
    let names = adopted.iter().flat_map(|(.., adopted)| adopted.runs());
    let adopted = pages.map(|facts| Wanted::Adopted(*facts));
    let adopted = adopted.chain(names.map(|run| Wanted::Run(*run.facts())));
    let segments = manifest.segments.iter().map(|segment| Wanted::Segment(segment.facts));
    let runs = manifest.runs.iter().map(|facts| Wanted::Run(*facts));
    let history = manifest.history.iter().map(|file| Wanted::Run(file.facts));
    let all = segments.chain(runs).chain(history).chain(adopted);
    all.filter(|wanted| (FileNumber(behind.0 + 1)..end).contains(&wanted.number()))
        .min_by_key(Wanted::number)
}

/// Which of these ranges an entry reaches into.
fn hits(gaps: &[Gap], entry: &PageEntry) -> Vec<usize> {
    let overlaps = |gap: &Gap| {
        entry.parts().map(|part| &part.location).any(|page| {
            let end = page.offset.saturating_add(u64::from(page.bytes));
            page.file == gap.file && page.offset < gap.range.end && gap.range.start < end
        })
    };
    (0..gaps.len()).filter(|number| overlaps(&gaps[*number])).collect()
}

/// An entry that may be damaged, and which of the damaged ranges it reaches into.
type Suspected = (Suspect, Vec<usize>);

/// The entries that name a page in a damaged range, each with the ranges; and those without a base,
/// if they are wanted. With them, what of the directory could not be looked at, if anything.
fn suspects(
    version: &Version,
    gaps: &[Gap],
    with_lost: bool,
    check: impl Fn() -> Result<()>,
) -> Result<(Vec<Suspected>, Option<Error>)> {
    let mut found = Vec::new();
    let mut look = |address, life, fence: &[u8], entry: &PageEntry| {
        let hits = hits(gaps, entry);
        if !hits.is_empty() || with_lost && entry.base.is_none() {
            found.push((Suspect { address, life, fence: fence.to_vec() }, hits));
        }
    };
    let mut hidden = None;
    // What the directory has lost is told when its runs are read.
    for head in version.directory.heads(Address::default()) {
        let (address, head) = match head {
            Ok(head) => head,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                hidden.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        check()?;
        match &head.page {
            _ if head.deleted => {}
            Some(entry) => look(address, head.life, &[], entry),
            None => {
                for page in version.directory.pages(address, head.life) {
                    match page {
                        Ok((fence, entry)) => look(address, head.life, &fence, &entry),
                        Err(error) if error.kind() == ErrorKind::Corrupt => {
                            hidden.get_or_insert(error);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
    Ok((found, hidden))
}

impl OpenFile {
    fn number(&self) -> FileNumber {
        match self {
            Self::Segment { number, .. } => *number,
            Self::Run { run, .. } => run.facts().number,
        }
    }

    /// How far it was read.
    fn at(&self) -> u64 {
        match self {
            Self::Segment { scan, .. } => scan.at(),
            Self::Run { run, block } if *block < run.blocks() => run.block_at(*block).0.start,
            Self::Run { run, .. } => run.facts().bytes,
        }
    }

    /// Reads one page or block more; false at the end.
    fn read(
        &mut self,
        version: &Version,
        gaps: &mut Vec<Gap>,
        report: &mut ScrubReport,
    ) -> Result<bool> {
        match self {
            Self::Segment { number, segments, scan, gap, dead } => {
                let file = *number;
                let mut close = |gap: &mut Option<(u64, Error)>, end| {
                    if let Some((start, error)) = gap.take() {
                        gaps.push(Gap { file, range: start..end, error, is_told: false });
                    }
                };
                match scan.next() {
                    Some(Ok(page)) => {
                        close(gap, page.location.offset);
                        if let Some(dead) = dead {
                            dead.look(version, &page);
                        }
                    }
                    Some(Err(error)) if error.kind() == ErrorKind::Corrupt => {
                        close(gap, u64::MAX);
                        let start = error.place().map_or(0, |place| place.offset);
                        // Of a segment that lacks pages nobody knows which.
                        let start = if error.code() == "segment.pages" { 0 } else { start };
                        *gap = Some((start, error));
                    }
                    Some(Err(error)) => return Err(error),
                    None => {
                        close(gap, u64::MAX);
                        read_ends(segments, file, gaps, report)?;
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Run { run, block } => {
                if *block >= run.blocks() {
                    return Ok(false);
                }
                match run.check_block(*block) {
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        report.tell(error, None, Fate::Told);
                    }
                    checked => checked?,
                }
                *block += 1;
                Ok(true)
            }
        }
    }
}

/// Reads what stands behind the pages of a segment. Pages may need a dictionary that is lost.
fn read_ends(
    segments: &SegmentSet,
    file: FileNumber,
    gaps: &mut Vec<Gap>,
    report: &mut ScrubReport,
) -> Result<()> {
    let Err(error) = segments.verify_ends(file) else { return Ok(()) };
    if error.kind() != ErrorKind::Corrupt {
        return Err(error);
    }
    if segments.damaged_ends(file)?.iter().any(|(_, is_last_copy)| *is_last_copy) {
        gaps.push(Gap { file, range: 0..u64::MAX, error, is_told: false });
    } else {
        report.tell(error, None, Fate::Spare);
    }
    Ok(())
}

#[cold]
fn uncovered() -> Error {
    let what = "no checkpoint has covered the commit that adopted the page: history has none of it";
    Error::new(ErrorKind::Corrupt, "rebuild.uncovered", what)
}

#[cfg(test)]
mod tests;

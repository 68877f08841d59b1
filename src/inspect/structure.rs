//! One file's structure, record by record, past damage: for whoever looks at bytes.
//!
//! Invariants:
//!   * Needs no manifest: a file is taken for what its own header says.
//!   * What does not decode is a line that says so, and the walk goes on behind it.

use crate::disk::ReadDisk;
use crate::error::{Error, Place, Result};
use crate::format::group::WalHeader;
use crate::format::header::{FileKind, HEADER_BLOCK_BYTES, Header, SECOND_COPY_OFFSET};
use crate::format::manifest::Manifest;
use crate::format::page::SegmentFacts;
use crate::format::record::{Operations, records};
use crate::ids::FileNumber;
pub use crate::inspect::files::is_unused;
use crate::inspect::files::{named, read_block};
use crate::inspect::words::{self, called};
use crate::manifest;
use crate::names::FileName;
use crate::run::examine::{Harm, Wound, examine};
use crate::run::{Run, RunItem};
use crate::segment::{SegmentSet, facts_of};
use crate::wal::examine::{Sight, body_of};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a segment's footer.
const SEGMENT_FOOTER_BYTES: u64 = 40;

/// A stretch of a file and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its bytes; empty for what is inside another stretch.
    pub range: Range<u64>,
    /// What it is, in words.
    pub what: String,
    /// Whether it is not what was written.
    pub is_damaged: bool,
}

impl Part {
    fn right(range: Range<u64>, what: impl Into<String>) -> Self {
        Self { range, what: what.into(), is_damaged: false }
    }

    fn damaged(range: Range<u64>, what: impl Into<String>) -> Self {
        Self { range, what: what.into(), is_damaged: true }
    }
}

/// Takes parts one after the other.
type Tell<'t> = dyn FnMut(Part) + 't;

/// Tells of everything in a file; with `at`, of what holds that byte, in detail. Fails where
/// nothing of the file can be decoded: it is missing, or has no readable header.
pub fn structure(
    disk: &Arc<dyn ReadDisk>,
    name: FileName,
    at: Option<u64>,
    tell: &mut Tell<'_>,
) -> Result<()> {
    let is_wanted = |range: &Range<u64>| at.is_none_or(|at| range.contains(&at));
    match name {
        FileName::Wal(_) => log(&**disk, name, at.is_some(), &is_wanted, tell),
        FileName::Segment(number) => segment(disk, number, at.is_some(), &is_wanted, tell),
        FileName::Run(number) => run(&**disk, number, &is_wanted, tell),
        _ => whole_manifest(&**disk, name, tell),
    }
}

/// The header of a numbered file, from either copy.
fn header_of(
    disk: &dyn ReadDisk,
    name: FileName,
    kind: FileKind,
    tell: &mut Tell<'_>,
) -> Result<Header> {
    let file = disk.open(name).map_err(|cause| Error::io(format!("opening {name}"), cause))?;
    let block = read_block(&*file).map_err(|cause| Error::io(format!("reading {name}"), cause))?;
    let second = || Header::decode(&block[SECOND_COPY_OFFSET..], kind);
    let header = Header::decode(&block, kind).or_else(|_| second()).map_err(|_| {
        Error::corrupt("file.header", "neither copy of the header is right", Place::new(name, 0))
    })?;
    let Header { store, number, term, salt, .. } = header;
    let what = format!("header: number {number} of store {store}, term {term}, salt {salt:016x}");
    tell(Part::right(0..HEADER_BLOCK_BYTES, what));
    Ok(header)
}

/// Whether a file has no end yet because a process is writing it at this moment: one has the store
/// open, and no manifest names the file.
fn is_growing(disk: &dyn ReadDisk, name: FileName) -> bool {
    let is_held = || disk.lock_holder().ok().flatten().is_some();
    let is_named = || match manifest::read(disk) {
        Ok(Some(manifest)) => named(&manifest).contains_key(&name),
        Ok(None) | Err(_) => true,
    };
    is_held() && !is_named()
}

const GROWING: &str = "what is being written at this moment";

/// Whether nothing was written to a file yet, not even its header. Tells so.
fn is_begun_only(disk: &dyn ReadDisk, name: FileName, tell: &mut Tell<'_>) -> Result<bool> {
    let failed = |cause| Error::io(format!("reading {name}"), cause);
    let file = disk.open(name).map_err(|cause| Error::io(format!("opening {name}"), cause))?;
    let bytes = file.bytes().map_err(failed)?;
    let is_begun = bytes < HEADER_BLOCK_BYTES && is_growing(disk, name);
    if is_begun {
        tell(Part::right(0..bytes, "a file that is begun at this moment"));
    }
    Ok(is_begun)
}

/// The header of a file of the log, and the bytes that the file has lost at its end.
fn log_header(
    disk: &dyn ReadDisk,
    name: FileName,
    tell: &mut Tell<'_>,
) -> Result<(Header, Range<u64>)> {
    let header = header_of(disk, name, FileKind::Wal, tell)?;
    let failed = |cause| Error::io(format!("reading {name}"), cause);
    let file = disk.open(name).map_err(|cause| Error::io(format!("opening {name}"), cause))?;
    let block = read_block(&*file).map_err(failed)?;
    let Ok(WalHeader { predecessor, first_lsn, bytes, .. }) = WalHeader::decode(&block) else {
        return Ok((header, 0..0));
    };
    let (before, offset) = (predecessor.point.file, predecessor.point.offset);
    let first = first_lsn.short();
    let what = format!("goes on from byte {offset} of file {before}, first LSN {first}");
    tell(Part::right(0..0, what));
    // Asked after the header was read: the file had its whole length before that.
    let has = file.bytes().map_err(failed)?;
    Ok((header, has.min(bytes)..bytes))
}

fn log(
    disk: &dyn ReadDisk,
    name: FileName,
    is_detailed: bool,
    is_wanted: &dyn Fn(&Range<u64>) -> bool,
    tell: &mut Tell<'_>,
) -> Result<()> {
    if is_unused(disk, name) {
        tell(Part::right(0..0, "a file of the log that stands ready and was never used"));
        return Ok(());
    }
    let (header, lost) = log_header(disk, name, tell)?;
    // A group that is being written is not whole yet.
    let is_open = disk.lock_holder().ok().flatten().is_some();
    let how = Some((Some(header.salt), HEADER_BLOCK_BYTES));
    let sights = crate::wal::examine::examine(disk, name, how)?.sights;
    let last = sights.len();
    for (number, sight) in (1..).zip(sights) {
        let is_growing = is_open && number == last;
        match sight {
            Sight::Body { range, .. } | Sight::Gap { range, .. } | Sight::Padding(range)
                if is_growing && is_wanted(&range) =>
            {
                tell(Part::right(range, GROWING));
            }
            Sight::Group { range, header, .. } if is_wanted(&range) => {
                let (first, last) = (header.first_lsn, header.last_lsn);
                let (kind, number, count) = (header.kind, header.number, header.records);
                let (first, last) = (first.short(), last.short());
                let what = format!("group {number}, {kind:?}: {count} records, {first} to {last}");
                let at = range.start;
                tell(Part::right(range, what.to_lowercase()));
                let body = body_of(disk, name, at, &header)?;
                tell_records(&body, is_detailed, tell);
            }
            Sight::Body { range, header, .. } if is_wanted(&range) => {
                let what = format!("group {}: its body is damaged", header.number);
                tell(Part::damaged(range, what));
            }
            Sight::Gap { range, .. } if is_wanted(&range) => {
                tell(Part::damaged(range, "no right group"));
            }
            Sight::Padding(range) if is_wanted(&range) => {
                tell(Part::damaged(range, "padding that is not zero"));
            }
            _ => {}
        }
    }
    if !lost.is_empty() && is_wanted(&lost) {
        let what = format!("lost: the file had {} bytes", lost.end);
        tell(Part::damaged(lost, what));
    }
    Ok(())
}

fn tell_records(body: &[u8], is_detailed: bool, tell: &mut Tell<'_>) {
    for record in records(body) {
        let Ok(record) = record else {
            tell(Part::damaged(0..0, "  a malformed record"));
            return;
        };
        let (kind, lsn) = (record.header.kind, record.header.lsn);
        let (object, bytes) = (called(record.header.address), record.payload.len());
        let lsn = lsn.short();
        let what = format!("  {kind:?} {lsn} of object {object}, {bytes} bytes");
        tell(Part::right(0..0, what.to_lowercase()));
        for operation in Operations::new(record.payload).take_while(|_| is_detailed) {
            match operation {
                Ok(operation) => {
                    tell(Part::right(0..0, format!("    {}", words::operation(&operation))));
                }
                Err(fault) => tell(Part::damaged(0..0, format!("    {fault}"))),
            }
        }
    }
}

fn segment(
    disk: &Arc<dyn ReadDisk>,
    number: FileNumber,
    is_detailed: bool,
    is_wanted: &dyn Fn(&Range<u64>) -> bool,
    tell: &mut Tell<'_>,
) -> Result<()> {
    let name = FileName::Segment(number);
    if is_begun_only(&**disk, name, tell)? {
        return Ok(());
    }
    let header = header_of(&**disk, name, FileKind::Segment, tell)?;
    let failed = |cause| Error::io(format!("opening {name}"), cause);
    let bytes = disk.open(name).and_then(|file| file.bytes()).map_err(failed)?;
    let is_growing = facts_of(&**disk, header.store, number).is_err() && is_growing(&**disk, name);
    // It may have been completed since it was looked at.
    let facts = facts_of(&**disk, header.store, number).ok();
    let (is_footed, footer) = (facts.is_some(), if is_growing { 0 } else { SEGMENT_FOOTER_BYTES });
    let page_bytes = bytes.saturating_sub(HEADER_BLOCK_BYTES + footer);
    let bytes = if is_growing { bytes + SEGMENT_FOOTER_BYTES } else { bytes };
    let facts = facts.unwrap_or(SegmentFacts { number, bytes, page_bytes, pages: 0 });
    let pages_end = HEADER_BLOCK_BYTES + facts.page_bytes;
    let set = SegmentSet::new(Arc::clone(disk), header.store);
    set.add(&facts);
    let mut pages = set.scan(number)?.peekable();
    while let Some(page) = pages.next() {
        match page {
            Ok(page) => {
                let start = page.location.offset;
                let range = start..start + u64::from(page.location.bytes);
                if !is_wanted(&range) {
                    continue;
                }
                let (meta, count) = (&page.meta, page.count);
                let (object, life, exact_at) = (called(meta.address), meta.life, meta.exact_at);
                let (kind, fence) = (meta.kind, words::key(&meta.fence));
                let exact_at = exact_at.short();
                let what = format!(
                    "{kind:?} of object {object}, life {life}, exact at {exact_at}, from {fence}, \
                     {count} entries"
                );
                tell(Part::right(range, what));
                if is_detailed && let Ok(page) = set.page(&page.location) {
                    for (key, item) in page.items() {
                        tell(Part::right(0..0, format!("  {}", words::item(key, &item))));
                    }
                }
            }
            Err(error) => {
                let at = error.place().map_or(0, |place| place.offset);
                // A writer goes from the first byte to the last: behind damage there is more.
                if is_growing && !is_footed && pages.peek().is_none() {
                    tell(Part::right(at..pages_end, GROWING));
                } else {
                    tell(Part::damaged(at..at + 1, format!("no right page from here: {error}")));
                }
            }
        }
    }
    if is_footed {
        for (range, _) in set.damaged_ends(number)? {
            tell(Part::damaged(range, "what stands behind the pages is damaged"));
        }
        let what = format!("footer: {} pages of {} bytes", facts.pages, facts.page_bytes);
        tell(Part::right(bytes - SEGMENT_FOOTER_BYTES..bytes, what));
    } else if is_growing {
        tell(Part::right(0..0, "no end yet: the file is being written at this moment"));
    } else {
        tell(Part::damaged(bytes.saturating_sub(SEGMENT_FOOTER_BYTES)..bytes, "no right footer"));
    }
    Ok(())
}

fn run(
    disk: &dyn ReadDisk,
    number: FileNumber,
    is_wanted: &dyn Fn(&Range<u64>) -> bool,
    tell: &mut Tell<'_>,
) -> Result<()> {
    let name = FileName::Run(number);
    if is_begun_only(disk, name, tell)? {
        return Ok(());
    }
    let header = header_of(disk, name, FileKind::Run, tell)?;
    let mut examined = examine(disk, header.store, number, None)?;
    let mut growing = None;
    if examined.open_end.is_some() && is_growing(disk, name) {
        // It may have been completed since it was looked at.
        examined = examine(disk, header.store, number, None)?;
        growing = examined.open_end;
    }
    let run: &Run = &examined.run;
    let (usage, blocks) = (run.facts().usage, run.blocks());
    let (entries, addresses) = (run.facts().entries, run.addresses());
    let what = format!("{usage:?}: {entries} entries of {addresses} objects in {blocks} blocks");
    tell(Part::right(0..0, what.to_lowercase()));
    let is_opening = |wound: &Wound| wound.harm == Harm::Opening;
    if examined.open_end.is_some() && growing.is_none() && !examined.wounds.iter().any(is_opening) {
        let end = run.facts().bytes;
        tell(Part::damaged(end..end + 1, "no right footer"));
    }
    // What stands where a footer would is told below, and blocks that are lost are damage.
    let is_before = |range: &Range<u64>, end| range.start < end && range.end <= end;
    let is_wound = |wound: &Wound| growing.is_none_or(|end| is_before(&wound.range, end));
    for wound in examined.wounds.into_iter().filter(is_wound) {
        tell(Part::damaged(wound.range, wound.what));
    }
    run.verify(|error, range, _, _| tell(Part::damaged(range, error.to_string())))?;
    for block in 0..blocks {
        let (range, first, last) = run.block_at(block);
        if !is_wanted(&range) {
            continue;
        }
        let what =
            format!("block: {} to {}", words::run_key(usage, first), words::run_key(usage, last));
        let (first, last) = (first.to_vec(), last.to_vec());
        tell(Part::right(range, what));
        for item in run.iter_from(&first) {
            let Ok(RunItem::Entry { key, value }) = item else { continue };
            if key > last {
                break;
            }
            tell(Part::right(0..0, format!("  {}", words::entry(usage, &key, &value))));
        }
    }
    if let Some(end) = growing {
        tell(Part::right(end..run.facts().bytes, GROWING));
    }
    Ok(())
}

fn whole_manifest(disk: &dyn ReadDisk, name: FileName, tell: &mut Tell<'_>) -> Result<()> {
    let found = manifest::read_as(disk, name)?.ok_or_else(|| {
        Error::corrupt("manifest.missing", "there is no manifest", Place::new(name, 0))
    })?;
    let Manifest { store, term, generation, cut, replay, next_file, .. } = &found;
    let mut say = |what: String| tell(Part::right(0..0, what));
    say(format!("store {store}, term {term}, manifest {generation}, cut {}", cut.short()));
    let (file, offset, group) = (replay.file, replay.offset, replay.group);
    say(format!("replay from byte {offset} of file {file}, group {group}"));
    say(format!("next file {next_file}"));
    for span in &found.terms {
        say(format!("term {}: {} to {}", span.term, span.first.short(), span.last.short()));
    }
    for state in &found.segments {
        let (facts, pages, bytes) = (&state.facts, state.live_pages, state.live_bytes);
        let name = FileName::Segment(facts.number);
        let (all, of) = (facts.pages, facts.page_bytes);
        say(format!("{name}: {pages} of {all} pages live, {bytes} of {of} bytes"));
    }
    for facts in &found.runs {
        let (name, usage, entries) = (FileName::Run(facts.number), facts.usage, facts.entries);
        say(format!("{name}: {usage:?}, {entries} entries, {} bytes", facts.bytes));
    }
    for history in &found.history {
        let (name, class) = (FileName::Run(history.facts.number), history.class);
        let (epoch, start, end) = (history.epoch, history.start.short(), history.end.short());
        say(format!("{name}: history of class {class}, epoch {epoch}, {start} to {end}"));
    }
    for purge in &found.purged {
        let (object, lsn, erased) = (called(purge.address), purge.lsn.short(), purge.erased);
        say(format!("purged: object {object} at {lsn}, erased: {erased}"));
    }
    Ok(())
}

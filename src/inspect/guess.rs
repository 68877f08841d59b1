//! What is live, where the manifest is lost: guessed from what the files say of themselves.
//!
//! Invariants:
//!   * Files of another store than most are of are left out.

use crate::disk::{ReadDisk, read_exact_at};
use crate::error::{Error, ErrorKind, Result};
use crate::format::group::WalHeader;
use crate::format::header::{FileKind, HEADER_BLOCK_BYTES, Header, SECOND_COPY_OFFSET};
use crate::format::manifest::{HistoryFile, Manifest, SegmentState};
use crate::format::page::SegmentFacts;
use crate::format::run::RunUse;
use crate::ids::{FileNumber, LogPoint, Lsn, StoreId, Timestamp};
use crate::inspect::files::Listing;
use crate::names::FileName;
use crate::run::examine::examine;
use crate::segment::facts_of;
use std::collections::BTreeMap;

/// Bytes of a segment's footer.
const SEGMENT_FOOTER_BYTES: u64 = 40;

/// The first block of a file.
fn block(disk: &dyn ReadDisk, name: FileName) -> Option<Vec<u8>> {
    let file = disk.open(name).ok()?;
    let mut block = vec![0; usize::try_from(HEADER_BLOCK_BYTES).ok()?];
    read_exact_at(&*file, &mut block, 0).ok()?;
    Some(block)
}

pub(super) fn header(disk: &dyn ReadDisk, name: FileName, kind: FileKind) -> Option<Header> {
    let block = block(disk, name)?;
    let second = || Header::decode(&block[SECOND_COPY_OFFSET..], kind);
    let header = Header::decode(&block, kind).or_else(|_| second()).ok()?;
    (Some(header.number) == name.number()).then_some(header)
}

fn kind_of(name: FileName) -> Option<FileKind> {
    match name {
        FileName::Wal(_) => Some(FileKind::Wal),
        FileName::Segment(_) => Some(FileKind::Segment),
        FileName::Run(_) => Some(FileKind::Run),
        _ => None,
    }
}

/// Why a manifest is not that of the files which are there, if it is not: all of them say that they
/// are another store's.
pub fn foreign(disk: &dyn ReadDisk, manifest: &Manifest) -> Result<Option<String>> {
    let mut other = None;
    for name in Listing::read(disk)?.files.into_keys().rev() {
        match kind_of(name).and_then(|kind| header(disk, name, kind)) {
            Some(header) if header.store == manifest.store => return Ok(None),
            found => other = other.or(found.map(|header| header.store)),
        }
    }
    let (store, of) = (manifest.store, other);
    Ok(of.map(|of| format!("the manifest is of store {store}, and the files are of store {of}")))
}

/// What a manifest might say of the files that are there: every segment and every run, the newest
/// number first, and the log from the oldest file on. All of it is taken for live.
///
/// Fails with `store.missing` where no file says of what store it is.
pub fn guess_manifest(disk: &dyn ReadDisk) -> Result<Manifest> {
    let listing = Listing::read(disk)?;
    let mut stores: BTreeMap<StoreId, u64> = BTreeMap::new();
    let header_of = |name: &FileName| header(disk, *name, kind_of(*name)?);
    for header in listing.files.keys().filter_map(header_of) {
        *stores.entry(header.store).or_default() += 1;
    }
    let Some((store, _)) = stores.into_iter().max_by_key(|(_, files)| *files) else {
        let what = "there is no file of a store here";
        return Err(Error::new(ErrorKind::NotFound, "store.missing", what));
    };
    let mut manifest = Manifest { store, next_file: FileNumber(u64::MAX), ..Manifest::default() };
    for (name, bytes) in listing.files.iter().rev() {
        let Some(header) = header_of(name).filter(|header| header.store == store) else { continue };
        manifest.term = manifest.term.max(header.term);
        match name {
            FileName::Segment(number) => {
                manifest.segments.push(guess_segment(disk, store, *number, *bytes));
            }
            FileName::Run(number) => {
                let Ok(examined) = examine(disk, store, *number, None) else { continue };
                let facts = *examined.run.facts();
                if facts.usage == RunUse::History {
                    manifest.history.push(HistoryFile {
                        facts,
                        class: 0,
                        epoch: 0,
                        start: Lsn::ZERO,
                        end: Lsn::MAX,
                        start_time: Timestamp(0),
                        end_time: Timestamp(0),
                    });
                } else {
                    manifest.runs.push(facts);
                }
            }
            // The oldest comes last.
            FileName::Wal(number) => {
                manifest.replay = guess_replay(disk, *number).unwrap_or(manifest.replay);
            }
            _ => {}
        }
    }
    Ok(manifest)
}

fn guess_segment(
    disk: &dyn ReadDisk,
    store: StoreId,
    number: FileNumber,
    bytes: u64,
) -> SegmentState {
    let page_bytes = bytes.saturating_sub(HEADER_BLOCK_BYTES + SEGMENT_FOOTER_BYTES);
    let guess = SegmentFacts { number, bytes, page_bytes, pages: 0 };
    let facts = facts_of(disk, store, number).unwrap_or(guess);
    let (live_bytes, live_pages, written_at) = (facts.page_bytes, facts.pages, Lsn::ZERO);
    SegmentState { facts, live_bytes, live_pages, written_at, generation: 0 }
}

/// Where replay begins if this is the oldest file of the log. That nothing was before it is so only
/// of the first file of a store: the first of one that began as a backup continues its pages.
fn guess_replay(disk: &dyn ReadDisk, number: FileNumber) -> Option<LogPoint> {
    let before = WalHeader::decode(&block(disk, FileName::Wal(number))?).ok()?.predecessor;
    if before.point.file == FileNumber(0) && before.lsn == Lsn::ZERO {
        return Some(before.point);
    }
    Some(LogPoint { file: number, offset: HEADER_BLOCK_BYTES, ..before.point })
}

//! Which file of the log follows which.
//!
//! Files are prepared ahead, so their names say nothing of whether they hold a part of the log: a
//! file does when its header says so, and the header says behind what. A file without a header was
//! never used, unless what may be a group stands where its first one would: not so few bytes that
//! they are bits which flipped in unused space. Nor was a file never used that holds anything and
//! ends inside its header, for its length was durable before.
//!
//! A term that crashed before its first group leaves an empty file behind. The file of the next
//! term names the same end, which takes the empty one's place, and that is removed: else a process
//! that fails again and again would fill the disk. Where several files name the same end, the one
//! of the highest term is right, and the others must be empty: a group in one was acknowledged.
//!
//! Invariants:
//!   * File numbers grow along the log, and terms never fall.
//!   * Every file with a header is met by the walk, or the log is damaged.

use super::files::{LogFiles, Window, is_zero};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::group::{GroupHeader, WalHeader, may_be_group};
use crate::format::header::{HEADER_BLOCK_BYTES, HeaderFault};
use crate::format::place_seed;
use crate::ids::{FileNumber, LogPoint, StoreId, Term};
use crate::limits::{GROUP_ALIGNMENT, SECTOR_BYTES};
use crate::names::FileName;

/// The headers of all files behind the one where a walk begins.
pub(super) struct Survey {
    /// Ascending by number.
    files: Vec<Surveyed>,
    /// Those that a file of a higher term took the place of.
    losers: Vec<FileNumber>,
}

struct Surveyed {
    header: WalHeader,
    is_met: bool,
}

impl Surveyed {
    fn end(&self) -> &LogPoint {
        &self.header.predecessor.point
    }

    fn number(&self) -> FileNumber {
        self.header.header.number
    }
}

impl Survey {
    /// Reads the headers of the files after `after`. Beside a writer (`is_live`), a file that is
    /// just being taken into use counts as unused.
    pub(super) fn take(
        files: &dyn LogFiles,
        store: StoreId,
        after: FileNumber,
        is_live: bool,
    ) -> Result<Self> {
        let mut numbers = files.numbers()?;
        numbers.retain(|number| *number > after);
        // The newest first: a writer heads files in order, so beside it no header goes unseen
        // between two that are seen.
        numbers.sort_unstable_by(|left, right| right.cmp(left));
        let mut found = Vec::new();
        for number in numbers {
            let mut window = Window::open(files, number)?;
            match read_header(&mut window, store, number)? {
                Ok(header) => found.push(Surveyed { header, is_met: false }),
                Err(fault) => check_unused(&mut window, number, (fault, is_live))?,
            }
        }
        found.reverse();
        Ok(Self { files: found, losers: Vec::new() })
    }

    /// The file that goes on exactly at `point`, and now counts as met.
    pub(super) fn successor(
        &mut self,
        files: &dyn LogFiles,
        point: &LogPoint,
        term: Term,
    ) -> Result<Option<WalHeader>> {
        let fits = |file: &Surveyed| {
            *file.end() == *point && file.number() > point.file && file.header.header.term >= term
        };
        let fitting = self.files.iter_mut().filter(|file| fits(file));
        let mut best: Option<WalHeader> = None;
        for file in fitting {
            file.is_met = true;
            let header = file.header;
            let Some(rival) = best.replace(header) else { continue };
            let (loser, winner) = if rival.header.term > header.header.term {
                (header, rival)
            } else {
                (rival, header)
            };
            best = Some(winner);
            check_empty(files, &loser)?;
            self.losers.push(loser.header.number);
        }
        Ok(best)
    }

    /// Whether a file not met yet says that the log reached beyond group `group`.
    pub(super) fn names_beyond(&self, group: u64) -> bool {
        self.files.iter().any(|file| !file.is_met && file.end().group > group)
    }

    /// Whether a file not met yet says that the log went on in the file of `point` behind it.
    pub(super) fn names_beyond_in_file(&self, point: &LogPoint) -> bool {
        let is_beyond = |end: &LogPoint| end.file == point.file && end.offset > point.offset;
        self.files.iter().any(|file| !file.is_met && is_beyond(file.end()))
    }

    /// Files that name the same end as another of a higher term, and hold nothing.
    pub(super) fn losers(&self) -> impl Iterator<Item = FileNumber> + '_ {
        self.losers.iter().copied()
    }

    /// A file that the walk did not meet.
    pub(super) fn orphan(&self) -> Option<&WalHeader> {
        self.files.iter().find(|file| !file.is_met).map(|file| &file.header)
    }
}

/// Reads and checks the header of a file. What is not a header is for the caller to judge.
pub(super) fn read_header(
    window: &mut Window,
    store: StoreId,
    number: FileNumber,
) -> Result<std::result::Result<WalHeader, &'static str>> {
    let name = FileName::Wal(number);
    let length = usize::try_from(window.rest(0).min(HEADER_BLOCK_BYTES)).unwrap_or_default();
    let block = window.get(0, length)?.unwrap_or_default();
    let header = match WalHeader::decode(block) {
        Ok(header) => header,
        Err(HeaderFault::Malformed(what)) => return Ok(Err(what)),
        Err(HeaderFault::Unsupported { version, features }) => {
            let what = format!("the log has version {version} and features {features:#x}");
            let error = Error::new(ErrorKind::Unsupported, "format.unsupported", what);
            return Err(error.at(Place::new(name, 0)));
        }
    };
    if header.header.store != store {
        let what = "a file of the log belongs to another store";
        return Err(Error::corrupt("log.foreign", what, Place::new(name, 0)));
    }
    if header.header.number != number {
        let what = format!("the file was written as {}", FileName::Wal(header.header.number));
        return Err(Error::corrupt("log.renamed", what, Place::new(name, 0)));
    }
    Ok(Ok(header))
}

/// The length of a file is durable before its header is written, and the header before the first
/// group. So there was a header where something stands at the first group's place, and where
/// anything does in a file that ends before that. Beside a writer only the latter is certain.
fn check_unused(
    window: &mut Window,
    number: FileNumber,
    (fault, is_live): (&'static str, bool),
) -> Result<()> {
    check_reaches_header(window, number)?;
    if is_live || !holds_first_group(window)? {
        return Ok(());
    }
    let what = format!("the header of a used file of the log is damaged: {fault}");
    Err(Error::corrupt("log.header", what, Place::new(FileName::Wal(number), 0)))
}

/// Fails for a file in which something stands and that ends inside its header.
pub(super) fn check_reaches_header(window: &mut Window, number: FileNumber) -> Result<()> {
    let length = window.rest(0).min(HEADER_BLOCK_BYTES);
    let block = window.get(0, usize::try_from(length).unwrap_or_default())?;
    let is_used = block.is_some_and(|block| !is_zero(block));
    // As of now: a file may have had no length yet when it was opened.
    let bytes = window.bytes_now()?;
    if !is_used || bytes >= HEADER_BLOCK_BYTES {
        return Ok(());
    }
    let what = format!("the file was cut short inside its header, to {bytes} bytes");
    Err(Error::corrupt("log.short", what, Place::new(FileName::Wal(number), bytes)))
}

/// Whether something stands where the first group of a file would that may be one.
pub(super) fn holds_first_group(window: &mut Window) -> Result<bool> {
    let length = window.rest(HEADER_BLOCK_BYTES).min(SECTOR_BYTES as u64);
    let sector = window.get(HEADER_BLOCK_BYTES, usize::try_from(length).unwrap_or_default())?;
    Ok(may_be_group(sector.unwrap_or_default()))
}

fn check_empty(files: &dyn LogFiles, loser: &WalHeader) -> Result<()> {
    let number = loser.header.number;
    let mut window = Window::open(files, number)?;
    let first = LogPoint {
        file: number,
        offset: HEADER_BLOCK_BYTES,
        group: loser.predecessor.point.group,
        chain: loser.predecessor.point.chain,
    };
    let Some(offset) = scan(&mut window, loser.header.salt, &first, true)?.later else {
        return Ok(());
    };
    let what = "a later term does not continue this file, yet it holds a group";
    Err(Error::corrupt("log.fork", what, Place::new(FileName::Wal(number), offset)))
}

/// What a look at the rest of a file brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    /// Where a valid header of the group at the point or a later one stands.
    pub(super) later: Option<u64>,
    /// The end of the last block that is not all zeros.
    pub(super) used_to: Option<u64>,
}

/// Looks at every block from `point` on to the end of its file; at the block of the point itself
/// for a group only if `including_first`.
pub(super) fn scan(
    window: &mut Window,
    salt: u64,
    point: &LogPoint,
    including_first: bool,
) -> Result<Rest> {
    let mut found = Rest::default();
    let mut offset = point.offset;
    loop {
        let length = window.rest(offset).min(super::files::WINDOW_BYTES as u64);
        let bytes = window.get(offset, usize::try_from(length).unwrap_or_default())?;
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            return Ok(found);
        };
        for block in bytes.chunks(BLOCK_BYTES) {
            if !is_zero(block) {
                found.used_to = Some(offset + block.len() as u64);
                if found.later.is_none() && (including_first || offset > point.offset) {
                    let seed = place_seed(salt, point.file.0, offset);
                    let header = GroupHeader::decode(block, seed);
                    let is_later = header.is_ok_and(|(header, _)| header.number >= point.group);
                    found.later = is_later.then_some(offset);
                }
            }
            offset += block.len() as u64;
        }
    }
}

const BLOCK_BYTES: usize = 4096;
const _: () = assert!(BLOCK_BYTES as u64 == GROUP_ALIGNMENT);
const _: () = assert!(super::files::WINDOW_BYTES.is_multiple_of(BLOCK_BYTES));

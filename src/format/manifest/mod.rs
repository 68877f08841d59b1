//! The manifest: which files are live, what they cover, where replay begins.
//!
//! See "The manifest" in `docs/format.md`.
//!
//! Invariants:
//!   * One value has one encoding, and an encoding with any bit flipped is refused.
//!   * Lists keep their order; the runs stand newest first.

use crate::format::header::{FileKind, HEADER_BYTES, Header, HeaderFault};
use crate::format::namespace::NamespaceItem;
use crate::format::page::SegmentFacts;
use crate::format::run::{RunFacts, RunUse};
use crate::format::{Cursor, Malformed, checksum, place_seed};
use crate::ids::{
    Address, FileNumber, Life, LogEnd, LogPoint, Lsn, NamespaceNumber, ShortId, StoreId, Term,
    Timestamp,
};
use crate::limits::MANIFEST_BYTES_MAX;

/// Bytes before the body: the common header and the body's length.
const FRONT_BYTES: usize = HEADER_BYTES + 8;

/// Bytes after the body: its checksum.
const CHECKSUM_BYTES: usize = 4;

/// The commits that one term made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermSpan {
    /// The term.
    pub term: Term,
    /// Its first LSN.
    pub first: Lsn,
    /// Its last LSN that became durable.
    pub last: Lsn,
}

/// A live segment and how much of it is still referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentState {
    /// The file.
    pub facts: SegmentFacts,
    /// Bytes of pages that the directory still names.
    pub live_bytes: u64,
    /// Pages that the directory still names.
    pub live_pages: u64,
    /// The cut at which it was written.
    pub written_at: Lsn,
    /// Zero for what a checkpoint wrote; one more for each time that its pages were cleaned.
    pub generation: u8,
}

/// A file of history and the span that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryFile {
    /// The file.
    pub facts: RunFacts,
    /// The retention class of the namespaces in it.
    pub class: u32,
    /// The epoch that it belongs to.
    pub epoch: u64,
    /// The LSN after which it begins.
    pub start: Lsn,
    /// The last LSN that it covers.
    pub end: Lsn,
    /// The time of the commit `start`.
    pub start_time: Timestamp,
    /// The time of the commit `end`.
    pub end_time: Timestamp,
}

/// From when on the history of a namespace belongs to a retention class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassChange {
    /// The namespace.
    pub namespace: NamespaceNumber,
    /// The class of its commits behind `from`; zero where their history is not kept.
    pub class: u32,
    /// The end of an epoch.
    pub from: Lsn,
}

/// An object's past, from some moment on out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Purge {
    /// The object.
    pub address: Address,
    /// The commit that purged it.
    pub lsn: Lsn,
    /// Whether no file holds anything of it from before any more.
    pub erased: bool,
}

/// The set of live files and what they stand for, replaced whole by every publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The store that it describes.
    pub store: StoreId,
    /// The term that wrote it.
    pub term: Term,
    /// One more for each manifest of the store.
    pub generation: u64,
    /// A bit for each feature of any file of the store that a reader may ignore and a writer must
    /// know.
    pub writer_features: u32,
    /// Pages and runs cover every commit up to here.
    pub cut: Lsn,
    /// The time of that commit.
    pub cut_time: Timestamp,
    /// Where recovery begins to read the log.
    pub replay: LogPoint,
    /// Where the log ends, if the store was closed cleanly and has not been opened since.
    pub closed: Option<LogEnd>,
    /// No file has this number or a greater one, but for files not yet published.
    pub next_file: FileNumber,
    /// The terms and their commits, oldest first.
    pub terms: Vec<TermSpan>,
    /// The live segments.
    pub segments: Vec<SegmentState>,
    /// The live runs but for history, newest first, of every use.
    pub runs: Vec<RunFacts>,
    /// The live files of history.
    pub history: Vec<HistoryFile>,
    /// The number of the epoch that is open.
    pub epoch: u64,
    /// The LSN after which it began.
    pub epoch_start: Lsn,
    /// The time of the first cut in it, or of the cut that began it.
    pub epoch_time: Timestamp,
    /// Record bytes logged in it, up to the cut.
    pub epoch_bytes: u64,
    /// For each retention class, the LSN before which nothing can be reached.
    pub horizons: Vec<(u32, Lsn)>,
    /// For each retention class, the time up to which uptime has let its horizon move.
    pub allowed: Vec<(u32, Timestamp)>,
    /// Changes of retention classes, in the order of their LSNs. A namespace without one has had
    /// class 1 from the beginning.
    pub classes: Vec<ClassChange>,
    /// The last purge of each object that has one, by address.
    pub purged: Vec<Purge>,
    /// Large lives that ended, and when: their pages are live until they are archived.
    pub ended: Vec<(Address, Life, Lsn)>,
    /// The namespaces by name: all that are made by commits up to the cut, and perhaps later ones.
    pub namespaces: Vec<NamespaceItem>,
}

impl Manifest {
    /// The last purge of an object.
    #[must_use]
    pub fn purge_of(&self, address: Address) -> Option<&Purge> {
        let found = self.purged.binary_search_by_key(&address, |purge| purge.address);
        self.purged.get(found.ok()?)
    }

    /// The manifest's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // The generation differs between any two manifests of a store, so it serves as the salt.
        let header = Header {
            kind: FileKind::Manifest,
            store: self.store,
            number: FileNumber(0),
            term: self.term,
            salt: self.generation,
            writer_features: self.writer_features,
        };
        let mut out = header.encode().to_vec();
        put_u64(&mut out, 0);
        self.put_body(&mut out);
        let body_bytes = (out.len() - FRONT_BYTES) as u64;
        out[HEADER_BYTES..FRONT_BYTES].copy_from_slice(&body_bytes.to_le_bytes());
        let sum = body_checksum(self.generation, &out[HEADER_BYTES..]);
        put_u32(&mut out, sum);
        out
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        put_u64(out, self.cut.0);
        put_u64(out, self.cut_time.0);
        put_point(out, &self.replay);
        put_list(out, self.closed.as_slice(), |out, end| {
            put_point(out, &end.point);
            put_u64(out, end.lsn.0);
            put_u64(out, end.time.0);
        });
        put_u64(out, self.next_file.0);
        put_list(out, &self.terms, |out, span| {
            put_u32(out, span.term.0);
            put_u64(out, span.first.0);
            put_u64(out, span.last.0);
        });
        put_list(out, &self.segments, put_segment);
        put_list(out, &self.runs, put_run);
        put_list(out, &self.history, |out, file| {
            put_run(out, &file.facts);
            put_u32(out, file.class);
            put_u64(out, file.epoch);
            put_u64(out, file.start.0);
            put_u64(out, file.end.0);
            put_u64(out, file.start_time.0);
            put_u64(out, file.end_time.0);
        });
        put_u64(out, self.epoch);
        put_u64(out, self.epoch_start.0);
        put_u64(out, self.epoch_time.0);
        put_u64(out, self.epoch_bytes);
        put_list(out, &self.horizons, |out, (class, lsn)| {
            put_u32(out, *class);
            put_u64(out, lsn.0);
        });
        put_list(out, &self.allowed, |out, (class, time)| {
            put_u32(out, *class);
            put_u64(out, time.0);
        });
        put_list(out, &self.classes, |out, change| {
            put_u32(out, change.namespace.0);
            put_u32(out, change.class);
            put_u64(out, change.from.0);
        });
        put_list(out, &self.purged, |out, purge| {
            put_address(out, &purge.address);
            put_u64(out, purge.lsn.0);
            out.push(u8::from(purge.erased));
        });
        put_list(out, &self.ended, |out, (address, life, lsn)| {
            put_address(out, address);
            put_u64(out, life.0);
            put_u64(out, lsn.0);
        });
        put_list(out, &self.namespaces, |out, item| item.encode(out));
    }

    /// Reads a manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(HeaderFault::Malformed("longer than a manifest may be"));
        }
        let header = Header::decode(bytes, FileKind::Manifest)?;
        if header.number != FileNumber(0) {
            return Err(HeaderFault::Malformed("a manifest with a number"));
        }
        let mut cursor = Cursor::new(&bytes[HEADER_BYTES..]);
        let body_bytes = cursor.u64()?;
        let covered = bytes.len().saturating_sub(CHECKSUM_BYTES).max(FRONT_BYTES);
        if body_bytes != (covered - FRONT_BYTES) as u64 {
            return Err(HeaderFault::Malformed("manifest is not as long as it says"));
        }
        let body = cursor.take(covered - FRONT_BYTES)?;
        let sum = cursor.u32()?;
        cursor.finish()?;
        if sum != body_checksum(header.salt, &bytes[HEADER_BYTES..covered]) {
            return Err(HeaderFault::Malformed("manifest checksum differs"));
        }
        let mut cursor = Cursor::new(body);
        let manifest = Self::take_body(&header, &mut cursor)?;
        cursor.finish()?;
        Ok(manifest)
    }

    fn take_body(header: &Header, cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            store: header.store,
            term: header.term,
            generation: header.salt,
            writer_features: header.writer_features,
            cut: Lsn(cursor.counted()?),
            cut_time: Timestamp(cursor.u64()?),
            replay: take_point(cursor)?,
            closed: take_closed(cursor)?,
            next_file: FileNumber(cursor.counted()?),
            terms: take_list(cursor, |cursor| {
                Ok(TermSpan {
                    term: Term(cursor.u32()?),
                    first: Lsn(cursor.counted()?),
                    last: Lsn(cursor.counted()?),
                })
            })?,
            segments: take_list(cursor, take_segment)?,
            runs: take_list(cursor, take_run)?,
            history: take_list(cursor, |cursor| {
                Ok(HistoryFile {
                    facts: take_run(cursor)?,
                    class: cursor.u32()?,
                    epoch: cursor.counted()?,
                    start: Lsn(cursor.counted()?),
                    end: Lsn(cursor.counted()?),
                    start_time: Timestamp(cursor.u64()?),
                    end_time: Timestamp(cursor.u64()?),
                })
            })?,
            epoch: cursor.counted()?,
            epoch_start: Lsn(cursor.counted()?),
            epoch_time: Timestamp(cursor.u64()?),
            epoch_bytes: cursor.counted()?,
            horizons: take_list(cursor, |cursor| Ok((cursor.u32()?, Lsn(cursor.counted()?))))?,
            allowed: take_list(cursor, |cursor| Ok((cursor.u32()?, Timestamp(cursor.u64()?))))?,
            classes: take_list(cursor, |cursor| {
                Ok(ClassChange {
                    namespace: NamespaceNumber(cursor.u32()?),
                    class: cursor.u32()?,
                    from: Lsn(cursor.counted()?),
                })
            })?,
            purged: take_list(cursor, take_purge)?,
            ended: take_list(cursor, |cursor| {
                Ok((take_address(cursor)?, Life(cursor.u64()?), Lsn(cursor.counted()?)))
            })?,
            namespaces: take_list(cursor, NamespaceItem::decode)?,
        })
    }
}

/// Covers the body's length and the body, bound to the generation that the header states.
fn body_checksum(generation: u64, length_and_body: &[u8]) -> u32 {
    checksum(place_seed(generation, 0, HEADER_BYTES as u64), length_and_body)
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_u64(out, items.len() as u64);
    for item in items {
        put(out, item);
    }
}

/// Grows with the items that are there: the count alone allocates nothing.
fn take_list<T>(
    cursor: &mut Cursor<'_>,
    take: impl Fn(&mut Cursor<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = cursor.u64()?;
    (0..count).map(|_| take(cursor)).collect()
}

fn put_point(out: &mut Vec<u8>, point: &LogPoint) {
    put_u64(out, point.file.0);
    put_u64(out, point.offset);
    put_u64(out, point.group);
    put_u32(out, point.chain);
}

fn take_purge(cursor: &mut Cursor<'_>) -> Result<Purge, Malformed> {
    let (address, lsn) = (take_address(cursor)?, Lsn(cursor.counted()?));
    let erased = match cursor.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Malformed("a purge that is neither erased nor not")),
    };
    Ok(Purge { address, lsn, erased })
}

fn take_point(cursor: &mut Cursor<'_>) -> Result<LogPoint, Malformed> {
    Ok(LogPoint {
        file: FileNumber(cursor.counted()?),
        offset: cursor.counted()?,
        group: cursor.counted()?,
        chain: cursor.u32()?,
    })
}

fn take_closed(cursor: &mut Cursor<'_>) -> Result<Option<LogEnd>, Malformed> {
    let ends = take_list(cursor, |cursor| {
        Ok(LogEnd {
            point: take_point(cursor)?,
            lsn: Lsn(cursor.counted()?),
            time: Timestamp(cursor.u64()?),
        })
    })?;
    match *ends.as_slice() {
        [] => Ok(None),
        [end] => Ok(Some(end)),
        _ => Err(Malformed("more than one end of the log")),
    }
}

fn put_segment(out: &mut Vec<u8>, segment: &SegmentState) {
    put_u64(out, segment.facts.number.0);
    put_u64(out, segment.facts.bytes);
    put_u64(out, segment.facts.page_bytes);
    put_u64(out, segment.facts.pages);
    put_u64(out, segment.live_bytes);
    put_u64(out, segment.live_pages);
    put_u64(out, segment.written_at.0);
    out.push(segment.generation);
}

fn take_segment(cursor: &mut Cursor<'_>) -> Result<SegmentState, Malformed> {
    Ok(SegmentState {
        facts: SegmentFacts {
            number: FileNumber(cursor.counted()?),
            bytes: cursor.counted()?,
            page_bytes: cursor.counted()?,
            pages: cursor.counted()?,
        },
        live_bytes: cursor.counted()?,
        live_pages: cursor.counted()?,
        written_at: Lsn(cursor.counted()?),
        generation: cursor.u8()?,
    })
}

fn put_run(out: &mut Vec<u8>, run: &RunFacts) {
    put_u64(out, run.number.0);
    out.push(run.usage as u8);
    put_u64(out, run.bytes);
    put_u64(out, run.entries);
    put_u32(out, run.checksum);
}

fn take_run(cursor: &mut Cursor<'_>) -> Result<RunFacts, Malformed> {
    Ok(RunFacts {
        number: FileNumber(cursor.counted()?),
        usage: RunUse::from_byte(cursor.u8()?).ok_or(Malformed("a run of unknown use"))?,
        bytes: cursor.counted()?,
        entries: cursor.counted()?,
        checksum: cursor.u32()?,
    })
}

fn put_address(out: &mut Vec<u8>, address: &Address) {
    put_u32(out, address.namespace.0);
    out.extend_from_slice(&address.id.0);
}

fn take_address(cursor: &mut Cursor<'_>) -> Result<Address, Malformed> {
    Ok(Address { namespace: NamespaceNumber(cursor.u32()?), id: ShortId(cursor.array()?) })
}

#[cfg(test)]
mod tests;

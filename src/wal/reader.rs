//! Walks the log from a point on: to recover a store, and to follow one that is being written.
//!
//! Recovery ([`replay`]) hands out everything up to the last group that verifies and decides with
//! [`decide`] whether that is the end. A follower ([`replay_proven`]) hands out only what is shown
//! to be durable by something written later, and takes whatever else it finds for the end for now.
//!
//! Invariants:
//!   * What is handed out is a prefix of the log: no commit is left out before the end.
//!   * [`Replayed::end`] is exactly behind the last group read: the next file's predecessor.
//!   * Memory is bounded by one window and one commit, whatever the files say.
//!   * A follower's proof was read before what it proves, so a writer at work causes no alarm.

use super::assembly::{Assembly, Group};
use super::files::Window;
use super::recovery::{Case, Evidence, Found, decide};
use super::survey::{Survey, check_reaches_header, read_header, scan};
use crate::error::{Error, Place, Result};
use crate::format::group::{
    GROUP_HEADER_BYTES, GroupHeader, GroupKind, WalHeader, has_missing_sector, may_be_group, unmask,
};
use crate::format::header::HEADER_BLOCK_BYTES;
use crate::format::{checksum, place_seed};
use crate::ids::{FileNumber, LogEnd, LogPoint, Lsn, StoreId, Term, Timestamp};
use crate::limits::{GROUP_ALIGNMENT, SECTOR_BYTES};
use crate::marks::{Mark, mark};
use crate::names::FileName;
use crate::planted::{Mistake, planted};
use std::ops::Range;
use std::sync::Arc;

pub use super::assembly::{Sink, check_operations};
pub use super::files::{Live, LogFiles, Medium};
pub use super::recovery::Verdict;

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Where the log ends: exactly behind the last group. Its LSN is `skip_to` at least; its time
    /// is zero if nothing was read.
    pub end: LogEnd,
    /// The next term must begin at this one's [`Lsn::first_of_next_term`]: counts terms that
    /// crashed before their first commit was durable, and so is more than the end's LSN at times.
    pub highest: Lsn,
    /// The term of the last file; zero if there is none.
    pub term: Term,
    /// Commits handed out.
    pub records: u64,
    /// Groups read.
    pub groups: u64,
    /// Clean or torn.
    pub verdict: Verdict,
    /// Which case of the table applied at the end.
    pub case: Case,
    /// Bytes of the last file that are discarded.
    pub discarded: Option<Range<u64>>,
    /// Long commits whose final has not been met.
    pub open_chains: usize,
    /// Where a later walk must begin to meet all parts of those commits: the end, if there is none.
    pub resume: LogPoint,
    /// What the next file should name as its predecessor's end: the end, but before a last file
    /// that holds nothing.
    pub join: LogEnd,
    /// Files that nothing needs once a file of a higher term continues the log at the join.
    pub dead: Vec<FileNumber>,
    /// Whether the store was closed behind everything else.
    pub closed: bool,
}

/// Reads the log from `from` on, as recovery does.
///
/// Commits up to `skip_to` are not handed out. Everything up to `proof` is known to be durable:
/// where it is missing, the log is damaged.
pub fn replay(
    files: &dyn LogFiles,
    store: StoreId,
    from: LogPoint,
    skip_to: Lsn,
    proof: Lsn,
    sink: &mut Sink<'_>,
) -> Result<Replayed> {
    let mut walk = Walk::begin(files, store, &Request { from, skip_to, proof, is_live: false })?;
    walk.run(sink)?;
    walk.assembly.cut_chains();
    Ok(walk.replayed)
}

/// Reads the log from `from` on beside its writer: a group is handed out once a later group, a
/// later file or `proof` shows that it is durable. An unfinished end is no error.
pub fn replay_proven(
    files: &dyn LogFiles,
    store: StoreId,
    from: LogPoint,
    skip_to: Lsn,
    proof: Lsn,
    sink: &mut Sink<'_>,
) -> Result<Replayed> {
    let mut walk = Walk::begin(files, store, &Request { from, skip_to, proof, is_live: true })?;
    walk.run(sink)?;
    Ok(walk.replayed)
}

struct Request {
    from: LogPoint,
    skip_to: Lsn,
    proof: Lsn,
    is_live: bool,
}

struct Walk<'a> {
    files: &'a dyn LogFiles,
    survey: Survey,
    proof: Lsn,
    is_live: bool,
    /// None before the first file of the log.
    current: Option<Current>,
    /// Whether the walk came from another file into this one and has met no group since.
    is_blank: bool,
    /// Holds a body while it is unmasked.
    scratch: Vec<u8>,
    assembly: Assembly,
    /// `end.point` is where the walk is.
    replayed: Replayed,
}

struct Current {
    window: Window,
    header: WalHeader,
}

/// What stands where the next group is expected.
enum Sight {
    Group(GroupHeader, u32),
    /// Perhaps a group; nothing shows yet that it is durable.
    Unproven,
    Bad(Found),
}

impl<'a> Walk<'a> {
    fn begin(files: &'a dyn LogFiles, store: StoreId, request: &Request) -> Result<Self> {
        let from = request.from;
        let survey = Survey::take(files, store, from.file, request.is_live)?;
        let mut replayed = Replayed {
            end: LogEnd { point: from, lsn: request.skip_to, time: Timestamp(0) },
            highest: request.skip_to,
            term: Term(0),
            records: 0,
            groups: 0,
            verdict: Verdict::Clean,
            case: Case::A,
            discarded: None,
            open_chains: 0,
            resume: from,
            join: LogEnd::default(),
            dead: Vec::new(),
            closed: false,
        };
        let mut current = None;
        if from.file != FileNumber(0) {
            let first = Current::open(files, store, &from)?;
            replayed.term = first.header.header.term;
            replayed.highest = replayed.highest.max(first.header.first_lsn);
            current = Some(first);
        }
        let assembly = Assembly::new(from.group, request.skip_to);
        let Request { proof, is_live, .. } = *request;
        let scratch = Vec::new();
        let is_blank = false;
        Ok(Self { files, survey, proof, is_live, current, is_blank, scratch, assembly, replayed })
    }

    fn point(&self) -> LogPoint {
        self.replayed.end.point
    }

    fn run(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        loop {
            let (point, term) = (self.point(), self.replayed.term);
            if let Some(header) = self.survey.successor(self.files, &point, term)? {
                self.cross(header)?;
                continue;
            }
            match self.look()? {
                Sight::Group(header, chain) => self.take(header, chain, sink)?,
                Sight::Unproven => {
                    self.judge(Found::Zeros, false)?;
                    break;
                }
                Sight::Bad(found) => {
                    if !self.is_right_now(found)? {
                        self.end(found)?;
                        break;
                    }
                }
            }
        }
        if let Some(orphan) = self.survey.orphan() {
            let what = "a file of the log continues nothing that is there";
            let place = Place::new(FileName::Wal(orphan.header.number), 0);
            return Err(Error::corrupt("log.orphan", what, place));
        }
        self.settle();
        let replayed = &mut self.replayed;
        replayed.records = self.assembly.handed_out();
        replayed.open_chains = self.assembly.open_chains();
        replayed.resume = self.assembly.oldest_chain().unwrap_or(replayed.end.point);
        Ok(())
    }

    /// A term that ended before its first group has left a file that holds nothing. The next file
    /// takes its place: it names the same end, and has the higher term. Not where a torn group
    /// stands: only a successor behind it shows that it is dead.
    fn settle(&mut self) {
        let replayed = &mut self.replayed;
        replayed.join = replayed.end;
        if let (true, Case::A, Some(current)) = (self.is_blank, replayed.case, &self.current) {
            replayed.join.point = current.header.predecessor.point;
            replayed.dead.push(current.header.header.number);
        }
        replayed.dead.extend(self.survey.losers());
    }

    /// Goes on in the file that continues the log here.
    fn cross(&mut self, header: WalHeader) -> Result<()> {
        let point = self.point();
        let number = header.header.number;
        let is_new_term = header.header.term > self.replayed.term;
        let is_lost = |next: Lsn| self.proof >= next && self.proof.0 + 1 < header.first_lsn.0;
        let is_proven = self.survey.names_beyond_in_file(&point)
            || (is_new_term && self.assembly.next_lsn().is_some_and(is_lost));
        self.judge(Found::Successor, is_proven)?;
        self.assembly.begin_file(&header, is_new_term)?;
        mark(Mark::CrossedFiles);
        let window = Window::open(self.files, number)?;
        self.current = Some(Current { window, header });
        self.is_blank = true;
        let replayed = &mut self.replayed;
        replayed.end.point = LogPoint { file: number, offset: HEADER_BLOCK_BYTES, ..point };
        replayed.end.lsn = replayed.end.lsn.max(header.predecessor.lsn);
        replayed.end.time = replayed.end.time.max(header.predecessor.time);
        replayed.highest = replayed.highest.max(header.first_lsn);
        replayed.term = header.header.term;
        replayed.closed = false;
        Ok(())
    }

    fn look(&mut self) -> Result<Sight> {
        let point = self.point();
        let Some(current) = &mut self.current else {
            return Ok(Sight::Bad(Found::Zeros));
        };
        let seed = current.seed(point.offset);
        let Some(bytes) = current.window.get(point.offset, GROUP_HEADER_BYTES)? else {
            return Ok(Sight::Bad(Found::Zeros));
        };
        let Ok((header, chain)) = GroupHeader::decode(bytes, seed) else {
            return current.look_at_sector(point.offset).map(Sight::Bad);
        };
        let continues = header.previous == point.chain || planted(Mistake::IgnoreChain);
        if header.number != point.group || !continues {
            return Ok(Sight::Bad(Found::OtherGroup));
        }
        if self.is_live && !self.is_proven(&header)? {
            return Ok(Sight::Unproven);
        }
        let body = self.current.as_mut().map(|current| current.body(&header, point.offset));
        let found = match body.transpose()?.flatten() {
            Some(body) if checksum(seed, body) == header.body_crc => {
                return Ok(Sight::Group(header, chain));
            }
            Some(body) if has_missing_sector(body) => Found::MissingSector,
            _ => Found::WrongBody,
        };
        Ok(Sight::Bad(found))
    }

    /// Whether something read before the group's body shows that the group is durable.
    fn is_proven(&self, header: &GroupHeader) -> Result<bool> {
        let Some(current) = &self.current else {
            return Ok(false);
        };
        let has_commits = self.assembly.next_lsn().is_none_or(|next| header.last_lsn >= next);
        if (has_commits && header.last_lsn <= self.proof) || self.survey.names_beyond(header.number)
        {
            return Ok(true);
        }
        let next = self.point().offset + header.group_bytes();
        let Some(bytes) = current.window.peek(next)? else {
            return Ok(false);
        };
        let later = GroupHeader::decode(&bytes, current.seed(next));
        Ok(later.is_ok_and(|(later, _)| later.number > header.number))
    }

    /// Beside a writer, what is not right may be half written. A group that stands behind it shows
    /// that it is not: it is right when it is read again, or it is damaged.
    fn is_right_now(&mut self, found: Found) -> Result<bool> {
        let point = self.point();
        let may_be_half = self.is_live && !matches!(found, Found::Zeros | Found::ZeroSector);
        let Some(current) = self.current.as_mut().filter(|_| may_be_half) else {
            return Ok(false);
        };
        if scan(&mut current.window, current.header.header.salt, &point, false)?.later.is_none() {
            return Ok(false);
        }
        current.window.forget();
        let sight = self.look()?;
        if let Sight::Bad(found) = sight {
            self.judge(found, true)?;
        }
        Ok(!matches!(sight, Sight::Bad(_)))
    }

    /// Hands out a group's commits and steps behind it.
    fn take(&mut self, header: GroupHeader, chain: u32, sink: &mut Sink<'_>) -> Result<()> {
        let point = self.point();
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let file = Arc::clone(current.window.file());
        let mut body = current.body(&header, point.offset)?.unwrap_or_default();
        if header.mask != 0 {
            self.scratch.clear();
            self.scratch.extend_from_slice(body);
            unmask(&mut self.scratch, header.mask);
            body = &self.scratch;
        }
        self.assembly.group(&Group { file: &file, point, header, body }, sink)?;
        let replayed = &mut self.replayed;
        let offset = point.offset + header.group_bytes();
        let number = header.number.saturating_add(1);
        replayed.end.point = LogPoint { file: point.file, offset, group: number, chain };
        replayed.end.lsn = replayed.end.lsn.max(header.last_lsn);
        replayed.end.time = replayed.end.time.max(header.time);
        replayed.highest = replayed.highest.max(header.last_lsn);
        replayed.groups += 1;
        replayed.closed = header.kind == GroupKind::Close;
        self.is_blank = false;
        Ok(())
    }

    /// The log does not go on here: is it the end?
    fn end(&mut self, mut found: Found) -> Result<()> {
        let point = self.point();
        let is_missing = self.assembly.next_lsn().is_some_and(|next| self.proof >= next);
        let is_hole = self.survey.names_beyond(point.group);
        if is_hole {
            mark(Mark::HoleBetweenFiles);
        }
        let mut is_proven = is_missing || is_hole;
        if self.is_live {
            let found = if is_proven { found } else { Found::Zeros };
            return self.judge(found, is_proven);
        }
        let mut used_to = None;
        let is_over = self.replayed.closed && found == Found::ZeroSector;
        if let Some(current) = self.current.as_mut().filter(|_| !is_over) {
            let salt = current.header.header.salt;
            let rest = scan(&mut current.window, salt, &point, false)?;
            is_proven |= rest.later.is_some();
            used_to = rest.used_to;
        }
        if found == Found::ZeroSector && used_to.is_none() {
            found = Found::Zeros;
        }
        self.judge(found, is_proven)?;
        match self.replayed.case {
            Case::C => mark(Mark::TornHeader),
            Case::E => mark(Mark::TornBody),
            _ => {}
        }
        if self.replayed.verdict == Verdict::Torn {
            self.replayed.closed = false;
            self.replayed.discarded = used_to.map(|used_to| point.offset..used_to);
        }
        Ok(())
    }

    /// Notes the verdict on the place where the walk is; damage is an error.
    fn judge(&mut self, found: Found, is_proven: bool) -> Result<()> {
        let current = self.current.as_ref().filter(|_| !self.replayed.closed);
        let lost = current.map_or(Ok(None), Current::lost)?;
        let evidence = Evidence { found, is_proven, is_short: lost.is_some() };
        let (case, mut verdict) = decide(&evidence);
        if verdict == Verdict::Corrupt && planted(Mistake::StopAtFirstBad) {
            verdict = Verdict::Torn;
        }
        self.replayed.case = case;
        self.replayed.verdict = verdict;
        if verdict != Verdict::Corrupt {
            return Ok(());
        }
        Err(self.damaged(found, case, lost))
    }

    /// The error for damage where the walk is, in a file that has lost these bytes at its end.
    fn damaged(&self, found: Found, case: Case, lost: Option<Range<u64>>) -> Error {
        let point = self.point();
        let name = FileName::Wal(point.file);
        let at = |offset| Place { lsn: self.assembly.next_lsn(), ..Place::new(name, offset) };
        if let (Case::I, Some(lost)) = (case, lost) {
            let what = format!(
                "the file was cut short, to {} of its {} bytes: group {} of the log and what \
                follows it may be lost (case I)",
                lost.start, lost.end, point.group
            );
            return Error::corrupt("log.short", what, at(lost.start));
        }
        let why = match found {
            Found::Zeros | Found::ZeroSector => "is not there",
            Found::NoHeader => "has a damaged header",
            Found::MissingSector | Found::WrongBody => "has a damaged body",
            Found::OtherGroup => "stands behind another one than it should",
            Found::Successor => "was left out by the file that continues the log",
        };
        let what = format!("group {} of the log {why} (case {case:?})", point.group);
        Error::corrupt("log.damaged", what, at(point.offset))
    }
}

/// Whether a file was not there when it was opened.
fn is_missing(error: &Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
}

impl Current {
    /// Opens the file in which a walk begins.
    fn open(files: &dyn LogFiles, store: StoreId, from: &LogPoint) -> Result<Self> {
        let name = FileName::Wal(from.file);
        let mut window = Window::open(files, from.file).map_err(|error| {
            if !is_missing(&error) {
                return error;
            }
            let what = "the file of the log where replay begins is missing";
            Error::corrupt("log.missing", what, Place::new(name, from.offset))
        })?;
        let header = match read_header(&mut window, store, from.file)? {
            Ok(header) => header,
            Err(fault) => {
                check_reaches_header(&mut window, from.file)?;
                return Err(Error::corrupt("log.header", fault, Place::new(name, 0)));
            }
        };
        let is_boundary = from.offset >= HEADER_BLOCK_BYTES
            && from.offset.is_multiple_of(GROUP_ALIGNMENT)
            && window.rest(from.offset.saturating_sub(1)) > 0;
        let current = Self { window, header };
        if is_boundary {
            return Ok(current);
        }
        if let Some(lost) = current.lost()? {
            let (has, had) = (lost.start, lost.end);
            let what = format!(
                "the file was cut short, to {has} of its {had} bytes, before replay begins"
            );
            return Err(Error::corrupt("log.short", what, Place::new(name, has)));
        }
        let what = "replay would begin where no group can";
        Err(Error::corrupt("log.point", what, Place::new(name, from.offset)))
    }

    /// The bytes at its end that the file had when its header was written and has no more. Asked
    /// after the header was read, so that a writer at work causes no alarm.
    fn lost(&self) -> Result<Option<Range<u64>>> {
        let has = self.window.bytes_now()?;
        Ok((has < self.header.bytes).then_some(has..self.header.bytes))
    }

    fn seed(&self, offset: u64) -> u64 {
        let header = &self.header.header;
        place_seed(header.salt, header.number.0, offset)
    }

    /// What stands at `offset`, where no valid header does.
    fn look_at_sector(&mut self, offset: u64) -> Result<Found> {
        let length = self.window.rest(offset).min(SECTOR_BYTES as u64);
        let sector = self.window.get(offset, usize::try_from(length).unwrap_or_default())?;
        let is_used = sector.is_some_and(may_be_group);
        Ok(if is_used { Found::NoHeader } else { Found::ZeroSector })
    }

    /// The body, as written, of the group at `offset`; none if the file does not reach that far.
    fn body(&mut self, header: &GroupHeader, offset: u64) -> Result<Option<&[u8]>> {
        if self.window.rest(offset) < header.group_bytes() {
            return Ok(None);
        }
        let length = GROUP_HEADER_BYTES + header.body_bytes as usize;
        let group = self.window.get(offset, length)?;
        Ok(group.and_then(|group| group.get(GROUP_HEADER_BYTES..)))
    }
}

//! From verified groups to commits in order: records are walked, parts of long commits joined.
//!
//! Of a part only its place is kept and its bytes are read again when its final comes: any number
//! of long commits may be under way at once, or have been given up.
//!
//! Invariants:
//!   * Commits are handed out by rising LSN, one more each inside a term; whatever is skipped or
//!     missing is an error, never a gap.
//!   * A commit of several parts is handed out only whole: number, length and checksum as its
//!     final states them.
//!   * Nothing of one term is joined to anything of another.

use super::files::read;
use crate::disk::ReadFile;
use crate::error::{Error, Place, Result};
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader, WalHeader, unmask_part};
use crate::format::record::{
    FinalPayload, PartPayload, RECORD_HEADER_BYTES, RecordHeader, RecordKind, RecordView,
    malformed_operation, records,
};
use crate::format::{Malformed, checksum};
use crate::ids::{Address, LogPoint, LogPosition, Lsn};
use crate::limits::LOGGED_COMMIT_BYTES_MAX;
use crate::marks::{Mark, mark};
use crate::names::FileName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Takes a commit: a record of kind commit, joined if it was logged in parts, and where it (or its
/// final) stands. Takes what only took an LSN, too.
pub type Sink<'a> = dyn FnMut(RecordView<'_>, LogPosition) -> Result<()> + 'a;

/// A verified group.
pub(super) struct Group<'a> {
    pub(super) file: &'a Arc<dyn ReadFile>,
    pub(super) point: LogPoint,
    pub(super) header: GroupHeader,
    /// Unmasked.
    pub(super) body: &'a [u8],
}

/// What has to be remembered from group to group.
pub(super) struct Assembly {
    /// Chains that began before this group are unknown and ignored.
    from_group: u64,
    skip_to: Lsn,
    /// What the next commit's LSN must be, once that is known.
    next: Option<Lsn>,
    chains: BTreeMap<(u64, u32), Chain>,
    handed_out: u64,
}

struct Chain {
    address: Address,
    bytes: usize,
    parts: Vec<PartPlace>,
    begun_at: LogPoint,
}

/// Where a part's bytes stand.
struct PartPlace {
    file: Arc<dyn ReadFile>,
    position: LogPosition,
    bytes: usize,
    mask: u64,
    /// Where they begin in the body that the mask was laid over.
    mask_offset: u64,
}

impl Assembly {
    pub(super) fn new(from_group: u64, skip_to: Lsn) -> Self {
        Self { from_group, skip_to, next: None, chains: BTreeMap::new(), handed_out: 0 }
    }

    /// What the next commit's LSN must be, once that is known.
    pub(super) fn next_lsn(&self) -> Option<Lsn> {
        self.next
    }

    /// Commits handed out.
    pub(super) fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// Chains without their final.
    pub(super) fn open_chains(&self) -> usize {
        self.chains.len()
    }

    /// The group from which on all parts of all open chains stand.
    pub(super) fn oldest_chain(&self) -> Option<LogPoint> {
        self.chains.first_key_value().map(|(_, chain)| chain.begun_at)
    }

    /// Forgets the open chains: whoever wrote them will not finish them.
    pub(super) fn cut_chains(&mut self) {
        if !self.chains.is_empty() {
            mark(Mark::PartsCut);
            self.chains.clear();
        }
    }

    /// The log goes on in another file.
    pub(super) fn begin_file(&mut self, header: &WalHeader, is_new_term: bool) -> Result<()> {
        let is_in_order = match self.next {
            None => true,
            Some(next) if is_new_term => header.first_lsn >= next,
            Some(next) => header.first_lsn <= next && header.first_lsn.0 + 1 >= next.0,
        };
        if !is_in_order {
            let what = "a file of the log does not go on with the LSN of its predecessor";
            let place = Place::new(FileName::Wal(header.header.number), 0);
            let place = Place { lsn: Some(header.first_lsn), ..place };
            return Err(Error::corrupt("log.order", what, place));
        }
        if is_new_term {
            self.cut_chains();
            self.next = Some(header.first_lsn);
        }
        Ok(())
    }

    /// Hands out the commits that end in a group.
    pub(super) fn group(&mut self, group: &Group<'_>, sink: &mut Sink<'_>) -> Result<()> {
        let mut position = LogPosition {
            file: group.point.file,
            offset: group.point.offset + GROUP_HEADER_BYTES as u64,
        };
        let mut found = 0u32;
        let mut last = None;
        for record in records(group.body) {
            let view = record.map_err(|fault| damaged(position, None, "log.record", fault.0))?;
            if let Some(lsn) = self.record(group, view, position, sink)? {
                if last.is_none() && lsn != group.header.first_lsn {
                    return Err(order(position, lsn, "a group begins with another LSN"));
                }
                last = Some(lsn);
            }
            found += 1;
            position.offset += (RECORD_HEADER_BYTES + view.payload.len()) as u64;
        }
        if found != group.header.records {
            let what = "a group has not as many records as its header says";
            return Err(damaged(position, None, "log.record", what));
        }
        self.end_group(group, last)
    }

    fn end_group(&mut self, group: &Group<'_>, last: Option<Lsn>) -> Result<()> {
        let position = LogPosition { file: group.point.file, offset: group.point.offset };
        let stated = group.header.last_lsn;
        if last.is_some_and(|last| last != stated) {
            return Err(order(position, stated, "a group ends with another LSN"));
        }
        if last.is_none() {
            let is_same = group.header.first_lsn == stated;
            let goes_on = self.next.is_none_or(|next| stated.0.checked_add(1) == Some(next.0));
            if !is_same || !goes_on {
                return Err(order(position, stated, "a group without commits has another LSN"));
            }
            self.advance(position, stated)?;
        }
        Ok(())
    }

    fn advance(&mut self, position: LogPosition, lsn: Lsn) -> Result<()> {
        let next = lsn.0.checked_add(1).map(Lsn);
        self.next = Some(next.ok_or_else(|| order(position, lsn, "there is no LSN after this"))?);
        Ok(())
    }

    /// Takes a record; returns its LSN if it ends a commit.
    fn record(
        &mut self,
        group: &Group<'_>,
        view: RecordView<'_>,
        position: LogPosition,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Lsn>> {
        let lsn = view.header.lsn;
        let malformed = |fault: Malformed| damaged(position, None, "log.record", fault.0);
        match view.header.kind {
            RecordKind::Part => {
                let part = PartPayload::decode(view.payload).map_err(malformed)?;
                self.part(group, view.header.address, part, position)
                    .map_err(|what| damaged(position, None, "log.chain", what))?;
                return Ok(None);
            }
            RecordKind::Commit | RecordKind::Purge => {
                self.check_order(position, lsn)?;
                if lsn > self.skip_to {
                    self.handed_out += 1;
                    sink(view, position)?;
                }
            }
            RecordKind::Final => {
                self.check_order(position, lsn)?;
                let last = FinalPayload::decode(view.payload).map_err(malformed)?;
                let chain = self.chains.remove(&(last.first_group, last.chain));
                if lsn > self.skip_to {
                    let what = "a commit's parts are not before their final";
                    let chain =
                        chain.ok_or_else(|| damaged(position, Some(lsn), "log.chain", what))?;
                    let payload = chain.join(&view.header, &last, position)?;
                    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                    let header = RecordHeader { length, kind: RecordKind::Commit, ..view.header };
                    mark(Mark::PartsJoined);
                    self.handed_out += 1;
                    sink(RecordView { header, payload: &payload }, position)?;
                }
            }
            RecordKind::AdoptBegin => {
                self.check_order(position, lsn)?;
                if !view.payload.is_empty() {
                    let what = "the begin of a life says more than its LSN";
                    return Err(damaged(position, Some(lsn), "log.record", what));
                }
                if lsn > self.skip_to {
                    sink(view, position)?;
                }
            }
        }
        self.advance(position, lsn)?;
        Ok(Some(lsn))
    }

    fn check_order(&self, position: LogPosition, lsn: Lsn) -> Result<()> {
        if self.next.is_some_and(|next| lsn != next) || lsn == Lsn::ZERO {
            return Err(order(position, lsn, "a commit has not the LSN after the one before it"));
        }
        Ok(())
    }

    fn part(
        &mut self,
        group: &Group<'_>,
        address: Address,
        part: PartPayload<'_>,
        position: LogPosition,
    ) -> std::result::Result<(), &'static str> {
        if part.first_group < self.from_group {
            return Ok(());
        }
        let name = (part.first_group, part.chain);
        if part.index == 0 {
            let begun_at = group.point;
            let chain = Chain { address, bytes: 0, parts: Vec::new(), begun_at };
            let is_here = part.first_group == group.header.number;
            if !is_here || self.chains.insert(name, chain).is_some() {
                return Err("a part says that it is the first, and is not");
            }
        }
        let chain = self.chains.get_mut(&name).ok_or("a part is not behind the part before it")?;
        if chain.address != address || chain.parts.len() != part.index as usize {
            return Err("a part is not of the chain that it names");
        }
        chain.bytes += part.bytes.len();
        if chain.bytes > LOGGED_COMMIT_BYTES_MAX {
            return Err("the parts of a commit exceed its limit");
        }
        let offset = position.offset + (RECORD_HEADER_BYTES + PartPayload::FIELD_BYTES) as u64;
        chain.parts.push(PartPlace {
            file: Arc::clone(group.file),
            position: LogPosition { offset, ..position },
            bytes: part.bytes.len(),
            mask: group.header.mask,
            mask_offset: offset - group.point.offset - GROUP_HEADER_BYTES as u64,
        });
        Ok(())
    }
}

impl Chain {
    /// The commit's payload.
    fn join(
        &self,
        header: &RecordHeader,
        last: &FinalPayload<'_>,
        position: LogPosition,
    ) -> Result<Vec<u8>> {
        let failed = || {
            let what = "the parts of a commit are not what their final says";
            damaged(position, Some(header.lsn), "log.chain", what)
        };
        let total = self.bytes + last.bytes.len();
        let is_whole = self.parts.len() == last.parts as usize
            && self.address == header.address
            && total as u64 == last.total_bytes;
        if !is_whole {
            return Err(failed());
        }
        let mut payload = vec![0; total];
        let mut rest = &mut payload[..];
        for part in &self.parts {
            let (bytes, behind) = rest.split_at_mut(part.bytes);
            let name = FileName::Wal(part.position.file);
            read(&*part.file, name, bytes, part.position.offset)?;
            unmask_part(bytes, part.mask, part.mask_offset);
            rest = behind;
        }
        rest.copy_from_slice(last.bytes);
        if checksum(0, &payload) != last.total_crc {
            return Err(failed());
        }
        Ok(payload)
    }
}

/// Fails with `log.record` for a commit with an operation that no version writes. To take those
/// before it would be half a commit, so whoever applies commits asks first.
pub fn check_operations(record: &RecordView<'_>, position: LogPosition) -> Result<()> {
    let lsn = Some(record.header.lsn);
    let fault = malformed_operation(record.payload);
    fault.map_or(Ok(()), |fault| Err(damaged(position, lsn, "log.record", fault.0)))
}

fn place(position: LogPosition, lsn: Option<Lsn>) -> Place {
    Place { lsn, ..Place::new(FileName::Wal(position.file), position.offset) }
}

fn damaged(position: LogPosition, lsn: Option<Lsn>, code: &'static str, what: &str) -> Error {
    Error::corrupt(code, what, place(position, lsn))
}

fn order(position: LogPosition, lsn: Lsn, what: &str) -> Error {
    damaged(position, Some(lsn), "log.order", what)
}

//! Commits too long for one record: a chain of parts, closed by a final one that carries the LSN.
//!
//! Invariants:
//!   * A chain without its final never happened: a failure on the way leaves only dead parts.
//!   * While a chain is open, the log remembers in which group it began: replay begins there.
//!   * However long a commit is, others wait for no more than one part of it to be copied.

use super::group_commit::{GROUP_BYTES_MAX, Grant, Wal};
use crate::error::{Error, Result};
use crate::format::record::{
    self, FinalPayload, PartPayload, RECORD_HEADER_BYTES, RecordHeader, RecordKind,
};
use crate::ids::{Lsn, Timestamp};

impl<C> Wal<C> {
    pub(super) fn append_chain(
        &self,
        record: &mut [u8],
        now: Timestamp,
        in_order: impl FnOnce(&mut C, Grant),
    ) -> Result<Grant> {
        let (header, payload) = record.split_at(RECORD_HEADER_BYTES);
        let header = RecordHeader::decode(header)
            .map_err(|fault| Error::invalid("record.malformed", fault.0))?;
        let part_bytes = self.record_bytes_max() - 2 * RECORD_HEADER_BYTES;
        let mut pieces = payload.chunks(part_bytes);
        let last = pieces.next_back().unwrap_or_default();
        let parts = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
        let total_bytes = payload.len() as u64;
        let total_crc = crate::format::checksum(0, payload);
        let mut chain = None;
        let mut scratch = Vec::new();
        for (index, bytes) in (0..).zip(pieces) {
            let written = self.append_part(&mut scratch, &header, &mut chain, (index, bytes));
            written.inspect_err(|_| self.forget_chain(chain))?;
        }
        let mut open = self
            .open_with_room(last.len() + 2 * RECORD_HEADER_BYTES, GROUP_BYTES_MAX)
            .inspect_err(|_| self.forget_chain(chain))?;
        let (chain, first_group) = chain.unwrap_or_default();
        let grant = open.grant(now);
        let payload =
            FinalPayload { first_group, chain, parts, total_bytes, total_crc, bytes: last };
        encode_record(&mut scratch, &header, RecordKind::Final, |out| payload.encode(out));
        record::stamp(&mut scratch, grant.lsn, grant.time);
        open.push(&scratch);
        open.chains.remove(&chain);
        in_order(&mut open.companion, grant);
        drop(open);
        record::stamp(record, grant.lsn, grant.time);
        Ok(grant)
    }

    /// Parts leave room in the group for others: whose commit finds it full has to wait for the
    /// disk.
    fn append_part(
        &self,
        scratch: &mut Vec<u8>,
        header: &RecordHeader,
        chain: &mut Option<(u32, u64)>,
        (index, bytes): (u32, &[u8]),
    ) -> Result<()> {
        let room = bytes.len() + 2 * RECORD_HEADER_BYTES;
        let mut open = self.open_with_room(room, GROUP_BYTES_MAX / 2)?;
        let (number, first_group) = *chain.get_or_insert_with(|| open.begin_chain());
        let payload = PartPayload { first_group, chain: number, index, bytes };
        encode_record(scratch, header, RecordKind::Part, |out| payload.encode(out));
        open.push(scratch);
        Ok(())
    }

    fn forget_chain(&self, chain: Option<(u32, u64)>) {
        if let Some((number, _)) = chain {
            self.open.lock().chains.remove(&number);
        }
    }
}

fn encode_record(
    out: &mut Vec<u8>,
    of: &RecordHeader,
    kind: RecordKind,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    out.clear();
    out.resize(RECORD_HEADER_BYTES, 0);
    payload(out);
    let length = u32::try_from(out.len() - RECORD_HEADER_BYTES).unwrap_or(u32::MAX);
    let header = RecordHeader { length, kind, lsn: Lsn::ZERO, time: Timestamp(0), ..*of };
    out[..RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
}

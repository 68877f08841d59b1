//! A log in memory, written group by group as the engine writes it, for tests to damage.

use super::files::LogFiles;
use crate::disk::{Map, ReadFile};
use crate::error::{Error, Result};
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader, GroupKind, WalHeader, seal};
use crate::format::header::{FileContext, FileKind};
use crate::format::record::{FinalPayload, PartPayload, RecordHeader, RecordKind};
use crate::format::{checksum, place_seed};
use crate::ids::{
    Address, FileNumber, LogEnd, LogPoint, Lsn, NamespaceNumber, ShortId, StoreId, Term, Timestamp,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

pub(super) const STORE: StoreId = StoreId([5; 16]);

#[derive(Clone, Debug, Default)]
pub(super) struct MemoryFiles(pub(super) BTreeMap<FileNumber, Vec<u8>>);

#[derive(Debug)]
struct MemoryFile(Vec<u8>);

impl LogFiles for MemoryFiles {
    fn numbers(&self) -> Result<Vec<FileNumber>> {
        Ok(self.0.keys().copied().collect())
    }

    fn open(&self, number: FileNumber) -> Result<Arc<dyn ReadFile>> {
        let bytes = self.0.get(&number).cloned();
        let bytes = bytes.ok_or_else(|| Error::io("opening", io::ErrorKind::NotFound.into()))?;
        Ok(Arc::new(MemoryFile(bytes)))
    }
}

impl ReadFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        // Short reads are legal, so they happen here.
        let length = buffer.len().min(rest.len()).min(40_000);
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn map(&self, _: u64) -> io::Result<Arc<dyn Map>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A group as it was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) start: LogPoint,
    /// Header and body; padding is behind.
    pub(super) bytes: usize,
    /// The end of the log with it.
    pub(super) end: LogEnd,
    /// Commits that end in it or before it.
    pub(super) commits: usize,
}

pub(super) struct OpenChain {
    pub(super) first_group: u64,
    pub(super) chain: u32,
    pub(super) payload: Vec<u8>,
    pub(super) sent: usize,
    pub(super) parts: u32,
}

/// Writes a log as the engine does.
#[derive(Default)]
pub(super) struct Writer {
    /// Bytes of the files that are made from now on.
    pub(super) file_bytes: usize,
    pub(super) files: MemoryFiles,
    pub(super) end: LogEnd,
    pub(super) term: Term,
    pub(super) next: Lsn,
    pub(super) last_number: u64,
    pub(super) groups: Vec<Written>,
    pub(super) commits: Vec<(Lsn, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) records: u32,
    pub(super) first: Option<Lsn>,
    pub(super) chains: Vec<OpenChain>,
    pub(super) chains_begun: u32,
}

impl Writer {
    pub(super) fn new() -> Self {
        let mut writer = Self { next: Lsn(1), file_bytes: 64 * 1024, ..Self::default() };
        writer.begin_file(Term(1));
        writer
    }

    pub(super) fn begin_file(&mut self, term: Term) -> FileNumber {
        self.last_number += 1;
        let number = FileNumber(self.last_number);
        self.term = term;
        self.write_header(number, self.end, term);
        self.end.point.file = number;
        self.end.point.offset = 4096;
        number
    }

    pub(super) fn salt(number: FileNumber) -> u64 {
        number.0 * 0x1234_5678_9ABC
    }

    pub(super) fn write_header(&mut self, number: FileNumber, predecessor: LogEnd, term: Term) {
        let salt = Self::salt(number);
        let context = FileContext { store: STORE, term };
        let header = context.header(FileKind::Wal, number, salt);
        let first_lsn = self.first.unwrap_or(self.next);
        let bytes = self.file_bytes as u64;
        let mut bytes = WalHeader { header, predecessor, first_lsn, bytes }.encode();
        bytes.resize(self.file_bytes, 0);
        self.files.0.insert(number, bytes);
    }

    /// A crash, and the next term: what was open is lost.
    pub(super) fn begin_term(&mut self) {
        self.body.clear();
        self.records = 0;
        self.first = None;
        self.chains.clear();
        self.next = Lsn(self.next.0.max(self.end.lsn.0)).first_of_next_term();
        self.begin_file(Term(self.term.0 + 1));
    }

    /// A file prepared and never used.
    pub(super) fn prepare_file(&mut self) {
        self.last_number += 1;
        self.files.0.insert(FileNumber(self.last_number), vec![0; self.file_bytes]);
    }

    pub(super) fn record(&mut self, kind: RecordKind, lsn: Lsn, payload: &[u8]) {
        self.record_of(ShortId([4; 16]), kind, lsn, payload);
    }

    /// A record of a chosen object.
    pub(super) fn record_of(&mut self, id: ShortId, kind: RecordKind, lsn: Lsn, payload: &[u8]) {
        let address = Address { namespace: NamespaceNumber(3), id };
        let length = u32::try_from(payload.len()).unwrap();
        let header = RecordHeader { length, kind, lsn, time: Timestamp(lsn.0), address };
        self.body.extend_from_slice(&header.encode());
        self.body.extend_from_slice(payload);
        self.records += 1;
    }

    pub(super) fn grant(&mut self, payload: Vec<u8>) -> Lsn {
        let lsn = self.next;
        self.next = lsn.next();
        self.first.get_or_insert(lsn);
        self.commits.push((lsn, payload));
        lsn
    }

    pub(super) fn commit(&mut self, payload: &[u8]) {
        let lsn = self.grant(payload.to_vec());
        self.record(RecordKind::Commit, lsn, payload);
    }

    pub(super) fn begin_chain(&mut self, payload: Vec<u8>) {
        self.chains_begun += 1;
        let (first_group, chain) = (self.end.point.group, self.chains_begun);
        self.chains.push(OpenChain { first_group, chain, payload, sent: 0, parts: 0 });
        self.continue_chain(self.chains.len() - 1, 3);
    }

    pub(super) fn continue_chain(&mut self, which: usize, share: usize) {
        let open = &mut self.chains[which];
        let rest = &open.payload[open.sent..];
        let bytes = &rest[..rest.len() / share];
        let OpenChain { first_group, chain, parts: index, .. } = *open;
        let mut payload = Vec::new();
        PartPayload { first_group, chain, index, bytes }.encode(&mut payload);
        open.sent += bytes.len();
        open.parts += 1;
        self.record(RecordKind::Part, Lsn::ZERO, &payload);
    }

    pub(super) fn finish_chain(&mut self, which: usize) {
        let open = self.chains.remove(which);
        let mut payload = Vec::new();
        FinalPayload {
            first_group: open.first_group,
            chain: open.chain,
            parts: open.parts,
            total_bytes: open.payload.len() as u64,
            total_crc: checksum(0, &open.payload),
            bytes: &open.payload[open.sent..],
        }
        .encode(&mut payload);
        let lsn = self.grant(open.payload);
        self.record(RecordKind::Final, lsn, &payload);
    }

    pub(super) fn write_group(&mut self, kind: GroupKind) {
        let mut group = vec![0; GROUP_HEADER_BYTES];
        group.append(&mut self.body);
        let bytes = group.len();
        let offset = usize::try_from(self.end.point.offset).unwrap();
        if offset + bytes.next_multiple_of(4096) > self.file_bytes {
            self.begin_file(self.term);
        }
        let start = self.end.point;
        let last_lsn = Lsn(self.next.0 - 1);
        let header = GroupHeader {
            kind,
            number: start.group,
            first_lsn: self.first.take().unwrap_or(last_lsn),
            last_lsn,
            time: Timestamp(last_lsn.0),
            records: std::mem::take(&mut self.records),
            body_bytes: 0,
            body_crc: 0,
            mask: 0,
            previous: start.chain,
            durable: start.group.saturating_sub(1),
        };
        let salt = Self::salt(start.file);
        let chain = seal(&mut group, header, place_seed(salt, start.file.0, start.offset));
        let at = usize::try_from(start.offset).unwrap();
        let file = self.files.0.get_mut(&start.file).unwrap();
        file[at..at + group.len()].copy_from_slice(&group);
        let offset = start.offset + group.len() as u64;
        let point = LogPoint { file: start.file, offset, group: start.group + 1, chain };
        self.end = LogEnd { point, lsn: last_lsn, time: Timestamp(last_lsn.0) };
        self.groups.push(Written { start, bytes, end: self.end, commits: self.commits.len() });
    }

    pub(super) fn commit_group(&mut self, bytes: usize) {
        self.commit(&vec![7; bytes]);
        self.write_group(GroupKind::Data);
    }

    pub(super) fn durable(&self, groups: usize) -> Lsn {
        groups.checked_sub(1).map_or(Lsn::ZERO, |last| self.groups[last].end.lsn)
    }
}

//! A whole log of hostile bytes: no panic, and only right records or an error. The first byte
//! chooses: the bytes as a file, behind a right header, or as the body of a right group.

use dostore::disk::{Map, ReadFile};
use dostore::error::{Error, Result};
use dostore::format::group::{GROUP_HEADER_BYTES, GroupHeader, GroupKind, WalHeader, seal};
use dostore::format::header::{FileContext, FileKind};
use dostore::format::place_seed;
use dostore::format::record::{RecordKind, records};
use dostore::ids::{FileNumber, LogEnd, LogPoint, Lsn, StoreId, Term, Timestamp};
use dostore::wal::reader::{LogFiles, replay, replay_proven};
use std::io;
use std::sync::Arc;

const STORE: StoreId = StoreId([5; 16]);
const SALT: u64 = 0x55AA_55AA;

struct OneFile(Arc<Bytes>);

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl LogFiles for OneFile {
    fn numbers(&self) -> Result<Vec<FileNumber>> {
        Ok(vec![FileNumber(1)])
    }

    fn open(&self, _: FileNumber) -> Result<Arc<dyn ReadFile>> {
        Ok(Arc::clone(&self.0) as Arc<dyn ReadFile>)
    }
}

impl ReadFile for Bytes {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let length = buffer.len().min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn map(&self, _: u64) -> io::Result<Arc<dyn Map>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let file = match choice % 3 {
        0 => data.to_vec(),
        1 => [&right_header()[..], data].concat(),
        _ => [&right_header()[..], &right_group(data)[..], &[0; 4096]].concat(),
    };
    let files = OneFile(Arc::new(Bytes(file)));
    let from = LogPoint::default();
    let mut last = Lsn(0);
    let mut sink = |record: dostore::format::record::RecordView<'_>, _| {
        assert!(record.header.lsn > last);
        let kind = record.header.kind;
        assert!(matches!(kind, RecordKind::Commit | RecordKind::Purge | RecordKind::AdoptBegin));
        assert_eq!(record.header.length as usize, record.payload.len());
        last = record.header.lsn;
        Ok::<(), Error>(())
    };
    let replayed = replay(&files, STORE, from, Lsn(0), Lsn(0), &mut sink);
    let proven = replay_proven(&files, STORE, from, Lsn(0), Lsn(0), &mut |_, _| Ok(()));
    if let (Ok(replayed), Ok(proven)) = (replayed, proven) {
        assert!(proven.end.point.group <= replayed.end.point.group);
    }
}

fn right_header() -> Vec<u8> {
    let number = FileNumber(1);
    let context = FileContext { store: STORE, term: Term(1) };
    let header = context.header(FileKind::Wal, number, SALT);
    let (predecessor, first_lsn) = (LogEnd::default(), Lsn(1));
    // No file here is shorter, so that the walk goes on to its end.
    WalHeader { header, predecessor, first_lsn, bytes: 4096 }.encode()
}

fn right_group(body: &[u8]) -> Vec<u8> {
    let lsns = || {
        let whole = records(body).map_while(std::result::Result::ok);
        whole.filter(|r| r.header.kind != RecordKind::Part).map(|r| r.header.lsn)
    };
    let header = GroupHeader {
        kind: GroupKind::Data,
        number: 0,
        first_lsn: lsns().next().unwrap_or_default(),
        last_lsn: lsns().last().unwrap_or_default(),
        time: Timestamp(1),
        records: records(body).count() as u32,
        body_bytes: 0,
        body_crc: 0,
        mask: 0,
        previous: 0,
        durable: 0,
    };
    let mut group = vec![0; GROUP_HEADER_BYTES];
    group.extend_from_slice(body);
    seal(&mut group, header, place_seed(SALT, 1, 4096));
    group
}

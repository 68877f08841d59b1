//! Loops of the parts below the interface: bytes, pages, layers, runs.
//!
//! Invariants:
//!   * Sizes are those of a small object: eight keys with values of 100 bytes, two of them in a
//!     commit.

use crate::{KEYS, Result};
use criterion::{BatchSize, Criterion, Throughput};
use dostore::directory::Directory;
use dostore::disk::bytes::SharedBytes;
use dostore::disk::pace::Pace;
use dostore::disk::real::RealDisk;
use dostore::disk::{Disk, ReadDisk};
use dostore::format::entry::{Head, PageEntry, PageLocation, PagePart, head_key};
use dostore::format::header::FileContext;
use dostore::format::page::{Packed, Page, PageBuilder, PageKind, PageMeta};
use dostore::format::record::{Operation, RECORD_HEADER_BYTES, RecordHeader, RecordKind};
use dostore::format::run::RunUse;
use dostore::format::{Malformed, checksum};
use dostore::ids::{
    Address, Codec, FileNumber, KeyKind, Life, Lsn, NamespaceNumber, ShortId, StoreId, Term,
    Timestamp,
};
use dostore::object::overlay::Layer;
use dostore::object::state::HeadState;
use dostore::run::{Run, RunWriter};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

const VALUE: [u8; 100] = [b'v'; 100];
/// Objects in the run.
const HEADS: u64 = 100_000;

/// An address; those of following numbers lie apart, as ids do.
fn address(number: u64) -> Address {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Address { namespace: NamespaceNumber(1), id: ShortId(id) }
}

fn keys() -> [Vec<u8>; KEYS] {
    std::array::from_fn(|key| [&[KeyKind::User as u8], format!("key-{key}").as_bytes()].concat())
}

/// A commit of two keys as it stands in the log.
fn record(keys: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    out.resize(RECORD_HEADER_BYTES, 0);
    for key in &keys[3..5] {
        Operation::Put { key, codec: Codec::Raw, value: &VALUE }.encode(out);
    }
    let header = RecordHeader {
        length: u32::try_from(out.len()).unwrap_or_default(),
        kind: RecordKind::Commit,
        lsn: Lsn(1),
        time: Timestamp(1),
        address: address(1),
    };
    out[..RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
}

/// An object's page as it is stored, nothing of it compressed.
fn page(keys: &[Vec<u8>]) -> Vec<u8> {
    let mut page = PageBuilder::new(PageMeta {
        kind: PageKind::Page,
        address: address(1),
        life: Life(1),
        exact_at: Lsn(1),
        until: Lsn::ZERO,
        fence: Vec::new(),
    });
    for key in keys {
        page.push(key, Codec::Raw, &VALUE);
    }
    let mut stored = Vec::new();
    page.finish().store(Packed::Raw, 9, &mut stored);
    stored
}

/// What the directory has of an object of one page.
fn head(number: u64) -> Vec<u8> {
    let location =
        PageLocation { file: FileNumber(1), offset: number * 1_024, bytes: 1_024, crc: 7 };
    let base = PagePart { location, exact_at: Lsn(number + 1), ..PagePart::default() };
    let page = PageEntry { base: Some(base), ..PageEntry::default() };
    let head = Head { life: Life(1), last_lsn: Lsn(number + 1), ..Head::default() };
    let mut value = Vec::new();
    Head { page: Some(page), count: KEYS as u64, ..head }.encode(&mut value);
    value
}

/// A run of the directory in a file.
fn run(folder: &Path) -> Result<Arc<Run>> {
    let disk = RealDisk::create(folder)?;
    disk.make_folders()?;
    let (store, pace) = (StoreId([5; 16]), Arc::new(Pace::new(disk.clock())));
    let context = FileContext { store, term: Term(1) };
    let mut writer = RunWriter::create(&disk, pace, context, FileNumber(1), RunUse::Directory)?;
    let mut heads: Vec<_> =
        (0..HEADS).map(|number| (head_key(address(number)), head(number))).collect();
    heads.sort();
    for (key, value) in &heads {
        writer.add(key, value)?;
    }
    Ok(Run::open(&disk, store, &writer.finish()?)?)
}

/// Bytes and pages.
pub fn bytes(criterion: &mut Criterion) -> Result<()> {
    let (keys, mut encoded) = (keys(), Vec::new());
    criterion.bench_function("encode a record of two keys", |bencher| {
        bencher.iter(|| record(black_box(&keys), &mut encoded));
    });
    let block = vec![b'b'; 4096];
    let mut group = criterion.benchmark_group("checksum");
    group.throughput(Throughput::Bytes(block.len() as u64));
    group.bench_function("of 4 KiB", |bencher| {
        bencher.iter(|| checksum(black_box(9), black_box(&block)));
    });
    group.finish();
    let stored = SharedBytes::from(page(&keys));
    let decode = || Page::decode(&stored, |_, _, _| Err(Malformed("compressed")));
    criterion.bench_function("decode a page of eight", |bencher| {
        bencher.iter(|| decode().map(|page| page.count()));
    });
    let page = decode().map_err(|fault| fault.to_string())?;
    criterion.bench_function("search in a page of eight", |bencher| {
        bencher.iter(|| page.find(black_box(&keys[3])).is_some());
    });
    criterion.bench_function("insert into a layer of four", |bencher| {
        record(&keys, &mut encoded);
        let commit: Arc<[u8]> = Arc::from(&*encoded);
        let apply = |layer: &mut Layer, lsn| {
            layer.apply(Arc::clone(&commit), Lsn(lsn), Timestamp(lsn));
        };
        let four = || {
            let mut layer = Layer::new(1, HeadState::default());
            (1..5).for_each(|lsn| apply(&mut layer, lsn));
            layer
        };
        let insert = |mut layer: Layer| {
            apply(&mut layer, 5);
            layer
        };
        bencher.iter_batched(four, insert, BatchSize::SmallInput);
    });
    Ok(())
}

/// The directory and its runs.
pub fn runs(criterion: &mut Criterion, folder: &Path) -> Result<()> {
    let run = run(&folder.join("runs"))?;
    let directory = Directory::new(vec![Arc::clone(&run)]);
    let mut next = (0..HEADS).cycle();
    criterion.bench_function("look up one of 100,000 in a directory of one run", |bencher| {
        bencher.iter(|| -> dostore::error::Result<bool> {
            let number = next.next().unwrap_or_default();
            Ok(directory.head(address(number))?.is_some())
        });
    });
    let mut group = criterion.benchmark_group("scan of a run");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1,000 entries", |bencher| {
        bencher.iter(|| run.iter().take(1_000).try_for_each(|item| item.map(drop)));
    });
    group.finish();
    Ok(())
}

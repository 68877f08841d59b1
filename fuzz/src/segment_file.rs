//! Whole segments, changed in places that the input chooses: opening, scanning and reading never
//! panic, and every page that is read is one that was written.

use dostore::disk::pace::Pace;
use dostore::disk::sim::SimDisk;
use dostore::disk::{Disk, ReadDisk, write_all_at};
use dostore::format::entry::PagePart;
use dostore::format::header::FileContext;
use dostore::format::page::{PageBuilder, PageKind, PageMeta, SegmentFacts};
use dostore::ids::{Address, Codec, FileNumber, Life, Lsn, StoreId, Term};
use dostore::names::FileName;
use dostore::segment::{Compression, Dictionary, SegmentSet, SegmentWriter, facts_of};
use std::sync::{Arc, OnceLock};

const STORE: StoreId = StoreId([5; 16]);
const NUMBER: FileNumber = FileNumber(1);

/// The segment before it is changed.
struct Written {
    facts: SegmentFacts,
    parts: Vec<PagePart>,
    bytes: Vec<u8>,
}

static WRITTEN: OnceLock<Written> = OnceLock::new();

fn written() -> Written {
    let disk = SimDisk::new(1);
    disk.make_folders().expect("folders of an empty disk");
    let (facts, parts) = write(&disk);
    let bytes = disk.file_bytes(FileName::Segment(NUMBER)).expect("the segment");
    Written { facts, parts, bytes }
}

/// Takes one input.
pub fn run(data: &[u8]) {
    let Written { facts, parts, bytes } = WRITTEN.get_or_init(written);
    let mut bytes = bytes.clone();
    for change in data.chunks_exact(4) {
        let at = u16::from_le_bytes([change[0], change[1]]) as usize;
        // The zeros behind the header are left alone.
        let at = if at.is_multiple_of(8) { at / 8 % 80 } else { 4096 + at % (bytes.len() - 4096) };
        bytes[at] ^= change[2];
    }
    let length = bytes.len() - data.len() % 4;
    let other = SimDisk::new(1);
    other.make_folders().expect("folders of an empty disk");
    let file = other.create(FileName::Segment(NUMBER)).expect("a new file");
    write_all_at(&*file, &bytes[..length], 0).expect("an empty disk has room");
    file.sync().expect("nothing fails here");
    for facts in [Some(*facts), facts_of(&other, STORE, NUMBER).ok()].into_iter().flatten() {
        read(&other, &facts, parts);
    }
    if !data.is_empty() {
        // The input as a file of its own.
        let file = other.create(FileName::Segment(FileNumber(2))).expect("a new file");
        write_all_at(&*file, data, 0).expect("an empty disk has room");
        file.sync().expect("nothing fails here");
        let bytes = data.len() as u64;
        let facts = SegmentFacts { number: FileNumber(2), bytes, page_bytes: bytes, pages: 1 };
        read(&other, &facts, parts);
    }
}

fn page(number: u32) -> PageBuilder {
    let mut address = Address::default();
    address.namespace.0 = number;
    let mut builder = PageBuilder::new(PageMeta {
        kind: PageKind::Page,
        address,
        life: Life(1),
        exact_at: Lsn(2),
        until: Lsn::ZERO,
        fence: Vec::new(),
    });
    for key in 0..4 {
        builder.push(&[1, key], Codec::Raw, format!("the value {key} of {number}").as_bytes());
    }
    builder
}

fn write(disk: &SimDisk) -> (SegmentFacts, Vec<PagePart>) {
    let context = FileContext { store: STORE, term: Term(1) };
    let pace = Arc::new(Pace::new(disk.clock()));
    let mut writer = SegmentWriter::create(disk, pace, context, NUMBER).expect("a new segment");
    let dictionary = Arc::new(Dictionary::new(b"the value 0 of 1".repeat(8)));
    let parts = (0..8)
        .map(|number| {
            let compression = match number % 3 {
                0 => Compression::None,
                1 => Compression::Zstd(None),
                _ => Compression::Zstd(Some(Arc::clone(&dictionary))),
            };
            writer.append(&page(number).finish(), &compression).expect("room for a page")
        })
        .collect();
    (writer.finish().expect("a synced segment"), parts)
}

fn read(disk: &SimDisk, facts: &SegmentFacts, parts: &[PagePart]) {
    let set = SegmentSet::new(Arc::new(disk.clone()), STORE);
    set.add(facts);
    let _ = set.verify_ends(facts.number);
    if let Ok(scan) = set.scan(facts.number) {
        for page in scan.flatten() {
            let _ = set.page(&page.location);
        }
    }
    for (number, part) in (0..).zip(parts) {
        let built = page(number).finish();
        if let Ok(page) = set.read(part, built.meta.address, built.meta.life) {
            assert!(page.items().eq(dostore::format::page::Page::from(built).items()));
        }
    }
}

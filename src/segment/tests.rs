//! Claims about segments: pages come back, and nothing damaged or foreign does.

use super::*;
use crate::disk::pace::Pace;
use crate::disk::real::RealDisk;
use crate::disk::sim::{Damage, SimDisk};
use crate::disk::{Disk, ReadDisk};
use crate::format::entry::{PageLocation, PagePart};
use crate::format::header::FileContext;
use crate::format::page::{BuiltPage, PageBuilder, PageItem, PageKind, PageMeta, SegmentFacts};
use crate::ids::{Address, Codec, Life, Lsn, NamespaceNumber, ShortId, StoreId, Term};
use std::sync::Arc;

const STORE: StoreId = StoreId([5; 16]);
const LIFE: Life = Life(3);

fn address(number: u32) -> Address {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Address { namespace: NamespaceNumber(1), id: ShortId(id) }
}

fn page(number: u32, value_bytes: usize) -> BuiltPage {
    let mut builder = PageBuilder::new(PageMeta {
        kind: PageKind::Page,
        address: address(number),
        life: LIFE,
        exact_at: Lsn(9),
        until: Lsn::ZERO,
        fence: Vec::new(),
    });
    for key in 0..8 {
        let mut value = format!(r#"{{"player":{number},"key":{key},"pad":""#).into_bytes();
        value.resize(value_bytes, b'x');
        builder.push(&[1, b'k', key], Codec::Json, &value);
    }
    builder.finish()
}

fn write(
    disk: &dyn Disk,
    number: u64,
    pages: &[BuiltPage],
    compression: &Compression,
) -> (SegmentFacts, Vec<PagePart>) {
    let context = FileContext { store: STORE, term: Term(1) };
    let pace = Arc::new(Pace::new(disk.clock()));
    let mut writer = SegmentWriter::create(disk, pace, context, FileNumber(number)).unwrap();
    let parts = pages.iter().map(|page| writer.append(page, compression).unwrap()).collect();
    let bytes = writer.bytes();
    let facts = writer.finish().unwrap();
    assert_eq!(facts.page_bytes, bytes - PAGES_AT);
    (facts, parts)
}

fn set(disk: &(impl ReadDisk + Clone + 'static), facts: &[SegmentFacts]) -> SegmentSet {
    let set = SegmentSet::new(Arc::new(disk.clone()), STORE);
    for facts in facts {
        set.add(facts);
    }
    set
}

fn sim() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.make_folders().unwrap();
    disk
}

fn dictionary() -> Arc<Dictionary> {
    let samples: Vec<_> = (0..800).map(|number| page(number, 40).body).collect();
    Arc::new(Dictionary::train(&samples, 4096).unwrap())
}

#[test]
fn pages_come_back_raw_compressed_and_by_dictionary_from_both_kinds_of_disk() {
    let folder = tempfile::tempdir().unwrap();
    let real = RealDisk::create(folder.path().join("store")).unwrap();
    real.make_folders().unwrap();
    let sim = sim();
    let pages: Vec<_> = (0..20).map(|number| page(number, 40 + number as usize * 90)).collect();
    let shared = Compression::Zstd(Some(dictionary()));
    let mut all = Vec::new();
    for (number, compression) in
        [(1, &Compression::None), (2, &Compression::Zstd(None)), (3, &shared)]
    {
        let (facts, parts) = write(&sim, number, &pages, compression);
        assert_eq!(facts_of(&sim, STORE, facts.number).unwrap(), facts);
        let (_, real_parts) = write(&real, number, &pages, compression);
        all.push((facts, parts, real_parts));
    }
    assert!(all[1].0.page_bytes < all[0].0.page_bytes / 2);
    assert!(all[2].0.page_bytes < all[1].0.page_bytes);
    let facts: Vec<_> = all.iter().map(|one| one.0).collect();
    let (sim, real) = (set(&sim, &facts), SegmentSet::new(Arc::new(real), STORE));
    for facts in &facts {
        real.add(facts);
    }
    for (facts, parts, real_parts) in &all {
        // The second time is from the map.
        for _ in 0..2 {
            for (number, built) in pages.iter().enumerate() {
                let address = address(u32::try_from(number).unwrap());
                let read = sim.read(&parts[number], address, LIFE).unwrap();
                assert_eq!(read.meta(), built.meta);
                assert_eq!(read.content_bytes(), built.content_bytes);
                let read = real.read(&real_parts[number], address, LIFE).unwrap();
                let Some(PageItem::Value { value, .. }) = read.find(b"\x01k\x07") else {
                    panic!("key 7 of page {number} is gone");
                };
                assert!(built.body.ends_with(value));
            }
            real.verify_ends(facts.number).unwrap();
        }
        let scanned: Vec<_> = sim.scan(facts.number).unwrap().map(Result::unwrap).collect();
        let locations: Vec<_> = scanned.iter().map(|page| page.location).collect();
        assert_eq!(locations, parts.iter().map(|part| part.location).collect::<Vec<_>>());
        real.hint_memory_short();
    }
    let id = all[2].1[0].dictionary;
    assert_eq!(sim.dictionary(FileNumber(3), id).unwrap().id(), id);
}

#[test]
fn a_page_that_is_not_what_its_entry_says_is_refused() {
    let disk = sim();
    let (facts, parts) = write(&disk, 1, &[page(0, 40), page(1, 40)], &Compression::None);
    let set = set(&disk, &[facts]);
    let code =
        |part: &PagePart, number, life| set.read(part, address(number), life).unwrap_err().code();
    assert_eq!(code(&parts[0], 1, LIFE), "page.object");
    assert_eq!(code(&parts[0], 0, Life(4)), "page.life");
    let changed = |change: fn(&mut PageLocation)| {
        let mut part = parts[0];
        change(&mut part.location);
        part
    };
    assert_eq!(code(&changed(|place| place.crc ^= 1), 0, LIFE), "page.checksum");
    assert_eq!(code(&changed(|place| place.bytes -= 8), 0, LIFE), "page.checksum");
    assert_eq!(code(&changed(|place| place.offset += 8), 0, LIFE), "page.checksum");
    assert_eq!(code(&changed(|place| place.offset += 4), 0, LIFE), "page.place");
    assert_eq!(code(&changed(|place| place.offset = u64::MAX - 7), 0, LIFE), "page.place");
    assert_eq!(code(&changed(|place| place.bytes = 0), 0, LIFE), "page.place");
    assert_eq!(code(&changed(|place| place.bytes = u32::MAX), 0, LIFE), "page.place");
    assert_eq!(code(&changed(|place| place.file.0 = 2), 0, LIFE), "segment.unknown");
    assert_eq!(code(&PagePart { exact_at: Lsn(8), ..parts[0] }, 0, LIFE), "page.entry");
    let error = set.read(&changed(|place| place.crc ^= 1), address(0), LIFE).unwrap_err();
    assert!(error.to_string().contains(&address(0).id.to_string()), "{error}");
    assert_eq!(error.place().unwrap().offset, parts[0].location.offset);
}

#[test]
fn every_damaged_byte_of_a_segment_is_noticed_and_costs_no_other_page() {
    let pages: Vec<_> = (0..6).map(|number| page(number, 40)).collect();
    let compression = Compression::Zstd(Some(dictionary()));
    let (facts, parts) = write(&sim(), 1, &pages, &compression);
    let used = [0..80, 2048..2128, PAGES_AT..facts.bytes];
    for byte in used.into_iter().flatten().step_by(3) {
        let disk = sim();
        assert_eq!(write(&disk, 1, &pages, &compression), (facts, parts.clone()));
        disk.damage(FileName::Segment(FileNumber(1)), Damage::FlipBit(byte * 8 + byte % 8))
            .unwrap();
        let set = set(&disk, &[facts]);
        let hit = parts.iter().position(|part| {
            let start = part.location.offset;
            (start..start + u64::from(part.location.bytes)).contains(&byte)
        });
        let behind = byte >= PAGES_AT + facts.page_bytes;
        assert_eq!(set.verify_ends(FileNumber(1)).is_err(), behind, "byte {byte}");
        for (index, part) in parts.iter().enumerate() {
            let read = set.read(part, pages[index].meta.address, LIFE);
            assert_eq!(read.is_err(), hit == Some(index), "byte {byte}, page {index}");
        }
        let scanned: Vec<_> = set.scan(FileNumber(1)).unwrap().collect();
        assert_eq!(scanned.iter().filter(|page| page.is_err()).count(), usize::from(hit.is_some()));
        assert_eq!(scanned.len(), parts.len(), "byte {byte}");
    }
}

#[test]
fn a_missing_short_or_foreign_file_is_damage() {
    let disk = sim();
    let (facts, parts) = write(&disk, 1, &[page(0, 400)], &Compression::None);
    let read = |set: &SegmentSet| set.read(&parts[0], address(0), LIFE).map_err(|why| why.code());
    let foreign = SegmentSet::new(Arc::new(disk.clone()), StoreId([6; 16]));
    foreign.add(&facts);
    assert_eq!(read(&foreign).err(), Some("segment.foreign"));
    let late = set(&disk, &[facts]);
    late.remove(FileNumber(1));
    assert_eq!(read(&late).err(), Some("segment.unknown"));
    disk.damage(FileName::Segment(FileNumber(1)), Damage::SetLength(facts.bytes - 1)).unwrap();
    assert!(read(&set(&disk, &[facts])).is_ok(), "what stands before the cut can be read");
    assert!(set(&disk, &[facts]).verify_ends(FileNumber(1)).is_err());
    let cut = parts[0].location.offset + 8;
    disk.damage(FileName::Segment(FileNumber(1)), Damage::SetLength(cut)).unwrap();
    assert_eq!(read(&set(&disk, &[facts])).err(), Some("segment.short"));
    disk.remove(FileName::Segment(FileNumber(1))).unwrap();
    assert_eq!(read(&set(&disk, &[facts])).err(), Some("segment.missing"));
}

#[test]
fn only_so_many_segments_are_open_and_pages_outlive_their_closing() {
    let disk = sim();
    let count = OPEN_SEGMENTS_MAX as u64 + 6;
    let written: Vec<_> = (1..=count)
        .map(|number| write(&disk, number, &[page(0, 40)], &Compression::None))
        .collect();
    let set = set(&disk, &written.iter().map(|one| one.0).collect::<Vec<_>>());
    let pages: Vec<_> =
        written.iter().map(|(_, parts)| set.read(&parts[0], address(0), LIFE).unwrap()).collect();
    assert_eq!(set.open_count(), OPEN_SEGMENTS_MAX);
    assert!(pages.iter().all(|page| page.find(b"\x01k\x00").is_some()));
    set.read(&written[0].1[0], address(0), LIFE).unwrap();
    assert_eq!(set.open_count(), OPEN_SEGMENTS_MAX);
    // Each publish says all segments of the store again.
    for (facts, _) in &written {
        set.add(facts);
    }
    assert_eq!(set.open_count(), OPEN_SEGMENTS_MAX, "a segment that is added again stays open");
}

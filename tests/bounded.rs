//! Whatever files say of themselves, verification and salvage take no more memory for it: memory is
//! counted while they read files whose lengths and counts are forged, checksums included.
#![expect(clippy::disallowed_methods, reason = "the test damages files")]
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "files here are small")]

#[expect(dead_code, reason = "that of another test; not all of it is needed")]
#[path = "damage/world.rs"]
mod world;

use dostore::disk::sim::SimDisk;
use dostore::disk::{Disk, ReadDisk};
use dostore::format::checksum;
use dostore::format::group::{GroupHeader, WalHeader};
use dostore::format::header::{FileKind, Header};
use dostore::format::manifest::Manifest;
use dostore::format::page::PageHeader;
use dostore::format::place_seed;
use dostore::format::run::{Footer, Section};
use dostore::inspect::verify;
use dostore::names::FileName;
use dostore::store::transfer::SalvageOptions;
use peak_alloc::PeakAlloc;
use std::fs::File;
use world::Chance;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What forged files may take beside what those of the store do.
const MORE_BYTES: usize = 48 << 20;
/// Bytes of files that are made long and hold nothing.
const LONG_BYTES: u64 = 192 << 20;

/// The most bytes that were allocated at once by some work, beside what was before.
fn most(work: impl FnOnce()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

/// Reads all that is read of a damaged store, by its manifest and without it.
fn read_all(disk: &SimDisk, is_clean: bool, told: &str) {
    let report = verify(disk.fork());
    assert_eq!(report.is_clean(), is_clean, "{told}: {report}");
    for is_guessed in [false, true] {
        let source = disk.fork();
        if is_guessed {
            source.remove(FileName::Manifest).unwrap();
            assert!(!verify(source.clone()).is_clean(), "{told}");
        }
        let options = SalvageOptions::new().doubtful(true);
        let salvaged = world::open(&SimDisk::new(77)).salvage_on(source, &options);
        // Something that passes every check may still not go into a store.
        drop(salvaged);
    }
}

fn change(disk: &SimDisk, name: FileName, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.file_bytes(name).unwrap();
    with(&mut bytes);
    disk.replace_file_bytes(name, bytes);
}

/// What it is called, and what does it.
type Forgery = (&'static str, fn(&SimDisk));

/// A manifest that says the greatest there is of every file.
fn great_manifest(disk: &SimDisk) {
    change(disk, FileName::Manifest, |bytes| {
        let mut manifest = Manifest::decode(bytes).unwrap();
        for state in &mut manifest.segments {
            (state.facts.bytes, state.facts.page_bytes) = (u64::MAX, u64::MAX - 8192);
            (state.facts.pages, state.live_bytes) = (u64::MAX, u64::MAX - 8192);
        }
        let history = manifest.history.iter_mut().map(|file| &mut file.facts);
        for facts in manifest.runs.iter_mut().chain(history) {
            (facts.bytes, facts.entries) = (u64::MAX, u64::MAX);
        }
        *bytes = manifest.encode();
    });
}

/// Runs whose footers say that their parts are as long as nothing is.
fn great_footers(disk: &SimDisk) {
    for name in disk.names().into_iter().filter(|name| matches!(name, FileName::Run(_))) {
        change(disk, name, |bytes| {
            let header = Header::decode(bytes, FileKind::Run).unwrap();
            let at = bytes.len() - 128;
            let seed = place_seed(header.salt, header.number.0, at as u64);
            let (mut footer, _) = Footer::decode(&bytes[at..], seed).unwrap();
            let great = |section: Section| Section { bytes: 1 << 60, ..section };
            footer.index = great(footer.index);
            footer.filter = great(footer.filter);
            footer.holes = great(footer.holes);
            (footer.entries, footer.addresses) = (u64::MAX, u64::MAX);
            bytes[at..].copy_from_slice(&footer.encode(seed).0);
        });
    }
}

/// Groups that say that they have the longest body there may be, and more records than bytes.
fn great_groups(disk: &SimDisk) {
    for name in disk.names().into_iter().filter(|name| matches!(name, FileName::Wal(_))) {
        change(disk, name, |bytes| {
            let Ok(header) = WalHeader::decode(&bytes[..4096]) else { return };
            for at in (4096..bytes.len()).step_by(4096) {
                let seed = place_seed(header.header.salt, header.header.number.0, at as u64);
                let Ok((group, _)) = GroupHeader::decode(&bytes[at..], seed) else { continue };
                for body_bytes in [u32::MAX, 64 << 20, 32 << 20] {
                    let great = GroupHeader { body_bytes, records: u32::MAX, ..group };
                    let great = great.encode(seed);
                    if GroupHeader::decode(&great, seed).is_ok() {
                        bytes[at..at + great.len()].copy_from_slice(&great);
                        break;
                    }
                }
            }
        });
    }
}

/// Pages that say that they hold as much as a page may, and more entries than bytes.
fn great_pages(disk: &SimDisk) {
    for name in disk.names().into_iter().filter(|name| matches!(name, FileName::Segment(_))) {
        change(disk, name, |bytes| {
            let Ok(header) = Header::decode(bytes, FileKind::Segment) else { return };
            let mut at = 4096;
            while let Some(page) = bytes.get(at..).and_then(|it| PageHeader::decode(it).ok()) {
                let end = at + page.page_bytes();
                for raw_bytes in [u32::MAX, 64 << 20, 16 << 20] {
                    let before = bytes[at..end].to_vec();
                    bytes[at + 56..at + 60].copy_from_slice(&raw_bytes.to_le_bytes());
                    bytes[at + 64..at + 68].copy_from_slice(&u32::MAX.to_le_bytes());
                    if PageHeader::decode(&bytes[at..]).is_ok() {
                        break;
                    }
                    bytes[at..end].copy_from_slice(&before);
                }
                let seed = place_seed(header.salt, header.number.0, at as u64);
                let sum = checksum(seed, &bytes[at..end - 4]);
                bytes[end - 4..end].copy_from_slice(&sum.to_le_bytes());
                at = end;
            }
        });
    }
}

/// Files of one folder with nothing but chance in them.
fn garbage(disk: &SimDisk, is_meant: fn(&FileName) -> bool) {
    let mut chance = Chance(19);
    for name in disk.names().into_iter().filter(is_meant) {
        change(disk, name, |bytes| {
            for byte in bytes.iter_mut().skip(4096) {
                *byte = chance.below(256) as u8;
            }
        });
    }
}

#[test]
fn no_forged_length_takes_memory() {
    let disk = world::store(1);
    let clean = most(|| read_all(&disk, true, "nothing"));
    let forgeries: [Forgery; 7] = [
        ("manifest", great_manifest),
        ("footers", great_footers),
        ("groups", great_groups),
        ("pages", great_pages),
        ("log", |disk| garbage(disk, |name| matches!(name, FileName::Wal(_)))),
        ("segments", |disk| garbage(disk, |name| matches!(name, FileName::Segment(_)))),
        ("runs", |disk| garbage(disk, |name| matches!(name, FileName::Run(_)))),
    ];
    for (told, forge) in forgeries {
        let forged = disk.fork();
        forge(&forged);
        let most = most(|| read_all(&forged, false, told));
        println!("{told}: {most} bytes, {clean} of right files");
        assert!(most < clean + MORE_BYTES, "{told}: {most} bytes, {clean} of right files");
    }
    long_files(&disk, clean);
}

/// Files that are long and hold nothing behind what they held, each in turn.
fn long_files(disk: &SimDisk, clean: usize) {
    let folder = tempfile::tempdir().unwrap();
    for name in disk.names() {
        let path = folder.path().join(name.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, disk.file_bytes(name).unwrap()).unwrap();
    }
    let kinds: [fn(&FileName) -> bool; 4] = [
        |name| matches!(name, FileName::Manifest),
        |name| matches!(name, FileName::Wal(_)),
        |name| matches!(name, FileName::Segment(_)),
        |name| matches!(name, FileName::Run(_)),
    ];
    for is_meant in kinds {
        let name = disk.names().into_iter().rfind(is_meant).unwrap();
        let file = File::options().write(true).open(folder.path().join(name.to_string())).unwrap();
        let bytes = file.metadata().unwrap().len();
        file.set_len(LONG_BYTES).unwrap();
        let most = most(|| {
            let real = || dostore::disk::real::RealReadDisk::open(folder.path()).unwrap();
            assert!(real().open(name).is_ok());
            let is_dead = matches!(name, FileName::Wal(_));
            let report = verify(real());
            assert!(is_dead || !report.is_clean(), "{name}: {report}");
            let fresh = world::open(&SimDisk::new(78));
            fresh.salvage_on(real(), &SalvageOptions::new()).unwrap();
        });
        println!("{name} of {LONG_BYTES} bytes: {most} bytes, {clean} of right files");
        // A manifest is read whole, up to the bytes that one may have.
        let whole = if name == FileName::Manifest { LONG_BYTES as usize } else { 0 };
        assert!(most < clean + whole + MORE_BYTES, "{name}: {most} bytes");
        file.set_len(bytes).unwrap();
    }
}

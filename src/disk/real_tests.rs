//! What the operating system's disk promises.
//!
//! Invariants:
//!   * Every test has a folder of its own.

use super::*;
use crate::disk::{read_exact_at, write_all_at};
use crate::ids::FileNumber;
use std::os::unix::fs::{MetadataExt, symlink};

const SEGMENT: FileName = FileName::Segment(FileNumber(7));

fn folder() -> (tempfile::TempDir, RealDisk) {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::create(folder.path().join("store")).unwrap();
    disk.make_folders().unwrap();
    (folder, disk)
}

#[test]
fn what_is_written_is_read_mapped_listed_and_read_from_the_medium() {
    let (folder, disk) = folder();
    let file = disk.create(SEGMENT).unwrap();
    file.allocate(100_000).unwrap();
    write_all_at(&*file, b"abcdef", 5000).unwrap();
    file.start_writeback(0..100_000).unwrap();
    file.sync().unwrap();
    disk.sync_folder(Folder::Segments).unwrap();
    assert!(disk.create(SEGMENT).is_err());
    let reader = RealReadDisk::open(folder.path().join("store")).unwrap();
    for file in [reader.open(SEGMENT).unwrap(), disk.open_medium(SEGMENT).unwrap()] {
        file.forget(4096..8192);
        let mut bytes = [1; 8];
        read_exact_at(&*file, &mut bytes, 4999).unwrap();
        assert_eq!(&bytes, b"\0abcdef\0");
        assert_eq!(file.bytes().unwrap(), 100_000);
        assert_eq!(file.read_at(&mut bytes, 100_000).unwrap(), 0);
        let map = file.map(99_999).unwrap();
        assert_eq!(&*map.slice(5000..5006).unwrap(), b"abcdef");
        assert_eq!(map.memory().unwrap().len(), 99_999);
        assert!(map.slice(99_998..100_000).is_err());
        assert!(file.map(100_001).is_err());
    }
    let listed = reader.list(Folder::Segments).unwrap();
    assert_eq!(listed, [Listed { leaf: SEGMENT.leaf(), bytes: 100_000 }]);
    disk.remove(SEGMENT).unwrap();
    assert_eq!(disk.list(Folder::Segments).unwrap(), []);
    let Space { free, total } = disk.space().unwrap();
    assert!(0 < free && free <= total);
}

#[test]
fn past_the_cache_or_through_it_the_bytes_are_the_same() {
    let (_folder, disk) = folder();
    let all: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    let written = disk.disk.open_with(SEGMENT, OFlags::RDWR | OFlags::CREATE).unwrap();
    let file = RealFile::new(written);
    file.bypass_cache();
    let goes_past = file.is_direct();
    file.allocate(100_000).unwrap();
    write_all_at(&file, &all[..(2 << 20) + 4096], 0).unwrap();
    file.start_writeback(0..1 << 20).unwrap();
    // What is aligned keeps its way, where the file system has that one.
    assert_eq!(file.is_direct(), goes_past);
    let end = (2 << 20) + 4096;
    write_all_at(&file, &all[end..end + 9000], end as u64).unwrap();
    assert!(!file.is_direct());
    let end = end + 9000;
    write_all_at(&file, &all[end..], end as u64).unwrap();
    file.sync().unwrap();
    let through = disk.open(SEGMENT).unwrap();
    let past = disk.open(SEGMENT).unwrap();
    past.bypass_cache();
    for file in [through, past] {
        for range in [0..all.len(), 1..2, 4095..4097, 5000..1_500_000, all.len() - 9..all.len()] {
            let mut bytes = vec![1; range.len()];
            read_exact_at(&*file, &mut bytes, range.start as u64).unwrap();
            assert_eq!(bytes, all[range]);
        }
        assert_eq!(file.read_at(&mut [0; 9], all.len() as u64).unwrap(), 0);
        assert_eq!(
            *file.map(all.len() as u64).unwrap().slice(5000..9000).unwrap(),
            all[5000..9000]
        );
    }
}

#[test]
fn links_pipes_and_folders_are_not_opened_as_files() {
    let (folder, disk) = folder();
    let root = folder.path().join("store");
    disk.create(FileName::ManifestTemporary).unwrap();
    symlink("MANIFEST.tmp", root.join("MANIFEST")).unwrap();
    assert!(disk.open(FileName::Manifest).is_err());
    symlink("../MANIFEST.tmp", root.join("seg").join(SEGMENT.leaf())).unwrap();
    assert!(disk.open(SEGMENT).is_err());
    assert!(disk.open_medium(SEGMENT).is_err());
    let run = FileName::Run(FileNumber(1));
    fs::mkdirat(&disk.disk.root, format!("run/{}", run.leaf()), Mode::RWXU).unwrap();
    assert!(disk.open(run).is_err());
    let (kind, wal) = (FileType::Fifo, FileName::Wal(FileNumber(1)));
    fs::mknodat(disk.disk.folder(Folder::Wal).unwrap(), wal.leaf(), kind, FILE_MODE, 0).unwrap();
    assert!(disk.open(wal).is_err());
    disk.rename(FileName::ManifestTemporary, FileName::Manifest).unwrap();
    assert!(disk.open(FileName::Manifest).is_ok());
    assert_eq!(root.join("MANIFEST").metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(root.join("seg").metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_store_that_is_there_opens_below_a_folder_that_may_not_be_read() {
    let (folder, disk) = folder();
    drop(disk);
    let parent = |mode| fs::chmod(folder.path(), Mode::from_raw_mode(mode));
    // Who is the superuser may read it all the same.
    parent(0o311).unwrap();
    let opened = [folder.path().join("store"), folder.path().join("new")].map(RealDisk::create);
    parent(0o700).unwrap();
    assert!(opened[0].is_ok(), "{opened:?}");
}

#[test]
fn a_folder_whose_name_may_be_lost_is_not_left_behind() {
    let (folder, disk) = folder();
    drop(disk);
    let new = folder.path().join("new");
    let parent = |mode| fs::chmod(folder.path(), Mode::from_raw_mode(mode));
    parent(0o333).unwrap();
    // Who is the superuser may read the parent all the same, and makes the name durable: only for
    // others can this fail.
    let opened = [RealDisk::create(&new), RealDisk::create(&new)];
    parent(0o700).unwrap();
    assert_eq!(opened[0].is_ok(), opened[1].is_ok(), "{opened:?}");
    assert_eq!(opened[0].is_ok(), new.exists(), "{opened:?}");
}

#[test]
fn a_folder_behind_a_link_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/", folder.path().join("wal")).unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    assert!(disk.list(Folder::Wal).is_err());
    assert!(disk.make_folders().is_err());
}

#[test]
fn one_holds_the_lock_and_the_other_learns_who() {
    let (folder, disk) = folder();
    let other = RealDisk::open(folder.path().join("store")).unwrap();
    assert_eq!(other.lock_holder().unwrap(), None);
    let lock = disk.lock().unwrap().unwrap();
    let words = other.lock_holder().unwrap().unwrap();
    assert!(words.starts_with(&format!("process {}", std::process::id())), "{words}");
    assert_eq!(other.lock().unwrap().unwrap_err(), words);
    drop(lock);
    assert_eq!(other.lock_holder().unwrap(), None);
    assert!(other.lock().unwrap().is_ok());
}

#[test]
fn a_lock_that_is_another_file_as_well_is_held_and_not_written_into() {
    let (folder, disk) = folder();
    let (root, other) = (folder.path().join("store"), FileName::ManifestTemporary);
    write_all_at(&*disk.create(other).unwrap(), b"mine", 0).unwrap();
    std::fs::hard_link(root.join("MANIFEST.tmp"), root.join("LOCK")).unwrap();
    drop(disk.lock().unwrap().unwrap());
    assert_eq!(disk.open(other).unwrap().bytes().unwrap(), 4);
}

#[test]
fn randomness_fills_all_and_the_clock_goes_on() {
    let (_folder, disk) = folder();
    let mut bytes = [0; 1000];
    disk.random(&mut bytes).unwrap();
    assert!(bytes.chunks(20).all(|part| part != [0; 20]));
    let clock = disk.clock();
    let before = clock.uptime();
    clock.sleep(Duration::from_millis(1));
    assert!(clock.uptime() >= before + Duration::from_millis(1));
    assert!(clock.wall_micros() > 1_700_000_000_000_000);
}

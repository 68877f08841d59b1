//! Disks that run full, and writes and syncs that fail because the medium has no room for what was
//! promised.
//!
//! They are made to fail by thin provisioning: the disk under the file system gives up every page
//! that is all zeros, and is then filled from outside. What the file system writes into a file that
//! was prepared long before has no place to go, as on a storage pool that was promised twice.

use crate::load::{self, Heard, commit, commits_of, name};
use crate::rig::{self, Volume};
use dostore::error::{Error, ErrorKind};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;

/// More commits than the files of the log that stand ready take.
const MANY: u64 = 2_000;

/// Another program fills the disk; then it makes room again.
fn full_disk(disk: &Path) {
    let folder = disk.join("store");
    let store = load::options().open(&folder).unwrap();
    let space = store.namespace("load").unwrap();
    let mut heard = Heard::default();
    for count in 1..=50 {
        heard.know(0, count, commit(&space, 0, count).unwrap());
    }
    let ballast = rig::fill(disk);
    let mut count = 50;
    let refused = loop {
        match commit(&space, 0, count + 1) {
            Ok(bookmark) => heard.know(0, count + 1, bookmark),
            Err(refused) => break refused,
        }
        count += 1;
        assert!(count < MANY, "a full disk takes every commit");
    };
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused:?}");
    let id = space.id_from_name(&name(0));
    assert_eq!(commits_of(&space.snapshot(id).unwrap(), 0), count);
    fs::remove_file(ballast).unwrap();
    heard.know(0, count + 1, commit(&space, 0, count + 1).unwrap());
    drop((space, store));
    heard.check(&folder);
}

#[test]
fn a_full_disk_refuses_commits_and_loses_none() {
    rig::run("full::a_full_disk_refuses_commits_and_loses_none", &[], 8, full_disk);
}

#[test]
fn a_full_ext4_refuses_commits_and_loses_none() {
    let test = "full::a_full_ext4_refuses_commits_and_loses_none";
    rig::run(test, &["mkfs.ext4"], 64, |folder| {
        let at = folder.join("volume");
        full_disk(&Volume::make("ext4", 16, folder, &at).at);
    });
}

/// Gives up every page of a file that is all zeros.
fn thin(image: &Path) {
    let mut file = OpenOptions::new().read(true).write(true).open(image).unwrap();
    let mut page = [0; 4096];
    let pages = file.metadata().unwrap().len() / 4096;
    for number in 0..pages {
        file.read_exact(&mut page).unwrap();
        if page == [0; 4096] {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, flags, number * 4096, 4096).unwrap();
        }
    }
}

/// What the operating system said, at the bottom of an error.
fn errno(error: &Error) -> Option<i32> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<std::io::Error>() {
            return found.raw_os_error();
        }
        cause = inner.source();
    }
    None
}

/// The group of a commit has no place on the medium of a file system that is mounted so.
fn no_place(options: &'static str, kind: &'static str, mebibytes: u64, test: &str) {
    rig::run(test, &[&Volume::maker(kind)], 192, |folder| {
        let at = folder.join("volume");
        let volume = Volume::make_with(options, kind, mebibytes, folder, &at);
        let store_folder = volume.at.join("store");
        let store = load::options().threads(false).open(&store_folder).unwrap();
        let space = store.namespace("load").unwrap();
        let mut heard = Heard::default();
        for count in 1..=10 {
            heard.know(0, count, commit(&space, 0, count).unwrap());
        }
        rustix::fs::syncfs(File::open(&volume.at).unwrap()).unwrap();
        thin(&volume.image);
        let ballast = rig::fill(folder);

        let refused = commit(&space, 0, 11).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Poisoned, "{refused:?}");
        let errno = errno(&refused);
        // The last where the file system has given up its journal.
        let told = [Errno::IO, Errno::NOSPC, Errno::ROFS].map(|one| Some(one.raw_os_error()));
        assert!(told.contains(&errno), "{refused:?}");
        fs::remove_file(ballast).unwrap();
        // Room again, and the kernel would call the next sync a success.
        let refused = commit(&space, 0, 11).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Poisoned, "{refused:?}");
        drop((space, store));

        // The page cache shows what the medium lacks. What is shown now is there after a restart.
        let goes_on = File::create(volume.at.join("probe")).and_then(|probe| probe.sync_all());
        if goes_on.is_ok() {
            heard.check(&store_folder);
        }
        println!("{kind}: errno {errno:?}, and then {goes_on:?}");
        volume.restart();
        heard.check(&store_folder);
    });
}

#[test]
fn on_ext4_nothing_is_acknowledged_that_has_no_place_on_the_medium() {
    let test = "full::on_ext4_nothing_is_acknowledged_that_has_no_place_on_the_medium";
    no_place("loop", "ext4", 64, test);
}

/// Here every write goes through the cache, and it is the sync that fails.
#[test]
fn after_a_failed_sync_on_ext4_nothing_is_acknowledged() {
    let test = "full::after_a_failed_sync_on_ext4_nothing_is_acknowledged";
    no_place("loop,data=journal", "ext4", 64, test);
}

#[test]
fn on_xfs_nothing_is_acknowledged_that_has_no_place_on_the_medium() {
    let test = "full::on_xfs_nothing_is_acknowledged_that_has_no_place_on_the_medium";
    no_place("loop", "xfs", 320, test);
}

//! What a backup holds, what it keeps of an earlier one, and what it refuses.

use crate::world::{NAMESPACE, World, content, open, options};
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::inspect::{Verdict, verify};
use dostore::names::{FileName, Folder};
use dostore::store::Store;
use dostore::store::backup::{Backup, BackupOptions};
use dostore::store::reader::Reader;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

pub fn back_up(store: &Store, target: &SimDisk) -> dostore::error::Result<Backup> {
    store.backup_on(target.clone(), BackupOptions::new())
}

fn numbered(disk: &SimDisk) -> BTreeMap<FileName, Vec<u8>> {
    let names = disk.names().into_iter().filter(|name| name.number().is_some());
    names.map(|name| (name, disk.medium_bytes(name).unwrap())).collect()
}

#[test]
fn a_backup_opens_as_a_store_with_all_that_was_durable() {
    for seed in 1..20 {
        let mut world = World::new(seed);
        world.commit(30);
        world.work();
        world.commit(20);
        let target = SimDisk::new(seed);
        let backup = back_up(&world.store, &target).unwrap();
        assert_eq!(backup.position.lsn, world.last);
        // All of it is durable, and the store behind it may be gone.
        drop(world.store);
        let target = target.power_cut();
        assert_eq!(verify(target.clone()).verdict(), Verdict::Clean, "{}", verify(target.clone()));
        assert_eq!(Reader::open_on(target.clone()).unwrap().position(), backup.position.lsn);
        let copy = open(&target);
        assert_eq!(content(&copy), world.model);
        // It goes on as a store.
        let mut object = copy.namespace(NAMESPACE).unwrap().open_by_name("new").unwrap();
        let commit = object.put("k", "v").unwrap().wait().unwrap();
        assert!(commit.lsn > backup.position.lsn && commit.time >= backup.position.time);
        drop(object);
        copy.close().unwrap();
        assert!(content(&open(&target)).contains_key("new"));
        assert_eq!(verify(target.clone()).verdict(), Verdict::Clean, "{}", verify(target));
    }
}

#[test]
fn a_store_without_a_commit_has_a_backup_too() {
    let disk = SimDisk::new(1);
    let target = SimDisk::new(2);
    back_up(&open(&disk), &target).unwrap();
    assert!(content(&open(&target.power_cut())).is_empty());
}

#[test]
fn the_next_backup_copies_only_what_is_new_and_removes_what_went() {
    let mut world = World::new(3);
    let target = SimDisk::new(3);
    let (mut kept, mut removed) = (0, 0);
    for round in 0..30 {
        world.commit(12);
        if round % 4 == 3 {
            world.work();
        }
        let before = numbered(&target);
        let backup = back_up(&world.store, &target).unwrap();
        let after = numbered(&target);
        let same = after.iter().filter(|file| before.get(file.0) == Some(file.1)).count() as u64;
        let after_count = after.len() as u64;
        assert_eq!(backup.files_kept, same);
        assert_eq!(backup.files_copied, after_count - same);
        assert_eq!(backup.files_removed, before.len() as u64 - same);
        let copied = after.iter().filter(|(name, _)| !before.contains_key(name));
        let bytes: u64 = copied.map(|(_, bytes)| bytes.len() as u64).sum();
        assert_eq!(backup.bytes_copied, bytes);
        kept += backup.files_kept;
        removed += backup.files_removed;
        assert_eq!(content(&open(&target.fork())), world.model);
    }
    assert!(kept > 30 && removed > 10, "{kept} kept, {removed} removed");
}

#[test]
fn a_backup_when_nothing_changed_copies_nothing() {
    let mut world = World::new(4);
    world.commit(20);
    let target = SimDisk::new(4);
    let first = back_up(&world.store, &target).unwrap();
    let second = back_up(&world.store, &target).unwrap();
    assert_eq!((second.files_copied, second.files_removed), (0, 0));
    assert_eq!((second.files_kept, second.position), (first.files_copied, first.position));
}

#[test]
fn what_the_copy_commits_and_what_the_store_commits_are_of_different_terms() {
    let mut world = World::new(5);
    world.commit(5);
    let target = SimDisk::new(5);
    back_up(&world.store, &target).unwrap();
    drop(world.store);
    let term = |disk: &SimDisk| {
        drop(open(disk));
        dostore::manifest::read(disk).unwrap().unwrap().term.0
    };
    // Opened again and again, neither comes to where the other is.
    let (own, copied) = (term(&world.disk.kill()), term(&target.kill()));
    assert!(copied >= own + 60_000, "{own} and {copied}");
}

#[test]
fn a_folder_that_is_no_backup_of_this_store_is_left_as_it_is() {
    let mut world = World::new(6);
    world.commit(5);
    let foreign = SimDisk::new(7);
    drop(open(&foreign));
    let foreign = foreign.kill();
    let opened = SimDisk::new(8);
    back_up(&world.store, &opened).unwrap();
    drop(open(&opened));
    let opened = opened.kill();
    let other_backup = SimDisk::new(9);
    back_up(&World::new(60).store, &other_backup).unwrap();
    let lost = SimDisk::new(10);
    back_up(&world.store, &lost).unwrap();
    dostore::disk::Disk::remove(&lost, FileName::Manifest).unwrap();
    for target in [foreign, opened, other_backup, lost] {
        let before: Vec<_> =
            target.names().iter().map(|name| (*name, target.file_bytes(*name))).collect();
        let error = back_up(&world.store, &target).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "backup.target"));
        let after: Vec<_> =
            target.names().iter().map(|name| (*name, target.file_bytes(*name))).collect();
        assert_eq!(before, after, "{error}");
    }
    let own = back_up(&world.store, &world.disk).unwrap_err();
    assert_eq!(own.code(), "backup.target");
}

#[test]
fn a_backup_of_a_later_state_or_of_another_way_since_is_not_replaced() {
    let mut world = World::new(11);
    world.commit(10);
    let (early, late) = (SimDisk::new(1), SimDisk::new(2));
    back_up(&world.store, &early).unwrap();
    world.commit(10);
    back_up(&world.store, &late).unwrap();
    // The store goes back to the early state, and on from there.
    let mut restored = World { store: open(&early), disk: early, ..World::new(11) };
    let other = SimDisk::new(3);
    restored.commit(10);
    back_up(&restored.store, &other).unwrap();
    let before = numbered(&other);
    world.commit(10);
    world.work();
    let error = back_up(&world.store, &other).unwrap_err();
    assert_eq!(error.code(), "backup.target");
    assert_eq!(numbered(&other), before);
    // The store's LSNs are behind those of the copy, which began a term of its own.
    let error = back_up(&world.store, &other).unwrap_err();
    assert!(error.to_string().contains("later state"), "{error}");
    let error = back_up(&restored.store, &late).unwrap_err();
    assert!(error.to_string().contains("another way"), "{error}");
    drop(open(&late.kill()));
}

#[test]
fn a_backup_in_use_and_a_store_that_is_closed_are_refused() {
    let mut world = World::new(12);
    world.commit(5);
    let target = SimDisk::new(1);
    back_up(&world.store, &target).unwrap();
    let lock = dostore::disk::Disk::lock(&target).unwrap().unwrap();
    let error = back_up(&world.store, &target).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Locked, "store.locked"));
    drop(lock);
    back_up(&world.store, &target).unwrap();
    let closed = world.store.clone();
    world.store.close().unwrap();
    assert_eq!(back_up(&closed, &target).unwrap_err().code(), "store.closed");
}

#[test]
fn on_one_file_system_files_are_linked_unless_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |leaf: &str| folder.path().join(leaf);
    let store = options().open(path("data")).unwrap();
    let mut object = store.namespace(NAMESPACE).unwrap().open_by_name("lobby").unwrap();
    object.put("k", "first").unwrap().wait().unwrap();
    let linked = store.backup(path("linked")).unwrap();
    assert!(linked.files_linked > 0 && linked.files_copied == 0, "{linked:?}");
    let copied = store.backup_with(path("copied"), BackupOptions::new().link(false)).unwrap();
    assert!(copied.files_copied > 0 && copied.files_linked == 0, "{copied:?}");
    let inode = |leaf: &str| {
        let files = std::fs::read_dir(path(leaf).join(Folder::Segments.path())).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().ino()).collect::<Vec<_>>()
    };
    assert_eq!(inode("data"), inode("linked"));
    assert_ne!(inode("data"), inode("copied"));
    object.put("k", "second").unwrap().wait().unwrap();
    let again = store.backup_with(path("linked"), BackupOptions::new().verify(true)).unwrap();
    assert!(again.files_kept > 0 && again.files_linked > 0, "{again:?}");
    assert!(again.verified.unwrap().is_clean());
    drop(object);
    drop(store);
    std::fs::remove_dir_all(path("data")).unwrap();
    for (leaf, value) in [("linked", "second"), ("copied", "first")] {
        let store = options().open(path(leaf)).unwrap();
        let object = store.namespace(NAMESPACE).unwrap().open_by_name("lobby").unwrap();
        assert_eq!(object.get("k").unwrap().unwrap(), *value.as_bytes());
    }
}

#[test]
fn a_backup_into_the_stores_own_folder_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let store = options().open(&path).unwrap();
    std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
    let inside = [
        path.clone(),
        path.join("seg"),
        path.join("new"),
        path.join("seg").join("new"),
        folder.path().join("link"),
        folder.path().join("link").join("new"),
    ];
    for target in inside {
        let error = store.backup(&target).unwrap_err();
        assert_eq!(error.code(), "backup.target", "{target:?}");
    }
    assert!(!path.join("new").exists() && !path.join("seg").join("new").exists());
    assert_eq!(store.backup(folder.path()).unwrap_err().code(), "backup.target");
    store.backup(folder.path().join("beside")).unwrap();
}

#[test]
fn damage_of_the_store_is_in_the_backup_and_the_verification_says_so() {
    let mut world = World::new(13);
    world.commit(40);
    world.work();
    let segment = *world.disk.names().iter().find(|n| n.folder() == Folder::Segments).unwrap();
    world.disk.flip_bit(segment, 5000 * 8).unwrap();
    let target = SimDisk::new(1);
    let options = BackupOptions::new().verify(true);
    let backup = world.store.backup_on(target.clone(), options).unwrap();
    let report = backup.verified.unwrap();
    assert!(!report.is_clean());
    assert!(report.faults.iter().any(|fault| fault.place.file == segment.to_string()), "{report}");
    drop(open(&target.kill()));
}

#[test]
fn a_store_that_has_published_nothing_yet_is_backed_up_again_and_again() {
    let disk = SimDisk::new(20);
    let store = open(&disk);
    let target = SimDisk::new(21);
    back_up(&store, &target).unwrap();
    for round in 0..3 {
        let mut object = store.namespace(NAMESPACE).unwrap().open_by_name("one").unwrap();
        object.put("k", format!("{round}")).unwrap().wait().unwrap();
        drop(object);
        back_up(&store, &target).unwrap();
        assert_eq!(content(&open(&target.fork())), content(&store));
    }
}

#[test]
fn a_backup_knows_the_moments_of_a_session_that_has_published_nothing() {
    let disk = SimDisk::new(22);
    let store = open(&disk);
    let mut object = store.namespace(NAMESPACE).unwrap().open_by_name("one").unwrap();
    object.put("k", "v").unwrap().wait().unwrap();
    drop(object);
    store.close().unwrap();
    let store = open(&disk);
    let rooms = store.namespace(NAMESPACE).unwrap();
    let bookmark = rooms.open_by_name("one").unwrap().current_bookmark().unwrap();
    let target = SimDisk::new(23);
    back_up(&store, &target).unwrap();
    let copy = open(&target);
    let rooms = copy.namespace(NAMESPACE).unwrap();
    let view = rooms.at(rooms.id_from_name("one"), &bookmark).unwrap();
    assert_eq!(view.get("k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn g20_moments_of_sessions_that_a_backup_does_not_know_are_lost_to_it() {
    let (disk, target) = (SimDisk::new(8), SimDisk::new(9));
    let commit = |store: &Store, value: u8| {
        let mut lobby = store.namespace(NAMESPACE).unwrap().open_by_name("lobby").unwrap();
        let commit = lobby.put("n", [value]).unwrap();
        let bookmark = commit.bookmark();
        commit.wait().unwrap();
        bookmark
    };
    let present = |store: &Store| {
        let lobby = store.namespace(NAMESPACE).unwrap().open_by_name("lobby").unwrap();
        lobby.current_bookmark().unwrap()
    };
    let mut known = vec![commit(&open(&disk), 1)];
    // Sessions without a commit before the backup move its first LSN on.
    for _ in 0..3 {
        known.push(present(&open(&disk)));
    }
    let store = open(&disk);
    known.extend([present(&store), commit(&store, 2), present(&store)]);
    back_up(&store, &target).unwrap();
    let mut lost = vec![commit(&store, 3)];
    drop(store);
    // Sessions without a commit, one with, and one more without.
    for number in 0..5 {
        let store = open(&disk);
        lost.push(present(&store));
        if number == 3 {
            lost.push(commit(&store, 4));
        }
        drop(store);
    }
    let reader = Reader::open_on(target.fork()).unwrap();
    let rooms = reader.namespace(NAMESPACE).unwrap();
    known.push(rooms.current_bookmark(rooms.id_from_name("lobby")).unwrap());
    for round in 0..4 {
        let copy = open(&target);
        let lobby = copy.namespace(NAMESPACE).unwrap().open_by_name("lobby").unwrap();
        for bookmark in &known {
            assert!(lobby.at(bookmark).is_ok(), "round {round}: {bookmark}");
        }
        for bookmark in &lost {
            let error = lobby.at(bookmark).err();
            assert_eq!(error.map(|error| error.code()), Some("bookmark.lost"), "round {round}");
        }
        drop(lobby);
        known.push(present(&copy));
        if round == 2 {
            known.push(commit(&copy, 5));
        }
        drop(copy);
        assert!(verify(target.clone()).is_clean(), "{}", verify(target.clone()));
    }
}

#[test]
fn a_backup_of_a_session_without_a_commit_goes_on_behind_it() {
    let (mut disk, target) = (SimDisk::new(30), SimDisk::new(31));
    let commit = |store: &Store| {
        let mut lobby = store.namespace(NAMESPACE).unwrap().open_by_name("lobby").unwrap();
        lobby.put("n", "1").unwrap().wait().unwrap();
    };
    let store = open(&disk);
    commit(&store);
    store.steps().checkpoint().unwrap();
    drop(store);
    // Sessions that end at once leave LSNs out, which no log of the backup tells of.
    for _ in 0..3 {
        let store = open(&disk);
        disk = disk.kill();
        drop(store);
    }
    back_up(&open(&disk), &target).unwrap();
    for _ in 0..2 {
        let copy = open(&target);
        assert!(verify(target.clone()).is_clean(), "{}", verify(target.clone()));
        commit(&copy);
    }
}

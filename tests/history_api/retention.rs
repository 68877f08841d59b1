//! How long history is kept, and what is said of what is gone.

use super::stage::{Stage, code, open, options};
use dostore::disk::sim::{Faults, SimDisk};
use dostore::names::FileName;
use dostore::retention::Retention;
use dostore::store::namespace::NamespaceOptions;
use std::time::Duration;

#[test]
fn settings_of_namespaces_are_durable() {
    let stage = Stage::new(1);
    let week = Retention::Keep { age: Duration::from_hours(7 * 24), bytes: Some(1 << 20) };
    let asked = Retention::Keep { age: Duration::from_millis(604_800_999), bytes: Some(1 << 20) };
    let logs =
        stage.store.namespace_with("logs", NamespaceOptions::new().retention(asked)).unwrap();
    assert_eq!((stage.rooms.retention(), logs.retention()), (None, Some(week)));
    stage.rooms.set_retention(Some(Retention::Off)).unwrap();
    let again = NamespaceOptions::new().retention(Retention::Off).unique_key("logs");
    assert_eq!(stage.store.namespace_with("logs", again).unwrap().retention(), Some(week));
    let other = stage.store.namespace_with_key("logs", "other").unwrap_err();
    assert_eq!(other.code(), "namespace.key");
    let id = logs.id_from_name("x");
    assert_eq!(logs.id_from_bytes(*id.as_bytes()).unwrap(), id);
    assert_eq!(stage.rooms.id_from_bytes(*id.as_bytes()).unwrap_err().code(), "id.foreign");
    let stage = stage.power_cut();
    assert_eq!(stage.rooms.retention(), Some(Retention::Off));
    let logs = stage.store.namespace("logs").unwrap();
    assert_eq!((logs.retention(), logs.id_from_name("x")), (Some(week), id));
    stage.rooms.set_retention(None).unwrap();
    stage.store.steps().checkpoint().unwrap();
    let stage = stage.power_cut();
    assert_eq!(stage.rooms.retention(), None);
}

#[test]
fn a_store_without_history_opens_after_a_crash_behind_a_new_namespace() {
    let disk = SimDisk::new(7);
    let off = |disk: &SimDisk| options().retention(Retention::Off).open_on(disk.clone()).unwrap();
    let store = off(&disk);
    let first = store.namespace("first").unwrap();
    assert_eq!(first.name(), "first");
    store.steps().checkpoint().unwrap();
    store.namespace("second").unwrap();
    drop(store);
    let disk = disk.kill();
    assert_eq!(off(&disk).namespaces().len(), 2);
    assert_eq!(open(&disk.kill()).namespaces().len(), 2);
}

#[test]
fn g22_history_that_is_switched_off_ends_and_begins_anew_when_it_is_switched_on() {
    let stage = Stage::new(2);
    let mut lobby = stage.room("lobby");
    let put = |lobby: &mut dostore::store::object::Object, value: &str| {
        let commit = lobby.put("a", value).unwrap();
        let bookmark = commit.bookmark();
        commit.wait().unwrap();
        bookmark
    };
    let first = put(&mut lobby, "1");
    let second = put(&mut lobby, "2");
    assert!(lobby.at(&first).is_ok());
    stage.rooms.set_retention(Some(Retention::Off)).unwrap();
    // In force from the next checkpoint on.
    assert!(lobby.at(&first).is_ok());
    stage.store.steps().checkpoint().unwrap();
    assert_eq!(code(lobby.at(&first)), "history.off");
    assert_eq!(code(lobby.restore(&first)), "history.off");
    assert_eq!(code(lobby.restore_on_next_open(&first)), "history.off");
    assert_eq!(code(lobby.bookmark_at(std::time::UNIX_EPOCH)), "history.off");
    // The present is not the past.
    assert_eq!(lobby.at(&second).unwrap().get("a").unwrap().as_deref(), Some(&b"2"[..]));
    let third = put(&mut lobby, "3");
    assert_eq!(code(lobby.at(&second)), "history.off");
    stage.rooms.set_retention(Some(Retention::days(1))).unwrap();
    stage.store.steps().checkpoint().unwrap();
    // Between its commit and the cut nothing was kept, so the commit itself is out of reach.
    let cut = lobby.current_bookmark().unwrap();
    put(&mut lobby, "4");
    assert_eq!(code(lobby.at(&third)), "history.expired");
    let error = lobby.at(&second).unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("history.expired", dostore::error::ErrorKind::NotRetained)
    );
    assert!(error.to_string().contains("from commit"), "{error}");
    assert_eq!(code(lobby.at(&first)), "history.expired");
    assert_eq!(lobby.at(&cut).unwrap().get("a").unwrap().as_deref(), Some(&b"3"[..]));
    // The same after a crash: it stands in the manifest.
    drop(lobby);
    let stage = stage.power_cut();
    let lobby = stage.room("lobby");
    assert_eq!(code(lobby.at(&second)), "history.expired");
    assert!(lobby.at(&cut).is_ok());
}

#[test]
fn a_namespace_is_created_without_history_from_its_first_commit_on() {
    let stage = Stage::new(3);
    stage.room("lobby").put("a", "1").unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    let off = NamespaceOptions::new().retention(Retention::Off);
    let quiet = stage.store.namespace_with("quiet", off).unwrap();
    let mut object = quiet.open_by_name("x").unwrap();
    let commit = object.put("a", "1").unwrap();
    let first = commit.bookmark();
    commit.wait().unwrap();
    object.put("a", "2").unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    assert_eq!(code(object.at(&first)), "history.off");
}

#[test]
fn a_store_may_be_opened_without_history() {
    let disk = SimDisk::new(4);
    let store = options().retention(Retention::Off).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    let commit = lobby.put("a", "1").unwrap();
    let first = commit.bookmark();
    commit.wait().unwrap();
    lobby.put("a", "2").unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    assert_eq!(code(lobby.at(&first)), "history.off");
    assert_eq!(store.stats().unwrap().history_bytes, 0);
    drop((lobby, rooms, store));
    // Opened with the default, it has history from the next checkpoint on.
    let stage = Stage::on(disk.kill());
    let mut lobby = stage.room("lobby");
    lobby.put("a", "3").unwrap().wait().unwrap();
    stage.store.steps().checkpoint().unwrap();
    let present = lobby.current_bookmark().unwrap();
    lobby.put("a", "4").unwrap().wait().unwrap();
    assert_eq!(lobby.at(&present).unwrap().get("a").unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(code(lobby.at(&first)), "history.expired");
}

#[test]
fn a_checkpoint_has_few_files_open_however_many_namespaces_keep_history_of_their_own() {
    let disk = SimDisk::new(9);
    let store = open(&disk);
    let week = || NamespaceOptions::new().retention(Retention::days(7));
    let (mut bookmarks, mut shared) = (Vec::new(), Vec::new());
    for number in 0..30 {
        let own = store.namespace_with(&format!("own {number}"), week()).unwrap();
        shared.push(store.namespace(&format!("shared {number}")).unwrap());
        for rooms in [&own, &shared[number]] {
            let mut lobby = rooms.open_by_name("lobby").unwrap();
            let commit = lobby.put("key", [1]).unwrap();
            bookmarks.push((rooms.clone(), commit.bookmark()));
            lobby.put("key", [2]).unwrap().wait().unwrap();
        }
    }
    // The folders and the lock need none here; the log has one, and a checkpoint its few.
    disk.set_faults(Faults { descriptors: 12, ..Faults::none() });
    assert!(store.steps().checkpoint().unwrap());
    let runs = disk.names().iter().filter(|name| matches!(name, FileName::Run(_))).count();
    assert!(runs > 30, "a file for each namespace: {runs}");
    for (rooms, bookmark) in bookmarks {
        let then = rooms.at(rooms.id_from_name("lobby"), &bookmark).unwrap();
        assert_eq!(then.get("key").unwrap().as_deref(), Some(&[1][..]));
    }
}

//! `inspect` and `verify` of whole stores, as processes of their own.

use dostore::store::{Options, Store};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn options() -> Options {
    Store::options().wal_file_bytes(64 << 10).segment_bytes(64 << 10)
}

/// A store with some objects, closed.
fn store_in(folder: &Path) -> PathBuf {
    let path = folder.join("data");
    let store = options().open(&path).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for number in 0..50 {
        let mut room = rooms.open_by_name(&format!("room {number}")).unwrap();
        let mut turn = room.turn();
        for key in 0..4 {
            turn.put(format!("key {key}"), vec![b'x'; 100]).unwrap();
        }
        turn.commit().unwrap().wait().unwrap();
    }
    store.namespace("users").unwrap();
    store.close().unwrap();
    path
}

fn dostore(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dostore"));
    command.arg("-C").arg(path).args(arguments).env_remove("DOSTORE_DIR").output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> =
        files(folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    found.sort();
    found
}

#[test]
fn a_summary_adds_up_to_the_lengths_of_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(folder.path());
    fs::write(path.join("stray.txt"), "not a file of the store").unwrap();
    let output = dostore(&path, &["inspect", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = json(&output);
    assert_eq!(summary["schema"], "dostore/1");
    let bytes: u64 = files(&path).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(summary["bytes"]["total"], bytes);
    let accounts = summary["bytes"].as_object().unwrap().iter();
    let parts = accounts.filter(|(name, _)| *name != "total");
    assert_eq!(parts.map(|(_, bytes)| bytes.as_u64().unwrap()).sum::<u64>(), bytes);
    assert_eq!(summary["bytes"]["foreign"], 23);
    let rooms = &summary["namespaces"][0];
    assert_eq!((&rooms["name"], &rooms["objects"]), (&"rooms".into(), &50.into()));
    assert_eq!(rooms["keys"], 200);
    assert_eq!(summary["namespaces"][1]["name"], "users");
    let shown = text(&dostore(&path, &["inspect"]).stdout);
    for part in ["rooms", "users", "live pages", "reclaimable", "writer"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains('\x1B'), "no colours where there is no terminal");
}

#[test]
fn a_store_that_is_right_verifies_and_no_byte_of_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(folder.path());
    let before = contents(&path);
    for arguments in [&["verify"][..], &["verify", "--deep"], &["verify", "--deep", "--json"]] {
        let output = dostore(&path, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    }
    let shown = text(&dostore(&path, &["verify"]).stdout);
    assert_eq!(shown.lines().last(), Some("clean"), "{shown}");
    assert!(contents(&path) == before);
}

#[test]
fn a_flipped_byte_of_a_page_is_damage_and_its_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(folder.path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "seg");
    let segment = files(&path).into_iter().find(is_segment).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4096 + 200] ^= 0x10;
    fs::write(&segment, bytes).unwrap();
    let output = dostore(&path, &["verify"]);
    let (shown, leaf) = (text(&output.stdout), segment.file_name().unwrap().to_string_lossy());
    assert_eq!(output.status.code(), Some(4), "{shown}");
    assert!(shown.contains(&format!("seg/{leaf}")), "{shown}");
    let output = dostore(&path, &["verify", "--json"]);
    assert_eq!(output.status.code(), Some(4));
    let report = json(&output);
    assert_eq!(report["verdict"], "damaged");
    assert_eq!(report["faults"][0]["file"], format!("seg/{leaf}"));
    assert_eq!(report["faults"][0]["scope"], "live");
}

#[test]
fn a_damaged_manifest_is_damage_for_both_commands() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(folder.path());
    let mut bytes = fs::read(path.join("MANIFEST")).unwrap();
    bytes[100] ^= 1;
    fs::write(path.join("MANIFEST"), bytes).unwrap();
    for command in ["inspect", "verify"] {
        let output = dostore(&path, &[command]);
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{shown}");
        assert!(shown.contains("MANIFEST"), "{shown}");
    }
}

#[test]
fn what_is_not_there_is_told_apart_from_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["inspect", "verify"] {
        let missing = dostore(&folder.path().join("nothing"), &[command]);
        assert_eq!(missing.status.code(), Some(3), "{}", text(&missing.stderr));
        let empty = dostore(folder.path(), &[command]);
        assert_eq!(empty.status.code(), Some(3), "{}", text(&empty.stderr));
        let wrong = dostore(folder.path(), &[command, "--unknown"]);
        assert_eq!(wrong.status.code(), Some(2));
        let help = dostore(folder.path(), &[command, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains("Examples:"), "{}", text(&help.stdout));
    }
    let mut bare = Command::new(env!("CARGO_BIN_EXE_dostore"));
    let nowhere = bare.arg("verify").env_remove("DOSTORE_DIR").output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere.stderr));
}

#[test]
fn the_environment_names_the_store_too_and_commands_may_be_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_dostore"));
    let output = command.arg("ver").env("DOSTORE_DIR", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn both_commands_work_while_the_store_is_open_and_leave_its_lock_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(folder.path());
    let store = options().open(&path).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room 7").unwrap();
    room.put("new", "value").unwrap().wait().unwrap();
    let output = dostore(&path, &["verify", "--deep"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let summary = json(&dostore(&path, &["inspect", "--json"]));
    let writer = format!("process {}", std::process::id());
    assert!(summary["writer"].as_str().unwrap().starts_with(&writer), "{summary}");
    room.put("new", "other").unwrap().wait().unwrap();
    drop(room);
    store.close().unwrap();
}

#[test]
fn whoever_stops_reading_the_output_early_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(folder.path());
    let (reading, writing) = std::io::pipe().unwrap();
    drop(reading);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dostore"));
    command.arg("-C").arg(&path).arg("inspect").stdout(writing);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

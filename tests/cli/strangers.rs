//! Stores that need not be believed, and what others on the machine may read of what is written.

use super::stage::{Stage, call};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Verbs that show objects.
const SHOWING: [&[&str]; 6] = [
    &["ls", "rooms"],
    &["keys", "rooms/lobby"],
    &["get", "rooms/lobby:topic"],
    &["history", "rooms/lobby"],
    &["tail"],
    &["dump", "rooms"],
];

/// Flips bits of segments until a trusting reader still shows an object that is not hurt.
fn damage_another(stage: &Stage) {
    let segments = fs::read_dir(stage.store().join("seg")).unwrap();
    for path in segments.map(|entry| entry.unwrap().path()) {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        for at in (4_096..file.metadata().unwrap().len()).step_by(64) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let is_shown = stage.call(&["get", "rooms/lobby:topic"]).code == 0;
            if is_shown && stage.call(&["verify"]).code == 4 {
                return;
            }
            file.write_all_at(&byte, at).unwrap();
        }
    }
    panic!("no bit hurts another object");
}

#[test]
fn a_store_that_need_not_be_believed_is_verified_before_any_of_it_is_shown() {
    let stage = Stage::new();
    let untrusted = |words: &[&str]| stage.call(&[&["--untrusted"], words].concat());
    for words in SHOWING {
        assert_eq!(untrusted(words).text(), stage.call(words).text(), "{words:?}");
    }
    // What looks at files believes nothing, and what changes something believes all.
    let files: [&[&str]; 5] = [
        &["verify"],
        &["segments"],
        &["debug", "manifest"],
        &["inspect"],
        &["inspect", "MANIFEST"],
    ];
    let changes: [&[&str]; 3] =
        [&["put", "rooms/lobby:k", "v"], &["delete", "rooms/lobby", "-y"], &["scrub"]];
    for words in files.into_iter().chain(changes) {
        let done = untrusted(words);
        assert_eq!(done.code, 2, "{words:?}: {done:?}");
        assert!(done.errors.contains("--untrusted is for verbs that show objects"), "{done:?}");
    }
    damage_another(&stage);
    for words in SHOWING {
        let done = untrusted(words);
        assert_eq!((done.code, &done.out[..]), (4, ""), "{words:?}: {done:?}");
        assert!(done.errors.contains("untrusted.damaged"), "{words:?}: {done:?}");
    }
}

/// Every file and folder in one, itself too, with its mode.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = vec![(folder.to_owned(), fs::metadata(folder).unwrap().mode() & 0o777)];
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(modes(&path));
        } else {
            let mode = fs::metadata(&path).unwrap().mode() & 0o777;
            found.push((path, mode));
        }
    }
    found
}

#[test]
fn what_is_made_is_its_owners_alone_whatever_the_mask_allows() {
    let stage = Stage::new();
    let (store, copies) = (stage.store(), stage.copies());
    let dostore = env!("CARGO_BIN_EXE_dostore");
    let line = format!(
        "umask 0 && export DOSTORE_DIR={} && cd {} && {dostore} salvage -o salvaged \
         && {dostore} backup saved --copy && {dostore} -C salvaged put rooms/lobby:k v \
         && {dostore} -C salvaged compact && {dostore} dump -o dumped",
        store.display(),
        copies.display()
    );
    let done = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    for made in ["salvaged", "saved"] {
        let modes = modes(&copies.join(made));
        assert!(modes.len() > 6, "{modes:?}");
        for (path, mode) in modes {
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{} has mode {mode:o}", path.display());
        }
    }
    let mode = fs::metadata(copies.join("dumped")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600, "a dump has mode {mode:o}");
}

#[test]
fn nothing_is_written_through_a_link_under_a_name_of_the_stores() {
    let stage = Stage::new();
    let other = stage.copies().join("other");
    for (name, is_opened) in [("MANIFEST.tmp", true), ("LOCK", false), ("admin.sock", true)] {
        fs::write(&other, "mine").unwrap();
        let link = stage.store().join(name);
        let _ = fs::remove_file(&link);
        symlink(&other, &link).unwrap();
        let done = call(&stage.store(), &["put", "rooms/lobby:k", "v"]);
        assert_eq!(done.code == 0, is_opened, "{name}: {done:?}");
        let done = call(&stage.store(), &["compact"]);
        assert_eq!(done.code == 0, is_opened, "{name}: {done:?}");
        assert_eq!(fs::read(&other).unwrap(), b"mine", "{name}");
        let _ = fs::remove_file(&link);
    }
}

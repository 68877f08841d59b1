//! Golden stores that are kept in `tests/data`, one folder for each version of the format: whatever
//! a later source does, it opens them, for reading and for writing, and finds what is written
//! beside them.
//!
//! `DOSTORE_GOLDEN=1` writes those of a version that is being made. Once it is frozen, by a row in
//! `FROZEN`, nobody does so again.
//!
//! Invariants:
//!   * What is expected is text of this file alone: no change of what types print changes it.
//!   * A row of `FROZEN` is never changed, and none is taken out.

#![expect(clippy::disallowed_methods, reason = "what is kept, is kept in real files")]

use crate::golden::{self, options};
use crate::salvage::salvage;
use crate::world::content;
use dostore::disk::sim::SimDisk;
use dostore::error::{ErrorKind, Result};
use dostore::format::header::HEADER_BYTES;
use dostore::format::{FORMAT_VERSION, checksum};
use dostore::inspect::verify;
use dostore::names::{FileName, Folder};
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::reader::Reader;
use dostore::store::snapshot::Snapshot;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What is written beside the files of a store.
const CONTENT: &str = "content.txt";
const BYTES_MAX: u64 = 256 << 10;
/// The versions that are frozen, each with the checksum of all files that are kept of it.
const FROZEN: &[(u32, u32)] = &[(1, 0xA5BD_8ADA)];

fn folder(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/v{version}"))
}

/// An object at one moment.
fn told(out: &mut String, snapshot: &Snapshot) -> Result<()> {
    for (name, alarm) in snapshot.alarms()? {
        let _ = writeln!(out, "      alarm {} {}", name.as_deref().unwrap_or("-"), alarm.0);
    }
    for entry in snapshot.list(ListOptions::new())? {
        let (key, value) = entry?;
        let _ = writeln!(out, "      {} = {}", key.escape_ascii(), value.escape_ascii());
    }
    Ok(())
}

/// Everything in a store, at each of its moments: the same of whoever reads and whoever writes.
macro_rules! everything {
    ($store:expr) => {{
        let mut out = String::new();
        for space in $store.namespaces() {
            let _ = writeln!(out, "namespace {}", space.name());
            for object in space.objects() {
                let object = object?;
                let name = object.name.as_deref().unwrap_or("-");
                let _ = writeln!(out, "  object {} {name}", object.id);
                let now = space.snapshot(object.id)?;
                let _ = writeln!(out, "    now {}, {}", now.last_lsn().0, now.last_time().0);
                told(&mut out, &now)?;
                for commit in space.history(object.id, ..)? {
                    let commit = commit?;
                    let _ = writeln!(out, "    commit {} {}", commit.bookmark, commit.time.0);
                    told(&mut out, &space.at(object.id, &commit.bookmark)?)?;
                }
            }
        }
        Ok::<_, dostore::error::Error>(out)
    }};
}

fn read_by_a_reader(reader: &Reader) -> Result<String> {
    everything!(reader)
}

fn read_by_a_writer(store: &Store) -> Result<String> {
    everything!(store)
}

/// The stores of one version: a name, a machine that has the files, what is in them.
fn kept(version: u32) -> Vec<(String, SimDisk, String)> {
    let mut stores = Vec::new();
    for entry in fs::read_dir(folder(version)).expect("golden stores of this version are kept") {
        let path = entry.unwrap().path();
        let disk = SimDisk::new(1);
        for found in Folder::ALL {
            let Ok(files) = fs::read_dir(path.join(found.path())) else { continue };
            for file in files.map(|file| file.unwrap().path()) {
                let leaf = file.file_name().unwrap().to_str().unwrap();
                if let Some(name) = FileName::parse(found, leaf) {
                    disk.replace_file_bytes(name, fs::read(&file).unwrap());
                }
            }
        }
        let content = fs::read_to_string(path.join(CONTENT)).unwrap();
        stores.push((path.display().to_string(), disk, content));
    }
    stores.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    stores
}

/// Puts the files of a machine into a folder.
fn write_out(disk: &SimDisk, to: &Path) -> u64 {
    let mut bytes = 0;
    for found in Folder::ALL {
        fs::create_dir_all(to.join(found.path())).unwrap();
    }
    for name in disk.names().into_iter().filter(|name| *name != FileName::Lock) {
        let file = disk.file_bytes(name).unwrap();
        bytes += file.len() as u64;
        fs::write(to.join(name.folder().path()).join(name.leaf()), file).unwrap();
    }
    bytes
}

/// Versions whose stores must open.
fn versions() -> Vec<u32> {
    (1..=FORMAT_VERSION).collect()
}

/// Every file in a folder, by its path from there, in the order of paths.
fn files(folder: &Path, within: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("golden stores of this version are kept") {
        let path = entry.unwrap().path();
        let leaf = path.file_name().unwrap().to_str().unwrap();
        let name = format!("{within}/{leaf}");
        if path.is_dir() {
            found.extend(files(&path, &name));
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A checksum of the names and bytes of all files of a version.
fn print(version: u32) -> u32 {
    files(&folder(version), "").iter().fold(0, |print, (name, bytes)| {
        checksum(checksum(print.into(), name.as_bytes()).into(), bytes)
    })
}

#[test]
fn golden_stores_of_a_frozen_version_are_never_changed() {
    for (version, wanted) in FROZEN {
        let found = print(*version);
        assert_eq!(found, *wanted, "version {version} is frozen: what differs is another version");
    }
    let frozen: Vec<_> = FROZEN.iter().map(|(version, _)| *version).collect();
    let all = versions();
    assert!(all.starts_with(&frozen), "{frozen:?} are frozen, and {FORMAT_VERSION} is written");
    assert!(all.len() <= frozen.len() + 1, "one version at a time is being made");
    let kept = fs::read_dir(folder(FORMAT_VERSION).parent().unwrap()).unwrap();
    assert_eq!(kept.count(), all.len(), "each version has a folder, and each folder a version");
}

#[test]
fn a_store_of_version_0_is_refused_as_one_that_is_not_known() {
    for (name, disk, _) in kept(1) {
        let mut bytes = disk.file_bytes(FileName::Manifest).unwrap();
        bytes[8..12].copy_from_slice(&0_u32.to_le_bytes());
        let covered = HEADER_BYTES - 4;
        let sum = checksum(0, &bytes[..covered]);
        bytes[covered..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        disk.replace_file_bytes(FileName::Manifest, bytes.clone());
        let read = Reader::open_on(disk.fork()).map(drop);
        let written = options().open_on(disk.clone()).map(drop);
        for refused in [read, written] {
            let error = refused.unwrap_err();
            let said = (error.kind(), error.code());
            assert_eq!(said, (ErrorKind::Unsupported, "format.unsupported"), "{name}: {error:?}");
            assert!(error.to_string().contains("format 0"), "{name}: {error}");
        }
        assert_eq!(disk.file_bytes(FileName::Manifest).unwrap(), bytes, "{name}");
    }
}

#[test]
fn golden_stores_of_every_version_are_opened_for_ever() {
    if std::env::var_os("DOSTORE_GOLDEN").is_some() {
        write_those_of_today();
    }
    for version in versions() {
        let stores = kept(version);
        assert!(stores.len() >= 3, "version {version} has {} stores", stores.len());
        for (name, disk, content) in stores {
            assert!(content.lines().count() >= 8, "{name}");
            let report = verify(disk.fork());
            assert!(report.is_clean(), "{name}: {report}");
            let reader = Reader::open_on(disk.fork()).unwrap();
            assert_eq!(read_by_a_reader(&reader).unwrap(), content, "{name}");

            let machine = disk.fork();
            let store = options().open_on(machine.clone()).unwrap();
            assert_eq!(read_by_a_writer(&store).unwrap(), content, "{name}");
            goes_on(store, &machine, &content, &name);
        }
    }
}

/// One more commit, and all of it in pages: what was there before is there still.
fn goes_on(store: Store, machine: &SimDisk, content: &str, name: &str) {
    let rooms = store.namespace("rooms").unwrap();
    let added = rooms.open_by_name("added").unwrap().put("key", "value").unwrap();
    added.wait().unwrap();
    drop(rooms);
    store.steps().checkpoint().unwrap();
    while store.steps().merge().unwrap() {}
    store.close().unwrap();
    let report = verify(machine.fork());
    assert!(report.is_clean(), "{name}: {report}");
    let reader = Reader::open_on(machine.fork()).unwrap();
    let after = read_by_a_reader(&reader).unwrap();
    // Objects stand in the order of their ids, so that what is new may stand anywhere.
    let missing = content.lines().find(|line| !after.lines().any(|other| other == *line));
    assert_eq!(missing, None, "{name}");
    assert_eq!(after.matches("  object ").count(), content.matches("  object ").count() + 1);
}

#[test]
fn golden_stores_are_salvaged_whole() {
    for version in versions() {
        for (name, disk, _) in kept(version) {
            let (salvaged, found) = salvage(&disk, false);
            assert!(salvaged.doubtful.kept.is_empty(), "{name}");
            // What was adopted and is in no checkpoint yet is told of, and is not salvaged.
            let lost: Vec<_> = salvaged.lost.kept.iter().map(|loss| &*loss.called).collect();
            let is_adopting = name.ends_with("adopting");
            assert_eq!(lost, if is_adopting { vec!["rooms/large"] } else { vec![] }, "{name}");
            let all = content(&disk);
            let whole = all.iter().filter(|(object, lines)| found.get(*object) == Some(*lines));
            assert_eq!(whole.count() + lost.len(), all.len(), "{name}");
        }
    }
}

#[test]
fn golden_stores_are_opened_on_the_machines_own_files() {
    for version in versions() {
        for (name, disk, content) in kept(version) {
            let folder = tempfile::tempdir().unwrap();
            write_out(&disk, folder.path());
            let reader = Reader::open(folder.path()).unwrap();
            assert_eq!(read_by_a_reader(&reader).unwrap(), content, "{name}");
            drop(reader);
            let store = options().open(folder.path()).unwrap();
            assert_eq!(read_by_a_writer(&store).unwrap(), content, "{name}");
            store.close().unwrap();
        }
    }
}

fn write_those_of_today() {
    let is_frozen = FROZEN.iter().any(|(version, _)| *version == FORMAT_VERSION);
    assert!(!is_frozen, "version {FORMAT_VERSION} is frozen: what it wrote is never written anew");
    let folder = folder(FORMAT_VERSION);
    let _ = fs::remove_dir_all(&folder);
    let mut bytes = 0;
    for golden in golden::all() {
        let to = folder.join(golden.name);
        bytes += write_out(&golden.disk, &to);
        let reader = Reader::open_on(golden.disk.fork()).unwrap();
        fs::write(to.join(CONTENT), read_by_a_reader(&reader).unwrap()).unwrap();
    }
    assert!(bytes < BYTES_MAX, "the golden stores have {bytes} bytes");
}

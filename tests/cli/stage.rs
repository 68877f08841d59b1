//! A store in a folder with something of everything, and calls of the command on it.

use dostore::disk::sim::SimDisk;
use dostore::ids::Timestamp;
use dostore::store::{Options, Store};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn options() -> Options {
    Store::options().wal_file_bytes(64 << 10).segment_bytes(64 << 10)
}

/// A folder with a closed store `data` in it: rooms, users, and nothing in logs.
pub struct Stage {
    folder: tempfile::TempDir,
}

/// What a call came to.
#[derive(Debug)]
pub struct Done {
    pub code: u8,
    pub out: String,
    pub errors: String,
}

impl Done {
    /// The output, once the call went well.
    #[track_caller]
    pub fn text(self) -> String {
        assert_eq!((self.code, &self.errors[..]), (0, ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The documents of its lines.
    #[track_caller]
    pub fn lines(self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Calls the command on the store in a folder, in this process.
pub fn call(store: &Path, words: &[&str]) -> Done {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let store = store.to_str().unwrap();
    let all = ["dostore", "-C", store, "--utc"].into_iter().chain(words.iter().copied());
    let stage = dostore::cli::Stage { out: &mut out, errors: &mut errors, now: Some(now()) };
    let code = dostore::cli::call(all, stage);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code, out: text(out), errors: text(errors) }
}

/// The first of November 2026.
const BEGINNING: u64 = 1_793_491_200_000_000;

/// Ten days later: when the calls are made.
pub fn now() -> Timestamp {
    Timestamp(BEGINNING + 10 * 86_400_000_000)
}

/// Writes what a simulated disk holds into a folder.
pub fn write_out(disk: &SimDisk, folder: &Path) {
    for name in disk.names() {
        let path = folder.join(name.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, disk.file_bytes(name).unwrap()).unwrap();
    }
}

/// Every file under a folder and what it holds.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

fn fill(disk: &SimDisk) {
    let store = options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    lobby.put("topic", "rust").unwrap().wait().unwrap();
    let before = lobby.current_bookmark().unwrap();
    disk.advance(Duration::from_hours(24));
    let mut turn = lobby.turn();
    turn.put("topic", "zig").unwrap().put("visitor/ada", r#"{"since":"09:15"}"#).unwrap();
    turn.put("visitor/bob", [0xA1, 0x61, b'n', 1]).unwrap();
    turn.put([0, 0xFF, b'%'], "odd").unwrap().set_alarm(Timestamp(4_000_000_000_000_000)).unwrap();
    turn.commit().unwrap().wait().unwrap();
    disk.advance(Duration::from_hours(24));
    lobby.restore(&before).unwrap().commit.wait().unwrap();
    disk.advance(Duration::from_hours(24));
    let mut turn = lobby.turn();
    turn.put("visitor/ada", r#"{"since":"10:00"}"#).unwrap();
    turn.set_named_alarm("late", Timestamp(BEGINNING)).unwrap();
    turn.commit().unwrap().wait().unwrap();
    drop(lobby);
    for number in 0..20 {
        let mut lobster = rooms.open_by_name(&format!("lobster {number}")).unwrap();
        lobster.put("claws", vec![b'x'; 100 * number]).unwrap().wait().unwrap();
    }
    rooms.open(rooms.random_id().unwrap()).unwrap().put("k", "v").unwrap().wait().unwrap();
    rooms.open_by_name("gone").unwrap().put("k", "v").unwrap().wait().unwrap();
    disk.advance(Duration::from_hours(24));
    rooms.delete(rooms.id_from_name("gone")).unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    let users = store.namespace("users").unwrap();
    users.open_by_name("a:b@c").unwrap().put("mail@home", "x").unwrap().wait().unwrap();
    store.close().unwrap();
}

impl Stage {
    pub fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        let disk = SimDisk::new(1);
        disk.set_wall(BEGINNING);
        fill(&disk);
        write_out(&disk, &stage.store());
        stage
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder beside the store.
    pub fn copies(&self) -> PathBuf {
        let folder = self.folder.path().join("copies");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Calls the command on the store.
    pub fn call(&self, words: &[&str]) -> Done {
        call(&self.store(), words)
    }
}

//! `verify`, `salvage`, `segments` and `debug` on damaged folders: their exit codes, for every kind
//! of file and every kind of damage.

use super::stage::{Done, Stage, call};
use dostore::disk::sim::SimDisk;
use dostore::format::run::RunUse;
use dostore::ids::Timestamp;
use dostore::names::FileName;
use dostore::store::Store;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What it is called, and what does it.
type Harm = (&'static str, fn(&Path));

/// What happens to a file.
const HARMS: [Harm; 6] = [
    ("a flipped bit in the middle", |path| flip(path, |bytes| bytes / 2)),
    ("a flipped bit in the header", |path| flip(path, |_| 40)),
    ("a flipped bit at the end", |path| flip(path, |bytes| bytes - 20)),
    ("cut short", |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("gone", |path| fs::remove_file(path).unwrap()),
    ("of another store", |path| {
        let other = tempfile::tempdir().unwrap();
        let store = super::stage::options().open(other.path()).unwrap();
        let mut object = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
        object.put("k", "v").unwrap().wait().unwrap();
        drop(object);
        store.close().unwrap();
        let folder = path.parent().unwrap().file_name().unwrap().to_owned();
        if folder == "data" {
            fs::copy(other.path().join("MANIFEST"), path).unwrap();
        } else {
            let (found, _) = super::stage::contents(&other.path().join(folder)).remove(0);
            fs::copy(found, path).unwrap();
        }
    }),
];

fn flip(path: &Path, at: fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// The files of the store whose bytes count, by their kind for `debug`.
fn files(stage: &Stage) -> Vec<(&'static str, PathBuf)> {
    let all = super::stage::contents(&stage.store());
    let kind = |path: &Path| {
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        match (folder, path.file_name().unwrap().to_str().unwrap()) {
            ("wal", _) => Some("wal"),
            ("seg", _) => Some("segment"),
            ("run", _) => Some("run"),
            (_, "MANIFEST") => Some("manifest"),
            _ => None,
        }
    };
    all.into_iter().filter_map(|(path, _)| Some((kind(&path)?, path))).collect()
}

/// Whether a file holds nothing that could be lost: it stands ready, or is to be removed.
fn is_spare(stage: &Stage, leaf: &str) -> bool {
    let files = stage.call(&["segments", "--json"]).json();
    let mut files = files["items"].as_array().unwrap().iter();
    let own = files.find(|it| it["file"].as_str().unwrap().ends_with(leaf)).unwrap();
    own["is"] == "unnamed" || own["is"] == "pool"
}

/// The exit code is one of these, and what went wrong is told once, in a line.
#[track_caller]
fn check(done: &Done, codes: &[u8], told: &str) {
    assert!(codes.contains(&done.code), "{told}: {done:?}");
    assert!(done.errors.lines().count() <= 1, "{told}: {done:?}");
    assert_eq!(done.errors.is_empty(), !done.out.is_empty(), "{told}: {done:?}");
}

#[test]
fn each_kind_of_damage_to_each_kind_of_file_ends_with_its_exit_code() {
    let mut seen = 0;
    for (kind, path) in files(&Stage::new()) {
        let leaf = path.file_name().unwrap().to_str().unwrap().to_owned();
        for (harm, hurt) in HARMS {
            let stage = Stage::new();
            let (_, path) = files(&stage)
                .into_iter()
                .find(|(_, path)| path.file_name().unwrap().to_str() == Some(&leaf))
                .unwrap();
            let is_spare = is_spare(&stage, &leaf);
            hurt(&path);
            let told = format!("{leaf} {harm}");
            let verified = stage.call(&["verify"]);
            check(&verified, if is_spare { &[0, 4] } else { &[4] }, &told);
            check(&stage.call(&["verify", "--deep", "--json"]), &[verified.code], &told);
            let fresh = stage.copies().join("fresh");
            let salvaged = stage.call(&["salvage", "-o", fresh.to_str().unwrap()]);
            check(&salvaged, &[0, 4], &told);
            // Whatever it gave is a store, and all of it is right.
            check(&call(&fresh, &["verify", "--deep"]), &[0], &told);
            let is_lost = kind == "manifest";
            check(&stage.call(&["segments"]), &[if is_lost { 4 } else { 0 }], &told);
            let named = if kind == "manifest" { vec![] } else { vec![&leaf[..]] };
            let shown = stage.call(&[&["debug", kind][..], &named].concat());
            let codes: &[u8] = match harm {
                "gone" if kind == "manifest" => &[4],
                "gone" => &[3],
                // By itself a whole file of another store is right.
                _ => &[0, 4],
            };
            check(&shown, codes, &told);
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen}");
}

#[test]
fn a_folder_without_a_store_and_one_that_is_not_there_are_not_damage() {
    let folder = tempfile::tempdir().unwrap();
    for place in [folder.path().to_owned(), folder.path().join("none")] {
        for verb in [&["verify"][..], &["segments"], &["debug", "wal"], &["debug", "manifest"]] {
            assert_eq!(call(&place, verb).code, 3, "{verb:?}");
        }
        let fresh = folder.path().join("fresh");
        assert_eq!(call(&place, &["salvage", "-o", fresh.to_str().unwrap()]).code, 3);
        assert!(!fresh.exists());
    }
    fs::write(folder.path().join("notes.txt"), "not a store's").unwrap();
    assert_eq!(call(folder.path(), &["verify"]).code, 3);
}

#[test]
fn what_a_damaged_store_says_holds_though_nobody_reads_to_the_end() {
    struct Deaf;
    impl std::io::Write for Deaf {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let stage = Stage::new();
    let code = |words: &[&str]| {
        let store = stage.store();
        let all = ["dostore", "-C", store.to_str().unwrap(), "--utc"];
        let all = all.into_iter().chain(words.iter().copied());
        let mut errors = Vec::new();
        let now = Some(super::stage::now());
        let stage = dostore::cli::Stage { out: &mut Deaf, errors: &mut errors, now };
        let code = dostore::cli::call(all, stage);
        assert!(errors.is_empty(), "{}", String::from_utf8_lossy(&errors));
        code
    };
    assert_eq!(code(&["verify"]), 0);
    assert_eq!(code(&["ls", "rooms"]), 0);
    assert_eq!(code(&["diff", "rooms/lobby", "-9d..-8d"]), 1);
    let (_, segment) = files(&stage).into_iter().find(|(kind, _)| *kind == "segment").unwrap();
    flip(&segment, |bytes| bytes / 2);
    assert_eq!(code(&["verify", "--deep"]), 4);
}

/// A folder with an open store in it whose replaced files nobody has removed: as no manifest names
/// them, they are as files that are being written.
fn with_unnamed() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let options = super::stage::options().threads(false).retire_after(Duration::from_hours(1));
    let store = options.open(folder.path().join("data")).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for round in 0..12_u8 {
        for number in 0..60 {
            let mut room = rooms.open_by_name(&format!("room {number}")).unwrap();
            room.put("k", vec![round; 600]).unwrap().detach();
        }
        store.steps().checkpoint().unwrap();
    }
    while store.steps().clean().unwrap() || store.steps().merge().unwrap() {}
    drop(rooms);
    (folder, store)
}

fn copy_all(from: &Path, to: &Path) {
    for (path, bytes) in super::stage::contents(from) {
        let path = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn what_a_process_is_writing_is_told_as_far_as_it_is_there_and_is_no_damage() {
    let (folder, store) = with_unnamed();
    let data = folder.path().join("data");
    let listed = call(&data, &["segments", "--json"]).json();
    let unnamed = listed["items"].as_array().unwrap().iter().filter(|it| it["is"] == "unnamed");
    let unnamed: Vec<_> = unnamed.map(|it| it["file"].as_str().unwrap().to_owned()).collect();
    for (kind, parent) in [("segment", "seg/"), ("run", "run/")] {
        let file = unnamed.iter().find(|file| file.starts_with(parent)).unwrap();
        let whole = fs::read(data.join(file)).unwrap();
        let cut = |length: usize| fs::write(data.join(file), &whole[..length]).unwrap();
        let shown = |store: &Path| call(store, &["debug", kind, file]);
        assert_eq!(shown(&data).code, 0);
        for (length, told) in [
            (whole.len() - 30, "being written at this moment"),
            (whole.len() - 3000, "being written at this moment"),
            (4096, "being written at this moment"),
            (100, "begun at this moment"),
            (0, "begun at this moment"),
        ] {
            cut(length);
            let done = shown(&data);
            assert!(done.code == 0 && done.out.contains(told), "{file} of {length}: {done:?}");
            // Where nobody writes, it is damaged.
            let copy = tempfile::tempdir().unwrap();
            copy_all(&data, copy.path());
            let done = shown(copy.path());
            assert_eq!(done.code, 4, "{file} of {length}: {done:?}");
        }
        // Before its open end a file that is being written is as right as any.
        let mut bytes = whole[..whole.len() - 30].to_vec();
        bytes[4200] ^= 1;
        fs::write(data.join(file), bytes).unwrap();
        // What has one block ends where that begins.
        assert!(kind == "run" || shown(&data).code == 4, "{file}");
        fs::write(data.join(file), &whole).unwrap();
    }
    drop(store);
}

#[test]
fn what_a_user_may_not_read_is_not_told_to_be_damaged() {
    let stage = Stage::new();
    let (_, segment) = files(&stage).into_iter().find(|(kind, _)| *kind == "segment").unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    mode(&segment, 0o600).unwrap();
    for (path, _) in super::stage::contents(&stage.store()) {
        path.ancestors().skip(1).take(4).for_each(|folder| drop(mode(folder, 0o755)));
    }
    let verify = |verb: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", env!("CARGO_BIN_EXE_dostore"), "-C"]);
        command.arg(stage.store()).args(verb).output()
    };
    // Only the superuser can become another one, who must be able to run the command.
    let Ok(done) = verify(&["ls"]) else { return };
    if done.status.code() != Some(0) {
        return;
    }
    for verb in [&["verify"][..], &["salvage", "-o", "/nowhere/fresh"]] {
        let done = verify(verb).unwrap();
        let errors = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{errors}");
        assert!(errors.contains("seg/") && errors.contains("ermission denied"), "{errors}");
    }
}

#[test]
fn a_store_that_has_lost_its_manifest_is_not_taken_for_none() {
    let stage = Stage::new();
    fs::remove_file(stage.store().join("MANIFEST")).unwrap();
    let words: [&[&str]; 6] =
        [&["ls"], &["inspect"], &["get", "rooms/lobby:topic"], &["tail"], &["dump"], &["alarms"]];
    for verb in words {
        let done = stage.call(verb);
        assert!(done.code == 4 && done.errors.contains("`dostore verify`"), "{done:?}");
    }
    let put = stage.call(&["put", "rooms/lobby:topic", "c"]);
    assert_eq!(put.code, 4, "{put:?}");
    assert!(!stage.store().join("MANIFEST").exists(), "a new store over the old one");
}

/// A folder with a store of many objects of which the second block of the directory is damaged, and
/// beside it the same store undamaged.
fn with_lost_heads() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let disk = SimDisk::new(8);
    let store = super::stage::options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for number in 0..600_u64 {
        let mut room = rooms.open_by_name(&format!("room {number}")).unwrap();
        let mut turn = room.turn();
        turn.put("k", format!("value {number}")).unwrap();
        if number.is_multiple_of(10) {
            turn.set_alarm(Timestamp(4_000_000_000_000_000 + number)).unwrap();
        }
        turn.commit().unwrap().detach();
    }
    drop(rooms);
    store.close().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (whole, hurt) = (folder.path().join("whole"), folder.path().join("data"));
    let disk = disk.kill();
    super::stage::write_out(&disk, &whole);
    let manifest = dostore::manifest::read(&disk).unwrap().unwrap();
    let run = manifest.runs.iter().find(|facts| facts.usage == RunUse::Directory).unwrap();
    disk.flip_bit(FileName::Run(run.number), (2 * 4096 + 9) * 8).unwrap();
    super::stage::write_out(&disk, &hurt);
    (folder, whole, hurt)
}

#[test]
fn objects_whose_names_are_lost_are_listed_without_them() {
    let (_folder, whole, _) = with_lost_heads();
    let all = ids(&call(&whole, &["ls", "rooms", "--json"]));
    let manifest =
        dostore::manifest::read(&dostore::disk::real::RealReadDisk::open(&whole).unwrap());
    let manifest = manifest.unwrap().unwrap();
    let run = manifest.runs.iter().find(|facts| facts.usage == RunUse::Names).unwrap();
    flip(&whole.join(FileName::Run(run.number).to_string()), |_| 2 * 4096 + 9);
    let listed = call(&whole, &["ls", "rooms", "--json"]);
    assert!(listed.code == 4 && listed.errors.contains("`dostore verify`"), "{listed:?}");
    assert_eq!(ids(&listed), all);
    let list: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let mut items = list["items"].as_array().unwrap().iter();
    let nameless = items.find(|item| item["name"].is_null()).unwrap();
    let place = format!("rooms/~{}:k", nameless["id"].as_str().unwrap());
    let got = call(&whole, &["get", &place, "--format", "raw"]);
    assert!(got.code == 0 && got.out.starts_with("value "), "{got:?}");
}

/// The ids of a list of objects.
fn ids(done: &Done) -> BTreeSet<String> {
    let list: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Exits with 4, and says on the errors what is not shown and where to look.
#[track_caller]
fn check_hurt(done: &Done) {
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.errors.contains("lost to damage (in run/"), "{done:?}");
    assert!(done.errors.contains("`dostore verify`"), "{done:?}");
    assert!(done.errors.lines().count() <= 3, "told more than once: {done:?}");
}

/// Calls `each` at each look of a verb that goes on by itself, as often as it says so.
struct Looks<F> {
    each: F,
    taken: Vec<u8>,
}

impl<F: FnMut() -> bool> Write for Looks<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.taken.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if (self.each)() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

#[test]
fn who_follows_a_store_is_told_of_each_damage_once_when_it_comes() {
    let (_folder, whole, hurt) = with_lost_heads();
    let left = ids(&call(&hurt, &["ls", "rooms", "--json"]));
    assert!(left.len() < ids(&call(&whole, &["ls", "rooms", "--json"])).len());
    let store = super::stage::options().threads(false).open(&hurt).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open(rooms.id_from_hex(left.first().unwrap()).unwrap()).unwrap();
    let mut looks = 0;
    let each = || {
        looks += 1;
        for _ in 0..3 {
            room.put("k", format!("look {looks}")).unwrap().wait().unwrap();
        }
        store.steps().checkpoint().unwrap();
        // What the checkpoint has just put into history is lost, at two of the looks.
        if looks == 4 || looks == 6 {
            let disk = dostore::disk::real::RealReadDisk::open(&hurt).unwrap();
            let manifest = dostore::manifest::read(&disk).unwrap().unwrap();
            let file = manifest.history.iter().max_by_key(|file| file.end).unwrap();
            let file = FileName::Run(file.facts.number);
            flip(&hurt.join(file.to_string()), |_| 4096 + 40);
        }
        looks < 9
    };
    let mut out = Looks { each, taken: Vec::new() };
    let words = ["dostore", "-C", hurt.to_str().unwrap(), "tail", "rooms", "-f", "-n", "0"];
    let words = words.into_iter().chain(["--format", "jsonl", "--interval", "1ms"]);
    let mut errors = Vec::new();
    let stage = dostore::cli::Stage { out: &mut out, errors: &mut errors, now: None };
    let code = dostore::cli::call(words, stage);
    let errors = String::from_utf8(errors).unwrap();
    assert_eq!(code, 4, "{errors}");
    let told: Vec<_> = errors.lines().filter(|line| line.contains("(in run/")).collect();
    let once: BTreeSet<_> = told.iter().collect();
    assert_eq!((told.len(), once.len()), (3, 3), "{errors}");
    // All commits came but those that were lost: of the last look nobody has read.
    let lines = String::from_utf8(out.taken).unwrap();
    assert_eq!(lines.lines().count(), 3 * (8 - 2), "{lines}");
}

#[test]
fn lists_have_all_that_damage_leaves_and_end_with_its_exit_code() {
    let (folder, whole, hurt) = with_lost_heads();
    let all = ids(&call(&whole, &["ls", "rooms", "--json"]));
    let listed = call(&hurt, &["ls", "rooms", "--json"]);
    check_hurt(&listed);
    let left = ids(&listed);
    assert!(left.is_subset(&all) && all.len() == 600, "{} of {}", left.len(), all.len());
    let lost = all.len() - left.len();
    assert!((1..300).contains(&lost), "{lost} are lost");
    let alarms = call(&hurt, &["alarms", "rooms", "--json"]);
    for words in [
        &["ls", "rooms"][..],
        &["ls", "rooms/room", "--limit", "500"],
        &["ls"],
        &["stat"],
        &["stat", "rooms"],
        &["bigkeys", "--limit", "3"],
        &["alarms", "--failed"],
        &["inspect"],
        &["inspect", "rooms"],
        &["dump", "rooms"],
        &["tail"],
    ] {
        let done = call(&hurt, words);
        check_hurt(&done);
        assert!(done.out.lines().count() >= 3 || words == ["alarms", "--failed"], "{done:?}");
    }
    // Hints of alarms are in another run: all are told but those of objects that are lost.
    let list: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let items = list["items"].as_array().unwrap().iter().filter(|item| !item["alarm"].is_null());
    let with_alarm: Vec<_> = items.map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!((alarms.code, with_alarm.len() > 20), (4, true), "{alarms:?}");
    assert!(ids(&alarms).iter().eq(with_alarm), "{alarms:?}");
    let ls = call(&hurt, &["stat", "rooms", "--json"]).out;
    let counted: serde_json::Value = serde_json::from_str(&ls).unwrap();
    assert_eq!(counted["objects"], left.len());
    // Objects are found by the beginning of their ids, before the damage and behind it.
    for id in [left.first().unwrap(), left.last().unwrap()] {
        let done = call(&hurt, &["get", &format!("rooms/~{}:k", &id[..12])]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    let gone = all.difference(&left).next().unwrap();
    for id in [&gone[..12], gone] {
        let done = call(&hurt, &["get", &format!("rooms/~{id}:k")]);
        assert!(done.code == 4 && done.errors.contains("`dostore verify`"), "{done:?}");
    }
    // What was dumped is loaded, and both say that something lacks.
    let dump = folder.path().join("rooms.dump");
    let (dump, fresh) = (dump.to_str().unwrap(), folder.path().join("fresh"));
    let done = call(&hurt, &["dump", "rooms", "-o", dump]);
    check_hurt(&done);
    assert!(done.out.contains("has no end"), "{done:?}");
    let loaded = call(&fresh, &["load", dump]);
    let is_told = loaded.errors.contains("not complete: what is whole before that is imported");
    assert!(loaded.code == 4 && is_told, "{loaded:?}");
    assert_eq!(ids(&call(&fresh, &["ls", "rooms", "--json"])), left);
    // A restoration of all goes past it.
    let done = call(&hurt, &["restore", "rooms", "--to", "now", "--yes"]);
    assert!(done.code == 4 && done.out.contains("were not looked at"), "{done:?}");
}

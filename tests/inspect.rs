//! Verification finds nothing wrong with what the engine writes, and finds every damage.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::sim::SimDisk;
use dostore::inspect::{Depth, Report, Scope, Summary, summary, verify, verify_to};
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::namespace::Namespace;

fn open(disk: &SimDisk) -> Store {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10);
    options.page_bytes(1 << 10).segment_bytes(32 << 10).open_on(disk.clone()).unwrap()
}

fn put(namespace: &Namespace, name: &str, keys: u32, filler: u8) {
    let mut object = namespace.open_by_name(name).unwrap();
    let mut turn = object.turn();
    for key in 0..keys {
        let value = vec![filler.wrapping_add(u8::try_from(key % 251).unwrap()); 40];
        turn.put(format!("key{key:05}"), value).unwrap();
    }
    turn.commit().unwrap().wait().unwrap();
}

fn delete(namespace: &Namespace, name: &str) {
    namespace.delete(namespace.id_from_name(name)).unwrap().wait().unwrap();
}

/// One round of changes of many kinds.
fn change(store: &Store, round: u8) {
    let rooms = store.namespace("rooms").unwrap();
    let users = store.namespace_with_key("users", "other key").unwrap();
    for number in 0..40u8 {
        if number % 3 == round % 3 {
            put(&rooms, &format!("room {number}"), 1 + u32::from(number) % 9, round);
        }
    }
    put(&users, "a large one", 600, round);
    put(&users, "a large one", 3, round + 1);
    if round % 2 == 1 {
        let mut large = users.open_by_name("a large one").unwrap();
        let mut turn = large.turn();
        turn.delete_range("key00100".."key00500").unwrap();
        turn.commit().unwrap().wait().unwrap();
    }
    delete(&rooms, &format!("room {}", round % 40));
    let id = users.random_id().unwrap();
    let mut nameless = users.open(id).unwrap();
    nameless.put("k", vec![round; 2_000]).unwrap().wait().unwrap();
}

/// A store with several of everything: segments, runs, pages with deltas, lives, a tail of the log.
fn busy_store(seed: u64, rounds: u8) -> (SimDisk, Store) {
    let disk = SimDisk::new(seed);
    let store = open(&disk);
    for round in 0..rounds {
        change(&store, round);
        store.steps().checkpoint().unwrap();
    }
    change(&store, rounds);
    (disk, store)
}

fn check(disk: &SimDisk) -> Report {
    verify(disk.clone())
}

#[track_caller]
fn assert_clean(disk: &SimDisk) -> Report {
    let report = check(disk);
    assert!(report.is_clean(), "{report}");
    report
}

fn look(disk: &SimDisk) -> Summary {
    summary(disk.clone()).unwrap()
}

/// The longest file of a kind.
fn longest(disk: &SimDisk, is_wanted: impl Fn(&FileName) -> bool) -> FileName {
    let names = disk.names().into_iter().filter(is_wanted);
    names.max_by_key(|name| disk.file_bytes(*name).unwrap().len()).unwrap()
}

#[test]
fn what_the_engine_writes_verifies_after_every_step() {
    let disk = SimDisk::new(1);
    assert_eq!(check(&disk).faults.len(), 1, "an empty folder is no store");
    let store = open(&disk);
    assert_clean(&disk);
    for round in 0..12 {
        change(&store, round);
        assert_clean(&disk);
        store.steps().checkpoint().unwrap();
        assert_clean(&disk);
        if round % 3 == 2 {
            store.steps().clean().unwrap();
            assert_clean(&disk);
            while store.steps().merge().unwrap() {}
            assert_clean(&disk);
        }
    }
    let report = assert_clean(&disk);
    assert!(report.counts.objects > 30 && report.counts.pages > report.counts.objects, "{report}");
    assert!(report.counts.scanned_pages >= report.counts.pages, "{report}");
}

#[test]
fn stores_verify_after_kills_power_cuts_and_a_close() {
    for seed in 0..6 {
        let (disk, store) = busy_store(seed, 3);
        let disk = if seed % 2 == 0 { disk.kill() } else { disk.power_cut() };
        drop(store);
        assert_clean(&disk);
        let store = open(&disk);
        let report = assert_clean(&disk);
        assert!(report.counts.commits > 0, "the tail of the log was read: {report}");
        store.close().unwrap();
        assert_clean(&disk);
    }
}

#[test]
fn a_flipped_byte_in_any_file_is_found_and_the_file_is_named() {
    let (disk, store) = busy_store(3, 4);
    let disk = disk.kill();
    drop(store);
    assert_clean(&disk);
    let is_segment = |name: &FileName| matches!(name, FileName::Segment(_));
    let is_run = |name: &FileName| matches!(name, FileName::Run(_));
    let (mut dead, mut live) = (0, 0);
    for name in [longest(&disk, is_segment), longest(&disk, is_run), FileName::Manifest] {
        let bytes = disk.file_bytes(name).unwrap().len() as u64;
        for byte in (0..bytes).step_by(257) {
            let damaged = disk.fork();
            damaged.flip_bit(name, byte * 8 + byte % 8).unwrap();
            let report = check(&damaged);
            let named = report.faults.iter().filter(|fault| fault.place.file == name.to_string());
            live += named.clone().filter(|fault| fault.scope == Scope::Live).count();
            dead += named.clone().filter(|fault| fault.scope == Scope::Spare).count();
            assert!(
                named.count() > 0 || is_padding(&disk, name, byte),
                "{name} at {byte}: {report}"
            );
        }
    }
    assert!(live > 0 && dead > 0, "{live} live and {dead} dead pages were damaged");
}

/// Runs have gaps before their sections, which nothing reads.
fn is_padding(disk: &SimDisk, name: FileName, byte: u64) -> bool {
    let byte = usize::try_from(byte).unwrap();
    matches!(name, FileName::Run(_)) && disk.file_bytes(name).unwrap()[byte] == 0
}

#[test]
fn damage_in_the_log_is_found_and_named() {
    let (disk, store) = busy_store(4, 2);
    drop(store);
    let disk = disk.kill();
    let commits = assert_clean(&disk).counts.commits;
    let is_log = |name: &FileName| matches!(name, FileName::Wal(_));
    let in_use = |name: &FileName| {
        is_log(name) && disk.file_bytes(*name).unwrap()[..4096].iter().any(|byte| *byte != 0)
    };
    let names: Vec<_> = disk.names().into_iter().filter(in_use).collect();
    let found = names.iter().filter(|name| {
        let damaged = disk.fork();
        damaged.flip_bit(**name, (4096 + 200) * 8).unwrap();
        let report = check(&damaged);
        let of_log = |file: &str| file == name.to_string();
        assert!(report.is_clean() || report.faults.iter().any(|fault| of_log(&fault.place.file)));
        !report.is_clean() && report.counts.objects > 0
    });
    // Files before the place where replay begins are not needed any more.
    assert!(commits > 0 && found.count() > 0, "{names:?}");
}

#[test]
fn half_a_header_of_a_file_that_held_nothing_is_no_fault_while_the_next_takes_its_place() {
    let disk = SimDisk::new(3);
    let logs = |disk: &SimDisk| {
        let names = disk.names().into_iter();
        names.filter(|name| matches!(name, FileName::Wal(_))).collect::<Vec<_>>()
    };
    put(&open(&disk).namespace("rooms").unwrap(), "room", 3, 1);
    let used = logs(&disk);
    let disk = disk.kill();
    // A life that ends before its first commit: its file has a header and nothing else.
    drop(open(&disk));
    let disk = disk.kill();
    let empty = logs(&disk).into_iter().find(|name| !used.contains(name)).unwrap();
    disk.zero_sector(empty, 0).unwrap();
    let torn = disk.file_bytes(empty).unwrap();
    assert_clean(&disk);
    drop(open(&disk));
    let disk = disk.kill();
    // The next life was cut off as well, before it removed what is dead.
    disk.replace_file_bytes(empty, torn);
    let report = assert_clean(&disk);
    let told = format!("{empty} has one readable copy of its header");
    assert!(report.notes.contains(&told), "{report}");
    // Where something stands behind the header, it is one.
    disk.zero_sector(used[0], 0).unwrap();
    let report = check(&disk);
    assert!(report.faults.iter().any(|fault| fault.place.file == used[0].to_string()), "{report}");
}

#[test]
fn a_missing_file_a_short_one_and_a_foreign_one_are_told_apart() {
    let (disk, store) = busy_store(5, 3);
    drop(store);
    let disk = disk.kill();
    for (kind, what) in [("seg", "missing"), ("run", "missing")] {
        let is_kind = |name: &FileName| name.folder().path() == kind;
        let name = longest(&disk, is_kind);
        let damaged = disk.fork();
        dostore::disk::Disk::remove(&damaged, name).unwrap();
        let report = check(&damaged);
        let of_file = |fault: &&dostore::inspect::Fault| fault.place.file == name.to_string();
        let told = report.faults.iter().find(of_file).unwrap_or_else(|| panic!("{report}"));
        assert!(told.what.contains(what), "{told}");
        let is_short = |fault: &dostore::inspect::Fault| {
            fault.what.contains("instead of") || fault.what.contains("cut short")
        };
        let damaged = disk.fork();
        let mut bytes = damaged.file_bytes(name).unwrap();
        bytes.pop();
        damaged.replace_file_bytes(name, bytes);
        let report = check(&damaged);
        assert!(report.faults.iter().any(is_short), "{report}");
    }
    let extra = FileName::Segment(dostore::ids::FileNumber(0xFFFF));
    disk.replace_file_bytes(extra, vec![1; 100]);
    let report = assert_clean(&disk);
    let note = report.notes.iter().find(|note| note.contains(&extra.to_string()));
    assert!(note.is_some(), "{report}");
}

#[test]
fn faults_of_the_account_are_found() {
    let (disk, store) = busy_store(6, 3);
    drop(store);
    let disk = disk.kill();
    let mut manifest = dostore::manifest::read(&disk).unwrap().unwrap();
    manifest.segments[0].live_bytes -= 8;
    disk.replace_file_bytes(FileName::Manifest, manifest.encode());
    let report = check(&disk);
    assert_eq!(report.faults.len(), 1, "{report}");
    let name = FileName::Segment(manifest.segments[0].facts.number);
    assert_eq!(report.faults[0].place.file, name.to_string());
}

#[test]
fn an_older_run_in_the_place_of_a_newer_one_is_found() {
    let (disk, store) = busy_store(7, 4);
    drop(store);
    let disk = disk.kill();
    let manifest = dostore::manifest::read(&disk).unwrap().unwrap();
    assert!(manifest.runs.len() > 2);
    for left_out in 0..manifest.runs.len() {
        let mut older = manifest.clone();
        let run = older.runs.remove(left_out);
        let damaged = disk.fork();
        damaged.replace_file_bytes(FileName::Manifest, older.encode());
        let report = check(&damaged);
        assert!(!report.is_clean(), "without {:?} {}: {report}", run.usage, run.number);
    }
}

#[test]
fn looking_changes_no_byte_and_takes_no_lock() {
    let (disk, store) = busy_store(8, 2);
    let bytes = |disk: &SimDisk| -> Vec<_> {
        disk.names().into_iter().map(|name| (name, disk.file_bytes(name))).collect()
    };
    let before = bytes(&disk);
    let report = assert_clean(&disk);
    assert!(report.notes.iter().any(|note| note.contains("writes")), "{report}");
    look(&disk);
    assert_eq!(bytes(&disk), before);
    change(&store, 9);
    store.steps().checkpoint().unwrap();
}

#[test]
fn a_summary_adds_up_and_names_namespaces_that_only_the_log_knows() {
    let (disk, store) = busy_store(9, 5);
    store.steps().clean().unwrap();
    store.namespace("new").unwrap();
    store.steps().write_mark().unwrap();
    let found = look(&disk);
    let lengths = disk.names().into_iter().map(|name| disk.file_bytes(name).unwrap().len() as u64);
    assert_eq!(found.disk_bytes(), lengths.sum::<u64>(), "{found:?}");
    let names: Vec<_> = found.namespaces.iter().map(|space| space.name.as_deref()).collect();
    assert_eq!(names, [Some("rooms"), Some("users"), Some("new")]);
    assert_eq!(found.position, store.durable());
    store.steps().checkpoint().unwrap();
    let found = look(&disk);
    for (space, namespace) in found.namespaces.iter().zip(["rooms", "users", "new"]) {
        let objects = store.namespace(namespace).unwrap().objects().count() as u64;
        assert_eq!(space.objects, objects, "{namespace}");
    }
    assert!(found.live_bytes > 0 && found.writer.is_some() && found.log_commits == 0);
}

#[test]
fn a_quick_look_reads_no_dead_page() {
    let (disk, store) = busy_store(10, 4);
    drop(store);
    let (quick, whole) = (verify_to(disk.clone(), Depth::Live), verify(disk));
    assert_eq!(quick.counts.pages, whole.counts.pages);
    assert!(quick.counts.scanned_pages == 0 && whole.counts.scanned_pages > whole.counts.pages);
}

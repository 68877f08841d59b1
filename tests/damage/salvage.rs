//! What is salvaged from a damaged store is, byte for byte, what was there; what is lost is told.

use crate::layout::{Layout, Unit};
use crate::world::{self, Chance, Content};
use dostore::disk::Disk;
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::format::group::{GROUP_HEADER_BYTES, GroupHeader, WalHeader};
use dostore::format::{COUNTED_END, place_seed};
use dostore::ids::{Address, Lsn};
use dostore::inspect::salvage::Salvaged;
use dostore::inspect::{Scope, verify};
use dostore::names::FileName;
use dostore::store::transfer::{Form, SalvageOptions};
use std::collections::{BTreeMap, BTreeSet};

/// Salvages into a new store: the report, and what the new store holds.
pub fn salvage(disk: &SimDisk, is_doubtful: bool) -> (Salvaged, Content) {
    let fresh = SimDisk::new(99);
    let store = world::open(&fresh);
    let options = SalvageOptions::new().doubtful(is_doubtful);
    let salvaged = store.salvage_on(disk.clone(), &options).unwrap();
    let mut stream = Vec::new();
    store.export(Form::Text, &mut stream).unwrap();
    store.steps().checkpoint().unwrap();
    let report = verify(fresh);
    assert!(report.is_clean(), "{report}");
    (salvaged, world::lines(&stream))
}

/// The whole ids of objects, by their address.
pub fn ids(disk: &SimDisk, content: &Content) -> BTreeMap<Address, (String, String)> {
    let store = world::open(&disk.fork());
    let names: Vec<_> = store.namespaces().iter().map(|it| it.name().to_owned()).collect();
    let mut ids = BTreeMap::new();
    for (name, hex) in content.keys() {
        // Numbers are given in the order in which namespaces are made.
        let made = ["rooms", "users", "alarms"].iter().position(|made| made == name).unwrap();
        assert!(names.contains(name));
        let half: Vec<u8> =
            (0..16).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let number = u32::try_from(made + 1).unwrap();
        let bytes = [&number.to_be_bytes()[..], &half].concat();
        ids.insert(Address::from_bytes(&bytes).unwrap(), (name.clone(), hex.clone()));
    }
    ids
}

pub fn told(salvaged: &Salvaged) -> BTreeSet<Address> {
    let all = salvaged.lost.kept.iter().chain(&salvaged.doubtful.kept);
    all.map(|loss| loss.object).collect()
}

/// Everything but some objects is there as it was.
#[track_caller]
fn check_others(
    found: &Content,
    expected: &Content,
    but: &BTreeSet<&(String, String)>,
    about: &str,
) {
    for (object, lines) in expected.iter().filter(|(object, _)| !but.contains(object)) {
        assert_eq!(found.get(object), Some(lines), "{object:?}: {about}");
    }
    for object in found.keys() {
        assert!(expected.contains_key(object), "{object:?} was never there: {about}");
    }
}

/// What an object has left is a part of what it had.
#[track_caller]
pub fn check_part(found: &Content, expected: &Content, object: &(String, String), about: &str) {
    let Some(lines) = found.get(object) else { return };
    let had = &expected[object];
    for line in lines.iter().filter(|line| !line.contains("\"end\":")) {
        // The first line names the object; its name may be lost.
        let is_first = line.contains("\"object\":");
        assert!(is_first || had.contains(line), "{object:?} has {line}: {about}");
    }
}

#[test]
fn an_undamaged_store_is_salvaged_whole() {
    let disk = world::store(3);
    let (salvaged, found) = salvage(&disk, false);
    assert!(salvaged.is_whole(), "{salvaged}");
    let expected = world::content(&disk);
    assert!(found == expected, "{salvaged}");
    assert!(salvaged.commits > 10 && salvaged.objects > 50, "{salvaged}");
    assert!(salvaged.notes.iter().any(|note| note.contains("history")), "{salvaged}");
}

/// One flip: everything that the layout does not name is there, and what it names is told.
fn check_flip(
    disk: &SimDisk,
    unit: &Unit,
    ids: &BTreeMap<Address, (String, String)>,
    expected: &Content,
) {
    let (salvaged, found) = salvage(disk, false);
    let about = format!("{unit:?}\n{salvaged}");
    if unit.kind == "manifest" {
        assert!(!salvaged.is_whole(), "{about}");
        return;
    }
    if salvaged.log_damage.is_some() {
        assert!(["log", "pool"].contains(&unit.kind), "{about}");
        return;
    }
    let is_hurt = unit.scope == Some(Scope::Live);
    let hurt = unit.objects.union(&unit.perhaps).filter(|_| is_hurt);
    let hurt: BTreeSet<_> = hurt.filter_map(|address| ids.get(address)).collect();
    check_others(&found, expected, &hurt, &about);
    for object in hurt {
        check_part(&found, expected, object, &about);
    }
    // Whoever differs from what it was is told.
    for (address, object) in ids {
        if found.get(object) != expected.get(object) {
            assert!(told(&salvaged).contains(address), "{object:?} is not told: {about}");
        }
    }
}

#[test]
fn g28_salvage_recovers_every_other_object_from_every_kind_of_file() {
    let disk = world::store(1);
    let layout = Layout::of(&disk);
    let expected = world::content(&disk);
    let ids = ids(&disk, &expected);
    let mut chance = Chance(11);
    for kind in crate::KINDS {
        let files = layout.files(kind);
        for _ in 0..crate::flips().div_ceil(4) {
            let file = files[chance.below(files.len() as u64) as usize];
            let byte = chance.below(disk.file_bytes(file).unwrap().len() as u64);
            let damaged = disk.fork();
            damaged.flip_bit(file, byte * 8 + chance.below(8)).unwrap();
            check_flip(&damaged, layout.unit(file, byte), &ids, &expected);
        }
    }
}

#[test]
fn behind_damage_of_the_log_everything_is_as_of_the_commit_before_it() {
    let disk = world::store(1);
    let layout = Layout::of(&disk);
    let expected = world::content(&disk);
    let groups = layout.units.iter().filter(|unit| {
        unit.kind == "log" && !unit.objects.is_empty() && unit.scope == Some(Scope::Live)
    });
    let (mut seen, mut behind) = (0, 0);
    for unit in groups.step_by(7) {
        let damaged = disk.fork();
        damaged.flip_bit(unit.file, (unit.range.start + 100) * 8).unwrap();
        let (salvaged, found) = salvage(&damaged, false);
        assert!(!salvaged.is_whole() && salvaged.log_damage.is_some(), "{salvaged}");
        assert!(told(&salvaged).is_superset(&unit.objects), "{unit:?} {salvaged}");
        // A prefix of the log: what a store says that ends there.
        let cut = cut_before(&disk, unit);
        let earlier = world::content(&cut);
        assert!(found == earlier, "{unit:?} {salvaged}");
        seen += 1;
        if let Some((first, last, count)) = salvaged.behind_damage {
            behind += 1;
            assert!(first > salvaged.position && last >= first && count > 0, "{salvaged}");
            let (_, doubtful) = salvage(&damaged, true);
            let same =
                expected.iter().filter(|(object, lines)| doubtful.get(*object) == Some(*lines));
            assert!(same.count() + unit.objects.len() >= expected.len(), "{salvaged}");
        }
    }
    assert!(seen >= 3 && behind >= 2, "{seen} groups, {behind} with others behind them");
}

#[test]
fn groups_that_say_that_they_have_every_commit_there_can_be_are_counted_all_the_same() {
    let disk = world::store(1);
    let layout = Layout::of(&disk);
    let groups = layout.units.iter().filter(|unit| {
        unit.kind == "log" && !unit.objects.is_empty() && unit.scope == Some(Scope::Live)
    });
    let groups: Vec<_> = groups.collect();
    let damaged = disk.fork();
    damaged.flip_bit(groups[0].file, (groups[0].range.start + 100) * 8).unwrap();
    for unit in &groups[1..] {
        let mut bytes = damaged.file_bytes(unit.file).unwrap();
        let salt = WalHeader::decode(&bytes).unwrap().header.salt;
        let at = usize::try_from(unit.range.start).unwrap();
        let seed = place_seed(salt, unit.file.number().unwrap().0, unit.range.start);
        let (header, _) = GroupHeader::decode(&bytes[at..], seed).unwrap();
        let (first_lsn, last_lsn) = (Lsn(0), Lsn(COUNTED_END - 1));
        let forged = GroupHeader { first_lsn, last_lsn, ..header };
        bytes[at..at + GROUP_HEADER_BYTES].copy_from_slice(&forged.encode(seed));
        damaged.replace_file_bytes(unit.file, bytes);
    }
    for is_doubtful in [false, true] {
        let fresh = world::open(&SimDisk::new(98));
        let options = SalvageOptions::new().doubtful(is_doubtful);
        let salvaged = fresh.salvage_on(damaged.fork(), &options).unwrap();
        let behind = (Lsn(0), Lsn(COUNTED_END - 1), u64::MAX);
        assert_eq!(salvaged.behind_damage, Some(behind), "{} groups", groups.len());
    }
}

/// The store with zeros from a group of the log on, and without the files behind it.
fn cut_before(disk: &SimDisk, unit: &Unit) -> SimDisk {
    let cut = disk.fork();
    let mut bytes = cut.file_bytes(unit.file).unwrap();
    bytes[unit.range.start as usize..].fill(0);
    cut.replace_file_bytes(unit.file, bytes);
    for name in cut.names() {
        if matches!(name, FileName::Wal(_)) && name.number() > unit.file.number() {
            cut.remove(name).unwrap();
        }
    }
    cut
}

#[test]
fn a_store_without_its_manifest_gives_everything_if_doubt_is_allowed_and_nothing_if_not() {
    let disk = world::store(4);
    let expected = world::content(&disk);
    disk.remove(FileName::Manifest).unwrap();
    let (salvaged, found) = salvage(&disk, false);
    assert!(!salvaged.is_whole() && salvaged.doubtful.count() > 50, "{salvaged}");
    // What is proven without it: commits of the log.
    assert!(found.len() < expected.len(), "{salvaged}");
    let (salvaged, found) = salvage(&disk, true);
    let missing: Vec<_> = expected.keys().filter(|object| !found.contains_key(*object)).collect();
    assert!(missing.is_empty(), "{missing:?} {salvaged}");
    let differ: Vec<_> =
        expected.iter().filter(|(object, lines)| found.get(*object) != Some(*lines)).collect();
    assert!(differ.is_empty(), "{:?} {salvaged}", differ[0]);
}

#[test]
fn namespaces_that_are_lost_are_taken_from_whoever_knows_them_if_names_prove_it() {
    let disk = world::store(1);
    let expected = world::content(&disk);
    // A manifest that does not list them.
    let mut manifest = dostore::manifest::read(&disk).unwrap().unwrap();
    manifest.namespaces.clear();
    dostore::manifest::write(&disk, &manifest).unwrap();
    let told = SalvageOptions::new().namespace(1, "rooms", None).namespace(3, "alarms", None);
    let wrong = told.clone().namespace(2, "users", None);
    let store = world::open(&SimDisk::new(31));
    assert_eq!(store.salvage_on(disk.clone(), &wrong).unwrap_err().code(), "salvage.namespace");
    let right = told.namespace(2, "users", Some("a key of their own"));
    let salvaged = store.salvage_on(disk, &right).unwrap();
    assert_eq!(salvaged.namespaces, 3, "{salvaged}");
    let mut stream = Vec::new();
    store.export(Form::Text, &mut stream).unwrap();
    let found = world::lines(&stream);
    let same = expected.iter().filter(|(object, lines)| found.get(*object) == Some(*lines));
    assert!(same.count() > 40, "{salvaged}");
}

#[test]
fn a_log_from_the_first_commit_on_replaces_everything_else() {
    let disk = SimDisk::new(12);
    let store = world::open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    for number in 0..20 {
        let mut room = rooms.open_by_name(&format!("room {number}")).unwrap();
        room.put("k", vec![number; 50]).unwrap().wait().unwrap();
    }
    let disk = disk.kill();
    drop((rooms, store));
    let expected = world::content(&disk);
    disk.remove(FileName::Manifest).unwrap();
    let (salvaged, found) = salvage(&disk, false);
    assert!(salvaged.is_whole() && found == expected, "{salvaged}");
}

#[test]
fn a_store_that_is_open_and_a_target_that_holds_something_are_refused() {
    let disk = SimDisk::new(5);
    let store = world::open(&disk);
    store.namespace("rooms").unwrap();
    let fresh = SimDisk::new(6);
    let target = world::open(&fresh);
    let error = target.salvage_on(disk.clone(), &SalvageOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    drop(store);
    target.namespace("own").unwrap();
    let error = target.salvage_on(disk.kill(), &SalvageOptions::new()).unwrap_err();
    assert_eq!(error.code(), "salvage.target");
    let error = world::open(&SimDisk::new(7)).salvage_on(SimDisk::new(8), &SalvageOptions::new());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}

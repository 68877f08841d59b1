//! Files that are cut, missing or of another store, for every kind of file: verification names the
//! bytes and the objects that are lost with them, and salvage gives all others.

use crate::layout::{Layout, Unit};
use crate::salvage::{check_part, ids, salvage, told};
use crate::world::{self, Chance, Content};
use dostore::disk::Disk;
use dostore::disk::sim::SimDisk;
use dostore::ids::Address;
use dostore::inspect::{Report, Scope, Verdict, verify};
use dostore::names::FileName;
use dostore::store::reader::Reader;
use std::collections::{BTreeMap, BTreeSet};

type Objects = BTreeSet<Address>;

/// A store, what is in it, and another store.
struct World {
    disk: SimDisk,
    layout: Layout,
    expected: Content,
    ids: BTreeMap<Address, (String, String)>,
    other: SimDisk,
}

impl World {
    fn new() -> Self {
        let disk = world::store(1);
        let (layout, expected) = (Layout::of(&disk), world::content(&disk));
        let ids = ids(&disk, &expected);
        Self { disk, layout, expected, ids, other: world::store(2) }
    }

    fn without(&self, file: FileName) -> SimDisk {
        let missing = self.disk.fork();
        missing.remove(file).unwrap();
        missing
    }

    fn cut(&self, file: FileName, length: u64) -> SimDisk {
        let short = self.disk.fork();
        let bytes = self.disk.file_bytes(file).unwrap();
        short.replace_file_bytes(file, bytes[..length as usize].to_vec());
        short
    }

    /// With a file of the same kind of the other store in its place.
    fn with_foreign(&self, file: FileName) -> SimDisk {
        let is_kind = |name: &FileName| {
            name.folder() == file.folder() && name.number().is_some() == file.number().is_some()
        };
        let from = match file {
            FileName::Manifest => file,
            _ => self.other.names().into_iter().rfind(is_kind).unwrap(),
        };
        let foreign = self.disk.fork();
        foreign.replace_file_bytes(file, self.other.file_bytes(from).unwrap());
        foreign
    }

    /// What a file has lost from a byte on is told, and nothing of any other file.
    #[track_caller]
    fn check_file(&self, damaged: &SimDisk, (file, kind): (FileName, &str), from: u64) {
        let report = verify(damaged.clone());
        let about = format!("{file} from {from}: {report}");
        let here = |place: &str| place == file.to_string();
        assert!(report.faults.iter().any(|fault| here(&fault.place.file)), "{about}");
        let elsewhere = report.faults.iter().find(|fault| !here(&fault.place.file));
        assert!(kind == "log" || elsewhere.is_none(), "{elsewhere:?}: {about}");
        let length = self.disk.file_bytes(file).unwrap().len() as u64;
        let reaches = |fault: &dostore::inspect::Fault| fault.place.offset + fault.bytes >= length;
        assert!(kind == "log" || report.faults.iter().any(reaches), "{about}");
        if kind != "log" {
            self.check_objects(&report, (file, kind), from, &about);
        }
        self.check_salvage(damaged, &report);
    }

    /// The objects that are named: of a segment exactly those of its lost pages; of a run each that
    /// has lost entries, and none that a newer run answers for.
    #[track_caller]
    fn check_objects(
        &self,
        report: &Report,
        (file, kind): (FileName, &str),
        from: u64,
        about: &str,
    ) {
        let units = self.layout.units.iter();
        let lost = units.filter(|unit| unit.file == file && unit.range.end > from);
        let (mut live, mut past) = (Objects::new(), Objects::new());
        for Unit { scope, objects, .. } in lost {
            match scope {
                Some(Scope::Live) => live.extend(objects),
                Some(Scope::History) => past.extend(objects),
                _ => {}
            }
        }
        let named = report.objects(Scope::Live);
        match kind {
            "segment" => assert_eq!(named, live, "{about}"),
            "directory" | "names" => {
                let may = self.layout.unanswered(file, kind);
                assert!(named.is_superset(&live) && named.is_subset(&may), "{about}");
            }
            _ => assert!(named.is_empty() && live.is_empty(), "{about}"),
        }
        let named = report.objects(Scope::History);
        match &report.gone[..] {
            [] => assert!(named.is_superset(&past), "{about}"),
            // Of one that is lost whole: its span, whoever committed last in it, and nobody who did
            // not commit in it.
            [gone] => {
                assert_eq!(gone.file, self.layout.history(file), "{about}");
                assert_eq!(gone.named, named.len() as u64, "{about}");
                let last = self.layout.last_in(&gone.file);
                let own = self.layout.units.iter().filter(|unit| unit.file == file);
                let past: Objects = own.flat_map(|unit| unit.objects.iter().copied()).collect();
                assert!(named.is_superset(&last) && named.is_subset(&past), "{about}");
                let left = past.difference(&named).count() as u64;
                assert!(gone.perhaps >= left, "{left} may have lost commits: {about}");
            }
            _ => panic!("{about}"),
        }
        assert!(kind == "history" || named.is_empty() && report.gone.is_empty(), "{about}");
        assert!(kind != "history" || report.verdict() == Verdict::DamagedHistory, "{about}");
    }

    /// Each object is as it was, or is told.
    #[track_caller]
    fn check_salvage(&self, disk: &SimDisk, report: &Report) {
        let (layout, expected) = (&self.layout, &self.expected);
        let (salvaged, found) = salvage(disk, false);
        let in_log = layout.units.iter().filter(|unit| unit.kind == "log");
        let in_log: Objects = in_log.flat_map(|unit| unit.objects.iter().copied()).collect();
        let told = told(&salvaged);
        for (address, object) in &self.ids {
            if found.get(object) == expected.get(object) {
                continue;
            }
            let is_behind = salvaged.log_damage.is_some() && in_log.contains(address);
            assert!(told.contains(address) || is_behind, "{object:?} is not told: {salvaged}");
            assert!(!report.is_clean(), "{report}\n{salvaged}");
            if !is_behind {
                check_part(&found, expected, object, &salvaged.to_string());
            }
        }
        // As of an earlier commit there may be objects that were deleted later.
        let later = found.keys().filter(|object| !expected.contains_key(*object)).count();
        assert!(later == 0 || salvaged.log_damage.is_some(), "{later} are too many: {salvaged}");
        world::read_all(disk, expected);
    }
}

#[test]
fn cut_missing_and_foreign_files_are_told_and_everything_else_is_salvaged() {
    let world = World::new();
    let mut chance = Chance(5);
    for kind in crate::KINDS.into_iter().filter(|kind| !["manifest", "pool"].contains(kind)) {
        for file in world.layout.files(kind) {
            let bytes = world.disk.file_bytes(file).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
            for _ in 0..crate::flips().div_ceil(40) {
                let from = 1 + chance.below(used - 1);
                world.check_file(&world.cut(file, from), (file, kind), from);
            }
            // That the newest file of the log is gone shows nowhere, for nothing names it yet: not
            // where it is empty either, or one that was never used stands in its place.
            let is_newest = kind == "log" && world.layout.files("log").last() == Some(&file);
            if !is_newest {
                world.check_file(&world.without(file), (file, kind), 0);
                world.check_file(&world.with_foreign(file), (file, kind), 0);
                world.check_file(&world.cut(file, 0), (file, kind), 0);
            }
        }
    }
}

#[test]
fn a_newest_file_of_the_log_that_was_cut_short_is_told_with_the_bytes_that_it_lost() {
    let world = World::new();
    let file = *world.layout.files("log").last().unwrap();
    let bytes = world.disk.file_bytes(file).unwrap();
    let (length, used) = (bytes.len() as u64, bytes.iter().rposition(|byte| *byte != 0).unwrap());
    let used = (used as u64).next_multiple_of(4096);
    let groups = world.layout.units.iter().filter(|unit| unit.file == file);
    let borders = groups.map(|unit| unit.range.start).filter(|at| (4096..used).contains(at));
    // Inside the header, at the first group, at each border, behind the last one, at the end.
    let cuts = [1, 100, 143, 144, 2048, 4095, 4096, used, used + 1, length - 1];
    for left in cuts.into_iter().chain(borders) {
        let damaged = world.cut(file, left);
        let error = world::options().open_on(damaged.fork()).unwrap_err();
        let place = error.place().unwrap();
        let at = (&*place.file, place.offset);
        assert_eq!((error.code(), at), ("log.short", (&*file.to_string(), left)), "{error}");
        let error = Reader::open_on(damaged.clone()).unwrap_err();
        assert_eq!(error.code(), "log.short", "{left} are left: {error}");
        world.check_file(&damaged, (file, "log"), left);
        let span = if left < 144 { (0, left) } else { (left, length) };
        let span = (file.to_string(), span.0, span.1);
        assert!(crate::spans(&verify(damaged)).contains(&span), "{left} are left");
    }
    // One of another store that was used.
    let is_log = |name: &FileName| matches!(name, FileName::Wal(_));
    let used = world.other.names().into_iter().find(is_log).unwrap();
    let foreign = world.disk.fork();
    foreign.replace_file_bytes(file, world.other.file_bytes(used).unwrap());
    world.check_file(&foreign, (file, "log"), 0);
}

#[test]
fn a_manifest_that_is_cut_missing_or_foreign_is_told_and_hides_nothing() {
    let world = World::new();
    let file = FileName::Manifest;
    let length = world.disk.file_bytes(file).unwrap().len() as u64;
    let cuts = [0, 1, length / 2, length - 1].map(|length| world.cut(file, length));
    for damaged in cuts.into_iter().chain([world.without(file), world.with_foreign(file)]) {
        let report = verify(damaged.clone());
        let places: Vec<_> = report.faults.iter().map(|fault| &*fault.place.file).collect();
        assert_eq!((places, report.verdict()), (vec!["MANIFEST"], Verdict::Damaged), "{report}");
        assert!(world::read_all(&damaged, &world.expected).is_none(), "{report}");
        let (salvaged, found) = salvage(&damaged, true);
        assert!(!salvaged.is_whole() && found == world.expected, "{salvaged}");
    }
}

#[test]
fn a_file_that_stands_ready_may_be_cut_missing_or_foreign_and_nobody_has_lost_anything() {
    let world = World::new();
    let file = world.layout.files("pool")[0];
    let damages = [world.cut(file, 0), world.cut(file, 5000), world.without(file)];
    for damaged in damages.into_iter().chain([world.with_foreign(file)]) {
        let report = verify(damaged.clone());
        let here = |fault: &dostore::inspect::Fault| fault.place.file == file.to_string();
        let spare = |fault: &dostore::inspect::Fault| fault.scope == Scope::Spare;
        assert!(report.faults.iter().all(|fault| here(fault) && spare(fault)), "{report}");
        let (salvaged, found) = salvage(&damaged, false);
        assert!(salvaged.is_whole() && found == world.expected, "{salvaged}");
    }
}

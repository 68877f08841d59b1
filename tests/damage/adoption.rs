//! Damage of pages that an object has adopted and no checkpoint covers yet: only the log names
//! them.

use crate::world::{self, Content};
use dostore::disk::Disk;
use dostore::disk::sim::SimDisk;
use dostore::ids::FileNumber;
use dostore::inspect::{Report, Scope, Verdict, verify};
use dostore::names::FileName;
use dostore::store::transfer::{Form, SalvageOptions};
use std::collections::BTreeSet;

const KEYS: u32 = 400;

/// A store whose last commit restores `rooms/hall` to many keys; and what it held right before.
fn store() -> (SimDisk, Content, BTreeSet<FileName>) {
    let disk = SimDisk::new(9);
    let store = world::options().adopt_operations(0).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut hall = rooms.open_by_name("hall").unwrap();
    let mut turn = hall.turn();
    for key in 0..KEYS {
        turn.put(format!("{key:04}"), format!("value {}", key * key)).unwrap();
    }
    let commit = turn.commit().unwrap();
    let many = commit.bookmark();
    commit.wait().unwrap();
    rooms.open_by_name("cellar").unwrap().put("k", "v").unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    let mut turn = hall.turn();
    turn.delete_all().unwrap().put("only", "this").unwrap();
    turn.commit_durable().unwrap();
    store.steps().checkpoint().unwrap();
    let before = world::content(&disk);
    let known: BTreeSet<_> = disk.names().into_iter().collect();
    hall.restore(&many).unwrap().commit.wait().unwrap();
    store.steps().write_mark().unwrap();
    let disk = disk.kill();
    drop((hall, rooms, store));
    let adopted = disk.names().into_iter().filter(|name| !known.contains(name));
    let is_content = |name: &FileName| matches!(name, FileName::Segment(_) | FileName::Run(_));
    let adopted = adopted.filter(is_content).collect();
    (disk, before, adopted)
}

/// That the hall is told to be hurt there, and nothing else is.
#[track_caller]
fn check(report: &Report, file: FileName) {
    assert_eq!(report.verdict(), Verdict::Damaged, "{report}");
    assert_eq!(report.objects(Scope::Live).len(), 1, "{report}");
    for fault in &report.faults {
        assert!(fault.place.file == file.to_string(), "{report}");
        assert!(fault.object.is_some() || fault.scope == Scope::Spare, "{report}");
    }
}

#[test]
fn pages_that_only_the_log_names_are_verified() {
    let (disk, _, adopted) = store();
    let report = verify(disk.clone());
    assert!(report.is_clean() && report.notes.is_empty(), "{report}");
    assert!(adopted.len() >= 2, "{adopted:?}");
    for file in adopted {
        let missing = disk.fork();
        missing.remove(file).unwrap();
        check(&verify(missing), file);
        let bytes = disk.file_bytes(file).unwrap().len() as u64;
        for byte in (4100..bytes - 200).step_by(97) {
            let flipped = disk.fork();
            flipped.flip_bit(file, byte * 8 + 3).unwrap();
            let report = verify(flipped);
            check(&report, file);
            let is_page = matches!(file, FileName::Segment(_));
            let is_whole = report.faults.iter().all(|fault| fault.keys.is_none());
            assert!(!is_page || !is_whole, "byte {byte}: {report}");
        }
    }
}

#[test]
fn salvage_gives_the_object_as_it_was_before_it_adopted_and_says_so() {
    let (disk, before, adopted) = store();
    assert!(adopted.iter().all(|name| name.number() > Some(FileNumber(0))));
    let target = world::open(&SimDisk::new(10));
    let salvaged = target.salvage_on(disk.clone(), &SalvageOptions::new()).unwrap();
    assert!(!salvaged.is_whole() && salvaged.lost.count() == 1, "{salvaged}");
    let loss = &salvaged.lost.kept[0];
    assert!(loss.called == "rooms/hall" && loss.what.contains("restoration"), "{salvaged}");
    let mut stream = Vec::new();
    target.export(Form::Text, &mut stream).unwrap();
    assert!(world::lines(&stream) == before, "{salvaged}");
    // The store itself opens, and has what was restored.
    let keys = world::content(&disk).into_values().map(|lines| lines.len()).max();
    assert!(keys > Some(KEYS as usize), "{keys:?}");
}

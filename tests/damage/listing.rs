//! Listings over a directory of which one block is lost: every object that it does not concern is
//! listed, restored and dumped, and the loss is told in its place.

use crate::layout::{Layout, Unit};
use crate::world;
use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::error::{ErrorKind, Result};
use dostore::ids::{Address, ObjectId};
use dostore::store::Store;
use dostore::store::namespace::Namespace;
use dostore::store::objects::ObjectInfo;
use dostore::store::reader::Reader;
use dostore::store::restore::RestoreOptions;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More than two pages of heads, and as many blocks.
const OBJECTS: usize = 600;

type Ids = BTreeSet<[u8; 16]>;

fn half(id: ObjectId) -> [u8; 16] {
    *id.as_bytes().first_chunk().unwrap()
}

fn fill(rooms: &Namespace, round: u8) {
    for number in 0..OBJECTS {
        let mut room = rooms.open_by_name(&format!("room {number}")).unwrap();
        room.put("k", vec![round; 8]).unwrap().detach();
    }
}

/// A closed store with many small objects and a large one, and a time before the last change of
/// each.
fn many() -> (SimDisk, SystemTime) {
    let disk = SimDisk::new(41);
    let store = world::open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    fill(&rooms, 1);
    let mut large = rooms.open_by_name("large").unwrap();
    let mut turn = large.turn();
    for key in 0..1500_u32 {
        turn.put(format!("key {key:05}"), vec![key as u8; 300]).unwrap();
    }
    turn.commit().unwrap().detach();
    drop(large);
    store.steps().checkpoint().unwrap();
    let time = UNIX_EPOCH + Duration::from_micros(disk.clock().wall_micros());
    disk.advance(Duration::from_secs(100));
    fill(&rooms, 2);
    store.steps().checkpoint().unwrap();
    while store.steps().merge().unwrap() {}
    drop(rooms);
    store.close().unwrap();
    (disk.kill(), time + Duration::from_secs(1))
}

/// Lists, and says what was listed and how many errors stood between.
#[track_caller]
fn list(objects: impl Iterator<Item = Result<ObjectInfo>>) -> (Ids, usize) {
    let (mut listed, mut errors, mut last) = (Ids::new(), 0, None);
    for object in objects {
        match object {
            Ok(info) => {
                assert!(last < Some(half(info.id)), "in order, and each once");
                last = Some(half(info.id));
                listed.insert(half(info.id));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                errors += 1;
            }
        }
    }
    (listed, errors)
}

fn halves(objects: &BTreeSet<Address>) -> Ids {
    objects.iter().map(|address| address.id.0).collect()
}

fn blocks(layout: &Layout) -> impl Iterator<Item = &Unit> {
    // What has no object is no block of entries.
    layout.units.iter().filter(|unit| unit.kind == "directory" && !unit.objects.is_empty())
}

fn damaged(disk: &SimDisk, unit: &Unit) -> SimDisk {
    let damaged = disk.fork();
    damaged.flip_bit(unit.file, (unit.range.start + 9) * 8).unwrap();
    damaged
}

fn open(disk: &SimDisk) -> (Store, Namespace) {
    let store = world::open(disk);
    let rooms = store.namespace("rooms").unwrap();
    (store, rooms)
}

#[test]
fn a_lost_block_of_the_directory_hides_no_object_that_it_does_not_concern() {
    let (disk, _) = many();
    let layout = Layout::of(&disk);
    let (store, rooms) = open(&disk);
    let (all, errors) = list(rooms.objects());
    assert_eq!((all.len(), errors), (OBJECTS + 1, 0));
    drop((store, rooms));
    let (mut seen, mut of_one) = (0, 0);
    for unit in blocks(&layout).skip(1).step_by(2) {
        let damaged = damaged(&disk, unit);
        let hidden = halves(&unit.objects);
        let (store, rooms) = open(&damaged);
        let reader = Reader::open_on(damaged.clone()).unwrap();
        let shown = reader.namespace("rooms").unwrap();
        for (listed, errors) in [list(rooms.objects()), list(shown.objects())] {
            let missing: Ids = all.difference(&listed).copied().collect();
            assert!(missing.is_subset(&hidden), "{unit:?}: {missing:?} are not shown");
            assert!(errors > 0 || missing.is_empty(), "{unit:?}: {missing:?}, and no error");
            assert!(errors <= 1, "{unit:?}: told {errors} times");
            // A block of nothing but pages of the large object hides no head.
            of_one += usize::from(errors == 0);
        }
        // From any object on, and as of a time.
        let from = all.iter().nth(seen * 97 % all.len()).unwrap();
        let id = rooms.objects().flatten().map(|info| info.id).find(|id| half(*id) >= *from);
        let rest =
            |ids: &Ids| ids.iter().filter(|it| id.is_some_and(|id| **it >= half(id))).count();
        if let Some(id) = id {
            let (listed, _) = list(rooms.objects_from(id).unwrap());
            let good = all.difference(&hidden).copied().collect();
            assert!(rest(&good) <= listed.len() && listed.len() <= rest(&all), "{unit:?}");
        }
        let now = UNIX_EPOCH + Duration::from_micros(damaged.clock().wall_micros());
        let then = shown.objects_at(reader_first(&shown), now).unwrap();
        assert!(all.difference(&list(then).0).all(|half| hidden.contains(half)), "{unit:?}");
        drop((store, rooms));
        seen += 1;
    }
    assert!(seen > 4 && of_one > 0, "{seen} blocks, {of_one} of one object");
}

fn reader_first(shown: &dostore::store::reader::ReaderNamespace) -> ObjectId {
    shown.objects().flatten().next().unwrap().id
}

#[test]
fn a_restoration_of_all_goes_on_behind_a_lost_block_of_the_directory() {
    let (disk, time) = many();
    let layout = Layout::of(&disk);
    for unit in blocks(&layout).step_by(3) {
        let damaged = damaged(&disk, unit);
        let hidden = halves(&unit.objects);
        let (store, rooms) = open(&damaged);
        let (mut restored, mut errors) = (Ids::new(), 0);
        let mut all = rooms.restore_all(time, RestoreOptions::new());
        for next in all.by_ref() {
            match next {
                Ok(object) if object.restored.is_ok() => drop(restored.insert(half(object.id))),
                Ok(object) => assert!(hidden.contains(&half(object.id)), "{object:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    errors += 1;
                }
            }
        }
        for number in 0..OBJECTS {
            let id = rooms.id_from_name(&format!("room {number}"));
            if hidden.contains(&half(id)) {
                continue;
            }
            assert!(restored.contains(&half(id)), "room {number}: {errors} errors, {unit:?}");
            let then = rooms.snapshot(id).unwrap().get("k").unwrap().unwrap();
            assert_eq!(&then[..], &[1; 8][..]);
        }
        drop((all, store, rooms));
    }
}

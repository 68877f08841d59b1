//! Alarms of objects whose pages are damaged.

use super::{World, at, named};
use dostore::disk::sim::{Damage, SimDisk};
use dostore::error::ErrorKind;
use dostore::format::run::RunUse;
use dostore::manifest;
use dostore::names::FileName;

/// Flips a bit of the page that holds this text.
fn damage_page_with(disk: &SimDisk, text: &str) {
    let is_segment = |name: &FileName| matches!(name, FileName::Segment(_));
    for name in disk.names().into_iter().filter(is_segment) {
        let bytes = disk.file_bytes(name).unwrap();
        let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(at) = found {
            return disk.flip_bit(name, at as u64 * 8).unwrap();
        }
    }
    panic!("no page holds {text}");
}

#[test]
fn an_alarm_in_a_damaged_page_is_an_error_each_minute_and_holds_up_no_other() {
    let world = World::new(26);
    for name in ["left", "hit", "right"] {
        let mut object = world.rooms.open_by_name(name).unwrap();
        object.put("text", name.repeat(40)).unwrap().wait().unwrap();
        drop(object);
        world.set(name, Some("n"), 10);
    }
    let World { disk, store, rooms, alarms } = world;
    drop((rooms, alarms));
    store.close().unwrap();
    damage_page_with(&disk, "hithithit");
    let world = World::open(disk);
    world.pass(20);
    let (mut errors, mut fired) = (0, Vec::new());
    loop {
        match world.alarms.try_next() {
            Ok(None) => break,
            Ok(Some(firing)) => {
                fired.push(firing.object_name().unwrap().unwrap());
                world.complete(firing);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                errors += 1;
            }
        }
    }
    fired.sort();
    assert_eq!((errors, fired), (1, vec!["left".to_owned(), "right".to_owned()]));
    for _ in 0..3 {
        world.pass(59);
        assert!(world.alarms.try_next().unwrap().is_none(), "not before its minute");
        world.pass(1);
        assert_eq!(world.alarms.try_next().unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

/// The hint is lost, and of the object that has the alarm a sector is not given for a while.
#[test]
fn an_alarm_without_a_hint_whose_object_is_out_of_reach_fires_once_it_is_not() {
    let world = World::new(27);
    world.set("room", Some("n"), 10);
    let World { disk, store, rooms, alarms } = world;
    drop((rooms, alarms));
    store.close().unwrap();
    let live = manifest::read(&disk).unwrap().unwrap();
    let hints = live.runs.iter().find(|run| run.usage == RunUse::Alarms).unwrap();
    disk.damage(FileName::Run(hints.number), Damage::FlipBit((4_096 + 9) * 8)).unwrap();
    let pages = FileName::Segment(live.segments[0].facts.number);
    let sector = 4_096 / 512;
    disk.damage(pages, Damage::Unreadable(sector)).unwrap();
    let world = World::open(disk);
    world.pass(30);
    for _ in 0..3 {
        assert!(world.fired().is_none(), "nobody can know of it");
        let next = world.alarms.next_due().unwrap().expect("it is looked for again");
        assert!(next > at(30), "{next}: not all the time");
        world.pass(5);
    }
    world.disk.damage(pages, Damage::Readable(sector)).unwrap();
    world.pass(5);
    assert_eq!(world.drain(), [named("room", "n")]);
    world.pass(100);
    assert!(world.fired().is_none() && world.alarms.next_due().unwrap().is_none());
}

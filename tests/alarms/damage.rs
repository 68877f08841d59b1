//! Alarms of objects whose pages are damaged.

use super::World;
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
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

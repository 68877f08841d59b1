//! Salvage of objects whose import was under way at the last checkpoint.

use crate::salvage::salvage;
use crate::world;
use dostore::disk::sim::SimDisk;
use dostore::limits::Limits;
use dostore::store::Store;
use dostore::store::transfer::{Existing, Form, ImportOptions};
use std::io::Read;

/// What the log says of the object behind the checkpoint in the middle of its import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    Completed,
    Deleted,
    ImportedAnew,
    RestoredToNothing,
}

fn open(disk: &SimDisk) -> Store {
    // An import of the object takes several commits.
    let limits = Limits { commit_operations: 11, ..Limits::default() };
    world::options().limits(limits).open_on(disk.clone()).unwrap()
}

/// An export of one object with these keys.
fn stream(keys: usize) -> Vec<u8> {
    let store = world::open(&SimDisk::new(1));
    let rooms = store.namespace("rooms").unwrap();
    let mut object = rooms.open_by_name("loaded").unwrap();
    let mut turn = object.turn();
    for key in 0..keys {
        turn.put(format!("{key:04}"), format!("value {key} {}", "-".repeat(300))).unwrap();
    }
    turn.commit_durable().unwrap();
    drop(object);
    let mut stream = Vec::new();
    store.export(Form::Text, &mut stream).unwrap();
    stream
}

/// A stream in whose middle something happens.
struct Halfway<'a, F: FnMut()> {
    rest: &'a [u8],
    half: usize,
    then: Option<F>,
}

impl<F: FnMut()> Read for Halfway<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.rest.len() <= self.half
            && let Some(mut then) = self.then.take()
        {
            then();
        }
        let most = buffer.len().min(512);
        let read = self.rest.read(&mut buffer[..most])?;
        Ok(read)
    }
}

fn store(then: Then) -> SimDisk {
    let disk = SimDisk::new(40);
    let store = open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    rooms.open_by_name("other").unwrap().put("k", "v").unwrap().wait().unwrap();
    let time = std::time::UNIX_EPOCH
        + std::time::Duration::from_micros(dostore::disk::ReadDisk::clock(&disk).wall_micros());
    disk.advance(std::time::Duration::from_secs(5));
    let (stream, replace) = (stream(60), ImportOptions::new().existing(Existing::Replace));
    let whole = if then == Then::Completed { &stream[..] } else { &stream[..stream.len() * 3 / 4] };
    let checkpoint = || assert!(store.steps().checkpoint().unwrap());
    let half = whole.len() / 2;
    let imported = store.import(Halfway { rest: whole, half, then: Some(checkpoint) }, replace);
    assert_eq!(imported.is_ok(), then == Then::Completed, "{imported:?}");
    let id = rooms.id_from_name("loaded");
    match then {
        Then::Nothing | Then::Completed => {}
        Then::Deleted => drop(rooms.delete(id).unwrap().wait().unwrap()),
        Then::ImportedAnew => drop(store.import(&self::stream(50)[..], replace).unwrap()),
        Then::RestoredToNothing => {
            for object in rooms.restore_all(time, dostore::store::restore::RestoreOptions::new()) {
                object.unwrap().restored.unwrap().commit.wait().unwrap();
            }
        }
    }
    if then != Then::Nothing {
        let mut object = rooms.open_by_name("loaded").unwrap();
        object.put("behind", "it").unwrap().wait().unwrap();
    }
    store.steps().write_mark().unwrap();
    let disk = disk.kill();
    drop((rooms, store));
    disk
}

#[test]
fn g28_an_import_under_way_at_the_checkpoint_is_what_the_log_made_of_it() {
    let all = [Then::Completed, Then::Deleted, Then::ImportedAnew, Then::RestoredToNothing];
    for then in all {
        let disk = store(then);
        let expected = world::content(&disk);
        let (salvaged, found) = salvage(&disk, false);
        assert!(salvaged.is_whole(), "{then:?}: {salvaged}");
        assert!(found == expected, "{then:?}: {salvaged}");
    }
    let (salvaged, found) = salvage(&store(Then::Nothing), false);
    assert!(!salvaged.is_whole() && salvaged.lost.count() == 1, "{salvaged}");
    assert_eq!(found.len(), 1, "the other one");
}

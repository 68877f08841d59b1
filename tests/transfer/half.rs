//! A half import, and the restoration of everything to a time.

use crate::exports::{KEYS, one_object};
use crate::world::{NAMESPACE, options};
use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::inspect::verify::verify;
use dostore::limits::Limits;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::restore::RestoreOptions;
use dostore::store::transfer::{Existing, Form, ImportOptions};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Commits of few operations: an import of the object takes several.
fn open(disk: &SimDisk, adopts: bool) -> Store {
    let limits = Limits { commit_operations: 11, ..Limits::default() };
    let options = options().limits(limits);
    let options = if adopts { options.adopt_operations(0) } else { options };
    options.open_on(disk.clone()).unwrap()
}

/// A time with nothing a minute before and after it.
fn pause(disk: &SimDisk) -> SystemTime {
    disk.advance(Duration::from_mins(1));
    let time = UNIX_EPOCH + Duration::from_micros(disk.clock().wall_micros());
    disk.advance(Duration::from_mins(1));
    time
}

fn keys(rooms: &Namespace, name: &str) -> Result<usize, &'static str> {
    let view = rooms.snapshot(rooms.id_from_name(name)).map_err(|error| error.code())?;
    Ok(view.list(ListOptions::new()).unwrap().count())
}

/// Restores all of a namespace; says how many objects were, and why others were not.
fn restore_all(rooms: &Namespace, time: SystemTime) -> (usize, Vec<&'static str>) {
    let (mut done, mut codes) = (0, Vec::new());
    for object in rooms.restore_all(time, RestoreOptions::new()) {
        match object.unwrap().restored {
            Ok(restored) => {
                restored.commit.wait().unwrap();
                done += 1;
            }
            Err(error) => codes.push(error.code()),
        }
    }
    (done, codes)
}

/// A store with an object of old content, or none, of which an import was cut off.
fn half(seed: u64, has_old: bool, adopts: bool) -> (SimDisk, Store, [SystemTime; 2]) {
    let disk = SimDisk::new(seed);
    let store = open(&disk, adopts);
    let rooms = store.namespace(NAMESPACE).unwrap();
    let put = |name: &str, value: &str| {
        rooms.open_by_name(name).unwrap().put("a", value).unwrap().wait().unwrap();
    };
    put("other", "1");
    if has_old {
        put("o", "old");
    }
    let before = pause(&disk);
    put("other", "2");
    let stream = one_object(Form::Text);
    let replace = ImportOptions::new().existing(Existing::Replace);
    store.import(&stream[..stream.len() * 3 / 4], replace).unwrap_err();
    let amid = pause(&disk);
    assert_eq!(keys(&rooms, "o"), Err("object.unfinished"));
    (disk, store, [before, amid])
}

#[test]
fn everything_restored_to_before_a_half_import_is_as_it_was() {
    for (has_old, adopts) in [(false, false), (false, true), (true, false), (true, true)] {
        for is_published in [false, true] {
            let (disk, store, [before, amid]) = half(2, has_old, adopts);
            let told = format!("{has_old} {adopts} {is_published}");
            if is_published {
                store.steps().checkpoint().unwrap();
            }
            let rooms = store.namespace(NAMESPACE).unwrap();
            // To the time of the half import nothing changes: it is half still.
            assert_eq!(restore_all(&rooms, amid), (0, vec![]), "{told}");
            assert_eq!(restore_all(&rooms, before), (2, vec![]), "{told}");
            let old = usize::from(has_old);
            assert_eq!((keys(&rooms, "o"), keys(&rooms, "other")), (Ok(old), Ok(1)), "{told}");
            assert_eq!(restore_all(&rooms, before), (0, vec![]), "{told}");
            drop((rooms, store));
            let disk = disk.power_cut();
            let store = open(&disk, adopts);
            let rooms = store.namespace(NAMESPACE).unwrap();
            assert_eq!((keys(&rooms, "o"), keys(&rooms, "other")), (Ok(old), Ok(1)), "{told}");
            store.steps().checkpoint().unwrap();
            assert_eq!(keys(&rooms, "o"), Ok(old), "{told}");
            assert!(verify(disk).is_clean(), "{told}");
        }
    }
}

#[test]
fn nothing_becomes_half_of_an_object_again() {
    for adopts in [false, true] {
        let (disk, store, [before, amid]) = half(3, true, adopts);
        let rooms = store.namespace(NAMESPACE).unwrap();
        let replace = ImportOptions::new().existing(Existing::Replace);
        store.import(&*one_object(Form::Text), replace).unwrap();
        rooms.open_by_name("other").unwrap().put("b", "3").unwrap().wait().unwrap();
        assert_eq!((keys(&rooms, "o"), keys(&rooms, "other")), (Ok(KEYS), Ok(2)));
        // The others go on.
        assert_eq!(restore_all(&rooms, amid), (1, vec!["object.unfinished"]));
        assert_eq!((keys(&rooms, "o"), keys(&rooms, "other")), (Ok(KEYS), Ok(1)));
        assert_eq!(restore_all(&rooms, before), (2, vec![]));
        assert_eq!((keys(&rooms, "o"), keys(&rooms, "other")), (Ok(1), Ok(1)));
        store.steps().checkpoint().unwrap();
        assert!(verify(disk).is_clean());
    }
}

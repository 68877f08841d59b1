//! Savepoints whose turn is exchanged for another: safe code can do it, and must not hurt anybody.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::sim::SimDisk;
use dostore::store::Store;
use dostore::store::object::Object;

fn values(object: &Object) -> Vec<(Vec<u8>, usize)> {
    let all = object.list(dostore::store::list::ListOptions::new()).unwrap();
    all.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.len())).unwrap()).collect()
}

#[test]
fn a_savepoint_undoes_nothing_of_a_turn_that_it_was_not_made_in() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut x = rooms.open_by_name("x").unwrap();
    let mut y = rooms.open_by_name("y").unwrap();
    {
        let mut a = x.turn();
        a.put("k", "v").unwrap();
        let mut b = y.turn();
        b.put("key", vec![0; 100]).unwrap();
        let mut savepoint = a.savepoint();
        savepoint.put("in it", "").unwrap();
        std::mem::swap(&mut *savepoint, &mut b);
        drop(savepoint);
        a.commit().unwrap().wait().unwrap();
        b.commit().unwrap().wait().unwrap();
    }
    assert_eq!(values(&y), [(b"key".to_vec(), 100)]);
    assert_eq!(values(&x), [(b"in it".to_vec(), 0), (b"k".to_vec(), 1)]);
    drop((x, y, rooms, store));
    let store = Store::options().threads(false).open_on(disk.kill()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    assert_eq!(values(&rooms.open_by_name("y").unwrap()), [(b"key".to_vec(), 100)]);
}

#[test]
fn a_savepoint_that_an_outer_one_has_undone_undoes_nothing_when_its_turn_comes_back() {
    let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut x = rooms.open_by_name("x").unwrap();
    let mut y = rooms.open_by_name("y").unwrap();
    {
        let (mut a, mut b) = (x.turn(), y.turn());
        let mut of_a = a.savepoint();
        b.put("one", "1").unwrap();
        let mut of_b = b.savepoint();
        // The turn of y is in the place of the other, and has a savepoint more there.
        std::mem::swap(&mut *of_a, &mut *of_b);
        of_a.put("two", vec![0; 50]).unwrap();
        let mut inner = of_a.savepoint();
        std::mem::swap(&mut *inner, &mut *of_b);
        drop(of_b);
        b.put("three", vec![0; 200]).unwrap();
        std::mem::swap(&mut *inner, &mut b);
        drop(inner);
        drop(of_a);
        a.commit().unwrap().wait().unwrap();
        b.commit().unwrap().wait().unwrap();
    }
    assert_eq!(values(&y), [(b"one".to_vec(), 1), (b"three".to_vec(), 200)]);
    assert!(values(&x).is_empty());
}

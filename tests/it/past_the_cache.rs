//! Which files pass by the system's cache, and which stay there to be read.

use dostore::disk::sim::SimDisk;
use dostore::manifest;
use dostore::names::FileName;
use dostore::store::Store;
use std::time::Duration;

#[test]
fn the_log_and_history_need_no_room_in_the_cache_and_what_is_opened_does() {
    let disk = SimDisk::new(1);
    let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for round in 0..14_u8 {
        rooms.open_by_name("room").unwrap().put("key", [round; 500]).unwrap().wait().unwrap();
        store.steps().prepare_file().unwrap();
        assert!(store.steps().checkpoint().unwrap());
        while store.steps().merge().unwrap() {}
    }
    disk.advance(Duration::from_hours(1));
    assert!(store.steps().remove_retired().unwrap() > 0);
    let manifest = manifest::read(&disk).unwrap().unwrap();
    let history: Vec<_> = manifest.history.iter().map(|file| file.facts.number).collect();
    assert!((1..14).contains(&history.len()), "some are merged");
    let (past, through): (Vec<_>, Vec<_>) =
        disk.names().into_iter().partition(|name| disk.bypasses_cache(*name));
    let is_meant = |name: &FileName| match name {
        FileName::Wal(_) => true,
        FileName::Run(number) => history.contains(number),
        _ => false,
    };
    assert!(past.iter().all(is_meant), "{past:?}");
    assert!(!through.iter().any(is_meant), "{through:?}");
    assert!(through.iter().any(|name| matches!(name, FileName::Run(_))));
    assert!(through.iter().any(|name| matches!(name, FileName::Segment(_))));
}

//! A key range whose base comes back in the middle of a checkpoint that has given up its deltas:
//! what other objects have beside these deltas stays.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use super::interposed::{Interposed, Point};
use dostore::disk::sim::{Damage, SimDisk};
use dostore::inspect::verify::verify;
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use std::time::Duration;

const SECTOR_BYTES: usize = 512;
const KEYS: u32 = 60;
/// In the middle of a page that is neither the first nor the last.
const HIT: u32 = 24;
/// Deltas beside a page that cannot be read from which on they are joined.
const DELTAS: u32 = 8;

fn text(key: u32) -> String {
    format!("<{key:04}>").repeat(66)
}

/// The sector in the middle of a value, and its file.
fn sector_of(disk: &SimDisk, text: &str) -> (FileName, u64) {
    let is_segment = |name: &FileName| matches!(name, FileName::Segment(_));
    for name in disk.names().into_iter().filter(is_segment) {
        let bytes = disk.file_bytes(name).unwrap();
        let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(at) = found {
            return (name, ((at + text.len() / 2) / SECTOR_BYTES) as u64);
        }
    }
    panic!("no page holds {text}");
}

#[test]
fn deltas_are_given_up_once_though_their_base_comes_back_in_the_middle() {
    let disk = Interposed::new(SimDisk::new(1));
    let options = || {
        let options = Store::options().threads(false).page_bytes(4096).cache_bytes(0);
        options.retire_after(Duration::ZERO)
    };
    let store = options().open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    for key in 0..KEYS {
        lobby.put(format!("{key:04}"), text(key)).unwrap().detach();
    }
    store.steps().checkpoint().unwrap();
    let (file, sector) = sector_of(&disk.disk, &text(HIT));
    disk.disk.damage(file, Damage::Unreadable(sector)).unwrap();
    assert_eq!(lobby.get(format!("{HIT:04}")).unwrap_err().code(), "page.unreadable");
    for round in 0..DELTAS {
        let mut turn = lobby.turn();
        turn.put(format!("{HIT:04}"), format!("{round}")).unwrap();
        if round + 2 >= DELTAS {
            // Each of the pages behind it has two deltas, and is written anew when it changes next.
            for key in (HIT + 6..KEYS).step_by(6) {
                turn.put(format!("{key:04}"), format!("{round}")).unwrap();
            }
        }
        turn.commit().unwrap().detach();
        // Its page lies beside the delta.
        let mut other = rooms.open_by_name(&format!("other {round}")).unwrap();
        other.put("key", text(round)).unwrap().detach();
        assert!(store.steps().checkpoint().unwrap());
    }
    let mut turn = lobby.turn();
    turn.put(format!("{HIT:04}"), "last").unwrap();
    turn.delete_range(format!("{:04}", HIT + 1)..).unwrap();
    turn.commit_durable().unwrap();
    let healed = disk.disk.clone();
    disk.before_next(Point::CreateSegment, move |_| {
        healed.damage(file, Damage::Readable(sector)).unwrap();
    });
    assert!(store.steps().checkpoint().unwrap());
    drop((lobby, rooms));
    store.close().unwrap();

    let store = options().open_on(disk.clone()).unwrap();
    store.steps().remove_retired().unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for round in 0..DELTAS {
        let other = rooms.open_by_name(&format!("other {round}")).unwrap();
        assert_eq!(&*other.get("key").unwrap().unwrap(), text(round).as_bytes());
    }
    let lobby = rooms.open_by_name("lobby").unwrap();
    let entries: Vec<_> = lobby.list(ListOptions::new()).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), HIT as usize + 1);
    assert_eq!(&*entries[HIT as usize].1, b"last");
    drop((lobby, rooms));
    store.close().unwrap();
    let report = verify(disk.disk.clone());
    assert!(report.is_clean(), "{report}");
}

#[test]
fn one_change_in_several_pages_beside_a_page_that_comes_back_is_whole() {
    let disk = SimDisk::new(1);
    let options = Store::options().threads(false).page_bytes(4096).cache_bytes(0);
    let store = options.retire_after(Duration::ZERO).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    for key in 0..KEYS {
        lobby.put(format!("{key:04}"), text(key)).unwrap().detach();
    }
    store.steps().checkpoint().unwrap();
    let (file, sector) = sector_of(&disk, &text(HIT));
    disk.damage(file, Damage::Unreadable(sector)).unwrap();
    // More than one delta page holds.
    let large = vec![7; 700_000];
    for key in [HIT, HIT + 1] {
        lobby.put(format!("{key:04}"), &large).unwrap().detach();
    }
    store.steps().checkpoint().unwrap();
    let beside = verify(disk.clone());
    assert!(beside.faults.iter().any(|fault| fault.object.is_some()), "{beside}");
    disk.damage(file, Damage::Readable(sector)).unwrap();
    let report = verify(disk);
    assert!(report.is_clean(), "{report}");
    assert_eq!(*lobby.get(format!("{HIT:04}")).unwrap().unwrap(), *large);
}

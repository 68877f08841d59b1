//! The rate of background bytes, and commits that are held back: on the clock of a simulated disk.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::names::{FileName, Folder};
use dostore::store::{Options, Store};
use std::time::Duration;

const RATE: u64 = 64 << 10;
/// Each call to the disk takes a microsecond there, and more than a thousand are not made.
const CALLS: Duration = Duration::from_millis(1);

/// How long the disk's clock says that something took.
fn took(disk: &SimDisk, step: impl FnOnce()) -> Duration {
    let before = disk.clock().uptime();
    step();
    disk.clock().uptime().saturating_sub(before)
}

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(1 << 20).pool_files(0)
}

/// Puts so many MiB, a commit each, that nothing compresses.
fn fill(store: &Store, mebibytes: u8) {
    let mut room = store.namespace("rooms").unwrap().open_by_name("room").unwrap();
    let mut word = 1_u32;
    for key in 0..mebibytes {
        let mut next = || {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 24) as u8
        };
        let value: Vec<u8> = std::iter::repeat_with(&mut next).take(1 << 20).collect();
        room.put([key], value).unwrap().wait().unwrap();
    }
}

#[test]
fn a_checkpoint_takes_as_long_as_its_bytes_do_at_the_rate_and_faster_where_much_is_dirty() {
    let seconds = |dirty_bytes| {
        let disk = SimDisk::new(1);
        let limited = options().background_bytes_per_second(RATE).dirty_bytes(dirty_bytes);
        let store = limited.open_on(disk.clone()).unwrap();
        fill(&store, 4);
        let took = took(&disk, || assert!(store.steps().checkpoint().unwrap())).as_secs();
        let written = |name: &FileName| matches!(name.folder(), Folder::Segments | Folder::Runs);
        let written = disk.names().into_iter().filter(written);
        let bytes = written.map(|name| disk.file_bytes(name).unwrap().len() as u64).sum::<u64>();
        (took, bytes / RATE)
    };
    // The last piece is not waited for.
    let (alone, paid) = seconds(1 << 40);
    assert!((paid - (1 << 20) / RATE - 2..=paid).contains(&alone), "{alone} s for {paid} s");
    // Four times the rate where as much is dirty as may be.
    let (pressed, _) = seconds(4 << 20);
    assert!((alone / 6..alone / 3).contains(&pressed), "{pressed} s, and {alone} s");
    let disk = SimDisk::new(1);
    let store = options().open_on(disk.clone()).unwrap();
    fill(&store, 4);
    assert_eq!(took(&disk, || assert!(store.steps().checkpoint().unwrap())).as_secs(), 0);
}

#[test]
fn closing_and_dropping_a_store_wait_for_no_rate() {
    let disk = SimDisk::new(1);
    let limited = || options().background_bytes_per_second(RATE);
    let store = limited().open_on(disk.clone()).unwrap();
    fill(&store, 4);
    assert_eq!(took(&disk, || store.close().unwrap()).as_secs(), 0);
    let store = limited().threads(true).open_on(disk.clone()).unwrap();
    fill(&store, 4);
    // Time passes on this clock only for who waits.
    assert!(took(&disk, || drop(store)) < Duration::from_mins(1));
}

#[test]
fn commits_are_held_back_more_the_further_the_budget_is_passed_and_not_below_it() {
    let held = |dirty_bytes: usize| {
        let disk = SimDisk::new(1);
        let store = options().dirty_bytes(dirty_bytes).open_on(disk.clone()).unwrap();
        fill(&store, 2);
        let waits = took(&disk, || fill(&store, 1));
        // A checkpoint takes the pressure away.
        assert!(store.steps().checkpoint().unwrap());
        let mut room = store.namespace("rooms").unwrap().open_by_name("room").unwrap();
        let after = took(&disk, || assert!(room.put("small", "").unwrap().wait().is_ok()));
        assert!(after < CALLS, "{after:?} with {dirty_bytes}");
        waits
    };
    let [below, little, much] = [8 << 20, 5 << 19, 1 << 19].map(held);
    assert!(below < CALLS, "{below:?}");
    assert!(little > CALLS && little < much, "{little:?} {much:?}");
    assert!(much <= Duration::from_millis(400 * 4), "{much:?}");
}

//! Figures of a store while a checkpoint is under way.

use super::interposed::{Interposed, Point};
use dostore::disk::sim::SimDisk;
use dostore::store::Store;
use std::sync::mpsc;
use std::time::Duration;

/// Far more than all of it takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn figures_wait_for_no_checkpoint_and_add_up_after_it() {
    let disk = Interposed::new(SimDisk::new(1));
    let options = Store::options().threads(false).wal_file_bytes(64 << 10);
    let store = options.retire_after(Duration::from_hours(1)).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    for number in 0..3_u8 {
        for key in ["a", "b", "c", "d", "e"] {
            room.put(key, vec![number; 20_000]).unwrap().wait().unwrap();
        }
        let (tell, told) = mpsc::channel();
        let inner = store.clone();
        disk.before_next(Point::CreateRun, move |_| tell.send(inner.stats().unwrap()).unwrap());
        // Not scoped: figures that wait for ever must not keep the test from failing.
        let (checkpointing, (tell_done, done)) = (store.clone(), mpsc::channel());
        let checkpoint = move || tell_done.send(checkpointing.steps().checkpoint()).unwrap();
        std::thread::Builder::new().spawn(checkpoint).unwrap();
        let beside = told.recv_timeout(PATIENCE).expect("figures wait for a checkpoint");
        assert_eq!(beside.checkpoints, u64::from(number));
        assert!(done.recv_timeout(PATIENCE).unwrap().unwrap());
        let stats = store.stats().unwrap();
        let files = disk.disk.names().into_iter().filter_map(|name| disk.disk.file_bytes(name));
        assert_eq!(stats.disk_bytes(), files.map(|bytes| bytes.len() as u64).sum::<u64>());
        assert!(stats.retired_bytes > 0, "the log has left a file");
    }
}

//! A store on a simulated machine, without threads: what happens is what the test does.

use dostore::disk::sim::SimDisk;
use dostore::ids::ObjectId;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::{Options, Store};

/// Settings at their smallest, so that a few commits make files.
pub fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(0)
}

pub fn open(disk: &SimDisk) -> Store {
    options().open_on(disk.clone()).unwrap()
}

/// A machine, its store, and the namespace `rooms` in it.
pub struct Stage {
    pub disk: SimDisk,
    pub store: Store,
    pub rooms: Namespace,
}

impl Stage {
    pub fn new(seed: u64) -> Self {
        Self::on(SimDisk::new(seed))
    }

    pub fn on(disk: SimDisk) -> Self {
        let store = open(&disk);
        let rooms = store.namespace("rooms").unwrap();
        Self { disk, store, rooms }
    }

    /// The same machine after the power came back.
    pub fn power_cut(self) -> Self {
        Self::on(self.disk.power_cut())
    }

    pub fn id(&self, name: &str) -> ObjectId {
        self.rooms.id_from_name(name)
    }

    pub fn room(&self, name: &str) -> Object {
        self.rooms.open_by_name(name).unwrap()
    }
}

/// The code of the error that this must be.
#[track_caller]
pub fn code<T>(result: dostore::error::Result<T>) -> &'static str {
    result.err().expect("this must fail").code()
}

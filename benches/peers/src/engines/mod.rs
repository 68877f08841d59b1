//! The engines, each configured as its own documentation recommends for many small durable
//! commits, with the same budget for caches.

mod bare_log;
mod dostore;
mod dostore_large;
mod fjall;
pub mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
pub mod sqlite;
mod sqlite_files;
mod surrealkv;
mod window;

use crate::engine::Engine;
use crate::key_space::Usage;

/// Changes that an application puts into one commit at most where it groups them by hand: more
/// gain nothing, because a sync is then a small part of what a commit costs.
const BY_HAND: usize = 1_000;

/// How an engine is used that commits each change by itself.
const ONE_BY_ONE: Usage = Usage { group_max: 1, made_at_once: 1_000, makers: 1 };
const GROUPED: Usage = Usage { group_max: BY_HAND, ..ONE_BY_ONE };

/// All engines that were built, in the order in which they take turns.
pub fn all() -> &'static [&'static dyn Engine] {
    &[
        &dostore::Dostore::DEFAULT,
        &dostore::Dostore::KEPT_OPEN,
        &dostore::Dostore::WITHOUT_HISTORY,
        &bare_log::BareLog,
        &surrealkv::SurrealKv,
        #[cfg(feature = "rocksdb")]
        &rocksdb::RocksDb::DEFAULT,
        #[cfg(feature = "rocksdb")]
        &rocksdb::RocksDb::TUNED,
        #[cfg(feature = "rocksdb")]
        &rocksdb::RocksDb::BY_HAND,
        &fjall::Fjall { usage: ONE_BY_ONE },
        &fjall::Fjall { usage: GROUPED },
        &redb::Redb { usage: ONE_BY_ONE },
        &redb::Redb { usage: GROUPED },
        &lmdb::Lmdb { usage: ONE_BY_ONE },
        &lmdb::Lmdb { usage: GROUPED },
        &sqlite::OneFile { usage: ONE_BY_ONE },
        &sqlite::OneFile { usage: GROUPED },
        &sqlite_files::FilePerObject,
    ]
}

/// The engine of this name.
pub fn named(id: &str) -> Option<&'static dyn Engine> {
    all().iter().copied().find(|engine| engine.facts().id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Cell;
    use crate::engine::Load;
    use crate::recorder::Recorder;
    use crate::workload::{KEYS, Layout};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    #[test]
    fn no_two_engines_have_one_name() {
        let ids: BTreeSet<_> = all().iter().map(|engine| engine.facts().id).collect();
        assert_eq!(ids.len(), all().len());
    }

    #[test]
    fn every_engine_hands_out_the_alarms_that_were_set() {
        let cell = Cell::named("alarms-50").expect("a cell");
        let time = std::time::Duration::from_mins(1);
        let load = Load { objects: 50, in_flight: 8, makers: 2, time, layout: cell.layout };
        for engine in all().iter().filter(|engine| engine.facts().suits(&cell)) {
            let id = engine.facts().id;
            let folder = tempfile::tempdir().expect("a folder can be made");
            let peer = engine.open(&folder.path().join("store"), cell.layout);
            let peer = peer.unwrap_or_else(|error| panic!("{id}: {error}"));
            // A second time finds none of the first.
            for _ in 0..2 {
                let recorder = Arc::new(Recorder::new());
                let times = peer.alarms(&load, &recorder);
                let times = times.unwrap_or_else(|error| panic!("{id}: {error}"));
                assert_eq!((times.alarms, recorder.whole().commits), (50, 100), "{id}");
            }
            peer.close().unwrap_or_else(|error| panic!("{id}: {error}"));
        }
    }

    #[test]
    fn every_engine_holds_what_it_was_given_after_it_was_closed() {
        let cells = ["warm-50", "large-warm-50"].map(|name| Cell::named(name).expect("a cell"));
        let cases = all().iter().flat_map(|engine| cells.map(|cell| (engine, cell)));
        for (engine, cell) in cases.filter(|(engine, cell)| engine.facts().suits(cell)) {
            let id = engine.facts().id;
            let folder = tempfile::tempdir().expect("a folder can be made");
            let path = folder.path().join("store");
            let peer =
                engine.open(&path, cell.layout).unwrap_or_else(|error| panic!("{id}: {error}"));
            peer.create(0..50).unwrap_or_else(|error| panic!("{id}: {error}"));
            peer.close().unwrap_or_else(|error| panic!("{id}: {error}"));
            let peer =
                engine.open(&path, cell.layout).unwrap_or_else(|error| panic!("{id}: {error}"));
            for object in 0..50 {
                let bytes = peer.read(object).unwrap_or_else(|error| panic!("{id}: {error}"));
                assert_eq!(bytes, crate::workload::OBJECT_BYTES, "{id}");
            }
            if cell.layout == Layout::One {
                let keys = peer.scan().unwrap_or_else(|error| panic!("{id}: {error}"));
                assert_eq!(keys, 50 * KEYS as u64, "{id}");
            }
            peer.close().unwrap_or_else(|error| panic!("{id}: {error}"));
        }
    }
}

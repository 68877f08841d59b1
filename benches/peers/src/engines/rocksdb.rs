//! RocksDB: one column family for all objects; as it comes, tuned, and tuned with groups that the
//! application made.
//!
//! Invariants:
//!   * Tuning is what its wiki recommends: "Setup Options and Basic Tuning" for everything but
//!     the prefix filter, which is of "Prefix Seek", the log, of "WAL Performance", and writes of
//!     many threads, of "Pipelined Write".

use super::{GROUPED, ONE_BY_ONE};
use crate::Result;
use crate::engine::{Engine, Facts, Peer, Role};
use crate::key_space::{KeySpace, Shared, Usage};
use crate::workload::{CACHE_BYTES, Key, Layout, Value};
use rocksdb::{
    BlockBasedOptions, Cache, CompactionPri, DB, DBCompressionType, IteratorMode, Options,
    ReadOptions, SliceTransform, WriteBatch, WriteOptions,
};
use std::path::Path;

const PLACE_BYTES: usize = 8;

pub struct RocksDb {
    facts: Facts,
    is_tuned: bool,
    usage: Usage,
}

const FACTS: Facts = Facts {
    id: "rocksdb",
    title: "RocksDB",
    package: "librocksdb-sys",
    settings: "default options but for the cache",
    durability: "a write with `sync`",
    source: "https://github.com/facebook/rocksdb/wiki/Basic-Operations#synchronous-writes",
    family: "rocksdb",
    objects_max: u64::MAX,
    object_bytes: 1_800,
    has_file_for_each: false,
    role: Role::Blocking,
};

const TUNED: Facts = Facts {
    id: "rocksdb-tuned",
    title: "RocksDB, tuned",
    settings: "dynamic level sizes, blocks of 16 KiB, index and filters in the cache, filters of \
               10 bits over keys and objects, LZ4 and ZSTD at the bottom, a background job for \
               each processor, log files used again, pipelined writes",
    source: "https://github.com/facebook/rocksdb/wiki/Setup-Options-and-Basic-Tuning",
    family: "rocksdb-tuned",
    ..FACTS
};

impl RocksDb {
    pub const DEFAULT: Self = Self { facts: FACTS, is_tuned: false, usage: ONE_BY_ONE };
    pub const TUNED: Self = Self { facts: TUNED, is_tuned: true, usage: ONE_BY_ONE };
    pub const BY_HAND: Self = Self {
        facts: Facts {
            id: "rocksdb-by-hand",
            title: "RocksDB, tuned, grouped by hand",
            settings: "as RocksDB, tuned, up to 1,000 commits in one batch",
            role: Role::ByHand,
            ..TUNED
        },
        is_tuned: true,
        usage: GROUPED,
    };
}

impl Engine for RocksDb {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>> {
        let mut options = Options::default();
        options.create_if_missing(true);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
        if self.is_tuned {
            tune(&mut options, &mut blocks)?;
        }
        options.set_block_based_table_factory(&blocks);
        let database = DB::open(&options, folder)?;
        Ok(Box::new(Shared { space: Opened { database }, usage: self.usage, layout }))
    }
}

fn tune(options: &mut Options, blocks: &mut BlockBasedOptions) -> Result<()> {
    let processors = std::thread::available_parallelism()?.get();
    options.increase_parallelism(i32::try_from(processors)?);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_bytes_per_sync(1 << 20);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(PLACE_BYTES));
    options.set_memtable_prefix_bloom_ratio(0.02);
    options.set_compaction_pri(CompactionPri::MinOverlappingRatio);
    options.set_recycle_log_file_num(4);
    options.set_enable_pipelined_write(true);
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(6);
    blocks.set_bloom_filter(10.0, false);
    Ok(())
}

struct Opened {
    database: DB,
}

impl Opened {
    fn commit<V: AsRef<[u8]>>(
        &self,
        puts: impl Iterator<Item = (Key, V)>,
        is_synced: bool,
    ) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in puts {
            batch.put(key, value);
        }
        let mut options = WriteOptions::default();
        options.set_sync(is_synced);
        Ok(self.database.write_opt(batch, &options)?)
    }
}

impl KeySpace for Opened {
    fn write(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        self.commit(puts, true)
    }

    fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let mut batch = WriteBatch::default();
        keys.for_each(|key| batch.delete(key));
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.database.write_opt(batch, &options)?)
    }

    fn write_lazily(&self, puts: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        self.commit(puts, false)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }

    fn mark(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        self.commit(keys.map(|key| (key, b"")), true)
    }

    fn scan(&self, from: &Key, to: &Key, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(&from[..]);
        options.set_iterate_upper_bound(&to[..]);
        // Where all keys have one prefix, filters may say that a file has none of it.
        let is_one_prefix = from[..PLACE_BYTES] == to[..PLACE_BYTES];
        options.set_prefix_same_as_start(is_one_prefix);
        options.set_total_order_seek(!is_one_prefix);
        let mode = IteratorMode::From(from, rocksdb::Direction::Forward);
        for item in self.database.iterator_opt(mode, options) {
            let (key, value) = item?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.database.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }
}

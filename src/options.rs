//! How a store is opened. Checked once, at open; small settings are real settings.

use crate::error::{Error, Result};
use crate::limits::{
    BACKGROUND_RATE_MIN, COMMIT_OPERATIONS_MAX, DIRTY_BYTES_MAX, GROUP_ALIGNMENT, Limits,
    POOL_FILES_MAX, READER_THREADS_MAX, WAL_FILE_BYTES_MAX, WAL_FILE_BYTES_MIN,
};
use crate::retention::Retention;
use std::time::Duration;

/// Settings of a store, given by value and finished by `open`.
///
/// None of them is part of the format: each may change from one open to the next. One that is out
/// of its range fails the open, with `option` and its name as the code. The defaults are those of
/// [`Store::open`](crate::store::Store::open); `docs/operating.md` says what to size by them.
///
/// # Examples
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use dostore::retention::Retention;
/// use dostore::store::Store;
///
/// let store = Store::options()
///     .dirty_bytes(32 << 20)
///     .cache_bytes(16 << 20)
///     .retention(Retention::days(7))
///     .open(dir.path())?;
/// # store.close()
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
#[cfg_attr(
    feature = "admin",
    expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")
)]
pub struct Options {
    pub(crate) create: bool,
    pub(crate) limits: Limits,
    pub(crate) wal_file_bytes: u64,
    pub(crate) pool_files: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) dirty_bytes: usize,
    pub(crate) page_bytes: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) clean_bytes: u64,
    pub(crate) background_bytes_per_second: u64,
    pub(crate) scrub_bytes_per_second: u64,
    pub(crate) retire_after: Duration,
    pub(crate) epoch_after: Duration,
    pub(crate) epoch_bytes: u64,
    pub(crate) epoch_most: Duration,
    pub(crate) history_state_bytes: usize,
    pub(crate) retention: Retention,
    pub(crate) adopt_operations: usize,
    /// Whether history neither expires by itself nor gives way on a full file system: where a
    /// store is opened for one request, which may need it.
    pub(crate) spares_history: bool,
    pub(crate) reader_threads: usize,
    pub(crate) is_threaded: bool,
    #[cfg(feature = "admin")]
    pub(crate) is_admin: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: true,
            limits: Limits::default(),
            wal_file_bytes: 64 << 20,
            pool_files: 2,
            cache_bytes: 64 << 20,
            dirty_bytes: 128 << 20,
            page_bytes: 24 << 10,
            segment_bytes: 256 << 20,
            clean_bytes: 64 << 20,
            background_bytes_per_second: 0,
            scrub_bytes_per_second: 0,
            retire_after: Duration::from_mins(1),
            epoch_after: Duration::from_hours(1),
            epoch_bytes: 256 << 20,
            epoch_most: Duration::from_hours(24),
            history_state_bytes: 64 << 10,
            retention: Retention::default(),
            adopt_operations: COMMIT_OPERATIONS_MAX,
            spares_history: false,
            reader_threads: 2,
            is_threaded: true,
            #[cfg(feature = "admin")]
            is_admin: false,
        }
    }
}

impl Options {
    /// Whether a folder without a store becomes one, and a folder is made where there is none. On
    /// by default; where it is off, an open fails with `store.missing` instead.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// What the store accepts; by default all that the format can hold, and by
    /// [`Limits::durable_objects`] what Durable Objects do. Limits may be lowered at a later open:
    /// what is there already can still be read and deleted.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Bytes of a file of the log: 64 KiB to 1 GiB, a multiple of 4 KiB; 64 MiB by default.
    pub fn wal_file_bytes(mut self, bytes: u64) -> Self {
        self.wal_file_bytes = bytes;
        self
    }

    /// Files of the log kept ready, full of zeros; 2 by default, 64 at most. Zero is allowed: each
    /// file is then made when it is needed, and commits into it cost a device write more.
    pub fn pool_files(mut self, files: usize) -> Self {
        self.pool_files = files;
        self
    }

    /// Bytes of pages kept in memory beside what the operating system caches; 64 MiB by default.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Bytes of committed changes in memory from which on a checkpoint starts; 128 MiB by default.
    /// Above zero, 1 TiB at most. Memory may pass it while the checkpoint runs; the further it
    /// does, the longer groups of commits are held back, 400 ms at most.
    pub fn dirty_bytes(mut self, bytes: usize) -> Self {
        self.dirty_bytes = bytes;
        self
    }

    /// Bytes that a page of a large object aims at: 512 B to 64 KiB; 24 KiB by default.
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = bytes;
        self
    }

    /// Bytes of a file of pages from which on the next one is begun; 256 MiB by default, 16 KiB at
    /// least.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Live bytes that one step of cleaning moves at most, unless one segment has more; 64 MiB by
    /// default.
    pub fn clean_bytes(mut self, bytes: u64) -> Self {
        self.clean_bytes = bytes;
        self
    }

    /// Bytes a second that all background writing shares, 64 KiB at least; zero, the default, for
    /// no limit. It is the rate of a store with nothing dirty. It grows in proportion to what is
    /// dirty, to four times as much where that reaches `dirty_bytes`, so that checkpoints keep up.
    /// Closing the store, and dropping what holds it last, wait for no rate.
    pub fn background_bytes_per_second(mut self, bytes: u64) -> Self {
        self.background_bytes_per_second = bytes;
        self
    }

    /// Bytes a second that the store's threads read of its files to find damage, and to rebuild
    /// what history has of it, as [`Store::scrub`](crate::store::Store::scrub) does; zero, the
    /// default, for none. What is read counts as background bytes too. A store that is read sooner
    /// is begun anew once an hour.
    pub fn scrub_bytes_per_second(mut self, bytes: u64) -> Self {
        self.scrub_bytes_per_second = bytes;
        self
    }

    /// How long a file that no manifest names any more stays for readers in other processes;
    /// 60 seconds by default. The oldest go earlier while all of them take more than twice
    /// `dirty_bytes`.
    pub fn retire_after(mut self, time: Duration) -> Self {
        self.retire_after = time;
        self
    }

    /// When an epoch of history ends: at the first checkpoint after `time`, by the times of
    /// commits, in which more than `bytes` were logged, and at the first after `most`. One hour,
    /// 256 MiB and 24 hours by default. What is read of the past never needs what an earlier epoch
    /// holds; history is given up by whole epochs.
    pub fn epoch(mut self, time: Duration, bytes: u64, most: Duration) -> Self {
        (self.epoch_after, self.epoch_bytes, self.epoch_most) = (time, bytes, most);
        self
    }

    /// Bytes of commits of one object from which on history keeps states between the commits of
    /// one checkpoint; 64 KiB by default. Fewer make reads of the past of such objects quicker and
    /// history larger.
    pub fn history_state_bytes(mut self, bytes: usize) -> Self {
        self.history_state_bytes = bytes;
        self
    }

    /// How long the history of namespaces without a setting of their own is kept; 30 days by
    /// default. In force from the next checkpoint on.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Changes that a restoration or a fork makes at most as one list of changes; 65,536, which is
    /// also the most, by default. One that changes more, or more than 32 MiB, writes all of the
    /// state wanted into pages of its own first.
    pub fn adopt_operations(mut self, operations: usize) -> Self {
        self.adopt_operations = operations;
        self
    }

    /// Threads that load objects for `activate`; 2 by default, 1,024 at most. With none, whoever
    /// polls the future loads the object itself.
    pub fn reader_threads(mut self, threads: usize) -> Self {
        self.reader_threads = threads;
        self
    }

    /// Whether the store runs its own threads. On by default. Without them nothing happens in the
    /// background: commits are written by whoever waits for them, and checkpoints, cleaning and
    /// merging happen when `Store::steps` is told to, in an order that a simulation chooses.
    pub fn threads(mut self, is_threaded: bool) -> Self {
        self.is_threaded = is_threaded;
        self
    }

    /// Whether operators may change the store while this process has it open: `dostore restore`
    /// and the like go through a socket in the store's folder, `admin.sock`, which only this
    /// process's user and the superuser may use. Off by default; takes three threads.
    ///
    /// Fails at open with `option.admin` in a store without threads, and with `Io` where the file
    /// system takes no sockets.
    #[cfg(feature = "admin")]
    pub fn admin(mut self, is_admin: bool) -> Self {
        self.is_admin = is_admin;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        #[cfg(feature = "admin")]
        if self.is_admin && !self.is_threaded {
            let what = "the admin socket is served by a thread of the store, and it has none";
            return Err(Error::invalid("option.admin", what));
        }
        self.limits.check()?;
        let wal = self.wal_file_bytes;
        let is_wal_right = (WAL_FILE_BYTES_MIN..=WAL_FILE_BYTES_MAX).contains(&wal)
            && wal.is_multiple_of(GROUP_ALIGNMENT);
        if !is_wal_right {
            let what = "wal_file_bytes must be 64 KiB to 1 GiB and a multiple of 4 KiB";
            return Err(Error::invalid("option.wal_file_bytes", what));
        }
        if !(512..=64 << 10).contains(&self.page_bytes) {
            return Err(Error::invalid("option.page_bytes", "page_bytes must be 512 B to 64 KiB"));
        }
        if self.segment_bytes < 16 << 10 {
            let what = "segment_bytes must be at least 16 KiB";
            return Err(Error::invalid("option.segment_bytes", what));
        }
        if self.dirty_bytes == 0 || self.dirty_bytes as u64 > DIRTY_BYTES_MAX {
            let what = "dirty_bytes must be above zero, and 1 TiB at most";
            return Err(Error::invalid("option.dirty_bytes", what));
        }
        if self.pool_files > POOL_FILES_MAX {
            let what = format!("pool_files must be at most {POOL_FILES_MAX}");
            return Err(Error::invalid("option.pool_files", what));
        }
        if self.reader_threads > READER_THREADS_MAX {
            let what = format!("reader_threads must be at most {READER_THREADS_MAX}");
            return Err(Error::invalid("option.reader_threads", what));
        }
        if (1..BACKGROUND_RATE_MIN).contains(&self.background_bytes_per_second) {
            let what = "background_bytes_per_second must be 0, for no limit, or at least 64 KiB";
            return Err(Error::invalid("option.background_bytes_per_second", what));
        }
        if self.adopt_operations > COMMIT_OPERATIONS_MAX {
            let what = "adopt_operations must be at most 65,536";
            return Err(Error::invalid("option.adopt_operations", what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_at_their_bounds() {
        let code = |options: Options| options.check().err().map(|error| error.code());
        assert_eq!(code(Options::default()), None);
        assert_eq!(code(Options::default().wal_file_bytes(64 << 10)), None);
        let wrong = Some("option.wal_file_bytes");
        assert_eq!(code(Options::default().wal_file_bytes((64 << 10) - 4096)), wrong);
        assert_eq!(code(Options::default().wal_file_bytes((64 << 10) + 1)), wrong);
        assert_eq!(code(Options::default().wal_file_bytes((1 << 30) + 4096)), wrong);
        assert_eq!(code(Options::default().page_bytes(511)), Some("option.page_bytes"));
        assert_eq!(code(Options::default().segment_bytes(1)), Some("option.segment_bytes"));
        let dirty = |bytes: u64| code(Options::default().dirty_bytes(bytes.try_into().unwrap()));
        let wrong = Some("option.dirty_bytes");
        assert_eq!([dirty(0), dirty(DIRTY_BYTES_MAX + 1), dirty(u64::MAX)], [wrong; 3]);
        assert_eq!([dirty(1), dirty(DIRTY_BYTES_MAX)], [None; 2]);
        let rate = |rate| code(Options::default().background_bytes_per_second(rate));
        let wrong = Some("option.background_bytes_per_second");
        assert_eq!([rate(1), rate((64 << 10) - 1)], [wrong; 2]);
        assert_eq!([rate(64 << 10), rate(0)], [None; 2]);
        let files = |files| code(Options::default().pool_files(files));
        assert_eq!([files(64), files(65)], [None, Some("option.pool_files")]);
        let threads = |threads| code(Options::default().reader_threads(threads));
        assert_eq!([threads(1_024), threads(1_025)], [None, Some("option.reader_threads")]);
        let wrong = Some("option.adopt_operations");
        assert_eq!(code(Options::default().adopt_operations(65_537)), wrong);
    }
}

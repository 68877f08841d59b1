//! Every maximum, and why the maxima fit together.
//!
//! Checked before anything is allocated, with an error that names the limit; nothing changes then.

use crate::error::{Error, Result};

/// Bytes in a key.
pub const KEY_BYTES_MAX: usize = 2 * 1024;
/// Bytes in a value.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes in a commit, as encoded.
pub const COMMIT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a commit as logged: with the object's name, which the store itself adds.
pub const LOGGED_COMMIT_BYTES_MAX: usize = COMMIT_BYTES_MAX + 4 * 1024;
/// Operations in a commit.
pub const COMMIT_OPERATIONS_MAX: usize = 65_536;
/// Namespaces in a store, the store's own not counted.
pub const NAMESPACES_MAX: usize = 65_535;
/// Bytes in a name of a namespace or an object.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes kept of what a failed attempt at an alarm said.
pub const FAILURE_TEXT_BYTES_MAX: usize = 512;
/// The least limits that leave a store able to do its own work: to make namespaces, to note failed
/// alarms, to delete.
const LEAST: Limits = Limits {
    key_bytes: 8,
    value_bytes: 0,
    pair_bytes: 16,
    commit_bytes: 4 * 1024,
    commit_operations: 8,
};
/// Files of the log kept ready.
pub const POOL_FILES_MAX: usize = 64;
/// Threads that load objects.
pub const READER_THREADS_MAX: usize = 1_024;
/// Background bytes a second, unless they are not limited: a piece takes some seconds, not hours.
pub const BACKGROUND_RATE_MIN: u64 = 64 * 1024;
/// The smallest WAL file.
pub const WAL_FILE_BYTES_MIN: u64 = 64 * 1024;
/// The largest WAL file.
pub const WAL_FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes of the dirty budget: what is some times as much can be told all the same.
pub const DIRTY_BYTES_MAX: u64 = 1 << 40;
/// Bytes of one record in the log; a longer commit is a chain of parts. Every commit of the store
/// waits while a record is copied into the log: for this much about ten microseconds.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one page as written, header included: one value of the largest size fits.
pub const PAGE_BYTES_MAX: usize = VALUE_BYTES_MAX + 64 * 1024;
/// Bytes of one block of a run.
pub const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a dictionary.
pub const DICTIONARY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Where groups of the log begin, and what a device rewrites at once.
pub const GROUP_ALIGNMENT: u64 = 4096;
/// What a device writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

const _: () = assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX < COMMIT_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < COMMIT_BYTES_MAX);
const _: () = assert!(LOGGED_COMMIT_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(COMMIT_BYTES_MAX + NAME_BYTES_MAX + 64 < LOGGED_COMMIT_BYTES_MAX);
const _: () = assert!(WAL_FILE_BYTES_MIN.is_multiple_of(GROUP_ALIGNMENT));

/// What a store accepts. Options of a store, not of its format: each may be lowered at any open.
///
/// What is beyond one is refused by the call that would write it, before anything is changed, with
/// the kind `Invalid` and `limit.key`, `limit.value`, `limit.pair`, `limit.commit` or
/// `limit.operations`.
///
/// ```
/// # fn main() -> dostore::error::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use dostore::limits::Limits;
/// use dostore::store::Store;
///
/// let store = Store::options().limits(Limits::durable_objects()).open(dir.path())?;
/// let mut lobby = store.namespace("rooms")?.open_by_name("lobby")?;
/// let refused = lobby.put("topic", vec![0; 2 << 20]).unwrap_err();
/// assert_eq!(refused.code(), "limit.pair");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in a key: 8 to [`KEY_BYTES_MAX`].
    pub key_bytes: usize,
    /// Bytes in a value, at most [`VALUE_BYTES_MAX`].
    pub value_bytes: usize,
    /// Bytes in a key and its value together: 16 at least.
    pub pair_bytes: usize,
    /// Bytes in a commit: 4 KiB to [`COMMIT_BYTES_MAX`].
    pub commit_bytes: usize,
    /// Operations in a commit: 8 to [`COMMIT_OPERATIONS_MAX`].
    pub commit_operations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: KEY_BYTES_MAX,
            value_bytes: VALUE_BYTES_MAX,
            pair_bytes: KEY_BYTES_MAX + VALUE_BYTES_MAX,
            commit_bytes: COMMIT_BYTES_MAX,
            commit_operations: COMMIT_OPERATIONS_MAX,
        }
    }
}

impl Limits {
    /// The limits that Durable Objects have: keys of 2,048 bytes, key and value 2 MiB together.
    #[must_use]
    pub fn durable_objects() -> Self {
        Self { key_bytes: 2_048, pair_bytes: 2 * 1024 * 1024, ..Self::default() }
    }

    pub(crate) fn check_key(&self, key: &[u8]) -> Result<()> {
        at_most("limit.key", "key", key.len(), self.key_bytes)
    }

    /// The check of a key that is to go: one that was put under a higher limit may.
    pub(crate) fn check_old_key(key: &[u8]) -> Result<()> {
        at_most("limit.key", "key", key.len(), KEY_BYTES_MAX)
    }

    pub(crate) fn check_pair(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_key(key)?;
        at_most("limit.value", "value", value.len(), self.value_bytes)?;
        at_most("limit.pair", "key and value", key.len() + value.len(), self.pair_bytes)
    }

    pub(crate) fn check_commit(&self, bytes: usize, operations: usize) -> Result<()> {
        at_most("limit.commit", "commit", bytes, self.commit_bytes)?;
        if operations > self.commit_operations {
            let most = self.commit_operations;
            let what = format!("commit has {operations} operations, at most {most} are allowed");
            return Err(Error::invalid("limit.operations", what));
        }
        Ok(())
    }

    /// The options check: each limit within what the format can hold and what the store needs.
    pub(crate) fn check(&self) -> Result<()> {
        let serves = self.key_bytes >= LEAST.key_bytes
            && self.pair_bytes >= LEAST.pair_bytes
            && self.commit_bytes >= LEAST.commit_bytes
            && self.commit_operations >= LEAST.commit_operations;
        if !serves {
            let what = "a limit is below what the store needs for its own commits";
            return Err(Error::invalid("option.limits", what));
        }
        let fits = self.key_bytes <= KEY_BYTES_MAX
            && self.value_bytes <= VALUE_BYTES_MAX
            && self.commit_bytes <= COMMIT_BYTES_MAX
            && self.commit_operations <= COMMIT_OPERATIONS_MAX;
        if fits {
            return Ok(());
        }
        Err(Error::invalid("option.limits", "a limit is beyond what the format can hold"))
    }
}

/// A name of a namespace or an object: at most [`NAME_BYTES_MAX`] bytes of UTF-8.
pub(crate) fn check_name(name: &str) -> Result<()> {
    at_most("limit.name", "name", name.len(), NAME_BYTES_MAX)
}

fn at_most(code: &'static str, what: &str, bytes: usize, most: usize) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    Err(Error::invalid(code, format!("{what} has {bytes} bytes, at most {most} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_at_its_boundary() {
        let limits = Limits::durable_objects();
        assert!(limits.check_key(&[0; 2048]).is_ok());
        assert_eq!(limits.check_key(&[0; 2049]).unwrap_err().code(), "limit.key");
        let value = vec![0; 2 * 1024 * 1024];
        assert!(limits.check_pair(&[], &value).is_ok());
        assert_eq!(limits.check_pair(&[0], &value).unwrap_err().code(), "limit.pair");
        assert!(limits.check_commit(COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX).is_ok());
        let code = |bytes, operations| limits.check_commit(bytes, operations).unwrap_err().code();
        assert_eq!(code(COMMIT_BYTES_MAX + 1, 1), "limit.commit");
        assert_eq!(code(1, COMMIT_OPERATIONS_MAX + 1), "limit.operations");
    }

    #[test]
    fn a_limit_may_be_the_least_or_the_most_and_nothing_beyond() {
        assert!(LEAST.check().is_ok() && Limits::default().check().is_ok());
        let wrong = [
            Limits { key_bytes: 7, ..LEAST },
            Limits { key_bytes: KEY_BYTES_MAX + 1, ..LEAST },
            Limits { value_bytes: VALUE_BYTES_MAX + 1, ..LEAST },
            Limits { pair_bytes: 15, ..LEAST },
            Limits { commit_bytes: 4 * 1024 - 1, ..LEAST },
            Limits { commit_bytes: COMMIT_BYTES_MAX + 1, ..LEAST },
            Limits { commit_operations: 7, ..LEAST },
            Limits { commit_operations: COMMIT_OPERATIONS_MAX + 1, ..LEAST },
        ];
        for limits in wrong {
            assert_eq!(limits.check().unwrap_err().code(), "option.limits", "{limits:?}");
        }
    }
}

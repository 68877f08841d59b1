//! Several runs written as one.
//!
//! Invariants:
//!   * A look-up that the inputs answered, the output answers alike; one that failed because its
//!     answer was lost fails still.
//!   * What the medium does not give now is not taken for lost: the merge fails.
//!   * What is dropped can never be asked for: pages of ended lives, and, where nothing older
//!     exists, words that only hid something older.

use super::walk::{Step, Walk};
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::alarm::{Hint, hint_is_set};
use crate::format::entry::{DirectoryKey, Head, PAGE_TOMBSTONE};
use crate::format::object_name::ObjectName;
use crate::ids::{Address, Life, Lsn};
use crate::planted::{Mistake, planted};
use crate::run::{Run, RunWriter};
use std::sync::Arc;

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStats {
    /// Entries that were the newest of their key.
    pub newest: u64,
    /// Entries written.
    pub written: u64,
    /// Entries dropped because nobody can ask for them.
    pub dropped: u64,
    /// Ranges of keys that were lost to damage, before or now.
    pub holes: u64,
}

/// Writes runs of a directory, the newest first and none left out between them, as one.
///
/// `bottom` says that no run is older than these: what only hides older entries is dropped; of the
/// heads of deleted objects those that `forgets` lets go.
pub fn merge(
    inputs: &[Arc<Run>],
    bottom: bool,
    forgets: impl Fn(Address, &Head) -> bool,
    out: &mut RunWriter,
) -> Result<MergeStats> {
    let mut newest = None;
    copy(inputs, out, |key, value, shields| {
        let drops_words = (bottom || planted(Mistake::DropTombstones)) && !shields;
        Ok(match DirectoryKey::parse(key)? {
            DirectoryKey::Head(address) => {
                let (life, deleted) = Head::peek(value)?;
                newest = Some(Newest { address, life, deleted });
                let drops = drops_words && deleted;
                !(drops && forgets(address, &Head::decode(value)?))
            }
            DirectoryKey::Page(address, life, _) => {
                let head = newest.as_ref().filter(|newest| newest.address == address);
                let ended = head.is_some_and(|head| head.life != life || (bottom && head.deleted));
                !(ended || drops_words && value == PAGE_TOMBSTONE)
            }
        })
    })
}

/// The newest head that the inputs have of the object that the merge has come to.
struct Newest {
    address: Address,
    life: Life,
    deleted: bool,
}

/// Writes runs of names, the newest first and none left out between them, as one: the newest name
/// of each object stays. `bottom` says that no run is older than these: names from before an
/// object's last purge, which `purged` tells, are dropped, and those of objects that the directory
/// has let go, as `forgotten` tells, which is asked for one address after the other.
pub fn merge_names(
    inputs: &[Arc<Run>],
    bottom: bool,
    purged: impl Fn(Address) -> Option<Lsn>,
    mut forgotten: impl FnMut(Address) -> bool,
    out: &mut RunWriter,
) -> Result<MergeStats> {
    copy(inputs, out, |key, value, _| {
        let address = Address::from_bytes(key).ok_or(Malformed("a name of no object"))?;
        let name = ObjectName::decode(value)?;
        let is_taken = purged(address).is_some_and(|purge| name.is_taken_by(purge));
        Ok(!(bottom && (is_taken || forgotten(address))))
    })
}

/// Writes alarm runs, the newest first and none left out between them, as one. `bottom` says that
/// no run is older than these: what only takes back older hints is dropped, and hints from before
/// an object's last purge, which `purged` tells.
pub fn merge_hints(
    inputs: &[Arc<Run>],
    bottom: bool,
    purged: impl Fn(Address) -> Option<Lsn>,
    out: &mut RunWriter,
) -> Result<MergeStats> {
    copy(inputs, out, |key, value, shields| {
        let hint = Hint::decode(key)?;
        let is_purged = purged(hint.address).is_some_and(|purge| hint.generation < purge);
        Ok(!bottom || (!is_purged && (hint_is_set(value)? || shields)))
    })
}

/// Copies the newest entries for which `keeps(key, value, shields)` says so, and all holes.
fn copy(
    inputs: &[Arc<Run>],
    out: &mut RunWriter,
    mut keeps: impl FnMut(&[u8], &[u8], bool) -> std::result::Result<bool, Malformed>,
) -> Result<MergeStats> {
    // No run has more than its filter has room for, so this is no one's word.
    out.expect_addresses(inputs.iter().map(|run| run.addresses()).sum());
    let mut stats = MergeStats::default();
    let mut walk = Walk::new(inputs.iter().map(|run| &**run), &[]);
    while let Some(step) = walk.next()? {
        match step {
            // What may come back is not written off.
            Step::Hole { hidden, .. } if hidden.is_unreadable() => return Err(hidden),
            Step::Hole { first, last, .. } => {
                out.add_hole(&first, &last);
                stats.holes += 1;
            }
            Step::Entry { lane, shields } => {
                let (key, value) = walk.entry(lane);
                let bad = |fault| -> Error { walk.run(lane).bad_entry(fault) };
                stats.newest += 1;
                // A block whose checksum is right may say anything.
                if !out.may_follow(key) {
                    return Err(bad(Malformed("keys out of order")));
                }
                if keeps(key, value, shields).map_err(bad)? {
                    out.add(key, value)?;
                    stats.written += 1;
                } else {
                    stats.dropped += 1;
                }
            }
        }
    }
    Ok(stats)
}

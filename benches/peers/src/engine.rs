//! What an engine must be able to do to be measured.
//!
//! Invariants:
//!   * A commit returns, or is recorded, only when a power cut would leave it: each engine does
//!     the `fdatasync`, or what stands for it, by itself.
//!   * An engine may use as many threads or tasks as serve it best for what is in flight.

use crate::Result;
use crate::cells::{Cell, Work};
use crate::recorder::Recorder;
use crate::workload::Layout;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What is known of an engine before it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Its name in results and on the command line.
    pub id: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// Its package in `Cargo.lock`, which says the version; empty where it has none.
    pub package: &'static str,
    /// How it is configured.
    pub settings: &'static str,
    /// What makes a commit durable.
    pub durability: &'static str,
    /// Where its documentation recommends that.
    pub source: &'static str,
    /// Stores of engines with the same word are the same and are made once.
    pub family: &'static str,
    /// The most objects that it is asked to hold.
    pub objects_max: u64,
    /// Bytes that an object takes on disk, at most: a guess, for the check that the disk has room.
    pub object_bytes: u64,
    /// Whether each object has a file of its own: it takes minutes to make them.
    pub has_file_for_each: bool,
    /// Which work it is asked to do.
    pub role: Role,
}

/// Which work an engine is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything. Where a call blocks for each commit, more in flight than it has threads
    /// changes nothing, so it is measured with 1, 64 and 10,000 only.
    Blocking,
    /// Everything, at every number in flight.
    Full,
    /// Everything that has more than one commit in flight: the application puts them into groups
    /// by hand.
    ByHand,
    /// Commits only: another way to use an engine that is measured fully beside it.
    Commits,
    /// What it takes at rest, and commits with 10,000 in flight: another way to use an engine that
    /// is measured fully beside it.
    Beside,
    /// Commits only, because it is a physical limit that stores nothing one could read.
    Limit,
}

impl Role {
    pub fn is_limit(self) -> bool {
        self == Self::Limit
    }

    /// Whether a store of its own is made; others commit to that of their family.
    pub fn holds_objects(self) -> bool {
        matches!(self, Self::Blocking | Self::Full | Self::Beside)
    }
}

impl Facts {
    /// Whether a cell is measured on it.
    pub fn suits(&self, cell: &Cell) -> bool {
        let fits = cell.objects <= self.objects_max;
        let in_flight = cell.in_flight();
        // One large object in a file of its own is what the engine with one file does, and an
        // index by time over many files would be one more engine.
        let is_asked = cell.layout == Layout::Many || !self.has_file_for_each;
        fits && is_asked
            && (cell.work != Work::Alarms || !self.has_file_for_each)
            && match self.role {
                Role::Blocking => in_flight.is_none_or(|number| [1, 64, 10_000].contains(&number)),
                Role::Full => true,
                Role::ByHand => in_flight.is_some_and(|number| number > 1) || cell.is_busy(),
                // An engine with one large object has that open in any case.
                Role::Commits => in_flight.is_some() && cell.layout == Layout::Many,
                Role::Beside => {
                    matches!(cell.work, Work::Idle | Work::Commits(10_000))
                        && cell.layout == Layout::Many
                }
                Role::Limit => in_flight.is_some(),
            }
    }
}

/// A storage engine.
pub trait Engine: Sync {
    fn facts(&self) -> Facts;

    /// Opens the store in a folder; makes it if it is not there.
    fn open(&self, folder: &Path, layout: Layout) -> Result<Box<dyn Peer>>;
}

/// An open store.
pub trait Peer: Send + Sync {
    /// Tells how many objects there are, so that names can be known before the clock starts.
    fn expect(&mut self, _objects: u64) {}

    /// Makes objects, in whatever way is quickest; all of it is durable at the end.
    fn create(&self, objects: Range<u64>) -> Result<()>;

    /// Commits two keys of random objects for some time, each commit by itself durable.
    fn commit(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()>;

    /// Makes new objects and deletes them again for some time; both are durable commits. The new
    /// ones have numbers from `load.objects` on.
    fn churn(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()>;

    /// Sets an alarm for one object after the other, each setting a durable commit, for the time
    /// of a load or until all have one; then hands out all of them, which are due, in the order of
    /// their times; then clears each by a durable commit. Settings and clearings are recorded.
    fn alarms(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<AlarmTimes>;

    /// Reads every key of an object; how many bytes of values there were.
    fn read(&self, object: u64) -> Result<usize>;

    /// Reads everything, in the order of keys; how many there were. Engines without an order over
    /// all that they hold are not asked.
    fn scan(&self) -> Result<u64>;

    /// What its files hold, in bytes, where it can tell.
    fn parts(&self) -> Result<Vec<(&'static str, u64)>> {
        Ok(Vec::new())
    }

    /// Brings files to rest: everything that the engine offers for that.
    fn settle(&mut self) -> Result<()>;

    fn close(self: Box<Self>) -> Result<()>;
}

/// What alarms took.
#[derive(Clone, Copy, Debug)]
pub struct AlarmTimes {
    pub alarms: u64,
    pub set: Duration,
    pub handed_out: Duration,
    pub cleared: Duration,
}

/// How commits are offered.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub objects: u64,
    /// Commits that may wait at the same time.
    pub in_flight: usize,
    /// Threads that make commits, where an engine's calls do not wait until these are durable.
    pub makers: usize,
    pub time: Duration,
    pub layout: Layout,
}

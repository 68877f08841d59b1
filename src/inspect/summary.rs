//! A store in figures: what it holds, namespace by namespace, and where its bytes are.
//!
//! Invariants:
//!   * The bytes add up to the sum of the lengths of all files.

use crate::directory::Directory;
use crate::disk::ReadDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FORMAT_VERSION;
use crate::format::entry::Head;
use crate::format::manifest::Manifest;
use crate::format::record::RecordView;
use crate::format::run::RunUse;
use crate::ids::{Address, Lsn, NamespaceNumber, ShortId, StoreId, Term, Timestamp};
use crate::inspect::catalog::{CATALOG, Catalog};
use crate::inspect::files::{Listing, Role};
use crate::manifest;
use crate::run::Run;
use crate::segment::SegmentSet;
use crate::wal::reader::{Live, replay_proven};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a look that a writer overtook begins again.
const ATTEMPTS: usize = 3;

/// Objects of a namespace that are told by themselves.
const GREATEST: usize = 10;

/// Damages that are told.
const LOST_MAX: usize = 16;

/// A namespace in figures, as of the cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceSummary {
    /// Its number.
    pub number: NamespaceNumber,
    /// Its name; none for one that the catalog does not have.
    pub name: Option<String>,
    /// Objects that hold something.
    pub objects: u64,
    /// Their keys.
    pub keys: u64,
    /// Bytes of their keys and values.
    pub content_bytes: u64,
    /// Objects with an alarm.
    pub alarms: u64,
    /// Objects whose keys and bytes are approximate.
    pub approximate: u64,
    /// The greatest objects, the greatest first.
    pub greatest: Vec<Great>,
}

/// An object that is among the greatest of its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Great {
    /// The identifying half of its id.
    pub id: ShortId,
    /// Its keys.
    pub keys: u64,
    /// Bytes of its keys and values.
    pub content_bytes: u64,
    /// The time of its last commit.
    pub last_time: Timestamp,
}

/// A store in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The store.
    pub store: StoreId,
    /// The version of its format.
    pub format: u32,
    /// The term that wrote the manifest.
    pub term: Term,
    /// The manifest's generation.
    pub generation: u64,
    /// Pages hold every commit up to here.
    pub cut: Lsn,
    /// The time of that commit.
    pub cut_time: Timestamp,
    /// The last commit that is shown to be durable.
    pub position: Lsn,
    /// Its time.
    pub position_time: Timestamp,
    /// Commits behind the cut.
    pub log_commits: u64,
    /// Who writes now.
    pub writer: Option<String>,
    /// The namespaces by number.
    pub namespaces: Vec<NamespaceSummary>,
    /// Damage in the place of objects that are not counted in them; not more than a few.
    pub lost: Vec<String>,
    /// Live segments.
    pub segments: u64,
    /// Live sorted runs.
    pub runs: u64,
    /// All files.
    pub files: u64,
    /// The time of the earliest commit in a file of history; none where there is no such file.
    pub history_from: Option<Timestamp>,
    /// Bytes of pages that are live.
    pub live_bytes: u64,
    /// Bytes of segments that are not: dead pages, headers, footers.
    pub reclaimable_bytes: u64,
    /// Bytes of sorted runs of the present.
    pub run_bytes: u64,
    /// Bytes of history.
    pub history_bytes: u64,
    /// Bytes of files that hold or held groups of the log.
    pub log_bytes: u64,
    /// Bytes of log files that stand ready.
    pub pool_bytes: u64,
    /// Bytes of files that the manifest does not name, or no more.
    pub unnamed_bytes: u64,
    /// Bytes of the manifest and the lock.
    pub other_bytes: u64,
    /// Bytes of files that are not the store's.
    pub foreign_bytes: u64,
}

impl Summary {
    /// All bytes: the sum of the lengths of all files.
    pub fn disk_bytes(&self) -> u64 {
        self.live_bytes
            + self.reclaimable_bytes
            + self.run_bytes
            + self.history_bytes
            + self.log_bytes
            + self.pool_bytes
            + self.unnamed_bytes
            + self.other_bytes
            + self.foreign_bytes
    }

    /// Objects in all namespaces, the store's own not counted.
    pub fn objects(&self) -> u64 {
        self.namespaces.iter().map(|namespace| namespace.objects).sum()
    }
}

/// Looks at a store. Costs one look at the head of each object.
pub fn summary(disk: impl ReadDisk + 'static) -> Result<Summary> {
    let disk: Arc<dyn ReadDisk> = Arc::new(disk);
    let mut attempt = 1;
    loop {
        let manifest = manifest::read(&*disk)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "store.missing", "there is no store here")
        })?;
        let looked = look(&disk, &manifest);
        let newest = manifest::read(&*disk)?.map(|newest| newest.generation);
        if looked.is_ok() || newest == Some(manifest.generation) || attempt == ATTEMPTS {
            return looked;
        }
        attempt += 1;
    }
}

fn look(disk: &Arc<dyn ReadDisk>, manifest: &Manifest) -> Result<Summary> {
    let writer = disk.lock_holder();
    let mut summary = Summary {
        store: manifest.store,
        format: FORMAT_VERSION,
        term: manifest.term,
        generation: manifest.generation,
        cut: manifest.cut,
        cut_time: manifest.cut_time,
        writer: writer.map_err(|cause| Error::io("asking who writes", cause))?,
        segments: manifest.segments.len() as u64,
        runs: (manifest.runs.len() + manifest.history.len()) as u64,
        history_from: manifest.history.iter().map(|file| file.start_time).min(),
        ..Summary::default()
    };
    let usage = RunUse::Directory;
    let runs = manifest.runs.iter().filter(|facts| facts.usage == usage);
    let runs: Result<Vec<_>> =
        runs.map(|facts| Run::open(&**disk, manifest.store, facts)).collect();
    let directory = Directory::new(runs?);
    let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
    manifest.segments.iter().for_each(|state| segments.add(&state.facts));
    let mut catalog = Catalog::of(manifest);
    follow_log(&**disk, manifest, &mut catalog, &mut summary)?;
    count_objects(&directory, &catalog, &mut summary)?;
    count_bytes(&**disk, manifest, &mut summary)?;
    Ok(summary)
}

fn follow_log(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    catalog: &mut Catalog,
    summary: &mut Summary,
) -> Result<()> {
    let (from, cut) = (manifest.replay, manifest.cut);
    let mut malformed = None;
    let mut sink = |record: RecordView<'_>, _| {
        if record.header.address == CATALOG {
            malformed = malformed.or(catalog.apply(record.payload).err());
        }
        Ok(())
    };
    let replayed = replay_proven(&Live(disk), manifest.store, from, cut, cut, &mut sink)?;
    summary.log_commits = replayed.records;
    summary.position = replayed.end.lsn.max(cut);
    summary.position_time = replayed.end.time.max(manifest.cut_time);
    Ok(())
}

fn count_objects(directory: &Directory, catalog: &Catalog, summary: &mut Summary) -> Result<()> {
    let known = catalog
        .namespaces()?
        .into_iter()
        .map(|(number, namespace)| (number, NamespaceSummary::of(number, &namespace.name)));
    let mut found: BTreeMap<NamespaceNumber, NamespaceSummary> = known.collect();
    for head in directory.heads(Address::default()) {
        let (address, head) = match head {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if summary.lost.len() < LOST_MAX {
                    summary.lost.push(error.to_string());
                }
                continue;
            }
            head => head?,
        };
        if !head.deleted && address != CATALOG {
            let number = address.namespace;
            let fresh = || NamespaceSummary { number, ..NamespaceSummary::default() };
            let Head { count: keys, content_bytes, last_time, .. } = head;
            let great = Great { id: address.id, keys, content_bytes, last_time };
            let space = found.entry(number).or_insert_with(fresh);
            space.add(great, head.alarm.is_some(), head.approximate);
        }
    }
    summary.namespaces = found.into_values().collect();
    Ok(())
}

impl NamespaceSummary {
    /// One without objects.
    pub(crate) fn of(number: NamespaceNumber, name: &str) -> Self {
        Self { number, name: Some(name.to_owned()), ..Self::default() }
    }

    /// Counts an object.
    pub(crate) fn add(&mut self, object: Great, has_alarm: bool, is_approximate: bool) {
        let Great { keys, content_bytes, .. } = object;
        let at = self.greatest.partition_point(|great| great.content_bytes >= content_bytes);
        if at < GREATEST {
            self.greatest.insert(at, object);
            self.greatest.truncate(GREATEST);
        }
        self.objects += 1;
        self.keys = self.keys.saturating_add(keys);
        self.content_bytes = self.content_bytes.saturating_add(content_bytes);
        self.alarms += u64::from(has_alarm);
        self.approximate += u64::from(is_approximate);
    }
}

fn count_bytes(disk: &dyn ReadDisk, manifest: &Manifest, summary: &mut Summary) -> Result<()> {
    let listing = Listing::read(disk)?;
    let mut segment_bytes = 0;
    for (_, bytes, role) in listing.roles(disk, manifest) {
        let account = match role {
            Role::Segment => &mut segment_bytes,
            Role::Run => &mut summary.run_bytes,
            Role::History => &mut summary.history_bytes,
            Role::Log => &mut summary.log_bytes,
            Role::Pool => &mut summary.pool_bytes,
            Role::Unnamed => &mut summary.unnamed_bytes,
            Role::Other => &mut summary.other_bytes,
        };
        *account += bytes;
    }
    summary.foreign_bytes = listing.foreign.iter().map(|(_, bytes)| bytes).sum();
    summary.files = (listing.files.len() + listing.foreign.len()) as u64;
    let live = manifest.segments.iter().map(|state| state.live_bytes);
    let live = live.fold(0, u64::saturating_add);
    summary.live_bytes = live.min(segment_bytes);
    summary.reclaimable_bytes = segment_bytes - summary.live_bytes;
    Ok(())
}

//! What can be had from a damaged store: every object that is proven whole, and of others the key
//! ranges that are; told apart from what is lost and from what is doubtful.
//!
//! Whoever has a [`Target`] gets namespaces, then objects as of the last checkpoint, then the
//! commits behind it. Read [`salvage`] first; `objects` goes by the directory, `scan` by pages that
//! no directory names, `log` reads the commits.
//!
//! Something is proven when nothing that is lost could have replaced it. What verifies by itself,
//! and may be older than what was lost, is *doubtful*: it is told, and handed out only if asked
//! for.
//!
//! Invariants:
//!   * Nothing is handed out whose checksum was not right in this very read.
//!   * Memory is one entry's pages, what is reported, and `scan::PAGES_MAX` places of pages.

mod log;
mod objects;
mod scan;

use crate::alarm::Alarm;
use crate::directory::Directory;
use crate::disk::ReadDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::format::object_name::ObjectName;
use crate::format::record::Operation;
use crate::ids::{Address, Codec, FileNumber, Lsn, NamespaceNumber, ShortId, StoreId};
use crate::inspect::catalog::{CATALOG, Catalog, Namespace};
use crate::inspect::guess::{foreign, guess_manifest};
use crate::inspect::lost;
use crate::inspect::report::{KeyRange, Report, Watch};
use crate::inspect::runs::Runs;
use crate::manifest;
use crate::run::RunItem;
use crate::segment::SegmentSet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Losses that a report keeps, of each sort.
pub const LOSSES_MAX: usize = 10_000;

/// Takes what is salvaged, in the order of the calls.
pub trait Target {
    /// A namespace; objects of it come later.
    fn namespace(&mut self, number: NamespaceNumber, namespace: &Namespace) -> Result<()>;

    /// An object begins.
    fn begin(&mut self, address: Address, name: Option<&str>) -> Result<()>;

    /// An entry of it, by its full key.
    fn entry(&mut self, key: &[u8], codec: Codec, value: &[u8]) -> Result<()>;

    /// Its plain alarm.
    fn alarm(&mut self, alarm: &Alarm) -> Result<()>;

    /// It ends.
    fn end(&mut self) -> Result<()>;

    /// A commit of an object, behind all of these.
    fn commit(&mut self, address: Address, operations: &[Operation<'_>]) -> Result<()>;
}

/// Something that is not in what was salvaged, or that is and may be out of date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The object.
    pub object: Address,
    /// How it is called: `namespace/name`, or `namespace/~id`.
    pub called: String,
    /// The full keys concerned; none for all of it.
    pub keys: Option<KeyRange>,
    /// What happened to them.
    pub what: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.called)?;
        if let Some(keys) = &self.keys {
            write!(out, ", keys {keys}")?;
        }
        write!(out, ": {}", self.what)
    }
}

/// Losses, of which not too many are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Those that are kept.
    pub kept: Vec<Loss>,
    /// How many there are beside them.
    pub left_out: u64,
}

impl Losses {
    fn push(&mut self, loss: Loss) {
        if self.kept.len() < LOSSES_MAX {
            self.kept.push(loss);
        } else {
            self.left_out += 1;
        }
    }

    /// All of them.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.kept.len() as u64 + self.left_out
    }
}

/// What was salvaged and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// The store that was read.
    pub store: StoreId,
    /// Namespaces.
    pub namespaces: u64,
    /// Objects handed out as of the last checkpoint.
    pub objects: u64,
    /// Their entries.
    pub entries: u64,
    /// Commits handed out behind it.
    pub commits: u64,
    /// What was salvaged is as of this commit.
    pub position: Lsn,
    /// Objects and key ranges of which nothing is left that is proven.
    pub lost: Losses,
    /// What verifies by itself and may be out of date. Handed out only if that was asked for.
    pub doubtful: Losses,
    /// Commits behind damage of the log that can be read: from which to which LSN, and how many.
    pub behind_damage: Option<(Lsn, Lsn, u64)>,
    /// What the log says of its damage, if it is damaged: what was committed behind the position
    /// may be lost.
    pub log_damage: Option<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl Salvaged {
    /// Whether everything was salvaged that objects are now.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost.count() == 0 && self.doubtful.count() == 0 && self.log_damage.is_none()
    }

    fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < LOSSES_MAX {
            self.notes.push(note.into());
        }
    }
}

impl fmt::Display for Salvaged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespaces, objects, entries, commits, position, .. } = self;
        let position = position.short();
        writeln!(out, "store {}, as of commit {position}", self.store)?;
        writeln!(out, "{objects} objects of {namespaces} namespaces, {entries} entries")?;
        writeln!(out, "{commits} commits behind the last checkpoint")?;
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        if let Some(damage) = &self.log_damage {
            writeln!(out, "the log is damaged behind commit {position}: {damage}")?;
        }
        for (word, losses) in [("lost", &self.lost), ("doubtful", &self.doubtful)] {
            for loss in &losses.kept {
                writeln!(out, "{word}: {loss}")?;
            }
            if losses.left_out > 0 {
                writeln!(out, "and {} more {word}", losses.left_out)?;
            }
        }
        if let Some((first, last, count)) = self.behind_damage {
            writeln!(
                out,
                "doubtful: {count} commits from {} to {} behind damage of the log",
                first.short(),
                last.short()
            )?;
        }
        if self.is_whole() {
            return out.write_str("whole: everything that objects are now was salvaged");
        }
        let (lost, doubtful) = (self.lost.count(), self.doubtful.count());
        write!(out, "not whole: {lost} losses, {doubtful} doubtful")
    }
}

/// How an import that was under way at the last checkpoint went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Import {
    /// It was completed: what the pages have is a part of the object.
    Completed,
    /// The object began anew: what the pages have is of no life any more.
    Overtaken,
}

/// A damaged store, as far as it can be read.
struct Source<'a> {
    disk: &'a Arc<dyn ReadDisk>,
    manifest: Manifest,
    has_manifest: bool,
    runs: Runs,
    segments: SegmentSet,
    directory: Directory,
    namespaces: BTreeMap<NamespaceNumber, Namespace>,
    with_doubtful: bool,
    /// Objects of which an import was under way: commits go on with what was left out.
    unfinished: BTreeSet<Address>,
    /// What the log says first of objects whose import was under way at the last checkpoint.
    imports: BTreeMap<Address, Import>,
    watch: Option<Arc<dyn Watch + Send + Sync>>,
    done: Salvaged,
}

/// What is to be salvaged.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Also what may be out of date.
    pub with_doubtful: bool,
    /// Namespaces by number, for those that the damaged store has forgotten.
    pub namespaces: BTreeMap<NamespaceNumber, Namespace>,
    /// Who hears how far it has come.
    pub watch: Option<Arc<dyn Watch + Send + Sync>>,
}

/// Reads a store and hands out what can be had of it.
///
/// Fails with `salvage.namespace` where what the request says of a namespace cannot be, where the
/// target does, where the store is open for writing, and with `NotFound` where there is nothing of
/// a store. Damage is no error.
pub fn salvage(
    disk: &Arc<dyn ReadDisk>,
    request: &Request,
    target: &mut dyn Target,
) -> Result<Salvaged> {
    let holder = disk.lock_holder().map_err(|cause| Error::io("asking who writes", cause))?;
    if let Some(holder) = holder {
        let what = format!("{holder} has the store open; it needs no salvage, or is to be stopped");
        return Err(Error::new(ErrorKind::Locked, "store.locked", what));
    }
    let mut source = Source::open(disk, request.with_doubtful)?;
    source.watch.clone_from(&request.watch);
    source.read_namespaces();
    source.believe(&request.namespaces)?;
    for (number, namespace) in &source.namespaces {
        target.namespace(*number, namespace)?;
        source.done.namespaces += 1;
    }
    if source.has_manifest {
        source.read_imports();
        source.hand_out_objects(target)?;
    } else if source.has_whole_log() {
        source.done.note("the log goes back to the store's first commit: all of it is from there");
    } else {
        source.hand_out_scanned(target)?;
    }
    source.hand_out_log(target)?;
    if !source.manifest.history.is_empty() {
        source.done.note("history was left behind: what was salvaged is the present alone");
    }
    Ok(source.done)
}

impl<'a> Source<'a> {
    fn open(disk: &'a Arc<dyn ReadDisk>, with_doubtful: bool) -> Result<Self> {
        let (manifest, why) = match manifest::read(&**disk) {
            Ok(Some(manifest)) => (Some(manifest), String::new()),
            Ok(None) => (None, "there is no manifest".to_owned()),
            Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
            Err(error) => (None, error.to_string()),
        };
        let strange = manifest.as_ref().map(|manifest| foreign(&**disk, manifest)).transpose()?;
        let (manifest, why) = match strange.flatten() {
            Some(why) => (None, why),
            None => (manifest, why),
        };
        let has_manifest = manifest.is_some();
        let manifest = match manifest {
            Some(manifest) => manifest,
            None => guess_manifest(&**disk)?,
        };
        let mut checked = Report::default();
        let runs = Runs::check(&**disk, &manifest, (&mut checked, &()));
        let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
        manifest.segments.iter().for_each(|state| segments.add(&state.facts));
        let directory = Directory::new(runs.directory.clone());
        let (store, position) = (manifest.store, manifest.cut);
        let mut done = Salvaged { store, position, ..Salvaged::default() };
        if !has_manifest {
            done.note(format!("{why}: what is live is guessed from the files"));
        }
        let namespaces = BTreeMap::new();
        Ok(Self {
            disk,
            manifest,
            has_manifest,
            runs,
            segments,
            directory,
            namespaces,
            with_doubtful,
            unfinished: BTreeSet::new(),
            imports: BTreeMap::new(),
            watch: None,
            done,
        })
    }

    /// The namespaces: as the manifest and the log say; else from any page of the catalog that is
    /// left, for a namespace never changes its number nor its key.
    fn read_namespaces(&mut self) {
        let mut catalog = if self.has_manifest {
            Catalog::of(&self.manifest)
        } else {
            self.done.note("the list of namespaces is from pages that may be out of date");
            Catalog::scanned(&self.manifest, &self.segments)
        };
        self.replay(&mut |record, _| {
            if record.header.address == CATALOG {
                // What is malformed of it is told with the objects that need it.
                let _ = catalog.apply(record.payload);
            }
            Ok(())
        });
        match catalog.namespaces() {
            Ok(namespaces) => self.namespaces = namespaces,
            Err(error) => self.done.note(error.to_string()),
        }
    }

    /// Takes what the caller says of namespaces that are lost. The names of objects prove it: their
    /// ids follow from the key.
    fn believe(&mut self, told: &BTreeMap<NamespaceNumber, Namespace>) -> Result<()> {
        for (number, namespace) in told {
            let wrong = |what: &str| {
                let what = format!("namespace {number} is not {:?}: {what}", namespace.name);
                Err(Error::invalid("salvage.namespace", what))
            };
            if self.namespaces.contains_key(number) {
                return wrong("it is known");
            }
            let first = Address { namespace: *number, id: ShortId([0; 16]) }.to_bytes();
            for run in &self.runs.names {
                let named = run.iter_from(&first).find_map(|item| match item {
                    Ok(RunItem::Entry { key, value }) => Some((key, value)),
                    _ => None,
                });
                let Some((key, value)) = named else { continue };
                let address = Address::from_bytes(&key).unwrap_or_default();
                let Ok(own) = ObjectName::decode(&value) else { continue };
                let fits = namespace.key.named(own.name).short() == address.id;
                if address.namespace == *number && !fits {
                    return wrong("ids of its objects do not follow from their names");
                }
            }
            self.namespaces.insert(*number, namespace.clone());
        }
        Ok(())
    }

    /// Whether the log holds every commit that there ever was.
    fn has_whole_log(&self) -> bool {
        self.manifest.replay.file == FileNumber(0)
            && !self.log_files().is_empty()
            && self.replay(&mut |_, _| Ok(())).is_none()
    }

    /// How an object is called.
    fn called(&self, address: Address, name: Option<&str>) -> String {
        let namespace = self.namespaces.get(&address.namespace);
        let namespace = namespace.map_or_else(
            || format!("namespace {}", address.namespace),
            |namespace| namespace.name.clone(),
        );
        let found = name.map(str::to_owned).or_else(|| lost::name_of(&self.runs, address));
        match found {
            Some(name) => format!("{namespace}/{name}"),
            None => format!("{namespace}/~{}", address.id),
        }
    }

    fn loss(&self, object: Address, keys: Option<KeyRange>, what: impl Into<String>) -> Loss {
        Loss { object, called: self.called(object, None), keys, what: what.into() }
    }

    fn lose(&mut self, object: Address, keys: Option<KeyRange>, what: impl Into<String>) {
        let loss = self.loss(object, keys, what);
        self.done.lost.push(loss);
    }

    fn doubt(&mut self, object: Address, keys: Option<KeyRange>, what: impl Into<String>) {
        let loss = self.loss(object, keys, what);
        self.done.doubtful.push(loss);
    }

    /// Objects whose entries in the directory are lost, as far as they are known from elsewhere.
    fn lost_objects(&mut self) -> BTreeSet<Address> {
        let mut checked = Report::default();
        let known = (&self.manifest, &self.segments);
        let mut known = lost::of_directory(&self.runs, known, &mut checked);
        known.retain(|address| *address != CATALOG && self.directory.head(*address).is_err());
        checked.notes.into_iter().for_each(|note| self.done.note(note));
        known
    }
}

//! The namespaces of a store: commits of an object of the store's own, repeated by the manifest.
//!
//! Invariants:
//!   * A manifest has every namespace that a commit up to its cut made.
//!   * A namespace's number is never given again.
//!   * A namespace is handed out only when its commit is durable.

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::manifest::Manifest;
use crate::format::namespace::{NamespaceItem, NamespaceValue};
use crate::format::record::{Operation, Operations, RecordView};
use crate::ids::{Address, Codec, KeyKind, Lsn, NamespaceNumber};
use crate::limits::{NAMESPACES_MAX, check_name};
use crate::locks::{Ranked, rank};
use crate::object::View;
use crate::object::range::RangeIter;
use crate::object::version::Version;
use crate::object::write_set::WriteSet;
use crate::object_id::NamespaceKey;
use crate::retention::Retention;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::classes::Settings;

/// The object that holds the catalog.
pub const CATALOG: Address =
    Address { namespace: NamespaceNumber(0), id: crate::ids::ShortId([0; 16]) };

/// A namespace as the catalog has it.
#[derive(Clone, Debug)]
pub struct NamespaceEntry {
    /// Its number in addresses.
    pub number: NamespaceNumber,
    /// What its object ids are derived with.
    pub key: NamespaceKey,
    /// How long its history is kept; none for as long as the store's.
    pub retention: Option<Retention>,
    /// The commit that made it.
    pub since: Lsn,
}

/// All namespaces, by name.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Held while a namespace is created, so that a name gets one number. Before the object's lock.
    by_name: Ranked<BTreeMap<String, NamespaceEntry>, { rank::CATALOG }>,
    /// What is durable of settings. A leaf lock.
    own: RwLock<BTreeMap<NamespaceNumber, Option<Retention>>>,
    /// Namespaces that no checkpoint has looked at yet. A leaf lock.
    new: Mutex<BTreeSet<NamespaceNumber>>,
}

impl Catalog {
    pub(super) fn is_new(&self, number: NamespaceNumber) -> bool {
        self.new.lock().contains(&number)
    }

    /// A checkpoint has looked at these, and is published.
    pub(super) fn forget_new(&self, numbers: &BTreeSet<NamespaceNumber>) {
        self.new.lock().retain(|number| !numbers.contains(number));
    }

    fn learn(&self, entry: &NamespaceEntry) {
        self.own.write().insert(entry.number, entry.retention);
    }
}

impl Engine {
    /// Takes over the namespaces of a store. Once, at open.
    pub(super) fn load_catalog(&self, roll: Roll) {
        let cut = self.version().manifest.cut;
        let mut by_name = self.catalog.by_name.lock();
        for namespace in roll.0.values() {
            self.catalog.learn(namespace);
            if namespace.since > cut {
                self.catalog.new.lock().insert(namespace.number);
            }
        }
        *by_name = roll.0;
    }

    /// The namespaces as a manifest has them: all that are durable now. Waits for one that is
    /// being made, whose commit may be before the manifest's cut.
    pub(super) fn listed_namespaces(&self) -> Vec<NamespaceItem> {
        // Who holds it may wait for a checkpoint, which this may be.
        let hurry = self.wal.hurry();
        let by_name = self.catalog.by_name.lock();
        drop(hurry);
        let item = |(name, entry): (&String, &NamespaceEntry)| {
            let NamespaceEntry { number, key, retention, since } = *entry;
            let value = NamespaceValue { number, key, retention };
            NamespaceItem { since, name: name.clone(), value }
        };
        by_name.iter().map(item).collect()
    }

    /// Whether there is a namespace of this name.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.catalog.by_name.lock().contains_key(name)
    }

    /// The namespace of this name; created, with ids derived with `key`, or with its name, if there
    /// is none. Fails with `namespace.key` where there is one that derives them with another.
    pub fn namespace(
        &self,
        name: &str,
        key: Option<&NamespaceKey>,
        retention: Option<Retention>,
    ) -> Result<NamespaceEntry> {
        check_name(name)?;
        let mut by_name = self.catalog.by_name.lock();
        if let Some(known) = by_name.get(name) {
            if key.is_some_and(|wanted| *wanted != known.key) {
                let what = format!("the namespace {name:?} derives its ids with another key");
                return Err(Error::invalid("namespace.key", what));
            }
            return Ok(known.clone());
        }
        if by_name.len() >= NAMESPACES_MAX {
            let what = format!("a store has at most {NAMESPACES_MAX} namespaces");
            return Err(Error::invalid("limit.namespaces", what));
        }
        let last = by_name.values().map(|entry| entry.number.0).max().unwrap_or(0);
        let number = NamespaceNumber(last + 1);
        let key = key.copied().unwrap_or_else(|| NamespaceKey::new(name));
        let (retention, since) = (whole_seconds(retention), Lsn::ZERO);
        let mut entry = NamespaceEntry { number, key, retention, since };
        entry.since = self.put_namespace(name, &entry)?;
        self.catalog.new.lock().insert(number);
        self.catalog.learn(&entry);
        by_name.insert(name.to_owned(), entry.clone());
        Ok(entry)
    }

    /// Commits a namespace's entry and waits until it is durable.
    fn put_namespace(&self, name: &str, entry: &NamespaceEntry) -> Result<Lsn> {
        let mut changes = WriteSet::new();
        let full_key = [&[KeyKind::User as u8], name.as_bytes()].concat();
        let put = Operation::Put { key: &full_key, codec: Codec::Raw, value: &encode(entry) };
        changes.push(&self.options.limits, &put)?;
        let commit = |object: &_, inner: &mut _| self.commit(object, inner, changes);
        let grant = self.with_object(CATALOG, commit)?;
        self.wal.wait(grant.lsn)?;
        Ok(grant.lsn)
    }

    /// Sets how long the history of a namespace is kept: durable when this returns, and in force
    /// from the next checkpoint on.
    pub fn set_retention(&self, name: &str, retention: Option<Retention>) -> Result<()> {
        let mut by_name = self.catalog.by_name.lock();
        let known = by_name.get_mut(name).ok_or_else(|| {
            let what = format!("there is no namespace {name:?}");
            Error::new(ErrorKind::NotFound, "namespace.missing", what)
        })?;
        let entry = NamespaceEntry { retention: whole_seconds(retention), ..known.clone() };
        self.put_namespace(name, &entry)?;
        self.catalog.learn(&entry);
        *known = entry;
        Ok(())
    }

    /// How long the history of a namespace is kept; none for as long as the store's.
    pub fn retention(&self, number: NamespaceNumber) -> Option<Retention> {
        self.catalog.own.read().get(&number).copied().flatten()
    }

    /// How long histories are wanted now.
    pub(super) fn settings(&self) -> Settings {
        Settings { default: self.options.retention, own: self.catalog.own.read().clone() }
    }

    /// The namespaces by name.
    pub fn namespaces(&self) -> Vec<(String, NamespaceEntry)> {
        let by_name = self.catalog.by_name.lock();
        by_name.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }
}

fn encode(entry: &NamespaceEntry) -> Vec<u8> {
    let NamespaceEntry { number, key, retention, .. } = *entry;
    NamespaceValue { number, key, retention }.encode()
}

/// What of a setting is kept.
fn whole_seconds(retention: Option<Retention>) -> Option<Retention> {
    let whole = |age: Duration| Duration::from_secs(age.as_secs());
    retention.map(|retention| match retention {
        Retention::Off => Retention::Off,
        Retention::Keep { age, bytes } => Retention::Keep { age: whole(age), bytes },
    })
}

/// The namespaces as of a version's cut, where its manifest has later ones, and later settings, for
/// the log to explain. What is damaged of the catalog's own pages is as the manifest says.
pub(super) fn namespaces_at_cut(version: &Arc<Version>) -> Result<Vec<NamespaceItem>> {
    let mut items = version.manifest.namespaces.clone();
    items.retain(|item| item.since <= version.manifest.cut);
    let stored = View::of_version(CATALOG, Arc::clone(version)).map(|view| {
        let first = Bound::Included(vec![KeyKind::User as u8]);
        RangeIter::new(view, None, (first, Bound::Excluded(vec![KeyKind::User as u8 + 1])))
    });
    let stored = match stored {
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(items),
        stored => stored?,
    };
    let mut settings = BTreeMap::new();
    for entry in stored {
        match entry {
            Err(error) if error.kind() == ErrorKind::Corrupt => break,
            entry => {
                let entry = entry?;
                let value = NamespaceValue::decode(&entry.value).map_err(damaged)?;
                settings.insert(value.number, value.retention);
            }
        }
    }
    for item in &mut items {
        if let Some(retention) = settings.get(&item.value.number) {
            item.value.retention = *retention;
        }
    }
    Ok(items)
}

/// The namespaces by name, as a manifest and the commits behind its cut say.
///
/// No page is asked: one damaged page would else be the end of every object.
#[derive(Clone, Debug, Default)]
pub struct Roll(BTreeMap<String, NamespaceEntry>);

impl Roll {
    /// As of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let entry = |item: &NamespaceItem| {
            let NamespaceValue { number, key, retention } = item.value;
            (item.name.clone(), NamespaceEntry { number, key, retention, since: item.since })
        };
        Self(manifest.namespaces.iter().map(entry).collect())
    }

    /// Whether a commit is one of the catalog.
    pub fn is_changed_by(record: &RecordView<'_>) -> bool {
        record.header.address == CATALOG
    }

    /// Takes in a commit, if it is one of the catalog.
    pub fn follow(&mut self, record: &RecordView<'_>) -> Result<()> {
        if !Self::is_changed_by(record) {
            return Ok(());
        }
        for operation in Operations::new(record.payload) {
            let Operation::Put { key, value, .. } = operation.map_err(damaged)? else { continue };
            let Some((kind, name)) = key.split_first() else { continue };
            if *kind != KeyKind::User as u8 {
                continue;
            }
            let name = std::str::from_utf8(name);
            let name = name.map_err(|_| damaged(Malformed("a name that is not UTF-8")))?;
            let decoded = NamespaceValue::decode(value).map_err(damaged)?;
            let NamespaceValue { number, key, retention } = decoded;
            let lsn = record.header.lsn;
            let since = self.0.get(name).map_or(lsn, |known| known.since.min(lsn));
            self.0.insert(name.to_owned(), NamespaceEntry { number, key, retention, since });
        }
        Ok(())
    }

    /// The namespaces by name.
    pub fn by_name(&self) -> &BTreeMap<String, NamespaceEntry> {
        &self.0
    }
}

fn damaged(fault: Malformed) -> Error {
    let what = format!("the catalog of namespaces is damaged: {fault}");
    Error::new(ErrorKind::Corrupt, "catalog.damaged", what)
}

//! The namespaces of a store: commits of an object of the store's own, read whole at open.
//!
//! Invariants:
//!   * A namespace's number is never given again.
//!   * A namespace is handed out only when its commit is durable.

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::namespace::NamespaceValue;
use crate::format::record::Operation;
use crate::ids::{Address, Codec, KeyKind, NamespaceNumber};
use crate::limits::{NAMESPACES_MAX, check_name};
use crate::object::View;
use crate::object::range::{Entry, RangeIter};
use crate::object::write_set::WriteSet;
use crate::object_id::NamespaceKey;
use crate::retention::Retention;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
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
}

/// All namespaces, by name.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Held while a namespace is created, so that a name gets one number. Before the object's lock.
    by_name: Mutex<BTreeMap<String, NamespaceEntry>>,
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
    /// Reads the catalog's object. Once, at open.
    pub(super) fn load_catalog(&self) -> Result<()> {
        let kind = vec![KeyKind::User as u8];
        let behind = vec![KeyKind::User as u8 + 1];
        let bounds = (Bound::Included(kind), Bound::Excluded(behind));
        let view = self.view(CATALOG)?;
        // As the last checkpoint left it, which is no question to history: that may be off.
        let known = read(View::of_version(CATALOG, self.version())?)?;
        let entries = RangeIter::new(view, None, bounds);
        let mut by_name = self.catalog.by_name.lock();
        for entry in entries {
            let (name, namespace) = decode(&entry?)?;
            self.catalog.learn(&namespace);
            if !known.contains_key(&name) {
                self.catalog.new.lock().insert(namespace.number);
            }
            by_name.insert(name, namespace);
        }
        Ok(())
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
        let entry = NamespaceEntry { number, key, retention: whole_seconds(retention) };
        self.put_namespace(name, &entry)?;
        self.catalog.new.lock().insert(number);
        self.catalog.learn(&entry);
        by_name.insert(name.to_owned(), entry.clone());
        Ok(entry)
    }

    /// Commits a namespace's entry and waits until it is durable.
    fn put_namespace(&self, name: &str, entry: &NamespaceEntry) -> Result<()> {
        let mut changes = WriteSet::new();
        let full_key = [&[KeyKind::User as u8], name.as_bytes()].concat();
        let put = Operation::Put { key: &full_key, codec: Codec::Raw, value: &encode(entry) };
        changes.push(&self.options.limits, &put)?;
        let commit = |object: &_, inner: &mut _| self.commit(object, inner, changes);
        let grant = self.with_object(CATALOG, commit)?;
        self.wal.wait(grant.lsn)
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
    let NamespaceEntry { number, key, retention } = *entry;
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

/// The namespace that an entry of the catalog describes.
pub fn decode(entry: &Entry) -> Result<(String, NamespaceEntry)> {
    let read = || -> std::result::Result<_, Malformed> {
        let name = std::str::from_utf8(entry.key.get(1..).unwrap_or_default())
            .map_err(|_| Malformed("a name that is not UTF-8"))?;
        let NamespaceValue { number, key, retention } = NamespaceValue::decode(&entry.value)?;
        Ok((name.to_owned(), NamespaceEntry { number, key, retention }))
    };
    read().map_err(|fault| {
        let what = format!("the catalog of namespaces is damaged: {fault}");
        Error::new(ErrorKind::Corrupt, "catalog.damaged", what)
    })
}

/// What a view of the catalog's object says, for those who only read.
pub fn read(view: View) -> Result<BTreeMap<String, NamespaceEntry>> {
    let bounds = (
        Bound::Included(vec![KeyKind::User as u8]),
        Bound::Excluded(vec![KeyKind::User as u8 + 1]),
    );
    RangeIter::new(view, None, bounds).map(|entry| decode(&entry?)).collect()
}

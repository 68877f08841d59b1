//! The namespaces of a store: commits of an object of the store's own, read whole at open.
//!
//! Invariants:
//!   * A namespace's number is never given again.
//!   * A namespace is handed out only when its commit is durable.

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::Operation;
use crate::format::{Cursor, Malformed, put_varint};
use crate::ids::{Address, Codec, KeyKind, NamespaceNumber};
use crate::limits::{NAMESPACES_MAX, check_name};
use crate::object::View;
use crate::object::range::{Entry, RangeIter};
use crate::object::write_set::WriteSet;
use crate::object_id::NamespaceKey;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;

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
    /// Its retention class.
    pub class: u32,
}

/// All namespaces, by name.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Held while a namespace is created, so that a name gets one number. Before the object's lock.
    by_name: Mutex<BTreeMap<String, NamespaceEntry>>,
}

impl Engine {
    /// Reads the catalog's object. Once, at open.
    pub(super) fn load_catalog(&self) -> Result<()> {
        let kind = vec![KeyKind::User as u8];
        let behind = vec![KeyKind::User as u8 + 1];
        let bounds = (Bound::Included(kind), Bound::Excluded(behind));
        let entries = RangeIter::new(self.view(CATALOG)?, None, bounds);
        let mut by_name = self.catalog.by_name.lock();
        for entry in entries {
            let (name, namespace) = decode(&entry?)?;
            by_name.insert(name, namespace);
        }
        Ok(())
    }

    /// The namespace of this name; created, with ids derived from `unique_key`, if there is none.
    pub fn namespace(&self, name: &str, unique_key: Option<&str>) -> Result<NamespaceEntry> {
        check_name(name)?;
        let mut by_name = self.catalog.by_name.lock();
        if let Some(known) = by_name.get(name) {
            return Ok(known.clone());
        }
        if by_name.len() >= NAMESPACES_MAX {
            let what = format!("a store has at most {NAMESPACES_MAX} namespaces");
            return Err(Error::invalid("limit.namespaces", what));
        }
        let last = by_name.values().map(|entry| entry.number.0).max().unwrap_or(0);
        let number = NamespaceNumber(last + 1);
        let key = NamespaceKey::new(unique_key.unwrap_or(name));
        let entry = NamespaceEntry { number, key, class: 0 };
        let mut changes = WriteSet::new();
        let full_key = [&[KeyKind::User as u8], name.as_bytes()].concat();
        let put = Operation::Put { key: &full_key, codec: Codec::Raw, value: &encode(&entry) };
        changes.push(&self.options.limits, &put)?;
        let commit = |object: &_, inner: &mut _| self.commit(object, inner, changes);
        let grant = self.with_object(CATALOG, commit)?;
        self.wal.wait(grant.lsn)?;
        by_name.insert(name.to_owned(), entry.clone());
        Ok(entry)
    }

    /// The namespaces by name.
    pub fn namespaces(&self) -> Vec<(String, NamespaceEntry)> {
        let by_name = self.catalog.by_name.lock();
        by_name.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }
}

fn encode(entry: &NamespaceEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    put_varint(&mut out, u64::from(entry.number.0));
    put_varint(&mut out, u64::from(entry.class));
    out.extend_from_slice(entry.key.as_bytes());
    out
}

/// The namespace that an entry of the catalog describes.
pub fn decode(entry: &Entry) -> Result<(String, NamespaceEntry)> {
    let read = || -> std::result::Result<_, Malformed> {
        let name = std::str::from_utf8(entry.key.get(1..).unwrap_or_default())
            .map_err(|_| Malformed("a name that is not UTF-8"))?;
        let mut cursor = Cursor::new(&entry.value);
        let number = NamespaceNumber(cursor.varint_u32()?);
        let class = cursor.varint_u32()?;
        let key = NamespaceKey::from_bytes(cursor.array()?);
        cursor.finish()?;
        Ok((name.to_owned(), NamespaceEntry { number, key, class }))
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

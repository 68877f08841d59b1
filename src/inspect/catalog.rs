//! The list of the namespaces, read without the engine: as a manifest has it, and the commits of
//! the store's own object behind it if they are wanted too; without a manifest, any page of that.
//!
//! Invariants:
//!   * Nothing here is trusted beyond its checksum: what does not decode is a fault, not a panic.

use crate::error::{Error, Place, Result};
use crate::format::Malformed;
use crate::format::manifest::Manifest;
use crate::format::namespace::{NamespaceItem, NamespaceValue};
use crate::format::page::{Page, PageItem};
use crate::format::record::{Operation, Operations};
use crate::ids::{Address, KeyKind, NamespaceNumber, ShortId};
use crate::names::FileName;
use crate::object_id::NamespaceKey;
use crate::retention::Retention;
use crate::segment::SegmentSet;
use std::collections::BTreeMap;

/// The object that holds the catalog.
pub const CATALOG: Address = Address { namespace: NamespaceNumber(0), id: ShortId([0; 16]) };

/// A namespace, as the catalog has it.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// What its object ids are derived with.
    pub key: NamespaceKey,
    /// How long its history is kept; none for as long as the store's.
    pub retention: Option<Retention>,
}

/// The catalog's entries as they stand: full keys and values.
#[derive(Clone, Debug, Default)]
pub struct Catalog(BTreeMap<Vec<u8>, Vec<u8>>);

impl Catalog {
    /// What a manifest says.
    pub fn of(manifest: &Manifest) -> Self {
        let entry = |item: &NamespaceItem| {
            let key = [&[KeyKind::User as u8], item.name.as_bytes()].concat();
            (key, item.value.encode())
        };
        Self(manifest.namespaces.iter().map(entry).collect())
    }

    /// What any page of the catalog says that is left in a segment, the oldest first.
    pub fn scanned(manifest: &Manifest, segments: &SegmentSet) -> Self {
        let mut found = Vec::new();
        for state in &manifest.segments {
            let Ok(pages) = segments.scan(state.facts.number) else { continue };
            found.extend(pages.flatten().filter(|page| page.meta.address == CATALOG));
        }
        found.sort_by_key(|page| page.meta.exact_at);
        let mut catalog = Self::default();
        for page in found.iter().filter_map(|page| segments.page(&page.location).ok()) {
            catalog.add_page(&page);
        }
        catalog
    }

    /// What a page says, over what was there.
    pub fn add_page(&mut self, page: &Page) {
        for (start, end) in page.ranges() {
            self.remove(start, end);
        }
        for (key, item) in page.items() {
            match item {
                PageItem::Value { value, .. } => drop(self.0.insert(key.to_vec(), value.to_vec())),
                PageItem::Deleted => drop(self.0.remove(key)),
            }
        }
    }

    fn remove(&mut self, start: &[u8], end: &[u8]) {
        self.0.retain(|key, _| key.as_slice() < start || key.as_slice() >= end);
    }

    /// Applies the payload of a commit of the catalog.
    pub fn apply(&mut self, payload: &[u8]) -> std::result::Result<(), Malformed> {
        for operation in Operations::new(payload) {
            match operation? {
                Operation::Put { key, value, .. } => {
                    self.0.insert(key.to_vec(), value.to_vec());
                }
                Operation::Delete { key } => drop(self.0.remove(key)),
                Operation::DeleteRange { start, end } => self.remove(start, end),
                Operation::DeleteAll { .. } | Operation::Adopt(_) => self.0.clear(),
                Operation::SetAlarm(_) | Operation::ClearAlarm | Operation::Restored(_) => {}
            }
        }
        Ok(())
    }

    /// The namespaces by number.
    pub fn namespaces(&self) -> Result<BTreeMap<NamespaceNumber, Namespace>> {
        let of_users = |(key, _): &(&Vec<u8>, &Vec<u8>)| key[..] >= [KeyKind::User as u8][..];
        let mut found = BTreeMap::new();
        for (key, value) in self.0.iter().filter(of_users) {
            let (number, namespace) = decode(key, value).map_err(damaged)?;
            let name = namespace.name.clone();
            if found.insert(number, namespace).is_some() || number == CATALOG.namespace {
                return Err(damaged(format!("namespace {name} has the number of another")));
            }
        }
        Ok(found)
    }
}

fn damaged(fault: impl std::fmt::Display) -> Error {
    let what = format!("the catalog of namespaces is damaged: {fault}");
    Error::corrupt("catalog.damaged", what, Place::new(FileName::Manifest, 0))
}

fn decode(
    key: &[u8],
    value: &[u8],
) -> std::result::Result<(NamespaceNumber, Namespace), Malformed> {
    let name = std::str::from_utf8(key.get(1..).unwrap_or_default())
        .map_err(|_| Malformed("a name that is not UTF-8"))?;
    let NamespaceValue { number, key, retention } = NamespaceValue::decode(value)?;
    Ok((number, Namespace { name: name.to_owned(), key, retention }))
}

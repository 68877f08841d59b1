//! Listing the objects of a namespace.
//!
//! The directory and the objects in memory, merged by id. Nothing is shown that a crash could take
//! back.

use super::addresses::Addresses;
use super::namespace::Namespace;
use crate::error::Result;
use crate::format::entry::Head;
use crate::format::object_name::ObjectName;
use crate::format::own_keys::{NAME_KEY, VERSION_KEY};
use crate::ids::{Address, KeyKind, Lsn, ObjectId, Timestamp};
use crate::object::View;
use crate::object::overlay::Found;
use crate::object::range::RangeIter;
use crate::object::version::Version;
use std::ops::Bound;

/// What the directory knows of an object.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Its id.
    pub id: ObjectId,
    /// Its name, if a commit was ever made under one. A restoration to when there was nothing takes
    /// it with the rest; the next commit under it says it again.
    pub name: Option<String>,
    /// Its keys.
    pub keys: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
    /// Whether keys and bytes are of its pages alone, with newer changes still beside them.
    pub is_approximate: bool,
    /// Whether an import of it was not completed: it cannot be opened or read.
    pub is_unfinished: bool,
    /// What its plain alarm was set for, if it has one.
    pub alarm: Option<Timestamp>,
    /// Its last commit.
    pub last_lsn: Lsn,
    /// The time of that commit.
    pub last_time: Timestamp,
}

/// The objects of a namespace, by id. Those committed while the listing runs may show or not.
///
/// An error stands in the place of what cannot be read, of one object or, where a part of the
/// directory is lost, of any number; all others are shown, those behind it too. Where the operating
/// system refuses to read the directory, for want of memory say, the list ends with the error:
/// begin again behind the last that was shown.
#[derive(Debug)]
pub struct Objects {
    namespace: Namespace,
    addresses: Addresses,
}

impl Objects {
    pub(crate) fn new(namespace: Namespace, from: Address) -> Self {
        Self { namespace, addresses: Addresses::new(Some(from)) }
    }

    fn info(&self, address: Address) -> Result<Option<ObjectInfo>> {
        let engine = self.namespace.store.engine();
        let view = engine.view(address)?;
        engine.wait_durable(view.state.last_lsn)?;
        info_of(&view, self.namespace.id_of(address.id))
    }
}

/// What a view shows of its object; none for one without content.
pub(crate) fn info_of(view: &View, id: ObjectId) -> Result<Option<ObjectInfo>> {
    let Some(info) = nameless_of(view, id)? else { return Ok(None) };
    Ok(Some(ObjectInfo { name: name_of(view)?, ..info }))
}

/// The same without asking for the name.
pub(super) fn nameless_of(view: &View, id: ObjectId) -> Result<Option<ObjectInfo>> {
    if view.state.life.is_none() {
        return Ok(None);
    }
    let head = view.head()?;
    let counted = count(view, head.as_ref())?;
    let Some((keys, bytes, is_approximate)) = counted else { return Ok(None) };
    Ok(Some(ObjectInfo { is_approximate, ..counted_info(view, id, (keys, bytes))? }))
}

/// What a view shows of its object, all of it counted and without the name; none for one without
/// content.
pub(super) fn nameless_at(view: &View, id: ObjectId) -> Result<Option<ObjectInfo>> {
    count_all(view)?.map(|counts| counted_info(view, id, counts)).transpose()
}

fn counted_info(view: &View, id: ObjectId, (keys, bytes): (u64, u64)) -> Result<ObjectInfo> {
    Ok(ObjectInfo {
        id,
        name: None,
        keys,
        bytes,
        is_approximate: false,
        is_unfinished: view.is_unfinished()?,
        alarm: view.alarm()?.map(|alarm| alarm.time),
        last_lsn: view.state.last_lsn,
        last_time: view.state.last_time,
    })
}

/// Every entry of a view that makes its object be there: all from the first key of this kind on.
fn content(view: &View) -> RangeIter {
    RangeIter::new(view.clone(), None, (Bound::Included(VERSION_KEY.to_vec()), Bound::Unbounded))
}

/// Whether a view shows that its object has nothing.
pub(crate) fn is_empty(view: &View) -> Result<bool> {
    Ok(view.alarm()?.is_none() && content(view).next().transpose()?.is_none())
}

/// Keys and bytes, one by one; none for an object without content.
fn count_all(view: &View) -> Result<Option<(u64, u64)>> {
    let (mut keys, mut bytes) = (0, 0);
    let mut exists = view.alarm()?.is_some();
    for entry in content(view) {
        let entry = entry?;
        exists = true;
        let is_user = entry.key.first() == Some(&(KeyKind::User as u8));
        keys += u64::from(is_user);
        bytes += (entry.key.len() - usize::from(is_user) + entry.value.len()) as u64;
    }
    Ok(exists.then_some((keys, bytes)))
}

/// Keys, bytes and whether they are approximate; none for an object without content.
fn count(view: &View, head: Option<&Head>) -> Result<Option<(u64, u64, bool)>> {
    let live = head.filter(|head| !head.deleted);
    let is_known = view.layers.is_empty();
    // One that waits to be restored may have nothing else.
    if is_known && !view.restores()? {
        return Ok(live.map(|head| (head.count, head.content_bytes, head.approximate)));
    }
    if let Some(head) = live {
        let is_approximate = head.approximate || !is_known;
        let counts = (head.count, head.content_bytes, is_approximate);
        return Ok((!is_empty(view)?).then_some(counts));
    }
    Ok(count_all(view)?.map(|(keys, bytes)| (keys, bytes, false)))
}

/// The name kept with an object: in its overlay, or in the runs of names. It follows from the name
/// which object this is, so the name outlives what the object has, until a purge.
pub(crate) fn name_of(view: &View) -> Result<Option<String>> {
    for layer in view.live_layers() {
        if let Some(Found::Value(_, name)) = layer.find(NAME_KEY) {
            return Ok(Some(String::from_utf8_lossy(&name).into_owned()));
        }
    }
    let purge = view.last_purge();
    let kept = name_in_runs(&view.version, view.address)?;
    Ok(kept.filter(|(given, _)| purge <= Some(*given)).map(|(_, name)| name))
}

/// The name that the runs of names have for an object, and the commit that gave it.
fn name_in_runs(version: &Version, address: Address) -> Result<Option<(Lsn, String)>> {
    for run in version.names.iter().filter(|run| run.may_hold(&address)) {
        let read =
            |value: &[u8]| ObjectName::decode(value).map(|own| (own.given, own.name.to_owned()));
        if let Some(found) = run.get(&address.to_bytes(), read)? {
            return found.map(Some).map_err(|fault| run.bad_entry(fault));
        }
    }
    Ok(None)
}

impl Iterator for Objects {
    type Item = Result<ObjectInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let engine = self.namespace.store.engine();
            let next = self.addresses.next(engine, |head| !head.deleted)?;
            match next.and_then(|address| self.info(address)).transpose() {
                None => {}
                some => return some,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, Faults, SimDisk};
    use crate::store::Store;
    use crate::store::addresses::PAGE_OF_HEADS;
    use std::collections::BTreeSet;

    fn put(rooms: &Namespace, name: &str) -> ObjectId {
        rooms.open_by_name(name).unwrap().put("key", "value").unwrap().wait().unwrap();
        rooms.id_from_name(name)
    }

    #[test]
    fn a_listing_looks_at_what_is_in_memory_once_and_misses_none_that_leaves_it() {
        let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let put_many = |what: &str, many: usize| -> BTreeSet<ObjectId> {
            (0..many).map(|number| put(&rooms, &format!("{what} {number}"))).collect()
        };
        let mut there = put_many("old", 3 * PAGE_OF_HEADS);
        store.steps().checkpoint().unwrap();
        // These have no head yet.
        there.extend(put_many("in memory", PAGE_OF_HEADS));
        let mut listing = rooms.objects();
        let mut shown: Vec<_> = listing.by_ref().take(20).map(|info| info.unwrap().id).collect();
        let late = put_many("late", PAGE_OF_HEADS);
        // Into the second page of three.
        let more = listing.by_ref().take(2 * PAGE_OF_HEADS - 20);
        shown.extend(more.map(|info| info.unwrap().id));
        assert!(shown.iter().all(|id| !late.contains(id)), "the table was asked again");
        store.steps().checkpoint().unwrap();
        assert_eq!(store.engine().table.count(), 0, "all have left memory");
        shown.extend(listing.map(|info| info.unwrap().id));
        assert!(shown.is_sorted_by(|one, next| one < next), "in order, and each once");
        assert!(there.is_subset(&shown.into_iter().collect()));
    }

    #[test]
    fn a_listing_that_cannot_go_on_ends_with_the_error() {
        let disk = SimDisk::new(2);
        let store = Store::options().threads(false).open_on(disk.clone()).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let mut there: BTreeSet<_> =
            (0..40).map(|number| put(&rooms, &format!("old {number}"))).collect();
        store.steps().checkpoint().unwrap();
        there.extend((0..9).map(|number| put(&rooms, &format!("in memory {number}"))));
        let (mut ended, mut whole) = (0, 0);
        for call in 1..40 {
            disk.fail_call(call, Fault::Descriptors);
            let listed: Vec<_> = rooms.objects().collect();
            let shown: Vec<_> = listed.iter().flatten().map(|info| info.id).collect();
            assert!(shown.is_sorted() && shown.iter().all(|id| there.contains(id)));
            // An object that cannot be looked at has an error in its place.
            let is_whole = listed.len() == there.len();
            assert!(is_whole || listed.last().is_some_and(Result::is_err), "{call}: {listed:?}");
            (ended, whole) = (ended + usize::from(!is_whole), whole + usize::from(is_whole));
            disk.set_faults(Faults::none());
        }
        assert!(ended > 0 && whole > 0, "{ended} ended, {whole} whole");
    }
}

//! Many objects as of a moment: by the clock, or right after a commit of the store.
//!
//! Invariants:
//!   * Memory does not grow with the objects.

use super::call::{Call, fields};
use super::failure::Failure;
use super::place::{half_of, system_time};
use super::time::{When, machine, short};
use crate::error::{Error, ErrorKind, Result as Stored};
use crate::ids::{Lsn, ObjectId, Timestamp};
use crate::inspect::summary::{Great, NamespaceSummary};
use crate::store::objects::ObjectInfo;
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::reader_objects::ReaderObjects;
use crate::store::snapshot::Snapshot;
use serde_json::{Map, Value as Json, json};

/// A moment of many objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// By the clock.
    Time(Timestamp),
    /// Right after a commit of the store.
    Commit(Lsn),
}

impl Then {
    /// The moment that was asked for, if one was. A bookmark of one object says of all others what
    /// they were right after the commit that it names.
    pub fn of(reader: &Reader, when: Option<When>) -> Stored<Option<Self>> {
        Ok(match when {
            None => None,
            Some(When::Time(at)) => Some(Self::Time(at)),
            Some(When::Commit(lsn)) => {
                reader.check_shown(lsn)?;
                Some(Self::Commit(lsn))
            }
            Some(When::Bookmark(bookmark)) => Some(Self::Commit(reader.commit_of(&bookmark)?)),
        })
    }

    /// As of when, for people.
    pub fn text(self, call: &Call<'_>) -> String {
        match self {
            Self::Time(at) => format!("as of {}", call.calendar.show(at)),
            Self::Commit(lsn) => format!("as of commit {}", short(lsn)),
        }
    }

    /// The same, for programs.
    pub fn fields(self) -> Map<String, Json> {
        match self {
            Self::Time(at) => fields([("at_time", json!(machine(at)))]),
            Self::Commit(lsn) => fields([("at_lsn", json!(lsn.0))]),
        }
    }
}

/// As of when many objects are shown, for people.
pub fn foot(call: &Call<'_>, reader: &Reader, then: Option<Then>) -> String {
    let now = || call.position_text(reader.position(), reader.time());
    then.map_or_else(now, |then| then.text(call))
}

/// The fields of a document about many objects that say as of when it is.
pub fn then_fields(then: Option<Then>) -> Map<String, Json> {
    then.map(Then::fields).unwrap_or_default()
}

/// The namespaces that there are, or were, by name.
pub fn namespaces(reader: &Reader, then: Option<Then>) -> Stored<Vec<ReaderNamespace>> {
    match then {
        None => Ok(reader.namespaces()),
        Some(Then::Time(at)) => reader.namespaces_at(at),
        Some(Then::Commit(lsn)) => Ok(reader.namespaces_after(lsn)),
    }
}

/// The objects of a namespace from one on, now or then; those whose names are lost without them,
/// and an error behind. Of what was purged since there is nothing to be shown. Fails where history
/// does not reach back: an object that ended may be forgotten then.
pub fn objects(
    space: &ReaderNamespace,
    from: Option<ObjectId>,
    then: Option<Then>,
) -> Stored<impl Iterator<Item = Stored<ObjectInfo>> + use<>> {
    let from = from.unwrap_or_else(|| space.id_from_short(half_of("")));
    let objects: ReaderObjects = match then {
        None => space.objects_from(from)?,
        Some(Then::Time(at)) => {
            space.check_all_known_at(at)?;
            space.objects_at(from, system_time(at))?
        }
        Some(Then::Commit(lsn)) => {
            space.check_all_known_after(lsn)?;
            space.objects_after(from, lsn)?
        }
    };
    let is_purged = |error: &Error| error.code() == "history.purged";
    Ok(objects.nameless().filter(move |object| !object.as_ref().is_err_and(is_purged)))
}

/// An object of a namespace, now or then.
pub fn snapshot_of(space: &ReaderNamespace, id: ObjectId, then: Option<Then>) -> Stored<Snapshot> {
    match then {
        None => space.snapshot(id),
        Some(Then::Time(at)) => space.at_time(id, system_time(at)),
        Some(Then::Commit(lsn)) => space.after(id, lsn),
    }
}

/// What a namespace held at a moment, counted object by object.
pub fn counted(
    call: &mut Call<'_>,
    space: &ReaderNamespace,
    then: Then,
) -> Result<NamespaceSummary, Failure> {
    let mut found = NamespaceSummary::of(space.number(), space.name());
    for object in objects(space, None, Some(then))? {
        call.step();
        let Some(object) = call.readable(object)? else { continue };
        let ObjectInfo { id, keys, bytes: content_bytes, last_time, .. } = object;
        let great = Great { id: id.short(), keys, content_bytes, last_time };
        found.add(great, object.alarm.is_some(), object.is_approximate);
    }
    Ok(found)
}

/// The same; none where history does not reach back.
pub fn counted_if_kept(
    call: &mut Call<'_>,
    space: &ReaderNamespace,
    then: Then,
) -> Result<Option<NamespaceSummary>, Failure> {
    match counted(call, space, then) {
        Err(Failure::Store(error)) if error.kind() == ErrorKind::NotRetained => Ok(None),
        found => found.map(Some),
    }
}

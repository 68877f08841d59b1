//! From an address to the object that it means, or to the nearest that there is.
//!
//! Invariants:
//!   * An abbreviation that could mean two objects means none.

use super::address::{self, Address, Who};
use super::call::{Call, is_damage};
use super::failure::Failure;
use super::time::When;
use crate::bookmark::Bookmark;
use crate::error::{Error, Result as Stored};
use crate::ids::{ObjectId, ShortId, Timestamp};
use crate::store::list::ListOptions;
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::snapshot::Snapshot;
use serde_json::{Value as Json, json};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Objects, or keys, that are looked through for the nearest name.
const LOOKED_THROUGH_MAX: usize = 20_000;
/// Bytes of a name beyond which none is like it: to compare two takes as long as both are long,
/// times each other.
const ALIKE_BYTES_MAX: usize = 64;
/// How alike two names must be for one to be suggested for the other.
const LIKENESS_MIN: f64 = 0.75;

/// Namespaces that are told where none is like the one that was asked for.
const NAMES_TOLD: usize = 8;

/// An object, there or not.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its namespace.
    pub space: ReaderNamespace,
    /// Its id.
    pub id: ObjectId,
    /// Its name, if it is known.
    pub name: Option<String>,
}

/// A timestamp as the library takes it.
pub fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(at.0)
}

/// The namespace of this name.
pub fn space(reader: &Reader, name: &str) -> Result<ReaderNamespace, Failure> {
    let Ok(found) = reader.namespace(name) else {
        let mut what = format!("there is no namespace {name:?}");
        let spaces = reader.namespaces();
        let object = |space: &&ReaderNamespace| {
            space.snapshot(space.id_from_name(name)).is_ok_and(|it| it.last_lsn().0 > 0)
        };
        if let Some(space) = spaces.iter().find(object) {
            let near = format!("{}/{}", address::space(space.name()), address::name(name));
            let _ = write!(what, "; is {near:?} meant?");
        } else if let Some(near) = nearest(name, spaces.iter().map(|space| space.name().to_owned()))
        {
            let _ = write!(what, "; is {:?} meant?", address::space(&near));
        } else if !spaces.is_empty() {
            let names: Vec<_> = spaces.iter().map(|space| address::space(space.name())).collect();
            let shown = names.iter().take(NAMES_TOLD).map(String::as_str).collect::<Vec<_>>();
            let more = if names.len() > NAMES_TOLD { ", ..." } else { "" };
            let _ = write!(what, "; there are {}{more}", shown.join(", "));
        }
        return Err(Failure::Missing(what));
    };
    Ok(found)
}

/// The most alike of some names.
pub fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let is_short = |name: &str| name.len() <= ALIKE_BYTES_MAX;
    let name = Some(name.to_lowercase()).filter(|name| is_short(name))?;
    let like = |other: &str| strsim::jaro_winkler(&name, &other.to_lowercase());
    let others = names.take(LOOKED_THROUGH_MAX).filter(|other| is_short(other));
    let scored = others.map(|other| (like(&other), other));
    let best = scored.max_by(|one, two| one.0.total_cmp(&two.0))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

impl Place {
    /// An object by its id, with the name that it has, if that is not lost.
    pub fn of(space: ReaderNamespace, id: ObjectId) -> Stored<Self> {
        let name = match space.snapshot(id)?.name() {
            // It has one still, and is called by its id.
            Err(error) if is_damage(&error) => None,
            name => name?,
        };
        Ok(Self { space, id, name })
    }

    /// The fields that say of which object a row is, before those of the row itself.
    pub fn row<const N: usize>(&self, own: [(&'static str, Json); N]) -> Vec<(&'static str, Json)> {
        let object = [
            ("ns", json!(self.space.name())),
            ("name", json!(self.name)),
            ("id", json!(self.id.to_string())),
        ];
        object.into_iter().chain(own).collect()
    }

    /// The object that an address means, there or not.
    pub fn find(reader: &Reader, address: &Address) -> Result<Self, Failure> {
        let space = space(reader, &address.space)?;
        match &address.who {
            Some(Who::Name(name)) => {
                let id = space.id_from_name(name);
                Ok(Self { space, id, name: Some(name.clone()) })
            }
            Some(Who::Hex(hex)) => Self::by_hex(space, hex),
            None => {
                let what = format!("{address} is a namespace; an object is {address}/NAME");
                Err(Failure::Usage(what))
            }
        }
    }

    fn by_hex(space: ReaderNamespace, hex: &str) -> Result<Self, Failure> {
        let id = match hex.len() {
            64 => space.id_from_hex(hex)?,
            32 => space.id_from_short(half_of(hex)),
            _ => only_one(&space, hex)?,
        };
        Ok(Self::of(space, id)?)
    }

    /// Its address, as it is printed.
    pub fn address(&self) -> String {
        let space = address::space(self.space.name());
        match &self.name {
            Some(name) if !name.is_empty() => format!("{space}/{}", address::name(name)),
            _ => format!("{space}/~{}", self.id.short()),
        }
    }

    /// The object at a moment, there or not.
    pub fn snapshot(&self, when: Option<When>) -> Stored<Snapshot> {
        match when {
            None => self.space.snapshot(self.id),
            Some(When::Time(at)) => self.space.at_time(self.id, system_time(at)),
            Some(When::Bookmark(bookmark)) => self.space.at(self.id, &bookmark),
            Some(When::Commit(lsn)) => {
                self.space.at(self.id, &self.space.bookmark_of(self.id, lsn)?)
            }
        }
    }

    /// The object at a moment, which must be there.
    pub fn content(&self, when: Option<When>) -> Result<Snapshot, Failure> {
        let snapshot = self.snapshot(when)?;
        if !snapshot.is_empty()? {
            return Ok(snapshot);
        }
        let address = self.address();
        if self.space.snapshot(self.id)?.last_lsn().0 == 0 {
            return Err(self.never_was());
        }
        let held = if when.is_some() { "held nothing then" } else { "holds nothing now" };
        let hint = "`dostore history` shows when it did";
        Err(Failure::Missing(format!("{address} {held}; {hint}")))
    }

    /// That the object was ever there.
    pub fn check_ever(&self) -> Result<(), Failure> {
        if self.space.snapshot(self.id)?.last_lsn().0 == 0 {
            return Err(self.never_was());
        }
        Ok(())
    }

    fn never_was(&self) -> Failure {
        let mut what = format!("there is no object {}", self.address());
        let names = self.space.objects().filter_map(|object| object.ok()?.name);
        if let Some(near) = self.name.as_deref().and_then(|name| nearest(name, names)) {
            let space = address::space(self.space.name());
            let _ = write!(what, "; is \"{space}/{}\" meant?", address::name(&near));
        }
        Failure::Missing(what)
    }

    /// A moment of the object as a bookmark.
    pub fn bookmark(&self, when: Option<When>) -> Stored<Bookmark> {
        match when {
            None => self.space.current_bookmark(self.id),
            Some(When::Time(at)) => self.space.bookmark_at(self.id, system_time(at)),
            Some(When::Bookmark(bookmark)) => Ok(bookmark),
            Some(When::Commit(lsn)) => self.space.bookmark_of(self.id, lsn),
        }
    }

    /// That a key is not there, and which is nearest.
    pub fn no_key(&self, snapshot: &Snapshot, key: &[u8]) -> Failure {
        let mut what = format!("{} has no key {:?}", self.address(), address::key(key));
        if let Ok(keys) = snapshot.list(ListOptions::new().keys_only()) {
            let names = keys.filter_map(|key| Some(address::key(&key.ok()?.0)));
            if let Some(near) = nearest(&address::key(key), names) {
                let _ = write!(what, "; is {near:?} meant?");
            }
        }
        Failure::Missing(what)
    }
}

/// The identifying half that 32 hex digits say; missing ones are zeros.
pub fn half_of(hex: &str) -> ShortId {
    let mut half = [0; 16];
    for (at, digit) in hex.chars().take(32).enumerate() {
        let digit = digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
        half[at / 2] |= digit << (4 * (1 - at % 2));
    }
    ShortId(half)
}

/// The last of the halves that begin with these digits.
fn last_half_of(hex: &str) -> ShortId {
    half_of(&format!("{hex:f<32}"))
}

/// The one object whose id begins with these digits.
fn only_one(space: &ReaderNamespace, hex: &str) -> Result<ObjectId, Failure> {
    let mut found = Vec::new();
    let objects = space.objects_between(half_of(hex), last_half_of(hex));
    for object in objects {
        let id = object.map_err(|error| doubtful(hex, error))?.id;
        if id.to_string().starts_with(hex) {
            found.push(id);
        }
        if found.len() == 3 {
            break;
        }
    }
    let name = address::space(space.name());
    match &found[..] {
        [] => Err(Failure::Missing(format!("no object of {name} has an id that begins {hex}"))),
        [one] => Ok(*one),
        more => {
            let ids: Vec<_> = more.iter().map(|id| format!("~{}", id.short())).collect();
            let what = format!("~{hex} could be {}: write more digits", ids.join(" or "));
            Err(Failure::Usage(what))
        }
    }
}

/// That damage hides which objects have an id that begins so.
fn doubtful(hex: &str, error: Error) -> Error {
    match error.place() {
        Some(place) if is_damage(&error) => {
            let what =
                "may be of another object too, which is lost to damage: write all its digits";
            Error::corrupt(error.code(), format!("~{hex} {what}"), place.clone())
        }
        _ => error,
    }
}

/// The moment that an address or an option names; not both.
pub fn moment(
    call: &Call<'_>,
    address: &Address,
    at: Option<&str>,
) -> Result<Option<When>, Failure> {
    match (address.when.as_deref(), at) {
        (Some(_), Some(_)) => {
            let what = "the address has a time behind its @, so leave out --at";
            Err(Failure::Usage(what.to_owned()))
        }
        (Some(when), None) | (None, Some(when)) => call.calendar.read(when).map(Some),
        (None, None) => Ok(None),
    }
}

/// The time that is asked for where a bookmark makes no sense, because it is of one object.
pub fn time_of_many(
    call: &Call<'_>,
    when: Option<&str>,
    at: Option<&str>,
) -> Result<Option<Timestamp>, Failure> {
    match moment_of_many(call, when, at)? {
        None => Ok(None),
        Some(When::Time(at)) => Ok(Some(at)),
        Some(_) => {
            let what = "a bookmark is of one object; many are restored to a time, as -15m";
            Err(Failure::Usage(what.to_owned()))
        }
    }
}

/// The moment that the address of a namespace or a store, or an option, names; not both.
pub fn moment_of_many(
    call: &Call<'_>,
    when: Option<&str>,
    at: Option<&str>,
) -> Result<Option<When>, Failure> {
    let address =
        Address { space: String::new(), who: None, key: None, when: when.map(str::to_owned) };
    moment(call, &address, at)
}

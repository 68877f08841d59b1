//! What the restoration of a namespace, or of the store, would change.

use crate::cli::call::{Call, fields};
use crate::cli::failure::Failure;
use crate::cli::figures::{count, digits};
use crate::cli::place::{half_of, system_time};
use crate::error::Result as Stored;
use crate::ids::{ObjectId, Timestamp};
use crate::store::list::ListOptions;
use crate::store::reader::{Reader, ReaderNamespace, is_given_up};
use crate::store::snapshot::Snapshot;
use serde_json::{Map, Value as Json, json};
use std::time::SystemTime;

/// How many objects would become something else.
#[derive(Default)]
pub struct PreviewAll {
    /// Objects that held something then.
    pub then: u64,
    /// Objects that hold something now.
    pub now: u64,
    /// Objects that come back, go, and change.
    pub changes: [u64; 3],
    /// Objects whose past cannot be read.
    pub unread: u64,
}

/// Whether two views of an object have the same keys and values.
fn is_same(now: &Snapshot, then: &Snapshot) -> Stored<bool> {
    if now.last_lsn() == then.last_lsn() {
        return Ok(true);
    }
    let (mut now, mut then) = (now.list(ListOptions::new())?, then.list(ListOptions::new())?);
    loop {
        match (now.next().transpose()?, then.next().transpose()?) {
            (None, None) => return Ok(true),
            (Some(one), Some(other)) => {
                let is_same = *one.0 == *other.0 && *one.1 == *other.1;
                if !is_same || one.1.codec() != other.1.codec() {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
}

/// Which of [`PreviewAll::changes`] an object is that held something then.
fn change_of(space: &ReaderNamespace, id: ObjectId, time: SystemTime) -> Stored<Option<usize>> {
    let now = space.snapshot(id)?;
    if now.is_empty()? {
        return Ok(Some(0));
    }
    Ok((!is_same(&now, &space.at_time(id, time)?)?).then_some(2))
}

impl PreviewAll {
    /// Compares every object of these namespaces with what it was.
    pub fn of(reader: &Reader, only: Option<&str>, at: Timestamp) -> Result<Self, Failure> {
        let mut preview = Self::default();
        for space in reader.namespaces() {
            if only.is_none_or(|only| only == space.name()) {
                preview.add(&space, at)?;
            }
        }
        Ok(preview)
    }

    fn add(&mut self, space: &ReaderNamespace, at: Timestamp) -> Result<(), Failure> {
        let time = system_time(at);
        for info in space.objects_at(space.id_from_short(half_of("")), time)? {
            let change = info.and_then(|info| change_of(space, info.id, time));
            match change {
                Ok(change) => {
                    self.then += 1;
                    if let Some(which) = change {
                        self.changes[which] += 1;
                    }
                }
                Err(error) if is_given_up(&error) => return Err(error.into()),
                Err(_) => self.unread += 1,
            }
        }
        for info in space.objects() {
            let info = match info {
                Err(error) if is_given_up(&error) => return Err(error.into()),
                // Told above, as of then.
                Err(_) => continue,
                Ok(info) => info,
            };
            if info.is_unfinished {
                continue;
            }
            self.now += 1;
            // One that was changed before that time only was there then.
            if info.last_time > at {
                match space.at_time(info.id, time).and_then(|then| then.is_empty()) {
                    Err(error) if is_given_up(&error) => return Err(error.into()),
                    then => self.changes[1] += u64::from(then.unwrap_or(false)),
                }
            }
        }
        Ok(())
    }

    /// For people.
    pub fn text(&self) -> String {
        let [more, fewer, other] = self.changes.map(digits);
        let (now, then) = (count(self.now, "object"), digits(self.then));
        let text = format!("  {now} -> {then}: +{more} -{fewer} ~{other}");
        match self.unread {
            0 => text,
            unread => format!("{text}\n  {} cannot be read as of then", count(unread, "object")),
        }
    }

    /// For programs.
    pub fn fields(&self) -> Map<String, Json> {
        fields([
            ("objects_now", json!(self.now)),
            ("objects_then", json!(self.then)),
            ("added", json!(self.changes[0])),
            ("removed", json!(self.changes[1])),
            ("changed", json!(self.changes[2])),
            ("unread", json!(self.unread)),
        ])
    }

    /// A time, for people.
    pub fn time(call: &Call<'_>, at: Timestamp) -> String {
        format!("{}, {}", call.calendar.show(at), call.calendar.distance(at))
    }
}

//! What the restoration of an object would change.

use crate::bookmark::Bookmark;
use crate::cli::call::{Call, fields};
use crate::cli::failure::Failure;
use crate::cli::figures::digits;
use crate::cli::place::Place;
use crate::cli::time::machine;
use crate::error::Result as Stored;
use crate::ids::Timestamp;
use crate::store::list::ListOptions;
use crate::store::snapshot::Snapshot;
use serde_json::{Map, Value as Json, json};

/// Alarms by name, the plain one first.
type Alarms = Vec<(Option<String>, Timestamp)>;

/// The difference between an object now and then.
pub struct Preview {
    /// The moment wanted.
    pub to: Bookmark,
    /// The object's last change before it; zero where there is none.
    pub to_time: Timestamp,
    /// Its keys now and then.
    pub keys: [u64; 2],
    /// Keys that come back, go, and change.
    pub changes: [u64; 3],
    /// Its alarms now and then.
    pub alarms: [Alarms; 2],
}

fn count(snapshot: &Snapshot) -> Stored<u64> {
    let mut count = 0;
    for entry in snapshot.list(ListOptions::new().keys_only())? {
        entry?;
        count += 1;
    }
    Ok(count)
}

impl Preview {
    /// Compares an object now with what it was.
    pub fn of(place: &Place, to: Bookmark) -> Result<Self, Failure> {
        let now = place.space.snapshot(place.id)?;
        let then = place.space.at(place.id, &to)?;
        let mut changes = [0; 3];
        let present = place.space.current_bookmark(place.id)?;
        for changed in place.space.diff(place.id, &present, &to)? {
            let changed = changed?;
            let kind = match (&changed.before, &changed.after) {
                (None, _) => 0,
                (Some(_), None) => 1,
                (Some(_), Some(_)) => 2,
            };
            changes[kind] += 1;
        }
        let keys = [count(&now)?, count(&then)?];
        let alarms = [now.alarms()?, then.alarms()?];
        Ok(Self { to, to_time: then.last_time(), keys, changes, alarms })
    }

    /// For people.
    pub fn text(&self, call: &Call<'_>, with_alarms: bool) -> String {
        let [now, then] = self.keys.map(digits);
        let [more, fewer, other] = self.changes.map(digits);
        let keys = format!("  keys {now} -> {then}: +{more} -{fewer} ~{other}");
        let [now, then] = self.alarms.each_ref().map(|alarms| alarms_text(call, alarms));
        let alarms = match (now == then, with_alarms) {
            (true, _) => format!("  alarms stay: {now}"),
            (false, true) => format!("  alarms {now} -> {then}"),
            (false, false) => {
                format!("  alarms stay: {now}; --alarms would make them: {then}")
            }
        };
        format!("{keys}\n{alarms}")
    }

    /// For programs.
    pub fn fields(&self, with_alarms: bool) -> Map<String, Json> {
        let one = |alarm: &(Option<String>, Timestamp)| {
            let (name, at) = alarm;
            json!({ "name": name, "time": machine(*at) })
        };
        let alarms = |alarms: &Alarms| alarms.iter().map(one).collect::<Vec<_>>();
        fields([
            ("to", json!(self.to.to_string())),
            ("to_time", json!(machine(self.to_time))),
            ("keys_now", json!(self.keys[0])),
            ("keys_then", json!(self.keys[1])),
            ("added", json!(self.changes[0])),
            ("removed", json!(self.changes[1])),
            ("changed", json!(self.changes[2])),
            ("alarms_now", json!(alarms(&self.alarms[0]))),
            ("alarms_then", json!(alarms(&self.alarms[1]))),
            ("with_alarms", json!(with_alarms)),
        ])
    }
}

fn alarms_text(call: &Call<'_>, alarms: &Alarms) -> String {
    if alarms.is_empty() {
        return "none".to_owned();
    }
    let one = |(name, at): &(Option<String>, Timestamp)| match name {
        Some(name) => format!("{name} {}", call.calendar.distance(*at)),
        None => call.calendar.distance(*at),
    };
    alarms.iter().map(one).collect::<Vec<_>>().join(", ")
}

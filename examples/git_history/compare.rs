//! Compares what a store holds with what git says.
//!
//! Invariants:
//!   * Every key of every object is compared, and that there is no other; the error names the
//!     first object and key that differ.

use super::Outcome;
use super::layout;
use super::truth::{AtHead, Touch, Truth};
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::objects::ObjectInfo;
use dostore::store::snapshot::Snapshot;
use std::collections::{BTreeMap, HashMap};

/// The keys of an object.
pub type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

/// Compares a round that was replayed to its end. Says how many keys it has.
pub fn complete(store: &Store, round: u32, truth: &Truth) -> Outcome<u64> {
    let namespace = store.namespace(&layout::namespace_name(round))?;
    let mut keys = 0;
    let found = partial(&namespace, truth, |name, touches, object| {
        keys += object.len() as u64;
        let turns = number(object, layout::TURNS, 0)?;
        if turns != touches.len() as i128 {
            let expected = touches.len();
            return Err(format!("{name} has {turns} turns, git has {expected} commits").into());
        }
        lines_at_head(name, object, truth.at_head(name))
    })?;
    let missing =
        truth.names().chain(truth.names_at_head()).find(|name| !found.contains_key(*name));
    match missing {
        Some(name) => Err(differs(&namespace, name, "git has it, the store has not")),
        None => Ok(keys),
    }
}

/// Compares a round that may have been cut short: it must be as git says for some number of turns
/// of the one sequence in which they were committed. Hands each object to `check`; says how many
/// turns each object has.
pub fn partial(
    namespace: &Namespace,
    truth: &Truth,
    mut check: impl FnMut(&str, &[Touch], &Keys) -> Outcome<()>,
) -> Outcome<HashMap<String, u64>> {
    let mut found = HashMap::new();
    let mut last_commit = 0;
    for info in namespace.objects() {
        let info = info?;
        let (name, object) = read(namespace, &info)?;
        let Some(touches) = truth.touches(&name) else {
            return Err(differs(namespace, &name, "the store has it, git never had"));
        };
        let turns = number(&object, layout::TURNS, 0)
            .ok()
            .and_then(|turns| usize::try_from(turns).ok())
            .filter(|turns| (1..=touches.len()).contains(turns));
        let Some(turns) = turns else {
            return Err(differs(namespace, &name, "its number of turns is impossible"));
        };
        if let Some(difference) = difference(&truth.keys_after(touches, turns), &object) {
            return Err(differs(namespace, &name, &difference));
        }
        check(&name, touches, &object)
            .map_err(|error| differs(namespace, &name, &error.to_string()))?;
        last_commit = last_commit.max(touches[turns - 1].commit);
        if found.insert(name.clone(), turns as u64).is_some() {
            return Err(differs(namespace, &name, "it is listed twice"));
        }
    }
    // Turns were logged in the order of commits, so those of all commits before the last are there.
    for name in truth.names() {
        let touches = truth.touches(name).unwrap_or_default();
        let due = touches.partition_point(|touch| touch.commit < last_commit) as u64;
        let has = found.get(name).copied().unwrap_or(0);
        if has < due && !found.is_empty() {
            let what = format!("it has {has} turns of {due}, but a later commit is there");
            return Err(differs(namespace, name, &what));
        }
    }
    Ok(found)
}

/// Every key of an object, read without opening it, and its name.
fn read(namespace: &Namespace, info: &ObjectInfo) -> Outcome<(String, Keys)> {
    let Some(name) = info.name.clone() else {
        return Err(differs(namespace, &info.id.to_string(), "it has no name"));
    };
    if namespace.id_from_name(&name) != info.id {
        return Err(differs(namespace, &name, "its id is that of another name"));
    }
    let object = keys(&namespace.snapshot(info.id)?)?;
    if !info.is_approximate && info.keys != object.len() as u64 {
        let what = format!("it is listed with {} keys and has {}", info.keys, object.len());
        return Err(differs(namespace, &name, &what));
    }
    Ok((name, object))
}

/// Every key of a snapshot.
pub fn keys(snapshot: &Snapshot) -> Outcome<Keys> {
    let mut keys = Keys::new();
    for entry in snapshot.list(ListOptions::new())? {
        let (key, value) = entry?;
        keys.insert(key.to_vec(), value.to_vec());
    }
    Ok(keys)
}

/// The lines of a file in the end; those of a file that ever was binary are not known.
pub fn lines_at_head(name: &str, object: &Keys, at_head: AtHead) -> Outcome<()> {
    let is_binary = object.contains_key(layout::BINARY);
    let net = number(object, layout::LINES, 0)?;
    let expected = match at_head {
        _ if is_binary => return Ok(()),
        AtHead::Lines(lines) => i128::from(lines),
        AtHead::Deleted => 0,
        AtHead::Binary => return Err(format!("{name} is binary to git").into()),
    };
    if net != expected {
        return Err(format!("{name} has {net} lines, git has {expected}").into());
    }
    Ok(())
}

/// The number in one place of a value.
fn number(object: &Keys, key: &[u8], place: usize) -> Outcome<i128> {
    let value = object.get(key).and_then(|value| str::from_utf8(value).ok());
    let word = value.and_then(|value| value.split(' ').nth(place));
    let shown = key.escape_ascii();
    Ok(word.ok_or_else(|| format!("key {shown} is missing"))?.parse()?)
}

/// The first key that is not as it should be.
pub fn difference(expected: &Keys, object: &Keys) -> Option<String> {
    let shown = |value: Option<&Vec<u8>>| {
        value.map_or("nothing".to_owned(), |value| format!("\"{}\"", value.escape_ascii()))
    };
    expected.keys().chain(object.keys()).find_map(|key| {
        let (expected, has) = (expected.get(key), object.get(key));
        (expected != has).then(|| {
            let (has, expected) = (shown(has), shown(expected));
            format!("key {} is {has}, git says {expected}", key.escape_ascii())
        })
    })
}

fn differs(namespace: &Namespace, name: &str, what: &str) -> Box<dyn std::error::Error> {
    format!("{}: {name}: {what}", namespace.name()).into()
}

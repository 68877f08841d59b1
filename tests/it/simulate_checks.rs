//! Reads of a store, compared with the model.
//!
//! Invariants:
//!   * What is expected is found by the plainest means: a walk over the whole map.

use super::chance::Chance;
use super::model::{Content, Map};
use dostore::error::{Error, Result};
use dostore::store::list::{Entries, ListOptions};
use dostore::store::object::Object;
use dostore::store::snapshot::Snapshot;
use dostore::store::turn::Turn;
use dostore::store::value::Value;
use std::ops::Bound;

/// Why a read was not what it should be.
#[derive(Debug)]
pub enum Fault {
    /// The store refused.
    Refused(Error),
    /// It answered, and the answer is wrong.
    Wrong(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A span of keys.
pub type Span = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Whatever an object can be read through.
pub trait Readable {
    fn value(&self, key: &[u8]) -> Result<Option<Value>>;
    fn entries(&self, options: ListOptions) -> Result<Entries>;
    fn span(&self, span: &Span) -> Result<Entries>;
}

impl Readable for Object {
    fn value(&self, key: &[u8]) -> Result<Option<Value>> {
        self.get(key)
    }

    fn entries(&self, options: ListOptions) -> Result<Entries> {
        self.list(options)
    }

    fn span(&self, span: &Span) -> Result<Entries> {
        self.range::<Vec<u8>>(span.clone())
    }
}

impl Readable for Turn<'_> {
    fn value(&self, key: &[u8]) -> Result<Option<Value>> {
        self.get(key)
    }

    fn entries(&self, options: ListOptions) -> Result<Entries> {
        self.list(options)
    }

    fn span(&self, span: &Span) -> Result<Entries> {
        self.range::<Vec<u8>>(span.clone())
    }
}

impl Readable for Snapshot {
    fn value(&self, key: &[u8]) -> Result<Option<Value>> {
        self.get(key)
    }

    fn entries(&self, options: ListOptions) -> Result<Entries> {
        self.list(options)
    }

    fn span(&self, span: &Span) -> Result<Entries> {
        Ok(self.range::<Vec<u8>>(span.clone()))
    }
}

/// A key, short enough to print.
pub fn shown(key: &[u8]) -> String {
    let text = key[..key.len().min(40)].escape_ascii().to_string();
    format!("`{text}` of {} bytes", key.len())
}

/// Whether two states of an object read the same: other versions may have the same bytes.
pub fn reads_same(object: usize, one: &Map, other: &Map) -> bool {
    let is_same = |((key, one), (other_key, other)): ((&Vec<u8>, &Content), (_, &Content))| {
        key == other_key && (one == other || one.render(object, key) == other.render(object, key))
    };
    one.len() == other.len() && one.iter().zip(other).all(is_same)
}

/// One key.
pub fn check_get(
    view: &dyn Readable,
    (object, map): (usize, &Map),
    key: &[u8],
) -> std::result::Result<(), Fault> {
    let found = view.value(key)?;
    let expected = map.get(key);
    let is_right = match (&found, expected) {
        (None, None) => true,
        (Some(value), Some(content)) => content.is(object, key, value),
        _ => false,
    };
    if is_right {
        return Ok(());
    }
    let found = found.map(|value| describe(&value));
    Err(Fault::Wrong(format!("object {object}, {}: {found:?}, not {expected:?}", shown(key))))
}

fn describe(value: &[u8]) -> String {
    format!("{} bytes {}", value.len(), value[..value.len().min(16)].escape_ascii())
}

/// Everything, from one end to the other.
pub fn check_all(
    view: &dyn Readable,
    (object, map): (usize, &Map),
) -> std::result::Result<(), Fault> {
    let expected: Vec<&Vec<u8>> = map.keys().collect();
    compare(view.entries(ListOptions::new())?, (object, map), &expected, false)
}

fn compare(
    entries: Entries,
    (object, map): (usize, &Map),
    expected: &[&Vec<u8>],
    keys_only: bool,
) -> std::result::Result<(), Fault> {
    let mut count = 0;
    for entry in entries {
        let (key, value) = entry?;
        let Some(next) = expected.get(count) else {
            let what = format!("object {object} lists {} behind its last key", shown(&key));
            return Err(Fault::Wrong(what));
        };
        if **next != *key {
            let what =
                format!("object {object} lists {}, not {} at {count}", shown(&key), shown(next));
            return Err(Fault::Wrong(what));
        }
        let is_right =
            if keys_only { value.is_empty() } else { map[*next].is(object, &key, &value) };
        if !is_right {
            let (found, right) = (describe(&value), map[*next]);
            let what = format!("object {object} lists {} as {found}, not {right:?}", shown(&key));
            return Err(Fault::Wrong(what));
        }
        count += 1;
    }
    if count < expected.len() {
        let (missing, of) = (shown(expected[count]), expected.len());
        let what = format!("object {object} lists {count} of {of} keys and stops before {missing}");
        return Err(Fault::Wrong(what));
    }
    Ok(())
}

/// A few random reads of one object. `keys` gives keys to ask for.
pub fn check_some(
    view: &dyn Readable,
    of: (usize, &Map),
    chance: &mut Chance,
    keys: &dyn Fn(&mut Chance) -> Vec<u8>,
) -> std::result::Result<(), Fault> {
    for _ in 0..chance.between(1, 4) {
        match chance.below(6) {
            0 => check_list(view, of, chance, keys)?,
            1 => check_span(view, of, chance, keys)?,
            2 => check_both_ends(view, of, chance)?,
            _ => check_get(view, of, &keys(chance))?,
        }
    }
    Ok(())
}

/// A list with random options.
fn check_list(
    view: &dyn Readable,
    (object, map): (usize, &Map),
    chance: &mut Chance,
    keys: &dyn Fn(&mut Chance) -> Vec<u8>,
) -> std::result::Result<(), Fault> {
    let mut options = ListOptions::new();
    let mut wanted: Vec<&Vec<u8>> = map.keys().collect();
    match chance.below(4) {
        0 => {
            let start = keys(chance);
            wanted.retain(|key| **key >= start);
            options = options.start(start);
        }
        1 => {
            let start = keys(chance);
            wanted.retain(|key| **key > start);
            options = options.start_after(start);
        }
        _ => {}
    }
    if chance.percent(40) {
        let end = keys(chance);
        wanted.retain(|key| **key < end);
        options = options.end(end);
    }
    if chance.percent(30) {
        let mut prefix = keys(chance);
        prefix.truncate(chance.index(prefix.len() + 1));
        wanted.retain(|key| key.starts_with(&prefix));
        options = options.prefix(prefix);
    }
    if chance.percent(40) {
        options = options.reverse();
        wanted.reverse();
    }
    if chance.percent(50) {
        let limit = chance.index(8) + 1;
        options = options.limit(limit);
        wanted.truncate(limit);
    }
    let keys_only = chance.percent(20);
    if keys_only {
        options = options.keys_only();
    }
    let told = format!("{options:?}");
    compare(view.entries(options)?, (object, map), &wanted, keys_only).map_err(
        |fault| match fault {
            Fault::Wrong(what) => {
                Fault::Wrong(format!("{what}, by {}", &told[..told.len().min(600)]))
            }
            refused @ Fault::Refused(_) => refused,
        },
    )
}

fn check_span(
    view: &dyn Readable,
    (object, map): (usize, &Map),
    chance: &mut Chance,
    keys: &dyn Fn(&mut Chance) -> Vec<u8>,
) -> std::result::Result<(), Fault> {
    let span = draw_span(chance, keys);
    let inside = super::model::keys_in(map, &span.0, &span.1);
    let expected: Vec<&Vec<u8>> = inside.iter().collect();
    compare(view.span(&span)?, (object, map), &expected, false)
}

/// Two random bounds; now and then of a span that is empty.
pub fn draw_span(chance: &mut Chance, keys: &dyn Fn(&mut Chance) -> Vec<u8>) -> Span {
    let mut bound = || {
        let key = keys(chance);
        match chance.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(key),
            _ => Bound::Included(key),
        }
    };
    let (from, to) = (bound(), bound());
    let key = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
        Bound::Unbounded => None,
    };
    let is_reversed = key(&from).zip(key(&to)).is_some_and(|(from, to)| from > to);
    if is_reversed && chance.percent(90) { (to, from) } else { (from, to) }
}

/// Takes entries from both ends in a random order until they meet.
fn check_both_ends(
    view: &dyn Readable,
    (object, map): (usize, &Map),
    chance: &mut Chance,
) -> std::result::Result<(), Fault> {
    let mut entries = view.entries(ListOptions::new())?;
    let mut expected = map.iter();
    let most = chance.pick(&[5, 50, usize::MAX]);
    for _ in 0..most {
        let from_back = chance.percent(50);
        let found = if from_back { entries.next_back() } else { entries.next() };
        let wanted = if from_back { expected.next_back() } else { expected.next() };
        let found = found.transpose()?;
        let is_right = match (&found, wanted) {
            (None, None) => return Ok(()),
            (Some((key, value)), Some((right, content))) => {
                **key == **right && content.is(object, key, value)
            }
            _ => false,
        };
        if !is_right {
            let end = if from_back { "back" } else { "front" };
            let found = found.map(|(key, value)| (shown(&key), describe(&value)));
            let wanted = wanted.map(|(key, content)| (shown(key), content));
            let what = format!("object {object} from the {end}: {found:?}, not {wanted:?}");
            return Err(Fault::Wrong(what));
        }
    }
    Ok(())
}

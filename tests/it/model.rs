//! What a store must say: every object as a plain map, and the commits that a crash may take.
//!
//! Invariants:
//!   * A value follows from its object, its key and its version, so a stale or foreign byte shows.
//!   * `settled` is what survives any crash; `now` is `settled` with the pending commits on top.

use dostore::ids::{Lsn, ObjectId};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;

/// The keys of an object.
pub type Map = BTreeMap<Vec<u8>, Content>;

/// What a value's bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The same few words over and over.
    Words,
    /// Noise behind the first words.
    Noise,
    /// Nothing but zeros.
    Zeros,
}

/// A value, told short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub version: u64,
    pub bytes: usize,
    pub shape: Shape,
}

impl Content {
    /// The bytes of the value under this key of this object.
    pub fn render(&self, object: usize, key: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        if self.shape == Shape::Zeros {
            return bytes;
        }
        let stamp = [
            self.version,
            (object as u64) << 32 | u64::from(crc32(key)),
            0x2020_656D_6F73_2020,
            0x6465_7461_6570_6572,
        ];
        let mut noise = super::chance::Chance::new(stamp[0] ^ stamp[1].rotate_left(17));
        for (index, chunk) in bytes.chunks_mut(8).enumerate() {
            let is_stamp = index < 2 || self.shape == Shape::Words;
            let word = if is_stamp { stamp[index % 4] } else { noise.next() };
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        bytes
    }

    /// Whether these are its bytes.
    pub fn is(&self, object: usize, key: &[u8], bytes: &[u8]) -> bool {
        bytes.len() == self.bytes && bytes == self.render(object, key)
    }
}

/// A small hash, for stamps.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// One change of an object.
#[derive(Clone)]
pub enum Change {
    Put(Vec<u8>, Content),
    Delete(Vec<u8>),
    DeleteRange(Bound<Vec<u8>>, Bound<Vec<u8>>),
    DeleteAll,
}

impl fmt::Debug for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &[u8]| {
            let end = key[key.len().saturating_sub(10)..].escape_ascii();
            format!("{end}({})", key.len())
        };
        match self {
            Self::Put(at, content) => {
                let Content { version, bytes, shape } = content;
                write!(out, "put {} = {shape:?} {version} of {bytes}", key(at))
            }
            Self::Delete(at) => write!(out, "delete {}", key(at)),
            Self::DeleteRange(from, to) => {
                let from = from.as_ref().map(|from| key(from));
                let to = to.as_ref().map(|to| key(to));
                write!(out, "delete {from:?} to {to:?}")
            }
            Self::DeleteAll => out.write_str("delete all"),
        }
    }
}

/// Whether a span has room for any key; where it has none, a map must not be asked.
fn is_span(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    use Bound::{Excluded, Included, Unbounded};
    match (from, to) {
        (Unbounded, _) | (_, Unbounded) => true,
        (Included(from), Included(to)) => from <= to,
        (Included(from) | Excluded(from), Excluded(to)) | (Excluded(from), Included(to)) => {
            from < to
        }
    }
}

/// The keys of a map inside a span.
pub fn keys_in(map: &Map, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> Vec<Vec<u8>> {
    if !is_span(from, to) {
        return Vec::new();
    }
    map.range((from.clone(), to.clone())).map(|(key, _)| key.clone()).collect()
}

/// What takes a change back.
enum Undo {
    Key(Vec<u8>, Option<Content>),
    Everything(Map),
}

fn apply(map: &mut Map, change: &Change, undo: &mut Vec<Undo>) {
    match change {
        Change::Put(key, content) => {
            let before = map.insert(key.clone(), *content);
            undo.push(Undo::Key(key.clone(), before));
        }
        Change::Delete(key) => undo.push(Undo::Key(key.clone(), map.remove(key))),
        Change::DeleteRange(from, to) => {
            for key in keys_in(map, from, to) {
                let before = map.remove(&key);
                undo.push(Undo::Key(key, before));
            }
        }
        Change::DeleteAll => undo.push(Undo::Everything(std::mem::take(map))),
    }
}

/// A commit that a crash may still take.
#[derive(Debug)]
struct Pending {
    lsn: Lsn,
    changes: Vec<Change>,
}

/// One object.
#[derive(Debug)]
pub struct ObjectModel {
    pub index: usize,
    pub id: ObjectId,
    /// In which of the store's namespaces it is.
    pub namespace: usize,
    /// The name that handles open it by, if they do.
    pub name: Option<String>,
    settled: Map,
    settled_lsn: Lsn,
    /// Every commit that made `settled`.
    past: Vec<Pending>,
    pending: VecDeque<Pending>,
    now: Map,
    now_lsn: Lsn,
    /// Every LSN that a commit of it was given in this life of the store or survived an earlier.
    pub next_version: u64,
}

impl ObjectModel {
    pub fn new(index: usize, namespace: usize, id: ObjectId, name: Option<String>) -> Self {
        Self {
            index,
            id,
            namespace,
            name,
            settled: Map::new(),
            settled_lsn: Lsn::ZERO,
            past: Vec::new(),
            pending: VecDeque::new(),
            now: Map::new(),
            now_lsn: Lsn::ZERO,
            next_version: 1,
        }
    }

    /// What it has now.
    pub fn now(&self) -> &Map {
        &self.now
    }

    /// Its last commit.
    pub fn last_lsn(&self) -> Lsn {
        self.now_lsn
    }

    /// Begins a turn.
    pub fn draft(&mut self) -> Draft<'_> {
        Draft { object: self, changes: Vec::new(), undo: Vec::new() }
    }

    /// Everything up to here survives any crash.
    pub fn settle(&mut self, durable: Lsn) {
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.lsn <= durable) {
            let mut undo = Vec::new();
            for change in &pending.changes {
                apply(&mut self.settled, change, &mut undo);
                undo.clear();
            }
            self.settled_lsn = pending.lsn;
            self.past.push(pending);
        }
    }

    /// How many commits it has had.
    pub fn commits(&self) -> usize {
        self.past.len() + self.pending.len()
    }

    /// What it was after each of its commits: hands out the number of the commit, its LSN, the last
    /// one before that of the next commit, and the keys.
    pub fn moments<E>(
        &self,
        mut each: impl FnMut(usize, (Lsn, Lsn), &Map) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut map = Map::new();
        let mut undo = Vec::new();
        let all = || self.past.iter().chain(&self.pending);
        let next = all().skip(1).map(|commit| Lsn(commit.lsn.0 - 1));
        let next = next.chain([self.now_lsn]);
        for (number, (commit, until)) in all().zip(next).enumerate() {
            for change in &commit.changes {
                apply(&mut map, change, &mut undo);
                undo.clear();
            }
            each(number, (commit.lsn, until), &map)?;
        }
        Ok(())
    }

    /// A crash has taken everything behind here.
    pub fn truncate(&mut self, last: Lsn) {
        self.settle(last);
        if self.pending.is_empty() && self.now_lsn == self.settled_lsn {
            return;
        }
        self.pending.clear();
        self.now.clone_from(&self.settled);
        self.now_lsn = self.settled_lsn;
    }
}

/// A turn of the model. Dropping it takes everything back.
pub struct Draft<'m> {
    object: &'m mut ObjectModel,
    changes: Vec<Change>,
    undo: Vec<Undo>,
}

/// A place in a draft to go back to.
#[derive(Clone, Copy)]
pub struct Mark(usize, usize);

impl Draft<'_> {
    pub fn map(&self) -> &Map {
        &self.object.now
    }

    pub fn object(&self) -> usize {
        self.object.index
    }

    /// Whether it may commit as nothing: deleted ranges without a key may be left out.
    pub fn may_be_empty(&self) -> bool {
        self.undo.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn last_lsn(&self) -> Lsn {
        self.object.now_lsn
    }

    /// A version that no value of the object has had.
    pub fn new_version(&mut self) -> u64 {
        self.object.next_version += 1;
        self.object.next_version
    }

    /// The changes in a few words.
    pub fn told(&self) -> String {
        let told: Vec<_> =
            self.changes.iter().take(8).map(|change| format!("{change:?}")).collect();
        format!("{} changes: {}", self.changes.len(), told.join(", "))
    }

    pub fn apply(&mut self, change: Change) {
        apply(&mut self.object.now, &change, &mut self.undo);
        self.changes.push(change);
    }

    pub fn mark(&self) -> Mark {
        Mark(self.changes.len(), self.undo.len())
    }

    pub fn roll_back(&mut self, to: Mark) {
        self.changes.truncate(to.0);
        while self.undo.len() > to.1 {
            match self.undo.pop().expect("longer than the mark") {
                Undo::Everything(map) => self.object.now = map,
                Undo::Key(key, Some(content)) => drop(self.object.now.insert(key, content)),
                Undo::Key(key, None) => drop(self.object.now.remove(&key)),
            }
        }
    }

    /// The turn was logged under this LSN.
    pub fn keep(mut self, lsn: Lsn) {
        self.undo.clear();
        let changes = std::mem::take(&mut self.changes);
        self.object.pending.push_back(Pending { lsn, changes });
        self.object.now_lsn = lsn;
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.roll_back(Mark(0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], version: u64) -> Change {
        Change::Put(key.to_vec(), Content { version, bytes: 9, shape: Shape::Noise })
    }

    fn object() -> ObjectModel {
        let folder = dostore::disk::sim::SimDisk::new(1);
        let store = dostore::store::Store::options().threads(false).open_on(folder).unwrap();
        let id = store.namespace("n").unwrap().id_from_name("o");
        ObjectModel::new(0, 0, id, None)
    }

    #[test]
    fn a_dropped_draft_changes_nothing_and_a_savepoint_goes_back_to_its_place() {
        let mut object = object();
        let mut draft = object.draft();
        draft.apply(put(b"a", 1));
        let mark = draft.mark();
        draft.apply(Change::DeleteAll);
        draft.apply(put(b"b", 2));
        draft.roll_back(mark);
        assert_eq!(draft.map().keys().collect::<Vec<_>>(), [b"a"]);
        draft.keep(Lsn(5));
        let before = object.now().clone();
        let mut draft = object.draft();
        draft.apply(Change::DeleteRange(Bound::Unbounded, Bound::Unbounded));
        assert!(draft.map().is_empty());
        drop(draft);
        assert_eq!(*object.now(), before);
    }

    #[test]
    fn truncating_keeps_a_prefix_of_the_commits() {
        let mut object = object();
        for lsn in 1..=4 {
            let mut draft = object.draft();
            draft.apply(put(&[u8::try_from(lsn).unwrap()], lsn));
            draft.keep(Lsn(lsn));
        }
        object.settle(Lsn(1));
        object.truncate(Lsn(3));
        assert_eq!((object.now().len(), object.last_lsn()), (3, Lsn(3)));
        object.truncate(Lsn(9));
        assert_eq!((object.now().len(), object.last_lsn()), (3, Lsn(3)));
    }
}

//! What a store must say: every object as a plain map, and the commits that a crash may take.
//!
//! Invariants:
//!   * A value follows from its object, its key and its version, so a stale or foreign byte shows.
//!   * `settled` is what survives any crash; `now` is `settled` with the pending commits on top.
//!   * Every commit that survives is kept for good, so that any moment can be told.

use dostore::bookmark::Bookmark;
use dostore::ids::{Lsn, ObjectId, Timestamp};
use dostore::store::commit::Position;
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
    /// The object that it was written to, where that is another than the one that it is in.
    pub owner: Option<usize>,
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
        let object = self.owner.unwrap_or(object);
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
    /// It becomes what it, or another, was.
    Become(Map),
}

impl fmt::Debug for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &[u8]| {
            let end = key[key.len().saturating_sub(10)..].escape_ascii();
            format!("{end}({})", key.len())
        };
        match self {
            Self::Put(at, content) => {
                let Content { version, bytes, shape, .. } = content;
                write!(out, "put {} = {shape:?} {version} of {bytes}", key(at))
            }
            Self::Delete(at) => write!(out, "delete {}", key(at)),
            Self::DeleteRange(from, to) => {
                let from = from.as_ref().map(|from| key(from));
                let to = to.as_ref().map(|to| key(to));
                write!(out, "delete {from:?} to {to:?}")
            }
            Self::DeleteAll => out.write_str("delete all"),
            Self::Become(map) => write!(out, "become {} keys of the past", map.len()),
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
        Change::Become(then) => undo.push(Undo::Everything(std::mem::replace(map, then.clone()))),
    }
}

/// What a commit is, beyond its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A turn, a restoration, a fork.
    Plain,
    /// The end of a life, from outside.
    Deletion,
    /// The same, and of all that can be known of it.
    Purge,
    /// The next open is to restore this moment.
    Wish(Lsn),
    /// What waited for the next open does so no more.
    NoWish,
}

/// A commit that happened.
#[derive(Clone, Debug)]
pub struct Pending {
    pub lsn: Lsn,
    pub time: Timestamp,
    pub kind: Kind,
    /// The moment right behind it.
    pub bookmark: Bookmark,
    pub changes: Vec<Change>,
}

/// An object at one moment.
#[derive(Clone, Debug, Default)]
struct State {
    map: Map,
    lsn: Lsn,
    /// The moment that waits for the next open.
    wish: Option<Lsn>,
    /// Nothing before this commit can be known.
    purged: Lsn,
}

impl State {
    /// What else a commit does than its changes.
    fn note(&mut self, lsn: Lsn, kind: Kind) {
        self.lsn = lsn;
        match kind {
            Kind::Plain => {}
            Kind::Wish(moment) => self.wish = Some(moment),
            Kind::Deletion | Kind::NoWish => self.wish = None,
            Kind::Purge => (self.wish, self.purged) = (None, lsn),
        }
    }
}

/// A bookmark that was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub bookmark: Bookmark,
    /// Whether a crash of other objects' commits may have taken it.
    pub is_in_doubt: bool,
}

/// A moment of an object, and the bookmarks of it.
#[derive(Debug)]
pub struct Moment<'m> {
    /// How many commits were before it.
    pub number: usize,
    /// The commit that made it; zero before the first.
    pub lsn: Lsn,
    pub map: &'m Map,
    pub bookmarks: Vec<Bookmark>,
}

/// One object.
#[derive(Clone, Debug)]
pub struct ObjectModel {
    pub index: usize,
    pub id: ObjectId,
    /// In which of the store's namespaces it is.
    pub namespace: usize,
    /// The name that handles open it by, if they do.
    pub name: Option<String>,
    settled: State,
    /// Every commit that made `settled`.
    past: Vec<Pending>,
    pending: VecDeque<Pending>,
    now: State,
    /// Every LSN that a commit of it was given in this life of the store or survived an earlier.
    pub next_version: u64,
    /// Bookmarks beside those of its commits.
    pub kept: Vec<Kept>,
    /// Bookmarks that a crash took.
    pub lost: Vec<Bookmark>,
}

impl ObjectModel {
    pub fn new(index: usize, namespace: usize, id: ObjectId, name: Option<String>) -> Self {
        Self {
            index,
            id,
            namespace,
            name,
            settled: State::default(),
            past: Vec::new(),
            pending: VecDeque::new(),
            now: State::default(),
            next_version: 1,
            kept: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// What it has now.
    pub fn now(&self) -> &Map {
        &self.now.map
    }

    /// Its last commit.
    pub fn last_lsn(&self) -> Lsn {
        self.now.lsn
    }

    /// The moment that its next open is to restore.
    pub fn wish(&self) -> Option<Lsn> {
        self.now.wish
    }

    /// The commit that purged it last.
    pub fn purged(&self) -> Lsn {
        self.now.purged
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
                apply(&mut self.settled.map, change, &mut undo);
                undo.clear();
            }
            self.settled.note(pending.lsn, pending.kind);
            self.past.push(pending);
        }
    }

    /// Every commit that it has had, the oldest first.
    pub fn commits(&self) -> impl DoubleEndedIterator<Item = &Pending> {
        self.past.iter().chain(&self.pending)
    }

    /// What it was after each of its commits, and before the first.
    pub fn moments<E>(&self, mut each: impl FnMut(Moment<'_>) -> Result<(), E>) -> Result<(), E> {
        let (mut map, mut undo) = (Map::new(), Vec::new());
        let mut kept: Vec<_> = self.kept.iter().filter(|kept| !kept.is_in_doubt).collect();
        kept.sort_by_key(|kept| kept.bookmark.lsn());
        let mut kept = kept.into_iter().map(|kept| kept.bookmark).peekable();
        let mut commits = self.commits().peekable();
        let (mut lsn, mut own) = (Lsn::ZERO, None);
        for number in 0.. {
            let next = commits.next();
            let end = next.map_or(Lsn(u64::MAX), |next| next.lsn);
            let mut bookmarks: Vec<_> = Option::into_iter(own).collect();
            while let Some(bookmark) = kept.next_if(|bookmark| bookmark.lsn() < end) {
                bookmarks.push(bookmark);
            }
            each(Moment { number, lsn, map: &map, bookmarks })?;
            let Some(next) = next else { break };
            for change in &next.changes {
                apply(&mut map, change, &mut undo);
                undo.clear();
            }
            (lsn, own) = (next.lsn, Some(next.bookmark));
        }
        Ok(())
    }

    /// What it was after its commits up to here.
    pub fn map_at(&self, at: Lsn) -> Map {
        if at >= self.now.lsn {
            return self.now.map.clone();
        }
        let (mut map, mut undo) = (Map::new(), Vec::new());
        for commit in self.commits().take_while(|commit| commit.lsn <= at) {
            commit.changes.iter().for_each(|change| apply(&mut map, change, &mut undo));
            undo.clear();
        }
        map
    }

    /// It, as a copy of the store as of this commit has it.
    pub fn as_of(&self, at: Lsn) -> Self {
        let mut twin = self.clone();
        twin.kept.retain(|kept| kept.bookmark.lsn() <= at);
        let first = twin.past.partition_point(|commit| commit.lsn <= at);
        if first == twin.past.len() {
            twin.truncate(at);
            return twin;
        }
        twin.pending = twin.past.drain(..).collect();
        (twin.settled, twin.now) = Default::default();
        twin.settle(at);
        twin.pending.clear();
        twin.now.clone_from(&twin.settled);
        twin
    }

    /// A bookmark was handed out that names its present moment or an earlier one.
    pub fn keep(&mut self, bookmark: Bookmark) {
        const KEPT_MAX: usize = 60;
        if self.kept.len() < KEPT_MAX {
            self.kept.push(Kept { bookmark, is_in_doubt: false });
        }
    }

    /// A crash has taken everything behind here.
    pub fn truncate(&mut self, last: Lsn) {
        self.settle(last);
        let first_lost = self.pending.front().map(|pending| pending.lsn);
        for kept in &mut self.kept {
            kept.is_in_doubt |= kept.bookmark.lsn() > last;
        }
        if self.pending.is_empty() && self.now.lsn == self.settled.lsn {
            return;
        }
        if let Some(first_lost) = first_lost {
            let is_lost = |kept: &Kept| kept.is_in_doubt && kept.bookmark.lsn() >= first_lost;
            self.lost.extend(self.kept.iter().filter(|kept| is_lost(kept)).map(|k| k.bookmark));
            self.kept.retain(|kept| !is_lost(kept));
        }
        self.lost.extend(self.pending.drain(..).map(|pending| pending.bookmark));
        self.now.clone_from(&self.settled);
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
        &self.object.now.map
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
        self.object.now.lsn
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
        apply(&mut self.object.now.map, &change, &mut self.undo);
        self.changes.push(change);
    }

    pub fn mark(&self) -> Mark {
        Mark(self.changes.len(), self.undo.len())
    }

    pub fn roll_back(&mut self, to: Mark) {
        self.changes.truncate(to.0);
        while self.undo.len() > to.1 {
            match self.undo.pop().expect("longer than the mark") {
                Undo::Everything(map) => self.object.now.map = map,
                Undo::Key(key, Some(content)) => drop(self.object.now.map.insert(key, content)),
                Undo::Key(key, None) => drop(self.object.now.map.remove(&key)),
            }
        }
    }

    /// The turn was logged as this.
    pub fn keep(mut self, position: Position, bookmark: Bookmark, kind: Kind) {
        self.undo.clear();
        let changes = std::mem::take(&mut self.changes);
        let Position { lsn, time } = position;
        self.object.pending.push_back(Pending { lsn, time, kind, bookmark, changes });
        self.object.now.note(lsn, kind);
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
        Change::Put(key.to_vec(), Content { owner: None, version, bytes: 9, shape: Shape::Noise })
    }

    fn object() -> (ObjectModel, Bookmark) {
        let folder = dostore::disk::sim::SimDisk::new(1);
        let store = dostore::store::Store::options().threads(false).open_on(folder).unwrap();
        let namespace = store.namespace("n").unwrap();
        let id = namespace.id_from_name("o");
        (ObjectModel::new(0, 0, id, None), namespace.current_bookmark(id).unwrap())
    }

    fn position(lsn: u64) -> Position {
        Position { lsn: Lsn(lsn), time: Timestamp(lsn) }
    }

    #[test]
    fn a_dropped_draft_changes_nothing_and_a_savepoint_goes_back_to_its_place() {
        let (mut object, bookmark) = object();
        let mut draft = object.draft();
        draft.apply(put(b"a", 1));
        let mark = draft.mark();
        draft.apply(Change::DeleteAll);
        draft.apply(put(b"b", 2));
        draft.roll_back(mark);
        assert_eq!(draft.map().keys().collect::<Vec<_>>(), [b"a"]);
        draft.keep(position(5), bookmark, Kind::Plain);
        let before = object.now().clone();
        let mut draft = object.draft();
        draft.apply(Change::DeleteRange(Bound::Unbounded, Bound::Unbounded));
        assert!(draft.map().is_empty());
        drop(draft);
        assert_eq!(*object.now(), before);
    }

    #[test]
    fn truncating_keeps_a_prefix_of_the_commits() {
        let (mut object, bookmark) = object();
        for lsn in 1..=4 {
            let mut draft = object.draft();
            draft.apply(put(&[u8::try_from(lsn).unwrap()], lsn));
            draft.keep(position(lsn), bookmark, Kind::Plain);
        }
        object.settle(Lsn(1));
        object.truncate(Lsn(3));
        assert_eq!((object.now().len(), object.last_lsn()), (3, Lsn(3)));
        object.truncate(Lsn(9));
        assert_eq!((object.now().len(), object.last_lsn()), (3, Lsn(3)));
    }
}

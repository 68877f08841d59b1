//! The way back, in the middle of everything else: restorations and their undoing, by a handle and
//! from outside, now and at the next open; deleted objects that come back; forks; many objects at
//! once.
//!
//! Invariants:
//!   * What comes back is what the model says of the moment; it is a commit like any other.
//!   * What is refused changes nothing.

use super::model::{Change, Content, Kind, Map};
use super::simulate_checks::{check_all, reads_same};
use super::simulate_past::system_time;
use super::simulate_world::{Outcome, Stop, World};
use dostore::bookmark::Bookmark;
use dostore::error::{Error, ErrorKind};
use dostore::ids::{Lsn, Timestamp};
use dostore::store::commit::Commit;
use dostore::store::object::Object;
use dostore::store::restore::{RestoreOptions, Restored};
use std::collections::BTreeMap;

/// Keys from which on a difference may be more than one commit takes.
const LARGE_KEYS: u64 = 50_000;

/// What is noted of a small change and of one that adopts.
type Ways = [&'static str; 2];

fn wrong<T>(what: String) -> Outcome<T> {
    Err(Stop::Violation(what))
}

impl World {
    /// Enters a commit that was made otherwise than by a turn.
    pub fn note_commit(
        &mut self,
        index: usize,
        commit: Commit,
        change: Option<Change>,
        kind: Kind,
    ) -> Outcome {
        let position = commit.position();
        let mut draft = self.objects[index].draft();
        if let Some(change) = change {
            draft.apply(change);
        }
        let told = draft.told();
        draft.keep(position, commit.bookmark(), kind);
        self.note(format_args!("commit {} of object {index}: {kind:?}, {told}", position.lsn));
        self.check_position(position)?;
        self.settle_commit(commit)
    }

    /// Whether what is to come back may be more than one commit takes.
    fn is_too_large(&self, index: usize, error: &Error) -> bool {
        error.code() == "restore.large" && self.plan.objects[index].keys > LARGE_KEYS
    }

    /// Notes that an object with `now` becomes what has `then`, in one commit or by adoption.
    fn note_way_back(&mut self, [small, large]: Ways, now: &Map, then: &Map) {
        let is_put = |(key, content): &(&Vec<u8>, &Content)| now.get(*key) != Some(*content);
        let puts = then.iter().filter(is_put).count();
        self.seen.insert(if puts > self.plan.adopt_operations { large } else { small });
    }

    /// What kept an object from being restored.
    fn judge_restoration(&mut self, index: usize, at: Lsn, error: &Error) -> Outcome {
        if self.is_too_large(index, error) {
            return Ok(());
        }
        self.judge_refusal("a restoration", index, at, error)
    }

    /// Brings an object back to a moment of its past, and half of the time forth again.
    pub fn restore(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        if self.chance.percent(15) {
            self.delete_object(index)?;
        }
        let Some(bookmark) = self.bookmark_of(index) else { return Ok(()) };
        let undo = self.restore_to(index, &bookmark, ["a restoration", "a large restoration"])?;
        let Some(undo) = undo else { return Ok(()) };
        if self.chance.percent(50) {
            self.objects[index].keep(undo);
            return Ok(());
        }
        self.restore_to(index, &undo, ["an undoing", "a large undoing"]).map(drop)
    }

    /// One restoration, by a handle or from outside.
    fn restore_to(
        &mut self,
        index: usize,
        bookmark: &Bookmark,
        ways: Ways,
    ) -> Outcome<Option<Bookmark>> {
        let by_handle = self.chance.percent(60);
        if by_handle && !self.hold(index)? {
            return Ok(None);
        }
        let at = bookmark.lsn();
        let refusal = self.refusal(index, at);
        let map = self.objects[index].map_at(at);
        let (namespace, id) = (self.namespace_of(index), self.objects[index].id);
        let restored = match self.running().handles.get_mut(&index) {
            Some(handle) if by_handle => handle.restore(bookmark),
            _ => namespace.restore(id, bookmark),
        };
        let Restored { commit, undo } = match restored {
            Err(error) => return self.judge_restoration(index, at, &error).map(|()| None),
            Ok(_) if refusal.is_some() => {
                return wrong(format!("object {index} is restored to {at}: {refusal:?}"));
            }
            Ok(restored) => restored,
        };
        if undo.lsn().0 + 1 != commit.position().lsn.0 {
            return wrong(format!("{undo} does not undo commit {}", commit.position().lsn));
        }
        let now = self.objects[index].now().clone();
        self.note_way_back(ways, &now, &map);
        self.note_commit(index, commit, Some(Change::Become(map)), Kind::Plain)?;
        if by_handle {
            self.check_now(index)?;
        } else if let Some(handle) = self.running().handles.remove(&index) {
            self.check_fenced(index, &handle)?;
        }
        Ok(Some(undo))
    }

    /// An object through its handle, whole.
    fn check_now(&mut self, index: usize) -> Outcome {
        let Some(running) = &self.running else { return Ok(()) };
        let Some(handle) = running.handles.get(&index) else { return Ok(()) };
        let read = check_all(handle, (index, self.objects[index].now()));
        self.judge_read("a restored object", read)
    }

    /// That a handle has lost its right to its object.
    pub fn check_fenced(&mut self, index: usize, handle: &Object) -> Outcome {
        match handle.get("k") {
            Err(error) if error.code() == "handle.fenced" => Ok(()),
            Err(error) => self.judge("reading by a fenced handle", &error),
            Ok(_) => wrong(format!("a handle outlives what was done to object {index}")),
        }
    }

    /// Has the next open restore an object, and sometimes opens it.
    pub fn restore_later(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        let Some(bookmark) = self.bookmark_of(index) else { return Ok(()) };
        if !self.hold(index)? {
            return Ok(());
        }
        let at = bookmark.lsn();
        let before = self.objects[index].now().clone();
        let handle = self.running().handles.get_mut(&index).expect("held just now");
        let (commit, end) = match handle.restore_on_next_open(&bookmark) {
            Ok(done) => done,
            Err(error) => return self.judge_wish(index, at, &error),
        };
        self.note_commit(index, commit, None, Kind::Wish(at))?;
        if self.chance.percent(40) {
            return Ok(());
        }
        self.running().handles.remove(&index);
        if self.chance.percent(20) {
            return self.take_wish_back(index);
        }
        if !self.hold(index)? {
            return Ok(());
        }
        // The bookmark names the end of the session, which is known now.
        let view = match self.running().handles[&index].at(&end) {
            Ok(view) => view,
            Err(error) => {
                let at = Lsn(self.objects[index].last_lsn().0 - 1);
                return self.judge_refusal("the end of a session", index, at, &error);
            }
        };
        self.acknowledged(view.last_lsn());
        let read = check_all(&view, (index, &before));
        self.judge_read("the end of a session", read)
    }

    /// A wish is a commit: its moment is a past one in any case.
    fn judge_wish(&mut self, index: usize, at: Lsn, error: &Error) -> Outcome {
        let from = self.namespace_of(index).history_from();
        let code = match from {
            None => "history.off",
            Some(from) if at < from => "history.expired",
            Some(_) => return self.judge_refusal("a wish", index, at, error),
        };
        if error.code() == code { Ok(()) } else { self.judge("a wish", error) }
    }

    pub fn take_wish_back(&mut self, index: usize) -> Outcome {
        let (namespace, id) = (self.namespace_of(index), self.objects[index].id);
        let has_wish = self.objects[index].wish().is_some();
        match namespace.cancel_restore(id) {
            Ok(Some(commit)) if has_wish => self.note_commit(index, commit, None, Kind::NoWish),
            Ok(None) if !has_wish => Ok(()),
            Ok(told) => wrong(format!("object {index} has {has_wish} and tells {told:?}")),
            Err(error) => self.judge("taking a wish back", &error),
        }
    }

    /// What follows from an open of an object for which a restoration waited.
    pub fn opened(&mut self, index: usize, opened: Result<Object, Error>) -> Outcome<bool> {
        let wish = self.objects[index].wish();
        let handle = match (opened, wish) {
            (Ok(handle), None) => {
                self.running().handles.insert(index, handle);
                return Ok(true);
            }
            (Ok(handle), Some(_)) => handle,
            (Err(error), None) => return self.judge("opening an object", &error).map(|()| false),
            (Err(error), Some(at)) => {
                self.judge_restoration(index, at, &error)?;
                let gives_up = self.running.is_some() && self.chance.percent(60);
                return if gives_up { self.take_wish_back(index) } else { Ok(()) }.map(|()| false);
            }
        };
        let at = wish.expect("matched just now");
        if let Some(code) = self.refusal(index, at) {
            return wrong(format!("object {index} is opened at {at}, and not refused by {code}"));
        }
        let restored = handle.sync();
        self.running().handles.insert(index, handle);
        let commit = match restored {
            Ok(commit) => commit,
            Err(error) => return self.judge("asking for the last commit", &error).map(|()| false),
        };
        let map = self.objects[index].map_at(at);
        self.note_commit(index, commit, Some(Change::Become(map)), Kind::NoWish)?;
        self.check_now(index)?;
        Ok(true)
    }

    /// What an object has when it was written to another one.
    fn forked(map: Map, from: usize) -> Map {
        let owned = |content: Content| Content { owner: content.owner.or(Some(from)), ..content };
        map.into_iter().map(|(key, content)| (key, owned(content))).collect()
    }

    /// Makes an object what another was.
    pub fn fork(&mut self) -> Outcome {
        let (from, to) =
            (self.chance.index(self.objects.len()), self.chance.index(self.objects.len()));
        let Some(bookmark) = self.bookmark_of(from) else { return Ok(()) };
        if !self.objects[to].now().is_empty() && self.chance.percent(70) {
            self.delete_object(to)?;
        }
        self.running().handles.remove(&to);
        let at = bookmark.lsn();
        let refusal = self.refusal(from, at);
        let map = Self::forked(self.objects[from].map_at(at), from);
        let is_free = self.objects[to].now().is_empty() && self.objects[to].wish().is_none();
        let (source, target) = (self.namespace_of(from), self.namespace_of(to));
        let (id, to_id) = (self.objects[from].id, self.objects[to].id);
        let options = RestoreOptions::new();
        let forked = match &self.objects[to].name {
            Some(name) => source.fork_by_name(id, &bookmark, &target, name, options),
            None => source.fork(id, &bookmark, &target, to_id, options),
        };
        match forked {
            Ok(commit) if refusal.is_none() && is_free => {
                self.shared.extend(map.values().map(|content| (content.owner, content.version)));
                self.note_way_back(["a fork", "a large fork"], &Map::new(), &map);
                self.note_commit(to, commit, Some(Change::Become(map)), Kind::Plain)
            }
            Ok(_) => wrong(format!("object {from} at {at} is forked into {to}: {refusal:?}")),
            Err(error) if error.code() == "fork.occupied" && !is_free => Ok(()),
            Err(error) if self.is_too_large(from, &error) => Ok(()),
            Err(error) => self.judge_refusal("a fork", from, at, &error),
        }
    }

    /// Makes all objects of a namespace what they were at a time.
    pub fn restore_all(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        let time = self.some_time(index);
        let namespace = self.namespace_of(index);
        let number = self.objects[index].namespace;
        let own = || self.objects.iter().filter(|object| object.namespace == number);
        let by_id: BTreeMap<_, _> = own().map(|object| (object.id, object.index)).collect();
        let mut left: Vec<usize> = own().map(|object| object.index).collect();
        self.note(format_args!("namespace {number} is restored to {}", time.0));
        for item in namespace.restore_all(system_time(time), RestoreOptions::new()) {
            let item = match item {
                Ok(item) => item,
                Err(error) => return self.judge("listing what is to be restored", &error),
            };
            let Some(index) = by_id.get(&item.id).copied() else {
                return wrong(format!("{} is restored and never was", item.id));
            };
            left.retain(|other| *other != index);
            let at = self.moment_at(index, time);
            match (item.restored, at) {
                (Ok(restored), Some(at)) if self.refusal(index, at).is_none() => {
                    let map = self.objects[index].map_at(at);
                    let change = Some(Change::Become(map));
                    self.note_commit(index, restored.commit, change, Kind::Plain)?;
                    self.objects[index].keep(restored.undo);
                    if let Some(handle) = self.running().handles.remove(&index) {
                        self.check_fenced(index, &handle)?;
                    }
                }
                (Ok(_), at) => {
                    return wrong(format!("object {index} is restored to {at:?}"));
                }
                (Err(error), _) if error.kind() == ErrorKind::NotRetained => {
                    self.judge_time(index, time, &error)?;
                }
                (Err(error), _) if self.is_too_large(index, &error) => {}
                (Err(error), _) => self.judge("restoring one of many", &error)?,
            }
        }
        left.into_iter().try_for_each(|index| self.check_left_alone(index, time))
    }

    /// That an object which was not restored is as it was then.
    fn check_left_alone(&mut self, index: usize, time: Timestamp) -> Outcome {
        let Some(at) = self.moment_at(index, time) else { return Ok(()) };
        let object = &self.objects[index];
        if reads_same(index, &object.map_at(at), object.now()) {
            return Ok(());
        }
        let from = self.namespace_of(index).history_from();
        // What was forgotten is not listed.
        if object.now().is_empty() && from.is_none_or(|from| at < from) {
            return Ok(());
        }
        wrong(format!("object {index} is not restored to {at}"))
    }
}

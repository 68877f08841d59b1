//! Objects as of every bookmark, in the middle of everything else: what is shown, what is refused
//! and why, which commits there were, and what two moments have differently.
//!
//! Invariants:
//!   * Every bookmark of the object is asked for, unless the object is so large that only some are.
//!   * Whether a moment is refused, and by which code, follows from the model, from the first LSN
//!     that its namespace says it can read, and from nothing else.

use super::chance::Chance;
use super::model::{Map, Moment, ObjectModel};
use super::simulate_checks::{Fault, check_all, check_get, shown};
use super::simulate_world::{Outcome, Stop, World};
use dostore::bookmark::Bookmark;
use dostore::error::{Error, ErrorKind};
use dostore::ids::{Lsn, Timestamp};
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Keys compared in one go; of what has more moments than that, some are compared.
const KEYS_MAX: usize = 30_000;

/// The code by which a moment of an object must be refused, if it must; `from` is what its
/// namespace says of the first moment that can be read.
pub fn refusal(object: &ObjectModel, from: Option<Lsn>, at: Lsn) -> Option<&'static str> {
    if at >= object.last_lsn() {
        return None;
    }
    match from {
        None => Some("history.off"),
        Some(from) if at < from => Some("history.expired"),
        Some(_) if at < object.purged() => Some("history.purged"),
        Some(_) => None,
    }
}

/// Whether the store knows nothing of an object that has nothing: it may have forgotten when it
/// ended.
pub fn is_forgotten(object: &ObjectModel, namespace: &Namespace) -> Result<bool, Fault> {
    Ok(object.now().is_empty() && namespace.snapshot(object.id)?.last_lsn() == Lsn::ZERO)
}

/// Whether this is how a moment must be refused.
pub fn is_refused_rightly(
    (object, namespace): (&ObjectModel, &Namespace),
    at: Lsn,
    error: &Error,
) -> Result<bool, Fault> {
    let from = namespace.history_from();
    if let Some(code) = refusal(object, from, at) {
        return Ok(error.code() == code);
    }
    // Who has forgotten when the object ended cannot tell what it was before.
    let code = if from.is_some() { "history.expired" } else { "history.off" };
    let is_old = from.is_none_or(|from| at < from);
    Ok(is_old && error.code() == code && is_forgotten(object, namespace)?)
}

/// Compares an object as of one bookmark. Says how many keys were compared, and the last commit
/// that was shown.
fn compare(
    (object, namespace): (&ObjectModel, &Namespace),
    (moment, bookmark): (&Moment<'_>, &Bookmark),
    chance: &mut Chance,
) -> Result<(u64, Lsn), Fault> {
    let (at, of) = (bookmark.lsn(), (object.index, moment.map));
    let refusal = refusal(object, namespace.history_from(), at);
    let view = match namespace.at(object.id, bookmark) {
        Err(error) if error.kind() == ErrorKind::NotRetained => {
            if is_refused_rightly((object, namespace), at, &error)? {
                return Ok((1, Lsn::ZERO));
            }
            return Err(Fault::Wrong(format!("refused by {error:?}, not by {refusal:?}")));
        }
        read => read?,
    };
    if let Some(code) = refusal {
        return Err(Fault::Wrong(format!("it is shown, and not refused by {code}")));
    }
    check_all(&view, of)?;
    for key in some_keys(chance, moment.map) {
        check_get(&view, of, &key)?;
    }
    // When an object ended that was forgotten since, nobody knows: only that it was purged.
    let known = [Lsn::ZERO, object.purged()];
    let is_forgotten = moment.map.is_empty() && known.contains(&view.last_lsn());
    if view.last_lsn() != moment.lsn && !is_forgotten {
        let what = format!("it says that it is at {}, not at {}", view.last_lsn(), moment.lsn);
        return Err(Fault::Wrong(what));
    }
    Ok((moment.map.len() as u64 + 1, view.last_lsn()))
}

/// A key or two that are there.
fn some_keys(chance: &mut Chance, map: &Map) -> Vec<Vec<u8>> {
    if map.is_empty() || chance.percent(70) {
        return Vec::new();
    }
    let at = chance.index(map.len());
    map.keys().skip(at).take(1).cloned().collect()
}

/// Compares an object as of each of its bookmarks.
pub fn compare_all(
    (object, namespace): (&ObjectModel, &Namespace),
    chance: &mut Chance,
) -> Result<(u64, Lsn), (Lsn, Fault)> {
    let keys = (object.commits().count() + 1) * (object.now().len() + 4);
    let every = keys.div_ceil(KEYS_MAX).max(1);
    let (mut compared, mut last) = (0, Lsn::ZERO);
    object.moments(|moment| {
        if !moment.number.is_multiple_of(every) && chance.percent(95) {
            return Ok(());
        }
        for bookmark in &moment.bookmarks {
            let (keys, shown) = compare((object, namespace), (&moment, bookmark), chance)
                .map_err(|fault| (bookmark.lsn(), fault))?;
            compared += keys;
            last = last.max(shown);
        }
        Ok(())
    })?;
    Ok((compared, last))
}

/// Before 1970 there was nothing.
pub fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(time.0)
}

impl World {
    pub fn namespace_of(&self, index: usize) -> Namespace {
        let running = self.running.as_ref().expect("the store is open");
        running.namespaces[self.objects[index].namespace].clone()
    }

    /// What must be said of a moment of an object now.
    pub fn refusal(&self, index: usize, at: Lsn) -> Option<&'static str> {
        refusal(&self.objects[index], self.namespace_of(index).history_from(), at)
    }

    /// An error where a moment was asked for: one that follows from the moment, or one with a
    /// cause.
    pub fn judge_refusal(&mut self, what: &str, index: usize, at: Lsn, error: &Error) -> Outcome {
        if error.kind() != ErrorKind::NotRetained || self.disk.is_off() {
            return self.judge(what, error);
        }
        let namespace = self.namespace_of(index);
        let object = &self.objects[index];
        match is_refused_rightly((object, &namespace), at, error) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let right = self.refusal(index, at);
                let what = format!("{what} of object {index} at {at}: {error:?}, not {right:?}");
                Err(Stop::Violation(what))
            }
            Err(fault) => self.judge_read(what, Err(fault)),
        }
    }

    /// A bookmark of the object, of any age.
    pub fn bookmark_of(&mut self, index: usize) -> Option<Bookmark> {
        let object = &self.objects[index];
        let kept = object.kept.iter().filter(|kept| !kept.is_in_doubt).map(|kept| kept.bookmark);
        let all: Vec<_> = object.commits().map(|commit| commit.bookmark).chain(kept).collect();
        (!all.is_empty()).then(|| self.chance.pick(&all))
    }

    /// Asks whether a crash has taken bookmarks whose LSN was another object's commit.
    fn settle_doubts(&mut self, index: usize) -> Outcome {
        let namespace = self.namespace_of(index);
        let id = self.objects[index].id;
        for place in (0..self.objects[index].kept.len()).rev() {
            let kept = self.objects[index].kept[place];
            if !kept.is_in_doubt {
                continue;
            }
            match namespace.at(id, &kept.bookmark) {
                Err(error) if error.code() == "bookmark.lost" => {
                    self.objects[index].kept.remove(place);
                    self.objects[index].lost.push(kept.bookmark);
                }
                Err(error) if error.kind() != ErrorKind::NotRetained => {
                    return self.judge("asking for a bookmark", &error);
                }
                Ok(_) | Err(_) => self.objects[index].kept[place].is_in_doubt = false,
            }
        }
        Ok(())
    }

    /// Compares one object as of each of its bookmarks with the model.
    pub fn check_past_of(&mut self, index: usize) -> Outcome {
        self.settle_doubts(index)?;
        let namespace = self.namespace_of(index);
        let compared = compare_all((&self.objects[index], &namespace), &mut self.chance);
        match compared {
            Ok((keys, last)) => {
                self.counts.past += keys;
                self.acknowledged(last);
                self.check_refused(index)
            }
            Err((at, Fault::Wrong(what))) => {
                Err(Stop::Violation(format!("object {index} as of {at}: {what}")))
            }
            Err((at, Fault::Refused(error))) => {
                self.judge(&format!("reading object {index} as of {at}"), &error)
            }
        }
    }

    /// What a crash took, and what is of another object, is refused for ever.
    fn check_refused(&mut self, index: usize) -> Outcome {
        let (namespace, id) = (self.namespace_of(index), self.objects[index].id);
        let lost = self.objects[index].lost.clone();
        let skipped = self.chance.index(lost.len().max(10) - 9);
        let mut asked: Vec<_> =
            lost.into_iter().skip(skipped).take(10).map(|lost| (lost, "bookmark.lost")).collect();
        let other = self.chance.index(self.objects.len());
        if other != index {
            asked.extend(self.bookmark_of(other).map(|foreign| (foreign, "bookmark.foreign")));
        }
        for (bookmark, code) in asked {
            match namespace.at(id, &bookmark) {
                Err(error) if error.code() == code => {}
                Err(error) => return self.judge(&format!("{code} of {bookmark}"), &error),
                Ok(_) => {
                    let what = format!("object {index} is shown at {bookmark}: {code}");
                    return Err(Stop::Violation(what));
                }
            }
        }
        Ok(())
    }

    /// The past of an object drawn at random.
    pub fn check_past(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        match self.chance.below(6) {
            0 => self.check_history(index),
            1 => self.check_difference(index),
            2 => self.take_bookmark(index),
            3 => self.bookmark_at(index),
            _ => self.check_past_of(index),
        }
    }

    /// The commits that history tells are those of the model.
    fn check_history(&mut self, index: usize) -> Outcome {
        let (namespace, object) = (self.namespace_of(index), &self.objects[index]);
        let told = namespace.history(object.id, ..).and_then(|told| {
            let entries = told.map(|entry| entry.map(|it| (it.bookmark.lsn(), it.time)));
            entries.collect::<Result<Vec<_>, Error>>()
        });
        let told = match told {
            Ok(told) => told,
            Err(error) => return self.judge("telling the history", &error),
        };
        let first = namespace.history_from().unwrap_or(Lsn(u64::MAX)).min(object.last_lsn());
        let first = first.max(Lsn(object.purged().0.saturating_sub(1)));
        let commits = object.commits().filter(|commit| commit.lsn > first);
        let right: Vec<_> = commits.map(|commit| (commit.lsn, commit.time)).collect();
        // Commits that left nothing of what had nothing may be forgotten, with all before them.
        let missing = right.len().checked_sub(told.len());
        let is_forgotten = |missing: usize| {
            let last = missing.checked_sub(1).map(|last| right[last].0);
            right[missing..] == told && last.is_none_or(|last| object.map_at(last).is_empty())
        };
        if !missing.is_some_and(is_forgotten) {
            let what = format!("object {index} tells {told:?} from {first} on, not {right:?}");
            return Err(Stop::Violation(what));
        }
        self.acknowledged(told.last().map_or(Lsn::ZERO, |(lsn, _)| *lsn));
        Ok(())
    }

    /// What two moments have differently.
    fn check_difference(&mut self, index: usize) -> Outcome {
        let (Some(before), Some(after)) = (self.bookmark_of(index), self.bookmark_of(index)) else {
            return Ok(());
        };
        if [before, after].iter().any(|at| self.refusal(index, at.lsn()).is_some()) {
            return Ok(());
        }
        let (namespace, object) = (self.namespace_of(index), &self.objects[index]);
        let [then, now] = [before, after].map(|at| object.map_at(at.lsn()));
        let mut keys: Vec<_> = then.keys().chain(now.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let value = |map: &Map, key: &[u8]| map.get(key).map(|content| content.render(index, key));
        keys.retain(|key| value(&then, key) != value(&now, key));
        let mut right = keys.into_iter();
        let is = |map: &Map, key: &[u8], value: Option<&[u8]>| match (map.get(key), value) {
            (None, None) => true,
            (Some(content), Some(value)) => content.is(index, key, value),
            _ => false,
        };
        let found = namespace.diff(object.id, &before, &after).map_err(Fault::from);
        let read = found.and_then(|mut changes| {
            let wrong = changes.try_fold(None, |wrong: Option<String>, changed| {
                let changed = changed?;
                let is_right = right.next().is_some_and(|key| **key == *changed.key)
                    && is(&then, &changed.key, changed.before.as_deref())
                    && is(&now, &changed.key, changed.after.as_deref());
                Ok::<_, Error>(wrong.or_else(|| (!is_right).then(|| shown(&changed.key))))
            })?;
            match wrong.or_else(|| right.next().map(|key| shown(key))) {
                None => Ok(()),
                Some(key) => Err(Fault::Wrong(format!("{before} and {after} at {key}"))),
            }
        });
        if let Err(Fault::Refused(error)) = &read
            && error.kind() == ErrorKind::NotRetained
        {
            // The object is forgotten: whoever is asked for its past says so.
            return self.judge_refusal("a difference", index, before.lsn(), error);
        }
        self.judge_read(&format!("the difference of object {index}"), read)
    }

    /// The present moment, to come back to.
    fn take_bookmark(&mut self, index: usize) -> Outcome {
        let (namespace, id) = (self.namespace_of(index), self.objects[index].id);
        let handle = self.running().handles.get(&index);
        let taken = handle.map_or_else(|| namespace.current_bookmark(id), Object::current_bookmark);
        match taken {
            Ok(bookmark) => self.objects[index].keep(bookmark),
            Err(error) => self.judge("taking a bookmark", &error)?,
        }
        Ok(())
    }

    /// A time near one of the object's commits.
    pub fn some_time(&mut self, index: usize) -> Timestamp {
        let times: Vec<_> = self.objects[index].commits().map(|commit| commit.time.0).collect();
        let near = if times.is_empty() { 0 } else { self.chance.pick(&times) };
        Timestamp(near.saturating_add(self.chance.below(3)).saturating_sub(1))
    }

    /// The moment of a time is that of all commits up to it.
    fn bookmark_at(&mut self, index: usize) -> Outcome {
        let time = self.some_time(index);
        let namespace = self.namespace_of(index);
        let right = self.moment_at(index, time);
        let object = &self.objects[index];
        match namespace.bookmark_at(object.id, system_time(time)) {
            Ok(bookmark) => {
                let is_present = bookmark.lsn() >= object.last_lsn();
                // Nobody remembers commits that left nothing of what had nothing.
                let is_nothing = |at: Lsn| object.map_at(at).is_empty();
                let until = |right| object.commits().filter(move |commit| commit.lsn > right);
                let had_nothing = |right| {
                    let mut passed = until(right).take_while(|it| it.lsn <= bookmark.lsn());
                    let is_forgotten = passed.all(|commit| is_nothing(commit.lsn));
                    let is_later = bookmark.lsn() > right && is_nothing(right);
                    is_later && (is_forgotten || is_present && object.now().is_empty())
                };
                let is_right = match right {
                    Some(right) => bookmark.lsn() == right || had_nothing(right),
                    None => is_present,
                };
                if !is_right {
                    let what = format!("object {index} at {} is {bookmark}", time.0);
                    return Err(Stop::Violation(format!("{what}, not {right:?}")));
                }
                self.objects[index].keep(bookmark);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotRetained => {
                self.judge_time(index, time, &error)
            }
            Err(error) => self.judge("a bookmark of a time", &error),
        }
    }

    /// The moment of a time, if the object has changed since: right before the first commit
    /// behind the time that can be known of.
    pub fn moment_at(&self, index: usize, time: Timestamp) -> Option<Lsn> {
        let object = &self.objects[index];
        let mut later = object.commits().filter(|commit| commit.lsn >= object.purged());
        let later = later.find(|commit| commit.time > time);
        later.map(|commit| Lsn(commit.lsn.0 - 1))
    }

    /// That history did not reach back to a time.
    pub fn judge_time(&mut self, index: usize, time: Timestamp, error: &Error) -> Outcome {
        let last = self.objects[index].last_lsn();
        let at = self.moment_at(index, time).unwrap_or(last);
        let from = self.namespace_of(index).history_from();
        let manifest = self.manifest();
        let first = manifest.history.iter().filter(|file| Some(file.start) >= from);
        let first = first.map(|file| file.start_time).min().unwrap_or(manifest.cut_time);
        let is_before = from.is_some_and(|from| from > Lsn::ZERO) && time < first;
        if error.code() == "history.expired" && is_before {
            return Ok(());
        }
        self.judge_refusal("a time", index, at, error)
    }
}

//! From when on the history of a namespace is there.
//!
//! A moment can be read if every retention class that the namespace had from then on keeps history
//! that far back.
//!
//! Invariants:
//!   * What is decided rests on one manifest: the one whose files are read.

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::ids::{Lsn, NamespaceNumber, Timestamp};
use crate::marks::{Mark, mark};

use super::View;
use super::history::DEFAULT_CLASS;

/// The class of namespaces whose history is not kept.
pub const OFF_CLASS: u32 = 0;

/// The classes that a namespace had, the newest first, each with the LSN behind which it began.
pub fn classes(
    manifest: &Manifest,
    namespace: NamespaceNumber,
) -> impl Iterator<Item = (u32, Lsn)> {
    let changes = manifest.classes.iter().rev();
    let own = changes.filter(move |change| change.namespace == namespace);
    own.map(|change| (change.class, change.from)).chain([(DEFAULT_CLASS, Lsn::ZERO)])
}

/// Whether a namespace ever had a class, as far as changes are remembered. One that was made behind
/// its first change never had the default.
pub fn had_class(manifest: &Manifest, number: NamespaceNumber, class: u32) -> bool {
    let mut own = manifest.classes.iter().filter(|change| change.namespace == number);
    let first = own.clone().next();
    let known = manifest.namespaces.iter().find(|item| item.value.number == number);
    let began_with = first.zip(known).is_some_and(|(first, item)| first.from < item.since);
    own.any(|change| change.class == class) || class == DEFAULT_CLASS && !began_with
}

/// The class that a namespace has since its last change.
pub fn class_of(manifest: &Manifest, namespace: NamespaceNumber) -> u32 {
    classes(manifest, namespace).next().map_or(DEFAULT_CLASS, |(class, _)| class)
}

/// The first moment of a namespace that can be read, the present one of each object apart. None
/// where its history is not kept.
pub fn readable_from(manifest: &Manifest, namespace: NamespaceNumber) -> Option<Lsn> {
    let mut readable = Lsn::ZERO;
    // Where the class that is looked at ends; the present one does not.
    let mut end = None;
    for (class, from) in classes(manifest, namespace) {
        if end.is_some_and(|end| end <= readable) {
            break;
        }
        // One that was replaced at once had no moment.
        if end == Some(from) {
            continue;
        }
        if class == OFF_CLASS {
            return end.map(|end| readable.max(end));
        }
        let horizons = manifest.horizons.iter();
        let horizon = horizons.filter(|(other, _)| *other == class).map(|(_, lsn)| *lsn).max();
        // History of a class says nothing of moments after its time.
        let horizon = horizon.map(|horizon| end.map_or(horizon, |end: Lsn| horizon.min(end)));
        readable = readable.max(horizon.unwrap_or(Lsn::ZERO));
        end = Some(from);
    }
    Some(readable)
}

/// Fails where history does not reach back to a moment: with `history.off`, or with
/// `history.expired`, which says from when on it is there.
pub fn check(manifest: &Manifest, namespace: NamespaceNumber, at: Lsn) -> Result<()> {
    let Some(from) = readable_from(manifest, namespace) else {
        mark(Mark::RefusedOff);
        let what = "no history is kept of this namespace";
        return Err(Error::new(ErrorKind::NotRetained, "history.off", what));
    };
    if at >= from {
        return Ok(());
    }
    Err(expired(manifest, from))
}

/// The time of the commit at which the first history from `from` on begins.
fn time_of(manifest: &Manifest, from: Lsn) -> Timestamp {
    let files = manifest.history.iter().filter(|file| file.start >= from);
    files.map(|file| file.start_time).min().unwrap_or(manifest.cut_time)
}

#[cold]
fn expired(manifest: &Manifest, from: Lsn) -> Error {
    mark(Mark::RefusedExpired);
    let time = time_of(manifest, from);
    let what = format!("history is there from commit {from} on, made at {} us since 1970", time.0);
    Error::new(ErrorKind::NotRetained, "history.expired", what)
}

/// The first moment of an object's namespace that can be read.
fn first_of(view: &View) -> Lsn {
    readable_from(&view.version.manifest, view.address.namespace).unwrap_or(Lsn::MAX)
}

/// Whether a moment of an object is its present one, as `view` shows it.
///
/// An object of which nothing is known may have been forgotten after it ended: it is as it was
/// only since a moment from which on nothing is forgotten.
pub fn is_present(view: &View, at: Lsn) -> bool {
    at >= present_since(view)
}

fn present_since(view: &View) -> Lsn {
    match view.state.last_lsn {
        Lsn::ZERO => first_of(view).min(view.version.manifest.cut),
        last => last,
    }
}

/// Fails where history does not reach back to a moment of an object, as `view` shows it.
pub fn check_view(view: &View, at: Lsn) -> Result<()> {
    if is_present(view, at) {
        return Ok(());
    }
    check(&view.version.manifest, view.address.namespace, at)
}

/// The moment from which on the commits of an object can be told: right before a purge of it, if
/// there was one.
pub fn history_start(view: &View) -> Lsn {
    first_of(view).min(present_since(view)).max(behind_purge(view))
}

/// The moment right before the object's last purge; the beginning without one.
pub fn behind_purge(view: &View) -> Lsn {
    view.last_purge().map_or(Lsn::ZERO, |purged| Lsn(purged.0.saturating_sub(1)))
}

/// Fails where history of a namespace does not reach back to a time. Says from when on it is there.
pub fn check_time(manifest: &Manifest, namespace: NamespaceNumber, time: Timestamp) -> Result<Lsn> {
    let from = readable_from(manifest, namespace).unwrap_or(Lsn::MAX);
    check(manifest, namespace, from)?;
    // Nothing has expired as long as nothing is missing at the beginning.
    if from > Lsn::ZERO && time < time_of(manifest, from) {
        return Err(expired(manifest, from));
    }
    Ok(from)
}

/// A moment before `time` from which on the commits of an object can be told. Fails where history
/// does not reach back to that time.
pub fn history_from(view: &View, time: Timestamp) -> Result<Lsn> {
    let manifest = &view.version.manifest;
    let from = check_time(manifest, view.address.namespace, time)?;
    let files = manifest.history.iter().filter(|file| file.start_time <= time);
    Ok(files.map(|file| file.start).fold(from, Lsn::max))
}

/// The last moment of an object, as `view` shows it, before a commit behind `time`; none where
/// there is no such commit. Before the last purge there is none that can be read: it fails with
/// `history.purged`.
pub fn moment_at(view: &View, time: Timestamp) -> Result<Option<Lsn>> {
    if view.state.last_time <= time {
        // Of an object that was forgotten nobody can tell when it ended.
        let is_unknown = view.state.last_lsn == Lsn::ZERO;
        return if is_unknown { history_from(view, time).map(|_| None) } else { Ok(None) };
    }
    let purged = behind_purge(view);
    let from = history_from(view, time)?.max(purged);
    let moment = view.first_behind(from, time)?.map(|lsn| Lsn(lsn.0 - 1));
    if view.last_purge().is_some() && moment == Some(purged) {
        let what = "the history of the object at that time was purged";
        return Err(Error::new(ErrorKind::NotRetained, "history.purged", what));
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::ClassChange;
    use proptest::prelude::*;

    const ROOMS: NamespaceNumber = NamespaceNumber(1);

    fn change(class: u32, from: u64) -> ClassChange {
        ClassChange { namespace: ROOMS, class, from: Lsn(from) }
    }

    fn readable(changes: &[(u32, u64)], horizons: &[(u32, u64)]) -> Option<u64> {
        let manifest = Manifest {
            classes: changes.iter().map(|(class, from)| change(*class, *from)).collect(),
            horizons: horizons.iter().map(|(class, lsn)| (*class, Lsn(*lsn))).collect(),
            ..Manifest::default()
        };
        readable_from(&manifest, ROOMS).map(|lsn| lsn.0)
    }

    #[test]
    fn every_class_from_a_moment_on_must_reach_back_to_it() {
        assert_eq!(readable(&[], &[]), Some(0));
        assert_eq!(readable(&[], &[(1, 50), (2, 70)]), Some(50));
        assert_eq!(readable(&[(17, 100)], &[(1, 50)]), Some(50));
        assert_eq!(readable(&[(17, 100)], &[(1, 50), (17, 200)]), Some(200));
        // The old class's horizon has gone beyond its end.
        assert_eq!(readable(&[(17, 100)], &[(1, 500), (17, 0)]), Some(100));
        assert_eq!(readable(&[(0, 100)], &[]), None);
        assert_eq!(readable(&[(0, 100), (1, 200)], &[]), Some(200));
        assert_eq!(readable(&[(0, 100), (1, 200), (17, 300)], &[(17, 250)]), Some(250));
        assert_eq!(readable(&[(0, 100), (1, 200), (17, 300)], &[(17, 350)]), Some(350));
        assert_eq!(readable(&[(0, 0)], &[]), None);
    }

    #[test]
    fn the_classes_of_other_namespaces_do_not_count() {
        let other = ClassChange { namespace: NamespaceNumber(2), class: 0, from: Lsn(100) };
        let manifest = Manifest { classes: vec![other], ..Manifest::default() };
        assert_eq!(readable_from(&manifest, ROOMS), Some(Lsn(0)));
        assert_eq!(readable_from(&manifest, other.namespace), None);
        assert_eq!((class_of(&manifest, ROOMS), class_of(&manifest, other.namespace)), (1, 0));
    }

    proptest! {
        /// The rule as it is told: each class that was in force at some moment in `at..` keeps
        /// history, and has not let go of what is behind `at`.
        #[test]
        fn readable_moments_are_those_of_the_rule(
            classes in proptest::collection::vec((0u32..3, 1u64..12), 0..5),
            horizons in proptest::collection::vec((1u32..3, 0u64..14), 0..4),
            at in 0u64..14,
        ) {
            let mut changes = classes;
            changes.sort_by_key(|(_, from)| *from);
            let spans: Vec<_> = std::iter::once((1, 0)).chain(changes.iter().copied()).collect();
            let ends = spans.iter().skip(1).map(|(_, from)| *from).chain([u64::MAX]);
            let is_kept = spans.iter().zip(ends).all(|((class, from), end)| {
                let horizon = horizons.iter().filter(|(of, _)| of == class).map(|(_, to)| *to);
                let is_asked = end > at && end > *from;
                !is_asked || *class != 0 && horizon.max().unwrap_or(0).min(end) <= at
            });
            let found = readable(&changes, &horizons);
            prop_assert_eq!(found.is_some_and(|from| from <= at), is_kept);
        }
    }
}

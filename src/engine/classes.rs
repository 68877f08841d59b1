//! Retention classes: which namespaces share files of history, and from when on.
//!
//! What users want stands in the catalog; what holds stands in the manifest. A checkpoint makes the
//! two agree: at its cut, which ends the epoch, so that no file holds two classes' worth of a
//! namespace.
//!
//! Invariants:
//!   * A namespace's class changes only where an epoch ends, or before its first commit.

use super::Engine;
use super::catalog::CATALOG;
use crate::format::manifest::{ClassChange, Manifest};
use crate::ids::{Lsn, NamespaceNumber};
use crate::object::history::DEFAULT_CLASS;
use crate::object::retention::{OFF_CLASS, class_of};
use crate::retention::Retention;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Classes of namespaces with a setting of their own: this, and the number. From here on a class is
/// that of one namespace.
pub(super) const OWN_CLASSES: u32 = 16;

/// How long histories are wanted, at one moment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of namespaces without a setting of their own.
    pub default: Retention,
    /// By namespace; none for the store's.
    pub own: BTreeMap<NamespaceNumber, Option<Retention>>,
}

/// The class that a namespace is to have.
pub fn wanted_class(number: NamespaceNumber, own: Option<Retention>, default: Retention) -> u32 {
    match own.unwrap_or(default) {
        Retention::Off => OFF_CLASS,
        Retention::Keep { .. } if own.is_some() => OWN_CLASSES + number.0,
        Retention::Keep { .. } => DEFAULT_CLASS,
    }
}

impl Settings {
    /// Every namespace, that of the store's own included.
    pub fn numbers(&self) -> impl Iterator<Item = NamespaceNumber> {
        std::iter::once(CATALOG.namespace).chain(self.own.keys().copied())
    }

    /// How long the history of a namespace is wanted.
    pub fn retention(&self, number: NamespaceNumber) -> Retention {
        self.own.get(&number).copied().flatten().unwrap_or(self.default)
    }

    /// The class that a namespace is to have.
    pub fn class(&self, number: NamespaceNumber) -> u32 {
        wanted_class(number, self.own.get(&number).copied().flatten(), self.default)
    }

    /// How long the history of a class is wanted; none where no namespace is to have it.
    pub fn of_class(&self, class: u32) -> Option<Retention> {
        let number = if class == DEFAULT_CLASS {
            CATALOG.namespace
        } else {
            NamespaceNumber(class.checked_sub(OWN_CLASSES)?)
        };
        (self.class(number) == class).then(|| self.retention(number))
    }
}

/// What a checkpoint changes of classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassPlan {
    /// Of namespaces without a commit before the last cut: from there on.
    pub first: Vec<ClassChange>,
    /// From the cut of the checkpoint on.
    pub then: Vec<ClassChange>,
    /// Namespaces that no checkpoint has looked at before.
    pub new: BTreeSet<NamespaceNumber>,
}

impl ClassPlan {
    /// What makes the manifest, whose cut is the last one, agree with the settings at a cut.
    pub fn of(
        manifest: &Manifest,
        settings: &Settings,
        is_new: impl Fn(NamespaceNumber) -> bool,
        cut: Lsn,
    ) -> Self {
        let mut plan = Self::default();
        for namespace in settings.numbers() {
            let class = settings.class(namespace);
            if is_new(namespace) {
                plan.new.insert(namespace);
            }
            if class == class_of(manifest, namespace) {
                continue;
            }
            // A store's first cut is that of all its namespaces.
            if manifest.cut == Lsn::ZERO || plan.new.contains(&namespace) {
                plan.first.push(ClassChange { namespace, class, from: manifest.cut });
            } else {
                plan.then.push(ClassChange { namespace, class, from: cut });
            }
        }
        plan
    }
}

impl Engine {
    /// What the checkpoint of `cut` changes of classes. Asked once for each checkpoint, before its
    /// history is written.
    pub(super) fn class_plan(&self, manifest: &Manifest, cut: Lsn) -> ClassPlan {
        ClassPlan::of(manifest, &self.settings(), |number| self.catalog.is_new(number), cut)
    }

    /// Whether somebody wants the open epoch to end at the next checkpoint.
    pub(super) fn wants_epoch_end(&self) -> bool {
        self.expiry.ends_epoch.load(Ordering::Relaxed)
    }

    /// Notes that a checkpoint was published which ended the epoch, or went on in it.
    pub(super) fn note_classes(&self, plan: &ClassPlan, epoch_ended: bool) {
        self.catalog.forget_new(&plan.new);
        if epoch_ended {
            self.expiry.ends_epoch.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(default: Retention, own: &[(u32, Option<Retention>)]) -> Settings {
        let own = own.iter().map(|(number, own)| (NamespaceNumber(*number), *own)).collect();
        Settings { default, own }
    }

    #[test]
    fn a_class_is_shared_only_by_namespaces_without_a_setting() {
        let week = Some(Retention::days(7));
        let settings =
            settings(Retention::days(30), &[(1, None), (2, week), (3, Some(Retention::Off))]);
        let class = |number| settings.class(NamespaceNumber(number));
        assert_eq!([class(0), class(1), class(2), class(3)], [1, 1, 18, 0]);
        assert_eq!(settings.of_class(1), Some(Retention::days(30)));
        assert_eq!(settings.of_class(18), week);
        assert_eq!([0, 2, 16, 17, 19].map(|class| settings.of_class(class)), [None; 5]);
    }

    #[test]
    fn changes_hold_from_the_cut_and_first_settings_from_the_beginning() {
        let cut = Lsn(200);
        let mut manifest = Manifest { cut: Lsn(100), ..Manifest::default() };
        let week = Some(Retention::days(7));
        let settings = settings(Retention::days(30), &[(1, None), (2, week), (3, week)]);
        let plan = ClassPlan::of(&manifest, &settings, |number| number.0 == 3, cut);
        let change = |namespace, class, from| ClassChange {
            namespace: NamespaceNumber(namespace),
            class,
            from: Lsn(from),
        };
        assert_eq!(plan.first, [change(3, 19, 100)]);
        assert_eq!(plan.then, [change(2, 18, 200)]);
        manifest.classes = [plan.first.clone(), plan.then.clone()].concat();
        assert!(plan.new.contains(&NamespaceNumber(3)));
        assert_eq!(ClassPlan::of(&manifest, &settings, |_| false, cut), ClassPlan::default());
    }

    #[test]
    fn a_store_whose_default_is_off_has_no_history_from_its_first_cut_on() {
        let settings = settings(Retention::Off, &[(1, None), (2, Some(Retention::days(7)))]);
        let plan = ClassPlan::of(&Manifest::default(), &settings, |_| false, Lsn(5));
        let classes: Vec<_> =
            plan.first.iter().map(|change| (change.namespace.0, change.class)).collect();
        assert_eq!(classes, [(0, 0), (1, 0), (2, 18)]);
        assert!(plan.first.iter().all(|change| change.from == Lsn(0)) && plan.then.is_empty());
    }
}

//! What goes, in the middle of everything else: history that expires or is switched off, and
//! objects that are purged.
//!
//! Invariants:
//!   * History goes only with a reason: nobody wants it any more, it is older than whoever wants
//!     it asks for, it takes more than it may, or the file system is full.
//!   * The bytes of a purged object are looked for in every file once the manifest says that they
//!     are gone.

use super::model::{Change, Content, Kind, Shape};
use super::simulate_plan::Action;
use super::simulate_world::{Activity, Outcome, Stop, World};
use super::traces::traces;
use dostore::disk::ReadDisk;
use dostore::format::manifest::{HistoryFile, Manifest};
use dostore::ids::Lsn;
use dostore::names::FileName;
use dostore::retention::Retention;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bytes of a value that are looked for after its object was purged.
const MARKER_BYTES: usize = 16;
/// Values of one purged object that are looked for.
const MARKERS: usize = 6;

/// An object that was purged.
#[derive(Clone, Debug)]
pub struct Purged {
    index: usize,
    lsn: Lsn,
    markers: Vec<Vec<u8>>,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A retention class, as the manifest counts them, by the number of a namespace in this test.
fn class_of(namespace: usize) -> u32 {
    17 + u32::try_from(namespace).expect("few namespaces")
}

impl World {
    /// What the manifest says now.
    pub fn manifest(&self) -> Manifest {
        let bytes = self.disk.file_bytes(FileName::Manifest).expect("a store is there");
        Manifest::decode(&bytes).expect("the manifest that the store goes by")
    }

    /// Ends an object and its past.
    pub fn purge(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        let (namespace, id) = (self.namespace_of(index), self.objects[index].id);
        let commit = match namespace.purge(id) {
            Ok(commit) => commit,
            Err(error) => return self.judge("purging an object", &error),
        };
        let (lsn, markers) = (commit.position().lsn, self.markers(index));
        self.purges.push(Purged { index, lsn, markers });
        let is_large = self.objects[index].now().len() > self.plan.adopt_operations;
        self.seen.insert(if is_large { "a large purge" } else { "a purge" });
        self.note_commit(index, commit, Some(Change::DeleteAll), Kind::Purge)?;
        match self.running().handles.remove(&index) {
            Some(handle) => self.check_fenced(index, &handle),
            None => Ok(()),
        }
    }

    /// Parts of values that are in no other object.
    fn markers(&mut self, index: usize) -> Vec<Vec<u8>> {
        let object = &self.objects[index];
        let mut all: Vec<(&Vec<u8>, &Content)> = object
            .commits()
            .flat_map(|commit| &commit.changes)
            .filter_map(|change| match change {
                Change::Put(key, content) => Some((key, content)),
                _ => None,
            })
            .filter(|(_, content)| content.shape == Shape::Noise && content.bytes >= 32)
            .filter(|(_, content)| !self.shared.contains(&(Some(index), content.version)))
            .collect();
        let mut markers = Vec::new();
        while markers.len() < MARKERS && !all.is_empty() {
            let (key, content) = all.swap_remove(self.chance.index(all.len()));
            let value = content.render(index, key);
            // Behind the stamp, whose words repeat.
            let at = 16 + self.chance.index((value.len() - 32) / 8 + 1) * 8;
            markers.push(value[at..at + MARKER_BYTES].to_vec());
        }
        markers
    }

    /// A crash may have taken purges.
    pub fn forget_lost_purges(&mut self) {
        let last = self.floor;
        self.purges.retain(|purge| purge.lsn <= last);
    }

    /// Removes the bytes of purged objects, and looks whether they are gone.
    pub fn erase(&mut self) -> Outcome {
        self.step(Activity::OtherStep, Action::Erase)?;
        // It may have left a cut open.
        self.has_open_cut = true;
        self.check_erased()
    }

    /// Looks for what the manifest calls erased.
    fn check_erased(&mut self) -> Outcome {
        let manifest = self.manifest();
        let is_erased = |purge: &Purged| {
            // What a later purge of the object has taken over goes with that one.
            let commits = self.objects[purge.index].commits();
            let own: Vec<_> =
                commits.filter(|it| it.kind == Kind::Purge).map(|it| it.lsn).collect();
            let own = manifest.purged.iter().find(|entry| own.contains(&entry.lsn));
            manifest.cut >= purge.lsn && own.is_none_or(|entry| entry.erased)
        };
        let (erased, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.purges).into_iter().partition(is_erased);
        self.purges = left;
        if erased.is_empty() {
            return Ok(());
        }
        self.erased.extend(erased.into_iter().flat_map(|purge| purge.markers));
        self.check_traces()
    }

    /// That nothing of what was erased is in any file.
    pub fn check_traces(&mut self) -> Outcome {
        let mut heads = BTreeMap::<[u8; 2], Vec<&[u8]>>::new();
        for marker in &self.erased {
            heads.entry([marker[0], marker[1]]).or_default().push(marker);
        }
        let has = |bytes: &[u8]| {
            bytes.windows(MARKER_BYTES).any(|window| {
                let alike = heads.get(&[window[0], window[1]]);
                alike.is_some_and(|alike| alike.contains(&window))
            })
        };
        let healthy = self.disk.fork();
        healthy.set_faults(dostore::disk::sim::Faults::none());
        let found = traces(&healthy, &has);
        self.counts.looked_for += self.erased.len() as u64;
        if found.is_empty() {
            return Ok(());
        }
        Err(Stop::Violation(format!("what was purged is in {found:?}")))
    }

    /// How long history of a class is wanted; none where nobody wants it.
    fn wanted(&self, manifest: &Manifest, class: u32) -> Option<(u64, Option<u64>)> {
        let keep = |retention: Retention| match retention {
            Retention::Off => None,
            Retention::Keep { age, bytes } => Some((micros(age), bytes)),
        };
        if class == 1 {
            if let Some(kept) = keep(self.plan.retention) {
                return Some(kept);
            }
        } else if let Some(Some(own)) = self.retentions.get(class as usize - 17)
            && let Some(kept) = keep(*own)
        {
            return Some(kept);
        }
        // Those that had the class want their past for as long as their present.
        let had = |namespace: &usize| {
            let changes = manifest.classes.iter();
            let number = class_of(*namespace) - 16;
            class == 1 || changes.clone().any(|it| it.namespace.0 == number && it.class == class)
        };
        let settings = (0..self.retentions.len()).filter(had);
        let ages = settings.filter_map(|namespace| {
            keep(self.retentions[namespace].unwrap_or(self.plan.retention))
        });
        ages.map(|(age, _)| age).max().map(|age| (age, None))
    }

    /// Lets history expire, and asks of what went why.
    pub fn expire(&mut self) -> Outcome<bool> {
        if self.disk.is_off() {
            return Err(Stop::Crashed);
        }
        let before = self.manifest();
        let (wall, is_full) = (self.disk.clock().wall_micros(), self.is_nearly_full());
        let did = self.step(Activity::OtherStep, Action::Expire)?;
        let after = self.manifest();
        let is_left = |file: &&HistoryFile| {
            after.history.iter().any(|other| other.facts.number == file.facts.number)
        };
        let gone: Vec<_> = before.history.iter().filter(|file| !is_left(file)).collect();
        if did {
            self.seen.insert("expiry");
        }
        for file in &gone {
            let wanted = self.wanted(&before, file.class);
            let of_class = before.history.iter().filter(|other| other.class == file.class);
            // Epochs go the oldest first: these were there when the file went.
            let bytes: u64 = of_class
                .filter(|other| other.epoch >= file.epoch)
                .map(|other| other.facts.bytes)
                .sum();
            let is_old = |age: u64| file.end_time.0.saturating_add(age) < wall;
            let may_go = match wanted {
                None => true,
                Some((age, most)) => is_old(age) || most.is_some_and(|most| bytes > most),
            };
            let is_closed = file.epoch < before.epoch;
            if !is_closed || !may_go && !is_full {
                let what = format!("{file:?} went at {wall}, wanted for {wanted:?}");
                return Err(Stop::Violation(what));
            }
        }
        Self::check_horizons(&after, &gone)?;
        Ok(did)
    }

    /// Whether history without a bound of its own has to give way.
    fn is_nearly_full(&self) -> bool {
        self.is_short_of_space
    }

    /// The first readable moment is exactly what the files allow.
    fn check_horizons(manifest: &Manifest, gone: &[&HistoryFile]) -> Outcome {
        let classes: BTreeSet<u32> = gone.iter().map(|file| file.class).collect();
        for class in classes {
            let ends = gone.iter().filter(|file| file.class == class).map(|file| file.end);
            let horizon = manifest.horizons.iter().find(|(of, _)| *of == class);
            let horizon = horizon.map(|(_, lsn)| *lsn);
            if ends.max() != horizon {
                let what = format!("the horizon of class {class} is {horizon:?}");
                return Err(Stop::Violation(what));
            }
        }
        let is_behind = |file: &&HistoryFile| {
            let mut horizons = manifest.horizons.iter();
            let horizon = horizons.find(|(class, _)| *class == file.class);
            // States alone stand at the beginning of what they belong to.
            let end = if file.start < file.end { file.end } else { file.end.next() };
            file.epoch < manifest.epoch && horizon.is_some_and(|(_, lsn)| end <= *lsn)
        };
        match manifest.history.iter().find(is_behind) {
            None => Ok(()),
            Some(file) => Err(Stop::Violation(format!("{file:?} is behind its horizon"))),
        }
    }

    /// Sets how long the history of a namespace is kept.
    pub fn retain(&mut self) -> Outcome {
        if self.plan.retentions.is_empty() {
            return Ok(());
        }
        let namespace = self.chance.index(self.plan.namespaces);
        let retention = self.chance.pick(&self.plan.retentions);
        let set = self.running().namespaces[namespace].set_retention(retention);
        self.note(format_args!("namespace {namespace} keeps {retention:?}: {set:?}"));
        match set {
            Ok(()) => {
                self.retentions[namespace] = retention;
                self.note_durable();
                Ok(())
            }
            Err(error) => {
                // Whether it was logged, only the next open tells.
                self.retentions_tried.push((namespace, retention));
                self.judge("setting a retention", &error)
            }
        }
    }

    /// What was set is there after a crash.
    pub fn check_retentions(&mut self) -> Outcome {
        let tried = std::mem::take(&mut self.retentions_tried);
        for namespace in 0..self.plan.namespaces {
            let found = self.running().namespaces[namespace].retention();
            if found != self.retentions[namespace] && !tried.contains(&(namespace, found)) {
                let what = format!("namespace {namespace} keeps {found:?} after a crash");
                return Err(Stop::Violation(what));
            }
            self.retentions[namespace] = found;
        }
        Ok(())
    }

    /// When time passes and nothing else happens, all history goes that is too old, and the rest
    /// stays.
    pub fn check_expired(&mut self) -> Outcome {
        self.act(Action::WaitForAll)?;
        // Clock and uptime agree for a day, and then for as long as the horizon needs.
        self.expire()?;
        self.disk.advance(Duration::from_hours(25));
        self.expire()?;
        let wall = self.disk.clock().wall_micros();
        let manifest = self.manifest();
        let times = manifest.history.iter().flat_map(|file| [file.start_time.0, file.end_time.0]);
        let oldest = times.filter(|time| *time > 0).min();
        let behind = wall.saturating_sub(oldest.unwrap_or(wall)) / 24;
        let passed = behind.saturating_add(micros(Duration::from_hours(1)));
        self.disk.advance(Duration::from_micros(passed));
        self.expire()?;
        if self.expire()? {
            return Err(Stop::Violation("history expires at once a second time".to_owned()));
        }
        let (manifest, wall) = (self.manifest(), self.disk.clock().wall_micros());
        for file in manifest.history.iter().filter(|file| file.epoch < manifest.epoch) {
            let is_old = match self.wanted(&manifest, file.class) {
                None => true,
                // The clock has passed on while the horizon caught up.
                Some((age, _)) => {
                    file.end_time.0.saturating_add(age).saturating_add(passed * 2) < wall
                }
            };
            if is_old {
                return Err(Stop::Violation(format!("{file:?} stays at {wall}")));
            }
        }
        Ok(())
    }
}

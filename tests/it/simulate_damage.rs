//! Damage to the medium, which no crash explains: a store refuses or is right, and is never wrong.
//!
//! All of it is done to copies of the machine, at a moment when everything is durable and a mark
//! behind the last commit proves it.
//!
//! Invariants:
//!   * What opens in spite of damage to the log has lost nothing.
//!   * A flipped bit in a segment hurts the one object whose byte it is, and no other.
//!   * However many places are damaged at once, what is read is right or refused.

use super::model::{Content, Map, Shape};
use super::simulate_checks::{Fault, check_all, check_get};
use super::simulate_plan::Action;
use super::simulate_world::{Activity, Outcome, Stop, World, namespace_name};
use dostore::disk::sim::{Damage, SimDisk};
use dostore::disk::{Disk, ReadDisk};
use dostore::error::{Error, ErrorKind};
use dostore::names::FileName;
use dostore::store::{Options, Store};
use std::collections::BTreeSet;

/// Damaged copies of one seed, and those in which several places are.
const DAMAGES: u64 = 6;
const DAMAGED_IN_SEVERAL_PLACES: u64 = 2;
/// Power cuts of one seed that tear sectors.
const TEARS: u64 = 2;
/// Objects from which on a dictionary may be shared by many pages.
const DICTIONARY_OBJECTS: usize = 40;

/// What befalls a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Medium(Damage),
    Gone,
}

/// A damaged copy of the machine, and what its store should say.
#[derive(Clone)]
pub struct Patient {
    pub disk: SimDisk,
    pub told: String,
    pub maps: Vec<Map>,
    /// Whether the store may say that it cannot read, where it would else say that it is damaged.
    pub may_fail: bool,
    /// Whether the directory is hurt: what it does not say cannot be changed in part.
    pub is_lost: bool,
    options: Options,
}

impl Patient {
    pub fn wrong<T>(&self, what: impl std::fmt::Display) -> Outcome<T> {
        Err(Stop::Violation(format!("after {}: {what}", self.told)))
    }

    fn is_honest(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::Corrupt => true,
            ErrorKind::Io | ErrorKind::NotFound => self.may_fail,
            _ => false,
        }
    }

    /// The store, if it opens.
    pub fn open(&self) -> Outcome<Option<Store>> {
        match self.options.clone().open_on(self.disk.clone()) {
            Ok(store) => Ok(Some(store)),
            Err(error) if self.is_honest(&error) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => self.wrong(format_args!("opening says {error:?}")),
        }
    }

    /// Another such copy.
    pub fn fork(&self) -> Self {
        Self { disk: self.disk.fork(), ..self.clone() }
    }

    /// Reads every object whole and by key; says which of them the store refuses.
    pub fn read(&self, world: &World, store: &Store) -> Outcome<BTreeSet<usize>> {
        let mut hurt = BTreeSet::new();
        for object in &world.objects {
            let (index, map) = (object.index, &self.maps[object.index]);
            let namespace = match store.namespace(&namespace_name(object.namespace)) {
                Ok(namespace) => namespace,
                Err(error) => return self.wrong(format_args!("a namespace says {error:?}")),
            };
            let read = namespace.open(object.id).map_err(Fault::Refused).and_then(|handle| {
                check_all(&handle, (index, map))?;
                let keys: Vec<_> = map.keys().take(5).collect();
                keys.iter().try_for_each(|key| check_get(&handle, (index, map), key))
            });
            match read {
                Ok(()) => {}
                Err(Fault::Wrong(wrong)) => return self.wrong(wrong),
                Err(Fault::Refused(error)) if self.is_honest(&error) => {
                    hurt.insert(index);
                }
                Err(Fault::Refused(error)) => {
                    return self.wrong(format_args!("object {index} says {error:?}"));
                }
            }
        }
        Ok(hurt)
    }

    /// One more key for every object, some of them emptied first.
    pub fn write(&mut self, world: &World, store: &Store, hurt: &BTreeSet<usize>) -> Outcome {
        for object in &world.objects {
            let index = object.index;
            let namespace = store.namespace(&namespace_name(object.namespace));
            let Ok(namespace) = namespace else { return self.wrong("a namespace is gone") };
            if hurt.contains(&index) && index % 2 == 0 {
                match namespace.delete(object.id) {
                    Ok(_) => self.maps[index].clear(),
                    Err(error) if self.is_honest(&error) => continue,
                    Err(error) => return self.wrong(format_args!("deleting says {error:?}")),
                }
            }
            let mut handle = match namespace.open(object.id) {
                Ok(handle) => handle,
                Err(error) if self.is_honest(&error) => continue,
                Err(error) => return self.wrong(format_args!("opening says {error:?}")),
            };
            let bytes = if index % 3 == 0 { 3_000 } else { 20 };
            let content = Content { owner: None, version: 1 << 40, bytes, shape: Shape::Noise };
            let key = b"k00001".to_vec();
            match handle
                .put(&key, content.render(index, &key))
                .and_then(dostore::store::commit::Commit::wait)
            {
                Ok(_) => {}
                Err(error) => return self.wrong(format_args!("a put says {error:?}")),
            }
            self.maps[index].insert(key, content);
        }
        Ok(())
    }

    /// A checkpoint, a cleaning and a merge: damaged pages keep none of them from its work.
    pub fn maintain(&self, store: &Store) -> Outcome {
        for step in [Action::Checkpoint, Action::Clean, Action::Merge] {
            let steps = store.steps();
            let done = match step {
                Action::Checkpoint => steps.checkpoint(),
                Action::Clean => steps.clean(),
                _ => steps.merge(),
            };
            match done {
                Ok(_) => {}
                Err(error) if self.is_lost && self.is_honest(&error) => {}
                Err(error) => return self.wrong(format_args!("{step:?} says {error:?}")),
            }
        }
        Ok(())
    }

    /// The whole examination.
    pub fn examine(&mut self, world: &World) -> Outcome<BTreeSet<usize>> {
        let Some(store) = self.open()? else { return Ok(BTreeSet::new()) };
        let hurt = self.read(world, &store)?;
        self.write(world, &store, &hurt)?;
        self.maintain(&store)?;
        self.read(world, &store)?;
        drop(store);
        self.disk = self.disk.kill();
        if let Some(store) = self.open()? {
            self.read(world, &store)?;
        }
        Ok(hurt)
    }
}

impl World {
    /// A copy of the machine as it is, and what its store should say.
    pub fn patient(&mut self, of: &SimDisk, told: &str) -> Patient {
        let maps = self.objects.iter().map(|object| object.now().clone()).collect();
        let options = self.plan.options(&mut self.chance);
        Patient {
            disk: of.fork(),
            told: told.to_owned(),
            maps,
            may_fail: false,
            is_lost: false,
            options,
        }
    }

    /// Damages copies of the machine, most in one place.
    pub fn damage(&mut self) -> Outcome {
        for _ in 0..self.chance.below(20) {
            self.turn()?;
        }
        for index in 0..self.objects.len() {
            // Whoever opens an object next would change it.
            self.take_wish_back(index)?;
        }
        self.act(Action::WaitForAll)?;
        // No mark is written where the file is full and none stands ready.
        self.act(Action::PrepareFile)?;
        self.step(Activity::OtherStep, Action::WriteMark)?;
        let healthy = self.disk.fork();
        for _ in 0..DAMAGES {
            self.damage_once(&healthy)?;
        }
        for _ in 0..DAMAGED_IN_SEVERAL_PLACES {
            self.damage_often(&healthy)?;
        }
        for _ in 0..TEARS {
            self.tear(&healthy)?;
        }
        self.lose_sector(&healthy)?;
        self.damage_and_scrub(&healthy)?;
        self.forge(&healthy)
    }

    fn damage_once(&mut self, healthy: &SimDisk) -> Outcome {
        let mut patient = self.patient(healthy, "");
        let Some((name, harm)) = self.hurt(&mut patient, true) else { return Ok(()) };
        if harm_is_total(name, harm) {
            return Self::check_missing(&patient);
        }
        let hurt = patient.examine(self)?;
        let is_bit = matches!(harm, Harm::Medium(Damage::FlipBit(_)));
        let is_one = is_bit && self.objects.len() < DICTIONARY_OBJECTS;
        let most = match name {
            _ if is_of_log(name) => 0,
            FileName::Segment(_) if is_one => 1,
            _ => usize::MAX,
        };
        if hurt.len() > most {
            return patient.wrong(format_args!("objects {hurt:?} are hurt"));
        }
        Ok(())
    }

    /// Several places of one copy. Only one is of the log: of a group and of what proves that it
    /// was durable, one must be left.
    fn damage_often(&mut self, healthy: &SimDisk) -> Outcome {
        let mut patient = self.patient(healthy, "");
        let mut may_be_log = true;
        for _ in 0..self.chance.between(2, 8) {
            let Some((name, harm)) = self.hurt(&mut patient, may_be_log) else { continue };
            if harm_is_total(name, harm) {
                return Self::check_missing(&patient);
            }
            may_be_log &= !is_of_log(name);
        }
        patient.examine(self).map(|_| ())
    }

    /// Damages one place; what it is, where there is something to damage.
    fn hurt(&mut self, patient: &mut Patient, may_be_log: bool) -> Option<(FileName, Harm)> {
        let mut names = patient.disk.names();
        names.retain(|name| name.number().is_some() || *name == FileName::Manifest);
        names.retain(|name| may_be_log || !is_of_log(*name));
        let name = (!names.is_empty()).then(|| self.chance.pick(&names))?;
        let bytes = patient.disk.file_bytes(name).map_or(0, |bytes| bytes.len() as u64);
        if bytes < 512 {
            return None;
        }
        let harm = self.draw_harm(name, &patient.disk, bytes);
        patient.told = format!("{}, {harm:?} of {name}", patient.told);
        self.note(format_args!("{}", patient.told));
        self.counts.damages += 1;
        // What the medium does not give of a page is damage as any other.
        let is_page = matches!(name, FileName::Segment(_));
        let is_unread = matches!(harm, Harm::Gone | Harm::Medium(Damage::Unreadable(_)));
        patient.may_fail |= is_unread && !is_page;
        patient.is_lost |= matches!(name, FileName::Run(_));
        match harm {
            Harm::Medium(damage) => {
                patient.disk.damage(name, damage).expect("the place is in the file");
            }
            Harm::Gone => {
                patient.disk.remove(name).expect("the file is there");
                patient.disk.sync_folder(name.folder()).expect("nothing fails here");
            }
        }
        Some((name, harm))
    }

    /// Without its manifest a store is refused, not made anew.
    fn check_missing(patient: &Patient) -> Outcome {
        match patient.open()? {
            None => Ok(()),
            Some(_) => patient.wrong("the store opens"),
        }
    }

    fn draw_harm(&mut self, name: FileName, disk: &SimDisk, bytes: u64) -> Harm {
        let is_log = matches!(name, FileName::Wal(_));
        // Nothing names the newest file of the log: without a byte of it, it was never there.
        let least = u64::from(is_log);
        // Most of a log file was never written: damage where there is something.
        let image = disk.file_bytes(name).unwrap_or_default();
        let used = image.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1);
        let sectors = used.div_ceil(512).min(bytes / 512).max(1);
        let sector = self.chance.below(sectors);
        Harm::Medium(match self.chance.below(12) {
            0 => Damage::ZeroSector(sector),
            1 => Damage::Garbage(sector),
            2 => Damage::SwapSectors(sector, self.chance.below(sectors)),
            3 => Damage::Unreadable(sector),
            4 => Damage::SetLength(least + self.chance.below(bytes - least)),
            5 => Damage::SetLength(bytes + self.chance.pick(&[1, 512, 4_096])),
            6 if !is_log => return Harm::Gone,
            _ => Damage::FlipBit(self.chance.below(used * 8)),
        })
    }
}

fn is_of_log(name: FileName) -> bool {
    matches!(name, FileName::Wal(_) | FileName::Manifest)
}

fn harm_is_total(name: FileName, harm: Harm) -> bool {
    name == FileName::Manifest && matches!(harm, Harm::Gone)
}

/// What a disk's manifest says; the disk is healthy.
pub fn manifest_of(disk: &dyn ReadDisk) -> dostore::format::manifest::Manifest {
    dostore::manifest::read(disk).expect("a healthy disk").expect("a store is there")
}

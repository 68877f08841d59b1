//! What one seed draws before it begins: sizes, weights, how much goes wrong.
//!
//! Each seed draws its own mix, so that rare combinations meet; most universes are tiny, so that
//! things coincide.
//!
//! Invariants:
//!   * A plan follows from its seed, or its input, alone.

use super::chance::Chance;
use super::model::Shape;
use dostore::retention::Retention;
use dostore::store::{Options, Store};
use std::time::Duration;

/// What may happen between two crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Turn,
    DeleteObject,
    Read,
    Snapshot,
    Listing,
    LetGo,
    WaitForAll,
    WriteGroup,
    WriteMark,
    Checkpoint,
    Clean,
    Merge,
    PrepareFile,
    RemoveRetired,
    Advance,
    SetWall,
    Evict,
    Space,
    SecondWriter,
    Figures,
    DeleteMuch,
    TouchMany,
    Past,
    Restore,
    RestoreLater,
    Fork,
    RestoreAll,
    Purge,
    Erase,
    Expire,
    Retain,
    BackUp,
    Scrub,
}

impl Action {
    pub const ALL: &[Self] = &[
        Self::Turn,
        Self::DeleteObject,
        Self::Read,
        Self::Snapshot,
        Self::Listing,
        Self::LetGo,
        Self::WaitForAll,
        Self::WriteGroup,
        Self::WriteMark,
        Self::Checkpoint,
        Self::Clean,
        Self::Merge,
        Self::PrepareFile,
        Self::RemoveRetired,
        Self::Advance,
        Self::SetWall,
        Self::Evict,
        Self::Space,
        Self::SecondWriter,
        Self::Figures,
        Self::DeleteMuch,
        Self::TouchMany,
        Self::Past,
        Self::Restore,
        Self::RestoreLater,
        Self::Fork,
        Self::RestoreAll,
        Self::Purge,
        Self::Erase,
        Self::Expire,
        Self::Retain,
        Self::BackUp,
        Self::Scrub,
    ];

    /// How often it happens, where a seed does not say otherwise.
    fn weight(self) -> u64 {
        match self {
            Self::Turn => 60,
            Self::Read => 12,
            Self::Snapshot | Self::Checkpoint | Self::WaitForAll | Self::WriteGroup => 6,
            Self::DeleteObject | Self::LetGo | Self::Clean | Self::Merge | Self::Past => 4,
            Self::Restore => 5,
            Self::Listing | Self::RemoveRetired | Self::Expire => 3,
            Self::WriteMark
            | Self::PrepareFile
            | Self::Advance
            | Self::Evict
            | Self::RestoreLater
            | Self::Fork
            | Self::Erase => 2,
            Self::SetWall
            | Self::Space
            | Self::SecondWriter
            | Self::Figures
            | Self::DeleteMuch
            | Self::TouchMany
            | Self::RestoreAll
            | Self::Purge
            | Self::Retain
            | Self::BackUp
            | Self::Scrub => 1,
        }
    }
}

/// How much goes wrong in a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Crashes only.
    Fair,
    /// Of each kind of call some fail.
    Stormy,
    /// Syncs fail now and then.
    Syncs,
}

/// One object before it exists.
#[derive(Clone, Debug)]
pub struct ObjectPlan {
    pub namespace: usize,
    pub is_named: bool,
    pub keys: u64,
    pub style: KeyStyle,
}

/// What the keys of an object look like.
#[derive(Clone, Copy, Debug)]
pub enum KeyStyle {
    /// Digits.
    Digits,
    /// The empty key, then bytes at both ends of their range.
    Edges,
    /// A long prefix in common.
    Prefixed(usize),
}

impl KeyStyle {
    /// The key with this number.
    pub fn key(self, number: u64) -> Vec<u8> {
        match self {
            Self::Digits => format!("k{number:05}").into_bytes(),
            Self::Edges => {
                let ends = [0x00, 0xFF, 0x01, 0xFE];
                let mut rest = number;
                let mut key = Vec::new();
                while rest > 0 {
                    key.push(ends[usize::try_from(rest % 4).unwrap_or(0)]);
                    rest /= 4;
                }
                key
            }
            Self::Prefixed(length) => {
                let mut key = vec![b'p'; length];
                key.extend_from_slice(format!("{number:03}").as_bytes());
                key
            }
        }
    }
}

/// All that a seed draws.
#[derive(Clone, Debug)]
pub struct Plan {
    pub lives: u64,
    pub actions_max: u64,
    pub weights: Vec<u64>,
    pub weather: Weather,
    pub objects: Vec<ObjectPlan>,
    pub namespaces: usize,
    pub value_bytes: Vec<u64>,
    pub shapes: Vec<Shape>,
    pub operations_max: u64,
    /// Whether turns fill a whole object now and then.
    pub has_bulk: bool,
    pub is_damaged_at_the_end: bool,
    wal_file_bytes: u64,
    pub dirty_bytes: usize,
    page_bytes: usize,
    segment_bytes: u64,
    clean_bytes: u64,
    cache_bytes: usize,
    retire_after: Duration,
    /// How long history is kept where a namespace has no setting of its own.
    pub retention: Retention,
    /// What namespaces may be set to.
    pub retentions: Vec<Option<Retention>>,
    epoch_bytes: u64,
    history_state_bytes: usize,
    /// Changes of a restoration from which on it adopts pages.
    pub adopt_operations: usize,
}

/// One seed in so many has an object of 100,000 keys.
const HUGE_EVERY: u64 = 250;
const HUGE_KEYS: u64 = 100_000;
/// One seed in so many has many objects that are alike, and cleans.
const ALIKE_EVERY: u64 = 40;

impl Plan {
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x706C_616E);
        let plan = Self::drawn_by(&mut chance, seed % HUGE_EVERY == 77);
        if seed % ALIKE_EVERY == 13 { plan.alike() } else { plan }
    }

    /// A plan that is soon over.
    pub fn short(chance: &mut Chance) -> Self {
        let mut plan = Self::drawn_by(chance, false);
        plan.lives = plan.lives.min(3);
        plan.actions_max = plan.actions_max.min(40);
        plan.objects.truncate(8);
        plan.objects.iter_mut().for_each(|object| object.keys = object.keys.min(100));
        plan
    }

    fn drawn_by(chance: &mut Chance, is_huge: bool) -> Self {
        let is_wide = !is_huge && chance.percent(20);
        let namespaces = chance.index(3) + 1;
        let count = match (is_huge, is_wide) {
            (true, _) => 3,
            (_, true) => chance.between(40, 200),
            _ => chance.between(3, 8),
        };
        let mut objects: Vec<_> = (0..count).map(|_| object(chance, namespaces, is_wide)).collect();
        if is_huge {
            objects[0].keys = HUGE_KEYS;
            objects[0].style = KeyStyle::Digits;
        }
        let weights = Action::ALL.iter().map(|action| weight(*action, chance)).collect();
        let is_long = chance.percent(30);
        Self {
            lives: if is_huge { 4 } else { chance.between(4, if is_long { 8 } else { 24 }) },
            actions_max: if is_long { 250 } else { 60 },
            weights,
            weather: chance.pick(&[
                Weather::Fair,
                Weather::Stormy,
                Weather::Stormy,
                Weather::Syncs,
            ]),
            objects,
            namespaces,
            value_bytes: value_sizes(chance, is_huge),
            shapes: shapes(chance),
            operations_max: chance.pick(&[2, 6, 20]),
            has_bulk: is_huge || chance.percent(40),
            is_damaged_at_the_end: chance.percent(50),
            wal_file_bytes: chance.pick(&[64 << 10, 64 << 10, 128 << 10, 256 << 10]),
            dirty_bytes: chance.pick(&[8 << 10, 64 << 10, 1 << 20]),
            page_bytes: chance.pick(&[512, 512, 1024, 2048, 4096]),
            segment_bytes: chance.pick(&[16 << 10, 16 << 10, 64 << 10, 1 << 20]),
            clean_bytes: chance.pick(&[4 << 10, 64 << 10, 1 << 20]),
            cache_bytes: chance.pick(&[0, 4 << 10, 64 << 10]),
            retire_after: Duration::from_secs(chance.pick(&[0, 0, 60])),
            retention: if chance.percent(10) { Retention::Off } else { retention(chance) },
            retentions: retentions(chance),
            epoch_bytes: chance.pick(&[0, 4_000, 40_000, 1 << 30]),
            history_state_bytes: chance.pick(&[1_000, 8_000, 64 << 10]),
            adopt_operations: chance.pick(&[2, 20, 65_536, 65_536]),
        }
    }

    /// Pages worth a dictionary: of many objects, alike, in segments that are worth cleaning.
    fn alike(mut self) -> Self {
        let object = ObjectPlan { namespace: 0, is_named: false, keys: 4, style: KeyStyle::Digits };
        self.objects = vec![object; 160];
        self.namespaces = 1;
        self.lives = self.lives.min(6);
        self.value_bytes = vec![100, 400];
        self.shapes = vec![Shape::Words];
        self.is_damaged_at_the_end = true;
        self.segment_bytes = 1 << 20;
        self.clean_bytes = 1 << 20;
        for (action, weight) in Action::ALL.iter().zip(&mut self.weights) {
            match action {
                Action::TouchMany | Action::Checkpoint | Action::Clean => *weight = 20,
                Action::DeleteMuch | Action::Space => *weight = 0,
                _ => {}
            }
        }
        self
    }

    /// Settings of the next open. A few of them change from one open to the next.
    pub fn options(&self, chance: &mut Chance) -> Options {
        let is_other = chance.percent(10);
        Store::options()
            .threads(false)
            .wal_file_bytes(if is_other { 192 << 10 } else { self.wal_file_bytes })
            .pool_files(chance.index(3))
            .dirty_bytes(self.dirty_bytes)
            .page_bytes(if is_other { 1500 } else { self.page_bytes })
            .segment_bytes(self.segment_bytes)
            .clean_bytes(self.clean_bytes)
            .cache_bytes(self.cache_bytes)
            .retire_after(self.retire_after)
            .retention(self.retention)
            .epoch(Duration::ZERO, self.epoch_bytes, Duration::from_hours(24))
            .history_state_bytes(self.history_state_bytes)
            .adopt_operations(self.adopt_operations)
    }
}

/// From nothing at all to more than a seed lasts.
fn retention(chance: &mut Chance) -> Retention {
    let seconds = chance.pick(&[0, 60, 100_000, 30 * 86_400, 30 * 86_400]);
    let bytes = chance.pick(&[None, None, None, Some(0), Some(10_000), Some(100_000)]);
    Retention::Keep { age: Duration::from_secs(seconds), bytes }
}

/// What settings change to, where they change at all.
fn retentions(chance: &mut Chance) -> Vec<Option<Retention>> {
    if chance.percent(50) {
        return Vec::new();
    }
    vec![None, Some(Retention::Off), Some(retention(chance)), Some(retention(chance))]
}

fn weight(action: Action, chance: &mut Chance) -> u64 {
    if action == Action::Turn {
        return action.weight();
    }
    action.weight() * chance.pick(&[0, 1, 1, 2, 6])
}

fn object(chance: &mut Chance, namespaces: usize, is_wide: bool) -> ObjectPlan {
    let keys = match chance.below(if is_wide { 40 } else { 10 }) {
        0 => chance.between(100, 600),
        1 if !is_wide => chance.between(1_000, 4_000),
        _ => chance.between(1, 16),
    };
    let style = match chance.below(4) {
        0 => KeyStyle::Edges,
        1 if keys < 1_000 => KeyStyle::Prefixed(chance.pick(&[20, 300, 2_000])),
        _ => KeyStyle::Digits,
    };
    ObjectPlan { namespace: chance.index(namespaces), is_named: chance.percent(60), keys, style }
}

/// Sizes around every boundary, few of them in one seed.
fn value_sizes(chance: &mut Chance, is_huge: bool) -> Vec<u64> {
    if is_huge {
        return vec![0, 8, 30];
    }
    let small = [0, 1, 10, 64, 100];
    let middle = [400, 511, 513, 1_000, 2_000, 4_000, 4_096, 8_000];
    let large = [20_000, 40_000, 70_000, 150_000];
    let mut sizes: Vec<u64> = (0..3).map(|_| chance.pick(&small)).collect();
    if chance.percent(70) {
        sizes.extend((0..2).map(|_| chance.pick(&middle)));
    }
    if chance.percent(20) {
        sizes.push(chance.pick(&large));
    }
    if chance.percent(1) {
        sizes.push((1 << 20) + chance.below(1 << 20));
    }
    sizes
}

fn shapes(chance: &mut Chance) -> Vec<Shape> {
    match chance.below(4) {
        0 => vec![Shape::Words, Shape::Noise, Shape::Zeros],
        1 => vec![Shape::Words],
        2 => vec![Shape::Noise, Shape::Noise, Shape::Zeros],
        _ => vec![Shape::Words, Shape::Noise],
    }
}

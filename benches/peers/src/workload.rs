//! The data that all engines store, and the changes that are made to it.
//!
//! Invariants:
//!   * Object `n` has eight keys with values of 100 random bytes; engines that keep all objects
//!     in one key space put the same eight bytes before the keys of an object.
//!   * Neighbours in number are no neighbours in a key space, as ids of objects are random.
//!   * Values are fresh in every run: an engine that skipped unchanged bytes would gain nothing.

use crate::measure::Random;

pub const KEYS: usize = 8;
pub const VALUE_BYTES: usize = 100;
/// Values of one object together.
pub const OBJECT_BYTES: usize = KEYS * VALUE_BYTES;
/// The same with their keys in a key space that all objects share.
pub const WHOLE_BYTES: usize = OBJECT_BYTES + KEYS * size_of::<Key>();
/// Every engine may keep so much in a cache of its own.
pub const CACHE_BYTES: usize = 64 << 20;

/// A key in a key space that all objects share: the object's place, then its own key.
pub type Key = [u8; 14];
pub type Value = [u8; VALUE_BYTES];

/// The first key behind those of all objects: what an index keeps by time lies from here on.
pub const ALARMS_FROM: Key = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How objects lie in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Many small objects.
    Many,
    /// One large object: what is an object elsewhere is eight keys of it that follow each other.
    One,
}

impl Layout {
    /// Where an object lies in a shared key space.
    fn place(self, object: u64) -> [u8; 8] {
        match self {
            Self::Many => (object.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1).to_be_bytes(),
            Self::One => object.to_be_bytes(),
        }
    }

    /// A key of an object in a shared key space.
    pub fn key(self, object: u64, key: usize) -> Key {
        let mut whole = [0; 14];
        whole[..8].copy_from_slice(&self.place(object));
        whole[8..].copy_from_slice(&own_key(key));
        whole
    }

    /// The first key behind all keys of an object.
    pub fn behind(self, object: u64) -> Key {
        let mut whole = [0xff; 14];
        whole[..8].copy_from_slice(&self.place(object));
        whole
    }
}

/// The same key where the object has a key space of its own.
pub fn own_key(key: usize) -> [u8; 6] {
    let mut own = *b"key-00";
    own[5] = b'0' + key as u8;
    own
}

/// A fresh value.
pub fn value(random: &mut Random) -> Value {
    let mut value = [0; VALUE_BYTES];
    random.fill(&mut value);
    value
}

/// When the alarm of an object is due: long ago, and objects are in no order of it.
pub fn alarm_time(object: u64) -> u64 {
    1 + (object.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
}

/// The alarm of an object in an index that is sorted by time.
pub fn alarm_key(object: u64) -> Key {
    let mut whole = ALARMS_FROM;
    whole[2..8].copy_from_slice(&alarm_time(object).to_be_bytes()[2..]);
    whole[8..].copy_from_slice(&object.to_be_bytes()[2..]);
    whole
}

/// An object of so many, drawn evenly.
pub fn draw(objects: u64, random: &mut Random) -> u64 {
    random.below(objects as usize) as u64
}

/// A random object and two of its keys with fresh values.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub object: u64,
    pub puts: [(usize, Value); 2],
}

impl Change {
    pub fn draw(objects: u64, random: &mut Random) -> Self {
        let object = draw(objects, random);
        let first = random.below(KEYS);
        Self { object, puts: [(first, value(random)), ((first + 1) % KEYS, value(random))] }
    }

    /// Bytes of its keys and values, without which no engine can do.
    pub const BYTES: usize = 2 * (size_of::<Key>() + VALUE_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_an_object_lie_between_its_place_and_what_is_behind_it() {
        for layout in [Layout::Many, Layout::One] {
            for object in [0, 1, 99_999, u64::MAX >> 1] {
                for key in 0..KEYS {
                    assert!(layout.place(object)[..] < layout.key(object, key)[..]);
                    assert!(layout.key(object, key) < layout.behind(object));
                }
            }
        }
    }

    #[test]
    fn alarms_lie_behind_all_objects_in_the_order_of_their_times() {
        let objects = [0, 1, 99_999, (1 << 48) - 1];
        for (one, other) in objects.iter().zip(&objects[1..]) {
            assert!(Layout::Many.behind(*one) < alarm_key(*other));
            let times = alarm_time(*one).cmp(&alarm_time(*other));
            assert_eq!(alarm_key(*one).cmp(&alarm_key(*other)), times);
        }
    }

    #[test]
    fn two_runs_draw_different_values() {
        let (mut one, mut other) = (Random::new(1), Random::new(2));
        assert_ne!(value(&mut one), value(&mut other));
    }
}

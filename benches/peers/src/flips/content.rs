//! What stores hold in which a bit is flipped: 200 objects of ten keys, each made by one durable
//! commit.
//!
//! Invariants:
//!   * The seed decides every byte of every value, so that another process knows what to expect.

use crate::measure::Random;

pub const OBJECTS: u64 = 200;
pub const KEYS: usize = 10;
const VALUE_BYTES_MIN: usize = 100;
const VALUE_BYTES_MAX: usize = 400;

/// The values of all objects.
pub struct Content {
    objects: Vec<Vec<Vec<u8>>>,
}

impl Content {
    pub fn drawn(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let objects = (0..OBJECTS).map(|_| (0..KEYS).map(|_| value(&mut random)).collect());
        Self { objects: objects.collect() }
    }

    /// Objects with their values, in the order in which they are committed.
    pub fn objects(&self) -> impl Iterator<Item = (u64, &[Vec<u8>])> {
        (0..).zip(self.objects.iter().map(Vec::as_slice))
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = VALUE_BYTES_MIN + random.below(VALUE_BYTES_MAX - VALUE_BYTES_MIN + 1);
    let mut value = vec![0; length];
    random.fill(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_all_values() {
        assert_eq!(Content::drawn(1).objects, Content::drawn(1).objects);
        assert_ne!(Content::drawn(1).objects, Content::drawn(2).objects);
    }

    #[test]
    fn values_have_all_lengths_that_are_told() {
        let content = Content::drawn(1);
        let lengths = content.objects().flat_map(|(_, values)| values.iter().map(Vec::len));
        let (least, most) = lengths
            .fold((usize::MAX, 0), |(least, most), length| (least.min(length), most.max(length)));
        assert!((VALUE_BYTES_MIN..110).contains(&least), "{least}");
        assert!((390..=VALUE_BYTES_MAX).contains(&most), "{most}");
        assert_eq!(content.objects().count() as u64, OBJECTS);
    }
}

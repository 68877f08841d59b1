//! The one source of chance of a test: small, fast, the same on every machine.
//!
//! Invariants:
//!   * The same seed gives the same draws, and so does the same input.

use std::collections::VecDeque;

/// A `splitmix64` generator; or an input, for as long as that lasts.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
    input: VecDeque<u8>,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x5851_F42D_4C95_7F2D, input: VecDeque::new() }
    }

    /// Draws what the input says, and behind its end as from seed 0.
    pub fn said(input: &[u8]) -> Self {
        Self { input: input.iter().copied().collect(), ..Self::new(0) }
    }

    /// Begins anew with another seed; what is left of an input comes first all the same.
    pub fn reseed(&mut self, seed: u64) {
        self.state = Self::new(seed).state;
    }

    pub fn next(&mut self) -> u64 {
        self.drawn(8)
    }

    /// A draw for which so many bytes of input are enough.
    fn drawn(&mut self, bytes: usize) -> u64 {
        if !self.input.is_empty() {
            let said = self.input.drain(..bytes.min(self.input.len()));
            return said.fold(0, |number, byte| number << 8 | u64::from(byte));
        }
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; zero where there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        let bytes = (64 - end.saturating_sub(1).leading_zeros() as usize).div_ceil(8);
        self.drawn(bytes.max(1)).checked_rem(end).unwrap_or(0)
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// An index into something of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length")
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// True in `percent` of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index, each as often as its weight says.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut place = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if place < *weight {
                return index;
            }
            place -= weight;
        }
        0
    }
}

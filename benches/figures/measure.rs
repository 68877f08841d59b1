//! Random numbers, histograms, and the lines that are printed.
//!
//! Invariants:
//!   * Values differ from run to run, where no seed is asked for: a store that skipped unchanged
//!     bytes would show.
//!   * A quantile is at most 3 % below the true one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Odd, with bits all over it: seeds that follow each other become far apart.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A quick generator (xorshift*, Vigna 2016), seeded by the clock.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that differs from all others of this run and of earlier ones.
    pub fn new(stream: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = since.as_secs().wrapping_mul(1_000_000_007) ^ u64::from(since.subsec_nanos());
        Self::seeded(nanos.wrapping_add(stream.wrapping_mul(SPREAD)))
    }

    /// The same generator in every run.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(SPREAD) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        (wide >> 64) as usize
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

/// Ranks by Zipf's law, the most frequent first (Gray et al. 1994, as in YCSB).
#[derive(Clone, Debug)]
pub struct Zipf {
    ranks: usize,
    theta: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    pub fn new(ranks: usize, theta: f64) -> Self {
        let zeta_of = |count: usize| (1..=count).map(|rank| (rank as f64).powf(-theta)).sum();
        let zeta: f64 = zeta_of(ranks);
        let zeta_two: f64 = zeta_of(2.min(ranks));
        let eta = (1.0 - (2.0 / ranks as f64).powf(1.0 - theta)) / (1.0 - zeta_two / zeta);
        Self { ranks, theta, zeta, eta }
    }

    pub fn draw(&self, random: &mut Random) -> usize {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.theta) {
            return 1.min(self.ranks - 1);
        }
        let base = self.eta.mul_add(unit - 1.0, 1.0);
        let rank = self.ranks as f64 * base.powf(1.0 / (1.0 - self.theta));
        (rank as usize).min(self.ranks - 1)
    }
}

/// Buckets below the first that is wider than one, and buckets of each power of two above.
const EXACT: usize = 64;
const PER_POWER: usize = 32;

/// Times, by bucket.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; EXACT + 58 * PER_POWER], total: 0 }
    }

    fn bucket(nanos: u64) -> usize {
        if nanos < EXACT as u64 {
            return nanos as usize;
        }
        let shift = 63 - nanos.leading_zeros() as usize - 5;
        EXACT + (shift - 1) * PER_POWER + (nanos >> shift) as usize - PER_POWER
    }

    fn lower_bound(bucket: usize) -> u64 {
        if bucket < EXACT {
            return bucket as u64;
        }
        let (power, step) = ((bucket - EXACT) / PER_POWER, (bucket - EXACT) % PER_POWER);
        ((PER_POWER + step) as u64) << (power + 1)
    }

    pub fn record(&mut self, time: Duration) {
        self.counts[Self::bucket(time.as_nanos() as u64)] += 1;
        self.total += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (own, others) in self.counts.iter_mut().zip(&other.counts) {
            *own += others;
        }
        self.total += other.total;
    }

    /// The time in microseconds below which a share of all lie.
    pub fn micros(&self, share: f64) -> f64 {
        let mut left = (self.total as f64 * share) as u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            if *count > left {
                return Self::lower_bound(bucket) as f64 / 1e3;
            }
            left -= count;
        }
        0.0
    }
}

/// The middle of some numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// At most so many times the control.
    RatioAtMost(f64),
    /// Printed to explain others.
    None,
}

/// One line of the report.
pub fn line(name: &str, value: f64, unit: &str, goal: Goal, control: Option<f64>) {
    let ratio = control.map(|control| value / control);
    let (said, is_met) = match goal {
        Goal::AtLeast(bound) => (format!(">= {}", short(bound)), Some(value >= bound)),
        Goal::AtMost(bound) => (format!("<= {}", short(bound)), Some(value <= bound)),
        Goal::RatioAtMost(bound) => {
            (format!("<= {bound} x raw"), ratio.map(|ratio| ratio <= bound))
        }
        Goal::None => ("-".to_owned(), None),
    };
    let verdict = match is_met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    };
    let raw = control.map_or_else(|| "-".to_owned(), short);
    let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    println!(
        "{name:<40} {:>10} {unit:<14} goal {said:<12} raw {raw:>10} ratio {ratio:>6} {verdict}",
        short(value)
    );
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

//! Finds the one bit that was flipped, if one flipped bit explains a checksum that differs.
//!
//! What is read with that bit turned back is a guess: good enough to say whose bytes they were, and
//! not to use them.
//!
//! Invariants:
//!   * Turning back the bit that is found makes the checksum right.

use crate::format::checksum;

/// The polynomial of the checksum, reflected.
const POLYNOMIAL: u32 = 0xEDB8_8320;
/// Bytes beyond which nothing is looked for.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The number of the flipped bit in `bytes`, of which the last four are the checksum of the others
/// with this seed. None if the checksum is right, or if more than one bit differs.
#[must_use]
pub fn flipped_bit(seed: u64, bytes: &[u8]) -> Option<usize> {
    let (covered, stored) = bytes.split_last_chunk::<4>()?;
    let difference = checksum(seed, covered) ^ u32::from_le_bytes(*stored);
    if difference == 0 || covered.len() > BYTES_MAX {
        return None;
    }
    if difference.is_power_of_two() {
        return Some(covered.len() * 8 + difference.trailing_zeros() as usize);
    }
    // What a flipped last bit does to the checksum, then the one before it, and so on.
    let mut trace = POLYNOMIAL;
    for back in 0..covered.len() * 8 {
        if trace == difference {
            let (byte, bit) = (covered.len() - 1 - back / 8, 7 - back % 8);
            return Some(byte * 8 + bit);
        }
        trace = (trace >> 1) ^ if trace & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flipped_bit_is_found_and_two_are_not() {
        let mut bytes: Vec<u8> = (0..60u8).map(|byte| byte.wrapping_mul(37)).collect();
        let sum = checksum(9, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(flipped_bit(9, &bytes), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(flipped_bit(9, &bytes), Some(bit));
            let other = (bit + 77) % (bytes.len() * 8);
            bytes[other / 8] ^= 1 << (other % 8);
            assert_eq!(flipped_bit(9, &bytes), None, "{bit} and {other}");
            bytes[other / 8] ^= 1 << (other % 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

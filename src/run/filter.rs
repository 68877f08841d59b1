//! Says which addresses a run does not hold, so that most runs are not searched at all.
//!
//! A Bloom filter in blocks of 32 bytes: an address sets one bit in each of the eight words of one
//! block, so that a question touches one cache line. Ten bits an address err once in a hundred.
//!
//! Invariants:
//!   * An address that was added is never denied.
//!   * Hashes are part of the format: they never depend on the process.

use crate::disk::bytes::SharedBytes;
use crate::ids::Address;
use crate::planted::{Mistake, planted};

const BLOCK_BYTES: usize = 32;
const WORDS: usize = BLOCK_BYTES / 4;
const BITS_PER_ADDRESS: u64 = 10;

const SALTS: [u32; WORDS] = [
    0x47B6_137B,
    0x4497_4D91,
    0x8824_AD5B,
    0xA2B7_289D,
    0x7054_95C7,
    0x2DF1_424B,
    0x9EFC_4947,
    0x5C6B_FB31,
];

/// An address, hashed; the same for every run, so it is computed once for a look-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressHash(u64);

impl AddressHash {
    pub(crate) fn new(address: &Address) -> Self {
        let (low, high) = halves(address.id.0);
        let namespace = u64::from(address.namespace.0).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let product = u128::from(low ^ namespace ^ 0xA076_1D64_78BD_642F)
            * u128::from(high ^ 0xE703_7ED1_A0B4_28DB);
        let (low, high) = halves(product.to_le_bytes());
        Self(low ^ high)
    }

    /// Of the first bytes of a key; a shorter key counts as one with zeros behind it.
    pub(crate) fn of_key(key: &[u8]) -> Self {
        let mut bytes = [0; Address::BYTES];
        let length = key.len().min(Address::BYTES);
        bytes[..length].copy_from_slice(&key[..length]);
        Self::new(&Address::from_bytes(&bytes).unwrap_or_default())
    }

    fn block(self, blocks: u64) -> usize {
        let block = ((self.0 >> 32) * blocks) >> 32;
        usize::try_from(block).unwrap_or(usize::MAX)
    }

    fn bits(self) -> [u32; WORDS] {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        let low = u32::from_le_bytes([a, b, c, d]);
        SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
    }
}

fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let mut halves = [[0; 8]; 2];
    halves[0].copy_from_slice(&bytes[..8]);
    halves[1].copy_from_slice(&bytes[8..]);
    (u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1]))
}

/// Blocks for so many addresses.
fn blocks_for(addresses: u64) -> u64 {
    let blocks = addresses.saturating_mul(BITS_PER_ADDRESS).div_ceil(8 * BLOCK_BYTES as u64);
    blocks.min(u64::from(u32::MAX))
}

/// Gathers the addresses of a run being written.
#[derive(Debug)]
pub(crate) enum FilterBuilder {
    /// How many will come is not known: hashes are kept until the end.
    Collecting(Vec<AddressHash>),
    /// The filter has its final size.
    Sized(Vec<u8>),
}

impl FilterBuilder {
    pub(crate) fn for_addresses(addresses: u64) -> Self {
        let bytes = usize::try_from(blocks_for(addresses)).unwrap_or(0) * BLOCK_BYTES;
        Self::Sized(vec![0; bytes])
    }

    pub(crate) fn add(&mut self, hash: AddressHash) {
        if planted(Mistake::MissInFilter) && hash.0.is_multiple_of(16) {
            return;
        }
        match self {
            Self::Collecting(hashes) => hashes.push(hash),
            Self::Sized(filter) => set(filter, hash),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Sized(filter) => filter,
            Self::Collecting(hashes) => {
                let mut sized = Self::for_addresses(hashes.len() as u64);
                for hash in hashes {
                    sized.add(hash);
                }
                sized.finish()
            }
        }
    }
}

fn set(filter: &mut [u8], hash: AddressHash) {
    let start = hash.block((filter.len() / BLOCK_BYTES) as u64) * BLOCK_BYTES;
    // A filter of size zero denies everything, so an address must not come when none was expected.
    let block = &mut filter[start..start + BLOCK_BYTES];
    for (word, bit) in block.chunks_exact_mut(4).zip(hash.bits()) {
        if let Some(word) = word.first_chunk_mut() {
            *word = (u32::from_le_bytes(*word) | bit).to_le_bytes();
        }
    }
}

/// The filter of a run.
#[derive(Debug)]
pub(crate) struct Filter {
    bytes: SharedBytes,
}

impl Filter {
    /// None for bytes that are no filter.
    pub(crate) fn new(bytes: SharedBytes) -> Option<Self> {
        let whole = bytes.len().is_multiple_of(BLOCK_BYTES);
        let most = u32::MAX as usize * BLOCK_BYTES;
        (whole && bytes.len() <= most).then_some(Self { bytes })
    }

    /// Whether a writer makes a filter of this size for so many addresses.
    pub(crate) fn has_room_for(&self, addresses: u64) -> bool {
        self.bytes.len() as u64 >= blocks_for(addresses) * BLOCK_BYTES as u64
    }

    pub(crate) fn may_hold(&self, hash: AddressHash) -> bool {
        let filter: &[u8] = &self.bytes;
        let start = hash.block((filter.len() / BLOCK_BYTES) as u64) * BLOCK_BYTES;
        let Some(block) = filter.get(start..start + BLOCK_BYTES) else { return false };
        let mut missing = 0;
        for (word, bit) in block.chunks_exact(4).zip(hash.bits()) {
            missing |= bit & !u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        }
        missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NamespaceNumber, ShortId};

    fn address(number: u64) -> Address {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Address { namespace: NamespaceNumber(1), id: ShortId(id) }
    }

    #[test]
    fn no_address_is_denied_and_few_are_confused() {
        let mut collecting = FilterBuilder::Collecting(Vec::new());
        let mut sized = FilterBuilder::for_addresses(10_000);
        for number in 0..10_000 {
            collecting.add(AddressHash::new(&address(number)));
            sized.add(AddressHash::of_key(&address(number).to_bytes()));
        }
        let bytes = collecting.finish();
        assert_eq!(bytes, sized.finish());
        let filter = Filter::new(SharedBytes::from(bytes)).unwrap();
        let may_hold = |number| filter.may_hold(AddressHash::new(&address(number)));
        assert!((0..10_000).all(may_hold));
        let confused = (10_000..110_000).filter(|number| may_hold(*number)).count();
        assert_eq!(confused, 1_166, "of 100,000: hashes are part of the format");
        let none = Filter::new(SharedBytes::from(Vec::new())).unwrap();
        assert!(!none.may_hold(AddressHash::new(&address(1))));
    }
}

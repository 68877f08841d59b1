//! What is on the medium of one simulated file.
//!
//! Invariants:
//!   * Behind what was written there are zeros, and they take no memory: allocating costs nothing.
//!   * Copies share their bytes until one of them writes, so that a machine is copied in no time.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes of a page of the page cache, and of what copies share or do not share.
pub(super) const PAGE_BYTES: usize = 4096;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

#[derive(Clone, Debug)]
struct Page {
    bytes: [u8; PAGE_BYTES],
    /// Zero where all bytes are; found when somebody asks.
    hash: OnceLock<u64>,
}

impl Page {
    fn new() -> Self {
        Self { bytes: ZEROS, hash: OnceLock::new() }
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| if self.bytes == ZEROS { 0 } else { hash(&self.bytes) })
    }
}

/// Pages that differ in one word differ here; others nearly always do.
fn hash(bytes: &[u8; PAGE_BYTES]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    let (words, _) = bytes.as_chunks::<8>();
    for four in words.chunks_exact(lanes.len()) {
        for (lane, word) in lanes.iter_mut().zip(four) {
            *lane = mixed(*lane, u64::from_le_bytes(*word));
        }
    }
    lanes.into_iter().fold(0, mixed)
}

/// Folds a word into a hash.
pub(super) fn mixed(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Medium {
    /// None where nothing was written.
    pages: Vec<Option<Arc<Page>>>,
}

/// The part of each page that a range covers: the page's number, where in it, where in the range.
fn parts(range: Range<u64>) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let page_bytes = PAGE_BYTES as u64;
    (range.start / page_bytes..range.end.div_ceil(page_bytes)).map(move |number| {
        let first = number * page_bytes;
        let (start, end) = (range.start.max(first), range.end.min(first + page_bytes));
        let inside = (start - first) as usize..(end - first) as usize;
        (number as usize, inside, (start - range.start) as usize..(end - range.start) as usize)
    })
}

impl Medium {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut medium = Self::default();
        medium.put(bytes, 0);
        medium
    }

    pub(super) fn copy_to(&self, buffer: &mut [u8], offset: u64) {
        for (number, inside, there) in parts(offset..offset + buffer.len() as u64) {
            match self.pages.get(number) {
                Some(Some(page)) => buffer[there].copy_from_slice(&page.bytes[inside]),
                _ => buffer[there].fill(0),
            }
        }
    }

    pub(super) fn put(&mut self, bytes: &[u8], offset: u64) {
        for (number, inside, there) in parts(offset..offset + bytes.len() as u64) {
            if self.pages.len() <= number {
                self.pages.resize(number + 1, None);
            }
            let page = self.pages[number].get_or_insert_with(|| Arc::new(Page::new()));
            let page = Arc::make_mut(page);
            page.bytes[inside].copy_from_slice(&bytes[there]);
            page.hash = OnceLock::new();
        }
    }

    /// Zeros from here on.
    pub(super) fn truncate(&mut self, length: u64) {
        let (whole, rest) = ((length / PAGE_BYTES as u64) as usize, length % PAGE_BYTES as u64);
        self.pages.truncate(whole + usize::from(rest > 0));
        let last = self.pages.get_mut(whole).and_then(Option::as_mut);
        let behind = rest as usize..;
        let last = last.filter(|page| page.bytes[behind.clone()] != ZEROS[behind.clone()]);
        if let Some(page) = last {
            let page = Arc::make_mut(page);
            page.bytes[behind].fill(0);
            page.hash = OnceLock::new();
        }
    }

    /// A hash of the bytes; zeros at the end do not count.
    pub(super) fn hash(&self) -> u64 {
        let pages = self.pages.iter().zip(0..);
        pages.fold(0, |all, (page, number)| match page.as_ref().map_or(0, |page| page.hash()) {
            0 => all,
            hash => mixed(mixed(all, number), hash),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_the_bytes_alone() {
        let mut medium = Medium::of(&[1; 9_000]);
        let before = medium.hash();
        let (copy, other) = (medium.clone(), Medium::of(&[1; 9_001]));
        assert!(before == copy.hash() && before != other.hash());
        medium.put(&[2], 5_000);
        assert_ne!(before, medium.hash());
        medium.put(&[1], 5_000);
        medium.put(&[0; 10_000], 12_000);
        assert_eq!(before, medium.hash());
        medium.put(&[1; 1_000], 9_000);
        medium.truncate(9_000);
        assert_eq!(before, medium.hash());
        let swapped = [[1; PAGE_BYTES], [2; PAGE_BYTES]].concat();
        let back = [[2; PAGE_BYTES], [1; PAGE_BYTES]].concat();
        assert_ne!(Medium::of(&swapped).hash(), Medium::of(&back).hash());
    }

    #[test]
    fn a_copy_stays_as_it_was_and_what_was_cut_off_is_zeros() {
        let mut medium = Medium::of(&[1; 3 * PAGE_BYTES]);
        let copy = medium.clone();
        medium.put(&[2; 100], 2 * PAGE_BYTES as u64 - 50);
        let shared = medium.pages.iter().zip(&copy.pages);
        let shared =
            shared.filter(|(mine, its)| Arc::ptr_eq(mine.as_ref().unwrap(), its.as_ref().unwrap()));
        assert_eq!(shared.count(), 1, "two of three pages were written");

        medium.truncate(PAGE_BYTES as u64 + 10);
        medium.put(&[3; 10], 5 * PAGE_BYTES as u64);
        let mut bytes = vec![7; 6 * PAGE_BYTES];
        medium.copy_to(&mut bytes, 0);
        assert!(bytes[..PAGE_BYTES + 10].iter().all(|byte| *byte == 1));
        assert!(bytes[PAGE_BYTES + 10..5 * PAGE_BYTES].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[5 * PAGE_BYTES..][..11], [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0]);
        copy.copy_to(&mut bytes, 1);
        assert!(bytes[..3 * PAGE_BYTES - 1].iter().all(|byte| *byte == 1));
        assert!(bytes[3 * PAGE_BYTES - 1..].iter().all(|byte| *byte == 0));
    }
}

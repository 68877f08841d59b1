//! Checksums of a store's files: which bytes each covers, wherever it stands, and putting them
//! right where bytes were changed, so that the change gets behind them.
//!
//! Invariants:
//!   * All is found in the undamaged files, and checked there.

use super::layout::Layout;
use super::whole_store::Files;
use dostore::format::group::GROUP_HEADER_BYTES;
use dostore::format::header::HEADER_BYTES;
use dostore::format::{checksum, place_seed};
use dostore::names::FileName;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Where a header has its number and its salt.
const NUMBER_AT: usize = 48;
const SALT_AT: usize = 56;
/// What the header of a file of the log adds to a header.
const LOG_HEADER_BYTES: usize = 64;
const SUM_BYTES: usize = 4;
/// More than checksums that cover each other in a chain: groups of the log.
const DEPTH: usize = 200;

/// Bytes and their checksum.
struct Seal {
    file: FileName,
    covers: Range<usize>,
    seed: u64,
    /// Where the checksum stands: behind the bytes, and in what names them.
    sums: Vec<(FileName, usize)>,
}

/// All checksums of a store.
pub struct Seals(Vec<Seal>);

fn number_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a whole header"))
}

/// What may have a checksum in this unit of a file, with its seed.
fn candidates(bytes: &[u8], unit: &Range<usize>) -> Vec<(Range<usize>, u64)> {
    let (number, salt) = (number_at(bytes, NUMBER_AT), number_at(bytes, SALT_AT));
    let place = |at: usize| place_seed(salt, number, at as u64);
    let (start, end) = (unit.start, unit.end);
    let head = start + HEADER_BYTES;
    let all = [
        (start..head - SUM_BYTES, 0),
        (start..head + LOG_HEADER_BYTES - SUM_BYTES, place(0)),
        (head..end.saturating_sub(SUM_BYTES), place(head)),
        (start..start + GROUP_HEADER_BYTES - SUM_BYTES, place(start)),
        (start + GROUP_HEADER_BYTES..end, place(start)),
        (start..end.saturating_sub(SUM_BYTES), place(start)),
        (start..end, place(start)),
    ];
    let is_inside = |covers: &Range<usize>| covers.start < covers.end && covers.end <= end;
    all.into_iter().filter(|(covers, _)| is_inside(covers)).collect()
}

/// Where each of the words stands that are wanted.
fn places(files: &Files, wanted: &mut HashMap<[u8; SUM_BYTES], Vec<(FileName, usize)>>) {
    for (name, bytes) in files {
        for (at, word) in bytes.windows(SUM_BYTES).enumerate() {
            if let Some(places) = wanted.get_mut(word) {
                places.push((*name, at));
            }
        }
    }
}

impl Seals {
    /// Those of undamaged files.
    pub fn of(files: &Files, layout: &Layout) -> Self {
        let mut found = Vec::new();
        let mut wanted = HashMap::new();
        for unit in layout.units.iter().filter(|unit| files[&unit.file].len() > HEADER_BYTES) {
            let bytes = &files[&unit.file];
            let range = unit.range.start as usize..unit.range.end as usize;
            for (covers, seed) in candidates(bytes, &range) {
                let sum = checksum(seed, &bytes[covers.clone()]).to_le_bytes();
                wanted.insert(sum, Vec::new());
                found.push((unit.file, covers, seed, sum));
            }
        }
        places(files, &mut wanted);
        // A checksum that stands behind its bytes is theirs alone, whatever else it is alike to.
        let behind = found.iter().map(|(file, covers, _, sum)| (*file, covers.end, sum));
        let owned = behind.filter(|(file, end, sum)| wanted[*sum].contains(&(*file, *end)));
        let owned: HashSet<_> = owned.map(|(file, end, _)| (file, end)).collect();
        let seals = found.iter().filter_map(|(file, covers, seed, sum)| {
            let end = (*file, covers.end);
            let is_own = |place: &&(FileName, usize)| **place == end || !owned.contains(*place);
            let sums: Vec<_> = wanted[sum].iter().filter(is_own).copied().collect();
            let covers = covers.clone();
            (!sums.is_empty()).then_some(Seal { file: *file, covers, seed: *seed, sums })
        });
        Self(seals.collect())
    }

    /// Puts every checksum right. One may lie in what another covers, and so on.
    pub fn put_right(&self, files: &mut Files) {
        for _ in 0..DEPTH {
            let mut is_right = true;
            for Seal { file, covers, seed, sums } in &self.0 {
                let Some(bytes) = files[file].get(covers.clone()) else { continue };
                let sum = checksum(*seed, bytes).to_le_bytes();
                for (file, at) in sums {
                    let there = files.get_mut(file).expect("no file goes");
                    let Some(there) = there.get_mut(*at..at + SUM_BYTES) else { continue };
                    is_right &= there == sum;
                    there.copy_from_slice(&sum);
                }
            }
            if is_right {
                return;
            }
        }
        panic!("checksums cover each other");
    }
}

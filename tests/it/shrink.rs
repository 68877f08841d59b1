//! The fewest of many things that still go wrong together.
//!
//! Invariants:
//!   * What is given back went wrong when it was tried, and nothing in it can be left out alone,
//!     unless the tries ran out.

/// Leaves out what is not needed, in ever smaller pieces: halves first, single ones at the end
/// ("delta debugging", Zeller and Hildebrandt 2002). `fails` is asked at most `tries` times.
pub fn shrink<T: Copy>(all: &[T], tries: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut kept = all.to_vec();
    let mut tries = tries;
    let mut piece = kept.len().div_ceil(2).max(1);
    loop {
        let before = kept.len();
        let mut at = 0;
        while at < kept.len() && tries > 0 {
            tries -= 1;
            let end = kept.len().min(at + piece);
            let without = [&kept[..at], &kept[end..]].concat();
            if fails(&without) {
                kept = without;
            } else {
                at = end;
            }
        }
        if tries == 0 || piece == 1 && kept.len() == before {
            return kept;
        }
        // A round that left something out may have made more superfluous.
        if piece > 1 {
            piece = piece.div_ceil(2);
        }
    }
}

#[test]
fn nothing_is_left_that_is_not_needed() {
    let all: Vec<u32> = (0..1_000).collect();
    for needed in [vec![], vec![0], vec![999], vec![3, 4, 500], vec![0, 250, 251, 640, 999]] {
        let mut asked = 0;
        let left = shrink(&all, 1_000, |tried| {
            asked += 1;
            needed.iter().all(|one| tried.contains(one))
        });
        assert_eq!(left, needed);
        assert!(asked < 200, "{asked} tries");
    }
}

#[test]
fn what_needs_another_only_while_that_is_there_goes_with_it() {
    // 9 is needed while 2 is there, and 2 can go once 9 cannot be what keeps it.
    let fails = |tried: &[u32]| tried.contains(&5) && (!tried.contains(&2) || tried.contains(&9));
    assert_eq!(shrink(&[1, 2, 5, 9], 100, fails), [5]);
}

#[test]
fn tries_are_bounded() {
    let all: Vec<u32> = (0..1_000).collect();
    let mut asked = 0;
    let left = shrink(&all, 10, |tried| {
        asked += 1;
        tried.contains(&700)
    });
    assert_eq!(asked, 10);
    assert!(left.contains(&700) && left.len() < all.len());
}

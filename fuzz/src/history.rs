//! Items of history and bundles of them: what decodes encodes back to the same bytes, and items of
//! a bundle ascend.
//!
//! Invariants:
//!   * The first byte chooses the decoder.

use dostore::format::history::{Bundle, BundleKey, CommitStart, State};
use dostore::segment::dictionary;

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut again = Vec::new();
    let is_read = match choice % 4 {
        0 => BundleKey::decode(bytes).map(|key| again.extend_from_slice(&key.encode())),
        1 => State::decode(bytes).map(|state| state.encode(&mut again)),
        2 => CommitStart::decode(bytes).map(|commit| commit.encode(&mut again)),
        _ => {
            check_bundle(bytes);
            return;
        }
    };
    assert!(is_read.is_err() || again == bytes);
}

fn check_bundle(bytes: &[u8]) {
    let expand = |frame: &[u8], raw: &mut [u8]| dictionary::expand(None, frame, raw);
    let Ok(bundle) = Bundle::decode(bytes, expand) else { return };
    let mut before = None;
    for index in 0..bundle.count() {
        let (key, _) = bundle.item(index).expect("below the count");
        assert!(before < Some(key));
        assert_eq!(bundle.lower_bound(&key), index);
        before = Some(key);
    }
}

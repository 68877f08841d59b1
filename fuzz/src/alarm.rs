//! Alarms, their hints and their failures: what decodes encodes back to the same bytes.
//!
//! Invariants:
//!   * The first byte chooses the decoder.

use dostore::format::alarm::{Hint, LastFailure, decode_entry, entry_of};

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let again = match choice % 3 {
        0 => decode_entry(bytes).map(|alarm| entry_of(&alarm)),
        1 => Hint::decode(bytes).map(|hint| hint.encode()),
        _ => LastFailure::decode(bytes).map(|failure| {
            let mut again = Vec::new();
            failure.encode(&mut again);
            again
        }),
    };
    assert!(again.is_err() || again == Ok(bytes.to_vec()));
}

//! A block of a run, of any bytes: questions and walks end and do not panic.
//!
//! Invariants:
//!   * The first byte says how long a key to ask for follows; the rest is the block.

use dostore::format::block::{Block, BlockCursor};

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else { return };
    let (key, bytes) = rest.split_at(rest.len().min(usize::from(*length)));
    let Ok(block) = Block::parse(bytes) else { return };
    let _ = block.find(key);
    let mut cursor = BlockCursor::new(block);
    let _ = (cursor.floor(key), cursor.previous(), cursor.ceiling(key), cursor.last());
    if cursor.first().is_err() {
        return;
    }
    let mut steps = 0;
    while cursor.next() == Ok(true) {
        steps += 1;
    }
    assert!(steps <= bytes.len());
}

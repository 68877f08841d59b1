//! Any bytes are an export of blocks, or are refused; also behind right headers and checksums,
//! which chance does not find, and inside of a compressed block.

use dostore::format::export::binary::{BlockHeader, Items, encode, front};
use dostore::store::transfer::Stream;

fn walk(input: &[u8]) {
    let Ok(mut stream) = Stream::new(input) else { return };
    while let Ok(Some(_)) = stream.read() {}
}

/// A stream of one block with these bytes, said to be so many raw ones.
fn sealed(stored: &[u8], raw_bytes: u32, is_compressed: bool) -> Vec<u8> {
    let stored_bytes = u32::try_from(stored.len()).unwrap_or(u32::MAX);
    let header = BlockHeader { raw_bytes, stored_bytes, is_compressed };
    [&front()[..], &header.encode(0, stored), stored].concat()
}

/// Takes one input.
pub fn run(data: &[u8]) {
    walk(data);
    walk(&[&front()[..], data].concat());
    let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
    walk(&sealed(data, bytes, false));
    walk(&sealed(data, bytes.saturating_mul(5), true));
    let mut again = Vec::new();
    let mut items = Items::new(data);
    while let Some(Ok(item)) = items.next() {
        encode(&item, &mut again);
        assert_eq!(again, data[..data.len() - items.rest()]);
    }
}

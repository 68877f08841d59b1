//! Any bytes are an export of lines, or are refused; and a line that is read is written as one that
//! reads as the same.

use dostore::format::export::text::{decode, encode, first_line};
use dostore::store::transfer::Stream;

fn walk(input: &[u8]) {
    let Ok(mut stream) = Stream::new(input) else { return };
    while let Ok(Some(_)) = stream.read() {}
}

/// Takes one input.
pub fn run(data: &[u8]) {
    walk(data);
    walk(&[first_line().as_bytes(), b"\n", data].concat());
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(item) = decode(line) {
            let mut again = Vec::new();
            encode(&item, &mut again);
            assert_eq!(decode(&again), Ok(item));
        }
    }
}

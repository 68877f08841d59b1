//! Keys and values of runs of the directory and of names: what decodes encodes back to the same
//! bytes.
//!
//! Invariants:
//!   * The first byte chooses the decoder.

use dostore::format::entry::{DirectoryKey, Head, PAGE_TOMBSTONE, PageEntry, head_key, page_key};
use dostore::format::object_name::ObjectName;
use dostore::format::run::{decode_holes, encode_holes};

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut again = Vec::new();
    let decoded = match choice % 5 {
        0 => Head::decode(bytes).map(|head| head.encode(&mut again)),
        1 => PageEntry::decode_value(bytes).map(|page| match page {
            Some(page) => page.encode(&mut again),
            None => again.extend_from_slice(PAGE_TOMBSTONE),
        }),
        2 => DirectoryKey::parse(bytes).map(|key| {
            again = match key {
                DirectoryKey::Head(address) => head_key(address).to_vec(),
                DirectoryKey::Page(address, life, fence) => page_key(address, life, fence),
            };
        }),
        3 => ObjectName::decode(bytes).map(|name| again = name.encode()),
        _ => decode_holes(bytes).map(|holes| encode_holes(&holes, &mut again)),
    };
    assert!(decoded.is_err() || again == bytes);
}
